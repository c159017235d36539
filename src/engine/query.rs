//! A running query: what feeds it, groups or projection, output.

use std::sync::Arc;

use super::aggregate::Leaves;
use super::feed::StreamFeed;
use super::group::Groups;
use super::grouped::Grouped;
use super::join::Joiner;
use super::node::Stores;
use super::output::Output;
use super::projected::Projected;
use super::state::{Load, Part, Save, StateError};
use super::table::TableWrite;
use super::tail::{Shows, Tail};
use crate::event::{Batch, Rows, Stamp, Timestamp};
use crate::sql::plan::{Emit, Flow, Input, Query, Target};

/// One query with its state.
pub(super) struct Running {
    plan: Arc<Query>,
    stores: Stores,
    feed: Feed,
    stage: Stage,
    /// DISTINCT and OUTPUT, when rows do not reach the target as they arise.
    tail: Option<Box<Tail>>,
    /// What the rows do to a table, when they go to one.
    write: Option<TableWrite>,
}

/// Where the rows come from.
enum Feed {
    Stream(Box<StreamFeed>),
    Join(Box<Joiner>),
}

impl Feed {
    fn deadline(&self) -> Option<Timestamp> {
        match self {
            Feed::Stream(feed) => feed.deadline(),
            Feed::Join(feed) => feed.deadline(),
        }
    }
}

/// What looks through the window.
enum Stage {
    Projected(Box<Projected>),
    Grouped(Box<Grouped>),
}

/// Calls a method of the feed with whatever the stage is.
macro_rules! feed {
    ($running:ident, $feed:ident, $stage:ident => $call:expr) => {
        match (&mut $running.feed, &mut $running.stage) {
            (Feed::Stream($feed), Stage::Projected(stage)) => {
                let $stage = &mut **stage;
                $call
            }
            (Feed::Stream($feed), Stage::Grouped(stage)) => {
                let $stage = &mut **stage;
                $call
            }
            (Feed::Join($feed), Stage::Projected(stage)) => {
                let $stage = &mut **stage;
                $call
            }
            (Feed::Join($feed), Stage::Grouped(stage)) => {
                let $stage = &mut **stage;
                $call
            }
        }
    };
}

impl Stage {
    fn output(&self) -> &Output {
        match self {
            Stage::Projected(stage) => &stage.output,
            Stage::Grouped(stage) => &stage.output,
        }
    }

    fn shows(&mut self) -> &mut dyn Shows {
        match self {
            Stage::Projected(stage) => &mut **stage,
            Stage::Grouped(stage) => &mut **stage,
        }
    }
}

impl Running {
    pub(super) fn new(query: &Query, stores: &Stores) -> Running {
        // A snapshot misses what leaves at the moment at which it leaves.
        let emit = if query.shows_snapshots() {
            Emit::All
        } else {
            query.emit
        };
        let feed = match &query.input {
            Input::Stream(input) => {
                let feed = StreamFeed::new(input, emit, stores);
                Feed::Stream(Box::new(feed.with_analytics(
                    &query.analytics,
                    input,
                    stores,
                )))
            }
            Input::Join(input) => {
                let seen = query.grouping.is_some() || emit != Emit::Current || query.distinct;
                Feed::Join(Box::new(Joiner::new(input, &query.analytics, stores, seen)))
            }
        };
        Running::of(Arc::new(query.clone()), stores, feed)
    }

    fn of(query: Arc<Query>, stores: &Stores, feed: Feed) -> Running {
        // A window that keeps rows shows the kept columns alone; else the whole row is seen.
        let (columns, leaves) = match (&query.input, &feed) {
            (Input::Stream(input), Feed::Stream(feed)) => {
                let columns: &[usize] = if feed.keeps_rows() { &[] } else { &input.keep };
                (columns, feed.leaves())
            }
            (Input::Join(input), _) if Joiner::can_leave(input) => (&[][..], Leaves::AnyOrder),
            (Input::Join(_) | Input::Stream(_), _) => (&[][..], Leaves::Never),
        };
        let cx = stores.cx(columns);
        let batch = query.flow() == Flow::Batch;
        let stage = match &query.grouping {
            Some(grouping) => {
                let together = batch || query.shows_snapshots();
                let groups = Groups::new(grouping, cx, leaves, together, query.emit);
                let output = Output::new(&query, stores.cx(&[]));
                Stage::Grouped(Box::new(Grouped::new(groups, output)))
            }
            None => {
                let output = Output::new(&query, cx);
                Stage::Projected(Box::new(Projected::new(&query, output)))
            }
        };
        let write = match &query.target {
            Target::Stream(_) => None,
            Target::Table { table, write } => {
                let table = stores.tables.get(table.0);
                table.map(|table| TableWrite::new(write, table.clone(), stores.cx(&[])))
            }
        };
        Running {
            stores: stores.clone(),
            feed,
            stage,
            tail: Tail::new(&query).map(Box::new),
            write,
            plan: query,
        }
    }

    /// The same query without anything to remember.
    pub(super) fn fresh(&self) -> Running {
        match &self.feed {
            Feed::Stream(_) => Running::new(&self.plan, &self.stores),
            Feed::Join(join) => {
                let feed = Feed::Join(Box::new(join.fresh()));
                Running::of(Arc::clone(&self.plan), &self.stores, feed)
            }
        }
    }

    /// Takes rows of one of its inputs; what comes out is in [`Running::output`].
    pub(super) fn push(&mut self, input: usize, rows: Rows<'_>) {
        let Some(first) = rows.stamps().first().copied() else {
            return;
        };
        while let Some(time) = self.tail.as_ref().and_then(|tail| tail.overdue(first.time)) {
            self.fire(Stamp { time, ..first });
        }
        feed!(self, feed, stage => feed.push(input, rows, stage));
        if let Some(tail) = &mut self.tail {
            tail.take(self.stage.shows(), first);
        }
        self.finish();
    }

    /// The clock has reached the query's deadline.
    pub(super) fn fire(&mut self, at: Stamp) {
        if self.feed.deadline().is_some_and(|due| due <= at.time) {
            feed!(self, feed, stage => feed.fire(at, stage));
        }
        if let Some(tail) = &mut self.tail {
            tail.fire(self.stage.shows(), at);
        }
        self.finish();
    }

    /// After something has come out: rows for a table go there.
    fn finish(&mut self) {
        let Some(write) = &mut self.write else {
            return;
        };
        let output = self.stage.shows().output();
        let rows = match &mut self.tail {
            Some(tail) => &mut tail.out,
            None => &mut output.out,
        };
        if !rows.is_empty() {
            write.apply(rows.rows(), &output.faults);
            rows.clear();
        }
    }

    /// Whether it wants to know when the clock is first known.
    pub(super) fn starts(&self) -> bool {
        self.tail.as_ref().is_some_and(|tail| tail.starts())
    }

    /// The clock is known for the first time.
    pub(super) fn start(&mut self, at: Stamp) {
        if let Some(tail) = &mut self.tail {
            tail.start(at);
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let tail = self.tail.as_ref().and_then(|tail| tail.deadline());
        self.feed.deadline().into_iter().chain(tail).min()
    }

    /// Until when something is to come that has not come yet; a snapshot shows what is known.
    pub(super) fn awaited(&self) -> Option<Timestamp> {
        let tail = self.tail.as_ref().filter(|tail| !tail.repeats());
        let tail = tail.and_then(|tail| tail.deadline());
        self.feed.deadline().into_iter().chain(tail).max()
    }

    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        let feed = match &self.feed {
            Feed::Stream(feed) => feed.earliest(time),
            Feed::Join(feed) => feed.earliest(time),
        };
        let tail = self.tail.as_ref().and_then(|tail| tail.earliest(time));
        feed.into_iter().chain(tail).min()
    }

    /// The rows that have come out, for the caller to take.
    pub(super) fn output(&mut self) -> &mut Batch {
        match &mut self.tail {
            Some(tail) => &mut tail.out,
            None => &mut self.stage.shows().output().out,
        }
    }

    /// Whether there is anything to remember between two rows.
    pub(super) fn has_state(&self) -> bool {
        match (&self.feed, &self.stage) {
            _ if self.tail.is_some() => true,
            (_, Stage::Grouped(_)) => true,
            (Feed::Stream(feed), Stage::Projected(_)) => feed.has_state(),
            (Feed::Join(feed), Stage::Projected(_)) => feed.has_state(),
        }
    }

    pub(super) fn take_faults(&self) -> u64 {
        let feed = match &self.feed {
            Feed::Stream(feed) => feed.take_faults(),
            Feed::Join(feed) => feed.take_faults(),
        };
        feed + self.stage.output().take_faults()
    }

    pub(super) fn save(&self, save: &mut Save<'_>) -> Result<(), StateError> {
        if self.has_state() {
            // So that a state which happens to be empty is not taken for one that is missing.
            save.put(Part::Present, 0, &true)?;
        }
        match &self.feed {
            Feed::Stream(feed) => feed.save(save)?,
            Feed::Join(feed) => feed.save(save)?,
        }
        if let Some(tail) = &self.tail {
            tail.save(save)?;
        }
        match &self.stage {
            Stage::Projected(stage) => stage.save(save),
            Stage::Grouped(stage) => stage.save(save),
        }
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        match &mut self.feed {
            Feed::Stream(feed) => feed.load(load)?,
            Feed::Join(feed) => feed.load(load)?,
        }
        if let Some(tail) = &mut self.tail {
            tail.load(load)?;
        }
        match &mut self.stage {
            Stage::Projected(stage) => stage.load(load),
            Stage::Grouped(stage) => stage.load(load),
        }
    }
}
