//! Sinks that write records somewhere on this machine, on a thread of their own.
//!
//! What it promises: records are written in order and in batches, whatever has come while the last
//! one was written; a batch is confirmed when the writer says that it is safe, and is written again
//! until then, or refused when the writer has nothing better to hope for. The thread may hang for
//! as long as a disk or a reader does: it holds nothing that others wait for.

use std::pin::pin;
use std::time::{Duration, Instant as Clock};

use crossbeam::channel::Sender;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::link::Link;
use super::refusal::{Asked, Judgement, Refusals};
use super::{CONFIRM_AGAIN, Confirmer, Context, Delivery, count};
use crate::encode::Encoder;
use crate::event::Value;
use crate::pace::{Backoff, Sparse, sleep_until_some};

/// Outputs that are written at once, and about how much of them.
const BATCH_OUTPUTS_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// The first and the longest pause between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// That something cannot be written is said once in so long.
const LINE_SPAN: Duration = Duration::from_secs(60);

/// Records that are written together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// What a file with such records begins with.
    pub(super) head: Vec<u8>,
    pub(super) records: Vec<u8>,
}

/// Why a batch is not written.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may be later.
    #[cfg_attr(
        not(feature = "file"),
        expect(dead_code, reason = "only what is written to files has to wait")
    )]
    Later(String),
    /// It never will be: each of its outputs is refused, and `error.strategy` holds.
    Never(String),
}

/// Who writes.
pub(super) trait Writer: Send + 'static {
    /// Writes all of a batch, or nothing that stays, unless it says [`Failure::Never`].
    fn write(&mut self, batch: &Batch) -> Result<(), Failure>;

    /// Does what need not be waited for.
    fn tidy(&mut self);
}

struct Job {
    batch: Batch,
    outcome: oneshot::Sender<Result<(), Failure>>,
}

/// Delivers until told to stop, or until there is nothing to come.
pub(super) async fn run(
    context: Context,
    encoder: Encoder,
    refusals: Refusals,
    mut writer: impl Writer,
    thread: &'static str,
) {
    let (jobs, todo) = crossbeam::channel::bounded::<Job>(1);
    let spawned = std::thread::Builder::new()
        .name(thread.to_owned())
        .spawn(move || {
            // Ends when the task below does, after at most one attempt.
            for Job { batch, outcome } in todo {
                let _ = outcome.send(writer.write(&batch));
                writer.tidy();
            }
        });
    if let Err(error) = spawned {
        tracing::error!(stream = context.name, "cannot start the {thread}: {error}");
        return;
    }
    let task = Task {
        confirmer: Confirmer::new(context.sink, context.confirmed.clone()),
        link: Link::new(&context),
        context,
        encoder,
        jobs,
        refusals,
        pace: Backoff::new(RETRY.0, RETRY.1),
        line: Sparse::new(LINE_SPAN),
    };
    task.run().await;
}

struct Task {
    context: Context,
    confirmer: Confirmer,
    link: Link,
    encoder: Encoder,
    jobs: Sender<Job>,
    refusals: Refusals,
    pace: Backoff,
    line: Sparse,
}

impl Task {
    async fn run(mut self) {
        loop {
            let delivery = tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => None,
                delivery = self.context.deliveries.recv() => delivery,
                () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                    self.confirmer.flush();
                    continue;
                }
            };
            let Some(delivery) = delivery else { break };
            let all = self.gather(delivery);
            let mut rest = all.as_slice();
            while let Some(first) = rest.first() {
                // A file begins with the names of the columns.
                let is_other = |one: &Delivery| one.schema != first.schema;
                let alike = rest.iter().position(is_other).unwrap_or(rest.len());
                let (now, later) = rest.split_at(alike);
                if !self.deliver(now).await {
                    self.confirmer.flush();
                    return;
                }
                rest = later;
            }
        }
        while !*self.context.stop.borrow() && !self.confirmer.flush() {
            sleep(CONFIRM_AGAIN).await;
        }
        self.confirmer.flush();
    }

    /// What there is, up to a batch.
    fn gather(&mut self, first: Delivery) -> Vec<Delivery> {
        let size = |one: &Delivery| one.row.iter().map(Value::memory_bytes).sum::<usize>();
        let mut bytes = size(&first);
        let mut all = vec![first];
        while all.len() < BATCH_OUTPUTS_MAX && bytes < BATCH_BYTES_MAX {
            let Ok(next) = self.context.deliveries.try_recv() else {
                break;
            };
            bytes += size(&next);
            all.push(next);
        }
        all
    }

    /// Tries until they are settled. False when the sink is to end before.
    async fn deliver(&mut self, all: &[Delivery]) -> bool {
        let mut rest = all;
        let mut asked = Asked::default();
        loop {
            while let [first, later @ ..] = rest {
                if !self.context.passes_over(first.key) {
                    break;
                }
                rest = later;
            }
            let Some(last) = rest.last() else { return true };
            let batch = self.batch(rest);
            if !self.permitted(rest.len(), batch.records.len()).await {
                return false;
            }
            let Some(outcome) = self.attempt(batch).await else {
                return false;
            };
            asked.attempts = asked.attempts.saturating_add(1);
            match outcome {
                Ok(()) => {
                    self.link.up();
                    rest.iter()
                        .for_each(|_| count(&self.context.metrics.delivered));
                    self.confirmer.confirm(last.key);
                    self.refusals.reset();
                    break;
                }
                Err(Failure::Never(why)) => {
                    asked.refusals = asked.refusals.saturating_add(1);
                    match self.refuse(rest, &why, asked) {
                        Judgement::GiveUp(_) => break,
                        Judgement::Again(wait) if !self.pause(wait).await => {}
                        Judgement::Again(_) | Judgement::Fail => return false,
                    }
                }
                Err(Failure::Later(why)) => {
                    self.link.down(&why);
                    count(&self.context.metrics.retries);
                    let wait = self.pace.wait();
                    if self.line.occurred(Clock::now()).is_some() {
                        tracing::warn!(
                            stream = self.context.name,
                            "not written: {why}; next attempt in {wait:.1?}"
                        );
                    }
                    if self.pause(wait).await {
                        return false;
                    }
                }
            }
        }
        self.pace.reset();
        true
    }

    fn batch(&self, deliveries: &[Delivery]) -> Batch {
        let mut batch = Batch::default();
        if let Some(first) = deliveries.first() {
            self.encoder.encode_head(&first.schema, &mut batch.head);
        }
        for delivery in deliveries {
            let message = self.context.message(delivery);
            self.encoder.encode_record(&message, &mut batch.records);
        }
        batch
    }

    /// Each of `outputs` is refused; what is to be done with them is one judgement.
    fn refuse(&mut self, outputs: &[Delivery], why: &str, asked: Asked) -> Judgement {
        let mut last = Judgement::Fail;
        for delivery in outputs {
            last = self.refusals.judge(&self.context, why, asked);
            match &last {
                Judgement::GiveUp(refused) => self.confirmer.refuse(delivery.key, refused.clone()),
                Judgement::Again(_) | Judgement::Fail => break,
            }
        }
        last
    }

    /// Waits for leave to write. False when told to stop.
    async fn permitted(&mut self, outputs: usize, bytes: usize) -> bool {
        loop {
            tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => return false,
                () = self.context.deliveries.permitted(outputs, bytes) => return true,
                () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                    self.confirmer.flush();
                }
            }
        }
    }

    /// One attempt on the thread. `None` when told to stop before its outcome is known, and the
    /// time for that is over.
    async fn attempt(&mut self, batch: Batch) -> Option<Result<(), Failure>> {
        let (outcome, answer) = oneshot::channel();
        // There is one at a time, though the thread may still be tidying up.
        self.jobs.try_send(Job { batch, outcome }).ok()?;
        let mut answer = pin!(answer);
        let mut stop_at = None;
        loop {
            tokio::select! {
                biased;
                outcome = &mut answer => return outcome.ok(),
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
        let until = Instant::now() + wait;
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
