//! A sink that writes each output as a line: to the standard output, the standard error, or the
//! daemon's own log.
//!
//! A line is confirmed when it is written. One that cannot be written is refused, since a closed
//! standard output will not come back: `error.strategy` says what becomes of it, and if that says
//! nothing it is counted and given up. A reader that is too
//! slow stops this sink and nothing else.

use std::io::Write;

use super::Context;
use super::refusal::Refusals;
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
    refusals: Refusals,
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
        let refusals = Refusals::new(options)?;
        Ok(Log {
            encoder,
            refusals,
            to,
        })
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
        writing::run(context, self.encoder, self.refusals, lines, "log-sink").await;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;
    use crate::config::options::{Layer, OptionValue, Options};
    use crate::event::{OutputKey, ReportKind, Schema, Seq, Timestamp};
    use crate::report::Reporter;
    use crate::sink::{Confirmed, Delivery, Metrics};
    use tokio::sync::{mpsc, watch};

    /// What goes there fails so many times.
    struct Closed(u32);

    impl Write for Closed {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            match self.0.checked_sub(1) {
                Some(left) => {
                    self.0 = left;
                    Err(std::io::ErrorKind::BrokenPipe.into())
                }
                None => Ok(bytes.len()),
            }
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is said of two lines by a sink with these options, and whether it has failed.
    fn said(fails: u32, written: &[(&str, &str)]) -> (Vec<Confirmed>, bool) {
        let mut options = Options::default();
        for (name, value) in written {
            let value = match value.parse() {
                Ok(number) => OptionValue::Integer(number),
                Err(_) => OptionValue::Text((*value).to_owned()),
            };
            options.set(name, value, Layer::Sql);
        }
        let schema = Arc::new(Schema::new(Vec::new()));
        let log = Log::new(&Definition {
            stream: "S",
            extension: "log",
            format: "readable",
            options: &options,
            schema: &schema,
            client_id: "",
        });
        let log = log.unwrap().writing_to(Box::new(Closed(fails)));
        let (to, deliveries) = mpsc::channel(2);
        for number in 1..=2 {
            to.try_send(Delivery {
                key: OutputKey {
                    seq: Seq(number),
                    ..OutputKey::default()
                },
                id: String::new(),
                time: Timestamp(0),
                made: Timestamp(0),
                schema: Arc::clone(&schema),
                row: Vec::new(),
                held: crate::held::Held::default(),
            })
            .unwrap();
        }
        drop(to);
        let (confirm, confirmed) = crossbeam::channel::bounded(10);
        let (_settled, settled) = watch::channel(OutputKey::default());
        let (_stop, stop) = watch::channel(false);
        let (reporter, mut reports) = Reporter::new();
        let metrics = Arc::<Metrics>::default();
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().build().unwrap();
        runtime.block_on(log.run(Context {
            name: "S".to_owned(),
            sink: 0,
            deliveries: deliveries.into(),
            settled,
            confirmed: confirm,
            stop,
            stop_within: Duration::from_secs(1),
            metrics: Arc::clone(&metrics),
            reporter,
        }));
        let said: Vec<Confirmed> = confirmed.try_iter().collect();
        let refused = said.iter().filter(|one| one.refused.is_some()).count();
        assert_eq!(
            metrics.refused.load(Ordering::Relaxed),
            u64::try_from(refused).unwrap()
        );
        let mut has_failed = false;
        while let Ok(report) = reports.try_recv() {
            has_failed |= report.kind == ReportKind::SinkFailed;
        }
        (said, has_failed)
    }

    #[test]
    fn a_line_that_cannot_be_written_is_refused() {
        let refused = |said: &[Confirmed]| -> Vec<u32> {
            let refused = said.iter().filter_map(|one| one.refused.as_ref());
            refused.map(|refused| refused.attempts).collect()
        };
        let (all, has_failed) = said(u32::MAX, &[]);
        assert_eq!((refused(&all), has_failed), (vec![1, 1], false));
        let retry = [
            ("error.strategy", "retry"),
            ("error.retry.min", "1"),
            ("error.retry.attempts_max", "3"),
        ];
        let (all, has_failed) = said(u32::MAX, &retry);
        assert_eq!((refused(&all), has_failed), (vec![3, 3], false));
        let (all, _) = said(2, &retry);
        assert_eq!((refused(&all), all.len()), (vec![], 1));
        assert_eq!(said(1, &[("error.strategy", "fail")]), (vec![], true));
    }
}
