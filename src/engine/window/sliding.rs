//! Windows that move with every row.

use super::super::state::{Load, Save, StateError};
use super::ring::Ring;
use super::{Changes, Picked};
use crate::event::{Row, Stamp, Timestamp};

/// Rows that have entered a window one after another, and those that left before each of them.
#[derive(Clone, Copy)]
pub(in super::super) struct Slide<'a> {
    /// First the rows that leave, somewhere behind them those that enter.
    ring: &'a Ring,
    /// The place in the ring of the first that enters.
    entering: usize,
    /// For each that enters, how many have left by then.
    left: &'a [usize],
}

impl<'a> Slide<'a> {
    /// The rows that enter, each with the number of rows that have left by then.
    #[inline]
    pub(in super::super) fn entering(self) -> impl Iterator<Item = (Row<'a>, usize)> {
        let rows = (self.entering..).map_while(move |place| self.ring.row(place));
        rows.zip(self.left.iter().copied())
    }

    /// How many rows enter.
    pub(in super::super) fn len(self) -> usize {
        self.left.len()
    }

    /// How many rows leave.
    pub(in super::super) fn left(self) -> usize {
        self.left.last().copied().unwrap_or(0)
    }

    /// The row that leaves as the one with this number, from 0.
    #[inline]
    pub(in super::super) fn leaving(self, number: usize) -> Option<Row<'a>> {
        self.ring.row(number)
    }

    /// Tells of each row by itself.
    pub(in super::super) fn one_by_one<C: Changes + ?Sized>(self, to: &mut C) {
        let mut left = 0;
        for (row, until) in self.entering() {
            while left < until {
                if let Some(old) = self.leaving(left) {
                    to.leave(old, row.stamp);
                }
                left += 1;
            }
            to.enter(row);
        }
    }
}

/// `'length', n`: the last n rows.
pub(in super::super) struct Length {
    rows_max: usize,
    ring: Ring,
    left: Vec<usize>,
}

impl Length {
    pub(super) fn new(rows: u64, keep: &[usize]) -> Length {
        Length {
            rows_max: usize::try_from(rows).unwrap_or(usize::MAX),
            ring: Ring::new(keep),
            left: Vec::new(),
        }
    }

    pub(super) fn fresh(&self) -> Length {
        Length {
            rows_max: self.rows_max,
            ring: self.ring.fresh(),
            left: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, rows: Picked<'_>, to: &mut impl Changes) {
        let entering = self.ring.len();
        self.ring.extend(rows);
        self.left.clear();
        let filled = entering + 1..=entering + rows.len();
        self.left
            .extend(filled.map(|filled| filled.saturating_sub(self.rows_max)));
        to.slide(Slide {
            ring: &self.ring,
            entering,
            left: &self.left,
        });
        let left = self.left.last().copied();
        self.ring.pop(left.unwrap_or(0));
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.ring.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.ring.load(load)
    }
}

/// `'time', d` and `'timeLength', d, n`: the rows of the last d, and of them the last n.
pub(in super::super) struct Time {
    span_ms: i64,
    rows_max: usize,
    /// Whether anybody sees rows leave. If not, they leave when the next row comes, and a
    /// deadline once per span gives their memory back when none comes.
    seen: bool,
    ring: Ring,
    left: Vec<usize>,
    deadline: Option<Timestamp>,
}

impl Time {
    pub(super) fn new(span_ms: i64, rows: Option<u64>, seen: bool, keep: &[usize]) -> Time {
        let rows_max = rows.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Time::with(span_ms, rows_max, seen, Ring::new(keep))
    }

    pub(super) fn fresh(&self) -> Time {
        Time::with(self.span_ms, self.rows_max, self.seen, self.ring.fresh())
    }

    fn with(span_ms: i64, rows_max: usize, seen: bool, ring: Ring) -> Time {
        Time {
            span_ms,
            rows_max,
            seen,
            ring,
            left: Vec::new(),
            deadline: None,
        }
    }

    pub(super) fn push(&mut self, rows: Picked<'_>, to: &mut impl Changes) {
        let entering = self.ring.len();
        self.ring.extend(rows);
        self.left.clear();
        let mut left = 0;
        for (row, before) in rows.iter().zip(entering..) {
            left = left.max((before + 1).saturating_sub(self.rows_max));
            while left < before && self.is_old(left, row.stamp) {
                left += 1;
            }
            self.left.push(left);
        }
        to.slide(Slide {
            ring: &self.ring,
            entering,
            left: &self.left,
        });
        self.ring.pop(left);
        if self.seen {
            self.plan_deadline();
        } else if self.deadline.is_none() {
            self.deadline = rows.first().map(|row| row.time.plus_ms(self.span_ms));
        }
    }

    pub(super) fn fire(&mut self, at: Stamp, to: &mut impl Changes) {
        let mut left = 0;
        while self.is_old(left, at) {
            if let Some(row) = self.ring.row(left) {
                to.leave(row, at);
            }
            left += 1;
        }
        self.ring.pop(left);
        self.plan_deadline();
    }

    /// Whether the row at `place` has to have left at `at`.
    #[inline]
    fn is_old(&self, place: usize, at: Stamp) -> bool {
        let row = self.ring.row(place);
        row.is_some_and(|row| row.stamp.time.plus_ms(self.span_ms) <= at.time)
    }

    fn plan_deadline(&mut self) {
        let row = if self.seen {
            self.ring.oldest()
        } else {
            self.ring.newest()
        };
        self.deadline = row.map(|time| time.plus_ms(self.span_ms));
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }

    pub(super) fn earliest(&self, time: Timestamp) -> Timestamp {
        self.deadline.unwrap_or_else(|| time.plus_ms(self.span_ms))
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.ring.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.ring.load(load)?;
        self.plan_deadline();
        Ok(())
    }
}
