//! One record of the log, in bytes.
//!
//! ```text
//! key     'L'  first seq: u64 BE
//! value   sealed, see `store::seal`: version, kind, flags, CRC-32C, head, payload
//! kind    1 events   2 tick   3 rejected   4 config   5 skip   6 clock   7 restored
//! head    first seq: u64 LE   time: i64 LE, ms   count: u64 LE, sequence numbers taken
//! payload CBOR (RFC 8949); absent for tick and skip
//!   events    [stream, schema, origin or null, [column, ...]]
//!   rejected  [stream, rejected, origin or null]
//!   config    [text, whether all state was given up]
//!   clock     [boot, trusted, wall]
//!   restored  seq, an integer
//! column  {"v": [value, ...]}    values as they are
//!         {"i": [int, ...]}      integers: the first, then each minus the one before (wrapping)
//!         {"f": bytes}           floats: the first (highest) bytes of all, then the second, ...
//! ```
//!
//! Column after column, differences and byte planes: all of them so that zstd finds more. A skip
//! takes numbers that were given out once, to records that are lost, and must not be given again.

use serde::{Deserialize, Serialize};

use super::{Body, Origin, Record};
use crate::event::{Batch, ClockState, Rejected, Seq, Timestamp, Value, cbor};
use crate::store::seal::{Damage, Sealed, Unsealer};

pub(super) const HEAD_BYTES: usize = 24;
pub(super) const KIND_EVENTS: u8 = 1;
const KIND_TICK: u8 = 2;
const KIND_REJECTED: u8 = 3;
const KIND_CONFIG: u8 = 4;
pub(super) const KIND_SKIP: u8 = 5;
const KIND_CLOCK: u8 = 6;
const KIND_RESTORED: u8 = 7;

/// The fixed head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) first: Seq,
    pub(super) time: Timestamp,
    pub(super) count: u64,
}

impl Head {
    pub(super) fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        let fields = [
            self.first.0.to_le_bytes(),
            self.time.0.to_le_bytes(),
            self.count.to_le_bytes(),
        ];
        for (place, field) in out.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field);
        }
        out
    }

    /// `None` when it cannot be a head: no number taken, or more than there are.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Head> {
        let (first, rest) = bytes.split_first_chunk::<8>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let count = u64::from_le_bytes(*rest.first_chunk::<8>()?);
        let first = u64::from_le_bytes(*first);
        first.checked_add(count).filter(|_| count > 0)?;
        Some(Head {
            first: Seq(first),
            time: Timestamp(i64::from_le_bytes(*time)),
            count,
        })
    }

    /// The number after the last that the record takes.
    pub(super) fn end(self) -> Seq {
        self.first.plus(self.count)
    }
}

#[derive(Serialize)]
enum ColumnOut<'a> {
    #[serde(rename = "v")]
    Values(Vec<&'a Value>),
    #[serde(rename = "i")]
    Ints(Vec<i64>),
    #[serde(rename = "f", serialize_with = "as_bytes")]
    Floats(Vec<u8>),
}

fn as_bytes<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

#[derive(Deserialize)]
enum ColumnIn {
    #[serde(rename = "v")]
    Values(Vec<Value>),
    #[serde(rename = "i")]
    Ints(Vec<i64>),
    #[serde(rename = "f")]
    Floats(Bytes),
}

struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a byte string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        from.deserialize_bytes(Visitor)
    }
}

/// Appends the payload of `body` to `out` and says its kind.
pub(super) fn encode(body: &Body, out: &mut Vec<u8>) -> Result<u8, cbor::CborError> {
    match body {
        Body::Events {
            stream,
            schema,
            rows,
            origin,
        } => {
            cbor::encode_into(&(stream, schema, origin, columns(rows)), out)?;
            Ok(KIND_EVENTS)
        }
        Body::Tick => Ok(KIND_TICK),
        Body::Rejected {
            stream,
            rejected,
            origin,
        } => {
            cbor::encode_into(&(stream, rejected, origin), out)?;
            Ok(KIND_REJECTED)
        }
        Body::Config { text, discards } => {
            cbor::encode_into(&(text, discards), out)?;
            Ok(KIND_CONFIG)
        }
        Body::Clock(state) => {
            cbor::encode_into(&(&state.boot, state.trusted, state.wall), out)?;
            Ok(KIND_CLOCK)
        }
        Body::Restored { to } => {
            cbor::encode_into(&to.0, out)?;
            Ok(KIND_RESTORED)
        }
    }
}

fn columns(rows: &Batch) -> Vec<ColumnOut<'_>> {
    (0..rows.width()).map(|index| column(rows, index)).collect()
}

fn column(rows: &Batch, index: usize) -> ColumnOut<'_> {
    let values = || {
        rows.rows()
            .iter()
            .filter_map(move |row| row.values.get(index))
    };
    if values().all(|value| matches!(value, Value::Int(_))) {
        let mut before = 0i64;
        let steps = values().filter_map(Value::as_int).map(|int| {
            let step = int.wrapping_sub(before);
            before = int;
            step
        });
        return ColumnOut::Ints(steps.collect());
    }
    if values().all(|value| matches!(value, Value::Float(_))) {
        let mut planes = vec![0; rows.len() * 8];
        for (row, float) in values().filter_map(Value::as_float).enumerate() {
            for (plane, byte) in planes.chunks_exact_mut(rows.len()).zip(float.to_be_bytes()) {
                if let Some(place) = plane.get_mut(row) {
                    *place = byte;
                }
            }
        }
        return ColumnOut::Floats(planes);
    }
    ColumnOut::Values(values().collect())
}

/// The record in `sealed`; `None` for a skip, which nobody outside the log needs to see.
pub(super) fn decode(
    head: Head,
    sealed: Sealed<'_>,
    unsealer: &mut Unsealer,
) -> Result<Option<Record>, Damage> {
    let payload = unsealer.payload(sealed)?;
    let content = |_| Damage::Content;
    let body = match sealed.kind {
        KIND_EVENTS => {
            let (stream, schema, origin, columns): (String, u32, Option<Origin>, Vec<ColumnIn>) =
                cbor::decode(&payload).map_err(content)?;
            Body::Events {
                stream,
                schema,
                rows: rows(head, columns).ok_or(Damage::Content)?,
                origin,
            }
        }
        KIND_TICK if head.count == 1 => Body::Tick,
        KIND_REJECTED if head.count == 1 => {
            let (stream, rejected, origin): (String, Rejected, Option<Origin>) =
                cbor::decode(&payload).map_err(content)?;
            Body::Rejected {
                stream,
                rejected,
                origin,
            }
        }
        KIND_CONFIG if head.count == 1 => {
            let (text, discards) = cbor::decode(&payload).map_err(content)?;
            Body::Config { text, discards }
        }
        KIND_CLOCK if head.count == 1 => {
            let (boot, trusted, wall) = cbor::decode(&payload).map_err(content)?;
            Body::Clock(ClockState {
                boot,
                trusted,
                wall,
            })
        }
        KIND_RESTORED if head.count == 1 => {
            let to = cbor::decode(&payload).map(Seq).map_err(content)?;
            // A state can only be one that there has been.
            if to >= head.first {
                return Err(Damage::Content);
            }
            Body::Restored { to }
        }
        KIND_SKIP => return Ok(None),
        _ => return Err(Damage::Content),
    };
    Ok(Some(Record {
        first: head.first,
        time: head.time,
        body,
    }))
}

fn rows(head: Head, columns: Vec<ColumnIn>) -> Option<Batch> {
    let count = usize::try_from(head.count).ok()?;
    let mut columns: Vec<_> = columns
        .into_iter()
        .map(|column| values(column, count))
        .collect::<Option<_>>()?;
    if columns.is_empty() {
        return None;
    }
    let mut rows = Batch::new(columns.len());
    for _ in 0..count {
        rows.push(
            crate::event::Stamp::default(),
            columns
                .iter_mut()
                .map(|column| column.next().unwrap_or(Value::Null)),
        );
    }
    rows.stamp_all(head.first, head.time);
    Some(rows)
}

/// Exactly `count` values.
fn values(column: ColumnIn, count: usize) -> Option<std::vec::IntoIter<Value>> {
    let values: Vec<Value> = match column {
        ColumnIn::Values(values) => values,
        ColumnIn::Ints(steps) => {
            let mut sum = 0i64;
            let ints = steps.into_iter().map(|step| {
                sum = sum.wrapping_add(step);
                Value::Int(sum)
            });
            ints.collect()
        }
        ColumnIn::Floats(Bytes(planes)) => {
            if count.checked_mul(8) != Some(planes.len()) {
                return None;
            }
            let float = |row: usize| {
                let mut bytes = [0; 8];
                for (byte, plane) in bytes.iter_mut().zip(planes.chunks_exact(count)) {
                    *byte = *plane.get(row)?;
                }
                let float = f64::from_be_bytes(bytes);
                float.is_finite().then_some(Value::Float(float))
            };
            (0..count).map(float).collect::<Option<_>>()?
        }
    };
    (values.len() == count).then(|| values.into_iter())
}
