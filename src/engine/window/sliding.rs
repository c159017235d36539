//! Windows that move with every row.

use super::super::state::{Load, Save, StateError};
use super::Changes;
use super::ring::Ring;
use crate::event::{Row, Stamp, Timestamp};

/// `'length', n`: the last n rows.
pub(in super::super) struct Length {
    rows_max: usize,
    ring: Ring,
}

impl Length {
    pub(super) fn new(rows: u64, keep: &[usize]) -> Length {
        Length {
            rows_max: usize::try_from(rows).unwrap_or(usize::MAX),
            ring: Ring::new(keep),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, row: Row<'_>, to: &mut impl Changes) {
        if self.ring.len() >= self.rows_max {
            self.ring.pop(|old| to.leave(old, row.stamp));
        }
        to.enter(self.ring.push(row));
    }

    pub(super) fn save(&self, save: &mut Save<'_>) -> Result<(), StateError> {
        self.ring.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.ring.load(load)
    }
}

/// `'time', d`: the rows of the last d.
pub(in super::super) struct Time {
    span_ms: i64,
    /// Whether anybody sees rows leave. If not, they leave when the next row comes, and a
    /// deadline once per span gives their memory back when none comes.
    seen: bool,
    ring: Ring,
    deadline: Option<Timestamp>,
}

impl Time {
    pub(super) fn new(span_ms: i64, seen: bool, keep: &[usize]) -> Time {
        Time {
            span_ms,
            seen,
            ring: Ring::new(keep),
            deadline: None,
        }
    }

    #[inline]
    pub(super) fn push(&mut self, row: Row<'_>, to: &mut impl Changes) {
        self.expire(row.stamp, to);
        to.enter(self.ring.push(row));
        if self.deadline.is_none() || self.seen {
            self.plan_deadline();
        }
    }

    pub(super) fn fire(&mut self, at: Stamp, to: &mut impl Changes) {
        self.expire(at, to);
        self.plan_deadline();
    }

    fn expire(&mut self, at: Stamp, to: &mut impl Changes) {
        while self
            .ring
            .oldest()
            .is_some_and(|oldest| oldest.plus_ms(self.span_ms) <= at.time)
        {
            self.ring.pop(|old| to.leave(old, at));
        }
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

    pub(super) fn save(&self, save: &mut Save<'_>) -> Result<(), StateError> {
        self.ring.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.ring.load(load)?;
        self.plan_deadline();
        Ok(())
    }
}
