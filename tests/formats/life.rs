//! A core that lives through steps, written one a line.
//!
//! ```text
//! <ms> <stream> [row] [row] ...       input, or only its mark
//! <ms> reject <stream> <why> <text>   input that could not be decoded
//! <ms> tick
//! 0 clock trusted|unknown             the next turn says so
//! 0 checkpoint
//! 0 trim                              what no checkpoint needs of the log goes
//! 0 compact                           the files are made anew, where the store has files
//! 0 confirm <sink> <n>                the far side has the n-th that waits, and those before it
//! 0 refuse <sink>                     it does not want the first that waits
//! 0 leave <n>                         all far sides have everything but the last n
//! 0 expire <sink>                     what waited too long is given up
//! 0 skip <n>                          so many numbers are never given
//! 0 reconfigure                       the whole application; no checkpoint is made of it
//! 0 restore <n>                       back by n inputs; no checkpoint is made of it
//! ```

use std::sync::Arc;

use eventflux::event::{
    Batch, ClockState, DeliveryMark, OutputKey, Rejected, Schema, Seq, Stamp, Timestamp, Type,
    Value, render_json,
};
use eventflux::outbox::{Entry, Full, Limits};
use eventflux::pipeline::{Core, Input, Open, StatePolicy, Target, TurnDone, Word};
use eventflux::sink::{Confirmed, Refused};
use eventflux::sql::{self, Application, SqlText};
use eventflux::store::{Compaction, Pair, Store, StoreError, Visit, WriteBatch};

/// 2026-03-01T10:00:00Z
const BEGIN: i64 = 1_772_359_200_000;
const ADDED_LATER: &str = "-- added later\n";
const AFTERWARDS: &str = "---- afterwards\n";

/// What a store is made with.
pub(crate) struct Made {
    pub(crate) number: u32,
    /// What it began with, and everything.
    texts: [[SqlText; 1]; 2],
    applications: [Arc<Application>; 2],
    pub(crate) sinks: Vec<(String, Limits)>,
    history: Vec<String>,
    pub(crate) afterwards: Vec<String>,
}

impl Made {
    pub(crate) fn new(number: u32, sql: &str, steps: &str) -> Made {
        let (begun, _) = sql.split_once(ADDED_LATER).unwrap();
        let texts = [begun, sql].map(|text| {
            let (path, text) = (format!("{number}.sql"), text.to_owned());
            [SqlText { path, text }]
        });
        let (history, afterwards) = steps.split_once(AFTERWARDS).unwrap();
        let lines = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        let sinks = sql.lines().filter_map(|line| line.strip_prefix("-- sink "));
        Made {
            number,
            applications: texts
                .each_ref()
                .map(|text| Arc::new(sql::compile(text).unwrap())),
            sinks: sinks.map(sink).collect(),
            texts,
            history: lines(history),
            afterwards: lines(afterwards),
        }
    }

    /// A line of the log, with the texts of applications by their names.
    pub(crate) fn shortened(&self, line: &str) -> String {
        let mut out = line.to_owned();
        for (texts, name) in self.texts.iter().zip(["\"begun with\"", "\"whole\""]) {
            let text = serde_json::Value::from(texts[0].text.as_str()).to_string();
            out = out.replace(&text, name);
        }
        out
    }

    fn with_open<T>(
        &self,
        (store, identity, whole): (&Arc<dyn Store>, u64, bool),
        work: impl FnOnce(&Open<'_>) -> T,
    ) -> T {
        let which = usize::from(whole);
        work(&Open {
            store: Arc::clone(store),
            identity,
            application: Arc::clone(&self.applications[which]),
            texts: &self.texts[which],
            sinks: &self.sinks,
            checkpoints_kept: 3,
            state_policy: StatePolicy::KeepCompatible,
        })
    }
}

/// A sink by what stands behind `-- sink`.
fn sink(line: &str) -> (String, Limits) {
    let mut words = line.split(' ');
    let name = words.next().unwrap().to_owned();
    let mut limits = Limits::NONE;
    for word in words {
        let (what, number) = word.split_once('=').unwrap();
        match what {
            "bytes" => {
                (limits.bytes_max, limits.full) = (number.parse().unwrap(), Full::DropOldest)
            }
            "ms" => limits.ttl_ms = Some(number.parse().unwrap()),
            _ => panic!("{line}"),
        }
        limits.dead_letters = true;
    }
    (name, limits)
}

pub(crate) struct Life<'a> {
    made: &'a Made,
    store: Arc<dyn Store>,
    identity: u64,
    whole: bool,
    core: Core,
    pub(crate) time: i64,
    /// How many were run again when it was opened.
    pub(crate) records: u64,
}

impl<'a> Life<'a> {
    /// With a new store, and what the application began with.
    pub(crate) fn begun(made: &'a Made, store: Arc<dyn Store>, identity: u64) -> Life<'a> {
        Life::open(made, store, identity, false)
    }

    pub(crate) fn open(
        made: &'a Made,
        store: Arc<dyn Store>,
        identity: u64,
        whole: bool,
    ) -> Life<'a> {
        let opened = made.with_open((&store, identity, whole), Core::open);
        let (core, found) = opened.unwrap();
        assert_eq!(found.warnings, [""; 0]);
        Life {
            time: core.last_time().0.max(BEGIN),
            made,
            store,
            identity,
            whole,
            core,
            records: found.records,
        }
    }

    /// The whole history.
    pub(crate) fn live(&mut self) {
        for step in &self.made.history {
            self.step(step);
        }
        self.store.sync().unwrap();
    }

    pub(crate) fn marks(&self, source: &str) -> Vec<(u16, u64)> {
        let marks = self.core.marks(source).iter();
        marks.map(|mark| (mark.packet, mark.digest)).collect()
    }

    /// Does one step; what comes out.
    pub(crate) fn step(&mut self, step: &str) -> Vec<String> {
        let (after, what) = step.split_once(' ').unwrap();
        self.time += after.parse::<i64>().unwrap();
        let (word, rest) = what.split_once(' ').unwrap_or((what, ""));
        let time = Timestamp(self.time);
        let done = match word {
            "tick" => self.core.turn(time, Vec::new()).unwrap(),
            "reject" => {
                let input = self.rejected(rest);
                self.core.turn(time, vec![input]).unwrap()
            }
            "expire" => {
                let sink = self.sink(rest);
                self.core.expire(sink, time).unwrap()
            }
            "refuse" => {
                let word = self.refusal(rest);
                self.core.settle(time, &[word]).unwrap()
            }
            "clock" | "checkpoint" | "trim" | "compact" | "confirm" | "leave" | "skip"
            | "reconfigure" | "restore" => {
                self.quiet(word, rest);
                TurnDone::default()
            }
            stream => {
                let input = self.input(stream, rest);
                self.core.turn(time, vec![input]).unwrap()
            }
        };
        let names = self.made.sinks.iter().map(|(name, _)| name);
        let came = names.zip(&done.outputs);
        let lines =
            came.flat_map(|(name, entries)| entries.iter().map(|one| line(name, &one.entry)));
        let lines = lines.collect();
        self.core.write(done).unwrap();
        lines
    }

    /// What brings no output.
    fn quiet(&mut self, word: &str, rest: &str) {
        match word {
            "clock" => self.core.note_clock(ClockState {
                boot: "8a5c6f0e".to_owned(),
                trusted: rest == "trusted",
                wall: Timestamp(self.time + 3),
            }),
            "checkpoint" => drop(self.core.checkpoint().unwrap()),
            "trim" => while self.core.trim().unwrap() {},
            "compact" => {
                while let Compaction::Going { .. } = self.store.compact(1 << 20).unwrap() {}
            }
            "confirm" => {
                let (name, number) = rest.split_once(' ').unwrap();
                self.confirm(self.sink(name), |_| number.parse().unwrap());
            }
            "leave" => {
                let left: usize = rest.parse().unwrap();
                for sink in 0..self.made.sinks.len() {
                    self.confirm(sink, |waiting| waiting.saturating_sub(left));
                }
            }
            "skip" => {
                let to = self.core.last().plus(rest.parse().unwrap());
                self.core.skip_past(to).unwrap();
            }
            "reconfigure" => {
                self.whole = true;
                self.interrupted(|open| Core::open(open).is_err());
            }
            "restore" => {
                let to = Seq(self.core.last().0 - rest.parse::<u64>().unwrap());
                self.interrupted(|open| Core::restore(open, Target::Seq(to)).is_err());
            }
            _ => panic!("{word}"),
        }
    }

    /// Does something that logs and then makes a checkpoint, which fails; and opens everything.
    fn interrupted(&mut self, work: impl FnOnce(&Open<'_>) -> bool) {
        let last = self.core.last();
        let store: Arc<dyn Store> = Arc::new(NoCheckpoints(Arc::clone(&self.store)));
        let failed = self
            .made
            .with_open((&store, self.identity, self.whole), work);
        assert!(failed, "a checkpoint would have been made");
        let time = self.time;
        *self = Life::open(
            self.made,
            Arc::clone(&self.store),
            self.identity,
            self.whole,
        );
        self.time = time;
        assert!(self.core.last() > last && self.records > 0);
    }

    fn sink(&self, name: &str) -> usize {
        let mut names = self.made.sinks.iter();
        names.position(|(known, _)| known == name).unwrap()
    }

    fn waiting(&mut self, sink: usize) -> Vec<OutputKey> {
        let outbox = self.core.outbox_mut();
        let all = outbox.read(sink, OutputKey::default(), usize::MAX, usize::MAX);
        all.unwrap().into_iter().map(|entry| entry.key).collect()
    }

    /// Confirms so many of those that wait.
    fn confirm(&mut self, sink: usize, many: impl FnOnce(usize) -> usize) {
        let waiting = self.waiting(sink);
        let Some(last) = many(waiting.len()).checked_sub(1) else {
            return;
        };
        let mut batch = WriteBatch::new();
        let outbox = self.core.outbox_mut();
        outbox.confirm(sink, waiting[last], &mut batch).unwrap();
        self.store.write(batch).unwrap();
    }

    fn refusal(&mut self, name: &str) -> Word {
        let sink = self.sink(name);
        Word::Said(Confirmed {
            sink,
            key: self.waiting(sink)[0],
            refused: Some(Refused {
                why: "HTTP 422".to_owned(),
                attempts: 2,
            }),
        })
    }

    fn input(&self, stream: &str, rows: &str) -> Input {
        let application = &self.made.applications[usize::from(self.whole)];
        let (stream, definition) = application.stream_named(stream).unwrap();
        let schema = &definition.schema;
        let mut batch = Batch::new(schema.fields().len());
        let stream_of = serde_json::Deserializer::from_str(rows);
        for row in stream_of.into_iter::<Vec<serde_json::Value>>() {
            batch.push(Stamp::default(), values(schema, &row.unwrap()));
        }
        let digest = self.core.last().0;
        let packet = u16::try_from(digest % 1000).unwrap();
        Input {
            stream,
            rows: batch,
            rejected: Vec::new(),
            marks: vec![DeliveryMark { packet, digest }],
        }
    }

    fn rejected(&self, rest: &str) -> Input {
        let mut words = rest.splitn(3, ' ');
        let mut input = self.input(words.next().unwrap(), "");
        let reason = words.next().unwrap().to_owned();
        let bytes = words.next().unwrap().as_bytes().to_vec();
        input.rejected.push(Rejected {
            reason,
            detail: "as the test says".to_owned(),
            bytes_total: u64::try_from(bytes.len()).unwrap(),
            bytes,
        });
        input
    }
}

fn values(schema: &Schema, row: &[serde_json::Value]) -> Vec<Value> {
    let fields = schema.fields();
    assert_eq!(fields.len(), row.len());
    let values = fields.iter().zip(row).map(|(field, json)| match field.ty {
        _ if json.is_null() => Value::Null,
        Type::Bool => Value::Bool(json.as_bool().unwrap()),
        Type::Int | Type::Long | Type::Timestamp => Value::Int(json.as_i64().unwrap()),
        Type::Float | Type::Double => Value::Float(json.as_f64().unwrap()),
        Type::String | Type::Json => Value::text(json.as_str().unwrap()),
        Type::Bytes => Value::Bytes(json.as_str().unwrap().as_bytes().into()),
    });
    values.collect()
}

/// An output as a line.
pub(crate) fn line(sink: &str, entry: &Entry) -> String {
    let mut json = Vec::new();
    render_json(&entry.schema, &entry.row, &mut json);
    let json = String::from_utf8(json).unwrap();
    format!("{sink} {} {} {json}", entry.key, entry.time.0)
}

/// Takes everything but checkpoints.
struct NoCheckpoints(Arc<dyn Store>);

impl Store for NoCheckpoints {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get(key)
    }

    fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        if batch.changes().any(|(key, _)| key.first() == Some(&b'C')) {
            let doing = "writing a checkpoint";
            return Err(StoreError::Full { doing });
        }
        self.0.write(batch)
    }

    fn range(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.0.range(from, to, visit)
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Pair>, StoreError> {
        self.0.last(from, to)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.0.sync()
    }

    fn bytes_on_disk(&self) -> Result<u64, StoreError> {
        self.0.bytes_on_disk()
    }

    fn bytes_live(&self) -> u64 {
        self.0.bytes_live()
    }

    fn bytes_written(&self) -> u64 {
        self.0.bytes_written()
    }

    fn compact(&self, bytes_max: u64) -> Result<Compaction, StoreError> {
        self.0.compact(bytes_max)
    }
}
