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
use super::join::{Lookup, Wanted};
use super::node::Stores;
use super::state::{Load, Part, Save, StateError};
use crate::event::{Row, Rows, Seq, Stamp, Timestamp, Value};
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

impl Lookup for SharedRollup {
    fn fetch(&self, wanted: &Wanted<'_>, to: &mut Vec<Value>) -> usize {
        self.lock().fetch(wanted, to)
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
    faults: Cell<u64>,
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

/// A row that is not in a bucket: its time is outside the calendar, the bucket is gone already, or
/// there is no room for another group.
struct Out;

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
            self.faults.set(self.faults.get() + 1);
            return;
        };
        self.key.clear();
        self.key.extend(self.keys.iter().map(|key| key.value(&env)));
        let group = Group::new(&self.key, &self.held.hasher);
        let mut whole = true;
        for level in 0..self.held.levels.len() {
            whole &= self.held.add(level, time, group, &env).is_ok();
        }
        if !whole {
            self.faults.set(self.faults.get() + 1);
        }
    }

    /// Appends the wanted columns of each bucket and group: buckets oldest first, groups in the
    /// order in which they first came. Gives how many rows these are.
    fn fetch(&self, wanted: &Wanted<'_>, to: &mut Vec<Value>) -> usize {
        let (mut from, mut until) = (wanted.from.0, wanted.until.0);
        for (_, start) in wanted.key.iter().filter(|(column, _)| *column == 0) {
            let start = start.as_int().unwrap_or(i64::MAX);
            from = from.max(start);
            until = until.min(start.saturating_add(1));
        }
        let Some(level) = self.held.levels.get(wanted.per) else {
            return 0;
        };
        if from >= until {
            return 0;
        }
        let key = self.key(wanted.key);
        let group = key.as_ref().map(|key| Group::new(key, &self.held.hasher));
        let at = Stamp {
            seq: Seq(0),
            time: wanted.now,
        };
        let (mut row, mut count) = (Vec::new(), 0);
        for (start, bucket) in level.buckets.range(from..until) {
            let slots = match group {
                None => 0..bucket.len(),
                Some(group) => bucket.find(group).map_or(0..0, |slot| slot..slot + 1),
            };
            count += slots.len();
            for slot in slots {
                row.clear();
                bucket.row(slot, &mut row);
                let env = Env::new(&row, at, at, &self.faults);
                for column in wanted.keep {
                    let column = column.checked_sub(1);
                    let expr = column.and_then(|column| self.select.get(column));
                    match expr {
                        Some(expr) => expr.push_to(&env, to),
                        None => to.push(Value::Int(*start)),
                    }
                }
            }
        }
        count
    }

    /// The whole key of GROUP BY, when the columns that are compared have it.
    fn key(&self, columns: &[(usize, &Value)]) -> Option<Vec<Value>> {
        let part = |key: usize| {
            let is_key = |column: &usize| {
                let column = column.checked_sub(1);
                let key_of = column.and_then(|column| self.key_of.get(column));
                key_of.copied().flatten() == Some(key)
            };
            let mut columns = columns.iter();
            let found = columns.find(|(column, _)| is_key(column));
            found.map(|(_, value)| (*value).clone())
        };
        (0..self.keys.len()).map(part).collect()
    }

    /// Expressions that could not be computed since the last call.
    pub(super) fn take_faults(&self) -> u64 {
        self.faults.take()
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let levels = self.held.levels.iter();
        let state = RollupState {
            levels: levels.map(|level| (level.newest, level.floor)).collect(),
            chunk: self.held.chunk,
        };
        save.put(Part::Rollup, 0, &state)?;
        save.renew(Part::BucketRows);
        save.renew(Part::BucketAggregates);
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

    /// Forgets every row.
    pub(super) fn clear(&mut self) {
        self.held.clear();
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
        let level = self.levels.get_mut(number).ok_or(Out)?;
        if !level.last.contains(&time) {
            level.last = calendar::bounds(level.bucket, time).ok_or(Out)?;
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
                return Err(Out);
            }
        }
        if self.rows >= self.rows_max {
            self.make_room(number, start)?;
        }
        let level = self.levels.get_mut(number).ok_or(Out)?;
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
                    return Err(Out);
                }
                level.floor = level.floor.max(oldest.saturating_add(1));
                self.rows -= level.purge();
                return Ok(());
            }
        }
        Err(Out)
    }

    fn clear(&mut self) {
        for level in &mut self.levels {
            (level.newest, level.floor) = (i64::MIN, i64::MIN);
            level.buckets.clear();
        }
        (self.rows, self.chunk) = (0, 0);
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.clear();
        let state = load.one::<RollupState>(Part::Rollup)?;
        let state = state.ok_or(StateError::Inconsistent("an aggregation has no state"))?;
        if state.levels.len() != self.levels.len() {
            return Err(StateError::Inconsistent(
                "an aggregation has other durations",
            ));
        }
        for (level, (newest, floor)) in self.levels.iter_mut().zip(state.levels) {
            (level.newest, level.floor) = (newest, floor);
        }
        self.chunk = state.chunk;
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
