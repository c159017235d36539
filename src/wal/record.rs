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
//! column    see `columns.rs`, and what is in the tail of the envelope
//! ```
//!
//! A skip takes numbers that were given out once, to records that are lost, and must not be given
//! again.

use super::columns::{self, ColumnIn};
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

/// Appends the payload of `body` to `out`, what is not to be packed of it to `tail`, and says its
/// kind.
pub(super) fn encode(
    body: &Body,
    out: &mut Vec<u8>,
    tail: &mut Vec<u8>,
) -> Result<u8, cbor::CborError> {
    match body {
        Body::Events {
            stream,
            schema,
            rows,
            origin,
        } => {
            let columns = columns::encode(rows, tail);
            cbor::encode_into(&(stream, schema, origin, columns), out)?;
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
                rows: rows(head, columns, sealed.tail).ok_or(Damage::Content)?,
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

fn rows(head: Head, columns: Vec<ColumnIn>, mut tail: &[u8]) -> Option<Batch> {
    let count = usize::try_from(head.count).ok()?;
    let mut columns: Vec<_> = columns
        .into_iter()
        .map(|column| columns::decode(column, count, &mut tail))
        .collect::<Option<_>>()?;
    if columns.is_empty() || !tail.is_empty() {
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
