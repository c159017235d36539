//! What holds for the outbox of one sink: what the sink says itself, else what `[outbox]` says.

use super::keys;
use super::options::{OptionFault, OptionKind, OptionSpec, Options};
use super::settings::{OutboxFull, OutboxSettings};
use super::value;

/// The stream that takes what a sink gives up. It shapes the plan, so the SQL reads it.
pub const OUTBOX_DEAD_LETTER: &str = "outbox.dead_letter";

const BYTES_MAX: &str = "outbox.bytes_max";
const FULL: &str = "outbox.full";
const TTL: &str = "outbox.ttl";

/// The names of the options that say how a sink delivers, for the sinks.
pub mod delivery {
    /// How many outputs in a minute.
    pub const MESSAGES_PER_MINUTE: &str = "pace.messages_per_minute";
    /// How many bytes in a minute.
    pub const BYTES_PER_MINUTE: &str = "pace.bytes_per_minute";
    /// How much of a pace at once.
    pub const BURST: &str = "pace.burst";
    /// In which hours.
    pub const ACTIVE: &str = "active";
    /// Whose hours.
    pub const TIME_ZONE: &str = "active.timezone";
    /// Before whom.
    pub const PRIORITY: &str = "priority";
    /// When an output is no news any more.
    pub const HISTORICAL_AFTER: &str = "historical.after";
}

/// The most that a pace may be.
const MESSAGES_PER_MINUTE_MAX: i64 = 10_000_000;

/// The options of every sink.
pub const OUTBOX_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        BYTES_MAX,
        OptionKind::Bytes,
        "How much may wait for this sink; else what `[outbox]` says.",
    ),
    OptionSpec::new(
        FULL,
        OptionKind::Choice(OutboxFull::WORDS),
        "What happens at that limit; else what `[outbox]` says.",
    ),
    OptionSpec::new(
        TTL,
        OptionKind::Duration,
        "How long an output may wait for this sink, `0`: as long as it takes; else what \
         `[outbox]` says.",
    ),
    OptionSpec::new(
        OUTBOX_DEAD_LETTER,
        OptionKind::Text,
        "The stream that takes what is given up: beyond the limit, too old, or refused by the far \
         side. Without it that is counted only.",
    ),
    OptionSpec::new(
        "outbox.memory_max",
        OptionKind::Bytes,
        "How much of what waits may be in memory on its way to the far side; the rest is on disk. \
         A single output may be larger.",
    )
    .or("4 MiB")
    .between(4 << 10, 1 << 30),
    OptionSpec::new(
        delivery::MESSAGES_PER_MINUTE,
        OptionKind::Integer {
            min: 1,
            max: MESSAGES_PER_MINUTE_MAX,
        },
        "How many outputs are sent in a minute at most, repeated attempts included.",
    ),
    OptionSpec::new(
        delivery::BYTES_PER_MINUTE,
        OptionKind::Bytes,
        "How many bytes of payload are sent in a minute at most, repeated attempts included.",
    ),
    OptionSpec::new(
        delivery::BURST,
        OptionKind::Duration,
        "How much of such a pace may be saved up and sent at once: what would go in this time.",
    )
    .or("10 s"),
    OptionSpec::new(
        delivery::ACTIVE,
        OptionKind::Text,
        "The hours in which this sink delivers, such as `22:00-06:00, sat-sun 00:00-24:00`. \
         Without it: always.",
    ),
    OptionSpec::new(
        delivery::TIME_ZONE,
        OptionKind::Text,
        "The time zone of these hours: an IANA name such as `Europe/Berlin`, or `local`.",
    )
    .or("UTC"),
    OptionSpec::new(
        delivery::PRIORITY,
        OptionKind::Choice(&["high", "normal", "low"]),
        "Which sinks go first: one yields to those of a higher priority while they deliver.",
    )
    .or("normal"),
    OptionSpec::new(
        delivery::HISTORICAL_AFTER,
        OptionKind::Duration,
        "An output that has waited for so long when it is sent is marked as historical.",
    )
    .or("1 min"),
];

impl OutboxFull {
    pub(super) const WORDS: &[&str] = &["drop_oldest", "drop_newest", "block"];

    pub(super) fn of(word: &str) -> OutboxFull {
        match word {
            "drop_newest" => OutboxFull::DropNewest,
            "block" => OutboxFull::Block,
            _ => OutboxFull::DropOldest,
        }
    }
}

impl OutboxSettings {
    /// These settings, but for what a sink sets itself.
    ///
    /// # Errors
    /// A value that `[outbox]` would not take either.
    pub fn of_sink(self, options: &Options) -> Result<OutboxSettings, OptionFault> {
        let bytes_max = within(options, BYTES_MAX)?;
        let ttl = within(options, TTL)?;
        Ok(OutboxSettings {
            bytes_max: bytes_max.map_or(self.bytes_max, i64::unsigned_abs),
            full: options.text(FULL).map_or(self.full, OutboxFull::of),
            ttl_ms: ttl.map_or(self.ttl_ms, ttl_of),
        })
    }
}

/// The time to live that is written as so many milliseconds.
pub(super) fn ttl_of(written_ms: i64) -> Option<i64> {
    (written_ms > 0).then_some(written_ms)
}

/// A number in the bounds of the key with the same name.
fn within(options: &Options, name: &str) -> Result<Option<i64>, OptionFault> {
    let key = keys::find(name);
    match (options.integer(name), key.and_then(|key| key.range)) {
        (Some(number), Some((min, max))) if !(min..=max).contains(&number) => {
            let expected = key.map(value::expected).unwrap_or_default();
            Err(OptionFault::new(name, format!("it must be {expected}")))
        }
        (number, _) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{Layer, OptionValue};

    #[test]
    fn a_sink_may_say_some_of_it_itself() {
        let all = OutboxSettings {
            bytes_max: 1 << 20,
            full: OutboxFull::Block,
            ttl_ms: Some(5_000),
        };
        let of = |written: &[(&str, OptionValue)]| {
            let mut options = Options::default();
            for (name, value) in written {
                options.set(name, value.clone(), Layer::Sql);
            }
            all.of_sink(&options)
        };
        assert_eq!(of(&[]), Ok(all));
        let bytes = (BYTES_MAX, OptionValue::Integer(1 << 17));
        let full = (FULL, OptionValue::Text("drop_newest".to_owned()));
        let forever = (TTL, OptionValue::Integer(0));
        assert_eq!(
            of(&[bytes, full, forever]),
            Ok(OutboxSettings {
                bytes_max: 1 << 17,
                full: OutboxFull::DropNewest,
                ttl_ms: None,
            })
        );
        let fault = of(&[(BYTES_MAX, OptionValue::Integer(7))]).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "outbox.bytes_max: it must be a size such as '64 KiB' from 64 KiB to 1024 GiB"
        );
    }
}
