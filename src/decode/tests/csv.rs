use super::{check, fault};

#[test]
fn lines_are_rows() {
    check(
        "csv",
        &[],
        "s STRING, i INT, d DOUBLE, b BOOLEAN, t TIMESTAMP, y BYTES, j JSON",
        &[
            (
                "a,1,2.5,true,7,AQI=,\"[1, 2]\"\r\n\n b , 2 ,1e3,OFF,,,\n",
                "{\"s\":\"a\",\"i\":1,\"d\":2.5,\"b\":true,\"t\":7,\"y\":\"AQI=\",\"j\":[1,2]}\n\
                 {\"s\":\" b \",\"i\":2,\"d\":1000.0,\"b\":false,\"t\":null,\"y\":null,\"j\":null}",
            ),
            // What is missing is NULL, what is too much is passed over.
            (
                "x",
                "{\"s\":\"x\",\"i\":null,\"d\":null,\"b\":null,\"t\":null,\"y\":null,\"j\":null}",
            ),
            (
                ",,,,,,,,",
                "{\"s\":null,\"i\":null,\"d\":null,\"b\":null,\"t\":null,\"y\":null,\"j\":null}",
            ),
            ("", "empty: no bytes"),
            ("\r\n\n", "empty: no bytes"),
            (
                "a,1\nb,x",
                "wrong_type: line 2: column `i` is INT, found text `x`",
            ),
            (
                "a,3000000000",
                "out_of_range: line 1: column `i` is INT, found text `3000000000`",
            ),
            (
                "a,1,inf",
                "wrong_type: line 1: column `d` is DOUBLE, found text `inf`",
            ),
            (
                "a,,,,,,{",
                "wrong_type: line 1: column `j` is JSON, found text `{`",
            ),
        ],
    );
    check(
        "csv",
        &[],
        "s STRING",
        &[(b"\xff", "invalid_utf8: not UTF-8 from byte 0 on")],
    );
}

#[test]
fn quotes() {
    check(
        "csv",
        &[],
        "a STRING, b STRING",
        &[
            (
                "\"x, y\",\"a \"\"b\"\" c\"",
                r#"{"a":"x, y","b":"a \"b\" c"}"#,
            ),
            ("\"\",", r#"{"a":"","b":null}"#),
            ("\"\"\"\",\"\"\"x\"", r#"{"a":"\"","b":"\"x"}"#),
            (
                "\"1\n2\",x\r\n3",
                "{\"a\":\"1\\n2\",\"b\":\"x\"}\n{\"a\":\"3\",\"b\":null}",
            ),
            ("x\"y,\"z\"\r\n", r#"{"a":"x\"y","b":"z"}"#),
            ("a\n\"b", "malformed: line 2: a quote that is not closed"),
            (
                "\"1\n\"x,2",
                "malformed: line 2: text behind a closing quote",
            ),
        ],
    );
    check(
        "csv",
        &[
            ("csv.quote", "'"),
            ("csv.delimiter", "tab"),
            ("csv.null", "-"),
        ],
        "a STRING, b STRING",
        &[
            ("'x\t''y'\t\"", r#"{"a":"x\t'y","b":"\""}"#),
            ("-\t'-'", r#"{"a":null,"b":"-"}"#),
        ],
    );
    check(
        "csv",
        &[("csv.quote", "none")],
        "a STRING",
        &[("\"x", r#"{"a":"\"x"}"#)],
    );
}

#[test]
fn headers_and_numbers() {
    check(
        "csv",
        &[("csv.header", "first"), ("csv.mapping.t", "Temp C")],
        "device STRING, t DOUBLE",
        &[
            (
                "\u{feff}Temp C,x, device ,Temp C\n1,2,3,4",
                r#"{"device":"3","t":4.0}"#,
            ),
            (
                "other\n1\n2",
                "{\"device\":null,\"t\":null}\n{\"device\":null,\"t\":null}",
            ),
            ("device,Temp C\r\n", ""),
        ],
    );
    check(
        "csv",
        &[
            ("csv.header", "first"),
            ("csv.unknown", "reject"),
            ("csv.missing", "reject"),
        ],
        "a INT, b INT",
        &[
            ("b,a\n1,2", r#"{"a":2,"b":1}"#),
            (
                "b,a,c\n1,2,3",
                "unknown_field: no column takes the field `c`",
            ),
            ("b,a\n1", "missing_field: line 2: no value for column `a`"),
            (
                "b,a\n1,2,3",
                "unknown_field: line 2: no column takes the field `3`",
            ),
        ],
    );
    check(
        "csv",
        &[("csv.mapping.a", "3"), ("csv.mapping.c", "3")],
        "a INT, b INT, c STRING",
        &[("1,2,3", r#"{"a":3,"b":2,"c":"3"}"#)],
    );
}

#[test]
fn rows_are_limited() {
    let many = "1\n".repeat(super::MESSAGE_ROWS_MAX + 1);
    check(
        "csv",
        &[],
        "a INT",
        &[(many, "too_large: more than 10000 rows in one message")],
    );
}

#[test]
fn options_that_cannot_be_used() {
    let table: [(&[(&str, &str)], &str); 6] = [
        (
            &[("csv.delimiter", ",,")],
            "csv.delimiter: `,,` is not one ASCII character",
        ),
        (
            &[("csv.delimiter", "ä")],
            "csv.delimiter: `ä` is not one ASCII character",
        ),
        (
            &[("csv.delimiter", "\"")],
            "csv.quote: `\"` also is the delimiter",
        ),
        (
            &[("csv.mapping.a", "x")],
            "csv.mapping.a: `x` is not the number of a field, from 1 to 1000; names need \
             'csv.header' = 'first'",
        ),
        (
            &[("csv.mapping.a", "0")],
            "csv.mapping.a: `0` is not the number of a field, from 1 to 1000; names need \
             'csv.header' = 'first'",
        ),
        (
            &[("csv.mapping.x", "1")],
            "csv.mapping.x: the stream has no column `x`",
        ),
    ];
    for (written, expected) in table {
        assert_eq!(fault("csv", written, "a INT"), expected);
    }
}
