//! The pipeline's thread over a store that fails at each of its operations and is opened anew:
//! sinks are not asked twice, so what they have refused must not be forgotten, and what was given
//! up must not pass for delivered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded, never};
use eventflux::event::{Batch, OutputKey, Stamp, Value};
use eventflux::held::Held;
use eventflux::observe::OutboxMetrics;
use eventflux::outbox::{Full, Limits as OutboxLimits};
use eventflux::pipeline::{
    Core, Disk, Durability, Feed, Handles, Limits, Open, Opened, PipelineError, Pulse, RoomLimits,
    SourceHandle, StatePolicy, run,
};
use eventflux::sink::{Confirmed, Delivery, Refused};
use eventflux::source::Arrival;
use eventflux::sql::plan::StreamId;
use eventflux::sql::{self, SqlText};
use eventflux::store::sim::{Fault, SimStore};
use tokio::sync::{mpsc, watch};

use crate::wait::wait_until;
use crate::{COLUMNS, number_in};

const ROWS: i64 = 24;
/// Of the sink that is away for a while, so many expire.
const MISSED: i64 = 9;
const SINKS: [&str; 4] = ["Picky", "Away", "Narrow", "Bad"];
/// What Narrow may hold: a few outputs.
const NARROW_BYTES: u64 = 500;

fn open(store: &SimStore) -> Result<Opened, PipelineError> {
    let sink = |name: &str| {
        format!(
            "CREATE STREAM {name} (n BIGINT) WITH ('type'='sink', 'extension'='log', \
             'outbox.dead_letter'='Bad');\n\
             INSERT INTO {name} SELECT n FROM S;\n"
        )
    };
    let texts = [SqlText {
        path: "app.sql".to_owned(),
        text: format!(
            "CREATE STREAM S (n BIGINT);\n\
             CREATE STREAM Bad {COLUMNS} WITH ('type'='sink', 'extension'='log');\n{}{}{}",
            sink("Picky"),
            sink("Away"),
            sink("Narrow")
        ),
    }];
    let limits = |ttl_ms, dead_letters| OutboxLimits {
        bytes_max: 1 << 20,
        full: Full::DropOldest,
        ttl_ms,
        dead_letters,
    };
    let limits = [
        limits(None, true),
        limits(Some(40), true),
        OutboxLimits {
            bytes_max: NARROW_BYTES,
            full: Full::DropNewest,
            ..limits(None, true)
        },
        limits(None, false),
    ];
    let sinks = SINKS.map(str::to_owned).into_iter().zip(limits);
    let (core, found) = Core::open(&Open {
        store: Arc::new(store.clone()),
        identity: 7,
        application: Arc::new(sql::compile(&texts).unwrap()),
        texts: &texts,
        sinks: &sinks.collect::<Vec<_>>(),
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

/// What has come out.
#[derive(Debug, Default)]
struct Out {
    /// What each of the others has taken.
    taken: [Vec<i64>; 3],
    /// Letters: about which sink's output, and which.
    letters: BTreeMap<OutputKey, (String, i64)>,
}

struct Side {
    sink: usize,
    deliveries: mpsc::Receiver<Delivery>,
    settled: watch::Receiver<OutputKey>,
    confirmed: Sender<Confirmed>,
    /// How many rows are acknowledged.
    released: watch::Receiver<u64>,
    out: Arc<Mutex<Out>>,
}

impl Side {
    fn run(mut self) {
        while let Some(Delivery { key, row, .. }) = self.deliveries.blocking_recv() {
            let refused = match (SINKS[self.sink], &row[0]) {
                ("Picky", value) if value.as_int().unwrap() % 5 == 0 => Some(Refused {
                    why: "status 400".to_owned(),
                    attempts: 1,
                }),
                ("Away", value) if value.as_int().unwrap() <= MISSED => {
                    self.wait_until_given_up(key);
                    continue;
                }
                ("Narrow", value) => {
                    self.wait_until_all_came();
                    let number = value.as_int().unwrap();
                    self.out.lock().unwrap().taken[self.sink].push(number);
                    None
                }
                ("Bad", _) => {
                    let text = |at: usize| row[at].as_str().unwrap();
                    let letter = (text(5).to_owned(), number_in(text(0)));
                    self.out.lock().unwrap().letters.insert(key, letter);
                    None
                }
                (_, value) => {
                    let number = value.as_int().unwrap();
                    self.out.lock().unwrap().taken[self.sink].push(number);
                    None
                }
            };
            let sink = self.sink;
            let word = Confirmed { sink, key, refused };
            // When all is over nobody listens.
            let _ = self.confirmed.send(word);
        }
    }

    fn wait_until_all_came(&self) {
        let all = ROWS.unsigned_abs();
        wait_until("all are acknowledged", || *self.released.borrow() >= all);
    }

    fn wait_until_given_up(&self, key: OutputKey) {
        wait_until("it is given up", || *self.settled.borrow() >= key);
    }
}

/// When the store fails, how, and what it keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) operation: u64,
    pub(crate) fault: Fault,
    pub(crate) keep: u64,
}

pub(crate) fn limits() -> Limits {
    Limits {
        turn_rows_max: 3,
        turn_bytes_max: 1 << 20,
        unsynced_bytes_max: 8 << 20,
        durability: Durability::Interval(Duration::from_millis(5)),
        checkpoint_interval: None,
        checkpoint_log_bytes_max: Some(600),
        room: RoomLimits {
            bytes_max: 0,
            free_bytes_min: 0,
        },
        jump_ms_max: i64::MAX,
        sinks_within: Duration::from_millis(10),
    }
}

/// Runs rows through; how many operations it took, and how often the store was opened anew.
fn lives_through(failure: Option<Failure>) -> (u64, u64) {
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
    let (drained, _is_drained) = watch::channel(false);
    let out: Arc<Mutex<Out>> = Arc::default();
    let counts: [Arc<OutboxMetrics>; 4] = Default::default();
    let mut feeds = Vec::new();
    let mut sides = Vec::new();
    for (sink, counts) in counts.iter().enumerate() {
        let (deliver, deliveries) = mpsc::channel(8);
        let (settled, is_settled) = watch::channel(OutputKey::default());
        let feed = Feed::new(sink, deliver, opened.core.outbox(), 7);
        feeds.push(feed.telling(settled, Arc::clone(counts)));
        let side = Side {
            sink,
            deliveries,
            settled: is_settled,
            confirmed: confirm.clone(),
            released: was_released.clone(),
            out: Arc::clone(&out),
        };
        sides.push(std::thread::spawn(move || side.run()));
    }
    drop(confirm);
    let metrics = Arc::default();
    let handles = Handles {
        sources: BTreeMap::from([(
            0,
            SourceHandle {
                stream: StreamId(0),
                released,
            },
        )]),
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
    let pipeline = std::thread::spawn(move || run(disk, opened, handles, limits()));
    for number in 1..=ROWS {
        to.send(arrival(number)).unwrap();
    }
    let what = format!("all have come out or have letters: {failure:?}");
    wait_until(&what, || is_whole(&out.lock().unwrap()));
    tell_stop.send_replace(true);
    drop(to);
    pipeline.join().unwrap().unwrap();
    sides.into_iter().for_each(|side| side.join().unwrap());
    check(&out.lock().unwrap(), &counts, failure);
    let reopened = metrics.store_reopened.load(Ordering::Relaxed);
    (store.operations() - first, reopened)
}

fn disk(store: &SimStore, failure: Option<Failure>) -> Disk {
    let reopened = store.clone();
    Disk {
        open: Box::new(move || {
            reopened.crash(failure.unwrap().keep);
            open(&reopened)
        }),
        bytes_free: Box::new(|| None),
    }
}

pub(crate) fn arrival(number: i64) -> Arrival {
    let mut rows = Batch::new(1);
    rows.push(Stamp::default(), [Value::Int(number)]);
    Arrival {
        source: 0,
        rows,
        rejected: Vec::new(),
        marks: Vec::new(),
        through: number.unsigned_abs(),
        held: Held::default(),
    }
}

/// Everything was taken or has a letter.
fn is_whole(out: &Out) -> bool {
    SINKS.iter().take(3).zip(&out.taken).all(|(sink, taken)| {
        let has_letter = |n: &i64| {
            out.letters
                .values()
                .any(|(from, about)| from == sink && about == n)
        };
        (1..=ROWS).all(|n| taken.contains(&n) || has_letter(&n))
    })
}

fn check(out: &Out, counts: &[Arc<OutboxMetrics>; 4], failure: Option<Failure>) {
    for (sink, (name, taken)) in SINKS.iter().take(3).zip(&out.taken).enumerate() {
        assert!(taken.is_sorted_by(|one, next| one < next), "{failure:?}");
        let own = out.letters.values().filter(|(from, _)| from == name);
        let mut letters: Vec<i64> = own.map(|(_, about)| *about).collect();
        letters.sort_unstable();
        assert!(
            letters.is_sorted_by(|one, next| one < next),
            "{failure:?}: two letters about one: {letters:?}"
        );
        match *name {
            "Picky" => {
                let refused = (1..=ROWS).filter(|n| n % 5 == 0);
                assert!(
                    letters.iter().copied().eq(refused),
                    "{failure:?}: {letters:?}"
                );
            }
            "Narrow" => {
                assert!(!letters.is_empty(), "{failure:?}");
                let both = taken.iter().find(|n| letters.contains(n));
                assert_eq!(both, None, "dropped, and delivered: {failure:?}");
            }
            _ => assert!(
                letters.iter().take_while(|n| **n <= MISSED).count() == 9,
                "{letters:?}"
            ),
        }
        let of = |one: &std::sync::atomic::AtomicU64| one.load(Ordering::Relaxed);
        let (counts, bad) = (&counts[sink], &counts[3]);
        let gone = of(&counts.refused) + of(&counts.expired) + of(&counts.dropped);
        let came = letters.len() as u64;
        // Some may be on their way still.
        let all = came..=came + of(&bad.waiting);
        assert!(all.contains(&gone), "{name} {failure:?}: {counts:?}");
        let rows = ROWS.unsigned_abs();
        assert_eq!(
            of(&counts.confirmed) + gone + of(&counts.waiting),
            rows,
            "{failure:?}"
        );
    }
}

#[test]
fn a_store_that_is_opened_anew_forgets_no_refusal_and_no_letter() {
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
            });
        }
    }
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
    println!("{} failures over {operations} operations", failures.len());
    assert!(reopened.into_inner() >= failures.len() / 2);
}
