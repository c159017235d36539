//! A running query: filter, window, groups or projection, output.

use std::sync::Arc;

use super::expr::{Operand, predicate};
use super::group::Groups;
use super::grouped::Grouped;
use super::node::Stores;
use super::output::Output;
use super::state::{Load, Part, Save, StateError};
use super::table::TableWrite;
use super::window::{AnyWindow, Changes, Picked};
use crate::event::{Batch, Row, Rows, Stamp, Timestamp};
use crate::sql::plan::{Emit, Input, Query, Target, Window};

/// One query with its state.
pub(super) struct Running {
    plan: Arc<Query>,
    stores: Stores,
    /// What the rows do to a table, when they go to one.
    write: Option<TableWrite>,
    filter: Option<Operand<bool>>,
    window: AnyWindow,
    stage: Stage,
    /// The rows of a push that have passed the filter.
    picked: Vec<usize>,
}

/// Rows that are filtered in one go.
const PICK_ROWS_MAX: usize = 1024;

/// What looks through the window.
enum Stage {
    Projected(Box<Projected>),
    Grouped(Box<Grouped>),
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

    fn leave(&mut self, row: Row<'_>, at: Stamp) {
        if self.emit != Emit::Current {
            self.output.single(row.values, row.stamp, at);
        }
    }

    fn replaced(&mut self, _row: Row<'_>, _at: Stamp) {}

    fn close(&mut self, at: Stamp) {
        self.output.close(at);
    }
}

impl Running {
    pub(super) fn new(query: &Query, stores: &Stores) -> Running {
        let Input::Stream(input) = &query.input else {
            unreachable!("joins")
        };
        let window = AnyWindow::new(input.window.as_ref(), query.emit, &input.keep, stores);
        // A window that keeps rows shows the kept columns alone; else the whole row is seen.
        let cx = if window.keeps_rows() {
            stores.cx(&[])
        } else {
            stores.cx(&input.keep)
        };
        let batch = input.window.as_ref().is_some_and(Window::is_batch);
        let stage = match &query.grouping {
            Some(grouping) => Stage::Grouped(Box::new(Grouped::new(
                Groups::new(grouping, cx, window.leaves(), batch, query.emit),
                Output::new(query, stores.cx(&[])),
            ))),
            None => Stage::Projected(Box::new(Projected {
                output: Output::new(query, cx),
                batch,
                emit: query.emit,
            })),
        };
        let filter = input
            .filter
            .as_ref()
            .map(|filter| predicate(filter, stores.cx(&[])));
        let write = match &query.target {
            Target::Stream(_) => None,
            Target::Table { table, write } => {
                let table = stores.tables.get(table.0);
                table.map(|table| TableWrite::new(write, table.clone(), stores.cx(&[])))
            }
        };
        Running {
            plan: Arc::new(query.clone()),
            stores: stores.clone(),
            write,
            filter,
            window,
            stage,
            picked: Vec::new(),
        }
    }

    /// The same query without anything to remember.
    pub(super) fn fresh(&self) -> Running {
        Running::new(&self.plan, &self.stores)
    }

    /// Takes rows; what comes out is in [`Running::output`].
    pub(super) fn push(&mut self, _input: usize, rows: Rows<'_>) {
        let mut rest = rows;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(PICK_ROWS_MAX);
            self.pick(head);
            let picked = Picked::new(head, &self.picked);
            match &mut self.stage {
                Stage::Projected(stage) => self.window.push(picked, &mut **stage),
                Stage::Grouped(stage) => self.window.push(picked, &mut **stage),
            }
            rest = tail;
        }
        match &mut self.stage {
            Stage::Projected(stage) => self.window.pushed(&mut **stage),
            Stage::Grouped(stage) => self.window.pushed(&mut **stage),
        }
        self.finish();
    }

    /// After something has come out: rows for a table go there.
    fn finish(&mut self) {
        let output = match &mut self.stage {
            Stage::Projected(stage) => &mut stage.output,
            Stage::Grouped(stage) => &mut stage.output,
        };
        if let Some(write) = &mut self.write {
            if !output.out.is_empty() {
                write.apply(output.out.rows(), &output.faults);
                output.out.clear();
            }
        }
    }

    /// Notes the rows for which the filter is true. It sees the whole row.
    fn pick(&mut self, rows: Rows<'_>) {
        self.picked.clear();
        let output = match &self.stage {
            Stage::Projected(stage) => &stage.output,
            Stage::Grouped(stage) => &stage.output,
        };
        match &self.filter {
            None => self.picked.extend(0..rows.len()),
            Some(filter) => {
                let passing = (0..).zip(rows.iter()).filter(|(_, row)| {
                    filter.get(&output.env(row.values, row.stamp, row.stamp)) == Some(true)
                });
                self.picked.extend(passing.map(|(place, _)| place));
            }
        }
    }

    /// The clock has reached the query's deadline.
    pub(super) fn fire(&mut self, at: Stamp) {
        match &mut self.stage {
            Stage::Projected(stage) => self.window.fire(at, &mut **stage),
            Stage::Grouped(stage) => self.window.fire(at, &mut **stage),
        }
        self.finish();
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.window.deadline()
    }

    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        self.window.earliest(time)
    }

    /// The rows that have come out, for the caller to take.
    pub(super) fn output(&mut self) -> &mut Batch {
        match &mut self.stage {
            Stage::Projected(stage) => &mut stage.output.out,
            Stage::Grouped(stage) => &mut stage.output.out,
        }
    }

    /// Whether there is anything to remember between two rows.
    pub(super) fn has_state(&self) -> bool {
        !(self.window.is_unbounded() && matches!(self.stage, Stage::Projected(_)))
    }

    pub(super) fn take_faults(&self) -> u64 {
        let output = match &self.stage {
            Stage::Projected(stage) => &stage.output,
            Stage::Grouped(stage) => &stage.output,
        };
        output.take_faults() + self.window.take_faults()
    }

    pub(super) fn save(&self, save: &mut Save<'_>) -> Result<(), StateError> {
        if self.has_state() {
            // So that a state which happens to be empty is not taken for one that is missing.
            save.put(Part::Present, 0, &true)?;
        }
        self.window.save(save)?;
        match &self.stage {
            Stage::Projected(stage) => stage.output.save(save),
            Stage::Grouped(stage) => {
                stage.groups.save(save)?;
                stage.output.save(save)
            }
        }
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.window.load(load)?;
        match &mut self.stage {
            Stage::Projected(stage) => stage.output.load(load),
            Stage::Grouped(stage) => {
                stage.groups.load(load)?;
                stage.output.load(load)
            }
        }
    }
}
