//! Recovery: the newest checkpoint, then the log behind it, under the plan that was in force.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::own::Own;
use super::tap::Taps;
use super::turn::{Core, Gather, PipelineError, SinkStream};
use crate::checkpoint::{Checkpoints, Progress, Restored};
use crate::engine::{Empty, Engine, Outputs, Saving};
use crate::event::{Seq, State, StateChanges, Timestamp};
use crate::outbox::{Limits, Outbox, Stray};
use crate::sql::plan::Role;
use crate::sql::{self, Application, Setting, SqlText};
use crate::store::{Store, WriteBatch, format};
use crate::wal::{Body, Origin, ReadEnd, Record, Wal};

/// What takes longer is told of.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// What is opened.
pub struct Open<'a> {
    /// Where everything lies.
    pub store: Arc<dyn Store>,
    /// The store's, from which `uuid` and `rand` derive what they give.
    pub identity: u64,
    /// The application that is to run.
    pub application: Arc<Application>,
    /// Its texts, which the log keeps.
    pub texts: &'a [SqlText],
    /// Which streams have an outbox, by name, and its bounds.
    pub sinks: &'a [(String, Limits)],
    /// How many checkpoints are kept; at least 1.
    pub checkpoints_kept: usize,
    /// What becomes of the state when another application is to run than before.
    pub state_policy: StatePolicy,
}

/// What becomes of the state when the application changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatePolicy {
    /// Whatever did not change keeps its state; what did starts empty, with a warning.
    #[default]
    KeepCompatible,
    /// The same, unless some state would be lost: then nothing is started.
    KeepOrFail,
    /// Everything starts empty.
    Discard,
}

/// What recovery found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// What the checkpoint covers; 0 without one.
    pub checkpoint: Seq,
    /// How many records were run again.
    pub records: u64,
    /// What somebody should know: damage, state that was left out, outputs that nothing will
    /// deliver. A sentence each.
    pub warnings: Vec<String>,
}

impl Core {
    /// Brings everything to where it was, and then to the application that is to run.
    ///
    /// # Errors
    /// When the store fails. Damage is not an error: it is in the warnings.
    pub fn open(open: &Open<'_>) -> Result<(Core, Recovered), PipelineError> {
        let mut found = Recovered::default();
        let wanted = written(open.texts, &open.application);
        let (mut core, is_unknown) = Core::recovered(open, &wanted, &mut found)?;
        if core.own.application() != wanted || is_unknown {
            core.switch(open, is_unknown, &mut found)?;
        }
        found.warnings.extend(stranded(&core.outbox));
        // What was read may have been written by a process that died before its sync; from here
        // on it counts as durable.
        core.store.sync()?;
        Ok((core, found))
    }

    /// Brings everything to where it was, under the application that was in force; says whether
    /// nothing tells any more which that was.
    pub(super) fn recovered(
        open: &Open<'_>,
        wanted: &str,
        found: &mut Recovered,
    ) -> Result<(Core, bool), PipelineError> {
        let began = Instant::now();
        format::claim(&*open.store)?;
        let mut checkpoints = Checkpoints::open(Arc::clone(&open.store), open.checkpoints_kept)?;
        let loaded = checkpoints.load_latest(&mut |progress| tell(began, progress))?;
        found.warnings.extend(loaded.skipped);
        let restored = loaded.restored.unwrap_or_default();
        found.checkpoint = restored.seq;
        let mut wal = Wal::open(Arc::clone(&open.store), restored.seq.plus(1))?;
        if restored.seq > Seq(0) {
            wal.not_before(restored.time);
        }
        if let Some(cut) = wal.cut() {
            found.warnings.push(format!(
                "the log is damaged at {}: {}; {} records were set aside",
                cut.at, cut.why, cut.records
            ));
        }
        let mut own = Own::of(&restored, &mut found.warnings);
        for (at, to) in own.returns() {
            checkpoints.goes_back(*at, *to);
        }
        // Damage may have taken what said it.
        let mut is_unknown = false;
        if own.application().is_empty() {
            let first = first_application(&wal)?;
            is_unknown = first.is_none();
            own.set_application(first.as_deref().unwrap_or(wanted));
        }
        let (plan, sinks) = plan_of(open, own.application(), wanted, found);
        let outbox = outbox_of(open, &sinks, found)?;
        after_outbox(&mut wal, &outbox, &sinks, open)?;
        let Restored {
            seq, time, state, ..
        } = restored;
        let engine = engine_with(plan, open.identity, &sinks, &state, time, found);
        drop(state);
        let mut core = Core {
            store: Arc::clone(&open.store),
            wal,
            engine,
            checkpoints,
            outbox,
            sinks,
            own,
            unlogged: BTreeMap::new(),
            saved: seq,
            needs_everything: false,
            ahead_pieces: 0,
            is_new: seq == Seq(0),
            unsaved: Vec::new(),
            jobs: VecDeque::new(),
            clock: None,
            taps: Taps::default(),
        };
        let behind = core.saved.plus(1);
        core.replay(open, wanted, behind, found)?;
        Ok((core, is_unknown))
    }

    /// Runs the log from a number on. What it puts out is in the outbox already, but for what
    /// damage has taken: the outbox leaves out what it has.
    pub(super) fn replay(
        &mut self,
        open: &Open<'_>,
        wanted: &str,
        mut from: Seq,
        found: &mut Recovered,
    ) -> Result<(), PipelineError> {
        loop {
            let mut change: Option<Record> = None;
            let mut records = Vec::new();
            let end = self.wal.read(from, &mut |record| {
                from = record.last().plus(1);
                if matches!(record.body, Body::Config { .. } | Body::Restored { .. }) {
                    change = Some(record);
                    return ControlFlow::Break(());
                }
                records.push(record);
                if records.len() < 256 {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
            for record in records {
                found.records += 1;
                self.rerun(record)?;
            }
            if let Some(change) = change {
                self.change(open, wanted, change, found)?;
                continue;
            }
            match end {
                ReadEnd::Stopped => {}
                // Running it may have made dead letters, which are records of their own.
                ReadEnd::Whole { next } if next < self.wal.next() => {}
                ReadEnd::Whole { .. } => return Ok(()),
                ReadEnd::Cut { at, why } => {
                    found
                        .warnings
                        .push(format!("the log cannot be read from {at} on: {why}"));
                    return Ok(());
                }
            }
        }
    }

    /// Runs a record again that changes more than the engine's state.
    fn change(
        &mut self,
        open: &Open<'_>,
        wanted: &str,
        record: Record,
        found: &mut Recovered,
    ) -> Result<(), PipelineError> {
        if let Body::Config { text, discards } = &record.body {
            if text != self.own.application() {
                let (plan, sinks) = plan_of(open, text, wanted, found);
                let engine = carried_over(&mut self.engine, open, plan, &sinks, *discards, found);
                self.take_plan(engine, text, *discards);
                self.take_sinks(open, sinks, found)?;
            }
        }
        if let Body::Restored { to } = record.body {
            self.go_back_again(open, wanted, (record.first, to), found)?;
            found.records += 1;
            self.rerun(record)?;
        }
        Ok(())
    }

    pub(super) fn rerun(&mut self, record: Record) -> Result<(), PipelineError> {
        let mut gather = Gather::new(&self.sinks, self.engine.plan());
        let time = record.time;
        if let Some(origin) = run_again(&mut self.engine, record, &mut gather) {
            self.own.remember(&origin.source, &origin.marks);
        }
        self.put_out_again(time, gather.by_sink)
    }

    /// Goes over to another plan. The engine counts its changes from the state that it took back,
    /// so what this one has not saved yet comes before.
    pub(super) fn take_plan(&mut self, engine: Engine, text: &str, discards: bool) {
        let mut changes = StateChanges::new();
        let saved = self.engine.save(Saving::Changed, &mut changes);
        if discards || saved.is_err() {
            self.checkpoints.demand_whole();
            self.unsaved.clear();
            self.is_new = discards;
        } else {
            self.unsaved.push(changes);
        }
        self.engine = engine;
        self.own.set_application(text);
    }

    /// Goes over to the sinks of another plan, each with its outbox.
    pub(super) fn take_sinks(
        &mut self,
        open: &Open<'_>,
        sinks: Arc<[SinkStream]>,
        found: &mut Recovered,
    ) -> Result<(), PipelineError> {
        let before = self.sinks.iter().map(|sink| &sink.name);
        if before.ne(sinks.iter().map(|sink| &sink.name)) {
            self.outbox = outbox_of(open, &sinks, found)?;
        }
        self.sinks = sinks;
        Ok(())
    }

    /// Goes over to the application that is to run, and logs that it is in force from now on.
    fn switch(
        &mut self,
        open: &Open<'_>,
        is_unknown: bool,
        found: &mut Recovered,
    ) -> Result<(), PipelineError> {
        let next = self.next(open, is_unknown, found)?;
        self.take_over(next)?;
        self.checkpoint().map(drop)
    }
}

/// Runs a record through an engine, and says whence it came.
pub(super) fn run_again(
    engine: &mut Engine,
    record: Record,
    to: &mut dyn Outputs,
) -> Option<Origin> {
    let Record { first, time, body } = record;
    match body {
        Body::Events {
            stream,
            schema,
            mut rows,
            origin,
        } => {
            rows.stamp_all(first, time);
            let known = engine.plan().stream_named(&stream);
            // Rows of a stream that is gone or has changed have no one who could read them.
            let id = known
                .filter(|(_, stream)| stream.schema.fingerprint() == schema)
                .map(|(id, _)| id);
            match id {
                Some(id) => engine.push(id, rows.rows(), to),
                None => engine.advance(time, first, to),
            }
            origin
        }
        Body::Rejected {
            stream,
            rejected,
            origin,
        } => {
            let known = engine.plan().stream_named(&stream);
            match known.map(|(id, _)| id) {
                Some(id) => engine.reject(id, &rejected, time, first, to),
                None => engine.advance(time, first, to),
            }
            origin
        }
        Body::Tick | Body::Config { .. } | Body::Restored { .. } => {
            engine.advance(time, first, to);
            None
        }
        Body::Clock(state) => {
            engine.advance(time, first, to);
            engine.trust_clock(state.trusted);
            None
        }
    }
}

/// An engine for another plan: with the state of the operators that did not change, unless all
/// state is given up.
pub(super) fn carried_over(
    engine: &mut Engine,
    open: &Open<'_>,
    plan: Arc<Application>,
    sinks: &[SinkStream],
    discards: bool,
    found: &mut Recovered,
) -> Engine {
    let state = if discards {
        Ok(State::default())
    } else {
        engine.state()
    };
    let state = state.unwrap_or_else(|error| {
        let warning = format!("the state is left out: {error}");
        found.warnings.push(warning);
        State::default()
    });
    engine_with(plan, open.identity, sinks, &state, engine.clock(), found)
}

/// What waits for sinks that are not defined: nothing will deliver it.
pub(super) fn stranded(outbox: &Outbox) -> impl Iterator<Item = String> + '_ {
    let waiting = outbox.strays().iter().filter(|stray| stray.entries > 0);
    waiting.map(|Stray { name, entries }| {
        let (outputs, them) = match entries {
            1 => ("output waits", "it"),
            _ => ("outputs wait", "them"),
        };
        format!(
            "{entries} {outputs} for the sink '{name}', which is not defined any more; \
             define it again to deliver {them}"
        )
    })
}

/// Numbers that outputs already carry are never given again, even when damage took the log that
/// gave them.
pub(super) fn after_outbox(
    wal: &mut Wal,
    outbox: &Outbox,
    sinks: &[SinkStream],
    open: &Open<'_>,
) -> Result<(), PipelineError> {
    let last = (0..sinks.len())
        .filter_map(|sink| outbox.last_key(sink))
        .max();
    if let Some(last) = last {
        let mut batch = WriteBatch::new();
        wal.skip_to(last.seq.plus(1), &mut batch)?;
        if !batch.is_empty() {
            open.store.write(batch)?;
        }
    }
    Ok(())
}

/// The application with which the log begins.
pub(super) fn first_application(wal: &Wal) -> Result<Option<String>, PipelineError> {
    let mut first = None;
    wal.read(Seq(1), &mut |record| {
        if let Body::Config { text, .. } = record.body {
            first = Some(text);
        }
        ControlFlow::Break(())
    })?;
    Ok(first)
}

/// The plan of an application in its written form, and which of its streams have an outbox.
pub(super) fn plan_of(
    open: &Open<'_>,
    text: &str,
    wanted: &str,
    found: &mut Recovered,
) -> (Arc<Application>, Arc<[SinkStream]>) {
    let plan = if text == wanted {
        Arc::clone(&open.application)
    } else {
        let (texts, settings) = read(text);
        match sql::compile_with(&texts, &settings) {
            Ok(plan) => Arc::new(plan),
            Err(_) => {
                let warning = "the application that wrote the log cannot be compiled any more; \
                               its state is left out";
                found.warnings.push(warning.to_owned());
                Arc::clone(&open.application)
            }
        }
    };
    let role = |plan: &Application, name: &str| plan.stream_named(name).map(|(_, one)| one.role);
    let sinks = open.sinks.iter().map(|(name, _)| SinkStream {
        name: name.clone(),
        // A sink that this plan does not have gets nothing, nor does one that was a stream inside:
        // no stream has that number.
        stream: plan
            .stream_named(name)
            .filter(|(_, stream)| role(&open.application, name) == Some(stream.role))
            .map_or(sql::plan::StreamId(usize::MAX), |(id, _)| id),
    });
    // A sink that is not wanted any more gets what a crash has kept from it.
    let is_wanted = |name: &str| open.sinks.iter().any(|(wanted, _)| wanted == name);
    let streams = plan.streams.iter().zip((0..).map(sql::plan::StreamId));
    let former = streams
        .filter(|(stream, _)| text != wanted && stream.role == Role::Sink)
        .filter(|(stream, _)| !is_wanted(&stream.name))
        .map(|(stream, id)| SinkStream {
            name: stream.name.clone(),
            stream: id,
        });
    let sinks = sinks.chain(former).collect();
    (plan, sinks)
}

/// The outboxes of these sinks, of which those that are not wanted any more have no bounds.
pub(super) fn outbox_of(
    open: &Open<'_>,
    sinks: &[SinkStream],
    found: &mut Recovered,
) -> Result<Outbox, PipelineError> {
    let limits = |name: &str| {
        let wanted = open.sinks.iter().find(|(wanted, _)| wanted == name);
        wanted.map_or(Limits::NONE, |(_, limits)| *limits)
    };
    let sinks = sinks
        .iter()
        .map(|sink| (sink.name.clone(), limits(&sink.name)));
    let outbox = Outbox::open(Arc::clone(&open.store), &sinks.collect::<Vec<_>>())?;
    found.warnings.extend(outbox.damage().iter().cloned());
    Ok(outbox)
}

/// Tells how far loading has come, when that takes its time.
fn tell(began: Instant, progress: Progress) {
    let Progress {
        bytes_done: done,
        bytes_total: total,
    } = progress;
    if began.elapsed() >= TELL_AFTER {
        tracing::info!("loading the state: {done} of {total} bytes");
    }
}

/// An engine with a state.
pub(super) fn engine_with(
    plan: Arc<Application>,
    identity: u64,
    sinks: &[SinkStream],
    state: &State,
    clock: Timestamp,
    found: &mut Recovered,
) -> Engine {
    let watched = |stream| sinks.iter().any(|sink| sink.stream == stream);
    let mut engine = Engine::new(Arc::clone(&plan), watched).of_log(identity);
    for (what, why) in engine.restore(state, clock) {
        let why = match why {
            Empty::New => "is new or changed and starts empty".to_owned(),
            Empty::Damaged(why) => format!("starts empty: {why}"),
        };
        found.warnings.push(format!("{what} {why}"));
    }
    engine
}

/// An application as the log keeps it: path and text of each file, then the settings of streams
/// that shape the plan, which a configuration may hold as well; as JSON.
pub(super) fn written(texts: &[SqlText], application: &Application) -> String {
    let texts = texts.iter();
    let text = |text: &SqlText| -> Map {
        let (path, text) = (text.path.clone(), text.text.clone());
        [("path", path), ("text", text)]
            .map(|(key, value)| (key.to_owned(), value))
            .into()
    };
    let mut map: Vec<Map> = texts.map(text).collect();
    for stream in &application.streams {
        for (name, value) in &stream.settings {
            let setting = [("stream", &stream.name), ("option", name), ("value", value)];
            let setting = setting.map(|(key, value)| (key.to_owned(), value.clone()));
            map.push(setting.into());
        }
    }
    serde_json::to_string(&map).unwrap_or_default()
}

type Map = BTreeMap<String, String>;

/// The application that was in force when a checkpoint was made, in its written form.
#[must_use]
pub fn application_of(restored: &Restored) -> String {
    Own::of(restored, &mut Vec::new()).application().to_owned()
}

/// The plan of an application in its written form, and its texts; `None` when this program cannot
/// compile it any more.
#[must_use]
pub fn compiled(written: &str) -> Option<(Application, Vec<SqlText>)> {
    let (texts, settings) = read(written);
    let plan = sql::compile_with(&texts, &settings).ok()?;
    Some((plan, texts))
}

fn read(written: &str) -> (Vec<SqlText>, Vec<Setting>) {
    let map: Vec<Map> = serde_json::from_str(written).unwrap_or_default();
    let (mut texts, mut settings) = (Vec::new(), Vec::new());
    for mut one in map {
        let mut take = |key: &str| one.remove(key).unwrap_or_default();
        let stream = take("stream");
        if stream.is_empty() {
            let (path, text) = (take("path"), take("text"));
            texts.push(SqlText { path, text });
        } else {
            settings.push(Setting {
                stream,
                name: take("option"),
                value: take("value"),
            });
        }
    }
    (texts, settings)
}
