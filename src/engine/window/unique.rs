//! Windows with one row per key.

use super::super::aggregate::Leaves;
use super::super::rows::Slot;
use super::super::state::{Load, Save, StateError};
use super::keyed::Keyed;
use super::{Changes, Picked, Window};
use crate::event::{Stamp, Timestamp};
use crate::sql::plan::UniqueBound;

/// `'unique'`, `'firstUnique'` and their bounded kin: the latest or the first row of each key.
pub(super) struct Unique {
    rows: Keyed,
    /// Whether later rows of a key are passed over.
    first: bool,
    bound: UniqueBound,
}

impl Unique {
    pub(super) fn new(rows: Keyed, first: bool, bound: UniqueBound) -> Unique {
        Unique { rows, first, bound }
    }

    fn leave(&mut self, slot: Slot, at: Stamp, to: &mut dyn Changes) {
        to.leave(self.rows.shown(slot), at);
        self.rows.remove(slot);
    }

    fn drop_old(&mut self, at: Stamp, to: &mut dyn Changes) {
        while self.deadline().is_some_and(|due| due <= at.time) {
            let Some(slot) = self.rows.oldest() else {
                return;
            };
            self.leave(slot, at, to);
        }
    }

    fn is_full(&self) -> bool {
        match self.bound {
            UniqueBound::Rows(rows) => self.rows.len() as u64 >= rows,
            UniqueBound::None | UniqueBound::Span(_) => false,
        }
    }
}

impl Window for Unique {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            self.drop_old(row.stamp, to);
            let known = self.rows.read(row);
            if known.is_some() && self.first {
                continue;
            }
            let leaves = known.or_else(|| self.rows.oldest().filter(|_| self.is_full()));
            if let Some(slot) = leaves {
                self.leave(slot, row.stamp, to);
            }
            let slot = self.rows.put(row.stamp, []);
            to.enter(self.rows.shown(slot));
        }
    }

    fn fire(&mut self, at: Stamp, to: &mut dyn Changes) {
        self.drop_old(at, to);
        self.rows.tidy();
    }

    fn deadline(&self) -> Option<Timestamp> {
        let UniqueBound::Span(span_ms) = self.bound else {
            return None;
        };
        let oldest = self.rows.shown(self.rows.oldest()?);
        Some(oldest.stamp.time.plus_ms(span_ms))
    }

    fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        let UniqueBound::Span(span_ms) = self.bound else {
            return None;
        };
        Some(self.deadline().unwrap_or_else(|| time.plus_ms(span_ms)))
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn leaves(&self) -> Leaves {
        match (self.first, self.bound) {
            (true, UniqueBound::None) => Leaves::Never,
            (true, UniqueBound::Rows(_) | UniqueBound::Span(_)) => Leaves::InOrder,
            (false, _) => Leaves::AnyOrder,
        }
    }

    fn take_faults(&self) -> u64 {
        self.rows.take_faults()
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(Unique::new(self.rows.fresh(), self.first, self.bound))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.rows.save(save)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.rows.load(load)
    }
}
