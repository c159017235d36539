//! What is where in the common sentences.

use jiff::civil;
use jiff::tz::TimeZone;

use super::{Fields, Found};

/// Something that has a name.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) name: &'static str,
    pub(super) sentence: &'static str,
    pub(super) kind: Kind,
}

/// How it is written, and in which fields, counted from 1 on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// As it is; what it becomes is the column's business.
    Text(usize),
    /// A number.
    Number(usize),
    /// `ddmm.mmm` and, in the next field, `N` or `S`; decimal degrees, south negative.
    Latitude(usize),
    /// `dddmm.mmm` and, in the next field, `E` or `W`; decimal degrees, west negative.
    Longitude(usize),
    /// `hhmmss.sss` as milliseconds since midnight UTC.
    TimeOfDay(usize),
    /// `hhmmss.sss` and `ddmmyy`, as a point in time. Years are 1980 to 2079.
    DateTime { time: usize, date: usize },
    /// ZDA: `hhmmss.sss`, day, month and year in the first four fields.
    Zda,
}

const fn ready(name: &'static str, sentence: &'static str, kind: Kind) -> Ready {
    Ready {
        name,
        sentence,
        kind,
    }
}

/// Everything that has a name, sentence by sentence.
pub(super) const READY: &[Ready] = &[
    // Position, speed and date, as a receiver recommends them.
    ready("time", "RMC", Kind::DateTime { time: 1, date: 9 }),
    ready("time_of_day_ms", "RMC", Kind::TimeOfDay(1)),
    ready("status", "RMC", Kind::Text(2)),
    ready("latitude", "RMC", Kind::Latitude(3)),
    ready("longitude", "RMC", Kind::Longitude(5)),
    ready("speed_knots", "RMC", Kind::Number(7)),
    ready("course", "RMC", Kind::Number(8)),
    // A fix.
    ready("time_of_day_ms", "GGA", Kind::TimeOfDay(1)),
    ready("latitude", "GGA", Kind::Latitude(2)),
    ready("longitude", "GGA", Kind::Longitude(4)),
    ready("fix_quality", "GGA", Kind::Text(6)),
    ready("satellites", "GGA", Kind::Text(7)),
    ready("hdop", "GGA", Kind::Number(8)),
    ready("altitude_m", "GGA", Kind::Number(9)),
    ready("geoid_separation_m", "GGA", Kind::Number(11)),
    // Position.
    ready("latitude", "GLL", Kind::Latitude(1)),
    ready("longitude", "GLL", Kind::Longitude(3)),
    ready("time_of_day_ms", "GLL", Kind::TimeOfDay(5)),
    ready("status", "GLL", Kind::Text(6)),
    // Which satellites, and how well they stand.
    ready("fix_type", "GSA", Kind::Text(2)),
    ready("pdop", "GSA", Kind::Number(15)),
    ready("hdop", "GSA", Kind::Number(16)),
    ready("vdop", "GSA", Kind::Number(17)),
    // Course and speed over ground.
    ready("course", "VTG", Kind::Number(1)),
    ready("course_magnetic", "VTG", Kind::Number(3)),
    ready("speed_knots", "VTG", Kind::Number(5)),
    ready("speed_kmh", "VTG", Kind::Number(7)),
    // Date and time.
    ready("time", "ZDA", Kind::Zda),
    ready("time_of_day_ms", "ZDA", Kind::TimeOfDay(1)),
    // Heading, true and magnetic; rate of turn.
    ready("heading_true", "HDT", Kind::Number(1)),
    ready("heading_magnetic", "HDM", Kind::Number(1)),
    ready("heading_magnetic", "HDG", Kind::Number(1)),
    ready("rate_of_turn", "ROT", Kind::Number(1)),
    // Speed through water and heading.
    ready("heading_true", "VHW", Kind::Number(1)),
    ready("heading_magnetic", "VHW", Kind::Number(3)),
    ready("water_speed_knots", "VHW", Kind::Number(5)),
    // Wind: the reference is `R` (relative) or `T` (true), the unit `K`, `M` or `N`.
    ready("wind_angle", "MWV", Kind::Number(1)),
    ready("wind_reference", "MWV", Kind::Text(2)),
    ready("wind_speed", "MWV", Kind::Number(3)),
    ready("wind_unit", "MWV", Kind::Text(4)),
    ready("status", "MWV", Kind::Text(5)),
    // Depth below the transducer, and water temperature.
    ready("depth_m", "DBT", Kind::Number(3)),
    ready("depth_m", "DPT", Kind::Number(1)),
    ready("water_temperature_c", "MTW", Kind::Number(1)),
];

/// What a sentence has there.
///
/// # Errors
/// What was found instead.
pub(super) fn read<'a>(kind: Kind, fields: &Fields<'a>) -> Result<Found<'a>, &'static str> {
    match kind {
        Kind::Text(number) | Kind::Number(number) => Ok(fields.found(number)),
        Kind::Latitude(number) => degrees(fields, number, ["N", "S"], 90.0)
            .map_err(|()| "a latitude that is not ddmm.mmm and N or S"),
        Kind::Longitude(number) => degrees(fields, number, ["E", "W"], 180.0)
            .map_err(|()| "a longitude that is not dddmm.mmm and E or W"),
        Kind::TimeOfDay(number) => match fields.get(number) {
            "" => Ok(Found::Nothing),
            text => Ok(Found::Integer(time_of_day(text)?.0)),
        },
        Kind::DateTime { time, date } => match (fields.get(time), fields.get(date)) {
            ("", _) | (_, "") => Ok(Found::Nothing),
            (time, date) => {
                let (day, month, year) = three_pairs(date).ok_or(NOT_A_DATE)?;
                let century = if year < 80 { 2000 } else { 1900 };
                instant(century + i16::from(year), month, day, time)
            }
        },
        Kind::Zda => {
            let [time, day, month, year] = [1, 2, 3, 4].map(|number| fields.get(number));
            if time.is_empty() || year.is_empty() {
                return Ok(Found::Nothing);
            }
            match (year.parse(), month.parse(), day.parse()) {
                (Ok(year), Ok(month), Ok(day)) => instant(year, month, day, time),
                _ => Err(NOT_A_DATE),
            }
        }
    }
}

const NOT_A_DATE: &str = "a date that is none";
const NOT_A_TIME: &str = "a time that is not hhmmss.sss";

/// Degrees and minutes in one number: the last two digits before the point are minutes.
fn degrees<'a>(
    fields: &Fields<'_>,
    number: usize,
    sides: [&str; 2],
    max: f64,
) -> Result<Found<'a>, ()> {
    let (written, side) = (fields.get(number), fields.get(number + 1));
    if written.is_empty() && side.is_empty() {
        return Ok(Found::Nothing);
    }
    let point = written.find('.').unwrap_or(written.len());
    let (whole, minutes) = written
        .split_at_checked(point.checked_sub(2).ok_or(())?)
        .ok_or(())?;
    let is_digit = |c: char| c.is_ascii_digit() || c == '.';
    if !written.chars().all(is_digit) {
        return Err(());
    }
    let whole: f64 = match whole {
        "" => 0.0,
        whole => whole.parse().map_err(|_| ())?,
    };
    let minutes: f64 = minutes.parse().map_err(|_| ())?;
    let degrees = whole + minutes / 60.0;
    if minutes >= 60.0 || degrees > max {
        return Err(());
    }
    let [positive, negative] = sides;
    match side {
        side if side == positive => Ok(Found::Number(degrees)),
        side if side == negative => Ok(Found::Number(-degrees)),
        _ => Err(()),
    }
}

/// Milliseconds since midnight, and the time that they are.
fn time_of_day(written: &str) -> Result<(i64, civil::Time), &'static str> {
    let (whole, fraction) = written.split_once('.').unwrap_or((written, "0"));
    let (hour, minute, written_second) = three_pairs(whole).ok_or(NOT_A_TIME)?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NOT_A_TIME);
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let ms = digits.fold(0_i64, |ms, digit| ms * 10 + i64::from(digit - b'0'));
    // A leap second counts as the last one of its minute.
    let second = written_second.min(59);
    if hour > 23 || minute > 59 || written_second > 60 {
        return Err(NOT_A_TIME);
    }
    let seconds = (i64::from(hour) * 60 + i64::from(minute)) * 60 + i64::from(second);
    let time = civil::Time::midnight()
        .saturating_add(jiff::SignedDuration::from_millis(seconds * 1_000 + ms));
    Ok((seconds * 1_000 + ms, time))
}

/// `123456` as 12, 34 and 56.
fn three_pairs(written: &str) -> Option<(i8, i8, i8)> {
    if written.len() != 6 || !written.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let pair = |at: usize| written.get(at..at + 2)?.parse().ok();
    Some((pair(0)?, pair(2)?, pair(4)?))
}

fn instant<'a>(year: i16, month: i8, day: i8, time: &str) -> Result<Found<'a>, &'static str> {
    let (_, time) = time_of_day(time)?;
    let date = civil::Date::new(year, month, day).map_err(|_| NOT_A_DATE)?;
    let zoned = date.to_datetime(time).to_zoned(TimeZone::UTC);
    let zoned = zoned.map_err(|_| NOT_A_DATE)?;
    Ok(Found::Instant(zoned.timestamp().as_millisecond()))
}
