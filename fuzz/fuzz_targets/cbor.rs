//! Any payload as CBOR: whole rows, or a reject that leaves nothing behind.
#![no_main]

#[path = "../decoding.rs"]
#[allow(dead_code, reason = "not every target uses all of it")]
mod decoding;

use decoding::{EVERY_TYPE, Written, decode};
use libfuzzer_sys::fuzz_target;

const CHOICES: &[Written] = &[
    &[],
    &[("cbor.ignore_parse_errors", "true")],
    &[("cbor.root", "$.r"), ("cbor.mapping.h", "$.h"), ("cbor.mapping.a", "@.x[1]")],
    &[("cbor.mapping.e", "$.h.x"), ("cbor.unknown", "reject")],
];

fuzz_target!(|bytes: &[u8]| decode("cbor", EVERY_TYPE, CHOICES, bytes));
