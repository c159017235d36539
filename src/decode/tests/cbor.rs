use super::{check, shown};
use crate::decode::Decoder;
use crate::event::from_hex;

/// Payloads in hexadecimal, with blanks.
fn check_hex(written: &[(&str, &str)], columns: &str, table: &[(&str, &str)]) {
    let bytes = |hex: &str| from_hex(&hex.replace(' ', "")).unwrap();
    let table: Vec<(Vec<u8>, &str)> = table
        .iter()
        .map(|(hex, expected)| (bytes(hex), *expected))
        .collect();
    check("cbor", written, columns, &table);
}

const INTEGERS: &[(&str, &str)] = &[
    ("a1 6161 17", r#"{"a":23}"#),
    ("a1 6161 1818", r#"{"a":24}"#),
    ("a1 6161 193039", r#"{"a":12345}"#),
    ("a1 6161 1a000186a0", r#"{"a":100000}"#),
    ("a1 6161 1b7fffffffffffffff", r#"{"a":9223372036854775807}"#),
    (
        "a1 6161 1bffffffffffffffff",
        "out_of_range: column `a` is BIGINT, found 18446744073709551615",
    ),
    (
        "a1 6161 3b7fffffffffffffff",
        r#"{"a":-9223372036854775808}"#,
    ),
    (
        "a1 6161 3bffffffffffffffff",
        "out_of_range: column `a` is BIGINT, found -18446744073709551616",
    ),
    ("a1 6161 c2 42 0100", r#"{"a":256}"#),
    ("a1 6161 c3 40", r#"{"a":-1}"#),
    ("a1 6161 f94200", r#"{"a":3}"#),
    (
        "a1 6161 f94100",
        "wrong_type: column `a` is BIGINT, found 2.5",
    ),
    ("a1 6161 f6", r#"{"a":null}"#),
    ("a1 6161 f7", r#"{"a":null}"#),
    ("a1 6161 f5", "wrong_type: column `a` is BIGINT, found true"),
    (
        "a1 6161 6131",
        "wrong_type: column `a` is BIGINT, found text `1`",
    ),
    (
        "a1 6161 80",
        "wrong_type: column `a` is BIGINT, found an array",
    ),
    ("a1 6161 d818 05", r#"{"a":5}"#),
    ("bf 6161 01 ff", r#"{"a":1}"#),
    ("a2 6162 9f 01 bf 01 02 ff ff 6161 01", r#"{"a":1}"#),
    ("a1 7f 6161 ff 01", r#"{"a":1}"#),
    ("", "empty: no bytes"),
    ("a0", r#"{"a":null}"#),
    ("82 a1 6161 01 a0", "{\"a\":1}\n{\"a\":null}"),
    ("a1 6161 01 a1 6161 02", "{\"a\":1}\n{\"a\":2}"),
    (
        "01",
        "wrong_type: expected an object or an array of objects, found a number",
    ),
    (
        "8181a0",
        "wrong_type: expected an object or an array of objects, found an array",
    ),
    (
        "a1 6161",
        "malformed: not CBOR at byte 3: it ends inside of an item",
    ),
    (
        "a1 6161 1c",
        "malformed: not CBOR at byte 4: the head of an item is not well-formed",
    ),
    (
        "a1 6161 f0",
        "malformed: not CBOR at byte 4: a simple value without a meaning",
    ),
    (
        "a1 61ff 00",
        "malformed: not CBOR at byte 3: text that is not UTF-8",
    ),
    (
        "a1 7f 4161 ff 00",
        "malformed: not CBOR at byte 3: a string in pieces holds something else",
    ),
    (
        "9bffffffffffffffff",
        "malformed: not CBOR at byte 9: it ends inside of an item",
    ),
    (
        "bb7fffffffffffffff 6161",
        "malformed: not CBOR at byte 11: it ends inside of an item",
    ),
    (
        "5bffffffffffffffff",
        "wrong_type: expected an object or an array of objects, found bytes",
    ),
    (
        "a1 6161 5bffffffffffffffff",
        "malformed: not CBOR at byte 12: it ends inside of an item",
    ),
];

#[test]
fn values_by_type() {
    check_hex(&[], "a BIGINT", INTEGERS);
    check_hex(
        &[],
        "d DOUBLE, s STRING, y BYTES, b BOOLEAN",
        &[
            (
                "a4 6164 fb3ff199999999999a 6173 62c3a9 6179 4200ff 6162 f4",
                r#"{"d":1.1,"s":"é","y":"AP8=","b":false}"#,
            ),
            (
                "a1 6164 fa7f800000",
                r#"{"d":null,"s":null,"y":null,"b":null}"#,
            ),
            ("a1 6164 f97e00", r#"{"d":null,"s":null,"y":null,"b":null}"#),
            (
                "a1 6179 5f 4100 42ff01 ff",
                r#"{"d":null,"s":null,"y":"AP8B","b":null}"#,
            ),
            (
                "a1 6179 64 41513d3d",
                r#"{"d":null,"s":null,"y":"AQ==","b":null}"#,
            ),
            (
                "a1 6173 4161",
                "wrong_type: column `s` is STRING, found 1 bytes",
            ),
        ],
    );
}

#[test]
fn times() {
    check_hex(
        &[("cbor.timestamp.format.u", "s")],
        "t TIMESTAMP, u TIMESTAMP, s STRING, n BIGINT",
        &[
            // The tags for times, as the time that they say or as what they hold.
            (
                "a1 6174 c1 1a514b67b0",
                r#"{"t":1363896240000,"u":null,"s":null,"n":null}"#,
            ),
            (
                "a1 6174 c1 fb41d452d9ec200000",
                r#"{"t":1363896240500,"u":null,"s":null,"n":null}"#,
            ),
            (
                "a1 6174 c0 74 323031332d30332d32315432303a30343a30305a",
                r#"{"t":1363896240000,"u":null,"s":null,"n":null}"#,
            ),
            (
                "a1 6173 c0 74 323031332d30332d32315432303a30343a30305a",
                r#"{"t":null,"u":null,"s":"2013-03-21T20:04:00Z","n":null}"#,
            ),
            ("a1 616e c1 02", r#"{"t":null,"u":null,"s":null,"n":2}"#),
            (
                "a2 6174 02 6175 02",
                r#"{"t":2,"u":2000,"s":null,"n":null}"#,
            ),
        ],
    );
}

#[test]
fn paths_roots_and_numbered_keys() {
    check_hex(
        &[
            ("cbor.mapping.a", "$.x[1].y"),
            ("cbor.mapping.k", "$.-2"),
            ("cbor.mapping.l", "$['3']"),
        ],
        "a INT, k INT, l INT",
        &[
            (
                "a3 6178 82 00 a1 6179 07 21 08 03 09",
                r#"{"a":7,"k":8,"l":9}"#,
            ),
            ("a2 6178 05 80 f6", r#"{"a":null,"k":null,"l":null}"#),
        ],
    );
    check_hex(
        &[
            ("cbor.root", "$.r"),
            ("cbor.mapping.d", "$.d"),
            ("cbor.missing", "reject"),
        ],
        "d STRING, v INT",
        &[
            (
                "a2 6172 82 a1 6176 01 a1 6176 02 6164 6178",
                "{\"d\":\"x\",\"v\":1}\n{\"d\":\"x\",\"v\":2}",
            ),
            ("a2 6172 c6 a1 6176 01 6164 6178", "{\"d\":\"x\",\"v\":1}"),
            ("a1 6164 6178", "missing_field: nothing lies at `$.r`"),
            (
                "a2 6172 81 01 6164 6178",
                "wrong_type: expected an object or an array of objects, found a number",
            ),
            (
                "a2 6172 81 80 6164 6178",
                "wrong_type: expected an object or an array of objects, found an array",
            ),
        ],
    );
}

#[test]
fn any_item_as_json() {
    check_hex(
        &[("cbor.mapping.j", "$.a"), ("cbor.mapping.d", "$.a.t")],
        "j JSON, d DOUBLE",
        &[
            (
                "a1 6161 a3 6174 f93e00 01 82 4101 f5 6162 f97e00",
                r#"{"j":{"1":["AQ==",true],"b":null,"t":1.5},"d":1.5}"#,
            ),
            ("a1 6161 80", r#"{"j":[],"d":null}"#),
            ("a1 6161 f6", r#"{"j":null,"d":null}"#),
            (
                "a1 6161 c1 3bffffffffffffffff",
                r#"{"j":-1.8446744073709552e19,"d":null}"#,
            ),
            (
                "a1 6161 a1 80 01",
                "malformed: not CBOR at byte 5: a key that is an array or a map",
            ),
        ],
    );
}

#[test]
fn depth_is_limited() {
    let schema = super::schema("a INT, j JSON");
    let mut decoder = Decoder::new("cbor", &super::options("cbor", &[]), &schema, &[]).unwrap();
    for (open, count, is_fine) in [
        (0x81, 60, true),
        (0x81, 100_000, false),
        (0xc6, 100_000, false),
    ] {
        for key in ["a", "j", "x"] {
            let inside = [vec![open; count], vec![0x01]].concat();
            let payload = [&[0xa1, 0x61], key.as_bytes(), &inside].concat();
            let found = shown(&mut decoder, &schema, &payload);
            // What a column refuses anyhow is not looked into.
            let is_refused = found.starts_with("wrong_type: column `a`")
                || found.ends_with("items lie deeper in each other than 64");
            assert_eq!(is_refused, !is_fine || key == "a", "{key} {count}: {found}");
        }
        let mut in_key = vec![0xa1];
        in_key.resize(100_000, 0x81);
        assert!(shown(&mut decoder, &schema, &in_key).starts_with("malformed"));
    }
}
