//! Functions that give something else at each evaluation, and the same when the log is run again.
//!
//! Behind the arguments that are written come three that the engine adds: the log's identity, the
//! number of the place in the SQL, and how many evaluations of it there were for the same input.

use sha2::{Digest, Sha256};

use super::{Function, Moment, PLAIN, Parameter, Reads, Returns, Signature};
use crate::event::{Type, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        names: &["uuid"],
        signature: Signature {
            parameters: &[],
            optional: 0,
            repeats: 0,
            result: Returns::Fixed(Type::String),
        },
        reads: Reads::Position,
        eval: |moment, arguments| {
            let [identity, site, count] = position(arguments)?;
            let mut bytes: [u8; 16] = digest(moment, &[identity, site, count])
                .first_chunk()
                .copied()?;
            // Version 8 and variant of RFC 9562.
            let [.., sixth, _, eighth, _, _, _, _, _, _, _] = &mut bytes;
            *sixth = (*sixth & 0x0F) | 0x80;
            *eighth = (*eighth & 0x3F) | 0x80;
            Some(Value::from(hyphenated(&bytes)))
        },
        doc: "uuid(): a UUID of its own for each evaluation, derived (version 8) from the place \
              in the log, so that a replay of the log repeats it",
        example: ("length(uuid())", "36"),
        ..PLAIN
    },
    Function {
        names: &["rand"],
        signature: Signature {
            parameters: &[Parameter::Integer],
            optional: 1,
            repeats: 0,
            result: Returns::Fixed(Type::Double),
        },
        reads: Reads::Position,
        eval: |moment, arguments| {
            let [identity, site, count] = position(arguments)?;
            let seed = match arguments {
                [Value::Int(seed), _, _, _] => *seed,
                _ => identity,
            };
            let bytes = digest(moment, &[seed, site, count]);
            let bits = u64::from_le_bytes(bytes.first_chunk().copied()?) >> 11;
            // 53 bits are exactly a double.
            let numerator = u32::try_from(bits >> 32).ok().map(f64::from)? * 4_294_967_296.0
                + u32::try_from(bits & 0xFFFF_FFFF).ok().map(f64::from)?;
            Some(Value::Float(numerator / 9_007_199_254_740_992.0))
        },
        doc: "rand([seed]): from 0 to below 1, evenly; derived from the seed and the place in the \
              log, so that a replay repeats it",
        example: ("rand(7) >= 0 AND rand(7) < 1", "true"),
        ..PLAIN
    },
];

/// What the engine has added.
fn position(arguments: &[Value]) -> Option<[i64; 3]> {
    match arguments {
        [
            ..,
            Value::Int(identity),
            Value::Int(site),
            Value::Int(count),
        ] => Some([*identity, *site, *count]),
        _ => None,
    }
}

fn digest(moment: &Moment, parts: &[i64; 3]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"eventflux");
    hash.update(moment.seq.0.to_le_bytes());
    for part in parts {
        hash.update(part.to_le_bytes());
    }
    hash.finalize().into()
}

fn hyphenated(bytes: &[u8; 16]) -> String {
    let hex = crate::event::to_hex(bytes);
    let mut out = String::with_capacity(36);
    for (place, digit) in hex.chars().enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(digit);
    }
    out
}

/// The number of a place in the SQL: FNV-1a of it.
pub(crate) fn site_number(path: &str, line: u32, column: u32) -> i64 {
    let text = format!("{path}:{line}:{column}");
    i64::from_le_bytes(super::digest::fnv_1a(text.as_bytes()).to_le_bytes())
}
