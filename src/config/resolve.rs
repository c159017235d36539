//! The options of one stream from their layers: SQL `WITH` over `[streams.<name>]` over
//! `[application]` over what is built in.

use std::collections::BTreeSet;

use super::expand::Expander;
use super::options::{Layer, OptionSpec, Options, Resolved};
use super::settings::{OptionTable, Settings, WrittenOption};
use super::value::{self, WrittenValue};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};

/// What is shown in place of a secret.
pub const HIDDEN: &str = "[hidden]";

/// Properties that choose the connector; they stand in SQL only and are read there.
const SQL_ONLY: [&str; 3] = ["type", "extension", "format"];

/// One `'name' = 'value'` of a `WITH (…)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The name, without quotes.
    pub name: String,
    /// The value, without quotes; references not expanded.
    pub value: String,
    /// Where the name stands, in the file that defines the stream.
    pub place: Place,
    /// Where the value stands.
    pub value_place: Place,
}

/// A stream whose options are wanted.
#[derive(Clone, Copy)]
pub struct StreamDefinition<'a> {
    /// Its name.
    pub name: &'a str,
    /// The file in which it is defined.
    pub path: &'a str,
    /// Where its name stands there.
    pub place: Place,
    /// Its `WITH (…)`; `type`, `extension` and `format` are passed over.
    pub properties: &'a [Property],
    /// What its connector, its format and the stream itself know. The first declaration of a
    /// name counts.
    pub specs: &'a [&'a [OptionSpec]],
}

/// Checks and layers everything that is written about one stream. References in SQL are expanded
/// here; those in TOML were when it was read.
///
/// # Errors
///
/// Every unknown option, every value of a wrong form, every reference that stands for nothing and
/// every required option without a value.
pub fn resolve(
    stream: StreamDefinition<'_>,
    settings: &Settings,
    expander: &Expander<'_>,
) -> Result<Options, Vec<Diagnostic>> {
    let mut work = Work {
        stream,
        options: Options::default(),
        written: BTreeSet::new(),
        faults: Vec::new(),
    };
    work.take_sql(expander);
    if let Some(table) = settings.streams.get(stream.name) {
        work.take_stream_table(table);
    }
    work.take_application(&settings.application.options);
    work.take_defaults();
    if work.faults.is_empty() {
        Ok(work.options)
    } else {
        Err(work.faults)
    }
}

/// Like [`resolve`], for a stream of which nothing is written but its `WITH (…)`.
///
/// # Errors
///
/// As of [`resolve`].
pub fn resolve_alone(
    stream: StreamDefinition<'_>,
    expander: &Expander<'_>,
) -> Result<Options, Vec<Diagnostic>> {
    let mut work = Work {
        stream,
        options: Options::default(),
        written: BTreeSet::new(),
        faults: Vec::new(),
    };
    work.take_sql(expander);
    work.take_defaults();
    if work.faults.is_empty() {
        Ok(work.options)
    } else {
        Err(work.faults)
    }
}

/// Finds every `[streams.<name>]` for which there is no stream.
#[must_use]
pub fn unknown_streams(settings: &Settings, stream_names: &[&str]) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for (name, table) in &settings.streams {
        if stream_names.contains(&name.as_str()) {
            continue;
        }
        let hint = did_you_mean(name, stream_names.iter().copied())
            .or_else(|| Some("define it in the SQL with CREATE STREAM".to_owned()));
        let message = format!("there is no stream '{name}'");
        faults.push(Diagnostic::error(&table.path, table.place, message).with_hint_if(hint));
    }
    faults
}

/// Finds every option in `[application]` that is in none of `known` (all options of all connectors
/// and formats).
#[must_use]
pub fn unknown_keys(settings: &Settings, known: &[&[OptionSpec]]) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for option in &settings.application.options.options {
        if is_sql_only(&option.name) {
            faults.push(sql_only(option));
        } else if find(known, &option.name).is_none() {
            let keys = super::keys::of_section("application").map(|(name, _)| name);
            let names = known.iter().copied().flatten().map(|spec| spec.name);
            let message = format!("unknown key '{}' in [application]", option.name);
            faults.push(
                Diagnostic::error(&option.path, option.key, message)
                    .with_hint_if(did_you_mean(&option.name, keys.chain(names))),
            );
        }
    }
    faults
}

/// The diagnostic for an option whose value has its form and still cannot be used: at the value,
/// or at the stream when the value is built in. A problem that quotes a secret is not shown.
#[must_use]
pub fn unusable(
    stream: StreamDefinition<'_>,
    options: &Options,
    option: &str,
    problem: &str,
) -> Diagnostic {
    let (path, place) = options
        .origin(option)
        .unwrap_or((stream.path, stream.place));
    let problem = options.without_secrets(problem);
    let message = format!("'{option}' of stream '{}': {problem}", stream.name);
    Diagnostic::error(path, place, message)
}

struct Work<'a> {
    stream: StreamDefinition<'a>,
    options: Options,
    /// Names with a value in any layer, right or wrong.
    written: BTreeSet<String>,
    faults: Vec<Diagnostic>,
}

impl Work<'_> {
    fn take_sql(&mut self, expander: &Expander<'_>) {
        let StreamDefinition {
            properties, path, ..
        } = self.stream;
        let mut seen = BTreeSet::new();
        for property in properties {
            if !seen.insert(property.name.as_str()) {
                let message = format!("'{}' is written twice", property.name);
                let fault = Diagnostic::error(path, property.place, message);
                self.faults.push(fault.with_hint("remove one of them"));
                continue;
            }
            if is_sql_only(&property.name) {
                continue;
            }
            let expanded = match expander.expand(&property.value) {
                Ok(expanded) => expanded,
                Err(missing) => {
                    self.written.insert(property.name.clone());
                    let fault = Diagnostic::error(path, property.value_place, missing.message);
                    self.faults.push(fault.with_hint(missing.hint));
                    continue;
                }
            };
            let option = WrittenOption {
                name: property.name.clone(),
                path: path.to_owned(),
                key: property.place,
                value: WrittenValue::Text(expanded.text),
                place: property.value_place,
                hidden: expanded.hidden,
            };
            self.take(&option, Layer::Sql);
        }
    }

    fn take_stream_table(&mut self, table: &OptionTable) {
        for option in &table.options {
            if is_sql_only(&option.name) {
                self.faults.push(sql_only(option));
            } else {
                self.take(option, Layer::Stream);
            }
        }
        self.written.extend(table.unreadable.iter().cloned());
    }

    /// What this stream does not know belongs to another one.
    fn take_application(&mut self, table: &OptionTable) {
        for option in &table.options {
            if find(self.stream.specs, &option.name).is_some() {
                self.take(option, Layer::Application);
            }
        }
        self.written.extend(table.unreadable.iter().cloned());
    }

    fn take(&mut self, option: &WrittenOption, layer: Layer) {
        self.written.insert(option.name.clone());
        let Some(spec) = find(self.stream.specs, &option.name) else {
            self.faults.push(self.unknown(option));
            return;
        };
        match checked(spec, option, layer) {
            Ok(resolved) => self.options.put(&option.name, resolved),
            Err(fault) => self.faults.push(fault),
        }
    }

    fn unknown(&self, option: &WrittenOption) -> Diagnostic {
        let names = || {
            self.stream
                .specs
                .iter()
                .copied()
                .flatten()
                .map(|spec| spec.name)
        };
        let hint = did_you_mean(&option.name, names()).unwrap_or_else(|| {
            let known: Vec<&str> = names().collect();
            match known.is_empty() {
                true => "it has no options".to_owned(),
                false => format!("it knows {}", known.join(", ")),
            }
        });
        let message = format!(
            "unknown option '{}' of stream '{}'",
            option.name, self.stream.name
        );
        Diagnostic::error(&option.path, option.key, message).with_hint(hint)
    }

    fn take_defaults(&mut self) {
        let stream = self.stream;
        for spec in stream.specs.iter().copied().flatten() {
            if spec.is_family() || self.options.has(spec.name) {
                continue;
            }
            if let Some(resolved) = built_in(spec) {
                self.options.put(spec.name, resolved);
            } else if spec.required && !self.written.contains(spec.name) {
                let name = stream.name;
                let message = format!("stream '{name}' needs the option '{}'", spec.name);
                let hint = format!(
                    "write it in the stream's WITH (…) or under [streams.{name}]: {}",
                    spec.doc
                );
                let fault = Diagnostic::error(stream.path, stream.place, message);
                self.faults.push(fault.with_hint(hint));
                self.written.insert(spec.name.to_owned());
            }
        }
    }
}

/// The value that is built in, if there is one.
///
/// # Panics
///
/// When the declaration contradicts itself: its default does not have its own form.
pub(super) fn built_in(spec: &OptionSpec) -> Option<Resolved> {
    let written = WrittenValue::Text(spec.default?.to_owned());
    let value = value::check(spec, &written).ok();
    assert!(
        value.is_some(),
        "the default of '{}' has not its own form",
        spec.name
    );
    let value = value?;
    Some(Resolved {
        shown: value::show(spec.kind, &value),
        value,
        layer: Layer::Default,
        origin: None,
        hidden: spec.secret,
    })
}

pub(super) fn checked(
    spec: &OptionSpec,
    option: &WrittenOption,
    layer: Layer,
) -> Result<Resolved, Diagnostic> {
    let hidden = spec.secret || option.hidden;
    let spec = OptionSpec {
        secret: hidden,
        ..*spec
    };
    match value::check(&spec, &option.value) {
        Ok(value) => Ok(Resolved {
            shown: match hidden {
                true => HIDDEN.to_owned(),
                false => value::show(spec.kind, &value),
            },
            value,
            layer,
            origin: Some((option.path.clone(), option.place)),
            hidden,
        }),
        Err(misfit) => {
            Err(
                Diagnostic::error(&option.path, option.place, misfit.message(&option.name))
                    .with_hint_if(misfit.hint),
            )
        }
    }
}

/// The declaration that covers a name; a family `json.mapping.*` covers all that begins so.
pub(super) fn find<'a>(specs: &[&'a [OptionSpec]], name: &str) -> Option<&'a OptionSpec> {
    specs
        .iter()
        .copied()
        .flatten()
        .find(|spec| match spec.name.strip_suffix('*') {
            Some(family) => name.len() > family.len() && name.starts_with(family),
            None => spec.name == name,
        })
}

fn is_sql_only(name: &str) -> bool {
    SQL_ONLY.contains(&name)
}

fn sql_only(option: &WrittenOption) -> Diagnostic {
    let name = &option.name;
    Diagnostic::error(
        &option.path,
        option.key,
        format!("'{name}' stands in SQL only"),
    )
    .with_hint(format!("write '{name}' = '…' in the stream's WITH (…)"))
}

#[cfg(test)]
mod tests;
