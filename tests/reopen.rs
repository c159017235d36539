//! The pipeline's thread over a store that fails at every one of its operations, in turn, and keeps
//! any part of what was not synced: everything that came in is acknowledged, everything comes out
//! once, in order, and under one id.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may fail where it stands"
)]

#[path = "common/wait.rs"]
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::{bounded, never};
use eventflux::event::{Batch, DeliveryMark, OutputKey, Stamp, Value};
use eventflux::held::Held;
use eventflux::observe::PipelineMetrics;
use eventflux::outbox;
use eventflux::pipeline::{
    Core, Disk, Durability, Feed, Handles, Limits, Open, Opened, PipelineError, Pulse, RoomLimits,
    SourceHandle, StatePolicy, run,
};
use eventflux::sink::{Confirmed, Delivery};
use eventflux::source::Arrival;
use eventflux::sql::plan::StreamId;
use eventflux::sql::{self, Application, SqlText};
use eventflux::store::sim::{Fault, SimStore};
use tokio::sync::{mpsc, watch};

const ARRIVALS: u64 = 24;
/// Every fifth arrival has none.
const ROWS: usize = 20;

/// When the store fails, how, and what it keeps.
#[derive(Clone, Copy, Debug)]
struct Failure {
    operation: u64,
    fault: Fault,
    keep: u64,
    /// Whether it fails once more, so many operations after it was opened anew.
    again: Option<u64>,
    durability: Durability,
}

fn application() -> (Arc<Application>, [SqlText; 1]) {
    let texts = [SqlText {
        path: "app.sql".to_owned(),
        text: "CREATE STREAM S (n BIGINT); INSERT INTO Out SELECT n FROM S;\n\
               INSERT INTO Sums SELECT sum(n) AS s FROM S WINDOW('length', 3);"
            .to_owned(),
    }];
    (Arc::new(sql::compile(&texts).unwrap()), texts)
}

const SINKS: [&str; 2] = ["Out", "Sums"];

fn open(store: &SimStore) -> Result<Opened, PipelineError> {
    let (application, texts) = application();
    let limits = outbox::Limits {
        bytes_max: 1 << 20,
        full: outbox::Full::DropOldest,
        ..outbox::Limits::NONE
    };
    let sinks = SINKS.map(|name| (name.to_owned(), limits));
    let (core, found) = Core::open(&Open {
        store: Arc::new(store.clone()),
        identity: 7,
        application,
        texts: &texts,
        sinks: &sinks,
        checkpoints_kept: 1,
        state_policy: StatePolicy::KeepCompatible,
    })?;
    assert_eq!(found.warnings, [""; 0]);
    Ok(Opened {
        core,
        identity: 7,
        checkpoint: found.checkpoint,
    })
}

/// What came out of a sink, in order.
type Out = Arc<Mutex<Vec<(OutputKey, String, i64)>>>;

/// A far side that confirms every other output at once, and so the one before it.
fn far_side(
    sink: usize,
    mut deliveries: mpsc::Receiver<Delivery>,
    confirmed: crossbeam::channel::Sender<Confirmed>,
    out: Out,
) {
    let mut count = 0;
    while let Some(Delivery { key, id, row, .. }) = deliveries.blocking_recv() {
        let number = row.first().and_then(Value::as_int).unwrap();
        out.lock().unwrap().push((key, id, number));
        count += 1;
        if count % 2 == 0 {
            let refused = None;
            confirmed.send(Confirmed { sink, key, refused }).unwrap();
        }
    }
}

fn limits(durability: Durability) -> Limits {
    Limits {
        turn_rows_max: 3,
        turn_bytes_max: 1 << 20,
        unsynced_bytes_max: 8 << 20,
        durability,
        checkpoint_interval: None,
        // Some records, so that checkpoints fail too.
        checkpoint_log_bytes_max: Some(300),
        room: RoomLimits {
            bytes_max: 0,
            free_bytes_min: 0,
        },
        jump_ms_max: i64::MAX,
        sinks_within: Duration::from_millis(10),
    }
}

fn disk(store: &SimStore, failure: Option<Failure>) -> Disk {
    let reopened = store.clone();
    let mut again = failure.and_then(|failure| failure.again);
    Disk {
        open: Box::new(move || {
            reopened.crash(failure.unwrap().keep);
            let opened = open(&reopened);
            if let Some(later) = again.take() {
                reopened.plan(reopened.operations() + later, Fault::Full);
            }
            opened
        }),
        bytes_free: Box::new(|| None),
    }
}

/// Runs arrivals through; how many operations it took, and what was counted.
fn lives_through(failure: Option<Failure>) -> (u64, Arc<PipelineMetrics>) {
    let store = SimStore::new();
    let opened = open(&store).unwrap();
    let first = store.operations();
    if let Some(Failure {
        operation, fault, ..
    }) = failure
    {
        store.plan(first + operation, fault);
    }
    let (to, arrivals) = bounded(4);
    let (confirm, confirmed) = bounded(4096);
    let (released, was_released) = watch::channel(0);
    let (tell_stop, stopping) = watch::channel(false);
    let (drained, is_drained) = watch::channel(false);
    let outs: [Out; 2] = Default::default();
    let mut feeds = Vec::new();
    let mut sides = Vec::new();
    for (sink, out) in outs.iter().enumerate() {
        let (deliver, deliveries) = mpsc::channel(8);
        feeds.push(Feed::new(sink, deliver, opened.core.outbox(), 7));
        let (confirm, out) = (confirm.clone(), Arc::clone(out));
        sides.push(std::thread::spawn(move || {
            far_side(sink, deliveries, confirm, out);
        }));
    }
    drop(confirm);
    let metrics: Arc<PipelineMetrics> = Arc::default();
    let source = source_of(released);
    let handles = Handles {
        sources: BTreeMap::from([(0, source)]),
        arrivals,
        feeds,
        confirmed,
        commands: never(),
        stopping,
        drained,
        pulse: Pulse::default(),
        metrics: Arc::clone(&metrics),
    };
    let disk = disk(&store, failure);
    let durability = failure.map_or(Durability::Always, |failure| failure.durability);
    let pipeline = std::thread::spawn(move || run(disk, opened, handles, limits(durability)));
    for through in 1..=ARRIVALS {
        to.send(arrival(through)).unwrap();
    }
    let all_out = || outs.iter().all(|out| out.lock().unwrap().len() >= ROWS);
    wait::wait_until("everything is acknowledged and out", || {
        *was_released.borrow() >= ARRIVALS && all_out()
    });
    tell_stop.send_replace(true);
    drop(to);
    match pipeline.join().unwrap() {
        Ok(_) => {
            assert!(metrics.health.degraded().is_none(), "{failure:?}");
            check_marks(&store, failure);
        }
        // Who is to stop does not wait for a store that fails again.
        Err(error) => {
            let twice = failure.is_some_and(|failure| failure.again.is_some());
            assert!(twice && error.store().is_some(), "{failure:?}: {error}");
        }
    }
    drop(is_drained);
    sides.into_iter().for_each(|side| side.join().unwrap());
    check(&outs, failure);
    (store.operations() - first, metrics)
}

fn source_of(released: watch::Sender<u64>) -> SourceHandle {
    SourceHandle {
        stream: StreamId(0),
        released,
    }
}

/// Every message is known by its mark, in order.
fn check_marks(store: &SimStore, failure: Option<Failure>) {
    store.crash(0);
    let found = open(store).unwrap().core;
    let marks = found.marks("S").iter().map(|mark| mark.digest);
    let marks: Vec<u64> = marks.collect();
    let all: Vec<u64> = (1..=ARRIVALS).collect();
    assert_eq!(marks, all, "{failure:?}");
}

/// One row; but every fifth message leaves none, only its mark.
fn arrival(through: u64) -> Arrival {
    let mut rows = Batch::new(1);
    if through % 5 != 0 {
        let number = i64::try_from(through).unwrap();
        rows.push(Stamp::default(), [Value::Int(number)]);
    }
    Arrival {
        source: 0,
        rows,
        rejected: Vec::new(),
        marks: vec![DeliveryMark {
            packet: u16::try_from(through).unwrap(),
            digest: through,
        }],
        through,
        held: Held::default(),
    }
}

fn check(outs: &[Out; 2], failure: Option<Failure>) {
    let numbers: Vec<i64> = (1..=24).filter(|n| n % 5 != 0).collect();
    let sums = (0..numbers.len()).map(|at| {
        let from = at.saturating_sub(2);
        numbers.iter().take(at + 1).skip(from).sum()
    });
    let sums: Vec<i64> = sums.collect();
    for (out, expected) in outs.iter().zip([numbers.clone(), sums]) {
        let out = out.lock().unwrap();
        let came: Vec<i64> = out.iter().map(|(.., number)| *number).collect();
        assert_eq!(came, expected, "{failure:?}");
        let ids: BTreeSet<&str> = out.iter().map(|(_, id, _)| id.as_str()).collect();
        assert_eq!(ids.len(), out.len(), "{failure:?}");
        assert!(out.is_sorted_by(|one, next| one.0 < next.0), "{failure:?}");
    }
}

/// Lives through all of them, many at a time: most of the time they wait.
fn live_through(failures: &[Failure]) -> Counts {
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                while let Some(failure) = failures.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (_, metrics) = lives_through(Some(*failure));
                    let mut counts = counts.lock().unwrap();
                    counts.reopened += metrics.store_reopened.load(Ordering::Relaxed);
                    counts.again += metrics.records_again.load(Ordering::Relaxed);
                }
            });
        }
    });
    counts.into_inner().unwrap()
}

#[derive(Debug, Default)]
struct Counts {
    reopened: u64,
    again: u64,
}

const DURABILITIES: [Durability; 2] = [
    Durability::Always,
    Durability::Interval(Duration::from_millis(2)),
];

#[test]
fn a_store_may_fail_at_any_operation() {
    let (operations, _) = lives_through(None);
    let mut failures = Vec::new();
    for operation in 1..=operations {
        for (keep, fault) in [0, 1, 2, 5]
            .into_iter()
            .zip([Fault::Full, Fault::Fails].into_iter().cycle())
        {
            failures.push(Failure {
                operation,
                fault,
                keep,
                again: None,
                durability: DURABILITIES[usize::from((operation + keep) % 3 == 0)],
            });
        }
    }
    let counts = live_through(&failures);
    println!(
        "{} failures over {operations} operations: {counts:?}",
        failures.len()
    );
    assert!(counts.reopened > 0 && counts.again > 0);
}

#[test]
fn a_store_that_was_opened_anew_may_fail_again() {
    let (operations, _) = lives_through(None);
    let mut failures = Vec::new();
    for operation in (1..=operations).step_by(5) {
        for again in 1..=10 {
            failures.push(Failure {
                operation,
                fault: Fault::Fails,
                keep: operation,
                again: Some(again),
                durability: DURABILITIES[usize::from(again % 2 == 0)],
            });
        }
    }
    let counts = live_through(&failures);
    println!("{} pairs of failures: {counts:?}", failures.len());
    assert!(counts.reopened > 0 && counts.again > 0);
}
