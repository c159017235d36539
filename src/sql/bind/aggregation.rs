//! CREATE AGGREGATION: rollups of a stream over durations.

use std::collections::BTreeSet;
use std::sync::Arc;

use sqlparser::ast::Expr as Written;

use super::super::aggregates::AggregateFunction;
use super::super::ast::{self, CreateAggregation, Name, Properties, What};
use super::super::plan::{Aggregation, Analytics, Bucket, Duration, Expr, StreamInput};
use super::expr::{Failed, Progress, Scope, place};
use super::join::Tree;
use super::names::Named;
use super::narrow::Narrow;
use super::query::{Clauses, Draft, clauses, regroup};
use super::source::{Origin, OriginKind};
use super::{Binder, Relation};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::event::{Field, Schema, Type, parse_duration_ms};

/// The column that says when a bucket begins.
const START: &str = "AGG_TIMESTAMP";

/// What `'max_rows'` is when it is not set.
const ROWS_MAX: u64 = 1_000_000;

impl Binder<'_> {
    pub(super) fn create_aggregation(&mut self, path: &str, create: &CreateAggregation) {
        if !self.is_free(path, &create.name, "aggregation") {
            return;
        }
        match self.try_aggregation(path, create) {
            Ok(aggregation) => self.application.aggregations.push(aggregation),
            Err(Failed) => {
                self.failed.insert(create.name.text.clone());
            }
        }
    }

    fn try_aggregation(
        &mut self,
        path: &str,
        create: &CreateAggregation,
    ) -> Result<Aggregation, Failed> {
        let before = self.diagnostics.len();
        self.refuse_clauses(path, create);
        let durations = self.durations(path, create);
        let (durations, rows_max) =
            self.aggregation_properties(path, &create.properties, durations);
        let origin = self.rolled_up(path, &create.select)?;
        let bound = self.aggregation_clauses(path, create, &origin);
        if self.diagnostics.len() > before {
            return Err(Failed);
        }
        let (mut clauses, by) = bound?;
        let grouping = regroup(&mut clauses);
        let width = grouping.keys.len() + grouping.aggregates.len();
        let carried = |column: usize| {
            let column = grouping.carried.get(column.checked_sub(width)?)?;
            Some(origin.schema.fields().get(*column)?.name.as_str())
        };
        for (expr, at) in clauses.select.iter_mut().zip(&clauses.places) {
            self.check_item(path, *at, expr, &carried);
        }
        let schema = self.aggregation_schema(path, &clauses);
        if self.diagnostics.len() > before {
            return Err(Failed);
        }
        let OriginKind::Stream { id: stream, .. } = origin.kind else {
            return Err(Failed);
        };
        let mut by: Vec<Expr> = by.into_iter().collect();
        let mut draft = Draft {
            grouping: Some(grouping),
            clauses,
            analytics: Analytics::default(),
            origins: vec![origin],
            rate: None,
            write: None,
        };
        let narrow = Narrow::new(&mut draft, &mut Tree::Leaf(0), &mut by);
        let Draft {
            grouping, clauses, ..
        } = draft;
        let grouping = grouping.ok_or(Failed)?;
        Ok(Aggregation {
            name: create.name.text.clone(),
            input: StreamInput {
                stream,
                filter: clauses.filter,
                window: None,
                behind: None,
                keep: narrow.keep(0),
            },
            by: by.pop(),
            keys: grouping.keys,
            aggregates: grouping.aggregates,
            select: clauses.select,
            durations,
            rows_max,
            schema,
            path: path.to_owned(),
            place: create.name.place,
        })
    }

    /// What a query may have and an aggregation cannot.
    fn refuse_clauses(&mut self, path: &str, create: &CreateAggregation) {
        let select = &create.select;
        let first = |exprs: &[Written]| exprs.first().map(place);
        let limit = select.limit.or(select.offset).map(|_| select.place);
        let refused = [
            ("DISTINCT", select.distinct.then_some(select.place)),
            ("PARTITION BY", first(&select.partition_by)),
            ("HAVING", select.having.as_ref().map(place)),
            (
                "ORDER BY",
                select.order_by.first().map(|key| place(&key.expr)),
            ),
            ("LIMIT and OFFSET", limit),
            ("OUTPUT", select.output.as_ref().map(|output| output.place)),
        ];
        for (clause, at) in refused {
            let Some(at) = at else { continue };
            let at = if at.line == 0 { select.place } else { at };
            let message = format!("{clause} cannot be part of an aggregation");
            let fault = Diagnostic::error(path, at, message);
            self.diagnostics
                .push(fault.with_hint("the queries that read it may have it"));
        }
    }

    /// The stream that is rolled up.
    fn rolled_up(&mut self, path: &str, select: &ast::Select) -> Result<Origin, Failed> {
        let source = match &select.from {
            ast::From::One(source) => source,
            ast::From::Pattern(pattern) => {
                let message = "an aggregation reads one stream";
                return self.refuse(path, pattern.place, message);
            }
            ast::From::Join(join) => {
                let message = "an aggregation reads one stream; let a query join first";
                return self.refuse(path, join.place, message);
            }
        };
        let What::Named(name) = &source.what else {
            let message = "an aggregation reads a stream; let a query write the subquery's rows \
                           into one";
            return self.refuse(path, select.place, message);
        };
        if let Some(window) = &source.window {
            let message = "an aggregation has no window: its durations take that place";
            return self.refuse(path, window.kind.place, message);
        }
        if source.unidirectional {
            return self.refuse(path, name.place, "UNIDIRECTIONAL is for a side of a join");
        }
        let (id, what) = match self.relation(&name.text) {
            Some(Relation::Stream(id)) if self.windows.contains_key(&id) => (None, "window"),
            Some(Relation::Stream(id)) => (Some(id), "stream"),
            Some(Relation::Table(_)) => (None, "table"),
            Some(Relation::Aggregation(_)) => (None, "aggregation"),
            None => return Err(Failed),
        };
        let Some(id) = id else {
            let message = format!("an aggregation reads a stream; '{}' is a {what}", name.text);
            return self.refuse(path, name.place, message);
        };
        let stream = self.application.stream(id).ok_or(Failed)?;
        Ok(Origin {
            name: name.text.clone(),
            alias: source.alias.as_ref().map(|alias| alias.text.clone()),
            schema: Arc::clone(&stream.schema),
            first: 0,
            kind: OriginKind::Stream {
                id,
                window: None,
                named: false,
            },
            unidirectional: false,
            place: name.place,
        })
    }

    /// WHERE, GROUP BY and the select items, and AGGREGATE BY.
    fn aggregation_clauses(
        &mut self,
        path: &str,
        create: &CreateAggregation,
        origin: &Origin,
    ) -> Result<(Clauses, Option<Expr>), Failed> {
        let progress = Progress::default();
        let sources: [Named<'_>; 1] = [origin.named()];
        let mut scope = Scope {
            path,
            sources: &sources,
            aliases: &[],
            aliases_first: false,
            aggregates: Err("in AGGREGATE BY"),
            analytics: Err("in AGGREGATE BY"),
            draws: Ok(()),
            elements: None,
            place: create.select.place,
            tables: &self.application.tables,
            progress: &progress,
            diagnostics: self.diagnostics,
        };
        let clauses = clauses(&mut scope, &create.select);
        if let Ok(Clauses { calls, .. }) = &clauses {
            if let Some(at) = calls.first() {
                let hint = Some("compute it in a query, and aggregate what that gives".to_owned());
                let message = "analytic functions cannot be used in an aggregation";
                return scope.fail_with(at, message, hint);
            }
        }
        scope.draws = Err("in AGGREGATE BY");
        let by = create.by.as_ref().map(|written| {
            let expr = scope.bind(written)?;
            if let Type::Long | Type::Timestamp = expr.ty {
                return Ok(expr);
            }
            let message = format!(
                "AGGREGATE BY takes a BIGINT or TIMESTAMP, this is {}",
                expr.ty
            );
            scope.fail(place(written), message)
        });
        let by = by.transpose()?;
        let clauses = clauses?;
        let forever = clauses.aggregates.iter().any(|aggregate| {
            use AggregateFunction as F;
            matches!(aggregate.function, F::MinForever | F::MaxForever)
        });
        if forever {
            let message = "minForever and maxForever do not go with buckets, which each begin anew";
            let hint = "use min and max".to_owned();
            return scope.fail_with(create.select.place, message, Some(hint));
        }
        Ok((clauses, by))
    }

    /// A select item, over the group row: nothing but keys and aggregates, and the same whenever
    /// it is read.
    fn check_item<'n>(
        &mut self,
        path: &str,
        at: Place,
        expr: &mut Expr,
        carried: &dyn Fn(usize) -> Option<&'n str>,
    ) {
        let mut other = None;
        expr.for_each_column(&mut |column| other = other.or(carried(*column)));
        let fault = if let Some(name) = other {
            let message = format!("'{name}' is neither a key of GROUP BY nor in an aggregate");
            let hint = format!("the newest value is last({name})");
            Diagnostic::error(path, at, message).with_hint(hint)
        } else if expr.is_steady() {
            return;
        } else {
            let message = "an aggregation is computed when it is read, and this would be another \
                           value each time";
            Diagnostic::error(path, at, message)
        };
        self.diagnostics.push(fault);
    }

    fn aggregation_schema(&mut self, path: &str, clauses: &Clauses) -> Arc<Schema> {
        let mut fields = vec![Field {
            name: START.to_owned(),
            ty: Type::Long,
        }];
        let columns = clauses.names.iter().zip(&clauses.select);
        for ((name, expr), at) in columns.zip(&clauses.places) {
            if name == START {
                let message = format!("'{START}' is the column with the start of the bucket");
                self.diagnostics
                    .push(Diagnostic::error(path, *at, message).with_hint("give it another name"));
            }
            fields.push(Field {
                name: name.clone(),
                ty: expr.ty,
            });
        }
        Arc::new(Schema::new(fields))
    }

    /// EVERY, ascending, with the times for which buckets are kept when nothing else is said.
    fn durations(&mut self, path: &str, create: &CreateAggregation) -> Vec<Duration> {
        let mut durations: Vec<Duration> = Vec::new();
        for (bucket, at) in &create.every {
            if durations.iter().any(|one| one.bucket == *bucket) {
                let message = format!("{} are named twice", bucket.name().to_uppercase());
                self.diagnostics.push(Diagnostic::error(path, *at, message));
                continue;
            }
            durations.push(Duration {
                bucket: *bucket,
                keep_ms: kept_ms(*bucket),
            });
        }
        durations.sort_by_key(|one| one.bucket);
        durations
    }

    /// `'purge.…'` and `'max_rows'`.
    fn aggregation_properties(
        &mut self,
        path: &str,
        properties: &Properties,
        mut durations: Vec<Duration>,
    ) -> (Vec<Duration>, u64) {
        let mut rows_max = ROWS_MAX;
        let mut seen = BTreeSet::new();
        for (name, value) in properties {
            if !seen.insert(name.text.as_str()) {
                let message = format!("'{}' is set twice", name.text);
                self.diagnostics
                    .push(Diagnostic::error(path, name.place, message));
            }
            let fault = if name.text == "max_rows" {
                match value.text.trim().parse() {
                    Ok(rows) if rows > 0 => {
                        rows_max = rows;
                        continue;
                    }
                    _ => wrong(path, name, value, "a number of rows, at least 1"),
                }
            } else {
                match purge(path, name, value, &mut durations) {
                    Ok(()) => continue,
                    Err(fault) => fault,
                }
            };
            self.diagnostics.push(fault);
        }
        (durations, rows_max)
    }
}

/// How long buckets are kept when nothing is said, as in Siddhi. Those of days are 365 then; of the
/// longer ones there are so few that they stay.
fn kept_ms(bucket: Bucket) -> Option<i64> {
    const HOUR_MS: i64 = 3_600_000;
    match bucket {
        Bucket::Second => Some(120_000),
        Bucket::Minute => Some(24 * HOUR_MS),
        Bucket::Hour => Some(30 * 24 * HOUR_MS),
        Bucket::Day => Some(365 * 24 * HOUR_MS),
        Bucket::Week | Bucket::Month | Bucket::Year => None,
    }
}

const DURATIONS: [Bucket; 7] = [
    Bucket::Second,
    Bucket::Minute,
    Bucket::Hour,
    Bucket::Day,
    Bucket::Week,
    Bucket::Month,
    Bucket::Year,
];

/// `'purge.minutes' = '2 h'` or `'never'`.
fn purge(
    path: &str,
    name: &Name,
    value: &Name,
    durations: &mut [Duration],
) -> Result<(), Diagnostic> {
    let named = |bucket: &Bucket| name.text == format!("purge.{}", bucket.name());
    let Some(bucket) = DURATIONS.iter().find(|bucket| named(bucket)) else {
        let message = format!("unknown property '{}' of an aggregation", name.text);
        let known = DURATIONS.map(|bucket| format!("purge.{}", bucket.name()));
        let known = known.iter().map(String::as_str).chain(["max_rows"]);
        let hint = did_you_mean(&name.text, known);
        return Err(Diagnostic::error(path, name.place, message).with_hint_if(hint));
    };
    let Some(duration) = durations.iter_mut().find(|one| one.bucket == *bucket) else {
        let word = bucket.name().to_uppercase();
        let message = format!("'{}' is set, but EVERY does not name {word}", name.text);
        return Err(Diagnostic::error(path, name.place, message));
    };
    let text = value.text.trim();
    duration.keep_ms = parse_duration_ms(text).filter(|keep_ms| *keep_ms > 0);
    if duration.keep_ms.is_none() && text != "never" {
        return Err(wrong(
            path,
            name,
            value,
            "a span of time such as '2 h', or 'never'",
        ));
    }
    Ok(())
}

fn wrong(path: &str, name: &Name, value: &Name, wanted: &str) -> Diagnostic {
    let message = format!(
        "'{}' takes {wanted}, not '{}'",
        name.text,
        value.text.trim()
    );
    Diagnostic::error(path, value.place, message)
}
