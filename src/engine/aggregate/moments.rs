//! The standard deviation.

use std::collections::VecDeque;

use super::super::expr::{Compiled, Env};
use super::super::state::StateError;
use super::{Aggregate, BAD_STATE, Slots, float_at};
use crate::event::Value;

/// Where rows leave: the values themselves, and running sums of their distances from an origin
/// and of the squares of these.
///
/// The sums are fast, and good as long as the origin lies near the data. When what they give is
/// mostly cancellation, or they have overflowed, the origin moves to the mean and both are made
/// anew from the values; data that wanders off makes that necessary once in many rows.
pub(super) struct Sliding {
    argument: Compiled,
    slots: Slots<Moments>,
}

#[derive(Default)]
struct Moments {
    origin: f64,
    distances: f64,
    squares: f64,
    values: VecDeque<f64>,
}

/// The origin is moved when the variance is so small a part of the squared distance to it: then
/// six of some sixteen digits are lost.
const CANCELLED: f64 = 1e-6;

impl Moments {
    fn settle(&mut self) {
        let mean = self.distances / count(self.values.len());
        let variance = self.squares / count(self.values.len()) - mean * mean;
        // Also when something is infinite or not a number.
        let sound = variance >= CANCELLED * mean * mean && variance.is_finite();
        if sound || self.values.is_empty() {
            return;
        }
        self.origin = mean_of(&self.values);
        self.distances = 0.0;
        self.squares = 0.0;
        for x in &self.values {
            let distance = x - self.origin;
            self.distances += distance;
            self.squares += distance * distance;
        }
    }

    fn deviation(&self) -> Value {
        if self.values.is_empty() {
            return Value::Null;
        }
        let mean = self.distances / count(self.values.len());
        let variance = self.squares / count(self.values.len()) - mean * mean;
        if variance.is_finite() {
            return Value::finite(variance.max(0.0).sqrt());
        }
        // The squares overflow where their root does not: measured in the largest distance.
        let far = |most: f64, x: &f64| most.max((x - self.origin).abs());
        let scale = self.values.iter().fold(0.0, far);
        let squares: f64 = self
            .values
            .iter()
            .map(|x| ((x - self.origin) / scale).powi(2))
            .sum();
        Value::finite((squares / count(self.values.len())).sqrt() * scale)
    }
}

/// The mean without an overflow on the way.
fn mean_of(values: &VecDeque<f64>) -> f64 {
    let parts = count(values.len());
    let sum: f64 = values.iter().sum();
    if sum.is_finite() {
        sum / parts
    } else {
        values.iter().map(|x| x / parts).sum()
    }
}

fn count(values: usize) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of rows, far below 2^53"
    )]
    let count = values as f64;
    count
}

impl Sliding {
    pub(super) fn new(argument: Compiled) -> Sliding {
        Sliding {
            argument,
            slots: Slots::default(),
        }
    }
}

impl Aggregate for Sliding {
    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    fn add(&mut self, slot: usize, env: &Env<'_>) {
        let x = self.argument.value(env).as_float();
        if let (Some(x), Some(state)) = (x, self.slots.get_mut(slot)) {
            if state.values.is_empty() {
                *state = Moments {
                    origin: x,
                    ..Moments::default()
                };
            }
            let distance = x - state.origin;
            state.distances += distance;
            state.squares += distance * distance;
            state.values.push_back(x);
            state.settle();
        }
    }

    fn remove(&mut self, slot: usize, env: &Env<'_>) {
        let x = self.argument.value(env).as_float();
        if let (Some(_), Some(state)) = (x, self.slots.get_mut(slot)) {
            if let Some(x) = state.values.pop_front() {
                let distance = x - state.origin;
                state.distances -= distance;
                state.squares -= distance * distance;
                state.settle();
            }
        }
    }

    fn result(&self, slot: usize) -> Value {
        self.slots.get(slot).map_or(Value::Null, Moments::deviation)
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    /// The sums too: made anew they might differ in their last digits.
    fn save(&self, slot: usize) -> Vec<Value> {
        let Some(state) = self.slots.get(slot) else {
            return Vec::new();
        };
        let sums = [state.origin, state.distances, state.squares];
        sums.into_iter()
            .chain(state.values.iter().copied())
            .map(Value::finite)
            .collect()
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        // What had overflowed comes back as not a number, which is treated alike.
        let sum = |index: usize| match state.get(index) {
            Some(Value::Null) => Ok(f64::NAN),
            _ => float_at(state, index),
        };
        let values = state
            .iter()
            .skip(3)
            .map(|value| value.as_float().ok_or(BAD_STATE));
        let moments = Moments {
            origin: sum(0)?,
            distances: sum(1)?,
            squares: sum(2)?,
            values: values.collect::<Result<_, _>>()?,
        };
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = moments;
        }
        Ok(())
    }
}

/// Where rows never leave: mean and sum of squared distances from it, updated together
/// (Welford 1962).
pub(super) struct Growing {
    argument: Compiled,
    slots: Slots<Spread>,
}

#[derive(Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Growing {
    pub(super) fn new(argument: Compiled) -> Growing {
        Growing {
            argument,
            slots: Slots::default(),
        }
    }
}

impl Aggregate for Growing {
    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    fn add(&mut self, slot: usize, env: &Env<'_>) {
        let x = self.argument.value(env).as_float();
        if let (Some(x), Some(state)) = (x, self.slots.get_mut(slot)) {
            state.count += 1.0;
            let before = x - state.mean;
            state.mean += before / state.count;
            state.squares += before * (x - state.mean);
        }
    }

    fn remove(&mut self, _slot: usize, _env: &Env<'_>) {}

    /// NULL when the squares have overflowed.
    fn result(&self, slot: usize) -> Value {
        match self.slots.get(slot) {
            Some(state) if state.count > 0.0 => Value::finite((state.squares / state.count).sqrt()),
            Some(_) | None => Value::Null,
        }
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    fn save(&self, slot: usize) -> Vec<Value> {
        let Some(state) = self.slots.get(slot) else {
            return Vec::new();
        };
        [state.count, state.mean, state.squares]
            .map(Value::finite)
            .to_vec()
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        let part = |index: usize| match state.get(index) {
            Some(Value::Null) => Ok(f64::NAN),
            _ => float_at(state, index),
        };
        let spread = Spread {
            count: part(0)?,
            mean: part(1)?,
            squares: part(2)?,
        };
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = spread;
        }
        Ok(())
    }
}
