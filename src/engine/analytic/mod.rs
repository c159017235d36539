//! Analytic functions: columns that are computed from row to row, in the order in which the rows
//! come, before anything else looks at them.
//!
//! Each call keeps what it must know of the rows before, for each key of its PARTITION BY. Those
//! that WHERE reads see all rows, the others only what passes.

mod function;

use std::cell::Cell;

use super::expr::{Compiled, Cx, Env, Operand, compile, predicate};
use super::node::Stores;
use super::rows::IndexedRows;
use super::state::{Changed, Load, Part, Save, StateError};
use super::window::Changes;
use crate::event::{Batch, Row, Rows, Stamp, Value};
use crate::sql::plan::{Analytic, Analytics as Plan, Expr};
use function::Function;

/// The state of a call is numbered from this on.
const CALLS: u16 = 0xE000;

/// The calls of a query and, between them, its WHERE.
pub(super) struct Analytics {
    before: Vec<Call>,
    filter: Option<Operand<bool>>,
    after: Vec<Call>,
    /// The row and what has been computed for it.
    wide: Vec<Value>,
    /// The rows that have passed, with all columns.
    pub(super) rows: Batch,
    pub(super) faults: Cell<u64>,
}

impl Analytics {
    /// With the query's WHERE. None: there is nothing to be computed.
    pub(super) fn new(plan: &Plan, filter: Option<&Expr>, stores: &Stores) -> Option<Analytics> {
        if plan.is_empty() {
            return None;
        }
        let cx = stores.cx(&[]);
        let call = |plan: &Analytic| Call::new(plan, cx);
        Some(Analytics {
            before: plan.before.iter().map(call).collect(),
            filter: filter.map(|filter| predicate(filter, cx)),
            after: plan.after.iter().map(call).collect(),
            wide: Vec::new(),
            rows: Batch::new(1),
            faults: Cell::new(0),
        })
    }

    /// The same with nothing to remember.
    pub(super) fn fresh(&self) -> Analytics {
        Analytics {
            before: self.before.iter().map(Call::fresh).collect(),
            filter: self.filter.clone(),
            after: self.after.iter().map(Call::fresh).collect(),
            wide: Vec::new(),
            rows: Batch::new(1),
            faults: Cell::new(0),
        }
    }

    /// Computes for rows; those that pass are then in [`Analytics::rows`].
    pub(super) fn take(&mut self, rows: Rows<'_>) {
        self.rows.clear();
        for row in rows.iter() {
            if self.compute(row) {
                let wide = &mut self.wide;
                if self.rows.width() != wide.len() {
                    self.rows = Batch::new(wide.len());
                }
                self.rows.push_with(row.stamp, |values| values.append(wide));
            }
        }
    }

    /// Computes for a row, which is then in `wide`; whether it passes.
    fn compute(&mut self, row: Row<'_>) -> bool {
        let Row { stamp, values } = row;
        self.wide.clear();
        self.wide.extend_from_slice(values);
        for call in &mut self.before {
            let env = Env::new(&self.wide, stamp, stamp, &self.faults);
            let value = call.compute(&env);
            self.wide.push(value);
        }
        if let Some(filter) = &self.filter {
            let env = Env::new(&self.wide, stamp, stamp, &self.faults);
            if filter.get(&env) != Some(true) {
                return false;
            }
        }
        for call in &mut self.after {
            let env = Env::new(&self.wide, stamp, stamp, &self.faults);
            let value = call.compute(&env);
            self.wide.push(value);
        }
        true
    }

    /// Something that takes rows, which come to it with what is computed for them.
    pub(super) fn before<'a, C>(&'a mut self, to: &'a mut C) -> Extended<'a, C> {
        Extended {
            analytics: self,
            to,
        }
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let calls = self.before.iter_mut().chain(&mut self.after);
        for (which, call) in (CALLS..).zip(calls) {
            save.one_of(which, |save| call.save(save))?;
        }
        Ok(())
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        let calls = self.before.iter_mut().chain(&mut self.after);
        for (which, call) in (CALLS..).zip(calls) {
            call.load(&load.one_of(which))?;
        }
        Ok(())
    }
}

/// Computes for rows on their way. Nobody behind it looks at rows that leave.
pub(super) struct Extended<'a, C> {
    analytics: &'a mut Analytics,
    to: &'a mut C,
}

impl<C: Changes> Changes for Extended<'_, C> {
    fn enter(&mut self, row: Row<'_>) {
        if self.analytics.compute(row) {
            let values = &self.analytics.wide;
            self.to.enter(Row { values, ..row });
        }
    }

    fn leave(&mut self, _row: Row<'_>, _at: Stamp) {}

    fn together(&mut self, at: Stamp) {
        self.to.together(at);
    }

    fn close(&mut self, at: Stamp) {
        self.to.close(at);
    }
}

/// One call.
struct Call {
    function: Function,
    partition: Vec<Compiled>,
    when: Option<Operand<bool>>,
    /// The keys of the partition, numbered from 0.
    keys: IndexedRows,
    key: Vec<Value>,
    /// What is remembered for each key.
    states: Vec<Vec<Value>>,
    /// Which of the states have changed since they were saved.
    changed: Changed,
}

/// A key on disk, by its place: what the call remembers, and its aggregate.
type KeyState = (Vec<Value>, Vec<Value>);

impl Call {
    fn new(plan: &Analytic, cx: Cx<'_>) -> Call {
        let width = plan.partition.len();
        Call {
            function: Function::new(plan, cx),
            partition: plan.partition.iter().map(|key| compile(key, cx)).collect(),
            when: plan.when.as_ref().map(|when| predicate(when, cx)),
            keys: IndexedRows::new(width, vec![(0..width).collect()], 0).with_nulls_alike(),
            key: Vec::new(),
            states: Vec::new(),
            changed: Changed::default(),
        }
    }

    fn fresh(&self) -> Call {
        Call {
            function: self.function.fresh(),
            partition: self.partition.clone(),
            when: self.when.clone(),
            keys: self.keys.fresh(),
            key: Vec::new(),
            states: Vec::new(),
            changed: Changed::default(),
        }
    }

    /// The result for a row, which is then one of those before.
    fn compute(&mut self, env: &Env<'_>) -> Value {
        let place = self.place(env);
        let counts = self
            .when
            .as_ref()
            .is_none_or(|when| when.get(env) == Some(true));
        let Some(state) = self.states.get_mut(place) else {
            return Value::Null;
        };
        if counts {
            self.changed.note(place);
            self.function.next(place, state, env)
        } else {
            self.function.last(place, state, env)
        }
    }

    /// The place of the row's key among the states.
    fn place(&mut self, env: &Env<'_>) -> usize {
        if self.partition.is_empty() {
            if self.states.is_empty() {
                self.open(0);
            }
            return 0;
        }
        self.key.clear();
        self.key
            .extend(self.partition.iter().map(|key| key.value(env)));
        if let Some(slot) = self.keys.any(0, &self.key) {
            return usize::try_from(self.keys.number(slot)).unwrap_or(usize::MAX);
        }
        let place = self.states.len();
        self.keys
            .insert(place as u64, Stamp::default(), self.key.drain(..));
        self.open(place);
        place
    }

    fn open(&mut self, place: usize) {
        self.states.push(Vec::new());
        self.changed.note(place);
        self.function.open(place);
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.keys.save(save)?;
        if save.is_whole() {
            return (0..self.states.len()).try_for_each(|place| self.save_key(place, save));
        }
        let mut changed = self.changed.take(save).into_iter();
        changed.try_for_each(|place| self.save_key(place, save))
    }

    fn save_key(&self, place: usize, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let Some(state) = self.states.get(place) else {
            return Ok(());
        };
        let aggregate = self.function.save(place);
        save.give(Part::Groups, place as u64, &(state, aggregate))
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.keys.load(load)?;
        for key in load.numbered::<KeyState>(Part::Groups) {
            let (number, (state, aggregate)) = key?;
            let place = self.states.len();
            if number != place as u64 {
                return Err(StateError::Inconsistent("a key has no state"));
            }
            self.open(place);
            self.function.load(place, &aggregate)?;
            if let Some(open) = self.states.get_mut(place) {
                *open = state;
            }
        }
        self.changed.clear();
        if self.keys.len() != self.states.len() && !self.partition.is_empty() {
            return Err(StateError::Inconsistent("a key has no state"));
        }
        Ok(())
    }
}
