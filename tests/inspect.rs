//! `inspect` and `restore` as somebody types them: on stores that are whole, in use, damaged or
//! set aside. Whatever they say, they change nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails where it stands"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use eventflux::event::{Batch, ClockState, OutputKey, Rejected, Stamp, Timestamp, Value};
use eventflux::outbox::Limits;
use eventflux::pipeline::{Core, Input, Open, StatePolicy};
use eventflux::sql::{self, SqlText};
use eventflux::store::sled::{StoreEvent, StoreOptions, open};
use eventflux::store::{Store, WriteBatch};

#[path = "common/daemon.rs"]
mod daemon;
#[path = "common/mosquitto.rs"]
mod mosquitto;
#[path = "common/wait.rs"]
mod wait;

const SQL: &str = "\
CREATE STREAM S (k STRING, v BIGINT, f DOUBLE) WITH ('type' = 'source', 'extension' = 'mqtt',
  'mqtt.broker' = 'mqtt://localhost:1', 'mqtt.topic' = 'in', 'format' = 'json');
CREATE STREAM Out (k STRING, n BIGINT, s BIGINT) WITH ('type' = 'sink', 'extension' = 'log');
CREATE STREAM Pairs (a BIGINT, b BIGINT) WITH ('type' = 'sink', 'extension' = 'log');
CREATE STREAM Quiet (a BIGINT) WITH ('type' = 'sink', 'extension' = 'log');
CREATE TABLE Newest (k STRING PRIMARY KEY, v BIGINT);
UPSERT INTO Newest SELECT k, v FROM S;
INSERT INTO Out SELECT k, count(*) AS n, sum(v) AS s FROM S WINDOW('tumbling', 1 SECOND) GROUP BY k;
INSERT INTO Pairs SELECT a.v AS a, b.v AS b FROM PATTERN (
  EVERY a=S[v > 50] -> b=S[v < 20] WITHIN 3 SECONDS);
INSERT INTO Quiet SELECT v AS a FROM S WHERE v < 0;
";
const SINKS: [&str; 3] = ["Out", "Pairs", "Quiet"];
/// 2026-11-21T10:00:00Z
const BEGIN: i64 = 1_795_255_200_000;

/// A folder with a configuration, `app.toml`, and a store in `state`.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// With a history of so many turns of ten rows, and a checkpoint after every so many.
    fn new(turns: i64, checkpoint_every: i64) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let config = "[application]\nname = \"test\"\nsql = \"app.sql\"\n[store]\n\
                      path = \"state\"\n[checkpoint]\nkeep = 3\n";
        fs::write(folder.path().join("app.toml"), config).unwrap();
        fs::write(folder.path().join("app.sql"), SQL).unwrap();
        let site = Site { folder };
        site.live(turns, checkpoint_every);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn live(&self, turns: i64, checkpoint_every: i64) {
        let texts = [SqlText {
            path: "app.sql".to_owned(),
            text: SQL.to_owned(),
        }];
        let opened = open(&self.path("state"), &StoreOptions::default()).unwrap();
        let application = Arc::new(sql::compile(&texts).unwrap());
        let stream = application.stream_named("S").unwrap().0;
        let (mut core, _) = Core::open(&Open {
            store: opened.store,
            identity: opened.id,
            application,
            texts: &texts,
            sinks: &SINKS.map(|name| (name.to_owned(), Limits::NONE)),
            checkpoints_kept: 3,
            state_policy: StatePolicy::KeepCompatible,
        })
        .unwrap();
        core.note_clock(ClockState {
            boot: "boot".to_owned(),
            trusted: true,
            wall: Timestamp(BEGIN),
        });
        let input = |rows, rejected| {
            vec![Input {
                stream,
                rows,
                rejected,
                marks: Vec::new(),
            }]
        };
        for turn in 0..turns {
            let time = Timestamp(BEGIN + turn * 400);
            let mut rows = Batch::new(3);
            for number in 0..10 {
                let value = (turn * 10 + number) * 37 % 101;
                let key = Value::text(["a", "b"][usize::from(value % 2 == 1)]);
                let float = if number == 3 {
                    Value::Null
                } else {
                    Value::Float(0.1)
                };
                rows.push(Stamp::default(), [key, Value::Int(value), float]);
            }
            let done = core.turn(time, input(rows, Vec::new())).unwrap();
            core.write(done).unwrap();
            if checkpoint_every > 0 && turn % checkpoint_every == checkpoint_every - 1 {
                core.checkpoint().unwrap();
            }
        }
        let time = Timestamp(BEGIN + turns * 400);
        let rejected = Rejected {
            reason: "malformed".to_owned(),
            detail: "not JSON".to_owned(),
            bytes: b"{\"k\": ".to_vec(),
            bytes_total: 6,
        };
        let done = core
            .turn(time, input(Batch::new(3), vec![rejected]))
            .unwrap();
        core.write(done).unwrap();
        let done = core.turn(time.plus_ms(5_000), Vec::new()).unwrap();
        core.write(done).unwrap();
        let mut batch = WriteBatch::new();
        let outbox = core.outbox_mut();
        let first = outbox.read(0, OutputKey::default(), 1, 1).unwrap()[0].key;
        outbox.confirm(0, first, &mut batch).unwrap();
        core.store().write(batch).unwrap();
        core.store().sync().unwrap();
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_eventflux"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TMPDIR", self.folder.path())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let left = fs::read_dir(self.folder.path()).unwrap();
        let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(left.filter(|name| name.contains("eventflux-look")).count() == 0);
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// With the store in `state`, and nothing changed there.
    fn inspect(&self, arguments: &[&str]) -> (i32, String, String) {
        let before = content(&self.path("state"));
        let all = [["inspect", "--store", "state"].as_slice(), arguments].concat();
        let said = self.run(&all);
        assert_eq!(content(&self.path("state")), before, "{arguments:?}");
        said
    }

    /// The same, with the exit code 0 and no complaint.
    fn shows(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.inspect(arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}: {out}");
        out
    }

    fn store(&self) -> Arc<dyn Store> {
        open(&self.path("state"), &StoreOptions::default())
            .unwrap()
            .store
    }

    fn database(&self) -> PathBuf {
        self.path("state/store/db")
    }

    /// The rows of the log: their numbers and what is in them.
    fn rows(&self) -> BTreeMap<u64, String> {
        rows(&self.shows(&["cat", "log", "--stream", "S"]))
    }
}

fn rows(lines: &str) -> BTreeMap<u64, String> {
    let all = lines.lines().map(|line| {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        (json["seq"].as_u64().unwrap_or(0), line.to_owned())
    });
    all.filter(|(_, line)| line.contains("\"kind\":\"event\""))
        .collect()
}

type Content = BTreeMap<PathBuf, (SystemTime, Vec<u8>)>;

fn content(folder: &Path) -> Content {
    let mut all = Content::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(content(&path));
        } else {
            let written = fs::metadata(&path).unwrap().modified().unwrap();
            all.insert(path.clone(), (written, fs::read(&path).unwrap()));
        }
    }
    all
}

#[test]
fn ls_is_one_screen() {
    let site = Site::new(6, 2);
    let out = site.shows(&["ls"]);
    // Which number the store drew, and what sled makes of it, is not always the same.
    let stable: Vec<&str> = out
        .lines()
        .filter(|line| !line.starts_with("identity") && !line.starts_with("on disk"))
        .collect();
    let expected = "\
store        state
opens        yes
format       2

log          10 records, 1.7 KiB
  from       1 (-)
  to         64 (2026-11-21T10:00:07.400Z)
  rows       60
  rejected   1

checkpoints  4
  number  after  time                      size     runs  base  state
  2       22     2026-11-21T10:00:00.400Z  895 B    2     1     whole
  3       22     2026-11-21T10:00:00.400Z  737 B    1     1     whole
  4       42     2026-11-21T10:00:01.200Z  1.0 KiB  2     1     whole
  5       62     2026-11-21T10:00:02.000Z  1.3 KiB  3     1     whole

outboxes     2
  sink   waiting  size    oldest                    confirmed  dropped  expired  \
  refused  purged  damaged
  Out    5        404 B   2026-11-21T10:00:01.200Z  1          0        0        0        0       0
  Pairs  26       1014 B  2026-11-21T10:00:00.000Z  0          0        0        0        0       0

quarantine   0";
    assert_eq!(stable.join("\n"), expected, "{out}");
    let json: serde_json::Value = serde_json::from_str(&site.shows(&["ls", "--json"])).unwrap();
    assert_eq!(json["log"]["to"]["seq"], 64);
    assert_eq!(json["checkpoints"].as_array().unwrap().len(), 4);
    assert_eq!(json["outboxes"][0]["waiting"], 5);
    // The configuration says where the store is, too.
    let (_, named, _) = site.run(&["inspect", "ls", "--config", "app.toml"]);
    assert_eq!(named.lines().nth(4), out.lines().nth(4));
}

#[test]
fn cat_shows_every_kind_of_record() {
    let site = Site::new(6, 2);
    let out = site.shows(&["cat", "log"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 64);
    assert!(lines[0].starts_with(
        "{\"seq\":1,\"time\":\"-\",\"kind\":\"config\",\"application\":[{\"path\":\"app.sql\","
    ));
    let expected = [
        (
            1,
            "{\"seq\":2,\"time\":\"2026-11-21T10:00:00.000Z\",\"kind\":\"clock\",\"boot\":\"boot\",\
             \"trusted\":true,\"wall\":\"2026-11-21T10:00:00.000Z\"}",
        ),
        (
            2,
            "{\"seq\":3,\"time\":\"2026-11-21T10:00:00.000Z\",\"kind\":\"event\",\"stream\":\"S\",\
             \"event\":{\"k\":\"a\",\"v\":0,\"f\":0.1}}",
        ),
        (
            5,
            "{\"seq\":6,\"time\":\"2026-11-21T10:00:00.000Z\",\"kind\":\"event\",\"stream\":\"S\",\
             \"event\":{\"k\":\"a\",\"v\":10,\"f\":null}}",
        ),
        (
            62,
            "{\"seq\":63,\"time\":\"2026-11-21T10:00:02.400Z\",\"kind\":\"rejected\",\
              \"stream\":\"S\",\"reason\":\"malformed\",\"detail\":\"not JSON\",\
              \"bytes_total\":6,\"text\":\"{\\\"k\\\": \"}",
        ),
        (
            63,
            "{\"seq\":64,\"time\":\"2026-11-21T10:00:07.400Z\",\"kind\":\"tick\"}",
        ),
    ];
    for (index, line) in expected {
        assert_eq!(lines[index], line);
    }
}

#[test]
fn cat_shows_a_part_of_the_log() {
    let site = Site::new(6, 2);
    let seqs = |arguments: &[&str]| {
        let out = site.shows(&[["cat", "log"].as_slice(), arguments].concat());
        let all = rows(&out).into_keys().collect::<BTreeSet<u64>>();
        (
            out.lines().count(),
            all.first().copied(),
            all.last().copied(),
        )
    };
    assert_eq!(
        seqs(&["--from", "17", "--to", "25"]),
        (9, Some(17), Some(25))
    );
    assert_eq!(seqs(&["--stream", "S"]), (61, Some(3), Some(62)));
    assert_eq!(seqs(&["--stream", "T"]), (0, None, None));
    let times = [
        "--from",
        "2026-11-21T10:00:00.4Z",
        "--to",
        "2026-11-21T10:00:00.8Z",
    ];
    assert_eq!(seqs(&times), (20, Some(13), Some(32)));
}

#[test]
fn cat_shows_what_waits_and_what_a_checkpoint_has() {
    let site = Site::new(6, 2);
    let out = site.shows(&["cat", "outbox", "Pairs"]);
    assert_eq!(out.lines().count(), 26);
    let one = "\"time\":\"2026-11-21T10:00:00.000Z\",\"event\":{\"a\":74,\"b\":10}}";
    assert!(out.lines().any(|line| line.ends_with(one)), "{out}");
    let (code, _, err) = site.inspect(&["cat", "outbox", "Pears"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("no sink 'Pears' has an outbox; these have: Out, Pairs"),
        "{err}"
    );

    let out = site.shows(&["cat", "checkpoint", "5"]);
    for part in [
        "\"checkpoint\":5",
        "\"seq\":62",
        "what the pipeline remembers",
        "the query into 'Out' (app.sql:8)",
        "the table 'Newest'",
    ] {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
    let (code, _, err) = site.inspect(&["cat", "checkpoint", "9"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("there is no checkpoint 9; there are: 2, 3, 4, 5"),
        "{err}"
    );
}

/// What is exported and replayed gives what the daemon gave.
#[test]
fn the_log_is_exported_as_replay_reads_it() {
    let site = Site::new(9, 4);
    let (code, out, err) = site.inspect(&["export", "log", "--out", "events.ndjson"]);
    assert_eq!((code, out.as_str()), (0, ""));
    assert_eq!(err, "1 rejected inputs are left out: they are no rows\n");
    let replay = [
        "replay",
        "app.toml",
        "--input",
        "events.ndjson",
        "--output",
        "Pairs",
    ];
    let (code, replayed, err) = site.run(&replay);
    assert_eq!((code, err.as_str()), (0, ""));
    let waiting = site.shows(&["export", "outbox", "Pairs", "--out", "-"]);
    let event = |line: &str| line[line.find("\"event\":").unwrap()..].to_owned();
    let (replayed, waiting): (Vec<_>, Vec<_>) = (
        replayed.lines().map(event).collect(),
        waiting.lines().map(event).collect(),
    );
    assert!(waiting.len() > 10);
    assert_eq!(replayed, waiting);
    let raw = site.shows(&["export", "raw", "--out", "-"]);
    assert!(
        raw.lines()
            .filter(|line| line.starts_with("{\"key\":\"4c"))
            .count()
            >= 13
    );
}

#[test]
fn what_is_whole_is_verified_and_what_is_not_there_is_said() {
    let site = Site::new(6, 2);
    let out = site.shows(&["verify"]);
    assert!(
        out.starts_with("store: opens\ncheckpoint 2 after 22: whole, "),
        "{out}"
    );
    let end = "log from 1 to 64: 10 records, 60 rows, 1 rejected\noutbox of Out: 5 outputs wait\n\
               outbox of Pairs: 26 outputs wait\n\
               nothing is damaged\n";
    assert!(out.ends_with(end), "{out}");
    let (code, _, err) = site.run(&["inspect", "--store", "nowhere", "ls"]);
    assert_eq!(
        (code, err.as_str()),
        (4, "eventflux: there is no store in `nowhere`\n")
    );
    let (code, _, err) = site.run(&["inspect", "--store", "state", "--quarantine", "3", "ls"]);
    assert_eq!(code, 4, "{err}");
    assert!(!site.path("nowhere").exists());
}

/// Values of our own that are damaged in a store that opens.
#[test]
fn damaged_values_are_named_with_what_they_cost() {
    let site = Site::new(6, 2);
    spoil(&site, &[b"L".as_slice(), &13u64.to_be_bytes()].concat());
    let (code, out, _) = site.inspect(&["verify"]);
    assert_eq!(code, 1, "{out}");
    for part in [
        "damaged at 13: the checksum differs",
        "the log's damage up to 62 costs no state, as a checkpoint covers it",
    ] {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
    spoil(&site, &[b"L".as_slice(), &63u64.to_be_bytes()].concat());
    let (_, out, _) = site.inspect(&["verify"]);
    let part = "a start ends the log at 63 and sets aside what lies behind: 1 whole records with 0 \
                rows";
    assert!(out.contains(part), "{out}");
    // Only the first checkpoint shares nothing with the base of the others.
    let listed = eventflux::checkpoint::list(&*site.store()).unwrap();
    let base = listed.last().unwrap().runs()[0].number;
    spoil(
        &site,
        &[b"CR".as_slice(), &base.to_be_bytes(), &0u32.to_be_bytes()].concat(),
    );
    let (_, out, _) = site.inspect(&["verify"]);
    assert!(out.contains("checkpoint 5 after 62: damaged: "), "{out}");
    assert!(
        out.contains("a start goes on from the newest whole checkpoint, after 22"),
        "{out}"
    );
    assert!(out.contains("a start ends the log at 63"), "{out}");
    assert!(
        out.ends_with("there is damage; nothing was changed\n"),
        "{out}"
    );
    let log = site.inspect(&["cat", "log"]).1;
    assert!(log.contains("{\"kind\":\"damaged\",\"seq\":13,\"why\":\"the checksum differs\"}"));
    assert_eq!(rows(&log).len(), 50);
}

/// Changes one bit of a value.
fn spoil(site: &Site, key: &[u8]) {
    let store = site.store();
    let mut value = store.get(key).unwrap().unwrap();
    *value.last_mut().unwrap() ^= 4;
    let mut batch = WriteBatch::new();
    batch.put(key, value);
    store.write(batch).unwrap();
    store.sync().unwrap();
}

/// sled's own files are damaged: something is always said, and what is shown is true.
#[test]
fn damaged_files_are_read_as_far_as_they_go() {
    let site = Site::new(300, 40);
    let rows_before = site.rows();
    let whole = fs::read(site.database()).unwrap();
    let (mut noticed, mut seed) = (0, 0x9E37_79B9_7F4A_7C15_u64);
    for attempt in 0..10 {
        let mut damaged = whole.clone();
        for _ in 0..4 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = usize::try_from(seed).unwrap() % damaged.len();
            damaged[at] ^= 0x55;
        }
        fs::write(site.database(), &damaged).unwrap();
        let (code, out, err) = site.inspect(&["cat", "log", "--stream", "S"]);
        assert_eq!(code, 0, "{err}");
        let found = rows(&out);
        for (seq, line) in &found {
            assert_eq!(rows_before.get(seq), Some(line), "attempt {attempt}");
        }
        let all = rows(
            &site
                .inspect(&["--salvage", "cat", "log", "--stream", "S"])
                .1,
        );
        assert!(
            all.len() > rows_before.len() * 9 / 10,
            "{attempt}: {}",
            all.len()
        );
        assert!(all.len() >= found.len());
        assert!(
            all.iter()
                .all(|(seq, line)| rows_before.get(seq) == Some(line))
        );
        // sled may take the damage for its end; then it is noticed by what lies behind.
        if found.len() < all.len() {
            noticed += 1;
            let (code, out, _) = site.inspect(&["verify"]);
            assert_eq!(code, 1, "{out}");
        }
    }
    assert!(noticed > 0);
}

#[test]
fn a_store_without_its_snapshot_or_its_end_is_read() {
    let site = Site::new(60, 20);
    let rows_before = site.rows();
    let home = site.path("state/store");
    let snapshot = fs::read_dir(&home).unwrap();
    let snapshot = snapshot.map(|entry| entry.unwrap().path());
    let snapshot = snapshot.into_iter().find(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("snap.")
    });
    if let Some(snapshot) = snapshot {
        let bytes = fs::read(&snapshot).unwrap();
        fs::write(&snapshot, &bytes[..bytes.len() / 2]).unwrap();
        let (code, out, _) = site.inspect(&["verify"]);
        assert_eq!(code, 1);
        assert!(
            out.contains("opens without sled's snapshot, which costs nothing"),
            "{out}"
        );
        fs::remove_file(&snapshot).unwrap();
    }
    assert_eq!(site.rows(), rows_before);
    fs::write(home.join("snap.0000000000000000"), b"").unwrap();
    let (code, out, _) = site.inspect(&["verify"]);
    assert_eq!(code, 1, "{out}");
    fs::remove_file(home.join("snap.0000000000000000")).unwrap();
    let whole = fs::read(site.database()).unwrap();
    for part in [2, 4] {
        fs::write(site.database(), &whole[..whole.len() / part]).unwrap();
        let (code, out, err) = site.inspect(&["cat", "log", "--stream", "S"]);
        assert_eq!(code, 0, "{err}");
        for (seq, line) in rows(&out) {
            assert_eq!(rows_before.get(&seq), Some(&line));
        }
    }
}

#[test]
fn what_was_set_aside_can_be_looked_into() {
    let site = Site::new(200, 50);
    let rows_before = site.rows();
    let waiting = site.shows(&["cat", "outbox", "Pairs"]);
    let mut bytes = fs::read(site.database()).unwrap();
    let middle = bytes.len() / 2;
    for place in bytes[middle..].iter_mut().step_by(40_000) {
        *place ^= 0xFF;
    }
    fs::write(site.database(), &bytes).unwrap();
    fs::write(site.path("state/store/conf"), b"nothing that sled wrote").unwrap();
    let (code, out, err) = site.inspect(&["verify"]);
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("store: does not open: "), "{out}");
    let opened = open(&site.path("state"), &StoreOptions::default()).unwrap();
    let aside = opened
        .events
        .iter()
        .any(|event| matches!(event, StoreEvent::Quarantined { .. }));
    assert!(aside, "{:?}", opened.events);
    drop(opened);
    let out = site.shows(&["ls"]);
    assert!(out.contains("quarantine   1\n  number  written "), "{out}");
    assert!(out.contains("log          0 records"), "{out}");
    let (code, out, err) = site.inspect(&["--quarantine", "1", "ls"]);
    assert_eq!(code, 0);
    assert!(err.contains("the store is not open ("), "{err}");
    assert!(
        out.starts_with("store        state/quarantine/1\nopens        no: "),
        "{out}"
    );
    let (_, out, _) = site.inspect(&["--quarantine", "1", "cat", "log"]);
    let found = rows(&out);
    assert!(
        found.len() > rows_before.len() * 8 / 10,
        "{} {}",
        found.len(),
        rows_before.len()
    );
    assert!(
        found
            .iter()
            .all(|(seq, line)| rows_before.get(seq) == Some(line))
    );
    let (_, out, _) = site.inspect(&["--quarantine", "1", "cat", "outbox", "Pairs"]);
    let known: BTreeSet<&str> = waiting.lines().collect();
    assert!(out.lines().count() > known.len() / 2);
    assert!(out.lines().all(|line| known.contains(line)));
}

/// A command about the configuration of a site, which is named between the two parts.
fn run_at(site: &daemon::Site, parts: &[&[&str]; 2]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_eventflux"))
        .args(parts[0])
        .arg(site.path("app.toml"))
        .args(parts[1])
        .env("TMPDIR", site.path(""))
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A daemon at work is not disturbed, and what it has made so far is seen.
#[test]
fn a_running_daemon_is_looked_at() {
    let sql = "CREATE TRIGGER Beat AT EVERY 5 MILLISECONDS;\n\
               CREATE STREAM Out (n BIGINT) WITH ('type' = 'sink', 'extension' = 'http',\n\
               'http.url' = 'http://127.0.0.1:9/nobody');\n\
               INSERT INTO Out SELECT count(*) AS n FROM Beat WINDOW('length', 50);\n";
    let mut site = daemon::Site::new(sql, "[checkpoint]\ninterval = \"100 ms\"");
    site.start();
    let look = |what: &[&str]| run_at(&site, &[&["inspect", "--config"], what]);
    let mut last = 0;
    for _ in 0..5 {
        let (code, out, err) = look(&["ls", "--json"]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["in_use_by"], site.pid());
        assert_eq!(json["log"]["damage"].as_array().unwrap().len(), 0);
        let seq = json["log"]["to"]["seq"].as_u64().unwrap();
        assert!(seq > last, "{seq} {last}");
        last = seq;
        let (code, out, err) = look(&["verify"]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    }
    let at = last.to_string();
    let restore = |site: &daemon::Site, more: &[&str]| {
        run_at(
            site,
            &[&["restore"], &[&["--at", at.as_str()], more].concat()],
        )
    };
    let (code, _, err) = restore(&site, &[]);
    assert_eq!(code, Some(4));
    assert!(err.contains("locked by process"), "{err}");
    let (code, out, err) = restore(&site, &["--dry-run"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains(&format!("the state would be that after input {last} (")),
        "{out}"
    );
    assert!(
        out.ends_with("nothing was changed: this was tried out in a copy\n"),
        "{out}"
    );
    assert!(!site.log().contains("ERROR"));
    site.stop();
    let (code, out, err) = restore(&site, &[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.contains(&format!("the state is that after input {last} (")),
        "{out}"
    );
    assert!(out.contains("to undo it: eventflux restore "), "{out}");
    site.start();
    site.stop();
    assert!(!site.log().contains("WARN the"), "{}", site.log());
}

#[test]
fn restore_says_what_it_would_do_and_how_far_it_goes() {
    let site = Site::new(6, 2);
    let before = content(&site.path("state"));
    let arguments = [
        "restore",
        "app.toml",
        "--at",
        "2026-11-21T10:00:00.5",
        "--dry-run",
    ];
    let (code, out, err) = site.run(&arguments);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "the state would be that after input 22 (2026-11-21T10:00:00.400Z):",
            "  from the checkpoint after 22, 0 records of the log would be run again",
            "  no part of it any more: inputs 23 to 64, 40 rows and 1 rejected, from \
             2026-11-21T10:00:00.800Z to 2026-11-21T10:00:07.400Z",
            "  they stay in the log, and what has come out because of them stays out",
        ],
        "{out}"
    );
    assert_eq!(content(&site.path("state")), before);
    let (code, _, err) = site.run(&["restore", "app.toml", "--at", "64"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("the log ends at 64, so that there is nothing"),
        "{err}"
    );
    let (code, _, err) = site.run(&["restore", "app.toml", "--at", "yesterday"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("'yesterday' is neither a sequence number nor a time"),
        "{err}"
    );
    let (code, _, err) = site.run(&["restore", "app.toml", "--at", "5", "--store", "nowhere"]);
    assert_eq!(code, 4);
    assert!(err.contains("there is no store in `nowhere`"), "{err}");
    assert!(!site.path("nowhere").exists());
}
