//! Log, checkpoints and outbox together, over a store that crashes, tears and fills up, against a
//! reference model of a few lines.
//!
//! The engine of the model folds every row into one number and emits that number for every third
//! row, so that an output is right only if exactly the right rows came before it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail where it stands"
)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use eventflux::checkpoint::Checkpoints;
use eventflux::event::{
    Batch, Field, OutputKey, Place, Schema, Seq, Stamp, StateChanges, Timestamp, Type, Value,
};
use eventflux::outbox::{Entry, Limits, Outbox};
use eventflux::store::WriteBatch;
use eventflux::store::sim::{Fault, SimStore};
use eventflux::store::{Store, table};
use eventflux::wal::{Body, ReadEnd, Record, Wal};
use proptest::prelude::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[derive(Clone, Debug)]
enum Action {
    Append { rows: Vec<i64> },
    Tick,
    Sync,
    Deliver { rows_max: usize },
    Confirm { back: usize },
    Checkpoint,
    Trim,
    Crash { keep: u64 },
    Fail { after: u64, fault: Fault, keep: u64 },
    TornTail,
    BitFlip { table: u8, seed: u64 },
}

fn action() -> impl Strategy<Value = Action> {
    let fault = prop_oneof![Just(Fault::Crash), Just(Fault::Full), Just(Fault::Fails)];
    prop_oneof![
        8 => prop::collection::vec(any::<i64>(), 1..6).prop_map(|rows| Action::Append { rows }),
        1 => Just(Action::Tick),
        4 => Just(Action::Sync),
        4 => (1usize..5).prop_map(|rows_max| Action::Deliver { rows_max }),
        3 => (0usize..3).prop_map(|back| Action::Confirm { back }),
        2 => Just(Action::Checkpoint),
        2 => Just(Action::Trim),
        2 => any::<u64>().prop_map(|keep| Action::Crash { keep }),
        2 => (1u64..8, fault, any::<u64>())
            .prop_map(|(after, fault, keep)| Action::Fail { after, fault, keep }),
    ]
}

fn damage() -> impl Strategy<Value = Action> {
    let table = prop::sample::select(vec![
        table::LOG,
        table::CHECKPOINT,
        table::OUTBOX,
        table::OUTBOX_STATE,
    ]);
    prop_oneof![
        1 => Just(Action::TornTail),
        4 => (table, any::<u64>()).prop_map(|(table, seed)| Action::BitFlip { table, seed }),
    ]
}

/// What ought to be: every row that was appended and is not lost to a crash.
#[derive(Default)]
struct Model {
    rows: BTreeMap<u64, i64>,
    /// The last number that was synced: acknowledged to the sources, released to the sinks.
    acknowledged: u64,
    /// Everything the far side has seen.
    seen: BTreeMap<OutputKey, Value>,
    delivered: OutputKey,
    confirmed: OutputKey,
}

#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Engine(u64);

fn schema() -> Arc<Schema> {
    let field = Field {
        name: "state".to_owned(),
        ty: Type::Long,
    };
    Arc::new(Schema::new(vec![field]))
}

impl Engine {
    fn push(&mut self, seq: u64, value: i64) -> Option<Entry> {
        let value = u64::from_le_bytes(value.to_le_bytes());
        self.0 = self.0.wrapping_mul(31).wrapping_add(seq).rotate_left(7) ^ value;
        let state = i64::from_le_bytes(self.0.to_le_bytes());
        (value % 3 == 0).then(|| Entry {
            key: OutputKey {
                seq: Seq(seq),
                query: 4,
                ordinal: 0,
            },
            time: Timestamp(0),
            schema: schema(),
            row: vec![Value::Int(state)],
        })
    }
}

impl Model {
    fn run(&self) -> (Engine, Vec<Entry>) {
        let mut engine = Engine::default();
        let outputs = self
            .rows
            .iter()
            .filter_map(|(seq, value)| engine.push(*seq, *value));
        let outputs = outputs.collect();
        (engine, outputs)
    }
}

/// Where the engine's number lies.
const PLACE: Place = Place {
    operator: 1,
    key: 2,
};

struct Process {
    store: SimStore,
    wal: Wal,
    checkpoints: Checkpoints,
    outbox: Outbox,
    engine: Engine,
    processed: Seq,
    keep: u64,
}

fn sinks() -> Vec<(String, Limits)> {
    vec![("alerts".to_owned(), Limits::NONE)]
}

fn outputs_of(engine: &mut Engine, record: &Record) -> Vec<Entry> {
    let Body::Events { rows, .. } = &record.body else {
        return Vec::new();
    };
    let rows = rows.rows().iter();
    rows.filter_map(|row| {
        assert_eq!(row.stamp.time, record.time);
        engine.push(row.stamp.seq.0, row.values[0].as_int().unwrap())
    })
    .collect()
}

impl Process {
    /// What a start does: restore, then run the log's suffix.
    fn start(store: &SimStore) -> Process {
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let mut checkpoints = Checkpoints::open(Arc::clone(&shared), 2).unwrap();
        let restored = checkpoints.load_latest(&mut |_| ()).unwrap().restored;
        let mut engine = Engine::default();
        let mut saved = Seq(0);
        if let Some(restored) = restored {
            let piece = restored.state.get(PLACE).unwrap();
            engine.0 = u64::from_le_bytes(piece.try_into().unwrap());
            saved = restored.seq;
        }
        let wal = Wal::open(Arc::clone(&shared), saved.plus(1)).unwrap();
        let mut outbox = Outbox::open(shared, &sinks()).unwrap();
        let mut batch = WriteBatch::new();
        let end = wal.read(saved.plus(1), &mut |record| {
            let outputs = outputs_of(&mut engine, &record);
            outbox.append(0, record.time, &outputs, &mut batch).unwrap();
            ControlFlow::Continue(())
        });
        assert_eq!(end.unwrap(), ReadEnd::Whole { next: wal.next() });
        store.write(batch).unwrap();
        Process {
            store: store.clone(),
            processed: Seq(wal.next().0 - 1),
            wal,
            checkpoints,
            outbox,
            engine,
            keep: 0,
        }
    }

    fn act(&mut self, model: &mut Model, action: &Action) -> Outcome {
        match action {
            Action::Append { rows } => self.append(model, rows)?,
            Action::Tick => {
                // Kept apart from the rows: it takes a number and changes nothing.
                let mut batch = WriteBatch::new();
                self.wal
                    .append(self.wal.last_time(), &Body::Tick, &mut batch)?;
                self.store.write(batch)?;
                self.processed = Seq(self.wal.next().0 - 1);
            }
            Action::Sync => {
                self.store.sync()?;
                model.acknowledged = self.processed.0;
            }
            Action::Deliver { rows_max } => self.deliver(model, *rows_max)?,
            Action::Confirm { back } => {
                let seen = model.seen.range(..=model.delivered);
                if let Some((key, _)) = seen.rev().nth(*back) {
                    model.confirmed = model.confirmed.max(*key);
                    let mut batch = WriteBatch::new();
                    self.outbox.confirm(0, *key, &mut batch)?;
                    self.store.write(batch)?;
                }
            }
            Action::Checkpoint => self.save()?,
            Action::Trim => {
                if let Some(oldest) = self.checkpoints.oldest_retained() {
                    let mut batch = WriteBatch::new();
                    self.wal.trim(oldest.plus(1), &mut batch)?;
                    self.store.write(batch)?;
                }
            }
            Action::Crash { keep } => self.restart(model, *keep),
            Action::Fail { after, fault, keep } => {
                self.keep = *keep;
                self.store.plan(self.store.operations() + after, *fault);
            }
            Action::TornTail => {
                let last = self.store.last(&[table::LOG], &[table::LOG + 1])?;
                if let Some((key, _)) = last {
                    self.store.tear(&key, 3);
                    self.restart_damaged(model);
                }
            }
            Action::BitFlip { table, seed } => {
                if self.store.flip_bit(&[*table], *seed).is_some() {
                    self.restart_damaged(model);
                }
            }
        }
        Ok(())
    }

    fn deliver(&mut self, model: &mut Model, rows_max: usize) -> Outcome {
        for entry in self.outbox.read(0, model.delivered, rows_max, 1 << 20)? {
            if entry.key.seq.0 > model.acknowledged {
                break;
            }
            let row = entry.row[0].clone();
            let before = model.seen.insert(entry.key, row.clone());
            assert!(
                before.is_none_or(|before| before == row),
                "one key, one output"
            );
            model.delivered = entry.key;
        }
        Ok(())
    }

    fn save(&mut self) -> Outcome {
        let mut changes = StateChanges::new();
        changes.put(PLACE, |out| {
            out.extend_from_slice(&self.engine.0.to_le_bytes());
            Ok::<(), std::convert::Infallible>(())
        })?;
        self.checkpoints.begin();
        let time = self.wal.last_time();
        let mut job = Some(self.checkpoints.finish(self.processed, time, changes));
        while let Some(next) = job {
            job = next
                .run(&self.store)?
                .more
                .or_else(|| self.checkpoints.fold());
        }
        Ok(())
    }

    fn append(&mut self, model: &mut Model, values: &[i64]) -> Outcome {
        let mut rows = Batch::new(1);
        for value in values {
            rows.push(Stamp::default(), [Value::Int(*value)]);
        }
        let body = Body::Events {
            stream: "S".to_owned(),
            schema: 1,
            rows,
            origin: None,
        };
        let mut batch = WriteBatch::new();
        let time = self.wal.last_time().max(Timestamp(0)).plus_ms(1);
        let first = self.wal.append(time, &body, &mut batch)?;
        model.rows.extend((first.0..).zip(values.iter().copied()));
        self.store.write(batch)?;
        let mut outputs = Vec::new();
        for (seq, value) in (first.0..).zip(values) {
            outputs.extend(self.engine.push(seq, *value));
        }
        self.processed = Seq(self.wal.next().0 - 1);
        let mut batch = WriteBatch::new();
        let done = self.outbox.append(0, time, &outputs, &mut batch)?;
        assert_eq!((done.repeated, done.dropped), (0, 0));
        self.store.write(batch)?;
        Ok(())
    }

    fn restart(&mut self, model: &mut Model, keep: u64) {
        self.store.crash(keep);
        *self = Process::start(&self.store);
        assert_eq!(self.wal.cut(), None, "a crash is no damage");
        assert!(
            self.processed.0 >= model.acknowledged,
            "nothing synced is lost"
        );
        model.rows.split_off(&self.wal.next().0);
        self.compare(model);
    }

    fn compare(&mut self, model: &mut Model) {
        let (engine, outputs) = model.run();
        assert_eq!(self.engine, engine, "the state is that of the whole log");
        let cursor = self.outbox.cursor(0).unwrap();
        assert!(cursor <= model.confirmed, "the cursor never leads");
        model.delivered = cursor;
        let waiting = self.all();
        let open: Vec<_> = outputs
            .into_iter()
            .filter(|output| output.key > cursor)
            .collect();
        assert_eq!(waiting, open, "each output once, and none is missing");
        let depth = self.outbox.depth(0).unwrap();
        assert_eq!(depth.entries, u64::try_from(open.len()).unwrap());
    }

    fn all(&mut self) -> Vec<Entry> {
        self.outbox
            .read(0, OutputKey::default(), usize::MAX, usize::MAX)
            .unwrap()
    }

    /// After damage some is lost, but nothing is half there and no number comes twice.
    fn restart_damaged(&mut self, model: &mut Model) {
        let next = self.wal.next();
        let last_key = self.outbox.last_key(0).unwrap();
        self.store.crash(u64::MAX);
        *self = Process::start(&self.store);
        assert!(self.wal.next() >= next, "no number is given again");
        let end = self.wal.read(Seq(1), &mut |record| {
            if let Body::Events { rows, .. } = &record.body {
                for row in rows.rows().iter() {
                    let value = row.values[0].as_int().unwrap();
                    assert_eq!(model.rows.get(&row.stamp.seq.0), Some(&value));
                }
            }
            ControlFlow::Continue(())
        });
        // Damage before the checkpoint stays where it is and is in nobody's way.
        assert!(!matches!(end.unwrap(), ReadEnd::Stopped));
        let (_, outputs) = model.run();
        let outputs: BTreeMap<_, _> = outputs.into_iter().map(|out| (out.key, out)).collect();
        for entry in self.all() {
            if self.wal.cut().is_none() {
                assert_eq!(outputs.get(&entry.key), Some(&entry));
            }
        }
        assert!(self.outbox.last_key(0).unwrap() <= last_key);
        // It goes on.
        let values = [3, 6, 9];
        self.append(model, &values).unwrap();
        self.store.sync().unwrap();
        let went_on = Process::start(&self.store);
        assert_eq!(went_on.engine, self.engine);
        assert_eq!(went_on.wal.cut(), None);
    }
}

fn run(actions: &[Action]) {
    let store = SimStore::new();
    let mut process = Process::start(&store);
    let mut model = Model::default();
    for action in actions {
        if process.act(&mut model, action).is_err() {
            let keep = process.keep;
            process.restart(&mut model, keep);
        }
    }
    let keep = process.keep;
    process.restart(&mut model, keep);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_crash_loses_what_was_synced(actions in prop::collection::vec(action(), 1..60)) {
        run(&actions);
    }

    #[test]
    fn damage_never_tears_a_record(
        actions in prop::collection::vec(action(), 1..40),
        damage in damage(),
    ) {
        let store = SimStore::new();
        let mut process = Process::start(&store);
        let mut model = Model::default();
        for action in &actions {
            if process.act(&mut model, action).is_err() {
                let keep = process.keep;
                process.restart(&mut model, keep);
            }
        }
        process.restart(&mut model, u64::MAX);
        process.act(&mut model, &damage).unwrap();
    }
}

#[test]
fn a_crash_at_every_operation_of_a_day() {
    let day: Vec<Action> = (0..6)
        .flat_map(|hour| {
            [
                Action::Append {
                    rows: vec![hour, 3, 5, 6],
                },
                Action::Append { rows: vec![9] },
                Action::Sync,
                Action::Deliver { rows_max: 3 },
                Action::Confirm { back: 0 },
                Action::Tick,
                Action::Checkpoint,
                Action::Trim,
            ]
        })
        .collect();
    for after in 1..60 {
        for fault in [Fault::Crash, Fault::Full, Fault::Fails] {
            for keep in 0..6 {
                let mut actions = vec![Action::Fail { after, fault, keep }];
                actions.extend(day.iter().cloned());
                run(&actions);
            }
        }
    }
}
