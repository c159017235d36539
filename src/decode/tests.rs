//! Tables: a format with its options, a payload, and the rows that it makes or why it makes none.

use std::path::Path;

use super::*;
use crate::config::{self, Expander, Property, StreamDefinition};
use crate::event::{Field, Type, render_json};

/// Options as they would be written.
type Written<'a> = &'a [(&'a str, &'a str)];

mod binary;
mod cbor;
mod csv;
mod json;
mod kv;
mod nmea;
mod plain;
mod regex;

/// `a INT, b STRING` as a schema.
fn schema(columns: &str) -> Schema {
    const TYPES: [Type; 9] = [
        Type::Bool,
        Type::Int,
        Type::Long,
        Type::Float,
        Type::Double,
        Type::String,
        Type::Timestamp,
        Type::Bytes,
        Type::Json,
    ];
    let field = |column: &str| {
        let (name, ty) = column.trim().split_once(' ').unwrap();
        let ty = TYPES.into_iter().find(|known| known.name() == ty).unwrap();
        Field {
            name: name.to_owned(),
            ty,
        }
    };
    Schema::new(columns.split(',').map(field).collect())
}

/// What would be written in a `WITH (…)`, checked as the daemon checks it.
fn options(format: &str, written: Written<'_>) -> Options {
    let specs = FORMATS.iter().find(|(name, _)| *name == format).unwrap().1;
    let property = |(name, value): &(&str, &str)| Property {
        name: (*name).to_owned(),
        value: value.replace('$', "$$"),
        place: Default::default(),
        value_place: Default::default(),
    };
    let properties: Vec<Property> = written.iter().map(property).collect();
    let nothing = |_: &str| None;
    let definition = StreamDefinition {
        name: "S",
        path: "test.sql",
        place: Default::default(),
        properties: &properties,
        specs: &[specs, &[COMPRESSION, DECODED_BYTES_MAX]],
    };
    config::resolve_alone(definition, &Expander::new(&nothing, Path::new(""))).unwrap()
}

/// The rows as JSON, one a line, or the reject.
fn shown(decoder: &mut Decoder, schema: &Schema, payload: &[u8]) -> String {
    let mut batch = Batch::new(schema.width());
    batch.push_null();
    let decoded = decoder.decode(payload, &mut batch);
    if let Err(reject) = decoded {
        assert_eq!(batch.len(), 1, "half a row of {payload:?}");
        return reject.to_string();
    }
    let mut out = Vec::new();
    for row in batch.rows().iter().skip(1) {
        if !out.is_empty() {
            out.push(b'\n');
        }
        let fields = schema.fields().iter().zip(row.values);
        fields.for_each(|(field, value)| assert!(field.ty.admits(value), "{field:?} {value:?}"));
        render_json(schema, row.values, &mut out);
    }
    String::from_utf8(out).unwrap()
}

/// Each payload makes these rows; every beginning of it makes rows or a reject.
fn check<P: AsRef<[u8]>>(format: &str, written: Written<'_>, columns: &str, table: &[(P, &str)]) {
    let schema = schema(columns);
    let options = options(format, written);
    let mut decoder = Decoder::new(format, &options, &schema, &[]).unwrap();
    for (payload, expected) in table {
        let payload = payload.as_ref();
        let found = shown(&mut decoder, &schema, payload);
        assert_eq!(
            found,
            *expected,
            "{format}: {}",
            String::from_utf8_lossy(payload)
        );
        for length in 0..payload.len().min(200) {
            shown(&mut decoder, &schema, &payload[..length]);
        }
    }
}

/// What is wrong with these options.
fn fault(format: &str, written: Written<'_>, columns: &str) -> String {
    let options = options(format, written);
    let fault = Decoder::new(format, &options, &schema(columns), &[]).unwrap_err();
    fault.to_string()
}

#[test]
fn every_format_works_with_what_is_built_in() {
    let table: [(&str, Written<'_>, &str); 9] = [
        ("json", &[], "{\"a\":\"x\"}"),
        ("cbor", &[], "\u{1}"),
        ("csv", &[], "x"),
        ("kv", &[], "a=x"),
        ("regex", &[("regex.pattern", "(?<a>.)")], "x"),
        ("binary", &[("binary.layout", "a char[1]")], "x"),
        ("nmea", &[("nmea.mapping.a", "1")], "$GPQQQ,x"),
        ("raw", &[], "x"),
        ("text", &[], "x"),
    ];
    assert_eq!(table.len(), FORMATS.len());
    for (format, written, payload) in table {
        let expected = match format {
            "cbor" => "wrong_type: expected an object or an array of objects, found a number",
            "raw" => "{\"a\":\"eA==\"}",
            _ => "{\"a\":\"x\"}",
        };
        let column = if format == "raw" {
            "a BYTES"
        } else {
            "a STRING"
        };
        check(format, written, column, &[(payload, expected)]);
    }
}

#[test]
fn unknown_formats_are_named() {
    let fault = Decoder::new("xml", &Options::default(), &schema("a INT"), &[]).unwrap_err();
    assert_eq!(fault.option, "format");
    assert!(
        fault
            .problem
            .starts_with("unknown format `xml`: use json, csv,")
    );
}

#[test]
fn payloads_are_unpacked_for_every_format() {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"1\n2\n").unwrap();
    let gzip = gzip.finish().unwrap();
    let auto = [("payload.compression", "auto")];
    let rows = "{\"a\":1}\n{\"a\":2}";
    check(
        "csv",
        &auto,
        "a INT",
        &[(gzip.as_slice(), rows), (b"1\n2", rows)],
    );
    let small = [
        ("payload.compression", "gzip"),
        ("payload.decoded_bytes_max", "3"),
    ];
    let reject = "too_large: more bytes when unpacked than payload.decoded_bytes_max, which is 3";
    check("csv", &small, "a INT", &[(gzip.as_slice(), reject)]);
}

#[test]
fn what_becomes_null_is_counted() {
    let table: [(&str, Written<'_>, &str, &[u8]); 5] = [
        ("json", &[], "a INT, b INT", b"{\"a\":\"x\",\"b\":1}"),
        ("cbor", &[], "a INT, b INT", b"\xa2\x61a\x61x\x61b\x01"),
        ("csv", &[], "a INT, b INT", b"x,1"),
        ("kv", &[], "a INT, b INT", b"a=x b=1"),
        (
            "regex",
            &[("regex.pattern", "(?<a>.),(?<b>.)")],
            "a INT, b INT",
            b"x,1",
        ),
    ];
    for (format, written, columns, payload) in table {
        let ignore = format!("{format}.ignore_parse_errors");
        let written = [written, &[(ignore.as_str(), "true")]].concat();
        let schema = schema(columns);
        let mut decoder = Decoder::new(format, &options(format, &written), &schema, &[]).unwrap();
        let found = shown(&mut decoder, &schema, payload);
        assert_eq!(found, "{\"a\":null,\"b\":1}", "{format}");
        assert_eq!(decoder.take_ignored(), 1, "{format}");
        assert_eq!(decoder.take_ignored(), 0, "{format}");
        // What is rejected for another reason has made no NULL.
        decoder.decode(b"\xff", &mut Batch::new(2)).unwrap_err();
        assert_eq!(decoder.take_ignored(), 0, "{format}");
    }
}

mod anything {
    use super::*;
    use proptest::prelude::*;

    /// Every format with options that reach most of it.
    const ALL: [(&str, Written<'_>); 9] = [
        (
            "json",
            &[
                ("json.root", "$.a.b"),
                ("json.mapping.s", "$.x"),
                ("json.numbers", "strings"),
            ],
        ),
        ("cbor", &[("cbor.root", "$.a"), ("cbor.mapping.s", "$.b")]),
        ("csv", &[("csv.header", "first")]),
        ("csv", &[("csv.delimiter", ";"), ("csv.null", "x")]),
        ("kv", &[]),
        ("kv", &[("kv.separator", ";"), ("kv.assignment", ":")]),
        (
            "regex",
            &[
                ("regex.pattern", "(?<s>.)(?<d>[0-9.]*)(?<j>.*)"),
                ("regex.no_match", "skip"),
            ],
        ),
        (
            "binary",
            &[(
                "binary.layout",
                "_ u8, (s char[2], d f32 , _ pad 1, j char[1])*",
            )],
        ),
        (
            "nmea",
            &[
                ("nmea.mapping.s", "1"),
                ("nmea.mapping.d", "latitude"),
                ("nmea.mapping.j", "3"),
            ],
        ),
    ];

    proptest! {
        #[test]
        fn is_rows_or_a_reject(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            text in r#"([{}\[\],:;=*$"' \n0-9a-z.]|a=|"a":|\{"b":|GPRMC,|\$GPGGA,){0,30}"#,
            strict in any::<bool>(),
        ) {
            for (format, written) in ALL {
                let columns = match format {
                    "binary" => "s STRING, d DOUBLE, j DOUBLE",
                    _ => "s STRING, d DOUBLE, j JSON",
                };
                let ignore = format!("{format}.ignore_parse_errors");
                let mut written = written.to_vec();
                if !strict {
                    written.push((&ignore, "true"));
                }
                let schema = schema(columns);
                let mut decoder =
                    Decoder::new(format, &options(format, &written), &schema, &[]).unwrap();
                shown(&mut decoder, &schema, &bytes);
                shown(&mut decoder, &schema, text.as_bytes());
            }
        }
    }
}
