//! Rows in pieces of the state: a run of them that lie one after another.
//!
//! ```text
//! piece    [seqs, times, values]
//! seqs     [sequence number of the first row, then by how much each is more than the one before]
//! times    [time of the first row in ms, then by how much each is later than the one before]
//! values   the values of all rows, row after row
//! ```
//!
//! What is less than the one before wraps around.

use serde::ser::{Serialize, SerializeTuple, Serializer};

use super::state::StateError;
use crate::event::{Seq, Stamp, Timestamp, Value};

/// Rows of a queue or a batch that make up one piece: so many that their place costs little beside
/// them, so few that it costs little to write all of them for one that has come.
pub(super) const PIECE_ROWS: usize = if cfg!(test) { 4 } else { 64 };

/// Rows, to be written.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    pub(super) stamps: &'a [Stamp],
    /// Row after row.
    pub(super) values: &'a [Value],
}

impl Serialize for Packed<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut piece = to.serialize_tuple(3)?;
        piece.serialize_element(&Seqs(self.stamps))?;
        piece.serialize_element(&Times(self.stamps))?;
        piece.serialize_element(self.values)?;
        piece.end()
    }
}

struct Seqs<'a>(&'a [Stamp]);

impl Serialize for Seqs<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut before = 0;
        to.collect_seq(self.0.iter().map(|stamp| {
            let more = stamp.seq.0.wrapping_sub(before);
            before = stamp.seq.0;
            more
        }))
    }
}

struct Times<'a>(&'a [Stamp]);

impl Serialize for Times<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut before = 0;
        to.collect_seq(self.0.iter().map(|stamp| {
            let later = stamp.time.0.wrapping_sub(before);
            before = stamp.time.0;
            later
        }))
    }
}

/// What [`Packed`] has written.
pub(super) type Unpacked = (Vec<u64>, Vec<i64>, Vec<Value>);

/// The rows of a piece, of `width` values each: their stamps, and their values row after row.
pub(super) fn unpack(
    (seqs, times, values): Unpacked,
    width: usize,
) -> Result<(Vec<Stamp>, Vec<Value>), StateError> {
    if times.len() != seqs.len() || values.len() != seqs.len() * width {
        return Err(StateError::Inconsistent(
            "rows that lie one after another have another form",
        ));
    }
    let (mut seq, mut time) = (0u64, 0i64);
    let stamps = seqs.into_iter().zip(times).map(|(more, later)| {
        seq = seq.wrapping_add(more);
        time = time.wrapping_add(later);
        Stamp {
            seq: Seq(seq),
            time: Timestamp(time),
        }
    });
    Ok((stamps.collect(), values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::cbor;

    #[test]
    fn rows_come_back_as_they_went_whatever_their_stamps() {
        let stamps = [(7, 100), (8, 100), (3, i64::MIN), (u64::MAX, i64::MAX)];
        let stamps = stamps.map(|(seq, time)| Stamp {
            seq: Seq(seq),
            time: Timestamp(time),
        });
        let values: Vec<Value> = (0..8).map(Value::Int).collect();
        let bytes = cbor::encode(&Packed {
            stamps: &stamps,
            values: &values,
        });
        let bytes = bytes.unwrap();
        let again = unpack(cbor::decode(&bytes).unwrap(), 2).unwrap();
        assert_eq!(again, (stamps.to_vec(), values));
        assert!(unpack(cbor::decode(&bytes).unwrap(), 3).is_err());
    }

    #[test]
    fn rows_that_follow_each_other_take_few_bytes() {
        let stamps: Vec<Stamp> = (0..64)
            .map(|number| Stamp {
                seq: Seq(10_000_000_000 + number),
                time: Timestamp(1_700_000_000_000),
            })
            .collect();
        let values = vec![Value::Null; 64];
        let packed = Packed {
            stamps: &stamps,
            values: &values,
        };
        let bytes = cbor::encode(&packed).unwrap();
        assert!(bytes.len() < 64 * 3 + 32, "{} bytes", bytes.len());
    }
}
