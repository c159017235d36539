//! How sources and sinks tell what happens to them, without ever waiting for whoever listens.
//!
//! What is told becomes a row of the stream `_events` when the application reads that stream, and
//! nothing otherwise. What finds the queue full is counted, said in the log, and gone: a report is
//! no event of a sensor, and nobody acknowledges it.

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
    dropped: Arc<AtomicU64>,
}

impl Reporter {
    /// A reporter, and what it is told. [`Reporter::default`] is one to whom nobody listens.
    #[must_use]
    pub fn new() -> (Reporter, mpsc::Receiver<Report>) {
        let (to, reports) = mpsc::channel(REPORTS_MAX);
        let reporter = Reporter {
            to: Some(to),
            dropped: Arc::default(),
        };
        (reporter, reports)
    }

    /// Tells that something has happened.
    pub fn tell(&self, report: Report) {
        let told = self.to.as_ref().map(|to| to.try_send(report));
        if let Some(Err(mpsc::error::TrySendError::Full(_))) = told {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            // Seldom enough not to be a flood of its own.
            if dropped.is_power_of_two() {
                tracing::warn!(
                    dropped,
                    "reports for `_events` find no room: the pipeline is behind"
                );
            }
        }
    }
}
