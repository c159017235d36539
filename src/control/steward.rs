//! The thread that minds the configuration: local files and documents, one at a time, from what is
//! asked to what came of it.
//!
//! Nobody else changes the journal's record of what is in force, or asks the daemon for another
//! configuration. What it must answer for is in [`super::apply`] (from a document to the switch)
//! and [`super::trial`] (from the switch to the word that it stays).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, after, never};
use crossbeam::select;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Scope;
use super::boot::{Booted, EDITED, News, boot, override_by};
use super::events::Audit;
use super::hearing::Hearing;
use super::journal::{Active, Journal, JournalError, Record, Stage, Standing};
use super::link::Endpoint;
use super::local::Local;
use super::mailbox::{Mailbox, Once};
use super::metrics;
use super::state::Telling;
use super::told::{Named, Phase, Reported, Status, remark};
use super::topics::Topics;
use super::trial::Trial;
use super::{Code, Fault};
use crate::clock;
use crate::config::options::Options;
use crate::config::{ControlMode, ControlSettings, Settings};
use crate::daemon::{Door, Failure, Prepared, Refused, Reloaded, Texts, Window, fingerprint};

/// How often what runs is looked at, while a document has to prove itself and else.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// Documents that are looked at at once, and how many more in a second.
const DOCUMENTS_AT_ONCE: f64 = 20.0;
const DOCUMENTS_PER_SECOND: f64 = 2.0;
/// Documents that are looked at before anything else has its turn.
const DOCUMENTS_IN_A_ROW: usize = 8;
/// How long the control broker may take, once it is there, to get what became of a document before
/// another one is looked at.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Why a document is taken back that was on probation when the daemon was told to stop.
const STOPPED: &str = "the daemon was stopped while the document was being tried out";

/// What the steward is asked.
#[derive(Debug)]
pub(super) enum Order {
    /// The local files are to be read anew.
    Reload,
    /// An operator confirms a document by its number.
    Confirm(u64, Sender<Result<Value, Fault>>),
    /// An operator wants an earlier configuration: this one, or the one before.
    RollBack(Option<String>, Sender<Result<Value, Fault>>),
    /// How the node and its configuration are.
    Status(Sender<Value>),
    /// The text that runs, without secrets.
    Text(Sender<Value>),
    /// The daemon has ended, in order or not, and the process is about to. Answered when nothing
    /// is written any more.
    End(bool, Sender<()>),
}

/// What the steward speaks and listens to.
pub(super) struct Wires {
    pub(super) door: Door,
    pub(super) window: Window,
    pub(super) mailbox: Mailbox,
    pub(super) hearing: Hearing,
    pub(super) endpoints: watch::Sender<Option<Arc<Endpoint>>>,
    /// Where the journal is for others, once there is one.
    pub(super) journal: SharedJournal,
    /// Whom requests are for, and what is let in.
    pub(super) manner: Arc<Mutex<Manner>>,
}

/// The journal, once control is not off.
pub(super) type SharedJournal = Arc<Mutex<Option<Arc<Mutex<Journal>>>>>;

/// What those who answer requests must know of the settings.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) settings: Settings,
    pub(super) topics: Topics,
}

/// What wakes it.
pub(super) struct Ears {
    pub(super) orders: Receiver<Order>,
    pub(super) bell: Receiver<()>,
    pub(super) too_large: Receiver<usize>,
}

/// Minds the configuration.
pub(super) struct Steward {
    pub(super) local: Local,
    pub(super) wires: Wires,
    /// `[control]` as it is in force, and the topics that follow from it.
    pub(super) settings: Settings,
    /// Its connection.
    pub(super) options: Options,
    pub(super) topics: Topics,
    /// What was told of the last document.
    pub(super) reported: Reported,
    pub(super) reported_version: u64,
    /// Until when others wait for the control broker to get the end of a document.
    told_until: Option<Instant>,
    /// How far the document has come that is being looked at.
    pub(super) reached: Option<Phase>,
    pub(super) trial: Option<Trial>,
    /// Documents whose time has not come, and when they are looked at again.
    pub(super) early: BTreeMap<Scope, (Vec<u8>, Instant)>,
    /// Documents that a stronger one keeps from being looked at.
    pub(super) shadowed: BTreeMap<Scope, Vec<u8>>,
    pub(super) telling: Telling,
    /// When going back is tried again, and what runs as long as that does not succeed.
    pub(super) back_at: Option<Instant>,
    pub(super) stuck: Option<Active>,
    /// Whether the local files are faulty as they are now, so that what ran before goes on.
    pub(super) is_local_faulty: bool,
    /// Whether a document that was accepted before the start is still to be tried.
    resumes: bool,
    reloads: Arc<AtomicBool>,
    allowance: (f64, Instant),
}

impl Steward {
    pub(super) fn new(
        local: Local,
        wires: Wires,
        (prepared, news): (&Prepared, Vec<News>),
        reloads: Arc<AtomicBool>,
    ) -> Steward {
        let settings = prepared.settings.clone();
        let topics = topics_of(&settings.control);
        let mut steward = Steward {
            local,
            wires,
            settings,
            options: Options::default(),
            topics,
            reported: Reported::new(Status::InSync, None),
            reported_version: 0,
            told_until: None,
            reached: None,
            trial: None,
            early: BTreeMap::new(),
            shadowed: BTreeMap::new(),
            telling: Telling::new(),
            back_at: None,
            stuck: None,
            is_local_faulty: false,
            resumes: true,
            reloads,
            allowance: (DOCUMENTS_AT_ONCE, Instant::now()),
        };
        steward.connect(prepared);
        steward.tell_standing();
        steward.tell_news(news);
        steward
    }

    /// Until nobody asks any more.
    pub(super) fn run(mut self, mut ears: Ears) {
        loop {
            let look = match (self.settings.control.mode, &self.trial) {
                (ControlMode::Off, _) => never(),
                (_, Some(_)) => after(LOOK_EVERY.0),
                (_, None) => after(LOOK_EVERY.1),
            };
            select! {
                recv(ears.orders) -> order => match order {
                    Ok(Order::End(is_ordered, done)) => {
                        self.end(is_ordered);
                        // The link says farewell: what belongs to it stays until the process ends.
                        let _ = done.send(());
                        ears.orders.iter().for_each(drop);
                        return;
                    }
                    Ok(order) => self.obey(order),
                    Err(_) => return,
                },
                recv(ears.bell) -> ring => if ring.is_err() { ears.bell = never() },
                recv(ears.too_large) -> bytes => match bytes {
                    Ok(bytes) => self.too_large(bytes),
                    // The link has ended, and with it all that could come.
                    Err(_) => ears.too_large = never(),
                },
                recv(look) -> _ => {}
            }
            // Asked for when there was no room to say so.
            if self.reloads.load(Ordering::SeqCst) {
                self.reload();
            }
            if self.settings.control.mode != ControlMode::Off && !self.wires.window.is_ending() {
                self.look_after_trial();
                self.look_at_documents();
                self.tell();
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            // The flag says it, also when it has been heeded meanwhile.
            Order::Reload | Order::End(..) => {}
            // Who asked may be gone.
            Order::Confirm(_, answer) | Order::RollBack(_, answer)
                if self.wires.window.is_ending() =>
            {
                let fault = Fault::new(Code::Stopping, "the daemon is stopping");
                drop(answer.send(Err(fault)));
            }
            Order::Confirm(rev, answer) => drop(answer.send(self.confirm(rev))),
            Order::RollBack(to, answer) => drop(answer.send(self.roll_back(to.as_deref()))),
            Order::Status(answer) => drop(answer.send(self.status())),
            Order::Text(answer) => drop(answer.send(self.text())),
        }
    }

    /// Looks at what has come, the node's own document first. While one is being tried out, the
    /// others wait.
    fn look_at_documents(&mut self) {
        if !self.wires.window.is_up() {
            return;
        }
        if std::mem::take(&mut self.resumes) {
            if self.record().returns {
                self.remember(|record| record.returns = false);
            }
            if self.takes_documents() {
                self.take_up();
            }
        }
        if !self.takes_documents() {
            // What came while others were taken is not to be taken by what is wanted now.
            self.wires.hearing.forget_documents();
            (self.early, self.shadowed) = (BTreeMap::new(), BTreeMap::new());
            return;
        }
        for (scope, (payload, at)) in std::mem::take(&mut self.early) {
            // One that a new connection does not bring any more was withdrawn.
            match at <= Instant::now() && self.wires.hearing.has(&scope) {
                true => self.wires.hearing.put_back(scope, payload),
                false => drop(self.early.insert(scope, (payload, at))),
            }
        }
        // However fast they come, whoever asks for something has a turn in between.
        for _ in 0..DOCUMENTS_IN_A_ROW {
            if self.trial.is_some() || !self.is_told() || !self.may_look() {
                return;
            }
            let Some((scope, payload)) = self.wires.hearing.next_document() else {
                return;
            };
            self.document(scope, &payload);
        }
        self.wires.hearing.ring();
    }

    /// Whether the control broker knows what became of the document before, so that whoever waits
    /// for that has heard of it. Whoever cannot be told now is told before the next one, too.
    fn is_told(&mut self) -> bool {
        let Some(until) = self.told_until else {
            return true;
        };
        let (mailbox, now) = (&self.wires.mailbox, Instant::now());
        if mailbox.is_known(&self.topics.reported(), self.reported_version) {
            self.told_until = None;
        } else if mailbox.connection().is_none() {
            self.told_until = Some(now + TOLD_WITHIN);
        } else if until <= now {
            self.told_until = None;
        }
        self.told_until.is_none()
    }

    fn takes_documents(&self) -> bool {
        match self.settings.control.mode {
            ControlMode::Off | ControlMode::Monitor => false,
            ControlMode::Validate | ControlMode::Signed | ControlMode::Unsigned => true,
        }
    }

    /// Whose documents are taken, the strongest first.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let groups = self.settings.control.groups.iter().cloned();
        let groups = groups.map(Scope::Group);
        [self.topics.scope()].into_iter().chain(groups).collect()
    }

    /// Whether there is time for another document: whoever sends many waits.
    fn may_look(&mut self) -> bool {
        let (left, since) = &mut self.allowance;
        let more = since.elapsed().as_secs_f64() * DOCUMENTS_PER_SECOND;
        *left = (*left + more).min(DOCUMENTS_AT_ONCE);
        *since = Instant::now();
        *left >= 1.0
    }

    pub(super) fn spend(&mut self) {
        self.allowance.0 -= 1.0;
    }

    /// A message was larger than anything that is read.
    fn too_large(&mut self, bytes: usize) {
        let message = format!(
            "a message of {bytes} bytes: nothing so large is read, and no documents for five \
             minutes"
        );
        let fault = Fault::new(Code::TooLarge, message);
        self.reached = None;
        if self.trial.is_none() {
            self.reject(None, &fault, Vec::new());
            return;
        }
        // What is told of the document that is being tried out stands.
        tracing::warn!("{fault}");
        let details = json!({ "code": fault.code.word() });
        self.audit(Audit::Rejected, &fault.message, &details);
    }

    /// The local files as they are now, or the document over them when they are as they were.
    fn reload(&mut self) {
        self.reloads.store(false, Ordering::SeqCst);
        let prepared = self.local.prepare();
        self.is_local_faulty = prepared.is_err();
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => {
                self.refuse_local(failure);
                return;
            }
        };
        let sha256 = fingerprint(&prepared.texts);
        if self.settings.control.mode == ControlMode::Off
            && prepared.settings.control.mode == ControlMode::Off
        {
            let _ = self.wires.door.reload(move || Ok(prepared));
            return;
        }
        if self.journal().is_none() {
            self.turn_on(prepared);
            return;
        }
        let is_edited = self.remembers(|record| record.local != sha256);
        let again = match is_edited {
            true => Ok(None),
            false => self.document_in_force(),
        };
        let again = match again {
            Ok(again) => again,
            Err(error) => {
                tracing::error!("the configuration is not reloaded: {error}");
                return;
            }
        };
        match again {
            Some(text) => match self.local.prepare_document(&text) {
                Ok(prepared) => drop(self.put(prepared)),
                Err(failure) => self.refuse_local(failure),
            },
            None => self.put_local(prepared, &sha256, is_edited),
        }
    }

    /// The daemon tells what is wrong, as it does without control.
    fn refuse_local(&self, failure: Failure) {
        let _ = self.wires.door.reload(move || Err(failure));
    }

    fn put_local(&mut self, prepared: Prepared, sha256: &str, is_edited: bool) {
        let texts = prepared.texts.clone();
        if self.put(prepared).is_err() {
            return;
        }
        if is_edited {
            self.trial = None;
            self.is_unstuck();
            let now_ms = clock::wall().0;
            self.remember_now(|record| override_by(record, sha256, now_ms));
            // Only now: what the record does not name is cleared away with its next change.
            if let Some(journal) = self.journal() {
                journal.keep_local(&texts);
            }
            self.local.put_in_force(texts);
            self.audit(Audit::Applied, EDITED, &json!({}));
        }
        self.tell_standing();
    }

    /// Control that was off is not any more: what is to run is decided as at a start.
    fn turn_on(&mut self, local: Prepared) {
        let Booted {
            prepared,
            journal,
            news,
        } = match boot(&self.local, local) {
            Ok(booted) => booted,
            Err(error) => {
                tracing::error!("the configuration is not reloaded: {error}");
                return;
            }
        };
        *lock(&self.wires.journal) = Some(Arc::new(Mutex::new(journal)));
        if self.put(prepared).is_err() {
            // It is as it was: off, and the journal is for the next who asks.
            *lock(&self.wires.journal) = None;
            return;
        }
        self.resumes = true;
        self.tell_standing();
        self.tell_news(news);
    }

    /// What a start has brought about.
    fn tell_news(&self, news: Vec<News>) {
        for News { what, why, details } in news {
            self.audit(what, &why, &details);
        }
    }

    /// What ran although it was to be gone does not any more.
    pub(super) fn is_unstuck(&mut self) {
        (self.back_at, self.stuck) = (None, None);
    }

    /// The daemon has ended. When that was in order, it is no fault of a document that was on its
    /// way: one that was not in force is tried again, and of one that was on probation the record
    /// says what happened.
    fn end(&mut self, is_ordered: bool) {
        if !is_ordered || self.record().pending.is_none() {
            return;
        }
        let is_tried = self.trial.is_some();
        let why = (Code::BootGuard.word().to_owned(), STOPPED.to_owned());
        self.remember(|record| {
            let Some(pending) = &mut record.pending else {
                return;
            };
            match pending.stage {
                Stage::Staged | Stage::GoingBack => {}
                // Whether the log has come to it is not known.
                Stage::Switching if !is_tried => {
                    pending.stage = Stage::Staged;
                    record.returns = true;
                }
                Stage::Switching | Stage::Probation => pending.why = Some(why),
            }
        });
    }

    /// The text of the document that runs; none when the local files do.
    fn document_in_force(&self) -> Result<Option<String>, JournalError> {
        let record = self.record();
        let tried = self.trial.as_ref().map(|trial| trial.sha256.clone());
        let active = record.active.filter(|active| active.rev().is_some());
        let sha256 = tried.or_else(|| Some(active?.sha256));
        let (Some(sha256), Some(journal)) = (sha256, self.journal()) else {
            return Ok(None);
        };
        journal.document(&sha256).map(Some)
    }

    /// Has the daemon go over to a configuration, and the link with it.
    pub(super) fn put(&mut self, prepared: Prepared) -> Result<Reloaded, Refused> {
        let (settings, options) = (prepared.settings.clone(), prepared.control.clone());
        let mut telling = self.telling.clone();
        telling.runs(&prepared);
        let reloaded = self.wires.door.reload(move || Ok(prepared))?;
        self.telling = telling;
        self.take_settings(settings, options);
        Ok(reloaded)
    }

    fn connect(&mut self, prepared: &Prepared) {
        self.telling.runs(prepared);
        self.take_settings(prepared.settings.clone(), prepared.control.clone());
    }

    /// Speaks to whom the settings say, as whom they say.
    fn take_settings(&mut self, settings: Settings, options: Options) {
        let topics = topics_of(&settings.control);
        if topics != self.topics {
            self.wires.mailbox.forget_all();
            self.topics = topics;
        }
        self.settings = settings;
        self.options = options;
        let manner = Manner {
            settings: self.settings.clone(),
            topics: self.topics.clone(),
        };
        *lock(&self.wires.manner) = manner;
        let endpoint = self.endpoint();
        let is_same = match (&*self.wires.endpoints.borrow(), &endpoint) {
            (None, None) => true,
            (Some(known), Some(endpoint)) => known.is_same(endpoint),
            _ => false,
        };
        if !is_same {
            self.wires.mailbox.moves();
            self.wires.endpoints.send_replace(endpoint.map(Arc::new));
        }
    }

    fn endpoint(&self) -> Option<Endpoint> {
        let control = &self.settings.control;
        if control.mode == ControlMode::Off {
            return None;
        }
        let scopes = self.takes_documents().then(|| self.scopes());
        Endpoint::new(
            &self.options,
            self.topics.clone(),
            scopes,
            control.bytes_max,
        )
    }

    pub(super) fn journal(&self) -> Option<JournalGuard> {
        lock(&self.wires.journal).clone().map(JournalGuard)
    }

    /// What is remembered.
    pub(super) fn record(&self) -> Record {
        self.remembers(Record::clone)
    }

    /// What runs: a document that is being tried out or cannot be left, or what has proved itself.
    pub(super) fn runs(&self) -> Option<Active> {
        let tried = self.trial.as_ref().map(Trial::active);
        let tried = tried.or_else(|| self.stuck.clone());
        tried.or_else(|| self.remembers(|record| record.active.clone()))
    }

    /// A part of what is remembered.
    pub(super) fn remembers<T>(&self, part: impl FnOnce(&Record) -> T) -> T {
        match self.journal() {
            Some(journal) => journal.read(part),
            None => part(&Record::default()),
        }
    }

    /// Remembers something; that it cannot is told in the log, and false.
    pub(super) fn remember(&self, change: impl FnOnce(&mut Record)) -> bool {
        let Some(journal) = self.journal() else {
            return false;
        };
        match journal.change(change) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!("{error}");
                false
            }
        }
    }

    /// The same for what is so whether or not it can be written: after a crash the disk says what
    /// was before, which leads to the same.
    pub(super) fn remember_now(&self, change: impl FnOnce(&mut Record)) {
        if let Some(journal) = self.journal() {
            journal.change_now(change);
        }
    }

    /// What became of the last document that was accepted.
    pub(super) fn tell_standing(&mut self) {
        let record = self.record();
        let outcome = record.outcome.filter(|_| !record.is_withdrawn);
        let Some(outcome) = outcome else {
            self.report(Reported::new(Status::InSync, None));
            return;
        };
        let named = Named::of(&outcome.scope, &outcome.revision);
        let mut reported = Reported::new(Status::InSync, Some(named));
        match outcome.standing {
            Standing::InForce => {}
            Standing::Overridden => reported.status = Status::LocalOverride,
            Standing::Back(code, why) => {
                reported.status = match Code::of(&code) {
                    Some(Code::Health | Code::Unconfirmed | Code::BootGuard | Code::Operator) => {
                        Status::RolledBack
                    }
                    _ => Status::Rejected,
                };
                reported.code = Some(code);
                reported.errors = vec![remark(&why)];
            }
        }
        self.report(reported);
    }

    /// Publishes what became of a document.
    pub(super) fn report(&mut self, reported: Reported) {
        self.reported = reported;
        let Some(active) = self.runs() else { return };
        let topic = self.topics.reported();
        let accepted = self.remembers(|record| record.accepted.clone());
        let payload = self
            .reported
            .json((&active, self.telling.parts()), &accepted)
            .to_string()
            .into_bytes();
        self.reported_version = self.wires.mailbox.keep(&topic, payload);
        let is_end = self.reported.desired.is_some() && self.reported.status.is_end();
        self.told_until = is_end.then(|| Instant::now() + TOLD_WITHIN);
        self.tell();
    }

    /// A document is refused, and nothing else happens.
    pub(super) fn reject(&mut self, named: Option<Named>, fault: &Fault, errors: Vec<Value>) {
        tracing::warn!("a document is refused: {fault}");
        let status = match fault.code {
            Code::Expired => Status::Expired,
            _ => Status::Rejected,
        };
        let mut reported = Reported::new(status, named);
        reported.phase = self.reached;
        reported.code = Some(fault.code.word().to_owned());
        reported.errors = match errors.is_empty() {
            true => vec![remark(&fault.message)],
            false => errors,
        };
        let desired = reported.desired.as_ref();
        let details = json!({
            "code": fault.code.word(),
            "rev": desired.and_then(|named| named.rev),
            "sha256": desired.and_then(|named| named.sha256.as_ref()),
        });
        self.report(reported);
        self.audit(Audit::Rejected, &fault.message, &details);
    }

    /// An event for whoever keeps account.
    pub(super) fn audit(&self, what: Audit, why: &str, details: &Value) {
        let event = what.event(why, details, clock::wall());
        self.wires.mailbox.send(Once {
            topic: self.topics.own("event"),
            payload: event.to_string().into_bytes(),
            is_fleeting: false,
        });
    }

    fn status(&self) -> Value {
        let record = self.record();
        let reported = self.runs();
        let parts = self.telling.parts();
        let reported =
            reported.map(|active| self.reported.json((&active, parts), &record.accepted));
        let state = self
            .state_body()
            .json(self.wires.mailbox.connection().unwrap_or(0));
        let good: Vec<Value> = record
            .good
            .iter()
            .map(|one| {
                json!({
                    "rev": one.rev(),
                    "sha256": one.sha256,
                    "since": crate::event::Timestamp(one.since_ms).utc(),
                })
            })
            .collect();
        json!({ "state": state, "config": reported, "good": good, "control": self.counts() })
    }

    /// What runs, without secrets.
    fn text(&self) -> Value {
        let mut text = self.telling.text();
        let config = self.state_body().config;
        if let Some(object) = text.as_object_mut() {
            object.insert("rev".to_owned(), json!(config.rev));
            object.insert("sha256".to_owned(), config.sha256.into());
        }
        text
    }
}

/// The journal, for a moment.
pub(super) struct JournalGuard(Arc<Mutex<Journal>>);

impl JournalGuard {
    pub(super) fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), JournalError> {
        lock(&self.0).change(change)
    }

    pub(super) fn change_now(&self, change: impl FnOnce(&mut Record)) {
        if let Err(error) = lock(&self.0).change_at_least_here(change) {
            tracing::error!("{error}");
        }
    }

    pub(super) fn document(&self, sha256: &str) -> Result<String, JournalError> {
        lock(&self.0).document(sha256)
    }

    /// Keeps a document, and remembers why.
    pub(super) fn keep(
        &self,
        (sha256, text): (&str, &str),
        change: impl FnOnce(&mut Record),
    ) -> Result<(), JournalError> {
        let mut journal = lock(&self.0);
        journal.keep(sha256, text)?;
        journal.change(change)
    }

    /// The local files; what they are is known in memory, too.
    pub(super) fn keep_local(&self, texts: &Texts) {
        if let Err(error) = lock(&self.0).keep_local(texts) {
            tracing::error!("{error}");
        }
    }

    /// What is remembered; for a look, as others wait meanwhile.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Record) -> T) -> T {
        read(lock(&self.0).record())
    }
}

/// The topics of the node that the settings name.
pub(super) fn topics_of(control: &ControlSettings) -> Topics {
    let node = control.node.clone().unwrap_or_else(super::node::name);
    Topics::new(&control.root, &node)
}

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether it is known what time it is, also by what the log knows of it.
pub(super) fn is_synchronised(window: &Window) -> bool {
    metrics::is_clock_synchronised(window.view().as_deref())
}

#[cfg(test)]
mod tests;
