//! One filter and one window for several queries that look through the same.
//!
//! What comes out is what would come out if each had its own: the first that gets rows works for
//! all, and each gives what it has when its own turn comes. Each saves its state as if it stood
//! alone, so that it keeps it whatever other queries there are. Which of them share is decided by
//! what their windows hold: those that have begun together go on together.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::feed::StreamFeed;
use super::stage::Stage;
use super::state::{Save, Saver, Saving, StateError};
use super::tail::Shows;
use super::window::{Changes, Picked, Slide};
use crate::event::{Batch, Row, Rows, Stamp, StateChanges, Timestamp};

/// A query's place in a room.
pub(super) struct Member {
    room: Arc<Mutex<Room>>,
    number: usize,
    /// What has come out and not yet been taken.
    pub(super) out: Batch,
}

/// Queries that look through one window.
struct Room {
    feed: StreamFeed,
    stages: Vec<Stage>,
}

/// The windows among which a query may find its own.
#[derive(Default)]
pub(super) struct Rooms(Vec<Known>);

struct Known {
    /// The first query of the plan that has such a feed.
    first: usize,
    /// What the window holds.
    state: StateChanges,
    room: Arc<Mutex<Room>>,
}

impl Rooms {
    /// Takes a query's part in the room of those that have its feed and have had its rows. `first`
    /// is the first query of the plan that has such a feed.
    pub(super) fn enter(&mut self, first: usize, mut feed: StreamFeed, stage: Stage) -> Member {
        let mut state = StateChanges::new();
        let saved = feed.save(&mut Saver::new(Saving::Whole, 0, &mut state).of(0));
        let same = |known: &&Known| known.first == first && known.state == state;
        // What cannot be compared stands alone.
        let known = self.0.iter().find(same).filter(|_| saved.is_ok());
        let room = match known {
            Some(known) => Arc::clone(&known.room),
            None => {
                let stages = Vec::new();
                Arc::new(Mutex::new(Room { feed, stages }))
            }
        };
        if known.is_none() && saved.is_ok() {
            let room = Arc::clone(&room);
            self.0.push(Known { first, state, room });
        }
        let mut locked = lock(&room);
        let number = locked.stages.len();
        let out = Batch::new(stage.output().out.width());
        locked.stages.push(stage);
        drop(locked);
        Member { room, number, out }
    }
}

fn lock(room: &Mutex<Room>) -> MutexGuard<'_, Room> {
    room.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    /// Takes rows, which all members are given, one after another: the first takes them for all.
    pub(super) fn push(&mut self, rows: Rows<'_>) {
        if self.number == 0 {
            let Room { feed, stages } = &mut *lock(&self.room);
            feed.push(0, rows, &mut All(stages));
        }
    }

    /// The clock has reached the deadline: the first to be told fires for all.
    pub(super) fn fire(&mut self, at: Stamp) {
        let Room { feed, stages } = &mut *lock(&self.room);
        feed.fire(at, &mut All(stages));
    }

    /// Calls `act` with what shows this member's rows.
    pub(super) fn look(&mut self, act: impl FnOnce(&mut dyn Shows)) {
        if let Some(stage) = lock(&self.room).stages.get_mut(self.number) {
            act(stage.shows());
        }
    }

    /// Takes what has come out for this member.
    pub(super) fn collect(&mut self) {
        let Member { room, number, out } = self;
        let mut room = lock(room);
        let Some(stage) = room.stages.get_mut(*number) else {
            return;
        };
        let given = &mut stage.shows().output().out;
        if out.is_empty() {
            std::mem::swap(out, given);
        } else {
            out.append(given);
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        lock(&self.room).feed.deadline()
    }

    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        lock(&self.room).feed.earliest(time)
    }

    /// Whether the feed has anything to remember between two rows.
    pub(super) fn has_state(&self) -> bool {
        lock(&self.room).feed.has_state()
    }

    /// Expressions that could not be computed since the last call: what has failed for all has
    /// failed for each.
    pub(super) fn take_faults(&self) -> u64 {
        let room = lock(&self.room);
        let stage = room.stages.get(self.number);
        let own = stage.map_or(0, |stage| stage.output().take_faults());
        if self.number == 0 {
            own + room.feed.take_faults() * room.stages.len() as u64
        } else {
            own
        }
    }

    pub(super) fn save_feed(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        lock(&self.room).feed.save(save)
    }

    pub(super) fn save_stage(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        match lock(&self.room).stages.get_mut(self.number) {
            Some(stage) => stage.save(save),
            None => Ok(()),
        }
    }
}

/// Tells everybody.
struct All<'a>(&'a mut [Stage]);

/// Calls a method of every stage.
macro_rules! each {
    ($all:ident, $stage:ident => $call:expr) => {
        for stage in &mut *$all.0 {
            match stage {
                Stage::Projected($stage) => $call,
                Stage::Grouped($stage) => $call,
            }
        }
    };
}

impl Changes for All<'_> {
    fn enter(&mut self, row: Row<'_>) {
        each!(self, stage => stage.enter(row));
    }

    fn enter_all(&mut self, rows: Picked<'_>) {
        each!(self, stage => stage.enter_all(rows));
    }

    fn leave(&mut self, row: Row<'_>, at: Stamp) {
        each!(self, stage => stage.leave(row, at));
    }

    fn replaced(&mut self, row: Row<'_>, at: Stamp) {
        each!(self, stage => stage.replaced(row, at));
    }

    fn slide(&mut self, slide: Slide<'_>) {
        each!(self, stage => stage.slide(slide));
    }

    fn close(&mut self, at: Stamp) {
        each!(self, stage => stage.close(at));
    }
}
