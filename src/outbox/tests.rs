//! The outbox over a store that fails on purpose.

use super::*;
use crate::event::{Field, Seq, Type};
use crate::store::sim::SimStore;

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
