//! Rows of patterns of the plain kind: one row after another, each of one element, begun again by
//! each row that fits the first. A partial match then waits in one place, and what it waits for
//! next is known beforehand; nothing else is different from any other pattern.

use super::super::expr::Env;
use super::Matches;
use super::automaton::{Control, bit};
use super::code::Code;
use super::partials::Slot;
use super::state::State;
use crate::event::{Row, Stamp, Timestamp};

impl State {
    /// Rows, each with the elements that it fits by itself: at least one.
    pub(super) fn plain_rows<'r>(
        &mut self,
        code: &Code,
        rows: impl Iterator<Item = (Row<'r>, u64)>,
        to: &mut dyn Matches,
    ) {
        let Some(stands) = &code.plain else {
            return;
        };
        for (row, mask) in rows {
            self.expire(code, row.stamp.time);
            self.moment += 1;
            // From the last to the first, so that none takes the row twice.
            let mut rest = mask & !1;
            while rest != 0 {
                let element = 63 - rest.leading_zeros() as usize;
                rest &= !bit(element);
                if self.find_waiting(code, element, row) {
                    self.advance(code, stands, element, row, to);
                }
            }
            if mask & 1 != 0 {
                self.begin_plain(code, stands, row, to);
            }
        }
    }

    /// Finds those that wait for an element and can take the row; oldest first. They wait no
    /// longer. Whether there are any.
    #[inline]
    fn find_waiting(&mut self, code: &Code, element: usize, row: Row<'_>) -> bool {
        let (scratch, faults) = (&mut self.scratch, &self.faults);
        scratch.slots.clear();
        let (Some(asks), Some(place)) = (code.elements.get(element), code.places.get(element))
        else {
            return false;
        };
        let column = match asks.key.as_slice() {
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
                let key = &mut scratch.key;
                asks.key.iter().for_each(|expr| expr.push_to(&env, key));
                self.waiting.first(element, 0, place, key.iter())
            }
        };
        if asks.rest.is_none() {
            let (slots, partials) = (&mut scratch.slots, &mut self.partials);
            self.waiting.empty_list(link, slots, partials);
            let births = |slots: &[Slot]| slots.is_sorted_by_key(|slot| partials.at(*slot).birth);
            // Those that wait for the second element stand as they began.
            if element > 1 && !births(slots) {
                slots.sort_by_key(|slot| partials.at(*slot).birth);
            }
            return !slots.is_empty();
        }
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
        for slot in &scratch.slots {
            self.waiting.remove(*slot, !0, &mut self.partials);
        }
        !scratch.slots.is_empty()
    }

    /// The partial matches that were found take the row for this element.
    #[inline]
    fn advance(
        &mut self,
        code: &Code,
        stands: &[Control],
        element: usize,
        row: Row<'_>,
        to: &mut dyn Matches,
    ) {
        let slots = std::mem::take(&mut self.scratch.slots);
        let completes = element + 1 == stands.len();
        for slot in slots.iter().copied() {
            let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
            let values = self.partials.values_mut(slot);
            code.registers.take(element, row, values, &env);
            if completes {
                self.tell(code, slot, row.stamp, to);
                self.partials.end(slot);
                self.partials.close_with_values(slot);
            } else {
                self.wait_plainly(code, stands, slot, element, row.stamp.time);
            }
        }
        if completes {
            to.together(row.stamp);
        }
        self.scratch.slots = slots;
    }

    fn tell(&self, code: &Code, slot: Slot, at: Stamp, to: &mut dyn Matches) {
        let values = self.partials.values(slot);
        to.matched(values.get(..code.visible).unwrap_or_default(), at);
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
        self.partials.note(slot);
        let next = element + 1;
        self.compute_known(code, slot, next, time);
        let places = &code.places;
        self.waiting
            .add(slot, bit(next), places, &mut self.partials);
    }

    /// The row fits the first element by itself, and may begin a match.
    #[inline]
    fn begin_plain(&mut self, code: &Code, stands: &[Control], row: Row<'_>, to: &mut dyn Matches) {
        let initial = code.registers.initial();
        let slot = self.partials.open_unwritten(code.automaton.start, initial);
        self.partials.at_mut(slot).birth = self.moment;
        let fits = self.set_own_key(code, slot, row, 1)
            && self.checked_at_start(code, slot, row, 1) != 0
            && !self.is_full(code);
        if !fits {
            self.partials.close_with_values(slot);
            return;
        }
        let env = Env::new(row.values, row.stamp, row.stamp, &self.faults);
        let values = self.partials.values_mut(slot);
        code.registers.take(0, row, values, &env);
        if stands.len() == 1 {
            self.tell(code, slot, row.stamp, to);
            to.together(row.stamp);
            self.partials.close_with_values(slot);
            return;
        }
        self.partials.first_row(slot, row.stamp.time, 0);
        self.partials.begin(slot, None);
        self.wait_plainly(code, stands, slot, 0, row.stamp.time);
        self.trim(code, row.stamp.time);
    }
}
