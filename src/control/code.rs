//! Why a document or a request is refused, in a word that programs can rely on.

/// The word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// It is not an object of the contract: truncated, a field missing or of another form.
    Envelope,
    /// Its `v` is not 1.
    Version,
    /// It is larger than `control.bytes_max`, as it came or decoded.
    TooLarge,
    /// Its content cannot be decoded.
    Encoding,
    /// Its content is not what `sha256` says.
    Sha256,
    /// It is for another node.
    Node,
    /// It has no signature and must have one.
    Unsigned,
    /// It is signed with a key that is not trusted here.
    Key,
    /// Its signature is not one over what it says.
    Signature,
    /// A document of the same revision and another content was accepted before.
    RevConflict,
    /// A document of a higher revision was accepted before.
    RevStale,
    /// The configuration in force is not the one it was made from.
    Base,
    /// Its time is over.
    Expired,
    /// `control.mode` does not let it.
    Mode,
    /// It changes what only the local file may.
    LocalOnly,
    /// The configuration is faulty; `errors` has it all.
    Config,
    /// State would be lost that must not be.
    State,
    /// It differs in something that cannot change while the daemon runs.
    Fixed,
    /// Something else is under way.
    Busy,
    /// The daemon is about to end.
    Stopping,
    /// It did not prove itself within its probation.
    Health,
    /// Nobody has confirmed it in time.
    Unconfirmed,
    /// The daemon ended while it was being tried out.
    BootGuard,
    /// An operator has taken it back.
    Operator,
    /// The request is not one of the contract.
    Request,
    /// There is no such verb.
    Verb,
    /// The verb does not take these arguments.
    Args,
    /// The signed request is not newer than one that was obeyed before.
    Replay,
    /// What it is about does not exist.
    NotFound,
    /// It was tried and failed.
    Failed,
}

impl Code {
    /// All of them.
    pub const ALL: [Code; 30] = [
        Code::Envelope,
        Code::Version,
        Code::TooLarge,
        Code::Encoding,
        Code::Sha256,
        Code::Node,
        Code::Unsigned,
        Code::Key,
        Code::Signature,
        Code::RevConflict,
        Code::RevStale,
        Code::Base,
        Code::Expired,
        Code::Mode,
        Code::LocalOnly,
        Code::Config,
        Code::State,
        Code::Fixed,
        Code::Busy,
        Code::Stopping,
        Code::Health,
        Code::Unconfirmed,
        Code::BootGuard,
        Code::Operator,
        Code::Request,
        Code::Verb,
        Code::Args,
        Code::Replay,
        Code::NotFound,
        Code::Failed,
    ];

    /// The code that is published so.
    #[must_use]
    pub fn of(word: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.word() == word)
    }

    /// As it is published.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Code::Envelope => "E_ENVELOPE",
            Code::Version => "E_VERSION",
            Code::TooLarge => "E_TOO_LARGE",
            Code::Encoding => "E_ENCODING",
            Code::Sha256 => "E_SHA256",
            Code::Node => "E_NODE",
            Code::Unsigned => "E_UNSIGNED",
            Code::Key => "E_KEY",
            Code::Signature => "E_SIGNATURE",
            Code::RevConflict => "E_REV_CONFLICT",
            Code::RevStale => "E_REV_STALE",
            Code::Base => "E_BASE",
            Code::Expired => "E_EXPIRED",
            Code::Mode => "E_MODE",
            Code::LocalOnly => "E_LOCAL_ONLY",
            Code::Config => "E_CONFIG",
            Code::State => "E_STATE",
            Code::Fixed => "E_FIXED",
            Code::Busy => "E_BUSY",
            Code::Stopping => "E_STOPPING",
            Code::Health => "E_HEALTH",
            Code::Unconfirmed => "E_UNCONFIRMED",
            Code::BootGuard => "E_BOOT_GUARD",
            Code::Operator => "E_OPERATOR",
            Code::Request => "E_REQUEST",
            Code::Verb => "E_VERB",
            Code::Args => "E_ARGS",
            Code::Replay => "E_REPLAY",
            Code::NotFound => "E_NOT_FOUND",
            Code::Failed => "E_FAILED",
        }
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.word())]
pub struct Fault {
    /// The word.
    pub code: Code,
    /// A sentence for people: lower case, no full stop.
    pub message: String,
}

impl Fault {
    /// A refusal.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Fault {
        Fault {
            code,
            message: message.into(),
        }
    }
}
