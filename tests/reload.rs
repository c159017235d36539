//! The real binary between real brokers, told again and again to read its configuration anew: what
//! is the same notices nothing and keeps its state, what is not gives way, and nothing is lost.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail where it stands"
)]

#[path = "common/client.rs"]
mod client;
#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/random.rs"]
mod random;
#[path = "common/traffic.rs"]
mod traffic;
#[path = "common/wait.rs"]
mod wait;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use eventflux::daemon::{Door, Orders, Prepared, Refused, Reloaded, prepare};

use crate::client::{Client, Packet, Version};
use crate::daemon::Site;
use crate::mosquitto::{DEADLINE, Mosquitto, wait_until};
use crate::random::Random;
use crate::traffic::{Traffic, check};

const CHANGED: &str = "the configuration has changed after";
const REFUSED: &str = "the new configuration is refused, the old one goes on";

/// Brokers on both sides of a daemon.
struct Stage {
    upstream: Mosquitto,
    uplink: Mosquitto,
    site: Site,
    changes: usize,
}

impl Stage {
    fn new(sql: impl Fn(&Parts) -> String, toml: &str) -> Stage {
        let (upstream, uplink) = (Mosquitto::new(), Mosquitto::new());
        let parts = Parts {
            upstream: upstream.url(),
            uplink: uplink.url(),
        };
        let mut site = Site::new(&sql(&parts), toml);
        site.start();
        wait_until("the subscription", || {
            upstream.log().contains("in/+ (QoS 1)")
        });
        Stage {
            upstream,
            uplink,
            site,
            changes: 0,
        }
    }

    fn parts(&self) -> Parts {
        Parts {
            upstream: self.upstream.url(),
            uplink: self.uplink.url(),
        }
    }

    /// Another configuration, in force when it returns; what was said of the change.
    fn change(&mut self, sql: &str, toml: &str) -> String {
        self.site.configure(sql, toml);
        self.site.signal("HUP");
        self.changes += 1;
        self.wait_for(CHANGED, self.changes)
    }

    /// One that is not taken; what was said of it.
    fn is_refused(&mut self, sql: &str, toml: &str) -> String {
        let before = self.site.log().matches(REFUSED).count();
        self.site.configure(sql, toml);
        self.site.signal("HUP");
        self.wait_for(REFUSED, before + 1)
    }

    /// The line with which `text` was said for the `count`th time.
    fn wait_for(&mut self, text: &str, count: usize) -> String {
        let mut line = None;
        let log = || self.site.log();
        let begin = Instant::now();
        while line.is_none() {
            let said = log();
            let mut lines = said.lines().filter(|line| line.contains(text));
            line = lines.nth(count - 1).map(str::to_owned);
            assert!(begin.elapsed() < DEADLINE, "not {count} times '{text}'");
            wait::hang(Duration::from_millis(2));
        }
        line.unwrap()
    }

    fn listen(&self, topic: &str) -> Client {
        let connected = Client::connect(self.uplink.port, topic, Version::V311, true, DEADLINE);
        let mut client = connected.unwrap();
        client.subscribe(topic).unwrap();
        client
    }

    /// Publishes numbers; the daemon has them all when it returns.
    fn publish(&self, topic: &str, numbers: std::ops::Range<i64>) {
        let acknowledged = || {
            let log = self.upstream.log();
            log.matches("Received PUBACK from eventflux").count()
        };
        let before = acknowledged();
        let count = usize::try_from(numbers.end - numbers.start).unwrap();
        let lines: Vec<String> = numbers.map(|n| format!("{{\"n\":{n}}}")).collect();
        self.upstream.publish(topic, 1, &lines);
        wait_until("the daemon has them", || acknowledged() >= before + count);
    }

    /// How often anything of the daemon has connected to the broker that is read from.
    fn connections(&self) -> usize {
        let log = self.upstream.log();
        let mut lines = log.lines();
        lines
            .by_ref()
            .filter(|line| line.contains("New client connected") && line.contains("as eventflux"))
            .count()
    }
}

struct Parts {
    upstream: String,
    uplink: String,
}

/// `Readings` from `in/+`, with more options.
fn readings(parts: &Parts, more: &str) -> String {
    format!(
        "CREATE STREAM Readings (n BIGINT) WITH ('type'='source', 'extension'='mqtt', \
         'format'='json', 'mqtt.broker'='{}', 'mqtt.topic'='in/+' {more});\n",
        parts.upstream
    )
}

/// A sink with the columns n and c.
fn sink(parts: &Parts, name: &str, topic: &str, more: &str) -> String {
    format!(
        "CREATE STREAM {name} (n BIGINT, c BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='{}', 'mqtt.topic'='{topic}' {more});\n",
        parts.uplink
    )
}

const COUNT: &str = "INSERT INTO Alerts SELECT n, count(*) AS c FROM Readings;\n";

/// The next row: its columns.
fn next_row(client: &mut Client) -> serde_json::Value {
    loop {
        match client.next().unwrap().expect("a message in time") {
            Packet::Publish(message) => {
                client.acknowledge(message.packet).unwrap();
                return serde_json::from_slice(&message.payload).unwrap();
            }
            Packet::PubAck(_) | Packet::Other(_) => {}
        }
    }
}

/// The next row's n and c.
fn next_pair(client: &mut Client) -> (i64, i64) {
    let row = next_row(client);
    (row["n"].as_i64().unwrap(), row["c"].as_i64().unwrap())
}

#[test]
fn twenty_reloads_under_load_lose_nothing_and_keep_what_did_not_change() {
    const MESSAGES: u64 = 6_000;
    let sql = |parts: &Parts, source: u64, alerts: u64, query: u64| {
        [
            readings(
                parts,
                &format!(", 'payload.bytes_max'='{} KiB'", 100 + source),
            ),
            sink(
                parts,
                "Alerts",
                "out",
                &format!(", 'mqtt.inflight_max'='{}'", 50 + alerts),
            ),
            sink(parts, "Others", "others", ""),
            COUNT.to_owned(),
            format!("INSERT INTO Others SELECT n, n + {query} AS c FROM Readings;\n"),
        ]
        .concat()
    };
    let mut stage = Stage::new(|parts| sql(parts, 0, 0, 0), "");
    let mut listener = stage.listen("out");
    let (from, to) = (stage.upstream.port, stage.uplink.port);
    let traffic = Traffic::start_within(Version::V311, from, to, MESSAGES, 500);
    let parts = stage.parts();
    for reload in 1..=20_u64 {
        let due = MESSAGES * reload / 22;
        traffic.wait("numbers come out", |state| state.distinct >= due);
        // The query changes each time; in the second half, connectors do as well.
        let (source, alerts) = match reload {
            0..=10 => (0, 0),
            _ => (reload / 2, reload / 3),
        };
        let line = stage.change(&sql(&parts, source, alerts, reload), "");
        assert!(line.contains("another SQL"), "{line}");
        if reload == 10 {
            assert_eq!(stage.connections(), 1);
            let kept = "sources kept Readings; sinks kept Alerts, Others";
            assert!(line.contains(kept), "{line}");
        }
        if reload == 12 {
            let begun = "sources restarted Readings; sinks kept Others, restarted Alerts";
            assert!(line.contains(begun), "{line}");
        }
    }
    traffic.wait("everything comes out", |state| state.distinct == MESSAGES);
    let said = stage.site.stop();
    let repeats = check(&traffic.finish(), MESSAGES);
    assert_eq!(
        repeats, 0,
        "whoever ends in order has heard of what it delivered"
    );
    for number in 0..i64::try_from(MESSAGES).unwrap() {
        assert_eq!(next_pair(&mut listener), (number, number + 1));
    }
    let summary = said.lines().find(|line| line.contains("source Readings:"));
    let summary = summary.unwrap();
    // One may have to give way before it is connected.
    let is_known = |count| summary.contains(&format!("connects {count}"));
    assert!((2..=7).any(is_known), "{summary}");
    assert!(!said.contains("starts empty"), "{said}");
}

#[test]
fn what_waits_is_delivered_to_where_the_sink_goes_now() {
    let sql = |parts: &Parts, topic: &str| {
        [
            readings(parts, ""),
            sink(parts, "Alerts", topic, ""),
            COUNT.to_owned(),
        ]
        .concat()
    };
    let mut stage = Stage::new(|parts| sql(parts, "out"), "");
    let (mut old, new) = (stage.listen("out"), stage.listen("new"));
    stage.publish("in/a", 0..3);
    for n in 0..3 {
        assert_eq!(next_pair(&mut old), (n, n + 1));
    }
    old.disconnect().unwrap();
    new.disconnect().unwrap();
    stage.uplink.stop();
    stage.publish("in/a", 3..8);
    let parts = stage.parts();
    let line = stage.change(&sql(&parts, "new"), "");
    assert!(
        line.contains("the same SQL") || line.contains("another SQL"),
        "{line}"
    );
    assert!(
        line.contains("sources kept Readings; sinks restarted Alerts"),
        "{line}"
    );
    stage.uplink.start();
    stage.publish("in/a", 8..10);
    let mut new = stage.listen("new");
    for n in 3..10 {
        assert_eq!(next_pair(&mut new), (n, n + 1));
    }
    let said = stage.site.stop();
    assert!(said.contains("0 outputs wait"), "{said}");
    assert_eq!(stage.connections(), 1);
}

#[test]
fn what_is_faulty_or_cannot_change_is_refused_and_all_goes_on() {
    let sql = |parts: &Parts, query: &str| {
        [
            readings(parts, ""),
            sink(parts, "Alerts", "out", ""),
            format!(
                "CREATE STREAM Log (event STRING, reason STRING) WITH ('type'='sink', \
                 'extension'='mqtt', 'mqtt.broker'='{}', 'mqtt.topic'='log');\n\
                 INSERT INTO Log SELECT event, reason FROM _events \
                 WHERE event = 'config.refused' OR event = 'config.changed';\n",
                parts.uplink
            ),
            query.to_owned(),
        ]
        .concat()
    };
    let mut stage = Stage::new(|parts| sql(parts, COUNT), "");
    let (mut listener, mut log) = (stage.listen("out"), stage.listen("log"));
    let parts = stage.parts();
    let next = |stage: &Stage, listener: &mut Client, n: i64| {
        stage.publish("in/a", n..n + 1);
        assert_eq!(next_pair(listener), (n, n + 1));
    };
    next(&stage, &mut listener, 0);
    // The SQL is wrong in two places, and so is a key.
    let faulty = format!("{COUNT}INSERT INTO Alerts SELECT m, c FROM Readings;\n");
    let line = stage.is_refused(&sql(&parts, &faulty), "[turn]\nrows_max = \"many\"\n");
    assert!(
        line.contains("app.toml:7:12: ") && line.contains("rows_max"),
        "{line}"
    );
    let said = stage.site.log();
    assert!(said.contains("app.toml:7:"), "{said}");
    let line = stage.is_refused(&sql(&parts, &faulty), "");
    assert!(
        line.contains("app.sql:6:27: ") && line.contains("'m'"),
        "{line}"
    );
    assert!(line.contains("and 1 more"), "{line}");
    next(&stage, &mut listener, 1);
    for part in ["rows_max", "'m'"] {
        let row = next_row(&mut log);
        assert_eq!(row["event"], "config.refused");
        assert!(row["reason"].as_str().unwrap().contains(part), "{row}");
    }
    other_store_is_refused(&mut stage, &sql(&parts, COUNT));
    next(&stage, &mut listener, 2);
    // A file that somebody is about to write is not mistaken for the wish that nothing runs.
    let line = stage.is_refused("-- to be written\n", "");
    assert!(line.contains("there is no stream in its SQL"), "{line}");
    next(&stage, &mut listener, 3);
    // What can change does.
    let good = sql(&parts, COUNT);
    let changed = "[log]\nlevel = \"debug\"\n[turn]\nrows_max = 7\n";
    let line = stage.change(&good, changed);
    assert!(line.contains("the same SQL"), "{line}");
    assert!(line.contains("sinks kept Alerts, Log"), "{line}");
    next(&stage, &mut listener, 4);
    assert_eq!(next_row(&mut log)["event"], "config.refused");
    assert_eq!(next_row(&mut log)["event"], "config.refused");
    assert_eq!(next_row(&mut log)["event"], "config.changed");
    assert_eq!(stage.connections(), 1);
    let said = stage.site.stop();
    assert!(said.contains("DEBUG"), "{said}");
}

/// Another store would have another state.
fn other_store_is_refused(stage: &mut Stage, sql: &str) {
    stage.site.configure(sql, "");
    let path = stage.site.path("app.toml");
    let toml = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, toml.replace("\"store\"", "\"other\"")).unwrap();
    stage.site.signal("HUP");
    let line = stage.wait_for(REFUSED, 3);
    assert!(
        line.contains("'store.path' cannot change while the daemon runs"),
        "{line}"
    );
    assert!(!stage.site.path("other").exists());
}

#[test]
fn state_that_must_not_be_lost_is_a_reason_to_refuse() {
    let sql = |parts: &Parts, source: &str, rows: i64| {
        [
            readings(parts, source),
            sink(parts, "Alerts", "out", ""),
            format!(
                "INSERT INTO Alerts SELECT n, sum(n) AS c FROM Readings WINDOW('length', {rows});\n"
            ),
        ]
        .concat()
    };
    let policy = |stage: &Stage| {
        let path = stage.site.path("app.toml");
        let toml = std::fs::read_to_string(&path).unwrap();
        let toml = toml.replace("[store]", "state_policy = \"keep_or_fail\"\n[store]");
        std::fs::write(&path, toml).unwrap();
    };
    let mut stage = Stage::new(|parts| sql(parts, "", 3), "");
    let mut listener = stage.listen("out");
    let parts = stage.parts();
    stage.publish("in/a", 1..3);
    assert_eq!(next_pair(&mut listener), (1, 1));
    assert_eq!(next_pair(&mut listener), (2, 3));
    // The source would change, too, and stays as it is.
    stage
        .site
        .configure(&sql(&parts, ", 'payload.bytes_max'='1 KiB'", 4), "");
    policy(&stage);
    stage.site.signal("HUP");
    let line = stage.wait_for(REFUSED, 1);
    assert!(
        line.contains("the state of the query into 'Alerts' ("),
        "{line}"
    );
    assert!(line.contains("app.sql:3) would be lost"), "{line}");
    assert_eq!(stage.connections(), 1);
    stage.publish("in/a", 3..5);
    assert_eq!(next_pair(&mut listener), (3, 6));
    assert_eq!(next_pair(&mut listener), (4, 9));
    // Without that policy, it is told what starts empty.
    let line = stage.change(&sql(&parts, "", 4), "");
    assert!(line.contains("another SQL"), "{line}");
    let said = stage.site.log();
    let empty = "app.sql:3) is new or changed and starts empty";
    assert!(said.contains(empty), "{said}");
    stage.publish("in/a", 5..6);
    assert_eq!(next_pair(&mut listener), (5, 5));
    stage.site.stop();
}

#[test]
fn sources_and_sinks_come_and_go() {
    let sql = |parts: &Parts, with_more: bool| {
        let more = if with_more {
            let second = readings(parts, "")
                .replace("Readings", "More")
                .replace("in/+", "more/+");
            format!(
                "{second}{}INSERT INTO Second SELECT n, count(*) AS c FROM More;\n",
                sink(parts, "Second", "second", "")
            )
        } else {
            String::new()
        };
        [
            more,
            readings(parts, ""),
            sink(parts, "Alerts", "out", ""),
            COUNT.to_owned(),
        ]
        .concat()
    };
    let mut stage = Stage::new(|parts| sql(parts, false), "");
    let mut listener = stage.listen("out");
    let parts = stage.parts();
    stage.publish("in/a", 0..2);
    // Those that stay have another place among the streams from now on.
    let line = stage.change(&sql(&parts, true), "");
    let parted = "sources kept Readings, added More; sinks kept Alerts, added Second";
    assert!(line.contains(parted), "{line}");
    wait_until("the subscription", || {
        stage.upstream.log().contains("more/+ (QoS 1)")
    });
    let mut second = stage.listen("second");
    stage.publish("in/a", 2..3);
    stage.publish("more/a", 7..9);
    assert_eq!(next_pair(&mut second), (7, 1));
    assert_eq!(next_pair(&mut second), (8, 2));
    second.disconnect().unwrap();
    // What waits for a sink that goes stays, and is named.
    stage.uplink.stop();
    listener = {
        drop(listener);
        stage.publish("more/a", 9..10);
        let line = stage.change(&sql(&parts, false), "");
        let parted = "sources kept Readings, removed More; sinks kept Alerts, removed Second";
        assert!(line.contains(parted), "{line}");
        let stranded = "1 output waits for the sink 'Second', which is not defined any more";
        assert!(stage.site.log().contains(stranded), "{}", stage.site.log());
        stage.uplink.start();
        stage.listen("out")
    };
    stage.publish("in/a", 3..5);
    stage.change(&sql(&parts, true), "");
    let mut second = stage.listen("second");
    // What the broker has not heard of in time comes once more.
    while next_pair(&mut second) != (9, 3) {}
    let mut known = BTreeMap::new();
    while known.len() < 5 {
        let (n, c) = next_pair(&mut listener);
        known.insert(n, c);
    }
    assert_eq!(
        known.into_iter().collect::<Vec<_>>(),
        (0..5).map(|n| (n, n + 1)).collect::<Vec<_>>()
    );
    assert_eq!(stage.site.log().matches("stream=\"Readings\"").count(), 1);
    stage.site.signal("TERM");
    stage.site.signal("HUP");
    assert_eq!(stage.site.wait_end(), Some(0), "{}", stage.site.log());
}

#[test]
fn kills_during_reloads_leave_one_configuration_and_lose_nothing() {
    const KILLS: u64 = 12;
    let sql = |parts: &Parts, turn: u64| {
        let more = format!(", 'payload.bytes_max'='{} KiB'", 100 + turn % 3);
        [
            readings(parts, &more),
            sink(parts, "Alerts", "out", ""),
            sink(parts, "Others", &format!("others/{}", turn % 2), ""),
            COUNT.to_owned(),
            format!("INSERT INTO Others SELECT n, n + {turn} AS c FROM Readings;\n"),
        ]
        .concat()
    };
    let busy = "[checkpoint]\ninterval = \"200 ms\"\n";
    let mut stage = Stage::new(|parts| sql(parts, 0), busy);
    let mut listener = stage.listen("out");
    let parts = stage.parts();
    let (from, to) = (stage.upstream.port, stage.uplink.port);
    let traffic = Traffic::start_within(Version::V311, from, to, u64::MAX / 2, 500);
    // The first numbers of a session cannot be recognised when they come again.
    traffic.wait("numbers come out", |state| state.distinct > 500);
    let mut random = Random::new(5);
    let (mut changed, mut before) = (0, 500);
    for kill in 1..=KILLS {
        for turn in 0..=random.below(2) {
            // The daemon may be reading the one before.
            let next = stage.site.path("next.sql");
            std::fs::write(&next, sql(&parts, 10 * kill + turn)).unwrap();
            std::fs::rename(&next, stage.site.path("app.sql")).unwrap();
            stage.site.signal("HUP");
            wait::hang(Duration::from_millis(random.below(40)));
        }
        stage.site.kill();
        changed += stage.site.log().matches(CHANGED).count();
        stage.site.start();
        before += 200;
        traffic.wait("numbers come out", |state| state.distinct > before);
    }
    traffic.pause();
    let (published, _) = traffic.progress();
    traffic.wait("everything comes out", |state| state.distinct == published);
    stage.site.stop();
    let repeats = check(&traffic.finish(), published);
    println!("{published} messages, {KILLS} kills, {changed} changes, {repeats} repeats");
    let mut last = -1;
    while last + 1 < i64::try_from(published).unwrap() {
        let (n, c) = next_pair(&mut listener);
        assert_eq!(c, n + 1);
        assert!(n <= last + 1, "{n} after {last}");
        last = last.max(n);
    }
}

/// A stream that fails at its first line, beside one that is well.
fn failing(parts: &Parts, folder: &Path) -> String {
    let path = folder.join("lines");
    std::fs::write(&path, "no object\n").unwrap();
    [
        readings(parts, ""),
        format!(
            "CREATE STREAM Broken (n BIGINT) WITH ('type'='source', 'extension'='file', \
             'format'='json', 'file.path'='{}', 'file.start'='beginning', \
             'error.strategy'='fail');\n",
            path.display()
        ),
        sink(parts, "Alerts", "out", ""),
        COUNT.to_owned(),
        "INSERT INTO Alerts SELECT n, n AS c FROM Broken;\n".to_owned(),
    ]
    .concat()
}

#[test]
fn a_stream_that_fails_stands_still_until_a_reload() {
    const FAILED: &str = "source Broken has failed and stands still";
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::new(|parts| failing(parts, folder.path()), "");
    let mut listener = stage.listen("out");
    stage.wait_for(FAILED, 1);
    stage.publish("in/a", 0..1);
    assert_eq!(next_pair(&mut listener), (0, 1));
    let sql = failing(&stage.parts(), folder.path());
    let line = stage.change(&sql, "");
    let parted = "the same SQL; sources kept Readings, restarted Broken";
    assert!(line.contains(parted), "{line}");
    stage.wait_for(FAILED, 2);
    stage.publish("in/a", 1..2);
    assert_eq!(next_pair(&mut listener), (1, 2));
    stage.site.stop();
}

#[test]
fn a_stream_that_fails_ends_the_daemon_where_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("mqtt://127.0.0.1:{}", mosquitto::free_port());
    let parts = Parts {
        upstream: nowhere.clone(),
        uplink: nowhere,
    };
    let mut site = Site::new(&failing(&parts, folder.path()), "");
    let path = site.path("app.toml");
    let toml = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        toml.replace("[store]", "on_fail = \"exit\"\n[store]"),
    )
    .unwrap();
    let (code, said) = site.run_to_end();
    assert_eq!(code, Some(7), "{said}");
    let sentence = "source Broken has failed, and 'application.on_fail' is `exit`";
    assert!(said.contains(sentence), "{said}");
    assert!(said.contains("stopping"), "{said}");
}

/// A daemon in this process, from a file of numbers to one of counts, whose configurations are
/// what it is given.
struct Inside {
    site: Site,
    door: Door,
}

impl Inside {
    const NUMBERS: &str = "numbers";
    const COUNTS: &str = "counts";

    fn write(&self, poll_ms: u64, sync: bool) {
        let sql = Inside::sql(&self.site.path("."), poll_ms, sync);
        self.site.configure(&sql, "");
    }

    fn sql(folder: &Path, poll_ms: u64, sync: bool) -> String {
        let path = |name: &str| folder.join(name).display().to_string();
        format!(
            "CREATE STREAM Numbers (n BIGINT) WITH ('type'='source', 'extension'='file', \
             'format'='json', 'file.path'='{}', 'file.poll'='{poll_ms} ms');\n\
             CREATE STREAM Counts (c BIGINT) WITH ('type'='sink', 'extension'='file', \
             'file.path'='{}', 'file.sync'='{sync}');\n\
             INSERT INTO Counts SELECT count(*) AS c FROM Numbers;\n",
            path(Inside::NUMBERS),
            path(Inside::COUNTS),
        )
    }

    fn prepared(folder: &Path) -> Prepared {
        let prepared = prepare(&folder.join("app.toml"), &|_| None);
        prepared.unwrap()
    }

    /// What comes of asking for another configuration.
    fn reload(
        &self,
        give: impl FnOnce() -> Prepared + Send + 'static,
    ) -> Result<Reloaded, Refused> {
        let door = self.door.clone();
        let (tell, told) = bounded(1);
        std::thread::spawn(move || {
            let _ = tell.send(door.reload(move || Ok(give())));
        });
        told.recv_timeout(DEADLINE).unwrap()
    }

    fn append(&self, numbers: std::ops::Range<u64>) {
        let lines: String = numbers.map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let mut options = std::fs::File::options();
        let file = options.append(true).create(true);
        let mut file = file.open(self.site.path(Inside::NUMBERS)).unwrap();
        file.write_all(lines.as_bytes()).unwrap();
    }

    /// All numbers are counted, each once.
    fn counts_to(&self, last: u64) {
        let path = self.site.path(Inside::COUNTS);
        let count = |line: &str| -> u64 {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            row["c"].as_u64().unwrap()
        };
        let read = || std::fs::read_to_string(&path).unwrap_or_default();
        wait_until("the counts", || {
            read().lines().count() >= usize::try_from(last).unwrap()
        });
        let counts: Vec<u64> = read().lines().map(count).collect();
        assert_eq!(counts, (1..=last).collect::<Vec<_>>());
    }
}

#[test]
fn a_change_that_cannot_be_made_to_its_end_is_taken_back_and_asked_for_again() {
    const TOO_MUCH: usize = 65 << 20;
    let site = Site::new("", "");
    let (door, requests) = Door::new();
    let inside = Inside { site, door };
    inside.write(20, true);
    let folder = inside.site.path(".");
    let (stop, stopped) = bounded(1);
    let first = Inside::prepared(&folder);
    let daemon = std::thread::spawn(move || {
        first.run(Orders {
            requests,
            ..Orders::only_stop(stopped)
        })
    });
    inside.append(0..10);
    inside.counts_to(10);
    // What ends for the sake of a change that the log cannot take begins again as it was.
    inside.write(21, false);
    let given = folder.clone();
    let refused = inside.reload(move || {
        let mut prepared = Inside::prepared(&given);
        let application = Arc::make_mut(&mut prepared.application);
        let much = ("much".to_owned(), "x".repeat(TOO_MUCH));
        application.streams[0].settings.push(much);
        prepared
    });
    assert!(matches!(refused, Err(Refused::Pipeline(_))), "{refused:?}");
    inside.append(10..20);
    inside.counts_to(20);
    // Whoever reads comes to grief.
    let refused = inside.reload(|| panic!("as a test wants it"));
    assert!(matches!(refused, Err(Refused::Unread)), "{refused:?}");
    // What is in force is known all the same.
    let given = folder.clone();
    let refused = inside.reload(move || {
        let mut prepared = Inside::prepared(&given);
        prepared.settings.store.path = given.join("other");
        prepared
    });
    let fixed = matches!(refused, Err(Refused::Fixed { key: "store.path" }));
    assert!(fixed, "{refused:?}");
    let given = folder.clone();
    let changed = inside.reload(move || Inside::prepared(&given)).unwrap();
    assert_eq!(changed.sources.restarted, ["Numbers"]);
    assert_eq!(changed.sinks.restarted, ["Counts"]);
    inside.append(20..30);
    inside.counts_to(30);
    drop(stop);
    daemon.join().unwrap().unwrap();
}
