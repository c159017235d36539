//! Numbers for what comes and goes in any order: small, since they are used again, and its own for
//! as long as a thing is there, also when the state is taken back. So each thing can be a piece of
//! the state, and a saving gives those that have come, changed or gone.

use super::state::{Changed, Part, Save, Slots, StateError};

/// Things by slot.
pub(super) struct Slab<T> {
    things: Vec<Option<T>>,
    free: Vec<usize>,
    changed: Changed,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            things: Vec::new(),
            free: Vec::new(),
            changed: Changed::default(),
        }
    }
}

impl<T> Slab<T> {
    pub(super) fn put(&mut self, thing: T) -> usize {
        let slot = self.free.pop().unwrap_or(self.things.len());
        match self.things.get_mut(slot) {
            Some(place) => *place = Some(thing),
            None => self.things.push(Some(thing)),
        }
        self.changed.note(slot);
        slot
    }

    pub(super) fn get(&self, slot: usize) -> Option<&T> {
        self.things.get(slot)?.as_ref()
    }

    /// All things with their slots, in the order of these.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let things = self.things.iter().enumerate();
        things.filter_map(|(slot, thing)| Some((slot, thing.as_ref()?)))
    }

    /// The thing, or what it stands for, has changed.
    pub(super) fn note(&mut self, slot: usize) {
        self.changed.note(slot);
    }

    /// Puts another thing in the place of one.
    pub(super) fn change(&mut self, slot: usize, thing: T) {
        if let Some(Some(place)) = self.things.get_mut(slot) {
            *place = thing;
            self.changed.note(slot);
        }
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<T> {
        let thing = self.things.get_mut(slot)?.take()?;
        self.changed.note(slot);
        self.free.push(slot);
        if self.free.len() == self.things.len() {
            // What has gone stays noted.
            (self.things, self.free) = (Vec::new(), Vec::new());
        }
        Some(thing)
    }

    /// Saves things, of which `give` gives the piece with a number.
    pub(super) fn save(
        &mut self,
        part: Part,
        save: &mut Save<'_, '_>,
        mut give: impl FnMut(&mut Save<'_, '_>, u64, &T) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        if save.is_whole() {
            let mut all = self.iter();
            return all.try_for_each(|(slot, thing)| give(save, slot as u64, thing));
        }
        for slot in self.changed.take_below(self.things.len(), part, save) {
            let number = slot as u64;
            match self.get(slot) {
                Some(thing) => give(save, number, thing)?,
                None => save.remove(part, number),
            }
        }
        Ok(())
    }

    /// Takes things back, each with its number, in the order of these. They stand in the same order
    /// then, mostly at the same slots.
    pub(super) fn load(
        &mut self,
        things: impl Iterator<Item = Result<(u64, T), StateError>>,
    ) -> Result<(), StateError> {
        let things = things.collect::<Result<Vec<(u64, T)>, StateError>>()?;
        let last = things.last().map(|(number, _)| *number);
        let slots = Slots::of(things.len(), last);
        *self = Slab {
            things: Vec::with_capacity(slots.count()),
            free: Vec::new(),
            changed: slots.loaded(),
        };
        for (place, (number, thing)) in things.into_iter().enumerate() {
            let slot = slots.slot(place, number);
            self.free.extend(self.things.len()..slot);
            self.things.resize_with(slot, || None);
            self.things.push(Some(thing));
        }
        // Low ones are used first.
        self.free.reverse();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Load, Saver, Saving, state_of};
    use super::*;
    use crate::event::{GrowingState, StateChanges};

    fn save_to(slab: &mut Slab<u64>, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        slab.save(Part::WindowRows, save, |save, number, thing| {
            save.give(Part::WindowRows, number, thing)
        })
    }

    fn save(slab: &mut Slab<u64>, number: u64, saving: Saving) -> StateChanges {
        let mut changes = StateChanges::new();
        let mut saver = Saver::new(saving, number, &mut changes);
        save_to(slab, &mut saver.of(1)).unwrap();
        changes
    }

    #[test]
    fn what_comes_and_goes_is_saved_in_steps_and_keeps_its_slot() {
        let mut slab = Slab::default();
        let mut grown = GrowingState::default();
        let mut there: Vec<(usize, u64)> = Vec::new();
        let mut random = 7_u64;
        for step in 1..600_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let some = usize::try_from(random >> 40).unwrap();
            // More comes at first, then more goes, until nothing is left.
            let comes = if step % 300 < 150 { 3 } else { 1 };
            match some % 4 {
                0 if !there.is_empty() => {
                    let which = some % there.len();
                    let (slot, thing) = &mut there[which];
                    *thing = step;
                    slab.change(*slot, step);
                }
                kind if kind < comes || there.is_empty() => there.push((slab.put(step), step)),
                _ => {
                    let (slot, thing) = there.swap_remove(some % there.len());
                    assert_eq!(slab.remove(slot), Some(thing));
                }
            }
            if step % 3 == 0 {
                let pieces_max = 64;
                grown.apply(&save(&mut slab, step * 2, Saving::Ahead { pieces_max }));
            }
            if step % 4 > 0 {
                continue;
            }
            grown.apply(&save(&mut slab, step * 2 + 1, Saving::Changed));
            let state = state_of(1, |save| save_to(&mut slab, save));
            assert_eq!(grown.state(), state, "after {step} steps");
            if step % 8 == 0 {
                let load = Load::all_of(&state).remove(&1).unwrap_or_default();
                slab = Slab::default();
                slab.load(load.numbered(Part::WindowRows)).unwrap();
                // In the same order, though few that lay far apart are at other slots now.
                there.sort_unstable();
                let things = there.iter().map(|(_, thing)| *thing);
                let all: Vec<(usize, u64)> = slab.iter().map(|(s, t)| (s, *t)).collect();
                assert!(all.iter().map(|(_, thing)| *thing).eq(things));
                there = all;
            }
        }
    }

    #[test]
    fn numbers_are_used_again() {
        let mut slab = Slab::default();
        (0..100).for_each(|thing| assert_eq!(slab.put(thing), usize::try_from(thing).unwrap()));
        assert_eq!(slab.remove(3), Some(3));
        assert_eq!((slab.put(9), slab.get(3)), (3, Some(&9)));
        (0..100).for_each(|slot| assert!(slab.remove(slot).is_some()));
        assert_eq!((slab.put(1), slab.remove(7)), (0, None));
    }

    #[test]
    fn few_that_lie_far_apart_come_together() {
        let mut slab = Slab::default();
        (0..1_000).for_each(|thing| assert_eq!(slab.put(thing), usize::try_from(thing).unwrap()));
        (0..1_000)
            .filter(|slot| slot % 400 != 399)
            .for_each(|slot| assert!(slab.remove(slot).is_some()));
        let mut grown = GrowingState::default();
        grown.apply(&save(&mut slab, 1, Saving::Changed));
        let state = grown.state();
        let load = Load::all_of(&state).remove(&1).unwrap_or_default();
        slab.load(load.numbered(Part::WindowRows)).unwrap();
        assert!(slab.iter().eq([(0, &399), (1, &799)]));
        grown.apply(&save(&mut slab, 2, Saving::Changed));
        assert_eq!(grown.state(), state_of(1, |save| save_to(&mut slab, save)));
    }
}
