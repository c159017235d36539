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
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
