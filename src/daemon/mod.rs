//! From a checked configuration to a running daemon, to another configuration, and back: Prepared →
//! Running (→ Prepared → Running …) → Drained. The only place that spawns.
//!
//! [`prepare`] does everything that can fail because of what somebody wrote, and touches nothing:
//! no store, no connection. [`Prepared::run`] opens, runs and drains.

pub mod catalogue;
mod change;
mod collisions;
mod crew;
mod prepare;
mod reports;
mod run;
mod status;
mod store;
mod window;
mod would;
mod written;

use std::time::Duration;

pub use change::{Parts, Refused, Reloaded};
pub use prepare::{
    Connector, Document, Failure, Files, Prepared, Salvage, prepare, prepare_all, prepare_document,
    salvage,
};

pub use run::{Door, Orders, Request};
pub use store::bytes_free;
pub use window::{Station, View, Window};
pub use written::{Texts, fingerprint};

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
    /// A stream has failed, and `application.on_fail` is `exit`.
    #[error("{name} has failed, and 'application.on_fail' is `exit`")]
    StreamFailed {
        /// Which source or sink.
        name: String,
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

fn cannot_start(what: &'static str, error: &std::io::Error) -> DaemonError {
    DaemonError::Start {
        what,
        why: error.to_string(),
    }
}
