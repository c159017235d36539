//! What may be so, and whether what the node says is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::fleet::{NODE, R};
use crate::operator::Message;

const STATUSES: [&str; 9] = [
    "in_sync",
    "validating",
    "valid",
    "applying",
    "probation",
    "rejected",
    "rolled_back",
    "local_override",
    "expired",
];
const STATES: [&str; 4] = ["online", "starting", "degraded", "offline"];

/// A document by whom it is for, its number and its hash.
pub(crate) type Name = (String, u64, String);

/// All that was pushed, and what has been seen.
#[derive(Default)]
pub(crate) struct Model {
    /// Documents that may be in force, and which configuration each makes.
    may: BTreeMap<Name, u64>,
    /// Configurations of the local file, the latest last.
    pub(crate) local: Vec<u64>,
    /// Documents that did not prove themselves: never again.
    gone: BTreeSet<Name>,
    /// What was reported last.
    active: Option<Option<Name>>,
    connection: u64,
    /// Numbers that went down without a word of it in `reported`.
    went_down: Vec<String>,
    /// Events of a rollback.
    backs: BTreeSet<String>,
    /// How often something may have happened that nobody has seen said.
    pub(crate) blind: usize,
    applied: BTreeMap<(String, u64), String>,
    /// How often each status was seen.
    pub(crate) seen: BTreeMap<String, u64>,
}

impl Model {
    /// Nothing yet but the local file.
    pub(crate) fn new(c: u64) -> Model {
        Model {
            local: vec![c],
            ..Model::default()
        }
    }

    pub(crate) fn may_run(&mut self, scope: &str, envelope: &Value, c: u64) {
        let rev = envelope["rev"].as_u64().unwrap();
        let sha256 = envelope["sha256"].as_str().unwrap().to_owned();
        self.may.insert((scope.to_owned(), rev, sha256), c);
    }

    /// All that could ever have made a row.
    pub(crate) fn makers(&self) -> BTreeSet<u64> {
        self.may.values().chain(&self.local).copied().collect()
    }

    /// Which configuration the node says it runs, by what it says in `reported`.
    pub(crate) fn made_by(&self, reported: &Value) -> u64 {
        match named(&reported["active"]) {
            None => *self.local.last().unwrap(),
            Some(name) => self.may[&name],
        }
    }

    /// Something that the node has said, or somebody else.
    pub(crate) fn see(&mut self, message: &Message) {
        let said = message.json();
        match message.topic.strip_prefix(R) {
            Some("/config/reported") => self.see_reported(&said),
            Some("/state") => self.see_state(&said),
            Some("/event") => self.see_event(&said),
            _ => {}
        }
    }

    fn see_reported(&mut self, said: &Value) {
        let status = said["status"].as_str().unwrap();
        assert!(STATUSES.contains(&status), "{said:#}");
        let what = format!("{status} {}", said["code"].as_str().unwrap_or_default());
        *self.seen.entry(what).or_default() += 1;
        let active = named(&said["active"]);
        if let Some(active) = &active {
            assert!(self.may.contains_key(active), "nobody's: {said:#}");
            assert!(!self.gone.contains(active), "it was taken back: {said:#}");
        }
        let desired = desired(said);
        match status {
            "in_sync" if desired.is_some() => {
                assert_eq!(active, desired, "in_sync with another: {said:#}");
            }
            "probation" => assert_eq!(active, desired, "probation of another: {said:#}"),
            "rolled_back" => {
                assert_ne!(active, desired, "rolled back, and it runs: {said:#}");
                if said["code"] != "E_OPERATOR" {
                    self.gone.extend(desired);
                }
            }
            "local_override" => assert_eq!(active, None, "{said:#}"),
            _ => {}
        }
        self.see_active(active, said);
    }

    /// A number goes down in a rollback only. That may not be reported for long enough to be seen,
    /// when another document waits: then there is an event, or the node was killed.
    fn see_active(&mut self, active: Option<Name>, said: &Value) {
        if let (Some(Some(before)), Some(now)) = (&self.active, &active) {
            let is_lower = before.0 == now.0 && now.1 < before.1;
            if is_lower && said["status"] != "rolled_back" {
                self.went_down.push(format!("after {before:?}: {said}"));
            }
        }
        self.active = Some(active);
    }

    /// At the end: for each number that went down there was a reason.
    pub(crate) fn check(&self) {
        let (went_down, reasons) = (&self.went_down, self.backs.len() + self.blind);
        assert!(went_down.len() <= reasons, "{reasons}: {went_down:#?}");
    }

    fn see_state(&mut self, said: &Value) {
        let state = said["state"].as_str().unwrap_or_default();
        assert!(STATES.contains(&state), "{said:#}");
        let connection = said["conn"].as_u64().unwrap();
        if state == "offline" {
            return;
        }
        assert!(
            connection >= self.connection,
            "{} was before: {said:#}",
            self.connection
        );
        self.connection = connection;
        if let Some(rev) = said["config"]["rev"].as_u64() {
            let sha256 = said["config"]["sha256"].as_str().unwrap();
            let mut may = self.may.keys();
            let is_known = may.any(|name| name.1 == rev && name.2 == sha256);
            assert!(is_known, "nobody's: {said:#}");
        }
    }

    /// The number of the last connection.
    pub(crate) fn connection(&self) -> u64 {
        self.connection
    }

    /// No document is tried twice.
    fn see_event(&mut self, said: &Value) {
        match said["event"].as_str() {
            Some("config.applied") => {}
            Some("config.rolled_back") => {
                self.backs.insert(said.to_string());
                return;
            }
            _ => return,
        }
        let details = &said["details"];
        let (Some(rev), Some(sha256)) = (details["rev"].as_u64(), details["sha256"].as_str())
        else {
            return;
        };
        // The same event may come twice, as any message.
        let key = (sha256.to_owned(), rev);
        let text = said.to_string();
        let known = self.applied.entry(key).or_insert_with(|| text.clone());
        assert_eq!(*known, text, "it was tried before");
    }
}

/// What is said to be in force; none is the local file.
fn named(active: &Value) -> Option<Name> {
    let origin = active["origin"].as_str().unwrap();
    let sha256 = active["sha256"].as_str().unwrap().to_owned();
    assert_eq!(active["rev"].is_null(), origin == "local", "{active:#}");
    let rev = active["rev"].as_u64()?;
    Some((origin.to_owned(), rev, sha256))
}

fn desired(said: &Value) -> Option<Name> {
    let desired = &said["desired"];
    let scope = desired["scope"].as_str().unwrap_or(NODE);
    let sha256 = desired["sha256"].as_str()?;
    Some((
        scope.to_owned(),
        desired["rev"].as_u64()?,
        sha256.to_owned(),
    ))
}
