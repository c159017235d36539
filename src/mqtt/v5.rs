//! MQTT 5 in the words of `rumqttc`.

use std::sync::OnceLock;
use std::time::Duration;

use rumqttc::Outgoing as Written;
use rumqttc::v5::mqttbytes::v5::{
    Filter, LastWill, Packet as Incoming, PubAckReason, PubCompReason, PubRecReason, PubRel,
    Publish, PublishProperties, RetainForwardRule, SubscribeReasonCode, Unsubscribe,
};
use rumqttc::v5::mqttbytes::{Error as PacketError, QoS};
use rumqttc::v5::{self, ConnectionError, EventLoop, MqttOptions, MqttState, Request, StateError};

use super::connection::{SUBSCRIBER_INFLIGHT, lost_or_tls};
use super::v311::network_options;
use super::{
    Answer, Error, Event, Message, Outgoing, Packet, Properties, Qos, Retained, Settings,
    Unfinished, Welcome,
};

pub(super) fn options(settings: &Settings, host: &str, port: u16) -> MqttOptions {
    let mut options = MqttOptions::new(settings.client_id.as_str(), host, port);
    let session_expiry_s = if settings.resume {
        settings.session_expiry_s
    } else {
        0
    };
    options
        .set_keep_alive(settings.keep_alive.max(Duration::from_secs(1)))
        .set_clean_start(!settings.resume)
        .set_session_expiry_interval(Some(session_expiry_s))
        .set_manual_acks(true)
        .set_receive_maximum(Some(settings.receive_max.max(1)))
        .set_outgoing_inflight_upper_limit(if settings.subscribes {
            SUBSCRIBER_INFLIGHT
        } else {
            settings.inflight_max.max(1)
        })
        .set_max_packet_size(Some(settings.packet_bytes_max))
        .set_connection_timeout(settings.connect_timeout.as_secs() + 1)
        .set_network_options(network_options(settings));
    if let Some(login) = &settings.login {
        options.set_credentials(login.username.as_str(), login.password.as_str());
    }
    if let Some(will) = &settings.will {
        let payload = will.payload.as_bytes();
        let topic = will.topic.as_str();
        let will = LastWill::new(topic, payload, qos(will.qos), will.retain, None);
        options.set_last_will(will);
    }
    options
}

/// As [`super::v311::subscriber`].
pub(super) fn subscriber() -> MqttState {
    static ANSWERS_ALL: OnceLock<MqttState> = OnceLock::new();
    let fresh = || {
        let mut state = MqttState::new(SUBSCRIBER_INFLIGHT, true);
        for packet in 1..=u16::MAX {
            let publish = Publish {
                qos: QoS::ExactlyOnce,
                pkid: packet,
                ..Publish::default()
            };
            let answered = state.handle_incoming_packet(Incoming::Publish(publish));
            debug_assert!(matches!(answered, Ok(None)), "it waits for our word");
            state.events.clear();
        }
        state
    };
    ANSWERS_ALL.get_or_init(fresh).clone()
}

/// As [`super::v311::take_up`].
pub(super) fn take_up<'a>(
    poll: &mut EventLoop,
    open: impl Iterator<Item = Unfinished<'a>>,
    last: u16,
) {
    for _ in 0..last {
        let request = Request::Unsubscribe(Unsubscribe::new("", None));
        let _ = poll.state.handle_outgoing_packet(request);
        poll.state.events.pop_back();
    }
    poll.pending.extend(open.map(|open| match open {
        Unfinished::Recorded(packet) => Request::PubRel(PubRel::new(packet, None)),
        Unfinished::Published(packet, message) => {
            let mut publish = publish(message);
            publish.pkid = packet;
            publish.dup = true;
            Request::Publish(publish)
        }
    }));
}

fn publish(message: Outgoing<'_>) -> Publish {
    let payload = message.payload.to_vec();
    let said = properties(message.properties);
    let mut publish = Publish::new(message.topic, qos(message.qos), payload, Some(said));
    publish.retain = message.retain;
    publish
}

pub(super) fn properties(said: Properties) -> PublishProperties {
    PublishProperties {
        user_properties: said.user,
        content_type: said.content_type.map(str::to_owned),
        message_expiry_interval: said.expiry_s,
        ..PublishProperties::default()
    }
}

pub(super) fn filter(text: &str, care: Qos, retained: Retained) -> Filter {
    let mut filter = Filter::new(text, qos(care));
    filter.retain_forward_rule = match retained {
        Retained::Sent | Retained::SentAndMarked => RetainForwardRule::OnNewSubscribe,
        Retained::NotSent => RetainForwardRule::Never,
    };
    filter.preserve_retain = retained == Retained::SentAndMarked;
    filter
}

pub(super) fn error(error: ConnectionError) -> Error {
    match error {
        ConnectionError::ConnectionRefused(code) => Error::Refused(format!("{code:?}")),
        ConnectionError::MqttState(StateError::Deserialization(PacketError::Io(error))) => {
            lost_or_tls(&error, &error)
        }
        error => lost_or_tls(&error, &error),
    }
}

pub(super) fn event(event: v5::Event) -> Event {
    match event {
        v5::Event::Incoming(Incoming::Publish(publish)) => {
            Event::Message(Message(Packet::V5(publish)))
        }
        v5::Event::Incoming(Incoming::PubAck(ack)) => {
            Event::Acknowledged(ack.pkid, acknowledged(ack.reason))
        }
        v5::Event::Incoming(Incoming::PubRec(ack)) => {
            Event::Recorded(ack.pkid, recorded(ack.reason))
        }
        v5::Event::Incoming(Incoming::PubComp(ack)) => {
            Event::Acknowledged(ack.pkid, completed(&ack.reason))
        }
        v5::Event::Incoming(Incoming::PubRel(release)) => Event::Forgotten(release.pkid),
        v5::Event::Incoming(Incoming::ConnAck(answer)) => {
            let properties = answer.properties.as_ref();
            Event::Connected(Welcome {
                session_present: answer.session_present,
                packet_bytes_max: properties.and_then(|said| said.max_packet_size),
                receive_max: properties.and_then(|said| said.receive_max),
                retain_available: properties.and_then(|said| said.retain_available) != Some(0),
            })
        }
        v5::Event::Incoming(Incoming::SubAck(answer)) => {
            let refusals = answer.return_codes.into_iter().map(|code| match code {
                SubscribeReasonCode::Success(_) => None,
                code => Some(format!("{code:?}")),
            });
            Event::Subscribed(refusals.collect())
        }
        v5::Event::Outgoing(Written::Publish(packet)) => Event::Published(packet),
        v5::Event::Outgoing(Written::PubAck(_) | Written::PubRec(_)) => Event::AckWritten,
        v5::Event::Incoming(_) | v5::Event::Outgoing(_) => Event::Other,
    }
}

fn acknowledged(reason: PubAckReason) -> Answer {
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

fn recorded(reason: PubRecReason) -> Answer {
    match reason {
        PubRecReason::Success | PubRecReason::NoMatchingSubscribers => Answer::Accepted,
        PubRecReason::TopicNameInvalid | PubRecReason::PayloadFormatInvalid => {
            Answer::Refused(format!("{reason:?}"))
        }
        PubRecReason::NotAuthorized
        | PubRecReason::UnspecifiedError
        | PubRecReason::ImplementationSpecificError
        | PubRecReason::PacketIdentifierInUse
        | PubRecReason::QuotaExceeded => Answer::Later(format!("{reason:?}")),
    }
}

fn completed(reason: &PubCompReason) -> Answer {
    match reason {
        // It had completed it before, and its word was lost with a connection.
        PubCompReason::Success | PubCompReason::PacketIdentifierNotFound => Answer::Accepted,
    }
}

pub(super) fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}
