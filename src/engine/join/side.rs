//! One side of a join: what it holds for the other one.

use std::sync::Arc;

use super::super::expr::{Compiled, Cx, Env, compile};
use super::super::group::NULL;
use super::super::rows::{IndexedRows, Slot};
use super::super::table::{Seek, SharedTable, Table};
use super::{Lookup, Wanted};
use crate::event::{Stamp, Timestamp, Value};
use crate::sql::plan::{Expr, ExprKind};

/// A side of a join.
pub(super) struct Side {
    /// Columns of its row.
    pub(super) width: usize,
    /// Whether its rows look for matches when they come.
    pub(super) triggers: bool,
    /// Whether its rows come out also without a match.
    pub(super) preserved: bool,
    /// What must equal the keys of the other side; over its row.
    pub(super) keys: Vec<Compiled>,
    pub(super) held: Held,
}

/// What the other side finds.
pub(super) enum Held {
    /// Nothing: its rows only trigger, or nobody asks.
    Nothing,
    /// Rows that come and go.
    Rows(HeldRows),
    Table(HeldTable),
    Lookup(HeldLookup),
}

impl Side {
    pub(super) fn rows(&self) -> Option<&HeldRows> {
        match &self.held {
            Held::Rows(held) => Some(held),
            Held::Nothing | Held::Table(_) | Held::Lookup(_) => None,
        }
    }

    pub(super) fn rows_mut(&mut self) -> Option<&mut HeldRows> {
        match &mut self.held {
            Held::Rows(held) => Some(held),
            Held::Nothing | Held::Table(_) | Held::Lookup(_) => None,
        }
    }

    /// The same, holding nothing yet.
    pub(super) fn fresh(&self) -> Side {
        Side {
            width: self.width,
            triggers: self.triggers,
            preserved: self.preserved,
            keys: self.keys.clone(),
            held: match &self.held {
                Held::Nothing => Held::Nothing,
                Held::Rows(held) => Held::Rows(held.fresh()),
                Held::Table(held) => Held::Table(held.clone()),
                Held::Lookup(held) => Held::Lookup(held.clone()),
            },
        }
    }
}

/// How a row is called by who sends it: by a number for a stream's, by the numbers of its two
/// halves for a pair.
pub(super) type Ids = [Option<u64>; 2];

/// Rows that come and go. Behind the columns of a row lie the keys that are not columns, what the
/// row is called, and whether it came out without a match.
pub(super) struct HeldRows {
    pub(super) rows: IndexedRows,
    width: usize,
    computed: Vec<Compiled>,
    called: Called,
    /// The index by the key.
    key: Option<usize>,
}

/// How rows are found by what they are called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Called {
    /// The oldest is always the first to be called.
    InOrder,
    /// By the first name.
    Once,
    /// By either.
    Twice,
}

impl HeldRows {
    /// For rows of `width` columns that are found by `keys`.
    pub(super) fn new(width: usize, keys: &[Compiled], called: Called) -> HeldRows {
        let mut computed = Vec::new();
        let columns = keys.iter().map(|key| {
            key.column().unwrap_or_else(|| {
                computed.push(key.clone());
                width + computed.len() - 1
            })
        });
        let columns: Vec<usize> = columns.collect();
        let first = width + computed.len();
        let mut indexes = match called {
            Called::InOrder => Vec::new(),
            Called::Once => vec![vec![first]],
            Called::Twice => vec![vec![first], vec![first + 1]],
        };
        let key = (!columns.is_empty()).then_some(indexes.len());
        indexes.extend(key.map(|_| columns));
        HeldRows {
            rows: IndexedRows::new(first + 3, indexes, 0),
            width,
            computed,
            called,
            key,
        }
    }

    pub(super) fn fresh(&self) -> HeldRows {
        HeldRows {
            rows: self.rows.fresh(),
            width: self.width,
            computed: self.computed.clone(),
            called: self.called,
            key: self.key,
        }
    }

    /// Puts a row in; `env` is over it.
    pub(super) fn insert(&mut self, number: u64, ids: Ids, stamp: Stamp, env: &Env<'_>) -> Slot {
        let row = env.row.iter().take(self.width).cloned();
        let computed = self.computed.iter().map(|key| key.value(env));
        self.rows
            .insert(number, stamp, row.chain(computed).chain(ids.map(id_value)))
    }

    /// The row's own columns.
    #[inline]
    pub(super) fn row(&self, slot: Slot) -> &[Value] {
        let row = self.rows.row(slot);
        row.get(..self.width).unwrap_or_default()
    }

    /// Appends the rows whose first or second name is `id`, oldest first.
    pub(super) fn called(&self, place: usize, id: u64, found: &mut Vec<Slot>) {
        let id = id_value(Some(id));
        if self.called != Called::InOrder {
            self.rows.find(place, [&id], found);
            return;
        }
        let column = self.width + self.computed.len() + place;
        let first = self.rows.first(0);
        found.extend(first.filter(|slot| self.rows.row(*slot).get(column) == Some(&id)));
    }

    /// Appends the rows with this key, oldest first; all, when there are no keys.
    #[inline]
    pub(super) fn find(&self, key: &[Value], found: &mut Vec<Slot>) {
        match self.key {
            Some(index) => self.rows.find(index, key, found),
            None => found.extend(self.rows.iter()),
        }
    }

    /// Notes that a row came out without a match.
    pub(super) fn note_alone(&mut self, slot: Slot) {
        let column = self.width + self.computed.len() + 2;
        self.rows.set(slot, column, Value::Bool(true));
    }

    pub(super) fn is_alone(&self, slot: Slot) -> bool {
        self.rows.row(slot).last() == Some(&Value::Bool(true))
    }
}

/// As it lies in a row. Numbers do not reach 2^63.
fn id_value(id: Option<u64>) -> Value {
    let id = id.map(|id| i64::try_from(id).unwrap_or(i64::MAX));
    id.map_or(Value::Null, Value::Int)
}

/// A table as it is when the other side's row comes.
#[derive(Clone)]
pub(super) struct HeldTable {
    pub(super) table: SharedTable,
    /// The table's columns that are read.
    keep: Vec<usize>,
    /// How rows are found, by the parts of the key that are columns of the table.
    seek: Option<Seek>,
    /// The places of these parts.
    places: Vec<usize>,
    /// The other parts, over the row, with their places.
    pub(super) rest: Vec<(usize, Compiled)>,
}

impl HeldTable {
    pub(super) fn new(table: SharedTable, keep: &[usize], keys: &[&Expr], cx: Cx<'_>) -> HeldTable {
        let (mut columns, mut places, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for (place, key) in keys.iter().enumerate() {
            match plain(key, keep) {
                Some(column) => {
                    columns.push(column);
                    places.push(place);
                }
                None => rest.push((place, compile(key, cx))),
            }
        }
        let seek = (!columns.is_empty()).then(|| table.lock().seek(&columns));
        HeldTable {
            table,
            keep: keep.to_vec(),
            seek,
            places,
            rest,
        }
    }

    /// Appends the columns of the rows that have the key, row after row, oldest first. Gives how
    /// many there are. `key` gives the parts of the key by their places.
    #[inline]
    pub(super) fn fetch<'k>(
        &self,
        table: &mut Table,
        key: impl Fn(usize) -> &'k Value + Copy,
        now: Timestamp,
        found: &mut Vec<Slot>,
        to: &mut Vec<Value>,
    ) -> usize {
        found.clear();
        self.find(table, key, now, found);
        for slot in found.iter() {
            let row = table.row(*slot);
            for column in &self.keep {
                row.get(*column).unwrap_or(&NULL).copy_to(to);
            }
        }
        found.len()
    }

    /// Appends the rows that have the key, oldest first.
    #[inline]
    pub(super) fn find<'k>(
        &self,
        table: &mut Table,
        key: impl Fn(usize) -> &'k Value + Copy,
        now: Timestamp,
        found: &mut Vec<Slot>,
    ) {
        table.purge(now);
        match &self.seek {
            Some(seek) => {
                let part = |place| self.places.get(place).map_or(&NULL, |place| key(*place));
                table.find(seek, part, found);
            }
            None => table.scan(found),
        }
    }

    /// A column of the side, of a row of the table.
    #[inline]
    pub(super) fn column<'r>(&self, row: &'r [Value], column: usize) -> &'r Value {
        let column = self.keep.get(column);
        column.and_then(|column| row.get(*column)).unwrap_or(&NULL)
    }
}

/// What is looked up elsewhere.
#[derive(Clone)]
pub(super) struct HeldLookup {
    pub(super) lookup: Arc<dyn Lookup>,
    /// From when to when, over the other side's row.
    pub(super) within: [Compiled; 2],
    per: usize,
    keep: Vec<usize>,
    /// The parts of the key that are columns there: which column, and the place of the part.
    columns: Vec<(usize, usize)>,
    /// All parts, over the row.
    pub(super) keys: Vec<Compiled>,
}

impl HeldLookup {
    pub(super) fn new(
        lookup: Arc<dyn Lookup>,
        within: (&Expr, &Expr),
        per: usize,
        keep: &[usize],
        keys: &[&Expr],
        cx: Cx<'_>,
    ) -> HeldLookup {
        let columns = keys.iter().enumerate();
        HeldLookup {
            lookup,
            within: [compile(within.0, cx), compile(within.1, cx)],
            per,
            keep: keep.to_vec(),
            columns: columns
                .filter_map(|(place, key)| Some((plain(key, keep)?, place)))
                .collect(),
            keys: keys.iter().map(|key| compile(key, cx)).collect(),
        }
    }

    /// Appends the columns of the rows that may have the key. `env` is over the other side's row.
    pub(super) fn fetch(&self, key: &[Value], env: &Env<'_>, to: &mut Vec<Value>) -> usize {
        let [from, until] = &self.within;
        let (Value::Int(from), Value::Int(until)) = (from.value(env), until.value(env)) else {
            return 0;
        };
        let parts = self.columns.iter();
        let parts = parts.filter_map(|(column, place)| Some((*column, key.get(*place)?)));
        let parts: Vec<(usize, &Value)> = parts.collect();
        if parts.iter().any(|(_, value)| value.is_null()) {
            return 0;
        }
        let wanted = Wanted {
            from: Timestamp(from),
            until: Timestamp(until),
            per: self.per,
            key: &parts,
            keep: &self.keep,
            now: env.moment.now,
        };
        self.lookup.fetch(&wanted, to)
    }
}

/// The column that an expression over kept columns is, counted among all columns.
fn plain(expr: &Expr, keep: &[usize]) -> Option<usize> {
    match expr.kind {
        ExprKind::Column(column) => keep.get(column).copied(),
        _ => None,
    }
}
