//! State as pieces: what an operator gives to a checkpoint and takes back from it.
//!
//! A piece's key is the part it belongs to (8 bits), which of several alike, as the sides of a join
//! are (16 bits), and its number within the part (40 bits). A piece is CBOR, and small: a block of
//! a window's rows, a group, a row of a table, a partial match.
//!
//! Saving gives what has changed since the last time. An operator that has not worked is not asked;
//! one that has gives the pieces that it puts every time ([`Save::put`]), and of those that are
//! many what [`Changed`] or [`Stretch`] has kept count of. What is not kept count of is renewed as
//! a whole ([`Save::renew`]).

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::cbor::{self, CborError};
use crate::event::{Place, State, StateChanges};

/// How much of the state is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saving {
    /// What has changed since the last time; at first everything.
    Changed,
    /// Some of that, ahead of time and so that less is left to be saved at once: at most so many
    /// pieces, and none of those that every saving gives.
    Ahead {
        /// How many.
        pieces_max: usize,
    },
    /// Everything. The next saving of changes gives the same as without this one.
    Whole,
}

/// State that is not what it should be: damaged, or written by another version.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A piece does not decode.
    #[error("a piece of the state does not decode")]
    Damaged(#[from] CborError),
    /// A piece decodes to something impossible.
    #[error("the state is inconsistent: {0}")]
    Inconsistent(&'static str),
}

/// The parts of a query's state.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Part {
    /// What the window knows besides rows.
    Window = 0,
    /// The window's rows, in blocks.
    WindowRows = 1,
    /// Output rows of a batch that is still open.
    Pending = 2,
    /// Groups, by slot.
    Groups = 3,
    /// Nothing but that there is a state.
    Present = 4,
    /// Rows of a table or of a join's side, by slot.
    Rows = 16,
    /// What a table or a join knows besides rows.
    Holder = 17,
    /// When something next happens to the window.
    WindowTime = 5,
    /// What the window's condition knows of its rows.
    WindowCondition = 6,
    /// Output rows of the batch that closed last, which will be given again.
    Before = 7,
    /// Partial matches of a pattern, by slot.
    Partials = 40,
    /// The keys of a pattern, by slot.
    Scopes = 41,
    /// What an aggregation knows besides rows.
    Rollup = 32,
    /// The groups of an aggregation's buckets, by number.
    BucketRows = 33,
}

impl Part {
    fn key(self, number: u64) -> u64 {
        ((self as u64) << 56) | (number & NUMBER)
    }
}

/// Slots are kept by a restore unless there are more than so many, and so many times more than
/// pieces.
const SPARSE_SLOTS_MIN: usize = if cfg!(test) { 16 } else { 65_536 };
const SPARSE_TIMES: usize = 8;
/// The bits of a key that are the number within a part.
const NUMBER: u64 = (1 << 40) - 1;
/// The bits that say which of several.
const WHICH: u64 = 0xFFFF << 40;

/// One saving, for all operators.
pub(super) struct Saver<'a> {
    saving: Saving,
    /// Which saving it is, so that what two operators share is given to both.
    number: u64,
    /// How many more pieces may be given.
    left: usize,
    changes: &'a mut StateChanges,
}

impl<'a> Saver<'a> {
    pub(super) fn new(saving: Saving, number: u64, changes: &'a mut StateChanges) -> Saver<'a> {
        Saver {
            saving,
            number,
            left: match saving {
                Saving::Ahead { pieces_max } => pieces_max,
                Saving::Changed | Saving::Whole => usize::MAX,
            },
            changes,
        }
    }

    /// For the pieces of one operator.
    pub(super) fn of(&mut self, operator: u64) -> Save<'_, 'a> {
        Save {
            operator,
            which: 0,
            to: self,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.saving == Saving::Whole
    }

    pub(super) fn is_ahead(&self) -> bool {
        matches!(self.saving, Saving::Ahead { .. })
    }

    /// Whether more could be given.
    pub(super) fn has_room(&self) -> bool {
        self.left > 0
    }

    /// An operator's state begins anew: what was saved of it is gone.
    pub(super) fn forget(&mut self, operator: u64) {
        if self.saving != Saving::Whole {
            let (first, last) = (Place::first_of(operator), Place::last_of(operator));
            self.changes.empty(first, last);
        }
    }
}

/// Collects the pieces of one operator.
pub(super) struct Save<'s, 'a> {
    operator: u64,
    which: u64,
    to: &'s mut Saver<'a>,
}

impl<'a> Save<'_, 'a> {
    /// Gives a piece that every saving gives.
    pub(super) fn put<T: Serialize>(
        &mut self,
        part: Part,
        number: u64,
        item: &T,
    ) -> Result<(), StateError> {
        if self.to.is_ahead() {
            return Ok(());
        }
        self.give(part, number, item)
    }

    /// Before a part of which every piece is put: those of before are gone.
    pub(super) fn renew(&mut self, part: Part) {
        if self.to.saving == Saving::Changed {
            self.remove_part(part);
        }
    }

    /// Gives a piece that is new or has changed.
    pub(super) fn give<T: Serialize>(
        &mut self,
        part: Part,
        number: u64,
        item: &T,
    ) -> Result<(), StateError> {
        let place = self.place(part, number);
        let write = |out: &mut Vec<u8>| cbor::encode_into(item, out);
        Ok(self.to.changes.put(place, write)?)
    }

    /// A piece is there no more.
    pub(super) fn remove(&mut self, part: Part, number: u64) {
        let place = self.place(part, number);
        self.to.changes.remove(place);
    }

    /// Pieces that were there before this saving are there no more.
    pub(super) fn remove_all(&mut self, part: Part, numbers: Range<u64>) {
        if numbers.is_empty() || self.is_whole() {
            return;
        }
        let first = self.place(part, numbers.start);
        let last = self.place(part, numbers.end - 1);
        self.to.changes.empty(first, last);
    }

    /// No piece of a part that was there before this saving is there any more.
    pub(super) fn remove_part(&mut self, part: Part) {
        self.remove_all(part, 0..NUMBER + 1);
    }

    /// Whether everything is asked for, not what has changed.
    pub(super) fn is_whole(&self) -> bool {
        self.to.is_whole()
    }

    /// Whether all that has changed is asked for.
    pub(super) fn is_changes(&self) -> bool {
        self.to.saving == Saving::Changed
    }

    /// Whether more could be given.
    pub(super) fn has_room(&self) -> bool {
        self.to.has_room()
    }

    /// What was saved of another operator is gone.
    pub(super) fn forget(&mut self, operator: u64) {
        self.to.forget(operator);
    }

    /// Saves one of several that are alike, each with a number of its own, from 1.
    pub(super) fn one_of(
        &mut self,
        which: u16,
        item: impl FnOnce(&mut Save<'_, 'a>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        debug_assert_eq!(self.which, 0, "one of one of several");
        item(&mut Save {
            operator: self.operator,
            which: u64::from(which) << 40,
            to: self.to,
        })
    }

    /// The same saving for another operator.
    pub(super) fn other(&mut self, operator: u64) -> Save<'_, 'a> {
        self.to.of(operator)
    }

    /// Whose pieces these are.
    pub(super) fn operator(&self) -> u64 {
        self.operator
    }

    fn place(&self, part: Part, number: u64) -> Place {
        Place {
            operator: self.operator,
            key: part.key(number) | self.which,
        }
    }
}

/// Which of many numbered pieces have changed since they were saved.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed {
    bits: Vec<u64>,
    /// Those that lie in the saved state are below it.
    end: usize,
    /// What the last saving was given, what it was to remove, and which that was.
    given: Vec<u64>,
    gone: Range<u64>,
    given_in: u64,
}

impl Changed {
    /// The piece is new, different or gone.
    #[inline]
    pub(super) fn note(&mut self, number: usize) {
        let word = number / 64;
        if word >= self.bits.len() {
            self.bits.resize((word + 1).next_power_of_two(), 0);
        }
        if let Some(word) = self.bits.get_mut(word) {
            *word |= 1 << (number % 64);
        }
    }

    /// The pieces before `count` are new, different or gone.
    pub(super) fn note_first(&mut self, count: usize) {
        (0..count).for_each(|number| self.note(number));
    }

    /// Everything is as it was saved.
    pub(super) fn clear(&mut self) {
        self.bits.clear();
    }

    /// All pieces there are, of which there are none from `count` on, are as they were saved.
    pub(super) fn load(&mut self, count: usize) {
        *self = Changed {
            end: count,
            ..Changed::default()
        };
    }

    /// There are pieces before `count` now, all of them new or different; in the saved state there
    /// may be some before `saved`.
    pub(super) fn load_moved(&mut self, saved: usize, count: usize) {
        self.load(saved);
        self.note_first(count);
    }

    /// [`Changed::take`] for pieces of a part of which there are none from `count` on: those are
    /// removed.
    pub(super) fn take_below(
        &mut self,
        count: usize,
        part: Part,
        save: &mut Save<'_, '_>,
    ) -> Vec<usize> {
        if save.is_whole() {
            return Vec::new();
        }
        if self.given_in != save.to.number {
            self.bits.truncate(count.div_ceil(64));
            if let Some(word) = self.bits.get_mut(count / 64) {
                *word &= (1 << (count % 64)) - 1;
            }
            self.gone = count as u64..self.end.max(count) as u64;
            self.end = count;
        }
        save.remove_all(part, self.gone.clone());
        self.take(save)
    }

    /// What this saving is to give, in order; nothing when it is a whole one, which does without.
    pub(super) fn take(&mut self, save: &mut Save<'_, '_>) -> Vec<usize> {
        if save.is_whole() {
            return Vec::new();
        }
        if self.given_in != save.to.number {
            self.given_in = save.to.number;
            self.given.clear();
            for (place, word) in self.bits.iter_mut().enumerate() {
                let count = usize::try_from(word.count_ones()).unwrap_or(0);
                if count == 0 {
                    continue;
                }
                if save.to.left < count {
                    save.to.left = 0;
                    break;
                }
                save.to.left -= count;
                self.given.resize(place, 0);
                self.given.push(std::mem::take(word));
            }
        }
        let mut numbers = Vec::new();
        for (place, word) in self.given.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                numbers.push(place * 64 + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        }
        numbers
    }
}

/// Where pieces come to that were saved by slot: to the same slots, or, if these would take far
/// more memory than the pieces need, to the first ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slots {
    /// To those at which they were saved, all of them below this.
    Kept(usize),
    /// To so many, one after another; they were saved below `saved`.
    Moved { count: usize, saved: usize },
}

impl Slots {
    /// For so many pieces in the order of their slots, of which this is the last.
    pub(super) fn of(count: usize, last: Option<u64>) -> Slots {
        let saved = last.map_or(0, |last| last.saturating_add(1));
        let saved = usize::try_from(saved).unwrap_or(usize::MAX);
        if saved > SPARSE_SLOTS_MIN && saved / SPARSE_TIMES > count {
            return Slots::Moved { count, saved };
        }
        Slots::Kept(saved)
    }

    /// How many slots there are.
    pub(super) fn count(self) -> usize {
        match self {
            Slots::Kept(count) | Slots::Moved { count, .. } => count,
        }
    }

    /// The slot of a piece, by its place among all and where it was saved.
    pub(super) fn slot(self, place: usize, saved: u64) -> usize {
        match self {
            Slots::Kept(_) => usize::try_from(saved).unwrap_or(usize::MAX),
            Slots::Moved { .. } => place,
        }
    }

    /// What is to be saved of the pieces that were loaded.
    pub(super) fn loaded(self) -> Changed {
        let mut changed = Changed::default();
        match self {
            Slots::Kept(count) => changed.load(count),
            Slots::Moved { count, saved } => changed.load_moved(saved, count),
        }
        changed
    }
}

/// How far a queue of numbered pieces was saved. Pieces come at the end, of which the last one may
/// still change, and go at the front.
#[derive(Clone, Debug, Default)]
pub(super) struct Stretch {
    /// Those that lie in the saved state.
    saved: Range<u64>,
    /// Before this number they are as they were saved.
    complete: u64,
    /// What the last saving was given, and which that was.
    given: (Range<u64>, Range<u64>),
    given_in: u64,
}

impl Stretch {
    /// The pieces are `there`, and those before `complete` do not change any more; all of it is
    /// saved.
    pub(super) fn load(&mut self, there: Range<u64>, complete: u64) {
        *self = Stretch {
            saved: there,
            complete,
            ..Stretch::default()
        };
    }

    /// The number behind those that lie in the saved state: one of which nothing is known there.
    pub(super) fn end(&self) -> u64 {
        self.saved.end
    }

    /// The pieces are `there`, and those before `complete` do not change any more. Which ones this
    /// saving is to remove, and which to give; all of them when it is a whole one.
    pub(super) fn take(
        &mut self,
        save: &mut Save<'_, '_>,
        there: Range<u64>,
        complete: u64,
    ) -> (Range<u64>, Range<u64>) {
        if save.is_whole() {
            return (0..0, there);
        }
        if self.given_in != save.to.number {
            self.given_in = save.to.number;
            let gone = self.saved.start..self.saved.end.min(there.start);
            let mut new = self.complete.max(there.start)..there.end;
            if save.to.is_ahead() {
                // One that may still change is left for later.
                new.end = new.end.min(complete.max(new.start));
            }
            let count = new.end.saturating_sub(new.start);
            let left = u64::try_from(save.to.left).unwrap_or(u64::MAX);
            if count > left {
                new.end = new.start + left;
            }
            let given = usize::try_from(new.end.saturating_sub(new.start)).unwrap_or(0);
            save.to.left = save.to.left.saturating_sub(given);
            self.complete = new.end.min(complete).max(self.complete);
            self.saved = there.start..new.end.max(self.saved.end);
            self.given = (gone, new);
        }
        self.given.clone()
    }
}

/// The pieces of one operator, by key.
#[derive(Clone, Default)]
pub(super) struct Load<'a> {
    pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> Load<'a> {
    /// Every operator's pieces.
    pub(super) fn all_of(state: &'a State) -> BTreeMap<u64, Load<'a>> {
        let mut all: BTreeMap<u64, Load<'a>> = BTreeMap::new();
        let mut one: Option<(u64, Load<'a>)> = None;
        for (place, piece) in state.pieces() {
            if let Some((operator, done)) = one.take_if(|(of, _)| *of != place.operator) {
                all.insert(operator, done);
            }
            let (_, load) = one.get_or_insert_with(|| (place.operator, Load::default()));
            load.pieces.push((place.key, piece));
        }
        all.extend(one);
        all
    }

    /// The bytes of all pieces.
    pub(super) fn bytes(&self) -> usize {
        self.pieces.iter().map(|(_, piece)| piece.len()).sum()
    }

    /// The only piece of a part.
    pub(super) fn one<T: DeserializeOwned>(&self, part: Part) -> Result<Option<T>, StateError> {
        let key = part.key(0);
        let at = self.pieces.binary_search_by_key(&key, |(one, _)| *one);
        let piece = at.ok().and_then(|at| self.pieces.get(at));
        Ok(piece.map(|(_, bytes)| cbor::decode(bytes)).transpose()?)
    }

    /// What [`Save::one_of`] has saved.
    pub(super) fn one_of(&self, which: u16) -> Load<'a> {
        let which = u64::from(which) << 40;
        let pieces = self.pieces.iter();
        let pieces = pieces.filter(|(key, _)| *key & WHICH == which);
        Load {
            pieces: pieces.map(|(key, bytes)| (key & !WHICH, *bytes)).collect(),
        }
    }

    /// Every piece of a part, in order.
    pub(super) fn all<T: DeserializeOwned>(&self, part: Part) -> Result<Vec<T>, StateError> {
        self.numbered(part)
            .map(|one| one.map(|(_, item)| item))
            .collect()
    }

    /// How many pieces a part has.
    pub(super) fn count(&self, part: Part) -> usize {
        self.raw(part).len()
    }

    /// Every piece of a part with its number, in order.
    pub(super) fn numbered<T: DeserializeOwned>(
        &self,
        part: Part,
    ) -> impl Iterator<Item = Result<(u64, T), StateError>> {
        self.raw(part)
            .map(|(number, bytes)| Ok((number, cbor::decode(bytes)?)))
    }

    /// Every piece of a part with its number, in order, as bytes.
    pub(super) fn raw(
        &self,
        part: Part,
    ) -> impl ExactSizeIterator<Item = (u64, &'a [u8])> + DoubleEndedIterator {
        let from = self.pieces.partition_point(|(key, _)| *key < part.key(0));
        let to = self
            .pieces
            .partition_point(|(key, _)| *key <= part.key(NUMBER));
        let pieces = self.pieces.get(from..to).unwrap_or_default();
        pieces.iter().map(|(key, bytes)| (key & NUMBER, *bytes))
    }
}

/// The whole state that `save` gives for an operator.
#[cfg(test)]
pub(super) fn state_of(
    operator: u64,
    save: impl FnOnce(&mut Save<'_, '_>) -> Result<(), StateError>,
) -> State {
    let mut changes = StateChanges::new();
    let mut saver = Saver::new(Saving::Whole, 0, &mut changes);
    assert!(save(&mut saver.of(operator)).is_ok());
    State::from_changes(changes)
}
