//! `FILTER (WHERE condition)`: a row for which the condition is not true neither comes nor leaves.

use super::super::expr::{Env, Operand};
use super::super::state::StateError;
use super::{Aggregate, Saved};
use crate::event::Value;

pub(super) struct Filtered {
    condition: Operand<bool>,
    aggregate: Box<dyn Aggregate>,
}

impl Filtered {
    pub(super) fn new(condition: Operand<bool>, aggregate: Box<dyn Aggregate>) -> Filtered {
        Filtered {
            condition,
            aggregate,
        }
    }
}

impl Aggregate for Filtered {
    fn fresh(&self) -> Box<dyn Aggregate> {
        Box::new(Filtered::new(
            self.condition.clone(),
            self.aggregate.fresh(),
        ))
    }

    fn open(&mut self, slot: usize) {
        self.aggregate.open(slot);
    }

    fn add(&mut self, slot: usize, env: &Env<'_>) {
        if self.condition.get(env) == Some(true) {
            self.aggregate.add(slot, env);
        }
    }

    fn remove(&mut self, slot: usize, env: &Env<'_>) {
        if self.condition.get(env) == Some(true) {
            self.aggregate.remove(slot, env);
        }
    }

    fn result(&self, slot: usize) -> Value {
        self.aggregate.result(slot)
    }

    fn clear(&mut self) {
        self.aggregate.clear();
    }

    fn save(&self, slot: usize) -> Saved<'_> {
        self.aggregate.save(slot)
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        self.aggregate.load(slot, state)
    }

    fn forever(&self) -> bool {
        self.aggregate.forever()
    }
}
