//! Lists through rows: a row is taken out of the middle as cheaply as from an end.

use super::Slot;

/// Where no row is.
pub(super) const NONE: Slot = Slot::MAX;
/// The number of what stands nowhere.
const NOWHERE: u64 = u64::MAX;

/// The neighbours of a row in a list.
#[derive(Clone, Copy)]
pub(super) struct Link {
    before: Slot,
    behind: Slot,
}

const UNLINKED: Link = Link {
    before: NONE,
    behind: NONE,
};

/// The ends of a list whose links lie by slot.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) first: Slot,
    pub(super) last: Slot,
}

impl Ends {
    pub(super) const EMPTY: Ends = Ends {
        first: NONE,
        last: NONE,
    };

    /// Puts a row at the end.
    #[inline]
    pub(super) fn attach(&mut self, links: &mut Vec<Link>, slot: Slot) {
        let place = slot as usize;
        if links.len() <= place {
            links.resize(place + 1, UNLINKED);
        }
        if let Some(link) = links.get_mut(place) {
            *link = Link {
                before: self.last,
                behind: NONE,
            };
        }
        match links.get_mut(self.last as usize) {
            Some(last) => last.behind = slot,
            None => self.first = slot,
        }
        self.last = slot;
    }

    /// Takes a row out.
    pub(super) fn detach(&mut self, links: &mut [Link], slot: Slot) {
        let Some(link) = links.get_mut(slot as usize) else {
            return;
        };
        let Link { before, behind } = std::mem::replace(link, UNLINKED);
        match links.get_mut(before as usize) {
            Some(link) => link.behind = behind,
            None => self.first = behind,
        }
        match links.get_mut(behind as usize) {
            Some(link) => link.before = before,
            None => self.last = before,
        }
    }
}

/// The row behind another one.
#[inline]
pub(super) fn behind(links: &[Link], slot: Slot) -> Slot {
    links.get(slot as usize).map_or(NONE, |link| link.behind)
}

/// Whether a row of a list stands neither at its start nor at its end.
pub(super) fn is_inside(links: &[Link], slot: Slot) -> bool {
    links
        .get(slot as usize)
        .is_some_and(|link| link.before != NONE && link.behind != NONE)
}

/// All rows in an order of their own: each stands there with the number with which it was put at
/// the end. Numbers only grow.
pub(super) struct Chain {
    links: Vec<Link>,
    numbers: Vec<u64>,
    ends: Ends,
}

impl Chain {
    pub(super) fn new() -> Chain {
        Chain {
            links: Vec::new(),
            numbers: Vec::new(),
            ends: Ends::EMPTY,
        }
    }

    /// Puts a row that is not in it at the end.
    #[inline]
    pub(super) fn push(&mut self, slot: Slot, number: u64) {
        self.ends.attach(&mut self.links, slot);
        let place = slot as usize;
        if self.numbers.len() <= place {
            self.numbers.resize(place + 1, NOWHERE);
        }
        if let Some(place) = self.numbers.get_mut(place) {
            *place = number;
        }
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.ends.detach(&mut self.links, slot);
        if let Some(number) = self.numbers.get_mut(slot as usize) {
            *number = NOWHERE;
        }
    }

    /// Whether there is a row in a slot.
    pub(super) fn has(&self, slot: Slot) -> bool {
        let number = self.numbers.get(slot as usize);
        number.is_some_and(|number| *number != NOWHERE)
    }

    /// Makes room for so many slots.
    pub(super) fn reserve(&mut self, slots: usize) {
        self.links.resize(slots, UNLINKED);
        self.numbers.resize(slots, NOWHERE);
    }

    #[inline]
    pub(super) fn number(&self, slot: Slot) -> u64 {
        self.numbers.get(slot as usize).copied().unwrap_or(0)
    }

    pub(super) fn first(&self) -> Option<Slot> {
        Some(self.ends.first).filter(|slot| *slot != NONE)
    }

    /// The rows in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Slot> {
        std::iter::successors(self.first(), |slot| {
            Some(behind(&self.links, *slot)).filter(|slot| *slot != NONE)
        })
    }
}
