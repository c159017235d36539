//! What a pattern knows, and how rows and time change it.

use std::cell::Cell;

use super::super::expr::Env;
use super::automaton::{Control, Effect, Spoiled, bit, bits};
use super::code::{Code, Scoping, foremost};
use super::partials::{NONE, Order, Partials, Slot};
use super::scopes::Scopes;
use super::timers::{Known, Timers};
use super::waiting::Waiting;
use crate::event::{Batch, Row, Stamp, Timestamp, Value};
use crate::sql::plan::{Overflow, Skip, Within};

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
    pub(super) found: Batch,
    /// The moment of each.
    pub(super) found_at: Vec<u64>,
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
    due: Vec<(Slot, usize)>,
    /// Scopes that may have nothing to remember any more.
    idle: Vec<Slot>,
    /// What waits to begin since another one ended by the row at hand, without taking it.
    fresh: Vec<Slot>,
}

/// A partial match and the elements that a row fits.
#[derive(Clone, Copy)]
struct Hit {
    slot: Slot,
    generation: u32,
    mask: u64,
}

/// What happens: a row, or nothing but that time passes.
#[derive(Clone, Copy)]
struct Happens<'a> {
    row: Option<Row<'a>>,
    at: Stamp,
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
            found: Batch::new(code.visible.max(1)),
            found_at: Vec::new(),
            dropped: 0,
            faults: Cell::new(0),
            scratch: Scratch::default(),
        }
    }

    /// The clock is known: absences at the start begin to wait.
    pub(super) fn start(&mut self, code: &Code, at: Stamp) {
        self.started = true;
        if code.tokens && code.scoping == Scoping::One {
            self.rearm(code, 0, at.time);
        }
    }

    /// A row of an input that fits the elements of `mask` by itself.
    pub(super) fn row(&mut self, code: &Code, input: usize, row: Row<'_>, mask: u64) {
        if let Some(stands) = &code.plain {
            self.plain_row(code, stands, row, mask);
            return;
        }
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

    /// A row of a key that has no scope: it may begin a match.
    fn begin_new(&mut self, code: &Code, input: usize, row: Row<'_>, mask: u64) {
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

    fn row_of(&mut self, code: &Code, row: Row<'_>, mask: u64, scopes: &[Slot]) {
        for scope in scopes {
            self.count_event(code, *scope, row.stamp.time);
        }
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

    fn begin_again(&mut self, code: &Code, scope: Slot, row: Row<'_>, mask: u64, armed: bool) {
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
    fn offer(&mut self, code: &Code, row: Row<'_>, mask: u64) {
        let mut fresh = std::mem::take(&mut self.scratch.fresh);
        for slot in fresh.drain(..) {
            let partial = self.partials.at(slot);
            let skipped = self.scopes.at(partial.scope).skipped == self.moment;
            let takes = mask & partial.control.active & !code.automaton.absent;
            if !partial.live || skipped || takes == 0 {
                continue;
            }
            let mask = self.checked(code, slot, row, takes);
            if mask != 0 {
                self.apply(code, slot, mask, row);
            }
        }
        self.scratch.fresh = fresh;
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
    fn checked(&mut self, code: &Code, slot: Slot, row: Row<'_>, mask: u64) -> u64 {
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
            let idle = code.automaton.sequence && hit.mask & !code.automaton.absent == 0;
            if !(idle && partial.begun) {
                self.apply(code, hit.slot, hit.mask, row);
            } else {
                self.die(code, hit.slot, row.stamp.time);
            }
        }
    }

    /// A row comes to a partial match, and fits these elements of it.
    fn apply(&mut self, code: &Code, slot: Slot, mask: u64, row: Row<'_>) {
        let control = self.partials.at(slot).control;
        self.apply_from(code, slot, control, mask, row);
    }

    /// The same for one that has come as far as `from`, and waits nowhere yet if it is new.
    fn apply_from(&mut self, code: &Code, slot: Slot, from: Control, mask: u64, row: Row<'_>) {
        let automaton = &code.automaton;
        let mut control = from;
        let mut effect = Effect::default();
        let fits = foremost(automaton, mask) & !automaton.absent;
        for element in bits(fits) {
            if control.active & bit(element) != 0 && !effect.matched {
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
        let happens = Happens {
            row: Some(row),
            at: row.stamp,
        };
        self.settle(code, slot, control, effect, happens);
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
            self.stand_last(code, slot);
        }
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        let values = self.partials.values_mut(slot);
        let count = code.registers.take(element, row, values, &env);
        code.automaton.take(element, count, control)
    }

    /// One that has its first row is the youngest of its scope.
    fn stand_last(&mut self, code: &Code, slot: Slot) {
        let scope = self.partials.at(slot).scope;
        let mut list = self.scopes.at(scope).list;
        if code.lists && list.newest != slot {
            self.partials.detach(&mut list, Order::Scope, slot);
            self.partials.attach(&mut list, Order::Scope, slot, None);
            self.scopes.at_mut(scope).list = list;
        }
    }

    /// A partial match has come further.
    fn settle(
        &mut self,
        code: &Code,
        slot: Slot,
        control: Control,
        effect: Effect,
        happens: Happens<'_>,
    ) {
        let mut control = control;
        let (due, time) = (code.automaton.due(&control), happens.at.time);
        control.armed &= !due;
        let moves = happens.row.is_none() || control.taken != 0;
        if !self.partials.at(slot).begun && moves {
            self.partials.begin(slot, None);
        }
        if effect.matched {
            self.give(code, slot, happens.at);
        }
        for part in bits(due & !1) {
            self.note_done(code, slot, part);
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
            self.scopes.at_mut(scope).matched = true;
            self.after_match(code, slot, time);
        } else {
            self.change(code, slot, before, control, effect, time);
        }
        if due & 1 != 0 {
            self.rearm(code, scope, time);
        }
    }

    /// Lets a partial match wait for what it waits for now.
    fn change(
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
        if effect.forgotten != 0 {
            code.registers
                .forget(effect.forgotten, self.partials.values_mut(slot));
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
            let until = time.plus_ms(automaton.waits_ms(element).unwrap_or(0));
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

    fn note_done(&mut self, code: &Code, slot: Slot, part: usize) {
        let moment = i64::try_from(self.moment).unwrap_or(i64::MAX);
        let column = code.trail.start + part;
        if let Some(value) = self.partials.values_mut(slot).get_mut(column) {
            *value = Value::Int(moment);
        }
    }

    /// A part that is done begins again for what stands before it, in another partial match.
    fn repeat(&mut self, code: &Code, of: Slot, part: usize, control: Control, time: Timestamp) {
        if self.is_full(code) {
            return;
        }
        let (again, mut effect) = code.automaton.again(part, &control);
        let slot = self.partials.copy(of);
        let values = self.partials.values_mut(slot);
        code.registers.forget(effect.forgotten, values);
        let trail = code.trail.start + part..code.trail.end;
        values.get_mut(trail).unwrap_or_default().fill(Value::Null);
        if again.taken == 0 {
            self.partials.at_mut(slot).first = Timestamp::MAX;
        }
        self.partials.begin(slot, Some(of));
        self.join(code, slot, Some(of));
        effect.forgotten = 0;
        self.change(code, slot, 0, again, effect, time);
        if effect.matched {
            // A part that needs no row is done again at once, which is no other match.
            self.close(code, slot);
        }
    }

    /// Puts a new partial match into its scope.
    pub(super) fn join(&mut self, code: &Code, slot: Slot, behind: Option<Slot>) {
        let scope = self.partials.at(slot).scope;
        let scope = self.scopes.at_mut(scope);
        scope.partials += 1;
        if code.lists {
            let mut list = scope.list;
            self.partials.attach(&mut list, Order::Scope, slot, behind);
            scope.list = list;
        }
    }

    /// Tells a match.
    pub(super) fn give(&mut self, code: &Code, slot: Slot, at: Stamp) {
        let values = self.partials.values(slot);
        let visible = values.get(..code.visible).unwrap_or_default();
        self.found.push_with(at, |row| {
            visible.iter().for_each(|value| value.copy_to(row));
            if visible.is_empty() {
                row.push(Value::Null);
            }
        });
        self.found_at.push(self.moment);
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
        others.retain(|slot| self.partials.at(*slot).begun);
        match code.skip {
            Skip::Nothing => {}
            Skip::PastLastRow => self.scopes.at_mut(scope).skipped = self.moment,
            Skip::ToNextRow => others.retain(|slot| self.partials.at(*slot).birth == birth),
        }
        for slot in others {
            self.die(code, slot, time);
        }
    }

    /// A partial match ends without a match.
    fn die(&mut self, code: &Code, slot: Slot, time: Timestamp) {
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
    fn close(&mut self, code: &Code, slot: Slot) {
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

    /// A match may begin (again) in a scope. Gives what waits to begin, when an absence at the
    /// start does.
    fn rearm(&mut self, code: &Code, scope: Slot, time: Timestamp) -> Option<Slot> {
        if !code.tokens {
            self.scopes.at_mut(scope).armed = true;
            return None;
        }
        let slot = self.open(code, scope);
        self.join(code, slot, None);
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
        let number = self.scopes.at(scope).number;
        let partial = self.partials.at_mut(slot);
        (partial.birth, partial.scope_number) = (self.moment, number);
        slot
    }

    /// A row may begin a match.
    fn begin(&mut self, code: &Code, scope: Slot, row: Row<'_>, mask: u64) {
        let automaton = &code.automaton;
        let mask = mask & automaton.start.active;
        if mask == 0 || self.scopes.at(scope).skipped == self.moment {
            return;
        }
        let slot = self.open(code, scope);
        if !self.set_own_key(code, slot, row, mask) {
            self.partials.close(slot);
            return;
        }
        let mask = self.checked_at_start(code, slot, row, mask);
        if mask & !automaton.absent != 0 && self.is_full(code) || mask == 0 {
            self.partials.close(slot);
            return;
        }
        self.scopes.at_mut(scope).armed = automaton.always;
        self.join(code, slot, None);
        let nowhere = Control {
            active: 0,
            ..automaton.start
        };
        self.partials.at_mut(slot).control = nowhere;
        self.apply_from(code, slot, automaton.start, mask, row);
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

    /// In a SEQUENCE, a younger one that waits for what an older one waits for gives way.
    fn give_way(&mut self, code: &Code, scope: Slot, time: Timestamp) {
        let mut occupied = 0;
        let mut slot = self.scopes.at(scope).list.oldest;
        while slot != NONE {
            let next = self.partials.newer(Order::Scope, slot);
            let partial = self.partials.at(slot);
            if partial.begun {
                let active = partial.control.active;
                if active & occupied == 0 {
                    occupied |= active;
                } else {
                    self.die(code, slot, time);
                }
            }
            slot = next;
        }
    }

    /// A row counts for WITHIN n EVENTS.
    fn count_event(&mut self, code: &Code, scope: Slot, time: Timestamp) {
        let Some(Within::Events(events)) = code.within else {
            return;
        };
        let of = self.scopes.at_mut(scope);
        of.events += 1;
        let now = of.events;
        let mut slot = of.list.oldest;
        while slot != NONE {
            let next = self.partials.newer(Order::Scope, slot);
            let partial = self.partials.at(slot);
            let has_row = partial.first != Timestamp::MAX;
            if has_row && now - partial.first_event >= events {
                self.die(code, slot, time);
            } else if has_row {
                break;
            }
            slot = next;
        }
    }

    /// The clock has come to `now`: partial matches that cannot complete any more end.
    pub(super) fn expire(&mut self, code: &Code, now: Timestamp) {
        let Some(Within::Time(span_ms)) = code.within else {
            return;
        };
        while self.partials.aged.oldest != NONE {
            let oldest = self.partials.aged.oldest;
            if self.partials.at(oldest).first.plus_ms(span_ms) >= now {
                break;
            }
            self.die(code, oldest, now);
        }
    }

    /// The clock has come to `at`, and no further than the first deadline.
    pub(super) fn fire(&mut self, code: &Code, at: Stamp) {
        self.expire(code, at.time);
        self.moment += 1;
        let mut due = std::mem::take(&mut self.scratch.due);
        due.clear();
        let known = Known {
            partials: &self.partials,
            registers: &code.registers,
        };
        self.timers.due(at.time, known, &mut due);
        due.sort_by(|(a, x), (b, y)| self.partials.order(*a, *b).then(x.cmp(y)));
        let due_with: Vec<u32> = due
            .iter()
            .map(|(slot, _)| self.partials.at(*slot).generation)
            .collect();
        for ((slot, element), generation) in due.iter().copied().zip(due_with) {
            let partial = self.partials.at(slot);
            let same = partial.live && partial.generation == generation;
            if same && partial.control.active & bit(element) != 0 {
                let mut control = partial.control;
                let effect = code.automaton.passed(element, &mut control);
                let happens = Happens { row: None, at };
                self.settle(code, slot, control, effect, happens);
            }
        }
        self.scratch.due = due;
        self.trim(code, at.time);
        self.let_go(code);
    }

    pub(super) fn is_full(&mut self, code: &Code) -> bool {
        let full = code.overflow == Overflow::DropNewest && self.partials.begun >= code.matches_max;
        self.dropped += u64::from(full);
        full
    }

    /// Drops the oldest when there are too many.
    pub(super) fn trim(&mut self, code: &Code, time: Timestamp) {
        while self.partials.begun > code.matches_max {
            let Some(oldest) = self.partials.oldest() else {
                return;
            };
            self.dropped += 1;
            self.die(code, oldest, time);
        }
    }

    /// Forgets keys that stand as if they had never come.
    fn let_go(&mut self, code: &Code) {
        self.scratch.fresh.clear();
        if code.timed {
            let known = Known {
                partials: &self.partials,
                registers: &code.registers,
            };
            self.timers.tidy(known);
        }
        while let Some(slot) = self.scratch.idle.pop() {
            let scope = self.scopes.at(slot);
            if scope.live && scope.partials == 0 && scope.armed && !code.keeps_keys {
                self.scopes.close(slot);
            }
        }
    }

    /// When something happens, if no row comes.
    pub(super) fn deadline(&self, code: &Code) -> Option<Timestamp> {
        let ends = match code.within {
            Some(Within::Time(span_ms)) if self.partials.aged.newest != NONE => {
                let newest = self.partials.at(self.partials.aged.newest);
                Some(newest.first.plus_ms(span_ms).plus_ms(1))
            }
            Some(Within::Time(_) | Within::Events(_)) | None => None,
        };
        self.timers.next().into_iter().chain(ends).min()
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
