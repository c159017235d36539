use super::*;

fn mark(packet: u16, digest: u64) -> DeliveryMark {
    DeliveryMark { packet, digest }
}

/// Marks as mosquitto gives them: consecutive ids, payloads all different.
fn tail(packets: std::ops::RangeInclusive<u16>) -> Vec<DeliveryMark> {
    packets
        .map(|packet| mark(packet, 1_000 + u64::from(packet)))
        .collect()
}

/// Feeds a resumed connection and tells for each message whether it became a row; what is held at
/// the end counts as new, as after a pause.
fn resumed(redelivery: &mut Redelivery, messages: &[(bool, DeliveryMark)]) -> Vec<bool> {
    redelivery.connected(true);
    let mut rows = Vec::new();
    let mut held = 0;
    for (dup, mark) in messages {
        match redelivery.judge(*dup, *mark) {
            Verdict::New => {
                rows.extend(std::iter::repeat_n(true, held + 1));
                held = 0;
            }
            Verdict::Held => held += 1,
            Verdict::Repeats(ordinals) => {
                assert_eq!(ordinals.len(), held + 1);
                rows.extend(std::iter::repeat_n(false, held + 1));
                held = 0;
            }
        }
    }
    rows.extend(std::iter::repeat_n(true, held));
    rows
}

fn again(marks: &[DeliveryMark]) -> Vec<(bool, DeliveryMark)> {
    marks.iter().map(|mark| (true, *mark)).collect()
}

#[test]
fn the_end_of_the_log_comes_again() {
    let tail = tail(1..=50);
    for resent in 1..50 {
        let mut messages = again(&tail[50 - resent..]);
        // What was on its way when the process died has DUP too, and is new.
        messages.push((true, mark(51, 1)));
        messages.push((false, mark(52, 2)));
        let mut redelivery = Redelivery::new(tail.clone());
        let rows = resumed(&mut redelivery, &messages);
        let expected = [vec![false; resent], vec![true, true]].concat();
        assert_eq!(rows, expected, "{resent} resent");
    }
}

#[test]
fn what_is_not_the_end_of_the_log_is_new() {
    let tail = tail(1..=50);
    let table: [(&str, Vec<(bool, DeliveryMark)>); 7] = [
        (
            "without DUP",
            tail[40..].iter().map(|mark| (false, *mark)).collect(),
        ),
        ("another payload", vec![(true, mark(50, 7))]),
        ("another id", vec![(true, mark(60, 1_050))]),
        ("the run stops short of the end", again(&tail[40..49])),
        (
            "a message in the run is missing",
            again(&[tail[47], tail[49]]),
        ),
        ("out of order", again(&[tail[49], tail[48]])[1..].to_vec()),
        (
            "a new one first",
            vec![(false, mark(51, 1)), (true, tail[49])],
        ),
    ];
    for (what, messages) in table {
        let mut redelivery = Redelivery::new(tail.clone());
        let rows = resumed(&mut redelivery, &messages);
        assert_eq!(rows, vec![true; messages.len()], "{what}");
    }
}

#[test]
fn a_broken_run_gives_its_messages_back() {
    let tail = tail(1..=10);
    let mut redelivery = Redelivery::new(tail.clone());
    redelivery.connected(true);
    assert_eq!(redelivery.judge(true, tail[7]), Verdict::Held);
    assert_eq!(redelivery.judge(true, tail[8]), Verdict::Held);
    assert_eq!(redelivery.judge(true, mark(99, 1)), Verdict::New);
    assert!(redelivery.is_over());
    // The recognition is over for this connection, also for what would match.
    assert_eq!(redelivery.judge(true, tail[9]), Verdict::New);
}

#[test]
fn a_lost_session_forgets() {
    let tail = tail(1..=10);
    let mut redelivery = Redelivery::new(tail.clone());
    redelivery.connected(false);
    assert_eq!(redelivery.judge(true, tail[9]), Verdict::New);
    redelivery.received(mark(1, 1_001), 1);
    redelivery.connected(true);
    assert_eq!(
        redelivery.judge(true, tail[9]),
        Verdict::New,
        "from before the loss"
    );
    redelivery.connected(true);
    assert_eq!(
        redelivery.judge(true, mark(1, 1_001)),
        Verdict::Repeats(vec![1])
    );
}

/// A session that was lost after two messages must not look like a broker that uses ids again at
/// once, neither to this process nor to one that reads the log.
#[test]
fn a_lost_session_says_nothing_of_how_ids_are_used() {
    let (lost, next) = (tail(1..=2), tail(1..=50));
    let whole = [lost, vec![SESSION_BEGINS], next.clone()].concat();
    for resent in 1..50 {
        let mut redelivery = Redelivery::new(whole.clone());
        let rows = resumed(&mut redelivery, &again(&next[50 - resent..]));
        assert_eq!(rows, vec![false; resent], "{resent} resent");
    }
    assert!(!Redelivery::new([mark(1, 1), SESSION_BEGINS]).remembers());
}

/// As long as we have not acknowledged a message the broker cannot use its id for another.
#[test]
fn what_was_never_acknowledged_is_certain() {
    let same = mark(1, 5);
    let mut redelivery = Redelivery::new([same, same]);
    redelivery.received(same, 1);
    assert_eq!(resumed(&mut redelivery, &[(true, same)]), [false]);
    redelivery.acknowledged(1);
    assert_eq!(resumed(&mut redelivery, &[(true, same)]), [true]);
}

#[test]
fn a_broker_may_want_acknowledgements_before_it_goes_on() {
    let tail = tail(101..=130);
    let mut redelivery = Redelivery::new(tail.clone());
    redelivery.connected(true);
    for mark in &tail[5..15] {
        assert_eq!(redelivery.judge(true, *mark), Verdict::Held);
    }
    assert_eq!(redelivery.pause(), Verdict::Repeats(vec![0; 10]));
    for mark in &tail[15..] {
        assert_eq!(redelivery.judge(true, *mark), Verdict::Repeats(vec![0]));
    }
    assert!(redelivery.is_over());
    // A run of a few that stops is a coincidence.
    redelivery.connected(true);
    for mark in &tail[5..10] {
        assert_eq!(redelivery.judge(true, *mark), Verdict::Held);
    }
    assert_eq!(redelivery.pause(), Verdict::New);
    // What goes on otherwise is new.
    redelivery.connected(true);
    for mark in &tail[5..15] {
        assert_eq!(redelivery.judge(true, *mark), Verdict::Held);
    }
    assert_eq!(redelivery.pause(), Verdict::Repeats(vec![0; 10]));
    assert_eq!(redelivery.judge(true, mark(200, 1)), Verdict::New);
    assert!(redelivery.is_over());
}

/// A broker that gives the lowest free id has given id 1 to everything on a quiet line, and a
/// sensor may say the same thing twice: nothing tells the repeat from the next message.
#[test]
fn a_broker_that_reuses_ids_at_once_is_not_believed() {
    let same = mark(1, 5);
    for logged in 2..10 {
        let mut redelivery = Redelivery::new(vec![same; logged]);
        assert_eq!(resumed(&mut redelivery, &[(true, same)]), [true]);
    }
    let bursts: Vec<_> = (0..6)
        .flat_map(|_| (1..=20).map(|packet| mark(packet, 5)))
        .collect();
    let mut redelivery = Redelivery::new(bursts.clone());
    assert_eq!(resumed(&mut redelivery, &again(&bursts[100..])), [true; 20]);
    // Less than a round back there is no doubt.
    let mut redelivery = Redelivery::new(bursts.clone());
    assert_eq!(
        resumed(&mut redelivery, &again(&bursts[101..])),
        [false; 19]
    );
}

/// Id 1 again after 1 to 50: repeats of all there was, or the first of the next burst.
#[test]
fn the_very_first_id_is_not_believed() {
    let tail = tail(1..=50);
    let mut redelivery = Redelivery::new(tail.clone());
    assert_eq!(resumed(&mut redelivery, &again(&tail)), [true; 50]);
}

/// The first burst of such a broker shows no reuse yet; only a whole run to the end is believed.
#[test]
fn a_burst_that_begins_like_the_last_one_is_new() {
    let first: Vec<_> = (1..=20).map(|packet| mark(packet, 5)).collect();
    let mut redelivery = Redelivery::new(first.clone());
    assert_eq!(resumed(&mut redelivery, &again(&first[..3])), [true; 3]);
}

#[test]
fn ids_wrap_and_the_tail_is_bounded() {
    let mut redelivery = Redelivery::new(Vec::new());
    let mut packet = 60_000u16;
    let mut last = Vec::new();
    for ordinal in 1..=20_000u64 {
        packet = if packet == u16::MAX { 1 } else { packet + 1 };
        last.push(mark(packet, ordinal));
        redelivery.received(mark(packet, ordinal), ordinal);
    }
    assert!(redelivery.tail.len() <= TAIL_MARKS_MAX);
    assert!(redelivery.last_by_packet.len() <= TAIL_MARKS_MAX);
    redelivery.connected(true);
    for (mark, ordinal) in last[last.len() - 100..].iter().zip(19_901..) {
        // None is acknowledged, so each is certain at once.
        assert_eq!(
            redelivery.judge(true, *mark),
            Verdict::Repeats(vec![ordinal])
        );
    }
    assert!(redelivery.is_over());
}

/// A model of a broker and a daemon that crash and reconnect at random. Every message must become
/// a row at least once, and with consecutive ids exactly once.
mod model {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque as Deque;

    #[derive(Clone, Copy, Debug)]
    enum Ids {
        Consecutive,
        LowestFree,
    }

    #[derive(Clone, Debug)]
    enum Act {
        /// A message with one of two payloads.
        Publish(bool),
        /// The daemon receives up to so many of what is on its way.
        Receive(u8),
        /// The log is written, and everything in it acknowledged.
        Sync,
        /// So many acknowledgements reach the broker.
        Acked(u8),
        Reconnect,
        Crash,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => any::<bool>().prop_map(Act::Publish),
            4 => (0u8..6).prop_map(Act::Receive),
            2 => Just(Act::Sync),
            3 => (0u8..6).prop_map(Act::Acked),
            1 => Just(Act::Reconnect),
            1 => Just(Act::Crash),
        ]
    }

    struct World {
        ids: Ids,
        last_id: u16,
        /// Sent and not acknowledged at the broker: id, digest, which message.
        inflight: Deque<(u16, u64, usize)>,
        on_the_way: Deque<(bool, u16, u64, usize)>,
        acks: Deque<u16>,
        redelivery: Redelivery,
        held: Vec<(u16, u64, usize)>,
        received: Vec<(u16, u64, usize)>,
        log: Vec<(u16, u64, usize)>,
        /// Ids to acknowledge, with the ordinals of their receipt.
        pending: Deque<(u16, u64)>,
        published: usize,
        ordinal: u64,
    }

    impl World {
        fn next_id(&mut self) -> u16 {
            match self.ids {
                Ids::Consecutive => {
                    self.last_id += 1;
                    self.last_id
                }
                Ids::LowestFree => {
                    let taken = |id: u16| self.inflight.iter().any(|(known, ..)| *known == id);
                    (1..).find(|id| !taken(*id)).unwrap()
                }
            }
        }

        fn connect(&mut self) {
            self.on_the_way = self
                .inflight
                .iter()
                .map(|(id, d, n)| (true, *id, *d, *n))
                .collect();
            self.acks.clear();
            self.pending.clear();
            self.held.clear();
            self.redelivery.connected(true);
        }

        fn take(&mut self, id: u16, digest: u64, number: usize) {
            self.received.push((id, digest, number));
            self.ordinal += 1;
            let ordinal = self.ordinal;
            self.redelivery.received(mark(id, digest), ordinal);
            self.pending.push_back((id, ordinal));
        }

        fn settle_held(&mut self) {
            self.redelivery.give_up();
            for (id, digest, number) in std::mem::take(&mut self.held) {
                self.take(id, digest, number);
            }
        }

        fn pause(&mut self) {
            match self.redelivery.pause() {
                Verdict::Repeats(ordinals) => {
                    let held = std::mem::take(&mut self.held);
                    self.pending
                        .extend(held.iter().map(|(id, ..)| *id).zip(ordinals));
                }
                Verdict::New | Verdict::Held => self.settle_held(),
            }
        }

        fn receive(&mut self) {
            let Some((dup, id, digest, number)) = self.on_the_way.pop_front() else {
                self.pause();
                return;
            };
            match self.redelivery.judge(dup, mark(id, digest)) {
                Verdict::New => {
                    self.settle_held();
                    self.take(id, digest, number);
                }
                Verdict::Held => self.held.push((id, digest, number)),
                Verdict::Repeats(ordinals) => {
                    let held = std::mem::take(&mut self.held);
                    let ids = held.iter().map(|(id, ..)| *id).chain([id]);
                    self.pending.extend(ids.zip(ordinals));
                }
            }
        }

        fn act(&mut self, act: &Act) {
            match act {
                Act::Publish(kind) => {
                    let (id, digest) = (self.next_id(), u64::from(*kind));
                    self.inflight.push_back((id, digest, self.published));
                    self.on_the_way
                        .push_back((false, id, digest, self.published));
                    self.published += 1;
                }
                Act::Receive(count) => (0..*count).for_each(|_| self.receive()),
                Act::Sync => {
                    self.log.append(&mut self.received);
                    for (id, ordinal) in std::mem::take(&mut self.pending) {
                        self.redelivery.acknowledged(ordinal);
                        self.acks.push_back(id);
                    }
                }
                Act::Acked(count) => {
                    for _ in 0..*count {
                        let Some(id) = self.acks.pop_front() else {
                            return;
                        };
                        self.inflight.retain(|(known, ..)| *known != id);
                    }
                }
                Act::Reconnect => self.connect(),
                Act::Crash => {
                    self.received.clear();
                    self.ordinal = 0;
                    let marks = self.log.iter().map(|(id, digest, _)| mark(*id, *digest));
                    self.redelivery = Redelivery::new(marks);
                    self.connect();
                }
            }
        }

        /// Lets everything through, and counts the rows of each message.
        fn finish(mut self) -> Vec<usize> {
            self.connect();
            while !self.on_the_way.is_empty() {
                self.receive();
            }
            self.settle_held();
            self.log.append(&mut self.received);
            let mut rows = vec![0; self.published];
            for (_, _, number) in &self.log {
                rows[*number] += 1;
            }
            rows
        }
    }

    fn world(ids: Ids) -> World {
        World {
            ids,
            last_id: 0,
            inflight: Deque::new(),
            on_the_way: Deque::new(),
            acks: Deque::new(),
            redelivery: Redelivery::new(Vec::new()),
            held: Vec::new(),
            received: Vec::new(),
            log: Vec::new(),
            pending: Deque::new(),
            published: 0,
            ordinal: 0,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn consecutive_ids_give_every_message_once(acts in prop::collection::vec(act(), 0..80)) {
            let mut world = world(Ids::Consecutive);
            // The session is not in its first messages.
            world.last_id = 100;
            acts.iter().for_each(|act| world.act(act));
            for (number, rows) in world.finish().into_iter().enumerate() {
                prop_assert!(rows >= 1, "message {number} is lost");
                prop_assert!(rows == 1, "message {number} gave {rows} rows");
            }
        }

        /// With payloads that repeat all the time and ids that are used again at once.
        #[test]
        fn lowest_free_ids_lose_nothing(acts in prop::collection::vec(act(), 0..80)) {
            let mut world = world(Ids::LowestFree);
            acts.iter().for_each(|act| world.act(act));
            for (number, rows) in world.finish().into_iter().enumerate() {
                prop_assert!(rows >= 1, "message {number} is lost");
            }
        }
    }
}
