//! What is shown to whoever asks, in the forms of the contract, and never a secret.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::config::{self, ListedValue, Settings, options::Options};
use crate::daemon::{Prepared, Station, View};
use crate::sql::Application;

/// The most values that a difference names.
const VALUES_MAX: usize = 200;

/// Every value in force but the connection of `[control]`, as `config list` shows it: secrets are
/// `null`.
#[must_use]
pub fn settings(settings: &Settings, streams: &[(&str, &Options)]) -> Vec<Value> {
    let listed = config::list(settings, streams, &Options::default());
    listed.iter().map(ListedValue::json).collect()
}

/// What another configuration would make different, but for the connection of `[control]`: values,
/// of which a secret shows only that it is another one, and what happens to sources, sinks and
/// queries. A query that is in both keeps its state.
#[must_use]
pub fn difference(running: &View, wanted: &Prepared) -> Value {
    let before = Side {
        settings: &running.settings,
        sources: stations(&running.sources),
        sinks: stations(&running.sinks),
    };
    let after = Side {
        settings: &wanted.settings,
        sources: wanted
            .sources
            .iter()
            .map(|one| (one.name.as_str(), &one.options))
            .collect(),
        sinks: wanted
            .sinks
            .iter()
            .map(|one| (one.name.as_str(), &one.options))
            .collect(),
    };
    let mut values = values(&before, &after);
    let more = values.len().saturating_sub(VALUES_MAX);
    values.truncate(VALUES_MAX);
    let values = running.veil.value(wanted.without_variables(values.into()));
    json!({
        "values": values,
        "values_left_out": more,
        "sources": parts(&before.sources, &after.sources),
        "sinks": parts(&before.sinks, &after.sinks),
        "queries": queries(&running.application, &wanted.application),
    })
}

/// One of two configurations.
struct Side<'a> {
    settings: &'a Settings,
    sources: BTreeMap<&'a str, &'a Options>,
    sinks: BTreeMap<&'a str, &'a Options>,
}

impl Side<'_> {
    fn listed(&self) -> BTreeMap<String, ListedValue> {
        let streams = self.sources.iter().chain(&self.sinks);
        let streams: Vec<(&str, &Options)> = streams.map(|(name, one)| (*name, *one)).collect();
        let listed = config::list(self.settings, &streams, &Options::default());
        listed
            .into_iter()
            .map(|value| (value.name.clone(), value))
            .collect()
    }

    fn options(&self, stream: &str) -> Option<&Options> {
        let known = self.sources.get(stream).or_else(|| self.sinks.get(stream));
        known.copied()
    }

    /// A value of a stream, secret or not.
    fn raw(&self, name: &str) -> Option<&config::options::OptionValue> {
        let (stream, option) = name.strip_prefix("streams.")?.split_once('.')?;
        self.options(stream)?.value(option)
    }
}

fn stations(stations: &BTreeMap<String, Station>) -> BTreeMap<&str, &Options> {
    let all = stations.iter();
    all.map(|(name, one)| (name.as_str(), &one.options))
        .collect()
}

fn values(before: &Side<'_>, after: &Side<'_>) -> Vec<Value> {
    let (old, new) = (before.listed(), after.listed());
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let different = names.into_iter().filter_map(|name| {
        let (old, new) = (old.get(name), new.get(name));
        let shown = |value: Option<&ListedValue>| value.map(|value| value.value_shown.clone());
        if shown(old) == shown(new) && before.raw(name) == after.raw(name) {
            return None;
        }
        let value = |value: Option<&ListedValue>| value.map(|value| value.value.clone());
        let mut both = old.into_iter().chain(new);
        let is_secret = both.any(|one| one.json().get("secret") == Some(&true.into()));
        Some(json!({
            "name": name,
            "before": value(old),
            "after": value(new),
            "secret": is_secret,
        }))
    });
    different.collect()
}

fn parts(before: &BTreeMap<&str, &Options>, after: &BTreeMap<&str, &Options>) -> Value {
    let added = after.keys().filter(|name| !before.contains_key(*name));
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    let both = before
        .iter()
        .filter_map(|(name, old)| Some((name, old, after.get(name)?)));
    let (changed, kept): (Vec<_>, Vec<_>) = both.partition(|(_, old, new)| old != new);
    json!({
        "added": added.collect::<Vec<_>>(),
        "removed": removed.collect::<Vec<_>>(),
        "changed": changed.iter().map(|(name, ..)| name).collect::<Vec<_>>(),
        "kept": kept.len(),
    })
}

fn queries(before: &Application, after: &Application) -> Value {
    // Of queries that are alike there may be several.
    let counted = |application: &Application| {
        let mut counts: BTreeMap<u64, (String, usize)> = BTreeMap::new();
        for query in &application.queries {
            let target = application.target_name(query).to_owned();
            let print = query.fingerprint(application);
            counts.entry(print).or_insert((target, 0)).1 += 1;
        }
        counts
    };
    let (old, new) = (counted(before), counted(after));
    let count = |all: &BTreeMap<u64, (String, usize)>, print: u64| {
        all.get(&print).map_or(0, |(_, count)| *count)
    };
    let without = |these: &BTreeMap<u64, (String, usize)>,
                   those: &BTreeMap<u64, (String, usize)>| {
        let mut targets: Vec<String> = Vec::new();
        for (print, (target, some)) in these {
            let more = some.saturating_sub(count(those, *print));
            targets.extend(std::iter::repeat_n(target.clone(), more));
        }
        targets
    };
    let kept = old
        .iter()
        .map(|(print, (_, some))| (*some).min(count(&new, *print)));
    json!({
        "added": without(&new, &old),
        "removed": without(&old, &new),
        "kept": kept.sum::<usize>(),
    })
}
