//! The real binary between real brokers: killed, stopped, fed with rubbish, left alone.

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

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::client::Version;
use crate::daemon::Site;
use crate::mosquitto::Mosquitto;
use crate::random::Random;
use crate::traffic::{Delivered, Traffic};

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
    fn lose_uplink(&mut self, more: u64) {
        self.uplink.stop();
        let (begin, _) = self.traffic.progress();
        // A burst more, since the publisher may be ahead by that.
        self.traffic.allow(more + u64::from(traffic::BURST));
        for part in [more / 2, more] {
            self.traffic
                .wait("it is collected without an uplink", |state| {
                    state.published >= begin + part
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
            _ if number == kills / 2 => self.lose_uplink(messages / 20),
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

/// Every number has come; one that came again has the same id, which no other has; new ones
/// ascend. How many came again.
fn check(delivered: &[Delivered], messages: u64) -> usize {
    let mut ids: BTreeMap<u64, &str> = BTreeMap::new();
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    let mut repeats = 0;
    for one in delivered {
        let Delivered { number, id } = one;
        match ids.get(number) {
            Some(known) => {
                assert_eq!(known, id, "number {number} came again");
                repeats += 1;
            }
            None => {
                let last = ids.last_key_value().map(|(last, _)| *last);
                assert!(
                    last < Some(*number),
                    "{number} is new, and came after {last:?}"
                );
                ids.insert(*number, id);
                let other = numbers.insert(id, *number);
                assert_eq!(other, None, "{id} is also that of {number}");
            }
        }
    }
    let missing: Vec<u64> = (0..messages).filter(|n| !ids.contains_key(n)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert_eq!(ids.len(), usize::try_from(messages).unwrap());
    repeats
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
