//! Folding: one run of several that follow each other, in slices, with one frame of each in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::catalogue::Token;
use super::cover::Cover;
use super::frame::{Entries, Entry, RunWriter, sum_with, unpack};
use super::manifest::Run;
use super::{CheckpointError, frame_key};
use crate::event::Place;
use crate::store::seal::{Damage, Unsealer};
use crate::store::{Store, StoreError};

/// After so many bytes, unpacked, others have their turn.
const SLICE_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Fold {
    token: Token,
    folded: Vec<Run>,
    /// Nothing lies below: what removes has nothing to remove.
    whole: bool,
    begun: bool,
    inputs: Vec<Input>,
    /// By place, the youngest first: the inputs that have something there.
    heads: BinaryHeap<Reverse<(Place, Reverse<usize>)>>,
    cover: Cover,
    writer: RunWriter,
    number: u64,
    unsealer: Unsealer,
}

pub(super) enum Step {
    More(Box<Fold>),
    Done {
        folded: Vec<Run>,
        run: Run,
        token: Token,
    },
    /// What is folded cannot be read: a sentence.
    Damaged(String),
}

/// Why reading stops.
enum Stop {
    Failed(CheckpointError),
    Damaged(String),
}

impl From<CheckpointError> for Stop {
    fn from(error: CheckpointError) -> Stop {
        Stop::Failed(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Stop {
        Stop::Failed(error.into())
    }
}

impl Fold {
    /// `number` is that of the run to be made; `whole` says that nothing lies below.
    pub(super) fn new(token: Token, number: u64, folded: Vec<Run>, whole: bool) -> Fold {
        Fold {
            token,
            inputs: folded.iter().copied().map(Input::new).collect(),
            folded,
            whole,
            begun: false,
            heads: BinaryHeap::new(),
            cover: Cover::default(),
            writer: RunWriter::new(number),
            number,
            unsealer: Unsealer::default(),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn folded(&self) -> &[Run] {
        &self.folded
    }

    /// Goes on for a while.
    pub(super) fn step(mut self: Box<Fold>, store: &dyn Store) -> Result<Step, CheckpointError> {
        match self.slice(store) {
            Ok(true) => Ok(Step::More(self)),
            Ok(false) => {
                let Fold {
                    token,
                    folded,
                    writer,
                    ..
                } = *self;
                let run = writer.close(store)?;
                Ok(Step::Done { folded, run, token })
            }
            Err(Stop::Damaged(why)) => Ok(Step::Damaged(why)),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn slice(&mut self, store: &dyn Store) -> Result<bool, Stop> {
        if !self.begun {
            self.begin(store)?;
        }
        let mut bytes = 0;
        while bytes < SLICE_BYTES {
            let Some(Reverse((place, Reverse(youngest)))) = self.heads.pop() else {
                return Ok(false);
            };
            let shown = !self.cover.hides(place, youngest);
            bytes += self.take(place, youngest, shown, store)?;
            while let Some(Reverse((next, Reverse(older)))) = self.heads.peek() {
                if *next != place {
                    break;
                }
                let older = *older;
                self.heads.pop();
                bytes += self.take(place, older, false, store)?;
            }
        }
        Ok(true)
    }

    /// Reads what is emptied, and the first piece of each run.
    fn begin(&mut self, store: &dyn Store) -> Result<(), Stop> {
        for (age, input) in self.inputs.iter_mut().enumerate() {
            loop {
                match input.next(store, &mut self.unsealer)? {
                    Some(Entry::Emptied(first, last)) => self.cover.empty(*first, *last, age),
                    Some(Entry::Put(place, _) | Entry::Removed(place)) => {
                        self.heads.push(Reverse((*place, Reverse(age))));
                        break;
                    }
                    Some(Entry::More(..)) => return Err(input.damaged(Damage::Content)),
                    None => break,
                }
            }
        }
        if !self.whole {
            for (first, last) in self.cover.ranges() {
                self.writer.emptied(first, last, store)?;
            }
        }
        self.begun = true;
        Ok(())
    }

    /// Takes what a run says of a place, all parts of a piece, and writes it when it is shown.
    /// Gives its bytes.
    fn take(
        &mut self,
        place: Place,
        age: usize,
        shown: bool,
        store: &dyn Store,
    ) -> Result<u64, Stop> {
        let Some(input) = self.inputs.get_mut(age) else {
            return Ok(0);
        };
        let mut bytes = 16;
        loop {
            match (&input.head, shown) {
                (Some(Entry::Put(_, range)), true) => {
                    self.writer.put(place, input.bytes(range), store)?;
                }
                (Some(Entry::More(_, range)), true) => {
                    self.writer.more(place, input.bytes(range), store)?;
                }
                (Some(Entry::Removed(_)), true) if !self.whole => {
                    self.writer.removed(place, store)?;
                }
                (_, _) => {}
            }
            if let Some(Entry::Put(_, range) | Entry::More(_, range)) = &input.head {
                bytes += super::count(range.len());
            }
            match input.next(store, &mut self.unsealer)? {
                Some(Entry::More(..)) => {}
                Some(Entry::Put(next, _) | Entry::Removed(next)) => {
                    self.heads.push(Reverse((*next, Reverse(age))));
                    return Ok(bytes);
                }
                Some(Entry::Emptied(..)) => return Err(input.damaged(Damage::Content)),
                None => return Ok(bytes),
            }
        }
    }
}

/// A run that is read from its beginning to its end.
#[derive(Debug)]
struct Input {
    run: Run,
    /// How many frames have been read.
    frames: u32,
    sum: u32,
    frame: Vec<u8>,
    entries: Entries,
    head: Option<Entry>,
}

impl Input {
    fn new(run: Run) -> Input {
        Input {
            run,
            frames: 0,
            sum: 0,
            frame: Vec::new(),
            entries: Entries::default(),
            head: None,
        }
    }

    fn bytes(&self, range: &Range<usize>) -> &[u8] {
        self.frame.get(range.clone()).unwrap_or_default()
    }

    fn damaged(&self, damage: Damage) -> Stop {
        Stop::Damaged(format!("run {}: {damage}", self.run.number))
    }

    /// The next entry, which is the head then.
    fn next(&mut self, store: &dyn Store, unsealer: &mut Unsealer) -> Result<Option<&Entry>, Stop> {
        loop {
            let read = self.entries.next(&self.frame);
            self.head = read.map_err(|damage| self.damaged(damage))?;
            if self.head.is_some() {
                return Ok(self.head.as_ref());
            }
            if self.frames == self.run.frames {
                return if self.sum == self.run.sum {
                    Ok(None)
                } else {
                    Err(self.damaged(Damage::Checksum))
                };
            }
            let value = store.get(&frame_key(self.run.number, self.frames))?;
            let value = value.ok_or_else(|| self.damaged(Damage::Short))?;
            let frame = unpack(self.run.number, self.frames, &value, unsealer);
            self.frame = frame.map_err(|damage| self.damaged(damage))?;
            self.sum = sum_with(self.sum, &value);
            self.frames += 1;
            self.entries.next_frame();
        }
    }
}
