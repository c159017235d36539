//! A gateway that is configured from afar, by the real binary, with a broker that wants passwords
//! and has the access list of docs/operate.md: documents that come, that come again, that two
//! people write at once; groups, confirmation, and what is changed at the gateway itself. Numbers
//! flow through all of it, and every one of them comes out.

use std::process::Command;

use serde_json::{Value, json};

use crate::client::{Client, Version};
use crate::fleet::{Fleet, NODE, OPERATOR, R};
use crate::mosquitto::DEADLINE;
use crate::signing::{envelope, sha256};
use crate::wait::wait_until;

/// How often the same document comes.
const REPEATS: u16 = 100;

/// Whoever reads reports with a type for each field can read all of them.
fn is_of_the_contract(reported: &Value) {
    let is_text = |value: &Value| value.is_string() || value.is_null();
    assert_eq!(reported["v"], 1, "{reported:#}");
    for name in ["status", "ts"] {
        assert!(reported[name].is_string(), "{name}: {reported:#}");
    }
    for name in ["phase", "code"] {
        assert!(is_text(&reported[name]), "{name}: {reported:#}");
    }
    for name in ["desired", "active"] {
        let (rev, sha256) = (&reported[name]["rev"], &reported[name]["sha256"]);
        assert!(reported[name].is_object(), "{name}: {reported:#}");
        assert!(rev.is_u64() || rev.is_null(), "{name}: {reported:#}");
        assert!(is_text(sha256), "{name}: {reported:#}");
    }
    assert!(reported["active"]["since"].is_string(), "{reported:#}");
    for name in ["errors", "warnings"] {
        assert!(reported[name].is_array(), "{name}: {reported:#}");
    }
    let changed = &reported["changed"];
    for name in ["added", "removed", "restarted"] {
        assert!(changed[name].is_array(), "{name}: {reported:#}");
    }
    assert!(changed["kept"].is_u64(), "{reported:#}");
}

fn expect(reported: &Value, status: &str, code: Option<&str>) {
    is_of_the_contract(reported);
    let is_so = reported["status"] == status && reported["code"].as_str() == code;
    assert!(is_so, "not {status} {code:?}: {reported:#}");
}

#[test]
fn a_document_is_taken_once_however_often_it_comes() {
    let mut fleet = Fleet::new();
    let birth = fleet.start();
    assert_eq!(birth["config"]["rev"], Value::Null, "{birth}");
    let flow = fleet.flow();
    assert_eq!(flow.made_by(), 1);
    let connections = fleet.data_connections();
    let first = fleet.signed(1, &fleet.document(2));
    let reported = fleet.apply(&first);
    expect(&reported, "in_sync", None);
    assert_eq!(reported["phase"], "committed", "{reported}");
    for part in ["desired", "active"] {
        assert_eq!(reported[part]["rev"], 1, "{reported}");
        assert_eq!(reported[part]["sha256"], first["sha256"], "{reported}");
    }
    assert_eq!(flow.made_by(), 2);
    let from = fleet.observer.now();
    let port = fleet.broker.port;
    let account = Some(OPERATOR);
    let again = Client::connect_as(account, port, "again", Version::V311, false, DEADLINE);
    let mut again = again.unwrap();
    for id in 1..=REPEATS {
        let (topic, text) = (format!("{R}/config/desired"), first.to_string());
        again.retain(&topic, id, text.as_bytes()).unwrap();
        again.next().unwrap().expect("the broker has it");
    }
    // What comes behind them has its turn when they have had theirs.
    let second = fleet.signed(2, &fleet.document(3));
    expect(&fleet.apply(&second), "in_sync", None);
    assert_eq!(flow.made_by(), 3);
    for message in fleet.observer.since(from) {
        let said = message.json();
        let is_second = said["desired"]["rev"] == 2 || said["status"] == "in_sync";
        let is_report = message.topic == format!("{R}/config/reported");
        assert!(!is_report || is_second, "said of a repeat: {said}");
    }
    assert_eq!(fleet.changes(), 2);
    assert_eq!(fleet.data_connections(), connections, "nobody began again");
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_document_that_is_withdrawn_stays_in_force() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    expect(
        &fleet.apply(&fleet.signed(1, &fleet.document(2))),
        "in_sync",
        None,
    );
    let from = fleet.observer.now();
    fleet.push_bytes(b"");
    let is_nothing = |said: &Value| said["desired"] == json!({"rev": null, "sha256": null});
    let reported = fleet.reported("nothing is desired", from, is_nothing);
    expect(&reported, "in_sync", None);
    assert_eq!(reported["active"]["rev"], 1, "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    assert_eq!(fleet.changes(), 1);
    assert_eq!(fleet.kept("config/desired"), Value::Null);
    // Also over a restart, as it is on the disk.
    fleet.site.kill();
    let birth = fleet.start();
    assert_eq!(birth["config"]["rev"], 1, "{birth}");
    assert!(is_nothing(&fleet.kept("config/reported")));
    assert_eq!(flow.made_by(), 2);
    assert_eq!(fleet.changes(), 0);
    // An older one does not come back that way.
    let stale = fleet.signed(1, &fleet.document(9));
    expect(&fleet.apply(&stale), "rejected", Some("E_REV_CONFLICT"));
    assert_eq!(flow.made_by(), 2);
    flow.finish();
}

#[test]
fn of_two_who_write_at_once_one_wins() {
    const ROUNDS: u64 = 4;
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let mut base = fleet.apply(&fleet.signed(1, &fleet.document(2)))["active"]["sha256"].clone();
    for round in 1..=ROUNDS {
        // Of one revision or of two: both were made from what is in force.
        let written = [0, 1].map(|who| {
            let rev = 10 * round + who * (round % 2);
            let mut one = envelope(rev, &fleet.document(10 * round + who));
            one["base_sha256"] = base.clone();
            fleet.key.signed(NODE, one)
        });
        let from = fleet.observer.now();
        fleet.push(&written[0]);
        if round > ROUNDS / 2 {
            // Else the second may come before the first was looked at, which then never is.
            fleet.reported("it is under way", from, |said| {
                said["status"] == "probation"
            });
        }
        fleet.push(&written[1]);
        // What is told last is what is kept: the word that one is in force may be in the report on
        // the other one.
        let winner = fleet.reported("one is in force", from, |said| {
            let shas = written.iter().map(|one| &one["sha256"]);
            shas.into_iter().any(|sha| said["active"]["sha256"] == *sha)
        });
        let won = usize::from(winner["active"]["sha256"] == written[1]["sha256"]);
        assert_eq!(
            winner["active"]["sha256"], written[won]["sha256"],
            "{winner}"
        );
        if won == 0 {
            let loser = fleet.reported("the other one's end", from, |said| {
                said["desired"]["sha256"] == written[1]["sha256"]
            });
            let code = if round % 2 == 0 {
                "E_REV_CONFLICT"
            } else {
                "E_BASE"
            };
            expect(&loser, "rejected", Some(code));
            assert_eq!(loser["active"]["sha256"], written[0]["sha256"], "{loser}");
        }
        assert!(won == 0 || round <= ROUNDS / 2, "{winner}");
        assert_eq!(flow.made_by(), 10 * round + u64::try_from(won).unwrap());
        base = winner["active"]["sha256"].clone();
    }
    let changes = usize::try_from(ROUNDS).unwrap() + 1;
    assert_eq!(fleet.changes(), changes);
    flow.finish();
}

#[test]
fn a_dry_run_says_what_check_says_and_changes_nothing() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let connections = fleet.data_connections();
    let validate = |rev: u64, content: &str| {
        let mut asked = envelope(rev, content);
        asked["mode"] = json!("validate");
        fleet.apply(&fleet.key.signed(NODE, asked))
    };
    expect(&validate(1, &fleet.document(2)), "valid", None);
    let faulty = fleet.document_with(2, "INSERT INTO Alerts SELECT nobody FROM Readings;\n");
    let faulty = faulty.replace("name = \"test\"", "name = \"test\"\nnonsense = 1");
    let reported = validate(2, &faulty);
    expect(&reported, "rejected", Some("E_CONFIG"));
    let local = fleet.site.path("desired.toml");
    std::fs::write(&local, &faulty).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_eventflux"))
        .args(["check", "--offline"])
        .arg(&local)
        .output()
        .unwrap();
    let said = String::from_utf8(check.stderr).unwrap();
    let errors = reported["errors"].as_array().unwrap();
    let told = said.lines().filter(|line| line.contains(": error: "));
    assert_eq!(errors.len(), told.count(), "{reported:#}\n{said}");
    for error in errors {
        assert_eq!(error["path"], "desired.toml");
        let message = error["message"].as_str().unwrap();
        assert!(said.contains(message), "{message}\n{said}");
        let place = format!("desired.toml:{}:{}", error["line"], error["col"]);
        assert!(said.contains(&place), "{place}\n{said}");
    }
    assert_eq!((flow.made_by(), fleet.changes()), (1, 0));
    assert_eq!(fleet.data_connections(), connections);
    flow.finish();
}

#[test]
fn an_operator_confirms_or_it_goes_back() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let ask = |rev: u64, c: u64, confirm_s: u64| {
        let mut asked = envelope(rev, &fleet.document(c));
        asked["confirm"] = json!("operator");
        asked["confirm_s"] = json!(confirm_s);
        fleet.key.signed(NODE, asked)
    };
    let confirmed = ask(1, 2, 600);
    let from = fleet.observer.now();
    fleet.push(&confirmed);
    fleet.reported("probation", from, |said| said["status"] == "probation");
    assert_eq!(flow.made_by(), 2);
    let wrong = fleet.request("config.confirm", &json!({"rev": 7}));
    assert_eq!(wrong["status"], "error", "{wrong}");
    let answer = fleet.request("config.confirm", &json!({"rev": 1}));
    assert_eq!(answer["status"], "ok", "{answer}");
    expect(&fleet.end_of(from, &json!(1)), "in_sync", None);
    // Nobody answers for the next one.
    let forgotten = ask(2, 3, 1);
    let from = fleet.observer.now();
    fleet.push(&forgotten);
    fleet.reported("probation", from, |said| said["status"] == "probation");
    let reported = fleet.end_of(from, &json!(2));
    expect(&reported, "rolled_back", Some("E_UNCONFIRMED"));
    assert_eq!(reported["active"]["rev"], 1, "{reported}");
    assert_eq!(flow.made_by(), 2);
    // It is not tried again, not by itself and not by a restart.
    fleet.site.kill();
    fleet.start();
    assert_eq!(flow.made_by(), 2);
    let late = fleet.request("config.confirm", &json!({"rev": 2}));
    assert_eq!(late["status"], "error", "{late}");
    flow.finish();
}

#[test]
fn a_group_is_configured_together_and_a_node_for_itself() {
    let mut fleet = Fleet::with("mode = \"signed\"\ngroups = [\"pumps\"]\n");
    fleet.start();
    let flow = fleet.flow();
    let for_group = |rev: u64, c: u64| {
        let asked = envelope(rev, &fleet.document(c));
        let signed = fleet.key.signed("_group/pumps", asked);
        let topic = "eventflux/v1/_group/pumps/config/desired";
        fleet.publish(OPERATOR, topic, true, signed.to_string().as_bytes());
        signed
    };
    let from = fleet.observer.now();
    let group = for_group(5, 2);
    let is_group =
        |said: &Value| said["status"] == "in_sync" && said["active"]["sha256"] == group["sha256"];
    fleet.reported("the group's document", from, is_group);
    assert_eq!(flow.made_by(), 2);
    // Its own counts for itself, and is the stronger one.
    expect(
        &fleet.apply(&fleet.signed(1, &fleet.document(3))),
        "in_sync",
        None,
    );
    assert_eq!(flow.made_by(), 3);
    for_group(6, 4);
    assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
    expect(
        &fleet.apply(&fleet.signed(2, &fleet.document(5))),
        "in_sync",
        None,
    );
    assert_eq!(flow.made_by(), 5);
    assert_eq!(fleet.changes(), 3);
    // What is signed for a group is for no node, and the other way round.
    let other = fleet
        .key
        .signed("_group/pumps", envelope(3, &fleet.document(6)));
    expect(&fleet.apply(&other), "rejected", Some("E_SIGNATURE"));
    assert_eq!(flow.made_by(), 5);
    flow.finish();
}

#[test]
fn what_is_changed_at_the_gateway_wins() {
    const SIGNED: &str = "mode = \"signed\"\n";
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let first = fleet.signed(1, &fleet.document(2));
    expect(&fleet.apply(&first), "in_sync", None);
    assert_eq!(flow.made_by(), 2);
    // A signal alone changes nothing.
    fleet.site.signal("HUP");
    fleet.site.wait_for("the same SQL");
    assert_eq!(flow.made_by(), 2);
    let from = fleet.observer.now();
    fleet.configure(3, SIGNED);
    fleet.site.signal("HUP");
    let is_override = |said: &Value| said["status"] == "local_override";
    fleet.reported("the override", from, is_override);
    assert_eq!(flow.made_by(), 3);
    fleet.push(&first);
    assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
    assert_eq!(flow.made_by(), 3);
    fleet.site.stop();
    let birth = fleet.start();
    assert_eq!(birth["config"]["status"], "local_override", "{birth}");
    assert_eq!(flow.made_by(), 3);
    expect(
        &fleet.apply(&fleet.signed(2, &fleet.document(4))),
        "in_sync",
        None,
    );
    assert_eq!(flow.made_by(), 4);
    // The same while it does not run.
    fleet.site.stop();
    fleet.configure(5, SIGNED);
    let birth = fleet.start();
    assert_eq!(birth["config"]["status"], "local_override", "{birth}");
    assert_eq!(flow.made_by(), 5);
    flow.finish();
}

#[test]
fn what_becomes_of_documents_is_told_as_it_happens() {
    let mut fleet = Fleet::new();
    let from = fleet.observer.now();
    fleet.start();
    fleet.apply(&fleet.signed(1, &fleet.document(2)));
    fleet.apply(&fleet.signed(2, &fleet.document_with(3, "SELECT;\n")));
    let mut asked = envelope(3, &fleet.document(4));
    asked["confirm"] = json!("operator");
    fleet.apply(&fleet.key.signed(NODE, asked));
    for (event, rev) in [
        ("config.applied", 1),
        ("config.confirmed", 1),
        ("config.rejected", 2),
        ("config.applied", 3),
        ("config.rolled_back", 3),
    ] {
        let what = format!("{event} of {rev}");
        let is_it = |said: &Value| said["event"] == event && said["details"]["rev"] == rev;
        let said = fleet.said(&what, from, "event", is_it);
        assert!(
            said["reason"].is_string() && said["ts"].is_string(),
            "{said}"
        );
        if event == "config.applied" {
            assert_eq!(said["details"]["signed_by"], fleet.key.kid(), "{said}");
        }
    }
    // What was told was true when it was told, and is not kept for those who come later.
    assert_eq!(fleet.kept("event"), Value::Null);
    fleet.site.stop();
}

#[test]
fn the_running_configuration_is_shown() {
    let mut fleet = Fleet::with("mode = \"signed\"\npublish_active = true\n");
    fleet.start();
    let content = fleet.document(2);
    let from = fleet.observer.now();
    expect(&fleet.apply(&fleet.signed(1, &content)), "in_sync", None);
    let sha = sha256(content.as_bytes());
    fleet.said("what runs", from, "config/active", |active| {
        active["sha256"] == sha
    });
    let kept = fleet.kept("config/active").to_string();
    assert!(
        kept.contains("INSERT INTO Alerts SELECT n, 2 AS c"),
        "{kept}"
    );
    let answer = fleet.request("config.get", &json!({})).to_string();
    assert!(
        answer.contains("INSERT INTO Alerts SELECT n, 2 AS c"),
        "{answer}"
    );
    fleet.site.stop();
    // Once it is not to be shown any more, it does not stay at the broker as it was.
    fleet.configure(1, "mode = \"signed\"\n");
    fleet.start();
    wait_until("it is taken away", || {
        fleet.kept("config/active") == Value::Null
    });
    fleet.site.stop();
}
