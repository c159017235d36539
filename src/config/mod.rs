//! The configuration as written, checked into the configuration as used.
//!
//! [`load`] reads the TOML and everything it names, and tells all that is wrong at once, each
//! with its place. [`resolve`] then gives one stream its options from four layers. What a key may
//! hold is declared once, in [`keys`]; what an option may hold, in the connector that reads it.
//! What the SQL means, and whether a connector can work with its options, is left to others.

mod build;
mod control;
mod definition;
mod document;
mod errors;
mod expand;
mod files;
pub mod keys;
mod list;
mod load;
mod local;
mod memory;
pub mod options;
mod outbox;
mod reference;
mod resolve;
mod schema;
mod secret;
mod settings;
mod sql_texts;
mod text;
mod value;
mod veil;

pub use control::{resolve_control, unusable_control};
pub use definition::{Definition, default_client_id};
pub use errors::{
    ERROR_FALLBACK, ERROR_LETTERS, ERROR_STRATEGY, OnRefusal, Retries, SINK_ERROR_OPTIONS, Then,
};
pub use expand::{Environment, Expanded, Expander, Unresolved};
pub use files::{
    Failure, Files, Loaded, Looked, in_order, load, load_all, look, look_remote, read,
};
pub use list::{ListedValue, list};
pub use memory::{misfit, outbox_memory_max, settle_options};
pub use outbox::{OUTBOX_DEAD_LETTER, OUTBOX_OPTIONS, delivery};
pub use reference::{option_table, reference};
pub use resolve::{
    HIDDEN, Property, StreamDefinition, resolve, resolve_alone, unknown_keys, unknown_streams,
    unusable,
};
pub use schema::schema;
pub use settings::{
    AllowRemote, ApplicationSettings, BrokerSettings, CheckpointSettings, ClockSettings,
    ControlMode, ControlSettings, Durability, LogLevel, LogSettings, OnFail, OptionTable,
    OutboxFull, OutboxSettings, SecretsSettings, SecuritySettings, Settings, ShutdownSettings,
    SimulatorSettings, SqlText, StatePolicy, StoreSettings, TurnSettings, WrittenOption,
};
pub use value::{WrittenValue, format_bytes, parse_bytes};
pub use veil::Veil;
