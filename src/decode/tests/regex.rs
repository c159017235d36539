use super::{check, fault};

#[test]
fn groups_fill_columns() {
    let pattern = (
        "regex.pattern",
        r"^(?<id>\w+): *(?<temp>-?[\d.]+)( (?<unit>[CF]))?$",
    );
    let columns = "id STRING, temp DOUBLE, unit STRING";
    check(
        "regex",
        &[pattern],
        columns,
        &[
            (
                "a: 21.5 C\r\n\nb:-7\n",
                "{\"id\":\"a\",\"temp\":21.5,\"unit\":\"C\"}\n\
                 {\"id\":\"b\",\"temp\":-7.0,\"unit\":null}",
            ),
            (
                "a: 1\nnonsense",
                "malformed: line 2: the expression does not match",
            ),
            (
                "a: 1.2.3",
                "wrong_type: line 1: column `temp` is DOUBLE, found text `1.2.3`",
            ),
            ("", "empty: no bytes"),
        ],
    );
    check(
        "regex",
        &[pattern, ("regex.no_match", "skip")],
        columns,
        &[
            ("# log\nb:-7\n", r#"{"id":"b","temp":-7.0,"unit":null}"#),
            ("# log", ""),
        ],
    );
    check(
        "regex",
        &[
            ("regex.pattern", r"(?s)T=(?<t>\d+).*H=(?<h>\d+)"),
            ("regex.rows", "message"),
        ],
        "t INT, h INT",
        &[("x\nT=1\nH=2", r#"{"t":1,"h":2}"#)],
    );
    let long = "x".repeat(20_000);
    check(
        "regex",
        &[("regex.pattern", "(?<a>x)")],
        "a STRING",
        &[(
            long,
            "too_large: line 1: 20000 bytes; an expression is given 16384",
        )],
    );
}

#[test]
fn options_that_cannot_be_used() {
    let table = [
        ("(?<a>", "regex.pattern: not an expression: "),
        (
            "(?<x>.)",
            "regex.pattern: group `x` is no column to be filled: these are a, b",
        ),
        (
            "(?<a>.)",
            "regex.pattern: no group fills the column `b`: write (?<b>…)",
        ),
        (
            r"(?<a>\w{60}{60}{60})(?<b>.)",
            "regex.pattern: not an expression: ",
        ),
    ];
    for (pattern, expected) in table {
        let fault = fault("regex", &[("regex.pattern", pattern)], "a STRING, b INT");
        assert!(fault.starts_with(expected), "{fault}");
    }
}
