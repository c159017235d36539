//! `'session', gap [, key [, allowed latency]]`: rows of a key between which there is no silence.
//!
//! A session ends when no row of its key has come for the gap, and closes when the allowed latency
//! is over too: rows that come in between begin the key's next session. Without key and latency
//! there is one session at a time, whose rows need not be kept.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::super::expr::{Compiled, Env};
use super::super::packed::{PIECE_ROWS, Packed, Unpacked, unpack};
use super::super::slab::Slab;
use super::super::state::{Load, Part, Save, StateError};
use super::{Changes, Picked, Window};
use crate::event::{Row, Stamp, Timestamp, Value};

/// One session at a time.
pub(super) struct OneSession {
    gap_ms: i64,
    /// The time of its last row; none: no session is open.
    last: Option<Timestamp>,
}

impl OneSession {
    pub(super) fn new(gap_ms: i64) -> OneSession {
        OneSession { gap_ms, last: None }
    }
}

impl Window for OneSession {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            self.fire(row.stamp, to);
            self.last = Some(row.stamp.time);
            to.enter(row);
        }
    }

    fn fire(&mut self, at: Stamp, to: &mut dyn Changes) {
        if let Some(due) = self.deadline().filter(|due| *due <= at.time) {
            self.last = None;
            to.close(Stamp { time: due, ..at });
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        Some(self.last?.plus_ms(self.gap_ms))
    }

    fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        Some(self.deadline().unwrap_or_else(|| time.plus_ms(self.gap_ms)))
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(OneSession::new(self.gap_ms))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        save.put(Part::Window, 0, &self.last)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.last = load.one::<Option<Timestamp>>(Part::Window)?.flatten();
        Ok(())
    }
}

/// A session per key, and those that have ended and are still to close.
pub(super) struct Sessions {
    gap_ms: i64,
    latency_ms: i64,
    keep: Vec<usize>,
    /// None: all rows have one key.
    key: Option<Compiled>,
    /// Every session by its number, in the order in which they began.
    sessions: BTreeMap<u64, Session>,
    /// The runs of rows of which the sessions are made.
    runs: Slab<Run>,
    /// The latest session of each key.
    latest: HashMap<Value, u64, FixedState>,
    /// When each session closes.
    due: BTreeSet<(Timestamp, u64)>,
    next: u64,
    faults: Cell<u64>,
}

struct Session {
    key: Value,
    stamps: Vec<Stamp>,
    /// The kept columns, row after row.
    values: Vec<Value>,
    /// The slots of its runs of rows.
    runs: Vec<u32>,
}

/// A run of rows: whose it is, and its place among the runs of that session.
#[derive(Clone, Copy)]
struct Run {
    session: u64,
    place: usize,
}

/// A run of rows on disk, by its slot: the session's number, the run's place, the key, the rows.
type RunState = (u64, usize, Value, Unpacked);

impl Session {
    fn new(key: Value) -> Session {
        Session {
            key,
            stamps: Vec::new(),
            values: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// The run at `place` among its runs of rows.
    fn run(&self, place: usize, width: usize) -> Packed<'_> {
        let first = place * PIECE_ROWS;
        let end = self.stamps.len().min(first + PIECE_ROWS);
        let values = self.values.get(first * width..end * width);
        Packed {
            stamps: self.stamps.get(first..end).unwrap_or_default(),
            values: values.unwrap_or_default(),
        }
    }

    fn last(&self) -> Timestamp {
        self.stamps.last().map_or(Timestamp::MIN, |last| last.time)
    }

    fn row(&self, place: usize, width: usize) -> Option<Row<'_>> {
        Some(Row {
            stamp: *self.stamps.get(place)?,
            values: self.values.get(place * width..(place + 1) * width)?,
        })
    }
}

impl Sessions {
    /// `key` is over the rows as they come.
    pub(super) fn new(
        gap_ms: i64,
        latency_ms: i64,
        key: Option<Compiled>,
        keep: Vec<usize>,
    ) -> Sessions {
        Sessions {
            gap_ms,
            latency_ms,
            keep,
            key,
            sessions: BTreeMap::new(),
            runs: Slab::default(),
            latest: HashMap::default(),
            due: BTreeSet::new(),
            next: 0,
            faults: Cell::new(0),
        }
    }

    fn take(&mut self, row: Row<'_>) {
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        let key = self.key.as_ref().map_or(Value::Null, |key| key.value(&env));
        let latest = self.latest.get(&key).copied();
        let goes_on = latest.filter(|number| {
            let session = self.sessions.get(number);
            session.is_some_and(|session| row.stamp.time < session.last().plus_ms(self.gap_ms))
        });
        let number = goes_on.unwrap_or_else(|| {
            self.next += 1;
            self.latest.insert(key.clone(), self.next);
            self.next
        });
        let session = self
            .sessions
            .entry(number)
            .or_insert_with(|| Session::new(key));
        let silence_ms = self.gap_ms.saturating_add(self.latency_ms);
        if goes_on.is_some() {
            let before = session.last().plus_ms(silence_ms);
            self.due.remove(&(before, number));
        }
        self.due
            .insert((row.stamp.time.plus_ms(silence_ms), number));
        let value = |column: &usize| row.values.get(*column).cloned().unwrap_or_default();
        session.values.extend(self.keep.iter().map(value));
        match session.runs.last() {
            Some(run) if session.stamps.len() % PIECE_ROWS > 0 => self.runs.note(*run as usize),
            Some(_) | None => {
                let place = session.runs.len();
                let run = self.runs.put(Run {
                    session: number,
                    place,
                });
                // Four thousand million runs of rows do not fit the machines this runs on.
                session.runs.push(u32::try_from(run).unwrap_or(u32::MAX));
            }
        }
        session.stamps.push(row.stamp);
    }

    fn close(&mut self, number: u64, at: Stamp, to: &mut dyn Changes) {
        let Some(session) = self.sessions.remove(&number) else {
            return;
        };
        if self.latest.get(&session.key) == Some(&number) {
            self.latest.remove(&session.key);
            if self.latest.is_empty() {
                self.latest = HashMap::default();
            }
        }
        for run in &session.runs {
            self.runs.remove(*run as usize);
        }
        let width = self.keep.len();
        for row in (0..).map_while(|place| session.row(place, width)) {
            to.enter(row);
        }
        to.close(at);
    }
}

impl Window for Sessions {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            self.fire(row.stamp, to);
            self.take(row);
        }
    }

    fn fire(&mut self, at: Stamp, to: &mut dyn Changes) {
        while let Some((due, number)) = self.due.first().copied() {
            if due > at.time {
                return;
            }
            self.due.remove(&(due, number));
            self.close(number, Stamp { time: due, ..at }, to);
        }
    }

    fn deadline(&self) -> Option<Timestamp> {
        Some(self.due.first()?.0)
    }

    fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        let silence_ms = self.gap_ms.saturating_add(self.latency_ms);
        Some(self.deadline().unwrap_or_else(|| time.plus_ms(silence_ms)))
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn take_faults(&self) -> u64 {
        self.faults.take()
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(Sessions::new(
            self.gap_ms,
            self.latency_ms,
            self.key.clone(),
            self.keep.clone(),
        ))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        save.put(Part::Window, 0, &self.next)?;
        let (width, sessions) = (self.keep.len(), &self.sessions);
        self.runs.save(Part::WindowRows, save, |save, slot, run| {
            let Some(session) = sessions.get(&run.session) else {
                return Ok(());
            };
            let packed = session.run(run.place, width);
            let state = (run.session, run.place, &session.key, packed);
            save.give(Part::WindowRows, slot, &state)
        })
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.next = load.one(Part::Window)?.unwrap_or(0);
        self.sessions.clear();
        self.latest.clear();
        self.due.clear();
        let mut pieces = Vec::new();
        let runs = load.numbered::<RunState>(Part::WindowRows).map(|state| {
            let (slot, (session, place, key, rows)) = state?;
            pieces.push((session, place, 0, key, rows));
            Ok((slot, Run { session, place }))
        });
        self.runs.load(runs)?;
        for ((slot, _), piece) in self.runs.iter().zip(&mut pieces) {
            piece.2 = slot;
        }
        pieces.sort_unstable_by_key(|(session, place, ..)| (*session, *place));
        let mut pieces = pieces.into_iter().peekable();
        while let Some((number, _, _, key, _)) = pieces.peek() {
            let (number, mut session) = (*number, Session::new(key.clone()));
            while let Some((_, place, slot, _, rows)) = pieces.next_if(|one| one.0 == number) {
                let (stamps, values) = unpack(rows, self.keep.len())?;
                if place * PIECE_ROWS != session.stamps.len() || stamps.is_empty() {
                    return Err(StateError::Inconsistent("a session's rows have a gap"));
                }
                session.stamps.extend(stamps);
                session.values.extend(values);
                session.runs.push(u32::try_from(slot).unwrap_or(u32::MAX));
            }
            self.sessions.insert(number, session);
        }
        let silence_ms = self.gap_ms.saturating_add(self.latency_ms);
        for (number, session) in &self.sessions {
            // Later ones of a key come later.
            self.latest.insert(session.key.clone(), *number);
            self.due
                .insert((session.last().plus_ms(silence_ms), *number));
        }
        Ok(())
    }
}
