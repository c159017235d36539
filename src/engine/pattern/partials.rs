//! Partial matches: a slab, each with a match row, and the orders in which they stand.
//!
//! Those that have taken a row stand in the order of their first rows, so that what has outlived
//! WITHIN stands in front. Where it is asked for, each key has the list of its own, too.

use std::cmp::Ordering;

use super::super::state::Changed;
use super::automaton::Control;
use crate::event::{Timestamp, Value};

/// The place of a partial match, of a link, of a scope.
pub(super) type Slot = u32;

/// No place.
pub(super) const NONE: Slot = Slot::MAX;

/// A partial match, without its match row.
#[derive(Clone, Debug)]
pub(super) struct Partial {
    pub(super) control: Control,
    /// What it belongs to: the key's scope.
    pub(super) scope: Slot,
    /// Tells it from all others; counts up.
    pub(super) number: u64,
    /// Counts up when the slot is given to another.
    pub(super) generation: u32,
    /// The number of the moment at which it began: of its first row, or before.
    pub(super) birth: u64,
    /// The time of its first row, once it has one.
    pub(super) first: Timestamp,
    /// How many rows its scope had had with its first one.
    pub(super) first_event: u64,
    /// Whether it is more than the wish to begin.
    pub(super) begun: bool,
    pub(super) live: bool,
    /// The first of the places where it waits.
    pub(super) link: Slot,
    /// Where it stands among all, and among those of its scope.
    by_age: Neighbours,
    in_scope: Neighbours,
}

/// A partial match as it was saved.
pub(super) struct Restored {
    pub(super) control: Control,
    pub(super) scope: Slot,
    pub(super) number: u64,
    pub(super) birth: u64,
    pub(super) first: Timestamp,
    pub(super) first_event: u64,
    pub(super) begun: bool,
    pub(super) values: Vec<Value>,
}

#[derive(Clone, Copy, Debug)]
struct Neighbours {
    older: Slot,
    newer: Slot,
    /// The list that it stands in.
    linked: bool,
}

const ALONE: Neighbours = Neighbours {
    older: NONE,
    newer: NONE,
    linked: false,
};

/// The ends of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) oldest: Slot,
    pub(super) newest: Slot,
}

impl Ends {
    pub(super) const EMPTY: Ends = Ends {
        oldest: NONE,
        newest: NONE,
    };
}

/// Which of the lists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Age,
    Scope,
}

/// All partial matches of a pattern.
pub(super) struct Partials {
    slots: Vec<Partial>,
    values: Vec<Value>,
    width: usize,
    /// Where the columns lie that say when parts were done.
    trail: std::ops::Range<usize>,
    free: Vec<Slot>,
    /// The number of the next one.
    pub(super) next: u64,
    /// How many have begun.
    pub(super) begun: u64,
    /// Those that have a row, by age.
    pub(super) aged: Ends,
    /// Those that have begun without one.
    pub(super) rowless: Ends,
    /// What of them is to be saved, by slot.
    pub(super) changed: Changed,
}

impl Partial {
    /// One that stands nowhere yet.
    fn new(scope: Slot, control: Control, number: u64, generation: u32) -> Partial {
        Partial {
            control,
            scope,
            number,
            generation,
            birth: 0,
            first: Timestamp::MAX,
            first_event: 0,
            begun: false,
            live: true,
            link: NONE,
            by_age: ALONE,
            in_scope: ALONE,
        }
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "slots are given out here, and a wrong one is a bug"
)]
impl Partials {
    pub(super) fn new(width: usize, trail: std::ops::Range<usize>) -> Partials {
        Partials {
            slots: Vec::new(),
            values: Vec::new(),
            width,
            trail,
            free: Vec::new(),
            next: 0,
            begun: 0,
            aged: Ends::EMPTY,
            rowless: Ends::EMPTY,
            changed: Changed::default(),
        }
    }

    /// One has changed, in what is saved of it. New ones and those that end are noted here.
    #[inline]
    pub(super) fn note(&mut self, slot: Slot) {
        self.changed.note(slot as usize);
    }

    #[inline]
    pub(super) fn at(&self, slot: Slot) -> &Partial {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, slot: Slot) -> &mut Partial {
        &mut self.slots[slot as usize]
    }

    #[inline]
    pub(super) fn values(&self, slot: Slot) -> &[Value] {
        let start = slot as usize * self.width;
        &self.values[start..start + self.width]
    }

    #[inline]
    pub(super) fn values_mut(&mut self, slot: Slot) -> &mut [Value] {
        let start = slot as usize * self.width;
        &mut self.values[start..start + self.width]
    }

    /// A new one, which stands nowhere yet.
    #[inline]
    pub(super) fn open(&mut self, scope: Slot, control: Control, initial: &[Value]) -> Slot {
        let number = self.next;
        self.next += 1;
        if let Some(slot) = self.free.pop() {
            let place = self.at_mut(slot);
            let generation = place.generation.wrapping_add(1);
            *place = Partial::new(scope, control, number, generation);
            let values = self.values_mut(slot).iter_mut();
            values
                .zip(initial)
                .for_each(|(value, first)| value.assign(first));
            self.note(slot);
            return slot;
        }
        let slot = Slot::try_from(self.slots.len()).unwrap_or(NONE);
        self.slots.push(Partial::new(scope, control, number, 0));
        self.values.extend_from_slice(initial);
        self.note(slot);
        slot
    }

    /// Like [`Partials::open`], with values that the pattern writes before it reads them. It is to
    /// be noted when it has come to something.
    #[inline]
    pub(super) fn open_unwritten(&mut self, control: Control, initial: &[Value]) -> Slot {
        let Some(slot) = self.free.pop() else {
            return self.open(0, control, initial);
        };
        let partial = self.at_mut(slot);
        partial.control = control;
        partial.generation = partial.generation.wrapping_add(1);
        partial.first = Timestamp::MAX;
        (partial.begun, partial.live) = (false, true);
        debug_assert_eq!(partial.link, NONE, "it waits nowhere");
        slot
    }

    /// A copy of another one, which stands nowhere yet.
    pub(super) fn copy(&mut self, of: Slot) -> Slot {
        let (scope, control) = (self.at(of).scope, self.at(of).control);
        let values = self.values(of).to_vec();
        let slot = self.open(scope, control, &values);
        let Partial {
            birth,
            first,
            first_event,
            ..
        } = *self.at(of);
        let copy = self.at_mut(slot);
        (copy.birth, copy.first, copy.first_event) = (birth, first, first_event);
        slot
    }

    /// Gives a slot free that stands nowhere any more.
    #[inline]
    pub(super) fn close(&mut self, slot: Slot) {
        self.values_mut(slot).iter_mut().for_each(Value::clear);
        self.close_with_values(slot);
    }

    /// The same, and leaves the values until the slot is given to another.
    #[inline]
    pub(super) fn close_with_values(&mut self, slot: Slot) {
        self.at_mut(slot).live = false;
        self.note(slot);
        self.free.push(slot);
    }

    /// Makes room for as many slots, in memory that is empty.
    pub(super) fn reserve(&mut self, slots: usize) {
        self.slots.reserve_exact(slots);
        self.values.reserve_exact(slots.saturating_mul(self.width));
    }

    /// Takes one back, into a slot behind all others. It stands nowhere yet. The slots before it
    /// are free; `initial` is what a new one has.
    pub(super) fn restore(&mut self, slot: Slot, one: Restored, initial: &[Value]) {
        debug_assert_eq!(one.values.len(), self.width, "a match row");
        while self.slots.len() < slot as usize {
            self.free
                .push(Slot::try_from(self.slots.len()).unwrap_or(NONE));
            let mut free = Partial::new(0, one.control, 0, 0);
            free.live = false;
            self.slots.push(free);
            self.values.extend_from_slice(initial);
        }
        let mut partial = Partial::new(one.scope, one.control, one.number, 0);
        (partial.birth, partial.begun) = (one.birth, one.begun);
        (partial.first, partial.first_event) = (one.first, one.first_event);
        self.slots.push(partial);
        self.values.extend(one.values);
    }

    /// Which of two comes first when both are told: the one with the older first row; of those with
    /// the same, the one whose parts were done first, and then the one that was there first. One
    /// without a row is younger than all.
    pub(super) fn order(&self, a: Slot, b: Slot) -> Ordering {
        let (x, y) = (self.at(a), self.at(b));
        let rowless = |one: &Partial| one.first == Timestamp::MAX;
        let done = |slot: Slot| {
            let values = &self.values(slot)[self.trail.clone()];
            values
                .iter()
                .map(|value| value.as_int().unwrap_or(i64::MAX))
        };
        let births = (rowless(x), x.birth).cmp(&(rowless(y), y.birth));
        births
            .then_with(|| done(a).cmp(done(b)))
            .then(x.number.cmp(&y.number))
    }

    fn neighbours(&mut self, slot: Slot, order: Order) -> &mut Neighbours {
        let partial = self.at_mut(slot);
        match order {
            Order::Age => &mut partial.by_age,
            Order::Scope => &mut partial.in_scope,
        }
    }

    /// Puts one into a list, behind another; behind the last when none is named.
    pub(super) fn attach(
        &mut self,
        ends: &mut Ends,
        order: Order,
        slot: Slot,
        behind: Option<Slot>,
    ) {
        let older = behind.unwrap_or(ends.newest);
        let newer = if older == NONE {
            if behind.is_some() { ends.oldest } else { NONE }
        } else {
            self.neighbours(older, order).newer
        };
        *self.neighbours(slot, order) = Neighbours {
            older,
            newer,
            linked: true,
        };
        if older == NONE {
            ends.oldest = slot;
        } else {
            self.neighbours(older, order).newer = slot;
        }
        if newer == NONE {
            ends.newest = slot;
        } else {
            self.neighbours(newer, order).older = slot;
        }
    }

    /// Takes one out of its list.
    pub(super) fn detach(&mut self, ends: &mut Ends, order: Order, slot: Slot) {
        let Neighbours {
            older,
            newer,
            linked,
        } = std::mem::replace(self.neighbours(slot, order), ALONE);
        if !linked {
            return;
        }
        if older == NONE {
            ends.oldest = newer;
        } else {
            self.neighbours(older, order).newer = newer;
        }
        if newer == NONE {
            ends.newest = older;
        } else {
            self.neighbours(newer, order).older = older;
        }
    }

    /// The next newer one in a list.
    #[inline]
    pub(super) fn newer(&self, order: Order, slot: Slot) -> Slot {
        let partial = self.at(slot);
        match order {
            Order::Age => partial.by_age.newer,
            Order::Scope => partial.in_scope.newer,
        }
    }

    /// It begins: stands among those without a row until it has one. `behind`: the one that it is
    /// a copy of.
    pub(super) fn begin(&mut self, slot: Slot, behind: Option<Slot>) {
        let with_row = self.at(slot).first != Timestamp::MAX;
        self.at_mut(slot).begun = true;
        self.begun += 1;
        let mut ends = if with_row { self.aged } else { self.rowless };
        let behind = behind.filter(|behind| self.at(*behind).by_age.linked);
        let behind = behind.filter(|behind| (self.at(*behind).first != Timestamp::MAX) == with_row);
        self.attach(&mut ends, Order::Age, slot, behind);
        *(if with_row {
            &mut self.aged
        } else {
            &mut self.rowless
        }) = ends;
    }

    /// It has taken its first row.
    pub(super) fn first_row(&mut self, slot: Slot, time: Timestamp, event: u64) {
        let partial = self.at_mut(slot);
        (partial.first, partial.first_event) = (time, event);
        if !partial.begun {
            return;
        }
        let mut ends = self.rowless;
        self.detach(&mut ends, Order::Age, slot);
        self.rowless = ends;
        let mut ends = self.aged;
        self.attach(&mut ends, Order::Age, slot, None);
        self.aged = ends;
    }

    /// Its first row is another one.
    pub(super) fn stand(&mut self, slot: Slot, birth: u64, first: Timestamp, event: u64) {
        let begun = self.at(slot).begun;
        self.end(slot);
        let partial = self.at_mut(slot);
        (partial.birth, partial.first, partial.first_event) = (birth, first, event);
        if !begun {
            return;
        }
        self.begun += 1;
        let with_row = first != Timestamp::MAX;
        let mut ends = if with_row { self.aged } else { self.rowless };
        self.put_in_order(&mut ends, Order::Age, slot);
        *(if with_row {
            &mut self.aged
        } else {
            &mut self.rowless
        }) = ends;
    }

    /// Puts one where its order says, in a list in which it may stand.
    pub(super) fn put_in_order(&mut self, ends: &mut Ends, order: Order, slot: Slot) {
        self.detach(ends, order, slot);
        let mut behind = ends.newest;
        while behind != NONE && self.order(behind, slot).is_gt() {
            behind = self.neighbours(behind, order).older;
        }
        self.attach(ends, order, slot, Some(behind));
    }

    /// It ends.
    pub(super) fn end(&mut self, slot: Slot) {
        if !self.at(slot).begun {
            return;
        }
        self.begun -= 1;
        let with_row = self.at(slot).first != Timestamp::MAX;
        let mut ends = if with_row { self.aged } else { self.rowless };
        self.detach(&mut ends, Order::Age, slot);
        *(if with_row {
            &mut self.aged
        } else {
            &mut self.rowless
        }) = ends;
    }

    /// The one that began first of all.
    pub(super) fn oldest(&self) -> Option<Slot> {
        let ends = [self.aged.oldest, self.rowless.oldest];
        let both = ends.into_iter().filter(|slot| *slot != NONE);
        both.min_by_key(|slot| self.at(*slot).birth)
    }

    /// The one in a slot, if there is one.
    pub(super) fn live(&self, slot: usize) -> Option<&Partial> {
        self.slots.get(slot).filter(|partial| partial.live)
    }

    /// How many slots there are, with those that are free.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }
}
