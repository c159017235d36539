//! Rows in memory that are found by key: what tables and the sides of joins hold.
//!
//! Rows lie in a slab. They are read in the order of their numbers, which grow as rows come;
//! hash indexes find those with given values. Putting a row in, finding it and taking it out cost
//! the same however many there are, also when all have the same key.

mod chain;
mod index;
mod persist;
#[cfg(test)]
mod tests;

use foldhash::fast::FixedState;

use super::state::{Changed, Part};
use crate::event::{Stamp, Value};
use chain::Chain;
use index::{Cells, Index};

/// The place of a row: its own until it is taken out, or until [`IndexedRows::tidy`].
pub(super) type Slot = u32;

/// A slab of fewer rows than this is not worth making smaller.
const SLAB_ROWS_MIN: usize = if cfg!(test) { 4 } else { 1024 };

/// Rows of one width.
pub(super) struct IndexedRows {
    width: usize,
    values: Vec<Value>,
    stamps: Vec<Stamp>,
    /// The first is the order of numbers; the others are orders that the owner keeps up to date.
    chains: Vec<Chain>,
    indexes: Vec<Index>,
    free: Vec<Slot>,
    hasher: FixedState,
    /// The part of the state that the rows are.
    part: Part,
    /// What of them is to be saved, by slot.
    changed: Changed,
}

impl IndexedRows {
    /// No rows yet. `orders` is how many orders are kept besides that of numbers.
    pub(super) fn new(width: usize, indexes: Vec<Vec<usize>>, orders: usize) -> IndexedRows {
        IndexedRows {
            width,
            values: Vec::new(),
            stamps: Vec::new(),
            chains: (0..=orders).map(|_| Chain::new()).collect(),
            indexes: indexes.into_iter().map(Index::new).collect(),
            free: Vec::new(),
            hasher: FixedState::default(),
            part: Part::Rows,
            changed: Changed::default(),
        }
    }

    /// The same rows as another part of the state.
    pub(super) fn in_part(self, part: Part) -> IndexedRows {
        IndexedRows { part, ..self }
    }

    /// The same, with indexes in which NULL is a value like others, as groups see it.
    pub(super) fn with_nulls_alike(mut self) -> IndexedRows {
        for index in &mut self.indexes {
            index.nulls_alike = true;
        }
        self
    }

    /// The same for somebody else: with no rows.
    pub(super) fn fresh(&self) -> IndexedRows {
        let indexes = self.indexes.iter().map(|index| index.columns.clone());
        let fresh = IndexedRows::new(self.width, indexes.collect(), self.chains.len() - 1);
        let fresh = fresh.in_part(self.part);
        if self.indexes.iter().any(|index| index.nulls_alike) {
            return fresh.with_nulls_alike();
        }
        fresh
    }

    /// Forgets all rows and gives their memory back.
    pub(super) fn clear(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        *self = IndexedRows {
            changed,
            ..self.fresh()
        };
    }

    pub(super) fn len(&self) -> usize {
        self.stamps.len() - self.free.len()
    }

    /// The columns of each index.
    pub(super) fn indexes(&self) -> impl Iterator<Item = &[usize]> {
        self.indexes.iter().map(|index| index.columns.as_slice())
    }

    /// One more index, over the rows that there are, too.
    pub(super) fn add_index(&mut self, columns: &[usize]) -> usize {
        let mut index = Index::new(columns.to_vec());
        let (cells, order) = (cells(self.width, &self.values), self.chains.first());
        for slot in order.into_iter().flat_map(Chain::iter) {
            let number = |slot| order.map_or(0, |order| order.number(slot));
            index.add(slot, cells, &self.hasher, number);
        }
        self.indexes.push(index);
        self.indexes.len() - 1
    }

    /// Puts a row in. Its number is higher than those of all others; what `row` lacks is NULL.
    #[inline]
    pub(super) fn insert(
        &mut self,
        number: u64,
        stamp: Stamp,
        row: impl IntoIterator<Item = Value>,
    ) -> Slot {
        let slot = self.put(stamp, row.into_iter());
        self.changed.note(slot as usize);
        for chain in &mut self.chains {
            chain.push(slot, number);
        }
        self.index(slot);
        slot
    }

    /// Writes a row into a free slot.
    #[inline]
    fn put(&mut self, stamp: Stamp, row: impl Iterator<Item = Value>) -> Slot {
        let row = row.chain(std::iter::repeat(Value::Null)).take(self.width);
        if let Some(slot) = self.free.pop() {
            if let Some(place) = self.stamps.get_mut(slot as usize) {
                *place = stamp;
            }
            let places = self.values.iter_mut().skip(slot as usize * self.width);
            places.zip(row).for_each(|(place, value)| *place = value);
            return slot;
        }
        self.stamps.push(stamp);
        self.values.extend(row);
        // Four thousand million rows of at least 40 bytes do not fit the machines this runs on.
        Slot::try_from(self.stamps.len() - 1).unwrap_or(chain::NONE)
    }

    fn index(&mut self, slot: Slot) {
        let (cells, order) = (cells(self.width, &self.values), self.chains.first());
        for index in &mut self.indexes {
            let number = |slot| order.map_or(0, |order| order.number(slot));
            index.add(slot, cells, &self.hasher, number);
        }
    }

    /// Takes a row out.
    pub(super) fn remove(&mut self, slot: Slot) {
        self.changed.note(slot as usize);
        let cells = cells(self.width, &self.values);
        for index in &mut self.indexes {
            index.remove(slot, cells, &self.hasher);
        }
        for chain in &mut self.chains {
            chain.remove(slot);
        }
        let places = self.values.iter_mut().skip(slot as usize * self.width);
        places
            .take(self.width)
            .for_each(|place| *place = Value::Null);
        self.free.push(slot);
    }

    /// Gives a row other values. It keeps its number.
    pub(super) fn change(&mut self, slot: Slot, stamp: Stamp, row: &[Value]) {
        self.changed.note(slot as usize);
        let start = slot as usize * self.width;
        let cells = cells(self.width, &self.values);
        let changes = |index: &Index| {
            let mut columns = index.columns.iter();
            columns.any(|column| self.values.get(start + column) != row.get(*column))
        };
        let changed: Vec<bool> = self.indexes.iter().map(changes).collect();
        for (index, _) in self.indexes.iter_mut().zip(&changed).filter(|pair| *pair.1) {
            index.remove(slot, cells, &self.hasher);
        }
        let places = self.values.iter_mut().skip(start).take(self.width);
        places
            .zip(row)
            .for_each(|(place, value)| place.clone_from(value));
        if let Some(place) = self.stamps.get_mut(slot as usize) {
            *place = stamp;
        }
        let (cells, order) = (self::cells(self.width, &self.values), self.chains.first());
        for (index, _) in self.indexes.iter_mut().zip(&changed).filter(|pair| *pair.1) {
            let number = |slot| order.map_or(0, |order| order.number(slot));
            index.add(slot, cells, &self.hasher, number);
        }
    }

    /// Sets a column that no index has.
    pub(super) fn set(&mut self, slot: Slot, column: usize, value: Value) {
        debug_assert!(!self.indexes().any(|columns| columns.contains(&column)));
        self.changed.note(slot as usize);
        if let Some(place) = self.values.get_mut(slot as usize * self.width + column) {
            *place = value;
        }
    }

    /// Puts a row at the end of one of the further orders, from 1.
    pub(super) fn touch(&mut self, order: usize, slot: Slot, number: u64) {
        self.changed.note(slot as usize);
        if let Some(chain) = self.chains.get_mut(order) {
            chain.remove(slot);
            chain.push(slot, number);
        }
    }

    /// The first row of an order; 0 is that of numbers.
    pub(super) fn first(&self, order: usize) -> Option<Slot> {
        self.chains.get(order)?.first()
    }

    #[inline]
    pub(super) fn row(&self, slot: Slot) -> &[Value] {
        let start = slot as usize * self.width;
        self.values
            .get(start..start + self.width)
            .unwrap_or_default()
    }

    #[inline]
    pub(super) fn stamp(&self, slot: Slot) -> Stamp {
        self.stamps.get(slot as usize).copied().unwrap_or_default()
    }

    #[inline]
    pub(super) fn number(&self, slot: Slot) -> u64 {
        self.chains.first().map_or(0, |order| order.number(slot))
    }

    /// All rows by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> {
        self.chains.first().into_iter().flat_map(Chain::iter)
    }

    /// Appends the rows that have `key` in the columns of an index, by number.
    #[inline]
    pub(super) fn find<'k>(
        &self,
        index: usize,
        key: impl IntoIterator<Item = &'k Value, IntoIter: Clone>,
        found: &mut Vec<Slot>,
    ) {
        let Some(index) = self.indexes.get(index) else {
            return;
        };
        let number = |slot| self.number(slot);
        index.find(key.into_iter(), self.cells(), &self.hasher, number, found);
    }

    /// Some row that has `key` in the columns of an index.
    #[inline]
    pub(super) fn any<'k>(
        &self,
        index: usize,
        key: impl IntoIterator<Item = &'k Value, IntoIter: Clone>,
    ) -> Option<Slot> {
        let index = self.indexes.get(index)?;
        index.any(key.into_iter(), self.cells(), &self.hasher)
    }

    fn cells(&self) -> Cells<'_> {
        cells(self.width, &self.values)
    }

    /// Gives memory back when few of many rows are left. Slots change.
    pub(super) fn tidy(&mut self) {
        if self.stamps.len() < SLAB_ROWS_MIN || self.len() * 4 > self.stamps.len() {
            return;
        }
        let mut fresh = self.fresh();
        let mut moved = vec![chain::NONE; self.stamps.len()];
        let order: Vec<Slot> = self.iter().collect();
        for slot in order {
            let places = self.values.iter_mut().skip(slot as usize * self.width);
            let row = places.take(self.width).map(std::mem::take);
            let new = fresh.put(
                self.stamps.get(slot as usize).copied().unwrap_or_default(),
                row,
            );
            if let Some(place) = moved.get_mut(slot as usize) {
                *place = new;
            }
        }
        for (old, chain) in self.chains.iter().zip(&mut fresh.chains) {
            for slot in old.iter() {
                let new = moved.get(slot as usize).copied().unwrap_or(chain::NONE);
                chain.push(new, old.number(slot));
            }
        }
        (0..)
            .take(fresh.stamps.len())
            .for_each(|slot| fresh.index(slot));
        // What lay in other slots before is new in these.
        fresh.changed = std::mem::take(&mut self.changed);
        fresh.changed.note_first(fresh.stamps.len());
        *self = fresh;
    }
}

fn cells(width: usize, values: &[Value]) -> Cells<'_> {
    Cells { width, values }
}
