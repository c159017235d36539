//! A sink that writes readable lines, to the standard output unless told otherwise.
//!
//! `2026-11-21 02:00:00.123  Alerts  device=press-3  temp=81.2`, in UTC, the fields aligned with
//! the lines before. A line is confirmed when it is written. A reader that is too slow stops
//! this sink and nothing else: lines are written on a thread of their own.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{Permit, Sender};

use super::{Confirmer, Context, Delivery, Metrics, count};
use crate::config::options::OptionSpec;
use crate::event::{OutputKey, Timestamp, Type, Value, to_base64};

/// What can be set: nothing.
pub const OPTIONS: &[OptionSpec] = &[];

/// Lines that wait for the thread.
const LINES_MAX: usize = 64;
/// The widest that a field is padded to.
const WIDTH_MAX: usize = 32;

/// A log sink.
pub struct Log {
    to: Box<dyn Write + Send>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Log")
    }
}

impl Default for Log {
    fn default() -> Log {
        Log::new()
    }
}

impl Log {
    /// Writes to the standard output.
    #[must_use]
    pub fn new() -> Log {
        Log::to(Box::new(std::io::stdout()))
    }

    /// Writes to `to`.
    #[must_use]
    pub fn to(to: Box<dyn Write + Send>) -> Log {
        Log { to }
    }

    /// Delivers until there is nothing to come, or until told to stop.
    ///
    /// The thread that writes may hang for as long as its reader does, so it holds nothing that
    /// others wait for: it tells this task how far it is, and the task confirms.
    pub async fn run(self, context: Context) {
        let Context {
            name,
            sink,
            mut deliveries,
            settled,
            confirmed,
            mut stop,
            metrics,
            ..
        } = context;
        let mut confirmer = Confirmer::new(sink, confirmed);
        let (written, mut progress) = tokio::sync::watch::channel(None);
        let (to, outputs) = tokio::sync::mpsc::channel(LINES_MAX);
        let (mut to, mut held, mut is_closed) = (Some(to), None, false);
        let lines = Lines {
            name,
            deliveries: outputs,
            settled,
            stop: stop.clone(),
            metrics,
            written,
        };
        let thread = std::thread::Builder::new().name("log-sink".to_owned());
        if let Err(error) = thread.spawn(move || lines.write_all(self.to)) {
            tracing::error!("cannot start the log sink: {error}");
            return;
        }
        loop {
            if is_closed {
                to = None;
            }
            let more = tokio::select! {
                delivery = deliveries.recv(), if held.is_none() && to.is_some() => {
                    match delivery {
                        Some(_) => drop(deliveries.permit(1, 0)),
                        None => is_closed = true,
                    }
                    held = delivery;
                    continue;
                }
                Some(Ok(room)) = room_in(to.as_ref()), if held.is_some() => {
                    if let Some(delivery) = held.take() {
                        room.send(delivery);
                    }
                    continue;
                }
                changed = progress.changed() => changed.is_ok(),
                () = tokio::time::sleep(super::CONFIRM_AGAIN), if confirmer.waits() => true,
                // The thread ends with its channel; what it does not write is in the outbox still.
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let last = *progress.borrow_and_update();
            if let Some(key) = last {
                confirmer.confirm(key);
            }
            if !more && confirmer.flush() {
                return;
            }
        }
    }
}

async fn room_in(
    to: Option<&Sender<Delivery>>,
) -> Option<Result<Permit<'_, Delivery>, SendError<()>>> {
    Some(to?.reserve().await)
}

/// What the writing thread works with.
struct Lines {
    name: String,
    deliveries: tokio::sync::mpsc::Receiver<Delivery>,
    settled: tokio::sync::watch::Receiver<OutputKey>,
    stop: tokio::sync::watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    /// The last key that was written.
    written: tokio::sync::watch::Sender<Option<OutputKey>>,
}

impl Lines {
    fn write_all(mut self, mut to: Box<dyn Write + Send>) {
        let mut widths = Vec::new();
        while let Some(delivery) = self.deliveries.blocking_recv() {
            if *self.stop.borrow() {
                return;
            }
            if delivery.key <= *self.settled.borrow() {
                count(&self.metrics.passed_over);
                continue;
            }
            let line = line(&self.name, &delivery, &mut widths);
            if let Err(error) = to.write_all(line.as_bytes()).and_then(|()| to.flush()) {
                // A closed standard output will not come back, and is no reason to keep alerts.
                count(&self.metrics.refused);
                tracing::debug!("cannot write the line: {error}");
            } else {
                count(&self.metrics.delivered);
                self.metrics.connected.store(true, Ordering::Relaxed);
            }
            self.written.send_replace(Some(delivery.key));
        }
    }
}

/// `widths` are those of the fields in the lines before, by place.
fn line(name: &str, delivery: &Delivery, widths: &mut Vec<usize>) -> String {
    let mut line = format!("{}  {name}", time(delivery.time));
    widths.resize(delivery.schema.width(), 0);
    let fields = delivery
        .schema
        .fields()
        .iter()
        .zip(&delivery.row)
        .zip(widths);
    let mut gap = 0;
    for ((field, value), width) in fields {
        let text = format!("{}={}", field.name, readable(field.ty, value));
        line.extend(std::iter::repeat_n(' ', gap + 2));
        line.push_str(&text);
        let taken = text.chars().count();
        *width = (*width).max(taken.min(WIDTH_MAX));
        gap = width.saturating_sub(taken);
    }
    line.push('\n');
    line
}

/// To the millisecond, in UTC.
fn time(time: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(time.0) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => time.to_string(),
    }
}

/// Text bare when it cannot be mistaken, otherwise quoted with escapes, so that a line stays one.
fn readable(ty: Type, value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bytes(bytes) => to_base64(bytes),
        Value::Str(text) if ty == Type::Json => text.to_string(),
        Value::Str(text) => {
            let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
            if !text.is_empty() && text.chars().all(is_plain) {
                text.to_string()
            } else {
                format!("{:?}", text.as_str())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Field, Schema};

    #[test]
    fn lines_are_aligned() {
        let schema = Arc::new(Schema::new(vec![
            Field {
                name: "device".to_owned(),
                ty: Type::String,
            },
            Field {
                name: "temp".to_owned(),
                ty: Type::Double,
            },
        ]));
        let mut widths = Vec::new();
        let mut line_of = |device: &str, temp: f64| {
            let delivery = Delivery {
                key: OutputKey::default(),
                id: String::new(),
                time: Timestamp(1_795_226_400_123),
                made: Timestamp(1_795_226_400_123),
                schema: Arc::clone(&schema),
                row: vec![Value::text(device), Value::Float(temp)],
            };
            line("Alerts", &delivery, &mut widths)
        };
        assert_eq!(
            line_of("press-10", 81.2),
            "2026-11-21 02:00:00.123  Alerts  device=press-10  temp=81.2\n"
        );
        assert_eq!(
            line_of("a b", 5.0),
            "2026-11-21 02:00:00.123  Alerts  device=\"a b\"     temp=5\n"
        );
    }
}
