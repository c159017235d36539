//! The outbox over a store that fails on purpose.

use super::*;
use crate::event::{Field, Seq, Type};
use crate::store::sim::SimStore;
use std::collections::BTreeSet;

/// The log's clock where it does not matter.
const AT: Timestamp = Timestamp(1_000);

fn key(seq: u64) -> OutputKey {
    OutputKey {
        seq: Seq(seq),
        query: 1,
        ordinal: 2,
    }
}

fn schema(columns: &[(&str, Type)]) -> Arc<Schema> {
    let field = |(name, ty): &(&str, Type)| Field {
        name: (*name).to_owned(),
        ty: *ty,
    };
    Arc::new(Schema::new(columns.iter().map(field).collect()))
}

fn entry(seq: u64) -> Entry {
    Entry {
        key: key(seq),
        time: Timestamp(i64::try_from(seq).unwrap()),
        schema: schema(&[
            ("number", Type::Int),
            ("text", Type::String),
            ("more", Type::Double),
        ]),
        row: vec![
            Value::Int(7),
            Value::text("an alert of some length"),
            Value::Null,
        ],
    }
}

fn entries(seqs: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    seqs.map(entry).collect()
}

fn open(store: &SimStore, bytes_max: u64, full: Full) -> Outbox {
    let limits = Limits {
        bytes_max,
        full,
        ..Limits::NONE
    };
    let sinks = [("a".to_owned(), limits), ("ab".to_owned(), limits)];
    Outbox::open(Arc::new(store.clone()), &sinks).unwrap()
}

fn append(store: &SimStore, outbox: &mut Outbox, seqs: std::ops::RangeInclusive<u64>) -> Appended {
    let mut batch = WriteBatch::new();
    let done = outbox.append(0, AT, &entries(seqs), &mut batch).unwrap();
    store.write(batch).unwrap();
    done
}

fn confirm(store: &SimStore, outbox: &mut Outbox, through: u64) {
    let mut batch = WriteBatch::new();
    outbox.confirm(0, key(through), &mut batch).unwrap();
    store.write(batch).unwrap();
}

fn all(outbox: &mut Outbox, sink: usize) -> Vec<Entry> {
    outbox
        .read(sink, OutputKey::default(), usize::MAX, usize::MAX)
        .unwrap()
}

#[test]
fn outputs_are_read_in_order_and_kept_once() {
    let store = SimStore::new();
    let mut outbox = open(&store, 1 << 20, Full::Block);
    assert_eq!(append(&store, &mut outbox, 1..=1000).stored, 1000);
    let again = append(&store, &mut outbox, 990..=1010);
    assert_eq!((again.repeated, again.stored), (11, 10));
    let mut outbox = open(&store, 1 << 20, Full::Block);
    assert_eq!(outbox.last_key(0), Some(key(1010)));
    assert_eq!(outbox.depth(0).unwrap().entries, 1010);
    assert_eq!(all(&mut outbox, 0), entries(1..=1010));
    assert_eq!(all(&mut outbox, 1), []);
    let some = outbox.read(0, key(300), 5, usize::MAX).unwrap();
    assert_eq!(some, entries(301..=305));
    assert_eq!(outbox.read(0, key(300), 5, 0).unwrap(), entries(301..=301));
    assert_eq!(outbox.depth(0).unwrap().oldest, Some(AT));
    assert!(matches!(
        outbox.depth(2),
        Err(OutboxError::NoSink { sink: 2 })
    ));
}

#[test]
fn confirming_removes_and_counts_exactly() {
    let store = SimStore::new();
    let mut outbox = open(&store, 1 << 20, Full::Block);
    append(&store, &mut outbox, 1..=600);
    append(&store, &mut outbox, 601..=700);
    for through in [1, 2, 1, 255, 256, 300, 599, 600, 650, 699] {
        confirm(&store, &mut outbox, through);
        let most = through.max(outbox.cursor(0).unwrap().seq.0);
        assert_eq!(outbox.depth(0).unwrap().entries, 700 - most);
        assert_eq!(all(&mut outbox, 0), entries(most + 1..=700));
        let mut reopened = open(&store, 1 << 20, Full::Block);
        assert_eq!(reopened.depth(0).unwrap(), outbox.depth(0).unwrap());
        assert_eq!(all(&mut reopened, 0), entries(most + 1..=700));
    }
    confirm(&store, &mut outbox, 5000);
    assert_eq!(outbox.depth(0).unwrap(), Depth::default());
    let mut outbox = open(&store, 1 << 20, Full::Block);
    assert_eq!(outbox.last_key(0), Some(key(700)));
    assert_eq!(
        outbox.cursor(0),
        Some(key(700)),
        "never beyond what was appended"
    );
    assert_eq!(append(&store, &mut outbox, 700..=701).stored, 1);
}

#[test]
fn two_confirmations_in_one_batch_count_once() {
    let store = SimStore::new();
    let mut outbox = open(&store, 1 << 20, Full::Block);
    append(&store, &mut outbox, 1..=600);
    let mut batch = WriteBatch::new();
    outbox.confirm(0, key(300), &mut batch).unwrap();
    outbox.confirm(0, key(550), &mut batch).unwrap();
    store.write(batch).unwrap();
    assert_eq!(outbox.depth(0).unwrap().entries, 50);
    assert_eq!(
        open(&store, 1, Full::Block).depth(0).unwrap(),
        outbox.depth(0).unwrap()
    );
}

#[test]
fn the_limit_costs_old_or_new_ones_or_blocks() {
    for (full, kept) in [
        (Full::DropOldest, 391..=400),
        (Full::DropNewest, 1..=10),
        (Full::Block, 1..=400),
    ] {
        let store = SimStore::new();
        let probe = &mut open(&SimStore::new(), u64::MAX, full);
        append(&SimStore::new(), probe, 100..=109);
        let limit = probe.depth(0).unwrap().bytes + 20;
        let mut outbox = open(&store, limit, full);
        for ten in 0..40 {
            append(&store, &mut outbox, ten * 10 + 1..=ten * 10 + 10);
        }
        assert_eq!(all(&mut outbox, 0), entries(kept.clone()));
        assert_eq!(outbox.is_full(0), full == Full::Block);
        let dropped = if full == Full::Block { 0 } else { 390 };
        assert_eq!(outbox.counts(0).unwrap().dropped, dropped);
        let reopened = open(&store, limit, full);
        assert_eq!(reopened.counts(0).unwrap().dropped, dropped);
        assert_eq!(reopened.last_key(0), Some(key(400)));
        assert_eq!(reopened.depth(0).unwrap(), outbox.depth(0).unwrap());
    }
}

/// Entries with these numbers and another schema.
fn under(schema: &Arc<Schema>, seqs: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    let mut entries = entries(seqs);
    for entry in &mut entries {
        entry.schema = Arc::clone(schema);
    }
    entries
}

#[test]
fn outputs_keep_the_columns_they_were_made_with() {
    let old = schema(&[
        ("b", Type::Bool),
        ("i", Type::Int),
        ("l", Type::Long),
        ("f", Type::Float),
        ("d", Type::Double),
        ("größe \" s", Type::String),
        ("", Type::Timestamp),
    ]);
    let renamed = schema(&[("b", Type::Int), ("x", Type::String), ("y", Type::Double)]);
    let retyped = schema(&[("b", Type::Int), ("x", Type::String), ("y", Type::Float)]);
    let made = [
        under(&old, 1..=300),
        under(&renamed, 301..=310),
        under(&retyped, 311..=320),
        under(&old, 321..=330),
    ]
    .concat();
    let store = SimStore::new();
    let mut outbox = open(&store, 1 << 20, Full::Block);
    let mut batch = WriteBatch::new();
    assert_eq!(outbox.append(0, AT, &made, &mut batch).unwrap().stored, 330);
    assert_eq!(batch.len(), 5, "a group never has two schemas");
    store.write(batch).unwrap();
    assert_eq!(all(&mut outbox, 0), made);
    confirm(&store, &mut outbox, 5);
    let mut outbox = open(&store, 1 << 20, Full::Block);
    assert_eq!(outbox.depth(0).unwrap().entries, 325);
    assert_eq!(all(&mut outbox, 0), made[5..]);
}

#[test]
fn groups_with_equal_columns_share_them() {
    let store = SimStore::new();
    let mut outbox = open(&store, 1 << 20, Full::Block);
    append(&store, &mut outbox, 1..=600);
    let mut outbox = open(&store, 1 << 20, Full::Block);
    let read = all(&mut outbox, 0);
    let again = all(&mut outbox, 0);
    let first = &read[0].schema;
    let mut others = read.iter().chain(&again);
    assert!(others.all(|entry| Arc::ptr_eq(&entry.schema, first)));
}

#[test]
fn columns_that_cannot_be_read_are_damage() {
    let (prefix, _) = entry::prefixes("a").unwrap();
    let rows = [(1, 2, 1, 1, [Value::text("x")])];
    let value = |columns: &[&str], claimed: Option<u32>| {
        let columns = cbor::encode(&columns).unwrap();
        let length = claimed.unwrap_or(u32::try_from(columns.len()).unwrap());
        let mut payload = length.to_le_bytes().to_vec();
        payload.extend(columns);
        cbor::encode_into(&rows, &mut payload).unwrap();
        let mut head = Vec::new();
        for _ in 0..2 {
            head.extend_from_slice(&1u64.to_le_bytes());
            head.extend_from_slice(&2u32.to_le_bytes());
            head.extend_from_slice(&1u32.to_le_bytes());
        }
        head.extend_from_slice(&1u32.to_le_bytes());
        head.extend_from_slice(&1i64.to_le_bytes());
        Sealer::default().seal(1, &head, &payload).unwrap()
    };
    for (columns, claimed, damaged) in [
        (&["sx"][..], None, 0),
        (&["s"], None, 0),
        (&["zx"], None, 1),
        (&[""], None, 1),
        (&["sx"], Some(2), 1),
        (&["sx"], Some(u32::MAX), 1),
    ] {
        let store = SimStore::new();
        let mut batch = WriteBatch::new();
        batch.put(entry::place(&prefix, key(1)), value(columns, claimed));
        store.write(batch).unwrap();
        let mut outbox = open(&store, 1 << 20, Full::Block);
        assert_eq!(outbox.damage(), [] as [&str; 0]);
        let read = all(&mut outbox, 0);
        assert_eq!(
            outbox.counts(0).unwrap().damaged,
            damaged,
            "{columns:?} {claimed:?}"
        );
        assert_eq!(read.len(), usize::from(damaged == 0));
    }
}

#[test]
fn sinks_that_are_gone_are_named_and_left_alone() {
    let store = SimStore::new();
    let limits = Limits::NONE;
    let of = |names: &[&str]| {
        let sinks = names.iter().map(|name| ((*name).to_owned(), limits));
        Outbox::open(Arc::new(store.clone()), &sinks.collect::<Vec<_>>()).unwrap()
    };
    let mut outbox = of(&["a", "ab", "b", "done", "never"]);
    assert_eq!(outbox.strays(), []);
    let mut batch = WriteBatch::new();
    for (sink, last) in [(0, 600), (1, 300), (2, 10), (3, 4)] {
        outbox
            .append(sink, AT, &entries(1..=last), &mut batch)
            .unwrap();
    }
    store.write(batch).unwrap();
    let mut batch = WriteBatch::new();
    outbox.confirm(0, key(300), &mut batch).unwrap();
    outbox.confirm(3, key(4), &mut batch).unwrap();
    // Neither is a key of an outbox.
    batch.put(b"O\0".as_slice(), b"".as_slice());
    batch.put(
        [b"O\0\x01z".as_slice(), &[255; 40]].concat(),
        b"".as_slice(),
    );
    store.write(batch).unwrap();
    let stray = |name: &str, entries| Stray {
        name: name.to_owned(),
        entries,
    };
    assert_eq!(of(&["a", "ab", "b", "done"]).strays(), []);
    let strays = [stray("a", 300), stray("ab", 300), stray("done", 0)];
    assert_eq!(of(&["b", "new"]).strays(), strays);
    assert_eq!(of(&["b", "new"]).strays(), strays, "nothing was changed");
    let mut back = of(&["a"]);
    assert_eq!(all(&mut back, 0), entries(301..=600));
    assert_eq!(back.strays()[1], stray("b", 10));
}

#[test]
fn a_damaged_group_is_skipped_and_counted() {
    for seed in 0..100 {
        let store = SimStore::new();
        let mut outbox = open(&store, 1 << 20, Full::Block);
        for ten in 0..4 {
            append(&store, &mut outbox, ten * 10 + 1..=ten * 10 + 10);
        }
        let place = if seed % 2 == 0 {
            store.flip_bit(b"O", seed * 7919).unwrap()
        } else {
            store.tear(b"O", seed * 7919).unwrap()
        };
        let (prefix, _) = entry::prefixes("a").unwrap();
        let lost = entry::key_of(&prefix, &place).unwrap().seq.0;
        let whole: Vec<_> = entries(1..=40)
            .into_iter()
            .filter(|entry| !(lost..lost + 10).contains(&entry.key.seq.0))
            .collect();
        assert_eq!(all(&mut outbox, 0), whole);
        assert_eq!(all(&mut outbox, 0), whole);
        assert_eq!(outbox.counts(0).unwrap().damaged, 1, "counted once");
        let mut reopened = open(&store, 1 << 20, Full::Block);
        assert_eq!(reopened.damage().len(), 1);
        assert_eq!(reopened.counts(0).unwrap().damaged, 1);
        assert_eq!(reopened.depth(0).unwrap().entries, 30);
        assert_eq!(all(&mut reopened, 0), whole);
        confirm(&store, &mut outbox, 40);
        assert_eq!(outbox.depth(0).unwrap(), Depth::default());
    }
}

/// With a time to live of 100 ms.
fn mortal(dead_letters: bool) -> Limits {
    Limits {
        ttl_ms: Some(100),
        dead_letters,
        ..Limits::NONE
    }
}

fn open_with(store: &SimStore, limits: Limits) -> Outbox {
    Outbox::open(Arc::new(store.clone()), &[("a".to_owned(), limits)]).unwrap()
}

fn append_at(
    store: &SimStore,
    outbox: &mut Outbox,
    now: i64,
    seqs: std::ops::RangeInclusive<u64>,
) -> Appended {
    let mut batch = WriteBatch::new();
    let now = Timestamp(now);
    let done = outbox.append(0, now, &entries(seqs), &mut batch).unwrap();
    store.write(batch).unwrap();
    done
}

fn expire(store: &SimStore, outbox: &mut Outbox, now: i64) -> Expired {
    let mut batch = WriteBatch::new();
    let done = outbox.expire(0, Timestamp(now), &mut batch).unwrap();
    store.write(batch).unwrap();
    done
}

#[test]
fn what_has_waited_too_long_is_given_up() {
    let store = SimStore::new();
    let mut outbox = open_with(&store, mortal(true));
    assert_eq!(outbox.next_expiry(0), None);
    append_at(&store, &mut outbox, 1_000, 1..=10);
    append_at(&store, &mut outbox, 1_050, 11..=20);
    confirm(&store, &mut outbox, 3);
    assert_eq!(outbox.next_expiry(0), Some(Timestamp(1_100)));
    assert_eq!(expire(&store, &mut outbox, 1_099), Expired::default());
    let done = expire(&store, &mut outbox, 1_100);
    assert_eq!((done.expired, done.given_up), (7, entries(4..=10)));
    assert!(!done.more);
    assert_eq!(outbox.settled(0), Some(key(10)));
    assert_eq!(outbox.cursor(0), Some(key(3)), "the far side's word");
    assert_eq!(all(&mut outbox, 0), entries(11..=20));
    let mut outbox = open_with(&store, mortal(false));
    assert_eq!(outbox.next_expiry(0), Some(Timestamp(1_150)));
    assert_eq!(outbox.depth(0).unwrap().entries, 10);
    // It was on its way all the same, and has arrived.
    confirm(&store, &mut outbox, 8);
    let done = expire(&store, &mut outbox, 1_150);
    assert_eq!((done.expired, done.given_up), (10, vec![]));
    let counts = Counts {
        confirmed: 3,
        expired: 17,
        ..Counts::default()
    };
    assert_eq!(outbox.counts(0), Some(counts));
    assert_eq!(open_with(&store, mortal(false)).counts(0), Some(counts));
    assert_eq!(outbox.depth(0).unwrap(), Depth::default());
    assert_eq!(append_at(&store, &mut outbox, 1_160, 1..=20).repeated, 20);
}

#[test]
fn giving_up_goes_in_small_steps() {
    let store = SimStore::new();
    let mut outbox = open_with(&store, mortal(true));
    append_at(&store, &mut outbox, 1_000, 1..=10_000);
    append_at(&store, &mut outbox, 1_001, 10_001..=10_002);
    let mut given_up = Vec::new();
    let mut steps = 0;
    loop {
        let done = expire(&store, &mut outbox, 1_100);
        assert!(done.given_up.len() <= EXPIRE_GROUPS_MAX * GROUP_ENTRIES_MAX);
        given_up.extend(done.given_up);
        steps += 1;
        if !done.more {
            break;
        }
    }
    assert_eq!(steps, 40_usize.div_ceil(EXPIRE_GROUPS_MAX));
    assert_eq!(given_up, entries(1..=10_000));
    assert_eq!(all(&mut outbox, 0), entries(10_001..=10_002));
}

#[test]
fn the_age_from_before_the_clock_was_set_is_not_known() {
    let set = 1_700_000_000_000;
    let store = SimStore::new();
    let mut outbox = open_with(&store, mortal(false));
    append_at(&store, &mut outbox, 5_000, 1..=10);
    assert_eq!(outbox.next_expiry(0), Some(Timestamp(5_100)));
    append_at(&store, &mut outbox, set, 11..=20);
    assert_eq!(expire(&store, &mut outbox, set + 99).expired, 0);
    assert_eq!(outbox.next_expiry(0), Some(Timestamp(set + 100)));
    assert_eq!(expire(&store, &mut outbox, set + 100).expired, 20);
}

#[test]
fn a_limit_that_is_lowered_takes_effect() {
    let store = SimStore::new();
    let mut outbox = open_with(&store, Limits::NONE);
    append_at(&store, &mut outbox, 1_000, 1..=2_560);
    let half = outbox.depth(0).unwrap().bytes / 2;
    let limits = Limits {
        bytes_max: half,
        full: Full::DropOldest,
        dead_letters: true,
        ..Limits::NONE
    };
    let mut outbox = open_with(&store, limits);
    assert_eq!(outbox.next_expiry(0), Some(Timestamp(1_000)));
    let done = expire(&store, &mut outbox, 1_000);
    assert_eq!((done.expired, done.given_up, done.more), (0, vec![], false));
    assert_eq!(done.given_up_for_limit, entries(1..=done.dropped));
    let kept = outbox.depth(0).unwrap();
    assert_eq!(kept.entries, 2_560 - done.dropped);
    assert!(kept.bytes <= half && half < kept.bytes + half / 4);
    assert_eq!(outbox.next_expiry(0), None);
}

#[test]
fn the_limit_holds_among_what_is_not_written_yet() {
    let store = SimStore::new();
    let limits = Limits {
        bytes_max: 4_000,
        full: Full::DropOldest,
        dead_letters: true,
        ..Limits::NONE
    };
    let mut outbox = open_with(&store, limits);
    let mut batch = WriteBatch::new();
    let mut given_up = Vec::new();
    for hundred in 0..50 {
        let turn = entries(hundred * 100 + 1..=hundred * 100 + 100);
        let done = outbox.append(0, AT, &turn, &mut batch).unwrap();
        given_up.extend(done.given_up);
        assert!(outbox.depth(0).unwrap().bytes <= 4_000);
    }
    store.write(batch).unwrap();
    let kept = all(&mut outbox, 0);
    assert!(!kept.is_empty());
    assert_eq!([given_up, kept].concat(), entries(1..=5_000));
    let reopened = open_with(&store, limits);
    assert_eq!(reopened.depth(0).unwrap(), outbox.depth(0).unwrap());
    assert_eq!(reopened.counts(0), outbox.counts(0));
}

#[test]
fn what_is_larger_than_the_limit_costs_no_other() {
    for full in [Full::DropOldest, Full::DropNewest] {
        let store = SimStore::new();
        let mut outbox = open_with(
            &store,
            Limits {
                bytes_max: 2_000,
                full,
                dead_letters: true,
                ..Limits::NONE
            },
        );
        let mut turn = entries(1..=9);
        let noise = (0..200_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_string());
        turn[4].row[1] = Value::text(&noise.collect::<String>());
        let mut batch = WriteBatch::new();
        let done = outbox.append(0, AT, &turn, &mut batch).unwrap();
        store.write(batch).unwrap();
        assert_eq!((done.stored, done.dropped), (8, 1));
        assert_eq!(done.given_up, [turn.remove(4)]);
        assert_eq!(all(&mut outbox, 0), turn);
    }
}

#[test]
fn one_that_is_refused_is_given_back_and_counted_apart() {
    let store = SimStore::new();
    let mut outbox = open_with(&store, Limits::NONE);
    append_at(&store, &mut outbox, 1_000, 1..=600);
    let refuse = |outbox: &mut Outbox, seq| {
        let mut batch = WriteBatch::new();
        let refused = outbox.refuse(0, key(seq), &mut batch).unwrap();
        store.write(batch).unwrap();
        refused
    };
    assert_eq!(refuse(&mut outbox, 300), Some(entry(300)));
    assert_eq!(refuse(&mut outbox, 300), None);
    assert_eq!(refuse(&mut outbox, 601), None);
    let counts = outbox.counts(0).unwrap();
    assert_eq!((counts.confirmed, counts.refused), (599, 1));
    assert_eq!(outbox.depth(0).unwrap(), Depth::default());
}

#[test]
fn what_the_release_before_wrote_is_read() {
    let store = SimStore::new();
    let (_, state_key) = entry::prefixes("a").unwrap();
    let mut head = Vec::new();
    for seq in [4u64, 9] {
        head.extend_from_slice(&seq.to_le_bytes());
        head.extend_from_slice(&2u32.to_le_bytes());
        head.extend_from_slice(&1u32.to_le_bytes());
    }
    head.extend_from_slice(&70u64.to_le_bytes());
    head.extend_from_slice(&3u64.to_le_bytes());
    let mut batch = WriteBatch::new();
    batch.put(state_key, Sealer::default().seal(2, &head, &[]).unwrap());
    store.write(batch).unwrap();
    let mut outbox = open_with(&store, Limits::NONE);
    assert_eq!(outbox.damage(), [] as [&str; 0]);
    let cursor_and_last = (outbox.cursor(0), outbox.last_key(0));
    assert_eq!(cursor_and_last, (Some(key(4)), Some(key(9))));
    append_at(&store, &mut outbox, 1_000, 9..=12);
    confirm(&store, &mut outbox, 10);
    let counts = Counts {
        confirmed: 1,
        dropped: 70,
        damaged: 3,
        ..Counts::default()
    };
    assert_eq!(outbox.counts(0), Some(counts));
    let reopened = open_with(&store, Limits::NONE);
    assert_eq!(reopened.counts(0), Some(counts));
    assert_eq!(reopened.depth(0).unwrap().entries, 2);
}

#[test]
fn many_damaged_groups_are_removed_and_a_few_are_named() {
    let store = SimStore::new();
    let mut outbox = open_with(&store, Limits::NONE);
    append_at(&store, &mut outbox, 1_000, 1..=256 * 100);
    let mut spoiled = BTreeSet::new();
    for seed in 0..300 {
        spoiled.insert(store.tear(b"O", seed * 100 + seed % 100).unwrap());
    }
    let bad = spoiled.len();
    let mut outbox = open_with(&store, Limits::NONE);
    assert!(bad > 2 * DAMAGE_NAMED_MAX, "{bad}");
    assert_eq!(outbox.damage().len(), DAMAGE_NAMED_MAX + 1);
    assert_eq!(outbox.counts(0).unwrap().damaged, bad as u64);
    let whole = 256 * (100 - bad);
    assert_eq!(outbox.depth(0).unwrap().entries, whole as u64);
    assert_eq!(all(&mut outbox, 0).len(), whole);
    assert_eq!(open_with(&store, Limits::NONE).damage(), [] as [&str; 0]);
}

#[test]
fn memory_does_not_grow_with_the_backlog() {
    const OUTPUTS: u64 = 200_000;
    let store = SimStore::new();
    let mut outbox = open_with(&store, mortal(false));
    let mut largest = 0;
    for turn in 0..OUTPUTS / 1_000 {
        append_at(
            &store,
            &mut outbox,
            1_000,
            turn * 1_000 + 1..=turn * 1_000 + 1_000,
        );
        largest = largest.max(outbox.sinks[0].memory_bytes());
    }
    let mut outbox = open_with(&store, mortal(false));
    assert_eq!(outbox.depth(0).unwrap().entries, OUTPUTS);
    let mut after = OutputKey::default();
    while let Some(last) = outbox.read(0, after, 100, usize::MAX).unwrap().last() {
        after = last.key;
        confirm(&store, &mut outbox, after.seq.0);
        largest = largest.max(outbox.sinks[0].memory_bytes());
    }
    assert_eq!(after, key(OUTPUTS));
    assert_eq!(outbox.counts(0).unwrap().confirmed, OUTPUTS);
    let keys_of_one_group = GROUP_ENTRIES_MAX * size_of::<OutputKey>();
    assert!(largest < 2 * keys_of_one_group, "{largest} bytes");
}
