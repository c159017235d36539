//! How matches begin, and begin again.

use super::super::expr::Env;
use super::automaton::{Control, Effect, bits};
use super::code::{Code, Scoping, foremost};
use super::partials::Slot;
use super::state::State;
use crate::event::{Row, Timestamp};
use crate::sql::plan::Overflow;

impl State {
    /// Whether a row may begin a match, or could if one ends before it.
    pub(super) fn may_begin(&self, code: &Code) -> bool {
        // What waits to begin waits as any other partial match does.
        let begins = code.automaton.repeats() || code.scoping == Scoping::Keyed;
        !code.tokens && (begins || self.scopes.at(0).armed)
    }

    /// A row of a key that has no scope: it may begin a match.
    pub(super) fn begin_new(&mut self, code: &Code, input: usize, row: Row<'_>, mask: u64) {
        debug_assert!(
            code.keys.get(input).is_some_and(Option::is_some),
            "it has a key"
        );
        if mask & code.automaton.start.active == 0 {
            return;
        }
        let key = std::mem::take(&mut self.scratch.key);
        let scope = self.scopes.open(&key);
        self.scratch.key = key;
        self.count_event(code, scope, row.stamp.time);
        self.begin(code, scope, row, mask);
        self.scratch.idle.push(scope);
    }

    pub(super) fn begin_again(
        &mut self,
        code: &Code,
        scope: Slot,
        row: Row<'_>,
        mask: u64,
        armed: bool,
    ) {
        let of = self.scopes.at(scope);
        let (freed, again) = (of.freed == self.moment, of.armed);
        if code.tokens {
            self.offer(code, row, mask);
        } else if (armed || freed) && again {
            self.begin(code, scope, row, mask);
        }
        if code.automaton.sequence {
            self.give_way(code, scope, row.stamp.time);
        }
    }

    /// What waits to begin since another one ended by this row may take it.
    pub(super) fn offer(&mut self, code: &Code, row: Row<'_>, mask: u64) {
        let mut fresh = std::mem::take(&mut self.scratch.fresh);
        for slot in fresh.drain(..) {
            let partial = self.partials.at(slot);
            let skipped = self.scopes.at(partial.scope).skipped == self.moment;
            let fits = mask & partial.control.active;
            if !partial.live || skipped || fits == 0 {
                continue;
            }
            let mask = self.checked(code, slot, row, fits);
            if mask != 0 {
                self.apply(code, slot, mask, row);
            }
        }
        self.scratch.fresh = fresh;
    }

    /// Puts a new partial match into its scope.
    pub(super) fn join(&mut self, code: &Code, slot: Slot) {
        let scope = self.partials.at(slot).scope;
        self.scopes.at_mut(scope).partials += 1;
        self.stand(code, slot);
    }

    /// A match may begin (again) in a scope. Gives what waits to begin, when an absence at the
    /// start does.
    pub(super) fn rearm(&mut self, code: &Code, scope: Slot, time: Timestamp) -> Option<Slot> {
        if !code.tokens {
            self.scopes.arm(scope, true);
            return None;
        }
        let slot = self.open(code, scope);
        self.join(code, slot);
        let control = self.partials.at(slot).control;
        let effect = Effect {
            started: code.automaton.start_waits,
            ..Effect::default()
        };
        self.change(code, slot, 0, control, effect, time);
        Some(slot)
    }

    pub(super) fn open(&mut self, code: &Code, scope: Slot) -> Slot {
        let (start, initial) = (code.automaton.start, code.registers.initial());
        let slot = self.partials.open(scope, start, initial);
        self.partials.at_mut(slot).birth = self.moment;
        slot
    }

    /// A row may begin a match.
    pub(super) fn begin(&mut self, code: &Code, scope: Slot, row: Row<'_>, mask: u64) {
        let automaton = &code.automaton;
        let mask = mask & automaton.start.active;
        // What is spoiled where a match can begin with any row is the wish to begin with this one.
        let idle = automaton.always && mask & !automaton.absent == 0;
        if mask == 0 || idle || self.scopes.at(scope).skipped == self.moment {
            return;
        }
        let slot = self.open(code, scope);
        if !self.set_own_key(code, slot, row, mask) {
            self.partials.close(slot);
            return;
        }
        let mask = self.checked_at_start(code, slot, row, mask);
        if self.comes_second(code, scope, mask)
            || mask & !automaton.absent != 0 && self.is_full(code)
            || mask == 0
        {
            self.partials.close(slot);
            return;
        }
        self.scopes.arm(scope, automaton.always);
        self.join(code, slot);
        let nowhere = Control {
            active: 0,
            ..automaton.start
        };
        self.partials.at_mut(slot).control = nowhere;
        self.apply_from(code, slot, automaton.start, mask, row);
    }

    /// Whether a match of a SEQUENCE would be complete with the row with which it begins, when an
    /// older one is complete by that: it gives way.
    fn comes_second(&self, code: &Code, scope: Slot, mask: u64) -> bool {
        let automaton = &code.automaton;
        if !automaton.sequence || self.scopes.at(scope).matched_at != self.moment {
            return false;
        }
        let mut control = automaton.start;
        let mut takes = bits(foremost(automaton, mask) & !automaton.absent);
        takes.any(|element| automaton.take(element, 1, &mut control).matched)
    }

    /// What `checked` says of one that has only just been opened: its key is the row's own.
    pub(super) fn checked_at_start(
        &mut self,
        code: &Code,
        slot: Slot,
        row: Row<'_>,
        mask: u64,
    ) -> u64 {
        let asks = |element: usize| code.elements.get(element);
        let simple = |element: usize| asks(element).is_some_and(|asks| asks.rest.is_none());
        if bits(mask).all(simple) {
            return mask;
        }
        self.checked(code, slot, row, mask)
    }

    /// Notes the key of the row with which a partial match begins; whether it has one.
    pub(super) fn set_own_key(&mut self, code: &Code, slot: Slot, row: Row<'_>, mask: u64) -> bool {
        if code.own_key.is_empty() {
            return true;
        }
        let element = bits(mask)
            .next()
            .and_then(|element| code.elements.get(element));
        let Some(element) = element else {
            return false;
        };
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        let values = self.partials.values_mut(slot);
        for (column, expr) in code.own_key.iter().zip(&element.key) {
            let value = expr.value(&env);
            if value.is_null() {
                return false;
            }
            if let Some(place) = values.get_mut(*column) {
                *place = value;
            }
        }
        true
    }

    pub(super) fn is_full(&mut self, code: &Code) -> bool {
        let full = code.overflow == Overflow::DropNewest && self.partials.begun >= code.matches_max;
        self.dropped += u64::from(full);
        full
    }
}
