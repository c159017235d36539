//! A day of inputs through [`Core`] over a store that may crash, and what must hold all the time.
//!
//! The log is the same whatever happens: an input that a crash took is fed again, and takes the
//! same number. So the number of the last input in the log says where to go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use eventflux::event::{Batch, DeliveryMark, OutputKey, Rejected, Seq, Stamp, Timestamp, Value};
use eventflux::outbox::{Entry, Limits};
use eventflux::pipeline::{Core, Input, Open, PipelineError, StatePolicy};
use eventflux::sql::{self, Application, SqlText};
use eventflux::store::sim::{Fault, SimStore};
use eventflux::store::{Store, WriteBatch};

/// What the far side of a sink has received.
pub(crate) type Seen = BTreeMap<OutputKey, Entry>;

const SOURCE: &str = "Readings";

/// One thing that happens in a day.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Inputs of one turn: values, and how many rejects.
    Input {
        after_ms: i64,
        inputs: Vec<(Vec<i64>, usize)>,
    },
    Tick {
        after_ms: i64,
    },
    /// Everything is durable: sources are acknowledged, sinks receive.
    Sync,
    Checkpoint,
    /// The far side confirms what it has received, but for the last `back`.
    Confirm {
        sink: usize,
        back: usize,
    },
    /// The daemon is started with the second application.
    Reconfigure,
    /// It goes over to the second application while it runs.
    Change,
}

impl Step {
    pub(crate) fn rows(after_ms: i64, values: &[i64]) -> Step {
        Step::Input {
            after_ms,
            inputs: vec![(values.to_vec(), 0)],
        }
    }
}

/// How much of what was not synced survives a crash.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    Nothing,
    Half,
    All,
    Seed(u64),
}

/// The process dies at this operation, counted from the start of the process, or because of what
/// happens to it there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    pub(crate) operation: u64,
    pub(crate) fault: Fault,
    pub(crate) keep: Keep,
}

/// Two applications that differ in one window, and their sinks.
pub(crate) struct Applications {
    pub(crate) sinks: [&'static str; 5],
    written: [(Arc<Application>, [SqlText; 1]); 2],
}

pub(crate) fn applications() -> Applications {
    let written = [5, 3].map(|rows| {
        let text = format!(
            "CREATE STREAM {SOURCE} (k STRING, v BIGINT);\n\
             INSERT INTO Filtered SELECT k, v FROM {SOURCE} WHERE v > 10;\n\
             INSERT INTO Sums SELECT sum(v) AS s FROM {SOURCE} WINDOW('length', {rows});\n\
             INSERT INTO Groups SELECT k, count(*) AS n, sum(v) AS s FROM {SOURCE}\n\
               WINDOW('tumbling', 1 SECOND) GROUP BY k;\n\
             INSERT INTO Recent SELECT count(*) AS n, sum(v) AS s FROM {SOURCE}\n\
               WINDOW('time', 700 MILLISECONDS);\n\
             INSERT INTO Big SELECT k, v * 2 AS v FROM {SOURCE} WHERE v > 50;\n\
             INSERT INTO Chained SELECT k, sum(v) AS s, count(*) AS n FROM Big\n\
               WINDOW('length', 3);\n"
        );
        let texts = [SqlText {
            path: "app.sql".to_owned(),
            text,
        }];
        (Arc::new(sql::compile(&texts).unwrap()), texts)
    });
    Applications {
        sinks: ["Filtered", "Sums", "Groups", "Recent", "Chained"],
        written,
    }
}

/// A day, and what comes out when nothing happens.
pub(crate) struct Day {
    steps: Vec<Step>,
    /// The last number of each record of the log, with its step and the input in it.
    records: Vec<(Seq, usize, usize)>,
    operations: u64,
    pub(crate) seen: Vec<Seen>,
    /// What was said at the change of the application.
    pub(crate) warnings: Vec<String>,
    applications: Applications,
}

impl Day {
    pub(crate) fn new(steps: Vec<Step>) -> Day {
        let mut day = Day {
            steps,
            records: Vec::new(),
            operations: 0,
            seen: Vec::new(),
            warnings: Vec::new(),
            applications: applications(),
        };
        let mut process = Process::new(&day, &[]);
        let mut records = Vec::new();
        process.run(&mut records);
        let operations = process.store.operations();
        let (seen, warnings) = (process.seen, process.warnings);
        (day.records, day.operations, day.seen, day.warnings) =
            (records, operations, seen, warnings);
        day
    }

    /// How many writes and syncs it takes.
    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    /// Lives through it with crashes, each counted from the recovery of the one before.
    pub(crate) fn check(&self, crashes: &[Crash]) {
        let mut process = Process::new(self, crashes);
        let mut records = Vec::new();
        process.run(&mut records);
        for (sink, name) in self.applications.sinks.iter().enumerate() {
            assert_eq!(process.seen[sink], self.seen[sink], "{name}: {crashes:?}");
        }
    }

    fn time(&self, step: usize) -> Timestamp {
        let steps = self.steps[..=step].iter();
        let all = steps.map(|step| match step {
            Step::Input { after_ms, .. } | Step::Tick { after_ms } => *after_ms,
            Step::Sync
            | Step::Checkpoint
            | Step::Confirm { .. }
            | Step::Reconfigure
            | Step::Change => 0,
        });
        Timestamp(1_000_000 + all.sum::<i64>())
    }

    /// The marks of all messages in the log up to `last`: one for each row and reject.
    fn marks(&self, last: Seq) -> Vec<DeliveryMark> {
        let mut marks = Vec::new();
        for (end, step, input) in &self.records {
            if let Step::Input { inputs, .. } = &self.steps[*step] {
                if *end <= last {
                    marks.extend(marks_of(*step, *input, &inputs[*input]));
                }
            }
        }
        marks
    }
}

fn marks_of(step: usize, input: usize, what: &(Vec<i64>, usize)) -> Vec<DeliveryMark> {
    let (values, rejects) = what;
    let packet = u16::try_from(step * 8 + input).unwrap();
    let all = 0..u64::try_from(values.len() + rejects).unwrap();
    all.map(|digest| DeliveryMark { packet, digest }).collect()
}

/// A daemon that dies, and what outlives it.
struct Process<'a> {
    day: &'a Day,
    store: SimStore,
    core: Core,
    /// Which application is to run.
    wanted: usize,
    crashes: std::vec::IntoIter<Crash>,
    planned: Option<Crash>,
    acknowledged: Seq,
    seen: Vec<Seen>,
    confirmed: Vec<OutputKey>,
    warnings: Vec<String>,
}

impl<'a> Process<'a> {
    fn new(day: &'a Day, crashes: &[Crash]) -> Process<'a> {
        let store = SimStore::new();
        let crashes: Vec<Crash> = crashes.to_vec();
        let mut crashes = crashes.into_iter();
        let mut planned = crashes.next();
        let (core, warnings) = start(day, &store, 0, &mut planned, &mut crashes);
        let sinks = day.applications.sinks.len();
        Process {
            day,
            store,
            core,
            wanted: 0,
            crashes,
            planned,
            acknowledged: Seq(0),
            seen: vec![Seen::new(); sinks],
            confirmed: vec![OutputKey::default(); sinks],
            warnings,
        }
    }

    /// The whole day, to the last confirmation. Notes the records of the log as they come.
    fn run(&mut self, records: &mut Vec<(Seq, usize, usize)>) {
        let (mut step, mut input) = (0, 0);
        loop {
            let end = step >= self.day.steps.len();
            let done = if end {
                self.sync()
            } else {
                self.step(step, input, records)
            };
            match done {
                Ok(()) if end => return,
                Ok(()) => (step, input) = (step + 1, 0),
                Err(_) => (step, input) = self.recover(step),
            }
        }
    }

    fn step(
        &mut self,
        step: usize,
        input: usize,
        records: &mut Vec<(Seq, usize, usize)>,
    ) -> Result<(), PipelineError> {
        match self.day.steps[step].clone() {
            Step::Input { inputs, .. } => {
                let stream = self.day.applications.written[self.wanted]
                    .0
                    .stream_named(SOURCE);
                let stream = stream.unwrap().0;
                let mut last = self.core.last();
                let mut some = Vec::new();
                for (number, what) in inputs.iter().enumerate().skip(input) {
                    let (values, rejects) = what;
                    let taken = u64::try_from(values.len() + rejects).unwrap();
                    last = last.plus(taken);
                    records.push((last, step, number));
                    some.push(Input {
                        stream,
                        rows: rows(values),
                        rejected: vec![rejected(); *rejects],
                        marks: marks_of(step, number, what),
                    });
                }
                let turn = self.core.turn(self.day.time(step), some)?;
                assert_eq!(turn.last, last);
                self.core.write(turn)?;
            }
            Step::Tick { .. } => {
                records.push((self.core.last().plus(1), step, 0));
                let turn = self.core.turn(self.day.time(step), Vec::new())?;
                self.core.write(turn)?;
            }
            Step::Sync => self.sync()?,
            Step::Checkpoint => {
                self.core.checkpoint()?;
                while self.core.trim()? {}
            }
            Step::Confirm { sink, back } => self.confirm(sink, back)?,
            Step::Reconfigure => {
                self.wanted = 1;
                self.restart();
                records.push((self.core.last(), step, 0));
            }
            Step::Change => {
                self.sync()?;
                // Whatever happens from here on: it is the second that is wanted.
                self.wanted = 1;
                let (application, texts) = &self.day.applications.written[1];
                let sinks = outboxes(self.day);
                records.push((self.core.last().plus(1), step, 0));
                let found = self
                    .core
                    .change_to(&open(&self.store, application, texts, &sinks))?;
                self.warnings.extend(found.warnings);
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), PipelineError> {
        self.store.sync()?;
        self.acknowledged = self.core.last();
        for sink in 0..self.seen.len() {
            for entry in self.waiting(sink) {
                let known = self.seen[sink].insert(entry.key, entry.clone());
                assert!(
                    known.is_none_or(|known| known == entry),
                    "one id, one output"
                );
            }
        }
        Ok(())
    }

    fn confirm(&mut self, sink: usize, back: usize) -> Result<(), PipelineError> {
        let Some((key, _)) = self.seen[sink].iter().rev().nth(back) else {
            return Ok(());
        };
        self.confirmed[sink] = self.confirmed[sink].max(*key);
        let mut batch = WriteBatch::new();
        self.core.outbox_mut().confirm(sink, *key, &mut batch)?;
        if !batch.is_empty() {
            self.store.write(batch)?;
        }
        Ok(())
    }

    /// Everything that waits for a sink; the keys ascend.
    fn waiting(&mut self, sink: usize) -> Vec<Entry> {
        let outbox = self.core.outbox_mut();
        let all = outbox
            .read(sink, OutputKey::default(), usize::MAX, usize::MAX)
            .unwrap();
        assert!(all.is_sorted_by(|one, next| one.key < next.key));
        all
    }

    /// After a crash: comes back, and says with which input of which step to go on.
    fn recover(&mut self, step: usize) -> (usize, usize) {
        let crash = self.planned.take().unwrap();
        die(&self.store, crash.keep);
        self.planned = self.crashes.next();
        self.restart();
        let last = self.core.last();
        assert!(last >= self.acknowledged, "what was acknowledged is there");
        assert_eq!(self.core.marks(SOURCE), self.day.marks(last));
        self.check_outboxes(last);
        let records = &self.day.records;
        // The application's own record, at the beginning, is nobody's.
        let is_whole = last.0 <= 1 || records.iter().any(|(end, ..)| *end == last);
        assert!(is_whole, "{last} is in the middle of an input");
        // On with what the log has not; but what leaves no record is done again.
        let leaves_record = matches!(
            self.day.steps.get(step),
            Some(Step::Input { .. } | Step::Tick { .. } | Step::Reconfigure | Step::Change)
        );
        let behind = if leaves_record { step + 1 } else { step };
        let lost = records.iter().find(|(end, ..)| *end > last);
        lost.map_or((behind, 0), |(_, step, input)| (*step, *input))
            .min((behind, 0))
    }

    /// The outboxes hold what comes out up to `last`, but for what is confirmed.
    fn check_outboxes(&mut self, last: Seq) {
        for sink in 0..self.seen.len() {
            let cursor = self.core.outbox().cursor(sink).unwrap();
            assert!(cursor <= self.confirmed[sink], "the cursor never leads");
            let waiting = self.waiting(sink);
            let should = self.day.seen[sink].values();
            let should = should.filter(|entry| entry.key > cursor && entry.key.seq <= last);
            assert_eq!(waiting, should.cloned().collect::<Vec<_>>());
        }
    }

    fn restart(&mut self) {
        let (core, warnings) = start(
            self.day,
            &self.store,
            self.wanted,
            &mut self.planned,
            &mut self.crashes,
        );
        self.core = core;
        self.warnings.extend(warnings);
    }
}

fn die(store: &SimStore, keep: Keep) {
    let unsynced = u64::try_from(store.unsynced()).unwrap();
    store.crash(match keep {
        Keep::Nothing => 0,
        Keep::Half => unsynced / 2,
        Keep::All => unsynced,
        Keep::Seed(seed) => seed,
    });
}

/// Opens the core, as often as it takes, and lets the next crash happen some time after.
fn start(
    day: &Day,
    store: &SimStore,
    wanted: usize,
    planned: &mut Option<Crash>,
    crashes: &mut std::vec::IntoIter<Crash>,
) -> (Core, Vec<String>) {
    let (application, texts) = &day.applications.written[wanted];
    let sinks = outboxes(day);
    loop {
        if let Some(crash) = planned {
            store.plan(store.operations() + crash.operation, crash.fault);
        }
        match Core::open(&open(store, application, texts, &sinks)) {
            Ok((core, found)) => return (core, found.warnings),
            Err(error) => {
                let crash = planned.take();
                let crash = crash.unwrap_or_else(|| panic!("nothing was planned: {error}"));
                die(store, crash.keep);
                *planned = crashes.next();
            }
        }
    }
}

fn outboxes(day: &Day) -> [(String, Limits); 5] {
    let sinks = day.applications.sinks;
    sinks.map(|name| (name.to_owned(), Limits::NONE))
}

fn open<'a>(
    store: &SimStore,
    application: &Arc<Application>,
    texts: &'a [SqlText],
    sinks: &'a [(String, Limits)],
) -> Open<'a> {
    Open {
        store: Arc::new(store.clone()),
        identity: 0,
        application: Arc::clone(application),
        texts,
        sinks,
        checkpoints_kept: 2,
        state_policy: StatePolicy::KeepCompatible,
    }
}

fn rows(values: &[i64]) -> Batch {
    let mut rows = Batch::new(2);
    for value in values {
        let key = Value::text(if value % 2 == 0 { "even" } else { "odd" });
        rows.push(Stamp::default(), [key, Value::Int(*value)]);
    }
    rows
}

fn rejected() -> Rejected {
    Rejected {
        reason: "malformed".to_owned(),
        detail: "the end of the input".to_owned(),
        bytes: b"{".to_vec(),
        bytes_total: 1,
    }
}
