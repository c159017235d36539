//! What control remembers over restarts, and the documents themselves.
//!
//! ```text
//! <store>/control/
//!   lock                 held as long as a daemon uses the folder
//!   journal.a journal.b  the record, written in turn; the whole one with the higher number counts
//!   docs/<sha256>.toml   documents, each named by what is in it
//!   docs/<sha256>.local  the local files as they were put in force, named by their fingerprint:
//!                        a JSON object of texts by path, for the owner alone
//! ```
//!
//! A journal is one line `eventflux-control 1 <number> <sha256 of the rest>` and a JSON object
//! behind it. It is overwritten in place and synced before anything follows from it: a crash in the
//! middle leaves a text that is not what its line says, and the other file counts. It stands beside
//! the store, not in it, since it says what the store is opened with, and must survive a store that
//! is set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::Code;
use super::hash::sha256_hex;
use crate::config::StatePolicy;
use crate::daemon::{Texts, fingerprint};

const MAGIC: &str = "eventflux-control";
const VERSION: &str = "1";
/// What a file ends in that is not whole yet.
const NEW: &str = "new";
const SLOTS: (&str, &str) = ("journal.a", "journal.b");
/// Configurations that have proved themselves and are kept, the one in force among them.
const GOOD_MAX: usize = 5;
/// Of a reason, so many characters are remembered.
const WHY_CHARS_MAX: usize = 2_000;
/// No journal is larger: some configurations by name, and counters.
const JOURNAL_BYTES_MAX: u64 = 1 << 20;
/// Who may read a journal and documents, and who the local files, in which secrets may stand.
const MODES: (u32, u32) = (0o640, 0o600);
/// Numbers of connections that are taken at a time, so that a link that comes and goes does not
/// write each time.
const CONNECTIONS_AT_ONCE: u64 = 64;

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another daemon uses it.
    #[error("`{}` is in use by another process", .0.display())]
    Locked(PathBuf),
    /// Reading or writing failed.
    #[error("cannot {what} `{}`: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// It could not be opened.
    #[error("nothing can be remembered of documents: {0}")]
    Unusable(String),
    /// What was read is not what was written.
    #[error("`{}` is not what was written there", .0.display())]
    Damaged(PathBuf),
}

/// A document by number and content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The number that its author has given it.
    pub rev: u64,
    /// What is in it.
    pub sha256: String,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The local files.
    Local,
    /// A document, by whom it was for (`pump-7`, `_group/pumps`) and its number.
    Document {
        /// For whom.
        scope: String,
        /// Its number.
        rev: u64,
    },
}

/// A configuration that has been in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Where it comes from.
    pub origin: Origin,
    /// What is in it.
    pub sha256: String,
    /// Since when it is in force: milliseconds since 1970, by the wall clock.
    pub since_ms: i64,
}

impl Active {
    /// The number of a document; local files have none.
    #[must_use]
    pub fn rev(&self) -> Option<u64> {
        match &self.origin {
            Origin::Local => None,
            Origin::Document { rev, .. } => Some(*rev),
        }
    }
}

/// How far a document has come that is to be put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It is on the disk, and nothing has been tried.
    Staged,
    /// The daemon may have gone over to it.
    Switching,
    /// It is in force, and has to prove itself.
    Probation,
    /// It has not, and the one before it is to be in force again.
    GoingBack,
}

/// A document on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// For whom it is.
    pub scope: String,
    /// Which it is.
    pub revision: Revision,
    /// How far it has come.
    pub stage: Stage,
    /// Whether an operator has to confirm it.
    pub needs_operator: bool,
    /// How long it is tried out.
    pub confirm_s: u32,
    /// What becomes of the state, where the document's envelope says it.
    pub state_policy: Option<Policy>,
    /// The key that has signed it.
    #[serde(default)]
    pub signed_by: Option<String>,
    /// Why it is taken back: a code and a sentence.
    pub why: Option<(String, String)>,
}

/// [`StatePolicy`], as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// As of the configuration.
    KeepCompatible,
    /// As of the configuration.
    KeepOrFail,
    /// As of the configuration.
    Discard,
}

impl From<StatePolicy> for Policy {
    fn from(policy: StatePolicy) -> Policy {
        match policy {
            StatePolicy::KeepCompatible => Policy::KeepCompatible,
            StatePolicy::KeepOrFail => Policy::KeepOrFail,
            StatePolicy::Discard => Policy::Discard,
        }
    }
}

impl From<Policy> for StatePolicy {
    fn from(policy: Policy) -> StatePolicy {
        match policy {
            Policy::KeepCompatible => StatePolicy::KeepCompatible,
            Policy::KeepOrFail => StatePolicy::KeepOrFail,
            Policy::Discard => StatePolicy::Discard,
        }
    }
}

/// What has become of the last document that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// For whom it was.
    pub scope: String,
    /// Which it was.
    pub revision: Revision,
    /// What became of it.
    pub standing: Standing,
}

impl Outcome {
    /// Whether it is the outcome of this very document.
    #[must_use]
    pub fn is_of(&self, active: &Active) -> bool {
        let (scope, rev) = (&self.scope, self.revision.rev);
        let is_same = match &active.origin {
            Origin::Local => false,
            Origin::Document {
                scope: of,
                rev: known,
            } => of == scope && *known == rev,
        };
        is_same && active.sha256 == self.revision.sha256
    }
}

/// What can become of a document that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It is in force.
    InForce,
    /// It was taken back, or refused when it was to be put in force: a code and a sentence.
    Back(String, String),
    /// Somebody has edited the local files since.
    Overridden,
}

impl Standing {
    /// It was taken back.
    #[must_use]
    pub fn back(code: Code, why: impl Into<String>) -> Standing {
        Standing::Back(code.word().to_owned(), brief(&why.into()))
    }
}

/// A sentence as far as it is remembered: what was written must be read again.
pub(super) fn brief(why: &str) -> String {
    why.chars().take(WHY_CHARS_MAX).collect()
}

/// All that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Up to here, numbers of connections are given.
    pub connections: u64,
    /// The highest accepted document of each scope.
    pub accepted: BTreeMap<String, Revision>,
    /// What is in force, or will be again when the document on its way is taken back; none before
    /// the first start.
    pub active: Option<Active>,
    /// What the local files were when they or a document over them were put in force.
    pub local: String,
    /// A document on its way.
    pub pending: Option<Pending>,
    /// What has proved itself, the latest first; the first is the one in force.
    pub good: Vec<Active>,
    /// What became of the last document.
    pub outcome: Option<Outcome>,
    /// Whether that document was withdrawn since, so that nothing is desired.
    #[serde(default)]
    pub is_withdrawn: bool,
    /// The time of the last signed request that was obeyed.
    pub obeyed_ts: u64,
    /// Whether what is in force is gone back to, and the store may still be that of what was tried:
    /// then it is to run whatever state that costs.
    #[serde(default)]
    pub returns: bool,
}

impl Record {
    /// A configuration is in force and has proved itself.
    pub fn commit(&mut self, active: Active) {
        // Of the local files there is only what they say now.
        let is_local = active.origin == Origin::Local;
        let is_same = |known: &Active| known.sha256 == active.sha256;
        self.good
            .retain(|known| !(is_same(known) || is_local && known.origin == Origin::Local));
        self.good.insert(0, active.clone());
        self.good.truncate(GOOD_MAX);
        self.active = Some(active);
        self.pending = None;
        self.returns = false;
    }

    /// The document on its way is none any more; why is told as its outcome.
    pub fn take_back(&mut self, standing: Standing) -> Option<Pending> {
        let pending = self.pending.take()?;
        self.outcome = Some(Outcome {
            scope: pending.scope.clone(),
            revision: pending.revision.clone(),
            standing,
        });
        Some(pending)
    }

    /// The same, for the reason that is known of one that was on its way back.
    pub fn take_back_known(&mut self) -> Option<Pending> {
        let (code, why) = self.pending.as_ref()?.why.clone().unwrap_or_default();
        self.take_back(Standing::Back(code, why))
    }

    /// What may be wanted again of documents and local files.
    fn wanted(&self) -> BTreeSet<&str> {
        let known = self.good.iter().chain(&self.active);
        let known = known.map(|one| one.sha256.as_str());
        let pending = self.pending.iter();
        let pending = pending.map(|pending| pending.revision.sha256.as_str());
        known.chain(pending).chain([self.local.as_str()]).collect()
    }
}

/// The folder, open.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    record: Record,
    /// How often it has been written.
    number: u64,
    /// The next number of a connection.
    connection: u64,
    /// Whether the disk may say something else than what is known here.
    is_ahead: bool,
    /// Why nothing can be remembered; none: it can.
    unusable: Option<String>,
    _lock: Option<Flock<File>>,
}

impl Journal {
    /// Opens the folder in a store's folder; both are made when they are not there. What is
    /// damaged is told as a sentence, and what it held is forgotten.
    ///
    /// # Errors
    /// Another daemon uses it, or it cannot be read or written.
    pub fn open(store: &Path) -> Result<(Journal, Option<String>), JournalError> {
        let folder = store.join("control");
        let docs = folder.join("docs");
        if !docs.is_dir() {
            let mut make = std::fs::DirBuilder::new();
            let made = make.recursive(true).mode(0o750).create(&docs);
            made.map_err(|error| io("make", &docs, error))?;
            // What is written there must be found after a power cut. Above the store it is for
            // others to see to, should it not be ours.
            let above = [Some(folder.as_path()), Some(store), store.parent()];
            for folder in above.into_iter().flatten() {
                let _ = sync_folder(folder);
            }
        }
        let lock = lock(&folder.join("lock"))?;
        let mut found: Option<(u64, Record)> = None;
        let mut damaged = Vec::new();
        let mut unread = None;
        for slot in [SLOTS.0, SLOTS.1] {
            let path = folder.join(slot);
            match read_slot(&path) {
                Ok(None) => {}
                Ok(Some((number, record))) => {
                    if found.as_ref().is_none_or(|(known, _)| number > *known) {
                        found = Some((number, record));
                    }
                }
                Err(JournalError::Damaged(path)) => damaged.push(path.display().to_string()),
                Err(error) => unread = Some(error),
            }
        }
        // What the other one says is better than a daemon that does not start.
        if let (Some(error), None) = (unread, &found) {
            return Err(error);
        }
        // One that is damaged alone is what a power cut leaves behind.
        let lost = found.is_none() && !damaged.is_empty();
        let warning = lost.then(|| {
            format!(
                "what was known of remote documents is lost: {} damaged; revisions count anew",
                damaged.join(" and ")
            )
        });
        let (number, record) = found.unwrap_or_default();
        let journal = Journal {
            connection: record.connections,
            folder,
            record,
            number,
            is_ahead: false,
            unusable: None,
            _lock: Some(lock),
        };
        Ok((journal, warning))
    }

    /// Whether there is one in a store's folder.
    #[must_use]
    pub fn is_in(store: &Path) -> bool {
        let folder = store.join("control");
        [SLOTS.0, SLOTS.1]
            .iter()
            .any(|slot| folder.join(slot).exists())
    }

    /// Removes the local files that are kept in a store's folder, if any are.
    pub fn forget_local(store: &Path) {
        let entries = std::fs::read_dir(store.join("control").join("docs"));
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "local") {
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::warn!("cannot remove `{}`: {error}", path.display());
                }
            }
        }
    }

    /// One that remembers nothing, as its folder cannot be used: no document is taken then, and all
    /// else goes on. Numbers of connections begin at `connection`.
    #[must_use]
    pub fn unusable(store: &Path, why: &JournalError, connection: u64) -> Journal {
        Journal {
            folder: store.join("control"),
            record: Record {
                connections: u64::MAX,
                ..Record::default()
            },
            number: 0,
            connection,
            is_ahead: false,
            unusable: Some(why.to_string()),
            _lock: None,
        }
    }

    /// What is remembered.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Remembers something else; it is durable when this returns, and not so when it fails.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn change(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), JournalError> {
        if let Some(why) = &self.unusable {
            return Err(JournalError::Unusable(why.clone()));
        }
        let mut record = self.record.clone();
        change(&mut record);
        if record == self.record && self.number > 0 && !self.is_ahead {
            return Ok(());
        }
        let number = self.number + 1;
        let slot = match number % 2 {
            1 => SLOTS.0,
            _ => SLOTS.1,
        };
        let path = self.folder.join(slot);
        // What fails half way may be there all the same.
        self.is_ahead = true;
        write_slot(&path, number, &record).map_err(|error| io("write", &path, error))?;
        if number <= 2 {
            sync_folder(&self.folder)?;
        }
        self.number = number;
        self.is_ahead = false;
        self.record = record;
        self.forget_documents();
        Ok(())
    }

    /// The same, also when it cannot be written: then it is written with what is changed next.
    ///
    /// # Errors
    /// It is not durable.
    pub fn change_at_least_here(
        &mut self,
        change: impl FnOnce(&mut Record),
    ) -> Result<(), JournalError> {
        let mut record = self.record.clone();
        change(&mut record);
        let changed = self.change(|known| known.clone_from(&record));
        if changed.is_err() {
            self.record = record;
        }
        changed
    }

    /// The number of another connection: higher than all before, over restarts.
    ///
    /// # Errors
    /// It cannot be remembered.
    pub fn next_connection(&mut self, above: u64) -> Result<u64, JournalError> {
        let next = self.connection.max(above) + 1;
        if next > self.record.connections {
            self.change(|record| record.connections = next + CONNECTIONS_AT_ONCE)?;
        }
        self.connection = next;
        Ok(next)
    }

    /// Keeps a document; it is durable when this returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self, sha256: &str, text: &str) -> Result<(), JournalError> {
        // It may be the one that runs: that must not be touched.
        match self.document(sha256) {
            Ok(_) => Ok(()),
            Err(_) => self.write(&self.document_path(sha256), text, MODES.0),
        }
    }

    /// A document that was kept.
    ///
    /// # Errors
    /// It cannot be read, or is not what was kept.
    pub fn document(&self, sha256: &str) -> Result<String, JournalError> {
        let path = self.document_path(sha256);
        let text = std::fs::read_to_string(&path).map_err(|error| io("read", &path, error))?;
        if sha256_hex(text.as_bytes()) != sha256 {
            return Err(JournalError::Damaged(path));
        }
        Ok(text)
    }

    fn document_path(&self, sha256: &str) -> PathBuf {
        self.folder.join("docs").join(format!("{sha256}.toml"))
    }

    /// Keeps the local files by their fingerprint; they are durable when this returns.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn keep_local(&self, texts: &Texts) -> Result<(), JournalError> {
        let sha256 = fingerprint(texts);
        if self.local(&sha256).is_ok_and(|known| known == *texts) {
            return Ok(());
        }
        let path = self.local_path(&sha256);
        let body =
            serde_json::to_string(texts).map_err(|error| io("write", &path, error.into()))?;
        self.write(&path, &body, MODES.1)
    }

    /// Local files that were kept.
    ///
    /// # Errors
    /// They cannot be read, or are not what was kept.
    pub fn local(&self, sha256: &str) -> Result<Texts, JournalError> {
        let path = self.local_path(sha256);
        let body = std::fs::read_to_string(&path).map_err(|error| io("read", &path, error))?;
        let texts: Option<Texts> = serde_json::from_str(&body).ok();
        let texts = texts.filter(|texts| fingerprint(texts) == sha256);
        texts.ok_or(JournalError::Damaged(path))
    }

    fn local_path(&self, sha256: &str) -> PathBuf {
        self.folder.join("docs").join(format!("{sha256}.local"))
    }

    /// Writes a file whole or not at all.
    fn write(&self, path: &Path, text: &str, mode: u32) -> Result<(), JournalError> {
        if let Some(why) = &self.unusable {
            return Err(JournalError::Unusable(why.clone()));
        }
        let write = || {
            let new = path.with_extension(NEW);
            // One that a crash has left may be for more to read.
            match std::fs::remove_file(&new) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut file = create(&new, mode)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&new, path)
        };
        write().map_err(|error| io("write", path, error))?;
        sync_folder(&self.folder.join("docs"))
    }

    /// Removes documents that nothing leads to any more.
    fn forget_documents(&self) {
        let wanted = self.record.wanted();
        let Ok(entries) = std::fs::read_dir(self.folder.join("docs")) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = path.file_stem().and_then(|name| name.to_str());
            let is_new = path.extension().is_some_and(|extension| extension == NEW);
            if is_new || name.is_some_and(|name| !wanted.contains(name)) {
                // One that stays does no harm.
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

fn lock(path: &Path) -> Result<Flock<File>, JournalError> {
    let file = create(path, MODES.0).map_err(|error| io("open", path, error))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => JournalError::Locked(path.to_owned()),
        error => io("lock", path, error.into()),
    })
}

/// A file to be written from its beginning. What it holds is not let go of before: on a full disk
/// nobody else is to take its place.
fn create(path: &Path, mode: u32) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(mode);
    options.open(path)
}

fn read_slot(path: &Path) -> Result<Option<(u64, Record)>, JournalError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("read", path, error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(JOURNAL_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| io("read", path, error))?;
    let parsed = parse(&bytes).ok_or_else(|| JournalError::Damaged(path.to_owned()))?;
    Ok(Some(parsed))
}

fn parse(bytes: &[u8]) -> Option<(u64, Record)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once('\n')?;
    let mut words = head.split(' ');
    if (words.next()?, words.next()?) != (MAGIC, VERSION) {
        return None;
    }
    let number = words.next()?.parse().ok()?;
    if words.next()? != checksum(number, body) || words.next().is_some() {
        return None;
    }
    Some((number, serde_json::from_str(body).ok()?))
}

fn checksum(number: u64, body: &str) -> String {
    sha256_hex(format!("{number}\n{body}").as_bytes())
}

fn write_slot(path: &Path, number: u64, record: &Record) -> std::io::Result<()> {
    let body = serde_json::to_string(record)?;
    let checksum = checksum(number, &body);
    let mut file = create(path, MODES.0)?;
    let text = format!("{MAGIC} {VERSION} {number} {checksum}\n{body}");
    file.write_all(text.as_bytes())?;
    file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> Result<(), JournalError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(|error| io("sync", path, error))
}

fn io(what: &'static str, path: &Path, error: std::io::Error) -> JournalError {
    JournalError::Io {
        what,
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(sha256: &str) -> Active {
        Active {
            origin: Origin::Document {
                scope: "n".to_owned(),
                rev: 1,
            },
            sha256: sha256.to_owned(),
            since_ms: 1,
        }
    }

    #[test]
    fn what_is_changed_is_there_again_and_a_torn_write_leaves_what_was_before() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, warning) = Journal::open(folder.path()).unwrap();
        assert_eq!(warning, None);
        for ts in 1..=5 {
            journal.change(|record| record.obeyed_ts = ts).unwrap();
        }
        drop(journal);
        let slot = |name: &str| folder.path().join("control").join(name);
        let whole = std::fs::read(slot("journal.a")).unwrap();
        // The fifth is in the first slot: whatever becomes of it, the fourth counts.
        for length in 0..whole.len() {
            std::fs::write(slot("journal.a"), &whole[..length]).unwrap();
            let (journal, warning) = Journal::open(folder.path()).unwrap();
            assert_eq!((journal.record().obeyed_ts, warning), (4, None), "{length}");
        }
        for index in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[index] ^= 1;
            std::fs::write(slot("journal.a"), &flipped).unwrap();
            let (journal, _) = Journal::open(folder.path()).unwrap();
            assert_eq!(journal.record().obeyed_ts, 4, "{index}");
        }
        std::fs::write(slot("journal.a"), &whole).unwrap();
        let (journal, _) = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.record().obeyed_ts, 5);
        drop(journal);
        std::fs::write(slot("journal.a"), "x").unwrap();
        std::fs::write(slot("journal.b"), "y").unwrap();
        let (journal, warning) = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.record(), &Record::default());
        assert!(warning.unwrap().contains("revisions count anew"));
    }

    #[test]
    fn one_daemon_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(folder.path()).unwrap();
        let second = Journal::open(folder.path());
        assert!(matches!(second, Err(JournalError::Locked(_))));
        drop(journal);
        assert!(Journal::open(folder.path()).is_ok());
    }

    #[test]
    fn the_last_five_good_documents_are_kept_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        let texts: Vec<String> = (0..8).map(|number| format!("# {number}\n")).collect();
        for text in &texts {
            let sha256 = sha256_hex(text.as_bytes());
            journal.keep(&sha256, text).unwrap();
            journal
                .change(|record| record.commit(active(&sha256)))
                .unwrap();
        }
        for (number, text) in texts.iter().enumerate() {
            let kept = journal.document(&sha256_hex(text.as_bytes()));
            assert_eq!(
                kept.ok().as_ref(),
                (number >= 3).then_some(text),
                "{number}"
            );
        }
        let last = sha256_hex(texts[7].as_bytes());
        let path = folder.path().join(format!("control/docs/{last}.toml"));
        std::fs::write(path, "# other\n").unwrap();
        let found = journal.document(&last);
        assert!(matches!(found, Err(JournalError::Damaged(_))), "{found:?}");
    }

    #[test]
    fn a_document_that_is_kept_is_not_written_again_and_what_is_so_holds_on_a_full_disk() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        let sha256 = sha256_hex(b"# 1\n");
        let path = folder.path().join(format!("control/docs/{sha256}.toml"));
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        journal.keep(&sha256, "# 1\n").unwrap();
        let first = inode(&path);
        journal.keep(&sha256, "# 1\n").unwrap();
        assert_eq!(inode(&path), first);
        std::fs::write(&path, "# 2\n").unwrap();
        journal.keep(&sha256, "# 1\n").unwrap();
        assert_eq!(journal.document(&sha256).unwrap(), "# 1\n");
        // A folder where a file should be cannot be written.
        let slot = folder.path().join("control/journal.a");
        std::fs::create_dir(&slot).unwrap();
        let commit = |record: &mut Record| record.commit(active(&sha256));
        assert!(journal.change(commit).is_err());
        assert_eq!(journal.record().active, None);
        assert!(journal.change_at_least_here(commit).is_err());
        assert_eq!(journal.record().active, Some(active(&sha256)));
        std::fs::remove_dir(&slot).unwrap();
        journal.change(|record| record.obeyed_ts = 1).unwrap();
        drop(journal);
        let (journal, _) = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.record().active, Some(active(&sha256)));
    }

    #[test]
    fn numbers_of_connections_grow_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let mut last = 0;
        for round in 0..5 {
            let (mut journal, _) = Journal::open(folder.path()).unwrap();
            for _ in 0..100 {
                let next = journal.next_connection(0).unwrap();
                assert!(next > last, "{round}: {next} after {last}");
                last = next;
            }
        }
        let (mut journal, _) = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.next_connection(90_000).unwrap(), 90_001);
    }
}
