//! The disk under the pipeline: opening the store anew, syncing it, and whether there is room.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::turn::{Core, PipelineError};
use crate::event::Seq;
use crate::observe::Trouble;
use crate::store::{Store, StoreError, table};

/// How often room is looked for while something is written or held back.
pub(super) const ROOM_EVERY: Duration = Duration::from_secs(1);
/// Room is also looked for when so much was written; the store may make seven times that of it.
const ROOM_BYTES: u64 = 128 << 10;

/// How often the content is counted while the store is beyond its limit: it must be read for that.
const CONTENT_EVERY: Duration = Duration::from_secs(2);

/// An open store, recovered.
#[derive(Debug)]
pub struct Opened {
    /// Everything in it.
    pub core: Core,
    /// The store's identity, which begins the ids of its outputs.
    pub identity: u64,
    /// What the checkpoint covers from which it was recovered.
    pub checkpoint: Seq,
}

/// Where the store lies.
pub struct Disk {
    /// Opens the store and recovers; called again whenever the store has failed and is closed.
    pub open: Box<dyn FnMut() -> Result<Opened, PipelineError> + Send>,
    /// The bytes that the file system has left for us; `None` when it does not say.
    pub bytes_free: Box<dyn Fn() -> Option<u64> + Send>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Disk").finish_non_exhaustive()
    }
}

/// What may be used of the disk.
#[derive(Clone, Copy, Debug)]
pub struct RoomLimits {
    /// The bytes that the store may take; 0 for no limit.
    pub bytes_max: u64,
    /// The bytes that are to stay free on the file system; 0 for none.
    pub free_bytes_min: u64,
}

/// Whether there is room, as of the last look.
#[derive(Debug)]
pub(super) struct Room {
    limits: RoomLimits,
    looked: Instant,
    /// Bytes written since.
    written: u64,
    /// What the content took when it was last looked up, with what was written since.
    content: Option<(Instant, u64)>,
    held: Option<(Trouble, String)>,
}

impl Room {
    pub(super) fn new(limits: RoomLimits) -> Room {
        Room {
            limits,
            looked: Instant::now(),
            // To look soon.
            written: 1,
            content: None,
            held: None,
        }
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written = self
            .written
            .saturating_add(u64::try_from(bytes).unwrap_or(0));
    }

    /// Why sources are held back.
    pub(super) fn held(&self) -> Option<&(Trouble, String)> {
        self.held.as_ref()
    }

    /// When to look next; never while nothing happens.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let wanted = self.written > 0 || self.held.is_some();
        wanted.then(|| {
            if self.written >= ROOM_BYTES {
                self.looked
            } else {
                self.looked + ROOM_EVERY
            }
        })
    }

    /// Whether the store takes more than it may, so that it matters how much of that is content.
    pub(super) fn is_beyond(&self, used: u64) -> bool {
        self.limits.bytes_max > 0 && used > self.limits.bytes_max
    }

    /// What of the store's `content` was known not long ago, with what was written since.
    pub(super) fn content(&self) -> Option<u64> {
        let (at, bytes) = self.content?;
        (at.elapsed() < CONTENT_EVERY).then(|| bytes.saturating_add(self.written))
    }

    /// Takes note of what is used, how much of it is content (looked up when the store is beyond
    /// its limit) and free. Room that was missing counts as there again only when there is a
    /// sixteenth more, so that nobody flutters.
    ///
    /// The store's files may not shrink; what became free inside of them is used again. So beyond
    /// the limit it is full only when less than half of that is free. And only as long as outboxes
    /// hold a good part of it: state and log are bounded by other means, and waiting makes neither
    /// smaller.
    pub(super) fn look(
        &mut self,
        used: u64,
        content: Option<u64>,
        outboxes: u64,
        free: Option<u64>,
    ) {
        let fresh = content.filter(|_| self.content().is_none());
        self.content = match fresh {
            Some(bytes) => Some((Instant::now(), bytes)),
            None => self
                .content
                .map(|(at, bytes)| (at, bytes.saturating_add(self.written))),
        };
        self.looked = Instant::now();
        self.written = 0;
        let RoomLimits {
            bytes_max,
            free_bytes_min,
        } = self.limits;
        let before = self.held.as_ref().map(|(trouble, _)| *trouble);
        let more = |of: u64, when: Trouble| if before == Some(when) { of / 16 } else { 0 };
        let content_max = bytes_max / 2 - more(bytes_max / 2, Trouble::StoreFull);
        let can_empty = outboxes > bytes_max / 16;
        let is_full = can_empty && content.is_some_and(|content| content > content_max);
        let free_min = free_bytes_min.saturating_add(more(free_bytes_min, Trouble::DiskLow));
        self.held = match free {
            _ if self.is_beyond(used) && is_full => {
                let content = content.unwrap_or(0);
                let why = format!(
                    "the store takes {used} bytes, {content} of them content; store.bytes_max is \
                     {bytes_max}"
                );
                Some((Trouble::StoreFull, why))
            }
            Some(free) if free < free_min => {
                let why = format!(
                    "{free} bytes are free on the disk; store.free_bytes_min is {free_bytes_min}"
                );
                Some((Trouble::DiskLow, why))
            }
            Some(_) | None => None,
        };
    }
}

/// The bytes that wait for sinks.
pub(super) fn outboxes_of(core: &Core) -> Result<u64, PipelineError> {
    let mut bytes = 0;
    for sink in 0..core.sinks().len() {
        bytes += core.outbox().depth(sink)?.bytes;
    }
    Ok(bytes)
}

/// The bytes of everything that the store holds for us.
pub(super) fn content_of(core: &Core) -> Result<u64, PipelineError> {
    let mut bytes = outboxes_of(core)?;
    for table in [table::CHECKPOINT, table::LOG] {
        core.store()
            .range(&[table], &[table + 1], &mut |key, value| {
                bytes += u64::try_from(key.len() + value.len()).unwrap_or(0);
                ControlFlow::Continue(())
            })?;
    }
    Ok(bytes)
}

/// What a failure of the store comes to for whoever looks at the state.
pub(super) fn trouble_of(error: &StoreError) -> Trouble {
    match error {
        StoreError::Full { .. } => Trouble::DiskFull,
        StoreError::Locked { .. } | StoreError::Unusable { .. } | StoreError::TooNew { .. } => {
            Trouble::StoreUnusable
        }
        StoreError::ReadOnly { .. } | StoreError::Io { .. } | StoreError::Poisoned { .. } => {
            Trouble::DiskFailed
        }
        StoreError::Damaged { .. } => Trouble::StoreDamaged,
    }
}

/// A sync that has ended: what it covers, and how.
pub(super) type Synced = (Seq, Result<(), StoreError>);

/// The thread that waits for the disk's flush.
pub(super) struct Syncer {
    requests: Sender<Seq>,
    pub(super) done: Receiver<Synced>,
    thread: JoinHandle<()>,
}

impl Syncer {
    pub(super) fn start(store: Arc<dyn Store>) -> Result<Syncer, StoreError> {
        let (requests, todo) = bounded::<Seq>(1);
        let (report, done) = bounded::<Synced>(1);
        let thread = std::thread::Builder::new()
            .name("sync".to_owned())
            .spawn(move || {
                for seq in todo {
                    if report.send((seq, store.sync())).is_err() {
                        return;
                    }
                }
            });
        let thread = thread.map_err(|error| StoreError::Io {
            doing: "starting the syncing thread",
            why: error.to_string(),
        })?;
        Ok(Syncer {
            requests,
            done,
            thread,
        })
    }

    /// Asks for a sync of everything written up to `seq`; false when one is under way.
    pub(super) fn request(&self, seq: Seq) -> bool {
        self.requests.try_send(seq).is_ok()
    }

    /// Lets the thread end, after the sync that is under way.
    pub(super) fn close(self) -> JoinHandle<()> {
        self.thread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_missed_at_a_limit_and_there_again_well_within() {
        let limits = RoomLimits {
            bytes_max: 1_600,
            free_bytes_min: 160,
        };
        let table = [
            (1_600, 999, 999, Some(160), None),
            (1_601, 800, 800, Some(160), None),
            (1_601, 801, 100, Some(160), None),
            (1_601, 801, 101, Some(0), Some(Trouble::StoreFull)),
            (2_000, 751, 101, Some(999), Some(Trouble::StoreFull)),
            (2_000, 751, 100, Some(999), None),
            (2_000, 801, 801, Some(999), Some(Trouble::StoreFull)),
            (2_000, 750, 750, Some(160), None),
            (0, 0, 0, Some(159), Some(Trouble::DiskLow)),
            (0, 0, 0, Some(169), Some(Trouble::DiskLow)),
            (0, 0, 0, Some(170), None),
            (0, 0, 0, None, None),
        ];
        let mut room = Room::new(limits);
        for (used, content, outboxes, free, expected) in table {
            room.look(used, Some(content), outboxes, free);
            let held = room.held().map(|(trouble, _)| *trouble);
            assert_eq!(held, expected, "{used} used, {free:?} free");
        }
        let mut room = Room::new(RoomLimits {
            bytes_max: 0,
            free_bytes_min: 0,
        });
        room.look(u64::MAX, Some(u64::MAX), u64::MAX, Some(0));
        assert_eq!(room.held(), None);
        assert_eq!(room.next_look(), None);
    }
}
