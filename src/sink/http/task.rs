//! One sink at work.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as Clock};

use hyper::StatusCode;
use tokio::time::{Instant, sleep, sleep_until};

use super::form::{Envelope, Form};
use super::{Batches, Http};
use crate::encode::Message;
use crate::http::auth::Auth;
use crate::http::client::{Allowed, Client, Request};
use crate::http::retry_after;
use crate::pace::{Backoff, Sparse, sleep_until_some};
use crate::sink::link::Link;
use crate::sink::refusal::{Asked, Judgement, Refusals};
use crate::sink::{
    CONFIRM_AGAIN, Confirmer, Context, Delivery, TryRecvError, WHY_CHARS_MAX, count,
};

/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// How much of an answer is read; the rest is of no interest, and the connection is closed.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const LINE_SPAN: Duration = Duration::from_secs(10);

/// An output, and what stands around it.
struct Item {
    delivery: Delivery,
    envelope: Result<Arc<Envelope>, String>,
    bytes: usize,
}

impl Item {
    /// Whether both can go in one request: the same way, and with the same columns.
    fn goes_with(&self, other: &Item) -> bool {
        let is_same = match (&self.envelope, &other.envelope) {
            (Ok(one), Ok(other)) => Arc::ptr_eq(one, other) || one == other,
            (Err(_), _) | (_, Err(_)) => false,
        };
        let (schema, others) = (&self.delivery.schema, &other.delivery.schema);
        is_same && (Arc::ptr_eq(schema, others) || schema == others)
    }
}

/// What came of an attempt.
enum Outcome {
    Delivered,
    /// It will never be taken; `by_itself` when that may be due to one output among several.
    Refused {
        why: String,
        by_itself: bool,
    },
    /// We may not send there.
    Denied(String, Option<Duration>),
    Failed(String, Option<Duration>),
}

/// What became of some outputs.
enum Settled {
    /// All of them are confirmed, refused or given up.
    All,
    /// They are to be sent in two halves.
    Halves(Vec<Item>, Vec<Item>),
    /// The sink is to end.
    Ended,
}

/// Sends requests.
struct Sending {
    client: Client,
    auth: Auth,
    timeout: Duration,
}

impl Sending {
    async fn send(&mut self, request: &Request) -> Outcome {
        let mut is_anew = false;
        loop {
            let mut request = request.clone();
            if let Err(none) = self.auth.sign(&mut request.headers, self.timeout).await {
                return match none.is_denied {
                    true => Outcome::Denied(none.to_string(), none.retry_after),
                    false => Outcome::Failed(none.to_string(), none.retry_after),
                };
            }
            let allowed = Allowed {
                within: self.timeout,
                answer_bytes_max: ANSWER_BYTES_MAX,
            };
            let answer = match self.client.ask(&request, allowed).await {
                Ok(answer) => answer,
                Err(error) => return Outcome::Failed(error.to_string(), None),
            };
            // A token may have been taken back before its end: a new one is worth one attempt.
            if answer.status == StatusCode::UNAUTHORIZED && self.auth.refused() && !is_anew {
                is_anew = true;
                continue;
            }
            let retry_after = retry_after(&answer.headers);
            let why: String = self
                .client
                .said(&answer)
                .chars()
                .take(WHY_CHARS_MAX)
                .collect();
            return match answer.status.as_u16() {
                200..=299 => Outcome::Delivered,
                401 | 403 | 407 => Outcome::Denied(why, retry_after),
                408 | 423 | 425 | 429 => Outcome::Failed(why, retry_after),
                // These are about the address and the form, which all outputs have in common.
                404 | 405 | 406 | 410 | 411 | 414 | 415 => Outcome::Refused {
                    why,
                    by_itself: false,
                },
                400..=499 => Outcome::Refused {
                    why,
                    by_itself: true,
                },
                _ => Outcome::Failed(why, retry_after),
            };
        }
    }
}

pub(super) struct Task {
    context: Context,
    confirmer: Confirmer,
    link: Link,
    form: Form,
    batches: Batches,
    sending: Sending,
    pace: Backoff,
    refusals: Refusals,
    /// What did not go with those before it.
    held: Option<Item>,
    denied_line: Sparse,
}

impl Task {
    pub(super) fn new(http: Http, context: Context) -> Task {
        Task {
            confirmer: Confirmer::new(context.sink, context.confirmed.clone()),
            link: Link::new(&context),
            context,
            form: http.form,
            batches: http.batches,
            sending: Sending {
                client: http.client,
                auth: http.auth,
                timeout: http.timeout,
            },
            pace: http.pace,
            refusals: http.refusals,
            held: None,
            denied_line: Sparse::new(LINE_SPAN),
        }
    }

    pub(super) async fn run(mut self) {
        while let Some(batch) = self.gather().await {
            if !self.deliver(batch).await {
                break;
            }
        }
        while !*self.context.stop.borrow() && !self.confirmer.flush() {
            sleep(CONFIRM_AGAIN).await;
        }
        self.confirmer.flush();
    }

    /// What goes in the next request; `None` when there is no more, or when told to stop.
    async fn gather(&mut self) -> Option<Vec<Item>> {
        let first = match self.held.take() {
            Some(held) => held,
            None => {
                let delivery = self.next(None).await?;
                self.item(delivery)
            }
        };
        let mut bytes = first.bytes;
        let mut batch = vec![first];
        let until = Instant::now() + self.batches.linger;
        while batch.len() < self.batches.messages_max && bytes < self.batches.bytes_max {
            let delivery = match self.context.deliveries.try_recv() {
                Ok(delivery) => delivery,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => match self.next(Some(until)).await {
                    Some(delivery) => delivery,
                    None => break,
                },
            };
            let item = self.item(delivery);
            let is_apart = batch.last().is_some_and(|last| !item.goes_with(last));
            if is_apart || bytes + item.bytes > self.batches.bytes_max {
                self.held = Some(item);
                break;
            }
            bytes += item.bytes;
            batch.push(item);
        }
        (!*self.context.stop.borrow()).then_some(batch)
    }

    /// The next output; `None` when there is no more, when it does not come until then, or when
    /// told to stop.
    async fn next(&mut self, until: Option<Instant>) -> Option<Delivery> {
        loop {
            tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => return None,
                delivery = self.context.deliveries.recv() => return delivery,
                () = sleep_until_some(until) => return None,
                () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                    self.confirmer.flush();
                }
            }
        }
    }

    fn item(&self, delivery: Delivery) -> Item {
        let message = self.context.message(&delivery);
        let envelope = self.form.envelope(&message);
        // Only what goes with others is measured.
        let bytes = match self.batches.messages_max {
            0 | 1 => 0,
            _ => self.form.bytes(&message),
        };
        Item {
            envelope,
            bytes,
            delivery,
        }
    }

    /// Tries until all is settled. False when the sink is to end before.
    async fn deliver(&mut self, batch: Vec<Item>) -> bool {
        let mut parts = VecDeque::from([batch]);
        while let Some(part) = parts.pop_front() {
            match self.settle(part).await {
                Settled::All => self.pace.reset(),
                Settled::Halves(first, second) => {
                    parts.push_front(second);
                    parts.push_front(first);
                }
                Settled::Ended => return false,
            }
        }
        true
    }

    async fn settle(&mut self, mut part: Vec<Item>) -> Settled {
        let mut asked = Asked::default();
        loop {
            let Some(outcome) = self.attempt(&mut part).await else {
                return Settled::Ended;
            };
            let Some(last) = part.last().map(|item| item.delivery.key) else {
                return Settled::All;
            };
            asked.attempts = asked.attempts.saturating_add(1);
            let metrics = &self.context.metrics;
            let wait = match outcome {
                Outcome::Delivered => {
                    self.link.up();
                    self.refusals.reset();
                    let delivered = u64::try_from(part.len()).unwrap_or(u64::MAX);
                    metrics.delivered.fetch_add(delivered, Ordering::Relaxed);
                    self.confirmer.confirm(last);
                    return Settled::All;
                }
                Outcome::Refused { by_itself, .. } if by_itself && part.len() > 1 => {
                    self.link.up();
                    count(&metrics.retries);
                    let second = part.split_off(part.len() / 2);
                    return Settled::Halves(part, second);
                }
                Outcome::Refused { why, .. } => {
                    self.link.up();
                    asked.refusals = asked.refusals.saturating_add(1);
                    match self.refuse(&part, &why, asked) {
                        Ok(None) => return Settled::All,
                        Ok(Some(wait)) => wait,
                        Err(Failed) => return Settled::Ended,
                    }
                }
                Outcome::Denied(why, retry_after) => self.denied(&why, retry_after),
                Outcome::Failed(why, retry_after) => self.failed(&why, retry_after),
            };
            if self.pause(wait).await {
                return Settled::Ended;
            }
        }
    }

    /// Each output of `part` is refused for the same reason. How long to wait if they are to be
    /// sent again.
    fn refuse(
        &mut self,
        part: &[Item],
        why: &str,
        asked: Asked,
    ) -> Result<Option<Duration>, Failed> {
        for item in part {
            match self.refusals.judge(&self.context, why, asked) {
                Judgement::GiveUp(refused) => self.confirmer.refuse(item.delivery.key, refused),
                Judgement::Again(wait) => return Ok(Some(wait)),
                Judgement::Fail => return Err(Failed),
            }
        }
        Ok(None)
    }

    fn next_wait(&mut self, why: &str, retry_after: Option<Duration>) -> Duration {
        self.link.down(why);
        count(&self.context.metrics.retries);
        let asked_for = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.pace.wait().max(asked_for)
    }

    fn failed(&mut self, why: &str, retry_after: Option<Duration>) -> Duration {
        let wait = self.next_wait(why, retry_after);
        let stream = self.context.name.as_str();
        tracing::warn!(stream, "not delivered: {why}; next attempt in {wait:.1?}");
        wait
    }

    fn denied(&mut self, why: &str, retry_after: Option<Duration>) -> Duration {
        let wait = self.next_wait(why, retry_after);
        if let Some(count) = self.denied_line.occurred(Clock::now()) {
            tracing::error!(
                stream = self.context.name,
                count,
                "the server does not let us send: {why}; nothing is given up for it, but nothing \
                 is delivered either: look at http.url and at who we are there; next attempt in \
                 {wait:.1?}"
            );
        }
        wait
    }

    /// One attempt, when it may be made, with what of `part` was not given up meanwhile. `None`
    /// when told to stop before its outcome is known, and the time for that is over.
    async fn attempt(&mut self, part: &mut Vec<Item>) -> Option<Outcome> {
        let request = loop {
            part.retain(|item| !self.context.passes_over(item.delivery.key));
            let envelope = match part.first().map(|item| &item.envelope) {
                Some(Ok(envelope)) => envelope,
                Some(Err(why)) => {
                    return Some(Outcome::Refused {
                        why: why.clone(),
                        by_itself: false,
                    });
                }
                // Nobody looks at it.
                None => return Some(Outcome::Delivered),
            };
            let messages: Vec<Message<'_>> = part
                .iter()
                .map(|item| self.context.message(&item.delivery))
                .collect();
            let request = match self.form.request(envelope, &messages) {
                Ok(request) => request,
                Err(why) => return Some(Outcome::Failed(why, None)),
            };
            let (outputs, bytes) = (part.len(), request.body.len());
            match self.context.deliveries.permit(outputs, bytes) {
                Ok(()) => break request,
                Err(until) if self.pause_until(until).await => return None,
                Err(_) => {}
            }
        };
        let mut sent = pin!(self.sending.send(&request));
        let mut stop_at = None;
        loop {
            tokio::select! {
                outcome = &mut sent => return Some(outcome),
                _ = self.context.stop.wait_for(|stop| *stop), if stop_at.is_none() => {
                    stop_at = Some(Instant::now() + self.context.stop_within);
                }
                () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                    self.confirmer.flush();
                }
                () = sleep_until_some(stop_at) => return None,
            }
        }
    }

    /// Waits. True when told to stop.
    async fn pause(&mut self, wait: Duration) -> bool {
        self.pause_until(Instant::now() + wait).await
    }

    async fn pause_until(&mut self, until: Instant) -> bool {
        loop {
            tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => return true,
                () = sleep_until(until) => return false,
                () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                    self.confirmer.flush();
                }
            }
        }
    }
}

/// The sink is to end.
struct Failed;
