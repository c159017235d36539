//! What sources, sinks and the pipeline tell about themselves: rows of the built-in stream
//! `_events`.

use super::{Type, Value};

/// The built-in stream of reports. It exists in an application that names it and does not define
/// it, and can be read like any other.
pub const EVENTS_STREAM: &str = "_events";

/// Its columns.
pub const EVENTS_COLUMNS: [(&str, Type); 5] = [
    ("event", Type::String),
    ("stream", Type::String),
    ("reason", Type::String),
    ("duration_ms", Type::Long),
    ("details", Type::Json),
];

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReportKind {
    /// A source lost its far side, or did not find it when it started.
    SourceDown,
    /// It has it (again).
    SourceUp,
    /// Nothing came from a source for its `idle_timeout`.
    SourceSilent,
    /// Something came again.
    SourceHeard,
    /// A source has ended for good: `error.strategy` is `fail`.
    SourceFailed,
    /// A sink lost its far side.
    SinkDown,
    /// It has it again.
    SinkUp,
    /// Everything that had waited through an outage is delivered.
    SinkOutage,
    /// A sink has ended for good: `error.strategy` is `fail`.
    SinkFailed,
    /// Another configuration is in force.
    ConfigChanged,
    /// A new configuration was refused.
    ConfigRefused,
    /// The log was told of another state of the clock: it was set, or is worth more or less now.
    ClockStepped,
    /// The store was damaged and is set aside; a fresh one was begun.
    StoreQuarantined,
    /// The store's files were damaged, and an unknown part of what they held is gone.
    StoreLost,
    /// Sources are held back, or may be soon, for the sake of the store.
    StoreDegraded,
    /// They are not any more.
    StoreRecovered,
    /// An outbox has given up outputs.
    OutboxDropped,
}

impl ReportKind {
    /// The word in the column `event`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ReportKind::SourceDown => "source.down",
            ReportKind::SourceUp => "source.up",
            ReportKind::SourceSilent => "source.silent",
            ReportKind::SourceHeard => "source.heard",
            ReportKind::SourceFailed => "source.failed",
            ReportKind::SinkDown => "sink.down",
            ReportKind::SinkUp => "sink.up",
            ReportKind::SinkOutage => "sink.outage",
            ReportKind::SinkFailed => "sink.failed",
            ReportKind::ConfigChanged => "config.changed",
            ReportKind::ConfigRefused => "config.refused",
            ReportKind::ClockStepped => "clock.stepped",
            ReportKind::StoreQuarantined => "store.quarantined",
            ReportKind::StoreLost => "store.lost",
            ReportKind::StoreDegraded => "store.degraded",
            ReportKind::StoreRecovered => "store.recovered",
            ReportKind::OutboxDropped => "outbox.dropped",
        }
    }
}

/// One row of `_events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What has happened.
    pub kind: ReportKind,
    /// To which stream; empty when it is about the daemon.
    pub stream: String,
    /// Why, in a sentence; empty when there is nothing to say.
    pub reason: String,
    /// How long the state lasted that has ended now.
    pub duration_ms: Option<i64>,
    /// More of it, as the text of a JSON object.
    pub details: Option<String>,
}

impl Report {
    /// That this has happened to a stream, or to the daemon when `stream` is empty.
    #[must_use]
    pub fn new(kind: ReportKind, stream: &str) -> Report {
        Report {
            kind,
            stream: stream.to_owned(),
            reason: String::new(),
            duration_ms: None,
            details: None,
        }
    }

    /// Its values, in the order of [`EVENTS_COLUMNS`].
    #[must_use]
    pub fn into_row(self) -> [Value; EVENTS_COLUMNS.len()] {
        [
            Value::text(self.kind.word()),
            Value::text(&self.stream),
            Value::text(&self.reason),
            self.duration_ms.map_or(Value::Null, Value::Int),
            self.details.map_or(Value::Null, |json| Value::text(&json)),
        ]
    }
}
