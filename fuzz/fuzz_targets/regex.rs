//! Any payload by an expression: whole rows, or a reject that leaves nothing behind.
#![no_main]

#[path = "../decoding.rs"]
#[allow(dead_code, reason = "not every target uses all of it")]
mod decoding;

use decoding::{EVERY_TYPE, Written, decode};
use libfuzzer_sys::fuzz_target;

const CHOICES: &[Written] = &[
    &[("regex.pattern", r"^(?<a>\w*) (?<b>[-0-9.]+)( (?<c>.*))?$")],
    &[("regex.pattern", r"(?s)(?<a>.)(?<b>.*)(?<c>\d)"), ("regex.rows", "message")],
    &[("regex.pattern", "(?<a>[01])(?<b>x)?(?<c>)"), ("regex.no_match", "skip")],
];

fuzz_target!(|bytes: &[u8]| decode("regex", &EVERY_TYPE[..3], CHOICES, bytes));
