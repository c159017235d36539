//! `outbox.status`, `outbox.pause`, `outbox.resume` and `outbox.purge`.

use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::args::{Args, fault};
use super::errands;
use crate::clock;
use crate::control::{Code, Fault};
use crate::daemon::View;
use crate::diagnostic::did_you_mean;
use crate::pipeline::Errand;

/// What waits for each sink, and what has become of the rest.
pub(super) fn status(view: &View) -> Value {
    json!({ "sinks": sinks(view) })
}

/// The same, by name.
pub(super) fn sinks(view: &View) -> Map<String, Value> {
    let now = clock::wall();
    let sinks = view.sinks.keys().filter_map(|name| {
        let (_, outbox) = view.counted.outboxes.iter().find(|(of, _)| of == name)?;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let one = json!({
            "waiting": count(&outbox.waiting),
            "bytes": count(&outbox.waiting_bytes),
            "oldest_s": outbox.oldest_age_ms(now) / 1_000,
            "connected": view.is_sink_open(name).unwrap_or(false),
            "paused": outbox.paused.load(Ordering::Relaxed),
            "delivered": count(&outbox.confirmed),
            "given_up": {
                "dropped": count(&outbox.dropped),
                "expired": count(&outbox.expired),
                "refused": count(&outbox.refused),
                "purged": count(&outbox.purged),
                "damaged_groups": count(&outbox.damaged),
            },
            "dead_letters": count(&outbox.letters),
        });
        Some((name.clone(), one))
    });
    sinks.collect()
}

/// Has a sink be given nothing for now, or what waits again.
pub(super) fn pause(view: &View, args: &Args<'_>, paused: bool) -> Result<Value, Fault> {
    let sink = sink(view, args)?;
    let errand = |answer| Errand::Pause {
        sink: sink.to_owned(),
        paused,
        answer,
    };
    errands::run(&view.commands, errands::SOON, errand)?;
    match paused {
        true => tracing::warn!("sink {sink} is paused, as was requested; what it is for waits"),
        false => tracing::info!("sink {sink} goes on, as was requested"),
    }
    Ok(json!({ "sink": sink, "paused": paused }))
}

/// Gives up what waits for a sink.
pub(super) fn purge(view: &View, args: &Args<'_>) -> Result<Value, Fault> {
    let sink = sink(view, args)?;
    if args.text("confirm")? != sink {
        return Err(fault("'confirm' must be the name of the sink"));
    }
    let errand = |answer| Errand::Purge {
        sink: sink.to_owned(),
        answer,
    };
    let purged = errands::run(&view.commands, errands::DURABLE, errand)?;
    tracing::warn!("{purged} outputs that waited for {sink} are purged, as was requested");
    Ok(json!({ "sink": sink, "purged": purged }))
}

fn sink<'a>(view: &View, args: &Args<'a>) -> Result<&'a str, Fault> {
    let name = args.text("sink")?;
    if view.sinks.contains_key(name) {
        return Ok(name);
    }
    let hint = did_you_mean(name, view.sinks.keys().map(String::as_str));
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    let message = format!("there is no sink '{name}'{hint}");
    Err(Fault::new(Code::NotFound, message))
}
