//! Rows leave: what the pipeline hands to a sink, and what a sink gives back.
//!
//! A sink gets its outputs in order through a bounded channel, delivers them in order, and
//! confirms a key only when the far side has confirmed it. It may confirm late, never early. What
//! a sink holds in memory when the process dies is in the outbox still. What the far side will
//! never take is not confirmed but said to be refused, with the reason, in its place among the
//! confirmations; what the outbox has given up meanwhile is not delivered.

mod accounts;
mod bucket;
mod deliveries;
#[cfg(feature = "file")]
pub mod file;
mod hours;
#[cfg(feature = "http")]
pub mod http;
mod link;
pub mod log;
#[cfg(feature = "mqtt")]
pub mod mqtt;
mod outage;
mod policy;
mod priority;
mod refusal;
#[cfg(feature = "serial")]
pub mod serial;
mod writing;

pub use crate::event::{render_json, render_json_with};
pub use accounts::OutboxMetrics;
pub use deliveries::{Deliveries, TryRecvError};
pub use outage::Outage;
pub use policy::Policy;
pub use priority::{Member, Priority, Siblings};

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError};

use crate::config::Definition;
use crate::config::options::{OptionFault, OptionSpec};
use crate::encode::Message;
use crate::event::{OutputKey, Schema, Timestamp, Value};
use crate::held::Held;
use crate::report::Reporter;

/// One output on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its identity, and the order of delivery.
    pub key: OutputKey,
    /// The identity for the far side: the same for every attempt, different for every output of
    /// every store. `<store id in hex>-<seq>-<query>-<ordinal>`.
    pub id: String,
    /// The time of its row: when it arose, on the clock of its stream.
    pub time: Timestamp,
    /// When it was made, on the log's clock. It has waited since.
    pub made: Timestamp,
    /// The columns that the sink's stream had then.
    pub schema: Arc<Schema>,
    /// One value per column.
    pub row: Vec<Value>,
    /// What it takes of the sink's room, until the sink lets go of it.
    pub held: Held,
}

impl Delivery {
    /// See [`Context::message`]; for a sink that has taken its context to pieces.
    #[must_use]
    pub fn message<'a>(&'a self, stream: &'a str, deliveries: &Deliveries) -> Message<'a> {
        let (age_ms, historical) = deliveries.age_of(self.made);
        Message {
            stream,
            id: &self.id,
            time: self.time,
            made: self.made,
            age_ms,
            historical,
            schema: &self.schema,
            row: &self.row,
        }
    }
}

/// A sink's word that everything up to and including `key` has arrived; or all before it, when
/// that itself is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Which sink, by its place among the daemon's sinks.
    pub sink: usize,
    /// The last key that the far side has confirmed, or the one that it has refused.
    pub key: OutputKey,
    /// The far side will never take the output `key`.
    pub refused: Option<Refused>,
}

/// Why the far side will never take an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What it said, of at most [`WHY_CHARS_MAX`] characters.
    pub why: String,
    /// How often it was asked.
    pub attempts: u32,
}

impl Refused {
    fn new(why: &str, attempts: u32) -> Refused {
        let plain = why.chars().map(|c| if c.is_control() { ' ' } else { c });
        Refused {
            why: plain.take(WHY_CHARS_MAX).collect(),
            attempts,
        }
    }
}

/// So much of what a far side says is kept.
pub const WHY_CHARS_MAX: usize = 256;

/// What a sink works with while it runs.
#[derive(Debug)]
pub struct Context {
    /// The stream's name, for the log lines.
    pub name: String,
    /// Its place among the daemon's sinks.
    pub sink: usize,
    /// What to deliver, and leave to do so. When it is closed the sink delivers the rest and ends.
    pub deliveries: Deliveries,
    /// Nothing up to this key waits any more. What the sink holds of it was given up, or is
    /// confirmed, and need not be delivered.
    pub settled: tokio::sync::watch::Receiver<OutputKey>,
    /// Where to confirm.
    pub confirmed: Sender<Confirmed>,
    /// Turns true when the sink is to end; what is not confirmed then stays in the outbox.
    pub stop: tokio::sync::watch::Receiver<bool>,
    /// How long it may wait after that for confirmations that are on their way.
    pub stop_within: Duration,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// Where it tells what happens to it.
    pub reporter: Reporter,
}

impl Context {
    /// An output as it is to be written when it is sent now: its age is that of this moment, so
    /// it is made for each attempt anew.
    #[must_use]
    pub fn message<'a>(&'a self, delivery: &'a Delivery) -> Message<'a> {
        delivery.message(&self.name, &self.deliveries)
    }

    /// Whether `key` was given up before it was delivered.
    fn passes_over(&self, key: OutputKey) -> bool {
        let is_settled = key <= *self.settled.borrow();
        if is_settled {
            count(&self.metrics.passed_over);
        }
        is_settled
    }
}

/// What a sink counts, readable at any time.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Outputs that the far side has confirmed.
    pub delivered: AtomicU64,
    /// Outputs that the far side will never take.
    pub refused: AtomicU64,
    /// Outputs that the outbox gave up when the sink had them and had not begun to deliver them.
    pub passed_over: AtomicU64,
    /// Attempts that failed and were, or will be, repeated.
    pub retries: AtomicU64,
    /// Connections made.
    pub connects: AtomicU64,
    /// Connections lost or refused.
    pub disconnects: AtomicU64,
    /// Whether the far side could be reached at the last attempt.
    pub connected: AtomicBool,
}

impl Metrics {
    /// Every counter with its name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("delivered", &self.delivered),
            ("refused", &self.refused),
            ("passed_over", &self.passed_over),
            ("retries", &self.retries),
            ("connects", &self.connects),
            ("disconnects", &self.disconnects),
        ]
        .into_iter()
        .map(|(name, counter)| (name, counter.load(Ordering::Relaxed)))
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Confirms keys, in order, without ever waiting: the last of several that have arrived stands for
/// all of them. A refusal stands alone, so that what waits here is no more than what the sink was
/// given.
#[derive(Debug)]
struct Confirmer {
    sink: usize,
    to: Sender<Confirmed>,
    waiting: VecDeque<Confirmed>,
}

impl Confirmer {
    fn new(sink: usize, to: Sender<Confirmed>) -> Confirmer {
        Confirmer {
            sink,
            to,
            waiting: VecDeque::new(),
        }
    }

    fn confirm(&mut self, key: OutputKey) {
        self.say(key, None);
    }

    /// Everything before `key` has arrived; it itself never will.
    fn refuse(&mut self, key: OutputKey, refused: Refused) {
        self.say(key, Some(refused));
    }

    fn say(&mut self, key: OutputKey, refused: Option<Refused>) {
        let sink = self.sink;
        if self
            .waiting
            .back()
            .is_some_and(|last| last.refused.is_none())
        {
            self.waiting.pop_back();
        }
        self.waiting.push_back(Confirmed { sink, key, refused });
        self.flush();
    }

    /// Whether something could not be confirmed yet.
    fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Tries again what found the channel full. Whether nothing waits any more.
    fn flush(&mut self) -> bool {
        while let Some(next) = self.waiting.pop_front() {
            match self.to.try_send(next) {
                Ok(()) => {}
                Err(TrySendError::Full(next)) => {
                    self.waiting.push_front(next);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => self.waiting.clear(),
            }
        }
        self.waiting.is_empty()
    }
}

/// How soon a full channel of confirmations is tried again.
const CONFIRM_AGAIN: Duration = Duration::from_millis(5);

/// The extensions that can be written to, each with its options.
pub const EXTENSIONS: &[(&str, &[OptionSpec])] = &[
    #[cfg(feature = "mqtt")]
    ("mqtt", mqtt::OPTIONS),
    #[cfg(feature = "http")]
    ("http", http::OPTIONS),
    #[cfg(feature = "file")]
    ("file", file::OPTIONS),
    ("log", log::OPTIONS),
    #[cfg(feature = "serial")]
    ("serial", serial::OPTIONS),
];

/// The extensions that this build lacks, each with the feature that has it.
pub const ABSENT: &[(&str, &str)] = &[
    #[cfg(not(feature = "mqtt"))]
    ("mqtt", "mqtt"),
    #[cfg(not(feature = "http"))]
    ("http", "http"),
    #[cfg(not(feature = "file"))]
    ("file", "file"),
    #[cfg(not(feature = "serial"))]
    ("serial", "serial"),
];

/// The format that a sink writes when nothing is said.
#[must_use]
pub fn default_format(extension: &str) -> &'static str {
    match extension {
        "log" => "readable",
        _ => "json",
    }
}

/// A sink, checked and ready to run.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one for each stream, moved once; which are large depends on the features"
)]
pub enum Sink {
    #[cfg(feature = "mqtt")]
    /// Publishes at an MQTT broker.
    Mqtt(mqtt::Mqtt),
    #[cfg(feature = "http")]
    /// Posts to an HTTP server.
    Http(Box<http::Http>),
    #[cfg(feature = "file")]
    /// Appends to a file.
    File(file::File),
    /// Writes lines for people.
    Log(log::Log),
    #[cfg(feature = "serial")]
    /// Writes to a serial port.
    Serial(serial::Serial),
}

impl Sink {
    /// Checks the options of a stream.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Sink, OptionFault> {
        match definition.extension {
            #[cfg(feature = "mqtt")]
            "mqtt" => Ok(Sink::Mqtt(mqtt::Mqtt::new(definition)?)),
            #[cfg(feature = "http")]
            "http" => Ok(Sink::Http(Box::new(http::Http::new(definition)?))),
            #[cfg(feature = "serial")]
            "serial" => Ok(Sink::Serial(serial::Serial::new(definition)?)),
            "log" => Ok(Sink::Log(log::Log::new(definition)?)),
            #[cfg(feature = "file")]
            "file" => Ok(Sink::File(file::File::new(definition)?)),
            other => {
                let known: Vec<&str> = EXTENSIONS.iter().map(|(name, _)| *name).collect();
                let problem = format!("`{other}` is not a sink: use {}", known.join(", "));
                Err(OptionFault::new("extension", problem))
            }
        }
    }

    /// Delivers until told to stop, or until there is nothing to come.
    pub async fn run(self, context: Context) {
        match self {
            #[cfg(feature = "mqtt")]
            Sink::Mqtt(mqtt) => mqtt.run(context).await,
            #[cfg(feature = "http")]
            Sink::Http(http) => http.run(context).await,
            #[cfg(feature = "file")]
            Sink::File(file) => file.run(context).await,
            Sink::Log(log) => log.run(context).await,
            #[cfg(feature = "serial")]
            Sink::Serial(serial) => serial.run(context).await,
        }
    }
}
