//! Statements → plan. Everything that can be wrong with an application is found here, and all of
//! it is reported.

mod aggregate;
mod aggregation;
mod analytic;
mod call;
mod define;
mod expr;
mod flatten;
mod fold;
mod form;
mod join;
mod names;
mod narrow;
mod output;
mod partition;
mod pattern;
mod query;
mod source;
mod target;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ast::{self, Statement};
use super::plan::{AggregationId, Application, Query, StreamId, TableId};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::event::{EVENTS_COLUMNS, EVENTS_STREAM, Field, Schema};
use expr::Failed;

/// Binds the statements of several files, given with their paths.
pub(crate) fn bind(
    files: &[(String, Vec<Statement>)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Application {
    let mut binder = Binder {
        application: Application::default(),
        windows: BTreeMap::new(),
        partitions: Vec::new(),
        failed: BTreeSet::new(),
        table_letters: Vec::new(),
        diagnostics,
    };
    let mut work = Vec::new();
    for (path, statements) in files {
        for statement in statements {
            binder.statement(path, statement, &mut work);
        }
    }
    binder.work_off(work);
    binder.settle_table_letters();
    binder.partition_keys();
    binder.refuse_cycles();
    binder.application
}

struct Binder<'a> {
    application: Application,
    /// The windows of `CREATE WINDOW`, by their stream.
    windows: BTreeMap<StreamId, ast::WindowCall>,
    /// Partitions with their numbers and files, whose keys are still to be bound.
    partitions: Vec<(usize, String, ast::Partition)>,
    /// What would exist if its definition were right: what reads it is not reported.
    failed: BTreeSet<String>,
    /// Tables whose refused rows go to a stream, with its name as written.
    table_letters: Vec<(TableId, String, ast::Name)>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

/// What is bound when everything that it reads is known.
struct Work {
    path: String,
    what: Todo,
}

enum Todo {
    Query(Box<Written>),
    Aggregation(Box<ast::CreateAggregation>),
}

/// A query without subqueries and common table expressions: these have become queries of their
/// own.
struct Written {
    query: ast::Query,
    /// The name of what gets its rows.
    target: String,
    /// The partition that it stands in, by number.
    partition: Option<usize>,
    /// Streams by the names under which they are known in this query alone.
    local: BTreeMap<String, String>,
    /// Whether it was written inside another, the only one that reads it.
    private: bool,
}

/// What a name stands for.
#[derive(Clone, Copy)]
enum Relation {
    Stream(StreamId),
    Table(TableId),
    Aggregation(AggregationId),
}

impl Work {
    fn reads(&self) -> Vec<&ast::Name> {
        let from = match &self.what {
            Todo::Query(written) => &written.query.select.from,
            Todo::Aggregation(aggregation) => &aggregation.select.from,
        };
        let names = from.sources().into_iter();
        let mut names: Vec<&ast::Name> = names
            .filter_map(|source| match &source.what {
                ast::What::Named(name) => Some(name),
                ast::What::Subquery(_) => None,
            })
            .collect();
        if let ast::From::Pattern(pattern) = from {
            let mut elements = Vec::new();
            pattern::elements(&pattern.root, &mut elements);
            names.extend(elements.into_iter().map(|element| &element.stream));
        }
        names
    }

    /// The stream or aggregation that it makes.
    fn makes(&self) -> &str {
        match &self.what {
            Todo::Query(written) => &written.target,
            Todo::Aggregation(aggregation) => &aggregation.name.text,
        }
    }

    fn local_name<'n>(&'n self, name: &'n str) -> &'n str {
        match &self.what {
            Todo::Query(written) => written.local_name(name),
            Todo::Aggregation(_) => name,
        }
    }
}

impl Written {
    fn local_name<'n>(&'n self, name: &'n str) -> &'n str {
        self.local.get(name).map_or(name, String::as_str)
    }
}

impl Binder<'_> {
    fn statement(&mut self, path: &str, statement: &Statement, work: &mut Vec<Work>) {
        match statement {
            Statement::CreateStream(create) => self.create_stream(path, create),
            Statement::CreateTable(create) => self.create_table(path, create),
            Statement::CreateWindow(create) => self.create_window(path, create),
            Statement::CreateTrigger(create) => self.create_trigger(path, create),
            Statement::CreateAggregation(create) => work.push(Work {
                path: path.to_owned(),
                what: Todo::Aggregation(create.clone()),
            }),
            Statement::Query(query) => flatten::query(path, query, None, &BTreeMap::new(), work),
            Statement::Partition(partition) => self.partition(path, partition, work),
            Statement::Lost(name) => {
                self.failed.insert(name.clone());
            }
        }
    }

    fn relation(&self, name: &str) -> Option<Relation> {
        let Application {
            tables,
            aggregations,
            ..
        } = &self.application;
        if let Some((id, _)) = self.application.stream_named(name) {
            return Some(Relation::Stream(id));
        }
        if let Some(index) = tables.iter().position(|table| table.name == name) {
            return Some(Relation::Table(TableId(index)));
        }
        let index = aggregations.iter().position(|one| one.name == name)?;
        Some(Relation::Aggregation(AggregationId(index)))
    }

    /// A query may read a stream that a later one defines: those wait until nothing moves.
    fn work_off(&mut self, work: Vec<Work>) {
        self.built_in(&work);
        let mut bound: Vec<Option<Query>> = vec![None; work.len()];
        let mut waiting: Vec<usize> = (0..work.len()).collect();
        loop {
            let before = waiting.len();
            waiting.retain(|index| {
                let Some(todo) = work.get(*index) else {
                    return false;
                };
                let known =
                    |name: &&ast::Name| self.relation(todo.local_name(&name.text)).is_some();
                if !todo.reads().iter().all(known) {
                    return true;
                }
                match &todo.what {
                    Todo::Query(written) => {
                        if let Some(slot) = bound.get_mut(*index) {
                            *slot = self.query(&todo.path, written);
                        }
                    }
                    Todo::Aggregation(create) => self.create_aggregation(&todo.path, create),
                }
                false
            });
            if waiting.is_empty() || waiting.len() == before {
                break;
            }
        }
        for index in waiting {
            if let Some(todo) = work.get(index) {
                self.unknown_streams(todo, &work);
            }
        }
        for (number, query) in bound.into_iter().flatten().enumerate() {
            let partition = query.partition;
            let partition = partition.and_then(|one| self.application.partitions.get_mut(one));
            if let Some(partition) = partition {
                partition.queries.push(number);
            }
            self.application.queries.push(query);
        }
    }

    /// The stream of reports is there when somebody reads it and nobody defines it.
    fn built_in(&mut self, work: &[Work]) {
        let mut reads = work.iter().filter_map(|todo| {
            let mut names = todo.reads().into_iter();
            let read = names.find(|name| todo.local_name(&name.text) == EVENTS_STREAM)?;
            Some((todo.path.clone(), read.place))
        });
        let is_made = work.iter().any(|todo| todo.makes() == EVENTS_STREAM);
        if is_made || self.relation(EVENTS_STREAM).is_some() {
            return;
        }
        if let Some((path, place)) = reads.next() {
            let columns = EVENTS_COLUMNS.map(|(name, ty)| Field {
                name: name.to_owned(),
                ty,
            });
            let schema = Arc::new(Schema::new(columns.to_vec()));
            self.add_stream(&path, EVENTS_STREAM.to_owned(), place, schema);
        }
    }

    fn unknown_streams(&mut self, todo: &Work, all: &[Work]) {
        for name in todo.reads() {
            let text = todo.local_name(&name.text);
            let will_be = self.relation(text).is_some()
                || self.failed.contains(text)
                || all.iter().any(|other| other.makes() == text);
            if will_be {
                continue;
            }
            let known = self.application.streams.iter().map(|stream| &stream.name);
            let tables = self.application.tables.iter().map(|table| &table.name);
            let known = known.chain(tables).map(String::as_str);
            let hint = did_you_mean(text, known);
            let message = format!("unknown stream '{}'", name.text);
            self.diagnostics
                .push(Diagnostic::error(&todo.path, name.place, message).with_hint_if(hint));
        }
    }

    fn query(&mut self, path: &str, written: &Written) -> Option<Query> {
        match self.try_query(path, written) {
            Ok(query) => Some(query),
            Err(Failed) => {
                self.failed.insert(written.target.clone());
                None
            }
        }
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
