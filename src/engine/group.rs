//! GROUP BY: rows find their group, aggregates are kept per group, and groups without rows are
//! given back.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, Hash, Hasher};

use super::aggregate::{self, Aggregate};
use super::expr::{Compiled, Env, compile};
use super::output::Output;
use super::state::{Load, Part, Save, StateError};
use super::window::Changes;
use crate::event::{Row, Stamp, Value};
use crate::sql::plan::{Emit, Grouping};

/// Slots per chunk of state.
const CHUNK_SLOTS: usize = 64;

/// The groups of one query.
pub(super) struct Groups {
    keys: Vec<Compiled>,
    aggregates: Vec<Box<dyn Aggregate>>,
    /// Where the carried columns lie in a row.
    carried: Vec<usize>,
    /// Whether rows come out when a batch closes, not one by one.
    batch: bool,
    emit: Emit,
    /// Whether some aggregate outlives its rows, so that groups are never given back.
    forever: bool,
    table: HashTable<usize>,
    hasher: FixedState,
    /// The keys of each slot, slot after slot.
    slot_keys: Vec<Value>,
    /// The carried values of each slot from the row that came last; batches only.
    slot_carried: Vec<Value>,
    /// How many rows each slot's group has.
    slot_rows: Vec<u64>,
    free: Vec<usize>,
    /// The groups of the open batch in the order of their first row.
    order: Vec<usize>,
    key: Vec<Value>,
    group_row: Vec<Value>,
}

/// A group on disk.
#[derive(Serialize, Deserialize)]
struct GroupState {
    slot: usize,
    rows: u64,
    /// The place in the open batch's order.
    order: Option<usize>,
    keys: Vec<Value>,
    carried: Vec<Value>,
    aggregates: Vec<Vec<Value>>,
}

impl Groups {
    pub(super) fn new(grouping: &Grouping, columns: &[usize], batch: bool, emit: Emit) -> Groups {
        let place = |column: &usize| columns.get(*column).copied().unwrap_or(*column);
        let aggregates: Vec<_> = grouping
            .aggregates
            .iter()
            .map(|plan| aggregate::new(plan, columns))
            .collect();
        Groups {
            keys: grouping
                .keys
                .iter()
                .map(|key| compile(key, columns))
                .collect(),
            carried: grouping.carried.iter().map(place).collect(),
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
            key: Vec::new(),
            group_row: Vec::new(),
        }
    }

    /// The slot of the row's group; the row's key is left in `self.key`.
    #[inline]
    fn find(&mut self, env: &Env<'_>) -> Option<usize> {
        if self.keys.is_empty() {
            return (!self.slot_rows.is_empty()).then_some(0);
        }
        self.key.clear();
        self.key.extend(self.keys.iter().map(|key| key.value(env)));
        let (key, slot_keys) = (&self.key, &self.slot_keys);
        let width = key.len();
        let same = |slot: &usize| slot_keys.get(slot * width..(slot + 1) * width) == Some(key);
        self.table.find(hash(&self.hasher, key), same).copied()
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
        }
        for aggregate in &mut self.aggregates {
            aggregate.open(slot);
        }
        if width > 0 {
            let places = self.slot_keys.iter_mut().skip(slot * width);
            for (place, key) in places.zip(&self.key) {
                place.clone_from(key);
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
            self.table
                .insert_unique(hash(hasher, &self.key), slot, rehash);
        }
        slot
    }

    /// Gives the slot of a group without rows back.
    fn give_back(&mut self, slot: usize) {
        let width = self.keys.len();
        if self.forever || width == 0 {
            return;
        }
        let range = slot * width..(slot + 1) * width;
        let key = self.slot_keys.get(range.clone()).unwrap_or_default();
        if let Ok(entry) = self
            .table
            .find_entry(hash(&self.hasher, key), |known| *known == slot)
        {
            entry.remove();
        }
        if let Some(keys) = self.slot_keys.get_mut(range) {
            keys.fill(Value::Null);
        }
        // Opening frees what the old state held.
        for aggregate in &mut self.aggregates {
            aggregate.open(slot);
        }
        self.free.push(slot);
        if self.free.len() == self.slot_rows.len() {
            self.forget_all();
        }
    }

    fn forget_all(&mut self) {
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
        for aggregate in &mut self.aggregates {
            aggregate.clear();
        }
    }

    /// Fills `self.group_row`: keys, results, carried columns (from `row`, or as last seen).
    #[inline]
    fn make_group_row(&mut self, slot: usize, row: Option<&[Value]>) {
        let width = self.keys.len();
        self.group_row.clear();
        let keys = self
            .slot_keys
            .get(slot * width..(slot + 1) * width)
            .unwrap_or_default();
        self.group_row.extend_from_slice(keys);
        self.group_row.extend(
            self.aggregates
                .iter()
                .map(|aggregate| aggregate.result(slot)),
        );
        match row {
            Some(row) => {
                let carried = self.carried.iter();
                self.group_row
                    .extend(carried.map(|column| row.get(*column).cloned().unwrap_or_default()));
            }
            None => {
                let width = self.carried.len();
                let carried = self.slot_carried.get(slot * width..(slot + 1) * width);
                self.group_row
                    .extend_from_slice(carried.unwrap_or_default());
            }
        }
    }

    fn carry(&mut self, slot: usize, row: &[Value]) {
        let places = self.slot_carried.iter_mut().skip(slot * self.carried.len());
        for (place, column) in places.zip(&self.carried) {
            *place = row.get(*column).cloned().unwrap_or_default();
        }
    }

    pub(super) fn save(&self, save: &mut Save<'_>) -> Result<(), StateError> {
        let width = self.keys.len();
        let mut place_of = vec![None; self.slot_rows.len()];
        for (place, slot) in self.order.iter().enumerate() {
            if let Some(entry) = place_of.get_mut(*slot) {
                *entry = Some(place);
            }
        }
        let free: std::collections::BTreeSet<usize> = self.free.iter().copied().collect();
        let slots: Vec<usize> = (0..self.slot_rows.len()).collect();
        for (number, slots) in (0..).zip(slots.chunks(CHUNK_SLOTS)) {
            let groups: Vec<GroupState> = slots
                .iter()
                .filter(|slot| !free.contains(slot))
                .map(|slot| {
                    let carried = slot * self.carried.len()..(slot + 1) * self.carried.len();
                    let keys = slot * width..(slot + 1) * width;
                    GroupState {
                        slot: *slot,
                        rows: self.slot_rows.get(*slot).copied().unwrap_or(0),
                        order: place_of.get(*slot).copied().flatten(),
                        keys: self.slot_keys.get(keys).unwrap_or_default().to_vec(),
                        carried: self.slot_carried.get(carried).unwrap_or_default().to_vec(),
                        aggregates: self.aggregates.iter().map(|one| one.save(*slot)).collect(),
                    }
                })
                .collect();
            if !groups.is_empty() {
                save.put(Part::Groups, number, &groups)?;
            }
        }
        Ok(())
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.forget_all();
        let mut order: Vec<(usize, usize)> = Vec::new();
        for group in load
            .all::<Vec<GroupState>>(Part::Groups)?
            .into_iter()
            .flatten()
        {
            self.load_group(group, &mut order)?;
        }
        order.sort_unstable();
        self.order = order.into_iter().map(|(_, slot)| slot).collect();
        Ok(())
    }

    /// Puts a group into the slot in which it was; slots passed over are free.
    fn load_group(
        &mut self,
        group: GroupState,
        order: &mut Vec<(usize, usize)>,
    ) -> Result<(), StateError> {
        let widths_fit = group.keys.len() == self.keys.len()
            && group.carried.len() == self.carried.len()
            && group.aggregates.len() == self.aggregates.len();
        if !widths_fit || group.slot < self.slot_rows.len() {
            return Err(StateError::Inconsistent(
                "a group has another form, or its slot is taken",
            ));
        }
        while self.slot_rows.len() < group.slot {
            self.free.push(self.slot_rows.len());
            self.slot_rows.push(0);
            self.slot_keys
                .resize(self.slot_rows.len() * self.keys.len(), Value::Null);
            self.slot_carried
                .resize(self.slot_rows.len() * self.carried.len(), Value::Null);
        }
        // The free list is used from its end; the slot wanted now is the next new one.
        let free = std::mem::take(&mut self.free);
        self.key = group.keys;
        let slot = self.insert();
        self.free = free;
        if let Some(rows) = self.slot_rows.get_mut(slot) {
            *rows = group.rows;
        }
        let places = self.slot_carried.iter_mut().skip(slot * self.carried.len());
        for (place, value) in places.zip(group.carried) {
            *place = value;
        }
        for (aggregate, state) in self.aggregates.iter_mut().zip(&group.aggregates) {
            aggregate.load(slot, state)?;
        }
        if let Some(place) = group.order {
            order.push((place, slot));
        }
        Ok(())
    }
}

fn hash(hasher: &FixedState, key: &[Value]) -> u64 {
    let mut state = hasher.build_hasher();
    for value in key {
        value.hash(&mut state);
    }
    state.finish()
}

/// Groups and what becomes of their rows: the far end of a window.
pub(super) struct Grouped {
    pub(super) groups: Groups,
    pub(super) output: Output,
}

impl Changes for Grouped {
    #[inline]
    fn enter(&mut self, row: Row<'_>) {
        let Grouped { groups, output } = self;
        let env = output.env(row.values, row.stamp, row.stamp);
        let slot = match groups.find(&env) {
            Some(slot) => slot,
            None => groups.insert(),
        };
        for aggregate in &mut groups.aggregates {
            aggregate.add(slot, &env);
        }
        if let Some(rows) = groups.slot_rows.get_mut(slot) {
            *rows += 1;
            if groups.batch && *rows == 1 {
                groups.order.push(slot);
            }
        }
        if groups.batch {
            groups.carry(slot, row.values);
        } else if groups.emit != Emit::Expired {
            groups.make_group_row(slot, Some(row.values));
            output.single(&groups.group_row, row.stamp, row.stamp);
        }
    }

    #[inline]
    fn leave(&mut self, row: Row<'_>, at: Stamp) {
        let Grouped { groups, output } = self;
        let env = output.env(row.values, row.stamp, at);
        let Some(slot) = groups.find(&env) else {
            return;
        };
        for aggregate in &mut groups.aggregates {
            aggregate.remove(slot, &env);
        }
        let rows = groups.slot_rows.get_mut(slot).map_or(0, |rows| {
            *rows = rows.saturating_sub(1);
            *rows
        });
        if groups.emit != Emit::Current {
            groups.make_group_row(slot, Some(row.values));
            output.single(&groups.group_row, row.stamp, at);
        }
        if rows == 0 {
            groups.give_back(slot);
        }
    }

    fn close(&mut self, at: Stamp) {
        let Grouped { groups, output } = self;
        for index in 0..groups.order.len() {
            let Some(slot) = groups.order.get(index).copied() else {
                break;
            };
            groups.make_group_row(slot, None);
            output.gather(&groups.group_row, at, at);
        }
        output.close(at);
        if groups.forever {
            for slot in std::mem::take(&mut groups.order) {
                if let Some(rows) = groups.slot_rows.get_mut(slot) {
                    *rows = 0;
                }
                for aggregate in groups.aggregates.iter_mut().filter(|one| !one.forever()) {
                    aggregate.open(slot);
                }
            }
        } else {
            groups.forget_all();
        }
    }
}
