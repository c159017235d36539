//! DISTINCT: within a batch, over the rows that a sliding window holds, over all there ever were.

use super::output::Output;
use super::rows::IndexedRows;
use super::state::{Load, Save, StateError};
use crate::event::{Batch, Row, Stamp, Value};
use crate::sql::plan::Emit;

/// Output rows, each once.
pub(super) struct Unique {
    rows: IndexedRows,
    columns: usize,
}

impl Unique {
    pub(super) fn new(columns: usize) -> Unique {
        Unique {
            rows: each_once(columns, columns),
            columns,
        }
    }

    /// The same without any row.
    pub(super) fn fresh(&self) -> Unique {
        Unique::new(self.columns)
    }

    /// Whether no row like this has come before.
    pub(super) fn is_new(&mut self, row: Row<'_>) -> bool {
        let key = row.values.iter().take(self.columns);
        if self.rows.any(0, key.clone()).is_some() {
            return false;
        }
        let number = self.rows.len() as u64;
        self.rows.insert(number, row.stamp, key.cloned());
        true
    }

    /// Leaves only rows of which none alike has come before.
    pub(super) fn filter(&mut self, rows: &mut Batch) {
        let mut kept: Option<Batch> = None;
        for (place, row) in rows.rows().iter().enumerate() {
            let new = self.is_new(row);
            match &mut kept {
                Some(kept) if new => kept.push(row.stamp, row.values.iter().cloned()),
                None if !new => {
                    let mut before = Batch::new(rows.width());
                    for row in rows.rows().iter().take(place) {
                        before.push(row.stamp, row.values.iter().cloned());
                    }
                    kept = Some(before);
                }
                Some(_) | None => {}
            }
        }
        if let Some(kept) = kept {
            *rows = kept;
        }
    }

    pub(super) fn clear(&mut self) {
        if self.rows.len() > 0 {
            self.rows.clear();
        }
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.rows.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.rows.load(load)
    }
}

/// The output rows that the rows of a window have now, each with the number of rows that have it.
/// It comes out with the first of them, and as expired with the last.
pub(super) struct Counted {
    rows: IndexedRows,
    columns: usize,
    number: u64,
    emit: Emit,
    row: Vec<Value>,
}

impl Counted {
    pub(super) fn new(columns: usize, emit: Emit) -> Counted {
        Counted {
            rows: each_once(columns, columns + 1),
            columns,
            number: 0,
            emit,
            row: Vec::new(),
        }
    }

    /// The same without any row.
    pub(super) fn fresh(&self) -> Counted {
        Counted::new(self.columns, self.emit)
    }

    pub(super) fn enter(&mut self, row: Row<'_>, output: &mut Output) {
        if !output.compute(row.values, row.stamp, &mut self.row) {
            return;
        }
        if let Some(slot) = self.rows.any(0, &self.row) {
            let count = self.count(slot) + 1;
            self.rows.set(slot, self.columns, Value::Int(count));
            return;
        }
        self.number += 1;
        let counted = self.row.iter().cloned().chain([Value::Int(1)]);
        self.rows.insert(self.number, row.stamp, counted);
        if self.emit != Emit::Expired {
            output.out.push(row.stamp, self.row.iter().cloned());
        }
    }

    pub(super) fn leave(&mut self, row: Row<'_>, at: Stamp, output: &mut Output) {
        // As it was when it came: what is taken out is what was put in.
        if !output.compute(row.values, row.stamp, &mut self.row) {
            return;
        }
        let Some(slot) = self.rows.any(0, &self.row) else {
            return;
        };
        let count = self.count(slot) - 1;
        if count > 0 {
            self.rows.set(slot, self.columns, Value::Int(count));
            return;
        }
        self.rows.remove(slot);
        self.rows.tidy();
        if self.emit != Emit::Current {
            output.out.push(at, self.row.iter().cloned());
        }
    }

    fn count(&self, slot: super::rows::Slot) -> i64 {
        let count = self.rows.row(slot).get(self.columns);
        count.and_then(Value::as_int).unwrap_or(0)
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.rows.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.rows.load(load)?;
        self.number = last_number(&self.rows);
        Ok(())
    }
}

/// The rows that are in a sliding window, for whoever wants to see them all.
pub(super) struct Live {
    /// The row, and behind it the number of the input that it came with: rows alike that one input
    /// has brought are the same to everybody.
    rows: IndexedRows,
    number: u64,
    key: Vec<Value>,
}

impl Live {
    pub(super) fn new(columns: usize) -> Live {
        Live {
            rows: each_once(columns + 1, columns + 1),
            number: 0,
            key: Vec::new(),
        }
    }

    /// The same without any row.
    pub(super) fn fresh(&self) -> Live {
        Live {
            rows: self.rows.fresh(),
            number: 0,
            key: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 0
    }

    pub(super) fn enter(&mut self, row: Row<'_>) {
        self.number += 1;
        let values = row.values.iter().cloned().chain([came_with(row.stamp)]);
        self.rows.insert(self.number, row.stamp, values);
    }

    pub(super) fn leave(&mut self, row: Row<'_>) {
        self.key.clear();
        self.key.extend_from_slice(row.values);
        self.key.push(came_with(row.stamp));
        if let Some(slot) = self.rows.any(0, &self.key) {
            self.rows.remove(slot);
            self.rows.tidy();
        }
    }

    /// The rows in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|slot| {
            let values = self.rows.row(slot);
            Row {
                stamp: self.rows.stamp(slot),
                values: values.split_last().map_or(values, |(_, row)| row),
            }
        })
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.rows.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.rows.load(load)?;
        self.number = last_number(&self.rows);
        Ok(())
    }
}

fn came_with(stamp: Stamp) -> Value {
    Value::Int(i64::try_from(stamp.seq.0).unwrap_or(i64::MAX))
}

/// Rows of `width` columns that are found by the first `columns`.
fn each_once(columns: usize, width: usize) -> IndexedRows {
    IndexedRows::new(width, vec![(0..columns).collect()], 0).with_nulls_alike()
}

/// The highest number in use.
fn last_number(rows: &IndexedRows) -> u64 {
    rows.iter().last().map_or(0, |slot| rows.number(slot))
}
