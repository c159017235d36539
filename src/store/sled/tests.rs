//! Real sled in a temporary directory, and what can happen to its files.

use std::fs;
use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::ops::ControlFlow;

use super::place::{Home, QUARANTINES_MAX};
use super::*;

pub(super) fn options() -> StoreOptions {
    StoreOptions {
        open_timeout: Duration::from_secs(2),
        ..StoreOptions::default()
    }
}

pub(super) fn key(number: u32) -> Vec<u8> {
    [b"L".as_slice(), &number.to_be_bytes()].concat()
}

/// Bytes that do not compress, different per number.
pub(super) fn value(number: u32, bytes: usize) -> Vec<u8> {
    let mut x = u64::from(number) + 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

pub(super) fn put(store: &dyn Store, number: u32, bytes: usize) {
    let mut batch = WriteBatch::new();
    batch.put(key(number), value(number, bytes));
    store.write(batch).unwrap();
}

/// How many of `value(0..)` are there, and that there is nothing else.
pub(super) fn count(store: &dyn Store, bytes: usize) -> u32 {
    let mut next = 0;
    store
        .range(b"L", b"M", &mut |place, stored| {
            assert_eq!((place, stored), (&key(next)[..], &value(next, bytes)[..]));
            next += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    next
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else if entry.file_name() != "lock" {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A closed store with `number` values of 3000 bytes and a snapshot.
fn filled(dir: &Path, number: u32) -> u64 {
    let opened = open(dir, &options()).unwrap();
    (0..number).for_each(|number| put(&*opened.store, number, 3000));
    opened.store.sync().unwrap();
    let id = opened.id;
    drop(opened);
    drop(open(dir, &options()).unwrap());
    id
}

#[test]
fn what_was_written_is_there_after_reopening_and_the_identity_stays() {
    let dir = tempfile::tempdir().unwrap();
    let id = filled(dir.path(), 50);
    let opened = open(dir.path(), &options()).unwrap();
    assert_eq!((opened.id, opened.events), (id, vec![]));
    let store = opened.store;
    assert_eq!(count(&*store, 3000), 50);
    let mut batch = WriteBatch::new();
    batch.delete(key(0));
    batch.put(key(1), "a");
    batch.put(key(1), "b");
    batch.delete(key(99));
    store.write(batch).unwrap();
    store.write(WriteBatch::new()).unwrap();
    assert_eq!(store.get(&key(0)).unwrap(), None);
    assert_eq!(store.get(&key(1)).unwrap().unwrap(), b"b");
    let last = store.last(b"L", b"M").unwrap().unwrap();
    assert_eq!(last, (key(49), value(49, 3000)));
    assert_eq!(store.last(b"M", b"L").unwrap(), None);
    assert!(
        store
            .range(b"M", b"L", &mut |_, _| ControlFlow::Continue(()))
            .is_ok()
    );
    assert!(store.bytes_on_disk().unwrap() > 150_000);
}

#[test]
fn a_copy_taken_at_any_moment_holds_what_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &options()).unwrap().store;
    for round in 0..5 {
        (round * 40..round * 40 + 20).for_each(|number| put(&*store, number, 3000));
        store.sync().unwrap();
        (round * 40 + 20..round * 40 + 40).for_each(|number| put(&*store, number, 3000));
        let to = tempfile::tempdir().unwrap();
        copy(dir.path(), to.path());
        let copied = open(to.path(), &options()).unwrap();
        assert_eq!(copied.events, vec![]);
        let there = count(&*copied.store, 3000);
        assert!(
            (round * 40 + 20..=round * 40 + 40).contains(&there),
            "{there}"
        );
    }
}

#[test]
fn an_interrupted_batch_is_finished_at_open() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 3);
    let mut batch = WriteBatch::new();
    batch.put(key(3), value(3, 3000));
    batch.put(key(4), value(4, 3000));
    batch.delete(key(5));
    let whole = journal::write(&batch).unwrap();
    let journal = Sealer::default().seal(b'J', &[], &whole).unwrap();
    {
        let db = sled::open(dir.path().join("store")).unwrap();
        db.insert(JOURNAL_KEY, journal).unwrap();
        db.insert(key(3), value(3, 3000)).unwrap();
        db.insert(key(5), b"x").unwrap();
        db.flush().unwrap();
    }
    let store = open(dir.path(), &options()).unwrap().store;
    assert_eq!(count(&*store, 3000), 5);
    assert_eq!(store.get(JOURNAL_KEY).unwrap(), None);
    assert_eq!(journal::read(&whole[..whole.len() - 1]), None);
}

#[test]
fn values_beyond_the_size_of_a_segment_part_are_synced_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), &options()).unwrap().store;
    for number in 0..12 {
        put(&*store, number, 200_000);
        store.sync().unwrap();
    }
    let to = tempfile::tempdir().unwrap();
    copy(dir.path(), to.path());
    assert_eq!(
        count(&*open(to.path(), &options()).unwrap().store, 200_000),
        12
    );
}

#[test]
fn a_broken_snapshot_is_set_aside_and_nothing_is_lost() {
    for break_it in [
        |path: &Path| fs::write(path, b"").unwrap(),
        |path: &Path| fs::write(path, &fs::read(path).unwrap()[..20]).unwrap(),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let id = filled(dir.path(), 100);
        let entries = fs::read_dir(dir.path().join("store")).unwrap();
        let snapshot = entries
            .map(|entry| entry.unwrap())
            .find(|entry| entry.file_name().to_str().unwrap().starts_with("snap."))
            .unwrap();
        break_it(&snapshot.path());
        let opened = open(dir.path(), &options()).unwrap();
        assert!(matches!(
            opened.events[..],
            [StoreEvent::SnapshotSetAside { .. }]
        ));
        assert_eq!((opened.id, count(&*opened.store, 3000)), (id, 100));
    }
}

#[test]
fn damaged_files_never_hang_or_panic_and_a_store_is_there_afterwards() {
    let closed = tempfile::tempdir().unwrap();
    filled(closed.path(), 600);
    let mut quarantined = break_everywhere(closed.path());
    // Killed in the middle of its work: the snapshot is older than the log.
    let running = tempfile::tempdir().unwrap();
    filled(running.path(), 300);
    let store = open(running.path(), &options()).unwrap().store;
    (300..600).for_each(|number| put(&*store, number, 3000));
    store.sync().unwrap();
    (500..550).for_each(|number| put(&*store, number, 3000));
    let killed = tempfile::tempdir().unwrap();
    copy(running.path(), killed.path());
    quarantined += break_everywhere(killed.path());
    assert!(quarantined > 0);
}

fn moved_or_renewed(opened: &Opened) -> bool {
    opened.events.iter().any(|event| match event {
        StoreEvent::Quarantined { .. } | StoreEvent::IdentityRenewed => true,
        StoreEvent::SnapshotSetAside { .. } | StoreEvent::RestartAdvised => false,
    })
}

/// Whatever is broken: the store opens, and what is lost without a word costs the identity. Says
/// how often it was quarantined.
fn break_everywhere(origin: &Path) -> u32 {
    let id = {
        let dir = tempfile::tempdir().unwrap();
        copy(origin, dir.path());
        open(dir.path(), &options()).unwrap().id
    };
    let length = fs::metadata(origin.join("store/db")).unwrap().len();
    type Break = fn(&Path, u64);
    let cut: Break = |path, at| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(at).unwrap();
    };
    let zero: Break = |path, at| {
        let mut file = OpenOptions::new().write(true).open(path).unwrap();
        file.seek(std::io::SeekFrom::Start(at)).unwrap();
        file.write_all(&[0; 4096]).unwrap();
    };
    let flip: Break = |path, at| {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let mut byte = [0];
        file.seek(std::io::SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut byte).unwrap();
        file.seek(std::io::SeekFrom::Start(at)).unwrap();
        file.write_all(&[byte[0] ^ 4]).unwrap();
    };
    let mut quarantined = 0;
    for (how, at) in [
        (cut, length - 3000),
        (cut, length - 60_000),
        (cut, length - 600_000),
        (cut, length / 2),
        (cut, 0),
        (zero, 0),
        (zero, length / 2),
        (zero, length / 3 * 2),
        (flip, 10),
        (flip, length / 3),
        (flip, length / 2 + 77),
    ] {
        let dir = tempfile::tempdir().unwrap();
        copy(origin, dir.path());
        how(&dir.path().join("store/db"), at);
        let opened = open(dir.path(), &options()).unwrap();
        let moved = opened.events.iter().find_map(|event| match event {
            StoreEvent::Quarantined { to, .. } => Some(to.clone()),
            _ => None,
        });
        if let Some(to) = moved {
            quarantined += 1;
            assert!(to.join("db").exists());
            assert_eq!(count(&*opened.store, 3000), 0);
            put(&*opened.store, 0, 3000);
        }
        assert_eq!(opened.id != id, moved_or_renewed(&opened));
        opened.store.sync().unwrap();
        opened
            .store
            .range(b"L", b"M", &mut |_, _| ControlFlow::Continue(()))
            .unwrap();
    }
    quarantined
}

#[test]
fn a_damaged_configuration_of_sled_is_quarantined_and_old_quarantines_go() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=6 {
        filled(dir.path(), 1);
        fs::write(
            dir.path().join("store/conf"),
            b"segment_size: 1\nversion: 9.9\n1234",
        )
        .unwrap();
        let opened = open(dir.path(), &options()).unwrap();
        let to = dir.path().join(format!("quarantine/{round}"));
        assert!(
            matches!(&opened.events[..], [.., StoreEvent::Quarantined { to: it, .. }] if *it == to)
        );
    }
    assert_eq!(
        fs::read_dir(dir.path().join("quarantine")).unwrap().count(),
        QUARANTINES_MAX
    );
}

#[test]
fn a_locked_store_is_left_alone_and_its_owner_named() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), &options()).unwrap();
    let error = open(dir.path(), &options()).unwrap_err();
    let own = format!("locked by process {}", std::process::id());
    assert!(error.to_string().ends_with(&own), "{error}");
    drop(first);
    // Another program has sled's file.
    let file = File::open(dir.path().join("store/db")).unwrap();
    file.lock().unwrap();
    let error = open(dir.path(), &options()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    drop(file);
    assert_eq!(open(dir.path(), &options()).unwrap().events, vec![]);
}

#[test]
fn a_place_that_cannot_be_used_is_an_error_and_nothing_moves() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = open(&path, &options()).unwrap_err();
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    }
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("store"), b"in its place").unwrap();
    let error = open(&state, &options()).unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    fs::remove_file(state.join("store")).unwrap();
    fs::create_dir_all(state.join("store/db")).unwrap();
    let error = open(&state, &options()).unwrap_err();
    assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
    assert!(!state.join("quarantine").exists());
}

#[test]
fn a_first_start_that_was_cut_off_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::current(dir.path()).unwrap();
    assert!(Generation::open(&home, &options()).is_ok());
    let opened = open(dir.path(), &options()).unwrap();
    assert_eq!(opened.events, vec![]);
}

#[test]
fn a_store_that_went_back_gets_a_new_identity() {
    let dir = tempfile::tempdir().unwrap();
    let id = filled(dir.path(), 10);
    let before = tempfile::tempdir().unwrap();
    copy(&dir.path().join("store"), before.path());
    let store = open(dir.path(), &options()).unwrap().store;
    drop(store);
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    copy(before.path(), &dir.path().join("store"));
    let opened = open(dir.path(), &options()).unwrap();
    assert_eq!(opened.events, vec![StoreEvent::IdentityRenewed]);
    assert_ne!(opened.id, id);
    let id = opened.id;
    drop(opened);
    let again = open(dir.path(), &options()).unwrap();
    assert_eq!((again.id, again.events), (id, vec![]));
}

#[test]
fn what_is_appended_is_written_less_than_three_times() {
    for (table, bytes) in [(table::LOG, 1800), (table::CHECKPOINT, 6000)] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), &options()).unwrap().store;
        let before = store.bytes_written();
        for number in 0..1000u32 {
            let mut batch = WriteBatch::new();
            let key = [&[table][..], &u64::from(number * 100).to_be_bytes()].concat();
            batch.put(key, value(number, bytes));
            store.write(batch).unwrap();
        }
        store.sync().unwrap();
        let times = (store.bytes_written() - before) / (1000 * bytes as u64 / 100);
        assert!((200..310).contains(&times), "{times} hundredths");
        let (last, _) = store.last(&[table], &[table + 1]).unwrap().unwrap();
        assert_eq!(last.get(1..), Some(&99_900u64.to_be_bytes()[..]));
        assert_eq!(store.last(&[table, 0xff], &[table + 1]), Ok(None));
    }
}
