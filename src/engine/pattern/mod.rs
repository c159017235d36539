//! Patterns: rows that belong together, found as they come.
//!
//! The pattern is compiled once ([`code`]): the automaton ([`automaton`]) knows what may follow
//! what, elements write what is read of their rows into a match row of fixed width ([`registers`]).
//! A partial match ([`partials`]) is such a row and the elements that it waits for. Those that wait
//! lie in lists by element and key ([`waiting`]), so that a row touches only those that can take
//! it; what outlives WITHIN stands in front of the order of age, what waits for an absence in a
//! queue ([`timers`]).
//!
//! Rows come in by [`state`]; partial matches [`begin`], [`advance`] and end by the [`clock`].
//!
//! A SEQUENCE looks at all partial matches of a key for each row, of which there are never more
//! than elements.

mod advance;
mod automaton;
mod begin;
mod clock;
mod code;
mod partials;
mod persist;
mod plain;
mod registers;
mod scopes;
mod state;
mod timers;
mod waiting;

use std::cell::Cell;
use std::sync::Arc;

use super::analytic::Analytics;
use super::expr::{Env, Operand, predicate};
use super::feed::StreamFeed;
use super::node::Stores;
use super::state::{Load, Save, StateError};
use super::window::Changes;
use crate::event::{Batch, Row, Rows, Stamp, Timestamp, Value};
use crate::sql::plan::{self, Emit, PatternInput, StreamInput, Within};
use code::{Code, Scoping};
use state::State;
use timers::Timers;

/// Rows that are looked at in one go:
/// few enough that they are still in the cache when they are looked at again.
const LOOK_ROWS_MAX: usize = 128;
/// The state of the windows in front is numbered from this on.
const PORTS: u16 = 1;

/// What looks for the matches of one query.
pub(super) struct Matcher {
    code: Arc<Code>,
    state: State,
    /// Named windows in front of inputs.
    windows: Vec<Option<Box<StreamFeed>>>,
    /// The columns of each input.
    widths: Vec<usize>,
    filter: Option<Operand<bool>>,
    /// What is computed from match to match. It then has the filter, too.
    analytics: Option<Box<Analytics>>,
    /// Of each row that is looked at, the elements that it fits by itself.
    masks: Vec<u64>,
    faults: Cell<u64>,
}

/// Collects the rows that come out of a window.
struct Collect<'a>(&'a mut Batch);

impl Changes for Collect<'_> {
    fn enter(&mut self, row: Row<'_>) {
        self.0.push(row.stamp, row.values.iter().cloned());
    }

    fn leave(&mut self, _row: Row<'_>, _at: Stamp) {}

    fn close(&mut self, _at: Stamp) {}
}

/// Takes matches as they are found.
trait Matches {
    /// A match, by what is seen of its match row.
    fn matched(&mut self, values: &[Value], at: Stamp);
    /// The matches since the last call were completed by one row.
    fn together(&mut self, at: Stamp);
}

/// Hands matches over at once.
struct AtOnce<'a, C>(&'a mut C);

impl<C: Changes> Matches for AtOnce<'_, C> {
    fn matched(&mut self, values: &[Value], at: Stamp) {
        let stamp = at;
        self.0.enter(Row { stamp, values });
    }

    fn together(&mut self, at: Stamp) {
        self.0.together(at);
    }
}

/// Lets matches wait until somebody looks at them.
impl Matches for Found {
    fn matched(&mut self, values: &[Value], at: Stamp) {
        self.rows.push_with(at, |row| {
            values.iter().for_each(|value| value.copy_to(row));
            if values.is_empty() {
                row.push(Value::Null);
            }
        });
    }

    fn together(&mut self, _at: Stamp) {
        self.ends.push(self.rows.len());
    }
}

/// Matches that have been found.
struct Found {
    rows: Batch,
    /// Behind which of them a row, or a moment, came that completed others.
    ends: Vec<usize>,
}

impl Found {
    /// What a row or moment completes has been found.
    fn end(&mut self, at: Stamp) {
        let known = self.ends.last().copied().unwrap_or(0);
        if self.rows.len() > known {
            self.together(at);
        }
    }

    fn new(width: usize) -> Found {
        Found {
            rows: Batch::new(width.max(1)),
            ends: Vec::new(),
        }
    }
}

/// The places of the masks that are not empty, and these. Found without a branch: which rows fit is
/// nothing that a processor could guess.
fn fitting<'p>(masks: &[u64], places: &'p mut [(usize, u64); LOOK_ROWS_MAX]) -> &'p [(usize, u64)] {
    let mut count = 0;
    for (number, mask) in masks.iter().enumerate() {
        if let Some(place) = places.get_mut(count) {
            *place = (number, *mask);
        }
        count += usize::from(*mask != 0);
    }
    places.get(..count).unwrap_or_default()
}

/// Room for the rows that come out of the window in front of an input.
fn come_out(widths: &[usize], input: usize) -> Batch {
    Batch::new(widths.get(input).copied().unwrap_or(1).max(1))
}

impl Matcher {
    pub(super) fn new(
        plan: &PatternInput,
        analytics: &plan::Analytics,
        stores: &Stores,
    ) -> Matcher {
        let filter = plan.filter.as_ref();
        let analytics = Analytics::new(analytics, filter, stores);
        let filter = filter.filter(|_| analytics.is_none());
        let code = Code::new(&plan.pattern, stores);
        let window = |input: &StreamInput| {
            let windowed = input.window.is_some();
            windowed.then(|| Box::new(StreamFeed::new(input, Emit::Current, stores)))
        };
        Matcher {
            state: State::new(&code),
            code: Arc::new(code),
            windows: plan.pattern.inputs.iter().map(window).collect(),
            widths: plan
                .pattern
                .inputs
                .iter()
                .map(|input| input.keep.len())
                .collect(),
            filter: filter.map(|filter| predicate(filter, stores.cx(&[]))),
            analytics: analytics.map(Box::new),
            masks: Vec::new(),
            faults: Cell::new(0),
        }
    }

    /// The same with nothing to remember.
    pub(super) fn fresh(&self) -> Matcher {
        let windows = self.windows.iter();
        Matcher {
            state: State::new(&self.code),
            code: Arc::clone(&self.code),
            windows: windows
                .map(|feed| feed.as_ref().map(|feed| Box::new(feed.fresh())))
                .collect(),
            widths: self.widths.clone(),
            filter: self.filter.clone(),
            analytics: self.analytics.as_ref().map(|one| Box::new(one.fresh())),
            masks: Vec::new(),
            faults: Cell::new(0),
        }
    }

    /// Takes rows of an input, all before the next deadline.
    pub(super) fn push(&mut self, input: usize, rows: Rows<'_>, to: &mut impl Changes) {
        if let Some(Some(window)) = self.windows.get_mut(input) {
            let mut come = come_out(&self.widths, input);
            window.push(0, rows, &mut Collect(&mut come));
            self.look(input, come.rows());
            self.give(to);
            return;
        }
        if !self.gives_at_once() {
            self.look(input, rows);
            self.give(to);
            return;
        }
        let mut rest = rows;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(LOOK_ROWS_MAX);
            self.screen(input, head);
            let mut places = [(0, 0); LOOK_ROWS_MAX];
            let fitting = fitting(&self.masks, &mut places).iter();
            let rows = fitting.filter_map(|(place, mask)| Some((head.row(*place)?, *mask)));
            self.state.plain_rows(&self.code, rows, &mut AtOnce(to));
            rest = tail;
        }
    }

    /// Whether matches need not be looked at before they are handed over.
    fn gives_at_once(&self) -> bool {
        self.code.plain.is_some() && self.filter.is_none() && self.analytics.is_none()
    }

    /// Takes rows of an input of which it is known what they fit by themselves: their numbers,
    /// ascending, each with elements.
    pub(super) fn push_fitting(
        &mut self,
        input: usize,
        rows: Rows<'_>,
        fits: &[(u32, u64)],
        to: &mut impl Changes,
    ) {
        let fits = fits.iter();
        let fitting = fits.filter_map(|(number, mask)| Some((rows.row(*number as usize)?, *mask)));
        if self.gives_at_once() {
            self.state.plain_rows(&self.code, fitting, &mut AtOnce(to));
            return;
        }
        self.state.rows(&self.code, input, fitting);
        self.give(to);
    }

    /// Whether rows of an input that fit no element by themselves do not matter.
    pub(super) fn can_be_screened(&self, input: usize) -> bool {
        let windowed = self.windows.get(input).is_none_or(Option::is_some);
        !windowed && !self.code.every_row
    }

    /// The elements with which a match can begin.
    pub(super) fn begins_with(&self) -> u64 {
        self.code.automaton.start.active
    }

    /// The elements that can take a row as things are, or whose rows spoil something; perhaps more.
    /// For patterns to which nothing else matters.
    pub(super) fn reacts(&self) -> u64 {
        let awaited = self.state.waiting.awaited();
        if self.state.may_begin(&self.code) {
            awaited | self.begins_with()
        } else {
            awaited
        }
    }

    /// How long after a row its first deadline comes, when that is always the same.
    pub(super) fn delay_ms(&self) -> Option<i64> {
        let windowed = self.windows.iter().any(Option::is_some);
        let earliest = self.earliest(Timestamp(0)).filter(|_| !windowed);
        earliest.map(|earliest| earliest.0)
    }

    fn look(&mut self, input: usize, rows: Rows<'_>) {
        let mut rest = rows;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(LOOK_ROWS_MAX);
            self.screen(input, head);
            let masks = self.masks.iter().copied();
            let all = self.code.every_row;
            let rows = head.iter().zip(masks).filter(|(_, mask)| all || *mask != 0);
            self.state.rows(&self.code, input, rows);
            rest = tail;
        }
    }

    /// Finds what each row fits by itself.
    fn screen(&mut self, input: usize, rows: Rows<'_>) {
        if let Some(filters) = self.code.filters.get(input) {
            filters.mark(rows, &mut self.masks, &self.faults);
        }
    }

    /// The clock has reached a deadline.
    pub(super) fn fire(&mut self, at: Stamp, to: &mut impl Changes) {
        for input in 0..self.windows.len() {
            let Some(Some(window)) = self.windows.get_mut(input) else {
                continue;
            };
            if window.deadline().is_some_and(|due| due <= at.time) {
                let mut come = come_out(&self.widths, input);
                window.fire(at, &mut Collect(&mut come));
                self.look(input, come.rows());
            }
        }
        if self
            .state
            .deadline(&self.code)
            .is_some_and(|due| due <= at.time)
        {
            self.state.fire(&self.code, at);
        }
        self.give(to);
    }

    /// Hands over the matches that have been found.
    fn give(&mut self, to: &mut impl Changes) {
        if self.state.found.rows.is_empty() {
            return;
        }
        match self.analytics.take() {
            None => self.give_to(to),
            Some(mut analytics) => {
                self.give_to(&mut analytics.before(to));
                self.analytics = Some(analytics);
            }
        }
        self.state.found.rows.clear();
        self.state.found.ends.clear();
    }

    fn give_to(&self, to: &mut impl Changes) {
        let Found { rows, ends } = &self.state.found;
        let mut ends = ends.iter().copied().peekable();
        for (number, row) in (1..).zip(rows.rows().iter()) {
            let row = Row {
                values: row.values.get(..self.code.visible).unwrap_or_default(),
                ..row
            };
            let passes = self.filter.as_ref().is_none_or(|filter| {
                let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
                filter.get(&env) == Some(true)
            });
            if passes {
                to.enter(row);
            }
            if ends.next_if_eq(&number).is_some() {
                to.together(row.stamp);
            }
        }
    }

    /// Whether an absence at the start waits for the clock to be known.
    pub(super) fn starts(&self) -> bool {
        let code = &self.code;
        code.tokens && code.scoping == Scoping::One && !self.state.started
    }

    /// The clock is known.
    pub(super) fn start(&mut self, at: Stamp) {
        if !self.state.started {
            self.state.start(&self.code, at);
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let windows = self.windows.iter().flatten();
        let windows = windows.filter_map(|window| window.deadline());
        windows.chain(self.state.deadline(&self.code)).min()
    }

    /// The earliest deadline that rows from `time` on could bring about.
    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        let windows = self.windows.iter().flatten();
        let windows = windows.filter_map(|window| window.earliest(time));
        let code = &self.code;
        let waits = Timers::shortest_ms(&code.automaton, code.elements.len());
        let ends = match code.within {
            Some(Within::Time(span_ms)) => Some(span_ms.saturating_add(1)),
            Some(Within::Events(_)) | None => None,
        };
        let spans = waits
            .into_iter()
            .chain(ends)
            .map(|span_ms| time.plus_ms(span_ms));
        windows.chain(spans).min()
    }

    pub(super) fn take_faults(&self) -> u64 {
        let windows = self.windows.iter().flatten();
        let windows: u64 = windows.map(|window| window.take_faults()).sum();
        let analytics = self.analytics.as_ref().map_or(0, |one| one.faults.take());
        windows + analytics + self.faults.take() + self.state.faults.take()
    }

    /// Partial matches that were dropped since the last call, since there were too many.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.state.dropped)
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        for (number, window) in (PORTS..).zip(&mut self.windows) {
            if let Some(window) = window {
                save.one_of(number, |save| window.save(save))?;
            }
        }
        if let Some(analytics) = &mut self.analytics {
            analytics.save(save)?;
        }
        self.state.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        for (number, window) in (PORTS..).zip(&mut self.windows) {
            if let Some(window) = window {
                window.load(&load.one_of(number))?;
            }
        }
        if let Some(analytics) = &mut self.analytics {
            analytics.load(load)?;
        }
        self.state = State::new(&self.code);
        self.state.load(&self.code, load)
    }
}
