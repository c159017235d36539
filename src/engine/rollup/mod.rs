//! CREATE AGGREGATION: rollups of a stream over durations, kept as buckets and read by joins.
//!
//! Every row goes into its bucket of every duration, so that each duration has the exact result of
//! each aggregate, and a late row finds the buckets that it belongs to as long as they are kept.
//! What is held is a function of the rows alone: buckets go when newer ones come, not by a clock.

mod calendar;
mod chunks;
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
use super::state::{Load, Part, Save, Slots, StateError};
use crate::event::{Row, Rows, Seq, Stamp, Timestamp, Value};
use crate::sql::plan::{Aggregation, Bucket};
use chunks::{CHUNK_GROUPS, Chunks, Owner};
use rows::{BucketRows, Group, SavedGroup};

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
    /// Under which numbers groups are saved.
    chunks: Chunks,
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
                chunks: Chunks::default(),
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
        };
        save.put(Part::Rollup, 0, &state)?;
        let numbers = self.held.chunks.numbers();
        if save.is_whole() {
            return (0..numbers).try_for_each(|number| self.held.save(number, save).map(drop));
        }
        let changed = &mut self.held.chunks.changed;
        for number in changed.take_below(numbers, Part::BucketRows, save) {
            if !self.held.save(number, save)? {
                save.remove(Part::BucketRows, number as u64);
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
                self.chunks.note(bucket.chunks(), slot);
                return Ok(());
            }
        } else {
            self.rows -= level.make_way(start, env.moment.now, &mut self.chunks);
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
        let chunk = |nth| {
            let level = number;
            self.chunks.open(Owner { level, start, nth })
        };
        let slot = bucket.insert(group, &self.hasher, chunk);
        bucket.add(slot, env);
        self.chunks.note(bucket.chunks(), slot);
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
                self.rows -= level.purge(&mut self.chunks);
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
        self.rows = 0;
        self.chunks.clear();
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
        let pieces = load.raw(Part::BucketRows);
        let groups = pieces.len();
        let mut numbers: Vec<u64> = pieces
            .map(|(number, _)| number / CHUNK_GROUPS as u64)
            .collect();
        numbers.dedup();
        let slots = Slots::of(numbers.len(), numbers.last().copied());
        self.chunks.reserve(slots);
        let mut place = 0;
        for piece in load.numbered::<SavedGroup>(Part::BucketRows) {
            let (number, group) = piece?;
            let chunk = number / CHUNK_GROUPS as u64;
            while numbers.get(place).is_some_and(|known| *known != chunk) {
                place += 1;
            }
            self.load_group(slots.slot(place, chunk), number, group, groups)?;
        }
        let mut buckets = self.levels.iter().flat_map(|level| level.buckets.values());
        if !buckets.all(BucketRows::is_whole) {
            return Err(StateError::Inconsistent("a bucket has a gap"));
        }
        self.rows = groups;
        self.chunks.free_rest();
        Ok(())
    }

    /// Takes a group back, of `groups` in all.
    fn load_group(
        &mut self,
        chunk: usize,
        number: u64,
        group: SavedGroup,
        groups: usize,
    ) -> Result<(), StateError> {
        let (level, start, slot) = (group.0, group.1, group.2);
        if slot >= groups || slot as u64 % CHUNK_GROUPS as u64 != number % CHUNK_GROUPS as u64 {
            return Err(StateError::Inconsistent("a group has another number"));
        }
        let nth = slot / CHUNK_GROUPS;
        if !self.chunks.put(chunk, Owner { level, start, nth }) {
            return Err(StateError::Inconsistent("a number is of two buckets"));
        }
        let of = self.levels.get_mut(level);
        let of = of.ok_or(StateError::Inconsistent("a bucket of no duration"))?;
        let fresh = || BucketRows::new(self.width, &self.aggregates);
        let bucket = of.buckets.entry(start).or_insert_with(fresh);
        bucket.load(chunk, group, &self.hasher)
    }

    /// Gives the group with a number, if there is one.
    fn save(&self, number: usize, save: &mut Save<'_, '_>) -> Result<bool, StateError> {
        let Some((owner, slot)) = self.chunks.group(number) else {
            return Ok(false);
        };
        let level = self.levels.get(owner.level);
        let bucket = level.and_then(|level| level.buckets.get(&owner.start));
        let Some(bucket) = bucket.filter(|bucket| slot < bucket.len()) else {
            return Ok(false);
        };
        bucket.save(owner, slot, number as u64, save)?;
        Ok(true)
    }
}

impl Level {
    /// A bucket is about to come: those that are too old go. Gives how many groups they had.
    ///
    /// The newest bucket says what is old, but none that begins behind the time of the row itself:
    /// a row with a time far ahead must not clear everything.
    fn make_way(&mut self, start: i64, now: Timestamp, chunks: &mut Chunks) -> usize {
        self.newest = self.newest.max(start);
        let Some(keep_ms) = self.keep_ms else {
            return 0;
        };
        let now = calendar::bounds(self.bucket, now.0).map_or(i64::MAX, |bucket| bucket.start);
        let floor = self.newest.min(now).saturating_sub(keep_ms);
        self.floor = self.floor.max(floor);
        self.purge(chunks)
    }

    /// Takes away the buckets below the floor, and gives how many groups they had.
    fn purge(&mut self, chunks: &mut Chunks) -> usize {
        let mut rows = 0;
        while let Some(bucket) = self.buckets.first_entry() {
            if *bucket.key() >= self.floor {
                break;
            }
            let bucket = bucket.remove();
            chunks.close(bucket.chunks(), bucket.len());
            rows += bucket.len();
        }
        rows
    }
}
