//! A running query: what feeds it, groups or projection, output.

use std::sync::Arc;

use super::aggregate::Leaves;
use super::feed::StreamFeed;
use super::group::Groups;
use super::grouped::Grouped;
use super::join::Joiner;
use super::node::Stores;
use super::output::Output;
use super::state::{Load, Part, Save, StateError};
use super::table::TableWrite;
use super::window::Changes;
use crate::event::{Batch, Row, Rows, Stamp, Timestamp, Value};
use crate::sql::plan::{Emit, Input, Query, Target};

/// One query with its state.
pub(super) struct Running {
    plan: Arc<Query>,
    stores: Stores,
    feed: Feed,
    stage: Stage,
    /// What the rows do to a table, when they go to one.
    write: Option<TableWrite>,
}

/// Where the rows come from.
enum Feed {
    Stream(Box<StreamFeed>),
    Join(Box<Joiner>),
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

/// Without groups every row stands for itself.
struct Projected {
    output: Output,
    batch: bool,
    emit: Emit,
}

impl Changes for Projected {
    #[inline]
    fn enter(&mut self, row: Row<'_>) {
        if self.batch {
            self.output.gather(row.values, row.stamp, row.stamp);
        } else if self.emit != Emit::Expired {
            self.output.single(row.values, row.stamp, row.stamp);
        }
    }

    #[inline]
    fn enter_of(
        &mut self,
        row: &mut Vec<Value>,
        width: usize,
        cell: impl Fn(usize, &mut Vec<Value>),
        stamp: Stamp,
    ) {
        if !self.batch && self.emit != Emit::Expired {
            self.output.single_of(row, width, cell, stamp, stamp);
        }
    }

    fn leave(&mut self, row: Row<'_>, at: Stamp) {
        if self.emit != Emit::Current {
            self.output.single(row.values, row.stamp, at);
        }
    }

    fn close(&mut self, at: Stamp) {
        self.output.close(at);
    }
}

impl Stage {
    fn output(&self) -> &Output {
        match self {
            Stage::Projected(stage) => &stage.output,
            Stage::Grouped(stage) => &stage.output,
        }
    }

    fn output_mut(&mut self) -> &mut Output {
        match self {
            Stage::Projected(stage) => &mut stage.output,
            Stage::Grouped(stage) => &mut stage.output,
        }
    }
}

impl Running {
    pub(super) fn new(query: &Query, stores: &Stores) -> Running {
        let feed = match &query.input {
            Input::Stream(input) => {
                Feed::Stream(Box::new(StreamFeed::new(input, query.emit, stores)))
            }
            Input::Join(input) => {
                let seen = query.grouping.is_some() || query.emit != Emit::Current;
                Feed::Join(Box::new(Joiner::new(input, stores, seen)))
            }
        };
        Running::of(Arc::new(query.clone()), stores, feed)
    }

    fn of(query: Arc<Query>, stores: &Stores, feed: Feed) -> Running {
        // A window that keeps rows shows the kept columns alone; else the whole row is seen.
        let (columns, batch, leaves) = match (&query.input, &feed) {
            (Input::Stream(input), Feed::Stream(feed)) => {
                let columns: &[usize] = if feed.keeps_rows() { &[] } else { &input.keep };
                let batch = input.window.is_some_and(|window| window.is_batch());
                (columns, batch, feed.leaves())
            }
            (Input::Join(input), _) if Joiner::can_leave(input) => {
                (&[][..], false, Leaves::AnyOrder)
            }
            (Input::Join(_) | Input::Stream(_), _) => (&[][..], false, Leaves::Never),
        };
        let cx = stores.cx(columns);
        let stage = match &query.grouping {
            Some(grouping) => Stage::Grouped(Box::new(Grouped::new(
                Groups::new(grouping, cx, leaves, batch, query.emit),
                Output::new(&query, stores.cx(&[])),
            ))),
            None => Stage::Projected(Box::new(Projected {
                output: Output::new(&query, cx),
                batch,
                emit: query.emit,
            })),
        };
        let write = match &query.target {
            Target::Stream(_) => None,
            Target::Table { table, write } => {
                let table = stores.tables.get(table.0);
                table.map(|table| TableWrite::new(write, table.clone(), stores.cx(&[])))
            }
        };
        Running {
            plan: query,
            stores: stores.clone(),
            feed,
            stage,
            write,
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
        feed!(self, feed, stage => feed.push(input, rows, stage));
        self.finish();
    }

    /// The clock has reached the query's deadline.
    pub(super) fn fire(&mut self, at: Stamp) {
        feed!(self, feed, stage => feed.fire(at, stage));
        self.finish();
    }

    /// After something has come out: rows for a table go there.
    fn finish(&mut self) {
        let output = self.stage.output_mut();
        if let Some(write) = &mut self.write {
            if !output.out.is_empty() {
                write.apply(output.out.rows(), &output.faults);
                output.out.clear();
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match &self.feed {
            Feed::Stream(feed) => feed.deadline(),
            Feed::Join(feed) => feed.deadline(),
        }
    }

    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.feed {
            Feed::Stream(feed) => feed.earliest(time),
            Feed::Join(feed) => feed.earliest(time),
        }
    }

    /// The rows that have come out, for the caller to take.
    pub(super) fn output(&mut self) -> &mut Batch {
        &mut self.stage.output_mut().out
    }

    /// Whether there is anything to remember between two rows.
    pub(super) fn has_state(&self) -> bool {
        match (&self.feed, &self.stage) {
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
        if let Stage::Grouped(stage) = &self.stage {
            stage.groups.save(save)?;
        }
        self.stage.output().save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        match &mut self.feed {
            Feed::Stream(feed) => feed.load(load)?,
            Feed::Join(feed) => feed.load(load)?,
        }
        if let Stage::Grouped(stage) = &mut self.stage {
            stage.groups.load(load)?;
        }
        self.stage.output_mut().load(load)
    }
}
