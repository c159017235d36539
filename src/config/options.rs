//! What can be set on a stream: every option is declared once, by the connector or format that
//! reads it, and everything else (checking, documentation, `config list`) is made from that.

use std::collections::BTreeMap;

/// One option of a connector or a format.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// The full name, such as `mqtt.topic`. A name ending in `.*` is a family: `json.mapping.*`.
    pub name: &'static str,
    /// What may be written.
    pub kind: OptionKind,
    /// What holds when nothing is written; in the form in which it would be written.
    pub default: Option<&'static str>,
    /// Whether the stream cannot work without it.
    pub required: bool,
    /// Whether its value must never be shown.
    pub secret: bool,
    /// One line of documentation.
    pub doc: &'static str,
}

/// An option whose value has its form and still cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {problem}")]
pub struct OptionFault {
    /// The option's full name.
    pub option: String,
    /// What is wrong with its value, and what to write instead.
    pub problem: String,
}

impl OptionFault {
    /// A fault of `option`.
    pub fn new(option: impl Into<String>, problem: impl Into<String>) -> OptionFault {
        OptionFault {
            option: option.into(),
            problem: problem.into(),
        }
    }
}

/// The form of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// Any text that is not empty.
    Text,
    /// A whole number between two bounds, both included.
    Integer {
        /// The smallest allowed.
        min: i64,
        /// The largest allowed.
        max: i64,
    },
    /// A span of time such as `5 s`; at least 0.
    Duration,
    /// A size such as `64 KiB` or a bare number of bytes.
    Bytes,
    /// `true` or `false`.
    Flag,
    /// One of a few words.
    Choice(&'static [&'static str]),
}

/// A value of the right form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// For [`OptionKind::Text`] and [`OptionKind::Choice`].
    Text(String),
    /// For [`OptionKind::Integer`], and for spans (milliseconds) and sizes (bytes).
    Integer(i64),
    /// For [`OptionKind::Flag`].
    Flag(bool),
}

/// Where a value came from; later ones are stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Built in.
    Default,
    /// `[application]` in the configuration file.
    Application,
    /// `[streams.<name>]` in the configuration file.
    Stream,
    /// `WITH (…)` in SQL.
    Sql,
}

/// The options of one stream, checked: every required one is there, every value has its form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    values: BTreeMap<String, (OptionValue, Layer)>,
}

impl Options {
    /// Sets a value; a weaker layer never replaces a stronger one.
    pub fn set(&mut self, name: &str, value: OptionValue, layer: Layer) {
        if self
            .values
            .get(name)
            .is_none_or(|(_, present)| *present <= layer)
        {
            self.values.insert(name.to_owned(), (value, layer));
        }
    }

    /// Every option that has a value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OptionValue, Layer)> {
        self.values
            .iter()
            .map(|(name, (value, layer))| (name.as_str(), value, *layer))
    }

    /// A text or a choice.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.values.get(name) {
            Some((OptionValue::Text(text), _)) => Some(text),
            Some((OptionValue::Integer(_) | OptionValue::Flag(_), _)) | None => None,
        }
    }

    /// A number, a span in milliseconds or a size in bytes.
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.values.get(name) {
            Some((OptionValue::Integer(number), _)) => Some(*number),
            Some((OptionValue::Text(_) | OptionValue::Flag(_), _)) | None => None,
        }
    }

    /// Whether a flag is set and true.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some((OptionValue::Flag(true), _)))
    }

    /// The texts of a family: `family("json.mapping.")` gives `(column, path)`.
    pub fn family(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter_map(move |(name, value, _)| match value {
            OptionValue::Text(text) => Some((name.strip_prefix(prefix)?, text.as_str())),
            OptionValue::Integer(_) | OptionValue::Flag(_) => None,
        })
    }
}
