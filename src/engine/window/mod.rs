//! Windows: which rows a query sees at once.
//!
//! A window tells what happens to it as changes: a row enters, a row leaves, a batch closes. It
//! knows nothing of groups and expressions. Its deadlines are exact: the engine fires them in
//! order, before any row of a later time.

mod batches;
mod condition;
mod delay;
mod expression;
mod external;
mod frequent;
mod hop;
mod keyed;
mod new;
mod periods;
mod ring;
mod session;
mod sliding;
mod sort;
#[cfg(test)]
mod tests;
mod unique;

use batches::{LengthBatch, TimedBatch};
pub(super) use sliding::Slide;
use sliding::{Length, Time};

use super::aggregate::Leaves;
use super::state::{Load, Save, StateError};
use crate::event::{Row, Rows, Stamp, Timestamp, Value};

/// The rows of a push that have passed the filter.
#[derive(Clone, Copy)]
pub(super) struct Picked<'a> {
    rows: Rows<'a>,
    /// Which of the rows, ascending.
    places: &'a [usize],
}

impl<'a> Picked<'a> {
    pub(super) fn new(rows: Rows<'a>, places: &'a [usize]) -> Picked<'a> {
        Picked { rows, places }
    }

    /// The rows one by one.
    #[inline]
    pub(super) fn iter(self) -> impl Iterator<Item = Row<'a>> {
        self.places
            .iter()
            .filter_map(move |place| self.rows.row(*place))
    }

    fn len(self) -> usize {
        self.places.len()
    }

    fn first(self) -> Option<Stamp> {
        Some(self.rows.row(*self.places.first()?)?.stamp)
    }

    fn last(self) -> Option<Stamp> {
        Some(self.rows.row(*self.places.last()?)?.stamp)
    }

    /// The first `count` rows, and the rest.
    fn split_at(self, count: usize) -> (Picked<'a>, Picked<'a>) {
        let (head, tail) = self.places.split_at(count.min(self.places.len()));
        (Picked::new(self.rows, head), Picked::new(self.rows, tail))
    }
}

/// What a window does to whoever looks through it.
pub(super) trait Changes {
    /// A row has come in.
    fn enter(&mut self, row: Row<'_>);
    /// A row has come in of which `cell` appends each of `width` columns; `row` is for those who
    /// need it in one piece.
    fn enter_of(
        &mut self,
        row: &mut Vec<Value>,
        width: usize,
        cell: impl Fn(usize, &mut Vec<Value>),
        stamp: Stamp,
    ) where
        Self: Sized,
    {
        row.clear();
        (0..width).for_each(|column| cell(column, row));
        let values = row;
        self.enter(Row { stamp, values });
    }
    /// Several rows have come in, and nothing has happened between them.
    fn enter_all(&mut self, rows: Picked<'_>) {
        for row in rows.iter() {
            self.enter(row);
        }
    }
    /// A row has left; `at` is when and because of what.
    fn leave(&mut self, row: Row<'_>, at: Stamp);
    /// The joined rows that have come in since the last call belong together: one row has brought
    /// them about, or one batch that closed.
    fn together(&mut self, _at: Stamp) {}
    /// A row has left because a later one has come in its place: that is all there is to tell.
    fn replaced(&mut self, row: Row<'_>, at: Stamp) {
        self.leave(row, at);
    }
    /// Rows have come in one after another, and others have left before each of them.
    fn slide(&mut self, slide: Slide<'_>) {
        slide.one_by_one(self);
    }
    /// A batch is complete; everything that entered since the last close belongs to it.
    fn close(&mut self, at: Stamp);
}

/// The windows that need not be the fastest.
trait Window: Send {
    /// Takes rows, all before the next deadline.
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes);
    /// The rows that arrived together have all been pushed.
    fn pushed(&mut self, _to: &mut dyn Changes) {}
    /// The clock has reached the deadline.
    fn fire(&mut self, _at: Stamp, _to: &mut dyn Changes) {}
    /// See [`AnyWindow::deadline`].
    fn deadline(&self) -> Option<Timestamp> {
        None
    }
    /// See [`AnyWindow::earliest`].
    fn earliest(&self, _time: Timestamp) -> Option<Timestamp> {
        None
    }
    /// See [`AnyWindow::keeps_rows`].
    fn keeps_rows(&self) -> bool {
        false
    }
    /// See [`AnyWindow::leaves`].
    fn leaves(&self) -> Leaves {
        Leaves::Never
    }
    /// See [`AnyWindow::take_faults`].
    fn take_faults(&self) -> u64 {
        0
    }
    /// See [`AnyWindow::fresh`].
    fn fresh(&self) -> Box<dyn Window>;
    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError>;
    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError>;
}

/// The window of one query.
pub(super) struct AnyWindow {
    kind: Kind,
}

enum Kind {
    /// No window: rows enter and never leave.
    Unbounded,
    Length(Length),
    Time(Time),
    LengthBatch(LengthBatch),
    /// With the anchor of its periods when it is fixed.
    TimedBatch(TimedBatch, Option<i64>),
    Other(Box<dyn Window>),
}

impl AnyWindow {
    /// Whether there is none.
    pub(super) fn is_unbounded(&self) -> bool {
        matches!(self.kind, Kind::Unbounded)
    }

    /// The same window without any row.
    pub(super) fn fresh(&self) -> AnyWindow {
        let kind = match &self.kind {
            Kind::Unbounded => Kind::Unbounded,
            Kind::Length(window) => Kind::Length(window.fresh()),
            Kind::Time(window) => Kind::Time(window.fresh()),
            Kind::LengthBatch(window) => Kind::LengthBatch(window.fresh()),
            Kind::TimedBatch(window, anchor) => Kind::TimedBatch(window.fresh(*anchor), *anchor),
            Kind::Other(window) => Kind::Other(window.fresh()),
        };
        AnyWindow { kind }
    }

    /// Whether the rows that enter are copies of the kept columns only.
    pub(super) fn keeps_rows(&self) -> bool {
        match &self.kind {
            Kind::Length(_) | Kind::Time(_) => true,
            Kind::Unbounded | Kind::LengthBatch(_) | Kind::TimedBatch(..) => false,
            Kind::Other(window) => window.keeps_rows(),
        }
    }

    /// How rows leave one by one.
    pub(super) fn leaves(&self) -> Leaves {
        match &self.kind {
            Kind::Length(_) | Kind::Time(_) => Leaves::InOrder,
            Kind::Unbounded | Kind::LengthBatch(_) | Kind::TimedBatch(..) => Leaves::Never,
            Kind::Other(window) => window.leaves(),
        }
    }

    /// Takes rows, all before the next deadline.
    pub(super) fn push<C: Changes>(&mut self, rows: Picked<'_>, to: &mut C) {
        match &mut self.kind {
            Kind::Unbounded => to.enter_all(rows),
            Kind::Length(window) => window.push(rows, to),
            Kind::Time(window) => window.push(rows, to),
            Kind::LengthBatch(window) => window.push(rows, to),
            Kind::TimedBatch(window, _) => window.push(rows, to),
            Kind::Other(window) => window.push(rows, to),
        }
    }

    /// The rows that arrived together have all been pushed.
    pub(super) fn pushed<C: Changes>(&mut self, to: &mut C) {
        if let Kind::Other(window) = &mut self.kind {
            window.pushed(to);
        }
    }

    /// The clock has reached the deadline.
    pub(super) fn fire<C: Changes>(&mut self, at: Stamp, to: &mut C) {
        match &mut self.kind {
            Kind::Unbounded | Kind::Length(_) | Kind::LengthBatch(_) => {}
            Kind::Time(window) => window.fire(at, to),
            Kind::TimedBatch(window, _) => window.fire(at, to),
            Kind::Other(window) => window.fire(at, to),
        }
    }

    /// When it must be fired next, as things are.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match &self.kind {
            Kind::Unbounded | Kind::Length(_) | Kind::LengthBatch(_) => None,
            Kind::Time(window) => window.deadline(),
            Kind::TimedBatch(window, _) => window.deadline(),
            Kind::Other(window) => window.deadline(),
        }
    }

    /// The earliest deadline that rows from `time` on could bring about. Never decreases with
    /// `time`; the engine may push all rows before it in one go.
    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.kind {
            Kind::Unbounded | Kind::Length(_) | Kind::LengthBatch(_) => None,
            Kind::Time(window) => Some(window.earliest(time)),
            Kind::TimedBatch(window, _) => Some(window.earliest(time)),
            Kind::Other(window) => window.earliest(time),
        }
    }

    /// Expressions of its own that could not be computed since the last call.
    pub(super) fn take_faults(&self) -> u64 {
        match &self.kind {
            Kind::Unbounded
            | Kind::Length(_)
            | Kind::Time(_)
            | Kind::LengthBatch(_)
            | Kind::TimedBatch(..) => 0,
            Kind::Other(window) => window.take_faults(),
        }
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        match &mut self.kind {
            Kind::Unbounded => Ok(()),
            Kind::Length(window) => window.save(save),
            Kind::Time(window) => window.save(save),
            Kind::LengthBatch(window) => window.save(save),
            Kind::TimedBatch(window, _) => window.save(save),
            Kind::Other(window) => window.save(save),
        }
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        match &mut self.kind {
            Kind::Unbounded => Ok(()),
            Kind::Length(window) => window.load(load),
            Kind::Time(window) => window.load(load),
            Kind::LengthBatch(window) => window.load(load),
            Kind::TimedBatch(window, _) => window.load(load),
            Kind::Other(window) => window.load(load),
        }
    }
}
