//! JSON objects become rows: by field name, in one pass, without a tree in between.
//!
//! One object is one row, an array of objects is as many rows. `docs/connectors/mqtt.md` tells
//! users what is accepted; in short: a column takes the field of its name or the value at its
//! path; JSON null and (unless `json.missing = 'reject'`) an absent field are NULL; of duplicate
//! fields the last wins; numbers go into integer columns when they are whole, within ±2^53 also
//! when written as `1.0` or `1e3`; BYTES are text in Base64; a JSON column takes any value; nothing
//! is converted between text, numbers and truth values.

use std::fmt;

use serde::Deserialize as _;
use serde::de::Visitor;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess};
use serde_json::value::RawValue;

use super::path::{self, Node, Step};
use super::{Reason, Reject};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::event::{Batch, Schema, Type, Value, from_base64, json};

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "json.mapping.*",
        OptionKind::Text,
        "Where a column's value lies, such as $.values.temp or $.readings[0]; \
         the field of the column's name when left out",
    ),
    OptionSpec::new(
        "json.missing",
        OptionKind::Choice(&["null", "reject"]),
        "What an absent field makes: NULL, or a rejected message",
    )
    .or("null"),
    OptionSpec::new(
        "json.unknown",
        OptionKind::Choice(&["ignore", "reject"]),
        "What becomes of a field of the object that no column takes",
    )
    .or("ignore"),
];

const MAPPING: &str = "json.mapping.";
/// How many rows one message may hold; a bound for what a few bytes `[{},{},…` can grow into.
const MESSAGE_ROWS_MAX: usize = 10_000;
/// Up to here every integer is exactly a double.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// A JSON decoder for one stream.
#[derive(Debug)]
pub struct Decoder {
    root: Node,
    columns: Vec<(String, Type)>,
    taken: Vec<usize>,
    reject_missing: bool,
    reject_unknown: bool,
    present: Vec<bool>,
}

impl Decoder {
    /// A decoder into rows of `schema`; the connector fills the columns `taken`.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Decoder, OptionFault> {
        for (column, _) in options.family(MAPPING) {
            if schema.index_of(column).is_none() {
                let problem = format!("the stream has no column `{column}`");
                return Err(OptionFault::new(format!("{MAPPING}{column}"), problem));
            }
        }
        let mut root = Node::default();
        for (index, field) in schema.fields().iter().enumerate() {
            if taken.contains(&index) {
                continue;
            }
            let option = format!("{MAPPING}{}", field.name);
            let steps = match options.text(&option) {
                Some(written) => {
                    path::parse(written).map_err(|problem| OptionFault::new(option, problem))?
                }
                None => vec![Step::Field(field.name.clone())],
            };
            root.insert(&steps, index, field.ty == Type::Json);
        }
        let columns = schema.fields().iter();
        Ok(Decoder {
            root,
            columns: columns
                .map(|field| (field.name.clone(), field.ty))
                .collect(),
            taken: taken.to_vec(),
            reject_missing: options.text("json.missing") == Some("reject"),
            reject_unknown: options.text("json.unknown") == Some("reject"),
            present: vec![false; schema.width()],
        })
    }

    /// Appends the rows of one message to `into`.
    ///
    /// # Errors
    /// Why there are none; `into` is then as it was.
    pub fn decode(&mut self, payload: &[u8], into: &mut Batch) -> Result<(), Reject> {
        let before = into.len();
        let result = self.rows(payload, into);
        if result.is_err() {
            while into.len() > before {
                into.pop();
            }
        }
        result
    }

    fn rows(&mut self, payload: &[u8], into: &mut Batch) -> Result<(), Reject> {
        let text = std::str::from_utf8(payload).map_err(|error| {
            let detail = format!("not UTF-8 from byte {} on", error.valid_up_to());
            Reject::new(Reason::InvalidUtf8, detail)
        })?;
        if text.bytes().all(|byte| byte.is_ascii_whitespace()) {
            return Err(Reject::new(Reason::Empty, "no bytes"));
        }
        let mut fault = None;
        let mut document = serde_json::Deserializer::from_str(text);
        let event = Event {
            document: &mut Document {
                decoder: self,
                into,
                fault: &mut fault,
            },
            in_array: false,
        };
        let read = event
            .deserialize(&mut document)
            .and_then(|()| document.end());
        match (fault, read) {
            (Some(reject), _) => Err(reject),
            (None, Err(error)) => Err(from_syntax(text, &error)),
            (None, Ok(())) => Ok(()),
        }
    }
}

/// What the parser itself finds wrong. A number too large for a double is the one thing among it
/// that is no fault of syntax; it is recognised by looking at the number where the parser stopped.
fn from_syntax(text: &str, error: &serde_json::Error) -> Reject {
    let line = error.line().saturating_sub(1);
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let stopped = (start + error.column()).min(text.len());
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

/// The message while it is read.
struct Document<'a> {
    decoder: &'a mut Decoder,
    into: &'a mut Batch,
    fault: &'a mut Option<Reject>,
}

impl Document<'_> {
    fn row<'de, A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        let Decoder {
            root,
            columns,
            taken,
            reject_missing,
            reject_unknown,
            present,
        } = &mut *self.decoder;
        present.fill(false);
        let row = self.into.push_null();
        let mut cells = Cells {
            columns,
            row,
            present,
            reject_unknown: *reject_unknown,
            fault: self.fault,
        };
        cells.object(root, map, true)?;
        if *reject_missing {
            let mut all = columns.iter().zip(present.iter()).enumerate();
            let missing = all.find(|(index, (_, present))| !**present && !taken.contains(index));
            if let Some((_, ((name, _), _))) = missing {
                let detail = format!("no value for column `{name}`");
                *self.fault = Some(Reject::new(Reason::MissingField, detail));
                return Err(A::Error::custom(""));
            }
        }
        Ok(())
    }

    fn not_an_event<E: serde::de::Error>(&mut self, found: &str) -> E {
        let detail = format!("expected an object or an array of objects, found {found}");
        *self.fault = Some(Reject::new(Reason::WrongType, detail));
        E::custom("")
    }
}

/// An object, or an array of objects unless already in one.
struct Event<'a, 'b> {
    document: &'a mut Document<'b>,
    in_array: bool,
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
        self.document.row(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.in_array {
            return Err(self.document.not_an_event("an array in an array"));
        }
        let document = self.document;
        let mut rows = 0;
        loop {
            let event = Event {
                document: &mut *document,
                in_array: true,
            };
            if seq.next_element_seed(event)?.is_none() {
                return Ok(());
            }
            rows += 1;
            if rows > MESSAGE_ROWS_MAX {
                let detail = format!("more than {MESSAGE_ROWS_MAX} rows in one message");
                *document.fault = Some(Reject::new(Reason::TooLarge, detail));
                return Err(A::Error::custom(""));
            }
        }
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Err(self.document.not_an_event("a truth value"))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Err(self.document.not_an_event("a number"))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Err(self.document.not_an_event("a number"))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Err(self.document.not_an_event("a number"))
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(self.document.not_an_event("text"))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Err(self.document.not_an_event("null"))
    }
}

/// The row being filled.
struct Cells<'a> {
    columns: &'a [(String, Type)],
    row: &'a mut [Value],
    present: &'a mut [bool],
    reject_unknown: bool,
    fault: &'a mut Option<Reject>,
}

impl Cells<'_> {
    fn object<'de, A>(&mut self, node: &Node, mut map: A, is_root: bool) -> Result<(), A::Error>
    where
        A: MapAccess<'de>,
    {
        let mut hint = 0;
        while let Some(known) = map.next_key_seed(Key {
            node,
            hint,
            cells: self,
            is_root,
        })? {
            match known {
                Some((index, inside)) => {
                    hint = index + 1;
                    map.next_value_seed(Place {
                        node: inside,
                        cells: self,
                    })?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn store<E: serde::de::Error>(&mut self, node: &Node, scalar: Scalar<'_>) -> Result<(), E> {
        for column in &node.columns {
            let (Some((name, ty)), Some(cell), Some(present)) = (
                self.columns.get(*column),
                self.row.get_mut(*column),
                self.present.get_mut(*column),
            ) else {
                continue;
            };
            match scalar.into_value(*ty) {
                Ok(value) => {
                    *cell = value;
                    *present = true;
                }
                Err(reason) => {
                    let found = match (*ty, scalar) {
                        (Type::Bytes, Scalar::Text(_)) => "text that is not Base64".to_owned(),
                        (_, scalar) => scalar.found(),
                    };
                    let detail = format!("column `{name}` is {ty}, found {found}");
                    *self.fault = Some(Reject::new(reason, detail));
                    return Err(E::custom(""));
                }
            }
        }
        Ok(())
    }

    /// What JSON columns take.
    fn store_whole<E: serde::de::Error>(&mut self, node: &Node, text: &str) -> Result<(), E> {
        let value = match json::canonical(text) {
            Ok(value) => value.map_or(Value::Null, Value::Str),
            Err(error) => {
                *self.fault = Some(from_syntax(text, &error));
                return Err(E::custom(""));
            }
        };
        for column in &node.whole {
            if let (Some(cell), Some(present)) =
                (self.row.get_mut(*column), self.present.get_mut(*column))
            {
                *cell = value.clone();
                *present = true;
            }
        }
        Ok(())
    }

    /// A column whose value turns out to be an object or an array.
    fn refuse_nested<E: serde::de::Error>(&mut self, node: &Node, found: &str) -> Result<(), E> {
        let first = node
            .columns
            .first()
            .and_then(|column| self.columns.get(*column));
        let Some((name, ty)) = first else {
            return Ok(());
        };
        let detail = format!("column `{name}` is {ty}, found {found}");
        *self.fault = Some(Reject::new(Reason::WrongType, detail));
        Err(E::custom(""))
    }
}

/// Finds the place that a field name leads to.
struct Key<'n, 'a, 'b> {
    node: &'n Node,
    hint: usize,
    cells: &'a mut Cells<'b>,
    is_root: bool,
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
        if known.is_none() && self.is_root && self.cells.reject_unknown {
            let detail = format!("no column takes the field `{name}`");
            *self.cells.fault = Some(Reject::new(Reason::UnknownField, detail));
            return Err(E::custom(""));
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
        self.cells.store_whole(self.node, text)?;
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
        self.cells.store(self.node, Scalar::Bool(truth))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        self.cells.store(self.node, Scalar::Integer(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        let scalar = i64::try_from(number).map_or(Scalar::Beyond(number), Scalar::Integer);
        self.cells.store(self.node, scalar)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        self.cells.store(self.node, Scalar::Float(number))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.cells.store(self.node, Scalar::Text(text))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.cells.store(self.node, Scalar::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.cells.refuse_nested(self.node, "an object")?;
        self.cells.object(self.node, map, false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.cells.refuse_nested(self.node, "an array")?;
        for number in 0.. {
            let mut wanted = self.node.elements.iter();
            let wanted = wanted.find(|(element, _)| *element == number);
            let there = match wanted {
                Some((_, node)) => {
                    let cells = &mut *self.cells;
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

/// A value as JSON has it.
#[derive(Clone, Copy)]
enum Scalar<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    /// An integer beyond 64 bits with sign.
    Beyond(u64),
    Float(f64),
    Text(&'a str),
}

impl Scalar<'_> {
    fn into_value(self, ty: Type) -> Result<Value, Reason> {
        match (ty, self) {
            (_, Scalar::Null) => Ok(Value::Null),
            (Type::Bool, Scalar::Bool(truth)) => Ok(Value::Bool(truth)),
            (Type::String, Scalar::Text(text)) => Ok(Value::text(text)),
            (Type::Bytes, Scalar::Text(text)) => match from_base64(text) {
                Some(bytes) => Ok(Value::from(bytes.as_slice())),
                None => Err(Reason::WrongType),
            },
            (Type::Int, Scalar::Integer(number)) => match i32::try_from(number) {
                Ok(_) => Ok(Value::Int(number)),
                Err(_) => Err(Reason::OutOfRange),
            },
            (Type::Long | Type::Timestamp, Scalar::Integer(number)) => Ok(Value::Int(number)),
            (Type::Int | Type::Long | Type::Timestamp, Scalar::Beyond(_)) => {
                Err(Reason::OutOfRange)
            }
            (Type::Int | Type::Long | Type::Timestamp, Scalar::Float(number)) => {
                whole(number).and_then(|number| Scalar::Integer(number).into_value(ty))
            }
            (Type::Double, Scalar::Float(number)) => Ok(Value::Float(number)),
            (Type::Float, Scalar::Float(number)) => {
                if number.abs() <= f64::from(f32::MAX) {
                    Ok(Value::Float(number))
                } else {
                    Err(Reason::OutOfRange)
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "an integer widens by rounding")]
            (Type::Float | Type::Double, Scalar::Integer(number)) => {
                Ok(Value::Float(number as f64))
            }
            #[expect(clippy::cast_precision_loss, reason = "an integer widens by rounding")]
            (Type::Float | Type::Double, Scalar::Beyond(number)) => Ok(Value::Float(number as f64)),
            _ => Err(Reason::WrongType),
        }
    }

    fn found(self) -> String {
        match self {
            Scalar::Null => "null".to_owned(),
            Scalar::Bool(truth) => truth.to_string(),
            Scalar::Integer(number) => number.to_string(),
            Scalar::Beyond(number) => number.to_string(),
            Scalar::Float(number) => format!("{number:?}"),
            Scalar::Text(_) => "text".to_owned(),
        }
    }
}

/// A number written with a point or an exponent as an integer, when it is certain which one.
fn whole(number: f64) -> Result<i64, Reason> {
    if number.fract() != 0.0 {
        return Err(Reason::WrongType);
    }
    if number.abs() > EXACT_INTEGER_MAX {
        return Err(Reason::OutOfRange);
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
    let whole = number as i64;
    Ok(whole)
}

#[cfg(test)]
mod tests;
