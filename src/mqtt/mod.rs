//! One connection to an MQTT broker, 3.1.1 and 5 behind one face.
//!
//! What it promises: one [`Connection`] is one TCP connection and nothing of it outlives it. No
//! acknowledgement and no publish that was queued on one connection can appear on a later one,
//! where its packet id may mean something else: `rumqttc` keeps requests across its own
//! reconnects, so its event loop is made anew each time and its reconnecting is not used. What an
//! exchange of QoS 2 leaves open is taken up on purpose, by [`Connection::take_up`]. A connection
//! that says nothing for twice the keep-alive is reported as lost, also while a write hangs.
//!
//! What it leaves to its users: when to connect again, what to subscribe, what to publish again.

mod connection;
#[cfg(feature = "tls")]
mod encrypted;
mod options;
mod rounds;
mod topic;
mod tunnel;
mod v311;
mod v5;

pub use connection::{Connection, Handle, connect, farewell};
pub use options::{CONNECTION, LINK, brokers, qos, with_connection};
pub use rounds::Rounds;
pub use topic::{Filter, Kind, Misfit, is_filter, is_topic};

use std::sync::Arc;
use std::time::Duration;

use crate::tls;

/// The protocol to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// How much care is taken that a message arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// 0: written once.
    AtMostOnce,
    /// 1: until it is acknowledged.
    AtLeastOnce,
    /// 2: in two steps, so that a repeat is known as one.
    ExactlyOnce,
}

/// What an MQTT 5 broker does with messages that were published to be retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retained {
    /// It sends those it has when it did not have the subscription before.
    Sent,
    /// The same, and one that is published later says that it is to be retained.
    SentAndMarked,
    /// It sends none of those it has.
    NotSent,
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

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Name or address; IPv6 in brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Whether it speaks TLS there.
    pub tls: bool,
}

impl std::fmt::Display for Broker {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.host, self.port)
    }
}

/// A message about ourselves: a last will, or a word at the beginning of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where to.
    pub topic: String,
    /// What it says.
    pub payload: String,
    /// Of a last will only: how the broker sends it.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
}

/// All there is to know before connecting.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The brokers, to be tried in turn; at least one.
    pub brokers: Vec<Broker>,
    /// The name of the session.
    pub client_id: String,
    /// The protocol.
    pub version: Version,
    /// The credentials, if any.
    pub login: Option<Login>,
    /// How often a quiet connection is probed; whole seconds count, at least one.
    pub keep_alive: Duration,
    /// How long it may take until the broker has accepted us.
    pub connect_timeout: Duration,
    /// The first and the longest pause between rounds through the brokers.
    pub reconnect: (Duration, Duration),
    /// Whether the broker keeps the session while we are away.
    pub resume: bool,
    /// For how long it keeps it; MQTT 5 only, seconds, the greatest number is for ever.
    pub session_expiry_s: u32,
    /// Whether we subscribe; who does publishes nothing but announcements.
    pub subscribes: bool,
    /// How many publishes may await their acknowledgement.
    pub inflight_max: u16,
    /// How many unacknowledged messages the broker may send us; MQTT 5 only.
    pub receive_max: u16,
    /// The largest packet that is read.
    pub packet_bytes_max: u32,
    /// What the broker says when we are gone, and we when we go.
    pub will: Option<Announcement>,
    /// What we say when we have come.
    pub birth: Option<Announcement>,
    /// With what to speak TLS, where a broker does.
    pub tls: Option<Arc<tls::Client>>,
}

impl Settings {
    /// Settings for a plain connection with a session that is not kept.
    #[must_use]
    pub fn plain(host: String, port: u16, client_id: &str) -> Settings {
        Settings {
            brokers: vec![Broker {
                host,
                port,
                tls: false,
            }],
            client_id: client_id.to_owned(),
            version: Version::V311,
            login: None,
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            reconnect: (Duration::from_millis(250), Duration::from_secs(30)),
            resume: false,
            session_expiry_s: u32::MAX,
            subscribes: false,
            inflight_max: 100,
            receive_max: 1_000,
            packet_bytes_max: connection::PACKET_BYTES_MAX,
            will: None,
            birth: None,
            tls: None,
        }
    }

    /// Which of the brokers is tried when.
    #[must_use]
    pub fn rounds(&self) -> Rounds {
        Rounds::new(self.brokers.len(), self.reconnect.0, self.reconnect.1)
    }
}

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// The broker accepted us.
    Connected(Welcome),
    /// A message came.
    Message(Message),
    /// The broker will not send the message with this packet id again (QoS 2, PUBREL); that we
    /// know is said already.
    Forgotten(u16),
    /// The broker answered a subscription: the refusals, each with its reason, in the order of
    /// the filters; `None` where it accepted.
    Subscribed(Vec<Option<String>>),
    /// A publish was written, with this packet id; 0 for QoS 0. They come in the order of
    /// [`Handle::publish`], those of [`Connection::take_up`] before all others.
    Published(u16),
    /// The broker has recorded a publish of QoS 2 (PUBREC), or has refused it.
    Recorded(u16, Answer),
    /// The broker has answered a publish of QoS 1 (PUBACK), or has completed one of QoS 2
    /// (PUBCOMP).
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
    /// Whether it takes messages to keep.
    pub retain_available: bool,
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
    V5(rumqttc::v5::mqttbytes::v5::Publish),
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

    /// What the message wants as an acknowledgement, if any.
    #[must_use]
    pub fn receipt(&self) -> Option<Receipt> {
        let (packet, is_exact) = match &self.0 {
            Packet::V311(publish) => (publish.pkid, publish.qos == rumqttc::QoS::ExactlyOnce),
            Packet::V5(publish) => {
                let exactly_once = rumqttc::v5::mqttbytes::QoS::ExactlyOnce;
                (publish.pkid, publish.qos == exactly_once)
            }
        };
        (packet != 0).then_some(Receipt { packet, is_exact })
    }

    /// Whether the broker has tried to deliver it before.
    #[must_use]
    pub fn dup(&self) -> bool {
        match &self.0 {
            Packet::V311(publish) => publish.dup,
            Packet::V5(publish) => publish.dup,
        }
    }

    /// Whether it is the topic's retained message and not a live one; where the subscription wanted
    /// them marked, whether it was published to be retained.
    #[must_use]
    pub fn retained(&self) -> bool {
        match &self.0 {
            Packet::V311(publish) => publish.retain,
            Packet::V5(publish) => publish.retain,
        }
    }
}

/// How a message is acknowledged, on the connection on which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its packet id.
    pub packet: u16,
    /// Whether by PUBREC (QoS 2) and not by PUBACK (QoS 1).
    pub is_exact: bool,
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
    /// How it is confirmed.
    pub qos: Qos,
    /// What MQTT 5 says besides.
    pub properties: Properties,
}

/// What goes with a message of MQTT 5.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// User properties.
    pub user: Vec<(String, String)>,
    /// The MIME type of the payload.
    pub content_type: Option<&'static str>,
    /// After how many seconds the broker gives it up.
    pub expiry_s: Option<u32>,
}

/// A step of QoS 2 that an earlier connection of the session has left open.
#[derive(Clone, Debug)]
pub enum Unfinished<'a> {
    /// Published with this packet id, and not answered.
    Published(u16, Outgoing<'a>),
    /// Recorded by the broker, under this packet id; not completed.
    Recorded(u16),
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered, or the connection broke.
    #[error("{0}")]
    Lost(String),
    /// There is no talking in confidence.
    #[error("TLS: {0}")]
    Tls(String),
    /// The broker does not want us.
    #[error("the broker refused the connection: {0}")]
    Refused(String),
    /// A message is larger than [`Settings::packet_bytes_max`], and the connection is over.
    #[error("a packet of {0} bytes, and mqtt.packet_bytes_max is less")]
    TooLarge(usize),
    /// Nothing came for too long.
    #[error("nothing from the broker for {0:?}")]
    Silent(Duration),
}
