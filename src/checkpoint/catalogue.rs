//! What is known of the checkpoints of a store: which there are, what the next one builds on, what
//! is kept and what may go.
//!
//! The thread that computes and the one that runs jobs share it. Jobs run one after the other, and
//! only they change what is in the store, so that what a job finds here is what is there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::manifest::{self, Form, Keys, Listed, Run, keys_of_run};
use super::{CheckpointError, Extent, count, manifest_key, old};
use crate::event::{Seq, Timestamp};
use crate::store::WriteBatch;

/// Changes may weigh as much as their base, but at least this, before everything is folded.
const FOLD_BYTES_MIN: u64 = 64 << 10;
/// While no checkpoint stands beside the newest that shares nothing with it, everything is folded
/// when the changes weigh this part of their base, ...
const FIRST_FOLD_PART: u64 = 8;
/// ... or when there are so many runs of them: until then nothing of the log may go.
const FIRST_FOLD_RUNS: usize = 4;
/// More runs of changes are folded into one; fewer in tests, so that they come to it.
const RUNS_MAX: usize = if cfg!(test) { 5 } else { 32 };
/// So many are folded at least, ...
const FOLDED_RUNS_MIN: usize = if cfg!(test) { 3 } else { 8 };
/// ... and at most, as each takes the memory of a frame.
const FOLDED_RUNS_MAX: usize = 128;

/// What has been written since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Checkpoints.
    pub checkpoints: u64,
    /// The bytes given to the store for them.
    pub checkpoint_bytes: u64,
    /// Folds.
    pub folds: u64,
    /// The bytes given to the store for them.
    pub fold_bytes: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Catalogue>>);

impl Shared {
    pub(super) fn new(catalogue: Catalogue) -> Shared {
        Shared(Arc::new(Mutex::new(catalogue)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Catalogue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by a job and its successors; its work is over when it is gone.
pub(super) type Token = Arc<()>;

/// What the next checkpoint builds on.
#[derive(Clone, Debug, Default)]
struct Chain {
    runs: Vec<Run>,
    base: usize,
    seq: Seq,
    time: Timestamp,
}

#[derive(Debug)]
pub(super) struct Catalogue {
    keep: usize,
    /// Oldest first.
    listed: Vec<Listed>,
    /// `None` when the next checkpoint must be a whole one.
    chain: Option<Chain>,
    /// The checkpoint that has been begun and has not failed: its number, its extent, its runs.
    attempt: Option<(u64, Extent, Vec<Run>)>,
    next: u64,
    next_run: u64,
    /// Runs that were written, or begun, and belong to nothing.
    given_up: Vec<u64>,
    finishing: Weak<()>,
    folding: Weak<()>,
    /// What is folded from the ground up: later it is what shares nothing with the newest.
    pinned: Option<u64>,
    /// How often a whole checkpoint was demanded.
    demands: u64,
    /// After which inputs the state went back, and to what it was after which.
    returns: Vec<(Seq, Seq)>,
    pub(super) counters: Counters,
}

/// A checkpoint that is about to be written.
#[derive(Debug)]
pub(super) struct Plan {
    new: Listed,
    /// Its manifest, and the removal of others.
    pub(super) batch: WriteBatch,
    /// The manifest's bytes.
    pub(super) bytes: u64,
    /// The numbers of those that stay.
    kept: BTreeSet<u64>,
    demands: u64,
}

impl Catalogue {
    pub(super) fn new(listed: Vec<Listed>, keep: usize, next_run: u64, last_old: u64) -> Catalogue {
        let last = listed.iter().map(|listed| listed.number).max();
        Catalogue {
            keep,
            next: last.unwrap_or(0).max(last_old).saturating_add(1),
            listed,
            chain: None,
            attempt: None,
            next_run,
            given_up: Vec::new(),
            finishing: Weak::new(),
            folding: Weak::new(),
            pinned: None,
            demands: 0,
            returns: Vec::new(),
            counters: Counters::default(),
        }
    }

    pub(super) fn listed(&self) -> &[Listed] {
        &self.listed
    }

    pub(super) fn oldest_retained(&self) -> Option<Seq> {
        let whole = || self.listed.iter().filter(|listed| listed.whole());
        let newest = whole().next_back()?;
        // As long as one flipped bit could cost all of them, there is the log.
        whole().find(|listed| listed.shares_nothing_with(newest))?;
        let oldest = whole().map(|listed| listed.seq).min();
        oldest.filter(|seq| *seq > Seq(0))
    }

    pub(super) fn goes_back(&mut self, at: Seq, to: Seq) {
        self.returns.push((at, to));
    }

    pub(super) fn build_on(&mut self, number: u64) {
        let listed = self.listed.iter().find(|listed| listed.number == number);
        self.chain = listed.and_then(|listed| match &listed.form {
            Form::Runs { runs, base } => Some(Chain {
                runs: runs.clone(),
                base: *base,
                seq: listed.seq,
                time: listed.time,
            }),
            Form::Old | Form::Damaged(_) => None,
        });
    }

    pub(super) fn is_damaged(&mut self, number: u64, why: String) {
        let found = self.listed.iter_mut().find(|one| one.number == number);
        if let Some(listed) = found {
            let runs = listed.runs().iter().map(|run| run.number);
            self.given_up.extend(runs);
            listed.form = Form::Damaged(why);
        }
    }

    pub(super) fn is_finishing(&self) -> bool {
        self.finishing.strong_count() > 0
    }

    pub(super) fn begin(&mut self, attempt: u64) -> Extent {
        if self.attempt.is_some() {
            // What it was given is in no checkpoint, and will not be given again.
            self.demand_whole();
        }
        let extent = match self.chain {
            Some(_) => Extent::Changes,
            None => Extent::Whole,
        };
        self.attempt = Some((attempt, extent, Vec::new()));
        extent
    }

    fn give_up(&mut self) {
        if let Some((_, _, runs)) = self.attempt.take() {
            self.given_up.extend(runs.iter().map(|run| run.number));
        }
    }

    /// Nothing can be built on any more; what has been begun is given up.
    pub(super) fn demand_whole(&mut self) {
        self.give_up();
        self.chain = None;
        self.demands += 1;
    }

    /// The checkpoint that is written next is this one's; it ends when the token is gone.
    pub(super) fn finishes(&mut self) -> Token {
        let token = Token::default();
        self.finishing = Arc::downgrade(&token);
        token
    }

    pub(super) fn next_run(&mut self) -> u64 {
        let run = self.next_run;
        self.next_run = run.saturating_add(1);
        run
    }

    pub(super) fn given_up(&mut self, run: u64) {
        self.given_up.push(run);
    }

    /// Whether `attempt` has been neither given up nor finished.
    pub(super) fn goes_on(&self, attempt: u64) -> bool {
        let current = self.attempt.as_ref().map(|(current, ..)| *current);
        current == Some(attempt)
    }

    /// A run of the checkpoint that has been begun is there.
    pub(super) fn staged(&mut self, run: Run) {
        if let Some((_, _, runs)) = &mut self.attempt {
            runs.push(run);
        }
    }

    /// The checkpoint that has been begun, complete: what it is, and the size of its own runs.
    pub(super) fn complete(
        &mut self,
        attempt: u64,
        (seq, time): (Seq, Timestamp),
    ) -> Result<(Listed, Vec<Run>), CheckpointError> {
        let begun = self.attempt.take_if(|(current, ..)| *current == attempt);
        let (_, extent, own) = begun.ok_or(CheckpointError::GivenUp)?;
        let own: Vec<Run> = own.into_iter().filter(|run| run.frames > 0).collect();
        let before = match (extent, &self.chain) {
            (Extent::Whole, _) => Chain {
                base: own.len(),
                ..Chain::default()
            },
            (Extent::Changes, Some(chain)) => chain.clone(),
            (Extent::Changes, None) => return Err(CheckpointError::GivenUp),
        };
        let mut runs = before.runs;
        runs.extend_from_slice(&own);
        let base = before.base;
        Ok((self.numbered(seq, time, runs, base), own))
    }

    fn numbered(&mut self, seq: Seq, time: Timestamp, runs: Vec<Run>, base: usize) -> Listed {
        let number = self.next;
        self.next = number.saturating_add(1);
        Listed {
            number,
            seq,
            time,
            form: Form::Runs { runs, base },
        }
    }

    pub(super) fn keep(&mut self, keep: usize) {
        self.keep = keep;
    }

    /// What it takes to write a checkpoint's manifest, and to let go of what is not kept besides.
    pub(super) fn plan(&self, new: Listed) -> Result<Plan, CheckpointError> {
        let value = manifest::seal(&new)?;
        let bytes = count(value.len());
        let kept = self.kept_beside(&new);
        let mut batch = WriteBatch::new();
        batch.put(manifest_key(new.number), value);
        for gone in self.listed.iter().filter(|one| !kept.contains(&one.number)) {
            // Of a damaged one the form is not known.
            batch.delete(manifest_key(gone.number));
            batch.delete(old::manifest_key(gone.number));
        }
        Ok(Plan {
            new,
            batch,
            bytes,
            kept,
            demands: self.demands,
        })
    }

    /// The plan's changes have been written. Gives what is left to be removed.
    pub(super) fn done(&mut self, plan: Plan) -> Vec<Keys> {
        let mut runs: BTreeSet<u64> = self.given_up.drain(..).collect();
        let (kept, gone): (Vec<Listed>, Vec<Listed>) = std::mem::take(&mut self.listed)
            .into_iter()
            .partition(|one| plan.kept.contains(&one.number));
        let number = plan.new.number;
        self.listed = kept;
        self.listed.push(plan.new);
        if plan.demands == self.demands {
            self.build_on(number);
        }
        runs.extend(gone.iter().flat_map(Listed::runs).map(|run| run.number));
        for run in self.listed.iter().flat_map(Listed::runs) {
            runs.remove(&run.number);
        }
        let rest = gone.iter().map(|gone| old::keys(gone.number));
        rest.chain(runs.into_iter().map(keys_of_run)).collect()
    }

    /// The numbers of those that are kept besides `new`.
    fn kept_beside(&self, new: &Listed) -> BTreeSet<u64> {
        let whole = || self.listed.iter().rev().filter(|listed| listed.whole());
        let newest = whole().take(self.keep.saturating_sub(1));
        let apart = whole().find(|listed| listed.shares_nothing_with(new));
        let pinned = self.pinned.filter(|_| self.folding.strong_count() > 0);
        let kept = newest.chain(apart).map(|listed| listed.number);
        let mut kept: BTreeSet<u64> = kept.chain(pinned).collect();
        // Who begins with one from before the state went back needs one from before that place.
        for (at, to) in self.returns.iter().rev() {
            let between = |seq: Seq| *to < seq && seq < *at;
            if whole().any(|one| kept.contains(&one.number) && between(one.seq)) {
                let before = whole().find(|one| one.seq <= *to);
                kept.extend(before.map(|before| before.number));
            }
        }
        kept
    }

    /// The runs to fold, as a part of the chain, and whether they begin it.
    pub(super) fn next_fold(&mut self) -> Option<(Token, Vec<Run>, bool)> {
        if self.folding.strong_count() > 0 {
            return None;
        }
        let chain = self.chain.as_ref()?;
        let alone = !self.listed.iter().any(|listed| {
            let runs = || listed.runs().iter().map(|run| run.number);
            listed.whole()
                && !chain
                    .runs
                    .iter()
                    .any(|run| runs().any(|one| one == run.number))
        });
        let (from, to) = range_to_fold(&chain.runs, chain.base, alone)?;
        let runs = chain.runs.get(from..to)?.to_vec();
        let newest = self.listed.iter().rev().find(|listed| listed.whole());
        let newest = newest.map(|newest| newest.number);
        self.pinned = newest.filter(|_| from == 0);
        let token = Token::default();
        self.folding = Arc::downgrade(&token);
        Some((token, runs, from == 0))
    }

    /// Where `folded` stands in the chain; `None` when the chain has become another one.
    fn stands(&self, folded: &[Run]) -> Option<usize> {
        let runs = &self.chain.as_ref()?.runs;
        let first = folded.first()?.number;
        let from = runs.iter().position(|run| run.number == first)?;
        let there = runs.get(from..from.checked_add(folded.len())?)?;
        (there == folded).then_some(from)
    }

    pub(super) fn still_stands(&self, folded: &[Run]) -> bool {
        self.stands(folded).is_some()
    }

    /// The newest checkpoint with `run` in the place of those that it was made of.
    pub(super) fn folded(&mut self, folded: &[Run], run: Run) -> Option<Listed> {
        let from = self.stands(folded)?;
        let Chain {
            mut runs,
            base,
            seq,
            time,
        } = self.chain.clone()?;
        let made = (run.frames > 0).then_some(run);
        runs.splice(from..from.checked_add(folded.len())?, made);
        let base = match from {
            0 => base.saturating_sub(folded.len()) + usize::from(made.is_some()),
            _ => base,
        };
        Some(self.numbered(seq, time, runs, base))
    }
}

/// Everything, when the changes outweigh their base; a part of it, when that has too many runs;
/// the youngest runs, when there are too many: from them back as long as a run is not much larger
/// than those behind it, so that a byte is folded only so many times.
fn range_to_fold(runs: &[Run], base: usize, alone: bool) -> Option<(usize, usize)> {
    let bytes = |runs: &[Run]| runs.iter().map(|run| run.stored_bytes).sum::<u64>();
    let (bases, changes) = runs.split_at_checked(base)?;
    let (base_bytes, change_bytes) = (bytes(bases), bytes(changes));
    let outweighed = change_bytes > base_bytes.max(FOLD_BYTES_MIN)
        || (alone
            && !changes.is_empty()
            && (change_bytes > base_bytes / FIRST_FOLD_PART || changes.len() >= FIRST_FOLD_RUNS));
    if outweighed || bases.len() > FOLDED_RUNS_MAX {
        return Some((0, runs.len().min(FOLDED_RUNS_MAX)));
    }
    if changes.len() <= RUNS_MAX {
        return None;
    }
    let mut folded = 0;
    let mut folded_bytes = 0u64;
    for run in changes.iter().rev() {
        let large = run.stored_bytes > folded_bytes.saturating_mul(2);
        if folded >= FOLDED_RUNS_MIN && large {
            break;
        }
        folded += 1;
        folded_bytes = folded_bytes.saturating_add(run.stored_bytes);
    }
    let from = runs.len() - folded;
    Some((from, runs.len().min(from + FOLDED_RUNS_MAX)))
}
