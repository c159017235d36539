//! `'delay', d`: rows come in d later.

use super::super::state::{Load, Save, StateError};
use super::ring::Ring;
use super::{Changes, Picked, Window};
use crate::event::{Row, Stamp, Timestamp};

pub(super) struct Delay {
    span_ms: i64,
    ring: Ring,
}

impl Delay {
    pub(super) fn new(span_ms: i64, ring: Ring) -> Delay {
        Delay { span_ms, ring }
    }
}

impl Window for Delay {
    fn push(&mut self, rows: Picked<'_>, _to: &mut dyn Changes) {
        self.ring.extend(rows);
    }

    fn fire(&mut self, at: Stamp, to: &mut dyn Changes) {
        while self.deadline().is_some_and(|due| due <= at.time) {
            if let Some(row) = self.ring.row(0) {
                // From here on it is a row of this moment.
                to.enter(Row { stamp: at, ..row });
            }
            self.ring.pop(1);
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        Some(self.ring.oldest()?.plus_ms(self.span_ms))
    }

    fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        let own = self.deadline();
        Some(own.unwrap_or_else(|| time.plus_ms(self.span_ms)))
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(Delay::new(self.span_ms, self.ring.fresh()))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.ring.save(save)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.ring.load(load)
    }
}
