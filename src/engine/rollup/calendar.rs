//! Where buckets begin and end, in UTC.

use std::ops::Range;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit, Zoned};

use crate::sql::plan::Bucket;

const SECOND_MS: i64 = 1_000;
const DAY_MS: i64 = 86_400_000;
/// The epoch is a Thursday.
const MONDAY_MS: i64 = -3 * DAY_MS;

/// The bucket that a time lies in: where it begins, and where the next one does. None for times
/// outside the calendar, which has the years from -9999 to 9999.
pub(super) fn bounds(bucket: Bucket, time_ms: i64) -> Option<Range<i64>> {
    let instant = Timestamp::from_millisecond(time_ms).ok()?;
    let aligned = |length_ms: i64, offset_ms: i64| {
        let start = time_ms - (time_ms - offset_ms).rem_euclid(length_ms);
        Some(start..start + length_ms)
    };
    match bucket {
        Bucket::Second => aligned(SECOND_MS, 0),
        Bucket::Minute => aligned(60 * SECOND_MS, 0),
        Bucket::Hour => aligned(3_600 * SECOND_MS, 0),
        Bucket::Day => aligned(DAY_MS, 0),
        Bucket::Week => aligned(7 * DAY_MS, MONDAY_MS),
        Bucket::Month => calendar(instant, Unit::Month),
        Bucket::Year => calendar(instant, Unit::Year),
    }
}

/// The month or year of an instant. The last one has no end.
fn calendar(instant: Timestamp, unit: Unit) -> Option<Range<i64>> {
    let now = instant.to_zoned(TimeZone::UTC);
    let (first, length) = match unit {
        Unit::Year => (now.first_of_year(), jiff::Span::new().years(1)),
        _ => (now.first_of_month(), jiff::Span::new().months(1)),
    };
    let first = first.and_then(|day| day.start_of_day()).ok()?;
    let next = first.checked_add(length).ok();
    let start = |day: &Zoned| day.timestamp().as_millisecond();
    Some(start(&first)..next.as_ref().map_or(i64::MAX, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A time, and the starts of its week, month and year, and where these end.
    const TABLE: &[(&str, [&str; 6])] = &[
        (
            "2024-02-29T23:59:59.999Z",
            [
                "2024-02-26",
                "2024-03-04",
                "2024-02-01",
                "2024-03-01",
                "2024-01-01",
                "2025-01-01",
            ],
        ),
        (
            "1970-01-01T00:00:00Z",
            [
                "1969-12-29",
                "1970-01-05",
                "1970-01-01",
                "1970-02-01",
                "1970-01-01",
                "1971-01-01",
            ],
        ),
        (
            "1969-12-28T23:59:59.999Z",
            [
                "1969-12-22",
                "1969-12-29",
                "1969-12-01",
                "1970-01-01",
                "1969-01-01",
                "1970-01-01",
            ],
        ),
        (
            "2026-06-01T00:00:00Z",
            [
                "2026-06-01",
                "2026-06-08",
                "2026-06-01",
                "2026-07-01",
                "2026-01-01",
                "2027-01-01",
            ],
        ),
    ];

    fn ms(text: &str) -> i64 {
        let whole = if text.len() == 10 {
            format!("{text}T00:00:00Z")
        } else {
            text.to_owned()
        };
        whole.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn calendar_lengths() {
        for (time, expected) in TABLE {
            let found = [Bucket::Week, Bucket::Month, Bucket::Year]
                .map(|bucket| bounds(bucket, ms(time)).unwrap());
            let found: Vec<i64> = found
                .into_iter()
                .flat_map(|one| [one.start, one.end])
                .collect();
            let expected: Vec<i64> = expected.iter().map(|day| ms(day)).collect();
            assert_eq!(found, expected, "{time}");
        }
    }

    #[test]
    fn fixed_lengths_also_before_the_epoch() {
        assert_eq!(bounds(Bucket::Second, -1), Some(-1_000..0));
        assert_eq!(bounds(Bucket::Second, 1_999), Some(1_000..2_000));
        assert_eq!(bounds(Bucket::Minute, 60_000), Some(60_000..120_000));
        assert_eq!(bounds(Bucket::Hour, -1), Some(-3_600_000..0));
        assert_eq!(bounds(Bucket::Day, DAY_MS + 5), Some(DAY_MS..2 * DAY_MS));
    }

    #[test]
    fn the_calendar_ends() {
        for bucket in [Bucket::Second, Bucket::Week, Bucket::Month, Bucket::Year] {
            assert_eq!(bounds(bucket, i64::MIN), None);
            assert_eq!(bounds(bucket, i64::MAX), None);
            for edge in [Timestamp::MIN, Timestamp::MAX] {
                let time = edge.as_millisecond();
                let found = bounds(bucket, time);
                assert!(
                    found.is_none_or(|found| found.contains(&time)),
                    "{bucket:?} {edge}"
                );
            }
        }
    }
}
