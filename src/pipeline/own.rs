//! What the pipeline itself remembers besides the log: the application in force, and what each
//! source could be sent again. It lies among the pieces of the engine's state, so that a checkpoint
//! is one thing.
//!
//! ```text
//! operator 0, key: 1 in the highest byte            the application in its written form, text
//! operator 0, key: 2 in the highest byte, then      CBOR [source, [[packet, digest], ...]]: the
//!   the source's number (16 bits), a block (40)     marks of messages 256 × block and following
//! operator 0, key: 4 in the highest byte            CBOR [[record, seq], ...]: by which records
//!                                                   the state went back, and to where; the last 16
//! ```

use std::collections::BTreeMap;

use crate::checkpoint::{Migrated, Restored};
use crate::event::cbor::{self, CborError};
use crate::event::{DeliveryMark, Place, Seq, State, StateChanges};

/// How many marks are kept per source: more than any broker has under way.
pub(super) const MARKS_MAX: usize = 4096;
/// Marks of one piece.
const BLOCK_MARKS: u64 = 256;
const APPLICATION: u64 = 1 << 56;
const MARKS: u64 = 2 << 56;
const RETURNS: u64 = 4 << 56;
const BLOCK: u64 = (1 << 40) - 1;
/// How many times that the state went back are kept.
const RETURNS_MAX: usize = 16;

/// What the pipeline remembers.
#[derive(Debug, Default)]
pub(super) struct Own {
    application: String,
    /// Whether the application has changed since it was saved.
    changed: bool,
    sources: BTreeMap<String, Marks>,
    /// By which records of the log the state went back, and to where.
    returns: Vec<(Seq, Seq)>,
    /// Whether there are more of them than were saved.
    returned: bool,
}

/// The last marks of one source.
#[derive(Debug)]
struct Marks {
    number: u64,
    /// How many there were before `last`: whole blocks.
    gone: u64,
    last: Vec<DeliveryMark>,
    /// Of all there ever were, which are saved; the others are new.
    saved: u64,
    /// The first block that lies in the saved state.
    first_block: u64,
}

type Packed = Vec<(u16, u64)>;

impl Own {
    /// The application in force.
    pub(super) fn application(&self) -> &str {
        &self.application
    }

    pub(super) fn set_application(&mut self, text: &str) {
        if self.application != text {
            text.clone_into(&mut self.application);
            self.changed = true;
        }
    }

    /// By which records of the log the state went back, and to where.
    pub(super) fn returns(&self) -> &[(Seq, Seq)] {
        &self.returns
    }

    /// By the record `at` the state goes back to what it was after `to`.
    pub(super) fn goes_back(&mut self, at: Seq, to: Seq) {
        self.returns.push((at, to));
        let surplus = self.returns.len().saturating_sub(RETURNS_MAX);
        self.returns.drain(..surplus);
        self.returned = true;
    }

    /// The marks of the last messages of a source, oldest first.
    pub(super) fn marks(&self, source: &str) -> &[DeliveryMark] {
        self.sources.get(source).map_or(&[], |marks| &marks.last)
    }

    pub(super) fn remember(&mut self, source: &str, marks: &[DeliveryMark]) {
        if marks.is_empty() {
            return;
        }
        if !self.sources.contains_key(source) {
            let numbers = self.sources.values().map(|marks| marks.number);
            let number = numbers.max().map_or(0, |last| last + 1);
            self.sources.insert(source.to_owned(), Marks::new(number));
        }
        let Some(known) = self.sources.get_mut(source) else {
            return;
        };
        known.last.extend_from_slice(marks);
        // Cut rarely, so that a mark is moved once at most, and by whole blocks.
        if known.last.len() > 2 * MARKS_MAX {
            let surplus = known.last.len() - MARKS_MAX;
            let surplus = surplus - surplus % size(BLOCK_MARKS);
            known.last.drain(..surplus);
            known.gone += count(surplus);
        }
    }

    /// Gives what has changed since the last time; or everything, for a state that begins with it.
    pub(super) fn save(&mut self, whole: bool, to: &mut StateChanges) -> Result<(), CborError> {
        if self.changed || whole {
            to.put(place(APPLICATION), |out| {
                out.extend_from_slice(self.application.as_bytes());
                Ok(())
            })?;
            self.changed = false;
        }
        if self.returned || (whole && !self.returns.is_empty()) {
            to.put(place(RETURNS), |out| cbor::encode_into(&self.returns, out))?;
            self.returned = false;
        }
        for (source, marks) in &mut self.sources {
            marks.save(source, whole, to)?;
        }
        Ok(())
    }

    /// Takes back what lies in a checkpoint; what cannot be read is forgotten, with a warning.
    pub(super) fn of(restored: &Restored, warnings: &mut Vec<String>) -> Own {
        let mut own = Own::load(&restored.state).unwrap_or_else(|error| {
            warnings.push(format!("what sources had delivered is forgotten: {error}"));
            Own::default()
        });
        if let Some(Migrated { application, marks }) = &restored.migrated {
            own.set_application(application);
            for (source, marks) in marks {
                own.remember(source, marks);
            }
        }
        own
    }

    /// Takes back what was saved.
    fn load(state: &State) -> Result<Own, CborError> {
        let mut own = Own::default();
        if let Some(text) = state.get(place(APPLICATION)) {
            own.application = String::from_utf8_lossy(text).into_owned();
        }
        if let Some(piece) = state.get(place(RETURNS)) {
            own.returns = cbor::decode(piece)?;
        }
        let pieces = state.pieces_between(place(MARKS), place(MARKS | (MARKS - 1)));
        for (at, piece) in pieces {
            let (source, packed): (String, Packed) = cbor::decode(piece)?;
            let number = (at.key & !MARKS) >> 40;
            let block = at.key & BLOCK;
            let marks = own.sources.entry(source).or_insert_with(|| Marks {
                gone: block * BLOCK_MARKS,
                first_block: block,
                ..Marks::new(number)
            });
            let unpacked = packed.into_iter();
            let unpacked = unpacked.map(|(packet, digest)| DeliveryMark { packet, digest });
            marks.last.extend(unpacked);
            marks.saved = marks.gone + count(marks.last.len());
        }
        Ok(own)
    }
}

impl Marks {
    fn new(number: u64) -> Marks {
        Marks {
            number,
            gone: 0,
            last: Vec::new(),
            saved: 0,
            first_block: 0,
        }
    }

    fn save(&mut self, source: &str, whole: bool, to: &mut StateChanges) -> Result<(), CborError> {
        let all = self.gone + count(self.last.len());
        if all == self.saved && !whole {
            return Ok(());
        }
        let kept = all.saturating_sub(count(MARKS_MAX)).max(self.gone);
        let first = kept / BLOCK_MARKS;
        let key = |block: u64| place(MARKS | self.number << 40 | block & BLOCK);
        if first > self.first_block && !whole {
            to.empty(key(self.first_block), key(first - 1));
        }
        let new = if whole { kept } else { self.saved.max(kept) };
        for block in new / BLOCK_MARKS..=all.saturating_sub(1) / BLOCK_MARKS {
            let from = (block * BLOCK_MARKS).saturating_sub(self.gone);
            let until = ((block + 1) * BLOCK_MARKS).saturating_sub(self.gone);
            let marks = self.last.iter();
            let marks = marks.skip(size(from)).take(size(until - from));
            let packed: Packed = marks.map(|mark| (mark.packet, mark.digest)).collect();
            to.put(key(block), |out| cbor::encode_into(&(source, packed), out))?;
        }
        self.first_block = first;
        self.saved = all;
        Ok(())
    }
}

fn place(key: u64) -> Place {
    Place {
        operator: Place::NO_OPERATOR,
        key,
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::GrowingState;

    fn mark(number: u64) -> DeliveryMark {
        let packet = u16::try_from(number % 60_000).unwrap();
        DeliveryMark {
            packet,
            digest: number,
        }
    }

    #[test]
    fn what_is_saved_in_steps_comes_back() {
        let mut own = Own::default();
        own.set_application("one");
        let mut saved = GrowingState::default();
        let mut known: BTreeMap<&str, Vec<DeliveryMark>> = BTreeMap::new();
        let mut number = 0;
        for step in 0..200_u64 {
            let source = if step % 3 == 0 { "A" } else { "B" };
            let marks: Vec<_> = (0..step % 7 * 90).map(|more| mark(number + more)).collect();
            number += 10_000;
            own.remember(source, &marks);
            known.entry(source).or_default().extend(marks);
            if step == 50 {
                own.set_application("two");
                own.goes_back(Seq(9), Seq(7));
            }
            let mut changes = StateChanges::new();
            let whole = step % 41 == 40;
            own.save(whole, &mut changes).unwrap();
            if whole {
                saved = GrowingState::default();
            }
            assert!(changes.bytes() < 200_000, "{}", changes.bytes());
            saved.apply(&changes);
            let again = Own::load(&saved.state()).unwrap();
            for (source, all) in &known {
                let end = |marks: &[DeliveryMark]| {
                    marks[marks.len().saturating_sub(MARKS_MAX)..].to_vec()
                };
                assert!(
                    end(again.marks(source)) == end(all),
                    "{source} after {step}"
                );
                assert!(end(own.marks(source)) == end(all), "{source} after {step}");
            }
            if step % 11 == 0 {
                own = again;
            }
        }
        assert_eq!(own.application(), "two");
        assert_eq!(own.returns(), [(Seq(9), Seq(7))]);
    }
}
