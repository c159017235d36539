//! What can grow without a bound.

use super::super::plan::{Aggregate, Application, Input, Keep, Period, Query, Window};

/// What can grow without a bound.
#[must_use]
pub fn warnings(application: &Application) -> Vec<String> {
    let mut found = Vec::new();
    for (number, query) in application.queries.iter().enumerate() {
        let of_query = of_query(query).into_iter();
        found.extend(of_query.map(|what| format!("query {number} {what}")));
    }
    for one in &application.aggregations {
        if one.aggregates.iter().any(Aggregate::grows) {
            found.push(format!(
                "aggregation {} keeps every different value of a bucket as long as the bucket",
                one.name
            ));
        }
    }
    for (number, partition) in application.partitions.iter().enumerate() {
        if partition.idle_ms.is_none() {
            found.push(format!(
                "partition {number} keeps every key for ever: it has no 'partition.idle'"
            ));
        }
    }
    for table in &application.tables {
        let bounded = table.rows_max.is_some() || table.ttl_ms.is_some();
        if !bounded && table.primary_key.is_empty() {
            found.push(format!(
                "table {} can grow for ever: it has neither key, 'max_rows' nor 'ttl'",
                table.name
            ));
        }
    }
    found
}

fn of_query(query: &Query) -> Vec<&'static str> {
    let mut found = Vec::new();
    let windowed = match &query.input {
        Input::Stream(input) => input.forgets(),
        Input::Join(input) => input.join.forgets(),
    };
    for input in query.input.streams() {
        if input.window.as_ref().is_some_and(Window::keeps_every_key) {
            found.push("keeps a row for every key there ever was: its window has no bound");
        }
    }
    let grouping = query.grouping.as_ref();
    let keyed = grouping.is_some_and(|one| !one.keys.is_empty());
    if keyed && !windowed {
        found.push("keeps a state for every group there ever was: no row leaves it");
    }
    if !windowed && grouping.is_some_and(|one| one.aggregates.iter().any(Aggregate::grows)) {
        found.push("keeps every different value that it aggregates: it has no window");
    }
    if query.distinct && !windowed && !query.shows_snapshots() {
        found.push("keeps every row it has given: DISTINCT without a window");
    }
    let counts = query
        .rate
        .is_some_and(|rate| rate.keep == Keep::First && matches!(rate.period, Period::Events(_)));
    if keyed && counts {
        found.push("counts the rows of every group: OUTPUT FIRST EVERY … EVENTS");
    }
    let mut calls = query.analytics.iter();
    if calls.any(|call| !call.partition.is_empty()) {
        found.push("keeps a state for every key of OVER (PARTITION BY …) there ever was");
    }
    found
}
