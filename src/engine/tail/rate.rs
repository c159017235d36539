//! OUTPUT ALL, FIRST, LAST: which of a period's rows pass, and when.

use serde::{Deserialize, Serialize};

use super::super::rows::IndexedRows;
use super::super::state::{Load, Part, Save, StateError};
use super::give;
use super::period::Periods;
use crate::event::{Batch, Row, Stamp, Timestamp, Value};
use crate::sql::plan::{self, Keep, Period, Query};

/// Rows on their way, and what is known of the period.
///
/// ALL and LAST have periods that follow each other from the query's start, or of a number of
/// rows. FIRST gives a row at once, and its period begins with it, for each group by itself: no two
/// rows of a group are closer than a period.
pub(super) struct Rate {
    keep: Keep,
    length: Length,
    /// The columns of the group.
    group: std::ops::Range<usize>,
    /// ALL, LAST: rows that wait. FIRST: groups, each with the end of its period or the number of
    /// its rows so far.
    held: IndexedRows,
    /// The last number given to a row that waits.
    number: u64,
}

enum Length {
    Events {
        most: u64,
        rows: u64,
    },
    Time(Periods),
    /// FIRST: each group has a period of its own.
    Own {
        span_ms: i64,
    },
}

/// What is known besides the rows that wait.
#[derive(Serialize, Deserialize)]
struct RateState {
    rows: u64,
    periods: Option<Periods>,
    number: u64,
}

impl Rate {
    pub(super) fn new(query: &Query, plan: &plan::Rate) -> Rate {
        let keys = query.grouping.as_ref().map_or(0, |one| one.keys.len());
        let first = query.names.len();
        let group = first..first + keys;
        let held = match plan.keep {
            Keep::First => IndexedRows::new(keys + 1, vec![(0..keys).collect()], 0),
            Keep::Last => {
                let index = group.clone().collect();
                IndexedRows::new(query.select.len(), vec![index], 0)
            }
            Keep::All | Keep::Snapshot => IndexedRows::new(query.select.len(), Vec::new(), 0),
        };
        Rate {
            keep: plan.keep,
            length: match (plan.period, plan.keep) {
                (Period::Events(most), _) => Length::Events { most, rows: 0 },
                (Period::Time(span_ms), Keep::First) => Length::Own { span_ms },
                (Period::Time(span_ms), _) => Length::Time(Periods::new(span_ms)),
            },
            group,
            held: held.with_nulls_alike(),
            number: 0,
        }
    }

    pub(super) fn periods(&self) -> Option<&Periods> {
        match &self.length {
            Length::Time(periods) => Some(periods),
            Length::Events { .. } | Length::Own { .. } => None,
        }
    }

    pub(super) fn start(&mut self, time: Timestamp) {
        if let Length::Time(periods) = &mut self.length {
            periods.start(time);
        }
    }

    /// Takes the rows that have come out.
    pub(super) fn take(&mut self, rows: &mut Batch, to: &mut Batch) {
        for row in rows.rows().iter() {
            match self.keep {
                Keep::First => self.first(row, to),
                Keep::All | Keep::Last | Keep::Snapshot => self.wait(row, to),
            }
        }
        rows.clear();
        self.held.tidy();
    }

    /// ALL, LAST: the row waits for the end of the period.
    fn wait(&mut self, row: Row<'_>, to: &mut Batch) {
        let Row { stamp, values } = row;
        // A row on the border belongs to the next period, also when it has been made at the very
        // moment at which this one ends.
        if let Some(end) = self.periods().and_then(Periods::end) {
            let seq = stamp.seq;
            self.fire(
                Stamp {
                    seq,
                    time: end.min(stamp.time),
                },
                to,
            );
        }
        let known = match self.keep {
            Keep::Last => self
                .held
                .any(0, values.get(self.group.clone()).unwrap_or_default()),
            Keep::All | Keep::First | Keep::Snapshot => None,
        };
        match known {
            Some(slot) => self.held.change(slot, stamp, values),
            None => {
                self.number += 1;
                let values = values.iter().cloned();
                self.held.insert(self.number, stamp, values);
            }
        }
        match &mut self.length {
            Length::Time(periods) => periods.open(stamp.time),
            Length::Events { most, rows } => {
                *rows += 1;
                if *rows >= *most {
                    *rows = 0;
                    self.release(stamp, to);
                }
            }
            Length::Own { .. } => {}
        }
    }

    /// FIRST: the row passes, or is left out.
    fn first(&mut self, row: Row<'_>, to: &mut Batch) {
        let Row { stamp, values } = row;
        let group = values.get(self.group.clone()).unwrap_or_default();
        let place = self.group.len();
        if let Length::Own { .. } = self.length {
            self.forget(stamp.time);
        }
        if let Some(slot) = self.held.any(0, group) {
            if let Length::Events { most, .. } = &self.length {
                let rows = self.held.row(slot).get(place).and_then(Value::as_int);
                let rows = rows.unwrap_or(0) + 1;
                if rows.unsigned_abs() >= *most {
                    self.held.remove(slot);
                } else {
                    self.held.set(slot, place, Value::Int(rows));
                }
            }
            return;
        }
        let note = match &self.length {
            Length::Own { span_ms } => stamp.time.plus_ms(*span_ms).0,
            Length::Events { .. } | Length::Time(_) => 1,
        };
        // A period of one row is over with it.
        if !matches!(self.length, Length::Events { most: 1, .. }) {
            self.number += 1;
            let known = group.iter().cloned().chain([Value::Int(note)]);
            self.held.insert(self.number, stamp, known);
        }
        give(row, stamp, to);
    }

    /// Forgets the groups whose period is over: they stand in the order in which that happens.
    fn forget(&mut self, now: Timestamp) {
        let place = self.group.len();
        while let Some(slot) = self.held.first(0) {
            let until = self.held.row(slot).get(place).and_then(Value::as_int);
            if until.is_some_and(|until| until > now.0) {
                return;
            }
            self.held.remove(slot);
        }
    }

    /// The clock has reached `at`.
    pub(super) fn fire(&mut self, at: Stamp, to: &mut Batch) {
        if let Length::Time(periods) = &mut self.length {
            if periods.is_over(at.time) {
                periods.close();
                self.release(at, to);
            }
        }
    }

    /// The period is over: what waits goes on, in order.
    fn release(&mut self, at: Stamp, to: &mut Batch) {
        for slot in self.held.iter() {
            let values = self.held.row(slot);
            give(Row { stamp: at, values }, at, to);
        }
        self.held.clear();
        self.number = 0;
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let (rows, periods) = match &self.length {
            Length::Events { rows, .. } => (*rows, None),
            Length::Time(periods) => (0, Some(periods.clone())),
            Length::Own { .. } => (0, None),
        };
        let number = self.number;
        let state = RateState {
            rows,
            periods,
            number,
        };
        save.put(Part::Holder, 0, &state)?;
        self.held.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        if let Some(state) = load.one::<RateState>(Part::Holder)? {
            self.number = state.number;
            match (&mut self.length, state.periods) {
                (Length::Events { rows, .. }, None) => *rows = state.rows,
                (Length::Time(own), Some(periods)) => own.take_state(&periods),
                (Length::Own { .. }, None) => {}
                _ => return Err(StateError::Inconsistent("a rate has another form")),
            }
        }
        self.held.load(load)
    }
}
