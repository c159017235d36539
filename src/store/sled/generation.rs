//! One sled database: the only file that names sled. `docs/decisions/0001-sled.md` has the facts
//! about it that are answered here.
//!
//! Promises: [`Generation::open`] returns in bounded time, whatever lies on the disk; nothing here
//! panics. Every failure is classified, and the first fatal one is kept: see [`Poison`].
//!
//! Leaves to others: that only one thread at a time changes or flushes it. sled forgets to wake
//! those who wait for a buffer when writing it fails while a change and a flush overlap.
//!
//! There are two of sled's trees: what the store keeps for itself changes with every batch and so
//! does not share leaves, which sled rewrites as a whole, with the values of others.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::StoreOptions;
use super::blobs::Blobs;
use super::journal;
use super::last;
use super::place::{Home, is_full, remove_half_snapshots, unusable, wait_for_lock};
use crate::store::seal::{Damage, Unsealer, check, is_foreign};
use crate::store::{Pair, StoreError, Visit, format, table};

/// The time limit of opening grows by a second for so many bytes.
const SCAN_BYTES_PER_SECOND: u64 = 4 << 20;
const BALLAST_BYTES: usize = 18;
/// After so many bytes of ours what sled has done with is freed.
const GARBAGE_BYTES: usize = 32 << 10;
const SYSTEM_TREE: &str = "system";
const EIO: i32 = 5;

/// What pairs there are, in numbers that each change adds to or takes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// The bytes of keys and values.
    pub(super) bytes: u64,
    /// The sum of a hash of each pair, so that it does not depend on their order.
    pub(super) sum: u64,
}

impl Content {
    /// One pair. The store's own are not in the sum, as it lies among them.
    pub(super) fn of(key: &[u8], value: &[u8]) -> Content {
        let sum = if key.first() == Some(&table::SYSTEM) {
            0
        } else {
            let hash = crc32c::crc32c_append(crc32c::crc32c(key), value);
            // Spreads the hash, so that sums of different pairs differ in all bits.
            u64::from(hash)
                .wrapping_add(1)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        };
        Content {
            bytes: u64::try_from(key.len() + value.len()).unwrap_or(0),
            sum,
        }
    }

    pub(super) fn add(&mut self, pair: Content) {
        self.bytes = self.bytes.saturating_add(pair.bytes);
        self.sum = self.sum.wrapping_add(pair.sum);
    }

    pub(super) fn take(&mut self, pair: Content) {
        self.bytes = self.bytes.saturating_sub(pair.bytes);
        self.sum = self.sum.wrapping_sub(pair.sum);
    }
}

pub(super) const JOURNAL_KEY: &[u8] = &[table::SYSTEM, b'J'];

/// The first failure after which nobody knows what is on the disk.
#[derive(Debug, Default)]
pub(super) struct Poison {
    error: OnceLock<StoreError>,
    told: AtomicBool,
}

impl Poison {
    /// Gives the failure itself to whoever asks first, if it happened behind everybody's back, so
    /// that somebody learns of what kind it was.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let Some(error) = self.error.get() else {
            return Ok(());
        };
        if !self.told.swap(true, Ordering::Relaxed) {
            return Err(error.clone());
        }
        Err(StoreError::Poisoned {
            why: error.to_string(),
        })
    }

    pub(super) fn is_set(&self) -> bool {
        self.error.get().is_some()
    }

    /// Remembers `error`, when it is the first.
    pub(super) fn set(&self, error: StoreError) -> StoreError {
        self.error.get_or_init(|| error.clone());
        error
    }

    /// A caller has been given an error; whether one was before.
    pub(super) fn set_told(&self) -> bool {
        self.told.swap(true, Ordering::Relaxed)
    }
}

/// Why a generation does not open.
#[derive(Debug)]
pub(super) enum Failure {
    /// For a person to solve; the data may be fine.
    Refused(StoreError),
    /// The data cannot be read.
    Damaged(String),
    /// The helper thread is still at it, and keeps sled's lock.
    Hung,
}

/// An open sled database.
pub(super) struct Generation {
    /// `None` only while being dropped.
    open: Option<Trees>,
    /// A handle of our own on sled's file, for fdatasync.
    file: File,
    blobs: Blobs,
    pub(super) home: Home,
    /// Where sled's log ended, and how many bytes of blobs there were, when it was opened.
    began: (u64, u64),
    /// Bytes of ours since [`sweep`].
    unswept: AtomicUsize,
}

struct Trees {
    db: sled::Db,
    system: sled::Tree,
    evictors: Evictors,
}

impl Trees {
    fn of(&self, key: &[u8]) -> &sled::Tree {
        if key.first() == Some(&table::SYSTEM) {
            &self.system
        } else {
            &self.db
        }
    }
}

impl Generation {
    /// Opens what is at `home`, or makes it, and reads every pair, in a thread that can be left
    /// behind. Says what is there.
    pub(super) fn open(
        home: &Home,
        options: &StoreOptions,
    ) -> Result<(Generation, Content), Failure> {
        let path = home.path.as_path();
        let refused = |error: std::io::Error| Failure::Refused(unusable(path, &error));
        std::fs::create_dir_all(path).map_err(refused)?;
        let bytes = wait_for_lock(path).map_err(Failure::Refused)?;
        remove_half_snapshots(path).map_err(Failure::Refused)?;
        let limit = options.open_timeout + Duration::from_secs(bytes / SCAN_BYTES_PER_SECOND);
        // sled's own thread would flush and move pages behind our back, beyond what a sync covers.
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(options.cache_bytes)
            .flush_every_ms(None);
        let cache_bytes = options.cache_bytes;
        let (send, receive) = crossbeam::channel::bounded(1);
        let spawned = std::thread::Builder::new()
            .name("store-open".to_owned())
            .spawn(move || {
                let done = catch_unwind(AssertUnwindSafe(|| read_all(&config, cache_bytes)));
                // Nobody listens any more when this came too late.
                let _ = send.try_send(done);
            });
        spawned.map_err(refused)?;
        let Read {
            open,
            content,
            is_foreign,
        } = match receive.recv_timeout(limit) {
            Ok(Ok(Ok(read))) => read,
            Ok(Ok(Err(error))) => return Err(classify(path, &error)),
            Ok(Err(_panic)) => return Err(Failure::Damaged("sled panicked over it".to_owned())),
            Err(_timeout) => return Err(Failure::Hung),
        };
        if is_foreign && !options.only_looks {
            return Err(Failure::Refused(format::unknown()));
        }
        let file = File::open(path.join("db")).map_err(refused)?;
        let mut generation = Generation {
            open: Some(open),
            file,
            blobs: Blobs::new(path.join("blobs")),
            home: home.clone(),
            began: (0, 0),
            unswept: AtomicUsize::new(0),
        };
        generation
            .flush(&Poison::default())
            .map_err(Failure::Refused)?;
        generation.blobs.sync().map_err(refused)?;
        generation.file.sync_data().map_err(refused)?;
        generation.began = (generation.position(), generation.blobs.bytes_synced());
        Ok((generation, content))
    }

    /// Runs `work` on sled; an error or a panic of sled becomes ours.
    fn with<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Trees) -> Result<T, sled::Error>,
    ) -> Result<T, StoreError> {
        let Some(open) = &self.open else {
            return Err(StoreError::Poisoned {
                why: "it is closed".to_owned(),
            });
        };
        match catch_unwind(AssertUnwindSafe(|| work(open))) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(sled::Error::Io(error))) => Err(io_failed(doing, &error)),
            Ok(Err(error)) => Err(StoreError::Damaged {
                why: error.to_string(),
            }),
            Err(_panic) => Err(StoreError::Damaged {
                why: format!("sled panicked while {doing}"),
            }),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.with("reading", |open| open.of(key).get(key))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Sets or removes `key`; says what pair was there before.
    pub(super) fn change(&self, key: &[u8], value: Option<&[u8]>) -> Result<Content, StoreError> {
        let bytes = key.len() + value.map_or(0, <[u8]>::len);
        let before = self.with("writing", |open| {
            let before = match value {
                Some(value) => open.of(key).insert(key, value)?,
                None => open.of(key).remove(key)?,
            };
            // What goes was read with its page.
            open.evictors
                .touched(bytes + before.as_ref().map_or(0, |before| before.len()))?;
            Ok(before)
        })?;
        if self.unswept.fetch_add(bytes, Ordering::Relaxed) + bytes >= GARBAGE_BYTES {
            self.unswept.store(0, Ordering::Relaxed);
            sweep();
        }
        Ok(before.map_or_else(Content::default, |value| Content::of(key, &value)))
    }

    pub(super) fn range(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        let mut visit_all = |pairs: sled::Iter, evictors: &Evictors| {
            for pair in pairs {
                let (key, value) = pair?;
                if is_ballast(&key) {
                    continue;
                }
                evictors.touched(key.len() + value.len())?;
                if let ControlFlow::Break(()) = visit(&key, &value) {
                    break;
                }
            }
            Ok(())
        };
        self.with("reading", |open| match to {
            Some(to) if from >= to => Ok(()),
            Some(to) => visit_all(open.db.range(from..to), &open.evictors),
            None => visit_all(open.db.range(from..), &open.evictors),
        })
    }

    pub(super) fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, StoreError> {
        if from >= to {
            return Ok(None);
        }
        let pair = self.with("reading", |open| {
            last::last(from, to, |start| {
                let pairs = open.db.range(start..to);
                pairs.filter(|pair| !matches!(pair, Ok((key, _)) if is_ballast(key)))
            })
        })?;
        Ok(pair.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    /// Copies the store's own pairs to `to`.
    pub(super) fn copy_system(&self, to: &Generation) -> Result<(), StoreError> {
        self.with("copying", |open| {
            for pair in &open.system {
                let (key, value) = pair?;
                to.open
                    .iter()
                    .try_for_each(|to| to.system.insert(&key, &value).map(drop))?;
            }
            Ok(())
        })
    }

    /// Empties sled's buffers into the kernel. A failure is fatal.
    pub(super) fn flush(&self, poison: &Poison) -> Result<(), StoreError> {
        let flushed = self.with("syncing", |open| open.db.flush().map(drop));
        // Now no thread of sled's is at work, which would keep everything.
        sweep();
        flushed.map_err(|error| poison.set(error))
    }

    /// Makes what was flushed durable. A failure is fatal.
    pub(super) fn sync(&self, poison: &Poison) -> Result<(), StoreError> {
        let synced = self.blobs.sync().and_then(|()| self.file.sync_data());
        synced.map_err(|error| poison.set(io_failed("syncing", &error)))
    }

    /// Where sled's log ends, without what is still in its buffers.
    pub(super) fn position(&self) -> u64 {
        let stable = self.open.as_ref().map(|open| {
            // Hidden, but sled's version is pinned.
            open.db.context.pagecache.log.stable_offset()
        });
        u64::try_from(stable.unwrap_or(0).saturating_add(1)).unwrap_or(0)
    }

    /// What was written since it was opened: sled's log, and the blobs that were synced.
    pub(super) fn bytes_written(&self) -> u64 {
        let log = self.position().saturating_sub(self.began.0);
        let blobs = self.blobs.bytes_synced().saturating_sub(self.began.1);
        log.saturating_add(blobs)
    }

    pub(super) fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        self.with("measuring", |open| open.db.size_on_disk())
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // sled unwraps the result of its last sync.
        let open = self.open.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(open)));
    }
}

/// Small pages, of which at least one is in each part of sled's cache.
///
/// The cache has 256 parts, by the page's number, each with as much of the room. A part looks for
/// what to let go of only at every 64th access to it, and then keeps the last page whatever it
/// takes. So what is written once and not looked at again stays: 256 pages and more, of 17 values
/// each, whatever the cache may hold. These are pages to be the last: when as much as the cache may
/// hold has gone through it, they are read 64 times each.
///
/// ```text
/// tree "evictors", key: number u32 BE, no value
/// ```
struct Evictors {
    tree: sled::Tree,
    cache_bytes: usize,
    /// Bytes that have been read and written since they were read.
    touched: AtomicUsize,
}

/// A leaf holds 8 or 9 of those that are put in order: so it has one of every 8.
const EVICTORS: u32 = 2304;
const EVICTORS_APART: usize = 8;
/// So many accesses make a part of the cache look.
const ACCESSES: usize = 65;

impl Evictors {
    fn open(db: &sled::Db, cache_bytes: u64) -> Result<Evictors, sled::Error> {
        let tree = db.open_tree("evictors")?;
        let last = (EVICTORS - 1).to_be_bytes();
        if !tree.contains_key(last)? {
            for number in 0..EVICTORS {
                tree.insert(number.to_be_bytes(), &[])?;
            }
        }
        Ok(Evictors {
            tree,
            cache_bytes: usize::try_from(cache_bytes).unwrap_or(usize::MAX),
            touched: AtomicUsize::new(0),
        })
    }

    fn touched(&self, bytes: usize) -> Result<(), sled::Error> {
        if self.touched.fetch_add(bytes, Ordering::Relaxed) + bytes < self.cache_bytes {
            return Ok(());
        }
        self.touched.store(0, Ordering::Relaxed);
        for number in (0..EVICTORS).step_by(EVICTORS_APART) {
            for _ in 0..ACCESSES {
                self.tree.get(number.to_be_bytes())?;
            }
        }
        sweep();
        Ok(())
    }
}

/// Empty pairs behind everything that a table will ever hold. sled cuts a full leaf of 17 in the
/// middle, so that what is always appended at the end is written again with the half that it falls
/// into, twice on average. A leaf that ends in seven of these is cut between the ninth and the
/// tenth value, and of all that was just written only one value is written a third time.
///
/// ```text
/// table: u8, 16 x ff, number: u8
/// ```
fn ballast(of: u8, number: u8) -> [u8; BALLAST_BYTES] {
    let mut key = [0xff; BALLAST_BYTES];
    let [first, .., last] = &mut key;
    (*first, *last) = (of, number);
    key
}

fn is_ballast(key: &[u8]) -> bool {
    key.len() == BALLAST_BYTES
        && key
            .get(1..BALLAST_BYTES - 1)
            .is_some_and(|middle| middle.iter().all(|byte| *byte == 0xff))
}

/// Only in a fresh tree: the pairs must come to lie seven to a leaf. The later table comes first,
/// as the other's end up to the left of it.
fn lay_ballast(db: &sled::Db) -> Result<(), sled::Error> {
    for of in [table::LOG, table::CHECKPOINT] {
        for number in 0..17 {
            db.insert(ballast(of, number), &[])?;
        }
        // The first leaf has nine of them, and two are too many.
        for number in 0..2 {
            db.remove(ballast(of, number))?;
        }
    }
    Ok(())
}

/// Frees what sled has done with, pages and its buffers of 512 KiB. By itself each thread keeps 64
/// such things before it gives any away, however large they are: tens of MiB.
fn sweep() {
    // What is thrown away in one epoch is freed in the next but one.
    for _ in 0..3 {
        crossbeam::epoch::pin().flush();
    }
}

/// All that is there.
struct Read {
    open: Trees,
    content: Content,
    /// Something is whole, and sealed in a manner that this program does not know.
    is_foreign: bool,
}

fn read_all(config: &sled::Config, cache_bytes: u64) -> Result<Read, sled::Error> {
    let db = config.open()?;
    let system = db.open_tree(SYSTEM_TREE)?;
    // Older stores have one tree for everything.
    for pair in db.range([table::SYSTEM]..[table::SYSTEM + 1]) {
        let (key, value) = pair?;
        system.insert(&key, value)?;
        db.remove(key)?;
    }
    if db.is_empty() {
        lay_ballast(&db)?;
    }
    let evictors = Evictors::open(&db, cache_bytes)?;
    let open = Trees {
        db,
        system,
        evictors,
    };
    let mut foreign = !finish_journal(&open)?;
    let mut content = Content::default();
    for pair in open.db.iter().chain(open.system.iter()) {
        let (key, value) = pair?;
        if is_ballast(&key) {
            continue;
        }
        content.add(Content::of(&key, &value));
        foreign |= is_foreign(&value);
        open.evictors.touched(key.len() + value.len())?;
    }
    Ok(Read {
        open,
        content,
        is_foreign: foreign,
    })
}

/// Carries out the journal that a crash left behind. False when that was written in a manner that
/// this program does not know: then it stays.
fn finish_journal(open: &Trees) -> Result<bool, sled::Error> {
    let Some(value) = open.system.get(JOURNAL_KEY)? else {
        return Ok(true);
    };
    let unreadable = || std::io::Error::new(ErrorKind::InvalidData, "its journal is damaged");
    let sealed = match check(&value, 0) {
        Ok(sealed) => sealed,
        Err(Damage::Version(_) | Damage::Flags(_)) => return Ok(false),
        Err(_) => return Err(unreadable().into()),
    };
    let mut unsealer = Unsealer::default();
    let payload = unsealer.payload(sealed).map_err(|_| unreadable())?;
    for (key, value) in journal::read(&payload).ok_or_else(unreadable)? {
        match value {
            Some(value) => open.of(key).insert(key, value)?,
            None => open.of(key).remove(key)?,
        };
    }
    open.system.remove(JOURNAL_KEY)?;
    Ok(true)
}

fn classify(home: &Path, error: &sled::Error) -> Failure {
    match error {
        sled::Error::Io(error) => match error.kind() {
            // Not `NotFound` of the directory, which has just been made: a blob is missing.
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::NotFound => {
                Failure::Damaged(error.to_string())
            }
            _ if error.raw_os_error() == Some(EIO) => Failure::Damaged(error.to_string()),
            _ => Failure::Refused(unusable(home, error)),
        },
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => Failure::Damaged(error.to_string()),
    }
}

/// sled keeps the kind of an error that one of its threads had, and loses its number.
pub(super) fn io_failed(doing: &'static str, error: &std::io::Error) -> StoreError {
    if is_full(error) {
        return StoreError::Full { doing };
    }
    if error.kind() == ErrorKind::ReadOnlyFilesystem {
        return StoreError::ReadOnly { doing };
    }
    StoreError::Io {
        doing,
        why: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_operating_system_are_told_apart_even_when_sled_has_copied_them() {
        use nix::errno::Errno;
        let full = StoreError::Full { doing: "writing" };
        let read_only = StoreError::ReadOnly { doing: "writing" };
        for (errno, expected) in [
            (Errno::ENOSPC, Some(&full)),
            (Errno::EDQUOT, Some(&full)),
            (Errno::EFBIG, Some(&full)),
            (Errno::EROFS, Some(&read_only)),
            (Errno::EIO, None),
        ] {
            let error = std::io::Error::from(errno);
            let copied = match sled::Error::Io(std::io::Error::from(errno)).clone() {
                sled::Error::Io(error) => error,
                other => unreachable!("{other}"),
            };
            for error in [error, copied] {
                let ours = io_failed("writing", &error);
                match expected {
                    Some(expected) => assert_eq!(&ours, expected),
                    None => assert!(matches!(ours, StoreError::Io { .. }), "{ours}"),
                }
            }
        }
    }
}
