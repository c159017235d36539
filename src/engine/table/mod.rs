//! Tables: rows that queries write, look up and change.
//!
//! Every access says what time it is, and rows that have outlived their time are gone before it
//! looks. So what a table holds is a function of the log, and costs nothing while nobody asks.

#[cfg(test)]
mod tests;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::rows::{IndexedRows, Slot};
use super::state::{Load, Part, Save, StateError};
use crate::event::{Schema, Stamp, Timestamp, Value};
use crate::sql::plan::{self, Eviction};
pub(super) use write::TableWrite;

/// A table as queries share it. Nobody evaluates an expression while holding it: the expression
/// may ask the same table.
#[derive(Clone)]
pub(super) struct SharedTable(Arc<Mutex<Table>>);

impl SharedTable {
    pub(super) fn new(plan: &plan::Table) -> SharedTable {
        SharedTable(Arc::new(Mutex::new(Table::new(plan))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rows of one table.
pub(super) struct Table {
    rows: IndexedRows,
    schema: Arc<Schema>,
    /// The columns of the primary key and the index over them.
    key: Option<(Vec<usize>, usize)>,
    rows_max: usize,
    eviction: Eviction,
    ttl_ms: Option<i64>,
    /// The order of last use, when rows are evicted by it.
    used: Option<usize>,
    /// The order of last change, when rows outlive their time.
    changed: Option<usize>,
    /// The last number given.
    number: u64,
    /// Whether refused rows are to be dead letters, and those that are not yet.
    writes_letters: bool,
    refused: Vec<RefusedRow>,
}

/// A row that was refused.
pub(super) struct RefusedRow {
    pub(super) stamp: Stamp,
    pub(super) row: Vec<Value>,
    pub(super) why: Refused,
}

/// What a table knows besides its rows.
#[derive(Serialize, Deserialize)]
struct TableState {
    number: u64,
}

/// Why a change was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Another row has its key.
    DuplicateKey,
    /// A part of its key is NULL.
    NullKey,
    /// There is no room.
    Full,
}

impl Refused {
    /// A word, and a sentence.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Refused::DuplicateKey => ("duplicate_key", "the table has a row with this key"),
            Refused::NullKey => ("null_key", "a column of the primary key is NULL"),
            Refused::Full => ("table_full", "the table has reached its max_rows"),
        }
    }
}

impl Table {
    fn new(plan: &plan::Table) -> Table {
        let mut orders = 0..;
        let used =
            (plan.rows_max.is_some() && plan.eviction == Eviction::Lru).then(|| orders.next());
        let changed = plan.ttl_ms.is_some().then(|| orders.next());
        let (used, changed) = (used.flatten(), changed.flatten());
        let key = (!plan.primary_key.is_empty()).then(|| plan.primary_key.clone());
        let mut indexes: Vec<Vec<usize>> = key.iter().cloned().collect();
        for columns in &plan.indexes {
            if !indexes.contains(columns) {
                indexes.push(columns.clone());
            }
        }
        let width = plan.schema.width();
        Table {
            rows: IndexedRows::new(width, indexes, orders.next().unwrap_or(0)),
            schema: Arc::clone(&plan.schema),
            key: key.map(|columns| (columns, 0)),
            rows_max: plan.rows_max.map_or(usize::MAX, |rows| {
                usize::try_from(rows).unwrap_or(usize::MAX)
            }),
            eviction: plan.eviction,
            ttl_ms: plan.ttl_ms,
            used: used.map(|order| order + 1),
            changed: changed.map(|order| order + 1),
            number: 0,
            writes_letters: plan.letters.is_some(),
            refused: Vec::new(),
        }
    }

    /// Keeps a row that was refused, where that is of interest.
    fn note_refused(&mut self, row: &[Value], stamp: Stamp, why: Refused) {
        if self.writes_letters {
            let row = row.iter().take(self.width()).cloned().collect();
            self.refused.push(RefusedRow { stamp, row, why });
        }
    }

    /// The rows that were refused since the last call, in that order.
    pub(super) fn take_refused(&mut self) -> Vec<RefusedRow> {
        std::mem::take(&mut self.refused)
    }

    /// Columns per row.
    pub(super) fn width(&self) -> usize {
        self.schema.width()
    }

    /// The columns of the primary key.
    fn key_columns(&self) -> &[usize] {
        self.key.as_ref().map_or(&[], |(columns, _)| columns)
    }

    #[inline]
    pub(super) fn row(&self, slot: Slot) -> &[Value] {
        self.rows.row(slot)
    }

    /// Whether rows outlive their time.
    pub(super) fn forgets(&self) -> bool {
        self.ttl_ms.is_some()
    }

    /// Removes the rows whose time is over.
    #[inline]
    pub(super) fn purge(&mut self, now: Timestamp) {
        let (Some(order), Some(ttl_ms)) = (self.changed, self.ttl_ms) else {
            return;
        };
        while let Some(oldest) = self.rows.first(order) {
            if self.rows.stamp(oldest).time.plus_ms(ttl_ms) > now {
                break;
            }
            self.rows.remove(oldest);
        }
    }

    /// Adds a row; of `row` only the table's columns are taken.
    pub(super) fn insert(&mut self, row: &[Value], stamp: Stamp) -> Result<(), Refused> {
        if let Some((columns, index)) = &self.key {
            let key = columns.iter().filter_map(|column| row.get(*column));
            if key.clone().any(Value::is_null) {
                return Err(Refused::NullKey);
            }
            if self.rows.any(*index, key).is_some() {
                return Err(Refused::DuplicateKey);
            }
        }
        if self.rows.len() >= self.rows_max {
            let last = match self.eviction {
                Eviction::Reject => None,
                Eviction::Fifo => self.rows.first(0),
                Eviction::Lru => self.used.and_then(|order| self.rows.first(order)),
            };
            self.rows.remove(last.ok_or(Refused::Full)?);
        }
        self.number += 1;
        let row = row.iter().take(self.width()).cloned();
        self.rows.insert(self.number, stamp, row);
        Ok(())
    }

    /// Gives a row other values; of `row` only the table's columns are taken.
    pub(super) fn change(
        &mut self,
        slot: Slot,
        row: &[Value],
        stamp: Stamp,
    ) -> Result<(), Refused> {
        if let Some((columns, index)) = &self.key {
            let mut key = columns.iter().filter_map(|column| row.get(*column));
            let known = self.rows.any(*index, key.clone());
            if key.any(Value::is_null) {
                return Err(Refused::NullKey);
            }
            if known.is_some_and(|known| known != slot) {
                return Err(Refused::DuplicateKey);
            }
        }
        self.rows.change(slot, stamp, row);
        self.number += 1;
        for order in self.used.into_iter().chain(self.changed) {
            self.rows.touch(order, slot, self.number);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.rows.remove(slot);
    }

    /// Gives back the memory of rows that are gone. Slots change.
    pub(super) fn tidy(&mut self) {
        self.rows.tidy();
    }

    /// Every row, oldest first. A look at all of them is not a use of any.
    pub(super) fn scan(&self, found: &mut Vec<Slot>) {
        found.extend(self.rows.iter());
    }

    /// Whether there is a row with this value in the column that [`Table::member_seek`] is for.
    pub(super) fn contains(&mut self, seek: &Seek, value: &Value, now: Timestamp) -> bool {
        self.purge(now);
        let found = self.rows.any(seek.index, [value]);
        if let Some(slot) = found {
            self.note_use(slot);
        }
        found.is_some()
    }

    /// How `x IN table` is answered: by the primary key if that is one column, else by the first
    /// column.
    pub(super) fn member_seek(&mut self) -> Seek {
        let column = match &self.key {
            Some((columns, _)) if columns.len() == 1 => columns.first().copied(),
            _ => None,
        };
        self.seek(&[column.unwrap_or(0)])
    }

    /// How rows are found by values of these columns, of which there is at least one: by the
    /// primary key if they have all of it, else by the index that has most of them, else by one
    /// that is made for it.
    pub(super) fn seek(&mut self, columns: &[usize]) -> Seek {
        let covers = |of: &[usize]| of.iter().all(|column| columns.contains(column));
        let covering = (0..).zip(self.rows.indexes());
        let covering = covering.filter(|(_, of)| covers(of));
        let best = covering.max_by_key(|(number, of)| {
            let is_key = self.key.as_ref().is_some_and(|(_, index)| index == number);
            (is_key, of.len(), std::cmp::Reverse(*number))
        });
        let best = best.map(|(number, of)| (number, of.to_vec()));
        let (index, of) = best.unwrap_or_else(|| {
            let mut distinct = columns.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            (self.rows.add_index(&distinct), distinct)
        });
        let place = |column: &usize| columns.iter().position(|one| one == column);
        let by: Vec<usize> = of.iter().filter_map(place).collect();
        let rest = columns.iter().enumerate();
        let rest = rest.filter(|(place, _)| !by.contains(place));
        Seek {
            rest: rest.map(|(place, column)| (*column, place)).collect(),
            index,
            by,
        }
    }

    /// Appends the rows that have a key in the columns of `seek`, oldest first, and notes their
    /// use. `key` gives the parts of the key by their places.
    #[inline]
    pub(super) fn find<'k>(
        &mut self,
        seek: &Seek,
        key: impl Fn(usize) -> &'k Value + Copy,
        found: &mut Vec<Slot>,
    ) {
        let before = found.len();
        let values = seek.by.iter().map(|place| key(*place));
        self.rows.find(seek.index, values, found);
        if !seek.rest.is_empty() {
            let mut kept = before;
            for place in before..found.len() {
                let slot = found.get(place).copied().unwrap_or_default();
                let row = self.rows.row(slot);
                let mut rest = seek.rest.iter();
                if rest.all(|(column, place)| are_equal(row.get(*column), key(*place))) {
                    found.swap(kept, place);
                    kept += 1;
                }
            }
            found.truncate(kept);
        }
        if self.used.is_some() {
            for slot in found.iter().skip(before) {
                self.note_use(*slot);
            }
        }
    }

    fn note_use(&mut self, slot: Slot) {
        if let Some(order) = self.used {
            self.number += 1;
            self.rows.touch(order, slot, self.number);
        }
    }

    /// The same with no rows.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.number = 0;
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let number = self.number;
        save.put(Part::Holder, 0, &TableState { number })?;
        self.rows.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.clear();
        self.rows.load(load)?;
        self.number = load
            .one::<TableState>(Part::Holder)?
            .map_or(0, |state| state.number);
        Ok(())
    }
}

/// How rows of a table are found by values of some columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seek {
    index: usize,
    /// For each column of the index, the place of its value in the key.
    by: Vec<usize>,
    /// Columns that the index lacks, each with the place of its value in the key.
    rest: Vec<(usize, usize)>,
}

/// Equality as `=` sees it.
fn are_equal(a: Option<&Value>, b: &Value) -> bool {
    !b.is_null() && a == Some(b)
}
