//! Checkpoints of a large state on a real disk: how long the turns wait, how much is written, and
//! what it costs beside work; and how long a restart takes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eventflux::event::{Batch, Stamp, Timestamp, Value};
use eventflux::held::Held;
use eventflux::observe::PipelineMetrics;
use eventflux::pipeline::{
    Core, Disk, Durability, Handles, Input, Limits, Open, Opened, Pulse, Recovered, RoomLimits,
    SourceHandle, StatePolicy, run,
};
use eventflux::source::Arrival;
use eventflux::sql::plan::StreamId;
use eventflux::sql::{SqlText, compile};
use eventflux::store::WriteBatch;
use eventflux::store::sled as store;
use eventflux::store::sled::StoreOptions;
use tokio::sync::watch;

use crate::engine::BATCH_ROWS;
use crate::events::{Events, STREAM, Xorshift};
use crate::figure::{Figure, Measured};
use crate::folder;

/// Devices, of which the state holds a row in a table and a group each: some 100 MB.
const DEVICES: u64 = 450_000;
/// One of so many devices is heard of in a second.
const PARTS: u64 = 100;
const STATE: &str = "CREATE TABLE Last (id BIGINT PRIMARY KEY, name STRING, temperature DOUBLE, \
      humidity DOUBLE, ts BIGINT, note STRING);\n\
    UPSERT INTO Last SELECT seq AS id, sensor_id AS name, temperature, humidity, ts, \
      'nothing worth a note has happened here so far' AS note FROM S;\n\
    INSERT INTO Out SELECT seq, sensor_id, avg(temperature) AS a, max(humidity) AS m, \
      min(temperature) AS lo, stddev(humidity) AS d, count(*) AS n FROM S GROUP BY seq, sensor_id;";
const ALL: &str = "INSERT INTO T SELECT sensor_id, avg(temperature) AS a, max(temperature) AS m, \
      count(*) AS n FROM S WINDOW('tumbling', 1 SECOND) GROUP BY sensor_id;\n\
    INSERT INTO L SELECT avg(temperature) AS a FROM S WINDOW('length', 100);\n\
    INSERT INTO P SELECT a.ts AS x, b.ts AS y FROM PATTERN (EVERY a=S[temperature > 40] -> \
      b=S[temperature < 10 AND sensor_id = a.sensor_id] WITHIN 10 SECONDS);";
const FILTER: &str = "INSERT INTO Out SELECT sensor_id, temperature FROM S WHERE temperature > 30;";
/// The log that is run again.
const LOG_BYTES: usize = 64 << 20;
/// How long the pipeline is driven, with and without checkpoints.
const DRIVEN: Duration = Duration::from_secs(8);

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "C",
        what: "delta checkpoint of 100 MB, 1% changed",
        budget: "pause <= 5 ms, loss <= 5% at one a second",
        measure: Some(changes),
    },
    Figure {
        name: "CZ",
        what: "full checkpoint of T+L+P",
        budget: "<= 0.2 x its CBOR",
        measure: Some(packed),
    },
    Figure {
        name: "R",
        what: "restart with 64 MiB of log and 100 MB of state",
        budget: ">= 1 M events/s, >= 200 MB/s of state",
        measure: Some(restart),
    },
];

fn open(path: &Path, sql: &str) -> (Core, Recovered) {
    let texts = [SqlText {
        path: "bench.sql".to_owned(),
        text: format!("{STREAM}{sql}"),
    }];
    let application = compile(&texts).expect("the bench's SQL is right");
    let opened = store::open(path, &StoreOptions::default()).expect("the store opens");
    let opened = Core::open(&Open {
        store: opened.store,
        identity: 0,
        application: Arc::new(application),
        texts: &texts,
        sinks: &[],
        checkpoints_kept: 2,
        state_policy: StatePolicy::KeepCompatible,
    });
    opened.expect("the store is whole")
}

/// Rows of the devices of one part, or of all, in an order of chance.
struct Devices {
    random: Xorshift,
}

impl Devices {
    fn fill(&mut self, rows: &mut Batch, part: u64, count: usize) {
        rows.clear();
        for _ in 0..count {
            let device = self.random.next() % (DEVICES / PARTS) * PARTS + part;
            self.row(rows, device);
        }
    }

    fn row(&mut self, rows: &mut Batch, device: u64) {
        let device = i64::try_from(device).expect("few devices");
        let row = [
            Value::text(&format!("sensor-{device:06}")),
            Value::Float(self.random.float(50.0)),
            Value::Float(self.random.float(100.0)),
            Value::Int(device),
            Value::Int(1_700_000_000_000),
        ];
        rows.push(Stamp::default(), row);
    }
}

/// Works some rows; how many bytes of the log they take.
fn turn(core: &mut Core, rows: Batch) -> usize {
    let time = Timestamp(core.last_time().0.max(1_700_000_000_000) + 1);
    let input = Input {
        stream: StreamId(0),
        rows,
        rejected: Vec::new(),
        marks: Vec::new(),
    };
    let done = core.turn(time, vec![input]).expect("it fits");
    let bytes = done.log.iter().map(WriteBatch::bytes).sum();
    core.write(done).expect("the disk has room");
    bytes
}

/// A core that has heard of every device, and saved that.
fn filled(path: &Path) -> (Core, u64) {
    let (mut core, _) = open(path, STATE);
    let mut devices = Devices {
        random: Xorshift::default(),
    };
    let all: Vec<u64> = (0..DEVICES).collect();
    for some in all.chunks(BATCH_ROWS * 10) {
        let mut rows = Batch::new(5);
        for device in some {
            devices.row(&mut rows, *device);
        }
        turn(&mut core, rows);
    }
    let saved = core.checkpoint().expect("the disk has room");
    while core.trim().expect("the disk works") {}
    core.store().sync().expect("the disk works");
    (core, saved.state_bytes)
}

fn changes() -> Measured {
    let folder = folder::new();
    let (core, state_bytes) = filled(folder.path());
    drop(core);
    let without = drive(folder.path(), None);
    let with = drive(folder.path(), Some(Duration::from_secs(1)));
    let loss = 1.0 - with.rate / without.rate;
    let pause_ms = with.pause_us / 1000.0;
    Measured {
        value: pause_ms,
        met: pause_ms <= 5.0 && loss <= 0.05,
        details: vec![
            ("ms longest pause", pause_ms),
            ("MB of state", as_float(state_bytes) / 1e6),
            ("KB stored per checkpoint", with.checkpoint_bytes / 1e3),
            ("checkpoints", with.checkpoints),
            ("folds", with.folds),
            ("% loss", loss * 100.0),
            ("events/s", with.rate),
            ("events/s without", without.rate),
        ],
    }
}

fn limits(checkpoint_interval: Option<Duration>) -> Limits {
    Limits {
        turn_rows_max: 4096,
        turn_bytes_max: 1 << 20,
        unsynced_bytes_max: 8 << 20,
        durability: Durability::Interval(Duration::from_millis(5)),
        checkpoint_interval,
        checkpoint_log_bytes_max: None,
        room: RoomLimits {
            bytes_max: 0,
            free_bytes_min: 0,
        },
        jump_ms_max: i64::MAX,
        sinks_within: Duration::ZERO,
    }
}

struct Driven {
    rate: f64,
    pause_us: f64,
    checkpoints: f64,
    checkpoint_bytes: f64,
    folds: f64,
}

/// Drives the pipeline as fast as it goes, each second with other devices: 1% of them.
fn drive(path: &Path, interval: Option<Duration>) -> Driven {
    let (core, _) = open(path, STATE);
    let (to, arrivals) = crossbeam::channel::bounded(16);
    let (released, _kept) = watch::channel(0);
    let (confirm, confirmed) = crossbeam::channel::bounded(1);
    let metrics: Arc<PipelineMetrics> = Arc::default();
    let source = SourceHandle {
        stream: StreamId(0),
        released,
    };
    let handles = Handles {
        sources: [(0, source)].into(),
        arrivals,
        feeds: Vec::new(),
        confirmed,
        commands: crossbeam::channel::never(),
        stopping: watch::channel(false).1,
        drained: watch::channel(false).0,
        pulse: Pulse::default(),
        metrics: Arc::clone(&metrics),
    };
    let limits = limits(interval);
    let opened = Opened {
        checkpoint: core.last(),
        core,
        identity: 0,
    };
    let disk = Disk {
        open: Box::new(|| panic!("the store failed")),
        bytes_free: Box::new(|| None),
    };
    let pipeline = std::thread::spawn(move || run(disk, opened, handles, limits));
    let (begin, mut sent, mut through) = (Instant::now(), 0_u64, 0);
    let mut devices = Devices {
        random: Xorshift::default(),
    };
    while begin.elapsed() < DRIVEN {
        let mut rows = Batch::new(5);
        devices.fill(&mut rows, begin.elapsed().as_secs() % PARTS, BATCH_ROWS);
        sent += rows.len() as u64;
        through += 1;
        let arrival = Arrival {
            source: 0,
            rows,
            rejected: Vec::new(),
            marks: Vec::new(),
            through,
            held: Held::default(),
        };
        to.send(arrival).expect("the pipeline runs");
    }
    while metrics.rows.load(Ordering::Relaxed) < sent {
        std::thread::yield_now();
    }
    let rate = as_float(sent) / begin.elapsed().as_secs_f64();
    let count = |counter: &AtomicU64| as_float(counter.load(Ordering::Relaxed));
    let (checkpoints, folds) = (count(&metrics.checkpoints), count(&metrics.folds));
    let driven = Driven {
        rate,
        pause_us: count(&metrics.checkpoint_pause_us_max),
        checkpoints,
        checkpoint_bytes: count(&metrics.checkpoint_bytes) / checkpoints.max(1.0),
        folds,
    };
    drop((to, confirm));
    let ended = pipeline.join().expect("it does not panic");
    ended.expect("the disk works");
    driven
}

fn packed() -> Measured {
    let folder = folder::new();
    let (mut core, _) = open(folder.path(), ALL);
    let mut events = Events::new(100);
    // In the middle of a second, so that the window holds something.
    for _ in 0..1005 {
        let mut rows = Batch::new(5);
        events.fill(&mut rows, BATCH_ROWS);
        let time = rows.row(0).expect("a batch has rows").stamp.time;
        let input = Input {
            stream: StreamId(0),
            rows,
            rejected: Vec::new(),
            marks: Vec::new(),
        };
        let done = core.turn(time, vec![input]).expect("it fits");
        core.write(done).expect("the disk has room");
    }
    let saved = core.checkpoint().expect("the disk has room");
    let (cbor, stored) = (saved.state_bytes, saved.stored_bytes);
    let ratio = as_float(stored) / as_float(cbor);
    Measured {
        value: ratio,
        met: ratio <= 0.2,
        details: vec![
            ("KB of CBOR", as_float(cbor) / 1e3),
            ("KB stored", as_float(stored) / 1e3),
        ],
    }
}

fn restart() -> Measured {
    let folder = folder::new();
    let (mut core, _) = open(folder.path(), FILTER);
    let mut events = Events::new(100);
    let (mut count, mut bytes) = (0_u64, 0);
    while bytes < LOG_BYTES {
        let mut rows = Batch::new(5);
        events.fill(&mut rows, BATCH_ROWS);
        count += rows.len() as u64;
        bytes += turn(&mut core, rows);
    }
    core.store().sync().expect("the disk works");
    drop(core);
    let begin = Instant::now();
    let (core, found) = open(folder.path(), FILTER);
    let log = begin.elapsed();
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    drop((core, folder));
    let folder = folder::new();
    let (core, state_bytes) = filled(folder.path());
    drop(core);
    let begin = Instant::now();
    let (_core, found) = open(folder.path(), STATE);
    let restored = begin.elapsed();
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    assert_eq!(found.records, 0, "the checkpoint covers everything");
    let rate = as_float(count) / log.as_secs_f64();
    let megabytes = as_float(state_bytes) / 1e6;
    let state_rate = megabytes / restored.as_secs_f64();
    Measured {
        value: rate,
        met: rate >= 1e6 && state_rate >= 200.0,
        details: vec![
            ("events/s of log", rate),
            ("M events", as_float(count) / 1e6),
            ("MB/s of state", state_rate),
            ("MB of state", megabytes),
        ],
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn as_float(count: u64) -> f64 {
    count as f64
}
