//! How much is logged: what the configuration says, and what somebody wants for a while.
//!
//! Levels that somebody sets stand over the configuration's and over the environment's, for the
//! program's own targets alone: what libraries say in detail may be what nobody should read. One
//! that was set for some time goes back by itself, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// What all targets of the program begin with.
pub const OWN_TARGET: &str = "eventflux";
/// Targets that may be set at a time.
pub const SET_MAX: usize = 8;
/// The longest name of a target, in bytes.
const TARGET_BYTES_MAX: usize = 100;

/// Why a level is not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LevelFault {
    /// The level is none.
    #[error("the level is `off`, `error`, `warn`, `info`, `debug` or `trace`")]
    Level,
    /// The target is none of the program's.
    #[error("the target is `eventflux` or a module of it, such as `eventflux::source`")]
    Target,
    /// There are too many.
    #[error("{SET_MAX} targets are set already")]
    Full,
    /// What is to take the level back could not be started.
    #[error("it could not be taken back later: {why}")]
    Start {
        /// What the operating system says.
        why: String,
    },
}

/// Through which the level is set. Its clones are one.
#[derive(Clone)]
pub struct LogControl(Arc<Shared>);

struct Shared {
    inner: Mutex<Inner>,
    /// Told when there is something else to wait for.
    changed: Condvar,
}

struct Inner {
    levels: Levels,
    apply: Box<dyn FnMut(Targets) + Send>,
    /// Whether somebody waits to take levels back.
    waits: bool,
}

impl Default for LogControl {
    /// Of a log that nobody writes.
    fn default() -> LogControl {
        LogControl::new(Levels::new(None, "info"), |_| {})
    }
}

impl std::fmt::Debug for LogControl {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("LogControl")
    }
}

impl LogControl {
    /// Tells `apply` what is to be logged, whenever that changes.
    pub(super) fn new(levels: Levels, apply: impl FnMut(Targets) + Send + 'static) -> LogControl {
        let inner = Inner {
            levels,
            apply: Box::new(apply),
            waits: false,
        };
        LogControl(Arc::new(Shared {
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        }))
    }

    /// Another level is configured. What somebody has set stands.
    pub fn follow(&self, level: &str) {
        let mut inner = self.lock();
        level.clone_into(&mut inner.levels.configured);
        inner.apply();
    }

    /// Sets the level of a target, for some time or until the end of the process, in place of what
    /// was set for it before.
    ///
    /// # Errors
    /// When there is no such level, or the target is not one of the program's.
    pub fn set(
        &self,
        target: &str,
        level: &str,
        within: Option<Duration>,
    ) -> Result<(), LevelFault> {
        let level = level_named(level).ok_or(LevelFault::Level)?;
        if !is_own(target) {
            return Err(LevelFault::Target);
        }
        let until = within.and_then(|span| Instant::now().checked_add(span));
        let mut inner = self.lock();
        let set = &inner.levels.set;
        if set.len() >= SET_MAX && !set.contains_key(target) {
            return Err(LevelFault::Full);
        }
        if until.is_some() && !inner.waits {
            inner.waits = true;
            if let Err(error) = self.wait() {
                inner.waits = false;
                let why = error.to_string();
                return Err(LevelFault::Start { why });
            }
        }
        let set = &mut inner.levels.set;
        set.insert(target.to_owned(), Set { level, until });
        inner.apply();
        drop(inner);
        self.0.changed.notify_all();
        Ok(())
    }

    /// What is set: targets, levels, and how much longer.
    #[must_use]
    pub fn all_set(&self) -> Vec<(String, String, Option<Duration>)> {
        let inner = self.lock();
        let now = Instant::now();
        let left = |set: &Set| set.until.map(|at| at.saturating_duration_since(now));
        let all = inner.levels.set.iter();
        all.map(|(target, set)| (target.clone(), set.level.to_string(), left(set)))
            .collect()
    }

    /// The level that is configured.
    #[must_use]
    pub fn configured(&self) -> String {
        self.lock().levels.configured.clone()
    }

    /// Has a thread take levels back when their time is over; it ends when there is none.
    fn wait(&self) -> std::io::Result<()> {
        let shared = Arc::clone(&self.0);
        let thread = std::thread::Builder::new().name("log levels".to_owned());
        let take_back = move || {
            let control = LogControl(shared);
            let mut inner = control.lock();
            loop {
                let now = Instant::now();
                if inner.levels.expire(now) {
                    inner.apply();
                }
                let Some(next) = inner.levels.next_end() else {
                    inner.waits = false;
                    return;
                };
                let left = next.saturating_duration_since(now);
                let waited = control.0.changed.wait_timeout(inner, left);
                inner = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        };
        thread.spawn(take_back).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn apply(&mut self) {
        (self.apply)(self.levels.filter());
    }
}

/// What is logged.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    /// What the environment says, which stands over the configuration.
    written: Option<Targets>,
    configured: String,
    set: BTreeMap<String, Set>,
}

#[derive(Clone, Copy, Debug)]
struct Set {
    level: LevelFilter,
    until: Option<Instant>,
}

impl Levels {
    pub(super) fn new(written: Option<Targets>, level: &str) -> Levels {
        Levels {
            written,
            configured: level.to_owned(),
            set: BTreeMap::new(),
        }
    }

    pub(super) fn filter(&self) -> Targets {
        let base = match &self.written {
            Some(written) => written.clone(),
            None => configured(&self.configured),
        };
        let set = self.set.iter();
        base.with_targets(set.map(|(target, set)| (target.clone(), set.level)))
    }

    /// Takes back what was set until `now` or before it. Whether there was any.
    fn expire(&mut self, now: Instant) -> bool {
        let before = self.set.len();
        self.set
            .retain(|_, set| set.until.is_none_or(|until| until > now));
        self.set.len() < before
    }

    fn next_end(&self) -> Option<Instant> {
        self.set.values().filter_map(|set| set.until).min()
    }
}

fn configured(level: &str) -> Targets {
    // Libraries speak when something is wrong with them; the broker for demonstrations also when a
    // client just goes away.
    let text = format!("warn,rumqttd=off,{OWN_TARGET}={level}");
    text.parse().unwrap_or_default()
}

fn level_named(level: &str) -> Option<LevelFilter> {
    // Numbers are levels, too, to those who made the filters.
    let known = ["off", "error", "warn", "info", "debug", "trace"];
    let known = known.iter().find(|known| **known == level)?;
    known.parse().ok()
}

fn is_own(target: &str) -> bool {
    let rest = target.strip_prefix(OWN_TARGET);
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
    target.len() <= TARGET_BYTES_MAX
        && rest.is_some_and(|rest| {
            rest.is_empty() || (rest.starts_with("::") && rest.chars().all(is_part))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam::channel::{Receiver, bounded};
    use tracing::Level;

    const LONG: Duration = Duration::from_secs(3600);

    fn control() -> (LogControl, Receiver<Targets>) {
        let (to, applied) = bounded(SET_MAX + 2);
        let apply = move |filter| to.send(filter).unwrap();
        (LogControl::new(Levels::new(None, "info"), apply), applied)
    }

    fn lets(filter: &Targets, target: &str, level: Level) -> bool {
        filter.would_enable(target, &level)
    }

    #[test]
    fn what_is_set_stands_over_the_configuration() {
        let (control, applied) = control();
        control.set("eventflux::source", "debug", None).unwrap();
        let filter = applied.recv().unwrap();
        assert!(lets(&filter, "eventflux::source::mqtt", Level::DEBUG));
        assert!(!lets(&filter, "eventflux::sink", Level::DEBUG));
        control.follow("error");
        let filter = applied.recv().unwrap();
        assert!(lets(&filter, "eventflux::source", Level::DEBUG));
        assert!(!lets(&filter, "eventflux::sink", Level::WARN));
        assert!(lets(&filter, "rumqttc", Level::WARN));
    }

    #[test]
    fn what_is_set_stands_over_the_environment() {
        let written: Targets = "eventflux=warn,rumqttc=debug".parse().unwrap();
        let mut levels = Levels::new(Some(written), "trace");
        let level = LevelFilter::INFO;
        levels
            .set
            .insert(OWN_TARGET.to_owned(), Set { level, until: None });
        let filter = levels.filter();
        assert!(lets(&filter, "eventflux::sink", Level::INFO));
        assert!(!lets(&filter, "eventflux::sink", Level::DEBUG));
        assert!(lets(&filter, "rumqttc", Level::DEBUG));
    }

    #[test]
    fn it_goes_back_by_itself() {
        let (control, applied) = control();
        control.set(OWN_TARGET, "trace", None).unwrap();
        let soon = Duration::from_millis(20);
        control.set(OWN_TARGET, "debug", Some(soon)).unwrap();
        control.set("eventflux::sink", "trace", Some(LONG)).unwrap();
        let filters: Vec<Targets> = applied.iter().take(4).collect();
        assert!(lets(&filters[2], "eventflux::source", Level::DEBUG));
        assert!(!lets(&filters[3], "eventflux::source", Level::DEBUG));
        assert!(lets(&filters[3], "eventflux::sink", Level::TRACE));
        // The thread waits for an hour and hears of what ends before.
        control.set("eventflux::sink", "info", Some(soon)).unwrap();
        let filters: Vec<Targets> = applied.iter().take(2).collect();
        assert!(!lets(&filters[1], "eventflux::sink", Level::DEBUG));
        assert_eq!(control.all_set(), []);
    }

    #[test]
    fn only_levels_of_the_programs_own_targets_are_set_and_not_too_many() {
        let (control, applied) = control();
        let refused = |target, level| control.set(target, level, None).unwrap_err();
        for level in ["", "3", "loud", "debug,rumqttc=trace"] {
            assert_eq!(refused(OWN_TARGET, level), LevelFault::Level);
        }
        let long = format!("eventflux::{}", "a".repeat(TARGET_BYTES_MAX));
        for target in [
            "",
            "rumqttc",
            "eventflux2",
            "eventflux::a=b",
            "eventflux,b",
            &long,
        ] {
            assert_eq!(refused(target, "debug"), LevelFault::Target, "{target}");
        }
        for number in 0..SET_MAX {
            let target = format!("eventflux::m{number}");
            control.set(&target, "debug", None).unwrap();
        }
        assert_eq!(refused("eventflux::more", "debug"), LevelFault::Full);
        control.set("eventflux::m0", "off", None).unwrap();
        assert_eq!(applied.len(), SET_MAX + 1);
    }
}
