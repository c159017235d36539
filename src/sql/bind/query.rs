//! A query: clauses are bound against the sources they read, then against each other.

use std::collections::BTreeSet;

use sqlparser::ast::{
    Expr as Written, ObjectNamePart, SelectItem, SelectItemQualifiedWildcardKind, Spanned,
};

use super::super::ast::{self, Every, IntoKind};
use super::super::parse::place_of;
use super::super::plan::{
    Aggregate, Analytics, Emit, Expr, ExprKind, Grouping, Input, Keep, Period, Query, Rate,
    SortKey, StreamId, StreamInput, Target, Window,
};
use super::analytic::{Calls, List};
use super::expr::{Failed, Progress, Scope, place};
use super::fold;
use super::join::{self, Sides, Tree};
use super::names::Named;
use super::narrow::Narrow;
use super::pattern::PATTERN_PROPERTIES;
use super::source::{Origin, OriginKind};
use super::target::TableWrite;
use super::{Binder, Written as WrittenQuery};
use crate::diagnostic::{Diagnostic, Place, Severity, did_you_mean};

/// What the clauses of one query have become so far; expressions are over the columns of all
/// sources, one after another.
#[derive(Default)]
pub(super) struct Clauses {
    pub(super) filter: Option<Expr>,
    pub(super) keys: Vec<Expr>,
    pub(super) aggregates: Vec<Aggregate>,
    /// The output columns, and behind them what else is needed of the row.
    pub(super) select: Vec<Expr>,
    /// The names of the output columns.
    pub(super) names: Vec<String>,
    /// Where each output column was written.
    pub(super) places: Vec<Place>,
    pub(super) having: Option<Expr>,
    pub(super) order_by: Vec<SortKey>,
    /// Calls of analytic functions.
    pub(super) calls: Calls,
}

impl Binder<'_> {
    pub(super) fn try_query(
        &mut self,
        path: &str,
        written: &WrittenQuery,
    ) -> Result<Query, Failed> {
        let select = &written.query.select;
        if let ast::From::Pattern(pattern) = &select.from {
            return self.try_pattern(path, written, pattern);
        }
        let before = self.faults();
        let origins = self.origins(path, written)?;
        let partition = self.partition_by(path, written, &origins)?;
        let clauses = self.clauses(path, written, &origins);
        self.check_emit(path, written, &origins);
        if self.faults() > before {
            return Err(Failed);
        }
        self.warn_of_emit(path, written, &origins);
        let Bound {
            clauses,
            mut tree,
            write,
        } = clauses?;
        let width = origins.last().map_or(0, |last| last.columns().end);
        let mut draft = self.draft(path, written, origins, (clauses, write), width)?;
        let input = self.input(path, written, &mut draft, &mut tree)?;
        self.finished(path, written, draft, input, partition)
    }

    /// What has been bound, brought to the stages of a query. `width`: where the columns of the
    /// sources end.
    pub(super) fn draft(
        &mut self,
        path: &str,
        written: &WrittenQuery,
        origins: Vec<Origin>,
        (mut clauses, write): (Clauses, Option<TableWrite>),
        width: usize,
    ) -> Result<Draft, Failed> {
        let calls = std::mem::take(&mut clauses.calls);
        let analytics = self.analytics(path, calls, &origins)?;
        let rate = rate(&written.query.select, &mut clauses);
        let write = write.map(|write| write.hide(&mut clauses, width));
        let grouped = !clauses.keys.is_empty() || !clauses.aggregates.is_empty();
        let grouping = grouped.then(|| regroup(&mut clauses));
        Ok(Draft {
            grouping,
            clauses,
            analytics,
            origins,
            rate,
            write,
        })
    }

    /// The query, when it is known what it reads.
    pub(super) fn finished(
        &mut self,
        path: &str,
        written: &WrittenQuery,
        draft: Draft,
        input: Input,
        partition: Option<usize>,
    ) -> Result<Query, Failed> {
        let select = &written.query.select;
        let Draft {
            grouping,
            clauses,
            analytics,
            rate,
            write,
            ..
        } = draft;
        let query = Query {
            input,
            analytics,
            grouping,
            having: clauses.having,
            select: clauses.select,
            order_by: clauses.order_by,
            limit: select.limit,
            offset: select.offset.unwrap_or(0),
            distinct: select.distinct,
            emit: match written.query.into.kind {
                IntoKind::Insert(emit) => emit,
                IntoKind::Upsert(_) | IntoKind::Update(_) | IntoKind::Delete => Emit::Current,
            },
            rate,
            target: Target::Stream(StreamId(0)),
            partition,
            names: clauses.names,
            path: path.to_owned(),
            place: written.query.place,
        };
        self.check_output(path, written, &query)?;
        self.check_analytics(path, written, &query)?;
        self.target(path, written, query, &clauses.places, write)
    }

    /// How many faults have been found.
    pub(super) fn faults(&self) -> usize {
        let faults = self.diagnostics.iter();
        let faults = faults.filter(|one| one.severity == Severity::Error);
        faults.count()
    }

    /// EXPIRED EVENTS need something that rows can leave.
    fn check_emit(&mut self, path: &str, written: &WrittenQuery, origins: &[Origin]) {
        let IntoKind::Insert(Emit::Expired | Emit::All) = written.query.into.kind else {
            return;
        };
        let window = |origin: &Origin| {
            let stream = matches!(origin.kind, OriginKind::Stream { .. });
            matches!(
                origin.kind,
                OriginKind::Stream {
                    window: Some(_),
                    ..
                }
            ) || stream && origins.iter().filter(|one| one.stream().is_some()).count() > 1
        };
        if !origins.iter().any(window) {
            let message =
                "EXPIRED EVENTS and ALL EVENTS need a window: without one no row ever leaves";
            self.diagnostics
                .push(Diagnostic::error(path, written.query.place, message));
        }
    }

    /// EXPIRED EVENTS of a window that no row leaves are none.
    fn warn_of_emit(&mut self, path: &str, written: &WrittenQuery, origins: &[Origin]) {
        let IntoKind::Insert(Emit::Expired | Emit::All) = written.query.into.kind else {
            return;
        };
        let [origin] = origins else {
            return;
        };
        if origin.window().is_some_and(|window| !window.rows_leave()) {
            let message = "no row ever leaves this window, so none expires";
            let place = written.query.place;
            self.diagnostics
                .push(Diagnostic::warning(path, place, message));
        }
    }

    fn clauses(
        &mut self,
        path: &str,
        written: &WrittenQuery,
        origins: &[Origin],
    ) -> Result<Bound, Failed> {
        let select = &written.query.select;
        let sources: Vec<Named<'_>> = origins.iter().map(Origin::named).collect();
        let progress = Progress::default();
        let aggregations = &self.application.aggregations;
        let durations = |index: usize| match origins.get(index).map(|origin| &origin.kind) {
            Some(OriginKind::Aggregation(id)) => aggregations
                .get(id.0)
                .map(|one| one.durations.iter().map(|one| one.bucket).collect())
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        let mut scope = Scope {
            place: written.query.place,
            progress: &progress,
            path,
            sources: &sources,
            aliases: &[],
            aliases_first: false,
            aggregates: Err("in ON, which decides before rows are grouped"),
            analytics: Err("in ON, which makes the rows"),
            draws: Err("in ON"),
            elements: None,
            tables: &self.application.tables,
            diagnostics: self.diagnostics,
        };
        let tree = join::tree(&mut scope, &select.from, origins, &durations);
        // A window that others use is read again by each of its readers, for each change.
        let named = origins.iter().any(Origin::is_named_window);
        scope.draws = if named {
            Err("in WHERE of a named window")
        } else {
            Ok(())
        };
        if let IntoKind::Update(_) | IntoKind::Delete = written.query.into.kind {
            let write = super::target::change(&mut scope, &written.query, written);
            return Ok(Bound {
                tree: tree?,
                write: Some(write?),
                clauses: Clauses::default(),
            });
        }
        let clauses = clauses(&mut scope, select);
        let write = super::target::upsert(&mut scope, &written.query, written);
        Ok(Bound {
            tree: tree?,
            clauses: clauses?,
            write: write?,
        })
    }

    /// The sources, with only the columns that are read.
    fn input(
        &mut self,
        path: &str,
        written: &WrittenQuery,
        draft: &mut Draft,
        tree: &mut Tree,
    ) -> Result<Input, Failed> {
        let mut filter = Vec::new();
        let mut pushed = Vec::new();
        if let Tree::Node(_) = tree {
            if let Some(condition) = draft.clauses.filter.take() {
                join::conjuncts(condition, &mut filter);
            }
            // What is computed over all joined rows must see all of them.
            let movable = draft.analytics.before.is_empty();
            pushed = join::push_down(tree, &mut filter, &draft.origins, movable);
        }
        self.keep_some_rows(path, written, draft)?;
        let narrow = Narrow::new(draft, tree, &mut filter);
        let mut inputs = Vec::new();
        for (index, origin) in draft.origins.iter_mut().enumerate() {
            let keep = narrow.keep(index);
            let mut pushed = pushed.get_mut(index).map(std::mem::take);
            inputs.push(match &mut origin.kind {
                OriginKind::Stream { id, window, named } => {
                    let mut behind = None;
                    let mut before = pushed.as_mut().map(std::mem::take).and_then(join::all_of);
                    if draft.clauses.filter.is_some() {
                        let filter = draft.clauses.filter.take();
                        if *named {
                            behind = filter;
                        } else {
                            before = filter;
                        }
                    }
                    Some(StreamInput {
                        stream: *id,
                        filter: before,
                        window: window.take(),
                        behind,
                        keep,
                    })
                }
                OriginKind::Table(_) | OriginKind::Aggregation(_) => None,
            });
        }
        if let Tree::Leaf(_) = tree {
            let input = inputs.pop().flatten().ok_or(Failed)?;
            return Ok(Input::Stream(input));
        }
        let tree = std::mem::replace(tree, Tree::Leaf(0));
        let mut sides = Sides {
            origins: &draft.origins,
            inputs,
            narrow: &narrow,
        };
        if !sides.any_triggers() {
            let message = "nothing triggers this join: no side is a stream";
            return self.refuse(path, written.query.place, message);
        }
        let input = sides.input(tree, filter).ok_or(Failed)?;
        let mut tables = Vec::new();
        join::looked_up(&input.join, &mut tables);
        for (table, columns) in tables {
            self.index(table, &columns);
        }
        Ok(Input::Join(Box::new(input)))
    }

    /// Streams that are joined without any window keep their last rows.
    fn keep_some_rows(
        &mut self,
        path: &str,
        written: &WrittenQuery,
        draft: &mut Draft,
    ) -> Result<(), Failed> {
        const JOIN_ROWS_MAX: u64 = 10_000;
        let asked = self.rows_max(path, written)?;
        let bare = |origin: &Origin| matches!(origin.kind, OriginKind::Stream { window: None, .. });
        let streams = draft
            .origins
            .iter()
            .filter(|one| one.stream().is_some())
            .count();
        let bare = draft.origins.iter().filter(|origin| bare(origin)).count();
        if streams < 2 || bare < streams {
            let Some((_, place)) = asked else {
                return Ok(());
            };
            let message = "'join.rows_max' is for a join of streams without a window";
            return self.refuse(path, place, message);
        }
        let rows_max = asked.map_or(JOIN_ROWS_MAX, |(rows_max, _)| rows_max);
        for origin in &mut draft.origins {
            if let OriginKind::Stream { window, .. } = &mut origin.kind {
                *window = Some(Window::Length { rows: rows_max });
            }
        }
        let message =
            format!("no side of this join has a window: each keeps its last {rows_max} rows");
        let hint = "give the sides windows, or set 'join.rows_max'";
        let warning = Diagnostic::warning(path, written.query.place, message);
        self.diagnostics.push(warning.with_hint(hint));
        Ok(())
    }

    /// `'join.rows_max'` and where it stands; other properties of a query are checked.
    fn rows_max(
        &mut self,
        path: &str,
        written: &WrittenQuery,
    ) -> Result<Option<(u64, Place)>, Failed> {
        let mut rows_max = None;
        for (name, value) in &written.query.properties {
            let partitioned = !written.query.select.partition_by.is_empty();
            match name.text.as_str() {
                "join.rows_max" if rows_max.is_some() => {
                    let message = format!("'{}' is set twice", name.text);
                    return self.refuse(path, name.place, message);
                }
                "join.rows_max" => match value.text.trim().parse() {
                    Ok(rows) if rows > 0 => rows_max = Some((rows, name.place)),
                    _ => {
                        let message = "'join.rows_max' takes a number of rows, at least 1";
                        return self.refuse(path, value.place, message);
                    }
                },
                // Has been checked where it is used.
                other if other.starts_with("partition.") && partitioned => {}
                "partition.idle" => {
                    let message = "'partition.idle' is for a query with PARTITION BY, or for the \
                                   head of a PARTITION";
                    return self.refuse(path, name.place, message);
                }
                other if PATTERN_PROPERTIES.contains(&other) => {
                    let message = format!("'{other}' is for a query that reads a PATTERN");
                    return self.refuse(path, name.place, message);
                }
                _ => return self.unknown_property(path, name),
            }
        }
        Ok(rows_max)
    }

    /// Reports a property that no query has.
    pub(super) fn unknown_property<T>(
        &mut self,
        path: &str,
        name: &ast::Name,
    ) -> Result<T, Failed> {
        let message = format!("unknown property '{}' of a query", name.text);
        let known = ["join.rows_max", "partition.idle"].into_iter();
        let hint = did_you_mean(&name.text, known.chain(PATTERN_PROPERTIES));
        let fault = Diagnostic::error(path, name.place, message);
        self.diagnostics.push(fault.with_hint_if(hint));
        Err(Failed)
    }
}

/// A query between binding and planning.
struct Bound {
    clauses: Clauses,
    tree: Tree,
    write: Option<TableWrite>,
}

/// A query whose columns are still those of all sources.
pub(super) struct Draft {
    pub(super) grouping: Option<Grouping>,
    pub(super) clauses: Clauses,
    pub(super) analytics: Analytics,
    pub(super) origins: Vec<Origin>,
    pub(super) rate: Option<Rate>,
    pub(super) write: Option<TableWrite>,
}

impl Draft {
    /// Whether it keeps nothing from one row to the next.
    pub(super) fn only_projects(&self) -> bool {
        let stages = self.grouping.is_some() || self.rate.is_some() || self.write.is_some();
        !stages && self.analytics.is_empty()
    }
}

pub(super) fn clauses(scope: &mut Scope<'_>, written: &ast::Select) -> Result<Clauses, Failed> {
    let mut aggregates: Vec<Aggregate> = Vec::new();
    let mut calls = Calls::default();
    let behind = |last: &Named<'_>| last.first + last.schema.width();
    let width = match &scope.elements {
        Some(seen) => seen.width(),
        None => scope.sources.last().map_or(0, behind),
    };
    let mut inner = Scope {
        aggregates: Err("in WHERE, which decides before rows are grouped"),
        analytics: Ok(List {
            first: width,
            calls: &mut calls.before,
        }),
        ..scope.copy()
    };
    let filter = written
        .filter
        .as_ref()
        .map(|filter| inner.condition(filter, "WHERE"));
    inner.aggregates = Err("in GROUP BY");
    let before = inner.analytics.as_ref().map_or(0, |list| list.calls.len());
    inner.analytics = Ok(List {
        first: width + before,
        calls: &mut calls.after,
    });
    inner.draws = Err("in GROUP BY");
    let keys: Vec<_> = written
        .group_by
        .iter()
        .map(|key| group_key(&mut inner, key))
        .collect();
    inner.aggregates = Ok(&mut aggregates);
    inner.draws = Ok(());
    let (columns, failed) = columns(&mut inner, &written.items);
    let aliases: Vec<(String, Expr)> = columns
        .names
        .iter()
        .cloned()
        .zip(columns.exprs.iter().cloned())
        .collect();
    inner.aliases = &aliases;
    let having = written
        .having
        .as_ref()
        .map(|having| inner.condition(having, "HAVING"));
    inner.aliases_first = true;
    let order_by: Vec<_> = written
        .order_by
        .iter()
        .map(|key| sort_key(&mut inner, key))
        .collect();
    if failed {
        return Err(Failed);
    }
    Ok(Clauses {
        filter: filter.transpose()?.filter(fold::decides),
        keys: keys.into_iter().collect::<Result<_, _>>()?,
        select: columns.exprs,
        names: columns.names,
        places: columns.places,
        having: having.transpose()?.filter(fold::decides),
        order_by: order_by.into_iter().collect::<Result<_, _>>()?,
        aggregates,
        calls,
    })
}

/// The output rate; its groups become columns behind the output's own.
fn rate(written: &ast::Select, clauses: &mut Clauses) -> Option<Rate> {
    let output = written.output.as_ref()?;
    if let Keep::First | Keep::Last = output.keep {
        clauses.select.extend(clauses.keys.iter().cloned());
    }
    Some(Rate {
        keep: output.keep,
        period: match output.every {
            Every::Events(count) => Period::Events(count),
            Every::SpanMs(span_ms) => Period::Time(span_ms),
        },
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
        SelectItem::Wildcard(_) if scope.sources.is_empty() => {
            return scope.fail(at, "no element takes a row, so '*' has no columns");
        }
        SelectItem::Wildcard(_) => {
            for source in scope.sources {
                every_column(source, columns, at);
            }
        }
        SelectItem::QualifiedWildcard(kind, _) => {
            let SelectItemQualifiedWildcardKind::ObjectName(name) = kind else {
                return scope.fail(at, "only a stream or an alias can stand before '.*'");
            };
            let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else {
                return scope.fail(at, "only a stream or an alias can stand before '.*'");
            };
            match scope.source_named(&name.value) {
                Some(source) => every_column(source, columns, at),
                None => return scope.unknown_source(name).map(|_| ()),
            }
        }
        SelectItem::ExprWithAliases { .. } => {
            return scope.fail(at, "a column has one name");
        }
    }
    Ok(())
}

fn every_column(source: &Named<'_>, columns: &mut Columns, at: Place) {
    for (index, field) in source.schema.fields().iter().enumerate() {
        let expr = Expr {
            kind: ExprKind::Column(source.first + index),
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
    if is_literal(key) {
        return scope.fail(place(key), "GROUP BY takes a column or an expression");
    }
    scope.bind(key)
}

fn is_literal(written: &Written) -> bool {
    match written {
        Written::Value(_) => true,
        Written::Nested(inner) => is_literal(inner),
        Written::UnaryOp { expr, .. } => is_literal(expr),
        _ => false,
    }
}

fn sort_key(scope: &mut Scope<'_>, key: &ast::OrderBy) -> Result<SortKey, Failed> {
    let expr = scope.bind(&key.expr)?;
    if is_literal(&key.expr) {
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
pub(super) fn regroup(clauses: &mut Clauses) -> Grouping {
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
