//! The columns of a stream, and what may go into each: one rule for all formats.
//!
//! A value arrives as the format has it (a [`Scalar`]). Formats that know types (JSON, CBOR)
//! convert nothing between text, numbers and truth values unless asked to; in formats that are
//! text everything is read from text.

use super::text;
use super::{Reason, Reject};
use crate::config::options::{OptionFault, Options};
use crate::event::{Schema, TimeFormat, Type, Value, from_base64, from_hex, json};

/// Up to here every integer is exactly a double.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;
/// The largest `f32`, as a double.
const FLOAT_MAX: f64 = f32::MAX as f64;

/// A value as a format has it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    /// An integer beyond 64 bits with sign.
    Beyond(i128),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// A point in time that says so itself, in milliseconds since 1970, and how it was written.
    Instant {
        ms: i64,
        plain: &'a Scalar<'a>,
    },
}

/// A column of the stream.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) ty: Type,
    /// Whether the connector fills it, and no format does.
    pub(super) is_taken: bool,
    /// How times are written; `None` for what is a number of milliseconds.
    time: Option<TimeFormat>,
}

/// All columns, and how values are made for them.
#[derive(Debug)]
pub(super) struct Columns {
    all: Vec<Column>,
    converts_text: bool,
    bytes_are_hex: bool,
    ignores_errors: bool,
}

impl Columns {
    /// The columns of `schema`, with the options `<format>.timestamp.format`, `<format>.bytes` and
    /// `<format>.ignore_parse_errors`. Those `taken` are the connector's.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub(super) fn new(
        format: &str,
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Columns, OptionFault> {
        let option = format!("{format}.timestamp.format");
        let named = |option: &str, name: &str| {
            let read = TimeFormat::named(name);
            read.map_err(|problem| OptionFault::new(option, problem))
        };
        let general = match options.text(&option) {
            Some(name) => Some(named(&option, name)?),
            None => None,
        };
        let mut all = Vec::with_capacity(schema.width());
        for (index, field) in schema.fields().iter().enumerate() {
            let own = format!("{option}.{}", field.name);
            let time = match options.text(&own) {
                Some(_) if field.ty != Type::Timestamp => {
                    let problem = format!("column `{}` is {}, no TIMESTAMP", field.name, field.ty);
                    return Err(OptionFault::new(own, problem));
                }
                Some(name) => Some(named(&own, name)?),
                None => general.clone(),
            };
            all.push(Column {
                name: field.name.clone(),
                ty: field.ty,
                is_taken: taken.contains(&index),
                time: time.filter(|time| {
                    let is_plain = *time == TimeFormat::Number { per_second: 1_000 };
                    field.ty == Type::Timestamp && !is_plain
                }),
            });
        }
        let columns = Columns {
            all,
            converts_text: false,
            bytes_are_hex: options.text(&format!("{format}.bytes")) == Some("hex"),
            ignores_errors: options.flag(&format!("{format}.ignore_parse_errors")),
        };
        columns.check_family(options, &format!("{option}."))?;
        Ok(columns)
    }

    /// The same, which also makes numbers and truth values of text, and text of them.
    pub(super) fn converting_text(self) -> Columns {
        Columns {
            converts_text: true,
            ..self
        }
    }

    /// That each option of a family names a column.
    pub(super) fn check_family(&self, options: &Options, family: &str) -> Result<(), OptionFault> {
        for (name, _) in options.family(family) {
            let option = || format!("{family}{name}");
            match self.all.iter().find(|column| column.name == name) {
                None => {
                    let problem = format!("the stream has no column `{name}`");
                    return Err(OptionFault::new(option(), problem));
                }
                Some(column) if column.is_taken => {
                    let problem = format!("the connector fills the column `{name}`");
                    return Err(OptionFault::new(option(), problem));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The columns that the format fills, with their places.
    pub(super) fn own(&self) -> impl Iterator<Item = (usize, &Column)> {
        let all = self.all.iter().enumerate();
        all.filter(|(_, column)| !column.is_taken)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Column> {
        self.all.get(index)
    }

    /// The column called so that the format fills.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let found = self.own().find(|(_, column)| column.name == name);
        found.map(|(index, _)| index)
    }

    /// Puts a value into the column's cell of `row`. One that the column cannot hold is a reject,
    /// or NULL and counted in `ignored`.
    #[inline]
    pub(super) fn store(
        &self,
        index: usize,
        scalar: Scalar<'_>,
        row: &mut [Value],
        ignored: &mut u64,
    ) -> Result<(), Reject> {
        let (Some(column), Some(cell)) = (self.all.get(index), row.get_mut(index)) else {
            return Ok(());
        };
        match self.value(column, scalar) {
            Ok(value) => {
                *cell = value;
                Ok(())
            }
            Err(reason) => {
                *cell = Value::Null;
                self.misfit(ignored, || self.reject(column, reason, scalar))
            }
        }
    }

    /// What becomes of a fault of one value: NULL, and counted, where that is asked for.
    pub(super) fn misfit(
        &self,
        ignored: &mut u64,
        reject: impl FnOnce() -> Reject,
    ) -> Result<(), Reject> {
        if self.ignores_errors {
            *ignored += 1;
            return Ok(());
        }
        Err(reject())
    }

    /// The value for a column.
    #[inline]
    fn value(&self, column: &Column, scalar: Scalar<'_>) -> Result<Value, Reason> {
        match (column.ty, scalar) {
            (_, Scalar::Null) => Ok(Value::Null),
            (Type::Double, Scalar::Float(number)) => Ok(Value::finite(number)),
            (Type::Long, Scalar::Integer(number)) => Ok(Value::Int(number)),
            (Type::Bool, Scalar::Bool(truth)) => Ok(Value::Bool(truth)),
            (Type::String, Scalar::Text(text)) => Ok(Value::text(text)),
            (Type::Bytes, Scalar::Bytes(bytes)) => Ok(Value::from(bytes)),
            (Type::Timestamp, scalar) => self.timestamp(column, scalar),
            (_, Scalar::Instant { plain, .. }) => self.value(column, *plain),
            (Type::Int, Scalar::Integer(number)) => match i32::try_from(number) {
                Ok(_) => Ok(Value::Int(number)),
                Err(_) => Err(Reason::OutOfRange),
            },
            (Type::Int | Type::Long, Scalar::Beyond(_)) => Err(Reason::OutOfRange),
            (Type::Int | Type::Long, Scalar::Float(number)) => {
                whole(number).and_then(|number| self.value(column, Scalar::Integer(number)))
            }
            (Type::Float, Scalar::Float(number)) => match number.abs() <= FLOAT_MAX {
                false if number.is_finite() => Err(Reason::OutOfRange),
                true | false => Ok(Value::finite(number)),
            },
            #[expect(clippy::cast_precision_loss, reason = "an integer widens by rounding")]
            (Type::Float | Type::Double, Scalar::Integer(number)) => {
                Ok(Value::Float(number as f64))
            }
            #[expect(clippy::cast_precision_loss, reason = "an integer widens by rounding")]
            (Type::Float | Type::Double, Scalar::Beyond(number)) => Ok(Value::Float(number as f64)),
            (Type::Bytes, Scalar::Text(text)) => {
                let bytes = match self.bytes_are_hex {
                    true => from_hex(text.trim()),
                    false => from_base64(text.trim()),
                };
                let bytes = bytes.ok_or(Reason::WrongType)?;
                Ok(Value::from(bytes.as_slice()))
            }
            (_, scalar) if self.converts_text => self.converted(column, scalar),
            _ => Err(Reason::WrongType),
        }
    }

    /// Numbers and truth values out of text, and text out of these.
    fn converted(&self, column: &Column, scalar: Scalar<'_>) -> Result<Value, Reason> {
        match (column.ty, scalar) {
            (Type::Int | Type::Long | Type::Float | Type::Double, Scalar::Text(written)) => {
                self.value(column, text::number(written)?)
            }
            (Type::Bool, Scalar::Text(written)) => match text::truth(written) {
                Some(truth) => Ok(Value::Bool(truth)),
                None => Err(Reason::WrongType),
            },
            (Type::Json, Scalar::Text(written)) => match json::canonical(written) {
                Ok(value) => Ok(value.map_or(Value::Null, Value::Str)),
                Err(_) => Err(Reason::WrongType),
            },
            (Type::String, Scalar::Bool(truth)) => Ok(Value::text(text::of_truth(truth))),
            (Type::String, Scalar::Integer(number)) => Ok(Value::from(number.to_string())),
            (Type::String, Scalar::Beyond(number)) => Ok(Value::from(number.to_string())),
            (Type::String, Scalar::Float(number)) if number.is_finite() => {
                let mut out = ecow::EcoString::new();
                json::write_float(number, &mut out);
                Ok(Value::Str(out))
            }
            _ => Err(Reason::WrongType),
        }
    }

    fn reject(&self, column: &Column, reason: Reason, scalar: Scalar<'_>) -> Reject {
        let found = match (column.ty, scalar) {
            (Type::Bytes, Scalar::Text(_)) if self.bytes_are_hex => {
                "text that is not hexadecimal".to_owned()
            }
            (Type::Bytes, Scalar::Text(_)) => "text that is not Base64".to_owned(),
            (_, scalar) => scalar.found(),
        };
        column.reject_found(reason, &found)
    }

    fn timestamp(&self, column: &Column, scalar: Scalar<'_>) -> Result<Value, Reason> {
        let found = match (&column.time, scalar) {
            (_, Scalar::Instant { ms, .. }) => return Ok(Value::Int(ms)),
            (None, Scalar::Integer(number)) => return Ok(Value::Int(number)),
            (None, Scalar::Float(number)) => return whole(number).map(Value::Int),
            (None | Some(TimeFormat::Number { .. }), Scalar::Beyond(_)) => {
                return Err(Reason::OutOfRange);
            }
            (None | Some(TimeFormat::Number { .. }), Scalar::Text(written))
                if self.converts_text =>
            {
                return self.timestamp(column, text::number(written)?);
            }
            (Some(time @ TimeFormat::Number { .. }), Scalar::Integer(number)) => {
                time.read_integer(number).ok_or(Reason::OutOfRange)
            }
            (Some(time @ TimeFormat::Number { .. }), Scalar::Float(number)) => {
                time.read_float(number).ok_or(Reason::OutOfRange)
            }
            (Some(time), Scalar::Text(text)) => time.read_text(text).ok_or(Reason::WrongType),
            _ => Err(Reason::WrongType),
        };
        found.map(|time| Value::Int(time.0))
    }
}

impl Column {
    /// The reject for what the column cannot hold.
    pub(super) fn reject_found(&self, reason: Reason, found: &str) -> Reject {
        let Column { name, ty, .. } = self;
        let written = match &self.time {
            Some(time) => format!(" written as {time}"),
            None => String::new(),
        };
        let detail = format!("column `{name}` is {ty}{written}, found {found}");
        Reject::new(reason, detail)
    }
}

impl Scalar<'_> {
    fn found(self) -> String {
        match self {
            Scalar::Null => "null".to_owned(),
            Scalar::Bool(truth) => truth.to_string(),
            Scalar::Integer(number) => number.to_string(),
            Scalar::Beyond(number) => number.to_string(),
            Scalar::Float(number) => format!("{number:?}"),
            Scalar::Text(text) => format!("text `{}`", text::excerpt(text)),
            Scalar::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Scalar::Instant { plain, .. } => plain.found(),
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
