//! Checkpoints: the state of everything that computes as of one [`Seq`], written as changes to the
//! one before.
//!
//! Promises: what is loaded is a state exactly as it was when it was saved, or an older one, or
//! none; never a mixture. Damage to any one value leaves a checkpoint that can be loaded, as soon
//! as there are two that share nothing.
//!
//! Leaves to others: what the pieces mean (the engine), when to save, and trimming the log, which
//! must keep everything from [`Checkpoints::oldest_retained`] on.
//! `docs/decisions/0007-checkpoints.md` says why it is so.
//!
//! A *run* is a set of [`StateChanges`], sorted by place and cut into frames. A *checkpoint* is a
//! manifest: a list of runs, the oldest first, which make the state when they are applied in order.
//! The first of them, its *base*, stand for themselves. *Folding* makes one run of several.
//!
//! ```text
//! key       'C' 'M'  number: u64 BE, counted upwards                        a manifest
//!           'C' 'R'  run: u64 BE, counted upwards  part: u32 BE, from 0     a frame
//!           'C'  0   ...                                                    see `old`
//! value     sealed, see `store::seal`
//! manifest  kind 4   head: format u8 = 1, number u64 LE, seq u64 LE
//!           payload: CBOR [time, how many runs are the base,
//!                          [[run, frames, bytes unpacked, bytes stored, sum], ...]]
//!           sum: CRC-32C of the frames' checksums (u32 LE each), in order
//! frame     kind 3   head: format u8 = 1, run u64 LE, part u32 LE
//!           payload: entries
//! entry     word: varint = length << 3 | operator follows << 2 | what it says
//!           place: operator follows:  operator u64 LE, key varint
//!                  otherwise:         the operator before, key varint, added to the key before
//!           what it says   0  the piece is the next `length` bytes
//!                          1  no piece (length 0)
//!                          2  no piece of an older run from here to a last place:
//!                             operator u64 LE, key varint (length 0)
//!                          3  the piece before goes on with the next `length` bytes
//! ```
//!
//! A varint is LEB128. The first entry of a frame has its operator. A run's emptied ranges come
//! first, in order, then its pieces, in order, each place once. A frame holds at most
//! [`frame::FRAME_BYTES_MAX`] unpacked, less where that packs badly: beyond some 7 KiB packed the
//! store would put them into files of their own; a larger piece goes on in the next frame.
//!
//! Frames are written one by one, then the manifest. There is no sync between: a crash keeps a
//! prefix of the writes, so that a manifest is never there without its runs, and a disk that breaks
//! this order is noticed by the sums. Runs that no manifest names are removed at open.

mod catalogue;
mod cover;
mod fold;
mod frame;
mod job;
mod load;
mod manifest;
mod old;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::{DeliveryMark, Seq, State, StateChanges, Timestamp, cbor};
use crate::store::seal::TooLong;
use crate::store::{Store, StoreError, table};

pub use catalogue::Counters;
use catalogue::{Catalogue, Shared};
pub use job::{Job, Report, Saved};
pub use load::Progress;
pub use manifest::{Form, Listed, Run, list};

/// The format of manifests and frames. The one before had none; see `old`.
const FORMAT: u8 = 1;
const KIND_FRAME: u8 = 3;
const KIND_MANIFEST: u8 = 4;
/// Changes that are staged wait until they make a run of this size, so that runs are few.
pub const STAGED_BYTES: usize = 1 << 20;

/// Why a checkpoint cannot be saved or looked for.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest is too large.
    #[error("cannot save the checkpoint: {0}")]
    TooLong(#[from] TooLong),
    /// A run has more than 2³² frames.
    #[error("cannot save the checkpoint: it has too many parts")]
    TooMany,
    /// The manifest cannot be encoded.
    #[error("cannot save the checkpoint: {0}")]
    Encode(#[from] cbor::CborError),
    /// Another was begun since, or a part of it failed.
    #[error("cannot save the checkpoint: it was given up before it was complete")]
    GivenUp,
    /// The store belongs to a newer version of the program.
    #[error(
        "the checkpoints have format {format} and this version of eventflux reads {FORMAT} at \
         most: install the version that wrote them, or a newer one"
    )]
    Newer {
        /// The format.
        format: u8,
    },
}

/// What a checkpoint is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The whole state: there is none before that could be built on.
    Whole,
    /// What has changed since the checkpoint before.
    Changes,
}

/// A state that was loaded.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The checkpoint's number.
    pub number: u64,
    /// The last input that the state has seen.
    pub seq: Seq,
    /// The log's clock then.
    pub time: Timestamp,
    /// The pieces.
    pub state: State,
    /// What lay beside the pieces before format 1.
    pub migrated: Option<Migrated>,
}

/// What lay beside the pieces before format 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Migrated {
    /// The application whose operators the pieces belong to, in its written form.
    pub application: String,
    /// By source: what the sources' brokers could deliver again.
    pub marks: BTreeMap<String, Vec<DeliveryMark>>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The newest state that is whole.
    pub restored: Option<Restored>,
    /// Newer ones that are not, and why: a sentence each.
    pub skipped: Vec<String>,
}

/// The checkpoints of one store, as the thread that computes sees them: it gives changes and gets
/// [`Job`]s, which one other thread runs in the order in which they were handed out.
pub struct Checkpoints {
    store: Arc<dyn Store>,
    shared: Shared,
    attempt: u64,
    staged: Vec<StateChanges>,
}

impl std::fmt::Debug for Checkpoints {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Checkpoints")
            .field("catalogue", &self.shared)
            .finish_non_exhaustive()
    }
}

impl Checkpoints {
    /// Finds what is there and removes what was interrupted. `keep` says how many are kept, at
    /// least 1, besides the newest that shares nothing with the newest of all.
    ///
    /// # Errors
    /// When the store fails, or has a checkpoint of a newer format.
    pub fn open(store: Arc<dyn Store>, keep: usize) -> Result<Checkpoints, CheckpointError> {
        let listed = list(&*store)?;
        let wanted: BTreeSet<u64> = listed
            .iter()
            .flat_map(Listed::runs)
            .map(|run| run.number)
            .collect();
        let (mut orphans, next_run) = manifest::orphans(&*store, &wanted)?;
        let (old_orphans, last_old) = old::orphans(&*store)?;
        orphans.extend(old_orphans);
        for keys in &orphans {
            while manifest::clear_some(&*store, keys)? {}
        }
        let catalogue = Catalogue::new(listed, keep.max(1), next_run, last_old);
        Ok(Checkpoints {
            store,
            shared: Shared::new(catalogue),
            attempt: 0,
            staged: Vec::new(),
        })
    }

    /// Loads the newest state that is whole; the next checkpoint builds on it. Those found damaged
    /// are forgotten, and removed with the next checkpoint. `progress` is told now and then.
    ///
    /// # Errors
    /// When the store fails. Damage is not an error.
    pub fn load_latest(
        &mut self,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Loaded, CheckpointError> {
        let loaded = self.load_newest(|_| true, progress)?;
        if let Some(restored) = &loaded.restored {
            self.shared.lock().build_on(restored.number);
        }
        Ok(loaded)
    }

    /// Loads the newest state that is whole and covers no input after `seq`.
    ///
    /// # Errors
    /// When the store fails. Damage is not an error.
    pub fn load_at_most(
        &self,
        seq: Seq,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Loaded, CheckpointError> {
        self.load_newest(|listed| listed.seq <= seq, progress)
    }

    /// Loads the newest state that is whole and not younger than `time`.
    ///
    /// # Errors
    /// When the store fails. Damage is not an error.
    pub fn load_until(
        &self,
        time: Timestamp,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Loaded, CheckpointError> {
        self.load_newest(|listed| listed.time <= time, progress)
    }

    fn load_newest(
        &self,
        wanted: impl Fn(&Listed) -> bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Loaded, CheckpointError> {
        let mut loaded = Loaded::default();
        for listed in self.list().into_iter().rev().filter(wanted) {
            match load(&*self.store, &listed, progress)? {
                Ok(restored) => {
                    loaded.restored = Some(restored);
                    break;
                }
                Err(why) => {
                    let Listed { number, seq, .. } = listed;
                    let text = format!("checkpoint {number} at {seq} is damaged: {why}");
                    loaded.skipped.push(text);
                    self.shared.lock().is_damaged(number, why);
                }
            }
        }
        Ok(loaded)
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        self.shared.lock().listed().to_vec()
    }

    /// The oldest input after which a retained checkpoint begins: the log must keep everything
    /// after it. `None` when there is none, or one whose input is not known, or when all of them
    /// rest on the same: then the log must keep everything.
    #[must_use]
    pub fn oldest_retained(&self) -> Option<Seq> {
        self.shared.lock().oldest_retained()
    }

    /// What has been written since the store was opened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.lock().counters
    }

    /// Begins a checkpoint and says what it has to hold; one that was begun and not finished is
    /// given up. `None` while the one before has not been written.
    pub fn begin(&mut self) -> Option<Extent> {
        let mut catalogue = self.shared.lock();
        if catalogue.is_finishing() {
            return None;
        }
        self.staged.clear();
        self.attempt += 1;
        Some(catalogue.begin(self.attempt))
    }

    /// From now on so many are kept, at least 1, see [`Checkpoints::open`].
    pub fn keep(&mut self, keep: usize) {
        self.shared.lock().keep(keep.max(1));
    }

    /// Demands that the next checkpoint that is begun holds the whole state.
    pub fn demand_whole(&mut self) {
        self.shared.lock().demand_whole();
    }

    /// After the input `at` the state is what it was after `to`. As long as a checkpoint between
    /// the two is kept, one that is not after `to` is kept too: with the log, it makes the same
    /// again.
    pub fn goes_back(&mut self, at: Seq, to: Seq) {
        self.shared.lock().goes_back(at, to);
    }

    /// Takes some of the changes ahead of the end of the checkpoint that was begun; those given
    /// later win. The job, when there is enough for one, writes them.
    #[must_use]
    pub fn stage(&mut self, changes: StateChanges) -> Option<Job> {
        self.staged.push(changes);
        let bytes = self.staged.iter().map(StateChanges::bytes);
        if bytes.sum::<usize>() < STAGED_BYTES {
            return None;
        }
        let sets = std::mem::take(&mut self.staged);
        Some(Job::stage(&self.shared, self.attempt, sets))
    }

    /// Takes the last changes. The checkpoint exists when the job has been run, and is durable
    /// after the next sync.
    pub fn finish(&mut self, seq: Seq, time: Timestamp, changes: StateChanges) -> Job {
        self.staged.push(changes);
        let sets = std::mem::take(&mut self.staged);
        Job::finish(&self.shared, self.attempt, sets, (seq, time))
    }

    /// Makes fewer runs of those of the newest checkpoint, when that is due. The job gives another
    /// with its report until it is done; checkpoints may be written between.
    #[must_use]
    pub fn fold(&mut self) -> Option<Job> {
        Job::fold(&self.shared)
    }
}

/// Loads one checkpoint; the inner error says what is damaged.
///
/// # Errors
/// When the store fails.
pub fn load(
    store: &dyn Store,
    listed: &Listed,
    progress: &mut dyn FnMut(Progress),
) -> Result<Result<Restored, String>, StoreError> {
    match &listed.form {
        Form::Damaged(why) => Ok(Err(why.clone())),
        Form::Old => Ok(old::load(store, listed.number)?.map_err(|damage| damage.to_string())),
        Form::Runs { runs, .. } => {
            let state = load::runs(store, runs, progress)?;
            Ok(state.map(|state| Restored {
                number: listed.number,
                seq: listed.seq,
                time: listed.time,
                state,
                migrated: None,
            }))
        }
    }
}

fn manifest_key(number: u64) -> Vec<u8> {
    let mut key = vec![table::CHECKPOINT, b'M'];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn frame_key(run: u64, part: u32) -> Vec<u8> {
    let mut key = vec![table::CHECKPOINT, b'R'];
    key.extend_from_slice(&run.to_be_bytes());
    key.extend_from_slice(&part.to_be_bytes());
    key
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
