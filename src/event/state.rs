//! The state of everything that computes, as bytes: an ordered map from places to pieces, and
//! changes to it.
//!
//! Who computes knows what a piece means; who stores pieces knows only their places. A state is
//! what a first set of changes and all later ones have made, in order; so a saved state can be
//! brought up to date with what has changed since, and nothing else.

use std::collections::BTreeMap;
use std::ops::Range;

/// Where a piece lies; pieces are ordered by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Whose piece it is: the fingerprint of an operator's plan.
    pub operator: u64,
    /// The operator's name for the piece.
    pub key: u64,
}

impl Place {
    /// In place of an operator: the pieces of what surrounds the engine. No plan has this
    /// fingerprint but by a chance of 1 to 2⁶⁴.
    pub const NO_OPERATOR: u64 = 0;

    /// The first place of an operator.
    #[must_use]
    pub fn first_of(operator: u64) -> Place {
        Place { operator, key: 0 }
    }

    /// The last place of an operator.
    #[must_use]
    pub fn last_of(operator: u64) -> Place {
        let key = u64::MAX;
        Place { operator, key }
    }
}

/// Changes to a state. Ranges are emptied first, whenever that was noted; then pieces are put and
/// removed, where a later change of a place wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateChanges {
    bytes: Vec<u8>,
    pieces: Vec<(Place, Option<Range<usize>>)>,
    /// First and last place.
    emptied: Vec<(Place, Place)>,
}

impl StateChanges {
    /// No changes.
    #[must_use]
    pub fn new() -> StateChanges {
        StateChanges::default()
    }

    /// Sets the piece at `place` to what `write` appends. When it fails nothing is set.
    ///
    /// # Errors
    /// That of `write`.
    pub fn put<E>(
        &mut self,
        place: Place,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        self.pieces.push((place, Some(start..self.bytes.len())));
        Ok(())
    }

    /// Removes the piece at `place`, which need not exist.
    pub fn remove(&mut self, place: Place) {
        self.pieces.push((place, None));
    }

    /// Removes all pieces from `first` to `last` that were there before these changes.
    pub fn empty(&mut self, first: Place, last: Place) {
        self.emptied.push((first, last));
    }

    /// The ranges that are emptied: first and last place.
    #[must_use]
    pub fn emptied(&self) -> &[(Place, Place)] {
        &self.emptied
    }

    /// Brings the changes of pieces into the order of their places, one for each place.
    pub fn sort(&mut self) {
        // Stable: of one place, the change that was made last stands last.
        self.pieces.sort_by_key(|(place, _)| *place);
        let mut later = self.pieces.drain(..).rev().peekable();
        let mut kept: Vec<(Place, Option<Range<usize>>)> = Vec::with_capacity(later.len());
        while let Some(change) = later.next() {
            while later.next_if(|(place, _)| *place == change.0).is_some() {}
            kept.push(change);
        }
        drop(later);
        kept.reverse();
        self.pieces = kept;
    }

    /// The changes of pieces: a place, and its piece or `None` for a removal.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = (Place, Option<&[u8]>)> {
        self.pieces.iter().map(|(place, range)| {
            let piece = range.clone().and_then(|range| self.bytes.get(range));
            (*place, piece)
        })
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.emptied.is_empty()
    }

    /// How many pieces are put or removed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The bytes of all pieces.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// A whole state: pieces in the order of their places, each place once.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What the pieces lie in.
    blocks: Vec<Vec<u8>>,
    pieces: Vec<(Place, usize, Range<usize>)>,
}

impl State {
    /// A state of pieces within blocks. Of several pieces with one place, the last one counts.
    #[must_use]
    pub fn of(blocks: Vec<Vec<u8>>, mut pieces: Vec<(Place, usize, Range<usize>)>) -> State {
        if !pieces.is_sorted_by(|a, b| a.0 < b.0) {
            pieces.reverse();
            pieces.sort_by_key(|(place, ..)| *place);
            pieces.dedup_by_key(|(place, ..)| *place);
        }
        State { blocks, pieces }
    }

    /// The state that changes make of nothing.
    #[must_use]
    pub fn from_changes(mut changes: StateChanges) -> State {
        changes.sort();
        let StateChanges { bytes, pieces, .. } = changes;
        let pieces = pieces
            .into_iter()
            .filter_map(|(place, range)| Some((place, 0, range?)));
        State {
            pieces: pieces.collect(),
            blocks: vec![bytes],
        }
    }

    /// All pieces in order.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = (Place, &[u8])> {
        self.pieces.iter().map(|(place, block, range)| {
            let block = self.blocks.get(*block).map_or(&[][..], Vec::as_slice);
            (*place, block.get(range.clone()).unwrap_or_default())
        })
    }

    /// The pieces from `first` to `last` in order.
    pub fn pieces_between(
        &self,
        first: Place,
        last: Place,
    ) -> impl Iterator<Item = (Place, &[u8])> {
        let start = self.pieces.partition_point(|(place, ..)| *place < first);
        let pieces = self.pieces().skip(start);
        pieces.take_while(move |(place, _)| *place <= last)
    }

    /// The piece at `place`.
    #[must_use]
    pub fn get(&self, place: Place) -> Option<&[u8]> {
        let at = self.pieces.binary_search_by_key(&place, |(one, ..)| *one);
        let (_, block, range) = self.pieces.get(at.ok()?)?;
        self.blocks.get(*block)?.get(range.clone())
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The bytes of all pieces.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|(.., range)| range.len()).sum()
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.pieces().eq(other.pieces())
    }
}

impl Eq for State {}

/// A state that changes are applied to one set after the other, in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrowingState {
    pieces: BTreeMap<Place, Vec<u8>>,
}

impl GrowingState {
    /// Makes the changes.
    pub fn apply(&mut self, changes: &StateChanges) {
        for (first, last) in changes.emptied() {
            // What is left out of the range stays.
            self.pieces.retain(|place, _| place < first || place > last);
        }
        for (place, piece) in changes.pieces() {
            match piece {
                Some(piece) => self.pieces.insert(place, piece.to_vec()),
                None => self.pieces.remove(&place),
            };
        }
    }

    /// All pieces in order.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = (Place, &[u8])> {
        self.pieces
            .iter()
            .map(|(place, piece)| (*place, piece.as_slice()))
    }

    /// The state as it is now.
    #[must_use]
    pub fn state(&self) -> State {
        let blocks = self.pieces.values().cloned();
        let pieces = self.pieces.iter().enumerate();
        let pieces = pieces.map(|(number, (place, piece))| (*place, number, 0..piece.len()));
        State::of(blocks.collect(), pieces.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(operator: u64, key: u64) -> Place {
        Place { operator, key }
    }

    fn put(changes: &mut StateChanges, place: Place, piece: &[u8]) {
        let write = |out: &mut Vec<u8>| -> Result<(), ()> {
            out.extend_from_slice(piece);
            Ok(())
        };
        changes.put(place, write).unwrap();
    }

    #[test]
    fn the_last_change_of_a_place_wins_and_ranges_are_emptied_first() {
        let mut first = StateChanges::new();
        put(&mut first, at(1, 2), b"old");
        put(&mut first, at(1, 9), b"kept");
        put(&mut first, at(2, 0), b"other");
        let mut grown = GrowingState::default();
        grown.apply(&first);
        let mut second = StateChanges::new();
        put(&mut second, at(1, 2), b"once");
        put(&mut second, at(1, 2), b"twice");
        second.remove(at(2, 0));
        second.empty(at(1, 0), at(1, 5));
        grown.apply(&second);
        let all: Vec<_> = grown.pieces().collect();
        assert_eq!(all, [(at(1, 2), &b"twice"[..]), (at(1, 9), b"kept")]);
        second.sort();
        let all: Vec<_> = second.pieces().collect();
        assert_eq!(all, [(at(1, 2), Some(&b"twice"[..])), (at(2, 0), None)]);
    }

    #[test]
    fn a_piece_that_cannot_be_written_leaves_nothing_behind() {
        let mut changes = StateChanges::new();
        let failed = changes.put(at(1, 1), |out| {
            out.push(7);
            Err("no")
        });
        assert_eq!((failed, changes.bytes(), changes.len()), (Err("no"), 0, 0));
    }
}
