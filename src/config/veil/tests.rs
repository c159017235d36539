use super::*;
use crate::config::options::OptionKind;

const OPTIONS: [OptionSpec; 7] = [
    OptionSpec::new("mqtt.password", OptionKind::Text, "").secret(),
    OptionSpec::new("mqtt.username", OptionKind::Text, ""),
    OptionSpec::new("mqtt.tls.key", OptionKind::Text, "").secret(),
    OptionSpec::new("http.tokens", OptionKind::List, "").secret(),
    OptionSpec::new("http.header.*", OptionKind::Text, "").secret(),
    OptionSpec::new("key.column", OptionKind::Text, ""),
    OptionSpec::new("mqtt.broker", OptionKind::List, ""),
];

fn path(text: &str) -> &'static str {
    match text.starts_with("WITH") {
        true => "x.sql",
        false => "x.toml",
    }
}

fn veil(text: &str) -> Veil {
    let texts = BTreeMap::from([(path(text).to_owned(), text.to_owned())]);
    Veil::over(&texts, &[&OPTIONS])
}

/// A text and what is left of it.
const TABLE: [(&str, &str); 24] = [
    (
        "[application]\nmqtt.password = \"hunter2\"\n",
        "[application]\nmqtt.password = \"[hidden]\"\n",
    ),
    (
        "[streams.S]\n\"mqtt.password\" = 'hunter2'",
        "[streams.S]\n\"mqtt.password\" = '[hidden]'",
    ),
    (
        "[streams.S.mqtt]\npassword = \"hunter2\"",
        "[streams.S.mqtt]\npassword = \"[hidden]\"",
    ),
    (
        "[streams]\nS = { mqtt = { username = \"u\", password = \"hunter2\" }, a = 1 }",
        "[streams]\nS = { mqtt = { username = \"u\", password = \"[hidden]\" }, a = 1 }",
    ),
    (
        "streams.S.mqtt.password = 12345",
        "streams.S.mqtt.password = [hidden]",
    ),
    (
        "[control]\nmqtt.password = \"\"\"\nhun\nter2\"\"\" # hun\n",
        "[control]\nmqtt.password = \"[hidden]\" # hun\n",
    ),
    (
        "[control]\nmqtt.password = '''hun'ter2'''\n",
        "[control]\nmqtt.password = '[hidden]'\n",
    ),
    (
        "[control]\nmqtt.password = \"hun\\\"ter\\u0032\" # hun\"ter2\n",
        "[control]\nmqtt.password = \"[hidden]\" # [hidden]\n",
    ),
    (
        "[streams.S]\nhttp.tokens = [\"first\", \"${secret:a}\", 'second'] # second first",
        "[streams.S]\nhttp.tokens = [\"[hidden]\", \"${secret:a}\", '[hidden]'] # [hidden] \
         [hidden]",
    ),
    (
        "# was hunter2\n[control]\nmqtt.password = \"hunter2\"\nnode = \"hunter2-1\"",
        "# was [hidden]\n[control]\nmqtt.password = \"[hidden]\"\nnode = \"[hidden]-1\"",
    ),
    (
        "[control]\nmqtt.password = \"${secret:p}\"",
        "[control]\nmqtt.password = \"${secret:p}\"",
    ),
    (
        "[control]\nmqtt.password = \"${P}\"",
        "[control]\nmqtt.password = \"${P}\"",
    ),
    (
        "[control]\nmqtt.password = \"${P:hunter2}\"",
        "[control]\nmqtt.password = \"[hidden]\"",
    ),
    (
        "[control]\nmqtt.password = \"$${secret:p}\"",
        "[control]\nmqtt.password = \"[hidden]\"",
    ),
    (
        "[control]\nmqtt.pasword = \"hunter2\"",
        "[control]\nmqtt.pasword = \"[hidden]\"",
    ),
    (
        "[control]\nmqtt.tls.key = \"/etc/key.pem\"",
        "[control]\nmqtt.tls.key = \"/etc/key.pem\"",
    ),
    (
        "[streams.S]\nhttp.header.Accept = \"a/b\"\nhttp.header.X-Key = \"abc\"",
        "[streams.S]\nhttp.header.Accept = \"a/b\"\nhttp.header.X-Key = \"[hidden]\"",
    ),
    (
        "WITH ('mqtt.username' = 'u', 'mqtt.password' = 'it''s me') -- it's me, it''s me",
        "WITH ('mqtt.username' = 'u', 'mqtt.password' = '[hidden]') -- [hidden], [hidden]",
    ),
    (
        "WITH (mqtt.password = 'one1', \"mqtt.password\" /* x */ = -- y\n 'two2', \
         'key.column' = 'k')",
        "WITH (mqtt.password = '[hidden]', \"mqtt.password\" /* x */ = -- y\n '[hidden]', \
         'key.column' = 'k')",
    ),
    (
        "[application]\nsql = \"\"\"WITH ('mqtt.password' = 'hunter2');\"\"\"",
        "[application]\nsql = \"\"\"WITH ('mqtt.password' = '[hidden]');\"\"\"",
    ),
    (
        "[control]\nmqtt.broker = \"mqtt://b, mqtt://me:hunter2@a\" # not hunter2\n",
        "[control]\nmqtt.broker = \"[hidden]\" # not [hidden]\n",
    ),
    (
        "[control]\nmqtt.broker = \"mqtt://me:${secret:a}@a, mqtt://a/@b\"",
        "[control]\nmqtt.broker = \"mqtt://me:${secret:a}@a, mqtt://a/@b\"",
    ),
    (
        "WITH ('mqtt.broker' = 'me:hunter2@a', 'key.column' = 'a@b')",
        "WITH ('mqtt.broker' = '[hidden]', 'key.column' = 'a@b')",
    ),
    (
        "[application]\nsql = \"WITH (\\\"mqtt.password\\\" = \\u0027hunter2\\u0027);\"",
        "[application]\nsql = \"[hidden]\"",
    ),
];

#[test]
fn whatever_the_spelling_no_secret_is_left() {
    for (text, expected) in TABLE {
        assert_eq!(veil(text).redact(path(text), text), expected, "{text}");
    }
}

#[test]
fn a_mask_keeps_lines_and_columns() {
    for (text, redacted) in TABLE {
        let masked = veil(text).mask(path(text), text);
        let shape =
            |text: &str| -> Vec<usize> { text.lines().map(|line| line.chars().count()).collect() };
        assert_eq!(shape(&masked), shape(text), "{text}");
        assert_eq!(masked == text, redacted == text, "{text}: {masked}");
        for secret in [
            "hunter2", "ter2", "12345", "first", "second", "it''s", "one1", "two2",
        ] {
            assert!(!masked.contains(secret), "{masked}");
        }
    }
}

#[test]
fn what_is_not_toml_hides_what_looks_like_a_secret() {
    let table = [
        "[control]\nmqtt.password = \"hunter2",
        "[control]\nmqtt.password = hunter2\n",
        "[control.mqtt]\npassword = hunter2 hunter3\nx",
        "[streams.S]\nmqtt = { username = u, password = 'hunter2' }",
        "[control]\n\"mqtt.password\" = \"\"\"\nhunter2\nhunter3",
    ];
    for text in table {
        let masked = veil(text).mask(path(text), text);
        assert!(!masked.contains("hunter"), "{masked}");
    }
}

#[test]
fn a_sentence_quotes_no_secret() {
    let veil = veil("[control]\nmqtt.password = \"hunter2\"\n[streams.S]\nmqtt.password = \"abc\"");
    assert_eq!(
        veil.sentence("found 'hunter2', not abc"),
        "found '[hidden]', not abc"
    );
    assert_eq!(format!("{veil:?}"), "Veil of 1 secrets");
}

#[test]
fn a_reference_brings_no_value_of_its_own() {
    let table = [
        ("${secret:a}", true),
        ("Bearer ${secret:a}", true),
        ("${A}", true),
        ("${A:}", true),
        ("${A:b}", false),
        ("${secret:a}${A:b}", false),
        ("$${A}", false),
        ("$$${A}", true),
        ("${A", false),
        ("$A", false),
        ("", false),
    ];
    for (text, expected) in table {
        assert_eq!(is_reference(text), expected, "{text}");
    }
}

/// Whatever somebody sends is looked through in a time that grows with its length.
#[test]
fn no_text_takes_for_ever() {
    let pieces = [
        "x\n--x\n",
        "x /*",
        "a='",
        "''",
        "'a' = ",
        "x -- ",
        "mqtt.pasword='a' ",
        "a.",
    ];
    for piece in pieces {
        let text = piece.repeat((16 << 10) / piece.len());
        let began = std::time::Instant::now();
        let veil = veil(&text);
        assert!(veil.redact(path(&text), &text).len() < 4 * text.len());
        let took = began.elapsed();
        assert!(
            took < std::time::Duration::from_secs(20),
            "{piece:?}: {took:?}"
        );
    }
}
