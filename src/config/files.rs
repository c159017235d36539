//! The files that make a configuration: one, or several of which later ones hold over earlier ones.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::expand::Environment;
use super::load::{self as loading, File as Text};
use super::options::OptionSpec;
use super::settings::{Settings, SqlText};
use crate::diagnostic::{Diagnostic, Place, Severity};

/// No configuration and no SQL file is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Configuration files, and where their texts are found.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The files, the strongest last.
    pub paths: &'a [PathBuf],
    /// The texts of these and of the SQL files that they name, by path, as they once were; none:
    /// what stands on the disk now.
    pub texts: Option<&'a BTreeMap<String, String>>,
}

impl<'a, T: AsRef<[PathBuf]> + ?Sized> From<&'a T> for Files<'a> {
    /// As they stand on the disk.
    fn from(paths: &'a T) -> Files<'a> {
        Files {
            paths: paths.as_ref(),
            texts: None,
        }
    }
}

impl Files<'_> {
    fn read(&self, path: &Path) -> Result<String, String> {
        self.kept(path).unwrap_or_else(|| read_file(path))
    }

    /// The content of a file that one of them names, or why there is none.
    pub(super) fn read_named(&self, path: &Path) -> Result<String, String> {
        self.kept(path).unwrap_or_else(|| read_named(path))
    }

    fn kept(&self, path: &Path) -> Option<Result<String, String>> {
        let shown = path.display().to_string();
        let known = self.texts?.get(&shown).cloned();
        Some(known.ok_or_else(|| format!("'{shown}' was not kept")))
    }
}

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
    /// Whether a document wanted to change what the local files alone may say.
    pub is_local_only: bool,
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
    /// What diagnostics call the document from afar, when there is one.
    pub document: Option<String>,
    /// Whether a document wanted to change what the local files alone may say.
    pub is_local_only: bool,
    /// Whether a document says another connection for `[control]` than the local files, which
    /// allow that.
    pub moves_control: bool,
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
                is_local_only: self.is_local_only,
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
    look((&[path.to_owned()]).into(), environment).usable()
}

/// Reads several configuration files as one: what a later one says holds over what an earlier one
/// does, value by value; a list is one value. Paths are relative to the folder of the file that
/// they are written in. The first may end in `.sql`: that is the application then.
///
/// # Errors
///
/// All that is wrong with them and with the files that they name.
pub fn load_all(paths: &[PathBuf], environment: Environment<'_>) -> Result<Loaded, Failure> {
    look(paths.into(), environment).usable()
}

/// Like [`load_all`], and tells what there is even when something is wrong.
#[must_use]
pub fn look(all: Files<'_>, environment: Environment<'_>) -> Looked {
    let found = read_files(all);
    let sources = loading::Sources {
        name: all.paths.first().map(|path| path.display().to_string()),
        paths: all.paths.to_owned(),
        files: &found.files,
        named: all,
        application: found.application,
        remote: None,
    };
    loading::read_all(sources, environment, found.findings)
}

/// Looks at a document that holds in place of local files, which say only what they alone may say:
/// the rest of them is passed over, wrong or right. File names in the document are relative to
/// the folder of the first of them, and are read on the disk. `control` are the options of the
/// connection for `[control]`.
#[must_use]
pub fn look_remote(
    files: Files<'_>,
    (name, text): (&str, &str),
    control: &[OptionSpec],
    environment: Environment<'_>,
) -> Looked {
    let mut found = read_files(files);
    let local = files.paths;
    let folder = local.first().and_then(|path| path.parent());
    // Nothing may be taken for what it is not.
    let is_taken = local.iter().any(|path| path.as_os_str() == name);
    let name = match is_taken {
        true => format!("document {name}"),
        false => name.to_owned(),
    };
    found.files.push(Text {
        name: name.clone(),
        folder: folder.unwrap_or(Path::new("")).to_owned(),
        text: text.to_owned(),
    });
    let sources = loading::Sources {
        name: Some(name),
        paths: local.to_owned(),
        files: &found.files,
        named: local.into(),
        application: None,
        remote: Some(control),
    };
    loading::read_all(sources, environment, found.findings)
}

/// What is wrong with a file in which nothing stands, and what it may be.
pub(super) const NOTHING: (&str, &str) = (
    "there is nothing in it",
    "a write that was cut off leaves such a file; a comment in it says that it is meant",
);

pub(super) fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Files as they are read one by one.
#[derive(Default)]
struct Found {
    files: Vec<Text>,
    application: Option<SqlText>,
    findings: Vec<Diagnostic>,
}

fn read_files(all: Files<'_>) -> Found {
    let mut found = Found::default();
    let paths = all.paths;
    for (index, path) in paths.iter().enumerate() {
        let name = path.display().to_string();
        if paths.iter().take(index).any(|earlier| earlier == path) {
            let message = "it is given twice".to_owned();
            found.findings.push(whole_file(&name, message));
            continue;
        }
        let text = match all.read(path) {
            Ok(text) => text,
            Err(why) => {
                found.findings.push(whole_file(&name, why));
                continue;
            }
        };
        if path.extension().is_none_or(|extension| extension != "sql") {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            found.files.push(Text { name, folder, text });
        } else if index == 0 {
            found.application = Some(SqlText { path: name, text });
        } else {
            let message = "it is SQL, not a configuration".to_owned();
            let hint = "give it as the first file, or name it in [application] sql";
            found
                .findings
                .push(whole_file(&name, message).with_hint(hint));
        }
    }
    // One file may say nothing beside others; SQL and a configuration as a whole may not.
    let texts = found.files.iter().map(|file| (&file.name, &file.text));
    let all = texts.clone().all(|(_, text)| is_blank(text));
    let sql = found.application.iter().map(|sql| (&sql.path, &sql.text));
    let blank = texts
        .filter(|_| all)
        .chain(sql.filter(|(_, text)| is_blank(text)))
        .map(|(name, _)| whole_file(name, NOTHING.0.to_owned()).with_hint(NOTHING.1));
    found.findings.extend(blank);
    found
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
    let file = Text {
        name: name.to_owned(),
        folder: folder.to_owned(),
        text: text.to_owned(),
    };
    let sources = loading::Sources {
        name: Some(name.to_owned()),
        paths: vec![PathBuf::from(name)],
        files: &[file],
        named: (&[]).into(),
        application: None,
        remote: None,
    };
    loading::read_all(sources, environment, Vec::new()).usable()
}

/// The content of a file that was asked for.
fn read_file(path: &Path) -> Result<String, String> {
    text_of(path, File::open(path))
}

/// The content of a file that a configuration names. Who writes one from afar must not make anybody
/// wait here: to open a pipe would wait for its other end, and to read it for what comes.
fn read_named(path: &Path) -> Result<String, String> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path);
    let kind = file.as_ref().ok().and_then(|file| file.metadata().ok());
    if kind.is_some_and(|kind| !kind.is_file() && !kind.is_dir()) {
        return Err(format!("'{}' is not a regular file", path.display()));
    }
    text_of(path, file)
}

fn text_of(path: &Path, file: std::io::Result<File>) -> Result<String, String> {
    let shown = path.display();
    let mut text = String::new();
    file.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_a_configuration_names_makes_nobody_wait() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        let path = pipe.display();
        assert_eq!(
            read_named(&pipe),
            Err(format!("'{path}' is not a regular file"))
        );
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        assert_eq!(read_named(&file).as_deref(), Ok("text"));
        let nothing = read_named(&folder.path().join("none"));
        assert!(nothing.is_err_and(|why| why.contains("No such file")));
        assert!(read_named(folder.path()).is_err_and(|why| why.contains("Is a directory")));
    }
}
