//! What the daemon tells the service manager that started it: that it is ready, how it goes, that
//! it still turns, that it reads its configuration anew, that it ends. The words are those of
//! `sd_notify(3)`; with the feature `systemd` libsystemd carries them, without it a socket of ours.
//!
//! Where nobody listens, which is when `NOTIFY_SOCKET` is not set, nothing is said and nothing
//! fails. A service manager that does not read any more stops nothing either: what could wait for
//! it is said by a thread that nobody waits for.

use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

/// Notices that may wait to be said. They come seldom; when so many wait, nobody reads them.
const NOTICES_MAX: usize = 32;

/// A service manager, or none.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    to: Option<Sender<Notice>>,
    watchdog: Option<Duration>,
}

/// What there is to tell. A status is a line of text for whoever looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Events are taken, or taken again after [`Notice::Reloading`].
    Ready(String),
    /// How it goes.
    Status(String),
    /// Whatever is under way takes its time: so long from now on, unless told again.
    Patience(Duration),
    /// The configuration is read anew.
    Reloading,
    /// The daemon ends.
    Stopping(String),
    /// The turn still turns.
    Alive,
}

impl Supervisor {
    /// The one that the environment names; none when there is none, or no thread to tell it.
    #[must_use]
    pub fn of_environment() -> Supervisor {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Supervisor::default();
        }
        let (to, notices) = bounded(NOTICES_MAX);
        let thread = std::thread::Builder::new().name("notices".to_owned());
        match thread.spawn(move || tell_all(&notices)) {
            Ok(_) => Supervisor {
                to: Some(to),
                watchdog: watchdog_of(|name| std::env::var(name).ok(), std::process::id()),
            },
            Err(error) => {
                tracing::error!("the service manager is told nothing: no thread: {error}");
                Supervisor::default()
            }
        }
    }

    /// Whether anybody listens.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.to.is_some()
    }

    /// How long it waits for [`Notice::Alive`] before it restarts the daemon.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells it, and never waits. What finds no room is gone; the same is true once more later.
    pub fn tell(&self, notice: Notice) {
        if let Some(Err(TrySendError::Full(lost))) = self.to.as_ref().map(|to| to.try_send(notice))
        {
            tracing::debug!("the service manager does not hear {lost:?}");
        }
    }
}

/// The time of the watchdog, when it is meant for the process `pid`.
fn watchdog_of(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Option<Duration> {
    let meant = variable("WATCHDOG_PID");
    if meant.is_some_and(|meant| meant != pid.to_string()) {
        return None;
    }
    let us: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    (us > 0).then(|| Duration::from_micros(us))
}

fn tell_all(notices: &Receiver<Notice>) {
    for notice in notices {
        if let Err(error) = send(&words(&notice)) {
            // Said at the level that is not written by default: there will be a next one.
            tracing::debug!("the service manager does not hear {notice:?}: {error}");
        }
    }
}

/// A notice as variables of `sd_notify(3)`.
fn words(notice: &Notice) -> Vec<(&'static str, String)> {
    let yes = || "1".to_owned();
    match notice {
        Notice::Ready(status) => vec![("READY", yes()), ("STATUS", line(status))],
        Notice::Status(status) => vec![("STATUS", line(status))],
        Notice::Patience(span) => vec![("EXTEND_TIMEOUT_USEC", span.as_micros().to_string())],
        Notice::Reloading => {
            let mut words = vec![("RELOADING", yes())];
            // With it the service manager tells this reload from the one before.
            words.extend(monotonic_us().map(|us| ("MONOTONIC_USEC", us)));
            words.push(("STATUS", "Reading the configuration anew".to_owned()));
            words
        }
        Notice::Stopping(status) => vec![("STOPPING", yes()), ("STATUS", line(status))],
        Notice::Alive => vec![("WATCHDOG", yes())],
    }
}

/// A line break would end the variable.
fn line(text: &str) -> String {
    text.split(['\n', '\r'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn monotonic_us() -> Option<String> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).ok()?;
    Some(Duration::from(now).as_micros().to_string())
}

#[cfg(feature = "systemd")]
fn send(words: &[(&'static str, String)]) -> std::io::Result<()> {
    systemd::daemon::notify(words.iter())
        .map(|_| ())
        .map_err(|error| std::io::Error::other(error.to_string()))
}

#[cfg(not(feature = "systemd"))]
fn send(words: &[(&'static str, String)]) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let at = match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    let lines = words.iter().map(|(name, value)| format!("{name}={value}"));
    let text = lines.collect::<Vec<_>>().join("\n");
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let of = |us: Option<&str>, pid: Option<&str>| {
            let variable = |name: &str| match name {
                "WATCHDOG_USEC" => us.map(str::to_owned),
                _ => pid.map(str::to_owned),
            };
            watchdog_of(variable, 7)
        };
        assert_eq!(
            of(Some("60000000"), Some("7")),
            Some(Duration::from_secs(60))
        );
        assert_eq!(of(Some("250000"), None), Some(Duration::from_millis(250)));
        assert_eq!(of(Some("60000000"), Some("8")), None);
        assert_eq!(of(Some("0"), Some("7")), None);
        assert_eq!(of(Some("soon"), None), None);
        assert_eq!(of(None, Some("7")), None);
    }

    #[test]
    fn a_status_is_one_line() {
        let ready = words(&Notice::Ready("one\nREADY=0".to_owned()));
        let said: Vec<(&str, &str)> = ready.iter().map(|(name, text)| (*name, &**text)).collect();
        assert_eq!(said, [("READY", "1"), ("STATUS", "one")]);
    }

    #[test]
    fn a_supervisor_that_does_not_read_holds_nobody_up() {
        let (to, unread) = bounded(1);
        let supervisor = Supervisor {
            to: Some(to),
            watchdog: None,
        };
        for _ in 0..3 {
            supervisor.tell(Notice::Alive);
        }
        assert_eq!(unread.try_iter().count(), 1);
        drop(unread);
        supervisor.tell(Notice::Alive);
    }
}
