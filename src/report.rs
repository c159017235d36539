//! How sources, sinks and the pipeline tell what happens to them, without ever waiting for whoever
//! listens.
//!
//! What is told becomes a row of the stream `_events` when the application reads that stream, and
//! goes to a second listener when there is one; neither waits for the other. What finds a queue
//! full is counted, said in the log, and gone: a report is no event of a sensor, and nobody
//! acknowledges it. That it is gone is no report, so that no flood of them feeds itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::event::Report;

/// Reports that may wait.
const REPORTS_MAX: usize = 256;

/// Takes reports.
#[derive(Clone, Debug, Default)]
pub struct Reporter {
    to: Option<mpsc::Sender<Report>>,
    also: Option<mpsc::Sender<Report>>,
    dropped: Arc<Dropped>,
}

/// How many reports found no room.
#[derive(Debug, Default)]
struct Dropped {
    rows: AtomicU64,
    unheard: AtomicU64,
}

impl Reporter {
    /// A reporter, and what it is told. [`Reporter::default`] is one to whom nobody listens.
    #[must_use]
    pub fn new() -> (Reporter, mpsc::Receiver<Report>) {
        let (to, reports) = mpsc::channel(REPORTS_MAX);
        let reporter = Reporter {
            to: Some(to),
            ..Reporter::default()
        };
        (reporter, reports)
    }

    /// The same, and all that it is told goes to `also` as well.
    #[must_use]
    pub fn heard_by(self, also: Option<mpsc::Sender<Report>>) -> Reporter {
        Reporter { also, ..self }
    }

    /// Tells that something has happened.
    pub fn tell(&self, report: Report) {
        if let Some(also) = &self.also {
            offer(also, report.clone(), &self.dropped.unheard, "the listener");
        }
        if let Some(to) = &self.to {
            offer(to, report, &self.dropped.rows, "`_events`");
        }
    }

    /// Reports that did not become rows of `_events`, since the pipeline was behind.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.rows.load(Ordering::Relaxed)
    }

    /// Reports that the second listener did not hear, since it was behind.
    #[must_use]
    pub fn unheard(&self) -> u64 {
        self.dropped.unheard.load(Ordering::Relaxed)
    }
}

fn offer(to: &mpsc::Sender<Report>, report: Report, dropped: &AtomicU64, whom: &str) {
    if let Err(mpsc::error::TrySendError::Full(_)) = to.try_send(report) {
        let dropped = dropped.fetch_add(1, Ordering::Relaxed) + 1;
        // Seldom enough not to be a flood of its own.
        if dropped.is_power_of_two() {
            tracing::warn!(dropped, "reports for {whom} find no room: it is behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ReportKind;

    #[test]
    fn whoever_is_behind_silences_nobody_else() {
        let (to, mut heard) = mpsc::channel(2);
        let (reporter, mut reports) = Reporter::new();
        let reporter = reporter.heard_by(Some(to));
        let report = |number: usize| Report {
            reason: number.to_string(),
            ..Report::new(ReportKind::SourceDown, "Readings")
        };
        (0..3).for_each(|number| reporter.tell(report(number)));
        assert_eq!((reporter.dropped(), reporter.unheard()), (0, 1));
        assert_eq!(heard.try_recv(), Ok(report(0)));
        assert_eq!(heard.try_recv(), Ok(report(1)));
        for number in 3..=REPORTS_MAX {
            reporter.tell(report(number));
            assert_eq!(heard.try_recv(), Ok(report(number)));
        }
        assert_eq!((reporter.dropped(), reporter.unheard()), (1, 1));
        assert_eq!(reports.try_recv(), Ok(report(0)));
        drop(heard);
        reporter.tell(report(0));
        assert_eq!(reporter.unheard(), 1, "nobody listens any more");
    }
}
