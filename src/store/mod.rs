//! Bytes on disk: one ordered map from keys to values, with atomic writes and a true barrier.
//!
//! Promises:
//! * [`Store::write`] is atomic, and writes survive in the order in which they were made: after a
//!   crash a prefix of them is there, at least up to the last [`Store::sync`] that returned `Ok`.
//! * After any failed write or sync the store is poisoned: what is on disk is unknown, so nothing
//!   more is written until the store has been opened anew.
//!
//! Leaves to others: what the bytes mean. A bit that flips on the disk is not noticed here but by
//! whoever wrote the value; [`seal`] has the envelope with a checksum that all of them use.
//!
//! There is one keyspace, so that one write spans log, outbox and checkpoint. The first byte of a
//! key says whose it is, see [`table`].

pub mod format;
pub mod look;
mod salvage;
pub mod seal;
pub mod sim;
pub mod sled;

use std::ops::ControlFlow;
use std::path::PathBuf;

/// The first byte of every key.
pub mod table {
    /// The store's own: its id, its journal, its format. Nobody else touches it.
    pub const SYSTEM: u8 = 0;
    /// Checkpoints.
    pub const CHECKPOINT: u8 = b'C';
    /// Records of the write-ahead log.
    pub const LOG: u8 = b'L';
    /// Records that stood behind a damaged one and so are no part of the log any more.
    pub const LOG_ASIDE: u8 = b'X';
    /// Outputs that wait for a sink.
    pub const OUTBOX: u8 = b'O';
    /// What is known about an outbox besides its entries.
    pub const OUTBOX_STATE: u8 = b'S';
}

/// Why the store does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("cannot open the store `{}`: locked by {holder}", path.display())]
    Locked {
        /// The state directory.
        path: PathBuf,
        /// `process 812`, or `another process` when its number is not known.
        holder: String,
    },
    /// The directory cannot be used: permissions, a read-only file system, a file in its place.
    #[error("cannot open the store `{}`: {why}", path.display())]
    Unusable {
        /// What cannot be used.
        path: PathBuf,
        /// What the operating system says.
        why: String,
    },
    /// No space is left.
    #[error("the disk is full: {doing}")]
    Full {
        /// What was being done.
        doing: &'static str,
    },
    /// Nothing can be written, as the file system has become read-only.
    #[error("the file system is read-only: {doing}")]
    ReadOnly {
        /// What was being done.
        doing: &'static str,
    },
    /// The operating system or the disk failed.
    #[error("{doing} failed: {why}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the operating system says.
        why: String,
    },
    /// What was read cannot be what was written.
    #[error("the store is damaged: {why}")]
    Damaged {
        /// What was noticed.
        why: String,
    },
    /// A newer version of this program has written it.
    #[error("{}", too_new(by.as_deref(), *needed, *known))]
    TooNew {
        /// The version that has written it, when that is known.
        by: Option<String>,
        /// The format that a program must know.
        needed: u32,
        /// The format that this one knows.
        known: u32,
    },
    /// A write or a sync failed before; open the store anew.
    #[error("the store is closed after an earlier failure: {why}")]
    Poisoned {
        /// The first failure.
        why: String,
    },
}

fn too_new(by: Option<&str>, needed: u32, known: u32) -> String {
    let by = by.unwrap_or("a newer version");
    let format = match needed {
        u32::MAX => "a format that is not known here".to_owned(),
        needed => format!("format {needed}"),
    };
    format!(
        "the store was written by eventflux {by} in {format}; this is eventflux {} and knows \
         formats up to {known}: install the newer version again, or move the state directory away \
         to begin afresh. Nothing was changed",
        env!("CARGO_PKG_VERSION")
    )
}

/// Changes that happen together or not at all; a later change of a key wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    bytes: usize,
}

impl WriteBatch {
    /// No changes.
    #[must_use]
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.changes.push((key, Some(value)));
    }

    /// Removes `key`; it need not exist.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        let key = key.into();
        self.bytes += key.len();
        self.changes.push((key, None));
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// The bytes of all keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes in order: a key, and its value or `None` for a removal.
    pub fn changes(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        self.changes
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
    }
}

/// What a visitor of [`Store::range`] is given and answers.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An ordered map on disk. The module's head says what every implementation promises.
pub trait Store: Send + Sync {
    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Makes all changes of `batch`, or none, whatever crashes; a reader in another thread may see
    /// some of them before the others. Durable only after the next [`Store::sync`].
    fn write(&self, batch: WriteBatch) -> Result<(), StoreError>;

    /// Visits every pair with `from <= key < to` in order, until `visit` breaks. `visit` must not
    /// call the store. When another thread writes near to these keys at the same time, some may be
    /// passed over.
    fn range(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// The pair with the greatest key in `from <= key < to`.
    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, StoreError>;

    /// Returns `Ok` when everything written before the call would survive a power cut.
    fn sync(&self) -> Result<(), StoreError>;

    /// The space taken on disk, in bytes.
    fn bytes_on_disk(&self) -> Result<u64, StoreError>;

    /// The bytes of all keys and values, as far as the store knows without looking.
    fn bytes_live(&self) -> u64;

    /// The bytes that the store has given to the operating system since it was opened. The
    /// implementation says what is not among them.
    fn bytes_written(&self) -> u64;

    /// Does a part of giving back disk space that no live pair needs, if that is worth it: about
    /// `bytes_max` of keys and values are moved, and writers wait as long. Call it again while it
    /// is [`Compaction::Going`].
    ///
    /// # Errors
    /// When the space that this needs for a while is not there, or the disk fails. The store is as
    /// it was then, and tries again only after some minutes.
    fn compact(&self, bytes_max: u64) -> Result<Compaction, StoreError>;
}

/// How far [`Store::compact`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// It is not worth it.
    Idle,
    /// There is more to do.
    Going {
        /// Bytes of keys and values that have been moved.
        moved: u64,
        /// Bytes of all keys and values.
        live: u64,
    },
    /// The space has been given back.
    Done {
        /// Bytes on disk when it began.
        before: u64,
        /// Bytes on disk now.
        after: u64,
    },
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);
