//! The joins of a query, one inside the other: rows come to a side, find their matches on the
//! other, and the pairs go up.
//!
//! A pair lives from its match until the first of its two rows leaves. At the top nobody keeps
//! pairs as long as they can be found again: a pair of two rows was made if the condition holds
//! and the row that came later was one that looks for matches. Rows are told older from younger by
//! numbers, which are given as rows come to a side.

use std::cell::Cell;

use super::super::expr::{Env, Operand};
use super::super::rows::Slot;
use super::super::state::{Load, Part, Save, StateError};
use super::super::window::Changes;
use super::side::{Held, HeldRows, Ids, Side};
use crate::event::{Row, Stamp, Value};

/// Where a row comes to: which join, and which side of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: usize,
    pub(super) hand: Hand,
}

/// Left or right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    Left,
    Right,
}

/// A join of two sides.
pub(super) struct Node {
    pub(super) left: Side,
    pub(super) right: Side,
    pub(super) residual: Option<Operand<bool>>,
    /// Where its pairs go; none: they come out.
    pub(super) parent: Option<Place>,
    pub(super) scratch: Scratch,
}

/// What is used anew for each row.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) key: Vec<Value>,
    pub(super) found: Vec<Slot>,
    pub(super) fetched: Vec<Value>,
    pub(super) joined: Vec<Value>,
    pub(super) own: Vec<Value>,
    pub(super) counts: Vec<usize>,
}

impl Node {
    pub(super) fn side(&self, hand: Hand) -> &Side {
        match hand {
            Hand::Left => &self.left,
            Hand::Right => &self.right,
        }
    }

    fn side_mut(&mut self, hand: Hand) -> &mut Side {
        match hand {
            Hand::Left => &mut self.left,
            Hand::Right => &mut self.right,
        }
    }

    /// This side and the other one.
    pub(super) fn sides(&self, hand: Hand) -> (&Side, &Side) {
        match hand {
            Hand::Left => (&self.left, &self.right),
            Hand::Right => (&self.right, &self.left),
        }
    }

    /// Whether a row of the one side and one of the other, put together, match.
    fn accepts(&self, joined: &[Value], stamp: Stamp, faults: &Cell<u64>) -> bool {
        let env = Env::new(joined, stamp, stamp, faults);
        let residual = self.residual.as_ref();
        residual.is_none_or(|residual| residual.get(&env) == Some(true))
    }
}

/// Makes a joined row of the row of a side and that of the other; none: NULLs.
fn put_together(joined: &mut Vec<Value>, node: &Node, hand: Hand, row: &[Value], other: &[Value]) {
    let (left, right) = match hand {
        Hand::Left => (row, other),
        Hand::Right => (other, row),
    };
    joined.clear();
    joined.extend_from_slice(left);
    joined.resize(node.left.width, Value::Null);
    joined.extend_from_slice(right);
    joined.resize(node.left.width + node.right.width, Value::Null);
}

/// A row that has come to a side.
#[derive(Clone, Copy)]
pub(super) struct Coming<'a> {
    /// Where the side holds it, if it does.
    pub(super) slot: Option<Slot>,
    /// The row itself.
    pub(super) values: &'a [Value],
    pub(super) number: u64,
    pub(super) stamp: Stamp,
}

/// All joins of a query. A join stands behind those inside it; the last one gives its rows out.
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) exit: Exit,
    /// Whether an expression of whoever takes the joined rows may ask a table.
    pub(super) asks: bool,
    /// The last number given.
    pub(super) number: u64,
    pub(super) faults: Cell<u64>,
}

/// Where joined rows come out.
pub(super) struct Exit {
    pub(super) filter: Option<Operand<bool>>,
    /// Whether anybody sees rows leave.
    pub(super) seen: bool,
    /// The pairs that came out, when they could not be found again.
    pub(super) pairs: Option<HeldRows>,
}

impl Exit {
    /// The same, with nothing in it.
    pub(super) fn fresh(&self) -> Exit {
        Exit {
            filter: self.filter.clone(),
            seen: self.seen,
            pairs: self.pairs.as_ref().map(HeldRows::fresh),
        }
    }

    fn passes(&self, joined: &[Value], stamp: Stamp, faults: &Cell<u64>) -> bool {
        let env = Env::new(joined, stamp, stamp, faults);
        let filter = self.filter.as_ref();
        filter.is_none_or(|filter| filter.get(&env) == Some(true))
    }
}

impl Tree {
    /// A number that is higher than those before.
    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    pub(super) fn side(&self, place: Place) -> Option<&Side> {
        Some(self.nodes.get(place.node)?.side(place.hand))
    }

    fn rows_mut(&mut self, place: Place) -> Option<&mut HeldRows> {
        self.nodes
            .get_mut(place.node)?
            .side_mut(place.hand)
            .rows_mut()
    }

    /// Puts a row into a side, if that holds rows.
    pub(super) fn insert(
        &mut self,
        place: Place,
        row: Row<'_>,
        number: u64,
        ids: Ids,
    ) -> Option<Slot> {
        let side = self.nodes.get_mut(place.node)?.side_mut(place.hand);
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        Some(side.rows_mut()?.insert(number, ids, row.stamp, &env))
    }

    /// A row looks for its matches on the other side: those that came before it.
    pub(super) fn trigger(&mut self, place: Place, row: Coming<'_>, to: &mut impl Changes) {
        let Some(node) = self.nodes.get_mut(place.node) else {
            return;
        };
        let mut scratch = std::mem::take(&mut node.scratch);
        let matched = match node.sides(place.hand).1.held {
            Held::Nothing => false,
            Held::Rows(_) => self.meet_rows(place, row, &mut scratch, to),
            Held::Table(_) | Held::Lookup(_) => self.meet_fetched(place, row, &mut scratch, to),
        };
        if !matched {
            self.stay_alone(place, row, &mut scratch.joined, to);
        }
        if let Some(node) = self.nodes.get_mut(place.node) {
            node.scratch = scratch;
        }
    }

    /// Meets the rows that the other side holds. Gives whether there is one that matches.
    fn meet_rows(
        &mut self,
        place: Place,
        row: Coming<'_>,
        scratch: &mut Scratch,
        to: &mut impl Changes,
    ) -> bool {
        let Scratch {
            key, found, joined, ..
        } = scratch;
        self.find_rows(place, row.values, row.stamp, key, found);
        let mut matched = false;
        for slot in found.iter().copied() {
            let Some(node) = self.nodes.get(place.node) else {
                break;
            };
            let Some(other) = node.sides(place.hand).1.rows() else {
                break;
            };
            put_together(joined, node, place.hand, row.values, other.row(slot));
            if !node.accepts(joined, row.stamp, &self.faults) {
                continue;
            }
            matched = true;
            let number = other.rows.number(slot);
            // A younger one finds this row itself, or has done so, if this row is there to find.
            if number < row.number || row.slot.is_none() {
                let ids = row.slot.map_or([None; 2], |_| {
                    in_order(place.hand, Some(row.number), Some(number))
                });
                self.up(place.node, joined, ids, row.stamp, to);
            }
        }
        matched
    }

    /// The rows of the other side that have the key of this one.
    fn find_rows(
        &self,
        place: Place,
        row: &[Value],
        stamp: Stamp,
        key: &mut Vec<Value>,
        found: &mut Vec<Slot>,
    ) {
        found.clear();
        let Some(node) = self.nodes.get(place.node) else {
            return;
        };
        let (own, other) = node.sides(place.hand);
        let env = Env::new(row, stamp, stamp, &self.faults);
        key.clear();
        key.extend(own.keys.iter().map(|key| key.value(&env)));
        if let Some(other) = other.rows() {
            other.find(key, found);
        }
    }

    /// Meets what a table or something else has now. Gives whether there is a row that matches.
    fn meet_fetched(
        &mut self,
        place: Place,
        row: Coming<'_>,
        scratch: &mut Scratch,
        to: &mut impl Changes,
    ) -> bool {
        let Scratch {
            key,
            found,
            fetched,
            joined,
            ..
        } = scratch;
        let Some(node) = self.nodes.get(place.node) else {
            return false;
        };
        let (own, other) = node.sides(place.hand);
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        key.clear();
        key.extend(own.keys.iter().map(|key| key.value(&env)));
        fetched.clear();
        let count = match &other.held {
            Held::Table(held) => {
                let part = |place| part_of(key, place);
                let now = row.stamp.time;
                held.fetch(&mut held.table.lock(), part, now, found, fetched)
            }
            Held::Lookup(held) => held.fetch(key, &env, fetched),
            Held::Nothing | Held::Rows(_) => 0,
        };
        self.meet_all(
            place,
            row,
            Fetched {
                key,
                rows: fetched,
                count,
            },
            joined,
            to,
        )
    }

    /// Meets rows that have been fetched. Gives whether there is one that matches.
    pub(super) fn meet_all(
        &mut self,
        place: Place,
        row: Coming<'_>,
        fetched: Fetched<'_>,
        joined: &mut Vec<Value>,
        to: &mut impl Changes,
    ) -> bool {
        let mut matched = false;
        for number in 0..fetched.count {
            let Some(node) = self.nodes.get(place.node) else {
                break;
            };
            let other = node.sides(place.hand).1;
            let start = number * other.width;
            let values = fetched.rows.get(start..start + other.width);
            let values = values.unwrap_or_default();
            put_together(joined, node, place.hand, row.values, values);
            let env = Env::new(values, row.stamp, row.stamp, &self.faults);
            let same = match &other.held {
                Held::Table(held) => {
                    let mut rest = held.rest.iter();
                    rest.all(|(place, key)| {
                        is_equal(&key.value(&env), part_of(fetched.key, *place))
                    })
                }
                Held::Lookup(held) => {
                    let mut keys = held.keys.iter().enumerate();
                    keys.all(|(place, key)| is_equal(&key.value(&env), part_of(fetched.key, place)))
                }
                Held::Nothing | Held::Rows(_) => true,
            };
            if !same || !node.accepts(joined, row.stamp, &self.faults) {
                continue;
            }
            matched = true;
            let own = row.slot.map(|_| row.number);
            let ids = in_order(place.hand, own, None);
            self.up(place.node, joined, ids, row.stamp, to);
        }
        matched
    }

    /// A row without a match comes out with NULLs, if its side is preserved.
    pub(super) fn stay_alone(
        &mut self,
        place: Place,
        row: Coming<'_>,
        joined: &mut Vec<Value>,
        to: &mut impl Changes,
    ) {
        let Some(node) = self.nodes.get_mut(place.node) else {
            return;
        };
        let side = node.side_mut(place.hand);
        if !side.preserved {
            return;
        }
        if let (Some(held), Some(slot)) = (side.rows_mut(), row.slot) {
            held.note_alone(slot);
        }
        put_together(joined, node, place.hand, row.values, &[]);
        let ids = in_order(place.hand, row.slot.map(|_| row.number), None);
        self.up(place.node, joined, ids, row.stamp, to);
    }

    /// A joined row goes on to the join around this one, or comes out.
    pub(super) fn up(
        &mut self,
        node: usize,
        joined: &[Value],
        ids: Ids,
        stamp: Stamp,
        to: &mut impl Changes,
    ) {
        let row = Row {
            stamp,
            values: joined,
        };
        let Some(parent) = self.nodes.get(node).and_then(|node| node.parent) else {
            self.give(row, ids, to);
            return;
        };
        let number = self.next_number();
        let slot = self.insert(parent, row, number, ids);
        if self.side(parent).is_some_and(|side| side.triggers) {
            let coming = Coming {
                slot,
                values: joined,
                number,
                stamp,
            };
            self.trigger(parent, coming, to);
        }
    }

    fn give(&mut self, row: Row<'_>, ids: Ids, to: &mut impl Changes) {
        if !self.exit.passes(row.values, row.stamp, &self.faults) {
            return;
        }
        to.enter(row);
        if self.exit.pairs.is_some() && ids != [None; 2] {
            let number = self.next_number();
            let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
            if let Some(pairs) = &mut self.exit.pairs {
                pairs.insert(number, ids, row.stamp, &env);
            }
        }
    }

    /// The row that a stream's window calls `id` leaves its side.
    pub(super) fn leave_called(&mut self, place: Place, id: u64, at: Stamp, to: &mut impl Changes) {
        let mut found = Vec::new();
        if let Some(held) = self.side(place).and_then(Side::rows) {
            held.called(0, id, &mut found);
        }
        for slot in found {
            self.leave(place, slot, at, to);
        }
    }

    /// Every row leaves its side, oldest first.
    pub(super) fn leave_all(&mut self, place: Place, at: Stamp, to: &mut impl Changes) {
        let held = self.side(place).and_then(Side::rows);
        let slots: Vec<Slot> = held.map_or(Vec::new(), |held| held.rows.iter().collect());
        for slot in slots {
            self.leave(place, slot, at, to);
        }
    }

    /// A row leaves its side, and with it its pairs.
    fn leave(&mut self, place: Place, slot: Slot, at: Stamp, to: &mut impl Changes) {
        let Some(node) = self.nodes.get(place.node) else {
            return;
        };
        let Some(held) = node.side(place.hand).rows() else {
            return;
        };
        let number = held.rows.number(slot);
        let which = match place.hand {
            Hand::Left => 0,
            Hand::Right => 1,
        };
        if let Some(parent) = node.parent {
            let mut found = Vec::new();
            if let Some(held) = self.side(parent).and_then(Side::rows) {
                held.called(which, number, &mut found);
            }
            for pair in found {
                self.leave(parent, pair, at, to);
            }
        } else if let Some(pairs) = &mut self.exit.pairs {
            let mut found = Vec::new();
            pairs.called(which, number, &mut found);
            for pair in found {
                let row = Row {
                    stamp: pairs.rows.stamp(pair),
                    values: pairs.row(pair),
                };
                to.leave(row, at);
                pairs.rows.remove(pair);
            }
        } else if self.exit.seen {
            self.leave_found_again(place, slot, at, to);
        }
        if let Some(held) = self.rows_mut(place) {
            held.rows.remove(slot);
        }
    }

    /// The pairs of a row leave, which are found as they were found when they were made.
    fn leave_found_again(&mut self, place: Place, slot: Slot, at: Stamp, to: &mut impl Changes) {
        let Some(node) = self.nodes.get_mut(place.node) else {
            return;
        };
        let mut scratch = std::mem::take(&mut node.scratch);
        let Scratch {
            key, found, joined, ..
        } = &mut scratch;
        let Some(node) = self.nodes.get(place.node) else {
            return;
        };
        let (own, other) = node.sides(place.hand);
        let Some(held) = own.rows() else {
            return;
        };
        let (number, stamp) = (held.rows.number(slot), held.rows.stamp(slot));
        let mut leave = |joined: &[Value], stamp: Stamp| {
            if self.exit.passes(joined, stamp, &self.faults) {
                let values = joined;
                to.leave(Row { stamp, values }, at);
            }
        };
        if held.is_alone(slot) {
            put_together(joined, node, place.hand, held.row(slot), &[]);
            leave(joined, stamp);
        }
        self.find_rows(place, held.row(slot), stamp, key, found);
        for slot_there in found.iter().copied() {
            let Some(there) = other.rows() else { break };
            let mine_is_younger = there.rows.number(slot_there) < number;
            let (younger, stamp) = if mine_is_younger {
                (own, stamp)
            } else {
                (other, there.rows.stamp(slot_there))
            };
            if !younger.triggers {
                continue;
            }
            put_together(
                joined,
                node,
                place.hand,
                held.row(slot),
                there.row(slot_there),
            );
            if node.accepts(joined, stamp, &self.faults) {
                leave(joined, stamp);
            }
        }
        if let Some(node) = self.nodes.get_mut(place.node) {
            node.scratch = scratch;
        }
    }

    /// Gives back the memory of rows that have left.
    pub(super) fn tidy(&mut self) {
        for held in self.held_mut() {
            held.rows.tidy();
        }
    }

    fn held_mut(&mut self) -> impl Iterator<Item = &mut HeldRows> {
        let sides = self.nodes.iter_mut();
        let sides = sides.flat_map(|node| [node.left.rows_mut(), node.right.rows_mut()]);
        sides.flatten().chain(&mut self.exit.pairs)
    }

    /// Saves what is held, each as one of several from `first` on.
    pub(super) fn save(&mut self, first: u16, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        save.put(Part::Holder, 0, &self.number)?;
        for (which, held) in (first..).zip(self.held_mut()) {
            save.one_of(which, |save| held.rows.save(save))?;
        }
        Ok(())
    }

    pub(super) fn load(&mut self, first: u16, load: &Load<'_>) -> Result<(), StateError> {
        self.number = load.one(Part::Holder)?.unwrap_or(0);
        for (which, held) in (first..).zip(self.held_mut()) {
            held.rows.load(&load.one_of(which))?;
        }
        Ok(())
    }
}

/// Rows that have been fetched for a key.
#[derive(Clone, Copy)]
pub(super) struct Fetched<'a> {
    pub(super) key: &'a [Value],
    /// Row after row.
    pub(super) rows: &'a [Value],
    pub(super) count: usize,
}

fn in_order(hand: Hand, own: Option<u64>, other: Option<u64>) -> Ids {
    match hand {
        Hand::Left => [own, other],
        Hand::Right => [other, own],
    }
}

fn part_of(key: &[Value], place: usize) -> &Value {
    key.get(place).unwrap_or(&super::super::group::NULL)
}

/// Equality as `=` sees it.
fn is_equal(a: &Value, b: &Value) -> bool {
    !a.is_null() && a == b
}
