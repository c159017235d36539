//! A running query: what feeds it, groups or projection, output.

use std::sync::Arc;

use super::aggregate::Leaves;
use super::feed::StreamFeed;
use super::join::Joiner;
use super::node::Stores;
use super::pattern::Matcher;
use super::share::{Member, Rooms};
use super::stage::Stage;
use super::state::{Load, Part, Save, StateError};
use super::table::TableWrite;
use super::tail::{Shows, Tail};
use crate::event::{Batch, Rows, Stamp, Timestamp};
use crate::sql::plan::{Emit, Flow, Input, Query, Target};

/// One query with its state.
pub(super) struct Running {
    plan: Arc<Query>,
    stores: Stores,
    seat: Seat,
    /// DISTINCT and OUTPUT, when rows do not reach the target as they arise.
    tail: Option<Box<Tail>>,
    /// What the rows do to a table, when they go to one.
    write: Option<TableWrite>,
}

/// Where a query sees its rows.
enum Seat {
    Own(Feed, Stage),
    /// What feeds it feeds others too.
    Shared(Member),
}

/// Where the rows come from.
enum Feed {
    Stream(Box<StreamFeed>),
    Join(Box<Joiner>),
    Pattern(Box<Matcher>),
}

impl Feed {
    fn deadline(&self) -> Option<Timestamp> {
        match self {
            Feed::Stream(feed) => feed.deadline(),
            Feed::Join(feed) => feed.deadline(),
            Feed::Pattern(feed) => feed.deadline(),
        }
    }
}

/// Calls a method of the feed with whatever the stage is.
macro_rules! feed {
    ($from:ident, $through:ident, $feed:ident, $stage:ident => $call:expr) => {
        match ($from, $through) {
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
            (Feed::Pattern($feed), Stage::Projected(stage)) => {
                let $stage = &mut **stage;
                $call
            }
            (Feed::Pattern($feed), Stage::Grouped(stage)) => {
                let $stage = &mut **stage;
                $call
            }
        }
    };
}

impl Seat {
    /// Calls `act` with what shows the rows.
    fn look(&mut self, act: impl FnOnce(&mut dyn Shows)) {
        match self {
            Seat::Own(_, stage) => act(stage.shows()),
            Seat::Shared(member) => member.look(act),
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        match self {
            Seat::Own(feed, _) => feed.deadline(),
            Seat::Shared(member) => member.deadline(),
        }
    }
}

impl Running {
    pub(super) fn new(query: &Query, stores: &Stores) -> Running {
        // A snapshot misses what leaves at the moment at which it leaves.
        let emit = if query.shows_snapshots() && query.flow() != Flow::Batch {
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
                // In batches nothing of a batch is left when the next one closes.
                let sees = query.grouping.is_some() || emit != Emit::Current || query.distinct;
                let seen = sees && query.flow() != Flow::Batch;
                let asks = query.asks_tables();
                let joiner = Joiner::new(input, &query.analytics, stores, seen, asks);
                Feed::Join(Box::new(joiner))
            }
            Input::Pattern(input) => {
                let matcher = Matcher::new(input, &query.analytics, stores);
                Feed::Pattern(Box::new(matcher))
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
            (Input::Join(input), _) if query.flow() != Flow::Batch && Joiner::can_leave(input) => {
                (&[][..], Leaves::AnyOrder)
            }
            (Input::Join(_) | Input::Stream(_) | Input::Pattern(_), _) => (&[][..], Leaves::Never),
        };
        let stage = Stage::new(&query, stores, columns, leaves);
        let write = match &query.target {
            Target::Stream(_) => None,
            Target::Table { table, write } => {
                let table = stores.tables.get(table.0);
                table.map(|table| TableWrite::new(write, table.clone(), stores.cx(&[])))
            }
        };
        Running {
            stores: stores.clone(),
            seat: Seat::Own(feed, stage),
            tail: Tail::new(&query).map(Box::new),
            write,
            plan: query,
        }
    }

    /// The same query without anything to remember, and with a feed of its own. Where it has one,
    /// nothing is compiled again.
    pub(super) fn fresh(&self) -> Running {
        let seat = match &self.seat {
            Seat::Own(Feed::Stream(feed), stage) => {
                Seat::Own(Feed::Stream(Box::new(feed.fresh())), stage.fresh())
            }
            Seat::Own(Feed::Join(join), stage) => {
                Seat::Own(Feed::Join(Box::new(join.fresh())), stage.fresh())
            }
            Seat::Own(Feed::Pattern(matcher), stage) => {
                Seat::Own(Feed::Pattern(Box::new(matcher.fresh())), stage.fresh())
            }
            Seat::Shared(_) => return Running::new(&self.plan, &self.stores),
        };
        Running {
            plan: Arc::clone(&self.plan),
            stores: self.stores.clone(),
            seat,
            tail: Tail::new(&self.plan).map(Box::new),
            write: self.write.as_ref().map(TableWrite::fresh),
        }
    }

    /// The same query, looking through the feed of one before it that has had the same rows, if
    /// there is one. `first` is the first query of the plan with such a feed.
    pub(super) fn shared(self, first: usize, rooms: &mut Rooms) -> Running {
        let seat = match self.seat {
            Seat::Own(Feed::Stream(feed), stage) => Seat::Shared(rooms.enter(first, *feed, stage)),
            seat @ (Seat::Own(Feed::Join(_) | Feed::Pattern(_), _) | Seat::Shared(_)) => seat,
        };
        Running { seat, ..self }
    }

    /// Has a feed of its own again; nothing has come yet.
    pub(super) fn unshare(&mut self) {
        if let Seat::Shared(_) = self.seat {
            *self = self.fresh();
        }
    }

    /// What looks for the matches of a pattern.
    pub(super) fn matcher(&self) -> Option<&Matcher> {
        match &self.seat {
            Seat::Own(Feed::Pattern(matcher), _) => Some(matcher),
            Seat::Own(Feed::Stream(_) | Feed::Join(_), _) | Seat::Shared(_) => None,
        }
    }

    /// Takes rows of an input of a pattern, of which it is known what they fit.
    pub(super) fn push_fitting(&mut self, input: usize, rows: Rows<'_>, fits: &[(u32, u64)]) {
        let (Some(first), Seat::Own(Feed::Pattern(matcher), stage)) =
            (rows.stamps().first().copied(), &mut self.seat)
        else {
            return;
        };
        match stage {
            Stage::Projected(stage) => matcher.push_fitting(input, rows, fits, &mut **stage),
            Stage::Grouped(stage) => matcher.push_fitting(input, rows, fits, &mut **stage),
        }
        if let Some(tail) = &mut self.tail {
            self.seat.look(|stage| tail.take(stage, first));
        }
        self.finish();
    }

    /// How long after a row its first deadline comes, when that is always the same.
    pub(super) fn delay_ms(&self) -> Option<i64> {
        let tail = self.tail.as_ref();
        let timed = tail.is_some_and(|tail| tail.earliest(Timestamp(0)).is_some());
        self.matcher().filter(|_| !timed)?.delay_ms()
    }

    /// Takes rows of one of its inputs; what comes out is in [`Running::output`].
    pub(super) fn push(&mut self, input: usize, rows: Rows<'_>) {
        let Some(first) = rows.stamps().first().copied() else {
            return;
        };
        while let Some(time) = self.tail.as_ref().and_then(|tail| tail.overdue(first.time)) {
            self.fire(Stamp { time, ..first });
        }
        match &mut self.seat {
            Seat::Own(feed, stage) => {
                feed!(feed, stage, feed, stage => feed.push(input, rows, stage))
            }
            Seat::Shared(member) => member.push(rows),
        }
        if let Some(tail) = &mut self.tail {
            self.seat.look(|stage| tail.take(stage, first));
        }
        self.finish();
    }

    /// The clock has reached the query's deadline.
    pub(super) fn fire(&mut self, at: Stamp) {
        if self.seat.deadline().is_some_and(|due| due <= at.time) {
            match &mut self.seat {
                Seat::Own(feed, stage) => feed!(feed, stage, feed, stage => feed.fire(at, stage)),
                Seat::Shared(member) => member.fire(at),
            }
        }
        if let Some(tail) = &mut self.tail {
            self.seat.look(|stage| tail.fire(stage, at));
        }
        self.finish();
    }

    /// After something has come out: rows for a table go there.
    fn finish(&mut self) {
        let Running {
            seat, tail, write, ..
        } = self;
        if let Some(write) = write {
            seat.look(|stage| {
                let output = stage.output();
                let rows = match tail {
                    Some(tail) => &mut tail.out,
                    None => &mut output.out,
                };
                if !rows.is_empty() {
                    write.apply(rows.rows(), &output.faults);
                    rows.clear();
                }
            });
        }
        if let (Seat::Shared(member), None) = (seat, tail) {
            member.collect();
        }
    }

    /// Whether it still waits for the clock to be known.
    pub(super) fn starts(&self) -> bool {
        let tail = self.tail.as_ref().is_some_and(|tail| tail.starts());
        let pattern = match &self.seat {
            Seat::Own(Feed::Pattern(matcher), _) => matcher.starts(),
            Seat::Own(Feed::Stream(_) | Feed::Join(_), _) | Seat::Shared(_) => false,
        };
        tail || pattern
    }

    /// The clock is known for the first time.
    pub(super) fn start(&mut self, at: Stamp) {
        if let Some(tail) = &mut self.tail {
            tail.start(at);
        }
        if let Seat::Own(Feed::Pattern(matcher), _) = &mut self.seat {
            matcher.start(at);
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let tail = self.tail.as_ref().and_then(|tail| tail.deadline());
        self.seat.deadline().into_iter().chain(tail).min()
    }

    /// Until when something is to come that has not come yet; a snapshot shows what is known.
    pub(super) fn awaited(&self) -> Option<Timestamp> {
        let tail = self.tail.as_ref().filter(|tail| !tail.repeats());
        let tail = tail.and_then(|tail| tail.deadline());
        self.seat.deadline().into_iter().chain(tail).max()
    }

    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        let feed = match &self.seat {
            Seat::Own(Feed::Stream(feed), _) => feed.earliest(time),
            Seat::Own(Feed::Join(feed), _) => feed.earliest(time),
            Seat::Own(Feed::Pattern(feed), _) => feed.earliest(time),
            Seat::Shared(member) => member.earliest(time),
        };
        let tail = self.tail.as_ref().and_then(|tail| tail.earliest(time));
        feed.into_iter().chain(tail).min()
    }

    /// The rows that have come out, for the caller to take.
    pub(super) fn output(&mut self) -> &mut Batch {
        match (&mut self.tail, &mut self.seat) {
            (Some(tail), _) => &mut tail.out,
            (None, Seat::Own(_, stage)) => &mut stage.shows().output().out,
            (None, Seat::Shared(member)) => &mut member.out,
        }
    }

    /// Whether there is anything to remember between two rows.
    pub(super) fn has_state(&self) -> bool {
        let feed = match &self.seat {
            Seat::Own(Feed::Stream(feed), _) => feed.has_state(),
            Seat::Own(Feed::Join(feed), _) => feed.has_state(),
            Seat::Own(Feed::Pattern(_), _) => true,
            Seat::Shared(member) => member.has_state(),
        };
        feed || self.tail.is_some() || self.plan.grouping.is_some()
    }

    pub(super) fn take_faults(&self) -> u64 {
        match &self.seat {
            Seat::Own(feed, stage) => {
                let feed = match feed {
                    Feed::Stream(feed) => feed.take_faults(),
                    Feed::Join(feed) => feed.take_faults(),
                    Feed::Pattern(feed) => feed.take_faults(),
                };
                feed + stage.output().take_faults()
            }
            Seat::Shared(member) => member.take_faults(),
        }
    }

    /// Partial matches that were dropped since the last call, since there were too many.
    pub(super) fn take_dropped(&mut self) -> u64 {
        match &mut self.seat {
            Seat::Own(Feed::Pattern(matcher), _) => matcher.take_dropped(),
            Seat::Own(Feed::Stream(_) | Feed::Join(_), _) | Seat::Shared(_) => 0,
        }
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        if self.has_state() {
            // So that a state which happens to be empty is not taken for one that is missing.
            save.put(Part::Present, 0, &true)?;
        }
        match &mut self.seat {
            Seat::Own(Feed::Stream(feed), _) => feed.save(save)?,
            Seat::Own(Feed::Join(feed), _) => feed.save(save)?,
            Seat::Own(Feed::Pattern(feed), _) => feed.save(save)?,
            Seat::Shared(member) => member.save_feed(save)?,
        }
        if let Some(tail) = &mut self.tail {
            tail.save(save)?;
        }
        match &mut self.seat {
            Seat::Own(_, stage) => stage.save(save),
            Seat::Shared(member) => member.save_stage(save),
        }
    }

    /// Takes a state back, with a feed of its own.
    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.unshare();
        if let Some(tail) = &mut self.tail {
            tail.load(load)?;
        }
        match &mut self.seat {
            Seat::Own(Feed::Stream(feed), stage) => {
                feed.load(load)?;
                stage.load(load)
            }
            Seat::Own(Feed::Join(feed), stage) => {
                feed.load(load)?;
                stage.load(load)
            }
            Seat::Own(Feed::Pattern(feed), stage) => {
                feed.load(load)?;
                stage.load(load)
            }
            Seat::Shared(_) => Ok(()),
        }
    }
}
