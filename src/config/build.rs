//! Checked keys become [`Settings`]; what is wrong only in combination is found here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::options::Options;
use super::outbox::ttl_of;
use super::settings::{
    ApplicationSettings, BrokerSettings, CheckpointSettings, ClockSettings, Durability,
    LimitsSettings, LogLevel, LogSettings, OnFail, OptionTable, OutboxFull, OutboxSettings,
    SecretsSettings, SecuritySettings, Settings, ShutdownSettings, SimulatorSettings, SqlText,
    StatePolicy, StoreSettings, TurnSettings,
};
use super::{control, memory};
use crate::diagnostic::{Diagnostic, Place};

/// Everything that a configuration says.
pub(super) struct Written<'a> {
    /// What it is called.
    pub(super) name: String,
    /// The files that were asked for.
    pub(super) paths: Vec<PathBuf>,
    /// What paths are relative to, by the file in which they are written.
    pub(super) folders: BTreeMap<&'a str, &'a Path>,
    pub(super) keys: Options,
    pub(super) application: OptionTable,
    pub(super) control: OptionTable,
    pub(super) streams: BTreeMap<String, OptionTable>,
    pub(super) sql: Vec<SqlText>,
}

impl Written<'_> {
    /// A path, relative to the file that says it.
    fn path(&self, key: &str) -> Option<PathBuf> {
        let file = self.keys.origin(key).map_or("", |(path, _)| path);
        let folder = self.folders.get(file).copied().unwrap_or(Path::new(""));
        Some(folder.join(self.keys.text(key)?))
    }
}

/// `None` when a key has no value, which is told already. `sql_is_whole`: nothing is missing.
pub(super) fn settings(
    mut written: Written<'_>,
    sql_is_whole: bool,
    findings: &mut Vec<Diagnostic>,
) -> Option<Settings> {
    memory::settle_keys(&mut written.keys);
    let keys = &written.keys;
    let faults = findings;
    check_name(keys, faults);
    check_checkpoints(keys, faults);
    warn(&written, sql_is_whole, faults);
    let store_path = written.path("store.path")?;
    let secrets_path = written.path("secrets.path")?;
    let trusted_path = written.path("security.trusted_path")?;
    control::check(keys, &trusted_path, faults);
    let broker = keys.has("broker.listen").then(|| broker(keys, faults));
    let simulator = keys.has("simulator.seed").then(|| simulator(keys));
    Some(Settings {
        path: written.name,
        files: written.paths,
        application: ApplicationSettings {
            name: keys.text("application.name")?.to_owned(),
            sql: written.sql,
            state_policy: state_policy(keys.text("application.state_policy")?),
            on_fail: on_fail(keys.text("application.on_fail")?),
            options: written.application,
        },
        store: StoreSettings {
            path: store_path,
            cache_bytes: number(keys, "store.cache_bytes")?,
            durability: durability(keys)?,
            bytes_max: number(keys, "store.bytes_max")?,
            free_bytes_min: number(keys, "store.free_bytes_min")?,
            unsynced_bytes_max: number(keys, "store.unsynced_bytes_max")?,
        },
        checkpoint: CheckpointSettings {
            interval_ms: some(number(keys, "checkpoint.interval")?),
            log_bytes_max: some(number(keys, "checkpoint.log_bytes_max")?),
            keep: number(keys, "checkpoint.keep")?,
        },
        clock: ClockSettings {
            jump_ms_max: keys.integer("clock.jump_max")?,
        },
        outbox: OutboxSettings {
            bytes_max: number(keys, "outbox.bytes_max")?,
            full: OutboxFull::of(keys.text("outbox.full")?),
            ttl_ms: ttl_of(keys.integer("outbox.ttl")?),
        },
        turn: TurnSettings {
            rows_max: number(keys, "turn.rows_max")?,
            bytes_max: number(keys, "turn.bytes_max")?,
        },
        limits: LimitsSettings {
            memory_max: number(keys, "limits.memory_max"),
        },
        log: LogSettings {
            level: level(keys.text("log.level")?),
        },
        shutdown: ShutdownSettings {
            deadline_ms: number(keys, "shutdown.deadline")?,
        },
        secrets: SecretsSettings { path: secrets_path },
        control: control::settings(&written.keys, written.control)?,
        security: SecuritySettings { trusted_path },
        broker: broker.flatten(),
        simulator: simulator.flatten(),
        streams: written.streams,
        keys: written.keys,
    })
}

fn durability(keys: &Options) -> Option<Durability> {
    Some(match keys.text("store.durability")? {
        "always" => Durability::Always,
        "none" => Durability::None,
        _ => Durability::Interval {
            ms: number(keys, "store.sync_interval")?,
        },
    })
}

pub(super) fn number<N: TryFrom<i64>>(keys: &Options, name: &str) -> Option<N> {
    N::try_from(keys.integer(name)?).ok()
}

/// 0 says that there is none.
pub(super) fn some(number: u64) -> Option<u64> {
    (number > 0).then_some(number)
}

fn check_checkpoints(keys: &Options, faults: &mut Vec<Diagnostic>) {
    const INTERVAL_MS_MIN: i64 = 100;
    let interval_ms = keys.integer("checkpoint.interval").unwrap_or(0);
    if (1..INTERVAL_MS_MIN).contains(&interval_ms) {
        let message = "'checkpoint.interval' must be 0 or at least 100 ms";
        faults.extend(at(keys, "checkpoint.interval", Diagnostic::error, message));
    }
    if interval_ms == 0 && keys.integer("checkpoint.log_bytes_max") == Some(0) {
        let message = "'checkpoint.interval' and 'checkpoint.log_bytes_max' must not both be 0: \
                       the log would never end";
        faults.extend(at(keys, "checkpoint.interval", Diagnostic::error, message));
    }
}

fn state_policy(word: &str) -> StatePolicy {
    match word {
        "keep_or_fail" => StatePolicy::KeepOrFail,
        "discard" => StatePolicy::Discard,
        _ => StatePolicy::KeepCompatible,
    }
}

fn on_fail(word: &str) -> OnFail {
    match word {
        "exit" => OnFail::Exit,
        _ => OnFail::Continue,
    }
}

fn level(word: &str) -> LogLevel {
    match word {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => LogLevel::Info,
    }
}

fn check_name(keys: &Options, faults: &mut Vec<Diagnostic>) {
    const CHARACTERS_MAX: usize = 64;
    let name = keys.text("application.name").unwrap_or("");
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.chars().all(allowed) && name.len() <= CHARACTERS_MAX {
        return;
    }
    let message = "'application.name' must be 1 to 64 letters, digits, '_' and '-'";
    faults.extend(at(keys, "application.name", Diagnostic::error, message));
}

fn broker(keys: &Options, faults: &mut Vec<Diagnostic>) -> Option<BrokerSettings> {
    let written = keys.text("broker.listen")?;
    match written.parse::<SocketAddr>() {
        Ok(listen) if listen.ip().is_loopback() => Some(BrokerSettings { listen }),
        Ok(_) | Err(_) => {
            let message = format!(
                "'broker.listen' must be a loopback address and a port, such as '127.0.0.1:1883', \
                 not '{}'",
                super::value::excerpt(written)
            );
            faults.extend(at(keys, "broker.listen", Diagnostic::error, &message));
            None
        }
    }
}

fn simulator(keys: &Options) -> Option<SimulatorSettings> {
    Some(SimulatorSettings {
        seed: number(keys, "simulator.seed")?,
    })
}

fn warn(written: &Written<'_>, sql_is_whole: bool, warnings: &mut Vec<Diagnostic>) {
    let durability = written.keys.text("store.durability").unwrap_or("");
    if durability != "interval" {
        let message =
            format!("'store.sync_interval' has no effect with 'store.durability' = '{durability}'");
        let keys = &written.keys;
        warnings.extend(at(
            keys,
            "store.sync_interval",
            Diagnostic::warning,
            &message,
        ));
    }
    if sql_is_whole && written.sql.is_empty() && !written.keys.has("application.sql") {
        let message = "there is no SQL, so nothing runs";
        warnings.push(Diagnostic {
            place: None,
            ..Diagnostic::warning(&written.name, Place::default(), message)
                .with_hint("name a file: [application] sql = \"…\"")
        });
    }
}

/// A finding about a key, when it is written somewhere.
pub(super) fn at(
    keys: &Options,
    name: &str,
    finding: fn(&str, Place, String) -> Diagnostic,
    message: &str,
) -> Option<Diagnostic> {
    let (path, place) = keys.origin(name)?;
    Some(finding(path, place, message.to_owned()))
}
