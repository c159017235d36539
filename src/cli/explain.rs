//! `explain`: the plan as a tree, or its patterns as a graph.

use std::path::PathBuf;

use super::{Exit, Terminal, prepare};

pub(super) fn explain(files: &[PathBuf], dot: bool, terminal: &mut Terminal<'_>) -> Exit {
    match prepare(files, terminal) {
        Ok(prepared) => {
            let shown = match dot {
                true => crate::sql::explain::dot(&prepared.application),
                false => crate::sql::explain::explain(&prepared.application),
            };
            terminal.say(shown.trim_end());
            Exit::Success
        }
        Err(exit) => exit,
    }
}
