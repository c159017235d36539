//! Aggregates that only count.

use std::cell::Cell;

use super::super::expr::{Compiled, Env};
use super::super::state::StateError;
use super::super::window::Picked;
use super::{Aggregate, Saved, Slots, int_at, saved};
use crate::event::Value;

/// `count()`, `count(*)`: rows.
#[derive(Default)]
pub(super) struct Rows {
    slots: Slots<i64>,
}

impl Aggregate for Rows {
    fn fresh(&self) -> Box<dyn Aggregate> {
        Box::new(Rows::default())
    }

    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    fn add(&mut self, slot: usize, _env: &Env<'_>) {
        if let Some(rows) = self.slots.get_mut(slot) {
            *rows += 1;
        }
    }

    fn add_all(&mut self, slots: &[usize], _rows: Picked<'_>, _faults: &Cell<u64>) {
        for slot in slots {
            if let Some(rows) = self.slots.get_mut(*slot) {
                *rows += 1;
            }
        }
    }

    fn remove(&mut self, slot: usize, _env: &Env<'_>) {
        if let Some(rows) = self.slots.get_mut(slot) {
            *rows -= 1;
        }
    }

    #[inline]
    fn result(&self, slot: usize) -> Value {
        Value::Int(self.slots.get(slot).copied().unwrap_or(0))
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    fn save(&self, slot: usize) -> Saved<'_> {
        saved([self.result(slot)])
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        if let Some(rows) = self.slots.get_mut(slot) {
            *rows = int_at(state, 0)?;
        }
        Ok(())
    }
}

/// `count(x)`: values that are not NULL.
pub(super) struct Values {
    argument: Compiled,
    rows: Rows,
}

impl Values {
    pub(super) fn new(argument: Compiled) -> Values {
        Values {
            argument,
            rows: Rows::default(),
        }
    }
}

impl Aggregate for Values {
    fn fresh(&self) -> Box<dyn Aggregate> {
        Box::new(Values::new(self.argument.clone()))
    }

    fn open(&mut self, slot: usize) {
        self.rows.open(slot);
    }

    fn add(&mut self, slot: usize, env: &Env<'_>) {
        if !self.argument.value(env).is_null() {
            self.rows.add(slot, env);
        }
    }

    fn remove(&mut self, slot: usize, env: &Env<'_>) {
        if !self.argument.value(env).is_null() {
            self.rows.remove(slot, env);
        }
    }

    #[inline]
    fn result(&self, slot: usize) -> Value {
        self.rows.result(slot)
    }

    fn clear(&mut self) {
        self.rows.clear();
    }

    fn save(&self, slot: usize) -> Saved<'_> {
        self.rows.save(slot)
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        self.rows.load(slot, state)
    }
}

/// `bool_and(x)`, `bool_or(x)`: how many are true and how many false decides both.
pub(super) struct Truth {
    argument: Compiled,
    all: bool,
    slots: Slots<[i64; 2]>,
}

impl Truth {
    pub(super) fn new(argument: Compiled, all: bool) -> Truth {
        Truth {
            argument,
            all,
            slots: Slots::default(),
        }
    }

    fn count(&mut self, slot: usize, env: &Env<'_>, step: i64) {
        let truth = self.argument.value(env).as_bool();
        if let (Some(truth), Some([no, yes])) = (truth, self.slots.get_mut(slot)) {
            *if truth { yes } else { no } += step;
        }
    }
}

impl Aggregate for Truth {
    fn fresh(&self) -> Box<dyn Aggregate> {
        Box::new(Truth::new(self.argument.clone(), self.all))
    }

    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    fn add(&mut self, slot: usize, env: &Env<'_>) {
        self.count(slot, env, 1);
    }

    fn remove(&mut self, slot: usize, env: &Env<'_>) {
        self.count(slot, env, -1);
    }

    #[inline]
    fn result(&self, slot: usize) -> Value {
        match self.slots.get(slot) {
            None | Some([0, 0]) => Value::Null,
            Some([no, yes]) => Value::Bool(if self.all { *no == 0 } else { *yes > 0 }),
        }
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    fn save(&self, slot: usize) -> Saved<'_> {
        let counts = self.slots.get(slot).copied().unwrap_or_default();
        saved(counts.map(Value::Int))
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        if let Some(counts) = self.slots.get_mut(slot) {
            *counts = [int_at(state, 0)?, int_at(state, 1)?];
        }
        Ok(())
    }
}
