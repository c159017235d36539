//! Settings of streams that shape the plan may stand in the configuration: the log keeps them with
//! the SQL, so that it is run again as it was run at first.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use eventflux::event::{Batch, OutputKey, Stamp, Timestamp, Value};
use eventflux::outbox::{Full, Limits};
use eventflux::pipeline::{Core, Input, Open, StatePolicy};
use eventflux::sql::plan::StreamId;
use eventflux::sql::{self, Setting, SqlText};
use eventflux::store::Store;
use eventflux::store::sim::SimStore;

fn open(store: &SimStore, delay: &str) -> Core {
    let texts = [SqlText {
        path: "app.sql".to_owned(),
        text: "CREATE STREAM S (at STRING, v INT); INSERT INTO Out SELECT v FROM S;".to_owned(),
    }];
    let settings = [
        ("timestamp.field", "at"),
        ("timestamp.format", "%s"),
        ("timestamp.delay", delay),
    ];
    let settings = settings.map(|(name, value)| Setting {
        stream: "S".to_owned(),
        name: name.to_owned(),
        value: value.to_owned(),
    });
    let limits = Limits {
        bytes_max: 1 << 20,
        full: Full::Block,
        ..Limits::NONE
    };
    let open = Open {
        store: Arc::new(store.clone()),
        identity: 0,
        application: Arc::new(sql::compile_with(&texts, &settings).unwrap()),
        texts: &texts,
        sinks: &[("Out".to_owned(), limits)],
        checkpoints_kept: 2,
        state_policy: StatePolicy::KeepCompatible,
    };
    Core::open(&open).unwrap().0
}

fn push(core: &mut Core, time: i64, at: &str, v: i64) {
    let mut rows = Batch::new(2);
    rows.push(Stamp::default(), [Value::text(at), Value::Int(v)]);
    let input = Input {
        stream: StreamId(0),
        rows,
        rejected: Vec::new(),
        marks: Vec::new(),
    };
    let done = core.turn(Timestamp(time), vec![input]).unwrap();
    core.write(done).unwrap();
}

fn out(core: &mut Core) -> Vec<Value> {
    let outbox = core.outbox_mut();
    let entries = outbox.read(0, OutputKey::default(), usize::MAX, usize::MAX);
    let rows = entries.unwrap().into_iter().map(|entry| entry.row);
    rows.flatten().collect()
}

#[test]
fn the_log_is_run_with_the_settings_it_was_written_with() {
    let store = SimStore::default();
    let mut core = open(&store, "10 s");
    push(&mut core, 1_000, "100", 1);
    push(&mut core, 2_000, "95", 2);
    assert_eq!(out(&mut core), []);
    store.sync().unwrap();
    drop(core);
    let mut core = open(&store, "2 s");
    assert_eq!(out(&mut core), [], "they still wait, in their order");
    push(&mut core, 3_000, "102", 3);
    assert_eq!(out(&mut core), [Value::Int(2), Value::Int(1)]);
}
