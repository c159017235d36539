//! Scopes: what each key of PARTITION BY has for itself. Without one, there is a single scope.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

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
    fn new(key: Vec<Value>, number: u64) -> Scope {
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
        };
        if !keyed {
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
        slot
    }

    /// Forgets a key.
    pub(super) fn close(&mut self, slot: Slot) {
        let scope = self.at_mut(slot);
        scope.live = false;
        let key = std::mem::take(&mut scope.key);
        self.by_key.remove(&key);
        self.free.push(slot);
    }

    /// Takes a scope back. Gives its slot, which may be another one than before.
    pub(super) fn restore(&mut self, scope: Scope) -> Slot {
        if scope.key.is_empty() {
            self.scopes = vec![scope];
            return 0;
        }
        let slot = Slot::try_from(self.scopes.len()).unwrap_or(NONE);
        self.by_key.insert(scope.key.clone(), slot);
        self.scopes.push(scope);
        slot
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
