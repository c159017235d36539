//! Aggregates: each keeps one state per group, up to date row by row. States are addressed by the
//! group's slot.
//!
//! What must be kept depends on how rows leave ([`Leaves`]): where they leave in the order in
//! which they came, a deque is enough for min and max; where they leave as they like, it takes
//! all values in their order; where they never leave, the smallest value is enough.

mod collect;
mod count;
mod distinct;
mod exact;
mod extreme;
mod filtered;
mod frequency;
mod hash;
mod hyperloglog;
mod moments;
mod new;
mod ordered;
mod over;
mod percentile;
mod sum;
mod tdigest;
#[cfg(test)]
mod tests;

pub(super) use new::new;
pub(super) use sum::CompensatedSum;

use std::cell::Cell;

use super::expr::Env;
use super::state::StateError;
use super::window::{Picked, Slide};
use crate::event::Value;

/// How rows leave their groups before these are forgotten as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    /// None does.
    Never,
    /// In the order in which they came.
    InOrder,
    /// Any row at any time.
    AnyOrder,
}

/// The state of a slot on its way to a checkpoint.
pub(super) type Saved<'a> = Box<dyn Iterator<Item = Value> + 'a>;

/// One aggregate of a query, over all its groups.
pub(super) trait Aggregate: Send {
    /// The same aggregate without any state.
    fn fresh(&self) -> Box<dyn Aggregate>;
    /// Makes the state of `slot` fresh. Slots are opened from 0 upwards, and again when reused.
    fn open(&mut self, slot: usize);
    /// A row has come into the group.
    fn add(&mut self, slot: usize, env: &Env<'_>);
    /// Rows have come, each into the group of its slot.
    fn add_all(&mut self, slots: &[usize], rows: Picked<'_>, faults: &Cell<u64>) {
        for (slot, row) in slots.iter().zip(rows.iter()) {
            self.add(*slot, &Env::new(row.values, row.stamp, row.stamp, faults));
        }
    }
    /// Rows have come and gone; `slots` says of each in which group, in the order of events.
    /// Writes the result for the group of each row that has come, as it was then; where it is
    /// NULL, `results` is so already.
    fn slide(
        &mut self,
        slots: &[usize],
        slide: Slide<'_>,
        faults: &Cell<u64>,
        results: Column<'_>,
    ) {
        let mut slots = slots.iter().copied();
        let mut left = 0;
        for ((row, until), result) in slide.entering().zip(results) {
            while left < until {
                if let (Some(old), Some(slot)) = (slide.leaving(left), slots.next()) {
                    self.remove(slot, &Env::new(old.values, old.stamp, old.stamp, faults));
                }
                left += 1;
            }
            if let Some(slot) = slots.next() {
                self.add(slot, &Env::new(row.values, row.stamp, row.stamp, faults));
                *result = self.result(slot);
            }
        }
    }
    /// A row has left the group: the oldest, unless the aggregate was made for any order. `env` is
    /// over that row, and says what time it was when it came and because of which input, so that
    /// what is taken out is what was put in.
    fn remove(&mut self, slot: usize, env: &Env<'_>);
    /// The result for the group as it is.
    fn result(&self, slot: usize) -> Value;
    /// Puts the result at the end of a row.
    fn result_to(&self, slot: usize, row: &mut Vec<Value>) {
        self.result(slot).move_to(row);
    }
    /// Forgets every slot.
    fn clear(&mut self);
    /// The state of a slot, for a checkpoint.
    fn save(&self, slot: usize) -> Saved<'_>;
    /// Takes such a state back into a slot that is open.
    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError>;
    /// Whether the state outlives the rows that made it, so that its group must be kept.
    fn forever(&self) -> bool {
        false
    }
}

/// One column of rows that lie one after another: where an aggregate writes its results.
pub(super) struct Column<'a> {
    rows: std::slice::ChunksExactMut<'a, Value>,
    column: usize,
}

impl<'a> Column<'a> {
    /// Of rows of `width`, which is at least 1.
    pub(super) fn new(values: &'a mut [Value], width: usize, column: usize) -> Column<'a> {
        Column {
            rows: values.chunks_exact_mut(width),
            column,
        }
    }
}

impl<'a> Iterator for Column<'a> {
    type Item = &'a mut Value;

    #[inline]
    fn next(&mut self) -> Option<&'a mut Value> {
        self.rows.next()?.get_mut(self.column)
    }
}

/// The states of one aggregate by slot.
#[derive(Default)]
pub(super) struct Slots<T> {
    states: Vec<T>,
}

impl<T: Default> Slots<T> {
    pub(super) fn open(&mut self, slot: usize) {
        match self.states.get_mut(slot) {
            Some(state) => *state = T::default(),
            None => self.states.resize_with(slot + 1, T::default),
        }
    }

    #[inline]
    pub(super) fn get(&self, slot: usize) -> Option<&T> {
        self.states.get(slot)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.states.get_mut(slot)
    }

    pub(super) fn clear(&mut self) {
        self.states.clear();
    }
}

const BAD_STATE: StateError = StateError::Inconsistent("an aggregate's state has another form");

fn int_at(state: &[Value], index: usize) -> Result<i64, StateError> {
    state.get(index).and_then(Value::as_int).ok_or(BAD_STATE)
}

fn float_at(state: &[Value], index: usize) -> Result<f64, StateError> {
    match state.get(index) {
        Some(Value::Float(number)) => Ok(*number),
        _ => Err(BAD_STATE),
    }
}

fn values_at(state: &[Value], range: std::ops::Range<usize>) -> Result<&[Value], StateError> {
    state.get(range).ok_or(BAD_STATE)
}

fn saved<'a, const N: usize>(state: [Value; N]) -> Saved<'a> {
    Box::new(state.into_iter())
}
