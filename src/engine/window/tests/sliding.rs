//! Sliding windows: which rows are in them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Event, KEY, Log, OWN, Step, VALUE, all_the_same, column, events, run};
use crate::sql::plan::{Emit, SortKey, UniqueBound, Window};

/// What is in a window when `events` have come and the clock shows `now`: their numbers.
fn content(plan: &Window, events: &[Event], now: i64) -> BTreeSet<u64> {
    let young = |event: &&Event, span_ms: i64| event.time + span_ms > now;
    let last = |rows: u64| {
        let rows = usize::try_from(rows).unwrap();
        events.len().saturating_sub(rows)
    };
    let found: Vec<&Event> = match plan {
        Window::Length { rows } => events[last(*rows)..].iter().collect(),
        Window::Time { span_ms } => events.iter().filter(|one| young(one, *span_ms)).collect(),
        Window::TimeLength { span_ms, rows } => {
            let latest = events[last(*rows)..].iter();
            latest.filter(|one| young(one, *span_ms)).collect()
        }
        Window::ExternalTime { span_ms, .. } => {
            let mut newest = None;
            let times: Vec<Option<i64>> = events
                .iter()
                .map(|event| {
                    newest = newest.max(event.own);
                    newest
                })
                .collect();
            let stays = |time: Option<i64>| match (time, newest) {
                (Some(time), Some(newest)) => time + span_ms > newest,
                (None, Some(_)) => false,
                (_, None) => true,
            };
            let rows = events.iter().zip(times);
            rows.filter(|(_, time)| stays(*time))
                .map(|(event, _)| event)
                .collect()
        }
        Window::Sort { rows, keys } => {
            let down = keys[0].descending;
            let mut sorted: Vec<&Event> = events.iter().collect();
            sorted.sort_by_key(|event| {
                // NULL behind the largest, or before it.
                let value = event.value.unwrap_or(1_000);
                (if down { -value } else { value }, event.seq)
            });
            sorted.truncate(usize::try_from(*rows).unwrap());
            sorted
        }
        Window::Unique { first, bound, .. } => unique(events, *first, *bound, now),
        other => panic!("no model of {other:?}"),
    };
    found.iter().map(|event| event.seq).collect()
}

fn unique(events: &[Event], first: bool, bound: UniqueBound, now: i64) -> Vec<&Event> {
    let mut held: Vec<&Event> = Vec::new();
    for event in events {
        if let UniqueBound::Span(span_ms) = bound {
            held.retain(|old| old.time + span_ms > event.time);
        }
        let known = held.iter().position(|old| old.key == event.key);
        match known {
            Some(_) if first => continue,
            Some(place) => {
                held.remove(place);
            }
            None => {}
        }
        held.push(event);
        if let UniqueBound::Rows(rows) = bound {
            if held.len() as u64 > rows {
                held.remove(0);
            }
        }
    }
    if let UniqueBound::Span(span_ms) = bound {
        held.retain(|old| old.time + span_ms > now);
    }
    held
}

/// What is in the window after its steps, which must be possible.
fn held(steps: &[Step]) -> BTreeSet<u64> {
    let mut held = BTreeSet::new();
    for step in steps {
        match step {
            Step::Enter(row) => assert!(held.insert(*row), "{row} is there already"),
            Step::Leave(row, _) | Step::Replaced(row) => {
                assert!(held.remove(row), "{row} is not there");
            }
            Step::Close(_) => panic!("a sliding window closes nothing"),
        }
    }
    held
}

fn plans() -> impl Strategy<Value = Window> {
    let sort = (1..5_u64, any::<bool>()).prop_map(|(rows, down)| Window::Sort {
        rows,
        keys: vec![SortKey {
            expr: column(VALUE),
            descending: down,
            nulls_first: down,
        }],
    });
    let bound = prop_oneof![
        Just(UniqueBound::None),
        (1..4_u64).prop_map(UniqueBound::Rows),
        (1..20_i64).prop_map(UniqueBound::Span),
    ];
    let unique = (any::<bool>(), bound).prop_map(|(first, bound)| Window::Unique {
        keys: vec![column(KEY)],
        first,
        bound,
    });
    prop_oneof![
        (1..9_u64).prop_map(|rows| Window::Length { rows }),
        (1..30_i64).prop_map(|span_ms| Window::Time { span_ms }),
        (1..30_i64, 1..6_u64).prop_map(|(span_ms, rows)| Window::TimeLength { span_ms, rows }),
        (1..30_i64).prop_map(|span_ms| Window::ExternalTime {
            time: Box::new(column(OWN)),
            span_ms,
        }),
        sort,
        unique,
    ]
}

proptest! {
    #[test]
    fn a_sliding_window_has_the_rows_it_should(plan in plans(), events in events()) {
        let whole = all_the_same(&plan, Emit::All, &events);
        let check = |done: &[Event], log: &Log| {
            let now = done.last().map_or(0, |event| event.time);
            assert_eq!(held(&log.0), content(&plan, done, now), "after {}", done.len());
        };
        let steps = run((&plan, Emit::All), &events, 1, None, check);
        prop_assert_eq!(&whole, &steps);
        // Rows that leave with time leave at their very time.
        let end = super::end(&events).time.0;
        prop_assert_eq!(held(&steps), content(&plan, &events, end));
        let mut gone: BTreeMap<u64, i64> = BTreeMap::new();
        for step in &steps {
            if let Step::Leave(row, at) = step {
                gone.insert(*row, at.time.0);
            }
        }
        for (row, at) in gone {
            let done = |until: i64| {
                events.iter().take_while(move |event| event.time <= until).copied()
            };
            let before: Vec<Event> = done(at - 1).collect();
            let came = events.iter().find(|event| event.seq == row).unwrap();
            if came.time < at {
                prop_assert!(content(&plan, &before, at - 1).contains(&row), "{} left late", row);
            }
            let after: Vec<Event> = done(at).collect();
            prop_assert!(!content(&plan, &after, at).contains(&row), "{} left early", row);
        }
    }
}
