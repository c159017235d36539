//! Which of a daemon's sinks goes first where they share a link.
//!
//! A sink yields while one of a higher priority has outputs waiting, is connected, is not held back
//! by its own pace or hours, and gets on. It does not yield to one whose far side swallows
//! everything, and for no longer than [`YIELD_MAX`] before it has a turn of [`TURN`] in any case.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Metrics, OutboxMetrics};

/// A sink that has delivered nothing for so long does not get on.
const STALLED_AFTER: Duration = Duration::from_secs(2);
/// So long a sink yields at most,
const YIELD_MAX: Duration = Duration::from_secs(5);
/// and then it may deliver for so long.
const TURN: Duration = Duration::from_millis(500);
/// How often a sink that yields looks whether it must.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Who goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before nobody.
    Low,
    /// Before the low ones.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// What the sinks of a daemon know of each other.
#[derive(Clone, Debug, Default)]
pub struct Siblings {
    all: Arc<Mutex<Vec<Arc<Standing>>>>,
}

impl Siblings {
    /// A sink among them; it leaves when this is dropped.
    #[must_use]
    pub fn join(
        &self,
        priority: Priority,
        metrics: Arc<Metrics>,
        outbox: Arc<OutboxMetrics>,
    ) -> Member {
        let standing = Arc::new(Standing {
            priority,
            metrics,
            outbox,
            held_back: AtomicBool::new(false),
        });
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&standing));
        Member {
            siblings: self.clone(),
            standing,
            seen: Vec::new(),
            yields_since: None,
            turn_until: None,
        }
    }
}

/// How a sink stands, as the others see it.
#[derive(Debug)]
struct Standing {
    priority: Priority,
    metrics: Arc<Metrics>,
    outbox: Arc<OutboxMetrics>,
    held_back: AtomicBool,
}

impl Standing {
    fn wants_the_link(&self) -> bool {
        self.metrics.connected.load(Ordering::Relaxed)
            && self.outbox.waiting.load(Ordering::Relaxed) > 0
            && !self.held_back.load(Ordering::Relaxed)
    }

    fn settled(&self) -> u64 {
        let delivered = self.metrics.delivered.load(Ordering::Relaxed);
        delivered.wrapping_add(self.metrics.refused.load(Ordering::Relaxed))
    }
}

/// How far another sink was when it was last looked at.
#[derive(Debug)]
struct Seen {
    standing: Arc<Standing>,
    settled: u64,
    since: Instant,
}

/// One sink among its siblings.
#[derive(Debug)]
pub struct Member {
    siblings: Siblings,
    standing: Arc<Standing>,
    seen: Vec<Seen>,
    yields_since: Option<Instant>,
    turn_until: Option<Instant>,
}

impl Member {
    /// The accounts of this sink's outbox.
    pub(super) fn outbox(&self) -> &Arc<OutboxMetrics> {
        &self.standing.outbox
    }

    /// Whether its own pace or hours keep it from delivering.
    pub(super) fn held_back(&self, is_held: bool) {
        self.standing.held_back.store(is_held, Ordering::Relaxed);
    }

    /// When to look again, while this sink has to yield.
    pub(super) fn yields_until(&mut self, now: Instant) -> Option<Instant> {
        if !self.someone_goes_first(now) {
            self.yields_since = None;
            return None;
        }
        if self.turn_until.is_some_and(|until| now < until) {
            return None;
        }
        let since = *self.yields_since.get_or_insert(now);
        if now.saturating_duration_since(since) < YIELD_MAX {
            return Some(now + LOOK_AGAIN);
        }
        self.yields_since = None;
        self.turn_until = Some(now + TURN);
        None
    }

    fn someone_goes_first(&mut self, now: Instant) -> bool {
        if self.standing.priority == Priority::High {
            return false;
        }
        self.look_round(now);
        let mut is_one = false;
        for seen in &mut self.seen {
            let settled = seen.standing.settled();
            if settled != seen.settled || !seen.standing.wants_the_link() {
                seen.settled = settled;
                seen.since = now;
            }
            let gets_on = now.saturating_duration_since(seen.since) < STALLED_AFTER;
            is_one |= gets_on && seen.standing.wants_the_link();
        }
        is_one
    }

    /// Takes up those of a higher priority that have come, and leaves out those that have gone.
    fn look_round(&mut self, now: Instant) {
        let all = self.siblings.all.lock();
        let all = all.unwrap_or_else(PoisonError::into_inner);
        let is_higher = |one: &&Arc<Standing>| one.priority > self.standing.priority;
        let higher = || all.iter().filter(is_higher);
        let known = |seen: &Seen, one: &Arc<Standing>| Arc::ptr_eq(&seen.standing, one);
        self.seen
            .retain(|seen| higher().any(|one| known(seen, one)));
        for one in higher() {
            if !self.seen.iter().any(|seen| known(seen, one)) {
                self.seen.push(Seen {
                    standing: Arc::clone(one),
                    settled: one.settled(),
                    since: now,
                });
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let all = self.siblings.all.lock();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| !Arc::ptr_eq(one, &self.standing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(counter: &std::sync::atomic::AtomicU64, number: u64) {
        counter.fetch_add(number, Ordering::Relaxed);
    }

    struct Busy {
        _member: Member,
        metrics: Arc<Metrics>,
        outbox: Arc<OutboxMetrics>,
    }

    impl Busy {
        fn among(siblings: &Siblings, priority: Priority) -> Busy {
            let (metrics, outbox) = (Arc::<Metrics>::default(), Arc::<OutboxMetrics>::default());
            metrics.connected.store(true, Ordering::Relaxed);
            add(&outbox.waiting, 100);
            Busy {
                _member: siblings.join(priority, Arc::clone(&metrics), Arc::clone(&outbox)),
                metrics,
                outbox,
            }
        }
    }

    fn idle(siblings: &Siblings, priority: Priority) -> Member {
        siblings.join(priority, Arc::default(), Arc::default())
    }

    #[test]
    fn only_a_higher_one_that_is_at_work_goes_first() {
        let siblings = Siblings::default();
        let now = Instant::now();
        let mut low = idle(&siblings, Priority::Low);
        let mut normal = idle(&siblings, Priority::Normal);
        assert_eq!(low.yields_until(now), None);
        let busy = Busy::among(&siblings, Priority::Normal);
        assert_eq!(low.yields_until(now), Some(now + LOOK_AGAIN));
        assert_eq!(normal.yields_until(now), None);
        busy.metrics.connected.store(false, Ordering::Relaxed);
        assert_eq!(low.yields_until(now), None);
        busy.metrics.connected.store(true, Ordering::Relaxed);
        busy._member.held_back(true);
        assert_eq!(low.yields_until(now), None);
        busy._member.held_back(false);
        assert!(low.yields_until(now).is_some());
        busy.outbox.waiting.store(0, Ordering::Relaxed);
        assert_eq!(low.yields_until(now), None);
        let high = Busy::among(&siblings, Priority::High);
        assert!(normal.yields_until(now).is_some());
        drop(high);
        assert_eq!(normal.yields_until(now), None);
    }

    /// Looks every 50 ms for `seconds`; how often it need not yield.
    fn turns(low: &mut Member, from: Instant, seconds: u32, mut between: impl FnMut()) -> u32 {
        let looks = seconds * 20;
        let free = (0..looks).filter(|look| {
            between();
            low.yields_until(from + LOOK_AGAIN * *look).is_none()
        });
        u32::try_from(free.count()).unwrap()
    }

    #[test]
    fn nobody_starves_and_a_dead_one_stops_nobody() {
        let siblings = Siblings::default();
        let now = Instant::now();
        let high = Busy::among(&siblings, Priority::High);
        let mut low = idle(&siblings, Priority::Low);
        let minute = turns(&mut low, now, 60, || add(&high.metrics.delivered, 1));
        // 10 of each 110 looks are in a turn.
        assert!((100..=120).contains(&minute), "{minute}");
        // The far side of the high one swallows what it is sent.
        let later = now + Duration::from_secs(60);
        let dead = turns(&mut low, later, 60, || {});
        assert!(dead >= 1_200 - 60, "{dead}");
    }
}
