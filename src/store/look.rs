//! Looking at a store without changing it, while a daemon runs or when it does not open.
//!
//! sled writes when it opens. So the files are copied to a folder of their own, and the copy is
//! opened, in the same way in which a daemon would; the folder is removed afterwards, or by the
//! next look after a process that was killed. A copy takes as much room as the store. A copy taken
//! while the store is written to may be of no moment at all; it is taken again then, a few times,
//! until nothing was written meanwhile or until it opens.
//!
//! What does not open even so is read by [`salvage`], from where it lies.

use std::fs::{self, DirBuilder, File};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

use super::salvage::salvage;
use super::sled::{StoreEvent, StoreOptions, open};
use super::{Store, StoreError};

/// How often a copy is taken of a store that does not stand still.
const COPIES_MAX: usize = 5;
/// What is to stay free beside the copy, in bytes: sled writes some when it opens.
const SPARE_BYTES: u64 = 8 << 20;
const FOLDER: &str = "eventflux-look-";

/// Which store of a state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one in use.
    Current,
    /// The one that was set aside under this number.
    Quarantined(u64),
}

/// How a store is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As a daemon would, and where that fails by its files.
    Open,
    /// By its files at once: this also finds what sled has lost without knowing it.
    Salvage,
}

/// How a store could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// As a daemon would.
    Opened,
    /// As a daemon would, without sled's snapshot, for this reason. Nothing is lost.
    WithoutSnapshot(String),
    /// It does not open, for this reason. What is whole was looked for.
    Salvaged {
        /// Why it does not open.
        why: String,
        /// Values that are whole.
        values: u64,
        /// Values in places that could be read, but that have changed.
        damaged: u64,
        /// Whole values whose key is not known.
        unplaced: u64,
    },
}

/// A store that may be read. Writing to it changes nothing that anybody keeps.
pub struct Look {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The random identity of the store, when it opens.
    pub id: Option<u64>,
    /// How it could be read.
    pub how: How,
    /// Whether it is behind where it had been: sled has lost something and does not know.
    pub went_back: bool,
    /// Whether it was written to while it was copied.
    pub moved: bool,
    /// The bytes of its files.
    pub bytes: u64,
    /// The folder with the copy, gone when this is.
    copy: Option<Folder>,
}

impl std::fmt::Debug for Look {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Look")
            .field("how", &self.how)
            .field("copy", &self.copy)
            .finish_non_exhaustive()
    }
}

/// A store that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ward {
    /// Its number.
    pub number: u64,
    /// When it was last written to.
    pub written: SystemTime,
    /// The bytes of its files.
    pub bytes: u64,
    /// Why it was set aside, where that was noted.
    pub why: Option<String>,
}

/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// There is no store.
    #[error("there is no store in `{}`", path.display())]
    None {
        /// The state directory.
        path: PathBuf,
    },
    /// There is no room for a copy.
    #[error(
        "looking needs a copy of the store: {needed} bytes in `{}`, where {free} are free; name \
         another folder with --tmp", folder.display()
    )]
    NoRoom {
        /// Where it was to be.
        folder: PathBuf,
        /// What it takes.
        needed: u64,
        /// What there is.
        free: u64,
    },
    /// A file cannot be read or written.
    #[error("cannot copy `{}`: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: Error,
    },
    /// The copy cannot be opened for another reason than damage.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Looks at a store in the state directory `dir`; a copy is made below `tmp`.
///
/// # Errors
/// When there is none, or it cannot be copied. Damage is not an error.
pub fn look(
    dir: &Path,
    which: Which,
    manner: Manner,
    (tmp, options): (&Path, &StoreOptions),
) -> Result<Look, LookError> {
    if manner == Manner::Salvage {
        return salvaged(dir, which, "it was not tried".to_owned());
    }
    sweep(tmp);
    let mut copies = 0;
    loop {
        copies += 1;
        let before = parts(dir, which)?;
        let bytes = before.iter().map(|part| part.bytes).sum();
        let copy = match copy(&before, tmp) {
            Ok(copy) => copy,
            // A generation was done with, or a blob.
            Err(LookError::Io { error, .. })
                if error.kind() == ErrorKind::NotFound && copies < COPIES_MAX =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        let moved = parts(dir, which)? != before;
        let opened = open(
            &copy.path,
            &StoreOptions {
                only_looks: true,
                ..*options
            },
        )?;
        let (mut how, mut damaged, mut went_back) = (How::Opened, None, false);
        for event in opened.events {
            match event {
                StoreEvent::SnapshotSetAside { why } => how = How::WithoutSnapshot(why),
                StoreEvent::Quarantined { why, .. } => damaged = Some(why),
                StoreEvent::IdentityRenewed => went_back = which == Which::Current,
                StoreEvent::RestartAdvised => {}
            }
        }
        if moved && (damaged.is_some() || went_back) && copies < COPIES_MAX {
            continue;
        }
        if let Some(why) = damaged {
            drop(opened.store);
            let look = salvaged(dir, which, why)?;
            return Ok(Look { moved, ..look });
        }
        return Ok(Look {
            store: opened.store,
            id: (!went_back).then_some(opened.id),
            how,
            went_back,
            moved,
            bytes,
            copy: Some(copy),
        });
    }
}

fn salvaged(dir: &Path, which: Which, why: String) -> Result<Look, LookError> {
    let bytes = parts(dir, which)?.iter().map(|part| part.bytes).sum();
    let found = salvage(&homes(dir, which)?)?;
    let how = How::Salvaged {
        why,
        values: found.values(),
        damaged: found.damaged,
        unplaced: found.unplaced,
    };
    Ok(Look {
        store: Arc::new(found),
        id: None,
        how,
        went_back: false,
        moved: false,
        bytes,
        copy: None,
    })
}

impl Look {
    /// The state directory of the copy; `None` when the store did not open.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        self.copy.as_ref().map(|copy| copy.path.as_path())
    }

    /// Closes the copy and keeps its folder, for whoever wants to open it once more.
    #[must_use]
    pub fn closed(self) -> Option<Folder> {
        drop(self.store);
        self.copy
    }
}

/// The stores that were set aside, the oldest first.
///
/// # Errors
/// When the folder cannot be read.
pub fn wards(dir: &Path) -> Result<Vec<Ward>, LookError> {
    let folder = dir.join("quarantine");
    let mut wards = Vec::new();
    for (name, path) in entries(&folder)? {
        let Ok(number) = name.parse() else { continue };
        let mut files = Vec::new();
        files_below(&path, Path::new(""), &mut files)?;
        let written = files.iter().map(|part| part.written).max();
        let why = fs::read_to_string(path.join("why")).ok();
        wards.push(Ward {
            number,
            written: written.unwrap_or(SystemTime::UNIX_EPOCH),
            bytes: files.iter().map(|part| part.bytes).sum(),
            why: why.map(|why| why.trim().to_owned()),
        });
    }
    wards.sort_by_key(|ward| ward.number);
    Ok(wards)
}

/// The process that has the store open, by the kernel's list of locks: nothing is locked here, so
/// that no daemon is kept from starting.
#[must_use]
pub fn user_of(dir: &Path) -> Option<u32> {
    let lock = fs::metadata(dir.join("lock")).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let inode = format!(":{}", lock.ino());
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let kind = words.nth(1)?;
        let number = words.nth(2)?;
        let file = words.next()?;
        (kind == "FLOCK" && file.ends_with(&inode)).then(|| number.parse().ok())?
    })
}

/// A file that belongs to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    path: PathBuf,
    /// From the state directory.
    name: PathBuf,
    bytes: u64,
    written: SystemTime,
}

fn parts(dir: &Path, which: Which) -> Result<Vec<Part>, LookError> {
    let mut parts = Vec::new();
    match which {
        Which::Current => {
            for home in homes(dir, which)? {
                let name = PathBuf::from(home.file_name().unwrap_or_default());
                files_below(&home, &name, &mut parts)?;
            }
            let mark = dir.join("mark");
            if mark.exists() {
                parts.push(part(&mark, PathBuf::from("mark"))?);
            }
        }
        Which::Quarantined(number) => {
            let home = dir.join("quarantine").join(number.to_string());
            files_below(&home, Path::new("store"), &mut parts)?;
        }
    }
    if parts.is_empty() {
        return Err(LookError::None {
            path: dir.to_owned(),
        });
    }
    parts.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(parts)
}

/// The folders of the store, the oldest generation first.
fn homes(dir: &Path, which: Which) -> Result<Vec<PathBuf>, LookError> {
    if let Which::Quarantined(number) = which {
        return Ok(vec![dir.join("quarantine").join(number.to_string())]);
    }
    let mut homes: Vec<(u64, PathBuf)> = Vec::new();
    for (name, path) in entries(dir)? {
        let generation = match name.strip_prefix("store") {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix('.').and_then(|rest| rest.parse().ok()),
            None => None,
        };
        homes.extend(generation.map(|generation| (generation, path)));
    }
    homes.sort();
    Ok(homes.into_iter().map(|(_, path)| path).collect())
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, LookError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder, error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(folder, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        all.push((name, entry.path()));
    }
    Ok(all)
}

fn files_below(folder: &Path, name: &Path, to: &mut Vec<Part>) -> Result<(), LookError> {
    for (entry, path) in entries(folder)? {
        let name = name.join(entry);
        if path.is_dir() {
            files_below(&path, &name, to)?;
        } else {
            match part(&path, name) {
                Ok(part) => to.push(part),
                // It has just been removed.
                Err(LookError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn part(path: &Path, name: PathBuf) -> Result<Part, LookError> {
    let read = fs::metadata(path).and_then(|data| Ok((data.len(), data.modified()?)));
    let (bytes, written) = read.map_err(|error| failed(path, error))?;
    Ok(Part {
        path: path.to_owned(),
        name,
        bytes,
        written,
    })
}

fn failed(path: &Path, error: Error) -> LookError {
    LookError::Io {
        path: path.to_owned(),
        error,
    }
}

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _busy: Flock<File>,
}

impl Folder {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is swept up by the next look.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn copy(parts: &[Part], tmp: &Path) -> Result<Folder, LookError> {
    let needed: u64 = parts.iter().map(|part| part.bytes).sum();
    let needed = needed.saturating_add(SPARE_BYTES);
    let free = bytes_free(tmp).map_err(|error| failed(tmp, error))?;
    if free < needed {
        return Err(LookError::NoRoom {
            folder: tmp.to_owned(),
            needed,
            free,
        });
    }
    let folder = folder(tmp).map_err(|error| failed(tmp, error))?;
    for part in parts {
        let to = folder.path.join(&part.name);
        let made = to.parent().map_or(Ok(()), fs::create_dir_all);
        made.map_err(|error| failed(&to, error))?;
        fs::copy(&part.path, &to).map_err(|error| failed(&part.path, error))?;
    }
    Ok(folder)
}

#[allow(clippy::useless_conversion, reason = "it is one on some machines")]
fn bytes_free(folder: &Path) -> Result<u64, Error> {
    let disk = nix::sys::statvfs::statvfs(folder)?;
    let (blocks, size) = (
        u64::from(disk.blocks_available()),
        u64::from(disk.fragment_size()),
    );
    Ok(blocks.saturating_mul(size))
}

/// A fresh folder that nobody else can look into: the store holds what sensors said.
fn folder(tmp: &Path) -> Result<Folder, Error> {
    let process = std::process::id();
    for number in 0..u32::MAX {
        let path = tmp.join(format!("{FOLDER}{process}-{number}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {
                let busy = File::create(path.join("busy"))?;
                let busy = Flock::lock(busy, FlockArg::LockExclusiveNonblock)
                    .map_err(|(_, errno)| Error::from(errno))?;
                return Ok(Folder { path, _busy: busy });
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::from(ErrorKind::AlreadyExists))
}

/// Removes the folders of processes that were killed.
fn sweep(tmp: &Path) {
    for (name, path) in entries(tmp).unwrap_or_default() {
        if !name.starts_with(FOLDER) {
            continue;
        }
        let owner = |path: &Path| fs::metadata(path).map(|data| data.uid()).ok();
        let busy = File::options().write(true).open(path.join("busy"));
        let Ok(busy) = busy else { continue };
        if owner(&path) == owner(Path::new("/proc/self"))
            && Flock::lock(busy, FlockArg::LockExclusiveNonblock).is_ok()
        {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_has_no_room_is_not_made() {
        let tmp = tempfile::tempdir().unwrap();
        let part = Part {
            path: PathBuf::from("/dev/null"),
            name: PathBuf::from("store/db"),
            bytes: 1 << 60,
            written: SystemTime::UNIX_EPOCH,
        };
        let refused = copy(&[part], tmp.path());
        let Err(LookError::NoRoom { needed, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(needed, (1 << 60) + SPARE_BYTES);
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
    }

    #[test]
    fn folders_of_the_dead_are_swept_and_those_of_the_living_stay() {
        let tmp = tempfile::tempdir().unwrap();
        let left = tmp.path().join(format!("{FOLDER}1-0"));
        fs::create_dir_all(left.join("store")).unwrap();
        fs::write(left.join("busy"), "").unwrap();
        let other = tmp.path().join("somebody-elses");
        fs::create_dir_all(&other).unwrap();
        let used = folder(tmp.path()).unwrap();
        let again = folder(tmp.path()).unwrap();
        sweep(tmp.path());
        assert!(!left.exists() && other.exists());
        assert!(used.path().exists() && again.path().exists());
        assert_ne!(used.path(), again.path());
        let mode = fs::metadata(used.path()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        let path = used.path().to_owned();
        drop(used);
        assert!(!path.exists());
    }
}
