//! Rows of a window that are found by key.

use std::cell::Cell;

use super::super::expr::{Compiled, Cx, Env, compile};
use super::super::rows::{IndexedRows, Slot};
use super::super::state::{Load, Part, Save, StateError};
use crate::event::{Row, Stamp, Value};
use crate::sql::plan::{Expr, ExprKind};

/// At most one row per key, in the order in which they came.
///
/// A row lies there with its kept columns, behind them what of its key is no column, and behind
/// that what the owner notes.
pub(super) struct Keyed {
    keep: Vec<usize>,
    /// What of the key is no column.
    computed: Vec<Compiled>,
    /// Where the key lies in a row.
    key: Vec<usize>,
    notes: usize,
    rows: IndexedRows,
    /// The row that has come, as it would lie there.
    row: Vec<Value>,
    next: u64,
    faults: Cell<u64>,
}

impl Keyed {
    /// `keys` are over the kept columns, for rows as `cx` says; `notes` is how many values the
    /// owner notes of a row.
    pub(super) fn new(keys: &[Expr], keep: &[usize], notes: usize, cx: Cx<'_>) -> Keyed {
        let mut computed = Vec::new();
        let place = |key: &Expr| match key.kind {
            ExprKind::Column(column) => column,
            _ => {
                computed.push(compile(key, cx));
                keep.len() + computed.len() - 1
            }
        };
        let key: Vec<usize> = keys.iter().map(place).collect();
        Keyed::with(keep.to_vec(), computed, key, notes)
    }

    fn with(keep: Vec<usize>, computed: Vec<Compiled>, key: Vec<usize>, notes: usize) -> Keyed {
        let width = keep.len() + computed.len() + notes;
        let rows = IndexedRows::new(width, vec![key.clone()], 0);
        let rows = rows.with_nulls_alike().in_part(Part::WindowRows);
        Keyed {
            keep,
            computed,
            key,
            notes,
            rows,
            row: Vec::new(),
            next: 0,
            faults: Cell::new(0),
        }
    }

    pub(super) fn fresh(&self) -> Keyed {
        Keyed::with(
            self.keep.clone(),
            self.computed.clone(),
            self.key.clone(),
            self.notes,
        )
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Looks at a row that has come: is there one with its key?
    pub(super) fn read(&mut self, row: Row<'_>) -> Option<Slot> {
        self.row.clear();
        let value = |column: &usize| row.values.get(*column).cloned().unwrap_or_default();
        self.row.extend(self.keep.iter().map(value));
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        let computed = self.computed.iter();
        self.row.extend(computed.map(|expr| expr.value(&env)));
        let key = self.key.iter();
        self.rows
            .any(0, key.filter_map(|place| self.row.get(*place)))
    }

    /// Puts the row in that was read last.
    pub(super) fn put(&mut self, stamp: Stamp, notes: impl IntoIterator<Item = Value>) -> Slot {
        self.row.extend(notes);
        let slot = self.rows.insert(self.next, stamp, self.row.drain(..));
        self.next += 1;
        slot
    }

    /// Puts the row that was read last in the place of one with the same key.
    pub(super) fn replace(
        &mut self,
        slot: Slot,
        stamp: Stamp,
        notes: impl IntoIterator<Item = Value>,
    ) {
        self.row.extend(notes);
        self.rows.change(slot, stamp, &self.row);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.rows.remove(slot);
    }

    /// The row that has been there longest.
    pub(super) fn oldest(&self) -> Option<Slot> {
        self.rows.first(0)
    }

    /// Every row, the oldest first.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.rows.iter().collect()
    }

    /// A row as others see it.
    pub(super) fn shown(&self, slot: Slot) -> Row<'_> {
        let values = self.rows.row(slot);
        Row {
            stamp: self.rows.stamp(slot),
            values: values.get(..self.keep.len()).unwrap_or_default(),
        }
    }

    /// What the owner has noted of a row.
    pub(super) fn notes(&self, slot: Slot) -> &[Value] {
        let values = self.rows.row(slot);
        values.get(values.len() - self.notes..).unwrap_or_default()
    }

    /// Notes something else of a row.
    pub(super) fn note(&mut self, slot: Slot, index: usize, value: Value) {
        let first = self.keep.len() + self.computed.len();
        self.rows.set(slot, first + index, value);
    }

    /// Gives memory back when few of many rows are left. Slots change.
    pub(super) fn tidy(&mut self) {
        self.rows.tidy();
    }

    pub(super) fn take_faults(&self) -> u64 {
        self.faults.take()
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.rows.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.rows.load(load)?;
        let last = self.rows.iter().last();
        self.next = last.map_or(0, |slot| self.rows.number(slot) + 1);
        Ok(())
    }
}
