//! Cron expressions: points in time that recur by the calendar.
//!
//! `[second] minute hour day-of-month month day-of-week`: six fields, or five when the second is
//! left out and is 0. A field is `*`, `?`, a number, a name, a range `a-b` (which may go round, as
//! `FRI-MON`), any of them with a step `/n`, or several of these with commas. `L` is the last day
//! of the month. Days of the week are numbered from 0, Sunday, to 6, and 7 is Sunday again.
//!
//! When both kinds of day are restricted, one of them is enough, as in cron since Version 7 Unix.
//! Where the hours are restricted, a point in time that clocks leave out when they are put forward
//! comes as much later, and one that comes twice comes once; where they are not, the clock that
//! runs on counts.

use std::fmt;

use super::zone::Zone;
use crate::event::Timestamp;

/// A cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    /// Bit `n` is set when the second `n` is meant; so for the others.
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    last_day: bool,
    months: u64,
    /// Bit 0 is Sunday.
    weekdays: u64,
    /// Whether the field restricts anything.
    by_day: bool,
    by_weekday: bool,
}

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const DAY_SECONDS: i64 = 86_400;
const ALL_HOURS: u64 = (1 << 24) - 1;
/// The 29th of February is never farther away than eight years.
const DAYS_MAX: i64 = 9 * 366;

/// What may stand in a field.
struct Field {
    what: &'static str,
    least: u32,
    most: u32,
    /// Names of the values from `least`.
    names: &'static [&'static str],
    /// Whether it may be `?`.
    question: bool,
}

impl Field {
    const fn plain(what: &'static str, least: u32, most: u32) -> Field {
        Field {
            what,
            least,
            most,
            names: &[],
            question: false,
        }
    }
}

const SECOND: Field = Field::plain("second", 0, 59);
const MINUTE: Field = Field::plain("minute", 0, 59);
const HOUR: Field = Field::plain("hour", 0, 23);
const DAY: Field = Field {
    question: true,
    ..Field::plain("day of the month", 1, 31)
};
const MONTH: Field = Field {
    names: &MONTHS,
    ..Field::plain("month", 1, 12)
};
const WEEKDAY: Field = Field {
    names: &WEEKDAYS,
    question: true,
    ..Field::plain("day of the week", 0, 7)
};

impl Cron {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str) -> Result<Cron, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let (second, rest) = match fields.as_slice() {
            [_, _, _, _, _] => ("0", fields.as_slice()),
            [second, rest @ ..] if rest.len() == 5 => (*second, rest),
            _ => {
                let count = fields.len();
                return Err(format!(
                    "a cron expression has 5 fields, or 6 with seconds; this has {count}"
                ));
            }
        };
        let [minute, hour, day, month, weekday] = rest else {
            return Err("a cron expression has 5 or 6 fields".to_owned());
        };
        let (day_list, last_day) = without_last(day);
        let weekdays = WEEKDAY.bits(weekday)?;
        let cron = Cron {
            text: fields.join(" "),
            seconds: SECOND.bits(second)?,
            minutes: MINUTE.bits(minute)?,
            hours: HOUR.bits(hour)?,
            days: match day_list.as_str() {
                "" if last_day => 0,
                list => DAY.bits(list)?,
            },
            last_day,
            months: MONTH.bits(month)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7F,
            by_day: !is_any(day),
            by_weekday: !is_any(weekday),
        };
        match cron.next_local(0) {
            Some(_) => Ok(cron),
            None => Err(format!("there is no such day: '{}'", cron.text)),
        }
    }

    /// The first point in time behind `time`; a whole second.
    #[must_use]
    pub fn next_after(&self, time: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let after = time.0.div_euclid(1000);
        let next = if self.hours == ALL_HOURS {
            self.next_running(after, zone)
        } else {
            self.next_shown(after, zone)
        };
        next.and_then(|seconds| seconds.checked_mul(1000))
            .map(Timestamp)
    }

    /// By clocks that run on: from one change to the next they are only so far ahead.
    fn next_running(&self, after: i64, zone: &Zone) -> Option<i64> {
        let mut from = after.checked_add(1)?;
        loop {
            let offset = zone.offset_seconds(from);
            let next = self.next_local(from.checked_add(offset)?)? - offset;
            if zone.offset_seconds(next) == offset {
                return Some(next);
            }
            match zone.next_change(from) {
                Some(change) if change <= next => from = change,
                _ => return Some(next),
            }
        }
    }

    /// By what clocks show.
    fn next_shown(&self, after: i64, zone: &Zone) -> Option<i64> {
        /// More than clocks are ever put forward.
        const SHIFT_SECONDS: i64 = 3 * 3600;
        let (offset, before) = (
            zone.offset_seconds(after),
            zone.offset_seconds(after.saturating_sub(SHIFT_SECONDS)),
        );
        // What clocks have left out is still to come for a while.
        let back = if offset > before { SHIFT_SECONDS } else { 0 };
        let mut from = after
            .checked_add(offset)?
            .checked_add(1)?
            .saturating_sub(back);
        loop {
            let local = self.next_local(from)?;
            let instant = zone.instant_seconds(local);
            if instant > after {
                return Some(instant);
            }
            from = local.checked_add(1)?;
        }
    }

    /// The first second from `from` on that is meant, both as shown by a clock.
    fn next_local(&self, from: i64) -> Option<i64> {
        let first = from.div_euclid(DAY_SECONDS);
        for day in first..first.checked_add(DAYS_MAX)? {
            if !self.has_day(day) {
                continue;
            }
            let start = day.checked_mul(DAY_SECONDS)?;
            let since = u32::try_from(from.saturating_sub(start).max(0)).ok()?;
            if let Some(second) = self.next_in_day(since) {
                return start.checked_add(i64::from(second));
            }
        }
        None
    }

    fn has_day(&self, day: i64) -> bool {
        let date = Date::of(day);
        if !has(self.months, date.month) {
            return false;
        }
        let last = Date::of(day + 1).day == 1;
        let by_day = has(self.days, date.day) || self.last_day && last;
        let by_weekday = has(self.weekdays, date.weekday);
        if self.by_day && self.by_weekday {
            by_day || by_weekday
        } else {
            by_day && by_weekday
        }
    }

    /// The first second of a day from `from` on.
    fn next_in_day(&self, from: u32) -> Option<u32> {
        let (hour, minute, second) = (from / 3600, from / 60 % 60, from % 60);
        let first_minute = self.minutes.trailing_zeros();
        let first_second = self.seconds.trailing_zeros();
        let at = |hour, minute, second| Some(hour * 3600 + minute * 60 + second);
        if has(self.hours, hour) {
            if has(self.minutes, minute) {
                if let Some(second) = next_bit(self.seconds, second) {
                    return at(hour, minute, second);
                }
            }
            if let Some(minute) = next_bit(self.minutes, minute + 1) {
                return at(hour, minute, first_second);
            }
        }
        at(next_bit(self.hours, hour + 1)?, first_minute, first_second)
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

fn is_any(field: &str) -> bool {
    field == "*" || field == "?"
}

/// A list of days without `L`, and whether that was there.
fn without_last(list: &str) -> (String, bool) {
    let items: Vec<&str> = list.split(',').collect();
    let rest: Vec<&str> = items
        .iter()
        .copied()
        .filter(|item| !item.eq_ignore_ascii_case("L"))
        .collect();
    (rest.join(","), rest.len() < items.len())
}

impl Field {
    fn bits(&self, list: &str) -> Result<u64, String> {
        let mut bits = 0;
        for item in list.split(',') {
            bits |= self.item(item)?;
        }
        Ok(bits)
    }

    fn item(&self, item: &str) -> Result<u64, String> {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => (range, Some(self.step(step, item)?)),
        };
        // 7 is just another name of Sunday.
        let end = if self.most == 7 { 6 } else { self.most };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" || range == "?" && self.question => (self.least, end),
            Some((from, to)) => (self.value(from, item)?, self.value(to, item)?),
            None => {
                let from = self.value(range, item)?;
                (from, if step.is_some() { end } else { from })
            }
        };
        let step = step.unwrap_or(1);
        let mut bits = 0;
        if from <= to {
            (from..=to).step_by(step).for_each(|n| bits |= 1 << n);
        } else {
            let round = (from..=end).chain(self.least..=to);
            round.step_by(step).for_each(|n| bits |= 1 << n);
        }
        Ok(bits)
    }

    fn step(&self, step: &str, item: &str) -> Result<usize, String> {
        match step.parse() {
            Ok(step) if step > 0 => Ok(step),
            _ => Err(format!(
                "'{item}' is no {}: the step is not a number",
                self.what
            )),
        }
    }

    fn value(&self, text: &str, item: &str) -> Result<u32, String> {
        let named = |name: &&str| name.eq_ignore_ascii_case(text);
        if let Some(place) = (self.least..).zip(self.names).find(|(_, name)| named(name)) {
            return Ok(place.0);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(value) if digits && (self.least..=self.most).contains(&value) => Ok(value),
            _ => {
                let Field {
                    what, least, most, ..
                } = self;
                let what_else = match self.names {
                    [first, .., last] => format!(" or {first} to {last}"),
                    _ => String::new(),
                };
                Err(format!(
                    "'{item}' is no {what}: {least} to {most}{what_else}"
                ))
            }
        }
    }
}

fn has(bits: u64, bit: u32) -> bool {
    bits.checked_shr(bit).is_some_and(|bits| bits & 1 == 1)
}

fn next_bit(bits: u64, from: u32) -> Option<u32> {
    let rest = bits.checked_shr(from)?;
    (rest != 0).then(|| from + rest.trailing_zeros())
}

/// A day of the Gregorian calendar.
struct Date {
    month: u32,
    day: u32,
    weekday: u32,
}

impl Date {
    /// The day with this number since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level
    /// Date Algorithms", `civil_from_days`).
    fn of(number: i64) -> Date {
        let since = number + 719_468;
        let day_of_era = since.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        let small = |number: i64| u32::try_from(number).unwrap_or(0);
        Date {
            month: small(month),
            day: small(day),
            // The first was a Thursday.
            weekday: small((number + 4).rem_euclid(7)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn next(cron: &str, after: &str, zone: &Zone) -> String {
        let next = Cron::parse(cron).unwrap().next_after(instant(after), zone);
        next.map_or("never".to_owned(), |next| {
            jiff::Timestamp::from_millisecond(next.0)
                .unwrap()
                .to_string()
        })
    }

    /// An expression, a time, and the next one meant.
    const NEXT: &[(&str, &str, &str)] = &[
        (
            "*/5 * * * * ?",
            "2024-01-01T00:00:00Z",
            "2024-01-01T00:00:05Z",
        ),
        (
            "*/5 * * * * ?",
            "2024-01-01T00:00:04.999Z",
            "2024-01-01T00:00:05Z",
        ),
        (
            "0 0 2 * * *",
            "2024-01-01T02:00:00Z",
            "2024-01-02T02:00:00Z",
        ),
        (
            "30 4 * * *",
            "2024-01-01T04:30:00.001Z",
            "2024-01-02T04:30:00Z",
        ),
        ("0 0 1 * *", "2024-01-31T12:00:00Z", "2024-02-01T00:00:00Z"),
        ("0 0 L * *", "2024-02-01T00:00:00Z", "2024-02-29T00:00:00Z"),
        (
            "0 0 15,l * ?",
            "2023-02-15T00:00:00Z",
            "2023-02-28T00:00:00Z",
        ),
        (
            "0 0 29 FEB *",
            "2096-03-01T00:00:00Z",
            "2104-02-29T00:00:00Z",
        ),
        (
            "0 0 * * MON",
            "2024-01-01T00:00:00Z",
            "2024-01-08T00:00:00Z",
        ),
        ("0 0 * * 7", "2024-01-01T00:00:00Z", "2024-01-07T00:00:00Z"),
        (
            "0 0 * * fri-mon",
            "2024-01-01T00:00:00Z",
            "2024-01-05T00:00:00Z",
        ),
        ("0 0 13 * 5", "2024-01-06T00:00:00Z", "2024-01-12T00:00:00Z"),
        ("0 0 13 * 5", "2024-01-12T00:00:00Z", "2024-01-13T00:00:00Z"),
        (
            "0 22-1/2 * * *",
            "2024-01-01T00:00:00Z",
            "2024-01-01T22:00:00Z",
        ),
        (
            "0 22-1/2 * * *",
            "2024-01-01T22:00:00Z",
            "2024-01-02T00:00:00Z",
        ),
        (
            "10/20 * * * *",
            "2024-01-01T00:31:00Z",
            "2024-01-01T00:50:00Z",
        ),
        (
            "59 59 23 31 DEC ?",
            "1969-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
        ),
    ];

    #[test]
    fn next_point_in_time() {
        for (cron, after, expected) in NEXT {
            assert_eq!(
                &next(cron, after, &Zone::UTC),
                expected,
                "{cron} after {after}"
            );
        }
    }

    #[test]
    fn clocks_that_are_changed() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let table = [
            // Put forward at 01:00Z on 2024-03-31: 02:30 is left out and comes at 03:30.
            ("30 2 * * *", "2024-03-30T01:30:00Z", "2024-03-31T01:30:00Z"),
            ("30 2 * * *", "2024-03-31T01:00:00Z", "2024-03-31T01:30:00Z"),
            ("30 2 * * *", "2024-03-31T01:30:00Z", "2024-04-01T00:30:00Z"),
            (
                "*/30 * * * *",
                "2024-03-31T00:30:00Z",
                "2024-03-31T01:00:00Z",
            ),
            // Put back at 01:00Z on 2024-10-27: 02:30 comes twice and counts once.
            ("30 2 * * *", "2024-10-26T00:30:00Z", "2024-10-27T00:30:00Z"),
            ("30 2 * * *", "2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"),
            (
                "*/30 * * * *",
                "2024-10-27T00:30:00Z",
                "2024-10-27T01:00:00Z",
            ),
            (
                "*/30 * * * *",
                "2024-10-27T01:00:00Z",
                "2024-10-27T01:30:00Z",
            ),
            ("15 * 1 7 *", "2024-03-01T00:00:00Z", "2024-06-30T22:15:00Z"),
        ];
        for (cron, after, expected) in table {
            assert_eq!(next(cron, after, &berlin), expected, "{cron} after {after}");
        }
    }

    #[test]
    fn steps_through_a_year_without_losing_one() {
        for name in [
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
        ] {
            let zone = Zone::named(name).unwrap();
            let (mut time, end) = (
                instant("2024-01-01T00:00:00Z"),
                instant("2025-01-01T00:00:00Z"),
            );
            let cron = Cron::parse("0 */20 * * * *").unwrap();
            let mut count = 0;
            while time < end {
                let next = cron.next_after(time, &zone).unwrap();
                assert!(next > time, "{name}");
                time = next;
                count += 1;
            }
            // Half an hour more or less moves the grid of twenty minutes in Lord Howe.
            assert!((26_350..=26_356).contains(&count), "{name}: {count}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            ("* * *", "5 fields, or 6 with seconds; this has 3"),
            ("61 * * * *", "'61' is no minute: 0 to 59"),
            (
                "* * * * FUNDAY",
                "'FUNDAY' is no day of the week: 0 to 7 or SUN to SAT",
            ),
            ("* * 0 * *", "'0' is no day of the month: 1 to 31"),
            (
                "*/0 * * * *",
                "'*/0' is no minute: the step is not a number",
            ),
            ("? * * * *", "'?' is no minute"),
            ("+5 * * * *", "'+5' is no minute"),
            ("0 0 30 2 *", "there is no such day"),
            ("0 0 15W * *", "'15W' is no day of the month"),
        ];
        for (cron, expected) in table {
            let fault = Cron::parse(cron).unwrap_err();
            assert!(fault.contains(expected), "{cron}: {fault}");
        }
    }
}
