//! The state of a pattern: partial matches and scopes by their slots, which a restore keeps, and
//! the rest. The lists, queues and orders in which they stand follow from that.
//!
//! Pieces are arrays of CBOR:
//!
//! ```text
//! scope:          key | number | armed | matched | events
//! partial match:  [scope | number | active | taken | done | finished | armed | birth |
//!                 first event] | time of the first row | begun | match row
//! ```

use serde::{Deserialize, Serialize};

use super::super::state::{Load, Part, Save, Slots, StateError};
use super::automaton::{Control, bit, bits};
use super::code::{Code, Scoping};
use super::partials::{NONE, Restored, Slot};
use super::scopes::Scope;
use super::state::State;
use crate::event::{Timestamp, Value};

#[derive(Serialize, Deserialize)]
struct Head {
    moment: u64,
    started: bool,
    scopes: u64,
    partials: u64,
}

type SavedScope<Key> = (Key, u64, bool, bool, u64);
type SavedPartial<Values> = ([u64; 9], i64, bool, Values);

impl State {
    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let head = Head {
            moment: self.moment,
            started: self.started,
            scopes: self.scopes.next,
            partials: self.partials.next,
        };
        save.put(Part::Holder, 0, &head)?;
        let (scopes, partials) = (self.scopes.len(), self.partials.slots());
        if save.is_whole() {
            (0..scopes).try_for_each(|slot| self.save_scope(slot, save).map(drop))?;
            return (0..partials).try_for_each(|slot| self.save_partial(slot, save).map(drop));
        }
        for slot in self.scopes.changed.take_below(scopes, Part::Scopes, save) {
            if !self.save_scope(slot, save)? {
                save.remove(Part::Scopes, slot as u64);
            }
        }
        let changed = &mut self.partials.changed;
        for slot in changed.take_below(partials, Part::Partials, save) {
            if !self.save_partial(slot, save)? {
                save.remove(Part::Partials, slot as u64);
            }
        }
        Ok(())
    }

    /// Gives the scope in a slot, if there is one.
    fn save_scope(&self, slot: usize, save: &mut Save<'_, '_>) -> Result<bool, StateError> {
        let Some(one) = self.scopes.live(slot) else {
            return Ok(false);
        };
        let scope: SavedScope<&[Value]> =
            (&one.key, one.number, one.armed, one.matched, one.events);
        save.give(Part::Scopes, slot as u64, &scope)?;
        Ok(true)
    }

    /// Gives the partial match in a slot, if there is one.
    fn save_partial(&self, number: usize, save: &mut Save<'_, '_>) -> Result<bool, StateError> {
        let (Some(one), Ok(slot)) = (self.partials.live(number), Slot::try_from(number)) else {
            return Ok(false);
        };
        let Control {
            active,
            taken,
            done,
            finished,
            armed,
        } = one.control;
        let scope = u64::from(one.scope);
        let standing = [
            scope,
            one.number,
            active,
            taken,
            done,
            finished,
            armed,
            one.birth,
            one.first_event,
        ];
        let values = self.partials.values(slot);
        let partial: SavedPartial<&[Value]> = (standing, one.first.0, one.begun, values);
        save.give(Part::Partials, number as u64, &partial)?;
        Ok(true)
    }

    /// Takes a state back, into one with nothing to remember.
    pub(super) fn load(&mut self, code: &Code, load: &Load<'_>) -> Result<(), StateError> {
        let Some(head) = load.one::<Head>(Part::Holder)? else {
            return Ok(());
        };
        (self.moment, self.started) = (head.moment, head.started);
        let scopes = self.load_scopes(code, load)?;
        self.scopes.next = head.scopes;
        let pieces = load.raw(Part::Partials);
        let last = load.raw(Part::Partials).next_back();
        let (count, slots) = (
            pieces.len(),
            Slots::of(pieces.len(), last.map(|last| last.0)),
        );
        self.partials.reserve(slots.count());
        let mut found = Vec::with_capacity(count);
        let partials = load.numbered::<SavedPartial<Vec<Value>>>(Part::Partials);
        for (place, one) in partials.enumerate() {
            let (number, one) = one?;
            let slot = slot_at(slots.slot(place, number))?;
            let one = restored(one, |scope| self.scope_of(&scopes, scope))?;
            if one.values.len() != code.registers.width() {
                return Err(StateError::Inconsistent("a match row has another width"));
            }
            let initial = code.registers.initial();
            self.partials.restore(slot, one, initial);
            found.push(slot);
        }
        self.partials.next = head.partials;
        self.link_all(code, found);
        self.partials.changed = slots.loaded();
        if scopes.is_some() {
            // They name scopes that have moved.
            self.partials.changed.note_first(slots.count());
        }
        Ok(())
    }

    /// Takes the scopes back. If they have moved, gives where they were, in order.
    fn load_scopes(
        &mut self,
        code: &Code,
        load: &Load<'_>,
    ) -> Result<Option<Vec<u64>>, StateError> {
        let pieces = load.raw(Part::Scopes);
        let last = load.raw(Part::Scopes).next_back();
        let slots = Slots::of(pieces.len(), last.map(|last| last.0));
        let single = code.scoping != Scoping::Keyed;
        if single && slots != Slots::Kept(1) {
            return Err(StateError::Inconsistent(
                "a pattern without keys has one scope",
            ));
        }
        self.scopes.clear(slots.count(), pieces.len());
        let scopes = load.numbered::<SavedScope<Vec<Value>>>(Part::Scopes);
        for (place, one) in scopes.enumerate() {
            let (saved, (key, number, armed, matched, events)) = one?;
            let mut scope = Scope::new(key, number);
            (scope.armed, scope.matched, scope.events) = (armed, matched, events);
            let slot = slot_at(slots.slot(place, saved))?;
            if scope.key.is_empty() != single || !self.scopes.restore(slot, scope) {
                return Err(StateError::Inconsistent("a key is none, or there twice"));
            }
        }
        self.scopes.changed = slots.loaded();
        Ok(match slots {
            Slots::Kept(_) => None,
            Slots::Moved { .. } => Some(pieces.map(|(saved, _)| saved).collect()),
        })
    }

    /// Where the scope lies now that was saved in a slot. `moved`: where those were that lie one
    /// after another now.
    fn scope_of(&self, moved: &Option<Vec<u64>>, saved: u64) -> Option<Slot> {
        let slot = match moved {
            None => usize::try_from(saved).ok()?,
            Some(moved) => moved.binary_search(&saved).ok()?,
        };
        self.scopes.live(slot)?;
        Slot::try_from(slot).ok()
    }

    /// Puts partial matches where they stood: in the orders of age, in lists, among those that
    /// wait.
    fn link_all(&mut self, code: &Code, slots: Vec<Slot>) {
        for slot in self.by_order(slots) {
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

    /// The same in their order, most of which their births tell.
    fn by_order(&self, slots: Vec<Slot>) -> impl Iterator<Item = Slot> + use<> {
        let keyed = slots.into_iter().map(|slot| {
            let partial = self.partials.at(slot);
            (partial.first == Timestamp::MAX, partial.birth, slot)
        });
        let mut keyed: Vec<(bool, u64, Slot)> = keyed.collect();
        keyed.sort_unstable_by(|a, b| {
            let births = (a.0, a.1).cmp(&(b.0, b.1));
            births.then_with(|| self.partials.order(a.2, b.2))
        });
        keyed.into_iter().map(|(.., slot)| slot)
    }
}

/// A partial match out of its piece; `scope_of` finds its scope.
fn restored(
    (standing, first, begun, values): SavedPartial<Vec<Value>>,
    scope_of: impl Fn(u64) -> Option<Slot>,
) -> Result<Restored, StateError> {
    let [
        scope,
        number,
        active,
        taken,
        done,
        finished,
        armed,
        birth,
        first_event,
    ] = standing;
    let scope = scope_of(scope).ok_or(StateError::Inconsistent("a partial match has no scope"))?;
    Ok(Restored {
        control: Control {
            active,
            taken,
            done,
            finished,
            armed,
        },
        scope,
        number,
        birth,
        first: Timestamp(first),
        first_event,
        begun,
        values,
    })
}

fn slot_at(place: usize) -> Result<Slot, StateError> {
    let slot = Slot::try_from(place).ok().filter(|slot| *slot != NONE);
    slot.ok_or(StateError::Inconsistent("a slot that there is not"))
}
