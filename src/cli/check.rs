//! `check`: everything that can be known without starting anything.

use std::path::Path;

use super::{Exit, Terminal, prepare};

pub(super) fn check(app: &Path, terminal: &mut Terminal<'_>) -> Exit {
    match prepare(app, terminal) {
        Ok(prepared) => {
            terminal.say(format_args!(
                "{}: {} streams ({} sources, {} sinks), {} queries: all right",
                app.display(),
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
