//! A daemon in this process, asked what may be asked of a running node.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam::channel::{Sender, bounded};
use eventflux::control::verbs::{Desk, DeskVerb, TAPS_MAX, shown};
use eventflux::control::{Code, Fault};
use eventflux::daemon::{DaemonError, Door, Orders, Reloaded, View, Window, prepare};
use eventflux::logging::LogControl;
use eventflux::pipeline::Outcome;
use serde_json::{Value, json};

use crate::wait::wait_until;

const SECRET: &str = "correct-horse";

/// A node with a file of numbers in, and files of what comes of them out.
struct Node {
    folder: tempfile::TempDir,
    window: Window,
    desk: Desk,
    door: Door,
    stop: Option<Sender<()>>,
    daemon: Option<JoinHandle<Result<Outcome, DaemonError>>>,
}

impl Node {
    fn start() -> Node {
        Node::start_with("")
    }

    /// With more SQL.
    fn start_with(more: &str) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node {
            folder,
            window: Window::default(),
            desk: Desk::new(Window::default(), LogControl::default()),
            door: Door::new().0,
            stop: None,
            daemon: None,
        };
        node.write(20, true, more);
        node.begin();
        node
    }

    /// Another configuration: how often the source looks, and whether sinks sync.
    fn write(&self, poll_ms: u64, sync: bool, more: &str) {
        let path = |name: &str| self.path(name).display().to_string();
        let mut sql = format!(
            "CREATE STREAM Numbers (n BIGINT) WITH ('type'='source', 'extension'='file', \
             'format'='json', 'file.path'='{}', 'file.poll'='{poll_ms} ms');\n\
             CREATE STREAM Even (n BIGINT);\n\
             INSERT INTO Even SELECT n FROM Numbers WHERE n % 2 = 0;\n",
            path("numbers"),
        );
        for (sink, from) in [("Counts", "Numbers"), ("Evens", "Even")] {
            let file = path(sink);
            let _ = writeln!(
                sql,
                "CREATE STREAM {sink} (n BIGINT, c BIGINT) WITH ('type'='sink', \
                 'extension'='file', 'file.path'='{file}', 'file.sync'='{sync}');\n\
                 INSERT INTO {sink} SELECT n, count(*) AS c FROM {from};",
            );
        }
        std::fs::write(self.path("app.sql"), sql + more).unwrap();
        let toml = "[application]\nname = \"test\"\nsql = \"app.sql\"\n\
             [store]\npath = \"store\"\n[checkpoint]\ninterval = \"1 h\"\n";
        std::fs::write(self.path("app.toml"), toml).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn begin(&mut self) {
        let (door, requests) = Door::new();
        let (stop, stopped) = bounded(1);
        let window = Window::default();
        let orders = Orders {
            requests,
            window: window.clone(),
            ..Orders::only_stop(stopped)
        };
        let prepared = prepare(&self.path("app.toml"), &|_| None).unwrap();
        self.daemon = Some(std::thread::spawn(move || prepared.run(orders)));
        self.desk = Desk::new(window.clone(), LogControl::default());
        (self.window, self.door, self.stop) = (window, door, Some(stop));
        wait_until("it runs", || self.window.view().is_some());
    }

    fn end(&mut self) -> Outcome {
        self.stop = None;
        let daemon = self.daemon.take().unwrap();
        daemon.join().unwrap().unwrap()
    }

    fn reload(&self) -> Reloaded {
        let path = self.path("app.toml");
        self.door.reload(move || prepare(&path, &|_| None)).unwrap()
    }

    fn ask(&self, verb: DeskVerb, args: Value) -> Result<Value, Fault> {
        self.desk.answer(verb, &args)
    }

    /// What is answered to what must not be refused.
    fn get(&self, verb: DeskVerb, args: Value) -> Value {
        self.ask(verb, args).unwrap()
    }

    fn refuses(&self, verb: DeskVerb, args: Value) -> Code {
        self.ask(verb, args).unwrap_err().code
    }

    fn view(&self) -> std::sync::Arc<View> {
        self.window.view().unwrap()
    }

    fn append(&self, numbers: std::ops::Range<i64>) {
        let lines: String = numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let mut options = std::fs::File::options();
        let file = options.append(true).create(true);
        let mut file = file.open(self.path("numbers")).unwrap();
        file.write_all(lines.as_bytes()).unwrap();
    }

    /// The numbers that a sink has delivered.
    fn delivered(&self, sink: &str) -> Vec<i64> {
        let text = std::fs::read_to_string(self.path(sink)).unwrap_or_default();
        let number = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            row["n"].as_i64().unwrap()
        };
        text.lines().map(number).collect()
    }

    fn wait_for(&self, sink: &str, numbers: impl Iterator<Item = i64>) {
        let numbers: Vec<i64> = numbers.collect();
        wait_until("what the sink delivers", || {
            self.delivered(sink).len() >= numbers.len()
        });
        assert_eq!(self.delivered(sink), numbers);
    }

    fn outbox(&self, sink: &str) -> Value {
        self.get(DeskVerb::OutboxStatus, Value::Null)["sinks"][sink].clone()
    }

    /// Pauses a sink that has confirmed all that it was given.
    fn pause(&self, sink: &str) {
        self.wait_until_waiting(sink, 0);
        let answer = self.get(DeskVerb::OutboxPause, json!({ "sink": sink }));
        assert_eq!(answer, json!({ "sink": sink, "paused": true }));
    }

    fn resume(&self, sink: &str) {
        let answer = self.get(DeskVerb::OutboxResume, json!({ "sink": sink }));
        assert_eq!(answer, json!({ "sink": sink, "paused": false }));
    }

    fn wait_until_waiting(&self, sink: &str, count: u64) {
        wait_until("what waits", || self.outbox(sink)["waiting"] == count);
    }
}

fn evens(numbers: std::ops::Range<i64>) -> impl Iterator<Item = i64> {
    numbers.filter(|n| n % 2 == 0)
}

#[test]
fn pings_and_queries_are_answered() {
    let mut node = Node::start();
    let ping = node.get(DeskVerb::Ping, json!({ "echo": { "x": [1, null] } }));
    assert_eq!(ping["echo"], json!({ "x": [1, null] }));
    assert_eq!(ping["version"], env!("CARGO_PKG_VERSION"));
    assert!(ping["uptime_s"].is_u64());

    let list = node.get(DeskVerb::QueryList, Value::Null);
    let queries = list["queries"].as_array().unwrap();
    let shown: Vec<Value> = queries
        .iter()
        .map(|one| json!([one["query"], one["target"], one["inputs"], one["state"]]))
        .collect();
    let expected = [
        json!([0, "Even", ["Numbers"], false]),
        json!([1, "Counts", ["Numbers"], true]),
        json!([2, "Evens", ["Even"], true]),
    ];
    assert_eq!(shown, expected);
    assert_eq!(queries[0]["fingerprint"].as_str().unwrap().len(), 16);

    let text = |args| {
        let answer = node.get(DeskVerb::QueryExplain, args);
        answer["text"].as_str().unwrap().to_owned()
    };
    let all = text(Value::Null);
    let one = text(json!({ "query": 1 }));
    assert!(all.starts_with("stream Numbers") && all.contains(&one));
    assert!(one.starts_with("query 1 → Counts"), "{one}");
    assert_eq!(text(json!({ "query": "Counts" })), one);
    for (query, code) in [
        (json!(3), Code::NotFound),
        (json!("Count"), Code::NotFound),
        (json!(-1), Code::Args),
        (json!({}), Code::Args),
    ] {
        let args = json!({ "query": query });
        assert_eq!(node.refuses(DeskVerb::QueryExplain, args), code);
    }
    assert_eq!(node.refuses(DeskVerb::Ping, json!([])), Code::Args);
    node.end();
}

#[test]
fn a_test_of_some_sql_knows_the_streams_that_run_and_touches_nothing() {
    let mut node = Node::start();
    let turns = || node.view().counted.pipeline.turns.load(Ordering::Relaxed);
    let before = turns();
    let args = json!({
        "sql": "CREATE STREAM Big (n BIGINT);\n\
            INSERT INTO Big SELECT n FROM Numbers WHERE n > 5;\n",
        "events": [
            { "stream": "Numbers", "ts": 1_000, "event": { "n": 5 } },
            { "stream": "Numbers", "ts": 2_000, "event": { "n": 6 } },
        ],
    });
    let answer = node.get(DeskVerb::QueryTest, args);
    let row = json!({ "stream": "Big", "ts": 2_000, "event": { "n": 6 } });
    assert_eq!(answer["rows"], json!([row]), "{answer}");
    let args = json!({ "sql": "INSERT INTO Counts SELECT m FROM Numbers;", "events": [] });
    let answer = node.get(DeskVerb::QueryTest, args);
    let first = &answer["errors"][0];
    assert_eq!((&first["path"], &first["line"]), (&json!("sql"), &json!(1)));
    assert!(
        first["message"].as_str().unwrap().contains("'m'"),
        "{answer}"
    );
    let known = json!({ "sql": "CREATE STREAM Numbers (s STRING);\n", "events": [] });
    assert_eq!(node.get(DeskVerb::QueryTest, known)["errors"], json!([]));
    assert_eq!(node.refuses(DeskVerb::QueryTest, Value::Null), Code::Args);
    assert_eq!(turns(), before);
    node.end();
}

#[test]
fn rows_are_seen_in_every_stream_and_nothing_comes_of_looking() {
    let mut node = Node::start();
    let tap = |stream: &str, max: u64| {
        let args = json!({ "stream": stream, "seconds": 60, "max": max });
        node.desk.tap(&args)
    };
    node.append(0..4);
    node.wait_for("Counts", 0..4);
    let taps = [("Numbers", 10), ("Even", 5), ("Counts", 3)];
    let taps = taps.map(|(stream, max)| (stream, tap(stream, max).unwrap()));
    node.append(4..14);
    let [numbers, even, counts] = taps.map(|(stream, tap)| {
        let answer = tap.wait();
        assert_eq!(answer["stream"], stream);
        answer
    });
    let column = |answer: &Value, name: &str| -> Vec<i64> {
        let rows = answer["rows"].as_array().unwrap().iter();
        rows.map(|row| {
            assert!(row["ts"].as_i64().unwrap() > 0);
            row["event"][name].as_i64().unwrap()
        })
        .collect()
    };
    assert_eq!(column(&numbers, "n"), (4..14).collect::<Vec<_>>());
    assert_eq!(numbers["dropped"], 0);
    assert_eq!(column(&even, "n"), evens(4..14).collect::<Vec<_>>());
    assert_eq!(column(&counts, "c"), [5, 6, 7]);
    node.wait_for("Counts", 0..14);
    node.wait_for("Evens", evens(0..14));

    // Four at a time; one that nobody looks at any more makes room.
    let mut open: Vec<_> = (0..TAPS_MAX).map(|_| tap("Even", 1).unwrap()).collect();
    assert_eq!(tap("Even", 1).unwrap_err().code, Code::Busy);
    drop(open.pop());
    let fifth = tap("Even", 1).unwrap();
    // It goes on under another application.
    node.write(
        20,
        true,
        "CREATE STREAM More (n BIGINT);\nINSERT INTO More SELECT n FROM Even;\n",
    );
    assert!(node.reload().is_other);
    node.append(14..18);
    assert_eq!(column(&fifth.wait(), "n"), [14]);
    for tap in open {
        assert_eq!(column(&tap.wait(), "n"), [14]);
    }
    node.wait_for("Counts", 0..18);

    for (args, code) in [
        (json!({}), Code::Args),
        (json!({ "stream": 1 }), Code::Args),
        (json!({ "stream": "Nothing" }), Code::NotFound),
        (json!({ "stream": "Even", "seconds": 0 }), Code::Args),
        (json!({ "stream": "Even", "seconds": 61 }), Code::Args),
        (json!({ "stream": "Even", "max": 1_001 }), Code::Args),
    ] {
        assert_eq!(node.desk.tap(&args).unwrap_err().code, code, "{args}");
    }
    let none = node.desk.tap(&json!({ "stream": "Even", "seconds": 1 }));
    assert_eq!(none.unwrap().wait()["rows"], json!([]));
    node.end();
}

#[test]
fn what_a_tap_has_no_room_for_is_counted_and_goes_by() {
    let mut node = Node::start_with(
        "CREATE STREAM Long (t STRING);\n\
         INSERT INTO Long SELECT repeat('x', 100000) AS t FROM Numbers;\n",
    );
    let tap = node
        .desk
        .tap(&json!({ "stream": "Long", "seconds": 2, "max": 50 }));
    let tap = tap.unwrap();
    node.append(0..20);
    node.wait_for("Counts", 0..20);
    let answer = tap.wait();
    let rows = answer["rows"].as_array().unwrap().len();
    assert!((1..5).contains(&rows), "{rows}");
    assert_eq!(answer["dropped"], 20 - rows);
    node.end();
}

#[test]
fn a_checkpoint_is_there_when_it_is_answered() {
    let mut node = Node::start();
    node.append(0..10);
    node.wait_for("Counts", 0..10);
    let checkpoints = || {
        let pipeline = std::sync::Arc::clone(&node.view().counted.pipeline);
        pipeline.checkpoints.load(Ordering::Relaxed)
    };
    let before = checkpoints();
    let first = node.get(DeskVerb::CheckpointNow, Value::Null);
    assert_eq!(checkpoints(), before + 1);
    assert!(first["seq"].as_u64().unwrap() >= 10, "{first}");
    // With nothing new it is there already.
    let again = node.get(DeskVerb::CheckpointNow, Value::Null);
    assert_eq!(again, first);
    assert_eq!(checkpoints(), before + 1);
    node.append(10..11);
    node.wait_for("Counts", 0..11);
    let next = node.get(DeskVerb::CheckpointNow, Value::Null);
    assert!(next["seq"].as_u64() > first["seq"].as_u64());
    node.end();
    assert_eq!(
        node.refuses(DeskVerb::CheckpointNow, Value::Null),
        Code::Stopping
    );
}

#[test]
fn a_paused_sink_gets_nothing_and_then_all_of_it_in_order() {
    let mut node = Node::start();
    node.append(0..10);
    node.wait_for("Counts", 0..10);
    node.pause("Counts");
    node.append(10..30);
    node.wait_for("Evens", evens(0..30));
    node.wait_until_waiting("Counts", 20);
    let outbox = node.outbox("Counts");
    assert_eq!(outbox["paused"], true);
    assert_eq!(outbox["delivered"], 10);
    assert!(outbox["bytes"].as_u64().unwrap() > 0);
    assert_eq!(node.outbox("Evens")["paused"], false);
    // A change under which it stays, and one under which it begins anew.
    for (poll_ms, sync, restarted) in [(21, true, false), (21, false, true)] {
        node.write(poll_ms, sync, "");
        let sinks = node.reload().sinks;
        assert_eq!(sinks.restarted.contains(&"Counts".to_owned()), restarted);
        assert_eq!(node.outbox("Counts")["paused"], true);
    }
    node.append(30..40);
    node.wait_for("Evens", evens(0..40));
    assert_eq!(node.delivered("Counts"), (0..10).collect::<Vec<_>>());
    node.resume("Counts");
    node.append(40..50);
    node.wait_for("Counts", 0..50);
    assert_eq!(node.outbox("Counts")["paused"], false);
    // A pause ends with the daemon.
    node.pause("Counts");
    node.append(50..60);
    node.wait_until_waiting("Counts", 10);
    assert_eq!(node.end().waiting, 10);
    node.begin();
    node.wait_for("Counts", 0..60);
    node.end();
}

#[test]
fn a_sink_that_is_not_there_is_not_paused() {
    let mut node = Node::start();
    for verb in [DeskVerb::OutboxPause, DeskVerb::OutboxResume] {
        assert_eq!(node.refuses(verb, Value::Null), Code::Args);
        let numbers = json!({ "sink": "Numbers" });
        assert_eq!(node.refuses(verb, numbers), Code::NotFound);
    }
    let typo = node.ask(DeskVerb::OutboxPause, json!({ "sink": "Count" }));
    assert!(typo.unwrap_err().message.contains("did you mean 'Counts'"));
    node.end();
}

#[test]
fn what_is_purged_is_gone_for_good_and_counted() {
    let mut node = Node::start();
    node.append(0..10);
    node.wait_for("Counts", 0..10);
    node.pause("Counts");
    node.append(10..1_000);
    node.wait_until_waiting("Counts", 990);
    for (args, code) in [
        (json!({ "sink": "Counts" }), Code::Args),
        (json!({ "sink": "Counts", "confirm": true }), Code::Args),
        (json!({ "sink": "Counts", "confirm": "Evens" }), Code::Args),
        (
            json!({ "sink": "Nothing", "confirm": "Nothing" }),
            Code::NotFound,
        ),
    ] {
        assert_eq!(node.refuses(DeskVerb::OutboxPurge, args), code);
    }
    let wanted = json!({ "sink": "Counts", "confirm": "Counts" });
    let answer = node.get(DeskVerb::OutboxPurge, wanted.clone());
    assert_eq!(answer, json!({ "sink": "Counts", "purged": 990 }));
    let outbox = node.outbox("Counts");
    assert_eq!(outbox["waiting"], 0);
    assert_eq!(outbox["given_up"]["purged"], 990);
    assert_eq!(
        (&outbox["delivered"], &outbox["oldest_s"]),
        (&json!(10), &json!(0))
    );
    // What comes later is delivered, and of what was purged, nothing, now or after a restart.
    node.append(1_000..1_010);
    node.wait_until_waiting("Counts", 10);
    assert_eq!(node.end().waiting, 10);
    node.begin();
    node.wait_for("Counts", (0..10).chain(1_000..1_010));
    node.wait_for("Evens", evens(0..1_010));
    let outbox = node.outbox("Counts");
    assert_eq!(outbox["given_up"]["purged"], 990);
    node.wait_until_waiting("Counts", 0);
    let answer = node.get(DeskVerb::OutboxPurge, wanted);
    assert_eq!(answer["purged"], 0);
    node.end();
}

#[test]
fn the_level_of_the_log_is_set() {
    let mut node = Node::start();
    let args = json!({ "target": "eventflux::sink", "level": "debug", "for_s": 600 });
    let answer = node.get(DeskVerb::LogLevel, args);
    let set = &answer["set"][0];
    assert_eq!(
        (&set["target"], &set["level"]),
        (&json!("eventflux::sink"), &json!("debug"))
    );
    assert!((1..=600).contains(&set["left_s"].as_u64().unwrap()));
    let answer = node.get(DeskVerb::LogLevel, json!({ "level": "warn" }));
    assert_eq!(
        answer["set"][0],
        json!({ "target": "eventflux", "level": "warn", "left_s": null })
    );
    for args in [
        json!({}),
        json!({ "level": "loud" }),
        json!({ "level": "debug", "target": "rumqttc" }),
        json!({ "level": "debug", "for_s": 0 }),
        json!({ "level": "debug", "for_s": 604_801 }),
    ] {
        assert_eq!(node.refuses(DeskVerb::LogLevel, args), Code::Args);
    }
    node.end();
}

#[test]
fn diagnostics_tell_everything_but_secrets() {
    let mut node = Node::start_with(&format!(
        "CREATE STREAM Far (n BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='mqtt://127.0.0.1:1', 'mqtt.topic'='far', 'mqtt.username'='me', \
         'mqtt.password'='{SECRET}');\nINSERT INTO Far SELECT n FROM Even;\n"
    ));
    node.append(0..10);
    node.wait_for("Counts", 0..10);
    wait_until("it has tried", || {
        node.view().is_sink_open("Far") == Some(false)
    });
    let all = node.get(DeskVerb::Diagnostics, Value::Null);
    assert!(!all.to_string().contains(SECRET), "{all}");
    assert_eq!(all["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(all["arch"], std::env::consts::ARCH);
    assert!(all["process"]["memory"]["resident_bytes"].as_u64().unwrap() > 1 << 20);
    assert!(all["process"]["threads"].as_u64().unwrap() > 3);
    assert!(all["store"]["free_bytes"].as_u64().unwrap() > 0);
    assert_eq!(all["health"], json!({ "degraded": null }));
    assert_eq!(all["pipeline"]["rows"], 10);
    let numbers = &all["sources"]["Numbers"];
    assert_eq!(
        (&numbers["connector"], &numbers["at_work"]),
        (&json!("file"), &json!(true))
    );
    assert_eq!(numbers["counts"]["rows"], 10);
    assert_eq!(all["sinks"]["Far"]["connected"], false);
    assert_eq!(all["outboxes"]["Far"]["waiting"], 5);
    let limits = all["limits"].as_array().unwrap();
    assert!(
        limits.iter().any(|limit| limit["name"] == "turn.rows_max"),
        "{limits:?}"
    );
    node.end();
}

#[test]
fn before_anything_runs_there_is_little_to_say() {
    let desk = Desk::new(Window::default(), LogControl::default());
    let ask = |verb| desk.answer(verb, &Value::Null);
    assert_eq!(ask(DeskVerb::Ping).unwrap()["echo"], Value::Null);
    assert!(ask(DeskVerb::Diagnostics).unwrap()["process"]["threads"].is_u64());
    for verb in [
        DeskVerb::QueryList,
        DeskVerb::QueryExplain,
        DeskVerb::CheckpointNow,
        DeskVerb::OutboxStatus,
        DeskVerb::OutboxPause,
        DeskVerb::OutboxPurge,
    ] {
        assert_eq!(ask(verb).unwrap_err().code, Code::Busy);
    }
    assert_eq!(desk.tap(&Value::Null).unwrap_err().code, Code::Busy);
}

#[test]
fn what_would_change_is_told_without_secrets() {
    let far = |password: &str, to: &str| {
        format!(
            "CREATE STREAM Far (n BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
             'mqtt.broker'='mqtt://127.0.0.1:1', 'mqtt.topic'='{to}', 'mqtt.username'='me', \
             'mqtt.password'='{password}');\nINSERT INTO Far SELECT n FROM Even;\n"
        )
    };
    let mut node = Node::start_with(&far(SECRET, "far"));
    let difference = || {
        let wanted = prepare(&node.path("app.toml"), &|_| None).unwrap();
        shown::difference(&node.view(), &wanted)
    };
    let same = difference();
    assert_eq!(same["values"], json!([]), "{same}");
    assert_eq!(same["sinks"]["kept"], 3);
    assert_eq!(
        same["queries"],
        json!({ "added": [], "removed": [], "kept": 4 })
    );
    let other = "battery-staple";
    let more = "CREATE STREAM More (n BIGINT);\nINSERT INTO More SELECT n FROM Even;\n";
    node.write(20, true, &format!("{}{more}", far(other, "farther")));
    let told = difference();
    let text = told.to_string();
    assert!(!text.contains(SECRET) && !text.contains(other), "{text}");
    let value = |name: &str| {
        let values = told["values"].as_array().unwrap();
        let mut values = values.iter();
        values.find(|one| one["name"] == name).cloned().unwrap()
    };
    let password = value("streams.Far.mqtt.password");
    assert_eq!(
        (&password["before"], &password["secret"]),
        (&Value::Null, &json!(true))
    );
    let topic = value("streams.Far.mqtt.topic");
    assert_eq!(
        (&topic["before"], &topic["after"]),
        (&json!("far"), &json!("farther"))
    );
    assert_eq!(told["values"].as_array().unwrap().len(), 2, "{text}");
    assert_eq!(told["sinks"]["changed"], json!(["Far"]));
    assert_eq!(
        told["queries"],
        json!({ "added": ["More"], "removed": [], "kept": 4 })
    );
    node.end();
}

#[test]
fn what_is_purged_becomes_dead_letters_where_the_sink_has_them() {
    let more = |node: &Node| {
        let file = node.path("Letters").display().to_string();
        format!(
            "CREATE STREAM Letters (originalEvent STRING, errorMessage STRING, errorType STRING, \
             timestamp BIGINT, attemptCount INT, streamName STRING) WITH ('type'='sink', \
             'extension'='file', 'file.path'='{file}');\n\
             CREATE STREAM Plain (n BIGINT) WITH ('type'='sink', 'extension'='file', \
             'file.path'='{}', 'outbox.dead_letter'='Letters');\n\
             INSERT INTO Plain SELECT n FROM Even;\n",
            node.path("Plain").display(),
        )
    };
    let mut node = Node::start();
    node.write(20, true, &more(&node));
    node.reload();
    node.pause("Plain");
    node.append(0..20);
    node.wait_until_waiting("Plain", 10);
    let wanted = json!({ "sink": "Plain", "confirm": "Plain" });
    assert_eq!(node.get(DeskVerb::OutboxPurge, wanted)["purged"], 10);
    let letters = || std::fs::read_to_string(node.path("Letters")).unwrap_or_default();
    wait_until("the letters", || letters().lines().count() >= 10);
    let numbers: Vec<i64> = letters()
        .lines()
        .map(|line| {
            let letter: Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (&letter["errorType"], &letter["streamName"]),
                (&json!("purged"), &json!("Plain"))
            );
            let event = letter["originalEvent"].as_str().unwrap();
            let event: Value = serde_json::from_str(event).unwrap();
            event["n"].as_i64().unwrap()
        })
        .collect();
    assert_eq!(numbers, evens(0..20).collect::<Vec<_>>());
    assert_eq!(node.outbox("Plain")["dead_letters"], 10);
    node.end();
}
