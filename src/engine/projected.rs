//! Rows without groups: each stands for itself.

use super::distinct::{Counted, Live};
use super::output::Output;
use super::state::{Load, Save, StateError};
use super::tail::Shows;
use super::window::Changes;
use crate::event::{Row, Stamp, Value};
use crate::sql::plan::{Emit, Flow, Query};

/// Which part of the state is the rows that are looked at besides the window.
const LOOKED_AT: u16 = 0xFF02;

/// What becomes of rows that stand for themselves.
pub(super) struct Projected {
    pub(super) output: Output,
    batch: bool,
    emit: Emit,
    look: Look,
}

/// What is to be known of the rows in a sliding window.
enum Look {
    /// Nothing: each comes out as it comes or leaves.
    Each,
    /// DISTINCT: how often each output row is there.
    Counts(Box<Counted>),
    /// SNAPSHOT: all of them, when it is due.
    Content(Box<Live>),
}

impl Projected {
    pub(super) fn new(query: &Query, output: Output) -> Projected {
        let flow = query.flow();
        let look = match flow {
            Flow::Sliding if query.shows_snapshots() => {
                Look::Content(Box::new(Live::new(query.input.width())))
            }
            Flow::Sliding if query.distinct => {
                Look::Counts(Box::new(Counted::new(query.select.len(), query.emit)))
            }
            Flow::Endless | Flow::Sliding | Flow::Batch => Look::Each,
        };
        Projected {
            batch: flow == Flow::Batch || output.gathers,
            emit: query.emit,
            look,
            output,
        }
    }

    /// The same without any row.
    pub(super) fn fresh(&self) -> Projected {
        Projected {
            output: self.output.fresh(),
            batch: self.batch,
            emit: self.emit,
            look: match &self.look {
                Look::Each => Look::Each,
                Look::Counts(counted) => Look::Counts(Box::new(counted.fresh())),
                Look::Content(live) => Look::Content(Box::new(live.fresh())),
            },
        }
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.output.save(save)?;
        save.one_of(LOOKED_AT, |save| match &mut self.look {
            Look::Each => Ok(()),
            Look::Counts(counted) => counted.save(save),
            Look::Content(live) => live.save(save),
        })
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.output.load(load)?;
        match &mut self.look {
            Look::Each => Ok(()),
            Look::Counts(counted) => counted.load(&load.one_of(LOOKED_AT)),
            Look::Content(live) => live.load(&load.one_of(LOOKED_AT)),
        }
    }
}

impl Changes for Projected {
    #[inline]
    fn enter(&mut self, row: Row<'_>) {
        match &mut self.look {
            Look::Each if self.batch => {
                self.output.gather(row.values, row.stamp, row.stamp);
            }
            Look::Each if self.emit != Emit::Expired => {
                self.output.single(row.values, row.stamp, row.stamp);
            }
            Look::Each => {}
            Look::Counts(counted) => counted.enter(row, &mut self.output),
            Look::Content(live) => live.enter(row),
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
        if let (Look::Each, false) = (&self.look, self.batch) {
            if self.emit != Emit::Expired {
                self.output.single_of(row, width, cell, stamp, stamp);
            }
            return;
        }
        row.clear();
        (0..width).for_each(|column| cell(column, row));
        let values = row;
        self.enter(Row { stamp, values });
    }

    fn leave(&mut self, row: Row<'_>, at: Stamp) {
        match &mut self.look {
            Look::Each if self.emit != Emit::Current => {
                self.output.single(row.values, row.stamp, at);
            }
            Look::Each => {}
            Look::Counts(counted) => counted.leave(row, at, &mut self.output),
            Look::Content(live) => live.leave(row),
        }
    }

    fn together(&mut self, at: Stamp) {
        if self.batch {
            self.output.close(at);
        }
    }

    fn replaced(&mut self, row: Row<'_>, at: Stamp) {
        if !matches!(self.look, Look::Each) {
            self.leave(row, at);
        }
    }

    fn close(&mut self, at: Stamp) {
        self.output.close(at);
    }
}

impl Shows for Projected {
    fn has_rows(&self) -> bool {
        match &self.look {
            Look::Content(live) => !live.is_empty(),
            Look::Each | Look::Counts(_) => false,
        }
    }

    fn show(&mut self, at: Stamp) {
        if let Look::Content(live) = &self.look {
            for row in live.iter() {
                self.output.gather(row.values, row.stamp, at);
            }
            self.output.close(at);
        }
    }

    fn output(&mut self) -> &mut Output {
        &mut self.output
    }
}
