//! Windows: which rows a query sees at once.
//!
//! A window tells what happens to it as changes: a row enters, a row leaves, a batch closes. It
//! knows nothing of groups and expressions. Its deadlines are exact: the engine fires them in
//! order, before any row of a later time.

mod batches;
mod ring;
mod sliding;

pub(super) use batches::{LengthBatch, TimedBatch};
pub(super) use sliding::{Length, Time};

use super::state::{Load, Save, StateError};
use crate::event::{Row, Stamp, Timestamp};
use crate::sql::plan::{Emit, Window};

/// What a window does to whoever looks through it.
pub(super) trait Changes {
    /// A row has come in.
    fn enter(&mut self, row: Row<'_>);
    /// A row has left; `at` is when and because of what.
    fn leave(&mut self, row: Row<'_>, at: Stamp);
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

    /// Takes a row.
    #[inline]
    pub(super) fn push(&mut self, row: Row<'_>, to: &mut impl Changes) {
        match self {
            AnyWindow::Unbounded => to.enter(row),
            AnyWindow::Length(window) => window.push(row, to),
            AnyWindow::Time(window) => window.push(row, to),
            AnyWindow::LengthBatch(window) => window.push(row, to),
            AnyWindow::TimedBatch(window) => window.push(row, to),
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
