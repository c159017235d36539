//! What a sink is to deliver, and when it may.
//!
//! What it promises: outputs come in order, as from a channel, and not before the sink's pace, its
//! hours and its priority let them. Each attempt to send something asks for leave
//! ([`Deliveries::permit`] or [`Deliveries::permitted`]), repeated ones too, and is charged then:
//! so nothing that a sink holds goes out of hours or too fast when its link returns. Nothing here
//! waits for another sink for long, see [`super::priority`].

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::bucket::Bucket;
use super::priority::{Member, Siblings};
use super::{Delivery, OutboxMetrics, Policy};
use crate::clock;
use crate::event::Timestamp;

pub use mpsc::error::TryRecvError;

/// The outputs of one sink, on their way out.
#[derive(Debug)]
pub struct Deliveries {
    from: mpsc::Receiver<Delivery>,
    /// Taken from there, and not handed out yet.
    next: Option<Delivery>,
    gate: Gate,
    historical_after_ms: i64,
}

impl From<mpsc::Receiver<Delivery>> for Deliveries {
    /// Whatever comes may go at once.
    fn from(from: mpsc::Receiver<Delivery>) -> Deliveries {
        let member =
            Siblings::default().join(Policy::default().priority, Arc::default(), Arc::default());
        Deliveries::new(from, &Policy::default(), member)
    }
}

impl Deliveries {
    /// What comes from `from`, delivered as `policy` says, by a sink that is `member` of its
    /// daemon's.
    #[must_use]
    pub fn new(from: mpsc::Receiver<Delivery>, policy: &Policy, member: Member) -> Deliveries {
        let now = Instant::now();
        let bucket = |rate: Option<u32>| Some(Bucket::new(rate?, policy.burst, now));
        Deliveries {
            from,
            next: None,
            gate: Gate {
                messages: bucket(policy.messages_per_minute),
                bytes: bucket(policy.bytes_per_minute),
                policy: policy.clone(),
                member,
                wall: clock::wall,
            },
            historical_after_ms: policy.historical_after_ms,
        }
    }

    /// The next output, as soon as it may go; `None` when there will be no more. To drop the
    /// future loses nothing.
    pub async fn recv(&mut self) -> Option<Delivery> {
        if self.next.is_none() {
            self.next = self.from.recv().await;
        }
        if self.next.is_some() {
            self.gate.opened().await;
        }
        self.next.take()
    }

    /// The next output, when there is one and it may go now.
    ///
    /// # Errors
    /// There is none now, or it may not go; or there will be no more.
    pub fn try_recv(&mut self) -> Result<Delivery, TryRecvError> {
        if self.next.is_none() {
            self.next = Some(self.from.try_recv()?);
        }
        if self.gate.closed_until(Instant::now()).is_some() {
            return Err(TryRecvError::Empty);
        }
        self.next.take().ok_or(TryRecvError::Empty)
    }

    /// Leave to send a message of so many outputs and bytes now, for the first time or again.
    ///
    /// # Errors
    /// When to ask again.
    pub fn permit(&mut self, outputs: usize, bytes: usize) -> Result<(), Instant> {
        if let Some(until) = self.gate.closed_until(Instant::now()) {
            return Err(until);
        }
        self.gate.charge(outputs, bytes);
        Ok(())
    }

    /// Waits for the leave that [`Deliveries::permit`] gives.
    pub async fn permitted(&mut self, outputs: usize, bytes: usize) {
        self.gate.opened().await;
        self.gate.charge(outputs, bytes);
    }

    /// How long an output has waited by now, in milliseconds, and whether it is no news any more.
    pub(super) fn age_of(&self, made: Timestamp) -> (i64, bool) {
        // The log's clock may be ahead of a wall clock that was set back.
        let age_ms = (self.gate.wall)().0.saturating_sub(made.0).max(0);
        (age_ms, age_ms >= self.historical_after_ms)
    }

    /// The accounts of the sink's outbox.
    pub(super) fn outbox(&self) -> &Arc<OutboxMetrics> {
        self.gate.member.outbox()
    }
}

/// What holds outputs back.
#[derive(Debug)]
struct Gate {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
    policy: Policy,
    member: Member,
    wall: fn() -> Timestamp,
}

impl Gate {
    /// When to look again, unless it is open at `now`.
    fn closed_until(&mut self, now: Instant) -> Option<Instant> {
        let empty = |bucket: &mut Option<Bucket>| bucket.as_mut()?.empty_until(now);
        let paced = empty(&mut self.messages).max(empty(&mut self.bytes));
        let hours = self.policy.hours.as_ref();
        let closed_ms = hours.and_then(|hours| hours.closed_for_ms((self.wall)()));
        let closed = closed_ms.map(|ms| now + std::time::Duration::from_millis(ms));
        let held = paced.max(closed);
        self.member.held_back(held.is_some());
        held.or_else(|| self.member.yields_until(now))
    }

    fn charge(&mut self, outputs: usize, bytes: usize) {
        if let Some(bucket) = &mut self.messages {
            bucket.take(outputs);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes);
        }
    }

    async fn opened(&mut self) {
        while let Some(until) = self.closed_until(Instant::now()) {
            sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::super::Metrics;
    use super::*;
    use crate::config::delivery;
    use crate::config::options::{Layer, OptionValue, Options};
    use crate::event::{OutputKey, Schema, Seq};

    /// 2026-11-20 20:00, a Friday.
    const EVENING: i64 = 1_795_204_800_000;

    thread_local! {
        /// What the wall clock said, and when.
        static WALL: Cell<Option<(i64, Instant)>> = const { Cell::new(None) };
    }

    fn set_wall(ms: i64) {
        WALL.set(Some((ms, Instant::now())));
    }

    fn wall() -> Timestamp {
        let (ms, since) = WALL.get().unwrap();
        Timestamp(ms + i64::try_from(since.elapsed().as_millis()).unwrap())
    }

    /// In simulated time, which stands still while something can be done.
    fn simulated(test: impl Future<Output = ()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            set_wall(EVENING);
            test.await;
        });
    }

    fn policy(written: &[(&str, &str)]) -> Policy {
        let mut options = Options::default();
        for (name, value) in written {
            let value = match value.parse() {
                Ok(number) => OptionValue::Integer(number),
                Err(_) => OptionValue::Text((*value).to_owned()),
            };
            options.set(name, value, Layer::Sql);
        }
        Policy::new(&options).unwrap()
    }

    fn delivery(number: u64) -> Delivery {
        Delivery {
            key: OutputKey {
                seq: Seq(number),
                ..OutputKey::default()
            },
            id: number.to_string(),
            time: Timestamp(0),
            made: Timestamp(EVENING),
            schema: Arc::new(Schema::new(Vec::new())),
            row: Vec::new(),
            held: crate::held::Held::default(),
        }
    }

    /// A sink with so many outputs to deliver and no more to come.
    struct Sink {
        deliveries: Deliveries,
        metrics: Arc<Metrics>,
        outbox: Arc<OutboxMetrics>,
    }

    fn sink(siblings: &Siblings, policy: &Policy, count: u64) -> Sink {
        let (to, from) = mpsc::channel(10_000);
        for number in 1..=count {
            to.try_send(delivery(number)).unwrap();
        }
        let (metrics, outbox) = (Arc::<Metrics>::default(), Arc::<OutboxMetrics>::default());
        metrics.connected.store(true, Ordering::Relaxed);
        outbox.waiting.store(count, Ordering::Relaxed);
        let member = siblings.join(policy.priority, Arc::clone(&metrics), Arc::clone(&outbox));
        let mut deliveries = Deliveries::new(from, policy, member);
        deliveries.gate.wall = wall;
        Sink {
            deliveries,
            metrics,
            outbox,
        }
    }

    impl Sink {
        /// Delivers all of it, each after `attempts` attempts that take `span` each; when each was
        /// sent, in milliseconds from now.
        async fn deliver(mut self, bytes: usize, attempts: u32, span: Duration) -> Vec<u128> {
            let start = Instant::now();
            let mut sent = Vec::new();
            while self.deliveries.recv().await.is_some() {
                for _ in 0..attempts {
                    self.deliveries.permitted(1, bytes).await;
                    sent.push(start.elapsed().as_millis());
                    tokio::time::sleep(span).await;
                }
                self.metrics.delivered.fetch_add(1, Ordering::Relaxed);
                self.outbox.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            sent
        }
    }

    fn alone(written: &[(&str, &str)], count: u64) -> Sink {
        sink(&Siblings::default(), &policy(written), count)
    }

    #[test]
    fn a_pace_in_messages_counts_every_attempt() {
        simulated(async {
            let pace = [
                (delivery::MESSAGES_PER_MINUTE, "60"),
                (delivery::BURST, "2000"),
            ];
            let sent = alone(&pace, 4).deliver(10, 1, Duration::ZERO).await;
            assert_eq!(sent, [0, 0, 1_001, 2_001]);
            let sent = alone(&pace, 2).deliver(10, 2, Duration::ZERO).await;
            assert_eq!(sent, [0, 0, 1_001, 2_001]);
            let sent = alone(&[], 3).deliver(10, 2, Duration::ZERO).await;
            assert_eq!(sent, [0; 6]);
        });
    }

    #[test]
    fn a_pace_in_bytes_lets_a_large_one_go_and_waits_afterwards() {
        simulated(async {
            let pace = [
                (delivery::BYTES_PER_MINUTE, "60000"),
                (delivery::BURST, "0"),
            ];
            let sent = alone(&pace, 3).deliver(10_000, 1, Duration::ZERO).await;
            assert_eq!(sent, [0, 10_001, 20_002]);
        });
    }

    #[test]
    fn nothing_leaves_out_of_hours_not_even_what_is_in_the_sinks_hands() {
        simulated(async {
            let mut night = alone(&[(delivery::ACTIVE, "22:00-06:00")], 4);
            let hours = |from: Instant| from.elapsed().as_secs() / 3_600;
            let start = Instant::now();
            assert!(night.deliveries.try_recv().is_err());
            assert!(night.deliveries.permit(1, 1).is_err());
            assert_eq!(night.deliveries.recv().await, Some(delivery(1)));
            assert_eq!(hours(start), 2);
            assert_eq!(night.deliveries.permit(1, 1), Ok(()));
            tokio::time::sleep(Duration::from_secs(9 * 3_600)).await;
            night.deliveries.permitted(1, 1).await;
            assert_eq!(hours(start), 26);
            // A clock that is set does not have to be waited out.
            set_wall(EVENING);
            let start = Instant::now();
            let (moved, ()) = tokio::join!(night.deliveries.recv(), async {
                tokio::time::sleep(Duration::from_secs(60)).await;
                set_wall(EVENING + 3 * 3_600_000);
            });
            assert_eq!(moved, Some(delivery(2)));
            assert!(start.elapsed() <= Duration::from_secs(120));
        });
    }

    #[test]
    fn the_higher_one_goes_first_and_the_lower_one_still_gets_on() {
        simulated(async {
            let siblings = Siblings::default();
            let span = Duration::from_millis(100);
            let high = sink(&siblings, &policy(&[(delivery::PRIORITY, "high")]), 300);
            let low = sink(&siblings, &policy(&[(delivery::PRIORITY, "low")]), 300);
            let (high, low) = tokio::join!(high.deliver(1, 1, span), low.deliver(1, 1, span));
            let end = high[299];
            assert_eq!(end, 29_900);
            let meanwhile = low.iter().filter(|at| **at < end).count();
            assert!(
                (10..40).contains(&meanwhile),
                "{meanwhile} before the high one was through"
            );
            // And then it has the link to itself.
            assert!(low[299] < end + 30_000, "{}", low[299]);
        });
    }

    #[test]
    fn one_that_hangs_for_ten_minutes_hinders_nobody() {
        simulated(async {
            let siblings = Siblings::default();
            let high = sink(&siblings, &policy(&[(delivery::PRIORITY, "high")]), 10);
            let low = sink(&siblings, &policy(&[]), 600);
            let (_, low) = tokio::join!(
                high.deliver(1, 1, Duration::from_secs(600)),
                low.deliver(1, 1, Duration::from_millis(100))
            );
            assert!(low[599] < 65_000, "{}", low[599]);
        });
    }

    #[test]
    fn nothing_is_lost_when_a_wait_is_given_up() {
        simulated(async {
            let mut paced = alone(&[(delivery::ACTIVE, "22:00-06:00")], 1);
            let wait = tokio::time::timeout(Duration::from_secs(60), paced.deliveries.recv());
            assert!(wait.await.is_err());
            assert_eq!(paced.deliveries.recv().await, Some(delivery(1)));
            assert_eq!(paced.deliveries.recv().await, None);
        });
    }

    #[test]
    fn age_is_never_negative_and_makes_history() {
        simulated(async {
            let sink = alone(&[(delivery::HISTORICAL_AFTER, "60000")], 0);
            let age = |made| sink.deliveries.age_of(Timestamp(made));
            assert_eq!(age(EVENING - 59_999), (59_999, false));
            assert_eq!(age(EVENING - 60_000), (60_000, true));
            assert_eq!(age(EVENING + 1), (0, false));
        });
    }
}
