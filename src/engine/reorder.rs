//! The entrance of a domain that follows the time of its rows: who is late, who waits, and how far
//! the clock may go.
//!
//! The *watermark* says that no older row is expected: the largest time that a stream has said
//! less its delay, the least of all streams that are waited for. Waited for is who has spoken and
//! is not silent for its `timestamp.idle`; with that option also who has not spoken yet, for so
//! long. Rows that are late or too far ahead say nothing about how far their stream is, so that a
//! clock that is wrong holds nobody up.
//!
//! While nobody is waited for, everything that such streams have said is in the past, and rows
//! without a time of their own are held for the longest delay, by the log's clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::slab::Slab;
use super::state::{Load, Part, Save, StateError};
use crate::event::{Timestamp, Value};
use crate::sql::Application;
use crate::sql::plan::{Domains, EventTime, Full, Future, Late, StreamId};

/// 2020-01-01: while the log says nothing of its clock, one that says less has not been set since
/// the machine was switched on.
const SYNCHRONISED: Timestamp = Timestamp(1_577_836_800_000);

/// What has happened to rows for the sake of their time, to input that could not be used, and
/// where there was no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounts {
    /// Rows behind the watermark, whatever became of them.
    pub late: u64,
    /// Rows too far ahead, whatever became of them.
    pub future: u64,
    /// Rows that say no time, taken with that of their arrival.
    pub untimed: u64,
    /// Rows for which there was no room: released early, or dropped.
    pub full: u64,
    /// Rows and messages that went to dead letters.
    pub dead_letters: u64,
    /// Jumps of the clock on which a trigger passed over instants.
    pub jumps_cut: u64,
    /// Partial matches of patterns that were dropped since there were too many.
    pub matches_dropped: u64,
}

/// What becomes of a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts at this time, or later.
    Take(Timestamp),
    /// It waits until the clock has got there.
    Wait(Timestamp),
    /// It is not taken.
    Refuse(Refusal),
}

/// Why a row is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// A short, stable word.
    pub(super) reason: &'static str,
    /// The sentence.
    pub(super) message: String,
    /// Whether it may go to the dead letters.
    pub(super) letter: bool,
}

/// A row that waits.
pub(super) struct Waiting {
    pub(super) stream: StreamId,
    pub(super) values: Vec<Value>,
    /// Whether it came from too far ahead.
    ahead: bool,
    /// Its slot among the waiting rows of its stream.
    slot: usize,
}

/// When a row that waits counts, and its number among all that have come.
type Turn = (Timestamp, u64);

/// A row that waits, on disk, by its slot: when it counts, its number, whether it came from too far
/// ahead, its columns.
type WaitingState = (Timestamp, u64, bool, Vec<Value>);

/// The entrance of one domain.
pub(super) struct Reorder {
    sources: Vec<Source>,
    /// By time, then in the order in which they came.
    waiting: BTreeMap<Turn, Waiting>,
    /// Those of each stream by slot.
    turns: Vec<Slab<Turn>>,
    next: u64,
    watermark: Timestamp,
    /// The largest time that any stream has said.
    largest: Timestamp,
    /// When the log's clock was first known.
    since: Option<Timestamp>,
    /// What the log says of its clock: whether it can be taken for the true time.
    trusted: Option<bool>,
    /// Whether rows are taken as they come.
    pub(super) direct: bool,
    delay_max_ms: i64,
    rows_max: usize,
    full: Full,
}

/// A stream whose rows carry their time.
struct Source {
    stream: StreamId,
    time: EventTime,
    state: SourceState,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct SourceState {
    /// The largest time it has said.
    max: Option<Timestamp>,
    /// When it last said one, by the log's clock.
    heard: Option<Timestamp>,
    /// Whether it has been silent for too long since.
    idle: bool,
}

/// What an entrance knows besides rows, on disk with each of its streams.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Head {
    clock: Timestamp,
    watermark: Timestamp,
    largest: Timestamp,
    since: Option<Timestamp>,
    #[serde(default)]
    trusted: Option<bool>,
    source: SourceState,
}

impl Reorder {
    pub(super) fn new(plan: &Application, domains: &Domains, domain: usize) -> Reorder {
        let sources = domains.timed(domain).iter().filter_map(|stream| {
            Some(Source {
                stream: *stream,
                time: plan.stream(*stream)?.event_time.clone()?,
                state: SourceState::default(),
            })
        });
        let sources: Vec<Source> = sources.collect();
        let delay_max_ms = sources.iter().map(|source| source.time.delay_ms).max();
        let rows_max = sources.iter().map(|source| source.time.rows_max).min();
        let drops = |source: &Source| source.time.full == Full::DropNewest;
        Reorder {
            direct: delay_max_ms == Some(0),
            delay_max_ms: delay_max_ms.unwrap_or(0),
            rows_max: rows_max.unwrap_or(usize::MAX),
            full: if sources.iter().any(drops) {
                Full::DropNewest
            } else {
                Full::Release
            },
            sources,
            waiting: BTreeMap::new(),
            turns: plan.streams.iter().map(|_| Slab::default()).collect(),
            next: 0,
            watermark: Timestamp::MIN,
            largest: Timestamp::MIN,
            since: None,
            trusted: None,
        }
    }

    /// The log's clock is known.
    pub(super) fn begin(&mut self, log: Timestamp) {
        self.since.get_or_insert(log);
    }

    /// The log says what its clock is worth from here on.
    pub(super) fn trust(&mut self, trusted: bool) {
        self.trusted = Some(trusted);
    }

    /// What becomes of a row that arrives at the time `log` of the log's clock.
    pub(super) fn judge(
        &mut self,
        stream: StreamId,
        values: &[Value],
        log: Timestamp,
        counts: &mut EngineCounts,
    ) -> Verdict {
        let watermark = self.watermark;
        let trusted = self.trusted.unwrap_or(log >= SYNCHRONISED);
        let source = self.sources.iter_mut().find(|one| one.stream == stream);
        let Some(Source { time, state, .. }) = source else {
            return Verdict::Take(log);
        };
        let said = values
            .get(time.column)
            .and_then(|value| time.format.read(value));
        let Some(said) = said else {
            counts.untimed += 1;
            return Verdict::Take(log);
        };
        if trusted && said > log.plus_ms(time.future_max_ms) {
            counts.future += 1;
            return match time.future {
                Future::Clamp => Verdict::Take(log),
                Future::Accept => Verdict::Wait(said),
                Future::DeadLetter => Verdict::Refuse(Refusal {
                    reason: "future",
                    message: format!("its time {said} is too far ahead of the clock, {log}"),
                    letter: true,
                }),
            };
        }
        let late = said < watermark;
        if late && (time.delay_ms > 0 || time.late != Late::Accept) {
            counts.late += 1;
            return match time.late {
                Late::Accept => Verdict::Take(watermark),
                Late::Drop | Late::DeadLetter => Verdict::Refuse(Refusal {
                    reason: "late",
                    message: format!("its time {said} is behind the watermark, {watermark}"),
                    letter: time.late == Late::DeadLetter,
                }),
            };
        }
        // Without a delay the rows of a stream stay in the order in which they came.
        let in_order = state.max.filter(|_| time.delay_ms == 0);
        let at = in_order.map_or(said, |max| max.max(said));
        if !late {
            state.max = Some(state.max.map_or(said, |max| max.max(said)));
            state.heard = Some(log);
            state.idle = false;
            self.largest = self.largest.max(said);
        }
        Verdict::Take(at)
    }

    /// Lets a row wait. Gives back one for which there is no room.
    pub(super) fn insert(
        &mut self,
        time: Timestamp,
        stream: StreamId,
        values: &[Value],
        ahead: bool,
        counts: &mut EngineCounts,
    ) -> Option<Waiting> {
        let turn = (time.max(self.watermark), self.next);
        self.next += 1;
        let turns = self.turns.get_mut(stream.0);
        let waiting = Waiting {
            stream,
            values: values.to_vec(),
            ahead,
            slot: turns.map_or(0, |turns| turns.put(turn)),
        };
        self.waiting.insert(turn, waiting);
        if self.waiting.len() <= self.rows_max {
            return None;
        }
        counts.full += 1;
        let oldest = self.waiting.first_key_value();
        let oldest = oldest.filter(|(_, row)| !row.ahead).map(|(key, _)| key.0);
        match (self.full, oldest) {
            (Full::DropNewest, _) => self.take(turn),
            // Only rows wait whose time must not move the clock.
            (Full::Release, None) => {
                let last = self.waiting.last_key_value().map(|(turn, _)| *turn);
                last.and_then(|last| self.take(last))
            }
            (Full::Release, Some(time)) => {
                self.watermark = self.watermark.max(time);
                None
            }
        }
    }

    /// The next row that need not wait when the clock is at `until`.
    pub(super) fn pop(&mut self, until: Timestamp) -> Option<(Timestamp, Waiting)> {
        let turn = *self.waiting.first_key_value()?.0;
        let due = turn.0 <= until;
        let row = due.then(|| self.take(turn)).flatten()?;
        Some((turn.0, row))
    }

    /// Takes a row out.
    fn take(&mut self, turn: Turn) -> Option<Waiting> {
        let row = self.waiting.remove(&turn)?;
        let turns = self.turns.get_mut(row.stream.0);
        turns.and_then(|turns| turns.remove(row.slot));
        Some(row)
    }

    /// Whether a row waits that need not when the clock is at `until`.
    pub(super) fn has_due(&self, until: Timestamp) -> bool {
        let first = self.waiting.first_key_value();
        first.is_some_and(|((time, _), _)| *time <= until)
    }

    /// How far the clock may go; `None` while it is not known.
    pub(super) fn watermark(&mut self, log: Timestamp) -> Option<Timestamp> {
        if let Some(reached) = self.reached(log) {
            self.watermark = self.watermark.max(reached);
        }
        (self.watermark > Timestamp::MIN).then_some(self.watermark)
    }

    fn reached(&self, log: Timestamp) -> Option<Timestamp> {
        if self.waits_for_none() {
            let past = log.plus_ms(self.delay_max_ms.saturating_neg());
            let held = self.waiting.range(..=(past, u64::MAX)).next_back();
            let held = held.map(|((time, _), _)| *time);
            let said = (self.largest > Timestamp::MIN).then_some(self.largest);
            return held.max(said);
        }
        let waited_for = self.sources.iter().filter(|source| source.is_waited_for());
        let reached = waited_for.map(|source| {
            let delay_ms = source.time.delay_ms;
            Some(source.state.max?.plus_ms(delay_ms.saturating_neg()))
        });
        // Who has not spoken holds all back.
        reached.min().flatten()
    }

    fn waits_for_none(&self) -> bool {
        !self.sources.iter().any(Source::is_waited_for)
    }

    /// When something changes by the log's clock alone.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if self.direct {
            return None;
        }
        if self.waits_for_none() {
            let ((first, _), _) = self.waiting.first_key_value()?;
            return Some(first.plus_ms(self.delay_max_ms));
        }
        let idle = self.sources.iter();
        idle.filter_map(|source| source.idle_at(self.since)).min()
    }

    /// The log's clock has come so far: who is silent for too long is not waited for.
    pub(super) fn expire(&mut self, log: Timestamp) {
        let since = self.since;
        for source in &mut self.sources {
            let at = source.idle_at(since);
            source.state.idle |= at.is_some_and(|at| at <= log);
        }
    }

    /// Saves what belongs to one stream; `clock` is the domain's.
    pub(super) fn save(
        &mut self,
        stream: StreamId,
        clock: Timestamp,
        save: &mut Save<'_, '_>,
    ) -> Result<(), StateError> {
        if let Some(source) = self.sources.iter().find(|one| one.stream == stream) {
            let head = Head {
                clock,
                watermark: self.watermark,
                largest: self.largest,
                since: self.since,
                trusted: self.trusted,
                source: source.state,
            };
            save.put(Part::Window, 0, &head)?;
        }
        let Some(turns) = self.turns.get_mut(stream.0) else {
            return Ok(());
        };
        turns.save(Part::WindowRows, save, |save, slot, turn| {
            let Some(row) = self.waiting.get(turn) else {
                return Ok(());
            };
            let state = (turn.0, turn.1, row.ahead, &row.values);
            save.give(Part::WindowRows, slot, &state)
        })
    }

    /// Takes back what belongs to one stream. Gives the domain's clock.
    pub(super) fn load(
        &mut self,
        stream: StreamId,
        width: usize,
        load: &Load<'_>,
    ) -> Result<Option<Timestamp>, StateError> {
        let head: Option<Head> = load.one(Part::Window)?;
        let rows = load.numbered::<WaitingState>(Part::WindowRows);
        let rows: Vec<(u64, WaitingState)> = rows.collect::<Result<_, _>>()?;
        if rows.iter().any(|(_, (.., values))| values.len() != width) {
            return Err(StateError::Inconsistent("a waiting row has another width"));
        }
        let mut turns = Slab::default();
        let as_saved = rows.iter().map(|(slot, row)| Ok((*slot, (row.0, row.1))));
        turns.load(as_saved)?;
        let slots: Vec<usize> = turns.iter().map(|(slot, _)| slot).collect();
        for (slot, (_, (time, saved, ahead, values))) in slots.into_iter().zip(rows) {
            let mut number = saved;
            // Streams that had clocks of their own before may have the same numbers.
            while self.waiting.contains_key(&(time, number)) {
                number = number.saturating_add(1);
            }
            if number != saved {
                turns.change(slot, (time, number));
            }
            self.next = self.next.max(number.saturating_add(1));
            let waiting = Waiting {
                stream,
                values,
                ahead,
                slot,
            };
            self.waiting.insert((time, number), waiting);
        }
        if let Some(own) = self.turns.get_mut(stream.0) {
            *own = turns;
        }
        let Some(head) = head else {
            return Ok(None);
        };
        if let Some(source) = self.sources.iter_mut().find(|one| one.stream == stream) {
            source.state = head.source;
        }
        self.watermark = self.watermark.max(head.watermark);
        self.largest = self.largest.max(head.largest);
        self.since = self.since.max(head.since);
        self.trusted = head.trusted.or(self.trusted);
        Ok(Some(head.clock))
    }
}

impl Source {
    fn is_waited_for(&self) -> bool {
        let spoken = self.state.heard.is_some();
        !self.state.idle && (spoken || self.time.idle_ms.is_some())
    }

    /// When it will have been silent for too long; `None` when that is no question.
    fn idle_at(&self, since: Option<Timestamp>) -> Option<Timestamp> {
        let idle_ms = self.time.idle_ms.filter(|_| !self.state.idle)?;
        Some(self.state.heard.or(since)?.plus_ms(idle_ms))
    }
}
