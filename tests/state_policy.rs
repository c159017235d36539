//! What becomes of the state when the SQL changes, also when the log behind it is run again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use eventflux::event::{Batch, OutputKey, Stamp, Timestamp, Value};
use eventflux::outbox::{Full, Limits};
use eventflux::pipeline::{Core, Input, Open, PipelineError, StatePolicy};
use eventflux::sql::plan::StreamId;
use eventflux::sql::{self, SqlText};
use eventflux::store::Store;
use eventflux::store::sim::SimStore;

/// A sum that stays as it is, and one over so many rows.
fn sql(rows: usize) -> String {
    format!(
        "CREATE STREAM S (v INT);\n\
         INSERT INTO All SELECT sum(v) AS s FROM S;\n\
         INSERT INTO Last SELECT sum(v) AS s FROM S WINDOW('length', {rows});\n"
    )
}

fn open(
    store: &SimStore,
    text: &str,
    state_policy: StatePolicy,
) -> Result<(Core, Vec<String>), PipelineError> {
    let texts = [SqlText {
        path: "app.sql".to_owned(),
        text: text.to_owned(),
    }];
    let limits = Limits {
        bytes_max: 1 << 20,
        full: Full::Block,
        ..Limits::NONE
    };
    let opened = Core::open(&Open {
        store: Arc::new(store.clone()),
        identity: 0,
        application: Arc::new(sql::compile(&texts).unwrap()),
        texts: &texts,
        sinks: &["All", "Last"].map(|name| (name.to_owned(), limits)),
        checkpoints_kept: 2,
        state_policy,
    });
    opened.map(|(core, found)| (core, found.warnings))
}

/// One more row; the newest output of each sink.
fn push(core: &mut Core, v: i64) -> [Option<i64>; 2] {
    let mut rows = Batch::new(1);
    rows.push(Stamp::default(), [Value::Int(v)]);
    let input = Input {
        stream: StreamId(0),
        rows,
        rejected: Vec::new(),
        marks: Vec::new(),
    };
    let time = Timestamp(core.last_time().0.max(0) + 1);
    let done = core.turn(time, vec![input]).unwrap();
    core.write(done).unwrap();
    core.store().sync().unwrap();
    [0, 1].map(|sink| {
        let outbox = core.outbox_mut();
        let entries = outbox.read(sink, OutputKey::default(), usize::MAX, usize::MAX);
        entries.unwrap().last()?.row.first()?.as_int()
    })
}

/// A store whose log has three rows behind the checkpoint.
fn worked() -> SimStore {
    let store = SimStore::default();
    let (mut core, _) = open(&store, &sql(2), StatePolicy::KeepCompatible).unwrap();
    for v in [1, 10, 100] {
        push(&mut core, v);
    }
    store
}

#[test]
fn what_did_not_change_keeps_its_state_and_what_did_is_named() {
    let store = worked();
    let (mut core, warnings) = open(&store, &sql(3), StatePolicy::KeepCompatible).unwrap();
    let starts = "the query into 'Last' (app.sql:3) is new or changed and starts empty";
    assert_eq!(warnings, [starts]);
    assert_eq!(push(&mut core, 1_000), [Some(1_111), Some(1_000)]);
}

#[test]
fn where_state_would_be_lost_nothing_starts_and_nothing_changes() {
    let store = worked();
    let before = store.operations();
    let refused = open(&store, &sql(3), StatePolicy::KeepOrFail)
        .err()
        .unwrap();
    assert_eq!(
        refused.to_string(),
        "the application has changed, and the state of the query into 'Last' (app.sql:3) would be \
         lost: change it back, or set application.state_policy to `keep_compatible`"
    );
    assert!(refused.store().is_none(), "trying again would not help");
    assert_eq!(store.operations(), before);
    // What only adds to it is welcome.
    let more = format!("{}INSERT INTO More SELECT max(v) AS m FROM S;\n", sql(2));
    let (mut core, warnings) = open(&store, &more, StatePolicy::KeepOrFail).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(push(&mut core, 1_000), [Some(1_111), Some(1_100)]);
}

#[test]
fn everything_starts_empty_when_it_is_told_to_and_so_it_is_run_again() {
    let store = worked();
    let (mut core, warnings) = open(&store, &sql(3), StatePolicy::Discard).unwrap();
    assert_eq!(
        warnings,
        ["the application has changed: all state is given up, as application.state_policy says"]
    );
    assert_eq!(push(&mut core, 1_000), [Some(1_000), Some(1_000)]);
    drop(core);
    // The same application: nothing is given up, whatever the policy.
    let (mut core, warnings) = open(&store, &sql(3), StatePolicy::Discard).unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(push(&mut core, 1), [Some(1_001), Some(1_001)]);
    drop(core);
    // Without any checkpoint the log says where state was given up.
    while store.flip_bit(b"C", 7).is_some_and(|key| {
        let mut batch = eventflux::store::WriteBatch::new();
        batch.delete(key);
        store.write(batch).is_ok()
    }) {}
    let (mut core, warnings) = open(&store, &sql(3), StatePolicy::KeepCompatible).unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(push(&mut core, 1), [Some(1_002), Some(1_002)]);
}
