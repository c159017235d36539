use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::config::options::{Layer, OptionKind, OptionValue, Options};

/// Options of this module, written as in SQL: `framing=fixed framing.size=4`.
fn options(text: &str) -> Options {
    let mut options = Options::default();
    for pair in text.split_whitespace() {
        let (name, value) = pair.split_once('=').unwrap();
        let spec = FRAMING_OPTIONS
            .iter()
            .find(|spec| spec.name == name)
            .unwrap();
        let value = match spec.kind {
            OptionKind::Integer { .. } | OptionKind::Bytes | OptionKind::Duration => {
                OptionValue::Integer(value.parse().unwrap())
            }
            OptionKind::Text | OptionKind::Flag | OptionKind::Number { .. } | OptionKind::List => {
                OptionValue::Text(value.to_owned())
            }
            OptionKind::Choice(words) => {
                assert!(words.contains(&value), "{value}");
                OptionValue::Text(value.to_owned())
            }
        };
        options.set(name, value, Layer::Sql);
    }
    options
}

fn framing(text: &str) -> Framing {
    Framing::from_options(&options(text)).unwrap()
}

/// What comes out, as text: frames as they are, faults as `!reason:bytes`.
fn drain(deframer: &mut Deframer, out: &mut Vec<String>) {
    while let Some(piece) = deframer.next_piece() {
        out.push(match piece {
            Piece::Frame(payload) => {
                assert!(!payload.is_empty());
                text_of(payload)
            }
            Piece::Fault { reject, bytes } => {
                format!("!{}:{}", reject.reason.word(), text_of(bytes))
            }
        });
    }
}

/// Bytes in pieces, `~` in place of a pause of a second.
fn pieces(framing: &Framing, start: Start, cut: usize, text: &str) -> Vec<String> {
    let mut now = Instant::now();
    let mut deframer = framing.deframer(start, now);
    let mut out = Vec::new();
    for (index, part) in text.split('~').enumerate() {
        if index > 0 {
            now += Duration::from_secs(1);
            if deframer.deadline().is_some_and(|deadline| deadline <= now) {
                deframer.expire(now);
            }
            drain(&mut deframer, &mut out);
        }
        for chunk in bytes_of(part).unwrap().chunks(cut) {
            deframer.push(chunk, now);
            drain(&mut deframer, &mut out);
        }
    }
    out
}

#[test]
fn frames_are_found_and_faults_are_told() {
    let cases = include_str!("cases.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let cases: Vec<&str> = cases.collect();
    let mut count = 0;
    for case in cases
        .split(|line| line.is_empty())
        .filter(|case| !case.is_empty())
    {
        let [text, input, expected @ ..] = case else {
            panic!("a case has two lines at least: {case:?}")
        };
        let (start, input) = match input.trim_start().split_once(": ").unwrap() {
            ("from a beginning", input) => (Start::Boundary, input),
            ("from anywhere", input) => (Start::Midway, input),
            other => panic!("{other:?}"),
        };
        let expected: Vec<&str> = expected.iter().map(|line| line.trim_start()).collect();
        let framing = framing(text);
        for cut in [1, 2, 3, 5, 1000] {
            let found = pieces(&framing, start, cut, input);
            assert_eq!(found, expected, "{text} {input} cut by {cut}");
        }
        count += 1;
    }
    assert!(count > 25, "{count}");
}

#[test]
fn what_a_lost_connection_leaves_is_dropped_and_counted() {
    let now = Instant::now();
    let mut deframer = framing("framing=line").deframer(Start::Boundary, now);
    deframer.push(b"one\ntw", now);
    assert_eq!(deframer.next_piece(), Some(Piece::Frame(b"one")));
    assert_eq!(deframer.next_piece(), None);
    assert_eq!(deframer.abandon(Start::Midway, now), 2);
    deframer.push(b"o\nthree\nfour", now);
    assert_eq!(deframer.next_piece(), Some(Piece::Frame(b"three")));
    assert_eq!(deframer.next_piece(), None);
    deframer.finish();
    assert_eq!(deframer.next_piece(), Some(Piece::Frame(b"four")));
    assert_eq!(deframer.next_piece(), None);
    assert_eq!(deframer.skipped(), 2);
}

#[test]
fn a_datagram_is_a_frame() {
    let options = options("checksum=sum8");
    let mut deframer = Framing::whole(&options)
        .unwrap()
        .deframer(Start::Boundary, Instant::now());
    let mut out = Vec::new();
    for datagram in [&b"a\na\xcc"[..], b"b", b"", b"b\x62"] {
        deframer.push(datagram, Instant::now());
        drain(&mut deframer, &mut out);
    }
    assert_eq!(out, [r"a\na", "!malformed:b", "b"]);
    assert_eq!(deframer.deadline(), None);
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let table = [
        ("framing=delimiter", "framing.delimiter"),
        (
            r"framing=delimiter framing.delimiter=\q",
            "framing.delimiter",
        ),
        (
            "framing=delimiter framing.delimiter=a framing.start=a",
            "framing.start",
        ),
        ("framing=fixed", "framing.size"),
        (
            "framing=fixed framing.size=2 framing.sync=ab",
            "framing.size",
        ),
        (
            "framing=length framing.sync=ab framing.length.offset=1",
            "framing.length.offset",
        ),
        ("framing=line framing.size=3", "framing.size"),
        ("framing=nmea checksum=xor8", "checksum"),
        ("checksum=xor8 checksum.position=after", "checksum.position"),
        (
            "checksum=xor8 checksum.position=start checksum.separator=*",
            "checksum.separator",
        ),
    ];
    for (text, option) in table {
        let fault = Framing::from_options(&options(text)).unwrap_err();
        assert_eq!(fault.option, option, "{text}: {fault}");
    }
    for text in ["framing=length", "framing=fixed framing.size=3"] {
        assert!(framing(text).must_resynchronise().is_err());
        for add in ["framing.sync=a", "checksum=crc8", "framing.idle=5"] {
            assert_eq!(
                framing(&format!("{text} {add}")).must_resynchronise(),
                Ok(())
            );
        }
    }
}

/// Framings that read what they write, whatever bytes the payload has or as long as it is text.
const BINARY: [&str; 12] = [
    "framing=cobs checksum=crc32",
    "framing=idle checksum=crc32",
    "framing=fixed framing.size=21 framing.sync=# checksum=crc32",
    "framing=cobs checksum=crc16_ccitt_false",
    "framing=slip checksum=crc32 checksum.order=little",
    r"framing=length framing.sync=\xaa\x55 checksum=crc16_modbus",
    "framing=length framing.length.type=u8 framing.length.adjust=1 checksum=crc8",
    "framing=length framing.sync=$! framing.length.type=u32 framing.length.order=little \
     checksum=crc32",
    "framing=fixed framing.size=19 framing.sync=# checksum=sum16",
    "framing=idle checksum=crc16_modbus",
    "framing=cobs",
    "framing=slip",
];
const TEXT: [&str; 4] = [
    "framing=line checksum=crc16_xmodem checksum.encoding=hex checksum.separator=*",
    "framing=line framing.ending=crlf",
    "framing=delimiter framing.start=< framing.delimiter=> checksum=lrc checksum.position=after",
    "framing=nmea",
];

/// Reads `bytes` in pieces of the given lengths, each frame's pause kept.
fn read(framing: &Framing, parts: &[Vec<u8>], cuts: &[usize]) -> Vec<String> {
    let mut now = Instant::now();
    let mut deframer = framing.deframer(Start::Boundary, now);
    let mut out = Vec::new();
    let mut cuts = cuts.iter().cycle();
    for part in parts {
        let mut rest = part.as_slice();
        while !rest.is_empty() {
            let (now_comes, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            deframer.push(now_comes, now);
            drain(&mut deframer, &mut out);
            rest = later;
        }
        now += Duration::from_secs(1);
        deframer.expire(now);
        drain(&mut deframer, &mut out);
    }
    out
}

/// What means something in one framing or another.
const MARKS: &[u8] = b"\n\r\x00\x01\x02\x03\xaa\x55\xc0\xdb\xdc#$*a<>";

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 16..17), 1..6),
        texts in proptest::collection::vec("[a-z,.0-9 ]{1,20}", 1..6),
        cuts in proptest::collection::vec(1_usize..40, 1..8),
    ) {
        let texts: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        let both = BINARY.map(|text| (text, &payloads)).into_iter();
        for (text, payloads) in both.chain(TEXT.map(|text| (text, &texts))) {
            let framing = framing(text);
            prop_assert_eq!(framing.must_be_writable(), Ok(()));
            let mut parts = Vec::new();
            for payload in payloads {
                let mut frame = Vec::new();
                framing.frame(payload, &mut frame).unwrap();
                parts.push(frame);
            }
            let expected: Vec<String> = match text {
                "framing=nmea" => {
                    let sentences = parts.iter().map(|part| &part[..part.len() - 2]);
                    sentences.map(text_of).collect()
                }
                _ => payloads.iter().map(|payload| text_of(payload)).collect(),
            };
            prop_assert_eq!(read(&framing, &parts, &cuts), expected, "{}", text);
        }
    }

    #[test]
    fn any_bytes_give_the_same_however_they_are_cut(
        bytes in proptest::collection::vec(
            prop_oneof![
                proptest::sample::select(MARKS.to_vec()),
                any::<u8>(),
            ],
            0..300,
        ),
        cuts in proptest::collection::vec(1_usize..40, 1..8),
        max in 4_usize..40,
        finishes in any::<bool>(),
        midway in any::<bool>(),
    ) {
        let start = if midway { Start::Midway } else { Start::Boundary };
        let more = [
            "framing=line",
            r"framing=delimiter framing.delimiter=\r\n framing.start=$a",
            r"framing=delimiter framing.delimiter=\r\n",
            "framing=delimiter framing.delimiter=# framing.start=* checksum=xor8 \
             checksum.position=after",
            "framing=length framing.sync=# framing.length.type=u8",
            "framing=length framing.length.type=u8 framing.length.adjust=-3 \
             framing.length.offset=1 checksum=xor8",
            "framing=fixed framing.size=4 checksum=xor8 checksum.position=start checksum.from=1",
            "framing=fixed framing.size=6",
        ];
        for text in BINARY.iter().chain(&TEXT).chain(&more) {
            let framing = framing(&format!("{text} framing.max={max}"));
            let run = |cuts: &[usize]| {
                let now = Instant::now();
                let mut deframer = framing.deframer(start, now);
                let mut out = Vec::new();
                let mut cuts = cuts.iter().cycle();
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let (comes, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                    deframer.push(comes, now);
                    drain(&mut deframer, &mut out);
                    rest = later;
                }
                if finishes {
                    deframer.finish();
                    drain(&mut deframer, &mut out);
                }
                (out, deframer.abandon(start, now))
            };
            prop_assert_eq!(run(&cuts), run(&[1000]), "{}", text);
        }
    }

    /// Damage of any kind costs frames, but none of those behind it that are protected by a
    /// checksum, and none is made up. (One of 16 bits would now and then be right by chance.)
    #[test]
    fn frames_behind_damage_are_found(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 16..17), 8..9),
        damage in proptest::collection::vec(
            (any::<proptest::sample::Index>(), 1_u8.., 0_u8..3),
            1..4,
        ),
    ) {
        for text in BINARY.iter().filter(|text| text.contains("crc32")) {
            // A wrong length costs time until so many bytes have come.
            let framing = framing(&format!("{text} framing.max=32"));
            let frame = |payload: &Vec<u8>| {
                let mut frame = Vec::new();
                framing.frame(payload, &mut frame).unwrap();
                frame
            };
            let (first, rest) = payloads.split_at(3);
            let mut damaged: Vec<Vec<u8>> = first.iter().map(frame).collect();
            for (place, value, kind) in &damage {
                let index = place.index(damaged.len());
                let part = &mut damaged[index];
                let at = place.index(part.len());
                match kind {
                    0 => part[at] ^= value,
                    1 => drop(part.remove(at)),
                    _ => part.insert(at, *value),
                }
            }
            let parts: Vec<Vec<u8>> = damaged.into_iter().chain(rest.iter().map(frame)).collect();
            let found = read(&framing, &parts, &[7]);
            let is_frame = |piece: &&String| {
                !piece.starts_with("!malformed:") && !piece.starts_with("!too_large:")
            };
            let good: Vec<String> = payloads.iter().map(|payload| text_of(payload)).collect();
            let rows: Vec<&String> = found.iter().filter(is_frame).collect();
            prop_assert!(rows.iter().all(|row| good.contains(row)), "{} {:?}", text, found);
            // The one right behind may be taken for a part of the damaged one.
            prop_assert!(rows.len() >= rest.len() - 1, "{} {:?}", text, found);
            let last: Vec<&String> = good.iter().skip(4).collect();
            prop_assert_eq!(&rows[rows.len() - last.len()..], &last[..], "{}", text);
        }
    }
}
