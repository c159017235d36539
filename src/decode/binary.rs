//! Bytes in a fixed layout become rows: numbers, flags and texts one behind the other, as C has
//! them in a `struct`. `binary.layout` describes it; [`layout`] has the grammar.
//!
//! What is in a group at the end makes a row each time it is repeated; the columns before it are
//! the same in all of these. Floats that are not finite are NULL.

mod layout;

use layout::{Bits, Factor, Integer, Kind, Layout, Piece, Scale};

use super::column::{Columns, Scalar};
use super::options::format_options;
use super::{MESSAGE_ROWS_MAX, Reason, Reject};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::event::{Batch, Schema, Type, Value};

/// What can be set.
pub(super) const OPTIONS: &[OptionSpec] = format_options!(
    "binary": timestamp timestamp_of ignore;
    OptionSpec::new(
        LAYOUT,
        OptionKind::Text,
        "The fields in their order, such as `id u16, temp i16le *0.1 \"°C\", _ pad 1, flags u8 \
         {door: 0, mode: 1..3}, name char[8]`",
    )
    .required(),
    OptionSpec::new(
        "binary.endian",
        OptionKind::Choice(&["big", "little"]),
        "Which byte of a number comes first where its type does not say it (`le`, `be`): the \
         highest, or the lowest",
    )
    .or("big"),
    OptionSpec::new(
        "binary.trailing",
        OptionKind::Choice(&["reject", "ignore"]),
        "What becomes of a message with more bytes than the layout has",
    )
    .or("reject"),
);

const LAYOUT: &str = "binary.layout";

/// A decoder of a fixed layout for one stream.
#[derive(Debug)]
pub(super) struct Decoder {
    columns: Columns,
    once: Vec<Field>,
    repeated: Option<Vec<Field>>,
    /// The columns that `once` fills.
    outer: Vec<usize>,
    outer_row: Vec<Value>,
    ignores_trailing: bool,
}

/// Some bytes and the columns that they fill.
#[derive(Debug)]
struct Field {
    name: String,
    kind: Kind,
    scale: Option<Scale>,
    null: Option<i128>,
    column: Option<Target>,
    bits: Vec<(Bits, Target)>,
}

/// A column that takes a number.
#[derive(Clone, Copy, Debug)]
struct Target {
    index: usize,
    /// Whether it is true for what is not 0.
    is_truth: bool,
}

impl Decoder {
    pub(super) fn new(
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Decoder, OptionFault> {
        let fault = |problem| OptionFault::new(LAYOUT, problem);
        let written = options
            .text(LAYOUT)
            .ok_or_else(|| fault("the format `binary` needs it".to_owned()))?;
        let is_little = options.text("binary.endian") == Some("little");
        let columns = Columns::new("binary", options, schema, taken)?.converting_text();
        let Layout { once, repeated } = layout::parse(written, is_little).map_err(fault)?;
        let mut binder = Binder {
            columns: &columns,
            filled: Vec::new(),
        };
        let once = binder.fields(once).map_err(fault)?;
        let outer = binder.filled.clone();
        let repeated = match repeated {
            Some(pieces) => Some(binder.fields(pieces).map_err(fault)?),
            None => None,
        };
        let filled = &binder.filled;
        if let Some((_, column)) = columns.own().find(|(index, _)| !filled.contains(index)) {
            let problem = format!("no field is called like the column `{}`", column.name);
            return Err(fault(problem));
        }
        Ok(Decoder {
            columns,
            once,
            repeated,
            outer,
            outer_row: vec![Value::Null; schema.width()],
            ignores_trailing: options.text("binary.trailing") == Some("ignore"),
        })
    }

    pub(super) fn decode(
        &mut self,
        payload: &[u8],
        into: &mut Batch,
        ignored: &mut u64,
    ) -> Result<(), Reject> {
        if payload.is_empty() {
            return Err(super::empty());
        }
        let mut reader = Reader {
            columns: &self.columns,
            length: payload.len(),
            rest: payload,
            ignored,
        };
        let Some(repeated) = &self.repeated else {
            reader.fields(&self.once, into.push_null())?;
            return match reader.rest.len() {
                0 => Ok(()),
                _ if self.ignores_trailing => Ok(()),
                more => {
                    let detail = format!("{more} bytes more than the layout has");
                    Err(Reject::new(Reason::Malformed, detail))
                }
            };
        };
        reader.fields(&self.once, &mut self.outer_row)?;
        let lengths = repeated.iter().filter_map(|field| field.kind.length());
        let length: usize = lengths.sum();
        let first = into.len();
        while !reader.rest.is_empty() {
            if reader.rest.len() < length && self.ignores_trailing {
                break;
            }
            if into.len() - first >= MESSAGE_ROWS_MAX {
                return Err(super::too_many_rows());
            }
            reader.fields(repeated, into.push_null())?;
        }
        for column in &self.outer {
            if let Some(value) = self.outer_row.get(*column) {
                into.fill(first, *column, value);
            }
        }
        Ok(())
    }
}

/// Finds the columns of fields.
struct Binder<'a> {
    columns: &'a Columns,
    filled: Vec<usize>,
}

impl Binder<'_> {
    fn fields(&mut self, pieces: Vec<Piece>) -> Result<Vec<Field>, String> {
        let bound = pieces.into_iter().map(|piece| self.field(piece));
        bound.collect()
    }

    fn field(&mut self, piece: Piece) -> Result<Field, String> {
        let column = match piece.name.as_str() {
            "_" => None,
            // What only names its bits needs no column of its own.
            name if !piece.bits.is_empty() && self.columns.find(name).is_none() => None,
            name => Some(self.target(name, |ty| fits(&piece, ty))?),
        };
        let mut bits = Vec::new();
        for part in piece.bits {
            let target = self.target(&part.name, |ty| match (ty, part.count) {
                (Type::Bool, 1) | (Type::Long, _) | (Type::Int, ..=31) => Ok(()),
                (_, 1) => Err("one bit fits BOOLEAN, INT or BIGINT".to_owned()),
                (_, ..=31) => Err("some bits fit INT or BIGINT".to_owned()),
                (_, count) => Err(format!("{count} bits fit BIGINT")),
            })?;
            bits.push((part, target));
        }
        Ok(Field {
            name: piece.name,
            kind: piece.kind,
            scale: piece.scale,
            null: piece.null,
            column,
            bits,
        })
    }

    fn target(
        &mut self,
        name: &str,
        fits: impl Fn(Type) -> Result<(), String>,
    ) -> Result<Target, String> {
        let index = self.columns.find(name).ok_or_else(|| {
            let names: Vec<&str> = self
                .columns
                .own()
                .map(|(_, column)| column.name.as_str())
                .collect();
            format!(
                "field `{name}` is no column to be filled: these are {}; what is not wanted is \
                 called `_`",
                names.join(", ")
            )
        })?;
        if self.filled.contains(&index) {
            return Err(format!("field `{name}` is there twice"));
        }
        self.filled.push(index);
        let ty = self
            .columns
            .get(index)
            .map_or(Type::Json, |column| column.ty);
        let is_truth = ty == Type::Bool;
        fits(ty).map_err(|problem| format!("field `{name}`: {problem}, its column is {ty}"))?;
        Ok(Target { index, is_truth })
    }
}

/// Whether a column of this type can take what is written so.
fn fits(piece: &Piece, ty: Type) -> Result<(), String> {
    let is_whole = |scale: &Scale| match scale.factor {
        Factor::Times(factor) => factor.fract() == 0.0 && scale.offset.fract() == 0.0,
        Factor::By(divisor) => divisor.abs() == 1.0 && scale.offset.fract() == 0.0,
    };
    match (piece.kind, ty) {
        (Kind::Pad(_), _) => Ok(()),
        (Kind::Bool, Type::Bool) | (Kind::Bytes(_), Type::Bytes) => Ok(()),
        (Kind::Bool, _) => Err("`bool` fits BOOLEAN".to_owned()),
        (Kind::Bytes(_), _) => Err("`bytes` fits BYTES".to_owned()),
        (Kind::Char(_), Type::String | Type::Timestamp) => Ok(()),
        (Kind::Char(_), ty) if ty.is_numeric() => Ok(()),
        (Kind::Char(_), _) => Err("`char` fits STRING, TIMESTAMP and numbers".to_owned()),
        (Kind::Integer(_) | Kind::Float { .. }, Type::Float | Type::Double) => Ok(()),
        (Kind::Integer(_) | Kind::Float { .. }, Type::Timestamp) if piece.scale.is_none() => Ok(()),
        (Kind::Float { .. }, _) => Err("a float fits FLOAT or DOUBLE".to_owned()),
        (Kind::Integer(integer), Type::Int | Type::Long | Type::Bool) => match &piece.scale {
            Some(scale) if !is_whole(scale) || ty == Type::Bool => {
                Err("with its factor it fits FLOAT or DOUBLE".to_owned())
            }
            Some(_) => Ok(()),
            None if ty == Type::Int && integer.range().1 > i128::from(i32::MAX) => {
                let max = integer.range().1;
                Err(format!("it can be {max} and fits BIGINT or DOUBLE"))
            }
            None => Ok(()),
        },
        (Kind::Integer(_), _) => Err("an integer fits numbers, BOOLEAN and TIMESTAMP".to_owned()),
    }
}

/// A message on its way through.
struct Reader<'a, 'b> {
    columns: &'a Columns,
    length: usize,
    rest: &'b [u8],
    ignored: &'a mut u64,
}

impl Reader<'_, '_> {
    fn fields(&mut self, fields: &[Field], row: &mut [Value]) -> Result<(), Reject> {
        for field in fields {
            let length = field.kind.length().unwrap_or(self.rest.len());
            let Some((bytes, rest)) = self.rest.split_at_checked(length) else {
                let (name, has, at) = (&field.name, self.rest.len(), self.length - self.rest.len());
                let detail = format!(
                    "field `{name}` needs {length} bytes from byte {at} on, there are {has}"
                );
                return Err(Reject::new(Reason::Malformed, detail));
            };
            self.rest = rest;
            self.field(field, bytes, row)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, bytes: &[u8], row: &mut [Value]) -> Result<(), Reject> {
        match field.kind {
            Kind::Pad(_) => Ok(()),
            Kind::Integer(integer) => self.integer(field, integer, bytes, row),
            Kind::Float { is_little, .. } => {
                let number = scaled(float(bytes, is_little), field.scale);
                let scalar = match number.is_finite() {
                    true => Scalar::Float(number),
                    false => Scalar::Null,
                };
                self.store(field.column, scalar, row)
            }
            Kind::Bool => {
                let truth = bytes.iter().any(|byte| *byte != 0);
                self.store(field.column, Scalar::Bool(truth), row)
            }
            Kind::Bytes(_) => self.store(field.column, Scalar::Bytes(bytes), row),
            Kind::Char(_) => {
                let end = bytes.iter().position(|byte| *byte == 0);
                let text = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
                match std::str::from_utf8(text) {
                    Ok(text) => self.store(field.column, Scalar::Text(text.trim_end()), row),
                    Err(_) => {
                        let name = &field.name;
                        let detail = format!("field `{name}` is text that is not UTF-8");
                        let reject = || Reject::new(Reason::InvalidUtf8, detail);
                        self.columns.misfit(self.ignored, reject)?;
                        self.store(field.column, Scalar::Null, row)
                    }
                }
            }
        }
    }

    fn integer(
        &mut self,
        field: &Field,
        integer: Integer,
        bytes: &[u8],
        row: &mut [Value],
    ) -> Result<(), Reject> {
        let raw = unsigned(bytes, integer.is_little);
        let number = signed(raw, integer);
        if field
            .null
            .is_some_and(|null| null == number || null == i128::from(raw))
        {
            self.store(field.column, Scalar::Null, row)?;
            for (_, target) in &field.bits {
                self.store(Some(*target), Scalar::Null, row)?;
            }
            return Ok(());
        }
        let scalar = match field.scale {
            None => whole(number),
            Some(_) => {
                #[expect(clippy::cast_precision_loss, reason = "a factor makes a float of it")]
                let number = scaled(number as f64, field.scale);
                match number.is_finite() {
                    true => Scalar::Float(number),
                    false => Scalar::Null,
                }
            }
        };
        match field.column {
            Some(target) if target.is_truth => {
                self.store(field.column, Scalar::Bool(number != 0), row)?;
            }
            column => self.store(column, scalar, row)?,
        }
        for (bits, target) in &field.bits {
            let mask = u64::MAX >> (64 - bits.count);
            let value = (raw >> bits.first) & mask;
            let scalar = match target.is_truth {
                true => Scalar::Bool(value != 0),
                false => whole(i128::from(value)),
            };
            self.store(Some(*target), scalar, row)?;
        }
        Ok(())
    }

    fn store(
        &mut self,
        target: Option<Target>,
        scalar: Scalar<'_>,
        row: &mut [Value],
    ) -> Result<(), Reject> {
        match target {
            Some(target) => self.columns.store(target.index, scalar, row, self.ignored),
            None => Ok(()),
        }
    }
}

fn whole<'a>(number: i128) -> Scalar<'a> {
    i64::try_from(number).map_or(Scalar::Beyond(number), Scalar::Integer)
}

/// Up to eight bytes as a number.
fn unsigned(bytes: &[u8], is_little: bool) -> u64 {
    let add = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
    match is_little {
        true => bytes.iter().rev().fold(0, add),
        false => bytes.iter().fold(0, add),
    }
}

fn signed(raw: u64, integer: Integer) -> i128 {
    let (min, max) = integer.range();
    let number = i128::from(raw);
    match integer.is_signed && number > max {
        true => number - max - 1 + min,
        false => number,
    }
}

/// Four or eight bytes.
fn float(bytes: &[u8], is_little: bool) -> f64 {
    let bits = unsigned(bytes, is_little);
    match u32::try_from(bits) {
        Ok(bits) if bytes.len() == 4 => f64::from(f32::from_bits(bits)),
        Ok(_) | Err(_) => f64::from_bits(bits),
    }
}

fn scaled(number: f64, scale: Option<Scale>) -> f64 {
    match scale {
        None => number,
        Some(Scale { factor, offset }) => {
            match factor {
                Factor::Times(factor) => number * factor + offset,
                Factor::By(divisor) => {
                    // Added before the division, so that 617 * 0.1 - 40 is 21.7 and not nearly.
                    let shift = (offset * divisor).round();
                    match shift / divisor == offset {
                        true => (number + shift) / divisor,
                        false => number / divisor + offset,
                    }
                }
            }
        }
    }
}

/// `number * factor + offset`, without the error that a factor such as 0.1 has as a float.
#[must_use]
pub fn scaled_by(number: f64, factor: f64, offset: f64) -> f64 {
    let factor = layout::factor(factor);
    scaled(number, Some(Scale { factor, offset }))
}

#[cfg(test)]
mod tests {
    use super::scaled_by;

    #[test]
    fn a_scaled_number_is_the_decimal_one() {
        let by_hand = [
            (617.0, 0.1, -40.0, 21.7),
            (217.0, 0.1, 0.0, 21.7),
            (2_500.0, 0.01, -273.15, -248.15),
            (3.0, 7.0, 0.5, 21.5),
        ];
        for (number, factor, offset, is) in by_hand {
            let found = scaled_by(number, factor, offset);
            assert!(found == is, "{number} * {factor} + {offset}: {found}");
        }
    }
}
