//! The form before runs: its values made by hand, as no code writes them any more.

use super::*;
use crate::checkpoint::{KIND_FRAME, KIND_MANIFEST};
use crate::store::seal::Sealer;
use crate::store::{Store, WriteBatch};

const APPLICATION: &str = "SELECT 1";

/// A checkpoint with one piece in two parts, and another, in two frames.
fn write(store: &SimStore, number: u64, seq: u64, whole: bool) {
    let piece = |place: Place, bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).unwrap();
        [
            &place.operator.to_le_bytes()[..],
            &place.key.to_le_bytes(),
            &length.to_le_bytes(),
            bytes,
        ]
        .concat()
    };
    let frames = [
        [piece(at(9, 1), b"large "), piece(at(9, 1), b"and ")].concat(),
        [piece(at(9, 1), b"larger"), piece(at(8, 2), &[7; 4000])].concat(),
    ];
    let mut batch = WriteBatch::new();
    let mut sums = Vec::new();
    for (part, frame) in (0u32..).zip(frames) {
        let head = [&number.to_le_bytes()[..], &part.to_le_bytes()].concat();
        let value = Sealer::default().seal(1, &head, &frame).unwrap();
        sums.push(crc32c::crc32c(&value));
        let key = [&b"C"[..], &number.to_be_bytes(), &part.to_be_bytes()].concat();
        batch.put(key, value);
    }
    if whole {
        let head = [number.to_le_bytes(), seq.to_le_bytes()].concat();
        let payload = (Timestamp(-5), APPLICATION, marks(), sums);
        let payload = cbor::encode(&payload).unwrap();
        let value = Sealer::default().seal(2, &head, &payload).unwrap();
        batch.put(
            [&b"C"[..], &number.to_be_bytes(), &[0xFF; 4]].concat(),
            value,
        );
    }
    store.write(batch).unwrap();
}

fn marks() -> BTreeMap<String, Vec<DeliveryMark>> {
    let mark = DeliveryMark {
        packet: 7,
        digest: u64::MAX,
    };
    BTreeMap::from([("mqtt".to_owned(), vec![mark])])
}

fn written() -> State {
    let mut changes = StateChanges::new();
    put(&mut changes, at(9, 1), b"large and larger");
    put(&mut changes, at(8, 2), &[7; 4000]);
    State::from_changes(changes)
}

#[test]
fn the_kinds_differ_from_those_of_today() {
    assert!(![KIND_FRAME, KIND_MANIFEST].contains(&1) && ![KIND_FRAME, KIND_MANIFEST].contains(&2));
}

#[test]
fn a_store_of_the_old_form_is_loaded_and_gives_way() {
    let store = SimStore::new();
    write(&store, 4, 10, true);
    write(&store, 5, 20, true);
    write(&store, 6, 30, false);
    let mut checkpoints = open(&store);
    let restored = checkpoints.load_latest(&mut |_| ()).unwrap().restored;
    let restored = restored.unwrap();
    assert_eq!(restored.state, written());
    assert_eq!((restored.seq, restored.time), (Seq(20), Timestamp(-5)));
    let migrated = restored.migrated.unwrap();
    assert_eq!(migrated.application, APPLICATION);
    assert_eq!(migrated.marks, marks());
    assert_eq!(checkpoints.oldest_retained(), Some(Seq(10)));
    assert_eq!(
        checkpoints.begin(),
        Some(Extent::Whole),
        "nothing builds on it"
    );

    save(&store, &mut checkpoints, 25, pieces(1, 10, 10));
    let numbers = |checkpoints: &Checkpoints| -> Vec<(u64, bool)> {
        let listed = checkpoints.list().into_iter();
        let old = |listed: Listed| (listed.number, listed.form == Form::Old);
        listed.map(old).collect()
    };
    assert_eq!(numbers(&checkpoints), [(5, true), (7, false)]);
    assert_eq!(numbers(&open(&store)), [(5, true), (7, false)]);
    // Two that share nothing push it out.
    checkpoints.demand_whole();
    save(&store, &mut checkpoints, 26, pieces(1, 10, 10));
    assert_eq!(numbers(&open(&store)), [(7, false), (8, false)]);
    let left = store.last(&[b'C', 0], &[b'C', 1]).unwrap();
    assert_eq!(left, None);
}

#[test]
fn any_flipped_bit_of_the_old_form_leads_to_the_older_one() {
    for seed in 0..100 {
        let store = SimStore::new();
        write(&store, 1, 10, true);
        write(&store, 2, 20, true);
        let newest = [&b"C"[..], &2u64.to_be_bytes()].concat();
        store.flip_bit(&newest, seed * 7919).unwrap();
        let (loaded, skipped) = load(&mut open(&store));
        assert_eq!(loaded, Some((Seq(10), written())), "seed {seed}");
        assert_eq!(skipped.len(), 1);
    }
}
