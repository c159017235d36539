//! What a query reads: the names behind FROM and JOIN, looked up.

use std::sync::Arc;

use super::super::ast::{self, What};
use super::super::plan::{AggregationId, StreamId, TableId, Window};
use super::expr::Failed;
use super::names::Named;
use super::{Binder, Relation, Written};
use crate::diagnostic::{Diagnostic, Place};
use crate::event::Schema;

/// A source of a query.
pub(super) struct Origin {
    pub(super) name: String,
    pub(super) alias: Option<String>,
    pub(super) schema: Arc<Schema>,
    /// The place of its first column among the columns of all sources.
    pub(super) first: usize,
    pub(super) kind: OriginKind,
    pub(super) unidirectional: bool,
    pub(super) place: Place,
}

/// What a source is.
pub(super) enum OriginKind {
    Stream {
        id: StreamId,
        window: Option<Window>,
        /// Whether the window is the stream's own (`CREATE WINDOW`), not the query's.
        named: bool,
    },
    Table(TableId),
    Aggregation(AggregationId),
}

impl Origin {
    /// The stream that it is.
    pub(super) fn stream(&self) -> Option<StreamId> {
        match self.kind {
            OriginKind::Stream { id, .. } => Some(id),
            OriginKind::Table(_) | OriginKind::Aggregation(_) => None,
        }
    }

    /// Its window.
    pub(super) fn window(&self) -> Option<&Window> {
        match &self.kind {
            OriginKind::Stream { window, .. } => window.as_ref(),
            OriginKind::Table(_) | OriginKind::Aggregation(_) => None,
        }
    }

    /// Like [`Origin::window`].
    pub(super) fn window_mut(&mut self) -> Option<&mut Window> {
        match &mut self.kind {
            OriginKind::Stream { window, .. } => window.as_mut(),
            OriginKind::Table(_) | OriginKind::Aggregation(_) => None,
        }
    }

    /// The places of its columns among those of all sources.
    pub(super) fn columns(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.schema.width()
    }

    /// Whether it is a window that other queries may read, too.
    pub(super) fn is_named_window(&self) -> bool {
        matches!(self.kind, OriginKind::Stream { named: true, .. })
    }

    pub(super) fn named(&self) -> Named<'_> {
        Named {
            names: [self.alias.as_deref(), Some(&self.name)],
            schema: &self.schema,
            first: self.first,
            what: match self.kind {
                OriginKind::Stream { .. } => "stream",
                OriginKind::Table(_) => "table",
                OriginKind::Aggregation(_) => "aggregation",
            },
            alone: true,
        }
    }
}

impl Binder<'_> {
    /// The sources of a query, in the order in which they were written.
    pub(super) fn origins(&mut self, path: &str, written: &Written) -> Result<Vec<Origin>, Failed> {
        let sources = written.query.select.from.sources();
        let alone = sources.len() == 1;
        let mut origins: Vec<Origin> = Vec::new();
        for source in sources {
            let origin = self.origin(path, written, source, &origins)?;
            origins.push(origin);
        }
        if let [origin] = origins.as_slice() {
            if alone && origin.stream().is_none() {
                let name = &origin.name;
                let message = format!("'{name}' gives no rows by itself; JOIN a stream to it");
                return self.refuse(path, origin.place, message);
            }
            if origin.unidirectional {
                let message = "UNIDIRECTIONAL is for a side of a join";
                return self.refuse(path, origin.place, message);
            }
        }
        self.check_unidirectional(path, &origins)?;
        for (index, origin) in origins.iter().enumerate() {
            let called = |other: &Origin| {
                let name = |one: &Origin| one.alias.clone().unwrap_or_else(|| one.name.clone());
                name(other) == name(origin)
            };
            if origins.iter().take(index).any(called) {
                let name = origin.alias.as_ref().unwrap_or(&origin.name);
                let message = format!("two sources are called '{name}'");
                let fault = Diagnostic::error(path, origin.place, message);
                self.diagnostics
                    .push(fault.with_hint("give each a name of its own with AS"));
                return Err(Failed);
            }
        }
        Ok(origins)
    }

    /// UNIDIRECTIONAL says which of the sides that could trigger does.
    fn check_unidirectional(&mut self, path: &str, origins: &[Origin]) -> Result<(), Failed> {
        let could =
            |origin: &&Origin| matches!(origin.kind, OriginKind::Stream { named: false, .. });
        let mut marked = origins.iter().filter(|origin| origin.unidirectional);
        if let Some(origin) = marked.clone().find(|origin| !could(origin)) {
            let message = format!("'{}' never triggers: it is looked up", origin.name);
            return self.refuse(path, origin.place, message);
        }
        let all = origins.iter().filter(could).all(|one| one.unidirectional);
        if let (Some(origin), true) = (marked.nth(1), all) {
            let message = "UNIDIRECTIONAL on every side says nothing";
            return self.refuse(path, origin.place, message);
        }
        Ok(())
    }

    pub(super) fn origin(
        &mut self,
        path: &str,
        written: &Written,
        source: &ast::Source,
        before: &[Origin],
    ) -> Result<Origin, Failed> {
        let What::Named(name) = &source.what else {
            // Subqueries have become streams.
            return Err(Failed);
        };
        let Some(relation) = self.relation(written.local_name(&name.text)) else {
            return Err(Failed);
        };
        let (schema, kind) = match relation {
            Relation::Stream(id) => {
                let schema = self
                    .application
                    .stream(id)
                    .map(|one| Arc::clone(&one.schema));
                let schema = schema.ok_or(Failed)?;
                let own = self.windows.get(&id).cloned();
                let named = own.is_some();
                let partition = written.partition.is_some();
                if named && (partition || !written.query.select.partition_by.is_empty()) {
                    let message = format!(
                        "'{}' is one window for all, a partition has one for each key",
                        name.text
                    );
                    let fault = Diagnostic::error(path, name.place, message);
                    let hint = "read a stream, with a WINDOW";
                    self.diagnostics.push(fault.with_hint(hint));
                    return Err(Failed);
                }
                if let (true, Some(call)) = (named, &source.window) {
                    let message = format!("'{}' has its window already", name.text);
                    return self.refuse(path, call.kind.place, message);
                }
                let call = own.as_ref().or(source.window.as_ref());
                let alias = source.alias.as_ref().map(|alias| alias.text.as_str());
                let names = [alias, Some(name.text.as_str())];
                let window = call.map(|call| self.window(path, call, names, &schema));
                let window = window.transpose()?;
                (schema, OriginKind::Stream { id, window, named })
            }
            Relation::Table(id) => {
                let table = self.application.tables.get(id.0).ok_or(Failed)?;
                (Arc::clone(&table.schema), OriginKind::Table(id))
            }
            Relation::Aggregation(id) => {
                let one = self.application.aggregations.get(id.0).ok_or(Failed)?;
                (Arc::clone(&one.schema), OriginKind::Aggregation(id))
            }
        };
        if let (OriginKind::Table(_) | OriginKind::Aggregation(_), Some(call)) =
            (&kind, &source.window)
        {
            let message = format!("'{}' has no window: it is not a stream", name.text);
            return self.refuse(path, call.kind.place, message);
        }
        Ok(Origin {
            name: name.text.clone(),
            alias: source.alias.as_ref().map(|alias| alias.text.clone()),
            schema,
            first: before.last().map_or(0, |last| last.columns().end),
            kind,
            unidirectional: source.unidirectional,
            place: name.place,
        })
    }

    /// Reports a fault.
    pub(super) fn refuse<T>(
        &mut self,
        path: &str,
        place: Place,
        message: impl Into<String>,
    ) -> Result<T, Failed> {
        self.diagnostics
            .push(Diagnostic::error(path, place, message));
        Err(Failed)
    }
}
