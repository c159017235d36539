//! Places in the log as somebody types and reads them.

use crate::event::{Seq, Timestamp};
use crate::pipeline::Target;

/// A sequence number, or a time in ISO 8601; without an offset it is UTC.
pub(super) fn parse(text: &str) -> Result<Target, String> {
    if let Ok(seq) = text.parse() {
        return Ok(Target::Seq(Seq(seq)));
    }
    let time = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        civil
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|zoned| zoned.timestamp())
    });
    match time {
        Some(time) => Ok(Target::Time(Timestamp(time.as_millisecond()))),
        None => Err(format!(
            "'{text}' is neither a sequence number nor a time such as 2026-11-21T10:00:00Z"
        )),
    }
}

/// ISO 8601 in UTC, to the millisecond; `-` before the first time that a log has had.
pub(super) fn iso(time: Timestamp) -> String {
    if time == Timestamp::MIN {
        return "-".to_owned();
    }
    match jiff::Timestamp::from_millisecond(time.0) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{time} ms"),
    }
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let mut size = bytes as f64 / 1024.0;
    let mut unit = "KiB";
    for larger in UNITS.into_iter().skip(1) {
        if size >= 1024.0 {
            size /= 1024.0;
            unit = larger;
        }
    }
    format!("{size:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_and_shown() {
        let time = |ms| Ok(Target::Time(Timestamp(ms)));
        let table = [
            ("17", Ok(Target::Seq(Seq(17)))),
            ("1970-01-01T00:00:01Z", time(1000)),
            ("1970-01-01T02:00:01.5+02:00", time(1500)),
            ("1970-01-01T00:00:01", time(1000)),
            ("1970-01-02", time(86_400_000)),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text}");
        }
        for bad in ["", "-1", "yesterday", "10:00"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(iso(Timestamp(1_500)), "1970-01-01T00:00:01.500Z");
        assert_eq!(iso(Timestamp::MIN), "-");
        assert_eq!(iso(Timestamp::MAX), "9223372036854775807 ms");
        let sizes = [(5, "5 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")];
        for (bytes, expected) in sizes {
            assert_eq!(size(bytes), expected);
        }
    }
}
