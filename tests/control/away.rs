//! The control connection has no part in the flow of data: its broker may be away, silent or
//! flooded. And a configuration under which the node is not reached, or does not work, comes back
//! by itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Version};
use crate::fleet::{Fleet, NODE, OPERATOR, PASSWORD, R};
use crate::listener::Listener;
use crate::mosquitto::{DEADLINE, free_port, wait_until};
use crate::operator::Message;
use crate::proxy::Link;
use crate::signing::envelope;

const SIGNED: &str = "mode = \"signed\"\n";
/// The probation that a document asks for, in seconds, and what may come on top until it is said.
const CONFIRM_S: u64 = 2;
const SLACK: Duration = Duration::from_secs(15);
/// What a flood consists of.
const FLOOD_REQUESTS: u16 = 2_000;
const FLOOD_DOCUMENTS: u16 = 200;
/// What memory may grow by under it.
const MEMORY_MAX_KIB: u64 = 24 << 10;

fn with_probation(fleet: &Fleet, rev: u64, content: &str) -> Value {
    let mut asked = envelope(rev, content);
    asked["confirm_s"] = json!(CONFIRM_S);
    fleet.key.signed(NODE, asked)
}

fn is_in_time(begin: Instant) {
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(CONFIRM_S) + SLACK, "{took:?}");
}

#[test]
fn a_source_that_finds_nobody_is_taken_back() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let connections = fleet.data_connections();
    let begin = Instant::now();
    let from = fleet.observer.now();
    fleet.push(&with_probation(
        &fleet,
        1,
        &fleet.wrong_broker(2, free_port()),
    ));
    fleet.reported("probation", from, |said| said["status"] == "probation");
    assert_eq!(flow.made_by(), 2);
    let reported = fleet.end_of(from, &json!(1));
    is_in_time(begin);
    assert_eq!(reported["status"], "rolled_back", "{reported:#}");
    assert_eq!(reported["code"], "E_HEALTH", "{reported:#}");
    assert!(
        reported["errors"].to_string().contains("Far"),
        "{reported:#}"
    );
    assert_eq!(flow.made_by(), 1);
    // Those that did not change noticed nothing of either switch.
    assert_eq!(fleet.data_connections(), connections);
    // A source that nobody requires does no harm.
    let content = fleet.wrong_broker(3, free_port());
    let optional = content.replace("'required'='true'", "'required'='false'");
    let reported = fleet.apply(&with_probation(&fleet, 2, &optional));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 3);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn the_end_of_a_document_is_told_before_the_next_one_is_looked_at() {
    // More than what may be under way to a broker that says nothing.
    const MESSAGES: usize = 12;
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let from = fleet.observer.now();
    let mut asked = envelope(1, &fleet.wrong_broker(2, free_port()));
    asked["confirm_s"] = json!(4);
    fleet.push(&fleet.key.signed(NODE, asked));
    fleet.reported("probation", from, |said| said["status"] == "probation");
    let mut asked = envelope(2, &fleet.document(3));
    asked["confirm_s"] = json!(1);
    fleet.push(&fleet.key.signed(NODE, asked));
    // It has come by then, and waits.
    assert_eq!(fleet.request("ping", &json!({}))["status"], "ok");
    fleet.broker.signal("STOP");
    for count in fleet.changes() + 1..fleet.changes() + 1 + MESSAGES {
        fleet.site.signal("HUP");
        wait_until("it is read anew", || fleet.changes() >= count);
    }
    fleet.site.wait_for("document 1 is taken back");
    wait_until("it is taken back", || flow.made_by() != 2);
    fleet.broker.signal("CONT");
    let reported = fleet.end_of(from, &json!(2));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    let said = fleet.observer.since(from);
    let mut ends = said.iter().map(Message::json).filter(|said| {
        let is_back = said["status"] == "rolled_back";
        is_back && said["desired"]["rev"] == 1
    });
    assert!(ends.next().is_some(), "nobody heard of it");
    assert_eq!(flow.made_by(), 3);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_source_that_is_sent_to_the_wrong_broker_is_taken_back() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    // What is there already, and open: nobody has to say that it is required.
    let nobody = Listener::new();
    let content = fleet.document(2);
    let (head, sink) = content.split_once("CREATE STREAM Alerts").unwrap();
    let wrong = head.replace(
        &fleet.data.url(),
        &format!("mqtt://127.0.0.1:{}", nobody.port),
    );
    let wrong = format!("{wrong}CREATE STREAM Alerts{sink}");
    let begin = Instant::now();
    let reported = fleet.apply(&with_probation(&fleet, 1, &wrong));
    is_in_time(begin);
    assert_eq!(reported["code"], "E_HEALTH", "{reported:#}");
    assert_eq!(flow.made_by(), 1);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_document_under_which_nothing_can_be_read_is_taken_back() {
    const MESSAGES: i64 = 200;
    let mut fleet = Fleet::new();
    fleet.start();
    let data = fleet.data.url();
    let meter = |c: u64, kind: &str| {
        fleet.document_with(
            c,
            &format!(
                "CREATE STREAM Meter (v {kind}) WITH ('type'='source', 'extension'='mqtt', \
                 'format'='json', 'mqtt.broker'='{data}', 'mqtt.topic'='meter');\n"
            ),
        )
    };
    let lines: Vec<String> = (0..MESSAGES).map(|v| format!("{{\"v\":{v}}}")).collect();
    for (rev, kind) in [(1, "BOOLEAN"), (2, "BIGINT")] {
        let from = fleet.observer.now();
        fleet.push(&with_probation(&fleet, rev, &meter(rev + 1, kind)));
        fleet.reported("probation", from, |said| said["status"] == "probation");
        wait_until("the meter is read", || fleet.data.log().contains("meter"));
        fleet.data.publish("meter", 1, &lines);
        let reported = fleet.end_of(from, &json!(rev));
        match kind {
            "BOOLEAN" => {
                assert_eq!(reported["code"], "E_HEALTH", "{reported:#}");
                assert!(reported["errors"].to_string().contains('%'), "{reported:#}");
            }
            _ => assert_eq!(reported["status"], "in_sync", "{reported:#}"),
        }
    }
    fleet.site.stop();
}

#[test]
fn a_control_broker_that_is_not_there_is_taken_back() {
    let mut fleet = Fleet::with("mode = \"signed\"\nallow_remote = \"endpoint\"\n");
    fleet.start();
    let flow = fleet.flow();
    let nobody = Listener::new();
    for (rev, port) in [(1, free_port()), (2, nobody.port)] {
        let control = format!("[control]\nmqtt.broker = \"mqtt://127.0.0.1:{port}\"\n");
        let content = format!("{}{control}", fleet.document(2));
        let begin = Instant::now();
        let reported = fleet.apply(&with_probation(&fleet, rev, &content));
        is_in_time(begin);
        assert_eq!(reported["status"], "rolled_back", "{reported:#}");
        let code = reported["code"].as_str().unwrap();
        assert!(
            ["E_HEALTH", "E_UNCONFIRMED"].contains(&code),
            "{reported:#}"
        );
        assert_eq!(flow.made_by(), 1);
    }
    assert!(nobody.connections() > 0);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_node_moves_to_another_control_broker_when_that_is_confirmed() {
    let mut fleet = Fleet::with("mode = \"signed\"\nallow_remote = \"endpoint\"\n");
    fleet.start();
    let flow = fleet.flow();
    let folder = tempfile::tempdir().unwrap();
    let next = crate::fleet::control_broker(folder.path());
    let control = format!("[control]\nmqtt.broker = \"{}\"\n", next.url());
    let content = format!("{}{control}", fleet.document(2));
    let mut asked = envelope(1, &content);
    asked["confirm_s"] = json!(600);
    fleet.push(&fleet.key.signed(NODE, asked));
    // It says farewell here, and its birth there.
    wait_until("it is offline here", || {
        fleet.kept("state")["state"] == "offline"
    });
    let state = format!("{R}/state");
    wait_until("it is online there", || {
        let kept = crate::operator::kept(&next, &state);
        kept.first()
            .is_some_and(|one| one.json()["state"] == "online")
    });
    let confirm = json!({"v": 1, "id": "yes", "args": {"rev": 1}}).to_string();
    let version = Version::V311;
    let sender = Client::connect_as(Some(OPERATOR), next.port, "s", version, false, DEADLINE);
    let mut sender = sender.unwrap();
    sender
        .publish(
            &format!("{R}/request/config.confirm"),
            1,
            confirm.as_bytes(),
        )
        .unwrap();
    sender.next().unwrap();
    let reported = format!("{R}/config/reported");
    wait_until("it stays", || {
        let kept = crate::operator::kept(&next, &reported);
        kept.first()
            .is_some_and(|one| one.json()["status"] == "in_sync")
    });
    assert_eq!(flow.made_by(), 2);
    // Also over a restart, with the local file as it was.
    fleet.site.kill();
    fleet.site.spawn();
    wait_until("it is back there", || {
        let connected = format!("as eventflux-control-{NODE}");
        next.log().matches(&connected).count() >= 2
    });
    assert_eq!(flow.made_by(), 2);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn numbers_flow_whatever_becomes_of_the_control_broker() {
    let mut fleet = Fleet::new();
    let link = Link::to(fleet.broker.port);
    let url = format!("mqtt://127.0.0.1:{}", link.port);
    fleet.configure_at(1, &url, &format!("mqtt.keep_alive = \"5 s\"\n{SIGNED}"));
    // It starts without it.
    fleet.broker.stop();
    fleet.site.start();
    let flow = fleet.flow();
    assert_eq!(flow.made_by(), 1);
    let from = fleet.observer.now();
    fleet.broker.start();
    fleet.online(from);
    let connections = fleet.data_connections();
    // It goes, and comes back.
    fleet.broker.stop();
    assert_eq!(flow.made_by(), 1);
    let from = fleet.observer.now();
    fleet.broker.start();
    fleet.online(from);
    // It is there and says nothing.
    link.swallow();
    for _ in 0..5 {
        flow.goes_on();
    }
    link.mend();
    link.cut();
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    // It goes while a document is tried out under which it was reached.
    let document = with_probation(&fleet, 2, &fleet.document(3));
    let from = fleet.observer.now();
    fleet.push(&document);
    fleet.reported("probation", from, |said| said["status"] == "probation");
    fleet.broker.stop();
    assert_eq!(flow.made_by(), 3);
    fleet.broker.start();
    let reported = fleet.end_of(from, &json!(2));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(fleet.data_connections(), connections);
    // A wrong password is no other thing than a broker that is away.
    fleet.site.kill();
    fleet.secret("control", "wrong");
    fleet.site.start();
    flow.goes_on();
    fleet.secret("control", PASSWORD);
    flow.finish();
    fleet.site.stop();
}

/// A number of the process's account of its memory, in KiB.
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_flood_is_bounded_and_data_flows_through_it() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    let calm = pace(&flow, || crate::wait::hang(Duration::from_secs(1)));
    let before = memory(fleet.site.pid(), "VmHWM:");
    let port = fleet.broker.port;
    let flooded = pace(&flow, || {
        let threads = [
            std::thread::spawn(move || flood_requests(port)),
            std::thread::spawn(move || flood_documents(port)),
        ];
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
    let after = memory(fleet.site.pid(), "VmHWM:");
    println!("{calm:.0}/s calm, {flooded:.0}/s in the flood; {before} to {after} KiB");
    assert!(after < before + MEMORY_MAX_KIB, "{before} to {after} KiB");
    // The flood takes its share of a busy machine; what is wanted is that nobody waits for its end.
    assert!(
        flooded * 20.0 > calm,
        "{flooded:.0}/s instead of {calm:.0}/s"
    );
    // And it still listens.
    let reported = fleet.apply(&fleet.signed(2, &fleet.document(3)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 3);
    flow.finish();
    fleet.site.stop();
}

/// What requests may compute at once, and the part of a core over time, as docs/control.md says.
const COMPUTED_AT_ONCE_S: f64 = 2.0;
const COMPUTED_SHARE: f64 = 0.25;

#[test]
fn requests_that_are_much_work_leave_the_core_to_others() {
    let mut fleet = Fleet::new();
    fleet.start();
    let many = "INSERT INTO Alerts SELECT n, 2 AS c FROM Readings WHERE n < 0;\n".repeat(400);
    let content = fleet.document_with(2, &many);
    let port = fleet.broker.port;
    let client = Client::connect_as(Some(OPERATOR), port, "much", Version::V311, false, DEADLINE);
    let mut client = client.unwrap();
    let begin = Instant::now();
    let computed = || computed_s(fleet.site.pid(), "control-desk");
    for id in 1.. {
        let body = json!({"v": 1, "id": format!("much-{id}"), "args": {"content": content}});
        let topic = format!("{R}/request/config.validate");
        client
            .publish(&topic, id, body.to_string().as_bytes())
            .unwrap();
        client.next().unwrap().expect("the broker takes it");
        // It is at work all the time that it may be: as long as it takes, and then some.
        let is_spent = computed() > COMPUTED_AT_ONCE_S + COMPUTED_SHARE;
        if is_spent && begin.elapsed() > Duration::from_secs(8) {
            break;
        }
        crate::wait::hang(Duration::from_millis(20));
    }
    let (computed, took) = (computed(), begin.elapsed().as_secs_f64());
    // The last one may be under way, and is not cut short.
    let allowed = COMPUTED_AT_ONCE_S + took * COMPUTED_SHARE + 1.0;
    assert!(computed < allowed, "{computed} s of {took} s");
    fleet.site.stop();
}

/// How long a thread of a process has computed, in seconds.
fn computed_s(pid: u32, name: &str) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut lines = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        head.ends_with(name).then(|| tail.to_owned())
    });
    let line = lines.next().unwrap();
    let ticks = line.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(|text| text.parse::<u32>().unwrap());
    // A hundred a second, on every machine that Linux tells of.
    f64::from(ticks.sum::<u32>()) / 100.0
}

/// How many numbers a second come out while something goes on.
fn pace(flow: &crate::fleet::Flow, meanwhile: impl FnOnce()) -> f64 {
    flow.goes_on();
    let (begin, (_, first)) = (Instant::now(), flow.traffic().progress());
    meanwhile();
    let (_, last) = flow.traffic().progress();
    let numbers = u32::try_from(last - first).unwrap();
    f64::from(numbers) / begin.elapsed().as_secs_f64()
}

fn flood_requests(port: u16) {
    let version = Version::V311;
    let client = Client::connect_as(Some(OPERATOR), port, "flood-r", version, false, DEADLINE);
    let mut client = client.unwrap();
    for id in 1..=FLOOD_REQUESTS {
        let body = json!({"v": 1, "id": format!("flood-{id}"), "args": {}}).to_string();
        let verb = ["diagnostics", "query.list", "nonsense", "config.get"][usize::from(id % 4)];
        client
            .publish(&format!("{R}/request/{verb}"), id, body.as_bytes())
            .unwrap();
        client.next().unwrap().expect("the broker takes it");
    }
}

fn flood_documents(port: u16) {
    let version = Version::V311;
    let client = Client::connect_as(Some(OPERATOR), port, "flood-d", version, false, DEADLINE);
    let mut client = client.unwrap();
    for id in 1..=FLOOD_DOCUMENTS {
        let mut content = format!("# {id}\n");
        content.push_str(&"x = 1 # some kilobytes of it\n".repeat(7_000));
        let body = envelope(u64::from(id) + 1_000, &content).to_string();
        client
            .retain(&format!("{R}/config/desired"), id, body.as_bytes())
            .unwrap();
        client.next().unwrap().expect("the broker takes it");
    }
}
