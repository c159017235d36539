//! What feeds a query: a stream through filter and window, or a join.

use std::cell::Cell;

use super::aggregate::Leaves;
use super::analytic::Analytics;
use super::expr::{Env, Operand, predicate};
use super::node::Stores;
use super::state::{Load, Save, StateError};
use super::window::{AnyWindow, Changes, Picked};
use crate::event::{Row, Rows, Stamp, Timestamp};
use crate::sql::plan::{self, Emit, StreamInput};

/// Rows that are filtered in one go.
const PICK_ROWS_MAX: usize = 1024;

/// A stream, filtered, through a window.
pub(super) struct StreamFeed {
    filter: Option<Operand<bool>>,
    /// What is computed from row to row. It then has the filter, too.
    analytics: Option<Box<Analytics>>,
    window: AnyWindow,
    /// What rows must fulfil behind the window.
    behind: Option<Operand<bool>>,
    /// The rows of a push that have passed the filter.
    picked: Vec<usize>,
    faults: Cell<u64>,
}

impl StreamFeed {
    pub(super) fn new(input: &StreamInput, emit: Emit, stores: &Stores) -> StreamFeed {
        let window = AnyWindow::new(input.window.as_ref(), emit, &input.keep, stores.cx(&[]));
        let columns: &[usize] = if window.keeps_rows() {
            &[]
        } else {
            &input.keep
        };
        let compile = |filter, columns| predicate(filter, stores.cx(columns));
        StreamFeed {
            filter: input.filter.as_ref().map(|filter| compile(filter, &[])),
            analytics: None,
            behind: input.behind.as_ref().map(|filter| compile(filter, columns)),
            window,
            picked: Vec::new(),
            faults: Cell::new(0),
        }
    }

    /// The same, with columns that are computed from row to row behind those of the stream.
    pub(super) fn with_analytics(
        mut self,
        plan: &plan::Analytics,
        input: &StreamInput,
        stores: &Stores,
    ) -> StreamFeed {
        let analytics = Analytics::new(plan, input.filter.as_ref(), stores);
        self.analytics = analytics.map(Box::new);
        self
    }

    /// The same without any row.
    pub(super) fn fresh(&self) -> StreamFeed {
        StreamFeed {
            filter: self.filter.clone(),
            analytics: self.analytics.as_ref().map(|one| Box::new(one.fresh())),
            window: self.window.fresh(),
            behind: self.behind.clone(),
            picked: Vec::new(),
            faults: Cell::new(0),
        }
    }

    /// Whether the rows that come through are copies of the kept columns only; else they are
    /// whole rows of the stream.
    pub(super) fn keeps_rows(&self) -> bool {
        self.window.keeps_rows()
    }

    /// How the rows that come through leave again.
    pub(super) fn leaves(&self) -> Leaves {
        self.window.leaves()
    }

    /// Whether there is anything to remember between two rows.
    pub(super) fn has_state(&self) -> bool {
        self.analytics.is_some() || !self.window.is_unbounded()
    }

    /// Takes rows, all before the next deadline.
    pub(super) fn push(&mut self, _input: usize, rows: Rows<'_>, to: &mut impl Changes) {
        let mut rest = rows;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(PICK_ROWS_MAX);
            let head = match &mut self.analytics {
                None => {
                    self.pick(head);
                    head
                }
                Some(analytics) => {
                    analytics.take(head);
                    self.picked.clear();
                    self.picked.extend(0..analytics.rows.len());
                    analytics.rows.rows()
                }
            };
            let picked = Picked::new(head, &self.picked);
            match &self.behind {
                None => self.window.push(picked, to),
                Some(filter) => {
                    let faults = &self.faults;
                    let mut behind = Behind { filter, faults, to };
                    self.window.push(picked, &mut behind);
                }
            }
            rest = tail;
        }
        match &self.behind {
            None => self.window.pushed(to),
            Some(filter) => {
                let faults = &self.faults;
                self.window.pushed(&mut Behind { filter, faults, to });
            }
        }
    }

    /// Notes the rows for which the filter is true. It sees the whole row.
    fn pick(&mut self, rows: Rows<'_>) {
        self.picked.clear();
        let faults = &self.faults;
        match &self.filter {
            None => self.picked.extend(0..rows.len()),
            Some(filter) => {
                let passing = (0..).zip(rows.iter()).filter(|(_, row)| {
                    let env = Env::new(row.values, row.stamp, row.stamp, faults);
                    filter.get(&env) == Some(true)
                });
                self.picked.extend(passing.map(|(place, _)| place));
            }
        }
    }

    /// The clock has reached the deadline.
    pub(super) fn fire(&mut self, at: Stamp, to: &mut impl Changes) {
        match &self.behind {
            None => self.window.fire(at, to),
            Some(filter) => {
                let faults = &self.faults;
                self.window.fire(at, &mut Behind { filter, faults, to });
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.window.deadline()
    }

    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        self.window.earliest(time)
    }

    pub(super) fn take_faults(&self) -> u64 {
        let computed = self.analytics.as_ref();
        let computed = computed.map_or(0, |analytics| analytics.faults.take());
        self.faults.take() + self.window.take_faults() + computed
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        if let Some(analytics) = &mut self.analytics {
            analytics.save(save)?;
        }
        self.window.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        if let Some(analytics) = &mut self.analytics {
            analytics.load(load)?;
        }
        self.window.load(load)
    }
}

/// Lets rows through that fulfil a condition, on their way in and on their way out.
struct Behind<'a, C> {
    filter: &'a Operand<bool>,
    faults: &'a Cell<u64>,
    to: &'a mut C,
}

impl<C> Behind<'_, C> {
    fn passes(&self, row: Row<'_>) -> bool {
        // At the time of the row, so that what has come in goes out too.
        let env = Env::new(row.values, row.stamp, row.stamp, self.faults);
        self.filter.get(&env) == Some(true)
    }
}

impl<C: Changes> Changes for Behind<'_, C> {
    fn enter(&mut self, row: Row<'_>) {
        if self.passes(row) {
            self.to.enter(row);
        }
    }

    fn leave(&mut self, row: Row<'_>, at: Stamp) {
        if self.passes(row) {
            self.to.leave(row, at);
        }
    }

    fn replaced(&mut self, row: Row<'_>, at: Stamp) {
        if self.passes(row) {
            self.to.replaced(row, at);
        }
    }

    fn close(&mut self, at: Stamp) {
        self.to.close(at);
    }
}
