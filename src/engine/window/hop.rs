//! `'hop', size, hop`: windows that overlap, or leave gaps.
//!
//! The rows of the last size are kept, and each goes into every window that it belongs to when
//! that closes: size / hop times in all.

use super::super::state::{Load, Part, Save, StateError};
use super::periods::Periods;
use super::ring::Ring;
use super::{Changes, Picked, Window};
use crate::event::{Stamp, Timestamp};

pub(super) struct Hop {
    size_ms: i64,
    hop_ms: i64,
    /// Whether anybody sees batches leave.
    seen: bool,
    ring: Ring,
    hops: Periods,
    end: Option<Timestamp>,
}

impl Hop {
    pub(super) fn new(size_ms: i64, hop_ms: i64, seen: bool, ring: Ring) -> Hop {
        Hop {
            size_ms,
            hop_ms,
            seen,
            ring,
            hops: Periods::spans(hop_ms, Some(0)),
            end: None,
        }
    }

    /// Rows that no window from `end` on has any more are given back.
    fn drop_old(&mut self, end: Timestamp) {
        let start = end.plus_ms(-self.size_ms);
        let mut old = 0;
        while self.ring.row(old).is_some_and(|row| row.stamp.time < start) {
            old += 1;
        }
        self.ring.pop(old);
    }
}

impl Window for Hop {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        let Some(first) = rows.first() else {
            return;
        };
        while let Some(end) = self.end.filter(|end| *end <= first.time) {
            let at = Stamp {
                seq: first.seq,
                time: end,
            };
            self.fire(at, to);
        }
        for row in rows.iter() {
            let end = self.end.unwrap_or_else(|| self.hops.end_of(row.stamp.time));
            // Between two windows that do not touch.
            if row.stamp.time < end.plus_ms(-self.size_ms) {
                continue;
            }
            self.end = Some(end);
            self.ring.push(row, []);
        }
    }

    fn fire(&mut self, at: Stamp, to: &mut dyn Changes) {
        let Some(end) = self.end.filter(|end| *end <= at.time) else {
            return;
        };
        self.drop_old(end);
        let filled = self.ring.len() > 0;
        for row in (0..).map_while(|place| self.ring.row(place)) {
            to.enter(row);
        }
        let next = end.plus_ms(self.hop_ms);
        self.drop_old(next);
        let goes_on = self.ring.len() > 0 || self.seen && filled;
        self.end = goes_on.then_some(next);
        to.close(at);
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.end
    }

    fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        Some(self.end.unwrap_or_else(|| self.hops.end_of(time)))
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(Hop::new(
            self.size_ms,
            self.hop_ms,
            self.seen,
            self.ring.fresh(),
        ))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        save.put(Part::WindowTime, 0, &self.end)?;
        self.ring.save(save)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.end = load.one::<Option<Timestamp>>(Part::WindowTime)?.flatten();
        self.ring.load(load)
    }
}
