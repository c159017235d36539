//! The thread that answers requests, one at a time; whoever sends too many is not heard, and all
//! of them together take no more than a part of a core.
//!
//! A request that comes again, by its id, gets the answer that it got: nothing is done twice for
//! one that was delivered twice. What has to be signed is obeyed once, also over restarts: each
//! must be newer than the last.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use serde_json::{Value, json};

use super::allowance::Allowance;
use super::apply::faults_of;
use super::events::Audit;
use super::hearing::Asked;
use super::keys::Trusted;
use super::local::Local;
use super::mailbox::{Mailbox, Once};
use super::request::{self, Id, Refused, Request};
use super::steward::{Manner, Order, SharedJournal, is_synchronised, lock};
use super::verbs::{self, DeskVerb, NodeVerb, Verb};
use super::{Code, Fault};
use crate::clock;
use crate::config::ControlMode;
use crate::daemon::{Prepared, Window};
use crate::diagnostic::Diagnostic;

/// Answers that are kept for requests that come again.
const ANSWERS_MAX: usize = 256;
/// Their bytes.
const ANSWERS_BYTES_MAX: usize = 1 << 20;
/// One that is larger is not kept, as it would have many others forgotten: whoever asks again gets
/// another one, and nothing that a request has changed has so long an answer.
const ANSWER_KEPT_BYTES_MAX: usize = 64 << 10;
/// How long what minds the configuration may take: a reload ends sources and sinks in order.
const STEWARD_WITHIN: Duration = Duration::from_secs(60);
/// How far the time of a signed request may be ahead of a clock that is right: behind one that is
/// from years ahead, no other would be newer.
const AHEAD_MS_MAX: u64 = 10 * 60 * 1000;
/// An answer is not larger; what is has to be asked for in parts. The largest configuration, each
/// byte of it escaped, finds room.
const ANSWER_BYTES_MAX: usize = 3 << 20;

/// Answers requests.
pub(super) struct Desk {
    pub(super) local: Local,
    pub(super) verbs: verbs::Desk,
    pub(super) window: Window,
    pub(super) mailbox: Mailbox,
    pub(super) manner: Arc<Mutex<Manner>>,
    pub(super) journal: SharedJournal,
    pub(super) orders: Sender<Order>,
    /// Told when the daemon is to begin anew.
    pub(super) restart: Sender<()>,
    pub(super) answers: Arc<Mutex<Answers>>,
}

/// What was answered to whom.
#[derive(Debug, Default)]
pub(super) struct Answers {
    all: VecDeque<(String, Id, Vec<u8>)>,
    bytes: usize,
    /// Taps whose rows are being waited for: they will be answered, and once.
    awaited: Vec<Id>,
}

impl Answers {
    fn find(&self, verb: &str, id: &Id) -> Option<Vec<u8>> {
        let mut all = self.all.iter();
        let found = all.find(|(of, known, _)| of == verb && known == id);
        found.map(|(_, _, answer)| answer.clone())
    }

    fn is_awaited(&self, id: &Id) -> bool {
        self.awaited.contains(id)
    }

    fn keep(&mut self, verb: &str, id: &Id, answer: Vec<u8>) {
        if answer.len() > ANSWER_KEPT_BYTES_MAX {
            return;
        }
        self.bytes += answer.len();
        self.all.push_back((verb.to_owned(), id.clone(), answer));
        while self.all.len() > ANSWERS_MAX || self.bytes > ANSWERS_BYTES_MAX {
            let Some((_, _, oldest)) = self.all.pop_front() else {
                return;
            };
            self.bytes -= oldest.len();
        }
    }
}

impl Desk {
    /// Until nobody asks any more.
    pub(super) fn run(self, asked: &Receiver<Asked>) {
        let mut allowance = Allowance::new(Instant::now());
        for one in asked {
            let (computed, began) = (clock::computed(), Instant::now());
            self.take(&one);
            let taken = match Verb::of(&one.verb) {
                // Computed by another thread, for which this one waits.
                Some(Verb::Desk(DeskVerb::QueryTest)) => began.elapsed(),
                _ => clock::computed().saturating_sub(computed),
            };
            std::thread::sleep(allowance.take(taken, Instant::now()));
        }
    }

    fn take(&self, asked: &Asked) {
        let verb = asked.verb.as_str();
        let read = asked.payload.as_ref().map_err(Refused::clone);
        let request = match read.and_then(|payload| request::read(payload)) {
            Ok(request) => request,
            Err(refused) => {
                let answer = answer(refused.id.as_ref(), Err(refused.fault));
                self.say(verb, answer);
                return;
            }
        };
        let known = lock(&self.answers).find(verb, &request.id);
        if let Some(known) = known {
            self.say(verb, known);
            return;
        }
        let known = match Verb::of(verb) {
            Some(known) => known,
            None => {
                let fault = Fault::new(Code::Verb, format!("there is no verb '{}'", brief(verb)));
                self.say(verb, answer(Some(&request.id), Err(fault)));
                return;
            }
        };
        let permitted = self.permit(known, verb, &request, asked);
        let signed_by = permitted.as_ref().ok().cloned().flatten();
        let result = match (permitted, known) {
            (Err(fault), _) => Err(fault),
            (Ok(_), Verb::Tap) if lock(&self.answers).is_awaited(&request.id) => return,
            (Ok(_), Verb::Tap) => match self.verbs.tap(&request.args) {
                Ok(tap) => {
                    self.wait_for(tap, request.id);
                    return;
                }
                Err(fault) => Err(fault),
            },
            (Ok(_), Verb::Desk(verb)) => self.verbs.answer(verb, &request.args),
            (Ok(_), Verb::Node(verb)) => self.answer(verb, &request.args),
        };
        if known.changes() {
            self.audit(verb, (&request.id, signed_by), &result);
        }
        let answer = answer(Some(&request.id), result);
        lock(&self.answers).keep(verb, &request.id, answer.clone());
        self.say(verb, answer);
    }

    /// Whether it may be obeyed: in time, in this mode, signed where it must be; by whom.
    fn permit(
        &self,
        known: Verb,
        verb: &str,
        request: &Request,
        asked: &Asked,
    ) -> Result<Option<String>, Fault> {
        let waited_s = asked.at.elapsed().as_secs();
        let now_ms = clock::wall().0.unsigned_abs();
        let age_s = match request.ts {
            Some(ts) if is_synchronised(&self.window) => now_ms.saturating_sub(ts) / 1000,
            Some(_) | None => 0,
        };
        if request
            .ttl_s
            .is_some_and(|ttl| waited_s.max(age_s) > u64::from(ttl))
        {
            return Err(Fault::new(Code::Expired, "its time is over"));
        }
        let manner = lock(&self.manner).clone();
        let mode = manner.settings.control.mode;
        let may_change = matches!(mode, ControlMode::Signed | ControlMode::Unsigned);
        if known.changes() && !may_change {
            let message = "control.mode lets nothing be changed";
            return Err(Fault::new(Code::Mode, message));
        }
        if !(known.needs_signature() && mode == ControlMode::Signed) {
            return Ok(None);
        }
        let (trusted, _) = Trusted::read(&manner.settings.security.trusted_path);
        let kid = request.verify(manner.topics.node(), verb, &trusted)?;
        let ts = request.ts.unwrap_or(0);
        if is_synchronised(&self.window) && ts.saturating_sub(now_ms) > AHEAD_MS_MAX {
            let message = "field `ts`: it is further ahead than clocks differ";
            return Err(Fault::new(Code::Request, message));
        }
        self.obey_once(ts)?;
        Ok(Some(kid))
    }

    /// A signed request is newer than all before it, and remembered before it is obeyed.
    fn obey_once(&self, ts: u64) -> Result<(), Fault> {
        let journal = lock(&self.journal).clone();
        let journal = journal.ok_or_else(|| Fault::new(Code::Failed, "there is no journal"))?;
        let mut journal = lock(&journal);
        if ts <= journal.record().obeyed_ts {
            let message = "field `ts`: a signed request that is as new was obeyed before";
            return Err(Fault::new(Code::Replay, message));
        }
        let remembered = journal.change(|record| record.obeyed_ts = ts);
        remembered.map_err(|error| Fault::new(Code::Failed, error.to_string()))
    }

    fn answer(&self, verb: NodeVerb, args: &Value) -> Result<Value, Fault> {
        if !(args.is_object() || args.is_null()) {
            return Err(Fault::new(Code::Args, "'args' is not an object"));
        }
        match verb {
            NodeVerb::Status => self.ask(Order::Status),
            NodeVerb::ConfigGet => self.ask(Order::Text),
            NodeVerb::ConfigDiff => {
                let prepared = self.prepare(args)?;
                let view = self.window.view();
                let view = view.ok_or_else(|| Fault::new(Code::Busy, "nothing runs yet"))?;
                Ok(verbs::shown::difference(&view, &prepared))
            }
            NodeVerb::ConfigValidate => Ok(self.validate(args)?),
            NodeVerb::ConfigConfirm => {
                let rev = args.get("rev").and_then(Value::as_u64);
                let rev = rev.ok_or_else(|| Fault::new(Code::Args, "`rev` is a number"))?;
                self.ask(|answer| Order::Confirm(rev, answer))?
            }
            NodeVerb::ConfigRollback => {
                let to = match args.get("sha256") {
                    None | Some(Value::Null) => None,
                    Some(Value::String(sha256)) => Some(sha256.clone()),
                    Some(_) => return Err(Fault::new(Code::Args, "`sha256` is a text")),
                };
                self.ask(|answer| Order::RollBack(to, answer))?
            }
            NodeVerb::Restart => {
                let _ = self.restart.try_send(());
                Ok(json!({}))
            }
        }
    }

    /// Asks who minds the configuration.
    fn ask<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> Result<T, Fault> {
        let (answer, answered) = bounded(1);
        let busy = || Fault::new(Code::Busy, "the configuration is being changed");
        let sent = self.orders.send_timeout(order(answer), STEWARD_WITHIN);
        sent.map_err(|_| busy())?;
        answered.recv_timeout(STEWARD_WITHIN).map_err(|_| busy())
    }

    fn content<'a>(&self, args: &'a Value) -> Result<&'a str, Fault> {
        let content = args.get("content").and_then(Value::as_str);
        let content = content.ok_or_else(|| Fault::new(Code::Args, "`content` is a text"))?;
        let bytes_max = lock(&self.manner).settings.control.bytes_max;
        if content.len() > bytes_max {
            let message = format!("the content has more than {bytes_max} bytes");
            return Err(Fault::new(Code::TooLarge, message));
        }
        Ok(content)
    }

    fn prepare(&self, args: &Value) -> Result<Prepared, Fault> {
        let prepared = self.local.prepare_document(self.content(args)?);
        prepared.map_err(|failure| faults_of(&failure).0)
    }

    fn validate(&self, args: &Value) -> Result<Value, Fault> {
        let found = self.local.prepare_document(self.content(args)?);
        Ok(match found {
            Ok(prepared) => {
                let warnings: Vec<Value> = prepared.warnings.iter().map(Diagnostic::json).collect();
                json!({ "valid": true, "errors": [], "warnings": warnings })
            }
            Err(failure) => {
                let (fault, errors) = faults_of(&failure);
                let code = fault.code.word();
                json!({ "valid": false, "code": code, "errors": errors, "warnings": [] })
            }
        })
    }

    /// Rows are waited for beside the other requests.
    fn wait_for(&self, tap: verbs::Tap, id: Id) {
        let mailbox = self.mailbox.clone();
        let answers = Arc::clone(&self.answers);
        let verb = Verb::Tap.word();
        let topic = lock(&self.manner).topics.response(verb);
        lock(&answers).awaited.push(id.clone());
        let awaited = Awaited(answers, id.clone());
        let wait = move || {
            let Awaited(answers, id) = &awaited;
            let payload = answer(Some(id), Ok(tap.wait()));
            lock(answers).keep(verb, id, payload.clone());
            drop(awaited);
            mailbox.send(Once {
                topic,
                payload,
                is_fleeting: false,
            });
        };
        let thread = std::thread::Builder::new().name("tap".to_owned());
        if let Err(error) = thread.spawn(wait) {
            let message = format!("rows cannot be waited for: {error}");
            self.say(
                verb,
                answer(Some(&id), Err(Fault::new(Code::Failed, message))),
            );
        }
    }

    fn say(&self, verb: &str, payload: Vec<u8>) {
        let topics = lock(&self.manner).topics.clone();
        // A verb that could not be published to was none of ours.
        if verb.contains(['+', '#']) {
            return;
        }
        self.mailbox.send(Once {
            topic: topics.response(brief(verb)),
            payload,
            is_fleeting: false,
        });
    }

    /// What was asked for, by whose key, and what came of it.
    fn audit(
        &self,
        verb: &str,
        (id, signed_by): (&Id, Option<String>),
        result: &Result<Value, Fault>,
    ) {
        let (why, code) = match result {
            Ok(_) => ("it was obeyed".to_owned(), None),
            Err(fault) => (fault.message.clone(), Some(fault.code.word())),
        };
        tracing::info!(verb, id = id.text(), signed_by, "a request: {why}");
        let details =
            json!({ "verb": verb, "id": id.json(), "signed_by": signed_by, "code": code });
        let event = Audit::Request.event(&why, &details, clock::wall());
        self.mailbox.send(Once {
            topic: lock(&self.manner).topics.own("event"),
            payload: event.to_string().into_bytes(),
            is_fleeting: false,
        });
    }
}

/// A tap whose rows are waited for, however that ends.
struct Awaited(Arc<Mutex<Answers>>, Id);

impl Drop for Awaited {
    fn drop(&mut self) {
        let Awaited(answers, id) = self;
        lock(answers).awaited.retain(|other| other != id);
    }
}

/// What was asked for, as far as it is shown.
fn brief(verb: &str) -> &str {
    const BYTES_MAX: usize = 64;
    let end = (0..=verb.len().min(BYTES_MAX)).rev();
    let mut end = end.filter(|at| verb.is_char_boundary(*at));
    verb.get(..end.next().unwrap_or(0)).unwrap_or_default()
}

fn answer(id: Option<&Id>, result: Result<Value, Fault>) -> Vec<u8> {
    let id = id.map(Id::json);
    let refused = |fault: &Fault| {
        json!({
            "v": 1,
            "id": id,
            "status": "error",
            "error": { "code": fault.code.word(), "message": fault.message },
        })
    };
    let body = match result {
        Ok(data) => json!({ "v": 1, "id": id, "status": "ok", "data": data }),
        Err(fault) => refused(&fault),
    };
    let bytes = body.to_string().into_bytes();
    match bytes.len() <= ANSWER_BYTES_MAX {
        true => bytes,
        false => {
            let message = format!("the answer has {} bytes: ask for less", bytes.len());
            refused(&Fault::new(Code::TooLarge, message))
                .to_string()
                .into_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        let read = request::read(json!({ "id": text }).to_string().as_bytes());
        read.unwrap().id
    }

    #[test]
    fn as_many_answers_are_known_as_is_said_and_a_large_one_makes_none_forgotten() {
        let mut answers = Answers::default();
        let (first, second) = (id("0"), id("1"));
        for number in 0..ANSWERS_MAX {
            let number = number.to_string();
            answers.keep("ping", &id(&number), number.into_bytes());
        }
        let large = vec![0; ANSWER_KEPT_BYTES_MAX + 1];
        answers.keep("config.get", &id("large"), large);
        assert_eq!(answers.find("ping", &first), Some(b"0".to_vec()));
        // Another verb is another request.
        assert_eq!(answers.find("status", &first), None);
        answers.keep("ping", &id("one more"), Vec::new());
        assert_eq!(answers.find("ping", &first), None);
        assert_eq!(answers.find("ping", &second), Some(b"1".to_vec()));
        let long = vec![0; ANSWER_KEPT_BYTES_MAX];
        for number in 0..ANSWERS_MAX {
            answers.keep("tap", &id(&number.to_string()), long.clone());
            assert!(answers.bytes <= ANSWERS_BYTES_MAX);
        }
    }
}
