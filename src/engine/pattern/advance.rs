//! How a partial match comes further: it takes a row or has waited long enough, matches, repeats a
//! part, or ends.

use super::super::expr::Env;
use super::Matches;
use super::automaton::{Control, Effect, Spoiled, bit, bits};
use super::code::{Code, FIRST_COLUMNS, Scoping, foremost};
use super::partials::{NONE, Order, Slot};
use super::state::State;
use crate::event::{Row, Stamp, Timestamp, Value};
use crate::sql::plan::Skip;

impl State {
    /// A row comes to a partial match, and fits these elements of it.
    pub(super) fn apply(&mut self, code: &Code, slot: Slot, mask: u64, row: Row<'_>) {
        let control = self.partials.at(slot).control;
        self.apply_from(code, slot, control, mask, row);
    }

    /// The same for one that has come as far as `from`, and waits nowhere yet if it is new.
    pub(super) fn apply_from(
        &mut self,
        code: &Code,
        slot: Slot,
        from: Control,
        mask: u64,
        row: Row<'_>,
    ) {
        let automaton = &code.automaton;
        let mut control = from;
        let mut effect = Effect::default();
        let fits = foremost(automaton, mask) & !automaton.absent;
        for element in bits(fits) {
            if control.active & bit(element) != 0 {
                effect.add(self.take(code, slot, element, &mut control, row));
            }
        }
        let mut dies = false;
        for element in bits(mask & automaton.absent) {
            if control.active & bit(element) == 0 || effect.matched {
                continue;
            }
            match automaton.spoil(element, &mut control) {
                Spoiled::Lives => {}
                Spoiled::Waits => effect.started |= bit(element),
                Spoiled::Again(part) => {
                    let (again, follows) = automaton.again(part, &control);
                    control = again;
                    effect.add(follows);
                }
                Spoiled::Dies => dies = true,
            }
        }
        if dies {
            self.die(code, slot, row.stamp.time);
            return;
        }
        self.settle(code, slot, control, effect, row.stamp);
    }

    /// An element of a partial match takes a row.
    fn take(
        &mut self,
        code: &Code,
        slot: Slot,
        element: usize,
        control: &mut Control,
        row: Row<'_>,
    ) -> Effect {
        if control.taken == 0 {
            let partial = self.partials.at_mut(slot);
            partial.birth = self.moment;
            let events = self.scopes.at(partial.scope).events;
            self.partials.first_row(slot, row.stamp.time, events);
            self.stand(code, slot);
        }
        if control.taken & bit(element) == 0 {
            self.note_first(code, slot, element, row.stamp.time);
        }
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        let values = self.partials.values_mut(slot);
        let count = code.registers.take(element, row, values, &env);
        code.automaton.take(element, count, control)
    }

    /// Notes the first row of an element, when rows may be forgotten.
    fn note_first(&mut self, code: &Code, slot: Slot, element: usize, time: Timestamp) {
        let Some(column) = code.firsts.map(|column| column + element * FIRST_COLUMNS) else {
            return;
        };
        let events = self.scopes.at(self.partials.at(slot).scope).events;
        let number = |number: u64| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let noted = [number(self.moment), Value::Int(time.0), number(events)];
        let values = self.partials.values_mut(slot);
        let places = values.get_mut(column..column + FIRST_COLUMNS);
        for (place, value) in places.into_iter().flatten().zip(noted) {
            *place = value;
        }
    }

    /// The first row may be one that has been forgotten: another one is then.
    fn find_first(&mut self, code: &Code, slot: Slot, control: Control) {
        if code.firsts.is_none() && control.taken != 0 {
            return;
        }
        let values = self.partials.values(slot);
        let noted = |element: usize| {
            let column = code.firsts? + element * FIRST_COLUMNS;
            let number = |place: usize| values.get(column + place).and_then(Value::as_int);
            Some((number(0)?, number(1)?, number(2)?))
        };
        let first = bits(control.taken).filter_map(noted).min();
        let number = |number: i64| u64::try_from(number).unwrap_or_default();
        let partial = self.partials.at(slot);
        let (birth, time, event) = first.map_or(
            (partial.birth, Timestamp::MAX, 0),
            |(birth, time, event)| (number(birth), Timestamp(time), number(event)),
        );
        if (partial.birth, partial.first) == (birth, time) {
            return;
        }
        self.partials.stand(slot, birth, time, event);
        self.stand(code, slot);
    }

    /// Puts one where it belongs among those of its scope.
    pub(super) fn stand(&mut self, code: &Code, slot: Slot) {
        if code.lists {
            let scope = self.partials.at(slot).scope;
            let mut list = self.scopes.at(scope).list;
            self.partials.put_in_order(&mut list, Order::Scope, slot);
            self.scopes.at_mut(scope).list = list;
        }
    }

    /// A partial match has come further, at this moment.
    pub(super) fn settle(
        &mut self,
        code: &Code,
        slot: Slot,
        control: Control,
        effect: Effect,
        at: Stamp,
    ) {
        self.partials.note(slot);
        let mut control = control;
        let (due, time) = (code.automaton.due(&control), at.time);
        control.armed &= !due;
        if !self.partials.at(slot).begun && control.taken != 0 {
            self.partials.begin(slot, None);
        }
        if effect.forgotten != 0 {
            let values = self.partials.values_mut(slot);
            code.registers.forget(effect.forgotten, values);
            self.find_first(code, slot, control);
        }
        if effect.matched {
            self.give(code, slot, at);
        }
        for part in bits(due & !1) {
            self.note_done(code, slot, part, control.taken);
        }
        let before = self.partials.at(slot).control.active;
        let repeat = due & !1 != 0 && !(effect.matched && code.skip != Skip::Nothing);
        if repeat {
            self.partials.at_mut(slot).control = control;
            for part in bits(due & !1) {
                self.repeat(code, slot, part, control, time);
            }
        }
        let scope = self.partials.at(slot).scope;
        if effect.matched {
            self.partials.at_mut(slot).control = Control {
                active: before,
                ..control
            };
            self.scopes.matched(scope, self.moment);
            self.after_match(code, slot, time);
        } else {
            self.change(code, slot, before, control, effect, time);
        }
        if due & 1 != 0 {
            self.rearm(code, scope, time);
        }
    }

    /// Lets a partial match wait for what it waits for now.
    pub(super) fn change(
        &mut self,
        code: &Code,
        slot: Slot,
        before: u64,
        control: Control,
        effect: Effect,
        time: Timestamp,
    ) {
        let automaton = &code.automaton;
        // A part that has begun again waits anew for all of its elements.
        let gone = before & (!control.active | effect.forgotten);
        let come = control.active & (!before | effect.forgotten);
        if gone != 0 && !automaton.sequence {
            self.waiting.remove(slot, gone, &mut self.partials);
        }
        self.partials.at_mut(slot).control = control;
        let timed = automaton.absent & !automaton.untimed;
        for element in bits(gone & timed) {
            self.timers.count(element, false);
        }
        for element in bits(come & timed) {
            self.timers.count(element, true);
        }
        let generation = self.partials.at(slot).generation;
        for element in bits(effect.started & control.active) {
            // Beyond the end of time nothing passes.
            let until = time.0.checked_add(automaton.waits_ms(element).unwrap_or(0));
            let Some(until) = until.map(Timestamp) else {
                continue;
            };
            code.registers
                .set_until(element, self.partials.values_mut(slot), until);
            self.timers.add(element, slot, generation, until);
        }
        for element in bits(come) {
            self.compute_known(code, slot, element, time);
        }
        if !automaton.sequence {
            self.waiting
                .add(slot, come, &code.places, &mut self.partials);
        }
    }

    /// Computes what those that wait for an element are found by.
    pub(super) fn compute_known(
        &mut self,
        code: &Code,
        slot: Slot,
        element: usize,
        time: Timestamp,
    ) {
        let known = code.elements.get(element).map(|element| &element.known);
        for (column, expr) in known.into_iter().flatten() {
            let stamp = Stamp {
                time,
                ..Stamp::default()
            };
            let values = self.partials.values(slot);
            let value = expr.value(&Env::new(values, stamp, stamp, &self.faults));
            if let Some(place) = self.partials.values_mut(slot).get_mut(*column) {
                *place = value;
            }
        }
    }

    /// Notes when a part was done; that nothing was, when no row was: matches are told apart by
    /// their rows.
    fn note_done(&mut self, code: &Code, slot: Slot, part: usize, taken: u64) {
        let rowless = code.automaton.elements_of(part) & taken == 0;
        let moment = if rowless { 0 } else { self.moment };
        let moment = i64::try_from(moment).unwrap_or(i64::MAX);
        let column = code.trail.start + part;
        if let Some(value) = self.partials.values_mut(slot).get_mut(column) {
            *value = Value::Int(moment);
        }
    }

    /// A part that is done begins again for what stands before it, in another partial match.
    pub(super) fn repeat(
        &mut self,
        code: &Code,
        of: Slot,
        part: usize,
        control: Control,
        time: Timestamp,
    ) {
        if self.is_full(code) {
            return;
        }
        let (mut again, mut effect) = code.automaton.again(part, &control);
        // Only one of them begins the parts before again.
        again.armed &= !(bit(part) - 1);
        let slot = self.partials.copy(of);
        let values = self.partials.values_mut(slot);
        code.registers.forget(effect.forgotten, values);
        let trail = code.trail.start + part..code.trail.end;
        values.get_mut(trail).unwrap_or_default().fill(Value::Null);
        if again.taken == 0 {
            self.partials.at_mut(slot).first = Timestamp::MAX;
        }
        self.partials.begin(slot, Some(of));
        self.join(code, slot);
        effect.forgotten = 0;
        self.change(code, slot, 0, again, effect, time);
        if effect.matched {
            // A part that needs no row is done again at once, which is no other match.
            self.close(code, slot);
        }
    }

    /// Tells a match.
    pub(super) fn give(&mut self, code: &Code, slot: Slot, at: Stamp) {
        let values = self.partials.values(slot);
        let visible = values.get(..code.visible).unwrap_or_default();
        self.found.matched(visible, at);
    }

    /// A complete match ends, and what it ends besides.
    fn after_match(&mut self, code: &Code, slot: Slot, time: Timestamp) {
        let (scope, birth) = (self.partials.at(slot).scope, self.partials.at(slot).birth);
        self.close(code, slot);
        let mut others = Vec::new();
        if code.skip != Skip::Nothing {
            let mut at = self.scopes.at(scope).list.oldest;
            while at != NONE {
                others.push(at);
                at = self.partials.newer(Order::Scope, at);
            }
        }
        match code.skip {
            Skip::Nothing => {}
            // What waits to begin, too: its wait begins anew.
            Skip::PastLastRow => self.scopes.at_mut(scope).skipped = self.moment,
            Skip::ToNextRow => others.retain(|slot| {
                let other = self.partials.at(*slot);
                other.begun && other.birth == birth
            }),
        }
        for slot in others {
            self.die(code, slot, time);
        }
    }

    /// A partial match ends without a match.
    pub(super) fn die(&mut self, code: &Code, slot: Slot, time: Timestamp) {
        let (scope, control) = (self.partials.at(slot).scope, self.partials.at(slot).control);
        self.close(code, slot);
        let automaton = &code.automaton;
        let begins = if automaton.repeats() {
            control.armed & 1 != 0
        } else {
            let scope = self.scopes.at(scope);
            automaton.sequence && !scope.matched && scope.partials == 0
        };
        if begins {
            self.scopes.at_mut(scope).freed = self.moment;
            if let Some(token) = self.rearm(code, scope, time) {
                self.scratch.fresh.push(token);
            }
        }
    }

    /// Takes a partial match out of everything.
    pub(super) fn close(&mut self, code: &Code, slot: Slot) {
        let automaton = &code.automaton;
        self.waiting.remove(slot, !0, &mut self.partials);
        let partial = self.partials.at(slot);
        let (scope, active) = (partial.scope, partial.control.active);
        for element in bits(active & automaton.absent & !automaton.untimed) {
            self.timers.count(element, false);
        }
        let of = self.scopes.at_mut(scope);
        of.partials = of.partials.saturating_sub(1);
        let idle = of.partials == 0;
        if code.lists {
            let mut list = of.list;
            self.partials.detach(&mut list, Order::Scope, slot);
            of.list = list;
        }
        if idle && code.scoping == Scoping::Keyed {
            self.scratch.idle.push(scope);
        }
        self.partials.end(slot);
        self.partials.close(slot);
    }
}
