//! `run`: the daemon, until it is told to stop. SIGHUP has it read its configuration anew.

mod signals;
mod steward;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use crossbeam::channel::{Receiver, Sender, bounded, never};
use crossbeam::select;

use super::{Exit, Terminal};
use crate::config::{LogLevel, Settings};
use crate::daemon::{DaemonError, Door, Orders};
use crate::logging::{self, Format};
use crate::pipeline::{Outcome, PipelineError};
use crate::store::StoreError;
use crate::supervisor::Supervisor;
use signals::Signals;
use steward::{Site, Steward};

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
    crate::allocator::limit();
    // Before anything else, so that no signal is taken for something else.
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            terminal.complain(format_args!("cannot take signals: {error}"));
            return Exit::Failure;
        }
    };
    let log = logging::start(log.format(), LogLevel::Info.name());
    let site = Site {
        files: files.to_owned(),
        store,
    };
    let begun = match site.begin(terminal) {
        Ok(begun) => begun,
        Err(exit) => return exit,
    };
    let supervisor = Supervisor::of_environment();
    let is_supervised = supervisor.is_there();
    // Transparent huge pages triple the resident memory of a small process. A kernel without them
    // refuses, and that is as well.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let (stop, stopped) = bounded(1);
    let (restart, restarted) = bounded(1);
    let (door, requests) = Door::new();
    let mut orders = Orders {
        requests,
        supervisor,
        ..Orders::only_stop(stopped)
    };
    let (prepared, steward) = match begun.start((door, restart), log.clone(), &mut orders) {
        Ok(started) => started,
        Err(why) => {
            terminal.complain(format_args!("eventflux: {why}"));
            return Exit::Failure;
        }
    };
    log.follow(prepared.settings.log.level.name());
    orders.apply = Box::new(move |settings: &Settings| log.follow(settings.log.level.name()));
    let (end, ended) = bounded(1);
    let daemon = std::thread::Builder::new().name("daemon".to_owned());
    // After a second signal nobody listens.
    let work = move || drop(end.send(prepared.run(orders)));
    if let Err(error) = daemon.spawn(work) {
        terminal.complain(format_args!("cannot start a thread: {error}"));
        return Exit::Failure;
    }
    let heard = Heard {
        signals: &signals,
        restarted: &restarted,
        ended: &ended,
    };
    let ended = attend(&heard, &stop, &steward, terminal);
    let in_order = ended.exit == Exit::Success;
    steward.stop(in_order.then(|| ended.told.unwrap_or_else(Instant::now)));
    // The service manager begins a new process; without one, this is it.
    match ended.begins_anew && !is_supervised && signals.hold() {
        true => begin_anew(terminal),
        false => ended.exit,
    }
}

/// Becomes a new process, with the same arguments. Signals that are held back stay so: what would
/// start a program otherwise lets them through.
fn begin_anew(terminal: &mut Terminal<'_>) -> Exit {
    let arguments = std::env::args_os().map(|one| CString::new(one.into_vec()));
    let why = match (program(), arguments.collect::<Result<Vec<CString>, _>>()) {
        (Ok(program), Ok(arguments)) => match nix::unistd::execv(&program, &arguments) {
            Ok(never) => match never {},
            Err(error) => error.to_string(),
        },
        (Err(error), _) | (_, Err(error)) => error.to_string(),
    };
    terminal.complain(format_args!("cannot begin anew: {why}"));
    Exit::Failure
}

/// The program, or what has been put in its place since.
fn program() -> Result<CString, std::ffi::NulError> {
    let link = Path::new("/proc/self/exe");
    let own = std::fs::read_link(link).unwrap_or_else(|_| link.to_owned());
    let replaced = own.as_os_str().as_bytes().strip_suffix(b" (deleted)");
    let replaced = replaced.map(|path| PathBuf::from(OsStr::from_bytes(path)));
    let all = [Some(own), replaced];
    let there = all.into_iter().flatten().find(|path| path.exists());
    let program: OsString = there.unwrap_or_else(|| link.to_owned()).into_os_string();
    CString::new(program.into_vec())
}

/// What may be heard while the daemon runs.
struct Heard<'a> {
    signals: &'a Signals,
    restarted: &'a Receiver<()>,
    ended: &'a Receiver<Result<Outcome, DaemonError>>,
}

/// How the daemon has ended.
struct Ended {
    exit: Exit,
    /// When it was told to.
    told: Option<Instant>,
    begins_anew: bool,
}

/// Passes on what the system tells, until the daemon has ended.
fn attend(
    heard: &Heard<'_>,
    stop: &Sender<()>,
    steward: &Steward,
    terminal: &mut Terminal<'_>,
) -> Ended {
    let mut told = None;
    let mut begins_anew = false;
    let mut restarted = heard.restarted.clone();
    let exit = loop {
        select! {
            recv(heard.signals.stop) -> _ => {
                if told.is_some() && !begins_anew {
                    terminal.complain("told twice to stop: ending at once");
                    break Exit::Forced;
                }
                told = told.or_else(|| Some(Instant::now()));
                begins_anew = false;
                let _ = stop.try_send(());
            }
            recv(restarted) -> asked => match asked {
                Ok(()) if told.is_none() => {
                    tracing::info!("beginning anew, as was asked");
                    (told, begins_anew) = (Some(Instant::now()), true);
                    let _ = stop.try_send(());
                }
                Ok(()) => {}
                Err(_) => restarted = never(),
            },
            recv(heard.signals.reload) -> _ => {
                if told.is_some() {
                    tracing::warn!("the configuration is not reloaded: the daemon is stopping");
                } else {
                    steward.reload();
                }
            }
            recv(heard.ended) -> result => break match result {
                Ok(result) => end_of(result, terminal),
                Err(_) => {
                    terminal.complain("eventflux: the daemon's thread has ended; this is a bug");
                    Exit::Failure
                }
            },
        }
    };
    Ended {
        exit,
        told,
        begins_anew,
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
