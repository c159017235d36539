//! The log on a real disk, against sled itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use eventflux::event::{Batch, Seq, Timestamp, Value};
use eventflux::store::seal::{Unsealer, check};
use eventflux::store::sled::StoreOptions;
use eventflux::store::{Store, WriteBatch, sled as store};
use eventflux::wal::{Body, Wal};

use crate::engine::BATCH_ROWS;
use crate::events::Events;
use crate::figure::{Figure, Measured};
use crate::folder;

const EVENTS: usize = 1_000_000;
const ROUNDS: usize = 3;
/// The fixed head of a record, see `src/wal/record.rs`.
const HEAD_BYTES: usize = 24;
const SENSORS: usize = 100;
/// What the product does unless told otherwise.
const SYNC_INTERVAL: Duration = Duration::from_millis(5);

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "W",
        what: "append in batches of 100",
        budget: ">= 2 M events/s, >= 0.7 x raw sled",
        measure: Some(append),
    },
    Figure {
        name: "WB",
        what: "bytes to the disk per event",
        budget: "<= 0.5 x the event's JSON",
        measure: Some(written),
    },
];

fn append() -> Measured {
    let bodies = bodies();
    let (mut ours, mut packed, mut plain) = (Duration::MAX, Duration::MAX, Duration::MAX);
    let pairs = sealed(&bodies);
    let plain_pairs = unpacked(&pairs);
    for _ in 0..ROUNDS {
        ours = ours.min(append_all(&bodies));
        packed = packed.min(raw_sled(&pairs));
        plain = plain.min(raw_sled(&plain_pairs));
    }
    let rate = |time: Duration| events() / time.as_secs_f64();
    let (ratio, ratio_plain) = (rate(ours) / rate(packed), rate(ours) / rate(plain));
    Measured {
        value: ratio,
        met: ratio >= 0.7 && rate(ours) >= 2e6,
        details: vec![
            ("events/s", rate(ours)),
            ("raw sled, packed", rate(packed)),
            ("raw sled, unpacked", rate(plain)),
            ("x raw sled, unpacked", ratio_plain),
        ],
    }
}

fn written() -> Measured {
    let bodies = bodies();
    let before = folder::written_bytes("self");
    append_all(&bodies);
    let after = folder::written_bytes("self");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let written = (after - before) as f64 / events();
    let json = json_bytes(&bodies);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let sealed = sealed(&bodies)
        .iter()
        .map(|(_, value)| value.len())
        .sum::<usize>() as f64;
    Measured {
        value: written / json,
        met: written <= 0.5 * json,
        details: vec![
            ("bytes/event", written),
            ("JSON", json),
            ("in the log's records", sealed / events()),
        ],
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn events() -> f64 {
    EVENTS as f64
}

/// The events as what the pipeline appends.
pub(crate) fn bodies() -> Vec<Body> {
    let mut source = Events::new(SENSORS);
    let batches = 0..EVENTS / BATCH_ROWS;
    let body = |_| {
        let mut rows = Batch::new(5);
        source.fill(&mut rows, BATCH_ROWS);
        Body::Events {
            stream: "S".to_owned(),
            schema: 7,
            rows,
            origin: None,
        }
    };
    batches.map(body).collect()
}

/// The mean length of an event as a device would write it.
fn json_bytes(bodies: &[Body]) -> f64 {
    let mut bytes = 0;
    for body in bodies {
        let Body::Events { rows, .. } = body else {
            continue;
        };
        bytes += rows
            .rows()
            .iter()
            .map(|row| json(row.values).len())
            .sum::<usize>();
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let mean = bytes as f64 / events();
    mean
}

/// A row of the events as JSON.
pub(crate) fn json(row: &[Value]) -> String {
    let [
        Value::Str(sensor),
        Value::Float(temperature),
        Value::Float(humidity),
        Value::Int(seq),
        Value::Int(ts),
    ] = row
    else {
        unreachable!("the bench's events look so");
    };
    format!(
        "{{\"sensor_id\":\"{sensor}\",\"temperature\":{temperature},\"humidity\":{humidity},\
         \"seq\":{seq},\"ts\":{ts}}}"
    )
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What the log puts into the store.
fn sealed(bodies: &[Body]) -> Pairs {
    let mut wal = empty_log();
    let mut pairs = Vec::new();
    for body in bodies {
        let mut batch = WriteBatch::new();
        wal.append(time_of(body), body, &mut batch)
            .expect("it fits");
        let changes = batch.changes();
        pairs.extend(changes.filter_map(|(key, value)| Some((key.to_vec(), value?.to_vec()))));
    }
    pairs
}

/// The same keys, each with the content of its record before it was packed.
fn unpacked(pairs: &Pairs) -> Pairs {
    let mut unsealer = Unsealer::default();
    let mut content = |value: &[u8]| {
        let sealed = check(value, HEAD_BYTES).expect("just sealed");
        unsealer.payload(sealed).expect("just sealed").into_owned()
    };
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| (key.clone(), content(value)))
        .collect()
}

fn empty_log() -> Wal {
    let store = Arc::new(eventflux::store::sim::SimStore::new());
    Wal::open(store, Seq(1)).expect("an empty log")
}

fn time_of(body: &Body) -> Timestamp {
    let Body::Events { rows, .. } = body else {
        unreachable!("there are only events");
    };
    rows.row(0).expect("a batch has rows").stamp.time
}

/// The log as the pipeline uses it: one thread appends and writes, another syncs each interval.
fn append_all(bodies: &[Body]) -> Duration {
    let dir = folder::new();
    let opened = store::open(dir.path(), &StoreOptions::default()).expect("a fresh store");
    let store = opened.store;
    let mut wal = Wal::open(Arc::clone(&store), Seq(1)).expect("a fresh log");
    let begin = Instant::now();
    synced(&*store, || {
        for body in bodies {
            let mut batch = WriteBatch::new();
            wal.append(time_of(body), body, &mut batch)
                .expect("it fits");
            store.write(batch).expect("the disk has room");
        }
    });
    store.sync().expect("the disk works");
    begin.elapsed()
}

/// Does `work` while another thread syncs each interval.
fn synced(store: &dyn Store, work: impl FnOnce()) {
    let (done, told) = sync_channel::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while told.recv_timeout(SYNC_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                store.sync().expect("the disk works");
            }
        });
        work();
        drop(done);
    });
}

/// sled with the same cache, flushing as often.
fn raw_sled(pairs: &Pairs) -> Duration {
    let dir = folder::new();
    let db = open_raw(dir.path());
    let begin = Instant::now();
    for (key, value) in pairs {
        db.insert(key, value.as_slice()).expect("the disk has room");
    }
    db.flush().expect("the disk works");
    begin.elapsed()
}

fn open_raw(path: &Path) -> sled::Db {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(StoreOptions::default().cache_bytes)
        .flush_every_ms(Some(5));
    config.open().expect("a fresh sled")
}
