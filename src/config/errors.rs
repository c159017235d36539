//! What a sink does with an output that its far side will never take: `error.*`.
//!
//! What passes (no link, no answer, too busy) is none of it: that is tried again for as long as the
//! outbox keeps the output.

use std::time::Duration;

use super::options::{OptionFault, OptionKind, OptionSpec, Options};
use super::outbox::OUTBOX_DEAD_LETTER;

/// What becomes of what is wrong.
pub const ERROR_STRATEGY: &str = "error.strategy";
/// The stream that takes the dead letters.
pub const ERROR_LETTERS: &str = "error.dlq.stream";
/// What becomes of it when trying again did not help.
pub const ERROR_FALLBACK: &str = "error.fallback";

const ATTEMPTS_MAX: &str = "error.retry.attempts_max";
const WAIT_MIN: &str = "error.retry.min";
const WAIT_MAX: &str = "error.retry.max";

/// The options of every sink about what its far side refuses.
pub const SINK_ERROR_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        ERROR_STRATEGY,
        OptionKind::Choice(&["drop", "dlq", "retry", "fail"]),
        "What becomes of an output that the far side will never take: given up and counted, to the \
         dead letters, asked again some times, or the sink ends and keeps everything. Unset: `dlq` \
         where a stream for the letters is named, else `drop`.",
    ),
    OptionSpec::new(
        ERROR_LETTERS,
        OptionKind::Text,
        "The stream that takes the dead letters; the same as `outbox.dead_letter`.",
    ),
    OptionSpec::new(
        ATTEMPTS_MAX,
        OptionKind::Integer {
            min: 1,
            max: 1_000_000,
        },
        "With `retry`: how often an output may be refused before `error.fallback` holds. Attempts \
         that fail for lack of a link do not count.",
    )
    .or("10"),
    OptionSpec::new(
        WAIT_MIN,
        OptionKind::Duration,
        "With `retry`: the pause after the first refusal; doubled after each further one.",
    )
    .or("1 s"),
    OptionSpec::new(
        WAIT_MAX,
        OptionKind::Duration,
        "With `retry`: the longest pause.",
    )
    .or("1 min"),
    OptionSpec::new(
        ERROR_FALLBACK,
        OptionKind::Choice(&["drop", "dlq", "fail"]),
        "With `retry`: what becomes of an output that was refused so often. Unset: `dlq` where a \
         stream for the letters is named, else `drop`.",
    ),
];

/// What a sink does with what its far side refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnRefusal {
    /// Whether it asks again before.
    pub retries: Option<Retries>,
    /// What it does then.
    pub then: Then,
}

/// How a refused output is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often it may be refused, the last time included; at least 1.
    pub attempts_max: u32,
    /// The first pause.
    pub wait_min: Duration,
    /// The longest pause.
    pub wait_max: Duration,
}

/// What becomes of a refused output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is given up: counted, and a dead letter where a stream takes them.
    GiveUp,
    /// The sink ends; everything stays in its outbox.
    Fail,
}

impl OnRefusal {
    /// What these options say.
    ///
    /// # Errors
    /// An option that has no effect, or lacks another.
    pub fn of_sink(options: &Options) -> Result<OnRefusal, OptionFault> {
        let strategy = options.text(ERROR_STRATEGY);
        let fallback = options.text(ERROR_FALLBACK);
        let has_letters = options.has(ERROR_LETTERS) || options.has(OUTBOX_DEAD_LETTER);
        for (option, value) in [(ERROR_STRATEGY, strategy), (ERROR_FALLBACK, fallback)] {
            if value == Some("dlq") && !has_letters {
                let problem = format!("'dlq' needs '{ERROR_LETTERS}', the stream that takes them");
                return Err(OptionFault::new(option, problem));
            }
        }
        let both = (
            options.text(ERROR_LETTERS),
            options.text(OUTBOX_DEAD_LETTER),
        );
        if let (Some(one), Some(other)) = both {
            let same = options.layer(ERROR_LETTERS) == options.layer(OUTBOX_DEAD_LETTER);
            if one != other && same {
                let problem = format!("'{OUTBOX_DEAD_LETTER}' says '{other}': name one stream");
                return Err(OptionFault::new(ERROR_LETTERS, problem));
            }
        }
        let retries = strategy == Some("retry");
        for option in [ATTEMPTS_MAX, WAIT_MIN, WAIT_MAX, ERROR_FALLBACK] {
            if !retries && options.is_own(option) {
                let problem = format!("it has no effect without '{ERROR_STRATEGY}' = 'retry'");
                return Err(OptionFault::new(option, problem));
            }
        }
        let last = if retries { fallback } else { strategy };
        Ok(OnRefusal {
            retries: retries.then(|| retries_of(options)),
            then: match last {
                Some("fail") => Then::Fail,
                Some(_) | None => Then::GiveUp,
            },
        })
    }
}

fn retries_of(options: &Options) -> Retries {
    let span = |name, default_ms: i64| {
        let ms = options.integer(name).unwrap_or(default_ms);
        Duration::from_millis(ms.unsigned_abs())
    };
    let attempts = options.integer(ATTEMPTS_MAX).unwrap_or(10);
    Retries {
        attempts_max: u32::try_from(attempts).unwrap_or(u32::MAX).max(1),
        wait_min: span(WAIT_MIN, 1_000),
        wait_max: span(WAIT_MAX, 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::{Layer, OptionValue};

    #[test]
    fn what_options_say() {
        let of = |written: &[(&str, &str)]| {
            let mut options = Options::default();
            for (name, value) in written {
                let value = match value.parse() {
                    Ok(number) => OptionValue::Integer(number),
                    Err(_) => OptionValue::Text((*value).to_owned()),
                };
                options.set(name, value, Layer::Sql);
            }
            OnRefusal::of_sink(&options)
        };
        let once = |then| {
            Ok(OnRefusal {
                retries: None,
                then,
            })
        };
        assert_eq!(of(&[]), once(Then::GiveUp));
        assert_eq!(of(&[(ERROR_STRATEGY, "fail")]), once(Then::Fail));
        let letters = (ERROR_LETTERS, "Bad");
        assert_eq!(of(&[(ERROR_STRATEGY, "dlq"), letters]), once(Then::GiveUp));
        let again = of(&[
            (ERROR_STRATEGY, "retry"),
            (ATTEMPTS_MAX, "3"),
            (WAIT_MIN, "5"),
            (ERROR_FALLBACK, "fail"),
        ]);
        let retries = Some(Retries {
            attempts_max: 3,
            wait_min: Duration::from_millis(5),
            wait_max: Duration::from_secs(60),
        });
        let then = Then::Fail;
        assert_eq!(again, Ok(OnRefusal { retries, then }));
        for (wrong, option) in [
            (vec![(ERROR_STRATEGY, "dlq")], ERROR_STRATEGY),
            (vec![(ERROR_FALLBACK, "drop")], ERROR_FALLBACK),
            (vec![(ATTEMPTS_MAX, "3")], ATTEMPTS_MAX),
            (vec![letters, (OUTBOX_DEAD_LETTER, "Other")], ERROR_LETTERS),
        ] {
            assert_eq!(of(&wrong).unwrap_err().option, option, "{wrong:?}");
        }
    }
}
