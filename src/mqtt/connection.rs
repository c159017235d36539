//! One connection: the side that polls, and the side that asks.

use std::io;
use std::time::Duration;

use rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded as TooLarge311;
use rumqttc::v5::mqttbytes::Error::PayloadSizeLimitExceeded as TooLarge5;
use rumqttc::{Transport, v5 as library_v5};
use tokio::time::timeout;

use super::tunnel::{self, Speech, Tunnel};
use super::{
    Announcement, Broker, Error, Event, Filter, Outgoing, Properties, Qos, Receipt, Retained,
    Settings, Unfinished, Version, v5, v311,
};
use crate::tls;

/// The largest packet that the protocol can carry: a fixed header of 5 bytes and a remaining
/// length of four times seven bits. With a smaller limit `rumqttc` drops the connection at a large
/// message, which the broker then sends again, for ever: only who asks for it gets one.
pub(super) const PACKET_BYTES_MAX: u32 = 268_435_460;
/// Requests that wait to be written.
const REQUESTS_MAX: usize = 256;
/// A subscriber publishes nothing that awaits an answer.
pub(super) const SUBSCRIBER_INFLIGHT: u16 = 16;
/// What a connection may be silent beyond twice its keep-alive.
const SILENCE_GRACE: Duration = Duration::from_secs(5);
/// How long a farewell may take.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// The side that polls. To be polled until it returns an error, whatever else is to be done.
pub struct Connection {
    poll: Poll,
    /// Where TLS is not done by `rumqttc`.
    tunnel: Option<Tunnel>,
    /// How long the next event may take.
    silence_max: Duration,
    keep_alive: Duration,
    ended: Option<Error>,
}

enum Poll {
    V311(Box<rumqttc::EventLoop>),
    V5(Box<library_v5::EventLoop>),
}

/// The side that asks. Every request says whether it was taken: `false` means that too many wait,
/// or that the connection is gone; [`Connection::next`] tells which.
#[derive(Clone, Debug)]
pub struct Handle(Client);

#[derive(Clone, Debug)]
enum Client {
    V311(rumqttc::AsyncClient),
    V5(library_v5::AsyncClient),
}

/// Prepares a connection to one of the brokers; the first [`Connection::next`] makes it.
///
/// # Errors
/// Certificates cannot be read now.
pub fn connect(settings: &Settings, broker: &Broker) -> Result<(Handle, Connection), Error> {
    let way = Way::to(settings, broker)?;
    let (client, poll) = match settings.version {
        Version::V311 => {
            let mut options = v311::options(settings, &way.host, broker.port);
            options.set_transport(way.transport);
            let (client, mut poll) = rumqttc::AsyncClient::new(options, REQUESTS_MAX);
            poll.set_network_options(v311::network_options(settings));
            if settings.subscribes {
                poll.state = v311::subscriber();
            }
            (Client::V311(client), Poll::V311(Box::new(poll)))
        }
        Version::V5 => {
            let mut options = v5::options(settings, &way.host, broker.port);
            options.set_transport(way.transport);
            let (client, mut poll) = library_v5::AsyncClient::new(options, REQUESTS_MAX);
            if settings.subscribes {
                poll.state = v5::subscriber();
            }
            (Client::V5(client), Poll::V5(Box::new(poll)))
        }
    };
    let connection = Connection {
        poll,
        tunnel: way.tunnel,
        silence_max: settings.connect_timeout,
        keep_alive: settings.keep_alive,
        ended: None,
    };
    Ok((Handle(client), connection))
}

/// How to get to a broker.
pub(super) struct Way {
    pub(super) host: String,
    pub(super) transport: Transport,
    pub(super) tunnel: Option<Tunnel>,
}

impl Way {
    fn to(settings: &Settings, broker: &Broker) -> Result<Way, Error> {
        let in_bites = settings.packet_bytes_max < PACKET_BYTES_MAX;
        match settings.tls.as_ref().filter(|_| broker.tls) {
            None if in_bites => Way::through_tunnel(broker, Speech::Plain),
            None => Ok(Way {
                host: broker.host.clone(),
                transport: Transport::Tcp,
                tunnel: None,
            }),
            #[cfg(feature = "tls")]
            Some(client) => super::encrypted::way(client, broker, in_bites),
            #[cfg(not(feature = "tls"))]
            Some(_) => Err(Error::Tls("this build has no TLS".to_owned())),
        }
    }

    /// Through this process, where no more than some KiB wait for whoever reads.
    pub(super) fn through_tunnel(broker: &Broker, speech: Speech) -> Result<Way, Error> {
        let (path, tunnel) = tunnel::open(broker.to_string(), speech)
            .map_err(|error| Error::Lost(error.to_string()))?;
        Ok(Way {
            host: path,
            transport: Transport::Unix,
            tunnel: Some(tunnel),
        })
    }
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
            Poll::V311(poll) => poll.state.events.pop_front().map(v311::event),
            Poll::V5(poll) => poll.state.events.pop_front().map(v5::event),
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
        let polled = timeout(silence_max, self.poll.next());
        let polled = match &mut self.tunnel {
            None => polled.await,
            Some(tunnel) => {
                tokio::select! {
                    biased;
                    polled = polled => polled,
                    ended = tunnel => {
                        self.tunnel = None;
                        return Err(match ended {
                            Ok(()) => Error::Lost("the broker closed the connection".to_owned()),
                            Err(error) => lost_or_tls(&error, &error),
                        });
                    }
                }
            }
        };
        let event = polled.map_err(|_| Error::Silent(silence_max))??;
        if matches!(event, Event::Connected(_)) {
            if let Poll::V5(poll) = &self.poll {
                // The broker may have set another keep-alive.
                self.keep_alive = poll.options.keep_alive();
            }
            self.silence_max = self.keep_alive * 2 + SILENCE_GRACE;
        }
        Ok(event)
    }

    /// Takes up what earlier connections of the same session have left open, before anything new
    /// is sent; `last` is the last packet id that they used. To be called when the session turns
    /// out to be present.
    pub fn take_up<'a>(&mut self, open: impl Iterator<Item = Unfinished<'a>>, last: u16) {
        match &mut self.poll {
            Poll::V311(poll) => v311::take_up(poll, open, last),
            Poll::V5(poll) => v5::take_up(poll, open, last),
        }
    }
}

impl Poll {
    async fn next(&mut self) -> Result<Event, Error> {
        match self {
            Poll::V311(poll) => poll.poll().await.map(v311::event).map_err(v311::error),
            Poll::V5(poll) => poll.poll().await.map(v5::event).map_err(v5::error),
        }
    }
}

/// What an error is that has one of the network at its bottom, or none.
pub(super) fn lost_or_tls(
    error: &(dyn std::error::Error + 'static),
    shown: &dyn std::fmt::Display,
) -> Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let explained = error
            .downcast_ref::<io::Error>()
            .and_then(|error| tls::explain(error, "mqtt.tls"));
        if let Some(why) = explained {
            return Error::Tls(why);
        }
        let (v311, v5) = (error.downcast_ref(), error.downcast_ref());
        if let (Some(TooLarge311(bytes)), _)
        | (
            _,
            Some(TooLarge5 {
                pkt_size: bytes, ..
            }),
        ) = (v311, v5)
        {
            return Error::TooLarge(*bytes);
        }
        cause = error.source();
    }
    Error::Lost(shown.to_string())
}

impl Handle {
    /// Subscribes to `filters`, all with one QoS. What becomes of retained messages only an MQTT 5
    /// broker can be told.
    #[must_use]
    pub fn subscribe(&self, filters: &[Filter], qos: Qos, retained: Retained) -> bool {
        let filters = filters.iter().map(Filter::as_str);
        match &self.0 {
            Client::V311(client) => {
                let filters = filters
                    .map(|filter| rumqttc::SubscribeFilter::new(filter.to_owned(), v311::qos(qos)));
                client.try_subscribe_many(filters).is_ok()
            }
            Client::V5(client) => {
                let filters = filters.map(|filter| v5::filter(filter, qos, retained));
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
                let qos = v311::qos(message.qos);
                client.try_publish(topic, qos, retain, payload).is_ok()
            }
            Client::V5(client) => {
                let qos = v5::qos(message.qos);
                let properties = v5::properties(message.properties);
                client
                    .try_publish_with_properties(topic, qos, retain, payload, properties)
                    .is_ok()
            }
        }
    }

    /// Says something about ourselves, if there is something to say. Without acknowledgement:
    /// with the connection it is void anyway. Whether something is to be written.
    pub fn announce(&self, what: Option<&Announcement>) -> bool {
        let Some(what) = what else { return false };
        self.publish(Outgoing {
            topic: &what.topic,
            payload: what.payload.as_bytes(),
            retain: what.retain,
            qos: Qos::AtMostOnce,
            properties: Properties::default(),
        })
    }

    /// Acknowledges a message that came on this connection.
    #[must_use]
    pub fn acknowledge(&self, receipt: Receipt) -> bool {
        let qos = if receipt.is_exact {
            Qos::ExactlyOnce
        } else {
            Qos::AtLeastOnce
        };
        match &self.0 {
            Client::V311(client) => {
                let mut publish = rumqttc::Publish::new("", v311::qos(qos), Vec::new());
                publish.pkid = receipt.packet;
                client.try_ack(&publish).is_ok()
            }
            Client::V5(client) => {
                let publish = library_v5::mqttbytes::v5::Publish {
                    qos: v5::qos(qos),
                    pkid: receipt.packet,
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
    let _ = timeout(FAREWELL_MAX, closed).await;
}
