//! Bytes from outside become rows: what every source hands to the pipeline, and what it gets back.
//!
//! A source runs on the tokio side, decodes what it receives (so that the other core does that
//! work) and offers [`Arrival`]s to the pipeline through a bounded channel. It acknowledges its
//! far side only up to what [`Released`] says, which is what the log has made durable.

#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "http")]
pub mod http;
mod intake;
#[cfg(feature = "serial")]
pub mod modbus;
#[cfg(feature = "mqtt")]
pub mod mqtt;
mod queue;
pub mod redelivery;
#[cfg(feature = "serial")]
pub mod serial;
pub mod simulator;
pub mod tcp;
pub mod timer;
pub mod udp;

pub use intake::{Failed, INTAKE_OPTIONS, Intake, Plan, REQUIRED};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::config::Definition;
use crate::config::options::{OptionFault, OptionSpec};
use crate::decode::Reason;
use crate::event::{Batch, DeliveryMark, Rejected};
use crate::held::Held;
use crate::report::Reporter;

/// How many bytes of a rejected message are kept.
pub const REJECTED_BYTES_MAX: usize = 16 * 1024;

/// Some messages of one source, decoded, in the order in which they were received.
///
/// Rows, rejects and marks may each be empty, all of them too: a message that no subscription
/// wanted leaves only its mark, an empty JSON array not even a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// Which source, by its place among the daemon's sources.
    pub source: usize,
    /// The rows, not yet stamped.
    pub rows: Batch,
    /// What could not be decoded.
    pub rejected: Vec<Rejected>,
    /// One mark per message that the far side may deliver again.
    pub marks: Vec<DeliveryMark>,
    /// The ordinal of the last message in this arrival: counted from 1 since the source started,
    /// and what [`Released`] later speaks about.
    pub through: u64,
    /// What it takes of the source's room, until the pipeline has taken it apart.
    pub held: Held,
}

/// How far the pipeline has made a source's messages durable: the highest `through`.
///
/// The pipeline holds the sender; a source awaits changes and acknowledges in receive order.
pub type Released = tokio::sync::watch::Receiver<u64>;

/// What a source works with while it runs.
#[derive(Debug)]
pub struct Context {
    /// The stream's name, for the log lines.
    pub name: String,
    /// Its place among the daemon's sources.
    pub source: usize,
    /// Where rows go. Bounded, shared with the other sources.
    pub arrivals: crossbeam::channel::Sender<Arrival>,
    /// What has become durable.
    pub released: Released,
    /// The last marks in the log, oldest first, at most [`redelivery::TAIL_MARKS_MAX`].
    pub tail: Vec<DeliveryMark>,
    /// Turns true when the source is to end.
    pub stop: tokio::sync::watch::Receiver<bool>,
    /// How long it may wait after that for what it has offered to be released.
    pub stop_within: Duration,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// Where it tells what happens to it.
    pub reporter: Reporter,
}

/// A message that was given up without a row, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// QoS 0 (or a session that is not kept), and the pipeline was too far behind.
    QueueFull,
    /// No subscription of the stream wants its topic: left over from an earlier configuration.
    Unmatched,
    /// A retained message, where these are not wanted.
    Retained,
    /// A frame or a line that its connection or file ended in the middle of.
    Incomplete,
}

impl Dropped {
    /// Every reason, in the order in which counters keep them.
    pub const ALL: [Dropped; 4] = [
        Dropped::QueueFull,
        Dropped::Unmatched,
        Dropped::Retained,
        Dropped::Incomplete,
    ];

    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Dropped::QueueFull => "queue_full",
            Dropped::Unmatched => "unmatched",
            Dropped::Retained => "retained",
            Dropped::Incomplete => "incomplete",
        }
    }
}

/// What a source counts, readable at any time.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Messages received, repeats included.
    pub received: AtomicU64,
    /// Their payload bytes.
    pub received_bytes: AtomicU64,
    /// Rows made of them.
    pub rows: AtomicU64,
    /// Values that became NULL because their columns could not hold them, where
    /// `<format>.ignore_parse_errors` is set.
    pub ignored_values: AtomicU64,
    /// Messages recognised as delivered again, and acknowledged without a row.
    pub duplicates: AtomicU64,
    /// Messages left to the broker because the queue was full; they come again.
    pub deferred: AtomicU64,
    /// Connections made.
    pub connects: AtomicU64,
    /// Connections lost or refused.
    pub disconnects: AtomicU64,
    /// Subscriptions that the broker refused, each attempt for itself.
    pub subscriptions_refused: AtomicU64,
    /// Whether there is a connection now.
    pub connected: AtomicBool,
    rejected: [AtomicU64; Reason::ALL.len()],
    dropped: [AtomicU64; Dropped::ALL.len()],
}

impl Metrics {
    /// How many messages could not be decoded for this reason.
    #[must_use]
    pub fn rejected(&self, reason: Reason) -> u64 {
        let mut all = Reason::ALL.iter().zip(&self.rejected);
        let found = all.find(|(known, _)| **known == reason);
        found.map_or(0, |(_, count)| count.load(Ordering::Relaxed))
    }

    /// How many messages were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Dropped) -> u64 {
        let mut all = Dropped::ALL.iter().zip(&self.dropped);
        let found = all.find(|(known, _)| **known == reason);
        found.map_or(0, |(_, count)| count.load(Ordering::Relaxed))
    }

    /// Every counter with its name, reasons included.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let plain = [
            ("received", load(&self.received)),
            ("received_bytes", load(&self.received_bytes)),
            ("rows", load(&self.rows)),
            ("ignored_values", load(&self.ignored_values)),
            ("duplicates", load(&self.duplicates)),
            ("deferred", load(&self.deferred)),
            ("connects", load(&self.connects)),
            ("disconnects", load(&self.disconnects)),
            ("subscriptions_refused", load(&self.subscriptions_refused)),
        ];
        let rejected = Reason::ALL.map(|reason| (reason.word(), self.rejected(reason)));
        let dropped = Dropped::ALL.map(|reason| (reason.word(), self.dropped(reason)));
        plain.into_iter().chain(rejected).chain(dropped)
    }

    fn count_rejected(&self, reason: Reason) {
        for (known, count) in Reason::ALL.iter().zip(&self.rejected) {
            count.fetch_add(u64::from(*known == reason), Ordering::Relaxed);
        }
    }

    fn count_dropped(&self, reason: Dropped) {
        for (known, count) in Dropped::ALL.iter().zip(&self.dropped) {
            count.fetch_add(u64::from(*known == reason), Ordering::Relaxed);
        }
    }
}

/// The extensions that can be read from, each with its options.
pub const EXTENSIONS: &[(&str, &[OptionSpec])] = &[
    #[cfg(feature = "mqtt")]
    ("mqtt", mqtt::OPTIONS),
    #[cfg(feature = "serial")]
    ("serial", serial::OPTIONS),
    #[cfg(feature = "serial")]
    ("modbus", modbus::OPTIONS),
    #[cfg(feature = "file")]
    ("file", file::OPTIONS),
    ("timer", timer::OPTIONS),
    ("simulator", simulator::OPTIONS),
    ("tcp", tcp::OPTIONS),
    ("udp", udp::OPTIONS),
    #[cfg(feature = "http")]
    ("http", http::OPTIONS),
    #[cfg(feature = "http")]
    ("http_poll", http::POLL_OPTIONS),
];

/// The extensions that this build lacks, each with the feature that has it.
pub const ABSENT: &[(&str, &str)] = &[
    #[cfg(not(feature = "mqtt"))]
    ("mqtt", "mqtt"),
    #[cfg(not(feature = "serial"))]
    ("serial", "serial"),
    #[cfg(not(feature = "serial"))]
    ("modbus", "serial"),
    #[cfg(not(feature = "file"))]
    ("file", "file"),
    #[cfg(not(feature = "http"))]
    ("http", "http"),
    #[cfg(not(feature = "http"))]
    ("http_poll", "http"),
];

/// A source, checked and ready to run.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one for each stream, moved once; which are large depends on the features"
)]
pub enum Source {
    #[cfg(feature = "mqtt")]
    /// Subscribes at an MQTT broker.
    Mqtt(mqtt::Mqtt),
    #[cfg(feature = "serial")]
    /// Reads a serial port.
    Serial(serial::Serial),
    #[cfg(feature = "serial")]
    /// Asks devices for their registers.
    Modbus(modbus::Modbus),
    #[cfg(feature = "file")]
    /// Reads the lines of files.
    File(file::Files),
    /// Gives the same message again and again.
    Timer(timer::Timer),
    /// Makes readings up.
    Simulator(simulator::Simulator),
    /// Reads TCP connections.
    Tcp(tcp::Tcp),
    /// Receives UDP datagrams.
    Udp(udp::Udp),
    #[cfg(feature = "http")]
    /// Listens for HTTP requests.
    Http(http::Http),
    #[cfg(feature = "http")]
    /// Asks an HTTP server again and again.
    HttpPoll(Box<http::Poll>),
}

impl Source {
    /// Checks the options of a stream.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Source, OptionFault> {
        match definition.extension {
            #[cfg(feature = "mqtt")]
            "mqtt" => Ok(Source::Mqtt(mqtt::Mqtt::new(definition)?)),
            #[cfg(feature = "serial")]
            "serial" => Ok(Source::Serial(serial::Serial::new(definition)?)),
            #[cfg(feature = "serial")]
            "modbus" => Ok(Source::Modbus(modbus::Modbus::new(definition)?)),
            #[cfg(feature = "file")]
            "file" => Ok(Source::File(file::Files::new(definition)?)),
            "timer" => Ok(Source::Timer(timer::Timer::new(definition)?)),
            "simulator" => Ok(Source::Simulator(simulator::Simulator::new(definition)?)),
            "tcp" => Ok(Source::Tcp(tcp::Tcp::new(definition)?)),
            "udp" => Ok(Source::Udp(udp::Udp::new(definition)?)),
            #[cfg(feature = "http")]
            "http" => Ok(Source::Http(http::Http::new(definition)?)),
            #[cfg(feature = "http")]
            "http_poll" => Ok(Source::HttpPoll(Box::new(http::Poll::new(definition)?))),
            other => {
                let known: Vec<&str> = EXTENSIONS.iter().map(|(name, _)| *name).collect();
                let problem = format!("`{other}` is not a source: use {}", known.join(", "));
                Err(OptionFault::new("extension", problem))
            }
        }
    }

    /// Reads until told to stop, or until the pipeline is gone.
    pub async fn run(self, context: Context) {
        match self {
            #[cfg(feature = "mqtt")]
            Source::Mqtt(mqtt) => mqtt.run(context).await,
            #[cfg(feature = "serial")]
            Source::Serial(serial) => serial.run(context).await,
            #[cfg(feature = "serial")]
            Source::Modbus(modbus) => modbus.run(context).await,
            #[cfg(feature = "file")]
            Source::File(files) => files.run(context).await,
            Source::Timer(timer) => timer.run(context).await,
            Source::Simulator(simulator) => simulator.run(context).await,
            Source::Tcp(tcp) => tcp.run(context).await,
            Source::Udp(udp) => udp.run(context).await,
            #[cfg(feature = "http")]
            Source::Http(http) => http.run(context).await,
            #[cfg(feature = "http")]
            Source::HttpPoll(poll) => poll.run(context).await,
        }
    }
}
