//! `run`: the daemon, until it is told to stop. SIGHUP has it read its configuration anew.

use std::path::PathBuf;

use clap::ValueEnum;
use crossbeam::channel::{Receiver, Sender, bounded};
use crossbeam::select;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, Terminal, prepare};
use crate::config::Settings;
use crate::daemon::{DaemonError, Door, Failure, Orders, Prepared};
use crate::logging::{self, Format};
use crate::pipeline::{Outcome, PipelineError};
use crate::store::StoreError;
use crate::supervisor::Supervisor;

/// What the log looks like.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    /// The journal's own where the standard error leads to it, else text
    Auto,
    /// For people
    Text,
    /// A JSON object a line
    Json,
    /// For the journal, with its priorities and fields
    Journal,
}

impl LogFormat {
    fn format(self) -> Format {
        match self {
            LogFormat::Auto => Format::of_environment(),
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
            LogFormat::Journal => Format::Journal,
        }
    }
}

pub(super) fn run(
    files: &[PathBuf],
    store: Option<PathBuf>,
    log: LogFormat,
    terminal: &mut Terminal<'_>,
) -> Exit {
    super::allocator::limit();
    // Before anything else, so that no signal is taken for something else.
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            terminal.complain(format_args!("cannot take signals: {error}"));
            return Exit::Failure;
        }
    };
    let mut prepared = match prepare(files, terminal) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    if let Some(store) = &store {
        prepared.settings.store.path.clone_from(store);
    }
    let mut log_at = logging::start(log.format(), prepared.settings.log.level.name());
    let supervisor = Supervisor::of_environment();
    // Transparent huge pages triple the resident memory of a small process. A kernel without them
    // refuses, and that is as well.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let (stop, stopped) = bounded(1);
    let (door, requests) = Door::new();
    let orders = Orders {
        stop: stopped,
        requests,
        apply: Box::new(move |settings: &Settings| log_at(settings.log.level.name())),
        supervisor,
    };
    let (end, ended) = bounded(1);
    let daemon = std::thread::Builder::new()
        .name("daemon".to_owned())
        .spawn(move || {
            // After a second signal nobody listens.
            let _ = end.send(prepared.run(orders));
        });
    if let Err(error) = daemon {
        terminal.complain(format_args!("cannot start a thread: {error}"));
        return Exit::Failure;
    }
    let again = move || {
        let (files, store) = (files.to_owned(), store.clone());
        door.knock(move || prepare_anew(&files, store));
    };
    attend(&signals, &stop, again, &ended, terminal)
}

/// Passes on what the system tells, until the daemon has ended.
fn attend(
    signals: &Signals,
    stop: &Sender<()>,
    reload: impl Fn(),
    ended: &Receiver<Result<Outcome, DaemonError>>,
    terminal: &mut Terminal<'_>,
) -> Exit {
    let mut told = false;
    loop {
        select! {
            recv(signals.stop) -> _ => {
                if told {
                    terminal.complain("told twice to stop: ending at once");
                    return Exit::Forced;
                }
                told = true;
                let _ = stop.try_send(());
            }
            recv(signals.reload) -> _ => {
                if told {
                    tracing::warn!("the configuration is not reloaded: the daemon is stopping");
                } else {
                    reload();
                }
            }
            recv(ended) -> result => return match result {
                Ok(result) => end_of(result, terminal),
                Err(_) => {
                    terminal.complain("eventflux: the daemon's thread has ended; this is a bug");
                    Exit::Failure
                }
            },
        }
    }
}

fn end_of(result: Result<Outcome, DaemonError>, terminal: &mut Terminal<'_>) -> Exit {
    match result {
        Ok(Outcome { last, waiting }) => {
            tracing::info!("clean at {last}; {waiting} outputs wait for the next start");
            Exit::Success
        }
        Err(error) => {
            terminal.complain(format_args!("eventflux: {error}"));
            exit_of(&error)
        }
    }
}

/// The same configuration as at the start, as it is written now.
fn prepare_anew(files: &[PathBuf], store: Option<PathBuf>) -> Result<Prepared, Failure> {
    let mut prepared = crate::daemon::prepare_all(files, &super::environment)?;
    if let Some(store) = store {
        prepared.settings.store.path = store;
    }
    Ok(prepared)
}

/// What the system tells.
struct Signals {
    /// SIGINT or SIGTERM.
    stop: Receiver<()>,
    /// SIGHUP.
    reload: Receiver<()>,
}

impl Signals {
    fn listen() -> Result<Signals, String> {
        // Whoever hears a signal must never wait: with two under way, further ones say nothing new.
        let (tell_stop, stop) = bounded(2);
        let (tell_reload, reload) = bounded(1);
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
            loop {
                tokio::select! {
                    _ = terminated.recv() => drop(tell_stop.try_send(())),
                    _ = hung_up.recv() => drop(tell_reload.try_send(())),
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let spawned = thread.spawn(move || runtime.block_on(listen));
        spawned.map_err(|error| error.to_string())?;
        Ok(Signals { stop, reload })
    }
}

pub(super) fn exit_of(error: &DaemonError) -> Exit {
    match error {
        DaemonError::Store(
            StoreError::Locked { .. }
            | StoreError::Unusable { .. }
            | StoreError::TooNew { .. }
            | StoreError::Full { .. },
        ) => Exit::Store,
        // It could not be opened again.
        DaemonError::Pipeline(error)
            if matches!(
                error.store(),
                Some(
                    StoreError::Unusable { .. }
                        | StoreError::TooNew { .. }
                        | StoreError::Full { .. }
                        | StoreError::ReadOnly { .. }
                )
            ) =>
        {
            Exit::Store
        }
        DaemonError::Pipeline(PipelineError::StateWouldBeLost { .. }) => Exit::Configuration,
        DaemonError::Late { .. } => Exit::Forced,
        DaemonError::StreamFailed { .. } => Exit::StreamFailed,
        DaemonError::Store(_) | DaemonError::Pipeline(_) | DaemonError::Start { .. } => {
            Exit::Failure
        }
    }
}
