//! A store in memory that fails on purpose: crashes, tears, flips bits, fills up, stalls.
//!
//! Promises what [`Store`] promises, and makes every permitted misfortune an ordinary call, so
//! that tests can choose and repeat it: nothing here is random but what a `seed` chooses.
//! `eventflux test` runs on it too, which is why a restart costs nothing when nothing is lost.
//!
//! There are four kinds of misfortune:
//! * [`SimStore::plan`]: one operation ends in a [`Fault`].
//! * [`SimStore::begin`]: a [`Trouble`] that lasts for some operations or until it is mended. It is
//!   the disk's and not the process's, so it outlives crashes and restarts.
//! * [`SimStore::with_capacity`]: a disk that is full when it is full.
//! * [`SimStore::flip_bit`] and [`SimStore::tear`]: damage that the store itself does not notice.
//!
//! As with the real store, a failed write or sync poisons it. [`SimStore::crash`] is the end of
//! the process, [`SimStore::reopen`] what `store::sled::open` does in a process that goes on.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Compaction, Pair, Store, StoreError, Visit, WriteBatch};

/// What goes wrong at a planned operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before the operation has an effect.
    Crash,
    /// The process dies when the operation has had its effect, and nobody is told.
    CrashAfter,
    /// The disk is full: the operation has no effect.
    Full,
    /// The operation fails without an effect, as after a failed sync.
    Fails,
    /// The operation has its effect, and yet is said to have failed.
    FailsAfter,
}

/// What is wrong with the disk for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Writes fail for want of space; the store can be opened.
    Full,
    /// Writes and syncs fail, and the store cannot be opened.
    ReadOnly,
    /// Writes fail.
    WriteFails,
    /// Syncs fail; what was not synced may be there or not.
    SyncFails,
    /// Reads fail, which does not poison the store.
    ReadFails,
    /// Syncs take so long: see [`SimStore::take_ticks`].
    Slow {
        /// How long each of them takes, in whatever unit the test counts.
        ticks: u64,
    },
}

impl Trouble {
    fn strikes(self, operation: Operation) -> bool {
        match self {
            Trouble::Full | Trouble::WriteFails => operation == Operation::Write,
            Trouble::ReadOnly => operation != Operation::Read,
            Trouble::SyncFails | Trouble::Slow { .. } => operation == Operation::Sync,
            Trouble::ReadFails => operation == Operation::Read,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Read,
    Write,
    Sync,
}

impl Operation {
    fn doing(self) -> &'static str {
        match self {
            Operation::Read => "reading",
            Operation::Write => "writing",
            Operation::Sync => "syncing",
        }
    }
}

/// A sync that has begun: see [`SimStore::begin_sync`].
#[derive(Debug)]
#[must_use = "a sync has its effect when it ends"]
pub struct SyncUnderWay {
    /// The number of the last write that it covers.
    covers: u64,
    /// The restart in which it began.
    life: u64,
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
    /// The bytes of all pairs.
    live: u64,
    /// The bytes that fit, when there is a bound.
    capacity: Option<u64>,
    /// One entry per write since the last sync.
    undo: VecDeque<Before>,
    /// Writes ever made; the last entry of `undo` is of this number.
    writes: u64,
    /// Crashes and reopenings.
    life: u64,
    operations: u64,
    planned: Option<(u64, Fault)>,
    /// What is wrong, and for how many operations more.
    troubles: Vec<(Trouble, u64)>,
    ticks: u64,
    bytes_written: u64,
    poisoned: Option<String>,
}

impl SimStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> SimStore {
        SimStore::default()
    }

    /// An empty store that holds so many bytes of keys and values. A write after which there
    /// would be more fails with [`StoreError::Full`]; one that makes it smaller never does.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> SimStore {
        let store = SimStore::default();
        store.state().capacity = Some(bytes);
        store
    }

    /// Lets another number of bytes fit; `None` for any.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// How many writes and syncs have been asked for.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets the write or sync number `operation` (counted from 1, see [`SimStore::operations`])
    /// end in `fault`. There is one plan at a time.
    pub fn plan(&self, operation: u64, fault: Fault) {
        self.state().planned = Some((operation, fault));
    }

    /// Lets `trouble` strike the next so many operations that it concerns; [`u64::MAX`] lasts
    /// until [`SimStore::mend`].
    pub fn begin(&self, trouble: Trouble, operations: u64) {
        self.state().troubles.push((trouble, operations));
    }

    /// Ends every trouble. A poisoned store stays poisoned.
    pub fn mend(&self) {
        self.state().troubles.clear();
    }

    /// Whether any trouble lasts.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        !self.state().troubles.is_empty()
    }

    /// How long slow syncs have taken since this was last asked.
    #[must_use]
    pub fn take_ticks(&self) -> u64 {
        std::mem::take(&mut self.state().ticks)
    }

    /// How many writes a crash could lose now.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.state().undo.len()
    }

    /// Why the store is closed, when it is.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.state().poisoned.clone()
    }

    /// Begins a sync that takes its time: it covers the writes made so far, and has its effect at
    /// [`SimStore::end_sync`]. A fault or a trouble strikes here.
    ///
    /// # Errors
    /// As [`Store::sync`].
    pub fn begin_sync(&self) -> Result<SyncUnderWay, StoreError> {
        let mut state = self.state();
        let after = state.operation(Operation::Sync)?;
        let under_way = SyncUnderWay {
            covers: state.writes,
            life: state.life,
        };
        match after {
            Some(error) => {
                state.synced(&under_way);
                Err(error)
            }
            None => Ok(under_way),
        }
    }

    /// Ends a sync. When the store has crashed or failed since, nobody hears of its success.
    ///
    /// # Errors
    /// As [`Store::sync`].
    pub fn end_sync(&self, under_way: SyncUnderWay) -> Result<(), StoreError> {
        let mut state = self.state();
        state.usable()?;
        if under_way.life != state.life {
            return Err(StoreError::Poisoned {
                why: "it was opened anew while a sync was under way".to_owned(),
            });
        }
        state.synced(&under_way);
        Ok(())
    }

    /// The process dies and comes back: of the writes since the last sync, a prefix survives
    /// whose length `seed` chooses. Poison and plans are gone; what troubles the disk is not.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        state.lose(seed);
        state.planned = None;
    }

    /// Opens the store anew in the same process, as after a failed write or sync: of the writes
    /// since the last sync, a prefix survives whose length `seed` chooses, and is durable.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] while the disk is read-only; then nothing changes.
    pub fn reopen(&self, seed: u64) -> Result<(), StoreError> {
        let mut state = self.state();
        let troubles = &mut state.troubles;
        if let Some(at) = troubles
            .iter()
            .position(|(what, _)| *what == Trouble::ReadOnly)
        {
            use_up(troubles, at);
            return Err(StoreError::Unusable {
                path: PathBuf::from("sim"),
                why: "read-only file system".to_owned(),
            });
        }
        state.lose(seed);
        Ok(())
    }

    /// Flips one bit of one value among those whose key begins with `prefix`; says whose.
    pub fn flip_bit(&self, prefix: &[u8], seed: u64) -> Option<Vec<u8>> {
        self.spoil(prefix, seed, |value, seed| {
            let bit = seed
                .checked_rem(size(value.len()).saturating_mul(8))
                .unwrap_or(0);
            let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
            if let Some(byte) = value.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        })
    }

    /// Cuts one value short among those whose key begins with `prefix`; says whose.
    pub fn tear(&self, prefix: &[u8], seed: u64) -> Option<Vec<u8>> {
        self.spoil(prefix, seed, |value, seed| {
            let keep = seed.checked_rem(size(value.len())).unwrap_or(0);
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
        let count = size(chosen.len());
        let at = usize::try_from(seed.checked_rem(count)?).ok()?;
        let (key, value) = chosen.get_mut(at)?;
        let before = size(value.len());
        how(value, seed / count);
        let (key, after) = (key.clone(), size(value.len()));
        state.live = state.live.saturating_sub(before).saturating_add(after);
        Some(key)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The trouble at `at` has struck once.
fn use_up(troubles: &mut Vec<(Trouble, u64)>, at: usize) {
    if let Some((_, left)) = troubles.get_mut(at) {
        // What lasts until it is mended does not wear off.
        if *left != u64::MAX {
            *left = left.saturating_sub(1);
        }
    }
    troubles.retain(|(_, left)| *left > 0);
}

impl State {
    fn usable(&self) -> Result<(), StoreError> {
        match &self.poisoned {
            Some(why) => Err(StoreError::Poisoned { why: why.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, error: StoreError) -> StoreError {
        self.poisoned.get_or_insert_with(|| error.to_string());
        error
    }

    /// Counts the operation and lets happen what is planned or lasts. `Some` when the operation
    /// is to have its effect and fail all the same.
    fn operation(&mut self, operation: Operation) -> Result<Option<StoreError>, StoreError> {
        self.usable()?;
        self.operations += 1;
        let doing = operation.doing();
        let io = || StoreError::Io {
            doing,
            why: "as planned".to_owned(),
        };
        if let Some(error) = self.struck(operation) {
            return Err(self.poison(error));
        }
        let fault = match self.planned {
            Some((at, fault)) if at == self.operations => fault,
            Some(_) | None => return Ok(None),
        };
        match fault {
            Fault::Full => Err(self.poison(StoreError::Full { doing })),
            Fault::Crash | Fault::Fails => Err(self.poison(io())),
            Fault::CrashAfter | Fault::FailsAfter => Ok(Some(self.poison(io()))),
        }
    }

    /// The error of the first trouble that concerns the operation.
    fn struck(&mut self, operation: Operation) -> Option<StoreError> {
        let troubles = &mut self.troubles;
        let at = troubles
            .iter()
            .position(|(what, _)| what.strikes(operation))?;
        let (trouble, _) = *troubles.get(at)?;
        use_up(troubles, at);
        let doing = operation.doing();
        match trouble {
            Trouble::Full => Some(StoreError::Full { doing }),
            Trouble::ReadOnly => Some(StoreError::ReadOnly { doing }),
            Trouble::WriteFails | Trouble::SyncFails | Trouble::ReadFails => Some(StoreError::Io {
                doing,
                why: "the disk does not answer".to_owned(),
            }),
            Trouble::Slow { ticks } => {
                self.ticks = self.ticks.saturating_add(ticks);
                None
            }
        }
    }

    fn read(&mut self) -> Result<(), StoreError> {
        self.usable()?;
        self.struck(Operation::Read).map_or(Ok(()), Err)
    }

    /// Sets or removes a key; gives what was there.
    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let length = size(key.len());
        let new = value.as_ref().map_or(0, |value| length + size(value.len()));
        let before = match value {
            Some(value) => self.pairs.insert(key, value),
            None => self.pairs.remove(&key),
        };
        let gone = before
            .as_ref()
            .map_or(0, |value| length + size(value.len()));
        self.live = self.live.saturating_add(new).saturating_sub(gone);
        before
    }

    fn take_back(&mut self, changes: Before) {
        for (key, before) in changes.into_iter().rev() {
            self.set(key, before);
        }
    }

    fn synced(&mut self, under_way: &SyncUnderWay) {
        let later = self.writes.saturating_sub(under_way.covers);
        let keep = usize::try_from(later).unwrap_or(usize::MAX);
        while self.undo.len() > keep {
            self.undo.pop_front();
        }
    }

    /// Loses all but a prefix of what was not synced, and begins anew.
    fn lose(&mut self, seed: u64) {
        let keep = seed % size(self.undo.len()).saturating_add(1);
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        for changes in self.undo.split_off(keep).into_iter().rev() {
            self.take_back(changes);
        }
        self.undo.clear();
        self.life += 1;
        self.poisoned = None;
    }
}

impl Store for SimStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut state = self.state();
        state.read()?;
        Ok(state.pairs.get(key).cloned())
    }

    fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut state = self.state();
        let after = state.operation(Operation::Write)?;
        let (before, bytes) = (state.live, size(batch.bytes()));
        let mut undo = Vec::with_capacity(batch.len());
        for (key, value) in batch.changes {
            let was = state.set(key.clone(), value);
            undo.push((key, was));
        }
        let fits = state.capacity.is_none_or(|capacity| state.live <= capacity);
        if !fits && state.live >= before {
            state.take_back(undo);
            let doing = Operation::Write.doing();
            return Err(state.poison(StoreError::Full { doing }));
        }
        state.bytes_written = state.bytes_written.saturating_add(bytes);
        state.writes += 1;
        state.undo.push_back(undo);
        after.map_or(Ok(()), Err)
    }

    fn range(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let mut state = self.state();
        state.read()?;
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
        let mut state = self.state();
        state.read()?;
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
        let under_way = self.begin_sync()?;
        self.end_sync(under_way)
    }

    fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        Ok(self.bytes_live())
    }

    fn bytes_live(&self) -> u64 {
        self.state().live
    }

    /// The bytes of all writes that had an effect.
    fn bytes_written(&self) -> u64 {
        self.state().bytes_written
    }

    /// Memory is given back at once.
    fn compact(&self, _bytes_max: u64) -> Result<Compaction, StoreError> {
        self.state().usable()?;
        Ok(Compaction::Idle)
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

    fn delete(store: &SimStore, key: &[u8]) -> Result<(), StoreError> {
        let mut batch = WriteBatch::new();
        batch.delete(key);
        store.write(batch)
    }

    #[test]
    fn a_failure_after_the_effect_leaves_the_effect() {
        for fault in [Fault::CrashAfter, Fault::FailsAfter] {
            let store = SimStore::new();
            store.plan(1, fault);
            assert!(put(&store, b"a", b"1").is_err());
            assert!(store.poisoned().is_some());
            store.reopen(u64::MAX).unwrap();
            assert_eq!(store.get(b"a").unwrap().unwrap(), b"1");
            put(&store, b"a", b"2").unwrap();
            store.plan(3, fault);
            assert!(store.sync().is_err());
            store.crash(0);
            assert_eq!(store.get(b"a").unwrap().unwrap(), b"2", "it was synced");
        }
    }

    #[test]
    fn a_small_disk_fills_up_and_has_room_again() {
        let store = SimStore::with_capacity(10);
        put(&store, b"a", b"1234").unwrap();
        put(&store, b"b", b"1234").unwrap();
        let error = put(&store, b"c", b"1").unwrap_err();
        assert_eq!(error, StoreError::Full { doing: "writing" });
        assert!(matches!(store.sync(), Err(StoreError::Poisoned { .. })));
        store.reopen(2).unwrap();
        assert_eq!((store.bytes_live(), store.get(b"c").unwrap()), (10, None));
        put(&store, b"a", b"4321").unwrap();
        delete(&store, b"b").unwrap();
        put(&store, b"c", b"1").unwrap();
        store.set_capacity(Some(3));
        put(&store, b"a", b"").unwrap();
        assert_eq!(store.bytes_on_disk(), Ok(3));
        assert_eq!(store.bytes_written(), 5 + 5 + 5 + 1 + 2 + 1);
    }

    #[test]
    fn troubles_last_as_long_as_they_were_told_to_and_outlive_restarts() {
        let store = SimStore::new();
        store.begin(Trouble::Full, 2);
        store.begin(Trouble::SyncFails, 1);
        for _ in 0..2 {
            let error = put(&store, b"a", b"1").unwrap_err();
            assert_eq!(error, StoreError::Full { doing: "writing" });
            store.reopen(0).unwrap();
        }
        put(&store, b"a", b"1").unwrap();
        assert!(matches!(store.sync(), Err(StoreError::Io { .. })));
        store.crash(u64::MAX);
        assert!(!store.is_troubled());
        store.begin(Trouble::ReadOnly, u64::MAX);
        assert_eq!(
            put(&store, b"a", b"2"),
            Err(StoreError::ReadOnly { doing: "writing" })
        );
        for _ in 0..3 {
            let error = store.reopen(0).unwrap_err();
            assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        }
        store.mend();
        assert!(matches!(store.get(b"a"), Err(StoreError::Poisoned { .. })));
        store.reopen(u64::MAX).unwrap();
        store.begin(Trouble::ReadFails, 1);
        assert!(matches!(store.get(b"a"), Err(StoreError::Io { .. })));
        assert_eq!(store.get(b"a").unwrap().unwrap(), b"1");
        store.begin(Trouble::Slow { ticks: 30 }, 2);
        (0..3).for_each(|_| store.sync().unwrap());
        assert_eq!((store.take_ticks(), store.take_ticks()), (60, 0));
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let store = SimStore::new();
        put(&store, b"a", b"1").unwrap();
        let sync = store.begin_sync().unwrap();
        put(&store, b"a", b"2").unwrap();
        assert_eq!(store.unsynced(), 2);
        store.end_sync(sync).unwrap();
        assert_eq!(store.unsynced(), 1);
        let sync = store.begin_sync().unwrap();
        store.crash(0);
        assert_eq!(store.get(b"a").unwrap().unwrap(), b"1");
        put(&store, b"a", b"3").unwrap();
        assert!(store.end_sync(sync).is_err());
        assert_eq!(store.unsynced(), 1);
    }
}
