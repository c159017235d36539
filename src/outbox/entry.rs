//! What an outbox keeps, in bytes.
//!
//! ```text
//! group   key    'O'  name length: u16 BE  name  key of the first output, big-endian
//!         value  sealed, see `store::seal`; kind 1
//!         head   first key 16, last key 16, outputs u32 LE, appended at i64 LE (the log's clock;
//!                up to 0.1 the time of the first output, which is that of its row)
//!         payload
//!         +----------------+--------------------+--------------------------------------------+
//!         | columns' bytes | columns            | rows                                       |
//!         | u32 LE         | CBOR [column, ...] | CBOR [[seq, ordinal, query, time, [value,  |
//!         |                |                    | ...]], ...]                                |
//!         +----------------+--------------------+--------------------------------------------+
//!         column: text, its type's letter and its name: `ddegrees`
//!         letters: b BOOLEAN, i INT, l BIGINT, f FLOAT, d DOUBLE, s STRING, t TIMESTAMP, y BYTES,
//!         j JSON
//! state   key    'S'  name length: u16 BE  name
//!         value  sealed; kind 3
//!         head   cursor 16, last key appended 16, then u64 LE each: confirmed, dropped, expired,
//!                refused, damaged
//!         payload  none, or purged u64 LE: a version that does not know of it reads the rest
//!         kind 2, read still: cursor 16, last key appended 16, dropped u64 LE, damaged u64 LE
//! an output's key: seq u64, ordinal u32, query u32; little-endian inside of a head
//! ```
//!
//! All rows of a group have the same columns. They stand in each group, so that a group can be read
//! alone, and in front, so that they are compared as bytes with those of the group before.
//!
//! The state is written when something is confirmed or given up. The last key appended is the
//! greater of the state's and the last group's, so that appending writes one value only.

use std::sync::Arc;

use serde::de::IgnoredAny;

use super::{Counts, Entry, OutboxError};
use crate::event::{Field, OutputKey, Schema, Seq, Timestamp, Type, Value, cbor};
use crate::store::seal::{Damage, Sealed, Sealer, TooLong, Unsealer, check};
use crate::store::table;

const KIND_GROUP: u8 = 1;
const KIND_STATE_OLD: u8 = 2;
const KIND_STATE: u8 = 3;
const GROUP_HEAD: usize = 44;
const STATE_HEAD_OLD: usize = 48;
const STATE_HEAD: usize = 72;

/// A row as it is read, with its values or without.
type Row<T> = (u64, u32, u32, i64, T);

/// A stored group whose checksum holds; its payload is not unpacked yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group<'a> {
    pub(super) first: OutputKey,
    pub(super) last: OutputKey,
    pub(super) count: u32,
    /// When it was appended, on the log's clock.
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

    /// Its outputs. `columns` are those of the group before, and are left as those of this one.
    pub(super) fn entries(
        self,
        unsealer: &mut Unsealer,
        columns: &mut Option<Columns>,
    ) -> Result<Vec<Entry>, Damage> {
        let payload = unsealer.payload(self.sealed)?;
        let (written, rows) = split(&payload)?;
        let schema = Columns::read(columns, written)?;
        let rows: Vec<Row<Vec<Value>>> = cbor::decode(rows).map_err(|_| Damage::Content)?;
        let entries = rows
            .into_iter()
            .map(|(seq, ordinal, query, time, row)| Entry {
                key: OutputKey {
                    seq: Seq(seq),
                    query,
                    ordinal,
                },
                time: Timestamp(time),
                schema: Arc::clone(&schema),
                row,
            });
        Ok(entries.collect())
    }

    /// The keys of its outputs.
    pub(super) fn keys(self, unsealer: &mut Unsealer) -> Result<Vec<OutputKey>, Damage> {
        let payload = unsealer.payload(self.sealed)?;
        let (_, rows) = split(&payload)?;
        let rows: Vec<Row<IgnoredAny>> = cbor::decode(rows).map_err(|_| Damage::Content)?;
        let keys = rows.iter().map(|(seq, ordinal, query, ..)| OutputKey {
            seq: Seq(*seq),
            query: *query,
            ordinal: *ordinal,
        });
        Ok(keys.collect())
    }
}

/// The columns and the rows of a payload.
fn split(payload: &[u8]) -> Result<(&[u8], &[u8]), Damage> {
    let (length, rest) = payload.split_first_chunk::<4>().ok_or(Damage::Content)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Damage::Content)?;
    rest.split_at_checked(length).ok_or(Damage::Content)
}

/// The columns of a group in both forms. One is kept from group to group, since the next one's
/// columns are mostly the same.
#[derive(Debug)]
pub(super) struct Columns {
    schema: Arc<Schema>,
    written: Vec<u8>,
}

impl Columns {
    /// What they take in memory, in bytes, but for the schema, which outputs share.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.written.capacity()
    }

    /// What is written for `schema`.
    fn write<'a>(
        kept: &'a mut Option<Columns>,
        schema: &Arc<Schema>,
    ) -> Result<&'a [u8], OutboxError> {
        let known = kept.take().filter(|kept| kept.schema == *schema);
        let columns = match known {
            Some(known) => known,
            None => {
                let fields = schema.fields().iter();
                let texts: Vec<String> = fields
                    .map(|field| format!("{}{}", letter(field.ty), field.name))
                    .collect();
                Columns {
                    schema: Arc::clone(schema),
                    written: cbor::encode(&texts)?,
                }
            }
        };
        Ok(&kept.insert(columns).written)
    }

    /// The schema that is written as `written`.
    fn read(kept: &mut Option<Columns>, written: &[u8]) -> Result<Arc<Schema>, Damage> {
        if let Some(known) = kept.as_ref().filter(|kept| kept.written == written) {
            return Ok(Arc::clone(&known.schema));
        }
        let texts: Vec<String> = cbor::decode(written).map_err(|_| Damage::Content)?;
        let fields = texts.iter().map(|text| {
            let mut rest = text.chars();
            let ty = type_of(rest.next()?)?;
            let name = rest.as_str().to_owned();
            Some(Field { name, ty })
        });
        let fields = fields.collect::<Option<_>>().ok_or(Damage::Content)?;
        let schema = Arc::new(Schema::new(fields));
        *kept = Some(Columns {
            schema: Arc::clone(&schema),
            written: written.to_vec(),
        });
        Ok(schema)
    }
}

fn letter(ty: Type) -> char {
    match ty {
        Type::Bool => 'b',
        Type::Int => 'i',
        Type::Long => 'l',
        Type::Float => 'f',
        Type::Double => 'd',
        Type::String => 's',
        Type::Timestamp => 't',
        Type::Bytes => 'y',
        Type::Json => 'j',
    }
}

fn type_of(letter: char) -> Option<Type> {
    Some(match letter {
        'b' => Type::Bool,
        'i' => Type::Int,
        'l' => Type::Long,
        'f' => Type::Float,
        'd' => Type::Double,
        's' => Type::String,
        't' => Type::Timestamp,
        'y' => Type::Bytes,
        'j' => Type::Json,
        _ => return None,
    })
}

/// A group of outputs appended at `time`, which have the same schema. `columns` are as in
/// [`Group::entries`].
pub(super) fn seal_group(
    sealer: &mut Sealer,
    columns: &mut Option<Columns>,
    time: Timestamp,
    group: &[&Entry],
) -> Result<Vec<u8>, OutboxError> {
    let mut head = Vec::with_capacity(GROUP_HEAD);
    let mut payload = Vec::new();
    if let (Some(first), Some(last)) = (group.first(), group.last()) {
        put_key(first.key, &mut head);
        put_key(last.key, &mut head);
        let count = u32::try_from(group.len()).unwrap_or(u32::MAX);
        head.extend_from_slice(&count.to_le_bytes());
        head.extend_from_slice(&time.0.to_le_bytes());
        let written = Columns::write(columns, &first.schema)?;
        let bytes = written.len();
        let length = u32::try_from(bytes).map_err(|_| TooLong { bytes })?;
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(written);
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
    cbor::encode_into(&rows, &mut payload)?;
    Ok(sealer.seal(KIND_GROUP, &head, &payload)?)
}

/// What is known about an outbox besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) cursor: OutputKey,
    pub(super) last: OutputKey,
    pub(super) counts: Counts,
}

impl State {
    pub(super) fn read(value: &[u8]) -> Result<State, Damage> {
        let is_old = value.get(1) == Some(&KIND_STATE_OLD);
        let head = if is_old { STATE_HEAD_OLD } else { STATE_HEAD };
        let sealed = check(value, head)?;
        if !matches!(sealed.kind, KIND_STATE | KIND_STATE_OLD) {
            return Err(Damage::Content);
        }
        let (cursor, rest) = take_key(sealed.head).ok_or(Damage::Short)?;
        let (last, mut rest) = take_key(rest).ok_or(Damage::Short)?;
        let mut next = || {
            let (count, behind) = rest.split_first_chunk::<8>().ok_or(Damage::Short)?;
            rest = behind;
            Ok(u64::from_le_bytes(*count))
        };
        let counts = if is_old {
            Counts {
                dropped: next()?,
                damaged: next()?,
                ..Counts::default()
            }
        } else {
            Counts {
                confirmed: next()?,
                dropped: next()?,
                expired: next()?,
                refused: next()?,
                damaged: next()?,
                purged: purged(sealed)?,
            }
        };
        Ok(State {
            cursor,
            last,
            counts,
        })
    }

    pub(super) fn seal(&self, sealer: &mut Sealer) -> Result<Vec<u8>, OutboxError> {
        let mut head = Vec::with_capacity(STATE_HEAD);
        put_key(self.cursor, &mut head);
        put_key(self.last, &mut head);
        let Counts {
            confirmed,
            dropped,
            expired,
            refused,
            damaged,
            purged,
        } = self.counts;
        for count in [confirmed, dropped, expired, refused, damaged] {
            head.extend_from_slice(&count.to_le_bytes());
        }
        let purged = purged.to_le_bytes();
        let payload: &[u8] = if self.counts.purged > 0 { &purged } else { &[] };
        Ok(sealer.seal(KIND_STATE, &head, payload)?)
    }
}

/// What stands behind the head of a state.
fn purged(sealed: Sealed<'_>) -> Result<u64, Damage> {
    if sealed.payload_bytes() == 0 {
        return Ok(0);
    }
    let payload = Unsealer::default().payload(sealed)?;
    let (count, _) = payload.split_first_chunk::<8>().ok_or(Damage::Short)?;
    Ok(u64::from_le_bytes(*count))
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

/// The sink whose group or state lies under `key`, and what all its keys begin with.
pub(super) fn name_of(key: &[u8]) -> Option<(&str, &[u8])> {
    let (_table, rest) = key.split_first()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    if !matches!(rest.len(), 0 | 16) {
        return None;
    }
    let prefix = key.get(..key.len() - rest.len())?;
    Some((std::str::from_utf8(name).ok()?, prefix))
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
