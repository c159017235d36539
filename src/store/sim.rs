//! A store in memory that fails on purpose: crashes, tears, flips bits, fills up.
//!
//! Promises what [`Store`] promises, and makes every permitted misfortune an ordinary call, so
//! that tests can choose and repeat it. `eventflux test` runs on it too, which is why a restart
//! costs nothing when nothing is lost.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Pair, Store, StoreError, Visit, WriteBatch};

/// What goes wrong at a planned operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before the operation has an effect.
    Crash,
    /// The disk is full: the operation has no effect.
    Full,
    /// The operation's effect is unknown, as after a failed sync.
    Fails,
}

/// A store in memory. Cloning gives another handle of the same store.
#[derive(Clone, Debug, Default)]
pub struct SimStore {
    state: Arc<Mutex<State>>,
}

/// What the keys of one write held before it, in the order of its changes.
type Before = Vec<(Vec<u8>, Option<Vec<u8>>)>;

#[derive(Debug, Default)]
struct State {
    pairs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// One entry per write since the last sync.
    undo: Vec<Before>,
    operations: u64,
    planned: Option<(u64, Fault)>,
    poisoned: Option<String>,
}

impl SimStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> SimStore {
        SimStore::default()
    }

    /// How many writes and syncs have been asked for.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets the write or sync number `operation` (counted from 1, see [`SimStore::operations`])
    /// end in `fault`.
    pub fn plan(&self, operation: u64, fault: Fault) {
        self.state().planned = Some((operation, fault));
    }

    /// How many writes a crash could lose now.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.state().undo.len()
    }

    /// The process dies and comes back: of the writes since the last sync, a prefix survives
    /// whose length `seed` chooses. Poison and plans are gone.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        let choices = u64::try_from(state.undo.len())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let keep = usize::try_from(seed % choices).unwrap_or(usize::MAX);
        for changes in state.undo.split_off(keep).into_iter().rev() {
            for (key, before) in changes.into_iter().rev() {
                match before {
                    Some(value) => state.pairs.insert(key, value),
                    None => state.pairs.remove(&key),
                };
            }
        }
        state.undo.clear();
        state.planned = None;
        state.poisoned = None;
    }

    /// Flips one bit of one value among those whose key begins with `prefix`; says whose.
    pub fn flip_bit(&self, prefix: &[u8], seed: u64) -> Option<Vec<u8>> {
        self.spoil(prefix, seed, |value, seed| {
            let bits = u64::try_from(value.len())
                .unwrap_or(u64::MAX)
                .saturating_mul(8);
            let bit = seed.checked_rem(bits).unwrap_or(0);
            let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
            if let Some(byte) = value.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        })
    }

    /// Cuts one value short among those whose key begins with `prefix`; says whose.
    pub fn tear(&self, prefix: &[u8], seed: u64) -> Option<Vec<u8>> {
        self.spoil(prefix, seed, |value, seed| {
            let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
            let keep = seed.checked_rem(length).unwrap_or(0);
            value.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        })
    }

    fn spoil(
        &self,
        prefix: &[u8],
        seed: u64,
        how: impl FnOnce(&mut Vec<u8>, u64),
    ) -> Option<Vec<u8>> {
        let mut state = self.state();
        let mut chosen: Vec<_> = state
            .pairs
            .iter_mut()
            .filter(|(key, _)| key.starts_with(prefix))
            .collect();
        let count = u64::try_from(chosen.len()).unwrap_or(u64::MAX);
        let at = usize::try_from(seed.checked_rem(count)?).ok()?;
        let (key, value) = chosen.get_mut(at)?;
        how(value, seed / count);
        Some(key.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn usable(&self) -> Result<(), StoreError> {
        match &self.poisoned {
            Some(why) => Err(StoreError::Poisoned { why: why.clone() }),
            None => Ok(()),
        }
    }

    /// Counts the operation and lets the planned fault happen.
    fn operation(&mut self, doing: &'static str) -> Result<(), StoreError> {
        self.usable()?;
        self.operations += 1;
        let fault = match self.planned {
            Some((at, fault)) if at == self.operations => fault,
            Some(_) | None => return Ok(()),
        };
        let error = match fault {
            Fault::Full => StoreError::Full { doing },
            Fault::Fails | Fault::Crash => StoreError::Io {
                doing,
                why: "as planned".to_owned(),
            },
        };
        self.poisoned = Some(error.to_string());
        Err(error)
    }
}

impl Store for SimStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let state = self.state();
        state.usable()?;
        Ok(state.pairs.get(key).cloned())
    }

    fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut state = self.state();
        state.operation("writing")?;
        let mut undo = Vec::with_capacity(batch.len());
        for (key, value) in batch.changes {
            let before = match value {
                Some(value) => state.pairs.insert(key.clone(), value),
                None => state.pairs.remove(&key),
            };
            undo.push((key, before));
        }
        state.undo.push(undo);
        Ok(())
    }

    fn range(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let state = self.state();
        state.usable()?;
        if from >= to {
            return Ok(());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in state.pairs.range::<[u8], _>(bounds) {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, StoreError> {
        let state = self.state();
        state.usable()?;
        if from >= to {
            return Ok(None);
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let mut pairs = state.pairs.range::<[u8], _>(bounds);
        Ok(pairs
            .next_back()
            .map(|(key, value)| (key.clone(), value.clone())))
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        state.operation("syncing")?;
        state.undo.clear();
        Ok(())
    }

    fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        let state = self.state();
        let bytes: usize = state
            .pairs
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
    }

    fn bytes_live(&self) -> u64 {
        0
    }

    fn bytes_written(&self) -> u64 {
        0
    }

    fn compact(&self, _bytes_max: u64) -> Result<super::Compaction, StoreError> {
        Ok(super::Compaction::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &SimStore, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::new();
        batch.put(key, value);
        store.write(batch)
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let store = SimStore::new();
        put(&store, b"a", b"1").unwrap();
        store.sync().unwrap();
        put(&store, b"a", b"2").unwrap();
        put(&store, b"b", b"3").unwrap();
        store.crash(1);
        assert_eq!(store.get(b"a").unwrap().unwrap(), b"2");
        assert_eq!(store.get(b"b").unwrap(), None);
        put(&store, b"a", b"4").unwrap();
        store.crash(0);
        assert_eq!(store.get(b"a").unwrap().unwrap(), b"2");
    }

    #[test]
    fn a_failure_poisons_until_the_restart() {
        for fault in [Fault::Crash, Fault::Full, Fault::Fails] {
            let store = SimStore::new();
            store.plan(2, fault);
            put(&store, b"a", b"1").unwrap();
            assert!(put(&store, b"a", b"2").is_err());
            assert!(matches!(store.get(b"a"), Err(StoreError::Poisoned { .. })));
            assert!(matches!(store.sync(), Err(StoreError::Poisoned { .. })));
            store.crash(u64::MAX);
            assert!(store.get(b"a").is_ok());
        }
    }
}
