//! Cases: SQL, input and expected output as text, run *three ways* that must agree.
//!
//! Straight through; with a restart from checkpoint and log after every input; and as a replay of
//! the log that the first way wrote. All three go through the same log, checkpoints, engine and
//! outbox as the daemon, over a store in memory, on virtual time.

pub mod case;
mod compare;
mod replay;
mod ways;

use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::sql::{self, SqlText};
use case::{Case, CaseError, Check};
pub use replay::{Audience, Replay, Shown, watched};

/// How one case went.
#[derive(Debug)]
pub struct Report {
    /// The file and the line on which the case begins.
    pub place: String,
    /// What the case is called.
    pub name: String,
    /// Why it failed; empty when it passed.
    pub faults: Vec<String>,
}

/// Why cases could not be run at all.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file or folder cannot be read.
    #[error("cannot read `{}`: {why}", path.display())]
    Unreadable {
        /// What cannot be read.
        path: PathBuf,
        /// What the operating system says.
        why: String,
    },
    /// A file is not a case file.
    #[error("{}: {error}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: CaseError,
    },
}

/// Every case file in `path`, which is a file or a folder, in order of their names.
///
/// # Errors
/// When a folder cannot be read.
pub fn case_files(path: &Path) -> Result<Vec<PathBuf>, ScenarioError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |error: std::io::Error| ScenarioError::Unreadable {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            found.extend(case_files(&path)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "case")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Runs every case of a file.
///
/// # Errors
/// When the file cannot be read.
pub fn run_file(path: &Path) -> Result<Vec<Report>, ScenarioError> {
    let text = std::fs::read_to_string(path).map_err(|error| ScenarioError::Unreadable {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    let cases = case::parse(&text).map_err(|error| ScenarioError::Malformed {
        path: path.to_owned(),
        error,
    })?;
    let report = |case: Case| Report {
        place: format!("{}:{}", path.display(), case.line),
        faults: run_case(&case),
        name: case.name,
    };
    Ok(cases.into_iter().map(report).collect())
}

/// Runs one case; gives what is wrong.
#[must_use]
pub fn run_case(case: &Case) -> Vec<String> {
    let texts = [SqlText {
        path: "case".to_owned(),
        text: case.sql.clone(),
    }];
    let compiled = sql::compile(&texts);
    match (&case.check, compiled) {
        (Check::Errors(wanted), Err(found)) => missing_diagnostics(wanted, &found),
        (Check::Errors(_), Ok(_)) => vec!["the SQL compiles, an error is expected".to_owned()],
        (Check::Rows { .. }, Err(found)) => found
            .iter()
            .map(|diagnostic| diagnostic.render(&case.sql))
            .collect(),
        (
            Check::Rows {
                input,
                expect,
                unordered,
            },
            Ok(application),
        ) => {
            let run = ways::Run {
                application: application.into(),
                texts: &texts,
                input,
                expect,
            };
            match run.three_ways() {
                Ok(outputs) => compare::compare(&outputs, expect, *unordered),
                Err(faults) => faults,
            }
        }
    }
}

/// `2:24 unknown column` is found when a diagnostic stands there and contains the text.
fn missing_diagnostics(wanted: &[String], found: &[Diagnostic]) -> Vec<String> {
    let shown: Vec<String> = found
        .iter()
        .map(|diagnostic| {
            let place = diagnostic.place.unwrap_or_default();
            let hint = diagnostic
                .hint
                .as_ref()
                .map(|hint| format!("; {hint}"))
                .unwrap_or_default();
            format!(
                "{}:{} {}{hint}",
                place.line, place.column, diagnostic.message
            )
        })
        .collect();
    let is_there = |line: &&String| {
        let (place, text) = match line.split_once(' ') {
            Some((place, text)) if is_place(place) => (format!("{place} "), text),
            _ => (String::new(), line.as_str()),
        };
        shown
            .iter()
            .any(|shown| shown.starts_with(&place) && shown.contains(text.trim()))
    };
    wanted
        .iter()
        .filter(|line| !is_there(line))
        .map(|line| {
            format!(
                "expected the error '{line}', found:\n  {}",
                shown.join("\n  ")
            )
        })
        .collect()
}

fn is_place(text: &str) -> bool {
    text.split_once(':')
        .is_some_and(|(line, column)| line.parse::<u32>().is_ok() && column.parse::<u32>().is_ok())
}
