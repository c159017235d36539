//! Where partial matches wait: for each element a list, or one for each key where the element is
//! found by an equality, so that a row touches only those that can take it.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::automaton::{Elements, bit, bits};
use super::partials::{NONE, Partials, Slot};
use crate::event::Value;

/// So many empty lists may stay, besides three for each that is not: who waits for a key will
/// mostly wait for it again.
const EMPTY_MAX: usize = if cfg!(test) { 2 } else { 64 };

/// How those that wait for an element are told apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The columns of the match row that are its key.
    pub(super) columns: Vec<usize>,
    /// Whether each scope has its own.
    pub(super) scoped: bool,
}

impl Place {
    /// Whether there is one list for all.
    fn is_single(&self) -> bool {
        self.columns.is_empty() && !self.scoped
    }
}

/// The lists.
pub(super) struct Waiting {
    links: Vec<Link>,
    free_links: Vec<Slot>,
    /// One for each element that has a single list, by element; then those of keys.
    lists: Vec<List>,
    free_lists: Vec<Slot>,
    by_key: HashTable<Slot>,
    /// How many lists of keys are empty.
    empty: usize,
    /// How many wait for each element, and the elements that any waits for.
    counts: Vec<u64>,
    awaited: Elements,
    hasher: FixedState,
}

/// That a partial match waits for an element.
#[derive(Clone, Copy)]
struct Link {
    partial: Slot,
    element: u32,
    list: Slot,
    before: Slot,
    behind: Slot,
    /// The next place where the same partial match waits.
    next: Slot,
}

/// Those that wait for an element, of one key and scope.
struct List {
    first: Slot,
    last: Slot,
    element: u32,
    scope: Slot,
    hash: u64,
    single: bool,
    /// The first value of the key, which is mostly the only one, and the others.
    key: Value,
    more: Vec<Value>,
}

impl List {
    fn new(element: u32, scope: Slot, hash: u64, mut key: impl Iterator<Item = Value>) -> List {
        List {
            first: NONE,
            last: NONE,
            element,
            scope,
            hash,
            single: false,
            key: key.next().unwrap_or_default(),
            more: key.collect(),
        }
    }

    /// The one for all keys of an element.
    fn single(element: u32) -> List {
        List {
            single: true,
            ..List::new(element, NONE, 0, std::iter::empty())
        }
    }

    #[inline]
    fn has_key<'k>(&self, mut key: impl Iterator<Item = &'k Value>) -> bool {
        key.next().is_none_or(|first| are_alike(&self.key, first))
            && key.zip(&self.more).all(|(a, b)| are_alike(a, b))
    }
}

impl Waiting {
    pub(super) fn new(elements: usize) -> Waiting {
        let single = |element| List::single(element_number(element));
        Waiting {
            links: Vec::new(),
            free_links: Vec::new(),
            lists: (0..elements).map(single).collect(),
            free_lists: Vec::new(),
            by_key: HashTable::new(),
            empty: 0,
            counts: vec![0; elements],
            awaited: 0,
            hasher: FixedState::default(),
        }
    }

    /// The elements that any partial match waits for.
    #[inline]
    pub(super) fn awaited(&self) -> Elements {
        self.awaited
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
            let list = if place.is_single() {
                element_number(element)
            } else {
                let values = partials.values(slot);
                let scope = if place.scoped {
                    partials.at(slot).scope
                } else {
                    NONE
                };
                let list = match place.columns.as_slice() {
                    // The most common.
                    [column] => {
                        let key = values.get(*column).into_iter();
                        self.list_for(element, scope, key)
                    }
                    columns => {
                        let key = columns.iter().filter_map(|column| values.get(*column));
                        self.list_for(element, scope, key)
                    }
                };
                match list {
                    Some(list) => list,
                    None => continue,
                }
            };
            let link = self.link(slot, element, list, partials.at(slot).link);
            partials.at_mut(slot).link = link;
        }
    }

    /// The list of a key, which is made if there is none. None when a value is NULL.
    #[inline]
    fn list_for<'k>(
        &mut self,
        element: usize,
        scope: Slot,
        key: impl Iterator<Item = &'k Value> + Clone,
    ) -> Option<Slot> {
        if key.clone().any(Value::is_null) {
            return None;
        }
        let number = element_number(element);
        let hash = hash(&self.hasher, number, scope, key.clone());
        if let Some(list) = self.find(hash, number, scope, key.clone()) {
            if self
                .lists
                .get(list as usize)
                .is_some_and(|list| list.first == NONE)
            {
                self.empty = self.empty.saturating_sub(1);
            }
            return Some(list);
        }
        let filled = self.by_key.len().saturating_sub(self.empty);
        if self.empty > EMPTY_MAX + 3 * filled {
            self.sweep();
        }
        let list = List::new(number, scope, hash, key.cloned());
        let slot = match self.free_lists.pop() {
            Some(slot) => {
                if let Some(place) = self.lists.get_mut(slot as usize) {
                    *place = list;
                }
                slot
            }
            None => {
                self.lists.push(list);
                Slot::try_from(self.lists.len() - 1).unwrap_or(NONE)
            }
        };
        let lists = &self.lists;
        let hash_of = |slot: &Slot| lists.get(*slot as usize).map_or(0, |list| list.hash);
        self.by_key.insert_unique(hash, slot, hash_of);
        Some(slot)
    }

    #[inline]
    fn find<'k>(
        &self,
        hash: u64,
        element: u32,
        scope: Slot,
        key: impl Iterator<Item = &'k Value> + Clone,
    ) -> Option<Slot> {
        let same = |slot: &Slot| {
            self.lists.get(*slot as usize).is_some_and(|list| {
                list.element == element && list.scope == scope && list.has_key(key.clone())
            })
        };
        self.by_key.find(hash, same).copied()
    }

    /// Forgets the lists of keys that are empty.
    fn sweep(&mut self) {
        let (lists, free) = (&mut self.lists, &mut self.free_lists);
        self.by_key.retain(|slot| {
            let Some(list) = lists.get_mut(*slot as usize) else {
                return false;
            };
            if list.first == NONE {
                (list.key, list.more) = (Value::Null, Vec::new());
                free.push(*slot);
            }
            list.first != NONE
        });
        self.empty = 0;
    }

    #[inline]
    fn link(&mut self, partial: Slot, element: usize, list: Slot, next: Slot) -> Slot {
        if let Some(count) = self.counts.get_mut(element) {
            *count += 1;
            self.awaited |= bit(element);
        }
        let last = self.lists.get(list as usize).map_or(NONE, |list| list.last);
        let link = Link {
            partial,
            element: element_number(element),
            list,
            before: last,
            behind: NONE,
            next,
        };
        let at = match self.free_links.pop() {
            Some(at) => {
                if let Some(place) = self.links.get_mut(at as usize) {
                    *place = link;
                }
                at
            }
            None => {
                self.links.push(link);
                Slot::try_from(self.links.len() - 1).unwrap_or(NONE)
            }
        };
        if let Some(last) = self.links.get_mut(last as usize) {
            last.behind = at;
        }
        if let Some(list) = self.lists.get_mut(list as usize) {
            if last == NONE {
                list.first = at;
            }
            list.last = at;
        }
        at
    }

    /// All of a list wait no longer, by its first link. Appends who they are, in the order in which
    /// they came. Only where nobody waits in two places.
    #[inline]
    pub(super) fn empty_list(
        &mut self,
        first: Slot,
        into: &mut Vec<Slot>,
        partials: &mut Partials,
    ) {
        let Some(Link { list, element, .. }) = self.links.get(first as usize).copied() else {
            return;
        };
        let before = into.len();
        let mut at = first;
        while let Some(link) = self.links.get(at as usize) {
            into.push(link.partial);
            partials.at_mut(link.partial).link = NONE;
            self.free_links.push(at);
            at = link.behind;
        }
        let element = element as usize;
        if let Some(count) = self.counts.get_mut(element) {
            *count = count.saturating_sub((into.len() - before) as u64);
            if *count == 0 {
                self.awaited &= !bit(element);
            }
        }
        if let Some(list) = self.lists.get_mut(list as usize) {
            (list.first, list.last) = (NONE, NONE);
            self.empty += usize::from(!list.single);
        }
    }

    /// A partial match waits no longer, for any of `elements`.
    #[inline]
    pub(super) fn remove(&mut self, slot: Slot, elements: Elements, partials: &mut Partials) {
        let mut at = partials.at(slot).link;
        let mut kept = NONE;
        while let Some(link) = self.links.get(at as usize).copied() {
            if elements & bit(link.element as usize) == 0 {
                if let Some(stays) = self.links.get_mut(at as usize) {
                    stays.next = kept;
                }
                kept = at;
            } else {
                self.unlink(link);
                self.free_links.push(at);
            }
            at = link.next;
        }
        partials.at_mut(slot).link = kept;
    }

    #[inline]
    fn unlink(&mut self, link: Link) {
        let element = link.element as usize;
        if let Some(count) = self.counts.get_mut(element) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.awaited &= !bit(element);
            }
        }
        if let Some(before) = self.links.get_mut(link.before as usize) {
            before.behind = link.behind;
        }
        if let Some(behind) = self.links.get_mut(link.behind as usize) {
            behind.before = link.before;
        }
        let Some(list) = self.lists.get_mut(link.list as usize) else {
            return;
        };
        if link.before == NONE {
            list.first = link.behind;
        }
        if link.behind == NONE {
            list.last = link.before;
        }
        if list.first == NONE && !list.single {
            self.empty += 1;
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
    ) -> Slot {
        let list = if place.is_single() {
            Some(element_number(element))
        } else if key.clone().any(Value::is_null) {
            None
        } else {
            let scope = if place.scoped { scope } else { NONE };
            let number = element_number(element);
            let hash = hash(&self.hasher, number, scope, key.clone());
            self.find(hash, number, scope, key)
        };
        let list = list.and_then(|list| self.lists.get(list as usize));
        list.map_or(NONE, |list| list.first)
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

#[inline]
fn are_alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        // The most common, without a call.
        (Value::Str(a), Value::Str(b)) => are_same(a.as_bytes(), b.as_bytes()),
        (a, b) => a == b,
    }
}

/// Whether bytes are the same; names of sensors are compared as two words.
#[inline]
fn are_same(a: &[u8], b: &[u8]) -> bool {
    const WORD: usize = 8;
    if a.len() != b.len() {
        return false;
    }
    let ends = |bytes: &[u8]| {
        let first = bytes.first_chunk::<WORD>().copied();
        first.zip(bytes.last_chunk::<WORD>().copied())
    };
    match (ends(a), ends(b)) {
        (Some(a), Some(b)) if a != b => false,
        (Some(_), Some(_)) if a.len() <= 2 * WORD => true,
        _ => a == b,
    }
}

#[inline]
fn hash<'a>(
    hasher: &FixedState,
    element: u32,
    scope: Slot,
    key: impl Iterator<Item = &'a Value>,
) -> u64 {
    let mut state = hasher.build_hasher();
    for value in key {
        match value {
            // The most common, without a call.
            Value::Str(text) => state.write(text.as_bytes()),
            value => value.hash(&mut state),
        }
    }
    // Lists of one key differ by what else they are of.
    let list = (u64::from(scope) << 32) | u64::from(element);
    state.finish() ^ list.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
