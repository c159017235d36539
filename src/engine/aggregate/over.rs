//! The frame of the aggregates that are told of one value after the other: an argument, what is
//! kept of its values, one state per slot.

use super::super::expr::{Compiled, Env};
use super::super::state::StateError;
use super::hash::hash_of_row;
use super::{Aggregate, Saved, Slots};
use crate::event::Value;

/// What is kept of the values of one group.
pub(super) trait Tally: Default + Send + 'static {
    /// One value as the argument gives it.
    type Item;
    /// What the call says besides its argument.
    type Settings: Clone + Send + 'static;

    fn add(&mut self, item: Self::Item, settings: &Self::Settings);
    /// Takes out what has been added; not called where rows never leave.
    fn remove(&mut self, item: Self::Item, settings: &Self::Settings);
    fn result(&self, settings: &Self::Settings) -> Value;
    fn save(&self) -> Saved<'_>;
    fn load(state: &[Value]) -> Result<Self, StateError>;
}

/// Gives the values of rows; none for a row that is skipped.
pub(super) trait Argument<T>: Clone + Send + 'static {
    fn get(&self, env: &Env<'_>) -> Option<T>;
}

impl Argument<Value> for Compiled {
    #[inline]
    fn get(&self, env: &Env<'_>) -> Option<Value> {
        Some(self.value(env)).filter(|value| !value.is_null())
    }
}

impl Argument<f64> for Compiled {
    #[inline]
    fn get(&self, env: &Env<'_>) -> Option<f64> {
        self.value(env).as_float()
    }
}

/// Two columns, of which neither may be NULL.
impl Argument<(f64, f64)> for (Compiled, Compiled) {
    fn get(&self, env: &Env<'_>) -> Option<(f64, f64)> {
        let (one, other) = self;
        Some((one.value(env).as_float()?, other.value(env).as_float()?))
    }
}

/// A value, and what its row is known by.
pub(super) struct Entered {
    pub(super) value: Value,
    /// The input that the row came with.
    pub(super) seq: u64,
    /// The hash of the whole row, if it is needed.
    pub(super) row: u64,
}

/// Where rows leave in the order in which they came, or never.
impl Argument<Entered> for Compiled {
    #[inline]
    fn get(&self, env: &Env<'_>) -> Option<Entered> {
        let value = Argument::<Value>::get(self, env)?;
        let (seq, row) = (env.moment.seq.0, 0);
        Some(Entered { value, seq, row })
    }
}

/// An argument of rows that leave in any order.
#[derive(Clone)]
pub(super) struct Known(pub(super) Compiled);

impl Argument<Entered> for Known {
    fn get(&self, env: &Env<'_>) -> Option<Entered> {
        let entered: Entered = self.0.get(env)?;
        let row = hash_of_row(env.row);
        Some(Entered { row, ..entered })
    }
}

/// An aggregate that keeps a `T` per group.
pub(super) struct Over<T: Tally, A> {
    argument: A,
    settings: T::Settings,
    slots: Slots<T>,
}

impl<T: Tally, A: Argument<T::Item>> Over<T, A> {
    pub(super) fn boxed(argument: A, settings: T::Settings) -> Box<dyn Aggregate> {
        Box::new(Over::<T, A> {
            argument,
            settings,
            slots: Slots::default(),
        })
    }
}

impl<T: Tally, A: Argument<T::Item>> Aggregate for Over<T, A> {
    fn fresh(&self) -> Box<dyn Aggregate> {
        Over::<T, A>::boxed(self.argument.clone(), self.settings.clone())
    }

    fn open(&mut self, slot: usize) {
        self.slots.open(slot);
    }

    #[inline]
    fn add(&mut self, slot: usize, env: &Env<'_>) {
        if let (Some(item), Some(state)) = (self.argument.get(env), self.slots.get_mut(slot)) {
            state.add(item, &self.settings);
        }
    }

    #[inline]
    fn remove(&mut self, slot: usize, env: &Env<'_>) {
        if let (Some(item), Some(state)) = (self.argument.get(env), self.slots.get_mut(slot)) {
            state.remove(item, &self.settings);
        }
    }

    fn result(&self, slot: usize) -> Value {
        let state = self.slots.get(slot);
        state.map_or(Value::Null, |state| state.result(&self.settings))
    }

    fn clear(&mut self) {
        self.slots.clear();
    }

    fn save(&self, slot: usize) -> Saved<'_> {
        match self.slots.get(slot) {
            Some(state) => state.save(),
            None => Box::new(std::iter::empty()),
        }
    }

    fn load(&mut self, slot: usize, state: &[Value]) -> Result<(), StateError> {
        let state = T::load(state)?;
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = state;
        }
        Ok(())
    }
}
