//! The three ways in which a case is run.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::case::{Arrival, Expected, Input};
use super::compare::shown;
use crate::config::{self, options::Options};
use crate::decode::{self, Decoder};
use crate::diagnostic::Diagnostic;
use crate::engine::{Engine, Outputs, Saving};
use crate::event::{
    Batch, GrowingState, OutputKey, Rejected, Schema, Seq, StateChanges, Timestamp,
};
use crate::outbox::{Entry, Limits};
use crate::pipeline::{self, Core, Open, StatePolicy};
use crate::sql::plan::{Stream, StreamId};
use crate::sql::{self, Application, SqlText};
use crate::store::Store;
use crate::store::sim::SimStore;
use crate::wal::{Body, Record, Wal};

/// Outputs of one stream, in order.
#[derive(Debug)]
pub(super) struct StreamOutputs {
    pub(super) stream: String,
    pub(super) entries: Vec<Entry>,
}

/// A case that compiles.
pub(super) struct Run<'a> {
    pub(super) application: Arc<Application>,
    pub(super) texts: &'a [SqlText],
    pub(super) input: &'a [Input],
    pub(super) expect: &'a [Expected],
}

type Faults = Vec<String>;

impl Run<'_> {
    /// The outputs of the streams that are expected, or where the ways differ.
    pub(super) fn three_ways(&self) -> Result<Vec<StreamOutputs>, Faults> {
        let names: BTreeSet<&str> = self
            .expect
            .iter()
            .map(|line| line.stream.as_str())
            .collect();
        let mut streams: Vec<(String, StreamId, Arc<Schema>)> = Vec::new();
        for name in names {
            match self.application.stream_named(name) {
                Some((id, stream)) => {
                    streams.push((name.to_owned(), id, Arc::clone(&stream.schema)));
                }
                None => {
                    return Err(vec![format!(
                        "output is expected in an unknown stream '{name}'"
                    )]);
                }
            }
        }
        let store = SimStore::default();
        let straight = self.through(&store, &streams, false)?;
        let restarted = self.through(&SimStore::default(), &streams, true)?;
        let replayed = self.replay(store, &streams)?;
        let mut faults = Vec::new();
        for (way, other) in [("restarted", &restarted), ("replayed", &replayed)] {
            for ((entries, other), (name, ..)) in straight.iter().zip(other).zip(&streams) {
                if entries != other {
                    faults.push(format!(
                        "'{name}' differs when {way}: {} instead of {}",
                        listed(other),
                        listed(entries)
                    ));
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let outputs = straight.into_iter().zip(streams);
        Ok(outputs
            .map(|(entries, (stream, ..))| StreamOutputs { stream, entries })
            .collect())
    }

    /// Through the pipeline; with `restart`, everything is opened anew after each input, from a
    /// checkpoint as of that input or as of the one before, in turns.
    fn through(
        &self,
        store: &SimStore,
        streams: &[(String, StreamId, Arc<Schema>)],
        restart: bool,
    ) -> Result<Vec<Vec<Entry>>, Faults> {
        let sinks: Vec<(String, Limits)> = streams
            .iter()
            .map(|(name, ..)| (name.clone(), Limits::NONE))
            .collect();
        let open = Open {
            store: Arc::new(store.clone()),
            identity: 0,
            application: Arc::clone(&self.application),
            texts: self.texts,
            sinks: &sinks,
            checkpoints_kept: 2,
            state_policy: StatePolicy::KeepCompatible,
        };
        let opened = || Core::open(&open).map_err(|error| vec![error.to_string()]);
        let (mut core, _) = opened()?;
        if restart {
            // A checkpoint may be made before anything has come.
            core.checkpoint().map_err(|error| vec![error.to_string()])?;
            drop(core);
            core = opened()?.0;
        }
        for (number, input) in self.input.iter().enumerate() {
            self.turn(&mut core, input)?;
            if restart {
                if number % 2 == 0 {
                    core.checkpoint().map_err(|error| vec![error.to_string()])?;
                }
                store.sync().map_err(|error| vec![error.to_string()])?;
                drop(core);
                let recovered = opened()?;
                core = recovered.0;
                if !recovered.1.warnings.is_empty() {
                    return Err(recovered.1.warnings);
                }
            }
        }
        let mut all = Vec::new();
        for sink in 0..streams.len() {
            let outbox = core.outbox_mut();
            let entries = outbox.read(sink, OutputKey::default(), usize::MAX, usize::MAX);
            all.push(entries.map_err(|error| vec![error.to_string()])?);
        }
        Ok(all)
    }

    fn turn(&self, core: &mut Core, input: &Input) -> Result<(), Faults> {
        let time = Timestamp(input.time).max(core.last_time());
        let mut inputs = Vec::new();
        if let Some((name, arrival)) = &input.arrival {
            let Some((stream, definition)) = self.application.stream_named(name) else {
                return Err(vec![format!("input for an unknown stream '{name}'")]);
            };
            let keeps = definition.dead_letters.is_some_and(|one| one.rejected);
            let decoded = match arrival {
                Arrival::Row(row) => decode_row(&definition.schema, row),
                Arrival::Payload(payload) => decode_payload(definition, payload),
            };
            let (rows, rejected) = match decoded {
                Ok(rows) => (rows, Vec::new()),
                // A case can only say what dead letters show.
                Err(Undecoded::Rejected(rejected)) if keeps => {
                    (Batch::new(definition.schema.width()), vec![rejected])
                }
                Err(Undecoded::Rejected(rejected)) => return Err(vec![rejected.detail]),
                Err(Undecoded::Mistaken(fault)) => return Err(vec![fault]),
            };
            let marks = Vec::new();
            inputs.push(pipeline::Input {
                stream,
                rows,
                rejected,
                marks,
            });
        }
        let turn = core
            .turn(time, inputs)
            .map_err(|error| vec![error.to_string()])?;
        core.write(turn).map_err(|error| vec![error.to_string()])
    }

    /// Runs the log that the pipeline wrote through a fresh engine, and nothing else. On the way
    /// the state is saved in small steps, which must make the same as saving it as a whole; every
    /// third time another engine goes on with it.
    fn replay(
        &self,
        store: SimStore,
        streams: &[(String, StreamId, Arc<Schema>)],
    ) -> Result<Vec<Vec<Entry>>, Faults> {
        let wal = Wal::open(Arc::new(store), Seq(1)).map_err(|error| vec![error.to_string()])?;
        let watched: Vec<_> = streams
            .iter()
            .map(|(_, id, schema)| (*id, Arc::clone(schema)))
            .collect();
        let fresh = || {
            Engine::new(Arc::clone(&self.application), |stream| {
                watched.iter().any(|(id, _)| *id == stream)
            })
        };
        let mut engine = fresh();
        let mut saved = GrowingState::default();
        let (mut records, mut fault) = (0, None);
        let entries = vec![Vec::new(); watched.len()];
        let mut gather = Gather {
            watched: watched.clone(),
            entries,
        };
        let read = wal.read(Seq(1), &mut |record| {
            let Record { first, time, body } = record;
            match body {
                Body::Events {
                    stream, mut rows, ..
                } => {
                    rows.stamp_all(first, time);
                    if let Some((id, _)) = self.application.stream_named(&stream) {
                        engine.push(id, rows.rows(), &mut gather);
                    }
                }
                Body::Rejected {
                    stream, rejected, ..
                } => {
                    if let Some((id, _)) = self.application.stream_named(&stream) {
                        engine.reject(id, &rejected, time, first, &mut gather);
                    }
                }
                Body::Tick => engine.advance(time, first, &mut gather),
                Body::Clock(state) => {
                    engine.advance(time, first, &mut gather);
                    engine.trust_clock(state.trusted);
                }
                // The first is written before anything has happened, when no clock is known;
                // and no case goes back.
                Body::Config { .. } | Body::Restored { .. } => {}
            }
            records += 1;
            if let Err(found) = save_in_steps(&mut engine, &mut saved, records) {
                fault = Some(format!("after {records} records: {found}"));
                return ControlFlow::Break(());
            }
            if records % 3 == 0 && records % 5 != 4 {
                let clock = engine.clock();
                engine = fresh();
                engine.restore(&saved.state(), clock);
            }
            ControlFlow::Continue(())
        });
        read.map_err(|error| vec![error.to_string()])?;
        match fault {
            Some(fault) => Err(vec![fault]),
            None => Ok(gather.entries),
        }
    }
}

/// Brings what is saved up to date, a little ahead of time in turns, and compares it with the
/// state as a whole.
fn save_in_steps(engine: &mut Engine, saved: &mut GrowingState, step: usize) -> Result<(), String> {
    let mut save = |saving| -> Result<(), String> {
        let mut changes = StateChanges::new();
        let more = engine.save(saving, &mut changes);
        more.map_err(|error| error.to_string())?;
        saved.apply(&changes);
        Ok(())
    };
    if step % 2 == 0 {
        save(Saving::Ahead { pieces_max: 64 })?;
    }
    if step % 5 == 4 {
        return Ok(());
    }
    save(Saving::Changed)?;
    let whole = engine.state().map_err(|error| error.to_string())?;
    let in_steps = saved.state();
    if in_steps == whole {
        return Ok(());
    }
    let differs = |(place, piece)| whole.get(place) != Some(piece);
    let one = in_steps.pieces().find(|one| differs(*one));
    let other = whole
        .pieces()
        .find(|(place, piece)| in_steps.get(*place) != Some(piece));
    Err(format!(
        "saved in steps, the state is another one: {one:02x?} instead of {other:02x?}"
    ))
}

struct Gather {
    watched: Vec<(StreamId, Arc<Schema>)>,
    entries: Vec<Vec<Entry>>,
}

impl Outputs for Gather {
    fn take(&mut self, stream: StreamId, query: u32, rows: &Batch, ordinals: &[u32]) {
        for ((id, schema), entries) in self.watched.iter().zip(&mut self.entries) {
            if *id == stream {
                entries.extend(
                    rows.rows()
                        .iter()
                        .zip(ordinals)
                        .map(|(row, ordinal)| Entry {
                            key: OutputKey {
                                seq: row.stamp.seq,
                                ordinal: *ordinal,
                                query,
                            },
                            time: row.stamp.time,
                            schema: Arc::clone(schema),
                            row: row.values.to_vec(),
                        }),
                );
            }
        }
    }
}

fn listed(entries: &[Entry]) -> String {
    let one = |entry: &Entry| format!("{} {} {}", entry.key, entry.time, shown(entry));
    let all: Vec<String> = entries.iter().map(one).collect();
    format!("[{}]", all.join(", "))
}

/// Why a row of a case is none.
enum Undecoded {
    /// The daemon would not take it either.
    Rejected(Rejected),
    /// The case is wrong.
    Mistaken(String),
}

/// A row as the daemon would decode it, but that unknown fields are refused: in a case they are
/// mistakes.
fn decode_row(
    schema: &Schema,
    row: &serde_json::Map<String, serde_json::Value>,
) -> Result<Batch, Undecoded> {
    if let Some(unknown) = row.keys().find(|name| schema.index_of(name).is_none()) {
        return Err(Undecoded::Mistaken(format!(
            "the input has a field '{unknown}' that the stream has not"
        )));
    }
    let bytes = serde_json::to_vec(row).map_err(|error| Undecoded::Mistaken(error.to_string()))?;
    decode("json", &Options::default(), schema, &bytes)
}

/// A payload as the daemon would decode it. What the stream says about its connector does not
/// matter here.
fn decode_payload(stream: &Stream, payload: &[u8]) -> Result<Batch, Undecoded> {
    let format = stream.format.as_deref().unwrap_or("json");
    let known = decode::FORMATS.iter().find(|(name, _)| *name == format);
    let specs = [
        known.map(|(_, specs)| *specs).unwrap_or_default(),
        &[decode::COMPRESSION, decode::DECODED_BYTES_MAX],
    ];
    let is_ours = |name: &str| {
        name.starts_with(&format!("{format}."))
            || specs.concat().iter().any(|spec| spec.name == name)
    };
    let ours = stream.properties.iter().filter(|one| is_ours(&one.name));
    let property = |one: &sql::plan::Property| config::Property {
        name: one.name.clone(),
        value: one.value.clone(),
        place: one.place,
        value_place: one.value_place,
    };
    let properties: Vec<_> = ours.map(property).collect();
    let nothing = |_: &str| None;
    let expander = config::Expander::new(&nothing, Path::new(""));
    let definition = config::StreamDefinition {
        name: &stream.name,
        path: &stream.path,
        place: stream.place,
        properties: &properties,
        specs: &specs,
    };
    let mistaken = |faults: Vec<Diagnostic>| {
        let messages = faults.iter().map(|fault| fault.message.as_str());
        Undecoded::Mistaken(messages.collect::<Vec<_>>().join("; "))
    };
    let options = config::resolve_alone(definition, &expander).map_err(mistaken)?;
    decode(format, &options, &stream.schema, payload)
}

fn decode(
    format: &str,
    options: &Options,
    schema: &Schema,
    bytes: &[u8],
) -> Result<Batch, Undecoded> {
    let mut decoder = Decoder::new(format, options, schema, &[])
        .map_err(|fault| Undecoded::Mistaken(fault.to_string()))?;
    let mut rows = Batch::new(schema.width());
    decoder.decode(bytes, &mut rows).map_err(|reject| {
        Undecoded::Rejected(Rejected {
            reason: reject.reason.word().to_owned(),
            detail: reject.to_string(),
            bytes_total: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            bytes: bytes.to_vec(),
        })
    })?;
    Ok(rows)
}
