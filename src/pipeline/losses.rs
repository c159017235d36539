//! What is reported of the outputs that an outbox gives up: how many, and not too often.
//!
//! A report is a row, and what comes of that row may be given up too. So a loss is reported only
//! when it is greater than what reports alone can have made of it: one output for each that was
//! told of since. What is not reported is in the sum that the next report tells.

use std::time::{Duration, Instant};

use crate::event::{Report, ReportKind};
use crate::outbox::Counts;

/// At most one report in so long for each sink and reason.
const REPORT_SPAN: Duration = Duration::from_secs(10);

/// Why outputs are given up, in the order in which [`Losses`] keeps them.
const REASONS: [&str; 4] = ["full", "expired", "refused", "purged"];

/// What of a sink's losses was reported.
#[derive(Debug)]
pub(super) struct Losses([Told; REASONS.len()]);

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// Outputs, since the outbox exists.
    outputs: u64,
    /// When it was reported last.
    at: Option<Instant>,
    /// How many reports of losses there were before that one, of all sinks.
    reports: u64,
}

fn sums(counts: Counts) -> [u64; REASONS.len()] {
    [
        counts.dropped,
        counts.expired,
        counts.refused,
        counts.purged,
    ]
}

impl Losses {
    /// Nothing is reported of what was lost before.
    pub(super) fn new(counts: Counts) -> Losses {
        Losses(sums(counts).map(|outputs| Told {
            outputs,
            ..Told::default()
        }))
    }

    /// What is to be reported of the sink `name`; `reports` counts the reports of all sinks.
    pub(super) fn news(
        &mut self,
        name: &str,
        counts: Counts,
        now: Instant,
        reports: &mut u64,
    ) -> Vec<Report> {
        let mut news = Vec::new();
        for ((told, sum), reason) in self.0.iter_mut().zip(sums(counts)).zip(REASONS) {
            // An outbox that began anew counts anew.
            told.outputs = told.outputs.min(sum);
            let lost = sum - told.outputs;
            if told.due(sum, *reports, now).is_none_or(|at| at > now) {
                continue;
            }
            *told = Told {
                outputs: sum,
                at: Some(now),
                reports: *reports,
            };
            *reports += 1;
            news.push(Report {
                reason: reason.to_owned(),
                details: Some(format!("{{\"outputs\":{lost},\"since_ever\":{sum}}}")),
                ..Report::new(ReportKind::OutboxDropped, name)
            });
        }
        news
    }

    /// When there is something to report.
    pub(super) fn next(&self, counts: Counts, now: Instant, reports: u64) -> Option<Instant> {
        let all = self.0.iter().zip(sums(counts));
        all.filter_map(|(told, sum)| told.due(sum, reports, now))
            .min()
    }
}

impl Told {
    /// When it is to be reported that so many are lost; never what reports can have cost alone.
    fn due(&self, sum: u64, reports: u64, now: Instant) -> Option<Instant> {
        let lost = sum.saturating_sub(self.outputs);
        let Some(at) = self.at else {
            return (lost > 0).then_some(now);
        };
        (lost > reports.saturating_sub(self.reports)).then(|| at + REPORT_SPAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds from the start, what is lost until then for being full and for being too old; and
    /// the details that are reported.
    type Row = (u64, u64, u64, &'static [(&'static str, &'static str)]);

    fn check(what: &str, before: Counts, rows: &[Row]) {
        let start = Instant::now();
        let mut losses = Losses::new(before);
        let mut reports = 0;
        for (seconds, dropped, expired, expected) in rows {
            let now = start + Duration::from_secs(*seconds);
            let counts = Counts {
                dropped: *dropped,
                expired: *expired,
                ..Counts::default()
            };
            let due = losses
                .next(counts, now, reports)
                .is_some_and(|at| at <= now);
            assert_eq!(due, !expected.is_empty(), "{what}: at {seconds}");
            let news = losses.news("Alerts", counts, now, &mut reports);
            let told = news.iter().map(|report| {
                assert_eq!(
                    (report.kind, &*report.stream),
                    (ReportKind::OutboxDropped, "Alerts")
                );
                (report.reason.as_str(), report.details.as_deref().unwrap())
            });
            assert_eq!(told.collect::<Vec<_>>(), *expected, "{what}: at {seconds}");
        }
    }

    #[test]
    fn losses_are_reported_with_their_number_and_seldom() {
        let before = Counts {
            dropped: 7,
            ..Counts::default()
        };
        check(
            "a flood",
            before,
            &[
                (0, 7, 0, &[]),
                (1, 8, 0, &[("full", r#"{"outputs":1,"since_ever":8}"#)]),
                (2, 500, 0, &[]),
                (3, 900, 1, &[("expired", r#"{"outputs":1,"since_ever":1}"#)]),
                (
                    11,
                    900,
                    1,
                    &[("full", r#"{"outputs":892,"since_ever":900}"#)],
                ),
                (60, 900, 1, &[]),
            ],
        );
        check(
            "an outbox that begins anew",
            before,
            &[
                (0, 0, 0, &[]),
                (1, 2, 0, &[("full", r#"{"outputs":2,"since_ever":2}"#)]),
            ],
        );
    }

    #[test]
    fn every_way_to_lose_an_output_has_its_word() {
        let counts = Counts {
            confirmed: 1,
            dropped: 2,
            expired: 3,
            refused: 4,
            purged: 5,
            damaged: 6,
        };
        let mut reports = 0;
        let mut losses = Losses::new(Counts::default());
        let news = losses.news("Alerts", counts, Instant::now(), &mut reports);
        let told: Vec<(&str, &str)> = news
            .iter()
            .map(|report| (&*report.reason, report.details.as_deref().unwrap()))
            .collect();
        let expected = [
            ("full", r#"{"outputs":2,"since_ever":2}"#),
            ("expired", r#"{"outputs":3,"since_ever":3}"#),
            ("refused", r#"{"outputs":4,"since_ever":4}"#),
            ("purged", r#"{"outputs":5,"since_ever":5}"#),
        ];
        assert_eq!(told, expected);
        assert_eq!(reports, 4);
    }

    /// The report of each loss is an output of the same sink, and expires as well.
    #[test]
    fn reports_of_lost_reports_come_to_an_end() {
        check(
            "a sink of `_events`",
            Counts::default(),
            &[
                (0, 0, 3, &[("expired", r#"{"outputs":3,"since_ever":3}"#)]),
                (60, 0, 4, &[]),
                (120, 0, 4, &[]),
                (180, 0, 5, &[("expired", r#"{"outputs":2,"since_ever":5}"#)]),
                (240, 0, 6, &[]),
            ],
        );
    }
}
