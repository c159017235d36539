//! `config`: what holds and where it came from, and what a configuration may hold at all.

use std::path::PathBuf;

use super::{Exit, Terminal, prepare};
use crate::config::options::Options;
use crate::daemon::catalogue::{CONTROL, all_options, reference as keys};

/// Every value that holds, and where it came from.
pub(super) fn list(files: &[PathBuf], json: bool, terminal: &mut Terminal<'_>) -> Exit {
    let prepared = match prepare(files, terminal) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    let streams = prepared.options.iter();
    let streams: Vec<(&str, &Options)> = streams
        .map(|(name, options)| (name.as_str(), options))
        .collect();
    for value in crate::config::list(&prepared.settings, &streams, &prepared.control) {
        match json {
            true => terminal.say(value.json()),
            false => terminal.say(value),
        }
    }
    Exit::Success
}

/// Every key with its default.
pub(super) fn reference(terminal: &mut Terminal<'_>) -> Exit {
    terminal.say(keys());
    Exit::Success
}

/// JSON Schema.
pub(super) fn schema(terminal: &mut Terminal<'_>) -> Exit {
    let schema = crate::config::schema(&all_options(), CONTROL);
    terminal.say(format_args!("{schema:#}"));
    Exit::Success
}
