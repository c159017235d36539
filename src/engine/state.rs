//! State as chunks: what an operator gives to a checkpoint and takes back from it.
//!
//! A chunk's key is the part it belongs to (8 bits), which of several alike, as the sides of a join
//! are (16 bits), and its number within the part (40 bits). Rows of a window are chunked in blocks,
//! groups in runs of slots, so that a small change to a large state touches few chunks. Chunks are
//! CBOR.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::cbor::{self, CborError};

/// A piece of an operator's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChunk {
    /// The operator, by the fingerprint of its plan.
    pub operator: u64,
    /// Which piece.
    pub key: u64,
    /// CBOR.
    pub bytes: Vec<u8>,
}

/// State that is not what it should be: damaged, or written by another version.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A chunk does not decode.
    #[error("a chunk of the state does not decode")]
    Damaged(#[from] CborError),
    /// A chunk decodes to something impossible.
    #[error("the state is inconsistent: {0}")]
    Inconsistent(&'static str),
}

/// The parts of a query's state.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Part {
    /// What the window knows besides rows.
    Window = 0,
    /// The window's rows, in blocks.
    WindowRows = 1,
    /// Output rows of a batch that is still open.
    Pending = 2,
    /// Groups, in runs of slots.
    Groups = 3,
    /// Nothing but that there is a state.
    Present = 4,
    /// Rows of a table or of a join's side, in runs of numbers.
    Rows = 16,
    /// What a table or a join knows besides rows.
    Holder = 17,
    /// When something next happens to the window.
    WindowTime = 5,
    /// What the window's condition knows of its rows.
    WindowCondition = 6,
    /// Output rows of the batch that closed last, which will be given again.
    Before = 7,
    /// The states of aggregates beyond what lies in their groups.
    GroupAggregates = 24,
    /// Partial matches of a pattern, in runs of slots.
    Partials = 40,
    /// The keys of a pattern, in runs of slots.
    Scopes = 41,
    /// What an aggregation knows besides rows.
    Rollup = 32,
    /// The rows of an aggregation's buckets, in runs of slots.
    BucketRows = 33,
    /// The states of aggregates beyond what lies in their groups.
    BucketAggregates = 34,
}

impl Part {
    fn key(self, number: u64) -> u64 {
        ((self as u64) << 56) | (number & NUMBER)
    }
}

/// The bits of a key that are the number within a part.
const NUMBER: u64 = (1 << 40) - 1;
/// The bits that say which of several.
const WHICH: u64 = 0xFFFF << 40;

/// Collects the chunks of one operator.
pub(super) struct Save<'a> {
    pub(super) operator: u64,
    pub(super) chunks: &'a mut Vec<StateChunk>,
}

impl Save<'_> {
    pub(super) fn put<T: Serialize>(
        &mut self,
        part: Part,
        number: u64,
        item: &T,
    ) -> Result<(), StateError> {
        let bytes = cbor::encode(item)?;
        self.chunks.push(StateChunk {
            operator: self.operator,
            key: part.key(number),
            bytes,
        });
        Ok(())
    }

    /// Saves one of several that are alike, each with a number of its own, from 1.
    pub(super) fn one_of(
        &mut self,
        which: u16,
        item: impl FnOnce(&mut Save<'_>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let before = self.chunks.len();
        item(self)?;
        for chunk in self.chunks.iter_mut().skip(before) {
            debug_assert_eq!(chunk.key & WHICH, 0, "one of one of several");
            chunk.key |= u64::from(which) << 40;
        }
        Ok(())
    }
}

/// The chunks of one operator, by key.
#[derive(Default)]
pub(super) struct Load<'a> {
    chunks: BTreeMap<u64, &'a [u8]>,
}

impl<'a> Load<'a> {
    pub(super) fn add(&mut self, chunk: &'a StateChunk) {
        self.chunks.insert(chunk.key, &chunk.bytes);
    }

    /// The only chunk of a part.
    pub(super) fn one<T: DeserializeOwned>(&self, part: Part) -> Result<Option<T>, StateError> {
        let bytes = self.chunks.get(&part.key(0));
        Ok(bytes.map(|bytes| cbor::decode(bytes)).transpose()?)
    }

    /// What [`Save::one_of`] has saved.
    pub(super) fn one_of(&self, which: u16) -> Load<'a> {
        let which = u64::from(which) << 40;
        let chunks = self.chunks.iter();
        let chunks = chunks.filter(|(key, _)| *key & WHICH == which);
        Load {
            chunks: chunks.map(|(key, bytes)| (key & !WHICH, *bytes)).collect(),
        }
    }

    /// Every chunk of a part, in order.
    pub(super) fn all<T: DeserializeOwned>(&self, part: Part) -> Result<Vec<T>, StateError> {
        let range = part.key(0)..=part.key(NUMBER);
        let chunks = self
            .chunks
            .range(range)
            .map(|(_, bytes)| cbor::decode(bytes));
        Ok(chunks.collect::<Result<_, _>>()?)
    }
}
