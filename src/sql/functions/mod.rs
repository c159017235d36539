//! The scalar functions. One registry declares each once: names, types, what it does with NULL,
//! how it is computed, a line of documentation and an example that is also a test.

mod math;
mod null;
mod text;
mod time;

pub(crate) use text::to_text;

use crate::event::{Seq, Timestamp, Type, Value};

/// A scalar function.
#[derive(Debug)]
pub struct Function {
    /// Every spelling; the first is the one shown.
    pub names: &'static [&'static str],
    /// How many arguments, and of which types.
    pub signature: Signature,
    /// What a NULL argument does.
    pub nulls: Nulls,
    /// Computes it. `None` is a failure: the result is NULL and the failure is counted.
    pub eval: fn(&Moment, &[Value]) -> Option<Value>,
    /// One line of documentation.
    pub doc: &'static str,
    /// An expression and what it gives.
    pub example: (&'static str, &'static str),
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.names == other.names
    }
}

/// What a NULL among the arguments does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// The result is NULL and nothing is computed.
    Propagate,
    /// The function sees it.
    Handled,
}

/// Which arguments a function takes and what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The arguments by place; the last one repeats when `repeats`.
    pub parameters: &'static [Parameter],
    /// How many of them may be left out at the end.
    pub optional: usize,
    /// Whether the last parameter may be given any number of times more.
    pub repeats: bool,
    /// The result.
    pub result: Returns,
}

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// Any number, unchanged.
    Number,
    /// Any number, widened to DOUBLE.
    Double,
    /// INT or BIGINT.
    Integer,
    /// Text.
    Text,
    /// A truth value.
    Bool,
    /// A point in time: TIMESTAMP, or BIGINT milliseconds.
    Time,
    /// Anything, as `CAST(x AS STRING)` gives it.
    AsText,
    /// Of one type with the other `Same` arguments, after widening.
    Same,
}

/// The type of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Always this one.
    Fixed(Type),
    /// The type of the first argument.
    First,
    /// The type common to the `Same` arguments.
    Same,
}

/// When and where a function is evaluated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// The engine's clock.
    pub now: Timestamp,
    /// The time of the row.
    pub time: Timestamp,
    /// The input that is being worked on.
    pub seq: Seq,
}

/// Every function, group after group.
pub fn all() -> impl Iterator<Item = &'static Function> {
    [
        math::FUNCTIONS,
        text::FUNCTIONS,
        null::FUNCTIONS,
        time::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

/// The function called `name`, whatever its case.
#[must_use]
pub fn function_named(name: &str) -> Option<&'static Function> {
    all().find(|function| {
        function
            .names
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    })
}
