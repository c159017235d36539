//! A group as a piece of the state.
//!
//! ```text
//! CBOR [rows, place in the open batch's order or null, [key, ...], [carried value, ...],
//!       [[value, ...], ...]]    the last: the state of each aggregate
//! ```

use std::fmt::Formatter;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::super::aggregate::Aggregate;
use crate::event::Value;
use crate::event::cbor::{self, CborError};

/// A group to be written.
#[derive(serde::Serialize)]
pub(super) struct GroupPiece<'a>(
    pub(super) u64,
    pub(super) Option<u64>,
    pub(super) &'a [Value],
    pub(super) &'a [Value],
    /// The aggregates, and the group's slot.
    #[serde(serialize_with = "write_states")]
    pub(super) (&'a [Box<dyn Aggregate>], usize),
);

/// Writes the states of aggregates for a slot, without a copy of what may be large.
fn write_states<S: Serializer>(
    (aggregates, slot): &(&[Box<dyn Aggregate>], usize),
    to: S,
) -> Result<S::Ok, S::Error> {
    struct One<'a>(&'a dyn Aggregate, usize);

    impl Serialize for One<'_> {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.collect_seq(self.0.save(self.1))
        }
    }

    to.collect_seq(aggregates.iter().map(|one| One(&**one, *slot)))
}

/// A group that is read; its memory serves for the next one.
#[derive(Default)]
pub(super) struct GroupState {
    pub(super) rows: u64,
    pub(super) order: Option<u64>,
    pub(super) keys: Vec<Value>,
    pub(super) carried: Vec<Value>,
    states: Vec<Value>,
    /// Where the state of each aggregate ends.
    ends: Vec<usize>,
}

impl GroupState {
    /// Reads a piece in place of what was read before.
    pub(super) fn read(&mut self, piece: &[u8]) -> Result<(), CborError> {
        self.keys.clear();
        self.carried.clear();
        self.states.clear();
        self.ends.clear();
        cbor::decode_into(Read(self), piece)
    }

    /// How many aggregates there are.
    pub(super) fn aggregates(&self) -> usize {
        self.ends.len()
    }

    /// The state of each aggregate.
    pub(super) fn states(&self) -> impl Iterator<Item = &[Value]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(&self.ends);
        ranges.map(|(start, end)| self.states.get(start..*end).unwrap_or_default())
    }
}

struct Read<'a>(&'a mut GroupState);

impl<'de> DeserializeSeed<'de> for Read<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Read<'_> {
    type Value = ();

    fn expecting(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        out.write_str("a group")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        let short = |place: usize| A::Error::invalid_length(place, &"a group");
        let GroupState {
            rows,
            order,
            keys,
            carried,
            states,
            ends,
        } = self.0;
        *rows = from.next_element()?.ok_or_else(|| short(0))?;
        *order = from.next_element()?.ok_or_else(|| short(1))?;
        let values = from.next_element_seed(Values(keys))?;
        values.ok_or_else(|| short(2))?;
        let values = from.next_element_seed(Values(carried))?;
        values.ok_or_else(|| short(3))?;
        let states = from.next_element_seed(States(states, ends))?;
        states.ok_or_else(|| short(4))
    }
}

/// Puts values behind those there are.
struct Values<'a>(&'a mut Vec<Value>);

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        out.write_str("values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        while let Some(value) = from.next_element()? {
            self.0.push(value);
        }
        Ok(())
    }
}

/// Puts the states of aggregates one behind the other.
struct States<'a>(&'a mut Vec<Value>, &'a mut Vec<usize>);

impl<'de> DeserializeSeed<'de> for States<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for States<'_> {
    type Value = ();

    fn expecting(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        out.write_str("states of aggregates")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        while from.next_element_seed(Values(self.0))?.is_some() {
            self.1.push(self.0.len());
        }
        Ok(())
    }
}
