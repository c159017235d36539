//! CREATE AGGREGATION: rollups of a stream over durations, kept as buckets and read by joins.
//!
//! Every row goes into its bucket of every duration, so that each duration has the exact result of
//! each aggregate, and a late row finds the buckets that it belongs to as long as they are kept.
//! What is held is a function of the rows alone: buckets go when newer ones come, not by a clock.

mod calendar;
mod rows;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

use super::aggregate::{self, Aggregate, Leaves};
use super::expr::{Compiled, Env, Operand, compile, predicate};
use super::node::Stores;
use super::state::{Load, Part, Save, StateError};
use crate::event::{Row, Rows, Stamp, Timestamp, Value};
use crate::sql::plan::{Aggregation, Bucket};
use rows::{BucketRows, Group, RowsState};

/// An aggregation as queries share it.
#[derive(Clone)]
pub(super) struct SharedRollup(Arc<Mutex<Rollup>>);

impl SharedRollup {
    pub(super) fn new(plan: &Aggregation, stores: &Stores) -> SharedRollup {
        SharedRollup(Arc::new(Mutex::new(Rollup::new(plan, stores))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Rollup> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One aggregation with its buckets.
pub(super) struct Rollup {
    filter: Option<Operand<bool>>,
    /// None: the row's time.
    by: Option<Operand<i64>>,
    keys: Vec<Compiled>,
    /// The columns behind the start of the bucket, over the group row.
    select: Vec<Compiled>,
    /// The key of GROUP BY that each of these columns is, if it is one.
    key_of: Vec<Option<usize>>,
    held: Held,
    key: Vec<Value>,
    dropped: Dropped,
    faults: Cell<u64>,
}

/// Rows that are in no bucket, or not in all that are theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    /// AGGREGATE BY gave no time, or one outside the calendar.
    pub(super) untimed: u64,
    /// A bucket was gone already.
    pub(super) late: u64,
    /// A group was new, and there was no room.
    pub(super) full: u64,
}

/// The buckets of all durations.
struct Held {
    levels: Vec<Level>,
    /// Values per key.
    width: usize,
    /// Each bucket has its own of these.
    aggregates: Vec<Box<dyn Aggregate>>,
    hasher: FixedState,
    /// Groups in all buckets.
    rows: usize,
    rows_max: usize,
    /// The number of the next chunk of state.
    chunk: u64,
}

/// The buckets of one duration, by where they begin.
struct Level {
    bucket: Bucket,
    keep_ms: Option<i64>,
    /// Where the newest bucket begins.
    newest: i64,
    /// Buckets that begin before it are gone.
    floor: i64,
    buckets: BTreeMap<i64, BucketRows>,
    /// The bounds of the bucket of the row that came last.
    last: Range<i64>,
}

/// What there is besides rows.
#[derive(Serialize, Deserialize)]
struct RollupState {
    /// Newest and floor of each duration.
    levels: Vec<(i64, i64)>,
    chunk: u64,
}

/// Why a row is not in a bucket.
enum Out {
    Untimed,
    Late,
    Full,
}

/// Which buckets are read.
pub(super) struct Within {
    /// The place of the duration.
    pub(super) per: usize,
    /// The first time that a bucket may begin at.
    pub(super) from: i64,
    /// The first time that it may not.
    pub(super) until: i64,
}

impl Rollup {
    pub(super) fn new(plan: &Aggregation, stores: &Stores) -> Rollup {
        let (cx, plain) = (stores.cx(&plan.input.keep), stores.cx(&[]));
        let filter = plan.input.filter.as_ref();
        let levels = plan.durations.iter().map(|duration| Level {
            bucket: duration.bucket,
            keep_ms: duration.keep_ms,
            newest: i64::MIN,
            floor: i64::MIN,
            buckets: BTreeMap::new(),
            last: 0..0,
        });
        let select: Vec<Compiled> = plan.select.iter().map(|e| compile(e, plain)).collect();
        let aggregates = plan.aggregates.iter();
        let aggregates = aggregates.map(|one| aggregate::new(one, cx, Leaves::Never));
        let key_of = |column: &Compiled| column.column().filter(|key| *key < plan.keys.len());
        Rollup {
            filter: filter.map(|filter| predicate(filter, plain)),
            by: plan.by.as_ref().and_then(|by| match compile(by, cx) {
                Compiled::Int(by) => Some(by),
                // The binder lets nothing else through.
                _ => None,
            }),
            keys: plan.keys.iter().map(|key| compile(key, cx)).collect(),
            key_of: select.iter().map(key_of).collect(),
            select,
            held: Held {
                levels: levels.collect(),
                width: plan.keys.len(),
                aggregates: aggregates.collect(),
                hasher: FixedState::default(),
                rows: 0,
                rows_max: usize::try_from(plan.rows_max).unwrap_or(usize::MAX),
                chunk: 0,
            },
            key: Vec::new(),
            dropped: Dropped::default(),
            faults: Cell::new(0),
        }
    }

    /// Takes rows of its stream.
    pub(super) fn push(&mut self, rows: Rows<'_>) {
        for row in rows.iter() {
            self.add(row);
        }
    }

    fn add(&mut self, row: Row<'_>) {
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        if let Some(filter) = &self.filter {
            if filter.get(&env) != Some(true) {
                return;
            }
        }
        let time = match &self.by {
            Some(by) => by.get(&env),
            None => Some(row.stamp.time.0),
        };
        let Some(time) = time else {
            self.dropped.untimed += 1;
            return;
        };
        self.key.clear();
        self.key.extend(self.keys.iter().map(|key| key.value(&env)));
        let group = Group::new(&self.key, &self.held.hasher);
        let mut out = Dropped::default();
        for level in 0..self.held.levels.len() {
            match self.held.add(level, time, group, &env) {
                Ok(()) => {}
                Err(Out::Untimed) => out.untimed = 1,
                Err(Out::Late) => out.late = 1,
                Err(Out::Full) => out.full = 1,
            }
        }
        self.dropped.untimed += out.untimed;
        self.dropped.late += out.late;
        self.dropped.full += out.full;
    }

    /// The place among the columns of [`Rollup::read`] of each key of GROUP BY, when `columns`
    /// has them all: then rows can be looked up by these.
    pub(super) fn key_places(&self, columns: &[usize]) -> Option<Vec<usize>> {
        let is_key = |key: usize, column: &usize| {
            let column = column.checked_sub(1);
            column.and_then(|column| self.key_of.get(column).copied().flatten()) == Some(key)
        };
        let keys = 0..self.keys.len();
        keys.map(|key| columns.iter().position(|column| is_key(key, column)))
            .collect()
    }

    /// Gives the columns `keep` of each bucket and group: buckets oldest first, groups in the order
    /// in which they first came. With `key`, only those of that group. `at`: why it is read.
    pub(super) fn read(
        &self,
        within: &Within,
        key: Option<&[Value]>,
        keep: &[usize],
        at: Stamp,
        mut take: impl FnMut(&[Value]),
    ) {
        let Some(level) = self.held.levels.get(within.per) else {
            return;
        };
        if within.from >= within.until {
            return;
        }
        let group = key.map(|key| Group::new(key, &self.held.hasher));
        let (mut row, mut out) = (Vec::new(), Vec::new());
        for (start, bucket) in level.buckets.range(within.from..within.until) {
            let slots = match group {
                None => 0..bucket.len(),
                Some(group) => bucket.find(group).map_or(0..0, |slot| slot..slot + 1),
            };
            for slot in slots {
                row.clear();
                out.clear();
                bucket.row(slot, &mut row);
                let env = Env::new(&row, at, at, &self.faults);
                out.extend(keep.iter().map(|column| match column.checked_sub(1) {
                    None => Value::Int(*start),
                    Some(column) => {
                        let column = self.select.get(column);
                        column.map_or(Value::Null, |column| column.value(&env))
                    }
                }));
                take(&out);
            }
        }
    }

    /// Expressions that could not be computed since the last call.
    pub(super) fn take_faults(&self) -> u64 {
        self.faults.take()
    }

    /// Rows that are not where they belong since the last call.
    pub(super) fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn save(&self, save: &mut Save<'_>) -> Result<(), StateError> {
        let levels = self.held.levels.iter();
        let state = RollupState {
            levels: levels.map(|level| (level.newest, level.floor)).collect(),
            chunk: self.held.chunk,
        };
        save.put(Part::Rollup, 0, &state)?;
        let mut pieces = 0;
        for (number, level) in self.held.levels.iter().enumerate() {
            for (start, bucket) in &level.buckets {
                bucket.save(number, *start, &mut pieces, save)?;
            }
        }
        Ok(())
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.held.load(load)
    }
}

impl Held {
    /// Puts a row into its bucket of one duration.
    fn add(
        &mut self,
        number: usize,
        time: i64,
        group: Group<'_>,
        env: &Env<'_>,
    ) -> Result<(), Out> {
        let level = self.levels.get_mut(number).ok_or(Out::Untimed)?;
        if !level.last.contains(&time) {
            level.last = calendar::bounds(level.bucket, time).ok_or(Out::Untimed)?;
        }
        let start = level.last.start;
        if let Some(bucket) = level.buckets.get_mut(&start) {
            if let Some(slot) = bucket.find(group) {
                bucket.add(slot, env);
                return Ok(());
            }
        } else {
            self.rows -= level.make_way(start, env.moment.now);
            if start < level.floor {
                return Err(Out::Late);
            }
        }
        if self.rows >= self.rows_max {
            self.make_room(number, start)?;
        }
        let level = self.levels.get_mut(number).ok_or(Out::Untimed)?;
        let fresh = || BucketRows::new(self.width, &self.aggregates);
        let bucket = level.buckets.entry(start).or_insert_with(fresh);
        let slot = bucket.insert(group, &self.hasher, &mut self.chunk);
        bucket.add(slot, env);
        self.rows += 1;
        Ok(())
    }

    /// Takes the oldest bucket away, of the shortest duration that has more than one. No room is
    /// made for a row whose own bucket would be the next to go.
    fn make_room(&mut self, number: usize, start: i64) -> Result<(), Out> {
        for (index, level) in self.levels.iter_mut().enumerate() {
            let Some((oldest, _)) = level.buckets.first_key_value() else {
                continue;
            };
            if *oldest < level.newest {
                if index == number && start <= *oldest {
                    return Err(Out::Full);
                }
                level.floor = level.floor.max(oldest.saturating_add(1));
                self.rows -= level.purge();
                return Ok(());
            }
        }
        Err(Out::Full)
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        let state = load.one::<RollupState>(Part::Rollup)?;
        let state = state.ok_or(StateError::Inconsistent("an aggregation has no state"))?;
        if state.levels.len() != self.levels.len() {
            return Err(StateError::Inconsistent(
                "an aggregation has other durations",
            ));
        }
        for (level, (newest, floor)) in self.levels.iter_mut().zip(state.levels) {
            (level.newest, level.floor) = (newest, floor);
            level.buckets.clear();
        }
        self.chunk = state.chunk;
        self.rows = 0;
        let mut rest = rows::load_rest(load)?;
        for rows in load.all::<RowsState>(Part::BucketRows)? {
            let level = self.levels.get_mut(rows.level);
            let level = level.ok_or(StateError::Inconsistent("a bucket of no duration"))?;
            let fresh = || BucketRows::new(self.width, &self.aggregates);
            let bucket = level.buckets.entry(rows.start).or_insert_with(fresh);
            let before = bucket.len();
            bucket.load(rows, &mut rest, &self.hasher)?;
            self.rows += bucket.len() - before;
        }
        Ok(())
    }
}

impl Level {
    /// A bucket is about to come: those that are too old go. Gives how many groups they had.
    ///
    /// The newest bucket says what is old, but none that begins behind the time of the row itself:
    /// a row with a time far ahead must not clear everything.
    fn make_way(&mut self, start: i64, now: Timestamp) -> usize {
        self.newest = self.newest.max(start);
        let Some(keep_ms) = self.keep_ms else {
            return 0;
        };
        let now = calendar::bounds(self.bucket, now.0).map_or(i64::MAX, |bucket| bucket.start);
        let floor = self.newest.min(now).saturating_sub(keep_ms);
        self.floor = self.floor.max(floor);
        self.purge()
    }

    /// Takes away the buckets below the floor, and gives how many groups they had.
    fn purge(&mut self) -> usize {
        let mut rows = 0;
        while let Some(bucket) = self.buckets.first_entry() {
            if *bucket.key() >= self.floor {
                break;
            }
            rows += bucket.remove().len();
        }
        rows
    }
}
