//! Aggregates whose result is one of the values: min, max, first, last, and min and max for ever.

use std::cell::Cell;
use std::collections::VecDeque;

use super::super::expr::{Cell64, Compiled, Env, Operand};
use super::super::state::StateError;
use super::super::window::Picked;
use super::{Aggregate, BAD_STATE, Saved, Slots, saved};
use crate::event::Value;

/// Which of the values.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wanted {
    Min,
    Max,
    First,
    Last,
}

/// What must be remembered besides the wanted value.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Keeps {
    /// The values that take its place when rows leave.
    Candidates,
    /// Nothing: no row leaves its group before the group is forgotten.
    Best,
    /// Nothing, and it is not forgotten with its rows.
    Forever,
}

/// The aggregate for an argument of any type.
pub(super) fn new(argument: Compiled, wanted: Wanted, keeps: Keeps) -> Box<dyn Aggregate> {
    match argument {
        Compiled::Bool(argument) => of_type(argument, Value::Bool, wanted, keeps),
        Compiled::Int(argument) => of_type(argument, Value::Int, wanted, keeps),
        Compiled::Float(argument) => of_type(argument, Value::Float, wanted, keeps),
        Compiled::Text(argument) => of_type(argument, Value::Str, wanted, keeps),
        Compiled::Bytes(argument) => of_type(argument, Value::Bytes, wanted, keeps),
    }
}

fn of_type<T: Cell64 + PartialOrd>(
    argument: Operand<T>,
    value: fn(T) -> Value,
    wanted: Wanted,
    keeps: Keeps,
) -> Box<dyn Aggregate> {
    if keeps == Keeps::Candidates {
        Box::new(Extreme {
            argument,
            value,
            wanted,
            slots: Slots::default(),
        })
    } else {
        Box::new(Best {
            argument,
            value,
            wanted,
            forever: keeps == Keeps::Forever,
            slots: Slots::default(),
        })
    }
}

impl Wanted {
    /// Whether `new`, which came later, is wanted more than `old`.
    #[inline]
    fn prefers<T: PartialOrd>(self, new: &T, old: &T) -> bool {
        match self {
            Wanted::Min => new < old,
            Wanted::Max => new > old,
            Wanted::First => false,
            Wanted::Last => true,
        }
    }
}

/// The wanted value first, behind it those that take its place when rows leave: a monotonic
/// deque, so that a row costs O(1) amortised and memory only what can still become the result.
struct Extreme<T> {
    argument: Operand<T>,
    value: fn(T) -> Value,
    wanted: Wanted,
    slots: Slots<Candidates<T>>,
}

struct Candidates<T> {
    values: VecDeque<T>,
    /// For `last`: how many values there are; only the newest of them is kept.
    count: i64,
}

impl<T> Default for Candidates<T> {
    fn default() -> Candidates<T> {
        Candidates {
            values: VecDeque::new(),
            count: 0,
        }
    }
}

impl<T: Cell64 + PartialOrd> Aggregate for Extreme<T> {
    fn fresh(&self) -> Box<dyn Aggregate> {
        of_type(
            self.argument.clone(),
            self.value,
            self.wanted,
            Keeps::Candidates,
        )
    }

    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    #[inline]
    fn add(&mut self, slot: usize, env: &Env<'_>) {
        let (Some(value), Some(state)) = (self.argument.get(env), self.slots.get_mut(slot)) else {
            return;
        };
        state.count += 1;
        // Equal values stay, one for each row that will leave.
        while let Some(old) = state.values.back() {
            if !self.wanted.prefers(&value, old) {
                break;
            }
            state.values.pop_back();
        }
        state.values.push_back(value);
    }

    #[inline]
    fn remove(&mut self, slot: usize, env: &Env<'_>) {
        let (Some(value), Some(state)) = (self.argument.get(env), self.slots.get_mut(slot)) else {
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

    #[inline]
    fn result(&self, slot: usize) -> Value {
        let state = self.slots.get(slot);
        let value = state.and_then(|state| state.values.front()).cloned();
        value.map_or(Value::Null, self.value)
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    fn save(&self, slot: usize) -> Saved<'_> {
        let Some(state) = self.slots.get(slot) else {
            return saved([]);
        };
        let values = state.values.iter().cloned().map(self.value);
        Box::new(std::iter::once(Value::Int(state.count)).chain(values))
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        let count = super::int_at(state, 0)?;
        let values: Option<VecDeque<T>> = state.iter().skip(1).map(T::read).collect();
        let values = values.ok_or(BAD_STATE)?;
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Candidates { values, count };
        }
        Ok(())
    }
}

/// The wanted value alone, where none leaves.
struct Best<T> {
    argument: Operand<T>,
    value: fn(T) -> Value,
    wanted: Wanted,
    forever: bool,
    slots: Slots<Option<T>>,
}

impl<T: Cell64 + PartialOrd> Best<T> {
    /// Takes rows, with the comparison made out once for all of them.
    #[inline]
    fn take_all(
        &mut self,
        slots: &[usize],
        rows: Picked<'_>,
        faults: &Cell<u64>,
        prefers: impl Fn(&T, &T) -> bool,
    ) {
        let states = &mut self.slots;
        self.argument.for_each(slots, rows, faults, |slot, value| {
            if let Some(best) = states.get_mut(slot) {
                if best.as_ref().is_none_or(|best| prefers(&value, best)) {
                    *best = Some(value);
                }
            }
        });
    }
}

impl<T: Cell64 + PartialOrd> Aggregate for Best<T> {
    fn fresh(&self) -> Box<dyn Aggregate> {
        let keeps = if self.forever {
            Keeps::Forever
        } else {
            Keeps::Best
        };
        of_type(self.argument.clone(), self.value, self.wanted, keeps)
    }

    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    #[inline]
    fn add(&mut self, slot: usize, env: &Env<'_>) {
        if let (Some(value), Some(best)) = (self.argument.get(env), self.slots.get_mut(slot)) {
            let wanted = self.wanted;
            if best
                .as_ref()
                .is_none_or(|best| wanted.prefers(&value, best))
            {
                *best = Some(value);
            }
        }
    }

    fn add_all(&mut self, slots: &[usize], rows: Picked<'_>, faults: &Cell<u64>) {
        match self.wanted {
            Wanted::Min => self.take_all(slots, rows, faults, |new, old| new < old),
            Wanted::Max => self.take_all(slots, rows, faults, |new, old| new > old),
            Wanted::First => self.take_all(slots, rows, faults, |_, _| false),
            Wanted::Last => self.take_all(slots, rows, faults, |_, _| true),
        }
    }

    fn remove(&mut self, _slot: usize, _env: &Env<'_>) {}

    #[inline]
    fn result(&self, slot: usize) -> Value {
        let value = self.slots.get(slot).cloned().flatten();
        value.map_or(Value::Null, self.value)
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    fn save(&self, slot: usize) -> Saved<'_> {
        saved([self.result(slot)])
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        if let (Some(slot), Some(value)) = (self.slots.get_mut(slot), state.first()) {
            *slot = T::read(value);
        }
        Ok(())
    }

    fn forever(&self) -> bool {
        self.forever
    }
}
