//! What is counted, as it is published, and what of it tells how the node does.
//!
//! Counters are those of the daemon's life and begin with 0 at its start, but for those of an
//! outbox, which go on over restarts. What is a gauge says how much there is now.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::clock;
use crate::daemon::{View, bytes_free};
use crate::event::Timestamp;
use crate::observe::OutboxMetrics;
use crate::source::Dropped;
use crate::sql::plan::{StreamId, Target};

/// The fewest inputs of which a part can be told.
const RATIO_INPUTS_MIN: u64 = 20;

/// What the process takes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it that is in memory, pages of files included.
    pub rss_bytes: u64,
    /// What is of no file.
    pub anon_bytes: u64,
}

impl Memory {
    /// As the kernel says; zeros where it does not.
    #[must_use]
    pub fn now() -> Memory {
        let status = std::fs::read_to_string("/proc/self/status");
        Memory::of_status(&status.unwrap_or_default())
    }

    fn of_status(status: &str) -> Memory {
        let bytes = |name: &str| {
            let mut lines = status.lines();
            let text = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = text?.trim().strip_suffix("kB")?.trim().parse::<u64>();
            Some(number.ok()?.saturating_mul(1024))
        };
        Memory {
            rss_bytes: bytes("VmRSS").unwrap_or(0),
            anon_bytes: bytes("RssAnon").unwrap_or(0),
        }
    }
}

/// What is not counted but found when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The wall clock.
    pub ts: Timestamp,
    /// How long the daemon runs.
    pub uptime: Duration,
    /// Memory of the process.
    pub memory: Memory,
    /// The bytes that are free on the disk with the store; none: the file system does not say.
    pub free_bytes: Option<u64>,
}

impl Facts {
    /// As it is now.
    #[must_use]
    pub fn now(uptime: Duration, store: &Path) -> Facts {
        Facts {
            ts: clock::wall(),
            uptime,
            memory: Memory::now(),
            free_bytes: bytes_free(store),
        }
    }
}

/// Everything that is counted.
#[must_use]
pub fn metrics(view: &View, facts: &Facts) -> Value {
    let counted = &view.counted;
    let sources = counted.sources.iter().map(|(name, metrics)| {
        let mut one = members(metrics.all());
        one.insert("connected".to_owned(), view.is_source_open(name).into());
        (name.clone(), Value::Object(one))
    });
    let sinks = counted.sinks.iter().map(|(name, metrics)| {
        let mut one = members(metrics.all());
        one.insert("connected".to_owned(), view.is_sink_open(name).into());
        (name.clone(), Value::Object(one))
    });
    let outboxes = counted.outboxes.iter().map(|(name, metrics)| {
        let mut one = members(metrics.all());
        let oldest_s = oldest_s(metrics, facts.ts);
        one.insert("oldest_s".to_owned(), oldest_s.into());
        (name.clone(), Value::Object(one))
    });
    let pipeline = &counted.pipeline;
    let store_bytes = pipeline.store_bytes.load(Ordering::Relaxed);
    let reporter = &pipeline.reporter;
    json!({
        "v": 1,
        "ts": facts.ts.utc(),
        "pipeline": members(pipeline.all()),
        "sources": sources.collect::<Map<_, _>>(),
        "sinks": sinks.collect::<Map<_, _>>(),
        "outboxes": outboxes.collect::<Map<_, _>>(),
        "reports": { "dropped": reporter.dropped(), "unheard": reporter.unheard() },
        "memory": {
            "rss_bytes": facts.memory.rss_bytes,
            "anon_bytes": facts.memory.anon_bytes,
        },
        "store": { "bytes": store_bytes, "free_bytes": facts.free_bytes },
        "uptime_s": facts.uptime.as_secs(),
    })
}

fn members(counters: impl Iterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    counters
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect()
}

/// How long the oldest output waits; 0 when none does.
fn oldest_s(outbox: &OutboxMetrics, now: Timestamp) -> u64 {
    outbox.oldest_age_ms(now) / 1_000
}

/// What waits for all sinks together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes.
    pub bytes: u64,
    /// How long the oldest output waits; 0 when none does.
    pub oldest_s: u64,
}

/// What waits for all sinks together.
#[must_use]
pub fn outbox_summary(view: &View) -> Summary {
    let now = clock::wall();
    let mut summary = Summary::default();
    for (_, outbox) in &view.counted.outboxes {
        summary.bytes += outbox.waiting_bytes.load(Ordering::Relaxed);
        summary.oldest_s = summary.oldest_s.max(oldest_s(outbox, now));
    }
    summary
}

/// Whether the clock can be relied on for when something is to happen.
#[must_use]
pub fn is_clock_synchronised(view: Option<&View>) -> bool {
    let log_ms = view.map(|view| view.counted.pipeline.log_ms.load(Ordering::Relaxed));
    let last = log_ms.and_then(|ms| i64::try_from(ms).ok());
    clock::is_synchronised(last.map_or(Timestamp::MIN, Timestamp))
}

/// How many queries do what they should, and how many do not: those that read a source, or write a
/// sink, which has ended for good.
#[must_use]
pub fn queries(view: &View) -> (usize, usize) {
    let application = &view.application;
    let stations = view.sources.iter().chain(&view.sinks);
    let ended = stations.filter(|(_, station)| !station.is_at_work());
    let ended: BTreeSet<StreamId> = ended
        .filter_map(|(name, _)| Some(application.stream_named(name)?.0))
        .collect();
    let failed = application.queries.iter().filter(|query| {
        let reads = query.input.streams().into_iter();
        let mut reads = reads.map(|input| input.stream);
        let writes = match query.target {
            Target::Stream(stream) => Some(stream),
            Target::Table { .. } => None,
        };
        reads.any(|stream| ended.contains(&stream))
            || writes.is_some_and(|stream| ended.contains(&stream))
    });
    let failed = failed.count();
    (application.queries.len() - failed, failed)
}

/// How the node does now.
#[must_use]
pub fn sample(view: &View) -> Sample {
    Sample::of(view, Memory::now())
}

/// How the node does at one moment, to be compared with how it does later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Inputs: rows, and messages that could not be decoded.
    pub inputs: u64,
    /// What failed of it: messages that could not be decoded, or that a source gave up since the
    /// connection or file ended in the middle of them; expressions that could not be computed.
    pub errors: u64,
    /// Outputs that their far sides will never take.
    pub refused: u64,
    /// The store's failures.
    pub store_failures: u64,
    /// Memory of the process.
    pub rss_bytes: u64,
    /// What of that is of no file.
    pub anon_bytes: u64,
}

impl Sample {
    /// What has come of everything so far.
    #[must_use]
    pub fn of(view: &View, memory: Memory) -> Sample {
        let counted = &view.counted;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sources = counted.sources.iter();
        let incomplete = sources.map(|(_, source)| source.dropped(Dropped::Incomplete));
        let incomplete: u64 = incomplete.sum();
        let pipeline = &counted.pipeline;
        let failed = count(&pipeline.rejected) + incomplete;
        Sample {
            inputs: count(&pipeline.rows) + failed,
            errors: count(&pipeline.faults) + failed,
            refused: counted
                .sinks
                .iter()
                .map(|(_, sink)| count(&sink.refused))
                .sum(),
            store_failures: count(&pipeline.store_failures),
            rss_bytes: memory.rss_bytes,
            anon_bytes: memory.anon_bytes,
        }
    }

    /// The part of the input since `earlier` that failed, 0 to 1; none when there was too little.
    #[must_use]
    pub fn ratio_since(&self, earlier: &Sample) -> Option<f64> {
        let inputs = self.inputs.saturating_sub(earlier.inputs);
        let errors = self.errors.saturating_sub(earlier.errors).min(inputs);
        if inputs < RATIO_INPUTS_MIN {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a part is told, not a count")]
        let (errors, inputs) = (errors as f64, inputs as f64);
        Some(errors / inputs)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::observe::Counted;
    use crate::{sink, source};

    const NOW: Timestamp = Timestamp(1_795_262_400_000);

    /// Of a daemon without sources and sinks, as far as it is asked.
    fn view(counted: Counted) -> View {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("eventflux.toml");
        std::fs::write(&file, "# as built in").unwrap();
        let prepared = crate::daemon::prepare_all(&[file], &|_: &str| None).unwrap();
        View {
            settings: Arc::new(prepared.settings),
            application: prepared.application,
            counted,
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            commands: crossbeam::channel::bounded(1).0,
            veil: Arc::default(),
        }
    }

    fn set(counter: &AtomicU64, count: u64) {
        counter.store(count, Ordering::Relaxed);
    }

    fn counted() -> Counted {
        let counted = Counted {
            sources: vec![("In".to_owned(), Arc::<source::Metrics>::default())],
            sinks: vec![("Out".to_owned(), Arc::<sink::Metrics>::default())],
            outboxes: ["Out", "Other"]
                .map(|name| (name.to_owned(), Arc::<OutboxMetrics>::default()))
                .into(),
            ..Counted::default()
        };
        set(&counted.pipeline.rows, 90);
        set(&counted.pipeline.rejected, 10);
        set(&counted.pipeline.faults, 5);
        set(&counted.pipeline.store_bytes, 4_096);
        set(&counted.sinks[0].1.delivered, 80);
        set(&counted.sinks[0].1.refused, 2);
        for ((_, outbox), (waiting, ms)) in counted.outboxes.iter().zip([(3, 61_500), (0, 9)]) {
            set(&outbox.waiting, waiting);
            set(&outbox.waiting_bytes, 1_000);
            outbox
                .oldest_ms
                .store(NOW.0 - i64::from(ms), Ordering::Relaxed);
        }
        counted
    }

    #[test]
    fn all_that_is_counted_is_published() {
        let facts = Facts {
            ts: NOW,
            uptime: Duration::from_millis(12_999),
            memory: Memory {
                rss_bytes: 20_000_000,
                anon_bytes: 10_000_000,
            },
            free_bytes: Some(1 << 30),
        };
        let view = view(counted());
        let shown = metrics(&view, &facts);
        assert_eq!(
            (&shown["v"], &shown["ts"]),
            (&json!(1), &json!("2026-11-21T12:00:00.000Z"))
        );
        assert_eq!(shown["pipeline"]["rows"], 90);
        assert_eq!(
            shown["pipeline"].as_object().unwrap().len(),
            view.counted.pipeline.all().count()
        );
        assert_eq!(shown["sources"]["In"]["connected"], false);
        assert_eq!(shown["sources"]["In"]["received"], 0);
        assert_eq!(shown["sinks"]["Out"]["delivered"], 80);
        assert_eq!(
            shown["sinks"]["Out"]["connected"],
            Value::Null,
            "it has not tried yet"
        );
        assert_eq!(shown["outboxes"]["Out"]["waiting"], 3);
        assert_eq!(shown["outboxes"]["Out"]["oldest_s"], 61);
        assert_eq!(
            shown["outboxes"]["Other"]["oldest_s"], 0,
            "nothing waits there"
        );
        assert_eq!(shown["reports"], json!({"dropped": 0, "unheard": 0}));
        let memory = json!({"rss_bytes": 20_000_000, "anon_bytes": 10_000_000});
        assert_eq!(shown["memory"], memory);
        assert_eq!(
            shown["store"],
            json!({"bytes": 4_096, "free_bytes": 1 << 30})
        );
        assert_eq!(shown["uptime_s"], 12);
        assert_eq!(outbox_summary(&view).bytes, 2_000);
        assert_eq!(queries(&view), (0, 0));
    }

    #[test]
    fn the_part_that_failed_is_told_of_enough_input() {
        let view = view(counted());
        let before = Sample::of(&view, Memory::default());
        assert_eq!((before.inputs, before.errors, before.refused), (100, 15, 2));
        let pipeline = &view.counted.pipeline;
        set(&pipeline.rows, 108);
        set(&pipeline.rejected, 11);
        let soon = Sample::of(&view, Memory::default());
        assert_eq!(soon.ratio_since(&before), None, "19 inputs say nothing");
        set(&pipeline.faults, 9);
        set(&pipeline.rows, 109);
        let later = Sample::of(&view, Memory::default());
        assert_eq!(later.ratio_since(&before), Some(0.25));
        // Several expressions of a row can fail.
        set(&pipeline.faults, 1_000);
        let last = Sample::of(&view, Memory::default());
        assert_eq!(last.ratio_since(&before), Some(1.0));
        let wide = |inputs, errors| Sample {
            inputs,
            errors,
            ..Sample::default()
        };
        let none = Sample::default();
        assert_eq!(wide(1 << 40, 1 << 38).ratio_since(&none), Some(0.25));
        assert_eq!(wide(u64::MAX, u64::MAX).ratio_since(&none), Some(1.0));
        assert_eq!(wide(u64::MAX, 0).ratio_since(&none), Some(0.0));
    }

    #[test]
    fn memory_is_what_the_kernel_says() {
        let status = "Name:\teventflux\nVmHWM:\t  900 kB\nVmRSS:\t  512 kB\nRssAnon:\t 100 kB\n";
        let expected = Memory {
            rss_bytes: 512 << 10,
            anon_bytes: 100 << 10,
        };
        assert_eq!(Memory::of_status(status), expected);
        for other in ["", "VmRSS: 5 MB\n", "VmRSS: many kB\n", "VmRSS:"] {
            assert_eq!(Memory::of_status(other), Memory::default(), "{other:?}");
        }
        let own = Memory::now();
        assert!(
            own.anon_bytes > 0 && own.rss_bytes >= own.anon_bytes,
            "{own:?}"
        );
    }
}
