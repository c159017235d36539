//! Whether a sink's far side is there: counted, and told when it changes. When it is back and all
//! that has waited is settled, an outage is reported as a whole, see [`super::Outage`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Context, Metrics, OutboxMetrics, count};
use crate::event::{Report, ReportKind};
use crate::report::Reporter;

/// What a sink knows of its far side.
pub(super) struct Link {
    name: String,
    metrics: Arc<Metrics>,
    reporter: Reporter,
    accounts: Arc<OutboxMetrics>,
    /// Whether it is there, and since when that is so.
    state: Option<(bool, Instant)>,
}

impl Link {
    /// Nothing is known yet.
    pub(super) fn new(context: &Context) -> Link {
        Link {
            name: context.name.clone(),
            metrics: Arc::clone(&context.metrics),
            reporter: context.reporter.clone(),
            accounts: Arc::clone(context.deliveries.outbox()),
            state: None,
        }
    }

    /// The far side has answered.
    pub(super) fn up(&mut self) {
        self.metrics.connected.store(true, Ordering::Relaxed);
        if let Some((true, _)) = self.state {
            return;
        }
        count(&self.metrics.connects);
        let lasted = self.change(true);
        self.report(ReportKind::SinkUp, "", lasted);
        self.accounts.outage.end(&self.accounts);
    }

    /// It cannot be reached, does not answer in time, or does not take anything now.
    pub(super) fn down(&mut self, why: &str) {
        self.metrics.connected.store(false, Ordering::Relaxed);
        if let Some((false, _)) = self.state {
            return;
        }
        count(&self.metrics.disconnects);
        let lasted = self.change(false);
        self.report(ReportKind::SinkDown, why, lasted);
        let accounts = &self.accounts;
        accounts.outage.begin(accounts, &self.name, &self.reporter);
    }

    /// How long the former state lasted.
    fn change(&mut self, is_up: bool) -> Option<Duration> {
        let now = Instant::now();
        let before = self.state.replace((is_up, now));
        before.map(|(_, since)| now - since)
    }

    fn report(&self, kind: ReportKind, why: &str, lasted: Option<Duration>) {
        self.reporter.tell(Report {
            kind,
            stream: self.name.clone(),
            reason: why.to_owned(),
            duration_ms: lasted.and_then(|lasted| i64::try_from(lasted.as_millis()).ok()),
            details: None,
        });
    }
}
