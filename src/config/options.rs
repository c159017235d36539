//! What can be set on a stream: every option is declared once, by the connector or format that
//! reads it, and everything else (checking, documentation, `config list`) is made from that.

use std::collections::BTreeMap;

use crate::diagnostic::Place;

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
    /// One line of documentation, in Markdown.
    pub doc: &'static str,
    /// The bounds of a span of time in milliseconds or of a size in bytes, both included.
    pub range: Option<(i64, i64)>,
    /// What a bare number counts, such as `bit/s`; spans and sizes say it themselves.
    pub unit: Option<&'static str>,
    /// Whether two streams must not have the same value, see [`OptionSpec::exclusive`].
    pub exclusive: bool,
}

impl OptionSpec {
    /// An option that may be left out, and has no default.
    #[must_use]
    pub const fn new(name: &'static str, kind: OptionKind, doc: &'static str) -> OptionSpec {
        OptionSpec {
            name,
            kind,
            default: None,
            required: false,
            secret: false,
            doc,
            range: None,
            unit: None,
            exclusive: false,
        }
    }

    /// The same, which holds `default` when nothing is written.
    #[must_use]
    pub const fn or(self, default: &'static str) -> OptionSpec {
        OptionSpec {
            default: Some(default),
            ..self
        }
    }

    /// The same, without which the stream cannot work.
    #[must_use]
    pub const fn required(self) -> OptionSpec {
        OptionSpec {
            required: true,
            ..self
        }
    }

    /// The same, whose value is never shown.
    #[must_use]
    pub const fn secret(self) -> OptionSpec {
        OptionSpec {
            secret: true,
            ..self
        }
    }

    /// The same for a span of time (milliseconds) or a size (bytes), within bounds that are both
    /// included.
    #[must_use]
    pub const fn between(self, min: i64, max: i64) -> OptionSpec {
        OptionSpec {
            range: Some((min, max)),
            ..self
        }
    }

    /// The same for a number, which counts these.
    #[must_use]
    pub const fn unit(self, unit: &'static str) -> OptionSpec {
        OptionSpec {
            unit: Some(unit),
            ..self
        }
    }

    /// The same, whose value only one stream can have: a port that is opened, an address that is
    /// listened at. Where a connector marks several options, they are one thing together: two
    /// streams collide when all of them have values and all of these are the same.
    #[must_use]
    pub const fn exclusive(self) -> OptionSpec {
        OptionSpec {
            exclusive: true,
            ..self
        }
    }

    /// Whether the name is a family, such as `json.mapping.*`.
    #[must_use]
    pub fn is_family(&self) -> bool {
        self.name.ends_with(".*")
    }
}

/// The options of several lists as one, for a connector that reads what others declare. Lists that
/// do not have `N` options together do not compile.
#[must_use]
#[expect(
    clippy::indexing_slicing,
    reason = "a constant: what is out of bounds is found by the compiler"
)]
pub const fn joined<const N: usize>(lists: &[&[OptionSpec]]) -> [OptionSpec; N] {
    let mut all = [OptionSpec::new("", OptionKind::Text, ""); N];
    let (mut list, mut count) = (0, 0);
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            all[count] = lists[list][at];
            at += 1;
            count += 1;
        }
        list += 1;
    }
    assert!(count == N);
    all
}

/// The same options, the first of them [exclusive](OptionSpec::exclusive): for a connector that
/// cannot share what others can.
#[must_use]
pub const fn first_exclusive<const N: usize>(mut options: [OptionSpec; N]) -> [OptionSpec; N] {
    let all: &mut [OptionSpec] = &mut options;
    if let [first, ..] = all {
        *first = first.exclusive();
    }
    options
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
    /// A number, perhaps with a fraction, between two bounds, both included.
    Number {
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
    /// One text or several, none of them empty: `["a", "b"]` in TOML, `a, b` there and in SQL.
    List,
}

/// A value of the right form.
#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue {
    /// For [`OptionKind::Text`] and [`OptionKind::Choice`].
    Text(String),
    /// For [`OptionKind::Integer`], and for spans (milliseconds) and sizes (bytes).
    Integer(i64),
    /// For [`OptionKind::Flag`].
    Flag(bool),
    /// For [`OptionKind::Number`]; finite.
    Number(f64),
    /// For [`OptionKind::List`]; at least one.
    List(Vec<String>),
}

// A number is finite, so that every value equals itself.
impl Eq for OptionValue {}

/// Where a value came from; later ones are stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Built in.
    Default,
    /// Follows from `limits.memory_max`.
    Memory,
    /// A table of the configuration file that is about the daemon itself, such as `[store]`.
    File,
    /// `[application]` in the configuration file.
    Application,
    /// `[streams.<name>]` in the configuration file.
    Stream,
    /// `WITH (…)` in SQL.
    Sql,
}

impl Layer {
    /// One word or two for a listing.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Layer::Default => "default",
            Layer::Memory => "limits.memory_max",
            Layer::File => "file",
            Layer::Application => "application",
            Layer::Stream => "stream",
            Layer::Sql => "sql",
        }
    }
}

/// A value with all that is known about it.
#[derive(Clone)]
pub(super) struct Resolved {
    pub(super) value: OptionValue,
    pub(super) layer: Layer,
    /// The file it is written in and where; absent for defaults.
    pub(super) origin: Option<(String, Place)>,
    /// The value as it may be shown: secrets are redacted.
    pub(super) shown: String,
    /// Whether nobody may see it.
    pub(super) hidden: bool,
}

/// The options of one stream, checked: every required one is there, every value has its form.
///
/// Two are equal when they have the same values, wherever these came from.
#[derive(Clone, Default)]
pub struct Options {
    values: BTreeMap<String, Resolved>,
}

impl Options {
    /// Sets a value; a weaker layer never replaces a stronger one.
    pub fn set(&mut self, name: &str, value: OptionValue, layer: Layer) {
        let shown = match &value {
            OptionValue::Text(text) => format!("{text:?}"),
            OptionValue::Integer(number) => number.to_string(),
            OptionValue::Flag(flag) => flag.to_string(),
            OptionValue::Number(number) => format!("{number:?}"),
            OptionValue::List(texts) => format!("{texts:?}"),
        };
        self.put(
            name,
            Resolved {
                value,
                layer,
                origin: None,
                shown,
                hidden: false,
            },
        );
    }

    /// Like [`Options::set`], with all that is known about the value.
    pub(super) fn put(&mut self, name: &str, resolved: Resolved) {
        let present = self.values.get(name);
        if present.is_none_or(|present| present.layer <= resolved.layer) {
            self.values.insert(name.to_owned(), resolved);
        }
    }

    /// Every option that has a value, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OptionValue, Layer)> {
        self.values
            .iter()
            .map(|(name, resolved)| (name.as_str(), &resolved.value, resolved.layer))
    }

    pub(super) fn resolved(&self) -> impl Iterator<Item = (&str, &Resolved)> {
        self.values
            .iter()
            .map(|(name, resolved)| (name.as_str(), resolved))
    }

    /// The option's value, when it has one.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&OptionValue> {
        self.values.get(name).map(|resolved| &resolved.value)
    }

    /// Where the option's value came from, when it has one.
    #[must_use]
    pub fn layer(&self, name: &str) -> Option<Layer> {
        self.values.get(name).map(|resolved| resolved.layer)
    }

    /// Whether the option is set for this stream, not for all that know it.
    #[must_use]
    pub fn is_own(&self, name: &str) -> bool {
        matches!(self.layer(name), Some(Layer::Sql | Layer::Stream))
    }

    /// Forgets what is built in for these options: nothing reads it.
    pub fn forget_defaults(&mut self, names: &[OptionSpec]) {
        self.values.retain(|name, resolved| {
            resolved.layer != Layer::Default || names.iter().all(|spec| spec.name != name)
        });
    }

    /// The same without one option.
    #[must_use]
    pub fn without(&self, name: &str) -> Options {
        let mut others = self.clone();
        others.values.remove(name);
        others
    }

    /// Whether the option has a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// The file in which an option is written, and where; `None` when its value is built in.
    #[must_use]
    pub fn origin(&self, name: &str) -> Option<(&str, Place)> {
        let (path, place) = self.values.get(name)?.origin.as_ref()?;
        Some((path, *place))
    }

    /// Whether nobody may see the option's value: it is a secret, or holds one.
    #[must_use]
    pub fn is_hidden(&self, name: &str) -> bool {
        self.values
            .get(name)
            .is_some_and(|resolved| resolved.hidden)
    }

    /// `problem`, unless a hidden value could be read in it.
    ///
    /// Connectors quote what they cannot use, in part or whole, and do not know what is a secret:
    /// any option may be written with `${secret:name}`.
    pub(super) fn without_secrets(&self, problem: &str) -> String {
        let hidden = self.values.values().filter(|resolved| resolved.hidden);
        let mut texts = hidden.flat_map(|resolved| match &resolved.value {
            OptionValue::Text(text) => vec![text.clone()],
            OptionValue::Integer(number) => vec![number.to_string()],
            OptionValue::Number(number) => vec![number.to_string()],
            OptionValue::List(texts) => texts.clone(),
            OptionValue::Flag(_) => Vec::new(),
        });
        match texts.any(|secret| shares_a_piece(problem, &secret)) {
            true => "it cannot be used; what is wrong with it is not shown, as it holds a secret"
                .to_owned(),
            false => problem.to_owned(),
        }
    }

    /// What nobody is to read: hidden values, and what a hidden URL is made of behind its host.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        /// Shorter ones are words of everybody.
        const PART_BYTES_MIN: usize = 8;
        let hidden = self.values.values().filter(|resolved| resolved.hidden);
        let texts = hidden.flat_map(|resolved| match &resolved.value {
            OptionValue::Text(text) => std::slice::from_ref(text),
            OptionValue::List(texts) => texts.as_slice(),
            OptionValue::Integer(_) | OptionValue::Number(_) | OptionValue::Flag(_) => &[],
        });
        let mut secrets = Vec::new();
        for text in texts {
            secrets.push(text.clone());
            let inside = text
                .split_once("://")
                .and_then(|(_, rest)| rest.split_once('/'));
            let parts = inside.map_or("", |(_, inside)| inside);
            let parts = parts.split(['/', '?', '&', '=', '#']);
            let parts = parts.filter(|part| part.len() >= PART_BYTES_MIN);
            secrets.extend(parts.map(str::to_owned));
        }
        secrets
    }

    /// The option's value the way it may be shown: a secret reads `[hidden]`.
    #[must_use]
    pub fn shown(&self, name: &str) -> Option<&str> {
        Some(&self.values.get(name)?.shown)
    }

    /// A text or a choice.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.values.get(name)?.value {
            OptionValue::Text(text) => Some(text),
            OptionValue::Integer(_)
            | OptionValue::Flag(_)
            | OptionValue::Number(_)
            | OptionValue::List(_) => None,
        }
    }

    /// The texts of a list in the order in which they are written; none when it is not set. A text
    /// is what stands between its commas.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<&str> {
        match self.value(name) {
            Some(OptionValue::List(texts)) => texts.iter().map(String::as_str).collect(),
            Some(OptionValue::Text(text)) => text.split(',').map(str::trim).collect(),
            Some(OptionValue::Integer(_) | OptionValue::Flag(_) | OptionValue::Number(_))
            | None => Vec::new(),
        }
    }

    /// A number that may have a fraction.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<f64> {
        match self.value(name)? {
            OptionValue::Number(number) => Some(*number),
            OptionValue::Text(_)
            | OptionValue::Integer(_)
            | OptionValue::Flag(_)
            | OptionValue::List(_) => None,
        }
    }

    /// A number, a span in milliseconds or a size in bytes.
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        match &self.values.get(name)?.value {
            OptionValue::Integer(number) => Some(*number),
            OptionValue::Text(_)
            | OptionValue::Flag(_)
            | OptionValue::Number(_)
            | OptionValue::List(_) => None,
        }
    }

    /// Whether a flag is set and true.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        let value = self.values.get(name).map(|resolved| &resolved.value);
        matches!(value, Some(OptionValue::Flag(true)))
    }

    /// The texts of a family: `family("json.mapping.")` gives `(column, path)`.
    pub fn family(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter_map(move |(name, value, _)| match value {
            OptionValue::Text(text) => Some((name.strip_prefix(prefix)?, text.as_str())),
            OptionValue::Integer(_)
            | OptionValue::Flag(_)
            | OptionValue::Number(_)
            | OptionValue::List(_) => None,
        })
    }
}

/// Whether `text` holds so many characters of `secret` in a row that they tell something.
fn shares_a_piece(text: &str, secret: &str) -> bool {
    const PIECE_CHARS: usize = 4;
    let secret: Vec<char> = secret.chars().collect();
    let mut pieces = secret.windows(secret.len().clamp(1, PIECE_CHARS));
    pieces.any(|piece| text.contains(&piece.iter().collect::<String>()))
}

impl PartialEq for Options {
    fn eq(&self, other: &Options) -> bool {
        let values = |options: &Options| -> Vec<(String, OptionValue)> {
            let pairs = options.iter();
            pairs
                .map(|(name, value, _)| (name.to_owned(), value.clone()))
                .collect()
        };
        values(self) == values(other)
    }
}

impl Eq for Options {}

impl std::fmt::Debug for Options {
    /// Names and values as they may be shown.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self
            .resolved()
            .map(|(name, resolved)| (name, &resolved.shown));
        out.debug_map().entries(shown).finish()
    }
}
