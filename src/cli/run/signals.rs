//! What the system tells the daemon, from the first moment to the last.
//!
//! One thread takes signals, all others leave them to it. So they can be held back as a whole: when
//! this process becomes another one, what comes meanwhile waits for that one to listen, and nothing
//! is taken for what the system does with a signal that nobody listens to.

use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Those that are listened to.
const HEARD: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// How long SIGINT, which comes by a thread of its own, may take from there to here.
const TOLD_WITHIN: Duration = Duration::from_millis(20);

/// What the system tells.
pub(super) struct Signals {
    /// SIGINT or SIGTERM.
    pub(super) stop: Receiver<()>,
    /// SIGHUP.
    pub(super) reload: Receiver<()>,
    hold: mpsc::Sender<Sender<()>>,
}

impl Signals {
    /// Listens. To be called before any thread is started.
    pub(super) fn listen() -> Result<Signals, String> {
        let all: SigSet = HEARD.into_iter().collect();
        // For this thread and all that it starts.
        all.thread_block().map_err(|error| error.to_string())?;
        // Whoever hears a signal must never wait: with two under way, further ones say nothing new.
        let (tell_stop, stop) = bounded(2);
        let (tell_reload, reload) = bounded(1);
        let (hold, mut holds) = mpsc::channel::<Sender<()>>(1);
        let interrupted = tell_stop.clone();
        let handler = ctrlc::set_handler(move || {
            let _ = interrupted.try_send(());
        });
        handler.map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let heard = |kind| {
            let _entered = runtime.enter();
            signal(kind).map_err(|error| error.to_string())
        };
        let mut terminated = heard(SignalKind::terminate())?;
        let mut hung_up = heard(SignalKind::hangup())?;
        let listen = async move {
            let _ = all.thread_unblock();
            loop {
                tokio::select! {
                    biased;
                    _ = terminated.recv() => drop(tell_stop.try_send(())),
                    _ = hung_up.recv() => drop(tell_reload.try_send(())),
                    Some(held) = holds.recv() => {
                        let _ = all.thread_block();
                        // What had come by now is still told.
                        tokio::task::yield_now().await;
                        tokio::select! {
                            biased;
                                    _ = terminated.recv() => drop(tell_stop.try_send(())),
                            () = std::future::ready(()) => {}
                        }
                        let _ = held.send(());
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let spawned = thread.spawn(move || runtime.block_on(listen));
        spawned.map_err(|error| error.to_string())?;
        Ok(Signals { stop, reload, hold })
    }

    /// What comes from now on waits for whom this process becomes. False when it was told to stop
    /// before.
    pub(super) fn hold(&self) -> bool {
        let (held, is_held) = bounded(1);
        if self.hold.blocking_send(held).is_ok() {
            let _ = is_held.recv();
        }
        self.stop.recv_timeout(TOLD_WITHIN).is_err()
    }
}
