//! What gets the rows: a stream, or a table.

use std::sync::Arc;

use super::super::ast::{self, IntoKind};
use super::super::plan::{
    CompareOp, Expr, ExprKind, Match, Query, StreamId, TableId, Target, Write,
};
use super::super::types;
use super::expr::{self, Failed, Scope, place};
use super::join::{all_of, conjuncts, span, unwiden};
use super::names::Named;
use super::pattern;
use super::query::Clauses;
use super::{Binder, Relation, Written};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::event::{Field, Schema, Type, Value};

/// UPSERT, UPDATE or DELETE. Expressions are over the columns of all sources and behind them
/// those of the table.
pub(super) struct TableWrite {
    table: TableId,
    kind: Kind,
    on: Vec<Expr>,
}

enum Kind {
    Upsert,
    Update(Vec<(usize, Expr)>),
    Delete,
}

/// The table that a statement changes.
fn table(
    scope: &mut Scope<'_>,
    name: &ast::Name,
) -> Result<(TableId, Arc<Schema>, Vec<usize>), Failed> {
    let tables = scope.tables;
    let found = tables.iter().position(|table| table.name == name.text);
    match found.and_then(|index| Some((TableId(index), tables.get(index)?))) {
        Some((id, table)) => Ok((id, Arc::clone(&table.schema), table.primary_key.clone())),
        None => {
            let known = tables.iter().map(|table| table.name.as_str());
            let hint = did_you_mean(&name.text, known);
            scope.fail_with(name.place, format!("unknown table '{}'", name.text), hint)
        }
    }
}

/// Binds with the table's columns behind those of the sources.
fn with_table<T>(
    scope: &mut Scope<'_>,
    name: &str,
    schema: &Schema,
    bind: impl FnOnce(&mut Scope<'_>) -> Result<T, Failed>,
) -> Result<T, Failed> {
    let mut sources = scope.sources.to_vec();
    let behind = |last: &Named<'_>| last.first + last.schema.width();
    let first = match scope.elements {
        Some(_) => pattern::BEHIND,
        None => sources.last().map_or(0, behind),
    };
    sources.push(Named {
        names: [Some(name), None],
        schema,
        first,
        what: "table",
        alone: true,
    });
    let mut inner = Scope {
        sources: &sources,
        aggregates: Err("in a condition on a table"),
        analytics: Err("in a condition on a table"),
        ..scope.copy()
    };
    bind(&mut inner)
}

/// UPDATE and DELETE.
pub(super) fn change(
    scope: &mut Scope<'_>,
    query: &ast::Query,
    written: &Written,
) -> Result<TableWrite, Failed> {
    let name = &query.into.target;
    let (id, schema, _) = table(scope, name)?;
    if let Some(fault) = name_clash(scope, written, name) {
        return Err(fault);
    }
    with_table(scope, &name.text, &schema, |scope| {
        let mut on = Vec::new();
        if let Some(condition) = &query.select.filter {
            conjuncts(scope.condition(condition, "WHERE")?, &mut on);
        }
        let kind = match &query.into.kind {
            IntoKind::Update(set) => Kind::Update(assignments(scope, &schema, name, set)?),
            _ => Kind::Delete,
        };
        Ok(TableWrite {
            table: id,
            kind,
            on,
        })
    })
}

/// A source that is called like the table would hide it.
fn name_clash(scope: &mut Scope<'_>, written: &Written, table: &ast::Name) -> Option<Failed> {
    let mut sources = scope.sources.iter();
    sources.find(|source| source.shown() == table.text)?;
    let at = written.query.place;
    let message = format!("a source is called '{}' like the table", table.text);
    let hint = Some("give it another name with AS".to_owned());
    scope.fail_with::<()>(at, message, hint).err()
}

fn assignments(
    scope: &mut Scope<'_>,
    schema: &Schema,
    table: &ast::Name,
    set: &[(ast::Name, sqlparser::ast::Expr)],
) -> Result<Vec<(usize, Expr)>, Failed> {
    let mut bound: Vec<(usize, Expr)> = Vec::new();
    for (column, value) in set {
        let index = schema.index_of(&column.text);
        let field = index.and_then(|index| Some((index, schema.fields().get(index)?)));
        let Some((index, field)) = field else {
            let known = schema.fields().iter().map(|field| field.name.as_str());
            let hint = did_you_mean(&column.text, known);
            let message = format!("unknown column '{}' in table '{}'", column.text, table.text);
            return scope.fail_with(column.place, message, hint);
        };
        if bound.iter().any(|(known, _)| *known == index) {
            let message = format!("column '{}' is set twice", column.text);
            return scope.fail(column.place, message);
        }
        let expr = scope.bind(value)?;
        if !expr.is_null_literal() && !types::assignable(expr.ty, field.ty) {
            let message = format!(
                "column '{}' of '{}' is {}, this is {}",
                field.name, table.text, field.ty, expr.ty
            );
            return scope.fail(place(value), message);
        }
        bound.push((index, expr::widen(expr, field.ty)));
    }
    Ok(bound)
}

/// UPSERT; nothing for the other statements.
pub(super) fn upsert(
    scope: &mut Scope<'_>,
    query: &ast::Query,
    written: &Written,
) -> Result<Option<TableWrite>, Failed> {
    let IntoKind::Upsert(condition) = &query.into.kind else {
        return Ok(None);
    };
    let name = &query.into.target;
    let (id, schema, key) = table(scope, name)?;
    let mut on = Vec::new();
    match condition {
        Some(condition) => {
            if let Some(fault) = name_clash(scope, written, name) {
                return Err(fault);
            }
            on = with_table(scope, &name.text, &schema, |scope| {
                let mut on = Vec::new();
                conjuncts(scope.condition(condition, "ON")?, &mut on);
                Ok(on)
            })?;
        }
        None if key.is_empty() => {
            let message = format!("'{}' has no PRIMARY KEY: UPSERT needs ON", name.text);
            return scope.fail(name.place, message);
        }
        None => {}
    }
    Ok(Some(TableWrite {
        table: id,
        kind: Kind::Upsert,
        on,
    }))
}

impl TableWrite {
    /// Puts what the write reads of the sources behind the query's output columns, and renumbers
    /// its expressions: over the query's whole row and behind it the table's. `width`: where the
    /// table's columns have begun so far.
    pub(super) fn hide(mut self, clauses: &mut Clauses, width: usize) -> TableWrite {
        if let Kind::Update(_) | Kind::Delete = self.kind {
            // What reads the sources alone need not be checked for each row of the table.
            let (own, rest) = std::mem::take(&mut self.on)
                .into_iter()
                .partition(|on| span(&mut on.clone()).is_some_and(|(_, high)| high < width));
            self.on = rest;
            clauses.filter = all_of(own);
        }
        let mut exprs: Vec<&mut Expr> = self.on.iter_mut().collect();
        if let Kind::Update(set) = &mut self.kind {
            exprs.extend(set.iter_mut().map(|(_, expr)| expr));
        }
        let mut read: Vec<(usize, usize)> = Vec::new();
        for expr in &mut exprs {
            visit_typed(expr, &mut |column, ty| {
                if column < width && !read.iter().any(|(known, _)| *known == column) {
                    read.push((column, clauses.select.len()));
                    clauses.select.push(Expr {
                        kind: ExprKind::Column(column),
                        ty,
                    });
                }
            });
        }
        if clauses.select.is_empty() {
            // A row has at least one column.
            clauses.select.push(Expr {
                kind: ExprKind::Literal(Value::Bool(true)),
                ty: Type::Bool,
            });
        }
        let behind = clauses.select.len();
        for expr in exprs {
            expr.for_each_column(&mut |column| {
                let hidden = read.iter().find(|(known, _)| known == column);
                *column = match hidden {
                    Some((_, place)) => *place,
                    None => *column - width + behind,
                };
            });
        }
        self
    }

    /// The plan; `width`: the columns of the query's row. Names the columns to be looked up.
    fn plan(self, width: usize, key: &[usize]) -> (Write, Vec<usize>) {
        let mut on = Match::default();
        let mut residual = Vec::new();
        for condition in self.on {
            match lookup(condition, width) {
                Ok(key) => on.keys.push(key),
                Err(other) => residual.push(other),
            }
        }
        on.residual = all_of(residual);
        let mut columns: Vec<usize> = on.keys.iter().map(|(column, _)| *column).collect();
        if let (Kind::Upsert, true) = (&self.kind, columns.is_empty() && on.residual.is_none()) {
            columns = key.to_vec();
        }
        let write = match self.kind {
            Kind::Upsert => Write::Upsert { on },
            Kind::Update(set) => Write::Update { on, set },
            Kind::Delete => Write::Delete { on },
        };
        (write, columns)
    }
}

fn visit_typed(expr: &mut Expr, visit: &mut dyn FnMut(usize, Type)) {
    if let ExprKind::Column(column) = expr.kind {
        visit(column, expr.ty);
    }
    for operand in expr.operands_mut() {
        visit_typed(operand, visit);
    }
}

/// `column of the table = what the query's row gives`.
fn lookup(condition: Expr, width: usize) -> Result<(usize, Expr), Expr> {
    let ExprKind::Compare(CompareOp::Equal, mut x, mut y) = condition.kind else {
        return Err(condition);
    };
    let of_row = |expr: &mut Expr| span(expr).is_none_or(|(_, high)| high < width);
    let (of_x, of_y) = (of_row(&mut x), of_row(&mut y));
    let pair = match (of_x, of_y) {
        (true, false) => Some((unwiden((*x).clone()), unwiden((*y).clone()))),
        (false, true) => Some((unwiden((*y).clone()), unwiden((*x).clone()))),
        _ => None,
    };
    match pair {
        Some((
            value,
            Expr {
                kind: ExprKind::Column(column),
                ..
            },
        )) => Ok((column - width, value)),
        _ => Err(Expr {
            kind: ExprKind::Compare(CompareOp::Equal, x, y),
            ty: condition.ty,
        }),
    }
}

impl Binder<'_> {
    /// Gives a query its target.
    pub(super) fn target(
        &mut self,
        path: &str,
        written: &Written,
        mut query: Query,
        places: &[Place],
        write: Option<TableWrite>,
    ) -> Result<Query, Failed> {
        let into = &written.query.into;
        let name = written.target.as_str();
        if name.starts_with('#') && written.partition.is_none() {
            let message = format!("'{name}' is an inner stream, which stands in a PARTITION");
            return self.refuse(path, into.target.place, message);
        }
        if let Some(write) = write {
            let table = write.table;
            if let Kind::Upsert = write.kind {
                let schema = self.table_schema(table)?;
                self.fit(path, written, &mut query, &schema, places)?;
            }
            let key = self.application.tables.get(table.0);
            let key = key
                .map(|table| table.primary_key.clone())
                .unwrap_or_default();
            let (write, columns) = write.plan(query.select.len(), &key);
            self.index(table, &columns);
            query.target = Target::Table { table, write };
            return Ok(query);
        }
        query.target = match self.relation(name) {
            Some(Relation::Stream(id)) => {
                let mut triggers = self.application.triggers.iter();
                if triggers.any(|trigger| trigger.stream == id) {
                    let message = format!("'{name}' is a trigger: the clock fills it");
                    return self.refuse(path, into.target.place, message);
                }
                let stream = self.application.stream(id).ok_or(Failed)?;
                let schema = Arc::clone(&stream.schema);
                self.fit(path, written, &mut query, &schema, places)?;
                Target::Stream(id)
            }
            Some(Relation::Table(table)) => {
                let schema = self.table_schema(table)?;
                self.fit(path, written, &mut query, &schema, places)?;
                let write = Write::Insert;
                Target::Table { table, write }
            }
            Some(Relation::Aggregation(_)) => {
                let message = format!("'{name}' is an aggregation: it fills itself");
                return self.refuse(path, into.target.place, message);
            }
            None => Target::Stream(self.define(path, written, &query)),
        };
        Ok(query)
    }

    fn table_schema(&self, table: TableId) -> Result<Arc<Schema>, Failed> {
        let table = self.application.tables.get(table.0).ok_or(Failed)?;
        Ok(Arc::clone(&table.schema))
    }

    /// Sees to it that a table can be looked up by these columns.
    pub(super) fn index(&mut self, table: TableId, columns: &[usize]) {
        let Some(table) = self.application.tables.get_mut(table.0) else {
            return;
        };
        let mut wanted = columns.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut key = table.primary_key.clone();
        key.sort_unstable();
        if !wanted.is_empty() && wanted != key && !table.indexes.contains(&wanted) {
            table.indexes.push(wanted);
        }
    }

    /// Columns go to the target by position; count and types must fit.
    fn fit(
        &mut self,
        path: &str,
        written: &Written,
        query: &mut Query,
        schema: &Schema,
        places: &[Place],
    ) -> Result<(), Failed> {
        let target = &written.query.into.target;
        if query.names.len() != schema.width() {
            let message = format!(
                "'{}' has {} columns ({schema}), the query gives {}",
                target.text,
                schema.width(),
                query.names.len()
            );
            return self.refuse(path, target.place, message);
        }
        let mut fits = true;
        for ((expr, field), place) in query.select.iter_mut().zip(schema.fields()).zip(places) {
            if !expr.is_null_literal() && !types::assignable(expr.ty, field.ty) {
                let message = format!(
                    "column '{}' of '{}' is {}, this is {}",
                    field.name, target.text, field.ty, expr.ty
                );
                self.diagnostics
                    .push(Diagnostic::error(path, *place, message));
                fits = false;
                continue;
            }
            let taken = std::mem::replace(expr, Expr::null());
            *expr = expr::widen(taken, field.ty);
        }
        query.names = schema
            .fields()
            .iter()
            .map(|field| field.name.clone())
            .collect();
        if fits { Ok(()) } else { Err(Failed) }
    }

    /// INSERT INTO a stream that is not defined defines it, with the query's columns.
    fn define(&mut self, path: &str, written: &Written, query: &Query) -> StreamId {
        let fields = query
            .names
            .iter()
            .zip(&query.select)
            .map(|(name, expr)| Field {
                name: name.clone(),
                ty: expr.ty,
            })
            .collect();
        let target = &written.query.into.target;
        let name = written.target.clone();
        // A subquery with a PARTITION BY of its own is read by one that stands outside.
        let own = written.partition.is_some();
        let inner = own && (written.private || name.starts_with('#'));
        let id = self.add_stream(path, name, target.place, Arc::new(Schema::new(fields)));
        let partition = query.partition.filter(|_| inner);
        let partition = partition.and_then(|one| self.application.partitions.get_mut(one));
        if let Some(partition) = partition {
            partition.inner.push(id);
        }
        id
    }
}
