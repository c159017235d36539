//! Which columns a stream of some messages has, and by which format they are read.

use std::fmt::Write as _;

use serde_json::Value;

/// A format, its options and its columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) format: &'static str,
    pub(super) options: Vec<(&'static str, String)>,
    /// Names, and types of the dialect.
    pub(super) columns: Vec<(String, &'static str)>,
}

/// What the messages of a framing look like.
pub(super) fn layout(framing: &str, messages: &[Vec<u8>]) -> Layout {
    let plain = |format, name: &str, ty| Layout {
        format,
        options: Vec::new(),
        columns: vec![(name.to_owned(), ty)],
    };
    if framing == "nmea" {
        let columns = [
            ("talker", "STRING"),
            ("sentence", "STRING"),
            ("latitude", "DOUBLE"),
            ("longitude", "DOUBLE"),
        ];
        return Layout {
            format: "nmea",
            options: Vec::new(),
            columns: columns.map(|(name, ty)| (name.to_owned(), ty)).to_vec(),
        };
    }
    let texts: Result<Vec<&str>, _> = messages
        .iter()
        .map(|bytes| std::str::from_utf8(bytes))
        .collect();
    let Ok(texts) = texts else {
        return plain("raw", "bytes", "BYTES");
    };
    if let Some(columns) = json_columns(&texts) {
        return Layout {
            format: "json",
            options: Vec::new(),
            columns,
        };
    }
    csv(&texts).unwrap_or_else(|| plain("text", "line", "STRING"))
}

fn json_columns(texts: &[&str]) -> Option<Vec<(String, &'static str)>> {
    let mut columns: Vec<(String, &'static str)> = Vec::new();
    for text in texts {
        let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
            return None;
        };
        for (name, value) in fields {
            let ty = match &value {
                Value::Bool(_) => "BOOLEAN",
                Value::Number(number) if number.is_i64() => "BIGINT",
                Value::Number(_) => "DOUBLE",
                Value::String(_) => "STRING",
                Value::Array(_) | Value::Object(_) => "JSON",
                Value::Null => continue,
            };
            let known = columns.iter_mut().find(|(known, _)| *known == name);
            match known {
                Some((_, known)) => *known = wider(known, ty, "JSON"),
                None if is_name(&name) => columns.push((name, ty)),
                None => {}
            }
        }
    }
    (!columns.is_empty()).then_some(columns)
}

fn wider(known: &'static str, ty: &'static str, otherwise: &'static str) -> &'static str {
    match (known, ty) {
        (known, ty) if known == ty => known,
        ("BIGINT", "DOUBLE") | ("DOUBLE", "BIGINT") => "DOUBLE",
        _ => otherwise,
    }
}

/// What can be a name in quotes.
fn is_name(name: &str) -> bool {
    name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn csv(texts: &[&str]) -> Option<Layout> {
    for (separator, written) in [(',', ","), (';', ";"), ('\t', "tab")] {
        let width = texts.first()?.split(separator).count();
        let has_width = |text: &&str| text.split(separator).count() == width;
        if width < 2 || !texts.iter().all(has_width) || texts.iter().any(|text| text.contains('"'))
        {
            continue;
        }
        let mut columns: Vec<(String, &'static str)> = Vec::new();
        for text in texts {
            for (index, field) in text.split(separator).enumerate() {
                let ty = match (field.parse::<i64>(), field.parse::<f64>()) {
                    (Ok(_), _) => "BIGINT",
                    (Err(_), Ok(_)) => "DOUBLE",
                    (Err(_), Err(_)) => "STRING",
                };
                match columns.get_mut(index) {
                    Some((_, known)) => *known = wider(known, ty, "STRING"),
                    None => columns.push((format!("c{}", index + 1), ty)),
                }
            }
        }
        let options = match separator {
            ',' => Vec::new(),
            _ => vec![("csv.delimiter", written.to_owned())],
        };
        return Some(Layout {
            format: "csv",
            options,
            columns,
        });
    }
    None
}

/// A definition to copy.
pub(super) fn definition(layout: &Layout, options: &[(&str, String)]) -> String {
    let columns = layout
        .columns
        .iter()
        .map(|(name, ty)| format!("\"{name}\" {ty}"));
    let columns: Vec<String> = columns.collect();
    let mut out = format!(
        "CREATE STREAM Readings ({}) WITH (\n  'type' = 'source', 'extension' = 'serial', \
         'format' = '{}'",
        columns.join(", "),
        layout.format
    );
    let own = layout.options.iter().map(|(name, value)| (*name, value));
    for (name, value) in options
        .iter()
        .map(|(name, value)| (*name, value))
        .chain(own)
    {
        let value = value.replace('\'', "''");
        let _ = write!(out, ",\n  '{name}' = '{value}'");
    }
    out.push_str(");");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_columns() {
        let table: &[(&str, &[&str], &str, &str)] = &[
            (
                "line",
                &[
                    "{\"a\":1,\"b\":\"x\"}",
                    "{\"a\":1.5,\"c\":null,\"d e\":1,\"f\":[1]}",
                ],
                "json",
                "a DOUBLE, b STRING, f JSON",
            ),
            (
                "line",
                &["1,2.5,x", "2,3,y"],
                "csv",
                "c1 BIGINT, c2 DOUBLE, c3 STRING",
            ),
            (
                "line",
                &["1;2", "2;3.0"],
                "csv csv.delimiter=;",
                "c1 BIGINT, c2 DOUBLE",
            ),
            ("line", &["1;2", "2;3;4"], "text", "line STRING"),
            ("line", &["21.5 C"], "text", "line STRING"),
            (
                "nmea",
                &["$X"],
                "nmea",
                "talker STRING, sentence STRING, latitude DOUBLE, longitude DOUBLE",
            ),
        ];
        for (framing, messages, format, columns) in table {
            let messages: Vec<Vec<u8>> = messages
                .iter()
                .map(|text| text.as_bytes().to_vec())
                .collect();
            let layout = layout(framing, &messages);
            let shown: Vec<String> = layout
                .columns
                .iter()
                .map(|(name, ty)| format!("{name} {ty}"))
                .collect();
            let mut found = layout.format.to_owned();
            for (name, value) in &layout.options {
                let _ = write!(found, " {name}={value}");
            }
            assert_eq!(
                (found.as_str(), shown.join(", ").as_str()),
                (*format, *columns)
            );
        }
        assert_eq!(layout("cobs", &[vec![0xff, 0]]).format, "raw");
    }
}
