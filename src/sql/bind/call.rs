//! Calls: scalar functions and aggregates.

use sqlparser::ast::{
    DuplicateTreatment, Expr as Written, Function as WrittenCall, FunctionArg, FunctionArgExpr,
    FunctionArguments,
};

use super::super::aggregates::{AGGREGATES, AggregateFunction, aggregate_named};
use super::super::analytics::{ANALYTICS, analytic_named};
use super::super::functions::{
    self, Argument, Function, Parameter, Reads, Returns, function_named, site_number,
};
use super::super::parse::place_of;
use super::super::plan::{Expr, ExprKind};
use super::super::types::type_named;
use super::aggregate;
use super::analytic;
use super::expr::{Bound, Failed, Scope, place, widen};
use super::fold::fold;
use crate::diagnostic::{Place, did_you_mean};
use crate::event::{Type, Value};

/// The arguments of a call as written.
#[derive(Default)]
pub(super) struct Call<'a> {
    star: bool,
    pub(super) distinct: bool,
    pub(super) arguments: Vec<&'a Written>,
}

impl Call<'_> {
    /// Whether it has what only aggregates have.
    pub(super) fn is_special(&self) -> bool {
        self.star || self.distinct
    }
}

/// The analytic function that is like an aggregate.
fn accumulated(name: &str) -> Option<String> {
    let similar = format!("acc_{name}");
    analytic_named(&similar).map(|spec| format!("did you mean '{}'?", spec.names.concat()))
}

/// `event_time(alias)`: the time of a source's row. Of joined rows only the later time is known.
fn event_time(scope: &mut Scope<'_>, at: Place, arguments: &[&Written]) -> Bound {
    let [Written::Identifier(source)] = arguments else {
        return scope.fail(at, "event_time takes the name or alias of a stream");
    };
    if scope.source_named(&source.value).is_none() {
        let known = scope.sources.iter().flat_map(|source| source.names);
        let hint = did_you_mean(&source.value, known.flatten());
        let message = format!("unknown stream or alias '{}'", source.value);
        return scope.fail_with(place_of(source.span), message, hint);
    }
    if scope.sources.len() > 1 {
        let message = "event_time of one side of a join is not supported by this version";
        let hint = "event_timestamp() is the time of the joined row, that of its later side";
        return scope.fail_with(at, message, Some(hint.to_owned()));
    }
    scalar(scope, at, "event_timestamp", &[])
}

pub(super) fn bind(scope: &mut Scope<'_>, written: &Written, call: &WrittenCall) -> Bound {
    let at = place(written);
    let name = call.name.to_string();
    let analytic = analytic_named(&name);
    if call.over.is_some() && analytic.is_none() {
        let message = format!("OVER belongs to an analytic function, {name} is none");
        let known = ANALYTICS.iter().flat_map(|spec| spec.names).copied();
        let hint = did_you_mean(&name, known);
        let hint = hint.or_else(|| accumulated(&name));
        return scope.fail_with(at, message, hint);
    }
    if !call.within_group.is_empty() || call.null_treatment.is_some() {
        return scope.fail(
            at,
            format!("this form of {name} is not supported by this version"),
        );
    }
    let arguments = arguments(scope, at, &name, call)?;
    if name.eq_ignore_ascii_case("event_time") && scope.elements.is_some() {
        return scope.element_time(at, &arguments.arguments);
    }
    if name.eq_ignore_ascii_case("event_time") {
        return event_time(scope, at, &arguments.arguments);
    }
    if let Some(spec) = analytic {
        return analytic::bind(scope, at, spec, &arguments, call);
    }
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
    if function_named(name).is_none() {
        let known = functions::all()
            .flat_map(|function| function.names)
            .chain(AGGREGATES.iter().flat_map(|spec| spec.names))
            .chain(ANALYTICS.iter().flat_map(|spec| spec.names))
            .copied();
        let hint = did_you_mean(name, known);
        return scope.fail_with(at, format!("unknown function '{name}'"), hint);
    }
    let bound = bound.into_iter().collect::<Result<Vec<Expr>, Failed>>()?;
    let places = written.iter().map(|written| place(written));
    apply(scope, at, name, bound.into_iter().zip(places).collect())
}

/// The function `name` over arguments that have been bound, with their places.
pub(super) fn apply(
    scope: &mut Scope<'_>,
    at: Place,
    name: &str,
    bound: Vec<(Expr, Place)>,
) -> Bound {
    let Some(function) = function_named(name) else {
        return scope.fail(at, format!("unknown function '{name}'"));
    };
    if !takes(function, bound.len()) {
        let message = format!("{name} takes {}, found {}", how_many(function), bound.len());
        return scope.fail_with(at, message, Some(function.doc.to_owned()));
    }
    let same: Vec<Expr> = parameters(function)
        .zip(&bound)
        .filter(|(parameter, _)| *parameter == Parameter::Same)
        .map(|(_, (expr, _))| expr.clone())
        .collect();
    let same = scope.common_type(at, same)?;
    let mut arguments = Vec::with_capacity(bound.len());
    for (index, (parameter, (expr, at))) in parameters(function).zip(bound).enumerate() {
        match fit(parameter, &expr, same) {
            Ok(ty) => arguments.push(widen(expr, ty)),
            Err(_) if expr.is_null_literal() => arguments.push(expr),
            Err(wanted) => {
                let name = function.names.first().copied().unwrap_or_default();
                let parameter = function.parameter_name(index);
                let found = expr.ty;
                let message = format!("{name} takes {wanted} as '{parameter}', this is {found}");
                return scope.fail_with(at, message, Some(function.doc.to_owned()));
            }
        }
    }
    let given: Vec<Argument<'_>> = arguments.iter().map(Argument::of).collect();
    if let Some(Err(why)) = function.prepare.map(|prepare| prepare(&given)) {
        return scope.fail(at, format!("{name}: {why}"));
    }
    let ty = match function.signature.result {
        Returns::Fixed(ty) => ty,
        Returns::First => arguments.first().map_or(Type::String, |expr| expr.ty),
        Returns::Same => same,
        Returns::Named => {
            let name = given.get(1).and_then(|argument| argument.constant);
            name.and_then(Value::as_str)
                .and_then(type_named)
                .unwrap_or(Type::String)
        }
    };
    if function.reads == Reads::Position {
        if let Err(why) = scope.draws {
            let message = format!("{name} cannot be used {why}: it gives something else each time");
            let hint = Some("compute it in a subquery".to_owned());
            return scope.fail_with(at, message, hint);
        }
        let at = if at.line == 0 { scope.place } else { at };
        arguments.push(site(scope.path, at));
    }
    Ok(fold(Expr {
        kind: ExprKind::Call(function, arguments),
        ty,
    }))
}

/// What is added to a call that is told from others by where it is written.
fn site(path: &str, at: Place) -> Expr {
    Expr {
        kind: ExprKind::Literal(Value::Int(site_number(path, at.line, at.column))),
        ty: Type::Long,
    }
}

/// Whether the function can be called with so many arguments.
fn takes(function: &Function, count: usize) -> bool {
    let signature = function.signature;
    let most = signature.parameters.len();
    match signature.repeats {
        0 => (most - signature.optional..=most).contains(&count),
        repeats => {
            count >= most - signature.optional && (count + repeats - most % repeats) % repeats == 0
        }
    }
}

fn parameters(function: &Function) -> impl Iterator<Item = Parameter> + '_ {
    let all = function.signature.parameters;
    let first = all.len().saturating_sub(function.signature.repeats);
    let again = all.get(first..).unwrap_or_default();
    all.iter().chain(again.iter().cycle()).copied()
}

/// The type in which a parameter takes an argument, or what it takes.
fn fit(parameter: Parameter, expr: &Expr, same: Type) -> Result<Type, &'static str> {
    let ty = expr.ty;
    match parameter {
        Parameter::Number if ty.is_numeric() => Ok(ty),
        Parameter::Double if ty.is_numeric() => Ok(Type::Double),
        Parameter::Number | Parameter::Double => Err("a number"),
        Parameter::Integer if matches!(ty, Type::Int | Type::Long) => Ok(ty),
        Parameter::Integer => Err("an integer"),
        Parameter::Text if ty == Type::String => Ok(ty),
        Parameter::Text => Err("a STRING"),
        Parameter::Raw if matches!(ty, Type::String | Type::Bytes) => Ok(ty),
        Parameter::Raw => Err("a STRING or BYTES"),
        Parameter::Json if matches!(ty, Type::String | Type::Json) => Ok(Type::Json),
        Parameter::Json => Err("JSON"),
        Parameter::Step if matches!(ty, Type::String | Type::Int | Type::Long) => Ok(ty),
        Parameter::Step => Err("a name or a number"),
        Parameter::Bool if ty == Type::Bool => Ok(ty),
        Parameter::Bool => Err("a BOOLEAN"),
        Parameter::Time if ty.is_integral() => Ok(Type::Timestamp),
        Parameter::Time => Err("a TIMESTAMP"),
        Parameter::AsText => Ok(Type::String),
        Parameter::Any => Ok(ty),
        Parameter::Same => Ok(same),
    }
}

fn how_many(function: &Function) -> String {
    let signature = function.signature;
    let most = signature.parameters.len();
    let least = most - signature.optional;
    let plural = |number: usize| if number == 1 { "" } else { "s" };
    if signature.repeats > 1 {
        "pairs of arguments".to_owned()
    } else if signature.repeats == 1 {
        format!("at least {least} argument{}", plural(least))
    } else if least == most {
        format!("{most} argument{}", plural(most))
    } else {
        format!("{least} to {most} arguments")
    }
}
