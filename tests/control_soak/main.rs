//! A gateway whose configuration changes all the time, from everywhere at once and in every wrong
//! way, while it is killed and its brokers come and go. What it says of itself is what it does, and
//! every number that went in comes out.
//!
//! What happens is drawn from a seed; when it happens depends on the machine too, so that a seed
//! says where to look and does not repeat a run to the letter. `EVENTFLUX_SEED` sets the only one;
//! `EVENTFLUX_SOAK_S` goes on for so many seconds with seeds that are new each time, as `make soak`
//! does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail where it stands"
)]

#[path = "../common/client.rs"]
mod client;
mod counts;
#[path = "../common/daemon.rs"]
mod daemon;
mod documents;
#[path = "../common/fleet.rs"]
mod fleet;
mod model;
#[path = "../common/mosquitto.rs"]
mod mosquitto;
#[path = "../common/operator.rs"]
mod operator;
mod ordeal;
#[path = "../common/random.rs"]
mod random;
#[path = "../common/signing.rs"]
mod signing;
mod steps;
#[path = "../common/traffic.rs"]
mod traffic;
#[path = "../common/wait.rs"]
mod wait;

use std::time::{Duration, Instant, SystemTime};

use crate::ordeal::Ordeal;

/// What `make test` goes through: seeds, and how many steps each.
const SEEDS: [u64; 2] = [1, 2];
const STEPS: u64 = 12;
/// How many steps a run has in a soak.
const SOAK_STEPS: u64 = 60;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// One node, from its first start to its last word.
fn run(seed: u64, steps: u64) {
    let begin = Instant::now();
    println!("seed {seed}");
    let mut ordeal = Ordeal::new(seed);
    for _ in 0..steps {
        ordeal.step();
    }
    let said = ordeal.finish();
    println!(
        "seed {seed}: {steps} steps, {said}, {:.1?}",
        begin.elapsed()
    );
}

#[test]
fn whatever_comes_from_afar_the_node_says_what_it_does() {
    let Some(seconds) = number("EVENTFLUX_SOAK_S") else {
        let only = number("EVENTFLUX_SEED");
        let seeds = only.map_or_else(|| SEEDS.to_vec(), |seed| vec![seed]);
        seeds.into_iter().for_each(|seed| run(seed, STEPS));
        return;
    };
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() * 1_000;
    let first = number("EVENTFLUX_SEED").unwrap_or(now);
    let begin = Instant::now();
    let seeds = (first..).take_while(|_| begin.elapsed() < Duration::from_secs(seconds));
    seeds.for_each(|seed| run(seed, SOAK_STEPS));
}
