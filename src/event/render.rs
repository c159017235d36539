//! A row as a JSON object.
//!
//! Integers are written exactly, floats as the shortest text that reads back as the same number,
//! text with the escapes that JSON asks for (RFC 8259), BYTES in Base64, JSON as what it is. NULL
//! is `null`: every column is there.

use super::{Schema, Type, Value, to_base64};

/// Appends `row` as an object with one field per column of `schema`.
pub fn render_json(schema: &Schema, row: &[Value], out: &mut Vec<u8>) {
    render_json_with(schema, row, None, out);
}

/// Like [`render_json`], with one more text field in front.
pub fn render_json_with(
    schema: &Schema,
    row: &[Value],
    extra: Option<(&str, &str)>,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    let mut is_first = true;
    if let Some((name, text)) = extra {
        name_of(name, &mut is_first, out);
        render_json_text(text, out);
    }
    for (index, field) in schema.fields().iter().enumerate() {
        name_of(&field.name, &mut is_first, out);
        render_json_value(field.ty, row.get(index).unwrap_or(&Value::Null), out);
    }
    out.push(b'}');
}

fn name_of(name: &str, is_first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::take(is_first) {
        out.push(b',');
    }
    render_json_text(name, out);
    out.push(b':');
}

/// Appends one value of a column of the type `ty`.
pub fn render_json_value(ty: Type, value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => write(out, format_args!("{number}")),
        Value::Float(number) if !number.is_finite() => out.extend_from_slice(b"null"),
        Value::Float(number) => float(ty, *number, out),
        Value::Str(text) if ty == Type::Json => out.extend_from_slice(text.as_bytes()),
        Value::Str(text) => render_json_text(text, out),
        Value::Bytes(bytes) => render_json_text(&to_base64(bytes), out),
    }
}

/// `{:?}` is the shortest form that reads back the same, and says `1.0` and `1e300`, which JSON
/// allows. A FLOAT column whose value is exactly a single is written with a single's digits.
fn float(ty: Type, number: f64, out: &mut Vec<u8>) {
    #[expect(clippy::cast_possible_truncation, reason = "checked for being exact")]
    let single = number as f32;
    if ty == Type::Float && f64::from(single) == number {
        write(out, format_args!("{single:?}"));
    } else {
        write(out, format_args!("{number:?}"));
    }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}

/// Appends a text in quotes.
pub fn render_json_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    render_json_inside(text, out);
    out.push(b'"');
}

/// Appends what stands between the quotes of a text.
pub fn render_json_inside(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1F => write(out, format_args!("\\u{byte:04x}")),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Field;
    use super::*;

    fn render(ty: Type, value: Value) -> String {
        let field = Field {
            name: "x".to_owned(),
            ty,
        };
        let mut out = Vec::new();
        render_json(&Schema::new(vec![field]), &[value], &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values() {
        let table = [
            (Type::Double, Value::Float(0.1), "0.1"),
            (Type::Double, Value::Float(80.0), "80.0"),
            (Type::Double, Value::Float(-0.0), "-0.0"),
            (Type::Double, Value::Float(1e300), "1e300"),
            (Type::Double, Value::Float(5e-324), "5e-324"),
            (Type::Float, Value::Float(f64::from(0.1f32)), "0.1"),
            (Type::Float, Value::Float(0.1), "0.1"),
            (Type::Double, Value::Float(f64::NAN), "null"),
            (Type::Long, Value::Int(i64::MIN), "-9223372036854775808"),
            (Type::Bool, Value::Bool(true), "true"),
            (Type::String, Value::Null, "null"),
            (Type::Json, Value::text("{\"a\":[1]}"), "{\"a\":[1]}"),
            (Type::Json, Value::text("\"s\""), "\"s\""),
            (Type::Bytes, Value::from([1, 2].as_slice()), "\"AQI=\""),
            (
                Type::String,
                Value::text("a\"\\\n\u{1}é\u{1F600}"),
                "\"a\\\"\\\\\\n\\u0001é\u{1F600}\"",
            ),
        ];
        for (ty, value, expected) in table {
            let text = render(ty, value);
            assert_eq!(text, format!("{{\"x\":{expected}}}"));
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }

    #[test]
    fn every_double_reads_back() {
        let mut bits = 1u64;
        for _ in 0..20_000 {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let number = f64::from_bits(bits);
            if number.is_finite() {
                let text = render(Type::Double, Value::Float(number));
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(
                    value["x"].as_f64().map(f64::to_bits),
                    Some(number.to_bits()),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_short_row_and_an_extra_field() {
        let schema = Schema::new(vec![
            Field {
                name: "a".to_owned(),
                ty: Type::Long,
            },
            Field {
                name: "b\"".to_owned(),
                ty: Type::Long,
            },
        ]);
        let mut out = Vec::new();
        render_json_with(&schema, &[Value::Int(1)], Some(("_id", "7-0-0")), &mut out);
        assert_eq!(out, br#"{"_id":"7-0-0","a":1,"b\"":null}"#);
    }
}
