//! Random lives of checkpoints against a state that grows in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::store::sim::Fault;
use crate::store::{Store, table};

#[derive(Clone, Debug)]
enum Change {
    Put { place: Place, bytes: usize },
    Remove { place: Place },
    Empty { first: Place, last: Place },
}

#[derive(Clone, Debug)]
enum Action {
    /// Part of a checkpoint, ahead of its end.
    Stage(Vec<Change>),
    /// The end of a checkpoint.
    Finish(Vec<Change>),
    /// Runs some of the jobs that wait.
    Work(usize),
    Fold,
    Sync,
    /// Dies, and loses what was written after the first so many writes since the last sync.
    Crash(u64),
    Fail {
        after: u64,
        fault: Fault,
        keep: u64,
    },
    Flip(u64),
}

fn place() -> impl Strategy<Value = Place> {
    (0u64..3, 0u64..40).prop_map(|(operator, key)| at(operator, key))
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let bytes = prop_oneof![
        6 => 0usize..40,
        2 => 3000usize..5000,
        1 => 33_000usize..100_000
    ];
    let change = prop_oneof![
        8 => (place(), bytes).prop_map(|(place, bytes)| Change::Put { place, bytes }),
        2 => place().prop_map(|place| Change::Remove { place }),
        1 => (place(), place()).prop_map(|(one, other)| Change::Empty {
            first: one.min(other),
            last: one.max(other),
        }),
    ];
    prop::collection::vec(change, 0..12)
}

fn action() -> impl Strategy<Value = Action> {
    let fault = prop_oneof![Just(Fault::Crash), Just(Fault::Full), Just(Fault::Fails)];
    prop_oneof![
        6 => changes().prop_map(Action::Stage),
        8 => changes().prop_map(Action::Finish),
        10 => (0usize..4).prop_map(Action::Work),
        6 => Just(Action::Fold),
        4 => Just(Action::Sync),
        2 => any::<u64>().prop_map(Action::Crash),
        1 => (1u64..9, fault, any::<u64>())
            .prop_map(|(after, fault, keep)| Action::Fail { after, fault, keep }),
        1 => any::<u64>().prop_map(Action::Flip),
    ]
}

struct Life {
    store: SimStore,
    checkpoints: Checkpoints,
    /// Jobs that wait for the writer, in order.
    queue: std::collections::VecDeque<Job>,
    /// What a report has handed out, which gives way to others.
    later: Option<Job>,
    now: GrowingState,
    /// What the next checkpoint must be told: all changes since the last one.
    begun: Option<Extent>,
    seq: u64,
    piece: u8,
    /// What each checkpoint that was ever finished has to hold.
    finished: BTreeMap<u64, State>,
    keep_after_failure: u64,
    /// A bit has been flipped; not every checkpoint in the list is what it was.
    damaged: bool,
}

fn whole(grown: &GrowingState) -> StateChanges {
    let mut changes = StateChanges::new();
    for (place, piece) in grown.pieces() {
        put(&mut changes, place, piece);
    }
    changes
}

impl Life {
    fn new() -> Life {
        let store = SimStore::new();
        Life {
            checkpoints: open(&store),
            store,
            queue: std::collections::VecDeque::new(),
            later: None,
            now: GrowingState::default(),
            begun: None,
            seq: 0,
            piece: 0,
            finished: BTreeMap::new(),
            keep_after_failure: 0,
            damaged: false,
        }
    }

    /// The changes, made to the state as well.
    fn change(&mut self, changes: &[Change]) -> StateChanges {
        let mut made = StateChanges::new();
        for change in changes {
            match change {
                Change::Put { place, bytes } => {
                    self.piece = self.piece.wrapping_add(1);
                    let fill = self.piece;
                    // Half of it packs badly, so that frames are many.
                    let byte = |at: usize| match at % 2 {
                        0 => fill,
                        _ => (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0] ^ fill,
                    };
                    let piece: Vec<u8> = (0..*bytes).map(byte).collect();
                    put(&mut made, *place, &piece);
                }
                Change::Remove { place } => made.remove(*place),
                Change::Empty { first, last } => made.empty(*first, *last),
            }
        }
        self.now.apply(&made);
        made
    }

    fn begin(&mut self) -> bool {
        if self.begun.is_some() {
            return true;
        }
        self.begun = self.checkpoints.begin();
        if self.begun == Some(Extent::Whole) {
            // All that there is comes first; changes that are made later follow it.
            let whole = whole(&self.now);
            let job = self.checkpoints.stage(whole);
            self.queue.extend(job);
        }
        self.begun.is_some()
    }

    fn act(&mut self, action: &Action) -> Result<(), CheckpointError> {
        match action {
            Action::Stage(changes) => {
                if self.begin() {
                    let made = self.change(changes);
                    let job = self.checkpoints.stage(made);
                    self.queue.extend(job);
                }
            }
            Action::Finish(changes) => {
                if self.begin() {
                    let made = self.change(changes);
                    self.seq += 1;
                    let time = Timestamp(i64::try_from(self.seq).unwrap());
                    let job = self.checkpoints.finish(Seq(self.seq), time, made);
                    self.queue.push_back(job);
                    self.begun = None;
                    let state = State::from_changes(whole(&self.now));
                    self.finished.insert(self.seq, state);
                }
            }
            Action::Work(jobs) => {
                for _ in 0..=*jobs {
                    self.work()?;
                }
            }
            Action::Fold => {
                if self.later.is_none() && self.queue.is_empty() {
                    self.later = self.checkpoints.fold();
                }
            }
            Action::Sync => self.store.sync()?,
            Action::Crash(keep) => self.restart(*keep),
            Action::Fail { after, fault, keep } => {
                self.keep_after_failure = *keep;
                self.store.plan(self.store.operations() + after, *fault);
            }
            Action::Flip(seed) => {
                self.store.sync()?;
                let listed = list(&self.store)?;
                let mut older = listed.iter().rev();
                let newest = older.next();
                let covered = older.any(|one| newest.is_some_and(|n| one.shares_nothing_with(n)));
                let first = !std::mem::replace(&mut self.damaged, true);
                self.store.flip_bit(&[table::CHECKPOINT], *seed);
                self.restart(0);
                if first && covered {
                    assert!(self.seq > 0, "one flipped bit must leave one that is whole");
                }
            }
        }
        Ok(())
    }

    fn work(&mut self) -> Result<(), CheckpointError> {
        let Some(job) = self.queue.pop_front().or_else(|| self.later.take()) else {
            return Ok(());
        };
        match job.run(&self.store) {
            Ok(report) => {
                assert!(report.warning.is_none() || self.damaged);
                if report.warning.is_some() {
                    self.begun = None;
                }
                if report.more.is_some() && self.later.is_none() {
                    self.later = report.more;
                } else {
                    self.queue.extend(report.more);
                }
                if report.saved.is_some() {
                    self.retention();
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// What holds whenever a checkpoint has been written.
    fn retention(&self) {
        let listed = self.checkpoints.list();
        assert!(listed.iter().all(Listed::whole));
        let newest = listed.last().unwrap();
        let oldest = listed.iter().map(|listed| listed.seq).min();
        let apart = listed.iter().any(|one| one.shares_nothing_with(newest));
        let expected = oldest.filter(|_| apart);
        assert_eq!(self.checkpoints.oldest_retained(), expected);
        // The newest two, before them that which shares nothing with the newest, and that which a
        // fold is about to share nothing with.
        let apart = listed.iter().rev().skip(2).rev();
        let apart: Vec<bool> = apart.map(|one| one.shares_nothing_with(newest)).collect();
        let folding = self.later.is_some();
        assert!(
            matches!(
                (apart.as_slice(), folding),
                ([] | [true], _) | ([_] | [true, _], true)
            ),
            "{listed:#?}"
        );
        assert!(listed.is_sorted_by(|a, b| a.number < b.number && a.seq <= b.seq));
        assert_eq!(list(&self.store).unwrap(), listed);
    }

    fn restart(&mut self, keep: u64) {
        self.queue.clear();
        self.later = None;
        self.store.crash(keep);
        self.checkpoints = open(&self.store);
        let newest = self.checkpoints.list().last().map(|listed| listed.seq);
        let loaded = self.checkpoints.load_latest(&mut |_| ()).unwrap();
        let found = loaded.restored.as_ref().map(|restored| restored.seq);
        if !self.damaged {
            assert_eq!(loaded.skipped, Vec::<String>::new());
            assert_eq!(found, newest);
        }
        self.now = GrowingState::default();
        self.begun = None;
        self.seq = 0;
        if let Some(restored) = &loaded.restored {
            assert_eq!(Some(&restored.state), self.finished.get(&restored.seq.0));
            self.seq = restored.seq.0;
            for (place, piece) in restored.state.pieces() {
                let mut changes = StateChanges::new();
                put(&mut changes, place, piece);
                self.now.apply(&changes);
            }
        }
        self.finished.retain(|seq, _| *seq <= self.seq);
        self.no_orphans();
    }

    /// Every frame belongs to a checkpoint that is listed. What belongs only to those that are
    /// damaged goes with the next that is written.
    fn no_orphans(&self) {
        let listed = self.checkpoints.list();
        let mut frames: BTreeMap<u64, u32> = BTreeMap::new();
        for run in listed.iter().flat_map(Listed::runs) {
            frames.insert(run.number, run.frames);
        }
        let mut found: BTreeMap<u64, u32> = BTreeMap::new();
        self.store
            .range(b"CR", b"CS", &mut |key, _| {
                let run = u64::from_be_bytes(key[2..10].try_into().unwrap());
                *found.entry(run).or_default() += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        if !self.damaged {
            assert_eq!(frames, found);
        }
    }

    /// Everything that waits is done, and another checkpoint is written.
    fn settle(&mut self) -> Result<(), CheckpointError> {
        while !self.queue.is_empty() || self.later.is_some() {
            self.work()?;
        }
        self.act(&Action::Finish(vec![]))?;
        while !self.queue.is_empty() || self.later.is_some() {
            self.work()?;
        }
        self.no_orphans();
        Ok(())
    }
}

fn live(actions: &[Action]) {
    let mut life = Life::new();
    let settled = |life: &mut Life| life.settle();
    let steps = actions.iter().map(Some).chain([None]);
    for step in steps {
        let done = match step {
            Some(action) => life.act(action),
            None => settled(&mut life),
        };
        match done {
            Ok(()) => {}
            Err(CheckpointError::Store(_)) => {
                let keep = life.keep_after_failure;
                life.restart(keep);
            }
            // A fold has found the damage.
            Err(CheckpointError::GivenUp) if life.damaged => life.begun = None,
            Err(error) => panic!("{error}"),
        }
    }
    life.restart(u64::MAX);
}

#[test]
fn a_state_is_what_was_saved_whatever_happens() {
    let config = Config {
        cases: 400,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[23; 32]);
    let mut runner = TestRunner::new_with_rng(config, seed);
    let actions = prop::collection::vec(action(), 1..80);
    let lives = runner.run(&actions, |actions| {
        live(&actions);
        Ok(())
    });
    lives.unwrap();
}
