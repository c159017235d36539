//! Calls of analytic functions: each becomes a column behind those of the row.

use sqlparser::ast::{Function as WrittenCall, WindowSpec, WindowType};

use super::super::analytics::{AnalyticFunction, AnalyticSpec};
use super::super::plan::{Analytic, Analytics, Emit, Expr, ExprKind, Flow, Input, Query};
use super::call::Call;
use super::expr::{Bound, Failed, Scope, place, widen};
use super::source::{Origin, OriginKind};
use super::{Binder, Written as WrittenQuery};
use crate::diagnostic::{Diagnostic, Place};
use crate::event::{Type, Value};

/// Where the calls of a clause are gathered.
pub(super) struct List<'a> {
    /// The column of the first of them.
    pub(super) first: usize,
    pub(super) calls: &'a mut Vec<(Analytic, Place)>,
}

/// The calls of a query, with the places of the first ones alike.
#[derive(Default)]
pub(super) struct Calls {
    /// Those in WHERE.
    pub(super) before: Vec<(Analytic, Place)>,
    /// All others.
    pub(super) after: Vec<(Analytic, Place)>,
}

impl Calls {
    /// Where the first one stands.
    pub(super) fn first(&self) -> Option<Place> {
        let first = self.before.first().or(self.after.first());
        first.map(|(_, place)| *place)
    }
}

/// Calls of one query.
const CALLS_MAX: usize = 256;
/// Rows that `lag` looks back.
const LAG_ROWS_MAX: i64 = 10_000;

/// A call of the function `spec`.
pub(super) fn bind(
    scope: &mut Scope<'_>,
    at: Place,
    spec: &AnalyticSpec,
    call: &Call<'_>,
    written: &WrittenCall,
) -> Bound {
    let name = spec.names.first().copied().unwrap_or_default();
    if let Err(why) = &scope.analytics {
        let message = format!("{name} is an analytic function and cannot be used {why}");
        let hint = "compute it in a query of its own, and read that";
        return scope.fail_with(at, message, Some(hint.to_owned()));
    }
    let (least, most) = spec.arguments;
    if !(least..=most).contains(&call.arguments.len()) || call.is_special() {
        let form = spec.doc.split(": ").next().unwrap_or_default();
        let message = format!("this is not a call of {name}");
        return scope.fail_with(at, message, Some(format!("write {form}")));
    }
    let mut inner = Scope {
        path: scope.path,
        sources: scope.sources,
        tables: scope.tables,
        aliases: &[],
        aliases_first: false,
        aggregates: Err("inside an analytic function, which sees single rows"),
        analytics: match &mut scope.analytics {
            Ok(list) => Ok(List {
                first: list.first,
                calls: &mut *list.calls,
            }),
            Err(why) => Err(*why),
        },
        draws: scope.draws,
        elements: scope.elements,
        place: scope.place,
        progress: scope.progress,
        diagnostics: &mut *scope.diagnostics,
    };
    let analytic = analytic(&mut inner, at, spec, call, written)?;
    let ty = analytic.ty;
    let Ok(list) = &mut scope.analytics else {
        return Err(Failed);
    };
    let known = list.calls.iter().position(|(known, _)| *known == analytic);
    let index = known.unwrap_or(list.calls.len());
    if index >= CALLS_MAX {
        let message = format!("more than {CALLS_MAX} analytic functions in one query");
        return scope.fail(at, message);
    }
    if known.is_none() {
        list.calls.push((analytic, at));
    }
    Ok(Expr {
        kind: ExprKind::Column(list.first + index),
        ty,
    })
}

fn analytic(
    scope: &mut Scope<'_>,
    at: Place,
    spec: &AnalyticSpec,
    call: &Call<'_>,
    written: &WrittenCall,
) -> Result<Analytic, Failed> {
    let name = spec.names.first().copied().unwrap_or_default();
    let bound: Vec<Bound> = call.arguments.iter().map(|one| scope.bind(one)).collect();
    let over = over(scope, at, name, written);
    let mut arguments = bound.into_iter().collect::<Result<Vec<Expr>, Failed>>()?;
    let (partition, when) = over?;
    let places: Vec<Place> = call.arguments.iter().map(|one| place(one)).collect();
    let parameter = parameter(scope, spec, &mut arguments, &places)?;
    let first = arguments.first().map(|expr| expr.ty);
    let ty = match spec.function.result_type(first) {
        Ok(ty) => ty,
        Err(wanted) => {
            let found = first.map_or("nothing".to_owned(), |ty| ty.to_string());
            return scope.fail(at, format!("{name} takes {wanted}, found {found}"));
        }
    };
    let mut analytic = Analytic {
        function: spec.function,
        arguments,
        parameter,
        partition,
        when,
        ty,
    };
    fit(scope, at, name, &mut analytic, &places)?;
    Ok(analytic)
}

/// The constant that some functions take, taken out of the arguments.
fn parameter(
    scope: &mut Scope<'_>,
    spec: &AnalyticSpec,
    arguments: &mut Vec<Expr>,
    places: &[Place],
) -> Result<Option<Value>, Failed> {
    let at = places.get(1).copied().unwrap_or_default();
    let taken = match spec.function {
        AnalyticFunction::Lag | AnalyticFunction::Ewma if arguments.len() > 1 => {
            arguments.remove(1).kind
        }
        AnalyticFunction::Lag => return Ok(Some(Value::Int(1))),
        _ => return Ok(None),
    };
    match (spec.function, taken) {
        (AnalyticFunction::Lag, ExprKind::Literal(Value::Int(rows)))
            if (1..=LAG_ROWS_MAX).contains(&rows) =>
        {
            Ok(Some(Value::Int(rows)))
        }
        (AnalyticFunction::Ewma, ExprKind::Literal(weight)) => match weight.as_float() {
            Some(weight) if weight > 0.0 && weight <= 1.0 => Ok(Some(Value::Float(weight))),
            _ => scope.fail(at, "ewma takes a weight above 0 and at most 1 here"),
        },
        (AnalyticFunction::Ewma, _) => scope.fail(
            at,
            "ewma takes a weight above 0 and at most 1 here, a constant",
        ),
        _ => {
            let message = format!("lag takes a number of rows here, from 1 to {LAG_ROWS_MAX}");
            scope.fail(at, message)
        }
    }
}

/// Brings the arguments to the types in which they are computed.
fn fit(
    scope: &mut Scope<'_>,
    at: Place,
    name: &str,
    analytic: &mut Analytic,
    places: &[Place],
) -> Result<(), Failed> {
    match analytic.function {
        AnalyticFunction::Lag | AnalyticFunction::Latest => {
            let ty = scope.common_type(at, analytic.arguments.clone())?;
            widen_all(&mut analytic.arguments, ty);
            analytic.ty = ty;
        }
        AnalyticFunction::Delta | AnalyticFunction::Rate | AnalyticFunction::Ewma => {
            widen_all(&mut analytic.arguments, analytic.ty);
        }
        AnalyticFunction::Accumulated(_) => {
            let conditions = analytic.arguments.iter().zip(places).skip(1);
            for (condition, at) in conditions {
                if condition.ty != Type::Bool && !condition.is_null_literal() {
                    let message = format!("{name} takes a BOOLEAN here, this is {}", condition.ty);
                    return scope.fail(*at, message);
                }
            }
        }
        AnalyticFunction::HadChanged | AnalyticFunction::Changed | AnalyticFunction::RowNumber => {}
    }
    Ok(())
}

fn widen_all(arguments: &mut [Expr], ty: Type) {
    for argument in arguments {
        let taken = std::mem::replace(argument, Expr::null());
        *argument = widen(taken, ty);
    }
}

/// `OVER (PARTITION BY … WHEN …)`; WHEN stands where FILTER does elsewhere.
fn over(
    scope: &mut Scope<'_>,
    at: Place,
    name: &str,
    written: &WrittenCall,
) -> Result<(Vec<Expr>, Option<Expr>), Failed> {
    let none = WindowSpec {
        window_name: None,
        partition_by: Vec::new(),
        order_by: Vec::new(),
        window_frame: None,
    };
    let over = match &written.over {
        None => &none,
        Some(WindowType::WindowSpec(over)) => over,
        Some(WindowType::NamedWindow(_)) => {
            return scope.fail(at, format!("{name} takes OVER (PARTITION BY … WHEN …)"));
        }
    };
    let keys: Vec<Bound> = over
        .partition_by
        .iter()
        .map(|key| scope.bind(key))
        .collect();
    let when = written.filter.as_deref();
    let when = when.map(|when| scope.condition(when, "WHEN"));
    let keys = keys.into_iter().collect::<Result<Vec<Expr>, Failed>>()?;
    let constant = |key: &Expr| matches!(key.kind, ExprKind::Literal(_));
    if let Some(index) = keys.iter().position(constant) {
        let at = over.partition_by.get(index).map_or(at, place);
        return scope.fail(at, "PARTITION BY takes a column or an expression");
    }
    Ok((keys, when.transpose()?))
}

impl Binder<'_> {
    /// The columns that the calls become, unless the query cannot have any.
    pub(super) fn analytics(
        &mut self,
        path: &str,
        calls: Calls,
        origins: &[Origin],
    ) -> Result<Analytics, Failed> {
        let named = |origin: &Origin| matches!(origin.kind, OriginKind::Stream { named: true, .. });
        if let (Some(at), true) = (calls.first(), origins.iter().any(named)) {
            let message = "analytic functions look at rows before the window, and this one is \
                           filled by others";
            let fault = Diagnostic::error(path, at, message);
            let hint = "compute them in the query that fills the window";
            self.diagnostics.push(fault.with_hint(hint));
            return Err(Failed);
        }
        let only = |calls: Vec<(Analytic, Place)>| calls.into_iter().map(|(call, _)| call);
        Ok(Analytics {
            before: only(calls.before).collect(),
            after: only(calls.after).collect(),
        })
    }

    /// Joined rows that leave again would have to be computed backwards.
    pub(super) fn check_analytics(
        &mut self,
        path: &str,
        written: &WrittenQuery,
        query: &Query,
    ) -> Result<(), Failed> {
        let Input::Join(input) = &query.input else {
            return Ok(());
        };
        let leaves = query.flow() == Flow::Sliding || input.join.may_forget_some();
        let looked_at = query.grouping.is_some()
            || query.emit != Emit::Current
            || query.distinct
            || query.shows_snapshots();
        if query.analytics.is_empty() || !leaves || !looked_at {
            return Ok(());
        }
        let message = "analytic functions over a join whose rows leave again: with GROUP BY, \
                       DISTINCT, SNAPSHOT or EXPIRED EVENTS";
        let fault = Diagnostic::error(path, written.query.place, message);
        let hint = "join in a subquery, and compute over what comes out of it";
        self.diagnostics.push(fault.with_hint(hint));
        Err(Failed)
    }
}
