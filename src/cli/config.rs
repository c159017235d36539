//! `config list`: every value that holds, and where it came from.

use std::path::Path;

use super::{Exit, Terminal, prepare};
use crate::config::options::Options;

pub(super) fn list(app: &Path, terminal: &mut Terminal<'_>) -> Exit {
    let prepared = match prepare(app, terminal) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    let sources = prepared
        .sources
        .iter()
        .map(|source| (source.name.as_str(), &source.options));
    let sinks = prepared
        .sinks
        .iter()
        .map(|sink| (sink.name.as_str(), &sink.options));
    let streams: Vec<(&str, &Options)> = sources.chain(sinks).collect();
    for value in crate::config::list(&prepared.settings, &streams) {
        terminal.say(value);
    }
    Exit::Success
}
