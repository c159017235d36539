//! What the local files alone may say, when a document from afar is read over them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::keys::{self, DEMO_SECTIONS};
use super::load::Reading;
use super::options::{OptionSpec, OptionValue, Options};
use super::resolve::{built_in, find};
use super::settings::{OptionTable, WrittenOption};
use super::value;
use crate::diagnostic::{Diagnostic, Place};

/// What a document wants of what is not its own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Judged {
    /// Something else than the local files say, which is a fault.
    pub(super) is_local_only: bool,
    /// Another connection for `[control]`, which they allow.
    pub(super) moves_control: bool,
}

/// Where the paths in a file begin, by its name.
type Folders<'a> = BTreeMap<&'a str, &'a Path>;

impl Reading<'_> {
    /// Reads a document over the local files, which have been read. It may repeat what they say.
    pub(super) fn take_remote(
        &mut self,
        document: &Document,
        specs: &[OptionSpec],
        folders: &Folders<'_>,
    ) -> Judged {
        let local = (self.keys.clone(), self.control.clone());
        let before = self.present.clone();
        self.take(document);
        let mut judged = Judged::default();
        for section in &document.sections {
            let name = section.name.as_str();
            if DEMO_SECTIONS.contains(&name) && !before.contains(name) {
                let place = self.text.place(section.key.clone());
                judged.is_local_only = true;
                self.refuse(&format!("[{name}]"), place, None);
            }
        }
        let is_held = |table: &str| !DEMO_SECTIONS.contains(&table) || before.contains(table);
        judged.is_local_only |= self.hold_keys(&local.0, &is_held, folders);
        self.hold_control(&local, specs, &mut judged);
        judged
    }

    /// Puts the local values back; whether the document has another one.
    fn hold_keys(
        &mut self,
        local: &Options,
        is_held: &dyn Fn(&str) -> bool,
        folders: &Folders<'_>,
    ) -> bool {
        let mut differs = false;
        for key in keys::KEYS {
            let (table, entry) = keys::split(key);
            let written = self.keys.origin(key.name);
            let written = written.filter(|(path, _)| *path == self.text.path);
            let is_held = keys::is_local_only(table, entry) && is_held(table);
            let Some((_, place)) = written.filter(|_| is_held) else {
                continue;
            };
            if meant(&self.keys, key, folders) == meant(local, key, folders) {
                let said = local.resolved().find(|(name, _)| *name == key.name);
                if let Some((name, said)) = said {
                    self.keys.put(name, said.clone());
                }
            } else {
                differs = true;
                self.refuse(&format!("'{}'", key.name), place, None);
            }
        }
        differs
    }

    /// The same for the connection.
    fn hold_control(
        &mut self,
        (keys, control): &(Options, OptionTable),
        specs: &[OptionSpec],
        judged: &mut Judged,
    ) {
        let may_move = keys.text("control.allow_remote") == Some("endpoint");
        let mut refused = Vec::new();
        for option in &mut self.control.options {
            // What nobody knows, or has not its form, is told when it is used.
            let spec = find(&[specs], &option.name);
            let spec = spec.filter(|_| option.path == self.text.path);
            let wanted = spec.and_then(|spec| value::check(spec, &option.value).ok());
            let (Some(spec), Some(wanted)) = (spec, wanted) else {
                continue;
            };
            let mut written = control.options.iter();
            let said = written.find(|said| said.name == option.name);
            if said_value(spec, said) == Some(wanted) {
                if let Some(said) = said {
                    *option = said.clone();
                }
            } else if may_move {
                judged.moves_control = true;
            } else {
                judged.is_local_only = true;
                refused.push((option.name.clone(), option.place));
            }
        }
        for (name, place) in refused {
            let hint = "leave it out, or allow it in the local file: [control] allow_remote = \
                        \"endpoint\"";
            self.refuse(&format!("'control.{name}'"), place, Some(hint));
        }
    }

    fn refuse(&mut self, what: &str, place: Place, hint: Option<&str>) {
        let message = format!("{what} is for the local file alone, which says something else");
        let fault = Diagnostic::error(self.text.path, place, message);
        let hint = hint.unwrap_or("leave it out, or write what the local file says");
        self.faults.push(fault.with_hint(hint));
    }
}

fn said_value(spec: &OptionSpec, said: Option<&WrittenOption>) -> Option<OptionValue> {
    match said {
        Some(said) => value::check(spec, &said.value).ok(),
        None => built_in(spec).map(|resolved| resolved.value),
    }
}

/// What a key comes to: where it is written, or else built in.
fn meant(keys: &Options, key: &OptionSpec, folders: &Folders<'_>) -> Option<OptionValue> {
    let value = match keys.value(key.name) {
        Some(value) => value.clone(),
        None => built_in(key)?.value,
    };
    match (value, key.name.ends_with("path")) {
        (OptionValue::Text(text), true) => {
            let file = keys.origin(key.name).map_or("", |(path, _)| path);
            let folder = folders.get(file).copied().unwrap_or(Path::new(""));
            // However it is spelled.
            let path: PathBuf = folder.join(text).components().collect();
            Some(OptionValue::Text(path.display().to_string()))
        }
        (value, _) => Some(value),
    }
}
