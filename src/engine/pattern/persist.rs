//! The state of a pattern in chunks: partial matches by their place, scopes, and the rest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::state::{Load, Part, Save, StateError};
use super::automaton::{Control, bit, bits};
use super::code::Code;
use super::partials::{Ends, Slot};
use super::scopes::Scope;
use super::state::State;
use crate::event::{Timestamp, Value};

/// Partial matches or scopes per chunk.
const PER_CHUNK: u64 = 64;

#[derive(Serialize, Deserialize)]
struct Head {
    moment: u64,
    started: bool,
    scopes: u64,
    partials: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedScope {
    slot: Slot,
    key: Vec<Value>,
    number: u64,
    armed: bool,
    matched: bool,
    events: u64,
}

#[derive(Serialize, Deserialize)]
struct SavedPartial {
    scope: Slot,
    number: u64,
    active: u64,
    taken: u64,
    done: u64,
    finished: u64,
    armed: u64,
    birth: u64,
    first: i64,
    first_event: u64,
    begun: bool,
    values: Vec<Value>,
}

impl State {
    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let head = Head {
            moment: self.moment,
            started: self.started,
            scopes: self.scopes.next,
            partials: self.partials.next,
        };
        save.put(Part::Holder, 0, &head)?;
        save.renew(Part::Scopes);
        save.renew(Part::Partials);
        let mut scopes: BTreeMap<u64, Vec<SavedScope>> = BTreeMap::new();
        for slot in self.scopes.slots() {
            let scope = self.scopes.at(slot);
            let chunk = scopes.entry(u64::from(slot) / PER_CHUNK).or_default();
            chunk.push(SavedScope {
                slot,
                key: scope.key.clone(),
                number: scope.number,
                armed: scope.armed,
                matched: scope.matched,
                events: scope.events,
            });
        }
        for (number, chunk) in scopes {
            save.put(Part::Scopes, number, &chunk)?;
        }
        let mut partials: BTreeMap<u64, Vec<SavedPartial>> = BTreeMap::new();
        for slot in self.partials.slots() {
            let chunk = partials.entry(u64::from(slot) / PER_CHUNK).or_default();
            chunk.push(self.saved(slot));
        }
        for (number, chunk) in partials {
            save.put(Part::Partials, number, &chunk)?;
        }
        Ok(())
    }

    fn saved(&self, slot: Slot) -> SavedPartial {
        let partial = self.partials.at(slot);
        let Control {
            active,
            taken,
            done,
            finished,
            armed,
        } = partial.control;
        SavedPartial {
            scope: partial.scope,
            number: partial.number,
            active,
            taken,
            done,
            finished,
            armed,
            birth: partial.birth,
            first: partial.first.0,
            first_event: partial.first_event,
            begun: partial.begun,
            values: self.partials.values(slot).to_vec(),
        }
    }

    /// Takes a state back, into one with nothing to remember.
    pub(super) fn load(&mut self, code: &Code, load: &Load<'_>) -> Result<(), StateError> {
        let Some(head) = load.one::<Head>(Part::Holder)? else {
            return Ok(());
        };
        (self.moment, self.started) = (head.moment, head.started);
        self.scopes.next = head.scopes;
        let mut slots: BTreeMap<Slot, Slot> = BTreeMap::new();
        for one in load
            .all::<Vec<SavedScope>>(Part::Scopes)?
            .into_iter()
            .flatten()
        {
            let scope = Scope {
                key: one.key,
                number: one.number,
                armed: one.armed,
                matched: one.matched,
                events: one.events,
                partials: 0,
                matched_at: 0,
                freed: 0,
                skipped: 0,
                list: Ends::EMPTY,
                live: true,
            };
            slots.insert(one.slot, self.scopes.restore(scope));
        }
        let mut found = Vec::new();
        for one in load
            .all::<Vec<SavedPartial>>(Part::Partials)?
            .into_iter()
            .flatten()
        {
            let scope = slots.get(&one.scope).copied();
            let scope = scope.ok_or(StateError::Inconsistent("a partial match has no scope"))?;
            if one.values.len() != code.registers.width() {
                return Err(StateError::Inconsistent("a match row has another width"));
            }
            found.push(self.restore(&one, scope));
        }
        self.partials.next = head.partials;
        self.link_all(code, found);
        Ok(())
    }

    fn restore(&mut self, one: &SavedPartial, scope: Slot) -> Slot {
        let control = Control {
            active: one.active,
            taken: one.taken,
            done: one.done,
            finished: one.finished,
            armed: one.armed,
        };
        let slot = self.partials.open(scope, control, &one.values);
        let partial = self.partials.at_mut(slot);
        partial.birth = one.birth;
        partial.first = Timestamp(one.first);
        partial.first_event = one.first_event;
        partial.begun = one.begun;
        partial.number = one.number;
        slot
    }

    /// Puts partial matches where they stood: in the orders of age, in lists, among those that
    /// wait.
    fn link_all(&mut self, code: &Code, mut slots: Vec<Slot>) {
        slots.sort_by(|a, b| self.partials.order(*a, *b));
        for slot in slots {
            if self.partials.at(slot).begun {
                self.partials.begin(slot, None);
            }
            self.join(code, slot);
            let active = self.partials.at(slot).control.active;
            if !code.automaton.sequence {
                self.waiting
                    .add(slot, active, &code.places, &mut self.partials);
            }
            let generation = self.partials.at(slot).generation;
            for element in bits(active & code.automaton.absent & !code.automaton.untimed) {
                self.timers.count(element, true);
                let until = code.registers.until(element, self.partials.values(slot));
                if let Some(until) = until {
                    debug_assert!(code.automaton.untimed & bit(element) == 0, "it has a time");
                    self.timers.add(element, slot, generation, until);
                }
            }
        }
        self.timers.sort();
    }
}
