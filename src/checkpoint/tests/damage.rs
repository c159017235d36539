//! Bytes that are not what was written.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::checkpoint::frame::{Entries, unpack};
use crate::store::seal::{Sealer, Unsealer};
use crate::store::{Store, WriteBatch, table};

#[test]
fn any_flipped_or_torn_value_leads_to_the_older_one() {
    for seed in 0..200u64 {
        let store = SimStore::new();
        let mut checkpoints = open(&store);
        let first = pieces(1, 100, 1000);
        save(&store, &mut checkpoints, 3, first.clone());
        checkpoints.demand_whole();
        let second = pieces(2, 100, 1000);
        save(&store, &mut checkpoints, 4, second.clone());
        let change = pieces(3, 10, 1000);
        save(&store, &mut checkpoints, 5, change.clone());
        // The manifest, the base, the changes of the newest.
        let (kind, number) =
            [(b'M', 3u64), (b'R', 2), (b'R', 3)][usize::try_from(seed % 3).unwrap()];
        let prefix = [&[table::CHECKPOINT, kind][..], &number.to_be_bytes()].concat();
        let spoilt = match seed % 2 {
            0 => store.flip_bit(&prefix, seed * 7919),
            _ => store.tear(&prefix, seed * 7919),
        };
        assert!(spoilt.is_some());
        let expected = match number {
            2 => (Seq(3), state_of(&[&first])),
            _ => (Seq(4), state_of(&[&second])),
        };
        let mut checkpoints = open(&store);
        let (loaded, skipped) = load(&mut checkpoints);
        let (seq, state) = loaded.unwrap();
        assert_eq!((seq, &state), (expected.0, &expected.1), "seed {seed}");
        assert_eq!(
            skipped.len(),
            if number == 2 { 2 } else { 1 },
            "{skipped:?}"
        );
        // It goes on from there, and the damaged ones are gone.
        assert_eq!(checkpoints.begin(), Some(Extent::Changes));
        let change = pieces(9, 7, 10);
        save(&store, &mut checkpoints, 6, change);
        let listed = open(&store).list();
        assert!(listed.iter().all(|listed| listed.whole()));
        assert_eq!(open(&store).list(), checkpoints.list());
    }
}

#[test]
fn what_is_damaged_while_it_is_folded_makes_the_next_one_whole() {
    let store = SimStore::new();
    let mut checkpoints = open(&store);
    save(&store, &mut checkpoints, 1, pieces(1, 100, 1000));
    save(&store, &mut checkpoints, 2, pieces(2, 100, 1000));
    let newest = [&[table::CHECKPOINT, b'R'][..], &2u64.to_be_bytes()].concat();
    store.flip_bit(&newest, 12_345).unwrap();
    let report = checkpoints.fold().unwrap().run(&store).unwrap();
    let warning = report.warning.unwrap();
    assert!(
        warning.starts_with("the newest checkpoint is damaged: run 2"),
        "{warning}"
    );
    assert!(report.more.is_none());
    assert!(checkpoints.fold().is_none());
    assert_eq!(checkpoints.begin(), Some(Extent::Whole));
}

#[test]
fn a_fold_gives_way_and_goes_on() {
    let store = SimStore::new();
    let mut checkpoints = open(&store);
    // A fold of several slices: 3 MB.
    let first = pieces(1, 3000, 500);
    let second = pieces(2, 3000, 500);
    save(&store, &mut checkpoints, 1, first.clone());
    save(&store, &mut checkpoints, 2, second.clone());
    let mut later = checkpoints.fold();
    assert!(checkpoints.fold().is_none(), "one at a time");
    let mut sets = vec![first, second];
    let mut slices = 0;
    let mut folded = None;
    while let Some(job) = later {
        let report = job.run(&store).unwrap();
        folded = folded.or(report.saved);
        later = report.more;
        slices += 1;
        if folded.is_none() {
            let mut change = pieces(10 + slices, 20, 300);
            change.empty(at(0, 30 * slices), at(0, 30 * slices + 20));
            save(&store, &mut checkpoints, 2 + slices, change.clone());
            sets.push(change);
        }
        let (loaded, _) = load(&mut open_only(&store));
        let sets: Vec<_> = sets.iter().collect();
        assert_eq!(loaded.unwrap().1, state_of(&sets), "slice {slices}");
    }
    assert!(slices >= 3, "{slices}");
    let listed = checkpoints.list();
    let newest = listed.last().unwrap();
    assert_eq!(folded.map(|saved| saved.number), Some(newest.number));
    assert!(folded.unwrap().folded);
    assert!(matches!(newest.form, Form::Runs { base: 1, .. }));
    // The newest two share what came while it was folded; one from before shares nothing.
    assert!(listed[0].shares_nothing_with(newest), "{listed:#?}");
    let counters = checkpoints.counters();
    assert_eq!(
        (counters.checkpoints, counters.folds),
        (count(sets.len()), 1)
    );
}

/// Opens a copy, so that nothing of the store is removed.
fn open_only(store: &SimStore) -> Checkpoints {
    let copy = SimStore::new();
    let all = &mut |key: &[u8], value: &[u8]| {
        let mut batch = WriteBatch::new();
        batch.put(key, value);
        copy.write(batch).unwrap();
        std::ops::ControlFlow::Continue(())
    };
    store.range(b"C", b"D", all).unwrap();
    open(&copy)
}

#[test]
fn many_small_runs_become_one_and_what_they_remove_stays_removed() {
    let store = SimStore::new();
    let mut checkpoints = open(&store);
    let mut sets = vec![pieces(1, 2000, 300)];
    save(&store, &mut checkpoints, 1, sets[0].clone());
    checkpoints.demand_whole();
    save(&store, &mut checkpoints, 2, sets[0].clone());
    for round in 0..40u64 {
        let mut change = StateChanges::new();
        put(&mut change, at(0, 3 * round), b"new");
        change.remove(at(1, 3 * round + 1));
        change.empty(at(2, 30 * round), at(2, 30 * round + 5));
        save(&store, &mut checkpoints, 3 + round, change.clone());
        sets.push(change);
        run(&store, checkpoints.fold());
        let newest = checkpoints.list().pop().unwrap();
        assert!(newest.runs().len() <= 7, "{}", newest.runs().len());
    }
    assert!(checkpoints.counters().folds >= 6);
    let newest = checkpoints.list().pop().unwrap();
    assert_eq!(newest.runs()[0].number, 2, "the base is not written again");
    let sets: Vec<_> = sets.iter().collect();
    let (loaded, _) = load(&mut open(&store));
    assert_eq!(loaded.unwrap().1, state_of(&sets));
}

#[test]
fn a_checkpoint_that_fails_is_followed_by_a_whole_one() {
    let store = SimStore::new();
    let mut checkpoints = open(&store);
    save(&store, &mut checkpoints, 1, pieces(1, 10, 10));
    assert_eq!(checkpoints.begin(), Some(Extent::Changes));
    let job = checkpoints.finish(Seq(2), Timestamp(0), pieces(2, 10, 10));
    assert_eq!(checkpoints.begin(), None, "the one before is not written");
    store.plan(store.operations() + 2, crate::store::sim::Fault::Full);
    assert!(matches!(job.run(&store), Err(CheckpointError::Store(_))));
    assert_eq!(checkpoints.begin(), Some(Extent::Whole));
    // One that is begun anew takes nothing of the one that was given up.
    let staged = checkpoints.stage(pieces(3, 2000, 1000));
    assert_eq!(checkpoints.begin(), Some(Extent::Whole));
    store.crash(u64::MAX);
    assert!(staged.unwrap().run(&store).unwrap().saved.is_none());
    let job = checkpoints.finish(Seq(3), Timestamp(0), pieces(4, 10, 10));
    run(&store, Some(job));
    let (loaded, _) = load(&mut open(&store));
    assert_eq!(loaded.unwrap().1, state_of(&[&pieces(4, 10, 10)]));
}

#[test]
fn a_newer_format_is_refused_with_a_sentence() {
    let store = SimStore::new();
    let mut batch = WriteBatch::new();
    let head = [&[2][..], &[0; 16]].concat();
    let value = Sealer::default().seal(4, &head, b"?").unwrap();
    batch.put(manifest_key(1), value);
    store.write(batch).unwrap();
    let error = Checkpoints::open(Arc::new(store), 2)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the checkpoints have format 2 and this version of eventflux reads 1 at most: install the \
         version that wrote them, or a newer one"
    );
}

/// Bytes whose checksum is right and whose content is anything.
fn spoilt() -> impl Strategy<Value = Vec<u8>> {
    let mut changes = pieces(1, 20, 50);
    changes.remove(at(7, 7));
    changes.empty(at(0, 0), at(1, 9));
    changes.empty(at(2, 5), at(9, 0));
    let store = SimStore::new();
    save(&store, &mut open(&store), 1, changes);
    let value = store.get(&frame_key(1, 0)).unwrap().unwrap();
    let frame = unpack(1, 0, &value, &mut Unsealer::default()).unwrap();
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let mutated = (edits, any::<prop::sample::Index>()).prop_map(move |(edits, cut)| {
        let mut bytes = frame.clone();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 2);
        bytes
    });
    prop_oneof![1 => noise, 4 => mutated]
}

#[test]
fn no_bytes_make_a_reader_panic_or_give_what_is_not_in_order() {
    let config = Config {
        cases: 4000,
        failure_persistence: None,
        ..Config::default()
    };
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, seed);
    let read = runner.run(&(spoilt(), any::<u32>()), |(payload, sum)| {
        let mut entries = Entries::default();
        let mut steps = 0;
        while let Ok(Some(_)) = entries.next(&payload) {
            steps += 1;
            prop_assert!(steps <= payload.len());
        }
        // As a frame and as a manifest, under a manifest that may or may not know its sum.
        let store = SimStore::new();
        let mut batch = WriteBatch::new();
        let head = [&[1][..], &1u64.to_le_bytes(), &0u32.to_le_bytes()].concat();
        let value = Sealer::default().seal(KIND_FRAME, &head, &payload).unwrap();
        let own = crc32c::crc32c(&value[4..8]);
        batch.put(frame_key(1, 0), value);
        let form = Form::Runs {
            runs: vec![Run {
                number: 1,
                frames: 1,
                state_bytes: u64::MAX / 2,
                stored_bytes: u64::from(sum),
                sum: if sum % 4 == 0 { sum } else { own },
            }],
            base: 1,
        };
        let listed = Listed {
            number: 1,
            seq: Seq(1),
            time: Timestamp(0),
            form,
        };
        batch.put(manifest_key(1), manifest::seal(&listed).unwrap());
        let head = [&[1][..], &2u64.to_le_bytes(), &9u64.to_le_bytes()].concat();
        let value = Sealer::default()
            .seal(KIND_MANIFEST, &head, &payload)
            .unwrap();
        batch.put(manifest_key(2), value);
        store.write(batch).unwrap();
        let mut checkpoints = open(&store);
        let (loaded, skipped) = load(&mut checkpoints);
        prop_assert!(!skipped.is_empty());
        if let Some((_, state)) = loaded {
            prop_assert!(state.pieces().is_sorted_by(|a, b| a.0 < b.0));
        }
        // Folding reads it as well.
        if checkpoints.begin() == Some(Extent::Changes) {
            save(&store, &mut checkpoints, 2, pieces(1, 200, 900));
        }
        run(&store, checkpoints.fold());
        Ok(())
    });
    read.unwrap();
}
