//! Aggregates: each keeps one state per group, up to date row by row.
//!
//! Rows leave in the order in which they came (per group), which is what makes a deque enough for
//! min and max. States are addressed by the group's slot.

mod count;
mod extreme;
mod moments;
mod sum;

use super::expr::{Compiled, Env, compile};
use super::state::StateError;
use crate::event::Value;
use crate::sql::aggregates::AggregateFunction;
use crate::sql::plan::Aggregate as Plan;

/// One aggregate of a query, over all its groups.
pub(super) trait Aggregate: Send {
    /// Makes the state of `slot` fresh. Slots are opened from 0 upwards, and again when reused.
    fn open(&mut self, slot: usize);
    /// A row has come into the group.
    fn add(&mut self, slot: usize, env: &Env<'_>);
    /// The oldest row has left the group; `env` is over that row.
    fn remove(&mut self, slot: usize, env: &Env<'_>);
    /// The result for the group as it is.
    fn result(&self, slot: usize) -> Value;
    /// Forgets every slot.
    fn clear(&mut self);
    /// The state of a slot, for a checkpoint.
    fn save(&self, slot: usize) -> Vec<Value>;
    /// Takes such a state back into a slot that is open.
    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError>;
    /// Whether the state outlives the rows that made it, so that its group must be kept.
    fn forever(&self) -> bool {
        false
    }
}

/// Compiles an aggregate whose argument reads rows as `columns` says.
pub(super) fn new(plan: &Plan, columns: &[usize]) -> Box<dyn Aggregate> {
    use AggregateFunction as F;
    let argument = plan
        .argument
        .as_ref()
        .map(|expr| (compile(expr, columns), expr.ty));
    let Some((argument, ty)) = argument else {
        return Box::new(count::Rows::default());
    };
    match (plan.function, argument) {
        (F::Count, argument) => Box::new(count::Values::new(argument)),
        (F::Sum, Compiled::Int(x)) => Box::new(sum::Integers::new(x, sum::Wanted::Sum)),
        (F::Avg, Compiled::Int(x)) => Box::new(sum::Integers::new(x, sum::Wanted::Mean)),
        (F::Sum, Compiled::Float(x)) => Box::new(sum::Floats::new(x, sum::Wanted::Sum)),
        (F::Avg, Compiled::Float(x)) => Box::new(sum::Floats::new(x, sum::Wanted::Mean)),
        (F::StdDev, argument) => Box::new(moments::StdDev::new(argument)),
        (F::Min, argument) => Box::new(extreme::Extreme::new(argument, extreme::Wanted::Min)),
        (F::Max, argument) => Box::new(extreme::Extreme::new(argument, extreme::Wanted::Max)),
        (F::First, argument) => Box::new(extreme::Extreme::new(argument, extreme::Wanted::First)),
        (F::Last, argument) => Box::new(extreme::Extreme::new(argument, extreme::Wanted::Last)),
        (F::MinForever, argument) => Box::new(extreme::Forever::new(argument, true)),
        (F::MaxForever, argument) => Box::new(extreme::Forever::new(argument, false)),
        (F::BoolAnd, argument) => Box::new(count::Truth::new(argument, true)),
        (F::BoolOr, argument) => Box::new(count::Truth::new(argument, false)),
        // The binder lets only numbers into these.
        (F::Sum | F::Avg, Compiled::Bool(_) | Compiled::Text(_)) => {
            debug_assert!(false, "sum and avg of {ty}");
            Box::new(count::Rows::default())
        }
    }
}

/// The states of one aggregate by slot.
#[derive(Default)]
pub(super) struct Slots<T> {
    states: Vec<T>,
}

impl<T: Default> Slots<T> {
    pub(super) fn open(&mut self, slot: usize) {
        match self.states.get_mut(slot) {
            Some(state) => *state = T::default(),
            None => self.states.resize_with(slot + 1, T::default),
        }
    }

    #[inline]
    pub(super) fn get(&self, slot: usize) -> Option<&T> {
        self.states.get(slot)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.states.get_mut(slot)
    }

    pub(super) fn clear(&mut self) {
        self.states.clear();
    }
}

const BAD_STATE: StateError = StateError::Inconsistent("an aggregate's state has another form");

fn int_at(state: &[Value], index: usize) -> Result<i64, StateError> {
    state.get(index).and_then(Value::as_int).ok_or(BAD_STATE)
}

fn float_at(state: &[Value], index: usize) -> Result<f64, StateError> {
    match state.get(index) {
        Some(Value::Float(number)) => Ok(*number),
        _ => Err(BAD_STATE),
    }
}

/// What type of thing a float result is when there is nothing to compute from.
fn float_or_null(result: Option<f64>) -> Value {
    result.map_or(Value::Null, Value::finite)
}
