//! `'sort', n, col, 'asc'…`: the n rows that come first in an order.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::aggregate::Leaves;
use super::super::expr::{Compiled, Env};
use super::super::state::{Load, Part, Save, StateError};
use super::{Changes, Picked, Window};
use crate::event::{Row, Seq, Stamp, Timestamp, Value};

/// Rows per chunk of state.
const CHUNK_ROWS: usize = 256;

pub(super) struct Sort {
    rows_max: usize,
    keep: Vec<usize>,
    /// What is sorted by, and whether the largest comes first.
    keys: Vec<(Compiled, bool)>,
    rows: BTreeMap<Rank, Kept>,
    next: u64,
    faults: Cell<u64>,
}

/// The place of a row: its keys, and among equals the number by which it came.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    keys: Vec<Key>,
    number: u64,
}

struct Key {
    value: Value,
    descending: bool,
}

struct Kept {
    stamp: Stamp,
    values: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
struct RowState {
    number: u64,
    seq: u64,
    time: i64,
    keys: Vec<Value>,
    values: Vec<Value>,
}

impl Ord for Key {
    /// NULL is larger than everything.
    fn cmp(&self, other: &Key) -> Ordering {
        let ordering = match (self.value.is_null(), other.value.is_null()) {
            (false, false) => self.value.order(&other.value),
            (null, other_null) => null.cmp(&other_null),
        };
        if self.descending {
            ordering.reverse()
        } else {
            ordering
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

impl Kept {
    fn row(&self) -> Row<'_> {
        Row {
            stamp: self.stamp,
            values: &self.values,
        }
    }
}

impl Sort {
    /// `keys` are over the rows as they come.
    pub(super) fn new(rows: u64, keys: Vec<(Compiled, bool)>, keep: &[usize]) -> Sort {
        Sort::with(
            usize::try_from(rows).unwrap_or(usize::MAX),
            keys,
            keep.to_vec(),
        )
    }

    fn with(rows_max: usize, keys: Vec<(Compiled, bool)>, keep: Vec<usize>) -> Sort {
        Sort {
            rows_max,
            keep,
            keys,
            rows: BTreeMap::new(),
            next: 0,
            faults: Cell::new(0),
        }
    }

    fn rank(&mut self, row: Row<'_>) -> Rank {
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        let key = |(expr, descending): &(Compiled, bool)| Key {
            value: expr.value(&env),
            descending: *descending,
        };
        let number = self.next;
        self.next += 1;
        Rank {
            keys: self.keys.iter().map(key).collect(),
            number,
        }
    }
}

impl Window for Sort {
    fn push(&mut self, rows: Picked<'_>, to: &mut dyn Changes) {
        for row in rows.iter() {
            let rank = self.rank(row);
            let value = |column: &usize| row.values.get(*column).cloned().unwrap_or_default();
            let kept = Kept {
                stamp: row.stamp,
                values: self.keep.iter().map(value).collect(),
            };
            if self.rows.len() >= self.rows_max {
                let falls_out = self
                    .rows
                    .last_key_value()
                    .is_some_and(|last| *last.0 < rank);
                if falls_out {
                    to.enter(kept.row());
                    to.leave(kept.row(), row.stamp);
                    continue;
                }
                if let Some((_, last)) = self.rows.pop_last() {
                    to.leave(last.row(), row.stamp);
                }
            }
            to.enter(kept.row());
            self.rows.insert(rank, kept);
        }
    }

    fn keeps_rows(&self) -> bool {
        true
    }

    fn leaves(&self) -> Leaves {
        Leaves::AnyOrder
    }

    fn take_faults(&self) -> u64 {
        self.faults.take()
    }

    fn fresh(&self) -> Box<dyn Window> {
        Box::new(Sort::with(
            self.rows_max,
            self.keys.clone(),
            self.keep.clone(),
        ))
    }

    fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        save.put(Part::Window, 0, &self.next)?;
        save.renew(Part::WindowRows);
        let mut rows = self.rows.iter().peekable();
        let mut chunk = 0;
        while rows.peek().is_some() {
            let state = |(rank, kept): (&Rank, &Kept)| RowState {
                number: rank.number,
                seq: kept.stamp.seq.0,
                time: kept.stamp.time.0,
                keys: rank.keys.iter().map(|key| key.value.clone()).collect(),
                values: kept.values.clone(),
            };
            let some: Vec<RowState> = rows.by_ref().take(CHUNK_ROWS).map(state).collect();
            save.put(Part::WindowRows, chunk, &some)?;
            chunk += 1;
        }
        Ok(())
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.next = load.one(Part::Window)?.unwrap_or(0);
        self.rows.clear();
        let rows = load.all::<Vec<RowState>>(Part::WindowRows)?;
        for row in rows.into_iter().flatten() {
            if row.keys.len() != self.keys.len() || row.values.len() != self.keep.len() {
                return Err(StateError::Inconsistent("a sorted row has another form"));
            }
            let descending = self.keys.iter().map(|(_, descending)| *descending);
            let keys = row.keys.into_iter().zip(descending);
            let rank = Rank {
                keys: keys
                    .map(|(value, descending)| Key { value, descending })
                    .collect(),
                number: row.number,
            };
            let stamp = Stamp {
                seq: Seq(row.seq),
                time: Timestamp(row.time),
            };
            let kept = Kept {
                stamp,
                values: row.values,
            };
            self.rows.insert(rank, kept);
        }
        Ok(())
    }
}
