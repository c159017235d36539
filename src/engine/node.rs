//! What an engine is made of: each node takes rows of streams, keeps a state, has deadlines and
//! gives rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::draws::Draws;
use super::expr::Cx;
use super::join::Lookup;
use super::partition::Partition;
use super::pattern::Matcher;
use super::query::Running;
use super::reach::Stop;
use super::rollup::SharedRollup;
use super::share::Rooms;
use super::state::{Load, Save, StateError};
use super::table::SharedTable;
use super::trigger::Trigger;
use crate::event::{Batch, Rows, Stamp, Timestamp};
use crate::sql::Application;
use crate::sql::plan::{Domains, LOG, StreamId, Table};

/// What queries share besides streams.
#[derive(Clone, Default)]
pub(super) struct Stores {
    pub(super) tables: Arc<[SharedTable]>,
    pub(super) draws: Arc<Draws>,
    pub(super) aggregations: Arc<[Arc<dyn Lookup>]>,
    /// For each query, the first that it can share its feed with.
    pub(super) shared: Arc<[Option<usize>]>,
}

impl Stores {
    /// Compiling for rows in which column `i` lies at `columns[i]`; empty means at `i`.
    pub(super) fn cx<'a>(&'a self, columns: &'a [usize]) -> Cx<'a> {
        Cx {
            columns,
            tables: &self.tables,
            draws: Some(&self.draws),
        }
    }

    /// The first query that this one can share its feed with; none: there is no other.
    pub(super) fn shared_feed(&self, query: usize) -> Option<usize> {
        self.shared.get(query).copied().flatten()
    }
}

/// One node.
pub(super) enum Node {
    /// A table. Queries change it and look into it; here its state is kept.
    Table(usize, SharedTable),
    /// An aggregation. Joins look into it.
    Aggregation(usize, SharedRollup),
    /// A query that stands by itself.
    Query(usize, Box<Running>),
    /// The queries of a partition, for all its keys.
    Partition(usize, Box<Partition>),
    /// A trigger.
    Trigger(usize, StreamId, Trigger),
}

/// What made some rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A query, by its number.
    Query(usize),
    /// Nothing but the clock; the rows are those of this stream.
    Stream(StreamId),
}

/// Where rows of a stream go in.
#[derive(Clone, Copy)]
pub(super) struct Port {
    pub(super) node: usize,
    pub(super) stream: StreamId,
    /// Which of the node's inputs, when it has several of its own.
    pub(super) input: usize,
}

/// Every node of a plan, and what reads each stream, in the order of definition. `shared` says for
/// each query with which it can share its feed.
pub(super) fn all(
    plan: &Application,
    shared: Vec<Option<usize>>,
) -> (Stores, Vec<Node>, Vec<Vec<Port>>) {
    let mut stores = Stores {
        tables: plan.tables.iter().map(SharedTable::new).collect(),
        draws: Arc::default(),
        aggregations: Arc::new([]),
        shared: shared.into(),
    };
    let mut nodes = Vec::new();
    for (number, table) in stores.tables.iter().enumerate() {
        nodes.push(Node::Table(number, table.clone()));
    }
    let mut readers: Vec<Vec<Port>> = vec![Vec::new(); plan.streams.len()];
    stores.aggregations = rollups(plan, &stores, &mut nodes, &mut readers);
    for (number, trigger) in plan.triggers.iter().enumerate() {
        nodes.push(Node::Trigger(number, trigger.stream, Trigger::new(trigger)));
    }
    let mut partitions = Vec::new();
    for (number, query) in plan.queries.iter().enumerate() {
        let Some(partition) = query.partition else {
            let node = nodes.len();
            nodes.push(Node::Query(number, Box::new(Running::new(query, &stores))));
            for (input, stream) in query.input.streams().into_iter().enumerate() {
                let stream = stream.stream;
                if let Some(list) = readers.get_mut(stream.0) {
                    list.push(Port {
                        node,
                        stream,
                        input,
                    });
                }
            }
            continue;
        };
        if partitions.contains(&partition) {
            continue;
        }
        partitions.push(partition);
        let node = nodes.len();
        let running = Partition::new(plan, partition, &stores);
        for stream in running.reads() {
            if let Some(list) = readers.get_mut(stream.0) {
                list.push(Port {
                    node,
                    stream,
                    input: 0,
                });
            }
        }
        nodes.push(Node::Partition(partition, Box::new(running)));
    }
    (stores, nodes, readers)
}

/// The aggregations, which read their streams in front of the queries: a row that asks one is in
/// it already.
fn rollups(
    plan: &Application,
    stores: &Stores,
    nodes: &mut Vec<Node>,
    readers: &mut [Vec<Port>],
) -> Arc<[Arc<dyn Lookup>]> {
    let mut lookups: Vec<Arc<dyn Lookup>> = Vec::new();
    for (number, aggregation) in plan.aggregations.iter().enumerate() {
        let rollup = SharedRollup::new(aggregation, stores);
        lookups.push(Arc::new(rollup.clone()));
        let stream = aggregation.input.stream;
        if let Some(list) = readers.get_mut(stream.0) {
            list.push(Port {
                node: nodes.len(),
                stream,
                input: 0,
            });
        }
        nodes.push(Node::Aggregation(number, rollup));
    }
    lookups.into()
}

impl Node {
    /// A query has a feed of its own. For nodes that have not had anything yet.
    pub(super) fn unshare(&mut self) {
        if let Node::Query(_, query) = self {
            query.unshare();
        }
    }

    /// A query looks through the feed of one before it that has had the same rows.
    pub(super) fn share(&mut self, stores: &Stores, rooms: &mut Rooms) {
        let Node::Query(number, query) = self else {
            return;
        };
        if let Some(first) = stores.shared_feed(*number) {
            let fresh = query.fresh();
            let own = std::mem::replace(&mut **query, fresh);
            **query = own.shared(first, rooms);
        }
    }

    /// The same node, fresh.
    pub(super) fn renew(&mut self, plan: &Application, stores: &Stores) {
        match self {
            Node::Table(_, table) => table.lock().clear(),
            Node::Aggregation(_, rollup) => rollup.lock().clear(),
            Node::Query(number, query) => {
                if let Some(plan) = plan.queries.get(*number) {
                    **query = Running::new(plan, stores);
                }
            }
            Node::Partition(number, partition) => {
                **partition = Partition::new(plan, *number, stores);
            }
            Node::Trigger(number, _, trigger) => {
                if let Some(plan) = plan.triggers.get(*number) {
                    *trigger = Trigger::new(plan);
                }
            }
        }
    }

    /// Whether this is where a query or aggregation of the plan runs.
    pub(super) fn is(&self, stop: Stop) -> bool {
        match (self, stop) {
            (Node::Query(number, _), Stop::Query(query)) => *number == query,
            (Node::Partition(_, partition), Stop::Query(query)) => partition.has(query),
            (Node::Aggregation(number, _), Stop::Aggregation(one)) => *number == one,
            (
                Node::Table(..)
                | Node::Aggregation(..)
                | Node::Query(..)
                | Node::Partition(..)
                | Node::Trigger(..),
                _,
            ) => false,
        }
    }

    /// The domain whose clock it follows. Tables have none: who changes them has.
    pub(super) fn domain(&self, plan: &Application, domains: &Domains) -> usize {
        let domain = match self {
            Node::Table(..) => None,
            Node::Aggregation(number, _) => plan
                .aggregations
                .get(*number)
                .map(|one| domains.of(one.input.stream)),
            Node::Query(number, _) => plan.queries.get(*number).map(|one| domains.of_query(one)),
            Node::Partition(number, _) => plan
                .partitions
                .get(*number)
                .map(|one| domains.of_partition(one, plan)),
            Node::Trigger(_, stream, _) => Some(domains.of(*stream)),
        };
        domain.unwrap_or(LOG)
    }

    /// Whether it still waits for the clock to be known.
    pub(super) fn starts(&self) -> bool {
        match self {
            Node::Table(..) | Node::Aggregation(..) | Node::Partition(..) => false,
            Node::Query(_, query) => query.starts(),
            Node::Trigger(_, _, trigger) => trigger.starts(),
        }
    }

    /// The clock is known for the first time.
    pub(super) fn start(&mut self, at: Stamp) {
        match self {
            Node::Table(..) | Node::Aggregation(..) | Node::Partition(..) => {}
            Node::Query(_, query) => query.start(at),
            Node::Trigger(_, _, trigger) => trigger.start(at),
        }
    }

    /// Takes rows, all before the next deadline.
    pub(super) fn push(&mut self, port: Port, rows: Rows<'_>) {
        match self {
            Node::Query(_, query) => query.push(port.input, rows),
            Node::Partition(_, partition) => partition.push(port.stream, rows),
            Node::Aggregation(_, rollup) => rollup.lock().push(rows),
            Node::Table(..) | Node::Trigger(..) => {}
        }
    }

    /// The same for a pattern that stands by itself, when it is known what the rows fit.
    pub(super) fn push_fitting(&mut self, port: Port, rows: Rows<'_>, fits: &[(u32, u64)]) {
        if let Node::Query(_, query) = self {
            query.push_fitting(port.input, rows, fits);
        }
    }

    /// What looks for the matches of a pattern that stands by itself.
    pub(super) fn matcher(&self) -> Option<&Matcher> {
        match self {
            Node::Query(_, query) => query.matcher(),
            Node::Table(..) | Node::Aggregation(..) | Node::Partition(..) | Node::Trigger(..) => {
                None
            }
        }
    }

    /// The clock has reached the deadline, on its way to `until`.
    pub(super) fn fire(&mut self, at: Stamp, until: Timestamp) {
        match self {
            Node::Query(_, query) => query.fire(at),
            Node::Partition(_, partition) => partition.fire(at),
            Node::Trigger(_, _, trigger) => trigger.fire(at, until),
            Node::Table(..) | Node::Aggregation(..) => {}
        }
    }

    /// When it must be fired next, as things are.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match self {
            Node::Query(_, query) => query.deadline(),
            Node::Partition(_, partition) => partition.deadline(),
            Node::Trigger(_, _, trigger) => trigger.deadline(),
            Node::Table(..) | Node::Aggregation(..) => None,
        }
    }

    /// The earliest deadline that rows from `time` on could bring about.
    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        match self {
            Node::Query(_, query) => query.earliest(time),
            Node::Partition(_, partition) => partition.earliest(time),
            Node::Table(..) | Node::Aggregation(..) | Node::Trigger(..) => None,
        }
    }

    /// How long after a row its first deadline comes, when that is always the same.
    pub(super) fn delay_ms(&self) -> Option<i64> {
        match self {
            Node::Query(_, query) => query.delay_ms(),
            Node::Table(..) | Node::Aggregation(..) | Node::Partition(..) | Node::Trigger(..) => {
                None
            }
        }
    }

    /// The next rows that have come out.
    pub(super) fn take(&mut self) -> Option<(Source, Batch)> {
        let (source, out) = match self {
            Node::Query(number, query) => (Source::Query(*number), query.output()),
            Node::Partition(_, partition) => {
                let (query, out) = partition.take()?;
                return Some((Source::Query(query), out));
            }
            Node::Trigger(_, stream, trigger) => (Source::Stream(*stream), &mut trigger.out),
            Node::Table(..) | Node::Aggregation(..) => return None,
        };
        if out.is_empty() {
            return None;
        }
        let width = out.width();
        Some((source, std::mem::replace(out, Batch::new(width))))
    }

    /// Takes the memory of such rows back.
    pub(super) fn take_back(&mut self, rows: Batch) {
        if let Node::Query(_, query) = self {
            // Rows that have come out meanwhile stay.
            if query.output().is_empty() {
                *query.output() = rows;
            }
        }
    }

    /// Expressions that could not be computed since the last call.
    pub(super) fn take_faults(&mut self) -> u64 {
        match self {
            Node::Query(_, query) => query.take_faults(),
            Node::Partition(_, partition) => partition.take_faults(),
            Node::Aggregation(_, rollup) => rollup.lock().take_faults(),
            Node::Table(..) | Node::Trigger(..) => 0,
        }
    }

    /// Jumps of the clock on which a trigger passed over instants, since the last call.
    pub(super) fn take_cut(&mut self) -> u64 {
        match self {
            Node::Trigger(_, _, trigger) => trigger.take_cut(),
            Node::Table(..) | Node::Aggregation(..) | Node::Query(..) | Node::Partition(..) => 0,
        }
    }

    /// Partial matches that were dropped since the last call, since there were too many.
    pub(super) fn take_dropped(&mut self) -> u64 {
        match self {
            Node::Query(_, query) => query.take_dropped(),
            Node::Partition(_, partition) => partition.take_dropped(),
            Node::Table(..) | Node::Aggregation(..) | Node::Trigger(..) => 0,
        }
    }

    /// Whether there is anything to remember between two rows.
    pub(super) fn has_state(&self) -> bool {
        match self {
            Node::Query(_, query) => query.has_state(),
            Node::Table(..) | Node::Aggregation(..) | Node::Partition(..) | Node::Trigger(..) => {
                true
            }
        }
    }

    /// What it feeds, where it is one query or one thing that queries feed.
    pub(super) fn target(&self, plan: &Application) -> Option<String> {
        match self {
            Node::Query(number, _) => plan
                .queries
                .get(*number)
                .map(|query| plan.target_name(query).to_owned()),
            Node::Aggregation(number, _) => {
                plan.aggregations.get(*number).map(|one| one.name.clone())
            }
            Node::Table(..) | Node::Partition(..) | Node::Trigger(..) => None,
        }
    }

    /// What it is called in messages.
    pub(super) fn describe(&self, plan: &Application) -> String {
        match self {
            Node::Table(number, _) => plan
                .tables
                .get(*number)
                .map(|table| format!("the table '{}'", table.name)),
            Node::Aggregation(number, _) => plan
                .aggregations
                .get(*number)
                .map(|one| format!("the aggregation '{}'", one.name)),
            Node::Query(number, _) => plan.queries.get(*number).map(|query| {
                let target = plan.target_name(query);
                let line = query.place.line;
                format!("the query into '{target}' ({}:{line})", query.path)
            }),
            Node::Partition(number, _) => plan.partitions.get(*number).map(|partition| {
                let line = partition.place.line;
                format!("the partition at {}:{line}", partition.path)
            }),
            Node::Trigger(_, stream, _) => plan
                .stream(*stream)
                .map(|stream| format!("the trigger '{}'", stream.name)),
        }
        .unwrap_or_default()
    }

    /// A number that is the same for nodes that mean the same, in every process and version.
    pub(super) fn fingerprint(&self, plan: &Application) -> u64 {
        let print = match self {
            Node::Table(number, _) => plan.tables.get(*number).map(Table::fingerprint),
            Node::Aggregation(number, _) => plan
                .aggregations
                .get(*number)
                .map(|one| one.fingerprint(plan)),
            Node::Query(number, _) => plan.queries.get(*number).map(|q| q.fingerprint(plan)),
            Node::Partition(number, _) => plan
                .partitions
                .get(*number)
                .map(|partition| partition.fingerprint(plan)),
            Node::Trigger(number, ..) => plan
                .triggers
                .get(*number)
                .map(|trigger| trigger.fingerprint(plan)),
        };
        print.unwrap_or_default()
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        match self {
            Node::Query(_, query) => query.save(save),
            Node::Partition(_, partition) => partition.save(save),
            Node::Trigger(_, _, trigger) => trigger.save(save),
            Node::Table(_, table) => table.lock().save(save),
            Node::Aggregation(_, rollup) => rollup.lock().save(save),
        }
    }

    /// Takes a state back, out of `all`, which has the pieces of every operator. `claimed` is told
    /// of which ones.
    pub(super) fn load(
        &mut self,
        operator: u64,
        all: &BTreeMap<u64, Load<'_>>,
        claimed: &mut Vec<u64>,
    ) -> Result<(), StateError> {
        let Some(load) = all.get(&operator) else {
            return Ok(());
        };
        claimed.push(operator);
        match self {
            Node::Query(_, query) => query.load(load),
            Node::Trigger(_, _, trigger) => trigger.load(load),
            Node::Table(_, table) => table.lock().load(load),
            Node::Aggregation(_, rollup) => rollup.lock().load(load),
            Node::Partition(_, partition) => partition.load(operator, load, all, claimed),
        }
    }
}
