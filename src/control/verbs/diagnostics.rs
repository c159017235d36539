//! `diagnostics`: all that somebody far away may want to know, in one answer. What is set is shown
//! by the listing that knows what is a secret; what is set for streams is not shown at all.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{outbox, shown};
use crate::daemon::{Station, View};

/// Keys that bound something begin so.
const LIMITS: [&str; 6] = [
    "store.",
    "checkpoint.",
    "outbox.",
    "turn.",
    "limits.",
    "clock.",
];

/// What is known of the process.
pub(super) fn process() -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    // The kernel says kB and means KiB.
    let bytes = |name: &str| field(name).map(|kib| kib.saturating_mul(1_024));
    json!({
        "memory": {
            "resident_bytes": bytes("VmRSS"),
            "anonymous_bytes": bytes("RssAnon"),
            "resident_bytes_max": bytes("VmHWM"),
        },
        "threads": field("Threads"),
    })
}

/// What is known of what runs.
pub(super) fn running(view: &View) -> Map<String, Value> {
    let counted = &view.counted;
    let pipeline: BTreeMap<&str, u64> = counted.pipeline.all().collect();
    let health = counted.pipeline.health.degraded().map(|degraded| {
        json!({
            "trouble": degraded.trouble.word(),
            "why": degraded.why,
            "for_s": degraded.since.elapsed().as_secs(),
        })
    });
    let settings = &view.settings;
    let limits = shown::settings(settings, &[]);
    let limits = limits.into_iter().filter(|value| {
        let name = value["name"].as_str().unwrap_or_default();
        LIMITS.iter().any(|prefix| name.starts_with(prefix))
    });
    let application = &view.application;
    let parts = [
        (
            "store",
            json!({
                "path": settings.store.path,
                "bytes": pipeline.get("store_bytes"),
                "free_bytes": view.bytes_free(),
            }),
        ),
        ("health", json!({ "degraded": health })),
        ("pipeline", json!(pipeline)),
        ("sources", stations(&view.sources, &sources(view))),
        ("sinks", stations(&view.sinks, &sinks(view))),
        ("outboxes", Value::Object(outbox::sinks(view))),
        (
            "application",
            json!({
                "name": settings.application.name,
                "streams": application.streams.len(),
                "tables": application.tables.len(),
                "queries": application.queries.len(),
            }),
        ),
        ("limits", limits.collect()),
    ];
    parts
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// What a source or a sink counts, by name, and whether it has its far side.
type Counts = BTreeMap<String, (BTreeMap<&'static str, u64>, Option<bool>)>;

fn sources(view: &View) -> Counts {
    let all = view.counted.sources.iter();
    let all = all.map(|(name, metrics)| {
        let counts = metrics.all().collect();
        (name.clone(), (counts, Some(view.is_source_open(name))))
    });
    all.collect()
}

fn sinks(view: &View) -> Counts {
    let all = view.counted.sinks.iter();
    let all = all.map(|(name, metrics)| {
        let counts = metrics.all().collect();
        (name.clone(), (counts, view.is_sink_open(name)))
    });
    all.collect()
}

fn stations(stations: &BTreeMap<String, Station>, counts: &Counts) -> Value {
    let all = stations.iter().map(|(name, station)| {
        let (counts, connected) = counts.get(name).cloned().unwrap_or_default();
        let one = json!({
            "connector": station.extension,
            "at_work": station.is_at_work(),
            "connected": connected,
            "counts": counts,
        });
        (name.clone(), one)
    });
    Value::Object(all.collect())
}
