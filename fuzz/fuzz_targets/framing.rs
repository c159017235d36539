//! Any bytes, cut anywhere, through every framing: nothing panics, no frame is empty or too large,
//! and the cuts make no difference.
#![no_main]

use std::time::Instant;

use eventflux::config::options::{Layer, OptionValue, Options};
use eventflux::framing::{Framing, Piece, Start};
use libfuzzer_sys::fuzz_target;

const MAX: usize = 64;
const FRAMINGS: &[&[(&str, &str)]] = &[
    &[("framing", "line")],
    &[("framing", "line"), ("checksum", "crc16_xmodem"), ("checksum.encoding", "hex")],
    &[("framing", "delimiter"), ("framing.delimiter", "\\r\\n"), ("framing.start", "$a")],
    &[
        ("framing", "delimiter"),
        ("framing.delimiter", "#"),
        ("framing.start", "*"),
        ("checksum", "xor8"),
        ("checksum.position", "after"),
    ],
    &[("framing", "length"), ("framing.length.type", "u8")],
    &[("framing", "length"), ("framing.sync", "ab"), ("checksum", "sum8")],
    &[("framing", "length"), ("framing.length.type", "u32"), ("framing.length.order", "little")],
    &[("framing", "fixed"), ("framing.sync", "a"), ("checksum", "xor8")],
    &[("framing", "cobs")],
    &[("framing", "slip"), ("checksum", "crc32")],
    &[("framing", "nmea")],
];

fuzz_target!(|input: (u8, bool, u8, &[u8])| {
    let (which, is_midway, cut, bytes) = input;
    let mut options = Options::default();
    for (name, value) in FRAMINGS[usize::from(which) % FRAMINGS.len()] {
        options.set(name, OptionValue::Text((*value).to_owned()), Layer::Default);
    }
    options.set("framing.max", OptionValue::Integer(64), Layer::Default);
    options.set("framing.size", OptionValue::Integer(7), Layer::Default);
    let framing = Framing::from_options(&options).unwrap();
    let start = if is_midway { Start::Midway } else { Start::Boundary };
    let now = Instant::now();
    let run = |cut: usize| {
        let mut deframer = framing.deframer(start, now);
        let mut pieces = Vec::new();
        for chunk in bytes.chunks(cut) {
            deframer.push(chunk, now);
            while let Some(piece) = deframer.next_piece() {
                pieces.push(match piece {
                    Piece::Frame(payload) => {
                        assert!(!payload.is_empty() && payload.len() <= MAX);
                        (None, payload.to_vec())
                    }
                    Piece::Fault { reject, bytes } => (Some(reject.reason), bytes.to_vec()),
                });
            }
        }
        pieces
    };
    assert_eq!(run(usize::from(cut) + 1), run(usize::MAX));
});
