//! What every source does with what it has received: decodes it, or keeps it as a reject, queues it
//! for the pipeline within limits, knows what of it is durable, and tells when the far side comes,
//! goes or falls silent.
//!
//! What it leaves to its source: reading, acknowledging, and what happens when the queue is full
//! (whoever can let its far side wait does that; whoever cannot drops and says so).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::Sender;
use tokio::time::{Instant, sleep, timeout};

use super::queue::{Limits, Offer, Queue};
use super::{Arrival, Context, Dropped, Metrics, REJECTED_BYTES_MAX, Released};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::decode::{self, Decoder, Reason, Reject};
use crate::event::{DeliveryMark, Rejected, Report, ReportKind, Schema, Value};
use crate::pace::{Sparse, sleep_until_some};
use crate::report::Reporter;

/// Whether a source must be open at the end of a probation.
pub const REQUIRED: &str = "required";

/// What can be set for every source.
pub const INTAKE_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "payload.bytes_max",
        OptionKind::Bytes,
        "A larger message is rejected as too_large",
    )
    .or("1 MiB"),
    decode::COMPRESSION,
    decode::DECODED_BYTES_MAX,
    OptionSpec::new(
        "queue.bytes_max",
        OptionKind::Bytes,
        "What may wait in memory until the pipeline takes it",
    )
    .or("8 MiB"),
    OptionSpec::new(
        "queue.batch_rows_max",
        OptionKind::Integer {
            min: 1,
            max: 65_536,
        },
        "How many rows are handed to the pipeline together at most",
    )
    .or("256"),
    OptionSpec::new(
        "idle_timeout",
        OptionKind::Duration,
        "After so long without a message the source is said to be silent: a warning, and a row \
         `source.silent` of `_events`. Unset: never",
    ),
    OptionSpec::new(
        REQUIRED,
        OptionKind::Flag,
        "Whether the source must be open for a document to be kept at the end of its probation. \
         `false`: it never matters. Unset: it must be when it was open before and the document \
         has restarted it",
    ),
];

/// How soon a full pipeline is asked again.
const OFFER_AGAIN: Duration = Duration::from_millis(2);
/// One line per reason in this time.
const LINE_SPAN: Duration = Duration::from_secs(10);
/// One kind of line per reason of a reject and of a drop.
const LINES: usize = Reason::ALL.len() + Dropped::ALL.len();

/// What of an intake is known before the source runs.
#[derive(Debug)]
pub struct Plan {
    decoder: Decoder,
    limits: Limits,
    payload_bytes_max: usize,
    idle_after: Option<Duration>,
    fails: bool,
    width: usize,
}

impl Plan {
    /// Checks the options. The columns `taken` are filled by the connector, see [`Intake::take`].
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(
        format: &str,
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Plan, OptionFault> {
        let size = |name, default| {
            let bytes = options.integer(name).unwrap_or(default);
            usize::try_from(bytes).unwrap_or(usize::MAX)
        };
        let idle_ms = options.integer("idle_timeout").filter(|ms| *ms > 0);
        Ok(Plan {
            decoder: Decoder::new(format, options, schema, taken)?,
            limits: Limits {
                queue_bytes_max: size("queue.bytes_max", 8 << 20),
                batch_rows_max: size("queue.batch_rows_max", 256),
            },
            payload_bytes_max: size("payload.bytes_max", 1 << 20),
            idle_after: idle_ms.map(|ms| Duration::from_millis(ms.unsigned_abs())),
            fails: options.text("error.strategy") == Some("fail"),
            width: schema.width(),
        })
    }
}

/// A message that cannot be decoded came to a stream whose `error.strategy` is `fail`: the source
/// is to end, without acknowledging it. That is told already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream has failed")]
pub struct Failed;

/// What has been received, on its way to the pipeline.
pub struct Intake {
    name: String,
    arrivals: Sender<Arrival>,
    released: Released,
    metrics: Arc<Metrics>,
    reporter: Reporter,
    decoder: Decoder,
    queue: Queue,
    payload_bytes_max: usize,
    idle_after: Option<Duration>,
    fails: bool,
    /// The ordinal of the last message received.
    ordinal: u64,
    /// Where the next message is from, for the log; empty when there is one place only.
    from: String,
    /// The pipeline is full; ask again at this time.
    offer_at: Option<Instant>,
    is_gone: bool,
    /// Whether the far side is there, and since when.
    link: Option<(bool, Instant)>,
    heard_at: Instant,
    is_silent: bool,
    last_reject: Option<String>,
    lines: [Sparse; LINES],
}

impl Intake {
    /// An intake of a source that begins to run.
    #[must_use]
    pub fn new(plan: Plan, context: &Context) -> Intake {
        Intake {
            name: context.name.clone(),
            arrivals: context.arrivals.clone(),
            released: context.released.clone(),
            metrics: Arc::clone(&context.metrics),
            reporter: context.reporter.clone(),
            queue: Queue::new(context.source, plan.width, plan.limits),
            decoder: plan.decoder,
            payload_bytes_max: plan.payload_bytes_max,
            idle_after: plan.idle_after,
            fails: plan.fails,
            ordinal: 0,
            from: String::new(),
            offer_at: None,
            is_gone: false,
            link: None,
            heard_at: Instant::now(),
            is_silent: false,
            last_reject: None,
            lines: std::array::from_fn(|_| Sparse::new(LINE_SPAN)),
        }
    }

    /// Whether a message of so many bytes would go beyond the limit. Where nothing waits, any may.
    #[must_use]
    pub fn is_full(&self, payload_bytes: usize) -> bool {
        self.queue.is_over_limit(self.kept_bytes(payload_bytes))
    }

    /// What may wait.
    #[must_use]
    pub fn queue_bytes_max(&self) -> usize {
        self.queue.bytes_max()
    }

    /// Whether everything is with the pipeline.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Makes rows of a message, or keeps it as a reject, and says its ordinal: durable when
    /// [`Intake::released`] has reached it. `fills` are the columns that the connector knows.
    ///
    /// # Errors
    /// The stream fails by it: the source is to end.
    pub fn take(
        &mut self,
        payload: &[u8],
        fills: &[(usize, Value)],
        mark: Option<DeliveryMark>,
    ) -> Result<u64, Failed> {
        self.heard(payload.len());
        self.last_reject = None;
        let first = self.queue.rows().len();
        let decoded = if payload.len() > self.payload_bytes_max {
            let (bytes, max) = (payload.len(), self.payload_bytes_max);
            let detail = format!("{bytes} bytes; payload.bytes_max is {max}");
            Err(Reject::new(Reason::TooLarge, detail))
        } else {
            self.decoder.decode(payload, self.queue.rows())
        };
        match decoded {
            Ok(()) => {
                let rows = self.queue.rows();
                for (column, value) in fills {
                    rows.fill(first, *column, value);
                }
                let count = u64::try_from(rows.len() - first).unwrap_or(u64::MAX);
                self.metrics.rows.fetch_add(count, Ordering::Relaxed);
                let ignored = self.decoder.take_ignored();
                let counter = &self.metrics.ignored_values;
                counter.fetch_add(ignored, Ordering::Relaxed);
                // What was compressed takes the room of what it has become.
                self.begin_kept(self.decoder.decoded_bytes(), mark);
                self.queue.end();
            }
            Err(reject) => self.keep(reject, payload, mark)?,
        }
        Ok(self.ordinal)
    }

    /// Keeps as a reject what is not even a message: a frame with a wrong checksum, say.
    ///
    /// # Errors
    /// The stream fails by it: the source is to end.
    pub fn reject(&mut self, reject: Reject, bytes: &[u8]) -> Result<u64, Failed> {
        self.refuse(reject, bytes, None)
    }

    /// The same, of something with a mark: a line that is too long to be read as a whole, or a
    /// message whose topic is at fault.
    ///
    /// # Errors
    /// The stream fails by it: the source is to end.
    pub fn refuse(
        &mut self,
        reject: Reject,
        bytes: &[u8],
        mark: Option<DeliveryMark>,
    ) -> Result<u64, Failed> {
        self.heard(bytes.len());
        self.keep(reject, bytes, mark)?;
        Ok(self.ordinal)
    }

    /// Why the last message was kept as a reject, if it was: for a far side that can be told.
    #[must_use]
    pub fn last_reject(&self) -> Option<&str> {
        self.last_reject.as_deref()
    }

    /// Takes a message that leaves nothing but its mark.
    pub fn pass(&mut self, mark: Option<DeliveryMark>) -> u64 {
        self.begin(0, mark);
        self.queue.end();
        self.ordinal
    }

    /// Where the messages that follow are from: a topic, a peer.
    pub fn comes_from(&mut self, place: &str) {
        self.from.clear();
        self.from.push_str(place);
    }

    /// A message is given up without a row; `what` names it in the log.
    pub fn drop(&mut self, reason: Dropped, what: &str) {
        self.metrics.count_dropped(reason);
        let line = Dropped::ALL.iter().position(|known| *known == reason);
        if let Some(count) = self.line(line.map(|line| line + Reason::ALL.len())) {
            let word = reason.word();
            tracing::warn!(stream = self.name, count, what, "dropped a message: {word}");
        }
    }

    /// The ordinal up to which everything is durable.
    #[must_use]
    pub fn released(&self) -> u64 {
        *self.released.borrow()
    }

    /// The same, to wait for.
    #[must_use]
    pub fn watch_released(&self) -> Released {
        self.released.clone()
    }

    /// The ordinal of the last message received.
    #[must_use]
    pub fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// Whether there is a batch that gains nothing by waiting: under a flood, to be offered before
    /// more is read.
    #[must_use]
    pub fn has_batch(&self) -> bool {
        self.queue.batch_is_full() && self.offer_at.is_none_or(|at| at <= Instant::now())
    }

    /// Hands to the pipeline what it takes now.
    pub fn offer(&mut self) {
        self.offer_at = None;
        match self.queue.offer(&self.arrivals) {
            Offer::Done => {}
            Offer::Full => self.offer_at = Some(Instant::now() + OFFER_AGAIN),
            Offer::Gone => self.is_gone = true,
        }
    }

    /// Hands over what there is as the pipeline takes it, and notices silence: to be selected over
    /// while the source waits for something else, at any time dropped and called again. Ends when
    /// the pipeline is gone.
    pub async fn serve(&mut self) {
        while !self.is_gone {
            let idle_at = match (self.idle_after, self.is_silent) {
                (Some(after), false) => Some(self.heard_at + after),
                (Some(_) | None, _) => None,
            };
            tokio::select! {
                () = sleep_until_some(self.offer_at), if !self.queue.is_empty() => self.offer(),
                () = std::future::ready(()),
                    if !self.queue.is_empty() && self.offer_at.is_none() => self.offer(),
                () = sleep_until_some(idle_at) => self.fall_silent(),
                changed = self.released.changed() => self.is_gone |= changed.is_err(),
            }
        }
    }

    /// Waits until a message of so many bytes has room: for a source that can let its far side
    /// wait. False when the pipeline is gone.
    pub async fn room(&mut self, payload_bytes: usize) -> bool {
        while self.is_full(payload_bytes) && !self.is_gone {
            self.offer();
            if self.is_full(payload_bytes) {
                sleep(OFFER_AGAIN).await;
            }
        }
        !self.is_gone
    }

    /// At the end: hands over what there is and waits until it is durable, at most `within`.
    /// Whether it is.
    pub async fn drain(&mut self, within: Duration) -> bool {
        let drained = async {
            while !self.queue.is_empty() && !self.is_gone {
                self.offer();
                if self.offer_at.is_some() {
                    sleep(OFFER_AGAIN).await;
                }
            }
            let through = self.queue.offered_through();
            let reached = self.released.wait_for(|released| *released >= through);
            reached.await.is_ok()
        };
        timeout(within, drained).await == Ok(true)
    }

    /// The far side is there.
    pub fn up(&mut self) {
        self.metrics.connected.store(true, Ordering::Relaxed);
        if let Some((true, _)) = self.link {
            return;
        }
        self.metrics.connects.fetch_add(1, Ordering::Relaxed);
        self.link_changes(true, "");
    }

    /// The far side is not there, or not any more.
    pub fn down(&mut self, why: &str) {
        self.metrics.connected.store(false, Ordering::Relaxed);
        self.metrics.disconnects.fetch_add(1, Ordering::Relaxed);
        if let Some((false, _)) = self.link {
            return;
        }
        self.link_changes(false, why);
    }

    fn link_changes(&mut self, is_up: bool, why: &str) {
        let now = Instant::now();
        let before = self.link.replace((is_up, now));
        let kind = match is_up {
            true => ReportKind::SourceUp,
            false => ReportKind::SourceDown,
        };
        self.report(kind, why, before.map(|(_, since)| now - since));
    }

    /// A message of so many bytes has come that is neither taken nor rejected.
    pub fn heard(&mut self, bytes: usize) {
        self.metrics.received.fetch_add(1, Ordering::Relaxed);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.metrics
            .received_bytes
            .fetch_add(bytes, Ordering::Relaxed);
        if self.idle_after.is_none() {
            return;
        }
        let now = Instant::now();
        if std::mem::take(&mut self.is_silent) {
            let silent = now - self.heard_at;
            tracing::info!(stream = self.name, "heard again after {silent:.1?}");
            self.report(ReportKind::SourceHeard, "", Some(silent));
        }
        self.heard_at = now;
    }

    fn fall_silent(&mut self) {
        self.is_silent = true;
        let silent = self.heard_at.elapsed();
        tracing::warn!(stream = self.name, "nothing has come for {silent:.1?}");
        let why = "nothing has come for `idle_timeout`";
        self.report(ReportKind::SourceSilent, why, Some(silent));
    }

    fn report(&self, kind: ReportKind, reason: &str, lasted: Option<Duration>) {
        self.reporter.tell(Report {
            kind,
            stream: self.name.clone(),
            reason: reason.to_owned(),
            duration_ms: lasted.and_then(|lasted| i64::try_from(lasted.as_millis()).ok()),
            details: None,
        });
    }

    fn begin(&mut self, payload_bytes: usize, mark: Option<DeliveryMark>) {
        self.begin_kept(self.kept_bytes(payload_bytes), mark);
    }

    fn begin_kept(&mut self, kept_bytes: usize, mark: Option<DeliveryMark>) {
        self.ordinal += 1;
        self.queue.begin(self.ordinal, mark, kept_bytes);
    }

    /// How many bytes of a message will stay in memory.
    fn kept_bytes(&self, payload_bytes: usize) -> usize {
        if payload_bytes > self.payload_bytes_max {
            REJECTED_BYTES_MAX
        } else {
            payload_bytes
        }
    }

    fn keep(
        &mut self,
        reject: Reject,
        payload: &[u8],
        mark: Option<DeliveryMark>,
    ) -> Result<(), Failed> {
        self.metrics.count_rejected(reject.reason);
        if self.fails {
            tracing::error!(
                stream = self.name,
                "the stream fails, as its error.strategy says: {reject}"
            );
            self.report(ReportKind::SourceFailed, &reject.to_string(), None);
            return Err(Failed);
        }
        let line = Reason::ALL.iter().position(|known| *known == reject.reason);
        if let Some(count) = self.line(line) {
            let (stream, from) = (self.name.as_str(), self.from.as_str());
            match from {
                "" => tracing::warn!(stream, count, "rejected a message: {reject}"),
                _ => tracing::warn!(stream, count, from, "rejected a message: {reject}"),
            }
        }
        self.begin(payload.len(), mark);
        self.last_reject = Some(reject.to_string());
        self.queue.reject(Rejected {
            reason: reject.reason.word().to_owned(),
            detail: reject.detail,
            bytes: payload.iter().take(REJECTED_BYTES_MAX).copied().collect(),
            bytes_total: u64::try_from(payload.len()).unwrap_or(u64::MAX),
        });
        self.queue.end();
        Ok(())
    }

    fn line(&mut self, index: Option<usize>) -> Option<u64> {
        let sparse = self.lines.get_mut(index?)?;
        sparse.occurred(std::time::Instant::now())
    }
}
