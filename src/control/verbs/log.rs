//! `log.level`.

use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Args, fault};
use crate::control::{Code, Fault};
use crate::logging::{LevelFault, LogControl, OWN_TARGET};

/// The longest that a level may be set for, in seconds: a week.
const FOR_S_MAX: u64 = 7 * 86_400;

/// Sets the level of a target; with `for_s` it goes back by itself. What is set then.
pub(super) fn level(log: &LogControl, args: &Args<'_>) -> Result<Value, Fault> {
    let target = args.text_if("target")?.unwrap_or(OWN_TARGET);
    let level = args.text("level")?;
    let within = args.number_if("for_s", 1..=FOR_S_MAX)?;
    let within = within.map(Duration::from_secs);
    log.set(target, level, within)
        .map_err(|error| match error {
            LevelFault::Level | LevelFault::Target => fault(error.to_string()),
            LevelFault::Full => Fault::new(Code::Busy, error.to_string()),
            LevelFault::Start { .. } => Fault::new(Code::Failed, error.to_string()),
        })?;
    let until = within.map_or("until the daemon ends".to_owned(), |span| {
        format!("for {} s", span.as_secs())
    });
    tracing::info!("the log's level of {target} is {level} {until}, as was requested");
    Ok(shown(log))
}

/// The configured level, and what is set besides.
pub(super) fn shown(log: &LogControl) -> Value {
    let set = log.all_set().into_iter().map(|(target, level, left)| {
        json!({
            "target": target,
            "level": level,
            "left_s": left.map(|left| left.as_secs()),
        })
    });
    json!({ "level": log.configured(), "set": set.collect::<Vec<_>>() })
}
