//! What waits for the pipeline: arrivals in order, the last one still open.

use std::collections::VecDeque;

use crossbeam::channel::{Sender, TrySendError};

use crate::event::{Batch, DeliveryMark, Rejected, Value};
use crate::held::{Held, Holdings};
use crate::source::Arrival;

/// How much may wait, and how much goes together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes that may wait, here and in the channel to the pipeline.
    pub(super) queue_bytes_max: usize,
    /// Rows (or other messages) in one arrival, save for the last message's own.
    pub(super) batch_rows_max: usize,
}

/// What became of an offer.
pub(super) enum Offer {
    /// The queue is empty.
    Done,
    /// The pipeline takes nothing more now.
    Full,
    /// There is no pipeline any more.
    Gone,
}

/// The bytes that a message costs besides its payload and rows.
const MESSAGE_BYTES: usize = 64;

pub(super) struct Queue {
    source: usize,
    width: usize,
    limits: Limits,
    closed: VecDeque<Arrival>,
    open: Arrival,
    open_bytes: usize,
    open_messages: usize,
    /// What is closed, and what the pipeline has not taken apart of what was offered.
    holdings: Holdings,
    offered_through: u64,
}

impl Queue {
    pub(super) fn new(source: usize, width: usize, limits: Limits) -> Queue {
        Queue {
            source,
            width,
            limits,
            closed: VecDeque::new(),
            open: empty(source, width),
            open_bytes: 0,
            open_messages: 0,
            holdings: Holdings::default(),
            offered_through: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.open_messages == 0
    }

    /// Whether a message of so many bytes would go beyond the limit. Where nothing waits, any may.
    pub(super) fn is_over_limit(&self, payload_bytes: usize) -> bool {
        let bytes = self.open_bytes + self.holdings.bytes();
        bytes > 0 && bytes + payload_bytes > self.limits.queue_bytes_max
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.limits.queue_bytes_max
    }

    /// The ordinal of the last message that the pipeline has.
    pub(super) fn offered_through(&self) -> u64 {
        self.offered_through
    }

    /// Begins a message; rows and rejects that follow belong to it.
    pub(super) fn begin(&mut self, ordinal: u64, mark: Option<DeliveryMark>, payload_bytes: usize) {
        self.open.through = ordinal;
        self.open.marks.extend(mark);
        self.open_messages += 1;
        // What it came as is an estimate of what its long strings or its reject will take.
        self.open_bytes += payload_bytes + MESSAGE_BYTES;
    }

    /// Where its rows go.
    pub(super) fn rows(&mut self) -> &mut Batch {
        &mut self.open.rows
    }

    /// Where it goes when it has none.
    pub(super) fn reject(&mut self, rejected: Rejected) {
        self.open.rejected.push(rejected);
    }

    /// Ends a message.
    pub(super) fn end(&mut self) {
        let rows_bytes = self.open.rows.len() * self.width * size_of::<Value>();
        let full = self.open_messages.max(self.open.rows.len()) >= self.limits.batch_rows_max;
        if full || self.open_bytes + rows_bytes >= self.limits.queue_bytes_max / 4 {
            self.close();
        }
    }

    /// Whether there is a batch that gains nothing by waiting.
    pub(super) fn batch_is_full(&self) -> bool {
        !self.closed.is_empty()
    }

    fn close(&mut self) {
        let rows_bytes = self.open.rows.len() * self.width * size_of::<Value>();
        let mut arrival = std::mem::replace(&mut self.open, empty(self.source, self.width));
        arrival.held = self.holdings.hold(self.open_bytes + rows_bytes);
        self.closed.push_back(arrival);
        self.open_bytes = 0;
        self.open_messages = 0;
    }

    /// Hands over as much as the pipeline takes.
    pub(super) fn offer(&mut self, to: &Sender<Arrival>) -> Offer {
        loop {
            if self.closed.is_empty() && self.open_messages > 0 && !to.is_full() {
                self.close();
            }
            let Some(arrival) = self.closed.pop_front() else {
                return if self.open_messages == 0 {
                    Offer::Done
                } else {
                    Offer::Full
                };
            };
            let through = arrival.through;
            match to.try_send(arrival) {
                Ok(()) => self.offered_through = through,
                Err(TrySendError::Full(arrival)) => {
                    self.closed.push_front(arrival);
                    return Offer::Full;
                }
                Err(TrySendError::Disconnected(_)) => {
                    self.closed.clear();
                    self.open = empty(self.source, self.width);
                    self.open_messages = 0;
                    self.open_bytes = 0;
                    return Offer::Gone;
                }
            }
        }
    }
}

fn empty(source: usize, width: usize) -> Arrival {
    Arrival {
        source,
        rows: Batch::new(width),
        rejected: Vec::new(),
        marks: Vec::new(),
        through: 0,
        held: Held::default(),
    }
}
