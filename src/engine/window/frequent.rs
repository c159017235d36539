//! Windows of what comes often. They count keys in little memory, and hold the latest row of each
//! key that counts as frequent. A row that a later one of its key replaces does not expire; those
//! of keys that are frequent no longer do.

use super::super::aggregate::Leaves;
use super::super::state::{Load, Part, Save, StateError};
use super::keyed::Keyed;
use super::{Changes, Picked, Window};
use crate::event::{Row, Value};

/// `'frequent', n, col…`: n counters (J. Misra, D. Gries, "Finding repeated elements", Science of
/// Computer Programming 2, 1982). A key that occurs in more than one of n + 1 rows has a counter.
/// A row of a key without counter takes a free one, or else lowers all and is passed over when
/// that frees none.
pub(super) struct Frequent {
    counters: u64,
    /// With the counter of each key.
    rows: Keyed,
}

impl Frequent {
    /// One note per row.
    pub(super) fn new(counters: u64, rows: Keyed) -> Frequent {
        Frequent { counters, rows }
    }

    fn has_room(&self) -> bool {
        (self.rows.len() as u64) < self.counters
    }

    fn lower_all(&mut self, cause: Row<'_>, to: &mut dyn Changes) {
        for slot in self.rows.slots() {
            let count = count(self.rows.notes(slot), 0) - 1;
            if count > 0 {
                self.rows.note(slot, 0, Value::Int(count));
            } else {
                to.leave(self.rows.shown(slot), cause.stamp);
                self.rows.remove(slot);
            }
        }
    }
}

impl Window for Frequent {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            let known = self.rows.read(row);
            let slot = if let Some(slot) = known {
                let count = count(self.rows.notes(slot), 0) + 1;
                to.replaced(self.rows.shown(slot), row.stamp);
                self.rows.replace(slot, row.stamp, [Value::Int(count)]);
                slot
            } else {
                if !self.has_room() {
                    self.lower_all(row, to);
                }
                if !self.has_room() {
                    continue;
                }
                self.rows.put(row.stamp, [Value::Int(1)])
            };
            to.enter(self.rows.shown(slot));
        }
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn leaves(&self) -> Leaves {
        Leaves::AnyOrder
    }

    fn take_faults(&self) -> u64 {
        self.rows.take_faults()
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(Frequent::new(self.counters, self.rows.fresh()))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.rows.save(save)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.rows.load(load)
    }
}

/// `'lossyFrequent', support, error, col…`: lossy counting (G. S. Manku, R. Motwani, "Approximate
/// Frequency Counts over Data Streams", VLDB 2002). Rows come in buckets of 1 / error; a key's
/// entry is its count and how much that may be too low; at the end of a bucket, entries that
/// together do not exceed the bucket's number go. A row is let in when its key's count is at least
/// (support - error) of all rows so far.
pub(super) struct LossyFrequent {
    /// support - error.
    share: f64,
    bucket_rows: u64,
    total: u64,
    /// With count, greatest possible error, and whether the row has been let in.
    rows: Keyed,
}

const COUNT: usize = 0;
const ERROR: usize = 1;
const LET_IN: usize = 2;

impl LossyFrequent {
    /// Three notes per row.
    pub(super) fn new(support: f64, error: f64, rows: Keyed) -> LossyFrequent {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least 1, and a cast that does not fit stops at the end of the range"
        )]
        let bucket_rows = (1.0 / error).ceil() as u64;
        LossyFrequent::with(support - error, bucket_rows, rows)
    }

    fn with(share: f64, bucket_rows: u64, rows: Keyed) -> LossyFrequent {
        LossyFrequent {
            share,
            bucket_rows,
            total: 0,
            rows,
        }
    }

    /// The number of the open bucket, from 1.
    fn bucket(&self) -> i64 {
        i64::try_from(self.total.div_ceil(self.bucket_rows)).unwrap_or(i64::MAX)
    }

    fn is_frequent(&self, count: i64) -> bool {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a share of more rows than 2^53 is not known that exactly"
        )]
        let (count, total) = (count as f64, self.total as f64);
        count >= self.share * total
    }

    /// The bucket is full.
    fn prune(&mut self, cause: Row<'_>, to: &mut dyn Changes) {
        let bucket = self.bucket();
        for slot in self.rows.slots() {
            let notes = self.rows.notes(slot);
            if count(notes, COUNT) + count(notes, ERROR) > bucket {
                continue;
            }
            if is_let_in(notes) {
                to.leave(self.rows.shown(slot), cause.stamp);
            }
            self.rows.remove(slot);
        }
        self.rows.tidy();
    }
}

impl Window for LossyFrequent {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            self.total += 1;
            let known = self.rows.read(row);
            let notes = known.map(|slot| self.rows.notes(slot));
            let count_now = notes.map_or(1, |notes| count(notes, COUNT) + 1);
            let error = notes.map_or(self.bucket() - 1, |notes| count(notes, ERROR));
            let was_let_in = notes.is_some_and(is_let_in);
            let frequent = self.is_frequent(count_now);
            let notes = [
                Value::Int(count_now),
                Value::Int(error),
                Value::Bool(frequent),
            ];
            match known {
                None => {
                    let slot = self.rows.put(row.stamp, notes);
                    if frequent {
                        to.enter(self.rows.shown(slot));
                    }
                }
                Some(slot) if frequent => {
                    if was_let_in {
                        to.replaced(self.rows.shown(slot), row.stamp);
                    }
                    self.rows.replace(slot, row.stamp, notes);
                    to.enter(self.rows.shown(slot));
                }
                Some(slot) => self.rows.note(slot, COUNT, Value::Int(count_now)),
            }
            if self.total % self.bucket_rows == 0 {
                self.prune(row, to);
            }
        }
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn leaves(&self) -> Leaves {
        Leaves::AnyOrder
    }

    fn take_faults(&self) -> u64 {
        self.rows.take_faults()
    }

    fn fresh(&self) -> Box<dyn Window> {
        let rows = self.rows.fresh();
        Box::new(LossyFrequent::with(self.share, self.bucket_rows, rows))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        save.put(Part::Window, 0, &self.total)?;
        self.rows.save(save)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.total = load.one(Part::Window)?.unwrap_or(0);
        self.rows.load(load)
    }
}

fn count(notes: &[Value], index: usize) -> i64 {
    notes.get(index).and_then(Value::as_int).unwrap_or(0)
}

fn is_let_in(notes: &[Value]) -> bool {
    notes.get(LET_IN).and_then(Value::as_bool).unwrap_or(false)
}
