//! The sign of life of the turn: whoever watches the daemon hears it only as long as the loop that
//! takes input comes round.

use std::time::{Duration, Instant};

/// So often within the time after which the watcher acts.
const BEATS: u32 = 3;

/// A pulse, or none when nobody watches.
#[derive(Default)]
pub struct Pulse(Option<Watched>);

struct Watched {
    every: Duration,
    next: Instant,
    beat: Box<dyn Fn() + Send>,
}

impl Pulse {
    /// One that calls `beat`, which must not wait, so often that no two calls lie as far apart as
    /// `within`.
    #[must_use]
    pub fn new(within: Duration, beat: impl Fn() + Send + 'static) -> Pulse {
        Pulse(Some(Watched {
            every: within / BEATS,
            next: Instant::now(),
            beat: Box::new(beat),
        }))
    }

    /// The loop has come round.
    pub(super) fn turned(&mut self) {
        let now = Instant::now();
        if let Some(watched) = self.0.as_mut().filter(|watched| watched.next <= now) {
            watched.next = now + watched.every;
            (watched.beat)();
        }
    }

    /// How long the loop may wait.
    pub(super) fn left(&self) -> Option<Duration> {
        let next = self.0.as_ref()?.next;
        Some(next.saturating_duration_since(Instant::now()))
    }
}

impl std::fmt::Debug for Pulse {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let every = self.0.as_ref().map(|watched| watched.every);
        out.debug_tuple("Pulse").field(&every).finish()
    }
}
