//! A query: clauses are bound against the stream they read, then against each other.

use std::cell::Cell;
use std::collections::BTreeSet;

use sqlparser::ast::{Expr as Written, SelectItem, SelectItemQualifiedWildcardKind, Spanned};

use super::super::ast;
use super::super::parse::place_of;
use super::super::plan::{
    Aggregate, Emit, Expr, ExprKind, Grouping, Input, Query, SortKey, Stream, StreamId,
    StreamInput, Target,
};
use super::super::windows::plan_window;
use super::expr::{Failed, Scope, place};
use crate::diagnostic::{Diagnostic, Place};

/// What the clauses of one query have become so far.
struct Clauses {
    filter: Option<Expr>,
    keys: Vec<Expr>,
    aggregates: Vec<Aggregate>,
    select: Vec<Expr>,
    names: Vec<String>,
    /// Where each output column was written.
    places: Vec<Place>,
    having: Option<Expr>,
    order_by: Vec<SortKey>,
}

/// A bound query whose target is still a name, and where its output columns stand.
pub(super) struct BoundQuery {
    pub(super) query: Query,
    pub(super) places: Vec<Place>,
}

/// Binds everything but the target, which the caller looks up or defines.
pub(super) fn bind(
    path: &str,
    written: &ast::Query,
    input: StreamId,
    stream: &Stream,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<BoundQuery, Failed> {
    let before = diagnostics.len();
    let window = written.from.window.as_ref().and_then(|call| {
        plan_window(path, call)
            .map_err(|diagnostic| diagnostics.push(diagnostic))
            .ok()
    });
    let clauses = clauses(path, written, stream, diagnostics);
    if written.emit != Emit::Current && window.is_none_or(|window| window.is_batch()) {
        let message = match window {
            None => "EXPIRED EVENTS and ALL EVENTS need a window: without one no row ever leaves",
            Some(_) => "EXPIRED EVENTS of a batch window are not supported by this version",
        };
        if written.from.window.is_none() || window.is_some() {
            diagnostics.push(Diagnostic::error(path, written.place, message));
        }
    }
    if diagnostics.len() > before {
        return Err(Failed);
    }
    let mut clauses = clauses?;
    let grouped = !clauses.keys.is_empty() || !clauses.aggregates.is_empty();
    let mut keep = Vec::new();
    let grouping = grouped.then(|| regroup(&mut clauses));
    let mut grouping = grouping;
    narrow(&mut clauses, grouping.as_mut(), &mut keep);
    let query = Query {
        input: Input::Stream(StreamInput {
            stream: input,
            filter: clauses.filter,
            window,
            behind: None,
            keep,
        }),
        grouping,
        having: clauses.having,
        select: clauses.select,
        order_by: clauses.order_by,
        limit: written.limit,
        offset: written.offset.unwrap_or(0),
        emit: written.emit,
        target: Target::Stream(StreamId(0)),
        partition: None,
        names: clauses.names,
        path: path.to_owned(),
        place: written.place,
    };
    Ok(BoundQuery {
        query,
        places: clauses.places,
    })
}

fn clauses(
    path: &str,
    written: &ast::Query,
    stream: &Stream,
    diagnostics: &mut Vec<Diagnostic>,
) -> Result<Clauses, Failed> {
    let alias = written.from.alias.as_ref().map(|alias| alias.text.as_str());
    let names = [alias, Some(stream.name.as_str())];
    let mut aggregates: Vec<Aggregate> = Vec::new();
    let steps = Cell::new(0);
    let mut scope = Scope {
        place: written.place,
        steps: &steps,
        path,
        names,
        schema: &stream.schema,
        aliases: &[],
        aliases_first: false,
        aggregates: Err("in WHERE, which decides before rows are grouped"),
        diagnostics,
    };
    let filter = written
        .filter
        .as_ref()
        .map(|filter| scope.condition(filter, "WHERE"));
    scope.aggregates = Err("in GROUP BY");
    let keys: Vec<_> = written
        .group_by
        .iter()
        .map(|key| group_key(&mut scope, key))
        .collect();
    scope.aggregates = Ok(&mut aggregates);
    let (columns, failed) = columns(&mut scope, &written.select);
    let aliases: Vec<(String, Expr)> = columns
        .names
        .iter()
        .cloned()
        .zip(columns.exprs.iter().cloned())
        .collect();
    scope.aliases = &aliases;
    let having = written
        .having
        .as_ref()
        .map(|having| scope.condition(having, "HAVING"));
    scope.aliases_first = true;
    let order_by: Vec<_> = written
        .order_by
        .iter()
        .map(|key| sort_key(&mut scope, key))
        .collect();
    if failed {
        return Err(Failed);
    }
    Ok(Clauses {
        filter: filter.transpose()?,
        keys: keys.into_iter().collect::<Result<_, _>>()?,
        select: columns.exprs,
        names: columns.names,
        places: columns.places,
        having: having.transpose()?,
        order_by: order_by.into_iter().collect::<Result<_, _>>()?,
        aggregates,
    })
}

/// Columns of one row.
const COLUMNS_MAX: usize = 1024;

#[derive(Default)]
struct Columns {
    taken: BTreeSet<String>,
    names: Vec<String>,
    exprs: Vec<Expr>,
    places: Vec<Place>,
}

impl Columns {
    /// Two columns of one name would hide each other: later ones get a number.
    fn push(&mut self, name: String, expr: Expr, place: Place) {
        let mut unique = name.clone();
        let mut number = 2;
        while !self.taken.insert(unique.clone()) {
            unique = format!("{name}_{number}");
            number += 1;
        }
        self.names.push(unique);
        self.exprs.push(expr);
        self.places.push(place);
    }
}

/// What is right of the output row, and whether something is not. All faulty items are reported.
fn columns(scope: &mut Scope<'_>, items: &[SelectItem]) -> (Columns, bool) {
    let mut columns = Columns::default();
    let mut failed = false;
    for item in items {
        failed |= select_item(scope, item, &mut columns).is_err();
        if columns.names.len() > COLUMNS_MAX {
            let message = format!("more than {COLUMNS_MAX} columns");
            let too_many: Result<(), Failed> = scope.fail(place_of(item.span()), message);
            return (columns, too_many.is_err());
        }
    }
    (columns, failed)
}

fn select_item(
    scope: &mut Scope<'_>,
    item: &SelectItem,
    columns: &mut Columns,
) -> Result<(), Failed> {
    let at = place_of(item.span());
    match item {
        SelectItem::UnnamedExpr(written) => {
            let expr = scope.bind(written)?;
            columns.push(name_of(written, columns.names.len()), expr, at);
        }
        SelectItem::ExprWithAlias {
            expr: written,
            alias,
        } => {
            if columns.taken.contains(&alias.value) {
                let message = format!("two columns are called '{}'", alias.value);
                return scope.fail(place_of(alias.span), message);
            }
            let expr = scope.bind(written)?;
            columns.push(alias.value.clone(), expr, at);
        }
        SelectItem::Wildcard(_) => every_column(scope, columns, at),
        SelectItem::QualifiedWildcard(kind, _) => {
            let SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
                return scope.fail(at, "only a stream or an alias can stand before '.*'");
            };
            let name = name.to_string();
            if !scope.names.contains(&Some(name.as_str())) {
                return scope.fail(at, format!("unknown stream or alias '{name}'"));
            }
            every_column(scope, columns, at);
        }
        SelectItem::ExprWithAliases { .. } => {
            return scope.fail(at, "a column has one name");
        }
    }
    Ok(())
}

fn every_column(scope: &Scope<'_>, columns: &mut Columns, at: Place) {
    for (index, field) in scope.schema.fields().iter().enumerate() {
        let expr = Expr {
            kind: ExprKind::Column(index),
            ty: field.ty,
        };
        columns.push(field.name.clone(), expr, at);
    }
}

/// The name of a column without AS: the column's own, the function's, or its place.
fn name_of(written: &Written, index: usize) -> String {
    match written {
        Written::Identifier(name) => name.value.clone(),
        Written::CompoundIdentifier(parts) => parts
            .last()
            .map_or_else(String::new, |name| name.value.clone()),
        Written::Function(function) => function.name.to_string().to_lowercase(),
        Written::Nested(inner) => name_of(inner, index),
        _ => format!("column_{}", index + 1),
    }
}

/// A constant is no key; `GROUP BY 1` means something else elsewhere, and nothing here.
fn group_key(scope: &mut Scope<'_>, key: &Written) -> Result<Expr, Failed> {
    let expr = scope.bind(key)?;
    if let ExprKind::Literal(_) = expr.kind {
        return scope.fail(place(key), "GROUP BY takes a column or an expression");
    }
    Ok(expr)
}

fn sort_key(scope: &mut Scope<'_>, key: &ast::OrderBy) -> Result<SortKey, Failed> {
    let expr = scope.bind(&key.expr)?;
    if let ExprKind::Literal(_) = expr.kind {
        return scope.fail(place(&key.expr), "ORDER BY takes a column or an expression");
    }
    // As in PostgreSQL: NULL counts as larger than everything.
    let nulls_first = key.nulls_first.unwrap_or(key.descending);
    Ok(SortKey {
        expr,
        descending: key.descending,
        nulls_first,
    })
}

/// Turns expressions over the input row into expressions over the group row.
fn regroup(clauses: &mut Clauses) -> Grouping {
    let keys = std::mem::take(&mut clauses.keys);
    let aggregates = std::mem::take(&mut clauses.aggregates);
    let mut carried: Vec<usize> = Vec::new();
    let mut rewrite = |expr: &mut Expr| {
        to_group_row(expr, &keys, aggregates.len(), &mut carried);
    };
    clauses.select.iter_mut().for_each(&mut rewrite);
    clauses.having.iter_mut().for_each(&mut rewrite);
    clauses
        .order_by
        .iter_mut()
        .for_each(|key| rewrite(&mut key.expr));
    Grouping {
        keys,
        aggregates,
        carried,
    }
}

fn to_group_row(expr: &mut Expr, keys: &[Expr], aggregates: usize, carried: &mut Vec<usize>) {
    if let Some(index) = keys.iter().position(|key| key == expr) {
        expr.kind = ExprKind::Column(index);
        return;
    }
    match expr.kind {
        ExprKind::Aggregate(index) => expr.kind = ExprKind::Column(keys.len() + index),
        ExprKind::Column(column) => {
            let index = carried
                .iter()
                .position(|known| *known == column)
                .unwrap_or_else(|| {
                    carried.push(column);
                    carried.len() - 1
                });
            expr.kind = ExprKind::Column(keys.len() + aggregates + index);
        }
        _ => {
            for operand in expr.operands_mut() {
                to_group_row(operand, keys, aggregates, carried);
            }
        }
    }
}

/// Finds the columns that are read behind the filter, and renumbers what reads them.
fn narrow(clauses: &mut Clauses, grouping: Option<&mut Grouping>, keep: &mut Vec<usize>) {
    let mut exprs: Vec<&mut Expr> = Vec::new();
    let mut plain: Vec<&mut usize> = Vec::new();
    if let Some(grouping) = grouping {
        exprs.extend(&mut grouping.keys);
        exprs.extend(
            grouping
                .aggregates
                .iter_mut()
                .filter_map(|one| one.argument.as_mut()),
        );
        plain.extend(&mut grouping.carried);
    } else {
        exprs.extend(&mut clauses.select);
        exprs.extend(&mut clauses.having);
        exprs.extend(clauses.order_by.iter_mut().map(|key| &mut key.expr));
    }
    for expr in &mut exprs {
        expr.for_each_column(&mut |column| keep.push(*column));
    }
    keep.extend(plain.iter().map(|column| **column));
    keep.sort_unstable();
    keep.dedup();
    let renumber = |column: &mut usize| {
        *column = keep.binary_search(column).unwrap_or_default();
    };
    for expr in exprs {
        expr.for_each_column(&mut { renumber });
    }
    plain.into_iter().for_each(renumber);
}
