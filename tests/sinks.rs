//! The real binary and the sinks that need no far side: files and logs, through kills, full disks
//! and outages.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
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
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::daemon::Site;
use crate::wait::wait_until;

const UNPACKED_BYTES_MAX: usize = 1 << 20;

/// A number every 5 ms, into a file in the folder `out` with these options.
fn numbers(site: &Path, options: &str) -> String {
    let path = site.join("out/numbers");
    format!(
        "CREATE TRIGGER Beat AT EVERY 5 MILLISECONDS;\n\
         CREATE STREAM Out (n BIGINT) WITH ('type' = 'sink', 'extension' = 'file', \
         'file.path' = '{}', 'json.id' = 'id'{options});\n\
         INSERT INTO Out SELECT count(*) AS n FROM Beat;\n",
        path.display()
    )
}

/// All files beside `path` that were set aside, unpacked, and it itself, in order.
fn lines(path: &Path) -> Vec<String> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut parts: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in fs::read_dir(path.parent().unwrap()).into_iter().flatten() {
        let entry = entry.unwrap().path();
        let other = entry.file_name().unwrap().to_str().unwrap();
        if let Some(number) = other.strip_prefix(&format!("{name}.")) {
            // Between the two names of a compressed file there may be a moment with both.
            parts.insert(number.trim_end_matches(".zst").to_owned(), entry.clone());
        }
    }
    let texts = parts.values().map(|part| {
        let bytes = fs::read(part).unwrap();
        if part.extension().is_some_and(|ending| ending == "zst") {
            zstd::bulk::decompress(&bytes, UNPACKED_BYTES_MAX).unwrap()
        } else {
            bytes
        }
    });
    let mut text: Vec<u8> = texts.flatten().collect();
    text.extend(fs::read(path).unwrap_or_default());
    let text = String::from_utf8(text).unwrap();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line is half"
    );
    text.lines().map(str::to_owned).collect()
}

/// That the numbers go on one by one, and come again only with their ids; the last.
fn check(lines: &[String]) -> u64 {
    let mut ids = BTreeMap::new();
    let mut last = 0;
    for line in lines {
        let row: serde_json::Value = serde_json::from_str(line).expect(line);
        let number = row["n"].as_u64().unwrap();
        let id = row["id"].as_str().unwrap().to_owned();
        assert!(number <= last + 1, "{number} follows {last}");
        assert_eq!(*ids.entry(number).or_insert_with(|| id.clone()), id);
        last = last.max(number);
    }
    last
}

#[test]
fn a_file_is_whole_and_complete_however_often_the_daemon_is_killed() {
    let mut site = Site::new("", "");
    let path = site.path("out/numbers");
    let rotate = ", 'file.rotate.bytes' = '2 KiB', 'file.keep' = '1000', 'file.compress' = 'zstd'";
    site.configure(&numbers(&site.path("."), rotate), "");
    let mut last = 0;
    for _ in 0..10 {
        site.start();
        let seen = || fs::read_dir(path.parent().unwrap()).map_or(0, Iterator::count);
        let before = (seen(), fs::metadata(&path).map_or(0, |file| file.len()));
        wait_until("something more is written", || {
            let after = (seen(), fs::metadata(&path).map_or(0, |file| file.len()));
            after.0 > before.0 || after.1 > before.1 + 500
        });
        site.kill();
    }
    // The next start mends what the last kill has left.
    site.start();
    wait_until("it goes on", || {
        let known = fs::metadata(&path).map_or(0, |file| file.len());
        known > 0 && fs::read(&path).is_ok_and(|bytes| bytes.ends_with(b"\n"))
    });
    site.stop();
    last = last.max(check(&lines(&path)));
    assert!(last > 100, "{last}");
}

/// One report, when all that waited is delivered; the other sink goes on meanwhile.
#[test]
fn an_outage_is_reported_once_and_hinders_nobody() {
    let mut site = Site::new("", "");
    let (numbers_path, events) = (site.path("out/numbers"), site.path("events"));
    // Where the folder should be made stands a file.
    fs::write(site.path("out"), "in the way").unwrap();
    let sql = format!(
        "{}CREATE STREAM Told (event STRING, stream STRING, duration_ms BIGINT, details JSON) \
         WITH ('type' = 'sink', 'extension' = 'file', 'file.path' = '{}');\n\
         INSERT INTO Told SELECT event, stream, duration_ms, details FROM _events;\n",
        numbers(&site.path("."), ""),
        events.display()
    );
    site.configure(&sql, "");
    site.start();
    let told = |event: &str| {
        let is_it = |row: &serde_json::Value| row["event"] == event && row["stream"] == "Out";
        let so_far = fs::read_to_string(&events).unwrap_or_default();
        let (whole, _) = so_far.rsplit_once('\n').unwrap_or_default();
        let rows = whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        rows.filter(is_it).collect::<Vec<serde_json::Value>>()
    };
    wait_until("the outage begins", || told("sink.down").len() == 1);
    fs::remove_file(site.path("out")).unwrap();
    wait_until("the outage is over", || told("sink.outage").len() == 1);
    let report = &told("sink.outage")[0];
    let sums = &report["details"];
    let forwarded = sums["forwarded"].as_u64().unwrap();
    assert!(forwarded > 0, "{report}");
    for nothing in ["dropped", "expired", "refused"] {
        assert_eq!(sums[nothing], 0, "{report}");
    }
    let lasted = sums["to"].as_i64().unwrap() - sums["from"].as_i64().unwrap();
    assert!(
        (lasted - report["duration_ms"].as_i64().unwrap()).abs() <= 1,
        "{report}"
    );
    assert_eq!(told("sink.up").len(), 1);
    let said = site.stop();
    assert!(
        said.contains("all that waited while the far side was away"),
        "{said}"
    );
    assert!(check(&lines(&numbers_path)) >= forwarded);
    assert_eq!(told("sink.outage").len(), 1);
}

/// A small file system; gone when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf) -> Option<Disk> {
        fs::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(&at);
        let done = mount.stderr(Stdio::null()).status();
        done.is_ok_and(|status| status.success()).then(|| Disk(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_waited_for() {
    let mut site = Site::new("", "");
    let Some(disk) = Disk::mount(site.path("out")) else {
        eprintln!("\n!!! a_full_disk_is_waited_for tests nothing: no tmpfs\n");
        return;
    };
    let path = site.path("out/numbers");
    site.configure(&numbers(&site.path("."), ""), "");
    fs::write(disk.0.join("filler"), vec![b'x'; 60 * 1024]).unwrap();
    site.start();
    site.wait_for("No space left on device");
    fs::remove_file(disk.0.join("filler")).unwrap();
    let full = lines(&path).len();
    wait_until("it goes on", || lines_of_a_running_sink(&path) > full + 100);
    site.stop();
    check(&lines(&path));
}

/// How many lines there are by now, whole or not.
fn lines_of_a_running_sink(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// A log takes any format of lines, and a standard output that is gone stops nothing.
#[test]
fn a_log_writes_lines_of_a_format() {
    let mut site = Site::new(
        "CREATE TRIGGER Beat AT START;\n\
         CREATE STREAM Said (n BIGINT) WITH ('type' = 'sink', 'extension' = 'log', \
         'format' = 'text', 'text.template' = 'number {{n}} of {{_streamName}}', \
         'log.to' = 'log', 'log.severity' = 'warn');\n\
         INSERT INTO Said SELECT count(*) AS n FROM Beat;\n",
        "",
    );
    site.start();
    site.wait_for("number 1 of Said");
    let said = site.stop();
    let line = said.lines().find(|line| line.contains("number 1")).unwrap();
    assert!(line.contains("WARN"), "{line}");
}
