//! `explain`: the plan as a tree.

use std::path::Path;

use super::{Exit, Terminal, prepare};

pub(super) fn explain(app: &Path, terminal: &mut Terminal<'_>) -> Exit {
    match prepare(app, terminal) {
        Ok(prepared) => {
            terminal.say(crate::sql::explain::explain(&prepared.application).trim_end());
            Exit::Success
        }
        Err(exit) => exit,
    }
}
