//! The thread around the core: it waits for input, confirmations, syncs and deadlines, and takes
//! them one after the other. Nothing it does waits for a network, and only the syncing thread
//! waits for the disk's flush.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, never};
use crossbeam::select;

use super::feed::Feed;
use super::turn::{Core, Input, PipelineError, TurnDone};
use crate::checkpoint::CheckpointError;
use crate::clock::LogClock;
use crate::event::{Seq, Timestamp};
use crate::observe::PipelineMetrics;
use crate::sink::Confirmed;
use crate::source::Arrival;
use crate::sql::plan::StreamId;
use crate::store::{Store, StoreError, WriteBatch};

/// Longest wait when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);
/// How soon a stop is noticed while something waits that would hold it up.
const STOP_NOTICED: Duration = Duration::from_millis(100);
/// How soon a step of the wall clock is noticed while a deadline is set.
const CLOCK_STEP_NOTICED: Duration = Duration::from_secs(1);
/// How soon outputs are offered again to a sink whose channel was full, should no confirmation
/// come from it before.
const PUMP_AGAIN: Duration = Duration::from_secs(1);

/// Time between the turns of a flood. Each turn costs a wake-up, and each record an insert into the
/// store, which rewrites a multiple of what it is given.
const GATHER: Duration = Duration::from_millis(1);
/// Rows in memory that go into one record together: packed some 5 KiB, so that a leaf of the store
/// with 17 of them stays below the 128 KiB beyond which it becomes a file of its own.
const JOINED_BYTES_MAX: usize = 32 << 10;

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
    /// When input becomes durable.
    pub durability: Durability,
    /// Time between two checkpoints, if anything happened.
    pub checkpoint_interval: Duration,
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
    /// Sources by number.
    pub sources: Vec<SourceHandle>,
    /// Input of all sources. When every sender is gone, the pipeline drains and ends.
    pub arrivals: Receiver<Arrival>,
    /// One feed per outbox.
    pub feeds: Vec<Feed>,
    /// Confirmations of all sinks.
    pub confirmed: Receiver<Confirmed>,
    /// Turns true when the sources are told to end.
    pub stopping: tokio::sync::watch::Receiver<bool>,
    /// Turns true when the sources are gone and the sinks have had time to deliver the rest.
    pub drained: tokio::sync::watch::Sender<bool>,
    /// What it counts.
    pub metrics: Arc<PipelineMetrics>,
}

/// How the loop ended, when it ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The last input.
    pub last: Seq,
    /// Outputs that wait in the outboxes for the next start.
    pub waiting: u64,
}

/// Runs until every source is gone, then until every sink is, and leaves a checkpoint behind.
///
/// # Errors
/// When the store fails: what is durable is safe, the rest was never acknowledged; open the store
/// anew.
pub fn run(core: Core, handles: Handles, limits: Limits) -> Result<Outcome, PipelineError> {
    let (requests, todo) = bounded::<Seq>(1);
    let (report, done) = bounded::<(Seq, Result<(), StoreError>)>(1);
    let store = core.store();
    let syncer = std::thread::Builder::new()
        .name("sync".to_owned())
        .spawn(move || sync_loop(&*store, &todo, &report));
    let syncer = syncer.map_err(|error| StoreError::Io {
        doing: "starting the syncing thread",
        why: error.to_string(),
    })?;
    let now = Instant::now();
    let clock = LogClock::new(core.last_time(), 30 * 86_400_000);
    let outcome = Pipeline {
        written: core.last(),
        durable: core.last(),
        clock,
        limits,
        handles,
        requests,
        done,
        syncing: false,
        worked_at: None,
        unsynced_since: None,
        acks: VecDeque::new(),
        checkpoint_at: now + limits.checkpoint_interval,
        trimming: false,
        sinks_gone: false,
        unsynced_checkpoint: false,
        draining: None,
        core,
    }
    .run();
    // The loop has dropped its end of the channel, so the thread ends.
    drop(syncer.join());
    outcome
}

fn sync_loop(
    store: &dyn Store,
    todo: &Receiver<Seq>,
    report: &Sender<(Seq, Result<(), StoreError>)>,
) {
    for seq in todo {
        if report.send((seq, store.sync())).is_err() {
            return;
        }
    }
}

/// An acknowledgement that waits for its input to be durable.
struct Ack {
    seq: Seq,
    source: usize,
    through: u64,
}

struct Pipeline {
    core: Core,
    handles: Handles,
    limits: Limits,
    clock: LogClock,
    requests: Sender<Seq>,
    done: Receiver<(Seq, Result<(), StoreError>)>,
    /// Whether a sync is under way.
    syncing: bool,
    /// When the last turn with input was written.
    worked_at: Option<Instant>,
    /// When the oldest input that no sync covers was written.
    unsynced_since: Option<Instant>,
    /// The last input that has been written.
    written: Seq,
    durable: Seq,
    acks: VecDeque<Ack>,
    checkpoint_at: Instant,
    /// Whether there is more of the log to let go of.
    trimming: bool,
    /// Whether every sink has ended.
    sinks_gone: bool,
    /// Whether a checkpoint waits to be synced.
    unsynced_checkpoint: bool,
    /// Since the sources are gone: when the sinks are told to end.
    draining: Option<Instant>,
}

enum Event {
    Arrived(Arrival),
    SourcesGone,
    Confirmed(Confirmed),
    SinksGone,
    Synced(Seq, Result<(), StoreError>),
    Timeout,
}

impl Pipeline {
    fn run(mut self) -> Result<Outcome, PipelineError> {
        self.pump()?;
        loop {
            match self.wait() {
                Event::Arrived(arrival) => self.arrived(arrival)?,
                Event::SourcesGone => {
                    self.drain()?;
                    if self.sinks_gone {
                        return self.finish();
                    }
                }
                Event::Confirmed(confirmed) => self.confirmed(confirmed)?,
                Event::SinksGone => return self.finish(),
                Event::Synced(seq, result) => {
                    result?;
                    self.syncing = false;
                    self.release(seq);
                }
                Event::Timeout => {}
            }
            self.due()?;
            self.pump()?;
        }
    }

    fn wait(&mut self) -> Event {
        let timeout = self.timeout();
        let idle_arrivals = never();
        let idle_confirmed = never();
        let takes = self.draining.is_none() && (self.is_stopping() || !self.is_blocked());
        let arrivals = if takes {
            &self.handles.arrivals
        } else {
            &idle_arrivals
        };
        // While the sources are there, sinks that are gone are no reason to end.
        let confirmed = if self.draining.is_some() || !self.handles.feeds.is_empty() {
            &self.handles.confirmed
        } else {
            &idle_confirmed
        };
        select! {
            recv(arrivals) -> arrival => arrival.map_or(Event::SourcesGone, Event::Arrived),
            recv(confirmed) -> one => match one {
                Ok(one) => Event::Confirmed(one),
                Err(_) if self.draining.is_some() => Event::SinksGone,
                Err(_) => {
                    self.sinks_gone = true;
                    self.handles.confirmed = never();
                    Event::Timeout
                }
            },
            recv(self.done) -> done => match done {
                Ok((seq, result)) => Event::Synced(seq, result),
                Err(_) => Event::Synced(self.durable, Err(StoreError::Poisoned {
                    why: "the syncing thread has ended".to_owned(),
                })),
            },
            default(timeout) => Event::Timeout,
        }
    }

    fn is_stopping(&self) -> bool {
        *self.handles.stopping.borrow()
    }

    /// Until the next thing that falls due by itself.
    fn timeout(&mut self) -> Duration {
        let now = Instant::now();
        let until = |at: Instant| at.saturating_duration_since(now);
        let mut timeout = IDLE;
        if self.trimming {
            return Duration::ZERO;
        }
        // A stop does not wake this thread, but changes what it waits for.
        if !self.acks.is_empty() || self.is_blocked() {
            timeout = STOP_NOTICED;
        }
        if self.core.has_unsaved() && self.draining.is_none() {
            timeout = timeout.min(until(self.checkpoint_at));
        }
        if let (false, Some(at)) = (self.syncing, self.sync_at()) {
            timeout = timeout.min(until(at));
        }
        if let (Some(deadline), None) = (self.core.deadline(), self.draining) {
            let left_ms = deadline.0.saturating_sub(self.clock.now().0).max(0);
            let left = Duration::from_millis(left_ms.unsigned_abs());
            timeout = timeout.min(left.min(CLOCK_STEP_NOTICED));
        }
        if let Some(at) = self.draining.filter(|_| !*self.handles.drained.borrow()) {
            timeout = timeout.min(until(at));
        }
        if self.handles.feeds.iter().any(Feed::waits_for_room) {
            timeout = timeout.min(PUMP_AGAIN);
        }
        timeout
    }

    fn is_blocked(&self) -> bool {
        (0..self.handles.feeds.len()).any(|sink| self.core.outbox().is_full(sink))
    }

    /// Works what has arrived, and whatever else waits, up to the bounds of a turn.
    fn arrived(&mut self, first: Arrival) -> Result<(), PipelineError> {
        self.gather();
        let mut rows = 0;
        let mut bytes = 0;
        let mut inputs = Vec::new();
        let mut acks: Vec<(usize, u64)> = Vec::new();
        let mut next = Some(first);
        while let Some(arrival) = next.take() {
            rows += arrival.rows.len() + arrival.rejected.len();
            bytes += arrival.rows.memory_bytes();
            acks.push((arrival.source, arrival.through));
            let stream = self
                .handles
                .sources
                .get(arrival.source)
                .map(|source| source.stream);
            if let Some(stream) = stream {
                let Arrival {
                    rows,
                    rejected,
                    marks,
                    ..
                } = arrival;
                let input = Input {
                    stream,
                    rows,
                    rejected,
                    marks,
                };
                let alone = joined(inputs.last_mut(), input);
                inputs.extend(alone);
            }
            if rows < self.limits.turn_rows_max && bytes < self.limits.turn_bytes_max {
                next = self.handles.arrivals.try_recv().ok();
            }
        }
        let metrics = &self.handles.metrics;
        add(&metrics.rows, rows);
        add(
            &metrics.rejected,
            inputs.iter().map(|input| input.rejected.len()).sum(),
        );
        if !inputs.is_empty() {
            let time = self.now();
            let turn = self.core.turn(time, inputs)?;
            self.write(turn)?;
            self.worked_at = Some(Instant::now());
        }
        let seq = self.core.last();
        for (source, through) in acks {
            self.acks.push_back(Ack {
                seq,
                source,
                through,
            });
        }
        self.release(self.durable);
        Ok(())
    }

    /// When turns follow each other closely, lets rows come together before the next one. Input
    /// that comes alone is worked at once, and so is all of it where every turn is to be synced.
    fn gather(&self) {
        let Durability::Interval(interval) = self.limits.durability else {
            return;
        };
        let pause = GATHER.min(interval / 4);
        if let Some(at) = self.worked_at {
            std::thread::sleep(pause.saturating_sub(at.elapsed()));
        }
    }

    fn now(&mut self) -> Timestamp {
        self.clock.now().max(self.core.last_time())
    }

    fn write(&mut self, mut turn: TurnDone) -> Result<(), PipelineError> {
        let metrics = &self.handles.metrics;
        let outputs = std::mem::take(&mut turn.outputs);
        let last = turn.last;
        add(&metrics.turns, 1);
        add(
            &metrics.log_bytes,
            turn.log.iter().map(WriteBatch::bytes).sum(),
        );
        add(&metrics.outputs, outputs.iter().map(Vec::len).sum());
        self.core.write(turn)?;
        self.written = last;
        self.unsynced_since.get_or_insert_with(Instant::now);
        if self.limits.durability == Durability::None {
            self.release(self.written);
        }
        for (feed, outputs) in self.handles.feeds.iter_mut().zip(outputs) {
            feed.add(outputs);
        }
        Ok(())
    }

    /// Everything whose time has come.
    fn due(&mut self) -> Result<(), PipelineError> {
        let now = Instant::now();
        let ticks = self.draining.is_none() && self.core.deadline().is_some();
        if ticks && self.core.deadline() <= Some(self.clock.now()) {
            let time = self.now();
            let turn = self.core.turn(time, Vec::new())?;
            add(&self.handles.metrics.ticks, 1);
            self.write(turn)?;
        }
        if self.core.has_unsaved() && now >= self.checkpoint_at {
            self.checkpoint()?;
        }
        if self.trimming {
            self.trimming = self.core.trim()?;
        }
        if self.draining.is_some_and(|at| at <= now) {
            self.handles
                .drained
                .send_if_modified(|drained| !std::mem::replace(drained, true));
        }
        if !self.syncing && self.sync_at().is_some_and(|at| at <= now) {
            self.unsynced_since = None;
            self.unsynced_checkpoint = false;
            self.syncing = self.requests.try_send(self.written).is_ok();
            add(&self.handles.metrics.syncs, 1);
        }
        add(
            &self.handles.metrics.faults,
            usize::try_from(self.core.take_faults()).unwrap_or(0),
        );
        self.handles.metrics.count_engine(self.core.take_counts());
        Ok(())
    }

    /// When what has been written is to be synced; none when there is nothing, or nobody wants it.
    fn sync_at(&self) -> Option<Instant> {
        let since = self.unsynced_since?;
        match self.limits.durability {
            Durability::Always => Some(since),
            Durability::Interval(_) if self.is_stopping() => Some(since),
            Durability::Interval(interval) => Some(since + interval),
            Durability::None => self.unsynced_checkpoint.then_some(since),
        }
    }

    fn checkpoint(&mut self) -> Result<(), PipelineError> {
        self.checkpoint_at = Instant::now() + self.limits.checkpoint_interval;
        match self.core.checkpoint() {
            Ok(()) => {}
            Err(PipelineError::Checkpoint(CheckpointError::Store(error))) => {
                return Err(error.into());
            }
            // The older ones are still there, and so is the log behind them.
            Err(error @ PipelineError::Checkpoint(_)) => {
                tracing::error!("{error}");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.trimming = true;
        add(&self.handles.metrics.checkpoints, 1);
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.unsynced_checkpoint = true;
        Ok(())
    }

    /// Everything up to `seq` is durable: sources may acknowledge, sinks may deliver.
    fn release(&mut self, seq: Seq) {
        self.durable = self.durable.max(seq);
        while self.acks.front().is_some_and(|ack| ack.seq <= self.durable) {
            let Some(Ack {
                source, through, ..
            }) = self.acks.pop_front()
            else {
                break;
            };
            if let Some(source) = self.handles.sources.get(source) {
                source.released.send_replace(through);
            }
        }
    }

    fn confirmed(&mut self, first: Confirmed) -> Result<(), PipelineError> {
        let mut batch = WriteBatch::new();
        let mut next = Some(first);
        while let Some(Confirmed { sink, key }) = next.take() {
            self.core.outbox_mut().confirm(sink, key, &mut batch)?;
            next = self.handles.confirmed.try_recv().ok();
        }
        Ok(self.core.put(batch)?)
    }

    fn pump(&mut self) -> Result<(), PipelineError> {
        for feed in &mut self.handles.feeds {
            feed.pump(self.core.outbox_mut(), self.durable)?;
        }
        Ok(())
    }

    /// The sources are gone: what they brought is made durable, and the sinks are closed.
    fn drain(&mut self) -> Result<(), PipelineError> {
        self.draining = Some(Instant::now() + self.limits.sinks_within);
        self.settle()?;
        self.pump()?;
        self.handles.feeds.iter_mut().for_each(Feed::close);
        Ok(())
    }

    /// Waits for the disk, for once: nothing else is left to do.
    fn settle(&mut self) -> Result<(), PipelineError> {
        if self.syncing {
            if let Ok((seq, result)) = self.done.recv() {
                result?;
                self.release(seq);
            }
            self.syncing = false;
        }
        self.core.store().sync()?;
        self.unsynced_since = None;
        self.release(self.core.last());
        Ok(())
    }

    fn finish(mut self) -> Result<Outcome, PipelineError> {
        if self.core.has_unsaved() {
            self.checkpoint()?;
        }
        self.settle()?;
        let waiting = (0..self.handles.feeds.len())
            .filter_map(|sink| Some(self.core.outbox().depth(sink).ok()?.entries))
            .sum();
        Ok(Outcome {
            last: self.core.last(),
            waiting,
        })
    }
}

/// Lets `input` go into one record with the one before it, where their order allows it; gives it
/// back where not.
fn joined(before: Option<&mut Input>, mut input: Input) -> Option<Input> {
    let fits = |before: &&mut Input| {
        before.stream == input.stream
            && before.rejected.is_empty()
            && before.rows.memory_bytes() + input.rows.memory_bytes() <= JOINED_BYTES_MAX
    };
    let Some(before) = before.filter(fits) else {
        return Some(input);
    };
    before.rows.append(&mut input.rows);
    before.rejected = input.rejected;
    before.marks.append(&mut input.marks);
    None
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
}
