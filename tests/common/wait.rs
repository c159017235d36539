//! Waiting for something to happen, with a deadline.

#![allow(dead_code, reason = "each test program uses its part")]

use std::time::{Duration, Instant};

/// How long anything may take before a test fails. An ARM is a small machine, or an emulated one,
/// which is slower still.
pub(crate) const DEADLINE: Duration =
    Duration::from_secs(if cfg!(any(target_arch = "arm", target_arch = "aarch64")) {
        120
    } else {
        20
    });

/// Waits until `is_so`, or fails.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Plays a peer that does not answer for a while.
pub(crate) fn hang(how_long: Duration) {
    std::thread::sleep(how_long);
}
