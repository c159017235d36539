//! `functions`: what the registry declares.

use super::{Exit, Terminal};

pub(super) fn functions(terminal: &mut Terminal<'_>) -> Exit {
    terminal.say(crate::sql::reference().trim_end());
    Exit::Success
}
