//! What has become of a sink's outputs, kept by the pipeline and read by the sink.

use super::Outage;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Stored groups of outputs that were found damaged.
    pub damaged: AtomicU64,
    /// How many of those that were given up went on as dead letters, since the start and without
    /// those that recovery has made.
    pub letters: AtomicU64,
    /// Outputs that wait now.
    pub waiting: AtomicU64,
    /// The bytes that they take.
    pub waiting_bytes: AtomicU64,
    /// What is kept of an outage.
    pub outage: Outage,
}

impl OutboxMetrics {
    /// Every counter with its name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("confirmed", &self.confirmed),
            ("dropped", &self.dropped),
            ("expired", &self.expired),
            ("refused", &self.refused),
            ("damaged", &self.damaged),
            ("letters", &self.letters),
            ("waiting", &self.waiting),
            ("waiting_bytes", &self.waiting_bytes),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}
