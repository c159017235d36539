//! What ought to be: the log, and what an engine makes of it that is never interrupted.
//!
//! The oracle knows the log from what was given to the daemon, not from the store. When a crash has
//! taken the end of it, the oracle runs what is left from the beginning with a fresh engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use eventflux::engine::{Engine, Outputs};
use eventflux::event::{Batch, ClockState, DeliveryMark, OutputKey, Seq, State, Timestamp};
use eventflux::outbox::Entry;
use eventflux::sql::plan::StreamId;
use eventflux::wal::{Body, Record};

use crate::applications::{Family, Variant};
use crate::daemon::{Given, IDENTITY};

/// A message that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) source: usize,
    pub(crate) number: u64,
    pub(crate) mark: DeliveryMark,
}

/// One record of the log, and what it says about the messages that it is made of.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    /// Without its origin.
    pub(crate) record: Record,
    /// The variant that is in force from here on, when this is what it says.
    pub(crate) variant: Option<usize>,
    /// The messages of an input that ends here.
    pub(crate) messages: Vec<Noted>,
    /// Whether a crash may cut the log behind it.
    pub(crate) is_end: bool,
}

/// What comes out, by sink, in the order of the keys.
pub(crate) type Expected = BTreeMap<String, Vec<Entry>>;

/// The log as it ought to be, and an engine that has run all of it.
pub(crate) struct Oracle {
    family: &'static Family,
    records: Vec<Logged>,
    next: Seq,
    engine: Option<Engine>,
    in_force: usize,
    /// What is in force at the beginning, where no record says it.
    begins_with: usize,
    /// How many of the records the engine has run.
    ran: usize,
    expected: Expected,
    /// After damage: what had come out until then.
    past: Past,
    /// The last number that damage has taken.
    gap: Seq,
}

/// By sink: outputs, and the last key given.
pub(crate) type Past = BTreeMap<String, (Vec<Entry>, OutputKey)>;

impl Oracle {
    pub(crate) fn new(family: &'static Family) -> Oracle {
        Oracle {
            family,
            records: Vec::new(),
            next: Seq(1),
            engine: None,
            in_force: 0,
            begins_with: 0,
            ran: 0,
            expected: Expected::new(),
            past: Past::new(),
            gap: Seq(0),
        }
    }

    pub(crate) fn records(&self) -> &[Logged] {
        &self.records
    }

    /// The last number that was given.
    pub(crate) fn last(&self) -> Seq {
        Seq(self.next.0 - 1)
    }

    /// What the sink called `name` ought to be given, or to have been given.
    pub(crate) fn expected(&self, name: &str) -> &[Entry] {
        self.expected.get(name).map_or(&[], Vec::as_slice)
    }

    fn variant(&self) -> &'static Variant {
        &self.family.variants[self.in_force]
    }

    /// A turn as the core is given it. What it puts out, by sink of the variant in force.
    pub(crate) fn turn(
        &mut self,
        time: Timestamp,
        clock: Option<ClockState>,
        inputs: &[(Given, Vec<Noted>)],
    ) -> Vec<Vec<Entry>> {
        if inputs.is_empty() || clock.is_some() {
            self.log(time, clock.map_or(Body::Tick, Body::Clock));
            self.end(Vec::new());
        }
        for (given, messages) in inputs {
            let definition = self.variant().application.stream(given.stream).unwrap();
            let stream = definition.name.clone();
            if !given.rows.is_empty() {
                let mut rows = given.rows.clone();
                rows.stamp_all(self.next, time);
                let body = Body::Events {
                    stream: stream.clone(),
                    schema: definition.schema.fingerprint(),
                    rows,
                    origin: None,
                };
                self.log(time, body);
            }
            for rejected in &given.rejected {
                let body = Body::Rejected {
                    stream: stream.clone(),
                    rejected: rejected.clone(),
                    origin: None,
                };
                self.log(time, body);
            }
            if !given.rows.is_empty() || !given.rejected.is_empty() {
                self.end(messages.clone());
            }
        }
        let sinks = &self.variant().sinks;
        let before: Vec<usize> = sinks.iter().map(|name| self.expected(name).len()).collect();
        self.run();
        let new = sinks.iter().zip(before);
        new.map(|(name, before)| self.expected(name)[before..].to_vec())
            .collect()
    }

    /// A record that is in the log although nobody gave it: another variant comes into force.
    pub(crate) fn configured(&mut self, record: Record) {
        assert_eq!(record.first, self.next, "the log goes on without a gap");
        self.next = record.last().plus(1);
        let logged = self.configuration(record);
        self.records.push(logged);
        self.run();
    }

    fn variant_of(&self, written: &str) -> usize {
        let files: Vec<BTreeMap<String, String>> = serde_json::from_str(written).unwrap();
        let variants = &self.family.variants;
        let found = variants
            .iter()
            .position(|variant| files[0]["text"] == variant.texts[0].text);
        found.expect("the log names an application that was configured")
    }

    fn log(&mut self, time: Timestamp, body: Body) {
        let last_time = self.records.last().map(|logged| logged.record.time);
        assert!(last_time <= Some(time), "log time never goes back");
        let record = Record {
            first: self.next,
            time,
            body,
        };
        self.next = record.last().plus(1);
        self.records.push(Logged {
            record,
            variant: None,
            messages: Vec::new(),
            is_end: false,
        });
    }

    fn end(&mut self, messages: Vec<Noted>) {
        let last = self.records.last_mut().unwrap();
        last.messages = messages;
        last.is_end = true;
    }

    /// The log ends with `last`: what a crash took is as if it had never been.
    pub(crate) fn cut(&mut self, last: Seq) -> Vec<Logged> {
        let kept = self
            .records
            .partition_point(|logged| logged.record.last() <= last);
        let end = kept.checked_sub(1).map(|at| &self.records[at]);
        let is_whole = |end: &Logged| end.is_end && end.record.last() == last;
        assert!(
            last <= self.gap || end.is_none_or(is_whole),
            "{last} is in the middle of an input behind {:?}",
            end.map(|end| end.record.last())
        );
        let gone = self.records.split_off(kept);
        if !gone.is_empty() {
            self.next = last.plus(1);
            self.rerun();
        }
        gone
    }

    /// What would have come out if the log were this, and began with this variant; behind what had
    /// come out before damage, or all of it.
    pub(crate) fn expected_of(
        &self,
        kept: &[Logged],
        begins_with: usize,
        is_all: bool,
    ) -> Expected {
        let mut other = Oracle::new(self.family);
        other.begins_with = begins_with;
        other.records = kept.to_vec();
        if !is_all {
            other.past = self.past.clone();
        }
        other.rerun();
        other.expected
    }

    /// After damage: the log is what `kept` says, and goes on behind `last`. What has come out
    /// until now is `past`; only what is beyond its last keys is new.
    pub(crate) fn damaged(
        &mut self,
        mut kept: Vec<Logged>,
        begins_with: usize,
        last: Seq,
        past: Past,
    ) {
        if let Some(end) = kept.last_mut() {
            end.is_end = true;
        }
        self.begins_with = begins_with;
        self.records = kept;
        self.next = last.plus(1);
        self.gap = last;
        self.past = past;
        self.rerun();
    }

    pub(crate) fn begins_with(&self) -> usize {
        self.begins_with
    }

    /// The record as the oracle keeps it, when it says what is in force.
    pub(crate) fn configuration(&self, record: Record) -> Logged {
        let Body::Config { text, .. } = &record.body else {
            panic!("nobody gave {record:?}");
        };
        Logged {
            variant: Some(self.variant_of(text)),
            record,
            messages: Vec::new(),
            is_end: true,
        }
    }

    fn rerun(&mut self) {
        self.engine = None;
        self.in_force = self.begins_with;
        self.ran = 0;
        let past = self.past.iter();
        self.expected = past
            .map(|(name, (entries, _))| (name.clone(), entries.clone()))
            .collect();
        self.run();
    }

    fn run(&mut self) {
        while let Some(logged) = self.records.get(self.ran) {
            self.ran += 1;
            let Record { first, time, body } = &logged.record;
            if let Some(variant) = logged.variant {
                self.in_force = variant;
                self.engine = Some(taken_over(self.engine.take(), self.variant()));
                continue;
            }
            let variant = &self.family.variants[self.in_force];
            let engine = self.engine.get_or_insert_with(|| taken_over(None, variant));
            let mut gather = Gather {
                variant,
                past: &self.past,
                expected: &mut self.expected,
            };
            run_one(engine, *first, *time, body, &mut gather);
        }
    }
}

fn run_one(engine: &mut Engine, first: Seq, time: Timestamp, body: &Body, to: &mut Gather<'_>) {
    let named = |engine: &Engine, name: &str| engine.plan().stream_named(name).map(|(id, _)| id);
    match body {
        Body::Events { stream, rows, .. } => {
            let id = named(engine, stream).unwrap();
            engine.push(id, rows.rows(), to);
        }
        Body::Rejected {
            stream, rejected, ..
        } => {
            let id = named(engine, stream).unwrap();
            engine.reject(id, rejected, time, first, to);
        }
        Body::Tick => engine.advance(time, first, to),
        Body::Clock(state) => {
            engine.advance(time, first, to);
            engine.trust_clock(state.trusted);
        }
        // Nothing goes back in a simulation.
        Body::Config { .. } | Body::Restored { .. } => {}
    }
}

/// An engine for a variant, with the state of the one before.
fn taken_over(before: Option<Engine>, variant: &Variant) -> Engine {
    let application = Arc::clone(&variant.application);
    let mut engine = Engine::new(application, |_| false).of_log(IDENTITY);
    match before {
        Some(mut before) => engine.restore(&before.state().unwrap(), before.clock()),
        None => engine.restore(&State::default(), Timestamp(0)),
    };
    engine
}

/// Collects outputs by sink, but for those that were given before.
struct Gather<'a> {
    variant: &'static Variant,
    past: &'a Past,
    expected: &'a mut Expected,
}

impl Outputs for Gather<'_> {
    fn take(&mut self, stream: StreamId, query: u32, rows: &Batch, ordinals: &[u32]) {
        let definition = self.variant.application.stream(stream).unwrap();
        let name = &definition.name;
        assert!(self.variant.sinks.contains(name), "{name} is watched");
        let given = self.past.get(name).map(|(_, last)| *last);
        let all = self.expected.entry(name.clone()).or_default();
        for (row, ordinal) in rows.rows().iter().zip(ordinals) {
            let key = OutputKey {
                seq: row.stamp.seq,
                query,
                ordinal: *ordinal,
            };
            if given.is_some_and(|given| key <= given) {
                continue;
            }
            assert!(
                all.last().is_none_or(|last| last.key < key),
                "the keys into {name} ascend: {key}"
            );
            all.push(Entry {
                key,
                time: row.stamp.time,
                schema: Arc::clone(&definition.schema),
                row: row.values.to_vec(),
            });
        }
    }
}
