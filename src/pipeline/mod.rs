//! The turn: rows are logged, run through the engine, and what comes out is put into the outbox.
//!
//! [`Core`] is the synchronous heart and knows no clock, no thread and no network; [`run`] is the
//! thread around it that waits, syncs and talks to sources and sinks.
//!
//! What a turn changes on disk is written in order, the log first, then the outbox. After a crash
//! the outbox is as far as the log or behind it, never ahead; recovery brings both to one place.

mod feed;
mod own;
mod recover;
mod run;
mod turn;

pub use feed::Feed;
pub use recover::{Open, Recovered};
pub use run::{Durability, Handles, Limits, Outcome, SourceHandle, run};
pub use turn::{Core, Input, PipelineError, SinkStream, TurnDone};
