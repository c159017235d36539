//! Sources that need no broker: files, TCP, UDP, timers and simulated sensors, each with real files
//! and sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail where it stands"
)]

#[path = "../common/daemon.rs"]
mod daemon;
mod ends;
mod file;
mod made_up;
#[path = "../common/mosquitto.rs"]
mod mosquitto;
#[path = "../common/random.rs"]
mod random;
mod tcp;
mod udp;
#[path = "../common/wait.rs"]
mod wait;
