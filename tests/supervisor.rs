//! What a service manager hears of the daemon, and what the log looks like that it keeps.
//!
//! The service manager is a socket of ours; the real one runs in the tests on booted systems.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by them"
)]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/wait.rs"]
mod wait;

use std::collections::BTreeMap;
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{bounded, never};
use tokio::sync::watch;

use daemon::Site;
use eventflux::event::{Batch, DeliveryMark, Stamp, Value};
use eventflux::held::Held;
use eventflux::pipeline::{
    Core, Disk, Durability, Handles, Limits, Open, Opened, Pulse, RoomLimits, SourceHandle,
    StatePolicy, run,
};
use eventflux::source::Arrival;
use eventflux::sql::plan::StreamId;
use eventflux::sql::{SqlText, compile};
use eventflux::store::sim::SimStore;

const SQL: &str = "CREATE STREAM S (v BIGINT) WITH (
  'type' = 'source', 'extension' = 'simulator', 'simulator.every' = '20 ms',
  'simulator.column.v' = 'counter(0, 1)');
CREATE STREAM L (v BIGINT) WITH ('type' = 'sink', 'extension' = 'log');
INSERT INTO L SELECT v FROM S WHERE 1 / (v % 2) > 1;";

/// A socket as a service manager has it.
struct Listener {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Listener {
    fn new(site: &mut Site) -> Listener {
        let path = site.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(wait::DEADLINE)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        site.environment.push(("NOTIFY_SOCKET", path));
        Listener {
            socket,
            heard: Vec::new(),
        }
    }

    /// The next notice with a line that begins so, and all of its lines.
    fn wait_for(&mut self, start: &str) -> Vec<String> {
        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| {
                panic!("no {start} has come: {error}; but {:?}", self.heard);
            });
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            self.heard.push(text);
            if lines.iter().any(|line| line.starts_with(start)) {
                return lines;
            }
        }
    }

    fn all(&mut self) -> String {
        let mut buffer = [0; 4096];
        self.socket.set_nonblocking(true).unwrap();
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            self.heard.push(text);
        }
        self.heard.join("\n")
    }
}

#[test]
fn a_service_manager_hears_of_start_reload_and_stop() {
    let mut site = Site::new(SQL, "");
    let mut listener = Listener::new(&mut site);
    site.spawn();
    let ready = listener.wait_for("READY=1");
    assert!(
        ready[1].starts_with("STATUS=Running 1 sources and 1 sinks;"),
        "{ready:?}"
    );

    site.signal("HUP");
    let reloading = listener.wait_for("RELOADING=1");
    let since = reloading
        .iter()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(since.unwrap().parse::<u64>().unwrap() > 0);
    let ready = listener.wait_for("READY=1");
    assert!(!ready[1].contains("refused"), "{ready:?}");

    site.configure("CREATE STREAM", "");
    site.signal("HUP");
    listener.wait_for("RELOADING=1");
    let ready = listener.wait_for("READY=1");
    assert!(
        ready[1].contains("; a new configuration is refused: "),
        "{ready:?}"
    );

    site.stop();
    assert!(listener.all().contains("STOPPING=1\nSTATUS=Stopping"));
    // Nobody has asked for a watchdog.
    assert!(!listener.all().contains("WATCHDOG=1"));
}

#[test]
fn the_watchdog_hears_the_turn_while_nothing_happens() {
    let mut site = Site::new(SQL, "");
    let mut listener = Listener::new(&mut site);
    site.environment
        .push(("WATCHDOG_USEC", "300000".to_owned()));
    site.spawn();
    listener.wait_for("READY=1");
    let mut last = Instant::now();
    for _ in 0..10 {
        listener.wait_for("WATCHDOG=1");
        // Three times in the span, so that one may be late.
        assert!(last.elapsed() < Duration::from_millis(300) * 2);
        last = Instant::now();
    }
    site.signal("STOP");
    listener.all();
    listener.socket.set_nonblocking(false).unwrap();
    let span = Some(Duration::from_millis(400));
    listener.socket.set_read_timeout(span).unwrap();
    assert!(
        listener.socket.recv(&mut [0; 64]).is_err(),
        "it speaks while it stands still"
    );
    site.signal("CONT");
    listener
        .socket
        .set_read_timeout(Some(wait::DEADLINE))
        .unwrap();
    listener.wait_for("WATCHDOG=1");
    site.stop();
}

/// A turn that hangs, here in a question about the disk, is not heard, whatever other threads do.
#[test]
fn a_turn_that_hangs_is_not_heard() {
    let store = SimStore::new();
    let (asked, asks) = bounded(0);
    let (go_on, goes_on) = bounded::<()>(0);
    let disk = Disk {
        open: Box::new(|| panic!("the store works")),
        bytes_free: Box::new(move || {
            let _ = asked.send(());
            let _ = goes_on.recv();
            Some(u64::MAX)
        }),
    };
    let (beat, beats) = bounded(1 << 10);
    let (to, arrivals) = bounded(1);
    let (no_sinks, confirmed) = bounded(0);
    let (released, _released) = watch::channel(0);
    let stream = StreamId(0);
    let handles = Handles {
        sources: BTreeMap::from([(0, SourceHandle { stream, released })]),
        arrivals,
        feeds: Vec::new(),
        confirmed,
        commands: never(),
        stopping: watch::channel(false).1,
        drained: watch::channel(false).0,
        pulse: Pulse::new(Duration::from_millis(30), move || {
            let _ = beat.send(());
        }),
        metrics: Arc::default(),
    };
    let opened = open(&store);
    let pipeline = std::thread::spawn(move || run(disk, opened, handles, limits()));
    for _ in 0..5 {
        beats.recv_timeout(wait::DEADLINE).unwrap();
    }
    // What is written has the room on the disk looked for.
    to.send(arrival()).unwrap();
    asks.recv_timeout(wait::DEADLINE).unwrap();
    while beats.try_recv().is_ok() {}
    assert!(beats.recv_timeout(Duration::from_millis(200)).is_err());
    drop((go_on, asks));
    beats.recv_timeout(wait::DEADLINE).unwrap();
    drop((to, no_sinks));
    pipeline.join().unwrap().unwrap();
}

fn open(store: &SimStore) -> Opened {
    let texts = [SqlText {
        path: "app.sql".to_owned(),
        text: "CREATE STREAM S (v BIGINT);".to_owned(),
    }];
    let (core, _) = Core::open(&Open {
        store: Arc::new(store.clone()),
        identity: 7,
        application: Arc::new(compile(&texts).unwrap()),
        texts: &texts,
        sinks: &[],
        checkpoints_kept: 1,
        state_policy: StatePolicy::KeepCompatible,
    })
    .unwrap();
    Opened {
        checkpoint: core.last(),
        core,
        identity: 7,
    }
}

fn limits() -> Limits {
    Limits {
        turn_rows_max: 10,
        turn_bytes_max: 1 << 20,
        durability: Durability::Always,
        checkpoint_interval: None,
        checkpoint_log_bytes_max: None,
        room: RoomLimits {
            bytes_max: 0,
            free_bytes_min: 1,
        },
        unsynced_bytes_max: 1 << 20,
        jump_ms_max: i64::MAX,
        sinks_within: Duration::ZERO,
    }
}

fn arrival() -> Arrival {
    let mut rows = Batch::new(1);
    rows.push(Stamp::default(), [Value::Int(1)]);
    Arrival {
        source: 0,
        rows,
        rejected: Vec::new(),
        marks: Vec::<DeliveryMark>::new(),
        through: 1,
        held: Held::default(),
    }
}

#[test]
fn the_log_can_be_json() {
    let mut site = Site::new(SQL, "");
    site.arguments = vec!["--log-format", "json"];
    site.start();
    site.wait_for("could not be computed");
    let log = site.stop();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let that_says = |text: &str| {
        let says = |line: &&serde_json::Value| line["message"].as_str().unwrap().contains(text);
        lines.iter().find(says).unwrap()
    };
    let ready = that_says("ready after");
    assert_eq!(ready["level"], "info");
    assert!(ready["ts"].as_str().unwrap().ends_with('Z'));
    let fault = that_says("could not be computed");
    assert_eq!(
        (&fault["level"], &fault["query"]),
        (&"warn".into(), &"L".into())
    );
}

/// Without a journal that takes them, lines carry what it would make of them. Where the standard
/// error does not lead to the journal, nothing of it shows.
#[test]
fn the_log_follows_where_the_standard_error_leads() {
    let mut site = Site::new(SQL, "");
    for leads_there in [true, false] {
        let log = site.path("its.log");
        let mut command = site.command(&log);
        let stderr = std::fs::metadata(&log).unwrap();
        let inode = stderr.st_ino() + u64::from(!leads_there);
        command.env("JOURNAL_STREAM", format!("{}:{inode}", stderr.st_dev()));
        let mut child = command.spawn().unwrap();
        let text = || std::fs::read_to_string(&log).unwrap();
        wait::wait_until("it is ready", || text().contains("ready after"));
        assert_eq!(text().starts_with("<6>"), leads_there, "{}", text());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    site.kill();
}
