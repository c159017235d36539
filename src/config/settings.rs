//! The configuration as used: nothing is optional that the code would have to guess about.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::options::Options;
use super::value::WrittenValue;
use crate::diagnostic::Place;

/// The configuration, checked; everything except the meaning of the SQL and of stream options.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The first file it was read from, as it was named.
    pub path: String,
    /// All of them, in the order in which they hold over each other: the last is the strongest.
    pub files: Vec<PathBuf>,
    /// `[application]`.
    pub application: ApplicationSettings,
    /// `[store]`.
    pub store: StoreSettings,
    /// `[checkpoint]`.
    pub checkpoint: CheckpointSettings,
    /// `[clock]`.
    pub clock: ClockSettings,
    /// `[outbox]`.
    pub outbox: OutboxSettings,
    /// `[turn]`.
    pub turn: TurnSettings,
    /// `[limits]`.
    pub limits: LimitsSettings,
    /// `[log]`.
    pub log: LogSettings,
    /// `[shutdown]`.
    pub shutdown: ShutdownSettings,
    /// `[secrets]`.
    pub secrets: SecretsSettings,
    /// `[control]`, but for the connection.
    pub control: ControlSettings,
    /// `[security]`.
    pub security: SecuritySettings,
    /// `[broker]`; only in a build with the feature `broker`.
    pub broker: Option<BrokerSettings>,
    /// `[simulator]`; only in a build with the feature `broker`.
    pub simulator: Option<SimulatorSettings>,
    /// `[streams.<name>]` by name; what is in them is checked by [`super::resolve`].
    pub streams: BTreeMap<String, OptionTable>,
    /// Every key of the file with its value and origin.
    pub(super) keys: Options,
}

/// What runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplicationSettings {
    /// 1 to 64 letters, digits, `_` and `-`.
    pub name: String,
    /// The SQL in the order in which it is written; the texts together are one application.
    pub sql: Vec<SqlText>,
    /// What becomes of the state when the application changes.
    pub state_policy: StatePolicy,
    /// What follows when a stream has failed.
    pub on_fail: OnFail,
    /// Options that hold for every stream which knows them; checked by [`super::resolve`].
    pub options: OptionTable,
}

/// What becomes of the state when the application changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatePolicy {
    /// What did not change keeps its state; what did starts empty, with a warning.
    KeepCompatible,
    /// The same, unless some state would be lost: then nothing is started.
    KeepOrFail,
    /// Everything starts empty.
    Discard,
}

/// What follows when a stream whose `error.strategy` is `fail` has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFail {
    /// It alone stands still.
    Continue,
    /// The daemon drains and ends.
    Exit,
}

/// SQL, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlText {
    /// The file. For inline text it is the configuration file, and `text` begins with as many
    /// line breaks and blanks as put every character at the line and column where it stands in
    /// that file; or, where escapes make that impossible, `inline SQL`.
    pub path: String,
    /// The SQL; references in it are not expanded.
    pub text: String,
}

/// Where accepted events and state lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// The folder.
    pub path: PathBuf,
    /// How much of it is cached in memory.
    pub cache_bytes: u64,
    /// When events reach the disk.
    pub durability: Durability,
    /// Bytes that it may take on the disk; 0 for no limit.
    pub bytes_max: u64,
    /// Bytes that are to stay free there.
    pub free_bytes_min: u64,
    /// Bytes that may wait for the disk.
    pub unsynced_bytes_max: usize,
}

/// When events reach the disk, and so when their sources are acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After every batch.
    Always,
    /// One sync for everything that came within `ms` milliseconds.
    Interval {
        /// The longest that an event waits.
        ms: u64,
    },
    /// When the system likes; a power cut may lose what was acknowledged.
    None,
}

/// How often state is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// Milliseconds between two checkpoints; none for no such bound.
    pub interval_ms: Option<u64>,
    /// Bytes of the log between two checkpoints; none for no such bound.
    pub log_bytes_max: Option<u64>,
    /// How many full ones are kept; at least 1.
    pub keep: u32,
}

/// How far the machine's clock is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSettings {
    /// How far the log's time goes forward at once while the clock is not known to be right, in
    /// milliseconds.
    pub jump_ms_max: i64,
}

/// Outputs that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// How much may wait, for each sink.
    pub bytes_max: u64,
    /// What happens then.
    pub full: OutboxFull,
    /// How long an output may wait, in milliseconds; none: as long as it takes.
    pub ttl_ms: Option<i64>,
}

/// What happens when an outbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxFull {
    /// The outputs that wait longest are dropped and counted.
    DropOldest,
    /// The new outputs are dropped and counted.
    DropNewest,
    /// No more events are taken until there is room.
    Block,
}

/// How much one turn takes from the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnSettings {
    /// Rows; at least 1.
    pub rows_max: usize,
    /// Bytes.
    pub bytes_max: usize,
}

/// What the daemon may take of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsSettings {
    /// Bytes of resident memory; none: whatever caches and queues come to.
    pub memory_max: Option<u64>,
}

/// What the daemon says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The least serious message that is written.
    pub level: LogLevel,
}

/// How serious a message is, the most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something does not work.
    Error,
    /// Something will not work if nobody looks after it.
    Warn,
    /// What one wants to know in ordinary operation.
    Info,
    /// For finding a fault.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in the configuration, which `tracing` reads too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// How the daemon ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownSettings {
    /// How long it may take to drain and save, in milliseconds.
    pub deadline_ms: u64,
}

/// Where secrets are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretsSettings {
    /// A folder with one file for each.
    pub path: PathBuf,
}

/// Who may change the configuration from afar, and what is told there.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlSettings {
    /// What may come in.
    pub mode: ControlMode,
    /// The first level of every topic.
    pub root: String,
    /// The name of this node; none: made from the machine's.
    pub node: Option<String>,
    /// Groups whose documents are taken when there is none for the node, the strongest first.
    pub groups: Vec<String>,
    /// Bytes of a document, decoded.
    pub bytes_max: usize,
    /// Milliseconds between two reports of what is counted; none: there are none.
    pub metrics_interval_ms: Option<u64>,
    /// What of `[control]` a document may change.
    pub allow_remote: AllowRemote,
    /// Whether the running configuration is published, without secrets.
    pub publish_active: bool,
    /// The prefix of Home Assistant's discovery; none: nothing is announced there.
    pub discovery: Option<String>,
    /// The part of the input that may fail while a document is tried out, 0 to 1.
    pub error_ratio_max: f64,
    /// The connection as written; checked by [`super::resolve_control`].
    pub options: OptionTable,
}

/// What may come in from afar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlMode {
    /// There is no connection.
    Off,
    /// State and metrics go out, and nothing comes in.
    Monitor,
    /// Documents are checked and never applied; nothing can be changed.
    Validate,
    /// Documents must be signed.
    Signed,
    /// Whoever may publish may change everything.
    Unsigned,
}

/// What of `[control]` a document may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowRemote {
    /// Nothing.
    Never,
    /// The connection; each time an operator must confirm it.
    Endpoint,
}

/// Whom to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecuritySettings {
    /// A folder with the public keys of those who may sign documents.
    pub trusted_path: PathBuf,
}

/// The MQTT broker inside the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerSettings {
    /// A loopback address.
    pub listen: SocketAddr,
}

/// The simulated sensors; they publish to the broker inside the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatorSettings {
    /// The same seed gives the same readings.
    pub seed: u64,
}

/// Options of streams as written in TOML, references expanded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionTable {
    /// The last file that has it.
    pub path: String,
    /// Where the table's name stands there.
    pub place: Place,
    /// The options, each once, in the order in which they are written.
    pub options: Vec<WrittenOption>,
    /// The names of those that are written and have no value, which is told already.
    pub unreadable: Vec<String>,
}

impl OptionTable {
    /// What a later file says of the same, over what is known.
    pub(super) fn replace_by(&mut self, later: OptionTable) {
        let says = |name: &String| later.options.iter().any(|option| option.name == *name);
        self.options.retain(|option| !says(&option.name));
        self.unreadable.retain(|name| !says(name));
        self.path = later.path;
        self.place = later.place;
        self.options.extend(later.options);
        self.unreadable.extend(later.unreadable);
    }
}

/// One option as written in TOML, references expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenOption {
    /// The full name, such as `mqtt.topic`.
    pub name: String,
    /// The file.
    pub path: String,
    /// Where the last part of the name stands.
    pub key: Place,
    /// The value; its form is not checked yet.
    pub value: WrittenValue,
    /// Where the value stands.
    pub place: Place,
    /// Whether a secret is part of the value.
    pub hidden: bool,
}
