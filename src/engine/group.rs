//! GROUP BY: rows find their group, aggregates are kept per group, and groups without rows are
//! given back.

mod piece;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash, Hasher};

use super::aggregate::{self, Aggregate, Leaves};
use super::expr::{Compiled, Cx, Env, compile};
use super::output::Output;
use super::state::{Changed, Load, Part, Save, StateError};
use super::window::Slide;
use crate::event::{Value, same_bytes};
use crate::sql::plan::{Emit, Grouping};
use piece::{GroupPiece, GroupState};

/// So few groups are all taken for changed: keeping count would cost more.
const FEW: usize = if cfg!(test) { 4 } else { 128 };
/// No state that was saved has more free slots in a row.
const SLOTS_FREE_MAX: usize = 1 << 28;

/// The groups of one query.
pub(super) struct Groups {
    pub(super) keys: Vec<Compiled>,
    /// Where the keys lie in a row, when all of them are columns: then they are hashed and
    /// compared in place.
    key_columns: Option<Vec<usize>>,
    pub(super) aggregates: Vec<Box<dyn Aggregate>>,
    /// Where the carried columns lie in a row.
    pub(super) carried: Vec<usize>,
    /// Whether rows come out when a batch closes, not one by one.
    pub(super) batch: bool,
    pub(super) emit: Emit,
    /// Whether some aggregate outlives its rows, so that groups are never given back.
    pub(super) forever: bool,
    table: HashTable<usize>,
    hasher: FixedState,
    /// The keys of each slot, slot after slot.
    pub(super) slot_keys: Vec<Value>,
    /// The carried values of each slot from the row that came last; batches only.
    slot_carried: Vec<Value>,
    /// How many rows each slot's group has.
    pub(super) slot_rows: Vec<u64>,
    free: Vec<usize>,
    /// The groups of the open batch in the order of their first row.
    pub(super) order: Vec<usize>,
    /// A number for each slot in that order; batches only.
    slot_order: Vec<u64>,
    next_order: u64,
    /// Which groups have changed since they were saved, when that is counted.
    changed: Changed,
    counted: bool,
    /// Whether all groups of before are gone since they were saved.
    emptied: bool,
    key: Vec<Value>,
    pub(super) group_row: Vec<Value>,
    /// The slot of each row that is coming in or going, in the order of events.
    pub(super) slots: Vec<usize>,
    /// The results of each aggregate for the rows that are coming in.
    pub(super) results: Vec<Vec<Value>>,
}

pub(super) static NULL: Value = Value::Null;

/// The slot of a row whose group is not known any more.
pub(super) const NO_SLOT: usize = usize::MAX;

impl Groups {
    /// `leaves` is how rows leave, and `batch` whether rows come out when a batch closes.
    pub(super) fn new(
        grouping: &Grouping,
        cx: Cx<'_>,
        leaves: Leaves,
        batch: bool,
        emit: Emit,
    ) -> Groups {
        let place = |column: &usize| cx.place(*column);
        let aggregates: Vec<_> = grouping
            .aggregates
            .iter()
            .map(|plan| aggregate::new(plan, cx, leaves))
            .collect();
        Groups::of(
            grouping.keys.iter().map(|key| compile(key, cx)).collect(),
            aggregates,
            grouping.carried.iter().map(place).collect(),
            batch,
            emit,
        )
    }

    fn of(
        keys: Vec<Compiled>,
        aggregates: Vec<Box<dyn Aggregate>>,
        carried: Vec<usize>,
        batch: bool,
        emit: Emit,
    ) -> Groups {
        Groups {
            key_columns: keys.iter().map(Compiled::column).collect(),
            keys,
            carried,
            batch,
            emit,
            forever: aggregates.iter().any(|aggregate| aggregate.forever()),
            aggregates,
            table: HashTable::new(),
            hasher: FixedState::default(),
            slot_keys: Vec::new(),
            slot_carried: Vec::new(),
            slot_rows: Vec::new(),
            free: Vec::new(),
            order: Vec::new(),
            slot_order: Vec::new(),
            next_order: 0,
            changed: Changed::default(),
            counted: false,
            emptied: false,
            key: Vec::new(),
            group_row: Vec::new(),
            slots: Vec::new(),
            results: Vec::new(),
        }
    }

    /// The same groups without any row.
    pub(super) fn fresh(&self) -> Groups {
        Groups::of(
            self.keys.clone(),
            self.aggregates.iter().map(|one| one.fresh()).collect(),
            self.carried.clone(),
            self.batch,
            self.emit,
        )
    }

    /// The slot of the row's group.
    #[inline]
    pub(super) fn find(&mut self, env: &Env<'_>) -> Option<usize> {
        let width = self.keys.len();
        if width == 0 {
            return (!self.slot_rows.is_empty()).then_some(0);
        }
        let slot_keys = &self.slot_keys;
        if let Some([column]) = self.key_columns.as_deref() {
            let key = env.row.get(*column).unwrap_or(&NULL);
            if let Value::Str(text) = key {
                let same = |slot: &usize| match slot_keys.get(*slot) {
                    Some(Value::Str(known)) => same_bytes(known.as_bytes(), text.as_bytes()),
                    _ => false,
                };
                let mut state = self.hasher.build_hasher();
                state.write(text.as_bytes());
                return self.table.find(state.finish(), same).copied();
            }
            let same = |slot: &usize| slot_keys.get(*slot) == Some(key);
            return self.table.find(hash(&self.hasher, [key]), same).copied();
        }
        let known = |slot: usize| slot_keys.get(slot * width..(slot + 1) * width);
        if let Some(columns) = &self.key_columns {
            let key = || {
                columns
                    .iter()
                    .map(|column| env.row.get(*column).unwrap_or(&NULL))
            };
            let same = |slot: &usize| known(*slot).is_some_and(|known| known.iter().eq(key()));
            return self.table.find(hash(&self.hasher, key()), same).copied();
        }
        self.key.clear();
        self.key.extend(self.keys.iter().map(|key| key.value(env)));
        let key = &self.key;
        let same = |slot: &usize| known(*slot) == Some(key);
        self.table.find(hash(&self.hasher, key), same).copied()
    }

    /// The slot of the row's group, a fresh one when there is none.
    #[inline]
    pub(super) fn find_or_insert(&mut self, env: &Env<'_>) -> usize {
        match self.find(env) {
            Some(slot) => slot,
            None => {
                self.key.clear();
                self.key.extend(self.keys.iter().map(|key| key.value(env)));
                self.insert()
            }
        }
    }

    /// A fresh slot for the key in `self.key`.
    fn insert(&mut self) -> usize {
        let width = self.keys.len();
        let slot = self.free.pop().unwrap_or(self.slot_rows.len());
        if slot == self.slot_rows.len() {
            self.slot_rows.push(0);
            self.slot_keys.resize((slot + 1) * width, Value::Null);
            self.slot_carried
                .resize((slot + 1) * self.carried.len(), Value::Null);
            if !self.counted && slot >= FEW {
                self.counted = true;
                self.changed.note_first(slot);
            }
        }
        self.note(slot);
        for aggregate in &mut self.aggregates {
            aggregate.open(slot);
        }
        if width > 0 {
            let places = self.slot_keys.iter_mut().skip(slot * width);
            for (place, key) in places.zip(&mut self.key) {
                std::mem::swap(place, key);
            }
            let (hasher, slot_keys) = (&self.hasher, &self.slot_keys);
            let rehash = |slot: &usize| {
                hash(
                    hasher,
                    slot_keys
                        .get(slot * width..(slot + 1) * width)
                        .unwrap_or_default(),
                )
            };
            self.table.insert_unique(rehash(&slot), slot, rehash);
        }
        slot
    }

    /// Gives the slot of a group without rows back.
    pub(super) fn give_back(&mut self, slot: usize) {
        let width = self.keys.len();
        if self.forever || width == 0 {
            return;
        }
        let range = slot * width..(slot + 1) * width;
        let key = self.slot_keys.get(range.clone()).unwrap_or_default();
        let entry = self
            .table
            .find_entry(hash(&self.hasher, key), |known| *known == slot);
        let Ok(entry) = entry else {
            return;
        };
        entry.remove();
        if let Some(keys) = self.slot_keys.get_mut(range) {
            keys.fill(Value::Null);
        }
        // Opening frees what the old state held.
        for aggregate in &mut self.aggregates {
            aggregate.open(slot);
        }
        self.note(slot);
        self.free.push(slot);
        if self.free.len() == self.slot_rows.len() {
            self.forget_all();
        }
    }

    /// Leaves in the order only groups that have rows, each where it stands last: a slot that was
    /// given back and taken again stands there twice.
    pub(super) fn order_those_with_rows(&mut self) {
        let mut seen = vec![false; self.slot_rows.len()];
        let mut order = std::mem::take(&mut self.order);
        order.reverse();
        order.retain(|slot| {
            let rows = self.slot_rows.get(*slot).is_some_and(|rows| *rows > 0);
            let first = seen
                .get_mut(*slot)
                .map(|seen| std::mem::replace(seen, true));
            rows && first == Some(false)
        });
        order.reverse();
        self.order = order;
    }

    /// Sees to it that groups that come and go do not make the order grow.
    pub(super) fn tidy_order(&mut self) {
        if self.order.len() > 64 && self.order.len() > 2 * self.slot_rows.len() {
            self.order_those_with_rows();
        }
    }

    pub(super) fn forget_all(&mut self) {
        // A table that once was large would cost its size at every clear.
        if self.table.capacity() > 64 && self.table.len() < self.table.capacity() / 8 {
            self.table = HashTable::new();
        } else {
            self.table.clear();
        }
        self.slot_keys.clear();
        self.slot_carried.clear();
        self.slot_rows.clear();
        self.free.clear();
        self.order.clear();
        self.slot_order.clear();
        self.next_order = 0;
        self.changed.clear();
        self.counted = false;
        self.emptied = true;
        for aggregate in &mut self.aggregates {
            aggregate.clear();
        }
    }

    /// Appends one column of the group row: keys, results, carried columns (from `row`, or as
    /// last seen).
    #[inline]
    pub(super) fn cell(
        &self,
        slot: usize,
        row: Option<&[Value]>,
        column: usize,
        result: impl Fn(usize, &mut Vec<Value>),
        to: &mut Vec<Value>,
    ) {
        let keys = self.keys.len();
        if column >= keys && column - keys < self.aggregates.len() {
            result(column - keys, to);
            return;
        }
        let cell = self.repeated(slot, row, column);
        cell.unwrap_or(&NULL).copy_to(to);
    }

    /// A column of the group row that is a key or carried.
    #[inline]
    pub(super) fn repeated<'a>(
        &'a self,
        slot: usize,
        row: Option<&'a [Value]>,
        column: usize,
    ) -> Option<&'a Value> {
        let keys = self.keys.len();
        if column < keys {
            return self.slot_keys.get(slot * keys + column);
        }
        let column = column - keys - self.aggregates.len();
        match row {
            Some(row) => row.get(*self.carried.get(column)?),
            None => self.slot_carried.get(slot * self.carried.len() + column),
        }
    }

    /// Appends the result of an aggregate for the group of a slot as it is.
    #[inline]
    pub(super) fn result(&self, slot: usize, aggregate: usize, to: &mut Vec<Value>) {
        if let Some(aggregate) = self.aggregates.get(aggregate) {
            aggregate.result_to(slot, to);
        }
    }

    /// Without keys there is one group.
    fn find_only(&mut self, slide: Slide<'_>, slots: &mut Vec<usize>) {
        if self.slot_rows.is_empty() {
            self.insert();
        }
        slots.resize(slide.len() + slide.left(), 0);
        for rows in &mut self.slot_rows {
            *rows = (*rows + slide.len() as u64).saturating_sub(slide.left() as u64);
        }
    }

    pub(super) fn width(&self) -> usize {
        self.keys.len() + self.aggregates.len() + self.carried.len()
    }

    /// Finds the groups of rows that come and go, in the order of events.
    pub(super) fn find_all(&mut self, slide: Slide<'_>, output: &Output) {
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        if self.keys.is_empty() {
            self.find_only(slide, &mut slots);
            self.slots = slots;
            return;
        }
        let mut left = 0;
        for (row, until) in slide.entering() {
            while left < until {
                let old = slide.leaving(left);
                let slot =
                    old.and_then(|old| self.find(&output.env(old.values, old.stamp, old.stamp)));
                if let Some(rows) = slot.and_then(|slot| self.slot_rows.get_mut(slot)) {
                    *rows = rows.saturating_sub(1);
                }
                if let Some(slot) = slot {
                    self.note(slot);
                }
                slots.push(slot.unwrap_or(NO_SLOT));
                left += 1;
            }
            let slot = self.find_or_insert(&output.env(row.values, row.stamp, row.stamp));
            self.count(slot, row.values);
            slots.push(slot);
        }
        self.slots = slots;
    }

    /// A row has come into the group of a slot.
    #[inline]
    pub(super) fn count(&mut self, slot: usize, row: &[Value]) {
        self.note(slot);
        if let Some(rows) = self.slot_rows.get_mut(slot) {
            *rows += 1;
            if self.batch && *rows == 1 {
                self.order.push(slot);
                self.stands_at(slot, self.next_order);
                self.next_order += 1;
            }
        }
        if self.batch && !self.carried.is_empty() {
            self.carry(slot, row);
        }
    }

    /// Gives a slot its number in the order of the open batch.
    fn stands_at(&mut self, slot: usize, number: u64) {
        if self.slot_order.len() <= slot {
            self.slot_order.resize(slot + 1, 0);
        }
        if let Some(place) = self.slot_order.get_mut(slot) {
            *place = number;
        }
    }

    fn carry(&mut self, slot: usize, row: &[Value]) {
        let places = self.slot_carried.iter_mut().skip(slot * self.carried.len());
        for (place, column) in places.zip(&self.carried) {
            *place = row.get(*column).cloned().unwrap_or_default();
        }
    }

    /// A group has changed, come or gone.
    #[inline]
    pub(super) fn note(&mut self, slot: usize) {
        if self.counted {
            self.changed.note(slot);
        }
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        if save.is_whole() {
            for slot in (0..self.slot_rows.len()).filter(|slot| !self.is_free(*slot)) {
                save.give(Part::Groups, slot as u64, &self.piece(slot))?;
            }
            return Ok(());
        }
        if std::mem::take(&mut self.emptied) {
            save.remove_part(Part::Groups);
        }
        if !self.counted {
            self.changed.note_first(self.slot_rows.len());
        }
        for slot in self.changed.take(save) {
            if self.is_free(slot) {
                save.remove(Part::Groups, slot as u64);
            } else {
                save.give(Part::Groups, slot as u64, &self.piece(slot))?;
            }
        }
        Ok(())
    }

    /// Whether a slot was given back; a group without rows keeps its slot only for ever.
    fn is_free(&self, slot: usize) -> bool {
        let empty = self.slot_rows.get(slot) == Some(&0);
        empty && !self.forever && !self.keys.is_empty()
    }

    fn piece(&self, slot: usize) -> GroupPiece<'_> {
        let carried = slot * self.carried.len()..(slot + 1) * self.carried.len();
        let keys = slot * self.keys.len()..(slot + 1) * self.keys.len();
        let rows = self.slot_rows.get(slot).copied().unwrap_or(0);
        GroupPiece(
            rows,
            self.slot_order.get(slot).copied().filter(|_| rows > 0),
            self.slot_keys.get(keys).unwrap_or_default(),
            self.slot_carried.get(carried).unwrap_or_default(),
            (&self.aggregates, slot),
        )
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.forget_all();
        self.emptied = false;
        let count = load.count(Part::Groups);
        self.table = HashTable::with_capacity(count);
        self.slot_rows.reserve(count);
        self.slot_keys.reserve(count * self.keys.len());
        self.slot_carried.reserve(count * self.carried.len());
        let mut order: Vec<(u64, usize)> = Vec::new();
        let mut group = GroupState::default();
        for (slot, piece) in load.raw(Part::Groups) {
            group.read(piece)?;
            let slot = usize::try_from(slot).unwrap_or(usize::MAX);
            self.load_group(slot, &mut group, &mut order)?;
        }
        order.sort_unstable();
        self.next_order = order.last().map_or(0, |(last, _)| last + 1);
        self.order = order.into_iter().map(|(_, slot)| slot).collect();
        self.changed.clear();
        Ok(())
    }

    /// Puts a group into the slot in which it was; slots passed over are free.
    fn load_group(
        &mut self,
        slot: usize,
        group: &mut GroupState,
        order: &mut Vec<(u64, usize)>,
    ) -> Result<(), StateError> {
        let widths_fit = group.keys.len() == self.keys.len()
            && group.carried.len() == self.carried.len()
            && group.aggregates() == self.aggregates.len();
        let limit = self.slot_rows.len().saturating_add(SLOTS_FREE_MAX);
        if !widths_fit || slot < self.slot_rows.len() || slot > limit {
            return Err(StateError::Inconsistent(
                "a group has another form, or its slot is taken",
            ));
        }
        while self.slot_rows.len() < slot {
            self.free.push(self.slot_rows.len());
            self.slot_rows.push(0);
        }
        let open = self.slot_rows.len();
        self.slot_keys.resize(open * self.keys.len(), Value::Null);
        self.slot_carried
            .resize(open * self.carried.len(), Value::Null);
        // The free list is used from its end; the slot wanted now is the next new one.
        let free = std::mem::take(&mut self.free);
        std::mem::swap(&mut self.key, &mut group.keys);
        let slot = self.insert();
        self.free = free;
        if let Some(known) = self.slot_rows.get_mut(slot) {
            *known = group.rows;
        }
        let places = self.slot_carried.iter_mut().skip(slot * self.carried.len());
        for (place, value) in places.zip(group.carried.drain(..)) {
            *place = value;
        }
        for (aggregate, state) in self.aggregates.iter_mut().zip(group.states()) {
            aggregate.load(slot, state)?;
        }
        if let Some(place) = group.order {
            self.stands_at(slot, place);
            order.push((place, slot));
        }
        Ok(())
    }
}

#[inline]
pub(super) fn hash<'a>(hasher: &FixedState, key: impl IntoIterator<Item = &'a Value>) -> u64 {
    let mut state = hasher.build_hasher();
    for value in key {
        match value {
            // The most common, without a call.
            Value::Str(text) => state.write(text.as_bytes()),
            value => value.hash(&mut state),
        }
    }
    state.finish()
}
