//! What another configuration changes: what is added, removed, begun anew and kept.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::options::Options;
use crate::daemon::{Parts, Prepared, Reloaded, View};
use crate::source::REQUIRED;
use crate::sql::Application;

/// Names of what is not the same as before, and how many are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    added: Vec<String>,
    removed: Vec<String>,
    restarted: Vec<String>,
    kept: usize,
}

impl Changes {
    /// All `parts` of a configuration go on.
    pub(super) fn none(parts: usize) -> Changes {
        Changes {
            kept: parts,
            ..Changes::default()
        }
    }

    /// What the daemon has done.
    pub(super) fn done(reloaded: &Reloaded, before: &Application, now: &Application) -> Changes {
        let mut changes = Changes::default();
        for parts in [&reloaded.sources, &reloaded.sinks] {
            changes.take(parts);
        }
        changes.take_queries(before, now);
        changes
    }

    /// What it would do.
    pub(super) fn expected(view: &View, prepared: &Prepared) -> Changes {
        let mut changes = Changes::default();
        let sources = prepared.sources.iter();
        let sources = sources.map(|one| (&one.name, (one.extension(), &one.options)));
        let sinks = prepared.sinks.iter();
        let sinks = sinks.map(|one| (&one.name, (one.extension(), &one.options)));
        for (next, known) in [
            (sources.collect::<BTreeMap<_, _>>(), &view.sources),
            (sinks.collect(), &view.sinks),
        ] {
            let mut parts = Parts::default();
            for (name, (extension, options)) in &next {
                let list = match known.get(*name) {
                    None => &mut parts.added,
                    Some(one) if one.extension == *extension && is_same(&one.options, options) => {
                        &mut parts.kept
                    }
                    Some(_) => &mut parts.restarted,
                };
                list.push((*name).clone());
            }
            let gone = known.keys().filter(|name| !next.contains_key(name));
            parts.removed.extend(gone.cloned());
            changes.take(&parts);
        }
        changes.take_queries(&view.application, &prepared.application);
        changes
    }

    fn take(&mut self, parts: &Parts) {
        self.added.extend(parts.added.iter().cloned());
        self.removed.extend(parts.removed.iter().cloned());
        self.restarted.extend(parts.restarted.iter().cloned());
        self.kept += parts.kept.len();
    }

    /// Queries have no names, and are called by what they write to: one that is gone and another
    /// one that came in its place are one that began anew.
    fn take_queries(&mut self, before: &Application, now: &Application) {
        let mut known: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for query in &before.queries {
            let fingerprint = query.fingerprint(before);
            let name = before.target_name(query).to_owned();
            known.entry(fingerprint).or_default().push(name);
        }
        let mut others = Vec::new();
        for query in &now.queries {
            let same = known.get_mut(&query.fingerprint(now));
            match same.and_then(Vec::pop) {
                Some(_) => self.kept += 1,
                None => others.push(now.target_name(query)),
            }
        }
        let mut gone: Vec<String> = known.into_values().flatten().collect();
        for name in others {
            let list = match gone.iter().position(|other| other == name) {
                None => &mut self.added,
                Some(at) => {
                    gone.swap_remove(at);
                    &mut self.restarted
                }
            };
            list.push(format!("query {name}"));
        }
        let gone = gone.into_iter().map(|name| format!("query {name}"));
        self.removed.extend(gone);
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "added": self.added,
            "removed": self.removed,
            "restarted": self.restarted,
            "kept": self.kept,
        })
    }
}

/// Whether a connector need not give way.
fn is_same(before: &Options, now: &Options) -> bool {
    before.without(REQUIRED) == now.without(REQUIRED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{SqlText, compile};

    fn application(queries: &[&str]) -> Application {
        let streams = "CREATE STREAM A (n BIGINT);\nCREATE STREAM B (n BIGINT);\n\
             CREATE STREAM C (n BIGINT);\n";
        let text = SqlText {
            path: "test.sql".to_owned(),
            text: streams.to_owned() + &queries.join("\n"),
        };
        compile(&[text]).unwrap()
    }

    #[test]
    fn a_query_that_another_one_replaces_begins_anew() {
        let (one, two) = (
            "INSERT INTO B SELECT n FROM A WHERE n > 1;",
            "INSERT INTO B SELECT n FROM A WHERE n > 2;",
        );
        let other = "INSERT INTO C SELECT n FROM A;";
        let all = |lists: [&[&str]; 3], kept| {
            let lists = lists.map(|list| list.iter().map(|name| format!("query {name}")).collect());
            let [added, removed, restarted] = lists;
            Changes {
                added,
                removed,
                restarted,
                kept,
            }
        };
        let table = [
            (vec![one], vec![one], all([&[], &[], &[]], 1)),
            (vec![one], vec![two], all([&[], &[], &["B"]], 0)),
            (vec![one, other], vec![two], all([&[], &["C"], &["B"]], 0)),
            (vec![one], vec![one, two], all([&["B"], &[], &[]], 1)),
            (vec![one, two], vec![two], all([&[], &["B"], &[]], 1)),
            (vec![one], vec![other], all([&["C"], &["B"], &[]], 0)),
        ];
        for (before, now, expected) in table {
            let mut changes = Changes::default();
            changes.take_queries(&application(&before), &application(&now));
            assert_eq!(changes, expected, "{before:?} {now:?}");
        }
    }
}
