//! The daemon as far as it can be simulated: every call to the core is in this file.
//!
//! It does what `pipeline/run.rs` does around the core, with the threads taken out: what is
//! written, what is durable, acknowledgements that wait, feeds, trimming.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use eventflux::checkpoint::{Job, Report};
use eventflux::event::{Batch, ClockState, DeliveryMark, OutputKey, Rejected, Seq, Timestamp};
use eventflux::outbox::{Counts, Depth, Entry, Limits, Waiting};
use eventflux::pipeline::{Ahead, Core, Feed, Input, Open, PipelineError, Recovered, StatePolicy};
use eventflux::sink::Delivery;
use eventflux::sql::plan::StreamId;
use eventflux::store::sim::SimStore;
use eventflux::store::{Store, WriteBatch, table};
use eventflux::wal::{ReadEnd, Record, Wal};
use tokio::sync::mpsc;

use crate::applications::Variant;

/// The store's own number, from which `uuid` and `rand` are derived.
pub(crate) const IDENTITY: u64 = 7;

/// What is configured besides the application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Of every sink.
    pub(crate) limits: Limits,
    pub(crate) checkpoints_kept: usize,
    /// Deliveries that a sink takes at a time.
    pub(crate) room: usize,
    /// Whether input is acknowledged when it is written, without waiting for the disk.
    pub(crate) is_careless: bool,
}

/// Input of one source for one turn.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) stream: StreamId,
    pub(crate) rows: Batch,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) marks: Vec<DeliveryMark>,
}

/// How far a source may acknowledge.
pub(crate) struct Released {
    pub(crate) source: usize,
    pub(crate) through: u64,
}

struct Ack {
    seq: Seq,
    source: usize,
    through: u64,
}

/// A daemon at work.
pub(crate) struct Daemon {
    core: Core,
    feeds: Vec<Feed>,
    rooms: Vec<mpsc::Receiver<Delivery>>,
    setting: Setting,
    written: Seq,
    durable: Seq,
    /// What a sync that is under way covers, and whether the disk has done it.
    syncing: Option<(Seq, bool)>,
    acks: VecDeque<Ack>,
    /// Whether a checkpoint was begun and not ended.
    saving: bool,
    /// What the writing thread is to do, which here is done by and by.
    jobs: VecDeque<Job>,
}

impl Daemon {
    pub(crate) fn open(
        store: &SimStore,
        variant: &Variant,
        setting: Setting,
    ) -> Result<(Daemon, Recovered), PipelineError> {
        let sinks = variant.sinks.iter();
        let sinks: Vec<_> = sinks.map(|name| (name.clone(), setting.limits)).collect();
        let (core, found) = Core::open(&Open {
            store: Arc::new(store.clone()),
            identity: IDENTITY,
            application: Arc::clone(&variant.application),
            texts: &variant.texts,
            sinks: &sinks,
            checkpoints_kept: setting.checkpoints_kept,
            state_policy: StatePolicy::KeepCompatible,
        })?;
        let mut feeds = Vec::new();
        let mut rooms = Vec::new();
        for sink in 0..sinks.len() {
            let (to, room) = mpsc::channel(setting.room);
            feeds.push(Feed::new(sink, to, core.outbox(), IDENTITY));
            rooms.push(room);
        }
        let daemon = Daemon {
            written: core.last(),
            durable: core.last(),
            core,
            feeds,
            rooms,
            setting,
            syncing: None,
            acks: VecDeque::new(),
            saving: false,
            jobs: VecDeque::new(),
        };
        Ok((daemon, found))
    }

    pub(crate) fn last(&self) -> Seq {
        self.core.last()
    }

    pub(crate) fn last_time(&self) -> Timestamp {
        self.core.last_time()
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.core.deadline()
    }

    pub(crate) fn marks(&self, source: &str) -> &[DeliveryMark] {
        self.core.marks(source)
    }

    pub(crate) fn has_unsaved(&self) -> bool {
        self.core.has_unsaved()
    }

    /// What is known to survive.
    pub(crate) fn durable(&self) -> Seq {
        self.durable
    }

    /// Whether a sink has so much that no input is taken.
    pub(crate) fn is_blocked(&self) -> bool {
        (0..self.feeds.len()).any(|sink| self.core.outbox().is_full(sink))
    }

    /// A turn; without input it is a tick. `acks` are told when it is durable.
    pub(crate) fn turn(
        &mut self,
        time: Timestamp,
        inputs: Vec<Given>,
        acks: &[(usize, u64)],
    ) -> Result<(Vec<Vec<Entry>>, Vec<Released>), PipelineError> {
        let inputs = inputs.into_iter().map(|given| Input {
            stream: given.stream,
            rows: given.rows,
            rejected: given.rejected,
            marks: given.marks,
        });
        let mut turn = self.core.turn(time, inputs.collect())?;
        let outputs = std::mem::take(&mut turn.outputs);
        let last = turn.last;
        self.core.write(turn)?;
        self.written = last;
        for (feed, outputs) in self.feeds.iter_mut().zip(&outputs) {
            feed.add(outputs.clone());
        }
        for (source, through) in acks.iter().copied() {
            self.acks.push_back(Ack {
                seq: last,
                source,
                through,
            });
        }
        let through = if self.setting.is_careless {
            self.written
        } else {
            self.durable
        };
        let entries = |waiting: Vec<Waiting>| waiting.into_iter().map(|one| one.entry).collect();
        let outputs = outputs.into_iter().map(entries).collect();
        Ok((outputs, self.release(through)))
    }

    /// The next turn logs first what is known of the wall clock.
    pub(crate) fn note_clock(&mut self, state: ClockState) {
        self.core.note_clock(state);
    }

    /// A sync is asked for; `at_once` the disk has done it, and only the report takes its time.
    pub(crate) fn begin_sync(&mut self, at_once: bool) -> Result<(), PipelineError> {
        if self.syncing.is_none() {
            self.syncing = Some((self.written, at_once));
            if at_once {
                self.core.store().sync()?;
            }
        }
        Ok(())
    }

    /// The sync that was asked for is done.
    pub(crate) fn end_sync(&mut self) -> Result<Vec<Released>, PipelineError> {
        let Some((covered, is_done)) = self.syncing else {
            return Ok(Vec::new());
        };
        if !is_done {
            self.core.store().sync()?;
        }
        self.syncing = None;
        Ok(self.release(covered))
    }

    /// Everything becomes durable, as when it stops.
    pub(crate) fn settle(&mut self) -> Result<Vec<Released>, PipelineError> {
        self.core.store().sync()?;
        self.syncing = None;
        Ok(self.release(self.core.last()))
    }

    fn release(&mut self, through: Seq) -> Vec<Released> {
        self.durable = self.durable.max(through);
        let mut released = Vec::new();
        while self.acks.front().is_some_and(|ack| ack.seq <= self.durable) {
            let Some(ack) = self.acks.pop_front() else {
                break;
            };
            released.push(Released {
                source: ack.source,
                through: ack.through,
            });
        }
        released
    }

    /// A checkpoint at once.
    pub(crate) fn checkpoint(&mut self) -> Result<(), PipelineError> {
        while !self.jobs.is_empty() {
            self.run_job()?;
        }
        self.saving = false;
        self.core.checkpoint().map(drop)
    }

    /// A step of one that takes its time: begins it, takes some of the state, or ends it.
    pub(crate) fn save_ahead(&mut self, ends: bool) -> Result<(), PipelineError> {
        if !self.saving {
            self.saving = self.has_unsaved() && self.core.begin_checkpoint();
        } else if ends {
            self.saving = false;
            self.jobs.push_back(self.core.finish_checkpoint()?);
        } else {
            let (Ahead::More(job) | Ahead::Enough(job)) = self.core.save_ahead()?;
            self.jobs.extend(job);
        }
        Ok(())
    }

    /// The writing thread does what it is to do next.
    pub(crate) fn run_job(&mut self) -> Result<(), PipelineError> {
        let Some(job) = self.jobs.pop_front() else {
            return Ok(());
        };
        let Report { more, saved, .. } = job.run(&*self.core.store())?;
        self.jobs.extend(more);
        if let Some(saved) = saved {
            self.jobs.extend(self.core.checkpointed(&saved));
        }
        Ok(())
    }

    pub(crate) fn trim(&mut self) -> Result<bool, PipelineError> {
        self.core.trim()
    }

    /// Gives the sinks what they may have.
    pub(crate) fn pump(&mut self) -> Result<(), PipelineError> {
        for feed in &mut self.feeds {
            feed.pump(self.core.outbox_mut(), self.durable)?;
        }
        Ok(())
    }

    /// What comes next out of the channel to a sink.
    pub(crate) fn delivery(&mut self, sink: usize) -> Option<Delivery> {
        self.rooms[sink].try_recv().ok()
    }

    pub(crate) fn confirm(&mut self, sink: usize, key: OutputKey) -> Result<(), PipelineError> {
        let mut batch = WriteBatch::new();
        self.core.outbox_mut().confirm(sink, key, &mut batch)?;
        if !batch.is_empty() {
            self.core.store().write(batch)?;
        }
        Ok(())
    }

    /// Everything that waits for a sink.
    pub(crate) fn held(&mut self, sink: usize) -> Vec<Entry> {
        let all = OutputKey::default();
        let outbox = self.core.outbox_mut();
        outbox.read(sink, all, usize::MAX, usize::MAX).unwrap()
    }

    pub(crate) fn depth(&self, sink: usize) -> Depth {
        self.core.outbox().depth(sink).unwrap()
    }

    pub(crate) fn cursor(&self, sink: usize) -> OutputKey {
        self.core.outbox().cursor(sink).unwrap()
    }

    pub(crate) fn last_key(&self, sink: usize) -> OutputKey {
        self.core.outbox().last_key(sink).unwrap()
    }

    pub(crate) fn counts(&self, sink: usize) -> Counts {
        self.core.outbox().counts(sink).unwrap()
    }
}

/// What the log of a store holds from `from` on. The store must have been opened before.
pub(crate) fn log(store: &SimStore, from: Seq) -> Vec<Record> {
    let mut records = Vec::new();
    let wal = Wal::open(Arc::new(store.clone()), from).unwrap();
    let end = wal.read(from, &mut |record| {
        records.push(record);
        ControlFlow::Continue(())
    });
    let end = end.unwrap();
    assert!(
        matches!(end, ReadEnd::Whole { .. }),
        "the log is whole from {from} on: {end:?}"
    );
    records
}

/// Where the log begins.
pub(crate) fn log_begin(store: &SimStore) -> Option<Seq> {
    let mut first = None;
    let range = store.range(&[table::LOG], &[table::LOG + 1], &mut |key, _| {
        first = key[1..].try_into().ok().map(u64::from_be_bytes).map(Seq);
        ControlFlow::Break(())
    });
    range.unwrap();
    first
}

/// What the checkpoints of a store cover, oldest first.
pub(crate) fn checkpoints(store: &SimStore) -> Vec<Seq> {
    let listed = eventflux::checkpoint::list(store).unwrap();
    listed.into_iter().map(|one| one.seq).collect()
}
