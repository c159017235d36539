//! Time zones: what the clock on the wall shows, and when it shows it.
//!
//! The zones' rules are part of the program, so that every machine computes the same from a log,
//! whether it has rules of its own or not.

use jiff::tz::TimeZone;

use crate::event::Timestamp;

/// A time zone of the IANA database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    rules: TimeZone,
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone {
        rules: TimeZone::UTC,
    };

    /// The zone called `name`, such as `Europe/Berlin`, whatever the case.
    #[must_use]
    pub fn named(name: &str) -> Option<Zone> {
        let rules = TimeZone::get(name).ok()?;
        Some(Zone { rules })
    }

    /// The name of every zone.
    #[must_use]
    pub fn names() -> Vec<String> {
        let all = jiff::tz::db().available();
        all.map(|name| name.as_str().to_owned()).collect()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.rules.iana_name().unwrap_or("UTC")
    }

    /// How far clocks in the zone are ahead at the second `seconds` of universal time.
    pub(crate) fn offset_seconds(&self, seconds: i64) -> i64 {
        match jiff::Timestamp::from_second(seconds) {
            Ok(time) => i64::from(self.rules.to_offset(time).seconds()),
            // Before the year -9999 and behind 9999 there are no rules.
            Err(_) => 0,
        }
    }

    /// When clocks in the zone are next changed after the second `seconds`, as such a second.
    pub(crate) fn next_change(&self, seconds: i64) -> Option<i64> {
        let time = jiff::Timestamp::from_second(seconds).ok()?;
        let change = self.rules.following(time).next()?;
        Some(change.timestamp().as_second())
    }

    /// Like [`Zone::instant`], in seconds.
    pub(crate) fn instant_seconds(&self, local_seconds: i64) -> i64 {
        let shown = jiff::Timestamp::from_second(local_seconds);
        let Ok(shown) = shown.map(|shown| jiff::tz::Offset::UTC.to_datetime(shown)) else {
            return local_seconds;
        };
        let instant = self.rules.to_ambiguous_timestamp(shown).compatible();
        instant.map_or(local_seconds, |instant| instant.as_second())
    }

    /// What clocks in the zone show at `time`, as milliseconds since they showed the start of 1970.
    #[must_use]
    pub fn local_ms(&self, time: Timestamp) -> i64 {
        let offset = self.offset_seconds(time.0.div_euclid(1000));
        time.0.saturating_add(offset * 1000)
    }

    /// When clocks in the zone show `local_ms`. A time that is left out when clocks are put forward
    /// is as much later as they are put forward; of one that comes twice it is the first.
    #[must_use]
    pub fn instant(&self, local_ms: i64) -> Timestamp {
        let seconds = self.instant_seconds(local_ms.div_euclid(1000));
        let ms = local_ms.rem_euclid(1000);
        Timestamp(seconds.saturating_mul(1000).saturating_add(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_the_length_that_the_zone_gives_them() {
        let berlin = Zone::named("europe/berlin").unwrap();
        assert_eq!(berlin.name(), "Europe/Berlin");
        const DAY_MS: i64 = 86_400_000;
        let hours = |day: i64| {
            let (start, end) = (
                berlin.instant(day * DAY_MS),
                berlin.instant((day + 1) * DAY_MS),
            );
            assert_eq!(berlin.local_ms(start), day * DAY_MS);
            assert_eq!(
                berlin.local_ms(Timestamp(end.0 - 1)),
                (day + 1) * DAY_MS - 1
            );
            (end.0 - start.0) / 3_600_000
        };
        // 2024-03-30, 2024-03-31 and 2024-10-27.
        assert_eq!(hours(19_812), 24);
        assert_eq!(hours(19_813), 23);
        assert_eq!(hours(20_023), 25);
    }

    #[test]
    fn the_rules_do_not_come_from_the_machine() {
        assert!(Zone::names().len() > 400);
        assert_eq!(Zone::named("Europe/Nowhere"), None);
        assert_eq!(Zone::UTC.name(), "UTC");
    }
}
