//! `functions`: what the registry declares.

use super::{Exit, Terminal};
use crate::sql::aggregates::AGGREGATES;
use crate::sql::functions;
use crate::sql::windows::WINDOWS;

pub(super) fn functions(terminal: &mut Terminal<'_>) -> Exit {
    terminal.say("Scalar functions");
    for function in functions::all() {
        let (example, result) = function.example;
        terminal.say(format_args!(
            "  {}   e.g. {example} = {result}",
            function.doc
        ));
    }
    terminal.say("\nAggregates");
    for aggregate in AGGREGATES {
        terminal.say(format_args!("  {}", aggregate.doc));
    }
    terminal.say("\nWindows");
    for window in WINDOWS {
        let name = window.names.first().copied().unwrap_or_default();
        terminal.say(format_args!(
            "  WINDOW('{name}', {}): {}",
            window.arguments, window.doc
        ));
    }
    Exit::Success
}
