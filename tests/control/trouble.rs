//! What a document may do wrong when it runs, and what may be wrong with the disk under it: memory
//! beyond its limit, sinks that fail, a store that is set aside, a disk that is full.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fleet::{Fleet, NODE, R};
use crate::http::{Server, body};
use crate::listener::Listener;
use crate::mosquitto::wait_until;
use crate::signing::envelope;
use crate::small_disk::Disk;

const SIGNED: &str = "mode = \"signed\"\n";
/// A probation that nobody waits out.
const LONG_S: u64 = 600;
const SHORT_S: u64 = 2;

fn with_probation(fleet: &Fleet, rev: u64, content: &str, confirm_s: u64) -> Value {
    let mut asked = envelope(rev, content);
    asked["confirm_s"] = json!(confirm_s);
    fleet.key.signed(NODE, asked)
}

/// Pushes a document and waits until it is on probation.
fn try_out(fleet: &Fleet, rev: u64, content: &str, confirm_s: u64) -> crate::operator::Moment {
    let from = fleet.observer.now();
    fleet.push(&with_probation(fleet, rev, content, confirm_s));
    fleet.reported("probation", from, |said| said["status"] == "probation");
    from
}

/// It is taken back by its health, and says why with these words.
fn is_taken_back(fleet: &Fleet, from: crate::operator::Moment, rev: u64, why: &[&str]) {
    let reported = fleet.end_of(from, &json!(rev));
    assert_eq!(reported["status"], "rolled_back", "{reported:#}");
    assert_eq!(reported["code"], "E_HEALTH", "{reported:#}");
    let errors = reported["errors"].to_string();
    for word in why {
        assert!(errors.contains(word), "{word}: {reported:#}");
    }
    let told = |message: &crate::operator::Message| {
        let event = message.json();
        event["event"] == "config.rolled_back" && event["details"]["rev"] == rev
    };
    fleet.observer.wait("the event", from, told);
}

/// How large the payloads are of which a window is full.
const PAYLOAD_BYTES: usize = 12 << 10;

/// A document that keeps all it hears, with this much memory.
fn hoarding(fleet: &Fleet, c: u64, memory_max: &str) -> String {
    let data = fleet.data.url();
    let more = format!(
        "CREATE STREAM Texts (text STRING) WITH ('type'='source', 'extension'='mqtt', \
         'format'='json', 'mqtt.broker'='{data}', 'mqtt.topic'='texts');\n\
         CREATE STREAM Held (longest STRING);\n\
         INSERT INTO Held SELECT max(text) AS longest FROM Texts WINDOW('length', 100000);\n"
    );
    let content = fleet.document_with(c, &more);
    format!("{content}[limits]\nmemory_max = \"{memory_max}\"\n")
}

fn publish_texts(fleet: &Fleet, count: usize) {
    wait_until("the texts are read", || fleet.data.log().contains("texts"));
    let lines: Vec<String> = (0..count)
        .map(|number| {
            let text = format!("{number:08}").repeat(PAYLOAD_BYTES / 8);
            json!({ "text": text }).to_string()
        })
        .collect();
    fleet.data.publish("texts", 1, &lines);
}

fn rows(fleet: &Fleet, source: &str) -> u64 {
    let answer = fleet.request("diagnostics", &json!({}));
    let rows = &answer["data"]["sources"][source]["counts"]["rows"];
    rows.as_u64().unwrap_or_default()
}

#[test]
fn a_document_that_takes_more_memory_than_it_may_is_taken_back() {
    const TEXTS: usize = 4_000;
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    // What is within its limit stays.
    let from = try_out(&fleet, 1, &hoarding(&fleet, 2, "400 MiB"), 8);
    publish_texts(&fleet, TEXTS);
    wait_until("they are in the window", || {
        rows(&fleet, "Texts") >= u64::try_from(TEXTS).unwrap()
    });
    let reported = fleet.end_of(from, &json!(1));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    let reported = fleet.apply(&fleet.signed(2, &fleet.document(3)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    // With nothing in it, the least limit is enough, whatever the allocator has kept.
    let from = try_out(&fleet, 3, &hoarding(&fleet, 4, "24 MiB"), 4);
    assert_eq!(flow.made_by(), 4);
    let reported = fleet.end_of(from, &json!(3));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    let reported = fleet.apply(&fleet.signed(4, &fleet.document(5)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    // What is not does not stay as long as it may be tried out.
    let from = try_out(&fleet, 5, &hoarding(&fleet, 6, "24 MiB"), LONG_S);
    publish_texts(&fleet, TEXTS);
    is_taken_back(
        &fleet,
        from,
        5,
        &["of memory", "limits.memory_max is 24 MiB"],
    );
    assert_eq!(flow.made_by(), 5);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_sink_that_fails_is_taken_back_at_once() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let server = Server::new([body("422 Unprocessable", "no such field")]);
    let sink = |c: u64, strategy: &str| {
        let more = format!(
            "CREATE STREAM Far (n BIGINT) WITH ('type'='sink', 'extension'='http', \
             'http.url'='{}', 'error.strategy'='{strategy}');\n\
             INSERT INTO Far SELECT n FROM Readings;\n",
            server.url("/")
        );
        fleet.document_with(c, &more)
    };
    let begin = Instant::now();
    let from = try_out(&fleet, 1, &sink(2, "fail"), LONG_S);
    is_taken_back(&fleet, from, 1, &["'Far' has failed"]);
    assert!(begin.elapsed() < Duration::from_secs(LONG_S / 10));
    assert_eq!(flow.made_by(), 1);
    // One output that is refused is not many.
    server.then(body("422 Unprocessable", "no such field"));
    let from = try_out(&fleet, 2, &sink(3, "drop"), SHORT_S);
    let reported = fleet.end_of(from, &json!(2));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 3);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_document_that_ends_the_daemon_is_taken_back_by_the_next_start() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let server = Server::new([body("422 Unprocessable", "no such field")]);
    let more = format!(
        "CREATE STREAM Far (n BIGINT) WITH ('type'='sink', 'extension'='http', \
         'http.url'='{}', 'error.strategy'='fail');\n\
         INSERT INTO Far SELECT n FROM Readings;\n",
        server.url("/")
    );
    let content = fleet.document_with(2, &more);
    let exits = content.replace("[application]", "[application]\non_fail = \"exit\"");
    fleet.push(&with_probation(&fleet, 1, &exits, LONG_S));
    let code = fleet.site.wait_end();
    assert_ne!(code, Some(0), "{}", fleet.site.log());
    let from = fleet.observer.now();
    let birth = fleet.start();
    assert_eq!(birth["config"]["rev"], Value::Null, "{birth}");
    let reported = fleet.end_of(from, &json!(1));
    assert_eq!(reported["status"], "rolled_back", "{reported:#}");
    // It may have been seen to fail before the daemon was gone.
    let code = reported["code"].as_str().unwrap();
    assert!(["E_BOOT_GUARD", "E_HEALTH"].contains(&code), "{reported:#}");
    assert_eq!(flow.made_by(), 1);
    // Nothing of it is tried once more.
    fleet.site.kill();
    fleet.start();
    assert_eq!(flow.made_by(), 1);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_sink_whose_outputs_are_refused_is_taken_back() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let server = Server::new((0..40_000).map(|_| body("400 Bad", "not what is asked for")));
    let more = format!(
        "CREATE STREAM Far (n BIGINT) WITH ('type'='sink', 'extension'='http', \
         'http.url'='{}');\nINSERT INTO Far SELECT n FROM Readings;\n",
        server.url("/")
    );
    let from = try_out(&fleet, 1, &fleet.document_with(2, &more), SHORT_S);
    is_taken_back(&fleet, from, 1, &["'Far'", "refused"]);
    assert_eq!(flow.made_by(), 1);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_sink_that_is_sent_to_nobody_is_taken_back() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let connections = fleet.data_connections();
    // Nobody there, and somebody who never says a word.
    let silent = Listener::new();
    for (rev, port) in [(1, crate::mosquitto::free_port()), (2, silent.port)] {
        let content = fleet.document(rev + 1);
        let (head, sink) = content.split_once("CREATE STREAM Alerts").unwrap();
        let wrong = format!("mqtt://127.0.0.1:{port}");
        let sink = sink.replace(&fleet.data.url(), &wrong);
        let content = format!("{head}CREATE STREAM Alerts{sink}");
        let from = try_out(&fleet, rev, &content, SHORT_S);
        is_taken_back(&fleet, from, rev, &["the sink 'Alerts'"]);
        // What was made meanwhile waits, and comes out where it always did.
        flow.goes_on();
    }
    assert!(silent.connections() > 0);
    assert_eq!(fleet.data_connections(), connections + 2, "of the sink");
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_sink_that_has_nothing_to_deliver_need_not_connect() {
    let mut fleet = Fleet::new();
    let server = Server::new([]);
    let content = |c: u64, accept: &str| {
        let more = format!(
            "CREATE STREAM Far (n BIGINT) WITH ('type'='sink', 'extension'='http', \
             'http.url'='{}', 'http.header.Accept'='{accept}');\n\
             INSERT INTO Far SELECT n FROM Readings;\n",
            server.url("/")
        );
        fleet.document_with(c, &more)
    };
    let (first, second) = (content(2, "a/b"), content(3, "a/c"));
    fleet.start();
    let flow = fleet.flow();
    let reported = fleet.apply(&fleet.signed(1, &first));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    wait_until("it delivers", || !server.rest().is_empty());
    flow.finish();
    wait_until("all is delivered", || {
        let status = fleet.request("outbox.status", &json!({}));
        status["data"]["sinks"]["Far"]["waiting"] == 0
    });
    let reported = fleet.apply(&with_probation(&fleet, 2, &second, SHORT_S));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    fleet.site.stop();
}

/// Damages the store of a daemon that does not run.
fn damage(fleet: &Fleet) {
    let path = fleet.site.path("store/store/conf");
    std::fs::write(path, b"nothing that sled wrote").unwrap();
}

#[test]
fn a_store_that_is_set_aside_forgets_no_document() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    for (round, rev) in [(1_u64, 1_u64), (2, 3)] {
        let asked = fleet.signed(rev, &fleet.document(rev + 1));
        let reported = fleet.apply(&asked);
        assert_eq!(reported["status"], "in_sync", "{reported:#}");
        assert_eq!(flow.made_by(), rev + 1);
        if round == 2 {
            // Another one has not proved itself yet.
            try_out(&fleet, rev + 1, &fleet.document(9), LONG_S);
            assert_eq!(flow.made_by(), 9);
        }
        flow.traffic().pause();
        flow.traffic()
            .wait("all comes out", |state| state.distinct == state.published);
        fleet.request("checkpoint.now", &json!({}));
        fleet.site.kill();
        damage(&fleet);
        let from = fleet.observer.now();
        let birth = fleet.start();
        assert_eq!(birth["config"]["rev"], rev, "{birth}");
        let aside = fleet.site.path(&format!("store/quarantine/{round}"));
        assert!(aside.is_dir(), "{}", fleet.site.log());
        let is_it = |event: &Value| event["event"] == "store.quarantined";
        let told = fleet.said("the quarantine", from, "event", is_it);
        let path = told["details"]["path"].as_str().unwrap();
        assert!(path.ends_with(&format!("quarantine/{round}")), "{told}");
        assert!(!told["reason"].as_str().unwrap().is_empty(), "{told}");
        let expected = match round {
            1 => ("in_sync", json!(rev), Value::Null),
            _ => ("rolled_back", json!(rev + 1), json!("E_BOOT_GUARD")),
        };
        let reported = fleet.reported("what runs", from, |said| said["status"] == expected.0);
        assert_eq!(reported["desired"]["rev"], expected.1, "{reported:#}");
        assert_eq!(reported["code"], expected.2, "{reported:#}");
        assert_eq!(reported["active"]["rev"], rev, "{reported:#}");
        assert_eq!(reported["accepted"][NODE], expected.1, "{reported:#}");
        flow.traffic().resume();
        assert_eq!(flow.made_by(), rev + 1);
        // What was accepted before is known.
        let used = expected.1.as_u64().unwrap();
        let other = fleet.apply(&fleet.signed(used, &fleet.document(7)));
        assert_eq!(other["code"], "E_REV_CONFLICT", "{other:#}");
        if rev > 1 {
            let older = fleet.apply(&fleet.signed(1, &fleet.document(2)));
            assert_eq!(older["code"], "E_REV_STALE", "{older:#}");
        }
        assert_eq!(flow.made_by(), rev + 1);
    }
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_document_that_finds_no_room_is_refused_and_taken_when_there_is() {
    let name = "a_document_that_finds_no_room_is_refused_and_taken_when_there_is";
    let make = || {
        let fleet = Fleet::new();
        let control = format!(
            "mqtt.username = \"{NODE}\"\nmqtt.password = \"${{secret:control}}\"\n{SIGNED}"
        );
        let store = "free_bytes_min = 0\n";
        let toml = fleet.toml(store, &fleet.broker.url(), &control);
        fleet.site.configure(&fleet.sql(1), &toml);
        fleet
    };
    let place = |fleet: &Fleet| fleet.site.path("store");
    crate::small_disk::on_a_small_disk((name, ""), make, place, without_room);
}

fn without_room(mut fleet: Fleet, disk: Disk) {
    fleet.start();
    let flow = fleet.flow();
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    let (changes, connections) = (fleet.changes(), fleet.data_connections());
    // Much of it, so that no page that is there already has room for it.
    let content = format!("{}# {}\n", fleet.document(3), "room ".repeat(10_000));
    let asked = fleet.signed(2, &content);
    let from = fleet.observer.now();
    disk.fill(0);
    let is_full = |state: &Value| state["state"] == "degraded";
    let state = fleet.said("the disk is full", from, "state", is_full);
    assert!(state["why"].to_string().contains("disk_full"), "{state}");
    for _ in 0..2 {
        let refused = fleet.apply(&asked);
        assert_eq!(refused["status"], "rejected", "{refused:#}");
        assert_eq!(refused["code"], "E_FAILED", "{refused:#}");
        let errors = refused["errors"].to_string();
        assert!(errors.contains("No space left"), "{refused:#}");
        assert_eq!(refused["active"]["rev"], 1, "{refused:#}");
        assert_eq!(refused["accepted"][NODE], 1, "{refused:#}");
    }
    assert_eq!(fleet.changes(), changes);
    assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
    let from = fleet.observer.now();
    disk.clear();
    fleet.online(from);
    assert_eq!(flow.made_by(), 2);
    let reported = fleet.apply(&asked);
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 3);
    assert_eq!(fleet.data_connections(), connections);
    // A start that finds no room knows what it is to run when there is some.
    disk.fill(0);
    fleet.site.kill();
    let from = fleet.observer.now();
    fleet.site.spawn();
    let starts = |state: &Value| state["state"] != "offline";
    let birth = fleet.said("its birth", from, "state", starts);
    assert_ne!(birth["state"], "online", "{birth}");
    assert_eq!(birth["config"]["rev"], 2, "{birth}");
    disk.clear();
    fleet.online(from);
    assert_eq!(flow.made_by(), 3);
    flow.finish();
    fleet.site.stop();
}

/// What is announced to Home Assistant now: topics, and what is kept there.
fn announced(fleet: &Fleet) -> Vec<(String, Value)> {
    let kept = crate::operator::kept(&fleet.broker, "homeassistant/#");
    let mut all: Vec<(String, Value)> = kept
        .iter()
        .map(|one| (one.topic.clone(), one.json()))
        .collect();
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

fn topics(fleet: &Fleet) -> Vec<String> {
    let all = announced(fleet).into_iter();
    all.map(|(topic, _)| topic).collect()
}

/// What a sensor and an event may have, as their pages in the documentation of Home Assistant say;
/// it refuses a message with what it does not know.
const EVERY: [&str; 14] = [
    "availability_template",
    "availability_topic",
    "device",
    "device_class",
    "entity_category",
    "json_attributes_template",
    "json_attributes_topic",
    "name",
    "origin",
    "qos",
    "state_topic",
    "unique_id",
    "value_template",
    "enabled_by_default",
];
const SENSOR: [&str; 4] = [
    "expire_after",
    "options",
    "state_class",
    "unit_of_measurement",
];
const DEVICE: [&str; 5] = ["identifiers", "manufacturer", "model", "name", "sw_version"];

fn is_of_the_documentation(topic: &str, message: &Value) {
    let levels: Vec<&str> = topic.split('/').collect();
    let [prefix, component, node, id, config] = levels[..] else {
        panic!("{topic}");
    };
    assert_eq!((prefix, node, config), ("homeassistant", NODE, "config"));
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    assert!(id.chars().all(letters), "{topic}");
    let own: &[&str] = match component {
        "sensor" => &SENSOR,
        "event" => &["event_types"],
        other => panic!("{other}"),
    };
    let text = |name: &str| message[name].as_str().unwrap_or_default();
    for (name, value) in message.as_object().unwrap() {
        let name = name.as_str();
        assert!(
            EVERY.contains(&name) || own.contains(&name),
            "{name}: {topic}"
        );
        match name {
            "device" | "origin" => {}
            "qos" => assert_eq!(*value, 1),
            "expire_after" => assert!(value.as_u64() > Some(0), "{message:#}"),
            "options" | "event_types" => assert!(value.is_array(), "{message:#}"),
            _ => assert!(value.is_string(), "{name}: {message:#}"),
        }
    }
    assert!(!text("state_topic").is_empty(), "{message:#}");
    let device = message["device"].as_object().unwrap();
    assert!(device.keys().all(|name| DEVICE.contains(&name.as_str())));
    assert!(device["identifiers"][0].is_string(), "{message:#}");
    assert!(message["origin"]["name"].is_string(), "{message:#}");
    let url = message["origin"]["support_url"].as_str().unwrap();
    assert!(url.starts_with("https://"), "{url}");
    // An `enum` has options, and neither a class of states nor a unit.
    let is_enum = text("device_class") == "enum";
    assert_eq!(is_enum, message["options"].is_array(), "{message:#}");
    if is_enum {
        assert!(message["state_class"].is_null() && message["unit_of_measurement"].is_null());
    }
    let units = match text("device_class") {
        "data_size" => "B",
        "duration" => "s",
        _ => "",
    };
    assert_eq!(text("unit_of_measurement"), units, "{message:#}");
    let classes = ["", "measurement", "total_increasing"];
    assert!(classes.contains(&text("state_class")), "{message:#}");
    assert!(["", "diagnostic"].contains(&text("entity_category")));
    if id != "state" {
        assert_eq!(text("availability_topic"), format!("{R}/state"));
        assert!(text("availability_template").contains("'online'"));
    }
}

#[test]
fn what_home_assistant_was_told_goes_with_what_it_was_told_of() {
    const SHOWN: &str = "mode = \"signed\"\nhome_assistant = true\nmetrics_interval = \"1 s\"\n";
    let mut fleet = Fleet::with(SHOWN);
    let url = fleet.broker.url();
    fleet.secret("topic", "plant/secret");
    let more = |name: &str, topic: &str| {
        format!(
            "CREATE STREAM {name} (n BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
             'mqtt.broker'='{url}', 'mqtt.username'='{NODE}', \
             'mqtt.password'='${{secret:control}}', 'mqtt.topic'='{topic}');\n\
             INSERT INTO {name} SELECT n FROM Readings;\n"
        )
    };
    let configure = |fleet: &Fleet, more: &str, control: &str| {
        fleet.configure(1, control);
        let sql = format!("{}{more}", fleet.sql(1));
        std::fs::write(fleet.site.path("app.sql"), sql).unwrap();
    };
    let both = more("Far", "plant/far") + &more("Hidden", "${secret:topic}");
    configure(&fleet, &both, SHOWN);
    fleet.start();
    let event = format!("homeassistant/event/{NODE}/alert_Far/config");
    // The last of all that is said.
    let state = format!("homeassistant/sensor/{NODE}/state/config");
    wait_until("it is announced", || topics(&fleet).contains(&state));
    let all = announced(&fleet);
    assert!(all.iter().any(|(topic, _)| *topic == event));
    for (topic, message) in &all {
        is_of_the_documentation(topic, message);
        assert!(!message.to_string().contains("plant/secret"), "{message:#}");
    }
    let ids: std::collections::BTreeSet<&str> = all
        .iter()
        .filter_map(|(_, message)| message["unique_id"].as_str())
        .collect();
    assert_eq!(ids.len(), all.len());
    let of = |name: &str| all.iter().filter(|(topic, _)| topic.contains(name)).count();
    assert_eq!((of("Far"), of("Hidden"), of("Alerts")), (3, 2, 2));
    // A sink that goes while the daemon is away, and one that comes.
    fleet.site.kill();
    configure(&fleet, &more("Near", "plant/near"), SHOWN);
    fleet.start();
    let is_gone = || topics(&fleet).iter().all(|topic| !topic.contains("Far"));
    wait_until("it is gone", is_gone);
    wait_until("the other is there", || {
        topics(&fleet)
            .iter()
            .any(|topic| topic.contains("alert_Near"))
    });
    // Nobody wants to be shown any more: by an edit, and while the daemon is away.
    let hidden = "mode = \"signed\"\n";
    configure(&fleet, "", hidden);
    fleet.site.signal("HUP");
    wait_until("nothing is left", || topics(&fleet).is_empty());
    configure(&fleet, "", SHOWN);
    fleet.site.signal("HUP");
    wait_until("it is back", || topics(&fleet).len() > 4);
    fleet.site.stop();
    assert!(topics(&fleet).len() > 4, "it is only away");
    configure(&fleet, "", hidden);
    fleet.start();
    wait_until("nothing is left", || topics(&fleet).is_empty());
    wait_until("nothing is remembered", || {
        let memory = fleet.site.path("store/control/announced.json");
        std::fs::read_to_string(memory).unwrap() == "[]"
    });
    fleet.site.stop();
}
