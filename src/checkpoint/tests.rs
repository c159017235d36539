//! Checkpoints over a store that fails on purpose.

mod damage;
mod migration;
mod model;

use std::convert::Infallible;

use super::*;
use crate::event::{GrowingState, Place};
use crate::store::sim::SimStore;

fn at(operator: u64, key: u64) -> Place {
    Place { operator, key }
}

fn put(changes: &mut StateChanges, place: Place, piece: &[u8]) {
    let Ok(()) = changes.put(place, |out| {
        out.extend_from_slice(piece);
        Ok::<(), Infallible>(())
    });
}

/// Pieces of several operators, some of them longer than a frame.
fn pieces(round: u64, count: u64, bytes: usize) -> StateChanges {
    let mut changes = StateChanges::new();
    for key in (0..count).rev() {
        let piece: Vec<u8> = (0..bytes)
            .map(|byte| u8::try_from((byte as u64 * (key + 3) + round) % 251).unwrap())
            .collect();
        put(&mut changes, at(key % 3, key), &piece);
    }
    changes
}

fn open(store: &SimStore) -> Checkpoints {
    Checkpoints::open(Arc::new(store.clone()), 2).unwrap()
}

fn load(checkpoints: &mut Checkpoints) -> (Option<(Seq, State)>, Vec<String>) {
    let loaded = checkpoints.load_latest(&mut |_| ()).unwrap();
    let restored = loaded.restored;
    let state = restored.map(|restored| (restored.seq, restored.state));
    (state, loaded.skipped)
}

fn run(store: &SimStore, job: Option<Job>) {
    let mut job = job;
    while let Some(next) = job {
        job = next.run(store).unwrap().more;
    }
}

fn save(store: &SimStore, checkpoints: &mut Checkpoints, seq: u64, changes: StateChanges) {
    checkpoints.begin().unwrap();
    let job = checkpoints.finish(Seq(seq), Timestamp(-5), changes);
    run(store, Some(job));
}

fn state_of(sets: &[&StateChanges]) -> State {
    let mut grown = GrowingState::default();
    sets.iter().for_each(|changes| grown.apply(changes));
    let mut whole = StateChanges::new();
    for (place, piece) in grown.pieces() {
        put(&mut whole, place, piece);
    }
    State::from_changes(whole)
}

#[test]
fn changes_come_back_on_top_of_each_other() {
    let store = SimStore::new();
    let mut checkpoints = open(&store);
    assert_eq!(load(&mut checkpoints), (None, vec![]));
    assert_eq!(checkpoints.oldest_retained(), None);
    assert_eq!(checkpoints.begin(), Some(Extent::Whole));
    let first = pieces(1, 300, 1000);
    save(&store, &mut checkpoints, 3, first.clone());
    let mut second = pieces(2, 5, 100_000);
    second.remove(at(1, 100));
    second.empty(at(2, 50), at(2, 200));
    assert_eq!(checkpoints.begin(), Some(Extent::Changes));
    run(&store, checkpoints.stage(second.clone()));
    let third = pieces(3, 4, 0);
    run(
        &store,
        Some(checkpoints.finish(Seq(7), Timestamp(9), third.clone())),
    );
    for mut checkpoints in [checkpoints, open(&store)] {
        let (loaded, skipped) = load(&mut checkpoints);
        assert_eq!(loaded, Some((Seq(7), state_of(&[&first, &second, &third]))));
        assert_eq!(skipped, Vec::<String>::new());
        let why = "one flipped bit could cost both";
        assert_eq!(checkpoints.oldest_retained(), None, "{why}");
        let older = checkpoints.load_at_most(Seq(6), &mut |_| ()).unwrap();
        assert_eq!(older.restored.unwrap().state, state_of(&[&first]));
        let older = checkpoints.load_until(Timestamp(8), &mut |_| ()).unwrap();
        assert_eq!(older.restored.unwrap().seq, Seq(3));
    }
}
