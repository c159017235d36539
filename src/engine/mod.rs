//! Plan and records → rows. Pure: no clock, no I/O, no randomness, no threads.
//!
//! The engine is a function of the log: `(state, rows or tick) → (state, outputs)`. What comes out
//! does not depend on how rows were cut into batches, on how often the engine was saved and
//! restored in between, or on the machine. Time moves only by [`Engine::push`] and
//! [`Engine::advance`]; whatever is due fires first, in order, before any row of a later time.

mod aggregate;
mod cast;
mod expr;
mod group;
mod grouped;
mod like;
mod output;
mod query;
mod rollup;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::{Batch, Rows, Seq, Stamp, Timestamp};
use crate::sql::Application;
use crate::sql::plan::{Query, Role, StreamId};
use query::Running;
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
    queries: Vec<Running>,
    /// Which queries read a stream, by stream.
    readers: Vec<Vec<usize>>,
    /// Streams from which two ways lead to one place: their rows go one by one, since batches
    /// would overtake each other.
    one_by_one: Vec<bool>,
    /// Queries with deadlines that rows of a stream can reach, by stream.
    timed: Vec<Vec<usize>>,
    /// Streams whose rows are outputs.
    watched: Vec<bool>,
    deadlines: BTreeSet<(Timestamp, usize)>,
    deadline_of: Vec<Option<Timestamp>>,
    /// Per stream, the sequence number that it last got rows for, and how many.
    given: Vec<(Seq, u32)>,
    ordinals: Vec<u32>,
    clock: Timestamp,
    faults: u64,
}

impl Engine {
    /// A fresh engine for a plan. `watch` says which streams' rows are outputs; sinks always are.
    #[must_use]
    pub fn new(plan: Arc<Application>, watch: impl Fn(StreamId) -> bool) -> Engine {
        let streams = plan.streams.len();
        let mut readers = vec![Vec::new(); streams];
        for (number, query) in plan.queries.iter().enumerate() {
            for input in query.input.streams() {
                if let Some(list) = readers.get_mut(input.stream.0) {
                    list.push(number);
                }
            }
        }
        let watched = plan.streams.iter().zip((0..).map(StreamId));
        let watched = watched
            .map(|(stream, id)| stream.role == Role::Sink || watch(id))
            .collect();
        let mut engine = Engine {
            queries: plan.queries.iter().map(Running::new).collect(),
            readers,
            one_by_one: Vec::new(),
            timed: Vec::new(),
            watched,
            deadlines: BTreeSet::new(),
            deadline_of: vec![None; plan.queries.len()],
            given: vec![(Seq(0), 0); streams],
            ordinals: Vec::new(),
            clock: Timestamp::MIN,
            faults: 0,
            plan,
        };
        let reach: Vec<Reach> = (0..streams).map(|stream| engine.reach(stream)).collect();
        engine.one_by_one = reach.iter().map(|reach| reach.meets).collect();
        engine.timed = reach.into_iter().map(|reach| reach.timed).collect();
        engine
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
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// Expressions that could not be computed (and became NULL) since the last call.
    pub fn take_faults(&mut self) -> u64 {
        let faults = self.queries.iter().map(Running::take_faults).sum::<u64>() + self.faults;
        self.faults = 0;
        faults
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
        while let Some((due, number)) = self.deadlines.first().copied() {
            if due > time {
                break;
            }
            self.clock = self.clock.max(due);
            if let Some(query) = self.queries.get_mut(number) {
                query.fire(Stamp { seq, time: due });
            }
            self.settle(number, to);
        }
        self.clock = self.clock.max(time);
    }

    /// Rows from `time` on may go together until this time: before it, nothing can fall due.
    fn bound(&self, stream: StreamId, time: Timestamp) -> Option<Timestamp> {
        let timed = self.timed.get(stream.0).into_iter().flatten();
        let earliest = timed
            .filter_map(|number| self.queries.get(*number)?.earliest(time))
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
                let number = self
                    .readers
                    .get(stream.0)
                    .and_then(|list| list.get(index))
                    .copied();
                let Some(number) = number else { continue };
                if let Some(query) = self.queries.get_mut(number) {
                    query.push(head);
                }
                self.settle(number, to);
            }
            rest = tail;
        }
    }

    /// After a query has worked: notes its deadline, and sends what came out on its way.
    fn settle(&mut self, number: usize, to: &mut dyn Outputs) {
        let Some(query) = self.queries.get_mut(number) else {
            return;
        };
        let deadline = query.deadline();
        let noted = self.deadline_of.get_mut(number);
        if let Some(noted) = noted.filter(|noted| **noted != deadline) {
            if let Some(old) = noted.take() {
                self.deadlines.remove(&(old, number));
            }
            self.deadlines
                .extend(deadline.map(|deadline| (deadline, number)));
            *noted = deadline;
        }
        if query.output().is_empty() {
            return;
        }
        let width = query.output().width();
        let mut out = std::mem::replace(query.output(), Batch::new(width));
        let Some(target) = self.plan.queries.get(number).and_then(Query::target_stream) else {
            return;
        };
        if self.watched.get(target.0).copied().unwrap_or(false) {
            self.number(target, &out);
            to.take(
                target,
                u32::try_from(number).unwrap_or(u32::MAX),
                &out,
                &self.ordinals,
            );
        }
        self.dispatch(target, out.rows(), to);
        out.clear();
        if let Some(query) = self.queries.get_mut(number) {
            *query.output() = out;
        }
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

    /// What rows of a stream can reach, and whether two ways lead to one place.
    fn reach(&self, stream: usize) -> Reach {
        let mut reach = Reach {
            meets: false,
            timed: Vec::new(),
        };
        let mut seen = BTreeSet::from([stream]);
        let mut open = vec![stream];
        while let Some(stream) = open.pop() {
            for number in self.readers.get(stream).into_iter().flatten() {
                let Some(query) = self.plan.queries.get(*number) else {
                    continue;
                };
                let timed = self
                    .queries
                    .get(*number)
                    .and_then(|q| q.earliest(Timestamp(0)));
                if timed.is_some() {
                    reach.timed.push(*number);
                }
                let Some(target) = query.target_stream() else {
                    continue;
                };
                let visible = self.watched.get(target.0).copied().unwrap_or(false)
                    || self
                        .readers
                        .get(target.0)
                        .is_some_and(|list| !list.is_empty());
                if !seen.insert(target.0) {
                    reach.meets |= visible;
                } else {
                    open.push(target.0);
                }
            }
        }
        reach
    }

    /// The whole state, to be given to [`Engine::restore`] of an engine with the same queries.
    ///
    /// # Errors
    /// When the state cannot be encoded, which is a bug.
    pub fn save(&self) -> Result<Vec<StateChunk>, StateError> {
        let mut chunks = Vec::new();
        for (query, operator) in self.queries.iter().zip(self.operators()) {
            query.save(&mut Save {
                operator,
                chunks: &mut chunks,
            })?;
        }
        Ok(chunks)
    }

    /// Takes a state back. Queries are found by their fingerprint: those that are new or changed
    /// start empty, and state that no query claims is left out. `clock` is the time of the state.
    ///
    /// Gives the queries that started empty although there was some state, and why.
    pub fn restore(&mut self, chunks: &[StateChunk], clock: Timestamp) -> Vec<(usize, Empty)> {
        let mut by_operator: BTreeMap<u64, Load<'_>> = BTreeMap::new();
        for chunk in chunks {
            by_operator.entry(chunk.operator).or_default().add(chunk);
        }
        let mut empty = Vec::new();
        self.clock = clock;
        for (number, operator) in self.operators().into_iter().enumerate() {
            let plan = self.plan.queries.get(number);
            let (Some(query), Some(plan)) = (self.queries.get_mut(number), plan) else {
                continue;
            };
            match by_operator.get(&operator).map(|load| query.load(load)) {
                Some(Ok(())) => {}
                Some(Err(why)) => {
                    *query = Running::new(plan);
                    empty.push((number, Empty::Damaged(why)));
                }
                None if !chunks.is_empty() && query.has_state() => empty.push((number, Empty::New)),
                None => {}
            }
            let deadline = query.deadline();
            if let Some(noted) = self.deadline_of.get_mut(number) {
                *noted = deadline;
            }
            self.deadlines
                .extend(deadline.map(|deadline| (deadline, number)));
        }
        empty
    }

    /// The fingerprint of each query; of several that are alike, the later ones count up.
    fn operators(&self) -> Vec<u64> {
        let mut seen = BTreeSet::new();
        let prints = self.plan.queries.iter().map(|query| {
            let mut print = query.fingerprint(&self.plan);
            while !seen.insert(print) {
                print = print.wrapping_add(1);
            }
            print
        });
        prints.collect()
    }
}

struct Reach {
    meets: bool,
    timed: Vec<usize>,
}
