//! Giving space back, and dying at every moment of it.

use std::fs;
use std::path::Path;

use super::tests::{copy, count, key, options, put, value};
use super::*;

fn small() -> StoreOptions {
    StoreOptions {
        compact_bytes_min: 1 << 20,
        ..options()
    }
}

fn delete(store: &dyn Store, number: u32) {
    let mut batch = WriteBatch::new();
    batch.delete(key(number));
    store.write(batch).unwrap();
}

/// A store with `live` values of 3000 bytes and much space that nobody needs.
fn spacious(dir: &Path, live: u32) -> Opened {
    let opened = open(dir, &small()).unwrap();
    (0..2000).for_each(|number| put(&*opened.store, number, 3000));
    (live..2000).for_each(|number| delete(&*opened.store, number));
    opened.store.sync().unwrap();
    opened
}

fn folders(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("store")).collect();
    names.sort();
    names
}

#[test]
fn space_comes_back_and_everything_stays() {
    let dir = tempfile::tempdir().unwrap();
    let opened = spacious(dir.path(), 100);
    let store = &*opened.store;
    let live = store.bytes_live();
    assert!((300_000..310_000).contains(&live), "{live}");
    let disk = store.bytes_on_disk().unwrap();
    assert!(disk > 4_000_000, "{disk}");
    let mut steps = 0;
    let (before, after) = loop {
        match store.compact(50_000).unwrap() {
            Compaction::Idle => panic!("it is worth it"),
            Compaction::Going { moved, live } => {
                assert!(moved <= live, "{moved} of {live}");
                steps += 1;
            }
            Compaction::Done { before, after } => break (before, after),
        }
    };
    assert!(steps >= 5, "{steps}");
    assert_eq!(before, disk);
    assert_eq!(after, store.bytes_on_disk().unwrap());
    assert!(after < 1_100_000, "{after}");
    assert_eq!(folders(dir.path()), ["store.1"]);
    assert_eq!(store.compact(50_000), Ok(Compaction::Idle));
    assert_eq!((count(store, 3000), store.bytes_live()), (100, live));
    put(store, 100, 3000);
    store.sync().unwrap();
    let id = opened.id;
    drop(opened);
    let again = open(dir.path(), &small()).unwrap();
    assert_eq!((again.id, again.events), (id, vec![]));
    assert_eq!(count(&*again.store, 3000), 101);
    assert!(again.store.bytes_live().abs_diff(live) < 3200);
}

#[test]
fn a_death_at_any_step_leaves_one_whole_generation() {
    let dir = tempfile::tempdir().unwrap();
    let opened = spacious(dir.path(), 100);
    let (id, store) = (opened.id, &*opened.store);
    let mut next = 100;
    let mut died = 0;
    let survives = |dir: &Path, next: u32, folder: &str| {
        let copied = open(dir, &small()).unwrap();
        assert_eq!((copied.id, &copied.events[..]), (id, &[][..]));
        assert_eq!(count(&*copied.store, 3000), next);
        assert_eq!(folders(dir), [folder]);
        put(&*copied.store, next, 3000);
        copied.store.sync().unwrap();
    };
    let old = tempfile::tempdir().unwrap();
    loop {
        let going = store.compact(20_000).unwrap();
        let done = match going {
            Compaction::Idle => panic!("it is worth it"),
            Compaction::Going { .. } => false,
            Compaction::Done { .. } => true,
        };
        let killed = tempfile::tempdir().unwrap();
        copy(dir.path(), killed.path());
        survives(killed.path(), next, if done { "store.1" } else { "store" });
        died += 1;
        if done {
            // Between the switch and the removal of the old generation, and in the midst of it.
            let both = tempfile::tempdir().unwrap();
            copy(dir.path(), both.path());
            copy(&old.path().join("store"), &both.path().join("store"));
            survives(both.path(), next, "store.1");
            fs::create_dir(both.path().join("store")).unwrap();
            survives(both.path(), next + 1, "store.1");
            // Before the switch, when everything was copied.
            let before = tempfile::tempdir().unwrap();
            copy(dir.path(), before.path());
            fs::remove_file(before.path().join("store.1/whole")).unwrap();
            copy(&old.path().join("store"), &before.path().join("store"));
            survives(before.path(), next, "store");
            break;
        }
        // Old pairs change and new ones come while it goes on.
        let mut batch = WriteBatch::new();
        batch.put(key(0), "x");
        batch.put(key(0), value(0, 3000));
        batch.put(key(next), value(next, 3000));
        store.write(batch).unwrap();
        store.sync().unwrap();
        next += 1;
        let _ = fs::remove_dir_all(old.path().join("store"));
        copy(dir.path(), old.path());
    }
    assert!(died >= 10, "{died}");
    assert_eq!(count(store, 3000), next);
}

#[test]
fn what_is_written_meanwhile_is_in_the_new_generation() {
    let dir = tempfile::tempdir().unwrap();
    let opened = spacious(dir.path(), 100);
    let store = &*opened.store;
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.sync().unwrap();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // One by one: a walk may pass over pairs of a page that changes meanwhile.
                for number in 0..100 {
                    let found = store.get(&key(number)).unwrap();
                    assert_eq!(found, Some(value(number, 3000)));
                }
            }
        });
        for _ in 0..3 {
            (100..400).for_each(|number| put(store, number, 3000));
            while let Compaction::Going { .. } = store.compact(30_000).unwrap() {
                put(store, 400, 3000);
                delete(store, 400);
            }
            (100..400).rev().for_each(|number| delete(store, number));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(count(store, 3000), 100);
    assert_ne!(folders(dir.path()), ["store"]);
    let sum = std::cell::Cell::new(0);
    let add = &mut |key: &[u8], value: &[u8]| {
        sum.set(sum.get() + size(key.len() + value.len()));
        std::ops::ControlFlow::Continue(())
    };
    store.range(b"\x01", b"\xff", add).unwrap();
    let own = store.bytes_live() - sum.get();
    assert!(own < 100, "{own} bytes of the store's own");
}

#[test]
fn a_compaction_that_cannot_begin_does_no_harm_and_is_not_tried_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let opened = spacious(dir.path(), 100);
    let store = &*opened.store;
    // A file in the way of the new generation's folder.
    fs::write(dir.path().join("store.1"), b"x").unwrap();
    assert!(store.compact(50_000).is_err());
    put(store, 100, 3000);
    store.sync().unwrap();
    assert_eq!(count(store, 3000), 101);
    assert_eq!(store.compact(50_000), Ok(Compaction::Idle));
}
