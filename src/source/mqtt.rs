//! A source that subscribes at an MQTT broker.
//!
//! What it promises: a QoS 1 message is acknowledged only when the log has it, in the order of
//! receipt, and only on the connection on which it came. Whatever the pipeline does, the
//! connection is polled: when the pipeline is behind, messages queue here up to a limit and
//! acknowledgements wait. Beyond the limit QoS 0 is dropped and counted, and QoS 1 is left to the
//! broker, which delivers it again once the queue is empty. Bad messages are handed on as
//! rejects, acknowledged like any other, and said in the log at a bounded rate.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::queue::{Limits, Offer, Queue};
use super::redelivery::{Redelivery, Verdict, digest};
use super::{Context, Dropped, REJECTED_BYTES_MAX};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec};
use crate::decode::{Decoder, Reason, Reject};
use crate::event::{DeliveryMark, Rejected, Type, Value};
use crate::mqtt::{self, Connection, Event, Handle, Message, Settings};
use crate::pace::{Backoff, Sparse, sleep_until_some};

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &[
    mqtt::BROKER,
    OptionSpec {
        required: true,
        ..option(
            "mqtt.topic",
            OptionKind::Text,
            None,
            "The topic filters to subscribe to, several separated by commas",
        )
    },
    option(
        "mqtt.qos",
        OptionKind::Integer { min: 0, max: 1 },
        Some("1"),
        "1: the broker keeps what we have not made durable; 0: it does not",
    ),
    option(
        "mqtt.session",
        OptionKind::Choice(&["persistent", "clean"]),
        Some("persistent"),
        "Whether the broker keeps messages while we are away",
    ),
    option(
        "mqtt.retained",
        OptionKind::Choice(&["accept", "ignore"]),
        Some("accept"),
        "Whether a topic's retained message, sent when we subscribe, is an event",
    ),
    option(
        "mqtt.topic.column",
        OptionKind::Text,
        None,
        "The STRING column that takes the message's topic",
    ),
    mqtt::CLIENT_ID,
    mqtt::VERSION,
    mqtt::USERNAME,
    mqtt::PASSWORD,
    mqtt::KEEP_ALIVE,
];

const fn option(
    name: &'static str,
    kind: OptionKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> OptionSpec {
    OptionSpec {
        default,
        ..OptionSpec::new(name, kind, doc)
    }
}

/// The waits between attempts to connect, and between attempts to subscribe.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// A connection that lasted so long was a good one.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// How soon a full pipeline is asked again.
const OFFER_AGAIN: Duration = Duration::from_millis(2);
/// How long a run of repeats may pause before it counts as broken off.
const RUN_PAUSE_MAX: Duration = Duration::from_secs(2);
/// What may be held at the same time; more are taken for new.
const HELD_BYTES_MAX: usize = 32 << 20;
/// One line per reason in this time.
const LINE_SPAN: Duration = Duration::from_secs(10);

/// An MQTT source, checked.
#[derive(Debug)]
pub struct Mqtt {
    settings: Settings,
    filters: Vec<String>,
    acknowledged: bool,
    ignore_retained: bool,
    payload_bytes_max: usize,
    limits: Limits,
    /// The column that takes the topic.
    topic: Option<usize>,
    decoder: Decoder,
    width: usize,
}

impl Mqtt {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Mqtt, OptionFault> {
        let Definition {
            options,
            schema,
            client_id,
            ..
        } = *definition;
        let filters = options.text("mqtt.topic").unwrap_or_default().split(',');
        let filters: Vec<String> = filters.map(|filter| filter.trim().to_owned()).collect();
        if let Some(bad) = filters.iter().find(|filter| !mqtt::is_filter(filter)) {
            let problem = format!("`{bad}` is not a topic filter");
            return Err(OptionFault::new("mqtt.topic", problem));
        }
        let topic = definition.column("mqtt.topic.column", &[Type::String])?;
        let mut settings = Settings::from_options(options, client_id)?;
        settings.resume = options.text("mqtt.session") != Some("clean");
        let size = |name, default| {
            let bytes = options.integer(name).unwrap_or(default);
            usize::try_from(bytes).unwrap_or(usize::MAX)
        };
        let taken: Vec<usize> = topic.into_iter().collect();
        Ok(Mqtt {
            settings,
            filters,
            acknowledged: options.integer("mqtt.qos") != Some(0),
            ignore_retained: options.text("mqtt.retained") == Some("ignore"),
            payload_bytes_max: size("payload.bytes_max", 1 << 20),
            limits: Limits {
                queue_bytes_max: size("queue.bytes_max", 8 << 20),
                batch_rows_max: size("queue.batch_rows_max", 256),
            },
            topic,
            decoder: Decoder::new(definition.format, options, schema, &taken)?,
            width: schema.width(),
        })
    }

    /// Reads until told to stop, or until the pipeline is gone.
    pub async fn run(self, context: Context) {
        Task::new(self, context).run().await;
    }
}

/// A message that was received on the present connection and is not acknowledged yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    packet: u16,
    ordinal: u64,
}

/// What ends a connection.
enum End {
    /// It is to be made anew at once, so that the broker delivers again what was left to it.
    Reopen,
    /// It broke, or was not made.
    Failed(mqtt::Error),
    /// The source has ended.
    Stopped,
}

/// What the next step is about.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, for a moment"
)]
enum Step {
    Event(Result<Event, mqtt::Error>),
    RunPaused,
    Subscribe,
    Reopen,
    Stop,
}

struct Task {
    mqtt: Mqtt,
    context: Context,
    queue: Queue,
    redelivery: Redelivery,
    /// What may be a repeat.
    held: Vec<(u16, Message)>,
    held_bytes: usize,
    /// Recognised on this connection, and not said yet.
    repeats: u64,
    pending: VecDeque<Pending>,
    /// The ordinal of the last message received.
    ordinal: u64,
    /// Acknowledgements asked for and not written yet.
    unwritten: usize,
    /// A QoS 1 message was left to the broker, and so are all after it on this connection.
    deferring: bool,
    /// The pipeline is full; ask again at this time.
    offer_at: Option<Instant>,
    run_ends_at: Option<Instant>,
    subscribe_at: Option<Instant>,
    subscribe_pace: Backoff,
    is_connected: bool,
    has_connected: bool,
    /// When stopping: when to give up waiting.
    stop_at: Option<Instant>,
    pipeline_gone: bool,
    lines: [Sparse; LINES],
}

/// One kind of line per reason of a reject and of a drop.
const LINES: usize = Reason::ALL.len() + Dropped::ALL.len();

impl Task {
    fn new(mqtt: Mqtt, mut context: Context) -> Task {
        let tail = std::mem::take(&mut context.tail);
        Task {
            queue: Queue::new(context.source, mqtt.width, mqtt.limits),
            redelivery: Redelivery::new(tail),
            held: Vec::new(),
            held_bytes: 0,
            repeats: 0,
            pending: VecDeque::new(),
            ordinal: 0,
            unwritten: 0,
            deferring: false,
            offer_at: None,
            run_ends_at: None,
            subscribe_at: None,
            subscribe_pace: Backoff::new(RETRY.0, RETRY.1),
            is_connected: false,
            has_connected: false,
            stop_at: None,
            pipeline_gone: false,
            lines: std::array::from_fn(|_| Sparse::new(LINE_SPAN)),
            mqtt,
            context,
        }
    }

    async fn run(mut self) {
        let mut pace = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let begin = Instant::now();
            let end = self.connection().await;
            self.context
                .metrics
                .connected
                .store(false, Ordering::Relaxed);
            self.disconnected();
            // A broker that throws us out again and again is no better than one that is away.
            if begin.elapsed() >= STABLE_AFTER {
                pace.reset();
            }
            match end {
                End::Stopped => break,
                End::Reopen => {}
                End::Failed(error) => {
                    self.context
                        .metrics
                        .disconnects
                        .fetch_add(1, Ordering::Relaxed);
                    let wait = pace.wait();
                    tracing::warn!(
                        stream = self.context.name,
                        broker =
                            format_args!("{}:{}", self.mqtt.settings.host, self.mqtt.settings.port),
                        "no connection to the broker: {error}; next attempt in {wait:.1?}"
                    );
                    if self.stop_at.is_some() || self.pause(wait).await {
                        break;
                    }
                }
            }
        }
        tracing::debug!(stream = self.context.name, "source ended");
    }

    /// One connection, from its making to its end.
    async fn connection(&mut self) -> End {
        let (handle, mut connection) = mqtt::connect(&self.mqtt.settings);
        loop {
            match self.step(&mut connection, &handle).await {
                Step::Event(Ok(event)) => self.on_event(event, &handle),
                Step::Event(Err(error)) => return End::Failed(error),
                Step::RunPaused => self.on_pause(),
                Step::Subscribe => self.subscribe(&handle),
                Step::Reopen => {
                    mqtt::farewell(&mut connection, &handle).await;
                    return End::Reopen;
                }
                Step::Stop => {
                    if self.is_connected {
                        mqtt::farewell(&mut connection, &handle).await;
                    }
                    return End::Stopped;
                }
            }
            self.acknowledge(&handle);
            self.keep_up();
        }
    }

    /// What must not wait for the socket to run dry: under a flood it never does.
    fn keep_up(&mut self) {
        let may_offer = self.offer_at.is_none_or(|at| at <= Instant::now());
        if self.queue.batch_is_full() && may_offer {
            self.offer();
        }
        if self.stop_at.is_none() && *self.context.stop.borrow() {
            self.heed_stop(false);
        }
    }

    /// Waits for the next thing that matters to the connection, while everything else goes on.
    async fn step(&mut self, connection: &mut Connection, handle: &Handle) -> Step {
        let mut poll = pin!(connection.next());
        loop {
            if let Some(step) = self.due() {
                return step;
            }
            tokio::select! {
                biased;
                event = &mut poll => return Step::Event(event),
                changed = self.context.released.changed(), if !self.pipeline_gone => {
                    self.pipeline_gone |= changed.is_err();
                    self.acknowledge(handle);
                }
                changed = self.context.stop.changed(), if self.stop_at.is_none() => {
                    self.heed_stop(changed.is_err());
                }
                // Nothing more to read: what has come so far is a batch.
                () = std::future::ready(()), if self.may_offer() => self.offer(),
                () = sleep_until_some(self.offer_at) => self.offer(),
                () = sleep_until_some(self.run_ends_at) => return Step::RunPaused,
                () = sleep_until_some(self.subscribe_at) => return Step::Subscribe,
                () = sleep_until_some(self.stop_at) => return Step::Stop,
            }
        }
    }

    /// What is to be done before anything else is awaited.
    fn due(&self) -> Option<Step> {
        let at_rest = self.queue.is_empty() && self.pending.is_empty() && self.unwritten == 0;
        if self.pipeline_gone && self.queue.is_empty() {
            return Some(Step::Stop);
        }
        if self.stop_at.is_some() && self.queue.is_empty() {
            let all_released = *self.context.released.borrow() >= self.queue.offered_through();
            // Without a connection there is nothing to wait for.
            if (all_released && at_rest) || !self.is_connected {
                return Some(Step::Stop);
            }
        }
        (self.deferring && self.stop_at.is_none() && at_rest).then_some(Step::Reopen)
    }

    /// Waits before the next attempt, while the pipeline is still served. True when the source is
    /// to end.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            if self.pipeline_gone || (self.stop_at.is_some() && self.queue.is_empty()) {
                return true;
            }
            tokio::select! {
                changed = self.context.released.changed() => {
                    self.pipeline_gone |= changed.is_err();
                }
                changed = self.context.stop.changed(), if self.stop_at.is_none() => {
                    self.heed_stop(changed.is_err());
                }
                () = std::future::ready(()), if self.may_offer() => self.offer(),
                () = sleep_until_some(self.offer_at) => self.offer(),
                () = sleep_until_some(self.stop_at) => return true,
                () = sleep_until(until), if self.stop_at.is_none() => return false,
            }
        }
    }

    fn heed_stop(&mut self, daemon_gone: bool) {
        if daemon_gone || *self.context.stop.borrow() {
            self.stop_at = Some(Instant::now() + self.context.stop_within);
        }
    }

    fn on_event(&mut self, event: Event, handle: &Handle) {
        match event {
            Event::Connected(welcome) => {
                self.context
                    .metrics
                    .connects
                    .fetch_add(1, Ordering::Relaxed);
                self.context
                    .metrics
                    .connected
                    .store(true, Ordering::Relaxed);
                tracing::info!(
                    stream = self.context.name,
                    session_present = welcome.session_present,
                    "connected to the broker"
                );
                self.redelivery.connected(welcome.session_present);
                // The filters may have changed since a former process subscribed.
                if !welcome.session_present || !self.has_connected {
                    self.subscribe(handle);
                }
                self.is_connected = true;
                self.has_connected = true;
            }
            Event::Message(message) => self.on_message(message),
            Event::Subscribed(answers) => self.on_subscribed(&answers),
            Event::AckWritten => self.unwritten = self.unwritten.saturating_sub(1),
            Event::Published(_) | Event::Acknowledged(..) | Event::Other => {}
        }
    }

    fn subscribe(&mut self, handle: &Handle) {
        self.subscribe_at = None;
        if !handle.subscribe(&self.mqtt.filters, self.mqtt.acknowledged) {
            self.subscribe_at = Some(Instant::now() + self.subscribe_pace.wait());
        }
    }

    fn on_subscribed(&mut self, answers: &[Option<String>]) {
        let mut refused = false;
        for (filter, answer) in self.mqtt.filters.iter().zip(answers) {
            if let Some(reason) = answer {
                refused = true;
                let metrics = &self.context.metrics;
                metrics
                    .subscriptions_refused
                    .fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    stream = self.context.name,
                    filter,
                    "the broker refused the subscription: {reason}; will try again"
                );
            }
        }
        if refused {
            self.subscribe_at = Some(Instant::now() + self.subscribe_pace.wait());
        } else {
            self.subscribe_pace.reset();
        }
    }

    fn on_message(&mut self, message: Message) {
        let metrics = &self.context.metrics;
        metrics.received.fetch_add(1, Ordering::Relaxed);
        let bytes = u64::try_from(message.payload().len()).unwrap_or(u64::MAX);
        metrics.received_bytes.fetch_add(bytes, Ordering::Relaxed);
        // While stopping nothing new is taken: the broker keeps it for the next start.
        if self.stop_at.is_some() && self.mqtt.settings.resume {
            return;
        }
        let Some(packet) = message.packet() else {
            self.take(&message, None);
            return;
        };
        if self.deferring {
            self.context
                .metrics
                .deferred
                .fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.redelivery.is_over() {
            self.take(&message, Some((packet, mark_of(packet, &message))));
            return;
        }
        match self
            .redelivery
            .judge(message.dup(), mark_of(packet, &message))
        {
            Verdict::New => {
                self.settle_held_as_new();
                if !self.deferring {
                    self.take(&message, Some((packet, mark_of(packet, &message))));
                }
            }
            Verdict::Held => {
                self.held_bytes += message.payload().len();
                self.held.push((packet, message));
                self.run_ends_at = Some(Instant::now() + RUN_PAUSE_MAX);
                if self.held_bytes > HELD_BYTES_MAX {
                    self.settle_held_as_new();
                }
            }
            Verdict::Repeats(ordinals) => self.settle_as_repeats(&ordinals, Some(packet)),
        }
    }

    /// The run of repeats broke off: what was held is new.
    fn settle_held_as_new(&mut self) {
        self.redelivery.give_up();
        self.tell_repeats();
        self.run_ends_at = None;
        self.held_bytes = 0;
        for (packet, message) in std::mem::take(&mut self.held) {
            if !self.deferring {
                self.take(&message, Some((packet, mark_of(packet, &message))));
            }
        }
    }

    /// Nothing more of a run of repeats came for a while.
    fn on_pause(&mut self) {
        match self.redelivery.pause() {
            Verdict::Repeats(ordinals) => self.settle_as_repeats(&ordinals, None),
            Verdict::New | Verdict::Held => self.settle_held_as_new(),
        }
    }

    /// What was held, and the last message, are in the log. They are acknowledged when their
    /// first receipt is durable, on this connection.
    fn settle_as_repeats(&mut self, ordinals: &[u64], last: Option<u16>) {
        self.run_ends_at = None;
        self.held_bytes = 0;
        let held = std::mem::take(&mut self.held);
        let packets = held.iter().map(|(packet, _)| *packet).chain(last);
        for (packet, ordinal) in packets.zip(ordinals) {
            let ordinal = *ordinal;
            self.pending.push_back(Pending { packet, ordinal });
            self.repeats += 1;
            self.context
                .metrics
                .duplicates
                .fetch_add(1, Ordering::Relaxed);
        }
        if self.redelivery.is_over() {
            self.tell_repeats();
        }
    }

    fn tell_repeats(&mut self) {
        let count = std::mem::take(&mut self.repeats);
        if count > 0 {
            tracing::info!(
                stream = self.context.name,
                "recognised {count} messages that came again"
            );
        }
    }

    /// Makes rows of a new message, or leaves it when there is no room.
    fn take(&mut self, message: &Message, acknowledged: Option<(u16, DeliveryMark)>) {
        let payload_bytes = self.kept_bytes(message);
        if self.queue.is_over_limit(payload_bytes) {
            if acknowledged.is_some() && self.mqtt.settings.resume {
                self.context
                    .metrics
                    .deferred
                    .fetch_add(1, Ordering::Relaxed);
                self.deferring = true;
                return;
            }
            self.drop_message(Dropped::QueueFull, message);
            if let Some((packet, _)) = acknowledged {
                let ordinal = self.ordinal;
                self.pending.push_back(Pending { packet, ordinal });
            }
            return;
        }
        self.ordinal += 1;
        if let Some((packet, mark)) = acknowledged {
            let ordinal = self.ordinal;
            self.pending.push_back(Pending { packet, ordinal });
            self.redelivery.received(mark, ordinal);
        }
        let mark = acknowledged.map(|(_, mark)| mark);
        self.queue.begin(self.ordinal, mark, payload_bytes);
        let rows_before = self.queue.rows().len();
        match self.rows_of(message) {
            Ok(()) => {
                let rows = self.queue.rows().len() - rows_before;
                let rows = u64::try_from(rows).unwrap_or(u64::MAX);
                self.context.metrics.rows.fetch_add(rows, Ordering::Relaxed);
            }
            Err(reject) => self.reject(reject, message),
        }
        self.queue.end();
    }

    /// How many bytes of it will stay in memory.
    fn kept_bytes(&self, message: &Message) -> usize {
        let bytes = message.payload().len();
        if bytes > self.mqtt.payload_bytes_max {
            REJECTED_BYTES_MAX
        } else {
            bytes
        }
    }

    fn rows_of(&mut self, message: &Message) -> Result<(), Reject> {
        let topic = std::str::from_utf8(message.topic())
            .map_err(|_| Reject::new(Reason::InvalidUtf8, "the topic is not UTF-8"))?;
        let mut filters = self.mqtt.filters.iter();
        if !filters.any(|filter| mqtt::filter_matches(filter, topic)) {
            self.drop_message(Dropped::Unmatched, message);
            return Ok(());
        }
        if self.mqtt.ignore_retained && message.retained() {
            self.drop_message(Dropped::Retained, message);
            return Ok(());
        }
        let (payload, bytes_max) = (message.payload(), self.mqtt.payload_bytes_max);
        if payload.len() > bytes_max {
            let detail = format!("{} bytes; payload.bytes_max is {bytes_max}", payload.len());
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        let first = self.queue.rows().len();
        self.mqtt.decoder.decode(payload, self.queue.rows())?;
        if let Some(column) = self.mqtt.topic {
            self.queue.rows().fill(first, column, &Value::text(topic));
        }
        Ok(())
    }

    fn reject(&mut self, reject: Reject, message: &Message) {
        self.context.metrics.count_rejected(reject.reason);
        let line = Reason::ALL.iter().position(|known| *known == reject.reason);
        if let Some(count) = self.line(line) {
            tracing::warn!(
                stream = self.context.name,
                topic = %String::from_utf8_lossy(message.topic()),
                count,
                "rejected a message: {reject}"
            );
        }
        let payload = message.payload();
        self.queue.reject(Rejected {
            reason: reject.reason.word().to_owned(),
            detail: reject.detail,
            bytes: payload.iter().take(REJECTED_BYTES_MAX).copied().collect(),
            bytes_total: u64::try_from(payload.len()).unwrap_or(u64::MAX),
        });
    }

    fn drop_message(&mut self, reason: Dropped, message: &Message) {
        self.context.metrics.count_dropped(reason);
        let line = Dropped::ALL.iter().position(|known| *known == reason);
        if let Some(count) = self.line(line.map(|line| line + Reason::ALL.len())) {
            tracing::warn!(
                stream = self.context.name,
                topic = %String::from_utf8_lossy(message.topic()),
                count,
                "dropped a message: {}",
                reason.word()
            );
        }
    }

    fn line(&mut self, index: Option<usize>) -> Option<u64> {
        let sparse = self.lines.get_mut(index?)?;
        sparse.occurred(std::time::Instant::now())
    }

    fn may_offer(&self) -> bool {
        self.offer_at.is_none() && !self.queue.is_empty()
    }

    /// Hands to the pipeline what it takes.
    fn offer(&mut self) {
        self.offer_at = None;
        match self.queue.offer(&self.context.arrivals) {
            Offer::Done => {}
            Offer::Full => self.offer_at = Some(Instant::now() + OFFER_AGAIN),
            Offer::Gone => self.pipeline_gone = true,
        }
    }

    /// Asks for the acknowledgement of everything that is durable, in the order of receipt.
    fn acknowledge(&mut self, handle: &Handle) {
        if self.pending.is_empty() {
            return;
        }
        let released = *self.context.released.borrow_and_update();
        while let Some(first) = self.pending.front() {
            if first.ordinal > released || !handle.acknowledge(first.packet) {
                break;
            }
            self.redelivery.acknowledged(first.ordinal);
            self.unwritten += 1;
            self.pending.pop_front();
        }
    }

    /// Nothing that belongs to a connection outlives it.
    fn disconnected(&mut self) {
        self.tell_repeats();
        self.is_connected = false;
        self.pending.clear();
        self.held.clear();
        self.held_bytes = 0;
        self.unwritten = 0;
        self.deferring = false;
        self.run_ends_at = None;
        self.subscribe_at = None;
    }
}

fn mark_of(packet: u16, message: &Message) -> DeliveryMark {
    DeliveryMark {
        packet,
        digest: digest(message.topic(), message.payload()),
    }
}
