//! Windows that give nothing until they close. They keep no rows: whoever looks through them
//! gathers what it needs.

use serde::{Deserialize, Serialize};

use super::super::state::{Load, Part, Save, StateError};
use super::{Changes, Picked};
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

    pub(super) fn save(&self, save: &mut Save<'_>) -> Result<(), StateError> {
        save.put(Part::Window, 0, &self.rows)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.rows = load.one(Part::Window)?.unwrap_or(0);
        Ok(())
    }
}

/// `'timeBatch'` and `'tumbling'`: every span from an anchor, which is fixed or the time of the
/// first row there ever was. Periods without a row give nothing and cost nothing.
pub(in super::super) struct TimedBatch {
    span_ms: i64,
    anchor: Option<i64>,
    /// When the open batch ends; none while no row has come since the last close.
    end: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct TimedBatchState {
    anchor: Option<i64>,
    end: Option<Timestamp>,
}

impl TimedBatch {
    pub(super) fn new(span_ms: i64, anchor: Option<i64>) -> TimedBatch {
        TimedBatch {
            span_ms,
            anchor,
            end: None,
        }
    }

    pub(super) fn push(&mut self, rows: Picked<'_>, to: &mut impl Changes) {
        let Some(first) = rows.first() else {
            return;
        };
        if self.end.is_none() {
            self.anchor.get_or_insert(first.time.0);
            self.end = Some(self.end_of(first.time));
        }
        to.enter_all(rows);
    }

    pub(super) fn fire(&mut self, at: Stamp, to: &mut impl Changes) {
        if self.end.is_some_and(|end| end <= at.time) {
            self.end = None;
            to.close(at);
        }
    }

    /// The end of the period that `time` lies in: behind `time`, at most a span.
    fn end_of(&self, time: Timestamp) -> Timestamp {
        let anchor = self.anchor.unwrap_or(time.0);
        // In 128 bits, since a time far in the past minus an anchor far in the future overflows.
        let since = i128::from(time.0) - i128::from(anchor);
        let into = since.rem_euclid(i128::from(self.span_ms.max(1)));
        let rest = i128::from(self.span_ms) - into;
        time.plus_ms(i64::try_from(rest).unwrap_or(i64::MAX))
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.end
    }

    pub(super) fn earliest(&self, time: Timestamp) -> Timestamp {
        self.end.unwrap_or_else(|| self.end_of(time))
    }

    pub(super) fn save(&self, save: &mut Save<'_>) -> Result<(), StateError> {
        save.put(
            Part::Window,
            0,
            &TimedBatchState {
                anchor: self.anchor,
                end: self.end,
            },
        )
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        if let Some(state) = load.one::<TimedBatchState>(Part::Window)? {
            self.anchor = state.anchor;
            self.end = state.end;
        }
        Ok(())
    }
}
