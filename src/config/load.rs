//! From texts to [`Settings`]: expands references, checks every key, and notes all that is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::document::{self, Document, Entry, Raw, Section, Wanted};
use super::expand::{Environment, Expander};
use super::files::{Files, Looked};
use super::keys::{self, DEMO_SECTIONS, KEYS, OPTION_SECTIONS, SECTIONS};
use super::local::Judged;
use super::options::{Layer, OptionSpec, OptionValue, Options, Resolved};
use super::resolve::{HIDDEN, built_in};
use super::settings::{OptionTable, SqlText, WrittenOption};
use super::text::NamedText;
use super::value::{self, WrittenValue};
use super::{build, sql_texts};
use crate::diagnostic::{Diagnostic, did_you_mean};

/// A configuration file that has been read.
pub(super) struct File {
    /// What diagnostics call it.
    pub(super) name: String,
    /// What paths in it are relative to.
    pub(super) folder: PathBuf,
    pub(super) text: String,
}

/// What there is to read.
pub(super) struct Sources<'a> {
    /// What all of it is called.
    pub(super) name: Option<String>,
    /// All that was asked for, of which some may have failed already.
    pub(super) paths: Vec<PathBuf>,
    /// Later ones hold over earlier ones.
    pub(super) files: &'a [File],
    /// Where the files are found that they name.
    pub(super) named: Files<'a>,
    /// SQL that was given beside the files.
    pub(super) application: Option<SqlText>,
    /// When the last file is a document from afar: the options of the connection for `[control]`.
    pub(super) remote: Option<&'a [OptionSpec]>,
}

/// Reads files; `findings` is what was wrong with some already.
pub(super) fn read_all(
    sources: Sources<'_>,
    environment: Environment<'_>,
    mut findings: Vec<Diagnostic>,
) -> Looked {
    let files = sources.files;
    let document = sources.name.clone().filter(|_| sources.remote.is_some());
    let mut options_are_whole = findings.is_empty();
    let named = files.iter();
    let named = named.map(|file| NamedText::new(&file.name, &file.text));
    let named: Vec<NamedText<'_>> = named.collect();
    // How many of them say only what no document can.
    let local = sources.remote.map_or(0, |_| files.len().saturating_sub(1));
    let read = parse_all(files, &named, local, &mut findings);
    options_are_whole &= read.iter().all(|(_, _, document)| document.is_toml);
    let nothing = NamedText::new("", "");
    let deciding = match sources.remote {
        Some(_) => read.get(..local).unwrap_or(&read),
        None => &read,
    };
    let expander = Expander::new(environment, &secrets_path(deciding, environment));
    let mut reading = Reading::new((&nothing, sources.named), expander, findings);
    let folders = files.iter();
    let folders = folders.map(|file| (file.name.as_str(), file.folder.as_path()));
    let folders: BTreeMap<&str, &Path> = folders.collect();
    let mut judged = Judged::default();
    for (index, (_, text, document)) in read.iter().enumerate() {
        reading.text = text;
        match sources.remote.filter(|_| index == local) {
            Some(specs) => judged = reading.take_remote(document, specs, &folders),
            None => reading.take(document),
        }
    }
    reading.take_defaults();
    let mut texts = texts(files);
    let sql = reading.take_sql(&read, sources.application, &mut texts);
    let order = order(&sources.paths, files, sql.as_deref().unwrap_or_default());
    let sql_is_whole = options_are_whole && sql.is_some();
    let written = build::Written {
        name: sources.name.unwrap_or_default(),
        paths: sources.paths,
        folders,
        keys: reading.keys,
        application: reading.application,
        control: reading.control,
        streams: reading.streams,
        sql: sql.unwrap_or_default(),
    };
    let mut findings = reading.faults;
    let settings = build::settings(written, sql_is_whole, &mut findings);
    Looked {
        settings,
        findings,
        texts,
        order,
        sql_is_whole,
        options_are_whole,
        document,
        is_local_only: judged.is_local_only,
        moves_control: judged.moves_control,
    }
}

fn texts(files: &[File]) -> BTreeMap<String, String> {
    let files = files.iter();
    files
        .map(|file| (file.name.clone(), file.text.clone()))
        .collect()
}

/// A file with its text and what is in it.
type Read<'a> = (&'a File, &'a NamedText<'a>, Document);

/// Of the first files, which are `local`, only what no document from afar can say.
fn parse_all<'a>(
    files: &'a [File],
    named: &'a [NamedText<'a>],
    local: usize,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Read<'a>> {
    let mut read = Vec::new();
    for (index, (file, text)) in files.iter().zip(named).enumerate() {
        let wanted: Wanted = match index < local {
            true => keys::is_local_only,
            false => |_, _| true,
        };
        read.push((file, text, document::read(text, wanted, findings)));
    }
    read
}

/// The files in the order in which findings about them are told.
fn order(paths: &[PathBuf], files: &[File], sql: &[SqlText]) -> Vec<String> {
    let paths = paths.iter().map(|path| path.display().to_string());
    let files = files.iter().map(|file| file.name.clone());
    let sql = sql.iter().map(|sql| sql.path.clone());
    paths.chain(files).chain(sql).collect()
}

/// Where secrets lie must be known before the other values are expanded; what is wrong with the
/// key itself is told when its turn comes.
fn secrets_path(read: &[Read<'_>], environment: Environment<'_>) -> PathBuf {
    let written = |document: &Document| {
        let sections = document.sections.iter();
        let secrets = sections.filter(|section| section.name == "secrets");
        let mut entries = secrets.flat_map(|section| section.entries.clone());
        entries.find_map(|entry| match entry.value {
            Raw::Text(text) if entry.name == "path" => Some(text),
            _ => None,
        })
    };
    let mut last_first = read.iter().rev();
    let found = last_first.find_map(|(file, _, document)| Some((file, written(document)?)));
    let default = keys::find("secrets.path").and_then(|key| key.default);
    let (folder, path) = match found {
        Some((file, path)) => (file.folder.as_path(), path),
        None => (Path::new(""), default.unwrap_or_default().to_owned()),
    };
    let without_secrets = Expander::new(environment, Path::new(""));
    match without_secrets.expand(&path) {
        Ok(expanded) => folder.join(expanded.text),
        Err(_) => folder.to_owned(),
    }
}

/// Documents on their way to [`super::Settings`], one after the other.
pub(super) struct Reading<'a> {
    /// The one whose turn it is.
    pub(super) text: &'a NamedText<'a>,
    /// Where the files are found that it names.
    pub(super) named: Files<'a>,
    expander: Expander<'a>,
    pub(super) faults: Vec<Diagnostic>,
    pub(super) keys: Options,
    /// The tables that any of them has.
    pub(super) present: BTreeSet<String>,
    application: OptionTable,
    pub(super) control: OptionTable,
    streams: BTreeMap<String, OptionTable>,
}

impl<'a> Reading<'a> {
    fn new(
        (text, named): (&'a NamedText<'a>, Files<'a>),
        expander: Expander<'a>,
        faults: Vec<Diagnostic>,
    ) -> Reading<'a> {
        Reading {
            text,
            named,
            expander,
            faults,
            keys: Options::default(),
            present: BTreeSet::new(),
            application: OptionTable::default(),
            control: OptionTable::default(),
            streams: BTreeMap::new(),
        }
    }

    pub(super) fn take(&mut self, document: &Document) {
        for section in &document.sections {
            self.present.insert(section.name.clone());
            self.take_section(section);
        }
        for section in &document.streams {
            let table = self.option_table(section, &section.entries);
            let known = self.streams.entry(section.name.clone()).or_default();
            known.replace_by(table);
        }
    }

    fn take_defaults(&mut self) {
        for key in KEYS {
            let (section, _) = keys::split(key);
            let wanted = !DEMO_SECTIONS.contains(&section) || self.present.contains(section);
            if let (true, Some(resolved)) = (wanted, built_in(key)) {
                self.keys.put(key.name, resolved);
            }
        }
    }

    /// The SQL that is given, or that the last file names which names any; `None` when some of it
    /// cannot be read.
    fn take_sql(
        &mut self,
        read: &[(&'a File, &'a NamedText<'a>, Document)],
        application: Option<SqlText>,
        texts: &mut BTreeMap<String, String>,
    ) -> Option<Vec<SqlText>> {
        let mut last_first = read.iter().rev();
        let named = last_first
            .find_map(|(file, text, document)| Some((file, text, sql_texts::entry(document)?)));
        match (application, named) {
            (None, None) => Some(Vec::new()),
            (None, Some((file, text, entry))) => {
                self.text = text;
                sql_texts::collect(self, entry, &file.folder, texts)
            }
            (Some(sql), named) => {
                if let Some((_, text, entry)) = named {
                    let message = format!("the SQL is '{}' already", sql.path);
                    let fault = text.error(entry.span.clone(), message);
                    self.faults.push(fault.with_hint("give one or the other"));
                }
                texts.insert(sql.path.clone(), sql.text.clone());
                Some(vec![sql])
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
                None if OPTION_SECTIONS.contains(&name) => options.push(entry.clone()),
                None => self.unknown_key(name, entry),
            }
        }
        if OPTION_SECTIONS.contains(&name) {
            let table = self.option_table(section, &options);
            match name {
                "control" => self.control.replace_by(table),
                _ => self.application.replace_by(table),
            }
        }
    }

    fn unknown_key(&mut self, section: &str, entry: &Entry) {
        let known: Vec<&str> = keys::of_section(section).map(|(name, _)| name).collect();
        let hint = did_you_mean(&entry.name, known.iter().copied())
            .unwrap_or_else(|| format!("its keys are {}", known.join(", ")));
        let message = format!("unknown key '{}' in [{section}]", entry.name);
        let fault = self.text.error(entry.key.clone(), message);
        self.faults.push(fault.with_hint(hint));
    }

    /// A key of the table; `application.sql` has its own reader.
    fn take_key(&mut self, key: &OptionSpec, entry: &Entry) {
        if key.name == sql_texts::KEY {
            return;
        }
        let expected = || value::expected(key);
        let Some((written, hidden)) = self.written(entry, key.name, &expected) else {
            return;
        };
        if hidden && !key.secret {
            let message = format!("'{}' cannot be a secret, as it is shown", key.name);
            let fault = self.text.error(entry.span.clone(), message);
            self.faults
                .push(fault.with_hint("write the value itself, or use ${VAR}"));
            return;
        }
        match value::check(key, &written) {
            Ok(value) => {
                let shown = match key.secret {
                    true => HIDDEN.to_owned(),
                    false => value::show(key.kind, &value),
                };
                self.put(key.name, value, shown, &entry.span);
            }
            Err(misfit) => {
                let fault = self
                    .text
                    .error(entry.span.clone(), misfit.message(key.name));
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
        let any = || "text in quotes, a number, true, false or a list of texts".to_owned();
        let mut table = OptionTable {
            path: self.text.path.to_owned(),
            place: self.text.place(section.key.clone()),
            options: Vec::new(),
            unreadable: Vec::new(),
        };
        for entry in entries {
            match self.written(entry, &entry.name, &any) {
                Some((value, hidden)) => table.options.push(WrittenOption {
                    name: entry.name.clone(),
                    path: self.text.path.to_owned(),
                    key: self.text.place(entry.key.clone()),
                    value,
                    place: self.text.place(entry.span.clone()),
                    hidden,
                }),
                None => table.unreadable.push(entry.name.clone()),
            }
        }
        table
    }

    /// A value with its references expanded, and whether it holds a secret.
    fn written(
        &mut self,
        entry: &Entry,
        name: &str,
        expected: &dyn Fn() -> String,
    ) -> Option<(WrittenValue, bool)> {
        let plain = |value| Some((value, false));
        match &entry.value {
            Raw::Text(text) => {
                let (text, hidden) = self.expand(text, &entry.span)?;
                Some((WrittenValue::Text(text), hidden))
            }
            Raw::Integer(number) => plain(WrittenValue::Integer(*number)),
            Raw::Flag(flag) => plain(WrittenValue::Flag(*flag)),
            Raw::Number(number) => plain(WrittenValue::Number(*number)),
            Raw::Texts(texts) => {
                // Every fault of a list is told, not the first alone.
                let expanded: Vec<_> = texts
                    .iter()
                    .map(|(text, span)| self.expand(text, span))
                    .collect();
                let expanded: Vec<_> = expanded.into_iter().collect::<Option<_>>()?;
                let hidden = expanded.iter().any(|(_, hidden)| *hidden);
                let texts = expanded.into_iter().map(|(text, _)| text).collect();
                Some((WrittenValue::Texts(texts), hidden))
            }
            Raw::Other(found) => {
                let message = format!("'{name}' must be {}, not {found}", expected());
                self.faults
                    .push(self.text.error(entry.span.clone(), message));
                None
            }
        }
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
