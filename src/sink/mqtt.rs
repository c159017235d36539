//! A sink that publishes at an MQTT broker.
//!
//! What it promises: outputs are published in order, up to `mqtt.inflight_max` at a time, and a
//! key is confirmed when the broker has acknowledged it and everything before it. After a lost
//! connection everything unconfirmed is published again with the same id. What waits for the
//! broker is kept here and not in the client, whose session is clean: nothing is sent twice
//! by two memories. A message that the broker refuses for good (MQTT 5: its topic or payload is
//! invalid, it is too large) is counted and refused; one that it may not take from us is tried
//! again, since a person has to mend that. What the outbox gives up before it was sent is not sent.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as Clock};

use tokio::time::{Instant, sleep, sleep_until};

use super::{CONFIRM_AGAIN, Confirmer, Context, Delivery, Refused, count, render_json_with};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec};
use crate::event::OutputKey;
use crate::mqtt::{self, Answer, Connection, Event, Handle, Outgoing, Settings, Version, Welcome};
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
            "The topic to publish to",
        )
    },
    option(
        "mqtt.qos",
        OptionKind::Integer { min: 0, max: 1 },
        Some("1"),
        "1: delivered at least once; 0: not repeated when the connection breaks",
    ),
    option(
        "mqtt.retain",
        OptionKind::Flag,
        Some("false"),
        "Whether the broker keeps the last message for later subscribers",
    ),
    option(
        "mqtt.id",
        OptionKind::Choice(&["property", "field", "none"]),
        None,
        "Where a message's id goes: user property `id` (MQTT 5, the default there), \
         payload field `_id` (the default for 3.1.1), nowhere",
    ),
    option(
        "mqtt.inflight_max",
        OptionKind::Integer {
            min: 1,
            max: 10_000,
        },
        Some("100"),
        "How many messages may await the broker's acknowledgement",
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

/// The payload field that carries the id.
const ID_FIELD: &str = "_id";
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// A connection that lasted so long was a good one.
const STABLE_AFTER: Duration = Duration::from_secs(10);
const LINE_SPAN: Duration = Duration::from_secs(10);
/// What a packet holds besides topic, payload and user properties, at the most.
const PACKET_OVERHEAD_BYTES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IdPlace {
    Property,
    Field,
    Nowhere,
}

/// An MQTT sink, checked.
#[derive(Debug)]
pub struct Mqtt {
    settings: Settings,
    topic: String,
    acknowledged: bool,
    retain: bool,
    id: IdPlace,
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
        let topic = options.text("mqtt.topic").unwrap_or_default();
        if !mqtt::is_topic(topic) {
            let problem = format!("`{topic}` is not a topic that can be published to");
            return Err(OptionFault::new("mqtt.topic", problem));
        }
        let mut settings = Settings::from_options(options, client_id)?;
        settings.resume = false;
        let inflight = options.integer("mqtt.inflight_max").unwrap_or(100);
        settings.inflight_max = u16::try_from(inflight).unwrap_or(100).max(1);
        let id = match (options.text("mqtt.id"), settings.version) {
            (Some("property"), Version::V5) | (None, Version::V5) => IdPlace::Property,
            (Some("property"), Version::V311) => {
                let problem = "MQTT 3.1.1 has no properties: set mqtt.version = '5' or use `field`";
                return Err(OptionFault::new("mqtt.id", problem));
            }
            (Some("none"), _) => IdPlace::Nowhere,
            (Some(_), _) | (None, Version::V311) => IdPlace::Field,
        };
        if id == IdPlace::Field && schema.index_of(ID_FIELD).is_some() {
            let problem = format!("the stream has a column `{ID_FIELD}`: use `none`");
            return Err(OptionFault::new("mqtt.id", problem));
        }
        Ok(Mqtt {
            settings,
            topic: topic.to_owned(),
            acknowledged: options.integer("mqtt.qos") != Some(0),
            retain: options.flag("mqtt.retain"),
            id,
        })
    }

    /// Delivers until told to stop, or until there is nothing to come.
    pub async fn run(self, context: Context) {
        let window_max = usize::from(self.settings.inflight_max);
        let confirmer = Confirmer::new(context.sink, context.confirmed.clone());
        let task = Task {
            mqtt: self,
            context,
            confirmer,
            window: VecDeque::new(),
            first: 0,
            window_max,
            queued: VecDeque::new(),
            written: VecDeque::new(),
            welcome: None,
            paused_until: None,
            is_closed: false,
            stop_at: None,
            refused_line: Sparse::new(LINE_SPAN),
            later: Backoff::new(RETRY.0, RETRY.1),
        };
        task.run().await;
    }
}

/// An output between its receipt and its confirmation.
struct Entry {
    key: OutputKey,
    payload: Vec<u8>,
    properties: Vec<(String, String)>,
    state: State,
    /// How often it was sent.
    attempts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// To be published.
    Waiting,
    /// Handed to the client.
    Sent,
    /// Acknowledged.
    Done,
    /// The broker will never take it.
    Refused(Refused),
    /// Given up before it was sent.
    PassedOver,
}

enum End {
    Failed(mqtt::Error),
    Stopped,
}

struct Task {
    mqtt: Mqtt,
    context: Context,
    confirmer: Confirmer,
    /// In order, numbered from `first`. Never longer than `window_max`, so that the client, which
    /// goes round through as many packet ids, never meets one that is still in use.
    window: VecDeque<Entry>,
    first: u64,
    window_max: usize,
    /// Handed to the client and not written yet, in that order.
    queued: VecDeque<u64>,
    /// Written and not acknowledged, with their packet ids.
    written: VecDeque<(u16, u64)>,
    /// What the broker said of itself, while there is a connection.
    welcome: Option<Welcome>,
    /// The broker asked for a pause until then.
    paused_until: Option<Instant>,
    /// There is nothing to come.
    is_closed: bool,
    stop_at: Option<Instant>,
    refused_line: Sparse,
    later: Backoff,
}

impl Task {
    async fn run(mut self) {
        let mut pace = Backoff::new(RETRY.0, RETRY.1);
        loop {
            let begin = Instant::now();
            let end = self.connection().await;
            self.disconnected();
            // A broker that throws us out again and again is no better than one that is away.
            if begin.elapsed() >= STABLE_AFTER {
                pace.reset();
            }
            let End::Failed(error) = end else { break };
            count(&self.context.metrics.disconnects);
            let wait = pace.wait();
            let settings = &self.mqtt.settings;
            tracing::warn!(
                stream = self.context.name,
                broker = format_args!("{}:{}", settings.host, settings.port),
                waiting = self.window.len(),
                "no connection to the broker: {error}; next attempt in {wait:.1?}"
            );
            if self.stop_at.is_some() || self.pause(wait).await {
                break;
            }
        }
        self.confirmer.flush();
    }

    async fn connection(&mut self) -> End {
        let (handle, mut connection) = mqtt::connect(&self.mqtt.settings);
        loop {
            match self.step(&mut connection, &handle).await {
                Some(Ok(event)) => self.on_event(event),
                Some(Err(error)) => return End::Failed(error),
                None => {
                    if self.welcome.is_some() {
                        mqtt::farewell(&mut connection, &handle).await;
                    }
                    return End::Stopped;
                }
            }
            self.publish(&handle);
        }
    }

    /// Waits for the next event, while deliveries are taken and published. `None` when the sink
    /// is to end.
    async fn step(
        &mut self,
        connection: &mut Connection,
        handle: &Handle,
    ) -> Option<Result<Event, mqtt::Error>> {
        let mut poll = pin!(connection.next());
        loop {
            let ending = self.is_closed || self.stop_at.is_some();
            let has_settled = self.window.is_empty() && self.confirmer.flush();
            // Without a connection there is nothing to wait for when told to stop.
            let is_away = self.stop_at.is_some() && self.welcome.is_none();
            if (ending && has_settled) || is_away {
                return None;
            }
            let may_receive = self.window.len() < self.window_max && !ending;
            tokio::select! {
                biased;
                event = &mut poll => return Some(event),
                changed = self.context.stop.changed(), if self.stop_at.is_none() => {
                    self.heed_stop(changed.is_err());
                }
                delivery = self.context.deliveries.recv(), if may_receive => {
                    self.receive(delivery);
                    self.publish(handle);
                }
                () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                    self.confirmer.flush();
                }
                () = sleep_until_some(self.paused_until) => {
                    self.paused_until = None;
                    self.publish(handle);
                }
                () = sleep_until_some(self.stop_at) => return None,
            }
        }
    }

    /// Waits before the next attempt. True when the sink is to end.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            let ending = self.is_closed || self.stop_at.is_some();
            let may_receive = self.window.len() < self.window_max && !ending;
            tokio::select! {
                changed = self.context.stop.changed() => {
                    self.heed_stop(changed.is_err());
                    if self.stop_at.is_some() {
                        return true;
                    }
                }
                delivery = self.context.deliveries.recv(), if may_receive => {
                    self.receive(delivery);
                }
                () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                    self.confirmer.flush();
                }
                () = sleep_until(until) => return false,
            }
        }
    }

    fn heed_stop(&mut self, daemon_gone: bool) {
        if daemon_gone || *self.context.stop.borrow() {
            self.stop_at = Some(Instant::now() + self.context.stop_within);
        }
    }

    /// Takes a delivery, and those behind it, as long as there is room.
    fn receive(&mut self, first: Option<Delivery>) {
        let Some(first) = first else {
            self.is_closed = true;
            return;
        };
        self.enter(&first);
        while self.window.len() < self.window_max {
            let Ok(next) = self.context.deliveries.try_recv() else {
                return;
            };
            self.enter(&next);
        }
    }

    fn enter(&mut self, delivery: &Delivery) {
        // The columns may be older than the options, and then have such a field of their own.
        let is_free = || delivery.schema.index_of(ID_FIELD).is_none();
        let extra = (self.mqtt.id == IdPlace::Field && is_free())
            .then_some((ID_FIELD, delivery.id.as_str()));
        let mut payload = Vec::with_capacity(128);
        render_json_with(&delivery.schema, &delivery.row, extra, &mut payload);
        let properties = match self.mqtt.id {
            IdPlace::Property => vec![
                ("id".to_owned(), delivery.id.clone()),
                ("time".to_owned(), delivery.time.to_string()),
            ],
            IdPlace::Field | IdPlace::Nowhere => Vec::new(),
        };
        self.window.push_back(Entry {
            key: delivery.key,
            payload,
            properties,
            state: State::Waiting,
            attempts: 0,
        });
    }

    /// Hands to the client what waits, in order.
    fn publish(&mut self, handle: &Handle) {
        let Some(welcome) = self.welcome else { return };
        if self.paused_until.is_some() {
            return;
        }
        let unacknowledged_max = welcome.receive_max.map_or(self.window_max, usize::from);
        for (number, entry) in (self.first..).zip(self.window.iter_mut()) {
            if self.queued.len() + self.written.len() >= unacknowledged_max {
                break;
            }
            if entry.state != State::Waiting {
                continue;
            }
            if self.context.passes_over(entry.key) {
                entry.state = State::PassedOver;
                continue;
            }
            if !fits(&self.mqtt.topic, entry, welcome.packet_bytes_max) {
                let why = "larger than the broker accepts";
                entry.state = State::Refused(Refused::new(why, entry.attempts));
                count(&self.context.metrics.refused);
                if let Some(count) = self.refused_line.occurred(Clock::now()) {
                    tracing::error!(stream = self.context.name, count, "given up: {why}");
                }
                continue;
            }
            let message = Outgoing {
                topic: &self.mqtt.topic,
                payload: &entry.payload,
                retain: self.mqtt.retain,
                acknowledged: self.mqtt.acknowledged,
                properties: entry.properties.clone(),
            };
            if !handle.publish(message) {
                break;
            }
            entry.state = State::Sent;
            entry.attempts = entry.attempts.saturating_add(1);
            self.queued.push_back(number);
        }
        self.confirm();
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected(welcome) => {
                count(&self.context.metrics.connects);
                self.context
                    .metrics
                    .connected
                    .store(true, Ordering::Relaxed);
                tracing::info!(
                    stream = self.context.name,
                    waiting = self.window.len(),
                    "connected to the broker"
                );
                self.welcome = Some(welcome);
            }
            Event::Published(packet) => {
                if let Some(number) = self.queued.pop_front() {
                    if packet == 0 {
                        self.settle(number, Answer::Accepted);
                    } else {
                        self.written.push_back((packet, number));
                    }
                }
            }
            Event::Acknowledged(packet, answer) => {
                let mut written = self.written.iter();
                let found = written.position(|(known, _)| *known == packet);
                if let Some((_, number)) = found.and_then(|index| self.written.remove(index)) {
                    self.settle(number, answer);
                }
            }
            Event::Message(_) | Event::Subscribed(_) | Event::AckWritten | Event::Other => {}
        }
    }

    fn settle(&mut self, number: u64, answer: Answer) {
        let index = usize::try_from(number - self.first).unwrap_or(usize::MAX);
        let Some(entry) = self.window.get_mut(index) else {
            return;
        };
        match answer {
            Answer::Accepted => {
                entry.state = State::Done;
                count(&self.context.metrics.delivered);
                self.later.reset();
            }
            Answer::Refused(reason) => {
                entry.state = State::Refused(Refused::new(&reason, entry.attempts));
                count(&self.context.metrics.refused);
                if let Some(count) = self.refused_line.occurred(Clock::now()) {
                    tracing::error!(
                        stream = self.context.name,
                        topic = self.mqtt.topic,
                        count,
                        "given up: the broker refused it: {reason}"
                    );
                }
            }
            Answer::Later(reason) => {
                entry.state = State::Waiting;
                count(&self.context.metrics.retries);
                let wait = self.later.wait();
                self.paused_until = Some(Instant::now() + wait);
                tracing::warn!(
                    stream = self.context.name,
                    "the broker does not take it now: {reason}; next attempt in {wait:.1?}"
                );
            }
        }
        self.confirm();
    }

    /// Confirms what is done with nothing undone before it.
    fn confirm(&mut self) {
        let mut last = None;
        while let Some(entry) = self.window.front() {
            let key = entry.key;
            match &entry.state {
                State::Waiting | State::Sent => break,
                State::Done => last = Some(key),
                State::PassedOver => {}
                State::Refused(refused) => {
                    // Its own word says that all before it has arrived.
                    last = None;
                    self.confirmer.refuse(key, refused.clone());
                }
            }
            self.window.pop_front();
            self.first += 1;
        }
        if let Some(key) = last {
            self.confirmer.confirm(key);
        }
    }

    /// What was sent and not acknowledged is to be sent again.
    fn disconnected(&mut self) {
        self.context
            .metrics
            .connected
            .store(false, Ordering::Relaxed);
        self.welcome = None;
        self.paused_until = None;
        self.queued.clear();
        self.written.clear();
        for entry in &mut self.window {
            if entry.state == State::Sent {
                entry.state = State::Waiting;
                count(&self.context.metrics.retries);
            }
        }
    }
}

/// Whether the broker takes a packet of that size; to send it all the same would end the
/// connection, again and again.
fn fits(topic: &str, entry: &Entry, packet_bytes_max: Option<u32>) -> bool {
    let Some(max) = packet_bytes_max.and_then(|max| usize::try_from(max).ok()) else {
        return true;
    };
    let properties = entry.properties.iter();
    let properties: usize = properties
        .map(|(name, text)| name.len() + text.len() + 5)
        .sum();
    topic.len() + entry.payload.len() + properties + PACKET_OVERHEAD_BYTES <= max
}
