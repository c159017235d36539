//! Percentiles: values in two halves, below and above the wanted place, so that the two values
//! around it lie at their borders. Exact, in O(log n) per row, in whatever order rows leave.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::super::state::StateError;
use super::over::Tally;
use super::{BAD_STATE, Saved, float_at, int_at};
use crate::event::Value;

/// Which percentile, and of how many values.
#[derive(Clone, Copy)]
pub(super) struct Share {
    /// From 0 to 1.
    pub(super) part: f64,
    pub(super) limit: Limit,
}

/// What is done about many different values.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Limit {
    /// All are kept.
    None,
    /// From [`EXACT_VALUES_MAX`] on they are kept coarsely.
    Coarse,
}

/// So many different values are kept as they are.
const EXACT_VALUES_MAX: usize = 1024;

/// A value kept coarsely keeps seven bits of its mantissa and stands in the middle of what they
/// leave open, so it is off by 2^-8 of itself at most. There are half a million such values, some
/// 425 per power of ten.
const DROPPED_BITS: u32 = 45;

/// A finite float, ordered by size; `-0.0` is `0.0`.
#[derive(Clone, Copy, Debug)]
struct Float(f64);

impl Float {
    fn coarse(self) -> Float {
        if self.0 == 0.0 {
            return Float(0.0);
        }
        let kept = self.0.to_bits() & !((1 << DROPPED_BITS) - 1);
        Float(f64::from_bits(kept | 1 << (DROPPED_BITS - 1)))
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Float) -> Ordering {
        self.0.partial_cmp(&other.0).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Float) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Float) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Float {}

/// Values with their counts.
#[derive(Default)]
struct Half {
    counts: BTreeMap<Float, u64>,
    values: u64,
}

impl Half {
    fn insert(&mut self, value: Float, count: u64) {
        *self.counts.entry(value).or_insert(0) += count;
        self.values += count;
    }

    /// Takes one of these values out; whether there was one.
    fn remove(&mut self, value: Float) -> bool {
        let Some(count) = self.counts.get_mut(&value) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&value);
        }
        self.values -= 1;
        true
    }

    fn smallest(&self) -> Option<Float> {
        self.counts.first_key_value().map(|(value, _)| *value)
    }

    fn largest(&self) -> Option<Float> {
        self.counts.last_key_value().map(|(value, _)| *value)
    }

    fn coarse(&self) -> Half {
        let mut coarse = Half::default();
        for (value, count) in &self.counts {
            coarse.insert(value.coarse(), *count);
        }
        coarse
    }
}

/// The values up to the wanted place, and those behind it.
#[derive(Default)]
pub(super) struct Ranked {
    low: Half,
    high: Half,
    coarse: bool,
}

/// The place of the percentile among `values` values, counted from 0.
pub(super) fn place(part: f64, values: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of values, far below 2^53"
    )]
    let last = values.saturating_sub(1) as f64;
    part * last
}

/// What lies between two values at `part` of the way.
pub(super) fn between(low: f64, high: f64, part: f64) -> f64 {
    let way = high - low;
    if way.is_finite() {
        low + way * part
    } else {
        low * (1.0 - part) + high * part
    }
}

impl Ranked {
    /// As many values below as the place asks for.
    fn balance(&mut self, part: f64) {
        let values = self.low.values + self.high.values;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place among the values"
        )]
        let wanted = (place(part, values) as u64 + 1).min(values);
        while self.low.values < wanted {
            let Some(value) = self.high.smallest() else {
                return;
            };
            self.high.remove(value);
            self.low.insert(value, 1);
        }
        while self.low.values > wanted {
            let Some(value) = self.low.largest() else {
                return;
            };
            self.low.remove(value);
            self.high.insert(value, 1);
        }
    }

    fn value(&self, x: f64) -> Float {
        if self.coarse {
            Float(x).coarse()
        } else {
            Float(x)
        }
    }
}

impl Tally for Ranked {
    type Item = f64;
    type Settings = Share;

    fn add(&mut self, x: f64, share: &Share) {
        let value = self.value(x);
        if self.low.largest().is_some_and(|largest| value <= largest) {
            self.low.insert(value, 1);
        } else {
            self.high.insert(value, 1);
        }
        let different = self.low.counts.len() + self.high.counts.len();
        if share.limit == Limit::Coarse && !self.coarse && different > EXACT_VALUES_MAX {
            // What is equal from now on may lie in both halves, which does no harm.
            self.low = self.low.coarse();
            self.high = self.high.coarse();
            self.coarse = true;
        }
        self.balance(share.part);
    }

    fn remove(&mut self, x: f64, share: &Share) {
        let value = self.value(x);
        if !self.low.remove(value) {
            self.high.remove(value);
        }
        self.balance(share.part);
        if self.low.values == 0 {
            *self = Ranked::default();
        }
    }

    fn result(&self, share: &Share) -> Value {
        let Some(low) = self.low.largest() else {
            return Value::Null;
        };
        let part = place(share.part, self.low.values + self.high.values).fract();
        match self.high.smallest() {
            Some(high) if part > 0.0 => Value::finite(between(low.0, high.0, part)),
            Some(_) | None => Value::Float(low.0),
        }
    }

    /// Whether values are coarse, how many different ones lie below, then values and counts by
    /// turns, ascending.
    fn save(&self) -> Saved<'_> {
        let below = i64::try_from(self.low.counts.len()).unwrap_or(i64::MAX);
        let head = [Value::Bool(self.coarse), Value::Int(below)];
        let counts = self.low.counts.iter().chain(&self.high.counts);
        let pairs = counts.flat_map(|(value, count)| {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            [Value::Float(value.0), Value::Int(count)]
        });
        Box::new(head.into_iter().chain(pairs))
    }

    fn load(state: &[Value]) -> Result<Ranked, StateError> {
        let mut ranked = Ranked {
            coarse: state.first().and_then(Value::as_bool).ok_or(BAD_STATE)?,
            ..Ranked::default()
        };
        let below = usize::try_from(int_at(state, 1)?).map_err(|_| BAD_STATE)?;
        for (number, pair) in state.get(2..).unwrap_or_default().chunks(2).enumerate() {
            let count = u64::try_from(int_at(pair, 1)?).map_err(|_| BAD_STATE)?;
            let half = if number < below {
                &mut ranked.low
            } else {
                &mut ranked.high
            };
            half.insert(Float(float_at(pair, 0)?), count);
        }
        Ok(ranked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_values_are_near_and_in_order() {
        let mut last = Float(f64::NEG_INFINITY);
        let mut x = -1e300;
        while x < 1e300 {
            let coarse = Float(x).coarse();
            assert!((coarse.0 - x).abs() <= x.abs() / 256.0, "{x}");
            assert!(coarse >= last, "{x}");
            last = coarse;
            x = if x < -1e-300 {
                x / 1.01
            } else if x <= 0.0 {
                x + 1e-300
            } else {
                x * 1.01
            };
        }
    }
}
