//! The files that make a configuration: one, or several of which later ones hold over earlier ones.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::expand::Environment;
use super::load::{self, File};
use super::settings::{Settings, SqlText};
use crate::diagnostic::{Diagnostic, Place, Severity};

/// No configuration and no SQL file is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What somebody should know.
    pub warnings: Vec<Diagnostic>,
    /// Every text that was read, by the path that diagnostics name.
    pub texts: BTreeMap<String, String>,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failure {
    /// Everything that is wrong with it, in the order of the places.
    pub diagnostics: Vec<Diagnostic>,
    /// Every text that was read, by the path that diagnostics name.
    pub texts: BTreeMap<String, String>,
}

impl std::fmt::Display for Failure {
    /// Every finding with the line it is about.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for diagnostic in &self.diagnostics {
            let text = self.texts.get(&diagnostic.path).map_or("", String::as_str);
            out.write_str(&diagnostic.render(text))?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// What could be found out about a configuration, right or wrong, so that a caller can go on
/// looking for faults of its own and tell all of them together.
#[derive(Clone, Debug, PartialEq)]
pub struct Looked {
    /// What it says, with what is built in where it says something wrong: to be looked at, not
    /// to be used, when there are errors among the findings. Absent when there is nothing to look
    /// at.
    pub settings: Option<Settings>,
    /// What is wrong with it, and what somebody should know.
    pub findings: Vec<Diagnostic>,
    /// Every text that was read, by the path that diagnostics name.
    pub texts: BTreeMap<String, String>,
    /// These paths in the order in which the files are read.
    pub order: Vec<String>,
    /// Whether all SQL is there. Without some of it, the rest is full of unknown names.
    pub sql_is_whole: bool,
    /// Whether every file of options could be read. Without one, others seem to be missing.
    pub options_are_whole: bool,
}

impl Looked {
    fn usable(mut self) -> Result<Loaded, Failure> {
        in_order(&mut self.findings, &self.order);
        let is_error = |found: &Diagnostic| found.severity == Severity::Error;
        match self.settings {
            Some(settings) if !self.findings.iter().any(is_error) => Ok(Loaded {
                settings,
                warnings: self.findings,
                texts: self.texts,
            }),
            _ => Err(Failure {
                diagnostics: self.findings.into_iter().filter(is_error).collect(),
                texts: self.texts,
            }),
        }
    }
}

/// Sorts findings by file, in this order, and place, and leaves each once.
pub fn in_order(findings: &mut Vec<Diagnostic>, order: &[String]) {
    let file = |found: &Diagnostic| order.iter().position(|path| *path == found.path);
    // Findings about a text that nobody has named stand at the end.
    let file = |found: &Diagnostic| file(found).unwrap_or(usize::MAX);
    findings.sort_by(|a, b| {
        let key = |found: &Diagnostic| (file(found), found.place);
        key(a).cmp(&key(b)).then_with(|| a.message.cmp(&b.message))
    });
    findings.dedup();
}

/// Reads a configuration file, or a file that ends in `.sql`: then everything is as built in, and
/// the application is that file.
///
/// # Errors
///
/// All that is wrong with it and with the files that it names.
pub fn load(path: &Path, environment: Environment<'_>) -> Result<Loaded, Failure> {
    look(&[path.to_owned()], environment).usable()
}

/// Reads several configuration files as one: what a later one says holds over what an earlier one
/// does, value by value; a list is one value. Paths are relative to the folder of the file that
/// they are written in. The first may end in `.sql`: that is the application then.
///
/// # Errors
///
/// All that is wrong with them and with the files that they name.
pub fn load_all(paths: &[PathBuf], environment: Environment<'_>) -> Result<Loaded, Failure> {
    look(paths, environment).usable()
}

/// Like [`load_all`], and tells what there is even when something is wrong.
#[must_use]
pub fn look(paths: &[PathBuf], environment: Environment<'_>) -> Looked {
    let mut findings = Vec::new();
    let mut files = Vec::new();
    let mut application = None;
    for (index, path) in paths.iter().enumerate() {
        let name = path.display().to_string();
        if paths.iter().take(index).any(|earlier| earlier == path) {
            let message = "it is given twice".to_owned();
            findings.push(whole_file(&name, message));
            continue;
        }
        let text = match read_file(path) {
            Ok(text) => text,
            Err(why) => {
                findings.push(whole_file(&name, why));
                continue;
            }
        };
        if path.extension().is_none_or(|extension| extension != "sql") {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            files.push(File { name, folder, text });
        } else if index == 0 {
            application = Some(SqlText { path: name, text });
        } else {
            let message = "it is SQL, not a configuration".to_owned();
            let hint = "give it as the first file, or name it in [application] sql";
            findings.push(whole_file(&name, message).with_hint(hint));
        }
    }
    let names = paths.to_owned();
    load::read_all(names, &files, application, environment, findings)
}

/// Reads a configuration that is a text already. `name` is what diagnostics call it; paths in it
/// are relative to `folder`.
///
/// # Errors
///
/// All that is wrong with it and with the files that it names.
pub fn read(
    text: &str,
    name: &str,
    folder: &Path,
    environment: Environment<'_>,
) -> Result<Loaded, Failure> {
    let file = File {
        name: name.to_owned(),
        folder: folder.to_owned(),
        text: text.to_owned(),
    };
    let names = vec![PathBuf::from(name)];
    load::read_all(names, &[file], None, environment, Vec::new()).usable()
}

/// The content of a file, or what is wrong with it.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => format!("'{shown}' is not UTF-8 text"),
            _ => format!("cannot read '{shown}': {error}"),
        })?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(format!("'{shown}' is larger than 1 MiB"));
    }
    Ok(text)
}

fn whole_file(path: &str, message: String) -> Diagnostic {
    Diagnostic {
        place: None,
        ..Diagnostic::error(path, Place::default(), message)
    }
}
