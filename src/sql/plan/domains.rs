//! Which clock each stream follows.
//!
//! Streams that queries bring together must agree on what time it is. So a *domain* is what is
//! linked by queries, partitions, tables and aggregations; one with a stream whose rows carry
//! their time has a clock of its own, all others share the log's. The rows that queries put into
//! such a stream come in by its entrance, as from outside: that does not link the two.

use std::collections::{BTreeMap, BTreeSet};

use super::{Application, EventTime, Partition, Query, Store, StreamId};

/// The number of the log's domain.
pub const LOG: usize = 0;

/// The domains of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains {
    /// By stream.
    of: Vec<usize>,
    /// By domain: the streams whose rows carry their time. None: the log's.
    timed: Vec<Vec<StreamId>>,
}

impl Domains {
    /// Finds the domains.
    #[must_use]
    pub fn new(application: &Application) -> Domains {
        let streams = &application.streams;
        let mut domains = Domains {
            of: vec![LOG; streams.len()],
            timed: vec![Vec::new()],
        };
        if streams.iter().all(|stream| stream.event_time.is_none()) {
            return domains;
        }
        let linked = linked(application);
        let mut numbers: BTreeMap<usize, usize> = BTreeMap::new();
        for (stream, id) in streams.iter().zip((0..).map(StreamId)) {
            if stream.event_time.is_some() {
                let next = domains.timed.len();
                let number = *numbers.entry(linked.root(id.0)).or_insert(next);
                if number == next {
                    domains.timed.push(Vec::new());
                }
                if let Some(timed) = domains.timed.get_mut(number) {
                    timed.push(id);
                }
            }
        }
        for (stream, of) in domains.of.iter_mut().enumerate() {
            *of = numbers.get(&linked.root(stream)).copied().unwrap_or(LOG);
        }
        domains
    }

    /// How many there are; the log's is always one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.timed.len()
    }

    /// The domain of a stream.
    #[must_use]
    pub fn of(&self, stream: StreamId) -> usize {
        self.of.get(stream.0).copied().unwrap_or(LOG)
    }

    /// The streams of a domain whose rows carry their time.
    #[must_use]
    pub fn timed(&self, domain: usize) -> &[StreamId] {
        self.timed.get(domain).map_or(&[], Vec::as_slice)
    }

    /// The domain in which a query runs.
    #[must_use]
    pub fn of_query(&self, query: &Query) -> usize {
        let streams = query.input.streams();
        let first = streams.first().map(|input| input.stream);
        first.map_or(LOG, |stream| self.of(stream))
    }

    /// The domain in which the queries of a partition run.
    #[must_use]
    pub fn of_partition(&self, partition: &Partition, application: &Application) -> usize {
        let first = partition.queries.first();
        let query = first.and_then(|number| application.queries.get(*number));
        query.map_or(LOG, |query| self.of_query(query))
    }

    /// What sets a domain's clock, for fingerprints; nothing for the log's.
    pub(super) fn written(&self, domain: usize, application: &Application) -> String {
        let timed = self.timed(domain).iter();
        let shown = timed.filter_map(|id| {
            let stream = application.stream(*id)?;
            Some(format!(
                "\nby the time of {} {}",
                stream.name,
                stream.time()?
            ))
        });
        shown.collect()
    }

    /// A query by whose rows a stream would wait for itself: rows are given to it only when its
    /// clock has come so far, which its own rows must move.
    #[must_use]
    pub fn waits_for_itself<'a>(&self, application: &'a Application) -> Option<&'a Query> {
        let enters = |query: &&Query| {
            let target = query.target_stream().and_then(|id| application.stream(id));
            target.is_some_and(|target| target.event_time.is_some())
        };
        let entering = || application.queries.iter().filter(enters);
        let ways: BTreeSet<(usize, usize)> = entering()
            .filter_map(|query| Some((self.of_query(query), self.of(query.target_stream()?))))
            .collect();
        entering().find(|query| {
            let Some(target) = query.target_stream() else {
                return false;
            };
            let from = self.of_query(query);
            let mut reached = BTreeSet::from([self.of(target)]);
            loop {
                let next: Vec<usize> = ways
                    .iter()
                    .filter(|(a, b)| reached.contains(a) && !reached.contains(b))
                    .map(|(_, b)| *b)
                    .collect();
                if next.is_empty() {
                    return reached.contains(&from);
                }
                reached.extend(next);
            }
        })
    }
}

/// Sets of streams, tables and aggregations that are linked.
struct Linked {
    above: Vec<usize>,
}

impl Linked {
    fn root(&self, mut one: usize) -> usize {
        while let Some(above) = self.above.get(one).copied() {
            if above == one {
                break;
            }
            one = above;
        }
        one
    }

    fn link(&mut self, all: impl IntoIterator<Item = usize>) {
        let mut all = all.into_iter();
        let Some(first) = all.next() else { return };
        for other in all {
            let (a, b) = (self.root(first), self.root(other));
            if let Some(above) = self.above.get_mut(a.max(b)) {
                *above = a.min(b);
            }
        }
    }
}

fn linked(application: &Application) -> Linked {
    let streams = application.streams.len();
    let tables = application.tables.len();
    let all = streams + tables + application.aggregations.len();
    let mut linked = Linked {
        above: (0..all).collect(),
    };
    let place = |store: Store| match store {
        Store::Table(table) => streams + table.0,
        Store::Aggregation(one) => streams + tables + one.0,
    };
    let entered = |id: &StreamId| {
        let stream = application.stream(*id);
        stream.is_some_and(|stream| stream.event_time.is_some())
    };
    for query in &application.queries {
        let read = query
            .input
            .streams()
            .into_iter()
            .map(|input| input.stream.0);
        let written = query.target_stream().filter(|id| !entered(id));
        let stores = query.stores().into_iter().map(|(store, _)| place(store));
        linked.link(read.chain(written.map(|id| id.0)).chain(stores));
    }
    for partition in &application.partitions {
        let queries = partition.queries.iter();
        let queries = queries.filter_map(|number| application.queries.get(*number));
        let read = queries.flat_map(|query| query.input.streams());
        linked.link(read.map(|input| input.stream.0));
    }
    for (number, aggregation) in application.aggregations.iter().enumerate() {
        linked.link([aggregation.input.stream.0, streams + tables + number]);
    }
    linked
}

impl super::Stream {
    /// A number that is the same for streams of one name and columns, by which rows that wait at
    /// the entrance are found again, whatever has become of its options.
    #[must_use]
    pub fn entrance_fingerprint(&self) -> u64 {
        super::fingerprint(&format!("entrance {} {}", self.name, self.schema))
    }

    /// The time of its rows in a line, when they carry one.
    #[must_use]
    pub fn time(&self) -> Option<String> {
        let time: &EventTime = self.event_time.as_ref()?;
        let column = self.schema.fields().get(time.column);
        Some(time.describe(column.map_or("?", |field| field.name.as_str())))
    }
}
