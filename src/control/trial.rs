//! From the switch to the word that a document stays, or goes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::apply::{fault_of, without_conditions};
use super::boot::document;
use super::events::Audit;
use super::gate::Baseline;
use super::journal::{Active, Origin, Outcome, Pending, Record, Revision, Stage, Standing, brief};
use super::steward::Steward;
use super::told::{Named, Phase, Reported, Status};
use super::{Code, Fault};
use crate::clock;
use crate::config::{ControlMode, Settings};
use crate::daemon::{Refused, Reloaded, fingerprint};

/// How soon going back is tried again when it did not succeed.
const BACK_AGAIN: Duration = Duration::from_secs(10);
/// How long the control broker may take to get the report of a switch that is being confirmed, and
/// how often it is asked for.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);
const REACH_ASKED_EVERY: Duration = Duration::from_millis(20);
/// How soon it is tried again to remember that a document stays.
const COMMIT_AGAIN: Duration = Duration::from_secs(5);

/// A document that is in force and has to prove itself.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) sha256: String,
    revision: Revision,
    scope: String,
    needs_operator: bool,
    /// Since when it runs.
    since_ms: i64,
    /// When it must have proved itself.
    until: Instant,
    baseline: Baseline,
    error_ratio_max: f64,
    /// The report that the broker must have got since the switch.
    pub(super) report_version: u64,
}

impl Trial {
    pub(super) fn begin(
        pending: Pending,
        mut baseline: Baseline,
        reloaded: &Reloaded,
        settings: &Settings,
    ) -> Trial {
        baseline.switched(reloaded);
        Trial {
            sha256: pending.revision.sha256.clone(),
            revision: pending.revision,
            scope: pending.scope,
            needs_operator: pending.needs_operator,
            since_ms: clock::wall().0,
            until: Instant::now() + Duration::from_secs(u64::from(pending.confirm_s)),
            baseline,
            error_ratio_max: settings.control.error_ratio_max,
            report_version: u64::MAX,
        }
    }

    /// The document as what runs.
    pub(super) fn active(&self) -> Active {
        Active {
            origin: Origin::Document {
                scope: self.scope.clone(),
                rev: self.revision.rev,
            },
            sha256: self.sha256.clone(),
            since_ms: self.since_ms,
        }
    }
}

impl Steward {
    /// Whether a document that is being tried out has proved itself, or cannot any more.
    pub(super) fn look_after_trial(&mut self) {
        if self.back_at.is_some_and(|at| at <= Instant::now()) {
            self.back_at = None;
            self.return_to_before();
        }
        let Some(trial) = &self.trial else { return };
        if trial.until <= Instant::now() {
            if trial.needs_operator {
                let why = "nobody has confirmed it in time".to_owned();
                let why: Vec<String> = [why].into_iter().chain(self.unreached()).collect();
                self.go_back(Code::Unconfirmed, why.join("; "));
                return;
            }
            match self.judge() {
                Ok(()) => self.commit(),
                Err(why) => self.go_back(Code::Health, why),
            }
            return;
        }
        let view = self.wires.window.view();
        let hopeless = view.map_or_else(Vec::new, |view| trial.baseline.hopeless(&view));
        if !hopeless.is_empty() {
            self.go_back(Code::Health, hopeless.join("; "));
        }
    }

    /// The health gate: all that is wrong, in a sentence.
    fn judge(&self) -> Result<(), String> {
        let Some(trial) = &self.trial else {
            return Ok(());
        };
        let mut why: Vec<String> = self.unreached().into_iter().collect();
        match self.wires.window.view() {
            Some(view) => why.extend(trial.baseline.judge(&view, trial.error_ratio_max)),
            None => why.push("nothing runs".to_owned()),
        }
        match why.is_empty() {
            true => Ok(()),
            false => Err(why.join("; ")),
        }
    }

    /// Whether the control broker has got the report of the switch.
    fn is_reached(&self) -> bool {
        let version = self.trial.as_ref().map(|trial| trial.report_version);
        let topic = self.topics.reported();
        version.is_none_or(|version| self.wires.mailbox.is_known(&topic, version))
    }

    /// That the control broker cannot be reached, and why, as far as that is known.
    fn unreached(&self) -> Option<String> {
        let unreached = "the control broker cannot be reached";
        (!self.is_reached()).then(|| match self.wires.mailbox.trouble() {
            Some(why) => format!("{unreached}: {why}"),
            None => unreached.to_owned(),
        })
    }

    /// It stays.
    fn commit(&mut self) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        let active = trial.active();
        let outcome = Outcome {
            scope: trial.scope.clone(),
            revision: trial.revision.clone(),
            standing: Standing::InForce,
        };
        let committed = self.remember(|record| {
            record.commit(active);
            record.outcome = Some(outcome);
        });
        if !committed {
            // It is tried out until that can be remembered: a crash takes it back.
            let again = Instant::now() + COMMIT_AGAIN;
            // Who has confirmed it may do so once more.
            let until = match trial.needs_operator {
                true => trial.until.max(again),
                false => again,
            };
            self.trial = Some(Trial { until, ..trial });
            return;
        }
        let mut reported = Reported::new(
            Status::InSync,
            Some(Named::of(&trial.scope, &trial.revision)),
        );
        reported.phase = Some(Phase::Committed);
        reported.changed.clone_from(&self.reported.changed);
        reported.warnings.clone_from(&self.reported.warnings);
        self.report(reported);
        let details = json!({ "rev": trial.revision.rev, "sha256": trial.sha256 });
        self.audit(Audit::Confirmed, "the document has proved itself", &details);
    }

    /// It goes, and what was before it comes back.
    fn go_back(&mut self, code: Code, why: String) {
        let Some(trial) = self.trial.take() else {
            return;
        };
        tracing::error!(
            "document {} is taken back: {}: {why}",
            trial.revision.rev,
            code.word()
        );
        let known = Some((code.word().to_owned(), brief(&why)));
        self.remember_now(|record| {
            if let Some(pending) = &mut record.pending {
                pending.stage = Stage::GoingBack;
                pending.why.clone_from(&known);
            }
            // Whatever comes between now and then.
            record.returns = true;
        });
        self.stuck = Some(trial.active());
        self.return_to_before();
    }

    /// Has the daemon go over to what was in force before, as the record says it.
    fn return_to_before(&mut self) {
        let record = self.record();
        let before = record.active.iter().cloned();
        let others = record.good.iter().cloned();
        for active in before.chain(others) {
            match self.put_again(active.clone()) {
                Ok(active) => {
                    self.is_back(active);
                    return;
                }
                Err(Fault {
                    code: Code::Stopping,
                    ..
                }) => return,
                Err(fault) => tracing::error!("going back to {} failed: {fault}", active.sha256),
            }
        }
        tracing::error!("no configuration from before can run; it is tried again");
        self.back_at = Some(Instant::now() + BACK_AGAIN);
    }

    /// Has the daemon go over to what was in force before, and gives what that is now: without the
    /// local files as they were then, they are what they are now.
    fn put_again(&mut self, mut active: Active) -> Result<Active, Fault> {
        let failed = |why: String| Fault::new(Code::Config, why);
        let prepared = match active.origin {
            Origin::Local => {
                let known = self.local.prepare_in_force().and_then(Result::ok);
                let known = known.filter(|known| fingerprint(&known.texts) == active.sha256);
                let prepared = known.map_or_else(|| self.local.prepare(), Ok);
                let prepared = prepared.map_err(|failure| fault_of(&Refused::Faulty(failure)))?;
                active.sha256 = fingerprint(&prepared.texts);
                prepared
            }
            Origin::Document { .. } => {
                let journal = self.journal();
                let journal = journal.ok_or_else(|| failed("there is no journal".to_owned()))?;
                let text = journal.document(&active.sha256);
                let text = text.map_err(|error| failed(error.to_string()))?;
                document(&self.local, &text).map_err(failed)?
            }
        };
        let put = self.put(without_conditions(prepared));
        put.map_err(|refused| fault_of(&refused))?;
        active.since_ms = clock::wall().0;
        Ok(active)
    }

    fn is_back(&mut self, active: Active) {
        self.is_unstuck();
        let known = self.record().pending;
        self.remember_now(|record| {
            record.take_back_known();
            put_back(record, active);
        });
        self.tell_standing();
        if let Some(pending) = known {
            self.audit_back(&pending);
        }
    }

    /// Tells whoever keeps account that a document is gone, and why.
    pub(super) fn audit_back(&self, pending: &Pending) {
        let (code, why) = pending.why.clone().unwrap_or_default();
        let details = json!({
            "code": code,
            "rev": pending.revision.rev,
            "sha256": pending.revision.sha256,
            "signed_by": pending.signed_by,
        });
        self.audit(Audit::RolledBack, &why, &details);
    }

    /// Waits until the control broker has got the report of the switch: somebody who confirms may
    /// be faster than it.
    fn await_reach(&self, within: Duration) {
        let until = Instant::now() + within;
        while !self.is_reached() && Instant::now() < until {
            std::thread::park_timeout(REACH_ASKED_EVERY);
        }
    }

    /// An operator confirms the document that is being tried out.
    pub(super) fn confirm(&mut self, rev: u64) -> Result<Value, Fault> {
        let trial = self
            .trial
            .as_ref()
            .filter(|trial| trial.revision.rev == rev);
        let Some(trial) = trial.filter(|trial| trial.needs_operator) else {
            let message = format!("no document {rev} waits for a confirmation");
            return Err(Fault::new(Code::NotFound, message));
        };
        let sha256 = trial.sha256.clone();
        self.await_reach(CONFIRM_WITHIN);
        self.judge().map_err(|why| Fault::new(Code::Health, why))?;
        self.commit();
        match self.trial {
            None => Ok(json!({ "rev": rev, "sha256": sha256 })),
            Some(_) => Err(Fault::new(Code::Failed, "the journal cannot be written")),
        }
    }

    /// An operator wants the configuration before, or an earlier one.
    pub(super) fn roll_back(&mut self, to: Option<&str>) -> Result<Value, Fault> {
        if self.settings.control.mode == ControlMode::Validate {
            return Err(Fault::new(Code::Mode, "control.mode is `validate`"));
        }
        let is_tried = self.trial.is_some() && to.is_none();
        if is_tried {
            self.go_back(Code::Operator, "an operator has taken it back".to_owned());
        } else {
            self.go_to_earlier(to)?;
        }
        if self.back_at.is_some() {
            let message = "no configuration from before can run; it is tried again";
            return Err(Fault::new(Code::Failed, message));
        }
        if self.stuck.is_some() {
            return Err(Fault::new(Code::Stopping, "the daemon is stopping"));
        }
        let active = self.remembers(|record| record.active.clone());
        let active = active.ok_or_else(|| Fault::new(Code::Failed, "nothing runs"))?;
        Ok(json!({ "rev": active.rev(), "sha256": active.sha256 }))
    }

    fn go_to_earlier(&mut self, to: Option<&str>) -> Result<(), Fault> {
        if self.trial.is_some() || self.back_at.is_some() {
            return Err(Fault::new(Code::Busy, "a document is being tried out"));
        }
        let record = self.record();
        let mut others = record.good.iter().skip(1);
        let found = match to {
            None => others.next(),
            Some(sha256) => others.find(|one| one.sha256 == sha256),
        };
        let Some(target) = found.cloned() else {
            let message = "no such configuration is kept: see `good` in `status`";
            return Err(Fault::new(Code::NotFound, message));
        };
        // Should the daemon end in between, the store may be that of either.
        if !self.remember(|record| record.returns = true) {
            return Err(Fault::new(Code::Failed, "the journal cannot be written"));
        }
        let active = match self.put_again(target) {
            Ok(active) => active,
            Err(fault) => {
                // Whether the log has come to it when the daemon stops is not known.
                if fault.code != Code::Stopping {
                    self.remember(|record| record.returns = false);
                }
                return Err(fault);
            }
        };
        let why = "an operator has taken it back";
        let details = json!({ "rev": active.rev(), "sha256": active.sha256 });
        self.remember_now(|record| {
            if let Some(outcome) = &mut record.outcome {
                // The document that was desired last may be the one to go back to: from local
                // files that were edited since, or from one before it.
                outcome.standing = match outcome.is_of(&active) {
                    true => Standing::InForce,
                    false => Standing::back(Code::Operator, why),
                };
            }
            put_back(record, active);
        });
        self.tell_standing();
        self.audit(Audit::RolledBack, why, &details);
        Ok(())
    }
}

/// What was in force before is in force again.
fn put_back(record: &mut Record, active: Active) {
    if active.origin == Origin::Local {
        record.local.clone_from(&active.sha256);
    }
    record.commit(active);
}
