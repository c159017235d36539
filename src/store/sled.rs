//! The store on sled 0.34. The only file that names sled; `docs/decisions/0001-sled.md` has the
//! facts about it that are answered here.
//!
//! Promises: [`open`] returns in bounded time, whatever lies on the disk; it never panics and
//! sets damaged data aside instead of stopping. [`Store::sync`] is a barrier against power loss.
//!
//! ```text
//! <dir>/lock            locked as long as the store is open; holds the owner's process number
//! <dir>/store/          sled's own: conf, db, blobs/, snap.*
//! <dir>/mark            how far the store had come at least, see below
//! <dir>/quarantine/<n>  what used to be <dir>/store when it could not be read, with a file `why`
//! ```
//!
//! A batch of one change is one sled insert. A larger one is written first as a whole into one
//! journal value, then change by change, then the journal is removed; a journal that is found at
//! open is carried out again. sled recovers a prefix of its log, so that this is atomic, and it
//! is five times as fast as sled's own batches, which go to the disk twice each.
//!
//! ```text
//! journal, key 00 'J', sealed (see `seal`), kind 'J', no head, payload per change:
//!   0 put | 1 delete : u8,  key length: u32 LE,  key,  when put: value length: u32 LE, value
//! identity, key 00 'I', sealed, kind 'I', head: 8 random bytes, no payload
//! progress, key 00 'P', sealed, kind 'P', head: a counter, u64 LE, no payload
//! <dir>/mark: the same sealed value
//! ```
//!
//! The counter grows at open and with every [`MARK_BYTES`] written; it is synced inside of sled
//! first and in the mark afterwards. A store that is behind its mark has silently gone back to an
//! earlier state: it gets a new identity, so that nothing new goes out under an old one's ids.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{ErrorKind, Read, Seek, Write};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::seal::{Sealer, Unsealer, check};
use super::{Pair, Store, StoreError, Visit, WriteBatch, table};

/// sled moves live pages out of half-empty segments only in this thread of its own, so it cannot
/// be switched off; it does nothing when nothing was written.
const HOUSEKEEPING_MS: u64 = 10_000;
/// sled reuses a segment of 512 KiB once its content has moved to segments that are *written*,
/// not synced. A sync at least this often keeps the old content safe until the new one is: sled
/// writes up to seven bytes to its log for each of ours.
const UNSYNCED_BYTES_MAX: u64 = 64 << 10;
/// The time limit of opening grows by a second for so many bytes.
const SCAN_BYTES_PER_SECOND: u64 = 4 << 20;
/// How long a lock that this process itself gives up may take to become free.
const UNLOCK_WAIT: Duration = Duration::from_secs(2);
/// Older quarantines are deleted.
const QUARANTINES_MAX: usize = 4;

/// The resolution of a file's times; generous.
const CLOCK_TICK: Duration = Duration::from_millis(50);

/// The mark is set anew when so much was written.
const MARK_BYTES: u64 = 1 << 20;

const JOURNAL_KEY: &[u8] = &[table::SYSTEM, b'J'];
const IDENTITY_KEY: &[u8] = &[table::SYSTEM, b'I'];
const PROGRESS_KEY: &[u8] = &[table::SYSTEM, b'P'];
const EIO: i32 = 5;

/// How the store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// sled's page cache, in bytes. Real memory is a multiple of it.
    pub cache_bytes: u64,
    /// The time limit for opening and reading everything once, for an empty store; it is longer
    /// by a second for every 4 MiB on disk.
    pub open_timeout: Duration,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            cache_bytes: 3 << 20,
            open_timeout: Duration::from_secs(20),
        }
    }
}

/// Something that happened while opening and that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// sled's snapshot could not be used and was set aside; nothing is lost.
    SnapshotSetAside {
        /// What failed with it.
        why: String,
    },
    /// The store could not be read. It was moved away and a fresh one begun.
    Quarantined {
        /// Where the old one is now.
        to: PathBuf,
        /// What failed.
        why: String,
    },
    /// A thread hangs inside sled and cannot be ended. It holds back the release of memory and of
    /// disk space for all of sled, so the process should be started anew soon.
    RestartAdvised,
    /// The store was found empty or in an earlier state than it had been synced in: its files are
    /// damaged in a way that sled does not notice, and an unknown part of the content is lost. A
    /// new identity was drawn.
    IdentityRenewed,
}

/// An open store.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The random identity of this store, the same for as long as it lives.
    pub id: u64,
    /// What happened on the way.
    pub events: Vec<StoreEvent>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Opened")
            .field("id", &self.id)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// Opens the store below `dir`, or makes one, and reads all of it once.
///
/// # Errors
///
/// [`StoreError::Locked`], [`StoreError::Unusable`] and [`StoreError::Full`] are for a person to
/// solve; nothing was moved then. [`StoreError::Damaged`] when even a fresh store fails, which a
/// new process may cure.
pub fn open(dir: &Path, options: &StoreOptions) -> Result<Opened, StoreError> {
    fs::create_dir_all(dir).map_err(|error| unusable(dir, &error))?;
    let lock = lock(dir)?;
    let home = dir.join("store");
    let mut events = Vec::new();
    let existed = home.join("conf").exists();
    let db = match open_whole(&home, options) {
        Ok(db) => db,
        Err(Failure::Refused(error)) => return Err(error),
        Err(failure) => reopen(dir, &home, options, failure, &mut events)?,
    };
    let file = File::open(home.join("db")).map_err(|error| unusable(&home, &error))?;
    for path in [dir, &home, &home.join("blobs")] {
        let synced = File::open(path).and_then(|dir| dir.sync_all());
        synced.map_err(|error| unusable(path, &error))?;
    }
    let store = SledStore {
        db: Some(db),
        file,
        blobs: home.join("blobs"),
        blobs_synced: Mutex::default(),
        unsynced: AtomicU64::new(0),
        unmarked: AtomicU64::new(0),
        mark: dir.join("mark"),
        writer: Mutex::default(),
        poison: OnceLock::new(),
        _lock: lock,
    };
    let emptied = events
        .iter()
        .any(|event| matches!(event, StoreEvent::Quarantined { .. }));
    let went_back = store.went_back()?;
    let id = store.identity(existed && !emptied, went_back, &mut events)?;
    store.set_mark()?;
    Ok(Opened {
        store: Arc::new(store),
        id,
        events,
    })
}

/// Once more without the snapshot, then with a fresh directory.
fn reopen(
    dir: &Path,
    home: &Path,
    options: &StoreOptions,
    first: Failure,
    events: &mut Vec<StoreEvent>,
) -> Result<sled::Db, StoreError> {
    let mut failure = first;
    let why = match &failure {
        Failure::Damaged(why) if set_snapshots_aside(home)? => Some(why.clone()),
        Failure::Damaged(_) | Failure::Hung | Failure::Refused(_) => None,
    };
    if let Some(why) = why {
        events.push(StoreEvent::SnapshotSetAside { why });
        match open_whole(home, options) {
            Ok(db) => return Ok(db),
            Err(Failure::Refused(error)) => return Err(error),
            Err(next) => failure = next,
        }
    }
    let why = match failure {
        Failure::Refused(error) => return Err(error),
        Failure::Damaged(why) => why,
        Failure::Hung => {
            events.push(StoreEvent::RestartAdvised);
            "reading it did not end within the time limit".to_owned()
        }
    };
    let to = quarantine(dir, home)?;
    // For whoever looks into it later. Without it nothing is lost.
    let _ = fs::write(to.join("why"), &why);
    events.push(StoreEvent::Quarantined { to, why });
    open_whole(home, options).map_err(|failure| match failure {
        Failure::Refused(error) => error,
        Failure::Damaged(why) => StoreError::Damaged { why },
        Failure::Hung => StoreError::Damaged {
            why: "even a fresh store does not open in time".to_owned(),
        },
    })
}

fn lock(dir: &Path) -> Result<Flock<File>, StoreError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| unusable(&path, &error))?;
    let mut lock = match try_lock(file) {
        Ok(lock) => lock,
        Err((file, None)) => {
            let mut text = String::new();
            let read = (&file).take(20).read_to_string(&mut text);
            let number: Option<u32> = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(StoreError::Locked {
                path: dir.to_owned(),
                holder: number.map_or_else(
                    || "another process".to_owned(),
                    |number| format!("process {number}"),
                ),
            });
        }
        Err((_, Some(error))) => return Err(unusable(&path, &error)),
    };
    let written = lock
        .set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(|error| unusable(&path, &error))?;
    Ok(lock)
}

/// Locks a file, or gives it back: without an error when somebody else has the lock.
fn try_lock(file: File) -> Result<Flock<File>, (File, Option<std::io::Error>)> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, errno)| match errno {
        Errno::EWOULDBLOCK => (file, None),
        errno => (file, Some(errno.into())),
    })
}

enum Failure {
    /// For a person to solve; the data may be fine.
    Refused(StoreError),
    /// The data cannot be read.
    Damaged(String),
    /// The helper thread is still at it, and keeps sled's lock.
    Hung,
}

/// Opens sled and reads every pair, in a thread that can be left behind.
fn open_whole(home: &Path, options: &StoreOptions) -> Result<sled::Db, Failure> {
    fs::create_dir_all(home).map_err(|error| Failure::Refused(unusable(home, &error)))?;
    let bytes = wait_for_lock(home).map_err(Failure::Refused)?;
    let limit = options.open_timeout + Duration::from_secs(bytes / SCAN_BYTES_PER_SECOND);
    let config = sled::Config::new()
        .path(home)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(Some(HOUSEKEEPING_MS));
    let (send, receive) = crossbeam::channel::bounded(1);
    let spawned = std::thread::Builder::new()
        .name("store-open".to_owned())
        .spawn(move || {
            let done = catch_unwind(AssertUnwindSafe(|| {
                let db = config.open()?;
                for pair in db.iter() {
                    pair?;
                }
                finish_journal(&db)?;
                Ok(db)
            }));
            // Nobody listens any more when this came too late.
            let _ = send.try_send(done);
        });
    spawned.map_err(|error| Failure::Refused(unusable(home, &error)))?;
    match receive.recv_timeout(limit) {
        Ok(Ok(Ok(db))) => Ok(db),
        Ok(Ok(Err(error))) => Err(classify(home, &error)),
        Ok(Err(_panic)) => Err(Failure::Damaged("sled panicked over it".to_owned())),
        Err(_timeout) => Err(Failure::Hung),
    }
}

/// Waits until sled's own lock is free and says how large its file is. Our lock is held already,
/// so that a lock that stays can only be another program's.
fn wait_for_lock(home: &Path) -> Result<u64, StoreError> {
    let file = match File::open(home.join("db")) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(unusable(&home.join("db"), &error)),
    };
    let deadline = Instant::now() + UNLOCK_WAIT;
    let mut file = file;
    let lock = loop {
        file = match try_lock(file) {
            Ok(lock) => break lock,
            Err((_, Some(error))) => return Err(unusable(home, &error)),
            Err((file, None)) if Instant::now() < deadline => file,
            Err((_, None)) => {
                return Err(StoreError::Locked {
                    path: home.to_owned(),
                    holder: "another process".to_owned(),
                });
            }
        };
        std::thread::sleep(Duration::from_millis(5));
    };
    Ok(lock.metadata().map_or(0, |data| data.len()))
}

fn classify(home: &Path, error: &sled::Error) -> Failure {
    match error {
        sled::Error::Io(error) => match error.kind() {
            // Not `NotFound` of the directory, which has just been made: a blob is missing.
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::NotFound => {
                Failure::Damaged(error.to_string())
            }
            _ if error.raw_os_error() == Some(EIO) => Failure::Damaged(error.to_string()),
            ErrorKind::StorageFull => Failure::Refused(StoreError::Full {
                doing: "opening the store",
            }),
            _ => Failure::Refused(unusable(home, error)),
        },
        sled::Error::CollectionNotFound(_)
        | sled::Error::Unsupported(_)
        | sled::Error::ReportableBug(_)
        | sled::Error::Corruption { .. } => Failure::Damaged(error.to_string()),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> StoreError {
    if error.kind() == ErrorKind::StorageFull {
        return StoreError::Full {
            doing: "opening the store",
        };
    }
    StoreError::Unusable {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

/// Renames `snap.*` to `aside.snap.*`; whether there was any.
fn set_snapshots_aside(home: &Path) -> Result<bool, StoreError> {
    let mut any = false;
    for entry in fs::read_dir(home).map_err(|error| unusable(home, &error))? {
        let entry = entry.map_err(|error| unusable(home, &error))?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with("snap.")) else {
            continue;
        };
        let moved = fs::rename(entry.path(), home.join(format!("aside.{name}")));
        moved.map_err(|error| unusable(home, &error))?;
        any = true;
    }
    Ok(any)
}

/// Moves the unreadable store to the next free number and forgets the oldest ones.
fn quarantine(dir: &Path, home: &Path) -> Result<PathBuf, StoreError> {
    let ward = dir.join("quarantine");
    fs::create_dir_all(&ward).map_err(|error| unusable(&ward, &error))?;
    let entries = fs::read_dir(&ward).map_err(|error| unusable(&ward, &error))?;
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let number = numbers.last().map_or(1, |last| last.saturating_add(1));
    let to = ward.join(number.to_string());
    fs::rename(home, &to).map_err(|error| unusable(home, &error))?;
    // It speaks of the store that is gone; without it the fresh one starts to count anew.
    match fs::remove_file(dir.join("mark")) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(unusable(dir, &error)),
        Ok(()) | Err(_) => {}
    }
    numbers.push(number);
    let surplus = numbers.len().saturating_sub(QUARANTINES_MAX);
    for old in numbers.iter().take(surplus) {
        // What cannot be deleted is in nobody's way.
        let _ = fs::remove_dir_all(ward.join(old.to_string()));
    }
    Ok(to)
}

struct SledStore {
    /// `None` only while being dropped.
    db: Option<sled::Db>,
    /// A handle of our own on sled's file, for fdatasync.
    file: File,
    blobs: PathBuf,
    blobs_synced: Mutex<BlobsSynced>,
    unsynced: AtomicU64,
    unmarked: AtomicU64,
    mark: PathBuf,
    writer: Mutex<Sealer>,
    poison: OnceLock<String>,
    _lock: Flock<File>,
}

/// sled writes values and pages beyond 128 KiB to files of their own and never syncs these.
/// They are numbered upwards and never changed.
#[derive(Debug, Default)]
struct BlobsSynced {
    /// The directory's time when it was last looked at, and since when it is that.
    seen: Option<(SystemTime, Instant)>,
    /// The directory's time when certainly everything in it was synced.
    settled: Option<SystemTime>,
    newest: i64,
}

impl SledStore {
    /// Runs `work` on sled; an error or a panic of sled becomes ours. Poisons when `fatal`.
    fn with<T>(
        &self,
        doing: &'static str,
        fatal: bool,
        work: impl FnOnce(&sled::Db) -> Result<T, sled::Error>,
    ) -> Result<T, StoreError> {
        self.usable()?;
        let Some(db) = &self.db else {
            return Err(self.poisoned("it is closed"));
        };
        let error = match catch_unwind(AssertUnwindSafe(|| work(db))) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(sled::Error::Io(error))) => io_failed(doing, &error),
            Ok(Err(error)) => StoreError::Damaged {
                why: error.to_string(),
            },
            Err(_panic) => StoreError::Damaged {
                why: format!("sled panicked while {doing}"),
            },
        };
        if fatal {
            self.poison.get_or_init(|| error.to_string());
        }
        Err(error)
    }

    fn usable(&self) -> Result<(), StoreError> {
        match self.poison.get() {
            Some(why) => Err(self.poisoned(why)),
            None => Ok(()),
        }
    }

    fn poisoned(&self, why: &str) -> StoreError {
        StoreError::Poisoned {
            why: why.to_owned(),
        }
    }

    /// The counter in a sealed value; 0 when there is none.
    fn counter(value: Option<&[u8]>) -> u64 {
        let sealed = value.and_then(|value| check(value, 8).ok());
        let counter = sealed.and_then(|sealed| sealed.head.first_chunk::<8>());
        counter.map_or(0, |counter| u64::from_le_bytes(*counter))
    }

    fn went_back(&self) -> Result<bool, StoreError> {
        let marked = match fs::read(&self.mark) {
            Ok(value) => value,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(unusable(&self.mark, &error)),
        };
        let reached = self.get(PROGRESS_KEY)?;
        Ok(SledStore::counter(reached.as_deref()) < SledStore::counter(Some(&marked)))
    }

    /// Counts on, durably, first in sled and then in the mark.
    fn set_mark(&self) -> Result<(), StoreError> {
        self.unmarked.store(0, Ordering::Relaxed);
        let reached = SledStore::counter(self.get(PROGRESS_KEY)?.as_deref());
        let counter = reached.saturating_add(1).to_le_bytes();
        let value = Sealer::default()
            .seal(b'P', &counter, &[])
            .unwrap_or_default();
        self.with("writing", true, |db| {
            db.insert(PROGRESS_KEY, value.as_slice())?;
            db.flush()
        })?;
        self.sync_data()?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let marked = options.open(&self.mark).and_then(|mut mark| {
            mark.write_all(&value)?;
            mark.sync_data()
        });
        marked.map_err(|error| self.lost(&error))
    }

    fn identity(
        &self,
        is_old: bool,
        went_back: bool,
        events: &mut Vec<StoreEvent>,
    ) -> Result<u64, StoreError> {
        let value = self.get(IDENTITY_KEY)?;
        let sealed = value.as_ref().and_then(|value| check(value, 8).ok());
        let known = sealed.and_then(|sealed| sealed.head.first_chunk::<8>());
        if let Some(id) = known.filter(|_| !went_back || !is_old) {
            return Ok(u64::from_le_bytes(*id));
        }
        if is_old {
            events.push(StoreEvent::IdentityRenewed);
        }
        // The hasher's keys are the operating system's randomness.
        let id = std::hash::RandomState::new().build_hasher().finish();
        let value = Sealer::default()
            .seal(b'I', &id.to_le_bytes(), &[])
            .map_err(|error| StoreError::Damaged {
                why: error.to_string(),
            })?;
        let mut batch = WriteBatch::new();
        batch.put(IDENTITY_KEY, value);
        self.write(batch)?;
        self.sync()?;
        Ok(id)
    }

    fn sync_data(&self) -> Result<(), StoreError> {
        self.unsynced.store(0, Ordering::Relaxed);
        self.file.sync_data().map_err(|error| self.lost(&error))
    }

    fn sync_blobs(&self) -> Result<(), StoreError> {
        let changed = fs::metadata(&self.blobs).and_then(|data| data.modified());
        let changed = changed.map_err(|error| self.lost(&error))?;
        let mut synced = self
            .blobs_synced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let since = match synced.seen {
            Some((seen, since)) if seen == changed => since,
            Some(_) | None => Instant::now(),
        };
        synced.seen = Some((changed, since));
        if synced.settled == Some(changed) {
            return Ok(());
        }
        // A blob made within the same tick of the file system's clock does not change the time.
        let settled = since.elapsed() > CLOCK_TICK;
        let mut newest = synced.newest;
        for entry in fs::read_dir(&self.blobs).map_err(|error| self.lost(&error))? {
            let entry = entry.map_err(|error| self.lost(&error))?;
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(number) = number.filter(|number: &i64| *number > synced.newest) else {
                continue;
            };
            match File::open(entry.path()).and_then(|file| file.sync_data()) {
                Ok(()) => newest = newest.max(number),
                // sled's housekeeping has just removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(self.lost(&error)),
            }
        }
        if newest > synced.newest {
            let dir = File::open(&self.blobs).and_then(|dir| dir.sync_all());
            dir.map_err(|error| self.lost(&error))?;
        }
        synced.newest = newest;
        synced.settled = settled.then_some(changed);
        Ok(())
    }

    /// A sync failed: nobody knows what is on the disk.
    fn lost(&self, error: &std::io::Error) -> StoreError {
        let error = io_failed("syncing", error);
        self.poison.get_or_init(|| error.to_string());
        error
    }
}

fn apply(db: &sled::Db, key: &[u8], value: Option<&[u8]>) -> Result<(), sled::Error> {
    match value {
        Some(value) => db.insert(key, value)?,
        None => db.remove(key)?,
    };
    Ok(())
}

/// Carries out the journal that a crash left behind.
fn finish_journal(db: &sled::Db) -> Result<(), sled::Error> {
    let Some(value) = db.get(JOURNAL_KEY)? else {
        return Ok(());
    };
    let unreadable = || std::io::Error::new(ErrorKind::InvalidData, "its journal is damaged");
    let sealed = check(&value, 0).map_err(|_| unreadable())?;
    let mut unsealer = Unsealer::default();
    let payload = unsealer.payload(sealed).map_err(|_| unreadable())?;
    for (key, value) in read_journal(&payload).ok_or_else(unreadable)? {
        apply(db, key, value)?;
    }
    db.remove(JOURNAL_KEY).map(drop)
}

fn io_failed(doing: &'static str, error: &std::io::Error) -> StoreError {
    if error.kind() == ErrorKind::StorageFull {
        StoreError::Full { doing }
    } else {
        StoreError::Io {
            doing,
            why: error.to_string(),
        }
    }
}

fn write_journal(batch: &WriteBatch) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(batch.bytes() + batch.len() * 9);
    let field = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
        out.extend_from_slice(bytes);
        Some(())
    };
    for (key, value) in batch.changes() {
        out.push(u8::from(value.is_none()));
        field(&mut out, key)?;
        if let Some(value) = value {
            field(&mut out, value)?;
        }
    }
    Some(out)
}

type Change<'a> = (&'a [u8], Option<&'a [u8]>);

fn read_journal(mut bytes: &[u8]) -> Option<Vec<Change<'_>>> {
    fn field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        *bytes = rest;
        Some(field)
    }
    let mut changes = Vec::new();
    while let Some((deletes, rest)) = bytes.split_first() {
        bytes = rest;
        let key = field(&mut bytes)?;
        let value = match deletes {
            0 => Some(field(&mut bytes)?),
            1 => None,
            _ => return None,
        };
        changes.push((key, value));
    }
    Some(changes)
}

impl Store for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.with("reading", false, |db| db.get(key))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        let mut sealer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = u64::try_from(batch.bytes()).unwrap_or(u64::MAX);
        self.unmarked.fetch_add(bytes, Ordering::Relaxed);
        let unsynced = self.unsynced.fetch_add(bytes, Ordering::Relaxed);
        if unsynced.saturating_add(bytes) > UNSYNCED_BYTES_MAX {
            self.sync_data()?;
        }
        if batch.len() <= 1 {
            return self.with("writing", true, |db| {
                for (key, value) in batch.changes() {
                    apply(db, key, value)?;
                }
                Ok(())
            });
        }
        let journal = write_journal(&batch).and_then(|whole| sealer.seal(b'J', &[], &whole).ok());
        let journal = journal.ok_or_else(|| StoreError::Io {
            doing: "writing",
            why: format!("{} bytes are too much for one write", batch.bytes()),
        })?;
        self.with("writing", true, |db| {
            db.insert(JOURNAL_KEY, journal)?;
            for (key, value) in batch.changes() {
                apply(db, key, value)?;
            }
            db.remove(JOURNAL_KEY).map(drop)
        })
    }

    fn range(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        self.with("reading", false, |db| {
            for pair in db.range(from..to) {
                let (key, value) = pair?;
                if let ControlFlow::Break(()) = visit(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, StoreError> {
        if from >= to {
            return Ok(None);
        }
        let pair = self.with("reading", false, |db| {
            db.range(from..to).next_back().transpose()
        })?;
        Ok(pair.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn sync(&self) -> Result<(), StoreError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.with("syncing", true, |db| db.flush())?;
        self.sync_blobs()?;
        self.sync_data()?;
        if self.unmarked.load(Ordering::Relaxed) >= MARK_BYTES {
            self.set_mark()?;
        }
        Ok(())
    }

    fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        self.with("measuring", false, |db| db.size_on_disk())
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // sled unwraps the result of its last sync.
        let db = self.db.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
    }
}

#[cfg(test)]
#[path = "sled_tests.rs"]
mod tests;
