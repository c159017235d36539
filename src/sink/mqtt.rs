//! A sink that publishes at an MQTT broker.
//!
//! What it promises: outputs are published in order, up to `mqtt.inflight_max` at a time, and a
//! key is confirmed when the broker has acknowledged it (PUBACK, PUBCOMP) and everything before
//! it. After a lost connection everything unconfirmed is published again with the same id; with
//! QoS 2 the exchange goes on where it was, so that the broker sees no message twice, as long as
//! it keeps our session and this process lives. What waits for the broker is kept here and not in
//! the client: nothing is sent twice by two memories. A message that the broker refuses for good
//! (MQTT 5: its topic or payload is invalid, it is too large) is counted and refused; one that it
//! may not take from us is tried again, since a person has to mend that. What the outbox gives up
//! before it was sent is not sent.

mod window;

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use self::window::{Settled, State, Window};
use super::link::Link;
use super::refusal::{Judgement, Refusals};
use super::{CONFIRM_AGAIN, Confirmer, Context, Delivery, count};
use crate::config::Definition;
use crate::config::options::{Layer, OptionFault, OptionKind, OptionSpec, OptionValue};
use crate::encode::{self, Encoder, Message, Template};
use crate::mqtt::{
    self, Answer, Connection, Event, Handle, Outgoing, Properties, Qos, Rounds, Settings,
    Unfinished, Version, Welcome,
};
use crate::pace::{Backoff, sleep_until_some};

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &mqtt::with_connection::<5, 28>([
    OptionSpec::new(
        "mqtt.topic",
        OptionKind::Text,
        "The topic to publish to; `{{column}}` in it stands for the output's value",
    )
    .required(),
    OptionSpec::new(
        "mqtt.retain",
        OptionKind::Flag,
        "Whether the broker keeps the last message for later subscribers",
    )
    .or("false"),
    OptionSpec::new(
        "mqtt.id",
        OptionKind::Choice(&["property", "field", "none"]),
        "Where a message's id goes: user property `id` (MQTT 5, the default there), payload field \
         `_id` (the default for 3.1.1 with JSON and CBOR), nowhere",
    ),
    OptionSpec::new(
        "mqtt.inflight_max",
        OptionKind::Integer {
            min: 1,
            max: 10_000,
        },
        "How many messages may await the broker's acknowledgement",
    )
    .or("100"),
    OptionSpec::new(
        "mqtt.message_expiry",
        OptionKind::Duration,
        "After how long the broker gives up what a subscriber has not fetched (MQTT 5)",
    )
    .between(1_000, 4_294_967_295_000),
]);

/// The payload field that carries the id.
const ID_FIELD: &str = "_id";
/// The pauses after a broker has said that it does not take something now.
const LATER: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// What a packet holds besides topic, payload and user properties, at the most.
const PACKET_OVERHEAD_BYTES: usize = 64;
/// How long a broker keeps the open exchanges of QoS 2, if not told otherwise: MQTT 5.
const SESSION_EXPIRY_S: u32 = 86_400;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IdPlace {
    Property,
    Field,
    Nowhere,
}

/// An MQTT sink, checked.
#[derive(Debug)]
pub struct Mqtt {
    settings: Box<Settings>,
    form: Box<Form>,
    refusals: Refusals,
}

/// What a message looks like.
#[derive(Debug)]
struct Form {
    topic: Template,
    qos: Qos,
    retain: bool,
    id: IdPlace,
    version: Version,
    expiry_s: Option<u32>,
    encoder: Encoder,
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
        let template = Template::parse(topic, schema);
        let template = template.map_err(|why| OptionFault::new("mqtt.topic", why))?;
        if !mqtt::is_topic(topic) {
            let problem = format!("`{topic}` is not a topic that can be published to");
            return Err(OptionFault::new("mqtt.topic", problem));
        }
        let qos = mqtt::qos(options);
        let mut settings = Settings::from_options(options, client_id)?;
        let id = id_place(definition, settings.version)?;
        settings.resume = qos == Qos::ExactlyOnce;
        if !options.has("mqtt.session_expiry") {
            settings.session_expiry_s = SESSION_EXPIRY_S;
        }
        let inflight = options.integer("mqtt.inflight_max").unwrap_or(100);
        settings.inflight_max = u16::try_from(inflight).unwrap_or(100).max(1);
        Ok(Mqtt {
            form: Box::new(Form {
                topic: template,
                qos,
                retain: options.flag("mqtt.retain"),
                id,
                version: settings.version,
                expiry_s: expiry_s(definition, settings.version)?,
                encoder: encoder(definition, id)?,
            }),
            refusals: Refusals::new(options)?,
            settings: Box::new(settings),
        })
    }

    /// Delivers until told to stop, or until there is nothing to come.
    pub async fn run(self, context: Context) {
        let task = Task {
            window: Window::new(usize::from(self.settings.inflight_max)),
            confirmer: Confirmer::new(context.sink, context.confirmed.clone()),
            link: Link::new(&context),
            rounds: self.settings.rounds(),
            settings: self.settings,
            form: self.form,
            context,
            welcome: None,
            connected_at: None,
            session: None,
            is_discarding: false,
            is_leaking: false,
            paused_until: None,
            is_closed: false,
            stop_at: None,
            refusals: self.refusals,
            has_failed: false,
            later: Backoff::new(LATER.0, LATER.1),
        };
        task.run().await;
    }
}

fn id_place(definition: &Definition<'_>, version: Version) -> Result<IdPlace, OptionFault> {
    const NAME: &str = "mqtt.id";
    let (format, options) = (definition.format, definition.options);
    let own = format!("{format}.id");
    let mut known = encode::FORMATS.iter().filter(|(name, _)| *name == format);
    let has_fields = known.any(|(_, specs)| specs.iter().any(|spec| spec.name == own))
        && !options.has("json.template");
    match (options.text(NAME), version) {
        (Some("property"), Version::V5) | (None, Version::V5) => Ok(IdPlace::Property),
        (Some("property"), Version::V311) => {
            let problem = "MQTT 3.1.1 has no properties: set mqtt.version = '5' or use `field`";
            Err(OptionFault::new(NAME, problem))
        }
        (Some("none"), _) => Ok(IdPlace::Nowhere),
        (None, Version::V311) if !has_fields || format == "csv" || options.has(&own) => {
            Ok(IdPlace::Nowhere)
        }
        (Some(_), _) if !has_fields || options.has(&own) => {
            let problem = "the payload has no room for it: a template says itself where the id \
                           goes, `<format>.id` too; use `none` then";
            Err(OptionFault::new(NAME, problem))
        }
        (Some(_), _) | (None, Version::V311) => {
            if definition.schema.index_of(ID_FIELD).is_some() {
                let problem = format!("the stream has a column `{ID_FIELD}`: use `none`");
                return Err(OptionFault::new(NAME, problem));
            }
            Ok(IdPlace::Field)
        }
    }
}

fn encoder(definition: &Definition<'_>, id: IdPlace) -> Result<Encoder, OptionFault> {
    let mut options = definition.options.clone();
    if id == IdPlace::Field {
        let field = OptionValue::Text(ID_FIELD.to_owned());
        let name = format!("{}.id", definition.format);
        options.set(&name, field, Layer::Default);
    }
    Encoder::new(definition.format, &options, definition.schema)
}

fn expiry_s(definition: &Definition<'_>, version: Version) -> Result<Option<u32>, OptionFault> {
    const NAME: &str = "mqtt.message_expiry";
    let Some(ms) = definition.options.integer(NAME) else {
        return Ok(None);
    };
    if version == Version::V311 {
        let problem = "MQTT 3.1.1 has no word for it: set mqtt.version = '5'";
        return Err(OptionFault::new(NAME, problem));
    }
    Ok(u32::try_from(ms / 1_000).ok())
}

/// An output as it is sent.
struct Rendered {
    topic: String,
    payload: Vec<u8>,
    properties: Properties,
}

impl Form {
    /// The message for an output, or why the broker could never take it.
    fn render(
        &self,
        message: &Message<'_>,
        packet_bytes_max: Option<u32>,
    ) -> Result<Rendered, String> {
        let mut payload = Vec::with_capacity(128);
        self.encoder.encode(message, &mut payload);
        let rendered = Rendered {
            topic: self.topic.text(message),
            payload,
            properties: self.properties(message),
        };
        if !mqtt::is_topic(&rendered.topic) {
            let shown: String = rendered.topic.chars().take(80).collect();
            return Err(format!("its topic `{shown}` cannot be published to"));
        }
        match packet_bytes_max.and_then(|max| usize::try_from(max).ok()) {
            // To send it all the same would end the connection, again and again.
            Some(max) if rendered.packet_bytes() > max => {
                Err("larger than the broker accepts".to_owned())
            }
            Some(_) | None => Ok(rendered),
        }
    }

    fn properties(&self, message: &Message<'_>) -> Properties {
        if self.version == Version::V311 {
            return Properties::default();
        }
        let mut user = Vec::new();
        if self.id == IdPlace::Property {
            user.push(("id".to_owned(), message.id.to_owned()));
            user.push(("time".to_owned(), message.time.to_string()));
            user.push(("age_ms".to_owned(), message.age_ms.to_string()));
            if message.historical {
                user.push(("historical".to_owned(), "true".to_owned()));
            }
        }
        Properties {
            user,
            content_type: Some(self.encoder.content_type()),
            expiry_s: self.expiry_s,
        }
    }

    fn outgoing<'a>(&self, rendered: &'a Rendered) -> Outgoing<'a> {
        Outgoing {
            topic: &rendered.topic,
            payload: &rendered.payload,
            retain: self.retain,
            qos: self.qos,
            properties: rendered.properties.clone(),
        }
    }
}

impl Rendered {
    fn packet_bytes(&self) -> usize {
        let user = self.properties.user.iter();
        let user: usize = user.map(|(name, text)| name.len() + text.len() + 5).sum();
        let content_type = self.properties.content_type.map_or(0, str::len);
        self.topic.len() + self.payload.len() + user + content_type + PACKET_OVERHEAD_BYTES
    }
}

enum End {
    /// It is to be made anew at once.
    Reopen,
    Failed(mqtt::Error),
    Stopped,
}

/// What a kept session is worth: the same broker, with the same range of packet ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    broker: usize,
    receive_max: Option<u16>,
}

struct Task {
    settings: Box<Settings>,
    form: Box<Form>,
    context: Context,
    confirmer: Confirmer,
    link: Link,
    rounds: Rounds,
    window: Window,
    /// What the broker said of itself, while there is a connection.
    welcome: Option<Welcome>,
    connected_at: Option<Instant>,
    /// Whose memory of open exchanges (QoS 2) is ours.
    session: Option<Session>,
    /// The broker remembers exchanges that we know nothing of: they are to be forgotten.
    is_discarding: bool,
    /// The broker refused a step of QoS 2, for which `rumqttc` gives no room back: the connection
    /// is to be made anew when nothing is under way.
    is_leaking: bool,
    /// The broker asked for a pause until then.
    paused_until: Option<Instant>,
    /// There is nothing to come.
    is_closed: bool,
    stop_at: Option<Instant>,
    refusals: Refusals,
    /// The sink is to end, and to confirm nothing more.
    has_failed: bool,
    later: Backoff,
}

impl Task {
    async fn run(mut self) {
        loop {
            let broker = self.rounds.at();
            let end = self.connection(broker).await;
            let stood = self.connected_at.map(|at| at.elapsed());
            self.disconnected();
            let error = match end {
                End::Stopped => break,
                End::Reopen => continue,
                End::Failed(error) => error,
            };
            self.link.down(&error.to_string());
            let wait = self.rounds.failed(stood);
            let named = self.settings.brokers.get(broker);
            tracing::warn!(
                stream = self.context.name,
                broker = named.map_or_else(String::new, mqtt::Broker::to_string),
                waiting = self.window.len(),
                "no connection to the broker: {error}; next attempt in {wait:.1?}"
            );
            if self.stop_at.is_some() || self.pause(wait).await {
                break;
            }
        }
        self.confirmer.flush();
    }

    async fn connection(&mut self, broker: usize) -> End {
        let Some(at) = self.settings.brokers.get(broker) else {
            return End::Stopped;
        };
        self.settings.resume = self.form.qos == Qos::ExactlyOnce && !self.is_discarding;
        let (handle, mut connection) = match mqtt::connect(&self.settings, at) {
            Ok(made) => made,
            Err(error) => return End::Failed(error),
        };
        loop {
            match self.step(&mut connection, &handle).await {
                Step::Event(Ok(Event::Connected(welcome))) => {
                    if !self.on_connected(broker, welcome, &mut connection) {
                        mqtt::farewell(&mut connection, &handle).await;
                        return End::Reopen;
                    }
                    if handle.announce(self.settings.birth.as_ref()) {
                        self.window.sent(None);
                    }
                }
                Step::Event(Ok(event)) => self.on_event(event),
                Step::Event(Err(error)) => return End::Failed(error),
                Step::Reopen => {
                    mqtt::farewell(&mut connection, &handle).await;
                    return End::Reopen;
                }
                Step::Stop => {
                    if self.welcome.is_some() {
                        // The broker says nothing for one who takes leave.
                        handle.announce(self.settings.will.as_ref());
                        mqtt::farewell(&mut connection, &handle).await;
                    }
                    return End::Stopped;
                }
            }
            self.publish(&handle);
        }
    }

    /// Waits for the next event, while deliveries are taken and published.
    async fn step(&mut self, connection: &mut Connection, handle: &Handle) -> Step {
        let mut poll = pin!(connection.next());
        loop {
            let ending = self.is_closed || self.stop_at.is_some();
            let has_settled = self.window.is_empty() && self.confirmer.flush();
            // Without a connection there is nothing to wait for when told to stop.
            let is_away = self.stop_at.is_some() && self.welcome.is_none();
            // Nor for what is held back, by its hours or by a pause, when nothing is under way.
            let is_held = self.stop_at.is_some() && self.paused_until.is_some();
            let is_idle = is_held && self.window.is_quiet() && self.confirmer.flush();
            if (ending && has_settled) || is_idle || is_away || self.has_failed {
                return Step::Stop;
            }
            if self.is_leaking && self.window.is_quiet() {
                return Step::Reopen;
            }
            let may_receive = !self.window.is_full() && !ending;
            tokio::select! {
                biased;
                event = &mut poll => return Step::Event(event),
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
                () = sleep_until_some(self.stop_at) => return Step::Stop,
            }
        }
    }

    /// Waits before the next attempt. True when the sink is to end.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            let ending = self.is_closed || self.stop_at.is_some();
            let may_receive = !self.window.is_full() && !ending;
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

    fn heed_stop(&mut self, is_daemon_gone: bool) {
        if is_daemon_gone || *self.context.stop.borrow() {
            self.stop_at = Some(Instant::now() + self.context.stop_within);
        }
    }

    /// Takes a delivery, and those behind it, as long as there is room.
    fn receive(&mut self, first: Option<Delivery>) {
        let Some(first) = first else {
            self.is_closed = true;
            return;
        };
        self.window.enter(first);
        while !self.window.is_full() {
            let Ok(next) = self.context.deliveries.try_recv() else {
                return;
            };
            self.window.enter(next);
        }
    }

    /// Whether the connection is of use; if not, another one is to be made at once.
    fn on_connected(
        &mut self,
        broker: usize,
        welcome: Welcome,
        connection: &mut Connection,
    ) -> bool {
        self.connected_at = Some(Instant::now());
        if std::mem::take(&mut self.is_discarding) {
            // With a clean session everything of the old one is gone: now for one that is kept.
            return false;
        }
        let session = Session {
            broker,
            receive_max: welcome.receive_max,
        };
        let is_known = self.session == Some(session);
        if !welcome.session_present {
            self.forget();
        } else if !is_known || !self.take_up(welcome, connection) {
            // What the broker remembers under our packet ids would swallow other messages.
            self.is_discarding = true;
            self.session = None;
            self.forget();
            return false;
        }
        self.session = (self.form.qos == Qos::ExactlyOnce).then_some(session);
        self.link.up();
        tracing::info!(
            stream = self.context.name,
            waiting = self.window.len(),
            "connected to the broker"
        );
        self.welcome = Some(welcome);
        true
    }

    /// Goes on with what the last connection of the session has left open. Whether all of it can.
    fn take_up(&mut self, welcome: Welcome, connection: &mut Connection) -> bool {
        let (open, last) = self.window.open();
        let rendered = open.map(|(flight, entry)| {
            if flight.is_recorded {
                return Ok((flight.packet, None));
            }
            let message = self.context.message(&entry.delivery);
            let rendered = self.form.render(&message, welcome.packet_bytes_max)?;
            Ok((flight.packet, Some(rendered)))
        });
        let rendered: Result<Vec<(u16, Option<Rendered>)>, String> = rendered.collect();
        let Ok(rendered) = rendered else { return false };
        let again = rendered.iter().filter(|(_, again)| again.is_some()).count();
        self.count_retries(again);
        let open = rendered.iter().map(|(packet, rendered)| match rendered {
            None => Unfinished::Recorded(*packet),
            Some(rendered) => Unfinished::Published(*packet, self.form.outgoing(rendered)),
        });
        connection.take_up(open, last);
        true
    }

    /// Hands to the client what waits, in order.
    fn publish(&mut self, handle: &Handle) {
        let Some(welcome) = self.welcome else { return };
        if self.paused_until.is_some() || self.is_leaking || self.has_failed {
            return;
        }
        let unacknowledged_max = welcome.receive_max.map_or(usize::MAX, usize::from);
        let mut from = 0;
        while self.window.may_send(unacknowledged_max) && self.paused_until.is_none() {
            let Some((number, entry)) = self.window.next_waiting(from) else {
                break;
            };
            from = number + 1;
            if self.context.passes_over(entry.delivery.key) {
                entry.state = State::PassedOver;
                continue;
            }
            let message = self.context.message(&entry.delivery);
            let rendered = match self.form.render(&message, welcome.packet_bytes_max) {
                Ok(rendered) => rendered,
                Err(why) => {
                    self.judge(number, &why);
                    continue;
                }
            };
            let bytes = rendered.payload.len();
            if let Err(until) = self.context.deliveries.permit(1, bytes) {
                self.paused_until = Some(until);
                break;
            }
            if !handle.publish(self.form.outgoing(&rendered)) {
                break;
            }
            self.window.sent(Some(number));
        }
        self.confirm();
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Published(packet) => {
                if let Some(number) = self.window.written(packet) {
                    self.settle(number, Answer::Accepted);
                }
            }
            Event::Recorded(packet, Answer::Accepted) => self.window.recorded(packet),
            Event::Recorded(packet, answer) => {
                self.is_leaking = true;
                if let Some(number) = self.window.completed(packet) {
                    self.settle(number, answer);
                }
            }
            Event::Acknowledged(packet, answer) => {
                if let Some(number) = self.window.completed(packet) {
                    self.settle(number, answer);
                }
            }
            Event::Connected(_)
            | Event::Message(_)
            | Event::Forgotten(_)
            | Event::Subscribed(_)
            | Event::AckWritten
            | Event::Other => {}
        }
    }

    fn settle(&mut self, number: u64, answer: Answer) {
        let Some(entry) = self.window.entry(number) else {
            return;
        };
        match answer {
            Answer::Accepted => {
                entry.state = State::Done;
                count(&self.context.metrics.delivered);
                self.later.reset();
                self.refusals.reset();
            }
            Answer::Refused(reason) => self.judge(number, &reason),
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

    /// An output will never be taken: not by the broker, or it cannot even be sent.
    fn judge(&mut self, number: u64, why: &str) {
        let Some(entry) = self.window.entry(number) else {
            return;
        };
        entry.asked.refusals = entry.asked.refusals.saturating_add(1);
        match self.refusals.judge(&self.context, why, entry.asked) {
            Judgement::GiveUp(refused) => entry.state = State::Refused(refused),
            Judgement::Again(wait) => {
                entry.state = State::Waiting;
                self.paused_until = Some(Instant::now() + wait);
            }
            Judgement::Fail => self.has_failed = true,
        }
    }

    /// Confirms what is done with nothing undone before it.
    fn confirm(&mut self) {
        if self.has_failed {
            return;
        }
        for settled in self.window.settle() {
            match settled {
                Settled::Through(key) => self.confirmer.confirm(key),
                Settled::Refused(key, refused) => self.confirmer.refuse(key, refused),
            }
        }
    }

    /// What was sent and not acknowledged is to be sent again, or goes on where it was.
    fn disconnected(&mut self) {
        self.welcome = None;
        self.connected_at = None;
        self.is_leaking = false;
        let waiting = self.window.disconnected();
        self.count_retries(waiting);
        if self.session.is_none() {
            self.forget();
        }
    }

    /// No open exchange goes on.
    fn forget(&mut self) {
        let waiting = self.window.forget();
        self.count_retries(waiting);
    }

    fn count_retries(&self, waiting: usize) {
        for _ in 0..waiting {
            count(&self.context.metrics.retries);
        }
    }
}

/// What the next step is about.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, for a moment"
)]
enum Step {
    Event(Result<Event, mqtt::Error>),
    Reopen,
    Stop,
}
