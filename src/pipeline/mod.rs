//! The turn: rows are logged, run through the engine, and what comes out is put into the outbox.
//!
//! [`Core`] is the synchronous heart and knows no clock, no thread and no network; [`run`] is the
//! thread around it that waits, syncs and talks to sources and sinks.
//!
//! What a turn changes on disk (log records and outputs) is one atomic write. So after a crash the
//! outbox is exactly as far as the log, and recovery only has to bring the engine there.

mod feed;
mod recover;
mod run;
mod turn;

pub use feed::Feed;
pub use recover::{Open, Recovered};
pub use run::{Durability, Handles, Limits, Outcome, SourceHandle, run};
pub use turn::{Core, Input, PipelineError, SinkStream, TurnDone};
