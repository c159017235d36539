//! The core over a store that crashes at each of its operations.

use std::collections::BTreeSet;
use std::sync::Arc;

use eventflux::event::{Batch, OutputKey, Stamp, Timestamp, Value};
use eventflux::outbox::{Entry, Full, Limits};
use eventflux::pipeline::{Core, Input, Open, PipelineError, StatePolicy, Word};
use eventflux::sink::{Confirmed, Refused};
use eventflux::sql::{self, Application, SqlText};
use eventflux::store::Store;
use eventflux::store::sim::{Fault, SimStore};

use crate::{COLUMNS, number_in};

const OLDEST: usize = 0;
const NEWEST: usize = 1;
const BAD: usize = 2;
const WORSE: usize = 3;
const TALLY: usize = 4;

/// Both sinks send what they give up to Bad, which is too small for that and has letters of its
/// own. The engine counts them.
fn sinks() -> [(String, Limits); 5] {
    let oldest = Limits {
        bytes_max: 700,
        full: Full::DropOldest,
        ttl_ms: Some(45),
        dead_letters: true,
    };
    let newest = Limits {
        full: Full::DropNewest,
        ..oldest
    };
    let bad = Limits {
        bytes_max: 4_000,
        ttl_ms: None,
        ..oldest
    };
    [
        ("Oldest", oldest),
        ("Newest", newest),
        ("Bad", bad),
        ("Worse", Limits::NONE),
        ("Tally", Limits::NONE),
    ]
    .map(|(name, limits)| (name.to_owned(), limits))
}

fn application() -> (Arc<Application>, [SqlText; 1]) {
    let sink = |name: &str, columns: &str, letters: &str| {
        let letters = match letters {
            "" => String::new(),
            stream => format!(", 'outbox.dead_letter'='{stream}'"),
        };
        format!(
            "CREATE STREAM {name} {columns} WITH ('type'='sink', 'extension'='log'{letters});\n"
        )
    };
    let text = [
        "CREATE STREAM S (n BIGINT);\n".to_owned(),
        sink("Oldest", "(n BIGINT)", "Bad"),
        sink("Newest", "(n BIGINT)", "Bad"),
        sink("Bad", COLUMNS, "Worse"),
        sink("Worse", COLUMNS, ""),
        sink("Tally", "(n BIGINT)", ""),
        "INSERT INTO Oldest SELECT n FROM S WHERE n % 2 = 0;\n\
         INSERT INTO Newest SELECT n FROM S WHERE n % 2 = 1;\n\
         INSERT INTO Tally SELECT count(*) AS n FROM Bad;\n"
            .to_owned(),
    ];
    let texts = [SqlText {
        path: "app.sql".to_owned(),
        text: text.concat(),
    }];
    (Arc::new(sql::compile(&texts).unwrap()), texts)
}

fn open(store: &SimStore) -> Result<Core, PipelineError> {
    let (application, texts) = application();
    let (core, found) = Core::open(&Open {
        store: Arc::new(store.clone()),
        identity: 1,
        application,
        texts: &texts,
        sinks: &sinks(),
        checkpoints_kept: 2,
        state_policy: StatePolicy::KeepCompatible,
    })?;
    assert_eq!(found.warnings, [""; 0]);
    Ok(core)
}

/// What no crash changes.
#[derive(Default)]
struct World {
    synced: BTreeSet<i64>,
    /// What the far sides have taken.
    delivered: BTreeSet<i64>,
}

struct Process {
    store: SimStore,
    core: Core,
    /// What was worked since the last sync.
    unsynced: BTreeSet<i64>,
}

fn numbers(entries: &[Entry]) -> Vec<i64> {
    let number = |entry: &Entry| match &entry.row[0] {
        Value::Str(original) => number_in(original.as_str()),
        value => value.as_int().unwrap(),
    };
    entries.iter().map(number).collect()
}

impl Process {
    fn start(store: &SimStore) -> Result<Process, PipelineError> {
        Ok(Process {
            store: store.clone(),
            core: open(store)?,
            unsynced: BTreeSet::new(),
        })
    }

    fn waiting(&mut self, sink: usize) -> Vec<Entry> {
        let outbox = self.core.outbox_mut();
        let all = outbox.read(sink, OutputKey::default(), usize::MAX, usize::MAX);
        let all = all.unwrap();
        assert!(all.is_sorted_by(|one, next| one.key < next.key));
        all
    }

    fn work(&mut self, now: Timestamp, values: &[i64]) -> Result<(), PipelineError> {
        let mut rows = Batch::new(1);
        for value in values {
            rows.push(Stamp::default(), [Value::Int(*value)]);
        }
        let stream = self.core_stream();
        let input = Input {
            stream,
            rows,
            rejected: Vec::new(),
            marks: Vec::new(),
        };
        let turn = self.core.turn(now, vec![input])?;
        self.core.write(turn)?;
        self.unsynced.extend(values);
        Ok(())
    }

    fn core_stream(&self) -> sql::plan::StreamId {
        application().0.stream_named("S").unwrap().0
    }

    fn sync(&mut self, world: &mut World) -> Result<(), PipelineError> {
        self.store.sync()?;
        world.synced.append(&mut self.unsynced);
        Ok(())
    }

    /// The far side takes some, will never take the one after it, and takes one more.
    fn deliver(&mut self, world: &mut World, sink: usize) -> Result<(), PipelineError> {
        let waiting = self.waiting(sink);
        let [one, two, refused, last, ..] = waiting.as_slice() else {
            return Ok(());
        };
        let taken = [one.clone(), two.clone(), last.clone()];
        world.delivered.extend(numbers(&taken));
        let word = |key, refused| Word::Said(Confirmed { sink, key, refused });
        let why = Refused {
            why: "status 422".to_owned(),
            attempts: 2,
        };
        let words = [word(refused.key, Some(why)), word(last.key, None)];
        let turn = self.core.settle(self.core.last_time(), &words)?;
        self.core.write(turn)
    }

    fn expire(&mut self, now: Timestamp) -> Result<(), PipelineError> {
        for sink in [OLDEST, NEWEST] {
            let due = |core: &Core| core.outbox().next_expiry(sink).is_some_and(|at| at <= now);
            while due(&self.core) {
                let turn = self.core.expire(sink, now)?;
                assert!(!turn.given_up.is_empty());
                self.core.write(turn)?;
            }
        }
        Ok(())
    }

    fn check(&mut self, world: &World, how: &str) {
        let [oldest, newest, bad, worse, tally] =
            [OLDEST, NEWEST, BAD, WORSE, TALLY].map(|sink| self.waiting(sink));
        let held: BTreeSet<i64> = numbers(&[oldest, newest].concat()).into_iter().collect();
        let letters = numbers(&[bad, worse].concat());
        let distinct: BTreeSet<i64> = letters.iter().copied().collect();
        assert_eq!(distinct.len(), letters.len(), "two letters about one");
        assert!(distinct.is_disjoint(&held), "it waits and has a letter");
        for n in &world.synced {
            let is_somewhere = [&held, &distinct, &world.delivered]
                .iter()
                .any(|place| place.contains(n));
            assert!(is_somewhere, "{n} is lost, {how}");
        }
        let counted = tally.last().map_or(0, |last| last.row[0].as_int().unwrap());
        assert_eq!(usize::try_from(counted).unwrap(), letters.len());
        assert_eq!(tally.len(), letters.len(), "the engine has seen each once");
    }
}

/// Lives through a day from `turn` on.
fn day(process: &mut Process, world: &mut World, turn: &mut i64) -> Result<(), PipelineError> {
    while *turn < 26 {
        let now = process
            .core
            .last_time()
            .max(Timestamp(2_000_000_000_000 + *turn * 10));
        let values: Vec<i64> = (0..*turn % 6 + 1).map(|n| *turn * 10 + n).collect();
        *turn += 1;
        process.work(now, &values)?;
        match *turn % 6 {
            1 | 4 => process.sync(world)?,
            2 => {
                process.sync(world)?;
                process.deliver(world, OLDEST)?;
                process.deliver(world, NEWEST)?;
            }
            3 => process.expire(now.plus_ms(20))?,
            5 => {
                process.core.checkpoint()?;
                while process.core.trim()? {}
            }
            _ => {}
        }
    }
    process.sync(world)
}

#[test]
fn a_crash_at_every_operation_leaves_one_letter_or_the_output() {
    let all = SimStore::new();
    let mut process = Process::start(&all).unwrap();
    let mut world = World::default();
    day(&mut process, &mut world, &mut 0).unwrap();
    process.check(&world, "undisturbed");
    for sink in [OLDEST, NEWEST] {
        let counts = process.core.outbox().counts(sink).unwrap();
        let all = [counts.dropped, counts.expired, counts.refused];
        assert!(all.iter().all(|count| *count > 1), "{sink}: {counts:?}");
    }
    assert!(process.waiting(WORSE).len() > 5, "letters of letters");
    for operation in 1..=all.operations() {
        for (fault, keep) in [
            (Fault::Crash, 0),
            (Fault::Crash, 3),
            (Fault::Fails, 1),
            (Fault::Fails, 2),
        ] {
            let how = format!(
                "{fault:?} at {operation} of {}, {keep} kept",
                all.operations()
            );
            let store = SimStore::new();
            store.plan(operation, fault);
            let mut world = World::default();
            let (mut turn, mut process) = (0, None);
            loop {
                let died = match &mut process {
                    None => Process::start(&store).map(|started| {
                        let started = process.insert(started);
                        started.check(&world, &how);
                    }),
                    Some(process) => match day(process, &mut world, &mut turn) {
                        Ok(()) => break,
                        Err(error) => Err(error),
                    },
                };
                if died.is_err() {
                    store.crash(keep);
                    process = None;
                }
            }
            process.unwrap().check(&world, &how);
        }
    }
}

/// Nothing of it reaches a log that has it already.
#[test]
fn running_the_log_again_writes_no_letter() {
    let store = SimStore::new();
    let mut process = Process::start(&store).unwrap();
    day(&mut process, &mut World::default(), &mut 0).unwrap();
    let before = (
        process.core.last(),
        process.waiting(BAD),
        process.waiting(WORSE),
    );
    let mut again = Process::start(&store).unwrap();
    let after = (again.core.last(), again.waiting(BAD), again.waiting(WORSE));
    assert_eq!(before, after);
}
