//! Going back: what comes out afterwards is what comes out of a daemon that never saw the inputs
//! behind the point, whatever the point, and whatever crashes on the way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails where it stands"
)]

use std::sync::Arc;

use eventflux::checkpoint;
use eventflux::event::{Batch, DeliveryMark, OutputKey, Rejected, Seq, Stamp, Timestamp, Value};
use eventflux::outbox::{Entry, Limits};
use eventflux::pipeline::{
    Core, Input, Open, PipelineError, RestoreError, StatePolicy, Target, WentBack,
};
use eventflux::sql::{self, Application, SqlText};
use eventflux::store::Store;
use eventflux::store::sim::{Fault, SimStore};

const SINKS: [&str; 6] = ["Sums", "Groups", "Recent", "Pairs", "Silent", "Latest"];

/// Two applications that differ in one window.
fn application(which: usize) -> (Arc<Application>, [SqlText; 1]) {
    let rows = [4, 2][which];
    let text = format!(
        "CREATE STREAM S (k STRING, v BIGINT);\n\
         CREATE TABLE Newest (k STRING PRIMARY KEY, v BIGINT);\n\
         INSERT INTO Sums SELECT sum(v) AS s FROM S WINDOW('length', {rows});\n\
         INSERT INTO Groups SELECT k, count(*) AS n, sum(v) AS s FROM S\n\
           WINDOW('tumbling', 1 SECOND) GROUP BY k;\n\
         INSERT INTO Recent SELECT count(*) AS n, sum(v) AS s FROM S\n\
           WINDOW('time', 700 MILLISECONDS);\n\
         INSERT INTO Pairs SELECT a.v AS a, b.v AS b FROM PATTERN (\n\
           EVERY a=S[v > 50] -> b=S[v < 20] WITHIN 3 SECONDS);\n\
         INSERT INTO Silent SELECT k, count(*) AS n FROM S WINDOW('session', 900 MILLISECONDS, k)\n\
           GROUP BY k;\n\
         UPSERT INTO Newest SELECT k, v FROM S;\n\
         INSERT INTO Latest SELECT S.v AS v, Newest.v AS before FROM S\n\
           JOIN Newest ON S.k = Newest.k;\n"
    );
    let texts = [SqlText {
        path: "app.sql".to_owned(),
        text,
    }];
    (Arc::new(sql::compile(&texts).unwrap()), texts)
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Rows(i64, Vec<i64>),
    Reject(i64),
    Tick(i64),
    Checkpoint,
    /// Another application is to run.
    Change(usize),
}

fn history() -> Vec<Step> {
    vec![
        Step::Rows(0, vec![60, 10]),
        Step::Rows(200, vec![71]),
        Step::Checkpoint,
        Step::Rows(300, vec![5, 90, 33]),
        Step::Reject(50),
        Step::Checkpoint,
        Step::Tick(600),
        Step::Rows(100, vec![12, 77]),
        Step::Rows(800, vec![15]),
        Step::Checkpoint,
        Step::Rows(100, vec![51, 52]),
    ]
}

/// The same, and another application from the middle on.
fn changing() -> Vec<Step> {
    let mut steps = history();
    steps.insert(7, Step::Change(1));
    steps
}

/// What comes in afterwards.
fn afterwards() -> Vec<Step> {
    vec![
        Step::Rows(100, vec![7, 80]),
        Step::Tick(500),
        Step::Rows(400, vec![11, 64]),
        Step::Checkpoint,
        Step::Rows(1500, vec![3]),
        Step::Tick(2000),
    ]
}

struct Daemon {
    store: SimStore,
    core: Core,
    time: i64,
    runs: usize,
    kept: usize,
}

fn with_open<T>(
    store: &SimStore,
    which: usize,
    kept: usize,
    work: impl FnOnce(&Open<'_>) -> T,
) -> T {
    let (application, texts) = application(which);
    let sinks = SINKS.map(|name| (name.to_owned(), Limits::NONE));
    work(&Open {
        store: Arc::new(store.clone()),
        identity: 3,
        application,
        texts: &texts,
        sinks: &sinks,
        checkpoints_kept: kept,
        state_policy: StatePolicy::KeepCompatible,
    })
}

/// So many checkpoints are kept that every point can be reached.
const ALL: usize = 9;

fn restore(store: &SimStore, which: usize, to: Target) -> Result<WentBack, RestoreError> {
    restore_keeping(store, which, ALL, to)
}

fn restore_keeping(
    store: &SimStore,
    which: usize,
    kept: usize,
    to: Target,
) -> Result<WentBack, RestoreError> {
    with_open(store, which, kept, |open| Core::restore(open, to))
}

impl Daemon {
    fn open(store: &SimStore, which: usize, kept: usize) -> Result<Daemon, PipelineError> {
        let (core, _) = with_open(store, which, kept, Core::open)?;
        Ok(Daemon {
            store: store.clone(),
            time: core.last_time().0.max(1_000_000),
            core,
            runs: which,
            kept,
        })
    }

    fn new() -> Daemon {
        Daemon::open(&SimStore::new(), 0, ALL).unwrap()
    }

    /// Up to the input `until`.
    fn live(&mut self, steps: &[Step], until: Seq) {
        for step in steps {
            if self.core.last() >= until {
                break;
            }
            self.step(step, until);
        }
        self.store.sync().unwrap();
    }

    fn step(&mut self, step: &Step, until: Seq) {
        let stream = self.core_stream();
        let digest = self.core.last().0;
        let input = |rows: Batch, rejected: Vec<Rejected>| Input {
            stream,
            rows,
            rejected,
            marks: vec![DeliveryMark { packet: 1, digest }],
        };
        let (after, inputs) = match step {
            Step::Rows(after, values) => {
                let left = usize::try_from(until.0 - self.core.last().0).unwrap_or(usize::MAX);
                let mut rows = Batch::new(2);
                for value in values.iter().take(left) {
                    let key = Value::text(["even", "odd"][usize::from(value % 2 == 1)]);
                    rows.push(Stamp::default(), [key, Value::Int(*value)]);
                }
                (*after, vec![input(rows, Vec::new())])
            }
            Step::Reject(after) => {
                let rejected = Rejected {
                    reason: "malformed".to_owned(),
                    detail: "not JSON".to_owned(),
                    bytes: b"{".to_vec(),
                    bytes_total: 1,
                };
                (*after, vec![input(Batch::new(2), vec![rejected])])
            }
            Step::Tick(after) => (*after, Vec::new()),
            Step::Checkpoint => {
                self.core.checkpoint().unwrap();
                while self.core.trim().unwrap() {}
                return;
            }
            Step::Change(which) => {
                *self = Daemon {
                    time: self.time,
                    ..Daemon::open(&self.store, *which, self.kept).unwrap()
                };
                return;
            }
        };
        self.time += after;
        let turn = self.core.turn(Timestamp(self.time), inputs).unwrap();
        self.core.write(turn).unwrap();
    }

    fn core_stream(&self) -> sql::plan::StreamId {
        application(self.runs).0.stream_named("S").unwrap().0
    }

    /// What came out because of inputs from `from` on.
    fn outputs(&mut self, from: Seq) -> Vec<Vec<Entry>> {
        let all = (0..SINKS.len()).map(|sink| {
            let outbox = self.core.outbox_mut();
            let all = outbox.read(sink, OutputKey::default(), usize::MAX, usize::MAX);
            let all = all.unwrap().into_iter();
            all.filter(|entry| entry.key.seq >= from).collect()
        });
        all.collect()
    }
}

const END: Seq = Seq(u64::MAX);

/// A store with a history.
fn lived(steps: &[Step]) -> (SimStore, Seq) {
    let mut daemon = Daemon::new();
    daemon.live(steps, END);
    (daemon.store, daemon.core.last())
}

/// What comes out of a daemon that never saw what is behind `to`, and whose next number is that
/// of the record by which another one went back.
fn reference(steps: &[Step], to: Seq, went: &WentBack, which: usize) -> Vec<Vec<Entry>> {
    let mut daemon = Daemon::new();
    daemon.live(steps, to);
    if daemon.runs != which {
        daemon.step(&Step::Change(which), END);
    }
    let before = Seq(went.at.0 - 1);
    daemon.core.skip_past(before).unwrap();
    // The other one's clock has come further.
    daemon.time = went.forgotten.until.0;
    daemon.step(&Step::Tick(0), END);
    daemon.live(&afterwards(), END);
    daemon.outputs(went.at)
}

fn after_return(store: &SimStore, which: usize, at: Seq) -> Vec<Vec<Entry>> {
    let mut daemon = Daemon::open(store, which, ALL).unwrap();
    daemon.live(&afterwards(), END);
    daemon.outputs(at)
}

#[test]
fn every_point_of_a_history_can_be_gone_back_to() {
    let mut outputs = 0;
    for steps in [history(), changing()] {
        let (_, last) = lived(&steps);
        for which in [0, 1] {
            for to in 0..last.0 {
                let (store, _) = lived(&steps);
                let before = Daemon::open(&store, usize::from(steps.len() > 11), ALL);
                let mut before = before.unwrap();
                let marks = before.core.marks("S").to_vec();
                let before = before.outputs(Seq(0));
                let went = restore(&store, which, Target::Seq(Seq(to))).unwrap();
                assert_eq!((went.to, went.forgotten.last), (Seq(to), last));
                assert_eq!(went.forgotten.first, Seq(to + 1));
                let after = after_return(&store, which, went.at);
                let expected = reference(&steps, Seq(to), &went, which);
                assert_eq!(after, expected, "back to {to} with {which} of {steps:?}");
                outputs += after.iter().map(Vec::len).sum::<usize>();
                // What had come out before is there as it was.
                let mut again = Daemon::open(&store, which, ALL).unwrap();
                // And what brokers deliver again is known as before.
                assert!(marks.len() >= 6 && again.core.marks("S").starts_with(&marks));
                let mut again = again.outputs(Seq(0));
                for sink in &mut again {
                    sink.retain(|entry| entry.key.seq < went.at);
                }
                assert_eq!(again, before);
            }
        }
    }
    assert!(outputs > 1000, "{outputs}");
}

#[test]
fn a_crash_at_any_operation_leaves_the_old_state_or_the_new_one() {
    for (steps, which, to) in [(history(), 0, Seq(5)), (changing(), 0, Seq(14))] {
        let (store, last) = lived(&steps);
        let old = after_return(&store, which, last.plus(1));
        let (store, _) = lived(&steps);
        let begun = store.operations();
        let went = restore(&store, which, Target::Seq(to)).unwrap();
        let operations = store.operations() - begun;
        let new = after_return(&store, which, last.plus(1));
        assert_ne!(old, new);
        let (mut olds, mut news) = (0, 0);
        for operation in 1..=operations {
            for fault in [Fault::Crash, Fault::Fails, Fault::Full] {
                for keep in [0, 1, 7] {
                    let (store, _) = lived(&steps);
                    store.plan(store.operations() + operation, fault);
                    assert!(restore(&store, which, Target::Seq(to)).is_err());
                    store.crash(keep);
                    let after = after_return(&store, which, last.plus(1));
                    match (after == old, after == new) {
                        (true, _) => olds += 1,
                        (_, true) => news += 1,
                        _ => panic!("neither: {fault:?} at {operation} of {operations}, {keep}"),
                    }
                }
            }
        }
        assert!(olds > 5 && news > 5, "{olds} {news} {went:?}");
    }
}

#[test]
fn it_can_be_undone() {
    let steps = history();
    for to in [Seq(3), Seq(9)] {
        let (store, last) = lived(&steps);
        let there = restore(&store, 0, Target::Seq(to)).unwrap();
        let mut between = Daemon::open(&store, 0, 2).unwrap();
        between.live(&afterwards(), END);
        drop(between);
        let back = restore(&store, 0, Target::Seq(last)).unwrap();
        assert_eq!(back.forgotten.first, there.at);
        let expected = reference(&steps, last, &back, 0);
        assert_eq!(after_return(&store, 0, back.at), expected);
    }
}

/// The newest checkpoint is damaged, and the one before it is older than the return.
#[test]
fn a_damaged_checkpoint_is_made_good_by_the_same_means() {
    for more in 0..3 {
        let steps = history();
        let (store, _) = lived(&steps);
        let went = restore(&store, 0, Target::Seq(Seq(9))).unwrap();
        let expected = after_return(&store, 0, went.at);
        let (store, _) = lived(&steps);
        restore_keeping(&store, 0, 1, Target::Seq(Seq(9))).unwrap();
        let mut daemon = Daemon::open(&store, 0, 1).unwrap();
        daemon.live(&afterwards(), END);
        for _ in 0..more {
            daemon.step(&Step::Tick(0), END);
            daemon.step(&Step::Checkpoint, END);
        }
        let listed = checkpoint::list(&store).unwrap();
        let base = listed.last().unwrap().runs()[0].number;
        let prefix = [b"CR".as_slice(), &base.to_be_bytes()].concat();
        store.flip_bit(&prefix, 4711).unwrap();
        let (core, found) = with_open(&store, 0, 1, Core::open).unwrap();
        let told = &found.warnings;
        assert!(
            told.len() == 1 && told[0].contains("is damaged"),
            "{told:?}"
        );
        assert!(found.checkpoint < went.at, "{found:?}");
        drop(core);
        let mut daemon = Daemon::open(&store, 0, 1).unwrap();
        assert_eq!(daemon.outputs(went.at), expected);
        // And the state is the same, as what comes next shows.
        daemon.live(&afterwards(), END);
        let next = daemon.outputs(went.at);
        let (store, _) = lived(&steps);
        restore_keeping(&store, 0, 1, Target::Seq(Seq(9))).unwrap();
        let mut whole = Daemon::open(&store, 0, 1).unwrap();
        whole.live(&afterwards(), END);
        for _ in 0..more {
            whole.step(&Step::Tick(0), END);
        }
        whole.live(&afterwards(), END);
        assert_eq!(next, whole.outputs(went.at));
    }
}

#[test]
fn returns_to_before_returns_follow_the_way() {
    let steps = history();
    let (store, last) = lived(&steps);
    let first = restore(&store, 0, Target::Seq(Seq(6))).unwrap();
    let mut daemon = Daemon::open(&store, 0, 9).unwrap();
    daemon.live(&afterwards()[..3], END);
    let between = daemon.core.last();
    drop(daemon);
    restore(&store, 0, Target::Seq(last)).unwrap();
    // Its way leads over the first return, whose checkpoint is damaged.
    let listed = checkpoint::list(&store).unwrap();
    let one = listed.iter().find(|one| one.seq == first.at).unwrap();
    let prefix = [b"CR".as_slice(), &one.runs()[0].number.to_be_bytes()].concat();
    store.flip_bit(&prefix, 99).unwrap();
    let third = restore(&store, 0, Target::Seq(between)).unwrap();
    assert!(third.checkpoint <= Seq(6), "{third:?}");
    let after = after_return(&store, 0, third.at);

    let mut other = Daemon::new();
    other.live(&steps, Seq(6));
    other.core.skip_past(Seq(first.at.0 - 1)).unwrap();
    other.time = first.forgotten.until.0;
    other.step(&Step::Tick(0), END);
    other.live(&afterwards()[..3], END);
    other.core.skip_past(Seq(third.at.0 - 1)).unwrap();
    other.step(&Step::Tick(0), END);
    other.live(&afterwards(), END);
    assert_eq!(after, other.outputs(third.at));
}

#[test]
fn what_cannot_be_reached_is_refused_and_changes_nothing() {
    let (store, _) = lived(&history());
    let operations = |store: &SimStore| store.operations();
    let mut daemon = Daemon::open(&store, 0, 1).unwrap();
    for _ in 0..4 {
        daemon.live(&afterwards(), END);
    }
    let end = daemon.core.last();
    drop(daemon);
    let begun = operations(&store);
    let Err(RestoreError::Unreachable { earliest }) =
        restore_keeping(&store, 0, 1, Target::Seq(Seq(2)))
    else {
        panic!("it has gone back to what was trimmed");
    };
    let (earliest, time) = earliest.unwrap();
    assert!(earliest > Seq(2), "{earliest}");
    let early = Target::Time(Timestamp(time.0 - 1));
    assert!(matches!(
        restore(&store, 0, early),
        Err(RestoreError::Unreachable { .. })
    ));
    let beyond = restore(&store, 0, Target::Seq(end));
    assert!(matches!(beyond, Err(RestoreError::NotBefore { last }) if last == end));
    // What was done is what every start does.
    assert!(operations(&store) - begun < 12);
    let went = restore(&store, 0, Target::Time(time)).unwrap();
    assert!(went.to >= earliest && went.time <= time, "{went:?}");
}

#[test]
fn a_time_is_the_last_input_that_is_not_younger() {
    // The application's record is the first; the rows came at 0 (two), 200 (one), 500 (three).
    for (after, to) in [
        (0, 3),
        (199, 3),
        (200, 4),
        (499, 4),
        (500, 7),
        (549, 7),
        (550, 8),
    ] {
        let (store, _) = lived(&history());
        let time = Timestamp(1_000_000 + after);
        let went = restore(&store, 0, Target::Time(time)).unwrap();
        assert_eq!(went.to, Seq(to), "{after}");
    }
}

#[test]
fn state_that_may_not_be_lost_keeps_it_from_happening() {
    let (store, last) = lived(&history());
    let refused = with_open(&store, 1, ALL, |open| {
        let open = Open {
            store: Arc::clone(&open.store),
            application: Arc::clone(&open.application),
            state_policy: StatePolicy::KeepOrFail,
            ..*open
        };
        Core::restore(&open, Target::Seq(Seq(9)))
    });
    let Err(RestoreError::Pipeline(PipelineError::StateWouldBeLost { lost })) = refused else {
        panic!("it has gone back: {refused:?}");
    };
    assert!(lost.contains("Sums"), "{lost}");
    let old = after_return(&store, 0, last.plus(1));
    let (store, _) = lived(&history());
    assert_eq!(old, after_return(&store, 0, last.plus(1)));
}
