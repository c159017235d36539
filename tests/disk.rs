//! The real binary on a disk that really is full, nearly full or read-only, between real brokers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail where it stands"
)]

#[path = "common/client.rs"]
mod client;
#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/small_disk.rs"]
mod small_disk;
#[path = "common/traffic.rs"]
mod traffic;
#[path = "common/wait.rs"]
mod wait;

use crate::client::Version;
use crate::daemon::Site;
use crate::mosquitto::Mosquitto;
use crate::small_disk::Disk;
use crate::traffic::{Traffic, check};

/// Said before each attempt to open the store.
const ATTEMPT: &str = "the store is opened anew";

/// Runs a test with a site and its disk.
fn on_a_small_disk(name: &str, options: &str, test: impl FnOnce(Site, Disk)) {
    let make = || Site::new("", "");
    let place = |site: &Site| site.path("store");
    small_disk::on_a_small_disk((name, options), make, place, test);
}

fn forwarding(upstream: &Mosquitto, uplink: &Mosquitto) -> String {
    let (upstream, uplink) = (upstream.url(), uplink.url());
    format!(
        "CREATE STREAM Readings (n BIGINT) WITH ('type'='source', 'extension'='mqtt', \
         'format'='json', 'mqtt.broker'='{upstream}', 'mqtt.topic'='in/+');\n\
         CREATE STREAM Alerts (n BIGINT) WITH ('type'='sink', 'extension'='mqtt', \
         'mqtt.broker'='{uplink}', 'mqtt.topic'='out');\n\
         INSERT INTO Alerts SELECT n FROM Readings;\n"
    )
}

/// A daemon at work, and what goes through it.
struct Flow {
    upstream: Mosquitto,
    uplink: Mosquitto,
    traffic: Traffic,
}

impl Flow {
    fn start(site: &mut Site, toml: &str, messages: u64) -> Flow {
        let (upstream, uplink) = (Mosquitto::new(), Mosquitto::new());
        site.configure(&forwarding(&upstream, &uplink), toml);
        site.start();
        mosquitto::wait_until("the subscription", || {
            upstream.log().contains("in/+ (QoS 1)")
        });
        let traffic = Traffic::start(Version::V311, upstream.port, uplink.port, messages);
        Flow {
            upstream,
            uplink,
            traffic,
        }
    }

    fn wait(&self, count: u64) {
        let what = format!("{count} numbers come out");
        self.traffic.wait(&what, |state| state.distinct >= count);
    }
}

/// How often this run has said `text`.
fn count(site: &Site, text: &str) -> usize {
    site.log().matches(text).count()
}

fn wait_for(site: &Site, text: &str, times: usize) {
    let what = format!("'{text}' {times} times");
    mosquitto::wait_until(&what, || count(site, text) >= times);
}

#[test]
fn a_full_disk_holds_back_and_loses_nothing() {
    let name = "a_full_disk_holds_back_and_loses_nothing";
    on_a_small_disk(name, "", |mut site, disk| {
        const MESSAGES: u64 = 40_000;
        let toml = "free_bytes_min = 0\n[checkpoint]\ninterval = \"300 ms\"\n\
                    [log]\nlevel = \"debug\"\n";
        let flow = Flow::start(&mut site, toml, MESSAGES);
        for round in 1..=2 {
            flow.wait(round * MESSAGES / 8);
            let times = usize::try_from(round).unwrap();
            let attempts = count(&site, ATTEMPT);
            disk.fill(0);
            // Enough to fill what the store has already taken of the disk.
            flow.traffic.allow(MESSAGES / 8);
            wait_for(&site, ATTEMPT, attempts + 2);
            assert_eq!(
                count(&site, "recovered from"),
                times - 1,
                "the disk is full"
            );
            disk.clear();
            wait_for(&site, "recovered from", times);
        }
        flow.wait(MESSAGES);
        let said = site.stop();
        assert!(said.contains("degraded, disk_full"), "{said}");
        assert!(!said.contains("damaged"), "{said}");
        // Neither source nor sink has lost its connection over it.
        assert_eq!(said.matches("connected to the broker").count(), 2, "{said}");
        check(&flow.traffic.finish(), MESSAGES);
        drop((flow.upstream, flow.uplink));
    });
}

#[test]
fn little_room_holds_back_before_the_disk_is_full() {
    let name = "little_room_holds_back_before_the_disk_is_full";
    on_a_small_disk(name, "", |mut site, disk| {
        const MESSAGES: u64 = 40_000;
        let toml = "free_bytes_min = \"4 MiB\"\n[checkpoint]\ninterval = \"300 ms\"\n";
        let flow = Flow::start(&mut site, toml, MESSAGES);
        flow.wait(MESSAGES / 8);
        // What is between the two is for the checkpoint and for confirmations.
        disk.fill(7 << 19);
        flow.traffic.allow(MESSAGES / 4);
        site.wait_for("degraded, disk_low: ");
        disk.clear();
        site.wait_for("recovered from disk_low");
        flow.wait(MESSAGES);
        let said = site.stop();
        assert!(!said.contains("store_failures"), "{said}");
        let repeats = check(&flow.traffic.finish(), MESSAGES);
        assert_eq!(repeats, 0, "nothing failed");
    });
}

#[test]
fn a_start_waits_for_room_on_the_disk() {
    let name = "a_start_waits_for_room_on_the_disk";
    on_a_small_disk(name, "", |mut site, disk| {
        let (upstream, uplink) = (Mosquitto::new(), Mosquitto::new());
        site.configure(&forwarding(&upstream, &uplink), "");
        disk.fill(0);
        site.spawn();
        site.wait_for("degraded, disk_full: ");
        site.signal("TERM");
        assert_eq!(site.wait_end(), Some(4), "{}", site.log());
        assert!(site.log().contains("the disk is full"), "{}", site.log());
        site.spawn();
        site.wait_for("degraded, disk_full: ");
        assert!(!site.log().contains("connected"), "{}", site.log());
        disk.clear();
        site.wait_for("ready after");
        let said = site.stop();
        assert!(said.contains("recovered from disk_full"), "{said}");
    });
}

#[test]
fn a_disk_that_cannot_be_written_is_said_in_a_sentence() {
    let name = "a_disk_that_cannot_be_written_is_said_in_a_sentence";
    on_a_small_disk(name, ",ro", |mut site, _disk| {
        let (upstream, uplink) = (Mosquitto::new(), Mosquitto::new());
        site.configure(&forwarding(&upstream, &uplink), "");
        let (code, said) = site.run_to_end();
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains("Read-only file system"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    });
}

#[test]
fn a_store_at_its_limit_holds_back_until_it_is_emptied() {
    const MESSAGES: u64 = 40_000;
    let mut site = Site::new("", "");
    let toml = "bytes_max = \"512 KiB\"\n[checkpoint]\ninterval = \"300 ms\"\nkeep = 1\n";
    let mut flow = Flow::start(&mut site, toml, MESSAGES);
    flow.wait(MESSAGES / 8);
    flow.uplink.stop();
    flow.traffic.allow(MESSAGES);
    site.wait_for("degraded, store_full: ");
    flow.uplink.start();
    site.wait_for("recovered from store_full");
    flow.wait(MESSAGES);
    let said = site.stop();
    assert!(!said.contains("store_failures"), "{said}");
    check(&flow.traffic.finish(), MESSAGES);
}
