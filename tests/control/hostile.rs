//! What must not go wrong when much else does: a gateway whose local file has nothing to run, state
//! that must not be lost on the way there and would be on the way back, a full disk, questions that
//! are asked to learn what nobody should, and documents that wait for what is not wanted any more.

use serde_json::{Value, json};

use crate::fleet::{Fleet, OPERATOR, R};
use crate::mosquitto::free_port;
use crate::signing::envelope;

fn expect(reported: &Value, status: &str, code: Option<&str>) {
    let is_so = reported["status"] == status && reported["code"].as_str() == code;
    assert!(is_so, "not {status} {code:?}: {reported:#}");
}

/// Rewrites the local file.
fn edit(fleet: &Fleet, change: impl FnOnce(String) -> String) {
    let path = fleet.site.path("app.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, change(text)).unwrap();
}

/// A query that keeps state, which goes when the query does.
const COUNT: &str = "INSERT INTO Alerts SELECT COUNT(*) AS n, 7 AS c FROM Readings;\n";

#[test]
fn a_gateway_with_nothing_of_its_own_comes_back_to_that() {
    let mut fleet = Fleet::new();
    edit(&fleet, |text| text.replace("sql = \"app.sql\"\n", ""));
    fleet.start();
    let bad = fleet.signed(1, &fleet.wrong_broker(2, free_port()));
    expect(&fleet.apply(&bad), "rolled_back", Some("E_HEALTH"));
    // It goes on from there, and an operator gets it back there, too.
    let good = fleet.signed(2, &fleet.document(3));
    expect(&fleet.apply(&good), "in_sync", None);
    let answer = fleet.request_signed("config.rollback", 1, "{}");
    assert_eq!(answer["data"]["rev"], Value::Null, "{answer}");
    let log = fleet.site.stop();
    // Who stops does not find messages that are too large.
    assert!(!log.contains("E_TOO_LARGE"), "{log}");
}

#[test]
fn a_node_that_dies_in_probation_starts_also_where_state_must_not_be_lost() {
    let mut fleet = Fleet::new();
    let table = "[application]\n";
    edit(&fleet, |text| {
        text.replace(table, &format!("{table}state_policy = \"keep_or_fail\"\n"))
    });
    fleet.start();
    let mut document = envelope(1, &fleet.document_with(2, COUNT));
    document["confirm_s"] = 600.into();
    document["state_policy"] = "keep_or_fail".into();
    let from = fleet.observer.now();
    fleet.push(&fleet.key.signed(crate::fleet::NODE, document));
    fleet.reported("its probation", from, |reported| {
        reported["status"] == "probation"
    });
    // Twice, since the second start must not depend on what the first one remembers.
    for _ in 0..2 {
        fleet.site.kill();
        let birth = fleet.start();
        assert_eq!(birth["config"]["rev"], Value::Null, "{birth}");
    }
    assert_eq!(fleet.kept("config/reported")["code"], "E_BOOT_GUARD");
    fleet.site.stop();
}

#[test]
fn nobody_learns_what_a_variable_stands_for() {
    let mut fleet = Fleet::new();
    fleet.start();
    // Every test program has it, and its value is long enough to be looked for.
    let known = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let document = |topic: &str, qos: &str| {
        let sink = format!("'mqtt.topic'='{topic}', 'mqtt.qos'='{qos}'");
        fleet.document(2).replace("'mqtt.topic'='out'", &sink)
    };
    for (topic, qos) in [
        ("${CARGO_MANIFEST_DIR}", "1"),
        ("{{${CARGO_MANIFEST_DIR}}}", "1"),
        ("out", "${CARGO_MANIFEST_DIR}"),
    ] {
        for verb in ["config.diff", "config.validate"] {
            let answer = fleet.request(verb, &json!({"content": document(topic, qos)}));
            let text = answer.to_string();
            assert!(!text.contains(&known), "{verb} {topic} {qos}: {text}");
        }
    }
    fleet.site.stop();
}

#[test]
fn what_waited_is_not_taken_when_nothing_is_taken_any_more() {
    let mut fleet = Fleet::new();
    fleet.start();
    let mut first = envelope(1, &fleet.document(2));
    first["confirm_s"] = 600.into();
    let from = fleet.observer.now();
    fleet.push(&fleet.key.signed(crate::fleet::NODE, first));
    fleet.reported("its probation", from, |reported| {
        reported["status"] == "probation"
    });
    // Nobody has signed it: it waits for the end of the probation.
    fleet.push(&envelope(2, &fleet.document(9)));
    assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
    let from = fleet.observer.now();
    fleet.configure(4, "mode = \"monitor\"\n");
    fleet.site.signal("HUP");
    fleet.said("the local file is in force", from, "state", |state| {
        state["config"]["rev"] == Value::Null && state["state"] == "online"
    });
    let flow = fleet.flow();
    assert_eq!(flow.made_by(), 4);
    assert_eq!(fleet.changes(), 2);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_document_whose_time_is_over_before_it_begins_is_refused_at_once() {
    let mut fleet = Fleet::new();
    fleet.start();
    let now = eventflux::clock::wall();
    let mut never = envelope(1, &fleet.document(2));
    never["not_before"] = (now.0 + 3_600_000).into();
    never["expires"] = (now.0 + 1_800_000).into();
    let reported = fleet.apply(&fleet.key.signed(crate::fleet::NODE, never));
    expect(&reported, "expired", Some("E_EXPIRED"));
    fleet.site.stop();
}

#[test]
fn a_document_that_was_overtaken_before_its_time_is_not_told_of() {
    let mut fleet = Fleet::with("mode = \"signed\"\ngroups = [\"pumps\"]\n");
    fleet.start();
    let now = eventflux::clock::wall();
    let mut later = envelope(1, &fleet.document(2));
    later["not_before"] = (now.0 + 1_500).into();
    let from = fleet.observer.now();
    fleet.push(&fleet.key.signed(crate::fleet::NODE, later));
    fleet.reported("that it has come", from, |reported| {
        reported["desired"]["rev"] == 1
    });
    let mut second = envelope(2, &fleet.document(3));
    second["confirm_s"] = 3.into();
    expect(
        &fleet.apply(&fleet.key.signed(crate::fleet::NODE, second)),
        "in_sync",
        None,
    );
    // What comes behind it has its turn when the time of the first has come.
    expect(
        &fleet.apply(&fleet.signed(3, &fleet.document(4))),
        "in_sync",
        None,
    );
    for message in fleet.observer.since(from) {
        let text = message.json().to_string();
        assert!(!text.contains("E_REV_STALE"), "{text}");
    }
    fleet.site.stop();
}

#[test]
fn a_message_beyond_all_bounds_ends_neither_requests_nor_the_connection_for_long() {
    let mut fleet = Fleet::new();
    fleet.start();
    let large = vec![b'x'; 5 << 20];
    // A request that somebody has left behind comes with every subscription.
    let from = fleet.observer.now();
    fleet.publish(OPERATOR, &format!("{R}/request/ping"), true, &large);
    fleet.reported("that it was too large", from, |reported| {
        reported["code"] == "E_TOO_LARGE"
    });
    // In the end nothing is asked for that could be it, and the node says how it is.
    fleet.site.wait_for("connection=3");
    let birth = fleet.said("its birth", from, "state", |state| {
        state["state"] == "online" && state["conn"].as_u64() >= Some(3)
    });
    let conn = birth["conn"].clone();
    assert_eq!(fleet.kept("state")["conn"], conn);
    fleet.site.stop();
}
