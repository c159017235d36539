//! Outputs on their way from the outbox into the sinks' channels.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;

use super::letters::GivenUp;
use super::losses::Losses;
use crate::event::{OutputKey, Report, Seq, Value};
use crate::held::Holdings;
use crate::observe::OutboxMetrics;
use crate::outbox::{Counts, Depth, Entry, Outbox, OutboxError, Reason, Waiting};
use crate::pace::Sparse;
use crate::sink::Delivery;

/// Outputs kept in memory while they wait to become durable; beyond it, and beyond the bytes that
/// the sink may hold, they are read back.
const FRESH_MAX: usize = 4096;
/// Outputs read back at once, and their bytes.
const READ_ROWS_MAX: usize = 256;
const READ_BYTES_MAX: usize = 256 * 1024;
/// What the id of an output takes, in round figures.
const ID_BYTES: usize = 48;
/// That outputs are given up is said once in so long for each sink.
const LINE_SPAN: Duration = Duration::from_secs(60);

/// What one sink has been given. Outputs reach it in order, once per run of the daemon, and only
/// when the input that caused them is durable: an output must never outlive its cause. What its
/// outbox gives up it is not given any more, and is told to pass over.
#[derive(Debug)]
pub struct Feed {
    /// What the sink calls itself, for as long as it runs.
    number: usize,
    /// Its place among the outboxes.
    sink: usize,
    to: Option<tokio::sync::mpsc::Sender<Delivery>>,
    /// The last key that the sink was given.
    sent: OutputKey,
    /// Everything behind `sent`, unless `behind`.
    fresh: VecDeque<Waiting>,
    fresh_bytes: usize,
    /// What the sink holds, in its channel and in hand.
    holdings: Holdings,
    /// How much of it there may be.
    bytes_max: usize,
    /// What the output takes for which the sink had no room.
    refused_bytes: usize,
    /// Whether what comes behind `sent` must be read from the outbox.
    behind: bool,
    /// Whether the sink's channel was full when it was last tried.
    full: bool,
    id_prefix: String,
    /// Whether the sink is given nothing for now.
    paused: bool,
    /// Tells the sink what does not wait any more.
    settled: watch::Sender<OutputKey>,
    metrics: Arc<OutboxMetrics>,
    given_up_line: Sparse,
    losses: Losses,
}

impl Feed {
    /// The feed of the sink with this number, which is also its place among the outboxes; it begins
    /// behind the outbox's cursor.
    #[must_use]
    pub fn new(
        sink: usize,
        to: tokio::sync::mpsc::Sender<Delivery>,
        outbox: &Outbox,
        store_id: u64,
    ) -> Feed {
        Feed {
            number: sink,
            sink,
            to: Some(to),
            sent: outbox.cursor(sink).unwrap_or_default(),
            fresh: VecDeque::new(),
            fresh_bytes: 0,
            holdings: Holdings::default(),
            bytes_max: usize::MAX,
            refused_bytes: 0,
            behind: true,
            full: false,
            paused: false,
            id_prefix: format!("{store_id:016x}"),
            settled: watch::Sender::new(OutputKey::default()),
            metrics: Arc::default(),
            given_up_line: Sparse::new(LINE_SPAN),
            losses: Losses::new(outbox.counts(sink).unwrap_or_default()),
        }
    }

    /// The same, and it tells `settled` up to where nothing waits any more, and `metrics` what
    /// becomes of outputs.
    #[must_use]
    pub fn telling(self, settled: watch::Sender<OutputKey>, metrics: Arc<OutboxMetrics>) -> Feed {
        Feed {
            settled,
            metrics,
            ..self
        }
    }

    /// The same, and the sink holds no more than so many bytes, but for a single output.
    #[must_use]
    pub fn holding(self, bytes_max: usize) -> Feed {
        Feed { bytes_max, ..self }
    }

    /// The same, of a sink that has another number.
    #[must_use]
    pub fn of_number(self, number: usize) -> Feed {
        Feed { number, ..self }
    }

    /// What the sink calls itself.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// Goes on with outboxes that have another order; `sink` is its place among them.
    pub(super) fn take_place(&mut self, sink: usize, outbox: &Outbox) {
        self.sink = sink;
        self.sent = self.sent.max(outbox.cursor(sink).unwrap_or_default());
        self.reread(outbox);
    }

    /// Counts what was given up, and takes over the accounts of the outbox.
    pub(super) fn count(&self, outbox: &Outbox, given_up: &[GivenUp]) {
        let own = given_up.iter().filter(|one| one.sink == self.sink);
        let letters = own.map(|one| one.letters).sum();
        self.metrics.letters.fetch_add(letters, Ordering::Relaxed);
        let Counts {
            confirmed,
            dropped,
            expired,
            refused,
            purged,
            damaged,
        } = outbox.counts(self.sink).unwrap_or_default();
        let Depth {
            entries,
            bytes,
            oldest,
        } = outbox.depth(self.sink).unwrap_or_default();
        for (gauge, value) in [
            (&self.metrics.confirmed, confirmed),
            (&self.metrics.dropped, dropped),
            (&self.metrics.expired, expired),
            (&self.metrics.refused, refused),
            (&self.metrics.purged, purged),
            (&self.metrics.damaged, damaged),
            (&self.metrics.waiting, entries),
            (&self.metrics.waiting_bytes, bytes),
        ] {
            gauge.store(value, Ordering::Relaxed);
        }
        let oldest_ms = oldest.unwrap_or_default().0;
        self.metrics.oldest_ms.store(oldest_ms, Ordering::Relaxed);
        let last = outbox.last_key(self.sink).unwrap_or_default();
        let settled = match entries {
            // New ones may have been given up at once, behind all that was ever stored.
            0 => last,
            _ => outbox.settled(self.sink).unwrap_or_default(),
        };
        self.metrics.outage.settled(&self.metrics, last, settled);
    }

    /// Goes on with an outbox that was opened anew. What the sink was given stays given: numbers
    /// are not given twice, so that nothing new stands before it.
    pub fn restart(&mut self, outbox: &Outbox, store_id: u64) {
        self.sent = self.sent.max(outbox.cursor(self.sink).unwrap_or_default());
        self.id_prefix = format!("{store_id:016x}");
        self.reread(outbox);
    }

    /// New outputs, in the outbox by now.
    pub fn add(&mut self, waiting: Vec<Waiting>) {
        if self.behind {
            return;
        }
        self.fresh_bytes += waiting.iter().map(bytes_of).sum::<usize>();
        self.fresh.extend(waiting);
        if self.fresh.len() > FRESH_MAX || self.fresh_bytes > self.bytes_max {
            self.forget_fresh();
        }
    }

    fn forget_fresh(&mut self) {
        self.fresh = VecDeque::new();
        self.fresh_bytes = 0;
        self.behind = true;
    }

    /// The outbox has given up some of what waits, old or new.
    pub fn reread(&mut self, outbox: &Outbox) {
        self.forget_fresh();
        let settled = outbox.settled(self.sink).unwrap_or_default();
        self.settled.send_if_modified(|known| {
            let is_more = settled > *known;
            *known = settled.max(*known);
            is_more
        });
    }

    /// Says what was given up, though not each time. What the far side refuses, the sink says.
    pub(super) fn tell(&mut self, given_up: &GivenUp, name: &str, outbox: &Outbox) {
        let why = match &given_up.reason {
            Reason::Full => "it was full",
            Reason::Expired => "they had waited too long",
            // The sink says the one, and who wants the other is told.
            Reason::Refused { .. } | Reason::Purged => return,
        };
        if self.given_up_line.occurred(Instant::now()).is_some() {
            let Counts {
                dropped, expired, ..
            } = outbox.counts(self.sink).unwrap_or_default();
            tracing::warn!(
                stream = name,
                dropped,
                expired,
                "the outbox gives up outputs: {why}; the counts are those since it exists"
            );
        }
    }

    /// What is to be reported of what was given up; `reports` counts such reports.
    pub(super) fn losses(
        &mut self,
        name: &str,
        outbox: &Outbox,
        now: Instant,
        reports: &mut u64,
    ) -> Vec<Report> {
        let counts = outbox.counts(self.sink).unwrap_or_default();
        self.losses.news(name, counts, now, reports)
    }

    /// When there is something to report of that.
    pub(super) fn loss_at(&self, outbox: &Outbox, now: Instant, reports: u64) -> Option<Instant> {
        let counts = outbox.counts(self.sink).unwrap_or_default();
        self.losses.next(counts, now, reports)
    }

    /// Gives the sink what is durable and what it has room for.
    ///
    /// # Errors
    /// When the outbox cannot be read.
    pub fn pump(&mut self, outbox: &mut Outbox, durable: Seq) -> Result<(), OutboxError> {
        self.full = false;
        if self.paused {
            return Ok(());
        }
        loop {
            while self
                .fresh
                .front()
                .is_some_and(|waiting| waiting.entry.key.seq <= durable)
            {
                let Some(waiting) = self.fresh.pop_front() else {
                    break;
                };
                let bytes = bytes_of(&waiting);
                if let Err(waiting) = self.send(waiting) {
                    self.fresh.push_front(waiting);
                    return Ok(());
                }
                self.fresh_bytes = self.fresh_bytes.saturating_sub(bytes);
            }
            if !self.behind || self.sent.seq > durable {
                return Ok(());
            }
            // Reading what the sink has no room for would be done again and again.
            let Some(to) = &self.to else { return Ok(()) };
            let room = to.capacity().min(READ_ROWS_MAX);
            if room == 0 || self.holdings.is_full(self.refused_bytes, self.bytes_max) {
                self.full = true;
                return Ok(());
            }
            let read = outbox.read_waiting(self.sink, self.sent, room, READ_BYTES_MAX)?;
            if read.is_empty() {
                // What lies between `sent` and the last key, if anything did, was given up.
                self.behind = false;
                return Ok(());
            }
            for waiting in read {
                if waiting.entry.key.seq > durable || self.send(waiting).is_err() {
                    return Ok(());
                }
            }
        }
    }

    /// Gives nothing from now on, or goes on where it stopped. What the sink has been given it
    /// delivers.
    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.metrics.paused.store(paused, Ordering::Relaxed);
    }

    /// Whether there is something to give as soon as the channel has room.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        self.full && self.to.is_some()
    }

    /// Closes the channel: the sink delivers what it has and ends.
    pub fn close(&mut self) {
        self.to = None;
    }

    fn send(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        let Some(to) = &self.to else {
            return Err(waiting);
        };
        let bytes = bytes_of(&waiting);
        if self.holdings.is_full(bytes, self.bytes_max) {
            self.refused_bytes = bytes;
            self.full = true;
            return Err(waiting);
        }
        let Waiting {
            entry:
                Entry {
                    key,
                    time,
                    schema,
                    row,
                },
            made,
        } = waiting;
        let id = format!("{}-{key}", self.id_prefix);
        let delivery = Delivery {
            key,
            id,
            time,
            made,
            schema,
            row,
            held: self.holdings.hold(bytes),
        };
        match to.try_send(delivery) {
            Ok(()) => {
                self.refused_bytes = 0;
                self.sent = key;
                Ok(())
            }
            Err(TrySendError::Full(back)) => {
                self.full = true;
                Err(taken_back(back))
            }
            Err(TrySendError::Closed(back)) => {
                self.to = None;
                Err(taken_back(back))
            }
        }
    }
}

/// What an output takes in memory on its way.
fn bytes_of(waiting: &Waiting) -> usize {
    let row: usize = waiting.entry.row.iter().map(Value::memory_bytes).sum();
    row + size_of::<Delivery>() + ID_BYTES
}

fn taken_back(delivery: Delivery) -> Waiting {
    let Delivery {
        key,
        time,
        made,
        schema,
        row,
        ..
    } = delivery;
    let entry = Entry {
        key,
        time,
        schema,
        row,
    };
    Waiting { entry, made }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Field, Schema, Timestamp, Type, Value};
    use crate::outbox::{Full, Limits};
    use crate::store::{Store, WriteBatch, sim::SimStore};

    fn entry(number: u64, text: &str) -> Entry {
        let field = Field {
            name: "text".to_owned(),
            ty: Type::String,
        };
        Entry {
            key: OutputKey {
                seq: Seq(number),
                ..OutputKey::default()
            },
            time: Timestamp(0),
            schema: Arc::new(Schema::new(vec![field])),
            row: vec![Value::text(text)],
        }
    }

    /// An outage is over when nothing waits any more, even if the last that was made was given up
    /// at once.
    #[test]
    fn an_outage_ends_though_the_last_was_not_taken() {
        let store = Arc::new(SimStore::new());
        let limits = Limits {
            bytes_max: 1_000,
            full: Full::DropNewest,
            ..Limits::NONE
        };
        let shared: Arc<dyn Store> = store.clone();
        let mut outbox = Outbox::open(shared, &[("S".to_owned(), limits)]).unwrap();
        let metrics = Arc::<OutboxMetrics>::default();
        let (to, _from) = tokio::sync::mpsc::channel(1);
        let feed = Feed::new(0, to, &outbox, 1);
        let feed = feed.telling(watch::Sender::default(), Arc::clone(&metrics));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let _entered = runtime.as_ref().unwrap().enter();
        metrics.outage.begin(&metrics, "S", &Default::default());
        let noise: String = (0..4_000_u32)
            .filter_map(|n| char::from_u32(0x4E00 + n.wrapping_mul(2_654_435_761) % 20_000))
            .collect();
        for (number, text) in [(1, "small"), (2, noise.as_str())] {
            let mut batch = WriteBatch::new();
            let outputs = [entry(number, text)];
            let done = outbox.append(0, Timestamp(0), &outputs, &mut batch);
            assert_eq!(done.unwrap().stored, 2 - number);
            store.write(batch).unwrap();
        }
        feed.count(&outbox, &[]);
        metrics.outage.end(&metrics);
        assert!(metrics.outage.is_open());
        let mut batch = WriteBatch::new();
        outbox.confirm(0, entry(1, "").key, &mut batch).unwrap();
        store.write(batch).unwrap();
        feed.count(&outbox, &[]);
        assert!(!metrics.outage.is_open());
        assert_eq!(metrics.dropped.load(Ordering::Relaxed), 1);
        assert_eq!(metrics.confirmed.load(Ordering::Relaxed), 1);
    }
}
