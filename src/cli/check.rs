//! `check`: everything that can be known without starting anything.

use std::path::PathBuf;

use super::{Exit, Terminal, prepare};

pub(super) fn check(files: &[PathBuf], terminal: &mut Terminal<'_>) -> Exit {
    match prepare(files, terminal) {
        Ok(prepared) => {
            let names = files.iter().map(|file| file.display().to_string());
            let names: Vec<String> = names.collect();
            terminal.say(format_args!(
                "{}: {} streams ({} sources, {} sinks), {} queries: all right",
                names.join(", "),
                prepared.application.streams.len(),
                prepared.sources.len(),
                prepared.sinks.len(),
                prepared.application.queries.len()
            ));
            Exit::Success
        }
        Err(exit) => exit,
    }
}
