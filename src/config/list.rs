//! Every value in force, with where it came from; secrets stay hidden.

use super::keys::{KEYS, split};
use super::options::{Layer, OptionSpec, OptionValue, Options};
use super::settings::Settings;
use crate::diagnostic::Place;

/// One value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedValue {
    /// The full name: `store.path`, or `streams.Readings.mqtt.topic`.
    pub name: String,
    /// The value the way it could be written in TOML; a secret reads `[hidden]`.
    pub value_shown: String,
    /// The value as JSON, spans of time and sizes as they could be written; a secret is `null`.
    pub value: serde_json::Value,
    /// The layer it came from.
    pub layer: Layer,
    /// The file it is written in, and where; absent for what is built in.
    pub origin: Option<(String, Place)>,
}

impl ListedValue {
    /// `{"name": …, "value": …, "secret": …, "layer": …}`, with `file`, `line` and `column` where
    /// it is written somewhere.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({
            "name": self.name,
            "value": self.value,
            "secret": self.value_shown == super::HIDDEN,
            "layer": self.layer.name(),
        });
        if let (Some(object), Some((path, place))) = (json.as_object_mut(), &self.origin) {
            object.insert("file".to_owned(), path.as_str().into());
            object.insert("line".to_owned(), place.line.into());
            object.insert("column".to_owned(), place.column.into());
        }
        json
    }
}

impl std::fmt::Display for ListedValue {
    /// `store.path = "/data"  # file, eventflux.toml:4`
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let layer = self.layer.name();
        write!(out, "{} = {}  # {layer}", self.name, self.value_shown)?;
        match &self.origin {
            Some((path, place)) => write!(out, ", {path}:{}", place.line),
            None => Ok(()),
        }
    }
}

/// The keys of the file in the order of the reference, the options of the connection for
/// `[control]` behind its keys, then the options of each stream by name. `streams` are the names
/// with what [`super::resolve`] made of them, `control` is what [`super::resolve_control`] did.
#[must_use]
pub fn list(
    settings: &Settings,
    streams: &[(&str, &Options)],
    control: &Options,
) -> Vec<ListedValue> {
    let mut listed = Vec::new();
    let is_control = |key: &OptionSpec| split(key).0 == "control";
    let last_of_control = KEYS.iter().rposition(is_control);
    for (index, key) in KEYS.iter().enumerate() {
        listed.extend(values(&settings.keys, "").find(|value| value.name == key.name));
        if Some(index) == last_of_control {
            // A table of the file, though it is stronger than what is built in as a stream's is.
            listed.extend(values(control, "control.").map(|value| ListedValue {
                layer: value.layer.min(Layer::File),
                ..value
            }));
        }
    }
    for (name, options) in streams {
        listed.extend(values(options, &format!("streams.{name}.")));
    }
    listed
}

fn values<'a>(options: &'a Options, prefix: &'a str) -> impl Iterator<Item = ListedValue> + 'a {
    options.resolved().map(move |(name, resolved)| ListedValue {
        name: format!("{prefix}{name}"),
        value_shown: match resolved.hidden {
            true => super::HIDDEN.to_owned(),
            false => resolved.shown.clone(),
        },
        value: match (resolved.hidden, &resolved.value) {
            (true, _) => serde_json::Value::Null,
            // A span or a size is shown with its unit, in quotes.
            (false, OptionValue::Integer(number)) => match resolved.shown.strip_prefix('"') {
                Some(shown) => shown.trim_end_matches('"').into(),
                None => (*number).into(),
            },
            (false, OptionValue::Text(text)) => text.as_str().into(),
            (false, OptionValue::Flag(flag)) => (*flag).into(),
            (false, OptionValue::Number(number)) => (*number).into(),
            (false, OptionValue::List(texts)) => texts.as_slice().into(),
        },
        layer: resolved.layer,
        origin: resolved.origin.clone(),
    })
}
