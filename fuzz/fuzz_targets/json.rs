//! Any payload as JSON: whole rows, or a reject that leaves nothing behind.
#![no_main]

#[path = "../decoding.rs"]
#[allow(dead_code, reason = "not every target uses all of it")]
mod decoding;

use decoding::{EVERY_TYPE, Written, decode};
use libfuzzer_sys::fuzz_target;

const CHOICES: &[Written] = &[
    &[],
    &[("json.ignore_parse_errors", "true"), ("json.numbers", "strings")],
    &[("json.root", "$.r.s"), ("json.mapping.h", "$.r"), ("json.mapping.a", "@.x[1]")],
    &[("json.missing", "reject"), ("json.timestamp.format", "iso8601")],
    &[("payload.compression", "auto"), ("payload.decoded_bytes_max", "100000")],
    &[("payload.compression", "deflate"), ("payload.decoded_bytes_max", "100000")],
];

fuzz_target!(|bytes: &[u8]| decode("json", EVERY_TYPE, CHOICES, bytes));
