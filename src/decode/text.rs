//! Values that are written as text, for CSV, key=value, regular expressions and NMEA, and for
//! JSON on request.

use super::Reason;
use super::column::Scalar;

/// How much of a text a message shows.
const EXCERPT_CHARACTERS_MAX: usize = 40;

/// A decimal number; blanks around it do not matter. `inf` and `nan` are none.
pub(super) fn number<'a>(written: &str) -> Result<Scalar<'a>, Reason> {
    let written = written.trim();
    if let Ok(number) = written.parse::<i64>() {
        return Ok(Scalar::Integer(number));
    }
    let is_part =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    if !written.bytes().all(is_part) {
        return Err(Reason::WrongType);
    }
    if let Ok(number) = written.parse::<i128>() {
        return Ok(Scalar::Beyond(number));
    }
    match written.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Scalar::Float(number)),
        Ok(_) => Err(Reason::OutOfRange),
        Err(_) => Err(Reason::WrongType),
    }
}

/// A truth value, as devices write it.
pub(super) fn truth(written: &str) -> Option<bool> {
    const WORDS: [(&str, bool); 10] = [
        ("true", true),
        ("false", false),
        ("1", true),
        ("0", false),
        ("yes", true),
        ("no", false),
        ("on", true),
        ("off", false),
        ("t", true),
        ("f", false),
    ];
    let written = written.trim();
    let found = WORDS
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(written));
    found.map(|(_, truth)| *truth)
}

/// The word for a truth value.
pub(super) fn of_truth(truth: bool) -> &'static str {
    match truth {
        true => "true",
        false => "false",
    }
}

/// The beginning of a text, without anything that would move a terminal's cursor.
pub(super) fn excerpt(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(EXCERPT_CHARACTERS_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(EXCERPT_CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The lines of a message that hold something, without what ends them, numbered from 1.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines());
    lines.filter(|(_, line)| !line.trim().is_empty())
}
