//! Calls: scalar functions and aggregates.

use sqlparser::ast::{
    DuplicateTreatment, Expr as Written, Function as WrittenCall, FunctionArg, FunctionArgExpr,
    FunctionArguments,
};

use super::super::aggregates::{AGGREGATES, AggregateFunction, aggregate_named};
use super::super::functions::{self, Function, Parameter, Returns, function_named};
use super::super::plan::{Expr, ExprKind};
use super::aggregate;
use super::expr::{Bound, Failed, Scope, place, widen};
use crate::diagnostic::{Place, did_you_mean};
use crate::event::Type;

/// The arguments of a call as written.
#[derive(Default)]
pub(super) struct Call<'a> {
    star: bool,
    pub(super) distinct: bool,
    pub(super) arguments: Vec<&'a Written>,
}

pub(super) fn bind(scope: &mut Scope<'_>, written: &Written, call: &WrittenCall) -> Bound {
    let at = place(written);
    let name = call.name.to_string();
    if call.over.is_some() {
        return scope.fail(at, "OVER is not supported by this version");
    }
    if !call.within_group.is_empty() || call.null_treatment.is_some() {
        return scope.fail(
            at,
            format!("this form of {name} is not supported by this version"),
        );
    }
    let arguments = arguments(scope, at, &name, call)?;
    // `left`, `first` and the like name one thing only; where both exist, two arguments or more
    // mean the scalar function.
    if let Some(spec) = aggregate_named(&name) {
        if arguments.star && spec.function != AggregateFunction::Count {
            return scope.fail(at, format!("{name}(*) is not known; only count takes '*'"));
        }
        return aggregate::bind(scope, at, spec, &arguments, call.filter.as_deref());
    }
    if call.filter.is_some() || arguments.distinct {
        let word = if arguments.distinct {
            "DISTINCT"
        } else {
            "FILTER"
        };
        return scope.fail(
            at,
            format!("{word} belongs to an aggregate, {name} is none"),
        );
    }
    if arguments.star {
        return scope.fail(at, format!("{name}(*) is not known; only count takes '*'"));
    }
    scalar(scope, at, &name, &arguments.arguments)
}

fn arguments<'a>(
    scope: &mut Scope<'_>,
    at: Place,
    name: &str,
    call: &'a WrittenCall,
) -> Result<Call<'a>, Failed> {
    let list = match &call.args {
        FunctionArguments::None => {
            return Ok(Call::default());
        }
        FunctionArguments::Subquery(_) => {
            return scope.fail(at, "a subquery is not supported by this version");
        }
        FunctionArguments::List(list) => list,
    };
    if !list.clauses.is_empty() {
        return scope.fail(
            at,
            format!("this form of {name} is not supported by this version"),
        );
    }
    let mut found = Call {
        // ALL is what goes without saying.
        distinct: matches!(list.duplicate_treatment, Some(DuplicateTreatment::Distinct)),
        ..Call::default()
    };
    for argument in &list.args {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => found.arguments.push(expr),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if list.args.len() == 1 => {
                found.star = true;
            }
            _ => return scope.fail(at, format!("{name} takes plain arguments")),
        }
    }
    Ok(found)
}

/// A call of the scalar function `name`.
pub(super) fn scalar(scope: &mut Scope<'_>, at: Place, name: &str, written: &[&Written]) -> Bound {
    let bound: Vec<Bound> = written
        .iter()
        .map(|argument| scope.bind(argument))
        .collect();
    let Some(function) = function_named(name) else {
        let known = functions::all()
            .flat_map(|function| function.names)
            .chain(AGGREGATES.iter().flat_map(|spec| spec.names))
            .copied();
        let hint = did_you_mean(name, known);
        return scope.fail_with(at, format!("unknown function '{name}'"), hint);
    };
    let bound = bound.into_iter().collect::<Result<Vec<Expr>, Failed>>()?;
    let signature = function.signature;
    let most = if signature.repeats {
        usize::MAX
    } else {
        signature.parameters.len()
    };
    if bound.len() < signature.parameters.len() - signature.optional || bound.len() > most {
        let message = format!("{name} takes {}, found {}", how_many(function), bound.len());
        return scope.fail_with(at, message, Some(function.doc.to_owned()));
    }
    let same: Vec<Expr> = parameters(function)
        .zip(&bound)
        .filter(|(parameter, _)| *parameter == Parameter::Same)
        .map(|(_, expr)| expr.clone())
        .collect();
    let same = scope.common_type(at, same)?;
    let mut arguments = Vec::with_capacity(bound.len());
    for ((parameter, expr), written) in parameters(function).zip(bound).zip(written) {
        arguments.push(fit(scope, place(written), function, parameter, expr, same)?);
    }
    let ty = match signature.result {
        Returns::Fixed(ty) => ty,
        Returns::First => arguments.first().map_or(Type::String, |expr| expr.ty),
        Returns::Same => same,
    };
    Ok(Expr {
        kind: ExprKind::Call(function, arguments),
        ty,
    })
}

fn parameters(function: &Function) -> impl Iterator<Item = Parameter> + '_ {
    let all = function.signature.parameters;
    let last = if function.signature.repeats {
        all.last()
    } else {
        None
    };
    all.iter()
        .chain(std::iter::repeat_with(move || last).map_while(|last| last))
        .copied()
}

fn fit(
    scope: &mut Scope<'_>,
    at: Place,
    function: &Function,
    parameter: Parameter,
    expr: Expr,
    same: Type,
) -> Bound {
    let null = expr.is_null_literal();
    let (fits, ty, wanted) = match parameter {
        Parameter::Number => (expr.ty.is_numeric(), expr.ty, "a number"),
        Parameter::Double => (expr.ty.is_numeric(), Type::Double, "a number"),
        Parameter::Integer => (
            matches!(expr.ty, Type::Int | Type::Long),
            expr.ty,
            "an integer",
        ),
        Parameter::Text => (expr.ty == Type::String, Type::String, "a STRING"),
        Parameter::Bool => (expr.ty == Type::Bool, Type::Bool, "a BOOLEAN"),
        Parameter::Time => (expr.ty.is_integral(), Type::Timestamp, "a TIMESTAMP"),
        Parameter::AsText => (true, Type::String, "anything"),
        Parameter::Same => (true, same, "one type"),
    };
    if fits || null {
        return Ok(widen(expr, ty));
    }
    let name = function.names.first().copied().unwrap_or_default();
    let message = format!("{name} takes {wanted} here, this is {}", expr.ty);
    scope.fail_with(at, message, Some(function.doc.to_owned()))
}

fn how_many(function: &Function) -> String {
    let signature = function.signature;
    let most = signature.parameters.len();
    let least = most - signature.optional;
    let plural = |number: usize| if number == 1 { "" } else { "s" };
    if signature.repeats {
        format!("at least {least} argument{}", plural(least))
    } else if least == most {
        format!("{most} argument{}", plural(most))
    } else {
        format!("{least} to {most} arguments")
    }
}
