//! What is between its receipt from the outbox and its confirmation, and how far the broker has
//! it. Pure: no clock, no I/O.
//!
//! What it promises: keys are settled in order; a packet id is not used again while the broker may
//! still connect it with an earlier message; what QoS 2 leaves open when a connection ends can be
//! taken up by the next one of the same session.

use std::collections::VecDeque;

use crate::event::OutputKey;
use crate::sink::refusal::Asked;
use crate::sink::{Delivery, Refused};

/// What may wait to be written: the client takes no more at a time, see [`crate::mqtt::Handle`].
const QUEUED_MAX: usize = 200;

/// An output between its receipt and its confirmation.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) delivery: Delivery,
    pub(super) state: State,
    /// How often it was sent, and refused.
    pub(super) asked: Asked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be published.
    Waiting,
    /// Handed to the client.
    Sent,
    /// The broker has it.
    Done,
    /// The broker will never take it.
    Refused(Refused),
    /// Given up before it was sent.
    PassedOver,
}

/// A publish that was written and is not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) packet: u16,
    pub(super) number: u64,
    /// How many packet ids were given before.
    turn: u64,
    /// Of QoS 2: the broker has recorded it, and must not get it again.
    pub(super) is_recorded: bool,
}

/// Outputs in order, numbered from `first`.
#[derive(Debug)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    first: u64,
    /// The client goes round through as many packet ids.
    len_max: usize,
    /// Handed to the client and not written yet, in that order; `None` is no output.
    queued: VecDeque<Option<u64>>,
    /// Written and not completed, in the order in which packet ids were given.
    flying: VecDeque<Flight>,
    turns: u64,
    last_packet: u16,
}

/// What is settled, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// This and all before it has arrived.
    Through(OutputKey),
    /// All before it has arrived; it itself never will.
    Refused(OutputKey, Refused),
}

impl Window {
    pub(super) fn new(len_max: usize) -> Window {
        Window {
            entries: VecDeque::new(),
            first: 0,
            len_max,
            queued: VecDeque::new(),
            flying: VecDeque::new(),
            turns: 0,
            last_packet: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= self.len_max
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn enter(&mut self, delivery: Delivery) {
        self.entries.push_back(Entry {
            delivery,
            state: State::Waiting,
            asked: Asked::default(),
        });
    }

    /// Whether the client has nothing of ours.
    pub(super) fn is_quiet(&self) -> bool {
        self.queued.is_empty() && self.flying.is_empty()
    }

    /// Whether one more may be handed to the client, when the broker allows so many at a time.
    /// Packet ids go round: the next is free only when the oldest in use is not so many turns old.
    pub(super) fn may_send(&self, unacknowledged_max: usize) -> bool {
        let oldest = self.flying.front().map_or(self.turns, |flight| flight.turn);
        let next = self.turns + u64::try_from(self.queued.len()).unwrap_or(u64::MAX);
        let max = u64::try_from(unacknowledged_max.min(self.len_max)).unwrap_or(u64::MAX);
        next - oldest < max && self.queued.len() < QUEUED_MAX
    }

    /// The first output from `from` on that waits, by its number.
    pub(super) fn next_waiting(&mut self, from: u64) -> Option<(u64, &mut Entry)> {
        let skipped = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let numbered = (self.first..).zip(self.entries.iter_mut());
        numbered
            .skip(skipped)
            .find(|(_, entry)| entry.state == State::Waiting)
    }

    pub(super) fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }

    /// An output was handed to the client, or something of ours that is none.
    pub(super) fn sent(&mut self, number: Option<u64>) {
        self.queued.push_back(number);
        if let Some(entry) = number.and_then(|number| self.entry(number)) {
            entry.state = State::Sent;
            entry.asked.attempts = entry.asked.attempts.saturating_add(1);
        }
    }

    /// A publish was written, with a packet id or without. The output's number when it needs no
    /// answer.
    pub(super) fn written(&mut self, packet: u16) -> Option<u64> {
        // What was taken up is known already.
        if packet != 0 && self.flying.iter().any(|flight| flight.packet == packet) {
            return None;
        }
        let number = self.queued.pop_front().flatten()?;
        if packet == 0 {
            return Some(number);
        }
        self.flying.push_back(Flight {
            packet,
            number,
            turn: self.turns,
            is_recorded: false,
        });
        self.turns += 1;
        self.last_packet = packet;
        None
    }

    /// The broker has recorded the publish with this packet id.
    pub(super) fn recorded(&mut self, packet: u16) {
        let mut flying = self.flying.iter_mut();
        if let Some(flight) = flying.find(|flight| flight.packet == packet) {
            flight.is_recorded = true;
        }
    }

    /// The publish with this packet id is over; the number of its output.
    pub(super) fn completed(&mut self, packet: u16) -> Option<u64> {
        let mut flying = self.flying.iter();
        let index = flying.position(|flight| flight.packet == packet)?;
        Some(self.flying.remove(index)?.number)
    }

    /// What is settled with nothing unsettled before it, once.
    pub(super) fn settle(&mut self) -> Vec<Settled> {
        let mut settled = Vec::new();
        let mut last = None;
        while let Some(entry) = self.entries.front() {
            let key = entry.delivery.key;
            match &entry.state {
                State::Waiting | State::Sent => break,
                State::Done => last = Some(key),
                State::PassedOver => {}
                State::Refused(refused) => {
                    // Its own word says that all before it has arrived.
                    last = None;
                    settled.push(Settled::Refused(key, refused.clone()));
                }
            }
            self.entries.pop_front();
            self.first += 1;
        }
        settled.extend(last.map(Settled::Through));
        settled
    }

    /// What is to be taken up on a connection of the same session, and the last packet id used.
    pub(super) fn open(&self) -> (impl Iterator<Item = (Flight, &Entry)>, u16) {
        let open = self.flying.iter().filter_map(|flight| {
            let index = usize::try_from(flight.number.checked_sub(self.first)?).ok()?;
            Some((*flight, self.entries.get(index)?))
        });
        (open, self.last_packet)
    }

    /// The connection is over: what was not written waits again. How many those are.
    pub(super) fn disconnected(&mut self) -> usize {
        let queued = std::mem::take(&mut self.queued);
        let numbers: Vec<u64> = queued.into_iter().flatten().collect();
        self.wait_again(&numbers)
    }

    /// The session is over too: what was written and not completed waits again, whatever the
    /// broker made of it. How many those are.
    pub(super) fn forget(&mut self) -> usize {
        let flying = std::mem::take(&mut self.flying);
        self.last_packet = 0;
        let numbers: Vec<u64> = flying.iter().map(|flight| flight.number).collect();
        self.wait_again(&numbers)
    }

    fn wait_again(&mut self, numbers: &[u64]) -> usize {
        let mut count = 0;
        for number in numbers {
            if let Some(entry) = self.entry(*number).filter(|e| e.state == State::Sent) {
                entry.state = State::Waiting;
                count += 1;
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Schema, Seq, Timestamp};

    fn key(number: u64) -> OutputKey {
        OutputKey {
            seq: Seq(number),
            query: 0,
            ordinal: 0,
        }
    }

    fn window(len_max: usize, count: u64) -> Window {
        let mut window = Window::new(len_max);
        for number in 0..count {
            window.enter(Delivery {
                key: key(number),
                id: number.to_string(),
                time: Timestamp(0),
                made: Timestamp(0),
                schema: Arc::new(Schema::new(Vec::new())),
                row: Vec::new(),
                held: crate::held::Held::default(),
            });
        }
        window
    }

    fn send(window: &mut Window, numbers: std::ops::Range<u64>) {
        for number in numbers {
            window.sent(Some(number));
            let packet = u16::try_from(number % 4 + 1).unwrap();
            assert_eq!(window.written(packet), None);
        }
    }

    fn done(window: &mut Window, packet: u16) {
        let number = window.completed(packet).unwrap();
        window.entry(number).unwrap().state = State::Done;
    }

    #[test]
    fn a_packet_id_is_free_when_its_turn_has_come() {
        let mut window = window(4, 4);
        send(&mut window, 0..4);
        assert!(!window.may_send(4));
        // Answers may come in any order; the oldest decides.
        done(&mut window, 2);
        done(&mut window, 3);
        assert!(!window.may_send(4) && window.settle().is_empty());
        done(&mut window, 1);
        assert!(window.may_send(4) && !window.may_send(1));
        assert_eq!(window.settle(), [Settled::Through(key(2))]);
    }

    #[test]
    fn what_is_no_output_takes_no_answer() {
        let mut window = window(4, 1);
        window.sent(None);
        window.sent(Some(0));
        assert_eq!(window.written(0), None);
        assert_eq!(window.written(0), Some(0));
        assert!(window.is_quiet());
    }

    #[test]
    fn an_open_exchange_is_taken_up_or_begun_anew() {
        let mut window = window(4, 4);
        send(&mut window, 0..3);
        window.recorded(1);
        window.sent(Some(3));
        assert_eq!(window.disconnected(), 1);
        let (open, last) = window.open();
        let open: Vec<_> = open
            .map(|(flight, _)| (flight.packet, flight.is_recorded))
            .collect();
        assert_eq!((open, last), (vec![(1, true), (2, false), (3, false)], 3));
        // Taken up: written once more, with the same packet id.
        assert_eq!(window.written(2), None);
        done(&mut window, 1);
        assert_eq!(window.settle(), [Settled::Through(key(0))]);
        assert_eq!(window.next_waiting(0).unwrap().0, 3);
        // Or the broker has lost the session.
        assert_eq!(window.forget(), 2);
        assert_eq!(window.next_waiting(0).unwrap().0, 1);
        assert!(window.is_quiet() && window.open().1 == 0);
    }

    #[test]
    fn a_refusal_stands_in_its_place() {
        let mut window = window(4, 3);
        send(&mut window, 0..3);
        let refused = Refused::new("no", 1);
        window.completed(2);
        window.entry(1).unwrap().state = State::Refused(refused.clone());
        done(&mut window, 3);
        assert!(window.settle().is_empty());
        done(&mut window, 1);
        let expected = [Settled::Refused(key(1), refused), Settled::Through(key(2))];
        assert_eq!(window.settle(), expected);
    }
}
