//! What streams say about the time of their rows, and about input that cannot be used: options
//! become part of the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::plan::{
    Application, DEAD_LETTER_COLUMNS, DeadLetters, Domains, EventTime, Full, Future, Late, Query,
    Role, Stream, StreamId, TableId,
};
use crate::config::options::{Layer, OptionKind, OptionSpec, OptionValue, Options};
use crate::config::{
    self, ERROR_LETTERS as LETTERS, ERROR_STRATEGY as STRATEGY, Expander, OUTBOX_DEAD_LETTER,
    OUTBOX_OPTIONS, OnRefusal, Property, SINK_ERROR_OPTIONS, StreamDefinition,
};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::event::{TIME_FORMATS, TimeFormat};

const FIELD: &str = "timestamp.field";
const FORMAT: &str = "timestamp.format";
const DELAY: &str = "timestamp.delay";
const IDLE: &str = "timestamp.idle";
const LATE: &str = "timestamp.late";
const FUTURE_MAX: &str = "timestamp.future_max";
const FUTURE: &str = "timestamp.future";
const ROWS_MAX: &str = "timestamp.rows_max";
const FULL: &str = "timestamp.full";

/// The options of every stream but sinks.
pub const OPTIONS: &[OptionSpec] = &[
    option(
        FIELD,
        OptionKind::Text,
        None,
        "The column with the time of a row; without it, that is when the row arrived.",
    ),
    option(
        FORMAT,
        OptionKind::Text,
        Some("ms"),
        "How the time is written: `ms`, `s`, `us`, `ns` since 1970, `iso8601`, or a pattern of \
         `strftime`; UTC unless it has an offset.",
    ),
    option(
        DELAY,
        OptionKind::Duration,
        Some("0"),
        "How long rows wait for older ones, by their own time; 0: they are taken as they come.",
    ),
    option(
        IDLE,
        OptionKind::Duration,
        None,
        "After so long a silence nobody waits for this stream; unset: as long as it takes.",
    ),
    option(
        LATE,
        OptionKind::Choice(&["drop", "dlq", "accept"]),
        None,
        "What becomes of a row that comes too late: dropped (and counted), to the dead letters, or \
         taken at the clock. Unset: to the dead letters with `error.strategy` `dlq`, else \
         dropped; without a delay no row is too late.",
    ),
    option(
        FUTURE_MAX,
        OptionKind::Duration,
        Some("5 min"),
        "How far the time of a row may be ahead of the gateway's clock, once that is set.",
    ),
    option(
        FUTURE,
        OptionKind::Choice(&["dlq", "clamp", "accept"]),
        Some("dlq"),
        "What becomes of a row further ahead: to the dead letters (dropped and counted without \
         them), taken with the time of its arrival, or kept until the clock has got there.",
    ),
    option(
        ROWS_MAX,
        OptionKind::Integer {
            min: 1,
            max: 10_000_000,
        },
        Some("100000"),
        "How many rows may wait, together with those of the streams that queries link to this one.",
    ),
    option(
        FULL,
        OptionKind::Choice(&["release", "drop_newest"]),
        Some("release"),
        "At that bound: the oldest row waits no longer, or the new one goes to the dead letters \
         (dropped and counted without them).",
    ),
    option(
        STRATEGY,
        OptionKind::Choice(&["drop", "dlq", "retry", "fail"]),
        Some("drop"),
        "What becomes of input that cannot be decoded: dropped (and counted), to the dead letters, \
         or the source ends without taking it (`fail`). `retry` is for sinks: what cannot be \
         decoded does not become better.",
    ),
    option(
        LETTERS,
        OptionKind::Text,
        None,
        "The stream that takes the dead letters.",
    ),
];

const fn option(
    name: &'static str,
    kind: OptionKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> OptionSpec {
    OptionSpec {
        default,
        ..OptionSpec::new(name, kind, doc)
    }
}

/// One option of a stream that shapes the plan, with the value that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The stream's name.
    pub stream: String,
    /// The option's name.
    pub name: String,
    /// The value as it would be written, references expanded.
    pub value: String,
}

/// The options of these kinds that are written in SQL alone.
pub(super) fn written(
    application: &Application,
    faults: &mut Vec<Diagnostic>,
) -> BTreeMap<StreamId, Options> {
    let is_ours = |name: &str| {
        name.starts_with("timestamp.") || name.starts_with("error.") || name == OUTBOX_DEAD_LETTER
    };
    let properties = |stream: &Stream| {
        let properties = stream.properties.iter();
        let ours = properties.filter(|property| is_ours(&property.name));
        let property = |one: &super::plan::Property| Property {
            name: one.name.clone(),
            value: one.value.clone(),
            place: one.place,
            value_place: one.value_place,
        };
        ours.map(property).collect()
    };
    resolved(application, &properties, faults)
}

/// The options that these settings are.
pub(super) fn set(
    application: &Application,
    settings: &[Setting],
    faults: &mut Vec<Diagnostic>,
) -> BTreeMap<StreamId, Options> {
    let properties = |stream: &Stream| {
        let settings = settings.iter().filter(|one| one.stream == stream.name);
        let property = |one: &Setting| Property {
            name: one.name.clone(),
            value: one.value.replace('$', "$$"),
            place: stream.place,
            value_place: stream.place,
        };
        settings.map(property).collect()
    };
    resolved(application, &properties, faults)
}

fn resolved(
    application: &Application,
    properties: &dyn Fn(&Stream) -> Vec<Property>,
    faults: &mut Vec<Diagnostic>,
) -> BTreeMap<StreamId, Options> {
    let nothing = |_: &str| None;
    let expander = Expander::new(&nothing, Path::new(""));
    let mut found = BTreeMap::new();
    for (stream, id) in application.streams.iter().zip((0..).map(StreamId)) {
        let properties = properties(stream);
        if properties.is_empty() {
            continue;
        }
        let specs: &[&[OptionSpec]] = match stream.role {
            Role::Sink => &[OUTBOX_OPTIONS, SINK_ERROR_OPTIONS],
            Role::Internal | Role::Source => &[OPTIONS],
        };
        let definition = StreamDefinition {
            properties: &properties,
            specs,
            ..definition(stream)
        };
        match config::resolve_alone(definition, &expander) {
            Ok(options) => {
                found.insert(id, options);
            }
            Err(more) => faults.extend(more),
        }
    }
    found
}

fn definition(stream: &Stream) -> StreamDefinition<'_> {
    StreamDefinition {
        name: &stream.name,
        path: &stream.path,
        place: stream.place,
        properties: &[],
        specs: &[],
    }
}

/// Makes the options of its streams part of an application, and tells what is wrong with them.
pub fn settle(
    application: &mut Application,
    options: &BTreeMap<StreamId, Options>,
) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for (id, options) in options {
        let Some(stream) = application.stream(*id) else {
            continue;
        };
        let mut reader = Reader {
            application,
            stream,
            options,
            faults: &mut faults,
        };
        let dead_letters = reader.dead_letters(*id);
        let event_time = reader.event_time(*id, dead_letters.is_some());
        let is_sink = stream.role == Role::Sink;
        let settings = settings(options, dead_letters.is_some(), is_sink);
        if let Some(stream) = application.streams.get_mut(id.0) {
            stream.dead_letters = dead_letters;
            stream.event_time = event_time;
            stream.settings = settings;
        }
    }
    if faults.is_empty() {
        faults.extend(entangled(application));
    }
    faults
}

/// What must be known to make the same plan again.
fn settings(options: &Options, has_letters: bool, is_sink: bool) -> Vec<(String, String)> {
    let ours = options.iter().filter(|(name, _, layer)| {
        let ours = OPTIONS.iter().any(|option| option.name == *name)
            || (*name == OUTBOX_DEAD_LETTER && has_letters);
        // What else is set for a sink about errors does not shape the plan.
        let ours = ours && (!is_sink || !name.starts_with("error.") || *name == LETTERS);
        ours && *layer != Layer::Default
    });
    let text = |value: &OptionValue| match value {
        OptionValue::Text(text) => text.clone(),
        OptionValue::Integer(number) => number.to_string(),
        OptionValue::Flag(flag) => flag.to_string(),
        OptionValue::Number(number) => number.to_string(),
        OptionValue::List(texts) => texts.join(", "),
    };
    ours.map(|(name, value, _)| (name.to_owned(), text(value)))
        .collect()
}

/// What streams cannot do together.
fn entangled(application: &Application) -> Option<Diagnostic> {
    if let Some((name, path, place)) = circle(application) {
        let message = format!("the dead letters of '{name}' lead back into it: a circle");
        return Some(Diagnostic::error(path, place, message));
    }
    let domains = Domains::new(application);
    let query = domains.waits_for_itself(application)?;
    let name = application.target_name(query);
    let message = format!(
        "'{name}' would wait for itself: by '{FIELD}' its rows set the clock of the rows that this \
         query reads"
    );
    let hint = format!("remove '{FIELD}' of '{name}', whose rows then have the time of those read");
    Some(Diagnostic::error(&query.path, query.place, message).with_hint(hint))
}

/// A stream or a table that its own dead letters reach: its name and where it is.
fn circle(application: &Application) -> Option<(&str, &str, Place)> {
    let of_streams = application.streams.iter().zip((0..).map(StreamId));
    let mut of_streams = of_streams.filter(|(stream, id)| {
        let letters = stream.dead_letters.map(|letters| letters.stream);
        letters.is_some_and(|letters| reached(application, letters).0.contains(id))
    });
    let of_tables = application.tables.iter().zip((0..).map(TableId));
    let mut of_tables = of_tables.filter(|(table, id)| {
        let letters = table.letters;
        letters.is_some_and(|letters| reached(application, letters).1.contains(id))
    });
    match of_streams.next() {
        Some((one, _)) => Some((&one.name, &one.path, one.place)),
        None => of_tables
            .next()
            .map(|(one, _)| (one.name.as_str(), one.path.as_str(), one.place)),
    }
}

/// The streams and tables that rows of a stream reach, by queries and as dead letters.
fn reached(application: &Application, from: StreamId) -> (BTreeSet<StreamId>, BTreeSet<TableId>) {
    let mut streams = BTreeSet::from([from]);
    let mut tables = BTreeSet::new();
    let mut open = vec![from];
    while let Some(stream) = open.pop() {
        let reads = |query: &&Query| {
            let mut inputs = query.input.streams().into_iter();
            inputs.any(|input| input.stream == stream)
        };
        let mut next: Vec<StreamId> = Vec::new();
        for query in application.queries.iter().filter(reads) {
            next.extend(query.target_stream());
            if let Some(table) = query.target_table() {
                tables.insert(table);
                let table = application.tables.get(table.0);
                next.extend(table.and_then(|table| table.letters));
            }
        }
        let letters = application.stream(stream).and_then(|one| one.dead_letters);
        next.extend(letters.map(|letters| letters.stream));
        open.extend(next.into_iter().filter(|next| streams.insert(*next)));
    }
    (streams, tables)
}

struct Reader<'a> {
    application: &'a Application,
    stream: &'a Stream,
    options: &'a Options,
    faults: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn fault(&mut self, option: &str, problem: &str, hint: Option<String>) {
        let fault = config::unusable(definition(self.stream), self.options, option, problem);
        self.faults.push(fault.with_hint_if(hint));
    }

    fn dead_letters(&mut self, own: StreamId) -> Option<DeadLetters> {
        if self.stream.role == Role::Sink {
            return self.letters_of_sink(own);
        }
        let strategy = self.options.text(STRATEGY).unwrap_or("drop");
        let problem = match (strategy, self.stream.role) {
            ("retry", Role::Source) => {
                "'retry' is for sinks: what cannot be decoded does not become better; a source has \
                 'drop', 'dlq' and 'fail'"
            }
            ("retry", _) => "'retry' is for sinks; this stream has 'drop' and 'dlq'",
            ("fail", Role::Internal) if self.options.is_own(STRATEGY) => {
                "'fail' is for sources and sinks: this stream has 'drop' and 'dlq'"
            }
            _ => "",
        };
        if !problem.is_empty() {
            self.fault(STRATEGY, problem, None);
            return None;
        }
        let rejected = strategy == "dlq";
        if !self.options.has(LETTERS) {
            for (option, value) in [(STRATEGY, "dlq"), (LATE, "dlq"), (FUTURE, "dlq")] {
                let set = self.options.layer(option) > Some(Layer::Default);
                if set && self.options.text(option) == Some(value) {
                    let problem = format!("'dlq' needs '{LETTERS}', the stream that takes them");
                    self.fault(option, &problem, None);
                }
            }
            return None;
        }
        let used = rejected || self.options.has(FIELD);
        if !used && self.options.is_own(LETTERS) {
            let problem = format!("it has no effect without '{STRATEGY}' = 'dlq'");
            self.fault(LETTERS, &problem, None);
        }
        let stream = self.takes_letters(LETTERS, own)?;
        Some(DeadLetters { stream, rejected })
    }

    fn letters_of_sink(&mut self, own: StreamId) -> Option<DeadLetters> {
        if let Err(fault) = OnRefusal::of_sink(self.options) {
            self.fault(&fault.option, &fault.problem, None);
            return None;
        }
        let named = [OUTBOX_DEAD_LETTER, LETTERS].into_iter();
        let option = named.max_by_key(|option| self.options.layer(option))?;
        // What is set for all sinks is not meant for the one that takes the letters.
        let takes_them = self.options.text(option) == Some(&self.stream.name);
        if takes_them && !self.options.is_own(option) {
            return None;
        }
        let stream = self.takes_letters(option, own)?;
        let rejected = false;
        Some(DeadLetters { stream, rejected })
    }

    /// The stream that `option` names, when it can take the dead letters of this one.
    fn takes_letters(&mut self, option: &str, own: StreamId) -> Option<StreamId> {
        let name = self.options.text(option)?;
        let Some((stream, letters)) = self.application.stream_named(name) else {
            let known = self.application.streams.iter();
            let hint = did_you_mean(name, known.map(|stream| stream.name.as_str()));
            let hint = hint.unwrap_or_else(|| format!("CREATE STREAM {name} ({})", columns()));
            self.fault(option, &format!("unknown stream '{name}'"), Some(hint));
            return None;
        };
        if let Some(problem) = unfit(letters, stream == own) {
            self.fault(option, &problem, None);
            return None;
        }
        Some(stream)
    }

    fn event_time(&mut self, id: StreamId, has_letters: bool) -> Option<EventTime> {
        let Some(field) = self.options.text(FIELD) else {
            for option in OPTIONS {
                let name = option.name;
                if name.starts_with("timestamp.") && self.options.is_own(name) {
                    let problem = format!("it has no effect without '{FIELD}'");
                    self.fault(name, &problem, None);
                }
            }
            return None;
        };
        let triggers = &self.application.triggers;
        if triggers.iter().any(|trigger| trigger.stream == id) {
            self.fault(
                FIELD,
                "a trigger's rows have the time at which it fires",
                None,
            );
            return None;
        }
        let schema = &self.stream.schema;
        let Some(column) = schema.index_of(field) else {
            let known = schema.fields().iter().map(|field| field.name.as_str());
            let hint = did_you_mean(field, known);
            self.fault(FIELD, &format!("unknown column '{field}'"), hint);
            return None;
        };
        let format = self.format(field, column)?;
        let delay_ms = self.options.integer(DELAY)?;
        let idle_ms = self.options.integer(IDLE);
        if idle_ms == Some(0) {
            self.fault(IDLE, "it must be at least 1 ms", None);
        }
        let strategy = self.options.text(STRATEGY);
        Some(EventTime {
            column,
            format,
            delay_ms,
            idle_ms,
            late: match (self.options.text(LATE), strategy) {
                (Some("dlq"), _) => Late::DeadLetter,
                (Some("accept"), _) => Late::Accept,
                (Some(_), _) => Late::Drop,
                (None, _) if delay_ms == 0 => Late::Accept,
                (None, Some("dlq")) if has_letters => Late::DeadLetter,
                (None, _) => Late::Drop,
            },
            future_max_ms: self.options.integer(FUTURE_MAX)?,
            future: match self.options.text(FUTURE) {
                Some("clamp") => Future::Clamp,
                Some("accept") => Future::Accept,
                _ => Future::DeadLetter,
            },
            rows_max: usize::try_from(self.options.integer(ROWS_MAX)?).ok()?,
            full: match self.options.text(FULL) {
                Some("drop_newest") => Full::DropNewest,
                _ => Full::Release,
            },
        })
    }

    fn format(&mut self, field: &str, column: usize) -> Option<TimeFormat> {
        let name = self.options.text(FORMAT)?;
        let format = match TimeFormat::named(name) {
            Ok(format) => format,
            Err(problem) => {
                let hint = did_you_mean(name, TIME_FORMATS);
                self.fault(FORMAT, &problem, hint);
                return None;
            }
        };
        let ty = self.stream.schema.fields().get(column)?.ty;
        if format.fits(ty) {
            return Some(format);
        }
        let hint = match ty {
            crate::event::Type::String => "use 'iso8601' or a pattern such as '%Y-%m-%d %H:%M:%S'",
            crate::event::Type::Timestamp => "a TIMESTAMP is in 'ms'",
            _ if ty.is_numeric() => "use 'ms', 's', 'us' or 'ns'",
            _ => "a time is a number, a TIMESTAMP or a STRING",
        };
        let problem = format!("column '{field}' is {ty}, which cannot hold a time as '{format}'");
        // What is not written is not at fault: the column is.
        let option = if self.options.layer(FORMAT) > Some(Layer::Default) {
            FORMAT
        } else {
            FIELD
        };
        self.fault(option, &problem, Some(hint.to_owned()));
        None
    }
}

fn columns() -> String {
    let columns = DEAD_LETTER_COLUMNS.iter();
    let columns: Vec<String> = columns.map(|(name, ty)| format!("{name} {ty}")).collect();
    columns.join(", ")
}

/// Why a stream cannot take dead letters.
pub(super) fn unfit(letters: &Stream, own: bool) -> Option<String> {
    let name = &letters.name;
    if own {
        return Some("a stream cannot take its own dead letters".to_owned());
    }
    if letters.role == Role::Source {
        return Some(format!("'{name}' is a source"));
    }
    let fields = letters.schema.fields().iter();
    let has = fields.map(|field| (field.name.as_str(), field.ty));
    if has.eq(DEAD_LETTER_COLUMNS) {
        return None;
    }
    let columns = columns();
    Some(format!(
        "'{name}' must have exactly the columns ({columns}), it has ({})",
        letters.schema
    ))
}
