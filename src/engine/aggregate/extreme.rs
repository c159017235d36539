//! Aggregates whose result is one of the values: min, max, first, last, and min and max for ever.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::super::expr::{Compiled, Env};
use super::super::state::StateError;
use super::{Aggregate, Slots};
use crate::event::Value;

/// Which of the values.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wanted {
    Min,
    Max,
    First,
    Last,
}

/// The wanted value first, behind it those that take its place when rows leave: a monotonic
/// deque, so that a row costs O(1) amortised and memory only what can still become the result.
pub(super) struct Extreme {
    argument: Compiled,
    wanted: Wanted,
    slots: Slots<Candidates>,
}

#[derive(Default)]
struct Candidates {
    values: VecDeque<Value>,
    /// For `last`: how many values there are; only the newest of them is kept.
    count: i64,
}

impl Extreme {
    pub(super) fn new(argument: Compiled, wanted: Wanted) -> Extreme {
        Extreme {
            argument,
            wanted,
            slots: Slots::default(),
        }
    }
}

impl Aggregate for Extreme {
    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    fn add(&mut self, slot: usize, env: &Env<'_>) {
        let value = self.argument.value(env);
        let Some(state) = self.slots.get_mut(slot).filter(|_| !value.is_null()) else {
            return;
        };
        state.count += 1;
        // Equal values stay, one for each row that will leave.
        let beaten = |old: &Value| match self.wanted {
            Wanted::Min => value.order(old) == Ordering::Less,
            Wanted::Max => value.order(old) == Ordering::Greater,
            Wanted::First => false,
            Wanted::Last => true,
        };
        while state.values.back().is_some_and(beaten) {
            state.values.pop_back();
        }
        state.values.push_back(value);
    }

    fn remove(&mut self, slot: usize, env: &Env<'_>) {
        let value = self.argument.value(env);
        let Some(state) = self.slots.get_mut(slot).filter(|_| !value.is_null()) else {
            return;
        };
        state.count -= 1;
        let leaves = match self.wanted {
            Wanted::Last => state.count == 0,
            Wanted::Min | Wanted::Max | Wanted::First => state.values.front() == Some(&value),
        };
        if leaves {
            state.values.pop_front();
        }
    }

    fn result(&self, slot: usize) -> Value {
        self.slots
            .get(slot)
            .and_then(|state| state.values.front())
            .cloned()
            .unwrap_or_default()
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    fn save(&self, slot: usize) -> Vec<Value> {
        let Some(state) = self.slots.get(slot) else {
            return Vec::new();
        };
        std::iter::once(Value::Int(state.count))
            .chain(state.values.iter().cloned())
            .collect()
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        let count = super::int_at(state, 0)?;
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Candidates {
                values: state.iter().skip(1).cloned().collect(),
                count,
            };
        }
        Ok(())
    }
}

/// The smallest or largest value there ever was.
pub(super) struct Forever {
    argument: Compiled,
    smallest: bool,
    slots: Slots<Value>,
}

impl Forever {
    pub(super) fn new(argument: Compiled, smallest: bool) -> Forever {
        Forever {
            argument,
            smallest,
            slots: Slots::default(),
        }
    }
}

impl Aggregate for Forever {
    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    fn add(&mut self, slot: usize, env: &Env<'_>) {
        let value = self.argument.value(env);
        let Some(best) = self.slots.get_mut(slot).filter(|_| !value.is_null()) else {
            return;
        };
        let wanted = if self.smallest {
            Ordering::Less
        } else {
            Ordering::Greater
        };
        if best.is_null() || value.order(best) == wanted {
            *best = value;
        }
    }

    fn remove(&mut self, _slot: usize, _env: &Env<'_>) {}

    fn result(&self, slot: usize) -> Value {
        self.slots.get(slot).cloned().unwrap_or_default()
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    fn save(&self, slot: usize) -> Vec<Value> {
        vec![self.result(slot)]
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        if let (Some(slot), Some(value)) = (self.slots.get_mut(slot), state.first()) {
            *slot = value.clone();
        }
        Ok(())
    }

    fn forever(&self) -> bool {
        true
    }
}
