//! PARTITION WITH … BEGIN … END, and PARTITION BY on one query.

use std::collections::BTreeMap;

use sqlparser::ast::Expr as WrittenExpr;

use super::super::ast::{self, KeyForm, Properties};
use super::super::plan::{Expr, ExprKind, Partition, PartitionKey, StreamId};
use super::super::types;
use super::expr::{Bound, Failed, Progress, Scope, place, widen};
use super::names::Named;
use super::source::Origin;
use super::{Binder, Relation, Work, Written, flatten};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::event::{Type, parse_duration_ms};

impl Binder<'_> {
    pub(super) fn partition(&mut self, path: &str, written: &ast::Partition, work: &mut Vec<Work>) {
        let number = self.add_partition(path, written.place);
        let mut local = BTreeMap::new();
        for query in &written.queries {
            let target = &query.into.target.text;
            if target.starts_with('#') {
                let hidden = format!("{target} (partition {})", number + 1);
                local.insert(target.clone(), hidden);
            }
        }
        for query in &written.queries {
            flatten::query(path, query, Some(number), &local, work);
        }
        let idle_ms = self.idle_ms(path, &written.properties);
        if let Some(partition) = self.application.partitions.get_mut(number) {
            partition.idle_ms = idle_ms;
        }
        // Streams that queries define are not known yet.
        self.partitions
            .push((number, path.to_owned(), written.clone()));
    }

    fn add_partition(&mut self, path: &str, place: Place) -> usize {
        self.application.partitions.push(Partition {
            keys: Vec::new(),
            queries: Vec::new(),
            inner: Vec::new(),
            idle_ms: None,
            path: path.to_owned(),
            place,
        });
        self.application.partitions.len() - 1
    }

    /// `'partition.idle'`; other properties are reported.
    fn idle_ms(&mut self, path: &str, properties: &Properties) -> Option<i64> {
        let mut idle_ms = None;
        for (number, (name, value)) in properties.iter().enumerate() {
            let mut before = properties.iter().take(number);
            if before.any(|(known, _)| known.text == name.text) {
                let message = format!("'{}' is set twice", name.text);
                self.diagnostics
                    .push(Diagnostic::error(path, name.place, message));
            }
            if name.text != "partition.idle" {
                let message = format!("unknown property '{}' of a partition", name.text);
                let hint = did_you_mean(&name.text, ["partition.idle"]);
                self.diagnostics
                    .push(Diagnostic::error(path, name.place, message).with_hint_if(hint));
                continue;
            }
            idle_ms = parse_duration_ms(&value.text).filter(|span_ms| *span_ms > 0);
            if idle_ms.is_none() {
                let text = &value.text;
                let message = format!("'partition.idle' takes a span such as '1 h', not '{text}'");
                self.diagnostics
                    .push(Diagnostic::error(path, value.place, message));
            }
        }
        idle_ms
    }

    /// Binds the keys of partitions, when all streams are known.
    pub(super) fn partition_keys(&mut self) {
        for (number, path, written) in std::mem::take(&mut self.partitions) {
            let mut keys = Vec::new();
            for key in &written.keys {
                // What is wrong has been reported.
                let _ = self.partition_key(&path, key, &mut keys);
            }
            self.same_types(&path, written.place, &mut keys);
            self.read_by_none(&path, &written, number, &keys);
            if let Some(partition) = self.application.partitions.get_mut(number) {
                partition.keys = keys;
            }
        }
    }

    /// A key of a stream that no query of the partition reads says nothing.
    fn read_by_none(
        &mut self,
        path: &str,
        written: &ast::Partition,
        number: usize,
        keys: &[(StreamId, PartitionKey)],
    ) {
        let queries = self.application.queries.iter();
        let own = queries.filter(|query| query.partition == Some(number));
        let read: Vec<StreamId> = own
            .flat_map(|query| query.input.streams())
            .map(|input| input.stream)
            .collect();
        if self.failed.iter().next().is_some() {
            // Perhaps the one that reads it could not be bound.
            return;
        }
        for (stream, _) in keys.iter().filter(|(stream, _)| !read.contains(stream)) {
            let name = self.application.stream(*stream);
            let name = name.map_or("?", |stream| stream.name.as_str());
            let of = written.keys.iter().find(|key| key.stream.text == name);
            let place = of.map_or(written.place, |key| key.stream.place);
            let message = format!("no query of this partition reads '{name}'");
            self.diagnostics
                .push(Diagnostic::error(path, place, message));
        }
    }

    /// Rows of several streams meet under one key: its parts must be of one type everywhere.
    pub(super) fn same_types(
        &mut self,
        path: &str,
        place: Place,
        keys: &mut [(StreamId, PartitionKey)],
    ) {
        let form = |key: &PartitionKey| match key {
            PartitionKey::Values(exprs) => exprs.iter().map(|expr| expr.ty).collect(),
            PartitionKey::Ranges(_) => vec![Type::String],
        };
        let mut common: Option<Vec<Type>> = None;
        for (stream, key) in keys.iter() {
            let own: Vec<Type> = form(key);
            let known = common.get_or_insert_with(|| own.clone());
            let joined: Option<Vec<Type>> = known
                .iter()
                .zip(&own)
                .map(|(a, b)| types::common(*a, *b))
                .collect();
            match joined.filter(|_| known.len() == own.len()) {
                Some(joined) => *known = joined,
                None => {
                    let name = self.application.stream(*stream);
                    let name = name.map_or("?", |stream| stream.name.as_str());
                    let message = format!("the key of '{name}' has other types than the first");
                    self.diagnostics
                        .push(Diagnostic::error(path, place, message));
                    return;
                }
            }
        }
        for (_, key) in keys {
            if let PartitionKey::Values(exprs) = key {
                for (expr, ty) in exprs.iter_mut().zip(common.iter().flatten()) {
                    *expr = widen(std::mem::replace(expr, Expr::null()), *ty);
                }
            }
        }
    }

    fn partition_key(
        &mut self,
        path: &str,
        written: &ast::PartitionKey,
        keys: &mut Vec<(StreamId, PartitionKey)>,
    ) -> Result<(), Failed> {
        let name = &written.stream;
        let Some(Relation::Stream(stream)) = self.relation(&name.text) else {
            if !self.failed.contains(&name.text) {
                let known = self.application.streams.iter();
                let hint = did_you_mean(&name.text, known.map(|stream| stream.name.as_str()));
                let message = format!("unknown stream '{}'", name.text);
                self.diagnostics
                    .push(Diagnostic::error(path, name.place, message).with_hint_if(hint));
            }
            return Err(Failed);
        };
        let known = keys.iter_mut().find(|(known, _)| *known == stream);
        let known = known.map(|(_, key)| key);
        let bound = match &written.key {
            KeyForm::Value(expr) => {
                PartitionKey::Values(vec![self.key(path, stream, expr, false)?])
            }
            KeyForm::Ranges(ranges) => {
                let bind = |(expr, label): &(WrittenExpr, ast::Name)| {
                    Ok((self.key(path, stream, expr, true)?, label.text.clone()))
                };
                PartitionKey::Ranges(ranges.iter().map(bind).collect::<Result<_, Failed>>()?)
            }
        };
        match (known, bound) {
            (None, bound) => keys.push((stream, bound)),
            (Some(PartitionKey::Values(all)), PartitionKey::Values(more)) => all.extend(more),
            (Some(_), _) => {
                let message = format!("ranges are the only key of '{}'", name.text);
                self.diagnostics
                    .push(Diagnostic::error(path, name.place, message));
                return Err(Failed);
            }
        }
        Ok(())
    }

    /// A key expression over a stream's row; `condition`: it must be BOOLEAN.
    fn key(
        &mut self,
        path: &str,
        stream: StreamId,
        written: &WrittenExpr,
        condition: bool,
    ) -> Bound {
        let Some(definition) = self.application.stream(stream).cloned() else {
            return Err(Failed);
        };
        let source = Named {
            names: [Some(&definition.name), None],
            schema: &definition.schema,
            first: 0,
            what: "stream",
            alone: true,
        };
        self.key_over(path, source, written, condition, &Progress::default())
    }

    fn key_over(
        &mut self,
        path: &str,
        source: Named<'_>,
        written: &WrittenExpr,
        condition: bool,
        progress: &Progress,
    ) -> Bound {
        let sources = [source];
        let mut scope = Scope {
            path,
            sources: &sources,
            aliases: &[],
            aliases_first: false,
            aggregates: Err("in the key of a partition"),
            analytics: Err("in the key of a partition"),
            draws: Err("in the key of a partition"),
            elements: None,
            place: place(written),
            progress,
            tables: &self.application.tables,
            diagnostics: self.diagnostics,
        };
        if condition {
            return scope.condition(written, "a range");
        }
        let expr = scope.bind(written)?;
        if let ExprKind::Literal(_) = expr.kind {
            return scope.fail(
                place(written),
                "the key of a partition is a column or expression",
            );
        }
        Ok(expr)
    }

    /// PARTITION BY on one query: a partition of its own. Rows of a stream that lacks a column of
    /// the key reach every key.
    pub(super) fn partition_by(
        &mut self,
        path: &str,
        written: &Written,
        origins: &[Origin],
    ) -> Result<Option<usize>, Failed> {
        let by = &written.query.select.partition_by;
        if by.is_empty() {
            return Ok(written.partition);
        }
        if written.partition.is_some() {
            let at = by.first().map_or(written.query.place, place);
            let message = "PARTITION BY inside PARTITION … BEGIN … END";
            self.diagnostics.push(Diagnostic::error(path, at, message));
            return Err(Failed);
        }
        let mut keys = self.keys_by(path, by, origins)?;
        self.same_types(path, written.query.place, &mut keys);
        let number = self.add_partition(path, written.query.place);
        let mut own = written.query.properties.clone();
        own.retain(|(name, _)| name.text.starts_with("partition."));
        let idle_ms = self.idle_ms(path, &own);
        if let Some(partition) = self.application.partitions.get_mut(number) {
            partition.keys = keys;
            partition.idle_ms = idle_ms;
        }
        Ok(Some(number))
    }

    /// The keys of PARTITION BY: those of each stream that has all of their columns.
    pub(super) fn keys_by(
        &mut self,
        path: &str,
        by: &[WrittenExpr],
        origins: &[Origin],
    ) -> Result<Vec<(StreamId, PartitionKey)>, Failed> {
        let mut keys: Vec<(StreamId, PartitionKey)> = Vec::new();
        let before = self.diagnostics.len();
        let mut lacking = Vec::new();
        let mut torn = Vec::new();
        for origin in origins {
            let Some(stream) = origin.stream() else {
                continue;
            };
            let progress = Progress::default();
            let source = Named {
                first: 0,
                ..origin.named()
            };
            let bind = |expr| self.key_over(path, source, expr, false, &progress);
            let bound: Result<Vec<Expr>, Failed> = by.iter().map(bind).collect();
            match bound {
                Ok(exprs) if !keys.iter().any(|(known, _)| *known == stream) => {
                    keys.push((stream, PartitionKey::Values(exprs)));
                }
                Ok(_) => {}
                Err(Failed) if !progress.unknown.get() => return Err(Failed),
                Err(Failed) => {
                    let faults = self.diagnostics.drain(before..);
                    torn.extend(faults.map(|fault| (stream, fault)));
                }
            }
        }
        for (stream, fault) in torn {
            if keys.iter().any(|(known, _)| *known == stream) {
                // A row has one key, whatever reads it.
                let hint = "name the columns of the key without the stream";
                self.diagnostics.push(fault.with_hint(hint));
                return Err(Failed);
            }
            lacking.push(fault);
        }
        if keys.is_empty() && origins.len() > 1 {
            let at = by.first().map_or(Place::default(), place);
            return self.refuse(path, at, "no stream here has every column of the key");
        }
        if keys.is_empty() {
            self.diagnostics.extend(lacking.into_iter().take(1));
            return Err(Failed);
        }
        Ok(keys)
    }
}
