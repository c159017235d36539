use super::{check, fault};

#[test]
fn a_layout_is_a_row() {
    let layout = "device u8, temp i16be *0.1 - 40 null 0x8000 \"°C\", flags u8 \
                  {alarm: 0, mode: 1..3}, \
                  _ pad 2, v f32le, name char[4]";
    check(
        "binary",
        &[("binary.layout", layout)],
        "device INT, temp DOUBLE, alarm BOOLEAN, mode INT, v DOUBLE, name STRING",
        &[
            (
                b"\x07\x00\xd9\x0b\xff\xff\x00\x00\x80\x3fab\0x".as_slice(),
                r#"{"device":7,"temp":-18.3,"alarm":true,"mode":5,"v":1.0,"name":"ab"}"#,
            ),
            (
                b"\x07\x80\x00\x00\xff\xff\x00\x00\xc0\x7fabc ",
                r#"{"device":7,"temp":null,"alarm":false,"mode":0,"v":null,"name":"abc"}"#,
            ),
            (
                b"\x07\xff\xff\x00\xff\xff\x00\x00\x80\x3f\xff\xff\xff\xff",
                "invalid_utf8: field `name` is text that is not UTF-8",
            ),
            (
                b"\x07\x00",
                "malformed: field `temp` needs 2 bytes from byte 1 on, there are 1",
            ),
            (
                b"\x07\x00\xd9\x0b\xff\xff\x00\x00\x80\x3fab\0xyz",
                "malformed: 2 bytes more than the layout has",
            ),
            (b"", "empty: no bytes"),
        ],
    );
    check(
        "binary",
        &[("binary.layout", "a u8"), ("binary.trailing", "ignore")],
        "a INT",
        &[(b"\x01\x02", r#"{"a":1}"#)],
    );
}

const NUMBERS: &[(&str, &[u8], &str)] = &[
    ("a u16, b i16", b"\xff\xfe\xff\xfe", r#"{"a":65534,"b":-2}"#),
    (
        "a u16le, b i16le",
        b"\xfe\xff\xfe\xff",
        r#"{"a":65534,"b":-2}"#,
    ),
    (
        "a u24, b i24",
        b"\xff\xff\xfe\xff\xff\xfe",
        r#"{"a":16777214,"b":-2}"#,
    ),
    (
        "a u24le, b i24le",
        b"\xfe\xff\xff\xfe\xff\xff",
        r#"{"a":16777214,"b":-2}"#,
    ),
    (
        "a u32, b i32",
        b"\xff\xff\xff\xfe\xff\xff\xff\xfe",
        r#"{"a":4294967294,"b":-2}"#,
    ),
    (
        "a u48, b i48",
        b"\0\0\0\0\0\x01\xff\xff\xff\xff\xff\xfe",
        r#"{"a":1,"b":-2}"#,
    ),
    (
        "a u64, b i64",
        b"\0\0\0\0\0\0\0\x01\xff\xff\xff\xff\xff\xff\xff\xfe",
        r#"{"a":1,"b":-2}"#,
    ),
    (
        "a u64, _ u8 {b: 0..7}",
        b"\x80\0\0\0\0\0\0\0\xff",
        "out_of_range: column `a` is BIGINT, found 9223372036854775808",
    ),
    ("a u8 *2 +1, b u8 *10", b"\xff\x0a", r#"{"a":511,"b":100}"#),
    (
        "a u64 {b: 63}",
        b"\x80\0\0\0\0\0\0\0",
        "out_of_range: column `a` is BIGINT, found 9223372036854775808",
    ),
];

#[test]
fn every_type() {
    let columns = "a BIGINT, b BIGINT";
    for (layout, payload, expected) in NUMBERS {
        check(
            "binary",
            &[("binary.layout", layout)],
            columns,
            &[(*payload, *expected)],
        );
    }
    check(
        "binary",
        &[
            (
                "binary.layout",
                "d f64, f f32, t u32, on bool, raw bytes[2], n char[4], s char[*]",
            ),
            ("binary.endian", "little"),
            ("binary.timestamp.format", "s"),
        ],
        "d DOUBLE, f FLOAT, t TIMESTAMP, on BOOLEAN, raw BYTES, n INT, s STRING",
        &[(
            b"\0\0\0\0\0\0\xf0\x3f\0\0\0\x40\x02\0\0\0\x01\x00\xff  12rest".as_slice(),
            r#"{"d":1.0,"f":2.0,"t":2000,"on":true,"raw":"AP8=","n":12,"s":"rest"}"#,
        )],
    );
}

#[test]
fn groups_are_rows() {
    let layout = [("binary.layout", "id u8, n u8, (t i8 /10, _ u8)*")];
    let columns = "id INT, n INT, t DOUBLE";
    check(
        "binary",
        &layout,
        columns,
        &[
            (
                b"\x07\x02\x0f\x00\xff\x00".as_slice(),
                "{\"id\":7,\"n\":2,\"t\":1.5}\n{\"id\":7,\"n\":2,\"t\":-0.1}",
            ),
            (b"\x07\x00", ""),
            (
                b"\x07\x02\x0f\x00\xff",
                "malformed: field `_` needs 1 bytes from byte 5 on, there are 0",
            ),
        ],
    );
    check(
        "binary",
        &[layout.as_slice(), &[("binary.trailing", "ignore")]].concat(),
        columns,
        &[(b"\x07\x02\x0f\x00\xff", "{\"id\":7,\"n\":2,\"t\":1.5}")],
    );
    let many = vec![0; super::MESSAGE_ROWS_MAX + 1];
    check(
        "binary",
        &[("binary.layout", "(a u8)*")],
        "a INT",
        &[(many, "too_large: more than 10000 rows in one message")],
    );
}

const FAULTS: &[(&str, &str)] = &[
    ("", "expected the name of a field before the end"),
    ("a", "field `a`: expected a type before the end"),
    ("a u8,", "expected the name of a field before the end"),
    ("a u7", "field `a`: `u7` is no type: there are u8, u16,"),
    ("a u8 b", "expected a comma before `b`"),
    (
        "c u8",
        "field `c` is no column to be filled: these are a, b; what is not wanted is called `_`",
    ),
    ("a u8, a u8", "field `a` is there twice"),
    ("a u8", "no field is called like the column `b`"),
    (
        "a u32, b char[1]",
        "field `a`: it can be 4294967295 and fits BIGINT or DOUBLE, its column is INT",
    ),
    (
        "a u8 *0.1",
        "field `a`: with its factor it fits FLOAT or DOUBLE, its column is INT",
    ),
    (
        "a f32",
        "field `a`: a float fits FLOAT or DOUBLE, its column is INT",
    ),
    (
        "a bytes[2]",
        "field `a`: `bytes` fits BYTES, its column is INT",
    ),
    (
        "b u8",
        "field `b`: an integer fits numbers, BOOLEAN and TIMESTAMP, its column is STRING",
    ),
    (
        "b bool",
        "field `b`: `bool` fits BOOLEAN, its column is STRING",
    ),
    (
        "b char",
        "field `b`: a length is missing, such as [8], or [*] for the rest",
    ),
    ("b char[0]", "field `b`: [0] is no length from 1 to 65536"),
    (
        "b char[*], a u8",
        "field `b` takes the rest and must be the last",
    ),
    (
        "a u8, (b char[*])*",
        "what takes the rest cannot be repeated",
    ),
    (
        "a u8, (b char[1])",
        "expected `*` behind `)`: what is in it is repeated to the end",
    ),
    ("a u8, (b char[1]", "expected `)` before the end"),
    ("a u8, ((b char[1])*)*", "a group in a group"),
    (
        "a u8, (b char[1])*, _ u8",
        "expected a comma before `, _ u8`",
    ),
    (
        "a pad 2",
        "field `a`: `pad` is nothing to name: write `_ pad n`",
    ),
    ("_ pad x", "field `_`: `pad` needs a length, 1 to 65536"),
    ("a u8 /0", "field `a`: a division by 0"),
    ("a u8 *x", "field `a`: `x` is not a number"),
    (
        "b char[2] *2",
        "field `b`: only a number can have a factor or an offset",
    ),
    ("a u8 null 256", "field `a`: it is never 256"),
    (
        "a i8 null 0x80, b char[1] null 1",
        "field `b`: only an integer can have `null` or bits",
    ),
    ("a u8 \"C", "field `a`: a unit without its closing `\"`"),
    ("_ u8 {a: 8}", "field `_`: `a` lies beyond its 8 bits"),
    (
        "_ u8 {a: 3..1}",
        "field `_`: `a`: the lower bit comes first",
    ),
    ("_ u8 {a 1}", "field `_`: expected `:` behind `a`"),
    (
        "_ u8 {a: x}",
        "field `_`: `a` needs the number of a bit, 0 being the lowest",
    ),
    (
        "_ u8 {b: 1}",
        "field `b`: one bit fits BOOLEAN, INT or BIGINT, its column is STRING",
    ),
    (
        "_ u32 {a: 0..31}",
        "field `a`: 32 bits fit BIGINT, its column is INT",
    ),
];

#[test]
fn layouts_that_cannot_be_used() {
    for (layout, expected) in FAULTS {
        let layout = if layout.is_empty() { " " } else { *layout };
        let fault = fault("binary", &[("binary.layout", layout)], "a INT, b STRING");
        let expected = format!("binary.layout: {expected}");
        assert!(fault.starts_with(&expected), "{layout}: {fault}");
    }
}
