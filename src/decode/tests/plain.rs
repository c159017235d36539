use super::{Decoder, check, fault, options, schema, shown};
use crate::config::options::Options;

#[test]
fn payloads_as_they_are() {
    check(
        "raw",
        &[],
        "p BYTES",
        &[
            (b"\x00\xff".as_slice(), r#"{"p":"AP8="}"#),
            (b"", r#"{"p":""}"#),
        ],
    );
    check(
        "text",
        &[],
        "p STRING",
        &[
            (b"a\r\nb".as_slice(), "{\"p\":\"a\\r\\nb\"}"),
            (b"", r#"{"p":""}"#),
            (b"\xff", "invalid_utf8: not UTF-8 from byte 0 on"),
        ],
    );
    check(
        "text",
        &[("text.rows", "lines")],
        "p STRING",
        &[
            ("a\r\n\n b \n", "{\"p\":\"a\"}\n{\"p\":\" b \"}"),
            ("\n", ""),
        ],
    );
}

#[test]
fn the_columns_of_the_connector_do_not_count() {
    let schema = schema("topic STRING, p BYTES");
    let mut decoder = Decoder::new("raw", &Options::default(), &schema, &[0]).unwrap();
    assert_eq!(
        shown(&mut decoder, &schema, b"a"),
        r#"{"topic":null,"p":"YQ=="}"#
    );
    let fault = Decoder::new("raw", &options("raw", &[]), &schema, &[0, 1]).unwrap_err();
    let expected = "format: `raw` fills one BYTES column, but the stream has no column for it";
    assert_eq!(fault.to_string(), expected);
}

#[test]
fn there_is_one_column() {
    let table = [
        (
            "raw",
            "a STRING",
            "format: `raw` fills one BYTES column, but column `a` is STRING",
        ),
        (
            "text",
            "a STRING, b INT",
            "format: `text` fills one STRING column, but the stream has the columns `a`, `b`",
        ),
    ];
    for (format, columns, expected) in table {
        assert_eq!(fault(format, &[], columns), expected);
    }
}
