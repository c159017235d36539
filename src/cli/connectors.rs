//! `connectors`: what there is, and the options of one as the pages in `docs/connectors` have them.

use super::{Exit, Terminal};
use crate::daemon::catalogue::{names, page};
use crate::diagnostic::did_you_mean;

pub(super) fn connectors(name: Option<&str>, terminal: &mut Terminal<'_>) -> Exit {
    let Some(name) = name else {
        terminal.say(names().trim_end());
        return Exit::Success;
    };
    if let Some(page) = page(name) {
        terminal.say(page.trim_end());
        return Exit::Success;
    }
    let known = crate::daemon::catalogue::catalogue();
    let hint = did_you_mean(name, known.iter().map(|entry| entry.name));
    let hint = hint.unwrap_or_else(|| "`eventflux connectors` lists them".to_owned());
    terminal.complain(format_args!(
        "there is no connector or format '{name}'; {hint}"
    ));
    Exit::Usage
}
