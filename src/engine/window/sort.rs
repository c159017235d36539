//! `'sort', n, col, 'asc'…`: the n rows that come first in an order.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::super::aggregate::Leaves;
use super::super::expr::{Compiled, Env};
use super::super::slab::Slab;
use super::super::state::{Load, Part, Save, StateError};
use super::{Changes, Picked, Window};
use crate::event::{Row, Seq, Stamp, Timestamp, Value};

pub(super) struct Sort {
    rows_max: usize,
    keep: Vec<usize>,
    /// What is sorted by, and whether the largest comes first.
    keys: Vec<(Compiled, bool)>,
    /// The slots of the rows, in order.
    order: BTreeMap<Arc<Rank>, usize>,
    rows: Slab<Kept>,
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
    rank: Arc<Rank>,
    stamp: Stamp,
    values: Vec<Value>,
}

/// A row on disk, by its slot: its number, sequence number and time, its keys, its columns.
type RowState = (u64, u64, i64, Vec<Value>, Vec<Value>);

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(to)
    }
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
            order: BTreeMap::new(),
            rows: Slab::default(),
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
            let rank = Arc::new(self.rank(row));
            let value = |column: &usize| row.values.get(*column).cloned().unwrap_or_default();
            let kept = Kept {
                rank: Arc::clone(&rank),
                stamp: row.stamp,
                values: self.keep.iter().map(value).collect(),
            };
            if self.order.len() >= self.rows_max {
                let last = self.order.last_entry();
                let Some(last) = last.filter(|last| *last.key() > rank) else {
                    to.enter(kept.row());
                    to.leave(kept.row(), row.stamp);
                    continue;
                };
                if let Some(last) = self.rows.remove(last.remove()) {
                    to.leave(last.row(), row.stamp);
                }
            }
            to.enter(kept.row());
            self.order.insert(rank, self.rows.put(kept));
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
        self.rows.save(
            Part::WindowRows,
            save,
            |save,
             slot,
             Kept {
                 rank,
                 stamp,
                 values,
             }| {
                let state = (rank.number, stamp.seq.0, stamp.time.0, &rank.keys, values);
                save.give(Part::WindowRows, slot, &state)
            },
        )
    }

    fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.next = load.one(Part::Window)?.unwrap_or(0);
        let (columns, keys_count) = (self.keep.len(), self.keys.len());
        let rows = load.numbered::<RowState>(Part::WindowRows).map(|row| {
            let (slot, (number, seq, time, keys, values)) = row?;
            if keys.len() != keys_count || values.len() != columns {
                return Err(StateError::Inconsistent("a sorted row has another form"));
            }
            let keys = keys.into_iter().zip(&self.keys);
            let keys = keys.map(|(value, (_, descending))| Key {
                value,
                descending: *descending,
            });
            let kept = Kept {
                rank: Arc::new(Rank {
                    keys: keys.collect(),
                    number,
                }),
                stamp: Stamp {
                    seq: Seq(seq),
                    time: Timestamp(time),
                },
                values,
            };
            Ok((slot, kept))
        });
        self.rows.load(rows)?;
        let order = self.rows.iter();
        self.order = order
            .map(|(slot, kept)| (Arc::clone(&kept.rank), slot))
            .collect();
        Ok(())
    }
}
