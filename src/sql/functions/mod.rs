//! The scalar functions. One registry declares each once: names, types, what it does with NULL,
//! how it is computed, a line of documentation and an example that is also a test.

mod cast;
mod date;
mod digest;
mod draw;
mod json;
mod kind;
mod like;
mod math;
mod null;
mod regexp;
mod text;
mod time;

pub(crate) use cast::{cast, in_json, to_text};
pub(crate) use draw::site_number;
pub(crate) use like::LikePattern;

use super::plan::{Expr, ExprKind};
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
    /// What the result depends on.
    pub reads: Reads,
    /// Computes it. `None` is a failure: the result is NULL and the failure is counted.
    pub eval: fn(&Moment, &[Value]) -> Option<Value>,
    /// Makes what computes a call, in place of `eval`: for functions that depend on the types of
    /// their arguments, or work on a constant once. What is wrong with a constant is told here.
    pub prepare: Option<Prepare>,
    /// One line of documentation.
    pub doc: &'static str,
    /// An expression and what it gives.
    pub example: (&'static str, &'static str),
}

/// Makes what computes one call.
pub type Prepare = fn(&[Argument<'_>]) -> Result<Prepared, String>;

/// What computes one call; like [`Function::eval`].
pub type Prepared = Box<dyn Fn(&Moment, &[Value]) -> Option<Value> + Send + Sync>;

/// What is known of an argument before there are rows.
#[derive(Clone, Copy, Debug)]
pub struct Argument<'a> {
    /// Its type.
    pub ty: Type,
    /// Its value, when it is a constant.
    pub constant: Option<&'a Value>,
}

impl<'a> Argument<'a> {
    /// What is known of `expr`.
    pub(crate) fn of(expr: &'a Expr) -> Argument<'a> {
        let constant = match &expr.kind {
            ExprKind::Literal(value) => Some(value),
            _ => None,
        };
        Argument {
            ty: expr.ty,
            constant,
        }
    }
}

/// What a result depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// The arguments alone: over constants it is a constant.
    Arguments,
    /// The clock or the row's time, too.
    Moment,
    /// The place in the log, too: every evaluation gives something else, and a replay the same.
    Position,
}

/// What most functions have in common.
const PLAIN: Function = Function {
    names: &[],
    signature: Signature {
        parameters: &[],
        optional: 0,
        repeats: 0,
        result: Returns::First,
    },
    nulls: Nulls::Propagate,
    reads: Reads::Arguments,
    eval: |_, _| None,
    prepare: None,
    doc: "",
    example: ("", ""),
};

impl Function {
    /// What the documentation calls the parameter at `index`.
    pub(crate) fn parameter_name(&self, index: usize) -> &str {
        let list = self
            .doc
            .split_once('(')
            .and_then(|(_, rest)| rest.split_once(')'));
        let names = list.map_or("", |(list, _)| list).split(',');
        let mut names = names
            .map(|name| name.trim_matches(|c: char| !c.is_alphanumeric()))
            .filter(|name| !name.is_empty());
        let last = names.clone().next_back().unwrap_or_default();
        names.nth(index).unwrap_or(last)
    }
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
    /// The arguments by place.
    pub parameters: &'static [Parameter],
    /// How many of them may be left out at the end.
    pub optional: usize,
    /// How many of the last parameters may be given again together, any number of times.
    pub repeats: usize,
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
    /// Text or bytes, unchanged.
    Raw,
    /// JSON; text is read as JSON.
    Json,
    /// A name or a number: a step into JSON.
    Step,
    /// A truth value.
    Bool,
    /// A point in time: TIMESTAMP, or BIGINT milliseconds.
    Time,
    /// Anything, as `CAST(x AS STRING)` gives it.
    AsText,
    /// Anything, unchanged.
    Any,
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
    /// The type that the second argument names, a constant.
    Named,
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
        math::BITS,
        text::FUNCTIONS,
        regexp::FUNCTIONS,
        null::FUNCTIONS,
        kind::FUNCTIONS,
        time::FUNCTIONS,
        date::FUNCTIONS,
        date::PARTS,
        digest::FUNCTIONS,
        draw::FUNCTIONS,
        json::FUNCTIONS,
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
