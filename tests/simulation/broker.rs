//! A source, from the sensor to the pipeline's door: the broker's session, which outlives the
//! daemon, and the client in the daemon, which does not.
//!
//! The broker delivers at least once and in order: what is not acknowledged when a connection
//! begins comes again, as a duplicate under the same packet id. The client is the real
//! [`Redelivery`] with the bookkeeping of `source/mqtt.rs` around it.

use std::collections::VecDeque;
use std::sync::Arc;

use eventflux::event::{DeliveryMark, Value};
use eventflux::source::redelivery::{Redelivery, Verdict};

/// Messages that the client holds for the pipeline; what comes beyond is left to the broker.
const QUEUE_MAX: usize = 24;

/// What a sensor says at a time.
#[derive(Debug)]
pub(crate) struct Message {
    /// Counted from 0, by source.
    pub(crate) number: u64,
    /// What the payload comes to; sensors repeat themselves.
    pub(crate) digest: u64,
    /// The rows in it.
    pub(crate) rows: Vec<Vec<Value>>,
    /// Whether it cannot be decoded.
    pub(crate) is_bad: bool,
}

/// The broker's side of one session.
#[derive(Debug)]
pub(crate) struct Broker {
    /// Not sent in this session.
    waiting: VecDeque<Arc<Message>>,
    /// Sent and not acknowledged, in the order of sending.
    in_flight: Vec<InFlight>,
    /// Acknowledgements on their way.
    wire: VecDeque<u16>,
    last_packet: u16,
    /// Packet ids are the lowest free ones, or else count on up to this and begin anew.
    ids: Ids,
    in_flight_max: usize,
}

/// How the broker numbers packets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ids {
    LowestFree,
    Counting { last: u16 },
}

/// Where counted ids stand when a day begins: what a session's first messages are cannot be told
/// (see `docs/decisions/0003`), and most days of a session are not its first.
const MIDLIFE: u16 = 20_000;

#[derive(Debug)]
struct InFlight {
    packet: u16,
    message: Arc<Message>,
    /// On this connection.
    is_sent: bool,
}

/// A message on its way to the client.
struct Sent {
    packet: u16,
    is_duplicate: bool,
    message: Arc<Message>,
}

impl Broker {
    pub(crate) fn new(ids: Ids, in_flight_max: usize) -> Broker {
        Broker {
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            wire: VecDeque::new(),
            last_packet: match ids {
                Ids::Counting { last: u16::MAX } => MIDLIFE,
                Ids::Counting { .. } | Ids::LowestFree => 0,
            },
            ids,
            in_flight_max,
        }
    }

    pub(crate) fn publish(&mut self, message: Arc<Message>) {
        self.waiting.push_back(message);
    }

    /// Whether everything has been acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// The connection ends; of the acknowledgements on the wire the first `arrived` come through.
    fn disconnected(&mut self, arrived: usize) {
        self.wire.truncate(arrived);
        self.hear();
        for one in &mut self.in_flight {
            one.is_sent = false;
        }
    }

    /// Loses the session; gives what was in it.
    fn forget(&mut self) -> Vec<Arc<Message>> {
        self.last_packet = 0;
        let gone = self.in_flight.drain(..).map(|one| one.message);
        gone.chain(self.waiting.drain(..)).collect()
    }

    fn hear(&mut self) {
        for packet in self.wire.drain(..) {
            self.in_flight.retain(|one| one.packet != packet);
        }
    }

    fn send(&mut self) -> Option<Sent> {
        if let Some(again) = self.in_flight.iter_mut().find(|one| !one.is_sent) {
            again.is_sent = true;
            return Some(Sent {
                packet: again.packet,
                is_duplicate: true,
                message: Arc::clone(&again.message),
            });
        }
        if self.in_flight.len() >= self.in_flight_max {
            return None;
        }
        let message = self.waiting.pop_front()?;
        let packet = self.free_packet();
        self.in_flight.push(InFlight {
            packet,
            message: Arc::clone(&message),
            is_sent: true,
        });
        Some(Sent {
            packet,
            is_duplicate: false,
            message,
        })
    }

    fn free_packet(&mut self) -> u16 {
        let taken = |packet| self.in_flight.iter().any(|one| one.packet == packet);
        let after = |packet| match self.ids {
            Ids::LowestFree => packet + 1,
            Ids::Counting { last } => packet % last + 1,
        };
        let mut packet = match self.ids {
            Ids::LowestFree => 1,
            Ids::Counting { .. } => after(self.last_packet),
        };
        while taken(packet) {
            packet = after(packet);
        }
        self.last_packet = packet;
        packet
    }
}

/// A new message that the client has taken.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) message: Arc<Message>,
    pub(crate) mark: DeliveryMark,
    pub(crate) ordinal: u64,
}

/// The client in the daemon.
pub(crate) struct Client {
    redelivery: Redelivery,
    held: Vec<(u16, Arc<Message>)>,
    /// What is to be acknowledged on this connection: packet and ordinal.
    pending: VecDeque<(u16, u64)>,
    /// For the pipeline.
    pub(crate) queue: VecDeque<Taken>,
    ordinal: u64,
    released: u64,
    /// Whether messages are left to the broker until the next connection.
    pub(crate) deferring: bool,
    /// How many messages were recognised as delivered again.
    pub(crate) repeats: u64,
}

impl Client {
    /// A client that begins with the marks at the end of the log, and its first connection.
    pub(crate) fn new(tail: &[DeliveryMark], broker: &mut Broker, arrived: usize) -> Client {
        let mut client = Client {
            redelivery: Redelivery::new(tail.iter().copied()),
            held: Vec::new(),
            pending: VecDeque::new(),
            queue: VecDeque::new(),
            ordinal: 0,
            released: 0,
            deferring: false,
            repeats: 0,
        };
        client.reconnect(broker, true, arrived);
        client
    }

    /// Another connection. When the session is not kept, gives what the broker has forgotten.
    pub(crate) fn reconnect(
        &mut self,
        broker: &mut Broker,
        keep: bool,
        arrived: usize,
    ) -> Vec<Arc<Message>> {
        broker.disconnected(arrived);
        self.pending.clear();
        self.held.clear();
        self.deferring = false;
        let gone = if keep { Vec::new() } else { broker.forget() };
        self.redelivery.connected(keep);
        gone
    }

    /// Takes up to `most` messages.
    pub(crate) fn receive(&mut self, broker: &mut Broker, most: usize) {
        broker.hear();
        for _ in 0..most {
            let Some(sent) = broker.send() else {
                // Silence: either everything is there, or the broker waits to be answered.
                if !self.redelivery.is_over() {
                    self.on_pause();
                }
                break;
            };
            self.on_message(&sent);
        }
        self.acknowledge(broker);
    }

    fn on_message(&mut self, sent: &Sent) {
        if self.deferring {
            return;
        }
        if self.redelivery.is_over() {
            self.take(sent.packet, &sent.message);
            return;
        }
        let mark = mark_of(sent.packet, &sent.message);
        match self.redelivery.judge(sent.is_duplicate, mark) {
            Verdict::New => {
                self.settle_held_as_new();
                if !self.deferring {
                    self.take(sent.packet, &sent.message);
                }
            }
            Verdict::Held => self.held.push((sent.packet, Arc::clone(&sent.message))),
            Verdict::Repeats(ordinals) => self.settle_as_repeats(&ordinals, Some(sent.packet)),
        }
    }

    fn on_pause(&mut self) {
        match self.redelivery.pause() {
            Verdict::Repeats(ordinals) => self.settle_as_repeats(&ordinals, None),
            Verdict::New | Verdict::Held => self.settle_held_as_new(),
        }
    }

    fn settle_held_as_new(&mut self) {
        self.redelivery.give_up();
        for (packet, message) in std::mem::take(&mut self.held) {
            if !self.deferring {
                self.take(packet, &message);
            }
        }
    }

    fn settle_as_repeats(&mut self, ordinals: &[u64], last: Option<u16>) {
        let held = std::mem::take(&mut self.held);
        let packets = held.iter().map(|(packet, _)| *packet).chain(last);
        for (packet, ordinal) in packets.zip(ordinals) {
            self.pending.push_back((packet, *ordinal));
            self.repeats += 1;
        }
    }

    fn take(&mut self, packet: u16, message: &Arc<Message>) {
        if self.queue.len() >= QUEUE_MAX {
            self.deferring = true;
            return;
        }
        self.ordinal += 1;
        let mark = mark_of(packet, message);
        self.pending.push_back((packet, self.ordinal));
        self.redelivery.received(mark, self.ordinal);
        self.queue.push_back(Taken {
            message: Arc::clone(message),
            mark,
            ordinal: self.ordinal,
        });
    }

    /// The pipeline says how far messages are durable.
    pub(crate) fn release(&mut self, through: u64, broker: &mut Broker) {
        self.released = through;
        self.acknowledge(broker);
    }

    fn acknowledge(&mut self, broker: &mut Broker) {
        while let Some((packet, ordinal)) = self.pending.front() {
            if *ordinal > self.released {
                break;
            }
            self.redelivery.acknowledged(*ordinal);
            broker.wire.push_back(*packet);
            self.pending.pop_front();
        }
    }
}

fn mark_of(packet: u16, message: &Message) -> DeliveryMark {
    DeliveryMark {
        packet,
        digest: message.digest,
    }
}
