//! From a checked configuration to a running daemon and back: Prepared → Running → Drained. The
//! only place that spawns.
//!
//! [`prepare`] does everything that can fail because of what somebody wrote, and touches nothing:
//! no store, no connection. [`Prepared::run`] opens, runs and drains.

pub mod catalogue;
mod collisions;
mod prepare;
mod reports;
mod run;

use std::time::Duration;

pub use prepare::{Connector, Failure, Prepared, prepare, prepare_all};

use crate::pipeline::PipelineError;
use crate::store::StoreError;

/// Why the daemon ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log, the outbox or a checkpoint failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A thread or the runtime could not be started.
    #[error("cannot start {what}: {why}")]
    Start {
        /// What could not be started.
        what: &'static str,
        /// What the operating system says.
        why: String,
    },
    /// Something did not stop in time.
    #[error("{laggards} did not stop within {} ms", deadline.as_millis())]
    Late {
        /// Who.
        laggards: String,
        /// How long they had.
        deadline: Duration,
    },
}
