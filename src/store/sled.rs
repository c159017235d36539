//! The store on sled 0.34. `generation.rs` is the only file that names sled, and
//! `docs/decisions/0001-sled.md` has the facts about it that are answered here.
//!
//! Promises: [`open`] returns in bounded time, whatever lies on the disk; it never panics and
//! sets damaged data aside instead of stopping. [`Store::sync`] is a barrier against power loss,
//! and whoever writes does not wait for it but for what it hands to the kernel. What nobody syncs
//! is synced after [`StoreOptions::settle_interval`]; a store to which nothing is written writes
//! nothing and wakes nobody.
//!
//! `place.rs` draws the directory. Beside it lies `<dir>/mark`, see below.
//!
//! A batch of one change is one sled insert. A larger one is written first as a whole into one
//! journal value (`journal.rs`), then change by change, then the journal is removed; a journal
//! that is found at open is carried out again. sled recovers a prefix of its log, so that this is
//! atomic, and it is five times as fast as sled's own batches, which go to the disk twice each.
//!
//! ```text
//! journal, key 00 'J', sealed (see `seal`), kind 'J', no head, payload: see `journal.rs`
//! identity, key 00 'I', sealed, kind 'I', head: 8 random bytes, no payload
//! progress, key 00 'P', sealed, kind 'P', head: a counter, u64 LE, no payload
//! <dir>/mark: see `mark.rs`
//! rest, key 00 'R', sealed, kind 'R', head: a hash of all pairs, u64 LE, no payload
//! ```
//!
//! The counter grows at open and with every [`MARK_BYTES`] written; it is synced inside of sled
//! first and in the mark afterwards. The mark also says, as of the last sync, where the log ends. A
//! store that is behind its mark has silently gone back to an earlier state: it gets a new
//! identity, so that nothing new goes out under an old one's ids. So
//! does one that was at rest, closed or without a change for [`StoreOptions::settle_interval`],
//! and has not the pairs any more that it had then: sled takes a damaged segment for one that
//! ends early. The first change after a rest removes its hash before anything else.
//!
//! Locks are taken in this order: `turn` (one batch at a time), `syncing` (one sync), `access`
//! (changing or flushing sled), `current`, `window`.

mod blobs;
mod compaction;
mod generation;
mod journal;
mod last;
mod mark;
mod opening;
mod place;
mod window;

use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;

use self::compaction::Next;
use self::generation::{Content, Generation, JOURNAL_KEY, Poison};
use self::mark::{Mark, Reached, place_in_log};
pub use self::opening::{Opened, StoreEvent, open};
use self::place::unusable;
use self::window::Window;
use super::seal::{Sealer, check};
use super::{Compaction, Pair, Store, StoreError, Visit, WriteBatch, table};

/// How long closing a store that failed waits for what goes on inside of sled.
const WAKE_MAX: Duration = Duration::from_secs(1);
/// The mark is made durable when so much was written.
const MARK_BYTES: u64 = 1 << 20;

const IDENTITY_KEY: &[u8] = &[table::SYSTEM, b'I'];
const PROGRESS_KEY: &[u8] = &[table::SYSTEM, b'P'];
const REST_KEY: &[u8] = &[table::SYSTEM, b'R'];

/// How the store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// sled's page cache, in bytes. Real memory is a multiple of it, and twice that during
    /// [`Store::compact`].
    pub cache_bytes: u64,
    /// The time limit for opening and reading everything once, for an empty store; it is longer
    /// by a second for every 4 MiB on disk.
    pub open_timeout: Duration,
    /// After this time what was written is synced even when nobody asks.
    pub settle_interval: Duration,
    /// Disk space is given back only beyond this, in bytes, and beyond four times what is live.
    pub compact_bytes_min: u64,
    /// Whether it is a copy to look at: then one of a newer format opens too.
    pub only_looks: bool,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            cache_bytes: 3 << 20,
            open_timeout: Duration::from_secs(20),
            settle_interval: Duration::from_secs(10),
            compact_bytes_min: 64 << 20,
            only_looks: false,
        }
    }
}

struct SledStore {
    shared: Arc<Shared>,
    /// Syncs before writers have to wait, and what nobody syncs.
    keeper: Option<JoinHandle<()>>,
    /// Wakes who waits in a store that failed.
    waker: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    dir: PathBuf,
    options: StoreOptions,
    turn: Mutex<Sealer>,
    syncing: Mutex<Mark>,
    access: Mutex<Access>,
    current: RwLock<Generation>,
    window: Mutex<Watched>,
    /// Tells the keeper that there is something to do.
    wake: Condvar,
    poison: Poison,
    /// The bytes in [`Access::content`].
    live: AtomicU64,
    unmarked: AtomicU64,
    /// Written by generations that are gone, and to the mark.
    written_before: AtomicU64,
    _lock: Flock<File>,
}

struct Access {
    /// The generation that a compaction is filling.
    next: Option<Next>,
    /// Before that time no compaction begins.
    compact_at: Option<Instant>,
    /// The progress counter.
    progress: u64,
    /// Where the log ends; none when that must be looked up.
    log_end: Option<u64>,
    content: Content,
    /// Whether the hash of the content is in the store.
    rested: bool,
}

struct Watched {
    window: Window,
    stopping: bool,
    /// As in [`Access`].
    rested: bool,
    /// Whether the keeper sleeps until it is woken.
    asleep: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn current(&self) -> RwLockReadGuard<'_, Generation> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn current_alone(&self) -> RwLockWriteGuard<'_, Generation> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one change as soon as it is safe to: see `window.rs`.
    fn change(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoreError> {
        let bytes = size(key.len() + value.map_or(0, <[u8]>::len));
        loop {
            self.poison.check()?;
            let mut access = lock(&self.access);
            if lock(&self.window).window.has_room(bytes) {
                return self.change_now(&mut access, key, value, bytes);
            }
            drop(access);
            // Most often the keeper is at it already; then this waits for its end.
            let mut mark = lock(&self.syncing);
            if !lock(&self.window).window.has_room(bytes) {
                self.sync_now(&mut mark)?;
            }
        }
    }

    fn change_now(
        &self,
        access: &mut Access,
        key: &[u8],
        value: Option<&[u8]>,
        bytes: u64,
    ) -> Result<(), StoreError> {
        if access.rested && key.first() != Some(&table::SYSTEM) {
            access.rested = false;
            lock(&self.window).rested = false;
            self.change_now(access, REST_KEY, None, size(REST_KEY.len()))?;
        }
        let changed = self.current().change(key, value);
        let before = changed.map_err(|error| self.poison.set(error))?;
        access.content.take(before);
        if let Some(value) = value {
            access.content.add(Content::of(key, value));
        }
        access.log_end = match (place_in_log(key), access.log_end) {
            (Some(place), Some(end)) if value.is_some() => Some(end.max(place)),
            // The last one has gone, or perhaps has.
            (Some(place), Some(end)) if place >= end => None,
            (_, end) => end,
        };
        self.live.store(access.content.bytes, Ordering::Relaxed);
        self.unmarked.fetch_add(bytes, Ordering::Relaxed);
        access.mirror(key, value);
        let mut watched = lock(&self.window);
        watched.window.add(bytes);
        if watched.asleep || watched.window.wants_sync() {
            watched.asleep = false;
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Makes everything durable that was written before the call; the caller holds `syncing`.
    fn sync_now(&self, mark: &mut Mark) -> Result<(), StoreError> {
        self.poison.check()?;
        let mut access = lock(&self.access);
        let durably = self.unmarked.load(Ordering::Relaxed) >= MARK_BYTES;
        if durably {
            self.count_on(&mut access)?;
        }
        let current = self.current();
        let reached = Reached {
            progress: access.progress,
            log_end: log_end(&mut access, &current)?,
        };
        current.flush(&self.poison)?;
        let position = current.position();
        let changes = lock(&self.window).window.flushed(position);
        drop(access);
        current.sync(&self.poison)?;
        lock(&self.window).window.synced(position, changes);
        let marked = mark.write(reached, durably);
        let failed = |error| self.poison.set(generation::io_failed("syncing", &error));
        let bytes = marked.map_err(failed)?;
        self.written_before.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Raises the progress counter inside of sled.
    fn count_on(&self, access: &mut Access) -> Result<(), StoreError> {
        self.unmarked.store(0, Ordering::Relaxed);
        access.progress = access.progress.saturating_add(1);
        let counter = access.progress;
        self.put_number(access, PROGRESS_KEY, counter)
    }

    /// Sets a key of the store's own to a sealed number.
    fn put_number(&self, access: &mut Access, key: &[u8], number: u64) -> Result<(), StoreError> {
        let kind = key.last().copied().unwrap_or_default();
        let sealed = Sealer::default().seal(kind, &number.to_le_bytes(), &[]);
        let value = sealed.map_err(|error| StoreError::Io {
            doing: "writing",
            why: error.to_string(),
        })?;
        let bytes = size(key.len() + value.len());
        self.change_now(access, key, Some(&value), bytes)
    }

    fn sync(&self) -> Result<(), StoreError> {
        let wanted = lock(&self.window).window.changes();
        let mut mark = lock(&self.syncing);
        self.poison.check()?;
        if lock(&self.window).window.covers(wanted) {
            return Ok(());
        }
        self.sync_now(&mut mark)
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), StoreError> {
        let mut sealer = lock(&self.turn);
        self.poison.check()?;
        if batch.len() <= 1 {
            return batch
                .changes()
                .try_for_each(|(key, value)| self.change(key, value));
        }
        let journal = journal::write(batch).and_then(|whole| sealer.seal(b'J', &[], &whole).ok());
        let journal = journal.ok_or_else(|| StoreError::Io {
            doing: "writing",
            why: format!("{} bytes are too much for one write", batch.bytes()),
        })?;
        self.change(JOURNAL_KEY, Some(&journal))?;
        for (key, value) in batch.changes() {
            self.change(key, value)?;
        }
        self.change(JOURNAL_KEY, None)
    }

    /// Notes durably what pairs there are, unless there were more than `changes` ever.
    fn rest(&self, changes: u64) -> Result<(), StoreError> {
        let mut mark = lock(&self.syncing);
        self.poison.check()?;
        {
            let mut access = lock(&self.access);
            let is_quiet = lock(&self.window).window.changes() == changes;
            if !is_quiet || access.rested {
                return Ok(());
            }
            let sum = access.content.sum;
            self.put_number(&mut access, REST_KEY, sum)?;
            access.rested = true;
            lock(&self.window).rested = true;
            // The end of the log may get lost, and this with it: so the mark is set, too.
            self.unmarked.store(MARK_BYTES, Ordering::Relaxed);
        }
        self.sync_now(&mut mark)
    }

    /// Syncs in time, until the store is closed or fails.
    fn keep(&self) {
        let interval = self.options.settle_interval;
        let mut quiet = (0, Instant::now());
        let mut watched = lock(&self.window);
        while !watched.stopping && !self.poison.is_set() {
            let changes = watched.window.changes();
            if quiet.0 != changes {
                quiet = (changes, Instant::now());
            }
            let rests_in = (!watched.rested).then(|| interval.saturating_sub(quiet.1.elapsed()));
            let syncs_in = watched.window.due_in(interval);
            // A failure poisons the store, which ends this.
            if watched.window.wants_sync() || syncs_in == Some(Duration::ZERO) {
                drop(watched);
                let mut mark = lock(&self.syncing);
                let _ = self.sync_now(&mut mark);
                drop(mark);
                watched = lock(&self.window);
                continue;
            }
            if rests_in == Some(Duration::ZERO) {
                drop(watched);
                let _ = self.rest(changes);
                watched = lock(&self.window);
                continue;
            }
            let due = rests_in.into_iter().chain(syncs_in).min();
            watched = match due {
                None => {
                    watched.asleep = true;
                    self.wake.wait(watched)
                }
                Some(due) => self
                    .wake
                    .wait_timeout(watched, due)
                    .map(|(watched, _)| watched)
                    .map_err(|error| PoisonError::new(error.into_inner().0)),
            }
            .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The counter in a sealed value; 0 when there is none.
    fn counter(value: Option<&[u8]>) -> u64 {
        let sealed = value.and_then(|value| check(value, 8).ok());
        let counter = sealed.and_then(|sealed| sealed.head.first_chunk::<8>());
        counter.map_or(0, |counter| u64::from_le_bytes(*counter))
    }

    /// Whether the store was found in an earlier state than marked, or without pairs that it had
    /// when it was at rest.
    fn went_back(&self) -> Result<bool, StoreError> {
        let marked = lock(&self.syncing).read()?;
        let progress = Shared::counter(self.current().get(PROGRESS_KEY)?.as_deref());
        let rest = self.current().get(REST_KEY)?;
        let mut access = lock(&self.access);
        access.progress = progress;
        let log_end = log_end(&mut access, &self.current())?;
        let is_behind = progress < marked.progress || log_end < marked.log_end;
        let Some(rest) = rest else {
            return Ok(is_behind);
        };
        let lost = Shared::counter(Some(&rest)) != access.content.sum;
        if lost {
            self.change_now(&mut access, REST_KEY, None, size(REST_KEY.len()))?;
        }
        access.rested = !lost;
        lock(&self.window).rested = !lost;
        Ok(lost || is_behind)
    }

    /// The identity, drawn anew when there is none or the store went back.
    fn identity(
        &self,
        is_old: bool,
        went_back: bool,
        events: &mut Vec<StoreEvent>,
    ) -> Result<u64, StoreError> {
        let value = self.current().get(IDENTITY_KEY)?;
        let sealed = value.as_ref().and_then(|value| check(value, 8).ok());
        let known = sealed.and_then(|sealed| sealed.head.first_chunk::<8>());
        if let Some(id) = known.filter(|_| !went_back || !is_old) {
            return Ok(u64::from_le_bytes(*id));
        }
        // A first start that was cut off has left nothing that anybody could know.
        let holds_something = lock(&self.access).content.sum != 0;
        if is_old && (went_back || holds_something) {
            events.push(StoreEvent::IdentityRenewed);
        }
        // The hasher's keys are the operating system's randomness.
        let id = std::hash::RandomState::new().build_hasher().finish();
        self.put_number(&mut lock(&self.access), IDENTITY_KEY, id)?;
        Ok(id)
    }
}

/// Where the log ends.
fn log_end(access: &mut Access, current: &Generation) -> Result<u64, StoreError> {
    if let Some(end) = access.log_end {
        return Ok(end);
    }
    let last = current.last(&[table::LOG], &[table::LOG + 1])?;
    let end = last.and_then(|(key, _)| place_in_log(&key)).unwrap_or(0);
    access.log_end = Some(end);
    Ok(end)
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl SledStore {
    fn new(
        dir: &Path,
        options: &StoreOptions,
        generation: Generation,
        content: Content,
        lock: Flock<File>,
    ) -> Result<SledStore, StoreError> {
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            options: *options,
            turn: Mutex::default(),
            syncing: Mutex::new(Mark::new(dir)),
            access: Mutex::new(Access {
                next: None,
                compact_at: None,
                progress: 0,
                log_end: None,
                content,
                rested: false,
            }),
            window: Mutex::new(Watched {
                window: Window::new(generation.position()),
                stopping: false,
                rested: false,
                asleep: false,
            }),
            current: RwLock::new(generation),
            wake: Condvar::new(),
            poison: Poison::default(),
            live: AtomicU64::new(content.bytes),
            // The counter grows with the first sync.
            unmarked: AtomicU64::new(MARK_BYTES),
            written_before: AtomicU64::new(0),
            _lock: lock,
        });
        let kept = Arc::clone(&shared);
        let keeper = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || kept.keep())
            .map_err(|error| unusable(dir, &error))?;
        Ok(SledStore {
            shared,
            keeper: Some(keeper),
            waker: Mutex::default(),
        })
    }
}

impl SledStore {
    /// A caller is given an error. Somebody may wait inside of sled for what will not come any
    /// more: after a failure, sled wakes whoever waits when it is asked to flush once more.
    fn failed(&self) {
        let is_first = !self.shared.poison.set_told();
        if !is_first || !self.shared.poison.is_set() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("store-wake".to_owned());
        // Without it they wait until the process ends, which the daemon then sees to.
        let woken = thread.spawn(move || drop(shared.current().flush(&shared.poison)));
        *lock(&self.waker) = woken.ok();
    }
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.poison.check()?;
        self.shared.current().get(key)
    }

    fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        self.shared.write(&batch).inspect_err(|_| self.failed())
    }

    fn range(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.shared.poison.check()?;
        self.shared.current().range(from, Some(to), visit)
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, StoreError> {
        self.shared.poison.check()?;
        self.shared.current().last(from, to)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.shared.sync().inspect_err(|_| self.failed())
    }

    fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        self.shared.poison.check()?;
        self.shared.current().bytes_on_disk()
    }

    fn bytes_live(&self) -> u64 {
        self.shared.live.load(Ordering::Relaxed)
    }

    /// Exact for sled's log, its padding included. Not among them: a blob that was gone before a
    /// sync saw it, what the file system adds (its journal, its rounding to blocks), and what was
    /// written while opening (a snapshot and at most two segments).
    fn bytes_written(&self) -> u64 {
        let before = self.shared.written_before.load(Ordering::Relaxed);
        before.saturating_add(self.shared.current().bytes_written())
    }

    fn compact(&self, bytes_max: u64) -> Result<Compaction, StoreError> {
        self.shared.compact(bytes_max)
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        lock(&self.shared.window).stopping = true;
        self.shared.wake.notify_all();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        // Until it ends it keeps the store's lock; should it hang, so does sled.
        let waker = lock(&self.waker).take();
        let until = Instant::now() + WAKE_MAX;
        while waker.as_ref().is_some_and(|one| !one.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let changes = lock(&self.shared.window).window.changes();
        // When it fails, the next open cannot tell whether everything is there; it never could.
        let _ = self.shared.rest(changes);
    }
}

#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod tests;
