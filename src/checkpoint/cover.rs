//! Which places have been emptied, and when last.

use std::collections::BTreeMap;

use super::frame::number_of;
use crate::event::Place;

/// Ranges of places that do not overlap, each with the age of what emptied it last; a greater age
/// is younger.
#[derive(Clone, Debug, Default)]
pub(super) struct Cover {
    /// By the first place: the last place and the age.
    ranges: BTreeMap<u128, (u128, usize)>,
}

impl Cover {
    /// Notes that everything from `first` to `last` was emptied at `age`, which is not below any
    /// age given before.
    pub(super) fn empty(&mut self, first: Place, last: Place, age: usize) {
        let (first, last) = (number_of(first), number_of(last));
        if first > last {
            return;
        }
        // What lies beyond the ends stays as old as it was.
        let straddles = self.ranges.range_mut(..first).next_back();
        if let Some((_, (end, old))) = straddles.filter(|(_, (end, _))| *end >= first) {
            let beyond = (*end, *old);
            *end = first.saturating_sub(1);
            if beyond.0 > last {
                self.ranges.insert(last.saturating_add(1), beyond);
            }
        }
        while let Some((start, (end, old))) = self
            .ranges
            .range(first..=last)
            .next()
            .map(|(start, range)| (*start, *range))
        {
            self.ranges.remove(&start);
            if end > last {
                self.ranges.insert(last.saturating_add(1), (end, old));
            }
        }
        self.ranges.insert(first, (last, age));
    }

    /// Whether something younger than `age` emptied `place`.
    pub(super) fn hides(&self, place: Place, age: usize) -> bool {
        let place = number_of(place);
        let range = self.ranges.range(..=place).next_back();
        range.is_some_and(|(_, (last, younger))| place <= *last && *younger > age)
    }

    /// Everything that was emptied, in order; ranges that touch are one.
    pub(super) fn ranges(&self) -> Vec<(Place, Place)> {
        let mut joined: Vec<(u128, u128)> = Vec::new();
        for (first, (last, _)) in &self.ranges {
            match joined.last_mut() {
                Some((_, end)) if end.saturating_add(1) == *first => *end = *last,
                Some(_) | None => joined.push((*first, *last)),
            }
        }
        let place = |number: u128| Place {
            operator: u64::try_from(number >> 64).unwrap_or(u64::MAX),
            key: u64::try_from(number & u128::from(u64::MAX)).unwrap_or(u64::MAX),
        };
        let joined = joined.into_iter();
        joined
            .map(|(first, last)| (place(first), place(last)))
            .collect()
    }
}
