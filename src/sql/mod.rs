//! SQL text → typed plan: lexical rules, statements, names and types, diagnostics.
//!
//! Everything that can be known before anything runs is found out here, and all faults of an
//! application are reported in one go. How a plan is run is the engine's business.

pub mod aggregates;
pub mod analytics;
mod ast;
mod bind;
pub mod cron;
mod dialect;
pub mod explain;
pub mod functions;
mod parse;
pub mod plan;
mod reference;
pub mod time;
mod types;
pub mod windows;
pub mod zone;

pub use parse::SQL_TEXT_BYTES_MAX;
pub use plan::Application;
pub use reference::reference;
pub use time::Setting;

use std::collections::BTreeMap;

use crate::config::options::Options;
use crate::diagnostic::{Diagnostic, Severity};
use plan::StreamId;

/// A text and what it is called in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlText {
    /// The file's path, or a word like `inline`.
    pub path: String,
    /// The statements.
    pub text: String,
}

/// Compiles the texts of one application, in order.
///
/// Options of streams are those that the texts have; of a configuration it knows nothing.
///
/// # Errors
/// Every fault found, in the order of the text.
pub fn compile(texts: &[SqlText]) -> Result<Application, Vec<Diagnostic>> {
    settled(texts, time::written)
}

/// Compiles the texts with these settings of streams, whatever the texts say about them.
///
/// # Errors
/// As of [`compile`].
pub fn compile_with(
    texts: &[SqlText],
    settings: &[Setting],
) -> Result<Application, Vec<Diagnostic>> {
    settled(texts, |application, faults| {
        time::set(application, settings, faults)
    })
}

fn settled(
    texts: &[SqlText],
    options: impl FnOnce(&Application, &mut Vec<Diagnostic>) -> BTreeMap<StreamId, Options>,
) -> Result<Application, Vec<Diagnostic>> {
    let (mut application, mut diagnostics) = compile_what_is_right(texts);
    let options = options(&application, &mut diagnostics);
    diagnostics.extend(time::settle(&mut application, &options));
    sort(texts, &mut diagnostics);
    let failed = diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error);
    if failed {
        Err(diagnostics)
    } else {
        Ok(application)
    }
}

/// Compiles the texts, and gives what is right of them beside what is wrong, so that a caller can
/// go on looking for faults of its own. With an error among the findings it must not be run, and
/// not before [`time::settle`] has given its streams their options.
#[must_use]
pub fn compile_what_is_right(texts: &[SqlText]) -> (Application, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut files = Vec::new();
    for SqlText { path, text } in texts {
        let (statements, faults) = parse::parse(path, text);
        diagnostics.extend(faults);
        files.push((path.clone(), statements));
    }
    let application = bind::bind(&files, &mut diagnostics);
    sort(texts, &mut diagnostics);
    (application, diagnostics)
}

/// In the order of the text, each once.
fn sort(texts: &[SqlText], diagnostics: &mut Vec<Diagnostic>) {
    let file = |diagnostic: &Diagnostic| texts.iter().position(|text| text.path == diagnostic.path);
    diagnostics.sort_by_key(|diagnostic| (file(diagnostic), diagnostic.place));
    diagnostics.dedup();
}
