//! What the loop is asked for, done between turns.
//!
//! A checkpoint and a purge are answered when a sync covers them, which is begun for their sake.
//! Their end is not waited for: they go on step by step, among the turns. What is under way when
//! the store fails is not answered, and its end of the channel is gone: nobody can tell how far it
//! came.

use std::time::{Duration, Instant};

use super::super::errand::{Answer, Errand, Undone};
use super::super::tap::{TAPS_MAX, Tap};
use super::super::turn::PipelineError;
use super::Pipeline;
use crate::event::{OutputKey, Seq};
use crate::outbox::Purged;

/// Checkpoints and purges that may be under way.
const UNDER_WAY_MAX: usize = 8;
/// How soon a step is tried again that could not be done.
const AGAIN: Duration = Duration::from_millis(100);

/// What has been begun.
#[derive(Debug, Default)]
pub(super) struct Errands {
    under_way: Vec<UnderWay>,
    /// How many syncs were begun.
    syncs: u64,
}

#[derive(Debug)]
struct UnderWay {
    what: What,
    /// How many syncs had been begun when all of it was written; a later one covers it.
    written: Option<u64>,
}

#[derive(Debug)]
enum What {
    Checkpoint {
        through: Seq,
        answer: Answer<Seq>,
    },
    Purge {
        sink: String,
        through: OutputKey,
        purged: u64,
        answer: Answer<u64>,
    },
}

impl UnderWay {
    fn done(self) {
        match self.what {
            What::Checkpoint { through, answer } => answer.give(Ok(through)),
            What::Purge { purged, answer, .. } => answer.give(Ok(purged)),
        }
    }

    fn undone(self, why: Undone) {
        match self.what {
            What::Checkpoint { answer, .. } => answer.give(Err(why)),
            What::Purge { answer, .. } => answer.give(Err(why)),
        }
    }
}

impl Errands {
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// How long the loop may wait before it goes on with them.
    pub(super) fn wait(&self) -> Option<Duration> {
        let purges = |one: &UnderWay| matches!(one.what, What::Purge { .. });
        let mut open = self.under_way.iter().filter(|one| one.written.is_none());
        match open.any(purges) {
            true => Some(Duration::ZERO),
            false => (!self.is_idle()).then_some(AGAIN),
        }
    }

    /// Whether something is written and waits to be durable.
    pub(super) fn want_sync(&self) -> bool {
        self.under_way.iter().any(|one| one.written.is_some())
    }

    /// A sync is begun, when the one before has ended.
    pub(super) fn sync_begins(&mut self) {
        self.syncs += 1;
    }

    /// The sync that was begun last has ended well.
    pub(super) fn synced(&mut self) {
        if self.is_idle() {
            return;
        }
        let syncs = self.syncs;
        let is_done = |one: &UnderWay| one.written.is_some_and(|written| written < syncs);
        let all = std::mem::take(&mut self.under_way).into_iter();
        let (done, rest): (Vec<UnderWay>, _) = all.partition(is_done);
        self.under_way = rest;
        done.into_iter().for_each(UnderWay::done);
    }

    /// A checkpoint could not be written.
    pub(super) fn checkpoint_failed(&mut self, why: &str) {
        let waits =
            |one: &UnderWay| matches!(one.what, What::Checkpoint { .. }) && one.written.is_none();
        let all = std::mem::take(&mut self.under_way).into_iter();
        let (failed, rest): (Vec<UnderWay>, _) = all.partition(waits);
        self.under_way = rest;
        for one in failed {
            let why = why.to_owned();
            one.undone(Undone::Failed { why });
        }
    }

    fn begin<T>(&mut self, what: impl FnOnce(Answer<T>) -> What, answer: Answer<T>) {
        if self.under_way.len() >= UNDER_WAY_MAX {
            answer.give(Err(Undone::TooMany));
            return;
        }
        self.under_way.push(UnderWay {
            what: what(answer),
            written: None,
        });
    }
}

impl Pipeline<'_> {
    /// Does what it is asked, or begins to.
    pub(super) fn take_errand(&mut self, errand: Errand) {
        let stops = self.lasting.draining.is_some() || self.lasting.is_stopping();
        match errand {
            Errand::Checkpoint { answer } => {
                let through = self.core.last();
                let what = |answer| What::Checkpoint { through, answer };
                if let Some(answer) = wanted(answer, stops) {
                    self.errands.begin(what, answer);
                }
            }
            Errand::Pause {
                sink,
                paused,
                answer,
            } => {
                if let Some(answer) = wanted(answer, stops) {
                    answer.give(self.pause(sink, paused));
                }
            }
            Errand::Purge { sink, answer } => {
                let Some(answer) = wanted(answer, stops) else {
                    return;
                };
                let place = self.place_of(&sink);
                let Some(through) = place.and_then(|place| self.core.outbox().last_key(place))
                else {
                    answer.give(Err(Undone::NoSink));
                    return;
                };
                let what = |answer| What::Purge {
                    sink,
                    through,
                    purged: 0,
                    answer,
                };
                self.errands.begin(what, answer);
            }
            Errand::Tap { tap, answer } => {
                if let Some(answer) = wanted(answer, stops) {
                    answer.give(self.tap(tap));
                }
            }
        }
    }

    fn place_of(&self, sink: &str) -> Option<usize> {
        self.core.sinks().iter().position(|one| one.name == sink)
    }

    fn pause(&mut self, sink: String, paused: bool) -> Result<(), Undone> {
        let place = self.place_of(&sink);
        let feed = place.and_then(|place| self.lasting.handles.feeds.get_mut(place));
        feed.ok_or(Undone::NoSink)?.pause(paused);
        if paused {
            self.lasting.paused.insert(sink);
        } else {
            self.lasting.paused.remove(&sink);
        }
        Ok(())
    }

    /// Pauses the sinks that are to be so, and forgets those that are gone.
    pub(super) fn pause_again(&mut self) {
        let sinks = self.core.sinks();
        let paused = &mut self.lasting.paused;
        paused.retain(|name| sinks.iter().any(|sink| sink.name == *name));
        for (sink, feed) in sinks.iter().zip(&mut self.lasting.handles.feeds) {
            feed.pause(paused.contains(&sink.name));
        }
    }

    fn tap(&mut self, tap: Tap) -> Result<(), Undone> {
        self.tap_again();
        if self.lasting.taps.len() >= TAPS_MAX {
            return Err(Undone::TooMany);
        }
        let (stream, _) = self
            .core
            .plan()
            .stream_named(tap.stream())
            .ok_or(Undone::NoStream)?;
        self.lasting.taps = self.lasting.taps.with(stream, tap);
        self.core.tap(&self.lasting.taps);
        Ok(())
    }

    /// Goes on with the taps that somebody looks at.
    pub(super) fn tap_again(&mut self) {
        self.lasting.taps = self.lasting.taps.wanted(self.core.plan());
        self.core.tap(&self.lasting.taps);
    }

    /// Goes on with what has been begun.
    pub(super) fn errands(&mut self) -> Result<(), PipelineError> {
        if self.lasting.taps.has_unwanted() {
            self.tap_again();
        }
        if self.errands.is_idle() {
            return Ok(());
        }
        let all = std::mem::take(&mut self.errands.under_way);
        if self.lasting.draining.is_some() {
            all.into_iter().for_each(|one| one.undone(Undone::Stopping));
            return Ok(());
        }
        for one in all {
            let one = self.go_on(one)?;
            self.errands.under_way.extend(one);
        }
        Ok(())
    }

    /// A step further; none when it is answered.
    fn go_on(&mut self, mut one: UnderWay) -> Result<Option<UnderWay>, PipelineError> {
        if one.written.is_some() {
            return Ok(Some(one));
        }
        let is_written = match &mut one.what {
            What::Checkpoint { through, .. } => {
                let is_saved = self.core.saved >= *through;
                if is_saved {
                    self.unsynced_checkpoint = true;
                } else if self.saving.is_idle() {
                    self.checkpoint();
                }
                is_saved
            }
            What::Purge {
                sink,
                through,
                purged,
                ..
            } => {
                let Some(place) = self.place_of(sink) else {
                    one.undone(Undone::NoSink);
                    return Ok(None);
                };
                let Purged {
                    purged: some, more, ..
                } = self.purge(place, *through)?;
                *purged += some;
                !more
            }
        };
        if is_written {
            one.written = Some(self.errands.syncs);
            self.unsynced_since.get_or_insert_with(Instant::now);
        }
        Ok(Some(one))
    }

    /// Gives up some of what waits for a sink.
    fn purge(&mut self, sink: usize, through: OutputKey) -> Result<Purged, PipelineError> {
        if self.confirmed_since.is_some() {
            // What has arrived by now is not given up.
            self.write_confirmed()?;
        }
        let time = self.now();
        let (turn, purged) = self.core.purge(sink, through, time)?;
        self.write(turn)?;
        Ok(purged)
    }
}

/// The answer, if somebody waits for it and there is time to do it.
fn wanted<T>(answer: Answer<T>, stops: bool) -> Option<Answer<T>> {
    if stops {
        answer.give(Err(Undone::Stopping));
        return None;
    }
    Some(answer).filter(Answer::is_wanted)
}
