//! What the daemon reports of itself reaches both who may listen: the stream `_events`, and
//! whoever was given to the daemon.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail where it stands"
)]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/wait.rs"]
mod wait;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use crossbeam::channel::{Sender, bounded};
use eventflux::daemon::{Orders, prepare};
use eventflux::event::{Report, ReportKind};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::daemon::Site;
use crate::wait::wait_until;

/// A daemon in this process, and what it reports.
struct Listened {
    stop: Sender<()>,
    daemon: JoinHandle<()>,
    reports: mpsc::Receiver<Report>,
    heard: Vec<Report>,
}

impl Listened {
    fn start(site: &Site) -> Listened {
        let prepared = prepare(&site.path("app.toml"), &|_| None).unwrap();
        let (stop, stopped) = bounded(1);
        let (to, reports) = mpsc::channel(64);
        let daemon = std::thread::spawn(move || {
            let orders = Orders {
                reports: Some(to),
                ..Orders::only_stop(stopped)
            };
            prepared.run(orders).unwrap();
        });
        Listened {
            stop,
            daemon,
            reports,
            heard: Vec::new(),
        }
    }

    /// All of a kind so far.
    fn heard(&mut self, kind: ReportKind) -> Vec<Report> {
        while let Ok(report) = self.reports.try_recv() {
            self.heard.push(report);
        }
        let of_kind = self.heard.iter().filter(|report| report.kind == kind);
        of_kind.cloned().collect()
    }

    fn stop(self) {
        drop(self.stop);
        self.daemon.join().unwrap();
    }
}

/// A site whose file `told` gets the rows of `_events`; `sql` comes first.
fn site(sql: &str) -> Site {
    let site = Site::new("", "");
    let path = site.path("told").display().to_string();
    let told = format!(
        "CREATE STREAM Told (event STRING, stream STRING, reason STRING, details JSON) WITH \
         ('type' = 'sink', 'extension' = 'file', 'file.path' = '{path}');\n\
         INSERT INTO Told SELECT event, stream, reason, details FROM _events;\n"
    );
    site.configure(&[sql, &told].concat(), "");
    site
}

/// The rows of an event so far.
fn told(site: &Site, event: &str) -> Vec<Value> {
    let text = fs::read_to_string(site.path("told")).unwrap_or_default();
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    let rows = whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    rows.filter(|row: &Value| row["event"] == event).collect()
}

/// The same, as JSON, of what was heard.
fn details(report: &Report) -> Value {
    serde_json::from_str(report.details.as_deref().unwrap()).unwrap()
}

#[test]
fn a_store_that_is_damaged_at_the_first_start_is_told_to_both() {
    let site = site("");
    let first = Listened::start(&site);
    wait_until("the store is there", || {
        site.path("store/store/conf").exists()
    });
    first.stop();
    let faulty = b"segment_size: 1\nversion: 9.9\n1234";
    fs::write(site.path("store/store/conf"), faulty).unwrap();
    let mut second = Listened::start(&site);
    wait_until("it is a row", || {
        told(&site, "store.quarantined").len() == 1
    });
    let heard = second.heard(ReportKind::StoreQuarantined);
    assert_eq!(heard.len(), 1);
    let to = site.path("store/quarantine/1");
    assert_eq!(details(&heard[0])["path"], to.display().to_string());
    assert!(to.exists());
    let row = &told(&site, "store.quarantined")[0];
    assert_eq!(row["details"], details(&heard[0]));
    assert_eq!(row["reason"], heard[0].reason.as_str());
    assert_eq!(row["stream"], "");
    second.stop();
}

/// Files of an earlier time, as a disk that lies about its writes leaves them.
#[test]
fn a_store_that_went_back_in_silence_is_told_to_both() {
    let site = site("");
    run_once(&site);
    let (current, earlier) = (site.path("store/store"), site.path("earlier"));
    copy(&current, &earlier);
    run_once(&site);
    fs::remove_dir_all(&current).unwrap();
    copy(&earlier, &current);
    let mut listened = Listened::start(&site);
    wait_until("it is a row", || told(&site, "store.lost").len() == 1);
    let heard = listened.heard(ReportKind::StoreLost);
    assert_eq!(heard.len(), 1);
    let row = &told(&site, "store.lost")[0];
    assert_eq!(row["reason"], heard[0].reason.as_str());
    listened.stop();
}

/// Starts it, waits until something more is in its store, and stops it.
fn run_once(site: &Site) {
    let mark = || fs::read(site.path("store/mark")).ok();
    let before = mark();
    let listened = Listened::start(site);
    wait_until("the store is written", || mark() != before);
    listened.stop();
}

fn copy(from: &Path, to: &Path) {
    let said = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(said.unwrap().success());
}

/// The reports of the losses are outputs of the sink that loses, and are lost as well.
#[test]
fn outputs_that_are_given_up_are_told_to_both_with_their_number() {
    let folder = tempfile::tempdir().unwrap();
    // Where the sink's folder should be made stands a file.
    fs::write(folder.path().join("out"), "in the way").unwrap();
    let sql = format!(
        "CREATE TRIGGER Beat AT EVERY 100 MILLISECONDS;\n\
         CREATE STREAM Out (event STRING) WITH ('type' = 'sink', 'extension' = 'file', \
         'file.path' = '{}', 'outbox.ttl' = '1 s');\n\
         INSERT INTO Out SELECT 'beat' AS event FROM Beat;\n\
         INSERT INTO Out SELECT event FROM _events;\n",
        folder.path().join("out/file").display()
    );
    let site = site(&sql);
    let mut listened = Listened::start(&site);
    wait_until("it is a row", || !told(&site, "outbox.dropped").is_empty());
    let heard = listened.heard(ReportKind::OutboxDropped);
    let row = &told(&site, "outbox.dropped")[0];
    assert_eq!(
        (&row["stream"], &row["reason"]),
        (&"Out".into(), &"expired".into())
    );
    assert_eq!(
        (heard[0].stream.as_str(), heard[0].reason.as_str()),
        ("Out", "expired")
    );
    let lost = details(&heard[0]);
    assert!(lost["outputs"].as_u64() >= Some(1), "{lost}");
    assert_eq!(row["details"], lost);
    assert!(!listened.heard(ReportKind::SinkDown).is_empty());
    listened.stop();
}
