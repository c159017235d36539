//! Where one batch ends and the next begins, by time.

use std::cell::Cell;

use crate::event::Timestamp;
use crate::sql::cron::Cron;
use crate::sql::zone::Zone;

/// A division of time.
#[derive(Clone)]
pub(super) struct Periods {
    kind: Kind,
    /// A time and the end that was found for it, since looking into a calendar takes a while.
    known: Cell<Option<(Timestamp, Timestamp)>>,
}

#[derive(Clone)]
enum Kind {
    /// Every span from an anchor, which is fixed or still to come.
    Spans { span_ms: i64, anchor: Option<i64> },
    /// Every span of what clocks in a zone show, from the start of 1970 there plus an offset.
    Shown {
        span_ms: i64,
        offset_ms: i64,
        zone: Zone,
    },
    /// From one point in time to the next.
    Points { cron: Cron, zone: Zone },
}

impl Periods {
    fn new(kind: Kind) -> Periods {
        Periods {
            kind,
            known: Cell::new(None),
        }
    }

    pub(super) fn spans(span_ms: i64, anchor: Option<i64>) -> Periods {
        Periods::new(Kind::Spans { span_ms, anchor })
    }

    pub(super) fn shown(span_ms: i64, offset_ms: i64, zone: Zone) -> Periods {
        Periods::new(Kind::Shown {
            span_ms,
            offset_ms,
            zone,
        })
    }

    pub(super) fn points(cron: Cron, zone: Zone) -> Periods {
        Periods::new(Kind::Points { cron, zone })
    }

    /// Where an anchor was still to come, it is `time`.
    pub(super) fn begin(&mut self, time: i64) {
        if let Kind::Spans { anchor, .. } = &mut self.kind {
            anchor.get_or_insert(time);
        }
    }

    /// The anchor, which may have come with a row and so is state.
    pub(super) fn anchor(&self) -> Option<i64> {
        match self.kind {
            Kind::Spans { anchor, .. } => anchor,
            Kind::Shown { .. } | Kind::Points { .. } => None,
        }
    }

    /// Takes an anchor back.
    pub(super) fn set_anchor(&mut self, known: Option<i64>) {
        if let Kind::Spans { anchor, .. } = &mut self.kind {
            *anchor = known;
        }
    }

    /// The end of the period that `time` lies in: behind `time`.
    #[inline]
    pub(super) fn end_of(&self, time: Timestamp) -> Timestamp {
        if let Kind::Spans { span_ms, anchor } = self.kind {
            return end_of_span(time, span_ms, anchor.unwrap_or(time.0));
        }
        if let Some((from, end)) = self.known.get() {
            if from <= time && time < end {
                return end;
            }
        }
        let end = self.look_up(time);
        self.known.set(Some((time, end)));
        end
    }

    fn look_up(&self, time: Timestamp) -> Timestamp {
        match &self.kind {
            Kind::Spans { .. } => time,
            Kind::Shown {
                span_ms,
                offset_ms,
                zone,
            } => {
                let shown = zone.local_ms(time).saturating_sub(*offset_ms);
                let mut number = shown.div_euclid(*span_ms);
                loop {
                    number += 1;
                    let start = number.saturating_mul(*span_ms).saturating_add(*offset_ms);
                    let start = zone.instant(start);
                    // What clocks show twice has begun when they first show it.
                    if start > time || start.0 == i64::MAX {
                        return start;
                    }
                }
            }
            Kind::Points { cron, zone } => {
                cron.next_after(time, zone).unwrap_or(Timestamp(i64::MAX))
            }
        }
    }
}

fn end_of_span(time: Timestamp, span_ms: i64, anchor: i64) -> Timestamp {
    // In 128 bits, since a time far in the past minus an anchor far in the future overflows.
    let since = i128::from(time.0) - i128::from(anchor);
    let into = since.rem_euclid(i128::from(span_ms.max(1)));
    let rest = i128::from(span_ms) - into;
    time.plus_ms(i64::try_from(rest).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_follow_the_clocks_of_a_zone() {
        const HOUR_MS: i64 = 3_600_000;
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let days = Periods::shown(24 * HOUR_MS, 2 * HOUR_MS + HOUR_MS / 2, berlin);
        // The 27th of October 2024 at 02:00 summer time; 02:30 comes half an hour later, and an
        // hour after that once more.
        let night = Timestamp(1_729_987_200_000);
        let first = days.end_of(night);
        assert_eq!(first.0 - night.0, HOUR_MS / 2);
        let next = days.end_of(first);
        assert_eq!(next.0 - first.0, 25 * HOUR_MS);
        for minutes in 0..24 * 60 {
            assert_eq!(days.end_of(first.plus_ms(minutes * 60_000)), next);
        }
    }
}
