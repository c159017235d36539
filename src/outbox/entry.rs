//! What an outbox keeps, in bytes.
//!
//! ```text
//! group   key    'O'  name length: u16 BE  name  key of the first output, big-endian
//!         value  sealed, see `store::seal`; kind 1
//!         head   first key 16, last key 16, outputs u32 LE, time of the first i64 LE
//!         payload: CBOR [[seq, ordinal, query, time, [value, ...]], ...]
//! state   key    'S'  name length: u16 BE  name
//!         value  sealed; kind 2, no payload
//!         head   cursor 16, last key appended 16, dropped u64 LE, damaged u64 LE
//! an output's key: seq u64, ordinal u32, query u32; little-endian inside of a head
//! ```
//!
//! The state is written when something is confirmed or dropped. The last key appended is the
//! greater of the state's and the last group's, so that appending writes one value only.

use super::{Entry, OutboxError};
use crate::event::{OutputKey, Seq, Timestamp, Value, cbor};
use crate::store::seal::{Damage, Sealed, Sealer, Unsealer, check};
use crate::store::table;

const KIND_GROUP: u8 = 1;
const KIND_STATE: u8 = 2;
const GROUP_HEAD: usize = 44;
const STATE_HEAD: usize = 48;

/// A stored group whose checksum holds; its payload is not unpacked yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'a> {
    pub(super) first: OutputKey,
    pub(super) last: OutputKey,
    pub(super) count: u32,
    /// The time of the first output.
    pub(super) time: Timestamp,
    sealed: Sealed<'a>,
}

impl<'a> Group<'a> {
    pub(super) fn look(value: &'a [u8]) -> Result<Group<'a>, Damage> {
        let sealed = check(value, GROUP_HEAD)?;
        let (first, rest) = take_key(sealed.head).ok_or(Damage::Short)?;
        let (last, rest) = take_key(rest).ok_or(Damage::Short)?;
        let (count, rest) = rest.split_first_chunk::<4>().ok_or(Damage::Short)?;
        let time = rest.first_chunk::<8>().ok_or(Damage::Short)?;
        if sealed.kind != KIND_GROUP || last < first {
            return Err(Damage::Content);
        }
        Ok(Group {
            first,
            last,
            count: u32::from_le_bytes(*count),
            time: Timestamp(i64::from_le_bytes(*time)),
            sealed,
        })
    }

    /// The same, when it lies under its own key.
    pub(super) fn under(self, prefix: &[u8], key: &[u8]) -> Result<Group<'a>, Damage> {
        if key_of(prefix, key) == Some(self.first) {
            Ok(self)
        } else {
            Err(Damage::Misplaced)
        }
    }

    pub(super) fn entries(self, unsealer: &mut Unsealer) -> Result<Vec<Entry>, Damage> {
        let payload = unsealer.payload(self.sealed)?;
        let rows: Vec<(u64, u32, u32, i64, Vec<Value>)> =
            cbor::decode(&payload).map_err(|_| Damage::Content)?;
        let entries = rows
            .into_iter()
            .map(|(seq, ordinal, query, time, row)| Entry {
                key: OutputKey {
                    seq: Seq(seq),
                    query,
                    ordinal,
                },
                time: Timestamp(time),
                row,
            });
        Ok(entries.collect())
    }
}

pub(super) fn seal_group(sealer: &mut Sealer, group: &[&Entry]) -> Result<Vec<u8>, OutboxError> {
    let mut head = Vec::with_capacity(GROUP_HEAD);
    if let (Some(first), Some(last)) = (group.first(), group.last()) {
        put_key(first.key, &mut head);
        put_key(last.key, &mut head);
        let count = u32::try_from(group.len()).unwrap_or(u32::MAX);
        head.extend_from_slice(&count.to_le_bytes());
        head.extend_from_slice(&first.time.0.to_le_bytes());
    }
    let rows: Vec<_> = group
        .iter()
        .map(|entry| {
            let OutputKey {
                seq,
                query,
                ordinal,
            } = entry.key;
            (seq, ordinal, query, entry.time, &entry.row)
        })
        .collect();
    let payload = cbor::encode(&rows)?;
    Ok(sealer.seal(KIND_GROUP, &head, &payload)?)
}

/// What is known about an outbox besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) cursor: OutputKey,
    pub(super) last: OutputKey,
    pub(super) dropped: u64,
    pub(super) damaged: u64,
}

impl State {
    pub(super) fn read(value: &[u8]) -> Result<State, Damage> {
        let sealed = check(value, STATE_HEAD)?;
        let (cursor, rest) = take_key(sealed.head).ok_or(Damage::Short)?;
        let (last, rest) = take_key(rest).ok_or(Damage::Short)?;
        let (dropped, rest) = rest.split_first_chunk::<8>().ok_or(Damage::Short)?;
        let damaged = rest.first_chunk::<8>().ok_or(Damage::Short)?;
        if sealed.kind != KIND_STATE {
            return Err(Damage::Content);
        }
        Ok(State {
            cursor,
            last,
            dropped: u64::from_le_bytes(*dropped),
            damaged: u64::from_le_bytes(*damaged),
        })
    }

    pub(super) fn seal(&self, sealer: &mut Sealer) -> Result<Vec<u8>, OutboxError> {
        let mut head = Vec::with_capacity(STATE_HEAD);
        put_key(self.cursor, &mut head);
        put_key(self.last, &mut head);
        head.extend_from_slice(&self.dropped.to_le_bytes());
        head.extend_from_slice(&self.damaged.to_le_bytes());
        Ok(sealer.seal(KIND_STATE, &head, &[])?)
    }
}

/// What the keys of a sink's groups begin with, and the key of its state.
pub(super) fn prefixes(name: &str) -> Result<(Vec<u8>, Vec<u8>), OutboxError> {
    let bytes = name.len();
    let length = u16::try_from(bytes).map_err(|_| OutboxError::Name { bytes })?;
    let of = |table: u8| {
        let mut key = vec![table];
        key.extend_from_slice(&length.to_be_bytes());
        key.extend_from_slice(name.as_bytes());
        key
    };
    Ok((of(table::OUTBOX), of(table::OUTBOX_STATE)))
}

/// Where the group that begins with `key` lies.
pub(super) fn place(prefix: &[u8], key: OutputKey) -> Vec<u8> {
    let mut place = Vec::with_capacity(prefix.len() + 16);
    place.extend_from_slice(prefix);
    place.extend_from_slice(&key.seq.0.to_be_bytes());
    place.extend_from_slice(&key.ordinal.to_be_bytes());
    place.extend_from_slice(&key.query.to_be_bytes());
    place
}

/// The inverse of [`place`].
pub(super) fn key_of(prefix: &[u8], place: &[u8]) -> Option<OutputKey> {
    let (seq, rest) = place.strip_prefix(prefix)?.split_first_chunk::<8>()?;
    let (ordinal, rest) = rest.split_first_chunk::<4>()?;
    Some(OutputKey {
        seq: Seq(u64::from_be_bytes(*seq)),
        ordinal: u32::from_be_bytes(*ordinal),
        query: u32::from_be_bytes(rest.try_into().ok()?),
    })
}

fn put_key(key: OutputKey, out: &mut Vec<u8>) {
    out.extend_from_slice(&key.seq.0.to_le_bytes());
    out.extend_from_slice(&key.ordinal.to_le_bytes());
    out.extend_from_slice(&key.query.to_le_bytes());
}

fn take_key(bytes: &[u8]) -> Option<(OutputKey, &[u8])> {
    let (seq, rest) = bytes.split_first_chunk::<8>()?;
    let (ordinal, rest) = rest.split_first_chunk::<4>()?;
    let (query, rest) = rest.split_first_chunk::<4>()?;
    let key = OutputKey {
        seq: Seq(u64::from_le_bytes(*seq)),
        query: u32::from_le_bytes(*query),
        ordinal: u32::from_le_bytes(*ordinal),
    };
    Some((key, rest))
}
