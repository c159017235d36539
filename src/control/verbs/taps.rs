//! `tap`: the rows of a stream as they pass, answered once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::Args;
use super::errands;
use crate::control::{Code, Fault};
use crate::daemon::View;
use crate::diagnostic::did_you_mean;
use crate::pipeline::{self, Errand, Tapping};
use crate::sink::render_json;

/// The longest that a stream is looked at, in seconds, and what holds when nothing is said.
const SECONDS: (u64, u64) = (60, 10);
/// The most rows that are shown, and what holds when nothing is said.
const ROWS: (u64, u64) = (1_000, 100);

/// A stream that is looked at.
#[derive(Debug)]
pub struct Tap {
    stream: String,
    tapping: Tapping,
    rows_max: usize,
    until: Instant,
}

impl Tap {
    pub(super) fn begin(view: &View, args: &Args<'_>) -> Result<Tap, Fault> {
        let stream = args.text("stream")?;
        let seconds = args.number_if("seconds", 1..=SECONDS.0)?;
        let rows_max = args.number_if("max", 1..=ROWS.0)?.unwrap_or(ROWS.1);
        let rows_max = usize::try_from(rows_max).unwrap_or(1);
        if view.application.stream_named(stream).is_none() {
            let known = view.application.streams.iter();
            let hint = did_you_mean(stream, known.map(|stream| stream.name.as_str()));
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            let message = format!("there is no stream '{stream}'{hint}");
            return Err(Fault::new(Code::NotFound, message));
        }
        let (tap, tapping) = pipeline::tap(stream, rows_max);
        errands::run(&view.commands, errands::SOON, |answer| Errand::Tap {
            tap,
            answer,
        })?;
        let span = Duration::from_secs(seconds.unwrap_or(SECONDS.1));
        Ok(Tap {
            stream: stream.to_owned(),
            tapping,
            rows_max,
            until: Instant::now() + span,
        })
    }

    /// Waits until there are as many rows as are wanted, or the time is over: what has passed.
    #[must_use]
    pub fn wait(self) -> Value {
        let mut rows = Vec::new();
        while rows.len() < self.rows_max {
            let Some(row) = self.tapping.next_until(self.until) else {
                break;
            };
            let mut event = Vec::new();
            render_json(&row.schema, &row.values, &mut event);
            let event: Option<Value> = serde_json::from_slice(&event).ok();
            rows.push(json!({ "ts": row.time.0, "event": event }));
        }
        json!({
            "stream": self.stream,
            "rows": rows,
            "dropped": self.tapping.dropped(),
        })
    }
}
