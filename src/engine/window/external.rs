//! Windows that move by a time of the rows' own. A row whose time is older than the newest seen,
//! or NULL, counts as of the newest.

use std::cell::Cell;

use serde::{Deserialize, Serialize};

use super::super::aggregate::Leaves;
use super::super::expr::{Env, Operand};
use super::super::state::{Load, Part, Save, StateError};
use super::periods::Periods;
use super::ring::Ring;
use super::{Changes, Picked, Window};
use crate::event::{Row, Stamp, Timestamp, Value};

/// The time of a row, never going back.
struct OwnTime {
    time: Operand<i64>,
    newest: Option<i64>,
    faults: Cell<u64>,
}

impl OwnTime {
    fn new(time: Operand<i64>) -> OwnTime {
        OwnTime {
            time,
            newest: None,
            faults: Cell::new(0),
        }
    }

    /// None while no row has had a time.
    fn next(&mut self, row: Row<'_>) -> Option<i64> {
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        self.newest = self.newest.max(self.time.get(&env));
        self.newest
    }
}

/// `'externalTime', col, d`: the rows of the last d.
pub(super) struct ExternalTime {
    span_ms: i64,
    time: OwnTime,
    /// With the time of each row.
    ring: Ring,
}

impl ExternalTime {
    pub(super) fn new(span_ms: i64, time: Operand<i64>, keep: &[usize]) -> ExternalTime {
        ExternalTime {
            span_ms,
            time: OwnTime::new(time),
            ring: Ring::with_extra(keep, 1),
        }
    }

    fn time_at(&self, place: usize) -> Option<i64> {
        self.ring.extra(place)?.first()?.as_int()
    }
}

impl Window for ExternalTime {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            let time = self.time.next(row);
            while let Some(oldest) = self.ring.row(0) {
                let end = self
                    .time_at(0)
                    .map(|from| from.saturating_add(self.span_ms));
                if end > time || time.is_none() {
                    break;
                }
                to.leave(oldest, row.stamp);
                self.ring.pop(1);
            }
            self.ring.push(row, [time.map_or(Value::Null, Value::Int)]);
            if let Some(row) = self.ring.row(self.ring.len() - 1) {
                to.enter(row);
            }
        }
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn leaves(&self) -> Leaves {
        Leaves::InOrder
    }

    fn take_faults(&self) -> u64 {
        self.time.faults.take()
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(ExternalTime {
            span_ms: self.span_ms,
            time: OwnTime::new(self.time.time.clone()),
            ring: self.ring.fresh(),
        })
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.ring.save(save)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.ring.load(load)?;
        let last = self.ring.len().checked_sub(1);
        self.time.newest = last.and_then(|last| self.time_at(last));
        Ok(())
    }
}

/// `'externalTimeBatch', col, d [, start [, timeout]]`: every d. After a timeout, rows of the same
/// period begin another batch.
pub(super) struct ExternalTimeBatch {
    span_ms: i64,
    timeout_ms: Option<i64>,
    start: Option<i64>,
    time: OwnTime,
    /// Whether anybody sees batches leave.
    seen: bool,
    periods: Periods,
    state: BatchState,
}

#[derive(Default, Serialize, Deserialize)]
struct BatchState {
    newest: Option<i64>,
    anchor: Option<i64>,
    /// The end of the open period by the rows' own time; none while none has had a time.
    end: Option<i64>,
    /// When the last row of the open batch came.
    last: Option<Timestamp>,
    /// Whether a batch is still to leave.
    closed: bool,
}

impl ExternalTimeBatch {
    pub(super) fn new(
        time: Operand<i64>,
        span_ms: i64,
        start: Option<i64>,
        timeout_ms: Option<i64>,
        seen: bool,
    ) -> ExternalTimeBatch {
        ExternalTimeBatch {
            span_ms,
            timeout_ms,
            start,
            time: OwnTime::new(time),
            seen,
            periods: Periods::spans(span_ms, start),
            state: BatchState::default(),
        }
    }

    fn close(&mut self, at: Stamp, to: &mut dyn Changes) {
        self.state.closed = self.seen && self.state.last.is_some();
        self.state.last = None;
        to.close(at);
    }

    /// The rows' time has come to `time`.
    fn move_to(&mut self, time: i64, at: Stamp, to: &mut dyn Changes) {
        if let Some(end) = self.state.end.filter(|end| *end <= time) {
            if self.state.last.is_some() || self.state.closed {
                self.close(at, to);
            }
            // The period behind it may have passed too, empty.
            if self.state.closed && end.saturating_add(self.span_ms) <= time {
                self.close(at, to);
            }
            self.state.end = None;
        }
        if self.state.end.is_none() {
            self.periods.begin(time);
            self.state.end = Some(self.periods.end_of(Timestamp(time)).0);
        }
    }
}

impl Window for ExternalTimeBatch {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            if let Some(time) = self.time.next(row) {
                self.move_to(time, row.stamp, to);
            }
            self.state.last = Some(row.stamp.time);
            to.enter(row);
        }
    }

    fn fire(&mut self, at: Stamp, to: &mut dyn Changes) {
        if self.deadline().is_some_and(|due| due <= at.time) {
            self.close(at, to);
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        Some(self.state.last?.plus_ms(self.timeout_ms?))
    }

    fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        let timeout_ms = self.timeout_ms?;
        Some(self.deadline().unwrap_or_else(|| time.plus_ms(timeout_ms)))
    }

    fn take_faults(&self) -> u64 {
        self.time.faults.take()
    }

    fn fresh(&self) -> Box<dyn Window> {
        let time = self.time.time.clone();
        Box::new(ExternalTimeBatch::new(
            time,
            self.span_ms,
            self.start,
            self.timeout_ms,
            self.seen,
        ))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let state = BatchState {
            newest: self.time.newest,
            anchor: self.periods.anchor(),
            ..self.state
        };
        save.put(Part::Window, 0, &state)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.state = load.one(Part::Window)?.unwrap_or_default();
        self.time.newest = self.state.newest;
        self.periods.set_anchor(self.state.anchor.or(self.start));
        Ok(())
    }
}
