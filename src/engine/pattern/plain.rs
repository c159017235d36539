//! Rows of patterns of the plain kind: one row after another, each of one element, begun again by
//! each row that fits the first. A partial match then waits in one place, and what it waits for
//! next is known beforehand; nothing else is different from any other pattern.

use super::super::expr::Env;
use super::automaton::{Control, bit};
use super::code::Code;
use super::partials::{NONE, Slot};
use super::state::State;
use crate::event::{Row, Timestamp, Value};

impl State {
    /// A row that fits the elements of `mask` by itself. `stands`: how far a partial match has come,
    /// by the last element that has its row.
    pub(super) fn plain_row(&mut self, code: &Code, stands: &[Control], row: Row<'_>, mask: u64) {
        self.expire(code, row.stamp.time);
        self.moment += 1;
        // From the last to the first, so that none takes the row twice.
        let mut rest = mask & !1;
        while rest != 0 {
            let element = 63 - rest.leading_zeros() as usize;
            rest &= !bit(element);
            self.find_waiting(code, element, row);
            if self.scratch.slots.is_empty() {
                continue;
            }
            let slots = std::mem::take(&mut self.scratch.slots);
            for slot in &slots {
                self.advance(code, stands, *slot, element, row);
            }
            self.scratch.slots = slots;
        }
        if mask & 1 != 0 {
            self.begin_plain(code, stands, row);
            self.trim(code, row.stamp.time);
        }
    }

    /// Finds those that wait for an element and can take the row; oldest first.
    #[inline]
    fn find_waiting(&mut self, code: &Code, element: usize, row: Row<'_>) {
        let (scratch, faults) = (&mut self.scratch, &self.faults);
        scratch.slots.clear();
        let (Some(asks), Some(place)) = (code.elements.get(element), code.places.get(element))
        else {
            return;
        };
        let single = asks.key.as_slice();
        let column = match single {
            [key] => key.column().and_then(|column| row.values.get(column)),
            _ => None,
        };
        let mut link = match column {
            // The most common, without a copy.
            Some(value) => self
                .waiting
                .first(element, 0, place, std::iter::once(value)),
            None => {
                scratch.key.clear();
                let env = Env::new(row.values, row.stamp, row.stamp, faults);
                asks.key
                    .iter()
                    .for_each(|expr| expr.push_to(&env, &mut scratch.key));
                self.waiting.first(element, 0, place, scratch.key.iter())
            }
        };
        let mut ordered = true;
        let mut last = 0;
        while let Some((slot, next)) = self.waiting.at(link) {
            link = next;
            let holds = asks.rest.as_ref().is_none_or(|rest| {
                rest.holds(self.partials.values(slot), row, &mut scratch.row, faults)
            });
            if holds {
                let birth = self.partials.at(slot).birth;
                ordered &= last <= birth;
                last = birth;
                scratch.slots.push(slot);
            }
        }
        if !ordered {
            let partials = &self.partials;
            scratch.slots.sort_by_key(|slot| partials.at(*slot).birth);
        }
    }

    /// A partial match takes the row for this element.
    #[inline]
    fn advance(
        &mut self,
        code: &Code,
        stands: &[Control],
        slot: Slot,
        element: usize,
        row: Row<'_>,
    ) {
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        code.registers
            .take(element, row, self.partials.values_mut(slot), &env);
        self.waiting.remove(slot, !0, &mut self.partials);
        if element + 1 == stands.len() {
            self.give(code, slot, row.stamp);
            self.partials.end(slot);
            self.partials.close(slot);
        } else {
            self.wait_plainly(code, stands, slot, element, row.stamp.time);
        }
    }

    /// An element has its row: the next one is waited for.
    #[inline]
    fn wait_plainly(
        &mut self,
        code: &Code,
        stands: &[Control],
        slot: Slot,
        element: usize,
        time: Timestamp,
    ) {
        if let Some(control) = stands.get(element) {
            self.partials.at_mut(slot).control = *control;
        }
        let next = element + 1;
        self.compute_known(code, slot, next, time);
        self.waiting
            .add(slot, bit(next), &code.places, &mut self.partials);
    }

    /// The row fits the first element by itself, and may begin a match.
    fn begin_plain(&mut self, code: &Code, stands: &[Control], row: Row<'_>) {
        let slot = self.open(code, 0);
        let fits = self.set_own_key(code, slot, row, 1)
            && self.checked_at_start(code, slot, row, 1) != 0
            && !self.is_full(code);
        if !fits {
            self.partials.close(slot);
            return;
        }
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        let values: &mut [Value] = self.partials.values_mut(slot);
        code.registers.take(0, row, values, &env);
        debug_assert_ne!(slot, NONE, "a slot was opened");
        if stands.len() == 1 {
            self.give(code, slot, row.stamp);
            self.partials.close(slot);
            return;
        }
        self.partials.first_row(slot, row.stamp.time, 0);
        self.partials.begin(slot, None);
        self.wait_plainly(code, stands, slot, 0, row.stamp.time);
    }
}
