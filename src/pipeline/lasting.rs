//! What outlives the store: when that fails, sources and sinks stay, and so does everything here.
//!
//! While the store is closed nothing is taken from sources, so that their acknowledgements wait;
//! what sinks confirm is remembered. When it is open again, four things bring memory and disk
//! together:
//!
//! * What was taken and is not in the log that was found is worked again, see [`super::flight`].
//! * Numbers that were given are not given again, not even those of records that are lost. So
//!   whatever is still under way to a sink or from it, and an outbox that had to begin anew, can
//!   mean nothing else by a key.
//! * What sinks have confirmed is confirmed again, as that may be lost; so is what they have
//!   refused and what was given up, see [`super::words`].
//! * Feeds go on behind what their sinks were given.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, never};

use super::disk::{Disk, Opened, ROOM_EVERY, RoomLimits, trouble_of};
use super::faults::Computed;
use super::feed::Feed;
use super::flight::{Ack, Again, Flight, marks_only};
use super::pulse::Pulse;
use super::run::{Change, Command, Happened};
use super::tap::Taps;
use super::turn::{Core, PipelineError};
use super::words::Words;
use crate::clock::LogClock;
use crate::event::{DeliveryMark, Seq};
use crate::observe::PipelineMetrics;
use crate::pace::Backoff;
use crate::sink::Confirmed;
use crate::source::Arrival;
use crate::sql::plan::StreamId;
use crate::store::StoreError;

/// When so much has become free on the disk, opening the store is tried at once.
const FREED_BYTES_MIN: u64 = 256 << 10;
/// How long the end of the store's threads is waited for before each attempt.
const ENDED_WITHIN: Duration = Duration::from_millis(100);
/// A thread that has not come out of a store for so long after that failed will not.
const HUNG_AFTER: Duration = Duration::from_secs(20);
/// How soon a stop is noticed while something waits that would hold it up.
pub(super) const STOP_NOTICED: Duration = Duration::from_millis(100);

/// When input becomes durable, and with it acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A sync is started as soon as there is anything to sync.
    Always,
    /// A sync is started so long after the first input that waits for it: one sync for many.
    Interval(Duration),
    /// Never synced but by checkpoints; input is acknowledged when it is written.
    None,
}

/// The bounds of the loop.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows that one turn takes.
    pub turn_rows_max: usize,
    /// Bytes of rows that one turn takes.
    pub turn_bytes_max: usize,
    /// Bytes of records that may wait for the disk; beyond it nothing is taken from sources.
    pub unsynced_bytes_max: usize,
    /// When input becomes durable.
    pub durability: Durability,
    /// Time between two checkpoints, if anything happened; none for no such bound.
    pub checkpoint_interval: Option<Duration>,
    /// Bytes of the log between two checkpoints; none for no such bound.
    pub checkpoint_log_bytes_max: Option<usize>,
    /// What may be used of the disk.
    pub room: RoomLimits,
    /// How far the log's clock may go forward at once, see [`LogClock`], in milliseconds.
    pub jump_ms_max: i64,
    /// How long sinks may deliver what they hold after the sources have stopped.
    pub sinks_within: Duration,
}

/// A source as the pipeline sees it.
#[derive(Debug)]
pub struct SourceHandle {
    /// The stream it feeds.
    pub stream: StreamId,
    /// Told how far its messages are durable.
    pub released: tokio::sync::watch::Sender<u64>,
}

/// What joins the pipeline to the rest.
#[derive(Debug)]
pub struct Handles {
    /// Sources by number. What comes from another number is of a source that is gone.
    pub sources: BTreeMap<usize, SourceHandle>,
    /// Input of all sources. When every sender is gone, the pipeline drains and ends.
    pub arrivals: Receiver<Arrival>,
    /// One feed per outbox, in their order.
    pub feeds: Vec<Feed>,
    /// Confirmations of all sinks.
    pub confirmed: Receiver<Confirmed>,
    /// What it is asked to do besides.
    pub commands: Receiver<Command>,
    /// Turns true when the sources are told to end.
    pub stopping: tokio::sync::watch::Receiver<bool>,
    /// Turns true when the sources are gone and the sinks have had time to deliver the rest.
    pub drained: tokio::sync::watch::Sender<bool>,
    /// Who watches it.
    pub pulse: Pulse,
    /// What it counts.
    pub metrics: Arc<PipelineMetrics>,
}

/// A store that failed and is being closed.
pub(super) struct Closing {
    pub(super) error: PipelineError,
    /// They may still be in a write or a sync.
    pub(super) threads: Vec<JoinHandle<()>>,
    /// Marks that nothing on disk has.
    pub(super) unlogged: BTreeMap<String, Vec<DeliveryMark>>,
}

/// `marks` but for the first of them that `known`, what was found on the disk, ends with: a
/// checkpoint has had them that nobody could tell of any more.
fn unknown(mut marks: Vec<DeliveryMark>, known: &[DeliveryMark]) -> Vec<DeliveryMark> {
    let there = (0..=marks.len()).rev().find(|count| {
        marks
            .get(..*count)
            .is_some_and(|some| known.ends_with(some))
    });
    marks.drain(..there.unwrap_or(0));
    marks
}

/// Whether the threads have ended, as they do at once unless the disk hangs.
fn have_ended(threads: &[JoinHandle<()>]) -> bool {
    let until = Instant::now() + ENDED_WITHIN;
    let ended = || threads.iter().all(JoinHandle::is_finished);
    while !ended() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    ended()
}

/// The module's head says what it is.
pub(super) struct Lasting {
    pub(super) handles: Handles,
    pub(super) limits: Limits,
    pub(super) clock: LogClock,
    /// Input that is written and not known durable.
    pub(super) flight: Flight,
    /// Input that was taken and is lost on the disk, before anything else is taken.
    pub(super) again: VecDeque<Again>,
    /// Everything up to here is durable.
    pub(super) durable: Seq,
    /// The last number that was given.
    pub(super) given: Seq,
    /// Whether every sink has ended.
    pub(super) sinks_gone: bool,
    /// Since the sources are gone: when the sinks are told to end.
    pub(super) draining: Option<Instant>,
    /// What has become of outputs and may be lost with the store.
    pub(super) words: Words,
    /// The store's identity.
    pub(super) identity: u64,
    /// What could not be computed.
    pub(super) faults: Computed,
    /// Reports of outputs that were given up.
    pub(super) loss_reports: u64,
    /// A change that has not happened yet.
    pub(super) change: Option<Box<Change>>,
    /// A change that has happened, and whom to tell when that is durable.
    pub(super) happened: Option<Happened>,
    /// Sinks that are given nothing for now, by name.
    pub(super) paused: BTreeSet<String>,
    /// Who looks at rows.
    pub(super) taps: Taps,
    /// How the store is opened from now on, if that has changed.
    pub(super) disk: Option<Disk>,
}

impl Lasting {
    pub(super) fn new(core: &Core, identity: u64, handles: Handles, limits: Limits) -> Lasting {
        Lasting {
            identity,
            faults: Computed::default(),
            loss_reports: 0,
            change: None,
            happened: None,
            disk: None,
            paused: BTreeSet::new(),
            taps: Taps::default(),
            clock: LogClock::new(core.last_time(), limits.jump_ms_max),
            flight: Flight::default(),
            again: VecDeque::new(),
            durable: core.last(),
            given: core.last(),
            sinks_gone: false,
            draining: None,
            words: Words::new(core.sinks().len()),
            handles,
            limits,
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.handles.stopping.borrow()
    }

    /// Everything up to `seq` is durable: sources may acknowledge, sinks may deliver.
    pub(super) fn release(&mut self, seq: Seq) {
        self.durable = self.durable.max(seq);
        while let Some(acks) = self.flight.land(self.durable) {
            for Ack { source, through } in acks {
                if let Some(source) = self.handles.sources.get(&source) {
                    source.released.send_replace(through);
                }
            }
        }
        let held = u64::try_from(self.flight.acks()).unwrap_or(u64::MAX);
        self.handles
            .metrics
            .acks_held
            .store(held, Ordering::Relaxed);
    }

    /// A sink has said something; what comes from one that is gone is of no account.
    pub(super) fn said(&mut self, one: Confirmed) {
        let mut feeds = self.handles.feeds.iter();
        if let Some(sink) = feeds.position(|feed| feed.number() == one.sink) {
            self.words.said(Confirmed { sink, ..one });
        }
    }

    /// Opens the store anew, however long that takes.
    ///
    /// # Errors
    /// What keeps it closed, when the daemon is to stop or a thread hangs in it; or what opening it
    /// anew cannot help.
    pub(super) fn reopen(
        &mut self,
        disk: &mut Disk,
        closing: Closing,
        pace: &mut Backoff,
    ) -> Result<Core, PipelineError> {
        let Closing {
            mut error,
            threads,
            mut unlogged,
        } = closing;
        let metrics = Arc::clone(&self.handles.metrics);
        let mut free = (disk.bytes_free)();
        let failed = Instant::now();
        loop {
            let Some(failure) = error.store() else {
                return Err(error);
            };
            metrics.store_failures.fetch_add(1, Ordering::Relaxed);
            let why = failure.to_string();
            metrics.health.degrade(trouble_of(failure), &why);
            let wait = pace.wait();
            tracing::debug!("the store is opened anew in {wait:.1?}");
            let stops = self.rest(wait, free, &disk.bytes_free);
            // As it was before the attempt: what becomes free during one counts for the next.
            free = (disk.bytes_free)();
            if have_ended(&threads) {
                let resumed = (disk.open)().and_then(|opened| self.resume(opened, &mut unlogged));
                match resumed {
                    Ok(core) => {
                        metrics.store_reopened.fetch_add(1, Ordering::Relaxed);
                        metrics.health.recover();
                        return Ok(core);
                    }
                    Err(next) => error = next,
                }
            } else if failed.elapsed() >= HUNG_AFTER {
                let why = format!("{error}; and a thread hangs in it that only a restart ends");
                return Err(StoreError::Poisoned { why }.into());
            }
            if stops {
                return Err(error);
            }
        }
    }

    /// Waits, but not when there is more space than `free`, and listens to sinks. True as soon as
    /// the daemon is to stop.
    fn rest(
        &mut self,
        wait: Duration,
        free: Option<u64>,
        bytes_free: &dyn Fn() -> Option<u64>,
    ) -> bool {
        let until = Instant::now() + wait;
        let enough = free.map(|free| free.saturating_add(FREED_BYTES_MIN));
        let mut look_at = Instant::now() + ROOM_EVERY;
        loop {
            self.handles.pulse.turned();
            let now = Instant::now();
            let left = until.saturating_duration_since(now);
            if self.is_stopping() || left.is_zero() {
                return self.is_stopping();
            }
            if look_at <= now {
                look_at = now + ROOM_EVERY;
                if bytes_free()
                    .zip(enough)
                    .is_some_and(|(free, enough)| free >= enough)
                {
                    return false;
                }
            }
            match self.handles.confirmed.recv_timeout(left.min(STOP_NOTICED)) {
                Ok(one) => self.said(one),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.sinks_gone = true;
                    self.handles.confirmed = never();
                }
            }
        }
    }

    /// Brings memory and disk together. Changes nothing in memory unless all of it succeeds.
    fn resume(
        &mut self,
        opened: Opened,
        unlogged: &mut BTreeMap<String, Vec<DeliveryMark>>,
    ) -> Result<Core, PipelineError> {
        let Opened {
            mut core,
            identity,
            checkpoint,
        } = opened;
        let mut again = self.flight.lacking(&core, checkpoint)?;
        core.skip_past(self.given)?;
        let time = self.clock.now().max(core.last_time());
        let turn = core.settle(time, &self.words.all())?;
        let given_up = turn.given_up.clone();
        core.write(turn)?;
        // Only now is it known to work, and what was found to be durable.
        core.store().sync()?;
        let records = again.iter().map(|turn| turn.inputs.len()).sum::<usize>();
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        let metrics = &self.handles.metrics;
        metrics.records_again.fetch_add(records, Ordering::Relaxed);
        let unlogged = std::mem::take(unlogged).into_iter();
        let inputs = unlogged.filter_map(|(stream, marks)| {
            let marks = unknown(marks, core.marks(&stream));
            marks_only(&core, &stream, marks)
        });
        let inputs = inputs.collect();
        let acks = Vec::new();
        again.push_back(Again { inputs, acks });
        // What was to be worked again before is younger than all that was written.
        again.append(&mut self.again);
        self.again = again;
        self.flight.clear();
        self.words.all_durable();
        self.identity = identity;
        self.given = core.last();
        self.durable = core.last();
        self.clock.forget_news();
        for feed in &mut self.handles.feeds {
            feed.restart(core.outbox(), identity);
            feed.count(core.outbox(), &given_up);
        }
        Ok(core)
    }
}
