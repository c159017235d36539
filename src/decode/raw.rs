//! Payloads as they are: `raw` into a BYTES column, `text` into a STRING column.

use super::{MESSAGE_ROWS_MAX, Reject};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::event::{Batch, Schema, Type, Value};

/// What can be set for `raw`: nothing.
pub(super) const RAW_OPTIONS: &[OptionSpec] = &[];

/// What can be set for `text`.
pub(super) const TEXT_OPTIONS: &[OptionSpec] = &[OptionSpec::new(
    "text.rows",
    OptionKind::Choice(&["message", "lines"]),
    "What makes a row: the whole message, or each of its lines that is not empty",
)
.or("message")];

/// The whole payload as bytes.
#[derive(Debug)]
pub(super) struct Raw {
    column: usize,
}

impl Raw {
    pub(super) fn new(schema: &Schema, taken: &[usize]) -> Result<Raw, OptionFault> {
        let column = only_column("raw", Type::Bytes, schema, taken)?;
        Ok(Raw { column })
    }

    pub(super) fn decode(&self, payload: &[u8], into: &mut Batch) -> Result<(), Reject> {
        put(into, self.column, Value::from(payload));
        Ok(())
    }
}

/// The payload as text.
#[derive(Debug)]
pub(super) struct Text {
    column: usize,
    by_lines: bool,
}

impl Text {
    pub(super) fn new(
        options: &Options,
        schema: &Schema,
        taken: &[usize],
    ) -> Result<Text, OptionFault> {
        Ok(Text {
            column: only_column("text", Type::String, schema, taken)?,
            by_lines: options.text("text.rows") == Some("lines"),
        })
    }

    pub(super) fn decode(&self, payload: &[u8], into: &mut Batch) -> Result<(), Reject> {
        let text = super::utf8(payload)?;
        if !self.by_lines {
            put(into, self.column, Value::text(text));
            return Ok(());
        }
        for (count, (_, line)) in super::text::lines(text).enumerate() {
            if count == MESSAGE_ROWS_MAX {
                return Err(super::too_many_rows());
            }
            put(into, self.column, Value::text(line));
        }
        Ok(())
    }
}

fn put(into: &mut Batch, column: usize, value: Value) {
    if let Some(cell) = into.push_null().get_mut(column) {
        *cell = value;
    }
}

/// The column that takes the payload: there must be one, and of that type.
fn only_column(
    format: &str,
    ty: Type,
    schema: &Schema,
    taken: &[usize],
) -> Result<usize, OptionFault> {
    let all = schema.fields().iter().enumerate();
    let own: Vec<_> = all.filter(|(index, _)| !taken.contains(index)).collect();
    let problem = match own.as_slice() {
        [(index, field)] if field.ty == ty => return Ok(*index),
        [(_, field)] => format!("but column `{}` is {}", field.name, field.ty),
        [] => "but the stream has no column for it".to_owned(),
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|(_, field)| format!("`{}`", field.name))
                .collect();
            format!("but the stream has the columns {}", names.join(", "))
        }
    };
    let problem = format!("`{format}` fills one {ty} column, {problem}");
    Err(OptionFault::new("format", problem))
}
