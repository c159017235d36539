//! What is counted while the daemon runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::EngineCounts;
use crate::{sink, source};

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
    /// Rows behind the watermark of their streams.
    pub late: AtomicU64,
    /// Rows whose time was too far ahead.
    pub future: AtomicU64,
    /// Rows that said no time, taken with that of their arrival.
    pub untimed: AtomicU64,
    /// Rows for which there was no room while they waited to be put in order.
    pub reorder_full: AtomicU64,
    /// Rows and messages that went to dead letters.
    pub dead_letters: AtomicU64,
    /// Jumps of the clock on which a trigger passed over instants.
    pub jumps_cut: AtomicU64,
    /// Partial matches of patterns that were dropped since there were too many.
    pub matches_dropped: AtomicU64,
}

impl PipelineMetrics {
    /// Adds what an engine has counted.
    pub fn count_engine(&self, counts: EngineCounts) {
        for (counter, count) in [
            (&self.late, counts.late),
            (&self.future, counts.future),
            (&self.untimed, counts.untimed),
            (&self.reorder_full, counts.full),
            (&self.dead_letters, counts.dead_letters),
            (&self.jumps_cut, counts.jumps_cut),
            (&self.matches_dropped, counts.matches_dropped),
        ] {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

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
            ("late", &self.late),
            ("future", &self.future),
            ("untimed", &self.untimed),
            ("reorder_full", &self.reorder_full),
            ("dead_letters", &self.dead_letters),
            ("jumps_cut", &self.jumps_cut),
            ("matches_dropped", &self.matches_dropped),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

/// Everything that is counted, by who counts it.
#[derive(Debug, Default)]
pub struct Counted {
    /// The pipeline.
    pub pipeline: Arc<PipelineMetrics>,
    /// Sources by name.
    pub sources: Vec<(String, Arc<source::Metrics>)>,
    /// Sinks by name.
    pub sinks: Vec<(String, Arc<sink::Metrics>)>,
}

impl Counted {
    /// Writes all of it to the log, a line for each who counts; what is 0 is left out.
    pub fn tell(&self) {
        tracing::info!("pipeline: {}", line(self.pipeline.all()));
        for (name, metrics) in &self.sources {
            tracing::info!("source {name}: {}", line(metrics.all()));
        }
        for (name, metrics) in &self.sinks {
            tracing::info!("sink {name}: {}", line(metrics.all()));
        }
    }
}

fn line(counters: impl Iterator<Item = (&'static str, u64)>) -> String {
    let some: Vec<String> = counters
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if some.is_empty() {
        "nothing".to_owned()
    } else {
        some.join(", ")
    }
}
