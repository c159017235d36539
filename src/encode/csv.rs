//! Rows as lines of comma-separated values (RFC 4180, but for the line end, which is a line feed).
//!
//! NULL is an empty field, or what `csv.null` says; a text that would read the same is quoted. A
//! zero byte in a text becomes a space.

use super::Message;
use super::extra::{self, Extras};
use super::template::plain;
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::event::{Schema, Type, Value};

const DELIMITER: &str = "csv.delimiter";
const HEADER: &str = "csv.header";
const NULL: &str = "csv.null";

const EXTRA: [OptionSpec; 6] = extra::options([
    "csv.id",
    "csv.timestamp",
    "csv.event_time",
    "csv.stream",
    "csv.age_ms",
    "csv.historical",
]);

/// What can be set.
pub(super) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        DELIMITER,
        OptionKind::Text,
        "What stands between fields: one character, or `tab`.",
    )
    .or(","),
    OptionSpec::new(
        HEADER,
        OptionKind::Choice(&["none", "first"]),
        "`first`: each batch and each file begins with a line of the fields' names.",
    )
    .or("first"),
    OptionSpec::new(
        NULL,
        OptionKind::Text,
        "What NULL is written as; else nothing.",
    ),
    EXTRA[0],
    EXTRA[1],
    EXTRA[2],
    EXTRA[3],
    EXTRA[4],
    EXTRA[5],
];

/// A CSV encoder for one stream.
#[derive(Debug)]
pub struct Encoder {
    delimiter: u8,
    header: bool,
    null: String,
    extras: Extras,
}

impl Encoder {
    pub(super) fn new(options: &Options, schema: &Schema) -> Result<Encoder, OptionFault> {
        let delimiter = match options.text(DELIMITER).unwrap_or(",") {
            "tab" | "\\t" => b'\t',
            text => match text.as_bytes() {
                [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => *byte,
                _ => {
                    let problem = "it must be one ASCII character that is no quote and no line \
                                   end, or `tab`";
                    return Err(OptionFault::new(DELIMITER, problem));
                }
            },
        };
        let null = options.text(NULL).unwrap_or_default();
        let is_special = |byte: u8| byte == delimiter || matches!(byte, b'"' | b'\n' | b'\r' | 0);
        if null.bytes().any(is_special) {
            let problem = "it stands without quotes: no delimiter, quote or line end may be in it";
            return Err(OptionFault::new(NULL, problem));
        }
        Ok(Encoder {
            delimiter,
            header: options.text(HEADER) != Some("none"),
            null: null.to_owned(),
            extras: Extras::new("csv", options, schema)?,
        })
    }

    /// Appends the line of names, if there is to be one.
    pub(super) fn header(&self, schema: &Schema, into: &mut Vec<u8>) {
        if !self.header {
            return;
        }
        let extras = self.extras.of(schema).map(|(name, _)| name);
        let columns = schema.fields().iter().map(|field| field.name.as_str());
        let names = extras.chain(columns);
        for (index, name) in names.enumerate() {
            self.separate(index, into);
            self.text(name, into);
        }
        into.push(b'\n');
    }

    /// Appends one row, without a line end.
    pub(super) fn encode(&self, message: &Message<'_>, into: &mut Vec<u8>) {
        let mut count = 0;
        for (_, extra) in self.extras.of(message.schema) {
            self.separate(count, into);
            let (ty, value) = extra.value(message);
            self.value(ty, &value, into);
            count += 1;
        }
        for (index, field) in message.schema.fields().iter().enumerate() {
            self.separate(count, into);
            let value = message.row.get(index).unwrap_or(&Value::Null);
            self.value(field.ty, value, into);
            count += 1;
        }
    }

    fn separate(&self, index: usize, into: &mut Vec<u8>) {
        if index > 0 {
            into.push(self.delimiter);
        }
    }

    fn value(&self, ty: Type, value: &Value, into: &mut Vec<u8>) {
        if value.is_null() {
            into.extend_from_slice(self.null.as_bytes());
        } else {
            self.text(&plain(ty, value), into);
        }
    }

    fn text(&self, text: &str, into: &mut Vec<u8>) {
        let is_special =
            |byte: u8| byte == self.delimiter || matches!(byte, b'"' | b'\n' | b'\r' | 0);
        // Blanks at an end are lost on some readers.
        let is_null = text.is_empty() || text == self.null;
        if !is_null && text.trim() == text && !text.bytes().any(is_special) {
            into.extend_from_slice(text.as_bytes());
            return;
        }
        into.push(b'"');
        for byte in text.bytes() {
            if byte == b'"' {
                into.push(b'"');
            }
            into.push(if byte == 0 { b' ' } else { byte });
        }
        into.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Written, encoder, message};
    use crate::event::{Field, Schema, Type, Value};

    #[test]
    fn rows_and_headers() {
        let table: [(Written, &str); 3] = [
            (
                &[],
                "device,temp,ok,count,gone,doc,bytes\n\
                 \"press \"\"3\"\"\",81.0,true,7,,\"{\"\"a\"\":1}\",AQI=\n",
            ),
            (
                &[
                    ("csv.delimiter", ";"),
                    ("csv.null", "NULL"),
                    ("csv.id", "id;"),
                ],
                "\"id;\";device;temp;ok;count;gone;doc;bytes\n\
                 ab-7-0-0;\"press \"\"3\"\"\";81.0;true;7;NULL;\"{\"\"a\"\":1}\";AQI=\n",
            ),
            (
                &[("csv.delimiter", "tab"), ("csv.header", "none")],
                "\"press \"\"3\"\"\"\t81.0\ttrue\t7\t\t\"{\"\"a\"\":1}\"\tAQI=\n",
            ),
        ];
        for (written, expected) in table {
            let encoder = encoder("csv", written).unwrap();
            let mut out = Vec::new();
            message(|message| encoder.encode_all(&[*message], &mut out));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
            let mut alone = Vec::new();
            message(|message| encoder.encode(message, &mut alone));
            let row = expected.trim_end().lines().last().unwrap();
            assert_eq!(String::from_utf8(alone).unwrap(), row);
        }
    }

    /// Whatever a text is, a reader of CSV gets it back, and NULL is no text.
    #[test]
    fn texts_read_back() {
        let texts = ["", " x", "a,b", "a\"b", "a\nb", "a\r\nb", "é", "\\N", "\""];
        let field = |name: usize| Field {
            name: format!("c{name}"),
            ty: Type::String,
        };
        let schema = Schema::new((0..texts.len()).map(field).collect());
        let row = texts.map(Value::text);
        let encoder = encoder("csv", &[("csv.null", "\\N")]).unwrap();
        let mut out = Vec::new();
        message(|message| {
            let message = crate::encode::Message {
                schema: &schema,
                row: &row,
                ..*message
            };
            encoder.encode_all(&[message], &mut out);
        });
        let mut reader = ::csv::Reader::from_reader(out.as_slice());
        let read: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].iter().collect::<Vec<_>>(), texts);
        assert!(String::from_utf8(out).unwrap().contains("\"\\N\""));
    }

    #[test]
    fn faults() {
        for delimiter in ["\"", "ab", "é", "\n"] {
            let fault = encoder("csv", &[("csv.delimiter", delimiter)]).unwrap_err();
            assert_eq!(fault.option, "csv.delimiter");
        }
        for null in ["-,-", "\"\"", "a\nb"] {
            let fault = encoder("csv", &[("csv.null", null)]).unwrap_err();
            assert_eq!(fault.option, "csv.null");
        }
    }
}
