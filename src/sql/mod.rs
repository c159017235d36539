//! SQL text → typed plan: lexical rules, statements, names and types, diagnostics.
//!
//! Everything that can be known before anything runs is found out here, and all faults of an
//! application are reported in one go. How a plan is run is the engine's business.

pub mod aggregates;
pub mod analytics;
mod ast;
mod bind;
mod dialect;
pub mod explain;
pub mod functions;
mod parse;
pub mod plan;
mod reference;
mod types;
pub mod windows;

pub use parse::SQL_TEXT_BYTES_MAX;
pub use plan::Application;
pub use reference::reference;

use crate::diagnostic::{Diagnostic, Severity};

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
/// # Errors
/// Every fault found, in the order of the text.
pub fn compile(texts: &[SqlText]) -> Result<Application, Vec<Diagnostic>> {
    let (application, diagnostics) = compile_what_is_right(texts);
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
/// go on looking for faults of its own. With an error among the findings it must not be run.
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
    let file = |diagnostic: &Diagnostic| texts.iter().position(|text| text.path == diagnostic.path);
    diagnostics.sort_by_key(|diagnostic| (file(diagnostic), diagnostic.place));
    diagnostics.dedup();
    (application, diagnostics)
}
