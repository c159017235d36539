//! What sinks give up: by their limits, by time, because the far side refuses it. Whatever happens,
//! what came in was delivered, waits, or has a dead letter, and only one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail where it stands"
)]

#[path = "../common/client.rs"]
mod client;
#[path = "../common/daemon.rs"]
mod daemon;
#[path = "../common/mosquitto.rs"]
mod mosquitto;
#[path = "../common/wait.rs"]
mod wait;

mod crashes;
mod peers;
mod purged;
mod reopened;

/// The columns of streams of dead letters.
const COLUMNS: &str = "(originalEvent STRING, errorMessage STRING, errorType STRING, \
                       timestamp BIGINT, attemptCount INT, streamName STRING)";

/// The number of the output that a letter, or a letter about a letter, is about.
fn number_in(original: &str) -> i64 {
    let event: serde_json::Value = serde_json::from_str(original).unwrap();
    match event["originalEvent"].as_str() {
        Some(inner) => number_in(inner),
        None => event["n"].as_i64().unwrap(),
    }
}
