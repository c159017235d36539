//! The command line: one file per command.

mod check;
mod config;
mod connectors;
#[cfg(feature = "control")]
mod control;
mod exit;
mod explain;
mod functions;
mod inspect;
mod point;
mod replay;
mod restore;
mod run;
#[cfg(feature = "serial")]
mod serial;
mod test;

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::diagnostic::Severity;

pub use exit::{Exit, TABLE};
use run::exit_of;

const ABOUT: &str = "\
Streaming SQL over sensor events on a gateway. Reads events from MQTT, HTTP, serial
ports, files and more, logs them before it acknowledges them, runs SQL over them, and forwards the
results, now or when the link is back.";

const EXAMPLES: &str = "\
Examples:
  eventflux check /etc/eventflux/eventflux.toml     find everything that is wrong, start nothing
  eventflux run /etc/eventflux/eventflux.toml       run until told to stop (Ctrl-C, SIGTERM)
  eventflux test tests/cases                        run case files, each three ways
  eventflux replay app.sql --input events.ndjson    run recorded events on virtual time
  eventflux explain app.sql                         show what the SQL becomes
  eventflux inspect ls                              what lies in the daemon's store
  eventflux inspect cat log --from 2026-11-21       the events themselves, a line each

APP is a configuration (.toml) or a file of SQL (.sql). What differs from site to site may stand in
further configurations, each over those before it:
  eventflux run base.toml --config site.toml";

/// What was asked for.
#[derive(Debug, Parser)]
#[command(name = "eventflux", version, about = ABOUT, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Which configuration.
#[derive(Debug, Args)]
struct App {
    /// The configuration (.toml) or SQL (.sql)
    #[arg(required_unless_present = "config")]
    app: Option<PathBuf>,
    /// A further configuration (.toml): each value that it has holds over that of APP and of those
    /// before it. May be given several times, and without APP
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
}

impl App {
    /// The files, the strongest last.
    fn files(self) -> Vec<PathBuf> {
        self.app.into_iter().chain(self.config).collect()
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until it is told to stop
    ///
    /// The first SIGINT or SIGTERM stops it in order: sources, pipeline, sinks, a checkpoint.
    /// A second one ends it at once, which loses nothing either.
    Run {
        #[command(flatten)]
        app: App,
        /// Keep the state here instead of where the configuration says
        #[arg(long, value_name = "FOLDER")]
        store: Option<PathBuf>,
        /// What the log on the standard error looks like
        #[arg(long, value_name = "FORMAT", value_enum, default_value = "auto")]
        log_format: run::LogFormat,
    },
    /// Check configuration and SQL completely, and start nothing
    Check {
        #[command(flatten)]
        app: App,
        /// Touch neither network nor devices, which is how it always checks
        #[arg(long)]
        offline: bool,
        /// Check this document (.toml) as a node with the configuration above would, if it came
        /// from afar
        #[arg(long, value_name = "FILE")]
        document: Option<PathBuf>,
    },
    /// Run case files, each straight, with restarts, and as a replay of its log
    Test {
        /// Case files, or folders of them
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Run recorded events through the SQL, on virtual time
    ///
    /// Each line of the input is {"stream": …, "ts": …, "event": {…}} or {"advance_to": …}; each
    /// line of the output has the first form.
    Replay {
        #[command(flatten)]
        app: App,
        /// The events; - for the standard input
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
        /// Show only what comes out in these streams (default: every sink, else every target)
        #[arg(long, value_name = "STREAM")]
        output: Vec<String>,
    },
    /// Show the plan of the SQL as a tree
    Explain {
        #[command(flatten)]
        app: App,
        /// Show its patterns instead, as a graph for Graphviz
        #[arg(long)]
        dot: bool,
    },
    /// Look into a store, while the daemon runs or when the store does not open
    ///
    /// Nothing is changed: a copy is looked at, which takes as much room as the store and is
    /// removed afterwards. Times are UTC.
    Inspect {
        #[command(flatten)]
        whose: inspect::Whose,
        #[command(subcommand)]
        question: inspect::Question,
    },
    /// Bring the state back to what it was after an earlier input; the daemon must not run
    ///
    /// Windows, groups, patterns and tables become what they were, as if the inputs after that had
    /// never come. The log keeps these all the same, and what has been sent stays sent. It can be
    /// undone with the number that is printed, and is tried out with --dry-run.
    Restore {
        #[command(flatten)]
        app: App,
        /// The last input that counts, by its number or by time (2026-11-21T10:00:00Z)
        #[arg(long, value_name = "SEQ|TIME", value_parser = point::parse)]
        at: crate::pipeline::Target,
        /// Say what it would do, in a copy of the store; the daemon may run
        #[arg(long)]
        dry_run: bool,
        /// The state is here instead of where the configuration says
        #[arg(long, value_name = "FOLDER")]
        store: Option<PathBuf>,
        /// Where --dry-run puts its copy
        #[arg(long, value_name = "FOLDER")]
        tmp: Option<PathBuf>,
    },
    #[cfg(feature = "serial")]
    /// Serial ports: which there are, and what a device says
    #[command(subcommand)]
    Serial(serial::Question),
    #[cfg(feature = "control")]
    /// Nodes from afar: keys, signed documents, what becomes of them, and requests
    #[command(subcommand)]
    Control(control::Question),
    /// List the functions of the dialect
    Functions,
    /// List connectors and formats, or the options of one, as Markdown
    Connectors {
        /// The connector or format
        name: Option<String>,
    },
    /// Show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Every value that holds, and which layer it came from; secrets are hidden
    List {
        #[command(flatten)]
        app: App,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Every key of the configuration file, with its default, as Markdown
    Reference,
    /// What a configuration may hold, as JSON Schema, for editors and other checkers
    Schema,
}

/// Where a command writes.
pub(crate) struct Terminal<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl Terminal<'_> {
    /// A line for the standard output. That it may be closed is no reason to fail.
    fn say(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{line}");
    }

    /// A line for the standard error.
    fn complain(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.err, "{line}");
    }
}

/// Everything that can be asked for, as `--help` shows it. Manual page and completions are made of
/// it.
#[must_use]
pub fn command() -> clap::Command {
    let codes: Vec<String> = TABLE
        .iter()
        .map(|(exit, meaning)| format!("  {:>2}  {meaning}", exit.code()))
        .collect();
    let help = format!("{EXAMPLES}\n\nExit codes:\n{}", codes.join("\n"));
    Arguments::command().after_help(help)
}

/// Reads the arguments and does what they ask for.
pub fn main(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Exit {
    let mut out = std::io::stdout();
    let mut err = std::io::stderr();
    let mut terminal = Terminal {
        out: &mut out,
        err: &mut err,
    };
    let parsed = command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // Also `--help` and `--version`.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
        }
    };
    match arguments.command {
        Command::Run {
            app,
            store,
            log_format,
        } => run::run(&app.files(), store, log_format, &mut terminal),
        Command::Check {
            app,
            offline: _,
            document,
        } => check::check(&app.files(), document.as_deref(), &mut terminal),
        Command::Test { paths } => test::test(&paths, &mut terminal),
        Command::Replay { app, input, output } => {
            replay::replay(&app.files(), &input, &output, &mut terminal)
        }
        Command::Explain { app, dot } => explain::explain(&app.files(), dot, &mut terminal),
        Command::Inspect { whose, question } => inspect::inspect(&whose, &question, &mut terminal),
        Command::Restore {
            app,
            at,
            dry_run,
            store,
            tmp,
        } => {
            let request = restore::Request {
                files: &app.files(),
                store,
                at,
                dry_run,
                tmp,
            };
            restore::restore(request, &mut terminal)
        }
        #[cfg(feature = "serial")]
        Command::Serial(question) => serial::serial(&question, &mut terminal),
        #[cfg(feature = "control")]
        Command::Control(question) => control::control(&question, &mut terminal),
        Command::Functions => functions::functions(&mut terminal),
        Command::Connectors { name } => connectors::connectors(name.as_deref(), &mut terminal),
        Command::Config(ConfigCommand::List { app, json }) => {
            config::list(&app.files(), json, &mut terminal)
        }
        Command::Config(ConfigCommand::Reference) => config::reference(&mut terminal),
        Command::Config(ConfigCommand::Schema) => config::schema(&mut terminal),
    }
}

/// The environment, for `${VAR}`.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prepares an application; what is wrong with it is told.
fn prepare(
    files: &[PathBuf],
    terminal: &mut Terminal<'_>,
) -> Result<crate::daemon::Prepared, Exit> {
    told(crate::daemon::prepare_all(files, &environment), terminal)
}

/// What was prepared; what is wrong with it is told.
fn told(
    prepared: Result<crate::daemon::Prepared, crate::daemon::Failure>,
    terminal: &mut Terminal<'_>,
) -> Result<crate::daemon::Prepared, Exit> {
    match prepared {
        Ok(prepared) => {
            for warning in &prepared.warnings {
                let text = prepared.shown.get(&warning.path).map_or("", String::as_str);
                terminal.complain(warning.render(text).trim_end());
            }
            Ok(prepared)
        }
        Err(failure) => {
            let found = failure.diagnostics.iter();
            let errors = found.filter(|fault| fault.severity == Severity::Error);
            let count = errors.count();
            terminal.complain(failure.to_string().trim_end());
            let plural = if count == 1 { "" } else { "s" };
            terminal.complain(format_args!("{count} error{plural}; nothing was started"));
            Err(Exit::Configuration)
        }
    }
}
