//! Any bytes in place of a record: the log opens, and ends before them.
#![no_main]

use std::ops::ControlFlow;
use std::sync::Arc;

use eventflux::event::Seq;
use eventflux::store::sim::SimStore;
use eventflux::store::{Store, WriteBatch, table};
use eventflux::wal::Wal;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &[u8]| {
    let store = Arc::new(SimStore::new());
    let mut key = vec![table::LOG];
    key.extend_from_slice(&1_u64.to_be_bytes());
    let mut batch = WriteBatch::new();
    batch.put(key, value);
    store.write(batch).unwrap();
    let wal = Wal::open(store, Seq(1)).unwrap();
    drop(wal.read(Seq(1), &mut |_| ControlFlow::Continue(())));
});
