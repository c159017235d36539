//! The real binary between real brokers, killed again and again; and with a store whose files are
//! not what they were. Nothing that a publisher was told is accepted gets lost, nothing is made up,
//! and what damage takes is said.
//!
//! `EVENTFLUX_KILL_S` says for how many seconds the kills follow each other; `make soak` takes ten
//! minutes.

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
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::client::{Client, Packet, Version};
use crate::daemon::Site;
use crate::mosquitto::{DEADLINE, Mosquitto};
use crate::random::Random;
use crate::traffic::{Traffic, check};

/// How long kills follow each other, in seconds.
const KILL_S: u64 = 12;
/// Numbers under way at a time, between the publisher and what comes out.
const UNDER_WAY: u64 = 3_000;
/// How often the store's files are damaged.
const DAMAGES: u64 = 20;
/// Numbers that are published between two damages.
const SOME: i64 = 20;

/// What is forwarded, and how.
fn forwarding(version: Version, upstream: &str, uplink: &str) -> String {
    let version = version.name();
    format!(
        "CREATE STREAM Readings (n BIGINT) WITH ('type'='source', 'extension'='mqtt', \
         'format'='json', 'mqtt.broker'='{upstream}', 'mqtt.topic'='in/+', \
         'mqtt.version'='{version}');\n\
         CREATE STREAM Alerts (n BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='{uplink}', 'mqtt.topic'='out', 'mqtt.version'='{version}');\n\
         INSERT INTO Alerts SELECT n FROM Readings;\n"
    )
}

/// Frequent checkpoints, so that kills meet them too.
const BUSY: &str = "[checkpoint]\ninterval = \"200 ms\"\n";

/// The daemon between two brokers, and the misfortunes that befall all three.
struct Ordeal {
    upstream: Mosquitto,
    uplink: Mosquitto,
    site: Site,
    traffic: Traffic,
    random: Random,
    kills: u64,
}

impl Ordeal {
    fn new(version: Version, messages: u64, seed: u64) -> Ordeal {
        let (upstream, uplink) = (Mosquitto::new(), Mosquitto::new());
        let mut site = Site::new(&forwarding(version, &upstream.url(), &uplink.url()), BUSY);
        site.start();
        // The session must be there before the first number is.
        site.wait_for("connected to the broker");
        mosquitto::wait_until("the subscription", || upstream.log().contains("in/+"));
        Ordeal {
            traffic: Traffic::start(version, upstream.port, uplink.port, messages),
            upstream,
            uplink,
            site,
            random: Random::new(seed),
            kills: 0,
        }
    }

    fn kill(&mut self) {
        self.random.spin(Duration::from_millis(20));
        self.site.kill();
        self.kills += 1;
    }

    /// Restarts the upstream broker in order; it keeps its sessions.
    fn restart_upstream(&mut self) {
        self.traffic.pause();
        self.upstream.stop();
        self.upstream.start();
        self.traffic.resume();
    }

    /// Takes the uplink away for as long as `more` numbers take, and kills the daemon meanwhile.
    fn lose_uplink(&mut self, more: u64, messages: u64) {
        self.uplink.stop();
        let (begin, _) = self.traffic.progress();
        // A burst more, since the publisher may be ahead by that.
        self.traffic.allow(more + u64::from(traffic::BURST));
        for part in [more / 2, more] {
            self.traffic
                .wait("it is collected without an uplink", |state| {
                    state.published >= (begin + part).min(messages)
                });
            self.kill();
            self.site.start();
        }
        self.uplink.start();
    }

    /// One kill, and what else happens around it.
    fn misfortune(&mut self, number: u64, kills: u64, messages: u64) {
        match number {
            _ if number == kills / 4 => self.restart_upstream(),
            _ if number == kills / 2 => self.lose_uplink(messages / 20, messages),
            // Three quarters of the way the broker restarts while the daemon is away.
            _ if number == kills * 3 / 4 => {
                self.kill();
                self.restart_upstream();
                self.site.spawn();
            }
            _ => {}
        }
        if number % 5 == 1 {
            // In the middle of a start, too.
            self.kill();
            self.site.spawn();
            self.random.spin(Duration::from_millis(150));
        }
    }
}

/// Kills the daemon `kills` times while `messages` numbers go through it.
fn kills_lose_nothing(version: Version, messages: u64, kills: u64, seed: u64) {
    let begin = Instant::now();
    let mut ordeal = Ordeal::new(version, messages, seed);
    let step = messages / (kills + 1);
    let mut number = 0;
    while ordeal.kills < kills {
        let target = (number + 1) * step + ordeal.random.below(step / 2);
        ordeal
            .traffic
            .wait("numbers come out", |state| state.distinct >= target);
        ordeal.misfortune(number, kills, messages);
        if ordeal.kills < kills {
            ordeal.kill();
            ordeal.site.spawn();
        }
        number += 1;
    }
    ordeal
        .traffic
        .wait("everything comes out", |state| state.distinct == messages);
    ordeal.site.stop();
    let recognised: u64 = ordeal.site.logs().map(|log| recognised(&log)).sum();
    let delivered = ordeal.traffic.finish();
    let repeats = check(&delivered, messages);
    println!(
        "MQTT {}: {messages} messages, {} deliveries, {repeats} repeats, {} kills, {recognised} \
         duplicates recognised, {:.1?}",
        version.name(),
        delivered.len(),
        ordeal.kills,
        begin.elapsed()
    );
}

/// How many messages a run has recognised as delivered again.
fn recognised(log: &str) -> u64 {
    let counts = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("recognised ")?;
        rest.split(' ').next()?.parse::<u64>().ok()
    });
    counts.sum()
}

#[test]
fn twenty_kills_lose_nothing() {
    kills_lose_nothing(Version::V311, 20_000, 20, 1);
}

#[test]
fn kills_lose_nothing_with_mqtt_5() {
    kills_lose_nothing(Version::V5, 2_000, 4, 2);
}

#[test]
fn kills_at_any_moment_lose_nothing() {
    let seconds = std::env::var("EVENTFLUX_KILL_S").ok();
    let seconds = seconds.map_or(KILL_S, |text| text.parse().expect("a number of seconds"));
    let (upstream, uplink) = (Mosquitto::new(), Mosquitto::new());
    let sql = forwarding(Version::V311, &upstream.url(), &uplink.url());
    let mut site = Site::new(&sql, BUSY);
    site.start();
    site.wait_for("connected to the broker");
    mosquitto::wait_until("the subscription", || upstream.log().contains("in/+"));
    let traffic = Traffic::start_within(
        Version::V311,
        upstream.port,
        uplink.port,
        u64::MAX / 2,
        UNDER_WAY,
    );
    // The first numbers of a session cannot be recognised when they come again.
    traffic.wait("numbers come out", |state| state.distinct > UNDER_WAY);
    let mut random = Random::new(3);
    let begin = Instant::now();
    let mut kills = 0;
    while begin.elapsed() < Duration::from_secs(seconds) {
        wait::hang(Duration::from_millis(50 + random.below(450)));
        site.kill();
        kills += 1;
        site.spawn();
    }
    traffic.pause();
    let (published, _) = traffic.progress();
    traffic.wait("everything comes out", |state| state.distinct == published);
    site.stop();
    let delivered = traffic.finish();
    let repeats = check(&delivered, published);
    println!(
        "{kills} kills in {seconds} s: {published} messages, {} deliveries, {repeats} repeats",
        delivered.len()
    );
    assert!(kills > seconds, "{kills} kills");
}

/// A row that has come out.
#[derive(Debug)]
struct Row {
    n: i64,
    count: i64,
    id: String,
}

fn next_row(client: &mut Client) -> Row {
    loop {
        match client.next().unwrap().expect("a message in time") {
            Packet::Publish(message) => {
                client.acknowledge(message.packet).unwrap();
                let row: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
                return Row {
                    n: row["n"].as_i64().unwrap(),
                    count: row["c"].as_i64().unwrap(),
                    id: row["_id"].as_str().unwrap().to_owned(),
                };
            }
            Packet::PubAck(_) | Packet::Other(_) => {}
        }
    }
}

fn counting(upstream: &str, uplink: &str) -> String {
    format!(
        "CREATE STREAM Readings (n BIGINT) WITH ('type'='source', 'extension'='mqtt', \
         'format'='json', 'mqtt.broker'='{upstream}', 'mqtt.topic'='in/+');\n\
         CREATE STREAM Alerts (n BIGINT, c BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='{uplink}', 'mqtt.topic'='out');\n\
         INSERT INTO Alerts SELECT n, count(*) AS c FROM Readings;\n"
    )
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if std::fs::metadata(&path).unwrap().len() > 0 {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Flips bits in some bytes of one of the store's files; says what.
fn damage(store: &Path, random: &mut Random) -> String {
    // What was set aside before is nobody's any more.
    let mut files = files(store);
    files.retain(|path| {
        !path
            .components()
            .any(|part| part.as_os_str() == "quarantine")
    });
    let path = &files[random.index(files.len())];
    let mut bytes = std::fs::read(path).unwrap();
    // A file of the store is mostly empty space: what is written is what is to be hit.
    let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let count = 1 + random.below(4);
    for _ in 0..count {
        let at = match written.len() {
            0 => random.index(bytes.len()),
            some => written[random.index(some)],
        };
        bytes[at] ^= 1 << random.below(8);
    }
    std::fs::write(path, bytes).unwrap();
    format!("{count} bytes of {}", path.display())
}

#[test]
fn flipped_bits_stop_nothing_and_are_told() {
    let (upstream, uplink) = (Mosquitto::new(), Mosquitto::new());
    let mut site = Site::new(&counting(&upstream.url(), &uplink.url()), BUSY);
    let connected = Client::connect(uplink.port, "listener", Version::V311, true, DEADLINE);
    let mut listener = connected.unwrap();
    listener.subscribe("out").unwrap();
    let mut random = Random::new(4);
    let (mut n, mut last, mut losses) = (0, None::<Row>, 0);
    let mut told: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let mut what = "nothing".to_owned();
    for round in 0..=DAMAGES {
        site.start();
        if round == 0 {
            mosquitto::wait_until("the subscription", || upstream.log().contains("in/+"));
        }
        let lines: Vec<String> = (n..n + SOME).map(|n| format!("{{\"n\":{n}}}")).collect();
        upstream.publish("in/a", 1, &lines);
        n += SOME;
        loop {
            let row = next_row(&mut listener);
            let known = told.insert(row.id.clone(), (row.n, row.count));
            let is_other = known.is_some_and(|known| known != (row.n, row.count));
            if known.is_some() && !is_other {
                continue;
            }
            let follows = last.as_ref().map_or(0, |last| last.count) + 1 == row.count;
            // A store that has gone back may give an id again: not without a word.
            if !follows || is_other {
                losses += 1;
                let said = site.log();
                assert!(
                    is_told(&said),
                    "{what}: {last:?}, then {row:?}, and not a word:\n{said}"
                );
            }
            let is_end = row.n == n - 1;
            last = Some(row);
            if is_end {
                break;
            }
        }
        if random.below(2) == 0 {
            site.kill();
        } else {
            site.stop();
        }
        what = damage(&site.path("store"), &mut random);
    }
    println!("{DAMAGES} times damaged, {losses} times something was lost, never without a word");
}

fn is_told(said: &str) -> bool {
    said.contains("WARN") || said.contains("ERROR")
}
