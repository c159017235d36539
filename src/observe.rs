//! What is counted while the daemon runs, and whether it does all that it should.
//!
//! Bytes written for an event or in an idle hour are differences of [`PipelineMetrics::log_bytes`],
//! `outbox_bytes`, `checkpoint_bytes` and `cursor_bytes`, which together are all that is given to
//! the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::engine::EngineCounts;
use crate::event::{Report, ReportKind};
use crate::report::Reporter;
pub use crate::sink::OutboxMetrics;
use crate::{sink, source};

/// Why sources are held back, or may be soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No space is left on the disk.
    DiskFull,
    /// Little space is left on the disk.
    DiskLow,
    /// The disk takes very long.
    DiskSlow,
    /// Reading or writing failed.
    DiskFailed,
    /// The store has reached its limit.
    StoreFull,
    /// The store cannot be opened: read-only, no permission, locked.
    StoreUnusable,
    /// The store is damaged.
    StoreDamaged,
}

impl Trouble {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Trouble::DiskFull => "disk_full",
            Trouble::DiskLow => "disk_low",
            Trouble::DiskSlow => "disk_slow",
            Trouble::DiskFailed => "disk_failed",
            Trouble::StoreFull => "store_full",
            Trouble::StoreUnusable => "store_unusable",
            Trouble::StoreDamaged => "store_damaged",
        }
    }
}

/// What is wrong, and since when anything is.
#[derive(Clone, Debug)]
pub struct Degraded {
    /// In a word.
    pub trouble: Trouble,
    /// In a sentence.
    pub why: String,
    /// When all was well last.
    pub since: Instant,
}

/// Whether all is well. Every change is told in the log, once, and reported.
#[derive(Debug, Default)]
pub struct Health {
    degraded: Mutex<Option<Degraded>>,
    reporter: Reporter,
}

impl Health {
    /// What is wrong; `None` when all is well.
    #[must_use]
    pub fn degraded(&self) -> Option<Degraded> {
        self.lock().clone()
    }

    /// Something is wrong.
    pub fn degrade(&self, trouble: Trouble, why: &str) {
        let mut degraded = self.lock();
        let known = degraded.as_ref().map(|known| (known.trouble, known.since));
        if known.is_none_or(|(known, _)| known != trouble) {
            tracing::warn!("degraded, {}: {why}; sources are held back", trouble.word());
            self.reporter.tell(Report {
                reason: why.to_owned(),
                details: Some(details(trouble)),
                ..Report::new(ReportKind::StoreDegraded, "")
            });
        }
        *degraded = Some(Degraded {
            trouble,
            why: why.to_owned(),
            since: known.map_or_else(Instant::now, |(_, since)| since),
        });
    }

    /// All is well again.
    pub fn recover(&self) {
        if let Some(Degraded { trouble, since, .. }) = self.lock().take() {
            let lasted = since.elapsed();
            let seconds = lasted.as_secs_f32();
            tracing::warn!("recovered from {} after {seconds:.1} s", trouble.word());
            self.reporter.tell(Report {
                duration_ms: i64::try_from(lasted.as_millis()).ok(),
                details: Some(details(trouble)),
                ..Report::new(ReportKind::StoreRecovered, "")
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Degraded>> {
        self.degraded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn details(trouble: Trouble) -> String {
    format!("{{\"trouble\":\"{}\"}}", trouble.word())
}

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
    /// Bytes given to the store by checkpoints.
    pub checkpoint_bytes: AtomicU64,
    /// How often disk space was given back.
    pub compactions: AtomicU64,
    /// Checkpoints that were written again with fewer parts.
    pub folds: AtomicU64,
    /// The longest that the turns have waited for a part of the state to be taken, in microseconds.
    pub checkpoint_pause_us_max: AtomicU64,
    /// Bytes given to the store by outputs.
    pub outbox_bytes: AtomicU64,
    /// Bytes given to the store by confirmations of outputs.
    pub cursor_bytes: AtomicU64,
    /// Bytes that the store takes on disk, as of the last look.
    pub store_bytes: AtomicU64,
    /// Acknowledgements that wait for the disk now.
    pub acks_held: AtomicU64,
    /// Times that the store failed, each attempt to open it anew included.
    pub store_failures: AtomicU64,
    /// Times that the store was opened anew.
    pub store_reopened: AtomicU64,
    /// Records that were lost with the store and made again from memory.
    pub records_again: AtomicU64,
    /// Times that the log was told of the state of the clock.
    pub clock_records: AtomicU64,
    /// Whether it does all that it should.
    pub health: Health,
    /// Where the pipeline tells what happens to it.
    pub reporter: Reporter,
    /// The log's time as of the last turn, in milliseconds since the epoch; 0 before any.
    pub log_ms: AtomicU64,
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
    /// Nothing is counted yet, and what happens is told.
    #[must_use]
    pub fn telling(reporter: Reporter) -> PipelineMetrics {
        PipelineMetrics {
            health: Health {
                reporter: reporter.clone(),
                ..Health::default()
            },
            reporter,
            ..PipelineMetrics::default()
        }
    }

    /// The turns have waited so long for a part of the state to be taken.
    pub fn pause(&self, span: Duration) {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.checkpoint_pause_us_max
            .fetch_max(us, Ordering::Relaxed);
    }

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
            ("checkpoint_bytes", &self.checkpoint_bytes),
            ("folds", &self.folds),
            ("compactions", &self.compactions),
            ("checkpoint_pause_us_max", &self.checkpoint_pause_us_max),
            ("outbox_bytes", &self.outbox_bytes),
            ("cursor_bytes", &self.cursor_bytes),
            ("store_bytes", &self.store_bytes),
            ("acks_held", &self.acks_held),
            ("store_failures", &self.store_failures),
            ("store_reopened", &self.store_reopened),
            ("records_again", &self.records_again),
            ("clock_records", &self.clock_records),
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
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// The pipeline.
    pub pipeline: Arc<PipelineMetrics>,
    /// Sources by name.
    pub sources: Vec<(String, Arc<source::Metrics>)>,
    /// Sinks by name.
    pub sinks: Vec<(String, Arc<sink::Metrics>)>,
    /// Outboxes by the names of their sinks.
    pub outboxes: Vec<(String, Arc<OutboxMetrics>)>,
}

impl Counted {
    /// Writes what the pipeline counts to the log, when anything is new since `told`.
    pub fn tell_news(&self, told: &mut String) {
        let news = line(self.pipeline.all());
        if news != *told {
            tracing::info!("pipeline: {news}");
            *told = news;
        }
    }

    /// Writes all of it to the log, a line for each who counts; what is 0 is left out.
    pub fn tell(&self) {
        tracing::info!("pipeline: {}", line(self.pipeline.all()));
        for (name, metrics) in &self.sources {
            tracing::info!("source {name}: {}", line(metrics.all()));
        }
        for (name, metrics) in &self.sinks {
            tracing::info!("sink {name}: {}", line(metrics.all()));
        }
        for (name, metrics) in &self.outboxes {
            tracing::info!("outbox of {name}: {}", line(metrics.all()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_reported_once_and_that_it_is_over() {
        let (reporter, mut reports) = Reporter::new();
        let metrics = PipelineMetrics::telling(reporter);
        metrics.health.recover();
        for (trouble, why) in [
            (Trouble::DiskLow, "few bytes"),
            (Trouble::DiskLow, "fewer bytes"),
            (Trouble::DiskFull, "none"),
        ] {
            metrics.health.degrade(trouble, why);
        }
        metrics.health.recover();
        metrics.health.recover();
        let mut told = Vec::new();
        while let Ok(report) = reports.try_recv() {
            assert_eq!(
                report.duration_ms.is_some(),
                report.kind == ReportKind::StoreRecovered
            );
            told.push((report.kind, report.reason, report.details.unwrap()));
        }
        let expected = [
            (
                ReportKind::StoreDegraded,
                "few bytes",
                r#"{"trouble":"disk_low"}"#,
            ),
            (
                ReportKind::StoreDegraded,
                "none",
                r#"{"trouble":"disk_full"}"#,
            ),
            (ReportKind::StoreRecovered, "", r#"{"trouble":"disk_full"}"#),
        ];
        let expected = expected.map(|(kind, why, details)| (kind, why.into(), details.into()));
        assert_eq!(told, expected);
    }
}
