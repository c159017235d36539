//! Rows leave: what the pipeline hands to a sink, and what a sink gives back.
//!
//! A sink gets its outputs in order through a bounded channel, delivers them in order, and
//! confirms a key only when the far side has confirmed it. It may confirm late, never early. What
//! a sink holds in memory when the process dies is in the outbox still.

pub mod http;
pub mod log;
pub mod mqtt;

pub use crate::event::{render_json, render_json_with};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Sender, TrySendError};

use crate::config::options::{OptionFault, OptionSpec, Options};
use crate::event::{OutputKey, Schema, Timestamp, Value};

/// One output on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its identity, and the order of delivery.
    pub key: OutputKey,
    /// The identity for the far side: the same for every attempt, different for every output of
    /// every store. `<store id in hex>-<seq>-<query>-<ordinal>`.
    pub id: String,
    /// When it arose, on the log's clock.
    pub time: Timestamp,
    /// The columns that the sink's stream had then.
    pub schema: Arc<Schema>,
    /// One value per column.
    pub row: Vec<Value>,
}

/// A sink's word that everything up to and including `key` has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Which sink, by its place among the daemon's sinks.
    pub sink: usize,
    /// The last key that the far side has confirmed.
    pub key: OutputKey,
}

/// What a sink works with while it runs.
#[derive(Debug)]
pub struct Context {
    /// The stream's name, for the log lines.
    pub name: String,
    /// Its place among the daemon's sinks.
    pub sink: usize,
    /// What to deliver. When it is closed the sink delivers the rest and ends.
    pub deliveries: tokio::sync::mpsc::Receiver<Delivery>,
    /// Where to confirm.
    pub confirmed: Sender<Confirmed>,
    /// Turns true when the sink is to end; what is not confirmed then stays in the outbox.
    pub stop: tokio::sync::watch::Receiver<bool>,
    /// How long it may wait after that for confirmations that are on their way.
    pub stop_within: Duration,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

/// What a sink counts, readable at any time.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Outputs that the far side has confirmed.
    pub delivered: AtomicU64,
    /// Outputs that the far side will never take; they are confirmed, so as not to stop the rest.
    pub refused: AtomicU64,
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

/// Confirms keys, in order, without ever waiting: the last one stands for all before it.
#[derive(Debug)]
struct Confirmer {
    sink: usize,
    to: Sender<Confirmed>,
    waiting: Option<OutputKey>,
}

impl Confirmer {
    fn new(sink: usize, to: Sender<Confirmed>) -> Confirmer {
        Confirmer {
            sink,
            to,
            waiting: None,
        }
    }

    fn confirm(&mut self, key: OutputKey) {
        self.waiting = Some(key);
        self.flush();
    }

    /// Whether something could not be confirmed yet.
    fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// Tries again what found the channel full. Whether nothing waits any more.
    fn flush(&mut self) -> bool {
        let Some(key) = self.waiting else { return true };
        let sink = self.sink;
        match self.to.try_send(Confirmed { sink, key }) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => self.waiting = None,
            Err(TrySendError::Full(_)) => {}
        }
        self.waiting.is_none()
    }
}

/// How soon a full channel of confirmations is tried again.
const CONFIRM_AGAIN: Duration = Duration::from_millis(5);

/// The extensions that can be written to, each with its options.
pub const EXTENSIONS: &[(&str, &[OptionSpec])] = &[
    ("mqtt", mqtt::OPTIONS),
    ("http", http::OPTIONS),
    ("log", log::OPTIONS),
];

/// A sink, checked and ready to run.
#[derive(Debug)]
pub enum Sink {
    /// Publishes at an MQTT broker.
    Mqtt(mqtt::Mqtt),
    /// Posts to an HTTP server.
    Http(http::Http),
    /// Writes readable lines.
    Log(log::Log),
}

impl Sink {
    /// Checks the options of a stream of `extension` with the columns `schema`. `client_id` names
    /// its session, see [`crate::mqtt::default_client_id`].
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(
        extension: &str,
        options: &Options,
        schema: &Schema,
        client_id: &str,
    ) -> Result<Sink, OptionFault> {
        match extension {
            "mqtt" => Ok(Sink::Mqtt(mqtt::Mqtt::new(options, schema, client_id)?)),
            "http" => Ok(Sink::Http(http::Http::new(options)?)),
            "log" => Ok(Sink::Log(log::Log::new())),
            _ => {
                let problem = format!("`{extension}` is not a sink: use mqtt, http or log");
                Err(OptionFault::new("extension", problem))
            }
        }
    }

    /// Delivers until told to stop, or until there is nothing to come.
    pub async fn run(self, context: Context) {
        match self {
            Sink::Mqtt(mqtt) => mqtt.run(context).await,
            Sink::Http(http) => http.run(context).await,
            Sink::Log(log) => log.run(context).await,
        }
    }
}
