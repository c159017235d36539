//! One ordinary day, and a crash at each of its store operations: with all kinds of state, with
//! checkpoints of which some are kept and the log trimmed behind them, and with two changes of the
//! application, one in order and one after a crash. And then once more in the recovery.

use std::sync::atomic::{AtomicU64, Ordering};

use eventflux::outbox::Limits;

use crate::applications::{SOURCES, families};
use crate::broker::Ids;
use crate::daemon::Setting;
use crate::plan::{Conditions, KEEP_ALL, Planned, Step};
use crate::world::{Doom, World};

/// Hours of the day; two checkpoints are kept, of one every third hour.
const HOURS: u64 = 9;
/// What is tried of the operations of a recovery: it has some more or less, by how much it finds.
const RECOVERY_OPERATIONS: u64 = 8;

fn conditions() -> Conditions {
    let everything = families().iter().position(|one| one.name == "everything");
    Conditions {
        family: everything.unwrap(),
        variant: 0,
        setting: Setting {
            limits: Limits::NONE,
            checkpoints_kept: 2,
            room: 5,
            is_careless: false,
        },
        ids: Ids::Counting { last: u16::MAX },
        in_flight_max: 20,
        sayings: u64::MAX,
        has_empty: false,
        wall_ms: 1_700_000_000_000,
    }
}

fn day() -> Vec<Planned> {
    let mut steps = Vec::new();
    for hour in 0..HOURS {
        for source in 0..SOURCES.len() {
            let messages = 2 + hour % 2;
            steps.push(Step::Publish { source, messages });
            steps.push(Step::Receive { source, most: 8 });
        }
        let after_ms = 230;
        steps.push(Step::Turn { after_ms, most: 2 });
        steps.push(Step::BeginSync { at_once: true });
        steps.push(Step::Turn { after_ms, most: 2 });
        steps.push(Step::EndSync);
        let hours = usize::try_from(hour).unwrap();
        for sink in (0..20).filter(|sink| (sink + hours) % 3 == 0) {
            steps.push(Step::Take { sink, most: 4 });
            steps.push(Step::Confirm { sink, back: 1 });
        }
        steps.push(Step::Tick { after_ms: 900 });
        if hour % 3 == 1 {
            steps.push(Step::SaveAhead { ends: false });
            steps.push(Step::SaveAhead { ends: false });
            steps.push(Step::Turn { after_ms, most: 2 });
            steps.push(Step::SaveAhead { ends: true });
            steps.extend([const { Step::RunJob }; 6]);
            steps.push(Step::Trim);
        }
        match hour {
            3 => steps.extend([Step::Configure { variant: 1 }, Step::Stop]),
            6 => steps.extend([
                Step::Configure { variant: 2 },
                Step::Crash { keep: KEEP_ALL },
            ]),
            _ => {}
        }
    }
    let steps = steps.into_iter().zip(0..);
    steps.map(|(step, seed)| Planned { step, seed }).collect()
}

/// Lives through the day once for every operation, on all cores.
pub(crate) fn every_operation() {
    let (conditions, steps) = (conditions(), day());
    let never = Doom::At {
        operation: 0,
        keep: 0,
        then: None,
    };
    let operations = World::doomed(&conditions, &steps, never, false).operations;
    assert!(operations > 100, "{operations} operations");
    let next = AtomicU64::new(1);
    let second = AtomicU64::new(0);
    let work = || {
        loop {
            let operation = next.fetch_add(1, Ordering::Relaxed);
            if operation > operations {
                return;
            }
            let doom = Doom::At {
                operation,
                keep: [0, 1, KEEP_ALL, 2][usize::try_from(operation % 4).unwrap()],
                then: Some(1 + operation % RECOVERY_OPERATIONS),
            };
            let counts = World::doomed(&conditions, &steps, doom, false);
            let crashes = counts.faults + counts.faults_in_recovery;
            assert!(crashes > 0, "{doom:?} has struck");
            second.fetch_add(crashes - 1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let second = second.into_inner();
    println!("{operations} operations, {second} of the crashes with a second one");
    assert!(
        second > operations / 8,
        "recoveries are interrupted as well"
    );
}
