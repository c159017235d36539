//! How far sled may run ahead of the disk's cache.
//!
//! Promises: between two positions of sled's log that lie one segment apart there is always a
//! whole flush and fdatasync, as far as the bytes that sled makes of ours can be foreseen.
//! `docs/decisions/0001-sled.md` says why that makes the reuse of segments safe.
//!
//! Leaves to others: doing the sync.
//!
//! ```text
//!  log  ──────────┬──────────────────┬─────────────────────┬──▶
//!               safe              flushed           guess = flushed + ours × factor
//!        on the disk        handed to the kernel    perhaps still in sled's buffers
//! ```

use std::time::{Duration, Instant};

/// sled's unit of reuse, in bytes; stores are made with it and keep it.
pub(super) const SEGMENT_BYTES: u64 = 512 << 10;
/// How many bytes sled's log grows by for each of ours, at least that is assumed.
const FACTOR_MIN: u64 = 7;
/// What sled adds to a change: a head, lengths, a checksum.
const CHANGE_BYTES: u64 = 48;
/// Below so many bytes of ours, what sled made of them says nothing.
const SAMPLE_BYTES_MIN: u64 = 4 << 10;

/// The positions, and what has happened since.
#[derive(Debug)]
pub(super) struct Window {
    /// Everything before it survives a power cut.
    safe: u64,
    /// Where the log ended when it was last flushed: exact.
    flushed: u64,
    /// Bytes of ours since then.
    ours: u64,
    /// What sled's log is assumed to grow by for each of ours: the worst that was seen lately, and
    /// half of that again.
    factor: u64,
    /// Changes ever made, and how many of them are safe.
    changes: u64,
    changes_safe: u64,
    /// When the oldest change that is not safe was made.
    since: Option<Instant>,
}

impl Window {
    /// For a log that ends at `position` and is synced.
    pub(super) fn new(position: u64) -> Window {
        Window {
            safe: position,
            flushed: position,
            ours: 0,
            factor: FACTOR_MIN,
            changes: 0,
            changes_safe: 0,
            since: None,
        }
    }

    /// Another log took the place of this one; it ends at `position` and is synced.
    pub(super) fn restart(&mut self, position: u64) {
        *self = Window {
            changes: self.changes,
            changes_safe: self.changes,
            factor: self.factor,
            ..Window::new(position)
        };
    }

    fn ahead(&self, more: u64) -> u64 {
        let guess = self.ours.saturating_add(more).saturating_mul(self.factor);
        guess.saturating_add(self.flushed.saturating_sub(self.safe))
    }

    /// Whether a change of `bytes` may be made now. One that is larger than everything may be made
    /// when it is the first.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.ours == 0 && self.flushed == self.safe
            || self.ahead(bytes.saturating_add(CHANGE_BYTES)) <= SEGMENT_BYTES
    }

    /// Whether a sync should begin, so that nobody has to wait for it.
    pub(super) fn wants_sync(&self) -> bool {
        self.ours > 0 && self.ahead(0) > SEGMENT_BYTES / 2
    }

    /// A change of `bytes` was made.
    pub(super) fn add(&mut self, bytes: u64) {
        self.ours += bytes + CHANGE_BYTES;
        self.changes += 1;
        if self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    /// sled's buffers are empty and its log ends at `position`. Says how many changes that covers.
    pub(super) fn flushed(&mut self, position: u64) -> u64 {
        if self.ours >= SAMPLE_BYTES_MIN {
            let grown = position.saturating_sub(self.flushed);
            let seen = grown.div_ceil(self.ours);
            let lately = self.factor.saturating_sub(self.factor / 8);
            self.factor = FACTOR_MIN.max(lately).max(seen + seen / 2);
        }
        self.flushed = position;
        self.ours = 0;
        self.since = None;
        self.changes
    }

    /// A sync that began after [`Window::flushed`] said so has ended well.
    pub(super) fn synced(&mut self, position: u64, changes: u64) {
        self.safe = self.safe.max(position);
        self.changes_safe = self.changes_safe.max(changes);
    }

    /// Changes ever made.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether so many changes are safe.
    pub(super) fn covers(&self, changes: u64) -> bool {
        self.changes_safe >= changes
    }

    /// How long until the oldest change has waited for `interval`; `None` when nothing waits.
    pub(super) fn due_in(&self, interval: Duration) -> Option<Duration> {
        Some(interval.saturating_sub(self.since?.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_of_log_never_passes_without_a_whole_sync() {
        let mut random = 1u64;
        for amplification in [1, 4, 7] {
            let mut window = Window::new(0);
            let (mut position, mut began) = (0, 0);
            let mut running = None;
            for _ in 0..20_000 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let bytes = random % 9_000;
                if window.has_room(bytes) {
                    window.add(bytes);
                    position += bytes * amplification;
                    assert!(position - began <= SEGMENT_BYTES, "at {position}");
                } else {
                    // The writer waits for the sync that runs, or else makes one.
                    let (at, changes) = running
                        .take()
                        .unwrap_or_else(|| (position, window.flushed(position)));
                    window.synced(at, changes);
                    began = at;
                }
                if running.is_none() && window.wants_sync() {
                    running = Some((position, window.flushed(position)));
                } else if random % 64 == 0 {
                    if let Some((at, changes)) = running.take() {
                        window.synced(at, changes);
                        began = at;
                    }
                }
            }
            assert!(position > 100 * SEGMENT_BYTES / 7);
        }
    }

    #[test]
    fn what_sled_makes_of_our_bytes_is_learnt_and_slowly_forgotten() {
        let mut window = Window::new(0);
        window.add(10_000);
        assert!(window.has_room(50_000));
        let changes = window.flushed(400_000);
        window.synced(400_000, changes);
        window.add(1);
        assert!(!window.has_room(10_000), "at 40 to 60 for one");
        let mut position = 400_000;
        for _ in 0..20 {
            window.add(5_000);
            position += 5_000;
            let changes = window.flushed(position);
            window.synced(position, changes);
        }
        window.add(1);
        assert!(window.has_room(60_000));
    }

    #[test]
    fn a_change_larger_than_the_window_is_let_through_alone() {
        let mut window = Window::new(0);
        assert!(window.has_room(10 << 20));
        window.add(10 << 20);
        assert!(!window.has_room(0));
        assert!(window.wants_sync());
        let changes = window.flushed(20 << 20);
        assert!(!window.covers(changes));
        window.synced(20 << 20, changes);
        assert!(window.has_room(10 << 20) && window.covers(1));
    }
}
