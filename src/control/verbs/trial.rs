//! `query.test`: events through some SQL that is not the application's, on virtual time, beside all
//! that runs.
//!
//! The SQL is compiled alone. It may name streams of the application that runs: it gets the same
//! columns, as streams of its own with nothing in them; tables and aggregations of the application
//! it does not know. No connector is opened and nothing is written.
//!
//! Everything is bounded: the SQL, the events, what comes out, and the time. An engine cannot be
//! told to stop, so it is unwound from where it hands rows on, as soon as a bound is reached. What
//! hands on no row, such as a join of many rows of which none fits, is not stopped by that: then
//! the request is refused when its time is over, and no other test is begun before this one has
//! ended.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use serde_json::{Value, json};

use super::args::{Args, fault};
use crate::control::{Code, Fault};
use crate::daemon::View;
use crate::diagnostic::Diagnostic;
use crate::event::EVENTS_STREAM;
use crate::scenario::{Audience, Replay, Shown, watched};
use crate::sql::{self, Application, SqlText, explain};

/// The longest SQL, in bytes.
const SQL_BYTES_MAX: usize = 64 << 10;
/// The most events.
const EVENTS_MAX: usize = 1_000;
/// The most rows that come out,
const ROWS_MAX: usize = 1_000;
/// and the bytes of their events.
const ROWS_BYTES_MAX: usize = 256 << 10;
/// How long it may take.
const WITHIN: Duration = Duration::from_secs(2);
/// How much later it is given up.
const SLACK: Duration = Duration::from_millis(500);

/// What the SQL is called in what is said about it, and what the application's streams are.
const OWN_PATH: &str = "sql";
const RUNNING_PATH: &str = "running";

/// Where tests are made, one at a time.
#[derive(Debug, Default)]
pub(super) struct Trials {
    is_busy: Arc<AtomicBool>,
}

/// What came of a test.
struct Outcome {
    rows: Vec<Value>,
    /// Why there may be more that is not shown.
    cut: Option<&'static str>,
    /// What is wrong with the events.
    wrong: Option<Fault>,
}

impl Trials {
    pub(super) fn run(&self, view: Option<&View>, args: &Args<'_>) -> Result<Value, Fault> {
        let sql = args.text("sql")?;
        if sql.len() > SQL_BYTES_MAX {
            let message = format!(
                "the SQL takes {} bytes, {SQL_BYTES_MAX} are allowed",
                sql.len()
            );
            return Err(Fault::new(Code::TooLarge, message));
        }
        let events = args.list("events")?;
        if events.len() > EVENTS_MAX {
            let message = format!(
                "there are {} events, {EVENTS_MAX} are allowed",
                events.len()
            );
            return Err(Fault::new(Code::TooLarge, message));
        }
        let application = match compiled(sql, view.map(|view| &*view.application)) {
            Ok(application) => Arc::new(application),
            Err(errors) => {
                let errors: Vec<Value> = errors.iter().map(Diagnostic::json).collect();
                let none: [Value; 0] = [];
                return Ok(
                    json!({ "errors": errors, "warnings": none, "rows": none, "cut": null }),
                );
            }
        };
        let warnings = explain::warnings(&application);
        let Outcome { rows, cut, wrong } = self.play(application, events)?;
        match wrong {
            Some(wrong) => Err(wrong),
            None => Ok(json!({ "errors": [], "warnings": warnings, "rows": rows, "cut": cut })),
        }
    }

    fn play(&self, application: Arc<Application>, events: &[Value]) -> Result<Outcome, Fault> {
        if self.is_busy.swap(true, Ordering::AcqRel) {
            let message = "a test that was begun before has not ended";
            return Err(Fault::new(Code::Busy, message));
        }
        let lines = events.iter().map(Value::to_string).collect();
        let (done, outcome) = bounded(1);
        let busy = Busy(Arc::clone(&self.is_busy));
        let thread = std::thread::Builder::new().name("query test".to_owned());
        let until = Instant::now() + WITHIN;
        let spawned = thread.spawn(move || {
            let outcome = run(application, lines, until);
            // Whoever has the answer may ask for another test at once.
            drop(busy);
            // Who asked may be gone.
            let _ = done.send(outcome);
        });
        spawned.map_err(|error| {
            Fault::new(
                Code::Failed,
                format!("cannot start a thread for it: {error}"),
            )
        })?;
        outcome.recv_deadline(until + SLACK).map_err(|_| {
            let seconds = WITHIN.as_secs();
            let message = format!("it takes longer than {seconds} s, or has failed");
            Fault::new(Code::Failed, message)
        })
    }
}

/// Says, when it is dropped, that another test may begin.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Compiles it with the streams of the application that it names and does not define.
fn compiled(sql: &str, running: Option<&Application>) -> Result<Application, Vec<Diagnostic>> {
    let text = |path: &str, text: String| SqlText {
        path: path.to_owned(),
        text,
    };
    let own = text(OWN_PATH, sql.to_owned());
    let (alone, _) = sql::compile_what_is_right(std::slice::from_ref(&own));
    let streams = running.into_iter().flat_map(|running| &running.streams);
    let lent = streams.filter(|stream| {
        let name = stream.name.as_str();
        name != EVENTS_STREAM && sql.contains(name) && alone.stream_named(name).is_none()
    });
    let lent = lent.map(|stream| {
        let fields = stream.schema.fields().iter();
        let columns = fields.map(|field| format!("{} {}", quoted(&field.name), field.ty));
        let columns: Vec<String> = columns.collect();
        format!(
            "CREATE STREAM {} ({});\n",
            quoted(&stream.name),
            columns.join(", ")
        )
    });
    let texts = [text(RUNNING_PATH, lent.collect()), own];
    sql::compile(&texts)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Runs the events.
fn run(application: Arc<Application>, lines: Vec<String>, until: Instant) -> Outcome {
    let mut seen = Seen {
        rows: Vec::new(),
        bytes: 0,
        until,
        cut: None,
    };
    let mut wrong = None;
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let watched = watched(&application, &[]).unwrap_or_default();
        let mut replay = Replay::new(application, watched).step_by_step();
        for (number, line) in lines.iter().enumerate() {
            if let Err(why) = replay.line(line.as_bytes(), &mut seen) {
                wrong = Some(fault(format!("events[{number}]: {why}")));
                return;
            }
        }
    }));
    if played.is_err() && seen.cut.is_none() {
        wrong = Some(Fault::new(
            Code::Failed,
            "it has ended by itself, which is a bug",
        ));
    }
    let Seen { rows, cut, .. } = seen;
    Outcome { rows, cut, wrong }
}

/// What has come out, up to the bounds.
struct Seen {
    rows: Vec<Value>,
    bytes: usize,
    until: Instant,
    cut: Option<&'static str>,
}

impl Seen {
    /// Unwinds the engine: it has nothing that outlives the test.
    fn stop(&mut self, cut: &'static str) -> ! {
        self.cut = Some(cut);
        std::panic::resume_unwind(Box::new(cut))
    }
}

impl Audience for Seen {
    fn see(&mut self, row: Shown<'_>) {
        self.bytes += row.event.len();
        if self.rows.len() >= ROWS_MAX {
            self.stop("rows");
        }
        if self.bytes > ROWS_BYTES_MAX {
            self.stop("bytes");
        }
        let event: Option<Value> = serde_json::from_str(&row.event).ok();
        self.rows
            .push(json!({ "stream": row.stream, "ts": row.time.0, "event": event }));
    }

    fn step(&mut self) {
        if Instant::now() >= self.until {
            self.stop("time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(sql: &str, events: Value) -> Result<Value, Fault> {
        let args = json!({ "sql": sql, "events": events });
        Trials::default().run(None, &Args::of(&args).unwrap())
    }

    const COUNT: &str = "CREATE STREAM A (n BIGINT);\nCREATE STREAM B (n BIGINT, c BIGINT);\n\
         INSERT INTO B SELECT n, count(*) AS c FROM A;\n";

    #[test]
    fn what_comes_out_is_shown() {
        let events = json!([
            { "stream": "A", "ts": 1_000, "event": { "n": 7 } },
            { "advance_to": 2_000 },
            { "stream": "A", "ts": 3_000, "event": { "n": 8 } },
        ]);
        let answer = test(COUNT, events).unwrap();
        let row = |ts: i64, n: i64, c: i64| {
            let event = json!({ "n": n, "c": c });
            json!({ "stream": "B", "ts": ts, "event": event })
        };
        assert_eq!(answer["rows"], json!([row(1_000, 7, 1), row(3_000, 8, 2)]));
        assert_eq!(answer["cut"], Value::Null);
        assert_eq!(answer["errors"], json!([]));
    }

    #[test]
    fn faults_are_those_of_a_check() {
        let answer = test(
            "CREATE STREAM A (n BIGINT);\nINSERT INTO B SELECT m FROM A;\n",
            json!([]),
        );
        let answer = answer.unwrap();
        // The same members as of one without faults.
        let good = test(COUNT, json!([])).unwrap();
        assert!(
            answer
                .as_object()
                .unwrap()
                .keys()
                .eq(good.as_object().unwrap().keys())
        );
        let errors = answer["errors"].clone();
        let first = &errors[0];
        assert_eq!((&first["path"], &first["line"]), (&json!("sql"), &json!(2)));
        assert!(
            first["message"].is_string() && first["col"].is_u64(),
            "{errors}"
        );
    }

    #[test]
    fn events_that_are_wrong_are_named() {
        let good = json!({ "stream": "A", "ts": 1, "event": { "n": 1 } });
        for (bad, why) in [
            (
                json!({ "stream": "C", "ts": 1, "event": {} }),
                "no stream 'C'",
            ),
            (json!({ "stream": "A", "event": {} }), "'ts'"),
            (
                json!({ "stream": "A", "ts": 1, "event": { "n": "x" } }),
                "n",
            ),
            (json!("text"), "invalid"),
        ] {
            let fault = test(COUNT, json!([good, bad])).unwrap_err();
            assert_eq!(fault.code, Code::Args);
            assert!(fault.message.starts_with("events[1]: "), "{fault}");
            assert!(fault.message.contains(why), "{fault}");
        }
    }

    #[test]
    fn all_of_it_is_bounded() {
        let fault = test(&" ".repeat(SQL_BYTES_MAX + 1), json!([])).unwrap_err();
        assert_eq!(fault.code, Code::TooLarge);
        let event = json!({ "stream": "A", "ts": 1, "event": { "n": 1 } });
        let fault = test(COUNT, vec![event.clone(); EVENTS_MAX + 1].into()).unwrap_err();
        assert_eq!(fault.code, Code::TooLarge);
        // Every row of a window with every other one.
        let sql = "CREATE STREAM A (n BIGINT);\nCREATE STREAM B (n BIGINT);\n\
             INSERT INTO B SELECT l.n AS n FROM A WINDOW('length', 1000) AS l \
             JOIN A WINDOW('length', 1000) AS r ON l.n = r.n;\n";
        let answer = test(sql, vec![event; EVENTS_MAX].into()).unwrap();
        assert_eq!(answer["rows"].as_array().unwrap().len(), ROWS_MAX);
        assert_eq!(answer["cut"], "rows");
    }

    #[test]
    fn what_takes_too_long_is_stopped_in_the_middle_of_an_event() {
        let application = Arc::new(compiled(COUNT, None).unwrap());
        let line = json!({ "stream": "A", "ts": 1, "event": { "n": 1 } }).to_string();
        let Outcome { rows, cut, wrong } = run(application, vec![line], Instant::now());
        assert_eq!((rows, cut, wrong), (vec![], Some("time"), None));
    }

    #[test]
    fn one_at_a_time() {
        let trials = Trials::default();
        let busy = Busy(Arc::clone(&trials.is_busy));
        trials.is_busy.store(true, Ordering::Release);
        let args = json!({ "sql": COUNT, "events": [] });
        let run = || trials.run(None, &Args::of(&args).unwrap());
        assert_eq!(run().unwrap_err().code, Code::Busy);
        drop(busy);
        run().unwrap();
    }
}
