//! Hashes that are part of the state, and so the same on every machine and in every version. The
//! mixing step is that of MurmurHash3.

use crate::event::Value;

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of a value; equal values of one column have equal ones.
pub(super) fn hash_of(value: &Value) -> u64 {
    match value {
        Value::Str(text) => hash_of_bytes(text.as_bytes()),
        Value::Bytes(bytes) => hash_of_bytes(bytes),
        Value::Int(number) => mix(SEED ^ u64::from_le_bytes(number.to_le_bytes())),
        Value::Float(number) => mix(SEED ^ (number + 0.0).to_bits()),
        Value::Bool(truth) => mix(SEED ^ u64::from(*truth)),
        Value::Null => SEED,
    }
}

fn hash_of_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.split_at(bytes.len() - bytes.len() % 8);
    let mut hash = mix(SEED ^ bytes.len() as u64);
    for word in words.chunks(8).chain([rest]) {
        let mut last = [0; 8];
        last.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
        hash = mix(hash.wrapping_add(SEED) ^ u64::from_le_bytes(last));
    }
    hash
}

fn mix(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    word ^= word >> 33;
    word = word.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    word ^ (word >> 33)
}

/// The hash of a row.
pub(super) fn hash_of_row(row: &[Value]) -> u64 {
    let values = row.iter().map(hash_of);
    values.fold(SEED, |hash, value| mix(hash.wrapping_add(SEED) ^ value))
}
