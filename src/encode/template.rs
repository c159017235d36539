//! Texts with placeholders: `alarms/{{device}}`.
//!
//! A placeholder names a column, or something of the output itself (see [`NAMES`]). It is written
//! as the column would stand in JSON, but for text, which stands as it is; NULL is nothing.
//! Whoever writes a form with rules of its own (a URL, JSON, a topic) gives the rule with it.

use std::borrow::Cow;

use super::Message;
use crate::diagnostic::did_you_mean;
use crate::event::{Schema, Timestamp, Type, Value, render_json_value};

/// The names that are no columns, with what they stand for.
pub const NAMES: &[(&str, &str)] = &[
    ("_id", "the identity, the same at every attempt"),
    (
        "_timestamp",
        "when the output was made, in milliseconds since 1970",
    ),
    (
        "_eventTime",
        "the time of its row, in milliseconds since 1970",
    ),
    ("_streamName", "the stream"),
    ("_age_ms", "how long it has waited, in milliseconds"),
    (
        "_historical",
        "`true` when it has waited for so long that it is no news",
    ),
];

/// What a placeholder stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Slot {
    /// A column, by its place now and its name: outputs may be older than the SQL.
    Column(usize, String),
    Id,
    Timestamp,
    EventTime,
    StreamName,
    Age,
    Historical,
}

impl Slot {
    fn own(name: &str) -> Option<Slot> {
        match name {
            "_id" => Some(Slot::Id),
            "_timestamp" => Some(Slot::Timestamp),
            "_eventTime" => Some(Slot::EventTime),
            "_streamName" => Some(Slot::StreamName),
            "_age_ms" => Some(Slot::Age),
            "_historical" => Some(Slot::Historical),
            _ => None,
        }
    }

    fn value<'a>(&self, message: &Message<'a>) -> Filled<'a> {
        let (ty, value) = match self {
            Slot::Column(index, name) => return column(message, *index, name),
            Slot::Id => (Type::String, Value::text(message.id)),
            Slot::Timestamp => (Type::Timestamp, time(message.made)),
            Slot::EventTime => (Type::Timestamp, time(message.time)),
            Slot::StreamName => (Type::String, Value::text(message.stream)),
            Slot::Age => (Type::Long, Value::Int(message.age_ms)),
            Slot::Historical => (Type::Bool, Value::Bool(message.historical)),
        };
        Filled {
            ty,
            value: Cow::Owned(value),
        }
    }
}

fn time(time: Timestamp) -> Value {
    Value::Int(time.0)
}

fn column<'a>(message: &Message<'a>, index: usize, name: &str) -> Filled<'a> {
    let fields = message.schema.fields();
    let is_there = fields.get(index).is_some_and(|field| field.name == name);
    let index = if is_there {
        Some(index)
    } else {
        message.schema.index_of(name)
    };
    let found = index.and_then(|index| Some((fields.get(index)?, message.row.get(index)?)));
    match found {
        Some((field, value)) => Filled {
            ty: field.ty,
            value: Cow::Borrowed(value),
        },
        None => Filled {
            ty: Type::String,
            value: Cow::Owned(Value::Null),
        },
    }
}

/// What stands in a placeholder's place.
#[derive(Clone, Debug)]
pub struct Filled<'a> {
    /// Of what type it is.
    pub ty: Type,
    /// It itself.
    pub value: Cow<'a, Value>,
}

impl Filled<'_> {
    /// As a text: nothing for NULL, strings as they are, anything else as in JSON.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        plain(self.ty, &self.value)
    }
}

/// A value as a text: nothing for NULL, strings as they are, anything else as in JSON.
pub(super) fn plain(ty: Type, value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::Str(text) => Cow::Borrowed(text),
        Value::Bytes(bytes) => Cow::Owned(crate::event::to_base64(bytes)),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            let mut out = Vec::new();
            render_json_value(ty, value, &mut out);
            Cow::Owned(String::from_utf8_lossy(&out).into_owned())
        }
    }
}

/// A part of a text while it is rendered.
pub(super) enum Piece<'a> {
    Text(&'a str),
    Filled(Filled<'a>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Slot(Slot),
}

/// A text with placeholders, checked against the columns of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence: a placeholder that does not end, or names nothing.
    pub fn parse(text: &str, schema: &Schema) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let Some((name, after)) = after.split_once("}}") else {
                let shown: String = after.chars().take(20).collect();
                return Err(format!(
                    "the placeholder `{{{{{shown}` does not end: write `}}}}` behind the name"
                ));
            };
            parts.push(Part::Slot(slot(name.trim(), schema)?));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template { parts })
    }

    /// Whether the text is the same for every output.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::Slot(_)))
    }

    /// Appends the text for an output.
    pub fn render(&self, message: &Message<'_>, into: &mut String) {
        self.render_with(message, into, |filled, into| into.push_str(&filled.text()));
    }

    /// The text for an output.
    #[must_use]
    pub fn text(&self, message: &Message<'_>) -> String {
        let mut text = String::new();
        self.render(message, &mut text);
        text
    }

    /// Like [`Template::render`], while `fill` writes what stands in the placeholders: in a URL
    /// that is not what stands in a text.
    pub fn render_with(
        &self,
        message: &Message<'_>,
        into: &mut String,
        mut fill: impl FnMut(&Filled<'_>, &mut String),
    ) {
        self.each(message, |piece| match piece {
            Piece::Text(text) => into.push_str(text),
            Piece::Filled(filled) => fill(&filled, into),
        });
    }

    /// Goes through texts and what stands in the placeholders, in order.
    pub(super) fn each<'a>(&'a self, message: &Message<'a>, mut take: impl FnMut(Piece<'a>)) {
        for part in &self.parts {
            take(match part {
                Part::Text(text) => Piece::Text(text),
                Part::Slot(slot) => Piece::Filled(slot.value(message)),
            });
        }
    }

    /// The texts between the placeholders, and at each placeholder's place `None`.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Option<&str>> {
        self.parts.iter().map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Slot(_) => None,
        })
    }
}

fn slot(name: &str, schema: &Schema) -> Result<Slot, String> {
    if let Some(slot) = Slot::own(name) {
        return Ok(slot);
    }
    if let Some(index) = schema.index_of(name) {
        return Ok(Slot::Column(index, name.to_owned()));
    }
    let columns = schema.fields().iter().map(|field| field.name.as_str());
    let known: Vec<&str> = columns.chain(NAMES.iter().map(|(name, _)| *name)).collect();
    let hint = did_you_mean(name, known.iter().copied())
        .unwrap_or_else(|| format!("known are {}", known.join(", ")));
    Err(format!("`{{{{{name}}}}}` names no column: {hint}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, schema};
    use super::*;

    #[test]
    fn templates_render() {
        let table = [
            ("plain", "plain"),
            ("", ""),
            ("a/{{device}}/{{ temp }}", "a/press \"3\"/81.0"),
            ("{{device}}{{device}}", "press \"3\"press \"3\""),
            ("{\"t\":{\"v\":{{temp}}}}", "{\"t\":{\"v\":81.0}}"),
            ("{{ok}} {{count}} {{gone}}|", "true 7 |"),
            ("{{doc}} {{bytes}}", "{\"a\":1} AQI="),
            ("{{_id}} {{_streamName}}", "ab-7-0-0 Alerts"),
            ("{{_timestamp}} {{_eventTime}}", "2000 1000"),
            ("{{_age_ms}} {{_historical}}", "61000 true"),
        ];
        for (text, expected) in table {
            let template = Template::parse(text, &schema()).unwrap();
            let rendered = message(|message| template.text(message));
            assert_eq!(rendered, expected, "{text}");
            assert_eq!(template.is_constant(), !text.contains("{{"), "{text}");
        }
    }

    #[test]
    fn faults_say_what_was_meant() {
        let table = [
            (
                "{{tmep}}",
                "`{{tmep}}` names no column: did you mean 'temp'?",
            ),
            (
                "{{_timestmp}}",
                "`{{_timestmp}}` names no column: did you mean '_timestamp'?",
            ),
            (
                "x{{device",
                "the placeholder `{{device` does not end: write `}}` behind the name",
            ),
            (
                "{{}}",
                "`{{}}` names no column: known are device, temp, ok, count, gone, doc, bytes, \
                 _id, _timestamp, _eventTime, _streamName, _age_ms, _historical",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(Template::parse(text, &schema()).unwrap_err(), expected);
        }
        for (name, _) in NAMES {
            assert!(Slot::own(name).is_some(), "{name}");
        }
    }

    /// An output keeps the columns it was made with.
    #[test]
    fn an_output_with_older_columns() {
        let template = Template::parse("{{temp}}|{{device}}", &schema()).unwrap();
        let older = Schema::new(vec![crate::event::Field {
            name: "device".to_owned(),
            ty: Type::String,
        }]);
        let row = [Value::text("x")];
        let text = message(|message| {
            template.text(&Message {
                schema: &older,
                row: &row,
                ..*message
            })
        });
        assert_eq!(text, "|x");
    }
}
