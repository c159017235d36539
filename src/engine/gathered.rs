//! Rows that gather until all of them go at once: those of a batch that is open, those that are
//! shown until others take their place.
//!
//! In the state they are runs of rows ([`Packed`]), numbered in order. A number stands for one run
//! only, so that of rows which gather a saving gives those that have come since the one before.

use super::packed::{PIECE_ROWS, Packed, Unpacked, unpack};
use super::state::{Load, Part, Save, StateError, Stretch};
use crate::event::Batch;

/// Rows of one width, as one part of the state.
pub(super) struct Gathered {
    rows: Batch,
    part: Part,
    /// The number of the first piece.
    first: u64,
    saved: Stretch,
}

impl Gathered {
    pub(super) fn new(width: usize, part: Part) -> Gathered {
        Gathered {
            rows: Batch::new(width),
            part,
            first: 0,
            saved: Stretch::default(),
        }
    }

    /// The same without any row, and without anything that was saved.
    pub(super) fn fresh(&self) -> Gathered {
        Gathered::new(self.rows.width(), self.part)
    }

    #[inline]
    pub(super) fn rows(&self) -> &Batch {
        &self.rows
    }

    /// For more rows at the end, and to take those away again.
    #[inline]
    pub(super) fn gather(&mut self) -> &mut Batch {
        &mut self.rows
    }

    /// All rows go: whoever calls takes them, and may leave others there.
    pub(super) fn renew(&mut self) -> &mut Batch {
        self.first = self.saved.end();
        &mut self.rows
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let count = |rows: usize| u64::try_from(rows).unwrap_or(u64::MAX);
        let pieces = count(self.rows.len().div_ceil(PIECE_ROWS));
        let full = count(self.rows.len() / PIECE_ROWS);
        let there = self.first..self.first + pieces;
        let (gone, new) = self.saved.take(save, there, self.first + full);
        save.remove_all(self.part, gone);
        let behind = usize::try_from(new.start.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let rows = self.rows.rows();
        let (_, mut rest) = rows.split_at(behind.saturating_mul(PIECE_ROWS));
        for number in new {
            let (run, later) = rest.split_at(PIECE_ROWS);
            let packed = Packed {
                stamps: run.stamps(),
                values: run.values(),
            };
            save.give(self.part, number, &packed)?;
            rest = later;
        }
        Ok(())
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.rows.clear();
        let mut there = 0..0;
        for piece in load.numbered::<Unpacked>(self.part) {
            let (number, piece) = piece?;
            let (stamps, values) = unpack(piece, self.rows.width())?;
            if self.rows.is_empty() {
                there = number..number;
            }
            if number != there.end || self.rows.len() % PIECE_ROWS > 0 || stamps.is_empty() {
                let why = "rows that gather have a gap";
                return Err(StateError::Inconsistent(why));
            }
            there.end = number + 1;
            self.rows.extend(&stamps, values);
        }
        let last_open = u64::from(self.rows.len() % PIECE_ROWS > 0);
        self.first = there.start;
        self.saved.load(there.clone(), there.end - last_open);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Saver, Saving, state_of};
    use super::*;
    use crate::event::{GrowingState, Seq, Stamp, StateChanges, Timestamp, Value};

    fn row(rows: &mut Batch, number: u64) {
        let stamp = Stamp {
            seq: Seq(number),
            time: Timestamp(5),
        };
        rows.push(stamp, [Value::Int(1), Value::Null]);
    }

    fn save(rows: &mut Gathered, number: u64, saving: Saving) -> StateChanges {
        let mut changes = StateChanges::new();
        let mut saver = Saver::new(saving, number, &mut changes);
        rows.save(&mut saver.of(3)).unwrap();
        changes
    }

    #[test]
    fn what_is_saved_in_steps_is_what_is_there() {
        let mut rows = Gathered::new(2, Part::Pending);
        let mut grown = GrowingState::default();
        for step in 1..200_u64 {
            if step % 7 == 0 {
                rows.renew().clear();
            }
            if step % 11 == 0 {
                let mut other = Batch::new(2);
                (0..6).for_each(|number| row(&mut other, step * 10 + number));
                *rows.renew() = other;
            }
            (0..step % 5).for_each(|number| row(rows.gather(), step * 10 + number));
            if step % 3 == 0 {
                let pieces_max = 1;
                grown.apply(&save(&mut rows, step * 2, Saving::Ahead { pieces_max }));
            }
            if step % 4 == 0 {
                continue;
            }
            grown.apply(&save(&mut rows, step * 2 + 1, Saving::Changed));
            let state = state_of(3, |save| rows.save(save));
            assert_eq!(grown.state(), state, "after {step} steps");
            if step % 2 == 0 {
                let load = Load::all_of(&state).remove(&3).unwrap_or_default();
                let mut again = rows.fresh();
                again.load(&load).unwrap();
                assert_eq!(again.rows(), rows.rows());
                rows = again;
            }
        }
    }

    #[test]
    fn only_what_has_come_is_given() {
        let mut rows = Gathered::new(2, Part::Pending);
        let many = u64::try_from(PIECE_ROWS).unwrap() * 100 + 1;
        (0..many).for_each(|number| row(rows.gather(), number));
        assert_eq!(save(&mut rows, 1, Saving::Changed).len(), 101);
        row(rows.gather(), many);
        assert_eq!(save(&mut rows, 2, Saving::Changed).len(), 1);
        let ahead = save(&mut rows, 3, Saving::Ahead { pieces_max: 9 });
        assert_eq!(ahead.len(), 0, "the last one is not full yet");
    }
}
