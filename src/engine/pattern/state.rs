//! What a pattern knows, and how rows and time change it.

use std::cell::Cell;

use super::super::expr::Env;
use super::Found;
use super::automaton::{bit, bits};
use super::code::{Code, Scoping, foremost};
use super::partials::{NONE, Order, Partials, Slot};
use super::scopes::Scopes;
use super::timers::Timers;
use super::waiting::Waiting;
use crate::event::{Row, Stamp, Value};

/// All partial matches of one instance of a query.
pub(super) struct State {
    /// Counts the rows and deadlines that mattered.
    pub(super) moment: u64,
    pub(super) partials: Partials,
    pub(super) waiting: Waiting,
    pub(super) scopes: Scopes,
    pub(super) timers: Timers,
    /// Whether an absence at the start has begun to wait.
    pub(super) started: bool,
    /// Matches that have been found and not been taken yet.
    pub(super) found: Found,
    /// Partial matches that were dropped since there were too many.
    pub(super) dropped: u64,
    pub(super) faults: Cell<u64>,
    pub(super) scratch: Scratch,
}

/// Memory that is used again.
#[derive(Default)]
pub(super) struct Scratch {
    hits: Vec<Hit>,
    pub(super) row: Vec<Value>,
    pub(super) key: Vec<Value>,
    /// Partial matches that take the row at hand.
    pub(super) slots: Vec<Slot>,
    pub(super) due: Vec<(Slot, usize)>,
    /// Scopes that may have nothing to remember any more.
    pub(super) idle: Vec<Slot>,
    /// What waits to begin since another one ended by the row at hand, without taking it.
    pub(super) fresh: Vec<Slot>,
}

/// A partial match and the elements that a row fits.
#[derive(Clone, Copy)]
struct Hit {
    slot: Slot,
    generation: u32,
    mask: u64,
}

impl State {
    pub(super) fn new(code: &Code) -> State {
        let elements = code.elements.len();
        State {
            moment: 0,
            partials: Partials::new(code.registers.width(), code.trail.clone()),
            waiting: Waiting::new(elements),
            scopes: Scopes::new(code.scoping == Scoping::Keyed),
            timers: Timers::new(elements),
            started: false,
            found: Found::new(code.visible),
            dropped: 0,
            faults: Cell::new(0),
            scratch: Scratch::default(),
        }
    }

    /// Rows of an input, each with the elements that it fits by itself.
    pub(super) fn rows<'r>(
        &mut self,
        code: &Code,
        input: usize,
        rows: impl Iterator<Item = (Row<'r>, u64)>,
    ) {
        if code.plain.is_some() {
            let mut found = std::mem::replace(&mut self.found, Found::new(code.visible));
            self.plain_rows(code, rows, &mut found);
            self.found = found;
            return;
        }
        for (row, mask) in rows {
            self.row(code, input, row, mask);
        }
    }

    fn row(&mut self, code: &Code, input: usize, row: Row<'_>, mask: u64) {
        while let Some(time) = self.timers.next().filter(|_| code.timed) {
            if time > row.stamp.time {
                break;
            }
            self.fire(code, Stamp { time, ..row.stamp });
        }
        self.expire(code, row.stamp.time);
        self.moment += 1;
        self.scratch.fresh.clear();
        match self.target(code, input, row) {
            Target::Nobody => {}
            Target::New => self.begin_new(code, input, row, mask),
            Target::One(scope) => self.row_of(code, row, mask, &[scope]),
            Target::All => {
                let scopes = self.scopes.slots();
                self.row_of(code, row, mask, &scopes);
            }
        }
        self.trim(code, row.stamp.time);
        self.let_go(code);
        self.found.end(row.stamp);
    }

    /// The scopes that a row reaches.
    fn target(&mut self, code: &Code, input: usize, row: Row<'_>) -> Target {
        if code.scoping != Scoping::Keyed {
            return Target::One(0);
        }
        let Some(Some(exprs)) = code.keys.get(input) else {
            return Target::All;
        };
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        let key = &mut self.scratch.key;
        key.clear();
        exprs.iter().for_each(|expr| expr.push_to(&env, key));
        if key.iter().any(Value::is_null) {
            return Target::Nobody;
        }
        match self.scopes.find(key) {
            Some(scope) => Target::One(scope),
            None if code.keeps_keys => {
                let scope = self.scopes.open(key);
                if code.tokens {
                    self.rearm(code, scope, row.stamp.time);
                }
                Target::One(scope)
            }
            None => Target::New,
        }
    }

    fn row_of(&mut self, code: &Code, row: Row<'_>, mask: u64, scopes: &[Slot]) {
        for scope in scopes {
            self.count_event(code, *scope, row.stamp.time);
        }
        // What begins again by that is there like any other.
        self.scratch.fresh.clear();
        let mut hits = std::mem::take(&mut self.scratch.hits);
        hits.clear();
        if code.automaton.sequence {
            self.gather_all(code, row, mask, scopes, &mut hits);
        } else {
            self.gather(
                code,
                row,
                mask,
                scopes.first().copied().unwrap_or(NONE),
                &mut hits,
            );
        }
        self.put_in_order(&mut hits);
        // What the row completes begins again behind it.
        let [single] = scopes else {
            let armed = scopes.iter().map(|scope| self.scopes.at(*scope).armed);
            let armed: Vec<bool> = armed.collect();
            self.take_hits(code, row, &hits);
            for (scope, armed) in scopes.iter().zip(armed) {
                self.begin_again(code, *scope, row, mask, armed);
            }
            self.scratch.hits = hits;
            return;
        };
        let armed = self.scopes.at(*single).armed;
        self.take_hits(code, row, &hits);
        self.begin_again(code, *single, row, mask, armed);
        self.scratch.hits = hits;
    }

    /// Those that wait for a row like this.
    fn gather(&mut self, code: &Code, row: Row<'_>, mask: u64, scope: Slot, hits: &mut Vec<Hit>) {
        let mut key = std::mem::take(&mut self.scratch.key);
        for element in bits(mask) {
            let (Some(asks), Some(place)) = (code.elements.get(element), code.places.get(element))
            else {
                continue;
            };
            key.clear();
            if !asks.key.is_empty() {
                let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
                asks.key
                    .iter()
                    .for_each(|expr| expr.push_to(&env, &mut key));
            }
            let mut link = self.waiting.first(element, scope, place, key.iter());
            while let Some((slot, next)) = self.waiting.at(link) {
                link = next;
                let holds = asks.rest.as_ref().is_none_or(|rest| {
                    let matched = self.partials.values(slot);
                    rest.holds(matched, row, &mut self.scratch.row, &self.faults)
                });
                if holds {
                    hits.push(Hit {
                        slot,
                        generation: self.partials.at(slot).generation,
                        mask: bit(element),
                    });
                }
            }
        }
        self.scratch.key = key;
        if mask & mask.wrapping_sub(1) != 0 && hits.len() > 1 {
            hits.sort_by_key(|hit| hit.slot);
            hits.dedup_by(|later, first| {
                let same = later.slot == first.slot;
                first.mask |= if same { later.mask } else { 0 };
                same
            });
        }
    }

    /// All partial matches of the scopes, and what they can take.
    fn gather_all(
        &mut self,
        code: &Code,
        row: Row<'_>,
        mask: u64,
        scopes: &[Slot],
        hits: &mut Vec<Hit>,
    ) {
        for scope in scopes {
            let mut slot = self.scopes.at(*scope).list.oldest;
            while slot != NONE {
                let partial = self.partials.at(slot);
                let generation = partial.generation;
                let fits = mask & partial.control.active;
                let next = self.partials.newer(Order::Scope, slot);
                let mask = self.checked(code, slot, row, fits);
                hits.push(Hit {
                    slot,
                    generation,
                    mask,
                });
                slot = next;
            }
        }
    }

    /// The elements of `mask` of which the row fulfils what refers to a partial match.
    pub(super) fn checked(&mut self, code: &Code, slot: Slot, row: Row<'_>, mask: u64) -> u64 {
        let mut holds = 0;
        for element in bits(mask) {
            let (Some(asks), Some(place)) = (code.elements.get(element), code.places.get(element))
            else {
                continue;
            };
            let values = self.partials.values(slot);
            let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
            let mut known = place.columns.iter().map(|column| values.get(*column));
            let equal = asks.key.iter().all(|expr| {
                let value = expr.value(&env);
                !value.is_null() && known.next().flatten() == Some(&value)
            });
            let rest = asks.rest.as_ref();
            let scratch = &mut self.scratch.row;
            if equal && rest.is_none_or(|rest| rest.holds(values, row, scratch, &self.faults)) {
                holds |= bit(element);
            }
        }
        holds
    }

    fn put_in_order(&self, hits: &mut [Hit]) {
        let ordered = hits.windows(2).all(|pair| match pair {
            [a, b] => self.partials.order(a.slot, b.slot).is_le(),
            _ => true,
        });
        if !ordered {
            hits.sort_by(|a, b| self.partials.order(a.slot, b.slot));
        }
    }

    fn take_hits(&mut self, code: &Code, row: Row<'_>, hits: &[Hit]) {
        for hit in hits {
            let partial = self.partials.at(hit.slot);
            if !partial.live || partial.generation != hit.generation {
                continue;
            }
            // A SEQUENCE ends by what it does not take.
            let takes = foremost(&code.automaton, hit.mask) & !code.automaton.absent;
            let idle = code.automaton.sequence && takes == 0;
            if !(idle && partial.begun) {
                self.apply(code, hit.slot, hit.mask, row);
            } else {
                self.die(code, hit.slot, row.stamp.time);
            }
        }
    }
}

/// Whom a row reaches.
enum Target {
    /// It has no key.
    Nobody,
    /// A key that has no scope.
    New,
    One(Slot),
    All,
}
