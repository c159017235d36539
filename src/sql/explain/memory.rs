//! What a query keeps in memory, and what bounds it.

use super::super::plan::{
    Aggregate, Application, Flow, Grouping, Input, Keep, Period, Query, Rate, Source, StreamInput,
    UniqueBound, Window,
};
use super::analytic::{show_analytic, wide_row};
use super::pattern::show_limit;
use super::{input_columns, kept_columns, show, stream_name};
use crate::event::format_duration_ms as span;

/// A line for everything that a query keeps between two rows; none when it keeps nothing.
#[must_use]
pub fn kept(query: &Query, application: &Application) -> Vec<String> {
    let mut found = Vec::new();
    let wide = wide_row(query, application);
    for analytic in query.analytics.iter() {
        let by = match analytic.partition.as_slice() {
            [] => String::new(),
            keys => format!(" for each [{}], for ever", super::join(keys, &wide)),
        };
        found.push(format!(
            "what {} looks back on{by}",
            show_analytic(analytic, &wide)
        ));
    }
    let columns = input_columns(query, application);
    match &query.input {
        Input::Stream(input) => found.extend(window(input, query, &columns)),
        Input::Join(_) => sides(query, application, &mut found),
        Input::Pattern(input) => {
            found.push(show_limit(&input.pattern));
            for input in &input.pattern.inputs {
                if let Some(window) = &input.window {
                    let columns = kept_columns(input, application);
                    let name = stream_name(application, input.stream);
                    found.push(format!("{} of {name}", rows(window, &columns)));
                }
            }
        }
    }
    if let Some(grouping) = &query.grouping {
        found.push(groups(grouping, query, &columns));
        if grouping.aggregates.iter().any(Aggregate::grows) {
            let until = match query.flow() {
                Flow::Endless => ", for ever",
                Flow::Sliding | Flow::Batch => "",
            };
            found.push(format!(
                "every different value of what is aggregated exactly{until}"
            ));
        }
    }
    if query.distinct {
        found.push(
            match query.flow() {
                Flow::Endless => "every different output row, for ever",
                Flow::Sliding => "the different output rows of the window, each with a count",
                Flow::Batch => "the different output rows of the open batch",
            }
            .to_owned(),
        );
    }
    found.extend(query.rate.map(|rate| waiting(rate, query, &columns)));
    found
}

/// What the window of the only stream holds, or what waits for its batch.
fn window(input: &StreamInput, query: &Query, columns: &[String]) -> Option<String> {
    let window = input.window.as_ref()?;
    let rows = rows(window, columns);
    let batch = match window {
        Window::LengthBatch { .. }
        | Window::TimeBatch { .. }
        | Window::Tumbling { .. }
        | Window::Cron { .. }
        | Window::Batch => true,
        Window::Length { .. }
        | Window::Time { .. }
        | Window::TimeLength { .. }
        | Window::ExternalTime { .. }
        | Window::Delay { .. }
        | Window::Sort { .. }
        | Window::Unique { .. }
        | Window::Frequent { .. }
        | Window::LossyFrequent { .. }
        | Window::Expression { .. }
        | Window::Hop { .. }
        | Window::ExternalTimeBatch { .. }
        | Window::Session { .. }
        | Window::ExpressionBatch { .. }
        | Window::State { .. } => false,
    };
    match (batch, &query.grouping) {
        (true, Some(_)) => None,
        (true, None) => Some(format!("the output rows of {rows}")),
        (false, _) => Some(format!("{rows}, [{}] of each", columns.join(", "))),
    }
}

/// The rows that a window holds.
fn rows(window: &Window, columns: &[String]) -> String {
    let keys = |keys: &[_]| super::join(keys, columns);
    match window {
        Window::Length { rows } => format!("the last {rows} rows"),
        Window::Time { span_ms } => format!("the rows of the last {}", span(*span_ms)),
        Window::TimeLength { span_ms, rows } => {
            format!("the last {rows} rows, at most those of {}", span(*span_ms))
        }
        Window::ExternalTime { time, span_ms } => {
            let time = show(time, columns);
            format!("the rows of the last {} of {time}", span(*span_ms))
        }
        Window::Delay { span_ms } => format!("the rows of the last {}", span(*span_ms)),
        Window::Sort { rows, .. } => format!("{rows} rows"),
        Window::Unique {
            keys: by, bound, ..
        } => {
            let by = keys(by);
            match bound {
                UniqueBound::None => format!("a row for each [{by}], for ever"),
                UniqueBound::Rows(rows) => format!("a row for each [{by}], at most {rows}"),
                UniqueBound::Span(span_ms) => {
                    format!("a row for each [{by}] of the last {}", span(*span_ms))
                }
            }
        }
        Window::Frequent { counters, keys: by } => {
            format!("a row for each [{}], at most {counters}", keys(by))
        }
        Window::LossyFrequent {
            error, keys: by, ..
        } => {
            let by = keys(by);
            format!(
                "a row for each [{by}] that is frequent, about {:.0}",
                1.0 / error
            )
        }
        Window::Expression { .. } => "the latest rows for which the condition holds".to_owned(),
        Window::LengthBatch { rows } => format!("the open batch, at most {rows} rows"),
        Window::TimeBatch { span_ms, .. } | Window::Tumbling { span_ms, .. } => {
            format!("the open batch of {}", span(*span_ms))
        }
        Window::Hop { size_ms, .. } => format!("the rows of the last {}", span(*size_ms)),
        Window::ExternalTimeBatch { time, span_ms, .. } => {
            let time = show(time, columns);
            format!("the open batch of {} of {time}", span(*span_ms))
        }
        Window::Session { key: None, .. } => "the rows of the open session".to_owned(),
        Window::Session { key: Some(key), .. } => {
            format!(
                "the rows of the open session of each [{}]",
                show(key, columns)
            )
        }
        Window::Cron { .. } | Window::ExpressionBatch { .. } | Window::State { .. } => {
            "the open batch".to_owned()
        }
        Window::Batch => "the rows of one input".to_owned(),
    }
}

fn groups(grouping: &Grouping, query: &Query, columns: &[String]) -> String {
    if grouping.keys.is_empty() {
        return "one group".to_owned();
    }
    let keys = super::join(&grouping.keys, columns);
    let of = match query.flow() {
        Flow::Endless => ", for ever",
        Flow::Sliding => " in the window",
        Flow::Batch => " of the open batch",
    };
    format!("a group for each [{keys}]{of}")
}

/// What the streams of a join have to be found by.
fn sides(query: &Query, application: &Application, found: &mut Vec<String>) {
    for input in query.input.streams() {
        let Some(window) = &input.window else {
            continue;
        };
        let columns = kept_columns(input, application);
        let rows = rows(window, &columns);
        let name = stream_name(application, input.stream);
        found.push(format!(
            "{rows} of {name}, [{}] of each, by key",
            columns.join(", ")
        ));
    }
    if let Input::Join(input) = &query.input {
        let nested = [&input.join.left, &input.join.right];
        let nested = nested
            .iter()
            .any(|side| matches!(side.source, Source::Join(_)));
        if nested {
            found.push("what is joined on the way".to_owned());
        }
    }
}

/// What waits for the end of an output period.
fn waiting(rate: Rate, query: &Query, columns: &[String]) -> String {
    let period = match rate.period {
        Period::Events(count) => format!("{count} rows"),
        Period::Time(span_ms) => span(span_ms),
    };
    let keys = query.grouping.as_ref().filter(|one| !one.keys.is_empty());
    let keys = keys.map(|one| super::join(&one.keys, columns));
    match (rate.keep, keys, rate.period) {
        (Keep::All, ..) => format!("the output rows of {period}"),
        (Keep::Last, Some(keys), _) => {
            format!("the last output row of each [{keys}] of {period}")
        }
        (Keep::Last, None, _) => "the last output row".to_owned(),
        (Keep::First, Some(keys), Period::Events(_)) => {
            format!("a count for each [{keys}], for ever")
        }
        (Keep::First, Some(keys), Period::Time(_)) => format!("each [{keys}] of {period}"),
        (Keep::First, None, _) => "whether the period has had its row".to_owned(),
        (Keep::Snapshot, ..) => match query.flow() {
            Flow::Batch => "the output rows of the last batch".to_owned(),
            Flow::Sliding => "the rows of the result".to_owned(),
            Flow::Endless if query.grouping.is_some() => "the groups of the result".to_owned(),
            Flow::Endless => "the last output row".to_owned(),
        },
    }
}
