//! Rows of a stream without a window, looked up in a table: the short way.
//!
//! The table is locked once for many rows. Where whoever takes them may ask the same table, what
//! they need of it is copied out, and only then are they given on. Else they are not put together
//! before somebody needs them in one piece.

use super::super::expr::Env;
use super::super::group::NULL;
use super::super::table::Table;
use super::super::window::Changes;
use super::port::Port;
use super::side::{Held, HeldTable};
use super::tree::{Coming, Fetched, Hand, Node, Scratch, Tree};
use crate::event::{Row, Rows, Value};

/// So many rows are looked up together.
const FOUND_ROWS_MAX: usize = 64;

/// When so many values have been copied out, they are given on before more are.
const FETCHED_MAX: usize = 8192;

impl Tree {
    /// Takes the picked rows of a port whose other side is a table.
    pub(super) fn look_up(&mut self, port: &Port, rows: Rows<'_>, to: &mut impl Changes) {
        let Some(node) = self.nodes.get_mut(port.place.node) else {
            return;
        };
        let mut scratch = std::mem::take(&mut node.scratch);
        let mut rest = port.picked.as_slice();
        if self.is_direct(port) && !self.asks {
            self.give_found(port, rows, &mut scratch, to);
            rest = &[];
        }
        while !rest.is_empty() {
            let count = self.fetch(port, rows, rest, &mut scratch);
            let (head, tail) = rest.split_at(count.clamp(1, rest.len()));
            self.give_checked(port, rows, head, &mut scratch, to);
            rest = tail;
        }
        if let Some(node) = self.nodes.get_mut(port.place.node) {
            node.scratch = scratch;
        }
    }

    fn table_of(&self, port: &Port) -> Option<(&Node, &HeldTable)> {
        let node = self.nodes.get(port.place.node)?;
        match &node.sides(port.place.hand).1.held {
            Held::Table(held) => Some((node, held)),
            Held::Nothing | Held::Rows(_) | Held::Lookup(_) => None,
        }
    }

    /// Whether every row that is fetched comes out as it is.
    fn is_direct(&self, port: &Port) -> bool {
        let Some((node, held)) = self.table_of(port) else {
            return false;
        };
        let top = node.parent.is_none() && self.exit.filter.is_none();
        top && node.residual.is_none() && held.rest.is_empty()
    }

    /// Copies out what the first rows need; gives how many rows these are.
    fn fetch(&self, port: &Port, rows: Rows<'_>, picked: &[usize], scratch: &mut Scratch) -> usize {
        let Scratch {
            key,
            found,
            fetched,
            counts,
            ..
        } = scratch;
        fetched.clear();
        counts.clear();
        key.clear();
        let Some((_, held)) = self.table_of(port) else {
            return 0;
        };
        let columns = port.key_columns.as_ref().filter(|_| held.rest.is_empty());
        if columns.is_none() {
            // Before the table is locked, since the expressions may ask it.
            for row in picked.iter().filter_map(|place| rows.row(*place)) {
                let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
                key.extend(port.keys.iter().map(|key| key.value(&env)));
            }
        }
        let width = port.keys.len();
        let mut table = held.table.lock();
        for (number, row) in picked
            .iter()
            .filter_map(|place| rows.row(*place))
            .enumerate()
        {
            let now = row.stamp.time;
            let count = match columns {
                Some(columns) => {
                    let part = |place: usize| {
                        let column = columns.get(place);
                        let value = column.and_then(|column| row.values.get(*column));
                        value.unwrap_or(&NULL)
                    };
                    held.fetch(&mut table, part, now, found, fetched)
                }
                None => {
                    let part = |place| key.get(number * width + place).unwrap_or(&NULL);
                    held.fetch(&mut table, part, now, found, fetched)
                }
            };
            counts.push(count);
            if fetched.len() > FETCHED_MAX {
                break;
            }
        }
        counts.len()
    }

    /// Nobody asks the table while it is locked: what it has of a row is read where it lies. Many
    /// rows are found before the first is read, so that the memory's answers overlap.
    fn give_found(
        &self,
        port: &Port,
        rows: Rows<'_>,
        scratch: &mut Scratch,
        to: &mut impl Changes,
    ) {
        let Some((node, held)) = self.table_of(port) else {
            return;
        };
        let mut table = held.table.lock();
        // What has outlived its time goes when the next row comes.
        let together = if table.forgets() { 1 } else { FOUND_ROWS_MAX };
        let mut rest = port.picked.as_slice();
        while !rest.is_empty() {
            scratch.found.clear();
            scratch.counts.clear();
            for row in rest.iter().filter_map(|place| rows.row(*place)) {
                let before = scratch.found.len();
                self.find_for(port, held, &mut table, row, scratch);
                scratch.counts.push(scratch.found.len() - before);
                if scratch.counts.len() == together || scratch.found.len() > FETCHED_MAX {
                    break;
                }
            }
            let (picked, tail) = rest.split_at(scratch.counts.len().clamp(1, rest.len()));
            rest = tail;
            let picked = picked.iter().filter_map(|place| rows.row(*place));
            Self::give_all((port, node, held), &table, picked, scratch, to);
        }
    }

    /// Appends what the table has for a row.
    fn find_for(
        &self,
        port: &Port,
        held: &HeldTable,
        table: &mut Table,
        row: Row<'_>,
        scratch: &mut Scratch,
    ) {
        let Row { stamp, values } = row;
        let Scratch { key, found, .. } = scratch;
        if let Some([column]) = port.key_columns.as_deref() {
            let only = values.get(*column).unwrap_or(&NULL);
            held.find(table, |_| only, stamp.time, found);
            return;
        }
        if let Some(columns) = &port.key_columns {
            let part = |place: usize| {
                let column = columns.get(place);
                let value = column.and_then(|column| values.get(*column));
                value.unwrap_or(&NULL)
            };
            held.find(table, part, stamp.time, found);
            return;
        }
        let env = Env::new(values, stamp, stamp, &self.faults);
        key.clear();
        key.extend(port.keys.iter().map(|key| key.value(&env)));
        let part = |place| key.get(place).unwrap_or(&NULL);
        held.find(table, part, stamp.time, found);
    }

    fn give_all<'a>(
        (port, node, held): (&Port, &Node, &HeldTable),
        table: &Table,
        rows: impl Iterator<Item = Row<'a>>,
        scratch: &mut Scratch,
        to: &mut impl Changes,
    ) {
        let Scratch {
            found,
            counts,
            joined,
            ..
        } = scratch;
        let (own, other) = node.sides(port.place.hand);
        // Where the own columns begin, and how many stand before those of the table.
        let (first, before) = match port.place.hand {
            Hand::Left => (0, own.width),
            Hand::Right => (other.width, 0),
        };
        let width = own.width + other.width;
        let mut found = found.iter();
        for (Row { stamp, values }, count) in rows.zip(counts.iter()) {
            let mut give = |there: Option<&[Value]>| {
                let cell = |column: usize, to: &mut Vec<Value>| {
                    let kept = column.checked_sub(first);
                    let kept = kept.and_then(|place| port.keep().get(place));
                    let value = match (kept, there) {
                        (Some(kept), _) => values.get(*kept).unwrap_or(&NULL),
                        (None, Some(there)) => held.column(there, column - before),
                        (None, None) => &NULL,
                    };
                    value.copy_to(to);
                };
                to.enter_of(joined, width, cell, stamp);
            };
            for slot in found.by_ref().take(*count) {
                give(Some(table.row(*slot)));
            }
            if *count == 0 && own.preserved {
                give(None);
            }
            to.together(stamp);
        }
    }

    fn give_checked(
        &mut self,
        port: &Port,
        rows: Rows<'_>,
        picked: &[usize],
        scratch: &mut Scratch,
        to: &mut impl Changes,
    ) {
        let Scratch {
            key,
            fetched,
            counts,
            joined,
            own,
            ..
        } = scratch;
        let width = self.table_of(port).map_or(0, |(node, _)| {
            let (_, other) = node.sides(port.place.hand);
            other.width
        });
        let (mut key, mut fetched) = (key.as_slice(), fetched.as_slice());
        for (place, count) in picked.iter().zip(counts.iter()) {
            let Some(Row { stamp, values }) = rows.row(*place) else {
                continue;
            };
            own.clear();
            for column in port.keep() {
                values.get(*column).unwrap_or(&NULL).copy_to(own);
            }
            let (own_key, other_keys) = key.split_at(port.keys.len().min(key.len()));
            let (own_rows, other_rows) = fetched.split_at((count * width).min(fetched.len()));
            (key, fetched) = (other_keys, other_rows);
            let row = Coming {
                slot: None,
                values: own,
                number: self.next_number(),
                stamp,
            };
            let found = Fetched {
                key: own_key,
                rows: own_rows,
                count: *count,
            };
            if !self.meet_all(port.place, row, found, joined, to) {
                self.stay_alone(port.place, row, joined, to);
            }
            to.together(stamp);
        }
    }
}
