//! What an outbox gives up becomes a record of the log, in the write that removes it: whatever
//! crashes, none is lost, and none comes twice.
//!
//! A pipeline of a few lines: each row of the log is an output, and the engine is a list of the
//! dead letters that the log has.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use eventflux::event::{Batch, Field, OutputKey, Schema, Seq, Stamp, Timestamp, Type, Value};
use eventflux::outbox::{Entry, Full, Limits, Outbox, Reason, dead_letter};
use eventflux::sql::plan::DEAD_LETTER_COLUMNS;
use eventflux::store::sim::{Fault, SimStore};
use eventflux::store::{Store, WriteBatch};
use eventflux::wal::{Body, Record, Wal};

type Outcome = Result<(), Box<dyn std::error::Error>>;

const LIMITS: Limits = Limits {
    bytes_max: 500,
    full: Full::DropOldest,
    ttl_ms: Some(35),
    dead_letters: true,
};

struct Process {
    store: SimStore,
    wal: Wal,
    outbox: Outbox,
    /// What the dead letters of the log say that they were.
    letters: Vec<String>,
}

/// What no crash changes.
#[derive(Default)]
struct World {
    /// Outputs whose input was synced, and what the far side has taken.
    synced: BTreeSet<String>,
    delivered: BTreeSet<String>,
}

fn rows(stream: &str, rows: Vec<Vec<Value>>) -> Body {
    let mut batch = Batch::new(rows[0].len());
    for row in rows {
        batch.push(Stamp::default(), row);
    }
    Body::Events {
        stream: stream.to_owned(),
        schema: 1,
        rows: batch,
        origin: None,
    }
}

fn outputs(record: &Record) -> Vec<Entry> {
    let Body::Events { rows, .. } = &record.body else {
        return Vec::new();
    };
    let schema = Arc::new(Schema::new(vec![Field {
        name: "v".to_owned(),
        ty: Type::Long,
    }]));
    let entry = |row: eventflux::event::Row<'_>| Entry {
        key: OutputKey {
            seq: row.stamp.seq,
            ordinal: 0,
            query: 0,
        },
        time: record.time,
        schema: Arc::clone(&schema),
        row: row.values.to_vec(),
    };
    rows.rows().iter().map(entry).collect()
}

impl Process {
    /// What a start does: the whole log again. Dead letters that this makes stand behind all that
    /// is in the log, and are come to in their turn.
    fn start(store: &SimStore) -> Result<Process, Box<dyn std::error::Error>> {
        let shared: Arc<dyn Store> = Arc::new(store.clone());
        let mut process = Process {
            store: store.clone(),
            wal: Wal::open(Arc::clone(&shared), Seq(1))?,
            outbox: Outbox::open(shared, &[("Alerts".to_owned(), LIMITS)])?,
            letters: Vec::new(),
        };
        let mut from = Seq(1);
        loop {
            let mut records = Vec::new();
            process.wal.read(from, &mut |record| {
                records.push(record);
                ControlFlow::Continue(())
            })?;
            if records.is_empty() {
                break;
            }
            for record in records {
                from = record.last().plus(1);
                let mut batch = WriteBatch::new();
                process.run(&record, &mut batch)?;
                process.put(batch)?;
            }
        }
        process.store.sync()?;
        Ok(process)
    }

    fn put(&self, batch: WriteBatch) -> Outcome {
        if !batch.is_empty() {
            self.store.write(batch)?;
        }
        Ok(())
    }

    fn run(&mut self, record: &Record, batch: &mut WriteBatch) -> Outcome {
        match &record.body {
            Body::Events { stream, rows, .. } if stream == "Bad" => {
                let was =
                    |row: eventflux::event::Row<'_>| row.values[0].as_str().unwrap().to_owned();
                self.letters.extend(rows.rows().iter().map(was));
            }
            _ => {
                let done = self
                    .outbox
                    .append(0, record.time, &outputs(record), batch)?;
                self.log_letters(done.given_up, &Reason::Full, record.time, batch)?;
            }
        }
        Ok(())
    }

    /// The record goes into the batch with the removal; its turn comes behind it.
    fn log_letters(
        &mut self,
        given_up: Vec<Entry>,
        reason: &Reason,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Outcome {
        if given_up.is_empty() {
            return Ok(());
        }
        let letter = |entry: &Entry| dead_letter("Alerts", entry, reason, now).to_vec();
        let body = rows("Bad", given_up.iter().map(letter).collect());
        let now = now.max(self.wal.last_time());
        self.wal.append(now, &body, batch)?;
        Ok(())
    }

    /// A turn writes its input, then what comes of it; then the letters have their turn.
    fn turn(&mut self, now: Timestamp, values: &[i64]) -> Outcome {
        let body = rows("S", values.iter().map(|v| vec![Value::Int(*v)]).collect());
        let (mut log, mut rest) = (WriteBatch::new(), WriteBatch::new());
        let first = self.wal.append(now, &body, &mut log)?;
        let Body::Events { mut rows, .. } = body else {
            unreachable!("as it was made");
        };
        rows.stamp_all(first, now);
        let record = Record {
            first,
            time: now,
            body: Body::Events {
                stream: "S".to_owned(),
                schema: 1,
                rows,
                origin: None,
            },
        };
        let behind = self.wal.next();
        self.run(&record, &mut rest)?;
        self.put(log)?;
        self.put(rest)?;
        self.take_letters(behind)
    }

    fn take_letters(&mut self, from: Seq) -> Outcome {
        let mut records = Vec::new();
        self.wal.read(from, &mut |record| {
            records.push(record);
            ControlFlow::Continue(())
        })?;
        for record in records {
            self.run(&record, &mut WriteBatch::new())?;
        }
        Ok(())
    }

    fn expire(&mut self, now: Timestamp) -> Outcome {
        loop {
            let (mut batch, behind) = (WriteBatch::new(), self.wal.next());
            let done = self.outbox.expire(0, now, &mut batch)?;
            self.log_letters(done.given_up, &Reason::Expired, now, &mut batch)?;
            self.put(batch)?;
            self.take_letters(behind)?;
            if !done.more {
                return Ok(());
            }
        }
    }

    /// The far side takes some of what is durable, and will never take the one after it.
    fn deliver(&mut self, world: &mut World, some: usize, now: Timestamp) -> Outcome {
        let read = self
            .outbox
            .read(0, OutputKey::default(), some + 1, usize::MAX)?;
        let Some((refused, taken)) = read.split_last() else {
            return Ok(());
        };
        world.delivered.extend(taken.iter().map(text));
        let (mut batch, behind) = (WriteBatch::new(), self.wal.next());
        let refused = self.outbox.refuse(0, refused.key, &mut batch)?;
        let reason = Reason::Refused {
            why: "status 422".to_owned(),
            attempts: 1,
        };
        self.log_letters(refused.into_iter().collect(), &reason, now, &mut batch)?;
        self.put(batch)?;
        self.take_letters(behind)
    }

    fn check(&mut self, world: &World) {
        let waiting = self
            .outbox
            .read(0, OutputKey::default(), usize::MAX, usize::MAX);
        let waiting: BTreeSet<String> = waiting.unwrap().iter().map(text).collect();
        let letters: BTreeSet<String> = self.letters.iter().cloned().collect();
        assert_eq!(letters.len(), self.letters.len(), "a letter twice");
        assert!(letters.is_disjoint(&waiting), "given up, and it waits");
        for synced in &world.synced {
            let is_somewhere = [&waiting, &letters, &world.delivered]
                .iter()
                .any(|place| place.contains(synced));
            assert!(is_somewhere, "{synced} is lost");
        }
    }
}

fn text(entry: &Entry) -> String {
    format!("{{\"v\":{}}}", entry.row[0].as_int().unwrap())
}

/// Lives through a day from `turn` on; which turn failed, if one did.
fn day(process: &mut Process, world: &mut World, turn: &mut i64) -> Outcome {
    while *turn < 30 {
        let now = process.wal.last_time().max(Timestamp(*turn * 10));
        let values: Vec<i64> = (0..*turn % 5 + 1).map(|n| *turn * 10 + n).collect();
        *turn += 1;
        process.turn(now, &values)?;
        if *turn % 3 == 0 {
            process.store.sync()?;
            world
                .synced
                .extend(values.iter().map(|v| format!("{{\"v\":{v}}}")));
        }
        if *turn % 4 == 0 {
            process.store.sync()?;
            process.deliver(world, 2, now)?;
        }
        if *turn % 7 == 0 {
            process.expire(now.plus_ms(20))?;
        }
    }
    process.store.sync()?;
    Ok(())
}

#[test]
fn a_crash_anywhere_loses_no_letter_and_doubles_none() {
    let store = SimStore::new();
    let mut process = Process::start(&store).unwrap();
    day(&mut process, &mut World::default(), &mut 0).unwrap();
    let counts = process.outbox.counts(0).unwrap();
    let all = [counts.dropped, counts.expired, counts.refused];
    assert!(all.iter().all(|count| *count > 5), "{counts:?}");
    let given_up = counts.dropped + counts.expired + counts.refused;
    assert_eq!(process.letters.len() as u64, given_up);
    for operation in 1..=store.operations() {
        for (fault, keep) in [(Fault::Crash, 0), (Fault::Fails, 1), (Fault::Fails, 2)] {
            let store = SimStore::new();
            let mut process = Process::start(&store).unwrap();
            store.plan(operation, fault);
            let (mut world, mut turn) = (World::default(), 0);
            while day(&mut process, &mut world, &mut turn).is_err() {
                store.crash(keep);
                process = Process::start(&store).unwrap();
                process.check(&world);
            }
            process.check(&world);
        }
    }
}

#[test]
fn a_letter_has_the_columns_of_its_stream() {
    let fields = DEAD_LETTER_COLUMNS.map(|(name, ty)| Field {
        name: name.to_owned(),
        ty,
    });
    let schema = Schema::new(fields.to_vec());
    let record = Record {
        first: Seq(7),
        time: Timestamp(1_000),
        body: rows("S", vec![vec![Value::Int(5)]]),
    };
    let entry = &outputs(&record)[0];
    let shown = |reason: &Reason| {
        let letter = dead_letter("Alerts", entry, reason, Timestamp(9_000));
        let mut out = Vec::new();
        eventflux::event::render_json(&schema, &letter, &mut out);
        String::from_utf8(out).unwrap()
    };
    let refused = Reason::Refused {
        why: "status 422".to_owned(),
        attempts: 3,
    };
    let of = |message: &str, word: &str, attempts: &str| {
        format!(
            "{{\"originalEvent\":\"{{\\\"v\\\":5}}\",\
             \"errorMessage\":\"output 0-0-0 was given up: {message}\",\"errorType\":\"{word}\",\
             \"timestamp\":9000,\"attemptCount\":{attempts},\"streamName\":\"Alerts\"}}"
        )
    };
    assert_eq!(shown(&refused), of("status 422", "refused", "3"));
    let full = of("its outbox was full", "outbox_full", "null");
    assert_eq!(shown(&Reason::Full), full);
    let expired = of("it had waited too long", "outbox_expired", "null");
    assert_eq!(shown(&Reason::Expired), expired);
}
