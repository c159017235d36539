//! What Home Assistant is told of the node, so that it shows it without being configured: one
//! retained message for each entity, below `<prefix>/<component>/<node>/`.
//!
//! Every entity has a message of its own, and the topic has the node as a level of its own: an
//! entity goes when its message is replaced by an empty one, and a broker's access list can name
//! the topics of one node. Ids are made of names only, so that an entity keeps its history over
//! restarts, and over configurations in which it stays.

use serde_json::{Map, Value, json};

use super::hash::sha256_hex;
use super::topics::Topics;
use crate::config::ControlSettings;
use crate::config::options::Options;
use crate::daemon::View;
use crate::mqtt::{self, Broker};

/// How many reports of what is counted may be missed before their values are unknown.
const METRICS_MISSED_MAX: u64 = 3;

/// The states of a node, as `state` says them.
const STATES: [&str; 4] = ["online", "starting", "degraded", "offline"];
/// What becomes of a document, as `config/reported` says it.
const STATUSES: [&str; 9] = [
    "in_sync",
    "validating",
    "valid",
    "applying",
    "probation",
    "rejected",
    "rolled_back",
    "local_override",
    "expired",
];

/// What an alert is made of: the members of its object, or its text.
const ALERT: &str = "{{ (dict(value_json, event_type='alert') if value_json is mapping \
                     else {'event_type': 'alert', 'text': value}) | tojson }}";

/// A message: its topic, and what is retained there.
pub type Message = (String, Value);

/// All messages, by their topics; none when discovery is off. `brokers` is where the control
/// connection may lead: what sinks publish there, Home Assistant can hear.
#[must_use]
pub fn messages(
    settings: &ControlSettings,
    node: &str,
    brokers: &[Broker],
    view: &View,
) -> Vec<Message> {
    let Some(prefix) = &settings.discovery else {
        return Vec::new();
    };
    let device = Device {
        prefix,
        topics: Topics::new(&settings.root, node),
        metrics_s: settings.metrics_interval_ms.map(|ms| ms.div_ceil(1_000)),
    };
    let sinks = view.sinks.iter();
    let alerts = sinks.filter_map(|(name, sink)| {
        let topic = alerts(&sink.extension, &sink.options, brokers)?;
        Some((name.as_str(), topic))
    });
    let names: Vec<&str> = view.sinks.keys().map(String::as_str).collect();
    device.messages(&names, &alerts.collect::<Vec<_>>())
}

/// The one topic to which a sink publishes at one of `brokers`, if it does.
fn alerts(extension: &str, options: &Options, brokers: &[Broker]) -> Option<String> {
    // What is announced is there for everybody to read.
    let topic = options
        .text("mqtt.topic")
        .filter(|_| !options.is_hidden("mqtt.topic"))?;
    let is_there = |one: &Broker| {
        let mut all = brokers.iter();
        all.any(|other| (&other.host, other.port) == (&one.host, one.port))
    };
    let reached = mqtt::brokers(options).iter().any(is_there);
    let is_fixed = !topic.contains("{{");
    (extension == "mqtt" && reached && is_fixed).then(|| topic.to_owned())
}

/// The node as Home Assistant knows it.
struct Device<'a> {
    prefix: &'a str,
    topics: Topics,
    /// Seconds between two reports of what is counted; none: there are none.
    metrics_s: Option<u64>,
}

/// One thing that Home Assistant shows.
struct Entity {
    component: &'static str,
    /// What it is called in topics and ids: letters, digits, `_` and `-`.
    id: String,
    /// All that is special about it.
    body: Value,
}

impl Device<'_> {
    /// The messages for sinks with these `names`, and for those of them with a topic.
    fn messages(&self, names: &[&str], alerts: &[(&str, String)]) -> Vec<Message> {
        let mut entities = vec![self.state(), self.configuration()];
        entities.extend(self.depths());
        entities.extend(self.metrics_s.map(|every_s| self.memory(every_s)));
        for name in names {
            if let Some(every_s) = self.metrics_s {
                entities.extend(self.sink(name, every_s));
            }
        }
        entities.extend(alerts.iter().map(|(name, topic)| self.alert(name, topic)));
        let mut messages: Vec<Message> =
            entities.into_iter().map(|one| self.message(one)).collect();
        messages.sort_by(|(one, _), (other, _)| one.cmp(other));
        messages
    }

    fn message(&self, entity: Entity) -> Message {
        let Entity {
            component,
            id,
            body,
        } = entity;
        let node = self.topics.node();
        let mut config = Map::new();
        config.insert(
            "unique_id".to_owned(),
            format!("eventflux_{node}_{id}").into(),
        );
        config.insert("qos".to_owned(), 1.into());
        let version = env!("CARGO_PKG_VERSION");
        let device = json!({
            "identifiers": [format!("eventflux_{node}")],
            "name": node,
            "manufacturer": "EventFlux",
            "model": std::env::consts::ARCH,
            "sw_version": version,
        });
        let origin = json!({
            "name": "EventFlux",
            "sw_version": version,
            "support_url": env!("CARGO_PKG_REPOSITORY"),
        });
        config.insert("device".to_owned(), device);
        config.insert("origin".to_owned(), origin);
        if let Value::Object(body) = body {
            config.extend(body);
        }
        let topic = format!("{}/{component}/{node}/{id}/config", self.prefix);
        (topic, Value::Object(config))
    }

    /// Shows that the node is gone by itself, so that it is always available.
    fn state(&self) -> Entity {
        Entity {
            component: "sensor",
            id: "state".to_owned(),
            body: json!({
                "name": "State",
                "device_class": "enum",
                "options": STATES,
                "entity_category": "diagnostic",
                "state_topic": self.topics.state(),
                "value_template": "{{ value_json.state }}",
                "json_attributes_topic": self.topics.state(),
                "json_attributes_template":
                    "{{ {'why': value_json.why | default([], true), \
                     'version': value_json.version | default(none), \
                     'clock': value_json.clock | default(none)} | tojson }}",
            }),
        }
    }

    fn configuration(&self) -> Entity {
        let body = json!({
            "name": "Configuration",
            "device_class": "enum",
            "options": STATUSES,
            "entity_category": "diagnostic",
            "state_topic": self.topics.reported(),
            "value_template": "{{ value_json.status }}",
            "json_attributes_topic": self.topics.reported(),
            "json_attributes_template":
                "{{ {'code': value_json.code | default(none), \
                 'phase': value_json.phase | default(none), \
                 'rev': (value_json.active | default({}, true)).rev | default(none)} | tojson }}",
        });
        Entity {
            component: "sensor",
            id: "configuration".to_owned(),
            body: self.while_there(body),
        }
    }

    /// What the state says in numbers.
    fn depths(&self) -> [Entity; 3] {
        let measured =
            |id: &str, name: &str, (part, of): (&str, &str), unit: Option<(&str, &str)>| {
                let mut body = json!({
                    "name": name,
                    "state_class": "measurement",
                    "entity_category": "diagnostic",
                    "state_topic": self.topics.state(),
                    "value_template": member("", part, of),
                });
                if let (Some((class, unit)), Value::Object(body)) = (unit, &mut body) {
                    body.insert("device_class".to_owned(), class.into());
                    body.insert("unit_of_measurement".to_owned(), unit.into());
                }
                Entity {
                    component: "sensor",
                    id: id.to_owned(),
                    body: self.while_there(body),
                }
            };
        [
            measured(
                "outbox_bytes",
                "Outbox",
                ("outbox", "bytes"),
                Some(("data_size", "B")),
            ),
            measured(
                "outbox_oldest",
                "Outbox oldest",
                ("outbox", "oldest_s"),
                Some(("duration", "s")),
            ),
            measured(
                "queries_failed",
                "Queries failed",
                ("queries", "failed"),
                None,
            ),
        ]
    }

    fn memory(&self, every_s: u64) -> Entity {
        let body = json!({
            "name": "Memory",
            "device_class": "data_size",
            "unit_of_measurement": "B",
            "state_class": "measurement",
            "entity_category": "diagnostic",
            "value_template": "{{ value_json.memory.rss_bytes }}",
        });
        self.counted("memory".to_owned(), body, every_s)
    }

    fn sink(&self, name: &str, every_s: u64) -> [Entity; 2] {
        let id = plain(name);
        let waiting = json!({
            "name": format!("{name} waiting"),
            "state_class": "measurement",
            "entity_category": "diagnostic",
            "value_template": member(".outboxes", name, "waiting"),
        });
        let delivered = json!({
            "name": format!("{name} delivered"),
            "state_class": "total_increasing",
            "entity_category": "diagnostic",
            "value_template": member(".sinks", name, "delivered"),
        });
        [
            self.counted(format!("sink_{id}_waiting"), waiting, every_s),
            self.counted(format!("sink_{id}_delivered"), delivered, every_s),
        ]
    }

    /// Rows that a sink publishes are events: each is news, also when it says what the last said,
    /// and none is a state that lasts.
    fn alert(&self, name: &str, topic: &str) -> Entity {
        let body = json!({
            "name": name,
            "state_topic": topic,
            "event_types": ["alert"],
            "value_template": ALERT,
        });
        Entity {
            component: "event",
            id: format!("alert_{}", plain(name)),
            body: self.while_there(body),
        }
    }

    /// Something from what is counted, unknown when that is not told any more.
    fn counted(&self, id: String, mut body: Value, every_s: u64) -> Entity {
        if let Value::Object(body) = &mut body {
            let expires_s = every_s.saturating_mul(METRICS_MISSED_MAX);
            body.insert("state_topic".to_owned(), self.topics.own("metrics").into());
            body.insert("expire_after".to_owned(), expires_s.into());
        }
        Entity {
            component: "sensor",
            id,
            body: self.while_there(body),
        }
    }

    /// The same, which is not available while the node is gone.
    fn while_there(&self, mut body: Value) -> Value {
        if let Value::Object(body) = &mut body {
            body.insert("availability_topic".to_owned(), self.topics.state().into());
            let template = "{{ 'offline' if value_json.state == 'offline' else 'online' }}";
            body.insert("availability_template".to_owned(), template.into());
        }
        body
    }
}

/// The member `name` of the member `part` of what was published, or of a member of that: nothing
/// when there is no such part, as in what is said of a node that is gone.
fn member(inside: &str, part: &str, name: &str) -> String {
    // A string in a template has the escapes of JSON.
    let part = Value::from(part);
    format!("{{{{ (value_json{inside}[{part}] | default({{}})).{name} | default(none) }}}}")
}

/// A name in the letters that topics of discovery may have; different ones stay different.
fn plain(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.chars().all(is_plain) {
        return name.to_owned();
    }
    let letters = name.chars().map(|c| if is_plain(c) { c } else { '_' });
    let digest: String = sha256_hex(name.as_bytes()).chars().take(8).collect();
    format!("{}-{digest}", letters.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{Layer, OptionValue, Options};

    const GONE: &str = "{{ 'offline' if value_json.state == 'offline' else 'online' }}";

    fn device(metrics_s: Option<u64>) -> Device<'static> {
        Device {
            prefix: "homeassistant",
            topics: Topics::new("eventflux", "pump-7"),
            metrics_s,
        }
    }

    fn whole(id: &str, mut body: Value) -> Value {
        let own = json!({
            "unique_id": format!("eventflux_pump-7_{id}"),
            "qos": 1,
            "device": {
                "identifiers": ["eventflux_pump-7"], "name": "pump-7",
                "manufacturer": "EventFlux", "model": std::env::consts::ARCH,
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
            "origin": {
                "name": "EventFlux", "sw_version": env!("CARGO_PKG_VERSION"),
                "support_url": "https://github.com/eventflux-io/eventflux",
            },
        });
        let own = own.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(own);
        body
    }

    /// With what all have that are not there while the node is gone.
    fn fleeting(id: &str, mut body: Value) -> Value {
        body["availability_topic"] = json!("eventflux/v1/pump-7/state");
        body["availability_template"] = json!(GONE);
        whole(id, body)
    }

    #[test]
    fn the_node_is_shown_by_what_it_publishes_anyway() {
        let messages = device(None).messages(&["Alerts"], &[]);
        let topics: Vec<&str> = messages.iter().map(|(topic, _)| &**topic).collect();
        assert_eq!(
            topics,
            [
                "homeassistant/sensor/pump-7/configuration/config",
                "homeassistant/sensor/pump-7/outbox_bytes/config",
                "homeassistant/sensor/pump-7/outbox_oldest/config",
                "homeassistant/sensor/pump-7/queries_failed/config",
                "homeassistant/sensor/pump-7/state/config",
            ],
            "what is counted is not shown where it is not published"
        );
        let configuration = json!({
            "name": "Configuration", "device_class": "enum",
            "options": ["in_sync", "validating", "valid", "applying", "probation", "rejected",
                        "rolled_back", "local_override", "expired"],
            "entity_category": "diagnostic",
            "state_topic": "eventflux/v1/pump-7/config/reported",
            "value_template": "{{ value_json.status }}",
            "json_attributes_topic": "eventflux/v1/pump-7/config/reported",
            "json_attributes_template": "{{ {'code': value_json.code | default(none), \
                'phase': value_json.phase | default(none), \
                'rev': (value_json.active | default({}, true)).rev | default(none)} | tojson }}",
        });
        assert_eq!(messages[0].1, fleeting("configuration", configuration));
        let oldest = json!({
            "name": "Outbox oldest", "device_class": "duration", "unit_of_measurement": "s",
            "state_class": "measurement", "entity_category": "diagnostic",
            "state_topic": "eventflux/v1/pump-7/state",
            "value_template":
                "{{ (value_json[\"outbox\"] | default({})).oldest_s | default(none) }}",
        });
        assert_eq!(messages[2].1, fleeting("outbox_oldest", oldest));
        let failed = json!({
            "name": "Queries failed", "state_class": "measurement",
            "entity_category": "diagnostic", "state_topic": "eventflux/v1/pump-7/state",
            "value_template":
                "{{ (value_json[\"queries\"] | default({})).failed | default(none) }}",
        });
        assert_eq!(messages[3].1, fleeting("queries_failed", failed));
        let state = json!({
            "name": "State", "device_class": "enum",
            "options": ["online", "starting", "degraded", "offline"],
            "entity_category": "diagnostic", "state_topic": "eventflux/v1/pump-7/state",
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": "eventflux/v1/pump-7/state",
            "json_attributes_template": "{{ {'why': value_json.why | default([], true), \
                'version': value_json.version | default(none), \
                'clock': value_json.clock | default(none)} | tojson }}",
        });
        assert_eq!(
            messages[4].1,
            whole("state", state),
            "it shows that the node is gone"
        );
    }

    #[test]
    fn sinks_and_alerts_are_shown() {
        let alerts = [("Alerts", "plant/alerts".to_owned())];
        let messages = device(Some(60)).messages(&["Alerts", "Größe"], &alerts);
        let of = |topic: &str| {
            let found = messages.iter().find(|(other, _)| other == topic);
            found.map(|(_, config)| config.clone()).unwrap()
        };
        assert_eq!(messages.len(), 5 + 1 + 2 * 2 + 1);
        let memory = json!({
            "name": "Memory", "device_class": "data_size", "unit_of_measurement": "B",
            "state_class": "measurement", "entity_category": "diagnostic",
            "state_topic": "eventflux/v1/pump-7/metrics", "expire_after": 180,
            "value_template": "{{ value_json.memory.rss_bytes }}",
        });
        let topic = "homeassistant/sensor/pump-7/memory/config";
        assert_eq!(of(topic), fleeting("memory", memory));
        let delivered = json!({
            "name": "Alerts delivered", "state_class": "total_increasing",
            "entity_category": "diagnostic", "state_topic": "eventflux/v1/pump-7/metrics",
            "expire_after": 180,
            "value_template":
                "{{ (value_json.sinks[\"Alerts\"] | default({})).delivered | default(none) }}",
        });
        let topic = "homeassistant/sensor/pump-7/sink_Alerts_delivered/config";
        assert_eq!(of(topic), fleeting("sink_Alerts_delivered", delivered));
        let id = format!(
            "sink_Gr__e-{}_waiting",
            &sha256_hex("Größe".as_bytes())[..8]
        );
        let waiting = json!({
            "name": "Größe waiting", "state_class": "measurement",
            "entity_category": "diagnostic", "state_topic": "eventflux/v1/pump-7/metrics",
            "expire_after": 180,
            "value_template":
                "{{ (value_json.outboxes[\"Größe\"] | default({})).waiting | default(none) }}",
        });
        let topic = format!("homeassistant/sensor/pump-7/{id}/config");
        assert_eq!(of(&topic), fleeting(&id, waiting));
        let alert = json!({
            "name": "Alerts", "state_topic": "plant/alerts", "event_types": ["alert"],
            "value_template":
                "{{ (dict(value_json, event_type='alert') if value_json is mapping \
                 else {'event_type': 'alert', 'text': value}) | tojson }}",
        });
        let topic = "homeassistant/event/pump-7/alert_Alerts/config";
        assert_eq!(of(topic), fleeting("alert_Alerts", alert));
    }

    #[test]
    fn names_stay_apart_in_the_letters_of_a_topic() {
        assert_eq!(plain("Alerts_2-x"), "Alerts_2-x");
        let names = ["a b", "a_b", "a/b", "a$b", "ä", "ö", "a\"b"].map(plain);
        for (index, name) in names.iter().enumerate() {
            assert!(!names[..index].contains(name), "{name}");
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            assert!(name.chars().all(allowed), "{name}");
        }
    }

    #[test]
    fn an_alert_is_what_a_sink_publishes_at_the_same_broker_to_one_topic() {
        let control = ["mqtt://hub:1883", "mqtts://spare"];
        let brokers = control.map(|url| options(url, "x"));
        let brokers: Vec<Broker> = brokers.iter().flat_map(mqtt::brokers).collect();
        for (extension, broker, topic, expected) in [
            ("mqtt", "mqtt://hub", "plant/alerts", true),
            ("mqtt", "mqtts://spare:8883", "plant/alerts", true),
            ("mqtt", "mqtt://other", "plant/alerts", false),
            ("mqtt", "mqtt://hub:1884", "plant/alerts", false),
            ("mqtt", "mqtt://hub", "plant/{{device}}", false),
            ("http", "mqtt://hub", "plant/alerts", false),
        ] {
            let found = alerts(extension, &options(broker, topic), &brokers);
            let expected = expected.then(|| topic.to_owned());
            assert_eq!(found, expected, "{extension} {broker} {topic}");
        }
    }

    fn options(broker: &str, topic: &str) -> Options {
        let mut options = Options::default();
        let mut set = |name: &str, value: &str| {
            options.set(name, OptionValue::Text(value.to_owned()), Layer::Sql);
        };
        set("mqtt.broker", broker);
        set("mqtt.topic", topic);
        options
    }
}
