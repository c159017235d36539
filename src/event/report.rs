//! What sources and sinks tell about themselves: rows of the built-in stream `_events`.

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
