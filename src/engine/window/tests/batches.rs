//! Batch windows: which rows each batch has, and when it closes.

use proptest::prelude::*;

use super::{Event, KEY, OWN, Step, all_the_same, column, end, events};
use crate::event::{Stamp, Timestamp};
use crate::sql::plan::{Emit, Window};

/// When a batch closes, and its rows.
type Closed = (i64, Vec<u64>);

/// Rows by the number of the period in which they lie, which `of` gives.
fn grouped(events: &[Event], of: impl Fn(&Event) -> i64) -> Vec<(i64, Vec<u64>)> {
    let mut groups: Vec<(i64, Vec<u64>)> = Vec::new();
    for event in events {
        let number = of(event);
        match groups.last_mut().filter(|(last, _)| *last == number) {
            Some((_, rows)) => rows.push(event.seq),
            None => groups.push((number, vec![event.seq])),
        }
    }
    groups
}

/// The batches of periods of `span_ms` from `anchor` on; behind one that has rows and before one
/// that has none there is an empty one.
fn periods(events: &[Event], span_ms: i64, anchor: i64) -> Vec<Closed> {
    let groups = grouped(events, |event| (event.time - anchor).div_euclid(span_ms));
    let mut closed: Vec<Closed> = Vec::new();
    for (place, (number, rows)) in groups.iter().enumerate() {
        let end = anchor + (number + 1) * span_ms;
        closed.push((end, rows.clone()));
        if groups.get(place + 1).is_none_or(|next| next.0 > number + 1) {
            closed.push((end + span_ms, Vec::new()));
        }
    }
    closed
}

fn hops(events: &[Event], size_ms: i64, hop_ms: i64, end: i64) -> Vec<Closed> {
    let mut closed: Vec<Closed> = Vec::new();
    let mut filled = false;
    let mut at = 0;
    while at <= end {
        let within = |event: &&Event| event.time >= at - size_ms && event.time < at;
        let rows: Vec<u64> = events
            .iter()
            .filter(within)
            .map(|event| event.seq)
            .collect();
        let was_filled = std::mem::replace(&mut filled, !rows.is_empty());
        if filled || was_filled {
            closed.push((at, rows));
        }
        at += hop_ms;
    }
    closed
}

fn sessions(events: &[Event], gap_ms: i64, latency_ms: i64, keyed: bool) -> Vec<Closed> {
    let mut found: Vec<Vec<&Event>> = Vec::new();
    for event in events {
        let same = |rows: &&mut Vec<&Event>| {
            let last = rows.last().unwrap();
            (!keyed || last.key == event.key) && event.time < last.time + gap_ms
        };
        match found.iter_mut().find(same) {
            Some(rows) => rows.push(event),
            None => found.push(vec![event]),
        }
    }
    let close = |rows: &Vec<&Event>| rows.last().unwrap().time + gap_ms + latency_ms;
    found.sort_by_key(|rows| (close(rows), rows[0].seq));
    let closed = found.iter().map(|rows| {
        let numbers = rows.iter().map(|event| event.seq).collect();
        (close(rows), numbers)
    });
    closed.collect()
}

/// Batches by the rows' own time, which never goes back; the last stays open.
fn external(events: &[Event], span_ms: i64, start: Option<i64>) -> Vec<Closed> {
    let first = events.iter().find_map(|event| event.own);
    let Some(anchor) = start.or(first) else {
        return Vec::new();
    };
    let mut closed: Vec<Closed> = Vec::new();
    let (mut newest, mut period) = (None, None);
    let (mut open, mut leaves) = (Vec::new(), false);
    for event in events {
        newest = newest.max(event.own);
        if let Some(newest) = newest {
            let now = (newest - anchor).div_euclid(span_ms);
            if let Some(before) = period.replace(now).filter(|before| *before < now) {
                if leaves || !open.is_empty() {
                    leaves = !open.is_empty();
                    closed.push((event.time, std::mem::take(&mut open)));
                }
                if leaves && before + 1 < now {
                    leaves = false;
                    closed.push((event.time, Vec::new()));
                }
            }
        }
        open.push(event.seq);
    }
    closed
}

fn model(plan: &Window, events: &[Event]) -> Vec<Closed> {
    match plan {
        Window::LengthBatch { rows } => {
            let rows = usize::try_from(*rows).unwrap();
            let full = events.chunks_exact(rows);
            full.map(|chunk| {
                let numbers = chunk.iter().map(|event| event.seq).collect();
                (chunk.last().unwrap().time, numbers)
            })
            .collect()
        }
        Window::TimeBatch { span_ms, start } => {
            let first = events.first().map_or(0, |event| event.time);
            periods(events, *span_ms, start.unwrap_or(first))
        }
        Window::Tumbling {
            span_ms, offset_ms, ..
        } => periods(events, *span_ms, *offset_ms),
        Window::Hop { size_ms, hop_ms } => hops(events, *size_ms, *hop_ms, end(events).time.0),
        Window::Session {
            gap_ms,
            key,
            latency_ms,
        } => sessions(events, *gap_ms, *latency_ms, key.is_some()),
        Window::ExternalTimeBatch { span_ms, start, .. } => external(events, *span_ms, *start),
        other => panic!("no model of {other:?}"),
    }
}

/// The batches that have closed, and the rows of one that is open.
fn batches(steps: &[Step]) -> Vec<Closed> {
    let (mut closed, mut open) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Enter(row) => open.push(*row),
            Step::Close(Stamp {
                time: Timestamp(at),
                ..
            }) => closed.push((*at, std::mem::take(&mut open))),
            Step::Leave(..) | Step::Replaced(_) => panic!("rows of a batch go together"),
        }
    }
    closed
}

fn plans() -> impl Strategy<Value = Window> {
    let start = || prop::option::of(-50..2_000_i64);
    prop_oneof![
        (1..9_u64).prop_map(|rows| Window::LengthBatch { rows }),
        (1..30_i64, start()).prop_map(|(span_ms, start)| Window::TimeBatch { span_ms, start }),
        (1..30_i64, 0..30_i64).prop_map(|(span_ms, offset)| Window::Tumbling {
            span_ms,
            offset_ms: offset % span_ms,
            zone: None,
        }),
        (1..30_i64, 1..30_i64).prop_map(|(size_ms, hop_ms)| Window::Hop { size_ms, hop_ms }),
        (1..12_i64, 0..12_i64, any::<bool>()).prop_map(|(gap_ms, latency_ms, keyed)| {
            Window::Session {
                gap_ms,
                key: keyed.then(|| column(KEY)),
                latency_ms: latency_ms.saturating_sub(4).max(0),
            }
        }),
        (1..30_i64, start()).prop_map(|(span_ms, start)| Window::ExternalTimeBatch {
            time: Box::new(column(OWN)),
            span_ms,
            start,
            timeout_ms: None,
        }),
    ]
}

proptest! {
    #[test]
    fn a_batch_has_the_rows_it_should_and_closes_in_time(plan in plans(), events in events()) {
        let mut expected = model(&plan, &events);
        let steps = all_the_same(&plan, Emit::All, &events);
        prop_assert_eq!(&batches(&steps), &expected);
        // Where nobody sees batches leave, nothing closes without a row.
        expected.retain(|(_, rows)| !rows.is_empty());
        let steps = all_the_same(&plan, Emit::Current, &events);
        prop_assert_eq!(&batches(&steps), &expected);
    }
}
