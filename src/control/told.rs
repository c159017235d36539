//! What the node says of itself: its state, and what became of a document.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::changes::Changes;
use super::journal::{Active, Origin, Revision};
use crate::clock;

/// What errors, and what warnings, may take in a report.
const FINDINGS_BYTES_MAX: usize = 32 << 10;

/// How the node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeState {
    /// The store is being opened.
    Starting,
    /// Everything works.
    Online,
    /// Something does not.
    Degraded,
}

impl NodeState {
    fn word(self) -> &'static str {
        match self {
            NodeState::Starting => "starting",
            NodeState::Online => "online",
            NodeState::Degraded => "degraded",
        }
    }
}

/// What the state says besides the number of the connection and the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StateBody {
    pub(super) state: NodeState,
    /// What is wrong, a sentence each.
    pub(super) why: Vec<String>,
    pub(super) is_synchronised: bool,
    pub(super) config: ConfigBrief,
    pub(super) outbox_bytes: u64,
    pub(super) outbox_oldest_s: u64,
    pub(super) queries_running: usize,
    pub(super) queries_failed: usize,
}

/// The configuration in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigBrief {
    pub(super) rev: Option<u64>,
    pub(super) sha256: String,
    pub(super) status: Status,
}

impl StateBody {
    /// Whether they differ in figures alone.
    pub(super) fn is_like(&self, other: &StateBody) -> bool {
        let facts = |body: &StateBody| {
            let StateBody {
                state,
                why,
                is_synchronised,
                config,
                ..
            } = body.clone();
            (state, why, is_synchronised, config)
        };
        facts(self) == facts(other)
    }

    pub(super) fn json(&self, connection: u64) -> Value {
        json!({
            "v": 1,
            "state": self.state.word(),
            "why": self.why,
            "conn": connection,
            "boot": boot(),
            "version": env!("CARGO_PKG_VERSION"),
            "arch": std::env::consts::ARCH,
            "ts": clock::wall().utc(),
            "clock": if self.is_synchronised { "synced" } else { "unsynced" },
            "config": {
                "rev": self.config.rev,
                "sha256": self.config.sha256,
                "status": self.config.status.word(),
            },
            "outbox": { "bytes": self.outbox_bytes, "oldest_s": self.outbox_oldest_s },
            "queries": { "running": self.queries_running, "failed": self.queries_failed },
        })
    }
}

/// That the node is gone: said by the broker (a will), or by the node itself.
pub(super) fn offline(connection: u64, why: &str) -> Value {
    json!({
        "v": 1,
        "state": "offline",
        "why": [why],
        "conn": connection,
        "boot": boot(),
        "version": env!("CARGO_PKG_VERSION"),
        "arch": std::env::consts::ARCH,
        "ts": clock::wall().utc(),
    })
}

/// Which boot of the machine this is.
fn boot() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    boot.unwrap_or_default().trim().to_owned()
}

/// What became of the document that is desired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    InSync,
    Validating,
    Valid,
    Applying,
    Probation,
    Rejected,
    RolledBack,
    LocalOverride,
    Expired,
}

impl Status {
    /// Whether nothing more is to come of a document.
    pub(super) fn is_end(self) -> bool {
        match self {
            Status::Validating | Status::Applying | Status::Probation => false,
            Status::InSync
            | Status::Valid
            | Status::Rejected
            | Status::RolledBack
            | Status::LocalOverride
            | Status::Expired => true,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Status::InSync => "in_sync",
            Status::Validating => "validating",
            Status::Valid => "valid",
            Status::Applying => "applying",
            Status::Probation => "probation",
            Status::Rejected => "rejected",
            Status::RolledBack => "rolled_back",
            Status::LocalOverride => "local_override",
            Status::Expired => "expired",
        }
    }
}

/// How far a document has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Verified,
    Planned,
    Staged,
    Switched,
    Probation,
    Committed,
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Phase::Verified => "verified",
            Phase::Planned => "planned",
            Phase::Staged => "staged",
            Phase::Switched => "switched",
            Phase::Probation => "probation",
            Phase::Committed => "committed",
        }
    }
}

/// The report on the document that is desired.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reported {
    pub(super) status: Status,
    pub(super) desired: Option<Named>,
    pub(super) phase: Option<Phase>,
    pub(super) code: Option<String>,
    pub(super) errors: Vec<Value>,
    pub(super) warnings: Vec<Value>,
    pub(super) changed: Option<Value>,
    /// Whether it stays only when an operator says so.
    pub(super) awaits_operator: bool,
}

/// A document as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Named {
    /// For a group: which.
    pub(super) scope: Option<String>,
    pub(super) rev: Option<u64>,
    pub(super) sha256: Option<String>,
}

impl Named {
    pub(super) fn of(scope: &str, revision: &Revision) -> Named {
        Named {
            scope: scope.starts_with("_group/").then(|| scope.to_owned()),
            rev: Some(revision.rev),
            sha256: Some(revision.sha256.clone()),
        }
    }
}

impl Reported {
    pub(super) fn new(status: Status, desired: Option<Named>) -> Reported {
        Reported {
            status,
            desired,
            phase: None,
            code: None,
            errors: Vec::new(),
            warnings: Vec::new(),
            changed: None,
            awaits_operator: false,
        }
    }

    /// What is published: `active` is what runs, of so many `parts`, `accepted` the highest
    /// revisions by scope.
    pub(super) fn json(
        &self,
        (active, parts): (&Active, usize),
        accepted: &BTreeMap<String, Revision>,
    ) -> Value {
        let accepted = accepted.iter();
        let accepted: BTreeMap<&str, u64> = accepted
            .map(|(scope, revision)| (scope.as_str(), revision.rev))
            .collect();
        let named = self.desired.clone().unwrap_or_default();
        let mut desired = json!({ "rev": named.rev, "sha256": named.sha256 });
        if let (Some(scope), Some(object)) = (named.scope, desired.as_object_mut()) {
            object.insert("scope".to_owned(), scope.into());
        }
        let origin = match &active.origin {
            Origin::Local => "local".to_owned(),
            Origin::Document { scope, .. } => scope.clone(),
        };
        json!({
            "v": 1,
            "status": self.status.word(),
            "desired": desired,
            "active": {
                "rev": active.rev(),
                "sha256": active.sha256,
                "since": crate::event::Timestamp(active.since_ms).utc(),
                "origin": origin,
            },
            "phase": self.phase.map(Phase::word),
            "code": self.code,
            "errors": bounded(&self.errors),
            "warnings": bounded(&self.warnings),
            "changed": self.changed.clone().unwrap_or_else(|| Changes::none(parts).json()),
            "awaits": self.awaits_operator.then_some("operator"),
            "accepted": accepted,
            "ts": clock::wall().utc(),
        })
    }
}

/// The first findings, and how many more there are: brokers bound what they take.
fn bounded(findings: &[Value]) -> Vec<Value> {
    let mut bytes = 0;
    let shown = findings.iter().take_while(|found| {
        bytes += found.to_string().len();
        bytes <= FINDINGS_BYTES_MAX
    });
    let mut shown: Vec<Value> = shown.cloned().collect();
    let more = findings.len() - shown.len();
    if more > 0 {
        shown.push(remark(&format!("and {more} more, which are not shown")));
    }
    shown
}

/// A finding without a place.
pub(super) fn remark(message: &str) -> Value {
    json!({ "path": null, "line": null, "col": null, "message": message, "hint": null })
}
