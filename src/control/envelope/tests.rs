use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const CONTENT: &str = "[application]\nname = \"pump\"\nsql = \"CREATE STREAM S (v INT);\"\n";
const LIMIT: usize = 4_096;

struct Site {
    scope: Scope,
    key: SigningKey,
    trusted: Trusted,
}

impl Site {
    fn new() -> Site {
        let key = SigningKey::from_seed([7; 32]).unwrap();
        let mut trusted = Trusted::default();
        trusted.add(key.public());
        Site {
            scope: Scope::Node("pump-7".to_owned()),
            key,
            trusted,
        }
    }

    fn rules(&self, demand: Demand) -> Rules<'_> {
        Rules {
            scope: &self.scope,
            content_bytes_max: LIMIT,
            demand,
            trusted: &self.trusted,
        }
    }

    fn signed(&self, draft: &Draft) -> Value {
        serde_json::from_str(&draft.to_json(Some(&self.key))).unwrap()
    }

    fn read(&self, envelope: &Value, demand: Demand) -> Result<Desired, Refused> {
        read(envelope.to_string().as_bytes(), &self.rules(demand))
    }

    fn code(&self, envelope: &Value) -> Code {
        self.read(envelope, Demand::Signed).unwrap_err().fault.code
    }
}

fn draft() -> Draft {
    Draft {
        scope: Scope::Node("pump-7".to_owned()),
        rev: 42,
        content: CONTENT.to_owned(),
        base_sha256: Some(sha256_hex(b"before")),
        mode: Mode::Validate,
        confirm: Confirm::Operator,
        confirm_s: 60,
        state_policy: Some(StatePolicy::KeepOrFail),
        not_before: When::parse("2026-11-21T10:00:00Z"),
        expires: Some(When::Number(1_800_000_000_000)),
        encoding: Encoding::None,
    }
}

fn with(envelope: &Value, name: &str, value: Value) -> Value {
    let mut envelope = envelope.clone();
    envelope[name] = value;
    envelope
}

#[test]
fn what_is_drafted_is_read() {
    let site = Site::new();
    for encoding in [Encoding::None, Encoding::Base64, Encoding::ZstdBase64] {
        let draft = Draft {
            encoding,
            ..draft()
        };
        let desired = site.read(&site.signed(&draft), Demand::Signed).unwrap();
        assert_eq!(desired.rev, 42);
        assert_eq!(desired.content, CONTENT);
        assert_eq!(desired.sha256, draft.sha256());
        assert_eq!(desired.base_sha256, draft.base_sha256);
        assert_eq!(desired.mode, Mode::Validate);
        assert_eq!(desired.confirm, Confirm::Operator);
        assert_eq!(desired.confirm_s, 60);
        assert_eq!(desired.state_policy, Some(StatePolicy::KeepOrFail));
        assert_eq!(desired.not_before, Some(Timestamp(1_795_255_200_000)));
        assert_eq!(desired.expires, Some(Timestamp(1_800_000_000_000)));
        assert_eq!(desired.signed_by, Some(site.key.kid()));
        assert_eq!(desired.warnings, [""; 0]);
    }
}

#[test]
fn what_must_not_be_there_has_defaults() {
    let site = Site::new();
    let envelope = json!({"v": 1, "rev": 1, "sha256": sha256_hex(b""), "content": "",
        "mode": null, "sig": null, "more": {"to": ["come"]}});
    let desired = site.read(&envelope, Demand::Unsigned).unwrap();
    let expected = Desired {
        rev: 1,
        sha256: sha256_hex(b""),
        content: String::new(),
        base_sha256: None,
        mode: Mode::Apply,
        confirm: Confirm::Auto,
        confirm_s: 120,
        state_policy: None,
        not_before: None,
        expires: None,
        signed_by: None,
        warnings: Vec::new(),
    };
    assert_eq!(desired, expected);
}

#[test]
fn the_signed_bytes_are_those_of_the_contract() {
    let read = |envelope: Value| {
        let text = envelope.to_string();
        let fields = Fields::read(text.as_bytes(), FIELDS, Code::Envelope).unwrap();
        Covered::read(&fields).unwrap()
    };
    let site = Site::new();
    let hash = draft().sha256();
    let base = sha256_hex(b"before");
    let full = format!(
        "eventflux-config-1\npump-7\n42\nvalidate\noperator\n60\nkeep_or_fail\n\
         2026-11-21T10:00:00Z\n1800000000000\n{base}\n{hash}\n"
    );
    let covered = read(site.signed(&draft()));
    assert_eq!(covered.message(&site.scope), full.as_bytes());
    let covered = read(json!({"rev": 7, "sha256": hash, "mode": null}));
    let group = Scope::Group("pumps".to_owned());
    let bare = format!("eventflux-config-1\n_group/pumps\n7\n\n\n\n\n\n\n\n{hash}\n");
    assert_eq!(covered.message(&group), bare.as_bytes());
}

/// A field of a signed envelope, what stands in it instead, and what comes of it.
const REFUSALS: &str = r#"
v            | 2                                    | E_VERSION
v            | "1"                                  | E_ENVELOPE
v            | null                                 | E_ENVELOPE
rev          | 0                                    | E_ENVELOPE
rev          | -1                                   | E_ENVELOPE
rev          | 42.0                                 | E_ENVELOPE
rev          | "42"                                 | E_ENVELOPE
rev          | 18446744073709551616                 | E_ENVELOPE
rev          | null                                 | E_ENVELOPE
rev          | 43                                   | E_SIGNATURE
node         | "pump-8"                             | E_NODE
node         | "_group/pump-7"                      | E_NODE
node         | 7                                    | E_ENVELOPE
base_sha256  | "AB"                                 | E_ENVELOPE
base_sha256  | {}                                   | E_ENVELOPE
base_sha256  | null                                 | E_SIGNATURE
mode         | "apply"                              | E_SIGNATURE
mode         | null                                 | E_SIGNATURE
mode         | "Apply"                              | E_ENVELOPE
mode         | true                                 | E_ENVELOPE
confirm      | "auto"                               | E_SIGNATURE
confirm      | "nobody"                             | E_ENVELOPE
confirm_s    | 0                                    | E_ENVELOPE
confirm_s    | 86401                                | E_ENVELOPE
confirm_s    | 4294967356                           | E_ENVELOPE
confirm_s    | "60"                                 | E_ENVELOPE
confirm_s    | 61                                   | E_SIGNATURE
state_policy | "keep"                               | E_ENVELOPE
state_policy | null                                 | E_SIGNATURE
not_before   | "tomorrow"                           | E_ENVELOPE
not_before   | "2026-11-21T10:00:00Z\n"             | E_ENVELOPE
not_before   | 1.5                                  | E_ENVELOPE
not_before   | "2026-11-21T10:00:00.000Z"           | E_SIGNATURE
not_before   | 1795255200000                        | E_SIGNATURE
expires      | []                                   | E_ENVELOPE
expires      | null                                 | E_SIGNATURE
encoding     | "gzip"                               | E_ENVELOPE
encoding     | "base64"                             | E_ENCODING
encoding     | "zstd+base64"                        | E_ENCODING
sha256       | "x"                                  | E_ENVELOPE
sha256       | null                                 | E_ENVELOPE
content      | "x"                                  | E_SHA256
content      | ["x"]                                | E_ENVELOPE
content      | null                                 | E_ENVELOPE
sig          | null                                 | E_UNSIGNED
sig          | "ed25519"                            | E_ENVELOPE
sig          | {"alg":"ed25519"}                    | E_ENVELOPE
sig          | {"alg":"none","value":""}            | E_SIGNATURE
sig          | {"alg":"ed25519","value":"?"}        | E_SIGNATURE
sig          | {"alg":"ed25519","value":""}         | E_KEY
sig          | {"alg":"ed25519","kid":"x","value":""} | E_KEY
"#;

#[test]
fn every_refusal_has_its_code() {
    let site = Site::new();
    let good = site.signed(&draft());
    assert!(site.read(&good, Demand::Signed).is_ok());
    for line in REFUSALS.lines().filter(|line| !line.is_empty()) {
        let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [name, value, code] = parts[..] else {
            panic!("{line}");
        };
        // As a text, since a value would not hold every number.
        let text = with(&good, name, json!("PLACE")).to_string();
        let text = text.replace("\"PLACE\"", value);
        let refused = read(text.as_bytes(), &site.rules(Demand::Signed)).unwrap_err();
        assert_eq!(refused.fault.code.word(), code, "{line}: {}", refused.fault);
        if code == "E_ENVELOPE" {
            let is_named = refused.fault.message.contains(&format!("`{name}"))
                || refused.fault.message.contains(&format!("`sig.{name}"));
            assert!(is_named, "{line}: {}", refused.fault);
        }
    }
}

#[test]
fn what_a_line_cannot_hold_is_refused_too() {
    let site = Site::new();
    let good = site.signed(&draft());
    let table = [
        ("sha256", json!(sha256_hex(b"x")), Code::Sha256),
        ("base_sha256", json!(sha256_hex(b"x")), Code::Signature),
        (
            "base_sha256",
            json!(sha256_hex(b"").to_uppercase()),
            Code::Envelope,
        ),
        ("content", json!("x".repeat(LIMIT + 1)), Code::TooLarge),
        (
            "content",
            json!("x".repeat(3 * LIMIT + OVERHEAD_BYTES_MAX)),
            Code::TooLarge,
        ),
        (
            "sig",
            json!({"alg": "ed25519", "kid": site.key.kid(), "value": ""}),
            Code::Signature,
        ),
    ];
    for (name, value, code) in table {
        assert_eq!(site.code(&with(&good, name, value)), code, "{name}");
    }
}

#[test]
fn a_refusal_says_of_what() {
    let site = Site::new();
    let good = site.signed(&draft());
    let refused = site.read(&with(&good, "mode", json!(1)), Demand::Signed);
    let refused = refused.unwrap_err();
    assert_eq!(
        (refused.rev, refused.sha256),
        (Some(42), Some(draft().sha256()))
    );
    assert_eq!(refused.fault.message, "field `mode`: 1 is not a text");
    let refused = site.read(&with(&good, "rev", json!("x")), Demand::Signed);
    let refused = refused.unwrap_err();
    assert_eq!(
        (refused.rev, refused.sha256),
        (None, Some(draft().sha256()))
    );
    let twice = r#"{"v":1,"rev":1,"rev":2}"#;
    let refused = read(twice.as_bytes(), &site.rules(Demand::Signed)).unwrap_err();
    assert_eq!((refused.fault.code, refused.rev), (Code::Envelope, None));
    assert!(refused.fault.message.contains("`rev` stands there twice"));
}

#[test]
fn the_addressee_comes_before_everything_else() {
    let site = Site::new();
    let envelope = json!({"v": 9, "node": "pump-8", "rev": "x"});
    assert_eq!(site.code(&envelope), Code::Node);
    // Signed for another, and sent on without the field that says so.
    let other = Draft {
        scope: Scope::Node("pump-8".to_owned()),
        ..draft()
    };
    let mut envelope = site.signed(&other);
    envelope.as_object_mut().unwrap().remove("node");
    assert_eq!(site.code(&envelope), Code::Signature);
    let group = Draft {
        scope: Scope::Group("pump-7".to_owned()),
        ..draft()
    };
    let mut envelope = site.signed(&group);
    envelope.as_object_mut().unwrap().remove("node");
    assert_eq!(site.code(&envelope), Code::Signature);
}

#[test]
fn without_a_demand_only_a_known_key_must_be_right() {
    let site = Site::new();
    let stranger = SigningKey::from_seed([8; 32]).unwrap();
    let text = draft().to_json(Some(&stranger));
    let rules = site.rules(Demand::Unsigned);
    let desired = read(text.as_bytes(), &rules).unwrap();
    assert_eq!(desired.signed_by, None);
    assert!(desired.warnings[0].contains(&stranger.kid()), "{desired:?}");
    let refused = read(text.as_bytes(), &site.rules(Demand::Signed)).unwrap_err();
    assert_eq!(refused.fault.code, Code::Key);
    let good = site.signed(&draft());
    let desired = site.read(&good, Demand::Unsigned).unwrap();
    assert_eq!(desired.signed_by, Some(site.key.kid()));
    let refused = site.read(&with(&good, "rev", json!(43)), Demand::Unsigned);
    assert_eq!(refused.unwrap_err().fault.code, Code::Signature);
}

fn packed(bytes: &[u8]) -> Value {
    let content = to_base64(bytes);
    json!({"v": 1, "rev": 1, "sha256": sha256_hex(b""), "encoding": "zstd+base64",
        "content": content})
}

#[test]
fn a_bomb_is_too_large_whether_it_says_so_or_not() {
    use std::io::Write as _;
    let site = Site::new();
    let honest = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    assert_eq!(site.code(&packed(&honest)), Code::TooLarge);
    // A stream does not know its length in advance.
    let mut silent = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for _ in 0..64 {
        silent.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let silent = silent.finish().unwrap();
    let said = zstd::zstd_safe::get_frame_content_size(&silent);
    assert!(matches!(said, Ok(None)));
    assert_eq!(site.code(&packed(&silent)), Code::TooLarge);
    // Many frames, each of them small.
    let frame = zstd::bulk::compress(&[0; LIMIT], 1).unwrap();
    let frames: Vec<u8> = std::iter::repeat_n(frame, 100).flatten().collect();
    assert_eq!(site.code(&packed(&frames)), Code::TooLarge);
    // Exactly as much as there may be: only the hash is wrong.
    let full = zstd::bulk::compress(&[b'x'; LIMIT], 1).unwrap();
    assert_eq!(site.code(&packed(&full)), Code::Sha256);
    let torn = &full[..full.len() - 3];
    assert_eq!(site.code(&packed(torn)), Code::Encoding);
    let more = [full.as_slice(), b"more"].concat();
    assert_eq!(site.code(&packed(&more)), Code::Encoding);
    assert_eq!(site.code(&packed(b"")), Code::Encoding);
}

/// As `zstd --ultra -22` makes it of what it reads from a pipe: a window of 128 MiB is asked for.
#[test]
fn how_hard_it_was_packed_does_not_matter() {
    use std::io::Write as _;
    let site = Site::new();
    let mut packer = zstd::Encoder::new(Vec::new(), 22).unwrap();
    packer.write_all(b"[application]").unwrap();
    let mut envelope = packed(&packer.finish().unwrap());
    envelope["sha256"] = json!(sha256_hex(b"[application]"));
    let desired = site.read(&envelope, Demand::Unsigned).unwrap();
    assert_eq!(desired.content, "[application]");
}

/// As programs write it that keep to ASCII.
#[test]
fn a_whole_document_may_be_written_in_escapes() {
    let site = Site::new();
    let content = "é".repeat(LIMIT / 2);
    let escaped = "\\u00e9".repeat(LIMIT / 2);
    let sha256 = sha256_hex(content.as_bytes());
    let text = format!("{{\"v\":1,\"rev\":1,\"sha256\":\"{sha256}\",\"content\":\"{escaped}\"}}");
    let desired = read(text.as_bytes(), &site.rules(Demand::Unsigned)).unwrap();
    assert_eq!(desired.content, content);
}

#[test]
fn the_last_line_that_is_signed_may_do_without_its_end() {
    let site = Site::new();
    let mut envelope = site.signed(&draft());
    let lines = format!(
        "eventflux-config-1\n{}\n42\nvalidate\noperator\n60\nkeep_or_fail\n\
         2026-11-21T10:00:00Z\n1800000000000\n{}\n{}",
        site.scope,
        draft().base_sha256.unwrap(),
        draft().sha256()
    );
    for (text, is_good) in [
        (lines.clone(), true),
        (lines.clone() + "\n", true),
        (lines.clone() + "\n\n", false),
        (lines + " ", false),
    ] {
        envelope["sig"]["value"] = json!(to_base64(&site.key.sign(text.as_bytes())));
        let read = site.read(&envelope, Demand::Signed);
        assert_eq!(read.is_ok(), is_good, "{text:?}");
    }
}

#[test]
fn content_is_text() {
    let site = Site::new();
    let mut envelope = packed(&[255, 254]);
    envelope["encoding"] = json!("base64");
    assert_eq!(site.code(&envelope), Code::Encoding);
    envelope["content"] = json!(to_base64(&[b'x'; LIMIT + 1]));
    assert_eq!(site.code(&envelope), Code::TooLarge);
    envelope["content"] = json!(to_base64(&vec![b'x'; 2 * LIMIT]));
    assert_eq!(site.code(&envelope), Code::TooLarge);
    envelope["content"] = json!(to_base64(&[b'x'; LIMIT]));
    assert_eq!(site.code(&envelope), Code::Sha256);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Any other byte in an envelope: what is read is what was signed, or nothing.
    #[test]
    fn no_byte_of_a_signed_envelope_can_be_another(
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let site = Site::new();
        let mut bytes = draft().to_json(Some(&site.key)).into_bytes();
        let rules = site.rules(Demand::Signed);
        let signed = read(&bytes, &rules).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(desired) = read(&bytes, &rules) {
            prop_assert_eq!(desired, signed);
        }
    }

    /// A covered field that changes to another of its form is refused.
    #[test]
    fn no_covered_field_can_be_another(
        rev in 1..u64::MAX,
        seconds in 1..=CONFIRM_S_MAX,
        before in any::<i64>(),
        text in "[a-z]{0,20}",
    ) {
        let site = Site::new();
        let good = site.signed(&draft());
        let changes = [
            ("rev", json!(rev), rev == 42),
            ("confirm_s", json!(seconds), seconds == 60),
            ("not_before", json!(before), false),
            ("expires", json!(before), before == 1_800_000_000_000),
            ("base_sha256", json!(sha256_hex(text.as_bytes())), text == "before"),
        ];
        for (name, value, is_same) in changes {
            let verdict = site.read(&with(&good, name, value), Demand::Signed);
            match verdict {
                Ok(_) => prop_assert!(is_same, "{}", name),
                Err(refused) => prop_assert_eq!(refused.fault.code, Code::Signature),
            }
        }
        let mut other = with(&good, "content", json!(text));
        prop_assert_eq!(site.code(&other), Code::Sha256);
        other["sha256"] = json!(sha256_hex(text.as_bytes()));
        prop_assert_eq!(site.code(&other), Code::Signature);
    }

    /// Whatever comes is answered.
    #[test]
    fn nothing_makes_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in any::<prop::sample::Index>(),
    ) {
        let site = Site::new();
        let rules = site.rules(Demand::Unsigned);
        let _ = read(&bytes, &rules);
        let good = draft().to_json(None);
        let cut = cut.index(good.len());
        prop_assert!(read(&good.as_bytes()[..cut], &rules).is_err());
    }
}
