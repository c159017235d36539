//! Rows by their key: a hash table of lists, one for each key.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::Slot;
use super::chain::{self, Ends, Link, NONE};
use crate::event::Value;

/// Finds the rows that have given values in some columns. A row with NULL among them is not in it,
/// since NULL is equal to nothing, unless NULLs are alike.
pub(super) struct Index {
    pub(super) columns: Vec<usize>,
    /// Whether NULL is a value like others.
    pub(super) nulls_alike: bool,
    runs: HashTable<Run>,
    links: Vec<Link>,
}

/// The rows of one key.
#[derive(Clone, Copy)]
struct Run {
    ends: Ends,
    /// Whether they stand in the order of their numbers. A row that got the key later than when it
    /// came does not.
    ordered: bool,
}

/// The values of all rows, row after row by slot.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a> {
    pub(super) width: usize,
    pub(super) values: &'a [Value],
}

impl<'a> Cells<'a> {
    #[inline]
    fn key(self, slot: Slot, columns: &'a [usize]) -> impl Iterator<Item = &'a Value> + Clone {
        let start = slot as usize * self.width;
        columns
            .iter()
            .filter_map(move |column| self.values.get(start + column))
    }
}

impl Index {
    pub(super) fn new(columns: Vec<usize>) -> Index {
        Index {
            columns,
            nulls_alike: false,
            runs: HashTable::new(),
            links: Vec::new(),
        }
    }

    /// Makes room for as many rows, of keys of which nothing is known.
    pub(super) fn reserve(&mut self, rows: usize, hasher: &FixedState, cells: Cells<'_>) {
        let Index { columns, runs, .. } = self;
        runs.reserve(rows, |run| hash(hasher, cells.key(run.ends.first, columns)));
        self.links.reserve(rows);
    }

    /// Gives back what was too much of that.
    pub(super) fn fit(&mut self, hasher: &FixedState, cells: Cells<'_>) {
        let Index { columns, runs, .. } = self;
        if runs.capacity() > 4 * runs.len() {
            runs.shrink_to_fit(|run| hash(hasher, cells.key(run.ends.first, columns)));
        }
    }

    /// Puts a row in, behind those of the same key. `numbers` are those of rows by slot.
    #[inline]
    pub(super) fn add(
        &mut self,
        slot: Slot,
        cells: Cells<'_>,
        hasher: &FixedState,
        numbers: impl Fn(Slot) -> u64,
    ) {
        let Index {
            columns,
            nulls_alike,
            runs,
            links,
        } = self;
        let key = cells.key(slot, columns);
        if !*nulls_alike && key.clone().any(Value::is_null) {
            return;
        }
        let hash = hash(hasher, key.clone());
        let same = |run: &Run| are_alike(cells.key(run.ends.first, columns), key.clone());
        if let Some(run) = runs.find_mut(hash, same) {
            run.ordered &= numbers(run.ends.last) < numbers(slot);
            run.ends.attach(links, slot);
            return;
        }
        let mut ends = Ends::EMPTY;
        ends.attach(links, slot);
        let run = Run {
            ends,
            ordered: true,
        };
        runs.insert_unique(hash, run, |run| {
            self::hash(hasher, cells.key(run.ends.first, columns))
        });
    }

    /// Takes a row out, whose cells are still those with which it was put in.
    pub(super) fn remove(&mut self, slot: Slot, cells: Cells<'_>, hasher: &FixedState) {
        let Index {
            columns,
            nulls_alike,
            runs,
            links,
        } = self;
        let key = cells.key(slot, columns);
        if !*nulls_alike && key.clone().any(Value::is_null) {
            return;
        }
        if chain::is_inside(links, slot) {
            let mut ends = Ends::EMPTY;
            ends.detach(links, slot);
            return;
        }
        let same = |run: &Run| are_alike(cells.key(run.ends.first, columns), key.clone());
        let Ok(mut entry) = runs.find_entry(hash(hasher, key.clone()), same) else {
            return;
        };
        let run = entry.get_mut();
        run.ends.detach(links, slot);
        run.ordered |= run.ends.first == run.ends.last;
        if run.ends.first == NONE {
            entry.remove();
        }
    }

    #[inline]
    fn run<'k>(
        &self,
        key: impl Iterator<Item = &'k Value> + Clone,
        cells: Cells<'_>,
        hasher: &FixedState,
    ) -> Option<Run> {
        if !self.nulls_alike && key.clone().any(Value::is_null) {
            return None;
        }
        let same = |run: &Run| are_alike(cells.key(run.ends.first, &self.columns), key.clone());
        self.runs.find(hash(hasher, key.clone()), same).copied()
    }

    /// Appends the rows with this key, by number.
    #[inline]
    pub(super) fn find<'k>(
        &self,
        key: impl Iterator<Item = &'k Value> + Clone,
        cells: Cells<'_>,
        hasher: &FixedState,
        numbers: impl Fn(Slot) -> u64,
        found: &mut Vec<Slot>,
    ) {
        let Some(run) = self.run(key, cells, hasher) else {
            return;
        };
        let before = found.len();
        let mut slot = run.ends.first;
        while slot != NONE {
            found.push(slot);
            slot = chain::behind(&self.links, slot);
        }
        if !run.ordered {
            let found = found.get_mut(before..).unwrap_or_default();
            found.sort_unstable_by_key(|slot| numbers(*slot));
        }
    }

    /// Some row with this key.
    #[inline]
    pub(super) fn any<'k>(
        &self,
        key: impl Iterator<Item = &'k Value> + Clone,
        cells: Cells<'_>,
        hasher: &FixedState,
    ) -> Option<Slot> {
        Some(self.run(key, cells, hasher)?.ends.first)
    }
}

/// Whether two keys of one index are the same.
#[inline]
fn are_alike<'a, 'b>(
    a: impl Iterator<Item = &'a Value>,
    mut b: impl Iterator<Item = &'b Value>,
) -> bool {
    for a in a {
        let same = match (a, b.next()) {
            // The most common, without a call.
            (Value::Str(a), Some(Value::Str(b))) => a.as_bytes() == b.as_bytes(),
            (Value::Int(a), Some(Value::Int(b))) => a == b,
            (a, Some(b)) => a == b,
            (_, None) => false,
        };
        if !same {
            return false;
        }
    }
    true
}

#[inline]
fn hash<'a>(hasher: &FixedState, key: impl Iterator<Item = &'a Value>) -> u64 {
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
