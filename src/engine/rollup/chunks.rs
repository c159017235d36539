//! The numbers under which groups of buckets are saved.
//!
//! Each bucket has chunks of numbers, which it keeps as long as it is there; its groups take the
//! numbers of a chunk one after another. What has gone gives its chunks to others, so that numbers
//! do not outgrow the groups.

use super::super::state::{Changed, Slots};

/// Numbers per chunk.
pub(super) const CHUNK_GROUPS: usize = 64;

/// Whose chunk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// The place of the duration.
    pub(super) level: usize,
    /// Where the bucket begins.
    pub(super) start: i64,
    /// Which of the bucket's chunks.
    pub(super) nth: usize,
}

/// All chunks.
#[derive(Default)]
pub(super) struct Chunks {
    owners: Vec<Option<Owner>>,
    free: Vec<usize>,
    /// Which groups are to be saved, by number.
    pub(super) changed: Changed,
}

impl Chunks {
    /// A chunk for somebody.
    pub(super) fn open(&mut self, owner: Owner) -> usize {
        if let Some(chunk) = self.free.pop() {
            self.put(chunk, owner);
            return chunk;
        }
        self.owners.push(Some(owner));
        self.owners.len() - 1
    }

    /// The bucket with these chunks, and as many groups, is gone.
    pub(super) fn close(&mut self, chunks: &[usize], groups: usize) {
        for slot in 0..groups {
            self.note(chunks, slot);
        }
        for chunk in chunks {
            if let Some(owner) = self.owners.get_mut(*chunk) {
                *owner = None;
                self.free.push(*chunk);
            }
        }
    }

    /// A group is new, different or gone, by its slot in the bucket with these chunks.
    #[inline]
    pub(super) fn note(&mut self, chunks: &[usize], slot: usize) {
        if let Some(chunk) = chunks.get(slot / CHUNK_GROUPS) {
            self.changed
                .note(chunk * CHUNK_GROUPS + slot % CHUNK_GROUPS);
        }
    }

    /// Every bucket is gone.
    pub(super) fn clear(&mut self) {
        self.changed.note_first(self.numbers());
        self.owners = Vec::new();
        self.free = Vec::new();
    }

    /// There are no numbers from this on.
    pub(super) fn numbers(&self) -> usize {
        self.owners.len() * CHUNK_GROUPS
    }

    /// The bucket of the group with this number, and its slot there.
    pub(super) fn group(&self, number: usize) -> Option<(Owner, usize)> {
        let owner = (*self.owners.get(number / CHUNK_GROUPS)?)?;
        Some((owner, owner.nth * CHUNK_GROUPS + number % CHUNK_GROUPS))
    }

    /// Before chunks are taken back: makes room for them.
    pub(super) fn reserve(&mut self, slots: Slots) {
        self.owners = vec![None; slots.count()];
        self.changed = match slots {
            Slots::Kept(count) => {
                let mut changed = Changed::default();
                changed.load(count * CHUNK_GROUPS);
                changed
            }
            Slots::Moved { count, saved } => {
                let mut changed = Changed::default();
                changed.load_moved(saved * CHUNK_GROUPS, count * CHUNK_GROUPS);
                changed
            }
        };
    }

    /// A chunk is this one's. Whether it was nobody else's.
    pub(super) fn put(&mut self, chunk: usize, owner: Owner) -> bool {
        let place = self.owners.get_mut(chunk);
        place.is_some_and(|place| place.replace(owner).is_none_or(|known| known == owner))
    }

    /// After that: what nobody has is free.
    pub(super) fn free_rest(&mut self) {
        let owners = self.owners.iter().enumerate();
        let free = owners.filter(|(_, owner)| owner.is_none());
        self.free = free.map(|(chunk, _)| chunk).collect();
    }
}
