//! Any payload as pairs: whole rows, or a reject that leaves nothing behind.
#![no_main]

#[path = "../decoding.rs"]
#[allow(dead_code, reason = "not every target uses all of it")]
mod decoding;

use decoding::{EVERY_TYPE, Written, decode};
use libfuzzer_sys::fuzz_target;

const CHOICES: &[Written] = &[
    &[],
    &[("kv.ignore_parse_errors", "true"), ("kv.timestamp.format", "%d.%m.%Y")],
    &[("kv.separator", ";"), ("kv.assignment", ":")],
    &[("kv.separator", "ab"), ("kv.assignment", "b"), ("kv.bytes", "hex")],
];

fuzz_target!(|bytes: &[u8]| decode("kv", EVERY_TYPE, CHOICES, bytes));
