//! A source that subscribes at an MQTT broker.
//!
//! What it promises: a message of QoS 1 or 2 is acknowledged (PUBACK, PUBREC) only when the log has
//! it, in the order of receipt, and only on the connection on which it came. Whatever the pipeline
//! does, the connection is polled: when the pipeline is behind, messages queue here up to a limit
//! and acknowledgements wait. Beyond the limit QoS 0 is dropped and counted, and QoS 1 and 2 are
//! left to the broker, which delivers them again once the queue is empty. Bad messages are handed
//! on as rejects, and acknowledged like any other; when the stream is to fail by them, the source
//! ends without acknowledging.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::redelivery::{Redelivery, SESSION_BEGINS, Verdict, digest};
use super::{Context, Dropped, Failed, Intake, Plan, Released};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec};
use crate::decode::{Reason, Reject};
use crate::event::{DeliveryMark, Type, Value};
use crate::mqtt::{
    self, Connection, Event, Filter, Handle, Kind, Message, Misfit, Qos, Receipt, Retained, Rounds,
    Settings, Welcome,
};
use crate::pace::{Backoff, sleep_until_some};

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &mqtt::with_connection::<7, 30>([
    OptionSpec::new(
        "mqtt.topic",
        OptionKind::List,
        "The topic filters to subscribe to. A level `{column}` is \
         any level, and goes into that column (STRING, INT or BIGINT)",
    )
    .required(),
    OptionSpec::new(
        "mqtt.session",
        OptionKind::Choice(&["persistent", "clean"]),
        "Whether the broker keeps messages while we are away",
    )
    .or("persistent"),
    OptionSpec::new(
        "mqtt.receive_max",
        OptionKind::Integer {
            min: 1,
            max: 65_535,
        },
        "How many messages the broker may send before it waits for acknowledgements (MQTT 5)",
    )
    .or("1000"),
    OptionSpec::new(
        "mqtt.retained",
        OptionKind::Choice(&["accept", "ignore"]),
        "Whether a topic's retained message, sent when we subscribe, is an event",
    )
    .or("accept"),
    OptionSpec::new(
        "mqtt.topic.column",
        OptionKind::Text,
        "The STRING column that takes the message's topic",
    ),
    OptionSpec::new(
        "mqtt.retained.column",
        OptionKind::Text,
        "The BOOLEAN column that says whether the message is a retained one",
    ),
    OptionSpec::new(
        "mqtt.packet_bytes_max",
        OptionKind::Bytes,
        "The largest packet that is read into memory, to be judged by `payload.bytes_max`. An \
         MQTT 5 broker is told, and leaves out what is larger; with 3.1.1 the connection ends at \
         it, each time that it comes",
    )
    .or("256 MiB")
    .between(1 << 10, 256 << 20),
]);

/// With so much there is no limit but the protocol's.
const PACKET_BYTES_UNLIMITED: u32 = 256 << 20;
/// The waits between attempts to subscribe.
const SUBSCRIBE_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How soon a full pipeline is asked again while nothing else goes on.
const OFFER_AGAIN: Duration = Duration::from_millis(2);
/// How long a run of repeats may pause before it counts as broken off.
const RUN_PAUSE_MAX: Duration = Duration::from_secs(2);
/// What may be held at the same time, in queues; more are taken for new. What comes again was not
/// acknowledged, and so in the queue or on its way to the disk.
const HELD_QUEUES_MAX: usize = 2;

/// An MQTT source, checked.
#[derive(Debug)]
pub struct Mqtt {
    subscription: Box<Subscription>,
    plan: Plan,
}

/// What is subscribed to, and what becomes of what comes.
#[derive(Debug)]
struct Subscription {
    settings: Settings,
    filters: Vec<Filter>,
    qos: Qos,
    ignore_retained: bool,
    /// The column that takes the topic.
    topic: Option<usize>,
    /// The column that says whether the message is a retained one.
    retained: Option<usize>,
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
        let filters = filters(definition)?;
        let topic = definition.column("mqtt.topic.column", &[Type::String])?;
        let retained = definition.column("mqtt.retained.column", &[Type::Bool])?;
        let mut settings = Settings::from_options(options, client_id)?;
        settings.subscribes = true;
        settings.resume = options.text("mqtt.session") != Some("clean");
        let receive_max = options.integer("mqtt.receive_max").unwrap_or(1_000);
        settings.receive_max = u16::try_from(receive_max).unwrap_or(u16::MAX);
        if let Some(bytes) = options.integer("mqtt.packet_bytes_max") {
            // The largest there can be is no limit.
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            if bytes < PACKET_BYTES_UNLIMITED {
                settings.packet_bytes_max = bytes;
            }
        }
        let levels: Vec<usize> = filters.iter().flat_map(Filter::columns).collect();
        if let Some(topic) = topic.filter(|topic| levels.contains(topic)) {
            let name = schema.fields().get(topic).map_or("", |field| &field.name);
            let problem = format!("column `{name}` takes a level of the topic already");
            return Err(OptionFault::new("mqtt.topic.column", problem));
        }
        let taken: Vec<usize> = levels.into_iter().chain(topic).chain(retained).collect();
        Ok(Mqtt {
            subscription: Box::new(Subscription {
                settings,
                filters,
                qos: mqtt::qos(options),
                ignore_retained: options.text("mqtt.retained") == Some("ignore"),
                topic,
                retained,
            }),
            plan: Plan::new(definition.format, options, schema, &taken)?,
        })
    }

    /// Reads until told to stop, or until the pipeline is gone.
    pub async fn run(self, context: Context) {
        Task::new(self, context).run().await;
    }
}

fn filters(definition: &Definition<'_>) -> Result<Vec<Filter>, OptionFault> {
    const NAME: &str = "mqtt.topic";
    let schema = definition.schema;
    let column = |name: &str| {
        let index = schema
            .index_of(name)
            .ok_or_else(|| format!("the stream has no column `{name}`"))?;
        let kind = match schema.fields().get(index).map(|field| field.ty) {
            Some(Type::String) => Kind::Text,
            Some(Type::Int) => Kind::Integer {
                min: i64::from(i32::MIN),
                max: i64::from(i32::MAX),
            },
            Some(Type::Long) => Kind::Integer {
                min: i64::MIN,
                max: i64::MAX,
            },
            Some(_) | None => {
                let problem = "a level of a topic goes into a STRING, an INT or a BIGINT";
                return Err(format!("{problem}, and column `{name}` is none"));
            }
        };
        Ok((index, kind))
    };
    let written = definition.options.list(NAME).into_iter();
    let parsed = written.map(|text| Filter::parse(text, column));
    let parsed: Result<Vec<Filter>, String> = parsed.collect();
    parsed.map_err(|problem| OptionFault::new(NAME, problem))
}

/// A message that was received on the present connection and is not acknowledged yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    receipt: Receipt,
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
    subscription: Box<Subscription>,
    context: Context,
    intake: Intake,
    released: Released,
    rounds: Rounds,
    redelivery: Redelivery,
    /// What may be a repeat.
    held: Vec<(Receipt, Message)>,
    held_bytes: usize,
    /// Recognised on this connection, and not said yet.
    repeats: u64,
    pending: VecDeque<Pending>,
    /// Of QoS 2: acknowledged (PUBREC), and the broker has not said (PUBREL) that the packet id is
    /// free. Goes on with the session.
    recorded: HashMap<u16, u64>,
    /// Acknowledgements asked for and not written yet.
    unwritten: usize,
    /// A message was left to the broker, and so are all after it on this connection.
    deferring: bool,
    /// The connection was ended for that, and is made anew.
    is_reopening: bool,
    run_ends_at: Option<Instant>,
    subscribe_at: Option<Instant>,
    subscribe_pace: Backoff,
    /// Since when there is a connection.
    connected_at: Option<Instant>,
    /// The broker that had us last, by its place in the list.
    last_broker: Option<usize>,
    /// Whether that one has accepted the filters of this process.
    is_subscribed: bool,
    /// When stopping: when to give up waiting.
    stop_at: Option<Instant>,
    /// The stream has failed: nothing more is taken, and what failed is not acknowledged.
    has_failed: bool,
    is_pipeline_gone: bool,
    /// What the columns take that the message does not fill, used again for each.
    fills: Vec<(usize, Value)>,
}

impl Task {
    fn new(mqtt: Mqtt, mut context: Context) -> Task {
        let tail = std::mem::take(&mut context.tail);
        Task {
            intake: Intake::new(mqtt.plan, &context),
            released: context.released.clone(),
            rounds: mqtt.subscription.settings.rounds(),
            redelivery: Redelivery::new(tail),
            held: Vec::new(),
            held_bytes: 0,
            repeats: 0,
            pending: VecDeque::new(),
            recorded: HashMap::new(),
            unwritten: 0,
            deferring: false,
            is_reopening: false,
            run_ends_at: None,
            subscribe_at: None,
            subscribe_pace: Backoff::new(SUBSCRIBE_AGAIN.0, SUBSCRIBE_AGAIN.1),
            connected_at: None,
            last_broker: None,
            is_subscribed: false,
            stop_at: None,
            has_failed: false,
            is_pipeline_gone: false,
            fills: Vec::new(),
            subscription: mqtt.subscription,
            context,
        }
    }

    async fn run(mut self) {
        loop {
            let broker = self.rounds.at();
            let end = self.connection(broker).await;
            let stood = self.connected_at.map(|at| at.elapsed());
            self.disconnected();
            match end {
                End::Stopped => break,
                End::Reopen => self.is_reopening = true,
                End::Failed(error) => {
                    self.is_reopening = false;
                    let wait = self.rounds.failed(stood);
                    self.tell_failed(broker, &error, wait);
                    if self.stop_at.is_some() || self.pause(wait).await {
                        self.hand_over().await;
                        break;
                    }
                }
            }
        }
        tracing::debug!(stream = self.context.name, "source ended");
    }

    fn tell_failed(&mut self, broker: usize, error: &mqtt::Error, wait: Duration) {
        let named = self.subscription.settings.brokers.get(broker);
        let named = named.map_or_else(String::new, mqtt::Broker::to_string);
        self.intake.down(&error.to_string());
        tracing::warn!(
            stream = self.context.name,
            broker = named,
            "no connection to the broker: {error}; next attempt in {wait:.1?}"
        );
    }

    /// One connection, from its making to its end.
    async fn connection(&mut self, broker: usize) -> End {
        let settings = &self.subscription.settings;
        let Some(at) = settings.brokers.get(broker) else {
            return End::Stopped;
        };
        let (handle, mut connection) = match mqtt::connect(settings, at) {
            Ok(made) => made,
            Err(error) => return End::Failed(error),
        };
        loop {
            match self.step(&mut connection, &handle).await {
                Step::Event(Ok(Event::Connected(welcome))) => {
                    self.on_connected(broker, welcome, &handle);
                }
                Step::Event(Ok(event)) => self.on_event(event),
                Step::Event(Err(error)) => return End::Failed(error),
                Step::RunPaused => self.on_pause(),
                Step::Subscribe => self.subscribe(&handle),
                Step::Reopen => {
                    mqtt::farewell(&mut connection, &handle).await;
                    return End::Reopen;
                }
                Step::Stop => {
                    if self.connected_at.is_some() {
                        // The broker says nothing for one who takes leave.
                        handle.announce(self.subscription.settings.will.as_ref());
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
        if self.intake.has_batch() {
            self.intake.offer();
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
                changed = self.released.changed(), if !self.is_pipeline_gone => {
                    self.is_pipeline_gone |= changed.is_err();
                    self.acknowledge(handle);
                }
                changed = self.context.stop.changed(), if self.stop_at.is_none() => {
                    self.heed_stop(changed.is_err());
                }
                // Nothing more to read: what has come so far is a batch.
                () = self.intake.serve(), if !self.is_pipeline_gone => {
                    self.is_pipeline_gone = true;
                }
                () = sleep_until_some(self.run_ends_at) => return Step::RunPaused,
                () = sleep_until_some(self.subscribe_at) => return Step::Subscribe,
                () = sleep_until_some(self.stop_at) => return Step::Stop,
            }
        }
    }

    /// What is to be done before anything else is awaited.
    fn due(&self) -> Option<Step> {
        let at_rest = self.intake.is_empty() && self.pending.is_empty() && self.unwritten == 0;
        if self.is_pipeline_gone {
            return Some(Step::Stop);
        }
        if self.stop_at.is_some() && self.intake.is_empty() {
            let all_released = *self.released.borrow() >= self.intake.ordinal();
            // Without a connection there is nothing to wait for.
            if (all_released && at_rest) || self.connected_at.is_none() {
                return Some(Step::Stop);
            }
        }
        (self.deferring && self.stop_at.is_none() && at_rest).then_some(Step::Reopen)
    }

    /// Waits before the next attempt, while the pipeline is still served. True when the source is
    /// to end.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        while self.stop_at.is_none() && !self.is_pipeline_gone {
            tokio::select! {
                changed = self.context.stop.changed() => self.heed_stop(changed.is_err()),
                () = self.intake.serve() => self.is_pipeline_gone = true,
                () = sleep_until(until) => return false,
            }
        }
        true
    }

    /// At the end, without a connection: what has come goes to the pipeline.
    async fn hand_over(&mut self) {
        let handed_over = async {
            self.intake.offer();
            while !self.intake.is_empty() {
                sleep(OFFER_AGAIN).await;
                self.intake.offer();
            }
        };
        let until = self.stop_at.unwrap_or_else(Instant::now);
        // What does not get there is with the broker still, if anybody was to keep it.
        let _ = timeout_at(until, handed_over).await;
    }

    fn heed_stop(&mut self, is_daemon_gone: bool) {
        if is_daemon_gone || *self.context.stop.borrow() {
            self.stop_at = Some(Instant::now() + self.context.stop_within);
        }
    }

    fn on_connected(&mut self, broker: usize, welcome: Welcome, handle: &Handle) {
        self.connected_at = Some(Instant::now());
        self.intake.up();
        self.tell_connected(&welcome);
        // Another broker's packet ids say nothing about this one's.
        let is_same = self.last_broker.is_none_or(|last| last == broker);
        self.last_broker = Some(broker);
        let goes_on = welcome.session_present && is_same;
        if !goes_on && self.redelivery.remembers() {
            self.intake.pass(Some(SESSION_BEGINS));
        }
        self.redelivery.connected(goes_on);
        if !goes_on {
            self.recorded.clear();
            self.is_subscribed = false;
        }
        handle.announce(self.subscription.settings.birth.as_ref());
        // The filters may have changed since a former process subscribed.
        if !self.is_subscribed {
            self.subscribe(handle);
        }
    }

    /// Under a flood the connection is made anew many times a second: that is told once.
    fn tell_connected(&mut self, welcome: &Welcome) {
        let stream = self.context.name.as_str();
        let session_present = welcome.session_present;
        match std::mem::replace(&mut self.is_reopening, false) {
            true if session_present => tracing::debug!(stream, "connected to the broker again"),
            _ => tracing::info!(stream, session_present, "connected to the broker"),
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Message(message) => self.on_message(message),
            Event::Forgotten(packet) => self.forget(packet),
            Event::Subscribed(answers) => self.on_subscribed(&answers),
            Event::AckWritten => self.unwritten = self.unwritten.saturating_sub(1),
            Event::Connected(_)
            | Event::Published(_)
            | Event::Recorded(..)
            | Event::Acknowledged(..)
            | Event::Other => {}
        }
    }

    fn subscribe(&mut self, handle: &Handle) {
        self.subscribe_at = None;
        let Subscription {
            filters,
            qos,
            ignore_retained,
            ..
        } = self.subscription.as_ref();
        let retained = match ignore_retained {
            true => Retained::NotSent,
            false => Retained::Sent,
        };
        if !handle.subscribe(filters, *qos, retained) {
            self.subscribe_at = Some(Instant::now() + self.subscribe_pace.wait());
        }
    }

    fn on_subscribed(&mut self, answers: &[Option<String>]) {
        let mut is_refused = false;
        for (filter, answer) in self.subscription.filters.iter().zip(answers) {
            if let Some(reason) = answer {
                is_refused = true;
                let metrics = &self.context.metrics;
                metrics
                    .subscriptions_refused
                    .fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    stream = self.context.name,
                    filter = filter.as_str(),
                    "the broker refused the subscription: {reason}; will try again"
                );
            }
        }
        self.is_subscribed = !is_refused;
        if is_refused {
            self.subscribe_at = Some(Instant::now() + self.subscribe_pace.wait());
        } else {
            self.subscribe_pace.reset();
        }
    }

    fn on_message(&mut self, message: Message) {
        // While stopping nothing new is taken: the broker keeps it for the next start.
        if self.has_failed || (self.stop_at.is_some() && self.subscription.settings.resume) {
            self.intake.heard(message.payload().len());
            return;
        }
        let Some(receipt) = message.receipt() else {
            self.take(&message, None);
            return;
        };
        if self.deferring {
            self.defer(&message);
            return;
        }
        if self.redelivery.is_over() {
            self.take(&message, Some(receipt));
            return;
        }
        let mark = mark_of(receipt, &message);
        match self.redelivery.judge(message.dup(), mark) {
            Verdict::New => {
                self.settle_held_as_new();
                self.take_or_leave(&message, receipt);
            }
            Verdict::Held => {
                self.held_bytes += message.payload().len();
                self.held.push((receipt, message));
                self.run_ends_at = Some(Instant::now() + RUN_PAUSE_MAX);
                if self.held_bytes > self.intake.queue_bytes_max() * HELD_QUEUES_MAX {
                    self.settle_held_as_new();
                }
            }
            Verdict::Repeats(ordinals) => {
                self.intake.heard(message.payload().len());
                self.settle_as_repeats(&ordinals, Some(receipt));
            }
        }
    }

    /// The run of repeats broke off: what was held is new.
    fn settle_held_as_new(&mut self) {
        self.redelivery.give_up();
        self.tell_repeats();
        self.run_ends_at = None;
        self.held_bytes = 0;
        for (receipt, message) in std::mem::take(&mut self.held) {
            self.take_or_leave(&message, receipt);
        }
    }

    fn take_or_leave(&mut self, message: &Message, receipt: Receipt) {
        if self.deferring {
            self.defer(message);
        } else if !self.has_failed {
            self.take(message, Some(receipt));
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
    fn settle_as_repeats(&mut self, ordinals: &[u64], last: Option<Receipt>) {
        self.run_ends_at = None;
        self.held_bytes = 0;
        let held = std::mem::take(&mut self.held);
        for (_, message) in &held {
            self.intake.heard(message.payload().len());
        }
        let receipts = held.iter().map(|(receipt, _)| *receipt).chain(last);
        for (receipt, ordinal) in receipts.zip(ordinals) {
            let ordinal = *ordinal;
            self.pending.push_back(Pending { receipt, ordinal });
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

    /// Leaves a message to the broker, which delivers it again on the next connection.
    fn defer(&mut self, message: &Message) {
        self.intake.heard(message.payload().len());
        self.deferring = true;
        self.context
            .metrics
            .deferred
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Makes rows of a new message, or leaves it when there is no room.
    fn take(&mut self, message: &Message, receipt: Option<Receipt>) {
        let payload_bytes = message.payload().len();
        if self.intake.is_full(payload_bytes) {
            if receipt.is_some() && self.subscription.settings.resume {
                self.defer(message);
                return;
            }
            self.intake.heard(payload_bytes);
            self.drop_message(Dropped::QueueFull, message);
            if let Some(receipt) = receipt {
                let ordinal = self.intake.ordinal();
                self.pending.push_back(Pending { receipt, ordinal });
            }
            return;
        }
        let mark = receipt.map(|receipt| mark_of(receipt, message));
        let Ok(ordinal) = self.enter(message, mark) else {
            self.has_failed = true;
            self.stop_at = Some(Instant::now() + self.context.stop_within);
            return;
        };
        if let (Some(receipt), Some(mark)) = (receipt, mark) {
            // Its id belongs to it now, and no longer to an earlier one.
            self.forget(receipt.packet);
            self.pending.push_back(Pending { receipt, ordinal });
            self.redelivery.received(mark, ordinal);
        }
    }

    fn enter(&mut self, message: &Message, mark: Option<DeliveryMark>) -> Result<u64, Failed> {
        let payload = message.payload();
        let Ok(topic) = std::str::from_utf8(message.topic()) else {
            let reject = Reject::new(Reason::InvalidUtf8, "the topic is not UTF-8");
            return self.intake.refuse(reject, payload, mark);
        };
        self.intake.comes_from(topic);
        let mut filters = self.subscription.filters.iter();
        let Some(filter) = filters.find(|filter| filter.matches(topic)) else {
            return Ok(self.pass(Dropped::Unmatched, message, mark));
        };
        if self.subscription.ignore_retained && message.retained() {
            return Ok(self.pass(Dropped::Retained, message, mark));
        }
        self.fills.clear();
        if let Err(misfit) = filter.fill(topic, &mut self.fills) {
            let reason = match misfit {
                Misfit::NoNumber(_) => Reason::WrongType,
                Misfit::OutOfRange(_) => Reason::OutOfRange,
            };
            let reject = Reject::new(reason, misfit.to_string());
            return self.intake.refuse(reject, payload, mark);
        }
        if let Some(column) = self.subscription.topic {
            self.fills.push((column, Value::text(topic)));
        }
        if let Some(column) = self.subscription.retained {
            self.fills.push((column, Value::Bool(message.retained())));
        }
        self.intake.take(payload, &self.fills, mark)
    }

    /// Takes a message that nobody wants, so that it is acknowledged.
    fn pass(&mut self, reason: Dropped, message: &Message, mark: Option<DeliveryMark>) -> u64 {
        self.intake.heard(message.payload().len());
        self.drop_message(reason, message);
        self.intake.pass(mark)
    }

    fn drop_message(&mut self, reason: Dropped, message: &Message) {
        let topic = String::from_utf8_lossy(message.topic());
        self.intake.drop(reason, &topic);
    }

    /// Asks for the acknowledgement of everything that is durable, in the order of receipt.
    fn acknowledge(&mut self, handle: &Handle) {
        if self.pending.is_empty() {
            return;
        }
        let released = *self.released.borrow_and_update();
        while let Some(Pending { receipt, ordinal }) = self.pending.front().copied() {
            if ordinal > released || !handle.acknowledge(receipt) {
                break;
            }
            if receipt.is_exact {
                self.recorded.insert(receipt.packet, ordinal);
            } else {
                self.redelivery.acknowledged(ordinal);
            }
            self.unwritten += 1;
            self.pending.pop_front();
        }
    }

    /// The broker may give this packet id to another message from now on.
    fn forget(&mut self, packet: u16) {
        if let Some(ordinal) = self.recorded.remove(&packet) {
            self.redelivery.acknowledged(ordinal);
        }
    }

    /// Nothing that belongs to a connection outlives it.
    fn disconnected(&mut self) {
        self.tell_repeats();
        self.context
            .metrics
            .connected
            .store(false, Ordering::Relaxed);
        self.connected_at = None;
        self.pending.clear();
        self.held.clear();
        self.held_bytes = 0;
        self.unwritten = 0;
        self.deferring = false;
        self.run_ends_at = None;
        self.subscribe_at = None;
    }
}

fn mark_of(receipt: Receipt, message: &Message) -> DeliveryMark {
    DeliveryMark {
        packet: receipt.packet,
        digest: digest(message.topic(), message.payload()),
    }
}
