//! The write-ahead log: every input, in the order in which it was accepted.
//!
//! Promises:
//! * Every input has one [`Seq`], and a number that was synced is never given again, not even
//!   after damage. Numbers lost by a crash before a sync are.
//! * [`Wal::read`] hands out records in order without a gap, and ends at the first that is not
//!   whole: a record is never handed out in part.
//! * Log time never goes back.
//!
//! Leaves to others: writing the batch and syncing it (the pipeline), and what is needed still.
//! After a write that failed the log in memory is ahead of the store: open both anew.
//!
//! [`record`] draws the bytes.

mod columns;
mod look;
mod record;

pub use look::{Found, look_at};

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::record::{HEAD_BYTES, Head};
use crate::event::{Batch, ClockState, DeliveryMark, Rejected, Rows, Seq, Timestamp, cbor};
use crate::store::seal::{Damage, Sealed, Sealer, TooLong, Unsealer, check};
use crate::store::{Store, StoreError, WriteBatch, table};

/// How many records one call of [`Wal::trim`] removes at most.
pub const TRIM_RECORDS_MAX: usize = 1024;
/// How many numbers are skipped when it is unknown how many a lost record took.
const LOST_COUNT: u64 = 1 << 20;
/// Records that are set aside in one write.
const ASIDE_RECORDS_MAX: usize = 64;

/// One record of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The number of the first input in it.
    pub first: Seq,
    /// The log's clock when it was appended.
    pub time: Timestamp,
    /// What it is.
    pub body: Body,
}

impl Record {
    /// The number of the last input in it.
    #[must_use]
    pub fn last(&self) -> Seq {
        self.first.plus(self.body.count().saturating_sub(1))
    }

    /// The part of it up to `seq`, when there is one.
    #[must_use]
    pub fn up_to(mut self, seq: Seq) -> Option<Record> {
        let count = seq.plus(1).0.checked_sub(self.first.0)?;
        if count == 0 || self.last() <= seq {
            return (count > 0).then_some(self);
        }
        if let Body::Events { rows, .. } = &mut self.body {
            let (kept, _) = rows.rows().split_at(usize::try_from(count).ok()?);
            *rows = copy_of(kept, rows.width());
        }
        Some(self)
    }
}

fn copy_of(rows: Rows<'_>, width: usize) -> Batch {
    let mut copy = Batch::new(width);
    for row in rows.iter() {
        copy.push(row.stamp, row.values.iter().cloned());
    }
    copy
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Rows of one stream. Each takes a number; all have the record's time.
    Events {
        /// The stream's name.
        stream: String,
        /// The fingerprint of the stream's schema.
        schema: u32,
        /// The rows, at least one. Their stamps are not stored: reading makes them anew.
        rows: Batch,
        /// Whence, when the source could deliver again.
        origin: Option<Origin>,
    },
    /// The clock went on.
    Tick,
    /// Input that could not be made into a row.
    Rejected {
        /// The stream's name.
        stream: String,
        /// What it was.
        rejected: Rejected,
        /// Whence, when the source could deliver again.
        origin: Option<Origin>,
    },
    /// What follows runs under this configuration.
    Config {
        /// The configuration in its written form.
        text: String,
        /// Whether all state was given up with the configuration before.
        discards: bool,
    },
    /// What follows was written under this state of the clock.
    Clock(ClockState),
    /// The state went back to what it was after an earlier input; nothing else did.
    Restored {
        /// The last input that the state has seen.
        to: Seq,
    },
}

impl Body {
    /// How many sequence numbers it takes.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Body::Events { rows, .. } => u64::try_from(rows.len()).unwrap_or(u64::MAX),
            Body::Tick
            | Body::Rejected { .. }
            | Body::Config { .. }
            | Body::Clock(_)
            | Body::Restored { .. } => 1,
        }
    }
}

/// Where a record came from, so that a redelivery after a restart is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The source's name.
    pub source: String,
    /// One mark per message that the source may deliver again.
    pub marks: Vec<DeliveryMark>,
}

/// Why a record cannot be appended or read.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The clock that was given lies before that of the last record.
    #[error("log time must not go back from {last} to {given}")]
    TimeWentBack {
        /// The time of the last record.
        last: Timestamp,
        /// The time given.
        given: Timestamp,
    },
    /// A record of events without a row.
    #[error("a record of events has at least one row")]
    NoRows,
    /// All 2⁶⁴ numbers have been given.
    #[error("no sequence numbers are left")]
    NoNumbers,
    /// The record is too large.
    #[error("cannot append the record: {0}")]
    TooLong(#[from] TooLong),
    /// The record cannot be encoded.
    #[error("cannot encode the record: {0}")]
    Encode(#[from] cbor::CborError),
}

/// The log was found damaged; what follows the damage is no longer part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The first number that is lost.
    pub at: Seq,
    /// The next number that will be given.
    pub resumed_at: Seq,
    /// How many records were set aside, the damaged one included.
    pub records: u64,
    /// What is wrong.
    pub why: String,
}

/// How a reading ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// Everything there is has been visited.
    Whole {
        /// The number after the last one.
        next: Seq,
    },
    /// The visitor broke off.
    Stopped,
    /// A record is not whole; nothing from here on was handed out.
    Cut {
        /// The first number that is missing.
        at: Seq,
        /// What is wrong.
        why: String,
    },
}

/// The log. The module's head says what it promises.
pub struct Wal {
    store: Arc<dyn Store>,
    next: Seq,
    last_time: Timestamp,
    cut: Option<Cut>,
    sealer: Sealer,
    payload: Vec<u8>,
    /// The part of the payload that is not packed.
    tail: Vec<u8>,
}

impl std::fmt::Debug for Wal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Wal")
            .field("next", &self.next)
            .field("last_time", &self.last_time)
            .field("cut", &self.cut)
            .finish_non_exhaustive()
    }
}

impl Wal {
    /// Opens the log and finds its true end: the last record such that it and everything from
    /// `needed` to it is whole. What lies beyond is set aside and reported by [`Wal::cut`].
    ///
    /// `needed` is the number after the checkpoint that will be restored, or 1; records before
    /// it are not looked at, and damage in them does no harm. The next number is at least
    /// `needed`. A log that begins later, because it was trimmed for a checkpoint that is lost
    /// now, is taken as it is.
    pub fn open(store: Arc<dyn Store>, needed: Seq) -> Result<Wal, WalError> {
        let needed = needed.max(Seq(1));
        let mut wal = Wal {
            store,
            next: needed,
            last_time: Timestamp::MIN,
            cut: None,
            sealer: Sealer::default(),
            payload: Vec::new(),
            tail: Vec::new(),
        };
        let scan = wal.scan(needed)?;
        wal.next = scan.next;
        wal.last_time = scan.last_time;
        if let Some(why) = scan.damage {
            wal.cut_off(scan.next, scan.beyond, why)?;
        } else if wal.next < needed {
            let mut batch = WriteBatch::new();
            wal.skip_to(needed, &mut batch)?;
            wal.store.write(batch)?;
        }
        wal.set_leftovers_aside(&scan.leftovers)?;
        Ok(wal)
    }

    /// The number that the next input will take.
    #[must_use]
    pub fn next(&self) -> Seq {
        self.next
    }

    /// The time of the last record; [`Timestamp::MIN`] when there is none.
    #[must_use]
    pub fn last_time(&self) -> Timestamp {
        self.last_time
    }

    /// Lets log time go on from `time`, when something else in the store (a checkpoint) has seen
    /// it and a damaged log has not.
    pub fn not_before(&mut self, time: Timestamp) {
        self.last_time = self.last_time.max(time);
    }

    /// What was found damaged at open.
    #[must_use]
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// Puts a record into `batch` and says its first number. The caller writes the batch.
    pub fn append(
        &mut self,
        time: Timestamp,
        body: &Body,
        batch: &mut WriteBatch,
    ) -> Result<Seq, WalError> {
        let head = Head {
            first: self.next,
            time,
            count: body.count(),
        };
        if head.count == 0 {
            return Err(WalError::NoRows);
        }
        if time < self.last_time {
            return Err(WalError::TimeWentBack {
                last: self.last_time,
                given: time,
            });
        }
        self.payload.clear();
        self.tail.clear();
        let kind = record::encode(body, &mut self.payload, &mut self.tail)?;
        self.put(kind, head, batch)?;
        Ok(head.first)
    }

    /// Makes `seq` the next number, if it is not beyond it already: for when something else in
    /// the store (a checkpoint, an output) has seen numbers that a damaged log has not.
    pub fn skip_to(&mut self, seq: Seq, batch: &mut WriteBatch) -> Result<(), WalError> {
        let Some(count) = seq.0.checked_sub(self.next.0).filter(|count| *count > 0) else {
            return Ok(());
        };
        self.payload.clear();
        self.tail.clear();
        let head = Head {
            first: self.next,
            time: self.last_time,
            count,
        };
        self.put(record::KIND_SKIP, head, batch)
    }

    fn put(&mut self, kind: u8, head: Head, batch: &mut WriteBatch) -> Result<(), WalError> {
        let end = head
            .first
            .0
            .checked_add(head.count)
            .ok_or(WalError::NoNumbers)?;
        let value = self
            .sealer
            .seal_with(kind, &head.to_bytes(), &self.payload, &self.tail)?;
        batch.put(key(table::LOG, head.first), value);
        self.next = Seq(end);
        self.last_time = head.time;
        Ok(())
    }

    /// Visits the records from `from` on. A record that begins before `from` is handed out
    /// without the rows before it. `visit` must not call the store.
    pub fn read(
        &self,
        from: Seq,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<ReadEnd, WalError> {
        let from = from.max(Seq(1));
        let start = self.start(from)?;
        let mut next: Option<Seq> = None;
        let mut unsealer = Unsealer::default();
        let mut end = None;
        let bound = key(table::LOG, self.next);
        self.store.range(&start, &bound, &mut |key, value| {
            let read = look(key, value).and_then(|(head, sealed)| {
                if next.is_some_and(|next| head.first != next) {
                    return Err(Damage::Misplaced);
                }
                Ok((head, record::decode(head, sealed, &mut unsealer)?))
            });
            match read {
                Ok((head, record)) => {
                    next = Some(head.end());
                    let record = record.and_then(|record| from_on(record, from));
                    match record.map_or(ControlFlow::Continue(()), &mut *visit) {
                        ControlFlow::Continue(()) => ControlFlow::Continue(()),
                        ControlFlow::Break(()) => {
                            end = Some(ReadEnd::Stopped);
                            ControlFlow::Break(())
                        }
                    }
                }
                Err(damage) => {
                    let at = next.or_else(|| seq_of(key)).unwrap_or(from);
                    let why = describe(damage);
                    end = Some(ReadEnd::Cut { at, why });
                    ControlFlow::Break(())
                }
            }
        })?;
        Ok(end.unwrap_or(ReadEnd::Whole {
            next: next.unwrap_or(self.next),
        }))
    }

    /// Whether nothing from `seq` on has been trimmed: what numbers there are can be read.
    pub fn reaches_back_to(&self, seq: Seq) -> Result<bool, WalError> {
        let (low, high) = (key(table::LOG, Seq(0)), key(table::LOG, seq.plus(1)));
        Ok(seq >= self.next || self.store.last(&low, &high)?.is_some())
    }

    /// Whether the log has the record that [`Wal::append`] has put into a batch as this pair.
    pub fn has(&self, key: &[u8], value: &[u8]) -> Result<bool, WalError> {
        Ok(self.store.get(key)?.is_some_and(|found| found == value))
    }

    /// Removes records that end before `below`, at most [`TRIM_RECORDS_MAX`]; says how many. The
    /// newest record always stays, as it knows the next number and the time.
    pub fn trim(&mut self, below: Seq, batch: &mut WriteBatch) -> Result<usize, WalError> {
        let mut removed = 0;
        let mut before: Option<Vec<u8>> = None;
        // A record ends where the next begins, which may be `below` itself.
        let bound = key(table::LOG, below.plus(1));
        self.store
            .range(&key(table::LOG, Seq(0)), &bound, &mut |key, _| {
                if let Some(before) = before.replace(key.to_vec()) {
                    batch.delete(before);
                    removed += 1;
                }
                if removed < TRIM_RECORDS_MAX {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            })?;
        Ok(removed)
    }

    /// The key of the record that holds `from`, or else of a place before the first after it.
    fn start(&self, from: Seq) -> Result<Vec<u8>, WalError> {
        let low = key(table::LOG, Seq(0));
        let holder = self.store.last(&low, &key(table::LOG, from.plus(1)))?;
        Ok(holder.map_or(low, |(key, _)| key))
    }

    fn scan(&self, needed: Seq) -> Result<Scan, WalError> {
        let start = self.start(needed)?;
        let mut scan = Scan {
            next: Seq(1),
            last_time: Timestamp::MIN,
            damage: None,
            beyond: Seq(0),
            leftovers: Vec::new(),
        };
        let mut any = false;
        let bound = [table::LOG + 1];
        self.store.range(&start, &bound, &mut |key, value| {
            scan.visit(key, value, !any);
            any = true;
            ControlFlow::Continue(())
        })?;
        Ok(scan)
    }

    /// Ends the log at `at`: the numbers up to everything that was seen beyond are skipped.
    fn cut_off(&mut self, at: Seq, beyond: Seq, why: String) -> Result<(), WalError> {
        let resumed_at = beyond.max(at.plus(1));
        let mut batch = WriteBatch::new();
        let mut records = 0;
        let place = key(table::LOG, at);
        if let Some(bad) = self.store.get(&place)? {
            batch.put(key(table::LOG_ASIDE, at), bad);
            records = 1;
        }
        self.skip_to(resumed_at, &mut batch)?;
        self.store.write(batch)?;
        self.cut = Some(Cut {
            at,
            resumed_at,
            records,
            why,
        });
        Ok(())
    }

    /// Moves records that a skip covers out of the log.
    fn set_leftovers_aside(&mut self, leftovers: &[Seq]) -> Result<(), WalError> {
        for some in leftovers.chunks(ASIDE_RECORDS_MAX) {
            let mut batch = WriteBatch::new();
            for seq in some {
                let place = key(table::LOG, *seq);
                if let Some(value) = self.store.get(&place)? {
                    batch.put(key(table::LOG_ASIDE, *seq), value);
                    batch.delete(place);
                }
            }
            self.store.write(batch)?;
        }
        if let Some(cut) = &mut self.cut {
            cut.records += u64::try_from(leftovers.len()).unwrap_or(u64::MAX);
        }
        Ok(())
    }
}

/// What a look at the whole log found.
struct Scan {
    next: Seq,
    last_time: Timestamp,
    /// Why the log ends at `next`, when it does not end by itself.
    damage: Option<String>,
    /// The number after the last that any record beyond the damage took.
    beyond: Seq,
    /// Where records lie that are not part of the log.
    leftovers: Vec<Seq>,
}

impl Scan {
    fn visit(&mut self, key: &[u8], value: &[u8], is_first: bool) {
        let place = seq_of(key).unwrap_or(Seq(0));
        let looked = look(key, value);
        if self.damage.is_none() {
            match &looked {
                // The first one is where trimming has left off.
                Ok((head, _)) if is_first || head.first == self.next => {
                    self.next = head.end();
                    self.last_time = self.last_time.max(head.time);
                    return;
                }
                // Inside of a skip: an earlier open was interrupted.
                _ if !is_first && place < self.next => {
                    self.leftovers.push(place);
                    return;
                }
                Ok((head, _)) => {
                    let why = format!("the record before {} is missing", head.first);
                    self.damage = Some(why);
                }
                Err(damage) => {
                    if is_first {
                        self.next = place.max(Seq(1));
                    }
                    self.damage = Some(describe(*damage));
                }
            }
        }
        let end = match looked {
            Ok((head, _)) => {
                // Time does not go back, even across what is lost.
                self.last_time = self.last_time.max(head.time);
                head.end()
            }
            Err(_) => place.plus(LOST_COUNT),
        };
        self.beyond = self.beyond.max(end);
        if place != self.next {
            self.leftovers.push(place);
        }
    }
}

fn describe(damage: Damage) -> String {
    match damage {
        Damage::Misplaced => "records are missing before it".to_owned(),
        other => other.to_string(),
    }
}

fn key(of: u8, seq: Seq) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(of);
    key.extend_from_slice(&seq.0.to_be_bytes());
    key
}

/// The record that [`Wal::append`] has put into a batch as this pair; `None` when it is none.
#[must_use]
pub fn record_of(key: &[u8], value: &[u8]) -> Option<Record> {
    let (head, sealed) = look(key, value).ok()?;
    record::decode(head, sealed, &mut Unsealer::default()).ok()?
}

fn seq_of(key: &[u8]) -> Option<Seq> {
    Some(Seq(u64::from_be_bytes(key.get(1..)?.try_into().ok()?)))
}

/// The head and the still packed payload, when the value is whole and under its own key.
fn look<'a>(key: &[u8], value: &'a [u8]) -> Result<(Head, Sealed<'a>), Damage> {
    let sealed = check(value, HEAD_BYTES)?;
    let head = Head::from_bytes(sealed.head).ok_or(Damage::Content)?;
    if seq_of(key) != Some(head.first) {
        return Err(Damage::Misplaced);
    }
    Ok((head, sealed))
}

/// The part of `record` from `from` on.
fn from_on(mut record: Record, from: Seq) -> Option<Record> {
    if record.last() < from {
        return None;
    }
    let before = from.0.saturating_sub(record.first.0);
    if before == 0 {
        return Some(record);
    }
    if let Body::Events { rows, .. } = &mut record.body {
        let (_, kept) = rows.rows().split_at(usize::try_from(before).ok()?);
        *rows = copy_of(kept, rows.width());
        record.first = from;
    }
    Some(record)
}

#[cfg(test)]
mod tests;
