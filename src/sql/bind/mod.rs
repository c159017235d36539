//! Statements → plan. Everything that can be wrong with an application is found here, and all of
//! it is reported.

mod call;
mod expr;
mod query;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ast::{CreateStream, Query as WrittenQuery, Statement};
use super::plan::{Application, Expr, Property, Query, Role, Stream, StreamId, Target};
use super::types;
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::event::{Field, Schema};
use query::BoundQuery;

/// Binds the statements of several files, given with their paths.
pub(crate) fn bind(
    files: &[(String, Vec<Statement>)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Application {
    let mut binder = Binder {
        application: Application::default(),
        failed: BTreeSet::new(),
        diagnostics,
    };
    let mut queries: Vec<(&str, &WrittenQuery)> = Vec::new();
    for (path, statements) in files {
        for statement in statements {
            match statement {
                Statement::CreateStream(create) => binder.create_stream(path, create),
                Statement::Query(query) => queries.push((path, query)),
            }
        }
    }
    binder.queries(&queries);
    binder.refuse_cycles();
    binder.application
}

struct Binder<'a> {
    application: Application,
    /// Streams that would exist if their definition were right: what reads them is not reported.
    failed: BTreeSet<String>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Binder<'_> {
    fn create_stream(&mut self, path: &str, create: &CreateStream) {
        let name = &create.name;
        if self.application.stream_named(&name.text).is_some() {
            let message = format!("stream '{}' is defined twice", name.text);
            self.diagnostics
                .push(Diagnostic::error(path, name.place, message));
            return;
        }
        let mut fields: Vec<Field> = Vec::new();
        for (column, ty) in &create.columns {
            if fields.iter().any(|field| field.name == column.text) {
                let message = format!("two columns are called '{}'", column.text);
                self.diagnostics
                    .push(Diagnostic::error(path, column.place, message));
            }
            fields.push(Field {
                name: column.text.clone(),
                ty: *ty,
            });
        }
        let mut stream = Stream {
            name: name.text.clone(),
            schema: Arc::new(Schema::new(fields)),
            role: Role::Internal,
            connector: None,
            format: None,
            properties: Vec::new(),
            path: path.to_owned(),
            place: name.place,
        };
        self.properties(path, create, &mut stream);
        self.application.streams.push(stream);
    }

    /// `type`, `extension` and `format` are the plan's business, the rest is the connector's.
    fn properties(&mut self, path: &str, create: &CreateStream, stream: &mut Stream) {
        let mut seen = BTreeSet::new();
        for (name, value) in &create.properties {
            if !seen.insert(name.text.as_str()) {
                let message = format!("'{}' is set twice", name.text);
                self.diagnostics
                    .push(Diagnostic::error(path, name.place, message));
            }
            match name.text.as_str() {
                "type" => match value.text.as_str() {
                    "source" => stream.role = Role::Source,
                    "sink" => stream.role = Role::Sink,
                    "internal" => stream.role = Role::Internal,
                    other => {
                        let message = format!("'type' is source, sink or internal, not '{other}'");
                        let hint = did_you_mean(other, ["source", "sink", "internal"]);
                        self.diagnostics
                            .push(Diagnostic::error(path, value.place, message).with_hint_if(hint));
                    }
                },
                "extension" => stream.connector = Some(value.text.clone()),
                "format" => stream.format = Some(value.text.clone()),
                _ => stream.properties.push(Property {
                    name: name.text.clone(),
                    value: value.text.clone(),
                    place: name.place,
                    value_place: value.place,
                }),
            }
        }
        let complaint = match stream.role {
            Role::Internal if stream.connector.is_some() || stream.format.is_some() => {
                Some("'extension' and 'format' are for streams whose 'type' is source or sink")
            }
            Role::Source | Role::Sink if stream.connector.is_none() => {
                Some("a source or sink needs an 'extension', such as 'mqtt'")
            }
            Role::Internal | Role::Source | Role::Sink => None,
        };
        if let Some(complaint) = complaint {
            self.diagnostics
                .push(Diagnostic::error(path, create.name.place, complaint));
        }
    }

    /// A query may read a stream that a later one defines: those wait until nothing moves.
    fn queries(&mut self, written: &[(&str, &WrittenQuery)]) {
        let mut bound: Vec<Option<Query>> = vec![None; written.len()];
        let mut waiting: Vec<usize> = (0..written.len()).collect();
        loop {
            let before = waiting.len();
            waiting.retain(|index| {
                let Some((path, query)) = written.get(*index) else {
                    return false;
                };
                let Some((input, _)) = self.application.stream_named(&query.from.stream.text)
                else {
                    return true;
                };
                if let Some(slot) = bound.get_mut(*index) {
                    *slot = self.query(path, query, input);
                }
                false
            });
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        for index in waiting {
            if let Some((path, query)) = written.get(index) {
                self.unknown_stream(path, query, written);
            }
        }
        self.application.queries = bound.into_iter().flatten().collect();
    }

    fn unknown_stream(&mut self, path: &str, query: &WrittenQuery, all: &[(&str, &WrittenQuery)]) {
        let name = &query.from.stream;
        let defined_by_failed = self.failed.contains(&name.text)
            || all.iter().any(|(_, other)| other.target.text == name.text);
        if defined_by_failed {
            return;
        }
        let known = self
            .application
            .streams
            .iter()
            .map(|stream| stream.name.as_str());
        let hint = did_you_mean(&name.text, known);
        let message = format!("unknown stream '{}'", name.text);
        self.diagnostics
            .push(Diagnostic::error(path, name.place, message).with_hint_if(hint));
    }

    fn query(&mut self, path: &str, written: &WrittenQuery, input: StreamId) -> Option<Query> {
        let stream = self.application.stream(input)?.clone();
        let Ok(bound) = query::bind(path, written, input, &stream, self.diagnostics) else {
            self.failed.insert(written.target.text.clone());
            return None;
        };
        let BoundQuery { mut query, places } = bound;
        query.target = match self.application.stream_named(&written.target.text) {
            Some((id, target)) => {
                let schema = Arc::clone(&target.schema);
                self.fit(path, written, &mut query, &schema, &places)?;
                Target::Stream(id)
            }
            None => Target::Stream(self.define(path, written, &query)),
        };
        Some(query)
    }

    /// Columns go to the target by position; count and types must fit.
    fn fit(
        &mut self,
        path: &str,
        written: &WrittenQuery,
        query: &mut Query,
        schema: &Schema,
        places: &[Place],
    ) -> Option<()> {
        if query.select.len() != schema.width() {
            let message = format!(
                "'{}' has {} columns ({schema}), the query gives {}",
                written.target.text,
                schema.width(),
                query.select.len()
            );
            self.diagnostics
                .push(Diagnostic::error(path, written.target.place, message));
            return None;
        }
        let mut fits = true;
        for ((expr, field), place) in query.select.iter_mut().zip(schema.fields()).zip(places) {
            if !expr.is_null_literal() && !types::assignable(expr.ty, field.ty) {
                let message = format!(
                    "column '{}' of '{}' is {}, this is {}",
                    field.name, written.target.text, field.ty, expr.ty
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
        fits.then_some(())
    }

    /// INSERT INTO a stream that is not defined defines it, with the query's columns.
    fn define(&mut self, path: &str, written: &WrittenQuery, query: &Query) -> StreamId {
        let fields = query
            .names
            .iter()
            .zip(&query.select)
            .map(|(name, expr)| Field {
                name: name.clone(),
                ty: expr.ty,
            })
            .collect();
        self.application.streams.push(Stream {
            name: written.target.text.clone(),
            schema: Arc::new(Schema::new(fields)),
            role: Role::Internal,
            connector: None,
            format: None,
            properties: Vec::new(),
            path: path.to_owned(),
            place: written.target.place,
        });
        StreamId(self.application.streams.len() - 1)
    }

    /// A query that reads what it writes, directly or through others, would never come to rest:
    /// streams are taken away as long as nothing that is left writes into them.
    fn refuse_cycles(&mut self) {
        let Application {
            streams, queries, ..
        } = &self.application;
        let mut writers = vec![0_usize; streams.len()];
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); streams.len()];
        for (number, query) in queries.iter().enumerate() {
            let Some(target) = query.target_stream() else {
                continue;
            };
            for input in query.input.streams() {
                let list = readers.get_mut(input.stream.0);
                if let (Some(list), Some(count)) = (list, writers.get_mut(target.0)) {
                    list.push(number);
                    *count += 1;
                }
            }
        }
        let mut open: Vec<usize> = (0..streams.len())
            .filter(|id| writers.get(*id) == Some(&0))
            .collect();
        while let Some(stream) = open.pop() {
            for number in readers
                .get_mut(stream)
                .map(std::mem::take)
                .unwrap_or_default()
            {
                let target = queries.get(number).and_then(Query::target_stream);
                let Some(target) = target else { continue };
                if let Some(count) = writers.get_mut(target.0) {
                    *count -= 1;
                    if *count == 0 {
                        open.push(target.0);
                    }
                }
            }
        }
        let circling = queries.iter().find_map(|query| {
            let target = query.target_stream()?;
            let read = query.input.streams();
            let own = read.into_iter().find(|input| {
                let unresolved = readers.get(input.stream.0);
                unresolved.is_some_and(|list| !list.is_empty())
            })?;
            (writers.get(target.0)? > &0).then_some((query, own.stream))
        });
        if let Some((query, stream)) = circling {
            let name = streams.get(stream.0).map_or("", |stream| &stream.name);
            let message = format!("this query feeds '{name}', which it reads: a circle");
            self.diagnostics
                .push(Diagnostic::error(&query.path, query.place, message));
        }
    }
}
