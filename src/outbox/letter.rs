//! What becomes of an output that is given up: a row for a stream of dead letters.

use super::Entry;
use crate::event::{Timestamp, Value, render_json};

/// Why an output is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The limit in bytes was reached.
    Full,
    /// It has waited longer than it may.
    Expired,
    /// The far side will never take it.
    Refused {
        /// What the far side said.
        why: String,
        /// How often it was asked.
        attempts: u32,
    },
    /// An operator wanted it.
    Purged,
}

impl Reason {
    /// The word that is counted and stands in `errorType`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Reason::Full => "outbox_full",
            Reason::Expired => "outbox_expired",
            Reason::Refused { .. } => "refused",
            Reason::Purged => "purged",
        }
    }
}

/// An output of the sink `name`, given up at `now` on the log's clock, as a row with the columns
/// that every stream of dead letters has: originalEvent, errorMessage, errorType, timestamp,
/// attemptCount, streamName. How often something was tried is known only of what was refused.
#[must_use]
pub fn dead_letter(name: &str, entry: &Entry, reason: &Reason, now: Timestamp) -> [Value; 6] {
    let mut json = Vec::new();
    render_json(&entry.schema, &entry.row, &mut json);
    let (why, attempts) = match reason {
        Reason::Full => ("its outbox was full", None),
        Reason::Expired => ("it had waited too long", None),
        Reason::Purged => ("an operator has purged the outbox", None),
        Reason::Refused { why, attempts } => (why.as_str(), Some(*attempts)),
    };
    let message = format!("output {} was given up: {why}", entry.key);
    [
        Value::text(&String::from_utf8_lossy(&json)),
        Value::text(&message),
        Value::text(reason.word()),
        Value::Int(now.0),
        attempts.map_or(Value::Null, |attempts| Value::Int(i64::from(attempts))),
        Value::text(name),
    ]
}
