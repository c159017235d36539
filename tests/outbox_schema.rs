//! What becomes of outputs that wait while the SQL changes: they keep the columns they were made
//! with, and when their sink is gone, that is said.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use eventflux::event::{Batch, OutputKey, Stamp, Timestamp, Value};
use eventflux::outbox::{Full, Limits};
use eventflux::pipeline::{Core, Input, Open, StatePolicy, TurnDone};
use eventflux::sink::render_json;
use eventflux::sql::plan::StreamId;
use eventflux::sql::{self, SqlText};
use eventflux::store::Store;
use eventflux::store::sim::SimStore;

/// One run of the daemon's heart, with one sink.
struct Run {
    store: SimStore,
    core: Core,
    climate: StreamId,
    warnings: Vec<String>,
}

impl Run {
    /// `columns` of the input go to `sink`.
    fn open(store: &SimStore, sink: &str, columns: &str) -> Run {
        let texts = [SqlText {
            path: "app.sql".to_owned(),
            text: format!(
                "CREATE STREAM Climate (device STRING, temp DOUBLE);
                 INSERT INTO {sink} SELECT {columns} FROM Climate;"
            ),
        }];
        let application = Arc::new(sql::compile(&texts).unwrap());
        let (climate, _) = application.stream_named("Climate").unwrap();
        let limits = Limits {
            bytes_max: 1 << 20,
            full: Full::Block,
            ..Limits::NONE
        };
        let (core, found) = Core::open(&Open {
            store: Arc::new(store.clone()),
            identity: 0,
            application,
            texts: &texts,
            sinks: &[(sink.to_owned(), limits)],
            checkpoints_kept: 2,
            state_policy: StatePolicy::KeepCompatible,
        })
        .unwrap();
        Run {
            store: store.clone(),
            core,
            climate,
            warnings: found.warnings,
        }
    }

    fn turn(&mut self, temp: f64) -> TurnDone {
        let mut rows = Batch::new(2);
        rows.push(Stamp::default(), [Value::text("press"), Value::Float(temp)]);
        let input = Input {
            stream: self.climate,
            rows,
            rejected: Vec::new(),
            marks: Vec::new(),
        };
        self.core.turn(Timestamp(1_000), vec![input]).unwrap()
    }

    fn push(&mut self, temp: f64) {
        let done = self.turn(temp);
        self.core.write(done).unwrap();
    }

    /// What waits, as the far side would get it.
    fn waiting(&mut self) -> Vec<String> {
        let outbox = self.core.outbox_mut();
        let entries = outbox.read(0, OutputKey::default(), usize::MAX, usize::MAX);
        let shown = entries.unwrap().into_iter().map(|entry| {
            let mut out = Vec::new();
            render_json(&entry.schema, &entry.row, &mut out);
            String::from_utf8(out).unwrap()
        });
        shown.collect()
    }

    fn stranded(&self) -> Vec<&str> {
        let warnings = self.warnings.iter().map(String::as_str);
        warnings
            .filter(|warning| warning.contains("not defined any more"))
            .collect()
    }
}

#[test]
fn what_waits_keeps_its_columns_when_the_sink_gets_others() {
    let store = SimStore::new();
    let mut run = Run::open(&store, "Alerts", "device, temp");
    run.push(80.5);
    // The last turn's log record survives a crash, its output does not: recovery makes it again.
    let cut = run.turn(81.5);
    for batch in cut.log {
        run.store.write(batch).unwrap();
    }
    drop(run);
    let mut run = Run::open(&store, "Alerts", "temp, device AS machine");
    run.push(82.5);
    let expected = [
        r#"{"device":"press","temp":80.5}"#,
        r#"{"device":"press","temp":81.5}"#,
        r#"{"temp":82.5,"machine":"press"}"#,
    ];
    assert_eq!(run.waiting(), expected);
    drop(run);
    let mut run = Run::open(&store, "Alerts", "temp");
    run.push(83.5);
    assert_eq!(run.waiting()[..3], expected);
    assert_eq!(run.waiting()[3..], [r#"{"temp":83.5}"#]);
    assert!(run.stranded().is_empty());
}

#[test]
fn a_sink_that_was_renamed_is_named_until_it_is_back() {
    let store = SimStore::new();
    let mut run = Run::open(&store, "Old", "device, temp");
    run.push(80.5);
    let mut run = Run::open(&store, "New", "device");
    let one = "1 output waits for the sink 'Old', which is not defined any more; \
               define it again to deliver it";
    assert_eq!(run.stranded(), [one]);
    run.push(81.5);
    assert_eq!(run.waiting(), [r#"{"device":"press"}"#]);

    let mut run = Run::open(&store, "Old", "temp");
    let one = "1 output waits for the sink 'New', which is not defined any more; \
               define it again to deliver it";
    assert_eq!(run.stranded(), [one]);
    run.push(82.5);
    run.push(83.5);
    let expected = [
        r#"{"device":"press","temp":80.5}"#,
        r#"{"temp":82.5}"#,
        r#"{"temp":83.5}"#,
    ];
    assert_eq!(run.waiting(), expected);
    let run = Run::open(&store, "New", "device");
    let three = "3 outputs wait for the sink 'Old', which is not defined any more; \
                 define it again to deliver them";
    assert_eq!(run.stranded(), [three]);
}
