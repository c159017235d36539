//! What one thread has another one do: packing and writing.

use std::collections::VecDeque;

use super::catalogue::{Shared, Token};
use super::cover::Cover;
use super::fold::{Fold, Step};
use super::frame::RunWriter;
use super::manifest::{Keys, Listed, Run, clear_some};
use super::{CheckpointError, count};
use crate::event::{Place, Seq, StateChanges, Timestamp};
use crate::store::Store;

/// A part of a checkpoint, or of a fold, that is to be written. Jobs of one [`Checkpoints`] are
/// run one after the other, in the order in which they were handed out; one that was handed out
/// by a [`Report`] may give way to others.
///
/// [`Checkpoints`]: super::Checkpoints
#[derive(Debug)]
#[must_use = "nothing is written until it is run"]
pub struct Job {
    shared: Shared,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Stage {
        attempt: u64,
        sets: Vec<StateChanges>,
    },
    Finish {
        attempt: u64,
        sets: Vec<StateChanges>,
        at: (Seq, Timestamp),
        token: Token,
    },
    Fold(Box<Fold>),
    Clear(VecDeque<Keys>),
}

/// What a job has done.
#[derive(Debug, Default)]
#[must_use = "there may be more to do"]
pub struct Report {
    /// What is to be done next; it may wait until checkpoints have been written.
    pub more: Option<Job>,
    /// A checkpoint that there is now.
    pub saved: Option<Saved>,
    /// Something that somebody should know: a sentence.
    pub warning: Option<String>,
}

/// A checkpoint that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Its number.
    pub number: u64,
    /// The last input that it covers.
    pub seq: Seq,
    /// The bytes that were new in it, before they were packed.
    pub state_bytes: u64,
    /// The bytes given to the store.
    pub stored_bytes: u64,
    /// Whether it is the one before with fewer runs.
    pub folded: bool,
}

impl Job {
    pub(super) fn stage(shared: &Shared, attempt: u64, sets: Vec<StateChanges>) -> Job {
        Job {
            shared: shared.clone(),
            work: Work::Stage { attempt, sets },
        }
    }

    pub(super) fn finish(
        shared: &Shared,
        attempt: u64,
        sets: Vec<StateChanges>,
        at: (Seq, Timestamp),
    ) -> Job {
        let token = shared.lock().finishes();
        let work = Work::Finish {
            attempt,
            sets,
            at,
            token,
        };
        let shared = shared.clone();
        Job { shared, work }
    }

    pub(super) fn fold(shared: &Shared) -> Option<Job> {
        let mut catalogue = shared.lock();
        let (token, runs, whole) = catalogue.next_fold()?;
        let fold = Fold::new(token, catalogue.next_run(), runs, whole);
        drop(catalogue);
        Some(Job {
            shared: shared.clone(),
            work: Work::Fold(Box::new(fold)),
        })
    }

    /// Does it.
    ///
    /// # Errors
    /// When the store fails, or when the checkpoint was given up. The next checkpoint that is begun
    /// is then a whole one; the older ones are still there.
    pub fn run(self, store: &dyn Store) -> Result<Report, CheckpointError> {
        let Job { shared, work } = self;
        let done = match work {
            Work::Stage { attempt, sets } => stage(&shared, attempt, sets, store),
            Work::Finish {
                attempt,
                sets,
                at,
                token,
            } => {
                let done = finish(&shared, attempt, sets, at, store);
                drop(token);
                done
            }
            Work::Fold(fold) => fold_on(&shared, fold, store),
            Work::Clear(keys) => clear(&shared, keys, store),
        };
        match &done {
            Ok(_) | Err(CheckpointError::GivenUp) => {}
            Err(
                CheckpointError::Store(_)
                | CheckpointError::TooLong(_)
                | CheckpointError::TooMany
                | CheckpointError::Encode(_)
                | CheckpointError::Newer { .. },
            ) => shared.lock().demand_whole(),
        }
        done
    }
}

fn stage(
    shared: &Shared,
    attempt: u64,
    sets: Vec<StateChanges>,
    store: &dyn Store,
) -> Result<Report, CheckpointError> {
    let mut catalogue = shared.lock();
    if catalogue.goes_on(attempt) {
        let number = catalogue.next_run();
        drop(catalogue);
        write_run(shared, attempt, number, sets, store)?;
    }
    Ok(Report::default())
}

fn finish(
    shared: &Shared,
    attempt: u64,
    sets: Vec<StateChanges>,
    at: (Seq, Timestamp),
    store: &dyn Store,
) -> Result<Report, CheckpointError> {
    let mut catalogue = shared.lock();
    if !catalogue.goes_on(attempt) {
        return Err(CheckpointError::GivenUp);
    }
    if !sets.iter().all(StateChanges::is_empty) {
        let number = catalogue.next_run();
        drop(catalogue);
        write_run(shared, attempt, number, sets, store)?;
        catalogue = shared.lock();
    }
    let (listed, own) = catalogue.complete(attempt, at)?;
    drop(catalogue);
    let mut saved = Saved {
        number: listed.number,
        seq: listed.seq,
        state_bytes: own.iter().map(|run| run.state_bytes).sum(),
        stored_bytes: own.iter().map(|run| run.stored_bytes).sum(),
        folded: false,
    };
    let report = publish(shared, listed, &mut saved, store)?;
    let counters = &mut shared.lock().counters;
    counters.checkpoints += 1;
    counters.checkpoint_bytes += saved.stored_bytes;
    Ok(report)
}

/// Writes a manifest. Others wait for the catalogue only while it is read and changed.
fn publish(
    shared: &Shared,
    listed: Listed,
    saved: &mut Saved,
    store: &dyn Store,
) -> Result<Report, CheckpointError> {
    let mut plan = shared.lock().plan(listed)?;
    saved.stored_bytes += plan.bytes;
    store.write(std::mem::take(&mut plan.batch))?;
    let rest = shared.lock().done(plan);
    Ok(Report {
        more: (!rest.is_empty()).then(|| Job {
            shared: shared.clone(),
            work: Work::Clear(rest.into()),
        }),
        saved: Some(*saved),
        warning: None,
    })
}

/// Makes one run of sets of changes, where later ones win.
fn write_run(
    shared: &Shared,
    attempt: u64,
    number: u64,
    sets: Vec<StateChanges>,
    store: &dyn Store,
) -> Result<(), CheckpointError> {
    let written = write_sets(number, &sets, store);
    let mut catalogue = shared.lock();
    match written {
        // It may have been given up while it was written.
        Ok(run) if catalogue.goes_on(attempt) => catalogue.staged(run),
        Ok(_) => catalogue.given_up(number),
        Err(error) => {
            catalogue.given_up(number);
            return Err(error);
        }
    }
    Ok(())
}

fn write_sets(
    number: u64,
    sets: &[StateChanges],
    store: &dyn Store,
) -> Result<Run, CheckpointError> {
    let mut cover = Cover::default();
    let mut pieces: Vec<(Place, usize, Option<&[u8]>)> = Vec::new();
    for (age, set) in sets.iter().enumerate() {
        for (first, last) in set.emptied() {
            cover.empty(*first, *last, age);
        }
        let set = set.pieces();
        pieces.extend(set.map(|(place, piece)| (place, age, piece)));
    }
    // Stable: of one place, the change that was made last stands last.
    pieces.sort_by_key(|(place, ..)| *place);
    let mut writer = RunWriter::new(number);
    for (first, last) in cover.ranges() {
        writer.emptied(first, last, store)?;
    }
    let mut pieces = pieces.into_iter().peekable();
    while let Some((place, age, piece)) = pieces.next() {
        let replaced = pieces.peek().is_some_and(|(next, ..)| *next == place);
        if replaced || cover.hides(place, age) {
            continue;
        }
        match piece {
            Some(piece) => writer.put(place, piece, store)?,
            None => writer.removed(place, store)?,
        }
    }
    writer.close(store)
}

fn fold_on(shared: &Shared, fold: Box<Fold>, store: &dyn Store) -> Result<Report, CheckpointError> {
    let number = fold.number();
    // Another chain needs no fold of this one, whose runs may be gone.
    if !shared.lock().still_stands(fold.folded()) {
        shared.lock().given_up(number);
        return Ok(Report::default());
    }
    let step = fold.step(store);
    let mut report = Report::default();
    match step {
        Ok(Step::More(fold)) => {
            report.more = Some(Job {
                shared: shared.clone(),
                work: Work::Fold(fold),
            });
            return Ok(report);
        }
        Ok(Step::Damaged(why)) => {
            let mut catalogue = shared.lock();
            catalogue.given_up(number);
            catalogue.demand_whole();
            report.warning = Some(format!(
                "the newest checkpoint is damaged: {why}; the next one is written whole"
            ));
            return Ok(report);
        }
        Ok(Step::Done { folded, run, token }) => {
            let mut catalogue = shared.lock();
            let Some(listed) = catalogue.folded(&folded, run) else {
                catalogue.given_up(number);
                return Ok(report);
            };
            drop(catalogue);
            let mut saved = Saved {
                number: listed.number,
                seq: listed.seq,
                state_bytes: run.state_bytes,
                stored_bytes: run.stored_bytes,
                folded: true,
            };
            report = publish(shared, listed, &mut saved, store)?;
            drop(token);
            let counters = &mut shared.lock().counters;
            counters.folds += 1;
            counters.fold_bytes += saved.stored_bytes;
        }
        Err(error) => {
            shared.lock().given_up(number);
            return Err(error);
        }
    }
    Ok(report)
}

/// Removes some of what nothing refers to.
fn clear(
    shared: &Shared,
    mut keys: VecDeque<Keys>,
    store: &dyn Store,
) -> Result<Report, CheckpointError> {
    let mut removed = 0;
    while let Some(next) = keys.front() {
        let more = clear_some(store, next)?;
        if !more {
            keys.pop_front();
        }
        removed += 1;
        if more || removed >= CLEARED_MAX {
            break;
        }
    }
    Ok(Report {
        more: (!keys.is_empty()).then(|| Job {
            shared: shared.clone(),
            work: Work::Clear(keys),
        }),
        ..Report::default()
    })
}

/// Runs that are removed at a time.
const CLEARED_MAX: usize = 16;

impl Job {
    /// The bytes of the changes that it holds in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.work {
            Work::Stage { sets, .. } | Work::Finish { sets, .. } => {
                sets.iter().map(|set| count(set.bytes())).sum()
            }
            Work::Fold(_) | Work::Clear(_) => 0,
        }
    }
}
