//! Checkpoints in the loop: taken between turns, written by a thread of their own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::save::Ahead;
use super::super::turn::PipelineError;
use super::{Pipeline, add};
use crate::checkpoint::{CheckpointError, Job, Report};

/// So long pieces are taken ahead at most: should they change faster than they are taken, the rest
/// is taken at once.
const AHEAD_MAX: Duration = Duration::from_secs(1);
/// How soon a job is offered again that the writing thread had no room for.
const OFFER_AGAIN: Duration = Duration::from_millis(5);
/// How soon the end of a job is noticed that is waited for.
pub(super) const REPORT_NOTICED: Duration = Duration::from_millis(100);

/// How far the checkpoint is that was begun.
#[derive(Debug)]
pub(super) enum Phase {
    /// None was.
    Idle,
    /// Pieces are taken ahead, at most until then.
    Ahead(Instant),
    /// Everything was taken.
    Taken,
}

/// The checkpoint that was begun, and what the writing thread had no room for.
#[derive(Debug)]
pub(super) struct Saving {
    phase: Phase,
    waiting: VecDeque<Job>,
}

impl Saving {
    pub(super) fn idle() -> Saving {
        Saving {
            phase: Phase::Idle,
            waiting: VecDeque::new(),
        }
    }

    /// How long the loop may wait before it goes on with it.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self.phase {
            _ if !self.waiting.is_empty() => Some(OFFER_AGAIN),
            Phase::Ahead(_) => Some(Duration::ZERO),
            Phase::Idle | Phase::Taken => None,
        }
    }

    /// Whether none was begun that is not written yet.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }
}

impl Pipeline<'_> {
    /// Begins a checkpoint, unless one is under way.
    pub(super) fn checkpoint(&mut self) {
        let interval = self.lasting.limits.checkpoint_interval;
        self.checkpoint_at = interval.map(|interval| Instant::now() + interval);
        if self.saving.is_idle() && self.core.begin_checkpoint() {
            self.log_bytes = 0;
            self.saving.phase = Phase::Ahead(Instant::now() + AHEAD_MAX);
        }
    }

    /// Goes on with the checkpoint that was begun.
    pub(super) fn save_on(&mut self) -> Result<(), PipelineError> {
        while let Some(job) = self.saving.waiting.pop_front() {
            if let Err(job) = self.saver.run(job) {
                self.saving.waiting.push_front(job);
                return Ok(());
            }
        }
        let Phase::Ahead(until) = self.saving.phase else {
            return Ok(());
        };
        let now = Instant::now();
        let ahead = if now < until {
            self.core.save_ahead()?
        } else {
            Ahead::Enough(None)
        };
        let (job, more) = match ahead {
            Ahead::More(job) => (job, true),
            Ahead::Enough(job) => (job, false),
        };
        self.saving.waiting.extend(job);
        if !more {
            let last = self.core.finish_checkpoint()?;
            self.saving.waiting.push_back(last);
            self.saving.phase = Phase::Taken;
        }
        let metrics = &self.lasting.handles.metrics;
        metrics.pause(now.elapsed());
        Ok(())
    }

    /// The writing thread has done something.
    pub(super) fn reported(
        &mut self,
        done: Result<Report, CheckpointError>,
    ) -> Result<(), PipelineError> {
        let report = match done {
            Ok(report) => report,
            Err(error @ CheckpointError::Store(_)) => return Err(error.into()),
            // The older ones are still there, and so is the log behind them.
            Err(error) => {
                tracing::error!("{error}");
                self.errands.checkpoint_failed(&error.to_string());
                self.saving.phase = Phase::Idle;
                return Ok(());
            }
        };
        if let Some(warning) = report.warning {
            tracing::warn!("{warning}");
        }
        let Some(saved) = report.saved else {
            return Ok(());
        };
        let fold = self.core.checkpointed(&saved);
        if self.lasting.draining.is_none() {
            self.saving.waiting.extend(fold);
        }
        let bytes = usize::try_from(saved.stored_bytes).unwrap_or(usize::MAX);
        self.room.wrote(bytes);
        let metrics = &self.lasting.handles.metrics;
        add(&metrics.checkpoint_bytes, bytes);
        if saved.folded {
            add(&metrics.folds, 1);
        } else {
            add(&metrics.checkpoints, 1);
            self.saving.phase = Phase::Idle;
        }
        self.trimming = true;
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.unsynced_checkpoint = true;
        Ok(())
    }

    /// Saves everything and waits for it: nothing else is left to do.
    pub(super) fn save_all(&mut self) -> Result<(), PipelineError> {
        // One may be under way that does not cover everything.
        for _ in 0..2 {
            if self.core.has_unsaved() && self.saving.is_idle() {
                self.checkpoint();
            }
            while !self.saving.is_idle() {
                self.save_on()?;
                let takes = matches!(self.saving.phase, Phase::Ahead(_));
                let wait = if takes {
                    Duration::ZERO
                } else {
                    REPORT_NOTICED
                };
                if let Ok(done) = self.saver.reports.recv_timeout(wait) {
                    self.reported(done)?;
                }
            }
        }
        Ok(())
    }
}
