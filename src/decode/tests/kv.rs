use super::{check, fault};

#[test]
fn pairs_fill_columns() {
    check(
        "kv",
        &[("kv.mapping.temp", "t")],
        "temp DOUBLE, state STRING, ok BOOLEAN",
        &[
            (
                "INFO t=21.5  state=\"on \\\"line\\\"\" ok\nok=no\tt=7 other=1",
                "{\"temp\":21.5,\"state\":\"on \\\"line\\\"\",\"ok\":true}\n\
                 {\"temp\":7.0,\"state\":null,\"ok\":false}",
            ),
            ("state=a=b", r#"{"temp":null,"state":"a=b","ok":null}"#),
            ("state=\"\" t=", r#"{"temp":null,"state":"","ok":null}"#),
            ("t=1 t=2", r#"{"temp":2.0,"state":null,"ok":null}"#),
            ("", "empty: no bytes"),
            (
                "t",
                "wrong_type: line 1: column `temp` is DOUBLE, found true",
            ),
            (
                "\nt=x",
                "wrong_type: line 2: column `temp` is DOUBLE, found text `x`",
            ),
            ("=1", "malformed: line 1: a value without a key"),
            ("state=\"x", "malformed: line 1: a quote that is not closed"),
            (
                "state=\"x\"y",
                "malformed: line 1: text behind a closing quote",
            ),
        ],
    );
}

#[test]
fn other_separators() {
    check(
        "kv",
        &[
            ("kv.separator", ";"),
            ("kv.assignment", ":"),
            ("kv.unknown", "reject"),
        ],
        "a INT, b STRING",
        &[
            ("a: 1 ;b:\"x;y\" ; ", r#"{"a":1,"b":"x;y"}"#),
            (";a:1;;b:two words", r#"{"a":1,"b":"two words"}"#),
            (
                "a:1;c:2",
                "unknown_field: line 1: no column takes the field `c`",
            ),
            (
                "a:1;c",
                "unknown_field: line 1: no column takes the field `c`",
            ),
        ],
    );
    check(
        "kv",
        &[("kv.missing", "reject")],
        "a INT, b INT",
        &[("a=1", "missing_field: line 1: no value for column `b`")],
    );
}

#[test]
fn options_that_cannot_be_used() {
    let table: [(&[(&str, &str)], &str); 3] = [
        (
            &[("kv.separator", "=")],
            "kv.assignment: it also stands between two pairs",
        ),
        (&[("kv.assignment", " ")], "kv.assignment: blanks are none"),
        (
            &[("kv.separator", "\"")],
            "kv.separator: a quote or a line break is none",
        ),
    ];
    for (written, expected) in table {
        assert_eq!(fault("kv", written, "a INT"), expected);
    }
}
