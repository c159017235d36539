//! Timers and simulated sensors.

use std::path::Path;
use std::process::Command;

use eventflux::event::{ReportKind, Value};

use crate::ends::{Running, source};

#[test]
fn a_timer_ticks() {
    let options = [
        ("timer.every", "50 ms"),
        ("timer.align", "true"),
        ("timer.payload", "{\"text\":\"beat\"}"),
        ("timer.time.column", "at"),
    ];
    let running = Running::start("timer", &options);
    let rows = running.rows(4);
    let times: Vec<i64> = rows.iter().map(|row| row[3].as_int().unwrap()).collect();
    assert!(times.iter().all(|time| time % 50 == 0), "{times:?}");
    assert!(times.windows(2).all(|two| two[1] > two[0]), "{times:?}");
    assert!(rows.iter().all(|row| row[1] == Value::text("beat")));
    running.end();
    let fault = source("timer", &[("timer.every", "0")]).unwrap_err();
    assert!(fault.to_string().contains("at least 1 ms"), "{fault}");
}

const PLANT: [(&str, &str); 7] = [
    ("simulator.column.n", "counter(0, 1)"),
    ("simulator.column.text", "cycle(press-1, press-2, oven)"),
    ("simulator.per", "text"),
    ("simulator.time.column", "at"),
    ("simulator.begin", "2026-01-01T00:00:00Z"),
    ("simulator.every", "1 s"),
    ("simulator.pace", "full"),
];

fn plant<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    PLANT.iter().chain(more).copied().collect()
}

#[test]
fn a_simulation_is_the_same_every_time() {
    let more = [
        ("simulator.count", "3000"),
        ("simulator.lost", "0.01"),
        ("simulator.duplicate", "0.01"),
        ("simulator.garbage", "0.01"),
        ("simulator.late", "0.01 10 s"),
    ];
    let run = |seed| {
        let mut options = plant(&more);
        options.push(("simulator.seed", seed));
        let running = Running::start("simulator", &options);
        let why = running.report(ReportKind::SourceDown);
        assert_eq!(why, "the simulation is over");
        let rejected = running.rejected(1).len();
        assert!((5..80).contains(&rejected), "{rejected}");
        running.end()
    };
    let rows = run("4");
    assert!((2_900..3_030).contains(&rows.len()), "{}", rows.len());
    assert!(rows == run("4"));
    assert!(rows != run("5"));
    let begin = 1_767_225_600_000;
    assert_eq!(rows[0][3], Value::Int(begin));
}

#[test]
fn a_simulation_goes_on_where_the_log_ends() {
    let options = plant(&[("simulator.count", "2000"), ("queue.batch_rows_max", "64")]);
    let whole = Running::start("simulator", &options);
    whole.report(ReportKind::SourceDown);
    let all = whole.end();
    assert_eq!(all.len(), 2_000);
    // As if it had been killed after some of it was logged.
    let running = Running::with("simulator", &options, 1, Vec::new());
    let mut first = running.rows(500);
    let marks = running.marks();
    assert_eq!(marks.len(), first.len());
    let rest = Running::with("simulator", &options, 64, marks);
    rest.report(ReportKind::SourceDown);
    first.extend(rest.end());
    assert!(first == all);
    running.end();
}

#[test]
fn what_cannot_be_is_said() {
    for (options, problem) in [
        (vec![], "simulator.column.*: no column does anything"),
        (
            vec![("simulator.column.m", "constant(1)")],
            "the stream has no column `m`",
        ),
        (
            vec![("simulator.column.n", "sin(1)")],
            "simulator.column.n: `sin` is no wave",
        ),
        (
            vec![
                ("simulator.column.n", "constant(1)"),
                ("simulator.per", "n"),
            ],
            "simulator.per: it names a column that has its devices",
        ),
        (
            vec![
                ("simulator.column.n", "constant(1)"),
                ("simulator.lost", "2"),
            ],
            "simulator.lost: `2` is no share",
        ),
        (
            vec![
                ("simulator.column.n", "constant(1)"),
                ("simulator.late", "0.1"),
            ],
            "simulator.late: write a share and a span",
        ),
        (
            vec![
                ("simulator.column.n", "constant(1)"),
                ("simulator.begin", "now"),
            ],
            "simulator.begin: `now` is no time",
        ),
    ] {
        let fault = source("simulator", &options).unwrap_err().to_string();
        assert!(fault.contains(problem), "{fault}");
    }
}

#[test]
fn the_example_is_right() {
    let example = Path::new("config/examples/simulated.toml");
    let out = Command::new(env!("CARGO_BIN_EXE_eventflux"))
        .arg("check")
        .arg(example)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}
