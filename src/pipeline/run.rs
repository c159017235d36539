//! The thread around the core: it waits for input, confirmations, syncs and deadlines, and takes
//! them one after the other. Nothing it does waits for a network, and only the syncing thread
//! waits for the disk's flush.
//!
//! When the store fails, the loop ends, the store is closed and opened anew, and the next loop
//! goes on with what [`super::lasting`] has kept. A [`Pipeline`] lives as long as its store.

mod changing;
mod errands;
mod outputs;
mod saving;

pub(super) use changing::Happened;
pub use changing::{Change, Changed, Command, NewSink, SinkToBe, SourceToBe, Unchanged};

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::never;
use crossbeam::select;

use super::disk::{Disk, Opened, Room, Syncer, content_of, outboxes_of};
use super::feed::Feed;
use super::flight::{Ack, Again, Turn};
use super::lasting::{Closing, Durability, Handles, Lasting, Limits, STOP_NOTICED};
use super::save::Saver;
use super::turn::{Core, Input, PipelineError, TurnDone};
use crate::checkpoint::{CheckpointError, Report};
use crate::event::{Seq, Timestamp};
use crate::observe::Trouble;
use crate::pace::Backoff;
use crate::sink::Confirmed;
use crate::source::Arrival;
use crate::store::{Compaction, StoreError, WriteBatch};
use errands::Errands;
use saving::Saving;

/// Longest wait when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);
/// How soon a step of the wall clock is noticed while a deadline is set.
const CLOCK_STEP_NOTICED: Duration = Duration::from_secs(1);
/// How soon outputs are offered again to a sink whose channel was full, should no confirmation
/// come from it before.
const PUMP_AGAIN: Duration = Duration::from_secs(1);
/// Waits before the store is opened anew.
const REOPEN_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// A store that worked for so long did not fail for the reason for which it failed before.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// How long the end of a sync is waited for to learn why the store was closed.
const REASON_WITHIN: Duration = Duration::from_millis(100);
/// How long what a sink has confirmed may wait to be written with more of it.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(20);
/// A sync that takes longer is told of.
const SLOW_AFTER: Duration = Duration::from_secs(5);
/// Keys and values that are moved between two turns to give disk space back.
const COMPACT_BYTES: u64 = 256 << 10;
/// Time between the turns of a flood. Each turn costs a wake-up, and each record an insert into the
/// store, which rewrites a multiple of what it is given.
const GATHER: Duration = Duration::from_millis(1);
/// Rows in memory that go into one record together: packed some 5 KiB, so that a leaf of the store
/// with 17 of them stays below the 128 KiB beyond which it becomes a file of its own.
const JOINED_BYTES_MAX: usize = 32 << 10;

/// How the loop ended, when it ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The last input.
    pub last: Seq,
    /// Outputs that wait in the outboxes for the next start.
    pub waiting: u64,
}

/// Runs until every source is gone, then until every sink is, and leaves a checkpoint behind. A
/// store that fails is opened anew, as often as it takes.
///
/// # Errors
/// When the store does not work and the daemon is to stop: what is durable is safe, the rest was
/// never acknowledged. Otherwise what opening it anew cannot help.
pub fn run(
    mut disk: Disk,
    first: Opened,
    handles: Handles,
    limits: Limits,
) -> Result<Outcome, PipelineError> {
    let mut core = first.core;
    let mut lasting = Lasting::new(&core, first.identity, handles, limits);
    let mut pace = Backoff::new(REOPEN_AFTER.0, REOPEN_AFTER.1);
    loop {
        let began = Instant::now();
        let closing = match with_store(core, &mut lasting, &disk) {
            Ok(outcome) => return Ok(outcome),
            Err(closing) => closing,
        };
        if began.elapsed() >= STABLE_AFTER {
            pace.reset();
        }
        if let Some(other) = lasting.disk.take() {
            disk = other;
        }
        core = lasting.reopen(&mut disk, closing, &mut pace)?;
    }
}

/// Runs as long as the store works, and closes it.
fn with_store(core: Core, lasting: &mut Lasting, disk: &Disk) -> Result<Outcome, Closing> {
    let started =
        Saver::start(core.store()).and_then(|saver| Ok((saver, Syncer::start(core.store())?)));
    let (saver, syncer) = match started {
        Ok(threads) => threads,
        Err(error) => {
            return Err(Closing {
                error: error.into(),
                threads: Vec::new(),
                unlogged: core.unlogged,
            });
        }
    };
    let interval = lasting.limits.checkpoint_interval;
    let mut pipeline = Pipeline {
        written: core.last(),
        syncing: None,
        worked_at: None,
        unsynced_since: None,
        confirmed_since: None,
        checkpoint_at: interval.map(|interval| Instant::now() + interval),
        log_bytes: 0,
        trimming: false,
        compacting: false,
        unsynced_checkpoint: false,
        room: Room::new(lasting.limits.room),
        told: None,
        saving: Saving::idle(),
        errands: Errands::default(),
        saver,
        syncer,
        core,
        disk,
        lasting,
    };
    let result = pipeline.run().map_err(|error| pipeline.reason(error));
    let Pipeline {
        core,
        syncer,
        saver,
        saving,
        ..
    } = pipeline;
    // Their ends of the channels are gone, so that the threads end.
    drop(saving);
    let threads = vec![syncer.close(), saver.close()];
    match result {
        Ok(outcome) => {
            threads.into_iter().for_each(|thread| drop(thread.join()));
            Ok(outcome)
        }
        // A sync that does not end must not hold up the sinks.
        Err(error) => Err(Closing {
            error,
            threads,
            unlogged: core.unlogged,
        }),
    }
}

struct Pipeline<'a> {
    lasting: &'a mut Lasting,
    disk: &'a Disk,
    core: Core,
    syncer: Syncer,
    saver: Saver,
    saving: Saving,
    /// Since when a sync is under way.
    syncing: Option<Instant>,
    /// When the last turn with input was written.
    worked_at: Option<Instant>,
    /// When the oldest input that no sync covers was written.
    unsynced_since: Option<Instant>,
    /// When a sink has first confirmed something that is not written.
    confirmed_since: Option<Instant>,
    /// The last input that has been written.
    written: Seq,
    checkpoint_at: Option<Instant>,
    /// Bytes of the log since the last checkpoint.
    log_bytes: usize,
    /// Whether there is more of the log to let go of.
    trimming: bool,
    /// Whether disk space may be given back.
    compacting: bool,
    /// Whether a checkpoint waits to be synced.
    unsynced_checkpoint: bool,
    room: Room,
    /// What it was asked for and has begun.
    errands: Errands,
    /// What is said to be wrong.
    told: Option<Trouble>,
}

enum Event {
    Arrived(Arrival),
    SourcesGone,
    Confirmed(Confirmed),
    Asked(Command),
    SinksGone,
    Synced(Seq, Result<(), StoreError>),
    Saved(Result<Report, CheckpointError>),
    Timeout,
}

impl Pipeline<'_> {
    fn run(&mut self) -> Result<Outcome, PipelineError> {
        while let Some(Again { inputs, acks }) = self.lasting.again.pop_front() {
            self.work(inputs, acks)?;
        }
        if self.lasting.draining.is_some() {
            self.drain()?;
            if self.lasting.sinks_gone {
                return self.finish();
            }
        }
        self.tap_again();
        self.answer();
        self.change()?;
        self.pump()?;
        loop {
            self.lasting.handles.pulse.turned();
            match self.wait() {
                Event::Arrived(arrival) => self.arrived(arrival)?,
                Event::SourcesGone => {
                    self.drain()?;
                    if self.lasting.sinks_gone {
                        return self.finish();
                    }
                }
                Event::Confirmed(confirmed) => self.confirmed(confirmed),
                Event::Asked(command) => self.asked(command)?,
                Event::SinksGone => return self.finish(),
                Event::Synced(seq, result) => {
                    result?;
                    self.syncing = None;
                    self.lasting.words.synced();
                    self.errands.synced();
                    self.lasting.release(seq);
                }
                Event::Saved(done) => self.reported(done)?,
                Event::Timeout => {}
            }
            self.due()?;
            self.pump()?;
        }
    }

    /// What a store was closed for is known to whom it happened first.
    fn reason(&self, error: PipelineError) -> PipelineError {
        let Some(StoreError::Poisoned { .. }) = error.store().filter(|_| self.syncing.is_some())
        else {
            return error;
        };
        match self.syncer.done.recv_timeout(REASON_WITHIN) {
            Ok((_, Err(first))) => first.into(),
            Ok((_, Ok(()))) | Err(_) => error,
        }
    }

    fn wait(&mut self) -> Event {
        let timeout = self.timeout();
        let idle_arrivals = never();
        let idle_confirmed = never();
        let takes =
            self.lasting.draining.is_none() && (self.lasting.is_stopping() || !self.is_blocked());
        let handles = &self.lasting.handles;
        let arrivals = if takes {
            &handles.arrivals
        } else {
            &idle_arrivals
        };
        // While the sources are there, sinks that are gone are no reason to end.
        let confirmed = if self.lasting.draining.is_some() || !handles.feeds.is_empty() {
            &handles.confirmed
        } else {
            &idle_confirmed
        };
        select! {
            recv(arrivals) -> arrival => arrival.map_or(Event::SourcesGone, Event::Arrived),
            recv(confirmed) -> one => match one {
                Ok(one) => Event::Confirmed(one),
                Err(_) if self.lasting.draining.is_some() => Event::SinksGone,
                Err(_) => {
                    self.lasting.sinks_gone = true;
                    self.lasting.handles.confirmed = never();
                    Event::Timeout
                }
            },
            recv(handles.commands) -> command => match command {
                Ok(command) => Event::Asked(command),
                Err(_) => {
                    self.lasting.handles.commands = never();
                    Event::Timeout
                }
            },
            recv(self.syncer.done) -> done => match done {
                Ok((seq, result)) => Event::Synced(seq, result),
                Err(_) => Event::Synced(self.lasting.durable, Err(StoreError::Poisoned {
                    why: "the syncing thread has ended".to_owned(),
                })),
            },
            recv(self.saver.reports) -> done => match done {
                Ok(done) => Event::Saved(done),
                Err(_) => Event::Synced(self.lasting.durable, Err(StoreError::Poisoned {
                    why: "the thread that writes checkpoints has ended".to_owned(),
                })),
            },
            default(timeout) => Event::Timeout,
        }
    }

    /// Until the next thing that falls due by itself.
    fn timeout(&mut self) -> Duration {
        if self.trimming || self.compacting {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let draining = self.lasting.draining;
        let drained = *self.lasting.handles.drained.borrow();
        let unsaved = self.core.has_unsaved() && draining.is_none() && self.saving.is_idle();
        let times = [
            self.checkpoint_at.filter(|_| unsaved),
            self.confirm_at(),
            self.sync_at().filter(|_| self.syncing.is_none()),
            self.slow_at().filter(|_| self.told.is_none()),
            self.room.next_look().filter(|_| draining.is_none()),
            draining.filter(|_| !drained),
            self.loss_at(now),
        ];
        let times = times.into_iter().flatten();
        let mut timeout = times.map(|at| at.saturating_duration_since(now)).min();
        let mut within = |span: Duration| timeout = Some(timeout.map_or(span, |t| t.min(span)));
        for span in [self.saving.wait(), self.errands.wait()] {
            span.into_iter().for_each(&mut within);
        }
        // A stop does not wake this thread, but changes what it waits for.
        if !self.lasting.flight.is_empty() || self.is_blocked() {
            within(STOP_NOTICED);
        }
        if let (Some(deadline), None) = (self.core.deadline(), draining) {
            let now = self.lasting.clock.now();
            let left_ms = deadline.0.saturating_sub(now.0).max(0);
            within(Duration::from_millis(left_ms.unsigned_abs()).min(CLOCK_STEP_NOTICED));
        }
        if let Some(expiry) = self.next_expiry() {
            let now = self.log_now();
            let left_ms = expiry.0.saturating_sub(now.0).max(0);
            within(Duration::from_millis(left_ms.unsigned_abs()).min(CLOCK_STEP_NOTICED));
        }
        if self.lasting.handles.feeds.iter().any(Feed::waits_for_room) {
            within(PUMP_AGAIN);
        }
        if let Some(span) = self.lasting.handles.pulse.left() {
            within(span);
        }
        timeout.unwrap_or(IDLE)
    }

    fn is_blocked(&self) -> bool {
        let sinks = self.lasting.handles.feeds.len();
        self.room.held().is_some()
            || self.lasting.flight.bytes() > self.lasting.limits.unsynced_bytes_max
            || (0..sinks).any(|sink| self.core.outbox().is_full(sink))
    }

    /// When the sync that is under way has taken too long.
    fn slow_at(&self) -> Option<Instant> {
        Some(self.syncing? + SLOW_AFTER)
    }

    /// Works what has arrived, and whatever else waits, up to the bounds of a turn.
    fn arrived(&mut self, first: Arrival) -> Result<(), PipelineError> {
        self.gather();
        let Limits {
            turn_rows_max,
            turn_bytes_max,
            ..
        } = self.lasting.limits;
        let handles = &self.lasting.handles;
        let mut rows = 0;
        let mut bytes = 0;
        let mut inputs = Vec::new();
        let mut acks = Vec::new();
        let mut next = Some(first);
        while let Some(arrival) = next.take() {
            let Arrival {
                source,
                rows: some,
                rejected,
                marks,
                through,
                held: _,
            } = arrival;
            if let Some(handle) = handles.sources.get(&source) {
                rows += some.len() + rejected.len();
                bytes += some.memory_bytes();
                acks.push(Ack { source, through });
                let input = Input {
                    stream: handle.stream,
                    rows: some,
                    rejected,
                    marks,
                };
                let alone = joined(inputs.last_mut(), input);
                inputs.extend(alone);
            }
            if rows < turn_rows_max && bytes < turn_bytes_max {
                next = handles.arrivals.try_recv().ok();
            }
        }
        add(&handles.metrics.rows, rows);
        add(
            &handles.metrics.rejected,
            inputs.iter().map(|input| input.rejected.len()).sum(),
        );
        self.work(inputs, acks)
    }

    /// Works inputs. Whatever fails: they are in flight, or there is no going on.
    fn work(&mut self, inputs: Vec<Input>, acks: Vec<Ack>) -> Result<(), PipelineError> {
        if inputs.is_empty() {
            let seq = self.core.last();
            let log = Vec::new();
            self.lasting.flight.push(Turn { seq, log, acks });
        } else {
            let time = self.now();
            let turn = self.core.turn(time, inputs)?;
            self.lasting.flight.push(Turn {
                seq: turn.last,
                log: turn.log.clone(),
                acks,
            });
            self.write(turn)?;
            self.worked_at = Some(Instant::now());
        }
        self.lasting.release(self.lasting.durable);
        Ok(())
    }

    /// When turns follow each other closely, lets rows come together before the next one. Input
    /// that comes alone is worked at once, and so is all of it where every turn is to be synced.
    fn gather(&self) {
        let Durability::Interval(interval) = self.lasting.limits.durability else {
            return;
        };
        let pause = GATHER.min(interval / 4);
        if let Some(at) = self.worked_at {
            std::thread::sleep(pause.saturating_sub(at.elapsed()));
        }
    }

    /// The time of the next turn, which also logs what is new of the clock.
    fn now(&mut self) -> Timestamp {
        if let Some(news) = self.lasting.clock.news() {
            if let Some(ahead_ms) = self.lasting.clock.held_off_ms() {
                tracing::warn!(
                    "the clock is {} hours ahead and nothing says that it is right; \
                     the log's time does not follow it",
                    ahead_ms / 3_600_000
                );
            }
            let metrics = &self.lasting.handles.metrics;
            add(&metrics.clock_records, 1);
            if let Some(report) = news.report() {
                metrics.reporter.tell(report);
            }
            self.core.note_clock(news.state);
        }
        let now = self.log_now();
        let log_ms = u64::try_from(now.0).unwrap_or(0);
        let metrics = &self.lasting.handles.metrics;
        metrics.log_ms.store(log_ms, Ordering::Relaxed);
        now
    }

    fn log_now(&mut self) -> Timestamp {
        self.lasting.clock.now().max(self.core.last_time())
    }

    fn write(&mut self, mut turn: TurnDone) -> Result<(), PipelineError> {
        let outputs = std::mem::take(&mut turn.outputs);
        let given_up = std::mem::take(&mut turn.given_up);
        let last = turn.last;
        let log_bytes: usize = turn.log.iter().map(WriteBatch::bytes).sum();
        let outbox_bytes = turn.outbox.bytes();
        // Before it is tried: what fails may be there all the same.
        self.lasting.given = self.lasting.given.max(last);
        self.core.write(turn)?;
        self.written = last;
        self.log_bytes += log_bytes;
        self.room.wrote(log_bytes + outbox_bytes);
        let metrics = &self.lasting.handles.metrics;
        add(&metrics.turns, 1);
        add(&metrics.log_bytes, log_bytes);
        add(&metrics.outbox_bytes, outbox_bytes);
        add(&metrics.outputs, outputs.iter().map(Vec::len).sum());
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.given_up(outputs, given_up);
        if self.lasting.limits.durability == Durability::None {
            self.lasting.words.written_is_durable();
            self.lasting.release(self.written);
        }
        Ok(())
    }

    /// Everything whose time has come.
    fn due(&mut self) -> Result<(), PipelineError> {
        let now = Instant::now();
        let draining = self.lasting.draining;
        let ticks = draining.is_none() && self.core.deadline().is_some();
        if ticks && self.core.deadline() <= Some(self.lasting.clock.now()) {
            let time = self.now();
            let turn = self.core.turn(time, Vec::new())?;
            add(&self.lasting.handles.metrics.ticks, 1);
            self.write(turn)?;
        }
        if self.checkpoint_is_due(now) {
            self.checkpoint();
        }
        self.errands()?;
        self.save_on()?;
        if self.confirm_at().is_some_and(|at| at <= now) {
            self.write_confirmed()?;
        }
        self.expire()?;
        if self.trimming {
            self.trimming = self.core.trim()?;
            self.compacting = !self.trimming && draining.is_none();
        } else if self.compacting {
            self.compact()?;
        }
        if draining.is_some_and(|at| at <= now) {
            self.lasting
                .handles
                .drained
                .send_if_modified(|drained| !std::mem::replace(drained, true));
        }
        if self.syncing.is_none() && self.sync_at().is_some_and(|at| at <= now) {
            self.unsynced_since = None;
            self.unsynced_checkpoint = false;
            self.lasting.words.sync_begins();
            self.errands.sync_begins();
            self.syncing = self.syncer.request(self.written).then_some(now);
            add(&self.lasting.handles.metrics.syncs, 1);
        }
        if self.room.next_look().is_some_and(|at| at <= now) {
            self.look_for_room()?;
        }
        self.tell(now);
        let metrics = &self.lasting.handles.metrics;
        self.lasting.faults.tell(self.core.take_faults(), metrics);
        metrics.count_engine(self.core.take_counts());
        for feed in &self.lasting.handles.feeds {
            feed.count(self.core.outbox(), &[]);
        }
        self.report_losses(now);
        Ok(())
    }

    /// Gives some disk space back, where that is worth it.
    fn compact(&mut self) -> Result<(), PipelineError> {
        match self.core.store().compact(COMPACT_BYTES) {
            Ok(Compaction::Going { .. }) => return Ok(()),
            Ok(Compaction::Idle) => {}
            Ok(Compaction::Done { before, after }) => {
                tracing::info!("the store took {before} bytes on disk, and takes {after} now");
                add(&self.lasting.handles.metrics.compactions, 1);
            }
            // It takes space to give space back; what there is works on.
            Err(error @ StoreError::Full { .. }) => {
                tracing::warn!("no space is given back: {error}")
            }
            Err(error) => return Err(error.into()),
        }
        self.compacting = false;
        Ok(())
    }

    fn checkpoint_is_due(&self, now: Instant) -> bool {
        let bytes_max = self.lasting.limits.checkpoint_log_bytes_max;
        self.core.has_unsaved()
            && self.saving.is_idle()
            && (self.checkpoint_at.is_some_and(|at| at <= now)
                || bytes_max.is_some_and(|max| self.log_bytes >= max))
    }

    /// Where room is missed, a checkpoint is made at once, so that the log behind it can go.
    fn look_for_room(&mut self) -> Result<(), PipelineError> {
        let used = self.core.store().bytes_on_disk()?;
        let metrics = &self.lasting.handles.metrics;
        metrics.store_bytes.store(used, Ordering::Relaxed);
        let was_held = self.room.held().is_some();
        let content = match self.room.content() {
            Some(known) => Some(known),
            None if self.room.is_beyond(used) => Some(content_of(&self.core)?),
            None => None,
        };
        let outboxes = outboxes_of(&self.core)?;
        self.room
            .look(used, content, outboxes, (self.disk.bytes_free)());
        if self.room.held().is_some() && !was_held {
            self.trimming = true;
            if self.core.has_unsaved() {
                self.checkpoint();
            }
        }
        Ok(())
    }

    /// Says what is wrong, or that nothing is any more.
    fn tell(&mut self, now: Instant) {
        let slow = self.slow_at().filter(|at| *at <= now).map(|_| {
            let seconds = SLOW_AFTER.as_secs();
            let why = format!("the disk has not answered for {seconds} s");
            (Trouble::DiskSlow, why)
        });
        let held = slow.as_ref().or(self.room.held());
        let trouble = held.map(|(trouble, _)| *trouble);
        if trouble == self.told {
            return;
        }
        self.told = trouble;
        let health = &self.lasting.handles.metrics.health;
        match held {
            Some((trouble, why)) => health.degrade(*trouble, why),
            None => health.recover(),
        }
    }

    /// When what has been written is to be synced; none when there is nothing, or nobody wants it.
    fn sync_at(&self) -> Option<Instant> {
        let since = self.unsynced_since?;
        match self.lasting.limits.durability {
            _ if self.errands.want_sync() => Some(since),
            Durability::Always => Some(since),
            Durability::Interval(_) if self.lasting.is_stopping() => Some(since),
            Durability::Interval(interval) => Some(since + interval),
            Durability::None => self.unsynced_checkpoint.then_some(since),
        }
    }

    /// What sinks have confirmed is written together with what they confirm within a moment. Lost
    /// in a crash, it costs a repetition.
    fn confirmed(&mut self, first: Confirmed) {
        let mut next = Some(first);
        while let Some(one) = next.take() {
            self.lasting.said(one);
            next = self.lasting.handles.confirmed.try_recv().ok();
        }
        self.confirmed_since.get_or_insert_with(Instant::now);
    }

    /// When what sinks have confirmed is to be written.
    fn confirm_at(&self) -> Option<Instant> {
        Some(self.confirmed_since? + CONFIRMED_WITHIN)
    }

    /// The sources are gone: what they brought is made durable, and the sinks are closed.
    fn drain(&mut self) -> Result<(), PipelineError> {
        let sinks_until = Instant::now() + self.lasting.limits.sinks_within;
        self.lasting.draining.get_or_insert(sinks_until);
        self.settle()?;
        self.pump()?;
        self.lasting.handles.feeds.iter_mut().for_each(Feed::close);
        Ok(())
    }

    /// Waits for the disk, for once: nothing else is left to do.
    fn settle(&mut self) -> Result<(), PipelineError> {
        if self.syncing.take().is_some() {
            if let Ok((seq, result)) = self.syncer.done.recv() {
                result?;
                self.lasting.release(seq);
            }
        }
        self.lasting.words.sync_begins();
        self.errands.sync_begins();
        self.core.store().sync()?;
        self.lasting.words.synced();
        self.errands.synced();
        self.unsynced_since = None;
        self.lasting.release(self.core.last());
        Ok(())
    }

    fn finish(&mut self) -> Result<Outcome, PipelineError> {
        self.write_confirmed()?;
        self.core.remember_unlogged();
        self.save_all()?;
        self.settle()?;
        let waiting = (0..self.lasting.handles.feeds.len())
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
