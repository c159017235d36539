//! Another application for a core that is open.
//!
//! There is one way to change it, at the start and while the daemon runs: everything that can fail
//! is done first ([`Core::next`]) and changes nothing; then the new application is put in force
//! with one write, a record of the log ([`Core::take_over`]). Whoever runs the log again runs every
//! record under the application that was in force.
//!
//! What is to be worked under the old application must be in the log by then, and durable: should
//! the store fail later, what it lacks is worked again under the new one. That is left to
//! [`super::run()`].

use std::sync::Arc;

use super::recover::{
    Open, Recovered, StatePolicy, after_outbox, carried_over, outbox_of, plan_of, stranded, written,
};
use super::turn::{Core, PipelineError, SinkStream};
use crate::engine::Engine;
use crate::outbox::{Limits, Outbox};
use crate::sql::{Application, SqlText};
use crate::store::{Store, WriteBatch};
use crate::wal::Body;

/// An application that is to run, and what goes with it; [`Open`] without the store.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The application.
    pub application: Arc<Application>,
    /// Its texts, which the log keeps.
    pub texts: Vec<SqlText>,
    /// Which streams have an outbox, by name, and its bounds.
    pub outboxes: Vec<(String, Limits)>,
    /// How many checkpoints are kept; at least 1.
    pub checkpoints_kept: usize,
    /// What becomes of the state when another application is to run than before.
    pub state_policy: StatePolicy,
}

impl Wanted {
    /// This, in a store.
    #[must_use]
    pub fn open_in(&self, store: Arc<dyn Store>, identity: u64) -> Open<'_> {
        Open {
            store,
            identity,
            application: Arc::clone(&self.application),
            texts: &self.texts,
            sinks: &self.outboxes,
            checkpoints_kept: self.checkpoints_kept,
            state_policy: self.state_policy,
        }
    }
}

/// An application that is ready to be put in force.
pub(super) struct Next {
    /// Its written form.
    text: String,
    /// None when it is the one that is in force.
    engine: Option<Engine>,
    discards: bool,
    sinks: Arc<[SinkStream]>,
    /// None when the outboxes stay as they are.
    outbox: Option<Outbox>,
    checkpoints_kept: usize,
    /// The record that says so.
    log: WriteBatch,
}

impl Next {
    /// What waits for sinks that are not defined any more; a sentence each.
    pub(super) fn stranded(&self) -> Vec<String> {
        let outbox = self.outbox.iter();
        outbox.flat_map(stranded).collect()
    }

    /// Whether it is another one than the one in force.
    pub(super) fn is_other(&self) -> bool {
        self.engine.is_some()
    }
}

impl Core {
    /// Goes over to another application: what did not change keeps its state. Everything that was
    /// turned before must be written. The change is durable after the next [`Store::sync`], and a
    /// checkpoint soon is a good thing.
    ///
    /// # Errors
    /// [`PipelineError::StateWouldBeLost`], and everything is as it was. When the store fails; it
    /// is then closed, and everything must be opened anew.
    pub fn change_to(&mut self, open: &Open<'_>) -> Result<Recovered, PipelineError> {
        let mut found = Recovered::default();
        let next = self.next(open, false, &mut found)?;
        found.warnings.extend(next.stranded());
        self.take_over(next)?;
        Ok(found)
    }

    /// Whether [`Core::change_to`] would give up state although it must not.
    ///
    /// # Errors
    /// [`PipelineError::StateWouldBeLost`].
    pub fn would_keep(&mut self, open: &Open<'_>) -> Result<(), PipelineError> {
        let wanted = written(open.texts, &open.application);
        if self.own.application() == wanted || open.state_policy != StatePolicy::KeepOrFail {
            return Ok(());
        }
        self.next_engine(open, &wanted, false, &mut Recovered::default())
            .map(drop)
    }

    /// Everything that going over to another application takes and that may fail. `is_unknown`
    /// when nothing tells any more which one was in force.
    pub(super) fn next(
        &mut self,
        open: &Open<'_>,
        is_unknown: bool,
        found: &mut Recovered,
    ) -> Result<Next, PipelineError> {
        let text = written(open.texts, &open.application);
        let changes = self.own.application() != text;
        let discards = changes && open.state_policy == StatePolicy::Discard;
        let (engine, sinks) = if changes {
            let (engine, sinks) = self.next_engine(open, &text, discards, found)?;
            (Some(engine), sinks)
        } else {
            (None, Arc::clone(&self.sinks))
        };
        if discards {
            let warning = "the application has changed: all state is given up, as \
                           application.state_policy says";
            found.warnings.push(warning.to_owned());
        }
        let outbox = if self.has_outboxes(&sinks, open) {
            None
        } else {
            let outbox = outbox_of(open, &sinks, found)?;
            after_outbox(&mut self.wal, &outbox, &sinks, open)?;
            Some(outbox)
        };
        let mut log = WriteBatch::new();
        if changes || is_unknown {
            let time = self.wal.last_time();
            let body = Body::Config {
                text: text.clone(),
                discards,
            };
            self.wal.append(time, &body, &mut log)?;
        }
        Ok(Next {
            text,
            engine,
            discards,
            sinks,
            outbox,
            checkpoints_kept: open.checkpoints_kept,
            log,
        })
    }

    fn next_engine(
        &mut self,
        open: &Open<'_>,
        text: &str,
        discards: bool,
        found: &mut Recovered,
    ) -> Result<(Engine, Arc<[SinkStream]>), PipelineError> {
        let (plan, sinks) = plan_of(open, text, text, found);
        let engine = carried_over(&mut self.engine, open, plan, &sinks, discards, found);
        let lost = self.engine.names_of(engine.left_out());
        if !lost.is_empty() && open.state_policy == StatePolicy::KeepOrFail {
            let lost = lost.join(", ");
            return Err(PipelineError::StateWouldBeLost { lost });
        }
        Ok((engine, sinks))
    }

    /// Whether there are outboxes for exactly these sinks, with their bounds.
    fn has_outboxes(&self, sinks: &[SinkStream], open: &Open<'_>) -> bool {
        let names = self.sinks.iter().map(|sink| &sink.name);
        let limits = (0..sinks.len()).map(|sink| self.outbox.limits(sink));
        names.eq(sinks.iter().map(|sink| &sink.name))
            && limits.eq(open.sinks.iter().map(|(_, limits)| Some(*limits)))
    }

    /// Puts the next application in force.
    pub(super) fn take_over(&mut self, next: Next) -> Result<(), PipelineError> {
        let Next {
            text,
            engine,
            discards,
            sinks,
            outbox,
            checkpoints_kept,
            log,
        } = next;
        if let Some(engine) = engine {
            self.take_plan(engine, &text, discards);
        }
        self.sinks = sinks;
        if let Some(outbox) = outbox {
            self.outbox = outbox;
        }
        self.checkpoints.keep(checkpoints_kept);
        Ok(self.put(log)?)
    }
}
