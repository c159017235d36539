//! The pipeline's core over a store that crashes: at every operation of a day, and wherever chance
//! puts it. Whatever happens, what comes out at last is what comes out when nothing happens.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail where it stands"
)]

#[path = "common/core.rs"]
mod core;

use eventflux::event::Value;
use eventflux::store::sim::Fault;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::core::{Crash, Day, Keep, Seen, Step, applications};

/// A day with everything: rows, rejects, both in one input, two inputs in one turn, ticks in which
/// windows close, checkpoints that trim, sinks that confirm all and part, and another application.
fn day() -> Vec<Step> {
    let mut steps = Vec::new();
    for hour in 0..9 {
        let base = i64::from(hour);
        steps.push(Step::rows(130, &[base, 60, 12]));
        steps.push(Step::Input {
            after_ms: 90,
            inputs: vec![(vec![70 + base], 1), (Vec::new(), 2)],
        });
        if hour % 2 == 0 {
            steps.push(Step::Sync);
            steps.push(Step::Confirm { sink: 0, back: 1 });
            steps.push(Step::Confirm { sink: 1, back: 0 });
        }
        steps.push(Step::Tick { after_ms: 310 });
        steps.push(Step::Input {
            after_ms: 0,
            inputs: vec![(vec![55], 0), (vec![90, base], 0)],
        });
        if hour % 3 == 1 {
            steps.push(Step::Checkpoint);
        }
        if hour == 5 {
            steps.push(Step::Sync);
            steps.push(Step::Reconfigure);
        }
        for sink in 2..5 {
            steps.push(Step::Confirm { sink, back: 0 });
        }
    }
    steps
}

#[test]
fn a_crash_at_every_operation_changes_nothing() {
    survives_every_crash(day());
}

/// The same day, in which the application changes while the daemon runs.
fn day_with_a_change() -> Vec<Step> {
    let steps = day().into_iter();
    let steps = steps.map(|step| match step {
        Step::Reconfigure => Step::Change,
        step => step,
    });
    steps.collect()
}

#[test]
fn a_crash_at_every_operation_of_a_day_with_a_change_changes_nothing() {
    survives_every_crash(day_with_a_change());
    let (changed, restarted) = (Day::new(day_with_a_change()), Day::new(day()));
    assert_eq!(changed.warnings, restarted.warnings);
    for (changed, restarted) in changed.seen.iter().zip(&restarted.seen) {
        assert_eq!(changed, restarted, "it makes no difference to a restart");
    }
}

fn survives_every_crash(steps: Vec<Step>) {
    let day = Day::new(steps);
    let operations = day.operations();
    assert!(operations > 60, "{operations}");
    let mut crashes = 0;
    for operation in 1..=operations {
        for (keep, fault) in [
            (Keep::Nothing, Fault::Crash),
            (Keep::Half, Fault::Full),
            (Keep::All, Fault::Fails),
        ] {
            let at = |operation| Crash {
                operation,
                fault,
                keep,
            };
            day.check(&[at(operation)]);
            // The second one hits the recovery.
            day.check(&[at(operation), at(1 + operation % 5)]);
            crashes += 2;
        }
    }
    println!("{operations} operations, {crashes} days with a crash in them");
}

#[test]
fn what_another_application_has_not_changed_goes_on() {
    let straight: Vec<Step> = day()
        .into_iter()
        .filter(|step| !matches!(step, Step::Reconfigure))
        .collect();
    let (straight, changed) = (Day::new(straight), Day::new(day()));
    let rows = |seen: &[Seen], sink: usize| -> Vec<Vec<Value>> {
        seen[sink].values().map(|entry| entry.row.clone()).collect()
    };
    let names = applications().sinks;
    for (sink, name) in names.iter().enumerate() {
        let (before, after) = (rows(&straight.seen, sink), rows(&changed.seen, sink));
        assert!(!before.is_empty(), "{name}");
        if *name == "Sums" {
            assert_ne!(before, after, "the window of {name} became shorter");
        } else {
            assert_eq!(before, after, "{name} did not change");
        }
    }
    assert!(straight.warnings.is_empty(), "{:?}", straight.warnings);
    let [warning] = changed.warnings.as_slice() else {
        panic!("{:?}", changed.warnings);
    };
    assert!(
        warning.starts_with("the query into 'Sums' (app.sql:") && warning.ends_with("starts empty"),
        "{warning}"
    );
}

#[test]
fn the_changed_window_starts_empty() {
    let steps = vec![
        Step::rows(10, &[1, 2, 3]),
        Step::Sync,
        Step::Reconfigure,
        Step::rows(10, &[5, 7]),
    ];
    let day = Day::new(steps);
    let sums: Vec<Option<i64>> = day.seen[1]
        .values()
        .map(|entry| entry.row[0].as_int())
        .collect();
    assert_eq!(sums, [1, 3, 6, 5, 12].map(Some));
    day.check(&[]);
}

fn step() -> impl Strategy<Value = Step> {
    let input = (prop::collection::vec(0i64..100, 0..5), 0usize..3);
    let inputs = prop::collection::vec(input, 1..4);
    prop_oneof![
        8 => (0i64..400, inputs).prop_map(|(after_ms, inputs)| Step::Input { after_ms, inputs }),
        3 => (0i64..1_500).prop_map(|after_ms| Step::Tick { after_ms }),
        3 => Just(Step::Sync),
        2 => Just(Step::Checkpoint),
        3 => (0usize..5, 0usize..3).prop_map(|(sink, back)| Step::Confirm { sink, back }),
    ]
}

fn crash() -> impl Strategy<Value = Crash> {
    let keep = prop_oneof![
        Just(Keep::Nothing),
        Just(Keep::All),
        any::<u64>().prop_map(Keep::Seed)
    ];
    let fault = prop_oneof![Just(Fault::Crash), Just(Fault::Full), Just(Fault::Fails)];
    (1u64..40, fault, keep).prop_map(|(operation, fault, keep)| Crash {
        operation,
        fault,
        keep,
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        // Beside this file, as `crash.regressions`.
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_schedule_of_crashes_changes_anything(
        mut steps in prop::collection::vec(step(), 1..40),
        change_at in prop::option::of((0usize..40, any::<bool>())),
        crashes in prop::collection::vec(crash(), 1..6),
    ) {
        if let Some((at, runs)) = change_at {
            let at = at.min(steps.len());
            let change = if runs { Step::Change } else { Step::Reconfigure };
            steps.splice(at..at, [Step::Sync, change]);
        }
        Day::new(steps).check(&crashes);
    }
}
