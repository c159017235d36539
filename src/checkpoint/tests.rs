//! Checkpoints over a store that fails on purpose.

use super::*;
use crate::store::sim::SimStore;

fn snapshot(seq: u64, chunks: usize, bytes: usize) -> Snapshot {
    let chunk = |index: usize| Chunk {
        operator: u64::try_from(index % 3).unwrap(),
        key: u64::try_from(index).unwrap(),
        bytes: (0..bytes)
            .map(|at| u8::try_from((at * index) % 251).unwrap())
            .collect(),
    };
    let mark = DeliveryMark {
        packet: 7,
        digest: u64::MAX,
    };
    Snapshot {
        seq: Seq(seq),
        time: Timestamp(-5),
        application: "SELECT 1".to_owned(),
        chunks: (0..chunks).map(chunk).collect(),
        marks: BTreeMap::from([("mqtt".to_owned(), vec![mark])]),
    }
}

fn save(store: &SimStore, checkpoints: &mut Checkpoints, snapshot: &Snapshot) {
    let mut batch = WriteBatch::new();
    checkpoints.save(snapshot, &mut batch).unwrap();
    store.write(batch).unwrap();
}

fn open(store: &SimStore) -> Checkpoints {
    Checkpoints::open(Arc::new(store.clone()), 2).unwrap()
}

#[test]
fn the_newest_comes_back_and_two_are_kept() {
    let store = SimStore::new();
    let mut checkpoints = open(&store);
    assert_eq!(checkpoints.load_latest().unwrap(), Loaded::default());
    assert_eq!(checkpoints.oldest_retained(), None);
    for (seq, chunks, bytes) in [(1, 0, 0), (2, 1, 200_000), (5, 300, 1000), (9, 40, 5)] {
        save(&store, &mut checkpoints, &snapshot(seq, chunks, bytes));
        let loaded = open(&store).load_latest().unwrap();
        assert_eq!(loaded.snapshot, Some(snapshot(seq, chunks, bytes)));
        assert_eq!(loaded.skipped, Vec::<String>::new());
    }
    assert_eq!(checkpoints.oldest_retained(), Some(Seq(5)));
    assert_eq!(open(&store).oldest_retained(), Some(Seq(5)));
    let mut numbers = std::collections::BTreeSet::new();
    let all = &mut |key: &[u8], _: &[u8]| {
        numbers.extend(place_of(key).map(|(number, _)| number));
        ControlFlow::Continue(())
    };
    store.range(b"C", b"D", all).unwrap();
    assert_eq!(numbers.len(), 2);
}

#[test]
fn any_flipped_or_torn_value_leads_to_the_older_one() {
    for seed in 0..60 {
        let store = SimStore::new();
        let mut checkpoints = open(&store);
        save(&store, &mut checkpoints, &snapshot(3, 100, 1000));
        save(&store, &mut checkpoints, &snapshot(4, 100, 1000));
        let newest = [b"C".as_slice(), &2u64.to_be_bytes()].concat();
        if seed % 2 == 0 {
            store.flip_bit(&newest, seed * 7919).unwrap();
        } else {
            store.tear(&newest, seed * 7919).unwrap();
        }
        let mut checkpoints = open(&store);
        let loaded = checkpoints.load_latest().unwrap();
        assert_eq!(loaded.snapshot, Some(snapshot(3, 100, 1000)), "seed {seed}");
        assert_eq!(loaded.skipped.len(), 1);
        save(&store, &mut checkpoints, &snapshot(6, 100, 1000));
        assert_eq!(
            checkpoints.oldest_retained(),
            Some(Seq(3)),
            "the damaged one went first"
        );
        let loaded = open(&store).load_latest().unwrap();
        assert_eq!(loaded.snapshot, Some(snapshot(6, 100, 1000)));
    }
}

#[test]
fn a_crash_at_every_moment_of_saving_leaves_the_one_before() {
    for keep in 0..20 {
        let store = SimStore::new();
        let mut checkpoints = open(&store);
        save(&store, &mut checkpoints, &snapshot(3, 100, 1000));
        store.sync().unwrap();
        save(&store, &mut checkpoints, &snapshot(4, 100, 1000));
        let writes = u64::try_from(store.unsynced()).unwrap();
        store.crash(keep.min(writes));
        let loaded = open(&store).load_latest().unwrap();
        let seq = if keep >= writes { 4 } else { 3 };
        assert_eq!(loaded.snapshot, Some(snapshot(seq, 100, 1000)));
        assert_eq!(loaded.skipped, Vec::<String>::new());
    }
}
