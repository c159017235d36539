//! Windows: which rows a query sees at once.
//!
//! A window tells what happens to it as changes: a row enters, a row leaves, a batch closes. It
//! knows nothing of groups and expressions. Its deadlines are exact: the engine fires them in
//! order, before any row of a later time.

mod batches;
mod ring;
mod sliding;

pub(super) use batches::{LengthBatch, TimedBatch};
pub(super) use sliding::{Length, Slide, Time};

use super::state::{Load, Save, StateError};
use crate::event::{Row, Rows, Stamp, Timestamp, Value};
use crate::sql::plan::{Emit, Window};

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
    ) {
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
    /// Rows have come in one after another, and others have left before each of them.
    fn slide(&mut self, slide: Slide<'_>) {
        slide.one_by_one(self);
    }
    /// A batch is complete; everything that entered since the last close belongs to it.
    fn close(&mut self, at: Stamp);
}

/// The window of one query.
pub(super) enum AnyWindow {
    /// No window: rows enter and never leave.
    Unbounded,
    Length(Length),
    Time(Time),
    LengthBatch(LengthBatch),
    TimedBatch(TimedBatch),
}

impl AnyWindow {
    /// The window of a plan, for rows of which it keeps `keep`.
    pub(super) fn new(plan: Option<Window>, emit: Emit, keep: &[usize]) -> AnyWindow {
        match plan {
            None => AnyWindow::Unbounded,
            Some(Window::Length { rows }) => AnyWindow::Length(Length::new(rows, keep)),
            Some(Window::Time { span_ms }) => {
                AnyWindow::Time(Time::new(span_ms, emit != Emit::Current, keep))
            }
            Some(Window::LengthBatch { rows }) => AnyWindow::LengthBatch(LengthBatch::new(rows)),
            Some(Window::TimeBatch { span_ms, start }) => {
                AnyWindow::TimedBatch(TimedBatch::new(span_ms, start))
            }
            Some(Window::Tumbling { span_ms, offset_ms }) => {
                AnyWindow::TimedBatch(TimedBatch::new(span_ms, Some(offset_ms)))
            }
        }
    }

    /// Whether the rows that enter are copies of the kept columns only.
    pub(super) fn keeps_rows(&self) -> bool {
        match self {
            AnyWindow::Length(_) | AnyWindow::Time(_) => true,
            AnyWindow::Unbounded | AnyWindow::LengthBatch(_) | AnyWindow::TimedBatch(_) => false,
        }
    }

    /// Takes rows, all before the next deadline.
    pub(super) fn push(&mut self, rows: Picked<'_>, to: &mut impl Changes) {
        match self {
            AnyWindow::Unbounded => to.enter_all(rows),
            AnyWindow::Length(window) => window.push(rows, to),
            AnyWindow::Time(window) => window.push(rows, to),
            AnyWindow::LengthBatch(window) => window.push(rows, to),
            AnyWindow::TimedBatch(window) => window.push(rows, to),
        }
    }

    /// The clock has reached the deadline.
    pub(super) fn fire(&mut self, at: Stamp, to: &mut impl Changes) {
        match self {
            AnyWindow::Unbounded | AnyWindow::Length(_) | AnyWindow::LengthBatch(_) => {}
            AnyWindow::Time(window) => window.fire(at, to),
            AnyWindow::TimedBatch(window) => window.fire(at, to),
        }
    }

    /// When it must be fired next, as things are.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match self {
            AnyWindow::Unbounded | AnyWindow::Length(_) | AnyWindow::LengthBatch(_) => None,
            AnyWindow::Time(window) => window.deadline(),
            AnyWindow::TimedBatch(window) => window.deadline(),
        }
    }

    /// The earliest deadline that rows from `time` on could bring about. Never decreases with
    /// `time`; the engine may push all rows before it in one go.
    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        match self {
            AnyWindow::Unbounded | AnyWindow::Length(_) | AnyWindow::LengthBatch(_) => None,
            AnyWindow::Time(window) => Some(window.earliest(time)),
            AnyWindow::TimedBatch(window) => Some(window.earliest(time)),
        }
    }

    pub(super) fn save(&self, save: &mut Save<'_>) -> Result<(), StateError> {
        match self {
            AnyWindow::Unbounded => Ok(()),
            AnyWindow::Length(window) => window.save(save),
            AnyWindow::Time(window) => window.save(save),
            AnyWindow::LengthBatch(window) => window.save(save),
            AnyWindow::TimedBatch(window) => window.save(save),
        }
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        match self {
            AnyWindow::Unbounded => Ok(()),
            AnyWindow::Length(window) => window.load(load),
            AnyWindow::Time(window) => window.load(load),
            AnyWindow::LengthBatch(window) => window.load(load),
            AnyWindow::TimedBatch(window) => window.load(load),
        }
    }
}
