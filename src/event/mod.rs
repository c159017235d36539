//! The vocabulary of everything else: values, schemas, rows, sequence numbers and time.
//!
//! Imports nothing of ours. What is here is data and its exact meaning; how data is decoded,
//! computed with or stored belongs to other modules.

mod batch;
pub mod cbor;
mod encoding;
mod input;
pub mod json;
mod render;
mod report;
mod schema;
mod state;
mod time;
mod time_format;
mod value;

pub use batch::{Batch, Row, Rows, Stamp};
pub use encoding::{from_base64, from_hex, to_base64, to_hex};
pub use input::{ClockState, DeliveryMark, Rejected};
pub use render::{
    render_json, render_json_inside, render_json_text, render_json_value, render_json_with,
};
pub use report::{EVENTS_COLUMNS, EVENTS_STREAM, Report, ReportKind};
pub use schema::{Field, Schema, Type};
pub use state::{GrowingState, Place, State, StateChanges};
pub use time::{DURATION_UNITS, Timestamp, format_duration_ms, parse_duration_ms, unit_ms};
pub use time_format::{TIME_FORMATS, TimeFormat};
pub use value::Value;
pub(crate) use value::same_bytes;

use serde::{Deserialize, Serialize};

/// The place of an input in the write-ahead log, from 1 upwards; 0 is "before the first".
///
/// A row, a tick and a rejected input each take one number, so that every effect has one cause.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Seq(pub u64);

impl Seq {
    /// The number `count` places later.
    #[must_use]
    pub fn plus(self, count: u64) -> Seq {
        Seq(self.0.saturating_add(count))
    }
}

impl std::fmt::Display for Seq {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.0)
    }
}

/// The identity of one output: the input that caused it, its place among the outputs that this
/// input caused in the same stream, and the query that made it. The order of delivery.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct OutputKey {
    /// The input that caused the output.
    pub seq: Seq,
    /// The output's place among those of the same `seq` in the same stream, in the order in which
    /// they arose.
    pub ordinal: u32,
    /// The query, by its place in the application.
    pub query: u32,
}

impl std::fmt::Display for OutputKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}-{}-{}", self.seq, self.query, self.ordinal)
    }
}
