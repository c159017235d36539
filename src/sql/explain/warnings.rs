//! What can grow without a bound.

use super::super::plan::{
    Aggregate, Application, Input, Keep, Pattern, PatternStep, Period, Query, Takes, Window,
};

/// What of an application can grow without a bound, a line each.
#[must_use]
pub fn warnings(application: &Application) -> Vec<String> {
    let mut found = Vec::new();
    for (number, query) in application.queries.iter().enumerate() {
        let reasons = of_query(query).into_iter();
        found.extend(reasons.map(|reason| format!("query {number} {reason}")));
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
        if !bounded {
            let what = match table.primary_key.is_empty() {
                true => "row",
                false => "key",
            };
            found.push(format!(
                "table {} keeps every {what} for ever: it has neither 'max_rows' nor 'ttl'",
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
        Input::Pattern(_) => false,
    };
    let unbounded = |window: &Window| window.keeps_every_key();
    let mut windows = query.input.streams().into_iter();
    if windows.any(|input| input.window.as_ref().is_some_and(unbounded)) {
        found.push("keeps a row for every key there ever was: its window has no bound");
    }
    let grouping = query.grouping.as_ref();
    let grouped = grouping.is_some_and(|one| !one.keys.is_empty());
    if grouped && !windowed {
        found.push("keeps a state for every group there ever was: no row leaves it");
    }
    if !windowed && grouping.is_some_and(|one| one.aggregates.iter().any(Aggregate::grows)) {
        found.push("keeps every different value that it aggregates: it has no window");
    }
    if keeps_keys(query) {
        found.push("keeps a state for every key of PARTITION BY that it has met");
    }
    if query.distinct && !windowed && !query.shows_snapshots() {
        found.push("keeps every row it has given: DISTINCT without a window");
    }
    let counts = query
        .rate
        .is_some_and(|rate| rate.keep == Keep::First && matches!(rate.period, Period::Events(_)));
    if grouped && counts {
        found.push("counts the rows of every group: OUTPUT FIRST EVERY … EVENTS");
    }
    let mut calls = query.analytics.iter();
    if calls.any(|call| !call.partition.is_empty()) {
        found.push("keeps a state for every key of OVER (PARTITION BY …) there ever was");
    }
    found
}

/// Whether a pattern remembers keys of which nothing is under way: that they have had their match,
/// or since when something has not come.
fn keeps_keys(query: &Query) -> bool {
    let Input::Pattern(input) = &query.input else {
        return false;
    };
    let pattern = &input.pattern;
    let keyed = pattern.keys.iter().any(Option::is_some);
    let first = pattern.parts.first();
    keyed && first.is_some_and(|part| !part.every || begins_with_absence(pattern, &part.steps))
}

fn begins_with_absence(pattern: &Pattern, chain: &[PatternStep]) -> bool {
    chain.first().is_some_and(|step| match step {
        PatternStep::Element(number) => {
            let element = pattern.elements.get(*number);
            element.is_some_and(|element| matches!(element.takes, Takes::None { for_ms: Some(_) }))
        }
        PatternStep::All(chains) | PatternStep::Any(chains) => {
            let mut chains = chains.iter();
            chains.any(|chain| begins_with_absence(pattern, chain))
        }
    })
}
