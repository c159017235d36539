//! Windows as text.

use super::super::plan::{Condition, Emit, Expr, UniqueBound, Window};
use super::super::zone::Zone;
use super::{show, show_aggregate, show_key};
use crate::event::format_duration_ms as span;

/// A window over rows whose columns have these names.
pub(super) fn show_window(window: &Window, emit: Emit, kept: &[String]) -> String {
    let emit = match emit {
        Emit::Current => "current",
        Emit::Expired => "expired",
        Emit::All => "current and expired",
    };
    let kind = if window.is_batch() {
        "batch"
    } else {
        "sliding"
    };
    let shown = if window.is_batch() {
        batch(window, kept)
    } else {
        sliding(window, kept)
    };
    format!(
        "window {shown} ({kind}, {emit}, keeps [{}])",
        kept.join(", ")
    )
}

fn sliding(window: &Window, kept: &[String]) -> String {
    match window {
        Window::Length { rows } => format!("length {rows}"),
        Window::Time { span_ms } => format!("time {}", span(*span_ms)),
        Window::TimeLength { span_ms, rows } => format!("timeLength {} {rows}", span(*span_ms)),
        Window::ExternalTime { time, span_ms } => {
            format!("externalTime {} {}", show(time, kept), span(*span_ms))
        }
        Window::Delay { span_ms } => format!("delay {}", span(*span_ms)),
        Window::Sort { rows, keys } => {
            let keys: Vec<String> = keys.iter().map(|key| show_key(key, kept)).collect();
            format!("sort {rows} by {}", keys.join(", "))
        }
        Window::Unique { keys, first, bound } => {
            let which = if *first { "first" } else { "latest" };
            let bound = match bound {
                UniqueBound::None => String::new(),
                UniqueBound::Rows(rows) => format!(" of {rows}"),
                UniqueBound::Span(span_ms) => format!(" within {}", span(*span_ms)),
            };
            format!("unique {which} by [{}]{bound}", list(keys, kept))
        }
        Window::Frequent { counters, keys } => {
            format!("frequent {counters} of [{}]", list(keys, kept))
        }
        Window::LossyFrequent {
            support,
            error,
            keys,
        } => format!(
            "lossyFrequent {support} error {error} of [{}]",
            list(keys, kept)
        ),
        Window::Expression { condition } => {
            format!("expression {}", show_condition(condition, kept))
        }
        Window::LengthBatch { .. }
        | Window::TimeBatch { .. }
        | Window::Tumbling { .. }
        | Window::Hop { .. }
        | Window::ExternalTimeBatch { .. }
        | Window::Session { .. }
        | Window::Cron { .. }
        | Window::ExpressionBatch { .. }
        | Window::State { .. }
        | Window::Batch => String::new(),
    }
}

fn batch(window: &Window, kept: &[String]) -> String {
    let from = |start: &Option<i64>| start.map_or(String::new(), |start| format!(" from {start}"));
    match window {
        Window::LengthBatch { rows } => format!("lengthBatch {rows}"),
        Window::TimeBatch { span_ms, start } => {
            format!("timeBatch {}{}", span(*span_ms), from(start))
        }
        Window::Tumbling {
            span_ms,
            offset_ms,
            zone,
        } => {
            let zone = zone.as_ref().map(Zone::name);
            let zone = zone.map_or(String::new(), |zone| format!(" in {zone}"));
            format!("tumbling {} + {offset_ms} ms{zone}", span(*span_ms))
        }
        Window::Hop { size_ms, hop_ms } => {
            format!("hop {} every {}", span(*size_ms), span(*hop_ms))
        }
        Window::ExternalTimeBatch {
            time,
            span_ms,
            start,
            timeout_ms,
        } => {
            let timeout = timeout_ms.map(|ms| format!(" timeout {}", span(ms)));
            let (time, start) = (show(time, kept), from(start));
            let timeout = timeout.unwrap_or_default();
            format!(
                "externalTimeBatch {time} {}{start}{timeout}",
                span(*span_ms)
            )
        }
        Window::Session {
            gap_ms,
            key,
            latency_ms,
        } => {
            let key = key.as_ref().map(|key| format!(" by {}", show(key, kept)));
            let key = key.unwrap_or_default();
            format!("session {}{key} + {}", span(*gap_ms), span(*latency_ms))
        }
        Window::Cron { cron, zone } => format!("cron {cron} in {}", zone.name()),
        Window::ExpressionBatch { condition } => {
            format!("expressionBatch {}", show_condition(condition, kept))
        }
        Window::State { begin, emit } => format!(
            "state from {} to {}",
            show(begin, kept),
            show_condition(emit, kept)
        ),
        Window::Batch => "batch".to_owned(),
        Window::Length { .. }
        | Window::Time { .. }
        | Window::TimeLength { .. }
        | Window::ExternalTime { .. }
        | Window::Delay { .. }
        | Window::Sort { .. }
        | Window::Unique { .. }
        | Window::Frequent { .. }
        | Window::LossyFrequent { .. }
        | Window::Expression { .. } => String::new(),
    }
}

fn list(exprs: &[Expr], kept: &[String]) -> String {
    let shown: Vec<String> = exprs.iter().map(|expr| show(expr, kept)).collect();
    shown.join(", ")
}

fn show_condition(condition: &Condition, kept: &[String]) -> String {
    let name = |column: &usize| kept.get(*column).map_or("?", String::as_str);
    let aggregates = condition.aggregates.iter();
    let row: Vec<String> = aggregates
        .map(|one| show_aggregate(one, kept))
        .chain(
            condition
                .first
                .iter()
                .map(|column| format!("first.{}", name(column))),
        )
        .chain(
            condition
                .last
                .iter()
                .map(|column| format!("last.{}", name(column))),
        )
        .collect();
    show(&condition.holds, &row)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::sql::{SqlText, compile, explain};

    /// State is found by this text, so windows that differ must not look alike.
    const DIFFERENT: &[&str] = &[
        "'length', 5",
        "'length', 6",
        "'lengthBatch', 5",
        "'time', 5",
        "'timeBatch', 5",
        "'timeBatch', 5, 1",
        "'timeLength', 5, 5",
        "'timeLength', 5, 6",
        "'delay', 5",
        "'externalTime', t, 5",
        "'externalTime', t + 1, 5",
        "'externalTimeBatch', t, 5",
        "'externalTimeBatch', t, 5, 0",
        "'externalTimeBatch', t, 5, 0, 7",
        "'sort', 5, a",
        "'sort', 5, a, 'desc'",
        "'sort', 5, a, t",
        "'unique', a",
        "'unique', a, t",
        "'firstUnique', a",
        "'uniqueLength', a, 5",
        "'firstUniqueLength', a, 5",
        "'uniqueTime', a, 5",
        "'firstUniqueTime', a, 5",
        "'frequent', 5",
        "'frequent', 5, a",
        "'lossyFrequent', 0.5, 0.1, a",
        "'lossyFrequent', 0.5, 0.2, a",
        "'lossyFrequent', 0.6, 0.1, a",
        "'expression', 'first.a = last.a'",
        "'expression', 'first.a = first.t'",
        "'expression', 'a = t'",
        "'expression', 'sum(a) > 5'",
        "'expression', 'sum(t) > 5'",
        "'expressionBatch', 'sum(t) > 5'",
        "'state', a > 5, a > 5",
        "'state', a > 5, a > 6",
        "'tumbling', 5",
        "'tumbling', 5, 1",
        "'tumbling', 1 DAY",
        "'tumbling', 1 DAY, 'timezone' = 'UTC'",
        "'tumbling', 1 DAY, 'timezone' = 'Europe/Berlin'",
        "'hop', 5, 1",
        "'hop', 5, 2",
        "'hop', 6, 1",
        "'session', 5",
        "'session', 5, 1",
        "'session', 5, a",
        "'session', 5, t",
        "'session', 5, a, 1",
        "'cron', '* * * * *'",
        "'cron', '0 * * * *'",
        "'cron', '* * * * *', 'timezone' = 'Asia/Tokyo'",
        "'batch'",
    ];

    #[test]
    fn windows_that_differ_look_different() {
        let mut seen = BTreeSet::new();
        for window in DIFFERENT {
            let text = format!(
                "CREATE STREAM S (a BIGINT, t BIGINT); \
                 INSERT INTO Out SELECT a, t FROM S WINDOW({window});"
            );
            let path = "test".to_owned();
            let application = compile(&[SqlText { path, text }]).unwrap();
            let print = application.queries[0].fingerprint(&application);
            assert!(
                seen.insert(print),
                "{window}\n{}",
                explain::explain(&application)
            );
        }
    }
}
