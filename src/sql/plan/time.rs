//! The time of a stream's rows, and what becomes of rows whose time is no good.

use std::fmt::Write as _;

use super::StreamId;
use crate::event::{TimeFormat, Type, format_duration_ms};

/// A stream whose rows carry their time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTime {
    /// The column with the time.
    pub column: usize,
    /// How it is written there.
    pub format: TimeFormat,
    /// How far rows may be out of order, in milliseconds. 0: rows are taken as they come.
    pub delay_ms: i64,
    /// After so long a silence, in milliseconds of the log's clock, nobody waits for the stream.
    pub idle_ms: Option<i64>,
    /// What becomes of a row behind the watermark.
    pub late: Late,
    /// How far a row's time may be ahead of the log's clock, in milliseconds.
    pub future_max_ms: i64,
    /// What becomes of a row that is further ahead.
    pub future: Future,
    /// How many rows may wait to be put in order.
    pub rows_max: usize,
    /// What happens at that bound.
    pub full: Full,
}

/// What becomes of a row behind the watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It is dropped and counted.
    Drop,
    /// It goes to the dead letters.
    DeadLetter,
    /// It counts at the watermark.
    Accept,
}

/// What becomes of a row too far ahead of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Future {
    /// It goes to the dead letters, or is dropped and counted when there are none.
    DeadLetter,
    /// It takes the log's time.
    Clamp,
    /// It waits until the clock has got there, and does not move it.
    Accept,
}

/// What happens when too many rows wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The oldest one no longer waits: the clock moves on to its time.
    Release,
    /// The new row goes to the dead letters, or is dropped and counted when there are none.
    DropNewest,
}

impl EventTime {
    /// The whole of it in a line; `column` is what the column is called.
    #[must_use]
    pub fn describe(&self, column: &str) -> String {
        let mut out = format!("time {column} as {}", self.format);
        let _ = write!(out, ", delay {}", format_duration_ms(self.delay_ms));
        if let Some(idle_ms) = self.idle_ms {
            let _ = write!(out, ", idle after {}", format_duration_ms(idle_ms));
        }
        let late = match self.late {
            Late::Drop => "dropped",
            Late::DeadLetter => "to the dead letters",
            Late::Accept => "at the clock",
        };
        let future = match self.future {
            Future::DeadLetter => "to the dead letters",
            Future::Clamp => "at the log's time",
            Future::Accept => "waits",
        };
        let full = match self.full {
            Full::Release => "the oldest is released",
            Full::DropNewest => "the newest is dropped",
        };
        let ahead = format_duration_ms(self.future_max_ms);
        let rows = self.rows_max;
        let _ = write!(
            out,
            ", late {late}, more than {ahead} ahead {future}, at most {rows} rows wait, then {full}"
        );
        out
    }
}

/// Where input goes that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// The stream, with the columns of [`DEAD_LETTER_COLUMNS`].
    pub stream: StreamId,
    /// Whether input that could not be decoded goes there too.
    pub rejected: bool,
}

/// The columns of a stream of dead letters.
pub const DEAD_LETTER_COLUMNS: [(&str, Type); 6] = [
    ("originalEvent", Type::String),
    ("errorMessage", Type::String),
    ("errorType", Type::String),
    ("timestamp", Type::Long),
    ("attemptCount", Type::Int),
    ("streamName", Type::String),
];
