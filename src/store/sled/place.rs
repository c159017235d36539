//! The state directory: its lock, its generations, its quarantine.
//!
//! ```text
//! <dir>/lock            locked as long as the store is open; holds the owner's process number
//! <dir>/store/          generation 0
//! <dir>/store.<n>/      generation n, made by compacting the one before
//! <dir>/store.<n>/whole an empty file: this generation is complete
//! <dir>/quarantine/<n>  a generation that could not be read, with a file `why`
//! ```
//!
//! Promises: the generation in force is the highest that has the file `whole`, else `store`. The
//! file is made once everything of the generation is durable, so that a crash at any moment leaves
//! either the old one or the new one in force, each of them complete; what is not in force is
//! removed at the next open.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::store::StoreError;

/// How long a lock that this process itself gives up may take to become free.
const UNLOCK_WAIT: Duration = Duration::from_secs(2);
/// Older quarantines are deleted.
pub(super) const QUARANTINES_MAX: usize = 4;
/// So much must be possible to write before a store may be called damaged: sled writes a segment
/// or two when it opens, and what it says when it cannot is not always that.
const PROBE_BYTES: usize = 2 << 20;

const FIRST: &str = "store";
const WHOLE: &str = "whole";

/// A generation and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) number: u64,
    pub(super) path: PathBuf,
}

impl Home {
    fn new(dir: &Path, number: u64) -> Home {
        let path = match number {
            0 => dir.join(FIRST),
            number => dir.join(format!("{FIRST}.{number}")),
        };
        Home { number, path }
    }

    /// The generation that begins when there is none, or none that can be read.
    pub(super) fn first(dir: &Path) -> Home {
        Home::new(dir, 0)
    }

    /// The generation in force.
    pub(super) fn current(dir: &Path) -> Result<Home, StoreError> {
        let homes = generations(dir)?.into_iter();
        let whole = homes.filter(|home| home.path.join(WHOLE).exists());
        let newest = whole.max_by_key(|home| home.number);
        Ok(newest.unwrap_or_else(|| Home::first(dir)))
    }

    /// Where the next generation goes; nothing is there.
    pub(super) fn next(&self, dir: &Path) -> std::io::Result<Home> {
        let next = Home::new(dir, self.number.saturating_add(1));
        match fs::remove_dir_all(&next.path) {
            Ok(()) => Ok(next),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(next),
            Err(error) => Err(error),
        }
    }

    /// Makes the directories durable: `dir`'s, the generation's and its blobs'.
    pub(super) fn sync(&self, dir: &Path) -> std::io::Result<()> {
        for path in [dir, &self.path, &self.path.join("blobs")] {
            File::open(path)?.sync_all()?;
        }
        Ok(())
    }

    /// Puts this generation, all of which is durable, in force.
    pub(super) fn set_whole(&self) -> std::io::Result<()> {
        File::create(self.path.join(WHOLE))?.sync_all()?;
        File::open(&self.path)?.sync_all()
    }

    /// Removes every other generation. What cannot be removed is in nobody's way: the one in force
    /// is the highest, and a higher one that is not whole is removed before it is made.
    pub(super) fn remove_others(&self, dir: &Path) -> Result<(), StoreError> {
        for home in generations(dir)? {
            if home != *self {
                let _ = fs::remove_dir_all(home.path);
            }
        }
        Ok(())
    }
}

fn generations(dir: &Path) -> Result<Vec<Home>, StoreError> {
    let entries = fs::read_dir(dir).map_err(|error| unusable(dir, &error))?;
    let number = |name: &str| match name.strip_prefix(FIRST)? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse().ok(),
    };
    let numbers = entries.filter_map(|entry| number(entry.ok()?.file_name().to_str()?));
    Ok(numbers.map(|number| Home::new(dir, number)).collect())
}

/// Locks the state directory for this process.
pub(super) fn lock(dir: &Path) -> Result<Flock<File>, StoreError> {
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

/// Waits until sled's own lock is free and says how large its file is. Our lock is held already,
/// so that a lock that stays can only be another program's.
pub(super) fn wait_for_lock(home: &Path) -> Result<u64, StoreError> {
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

/// Whether an error says that there is no room, of whatever kind.
pub(super) fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

/// What an error at open means for a person.
pub(super) fn unusable(path: &Path, error: &std::io::Error) -> StoreError {
    if is_full(error) {
        return StoreError::Full {
            doing: "opening the store",
        };
    }
    StoreError::Unusable {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

/// Whether the directory can be written to at all: a full or read-only disk makes a sound store
/// look damaged.
pub(super) fn probe(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join("probe");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0x55; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written
        .and(removed)
        .map_err(|error| unusable(&path, &error))
}

/// Removes the snapshots that sled had only begun to write when it was killed or the disk was
/// full: it would take them for damaged ones.
pub(super) fn remove_half_snapshots(home: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(home).map_err(|error| unusable(home, &error))? {
        let entry = entry.map_err(|error| unusable(home, &error))?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path()).map_err(|error| unusable(home, &error))?;
        }
    }
    Ok(())
}

/// Renames `snap.*` to `aside.snap.*`; whether there was any.
pub(super) fn set_snapshots_aside(home: &Path) -> Result<bool, StoreError> {
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

/// Moves the unreadable generation to the next free number and forgets the oldest ones.
pub(super) fn quarantine(dir: &Path, home: &Path) -> Result<PathBuf, StoreError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_whole_generation_is_in_force_and_the_others_go() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(Home::current(dir).unwrap(), Home::first(dir));
        for name in [
            "store",
            "store.1",
            "store.2",
            "store.10",
            "store.x",
            "quarantine",
        ] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        assert_eq!(Home::current(dir).unwrap(), Home::first(dir));
        Home::new(dir, 1).set_whole().unwrap();
        Home::new(dir, 2).set_whole().unwrap();
        let current = Home::current(dir).unwrap();
        assert_eq!(current, Home::new(dir, 2));
        fs::create_dir(dir.join("store.3")).unwrap();
        assert_eq!(current.next(dir).unwrap(), Home::new(dir, 3));
        current.remove_others(dir).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["quarantine", "store.2", "store.x"]);
    }
}
