//! The rows of one bucket: one for each of its groups.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::super::aggregate::{Aggregate, Saved};
use super::super::expr::Env;
use super::super::group::hash;
use super::super::state::{Load, Part, Save, StateError};
use crate::event::Value;

/// Groups per chunk of state.
const CHUNK_GROUPS: usize = 64;
/// An aggregate's state of more values than these has chunks of its own.
const CHUNK_VALUES: usize = 1024;

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
    /// The numbers of its chunks, each of [`CHUNK_GROUPS`] slots.
    chunks: Vec<u64>,
}

/// Some groups of a bucket on disk.
#[derive(Serialize, Deserialize)]
pub(super) struct RowsState {
    /// The place of the duration.
    pub(super) level: usize,
    /// Where the bucket begins.
    pub(super) start: i64,
    chunk: u64,
    groups: Vec<GroupState>,
}

#[derive(Serialize, Deserialize)]
struct GroupState {
    key: Vec<Value>,
    aggregates: Vec<Vec<Value>>,
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

    /// A group that is not there yet. `chunk` is the number for a new chunk, if it takes one.
    pub(super) fn insert(
        &mut self,
        group: Group<'_>,
        hasher: &FixedState,
        chunk: &mut u64,
    ) -> usize {
        let slot = self.len;
        self.len += 1;
        if slot % CHUNK_GROUPS == 0 {
            self.chunks.push(*chunk);
            *chunk += 1;
        }
        for aggregate in &mut self.aggregates {
            aggregate.open(slot);
        }
        if self.width > 0 {
            self.keys.extend_from_slice(group.key);
            let (keys, width) = (&self.keys, self.width);
            let rehash = |slot: &usize| hash(hasher, key_of(keys, width, *slot));
            self.table.insert_unique(group.hash, slot, rehash);
        }
        slot
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

    /// `pieces` counts the chunks beside those of the groups.
    pub(super) fn save(
        &self,
        level: usize,
        start: i64,
        pieces: &mut u64,
        save: &mut Save<'_, '_>,
    ) -> Result<(), StateError> {
        for (number, chunk) in self.chunks.iter().enumerate() {
            let first = number * CHUNK_GROUPS;
            let mut groups = Vec::new();
            for slot in first..self.len.min(first + CHUNK_GROUPS) {
                let mut aggregates = Vec::new();
                for (aggregate, one) in self.aggregates.iter().enumerate() {
                    let mut values = one.save(slot);
                    aggregates.push(values.by_ref().take(CHUNK_VALUES).collect());
                    let of = (level, start, slot, aggregate);
                    save_rest(of, values, pieces, save)?;
                }
                let key = self.key(slot).to_vec();
                groups.push(GroupState { key, aggregates });
            }
            let state = RowsState {
                level,
                start,
                chunk: *chunk,
                groups,
            };
            save.put(Part::BucketRows, *chunk, &state)?;
        }
        Ok(())
    }

    /// Takes chunks back; a bucket's come in the order of their numbers.
    pub(super) fn load(
        &mut self,
        state: RowsState,
        rest: &mut Rest,
        hasher: &FixedState,
    ) -> Result<(), StateError> {
        if self.len % CHUNK_GROUPS != 0 || state.groups.len() > CHUNK_GROUPS {
            return Err(StateError::Inconsistent("a bucket has a gap"));
        }
        for saved in state.groups {
            let group = Group::new(&saved.key, hasher);
            let fits = saved.key.len() == self.width
                && saved.aggregates.len() == self.aggregates.len()
                && self.find(group).is_none();
            if !fits {
                return Err(StateError::Inconsistent(
                    "a group of a bucket has another form, or is there twice",
                ));
            }
            let slot = self.insert(group, hasher, &mut { state.chunk });
            let aggregates = self.aggregates.iter_mut().zip(saved.aggregates);
            for (number, (aggregate, mut values)) in aggregates.enumerate() {
                let of = (state.level, state.start, slot, number);
                values.extend(rest.remove(&of).unwrap_or_default());
                aggregate.load(slot, &values)?;
            }
        }
        Ok(())
    }
}

/// Which state of an aggregate: the duration's place, where the bucket begins, the slot, and the
/// place of the aggregate.
type Of = (usize, i64, usize, usize);

/// What of the aggregates' states does not lie with their groups.
pub(super) type Rest = BTreeMap<Of, Vec<Value>>;

/// Saves such a state piece by piece, so that a large one is not there twice.
fn save_rest(
    of: Of,
    mut values: Saved<'_>,
    pieces: &mut u64,
    save: &mut Save<'_, '_>,
) -> Result<(), StateError> {
    loop {
        let piece: Vec<Value> = values.by_ref().take(CHUNK_VALUES).collect();
        if piece.is_empty() {
            return Ok(());
        }
        save.put(Part::BucketAggregates, *pieces, &(of, piece))?;
        *pieces += 1;
    }
}

pub(super) fn load_rest(load: &Load<'_>) -> Result<Rest, StateError> {
    let mut rest = Rest::new();
    for (of, piece) in load.all::<(Of, Vec<Value>)>(Part::BucketAggregates)? {
        rest.entry(of).or_default().extend(piece);
    }
    Ok(rest)
}

#[inline]
fn key_of(keys: &[Value], width: usize, slot: usize) -> &[Value] {
    keys.get(slot * width..(slot + 1) * width)
        .unwrap_or_default()
}
