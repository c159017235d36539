//! `replay`: recorded events through the SQL, on virtual time, without a store.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::{Exit, Terminal, prepare};
use crate::scenario::{Audience, Replay, Shown, watched};

/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(super) fn replay(
    files: &[PathBuf],
    input: &Path,
    output: &[String],
    terminal: &mut Terminal<'_>,
) -> Exit {
    let prepared = match prepare(files, terminal) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    let application = prepared.application;
    let watched = match watched(&application, output) {
        Ok(watched) => watched,
        Err(unknown) => {
            terminal.complain(format_args!("there is no stream '{unknown}'"));
            return Exit::Usage;
        }
    };
    let mut reader: Box<dyn BufRead> = if input == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        match File::open(input) {
            Ok(file) => Box::new(BufReader::new(file)),
            Err(error) => {
                terminal.complain(format_args!("cannot read `{}`: {error}", input.display()));
                return Exit::Usage;
            }
        }
    };
    let mut replay = Replay::new(application, watched);
    let mut show = Show(terminal);
    let mut buffer = Vec::new();
    for number in 1_u64.. {
        buffer.clear();
        match reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut buffer)
        {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                show.0
                    .complain(format_args!("cannot read `{}`: {error}", input.display()));
                return Exit::Failed;
            }
        }
        if buffer.trim_ascii().is_empty() {
            continue;
        }
        if let Err(fault) = replay.line(&buffer, &mut show) {
            show.0
                .complain(format_args!("{}:{number}: {fault}", input.display()));
            return Exit::Failed;
        }
    }
    Exit::Success
}

/// Writes rows as they come.
struct Show<'a, 'b>(&'a mut Terminal<'b>);

impl Audience for Show<'_, '_> {
    fn see(&mut self, row: Shown<'_>) {
        let Shown {
            stream,
            time,
            event,
        } = row;
        let name = serde_json::to_string(stream).unwrap_or_default();
        self.0.say(format_args!(
            "{{\"stream\":{name},\"ts\":{time},\"event\":{event}}}"
        ));
    }
}
