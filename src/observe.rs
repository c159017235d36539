//! What is counted while the daemon runs.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the pipeline counts, readable at any time.
#[derive(Debug, Default)]
pub struct PipelineMetrics {
    /// Turns written.
    pub turns: AtomicU64,
    /// Rows taken from sources.
    pub rows: AtomicU64,
    /// Messages that could not be decoded and are in the log as such.
    pub rejected: AtomicU64,
    /// Ticks logged.
    pub ticks: AtomicU64,
    /// Outputs put into outboxes.
    pub outputs: AtomicU64,
    /// Bytes given to the store by turns.
    pub log_bytes: AtomicU64,
    /// Syncs started.
    pub syncs: AtomicU64,
    /// Checkpoints saved.
    pub checkpoints: AtomicU64,
    /// Expressions that could not be computed and became NULL.
    pub faults: AtomicU64,
}

impl PipelineMetrics {
    /// Every counter with its name, for a status line.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("turns", &self.turns),
            ("rows", &self.rows),
            ("rejected", &self.rejected),
            ("ticks", &self.ticks),
            ("outputs", &self.outputs),
            ("log_bytes", &self.log_bytes),
            ("syncs", &self.syncs),
            ("checkpoints", &self.checkpoints),
            ("faults", &self.faults),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}
