//! Plan and records → rows. Pure: no clock, no I/O, no randomness, no threads.
//!
//! The engine is a function of the log: `(state, rows or tick) → (state, outputs)`. What comes out
//! does not depend on how rows were cut into batches, on how often the engine was saved and
//! restored in between, or on the machine. Time moves only by [`Engine::push`] and
//! [`Engine::advance`]; whatever is due fires first, in order, before any row of a later time.

mod aggregate;
mod analytic;
mod distinct;
mod expr;
mod feed;
mod group;
mod grouped;
mod join;
mod node;
mod output;
mod partition;
mod projected;
mod query;
mod reach;
mod rows;
mod state;
mod table;
mod tail;
#[cfg(test)]
mod tests;
mod trigger;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::{Batch, Rows, Seq, Stamp, Timestamp};
use crate::sql::Application;
use crate::sql::plan::{Role, StreamId};
use node::{Node, Port, Source, Stores};
use reach::Stop;
use state::{Load, Save};
pub use state::{StateChunk, StateError};

/// Takes what the engine gives.
pub trait Outputs {
    /// Rows that a query has put into a stream that is watched. `ordinals` numbers the rows among
    /// those of the same stream and sequence number, in the order in which they arose.
    fn take(&mut self, stream: StreamId, query: u32, rows: &Batch, ordinals: &[u32]);
}

/// Why a query started empty although there was some state.
#[derive(Debug)]
pub enum Empty {
    /// There is no state of such a query: it is new or has changed.
    New,
    /// Its state cannot be read.
    Damaged(StateError),
}

/// A running application.
pub struct Engine {
    plan: Arc<Application>,
    stores: Stores,
    nodes: Vec<Node>,
    /// What reads a stream, by stream, in the order of definition.
    readers: Vec<Vec<Port>>,
    /// Streams from which two ways lead to one place: their rows go one by one, since batches
    /// would overtake each other.
    one_by_one: Vec<bool>,
    /// Nodes with deadlines that rows of a stream can reach, by stream.
    timed: Vec<Vec<usize>>,
    /// Streams whose rows are outputs.
    watched: Vec<bool>,
    deadlines: BTreeSet<(Timestamp, usize)>,
    deadline_of: Vec<Option<Timestamp>>,
    /// Nodes that wait for the clock to be known.
    unstarted: Vec<usize>,
    /// Per stream, the sequence number that it last got rows for, and how many.
    given: Vec<(Seq, u32)>,
    ordinals: Vec<u32>,
    clock: Timestamp,
}

impl Engine {
    /// A fresh engine for a plan. `watch` says which streams' rows are outputs; sinks always are.
    #[must_use]
    pub fn new(plan: Arc<Application>, watch: impl Fn(StreamId) -> bool) -> Engine {
        let streams = plan.streams.len();
        let watched = plan.streams.iter().zip((0..).map(StreamId));
        let watched: Vec<bool> = watched
            .map(|(stream, id)| stream.role == Role::Sink || watch(id))
            .collect();
        let (stores, nodes, readers) = node::all(&plan);
        let ways = reach::readers(&plan);
        let reaches: Vec<_> = (0..streams)
            .map(|stream| reach::reach(&plan, &ways, &watched, stream))
            .collect();
        let timed = reaches.iter().map(|reach| {
            let node_of = |stop: &Stop| nodes.iter().position(|node| node.is(*stop));
            let reached: BTreeSet<usize> = reach.stops.iter().filter_map(node_of).collect();
            let timed = |number: &usize| {
                let node = nodes.get(*number);
                node.is_some_and(|node| node.earliest(Timestamp(0)).is_some())
            };
            reached.into_iter().filter(timed).collect()
        });
        Engine {
            timed: timed.collect(),
            one_by_one: reaches.iter().map(|reach| reach.meets).collect(),
            deadlines: BTreeSet::new(),
            deadline_of: vec![None; nodes.len()],
            unstarted: (0..nodes.len())
                .filter(|number| nodes.get(*number).is_some_and(Node::starts))
                .collect(),
            given: vec![(Seq(0), 0); streams],
            ordinals: Vec::new(),
            clock: Timestamp::MIN,
            nodes,
            readers,
            watched,
            stores,
            plan,
        }
    }

    /// The plan that is run.
    #[must_use]
    pub fn plan(&self) -> &Arc<Application> {
        &self.plan
    }

    /// The engine's clock: the latest time it has seen.
    #[must_use]
    pub fn clock(&self) -> Timestamp {
        self.clock
    }

    /// When something falls due, if nothing comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        if !self.unstarted.is_empty() {
            return Some(Timestamp::MIN);
        }
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// Expressions that could not be computed (and became NULL) since the last call.
    pub fn take_faults(&mut self) -> u64 {
        self.nodes.iter_mut().map(Node::take_faults).sum()
    }

    /// Takes rows of a stream, stamped, their times not decreasing.
    pub fn push(&mut self, stream: StreamId, rows: Rows<'_>, to: &mut dyn Outputs) {
        let mut rest = rows;
        while let Some(first) = rest.stamps().first().copied() {
            self.advance(first.time, first.seq, to);
            let until = self.bound(stream, first.time);
            let count = match until {
                None => rest.len(),
                Some(until) => rest
                    .stamps()
                    .partition_point(|stamp| stamp.time < until)
                    .max(1),
            };
            let (head, tail) = rest.split_at(count);
            self.dispatch(stream, head, to);
            if let Some(last) = head.stamps().last() {
                self.clock = self.clock.max(last.time);
            }
            rest = tail;
        }
    }

    /// Moves the clock to `time`, for the reason `seq`; what is due on the way fires, in order.
    pub fn advance(&mut self, time: Timestamp, seq: Seq, to: &mut dyn Outputs) {
        for number in std::mem::take(&mut self.unstarted) {
            if let Some(node) = self.nodes.get_mut(number) {
                node.start(Stamp { seq, time });
            }
            self.settle(number, to);
        }
        while let Some((due, number)) = self.deadlines.first().copied() {
            if due > time {
                break;
            }
            self.clock = self.clock.max(due);
            if let Some(node) = self.nodes.get_mut(number) {
                node.fire(Stamp { seq, time: due });
            }
            self.settle(number, to);
        }
        self.clock = self.clock.max(time);
    }

    /// Rows from `time` on may go together until this time: before it, nothing can fall due.
    fn bound(&self, stream: StreamId, time: Timestamp) -> Option<Timestamp> {
        let timed = self.timed.get(stream.0).into_iter().flatten();
        let earliest = timed
            .filter_map(|number| self.nodes.get(*number)?.earliest(time))
            .min();
        match (earliest, self.deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn dispatch(&mut self, stream: StreamId, rows: Rows<'_>, to: &mut dyn Outputs) {
        let mut rest = rows;
        let one_by_one = self.one_by_one.get(stream.0).copied().unwrap_or(false);
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(if one_by_one { 1 } else { rest.len() });
            let readers = self.readers.get(stream.0).map_or(0, Vec::len);
            for index in 0..readers {
                let reader = self.readers.get(stream.0);
                let Some(port) = reader.and_then(|list| list.get(index)).copied() else {
                    continue;
                };
                if let Some(node) = self.nodes.get_mut(port.node) {
                    node.push(port, head);
                }
                self.settle(port.node, to);
            }
            rest = tail;
        }
    }

    /// After a node has worked: notes its deadline, and sends what came out on its way.
    fn settle(&mut self, number: usize, to: &mut dyn Outputs) {
        let Some(node) = self.nodes.get_mut(number) else {
            return;
        };
        let deadline = node.deadline();
        let noted = self.deadline_of.get_mut(number);
        if let Some(noted) = noted.filter(|noted| **noted != deadline) {
            if let Some(old) = noted.take() {
                self.deadlines.remove(&(old, number));
            }
            self.deadlines
                .extend(deadline.map(|deadline| (deadline, number)));
            *noted = deadline;
        }
        while let Some((source, mut out)) = self.nodes.get_mut(number).and_then(Node::take) {
            let (target, query) = match source {
                Source::Query(query) => {
                    let target = self.plan.queries.get(query).and_then(|q| q.target_stream());
                    (target, Some(query))
                }
                Source::Stream(stream) => (Some(stream), None),
            };
            if let Some(target) = target {
                self.give(target, query, &out, to);
                self.dispatch(target, out.rows(), to);
            }
            out.clear();
            if let Some(node) = self.nodes.get_mut(number) {
                node.take_back(out);
            }
        }
    }

    /// Shows rows to those outside, when the stream is watched.
    fn give(&mut self, target: StreamId, query: Option<usize>, rows: &Batch, to: &mut dyn Outputs) {
        if !self.watched.get(target.0).copied().unwrap_or(false) {
            return;
        }
        self.number(target, rows);
        let query = query.and_then(|query| u32::try_from(query).ok());
        to.take(target, query.unwrap_or(u32::MAX), rows, &self.ordinals);
    }

    fn number(&mut self, stream: StreamId, rows: &Batch) {
        self.ordinals.clear();
        let Some((seq, given)) = self.given.get_mut(stream.0) else {
            return;
        };
        for row in rows.rows().stamps() {
            if row.seq != *seq {
                (*seq, *given) = (row.seq, 0);
            }
            self.ordinals.push(*given);
            *given += 1;
        }
    }

    /// The whole state, to be given to [`Engine::restore`] of an engine with the same queries.
    ///
    /// # Errors
    /// When the state cannot be encoded, which is a bug.
    pub fn save(&self) -> Result<Vec<StateChunk>, StateError> {
        let mut chunks = Vec::new();
        for (node, operator) in self.nodes.iter().zip(self.operators()) {
            node.save(&mut Save {
                operator,
                chunks: &mut chunks,
            })?;
        }
        Ok(chunks)
    }

    /// Takes a state back. Queries are found by their fingerprint: those that are new or changed
    /// start empty, and state that no query claims is left out. `clock` is the time of the state.
    ///
    /// Gives what started empty although there was some state, by its name, and why.
    pub fn restore(&mut self, chunks: &[StateChunk], clock: Timestamp) -> Vec<(String, Empty)> {
        let mut by_operator: BTreeMap<u64, Load<'_>> = BTreeMap::new();
        for chunk in chunks {
            by_operator.entry(chunk.operator).or_default().add(chunk);
        }
        let mut empty = Vec::new();
        self.clock = clock;
        for (number, operator) in self.operators().into_iter().enumerate() {
            let Some(node) = self.nodes.get_mut(number) else {
                continue;
            };
            let there = by_operator.contains_key(&operator);
            match node.load(operator, &by_operator) {
                Ok(()) if there => self.unstarted.retain(|one| *one != number),
                Ok(()) if chunks.is_empty() || !node.has_state() => {}
                Ok(()) => empty.push((node.describe(&self.plan), Empty::New)),
                Err(why) => {
                    node.renew(&self.plan, &self.stores);
                    empty.push((node.describe(&self.plan), Empty::Damaged(why)));
                }
            }
            let deadline = node.deadline();
            if let Some(noted) = self.deadline_of.get_mut(number) {
                *noted = deadline;
            }
            self.deadlines
                .extend(deadline.map(|deadline| (deadline, number)));
        }
        empty
    }

    /// The fingerprint of each node; of several that are alike, the later ones count up.
    fn operators(&self) -> Vec<u64> {
        let mut seen = BTreeSet::new();
        let prints = self.nodes.iter().map(|node| {
            let mut print = node.fingerprint(&self.plan);
            while !seen.insert(print) {
                print = print.wrapping_add(1);
            }
            print
        });
        prints.collect()
    }
}
