//! What of an output itself is written beside its columns, in fields named by options such as
//! `json.id`.

use super::Message;
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::event::{Schema, Type, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Id,
    Timestamp,
    EventTime,
    Stream,
    Age,
    Historical,
}

const ALL: [(&str, What); 6] = [
    ("id", What::Id),
    ("timestamp", What::Timestamp),
    ("event_time", What::EventTime),
    ("stream", What::Stream),
    ("age_ms", What::Age),
    ("historical", What::Historical),
];

/// The options of a format, by their names in the order of the fields.
pub(super) const fn options(names: [&'static str; 6]) -> [OptionSpec; 6] {
    let [id, timestamp, event_time, stream, age, historical] = names;
    [
        OptionSpec::new(
            id,
            OptionKind::Text,
            "A further field, by its name: the identity, the same at every attempt.",
        ),
        OptionSpec::new(
            timestamp,
            OptionKind::Text,
            "A further field: when the output was made, in milliseconds since 1970.",
        ),
        OptionSpec::new(
            event_time,
            OptionKind::Text,
            "A further field: the time of its row, in milliseconds since 1970.",
        ),
        OptionSpec::new(
            stream,
            OptionKind::Text,
            "A further field: the stream's name.",
        ),
        OptionSpec::new(
            age,
            OptionKind::Text,
            "A further field: how long it has waited, in milliseconds.",
        ),
        OptionSpec::new(
            historical,
            OptionKind::Text,
            "A further field: whether it has waited for `historical.after` or longer.",
        ),
    ]
}

/// The further fields of one stream, in front of its columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extras(Vec<(What, String)>);

impl Extras {
    /// Those that the options of the format `format` name.
    pub(super) fn new(
        format: &str,
        options: &Options,
        schema: &Schema,
    ) -> Result<Extras, OptionFault> {
        let mut extras: Vec<(What, String)> = Vec::new();
        for (word, what) in ALL {
            let option = format!("{format}.{word}");
            let Some(name) = options.text(&option) else {
                continue;
            };
            let is_taken = schema.index_of(name).is_some();
            if is_taken || extras.iter().any(|(_, known)| known == name) {
                let problem = format!("there is a field `{name}` already: name it otherwise");
                return Err(OptionFault::new(option, problem));
            }
            extras.push((what, name.to_owned()));
        }
        Ok(Extras(extras))
    }

    /// An option of `format` that is set.
    pub(super) fn first_set(format: &str, options: &Options) -> Option<String> {
        let mut names = ALL.iter().map(|(word, _)| format!("{format}.{word}"));
        names.find(|name| options.has(name))
    }

    /// The names, without those that an output's own columns have: they may be older than the
    /// options.
    pub(super) fn of<'a>(
        &'a self,
        schema: &'a Schema,
    ) -> impl Iterator<Item = (&'a str, Extra)> + 'a {
        let extras = self
            .0
            .iter()
            .map(|(what, name)| (name.as_str(), Extra(*what)));
        extras.filter(|(name, _)| schema.index_of(name).is_none())
    }
}

/// A further field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extra(What);

impl Extra {
    pub(super) fn value(self, message: &Message<'_>) -> (Type, Value) {
        match self.0 {
            What::Id => (Type::String, Value::text(message.id)),
            What::Timestamp => (Type::Timestamp, Value::Int(message.made.0)),
            What::EventTime => (Type::Timestamp, Value::Int(message.time.0)),
            What::Stream => (Type::String, Value::text(message.stream)),
            What::Age => (Type::Long, Value::Int(message.age_ms)),
            What::Historical => (Type::Bool, Value::Bool(message.historical)),
        }
    }
}
