//! Going back: the state becomes what it was after an earlier input, and nothing else changes.
//!
//! Promises:
//! * The log keeps everything, numbers are never given again, outboxes are left as they are. What
//!   has gone out stays out.
//! * Afterwards the state is that of a daemon which never saw the inputs behind the point: the
//!   newest whole checkpoint at or before it, with the log behind that up to there, under the
//!   applications that were in force. Then it goes over to the application that is to run, as it
//!   does whenever that changes, and its clock to that of the log; what falls due on the way comes
//!   out.
//! * A record of the log says so. Whoever runs the log again and meets it makes the same state by
//!   the same means. So a crash leaves either the state before or the one after.
//!
//! A state can be reached as long as a checkpoint at or before it is kept, with the log behind it.
//!
//! ```text
//!   log    1 ... 40 ... 57 ... 90 | restored to 57 | 92 ...
//!                 C1     ^   C2         (91) C3
//!                        '--------------'
//! ```
//!
//! C3 stands for itself. While C2 is kept, in case that C3 is damaged, so is C1: with the log, it
//! makes the state at 57 again. Going back to 90 undoes it as long as C2 is there.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::recover::{
    Open, Recovered, StatePolicy, application_of, carried_over, engine_with, first_application,
    plan_of, run_again, written,
};
use super::turn::{Core, PipelineError};
use crate::checkpoint::{CheckpointError, Form};
use crate::engine::{Engine, Outputs};
use crate::event::{Batch, Seq, State, Timestamp};
use crate::sql::plan::StreamId;
use crate::store::{StoreError, WriteBatch};
use crate::wal::{Body, ReadEnd, Record, WalError};

/// Where to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The state after this input; 0 is the empty state.
    Seq(Seq),
    /// The state after the last input that is not younger.
    Time(Timestamp),
}

/// The inputs that the state does not know any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// The first.
    pub first: Seq,
    /// The last.
    pub last: Seq,
    /// When the first of them was logged.
    pub from: Timestamp,
    /// When the last of them was logged.
    pub until: Timestamp,
    /// How many rows are among them.
    pub rows: u64,
    /// How many could not be decoded.
    pub rejected: u64,
}

/// What going back has done.
#[derive(Debug, Default)]
pub struct WentBack {
    /// The last input that the state has seen.
    pub to: Seq,
    /// The log's clock then.
    pub time: Timestamp,
    /// What the checkpoint covers that it began with; 0 without one.
    pub checkpoint: Seq,
    /// How many records were run again behind it.
    pub records: u64,
    /// What the state does not know any more.
    pub forgotten: Forgotten,
    /// The number of the log's record that says so.
    pub at: Seq,
    /// Outputs that fell due because of it.
    pub outputs: u64,
    /// What somebody should know: a sentence each.
    pub warnings: Vec<String>,
}

/// Why the state cannot go back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The store, the log or a checkpoint failed, or the state may not be given up.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// What it takes is not there any more.
    #[error("that state cannot be made any more: {}", earliest_of(*earliest))]
    Unreachable {
        /// The oldest state that can be.
        earliest: Option<(Seq, Timestamp)>,
    },
    /// The log is damaged on the way.
    #[error(
        "that state cannot be made any more: on the way from the checkpoint before it the log is \
         damaged at {at}: {why}"
    )]
    Damaged {
        /// The first number that is missing.
        at: Seq,
        /// What is wrong.
        why: String,
    },
    /// There is nothing to go back from.
    #[error("the log ends at {last}, so that there is nothing to go back from")]
    NotBefore {
        /// The last input.
        last: Seq,
    },
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> RestoreError {
        RestoreError::Pipeline(error.into())
    }
}

impl From<WalError> for RestoreError {
    fn from(error: WalError) -> RestoreError {
        RestoreError::Pipeline(error.into())
    }
}

impl From<CheckpointError> for RestoreError {
    fn from(error: CheckpointError) -> RestoreError {
        RestoreError::Pipeline(error.into())
    }
}

fn earliest_of(earliest: Option<(Seq, Timestamp)>) -> String {
    match earliest {
        Some((seq, _)) => format!("the oldest that can is the one after input {seq}"),
        None => {
            "no checkpoint is whole, and the log does not begin with the first input".to_owned()
        }
    }
}

/// Why a state cannot be made again.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error("the log that it takes has been trimmed")]
    Trimmed,
    #[error("the log is damaged at {at}: {why}")]
    Damaged { at: Seq, why: String },
}

/// A state that was made again.
struct Rebuilt {
    engine: Engine,
    /// The application that was in force.
    text: String,
    checkpoint: Seq,
    records: u64,
}

/// A part of the log that begins behind a record by which the state went back.
struct Leg {
    after: Seq,
    until: Seq,
    time: Timestamp,
    /// The application in force there.
    text: String,
}

/// Nobody wants to see what comes out again.
struct Unseen;

impl Outputs for Unseen {
    fn take(&mut self, _: StreamId, _: u32, _: &Batch, _: &[u32]) {}
}

impl Core {
    /// Brings everything to where it was, and the state back to `target`. The application that is
    /// to run is in force from there on.
    ///
    /// # Errors
    /// [`RestoreError::Unreachable`] and [`RestoreError::NotBefore`], and when the store fails, or
    /// when state would be lost that may not be: then nothing has gone back.
    pub fn restore(open: &Open<'_>, target: Target) -> Result<WentBack, RestoreError> {
        let mut found = Recovered::default();
        let wanted = written(open.texts, &open.application);
        let (mut core, is_unknown) = Core::recovered(open, &wanted, &mut found)?;
        let to = core.input_of(target)?;
        if to >= core.last() {
            return Err(RestoreError::NotBefore { last: core.last() });
        }
        let mut rebuilt = match core.rebuilt(open, &wanted, to, &mut found)? {
            Ok(rebuilt) => rebuilt,
            Err(Gone::Damaged { at, why }) => return Err(RestoreError::Damaged { at, why }),
            Err(Gone::Trimmed) => {
                let earliest = core.earliest()?;
                return Err(RestoreError::Unreachable { earliest });
            }
        };
        let mut done = WentBack {
            to,
            time: rebuilt.engine.clock(),
            checkpoint: rebuilt.checkpoint,
            records: rebuilt.records,
            forgotten: core.behind(to)?,
            ..WentBack::default()
        };
        let (plan, sinks) = plan_of(open, &wanted, &wanted, &mut found);
        if rebuilt.text != wanted {
            let old = &mut rebuilt.engine;
            let engine = carried_over(old, open, plan, &sinks, false, &mut found);
            let lost = old.names_of(engine.left_out());
            rebuilt.engine = engine;
            if !lost.is_empty() && open.state_policy == StatePolicy::KeepOrFail {
                let lost = lost.join(", ");
                return Err(PipelineError::StateWouldBeLost { lost }.into());
            }
        }
        let changes = is_unknown || core.own.application() != wanted;
        done.at = core.say_so(changes.then_some(wanted.as_str()), to)?;
        core.take_sinks(open, sinks, &mut found)?;
        core.own.set_application(&wanted);
        core.take_back(rebuilt.engine, done.at, to);
        let before = core.waiting();
        core.rerun(Record {
            first: done.at,
            time: core.last_time(),
            body: Body::Restored { to },
        })?;
        // Outputs for which an outbox has no room may have become records.
        core.replay(open, &wanted, done.at.plus(1), &mut found)?;
        done.outputs = core.waiting().saturating_sub(before);
        core.checkpoint()?;
        core.store.sync()?;
        found.warnings.dedup();
        done.warnings = found.warnings;
        Ok(done)
    }

    /// Runs a record again by which the state went back.
    pub(super) fn go_back_again(
        &mut self,
        open: &Open<'_>,
        wanted: &str,
        (at, to): (Seq, Seq),
        found: &mut Recovered,
    ) -> Result<(), PipelineError> {
        let plan = Arc::clone(self.engine.plan());
        let sinks = Arc::clone(&self.sinks);
        let engine = match self.rebuilt(open, wanted, to, found)? {
            Ok(rebuilt) if rebuilt.text == self.own.application() => rebuilt.engine,
            Ok(mut rebuilt) => carried_over(&mut rebuilt.engine, open, plan, &sinks, false, found),
            Err(gone) => {
                found.warnings.push(format!(
                    "by its record {at} the log went back to the state after {to}, which cannot be \
                     made any more ({gone}): everything starts empty there"
                ));
                let (none, clock) = (State::default(), Timestamp::default());
                engine_with(plan, open.identity, &sinks, &none, clock, found)
            }
        };
        self.take_back(engine, at, to);
        Ok(())
    }

    /// Another state than what was saved: the next checkpoint has all of it.
    fn take_back(&mut self, engine: Engine, at: Seq, to: Seq) {
        self.engine = engine;
        self.checkpoints.demand_whole();
        self.checkpoints.goes_back(at, to);
        self.own.goes_back(at, to);
        self.unsaved.clear();
        self.is_new = false;
    }

    /// Logs that the state has gone back, under the application that is to run. Gives the record's
    /// number.
    fn say_so(&mut self, wanted: Option<&str>, to: Seq) -> Result<Seq, RestoreError> {
        let mut batch = WriteBatch::new();
        let time = self.wal.last_time();
        if let Some(wanted) = wanted {
            let body = Body::Config {
                text: wanted.to_owned(),
                discards: false,
            };
            self.wal.append(time, &body, &mut batch)?;
        }
        let at = self.wal.append(time, &Body::Restored { to }, &mut batch)?;
        self.put(batch)?;
        Ok(at)
    }

    /// All outputs that wait.
    fn waiting(&self) -> u64 {
        let sinks = 0..self.sinks.len();
        let depths = sinks.filter_map(|sink| self.outbox.depth(sink).ok());
        depths.map(|depth| depth.entries).sum()
    }

    /// The last input that is not behind the target.
    fn input_of(&self, target: Target) -> Result<Seq, RestoreError> {
        let time = match target {
            Target::Seq(seq) => return Ok(seq),
            Target::Time(time) => time,
        };
        let checkpoints = self.checkpoints.list();
        let before = checkpoints.iter().filter(|one| one.time <= time);
        let mut last = before.map(|one| one.seq).max();
        self.wal.read(Seq(1), &mut |record| {
            if record.time > time {
                return ControlFlow::Break(());
            }
            last = last.max(Some(record.last()));
            ControlFlow::Continue(())
        })?;
        match last {
            Some(last) => Ok(last),
            None => Err(RestoreError::Unreachable {
                earliest: self.earliest()?,
            }),
        }
    }

    /// The oldest state that can be made again, but for the empty one.
    fn earliest(&self) -> Result<Option<(Seq, Timestamp)>, RestoreError> {
        if self.wal.reaches_back_to(Seq(1))? {
            let mut first = None;
            self.wal.read(Seq(1), &mut |record| {
                first = Some((record.first, record.time));
                ControlFlow::Break(())
            })?;
            return Ok(first);
        }
        for one in self.checkpoints.list() {
            let whole = !matches!(one.form, Form::Damaged(_)) && one.seq > Seq(0);
            if whole && self.wal.reaches_back_to(one.seq.plus(1))? {
                return Ok(Some((one.seq, one.time)));
            }
        }
        Ok(None)
    }

    /// What lies behind `to`.
    fn behind(&self, to: Seq) -> Result<Forgotten, RestoreError> {
        let mut behind = Forgotten {
            first: to.plus(1),
            last: self.last(),
            ..Forgotten::default()
        };
        let mut any = false;
        self.wal.read(to.plus(1), &mut |record| {
            if !std::mem::replace(&mut any, true) {
                behind.from = record.time;
            }
            behind.until = record.time;
            match &record.body {
                Body::Events { .. } => behind.rows += record.body.count(),
                Body::Rejected { .. } => behind.rejected += 1,
                Body::Tick | Body::Config { .. } | Body::Clock(_) | Body::Restored { .. } => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(behind)
    }

    /// The state after `to`; the inner error says why it cannot be made any more.
    ///
    /// Where the log went back itself before `to`, only the last time counts, and it leads to an
    /// earlier place. So the way is found from its end, and each part of the log is run once.
    fn rebuilt(
        &self,
        open: &Open<'_>,
        wanted: &str,
        to: Seq,
        found: &mut Recovered,
    ) -> Result<Result<Rebuilt, Gone>, PipelineError> {
        let mut legs = Vec::new();
        let mut until = to;
        let (restored, mut text) = loop {
            let loaded = self.checkpoints.load_at_most(until, &mut |_| {})?;
            found.warnings.extend(loaded.skipped);
            let restored = loaded.restored.unwrap_or_default();
            if restored.seq < until && !self.wal.reaches_back_to(restored.seq.plus(1))? {
                return Ok(Err(Gone::Trimmed));
            }
            let mut text = application_of(&restored);
            if text.is_empty() {
                text = first_application(&self.wal)?.unwrap_or_else(|| wanted.to_owned());
            }
            let Some((leg, earlier)) = self.last_leg(restored.seq, until, &text)? else {
                break (restored, text);
            };
            legs.push(leg);
            until = earlier;
        };
        let checkpoint = restored.seq;
        let (plan, sinks) = plan_of(open, &text, wanted, found);
        let (state, time) = (restored.state, restored.time);
        let mut engine = engine_with(plan, open.identity, &sinks, &state, time, found);
        drop(state);
        let mut again = Again {
            open,
            wanted,
            engine: &mut engine,
            text: &mut text,
            records: 0,
        };
        let mut gone = again.run(self, checkpoint, until, found)?;
        while let Some(leg) = legs.pop().filter(|_| gone.is_none()) {
            again.go_over(&leg.text, false, found);
            again.engine.advance(leg.time, leg.after, &mut Unseen);
            gone = again.run(self, leg.after, leg.until, found)?;
        }
        let records = again.records;
        if let Some(gone) = gone {
            return Ok(Err(gone));
        }
        Ok(Ok(Rebuilt {
            engine,
            text,
            checkpoint,
            records,
        }))
    }

    /// The last time that the log went back between the two, and where to.
    fn last_leg(
        &self,
        after: Seq,
        until: Seq,
        text: &str,
    ) -> Result<Option<(Leg, Seq)>, PipelineError> {
        let mut text = text.to_owned();
        let mut last = None;
        self.wal.read(after.plus(1), &mut |record| {
            if record.first > until {
                return ControlFlow::Break(());
            }
            let (first, time) = (record.first, record.time);
            match record.body {
                Body::Config { text: new, .. } => text = new,
                Body::Restored { to } => {
                    let leg = Leg {
                        after: first,
                        until,
                        time,
                        text: text.clone(),
                    };
                    last = Some((leg, to));
                }
                Body::Events { .. } | Body::Tick | Body::Rejected { .. } | Body::Clock(_) => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(last)
    }
}

/// An engine through which a part of the log is run again.
struct Again<'a> {
    open: &'a Open<'a>,
    wanted: &'a str,
    engine: &'a mut Engine,
    text: &'a mut String,
    records: u64,
}

impl Again<'_> {
    /// What lies behind `after`, up to `until`. Says what has become of it when it is not there.
    fn run(
        &mut self,
        core: &Core,
        after: Seq,
        until: Seq,
        found: &mut Recovered,
    ) -> Result<Option<Gone>, PipelineError> {
        let end = core.wal.read(after.plus(1), &mut |record| {
            let Some(record) = record.up_to(until) else {
                return ControlFlow::Break(());
            };
            self.records += 1;
            if let Body::Config { text, discards } = &record.body {
                self.go_over(text, *discards, found);
            } else {
                run_again(self.engine, record, &mut Unseen);
            }
            ControlFlow::Continue(())
        })?;
        Ok(match end {
            ReadEnd::Cut { at, why } if at <= until => Some(Gone::Damaged { at, why }),
            ReadEnd::Cut { .. } | ReadEnd::Whole { .. } | ReadEnd::Stopped => None,
        })
    }

    fn go_over(&mut self, text: &str, discards: bool, found: &mut Recovered) {
        if text != self.text {
            let (plan, sinks) = plan_of(self.open, text, self.wanted, found);
            *self.engine = carried_over(self.engine, self.open, plan, &sinks, discards, found);
            text.clone_into(self.text);
        }
    }
}
