//! `explain`: the plan as a tree, or its patterns as a graph.

use std::path::Path;

use super::{Exit, Terminal, prepare};

pub(super) fn explain(app: &Path, dot: bool, terminal: &mut Terminal<'_>) -> Exit {
    match prepare(app, terminal) {
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
