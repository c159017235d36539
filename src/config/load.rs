//! From a file to [`Settings`]: reads, expands references, checks every key, and tells all that
//! is wrong at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;

use super::document::{self, Document, Entry, Raw, Section};
use super::expand::{Environment, Expander};
use super::keys::{self, DEMO_SECTIONS, KEYS, KeySpec, SECTIONS};
use super::options::{Layer, OptionValue, Options, Resolved};
use super::resolve::{HIDDEN, built_in};
use super::settings::{OptionTable, Settings, SqlText, WrittenOption};
use super::text::NamedText;
use super::value::{self, WrittenValue};
use super::{build, sql_texts};
use crate::diagnostic::{Diagnostic, did_you_mean};

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

/// Reads a configuration file, or a file that ends in `.sql`: then everything is as built in, and
/// the application is that file.
///
/// # Errors
///
/// All that is wrong with it and with the files that it names.
pub fn load(path: &Path, environment: Environment<'_>) -> Result<Loaded, Failure> {
    let name = path.display().to_string();
    let text = read_file(path).map_err(|why| Failure {
        diagnostics: vec![whole_file(&name, why)],
        texts: BTreeMap::new(),
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    if path.extension().is_some_and(|extension| extension == "sql") {
        let sql = SqlText {
            path: name.clone(),
            text: text.clone(),
        };
        return read("", &name, folder, environment).map(|mut loaded| {
            loaded.settings.application.sql.push(sql);
            loaded.warnings.clear();
            loaded.texts.insert(name, text);
            loaded
        });
    }
    read(&text, &name, folder, environment)
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
    let mut texts = BTreeMap::from([(name.to_owned(), text.to_owned())]);
    let named = NamedText::new(name, text);
    let mut faults = Vec::new();
    let document = document::read(&named, &mut faults);
    let expander = Expander::new(environment, &secrets_path(&document, folder, environment));
    let mut reading = Reading {
        text: &named,
        expander,
        faults,
        keys: Options::default(),
        application: OptionTable::default(),
        streams: BTreeMap::new(),
    };
    reading.take(&document);
    let sql = sql_texts::collect(&mut reading, &document, folder, &mut texts);
    let Reading {
        mut faults,
        keys,
        application,
        streams,
        ..
    } = reading;
    let written = build::Written {
        name,
        folder,
        keys,
        application,
        streams,
        sql,
    };
    let mut warnings = Vec::new();
    match build::settings(written, &mut faults, &mut warnings) {
        Some(settings) if faults.is_empty() => Ok(Loaded {
            settings,
            warnings,
            texts,
        }),
        _ => {
            faults.sort_by(|a, b| (&a.path, a.place).cmp(&(&b.path, b.place)));
            Err(Failure {
                diagnostics: faults,
                texts,
            })
        }
    }
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
        ..Diagnostic::error(path, crate::diagnostic::Place::default(), message)
    }
}

/// Where secrets lie must be known before the other values are expanded; what is wrong with the
/// key itself is told when its turn comes.
fn secrets_path(
    document: &Document,
    folder: &Path,
    environment: Environment<'_>,
) -> std::path::PathBuf {
    let sections = document.sections.iter();
    let written = sections
        .filter(|section| section.name == "secrets")
        .flat_map(|section| &section.entries)
        .find_map(|entry| match &entry.value {
            Raw::Text(text) if entry.name == "path" => Some(text.as_str()),
            _ => None,
        });
    let default = keys::find("secrets.path").and_then(|key| key.option.default);
    let path = written.or(default).unwrap_or("");
    let without_secrets = Expander::new(environment, Path::new(""));
    match without_secrets.expand(path) {
        Ok(expanded) => folder.join(expanded.text),
        Err(_) => folder.to_owned(),
    }
}

/// A document on its way to [`Settings`].
pub(super) struct Reading<'a> {
    pub(super) text: &'a NamedText<'a>,
    expander: Expander<'a>,
    pub(super) faults: Vec<Diagnostic>,
    pub(super) keys: Options,
    application: OptionTable,
    streams: BTreeMap<String, OptionTable>,
}

impl Reading<'_> {
    fn take(&mut self, document: &Document) {
        let mut present = BTreeSet::new();
        for section in &document.sections {
            present.insert(section.name.as_str());
            self.take_section(section);
        }
        for section in &document.streams {
            let table = self.option_table(section, &section.entries);
            self.streams.insert(section.name.clone(), table);
        }
        for key in KEYS {
            let wanted = !DEMO_SECTIONS.contains(&key.section()) || present.contains(key.section());
            if let (true, Some(resolved)) = (wanted, built_in(&key.option)) {
                self.keys.put(key.option.name, resolved);
            }
        }
    }

    fn take_section(&mut self, section: &Section) {
        let name = section.name.as_str();
        if !SECTIONS.iter().any(|(known, _)| *known == name) {
            let names = SECTIONS.iter().map(|(known, _)| *known).chain(["streams"]);
            let hint = did_you_mean(name, names.clone()).unwrap_or_else(|| {
                let names: Vec<String> = names.map(|known| format!("[{known}]")).collect();
                format!("the tables are {}", names.join(", "))
            });
            let fault = self
                .text
                .error(section.key.clone(), format!("unknown table [{name}]"));
            self.faults.push(fault.with_hint(hint));
            return;
        }
        if DEMO_SECTIONS.contains(&name) && !cfg!(feature = "broker") {
            let message = format!("this build has no [{name}]");
            let fault = self.text.error(section.key.clone(), message);
            self.faults
                .push(fault.with_hint("build it with `cargo build --features broker`"));
            return;
        }
        let mut options = Vec::new();
        for entry in &section.entries {
            match keys::find(&format!("{name}.{}", entry.name)) {
                Some(key) => self.take_key(key, entry),
                None if name == "application" => options.push(entry.clone()),
                None => self.unknown_key(name, entry),
            }
        }
        if name == "application" {
            self.application = self.option_table(section, &options);
        }
    }

    fn unknown_key(&mut self, section: &str, entry: &Entry) {
        let known: Vec<&str> = KEYS
            .iter()
            .filter(|key| key.section() == section)
            .filter_map(|key| key.option.name.split_once('.').map(|(_, name)| name))
            .collect();
        let hint = did_you_mean(&entry.name, known.iter().copied())
            .unwrap_or_else(|| format!("its keys are {}", known.join(", ")));
        let message = format!("unknown key '{}' in [{section}]", entry.name);
        let fault = self.text.error(entry.key.clone(), message);
        self.faults.push(fault.with_hint(hint));
    }

    /// A key of the table; `application.sql` has its own reader.
    fn take_key(&mut self, key: &KeySpec, entry: &Entry) {
        if key.option.name == sql_texts::KEY {
            return;
        }
        let expected = || value::expected(key.option.kind, key.range.as_ref());
        let Some((written, hidden)) = self.written(entry, key.option.name, &expected) else {
            return;
        };
        let option = &key.option;
        if hidden && !option.secret {
            let message = format!("'{}' cannot be a secret, as it is shown", option.name);
            let fault = self.text.error(entry.span.clone(), message);
            self.faults
                .push(fault.with_hint("write the value itself, or use ${VAR}"));
            return;
        }
        match value::check(option, key.range.as_ref(), &written) {
            Ok(value) => {
                let shown = match option.secret {
                    true => HIDDEN.to_owned(),
                    false => value::show(option.kind, &value),
                };
                self.put(option.name, value, shown, &entry.span);
            }
            Err(misfit) => {
                let fault = self
                    .text
                    .error(entry.span.clone(), misfit.message(option.name));
                self.faults.push(fault.with_hint_if(misfit.hint));
            }
        }
    }

    /// Notes a key's value with its place.
    pub(super) fn put(
        &mut self,
        name: &str,
        value: OptionValue,
        shown: String,
        span: &Range<usize>,
    ) {
        let resolved = Resolved {
            value,
            layer: Layer::File,
            origin: Some((self.text.path.to_owned(), self.text.place(span.clone()))),
            hidden: shown == HIDDEN,
            shown,
        };
        self.keys.put(name, resolved);
    }

    fn option_table(&mut self, section: &Section, entries: &[Entry]) -> OptionTable {
        let any = || "text in quotes, a whole number, true or false".to_owned();
        let mut options = Vec::new();
        for entry in entries {
            if let Some((value, hidden)) = self.written(entry, &entry.name, &any) {
                options.push(WrittenOption {
                    name: entry.name.clone(),
                    key: self.text.place(entry.key.clone()),
                    value,
                    place: self.text.place(entry.span.clone()),
                    hidden,
                });
            }
        }
        OptionTable {
            path: self.text.path.to_owned(),
            place: self.text.place(section.key.clone()),
            options,
        }
    }

    /// A value with its references expanded, and whether it holds a secret.
    fn written(
        &mut self,
        entry: &Entry,
        name: &str,
        expected: &dyn Fn() -> String,
    ) -> Option<(WrittenValue, bool)> {
        let found = match &entry.value {
            Raw::Text(text) => {
                let (text, hidden) = self.expand(text, &entry.span)?;
                return Some((WrittenValue::Text(text), hidden));
            }
            Raw::Integer(number) => return Some((WrittenValue::Integer(*number), false)),
            Raw::Flag(flag) => return Some((WrittenValue::Flag(*flag), false)),
            Raw::Texts(_) => "a list",
            Raw::Other(found) => found,
        };
        let message = format!("'{name}' must be {}, not {found}", expected());
        self.faults
            .push(self.text.error(entry.span.clone(), message));
        None
    }

    /// Expands a text; what cannot be is a fault at the reference.
    pub(super) fn expand(&mut self, text: &str, span: &Range<usize>) -> Option<(String, bool)> {
        match self.expander.expand(text) {
            Ok(expanded) => Some((expanded.text, expanded.hidden)),
            Err(missing) => {
                let place = self.text.place_within(span.clone(), &missing.reference);
                let fault = Diagnostic::error(self.text.path, place, missing.message);
                self.faults.push(fault.with_hint(missing.hint));
                None
            }
        }
    }
}
