//! Where partial matches wait: for each element a list, or one for each key where the element is
//! found by an equality, so that a row touches only those that can take it.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::automaton::{Elements, bits};
use super::partials::{NONE, Partials, Slot};
use crate::event::Value;

/// How those that wait for an element are told apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The columns of the match row that are its key.
    pub(super) columns: Vec<usize>,
    /// Whether each scope has its own.
    pub(super) scoped: bool,
}

/// The lists.
pub(super) struct Waiting {
    links: Vec<Link>,
    free: Vec<Slot>,
    /// Lists of elements without a key that all scopes share.
    plain: Vec<Ends>,
    keyed: HashTable<Bucket>,
    hasher: FixedState,
}

/// That a partial match waits for an element.
#[derive(Clone, Copy)]
struct Link {
    partial: Slot,
    element: u32,
    before: Slot,
    behind: Slot,
    /// The next place where the same partial match waits.
    next: Slot,
}

#[derive(Clone, Copy)]
struct Ends {
    first: Slot,
    last: Slot,
}

/// Those of one element, scope and key; never empty.
struct Bucket {
    hash: u64,
    element: u32,
    scope: Slot,
    ends: Ends,
}

const EMPTY: Ends = Ends {
    first: NONE,
    last: NONE,
};

impl Waiting {
    pub(super) fn new(elements: usize) -> Waiting {
        Waiting {
            links: Vec::new(),
            free: Vec::new(),
            plain: vec![EMPTY; elements],
            keyed: HashTable::new(),
            hasher: FixedState::default(),
        }
    }

    /// Lets a partial match wait for elements. One whose key has a NULL cannot be found, and waits
    /// nowhere.
    #[inline]
    pub(super) fn add(
        &mut self,
        slot: Slot,
        elements: Elements,
        places: &[Place],
        partials: &mut Partials,
    ) {
        for element in bits(elements) {
            let Some(place) = places.get(element) else {
                continue;
            };
            let (cells, width) = partials.cells();
            let key = |slot: Slot| row_key(cells, width, slot, &place.columns);
            if key(slot).any(Value::is_null) {
                continue;
            }
            let link = self.link(slot, element, partials.at(slot).link);
            if place.columns.is_empty() && !place.scoped {
                if let Some(ends) = self.plain.get_mut(element) {
                    push_back(&mut self.links, ends, link);
                }
            } else {
                let scope = if place.scoped {
                    partials.at(slot).scope
                } else {
                    NONE
                };
                let number = element_number(element);
                let hash = hash(&self.hasher, number, scope, key(slot));
                let links = &self.links;
                let same = |bucket: &Bucket| {
                    let other = links.get(bucket.ends.first as usize);
                    bucket.element == number
                        && bucket.scope == scope
                        && other.is_some_and(|other| are_alike(key(other.partial), key(slot)))
                };
                let entry = self.keyed.entry(hash, same, |bucket| bucket.hash);
                let mut bucket = entry.or_insert(Bucket {
                    hash,
                    element: number,
                    scope,
                    ends: EMPTY,
                });
                push_back(&mut self.links, &mut bucket.get_mut().ends, link);
            }
            partials.at_mut(slot).link = link;
        }
    }

    fn link(&mut self, partial: Slot, element: usize, next: Slot) -> Slot {
        let link = Link {
            partial,
            element: element_number(element),
            before: NONE,
            behind: NONE,
            next,
        };
        if let Some(slot) = self.free.pop() {
            if let Some(place) = self.links.get_mut(slot as usize) {
                *place = link;
            }
            return slot;
        }
        self.links.push(link);
        Slot::try_from(self.links.len() - 1).unwrap_or(NONE)
    }

    /// A partial match waits no longer, for any of `elements`.
    #[inline]
    pub(super) fn remove(
        &mut self,
        slot: Slot,
        elements: Elements,
        places: &[Place],
        partials: &mut Partials,
    ) {
        let mut at = partials.at(slot).link;
        let mut kept = NONE;
        while let Some(link) = self.links.get(at as usize).copied() {
            if elements & (1 << link.element) == 0 {
                if let Some(stays) = self.links.get_mut(at as usize) {
                    stays.next = kept;
                }
                kept = at;
            } else {
                self.unlink(at, link, places, partials);
                self.free.push(at);
            }
            at = link.next;
        }
        partials.at_mut(slot).link = kept;
    }

    fn unlink(&mut self, at: Slot, link: Link, places: &[Place], partials: &Partials) {
        if link.before != NONE && link.behind != NONE {
            detach(&mut self.links, &mut { EMPTY }, at, link);
            return;
        }
        let element = link.element as usize;
        let Some(place) = places.get(element) else {
            return;
        };
        if place.columns.is_empty() && !place.scoped {
            if let Some(ends) = self.plain.get_mut(element) {
                detach(&mut self.links, ends, at, link);
            }
            return;
        }
        let (cells, width) = partials.cells();
        let scope = if place.scoped {
            partials.at(link.partial).scope
        } else {
            NONE
        };
        let key = row_key(cells, width, link.partial, &place.columns);
        let hash = hash(&self.hasher, link.element, scope, key);
        let ours = |bucket: &Bucket| bucket.ends.first == at || bucket.ends.last == at;
        if let Ok(mut entry) = self.keyed.find_entry(hash, ours) {
            detach(&mut self.links, &mut entry.get_mut().ends, at, link);
            if entry.get().ends.first == NONE {
                entry.remove();
            }
        }
    }

    /// The first link of those that wait for an element, under the key of a row.
    #[inline]
    pub(super) fn first<'k>(
        &self,
        element: usize,
        scope: Slot,
        place: &Place,
        key: impl Iterator<Item = &'k Value> + Clone,
        partials: &Partials,
    ) -> Slot {
        if place.columns.is_empty() && !place.scoped {
            return self.plain.get(element).map_or(NONE, |ends| ends.first);
        }
        if key.clone().any(Value::is_null) {
            return NONE;
        }
        let scope = if place.scoped { scope } else { NONE };
        let number = element_number(element);
        let (cells, width) = partials.cells();
        let same = |bucket: &Bucket| {
            let other = self.links.get(bucket.ends.first as usize);
            bucket.element == number
                && bucket.scope == scope
                && other.is_some_and(|other| {
                    are_alike(
                        row_key(cells, width, other.partial, &place.columns),
                        key.clone(),
                    )
                })
        };
        let hash = hash(&self.hasher, number, scope, key.clone());
        self.keyed
            .find(hash, same)
            .map_or(NONE, |bucket| bucket.ends.first)
    }

    /// Who waits by a link, and the next link.
    #[inline]
    pub(super) fn at(&self, link: Slot) -> Option<(Slot, Slot)> {
        let link = self.links.get(link as usize)?;
        Some((link.partial, link.behind))
    }
}

#[inline]
fn element_number(element: usize) -> u32 {
    u32::try_from(element).unwrap_or(u32::MAX)
}

/// The key of a partial match.
#[inline]
fn row_key<'a>(
    cells: &'a [Value],
    width: usize,
    slot: Slot,
    columns: &'a [usize],
) -> impl Iterator<Item = &'a Value> + Clone {
    let start = slot as usize * width;
    columns
        .iter()
        .filter_map(move |column| cells.get(start + column))
}

fn push_back(links: &mut [Link], ends: &mut Ends, at: Slot) {
    let last = ends.last;
    if let Some(link) = links.get_mut(at as usize) {
        link.before = last;
    }
    match links.get_mut(last as usize) {
        Some(link) => link.behind = at,
        None => ends.first = at,
    }
    ends.last = at;
}

fn detach(links: &mut [Link], ends: &mut Ends, _at: Slot, link: Link) {
    match links.get_mut(link.before as usize) {
        Some(before) => before.behind = link.behind,
        None => ends.first = link.behind,
    }
    match links.get_mut(link.behind as usize) {
        Some(behind) => behind.before = link.before,
        None => ends.last = link.before,
    }
}

#[inline]
fn are_alike<'a, 'b>(
    a: impl Iterator<Item = &'a Value>,
    mut b: impl Iterator<Item = &'b Value>,
) -> bool {
    for a in a {
        let same = match (a, b.next()) {
            // The most common, without a call.
            (Value::Str(a), Some(Value::Str(b))) => a.as_bytes() == b.as_bytes(),
            (a, Some(b)) => a == b,
            (_, None) => false,
        };
        if !same {
            return false;
        }
    }
    true
}

#[inline]
fn hash<'a>(
    hasher: &FixedState,
    element: u32,
    scope: Slot,
    key: impl Iterator<Item = &'a Value>,
) -> u64 {
    let mut state = hasher.build_hasher();
    state.write_u64((u64::from(scope) << 32) | u64::from(element));
    for value in key {
        match value {
            // The most common, without a call.
            Value::Str(text) => state.write(text.as_bytes()),
            value => value.hash(&mut state),
        }
    }
    state.finish()
}
