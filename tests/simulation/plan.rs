//! What happens, from one seed: a list of steps, each with a seed of its own, so that a part of
//! the list is a day as well and a failing one can be made shorter.

use eventflux::outbox::{Full, Limits};
use eventflux::store::sim::Fault;
use eventflux::store::table;

use crate::applications::{SOURCES, VARIANTS, families};
use crate::broker::Ids;
use crate::daemon::Setting;
use crate::random::Random;

/// Everything that is not a step.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    /// Which of the applications.
    pub(crate) family: usize,
    /// The variant that it begins with.
    pub(crate) variant: usize,
    pub(crate) setting: Setting,
    pub(crate) ids: Ids,
    pub(crate) in_flight_max: usize,
    /// How many different things a sensor says.
    pub(crate) sayings: u64,
    /// Whether there are messages without a row and without a fault.
    pub(crate) has_empty: bool,
    /// What the wall clock shows at the beginning.
    pub(crate) wall_ms: i64,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A sensor says something.
    Publish {
        source: usize,
        messages: u64,
    },
    /// The client takes what the broker sends, and offers it to the pipeline.
    Receive {
        source: usize,
        most: usize,
    },
    /// The pipeline works what was offered, so long after the step before.
    Turn {
        after_ms: i64,
        most: usize,
    },
    /// The clock goes on, and what is due fires.
    Tick {
        after_ms: i64,
    },
    /// The wall clock is set.
    Leap(Leap),
    /// A sync is asked for; does the disk do it now, or when it is reported?
    BeginSync {
        at_once: bool,
    },
    /// It is reported.
    EndSync,
    Checkpoint,
    /// A checkpoint that takes its time is begun, goes on, or ends.
    SaveAhead {
        ends: bool,
    },
    /// The thread that writes checkpoints does something.
    RunJob,
    Trim,
    /// A far side takes what was sent to it.
    Take {
        sink: usize,
        most: usize,
    },
    /// It confirms what it has taken but for the last `back`, or something older once more.
    Confirm {
        sink: usize,
        back: usize,
    },
    /// A source's connection breaks; the broker keeps the session or does not.
    Reconnect {
        source: usize,
        keep: bool,
    },
    /// The daemon stops in order and starts again.
    Stop,
    /// The process dies; of what was not synced, a part survives.
    Crash {
        keep: u64,
    },
    /// Something befalls the store so many operations from now.
    Fault {
        after: u64,
        fault: Fault,
        keep: u64,
    },
    /// The process dies, and the disk is not what it was.
    Damage {
        table: u8,
        is_torn: bool,
    },
    /// From the next start on, this variant is to run.
    Configure {
        variant: usize,
    },
}

/// How a wall clock misbehaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leap {
    By(i64),
    To(i64),
}

/// A step with a seed for what it leaves open.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) step: Step,
    pub(crate) seed: u64,
}

/// All faults of the store that stop it at once.
const FAULTS: &[Fault] = &[
    Fault::Crash,
    Fault::CrashAfter,
    Fault::Full,
    Fault::Fails,
    Fault::FailsAfter,
];

const HOUR_MS: i64 = 3_600_000;
/// 2023, 2036 and the epoch.
const WALLS_MS: [i64; 3] = [1_700_000_000_000, 2_085_978_496_000, 0];

/// The day with this number, with about so many steps.
pub(crate) fn day(seed: u64, steps: u64) -> (Conditions, Vec<Planned>) {
    let mut random = Random::seeded(seed);
    let conditions = conditions(&mut random);
    let count = steps / 2 + random.below(steps);
    let is_damaged = random.below(4) == 0;
    let leaps = families()[conditions.family].leaps;
    // Some days are quick to die, others slow to confirm.
    let weights = Weights {
        crash: random.below(4),
        sync: 1 + random.below(8),
        far: 1 + random.below(12),
        checkpoint: random.below(6),
        configure: random.below(3),
    };
    let steps = (0..count).map(|_| Planned {
        step: step(&mut random, weights, is_damaged, leaps),
        seed: random.below(u64::MAX),
    });
    let steps = steps.collect();
    (conditions, steps)
}

fn conditions(random: &mut Random) -> Conditions {
    let full = [Full::Block, Full::DropOldest, Full::DropNewest][random.index(3)];
    let bytes_max = match random.below(3) {
        0 => 700 + random.below(3_000),
        _ => u64::MAX,
    };
    let family = random.index(families().len());
    let is_counting = random.below(2) == 0;
    let in_flight_max = 1 + random.index(20);
    Conditions {
        family,
        variant: random.index(VARIANTS),
        setting: Setting {
            limits: Limits {
                bytes_max,
                full,
                ..Limits::NONE
            },
            checkpoints_kept: 1 + random.index(3),
            room: 1 + random.index(12),
            is_careless: random.below(16) == 0,
        },
        ids: if is_counting {
            Ids::Counting {
                last: [u16::MAX, 40][random.index(2)],
            }
        } else {
            Ids::LowestFree
        },
        in_flight_max,
        sayings: [u64::MAX, u64::MAX, 2][random.index(3)],
        has_empty: random.below(4) == 0,
        wall_ms: WALLS_MS[random.index(3)] + i64::try_from(random.below(100_000)).unwrap(),
    }
}

/// How often some things happen.
#[derive(Clone, Copy)]
struct Weights {
    crash: u64,
    sync: u64,
    far: u64,
    checkpoint: u64,
    configure: u64,
}

fn step(random: &mut Random, weights: Weights, is_damaged: bool, leaps: bool) -> Step {
    let damage = u64::from(is_damaged) * 2;
    let mut kinds = [
        (12, Kind::Publish),
        (20, Kind::Receive),
        (20, Kind::Turn),
        (6, Kind::Tick),
        (1, Kind::Leap),
        (weights.sync, Kind::BeginSync),
        (weights.sync, Kind::EndSync),
        (weights.checkpoint, Kind::Checkpoint),
        (weights.checkpoint * 2, Kind::SaveAhead),
        (weights.checkpoint * 2, Kind::RunJob),
        (weights.checkpoint, Kind::Trim),
        (weights.far, Kind::Take),
        (weights.far, Kind::Confirm),
        (1, Kind::Reconnect),
        (weights.crash.min(1), Kind::Stop),
        (weights.crash, Kind::Crash),
        (weights.crash, Kind::Fault),
        (damage, Kind::Damage),
        (weights.configure, Kind::Configure),
    ]
    .into_iter();
    let all = kinds.clone().map(|(weight, _)| weight).sum();
    let mut at = random.below(all);
    let kind = kinds.find_map(|(weight, kind)| {
        let is_it = at < weight;
        at = at.wrapping_sub(weight);
        is_it.then_some(kind)
    });
    of_kind(random, kind.unwrap(), leaps)
}

/// A step of this kind.
fn of_kind(random: &mut Random, kind: Kind, leaps: bool) -> Step {
    let source = random.index(SOURCES.len());
    let sink = random.index(8);
    let after_ms = i64::try_from(random.below(400)).unwrap();
    match kind {
        Kind::Publish => Step::Publish {
            source,
            messages: 1 + random.below(4),
        },
        Kind::Receive => Step::Receive {
            source,
            most: 1 + random.index(8),
        },
        Kind::Turn => Step::Turn {
            after_ms,
            most: 1 + random.index(4),
        },
        Kind::Tick => Step::Tick {
            after_ms: after_ms * 4,
        },
        Kind::Leap => Step::Leap(leap(random, leaps)),
        Kind::BeginSync => Step::BeginSync {
            at_once: random.below(2) == 0,
        },
        Kind::EndSync => Step::EndSync,
        Kind::Checkpoint => Step::Checkpoint,
        Kind::SaveAhead => Step::SaveAhead {
            ends: random.below(3) == 0,
        },
        Kind::RunJob => Step::RunJob,
        Kind::Trim => Step::Trim,
        Kind::Take => Step::Take {
            sink,
            most: 1 + random.index(8),
        },
        Kind::Confirm => Step::Confirm {
            sink,
            back: random.index(4),
        },
        Kind::Reconnect => Step::Reconnect {
            source,
            keep: random.below(8) > 0,
        },
        Kind::Stop => Step::Stop,
        Kind::Crash => Step::Crash { keep: kept(random) },
        Kind::Fault => Step::Fault {
            after: 1 + random.below(30),
            fault: FAULTS[random.index(FAULTS.len())],
            keep: kept(random),
        },
        Kind::Damage => Step::Damage {
            table: [
                table::LOG,
                table::CHECKPOINT,
                table::OUTBOX,
                table::OUTBOX_STATE,
            ][random.index(4)],
            is_torn: random.below(4) == 0,
        },
        Kind::Configure => Step::Configure {
            variant: random.index(VARIANTS),
        },
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Publish,
    Receive,
    Turn,
    Tick,
    Leap,
    BeginSync,
    EndSync,
    Checkpoint,
    SaveAhead,
    RunJob,
    Trim,
    Take,
    Confirm,
    Reconnect,
    Stop,
    Crash,
    Fault,
    Damage,
    Configure,
}

/// Nothing of what was not synced, all of it, or any part.
fn kept(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => 0,
        1 => KEEP_ALL,
        _ => random.below(1 << 20),
    }
}

/// Everything survives that was written.
pub(crate) const KEEP_ALL: u64 = u64::MAX;

fn leap(random: &mut Random, leaps: bool) -> Leap {
    let spans = [1_000, HOUR_MS, -1_000, -HOUR_MS];
    match random.below(8) {
        at @ 0..3 if leaps => Leap::To(WALLS_MS[usize::try_from(at).unwrap()]),
        _ => Leap::By(spans[random.index(spans.len())]),
    }
}
