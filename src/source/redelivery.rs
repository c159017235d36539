//! Tells a message that the broker delivers again, and that the log has, from a new one.
//!
//! After a crash the log may hold messages whose PUBACK did not reach the broker. They come again
//! and must be acknowledged without becoming rows a second time. What is certain about them:
//!
//! - A broker resends what it has not seen acknowledged, in the order in which it had sent it
//!   ([MQTT-4.4.0-1], [MQTT-4.6.0-1]), with DUP = 1 and the same packet id, before anything new,
//!   and only when it still has the session.
//! - We receive in that order, log in that order and acknowledge in that order. So what the
//!   broker resends and we have is **the end of our log**, whole and in order, and what follows
//!   is new although it has DUP = 1.
//!
//! So a run of repeats begins somewhere in the tail of the log, goes along it mark by mark and
//! reaches its end; until it has, its messages are *held*. If it breaks off, the beginning was a
//! coincidence and the held messages are new. It need not reach the end when this process knows
//! that it has acknowledged none of it, nor when the broker falls silent after a good part of it:
//! some send only so much before they want an acknowledgement. A beginning is believed only where
//! the broker cannot have given the same packet id to a later message: not where it may have given
//! the lowest free id, and not further back than after how many messages, as the tail shows, it
//! uses an id again. In doubt a message is new: to count one twice is better than to lose one.
//! `docs/decisions/0003` has the whole argument. Pure: no clock, no I/O.

use std::collections::{HashMap, VecDeque};

use crate::event::DeliveryMark;

/// How many marks are remembered; more than any broker keeps in flight by default.
pub const TAIL_MARKS_MAX: usize = 4_096;

/// Stands in the log before what a session of the broker's has brought, where another session's
/// marks lie before it: packet id 0, which no message has. Without it a later process would take
/// ids that started over for ids that are used again soon.
pub const SESSION_BEGINS: DeliveryMark = DeliveryMark {
    packet: 0,
    digest: 0,
};

/// A run of so many is no coincidence, even when the broker then falls silent.
const BELIEVED_HELD_MIN: u64 = 8;

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A new message; so are the ones held so far, which come before it.
    New,
    /// Perhaps a repeat: to be held until a later verdict.
    Held,
    /// This one and the ones held so far are repeats. For each, oldest first, the ordinal under
    /// which it was received first in this process; 0 when a former process logged it.
    Repeats(Vec<u64>),
}

/// The memory of what was received, and where on it the broker is.
#[derive(Debug)]
pub struct Redelivery {
    tail: VecDeque<(DeliveryMark, u64)>,
    /// The place in `tail` counted from the first mark ever, and where each id was last.
    first: u64,
    last_by_packet: HashMap<u16, u64>,
    /// After how many messages the broker has used an id again, at the least.
    reuse_min: u64,
    /// The highest ordinal whose acknowledgement may have reached the broker.
    acknowledged: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing can be a repeat any more on this connection.
    Off,
    /// On a resumed session, before the first message.
    Armed,
    /// Along the tail; the place of the mark that has to come next.
    Run {
        next: u64,
        held: u64,
        /// Whether what goes along the tail is a repeat even if the end is not reached.
        believed: bool,
    },
}

impl Redelivery {
    /// Begins with the marks that the log ends with, oldest first.
    pub fn new(tail: impl IntoIterator<Item = DeliveryMark>) -> Redelivery {
        let mut redelivery = Redelivery {
            tail: VecDeque::new(),
            first: 0,
            last_by_packet: HashMap::new(),
            reuse_min: u64::MAX,
            acknowledged: 0,
            state: State::Off,
        };
        for mark in tail {
            match mark {
                SESSION_BEGINS => redelivery.forget(),
                mark => redelivery.received(mark, 0),
            }
        }
        redelivery
    }

    /// Whether it remembers something of a session.
    #[must_use]
    pub fn remembers(&self) -> bool {
        !self.tail.is_empty()
    }

    /// A connection begins. Messages held on the last one are forgotten: they come again.
    pub fn connected(&mut self, session_present: bool) {
        self.state = if session_present && !self.tail.is_empty() {
            State::Armed
        } else {
            State::Off
        };
        if !session_present {
            self.forget();
        }
    }

    /// Nothing that was sent in a lost session comes again, and its ids start over.
    fn forget(&mut self) {
        self.first = self.end();
        self.tail.clear();
        self.last_by_packet.clear();
    }

    /// Judges a message with a packet id.
    pub fn judge(&mut self, dup: bool, mark: DeliveryMark) -> Verdict {
        let (place, held, believed) = match self.state {
            State::Off => return Verdict::New,
            _ if !dup => return self.give_up(),
            State::Armed => match self.beginning(mark) {
                Some((place, is_certain)) => (place, 0, is_certain),
                None => return self.give_up(),
            },
            State::Run {
                next,
                held,
                believed,
            } => match self.at(next) {
                Some((expected, _)) if expected == mark => (next, held, believed),
                Some(_) | None => return self.give_up(),
            },
        };
        let is_end = place + 1 == self.end();
        let settled = believed || is_end;
        self.state = if is_end {
            State::Off
        } else {
            State::Run {
                next: place + 1,
                held: if settled { 0 } else { held + 1 },
                believed,
            }
        };
        if settled {
            Verdict::Repeats(self.ordinals(place - held, place))
        } else {
            Verdict::Held
        }
    }

    /// Nothing has come for a while: perhaps the broker awaits acknowledgements. A long run is
    /// believed as it stands, and whatever goes on with it.
    pub fn pause(&mut self) -> Verdict {
        match self.state {
            State::Run { next, held, .. } if held >= BELIEVED_HELD_MIN => {
                self.state = State::Run {
                    next,
                    held: 0,
                    believed: true,
                };
                Verdict::Repeats(self.ordinals(next - held, next - 1))
            }
            State::Run { held: 0, .. } => Verdict::Repeats(Vec::new()),
            State::Run { .. } | State::Armed | State::Off => self.give_up(),
        }
    }

    /// The held messages are new, and so is everything that follows on this connection. Also to
    /// be called when a run does not go on for a while.
    pub fn give_up(&mut self) -> Verdict {
        self.state = State::Off;
        Verdict::New
    }

    /// Whether the next message can still turn out to be a repeat.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Off
    }

    /// Remembers a new message that was received under `ordinal`.
    pub fn received(&mut self, mark: DeliveryMark, ordinal: u64) {
        let place = self.end();
        if let Some(earlier) = self.last_by_packet.insert(mark.packet, place) {
            self.reuse_min = self.reuse_min.min(place - earlier);
        }
        self.tail.push_back((mark, ordinal));
        if self.tail.len() > TAIL_MARKS_MAX {
            if let Some((oldest, _)) = self.tail.pop_front() {
                if self.last_by_packet.get(&oldest.packet) == Some(&self.first) {
                    self.last_by_packet.remove(&oldest.packet);
                }
                self.first += 1;
            }
        }
    }

    /// The message received under `ordinal` is being acknowledged. Until then the broker cannot
    /// give its id to another, and its repeat is certain.
    pub fn acknowledged(&mut self, ordinal: u64) {
        self.acknowledged = self.acknowledged.max(ordinal);
    }

    /// Where a run that starts with `mark` begins, when it must be a run.
    ///
    /// The message is the first after everything that the broker has seen acknowledged. So if it
    /// is new it comes directly after the tail, where its id cannot have been given again before
    /// `reuse_min` messages; and a broker that gives the lowest free id must have had every lower
    /// one in flight, which then all stand behind `place`.
    ///
    /// Also says whether that is certain whatever follows.
    fn beginning(&self, mark: DeliveryMark) -> Option<(u64, bool)> {
        let place = *self.last_by_packet.get(&mark.packet)?;
        let (known, ordinal) = self.at(place)?;
        if known != mark {
            return None;
        }
        let is_certain = ordinal > self.acknowledged;
        let in_flight = |id: u16| self.last_by_packet.get(&id).is_some_and(|at| *at > place);
        let is_lowest_free = (1..mark.packet).all(in_flight);
        let is_too_soon = self.end() - place < self.reuse_min;
        (is_certain || (is_too_soon && !is_lowest_free)).then_some((place, is_certain))
    }

    fn ordinals(&self, from: u64, to: u64) -> Vec<u64> {
        (from..=to)
            .filter_map(|place| Some(self.at(place)?.1))
            .collect()
    }

    fn end(&self) -> u64 {
        self.first + u64::try_from(self.tail.len()).unwrap_or(u64::MAX)
    }

    fn at(&self, place: u64) -> Option<(DeliveryMark, u64)> {
        let index = usize::try_from(place.checked_sub(self.first)?).ok()?;
        self.tail.get(index).copied()
    }
}

/// What topic and payload come to in 64 bits: the same on every machine and in every version,
/// since the log keeps it. Eight bytes at a time into a multiply and fold, finished as in
/// SplitMix64 (Steele, Lea and Flood, 2014). Not made to withstand forgery: who can publish needs
/// no collision to be heard.
#[must_use]
pub fn digest(topic: &[u8], payload: &[u8]) -> u64 {
    let topic_bytes = u64::try_from(topic.len()).unwrap_or(u64::MAX);
    finish(fold(
        payload,
        fold(topic, topic_bytes ^ 0x9E37_79B9_7F4A_7C15),
    ))
}

fn fold(bytes: &[u8], mut state: u64) -> u64 {
    const FACTOR: u64 = 0xD6E8_FEB8_6659_FD93;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        state = (state ^ u64::from_le_bytes(eight)).wrapping_mul(FACTOR);
        state ^= state >> 32;
    }
    let mut eight = [0; 8];
    for (to, from) in eight.iter_mut().zip(words.remainder()) {
        *to = *from;
    }
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    state = (state ^ u64::from_le_bytes(eight)).wrapping_mul(FACTOR);
    (state ^ (state >> 32) ^ length).wrapping_mul(FACTOR)
}

fn finish(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests;
