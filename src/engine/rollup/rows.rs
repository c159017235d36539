//! The rows of one bucket: one for each of its groups.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use serde::{Serialize, Serializer};

use super::super::aggregate::Aggregate;
use super::super::expr::Env;
use super::super::group::hash;
use super::super::state::{Part, Save, StateError};
use super::chunks::{CHUNK_GROUPS, Owner};
use crate::event::Value;

/// A chunk that is not known yet.
const NO_CHUNK: usize = usize::MAX;

/// The values of the keys of GROUP BY, and their hash.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) key: &'a [Value],
    pub(super) hash: u64,
}

impl<'a> Group<'a> {
    pub(super) fn new(key: &'a [Value], hasher: &FixedState) -> Group<'a> {
        Group {
            key,
            hash: hash(hasher, key),
        }
    }
}

/// The groups of one bucket, by slot: the order in which they first came.
///
/// Every bucket has aggregates of its own, so that one that goes takes its memory with it.
pub(super) struct BucketRows {
    /// Values per key.
    width: usize,
    /// The keys, slot after slot.
    keys: Vec<Value>,
    len: usize,
    table: HashTable<usize>,
    aggregates: Vec<Box<dyn Aggregate>>,
    /// Under which numbers its groups are saved.
    chunks: Vec<usize>,
    /// How many groups have come back from a state.
    restored: usize,
}

/// A group on disk: the place of its duration, where its bucket begins, its slot there, its key
/// and the states of its aggregates. Written as `GroupPiece`.
pub(super) type SavedGroup = (usize, i64, usize, Vec<Value>, Vec<Vec<Value>>);
type GroupPiece<'a> = (usize, i64, usize, &'a [Value], States<'a>);

/// The states of the aggregates of a slot.
struct States<'a> {
    aggregates: &'a [Box<dyn Aggregate>],
    slot: usize,
}

impl Serialize for States<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.aggregates.iter().map(|aggregate| State {
            aggregate: aggregate.as_ref(),
            slot: self.slot,
        }))
    }
}

/// That of one of them, value by value: it may be large.
struct State<'a> {
    aggregate: &'a dyn Aggregate,
    slot: usize,
}

impl Serialize for State<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.aggregate.save(self.slot))
    }
}

impl BucketRows {
    /// `aggregates` are what each bucket has its own of.
    pub(super) fn new(width: usize, aggregates: &[Box<dyn Aggregate>]) -> BucketRows {
        BucketRows {
            width,
            keys: Vec::new(),
            len: 0,
            table: HashTable::new(),
            aggregates: aggregates.iter().map(|one| one.fresh()).collect(),
            chunks: Vec::new(),
            restored: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The values of the keys of a slot.
    #[inline]
    fn key(&self, slot: usize) -> &[Value] {
        key_of(&self.keys, self.width, slot)
    }

    #[inline]
    pub(super) fn find(&self, group: Group<'_>) -> Option<usize> {
        if self.width == 0 {
            return (self.len > 0).then_some(0);
        }
        let same = |slot: &usize| self.key(*slot) == group.key;
        self.table.find(group.hash, same).copied()
    }

    /// A group that is not there yet. `chunk` gives the next chunk, if it takes one.
    pub(super) fn insert(
        &mut self,
        group: Group<'_>,
        hasher: &FixedState,
        chunk: impl FnOnce(usize) -> usize,
    ) -> usize {
        let slot = self.len;
        if slot % CHUNK_GROUPS == 0 {
            let chunk = chunk(self.chunks.len());
            self.chunks.push(chunk);
        }
        self.keys.extend_from_slice(group.key);
        self.open();
        self.find_by(group.hash, slot, hasher);
        slot
    }

    /// One more slot, whose key is there already.
    fn open(&mut self) {
        for aggregate in &mut self.aggregates {
            aggregate.open(self.len);
        }
        self.len += 1;
    }

    /// A slot is found by its key from now on.
    fn find_by(&mut self, hash_of_key: u64, slot: usize, hasher: &FixedState) {
        if self.width > 0 {
            let (keys, width) = (&self.keys, self.width);
            let rehash = |slot: &usize| hash(hasher, key_of(keys, width, *slot));
            self.table.insert_unique(hash_of_key, slot, rehash);
        }
    }

    /// Under which numbers its groups are saved.
    #[inline]
    pub(super) fn chunks(&self) -> &[usize] {
        &self.chunks
    }

    /// A row of the group of a slot.
    #[inline]
    pub(super) fn add(&mut self, slot: usize, env: &Env<'_>) {
        for aggregate in &mut self.aggregates {
            aggregate.add(slot, env);
        }
    }

    /// Appends the group row of a slot: keys, then the results of the aggregates.
    pub(super) fn row(&self, slot: usize, to: &mut Vec<Value>) {
        to.extend_from_slice(self.key(slot));
        for aggregate in &self.aggregates {
            aggregate.result_to(slot, to);
        }
    }

    /// Gives the group of a slot, as the piece with this number.
    pub(super) fn save(
        &self,
        owner: Owner,
        slot: usize,
        number: u64,
        save: &mut Save<'_, '_>,
    ) -> Result<(), StateError> {
        let states = States {
            aggregates: &self.aggregates,
            slot,
        };
        let piece: GroupPiece<'_> = (owner.level, owner.start, slot, self.key(slot), states);
        save.give(Part::BucketRows, number, &piece)
    }

    /// Takes a group back, of the chunk with this number. Those with lower slots may come later.
    pub(super) fn load(
        &mut self,
        chunk: usize,
        (_, _, slot, key, states): SavedGroup,
        hasher: &FixedState,
    ) -> Result<(), StateError> {
        let group = Group::new(&key, hasher);
        let fits = key.len() == self.width
            && states.len() == self.aggregates.len()
            && (self.width > 0 && self.find(group).is_none() || self.width == 0 && slot == 0);
        if !fits {
            return Err(StateError::Inconsistent(
                "a group of a bucket has another form, or is there twice",
            ));
        }
        let nth = slot / CHUNK_GROUPS;
        if self.chunks.len() <= nth {
            self.chunks.resize(nth + 1, NO_CHUNK);
        }
        if let Some(known) = self.chunks.get_mut(nth) {
            if *known != NO_CHUNK && *known != chunk {
                return Err(StateError::Inconsistent("a bucket has two numbers"));
            }
            *known = chunk;
        }
        while self.len <= slot {
            self.keys.resize(self.keys.len() + self.width, Value::Null);
            self.open();
        }
        let places = self.keys.iter_mut().skip(slot * self.width);
        places
            .zip(&key)
            .for_each(|(place, value)| place.clone_from(value));
        self.find_by(group.hash, slot, hasher);
        for (aggregate, state) in self.aggregates.iter_mut().zip(states) {
            aggregate.load(slot, &state)?;
        }
        self.restored += 1;
        Ok(())
    }

    /// After the last one: whether all groups have come back.
    pub(super) fn is_whole(&self) -> bool {
        self.restored == self.len
    }
}

#[inline]
fn key_of(keys: &[Value], width: usize, slot: usize) -> &[Value] {
    keys.get(slot * width..(slot + 1) * width)
        .unwrap_or_default()
}
