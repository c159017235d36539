//! Files that grow and are rotated, under a daemon that is killed again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventflux::event::{ReportKind, Value};

use crate::daemon::Site;
use crate::ends::{Running, source};
use crate::random::Random;
use crate::wait::wait_until;

fn append(path: &Path, text: &str) {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn lines_come_as_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let (pattern, path) = (folder.path().join("*.log"), folder.path().join("a.log"));
    let options = [
        ("file.path", pattern.to_str().unwrap()),
        ("file.path.column", "peer"),
        ("file.poll", "10 ms"),
        ("payload.bytes_max", "100 B"),
        ("timestamp.field", "n"),
    ];
    let running = Running::start("file", &options);
    let why = running.report(ReportKind::SourceDown);
    assert!(why.starts_with("no file matches"), "{why}");
    append(&path, "{\"n\":1}\n{\"n\":2");
    running.report(ReportKind::SourceUp);
    assert_eq!(running.numbers(1), [1]);
    let long = format!("{{\"text\":\"{}\"}}\n", "x".repeat(1_000));
    append(&path, &format!("}}\nno json\n{long}{{\"n\":3}}\n"));
    assert_eq!(running.numbers(3), [1, 2, 3]);
    assert_eq!(running.rejected(2), ["malformed", "too_large"]);
    let name = Value::text(path.to_str().unwrap());
    assert!(running.rows(3).iter().all(|row| row[2] == name));
    fs::remove_file(&path).unwrap();
    running.report(ReportKind::SourceDown);
    assert_eq!(running.end().len(), 3);
}

#[test]
fn a_replay_keeps_the_rows_own_pace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.log");
    append(&path, "{\"at\":1000}\n{\"at\":61000}\n{\"at\":121000}");
    let run = |pace: &str| {
        let options = [
            ("file.path", path.to_str().unwrap()),
            ("file.mode", "replay"),
            ("file.pace", pace),
            ("file.speed", "300"),
            ("timestamp.field", "at"),
            ("timestamp.format", "ms"),
        ];
        let begin = std::time::Instant::now();
        let running = Running::start("file", &options);
        // It goes down again when it is over.
        running.report(ReportKind::SourceUp);
        let why = running.report(ReportKind::SourceDown);
        assert_eq!(why, "the replay is over");
        assert_eq!(running.end().len(), 3);
        begin.elapsed()
    };
    // Two minutes at 300 times their pace.
    assert!(run("rows") >= Duration::from_millis(400));
    run("full");
}

#[test]
fn what_waits_for_the_pipeline_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.log");
    let line = |n: usize| format!("{{\"n\":{n},\"text\":\"{}\"}}\n", "x".repeat(200));
    let text: String = (0..5_000).map(line).collect();
    append(&path, &text);
    let options = [
        ("file.path", path.to_str().unwrap()),
        ("queue.bytes_max", "8 KiB"),
    ];
    let running = Running::with("file", &options, 1, Vec::new());
    wait_until("it is full", || running.arrived.is_full());
    let numbers = running.numbers(1_000);
    let marks = running.marks();
    running.stop.send_replace(true);
    // Another goes on behind what the first has given to the pipeline.
    let again = Running::with("file", &options, 1, marks);
    let rest = again.numbers(5_000 - numbers.len());
    let all: Vec<i64> = numbers.into_iter().chain(rest).collect();
    assert!(all.iter().copied().eq(0..5_000), "{}", all.len());
    again.end();
}

#[test]
fn what_cannot_be_is_said() {
    for (options, problem) in [
        (
            vec![("file.path", "/log*/a")],
            "file.path: `*` and `?` may stand",
        ),
        (
            vec![("file.path", "/a"), ("file.pace", "rows")],
            "file.pace: `rows` goes with 'file.mode' = 'replay'",
        ),
        (
            vec![
                ("file.path", "/a"),
                ("file.pace", "rows"),
                ("file.mode", "replay"),
            ],
            "file.pace: `rows` needs 'timestamp.field'",
        ),
        (
            vec![
                ("file.path", "/a"),
                ("file.start", "end"),
                ("file.mode", "replay"),
            ],
            "file.start: a replay begins at the beginning",
        ),
    ] {
        let fault = source("file", &options).unwrap_err().to_string();
        assert!(fault.contains(problem), "{fault}");
    }
}

/// The numbers that came out, by the ids that they came with.
fn came_out(path: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    let rows = whole.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).expect(line);
        (
            row["id"].as_str().unwrap().to_owned(),
            row["n"].as_u64().unwrap(),
        )
    });
    rows.collect()
}

/// Writes numbers until there are so many, and rotates its files now and then.
struct Writer {
    written: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    fn start(folder: PathBuf, count: u64) -> Writer {
        let written: Arc<AtomicU64> = Arc::default();
        let counter = Arc::clone(&written);
        let thread = std::thread::spawn(move || {
            let mut random = Random::seeded(9);
            let mut n = 0;
            while n < count {
                let path = folder.join(format!("plant-{}.log", random.below(3)));
                let burst: String = (0..=random.below(40))
                    .map(|_| {
                        n += 1;
                        format!("{{\"n\":{n}}}\n")
                    })
                    .collect();
                // Not always at the end of a line.
                let (first, second) = burst.split_at(random.index(burst.len()));
                append(&path, first);
                random.spin(Duration::from_millis(2));
                append(&path, second);
                counter.store(n, Ordering::Relaxed);
                if random.below(30) == 0 {
                    let rotated = path.with_extension(format!("log.{n}"));
                    fs::rename(&path, rotated).unwrap();
                }
            }
        });
        Writer { written, thread }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

#[test]
fn every_line_is_taken_once_however_often_the_daemon_is_killed() {
    const LINES: u64 = 12_000;
    const KILLS: u64 = 12;
    let mut site = Site::new("", "");
    let out = site.path("out");
    let logs = site.path("logs");
    fs::create_dir(&logs).unwrap();
    let sql = format!(
        "CREATE STREAM Lines (n BIGINT) WITH ('type' = 'source', 'extension' = 'file', \
         'format' = 'json', 'file.path' = '{}', 'file.poll' = '20 ms');\n\
         CREATE STREAM Out (n BIGINT) WITH ('type' = 'sink', 'extension' = 'file', \
         'file.path' = '{}', 'json.id' = 'id');\n\
         INSERT INTO Out SELECT n FROM Lines;\n",
        logs.join("plant-*.log*").display(),
        out.display()
    );
    site.configure(&sql, "[checkpoint]\ninterval = \"200 ms\"\n");
    let writer = Writer::start(logs, LINES);
    let mut random = Random::new(6);
    for kill in 1..=KILLS {
        site.start();
        let known = came_out(&out).len();
        wait_until("lines come out", || {
            let now = came_out(&out).len();
            now > known || writer.written() >= LINES
        });
        wait_until("lines are written", || {
            writer.written() >= LINES / (KILLS + 1) * kill
        });
        random.spin(Duration::from_millis(30));
        site.kill();
    }
    site.start();
    writer.thread.join().unwrap();
    let last = writer.written.load(Ordering::Relaxed);
    wait_until("everything comes out", || {
        let numbers: BTreeSet<u64> = came_out(&out).into_values().collect();
        u64::try_from(numbers.len()).unwrap() == last
    });
    site.stop();
    let mut numbers: Vec<u64> = came_out(&out).into_values().collect();
    numbers.sort_unstable();
    assert!(
        numbers.iter().copied().eq(1..=last),
        "{} of {last}",
        numbers.len()
    );
    println!("{last} lines, {KILLS} kills");
}
