//! `check`: everything that can be known without starting anything.

use std::path::{Path, PathBuf};

use super::{Exit, Terminal, environment, prepare, told};
use crate::daemon::{Document, prepare_document};

/// Of a document, what it would be over the files.
pub(super) fn check(
    files: &[PathBuf],
    document: Option<&Path>,
    terminal: &mut Terminal<'_>,
) -> Exit {
    let prepared = match document {
        None => prepare(files, terminal),
        Some(path) => over(files, path, terminal),
    };
    match prepared {
        Ok(prepared) => {
            let names = files.iter().map(PathBuf::as_path).chain(document);
            let names = names.map(|file| file.display().to_string());
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

fn over(
    files: &[PathBuf],
    path: &Path,
    terminal: &mut Terminal<'_>,
) -> Result<crate::daemon::Prepared, Exit> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let document = Document { name, text };
            told(prepare_document(files, &document, &environment), terminal)
        }
        Err(error) => {
            terminal.complain(format_args!("cannot read '{name}': {error}"));
            Err(Exit::Configuration)
        }
    }
}
