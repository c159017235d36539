//! Whether memory stays what it is: 50 million events through everything that keeps something for
//! a while, with keys that come and fall silent. `make soak` runs it; a number as its argument
//! takes as many events instead, and the name of a part only that one. Each part has a process of
//! its own, since memory that one has given back to the allocator would hide what the next takes.
//!
//! A closed window, a row that has left, a key that was forgotten must give their memory back. So
//! the resident memory, read every tenth of the way, must not grow any more when every part has
//! been full once: beyond the first fifth of the way it may exceed the largest reading until then
//! by no more than [`GROWTH_MAX`] and [`SLACK_BYTES`], which is what the allocator's own
//! housekeeping moves. What a checkpoint would hold is printed beside it.
#![expect(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program for the terminal; it stops at the first surprise"
)]

mod events;

use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use eventflux::engine::Engine;
use eventflux::event::{Batch, Value};
use eventflux::sql::{SqlText, compile};
use events::{Events, STREAM, Tally};

const EVENTS: i64 = 50_000_000;
const READINGS: i64 = 10;
/// Rows of a push, as the pipeline gives them.
const BATCH_EVENTS: usize = 100;
/// Each so many events one sensor falls silent for ever and a new one begins.
const SENSOR_EVENTS: i64 = 200;
const GROWTH_MAX: f64 = 0.05;
const SLACK_BYTES: f64 = 2e6;

/// What is looked at together.
struct Part {
    name: &'static str,
    /// Sensors that speak at a time.
    sensors: usize,
    /// An event comes every millisecond.
    sql: &'static str,
}

const PARTS: [Part; 2] = [
    Part {
        name: "windows",
        sensors: 100,
        sql: WINDOWS,
    },
    Part {
        name: "patterns",
        sensors: 10_000,
        sql: PATTERNS,
    },
];

/// Windows, groups, joins, partitions and tables.
const WINDOWS: &str = "
    INSERT INTO Out SELECT sensor_id, avg(temperature) AS a, max(temperature) AS m, count(*) AS n
    FROM S WINDOW('tumbling', 1 SECOND) GROUP BY sensor_id;

    INSERT INTO Out SELECT sensor_id, avg(temperature) AS a, min(temperature) AS m, count(*) AS n
    FROM S WINDOW('length', 100);

    INSERT INTO Out SELECT sensor_id, avg(temperature) AS a, max(humidity) AS m, count(*) AS n
    FROM S WINDOW('time', 2 SECONDS) GROUP BY sensor_id;

    INSERT INTO Out SELECT sensor_id, avg(temperature) AS a, max(humidity) AS m, count(*) AS n
    FROM S WINDOW('session', 1 SECOND, sensor_id) GROUP BY sensor_id;

    INSERT INTO Calls SELECT sensor_id, humidity FROM S WHERE seq % 50 = 0;
    INSERT INTO Out SELECT a.sensor_id, avg(a.temperature) AS a, max(c.humidity) AS m, count(*) AS n
    FROM S WINDOW('time', 1 SECOND) AS a JOIN Calls WINDOW('length', 20) AS c
      ON a.sensor_id = c.sensor_id
    GROUP BY a.sensor_id;

    PARTITION WITH (sensor_id OF S, 'partition.idle' = '10 s') BEGIN
      INSERT INTO #Smooth SELECT sensor_id, avg(temperature) AS a, seq FROM S WINDOW('length', 10);
      INSERT INTO Out SELECT sensor_id, avg(a) AS a, max(a) AS m, count(*) AS n
      FROM #Smooth WINDOW('timeBatch', 1 SECOND);
    END;

    CREATE TABLE Seen (id STRING PRIMARY KEY, temperature DOUBLE, n BIGINT)
      WITH ('max_rows' = '1000', 'eviction' = 'lru');
    CREATE TABLE Lately (id STRING, seq BIGINT) WITH ('index' = 'id', 'ttl' = '5 s');
    UPSERT INTO Seen SELECT sensor_id, temperature, seq FROM S ON Seen.id = S.sensor_id;
    INSERT INTO Lately SELECT sensor_id, seq FROM S;
    DELETE FROM Lately USING S WHERE Lately.id = S.sensor_id AND S.temperature > 49;
";

/// Each sensor has a row about every ten seconds. Whatever begins must end by its WITHIN or FOR,
/// since the sensor may never speak again.
const PATTERNS: &str = "
    INSERT INTO Out SELECT a.sensor_id AS sensor_id, a.ts AS since, 1 AS n
    FROM PATTERN (EVERY a=S[temperature > 40]
      -> b=S[temperature < 10 AND sensor_id = a.sensor_id] WITHIN 1 MINUTE);

    INSERT INTO Out SELECT a.sensor_id AS sensor_id, a.ts AS since, 1 AS n
    FROM PATTERN (EVERY a=S[temperature > 40] -> b=S[temperature < 10] WITHIN 1 MINUTE)
    PARTITION BY sensor_id;

    INSERT INTO Out SELECT a.sensor_id AS sensor_id, a.ts AS since, 1 AS n
    FROM PATTERN (EVERY a=S[temperature > 40]
      -> NOT S[temperature < 10 AND sensor_id = a.sensor_id] FOR 30 SECONDS);

    INSERT INTO Out SELECT a.sensor_id AS sensor_id, a.ts AS since, 1 AS n
    FROM PATTERN (EVERY a=S[temperature > 40] -> NOT S[temperature < 10] FOR 30 SECONDS)
    PARTITION BY sensor_id;

    INSERT INTO Out SELECT a.sensor_id AS sensor_id, a.ts AS since, count(b) AS n
    FROM PATTERN (EVERY a=S[temperature > 40]
      -> b=S[temperature > 20 AND sensor_id = a.sensor_id]{2,5}
      -> c=S[temperature < 10 AND sensor_id = a.sensor_id] WITHIN 1 MINUTE);

    INSERT INTO Out SELECT a.sensor_id AS sensor_id, a.ts AS since, count(b) AS n
    FROM PATTERN (EVERY a=S[temperature > 40] -> b=S[temperature > 20]{2,5}
      -> c=S[temperature < 10] WITHIN 1 MINUTE)
    PARTITION BY sensor_id;

    INSERT INTO Out SELECT b.sensor_id AS sensor_id, a[0].ts AS since, count(a) AS n
    FROM SEQUENCE (EVERY a=S[temperature > 25]+, b=S[temperature < 10] WITHIN 1 MINUTE);

    INSERT INTO Out SELECT b.sensor_id AS sensor_id, a[0].ts AS since, count(a) AS n
    FROM SEQUENCE (EVERY a=S[temperature > 25]+, b=S[temperature < 10] WITHIN 1 MINUTE)
    PARTITION BY sensor_id;
";

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let events = words.iter().find_map(|word| word.parse().ok());
    let events = events.unwrap_or(EVENTS);
    let named = |word: &String| PARTS.iter().find(|part| part.name == word);
    for word in &words {
        let known = named(word).is_some() || word.parse::<i64>().is_ok();
        assert!(known, "'{word}' is neither a number of events nor a part");
    }
    let part = words.iter().find_map(named);
    let flat = match part {
        Some(part) => soak(part, events),
        None => PARTS
            .iter()
            .fold(true, |flat, part| soak_apart(part, events) && flat),
    };
    if flat {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a part in a process of its own and gives whether memory stayed what it was.
fn soak_apart(part: &Part, events: i64) -> bool {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program);
    let status = child.args([part.name, &events.to_string()]).status();
    status.expect("this program runs again").success()
}

/// Runs a part and gives whether memory stayed what it was.
fn soak(part: &Part, events: i64) -> bool {
    let text = SqlText {
        path: "soak".to_owned(),
        text: format!("{STREAM}{}", part.sql),
    };
    let plan = compile(&[text]).expect("the SQL of the soak");
    let (stream, _) = plan.stream_named("S").expect("the stream of the events");
    let (out, _) = plan.stream_named("Out").expect("the stream of the results");
    let mut engine = Engine::new(Arc::new(plan), |id| id == out);
    let mut source = Events::new(part.sensors);
    let (mut drawn, mut rows) = (Batch::new(5), Batch::new(5));
    let mut tally = Tally::default();
    let start = Instant::now();
    let step = events / READINGS;
    let mut largest = 0.0;
    let mut flat = true;
    println!(
        "{}\n{:>12} {:>14} {:>12} {:>14} {:>8}",
        part.name, "events", "resident", "state", "rows out", "s"
    );
    for number in 1..=READINGS {
        for first in (step * (number - 1)..step * number).step_by(BATCH_EVENTS) {
            source.fill(&mut drawn, BATCH_EVENTS);
            moving(&drawn, first, &mut rows);
            engine.push(stream, rows.rows(), &mut tally);
        }
        let state = engine.state().expect("a state that can be saved");
        let state = state.bytes() as f64;
        let resident = resident_bytes();
        let allowed = largest * (1.0 + GROWTH_MAX) + SLACK_BYTES;
        let warm = number * 5 > READINGS;
        let grown = warm && resident > allowed;
        flat &= !grown;
        if !warm {
            largest = resident.max(largest);
        }
        println!(
            "{:>12} {:>10.2} MB {:>9.2} MB {:>14} {:>8.0}{}",
            step * number,
            resident / 1e6,
            state / 1e6,
            tally.rows,
            start.elapsed().as_secs_f64(),
            if grown { "  GROWN" } else { "" }
        );
    }
    if flat {
        println!(
            "flat: at most {:.0} % and 2 MB above the first fifth",
            GROWTH_MAX * 100.0
        );
    }
    flat
}

/// The same events of sensors that come and go: of those that speak, the oldest is replaced again
/// and again.
fn moving(drawn: &Batch, first: i64, rows: &mut Batch) {
    rows.clear();
    for (row, number) in drawn.rows().iter().zip(first..) {
        let place: i64 = match row.values.first() {
            Some(Value::Str(name)) => name
                .trim_start_matches("sensor-")
                .parse()
                .expect("a number"),
            _ => 0,
        };
        let sensor = number / SENSOR_EVENTS + place;
        let values = row.values.iter().skip(1).cloned();
        let name = Value::from(format!("sensor-{sensor:07}"));
        rows.push(row.stamp, std::iter::once(name).chain(values));
    }
}

/// What the process has in memory (`VmRSS`).
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    kibibytes.expect("VmRSS") * 1024.0
}
