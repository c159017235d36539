//! What the service manager hears: when the daemon is ready, how it goes, and that the turn turns.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded, never, tick};

use super::run::Running;
use crate::pipeline::Pulse;
use crate::supervisor::{Notice, Supervisor};

/// How often the log says what was counted, if anything was.
const COUNTS_EVERY: Duration = Duration::from_secs(600);
/// How often the service manager hears how it goes, if anything has changed.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// How much more time is asked for at once while the store is opened.
const PATIENCE: Duration = Duration::from_secs(30);

/// When something is to be told that nothing else gives rise to.
pub(super) struct News {
    /// What was counted, for the log.
    pub(super) counts: Receiver<Instant>,
    /// How it goes, for the service manager.
    pub(super) status: Receiver<Instant>,
    /// What it was told.
    told: String,
}

impl News {
    pub(super) fn of(supervisor: &Supervisor) -> News {
        News {
            counts: tick(COUNTS_EVERY),
            status: match supervisor.is_there() {
                true => tick(STATUS_EVERY),
                false => never(),
            },
            told: String::new(),
        }
    }
}

/// Does what may take long, while the service manager is told to wait for it. Opening the store has
/// limits of its own where it could hang.
pub(super) fn patiently<T>(supervisor: &Supervisor, work: impl FnOnce() -> T) -> T {
    if !supervisor.is_there() {
        return work();
    }
    supervisor.tell(Notice::Status("Opening the store".to_owned()));
    let (done, is_done) = bounded::<()>(0);
    let supervisor = supervisor.clone();
    let ask = move || {
        while is_done.recv_timeout(PATIENCE / 3)
            == Err(crossbeam::channel::RecvTimeoutError::Timeout)
        {
            supervisor.tell(Notice::Patience(PATIENCE));
        }
    };
    // Without the thread there is the time that the service manager gives by itself.
    let _ = std::thread::Builder::new()
        .name("patience".to_owned())
        .spawn(ask);
    let result = work();
    drop(done);
    result
}

/// The pulse of the turn, when somebody feels it.
pub(super) fn pulse(supervisor: &Supervisor) -> Pulse {
    let Some(within) = supervisor.watchdog() else {
        return Pulse::default();
    };
    let supervisor = supervisor.clone();
    Pulse::new(within, move || supervisor.tell(Notice::Alive))
}

impl Running {
    /// The configuration in force is at work; `refused` says why another one is not.
    pub(super) fn tell_ready(&mut self, refused: Option<String>) {
        self.refused = refused;
        let ready = Notice::Ready(self.status());
        self.orders.supervisor.tell(ready);
    }

    /// How it goes, when that is not what was told last.
    pub(super) fn tell_status(&self, news: &mut News) {
        let status = self.status();
        if status != news.told {
            self.orders.supervisor.tell(Notice::Status(status.clone()));
            news.told = status;
        }
    }

    fn status(&self) -> String {
        let counted = &self.crew.counted;
        if let Some(degraded) = counted.pipeline.health.degraded() {
            return format!("Degraded, {}: {}", degraded.trouble.word(), degraded.why);
        }
        let refused = match (&self.refused, &self.in_force) {
            (None, _) => String::new(),
            (Some(why), Some(_)) => format!("; a new configuration is refused: {why}"),
            (Some(why), None) => return format!("Nothing runs: {why}"),
        };
        let waiting = counted.outboxes.iter();
        let waiting = waiting.map(|(_, outbox)| outbox.waiting.load(Ordering::Relaxed));
        format!(
            "Running {} sources and {} sinks; {} rows in, {} outputs, {} waiting{refused}",
            self.crew.sources.len(),
            self.crew.sinks.len(),
            counted.pipeline.rows.load(Ordering::Relaxed),
            counted.pipeline.outputs.load(Ordering::Relaxed),
            waiting.sum::<u64>(),
        )
    }
}
