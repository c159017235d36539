//! Values in an order: by size, with counts, and by the entry of their rows. From both a row can
//! leave whenever it likes, in O(log n).

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::state::StateError;
use super::extreme::Wanted;
use super::over::{Entered, Tally};
use super::{BAD_STATE, Saved, int_at};
use crate::event::Value;

/// A value of one column, ordered by size.
#[derive(Clone, Debug)]
pub(super) struct Key(pub(super) Value);

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.0.order(&other.0)
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

/// Values by size, each with its count.
#[derive(Default)]
pub(super) struct Sizes {
    counts: BTreeMap<Key, i64>,
}

impl Sizes {
    pub(super) fn add(&mut self, value: Value) {
        *self.counts.entry(Key(value)).or_insert(0) += 1;
    }

    pub(super) fn remove(&mut self, value: Value) {
        let key = Key(value);
        if let Some(count) = self.counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key);
            }
        }
    }

    /// The different values, ascending.
    pub(super) fn values(&self) -> impl DoubleEndedIterator<Item = &Value> {
        self.counts.keys().map(|key| &key.0)
    }

    /// Values and counts by turns.
    pub(super) fn save(&self) -> Saved<'_> {
        let pairs = self.counts.iter();
        Box::new(pairs.flat_map(|(key, count)| [key.0.clone(), Value::Int(*count)]))
    }

    pub(super) fn load(state: &[Value]) -> Result<Sizes, StateError> {
        let mut counts = BTreeMap::new();
        for pair in state.chunks(2) {
            let value = pair.first().ok_or(BAD_STATE)?.clone();
            counts.insert(Key(value), int_at(pair, 1)?);
        }
        Ok(Sizes { counts })
    }
}

/// `min` and `max` where rows leave in any order.
#[derive(Default)]
pub(super) struct Extreme {
    sizes: Sizes,
}

impl Tally for Extreme {
    type Item = Value;
    type Settings = Wanted;

    fn add(&mut self, value: Value, _: &Wanted) {
        self.sizes.add(value);
    }

    fn remove(&mut self, value: Value, _: &Wanted) {
        self.sizes.remove(value);
    }

    fn result(&self, wanted: &Wanted) -> Value {
        let mut values = self.sizes.values();
        let value = match wanted {
            Wanted::Min | Wanted::First => values.next(),
            Wanted::Max | Wanted::Last => values.next_back(),
        };
        value.cloned().unwrap_or_default()
    }

    fn save(&self) -> Saved<'_> {
        self.sizes.save()
    }

    fn load(state: &[Value]) -> Result<Extreme, StateError> {
        let sizes = Sizes::load(state)?;
        Ok(Extreme { sizes })
    }
}

/// Values in the order in which their rows came.
pub(super) trait Lined: Default + Send + 'static {
    fn push(&mut self, entered: Entered);
    /// Takes a row's value out: of several rows that came with one input and are equal in all
    /// columns the oldest, which nobody can tell from the others.
    fn take(&mut self, entered: &Entered);
    fn values(&self) -> Box<dyn DoubleEndedIterator<Item = &Value> + '_>;
    fn save(&self) -> Saved<'_>;
    fn load(state: &[Value]) -> Result<Self, StateError>;
}

/// Rows leave in the order in which they came, or never.
impl Lined for VecDeque<Value> {
    fn push(&mut self, entered: Entered) {
        self.push_back(entered.value);
    }

    fn take(&mut self, _: &Entered) {
        self.pop_front();
    }

    fn values(&self) -> Box<dyn DoubleEndedIterator<Item = &Value> + '_> {
        Box::new(self.iter())
    }

    fn save(&self) -> Saved<'_> {
        Box::new(self.iter().cloned())
    }

    fn load(state: &[Value]) -> Result<VecDeque<Value>, StateError> {
        Ok(state.iter().cloned().collect())
    }
}

/// Rows leave in any order: values by entry, and the entries by what a row is known by, its input
/// and its hash.
#[derive(Default)]
pub(super) struct Entries {
    next: u64,
    by_entry: BTreeMap<u64, Entered>,
    by_row: BTreeSet<(u64, u64, u64)>,
}

impl Lined for Entries {
    fn push(&mut self, entered: Entered) {
        let entry = self.next;
        self.next += 1;
        self.by_row.insert((entered.seq, entered.row, entry));
        self.by_entry.insert(entry, entered);
    }

    fn take(&mut self, entered: &Entered) {
        let known = |entry| (entered.seq, entered.row, entry);
        let row = self.by_row.range(known(0)..=known(u64::MAX)).next();
        if let Some(row) = row.copied() {
            self.by_row.remove(&row);
            self.by_entry.remove(&row.2);
        }
    }

    fn values(&self) -> Box<dyn DoubleEndedIterator<Item = &Value> + '_> {
        Box::new(self.by_entry.values().map(|entered| &entered.value))
    }

    /// Inputs, hashes and values by turns; entries are counted anew.
    fn save(&self) -> Saved<'_> {
        let int = |word: u64| Value::Int(i64::from_le_bytes(word.to_le_bytes()));
        let rows = self.by_entry.values();
        Box::new(rows.flat_map(move |row| [int(row.seq), int(row.row), row.value.clone()]))
    }

    fn load(state: &[Value]) -> Result<Entries, StateError> {
        let mut entries = Entries::default();
        for row in state.chunks(3) {
            let word =
                |place| int_at(row, place).map(|word| u64::from_le_bytes(word.to_le_bytes()));
            entries.push(Entered {
                seq: word(0)?,
                row: word(1)?,
                value: row.get(2).ok_or(BAD_STATE)?.clone(),
            });
        }
        Ok(entries)
    }
}

/// `first` and `last` where rows leave in any order.
#[derive(Default)]
pub(super) struct Border {
    entries: Entries,
}

impl Tally for Border {
    type Item = Entered;
    type Settings = Wanted;

    fn add(&mut self, entered: Entered, _: &Wanted) {
        self.entries.push(entered);
    }

    fn remove(&mut self, entered: Entered, _: &Wanted) {
        self.entries.take(&entered);
    }

    fn result(&self, wanted: &Wanted) -> Value {
        let rows = &self.entries.by_entry;
        let row = match wanted {
            Wanted::First | Wanted::Min => rows.first_key_value(),
            Wanted::Last | Wanted::Max => rows.last_key_value(),
        };
        row.map_or(Value::Null, |(_, entered)| entered.value.clone())
    }

    fn save(&self) -> Saved<'_> {
        self.entries.save()
    }

    fn load(state: &[Value]) -> Result<Border, StateError> {
        let entries = Entries::load(state)?;
        Ok(Border { entries })
    }
}
