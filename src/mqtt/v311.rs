//! MQTT 3.1.1 in the words of `rumqttc`.

use std::sync::OnceLock;
use std::time::Duration;

use rumqttc::{
    ConnectionError, EventLoop, LastWill, MqttOptions, MqttState, NetworkOptions, Outgoing,
    Packet as Incoming, PubRel, Publish, QoS, Request, StateError, SubscribeReasonCode,
    Unsubscribe,
};

use super::connection::{PACKET_BYTES_MAX, SUBSCRIBER_INFLIGHT, lost_or_tls};
use super::{Answer, Error, Event, Message, Packet, Qos, Settings, Unfinished, Welcome};

pub(super) fn options(settings: &Settings, host: &str, port: u16) -> MqttOptions {
    let mut options = MqttOptions::new(settings.client_id.as_str(), host, port);
    let read_max = usize::try_from(settings.packet_bytes_max).unwrap_or(usize::MAX);
    let written_max = usize::try_from(PACKET_BYTES_MAX).unwrap_or(usize::MAX);
    options
        .set_keep_alive(settings.keep_alive.max(Duration::from_secs(1)))
        .set_clean_session(!settings.resume)
        .set_manual_acks(true)
        .set_inflight(settings.inflight_max.max(1))
        .set_max_packet_size(read_max, written_max);
    if let Some(login) = &settings.login {
        options.set_credentials(login.username.as_str(), login.password.as_str());
    }
    if let Some(will) = &settings.will {
        let payload = will.payload.as_bytes();
        let topic = will.topic.as_str();
        options.set_last_will(LastWill::new(topic, payload, qos(will.qos), will.retain));
    }
    options
}

/// Acknowledgements are small and go one by one: none may wait for the answer to another.
pub(super) fn network_options(settings: &Settings) -> NetworkOptions {
    let mut options = NetworkOptions::new();
    options.set_tcp_nodelay(true);
    options.set_connection_timeout(settings.connect_timeout.as_secs() + 1);
    options
}

/// The state of a subscriber that answers every PUBREL.
///
/// The broker repeats a PUBREL until it has seen a PUBCOMP, on later connections too, and the
/// answer is always the same (section 4.3.3): the message is logged, or PUBREC would not have been
/// said. A new state of `rumqttc` ends the connection at a PUBREL whose message it has not seen,
/// so it is shown one of each id.
pub(super) fn subscriber() -> MqttState {
    static ANSWERS_ALL: OnceLock<MqttState> = OnceLock::new();
    let fresh = || {
        let mut state = MqttState::new(SUBSCRIBER_INFLIGHT, true);
        for packet in 1..=u16::MAX {
            let mut publish = Publish::new("", QoS::ExactlyOnce, Vec::new());
            publish.pkid = packet;
            let answered = state.handle_incoming_packet(Incoming::Publish(publish));
            debug_assert!(matches!(answered, Ok(None)), "it waits for our word");
            state.events.clear();
        }
        state
    };
    ANSWERS_ALL.get_or_init(fresh).clone()
}

/// Continues the packet ids behind `last`, and puts what is open in front of all else.
pub(super) fn take_up<'a>(
    poll: &mut EventLoop,
    open: impl Iterator<Item = Unfinished<'a>>,
    last: u16,
) {
    for _ in 0..last {
        // The one request that takes an id and leaves nothing behind but an event.
        let request = Request::Unsubscribe(Unsubscribe::new(""));
        let _ = poll.state.handle_outgoing_packet(request);
        poll.state.events.pop_back();
    }
    poll.pending.extend(open.map(|open| match open {
        Unfinished::Recorded(packet) => Request::PubRel(PubRel::new(packet)),
        Unfinished::Published(packet, message) => {
            let payload = message.payload.to_vec();
            let mut publish = Publish::new(message.topic, qos(message.qos), payload);
            publish.retain = message.retain;
            publish.pkid = packet;
            publish.dup = true;
            Request::Publish(publish)
        }
    }));
}

pub(super) fn error(error: ConnectionError) -> Error {
    match error {
        ConnectionError::ConnectionRefused(code) => Error::Refused(format!("{code:?}")),
        ConnectionError::MqttState(StateError::Deserialization(rumqttc::Error::Io(error))) => {
            lost_or_tls(&error, &error)
        }
        error => lost_or_tls(&error, &error),
    }
}

pub(super) fn event(event: rumqttc::Event) -> Event {
    match event {
        rumqttc::Event::Incoming(Incoming::Publish(publish)) => {
            Event::Message(Message(Packet::V311(publish)))
        }
        rumqttc::Event::Incoming(Incoming::PubAck(ack)) => {
            Event::Acknowledged(ack.pkid, Answer::Accepted)
        }
        rumqttc::Event::Incoming(Incoming::PubRec(ack)) => {
            Event::Recorded(ack.pkid, Answer::Accepted)
        }
        rumqttc::Event::Incoming(Incoming::PubComp(ack)) => {
            Event::Acknowledged(ack.pkid, Answer::Accepted)
        }
        rumqttc::Event::Incoming(Incoming::PubRel(release)) => Event::Forgotten(release.pkid),
        rumqttc::Event::Incoming(Incoming::ConnAck(answer)) => Event::Connected(Welcome {
            session_present: answer.session_present,
            retain_available: true,
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
        rumqttc::Event::Outgoing(Outgoing::PubAck(_) | Outgoing::PubRec(_)) => Event::AckWritten,
        rumqttc::Event::Incoming(_) | rumqttc::Event::Outgoing(_) => Event::Other,
    }
}

pub(super) fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}
