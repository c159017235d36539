//! Checkpoints of a core, in steps: what has changed is taken piece by piece between turns, the
//! rest at once, and another thread packs and writes it.
//!
//! What is taken ahead of time may change again; it is then taken once more at the end, and the
//! later one counts. So the pause at the end is as long as what has changed meanwhile asks for, not
//! as long as what has changed since the checkpoint before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};

use super::turn::{Core, PipelineError};
use crate::checkpoint::{CheckpointError, Counters, Extent, Job, Report, Saved};
use crate::engine::Saving;
use crate::event::StateChanges;
use crate::store::{Store, StoreError};

/// Pieces that are taken ahead between two turns: some 2 ms.
const AHEAD_PIECES_MAX: usize = 2048;
/// Jobs that may wait for the writing thread.
const JOBS_MAX: usize = 2;

/// What has become of an attempt to take something ahead.
#[derive(Debug)]
pub enum Ahead {
    /// There is more; the job, if any, is to be run.
    More(Option<Job>),
    /// Nothing is left that would not change any more.
    Enough(Option<Job>),
}

impl Core {
    /// Begins a checkpoint. False while the one before has not been written.
    pub fn begin_checkpoint(&mut self) -> bool {
        let Some(extent) = self.checkpoints.begin() else {
            return false;
        };
        // Whether what has changed is not enough: earlier changes were given and came to nothing.
        self.needs_everything = extent == Extent::Whole && !self.is_new;
        self.jobs.clear();
        let unsaved = std::mem::take(&mut self.unsaved);
        self.is_new &= unsaved.is_empty();
        if !self.needs_everything {
            for changes in unsaved {
                self.jobs.extend(self.checkpoints.stage(changes));
            }
        }
        true
    }

    /// Takes some of the state ahead of the end of the checkpoint that was begun.
    ///
    /// # Errors
    /// When the state cannot be encoded, which is a bug.
    pub fn save_ahead(&mut self) -> Result<Ahead, PipelineError> {
        if let Some(job) = self.jobs.pop_front() {
            return Ok(Ahead::More(Some(job)));
        }
        if self.needs_everything {
            return Ok(Ahead::Enough(None));
        }
        let mut changes = StateChanges::new();
        let pieces_max = AHEAD_PIECES_MAX;
        let more = self.take(Saving::Ahead { pieces_max }, &mut changes)?;
        let job = self.checkpoints.stage(changes);
        Ok(if more {
            Ahead::More(job)
        } else {
            Ahead::Enough(job)
        })
    }

    /// Ends the checkpoint that was begun: it is of the state as of the last input, and there once
    /// the job has been run.
    ///
    /// # Errors
    /// When the state cannot be encoded, which is a bug.
    pub fn finish_checkpoint(&mut self) -> Result<Job, PipelineError> {
        let whole = self.needs_everything;
        let mut changes = StateChanges::new();
        self.take(Saving::Changed, &mut changes)?;
        if whole {
            changes = StateChanges::new();
            self.take(Saving::Whole, &mut changes)?;
        }
        self.own
            .save(whole, &mut changes)
            .map_err(CheckpointError::Encode)?;
        let time = self.wal.last_time();
        Ok(self.checkpoints.finish(self.last(), time, changes))
    }

    /// A checkpoint has been written. Gives what is to be done next, when anything is.
    pub fn checkpointed(&mut self, saved: &Saved) -> Option<Job> {
        if !saved.folded {
            self.saved = self.saved.max(saved.seq);
        }
        self.checkpoints.fold()
    }

    /// Nothing more will be logged: marks of messages that left nothing to log lie in the last
    /// checkpoint. Before, they wait for a record, so that none is remembered twice. They stay, as
    /// the store may fail.
    pub fn remember_unlogged(&mut self) {
        for (source, marks) in &self.unlogged {
            // It may have failed before, behind that checkpoint.
            if !self.own.marks(source).ends_with(marks) {
                self.own.remember(source, marks);
            }
        }
    }

    /// Saves the state as of the last input, at once and in this thread, and does whatever is to be
    /// done besides. Durable after the next sync.
    ///
    /// # Errors
    /// When the store fails; the older checkpoints are still there.
    pub fn checkpoint(&mut self) -> Result<Saved, PipelineError> {
        let store = self.store();
        // Nobody else runs jobs, so that none is under way.
        if !self.begin_checkpoint() {
            return Err(CheckpointError::GivenUp.into());
        }
        let mut todo = VecDeque::new();
        loop {
            let (job, more) = match self.save_ahead()? {
                Ahead::More(job) => (job, true),
                Ahead::Enough(job) => (job, false),
            };
            if let Some(job) = job {
                todo.extend(job.run(&*store)?.more);
            }
            if !more {
                break;
            }
        }
        todo.push_front(self.finish_checkpoint()?);
        let mut done = Saved::default();
        while let Some(job) = todo.pop_front() {
            let Report { more, saved, .. } = job.run(&*store)?;
            todo.extend(more);
            if let Some(saved) = saved {
                todo.extend(self.checkpointed(&saved));
                if !saved.folded {
                    done = saved;
                }
            }
        }
        Ok(done)
    }

    /// What checkpoints have given to the store since it was opened.
    #[must_use]
    pub fn checkpoint_counters(&self) -> Counters {
        self.checkpoints.counters()
    }

    fn take(&mut self, saving: Saving, to: &mut StateChanges) -> Result<bool, PipelineError> {
        self.is_new = false;
        let taken = self.engine.save(saving, to);
        if taken.is_err() {
            self.checkpoints.demand_whole();
        }
        Ok(taken?)
    }
}

/// The thread that packs and writes checkpoints.
pub(super) struct Saver {
    jobs: Sender<Job>,
    pub(super) reports: Receiver<Result<Report, CheckpointError>>,
    thread: JoinHandle<()>,
}

impl Saver {
    pub(super) fn start(store: Arc<dyn Store>) -> Result<Saver, StoreError> {
        let (jobs, todo) = bounded(JOBS_MAX);
        // One for each job that waits or is under way, so that a report never waits.
        let (report, reports) = bounded(JOBS_MAX + 2);
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || run_jobs(&*store, &todo, &report));
        let thread = thread.map_err(|error| StoreError::Io {
            doing: "starting the thread that writes checkpoints",
            why: error.to_string(),
        })?;
        Ok(Saver {
            jobs,
            reports,
            thread,
        })
    }

    /// Has a job run. Gives it back when too many wait.
    pub(super) fn run(&self, job: Job) -> Result<(), Job> {
        self.jobs.try_send(job).map_err(|back| back.into_inner())
    }

    /// Lets the thread end, after the job that is under way.
    pub(super) fn close(self) -> JoinHandle<()> {
        self.thread
    }
}

/// Runs jobs in order; what they leave to be done later waits until there is no other.
fn run_jobs(
    store: &dyn Store,
    todo: &Receiver<Job>,
    report: &Sender<Result<Report, CheckpointError>>,
) {
    let mut later: VecDeque<Job> = VecDeque::new();
    loop {
        let next = match todo.try_recv() {
            Err(TryRecvError::Empty) if later.is_empty() => todo.recv().ok(),
            Err(TryRecvError::Empty) => later.pop_front(),
            Err(TryRecvError::Disconnected) => None,
            Ok(job) => Some(job),
        };
        let Some(job) = next else { return };
        let mut done = job.run(store);
        if let Ok(done) = &mut done {
            later.extend(done.more.take());
            if done.saved.is_none() && done.warning.is_none() {
                continue;
            }
        }
        if report.send(done).is_err() {
            return;
        }
    }
}
