//! One report for each outage of a far side: from when to when, and what has become of the outputs
//! that waited through it.
//!
//! It is made when the last of them is settled. The sink says when its link goes and comes, the
//! pipeline how far the outbox is; so it is the outbox's accounts that are told, not what a sink
//! believes. An outage that begins again before that goes on. It is forgotten with the process:
//! after a restart it begins when the link is found down.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::OutboxMetrics;
use crate::clock;
use crate::event::{OutputKey, Report, ReportKind};
use crate::report::Reporter;

/// What is kept of an outage, if there is one.
#[derive(Debug, Default)]
pub struct Outage {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last output that was made.
    last: OutputKey,
    /// Nothing waits up to here.
    settled: OutputKey,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    stream: String,
    reporter: Reporter,
    from: Instant,
    before: Sums,
    /// When the link came back, and the last output that was made until then.
    over: Option<(Instant, OutputKey)>,
}

/// What has become of outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    forwarded: u64,
    dropped: u64,
    expired: u64,
    refused: u64,
}

impl Sums {
    fn of(accounts: &OutboxMetrics) -> Sums {
        Sums {
            forwarded: accounts.confirmed.load(Ordering::Relaxed),
            dropped: accounts.dropped.load(Ordering::Relaxed),
            expired: accounts.expired.load(Ordering::Relaxed),
            refused: accounts.refused.load(Ordering::Relaxed),
        }
    }

    /// A store that was set aside takes its accounts with it.
    fn since(self, before: Sums) -> Sums {
        Sums {
            forwarded: self.forwarded.saturating_sub(before.forwarded),
            dropped: self.dropped.saturating_sub(before.dropped),
            expired: self.expired.saturating_sub(before.expired),
            refused: self.refused.saturating_sub(before.refused),
        }
    }
}

impl Outage {
    /// The far side of the sink `stream` is gone.
    pub(crate) fn begin(&self, accounts: &OutboxMetrics, stream: &str, reporter: &Reporter) {
        let mut state = self.lock();
        let open = state.open.get_or_insert_with(|| Open {
            stream: stream.to_owned(),
            reporter: reporter.clone(),
            from: Instant::now(),
            before: Sums::of(accounts),
            over: None,
        });
        open.over = None;
    }

    /// It is there again.
    pub(crate) fn end(&self, accounts: &OutboxMetrics) {
        let mut state = self.lock();
        let last = state.last;
        if let Some(open) = &mut state.open {
            open.over.get_or_insert((Instant::now(), last));
        }
        state.tell_if_over(accounts);
    }

    /// `last` is the last output that was made, and nothing waits up to the output `settled`.
    pub fn settled(&self, accounts: &OutboxMetrics, last: OutputKey, settled: OutputKey) {
        let mut state = self.lock();
        state.last = last;
        state.settled = settled;
        state.tell_if_over(accounts);
    }

    /// Whether there is one that is not told yet.
    #[cfg(test)]
    pub(crate) fn is_open(&self) -> bool {
        self.lock().open.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell_if_over(&mut self, accounts: &OutboxMetrics) {
        let settled = self.settled;
        let is_over = |open: &mut Open| open.over.is_some_and(|(_, last)| last <= settled);
        let Some(open) = self.open.take_if(is_over) else {
            return;
        };
        let until = open.over.map_or(open.from, |(until, _)| until);
        open.tell(until, Sums::of(accounts).since(open.before));
    }
}

impl Open {
    fn tell(&self, until: Instant, sums: Sums) {
        let Sums {
            forwarded,
            dropped,
            expired,
            refused,
        } = sums;
        // Both from the wall clock of this moment: often it was wrong until the link came back.
        let now = clock::wall().0;
        let ago = |at: Instant| i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX);
        let (from, to) = (
            now.saturating_sub(ago(self.from)),
            now.saturating_sub(ago(until)),
        );
        let lasted = until.saturating_duration_since(self.from);
        tracing::info!(
            stream = self.stream,
            forwarded,
            dropped,
            expired,
            refused,
            "all that waited while the far side was away for {lasted:.1?} is settled"
        );
        let details = format!(
            "{{\"dropped\":{dropped},\"expired\":{expired},\"forwarded\":{forwarded},\
             \"from\":{from},\"refused\":{refused},\"to\":{to}}}"
        );
        self.reporter.tell(Report {
            kind: ReportKind::SinkOutage,
            stream: self.stream.clone(),
            reason: String::new(),
            duration_ms: i64::try_from(lasted.as_millis()).ok(),
            details: Some(details),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use super::*;
    use crate::event::Seq;

    fn key(number: u64) -> OutputKey {
        OutputKey {
            seq: Seq(number),
            ..OutputKey::default()
        }
    }

    fn add(counter: &AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }

    /// In simulated time.
    fn simulated(test: impl Future<Output = ()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(test);
    }

    async fn seconds(count: u64) {
        tokio::time::advance(Duration::from_secs(count)).await;
    }

    #[test]
    fn one_report_when_the_last_that_waited_is_settled() {
        simulated(async {
            let (reporter, mut reports) = Reporter::new();
            let accounts = OutboxMetrics::default();
            let outage = &accounts.outage;
            add(&accounts.confirmed, 100);
            outage.settled(&accounts, key(1), key(1));
            outage.begin(&accounts, "Alerts", &reporter);
            seconds(60).await;
            add(&accounts.dropped, 3);
            outage.settled(&accounts, key(9), key(4));
            outage.end(&accounts);
            // Away again before the rest was through: one outage.
            outage.begin(&accounts, "Alerts", &reporter);
            seconds(20).await;
            outage.settled(&accounts, key(12), key(4));
            outage.end(&accounts);
            seconds(10).await;
            add(&accounts.confirmed, 8);
            add(&accounts.refused, 1);
            outage.settled(&accounts, key(30), key(11));
            assert!(reports.try_recv().is_err());
            outage.settled(&accounts, key(30), key(12));
            let report = reports.try_recv().unwrap();
            assert_eq!(report.kind, ReportKind::SinkOutage);
            assert_eq!(report.stream, "Alerts");
            assert_eq!(report.duration_ms, Some(80_000));
            let details: serde_json::Value =
                serde_json::from_str(&report.details.unwrap()).unwrap();
            let number = |name: &str| details[name].as_i64().unwrap();
            assert_eq!(number("to") - number("from"), 80_000);
            let sums = ["forwarded", "dropped", "expired", "refused"].map(number);
            assert_eq!(sums, [8, 3, 0, 1]);
            outage.settled(&accounts, key(40), key(40));
            assert!(reports.try_recv().is_err());
        });
    }

    #[test]
    fn an_outage_in_which_nothing_waited_ends_with_the_link() {
        simulated(async {
            let (reporter, mut reports) = Reporter::new();
            let accounts = OutboxMetrics::default();
            accounts.outage.end(&accounts);
            assert!(reports.try_recv().is_err());
            accounts.outage.begin(&accounts, "Alerts", &reporter);
            seconds(5).await;
            accounts.outage.end(&accounts);
            assert_eq!(reports.try_recv().unwrap().duration_ms, Some(5_000));
        });
    }
}
