//! Rows shown to somebody while they pass, without any part in what they bring about.
//!
//! A tap never holds up a turn: a row for which there is no room, in rows or in bytes, is counted
//! and goes by. Nothing that a sink is given, no number and no checkpoint depends on it; rows that
//! are run again after a failure are not shown again.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::event::{Rows, Schema, Timestamp, Value};
use crate::sql::Application;
use crate::sql::plan::StreamId;

/// Taps at a time.
pub const TAPS_MAX: usize = 4;
/// What the rows that a tap takes altogether may hold in memory, in bytes.
pub const TAP_BYTES_MAX: usize = 256 << 10;

/// Where the rows of a stream go.
#[derive(Debug)]
pub struct Tap {
    stream: String,
    to: Sender<Tapped>,
    /// Gone when nobody looks any more.
    account: Weak<Account>,
}

/// What is seen of a stream.
#[derive(Debug)]
pub struct Tapping {
    rows: Receiver<Tapped>,
    account: Arc<Account>,
}

/// A row that has passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Tapped {
    /// Its time.
    pub time: Timestamp,
    /// Its columns.
    pub schema: Arc<Schema>,
    /// One value for each.
    pub values: Vec<Value>,
}

#[derive(Debug)]
struct Account {
    bytes_left: AtomicUsize,
    dropped: AtomicU64,
}

/// Shows rows of the stream called so, not more than `rows_max`, and where they are seen.
#[must_use]
pub fn tap(stream: &str, rows_max: usize) -> (Tap, Tapping) {
    let (to, rows) = bounded(rows_max);
    let account = Arc::new(Account {
        bytes_left: AtomicUsize::new(TAP_BYTES_MAX),
        dropped: AtomicU64::new(0),
    });
    let tap = Tap {
        stream: stream.to_owned(),
        to,
        account: Arc::downgrade(&account),
    };
    (tap, Tapping { rows, account })
}

impl Tapping {
    /// The next row, or none when there is none by then. Without anybody who shows any, it waits
    /// for nothing.
    #[must_use]
    pub fn next_until(&self, until: Instant) -> Option<Tapped> {
        self.rows.recv_deadline(until).ok()
    }

    /// How many rows have passed unseen.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.account.dropped.load(Ordering::Relaxed)
    }
}

impl Tap {
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    fn show(&self, schema: &Arc<Schema>, rows: Rows<'_>) {
        let Some(account) = self.account.upgrade() else {
            return;
        };
        for row in rows.iter() {
            let bytes = row.values.iter().map(Value::memory_bytes).sum();
            let left = account
                .bytes_left
                .load(Ordering::Relaxed)
                .checked_sub(bytes);
            let (Some(left), false) = (left, self.to.is_full()) else {
                account.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            // Nobody else writes these.
            account.bytes_left.store(left, Ordering::Relaxed);
            let tapped = Tapped {
                time: row.stamp.time,
                schema: Arc::clone(schema),
                values: row.values.to_vec(),
            };
            if self.to.try_send(tapped).is_err() {
                account.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// All taps, each at its stream of the application that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Taps(Option<Arc<[At]>>);

type At = (StreamId, Arc<Tap>);

impl Taps {
    fn iter(&self) -> impl Iterator<Item = &At> {
        self.0.iter().flat_map(|all| all.iter())
    }

    fn of(all: impl Iterator<Item = At>) -> Taps {
        // So that a clone of none costs nothing.
        let all: Arc<[_]> = all.collect();
        Taps(Some(all).filter(|all| !all.is_empty()))
    }

    /// The same, and one more.
    pub(super) fn with(&self, stream: StreamId, tap: Tap) -> Taps {
        Taps::of(self.iter().cloned().chain([(stream, Arc::new(tap))]))
    }

    /// Those that somebody looks at, at the streams of `plan`. One of a stream that is not there is
    /// let go of.
    pub(super) fn wanted(&self, plan: &Application) -> Taps {
        let wanted = self
            .iter()
            .filter(|(_, tap)| tap.account.strong_count() > 0);
        let at = wanted.filter_map(|(_, tap)| {
            let (stream, _) = plan.stream_named(&tap.stream)?;
            Some((stream, Arc::clone(tap)))
        });
        Taps::of(at)
    }

    /// Whether somebody has looked away.
    pub(super) fn has_unwanted(&self) -> bool {
        self.iter().any(|(_, tap)| tap.account.strong_count() == 0)
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(super) fn has(&self, stream: StreamId) -> bool {
        self.iter().any(|(of, _)| *of == stream)
    }

    pub(super) fn show(&self, stream: StreamId, plan: &Application, rows: Rows<'_>) {
        let Some(definition) = plan.stream(stream) else {
            return;
        };
        for (_, tap) in self.iter().filter(|(of, _)| *of == stream) {
            tap.show(&definition.schema, rows);
        }
    }
}
