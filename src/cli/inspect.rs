//! `inspect`: what is in a store, whether a daemon runs on it, whether it opens or not. Nothing is
//! changed: `store::look` says how.

mod cat;
mod export;
mod ls;
mod names;
mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Exit, Terminal, point, prepare};
use crate::pipeline::Target;
use crate::store::look::{self, How, Look, LookError, Manner, Which};
use crate::store::sled::StoreOptions;
use crate::store::{StoreError, format};

/// Where the daemon keeps its state when nothing else is said.
const STORE: &str = "/var/lib/eventflux";

/// Which store, and how it is looked at.
#[derive(Debug, Args)]
pub(super) struct Whose {
    /// The folder of the state [default: what --config says, else /var/lib/eventflux]
    #[arg(long, value_name = "FOLDER", global = true)]
    store: Option<PathBuf>,
    /// The configuration (.toml) whose store it is; more of them, as for `run`
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "store")]
    config: Vec<PathBuf>,
    /// Look at the damaged store that was set aside under this number
    #[arg(long, value_name = "N", global = true)]
    quarantine: Option<u64>,
    /// Do not open it, but look for whole values in its files: this also finds what was lost
    /// without notice, and what had been removed
    #[arg(long, global = true)]
    salvage: bool,
    /// Where the copy goes that is looked at; it takes as much room as the store
    #[arg(long, value_name = "FOLDER", global = true)]
    tmp: Option<PathBuf>,
}

/// What is asked.
#[derive(Debug, Subcommand)]
pub(super) enum Question {
    /// What there is: log, checkpoints, outboxes, stores that were set aside
    Ls {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show the content, one JSON object a line
    #[command(subcommand)]
    Cat(Cat),
    /// Read everything; say what is damaged, and what would be lost (exit code 1)
    Verify,
    /// Write the content to a file
    #[command(subcommand)]
    Export(Export),
}

/// What is shown.
#[derive(Debug, Subcommand)]
pub(super) enum Cat {
    /// The log: rows, rejected input, ticks, changes of the application and of the clock
    Log(Span),
    /// What waits for a sink
    Outbox {
        /// The sink's name
        sink: String,
    },
    /// Which operators have state in a checkpoint, and how much
    Checkpoint {
        /// Its number, as `ls` shows it
        number: u64,
    },
}

/// What is written to a file.
#[derive(Debug, Subcommand)]
pub(super) enum Export {
    /// The log's rows and the clock, as `eventflux replay` reads them
    Log {
        #[command(flatten)]
        span: Span,
        /// The file; - for the standard output
        #[arg(long = "out", value_name = "FILE")]
        out: PathBuf,
    },
    /// What waits for a sink, one JSON object a line
    Outbox {
        /// The sink's name
        sink: String,
        /// The file; - for the standard output
        #[arg(long = "out", value_name = "FILE")]
        out: PathBuf,
    },
    /// Every pair of the store, key and value in hexadecimal
    Raw {
        /// The file; - for the standard output
        #[arg(long = "out", value_name = "FILE")]
        out: PathBuf,
    },
}

/// A part of the log.
#[derive(Debug, Args)]
pub(super) struct Span {
    /// Not before this sequence number or time (2026-11-21T10:00:00Z)
    #[arg(long, value_name = "SEQ|TIME", value_parser = point::parse)]
    from: Option<Target>,
    /// Not after this sequence number or time
    #[arg(long, value_name = "SEQ|TIME", value_parser = point::parse)]
    to: Option<Target>,
    /// Only what concerns this stream
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    #[error("cannot write `{}`: {error}", path.display())]
    Write {
        path: PathBuf,
        error: std::io::Error,
    },
    /// What was asked for does not exist.
    #[error("{0}")]
    Unknown(String),
}

pub(super) fn inspect(whose: &Whose, question: &Question, terminal: &mut Terminal<'_>) -> Exit {
    let dir = match whose.folder(terminal) {
        Ok(dir) => dir,
        Err(exit) => return exit,
    };
    let manner = match whose.salvage {
        true => Manner::Salvage,
        false => Manner::Open,
    };
    let answered = whose
        .look(&dir, manner)
        .map_err(Trouble::from)
        .and_then(|look| {
            warn(&look, terminal);
            match question {
                Question::Ls { json } => ls::ls(&dir, whose.which(), &look, *json, terminal),
                Question::Cat(what) => cat::cat(what, &look, terminal),
                Question::Verify => verify::verify(&dir, whose, &look, terminal),
                Question::Export(what) => export::export(what, &look, terminal),
            }
        });
    match answered {
        Ok(exit) => exit,
        Err(trouble) => {
            terminal.complain(format_args!("eventflux: {trouble}"));
            match trouble {
                Trouble::Unknown(_) => Exit::Usage,
                Trouble::Look(_) | Trouble::Store(_) | Trouble::Checkpoint(_) => Exit::Store,
                Trouble::Write { .. } => Exit::Failed,
            }
        }
    }
}

impl Whose {
    /// The state directory.
    fn folder(&self, terminal: &mut Terminal<'_>) -> Result<PathBuf, Exit> {
        if !self.config.is_empty() {
            return Ok(prepare(&self.config, terminal)?.settings.store.path);
        }
        Ok(self.store.clone().unwrap_or_else(|| PathBuf::from(STORE)))
    }

    fn look(&self, dir: &Path, manner: Manner) -> Result<Look, LookError> {
        let options = StoreOptions::default();
        look::look(dir, self.which(), manner, (&self.tmp(), &options))
    }

    fn which(&self) -> Which {
        self.quarantine.map_or(Which::Current, Which::Quarantined)
    }

    fn tmp(&self) -> PathBuf {
        self.tmp.clone().unwrap_or_else(std::env::temp_dir)
    }
}

/// Says how far what is shown can be trusted.
fn warn(look: &Look, terminal: &mut Terminal<'_>) {
    match &look.how {
        How::Opened | How::WithoutSnapshot(_) => {}
        How::Salvaged { why, .. } => terminal.complain(format_args!(
            "the store is not open ({why}): what is shown was found whole in its files, and may \
             include what had been removed"
        )),
    }
    if let Ok(Some(format)) = format::said(&*look.store) {
        if format > format::FORMAT {
            terminal.complain(format_args!(
                "the store was written by a newer version of eventflux, in format {format}: what \
                 this one does not know looks damaged"
            ));
        }
    }
    if look.went_back {
        terminal.complain(
            "the store has gone back to an earlier state: its files are damaged in a way that does \
             not show, and an unknown part is lost",
        );
    }
    let sound = matches!(look.how, How::Opened | How::WithoutSnapshot(_)) && !look.went_back;
    if look.moved && !sound {
        terminal.complain(
            "the store was written to while it was copied: look again, or stop the daemon, before \
             you trust this",
        );
    }
}

/// Lines for the terminal or a file, until nobody reads them any more.
struct Lines<'a> {
    out: Box<dyn std::io::Write + 'a>,
    path: PathBuf,
    failed: Option<std::io::Error>,
}

impl<'a> Lines<'a> {
    fn terminal(terminal: &'a mut Terminal<'_>) -> Lines<'a> {
        Lines {
            out: Box::new(std::io::BufWriter::new(&mut *terminal.out)),
            path: PathBuf::from("-"),
            failed: None,
        }
    }

    fn file(path: &Path, terminal: &'a mut Terminal<'_>) -> Result<Lines<'a>, Trouble> {
        if path == Path::new("-") {
            return Ok(Lines::terminal(terminal));
        }
        let file = std::fs::File::create(path).map_err(|error| Trouble::Write {
            path: path.to_owned(),
            error,
        })?;
        Ok(Lines {
            out: Box::new(std::io::BufWriter::new(file)),
            path: path.to_owned(),
            failed: None,
        })
    }

    /// Breaks when it is in vain.
    fn line(&mut self, line: &[u8]) -> std::ops::ControlFlow<()> {
        let written = self
            .out
            .write_all(line)
            .and_then(|()| self.out.write_all(b"\n"));
        match written {
            Ok(()) => std::ops::ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                std::ops::ControlFlow::Break(())
            }
        }
    }

    /// That a reader went away (`| head`) is no failure.
    fn close(mut self) -> Result<(), Trouble> {
        let error = match self.failed.take() {
            Some(error) => error,
            None => match self.out.flush() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
        };
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Ok(());
        }
        let path = self.path;
        Err(Trouble::Write { path, error })
    }
}
