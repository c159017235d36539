//! Payloads without a form of their own: a text with placeholders, or the value of one column.

use super::{Message, Template};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::diagnostic::did_you_mean;
use crate::event::{Schema, Type, Value};

const TEMPLATE: &str = "text.template";
const COLUMN: &str = "raw.column";

/// What can be set for `text`.
pub(super) const TEXT_OPTIONS: &[OptionSpec] = &[OptionSpec::new(
    TEMPLATE,
    OptionKind::Text,
    "What is written, with placeholders such as `{{temp}}`.",
)
.required()];

/// What can be set for `raw`.
pub(super) const RAW_OPTIONS: &[OptionSpec] = &[OptionSpec::new(
    COLUMN,
    OptionKind::Text,
    "The column whose value is the payload: STRING or BYTES. Not needed where there is only one.",
)];

/// A text encoder for one stream.
#[derive(Debug)]
pub struct Text {
    template: Template,
}

impl Text {
    pub(super) fn new(options: &Options, schema: &Schema) -> Result<Text, OptionFault> {
        let text = options.text(TEMPLATE).unwrap_or_default();
        let template = Template::parse(text, schema);
        let template = template.map_err(|problem| OptionFault::new(TEMPLATE, problem))?;
        Ok(Text { template })
    }

    /// Appends one text.
    pub(super) fn encode(&self, message: &Message<'_>, into: &mut Vec<u8>) {
        into.extend_from_slice(self.template.text(message).as_bytes());
    }
}

/// An encoder that takes what one column holds.
#[derive(Debug)]
pub struct Raw {
    column: String,
    is_text: bool,
}

impl Raw {
    pub(super) fn new(options: &Options, schema: &Schema) -> Result<Raw, OptionFault> {
        let fields = schema.fields().iter();
        let able: Vec<_> = fields
            .filter(|field| matches!(field.ty, Type::String | Type::Bytes))
            .collect();
        let names = || able.iter().map(|field| field.name.as_str());
        let found = match options.text(COLUMN) {
            Some(name) => able.iter().find(|field| field.name == name),
            None if able.len() == 1 => able.first(),
            None => None,
        };
        let Some(field) = found else {
            let hint = options
                .text(COLUMN)
                .and_then(|name| did_you_mean(name, names()));
            let problem = match hint {
                Some(hint) => format!("no such column of the type STRING or BYTES: {hint}"),
                None if able.is_empty() => "the stream has no column of the type STRING or BYTES \
                                            that could be the payload"
                    .to_owned(),
                None => {
                    let names: Vec<&str> = names().collect();
                    format!("name the column that is the payload: {}", names.join(", "))
                }
            };
            return Err(OptionFault::new(COLUMN, problem));
        };
        Ok(Raw {
            column: field.name.clone(),
            is_text: field.ty == Type::String,
        })
    }

    pub(super) fn is_text(&self) -> bool {
        self.is_text
    }

    /// Appends what the column holds: nothing for NULL.
    pub(super) fn encode(&self, message: &Message<'_>, into: &mut Vec<u8>) {
        let index = message.schema.index_of(&self.column);
        match index.and_then(|index| message.row.get(index)) {
            Some(Value::Str(text)) => into.extend_from_slice(text.as_bytes()),
            Some(Value::Bytes(bytes)) => into.extend_from_slice(bytes),
            Some(Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_)) | None => {}
        }
    }
}

/// Appends what `encode` writes as one line: line breaks and zero bytes in it become spaces.
pub(super) fn line(into: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let begin = into.len();
    encode(into);
    for byte in into.iter_mut().skip(begin) {
        if matches!(*byte, b'\n' | b'\r' | 0) {
            *byte = b' ';
        }
    }
    into.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Written, encoder, message};

    fn both(format: &str, written: &[(&str, &str)]) -> (Vec<u8>, Vec<u8>) {
        let encoder = encoder(format, written).unwrap();
        let (mut one, mut two) = (Vec::new(), Vec::new());
        message(|message| {
            encoder.encode(message, &mut one);
            encoder.encode_all(&[*message, *message], &mut two);
        });
        (one, two)
    }

    #[test]
    fn texts_and_columns() {
        let (one, two) = both("text", &[("text.template", "{{device}}:\n{{temp}} °C")]);
        assert_eq!(one, "press \"3\":\n81.0 °C".as_bytes());
        let line = "press \"3\": 81.0 °C\n";
        assert_eq!(two, format!("{line}{line}").as_bytes());
        let (one, two) = both("raw", &[("raw.column", "device")]);
        assert_eq!(one, b"press \"3\"");
        assert_eq!(two, b"press \"3\"\npress \"3\"\n");
        let (one, two) = both("raw", &[("raw.column", "bytes")]);
        assert_eq!(one, [1, 2]);
        assert_eq!(two, [1, 2, 1, 2]);
        let (one, _) = both("raw", &[("raw.column", "gone")]);
        assert_eq!(one, b"");
    }

    #[test]
    fn faults() {
        let table: [(&str, Written, &str); 4] = [
            (
                "text",
                &[("text.template", "{{devce}}")],
                "text.template: `{{devce}}` names no column: did you mean 'device'?",
            ),
            (
                "raw",
                &[],
                "raw.column: name the column that is the payload: device, gone, bytes",
            ),
            (
                "raw",
                &[("raw.column", "byte")],
                "raw.column: no such column of the type STRING or BYTES: did you mean 'bytes'?",
            ),
            (
                "raw",
                &[("raw.column", "temp")],
                "raw.column: name the column that is the payload: device, gone, bytes",
            ),
        ];
        for (format, written, expected) in table {
            assert_eq!(encoder(format, written).unwrap_err().to_string(), expected);
        }
    }
}
