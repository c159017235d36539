//! The turn: rows are logged, run through the engine, and what comes out is put into the outbox.
//!
//! [`Core`] is the synchronous heart and knows no clock, no thread and no network; [`run`] is the
//! thread around it that waits, syncs and talks to sources and sinks, and that opens the store anew
//! when it fails.
//!
//! What a turn changes on disk is written in order, the log first, then the outbox. After a crash
//! the outbox is as far as the log or behind it, never ahead; recovery brings both to one place.

mod change;
mod disk;
mod errand;
mod faults;
mod feed;
mod flight;
mod lasting;
mod letters;
mod losses;
mod own;
mod pulse;
mod recover;
mod restore;
mod run;
mod save;
mod tap;
mod turn;
mod words;

pub use change::Wanted;
pub use disk::{Disk, Opened, RoomLimits};
pub use errand::{Answer, Answered, Errand, Undone, answer};
pub use feed::Feed;
pub use lasting::{Durability, Handles, Limits, SourceHandle};
pub use letters::{GivenUp, Word};
pub use pulse::Pulse;
pub use recover::{Open, Recovered, StatePolicy, application_of, compiled};
pub use restore::{Forgotten, RestoreError, Target, WentBack};
pub use run::{Change, Changed, Command, NewSink, Outcome, SinkToBe, SourceToBe, Unchanged, run};
pub use save::Ahead;
pub use tap::{TAP_BYTES_MAX, TAPS_MAX, Tap, Tapped, Tapping, tap};
pub use turn::{Core, Input, PipelineError, SinkStream, TurnDone};
