//! Every exit code of the program.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Success,
    /// Cases failed, a replay's input was wrong, a store is damaged, or cannot be restored so far.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The configuration or the SQL is wrong; nothing was started.
    Configuration,
    /// The store cannot be opened.
    Store,
    /// The daemon failed while it ran.
    Failure,
    /// The daemon did not stop in time, or was told twice to stop.
    Forced,
    /// A stream has failed, and that was to end the daemon.
    StreamFailed,
    /// A document or a request was refused, by a node or by `control verify`.
    Refused,
    /// A node went back to what it had before.
    RolledBack,
    /// No broker or no node has answered in time.
    NoAnswer,
}

/// The table that `--help` shows: code, meaning.
pub const TABLE: &[(Exit, &str)] = &[
    (Exit::Success, "all went well"),
    (
        Exit::Failed,
        "cases failed, a replay's input is wrong, or a store is damaged or does not go back so far",
    ),
    (Exit::Usage, "the command line is wrong"),
    (
        Exit::Configuration,
        "the configuration or the SQL is wrong; nothing was started",
    ),
    (
        Exit::Store,
        "the store cannot be opened: locked, not writable; or the disk is full when told to stop",
    ),
    (
        Exit::Failure,
        "the daemon failed while it ran; start it again, nothing is lost",
    ),
    (
        Exit::Forced,
        "the daemon did not stop in time, or was told twice to stop; nothing is lost",
    ),
    (
        Exit::StreamFailed,
        "a stream whose error.strategy is `fail` has failed, and application.on_fail is `exit`",
    ),
    (
        Exit::Refused,
        "control: a document or a request was refused, or another one took its place",
    ),
    (
        Exit::RolledBack,
        "control: a node took a document back, and runs what it had before",
    ),
    (
        Exit::NoAnswer,
        "control: no broker, or no node, answered in time",
    ),
];

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Configuration => 3,
            Exit::Store => 4,
            Exit::Failure => 5,
            Exit::Forced => 6,
            Exit::StreamFailed => 7,
            Exit::Refused => 8,
            Exit::RolledBack => 9,
            Exit::NoAnswer => 10,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
