//! The whole daemon core, simulated from a seed: sensors, brokers, sources, the pipeline's core,
//! engine, checkpoints, outboxes, far sides, clocks, changes of the application, crashes, faults
//! and damage of the store.
//!
//! `cargo test` lives through the first [`DAYS`] days, always the same ones. `make crash` lives
//! through others for as long as it is told. A day that goes wrong is made shorter, and the command
//! is printed that lives through it once more and tells what happens.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail where it stands"
)]

mod applications;
mod broker;
mod checks;
mod daemon;
mod every;
mod many;
mod oracle;
mod plan;
#[path = "../common/random.rs"]
mod random;
mod world;

use crate::every::every_operation;
use crate::many::{Hunt, replay};

/// How many days `cargo test` lives through, and about how many steps each has.
const DAYS: u64 = 1_000;

#[test]
fn no_day_breaks_a_promise() {
    let hunt = Hunt::from_environment(DAYS);
    let counts = hunt.run();
    println!("{counts:?}");
}

#[test]
fn a_crash_at_every_operation_changes_nothing() {
    every_operation();
}

#[test]
fn a_day_can_be_lived_again() {
    replay();
}
