//! Conditions over the rows of a window, kept up to date row by row.

use std::cell::Cell;

use super::super::aggregate::{self, Aggregate, Leaves};
use super::super::expr::{Cx, Env, Operand, predicate};
use super::super::state::{Load, Part, Save, StateError};
use crate::event::{Row, Value};
use crate::sql::plan::Condition as Plan;

/// Values per chunk of state.
const CHUNK_VALUES: usize = 1024;

/// The only group there is.
const SLOT: usize = 0;

pub(super) struct Condition {
    aggregates: Vec<Box<dyn Aggregate>>,
    /// Where the columns of the oldest row lie that are read, and those of the newest.
    first: Vec<usize>,
    last: Vec<usize>,
    holds: Operand<bool>,
    row: Vec<Value>,
    pub(super) faults: Cell<u64>,
}

impl Condition {
    /// For rows as `cx` says, which leave as `leaves` says.
    pub(super) fn new(plan: &Plan, cx: Cx<'_>, leaves: Leaves) -> Condition {
        let aggregates = plan.aggregates.iter();
        let place = |column: &usize| cx.place(*column);
        let own = Cx { columns: &[], ..cx };
        let mut condition = Condition {
            aggregates: aggregates
                .map(|plan| aggregate::new(plan, cx, leaves))
                .collect(),
            first: plan.first.iter().map(place).collect(),
            last: plan.last.iter().map(place).collect(),
            holds: predicate(&plan.holds, own),
            row: Vec::new(),
            faults: Cell::new(0),
        };
        condition.open();
        condition
    }

    pub(super) fn fresh(&self) -> Condition {
        let mut condition = Condition {
            aggregates: self.aggregates.iter().map(|one| one.fresh()).collect(),
            first: self.first.clone(),
            last: self.last.clone(),
            holds: self.holds.clone(),
            row: Vec::new(),
            faults: Cell::new(0),
        };
        condition.open();
        condition
    }

    /// There are no rows.
    pub(super) fn open(&mut self) {
        for aggregate in &mut self.aggregates {
            aggregate.clear();
            aggregate.open(SLOT);
        }
    }

    pub(super) fn add(&mut self, row: Row<'_>) {
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        for aggregate in &mut self.aggregates {
            aggregate.add(SLOT, &env);
        }
    }

    pub(super) fn remove(&mut self, row: Row<'_>) {
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        for aggregate in &mut self.aggregates {
            aggregate.remove(SLOT, &env);
        }
    }

    /// The columns of the oldest row that are read.
    pub(super) fn first_of(&self, row: Row<'_>) -> Vec<Value> {
        let value = |column: &usize| row.values.get(*column).cloned().unwrap_or_default();
        self.first.iter().map(value).collect()
    }

    /// Whether it is true, with these columns of the oldest row.
    pub(super) fn holds(&mut self, first: &[Value], newest: Row<'_>) -> bool {
        self.row.clear();
        for aggregate in &self.aggregates {
            aggregate.result_to(SLOT, &mut self.row);
        }
        self.row.extend_from_slice(first);
        let value = |column: &usize| newest.values.get(*column).cloned().unwrap_or_default();
        self.row.extend(self.last.iter().map(value));
        let env = Env::new(&self.row, newest.stamp, newest.stamp, &self.faults);
        self.holds.get(&env) == Some(true)
    }

    /// Like [`Condition::holds`], with the oldest row itself.
    pub(super) fn holds_between(&mut self, oldest: Row<'_>, newest: Row<'_>) -> bool {
        let first = self.first_of(oldest);
        self.holds(&first, newest)
    }

    /// Chunks of the aggregates: each with its number, and some of its values.
    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let mut chunk = 0;
        save.renew(Part::WindowCondition);
        for (number, aggregate) in self.aggregates.iter().enumerate() {
            let mut values = aggregate.save(SLOT).peekable();
            while values.peek().is_some() {
                let some: Vec<Value> = values.by_ref().take(CHUNK_VALUES).collect();
                save.put(Part::WindowCondition, chunk, &(number, some))?;
                chunk += 1;
            }
        }
        Ok(())
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.open();
        let mut states = vec![Vec::new(); self.aggregates.len()];
        for (number, values) in load.all::<(usize, Vec<Value>)>(Part::WindowCondition)? {
            let Some(state) = states.get_mut(number) else {
                let why = "a window's condition has another form";
                return Err(StateError::Inconsistent(why));
            };
            state.extend(values);
        }
        for (aggregate, state) in self.aggregates.iter_mut().zip(&states) {
            if !state.is_empty() {
                aggregate.load(SLOT, state)?;
            }
        }
        Ok(())
    }
}
