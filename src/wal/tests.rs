//! The log over a store that fails on purpose.

use super::*;
use crate::event::{Stamp, Value};
use crate::store::sim::SimStore;

fn rows(count: u64) -> Batch {
    let mut rows = Batch::new(6);
    for row in 0..count {
        let float = |by: f64| Value::Float(by * f64::from(u32::try_from(row).unwrap()));
        let values = [
            Value::text(&format!("sensor-{:03}", row % 7)),
            float(0.1),
            if row % 5 == 0 {
                Value::Null
            } else {
                float(-3.0)
            },
            Value::Int(i64::MAX - i64::try_from(row * row).unwrap()),
            if row % 2 == 0 {
                Value::Int(i64::MIN)
            } else {
                Value::Int(i64::MAX)
            },
            Value::Bool(row % 3 == 0),
        ];
        rows.push(Stamp::default(), values);
    }
    rows
}

fn events(count: u64) -> Body {
    Body::Events {
        stream: "S".to_owned(),
        schema: 0xDEAD_BEEF,
        rows: rows(count),
        origin: Some(Origin {
            source: "mqtt".to_owned(),
            marks: vec![DeliveryMark {
                packet: 9,
                digest: u64::MAX,
            }],
        }),
    }
}

fn stamped(body: Body, first: Seq, time: Timestamp) -> Record {
    let mut record = Record { first, time, body };
    if let Body::Events { rows, .. } = &mut record.body {
        rows.stamp_all(first, time);
    }
    record
}

fn bodies() -> Vec<Body> {
    let rejected = Rejected {
        reason: "malformed".to_owned(),
        detail: "not JSON".to_owned(),
        bytes: vec![0xFF, 0, 7],
        bytes_total: 3,
    };
    vec![
        Body::Config {
            text: "[pipeline]".to_owned(),
            discards: true,
        },
        events(1),
        Body::Tick,
        events(100),
        Body::Rejected {
            stream: "S".to_owned(),
            rejected,
            origin: None,
        },
        events(3),
        Body::Clock(ClockState {
            boot: "6a3e6f0c-5f6e-4b0e-9d0c-0d7a6f4d7e11".to_owned(),
            trusted: true,
            wall: Timestamp(-5),
        }),
    ]
}

fn append(store: &SimStore, wal: &mut Wal, time: i64, body: &Body) -> Seq {
    let mut batch = WriteBatch::new();
    let first = wal.append(Timestamp(time), body, &mut batch).unwrap();
    store.write(batch).unwrap();
    first
}

/// Appends [`bodies`] at the times 1000, 1001, ….
fn filled() -> (SimStore, Vec<Record>) {
    let store = SimStore::new();
    let mut wal = open(&store, 1);
    let mut records = Vec::new();
    for (time, body) in (1000..).zip(bodies()) {
        let first = append(&store, &mut wal, time, &body);
        records.push(stamped(body, first, Timestamp(time)));
    }
    (store, records)
}

fn open(store: &SimStore, needed: u64) -> Wal {
    Wal::open(Arc::new(store.clone()), Seq(needed)).unwrap()
}

fn read(wal: &Wal, from: u64) -> (Vec<Record>, ReadEnd) {
    let mut records = Vec::new();
    let end = wal.read(Seq(from), &mut |record| {
        records.push(record);
        ControlFlow::Continue(())
    });
    (records, end.unwrap())
}

#[test]
fn everything_comes_back_after_reopening() {
    let (store, records) = filled();
    let wal = open(&store, 1);
    assert_eq!(
        read(&wal, 1),
        (records, ReadEnd::Whole { next: wal.next() })
    );
    assert_eq!(wal.next(), Seq(109));
    assert_eq!(wal.last_time(), Timestamp(1006));
    assert_eq!(wal.cut(), None);
}

#[test]
fn reading_may_begin_inside_of_a_record() {
    let (store, records) = filled();
    let (read, _) = read(&open(&store, 50), 50);
    assert_eq!(read.len(), 4);
    assert_eq!(read[0].first, Seq(50));
    let (Body::Events { rows: some, .. }, Body::Events { rows: all, .. }) =
        (&read[0].body, &records[3].body)
    else {
        panic!("events");
    };
    let tail: Vec<_> = all
        .rows()
        .iter()
        .skip(46)
        .map(|row| (row.stamp, row.values))
        .collect();
    let some: Vec<_> = some
        .rows()
        .iter()
        .map(|row| (row.stamp, row.values))
        .collect();
    assert_eq!(some, tail);
}

#[test]
fn time_does_not_go_back_and_a_record_is_not_empty() {
    let (store, _) = filled();
    let mut wal = open(&store, 1);
    let mut batch = WriteBatch::new();
    let back = wal.append(Timestamp(1005), &Body::Tick, &mut batch);
    assert!(matches!(back, Err(WalError::TimeWentBack { .. })));
    let none = wal.append(Timestamp(1006), &events(0), &mut batch);
    assert!(matches!(none, Err(WalError::NoRows)));
    assert!(batch.is_empty());
    assert_eq!(
        wal.append(Timestamp(1006), &Body::Tick, &mut batch)
            .unwrap(),
        Seq(109)
    );
}

#[test]
fn trimming_keeps_what_is_needed_and_the_newest_record() {
    let (store, records) = filled();
    let mut wal = open(&store, 1);
    for (below, kept) in [
        (1, 7),
        (3, 5),
        (4, 4),
        (103, 4),
        (104, 3),
        (1 << 40, 1),
        (1 << 40, 1),
    ] {
        let mut batch = WriteBatch::new();
        wal.trim(Seq(below), &mut batch).unwrap();
        store.write(batch).unwrap();
        assert_eq!(read(&wal, 1).0, records[7 - kept..], "below {below}");
    }
    let wal = open(&store, 109);
    assert_eq!((wal.next(), wal.last_time()), (Seq(109), Timestamp(1006)));
}

#[test]
fn damage_ends_the_log_and_no_number_is_given_twice() {
    for seed in 0..200 {
        let (store, records) = filled();
        let bad = if seed % 2 == 0 {
            store.flip_bit(b"L", seed * 7919)
        } else {
            store.tear(b"L", seed * 7919)
        };
        let bad = seq_of(&bad.unwrap()).unwrap();
        let whole: Vec<_> = records
            .iter()
            .filter(|record| record.first < bad)
            .cloned()
            .collect();
        let unopened = read(&open_as_is(&store), 1);
        assert_eq!(unopened.0, whole);
        assert!(matches!(unopened.1, ReadEnd::Cut { at, .. } if at == bad));

        let mut wal = open(&store, 1);
        let cut = wal.cut().unwrap().clone();
        assert_eq!(cut.at, bad);
        assert_eq!(
            cut.records,
            u64::try_from(records.len() - whole.len()).unwrap()
        );
        assert!(wal.next() >= Seq(109));
        let after = append(&store, &mut wal, 2000, &events(2));
        assert_eq!(after, cut.resumed_at);
        let wal = open(&store, 1);
        assert_eq!(wal.cut(), None, "reported once");
        let (again, end) = read(&wal, 1);
        assert_eq!(again[..whole.len()], whole);
        assert_eq!(again.len(), whole.len() + 1);
        assert_eq!(
            end,
            ReadEnd::Whole {
                next: after.plus(2)
            }
        );
    }
}

/// A log that has not looked for its end.
fn open_as_is(store: &SimStore) -> Wal {
    Wal {
        store: Arc::new(store.clone()),
        next: Seq(109),
        last_time: Timestamp::MIN,
        cut: None,
        sealer: Sealer::default(),
        payload: Vec::new(),
        tail: Vec::new(),
    }
}

#[test]
fn damage_before_what_is_needed_does_no_harm() {
    let (store, records) = filled();
    store.flip_bit(&key(table::LOG, Seq(2)), 99).unwrap();
    let wal = open(&store, 4);
    assert_eq!(wal.cut(), None);
    assert_eq!(read(&wal, 4).0, records[3..]);
}

#[test]
fn a_missing_record_ends_the_log() {
    let (store, records) = filled();
    let mut batch = WriteBatch::new();
    batch.delete(key(table::LOG, Seq(4)));
    store.write(batch).unwrap();
    let wal = open(&store, 1);
    assert_eq!(
        wal.cut().map(|cut| (cut.at, cut.records)),
        Some((Seq(4), 3))
    );
    assert_eq!(read(&wal, 1).0, records[..3]);
}

#[test]
fn a_crash_at_every_moment_of_mending_mends_the_same() {
    for operation in 1..5 {
        let (store, records) = filled();
        store.flip_bit(&key(table::LOG, Seq(4)), 5).unwrap();
        store.plan(
            store.operations() + operation,
            crate::store::sim::Fault::Crash,
        );
        let interrupted = Wal::open(Arc::new(store.clone()), Seq(1)).is_err();
        assert_eq!(interrupted, operation <= 2);
        store.crash(u64::MAX);
        let wal = open(&store, 1);
        assert_eq!(read(&wal, 1).0, records[..3]);
        assert!(wal.next() >= Seq(109));
    }
}

#[test]
fn a_lost_tail_is_skipped_when_something_has_seen_it() {
    let store = SimStore::new();
    let mut wal = open(&store, 500);
    assert_eq!(wal.next(), Seq(500));
    assert_eq!(append(&store, &mut wal, 1, &Body::Tick), Seq(500));
    let wal = open(&store, 1);
    assert_eq!(wal.next(), Seq(501));
    assert_eq!(read(&wal, 1).0.len(), 1);
}

#[test]
fn a_record_of_a_hundred_events_is_hardly_larger_than_what_is_random_in_it() {
    let mut x = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x
    };
    let mut rows = Batch::new(5);
    for row in 0..100 {
        let sensor = Value::text(&format!("sensor-{:03}", random() % 100));
        let mut float = |scale: f64| Value::Float((random() >> 11) as f64 / 2f64.powi(53) * scale);
        let (ts, count) = (1_700_000_000_000 + row, Value::Int(row));
        let values = [sensor, float(50.0), float(100.0), count, Value::Int(ts)];
        rows.push(Stamp::default(), values);
    }
    let body = Body::Events {
        stream: "S".to_owned(),
        schema: 7,
        rows,
        origin: None,
    };
    let store = SimStore::new();
    append(&store, &mut open(&store, 1), 5, &body);
    let bytes = store.bytes_live();
    // Two floats with 52 random bits each, and one of a hundred names: 13.9 bytes an event.
    assert!(bytes < 1740, "{bytes} bytes");
}
