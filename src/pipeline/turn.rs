//! The synchronous heart: state, the turn, checkpoints.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::letters::GivenUp;
use super::own::{MARKS_MAX, Own};
use super::tap::Taps;
use crate::checkpoint::{CheckpointError, Checkpoints, Job};
use crate::engine::{Engine, EngineCounts, Faults, Outputs, StateError};
use crate::event::{
    Batch, ClockState, DeliveryMark, OutputKey, Rejected, Rows, Seq, StateChanges, Timestamp, Value,
};
use crate::outbox::{Entry, Outbox, OutboxError, Waiting};
use crate::sql::Application;
use crate::sql::plan::StreamId;
use crate::store::{Store, StoreError, WriteBatch};
use crate::wal::{Body, Origin, TRIM_RECORDS_MAX, Wal, WalError};

/// The memory that the rows of one record of the log may take, in bytes.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// Some input of one stream.
#[derive(Debug)]
pub struct Input {
    /// The stream that the rows belong to.
    pub stream: StreamId,
    /// The rows, not yet stamped.
    pub rows: Batch,
    /// What could not be decoded.
    pub rejected: Vec<Rejected>,
    /// How the source recognises what it is sent again.
    pub marks: Vec<DeliveryMark>,
}

/// A stream whose rows go to a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStream {
    /// The stream's name, which is also the outbox's.
    pub name: String,
    /// The stream.
    pub stream: StreamId,
}

/// What a turn has done. It has happened only when [`Core::write`] has succeeded.
#[derive(Debug, Default)]
pub struct TurnDone {
    /// The records of the log, one write for each input.
    pub log: Vec<WriteBatch>,
    /// The outputs, written behind their causes, and the dead letters.
    pub outbox: WriteBatch,
    /// The last input of the turn.
    pub last: Seq,
    /// New outputs by sink, those that were given up at once among them.
    pub outputs: Vec<Vec<Waiting>>,
    /// What sinks have given up.
    pub given_up: Vec<GivenUp>,
    /// Why it cannot be written although the log's records are whole: the outbox failed.
    pub failed: Option<OutboxError>,
}

/// Why a turn, a checkpoint or a recovery failed.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log failed.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// A checkpoint failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The outbox failed.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The application has changed, and not all state can be kept.
    #[error(
        "the application has changed, and the state of {lost} would be lost: change it back, or \
         set application.state_policy to `keep_compatible`"
    )]
    StateWouldBeLost {
        /// What has the state.
        lost: String,
    },
    /// The state could not be written.
    #[error("the state cannot be saved: {0}")]
    State(#[from] StateError),
}

impl PipelineError {
    /// The failure of the store behind it: opening that anew may help. Nothing else would.
    #[must_use]
    pub fn store(&self) -> Option<&StoreError> {
        match self {
            PipelineError::Store(error)
            | PipelineError::Wal(WalError::Store(error))
            | PipelineError::Checkpoint(CheckpointError::Store(error))
            | PipelineError::Outbox(OutboxError::Store(error)) => Some(error),
            PipelineError::Wal(_)
            | PipelineError::Checkpoint(_)
            | PipelineError::Outbox(_)
            | PipelineError::StateWouldBeLost { .. }
            | PipelineError::State(_) => None,
        }
    }
}

/// Log, engine, checkpoints and outbox, in step.
pub struct Core {
    pub(super) store: Arc<dyn Store>,
    pub(super) wal: Wal,
    pub(super) engine: Engine,
    pub(super) checkpoints: Checkpoints,
    pub(super) outbox: Outbox,
    pub(super) sinks: Arc<[SinkStream]>,
    /// What is remembered besides the engine's state.
    pub(super) own: Own,
    /// Marks of messages that left nothing to log; they go into their source's next record.
    pub(super) unlogged: BTreeMap<String, Vec<DeliveryMark>>,
    /// What the newest checkpoint covers.
    pub(super) saved: Seq,
    /// Whether the checkpoint that was begun has to hold everything, whatever has changed.
    pub(super) needs_everything: bool,
    /// Whether the engine began with nothing and nothing of it has been given to a checkpoint.
    pub(super) is_new: bool,
    /// Changes of an engine that is no more, for the next checkpoint.
    pub(super) unsaved: Vec<StateChanges>,
    /// How many pieces are taken ahead at a time.
    pub(super) ahead_pieces: usize,
    /// What is to be written of the checkpoint that was begun.
    pub(super) jobs: VecDeque<Job>,
    /// The state of the clock that the next turn logs before anything else.
    pub(super) clock: Option<ClockState>,
    /// Who looks at rows.
    pub(super) taps: Taps,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Core")
            .field("next", &self.wal.next())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// When the engine needs a tick, if nothing comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.engine.deadline()
    }

    /// The last input that the log has.
    #[must_use]
    pub fn last(&self) -> Seq {
        Seq(self.wal.next().0.saturating_sub(1))
    }

    /// The log's clock as of its last record.
    #[must_use]
    pub fn last_time(&self) -> Timestamp {
        self.wal.last_time()
    }

    /// The application that runs.
    pub(super) fn plan(&self) -> &Arc<Application> {
        self.engine.plan()
    }

    /// Shows these their rows from now on, and nobody else.
    pub(super) fn tap(&mut self, taps: &Taps) {
        self.taps = taps.clone();
        self.engine.tap(|stream| taps.has(stream));
    }

    /// Collects outputs.
    pub(super) fn gather(&self) -> Gather {
        Gather {
            taps: self.taps.clone(),
            ..Gather::new(&self.sinks, self.engine.plan())
        }
    }

    /// The outboxes.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The outboxes, to confirm.
    pub fn outbox_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The streams that go to sinks, in the order of the outboxes.
    #[must_use]
    pub fn sinks(&self) -> &[SinkStream] {
        &self.sinks
    }

    /// The marks of the last messages of a source, oldest first.
    #[must_use]
    pub fn marks(&self, stream: &str) -> &[DeliveryMark] {
        self.own.marks(stream)
    }

    /// The marks of the last messages of a source that begins, those that left nothing to log among
    /// them.
    pub(super) fn tail(&self, source: StreamId) -> Vec<DeliveryMark> {
        let Some(stream) = self.engine.plan().stream(source) else {
            return Vec::new();
        };
        let unlogged = self
            .unlogged
            .get(&stream.name)
            .map_or(&[][..], Vec::as_slice);
        [self.own.marks(&stream.name), unlogged].concat()
    }

    /// Expressions that could not be computed since the last call.
    pub fn take_faults(&mut self) -> Vec<Faults> {
        self.engine.take_faults()
    }

    /// What has happened for the sake of time since the last call.
    pub fn take_counts(&mut self) -> EngineCounts {
        self.engine.take_counts()
    }

    /// Works inputs at `time`, which is not before [`Core::last_time`]. With no input it is a
    /// tick: the clock moves, and what is due fires.
    ///
    /// Nothing has happened on disk until the result is written, before the next turn.
    ///
    /// # Errors
    /// When the log refuses, which is a bug. Failures of the store wait in the result, with the
    /// records that it must not lose.
    pub fn turn(&mut self, time: Timestamp, inputs: Vec<Input>) -> Result<TurnDone, PipelineError> {
        let mut done = TurnDone::default();
        let mut gather = self.gather();
        let clock = self.clock.take();
        if inputs.is_empty() || clock.is_some() {
            let trusted = clock.as_ref().map(|state| state.trusted);
            let body = clock.map_or(Body::Tick, Body::Clock);
            let mut batch = WriteBatch::new();
            let seq = self.wal.append(time, &body, &mut batch)?;
            done.log.push(batch);
            self.engine.advance(time, seq, &mut gather);
            if let Some(trusted) = trusted {
                self.engine.trust_clock(trusted);
            }
        }
        for input in inputs {
            self.input(time, input, &mut done, &mut gather)?;
        }
        self.put_out(time, gather.by_sink, &mut done)?;
        Ok(done)
    }

    fn input(
        &mut self,
        time: Timestamp,
        input: Input,
        done: &mut TurnDone,
        gather: &mut Gather,
    ) -> Result<(), PipelineError> {
        let Input {
            stream,
            rows,
            rejected,
            marks,
        } = input;
        let plan = Arc::clone(self.engine.plan());
        let Some(definition) = plan.stream(stream) else {
            return Ok(());
        };
        let name = &definition.name;
        if rows.is_empty() && rejected.is_empty() {
            let unlogged = self.unlogged.entry(name.clone()).or_default();
            unlogged.extend(marks);
            unlogged.drain(..unlogged.len().saturating_sub(MARKS_MAX));
            return Ok(());
        }
        let mut all = self.unlogged.remove(name).unwrap_or_default();
        all.extend(marks);
        self.own.remember(name, &all);
        let source = name.clone();
        let mut origin = (!all.is_empty()).then_some(Origin { source, marks: all });
        let (pieces, too_large) = pieces(rows);
        let mut left = pieces.len() + rejected.len() + too_large.len();
        // The marks speak for the whole input: its records are one write, or, where that would be
        // too large, the marks come last: what a crash cuts off is delivered again.
        let mut batch = WriteBatch::new();
        let mut last = |batch: &mut WriteBatch| {
            if batch.bytes() > RECORD_BYTES_MAX {
                done.log.push(std::mem::take(batch));
            }
            left -= 1;
            (left == 0).then(|| origin.take()).flatten()
        };
        for mut rows in pieces {
            rows.stamp_all(self.wal.next(), time);
            let body = Body::Events {
                stream: name.clone(),
                schema: definition.schema.fingerprint(),
                rows,
                origin: last(&mut batch),
            };
            self.wal.append(time, &body, &mut batch)?;
            if let Body::Events { rows, .. } = &body {
                self.engine.push(stream, rows.rows(), gather);
            }
        }
        for rejected in rejected.into_iter().chain(too_large) {
            let body = Body::Rejected {
                stream: name.clone(),
                rejected,
                origin: last(&mut batch),
            };
            let seq = self.wal.append(time, &body, &mut batch)?;
            if let Body::Rejected { rejected, .. } = &body {
                self.engine.reject(stream, rejected, time, seq, gather);
            }
        }
        done.log.push(batch);
        Ok(())
    }

    /// Makes a turn's changes: first the log, then the outbox, so that no output is ever without
    /// its cause. What a crash cuts off between the two, recovery makes again. Durable after the
    /// next [`Store::sync`].
    ///
    /// # Errors
    /// When the store fails; it is then closed, and everything must be opened anew.
    pub fn write(&self, turn: TurnDone) -> Result<(), PipelineError> {
        if let Some(error) = turn.failed {
            return Err(error.into());
        }
        for batch in turn.log {
            self.store.write(batch)?;
        }
        Ok(self.put(turn.outbox)?)
    }

    /// The next turn first logs that this is the state of the clock.
    pub fn note_clock(&mut self, state: ClockState) {
        self.clock = Some(state);
    }

    /// No number up to `seq` is given again.
    ///
    /// # Errors
    /// When the store fails.
    pub fn skip_past(&mut self, seq: Seq) -> Result<(), PipelineError> {
        let mut batch = WriteBatch::new();
        self.wal.skip_to(seq.plus(1), &mut batch)?;
        Ok(self.put(batch)?)
    }

    /// Makes other changes, such as confirmations.
    pub(super) fn put(&self, batch: WriteBatch) -> Result<(), StoreError> {
        if batch.is_empty() {
            Ok(())
        } else {
            self.store.write(batch)
        }
    }

    /// The store, for syncing.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Whether anything has been logged since the last checkpoint.
    #[must_use]
    pub fn has_unsaved(&self) -> bool {
        self.last() > self.saved
    }

    /// Lets go of some of the log that no retained checkpoint needs, so little that a turn need not
    /// wait for it. Says whether there is more.
    ///
    /// # Errors
    /// When the store fails.
    pub fn trim(&mut self) -> Result<bool, PipelineError> {
        let Some(oldest) = self.checkpoints.oldest_retained() else {
            return Ok(false);
        };
        let mut batch = WriteBatch::new();
        let removed = self.wal.trim(oldest.plus(1), &mut batch)?;
        self.put(batch)?;
        Ok(removed >= TRIM_RECORDS_MAX)
    }
}

/// Cuts rows into records that the log can take; a row that alone is too large is rejected.
pub(super) fn pieces(rows: Batch) -> (Vec<Batch>, Vec<Rejected>) {
    if rows.is_empty() {
        return (Vec::new(), Vec::new());
    }
    if rows.memory_bytes() <= RECORD_BYTES_MAX {
        return (vec![rows], Vec::new());
    }
    let mut pieces = vec![Batch::new(rows.width())];
    let mut too_large = Vec::new();
    let mut bytes = 0;
    for row in rows.rows().iter() {
        let size = row.values.iter().map(Value::memory_bytes).sum::<usize>();
        if size > RECORD_BYTES_MAX {
            too_large.push(Rejected {
                reason: "too_large".to_owned(),
                detail: format!("a row of {size} bytes, {RECORD_BYTES_MAX} are allowed"),
                bytes: Vec::new(),
                bytes_total: u64::try_from(size).unwrap_or(u64::MAX),
            });
            continue;
        }
        bytes += size;
        if bytes > RECORD_BYTES_MAX {
            pieces.push(Batch::new(rows.width()));
            bytes = size;
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(row.stamp, row.values.iter().cloned());
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    (pieces, too_large)
}

/// Collects outputs by sink.
pub(super) struct Gather {
    sinks: Arc<[SinkStream]>,
    plan: Arc<Application>,
    pub(super) by_sink: Vec<Vec<Entry>>,
    taps: Taps,
}

impl Gather {
    pub(super) fn new(sinks: &Arc<[SinkStream]>, plan: &Arc<Application>) -> Gather {
        Gather {
            sinks: Arc::clone(sinks),
            plan: Arc::clone(plan),
            by_sink: vec![Vec::new(); sinks.len()],
            taps: Taps::default(),
        }
    }
}

impl Outputs for Gather {
    fn pass(&mut self, stream: StreamId, rows: Rows<'_>) {
        self.taps.show(stream, &self.plan, rows);
    }

    fn take(&mut self, stream: StreamId, query: u32, rows: &Batch, ordinals: &[u32]) {
        let Some(definition) = self.plan.stream(stream) else {
            return;
        };
        for (sink, entries) in self.sinks.iter().zip(&mut self.by_sink) {
            if sink.stream != stream {
                continue;
            }
            entries.extend(
                rows.rows()
                    .iter()
                    .zip(ordinals)
                    .map(|(row, ordinal)| Entry {
                        key: OutputKey {
                            seq: row.stamp.seq,
                            query,
                            ordinal: *ordinal,
                        },
                        time: row.stamp.time,
                        schema: Arc::clone(&definition.schema),
                        row: row.values.to_vec(),
                    }),
            );
        }
    }
}
