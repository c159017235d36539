//! What a node refuses, each with its code and with nothing else happening: no revision is used
//! up, nothing is written, opened or begun again, and numbers flow on. And what it never says,
//! however it is asked: a secret.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::client::{Client, Version};
use crate::fleet::{Fleet, Flow, NODE, OPERATOR, PASSWORD, R};
use crate::mosquitto::DEADLINE;
use crate::signing::{Key, base64, envelope, sha256};

/// Beyond what a node takes by default.
const TOO_MUCH: usize = 300 << 10;
/// What a bomb comes to.
const BOMB: u64 = 256 << 20;

/// What lies in a folder, by name.
fn listing(folder: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        found.insert(name, entry.metadata().unwrap().len());
    }
    found
}

/// A node with a document in force, and what must not change by what it refuses.
struct Steady {
    fleet: Fleet,
    flow: Flow,
    connections: usize,
    documents: BTreeMap<String, u64>,
}

/// The revision in force, and the configuration.
const REV: u64 = 5;

impl Steady {
    fn new() -> Steady {
        let mut fleet = Fleet::new();
        fleet.start();
        let flow = fleet.flow();
        let reported = fleet.apply(&fleet.signed(REV, &fleet.document(2)));
        assert_eq!(reported["status"], "in_sync", "{reported:#}");
        Steady {
            connections: fleet.data_connections(),
            documents: listing(&fleet.site.path("store/control/docs")),
            flow,
            fleet,
        }
    }

    /// Publishes a document that is to be refused.
    fn refuses(&self, what: &str, payload: &[u8], code: &str) -> Value {
        let from = self.fleet.observer.now();
        self.fleet.push_bytes(payload);
        let reported = self
            .fleet
            .reported(what, from, |said| said["code"].is_string());
        assert_eq!(reported["code"], code, "{what}: {reported:#}");
        let status = if code == "E_EXPIRED" {
            "expired"
        } else {
            "rejected"
        };
        assert_eq!(reported["status"], status, "{what}: {reported:#}");
        assert_eq!(reported["active"]["rev"], REV, "{what}: {reported:#}");
        let first = &reported["errors"][0]["message"];
        assert!(first.is_string(), "{what}: nobody says why: {reported:#}");
        reported
    }

    /// Nothing has come of any of it.
    fn end(self) {
        let Steady {
            mut fleet,
            flow,
            connections,
            documents,
        } = self;
        assert_eq!(flow.made_by(), 2);
        assert_eq!(fleet.data_connections(), connections);
        assert_eq!(fleet.changes(), 1);
        assert_eq!(listing(&fleet.site.path("store/control/docs")), documents);
        // No revision is used up.
        let next = fleet.apply(&fleet.signed(REV + 1, &fleet.document(3)));
        assert_eq!(next["status"], "in_sync", "{next:#}");
        assert_eq!(flow.made_by(), 3);
        flow.finish();
        fleet.site.stop();
    }
}

#[test]
fn what_is_forged_is_refused() {
    let steady = Steady::new();
    let fleet = &steady.fleet;
    let good = fleet.signed(1_000, &fleet.document(9));
    let refuses = |what: &str, envelope: &Value, code: &str| {
        steady.refuses(what, envelope.to_string().as_bytes(), code);
    };
    let mut bare = good.clone();
    bare.as_object_mut().unwrap().remove("sig");
    refuses("not signed", &bare, "E_UNSIGNED");
    let stranger = Key::new();
    let foreign = stranger.signed(NODE, envelope(1_000, &fleet.document(9)));
    refuses("signed by a stranger", &foreign, "E_KEY");
    let mut posing = foreign;
    posing["sig"]["kid"] = json!(fleet.key.kid());
    refuses(
        "signed by a stranger who poses as ours",
        &posing,
        "E_SIGNATURE",
    );
    let mut content = good.clone();
    content["content"] = json!(fleet.document(8));
    refuses("another content", &content, "E_SHA256");
    content["sha256"] = json!(sha256(fleet.document(8).as_bytes()));
    refuses("another content and its hash", &content, "E_SIGNATURE");
    for (field, value) in [
        ("rev", json!(1_001)),
        ("mode", json!("validate")),
        ("confirm", json!("operator")),
        ("confirm_s", json!(2)),
        ("state_policy", json!("discard")),
        ("not_before", json!("2020-01-01T00:00:00.000Z")),
        ("expires", json!("2090-01-01T00:00:00.000Z")),
        ("base_sha256", json!(sha256(fleet.document(2).as_bytes()))),
    ] {
        let mut changed = good.clone();
        changed[field] = value;
        refuses(field, &changed, "E_SIGNATURE");
    }
    let other = fleet
        .key
        .signed("pump-8", envelope(1_000, &fleet.document(9)));
    refuses("signed for another node", &other, "E_SIGNATURE");
    let mut named = other;
    named["node"] = json!("pump-8");
    refuses("for another node by name", &named, "E_NODE");
    // The key is not trusted any more.
    let path = fleet.site.path("trusted.d/fleet.pub");
    std::fs::remove_file(&path).unwrap();
    refuses("of a key that was removed", &good, "E_KEY");
    fleet.trust(&fleet.key, "fleet.pub");
    // Somebody else may write there.
    crate::fleet::set_mode(&path, 0o666);
    refuses("of a key that anybody may replace", &good, "E_KEY");
    crate::fleet::set_mode(&path, 0o644);
    steady.end();
}

#[test]
fn what_is_broken_too_large_or_old_is_refused() {
    let steady = Steady::new();
    let fleet = &steady.fleet;
    let sign = |envelope: Value| fleet.key.signed(NODE, envelope);
    let refuses = |what: &str, envelope: Value, code: &str| {
        steady.refuses(what, envelope.to_string().as_bytes(), code);
    };
    let good = fleet.signed(1_000, &fleet.document(9)).to_string();
    for cut in [1, good.len() / 2, good.len() - 1] {
        steady.refuses("truncated", &good.as_bytes()[..cut], "E_ENVELOPE");
    }
    for nonsense in [&b"[]"[..], b"17", b"\xff\xfe", b"{}"] {
        let from = fleet.observer.now();
        fleet.push_bytes(nonsense);
        let reported = fleet.reported("nonsense", from, |_| true);
        let code = reported["code"].as_str().unwrap();
        assert!(["E_ENVELOPE", "E_VERSION"].contains(&code), "{reported:#}");
    }
    let mut version = envelope(1_000, &fleet.document(9));
    version["v"] = json!(2);
    refuses("of another version", sign(version), "E_VERSION");
    refuses(
        "downgraded",
        fleet.signed(REV - 1, &fleet.document(9)),
        "E_REV_STALE",
    );
    refuses(
        "of the same number",
        fleet.signed(REV, &fleet.document(9)),
        "E_REV_CONFLICT",
    );
    let mut based = envelope(1_000, &fleet.document(9));
    based["base_sha256"] = json!(sha256(b"what never was"));
    refuses("made from something else", sign(based), "E_BASE");
    let mut expired = envelope(1_000, &fleet.document(9));
    expired["expires"] = json!("2026-01-01T00:00:00.000Z");
    refuses("over", sign(expired), "E_EXPIRED");
    let long = format!("{}#{}\n", fleet.document(9), "x".repeat(TOO_MUCH));
    refuses("oversized", sign(envelope(1_000, &long)), "E_TOO_LARGE");
    let packed = |bytes: &[u8], hash: &str| {
        let mut packed = envelope(1_000, "");
        packed["encoding"] = json!("zstd+base64");
        packed["content"] = json!(base64(bytes));
        packed["sha256"] = json!(hash);
        sign(packed)
    };
    let bomb = zstd::encode_all(std::io::repeat(b'#').take(BOMB), 3).unwrap();
    assert!(bomb.len() < TOO_MUCH / 8);
    let hash = sha256(b"nobody computes it");
    refuses("a bomb", packed(&bomb, &hash), "E_TOO_LARGE");
    let whole = zstd::encode_all(fleet.document(9).as_bytes(), 3).unwrap();
    let hash = sha256(fleet.document(9).as_bytes());
    let half = packed(&whole[..whole.len() / 2], &hash);
    refuses("packed and truncated", half, "E_ENCODING");
    let mut text = envelope(1_000, "&&&");
    text["encoding"] = json!("base64");
    refuses("not Base64", sign(text), "E_ENCODING");
    steady.end();
}

#[test]
fn what_only_the_gateway_may_say_is_refused() {
    let steady = Steady::new();
    let fleet = &steady.fleet;
    let mut rev = 1_000;
    let mut refuses = |what: &str, more: &str, code: &str| {
        rev += 1;
        let content = format!("{}{more}\n", fleet.document(9));
        let text = fleet.signed(rev, &content).to_string();
        let reported = steady.refuses(what, text.as_bytes(), code);
        let error = &reported["errors"][0];
        assert_eq!(error["path"], "desired.toml", "{reported:#}");
        assert!(error["line"].as_u64() > Some(3), "{reported:#}");
        reported
    };
    for (what, more) in [
        ("the mode", "[control]\nmode = \"unsigned\""),
        (
            "the broker",
            "[control]\nmqtt.broker = \"mqtt://127.0.0.1:1\"",
        ),
        ("whom to trust", "[security]\ntrusted_path = \"/tmp\""),
        ("the store", "[store]\npath = \"elsewhere\""),
        ("the secrets", "[secrets]\npath = \"/tmp\""),
    ] {
        refuses(what, more, "E_LOCAL_ONLY");
    }
    let literal = "[streams.Alerts]\nmqtt.username = \"a\"\nmqtt.password = \"never-say-this\"";
    let reported = refuses("a literal secret", literal, "E_CONFIG").to_string();
    assert!(!reported.contains("never-say-this"), "{reported}");
    assert_eq!(steady.flow.made_by(), 2);
    assert_eq!(fleet.changes(), 1);
}

#[test]
fn what_is_larger_than_anything_is_refused_unread() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let connections = fleet.data_connections();
    for bytes in [900 << 10, 3 << 20] {
        let from = fleet.observer.now();
        fleet.push_bytes(&vec![b'x'; bytes]);
        let reported = fleet.reported("it is refused", from, |said| said["code"].is_string());
        assert_eq!(reported["code"], "E_TOO_LARGE", "{reported:#}");
    }
    // It still listens, and does not come back to that message again and again.
    for _ in 0..3 {
        assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
        flow.goes_on();
    }
    let log = fleet.broker.log();
    let connected = log.matches(&format!("as eventflux-control-{NODE}")).count();
    assert!(connected <= 3, "{connected} connections");
    assert_eq!(fleet.data_connections(), connections);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn state_that_must_not_be_lost_is_kept() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let stateful = |c: u64, what: &str| {
        let sums = "CREATE STREAM Sums (n BIGINT);\n";
        let more = format!("{sums}INSERT INTO Sums SELECT {what}(n) AS n FROM Readings;\n");
        fleet.document_with(c, &more)
    };
    let reported = fleet.apply(&fleet.signed(1, &stateful(2, "sum")));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    flow.goes_on();
    let mut asked = envelope(2, &stateful(3, "max"));
    asked["state_policy"] = json!("keep_or_fail");
    let reported = fleet.apply(&fleet.key.signed(NODE, asked));
    assert_eq!(reported["status"], "rejected", "{reported:#}");
    assert_eq!(reported["code"], "E_STATE", "{reported:#}");
    assert_eq!((flow.made_by(), fleet.changes()), (2, 1));
    // Where nothing is lost the same policy lets it.
    let mut asked = envelope(3, &stateful(4, "sum"));
    asked["state_policy"] = json!("keep_or_fail");
    let reported = fleet.apply(&fleet.key.signed(NODE, asked));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 4);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn somebody_else_at_the_broker_gets_nowhere() {
    let mut fleet = Fleet::with("mode = \"unsigned\"\n");
    fleet.start();
    let from = fleet.observer.now();
    let document = envelope(1, &fleet.document(2)).to_string();
    let request = b"{\"id\":\"a\",\"args\":{}}";
    // With the accounts that the access list has: the node's own, another node's, and the
    // observer's.
    for who in [
        (NODE, PASSWORD),
        ("pump-8", "of-another"),
        ("observer", "looks"),
    ] {
        let retained = format!("{R}/config/desired");
        fleet.publish(who, &retained, true, document.as_bytes());
        fleet.publish(who, &format!("{R}/request/ping"), false, request);
        if who.0 != NODE {
            fleet.publish(who, &format!("{R}/state"), true, b"{}");
        }
    }
    assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
    let published = fleet.observer.since(from);
    let foreign = |topic: &str| {
        let is_it = |message: &&crate::operator::Message| message.topic == format!("{R}/{topic}");
        published.iter().filter(is_it).count()
    };
    assert_eq!(foreign("config/desired"), 0);
    assert_eq!(foreign("request/ping"), 1);
    assert_eq!(fleet.changes(), 0);
    // What is right reaches it, so that the silence above says something.
    fleet.publish(
        OPERATOR,
        &format!("{R}/config/desired"),
        true,
        document.as_bytes(),
    );
    fleet.end_of(from, &json!(1));
}

#[test]
fn who_takes_its_place_at_the_broker_disturbs_nothing_else() {
    const TIMES: usize = 5;
    let mut fleet = Fleet::new();
    let mut last = fleet.start()["conn"].clone();
    let flow = fleet.flow();
    let connections = fleet.data_connections();
    for _ in 0..TIMES {
        let from = fleet.observer.now();
        // Another node's account: brokers know connections by their ids, not by their accounts.
        let (who, id) = (
            ("pump-8", "of-another"),
            format!("eventflux-control-{NODE}"),
        );
        let (port, version) = (fleet.broker.port, Version::V311);
        let taken = Client::connect_as(Some(who), port, &id, version, false, DEADLINE);
        let again = fleet.said("it comes back", from, "state", |state| {
            state["state"] == "online" && state["conn"].as_u64() > last.as_u64()
        });
        drop(taken);
        last = again["conn"].clone();
        assert_eq!(fleet.kept("state")["conn"], last);
        flow.goes_on();
    }
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    assert_eq!(fleet.data_connections(), connections);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_secret_is_never_said() {
    const LITERAL: &str = "literal-of-the-local-file";
    const STORED: &str = "stored-on-the-gateway";
    let mut fleet = Fleet::with("mode = \"signed\"\npublish_active = true\n");
    fleet.secret("data", STORED);
    let control = format!(
        "mode = \"signed\"\npublish_active = true\nmetrics_interval = \"1 s\"\n\
         [streams.Alerts]\nmqtt.username = \"a\"\nmqtt.password = \"{LITERAL}\"\n"
    );
    fleet.configure(1, &control);
    fleet.start();
    let flow = fleet.flow();
    let ask_all = || {
        for (verb, args) in [
            ("status", json!({})),
            ("config.get", json!({})),
            ("config.diff", json!({"content": fleet.document(3)})),
            ("query.list", json!({})),
            ("diagnostics", json!({})),
            ("outbox.status", json!({})),
        ] {
            fleet.request(verb, &args);
        }
    };
    ask_all();
    let more = "[streams.Alerts]\nmqtt.username = \"a\"\nmqtt.password = \"${secret:data}\"\n";
    let content = format!("{}{more}", fleet.document(2));
    let reported = fleet.apply(&fleet.signed(1, &content));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    ask_all();
    // A fault at the very place.
    let broken = content.replace("\"${secret:data}\"", &format!("\"{LITERAL}"));
    fleet.apply(&fleet.signed(2, &broken));
    let broken = content.replace("mqtt.username", "mqtt.nonsense");
    fleet.apply(&fleet.signed(3, &broken));
    ask_all();
    let from = fleet.observer.now();
    fleet.observer.wait("metrics", from, |message| {
        message.topic == format!("{R}/metrics")
    });
    flow.finish();
    fleet.site.stop();
    let mut said = 0;
    for message in fleet.observer.since(fleet.observer.beginning()) {
        let text = String::from_utf8_lossy(&message.payload);
        // What an operator has written is his.
        if message.topic.ends_with("/desired") || message.topic.contains("/request/") {
            continue;
        }
        said += 1;
        for secret in [LITERAL, STORED, PASSWORD] {
            assert!(
                !text.contains(secret),
                "{} says '{secret}': {text}",
                message.topic
            );
        }
    }
    assert!(said > 30, "only {said} messages");
    let log = fleet.site.log();
    for secret in [LITERAL, STORED, PASSWORD] {
        assert!(!log.contains(secret), "the log says '{secret}'");
    }
}
