//! What has been written and is not known to be durable, and what of it is to be worked again when
//! the store had to be opened anew.
//!
//! A broker delivers again only on a new connection. So input that was taken stays here, as the
//! records that were made of it, until it may be acknowledged. The log that is found after opening
//! is a prefix of what was written, and a record is in it wholly or not at all: whatever it lacks
//! becomes input once more, under new numbers, and nothing else does.

use std::collections::VecDeque;

use super::turn::{Core, Input, PipelineError};
use crate::event::{Batch, DeliveryMark, Seq};
use crate::store::WriteBatch;
use crate::wal::{self, Body, Origin, Record};

/// An acknowledgement: a source, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) source: usize,
    pub(super) through: u64,
}

/// One turn with input.
#[derive(Debug)]
pub(super) struct Turn {
    /// Durable with this number.
    pub(super) seq: Seq,
    /// Its records.
    pub(super) log: Vec<WriteBatch>,
    pub(super) acks: Vec<Ack>,
}

/// Input to be worked.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) inputs: Vec<Input>,
    pub(super) acks: Vec<Ack>,
}

/// Turns in the order in which they were written.
#[derive(Debug, Default)]
pub(super) struct Flight {
    turns: VecDeque<Turn>,
    bytes: usize,
    acks: usize,
}

impl Flight {
    pub(super) fn push(&mut self, turn: Turn) {
        self.bytes += bytes_of(&turn);
        self.acks += turn.acks.len();
        self.turns.push_back(turn);
    }

    /// The bytes of the records that are kept.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many acknowledgements wait.
    pub(super) fn acks(&self) -> usize {
        self.acks
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The acknowledgements of the oldest turn, when that is durable.
    pub(super) fn land(&mut self, durable: Seq) -> Option<Vec<Ack>> {
        if self.turns.front()?.seq > durable {
            return None;
        }
        let turn = self.turns.pop_front()?;
        self.bytes -= bytes_of(&turn);
        self.acks -= turn.acks.len();
        Some(turn.acks)
    }

    /// What `core`, which was opened anew, lacks of it, with the acknowledgements of all. The log
    /// up to `checkpoint` may have been let go of: it is in the state.
    pub(super) fn lacking(
        &self,
        core: &Core,
        checkpoint: Seq,
    ) -> Result<VecDeque<Again>, PipelineError> {
        let mut all = VecDeque::new();
        for turn in &self.turns {
            let mut inputs = Vec::new();
            let pairs = turn.log.iter().flat_map(WriteBatch::changes);
            for (key, value) in pairs.filter_map(|(key, value)| Some((key, value?))) {
                let Some(record) = wal::record_of(key, value) else {
                    continue;
                };
                if record.last() > checkpoint && !core.wal.has(key, value)? {
                    inputs.extend(input_of(core, record));
                }
            }
            let acks = turn.acks.clone();
            all.push_back(Again { inputs, acks });
        }
        Ok(all)
    }

    pub(super) fn clear(&mut self) {
        *self = Flight::default();
    }
}

fn bytes_of(turn: &Turn) -> usize {
    turn.log.iter().map(WriteBatch::bytes).sum()
}

/// What the record was made of; ticks and the like come again by themselves.
fn input_of(core: &Core, record: Record) -> Option<Input> {
    let (stream, rows, rejected, origin) = match record.body {
        Body::Events {
            stream,
            rows,
            origin,
            ..
        } => (stream, Some(rows), Vec::new(), origin),
        Body::Rejected {
            stream,
            rejected,
            origin,
        } => (stream, None, vec![rejected], origin),
        Body::Tick | Body::Config { .. } | Body::Clock(_) | Body::Restored { .. } => return None,
    };
    let marks = origin.map_or_else(Vec::new, |Origin { marks, .. }| marks);
    let (id, definition) = core.engine.plan().stream_named(&stream)?;
    Some(Input {
        stream: id,
        rows: rows.unwrap_or_else(|| Batch::new(definition.schema.width())),
        rejected,
        marks,
    })
}

/// Messages that left nothing to log, but must be recognised should they come again.
pub(super) fn marks_only(core: &Core, stream: &str, marks: Vec<DeliveryMark>) -> Option<Input> {
    let (id, definition) = core.engine.plan().stream_named(stream)?;
    Some(Input {
        stream: id,
        rows: Batch::new(definition.schema.width()),
        rejected: Vec::new(),
        marks,
    })
}
