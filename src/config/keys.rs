//! Every key of the configuration file, declared once.
//!
//! Checking, the reference in `docs/config.md`, the suggestions for a mistyped key and `config
//! list` are all made from [`KEYS`].

use super::options::{OptionKind, OptionSpec};
use super::settings::OutboxFull;

/// What a table of the configuration file is about, in the order in which the reference has them.
pub const SECTIONS: &[(&str, &str)] = &[
    (
        "application",
        "What runs. Any option of a connector or format may stand here too; it then holds for \
         every stream that knows it and does not set it itself.",
    ),
    ("store", "Where accepted events and state lie on disk."),
    (
        "checkpoint",
        "How often the state is saved, which bounds the time a restart takes: after some time, \
         after so much of the log, or both, whichever comes first.",
    ),
    ("clock", "How far the machine's clock is followed."),
    (
        "outbox",
        "Outputs that wait for their far side. A sink may set these for itself, as `outbox.ttl` \
         and so on, see `[streams.<name>]`.",
    ),
    ("turn", "How much is taken from the sources at a time."),
    (
        "limits",
        "What the daemon may take of the machine; see [operate.md](operate.md#memory).",
    ),
    ("log", "What the daemon says about itself."),
    ("shutdown", "How the daemon ends."),
    (
        "secrets",
        "Where `${secret:name}` is looked up when systemd passes no credential.",
    ),
    (
        "control",
        "Configuration and commands over MQTT, see [operate.md](operate.md). Needs a build with \
         the feature `control`. Only the local file says these. The options of the connection \
         stand here too and are for it alone: none of `[application]` holds for it.",
    ),
    (
        "security",
        "Whom to believe. Only the local file says this.",
    ),
    (
        "broker",
        "An MQTT broker inside the process, on the loopback address only, for trying things out. \
         Needs a build with the feature `broker`; the table's presence switches it on.",
    ),
    (
        "simulator",
        "A simulated sensor that publishes JSON to a broker. Needs a build with the feature \
         `broker`; the table's presence switches it on.",
    ),
];

/// Tables that only a build with the feature `broker` knows.
pub(super) const DEMO_SECTIONS: [&str; 2] = ["broker", "simulator"];

/// Tables in which options stand beside the keys.
pub(super) const OPTION_SECTIONS: [&str; 2] = ["application", "control"];

/// Whether a document from afar cannot change what stands there; `*` for some of the table.
pub(super) fn is_local_only(table: &str, entry: &str) -> bool {
    match table {
        "control" | "security" | "broker" | "simulator" => true,
        "store" | "secrets" => matches!(entry, "path" | "*"),
        _ => false,
    }
}

/// Every key outside of `[streams.<name>]`, by its name with the table before it (`store.path`).
pub const KEYS: &[OptionSpec] = &[
    key(
        "application.name",
        OptionKind::Text,
        Some("eventflux"),
        "The name in logs, metrics and client ids: 1 to 64 letters, digits, `_` and `-`.",
    ),
    key(
        "application.sql",
        OptionKind::Text,
        None,
        "A file with SQL, a list of files, or the SQL itself: text with a `;` or a line break.",
    ),
    key(
        "application.state_policy",
        OptionKind::Choice(&["keep_compatible", "keep_or_fail", "discard"]),
        Some("keep_compatible"),
        "What becomes of the state (windows, groups, tables, patterns under way) when the SQL is \
         another one than before: whatever did not change keeps its state and what did starts \
         empty, with a warning; or nothing is started when some state would be lost; or \
         everything starts empty.",
    ),
    key(
        "application.on_fail",
        OptionKind::Choice(&["continue", "exit"]),
        Some("continue"),
        "What follows when a stream whose `error.strategy` is `fail` has failed: it alone stands \
         still until the next reload or start, or the daemon drains and ends with exit code 7.",
    ),
    key(
        "store.path",
        OptionKind::Text,
        Some("/var/lib/eventflux"),
        "The folder of the store; made when it is not there.",
    ),
    key(
        "store.cache_bytes",
        OptionKind::Bytes,
        Some("4 MiB"),
        "How much of the store is kept in memory. Real memory is a multiple of it.",
    )
    .between(1 << 20, 1 << 30),
    key(
        "store.durability",
        OptionKind::Choice(&["always", "interval", "none"]),
        Some("interval"),
        "When events reach the disk, and so when sources are acknowledged: after every batch, for \
         everything that came within `sync_interval`, or whenever the system likes (`none`: a \
         power cut may lose acknowledged events, and a later output may carry an id that was used \
         before it).",
    ),
    key(
        "store.sync_interval",
        OptionKind::Duration,
        Some("5 ms"),
        "The longest that an event waits for the disk with `durability = \"interval\"`.",
    )
    .between(1, 60_000),
    key(
        "store.bytes_max",
        OptionKind::Bytes,
        Some("4 GiB"),
        "How much the store may take on the disk; 0 for no limit. Beyond it no more events are \
         taken, and so acknowledged, until there is room again.",
    )
    .between(0, 1 << 44),
    key(
        "store.free_bytes_min",
        OptionKind::Bytes,
        Some("8 MiB"),
        "How much is to stay free on the disk, so that what frees the store still has room. Below \
         it no more events are taken, and so acknowledged.",
    )
    .between(0, 1 << 40),
    key(
        "store.unsynced_bytes_max",
        OptionKind::Bytes,
        Some("8 MiB"),
        "How much may be written and not be safe on the disk yet. Beyond it no more events are \
         taken until it is.",
    )
    .between(64 << 10, 1 << 30),
    key(
        "checkpoint.interval",
        OptionKind::Duration,
        Some("60 s"),
        "The time between two checkpoints, at least 100 ms; none is made when nothing happened. 0 \
         leaves it to `log_bytes_max`.",
    )
    .between(0, 86_400_000),
    key(
        "checkpoint.log_bytes_max",
        OptionKind::Bytes,
        Some("16 MiB"),
        "The bytes of the log after which a checkpoint is made; 0 leaves it to `interval`.",
    )
    .between(0, 1 << 40),
    key(
        "checkpoint.keep",
        OptionKind::Integer { min: 1, max: 1000 },
        Some("2"),
        "How many checkpoints are kept; besides, one that shares nothing with the newest, so that \
         damage cannot reach all of them.",
    ),
    key(
        "clock.jump_max",
        OptionKind::Duration,
        Some("30 days"),
        "How far the log's time follows the machine's clock at once while nobody says that it was \
         set from the network. More is followed when that is said, or when it has lasted for ten \
         minutes and is less than five years.",
    )
    .between(1_000, 3_153_600_000_000),
    key(
        "outbox.bytes_max",
        OptionKind::Bytes,
        Some("64 MiB"),
        "How much may wait, for each sink.",
    )
    .between(64 << 10, 1 << 40),
    key(
        "outbox.full",
        OptionKind::Choice(OutboxFull::WORDS),
        Some("drop_oldest"),
        "What happens at that limit. `block` stops taking events, and so acknowledging them.",
    ),
    key(
        "outbox.ttl",
        OptionKind::Duration,
        Some("0"),
        "How long an output may wait; older ones are given up. `0`: as long as it takes.",
    )
    .between(0, 3_650 * 86_400_000),
    key(
        "turn.rows_max",
        OptionKind::Integer {
            min: 1,
            max: 1_000_000,
        },
        Some("4096"),
        "The most rows taken in one turn.",
    ),
    key(
        "turn.bytes_max",
        OptionKind::Bytes,
        Some("1 MiB"),
        "The most bytes taken in one turn.",
    )
    .between(4 << 10, 256 << 20),
    key(
        "limits.memory_max",
        OptionKind::Bytes,
        None,
        "The resident memory that caches, queues and messages are made to fit into: those sizes \
         that nobody has set then follow from it. State that queries keep (windows, tables, \
         patterns) comes on top, beyond the few MiB that are left for it.",
    )
    .between(24 << 20, 1 << 40),
    key(
        "log.level",
        OptionKind::Choice(&["error", "warn", "info", "debug", "trace"]),
        Some("info"),
        "The least serious message that is written.",
    ),
    key(
        "shutdown.deadline",
        OptionKind::Duration,
        Some("10 s"),
        "How long the daemon may take to drain and save before it ends all the same.",
    )
    .between(100, 600_000),
    key(
        "secrets.path",
        OptionKind::Text,
        Some("/etc/eventflux/secrets"),
        "A folder with one file (mode 0600) for each secret.",
    ),
    key(
        "control.mode",
        OptionKind::Choice(&["off", "monitor", "validate", "signed", "unsigned"]),
        Some("off"),
        "What may come in. `off`: there is no connection. `monitor`: state and metrics go out and \
         nothing comes in. `validate`: documents are checked and never applied. `signed`: \
         documents with a signature that is trusted are applied. `unsigned`: whoever may publish \
         to the broker may change everything.",
    ),
    key(
        "control.root",
        OptionKind::Text,
        Some("eventflux"),
        "The first level, or levels, of every topic.",
    ),
    key(
        "control.node",
        OptionKind::Text,
        None,
        "The name of this node: 1 to 64 letters, digits, `_` and `-`. Unset: the machine's name \
         and eight digits that no other machine has.",
    ),
    key(
        "control.groups",
        OptionKind::List,
        None,
        "Groups whose documents hold where there is none for the node itself, the strongest \
         first; named like a node.",
    ),
    key(
        "control.max_bytes",
        OptionKind::Bytes,
        Some("256 KiB"),
        "The largest document, decoded.",
    )
    .between(1 << 10, 1 << 20),
    key(
        "control.metrics_interval",
        OptionKind::Duration,
        Some("60 s"),
        "How often what is counted is published, at least 1 s; 0 for never.",
    )
    .between(0, 86_400_000),
    key(
        "control.allow_remote",
        OptionKind::Choice(&["never", "endpoint"]),
        Some("never"),
        "What of this table a document may change: nothing, or the connection, which an operator \
         must confirm each time.",
    ),
    key(
        "control.publish_active",
        OptionKind::Flag,
        Some("false"),
        "Whether the running document is published, without secrets.",
    ),
    key(
        "control.home_assistant",
        OptionKind::Flag,
        Some("false"),
        "Whether Home Assistant is told what there is to see.",
    ),
    key(
        "control.home_assistant_prefix",
        OptionKind::Text,
        Some("homeassistant"),
        "The first level, or levels, of the topics on which it is told.",
    ),
    key(
        "control.error_ratio_max",
        OptionKind::Number { min: 0, max: 1 },
        Some("0.1"),
        "The part of the input that may fail, and of what a sink sends that may be refused, \
         while a document is on probation; beyond it the document is taken back.",
    ),
    key(
        "security.trusted_path",
        OptionKind::Text,
        Some("/etc/eventflux/trusted.d"),
        "A folder with the public keys (`*.pub`) of those who may sign documents.",
    ),
    key(
        "broker.listen",
        OptionKind::Text,
        Some("127.0.0.1:1883"),
        "The address and port; a loopback address.",
    ),
    key(
        "simulator.seed",
        OptionKind::Integer {
            min: 0,
            max: i64::MAX,
        },
        Some("1"),
        "The same seed gives the same readings.",
    ),
];

/// The key of this full name.
#[must_use]
pub fn find(name: &str) -> Option<&'static OptionSpec> {
    KEYS.iter().find(|key| key.name == name)
}

/// The keys of one table, each with its name there.
pub(super) fn of_section(
    section: &str,
) -> impl Iterator<Item = (&'static str, &'static OptionSpec)> {
    KEYS.iter().filter_map(move |key| match split(key) {
        (table, name) if table == section => Some((name, key)),
        _ => None,
    })
}

/// The table that a key stands in, and its name there.
pub(super) fn split(key: &OptionSpec) -> (&'static str, &'static str) {
    key.name.split_once('.').unwrap_or(("", key.name))
}

const fn key(
    name: &'static str,
    kind: OptionKind,
    default: Option<&'static str>,
    doc: &'static str,
) -> OptionSpec {
    OptionSpec {
        default,
        ..OptionSpec::new(name, kind, doc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::{self, WrittenValue};

    #[test]
    fn every_default_has_its_own_form_and_every_key_its_table() {
        for key in KEYS {
            let known = SECTIONS.iter().any(|(section, _)| *section == split(key).0);
            assert!(known, "{}", key.name);
            if let Some(default) = key.default {
                let written = WrittenValue::Text(default.to_owned());
                let checked = value::check(key, &written);
                assert!(checked.is_ok(), "{}: {checked:?}", key.name);
            }
        }
    }
}
