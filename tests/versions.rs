//! Going to another version and back: a store that a newer one has written is refused before
//! anything is touched, and an upgrade that is cut off is gone on with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail where it stands"
)]

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/wait.rs"]
mod wait;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use eventflux::store::WriteBatch;
use eventflux::store::format::{self, FORMAT};
use eventflux::store::seal::{Sealer, is_whole};
use eventflux::store::sled::{StoreOptions, open};

use crate::daemon::Site;

/// Where the store says its format, see `src/store/format.rs`.
const FORMAT_KEY: &[u8] = &[0, b'F'];
const OWN: &str = env!("CARGO_PKG_VERSION");

/// Rows come by themselves, wait in an outbox, and are counted in a group. Each half second there
/// is a checkpoint.
const SQL: &str = "
CREATE STREAM Ticks (at BIGINT) WITH ('type' = 'source', 'extension' = 'timer',
  'timer.every' = '5 ms', 'format' = 'json', 'timer.payload' = '{\"at\": 1}');
CREATE STREAM Out (n BIGINT) WITH ('type' = 'sink', 'extension' = 'http', 'format' = 'json',
  'http.url' = 'http://127.0.0.1:9/');
CREATE STREAM Said (n BIGINT) WITH ('type' = 'sink', 'extension' = 'log');
INSERT INTO Out SELECT count(*) AS n FROM Ticks;
INSERT INTO Said SELECT count(*) AS n FROM Ticks;
";
const TOML: &str = "[checkpoint]\ninterval = \"500 ms\"\n";

/// A site whose store has a log, a checkpoint and an outbox.
fn lived_in() -> Site {
    let mut site = Site::new(SQL, TOML);
    site.start();
    // Then there is an output; and a stop leaves a checkpoint.
    site.wait_for("not delivered");
    site.stop();
    site
}

/// Every file below the folder, with what is in it.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(all.insert(path.clone(), std::fs::read(&path).unwrap())),
            }
        }
    }
    all
}

/// As a look opens a store, whoever has written it.
fn looks() -> StoreOptions {
    StoreOptions {
        only_looks: true,
        ..StoreOptions::default()
    }
}

/// Sets or removes a key of a store that nobody else uses.
fn put(site: &Site, options: StoreOptions, key: &[u8], value: Option<Vec<u8>>) {
    let opened = open(&site.path("store"), &options).unwrap();
    assert_eq!(opened.events, []);
    let mut batch = WriteBatch::new();
    match value {
        Some(value) => batch.put(key, value),
        None => batch.delete(key),
    }
    opened.store.write(batch).unwrap();
    opened.store.sync().unwrap();
}

/// What a version says that needs others to know `needed`.
fn said(needed: u32, by: &str) -> Vec<u8> {
    let head = [needed.to_le_bytes(), needed.to_le_bytes()].concat();
    let value = Sealer::default().seal(b'F', &head, by.as_bytes());
    value.unwrap()
}

/// The same value as a later version of the envelope would have it.
fn foreign(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    value[0] += 1;
    let sum = crc32c::crc32c(&value[..4]);
    let sum = crc32c::crc32c_append(sum, &value[8..]);
    value[4..8].copy_from_slice(&sum.to_le_bytes());
    assert!(is_whole(&value));
    value
}

fn assert_refused(site: &mut Site, by: &str, what: &str) {
    let (code, log) = site.run_to_end();
    assert_eq!(code, Some(4), "{what}: {log}");
    let sentence =
        format!("the store was written by eventflux {by} in {what}; this is eventflux {OWN}");
    assert!(log.contains(&sentence), "{sentence}:\n{log}");
    assert!(log.contains("install the newer version again, or move the state directory away"));
    assert!(
        !site.path("store/quarantine").exists(),
        "nothing is set aside"
    );
}

#[test]
fn a_newer_store_is_refused_and_no_byte_of_it_changes() {
    let mut site = lived_in();
    let own = std::fs::read(site.path("store/format")).unwrap();
    assert_eq!(own, said(FORMAT, OWN), "the version that was here says so");
    for (by, value) in [
        ("9.8.7", said(FORMAT + 1, "9.8.7")),
        ("a newer version", foreign(&own)),
    ] {
        std::fs::write(site.path("store/format"), &value).unwrap();
        let before = files(&site.path("store"));
        let what = match by {
            "9.8.7" => format!("format {}", FORMAT + 1),
            _ => "a format that is not known here".to_owned(),
        };
        assert_refused(&mut site, by, &what);
        assert!(
            files(&site.path("store")) == before,
            "{by}: files have changed"
        );
    }
    // With the newer version back, or its word that older ones may go on, all is as it was.
    let head = [(FORMAT + 1).to_le_bytes(), FORMAT.to_le_bytes()].concat();
    let value = Sealer::default().seal(b'F', &head, b"9.8.7").unwrap();
    std::fs::write(site.path("store/format"), value).unwrap();
    site.start();
    assert!(site.log().contains("went on at"), "{}", site.log());
    site.stop();
    assert_eq!(std::fs::read(site.path("store/format")).unwrap(), own);
}

/// The file is gone, or was never there: what is inside decides, and nothing is set aside.
#[test]
fn what_a_newer_version_wrote_inside_is_refused_too() {
    let mut site = lived_in();
    // One of each table, and a journal, as a crash leaves it.
    let mut victims = BTreeMap::from([(0, (vec![0, b'J'], None))]);
    let opened = open(&site.path("store"), &StoreOptions::default()).unwrap();
    let mut note = |key: &[u8], value: &[u8]| {
        if key[0] > 0 {
            victims.insert(key[0], (key.to_vec(), Some(value.to_vec())));
        }
        ControlFlow::Continue(())
    };
    opened.store.range(&[0], &[0xff], &mut note).unwrap();
    drop(opened);
    let tables: Vec<u8> = victims.keys().copied().collect();
    assert_eq!(
        tables, b"\0CLOS",
        "the store's own, checkpoints, log, outbox and its state"
    );
    for (key, value) in victims.values() {
        let journal = || Sealer::default().seal(b'J', &[], &[]).unwrap();
        put(
            &site,
            StoreOptions::default(),
            key,
            Some(foreign(&value.clone().unwrap_or_else(journal))),
        );
        std::fs::remove_file(site.path("store/format")).unwrap();
        assert_refused(
            &mut site,
            "a newer version",
            "a format that is not known here",
        );
        put(&site, looks(), key, value.clone());
        site.start();
        assert!(site.log().contains("went on at"), "{}", site.log());
        site.stop();
        assert!(!site.path("store/quarantine").exists());
    }
}

#[test]
fn the_key_alone_is_enough_to_refuse() {
    let mut site = lived_in();
    let newer = said(FORMAT + 3, "9.8.7");
    put(&site, StoreOptions::default(), FORMAT_KEY, Some(newer));
    std::fs::remove_file(site.path("store/format")).unwrap();
    assert_refused(&mut site, "9.8.7", &format!("format {}", FORMAT + 3));
    assert!(
        !site.path("store/format").exists(),
        "no word of ours beside it"
    );
}

/// The store of an older version is opened for the first time, again and again, and killed a
/// little later each time: it is always one that goes on.
#[test]
fn an_upgrade_that_is_cut_off_is_gone_on_with() {
    let mut site = lived_in();
    let mut cut_off = 0;
    for step in 0..24_u64 {
        let older = said(FORMAT - 1, "");
        put(&site, StoreOptions::default(), FORMAT_KEY, Some(older));
        std::fs::remove_file(site.path("store/format")).unwrap();
        site.spawn();
        wait::hang(Duration::from_millis(2 * step));
        site.kill();
        cut_off += usize::from(!site.log().contains("ready after"));
        let file = std::fs::read(site.path("store/format")).ok();
        assert!(
            file.is_none() || file == Some(said(FORMAT, OWN)),
            "half a word"
        );
        let opened = open(&site.path("store"), &looks()).unwrap();
        assert_eq!(opened.events, []);
        let inside = format::said(&*opened.store).unwrap();
        // What is inside is never newer than what the file says.
        assert!(inside == Some(FORMAT - 1) || file.is_some(), "{inside:?}");
        drop(opened);
    }
    assert!(cut_off > 0, "each start was faster than the first kill");
    site.start();
    assert!(site.log().contains("went on at"), "{}", site.log());
    let log = site.stop();
    assert!(!log.contains("ERROR"), "{log}");
    let opened = open(&site.path("store"), &StoreOptions::default()).unwrap();
    assert_eq!(format::said(&*opened.store).unwrap(), Some(FORMAT));
}
