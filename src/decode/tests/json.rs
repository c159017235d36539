use super::{check, fault};

#[test]
fn several_documents_are_lines() {
    check(
        "json",
        &[],
        "a INT",
        &[
            ("{\"a\":1}\n{\"a\":2}\n", "{\"a\":1}\n{\"a\":2}"),
            (
                "\n {\"a\":1} \r\n\n\t[{\"a\":2},{\"a\":3}] ",
                "{\"a\":1}\n{\"a\":2}\n{\"a\":3}",
            ),
            (
                "{\n\"a\":\n1}\n{\"a\":\"é\"}",
                "wrong_type: column `a` is INT, found text `é`",
            ),
            (
                "{\"a\":1} {\"a\":2}",
                "malformed: not JSON: trailing characters at line 1 column 9",
            ),
            (
                "{\"a\":1}\né",
                "malformed: not JSON: expected value at line 1 column 1",
            ),
            (
                "{\"a\":1}\n{\"a\":2",
                "malformed: not JSON: EOF while parsing an object at line 1 column 6",
            ),
            (
                "{\"a\":1}\nnull",
                "wrong_type: expected an object or an array of objects, found null",
            ),
        ],
    );
}

const ROOT: [(&str, &str); 4] = [
    ("json.root", "$.data.readings"),
    ("json.mapping.device", "$.device"),
    ("json.mapping.t", "@.v[0]"),
    ("json.mapping.at", "$.data.at"),
];

#[test]
fn rows_below_a_root() {
    check(
        "json",
        &ROOT,
        "device STRING, t DOUBLE, unit STRING, at INT",
        &[
            (
                r#"{"data":{"readings":[{"v":[1]},{"v":[2.5],"unit":"K"}],"at":7},"device":"d"}"#,
                "{\"device\":\"d\",\"t\":1.0,\"unit\":null,\"at\":7}\n\
                 {\"device\":\"d\",\"t\":2.5,\"unit\":\"K\",\"at\":7}",
            ),
            // One object is one row; each document has its own surroundings.
            (
                "{\"device\":\"a\",\"data\":{\"readings\":{\"v\":[1]}}}\n\
                 {\"data\":{\"readings\":[{}]}}",
                "{\"device\":\"a\",\"t\":1.0,\"unit\":null,\"at\":null}\n\
                 {\"device\":null,\"t\":null,\"unit\":null,\"at\":null}",
            ),
            // Of two places with one name the last counts.
            (
                r#"{"data":{"readings":[{"v":[1]},{"v":[1]}],"readings":[{"v":[2]}]}}"#,
                r#"{"device":null,"t":2.0,"unit":null,"at":null}"#,
            ),
            (r#"{"device":"d"}"#, ""),
            (r#"{"data":{"readings":null}}"#, ""),
            (r#"{"data":{"readings":[]}}"#, ""),
            (
                r#"{"data":{"readings":[1]}}"#,
                "wrong_type: expected an object or an array of objects, found a number",
            ),
            (
                r#"{"data":{"readings":"x"}}"#,
                "wrong_type: expected an object or an array of objects, found a plain value",
            ),
            (
                r#"{"data":{"readings":[[]]}}"#,
                "wrong_type: expected an object or an array of objects, found an array in an array",
            ),
        ],
    );
}

#[test]
fn what_must_be_there_around_rows_and_in_them() {
    let strict = [
        ROOT.as_slice(),
        &[("json.missing", "reject"), ("json.unknown", "reject")],
    ];
    check(
        "json",
        &strict.concat(),
        "device STRING, t DOUBLE, unit STRING, at INT",
        &[
            (
                r#"{"x":1,"data":{"readings":[{"v":[1],"unit":""}],"at":7},"device":"d"}"#,
                r#"{"device":"d","t":1.0,"unit":"","at":7}"#,
            ),
            (
                r#"{"data":{"readings":[{"v":[1],"unit":"","x":1}]}}"#,
                "unknown_field: no column takes the field `x`",
            ),
            (
                r#"{"data":{"readings":[{"v":[1]}]}}"#,
                "missing_field: no value for column `unit`",
            ),
            (
                r#"{"data":{"readings":[{"v":[1],"unit":""}],"at":7}}"#,
                "missing_field: no value for column `device`",
            ),
            (
                r#"{"device":"d"}"#,
                "missing_field: nothing lies at `$.data.readings`",
            ),
        ],
    );
}

#[test]
fn a_json_column_takes_what_is_around_the_rows() {
    check(
        "json",
        &[("json.root", "$.d.r"), ("json.mapping.j", "$.d")],
        "a INT, j JSON",
        &[(
            r#"{"d":{"r":[{"a":1}],"n":2}}"#,
            r#"{"a":1,"j":{"n":2,"r":[{"a":1}]}}"#,
        )],
    );
}

#[test]
fn times_as_they_are_written() {
    let written = [
        ("json.timestamp.format", "iso8601"),
        ("json.timestamp.format.s", "s"),
        ("json.timestamp.format.p", "%d.%m.%Y %H:%M"),
        ("json.timestamp.format.m", "ms"),
    ];
    check(
        "json",
        &written,
        "i TIMESTAMP, s TIMESTAMP, p TIMESTAMP, m TIMESTAMP",
        &[
            (
                r#"{"i":"1970-01-01T00:00:01.5Z","s":1.25,"p":"02.01.1970 00:00","m":7}"#,
                r#"{"i":1500,"s":1250,"p":86400000,"m":7}"#,
            ),
            (
                r#"{"i":1}"#,
                "wrong_type: column `i` is TIMESTAMP written as iso8601, found 1",
            ),
            (
                r#"{"s":9223372036854775807}"#,
                "out_of_range: column `s` is TIMESTAMP written as s, found 9223372036854775807",
            ),
            (
                r#"{"s":"1"}"#,
                "wrong_type: column `s` is TIMESTAMP written as s, found text `1`",
            ),
            (
                r#"{"m":"1"}"#,
                "wrong_type: column `m` is TIMESTAMP, found text `1`",
            ),
            (
                r#"{"p":"tomorrow"}"#,
                "wrong_type: column `p` is TIMESTAMP written as %d.%m.%Y %H:%M, found text \
                 `tomorrow`",
            ),
        ],
    );
}

#[test]
fn numbers_in_text_and_bytes_in_hexadecimal() {
    check(
        "json",
        &[
            ("json.numbers", "strings"),
            ("json.bytes", "hex"),
            ("json.timestamp.format", "s"),
        ],
        "i INT, d DOUBLE, b BOOLEAN, s STRING, y BYTES, t TIMESTAMP",
        &[
            (
                r#"{"i":" 7 ","d":"1e3","b":"on","s":12.50,"y":"00fF","t":"2"}"#,
                r#"{"i":7,"d":1000.0,"b":true,"s":"12.5","y":"AP8=","t":2000}"#,
            ),
            (
                r#"{"s":18446744073709551615}"#,
                r#"{"i":null,"d":null,"b":null,"s":"18446744073709551615","y":null,"t":null}"#,
            ),
            (
                r#"{"s":true}"#,
                r#"{"i":null,"d":null,"b":null,"s":"true","y":null,"t":null}"#,
            ),
            (
                r#"{"i":"7.5"}"#,
                "wrong_type: column `i` is INT, found text `7.5`",
            ),
            (
                r#"{"i":"3000000000"}"#,
                "out_of_range: column `i` is INT, found text `3000000000`",
            ),
            (
                r#"{"d":"nan"}"#,
                "wrong_type: column `d` is DOUBLE, found text `nan`",
            ),
            (
                r#"{"d":"1e999"}"#,
                "out_of_range: column `d` is DOUBLE, found text `1e999`",
            ),
            (
                r#"{"b":"maybe"}"#,
                "wrong_type: column `b` is BOOLEAN, found text `maybe`",
            ),
            (
                r#"{"y":"0"}"#,
                "wrong_type: column `y` is BYTES, found text that is not hexadecimal",
            ),
        ],
    );
}

#[test]
fn bad_values_become_null_on_request() {
    check(
        "json",
        &[
            ("json.ignore_parse_errors", "true"),
            ("json.mapping.j", "$.o"),
        ],
        "i INT, d DOUBLE, j JSON",
        &[
            (
                r#"{"i":"x","d":{"a":[1]},"o":[1]}"#,
                r#"{"i":null,"d":null,"j":[1]}"#,
            ),
            (r#"{"i":1,"i":"x"}"#, r#"{"i":null,"d":null,"j":null}"#),
            (
                r#"{"i":"#,
                "malformed: not JSON: EOF while parsing a value at line 1 column 5",
            ),
        ],
    );
}

#[test]
fn options_that_cannot_be_used() {
    let table: [(&[(&str, &str)], &str); 8] = [
        (
            &[("json.mapping.x", "$.a")],
            "json.mapping.x: the stream has no column `x`",
        ),
        (
            &[("json.mapping.a", "a")],
            "json.mapping.a: `a` does not begin with `$`",
        ),
        (
            &[("json.root", "@.a")],
            "json.root: `@.a` does not begin with `$`",
        ),
        (
            &[("json.root", "$[0]")],
            "json.root: `$[0]` names no field: an event is an object",
        ),
        (
            &[("json.root", "$.r"), ("json.mapping.a", "$.r[0].a")],
            "json.mapping.a: lies inside of `json.root`, where the rows are: count from the row, \
             as `@.a`",
        ),
        (
            &[("json.timestamp.format", "minutes")],
            "json.timestamp.format: 'minutes' is not a format; there are ms, s, us, ns, iso8601 \
             and patterns such as '%Y-%m-%d %H:%M:%S'",
        ),
        (
            &[("json.timestamp.format.a", "s")],
            "json.timestamp.format.a: column `a` is INT, no TIMESTAMP",
        ),
        (
            &[("json.timestamp.format.x", "s")],
            "json.timestamp.format.x: the stream has no column `x`",
        ),
    ];
    for (written, expected) in table {
        assert_eq!(fault("json", written, "a INT"), expected);
    }
}
