//! The standard deviation.

use super::super::expr::{Compiled, Env};
use super::super::state::StateError;
use super::sum::CompensatedSum;
use super::{Aggregate, BAD_STATE, Slots, float_at, int_at};
use crate::event::Value;

/// Population standard deviation over a sliding set: sums of the distances from the group's first
/// value and of their squares, both compensated. Measuring from a value of the data keeps the two
/// from cancelling when the data lies far from zero.
pub(super) struct StdDev {
    argument: Compiled,
    slots: Slots<Moments>,
}

#[derive(Default)]
struct Moments {
    origin: f64,
    distances: CompensatedSum,
    squares: CompensatedSum,
    values: i64,
}

impl StdDev {
    pub(super) fn new(argument: Compiled) -> StdDev {
        StdDev {
            argument,
            slots: Slots::default(),
        }
    }
}

impl Aggregate for StdDev {
    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    fn add(&mut self, slot: usize, env: &Env<'_>) {
        let x = self.argument.value(env).as_float();
        if let (Some(x), Some(state)) = (x, self.slots.get_mut(slot)) {
            if state.values == 0 {
                *state = Moments {
                    origin: x,
                    ..Moments::default()
                };
            }
            let distance = x - state.origin;
            state.distances.add(distance);
            state.squares.add(distance * distance);
            state.values += 1;
        }
    }

    fn remove(&mut self, slot: usize, env: &Env<'_>) {
        let x = self.argument.value(env).as_float();
        if let (Some(x), Some(state)) = (x, self.slots.get_mut(slot)) {
            let distance = x - state.origin;
            state.distances.add(-distance);
            state.squares.add(-(distance * distance));
            state.values -= 1;
        }
    }

    fn result(&self, slot: usize) -> Value {
        let Some(state) = self.slots.get(slot).filter(|state| state.values > 0) else {
            return Value::Null;
        };
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of rows, far below 2^53"
        )]
        let count = state.values as f64;
        let mean = state.distances.total() / count;
        let variance = state.squares.total() / count - mean * mean;
        Value::finite(variance.max(0.0).sqrt())
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    fn save(&self, slot: usize) -> Vec<Value> {
        let Some(state) = self.slots.get(slot) else {
            return Vec::new();
        };
        let mut saved = vec![Value::Int(state.values), Value::Float(state.origin)];
        saved.extend(state.distances.save());
        saved.extend(state.squares.save());
        saved
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        let moments = Moments {
            values: int_at(state, 0)?,
            origin: float_at(state, 1)?,
            distances: CompensatedSum::load(state.get(2..6).ok_or(BAD_STATE)?)?,
            squares: CompensatedSum::load(state.get(6..10).ok_or(BAD_STATE)?)?,
        };
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = moments;
        }
        Ok(())
    }
}
