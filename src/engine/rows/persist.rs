//! The state of rows: a piece for each, by its slot.
//!
//! A piece is an array of CBOR:
//!
//! ```text
//! number | seq | time | for each further order: number there | for each column: value
//! ```
//!
//! A restore leaves rows in their slots. Slots that [`IndexedRows::tidy`] gives anew are saved
//! anew: there are at most a third as many of them as rows have gone since the last time.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use super::super::state::{Load, Save, Slots, StateError};
use super::{IndexedRows, Slot, cells, chain};
use crate::event::cbor;
use crate::event::{Seq, Stamp, Timestamp, Value};

/// Values of a piece besides those of orders and columns.
const HEAD: usize = 3;

/// A row as a piece.
struct Piece<'r> {
    rows: &'r IndexedRows,
    slot: Slot,
}

impl Serialize for Piece<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Piece { rows, slot } = *self;
        let stamp = rows.stamp(slot);
        let length = HEAD + rows.chains.len() - 1 + rows.width;
        let mut to = to.serialize_seq(Some(length))?;
        to.serialize_element(&rows.number(slot))?;
        to.serialize_element(&stamp.seq.0)?;
        to.serialize_element(&stamp.time.0)?;
        for chain in rows.chains.iter().skip(1) {
            to.serialize_element(&chain.number(slot))?;
        }
        for value in rows.row(slot) {
            to.serialize_element(value)?;
        }
        to.end()
    }
}

/// Puts what a piece says behind the rows there are.
struct Append<'r> {
    rows: &'r mut IndexedRows,
    slot: Slot,
    /// For each order, the numbers of the rows so far with their slots.
    standing: &'r mut [Vec<(u64, Slot)>],
}

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Append<'_> {
    type Value = ();

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("number, seq, time, orders and columns of a row")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        use serde::de::Error;
        let short = |place: usize| A::Error::invalid_length(place, &"a row");
        let number: u64 = from.next_element()?.ok_or_else(|| short(0))?;
        let seq = from.next_element()?.ok_or_else(|| short(1))?;
        let time = from.next_element()?.ok_or_else(|| short(2))?;
        for (place, standing) in self.standing.iter_mut().enumerate() {
            let number = match place {
                0 => number,
                _ => from.next_element()?.ok_or_else(|| short(HEAD))?,
            };
            standing.push((number, self.slot));
        }
        self.rows.stamps.push(Stamp {
            seq: Seq(seq),
            time: Timestamp(time),
        });
        for _ in 0..self.rows.width {
            let value = from.next_element()?.ok_or_else(|| short(HEAD))?;
            self.rows.values.push(value);
        }
        match from.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(A::Error::custom("a row has more columns")),
        }
    }
}

impl IndexedRows {
    pub(in super::super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let slots = self.stamps.len();
        if save.is_whole() {
            for slot in 0..slots {
                self.save_one(slot, save)?;
            }
            return Ok(());
        }
        for slot in self.changed.take_below(slots, self.part, save) {
            if !self.save_one(slot, save)? {
                save.remove(self.part, slot as u64);
            }
        }
        Ok(())
    }

    /// Gives the row in a slot, if there is one.
    fn save_one(&self, number: usize, save: &mut Save<'_, '_>) -> Result<bool, StateError> {
        let slot = Slot::try_from(number).unwrap_or(chain::NONE);
        let order = self.chains.first();
        if !order.is_some_and(|order| order.has(slot)) {
            return Ok(false);
        }
        save.give(self.part, number as u64, &Piece { rows: self, slot })?;
        Ok(true)
    }

    pub(in super::super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.clear();
        let pieces = load.raw(self.part);
        let slots = Slots::of(
            pieces.len(),
            load.raw(self.part).next_back().map(|last| last.0),
        );
        let count = slots.count();
        self.stamps.reserve_exact(count);
        self.values.reserve_exact(count.saturating_mul(self.width));
        let mut standing = vec![Vec::with_capacity(pieces.len()); self.chains.len()];
        for (place, (saved, piece)) in pieces.enumerate() {
            let slot = slots.slot(place, saved);
            while self.stamps.len() < slot {
                self.free.push(slot_at(self.stamps.len())?);
                self.stamps.push(Stamp::default());
                let width = self.values.len() + self.width;
                self.values.resize(width, Value::Null);
            }
            let slot = slot_at(slot)?;
            let standing = &mut standing;
            let rows = &mut *self;
            cbor::decode_into(
                Append {
                    rows,
                    slot,
                    standing,
                },
                piece,
            )?;
        }
        for (chain, standing) in self.chains.iter_mut().zip(&mut standing) {
            standing.sort_unstable();
            if !standing.is_sorted_by(|a, b| a.0 < b.0) {
                return Err(StateError::Inconsistent("two rows stand in one place"));
            }
            chain.reserve(count);
            for (number, slot) in standing {
                chain.push(*slot, *number);
            }
        }
        self.index_all();
        self.changed = slots.loaded();
        Ok(())
    }

    /// Puts all rows into the indexes, which are empty.
    fn index_all(&mut self) {
        let (cells, order) = (cells(self.width, &self.values), self.chains.first());
        for index in &mut self.indexes {
            index.reserve(self.stamps.len() - self.free.len(), &self.hasher, cells);
            for slot in order.into_iter().flat_map(chain::Chain::iter) {
                let number = |slot| order.map_or(0, |order| order.number(slot));
                index.add(slot, cells, &self.hasher, number);
            }
            index.fit(&self.hasher, cells);
        }
    }
}

fn slot_at(place: usize) -> Result<Slot, StateError> {
    let slot = Slot::try_from(place)
        .ok()
        .filter(|slot| *slot != chain::NONE);
    slot.ok_or(StateError::Inconsistent(
        "a row in a slot that there is not",
    ))
}
