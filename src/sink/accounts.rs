//! What has become of a sink's outputs, kept by the pipeline and read by the sink.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::Outage;
use crate::event::Timestamp;

/// What has become of a sink's outputs, readable at any time. But for the letters, the accounts of
/// its outbox, which go on over restarts.
#[derive(Debug, Default)]
pub struct OutboxMetrics {
    /// Outputs that the far side has confirmed.
    pub confirmed: AtomicU64,
    /// Outputs that the limit in bytes has cost.
    pub dropped: AtomicU64,
    /// Outputs whose time to live was over.
    pub expired: AtomicU64,
    /// Outputs that the far side will never take.
    pub refused: AtomicU64,
    /// Outputs that an operator has given up.
    pub purged: AtomicU64,
    /// Stored groups of outputs that were found damaged.
    pub damaged: AtomicU64,
    /// How many of those that were given up went on as dead letters, since the start and without
    /// those that recovery has made.
    pub letters: AtomicU64,
    /// Outputs that wait now.
    pub waiting: AtomicU64,
    /// The bytes that they take.
    pub waiting_bytes: AtomicU64,
    /// When the oldest of them was made, in milliseconds of the log's clock; means nothing when
    /// none waits.
    pub oldest_ms: AtomicI64,
    /// Whether the sink is given nothing for now.
    pub paused: AtomicBool,
    /// What is kept of an outage.
    pub outage: Outage,
}

impl OutboxMetrics {
    /// How long the oldest has waited at `now`, in milliseconds; 0 when none waits, or when the
    /// clock was set back since.
    #[must_use]
    pub fn oldest_age_ms(&self, now: Timestamp) -> u64 {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let oldest_ms = self.oldest_ms.load(Ordering::Relaxed);
        u64::try_from(now.0.saturating_sub(oldest_ms)).unwrap_or(0)
    }

    /// Every counter with its name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("confirmed", &self.confirmed),
            ("dropped", &self.dropped),
            ("expired", &self.expired),
            ("refused", &self.refused),
            ("purged", &self.purged),
            ("damaged", &self.damaged),
            ("letters", &self.letters),
            ("waiting", &self.waiting),
            ("waiting_bytes", &self.waiting_bytes),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}
