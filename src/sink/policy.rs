//! What a stream says of how its outputs are delivered: how fast, when, and before whom.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::hours::Hours;
use super::priority::Priority;
use crate::config::delivery;
use crate::config::options::{OptionFault, Options};

/// How a sink may deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(super) messages_per_minute: Option<u32>,
    pub(super) bytes_per_minute: Option<u32>,
    pub(super) burst: Duration,
    pub(super) hours: Option<Hours>,
    pub(super) priority: Priority,
    pub(super) historical_after_ms: i64,
}

impl Default for Policy {
    /// As fast as it goes.
    fn default() -> Policy {
        Policy {
            messages_per_minute: None,
            bytes_per_minute: None,
            burst: Duration::ZERO,
            hours: None,
            priority: Priority::Normal,
            historical_after_ms: 60_000,
        }
    }
}

impl Policy {
    /// Checks the options that all sinks have.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(options: &Options) -> Result<Policy, OptionFault> {
        let rate = |name: &str| match options.integer(name) {
            None => Ok(None),
            Some(rate) => match u32::try_from(rate) {
                Ok(rate) if rate > 0 => Ok(Some(rate)),
                Ok(_) => Err(OptionFault::new(name, "it must be more than 0")),
                Err(_) => Err(OptionFault::new(name, "it must be at most 4 GiB")),
            },
        };
        let span = |name: &str, default_ms: i64| options.integer(name).unwrap_or(default_ms).max(0);
        let priority = match options.text(delivery::PRIORITY) {
            Some("high") => Priority::High,
            Some("low") => Priority::Low,
            _ => Priority::Normal,
        };
        Ok(Policy {
            messages_per_minute: rate(delivery::MESSAGES_PER_MINUTE)?,
            bytes_per_minute: rate(delivery::BYTES_PER_MINUTE)?,
            burst: Duration::from_millis(span(delivery::BURST, 10_000).unsigned_abs()),
            hours: hours(options)?,
            priority,
            historical_after_ms: span(delivery::HISTORICAL_AFTER, 60_000),
        })
    }

    /// Who goes first.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.priority
    }
}

fn hours(options: &Options) -> Result<Option<Hours>, OptionFault> {
    let name = options.text(delivery::TIME_ZONE).unwrap_or("UTC");
    let zone = if name == "local" {
        TimeZone::system()
    } else {
        TimeZone::get(name).map_err(|_| {
            let problem = format!(
                "`{name}` is no time zone: write one of the IANA names such as `Europe/Berlin`, \
                 or `local`"
            );
            OptionFault::new(delivery::TIME_ZONE, problem)
        })?
    };
    let Some(text) = options.text(delivery::ACTIVE) else {
        return Ok(None);
    };
    let hours = Hours::parse(text, zone);
    hours
        .map(Some)
        .map_err(|problem| OptionFault::new(delivery::ACTIVE, problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{Layer, OptionValue};

    fn policy(written: &[(&str, OptionValue)]) -> Result<Policy, String> {
        let mut options = Options::default();
        for (name, value) in written {
            options.set(name, value.clone(), Layer::Sql);
        }
        Policy::new(&options).map_err(|fault| fault.to_string())
    }

    fn text(text: &str) -> OptionValue {
        OptionValue::Text(text.to_owned())
    }

    #[test]
    fn options_become_a_policy() {
        let number = OptionValue::Integer;
        assert_eq!(
            policy(&[]).unwrap(),
            Policy {
                burst: Duration::from_secs(10),
                ..Policy::default()
            }
        );
        let all = policy(&[
            ("pace.messages_per_minute", number(6)),
            ("pace.bytes_per_minute", number(1 << 20)),
            ("pace.burst", number(0)),
            ("active", text("22:00-06:00")),
            ("active.timezone", text("Europe/Berlin")),
            ("priority", text("high")),
            ("historical.after", number(0)),
        ]);
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(
            all.unwrap(),
            Policy {
                messages_per_minute: Some(6),
                bytes_per_minute: Some(1 << 20),
                burst: Duration::ZERO,
                hours: Some(Hours::parse("22:00-06:00", zone).unwrap()),
                priority: Priority::High,
                historical_after_ms: 0,
            }
        );
    }

    #[test]
    fn faults() {
        let table = [
            (
                ("pace.bytes_per_minute", OptionValue::Integer(0)),
                "pace.bytes_per_minute: it must be more than 0",
            ),
            (
                ("active", text("at night")),
                "active: `at night` is no span of hours: write `22:00-06:00` or \
                 `mon-fri 08:00-18:00`, several with commas",
            ),
            (
                ("active.timezone", text("Mars")),
                "active.timezone: `Mars` is no time zone: write one of the IANA names such as \
                 `Europe/Berlin`, or `local`",
            ),
        ];
        for (written, expected) in table {
            assert_eq!(policy(&[written]).unwrap_err(), expected);
        }
    }
}
