//! The store on real disks that fill up, become read-only, flip bits, or have nothing to do.
//!
//! What needs a mount, a limit or a process of its own runs this program again: see [`again`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

#[path = "common/random.rs"]
mod random;
#[path = "common/wait.rs"]
mod wait;

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use eventflux::store::sled::{Opened, StoreEvent, StoreOptions, open};
use eventflux::store::{Store, StoreError, WriteBatch};
use random::Random;

const INSIDE: &str = "EVENTFLUX_TEST_INSIDE";
const VALUE_BYTES: usize = 3000;
/// An empty store opens within a second; more is a hang that was cut short.
const OPEN_MAX: Duration = Duration::from_secs(15);

fn options() -> StoreOptions {
    StoreOptions {
        open_timeout: Duration::from_secs(5),
        settle_interval: Duration::from_millis(20),
        ..StoreOptions::default()
    }
}

/// Runs the test `name` again through `wrapper` (a shell's words, `"$@"` is this program), with
/// `folder` as its place. `false`, and says so, when this machine does not allow that.
fn again(name: &str, folder: &Path, wrapper: &str) -> bool {
    let program = std::env::current_exe().unwrap();
    let run = |what: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", wrapper, "sh"]).args(what);
        command.env(INSIDE, folder).stdin(Stdio::null());
        command.output().unwrap()
    };
    let allowed = run(&["true"]);
    if !allowed.status.success() {
        let why = String::from_utf8_lossy(&allowed.stderr).into_owned();
        eprintln!("SKIPPED {name}: this machine does not allow `{wrapper}`: {why}");
        return false;
    }
    let program = program.to_str().unwrap();
    let done = run(&[program, "--exact", name, "--nocapture", "--test-threads=1"]);
    let text = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "{name} inside of `{wrapper}`: {text}"
    );
    assert!(text.contains("1 passed"), "{text}");
    true
}

/// Where the test runs, when it runs inside.
fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

fn key(number: u32) -> Vec<u8> {
    [b"L".as_slice(), &number.to_be_bytes()].concat()
}

/// Bytes that do not compress, different per number.
fn value(number: u32) -> Vec<u8> {
    let mut x = u64::from(number) + 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(VALUE_BYTES).collect()
}

fn put(store: &dyn Store, number: u32) -> Result<(), StoreError> {
    let mut batch = WriteBatch::new();
    batch.put(key(number), value(number));
    store.write(batch)
}

/// Writes from `from` on, syncing every tenth, until it fails; says how many were synced.
fn fill(store: &dyn Store, from: u32) -> (u32, StoreError) {
    let mut synced = from;
    for number in from.. {
        let mut done = put(store, number);
        if done.is_ok() && number % 10 == 9 {
            done = store.sync();
            if done.is_ok() {
                synced = number + 1;
            }
        }
        if let Err(error) = done {
            return (synced, error);
        }
    }
    unreachable!("the disk is small");
}

/// How many of `value(0..)` are there, in order.
fn count(store: &dyn Store) -> Result<u32, StoreError> {
    let mut next = 0;
    let counted = store.range(b"L", b"M", &mut |place, stored| {
        assert_eq!((place, stored), (&key(next)[..], &value(next)[..]));
        next += 1;
        ControlFlow::Continue(())
    });
    counted.map(|()| next)
}

fn open_in_time(dir: &Path) -> Result<Opened, StoreError> {
    let began = Instant::now();
    let opened = open(dir, &options());
    assert!(began.elapsed() < OPEN_MAX, "took {:?}", began.elapsed());
    assert!(!dir.join("quarantine").exists(), "{opened:?}");
    opened
}

/// Fills the store until it fails for want of space, and opens it anew while there is none.
fn fill_up(dir: &Path) -> (u64, u32) {
    let opened = open_in_time(dir).unwrap();
    let (id, store) = (opened.id, opened.store);
    let (synced, error) = fill(&*store, count(&*store).unwrap());
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    let closed = store.get(b"L").unwrap_err();
    assert!(matches!(closed, StoreError::Poisoned { .. }), "{closed}");
    assert!(matches!(store.sync(), Err(StoreError::Poisoned { .. })));
    drop(store);
    let mut synced = synced;
    for _ in 0..4 {
        match open_in_time(dir) {
            Ok(opened) => {
                assert_eq!((opened.id, opened.events), (id, vec![]));
                // It notes that it is at rest, which may be too much.
                let Ok(there) = count(&*opened.store) else {
                    continue;
                };
                assert!(there >= synced, "{there} of {synced}");
                let (now, error) = fill(&*opened.store, there);
                synced = now.max(synced);
                let is_full =
                    matches!(error, StoreError::Full { .. } | StoreError::Poisoned { .. });
                assert!(is_full, "{error}");
            }
            Err(StoreError::Full { .. } | StoreError::Unusable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    (id, synced)
}

/// Everything that was synced is there, and the store works.
fn goes_on(dir: &Path, id: u64, synced: u32) {
    let opened = open_in_time(dir).unwrap();
    assert_eq!((opened.id, &opened.events[..]), (id, &[][..]));
    let there = count(&*opened.store).unwrap();
    assert!(there >= synced, "{there} of {synced}");
    put(&*opened.store, there).unwrap();
    opened.store.sync().unwrap();
    drop(opened);
    let again = open_in_time(dir).unwrap();
    assert_eq!(count(&*again.store), Ok(there + 1));
}

#[test]
fn a_store_on_a_small_disk_fills_up_and_goes_on_when_there_is_room() {
    let name = "a_store_on_a_small_disk_fills_up_and_goes_on_when_there_is_room";
    let Some(disk) = inside() else {
        let folder = tempfile::tempdir().unwrap();
        let mount = "exec unshare -rm sh -c 'mount -t tmpfs -o size=16m none \
            \"$EVENTFLUX_TEST_INSIDE\" && exec \"$@\"' sh \"$@\"";
        again(name, folder.path(), mount);
        return;
    };
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let dir = disk.join("state");
    let (id, synced) = fill_up(&dir);
    assert!(synced > 500, "{synced}");
    fs::remove_file(&ballast).unwrap();
    goes_on(&dir, id, synced);
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        let done = mount.args(["-o", how]).arg(&disk).status().unwrap();
        assert!(done.success(), "{how}");
    };
    remount("remount,ro");
    for _ in 0..2 {
        let error = open_in_time(&dir).unwrap_err();
        assert!(matches!(error, StoreError::Unusable { .. }), "{error}");
        assert!(error.to_string().contains("Read-only"), "{error}");
    }
    remount("remount,rw");
    goes_on(&dir, id, synced);
}

#[test]
fn a_store_whose_file_may_not_grow_says_that_it_is_full_and_goes_on_later() {
    let name = "a_store_whose_file_may_not_grow_says_that_it_is_full_and_goes_on_later";
    if let Some(folder) = inside() {
        let (id, synced) = fill_up(&folder);
        let mut note = fs::File::create(folder.join("note")).unwrap();
        write!(note, "{id} {synced}").unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // 6 MiB, in blocks of 512 bytes; without the signal, a write beyond it is an error.
    let limit = "trap '' XFSZ; ulimit -f 12288; exec \"$@\"";
    if !again(name, folder.path(), limit) {
        return;
    }
    let note = fs::read_to_string(folder.path().join("note")).unwrap();
    let (id, synced) = note.split_once(' ').unwrap();
    let synced = synced.parse().unwrap();
    assert!(synced > 300, "{synced}");
    goes_on(folder.path(), id.parse().unwrap(), synced);
}

#[test]
fn an_open_store_that_nobody_writes_to_writes_nothing() {
    let name = "an_open_store_that_nobody_writes_to_writes_nothing";
    let Some(folder) = inside() else {
        // Below the place where the tests' own files are: a disk, not memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        assert!(again(name, folder.path(), "exec \"$@\""));
        return;
    };
    let store = open(&folder, &options()).unwrap().store;
    put(&*store, 0).unwrap();
    let written = store.bytes_written();
    // Nobody asks for a sync, yet it comes.
    rest(&folder, &*store);
    assert!(store.bytes_written() > written + VALUE_BYTES as u64);
    let before = (
        store.bytes_written(),
        of_process("write_bytes"),
        of_process("syscw"),
    );
    // Not a wait for something: it is the time in which nothing may happen, 25 intervals.
    wait::hang(Duration::from_millis(500));
    store.sync().unwrap();
    assert_eq!(
        store.compact(1 << 20),
        Ok(eventflux::store::Compaction::Idle)
    );
    let after = (
        store.bytes_written(),
        of_process("write_bytes"),
        of_process("syscw"),
    );
    assert_eq!(before, after);
}

/// A count of this process, see proc(5).
fn of_process(what: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(what));
    line.unwrap()
        .trim_start_matches(':')
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn flipped_bytes_never_stop_the_store_and_never_pass_unnoticed() {
    let origin = tempfile::tempdir().unwrap();
    let opened = open(origin.path(), &options()).unwrap();
    (0..300).for_each(|number| put(&*opened.store, number).unwrap());
    opened.store.sync().unwrap();
    (0..100).for_each(|number| {
        let mut batch = WriteBatch::new();
        batch.delete(key(number));
        batch.put([b'C', u8::try_from(number).unwrap()], vec![7; 200]);
        opened.store.write(batch).unwrap();
    });
    opened.store.sync().unwrap();
    // As after kill -9, a moment after the last change.
    rest(origin.path(), &*opened.store);
    let killed = tempfile::tempdir().unwrap();
    copy(origin.path(), killed.path());
    let id = opened.id;
    drop(opened);
    drop(open(origin.path(), &options()).unwrap());
    let mut random = Random::new(5);
    let mut told = 0;
    for round in 0..40 {
        let from = if round % 2 == 0 { &origin } else { &killed };
        let dir = tempfile::tempdir().unwrap();
        copy(from.path(), dir.path());
        let flipped = flip_some(dir.path(), &mut random);
        let began = Instant::now();
        let opened = open(dir.path(), &options()).unwrap_or_else(|error| {
            panic!("round {round}, {flipped:?}: {error}");
        });
        assert!(
            began.elapsed() < 2 * OPEN_MAX,
            "round {round}: {:?}",
            began.elapsed()
        );
        let is_told = is_told(&opened);
        told += u32::from(is_told);
        if !is_told {
            assert_eq!(opened.id, id, "round {round}, {flipped:?}");
            // sled's own checksums cover a page; what got past them is what was written.
            let there = whole(&*opened.store);
            assert_eq!(there, 200 + 100, "round {round}, {flipped:?}");
        }
        put(&*opened.store, 1000).unwrap();
        opened.store.sync().unwrap();
    }
    assert!((5..40).contains(&told), "{told}");
}

/// Makes a change and waits until the store, at rest, has noted durably what is in it.
fn rest(dir: &Path, store: &dyn Store) {
    let mark = || fs::read(dir.join("mark")).unwrap();
    // The first may be about how much was written.
    for round in 0..2u8 {
        let before = mark();
        let mut batch = WriteBatch::new();
        batch.put([b'Z', round], "x");
        store.write(batch).unwrap();
        wait::wait_until("the mark is set", || mark() != before);
    }
    store.sync().unwrap();
}

fn is_told(opened: &Opened) -> bool {
    opened.events.iter().any(|event| match event {
        StoreEvent::Quarantined { .. } | StoreEvent::IdentityRenewed => true,
        StoreEvent::SnapshotSetAside { .. } | StoreEvent::RestartAdvised => false,
    })
}

/// How many pairs are there and what they were.
fn whole(store: &dyn Store) -> u32 {
    let mut found = 0;
    let visited = store.range(b"C", b"M", &mut |place, stored| {
        let is_whole = match place {
            [b'C', _] => stored == [7; 200],
            [b'L', number @ ..] => {
                let number = u32::from_be_bytes(number.try_into().unwrap());
                number >= 100 && stored == value(number)
            }
            _ => false,
        };
        found += u32::from(is_whole);
        ControlFlow::Continue(())
    });
    visited.unwrap();
    found
}

/// Flips bits of one to eight bytes in the store's files, larger files more often.
fn flip_some(dir: &Path, random: &mut Random) -> Vec<(PathBuf, usize)> {
    let mut files = Vec::new();
    list(dir, &mut files);
    files.sort();
    let mut flipped = Vec::new();
    for _ in 0..=random.below(8) {
        let sizes = files.iter().map(|path| fs::metadata(path).unwrap().len());
        let mut at = random.below(sizes.sum());
        for path in &files {
            let length = fs::metadata(path).unwrap().len();
            if at >= length {
                at -= length;
                continue;
            }
            let place = usize::try_from(at).unwrap();
            let mut bytes = fs::read(path).unwrap();
            bytes[place] ^= 1 << random.below(8);
            fs::write(path, bytes).unwrap();
            flipped.push((path.strip_prefix(dir).unwrap().to_owned(), place));
            break;
        }
    }
    flipped
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => list(&path, files),
            false if path.ends_with("lock") => {}
            false => files.push(path),
        }
    }
}

fn copy(from: &Path, to: &Path) {
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
