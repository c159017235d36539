//! `run`: the daemon, until it is told to stop.

use std::path::PathBuf;

use crossbeam::channel::bounded;
use crossbeam::select;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::{Exit, Terminal, prepare};
use crate::daemon::DaemonError;
use crate::pipeline::PipelineError;
use crate::store::StoreError;

pub(super) fn run(files: &[PathBuf], store: Option<PathBuf>, terminal: &mut Terminal<'_>) -> Exit {
    let mut prepared = match prepare(files, terminal) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    if let Some(store) = store {
        prepared.settings.store.path = store;
    }
    log_to_stderr(prepared.settings.log.level.name());
    // Transparent huge pages triple the resident memory of a small process. A kernel without them
    // refuses, and that is as well.
    let _ = nix::sys::prctl::set_thp_disable(true);
    // The handler must never wait: with two signals under way, further ones say nothing new.
    let (signal, signals) = bounded(2);
    let handler = ctrlc::set_handler(move || {
        let _ = signal.try_send(());
    });
    if let Err(error) = handler {
        terminal.complain(format_args!("cannot take signals: {error}"));
        return Exit::Failure;
    }
    let (stop, stopped) = bounded(1);
    let (end, ended) = bounded(1);
    let daemon = std::thread::Builder::new()
        .name("daemon".to_owned())
        .spawn(move || {
            // After a second signal nobody listens.
            let _ = end.send(prepared.run(&stopped));
        });
    if let Err(error) = daemon {
        terminal.complain(format_args!("cannot start a thread: {error}"));
        return Exit::Failure;
    }
    let mut told = false;
    loop {
        select! {
            recv(signals) -> _ => {
                if told {
                    terminal.complain("told twice to stop: ending at once");
                    return Exit::Forced;
                }
                told = true;
                let _ = stop.try_send(());
            }
            recv(ended) -> result => return match result {
                Ok(Ok(outcome)) => {
                    tracing::info!(
                        "clean at {}; {} outputs wait for the next start",
                        outcome.last,
                        outcome.waiting
                    );
                    Exit::Success
                }
                Ok(Err(error)) => {
                    terminal.complain(format_args!("eventflux: {error}"));
                    exit_of(&error)
                }
                Err(_) => {
                    terminal.complain("eventflux: the daemon's thread has ended; this is a bug");
                    Exit::Failure
                }
            },
        }
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
        DaemonError::Store(_) | DaemonError::Pipeline(_) | DaemonError::Start { .. } => {
            Exit::Failure
        }
    }
}

/// `EVENTFLUX_LOG` overrides the level, in the form of `tracing`'s filters.
fn log_to_stderr(level: &str) {
    // Libraries speak when something is wrong with them; the broker for demonstrations also when a
    // client just goes away.
    let filter = format!("warn,rumqttd=off,eventflux={level}");
    let written = std::env::var("EVENTFLUX_LOG")
        .ok()
        .and_then(|text| text.parse().ok());
    let filter: Targets = written.or_else(|| filter.parse().ok()).unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // A second call in one process keeps the first one's.
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
}
