//! The real binary on a disk that really is full, nearly full or read-only, between real brokers.
//!
//! The disk is a tmpfs of 16 MiB. Mounting it takes root; without, the tests run once more in a
//! user namespace of their own, where they are. Where that is forbidden too they say so and pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::useless_conversion,
    reason = "a test may fail where it stands"
)]

#[path = "common/client.rs"]
mod client;
#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/traffic.rs"]
mod traffic;
#[path = "common/wait.rs"]
mod wait;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::client::Version;
use crate::daemon::Site;
use crate::mosquitto::Mosquitto;
use crate::traffic::{Traffic, check};

/// Said before each attempt to open the store.
const ATTEMPT: &str = "the store is opened anew";
/// Set where the test runs in a namespace of its own.
const INSIDE: &str = "EVENTFLUX_TEST_INSIDE";

/// A small file system; gone when dropped.
struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts it at `at`, with more options if need be; `None` where that is not allowed.
    fn mount(at: &Path, options: &str) -> Option<Disk> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size=16m{options}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
        let done = mount.stderr(Stdio::null()).status();
        let is_mounted = done.is_ok_and(|status| status.success());
        is_mounted.then(|| Disk { at: at.to_owned() })
    }

    /// Fills it but for `left` bytes with a file that is in the way.
    fn fill(&self, left: u64) {
        let mut ballast = File::create(self.at.join("ballast")).unwrap();
        let free = || {
            let disk = nix::sys::statvfs::statvfs(&self.at).unwrap();
            u64::from(disk.blocks_available()) * u64::from(disk.fragment_size())
        };
        while free() > left {
            let some = usize::try_from((free() - left).min(64 << 10)).unwrap();
            if ballast.write_all(&vec![b'x'; some]).is_err() {
                return;
            }
        }
    }

    /// Takes the file away.
    fn clear(&self) {
        std::fs::remove_file(self.at.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open keeps it until then.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// Runs a test with a site and its disk, in a namespace of its own when need be.
fn on_a_small_disk(name: &str, options: &str, test: impl FnOnce(Site, Disk)) {
    // What is printed by a test that passes is not shown; this is.
    let say = |line: &str| std::io::stderr().write_all(line.as_bytes()).unwrap();
    let site = Site::new("", "");
    if let Some(disk) = Disk::mount(&site.path("store"), options) {
        test(site, disk);
        return;
    }
    if std::env::var_os(INSIDE).is_some() {
        say(&format!(
            "\n!!! {name} tests nothing: no tmpfs, not even in a user namespace\n"
        ));
        return;
    }
    let mut again = Command::new("unshare");
    again.arg("-Urm").arg(std::env::current_exe().unwrap());
    again.args(["--exact", name]).env(INSIDE, "1");
    match again.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let complained = String::from_utf8_lossy(&output.stderr);
            if complained.contains("unshare failed") {
                say(&format!(
                    "\n!!! {name} tests nothing: neither mount nor unshare works\n"
                ));
                return;
            }
            assert!(output.status.success(), "{said}\n{complained}");
            say(&complained);
        }
        Err(error) => say(&format!("\n!!! {name} tests nothing: unshare: {error}\n")),
    }
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
