//! Which files are read, and how far: finds them, keeps them open when they are renamed, notices
//! when they are written anew. Blocking; called on a thread where that harms nobody.
//!
//! A file is who it is by its inode and by the bytes before the place that we have reached, not by
//! its name. So a rotated file is read to its end under whatever name, and then let go; one that
//! has other content than it had is read from its beginning; and one that was copied or moved to
//! another disk while we were away is known again by its content.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::lines::Lines;
use super::marks::{self, CHECKED_BYTES, FILES_MAX, OFFSET_MAX, Place, STEP_LINES_MAX};
use super::names::{Names, is_packed};
use crate::event::DeliveryMark;

/// What is read at a time.
const READ_BYTES: usize = 64 << 10;

/// Where less of a file was read, its content says too little to know it by.
const KNOWN_BYTES_MIN: u64 = 64;

/// How files are followed.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    /// Which.
    pub(super) names: Names,
    /// They do not grow: read once, in the order of their names.
    pub(super) is_replay: bool,
    /// What is there when we come for the first time is left out.
    pub(super) from_end: bool,
    /// Lines at a file's beginning that are left out.
    pub(super) header_lines: u64,
    /// A longer line is kept as far as this.
    pub(super) line_bytes_max: usize,
    /// How long a file that has lost its name may still grow.
    pub(super) rotate_wait: Duration,
}

/// A line of a step.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Where it ends among the step's bytes; it begins where the one before ends.
    pub(super) end: usize,
    /// How long it is, which may be more than what is kept of it.
    pub(super) bytes_total: u64,
    /// What says that it is taken.
    pub(super) mark: DeliveryMark,
    /// Whose it is, by the place among the step's paths.
    pub(super) path: usize,
}

/// Something worth saying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// A file is read from here on.
    Follows(PathBuf, u64),
    /// It is read from its beginning once more: it was cut, or written anew.
    Anew(PathBuf),
    /// It has lost its name and is read to its end; the file is let go.
    LetGo(PathBuf),
    /// It ended in the middle of a line, of so many bytes.
    Incomplete(PathBuf, u64),
    /// It cannot be read.
    Unreadable(PathBuf, String),
    /// More files than can be followed.
    TooMany(usize),
}

/// What one look at the files has brought.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Marks that come before the lines.
    pub(super) marks: Vec<DeliveryMark>,
    /// The lines' bytes, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Lines in order.
    pub(super) lines: Vec<Line>,
    /// The files that they come from.
    pub(super) paths: Vec<Arc<Path>>,
    /// What is to be said.
    pub(super) notes: Vec<Note>,
    /// Why no file is there; none when one is.
    pub(super) missing: Option<String>,
    /// There is more to be read at once.
    pub(super) has_more: bool,
    /// Everything is read, and nothing more will come.
    pub(super) is_over: bool,
}

/// The files that are followed.
#[derive(Debug)]
pub(super) struct Follower {
    manner: Manner,
    /// What earlier runs have read, of files that were not met again yet.
    known: Vec<Place>,
    /// In the order in which they are read.
    files: Vec<Followed>,
    /// What was let go and still exists, the latest at the end: it may get its name back, after a
    /// disk that was away say, and is not to be read once more.
    left: Vec<Place>,
    /// What cannot be read, and why, so that it is said once.
    refused: BTreeMap<PathBuf, String>,
    is_first: bool,
    has_too_many: bool,
    missing: Option<String>,
}

#[derive(Debug)]
struct Followed {
    slot: u16,
    /// Device and inode.
    key: (u64, u64),
    path: Arc<Path>,
    file: File,
    lines: Lines,
    /// When it was last seen to grow, once no name that is meant leads to it.
    detached: Option<Instant>,
    /// When it was last written to, as of the last time that it was read to its end.
    changed: Option<SystemTime>,
    is_over: bool,
}

/// A file that a name leads to.
struct Candidate {
    path: PathBuf,
    key: (u64, u64),
    changed: SystemTime,
}

impl Follower {
    /// Follows files of which `marks` tell how far they were taken.
    pub(super) fn new(manner: Manner, marks: &[DeliveryMark]) -> Follower {
        Follower {
            manner,
            known: marks::places(marks),
            files: Vec::new(),
            left: Vec::new(),
            refused: BTreeMap::new(),
            is_first: true,
            has_too_many: false,
            missing: None,
        }
    }

    /// The marks of all files, those of former runs included: what is not marked anew now and then
    /// falls out of the log.
    pub(super) fn marks(&self) -> Vec<DeliveryMark> {
        let known = self.known.iter().chain(&self.left).copied();
        let followed = self.files.iter().map(Followed::place);
        let all = known.chain(followed);
        all.flat_map(|place| [place.name(), place.mark()]).collect()
    }

    /// Reads what there is, up to a bound; looks for files before, if asked to.
    pub(super) fn step(&mut self, look: bool, now: Instant) -> Step {
        let mut step = Step::default();
        if look {
            self.look(now, &mut step);
        }
        step.missing.clone_from(&self.missing);
        let mut budget = READ_BYTES;
        for file in &mut self.files {
            let more = file.read(&self.manner, &mut budget, now, &mut step);
            if more {
                step.has_more = true;
                break;
            }
        }
        if !step.has_more {
            self.let_go(now, &mut step);
        }
        let is_over = self.manner.is_replay && self.files.iter().all(|file| file.is_over);
        step.is_over = is_over && self.missing.is_none() && !step.has_more;
        step
    }

    /// Looks which files are there.
    fn look(&mut self, now: Instant, step: &mut Step) {
        let candidates = match self.candidates(step) {
            Ok(candidates) => candidates,
            Err(why) => {
                // What is open stays so: a folder that cannot be listed says nothing of its files.
                self.missing = Some(why);
                return;
            }
        };
        let single = self.manner.names.single();
        for file in &mut self.files {
            match candidates
                .iter()
                .find(|candidate| candidate.key == file.key)
            {
                Some(candidate) => {
                    file.detached = None;
                    if *file.path != *candidate.path {
                        file.path = Arc::from(candidate.path.as_path());
                    }
                }
                None => _ = file.detached.get_or_insert(now),
            }
        }
        let followed = |key: (u64, u64)| self.files.iter().any(|file| file.key == key);
        let mut new: Vec<Candidate> = candidates
            .into_iter()
            .filter(|candidate| !followed(candidate.key))
            .collect();
        let before = self.files.len();
        self.claim(&mut new, now, step);
        if self.is_first && !self.known.is_empty() {
            self.find_renamed(now, step);
        }
        let skips = self.is_first && self.known.is_empty() && before == 0 && self.files.is_empty();
        for candidate in new {
            self.begin(&candidate, skips && self.manner.from_end, step);
        }
        self.is_first = false;
        // What has lost its name is read before what has taken its place.
        self.files.sort_by_key(|file| file.detached.is_none());
        self.missing = match (
            self.files.iter().any(|file| file.detached.is_none()),
            single,
        ) {
            (true, _) => None,
            (false, Some(path)) => Some(match self.refused.get(&path) {
                Some(why) => format!("cannot read `{}`: {why}", path.display()),
                None => format!("there is no file `{}`", path.display()),
            }),
            (false, None) => Some(format!("no file matches `{}`", self.manner.names)),
        };
    }

    /// The files that names lead to, those first that are to be read first.
    fn candidates(&mut self, step: &mut Step) -> Result<Vec<Candidate>, String> {
        let names = self.manner.names.clone();
        let mut found = Vec::new();
        match names.single() {
            Some(path) => found.extend(self.candidate(path, step)),
            None => {
                let cannot = |error| format!("cannot list `{}`: {error}", names.folder().display());
                for entry in std::fs::read_dir(names.folder()).map_err(cannot)? {
                    let entry = entry.map_err(cannot)?;
                    if entry
                        .file_name()
                        .to_str()
                        .is_some_and(|name| names.has(name))
                    {
                        found.extend(self.candidate(entry.path(), step));
                    }
                }
            }
        }
        self.refused.retain(|path, _| path.exists());
        let is_replay = self.manner.is_replay;
        found.sort_by(|a, b| {
            let by_age = a.changed.cmp(&b.changed);
            let order = if is_replay {
                std::cmp::Ordering::Equal
            } else {
                by_age
            };
            order.then_with(|| a.path.cmp(&b.path))
        });
        // Two names of one file are one file.
        let mut keys = std::collections::BTreeSet::new();
        found.retain(|candidate| keys.insert(candidate.key));
        let surplus = found.len().saturating_sub(FILES_MAX);
        if surplus > 0 && !std::mem::replace(&mut self.has_too_many, true) {
            step.notes.push(Note::TooMany(surplus));
        }
        self.has_too_many &= surplus > 0;
        found.drain(..surplus);
        Ok(found)
    }

    fn candidate(&mut self, path: PathBuf, step: &mut Step) -> Option<Candidate> {
        let refusal = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                return Some(Candidate {
                    path,
                    key: key(&metadata),
                    changed: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                });
            }
            Ok(_) => "it is no regular file".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => error.to_string(),
        };
        self.refuse(path, refusal, step);
        None
    }

    /// Says that a file cannot be read, once.
    fn refuse(&mut self, path: PathBuf, why: String, step: &mut Step) {
        if self.refused.get(&path) != Some(&why) {
            step.notes.push(Note::Unreadable(path.clone(), why.clone()));
            self.refused.insert(path, why);
        }
    }

    /// Goes on with files that are known: by their inode; then, for what was copied or renamed onto
    /// another disk, by what they hold.
    fn claim(&mut self, new: &mut Vec<Candidate>, now: Instant, step: &mut Step) {
        for by_inode in [true, false] {
            let mut left = Vec::new();
            for candidate in std::mem::take(new) {
                // The latest of equals.
                let fits = |place: &Place| {
                    let is_meant = match by_inode {
                        true => place.inode == candidate.key.1,
                        false => place.offset >= KNOWN_BYTES_MIN,
                    };
                    is_meant && opened_at(&candidate.path, place).is_some()
                };
                match self.known.iter().rposition(fits) {
                    Some(index) => {
                        let place = self.known.remove(index);
                        self.go_on(&candidate.path, &place, now, step, true);
                    }
                    None => left.push(candidate),
                }
            }
            *new = left;
            if by_inode {
                new.retain(|candidate| !self.take_up(candidate, now, step));
            }
        }
    }

    /// Goes on with a file that was let go, if this is one. By its inode only: other files may well
    /// have the same content.
    fn take_up(&mut self, candidate: &Candidate, now: Instant, step: &mut Step) -> bool {
        let is_it = |place: &Place| {
            place.inode == candidate.key.1 && opened_at(&candidate.path, place).is_some()
        };
        let Some(index) = self.left.iter().rposition(is_it) else {
            return false;
        };
        let place = self.left.remove(index);
        self.go_on(&candidate.path, &place, now, step, true);
        true
    }

    /// Looks for files of former runs under names that are not meant: what was rotated while we
    /// were away is read to its end.
    fn find_renamed(&mut self, now: Instant, step: &mut Step) {
        let Ok(entries) = std::fs::read_dir(self.manner.names.folder()) else {
            return;
        };
        for entry in entries.flatten() {
            let is_unpacked = entry
                .file_name()
                .to_str()
                .is_some_and(|name| !is_packed(name));
            let same = |place: &Place| place.inode == entry.ino() && place.offset > 0;
            let Some(index) = self.known.iter().rposition(same).filter(|_| is_unpacked) else {
                continue;
            };
            if self.files.iter().any(|file| file.key.1 == entry.ino()) {
                continue;
            }
            let Some(place) = self.known.get(index).copied() else {
                continue;
            };
            if opened_at(&entry.path(), &place).is_some() {
                self.known.remove(index);
                self.go_on(&entry.path(), &place, now, step, false);
            }
        }
    }

    fn go_on(&mut self, path: &Path, place: &Place, now: Instant, step: &mut Step, is_meant: bool) {
        let Some((file, metadata, before)) = opened_at(path, place) else {
            return;
        };
        let lines = match place.offset {
            // A header that was not passed yet is still to come.
            0 => self.manner.beginning(),
            offset => Lines::behind(self.manner.line_bytes_max, offset, &before),
        };
        step.notes
            .push(Note::Follows(path.to_path_buf(), place.offset));
        let followed = Followed {
            slot: place.slot,
            key: key(&metadata),
            path: Arc::from(path),
            file,
            lines,
            detached: (!is_meant).then_some(now),
            changed: None,
            is_over: false,
        };
        self.refused.remove(path);
        // Its inode may be another than it was.
        step.marks
            .extend([followed.place().name(), followed.place().mark()]);
        self.files.push(followed);
    }

    /// Begins with a file that was never met.
    fn begin(&mut self, candidate: &Candidate, at_end: bool, step: &mut Step) {
        let opened = File::open(&candidate.path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.refuse(candidate.path.clone(), error.to_string(), step),
        };
        let known = self.known.len();
        self.known.retain(|place| place.inode != candidate.key.1);
        self.left.retain(|place| place.inode != candidate.key.1);
        let Some(slot) = self.free_slot() else {
            return;
        };
        let mut lines = self.manner.beginning();
        if at_end {
            let offset = last_line(&file, metadata.len(), self.manner.line_bytes_max);
            if let Ok(before) = bytes_before(&file, offset) {
                lines = Lines::behind(self.manner.line_bytes_max, offset, &before);
            }
        }
        step.notes.push(match self.known.len() < known {
            true => Note::Anew(candidate.path.clone()),
            false => Note::Follows(candidate.path.clone(), lines.read_at()),
        });
        self.refused.remove(&candidate.path);
        let followed = Followed {
            slot,
            key: key(&metadata),
            path: Arc::from(candidate.path.as_path()),
            file,
            lines,
            detached: None,
            changed: None,
            is_over: false,
        };
        step.marks
            .extend([followed.place().name(), followed.place().mark()]);
        self.files.push(followed);
    }

    /// A slot that nobody has; of the places of files that are not followed, the oldest gives way,
    /// those that were let go first.
    fn free_slot(&mut self) -> Option<u16> {
        let slots = (0..).take(FILES_MAX);
        let taken = |slot: u16| {
            self.files.iter().any(|file| file.slot == slot)
                || self.known.iter().any(|place| place.slot == slot)
                || self.left.iter().any(|place| place.slot == slot)
        };
        let mut free = slots.into_iter().filter(|slot| !taken(*slot));
        match free.next() {
            Some(slot) => Some(slot),
            None if !self.left.is_empty() => Some(self.left.remove(0).slot),
            None if self.known.is_empty() => None,
            None => Some(self.known.remove(0).slot),
        }
    }

    /// Closes what has lost its name and does not grow any more.
    fn let_go(&mut self, now: Instant, step: &mut Step) {
        let wait = self.manner.rotate_wait;
        let is_left = |file: &Followed| {
            file.detached
                .is_some_and(|since| now.saturating_duration_since(since) >= wait)
        };
        for file in self.files.iter().filter(|file| is_left(file)) {
            let path = file.path.to_path_buf();
            if file.lines.partial_bytes() > 0 {
                let bytes = file.lines.partial_bytes();
                step.notes.push(Note::Incomplete(path.clone(), bytes));
            }
            step.notes.push(Note::LetGo(path));
            if !file.is_deleted() {
                self.left.push(file.place());
            }
        }
        self.files.retain(|file| !is_left(file));
    }
}

impl Manner {
    fn beginning(&self) -> Lines {
        Lines::new(self.line_bytes_max, self.header_lines)
    }
}

impl Followed {
    fn place(&self) -> Place {
        let (offset, check) = self.lines.reached();
        Place {
            slot: self.slot,
            inode: self.key.1,
            offset,
            check,
        }
    }

    /// Whether no name leads to it any more: its inode is free for another then.
    fn is_deleted(&self) -> bool {
        self.file
            .metadata()
            .is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Reads on, no more than the budget allows. Whether there is more.
    fn read(&mut self, manner: &Manner, budget: &mut usize, now: Instant, step: &mut Step) -> bool {
        let path = step.paths.len();
        step.paths.push(Arc::clone(&self.path));
        loop {
            let lines_left = STEP_LINES_MAX.saturating_sub(step.lines.len());
            let metadata = match self.file.metadata() {
                Ok(metadata) => metadata,
                Err(error) => return self.unreadable(&error, step),
            };
            let (length, read_at) = (metadata.len(), self.lines.read_at());
            if length > read_at && (*budget == 0 || lines_left == 0) {
                return true;
            }
            let changed = metadata.modified().ok();
            if length == read_at && changed == self.changed {
                self.at_end(manner, path, step);
                return false;
            }
            let bytes = match self.next_bytes(if length > read_at { *budget } else { 0 }) {
                // Shorter than what was read, it is another, whatever it holds.
                Ok(bytes) => bytes.filter(|_| length >= read_at),
                Err(error) => return self.unreadable(&error, step),
            };
            let Some(bytes) = bytes else {
                self.begin_anew(manner, step);
                continue;
            };
            if length == read_at {
                // Written to, no longer than it was, and it still holds what was read.
                self.changed = changed;
                continue;
            }
            if bytes.is_empty() || read_at >= OFFSET_MAX {
                return false;
            }
            if self.detached.is_some() {
                self.detached = Some(now);
            }
            *budget = budget.saturating_sub(bytes.len());
            let place = self.place();
            self.lines.read(&bytes, lines_left, |line, end| {
                step.give(path, line, &place, end);
            });
        }
    }

    /// What comes next; none when what lies before it is not what was read.
    fn next_bytes(&self, bytes_max: usize) -> std::io::Result<Option<Vec<u8>>> {
        let before = self.lines.before();
        let from = self.lines.read_at() - u64::try_from(before.len()).unwrap_or(0);
        let mut bytes = vec![0; before.len() + bytes_max];
        let length = read_at(&self.file, &mut bytes, from)?;
        bytes.truncate(length);
        if !bytes.starts_with(before) {
            return Ok(None);
        }
        bytes.drain(..before.len());
        Ok(Some(bytes))
    }

    fn begin_anew(&mut self, manner: &Manner, step: &mut Step) {
        self.lines = manner.beginning();
        step.marks.push(self.place().mark());
        step.notes.push(Note::Anew(self.path.to_path_buf()));
    }

    /// Nothing more is there: for a file that does not grow, that is the end of its last line.
    fn at_end(&mut self, manner: &Manner, path: usize, step: &mut Step) {
        if manner.is_replay && !self.is_over {
            let place = self.place();
            self.lines
                .end(|line, end| step.give(path, line, &place, end));
            self.is_over = true;
        }
    }

    fn unreadable(&mut self, error: &std::io::Error, step: &mut Step) -> bool {
        let path = self.path.to_path_buf();
        step.notes.push(Note::Unreadable(path, error.to_string()));
        false
    }
}

impl Step {
    fn give(&mut self, path: usize, line: &[u8], place: &Place, end: super::lines::LineEnd) {
        self.bytes.extend_from_slice(line);
        let place = Place {
            offset: end.offset,
            check: end.check,
            ..*place
        };
        self.lines.push(Line {
            end: self.bytes.len(),
            bytes_total: end.bytes_total,
            mark: place.mark(),
            path,
        });
    }
}

fn key(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Opens a file if it is what `place` speaks of; with the bytes before that place.
fn opened_at(path: &Path, place: &Place) -> Option<(File, Metadata, Vec<u8>)> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if metadata.len() < place.offset || !metadata.is_file() {
        return None;
    }
    let before = bytes_before(&file, place.offset).ok()?;
    (marks::check(&before) == place.check).then_some((file, metadata, before))
}

/// Where the line begins that is being written.
fn last_line(file: &File, length: u64, line_bytes_max: usize) -> u64 {
    let looked_at = length.min(u64::try_from(line_bytes_max).unwrap_or(u64::MAX));
    let mut bytes = vec![0; usize::try_from(looked_at).unwrap_or(0)];
    let from = length - looked_at;
    match read_at(file, &mut bytes, from) {
        Ok(_) => match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => from + u64::try_from(end).unwrap_or(0) + 1,
            None if from == 0 => 0,
            None => length,
        },
        Err(_) => length,
    }
}

fn bytes_before(file: &File, offset: u64) -> std::io::Result<Vec<u8>> {
    let length = offset.min(u64::try_from(CHECKED_BYTES).unwrap_or(0));
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = read_at(file, &mut bytes, offset - length)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Fills `bytes` as far as the file goes.
fn read_at(file: &File, bytes: &mut [u8], from: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = from + u64::try_from(filled).unwrap_or(0);
        match file.read_at(rest, at) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
