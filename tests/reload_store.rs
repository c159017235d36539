//! The pipeline's thread goes over to another application over a store that fails at every one of
//! its operations, in turn: what came before is worked under the old one, what comes after under
//! the new one, all of it once, whatever of the change the store has kept.

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
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use eventflux::event::{Batch, OutputKey, Stamp, Value};
use eventflux::held::Held;
use eventflux::observe::PipelineMetrics;
use eventflux::outbox;
use eventflux::pipeline::{
    Change, Command, Core, Disk, Durability, Feed, Handles, Limits, NewSink, Opened, PipelineError,
    Pulse, RoomLimits, SinkToBe, SourceHandle, SourceToBe, StatePolicy, Wanted, run,
};
use eventflux::sink::{Confirmed, Delivery};
use eventflux::source::Arrival;
use eventflux::sql::plan::StreamId;
use eventflux::sql::{self, SqlText};
use eventflux::store::sim::{Fault, SimStore};
use tokio::sync::{mpsc, watch};

/// Arrivals before the change, and in all.
const BEFORE: u64 = 6;
const ARRIVALS: u64 = 12;

/// When the store fails, how, and what it keeps.
#[derive(Clone, Copy, Debug)]
struct Failure {
    operation: u64,
    fault: Fault,
    keep: u64,
    durability: Durability,
}

/// Under the second one a query is another, a sum goes on, a sink is new, and everything has
/// another place.
fn wanted(second: bool) -> Wanted {
    let (text, sinks): (&str, &[&str]) = if second {
        (
            "CREATE STREAM Other (x BIGINT); CREATE STREAM S (n BIGINT);\n\
             INSERT INTO More SELECT n FROM S;\n\
             INSERT INTO Sums SELECT sum(n) AS s FROM S WINDOW('length', 3);\n\
             INSERT INTO Out SELECT n + 1000 AS n FROM S;",
            &["More", "Sums", "Out"],
        )
    } else {
        (
            "CREATE STREAM S (n BIGINT); INSERT INTO Out SELECT n FROM S;\n\
             INSERT INTO Sums SELECT sum(n) AS s FROM S WINDOW('length', 3);",
            &["Out", "Sums"],
        )
    };
    let texts = vec![SqlText {
        path: "app.sql".to_owned(),
        text: text.to_owned(),
    }];
    let limits = outbox::Limits {
        bytes_max: 1 << 20,
        full: outbox::Full::DropOldest,
        ..outbox::Limits::NONE
    };
    Wanted {
        application: Arc::new(sql::compile(&texts).unwrap()),
        texts,
        outboxes: sinks
            .iter()
            .map(|name| ((*name).to_owned(), limits))
            .collect(),
        checkpoints_kept: 1,
        state_policy: StatePolicy::KeepOrFail,
    }
}

fn source(wanted: &Wanted) -> StreamId {
    wanted.application.stream_named("S").unwrap().0
}

fn open(store: &SimStore, wanted: &Wanted) -> Result<Opened, PipelineError> {
    let (core, found) = Core::open(&wanted.open_in(Arc::new(store.clone()), 7))?;
    Ok(Opened {
        core,
        identity: 7,
        checkpoint: found.checkpoint,
    })
}

fn disk(store: &SimStore, wanted: Wanted, failure: Option<Failure>) -> Disk {
    let store = store.clone();
    Disk {
        open: Box::new(move || {
            store.crash(failure.unwrap().keep);
            open(&store, &wanted)
        }),
        bytes_free: Box::new(|| None),
    }
}

fn limits(failure: Option<Failure>) -> Limits {
    let durability = failure.map_or(Durability::Always, |failure| failure.durability);
    Limits {
        turn_rows_max: 3,
        turn_bytes_max: 1 << 20,
        unsynced_bytes_max: 8 << 20,
        durability,
        checkpoint_interval: None,
        // Some records, so that the change meets checkpoints.
        checkpoint_log_bytes_max: Some(300),
        room: RoomLimits {
            bytes_max: 0,
            free_bytes_min: 0,
        },
        jump_ms_max: i64::MAX,
        sinks_within: Duration::from_millis(10),
    }
}

/// What came out of a sink, in order.
type Out = Arc<Mutex<Vec<(OutputKey, String, i64)>>>;

/// A far side that confirms every other output at once, and so the one before it.
fn far_side(
    sink: usize,
    confirmed: &Sender<Confirmed>,
) -> (mpsc::Sender<Delivery>, Out, JoinHandle<()>) {
    let (to, mut deliveries) = mpsc::channel::<Delivery>(8);
    let (out, confirmed) = (Out::default(), confirmed.clone());
    let mine = Arc::clone(&out);
    let side = std::thread::spawn(move || {
        let mut count = 0;
        while let Some(Delivery { key, id, row, .. }) = deliveries.blocking_recv() {
            let number = row.first().and_then(Value::as_int).unwrap();
            mine.lock().unwrap().push((key, id, number));
            count += 1;
            if count % 2 == 0 {
                let refused = None;
                confirmed.send(Confirmed { sink, key, refused }).unwrap();
            }
        }
    });
    (to, out, side)
}

fn arrival(through: u64) -> Arrival {
    let mut rows = Batch::new(1);
    rows.push(
        Stamp::default(),
        [Value::Int(i64::try_from(through).unwrap())],
    );
    Arrival {
        source: 3,
        rows,
        rejected: Vec::new(),
        marks: Vec::new(),
        through,
        held: Held::default(),
    }
}

/// Runs arrivals through, with the change amid them; how many operations it took, and how often
/// the store was opened anew.
fn lives_through(failure: Option<Failure>) -> (u64, u64) {
    let store = SimStore::new();
    let first = wanted(false);
    let opened = open(&store, &first).unwrap();
    let begun = store.operations();
    if let Some(failure) = failure {
        store.plan(begun + failure.operation, failure.fault);
    }
    let (to, arrivals) = bounded(4);
    let (confirm, confirmed) = bounded(4096);
    let (command, commands) = bounded(1);
    let (released, was_released) = watch::channel(0);
    let (tell_stop, stopping) = watch::channel(false);
    let (drained, _is_drained) = watch::channel(false);
    // The numbers of sinks are nobody's places.
    let sides = [5, 8, 9].map(|number| far_side(number, &confirm));
    drop(confirm);
    let feed = |place: usize, number: usize| {
        let feed = Feed::new(place, sides[place].0.clone(), opened.core.outbox(), 7);
        feed.of_number(number)
    };
    let feeds = vec![feed(0, 5), feed(1, 8)];
    let metrics: Arc<PipelineMetrics> = Arc::default();
    let stream = source(&first);
    let handles = Handles {
        sources: BTreeMap::from([(3, SourceHandle { stream, released })]),
        arrivals,
        feeds,
        confirmed,
        commands,
        stopping,
        drained,
        pulse: Pulse::default(),
        metrics: Arc::clone(&metrics),
    };
    let disk_before = disk(&store, first, failure);
    let pipeline = std::thread::spawn(move || run(disk_before, opened, handles, limits(failure)));
    for through in 1..=BEFORE {
        to.send(arrival(through)).unwrap();
    }
    let [
        (out_to, out, side),
        (sums_to, sums, other_side),
        (more_to, more, last_side),
    ] = sides;
    drop((out_to, sums_to));
    let (change, answered) = change(&store, more_to, failure);
    command.send(Command::Change(change)).unwrap();
    let changed = answered.recv_timeout(wait::DEADLINE).unwrap().unwrap();
    assert!(changed.is_other, "{failure:?}");
    for through in BEFORE + 1..=ARRIVALS {
        to.send(arrival(through)).unwrap();
    }
    let came = |out: &Out, count: usize| out.lock().unwrap().len() >= count;
    wait::wait_until("everything is acknowledged and out", || {
        *was_released.borrow() >= ARRIVALS && came(&out, 12) && came(&sums, 12) && came(&more, 6)
    });
    tell_stop.send_replace(true);
    drop((to, command));
    pipeline.join().unwrap().unwrap();
    for side in [side, other_side, last_side] {
        side.join().unwrap();
    }
    check_all([&out, &sums, &more], failure);
    (
        store.operations() - begun,
        metrics.store_reopened.load(Ordering::Relaxed),
    )
}

fn check_all([out, sums, more]: [&Out; 3], failure: Option<Failure>) {
    let all = 1..=i64::try_from(ARRIVALS).unwrap();
    let before = i64::try_from(BEFORE).unwrap();
    let expected = |n: i64| if n > before { n + 1000 } else { n };
    check(out, all.clone().map(expected), failure);
    let sums_of = |n: i64| (1.max(n - 2)..=n).sum();
    check(sums, all.clone().map(sums_of), failure);
    check(more, all.filter(|n| *n > before), failure);
}

type Answer = crossbeam::channel::Receiver<
    Result<eventflux::pipeline::Changed, eventflux::pipeline::Unchanged>,
>;

fn change(
    store: &SimStore,
    to: mpsc::Sender<Delivery>,
    failure: Option<Failure>,
) -> (Box<Change>, Answer) {
    let second = wanted(true);
    let (answer, answered) = bounded(1);
    let stream = source(&second);
    let released = None;
    let new = NewSink {
        holds_bytes_max: usize::MAX,
        to,
        settled: watch::channel(OutputKey::default()).0,
        metrics: Arc::default(),
    };
    let kept = |number| SinkToBe { number, new: None };
    let change = Change {
        disk: disk(store, second.clone(), failure),
        limits: limits(failure),
        wanted: Wanted {
            state_policy: StatePolicy::KeepCompatible,
            ..second
        },
        sources: BTreeMap::from([(3, SourceToBe { stream, released })]),
        sinks: vec![
            SinkToBe {
                number: 9,
                new: Some(new),
            },
            kept(8),
            kept(5),
        ],
        answer,
    };
    (Box::new(change), answered)
}

fn check(out: &Out, expected: impl Iterator<Item = i64>, failure: Option<Failure>) {
    let out = out.lock().unwrap();
    let came: Vec<i64> = out.iter().map(|(.., number)| *number).collect();
    assert_eq!(came, expected.collect::<Vec<_>>(), "{failure:?}");
    let ids: BTreeSet<&str> = out.iter().map(|(_, id, _)| id.as_str()).collect();
    assert_eq!(ids.len(), out.len(), "{failure:?}");
    assert!(out.is_sorted_by(|one, next| one.0 < next.0), "{failure:?}");
}

#[test]
fn a_store_may_fail_at_any_operation_of_a_change() {
    let (operations, _) = lives_through(None);
    let mut failures = Vec::new();
    for operation in 1..=operations {
        for (keep, fault) in [(0, Fault::Full), (1, Fault::Fails), (3, Fault::Full)] {
            let durability = match (operation + keep) % 3 {
                0 => Durability::Interval(Duration::from_millis(2)),
                _ => Durability::Always,
            };
            failures.push(Failure {
                operation,
                fault,
                keep,
                durability,
            });
        }
    }
    let (next, reopened) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(failure) = failures.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (_, count) = lives_through(Some(*failure));
                    reopened.fetch_add(usize::try_from(count).unwrap(), Ordering::Relaxed);
                }
            });
        }
    });
    let reopened = reopened.into_inner();
    println!(
        "{operations} operations, {} failures, opened anew {reopened} times",
        failures.len()
    );
    assert!(reopened > failures.len() / 2);
}
