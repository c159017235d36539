//! One connection to an MQTT broker, 3.1.1 and 5 behind one face.
//!
//! What it promises: one [`Connection`] is one TCP connection and nothing of it outlives it. No
//! acknowledgement and no publish that was queued on one connection can appear on a later one,
//! where its packet id may mean something else: `rumqttc` keeps requests across its own
//! reconnects, so its event loop is made anew each time and its reconnecting is not used. A
//! connection that says nothing for twice the keep-alive is reported as lost, also while a write
//! hangs.
//!
//! What it leaves to its users: when to connect again, what to subscribe, what to publish again.

mod options;

pub use options::{
    BROKER, CLIENT_ID, KEEP_ALIVE, PASSWORD, USERNAME, VERSION, default_client_id, filter_matches,
    is_filter, is_topic,
};

use std::time::Duration;

use rumqttc::v5;

/// The largest packet that the protocol can carry: a fixed header of 5 bytes and a remaining
/// length of four times seven bits. A smaller limit would make `rumqttc` drop the connection at a
/// large message, which the broker would then send again, for ever.
const PACKET_BYTES_MAX: u32 = 268_435_460;
/// Requests that wait to be written.
const REQUESTS_MAX: usize = 256;
/// How many unacknowledged messages an MQTT 5 broker may send us; 3.1.1 has no word for it.
const RECEIVE_MAX: u16 = 1_000;
/// What a connection may be silent beyond twice its keep-alive.
const SILENCE_GRACE: Duration = Duration::from_secs(5);

/// How long a farewell may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// The protocol to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// A user name and a password.
#[derive(Clone)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password; never shown.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:***", self.username)
    }
}

/// All there is to know before connecting.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name or address; IPv6 in brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The name of the session.
    pub client_id: String,
    /// The protocol.
    pub version: Version,
    /// The credentials, if any.
    pub login: Option<Login>,
    /// How often a quiet connection is probed; whole seconds count, at least one.
    pub keep_alive: Duration,
    /// Whether the broker keeps the session while we are away.
    pub resume: bool,
    /// How many publishes may await their acknowledgement.
    pub inflight_max: u16,
}

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// The broker accepted us.
    Connected(Welcome),
    /// A message came.
    Message(Message),
    /// The broker answered a subscription: the refusals, each with its reason, in the order of
    /// the filters; `None` where it accepted.
    Subscribed(Vec<Option<String>>),
    /// A publish was written; the n-th of these belongs to the n-th [`Handle::publish`]. The
    /// packet id is 0 for QoS 0.
    Published(u16),
    /// The broker answered a publish of QoS 1.
    Acknowledged(u16, Answer),
    /// An acknowledgement of ours was written.
    AckWritten,
    /// Something of no interest, such as a ping.
    Other,
}

/// What the broker says at the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// Whether it still had our session.
    pub session_present: bool,
    /// The largest packet that it accepts, when it says so.
    pub packet_bytes_max: Option<u32>,
    /// How many unacknowledged publishes it accepts, when it says so.
    pub receive_max: Option<u16>,
}

/// What the broker makes of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has it.
    Accepted,
    /// It will never take it, and why.
    Refused(String),
    /// It does not take it now, and why.
    Later(String),
}

/// A received message.
#[derive(Clone, Debug)]
pub struct Message(Packet);

#[derive(Clone, Debug)]
enum Packet {
    V311(rumqttc::Publish),
    V5(v5::mqttbytes::v5::Publish),
}

impl Message {
    /// The topic, as bytes since MQTT 5 does not check them on the way.
    #[must_use]
    pub fn topic(&self) -> &[u8] {
        match &self.0 {
            Packet::V311(publish) => publish.topic.as_bytes(),
            Packet::V5(publish) => &publish.topic,
        }
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match &self.0 {
            Packet::V311(publish) => &publish.payload,
            Packet::V5(publish) => &publish.payload,
        }
    }

    /// The packet id, when the message wants an acknowledgement.
    #[must_use]
    pub fn packet(&self) -> Option<u16> {
        let packet = match &self.0 {
            Packet::V311(publish) => publish.pkid,
            Packet::V5(publish) => publish.pkid,
        };
        (packet != 0).then_some(packet)
    }

    /// Whether the broker has tried to deliver it before.
    #[must_use]
    pub fn dup(&self) -> bool {
        match &self.0 {
            Packet::V311(publish) => publish.dup,
            Packet::V5(publish) => publish.dup,
        }
    }

    /// Whether it is the topic's retained message and not a live one.
    #[must_use]
    pub fn retained(&self) -> bool {
        match &self.0 {
            Packet::V311(publish) => publish.retain,
            Packet::V5(publish) => publish.retain,
        }
    }
}

/// A message to send.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Where to.
    pub topic: &'a str,
    /// The bytes.
    pub payload: &'a [u8],
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// Whether the broker acknowledges it (QoS 1) or not (QoS 0).
    pub acknowledged: bool,
    /// User properties; MQTT 5 only.
    pub properties: Vec<(String, String)>,
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered, or the connection broke.
    #[error("{0}")]
    Lost(String),
    /// The broker does not want us.
    #[error("the broker refused the connection: {0}")]
    Refused(String),
    /// Nothing came for too long.
    #[error("nothing from the broker for {0:?}")]
    Silent(Duration),
}

/// The side that polls. To be polled until it returns an error, whatever else is to be done.
pub struct Connection {
    poll: Poll,
    silence_max: Duration,
    ended: Option<Error>,
}

enum Poll {
    V311(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// The side that asks. Every request says whether it was taken: `false` means that too many wait,
/// or that the connection is gone; [`Connection::next`] tells which.
#[derive(Clone, Debug)]
pub struct Handle(Client);

#[derive(Clone, Debug)]
enum Client {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// Prepares a connection; the first [`Connection::next`] makes it.
#[must_use]
pub fn connect(settings: &Settings) -> (Handle, Connection) {
    let (client, poll) = match settings.version {
        Version::V311 => {
            let (client, mut poll) =
                rumqttc::AsyncClient::new(options_v311(settings), REQUESTS_MAX);
            poll.set_network_options(network_options());
            (Client::V311(client), Poll::V311(Box::new(poll)))
        }
        Version::V5 => {
            let (client, poll) = v5::AsyncClient::new(options_v5(settings), REQUESTS_MAX);
            (Client::V5(client), Poll::V5(Box::new(poll)))
        }
    };
    let connection = Connection {
        poll,
        silence_max: settings.keep_alive * 2 + SILENCE_GRACE,
        ended: None,
    };
    (Handle(client), connection)
}

fn options_v311(settings: &Settings) -> rumqttc::MqttOptions {
    let (id, host) = (settings.client_id.as_str(), settings.host.as_str());
    let mut options = rumqttc::MqttOptions::new(id, host, settings.port);
    let packet_bytes_max = usize::try_from(PACKET_BYTES_MAX).unwrap_or(usize::MAX);
    options
        .set_keep_alive(settings.keep_alive.max(Duration::from_secs(1)))
        .set_clean_session(!settings.resume)
        .set_manual_acks(true)
        .set_inflight(settings.inflight_max.max(1))
        .set_max_packet_size(packet_bytes_max, packet_bytes_max);
    if let Some(login) = &settings.login {
        options.set_credentials(login.username.as_str(), login.password.as_str());
    }
    options
}

/// Acknowledgements are small and go one by one: none may wait for the answer to another.
fn network_options() -> rumqttc::NetworkOptions {
    let mut options = rumqttc::NetworkOptions::new();
    options.set_tcp_nodelay(true);
    options
}

fn options_v5(settings: &Settings) -> v5::MqttOptions {
    let (id, host) = (settings.client_id.as_str(), settings.host.as_str());
    let mut options = v5::MqttOptions::new(id, host, settings.port);
    options
        .set_keep_alive(settings.keep_alive.max(Duration::from_secs(1)))
        .set_clean_start(!settings.resume)
        .set_session_expiry_interval(Some(if settings.resume { u32::MAX } else { 0 }))
        .set_manual_acks(true)
        .set_receive_maximum(Some(RECEIVE_MAX))
        .set_outgoing_inflight_upper_limit(settings.inflight_max.max(1))
        .set_max_packet_size(Some(PACKET_BYTES_MAX))
        .set_network_options(network_options());
    if let Some(login) = &settings.login {
        options.set_credentials(login.username.as_str(), login.password.as_str());
    }
    options
}

impl Connection {
    /// The next thing that happens.
    ///
    /// Not to be dropped before it is done unless the connection is given up: a packet that is
    /// being written may be lost. Keep the future and select over it.
    ///
    /// # Errors
    /// The connection could not be made, or is over. There is nothing after an error.
    pub async fn next(&mut self) -> Result<Event, Error> {
        if self.ended.is_none() {
            match self.poll().await {
                Ok(event) => return Ok(event),
                Err(error) => self.ended = Some(error),
            }
        }
        // What was received together with the end comes before it; `rumqttc` would forget it.
        let event = match &mut self.poll {
            Poll::V311(poll) => poll.state.events.pop_front().map(from_v311),
            Poll::V5(poll) => poll.state.events.pop_front().map(from_v5),
        };
        let ended = || {
            self.ended
                .take()
                .unwrap_or(Error::Lost("it is over".to_owned()))
        };
        event.ok_or_else(ended)
    }

    async fn poll(&mut self) -> Result<Event, Error> {
        let silence_max = self.silence_max;
        match &mut self.poll {
            Poll::V311(poll) => {
                let event = tokio::time::timeout(silence_max, poll.poll()).await;
                let event = event.map_err(|_| Error::Silent(silence_max))?;
                Ok(from_v311(event?))
            }
            Poll::V5(poll) => {
                let event = tokio::time::timeout(silence_max, poll.poll()).await;
                let event = event.map_err(|_| Error::Silent(silence_max))?;
                // The broker may have set another keep-alive.
                self.silence_max = poll.options.keep_alive() * 2 + SILENCE_GRACE;
                Ok(from_v5(event?))
            }
        }
    }
}

impl From<rumqttc::ConnectionError> for Error {
    fn from(error: rumqttc::ConnectionError) -> Error {
        match error {
            rumqttc::ConnectionError::ConnectionRefused(code) => {
                Error::Refused(format!("{code:?}"))
            }
            error => Error::Lost(error.to_string()),
        }
    }
}

impl From<v5::ConnectionError> for Error {
    fn from(error: v5::ConnectionError) -> Error {
        match error {
            v5::ConnectionError::ConnectionRefused(code) => Error::Refused(format!("{code:?}")),
            error => Error::Lost(error.to_string()),
        }
    }
}

fn from_v311(event: rumqttc::Event) -> Event {
    use rumqttc::{Outgoing, Packet as Incoming, SubscribeReasonCode};
    match event {
        rumqttc::Event::Incoming(Incoming::Publish(publish)) => {
            Event::Message(Message(Packet::V311(publish)))
        }
        rumqttc::Event::Incoming(Incoming::PubAck(ack)) => {
            Event::Acknowledged(ack.pkid, Answer::Accepted)
        }
        rumqttc::Event::Incoming(Incoming::ConnAck(answer)) => Event::Connected(Welcome {
            session_present: answer.session_present,
            ..Welcome::default()
        }),
        rumqttc::Event::Incoming(Incoming::SubAck(answer)) => {
            let refusals = answer.return_codes.into_iter().map(|code| match code {
                SubscribeReasonCode::Success(_) => None,
                SubscribeReasonCode::Failure => Some("refused".to_owned()),
            });
            Event::Subscribed(refusals.collect())
        }
        rumqttc::Event::Outgoing(Outgoing::Publish(packet)) => Event::Published(packet),
        rumqttc::Event::Outgoing(Outgoing::PubAck(_)) => Event::AckWritten,
        rumqttc::Event::Incoming(_) | rumqttc::Event::Outgoing(_) => Event::Other,
    }
}

fn from_v5(event: v5::Event) -> Event {
    use rumqttc::Outgoing;
    use v5::mqttbytes::v5::{Packet as Incoming, SubscribeReasonCode};
    match event {
        v5::Event::Incoming(Incoming::Publish(publish)) => {
            Event::Message(Message(Packet::V5(publish)))
        }
        v5::Event::Incoming(Incoming::PubAck(ack)) => {
            Event::Acknowledged(ack.pkid, answer_v5(ack.reason))
        }
        v5::Event::Incoming(Incoming::ConnAck(answer)) => {
            let properties = answer.properties.as_ref();
            Event::Connected(Welcome {
                session_present: answer.session_present,
                packet_bytes_max: properties.and_then(|said| said.max_packet_size),
                receive_max: properties.and_then(|said| said.receive_max),
            })
        }
        v5::Event::Incoming(Incoming::SubAck(answer)) => {
            let refusals = answer.return_codes.into_iter().map(|code| match code {
                SubscribeReasonCode::Success(_) => None,
                code => Some(format!("{code:?}")),
            });
            Event::Subscribed(refusals.collect())
        }
        v5::Event::Outgoing(Outgoing::Publish(packet)) => Event::Published(packet),
        v5::Event::Outgoing(Outgoing::PubAck(_)) => Event::AckWritten,
        v5::Event::Incoming(_) | v5::Event::Outgoing(_) => Event::Other,
    }
}

fn answer_v5(reason: v5::mqttbytes::v5::PubAckReason) -> Answer {
    use v5::mqttbytes::v5::PubAckReason;
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Answer::Accepted,
        PubAckReason::TopicNameInvalid | PubAckReason::PayloadFormatInvalid => {
            Answer::Refused(format!("{reason:?}"))
        }
        // It is not the message that is wrong: a person has to mend that.
        PubAckReason::NotAuthorized
        | PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse
        | PubAckReason::QuotaExceeded => Answer::Later(format!("{reason:?}")),
    }
}

impl Handle {
    /// Subscribes to `filters`, all with one QoS. An MQTT 5 broker sends retained messages only
    /// for subscriptions that it did not have before.
    #[must_use]
    pub fn subscribe(&self, filters: &[String], acknowledged: bool) -> bool {
        match &self.0 {
            Client::V311(client) => {
                let qos = qos_v311(acknowledged);
                let filters = filters
                    .iter()
                    .map(|filter| rumqttc::SubscribeFilter::new(filter.clone(), qos));
                client.try_subscribe_many(filters).is_ok()
            }
            Client::V5(client) => {
                use v5::mqttbytes::v5::{Filter, RetainForwardRule};
                let filters = filters.iter().map(|filter| {
                    let mut filter = Filter::new(filter.clone(), qos_v5(acknowledged));
                    filter.retain_forward_rule = RetainForwardRule::OnNewSubscribe;
                    filter
                });
                client.try_subscribe_many(filters).is_ok()
            }
        }
    }

    /// Sends a message.
    #[must_use]
    pub fn publish(&self, message: Outgoing<'_>) -> bool {
        let (topic, retain) = (message.topic, message.retain);
        let payload = message.payload.to_vec();
        match &self.0 {
            Client::V311(client) => {
                let qos = qos_v311(message.acknowledged);
                client.try_publish(topic, qos, retain, payload).is_ok()
            }
            Client::V5(client) => {
                let qos = qos_v5(message.acknowledged);
                let properties = v5::mqttbytes::v5::PublishProperties {
                    user_properties: message.properties,
                    ..Default::default()
                };
                client
                    .try_publish_with_properties(topic, qos, retain, payload, properties)
                    .is_ok()
            }
        }
    }

    /// Acknowledges the message that came with this packet id on this connection.
    #[must_use]
    pub fn acknowledge(&self, packet: u16) -> bool {
        match &self.0 {
            Client::V311(client) => {
                let qos = rumqttc::QoS::AtLeastOnce;
                let mut publish = rumqttc::Publish::new("", qos, Vec::new());
                publish.pkid = packet;
                client.try_ack(&publish).is_ok()
            }
            Client::V5(client) => {
                let publish = v5::mqttbytes::v5::Publish {
                    qos: v5::mqttbytes::QoS::AtLeastOnce,
                    pkid: packet,
                    ..Default::default()
                };
                client.try_ack(&publish).is_ok()
            }
        }
    }

    /// Says farewell, after everything that was asked before; the broker keeps a session that it
    /// is to keep, and sends no last will.
    #[must_use]
    pub fn disconnect(&self) -> bool {
        match &self.0 {
            Client::V311(client) => client.try_disconnect().is_ok(),
            Client::V5(client) => client.try_disconnect().is_ok(),
        }
    }
}

/// Ends a connection so that the broker keeps the session, after what was asked for is written.
///
/// Waits until the broker has closed it, a second at most: only then it has read everything. One
/// that meets our next connection earlier throws the old one away with what it has not read.
pub async fn farewell(connection: &mut Connection, handle: &Handle) {
    let closed = async {
        let mut asked = handle.disconnect();
        while connection.next().await.is_ok() {
            if !asked {
                asked = handle.disconnect();
            }
        }
    };
    // Too late is no matter: the broker then sees the connection break, and keeps the session too.
    let _ = tokio::time::timeout(FAREWELL_MAX, closed).await;
}

fn qos_v311(acknowledged: bool) -> rumqttc::QoS {
    if acknowledged {
        rumqttc::QoS::AtLeastOnce
    } else {
        rumqttc::QoS::AtMostOnce
    }
}

fn qos_v5(acknowledged: bool) -> v5::mqttbytes::QoS {
    if acknowledged {
        v5::mqttbytes::QoS::AtLeastOnce
    } else {
        v5::mqttbytes::QoS::AtMostOnce
    }
}
