//! The hours in which a sink delivers: `22:00-06:00, sat-sun 00:00-24:00`.
//!
//! They are read off the wall clock, because that is what a tariff or a shift goes by. It is read
//! anew each minute, so that a clock that is set takes effect by itself.

use jiff::tz::TimeZone;

use crate::event::Timestamp;

const MINUTES_A_DAY: u16 = 24 * 60;
const MINUTE_MS: i64 = 60_000;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When a sink delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hours {
    spans: Vec<Span>,
    zone: TimeZone,
}

/// From one minute of a day to another, of the next day when that is not later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// On which days it begins, from Monday.
    days: [bool; 7],
    from: u16,
    to: u16,
}

impl Span {
    fn holds(self, day: usize, minute: u16) -> bool {
        let on = |day: usize| self.days.get(day % 7).copied().unwrap_or(false);
        if self.from < self.to {
            on(day) && (self.from..self.to).contains(&minute)
        } else {
            (on(day) && minute >= self.from) || (on(day + 6) && minute < self.to)
        }
    }
}

impl Hours {
    /// Reads a list of hours.
    ///
    /// # Errors
    /// A sentence about the first part that is none.
    pub(super) fn parse(text: &str, zone: TimeZone) -> Result<Hours, String> {
        let spans = text.split(',').map(|part| {
            span(part.trim()).ok_or_else(|| {
                format!(
                    "`{}` is no span of hours: write `22:00-06:00` or `mon-fri 08:00-18:00`, \
                     several with commas",
                    part.trim()
                )
            })
        });
        let spans = spans.collect::<Result<Vec<_>, _>>()?;
        Ok(Hours { spans, zone })
    }

    /// How many milliseconds to wait before it is worth looking again, when `wall` is not in them.
    pub(super) fn closed_for_ms(&self, wall: Timestamp) -> Option<u64> {
        // A clock beyond what a calendar knows is no reason to keep anything.
        let instant = jiff::Timestamp::from_millisecond(wall.0).ok()?;
        let here = instant.to_zoned(self.zone.clone());
        let day = usize::try_from(here.weekday().to_monday_zero_offset()).unwrap_or(0);
        let minute = u16::try_from(here.hour()).unwrap_or(0) * 60;
        let minute = minute + u16::try_from(here.minute()).unwrap_or(0);
        if self.spans.iter().any(|span| span.holds(day, minute)) {
            return None;
        }
        let left = MINUTE_MS - wall.0.rem_euclid(MINUTE_MS);
        Some(left.unsigned_abs())
    }
}

fn span(text: &str) -> Option<Span> {
    let (days, hours) = match text.rsplit_once(char::is_whitespace) {
        Some((days, hours)) => (days_of(days.trim())?, hours),
        None => ([true; 7], text),
    };
    let (from, to) = hours.split_once('-')?;
    let (from, to) = (minute_of(from)?, minute_of(to)?);
    let is_span = from != to && from < MINUTES_A_DAY;
    is_span.then_some(Span { days, from, to })
}

fn days_of(text: &str) -> Option<[bool; 7]> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let place = |name: &str| {
        let name = name.trim();
        DAYS.iter().position(|day| day.eq_ignore_ascii_case(name))
    };
    let (first, last) = (place(first)?, place(last)?);
    let mut days = [false; 7];
    let count = (last + 7 - first) % 7;
    for (index, day) in days.iter_mut().enumerate() {
        *day = (index + 7 - first) % 7 <= count;
    }
    Some(days)
}

/// The minute of the day that `06:30` says; the end of the day is `24:00`.
fn minute_of(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let is_digits = |text: &str| text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(hour) || !is_digits(minute) || minute.len() != 2 {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let all = hour * 60 + minute;
    (minute < 60 && all <= MINUTES_A_DAY).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    /// 2026-11-16 is a Monday.
    fn wall(text: &str) -> Timestamp {
        let instant: jiff::Timestamp = format!("{text}Z").parse().unwrap();
        Timestamp(instant.as_millisecond())
    }

    #[test]
    fn hours_by_table() {
        let table = [
            ("22:00-06:00", "2026-11-16T21:59:59", false),
            ("22:00-06:00", "2026-11-16T22:00:00", true),
            ("22:00-06:00", "2026-11-17T05:59:59", true),
            ("22:00-06:00", "2026-11-17T06:00:00", false),
            ("mon-fri 08:00-18:00", "2026-11-20T12:00:00", true),
            ("mon-fri 08:00-18:00", "2026-11-21T12:00:00", false),
            ("fri 22:00-02:00", "2026-11-20T23:00:00", true),
            ("fri 22:00-02:00", "2026-11-21T01:00:00", true),
            ("fri 22:00-02:00", "2026-11-20T01:00:00", false),
            ("sat-mon 00:00-24:00", "2026-11-16T23:59:59", true),
            ("sat-mon 00:00-24:00", "2026-11-17T00:00:00", false),
            ("sun 23:00-01:00", "2026-11-16T00:30:00", true),
            ("01:00-02:00, 5:30-6:00", "2026-11-16T05:45:00", true),
            ("01:00-02:00, 5:30-6:00", "2026-11-16T03:00:00", false),
        ];
        for (hours, at, expected) in table {
            let hours = Hours::parse(hours, TimeZone::UTC).unwrap();
            let closed_for = hours.closed_for_ms(wall(at));
            assert_eq!(closed_for.is_none(), expected, "{hours:?} {at}");
        }
    }

    #[test]
    fn they_follow_the_zone_over_the_change_to_summer() {
        let hours = Hours::parse("08:00-09:00", zone("Europe/Berlin")).unwrap();
        assert_eq!(hours.closed_for_ms(wall("2026-03-28T07:30:00")), None);
        assert_eq!(
            hours.closed_for_ms(wall("2026-03-28T06:30:20")),
            Some(40_000)
        );
        assert_eq!(hours.closed_for_ms(wall("2026-03-29T06:30:00")), None);
        assert_eq!(hours.closed_for_ms(Timestamp(i64::MAX)), None);
    }

    #[test]
    fn what_is_no_span_of_hours() {
        for text in [
            "",
            "22-6",
            "22:00",
            "22:00-22:00",
            "24:00-06:00",
            "22:00-24:01",
            "22:60-23:00",
            "22:00-06:00,",
            "noday 22:00-06:00",
            "mon-22:00-06:00",
            "+2:00-06:00",
            "2:0-3:00",
        ] {
            let fault = Hours::parse(text, TimeZone::UTC).unwrap_err();
            assert!(fault.contains("is no span of hours"), "{text}: {fault}");
        }
    }
}
