//! Sums and means. Integers are summed exactly, floats with compensation.

use std::cell::Cell;

use super::super::expr::{Env, Operand};
use super::super::state::StateError;
use super::super::window::{Picked, Slide};
use super::{Aggregate, Column, Saved, Slots, float_at, int_at, saved};
use crate::event::Value;

/// What is made of a sum and a count.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wanted {
    Sum,
    Mean,
}

/// Over INT and BIGINT: 128 bits, so that nothing overflows before the result is asked for.
pub(super) struct Integers {
    argument: Operand<i64>,
    wanted: Wanted,
    slots: Slots<IntegerSum>,
}

#[derive(Default)]
struct IntegerSum {
    sum: i128,
    values: i64,
}

impl Integers {
    pub(super) fn new(argument: Operand<i64>, wanted: Wanted) -> Integers {
        Integers {
            argument,
            wanted,
            slots: Slots::default(),
        }
    }
}

impl Aggregate for Integers {
    fn fresh(&self) -> Box<dyn Aggregate> {
        Box::new(Integers::new(self.argument.clone(), self.wanted))
    }

    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    fn add(&mut self, slot: usize, env: &Env<'_>) {
        if let (Some(x), Some(state)) = (self.argument.get(env), self.slots.get_mut(slot)) {
            state.sum += i128::from(x);
            state.values += 1;
        }
    }

    fn add_all(&mut self, slots: &[usize], rows: Picked<'_>, faults: &Cell<u64>) {
        let states = &mut self.slots;
        self.argument.for_each(slots, rows, faults, |slot, x| {
            if let Some(state) = states.get_mut(slot) {
                state.sum += i128::from(x);
                state.values += 1;
            }
        });
    }

    fn remove(&mut self, slot: usize, env: &Env<'_>) {
        if let (Some(x), Some(state)) = (self.argument.get(env), self.slots.get_mut(slot)) {
            state.sum -= i128::from(x);
            state.values -= 1;
        }
    }

    #[inline]
    fn result(&self, slot: usize) -> Value {
        let Some(IntegerSum {
            sum,
            values: values @ 1..,
        }) = self.slots.get(slot)
        else {
            return Value::Null;
        };
        match self.wanted {
            Wanted::Sum => i64::try_from(*sum).map_or(Value::Null, Value::Int),
            #[expect(clippy::cast_precision_loss, reason = "the mean is a DOUBLE")]
            Wanted::Mean => Value::finite(*sum as f64 / *values as f64),
        }
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    /// The sum as two halves, high and low.
    fn save(&self, slot: usize) -> Saved<'_> {
        let (sum, values) = self
            .slots
            .get(slot)
            .map_or((0, 0), |state| (state.sum, state.values));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the two halves of 128 bits"
        )]
        let (high, low) = ((sum >> 64) as i64, sum as i64);
        saved([Value::Int(high), Value::Int(low), Value::Int(values)])
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        let (high, low) = (int_at(state, 0)?, int_at(state, 1)?);
        let sum = (i128::from(high) << 64) | i128::from(u64::from_le_bytes(low.to_le_bytes()));
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = IntegerSum {
                sum,
                values: int_at(state, 2)?,
            };
        }
        Ok(())
    }
}

/// Over FLOAT and DOUBLE.
pub(super) struct Floats {
    argument: Operand<f64>,
    wanted: Wanted,
    slots: Slots<FloatSum>,
}

#[derive(Clone, Copy, Default)]
struct FloatSum {
    sum: CompensatedSum,
    values: i64,
}

impl FloatSum {
    #[inline]
    fn add(&mut self, x: f64) {
        self.sum.add(x);
        self.values += 1;
    }

    #[inline]
    fn remove(&mut self, x: f64) {
        self.values -= 1;
        // An empty sum is exactly zero; whatever rounding was left goes with the last value.
        if self.values == 0 {
            self.sum = CompensatedSum::default();
        } else {
            self.sum.add(-x);
        }
    }

    /// None when there is no value, or the result does not fit.
    #[inline]
    fn result(&self, wanted: Wanted) -> Option<f64> {
        if self.values < 1 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of rows, far below 2^53"
        )]
        let result = match wanted {
            Wanted::Sum => self.sum.total(),
            Wanted::Mean => self.sum.mean(self.values as f64),
        };
        result.is_finite().then_some(result)
    }
}

impl Floats {
    pub(super) fn new(argument: Operand<f64>, wanted: Wanted) -> Floats {
        Floats {
            argument,
            wanted,
            slots: Slots::default(),
        }
    }
}

impl Aggregate for Floats {
    fn fresh(&self) -> Box<dyn Aggregate> {
        Box::new(Floats::new(self.argument.clone(), self.wanted))
    }

    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    fn add(&mut self, slot: usize, env: &Env<'_>) {
        if let (Some(x), Some(state)) = (self.argument.get(env), self.slots.get_mut(slot)) {
            state.add(x);
        }
    }

    fn add_all(&mut self, slots: &[usize], rows: Picked<'_>, faults: &Cell<u64>) {
        let states = &mut self.slots;
        self.argument.for_each(slots, rows, faults, |slot, x| {
            if let Some(state) = states.get_mut(slot) {
                state.add(x);
            }
        });
    }

    fn remove(&mut self, slot: usize, env: &Env<'_>) {
        if let (Some(x), Some(state)) = (self.argument.get(env), self.slots.get_mut(slot)) {
            state.remove(x);
        }
    }

    fn slide(
        &mut self,
        slots: &[usize],
        slide: Slide<'_>,
        faults: &Cell<u64>,
        results: Column<'_>,
    ) {
        let Floats {
            argument,
            wanted,
            slots: states,
        } = self;
        // The state of the group that was last is at hand, not in memory: each step needs what
        // the one before has just changed.
        let (mut at_hand, mut state) = (usize::MAX, FloatSum::default());
        let mut switch = |slot: usize, state: &mut FloatSum| {
            if slot != at_hand {
                if let Some(place) = states.get_mut(at_hand) {
                    *place = *state;
                }
                *state = states.get(slot).copied().unwrap_or_default();
                at_hand = slot;
            }
        };
        let mut slots = slots.iter().copied();
        let mut left = 0;
        for ((row, until), place) in slide.entering().zip(results) {
            while left < until {
                if let (Some(old), Some(slot)) = (slide.leaving(left), slots.next()) {
                    switch(slot, &mut state);
                    if let Some(x) =
                        argument.get(&Env::new(old.values, old.stamp, old.stamp, faults))
                    {
                        state.remove(x);
                    }
                }
                left += 1;
            }
            if let Some(slot) = slots.next() {
                switch(slot, &mut state);
                if let Some(x) = argument.get(&Env::new(row.values, row.stamp, row.stamp, faults)) {
                    state.add(x);
                }
                if let Some(result) = state.result(*wanted) {
                    *place = Value::Float(result);
                }
            }
        }
        // No group has this slot: puts the last state back.
        switch(usize::MAX, &mut state);
    }

    fn result(&self, slot: usize) -> Value {
        let state = self.slots.get(slot);
        let result = state.and_then(|state| state.result(self.wanted));
        result.map_or(Value::Null, Value::Float)
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    fn save(&self, slot: usize) -> Saved<'_> {
        let state = self.slots.get(slot).copied().unwrap_or_default();
        let values = std::iter::once(Value::Int(state.values));
        Box::new(state.sum.save().into_iter().chain(values))
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        let sum = CompensatedSum::load(state)?;
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = FloatSum {
                sum,
                values: int_at(state, 4)?,
            };
        }
        Ok(())
    }
}

/// A sum that does not lose what rounding cuts off (Neumaier 1974), and from which values can be
/// taken out again. Values so large that their sum might overflow are summed apart, scaled down,
/// so that one of them passing through a window does not spoil the sum for good.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct CompensatedSum {
    small: Neumaier,
    large: Neumaier,
}

#[derive(Clone, Copy, Debug, Default)]
struct Neumaier {
    sum: f64,
    lost: f64,
}

impl Neumaier {
    #[inline]
    fn is_zero(&self) -> bool {
        self.sum == 0.0 && self.lost == 0.0
    }

    #[inline]
    fn add(&mut self, x: f64) {
        let sum = self.sum + x;
        self.lost += if self.sum.abs() >= x.abs() {
            (self.sum - sum) + x
        } else {
            (x - sum) + self.sum
        };
        self.sum = sum;
    }
}

/// Beyond this, values are summed apart.
const LARGE: f64 = 1e280;
/// 2^-256: what they are scaled by, without rounding.
const SCALE: f64 = 8.636_168_555_094_445e-78;

impl CompensatedSum {
    #[inline]
    pub(in super::super) fn add(&mut self, x: f64) {
        if x.abs() < LARGE {
            self.small.add(x);
        } else {
            self.large.add(x * SCALE);
        }
    }

    /// The sum; infinite when it does not fit.
    #[inline]
    pub(in super::super) fn total(&self) -> f64 {
        if self.large.is_zero() {
            return self.small.sum + self.small.lost + 0.0;
        }
        (self.small.sum + self.small.lost) + (self.large.sum + self.large.lost) / SCALE
    }

    /// The sum over `count`, which may fit when the sum does not.
    #[inline]
    pub(in super::super) fn mean(&self, count: f64) -> f64 {
        if self.large.is_zero() {
            return (self.small.sum + self.small.lost) / count + 0.0;
        }
        (self.small.sum + self.small.lost) / count
            + (self.large.sum + self.large.lost) / count / SCALE
    }

    pub(in super::super) fn save(&self) -> [Value; 4] {
        [
            self.small.sum,
            self.small.lost,
            self.large.sum,
            self.large.lost,
        ]
        .map(Value::Float)
    }

    pub(in super::super) fn load(state: &[Value]) -> Result<CompensatedSum, StateError> {
        Ok(CompensatedSum {
            small: Neumaier {
                sum: float_at(state, 0)?,
                lost: float_at(state, 1)?,
            },
            large: Neumaier {
                sum: float_at(state, 2)?,
                lost: float_at(state, 3)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_to_rounding() {
        let mut sum = CompensatedSum::default();
        for x in [1.0, 1e16, -1e16, 1e300, 1.0, -1e300] {
            sum.add(x);
        }
        assert_eq!(sum.total(), 2.0);
        assert_eq!(SCALE, 2f64.powi(-256));
    }

    #[test]
    fn an_overflow_passes() {
        let mut sum = CompensatedSum::default();
        for x in [1.5, f64::MAX, f64::MAX] {
            sum.add(x);
        }
        assert!(sum.total().is_infinite());
        assert!(sum.mean(3.0).is_finite());
        for x in [f64::MAX, f64::MAX] {
            sum.add(-x);
        }
        assert_eq!(sum.total(), 1.5);
    }
}
