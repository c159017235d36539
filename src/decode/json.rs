//! JSON objects become rows: by field name, in one pass, without a tree in between.
//!
//! A payload is one document or, as in JSON lines, several on lines of their own; an object is one
//! row, an array of objects is as many. `docs/connectors/formats.md` tells users what is accepted;
//! in short: a column takes the field of its name or the value at its path; JSON null and (unless
//! `json.missing = 'reject'`) an absent field are NULL; of duplicate fields the last wins; numbers
//! go into integer columns when they are whole, within ±2^53 also when written as `1.0` or `1e3`;
//! BYTES are text in Base64; a JSON column takes any value; nothing is converted between text,
//! numbers and truth values unless `json.numbers = 'strings'`.

use std::fmt;

use serde::Deserialize as _;
use serde::de::Visitor;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess};
use serde_json::value::RawValue;

use super::column::{Columns, Scalar};
use super::document::{Cells, Message, Noted, Plan, Scratch};
use super::options::format_options;
use super::path::Node;
use super::{Reason, Reject};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::event::{Batch, Schema, Value, json};

/// What can be set.
pub(super) const OPTIONS: &[OptionSpec] = format_options!(
    "json": path root missing unknown timestamp timestamp_of bytes ignore;
    OptionSpec::new(
        "json.numbers",
        OptionKind::Choice(&["strict", "strings"]),
        "`strings`: numbers and truth values are also taken from text, and put into STRING columns \
         as text",
    )
    .or("strict"),
);

/// A JSON decoder for one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    plan: Plan,
    scratch: Scratch,
}

impl Decoder {
    /// A decoder into rows of `schema`; the connector fills the columns `taken`.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub(super) fn new(
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Decoder, OptionFault> {
        let mut columns = Columns::new("json", options, schema, taken)?;
        if options.text("json.numbers") == Some("strings") {
            columns = columns.converting_text();
        }
        Ok(Decoder {
            plan: Plan::new("json", columns, options)?,
            scratch: Scratch::new(schema),
        })
    }

    /// Appends the rows of one message to `into`, or some of them and why not all.
    pub(super) fn decode(
        &mut self,
        payload: &[u8],
        into: &mut Batch,
        ignored: &mut u64,
    ) -> Result<(), Reject> {
        let mut text = super::utf8(payload)?;
        if text.bytes().all(|byte| byte.is_ascii_whitespace()) {
            return Err(super::empty());
        }
        let mut message = Message::new(&self.plan, &mut self.scratch, into, ignored);
        loop {
            let mut document = serde_json::Deserializer::from_str(text);
            let event = Event {
                source: Source::Document(&mut message),
                in_array: false,
            };
            if let Err(error) = event.deserialize(&mut document) {
                return Err(message.fault.unwrap_or_else(|| from_syntax(text, &error)));
            }
            let Err(error) = document.end() else {
                return Ok(());
            };
            text = next_line(text, &error).ok_or_else(|| from_syntax(text, &error))?;
        }
    }
}

/// What stands behind a document, when it begins on a line of its own.
fn next_line<'a>(text: &'a str, error: &serde_json::Error) -> Option<&'a str> {
    let (before, rest) = text.split_at_checked(stopped_at(text, error).checked_sub(1)?)?;
    let before = before.trim_end_matches([' ', '\t', '\r']);
    before.ends_with('\n').then_some(rest)
}

/// How many bytes the parser had read when it stopped.
fn stopped_at(text: &str, error: &serde_json::Error) -> usize {
    let line = error.line().saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    (start + error.column()).min(text.len())
}

/// What the parser itself finds wrong. A number too large for a double is the one thing among it
/// that is no fault of syntax; it is recognised by looking at the number where the parser stopped.
fn from_syntax(text: &str, error: &serde_json::Error) -> Reject {
    let stopped = stopped_at(text, error);
    let is_part = |c: char| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-');
    let (before, after) = match text.is_char_boundary(stopped) {
        true => text.split_at(stopped),
        false => ("", ""),
    };
    let digits = before.len() - before.trim_end_matches(is_part).len();
    let mut number = before
        .get(before.len() - digits..)
        .unwrap_or_default()
        .to_owned();
    number.extend(after.chars().take_while(|c| is_part(*c)));
    match number.parse::<f64>() {
        Ok(value) if value.is_infinite() => Reject::new(Reason::OutOfRange, format!("{error}")),
        Ok(_) | Err(_) => Reject::new(Reason::Malformed, format!("not JSON: {error}")),
    }
}

fn noted<E: serde::de::Error>(_: Noted) -> E {
    E::custom("")
}

/// Where events are found.
enum Source<'a, 'b> {
    /// At the top.
    Document(&'a mut Message<'b>),
    /// At the place of the rows, inside of a document.
    Below(&'a mut Cells<'b>),
}

/// An object, or an array of objects unless already in one.
struct Event<'a, 'b> {
    source: Source<'a, 'b>,
    in_array: bool,
}

impl Event<'_, '_> {
    fn not_an_event<E: serde::de::Error>(self, found: &str) -> E {
        noted(match self.source {
            Source::Document(message) => message.not_an_event(found),
            Source::Below(cells) => cells.not_an_event(found),
        })
    }
}

impl<'de> DeserializeSeed<'de> for Event<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Event<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object or an array of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        match self.source {
            Source::Document(message) => {
                message.object(noted, |tree, cells| object(cells, tree, map, true))
            }
            Source::Below(cells) => {
                cells.object_below(noted, |tree, cells| object(cells, tree, map, true))
            }
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        if self.in_array {
            return Err(self.not_an_event("an array in an array"));
        }
        loop {
            let event = Event {
                source: match &mut self.source {
                    Source::Document(message) => Source::Document(message),
                    Source::Below(cells) => Source::Below(cells),
                },
                in_array: true,
            };
            if seq.next_element_seed(event)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Err(self.not_an_event("a truth value"))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Err(self.not_an_event("a number"))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Err(self.not_an_event("a number"))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Err(self.not_an_event("a number"))
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(self.not_an_event("text"))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Err(self.not_an_event("null"))
    }
}

fn object<'de, A>(
    cells: &mut Cells<'_>,
    node: &Node,
    mut map: A,
    is_top: bool,
) -> Result<(), A::Error>
where
    A: MapAccess<'de>,
{
    let mut hint = 0;
    while let Some(known) = map.next_key_seed(Key {
        node,
        hint,
        cells,
        is_top,
    })? {
        match known {
            Some((index, node)) => {
                hint = index + 1;
                map.next_value_seed(Place { node, cells })?;
            }
            None => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    Ok(())
}

/// Finds the place that a field name leads to.
struct Key<'n, 'a, 'b> {
    node: &'n Node,
    hint: usize,
    cells: &'a mut Cells<'b>,
    is_top: bool,
}

impl<'de, 'n> DeserializeSeed<'de> for Key<'n, '_, '_> {
    type Value = Option<(usize, &'n Node)>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de, 'n> Visitor<'de> for Key<'n, '_, '_> {
    type Value = Option<(usize, &'n Node)>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a field name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let known = self.node.field(name, self.hint);
        if known.is_none() {
            self.cells.unknown(name, self.is_top).map_err(noted)?;
        }
        Ok(known)
    }
}

/// The value at a place of interest.
struct Place<'n, 'a, 'b> {
    node: &'n Node,
    cells: &'a mut Cells<'b>,
}

impl<'de> DeserializeSeed<'de> for Place<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        if self.node.whole.is_empty() {
            return from.deserialize_any(self);
        }
        let text = <&RawValue>::deserialize(from)?.get();
        let whole = match json::canonical(text) {
            Ok(value) => Ok(value.map_or(Value::Null, Value::Str)),
            Err(error) => Err(from_syntax(text, &error)),
        };
        self.cells.store_whole(self.node, whole).map_err(noted)?;
        if self.node.is_whole_only() {
            return Ok(());
        }
        let mut inside = serde_json::Deserializer::from_str(text);
        inside.deserialize_any(self).map_err(D::Error::custom)
    }
}

impl<'de> Visitor<'de> for Place<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<(), E> {
        self.cells
            .store(self.node, Scalar::Bool(truth))
            .map_err(noted)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        self.cells
            .store(self.node, Scalar::Integer(number))
            .map_err(noted)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        let scalar = i64::try_from(number).map_or(Scalar::Beyond(number.into()), Scalar::Integer);
        self.cells.store(self.node, scalar).map_err(noted)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        self.cells
            .store(self.node, Scalar::Float(number))
            .map_err(noted)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.cells
            .store(self.node, Scalar::Text(text))
            .map_err(noted)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.cells.store(self.node, Scalar::Null).map_err(noted)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Place { node, cells } = self;
        cells.refuse_nested(node, "an object").map_err(noted)?;
        if node.is_rows {
            cells.begin_below();
            let source = Source::Below(cells);
            let in_array = true;
            return Event { source, in_array }.visit_map(map);
        }
        object(cells, node, map, false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Place { node, cells } = self;
        cells.refuse_nested(node, "an array").map_err(noted)?;
        if node.is_rows {
            cells.begin_below();
            let source = Source::Below(cells);
            let in_array = false;
            return Event { source, in_array }.visit_seq(seq);
        }
        for number in 0.. {
            let mut wanted = node.elements.iter();
            let wanted = wanted.find(|(element, _)| *element == number);
            let there = match wanted {
                Some((_, node)) => {
                    let cells = &mut *cells;
                    seq.next_element_seed(Place { node, cells })?.is_some()
                }
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !there {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
