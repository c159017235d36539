//! Any payload as CSV: whole rows, or a reject that leaves nothing behind.
#![no_main]

#[path = "../decoding.rs"]
#[allow(dead_code, reason = "not every target uses all of it")]
mod decoding;

use decoding::{EVERY_TYPE, Written, decode};
use libfuzzer_sys::fuzz_target;

const CHOICES: &[Written] = &[
    &[],
    &[("csv.header", "first"), ("csv.ignore_parse_errors", "true")],
    &[("csv.delimiter", ";"), ("csv.quote", "none"), ("csv.null", "-")],
    &[("csv.delimiter", "tab"), ("csv.missing", "reject"), ("csv.timestamp.format", "s")],
];

fuzz_target!(|bytes: &[u8]| decode("csv", EVERY_TYPE, CHOICES, bytes));
