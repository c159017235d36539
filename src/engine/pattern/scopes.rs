//! Scopes: what each key of PARTITION BY has for itself. Without one, there is a single scope.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::super::state::Changed;
use super::partials::{Ends, NONE, Slot};
use crate::event::Value;

/// Whether a pattern can begin in a scope, and what began there.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) key: Vec<Value>,
    /// Counts up from scope to scope.
    pub(super) number: u64,
    /// Whether the next row that fits begins a match.
    pub(super) armed: bool,
    /// Whether it has given a match.
    pub(super) matched: bool,
    /// The moment of its last match.
    pub(super) matched_at: u64,
    /// Partial matches that belong to it.
    pub(super) partials: u64,
    /// How many rows it has had; as far as anybody counts.
    pub(super) events: u64,
    /// The moment whose row ended a partial match without being taken, so that it may begin the
    /// next.
    pub(super) freed: u64,
    /// The moment behind whose row the next match begins.
    pub(super) skipped: u64,
    /// Its partial matches by age, where this is asked for.
    pub(super) list: Ends,
    pub(super) live: bool,
}

impl Scope {
    pub(super) fn new(key: Vec<Value>, number: u64) -> Scope {
        Scope {
            key,
            number,
            armed: true,
            matched: false,
            matched_at: 0,
            partials: 0,
            events: 0,
            freed: 0,
            skipped: 0,
            list: Ends::EMPTY,
            live: true,
        }
    }
}

/// The scopes of a pattern.
pub(super) struct Scopes {
    scopes: Vec<Scope>,
    by_key: HashMap<Vec<Value>, Slot, FixedState>,
    free: Vec<Slot>,
    /// The number of the next scope.
    pub(super) next: u64,
    /// What of them is to be saved, by slot.
    pub(super) changed: Changed,
}

#[expect(
    clippy::indexing_slicing,
    reason = "slots are given out here, and a wrong one is a bug"
)]
impl Scopes {
    /// The single one, or none yet.
    pub(super) fn new(keyed: bool) -> Scopes {
        let mut scopes = Scopes {
            scopes: Vec::new(),
            by_key: HashMap::with_hasher(FixedState::default()),
            free: Vec::new(),
            next: 1,
            changed: Changed::default(),
        };
        if !keyed {
            scopes.changed.note(0);
            scopes.scopes.push(Scope::new(Vec::new(), 0));
        }
        scopes
    }

    #[inline]
    pub(super) fn at(&self, slot: Slot) -> &Scope {
        &self.scopes[slot as usize]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, slot: Slot) -> &mut Scope {
        &mut self.scopes[slot as usize]
    }

    /// Whether the next row that fits begins a match.
    pub(super) fn arm(&mut self, slot: Slot, armed: bool) {
        if self.at(slot).armed != armed {
            self.at_mut(slot).armed = armed;
            self.changed.note(slot as usize);
        }
    }

    /// It has given a match, at this moment.
    pub(super) fn matched(&mut self, slot: Slot, moment: u64) {
        let scope = self.at_mut(slot);
        scope.matched_at = moment;
        if !scope.matched {
            scope.matched = true;
            self.changed.note(slot as usize);
        }
    }

    /// It has had one more row. Gives how many that are.
    pub(super) fn count_event(&mut self, slot: Slot) -> u64 {
        self.changed.note(slot as usize);
        let scope = self.at_mut(slot);
        scope.events += 1;
        scope.events
    }

    /// The scope of a key.
    pub(super) fn find(&self, key: &[Value]) -> Option<Slot> {
        self.by_key.get(key).copied()
    }

    /// A scope for a key that has none.
    pub(super) fn open(&mut self, key: &[Value]) -> Slot {
        let scope = Scope::new(key.to_vec(), self.next);
        self.next += 1;
        let slot = match self.free.pop() {
            Some(slot) => {
                *self.at_mut(slot) = scope;
                slot
            }
            None => {
                self.scopes.push(scope);
                Slot::try_from(self.scopes.len() - 1).unwrap_or(NONE)
            }
        };
        self.by_key.insert(key.to_vec(), slot);
        self.changed.note(slot as usize);
        slot
    }

    /// Forgets a key.
    pub(super) fn close(&mut self, slot: Slot) {
        let scope = self.at_mut(slot);
        scope.live = false;
        let key = std::mem::take(&mut scope.key);
        self.by_key.remove(&key);
        self.free.push(slot);
        self.changed.note(slot as usize);
    }

    /// Forgets all scopes, and makes room for others with keys, in as many slots.
    pub(super) fn clear(&mut self, slots: usize, keys: usize) {
        self.scopes = Vec::with_capacity(slots);
        self.by_key = HashMap::with_capacity_and_hasher(keys, FixedState::default());
    }

    /// Takes a scope back, into a slot behind all others; the slots before it are free. Whether its
    /// key is its own.
    pub(super) fn restore(&mut self, slot: Slot, scope: Scope) -> bool {
        while self.scopes.len() < slot as usize {
            self.free
                .push(Slot::try_from(self.scopes.len()).unwrap_or(NONE));
            let mut free = Scope::new(Vec::new(), 0);
            free.live = false;
            self.scopes.push(free);
        }
        let key = scope.key.clone();
        self.scopes.push(scope);
        key.is_empty() || self.by_key.insert(key, slot).is_none()
    }

    /// The one in a slot, if there is one.
    pub(super) fn live(&self, slot: usize) -> Option<&Scope> {
        self.scopes.get(slot).filter(|scope| scope.live)
    }

    /// How many slots there are, with those that are free.
    pub(super) fn len(&self) -> usize {
        self.scopes.len()
    }

    /// Every scope that is there, in the order in which they came.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let all = (0..).zip(&self.scopes);
        let live = all.filter(|(_, scope)| scope.live);
        let mut slots: Vec<(u64, Slot)> = live.map(|(slot, scope)| (scope.number, slot)).collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| slot).collect()
    }
}
