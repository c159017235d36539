//! Stores as every format's first version wrote them, see `formats/README.md`: what is in them is
//! what was, they open without a word, and go on as if they had never been closed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails where it stands"
)]

use std::fmt::Write as _;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use eventflux::checkpoint::{self, Form};
use eventflux::outbox;
use eventflux::store::format::{self, FORMAT};
use eventflux::store::sim::SimStore;
use eventflux::store::sled::{StoreOptions, open};

#[path = "formats/life.rs"]
mod life;

use life::{Life, Made, line};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/formats");
/// No store here takes more than this, unpacked.
const TAR_BYTES_MAX: usize = 16 << 20;
/// What comes out of these does not depend on what came before.
const STATELESS: [&str; 3] = ["Wide", "Letters", "Added"];

fn file(number: u32, ending: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{number}.{ending}"))
}

fn made(number: u32) -> Made {
    let read = |ending| fs::read_to_string(file(number, ending)).unwrap();
    Made::new(number, &read("sql"), &read("steps"))
}

/// The formats of which there is a store.
fn all() -> Vec<u32> {
    let entries = fs::read_dir(FOLDER).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let numbers = names.filter_map(|name| name.strip_suffix(".tar.zst")?.parse().ok());
    let mut all: Vec<u32> = numbers.collect();
    all.sort_unstable();
    all
}

fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output().unwrap();
    let (out, err) = (
        String::from_utf8(done.stdout).unwrap(),
        String::from_utf8(done.stderr).unwrap(),
    );
    assert!(
        done.status.success() && err.is_empty(),
        "{arguments:?}: {err}{out}"
    );
    out
}

fn unpacked(number: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let packed = fs::read(file(number, "tar.zst")).unwrap();
    let archive = folder.path().join("tar");
    fs::write(
        &archive,
        zstd::bulk::decompress(&packed, TAR_BYTES_MAX).unwrap(),
    )
    .unwrap();
    let (archive, to) = (archive.to_str().unwrap(), folder.path().to_str().unwrap());
    run("tar", &["xf", archive, "--no-same-owner", "-C", to]);
    folder
}

/// What the store in `state` holds, as a text. Looks only.
fn content(made: &Made, state: &Path) -> String {
    let inspect = |words: &[&str]| {
        let whose = ["inspect", "--store", state.to_str().unwrap()];
        run(
            env!("CARGO_BIN_EXE_eventflux"),
            &[whose.as_slice(), words].concat(),
        )
    };
    inspect(&["verify"]);
    let mut out = "==== the log\n".to_owned();
    for line in inspect(&["cat", "log"]).lines() {
        writeln!(out, "{}", made.shortened(line)).unwrap();
    }
    let opened = open(state, &StoreOptions::default()).unwrap();
    assert_eq!(opened.events, []);
    let store = &*opened.store;
    assert_eq!(format::said(store).unwrap(), Some(made.number));
    out.push_str("==== checkpoints\n");
    for listed in checkpoint::list(store).unwrap() {
        let state = checkpoint::load(store, &listed, &mut |_| {}).unwrap();
        let pieces = state.unwrap().state.pieces().len();
        let (number, seq, time) = (listed.number, listed.seq, listed.time);
        let (runs, base) = match &listed.form {
            Form::Runs { runs, base } => (runs.len(), *base),
            Form::Old => (0, 0),
            Form::Damaged(why) => panic!("{why}"),
        };
        writeln!(
            out,
            "{number}: after {seq} at {time}, {runs} runs, {base} of them the base, {pieces} pieces"
        )
        .unwrap();
    }
    for name in outbox::names(store).unwrap() {
        let look = outbox::look_at(store, &name).unwrap();
        assert_eq!(look.damage, [""; 0]);
        let (entries, cursor, counts) = (look.entries, look.cursor, look.counts);
        let oldest = look.oldest.map_or(0, |time| time.0);
        writeln!(
            out,
            "==== outbox {name}\n{entries} since {oldest}; through {cursor}; confirmed {}, \
             dropped {}, expired {}, refused {}, damaged {}",
            counts.confirmed, counts.dropped, counts.expired, counts.refused, counts.damaged
        )
        .unwrap();
        outbox::waiting(store, &name, &mut |entry| {
            writeln!(out, "{}", line(&name, &entry)).unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    out
}

/// What comes after the store was opened.
fn afterwards(made: &Made, life: &mut Life<'_>) -> String {
    let mut out = "==== marks\n".to_owned();
    for source in ["Readings", "Acks", "Timed"] {
        writeln!(out, "{source}: {:?}", life.marks(source)).unwrap();
    }
    out.push_str("==== afterwards\n");
    for step in &made.afterwards {
        writeln!(out, "> {step}").unwrap();
        for line in life.step(step) {
            writeln!(out, "{line}").unwrap();
        }
    }
    out
}

fn assert_same(number: u32, came: &str, expected: &str) {
    let mut section = "";
    let (mut came, mut expected) = (came.lines(), expected.lines());
    for at in 1.. {
        let (came, expected) = (came.next(), expected.next());
        if let Some(begun) = expected.filter(|line| line.starts_with(['=', '>'])) {
            section = begun;
        }
        assert_eq!(came, expected, "{number}.expected:{at}, in `{section}`");
        if came.is_none() {
            return;
        }
    }
}

#[test]
fn every_store_there_ever_was_opens_and_goes_on() {
    for number in all() {
        let made = made(number);
        let folder = unpacked(number);
        let state = folder.path().join("state");
        let mut came = content(&made, &state);
        {
            let opened = open(&state, &StoreOptions::default()).unwrap();
            assert_eq!(opened.events, []);
            let mut life = Life::open(&made, opened.store, opened.id, true);
            assert!(life.records > 10, "something is run again");
            came.push_str(&afterwards(&made, &mut life));
            for step in ["0 checkpoint", "0 trim"] {
                assert!(life.step(step).is_empty());
            }
        }
        let expected = fs::read_to_string(file(number, "expected")).unwrap();
        assert_same(number, &came, &expected);
        // It is a store of this version now.
        let opened = open(&state, &StoreOptions::default()).unwrap();
        assert_eq!(opened.events, []);
        let life = Life::open(&made, Arc::clone(&opened.store), opened.id, true);
        assert_eq!(life.records, 0);
        assert_eq!(format::said(&*opened.store).unwrap(), Some(FORMAT));
    }
}

/// Whoever changes the format has to leave a store of it here.
#[test]
fn this_version_has_a_store() {
    if std::env::var_os("EVENTFLUX_WRITE_FORMAT").is_some() {
        write(FORMAT);
    }
    assert_eq!(all().last(), Some(&FORMAT), "see tests/formats/README.md");
}

fn write(number: u32) {
    let archive = file(number, "tar.zst");
    assert!(!archive.exists(), "formats are for ever");
    let made = made(number);
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let options = StoreOptions {
        compact_bytes_min: 0,
        ..StoreOptions::default()
    };
    let opened = open(&state, &options).unwrap();
    let id = opened.id;
    Life::begun(&made, opened.store, id).live();
    // Looking opens it and closes it again.
    let expected = content(&made, &state);
    fs::remove_file(state.join("lock")).unwrap();

    // The same without an end between.
    let mut whole = Life::begun(&made, Arc::new(SimStore::new()), id);
    whole.live();
    let mut empty = Life::open(&made, Arc::new(SimStore::new()), id, true);
    empty.time = whole.time;
    let came = afterwards(&made, &mut whole);
    let nothing = afterwards(&made, &mut empty);
    let mut silent = Vec::new();
    for (name, _) in &made.sinks {
        let of = |text: &str| {
            let own = text
                .lines()
                .filter(|line| line.starts_with(&format!("{name} ")));
            let rows = own.map(|line| line.split_once('{').unwrap().1.to_owned());
            rows.collect::<Vec<_>>()
        };
        let (with, without) = (of(&came), of(&nothing));
        if with.is_empty() || (with == without && !STATELESS.contains(&name.as_str())) {
            silent.push((name.as_str(), with, without));
        }
    }
    assert!(
        silent.is_empty(),
        "the steps do not show the state of {silent:?}"
    );
    fs::write(file(number, "expected"), expected + &came).unwrap();
    assert!(
        state.join("store.1").exists(),
        "the store has been compacted"
    );
    let tar = folder.path().join("tar");
    let arguments = [
        "cf",
        tar.to_str().unwrap(),
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--sort=name",
        "-C",
        folder.path().to_str().unwrap(),
        "state",
    ];
    run("tar", &arguments);
    let packed = zstd::encode_all(&*fs::read(&tar).unwrap(), 22).unwrap();
    fs::write(&archive, packed).unwrap();
}
