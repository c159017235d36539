//! CREATE STREAM, TABLE, WINDOW, TRIGGER.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::ast::{CreateStream, CreateTable, CreateTrigger, CreateWindow, Name, Properties};
use super::super::plan::{Eviction, Property, Role, Stream, StreamId, Table, TableId, Trigger};
use super::super::time::unfit;
use super::Binder;
use crate::config::{ERROR_LETTERS, ERROR_STRATEGY};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::event::{Field, Schema, Type, parse_duration_ms};

impl Binder<'_> {
    /// Whether a name is still free; if not, that is reported.
    pub(super) fn is_free(&mut self, path: &str, name: &Name, what: &str) -> bool {
        if name.text.starts_with('#') {
            let message = "a name that begins with '#' is that of an inner stream of a PARTITION";
            self.diagnostics
                .push(Diagnostic::error(path, name.place, message));
        }
        let free = self.relation(&name.text).is_none();
        if !free {
            let message = format!("{what} '{}' is defined twice", name.text);
            self.diagnostics
                .push(Diagnostic::error(path, name.place, message));
        }
        free
    }

    fn schema(&mut self, path: &str, columns: &[(Name, Type)]) -> Arc<Schema> {
        let mut fields: Vec<Field> = Vec::new();
        for (column, ty) in columns {
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
        Arc::new(Schema::new(fields))
    }

    /// A stream inside only.
    pub(super) fn add_stream(
        &mut self,
        path: &str,
        name: String,
        place: Place,
        schema: Arc<Schema>,
    ) -> StreamId {
        self.application.streams.push(Stream {
            name,
            schema,
            role: Role::Internal,
            connector: None,
            format: None,
            properties: Vec::new(),
            event_time: None,
            dead_letters: None,
            settings: Vec::new(),
            path: path.to_owned(),
            place,
        });
        StreamId(self.application.streams.len() - 1)
    }

    pub(super) fn create_stream(&mut self, path: &str, create: &CreateStream) {
        let name = &create.name;
        if !self.is_free(path, name, "stream") {
            return;
        }
        let mut stream = Stream {
            name: name.text.clone(),
            schema: self.schema(path, &create.columns),
            role: Role::Internal,
            connector: None,
            format: None,
            properties: Vec::new(),
            event_time: None,
            dead_letters: None,
            settings: Vec::new(),
            path: path.to_owned(),
            place: name.place,
        };
        self.properties(path, create, &mut stream);
        self.application.streams.push(stream);
    }

    pub(super) fn create_window(&mut self, path: &str, create: &CreateWindow) {
        if !self.is_free(path, &create.name, "window") {
            return;
        }
        let schema = self.schema(path, &create.columns);
        let name = &create.name;
        // Each reader has its own; this one is for the faults.
        let _ = self.window(path, &create.window, [Some(&name.text), None], &schema);
        let id = self.add_stream(path, name.text.clone(), name.place, schema);
        self.windows.insert(id, create.window.clone());
    }

    pub(super) fn create_trigger(&mut self, path: &str, create: &CreateTrigger) {
        if !self.is_free(path, &create.name, "trigger") {
            return;
        }
        let schema = Arc::new(Schema::new(vec![Field {
            name: "triggered_time".to_owned(),
            ty: Type::Long,
        }]));
        let name = &create.name;
        let stream = self.add_stream(path, name.text.clone(), name.place, schema);
        self.application.triggers.push(Trigger {
            stream,
            at: create.at.clone(),
        });
    }

    pub(super) fn create_table(&mut self, path: &str, create: &CreateTable) {
        if !self.is_free(path, &create.name, "table") {
            return;
        }
        let schema = self.schema(path, &create.columns);
        let mut table = Table {
            name: create.name.text.clone(),
            primary_key: Vec::new(),
            indexes: Vec::new(),
            rows_max: None,
            eviction: Eviction::Lru,
            ttl_ms: None,
            letters: None,
            path: path.to_owned(),
            place: create.name.place,
            schema,
        };
        for key in &create.primary_key {
            let column = self.column_of(path, &table, &key.text, key.place);
            if column.is_some_and(|column| table.primary_key.contains(&column)) {
                let message = format!("column '{}' is in the key twice", key.text);
                self.diagnostics
                    .push(Diagnostic::error(path, key.place, message));
            }
            table.primary_key.extend(column);
        }
        self.table_properties(path, &create.properties, &mut table);
        self.table_letters(path, &create.properties);
        self.application.tables.push(table);
    }

    fn column_of(&mut self, path: &str, table: &Table, name: &str, place: Place) -> Option<usize> {
        let index = table.schema.index_of(name);
        if index.is_none() {
            let known = table
                .schema
                .fields()
                .iter()
                .map(|field| field.name.as_str());
            let message = format!("unknown column '{name}' in table '{}'", table.name);
            let hint = did_you_mean(name, known);
            self.diagnostics
                .push(Diagnostic::error(path, place, message).with_hint_if(hint));
        }
        index
    }

    fn table_properties(&mut self, path: &str, properties: &Properties, table: &mut Table) {
        let mut seen = BTreeSet::new();
        for (name, value) in properties {
            if !seen.insert(name.text.as_str()) {
                let message = format!("'{}' is set twice", name.text);
                self.diagnostics
                    .push(Diagnostic::error(path, name.place, message));
            }
            let wanted = self.table_property(path, (name, value), table);
            if let Some(wanted) = wanted {
                let message = format!(
                    "'{}' takes {wanted}, not '{}'",
                    name.text,
                    value.text.trim()
                );
                self.diagnostics
                    .push(Diagnostic::error(path, value.place, message));
            }
        }
        if seen.contains("eviction") && table.rows_max.is_none() {
            let message = "'eviction' says what happens at 'max_rows', which is not set";
            self.diagnostics
                .push(Diagnostic::error(path, table.place, message));
        }
    }

    /// Takes one property; what it takes instead, when it cannot take this value.
    fn table_property(
        &mut self,
        path: &str,
        (name, value): (&Name, &Name),
        table: &mut Table,
    ) -> Option<&'static str> {
        const KNOWN: [&str; 8] = [
            "type",
            "extension",
            "index",
            "max_rows",
            "eviction",
            "ttl",
            ERROR_STRATEGY,
            ERROR_LETTERS,
        ];
        let text = value.text.trim();
        match name.text.as_str() {
            "type" => (text != "table").then_some("'table'"),
            "extension" => (text != "inMemory").then_some("'inMemory'"),
            "index" => {
                let columns: Vec<_> = text
                    .split(',')
                    .map(|column| self.column_of(path, table, column.trim(), value.place))
                    .collect();
                let single = columns.into_iter().flatten().map(|column| vec![column]);
                table.indexes.extend(single);
                None
            }
            "max_rows" => {
                table.rows_max = text.parse().ok().filter(|rows| *rows > 0);
                table
                    .rows_max
                    .is_none()
                    .then_some("a number of rows, at least 1")
            }
            "eviction" => match text {
                "lru" => None,
                "fifo" => {
                    table.eviction = Eviction::Fifo;
                    None
                }
                "reject" => {
                    table.eviction = Eviction::Reject;
                    None
                }
                _ => Some("lru, fifo or reject"),
            },
            "ttl" => {
                table.ttl_ms = parse_duration_ms(text).filter(|ttl| *ttl > 0);
                table
                    .ttl_ms
                    .is_none()
                    .then_some("a span of time such as '1 h'")
            }
            ERROR_STRATEGY => match text {
                "drop" | "dlq" => None,
                _ => Some("drop or dlq"),
            },
            ERROR_LETTERS => None,
            other => {
                let message = format!("unknown property '{other}' of a table");
                let hint = did_you_mean(other, KNOWN);
                self.diagnostics
                    .push(Diagnostic::error(path, name.place, message).with_hint_if(hint));
                None
            }
        }
    }

    /// Where the rows go that the table, which is the next one, refuses: found when all streams are
    /// known.
    fn table_letters(&mut self, path: &str, properties: &Properties) {
        let of = |name: &str| properties.iter().find(|(known, _)| known.text == name);
        let strategy = of(ERROR_STRATEGY);
        let wanted = strategy.is_some_and(|(_, value)| value.text.trim() == "dlq");
        match (wanted, strategy, of(ERROR_LETTERS)) {
            (true, _, Some((_, stream))) => {
                let table = TableId(self.application.tables.len());
                self.table_letters
                    .push((table, path.to_owned(), stream.clone()));
            }
            (true, Some((_, value)), None) => {
                let message = format!("'dlq' needs '{ERROR_LETTERS}', the stream that takes them");
                self.diagnostics
                    .push(Diagnostic::error(path, value.place, message));
            }
            (false, _, Some((name, _))) => {
                let message =
                    format!("'{ERROR_LETTERS}' has no effect without '{ERROR_STRATEGY}' = 'dlq'");
                self.diagnostics
                    .push(Diagnostic::error(path, name.place, message));
            }
            (true, None, None) | (false, _, None) => {}
        }
    }

    /// Every stream is known: those that take what tables refuse are looked up.
    pub(super) fn settle_table_letters(&mut self) {
        for (table, path, name) in std::mem::take(&mut self.table_letters) {
            let text = name.text.trim();
            let problem = match self.application.stream_named(text) {
                Some((id, stream)) => match unfit(stream, false) {
                    Some(problem) => problem,
                    None => {
                        if let Some(table) = self.application.tables.get_mut(table.0) {
                            table.letters = Some(id);
                        }
                        continue;
                    }
                },
                None => format!("unknown stream '{text}'"),
            };
            let message = format!("'{ERROR_LETTERS}': {problem}");
            self.diagnostics
                .push(Diagnostic::error(&path, name.place, message));
        }
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
}
