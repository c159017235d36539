//! Whether a configuration that is being tried out does what it should: no worse than what was
//! there before it, and within its limits.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::metrics::{self, Sample};
use crate::allocator;
use crate::config::format_bytes;
use crate::daemon::{Reloaded, View};

/// For how long more memory than is allowed may be in use: to go over to a configuration takes more
/// than to have it.
const LARGE_MAX: Duration = Duration::from_secs(2);
/// So much more memory may be in use where it was more than is allowed already.
const GROWTH_BYTES_MAX: u64 = 4 << 20;
/// The fewest outputs of which a part can be told.
const OUTPUTS_MIN: u64 = 20;
/// Sinks that connect also when there is nothing to deliver.
const EAGER: &str = "mqtt";

/// How things were before the switch, and what it changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline {
    sample: Sample,
    was_degraded: bool,
    /// Since when more is in use than is allowed now.
    large_since: Cell<Option<Instant>>,
    /// What sinks had counted.
    sinks: BTreeMap<String, Outputs>,
    /// Sources and sinks that had failed.
    failed: BTreeSet<String>,
    /// Sources and sinks that had their far side.
    open: BTreeSet<String>,
    /// Sources and sinks that began anew.
    restarted: BTreeSet<String>,
}

impl Baseline {
    /// How things are now.
    pub(super) fn new(view: &View) -> Baseline {
        // What was freed and kept would else be allowed to be filled again.
        allocator::give_back();
        let sources = view.sources.keys();
        let sources = sources.filter(|name| view.is_source_open(name));
        let sinks = view.sinks.keys();
        let sinks = sinks.filter(|name| view.is_sink_open(name) == Some(true));
        let stations = view.sources.iter().chain(&view.sinks);
        let failed = stations.filter(|(_, station)| !station.is_at_work());
        let sample = metrics::sample(view);
        Baseline {
            large_since: Cell::new(None),
            sinks: outputs(view),
            failed: failed.map(|(name, _)| name.clone()).collect(),
            sample,
            was_degraded: view.counted.pipeline.health.degraded().is_some(),
            open: sources.chain(sinks).cloned().collect(),
            restarted: BTreeSet::new(),
        }
    }

    /// What the switch has changed.
    pub(super) fn switched(&mut self, reloaded: &Reloaded) {
        let parts = [&reloaded.sources, &reloaded.sinks];
        let restarted = parts.into_iter().flat_map(|parts| &parts.restarted);
        self.restarted = restarted.cloned().collect();
    }

    /// Whether it was there before and had to begin anew: then it is to be there again.
    fn is_missed(&self, name: &str) -> bool {
        self.open.contains(name) && self.restarted.contains(name)
    }

    /// What will not mend itself: nothing needs to be waited for.
    pub(super) fn hopeless(&self, view: &View) -> Vec<String> {
        let mut why = Vec::new();
        let stations = view.sources.iter().chain(&view.sinks);
        let failed = stations.filter(|(_, station)| !station.is_at_work());
        for (name, _) in failed.filter(|(name, _)| !self.failed.contains(*name)) {
            why.push(format!("'{name}' has failed"));
        }
        if let Some(excess) = self.excess(view) {
            let since = self.large_since.get().unwrap_or_else(Instant::now);
            self.large_since.set(Some(since));
            why.extend((since.elapsed() >= LARGE_MAX).then_some(excess));
        } else {
            self.large_since.set(None);
        }
        why
    }

    /// That more memory is in use than is allowed. Pages of files do not count: they are the
    /// program and what it reads, and the kernel takes them back when it needs them.
    fn excess(&self, view: &View) -> Option<String> {
        let memory_max = view.settings.limits.memory_max?;
        // What was in use before is not the fault of what came then.
        let before = self.sample.anon_bytes;
        let allowed = match before > memory_max {
            true => before.saturating_add(GROWTH_BYTES_MAX),
            false => memory_max,
        };
        let mut used = metrics::sample(view).anon_bytes;
        if used > allowed {
            allocator::give_back();
            used = metrics::sample(view).anon_bytes;
        }
        let shown = |bytes: u64| format_bytes(i64::try_from(bytes).unwrap_or(i64::MAX));
        (used > allowed).then(|| {
            format!(
                "{} of memory are in use, and limits.memory_max is {}",
                shown(used),
                shown(memory_max)
            )
        })
    }

    /// All that is wrong.
    pub(super) fn judge(&self, view: &View, error_ratio_max: f64) -> Vec<String> {
        // What is there at the end is what stays.
        self.large_since.set(None);
        let mut why = self.hopeless(view);
        why.extend(self.excess(view));
        for (name, station) in &view.sources {
            let required = match station.options.layer("required") {
                Some(_) => station.options.flag("required"),
                None => self.is_missed(name),
            };
            if required && station.is_at_work() && !view.is_source_open(name) {
                why.push(format!("the source '{name}' is not open"));
            }
        }
        for name in view.sinks.keys() {
            if self.is_missed(name) && !self.is_reached(view, name) {
                why.push(format!(
                    "the sink '{name}' does not reach its far side any more"
                ));
            }
        }
        let now = metrics::sample(view);
        if let Some(ratio) = now.ratio_since(&self.sample) {
            let before = self.sample.ratio_since(&Sample::default()).unwrap_or(0.0);
            if ratio > error_ratio_max.max(before) {
                let percent = ratio * 100.0;
                why.push(format!("{percent:.0} % of the input could not be worked"));
            }
        }
        why.extend(self.refused(view, error_ratio_max));
        if let (Some(degraded), false) =
            (view.counted.pipeline.health.degraded(), self.was_degraded)
        {
            why.push(format!("{}: {}", degraded.trouble.word(), degraded.why));
        }
        why
    }

    /// Whether a sink that has begun anew reaches its far side, as far as it has tried. One that
    /// has nothing to deliver need not have.
    fn is_reached(&self, view: &View, name: &str) -> bool {
        let tries = |outputs: Option<&Outputs>| outputs.map_or(0, |outputs| outputs.tries);
        let has_tried = tries(outputs(view).get(name)) > tries(self.sinks.get(name));
        if has_tried {
            return view.is_sink_open(name) != Some(false);
        }
        view.sinks
            .get(name)
            .is_none_or(|station| station.extension != EAGER)
    }

    /// Sinks of whose outputs too many are refused, more than before.
    fn refused(&self, view: &View, ratio_max: f64) -> Vec<String> {
        let now = outputs(view);
        let sinks = view.sinks.keys().filter_map(|name| {
            let before = self.sinks.get(name).copied().unwrap_or_default();
            let ratio = now.get(name)?.refused_since(before)?;
            let known = before.refused_since(Outputs::default()).unwrap_or(0.0);
            let percent = ratio * 100.0;
            (ratio > ratio_max.max(known))
                .then(|| format!("{percent:.0} % of what the sink '{name}' sends is refused"))
        });
        sinks.collect()
    }
}

/// What a sink has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outputs {
    delivered: u64,
    refused: u64,
    /// Connections made and lost.
    tries: u64,
}

impl Outputs {
    /// The part of what was sent since `earlier` that was refused, 0 to 1; none when it was too
    /// little.
    fn refused_since(self, earlier: Outputs) -> Option<f64> {
        let refused = self.refused.saturating_sub(earlier.refused);
        let delivered = self.delivered.saturating_sub(earlier.delivered);
        let all = refused.saturating_add(delivered);
        if all < OUTPUTS_MIN {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a part is told, not a count")]
        let ratio = refused as f64 / all as f64;
        Some(ratio)
    }
}

fn outputs(view: &View) -> BTreeMap<String, Outputs> {
    let sinks = view.counted.sinks.iter().map(|(name, metrics)| {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let outputs = Outputs {
            delivered: count(&metrics.delivered),
            refused: count(&metrics.refused),
            tries: count(&metrics.connects) + count(&metrics.disconnects),
        };
        (name.clone(), outputs)
    });
    sinks.collect()
}
