//! A sink that writes each output as a line: to the standard output, the standard error, or the
//! daemon's own log.
//!
//! A line is confirmed when it is written. One that cannot be written is counted, and given up: a
//! closed standard output will not come back, and is no reason to keep alerts. A reader that is too
//! slow stops this sink and nothing else.

use std::io::Write;

use super::Context;
use super::writing::{self, Batch, Failure, Writer};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec};
use crate::encode::{Encoder, Framing};

const TO: &str = "log.to";
const LEVEL: &str = "log.severity";

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        TO,
        OptionKind::Choice(&["stdout", "stderr", "log"]),
        "Where the lines go; `log` is the daemon's own log.",
    )
    .or("stdout"),
    OptionSpec::new(
        LEVEL,
        OptionKind::Choice(&["error", "warn", "info", "debug"]),
        "As what they go into the daemon's own log.",
    )
    .or("info"),
];

/// A log sink.
#[derive(Debug)]
pub struct Log {
    encoder: Encoder,
    to: To,
}

enum To {
    Stream(Box<dyn Write + Send>),
    Log(tracing::Level),
}

impl std::fmt::Debug for To {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            To::Stream(_) => out.write_str("Stream"),
            To::Log(level) => write!(out, "Log({level})"),
        }
    }
}

impl Log {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Log, OptionFault> {
        let options = definition.options;
        let encoder = Encoder::new(definition.format, options, definition.schema)?;
        match encoder.framing() {
            Framing::Lines | Framing::QuotedLines => {}
            Framing::Items | Framing::Unframed => {
                let problem = "a log takes lines: use json, csv, text or readable";
                return Err(OptionFault::new("format", problem));
            }
        }
        let to = match options.text(TO) {
            Some("stderr") => To::Stream(Box::new(std::io::stderr())),
            Some("log") => To::Log(match options.text(LEVEL) {
                Some("error") => tracing::Level::ERROR,
                Some("warn") => tracing::Level::WARN,
                Some("debug") => tracing::Level::DEBUG,
                _ => tracing::Level::INFO,
            }),
            _ => To::Stream(Box::new(std::io::stdout())),
        };
        Ok(Log { encoder, to })
    }

    /// The same, which writes to `to`.
    #[must_use]
    pub fn writing_to(self, to: Box<dyn Write + Send>) -> Log {
        Log {
            to: To::Stream(to),
            ..self
        }
    }

    /// Delivers until told to stop, or until there is nothing to come.
    pub async fn run(self, context: Context) {
        let lines = Lines {
            name: context.name.clone(),
            to: self.to,
            has_begun: false,
        };
        writing::run(context, self.encoder, lines, "log-sink").await;
    }
}

/// What the thread works with.
struct Lines {
    name: String,
    to: To,
    has_begun: bool,
}

impl Writer for Lines {
    fn write(&mut self, batch: &Batch) -> Result<(), Failure> {
        let has_begun = std::mem::replace(&mut self.has_begun, true);
        let head = if has_begun {
            &[]
        } else {
            batch.head.as_slice()
        };
        match &mut self.to {
            To::Stream(to) => {
                let written = to
                    .write_all(head)
                    .and_then(|()| to.write_all(&batch.records));
                let written = written.and_then(|()| to.flush());
                written.map_err(|error| Failure::Never(format!("cannot write the line: {error}")))
            }
            To::Log(level) => {
                let level = *level;
                for text in [head, &batch.records].map(String::from_utf8_lossy) {
                    text.lines().for_each(|line| say(level, &self.name, line));
                }
                Ok(())
            }
        }
    }

    fn tidy(&mut self) {}
}

/// What is said of an output in the daemon's log.
fn say(level: tracing::Level, stream: &str, line: &str) {
    match level {
        tracing::Level::ERROR => tracing::error!(stream, "{line}"),
        tracing::Level::WARN => tracing::warn!(stream, "{line}"),
        tracing::Level::INFO => tracing::info!(stream, "{line}"),
        _ => tracing::debug!(stream, "{line}"),
    }
}
