//! Windows that give nothing until they close. They keep no rows: whoever looks through them
//! gathers what it needs.

use serde::{Deserialize, Serialize};

use super::super::state::{Load, Part, Save, StateError};
use super::periods::Periods;
use super::{Changes, Picked, Window};
use crate::event::{Stamp, Timestamp};

/// `'lengthBatch', n`: every n rows.
pub(in super::super) struct LengthBatch {
    rows_max: u64,
    rows: u64,
}

impl LengthBatch {
    pub(super) fn new(rows_max: u64) -> LengthBatch {
        LengthBatch { rows_max, rows: 0 }
    }

    pub(super) fn fresh(&self) -> LengthBatch {
        LengthBatch::new(self.rows_max)
    }

    pub(super) fn push(&mut self, rows: Picked<'_>, to: &mut impl Changes) {
        let mut rest = rows;
        while let Some(first) = rest.first() {
            let wanted = self.rows_max.saturating_sub(self.rows).max(1);
            let (head, tail) = rest.split_at(usize::try_from(wanted).unwrap_or(usize::MAX));
            to.enter_all(head);
            self.rows += head.len() as u64;
            if self.rows >= self.rows_max {
                self.rows = 0;
                to.close(head.last().unwrap_or(first));
            }
            rest = tail;
        }
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        save.put(Part::Window, 0, &self.rows)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.rows = load.one(Part::Window)?.unwrap_or(0);
        Ok(())
    }
}

/// `'timeBatch'`, `'tumbling'` and `'cron'`: every period. Periods without a row give nothing and
/// cost nothing, but that the one behind a batch shows that batch leave.
pub(in super::super) struct TimedBatch {
    periods: Periods,
    /// Whether anybody sees batches leave.
    seen: bool,
    /// When the open period ends; none when nothing will happen then.
    end: Option<Timestamp>,
    /// Whether a row has come since the last end.
    filled: bool,
}

#[derive(Serialize, Deserialize)]
struct TimedBatchState {
    anchor: Option<i64>,
    end: Option<Timestamp>,
    filled: bool,
}

impl TimedBatch {
    pub(super) fn new(periods: Periods, seen: bool) -> TimedBatch {
        TimedBatch {
            periods,
            seen,
            end: None,
            filled: false,
        }
    }

    /// Its periods must not have begun.
    pub(super) fn fresh(&self, anchor: Option<i64>) -> TimedBatch {
        let mut periods = self.periods.clone();
        periods.set_anchor(anchor);
        TimedBatch::new(periods, self.seen)
    }

    pub(super) fn push(&mut self, rows: Picked<'_>, to: &mut impl Changes) {
        let Some(first) = rows.first() else {
            return;
        };
        // A row on the border belongs to the next batch, also when another query made it at the
        // very moment at which this one falls due.
        while let Some(end) = self.end.filter(|end| *end <= first.time) {
            let at = Stamp {
                seq: first.seq,
                time: end,
            };
            self.fire(at, to);
        }
        self.periods.begin(first.time.0);
        let end = self.periods.end_of(first.time);
        self.end.get_or_insert(end);
        self.filled = true;
        to.enter_all(rows);
    }

    pub(super) fn fire(&mut self, at: Stamp, to: &mut impl Changes) {
        let Some(end) = self.end.filter(|end| *end <= at.time) else {
            return;
        };
        let leaves_later = self.seen && self.filled;
        self.end = leaves_later.then(|| self.periods.end_of(end));
        self.filled = false;
        to.close(at);
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.end
    }

    pub(super) fn earliest(&self, time: Timestamp) -> Timestamp {
        self.end.unwrap_or_else(|| self.periods.end_of(time))
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let state = TimedBatchState {
            anchor: self.periods.anchor(),
            end: self.end,
            filled: self.filled,
        };
        save.put(Part::Window, 0, &state)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        if let Some(state) = load.one::<TimedBatchState>(Part::Window)? {
            self.periods.set_anchor(state.anchor);
            self.end = state.end;
            self.filled = state.filled;
        }
        Ok(())
    }
}

/// `'batch'`: the rows that one input caused, as far as they arrive together. How rows were cut
/// into records of the log does not matter: each input has a sequence number of its own, and what a
/// query makes of one input goes on in one piece.
pub(super) struct Together {
    open: Option<Stamp>,
}

impl Together {
    pub(super) fn new() -> Together {
        Together { open: None }
    }

    fn close(&mut self, to: &mut dyn Changes) {
        if let Some(at) = self.open.take() {
            to.close(at);
        }
    }
}

impl Window for Together {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            if self.open.is_some_and(|open| open.seq != row.stamp.seq) {
                self.close(to);
            }
            self.open = Some(row.stamp);
            to.enter(row);
        }
    }

    fn pushed(&mut self, to: &mut dyn Changes) {
        self.close(to);
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(Together::new())
    }

    fn save(&mut self, _save: &mut Save<'_, '_>) -> Result<(), StateError> {
        Ok(())
    }

    fn load(&mut self, _load: &Load<'_>) -> Result<(), StateError> {
        Ok(())
    }
}
