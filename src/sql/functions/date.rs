//! Functions over the calendar. All take a TIMESTAMP (or BIGINT milliseconds), and where a day
//! depends on the place, a time zone at the end: UTC unless given, else a name of the IANA database
//! as compiled in, so that every machine computes the same, or an offset such as `+02:00`.

use jiff::civil::Time;
use jiff::fmt::strtime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp, Zoned};

use super::{Argument, Function, PLAIN, Parameter, Prepared, Returns, Signature};
use crate::diagnostic::did_you_mean;
use crate::event::{Type, Value};

const ADD: Signature = Signature {
    parameters: &[
        Parameter::Time,
        Parameter::Integer,
        Parameter::Text,
        Parameter::Text,
    ],
    optional: 1,
    repeats: 0,
    result: Returns::Fixed(Type::Timestamp),
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        names: &["date_add"],
        signature: ADD,
        prepare: Some(|arguments| added(arguments, 1)),
        doc: "date_add(time, n, unit [, zone]): n units later, by the calendar from 'day' up; \
              the last day of a month where there is none such; also `time + INTERVAL '1' DAY`",
        example: (
            "date_add(TIMESTAMP '2026-01-31', 1, 'month')",
            "TIMESTAMP '2026-02-28'",
        ),
        ..PLAIN
    },
    Function {
        names: &["date_sub"],
        signature: ADD,
        prepare: Some(|arguments| added(arguments, -1)),
        doc: "date_sub(time, n, unit [, zone]): n units earlier",
        example: (
            "date_sub(TIMESTAMP '2026-01-01', 90, 'minutes')",
            "TIMESTAMP '2025-12-31T22:30'",
        ),
        ..PLAIN
    },
    Function {
        names: &["date_diff"],
        signature: Signature {
            parameters: &[
                Parameter::Time,
                Parameter::Time,
                Parameter::Text,
                Parameter::Text,
            ],
            result: Returns::Fixed(Type::Long),
            ..ADD
        },
        prepare: Some(difference),
        doc: "date_diff(a, b, unit [, zone]): a - b in whole units",
        example: (
            "date_diff(TIMESTAMP '2026-03-01', TIMESTAMP '2026-02-01', 'days')",
            "28",
        ),
        ..PLAIN
    },
    Function {
        names: &["date_trunc"],
        signature: Signature {
            parameters: &[Parameter::Text, Parameter::Time, Parameter::Text],
            ..ADD
        },
        prepare: Some(truncated),
        doc: "date_trunc(unit, time [, zone]): the beginning of the unit; weeks begin on Monday",
        example: (
            "date_trunc('month', TIMESTAMP '2026-07-17T10:30')",
            "TIMESTAMP '2026-07-01'",
        ),
        ..PLAIN
    },
    Function {
        names: &["date_format", "formatDate"],
        signature: Signature {
            parameters: &[Parameter::Time, Parameter::Text, Parameter::Text],
            result: Returns::Fixed(Type::String),
            ..ADD
        },
        prepare: Some(formatted),
        doc: "date_format(time, format [, zone]): as text; %Y-%m-%d %H:%M:%S as in strftime",
        example: (
            "date_format(TIMESTAMP '2026-07-17T10:30', '%d.%m.%Y %H:%M', 'Europe/Berlin')",
            "'17.07.2026 12:30'",
        ),
        ..PLAIN
    },
    Function {
        names: &["date_parse", "parseDate"],
        signature: Signature {
            parameters: &[Parameter::Text, Parameter::Text, Parameter::Text],
            ..ADD
        },
        prepare: Some(parsed),
        doc: "date_parse(text, format [, zone]): the time that a text written like this means; \
              NULL when it is written otherwise",
        example: (
            "date_parse('17.07.2026 12:30', '%d.%m.%Y %H:%M')",
            "TIMESTAMP '2026-07-17T12:30'",
        ),
        ..PLAIN
    },
    Function {
        names: &["extract"],
        signature: Signature {
            parameters: &[Parameter::Text, Parameter::Time],
            optional: 0,
            repeats: 0,
            result: Returns::Fixed(Type::Long),
        },
        prepare: Some(extracted),
        doc: "extract(unit FROM time): year, quarter, month, week, day, dow, doy, hour, minute, \
              second, millisecond, or epoch (seconds); in UTC",
        example: ("extract(hour FROM TIMESTAMP '2026-07-17T10:30')", "10"),
        ..PLAIN
    },
];

/// A function for one part of a date.
macro_rules! part {
    ($names:expr, $part:expr, $doc:expr, $example:expr) => {
        Function {
            names: $names,
            signature: Signature {
                parameters: &[Parameter::Time, Parameter::Text],
                optional: 1,
                repeats: 0,
                result: Returns::Fixed(Type::Int),
            },
            prepare: Some(|arguments| {
                let zone = Zone::at(arguments, 1)?;
                Ok(Box::new(move |_, values| {
                    let time = zone.local(values, values.first()?)?;
                    Some(Value::Int(of_part($part, &time)))
                }))
            }),
            doc: $doc,
            example: $example,
            ..PLAIN
        }
    };
}

pub(super) const PARTS: &[Function] = &[
    part!(
        &["year"],
        Part::Year,
        "year(time [, zone]): the year",
        ("year(TIMESTAMP '2026-07-17')", "2026")
    ),
    part!(
        &["quarter"],
        Part::Quarter,
        "quarter(time [, zone]): 1 to 4",
        ("quarter(TIMESTAMP '2026-07-17')", "3")
    ),
    part!(
        &["month"],
        Part::Month,
        "month(time [, zone]): 1 to 12",
        ("month(TIMESTAMP '2026-07-17')", "7")
    ),
    part!(
        &["week"],
        Part::Week,
        "week(time [, zone]): of the year as in ISO 8601, 1 to 53",
        ("week(TIMESTAMP '2026-07-17')", "29")
    ),
    part!(
        &["day"],
        Part::Day,
        "day(time [, zone]): of the month",
        ("day(TIMESTAMP '2026-07-17')", "17")
    ),
    part!(
        &["day_of_week"],
        Part::DayOfWeek,
        "day_of_week(time [, zone]): 1 is Monday, 7 Sunday",
        ("day_of_week(TIMESTAMP '2026-07-17')", "5")
    ),
    part!(
        &["day_of_year"],
        Part::DayOfYear,
        "day_of_year(time [, zone]): from 1",
        ("day_of_year(TIMESTAMP '2026-07-17')", "198")
    ),
    part!(
        &["hour"],
        Part::Hour,
        "hour(time [, zone]): 0 to 23",
        ("hour(TIMESTAMP '2026-07-17T23:30', 'Europe/Berlin')", "1")
    ),
    part!(
        &["minute"],
        Part::Minute,
        "minute(time [, zone]): 0 to 59",
        ("minute(TIMESTAMP '2026-07-17T10:30')", "30")
    ),
    part!(
        &["second"],
        Part::Second,
        "second(time [, zone]): 0 to 59",
        ("second(TIMESTAMP '2026-07-17T10:30:59.9')", "59")
    ),
    part!(
        &["millisecond"],
        Part::Millisecond,
        "millisecond(time [, zone]): of the second, 0 to 999",
        ("millisecond(TIMESTAMP '2026-07-17T10:30:59.9')", "900")
    ),
];

#[derive(Clone, Copy)]
enum Part {
    Year,
    Quarter,
    Month,
    Week,
    Day,
    DayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Second,
    Millisecond,
    Epoch,
}

fn of_part(part: Part, time: &Zoned) -> i64 {
    match part {
        Part::Year => i64::from(time.year()),
        Part::Quarter => i64::from((time.month() + 2) / 3),
        Part::Month => i64::from(time.month()),
        Part::Week => i64::from(time.date().iso_week_date().week()),
        Part::Day => i64::from(time.day()),
        Part::DayOfWeek => i64::from(time.weekday().to_monday_one_offset()),
        Part::DayOfYear => i64::from(time.day_of_year()),
        Part::Hour => i64::from(time.hour()),
        Part::Minute => i64::from(time.minute()),
        Part::Second => i64::from(time.second()),
        Part::Millisecond => i64::from(time.millisecond()),
        Part::Epoch => time.timestamp().as_millisecond().div_euclid(1000),
    }
}

fn part_named(name: &str) -> Result<Part, String> {
    const NAMES: [(&str, Part); 14] = [
        ("year", Part::Year),
        ("quarter", Part::Quarter),
        ("month", Part::Month),
        ("week", Part::Week),
        ("day", Part::Day),
        ("dow", Part::DayOfWeek),
        ("day_of_week", Part::DayOfWeek),
        ("doy", Part::DayOfYear),
        ("day_of_year", Part::DayOfYear),
        ("hour", Part::Hour),
        ("minute", Part::Minute),
        ("second", Part::Second),
        ("millisecond", Part::Millisecond),
        ("epoch", Part::Epoch),
    ];
    let plain = name.to_ascii_lowercase();
    let plain = plain.strip_suffix('s').unwrap_or(&plain);
    let known = NAMES.iter().find(|(known, _)| *known == plain);
    match known {
        Some((_, part)) => Ok(*part),
        None => Err(unknown("unit", name, NAMES.iter().map(|(known, _)| *known))),
    }
}

fn extracted(arguments: &[Argument<'_>]) -> Result<Prepared, String> {
    let part = Constant::at(arguments, 0, part_named)?;
    let zone = Zone::Known(TimeZone::UTC);
    Ok(Box::new(move |_, values| {
        let time = zone.local(values, values.get(1)?)?;
        Some(Value::Int(of_part(part.get(values)?, &time)))
    }))
}

/// A span that a calendar has a word for.
#[derive(Clone, Copy)]
enum Unit {
    /// Always so many milliseconds.
    Fixed(i64),
    Days(i64),
    Months(i64),
}

fn unit_named(name: &str) -> Result<Unit, String> {
    const NAMES: [(&str, Unit); 9] = [
        ("millisecond", Unit::Fixed(1)),
        ("second", Unit::Fixed(1_000)),
        ("minute", Unit::Fixed(60_000)),
        ("hour", Unit::Fixed(3_600_000)),
        ("day", Unit::Days(1)),
        ("week", Unit::Days(7)),
        ("month", Unit::Months(1)),
        ("quarter", Unit::Months(3)),
        ("year", Unit::Months(12)),
    ];
    let name = name.to_ascii_lowercase();
    let plain = match name.as_str() {
        "ms" => "millisecond",
        "s" | "sec" => "second",
        "min" => "minute",
        "h" => "hour",
        "d" => "day",
        name => name.strip_suffix('s').unwrap_or(name),
    };
    let known = NAMES.iter().find(|(known, _)| *known == plain);
    match known {
        Some((_, unit)) => Ok(*unit),
        None => Err(unknown(
            "unit",
            &name,
            NAMES.iter().map(|(known, _)| *known),
        )),
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match did_you_mean(name, known.clone()) {
        Some(hint) => format!("unknown {what} '{name}'; {hint}"),
        None => {
            let known: Vec<&str> = known.collect();
            format!("unknown {what} '{name}'; known are {}", known.join(", "))
        }
    }
}

fn added(arguments: &[Argument<'_>], sign: i64) -> Result<Prepared, String> {
    let unit = Constant::at(arguments, 2, unit_named)?;
    let zone = Zone::at(arguments, 3)?;
    Ok(Box::new(move |_, values| {
        let millis = values.first()?.as_int()?;
        let count = values.get(1)?.as_int()?.checked_mul(sign)?;
        let span = match unit.get(values)? {
            Unit::Fixed(length) => {
                let later = millis.checked_add(count.checked_mul(length)?)?;
                return Some(Value::Int(later));
            }
            Unit::Days(days) => Span::new().try_days(count.checked_mul(days)?),
            Unit::Months(months) => Span::new().try_months(count.checked_mul(months)?),
        };
        let time = zone.local(values, values.first()?)?;
        let later = time.checked_add(span.ok()?).ok()?;
        Some(Value::Int(later.timestamp().as_millisecond()))
    }))
}

fn difference(arguments: &[Argument<'_>]) -> Result<Prepared, String> {
    let unit = Constant::at(arguments, 2, unit_named)?;
    let zone = Zone::at(arguments, 3)?;
    Ok(Box::new(move |_, values| {
        let (a, b) = (values.first()?, values.get(1)?);
        let largest = match unit.get(values)? {
            Unit::Fixed(length) => {
                let span = a.as_int()?.checked_sub(b.as_int()?)?;
                return span.checked_div(length).map(Value::Int);
            }
            Unit::Days(_) => jiff::Unit::Day,
            Unit::Months(_) => jiff::Unit::Month,
        };
        let (a, b) = (zone.local(values, a)?, zone.local(values, b)?);
        let span = b.until((largest, &a)).ok()?;
        let count = match unit.get(values)? {
            Unit::Fixed(_) => return None,
            Unit::Days(days) => i64::from(span.get_days()) / days,
            Unit::Months(months) => i64::from(span.get_months()) / months,
        };
        Some(Value::Int(count))
    }))
}

fn truncated(arguments: &[Argument<'_>]) -> Result<Prepared, String> {
    let unit = Constant::at(arguments, 0, unit_named)?;
    let zone = Zone::at(arguments, 2)?;
    Ok(Box::new(move |_, values| {
        let time = zone.local(values, values.get(1)?)?;
        let start = match unit.get(values)? {
            Unit::Fixed(length) => {
                let offset = i64::from(time.offset().seconds()) * 1000;
                let local = time.timestamp().as_millisecond().checked_add(offset)?;
                let start = local.checked_sub(local.rem_euclid(length))?;
                return Some(Value::Int(start.checked_sub(offset)?));
            }
            Unit::Days(1) => time,
            Unit::Days(_) => {
                let since = i64::from(time.weekday().to_monday_zero_offset());
                time.checked_sub(Span::new().try_days(since).ok()?).ok()?
            }
            Unit::Months(1) => time.first_of_month().ok()?,
            Unit::Months(months) => {
                let since = (i64::from(time.month()) - 1) % months;
                let first = time.first_of_month().ok()?;
                first
                    .checked_sub(Span::new().try_months(since).ok()?)
                    .ok()?
            }
        };
        let start = start.start_of_day().ok()?;
        Some(Value::Int(start.timestamp().as_millisecond()))
    }))
}

/// A format that can be used.
fn format_named(format: &str) -> Result<String, String> {
    if !format.contains('%') {
        let message = format!("'{format}' has no %; a format is written like '%Y-%m-%d %H:%M:%S'");
        return Err(message);
    }
    let example = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    match strtime::format(format, &example) {
        Ok(_) => Ok(format.to_owned()),
        Err(error) => Err(format!("'{format}' is not a format: {error}")),
    }
}

fn formatted(arguments: &[Argument<'_>]) -> Result<Prepared, String> {
    let format = Constant::at(arguments, 1, format_named)?;
    let zone = Zone::at(arguments, 2)?;
    Ok(Box::new(move |_, values| {
        let time = zone.local(values, values.first()?)?;
        strtime::format(format.get(values)?, &time)
            .ok()
            .map(Value::from)
    }))
}

fn parsed(arguments: &[Argument<'_>]) -> Result<Prepared, String> {
    let format = Constant::at(arguments, 1, format_named)?;
    let zone = Zone::at(arguments, 2)?;
    Ok(Box::new(move |_, values| {
        let text = values.first()?.as_str()?;
        let found = strtime::parse(format.get(values)?, text).ok()?;
        let instant = match found.to_timestamp() {
            Ok(instant) => instant,
            Err(_) => {
                // Without an offset it is a time in the zone, without a time of day midnight.
                let time = found.to_time().unwrap_or(Time::midnight());
                let local = found.to_date().ok()?.to_datetime(time);
                local.to_zoned(zone.get(values)?).ok()?.timestamp()
            }
        };
        Some(Value::Int(instant.as_millisecond()))
    }))
}

/// An argument that is mostly constant, and then is read once.
struct Constant<T> {
    index: usize,
    known: Option<T>,
    read: fn(&str) -> Result<T, String>,
}

impl<T: Clone> Constant<T> {
    fn at(
        arguments: &[Argument<'_>],
        index: usize,
        read: fn(&str) -> Result<T, String>,
    ) -> Result<Constant<T>, String> {
        let constant = arguments.get(index).and_then(|argument| argument.constant);
        let known = constant.and_then(Value::as_str).map(read).transpose()?;
        Ok(Constant { index, known, read })
    }

    fn get(&self, values: &[Value]) -> Option<T> {
        match &self.known {
            Some(known) => Some(known.clone()),
            None => (self.read)(values.get(self.index)?.as_str()?).ok(),
        }
    }
}

/// The time zone argument.
enum Zone {
    Known(TimeZone),
    Given(Constant<TimeZone>),
}

impl Zone {
    fn at(arguments: &[Argument<'_>], index: usize) -> Result<Zone, String> {
        if arguments.len() <= index {
            return Ok(Zone::Known(TimeZone::UTC));
        }
        let constant = Constant::at(arguments, index, zone_named)?;
        Ok(match constant.known {
            Some(zone) => Zone::Known(zone),
            None => Zone::Given(constant),
        })
    }

    fn get(&self, values: &[Value]) -> Option<TimeZone> {
        match self {
            Zone::Known(zone) => Some(zone.clone()),
            Zone::Given(constant) => constant.get(values),
        }
    }

    /// A time as clocks there show it.
    fn local(&self, values: &[Value], time: &Value) -> Option<Zoned> {
        let instant = Timestamp::from_millisecond(time.as_int()?).ok()?;
        Some(instant.to_zoned(self.get(values)?))
    }
}

/// A zone by its name in the IANA database, or `+02:00`.
fn zone_named(name: &str) -> Result<TimeZone, String> {
    if let Some(zone) = fixed_zone(name) {
        return Ok(zone);
    }
    TimeZone::get(name).map_err(|_| {
        format!("unknown time zone '{name}'; write a name such as 'Europe/Berlin' or '+02:00'")
    })
}

fn fixed_zone(name: &str) -> Option<TimeZone> {
    let sign = match name.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let (hours, minutes) = name
        .get(1..)?
        .split_once(':')
        .unwrap_or((name.get(1..)?, "0"));
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    if !(0..=23).contains(&hours) || !(0..=59).contains(&minutes) {
        return None;
    }
    let offset = Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()?;
    Some(TimeZone::fixed(offset))
}
