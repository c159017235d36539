use crate::config::options::{Layer, OptionValue, Options};
use crate::decode::{Decoder, MESSAGE_ROWS_MAX, Reason, Reject};
use crate::event::{Batch, Field, Schema, Type, Value};

fn schema() -> Schema {
    let field = |name: &str, ty| Field {
        name: name.to_owned(),
        ty,
    };
    Schema::new(vec![
        field("s", Type::String),
        field("i", Type::Int),
        field("l", Type::Long),
        field("f", Type::Float),
        field("d", Type::Double),
        field("b", Type::Bool),
        field("t", Type::Timestamp),
        field("y", Type::Bytes),
        field("j", Type::Json),
    ])
}

fn decoder(options: &[(&str, &str)]) -> Decoder {
    let mut all = Options::default();
    for (name, value) in options {
        all.set(name, OptionValue::Text((*value).to_owned()), Layer::Sql);
    }
    Decoder::new("json", &all, &schema(), &[]).unwrap()
}

fn rows_of(decoder: &mut Decoder, payload: &[u8]) -> Result<Vec<Vec<Value>>, Reject> {
    let mut batch = Batch::new(9);
    batch.push_null();
    let result = decoder.decode(payload, &mut batch);
    let rows = batch
        .rows()
        .iter()
        .skip(1)
        .map(|row| row.values.to_vec())
        .collect::<Vec<_>>();
    if result.is_err() {
        assert!(
            rows.is_empty(),
            "half a row of {}",
            String::from_utf8_lossy(payload)
        );
    }
    result.map(|()| rows)
}

/// The value of one column in `{"<column>":<text>}`.
fn cell(column: &str, text: &str) -> Result<Value, Reason> {
    let payload = format!("{{\"{column}\":{text}}}");
    let rows = rows_of(&mut decoder(&[]), payload.as_bytes()).map_err(|reject| reject.reason)?;
    let index = schema().index_of(column).unwrap();
    Ok(rows[0][index].clone())
}

#[test]
fn values_by_type() {
    use Reason::{OutOfRange, WrongType};
    let table: &[(&str, &str, Result<Value, Reason>)] = &[
        ("s", r#""a""#, Ok(Value::text("a"))),
        (
            "s",
            r#""a\u00e9\ud83d\ude00\n""#,
            Ok(Value::text("aé\u{1F600}\n")),
        ),
        ("s", "1", Err(WrongType)),
        ("s", "{}", Err(WrongType)),
        ("s", "null", Ok(Value::Null)),
        ("y", "\"AQL/\"", Ok(Value::from([1, 2, 255].as_slice()))),
        ("y", "\"AQI=\"", Ok(Value::from([1, 2].as_slice()))),
        ("y", "\"\"", Ok(Value::from([].as_slice()))),
        ("y", "\"A!\"", Err(WrongType)),
        ("y", "1", Err(WrongType)),
        ("j", " null ", Ok(Value::Null)),
        ("j", "\"a\"", Ok(Value::text("\"a\""))),
        ("j", "1.0", Ok(Value::text("1"))),
        (
            "j",
            "[ 1, {\"b\":2, \"a\":null} ]",
            Ok(Value::text("[1,{\"a\":null,\"b\":2}]")),
        ),
        ("j", "[1e400]", Err(OutOfRange)),
        ("j", "[1,]", Err(Reason::Malformed)),
        ("i", "2147483647", Ok(Value::Int(2_147_483_647))),
        ("i", "2147483648", Err(OutOfRange)),
        ("i", "-2147483649", Err(OutOfRange)),
        ("i", "7.0", Ok(Value::Int(7))),
        ("i", "1e3", Ok(Value::Int(1_000))),
        ("i", "7.5", Err(WrongType)),
        ("i", r#""7""#, Err(WrongType)),
        ("i", "true", Err(WrongType)),
        ("l", "9223372036854775807", Ok(Value::Int(i64::MAX))),
        ("l", "-9223372036854775808", Ok(Value::Int(i64::MIN))),
        ("l", "9223372036854775808", Err(OutOfRange)),
        ("l", "99999999999999999999999", Err(OutOfRange)),
        ("l", "-99999999999999999999999", Err(OutOfRange)),
        ("l", "9007199254740994.0", Err(OutOfRange)),
        ("l", "[1]", Err(WrongType)),
        ("f", "1", Ok(Value::Float(1.0))),
        ("f", "1e39", Err(OutOfRange)),
        ("d", "1", Ok(Value::Float(1.0))),
        (
            "d",
            "18446744073709551615",
            Ok(Value::Float(18_446_744_073_709_551_615.0)),
        ),
        ("d", "0.1", Ok(Value::Float(0.1))),
        ("d", "-1.7976931348623157e308", Ok(Value::Float(f64::MIN))),
        ("d", "1e999", Err(OutOfRange)),
        ("d", "-1e999", Err(OutOfRange)),
        ("d", "5e-400", Ok(Value::Float(0.0))),
        ("d", "false", Err(WrongType)),
        ("b", "true", Ok(Value::Bool(true))),
        ("b", "1", Err(WrongType)),
        ("t", "1700000000000", Ok(Value::Int(1_700_000_000_000))),
        ("t", r#""2026-01-01""#, Err(WrongType)),
    ];
    for (column, text, expected) in table {
        assert_eq!(&cell(column, text), expected, "{column} = {text}");
    }
}

#[test]
fn bad_messages() {
    use Reason::{Empty, InvalidUtf8, Malformed, OutOfRange, WrongType};
    let deep_list = format!("{{\"i\":1,\"x\":{}", "[".repeat(100_000));
    let deep = format!(
        "{{\"x\":{}{},\"i\":1}}",
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    let table: &[(&[u8], Reason)] = &[
        (b"", Empty),
        (b" \n", Empty),
        (b"{", Malformed),
        (b"{\"i\":1", Malformed),
        (b"{\"i\":1,}", Malformed),
        (b"{\"i\":01}", Malformed),
        (b"{\"i\":nan}", Malformed),
        (b"{\"i\":1}x", Malformed),
        (b"{\"i\":1}{\"i\":2}", Malformed),
        (b"{'i':1}", Malformed),
        (b"{\"s\":\"\x01\"}", Malformed),
        (b"{\"s\":\"\\ud800\"}", Malformed),
        (b"\xEF\xBB\xBF{\"i\":1}", Malformed),
        (b"{\"s\":\"\xFF\"}", InvalidUtf8),
        (b"{\"unknown\":\"\xFF\"}", InvalidUtf8),
        (b"\xFF", InvalidUtf8),
        (b"1", WrongType),
        (b"\"text\"", WrongType),
        (b"null", WrongType),
        (b"true", WrongType),
        (b"[1]", WrongType),
        (b"[[]]", WrongType),
        (b"[{\"i\":1},{\"i\":\"x\"}]", WrongType),
        (b"[{\"i\":1},{\"d\":\n1e999 }]", OutOfRange),
        (b"[{\"i\":1}", Malformed),
        (deep_list.as_bytes(), Malformed),
    ];
    for (payload, reason) in table {
        let reject = rows_of(&mut decoder(&[]), payload).unwrap_err();
        let shown = String::from_utf8_lossy(&payload[..payload.len().min(60)]).into_owned();
        assert_eq!(reject.reason, *reason, "{shown}: {reject}");
    }
    // Depth alone is no fault where nobody looks.
    assert_eq!(
        rows_of(&mut decoder(&[]), deep.as_bytes()).unwrap()[0][1],
        Value::Int(1)
    );
}

#[test]
fn arrays_duplicates_and_order() {
    let mut decoder = decoder(&[]);
    let payload = br#" [{"i":1,"s":"x"},{}, {"s":"y","i":3,"i":4,"zz":[{"i":9}]}] "#;
    let rows = rows_of(&mut decoder, payload).unwrap();
    let column = |index: usize| {
        rows.iter()
            .map(|row| row[index].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(column(1), [Value::Int(1), Value::Null, Value::Int(4)]);
    assert_eq!(column(0), [Value::text("x"), Value::Null, Value::text("y")]);
    assert_eq!(rows_of(&mut decoder, b"[]").unwrap().len(), 0);
    let many = format!("[{}]", vec!["{}"; MESSAGE_ROWS_MAX + 1].join(","));
    let reject = rows_of(&mut decoder, many.as_bytes()).unwrap_err();
    assert_eq!(reject.reason, Reason::TooLarge);
}

#[test]
fn paths_missing_and_unknown() {
    let mut mapped = decoder(&[
        ("json.mapping.i", "$.v[1].i"),
        ("json.mapping.d", "$.v[0]"),
        ("json.mapping.l", "$.v[1].i"),
        ("json.mapping.s", "$['a name'].s"),
    ]);
    let payload = br#"{"a name":{"q":0,"s":"x"},"v":[1.5,{"i":7,"j":[1]},3],"i":"ignored"}"#;
    let all = rows_of(&mut mapped, payload).unwrap();
    assert_eq!(
        all[0][0..3],
        [Value::text("x"), Value::Int(7), Value::Int(7)]
    );
    assert_eq!(all[0][4], Value::Float(1.5));
    // A scalar where an object was expected holds nothing.
    assert_eq!(
        rows_of(&mut mapped, br#"{"v":3}"#).unwrap()[0][1],
        Value::Null
    );

    let mut strict = decoder(&[("json.missing", "reject"), ("json.unknown", "reject")]);
    let whole = br#"{"s":null,"i":1,"l":1,"f":1,"d":1,"b":true,"t":1,"y":"","j":{}}"#;
    assert!(rows_of(&mut strict, whole).is_ok());
    let reject = rows_of(
        &mut strict,
        br#"{"s":"","i":1,"l":1,"f":1,"d":1,"b":true,"y":"","j":1}"#,
    )
    .unwrap_err();
    assert_eq!(reject.to_string(), "missing_field: no value for column `t`");
    let reject = rows_of(&mut strict, br#"{"x":1}"#).unwrap_err();
    assert_eq!(
        reject.to_string(),
        "unknown_field: no column takes the field `x`"
    );
}

#[test]
fn a_json_column_takes_a_whole_that_others_take_parts_of() {
    let mut mapped = decoder(&[
        ("json.mapping.j", "$.v"),
        ("json.mapping.d", "$.v.t"),
        ("json.mapping.y", "$.v.raw[1]"),
    ]);
    let payload = br#"{"v": {"t": 1.5, "raw": [0, "AQI="]}}"#;
    let all = rows_of(&mut mapped, payload).unwrap();
    assert_eq!(all[0][4], Value::Float(1.5));
    assert_eq!(all[0][7], Value::from([1, 2].as_slice()));
    assert_eq!(all[0][8], Value::text("{\"raw\":[0,\"AQI=\"],\"t\":1.5}"));
    let deep = format!("{{\"v\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let reject = rows_of(&mut mapped, deep.as_bytes()).unwrap_err();
    assert_eq!(reject.reason, Reason::Malformed);
    let reject = rows_of(&mut mapped, br#"{"v":{"t":"x"}}"#).unwrap_err();
    assert_eq!(
        reject.to_string(),
        "wrong_type: column `d` is DOUBLE, found text `x`"
    );
}

#[test]
fn a_fault_names_the_column() {
    let reject = rows_of(&mut decoder(&[]), br#"{"y":"?"}"#).unwrap_err();
    assert_eq!(
        reject.to_string(),
        "wrong_type: column `y` is BYTES, found text that is not Base64"
    );
    let reject = rows_of(&mut decoder(&[]), br#"{"i":"x"}"#).unwrap_err();
    assert_eq!(
        reject.to_string(),
        "wrong_type: column `i` is INT, found text `x`"
    );
}

#[test]
fn a_column_of_the_connector_takes_no_field() {
    let mut decoder = Decoder::new("json", &Options::default(), &schema(), &[0]).unwrap();
    let mut batch = Batch::new(9);
    decoder.decode(br#"{"s":5,"i":1}"#, &mut batch).unwrap();
    assert_eq!(batch.row(0).unwrap().values[0], Value::Null);
}

#[test]
fn options_are_checked() {
    for (name, value) in [("json.mapping.nope", "$.a"), ("json.mapping.i", "a")] {
        let mut options = Options::default();
        options.set(name, OptionValue::Text(value.to_owned()), Layer::Sql);
        assert_eq!(
            Decoder::new("json", &options, &schema(), &[])
                .unwrap_err()
                .option,
            name
        );
    }
}

mod anything {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_rows_or_a_reject(
            payload in prop::collection::vec(any::<u8>(), 0..64),
            text in concat!(
                r#"(\{|\}|\[|\]|"[a-z]"|:|,|-?[0-9]{1,20}|1e[0-9]{1,4}"#,
                r"|null|true|\\u[0-9a-f]{4}| ){0,40}"
            ),
        ) {
            let mut decoder = decoder(&[("json.mapping.s", "$.a[0].b")]);
            let _ = rows_of(&mut decoder, &payload);
            let _ = rows_of(&mut decoder, text.as_bytes());
        }
    }
}
