//! Any case file: what compiles gives the same in all three ways.
#![no_main]

use eventflux::scenario;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for case in scenario::case::parse(text).unwrap_or_default() {
        for fault in scenario::run_case(&case) {
            assert!(!fault.contains("differs when"), "{fault}");
        }
    }
});
