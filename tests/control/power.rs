//! Power that goes while a document is tried out, and a disk that has lost what was written there:
//! the node goes back before it opens anything, and what it runs is what it says.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::fleet::{Fleet, NODE};
use crate::listener::Listener;
use crate::mosquitto::wait_until;
use crate::ordeal::{Ordeal, STEPS_MAX};
use crate::signing::envelope;

#[test]
fn kills_on_the_way_to_another_control_broker_leave_the_one_before() {
    let mut ordeal = Ordeal::with("mode = \"signed\"\nallow_remote = \"endpoint\"\n");
    let nobody = Listener::new();
    let port = nobody.port;
    let content = move |fleet: &Fleet, c: u64| {
        let broker = format!("mqtt.broker = \"mqtt://127.0.0.1:{port}\"");
        format!("{}[control]\n{broker}\n", fleet.document(c))
    };
    // It says nothing more once it has switched, so that its steps alone are gone through.
    for step in 1..STEPS_MAX {
        if !ordeal.kill_at(step, &content) {
            break;
        }
    }
    println!("{:?}, {} connections", ordeal.ends, nobody.connections());
    assert_eq!(ordeal.ended("\"in_sync\" null"), 0);
    assert!(ordeal.ended("\"rolled_back\" \"E_BOOT_GUARD\"") >= 1);
    assert!(ordeal.ended("\"rolled_back\" \"E_UNCONFIRMED\"") >= 1);
    ordeal.finish();
}

#[test]
fn power_that_goes_in_probation_goes_back_before_anything_is_opened() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let nobody = Listener::new();
    let mut asked = envelope(1, &fleet.wrong_broker(2, nobody.port));
    asked["confirm_s"] = json!(600);
    let document = fleet.key.signed(NODE, asked);
    let from = fleet.observer.now();
    fleet.push(&document);
    fleet.reported("probation", from, |said| said["status"] == "probation");
    assert_eq!(flow.made_by(), 2);
    wait_until("the new source connects", || nobody.connections() > 0);
    fleet.site.kill();
    let before = nobody.connections();
    let from = fleet.observer.now();
    fleet.start();
    let reported = fleet.end_of(from, &json!(1));
    assert_eq!(reported["status"], "rolled_back", "{reported:#}");
    assert_eq!(reported["code"], "E_BOOT_GUARD", "{reported:#}");
    assert_eq!(flow.made_by(), 1);
    // It stays so, whatever the broker keeps.
    fleet.site.kill();
    fleet.start();
    assert_eq!(flow.made_by(), 1);
    assert_eq!(nobody.connections(), before, "it was opened once more");
    flow.finish();
    fleet.site.stop();
}

#[test]
fn power_that_goes_in_probation_at_another_broker_finds_back() {
    const CONTROL: &str = "mode = \"signed\"\nallow_remote = \"endpoint\"\n";
    let mut fleet = Fleet::with(CONTROL);
    fleet.start();
    let flow = fleet.flow();
    let nobody = Listener::new();
    let content = format!(
        "{}[control]\nmqtt.broker = \"mqtt://127.0.0.1:{}\"\n",
        fleet.document(2),
        nobody.port
    );
    let mut asked = envelope(1, &content);
    asked["confirm_s"] = json!(600);
    let document = fleet.key.signed(NODE, asked);
    fleet.push(&document);
    wait_until("it connects elsewhere", || nobody.connections() > 0);
    fleet.site.kill();
    let before = nobody.connections();
    let from = fleet.observer.now();
    fleet.start();
    let reported = fleet.end_of(from, &json!(1));
    assert_eq!(reported["code"], "E_BOOT_GUARD", "{reported:#}");
    assert_eq!(flow.made_by(), 1);
    assert_eq!(nobody.connections(), before);
    flow.finish();
    fleet.site.stop();
}

/// The slots of the journal, the older one first.
fn slots(fleet: &Fleet) -> Vec<PathBuf> {
    let mut found: Vec<(u64, PathBuf)> = ["journal.a", "journal.b"]
        .iter()
        .map(|name| {
            let path = fleet.site.path("store/control").join(name);
            let text = std::fs::read_to_string(&path).unwrap();
            let number = text.split(' ').nth(2).unwrap();
            (number.parse().unwrap(), path)
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

#[test]
fn a_journal_that_is_torn_leaves_one_of_two_and_one_that_is_lost_the_local_file() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    for rev in [1, 2] {
        let reported = fleet.apply(&fleet.signed(rev, &fleet.document(10 + rev)));
        assert_eq!(reported["status"], "in_sync", "{reported:#}");
    }
    // The older one is of no matter.
    fleet.site.kill();
    let slot = &slots(&fleet)[0];
    std::fs::write(slot, "what a dying disk leaves").unwrap();
    let birth = fleet.start();
    assert_eq!(birth["config"]["rev"], 2, "{birth}");
    assert_eq!(flow.made_by(), 12);
    // Without the newer one it is as before the last word: one of the two, and it says which.
    fleet.site.kill();
    for (round, name) in ["journal.a", "journal.b"].iter().enumerate() {
        let path = fleet.site.path("store/control").join(name);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let birth = fleet.start();
        let rev = birth["config"]["rev"].as_u64().unwrap();
        assert!((1..=2).contains(&rev), "{round}: {birth}");
        assert_eq!(flow.made_by(), 10 + rev);
        fleet.site.kill();
    }
    for path in ["store/control/journal.a", "store/control/journal.b"] {
        std::fs::write(fleet.site.path(path), "gone").unwrap();
    }
    // What is retained is new to it: with a new number by which it counts anew, or the same.
    fleet.push_bytes(b"");
    let birth = fleet.start();
    assert_eq!(birth["config"]["rev"], Value::Null, "{birth}");
    assert!(
        fleet
            .site
            .log()
            .contains("what was known of remote documents is lost")
    );
    assert_eq!(flow.made_by(), 1);
    let reported = fleet.apply(&fleet.signed(3, &fleet.document(13)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 13);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn what_cannot_be_written_down_is_not_begun() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    assert_eq!(flow.made_by(), 1);
    let paths = ["journal.a", "journal.b"].map(|name| fleet.site.path("store/control").join(name));
    // A folder in its place cannot be written, whoever tries.
    let away: Vec<PathBuf> = paths
        .iter()
        .map(|path| path.with_extension("away"))
        .collect();
    for (path, away) in paths.iter().zip(&away) {
        if path.exists() {
            std::fs::rename(path, away).unwrap();
        }
        std::fs::create_dir(path).unwrap();
    }
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(reported["status"], "rejected", "{reported:#}");
    assert_eq!(reported["code"], "E_FAILED", "{reported:#}");
    assert_eq!((flow.made_by(), fleet.changes()), (1, 0));
    for (path, away) in paths.iter().zip(&away) {
        std::fs::remove_dir(path).unwrap();
        if away.exists() {
            std::fs::rename(away, path).unwrap();
        }
    }
    // Nothing of it was used up.
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(3)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 3);
    fleet.site.kill();
    fleet.start();
    assert_eq!(flow.made_by(), 3);
    flow.finish();
    fleet.site.stop();
}

/// Has a document be on its way whose switch waits for a data broker that does not answer, and
/// stops the node in the middle of it.
#[test]
fn a_document_that_was_being_put_in_force_when_the_node_was_stopped_is_tried_again() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    assert_eq!(flow.made_by(), 1);
    fleet.data.signal("STOP");
    let from = fleet.observer.now();
    // The sink is another one, and the one before has something in hand.
    let content = fleet.document(2);
    let other = "'mqtt.topic'='out', 'mqtt.keep_alive'='70 s'";
    fleet.push(&fleet.signed(1, &content.replace("'mqtt.topic'='out'", other)));
    fleet.reported("staged", from, |said| said["phase"] == "staged");
    wait_until("the switch has begun", || {
        journal(&fleet).contains("\"Switching\"")
    });
    fleet.site.stop();
    fleet.data.signal("CONT");
    let from = fleet.observer.now();
    fleet.start();
    let reported = fleet.end_of(from, &json!(1));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_document_that_was_on_probation_when_the_node_was_stopped_goes_and_says_so() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let mut asked = envelope(1, &fleet.document(2));
    asked["confirm_s"] = json!(600);
    let from = fleet.observer.now();
    fleet.push(&fleet.key.signed(NODE, asked));
    fleet.reported("probation", from, |said| said["status"] == "probation");
    assert_eq!(flow.made_by(), 2);
    // What is under way is waited for: the sources have ended by then, which says nothing.
    fleet.data.signal("STOP");
    let from = fleet.observer.now();
    fleet.site.stop();
    let states = fleet.observer.since(from);
    let mut states = states.iter().filter(|one| one.topic.ends_with("/state"));
    assert!(states.all(|one| one.json()["state"] != "degraded"));
    fleet.data.signal("CONT");
    let from = fleet.observer.now();
    fleet.start();
    let reported = fleet.end_of(from, &json!(1));
    assert_eq!(reported["code"], "E_BOOT_GUARD", "{reported:#}");
    let why = reported["errors"][0]["message"].as_str().unwrap();
    assert!(why.contains("was stopped"), "{reported:#}");
    let event = fleet.said("the event", from, "event", |said| {
        said["event"] == "config.rolled_back"
    });
    assert_eq!(event["details"]["rev"], 1, "{event:#}");
    assert_eq!(event["details"]["signed_by"], fleet.key.kid(), "{event:#}");
    assert_eq!(flow.made_by(), 1);
    flow.finish();
    fleet.site.stop();
}

/// What the journal says now.
fn journal(fleet: &Fleet) -> String {
    std::fs::read_to_string(slots(fleet).last().unwrap()).unwrap()
}

#[test]
fn control_that_is_switched_on_again_goes_back_as_a_start_does() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let mut asked = envelope(1, &fleet.document(2));
    asked["confirm_s"] = json!(600);
    let from = fleet.observer.now();
    fleet.push(&fleet.key.signed(NODE, asked));
    fleet.reported("probation", from, |said| said["status"] == "probation");
    fleet.site.kill();
    let on = std::fs::read_to_string(fleet.site.path("app.toml")).unwrap();
    let off = on.replace("mode = \"signed\"", "mode = \"off\"");
    std::fs::write(fleet.site.path("app.toml"), off).unwrap();
    fleet.site.start();
    assert_eq!(flow.made_by(), 1);
    std::fs::write(fleet.site.path("app.toml"), on).unwrap();
    let from = fleet.observer.now();
    fleet.site.signal("HUP");
    let reported = fleet.end_of(from, &json!(1));
    assert_eq!(reported["code"], "E_BOOT_GUARD", "{reported:#}");
    assert!(
        journal(&fleet).contains("\"pending\":null"),
        "{}",
        journal(&fleet)
    );
    assert_eq!(flow.made_by(), 1);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn signals_that_come_while_the_node_begins_anew_wait_for_it() {
    const ROUNDS: usize = 5;
    let mut fleet = Fleet::with("mode = \"unsigned\"\n");
    fleet.start();
    let flow = fleet.flow();
    let pid = fleet.site.pid().to_string();
    for _ in 0..ROUNDS {
        let from = fleet.observer.now();
        let ends = Arc::new(AtomicBool::new(false));
        let hammer = std::thread::spawn({
            let (ends, pid) = (Arc::clone(&ends), pid.clone());
            let script = format!("while kill -s HUP {pid} 2>/dev/null; do :; done");
            move || {
                let mut shell = Command::new("sh").args(["-c", &script]).spawn().unwrap();
                wait_until("it begins anew", || ends.load(Ordering::SeqCst));
                shell.kill().unwrap();
                shell.wait().unwrap();
            }
        });
        let answer = fleet.request("restart", &json!({}));
        assert_eq!(answer["status"], "ok", "{answer}");
        fleet.said("the farewell", from, "state", |said| {
            said["state"] == "offline"
        });
        fleet.online(fleet.observer.now());
        ends.store(true, Ordering::SeqCst);
        hammer.join().unwrap();
    }
    flow.finish();
    fleet.site.stop();
}
