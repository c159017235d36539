//! Rows as JSON: objects with a field for each column, or a text of the user's with placeholders.
//!
//! What a template makes is JSON whatever the values are: that its text is, is checked when it is
//! read, and a value is written as its place asks, with the escapes of a string inside of quotes
//! and as a JSON value outside of them.

use serde::de::IgnoredAny;

use super::extra::{self, Extras};
use super::template::Piece;
use super::{Message, Template, plain};
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options};
use crate::event::{Schema, Value, render_json_inside, render_json_text, render_json_value};

const TEMPLATE: &str = "json.template";
const BATCH: &str = "json.batch";

const EXTRA: [OptionSpec; 6] = extra::options([
    "json.id",
    "json.timestamp",
    "json.event_time",
    "json.stream",
    "json.age_ms",
    "json.historical",
]);

/// What can be set.
pub(super) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        TEMPLATE,
        OptionKind::Text,
        "What is written instead of an object of all columns: JSON with placeholders such as \
         `{{temp}}`.",
    ),
    OptionSpec::new(
        BATCH,
        OptionKind::Choice(&["array", "lines"]),
        "How several outputs go in one message: as an array, or each on a line of its own.",
    )
    .or("array"),
    EXTRA[0],
    EXTRA[1],
    EXTRA[2],
    EXTRA[3],
    EXTRA[4],
    EXTRA[5],
];

/// A JSON encoder for one stream.
#[derive(Debug)]
pub struct Encoder {
    form: Form,
    /// Whether a batch is lines.
    by_lines: bool,
}

#[derive(Debug)]
enum Form {
    Object(Extras),
    Template {
        template: Template,
        /// For each placeholder, whether it stands inside of quotes.
        quoted: Vec<bool>,
    },
}

impl Encoder {
    /// An encoder of rows.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub(super) fn new(options: &Options, schema: &Schema) -> Result<Encoder, OptionFault> {
        let form = match options.text(TEMPLATE) {
            None => Form::Object(Extras::new("json", options, schema)?),
            Some(text) => {
                if let Some(option) = Extras::first_set("json", options) {
                    let problem = "with `json.template` there are no further fields: write a \
                                   placeholder such as `{{_id}}` into it";
                    return Err(OptionFault::new(option, problem));
                }
                let fault = |problem| OptionFault::new(TEMPLATE, problem);
                template(text, schema).map_err(fault)?
            }
        };
        Ok(Encoder {
            form,
            by_lines: options.text(BATCH) == Some("lines"),
        })
    }

    /// Whether several outputs are lines.
    pub(super) fn by_lines(&self) -> bool {
        self.by_lines
    }

    /// Appends one output.
    pub(super) fn encode(&self, message: &Message<'_>, into: &mut Vec<u8>) {
        match &self.form {
            Form::Object(extras) => object(extras, message, into),
            Form::Template { template, quoted } => {
                let mut quoted = quoted.iter();
                template.each(message, |piece| match piece {
                    Piece::Text(text) => into.extend_from_slice(text.as_bytes()),
                    Piece::Filled(filled) if quoted.next() == Some(&true) => {
                        render_json_inside(&filled.text(), into);
                    }
                    Piece::Filled(filled) => render_json_value(filled.ty, &filled.value, into),
                });
            }
        }
    }

    /// Appends several outputs.
    pub(super) fn encode_all(&self, messages: &[Message<'_>], into: &mut Vec<u8>) {
        if self.by_lines {
            for message in messages {
                plain::line(into, |into| self.encode(message, into));
            }
            return;
        }
        into.push(b'[');
        for (index, message) in messages.iter().enumerate() {
            if index > 0 {
                into.push(b',');
            }
            self.encode(message, into);
        }
        into.push(b']');
    }
}

fn object(extras: &Extras, message: &Message<'_>, into: &mut Vec<u8>) {
    let mut begin = b'{';
    let mut member = |name: &str, into: &mut Vec<u8>| {
        into.push(std::mem::replace(&mut begin, b','));
        render_json_text(name, into);
        into.push(b':');
    };
    for (name, extra) in extras.of(message.schema) {
        member(name, into);
        let (ty, value) = extra.value(message);
        render_json_value(ty, &value, into);
    }
    for (index, field) in message.schema.fields().iter().enumerate() {
        member(&field.name, into);
        let value = message.row.get(index).unwrap_or(&Value::Null);
        render_json_value(field.ty, value, into);
    }
    if begin == b'{' {
        into.push(b'{');
    }
    into.push(b'}');
}

/// Reads a template, and whether each placeholder stands inside of quotes.
fn template(text: &str, schema: &Schema) -> Result<Form, String> {
    // In JSON a line can only break where white space may stand.
    let line: String = text
        .chars()
        .map(|c| if c == '\n' || c == '\r' { ' ' } else { c })
        .collect();
    let template = Template::parse(&line, schema)?;
    let (mut quoted, mut sample) = (Vec::new(), String::new());
    let (mut is_inside, mut is_escaped) = (false, false);
    for piece in template.pieces() {
        let Some(text) = piece else {
            quoted.push(is_inside);
            sample.push_str(if is_inside { "x" } else { "null" });
            is_escaped = false;
            continue;
        };
        for c in text.chars() {
            is_inside ^= c == '"' && !is_escaped;
            is_escaped = is_inside && c == '\\' && !is_escaped;
        }
        sample.push_str(text);
    }
    serde_json::from_str::<IgnoredAny>(&sample).map_err(|error| {
        format!("it is not JSON: {error}, read with `null` for each placeholder outside of quotes")
    })?;
    Ok(Form::Template { template, quoted })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{encoder, message, schema};
    use super::*;

    const OBJECT: &str = concat!(
        r#"{"device":"press \"3\"","temp":81.0,"ok":true,"count":7,"gone":null,"#,
        r#""doc":{"a":1},"bytes":"AQI="}"#
    );

    fn encoded(written: &[(&str, &str)]) -> String {
        let encoder = encoder("json", written).unwrap();
        let mut out = Vec::new();
        message(|message| encoder.encode(message, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn objects_and_further_fields() {
        assert_eq!(encoded(&[]), OBJECT);
        let all = [
            ("json.id", "_id"),
            ("json.timestamp", "at"),
            ("json.event_time", "time"),
            ("json.stream", "from"),
            ("json.age_ms", "age"),
            ("json.historical", "old"),
        ];
        let begin =
            r#"{"_id":"ab-7-0-0","at":2000,"time":1000,"from":"Alerts","age":61000,"old":true,"#;
        assert_eq!(encoded(&all), format!("{begin}{}", &OBJECT[1..]));
    }

    #[test]
    fn no_columns_at_all() {
        let encoder = Encoder {
            form: Form::Object(Extras::default()),
            by_lines: false,
        };
        let (mut out, none) = (Vec::new(), Schema::new(Vec::new()));
        message(|message| {
            let message = Message {
                schema: &none,
                ..*message
            };
            encoder.encode(&message, &mut out);
        });
        assert_eq!(out, b"{}");
    }

    #[test]
    fn a_template_makes_json_of_whatever_the_values_are() {
        let table = [
            (r#"{"d": {{device}}}"#, r#"{"d": "press \"3\""}"#),
            (r#"{"d": "at {{device}}!"}"#, r#"{"d": "at press \"3\"!"}"#),
            (r#"{"{{device}}": {{temp}}}"#, r#"{"press \"3\"": 81.0}"#),
            (r#"[{{gone}}, "{{gone}}"]"#, r#"[null, ""]"#),
            (r#"[{{doc}}, "{{doc}}"]"#, r#"[{"a":1}, "{\"a\":1}"]"#),
            (r#"["\"{{ok}}\\", {{ok}}]"#, r#"["\"true\\", true]"#),
            ("{\n\"a\":{\"b\":{{count}}}}", r#"{ "a":{"b":7}}"#),
            (
                r#"{"id":"{{_id}}","age":{{_age_ms}},"old":{{_historical}}}"#,
                r#"{"id":"ab-7-0-0","age":61000,"old":true}"#,
            ),
            ("{{_eventTime}}", "1000"),
        ];
        for (template, expected) in table {
            let text = encoded(&[("json.template", template)]);
            assert_eq!(text, expected, "{template}");
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }

    /// Every sequence of these pieces, whatever sense it makes.
    #[test]
    fn a_template_that_is_taken_makes_json() {
        const PIECES: [&str; 10] = [
            "{{device}}",
            "{{gone}}",
            "\"",
            "\\",
            "[",
            "]",
            ",",
            "\n",
            "1",
            "{{doc}}",
        ];
        const LENGTH_MAX: u32 = 5;
        let mut taken = 0;
        for number in 0..PIECES.len().pow(LENGTH_MAX) {
            let digits = (0..LENGTH_MAX).map(|place| number / PIECES.len().pow(place) % 10);
            let text: String = digits.map(|digit| PIECES[digit]).collect();
            let Ok(form) = template(&text, &schema()) else {
                continue;
            };
            let encoder = Encoder {
                form,
                by_lines: false,
            };
            let mut out = Vec::new();
            message(|message| encoder.encode(message, &mut out));
            assert!(!out.contains(&b'\n'), "{text:?}");
            let read = serde_json::from_slice::<IgnoredAny>(&out);
            assert!(
                read.is_ok(),
                "{text:?} gives {}",
                String::from_utf8_lossy(&out)
            );
            taken += 1;
        }
        assert!(taken > 500, "{taken}");
    }

    #[test]
    fn faults() {
        let fault = |written: &[(&str, &str)]| encoder("json", written).unwrap_err().to_string();
        for template in [
            r#"{"a": {{temp}}"#,
            r#"{ {{device}}: 1}"#,
            r#"{"a": 1{{temp}}}"#,
            r#"{"a": "\{{temp}}"}"#,
            r#"{"a": "{{temp}}}"#,
        ] {
            let fault = fault(&[("json.template", template)]);
            assert!(
                fault.starts_with("json.template: it is not JSON: "),
                "{fault}"
            );
        }
        assert_eq!(
            fault(&[("json.template", "{\"a\": {{tmp}}}")]),
            "json.template: `{{tmp}}` names no column: did you mean 'temp'?"
        );
        assert_eq!(
            fault(&[("json.template", "{{temp}}"), ("json.id", "x")]),
            "json.id: with `json.template` there are no further fields: write a placeholder such \
             as `{{_id}}` into it"
        );
        for (first, second) in [("temp", "at"), ("same", "same")] {
            let fault = fault(&[("json.id", first), ("json.stream", second)]);
            assert!(fault.contains("already: name it otherwise"), "{fault}");
        }
    }

    #[test]
    fn batches() {
        let table = [
            ("array", format!("[{OBJECT},{OBJECT}]")),
            ("lines", format!("{OBJECT}\n{OBJECT}\n")),
        ];
        for (batch, expected) in table {
            let encoder = encoder("json", &[("json.batch", batch)]).unwrap();
            let mut out = Vec::new();
            message(|message| encoder.encode_all(&[*message, *message], &mut out));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        assert_eq!(schema().width(), 7);
        // White space of a document does not break a line.
        let encoder = encoder("json", &[("json.batch", "lines")]).unwrap();
        let mut out = Vec::new();
        message(|message| {
            let mut row = message.row.to_vec();
            row[5] = Value::text("{\r\n\"a\":1}");
            let message = Message {
                row: &row,
                ..*message
            };
            encoder.encode_all(&[message, message], &mut out);
        });
        let read = String::from_utf8(out).unwrap();
        assert_eq!(read.lines().count(), 2, "{read}");
    }
}
