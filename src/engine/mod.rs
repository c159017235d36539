//! Plan and records → rows. Pure: no clock, no I/O, no randomness, no threads.
//!
//! The engine is a function of the log: `(state, rows or tick) → (state, outputs)`. What comes out
//! does not depend on how rows were cut into batches, on how often the engine was saved and
//! restored in between, or on the machine. Time moves only by [`Engine::push`] and
//! [`Engine::advance`]; whatever is due fires first, in order, before any row of a later time.

mod aggregate;
mod analytic;
mod condition;
mod distinct;
mod draws;
mod expr;
mod feed;
mod flow;
mod gathered;
mod group;
mod grouped;
mod join;
mod node;
mod output;
mod packed;
mod partition;
mod pattern;
mod projected;
mod query;
mod reach;
mod reorder;
mod restore;
mod rollup;
mod rows;
mod screen;
mod share;
mod slab;
mod stage;
mod state;
mod table;
mod tail;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod time_tests;
mod trigger;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::event::{Batch, Place, Rows, Seq, Stamp, State, StateChanges, Timestamp};
use crate::sql::Application;
use crate::sql::plan::{Domains, LOG, Role, StreamId};
use node::{Node, Port, Source, Stores};
use reach::{Reach, Stop};
pub use reorder::EngineCounts;
use reorder::Reorder;
use restore::Loaded;
use screen::Screens;
use share::Rooms;
use state::{Load, Saver};
pub use state::{Saving, StateError};

/// Takes what the engine gives.
pub trait Outputs {
    /// Rows that a query has put into a stream that is watched. `ordinals` numbers the rows among
    /// those of the same stream and sequence number, in the order in which they arose.
    fn take(&mut self, stream: StreamId, query: u32, rows: &Batch, ordinals: &[u32]);

    /// Rows that go through a stream that is tapped, before anything reads them. Nothing that comes
    /// of them may depend on it.
    fn pass(&mut self, _stream: StreamId, _rows: Rows<'_>) {}
}

/// Why a query started empty although there was some state.
#[derive(Debug)]
pub enum Empty {
    /// There is no state of such a query: it is new or has changed.
    New,
    /// Its state cannot be read.
    Damaged(StateError),
}

/// Expressions that could not be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// What the query feeds that they belong to; none where that is not known. Of queries that
    /// share a filter, one is told.
    pub query: Option<String>,
    /// Where they stand, for people.
    pub place: String,
    /// How often.
    pub count: u64,
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
    /// Streams whose rows queries can bring to the entrance of another domain, or to a table that
    /// makes dead letters of what it refuses.
    enters: Vec<bool>,
    /// What says to which readers of a stream rows are given, by stream.
    screens: Screens,
    /// Nodes with deadlines that rows of a stream can reach, by stream; but those of which it is
    /// known how long after a row their first one comes, and of these the shortest time.
    timed: Vec<Vec<usize>>,
    delays_ms: Vec<Option<i64>>,
    /// Streams whose rows are outputs.
    watched: Vec<bool>,
    /// Streams whose rows are shown as they pass; empty when none is.
    tapped: Vec<bool>,
    domains: Domains,
    /// What follows the log's clock, and then each domain with a clock of its own.
    clocks: Vec<Clock>,
    /// The entrances of the domains.
    entrances: Vec<Reorder>,
    /// The domain of each node.
    domain_of: Vec<usize>,
    deadline_of: Vec<Option<Timestamp>>,
    /// The fingerprint of each node.
    operators: Vec<u64>,
    /// Every stream with its domain and the fingerprint of its entrance.
    gates: Vec<(StreamId, usize, u64)>,
    /// Which nodes have worked since their state was saved.
    worked: Vec<bool>,
    /// Operators whose saved state nobody has taken back.
    forsaken: Vec<u64>,
    /// How many savings of changes there were.
    savings: u64,
    /// Whether a table makes dead letters of what it refuses.
    makes_letters: bool,
    /// Rows on their way to the entrance of a domain.
    arrivals: VecDeque<Arrival>,
    /// Whether arrivals are being brought in.
    bringing: bool,
    /// New stamps of rows that are taken as they come.
    stamps: Vec<Stamp>,
    counts: EngineCounts,
    /// Per stream, the sequence number that it last got rows for, and how many.
    given: Vec<(Seq, u32)>,
    ordinals: Vec<u32>,
}

/// The clock of a domain, and what it moves.
struct Clock {
    now: Timestamp,
    deadlines: BTreeSet<(Timestamp, usize)>,
    /// Nodes that wait for the clock to be known.
    unstarted: Vec<usize>,
}

/// Rows for the entrance of a domain.
struct Arrival {
    stream: StreamId,
    rows: Batch,
    /// Whether nobody has been shown them yet.
    unseen: bool,
}

impl Engine {
    /// A fresh engine for a plan. `watch` says which streams' rows are outputs; sinks always are.
    #[must_use]
    pub fn new(plan: Arc<Application>, watch: impl Fn(StreamId) -> bool) -> Engine {
        let shared = plan.shared_feeds();
        Engine::with(plan, watch, shared)
    }

    /// A fresh engine in which queries share feeds as `shared` says.
    fn with(
        plan: Arc<Application>,
        watch: impl Fn(StreamId) -> bool,
        shared: Vec<Option<usize>>,
    ) -> Engine {
        let streams = plan.streams.len();
        let watched = plan.streams.iter().zip((0..).map(StreamId));
        let watched: Vec<bool> = watched
            .map(|(stream, id)| stream.role == Role::Sink || watch(id))
            .collect();
        let (stores, mut nodes, readers) = node::all(&plan, shared);
        let mut rooms = Rooms::default();
        for node in &mut nodes {
            node.share(&stores, &mut rooms);
        }
        let ways = reach::readers(&plan);
        let reaches: Vec<_> = (0..streams)
            .map(|stream| reach::reach(&plan, &ways, &watched, stream))
            .collect();
        let (timed, delays_ms) = reaches.iter().map(|reach| timed(&nodes, reach)).unzip();
        let domains = Domains::new(&plan);
        let domain_of = nodes.iter().map(|node| node.domain(&plan, &domains));
        let domain_of: Vec<usize> = domain_of.collect();
        let clock = |domain: usize| Clock {
            now: Timestamp::MIN,
            deadlines: BTreeSet::new(),
            unstarted: (0..nodes.len())
                .filter(|number| nodes.get(*number).is_some_and(Node::starts))
                .filter(|number| domain_of.get(*number) == Some(&domain))
                .collect(),
        };
        Engine {
            screens: Screens::new(&plan, &nodes, &readers, &stores),
            timed,
            delays_ms,
            one_by_one: reaches.iter().map(|reach| reach.meets).collect(),
            makes_letters: plan.tables.iter().any(|table| table.letters.is_some()),
            enters: reaches.iter().map(|reach| reach.enters).collect(),
            deadline_of: vec![None; nodes.len()],
            operators: operators(&plan, &nodes),
            gates: gates(&plan, &domains),
            worked: vec![true; nodes.len()],
            forsaken: Vec::new(),
            savings: 0,
            given: vec![(Seq(0), 0); streams],
            ordinals: Vec::new(),
            clocks: (0..domains.count()).map(clock).collect(),
            entrances: (0..domains.count())
                .map(|domain| Reorder::new(&plan, &domains, domain))
                .collect(),
            arrivals: VecDeque::new(),
            bringing: false,
            stamps: Vec::new(),
            counts: EngineCounts::default(),
            domains,
            domain_of,
            nodes,
            readers,
            watched,
            tapped: Vec::new(),
            stores,
            plan,
        }
    }

    /// The same engine for the log with this identity, from which `uuid` and `rand` derive what
    /// they give.
    #[must_use]
    pub fn of_log(self, identity: u64) -> Engine {
        self.stores.draws.identify(identity);
        self
    }

    /// The plan that is run.
    #[must_use]
    pub fn plan(&self) -> &Arc<Application> {
        &self.plan
    }

    /// Rows of these streams are shown as they pass, and of no others.
    pub fn tap(&mut self, tapped: impl Fn(StreamId) -> bool) {
        let streams = (0..self.plan.streams.len()).map(StreamId);
        self.tapped = streams.map(tapped).collect();
        if !self.tapped.contains(&true) {
            self.tapped = Vec::new();
        }
    }

    /// The log's clock: the latest time of arrival it has seen.
    #[must_use]
    pub fn clock(&self) -> Timestamp {
        self.clocks
            .first()
            .map_or(Timestamp::MIN, |clock| clock.now)
    }

    /// When something falls due by the log's clock, if nothing comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let log = self.clocks.first()?;
        if !log.unstarted.is_empty() {
            return Some(Timestamp::MIN);
        }
        let due = self.clock_due(LOG);
        due.into_iter()
            .chain(self.entrance_due().map(|(due, _)| due))
            .min()
    }

    /// What has been counted since the last call.
    pub fn take_counts(&mut self) -> EngineCounts {
        self.counts.jumps_cut += self.nodes.iter_mut().map(Node::take_cut).sum::<u64>();
        let dropped = self.nodes.iter_mut().map(Node::take_dropped);
        self.counts.matches_dropped += dropped.sum::<u64>();
        std::mem::take(&mut self.counts)
    }

    /// Expressions that could not be computed (and became NULL) since the last call, by where they
    /// stand. Nothing is allocated when there are none.
    pub fn take_faults(&mut self) -> Vec<Faults> {
        let mut all = Vec::new();
        for node in &mut self.nodes {
            let count = node.take_faults();
            if count > 0 {
                all.push(Faults {
                    query: node.target(&self.plan),
                    place: node.describe(&self.plan),
                    count,
                });
            }
        }
        for (stream, count) in self.screens.take_faults() {
            let stream = self.plan.stream(stream).map(|stream| &*stream.name);
            all.push(Faults {
                query: None,
                place: format!("a pattern over '{}'", stream.unwrap_or_default()),
                count,
            });
        }
        all
    }

    /// Saves some of the state, as [`Saving`] says, and says whether there was more to save. What
    /// all savings of changes have given since the engine began, or since it was restored, makes
    /// the state that [`Engine::restore`] of an engine with the same queries takes.
    ///
    /// # Errors
    /// When the state cannot be encoded, which is a bug; what was saved before does then not help
    /// any more, and the next state must be a whole one.
    pub fn save(&mut self, saving: Saving, changes: &mut StateChanges) -> Result<bool, StateError> {
        if saving != Saving::Whole {
            self.savings += 1;
        }
        let mut saver = Saver::new(saving, self.savings, changes);
        if saving != Saving::Whole {
            for operator in std::mem::take(&mut self.forsaken) {
                saver.forget(operator);
            }
        }
        // Also when no more may be given: who shares what was given to another gets it too.
        for (number, (node, operator)) in self.nodes.iter_mut().zip(&self.operators).enumerate() {
            // What queries write to tables is not noted here.
            let always = saver.is_whole() || matches!(node, Node::Table(..));
            let worked = self.worked.get_mut(number);
            if always || worked.is_some_and(|worked| *worked) {
                node.save(&mut saver.of(*operator))?;
            }
        }
        for (stream, domain, operator) in self.gates.iter().copied() {
            if let (Some(clock), Some(entrance)) =
                (self.clocks.get(domain), self.entrances.get_mut(domain))
            {
                entrance.save(stream, clock.now, &mut saver.of(operator))?;
            }
        }
        if saving == Saving::Changed {
            self.worked.fill(false);
        }
        Ok(!saver.has_room())
    }

    /// The whole state.
    ///
    /// # Errors
    /// When the state cannot be encoded, which is a bug.
    pub fn state(&mut self) -> Result<State, StateError> {
        let mut changes = StateChanges::new();
        self.save(Saving::Whole, &mut changes)?;
        Ok(State::from_changes(changes))
    }

    /// Takes a state back. Queries are found by their fingerprint: those that are new or changed
    /// start empty, and state that no query claims is left out. `clock` is the time of the state.
    ///
    /// Gives what started empty although there was some state, by its name, and why.
    pub fn restore(&mut self, state: &State, clock: Timestamp) -> Vec<(String, Empty)> {
        let mut by_operator = Load::all_of(state);
        let mut empty = self.restore_entrances(&mut by_operator, clock);
        self.nodes.iter_mut().for_each(Node::unshare);
        let mut rooms = Rooms::default();
        let loaded = restore::load_all(&mut self.nodes, &self.operators, &by_operator);
        for (number, loaded) in loaded.into_iter().enumerate() {
            let Some(node) = self.nodes.get_mut(number) else {
                continue;
            };
            let Loaded {
                there,
                result,
                claimed,
                ..
            } = loaded;
            for operator in &claimed {
                by_operator.remove(operator);
            }
            if let Some(worked) = self.worked.get_mut(number) {
                *worked = !there || result.is_err();
            }
            match result {
                // A state may be saved before the clock is known.
                Ok(()) if there && node.starts() => {}
                Ok(()) if there => {
                    for clock in &mut self.clocks {
                        clock.unstarted.retain(|one| *one != number);
                    }
                }
                Ok(()) if state.is_empty() || !node.has_state() => {}
                Ok(()) => empty.push((node.describe(&self.plan), Empty::New)),
                Err(why) => {
                    self.forsaken.extend(claimed);
                    node.renew(&self.plan, &self.stores);
                    empty.push((node.describe(&self.plan), Empty::Damaged(why)));
                }
            }
            node.share(&self.stores, &mut rooms);
            self.screens.worked(number, node);
            let deadline = node.deadline();
            if let Some(noted) = self.deadline_of.get_mut(number) {
                *noted = deadline;
            }
            let domain = self.domain_of.get(number).copied().unwrap_or(LOG);
            if let Some(clock) = self.clocks.get_mut(domain) {
                let deadline = deadline.map(|deadline| (deadline, number));
                clock.deadlines.extend(deadline);
            }
        }
        by_operator.remove(&Place::NO_OPERATOR);
        self.forsaken.extend(by_operator.into_keys());
        empty
    }

    /// The operators whose state was there and is not taken back by any node.
    #[must_use]
    pub fn left_out(&self) -> &[u64] {
        &self.forsaken
    }

    /// What operators of this engine are called in messages; those of a partition's keys have no
    /// names of their own.
    #[must_use]
    pub fn names_of(&self, operators: &[u64]) -> Vec<String> {
        let nodes = self.nodes.iter().zip(&self.operators);
        let named = nodes.filter(|(_, operator)| operators.contains(operator));
        named.map(|(node, _)| node.describe(&self.plan)).collect()
    }

    /// Takes back the rows that wait at the entrances, and the clocks behind these.
    fn restore_entrances(
        &mut self,
        by_operator: &mut BTreeMap<u64, Load<'_>>,
        clock: Timestamp,
    ) -> Vec<(String, Empty)> {
        if let Some(log) = self.clocks.first_mut() {
            log.now = clock;
        }
        let nothing = by_operator.is_empty();
        let mut empty = Vec::new();
        for (id, domain, operator) in self.gates.iter().copied() {
            let (Some(stream), Some(entrance)) =
                (self.plan.stream(id), self.entrances.get_mut(domain))
            else {
                continue;
            };
            let name = || format!("the time of stream '{}'", stream.name);
            let Some(load) = by_operator.remove(&operator) else {
                if stream.event_time.is_some() && !nothing {
                    empty.push((name(), Empty::New));
                }
                continue;
            };
            match entrance.load(id, stream.schema.width(), &load) {
                Ok(now) => {
                    if let Some(clock) = self.clocks.get_mut(domain) {
                        clock.now = now.map_or(clock.now, |now| clock.now.max(now));
                    }
                }
                Err(why) => {
                    self.forsaken.push(operator);
                    empty.push((name(), Empty::Damaged(why)));
                }
            }
        }
        for entrance in &mut self.entrances {
            if clock > Timestamp::MIN {
                entrance.begin(clock);
            }
        }
        empty
    }
}

/// Every stream with its domain and the fingerprint of its entrance.
fn gates(plan: &Application, domains: &Domains) -> Vec<(StreamId, usize, u64)> {
    let streams = plan.streams.iter().zip((0..).map(StreamId));
    streams
        .map(|(stream, id)| (id, domains.of(id), stream.entrance_fingerprint()))
        .collect()
}

/// The fingerprint of each node; of several that are alike, the later ones count up.
fn operators(plan: &Application, nodes: &[Node]) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    let prints = nodes.iter().map(|node| {
        let mut print = node.fingerprint(plan);
        while !seen.insert(print) {
            print = print.wrapping_add(1);
        }
        print
    });
    prints.collect()
}

/// The nodes with deadlines on the way of rows; but those of which it is known how long after a row
/// their first one comes, and of these the shortest time.
fn timed(nodes: &[Node], reach: &Reach) -> (Vec<usize>, Option<i64>) {
    let node_of = |stop: &Stop| nodes.iter().position(|node| node.is(*stop));
    let reached: BTreeSet<usize> = reach.stops.iter().filter_map(node_of).collect();
    let (mut timed, mut shortest_ms) = (Vec::new(), None);
    for number in reached {
        let Some(node) = nodes.get(number) else {
            continue;
        };
        match node.delay_ms() {
            Some(delay_ms) => {
                shortest_ms = Some(shortest_ms.map_or(delay_ms, |ms: i64| ms.min(delay_ms)));
            }
            None if node.earliest(Timestamp(0)).is_some() => timed.push(number),
            None => {}
        }
    }
    (timed, shortest_ms)
}
