//! What rows of a stream can reach, and where two ways from it meet.
//!
//! Rows that come in together may go through the queries together only when nobody could tell:
//! where two ways lead to one place (a stream that is looked at, a join, a table that is both
//! changed and read), the rows of the second way would come after all rows of the first.

use std::collections::BTreeSet;

use crate::sql::Application;
use crate::sql::plan::{Access, Eviction, Input, Store, StreamId};

/// What rows of one stream can reach.
pub(super) struct Reach {
    /// Whether two ways lead to one place.
    pub(super) meets: bool,
    /// Whether queries bring them to the entrance of another domain, or to a table that may refuse
    /// them into a stream.
    pub(super) enters: bool,
    /// The queries and aggregations on the way.
    pub(super) stops: BTreeSet<Stop>,
}

/// Something that takes rows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stop {
    Query(usize),
    Aggregation(usize),
}

/// What takes the rows of each stream, as often as it reads it.
pub(super) fn readers(plan: &Application) -> Vec<Vec<Stop>> {
    let mut readers = vec![Vec::new(); plan.streams.len()];
    let mut add = |stream: StreamId, stop| {
        if let Some(list) = readers.get_mut(stream.0) {
            let list: &mut Vec<Stop> = list;
            list.push(stop);
        }
    };
    for (number, aggregation) in plan.aggregations.iter().enumerate() {
        add(aggregation.input.stream, Stop::Aggregation(number));
    }
    for (number, query) in plan.queries.iter().enumerate() {
        for input in query.input.streams() {
            add(input.stream, Stop::Query(number));
        }
    }
    readers
}

/// Follows the rows of `stream`. `watched` are the streams that somebody looks at from outside.
pub(super) fn reach(
    plan: &Application,
    readers: &[Vec<Stop>],
    watched: &[bool],
    stream: usize,
) -> Reach {
    let mut reach = Reach {
        meets: false,
        enters: false,
        stops: BTreeSet::new(),
    };
    let mut stores: Vec<(Store, Access)> = Vec::new();
    let mut streams = BTreeSet::from([stream]);
    let mut open = vec![stream];
    while let Some(stream) = open.pop() {
        for stop in readers.get(stream).into_iter().flatten() {
            let first = reach.stops.insert(*stop);
            let query = match stop {
                Stop::Aggregation(number) => {
                    let store = Store::Aggregation(crate::sql::plan::AggregationId(*number));
                    stores.push((store, Access::Writes));
                    continue;
                }
                Stop::Query(number) => plan.queries.get(*number),
            };
            let Some(query) = query else { continue };
            if !first {
                // By several sides of a join or streams of a pattern, or by two ways to the stream
                // that it reads.
                reach.meets |= matches!(query.input, Input::Join(_) | Input::Pattern(_));
                continue;
            }
            stores.extend(query.stores());
            reach.enters |= query
                .target_table()
                .and_then(|table| plan.tables.get(table.0))
                .is_some_and(|table| table.letters.is_some());
            let Some(target) = query.target_stream() else {
                continue;
            };
            let entered = plan.stream(target);
            reach.enters |= entered.is_some_and(|entered| entered.event_time.is_some());
            if streams.insert(target.0) {
                open.push(target.0);
            } else {
                let seen = watched.get(target.0).copied().unwrap_or(false);
                let read = readers.get(target.0).is_some_and(|list| !list.is_empty());
                reach.meets |= seen || read;
            }
        }
    }
    for (store, access) in &mut stores {
        if leaves_traces(plan, *store) {
            *access = Access::Writes;
        }
    }
    stores.sort_unstable();
    let shared = stores.windows(2).any(|pair| match pair {
        [(a, x), (b, y)] => a == b && (*x == Access::Writes || *y == Access::Writes),
        _ => false,
    });
    reach.meets |= shared;
    reach
}

/// Whether a look changes what a later look finds: which row is evicted next, which have outlived
/// their time.
fn leaves_traces(plan: &Application, store: Store) -> bool {
    let Store::Table(table) = store else {
        return false;
    };
    plan.tables.get(table.0).is_some_and(|table| {
        let evicts = table.rows_max.is_some() && table.eviction == Eviction::Lru;
        evicts || table.ttl_ms.is_some()
    })
}
