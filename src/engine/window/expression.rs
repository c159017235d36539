//! Windows that a condition moves: `'expression'`, `'expressionBatch'` and `'state'`.

use serde::{Deserialize, Serialize};

use super::super::aggregate::Leaves;
use super::super::expr::{Env, Operand};
use super::super::state::{Load, Part, Save, StateError};
use super::condition::Condition;
use super::ring::Ring;
use super::{Changes, Picked, Window};
use crate::event::{Row, Stamp, Value};

/// `'expression', condition`: the oldest rows leave until the condition holds.
pub(super) struct Expression {
    condition: Condition,
    ring: Ring,
}

impl Expression {
    pub(super) fn new(condition: Condition, ring: Ring) -> Expression {
        Expression { condition, ring }
    }

    /// How many of the oldest rows must leave, the newest among them included.
    fn leaving(&mut self) -> usize {
        let mut leaving = 0;
        let newest = self.ring.len() - 1;
        while let (Some(oldest), Some(newest)) = (self.ring.row(leaving), self.ring.row(newest)) {
            if self.condition.holds_between(oldest, newest) {
                break;
            }
            self.condition.remove(oldest);
            leaving += 1;
        }
        leaving
    }
}

impl Window for Expression {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            self.ring.push(row, []);
            let newest = self.ring.len() - 1;
            if let Some(kept) = self.ring.row(newest) {
                self.condition.add(kept);
            }
            let leaving = self.leaving();
            let old = (0..leaving.min(newest)).map_while(|place| self.ring.row(place));
            old.for_each(|old| to.leave(old, row.stamp));
            if let Some(kept) = self.ring.row(newest) {
                to.enter(kept);
                if leaving > newest {
                    to.leave(kept, row.stamp);
                }
            }
            self.ring.pop(leaving);
        }
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn leaves(&self) -> Leaves {
        Leaves::InOrder
    }

    fn take_faults(&self) -> u64 {
        self.condition.faults.take()
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(Expression::new(self.condition.fresh(), self.ring.fresh()))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.condition.save(save)?;
        self.ring.save(save)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.condition.load(load)?;
        self.ring.load(load)
    }
}

/// What is known of the rows of an open batch besides the aggregates of its condition: the columns
/// of the first that are read. None: no batch is open.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Open {
    first: Option<Vec<Value>>,
}

impl Open {
    /// A row has come in; whether the condition holds with it.
    fn take(&mut self, row: Row<'_>, condition: &mut Condition) -> bool {
        condition.add(row);
        let first = self.first.get_or_insert_with(|| condition.first_of(row));
        condition.holds(first, row)
    }

    fn close(&mut self, at: Stamp, condition: &mut Condition, to: &mut dyn Changes) {
        self.first = None;
        condition.open();
        to.close(at);
    }

    fn save(
        &mut self,
        condition: &mut Condition,
        save: &mut Save<'_, '_>,
    ) -> Result<(), StateError> {
        save.put(Part::Window, 0, self)?;
        condition.save(save)
    }

    fn load(&mut self, condition: &mut Condition, load: &Load<'_>) -> Result<(), StateError> {
        *self = load.one(Part::Window)?.unwrap_or_default();
        condition.load(load)
    }
}

/// `'expressionBatch', condition`: the row with which the condition does not hold begins the next
/// batch.
pub(super) struct ExpressionBatch {
    condition: Condition,
    open: Open,
}

impl ExpressionBatch {
    pub(super) fn new(condition: Condition) -> ExpressionBatch {
        ExpressionBatch {
            condition,
            open: Open::default(),
        }
    }
}

impl Window for ExpressionBatch {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            let begins = self.open.first.is_none();
            if !self.open.take(row, &mut self.condition) && !begins {
                self.open.close(row.stamp, &mut self.condition, to);
                self.open.take(row, &mut self.condition);
            }
            to.enter(row);
        }
    }

    fn take_faults(&self) -> u64 {
        self.condition.faults.take()
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(ExpressionBatch::new(self.condition.fresh()))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.open.save(&mut self.condition, save)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.open.load(&mut self.condition, load)
    }
}

/// `'state', begin, emit`: from a row for which the one holds to that at which the other does.
pub(super) struct State {
    begin: Operand<bool>,
    emit: Condition,
    open: Open,
}

impl State {
    pub(super) fn new(begin: Operand<bool>, emit: Condition) -> State {
        State {
            begin,
            emit,
            open: Open::default(),
        }
    }
}

impl Window for State {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            let env = Env::new(row.values, row.stamp, row.stamp, &self.emit.faults);
            if self.open.first.is_none() && self.begin.get(&env) != Some(true) {
                continue;
            }
            to.enter(row);
            if self.open.take(row, &mut self.emit) {
                self.open.close(row.stamp, &mut self.emit, to);
            }
        }
    }

    fn take_faults(&self) -> u64 {
        self.emit.faults.take()
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(State::new(self.begin.clone(), self.emit.fresh()))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.open.save(&mut self.emit, save)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.open.load(&mut self.emit, load)
    }
}
