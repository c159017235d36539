//! From a document to the switch: read, checked, planned, staged, and only then put in force.
//!
//! Until a document is staged nothing of it is anywhere but in memory. What is staged is on the
//! disk before anything follows from it, and so is the word that it is about to be put in force: a
//! crash at any moment leaves a record that says what is to run (see [`super::boot`]).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::boot::document;
use super::changes::Changes;
use super::envelope::{self, Confirm, Demand, Desired, Mode, Rules};
use super::events::Audit;
use super::gate::Baseline;
use super::journal::{Pending, Revision, Stage, Standing};
use super::keys::Trusted;
use super::local::DOCUMENT;
use super::steward::{Steward, is_synchronised};
use super::told::{Named, Phase, Reported, Status, remark};
use super::trial::Trial;
use super::{Code, Fault, Scope};
use crate::clock;
use crate::config::{ControlMode, StatePolicy};
use crate::daemon::{Failure, Prepared, Refused, Reloaded};
use crate::diagnostic::{Diagnostic, Severity};
use crate::pipeline::PipelineError;

/// How soon a document whose time has not come is looked at again, at the latest: the clock may be
/// set meanwhile.
const EARLY_LOOK_EVERY: Duration = Duration::from_secs(30);

impl Steward {
    /// A document has come.
    pub(super) fn document(&mut self, scope: Scope, payload: &[u8]) {
        // The node may have left the group, or have another name now.
        if !self.scopes().contains(&scope) {
            return;
        }
        self.early.remove(&scope);
        self.reached = None;
        if payload.is_empty() {
            self.withdrawn(&scope);
            return;
        }
        if self.is_shadowed(&scope) {
            self.shadowed.insert(scope, payload.to_vec());
            return;
        }
        self.spend();
        let control = &self.settings.control;
        let (trusted, warnings) = Trusted::read(&self.settings.security.trusted_path);
        let rules = Rules {
            scope: &scope,
            content_bytes_max: control.bytes_max,
            demand: match control.mode {
                ControlMode::Signed => Demand::Signed,
                ControlMode::Off
                | ControlMode::Monitor
                | ControlMode::Validate
                | ControlMode::Unsigned => Demand::Unsigned,
            },
            trusted: &trusted,
        };
        match envelope::read(payload, &rules) {
            Ok(desired) => self.consider(&scope, payload, desired),
            Err(refused) => {
                if refused.fault.code == Code::Key {
                    for warning in warnings {
                        tracing::warn!("{warning}");
                    }
                }
                let named = Named {
                    scope: group_of(&scope),
                    rev: refused.rev,
                    sha256: refused.sha256,
                };
                self.reject(Some(named), &refused.fault, Vec::new());
            }
        }
    }

    /// Whether there is a document of a stronger scope, which keeps this one from being looked at.
    fn is_shadowed(&self, scope: &Scope) -> bool {
        let all = self.scopes().into_iter();
        let mut stronger = all.take_while(|known| known != scope);
        stronger.any(|known| self.wires.hearing.has(&known))
    }

    /// A request for a configuration is withdrawn; what runs goes on.
    fn withdrawn(&mut self, scope: &Scope) {
        self.shadowed.remove(scope);
        let of = scope.to_string();
        let is_told = self
            .reported
            .desired
            .as_ref()
            .is_some_and(|named| named.scope.as_deref().unwrap_or(self.topics.node()) == of);
        if is_told && self.trial.is_none() {
            self.remember(|record| record.is_withdrawn = true);
            self.report(Reported::new(Status::InSync, None));
        }
        for (scope, payload) in std::mem::take(&mut self.shadowed) {
            if self.wires.hearing.has(&scope) {
                self.wires.hearing.put_back(scope, payload);
            }
        }
        self.wires.hearing.ring();
    }

    /// Judges a document that is what it says it is.
    fn consider(&mut self, scope: &Scope, payload: &[u8], desired: Desired) {
        let of = scope.to_string();
        let revision = Revision {
            rev: desired.rev,
            sha256: desired.sha256.clone(),
        };
        let named = Named::of(&of, &revision);
        let record = self.record();
        if let Some(accepted) = record.accepted.get(&of) {
            if *accepted == revision {
                let outcome = record.outcome.as_ref();
                let is_last =
                    outcome.is_some_and(|last| last.scope == of && last.revision == revision);
                if is_last {
                    self.remember(|record| record.is_withdrawn = false);
                }
                if self.reported.desired.as_ref() != Some(&named) {
                    self.tell_standing();
                }
                return;
            }
            let fault = match accepted.rev.cmp(&desired.rev) {
                std::cmp::Ordering::Less => None,
                std::cmp::Ordering::Equal => Some(Fault::new(
                    Code::RevConflict,
                    format!("revision {} was accepted with other content", accepted.rev),
                )),
                std::cmp::Ordering::Greater => Some(Fault::new(
                    Code::RevStale,
                    format!("revision {} was accepted before", accepted.rev),
                )),
            };
            if let Some(fault) = fault {
                self.reject(Some(named), &fault, Vec::new());
                return;
            }
        }
        let active = self.runs().map(|active| active.sha256);
        if desired.base_sha256.is_some() && desired.base_sha256 != active {
            let active = active.unwrap_or_default();
            let fault = Fault::new(Code::Base, format!("what runs is {active}"));
            self.reject(Some(named), &fault, Vec::new());
            return;
        }
        let mut warnings: Vec<Value> = desired.warnings.iter().map(|text| remark(text)).collect();
        if self.is_timely(scope, payload, &desired, &named, &mut warnings) {
            self.plan(scope, desired, named, warnings);
        }
    }

    /// Whether it is time for it, as far as anybody knows what time it is.
    fn is_timely(
        &mut self,
        scope: &Scope,
        payload: &[u8],
        desired: &Desired,
        named: &Named,
        warnings: &mut Vec<Value>,
    ) -> bool {
        if desired.not_before.is_none() && desired.expires.is_none() {
            return true;
        }
        if !is_synchronised(&self.wires.window) {
            warnings.push(remark(
                "the clock is not synchronised: `not_before` and `expires` are not heeded",
            ));
            return true;
        }
        let now = clock::wall();
        if desired.expires.is_some_and(|expires| expires <= now) {
            let fault = Fault::new(Code::Expired, "its time is over");
            self.reject(Some(named.clone()), &fault, Vec::new());
            return false;
        }
        let Some(not_before) = desired.not_before.filter(|at| *at > now) else {
            return true;
        };
        if desired.expires.is_some_and(|expires| expires <= not_before) {
            let fault = Fault::new(Code::Expired, "its time is over before it begins");
            self.reject(Some(named.clone()), &fault, Vec::new());
            return false;
        }
        let wait = Duration::from_millis(not_before.0.abs_diff(now.0)).min(EARLY_LOOK_EVERY);
        let look_at = (payload.to_vec(), Instant::now() + wait);
        self.early.insert(scope.clone(), look_at);
        let mut reported = Reported::new(Status::Validating, Some(named.clone()));
        reported.phase = Some(Phase::Verified);
        let text = format!("it waits until {}", not_before.utc());
        reported.warnings = vec![remark(&text)];
        if self.reported != reported {
            self.report(reported);
        }
        false
    }

    /// Checks it completely; then it is valid, or on its way.
    fn plan(&mut self, scope: &Scope, desired: Desired, named: Named, mut warnings: Vec<Value>) {
        self.reached = Some(Phase::Verified);
        let mut reported = Reported::new(Status::Validating, Some(named.clone()));
        reported.phase = Some(Phase::Verified);
        self.report(reported);
        let mut prepared = match self.local.prepare_document(&desired.content) {
            Ok(prepared) => prepared,
            Err(failure) => {
                let (fault, errors) = faults_of(&failure);
                self.reject(Some(named), &fault, errors);
                return;
            }
        };
        if let Some(policy) = desired.state_policy {
            prepared.settings.application.state_policy = policy;
        }
        // What there is to say of the local files was said when they were read.
        let own = prepared.warnings.iter();
        let own = own.filter(|found| found.path == DOCUMENT);
        warnings.extend(own.map(Diagnostic::json));
        if let Err(fault) = self.would_go(&prepared) {
            self.reject(Some(named), &fault, Vec::new());
            return;
        }
        self.reached = Some(Phase::Planned);
        let view = self.wires.window.view();
        let changes = view.map(|view| Changes::expected(&view, &prepared).json());
        let only_checks = self.settings.control.mode == ControlMode::Validate;
        if desired.mode == Mode::Validate || only_checks {
            if desired.mode == Mode::Apply {
                warnings.push(remark("control.mode is `validate`: it is not applied"));
            }
            let mut reported = Reported::new(Status::Valid, Some(named));
            reported.phase = Some(Phase::Planned);
            reported.warnings = warnings;
            reported.changed = changes;
            self.report(reported);
            return;
        }
        let moves = prepared.control != self.options;
        let pending = Pending {
            scope: scope.to_string(),
            revision: Revision {
                rev: desired.rev,
                sha256: desired.sha256,
            },
            stage: Stage::Staged,
            // Nobody but a person can say that the other broker is the right one.
            needs_operator: desired.confirm == Confirm::Operator || moves,
            confirm_s: desired.confirm_s,
            state_policy: desired.state_policy.map(Into::into),
            signed_by: desired.signed_by,
            why: None,
        };
        self.stage(pending, &desired.content, prepared, warnings);
    }

    /// What would be refused when it is too late to say that nothing was touched.
    fn would_go(&self, prepared: &Prepared) -> Result<(), Fault> {
        let Some(view) = self.wires.window.view() else {
            return Ok(());
        };
        view.would_take(prepared)
            .map_err(|refused| fault_of(&refused))
    }

    /// Makes it durable, and with it that it was accepted.
    fn stage(&mut self, pending: Pending, text: &str, prepared: Prepared, warnings: Vec<Value>) {
        let named = Named::of(&pending.scope, &pending.revision);
        let mut reported = Reported::new(Status::Applying, Some(named.clone()));
        reported.phase = Some(Phase::Planned);
        self.report(reported);
        let Some(journal) = self.journal() else {
            let fault = Fault::new(Code::Failed, "documents cannot be remembered here");
            self.reject(Some(named), &fault, Vec::new());
            return;
        };
        // A document that could not be taken back gives way to another one.
        let stuck = self.record().pending;
        let staged = pending.clone();
        let kept = journal.keep((&pending.revision.sha256, text), |record| {
            let (scope, revision) = (staged.scope.clone(), staged.revision.clone());
            record.take_back_known();
            record.is_withdrawn = false;
            record.accepted.insert(scope, revision);
            record.pending = Some(staged);
        });
        if let Err(error) = kept {
            let fault = Fault::new(Code::Failed, error.to_string());
            self.reject(Some(named), &fault, Vec::new());
            return;
        }
        if let Some(stuck) = stuck {
            self.audit_back(&stuck);
        }
        self.reached = Some(Phase::Staged);
        let mut reported = Reported::new(Status::Applying, Some(named));
        reported.phase = Some(Phase::Staged);
        reported.warnings.clone_from(&warnings);
        self.report(reported);
        self.switch(pending, prepared, warnings);
    }

    /// A document that was accepted before the last start and not tried is tried now.
    pub(super) fn take_up(&mut self) {
        let pending = self.record().pending;
        let Some(pending) = pending.filter(|pending| pending.stage == Stage::Staged) else {
            return;
        };
        let Some(journal) = self.journal() else {
            return;
        };
        let text = journal.document(&pending.revision.sha256);
        let text = text.map_err(|error| error.to_string());
        match text.and_then(|text| document(&self.local, &text)) {
            Ok(mut prepared) => {
                if let Some(policy) = pending.state_policy {
                    prepared.settings.application.state_policy = policy.into();
                }
                self.switch(pending, prepared, Vec::new());
            }
            Err(why) => self.give_up(&Fault::new(Code::Config, why), Vec::new()),
        }
    }

    /// Has the daemon go over to it.
    fn switch(&mut self, pending: Pending, prepared: Prepared, warnings: Vec<Value>) {
        if !self.remember(|record| stage_of(record, Stage::Switching)) {
            let fault = Fault::new(Code::Failed, "the journal cannot be written");
            self.give_up(&fault, Vec::new());
            return;
        }
        let named = Named::of(&pending.scope, &pending.revision);
        let before = self.wires.window.view();
        // Where nothing runs there is nothing to be as good as.
        let baseline = before.as_deref().map(Baseline::new).unwrap_or_default();
        let reloaded = match self.put(prepared) {
            Ok(reloaded) => reloaded,
            // What the record says is what the next start goes by.
            Err(Refused::Stopping) => return,
            Err(refused) => {
                let errors = match &refused {
                    Refused::Faulty(failure) => faults_of(failure).1,
                    _ => Vec::new(),
                };
                self.give_up(&fault_of(&refused), errors);
                return;
            }
        };
        let now = self.wires.window.view();
        let changed = before.zip(now).map(|(before, now)| {
            Changes::done(&reloaded, &before.application, &now.application).json()
        });
        let mut reported = Reported::new(Status::Applying, Some(named));
        reported.phase = Some(Phase::Switched);
        reported.changed = changed;
        reported.warnings = warnings;
        let texts = reloaded.warnings.iter();
        reported.warnings.extend(texts.map(|text| remark(text)));
        let (needs_operator, details) = (pending.needs_operator, details_of(&pending, &reloaded));
        self.is_unstuck();
        // What is told from here on is told of what runs.
        self.trial = Some(Trial::begin(pending, baseline, &reloaded, &self.settings));
        self.report(reported.clone());
        if !self.remember(|record| stage_of(record, Stage::Probation)) {
            // The record says less than what is so, and leads to the same after a crash.
            tracing::warn!("the journal does not say how far the document has come");
        }
        (reported.status, reported.phase) = (Status::Probation, Some(Phase::Probation));
        reported.awaits_operator = needs_operator;
        self.report(reported);
        let version = self.reported_version;
        if let Some(trial) = &mut self.trial {
            trial.report_version = version;
        }
        self.audit(Audit::Applied, "a document is being tried out", &details);
    }

    /// An accepted document is not put in force after all; the one before it has stayed.
    fn give_up(&mut self, fault: &Fault, errors: Vec<Value>) {
        let standing = Standing::back(fault.code, fault.message.clone());
        let named = self
            .record()
            .pending
            .map(|pending| Named::of(&pending.scope, &pending.revision));
        self.remember_now(|record| drop(record.take_back(standing)));
        self.reject(named, fault, errors);
    }
}

fn details_of(pending: &Pending, reloaded: &Reloaded) -> Value {
    json!({
        "rev": pending.revision.rev,
        "sha256": pending.revision.sha256,
        "seq": reloaded.at.0,
        "confirm_s": pending.confirm_s,
        "signed_by": pending.signed_by,
        "confirm": if pending.needs_operator { "operator" } else { "auto" },
    })
}

fn stage_of(record: &mut super::journal::Record, stage: Stage) {
    if let Some(pending) = &mut record.pending {
        pending.stage = stage;
    }
}

fn group_of(scope: &Scope) -> Option<String> {
    match scope {
        Scope::Node(_) => None,
        Scope::Group(_) => Some(scope.to_string()),
    }
}

/// All that is wrong with a configuration, as `check` says it.
pub(super) fn faults_of(failure: &Failure) -> (Fault, Vec<Value>) {
    let is_error = |found: &&Diagnostic| found.severity == Severity::Error;
    let errors: Vec<&Diagnostic> = failure.diagnostics.iter().filter(is_error).collect();
    let code = match failure.is_local_only {
        true => Code::LocalOnly,
        false => Code::Config,
    };
    let message = match errors.as_slice() {
        [] => "it is faulty".to_owned(),
        [one] => one.message.clone(),
        [first, rest @ ..] => format!("{}; and {} more", first.message, rest.len()),
    };
    let shown = errors.into_iter().map(Diagnostic::json).collect();
    (Fault::new(code, message), shown)
}

/// Why the daemon does not go over to a configuration.
pub(super) fn fault_of(refused: &Refused) -> Fault {
    let code = match refused {
        Refused::Faulty(failure) => return faults_of(failure).0,
        Refused::Fixed { .. } | Refused::Empty => Code::Fixed,
        Refused::Pipeline(PipelineError::StateWouldBeLost { .. }) => Code::State,
        Refused::Unread | Refused::Pipeline(_) => Code::Failed,
        Refused::Stopping => Code::Stopping,
    };
    Fault::new(code, refused.to_string())
}

/// Going back must not fail for the sake of state.
pub(super) fn without_conditions(mut prepared: Prepared) -> Prepared {
    prepared.returns = true;
    prepared.settings.application.state_policy = StatePolicy::KeepCompatible;
    prepared
}
