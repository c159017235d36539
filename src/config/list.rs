//! Every value in force, with where it came from; secrets stay hidden.

use super::keys::KEYS;
use super::options::{Layer, Options};
use super::settings::Settings;
use crate::diagnostic::Place;

/// One value in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedValue {
    /// The full name: `store.path`, or `streams.Readings.mqtt.topic`.
    pub name: String,
    /// The value the way it could be written in TOML; a secret reads `[hidden]`.
    pub value_shown: String,
    /// The layer it came from.
    pub layer: Layer,
    /// The file it is written in, and where; absent for what is built in.
    pub origin: Option<(String, Place)>,
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

/// The keys of the file in the order of the reference, then the options of each stream by name.
/// `streams` are the names with what [`super::resolve`] made of them.
#[must_use]
pub fn list(settings: &Settings, streams: &[(&str, &Options)]) -> Vec<ListedValue> {
    let mut listed = Vec::new();
    for key in KEYS {
        listed.extend(values(&settings.keys, "").find(|value| value.name == key.option.name));
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
        layer: resolved.layer,
        origin: resolved.origin.clone(),
    })
}
