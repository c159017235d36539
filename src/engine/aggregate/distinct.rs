//! DISTINCT: equal values count once.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::super::expr::{Compiled, Env};
use super::super::state::StateError;
use super::over::{Argument, Tally};
use super::{Aggregate, BAD_STATE, Saved, Slots, int_at, values_at};
use crate::event::Value;

/// How often each value is there.
#[derive(Default)]
pub(super) struct Occurrences {
    counts: HashMap<Value, i64, FixedState>,
}

impl Occurrences {
    /// How often the value is there now.
    fn add(&mut self, value: Value) -> i64 {
        let count = self.counts.entry(value).or_insert(0);
        *count += 1;
        *count
    }

    /// How often the value is there still.
    fn remove(&mut self, value: &Value) -> Option<i64> {
        let count = self.counts.get_mut(value)?;
        *count -= 1;
        let left = *count;
        if left == 0 {
            self.counts.remove(value);
        }
        Some(left)
    }

    /// Values and counts by turns, in an order that does not depend on how they came together.
    fn save(&self) -> Saved<'_> {
        let mut pairs: Vec<(&Value, &i64)> = self.counts.iter().collect();
        pairs.sort_unstable_by(|one, other| one.0.order(other.0));
        let pairs = pairs.into_iter();
        Box::new(pairs.flat_map(|(value, count)| [value.clone(), Value::Int(*count)]))
    }

    fn load(state: &[Value]) -> Result<Occurrences, StateError> {
        let mut counts = HashMap::default();
        for pair in state.chunks(2) {
            let value = pair.first().ok_or(BAD_STATE)?.clone();
            counts.insert(value, int_at(pair, 1)?);
        }
        Ok(Occurrences { counts })
    }
}

/// `count(DISTINCT x)`.
#[derive(Default)]
pub(super) struct Count {
    values: Occurrences,
}

impl Tally for Count {
    type Item = Value;
    type Settings = ();

    fn add(&mut self, value: Value, (): &()) {
        self.values.add(value);
    }

    fn remove(&mut self, value: Value, (): &()) {
        self.values.remove(&value);
    }

    fn result(&self, (): &()) -> Value {
        i64::try_from(self.values.counts.len()).map_or(Value::Null, Value::Int)
    }

    fn save(&self) -> Saved<'_> {
        self.values.save()
    }

    fn load(state: &[Value]) -> Result<Count, StateError> {
        let values = Occurrences::load(state)?;
        Ok(Count { values })
    }
}

/// Any aggregate: it is told of a value when the first row with it comes and when the last leaves.
/// The two need not be the same row, so it must be ready for rows in any order.
pub(super) struct Distinct {
    argument: Compiled,
    aggregate: Box<dyn Aggregate>,
    slots: Slots<Occurrences>,
}

impl Distinct {
    pub(super) fn new(argument: Compiled, aggregate: Box<dyn Aggregate>) -> Distinct {
        Distinct {
            argument,
            aggregate,
            slots: Slots::default(),
        }
    }
}

impl Aggregate for Distinct {
    fn fresh(&self) -> Box<dyn Aggregate> {
        Box::new(Distinct::new(self.argument.clone(), self.aggregate.fresh()))
    }

    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
        self.aggregate.open(slot);
    }

    fn add(&mut self, slot: usize, env: &Env<'_>) {
        let value: Option<Value> = Argument::get(&self.argument, env);
        if let (Some(value), Some(state)) = (value, self.slots.get_mut(slot)) {
            if state.add(value) == 1 {
                self.aggregate.add(slot, env);
            }
        }
    }

    fn remove(&mut self, slot: usize, env: &Env<'_>) {
        let value: Option<Value> = Argument::get(&self.argument, env);
        if let (Some(value), Some(state)) = (value, self.slots.get_mut(slot)) {
            if state.remove(&value) == Some(0) {
                self.aggregate.remove(slot, env);
            }
        }
    }

    fn result(&self, slot: usize) -> Value {
        self.aggregate.result(slot)
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.aggregate.clear();
    }

    /// The number of different values, these with their counts, then the aggregate's own state.
    fn save(&self, slot: usize) -> Saved<'_> {
        let Some(state) = self.slots.get(slot) else {
            return Box::new(std::iter::empty());
        };
        let values = i64::try_from(state.counts.len()).unwrap_or(i64::MAX);
        let head = std::iter::once(Value::Int(values));
        Box::new(head.chain(state.save()).chain(self.aggregate.save(slot)))
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        let values = usize::try_from(int_at(state, 0)?).map_err(|_| BAD_STATE)?;
        let end = values
            .checked_mul(2)
            .and_then(|values| values.checked_add(1));
        let end = end.ok_or(BAD_STATE)?;
        let occurrences = Occurrences::load(values_at(state, 1..end)?)?;
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = occurrences;
        }
        self.aggregate
            .load(slot, values_at(state, end..state.len())?)
    }
}
