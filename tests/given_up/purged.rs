//! A paused sink whose outbox is purged over a store that fails at each of its operations and is
//! opened anew: nothing reaches the sink, and each output that is purged has one letter.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crossbeam::channel::{Sender, bounded};
use eventflux::event::{OutputKey, Value};
use eventflux::observe::OutboxMetrics;
use eventflux::outbox::Limits as OutboxLimits;
use eventflux::pipeline::{
    Answer, Command, Core, Disk, Errand, Feed, Handles, Open, Opened, PipelineError, Pulse,
    SourceHandle, StatePolicy, answer, run,
};
use eventflux::sink::{Confirmed, Delivery};
use eventflux::sql::plan::StreamId;
use eventflux::sql::{self, SqlText};
use eventflux::store::sim::{Fault, SimStore};
use tokio::sync::{mpsc, watch};

use crate::reopened::{Failure, arrival, limits};
use crate::wait::{DEADLINE, wait_until};
use crate::{COLUMNS, number_in};

const ROWS: i64 = 12;
const SINKS: [&str; 2] = ["Held", "Bad"];

fn open(store: &SimStore) -> Result<Opened, PipelineError> {
    let texts = [SqlText {
        path: "app.sql".to_owned(),
        text: format!(
            "CREATE STREAM S (n BIGINT);\n\
             CREATE STREAM Bad {COLUMNS} WITH ('type'='sink', 'extension'='log');\n\
             CREATE STREAM Held (n BIGINT) WITH ('type'='sink', 'extension'='log', \
             'outbox.dead_letter'='Bad');\nINSERT INTO Held SELECT n FROM S;\n"
        ),
    }];
    let limits = |dead_letters| OutboxLimits {
        dead_letters,
        ..OutboxLimits::NONE
    };
    let sinks = SINKS.map(str::to_owned).into_iter();
    let (core, found) = Core::open(&Open {
        store: Arc::new(store.clone()),
        identity: 7,
        application: Arc::new(sql::compile(&texts).unwrap()),
        texts: &texts,
        sinks: &sinks.zip([limits(true), limits(false)]).collect::<Vec<_>>(),
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

/// What a sink was given, by key.
type Given = Arc<Mutex<BTreeMap<OutputKey, Vec<Value>>>>;

fn far_side(
    sink: usize,
    mut deliveries: mpsc::Receiver<Delivery>,
    confirmed: &Sender<Confirmed>,
    given: &Given,
) {
    while let Some(Delivery { key, row, .. }) = deliveries.blocking_recv() {
        given.lock().unwrap().insert(key, row);
        let refused = None;
        // When all is over nobody listens.
        let _ = confirmed.send(Confirmed { sink, key, refused });
    }
}

/// Asks until it is done: a store that fails meanwhile leaves it unanswered.
fn ask<T>(commands: &Sender<Command>, errand: impl Fn(Answer<T>) -> Errand) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        let (answer, answered) = answer();
        let command = Command::Errand(errand(answer));
        commands.send_deadline(command, end).unwrap();
        if let Ok(done) = answered.wait_until(end) {
            return done.unwrap();
        }
        assert!(Instant::now() < end, "it is never done");
    }
}

fn pause(commands: &Sender<Command>) {
    ask(commands, |answer| Errand::Pause {
        sink: SINKS[0].to_owned(),
        paused: true,
        answer,
    });
}

fn purge(commands: &Sender<Command>) {
    ask(commands, |answer| Errand::Purge {
        sink: SINKS[0].to_owned(),
        answer,
    });
}

fn disk(store: &SimStore, failure: Option<Failure>) -> Disk {
    let again = store.clone();
    Disk {
        open: Box::new(move || {
            again.crash(failure.unwrap().keep);
            open(&again)
        }),
        bytes_free: Box::new(|| None),
    }
}

/// The outputs that letters are about.
fn numbers_of(letters: &Given) -> Vec<i64> {
    let letters = letters.lock().unwrap();
    let about = letters.values().map(|row| row[0].as_str().unwrap());
    about.map(number_in).collect()
}

fn check([held, bad]: &[Given; 2], counts: &OutboxMetrics, failure: Option<Failure>) {
    assert_eq!(
        numbers_of(bad),
        (1..=ROWS).collect::<Vec<_>>(),
        "{failure:?}"
    );
    assert!(held.lock().unwrap().is_empty(), "{failure:?}");
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert_eq!(count(&counts.purged), ROWS.unsigned_abs(), "{failure:?}");
    assert_eq!(count(&counts.waiting), 0, "{failure:?}");
    assert!(counts.paused.load(Ordering::Relaxed), "{failure:?}");
}

/// How many operations it took, and how often the store was opened anew.
fn lives_through(failure: Option<Failure>) -> (u64, u64) {
    let store = SimStore::new();
    let opened = open(&store).unwrap();
    let first = store.operations();
    if let Some(failure) = failure {
        store.plan(first + failure.operation, failure.fault);
    }
    let (to, arrivals) = bounded(4);
    let (confirm, confirmed) = bounded(4096);
    let (released, is_released) = watch::channel(0);
    let (tell_stop, stopping) = watch::channel(false);
    let (drained, _is_drained) = watch::channel(false);
    let (commands, todo) = bounded(1);
    let counts: [Arc<OutboxMetrics>; 2] = Default::default();
    let given: [Given; 2] = Default::default();
    let (mut feeds, mut sides) = (Vec::new(), Vec::new());
    for (sink, (counts, given)) in counts.iter().zip(&given).enumerate() {
        let (deliver, deliveries) = mpsc::channel(8);
        let feed = Feed::new(sink, deliver, opened.core.outbox(), 7);
        feeds.push(feed.telling(watch::Sender::default(), Arc::clone(counts)));
        let (confirm, given) = (confirm.clone(), Arc::clone(given));
        sides.push(std::thread::spawn(move || {
            far_side(sink, deliveries, &confirm, &given);
        }));
    }
    drop(confirm);
    let metrics = Arc::default();
    let stream = StreamId(0);
    let handles = Handles {
        sources: BTreeMap::from([(0, SourceHandle { stream, released })]),
        arrivals,
        feeds,
        confirmed,
        commands: todo,
        stopping,
        drained,
        pulse: Pulse::default(),
        metrics: Arc::clone(&metrics),
    };
    let disk = disk(&store, failure);
    let pipeline = std::thread::spawn(move || run(disk, opened, handles, limits()));
    pause(&commands);
    for number in 1..=ROWS {
        to.send(arrival(number)).unwrap();
    }
    let rows = ROWS.unsigned_abs();
    wait_until("all are acknowledged", || *is_released.borrow() >= rows);
    purge(&commands);
    wait_until("the letters", || {
        numbers_of(&given[1]).len() >= usize::try_from(rows).unwrap()
    });
    tell_stop.send_replace(true);
    drop(to);
    pipeline.join().unwrap().unwrap();
    sides.into_iter().for_each(|side| side.join().unwrap());
    check(&given, &counts[0], failure);
    let reopened = metrics.store_reopened.load(Ordering::Relaxed);
    (store.operations() - first, reopened)
}

#[test]
fn what_is_purged_has_one_letter_through_every_failure_of_the_store() {
    let (operations, reopened) = lives_through(None);
    assert_eq!(reopened, 0);
    let faults = [Fault::Full, Fault::Fails, Fault::FailsAfter];
    let failures = (1..=operations).flat_map(|operation| {
        let faults = faults.into_iter().zip([0, 1, 2]);
        faults.map(move |(fault, keep)| Failure {
            operation,
            fault,
            keep,
        })
    });
    let failures: Vec<Failure> = failures.collect();
    let (next, reopened) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Most of the time they wait.
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                while let Some(failure) = failures.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (_, count) = lives_through(Some(*failure));
                    reopened.fetch_add(usize::try_from(count).unwrap(), Ordering::Relaxed);
                }
            });
        }
    });
    // The last operations do not come about in every run.
    assert!(reopened.into_inner() >= failures.len() / 2);
}
