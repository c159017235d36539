//! Calls of aggregates.

use sqlparser::ast::Expr as Written;

use super::super::aggregates::{AggregateSpec, Distinct, Preset};
use super::super::plan::{Aggregate, Expr, ExprKind};
use super::analytic::List;
use super::call::Call;
use super::expr::{Bound, Failed, Scope, place};
use crate::diagnostic::Place;
use crate::event::{Type, Value};

/// A call of the aggregate `spec`, with its FILTER.
pub(super) fn bind(
    scope: &mut Scope<'_>,
    at: Place,
    spec: &AggregateSpec,
    call: &Call<'_>,
    filter: Option<&Written>,
) -> Bound {
    let name = spec.names.first().copied().unwrap_or_default();
    let mut bound = None;
    if scope.elements.is_some() {
        if let Some(count) = scope.count_of_element(at, spec, call, filter) {
            return count;
        }
        let arguments = arguments(scope, at, spec, call)?;
        if let Some(folded) = scope.folded(at, spec, call, &arguments.0, filter) {
            return folded;
        }
        bound = Some(arguments);
    }
    if let Err(why) = &scope.aggregates {
        let message = format!("{name} is an aggregate and cannot be used {why}");
        let hint = why.starts_with("in WHERE").then(|| "use HAVING".to_owned());
        return scope.fail_with(at, message, hint);
    }
    let distinct = distinct(scope, at, spec, call)?;
    let (arguments, parameter) = match bound {
        Some(bound) => bound,
        None => arguments(scope, at, spec, call)?,
    };
    let filter = filter.map(|filter| inner(scope, |scope| scope.condition(filter, "FILTER")));
    let types: Vec<Type> = arguments.iter().map(|expr| expr.ty).collect();
    let ty = match spec.function.result_type(&types) {
        Ok(ty) => ty,
        Err(wanted) => {
            let found: Vec<String> = types.iter().map(Type::to_string).collect();
            let found = if found.is_empty() {
                "nothing".to_owned()
            } else {
                found.join(" and ")
            };
            return scope.fail(at, format!("{name} takes {wanted}, found {found}"));
        }
    };
    let aggregate = Aggregate {
        function: spec.function,
        arguments,
        parameter,
        distinct,
        filter: filter.transpose()?.filter(super::fold::decides),
        ty,
    };
    let Ok(list) = &mut scope.aggregates else {
        return Err(Failed);
    };
    let index = list
        .iter()
        .position(|known| *known == aggregate)
        .unwrap_or_else(|| {
            list.push(aggregate);
            list.len() - 1
        });
    Ok(Expr {
        kind: ExprKind::Aggregate(index),
        ty,
    })
}

/// Whether equal values count once.
fn distinct(
    scope: &mut Scope<'_>,
    at: Place,
    spec: &AggregateSpec,
    call: &Call<'_>,
) -> Result<bool, Failed> {
    let name = spec.names.first().copied().unwrap_or_default();
    let always = spec.preset == Preset::Distinct;
    if !call.distinct {
        return Ok(always);
    }
    if call.arguments.is_empty() {
        return scope.fail(at, format!("{name}(DISTINCT …) takes one argument"));
    }
    match spec.function.distinct() {
        Distinct::Allowed => Ok(true),
        Distinct::Same => Ok(always),
        Distinct::Refused => scope.fail(at, format!("{name} takes no DISTINCT")),
    }
}

/// What a call reads, and its constant.
fn arguments(
    scope: &mut Scope<'_>,
    at: Place,
    spec: &AggregateSpec,
    call: &Call<'_>,
) -> Result<(Vec<Expr>, Option<Value>), Failed> {
    let name = spec.names.first().copied().unwrap_or_default();
    let written = call.arguments.as_slice();
    let wanted = spec.arguments();
    if written.len() != wanted && !(written.is_empty() && wanted == 1) {
        let plural = if wanted == 1 { "" } else { "s" };
        let count = ["no", "one", "two"].get(wanted).copied().unwrap_or("more");
        let message = format!("{name} takes {count} argument{plural}");
        return scope.fail_with(at, message, Some(form(spec)));
    }
    let mut bound = Vec::with_capacity(written.len());
    for argument in written {
        bound.push(inner(scope, |scope| scope.bind(argument)));
    }
    let mut bound: Vec<Expr> = bound.into_iter().collect::<Result<_, _>>()?;
    if !spec.takes_parameter() {
        return Ok((bound, spec.preset_parameter()));
    }
    let last = bound.pop();
    let parameter = last.and_then(|expr| spec.function.parameter_of(&expr));
    if parameter.is_none() {
        let at = written.last().map_or(at, |last| place(last));
        let what = spec.function.parameter().unwrap_or_default();
        let message = format!("{name} takes {what} here");
        return scope.fail_with(at, message, Some(form(spec)));
    }
    Ok((bound, parameter))
}

/// How a call is written, for a hint.
fn form(spec: &AggregateSpec) -> String {
    format!("write {}", spec.doc.split(": ").next().unwrap_or_default())
}

/// What stands inside an aggregate is over the rows themselves, so no aggregate in it.
fn inner(scope: &mut Scope<'_>, bind: impl FnOnce(&mut Scope<'_>) -> Bound) -> Bound {
    let mut scope = Scope {
        path: scope.path,
        sources: scope.sources,
        tables: scope.tables,
        aliases: &[],
        aliases_first: false,
        aggregates: Err("inside another aggregate"),
        analytics: match &mut scope.analytics {
            Ok(list) => Ok(List {
                first: list.first,
                calls: &mut *list.calls,
            }),
            Err(why) => Err(*why),
        },
        draws: Err("inside an aggregate"),
        elements: scope.elements,
        place: scope.place,
        progress: scope.progress,
        diagnostics: scope.diagnostics,
    };
    bind(&mut scope)
}
