//! Which structure an aggregate of a plan gets.

use super::super::expr::{Compiled, Cx, compile, predicate};
use super::collect::{Bounded, Form, Json, List, Set};
use super::distinct::{self, Distinct};
use super::extreme::{self, Keeps, Wanted};
use super::filtered::Filtered;
use super::frequency::{self, Frequencies};
use super::hyperloglog::{Growing, Sliding};
use super::moments::{Line, Moments, Spread};
use super::ordered::{Border, Entries, Extreme};
use super::over::{Known, Over};
use super::percentile::{Limit, Ranked, Share};
use super::tdigest::Digest;
use super::{Aggregate, Leaves, count, sum};
use crate::event::{Type, Value};
use crate::sql::aggregates::AggregateFunction as F;
use crate::sql::plan::Aggregate as Plan;

use std::collections::VecDeque;

/// Compiles an aggregate whose arguments read rows as `cx` says.
pub(in super::super) fn new(plan: &Plan, cx: Cx<'_>, leaves: Leaves) -> Box<dyn Aggregate> {
    let arguments = plan.arguments.iter().map(|expr| compile(expr, cx));
    let arguments: Vec<Compiled> = arguments.collect();
    let aggregate = match arguments.as_slice() {
        [] => Box::new(count::Rows::default()),
        [x] if plan.distinct => distinct(plan, x.clone(), leaves),
        [x] => of_one(plan, x.clone(), leaves),
        [y, x, ..] => of_two(plan.function, y.clone(), x.clone()),
    };
    match &plan.filter {
        Some(filter) => Box::new(Filtered::new(predicate(filter, cx), aggregate)),
        None => aggregate,
    }
}

fn distinct(plan: &Plan, x: Compiled, leaves: Leaves) -> Box<dyn Aggregate> {
    match plan.function {
        F::Count => Over::<distinct::Count, _>::boxed(x, ()),
        // They give the values in order, each once.
        F::StringAgg => set(x, joined(plan), leaves),
        _ => {
            let leaves = match leaves {
                Leaves::Never => Leaves::Never,
                Leaves::InOrder | Leaves::AnyOrder => Leaves::AnyOrder,
            };
            Box::new(Distinct::new(x.clone(), of_one(plan, x, leaves)))
        }
    }
}

fn of_two(function: F, y: Compiled, x: Compiled) -> Box<dyn Aggregate> {
    let wanted = if function == F::Corr {
        Line::Correlation
    } else {
        Line::Slope
    };
    Over::<super::moments::Pairs, _>::boxed((y, x), wanted)
}

fn of_one(plan: &Plan, x: Compiled, leaves: Leaves) -> Box<dyn Aggregate> {
    let function = plan.function;
    match function {
        F::Count => Box::new(count::Values::new(x)),
        F::Sum => sum_of(x, sum::Wanted::Sum),
        F::Avg => sum_of(x, sum::Wanted::Mean),
        F::Min => extreme(x, Wanted::Min, leaves),
        F::Max => extreme(x, Wanted::Max, leaves),
        F::First => extreme(x, Wanted::First, leaves),
        F::Last => extreme(x, Wanted::Last, leaves),
        F::MinForever => extreme::new(x, Wanted::Min, Keeps::Forever),
        F::MaxForever => extreme::new(x, Wanted::Max, Keeps::Forever),
        F::BoolAnd => Box::new(count::Truth::new(x, true)),
        F::BoolOr => Box::new(count::Truth::new(x, false)),
        F::StdDev => Over::<Moments, _>::boxed(x, Spread::new(false, true)),
        F::StdDevSamp => Over::<Moments, _>::boxed(x, Spread::new(true, true)),
        F::VarPop => Over::<Moments, _>::boxed(x, Spread::new(false, false)),
        F::VarSamp => Over::<Moments, _>::boxed(x, Spread::new(true, false)),
        F::CollectSet => set(x, Form::Json(json(plan)), leaves),
        F::CollectList => list(x, Form::Json(json(plan)), leaves),
        F::StringAgg => list(x, joined(plan), leaves),
        F::Percentile => Over::<Ranked, _>::boxed(x, share(plan, Limit::None)),
        F::ApproxPercentile if leaves == Leaves::Never => {
            Over::<Digest, _>::boxed(x, share(plan, Limit::None))
        }
        F::ApproxPercentile => Over::<Ranked, _>::boxed(x, share(plan, Limit::Coarse)),
        F::ApproxCountDistinct if leaves == Leaves::Never => Over::<Growing, _>::boxed(x, ()),
        F::ApproxCountDistinct => Over::<Sliding, _>::boxed(x, ()),
        F::Mode => Over::<Frequencies, _>::boxed(x, frequency::Wanted::Mode),
        F::TopK => {
            let most = plan.parameter.as_ref().and_then(Value::as_int);
            let most = most.and_then(|most| usize::try_from(most).ok());
            let wanted = frequency::Wanted::Top(most.unwrap_or(1), json(plan));
            Over::<Frequencies, _>::boxed(x, wanted)
        }
        // The binder gives them two arguments.
        F::Corr | F::RegrSlope => of_two(function, x.clone(), x),
    }
}

fn sum_of(x: Compiled, wanted: sum::Wanted) -> Box<dyn Aggregate> {
    match x {
        Compiled::Int(x) => Box::new(sum::Integers::new(x, wanted)),
        Compiled::Float(x) => Box::new(sum::Floats::new(x, wanted)),
        // The binder lets only numbers into these.
        Compiled::Bool(_) | Compiled::Text(_) | Compiled::Bytes(_) => {
            debug_assert!(false, "a sum of what is no number");
            Box::new(count::Rows::default())
        }
    }
}

fn extreme(x: Compiled, wanted: Wanted, leaves: Leaves) -> Box<dyn Aggregate> {
    match (leaves, wanted) {
        (Leaves::Never, _) => extreme::new(x, wanted, Keeps::Best),
        (Leaves::InOrder, _) => extreme::new(x, wanted, Keeps::Candidates),
        (Leaves::AnyOrder, Wanted::Min | Wanted::Max) => Over::<Extreme, _>::boxed(x, wanted),
        (Leaves::AnyOrder, Wanted::First | Wanted::Last) => {
            Over::<Border, _>::boxed(Known(x), wanted)
        }
    }
}

fn set(x: Compiled, form: Form, leaves: Leaves) -> Box<dyn Aggregate> {
    match leaves {
        Leaves::Never => Over::<Bounded<Set>, _>::boxed(x, form),
        Leaves::InOrder | Leaves::AnyOrder => Over::<Set, _>::boxed(x, form),
    }
}

fn list(x: Compiled, form: Form, leaves: Leaves) -> Box<dyn Aggregate> {
    match leaves {
        Leaves::Never => Over::<Bounded<List<VecDeque<Value>>>, _>::boxed(x, form),
        Leaves::InOrder => Over::<List<VecDeque<Value>>, _>::boxed(x, form),
        Leaves::AnyOrder => Over::<List<Entries>, _>::boxed(Known(x), form),
    }
}

fn json(plan: &Plan) -> Json {
    let argument = plan.arguments.first();
    Json {
        raw: argument.is_some_and(|argument| argument.ty == Type::Json),
    }
}

fn joined(plan: &Plan) -> Form {
    let separator = plan.parameter.as_ref().and_then(Value::as_str);
    Form::Joined(separator.unwrap_or_default().into())
}

fn share(plan: &Plan, limit: Limit) -> Share {
    let part = plan.parameter.as_ref().and_then(Value::as_float);
    Share {
        part: part.unwrap_or(0.5),
        limit,
    }
}
