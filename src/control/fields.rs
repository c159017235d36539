//! The fields of a JSON object that came from afar, each of exactly one type.
//!
//! What it promises: what is not asked for is skipped without being built, however deep or large
//! it is, and a field that stands there twice is refused, since readers differ in which of the two
//! they believe. The text of every field stays as it came, for what is signed.

use std::borrow::Cow;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Code, Fault};

/// What a message shows of a text from afar, at the most.
const SHOWN_CHARS_MAX: usize = 40;

/// The known fields of an object.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    found: Vec<(&'static str, &'a RawValue)>,
    /// With which code they are refused.
    code: Code,
    /// What stands before a name in messages: `sig.` or nothing.
    prefix: &'static str,
}

impl<'a> Fields<'a> {
    /// The fields of `payload` that are `known`.
    pub(super) fn read(
        payload: &'a [u8],
        known: &'static [&'static str],
        code: Code,
    ) -> Result<Fields<'a>, Fault> {
        Fields::of(payload, known, code, "")
    }

    fn of(
        payload: &'a [u8],
        known: &'static [&'static str],
        code: Code,
        prefix: &'static str,
    ) -> Result<Fields<'a>, Fault> {
        let mut reader = serde_json::Deserializer::from_slice(payload);
        let found = reader
            .deserialize_map(Known(known))
            .and_then(|found| reader.end().map(|()| found));
        match found {
            Ok(found) => Ok(Fields {
                found,
                code,
                prefix,
            }),
            Err(error) => Err(Fault::new(code, format!("not a JSON object: {error}"))),
        }
    }

    /// The object in a field.
    pub(super) fn object(
        &self,
        name: &'static str,
        known: &'static [&'static str],
        prefix: &'static str,
    ) -> Result<Option<Fields<'a>>, Fault> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        match Fields::of(raw.as_bytes(), known, self.code, prefix) {
            Ok(fields) => Ok(Some(fields)),
            Err(fault) => Err(self.fault(name, &fault.message)),
        }
    }

    /// A field as it stands there; nothing for `null` as for a field that is absent.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        let raw = self.found.iter().find(|(known, _)| *known == name);
        raw.map(|(_, raw)| raw.get()).filter(|raw| *raw != "null")
    }

    /// A field as it stands there, `null` included.
    pub(super) fn written(&self, name: &str) -> Option<&'a str> {
        let raw = self.found.iter().find(|(known, _)| *known == name);
        raw.map(|(_, raw)| raw.get())
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        self.value(name, "a text")
    }

    /// A whole number that is not negative.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Fault> {
        self.value(name, "a whole number that is not negative")
    }

    /// A whole number.
    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Fault> {
        self.value(name, "a whole number")
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Fault> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let why = format!("'{}' is none of {}", shown(&text), words.join(", "));
                Err(self.fault(name, &why))
            }
        }
    }

    /// A SHA-256 in hexadecimal.
    pub(super) fn sha256(&self, name: &str) -> Result<Option<String>, Fault> {
        let text = self.text(name)?;
        match &text {
            Some(text) if !is_sha256(text) => {
                Err(self.fault(name, "not 64 digits 0-9 a-f, as a SHA-256 is written"))
            }
            Some(_) | None => Ok(text),
        }
    }

    /// A value that must be there.
    pub(super) fn must<T>(&self, name: &str, value: Option<T>) -> Result<T, Fault> {
        value.ok_or_else(|| self.fault(name, "it is missing"))
    }

    /// A refusal of one field.
    pub(super) fn fault(&self, name: &str, why: &str) -> Fault {
        Fault::new(self.code, format!("field `{}{name}`: {why}", self.prefix))
    }

    fn value<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        form: &str,
    ) -> Result<Option<T>, Fault> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        match serde_json::from_str(raw) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(self.fault(name, &format!("{} is not {form}", shown(raw)))),
        }
    }
}

/// The beginning of a text from afar.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// Whether it is a SHA-256 as the contract writes it.
pub(super) fn is_sha256(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == 64 && text.bytes().all(is_digit)
}

/// Collects the fields of these names.
struct Known(&'static [&'static str]);

impl<'de> Visitor<'de> for Known {
    type Value = Vec<(&'static str, &'de RawValue)>;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found: Self::Value = Vec::new();
        while let Some(name) = map.next_key_seed(Name(self.0))? {
            let Some(name) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if found.iter().any(|(other, _)| *other == name) {
                let twice = format!("field `{name}` stands there twice");
                return Err(serde::de::Error::custom(twice));
            }
            found.push((name, map.next_value()?));
        }
        Ok(found)
    }
}

/// One of these names, or another.
struct Name(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        let name: Cow<'_, str> = serde::Deserialize::deserialize(reader)?;
        Ok(self.0.iter().copied().find(|known| *known == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["a", "b", "o"];

    fn read(text: &str) -> Result<Fields<'_>, Fault> {
        Fields::read(text.as_bytes(), KNOWN, Code::Envelope)
    }

    #[test]
    fn a_field_has_one_type_and_stands_there_once() {
        let text = r#" {"a": 7 , "x": [1, {"a": 2}], "b":"\u0061", "o": {"a": null, "b": -1}} "#;
        let fields = read(text).unwrap();
        assert_eq!(fields.number("a"), Ok(Some(7)));
        assert_eq!(fields.text("b"), Ok(Some("a".to_owned())));
        assert_eq!(fields.written("b"), Some(r#""\u0061""#));
        let inner = fields.object("o", KNOWN, "o.").unwrap().unwrap();
        assert_eq!(inner.text("a"), Ok(None));
        assert_eq!(inner.written("a"), Some("null"));
        assert_eq!(inner.integer("b"), Ok(Some(-1)));
        let wrong = inner.number("b").unwrap_err();
        let expected = "field `o.b`: -1 is not a whole number that is not negative";
        assert_eq!(wrong.message, expected);
        for text in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": 1, "\u0061": 1}"#,
            r#"{"a": 1} x"#,
            r#"{"a": 1"#,
            "[1]",
            "null",
            "",
            "\u{feff}{}",
        ] {
            assert_eq!(read(text).unwrap_err().code, Code::Envelope, "{text}");
        }
        for number in [
            "7.0",
            "7e0",
            "-0",
            "\"7\"",
            "[7]",
            "18446744073709551616",
            "1e999",
        ] {
            let text = format!("{{\"a\": {number}}}");
            assert!(
                read(&text).and_then(|fields| fields.number("a")).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn depth_and_length_do_not_matter() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        let text = format!("{{\"x\": {deep}, \"a\": {deep}}}");
        let fields = read(&text).unwrap();
        assert!(fields.number("a").is_err());
        assert!(fields.object("a", KNOWN, "a.").is_err());
    }
}
