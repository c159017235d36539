//! Which configuration runs after a start: decided before anything is opened.

use std::path::Path;

use serde_json::{Value, json};

use super::Code;
use super::apply::without_conditions;
use super::events::Audit;
use super::journal::{Active, Journal, JournalError, Origin, Record, Stage, Standing};
use super::local::Local;
use crate::clock;
use crate::config::ControlMode;
use crate::daemon::{Prepared, Salvage, fingerprint};

/// Why a document was taken back that was being tried out when the daemon ended by itself, was
/// killed, or lost its power.
const CUT_OFF: &str = "the daemon ended while the document was being tried out";
/// Why local files are in force all of a sudden.
pub(super) const EDITED: &str = "the local files were edited";

/// What was decided, and the journal that remembers it.
pub(super) struct Booted {
    pub(super) prepared: Prepared,
    pub(super) journal: Journal,
    /// What that changed.
    pub(super) news: Vec<News>,
}

/// Something that is to be told of a start.
#[derive(Clone, Debug)]
pub(super) struct News {
    pub(super) what: Audit,
    pub(super) why: String,
    pub(super) details: Value,
}

/// Opens the journal and decides. `local` is what the local files say.
pub(super) fn boot(how: &Local, local: Prepared) -> Result<Booted, JournalError> {
    let journal = journal_in(&local.settings.store.path)?;
    let sha256 = fingerprint(&local.texts);
    tell(journal.keep_local(&local.texts));
    how.put_in_force(local.texts.clone());
    Ok(decide(how, journal, &sha256, local))
}

fn decide(how: &Local, mut journal: Journal, sha256: &str, local: Prepared) -> Booted {
    let (before, now_ms) = (journal.record().clone(), clock::wall().0);
    // A full disk changes nothing of what is decided, nor what is decided the next time.
    let mut runs = None;
    let decided = journal.change_at_least_here(|record| {
        runs = at_start(record, sha256, now_ms);
    });
    tell(decided);
    let prepared = match runs {
        None => local,
        Some(wanted) => go_on(how, &wanted, &mut journal).unwrap_or_else(|why| {
            let active = Active {
                origin: Origin::Local,
                sha256: sha256.to_owned(),
                since_ms: now_ms,
            };
            tell(journal.change_at_least_here(|record| fall_back(record, &active, &why)));
            local
        }),
    };
    let prepared = match journal.record().returns {
        true => without_conditions(prepared),
        false => prepared,
    };
    Booted {
        prepared,
        news: news(&before, journal.record()),
        journal,
    }
}

/// What a start has changed.
fn news(before: &Record, now: &Record) -> Vec<News> {
    let mut news = Vec::new();
    let outcome = now.outcome.as_ref();
    let outcome = outcome.filter(|_| before.outcome != now.outcome);
    if let Some((outcome, Standing::Back(code, why))) =
        outcome.map(|outcome| (outcome, &outcome.standing))
    {
        let tried = before.pending.iter();
        let mut tried = tried.filter(|pending| pending.revision == outcome.revision);
        let signed_by = tried.next().and_then(|pending| pending.signed_by.clone());
        news.push(News {
            what: Audit::RolledBack,
            why: why.clone(),
            details: json!({
                "code": code,
                "rev": outcome.revision.rev,
                "sha256": outcome.revision.sha256,
                "signed_by": signed_by,
            }),
        });
    }
    if before.active.is_some() && before.local != now.local {
        news.push(News {
            what: Audit::Applied,
            why: EDITED.to_owned(),
            details: json!({}),
        });
    }
    news
}

/// The journal in the store's folder. One that cannot be used keeps nothing from running.
///
/// # Errors
/// Another daemon uses it.
pub(super) fn journal_in(store: &Path) -> Result<Journal, JournalError> {
    match Journal::open(store) {
        Ok((journal, warning)) => {
            if let Some(warning) = warning {
                tracing::error!("{warning}");
            }
            Ok(journal)
        }
        Err(error @ JournalError::Locked(_)) => Err(error),
        Err(error) => {
            tracing::error!("documents cannot be remembered, and none is taken: {error}");
            // Higher than what a journal has ever counted to.
            let seconds = clock::wall().0.unsigned_abs() / 1000;
            Ok(Journal::unusable(store, &error, seconds))
        }
    }
}

/// What is to run when the local files are faulty: what ran before, with the local files as they
/// were then; without these the last document that was good, over what the local files alone may
/// say, where at least that is in order. None when nothing ran before, or control is off.
pub(super) fn rescue(how: &Local) -> Option<Booted> {
    let Salvage {
        store,
        is_control_off,
    } = how.salvage()?;
    if is_control_off == Some(true) || !Journal::is_in(&store) {
        return None;
    }
    let mut journal = journal_in(&store).ok()?;
    let known = journal.record().local.clone();
    let kept = journal.local(&known).ok().filter(|texts| how.has(texts));
    if let Some(texts) = kept {
        how.put_in_force(texts);
        let local = how.prepare_in_force()?.ok();
        if let Some(local) = local {
            let is_off = local.settings.control.mode == ControlMode::Off;
            return (!is_off).then(|| decide(how, journal, &known, local));
        }
    }
    // Whose store it is must be certain.
    is_control_off?;
    let before = journal.record().clone();
    let mut runs = None;
    let decided = journal.change_at_least_here(|record| {
        runs = at_start(record, &known, clock::wall().0);
    });
    tell(decided);
    let is_overridden = runs.is_none();
    let prepared = go_on(how, &runs.unwrap_or_default(), &mut journal).ok()?;
    let news = news(&before, journal.record());
    if is_overridden {
        // The local files had won over the document that goes on in their place: when they are
        // mended they win again, also if they are what they were.
        tell(journal.change_at_least_here(|record| record.local.clear()));
    }
    Some(Booted {
        prepared: without_conditions(prepared),
        news,
        journal,
    })
}

fn tell(remembered: Result<(), JournalError>) {
    if let Err(error) = remembered {
        tracing::error!("what runs cannot be remembered: {error}");
    }
}

/// What is to run: a document, or, without one, the local files.
///
/// * Local files that somebody has edited win over every document.
/// * A document that was in force and had not proved itself is taken back: the daemon has ended
///   meanwhile, and it may be what ended it. So is one that was on its way back.
/// * One that was accepted and never tried is tried later, as any other.
fn at_start(record: &mut Record, local: &str, now_ms: i64) -> Option<String> {
    let locally = |since_ms| Active {
        origin: Origin::Local,
        sha256: local.to_owned(),
        since_ms,
    };
    let Some(active) = record.active.clone() else {
        record.local = local.to_owned();
        record.commit(locally(now_ms));
        return None;
    };
    if record.local != local {
        override_by(record, local, now_ms);
        return None;
    }
    let tried = record.pending.as_ref();
    let tried = tried.filter(|pending| pending.stage != Stage::Staged);
    if let Some(known) = tried.map(|pending| pending.why.clone()) {
        let standing = match known {
            Some((code, why)) => Standing::Back(code, why),
            None => Standing::back(Code::BootGuard, CUT_OFF),
        };
        record.take_back(standing);
        record.returns = true;
    }
    match active.origin {
        Origin::Local => None,
        Origin::Document { .. } => Some(active.sha256),
    }
}

/// The local files have been edited: they win, until a document of a higher number comes.
pub(super) fn override_by(record: &mut Record, local: &str, now_ms: i64) {
    if record.take_back(Standing::Overridden).is_none() {
        if let Some(outcome) = &mut record.outcome {
            outcome.standing = Standing::Overridden;
        }
    }
    record.is_withdrawn = false;
    record.local = local.to_owned();
    record.commit(Active {
        origin: Origin::Local,
        sha256: local.to_owned(),
        since_ms: now_ms,
    });
}

/// A document that has run before is to run again. Should that not be possible any more, since
/// something that it names is gone, then the document that was good before it, the latest first;
/// or why none of them can.
fn go_on(how: &Local, wanted: &str, journal: &mut Journal) -> Result<Prepared, String> {
    let record = journal.record();
    let is_document = |one: &&Active| one.origin != Origin::Local;
    let first = record.active.iter().filter(|one| one.sha256 == wanted);
    let others = record.good.iter().filter(|one| one.sha256 != wanted);
    let all: Vec<Active> = first.chain(others).filter(is_document).cloned().collect();
    let mut why = "there is no document".to_owned();
    for active in all {
        let text = journal.document(&active.sha256);
        let text = text.map_err(|error| error.to_string());
        match text.and_then(|text| document(how, &text)) {
            Ok(prepared) => {
                if active.sha256 != wanted {
                    tell(journal.change_at_least_here(|record| fall_back(record, &active, &why)));
                }
                return Ok(prepared);
            }
            Err(error) => {
                tracing::error!(
                    "the document {} cannot run any more: {error}",
                    active.sha256
                );
                why = error;
            }
        }
    }
    Err(why)
}

fn fall_back(record: &mut Record, to: &Active, why: &str) {
    if let Some(outcome) = &mut record.outcome {
        outcome.standing = match outcome.is_of(to) {
            true => Standing::InForce,
            false => Standing::back(Code::Config, why),
        };
    }
    record.commit(to.clone());
    record.returns = true;
}

/// A document that was kept, prepared, or why it cannot be.
pub(super) fn document(how: &Local, text: &str) -> Result<Prepared, String> {
    how.prepare_document(text).map_err(|failure| {
        let first = failure.diagnostics.first();
        first.map_or_else(String::new, |found| found.message.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::journal::{Outcome, Pending, Revision};

    fn document(rev: u64) -> Active {
        Active {
            origin: Origin::Document {
                scope: "n".to_owned(),
                rev,
            },
            sha256: format!("document {rev}"),
            since_ms: 1,
        }
    }

    fn pending(stage: Stage) -> Pending {
        Pending {
            scope: "n".to_owned(),
            revision: Revision {
                rev: 2,
                sha256: "document 2".to_owned(),
            },
            stage,
            needs_operator: false,
            confirm_s: 1,
            state_policy: None,
            signed_by: None,
            why: Some(("E_HEALTH".to_owned(), "it does not work".to_owned())),
        }
    }

    fn record(stage: Option<Stage>) -> Record {
        let mut record = Record::default();
        assert_eq!(at_start(&mut record, "local", 0), None);
        record.commit(document(1));
        record.outcome = Some(Outcome {
            scope: "n".to_owned(),
            revision: Revision {
                rev: 1,
                sha256: "document 1".to_owned(),
            },
            standing: Standing::InForce,
        });
        record.pending = stage.map(pending);
        record
    }

    #[test]
    fn what_was_tried_and_not_proved_is_taken_back_and_what_was_not_tried_waits() {
        let health = Standing::Back("E_HEALTH".to_owned(), "it does not work".to_owned());
        let guard = Standing::back(Code::BootGuard, CUT_OFF);
        let table = [
            (None, false, (1, Standing::InForce)),
            (Some(Stage::Staged), false, (1, Standing::InForce)),
            (Some(Stage::Switching), false, (2, guard.clone())),
            (Some(Stage::Probation), false, (2, guard)),
            (Some(Stage::Probation), true, (2, health.clone())),
            (Some(Stage::GoingBack), true, (2, health)),
        ];
        for (stage, is_known, (rev, standing)) in table {
            let mut record = record(stage);
            if let Some(pending) = record.pending.as_mut().filter(|_| !is_known) {
                pending.why = None;
            }
            let runs = at_start(&mut record, "local", 9);
            assert_eq!(runs.as_deref(), Some("document 1"), "{stage:?}");
            let tried = !matches!(stage, None | Some(Stage::Staged));
            assert_eq!(record.returns, tried, "{stage:?}");
            let waits = stage == Some(Stage::Staged);
            assert_eq!(record.pending.is_some(), waits, "{stage:?}");
            let outcome = record.outcome.unwrap();
            assert_eq!((outcome.revision.rev, outcome.standing), (rev, standing));
            assert_eq!(record.active, Some(document(1)));
        }
    }

    #[test]
    fn local_files_that_were_edited_win_and_stay() {
        for stage in [None, Some(Stage::Staged), Some(Stage::Probation)] {
            let mut record = record(stage);
            for _ in 0..2 {
                assert_eq!(at_start(&mut record, "edited", 9), None);
                let outcome = record.outcome.as_ref().unwrap();
                assert_eq!(outcome.standing, Standing::Overridden, "{stage:?}");
                assert_eq!(record.pending, None);
                let active = record.active.as_ref().unwrap();
                assert_eq!(
                    (&active.origin, active.sha256.as_str()),
                    (&Origin::Local, "edited")
                );
            }
        }
    }
}
