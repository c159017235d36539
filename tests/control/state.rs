//! What a node says of itself, what it answers, and what each mode lets in: births and deaths that
//! belong together, deaths that come late, requests that come again or were kept.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::fleet::{Fleet, NODE, OPERATOR, R};
use crate::operator::{ADMIN, Moment};
use crate::signing::{Key, envelope};

#[test]
fn births_and_deaths_belong_together() {
    let mut fleet = Fleet::new();
    let mut last = 0;
    for round in 0..3 {
        let birth = fleet.start();
        let conn = birth["conn"].as_u64().unwrap();
        assert!(conn > last, "{conn} after {last}");
        last = conn;
        for field in [
            "boot", "version", "arch", "ts", "clock", "config", "outbox", "queries",
        ] {
            assert!(!birth[field].is_null(), "no {field}: {birth}");
        }
        let from = fleet.observer.now();
        match round {
            0 => {
                fleet.site.stop();
            }
            _ => fleet.site.kill(),
        }
        let death = fleet.said("the death", from, "state", |state| {
            state["state"] == "offline"
        });
        assert_eq!(death["conn"], conn, "{death}");
        assert_eq!(fleet.kept("state")["state"], "offline");
    }
}

#[test]
fn a_death_that_comes_late_is_followed_by_a_birth() {
    let mut fleet = Fleet::new();
    let birth = fleet.start();
    let conn = birth["conn"].as_u64().unwrap();
    let state = format!("{R}/state");
    for late in [
        json!({"v": 1, "state": "offline", "conn": conn - 1}).to_string(),
        json!({"v": 1, "state": "offline", "conn": conn}).to_string(),
        "nonsense".to_owned(),
    ] {
        let from = fleet.observer.now();
        fleet.publish(ADMIN, &state, true, late.as_bytes());
        let again = fleet.online(from);
        assert_eq!(again["conn"], conn, "{again}");
        assert_eq!(fleet.kept("state")["state"], "online");
    }
    // Of another life of this node, whose memory was lost: it counts on from there.
    let from = fleet.observer.now();
    let later = json!({"v": 1, "state": "offline", "conn": conn + 1_000}).to_string();
    fleet.publish(ADMIN, &state, true, later.as_bytes());
    let again = fleet.online(from);
    assert!(again["conn"].as_u64() > Some(conn + 1_000), "{again}");
    fleet.site.stop();
}

#[test]
fn a_request_is_answered_once() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let ask = |id: &str| {
        let body = json!({"v": 1, "id": id, "args": {}, "ttl_s": 30}).to_string();
        fleet.ask("checkpoint.now", id, body.as_bytes())
    };
    let first = ask("a");
    assert_eq!(first["status"], "ok", "{first}");
    flow.goes_on();
    // With numbers coming in, another checkpoint is another answer.
    assert_eq!(ask("a"), first);
    assert_ne!(ask("b")["data"], first["data"]);
    for (verb, body, code) in [
        ("nonsense", json!({"id": "c", "args": {}}), "E_VERB"),
        ("ping", json!({"id": "d", "v": 9}), "E_VERSION"),
        (
            "tap",
            json!({"id": "e", "args": {"stream": "Nobody"}}),
            "E_NOT_FOUND",
        ),
        ("tap", json!({"id": "f", "args": {"stream": 1}}), "E_ARGS"),
    ] {
        let id = body["id"].as_str().unwrap().to_owned();
        let answer = fleet.ask(verb, &id, body.to_string().as_bytes());
        assert_eq!(answer["error"]["code"], code, "{verb} {body}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    flow.finish();
    fleet.site.stop();
}

#[test]
fn whoever_asks_is_told_what_came_of_it() {
    let mut fleet = Fleet::new();
    fleet.start();
    let answer = |verb: &str, body: &str, is_it: &dyn Fn(&Value) -> bool| {
        let from = fleet.observer.now();
        let topic = format!("{R}/request/{verb}");
        fleet.publish(OPERATOR, &topic, false, body.as_bytes());
        let topic = format!("response/{verb}");
        fleet.said("an answer", from, &topic, |answer| is_it(answer))
    };
    // Numbers are ids as well, and others than their texts.
    for id in [json!(7), json!("7"), json!(-1)] {
        let body = json!({"id": id, "args": {"echo": id}}).to_string();
        let answer = answer("ping", &body, &|answer| answer["id"] == id);
        assert_eq!(answer["data"]["echo"], id, "{answer}");
    }
    let large = json!({"id": "large", "args": {"echo": "x".repeat(300 << 10)}}).to_string();
    let refused = answer("ping", &large, &|answer| answer["id"] == "large");
    assert_eq!(refused["error"]["code"], "E_TOO_LARGE", "{refused}");
    let refused = answer("ping", &"x".repeat(300 << 10), &|answer| {
        answer["id"].is_null()
    });
    assert_eq!(refused["error"]["code"], "E_TOO_LARGE", "{refused}");
    for verb in ["ping", "status", "config.get", "query.list"] {
        let refused = fleet.request(verb, &json!([1]));
        assert_eq!(refused["error"]["code"], "E_ARGS", "{verb}: {refused}");
    }
    fleet.site.stop();
}

#[test]
fn rows_are_waited_for_once_however_often_they_are_asked_for() {
    let mut fleet = Fleet::new();
    fleet.start();
    let from = fleet.observer.now();
    let body = json!({"id": "a", "args": {"stream": "Alerts", "seconds": 2}}).to_string();
    let topic = format!("{R}/request/tap");
    for _ in 0..3 {
        fleet.publish(OPERATOR, &topic, false, body.as_bytes());
    }
    let longer = fleet.request("tap", &json!({"stream": "Alerts", "seconds": 3}));
    assert_eq!(longer["status"], "ok", "{longer}");
    let published = fleet.observer.since(from);
    let answers = published
        .iter()
        .filter(|one| one.topic.ends_with("/response/tap") && one.json()["id"] == "a");
    assert_eq!(answers.count(), 1);
    fleet.site.stop();
}

fn is_answered(fleet: &Fleet, from: Moment, id: &str) -> bool {
    let published = fleet.observer.since(from);
    let mut answers = published
        .iter()
        .filter(|one| one.topic.contains("/response/"));
    answers.any(|one| one.json()["id"] == id)
}

#[test]
fn a_request_that_was_kept_is_ignored_and_counted() {
    let mut fleet = Fleet::new();
    let topic = format!("{R}/request/ping");
    let body = |id: &str| json!({"v": 1, "id": id, "args": {}}).to_string();
    fleet.publish(OPERATOR, &topic, true, body("kept").as_bytes());
    let from = fleet.observer.now();
    fleet.start();
    assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
    assert!(!is_answered(&fleet, from, "kept"));
    let status = fleet.request("status", &json!({}));
    assert_eq!(
        status["data"]["control"]["requests_retained"], 1,
        "{status}"
    );
    // Neither was it sent while the node was away, to be obeyed late.
    fleet.site.stop();
    fleet.publish(OPERATOR, &topic, false, body("missed").as_bytes());
    fleet.start();
    assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
    assert!(!is_answered(&fleet, from, "missed"));
}

#[test]
fn what_takes_something_away_must_be_signed() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    for (c, rev) in [(2, 1), (3, 2)] {
        let reported = fleet.apply(&fleet.signed(rev, &fleet.document(c)));
        assert_eq!(reported["status"], "in_sync", "{reported:#}");
    }
    for verb in ["config.rollback", "restart", "outbox.purge"] {
        let answer = fleet.request(verb, &json!({}));
        assert_eq!(answer["error"]["code"], "E_UNSIGNED", "{verb}: {answer}");
        let stranger = Key::new().request(NODE, verb, "stranger", now(), "{}");
        let id = "stranger";
        let answer = fleet.ask(verb, id, stranger.as_bytes());
        assert_eq!(answer["error"]["code"], "E_KEY", "{verb}: {answer}");
    }
    assert_eq!(flow.made_by(), 3);
    let tried = |said: &Value| said["details"]["id"] == "stranger";
    let from = fleet.observer.beginning();
    let told = fleet.said("the stranger", from, "event", tried);
    assert_eq!(told["details"]["code"], "E_KEY", "{told}");
    let from = fleet.observer.now();
    let ts = now();
    // After one from a clock that is years ahead no other would be newer.
    let answer = fleet.request_signed("config.rollback", ts + 365 * 86_400_000, "{}");
    assert_eq!(answer["error"]["code"], "E_REQUEST", "{answer}");
    let answer = fleet.request_signed("config.rollback", ts, "{}");
    assert_eq!(answer["status"], "ok", "{answer}");
    let reported = fleet.reported("the rollback", from, |said| said["code"] == "E_OPERATOR");
    assert_eq!(reported["active"]["rev"], 1, "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    // What was recorded on the way is obeyed no second time, not after a restart either.
    let again = fleet.key.request(NODE, "restart", "again", ts, "{}");
    for _ in 0..2 {
        let answer = fleet.ask("restart", "again", again.as_bytes());
        assert_eq!(answer["error"]["code"], "E_REPLAY", "{answer}");
        fleet.site.kill();
        fleet.start();
    }
    flow.finish();
}

/// Milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "a request says when it was made, by the clock of who makes it"
)]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

#[test]
fn a_node_that_is_only_watched_takes_nothing_in() {
    let mut fleet = Fleet::with("mode = \"monitor\"\nmetrics_interval = \"1 s\"\n");
    let from = fleet.observer.now();
    fleet.start();
    let flow = fleet.flow();
    fleet.push(&fleet.signed(1, &fleet.document(2)));
    let ping = json!({"v": 1, "id": "a", "args": {}}).to_string();
    fleet.publish(
        OPERATOR,
        &format!("{R}/request/ping"),
        false,
        ping.as_bytes(),
    );
    let pushed = fleet.observer.now();
    for _ in 0..2 {
        let moment = fleet.observer.now();
        fleet.said("metrics", moment, "metrics", |_| true);
    }
    assert_eq!((flow.made_by(), fleet.changes()), (1, 0));
    let answers = fleet.observer.since(pushed);
    assert!(answers.iter().all(|one| !one.topic.contains("/response/")));
    let reported = fleet.observer.since(from);
    assert!(reported.iter().all(|one| one.json()["desired"]["rev"] != 1));
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_node_that_only_validates_applies_nothing() {
    let mut fleet = Fleet::with("mode = \"validate\"\n");
    fleet.start();
    let flow = fleet.flow();
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(reported["status"], "valid", "{reported:#}");
    let faulty = fleet.document_with(2, "SELECT;\n");
    let reported = fleet.apply(&fleet.signed(2, &faulty));
    assert_eq!(
        (&reported["status"], &reported["code"]),
        (&json!("rejected"), &json!("E_CONFIG"))
    );
    for verb in ["config.rollback", "restart", "outbox.purge", "outbox.pause"] {
        let answer = fleet.request_signed(verb, now(), "{}");
        assert_eq!(answer["error"]["code"], "E_MODE", "{verb}: {answer}");
    }
    assert_eq!((flow.made_by(), fleet.changes()), (1, 0));
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_node_that_believes_everybody_says_so() {
    let mut fleet = Fleet::with("mode = \"unsigned\"\n");
    fleet.start();
    let log = fleet.site.log();
    let warning = "warning: whoever may publish to the broker may change everything";
    assert!(log.contains(warning), "{log}");
    let flow = fleet.flow();
    let reported = fleet.apply(&envelope(1, &fleet.document(2)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    // What is signed all the same is held to its word.
    let mut foreign = fleet.signed(2, &fleet.document(3));
    foreign["rev"] = json!(3);
    let reported = fleet.apply(&foreign);
    assert_eq!(reported["code"], "E_SIGNATURE", "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn what_is_let_in_follows_the_local_file() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let connections = fleet.data_connections();
    let retained = "eventflux/v1/_group/pumps/config/desired";
    let document = envelope(1, &fleet.document(2));
    let signed = fleet.key.signed("_group/pumps", document).to_string();
    fleet.publish(OPERATOR, retained, true, signed.as_bytes());
    assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
    assert_eq!(flow.made_by(), 1);
    let from = fleet.observer.now();
    fleet.configure(1, "mode = \"off\"\n");
    fleet.site.signal("HUP");
    let is_gone = |state: &Value| state["state"] == "offline";
    fleet.said("it says farewell", from, "state", is_gone);
    flow.goes_on();
    let from = fleet.observer.now();
    fleet.configure(1, "mode = \"signed\"\ngroups = [\"pumps\"]\n");
    fleet.site.signal("HUP");
    fleet.online(from);
    // It is in that group now, and what is kept for it is for this node too.
    let is_there = |said: &Value| said["status"] == "in_sync" && said["active"]["rev"] == 1;
    let reported = fleet.reported("the group's document", from, is_there);
    assert_eq!(reported["active"]["origin"], "_group/pumps", "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    assert_eq!(fleet.data_connections(), connections);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_node_begins_anew_when_it_is_asked() {
    let mut fleet = Fleet::new();
    let birth = fleet.start();
    let flow = fleet.flow();
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    let from = fleet.observer.now();
    let answer = fleet.request_signed("restart", now(), "{}");
    assert_eq!(answer["status"], "ok", "{answer}");
    fleet.said("its farewell", from, "state", |state| {
        state["state"] == "offline" && state["conn"] == birth["conn"]
    });
    let again = fleet.said("its birth", from, "state", |state| {
        state["state"] == "online" && state["conn"].as_u64() > birth["conn"].as_u64()
    });
    assert_eq!(again["config"]["rev"], 1, "{again}");
    assert_eq!(flow.made_by(), 2);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn it_is_the_same_with_mqtt_5() {
    let mut fleet = Fleet::with("mode = \"signed\"\nmqtt.version = \"5\"\n");
    let topic = format!("{R}/request/ping");
    fleet.publish(OPERATOR, &topic, true, b"{\"id\":\"kept\",\"args\":{}}");
    let from = fleet.observer.now();
    let birth = fleet.start();
    let flow = fleet.flow();
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    let status = fleet.request("status", &json!({}));
    assert_eq!(
        status["data"]["control"]["requests_retained"], 1,
        "{status}"
    );
    assert!(!is_answered(&fleet, from, "kept"));
    let late = json!({"v": 1, "state": "offline", "conn": 0}).to_string();
    let from = fleet.observer.now();
    fleet.publish(ADMIN, &format!("{R}/state"), true, late.as_bytes());
    fleet.online(from);
    // A broker of that version leaves out what is too large for us.
    fleet.push_bytes(&vec![b'x'; 3 << 20]);
    assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
    let from = fleet.observer.now();
    fleet.site.kill();
    let death = fleet.said("the death", from, "state", |state| {
        state["state"] == "offline"
    });
    assert_eq!(death["conn"], birth["conn"], "{death}");
    fleet.start();
    assert_eq!(flow.made_by(), 2);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn home_assistant_finds_the_node_and_its_alerts() {
    let mut fleet = Fleet::with("mode = \"monitor\"\nhome_assistant = true\n");
    let from = fleet.observer.now();
    fleet.start();
    let is_own = |topic: &str| {
        let levels: Vec<&str> = topic.split('/').collect();
        levels[0] == "homeassistant" && levels[2] == NODE && levels.last() == Some(&"config")
    };
    let found = fleet.observer.wait("an announcement", from, |message| {
        is_own(&message.topic) && message.json()["state_topic"] == format!("{R}/state")
    });
    assert!(found.json()["unique_id"].is_string(), "{found:?}");
    fleet.site.stop();
    // What it announces is kept, so that Home Assistant finds it whenever it starts.
    let kept = crate::operator::kept(&fleet.broker, "homeassistant/#");
    assert!(kept.iter().any(|one| one.topic == found.topic), "{kept:?}");
}

#[test]
fn without_the_table_there_is_no_connection() {
    let mut fleet = Fleet::with("mode = \"off\"\n");
    fleet.site.start();
    let flow = fleet.flow();
    fleet.push(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(flow.made_by(), 1);
    flow.finish();
    fleet.site.stop();
    assert!(!fleet.broker.log().contains("eventflux-control"));
    let all = fleet.observer.since(fleet.observer.beginning());
    let others: Vec<Value> = all
        .iter()
        .filter(|one| !one.topic.ends_with("/desired"))
        .map(|one| json!(one.topic))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

/// Sets the clock of a program back by `OFFSET_S`, as that of a gateway without a battery is.
const SLOW_CLOCK: &str = "
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
  int failed = syscall(SYS_clock_gettime, clock, time);
  if (!failed && clock == CLOCK_REALTIME) time->tv_sec -= OFFSET_S;
  return failed;
}
";
/// Thirty years: there was no such daemon then.
const OFFSET_S: u64 = 30 * 365 * 86_400;

#[test]
fn a_clock_that_is_not_set_expires_nothing() {
    let mut fleet = Fleet::new();
    let source = fleet.site.path("clock.c");
    std::fs::write(&source, SLOW_CLOCK).unwrap();
    let library = fleet.site.path("clock.so");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", &format!("-DOFFSET_S={OFFSET_S}"), "-o"])
        .args([&library, &source])
        .output()
        .expect("a C compiler, which the build needs too");
    assert!(made.status.success(), "{made:?}");
    let library = library.to_str().unwrap().to_owned();
    fleet.site.environment.push(("LD_PRELOAD", library));
    let birth = fleet.start();
    assert_eq!(birth["clock"], "unsynced", "{birth}");
    let flow = fleet.flow();
    let limited = |rev: u64, c: u64, field: &str, time: &str| {
        let mut asked = envelope(rev, &fleet.document(c));
        asked[field] = json!(time);
        fleet.key.signed(NODE, asked)
    };
    // Over by any clock; and not yet, by this one.
    let over = limited(1, 2, "expires", "1990-01-01T00:00:00.000Z");
    let later = limited(2, 3, "not_before", "2026-06-01T00:00:00.000Z");
    for (document, c) in [(over, 2), (later, 3)] {
        let reported = fleet.apply(&document);
        assert_eq!(reported["status"], "in_sync", "{reported:#}");
        assert!(
            reported["warnings"].to_string().contains("clock"),
            "{reported:#}"
        );
        assert_eq!(flow.made_by(), c);
    }
    flow.finish();
    // By a clock that is right both count.
    fleet.site.stop();
    fleet.site.environment.clear();
    let birth = fleet.start();
    assert_eq!(birth["clock"], "synced", "{birth}");
    let mut over = envelope(3, &fleet.document(4));
    over["expires"] = json!("2026-06-01T00:00:00.000Z");
    let reported = fleet.apply(&fleet.key.signed(NODE, over));
    assert_eq!(reported["code"], "E_EXPIRED", "{reported:#}");
    let mut later = envelope(4, &fleet.document(5));
    later["not_before"] = json!(now() + 2_000);
    let begin = Instant::now();
    let reported = fleet.apply(&fleet.key.signed(NODE, later));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert!(begin.elapsed() > Duration::from_secs(2), "too early");
    fleet.site.stop();
}
