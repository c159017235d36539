//! What each analytic function remembers of the rows before, and what it gives.
//!
//! | function | remembers |
//! | --- | --- |
//! | `lag` | the last values, as many as it looks back, and before them the place of the oldest |
//! | `latest`, `had_changed`, `changed`, `ewma`, `row_number` | the last values |
//! | `delta` | the last value, the last result |
//! | `rate` | the last value, its time, the last result |
//! | `acc_…` | whether it has started; the aggregate itself |

use super::super::aggregate::{self, Aggregate, Leaves};
use super::super::expr::{Compiled, Cx, Env, Operand, compile, predicate};
use super::super::state::StateError;
use crate::event::Value;
use crate::sql::analytics::AnalyticFunction;
use crate::sql::plan::{self, Analytic, Expr};

/// A function with its arguments.
pub(super) enum Function {
    Lag {
        x: Compiled,
        default: Option<Compiled>,
        rows: usize,
    },
    Latest {
        x: Compiled,
        default: Option<Compiled>,
    },
    HadChanged(Vec<Compiled>),
    Changed(Compiled),
    Delta(Compiled),
    Rate(Compiled),
    Ewma {
        x: Compiled,
        weight: f64,
    },
    RowNumber,
    Accumulated {
        start: Option<Operand<bool>>,
        reset: Option<Operand<bool>>,
        aggregate: Box<dyn Aggregate>,
    },
}

impl Function {
    pub(super) fn new(plan: &Analytic, cx: Cx<'_>) -> Function {
        let mut arguments = plan.arguments.iter();
        let argument = |expr: &Expr| compile(expr, cx);
        let null = || compile(&Expr::null(), cx);
        let condition = |expr: &Expr| predicate(expr, cx);
        match plan.function {
            AnalyticFunction::Lag => Function::Lag {
                x: arguments.next().map_or_else(null, argument),
                default: arguments.next().map(argument),
                rows: plan
                    .parameter
                    .as_ref()
                    .and_then(Value::as_int)
                    .and_then(|rows| usize::try_from(rows).ok())
                    .unwrap_or(1),
            },
            AnalyticFunction::Latest => Function::Latest {
                x: arguments.next().map_or_else(null, argument),
                default: arguments.next().map(argument),
            },
            AnalyticFunction::HadChanged => Function::HadChanged(arguments.map(argument).collect()),
            AnalyticFunction::Changed => {
                Function::Changed(arguments.next().map_or_else(null, argument))
            }
            AnalyticFunction::Delta => {
                Function::Delta(arguments.next().map_or_else(null, argument))
            }
            AnalyticFunction::Rate => Function::Rate(arguments.next().map_or_else(null, argument)),
            AnalyticFunction::Ewma => Function::Ewma {
                x: arguments.next().map_or_else(null, argument),
                weight: plan
                    .parameter
                    .as_ref()
                    .and_then(Value::as_float)
                    .unwrap_or(1.0),
            },
            AnalyticFunction::RowNumber => Function::RowNumber,
            AnalyticFunction::Accumulated(function) => {
                let over = arguments.next();
                let like = plan::Aggregate {
                    function,
                    arguments: over.cloned().into_iter().collect(),
                    parameter: None,
                    distinct: false,
                    filter: None,
                    ty: plan.ty,
                };
                Function::Accumulated {
                    start: arguments.next().map(condition),
                    reset: arguments.next().map(condition),
                    aggregate: aggregate::new(&like, cx, Leaves::Never),
                }
            }
        }
    }

    /// The same with nothing to remember.
    pub(super) fn fresh(&self) -> Function {
        match self {
            Function::Lag { x, default, rows } => Function::Lag {
                x: x.clone(),
                default: default.clone(),
                rows: *rows,
            },
            Function::Latest { x, default } => Function::Latest {
                x: x.clone(),
                default: default.clone(),
            },
            Function::HadChanged(all) => Function::HadChanged(all.clone()),
            Function::Changed(x) => Function::Changed(x.clone()),
            Function::Delta(x) => Function::Delta(x.clone()),
            Function::Rate(x) => Function::Rate(x.clone()),
            Function::Ewma { x, weight } => Function::Ewma {
                x: x.clone(),
                weight: *weight,
            },
            Function::RowNumber => Function::RowNumber,
            Function::Accumulated {
                start,
                reset,
                aggregate,
            } => Function::Accumulated {
                start: start.clone(),
                reset: reset.clone(),
                aggregate: aggregate.fresh(),
            },
        }
    }

    /// A key is new.
    pub(super) fn open(&mut self, place: usize) {
        if let Function::Accumulated { aggregate, .. } = self {
            aggregate.open(place);
        }
    }

    /// The result for a row that counts, which is then remembered.
    pub(super) fn next(&mut self, place: usize, state: &mut Vec<Value>, env: &Env<'_>) -> Value {
        match self {
            Function::Lag { x, default, rows } => {
                let found = looked_back(state, *rows, default.as_ref(), env);
                remember(state, *rows, x.value(env));
                found
            }
            Function::Latest { x, default } => {
                let x = x.value(env);
                if x.is_null() {
                    return latest(state, default.as_ref(), env);
                }
                set(state, [x.clone()]);
                x
            }
            Function::HadChanged(all) => Value::Bool(had_changed(state, all, env)),
            Function::Changed(x) => {
                let x = x.value(env);
                if state.first().unwrap_or(&Value::Null) == &x {
                    return Value::Null;
                }
                set(state, [x.clone()]);
                x
            }
            Function::Delta(x) => delta(state, x.value(env), env),
            Function::Rate(x) => rate(state, x.value(env), env),
            Function::Ewma { x, weight } => {
                let known = state.first().and_then(Value::as_float);
                match (x.value(env).as_float(), known) {
                    (None, _) => {}
                    (Some(x), None) => set(state, [Value::finite(x)]),
                    (Some(x), Some(known)) => {
                        set(state, [Value::finite(known + *weight * (x - known))]);
                    }
                }
                state.first().cloned().unwrap_or_default()
            }
            Function::RowNumber => {
                let number = state.first().and_then(Value::as_int).unwrap_or(0) + 1;
                set(state, [Value::Int(number)]);
                Value::Int(number)
            }
            Function::Accumulated {
                start,
                reset,
                aggregate,
            } => {
                let holds = |condition: &Operand<bool>| condition.get(env) == Some(true);
                if reset.as_ref().is_some_and(holds) {
                    aggregate.open(place);
                    state.clear();
                }
                if state.is_empty() && start.as_ref().is_none_or(holds) {
                    state.push(Value::Bool(true));
                }
                if !state.is_empty() {
                    aggregate.add(place, env);
                }
                aggregate.result(place)
            }
        }
    }

    /// The result for a row that does not count: what is known of those that did.
    pub(super) fn last(&self, place: usize, state: &[Value], env: &Env<'_>) -> Value {
        match self {
            Function::Lag { default, rows, .. } => looked_back(state, *rows, default.as_ref(), env),
            Function::Latest { default, .. } => latest(state, default.as_ref(), env),
            Function::HadChanged(_) => Value::Bool(false),
            Function::Changed(_) => Value::Null,
            Function::Delta(_) | Function::Rate(_) | Function::Ewma { .. } => {
                state.last().cloned().unwrap_or_default()
            }
            Function::RowNumber => state.first().cloned().unwrap_or(Value::Int(0)),
            Function::Accumulated { aggregate, .. } => aggregate.result(place),
        }
    }

    /// The aggregate of a key, for a checkpoint.
    pub(super) fn save(&self, place: usize) -> Vec<Value> {
        match self {
            Function::Accumulated { aggregate, .. } => aggregate.save(place).collect(),
            _ => Vec::new(),
        }
    }

    /// Takes it back, for a key that is open.
    pub(super) fn load(&mut self, place: usize, state: &[Value]) -> Result<(), StateError> {
        match self {
            Function::Accumulated { aggregate, .. } => aggregate.load(place, state),
            _ => Ok(()),
        }
    }
}

fn set<const N: usize>(state: &mut Vec<Value>, values: [Value; N]) {
    state.clear();
    state.extend(values);
}

/// The value that stands `rows` back, or the default.
fn looked_back(state: &[Value], rows: usize, default: Option<&Compiled>, env: &Env<'_>) -> Value {
    let otherwise = || default.map_or(Value::Null, |default| default.value(env));
    if state.len() <= rows && !(rows == 1 && state.len() == 1) {
        return otherwise();
    }
    state.get(oldest(state, rows)).cloned().unwrap_or_default()
}

/// Where the oldest of `rows` values stands, when there are so many.
fn oldest(state: &[Value], rows: usize) -> usize {
    if rows == 1 {
        return 0;
    }
    let place = state.first().and_then(Value::as_int).unwrap_or(1);
    usize::try_from(place).unwrap_or(1)
}

/// Puts a value behind the others, in place of the oldest when there are `rows` already.
fn remember(state: &mut Vec<Value>, rows: usize, x: Value) {
    if rows == 1 {
        set(state, [x]);
        return;
    }
    if state.is_empty() {
        // The place of the oldest.
        state.push(Value::Int(1));
    }
    if state.len() <= rows {
        state.push(x);
        return;
    }
    let place = oldest(state, rows);
    if let Some(known) = state.get_mut(place) {
        *known = x;
    }
    let next = if place >= rows { 1 } else { place + 1 };
    if let Some(first) = state.first_mut() {
        *first = Value::Int(i64::try_from(next).unwrap_or(1));
    }
}

fn latest(state: &[Value], default: Option<&Compiled>, env: &Env<'_>) -> Value {
    match (state.first(), default) {
        (Some(known), _) => known.clone(),
        (None, Some(default)) => default.value(env),
        (None, None) => Value::Null,
    }
}

fn had_changed(state: &mut Vec<Value>, all: &[Compiled], env: &Env<'_>) -> bool {
    state.resize(all.len(), Value::Null);
    let mut changed = false;
    for (x, known) in all.iter().zip(state) {
        let x = x.value(env);
        changed |= x != *known;
        *known = x;
    }
    changed
}

fn delta(state: &mut Vec<Value>, x: Value, env: &Env<'_>) -> Value {
    let result = match (state.first(), &x) {
        (Some(Value::Int(known)), Value::Int(x)) => env
            .or_fault(x.checked_sub(*known))
            .map_or(Value::Null, Value::Int),
        (Some(known), x) => match (known.as_float(), x.as_float()) {
            (Some(known), Some(x)) => Value::finite(x - known),
            _ => Value::Null,
        },
        (None, _) => Value::Null,
    };
    if x.is_null() {
        if let Some(last) = state.get_mut(1) {
            *last = Value::Null;
        }
    } else {
        set(state, [x, result.clone()]);
    }
    result
}

fn rate(state: &mut Vec<Value>, x: Value, env: &Env<'_>) -> Value {
    let Some(now) = x.as_float() else {
        if let Some(last) = state.get_mut(2) {
            *last = Value::Null;
        }
        return Value::Null;
    };
    let known = state.first().and_then(Value::as_float);
    let time = state.get(1).and_then(Value::as_int);
    let result = match (known, time) {
        (Some(known), Some(time)) if env.moment.time.0 > time => {
            #[expect(clippy::cast_precision_loss, reason = "a span of time within 2^53 ms")]
            let span_ms = env.moment.time.0.saturating_sub(time) as f64;
            Value::finite((now - known) * 1000.0 / span_ms)
        }
        _ => Value::Null,
    };
    set(state, [x, Value::Int(env.moment.time.0), result.clone()]);
    result
}
