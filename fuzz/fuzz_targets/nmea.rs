//! Any payload as NMEA 0183: whole rows, or a reject that leaves nothing behind.
#![no_main]

#[path = "../decoding.rs"]
#[allow(dead_code, reason = "not every target uses all of it")]
mod decoding;

use decoding::{Written, decode};
use libfuzzer_sys::fuzz_target;

const CHOICES: &[Written] = &[
    &[("nmea.mapping.f", "3")],
    &[("nmea.mapping.f", "RMC.2"), ("nmea.checksum", "ignore")],
    &[("nmea.mapping.f", "1"), ("nmea.checksum", "required"), ("nmea.ignore_parse_errors", "true")],
    &[("nmea.mapping.f", "1"), ("nmea.sentences", "RMC,ZDA")],
];

fuzz_target!(|bytes: &[u8]| decode("nmea", &[
    ("talker", eventflux::event::Type::String),
    ("latitude", eventflux::event::Type::Double),
    ("longitude", eventflux::event::Type::Float),
    ("time", eventflux::event::Type::Timestamp),
    ("time_of_day_ms", eventflux::event::Type::Int),
    ("f", eventflux::event::Type::Json),
], CHOICES, bytes));
