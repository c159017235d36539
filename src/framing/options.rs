//! The options of framings, and what becomes of them.

use std::time::Duration;

use super::checksum::{Algorithm, Checksum, Position, hex_byte};
use super::{Coding, Framing, Kind, LengthField, Size};
use crate::config::options::{Layer, OptionFault, OptionKind, OptionSpec, Options};

/// What can be set for every connector whose far side sends bytes without ends.
pub const FRAMING_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "framing",
        OptionKind::Choice(&[
            "line",
            "delimiter",
            "length",
            "fixed",
            "cobs",
            "slip",
            "idle",
            "nmea",
        ]),
        "What tells messages apart: `line` (LF or CR LF), `delimiter` (bytes at the end), \
         `length` (a number in the message), `fixed` (its size), `cobs`, `slip`, `idle` (a \
         pause), `nmea`",
    )
    .or("line"),
    OptionSpec::new(
        "framing.max",
        OptionKind::Bytes,
        "A message with more bytes is rejected as too_large, and the next one looked for",
    )
    .or("64 KiB")
    .between(1, 16 << 20),
    OptionSpec::new(
        "framing.first",
        OptionKind::Choice(&["drop", "keep"]),
        "What becomes of bytes before the first end, which may be half a message. Unset: a serial \
         port drops them, a TCP connection keeps them",
    ),
    OptionSpec::new(
        "framing.delimiter",
        OptionKind::Text,
        "`delimiter`: the bytes at the end; `\\r`, `\\n`, `\\t`, `\\0`, `\\\\` and `\\x03` are \
         understood",
    ),
    OptionSpec::new(
        "framing.start",
        OptionKind::Text,
        "`delimiter`: the bytes at the beginning; what stands before them is no message",
    ),
    OptionSpec::new(
        "framing.ending",
        OptionKind::Choice(&["lf", "crlf", "cr"]),
        "`line`: what ends a line that is written",
    )
    .or("lf"),
    OptionSpec::new(
        "framing.sync",
        OptionKind::Text,
        "`length` and `fixed`: the bytes with which every message begins, such as `\\xaa\\x55`",
    ),
    OptionSpec::new(
        "framing.size",
        OptionKind::Integer {
            min: 1,
            max: 1 << 20,
        },
        "`fixed`: the bytes of a message, everything included",
    ),
    OptionSpec::new(
        "framing.length.type",
        OptionKind::Choice(&["u8", "u16", "u32"]),
        "`length`: the type of the number",
    )
    .or("u16"),
    OptionSpec::new(
        "framing.length.order",
        OptionKind::Choice(&["big", "little"]),
        "`length`: the order of its bytes",
    )
    .or("big"),
    OptionSpec::new(
        "framing.length.offset",
        OptionKind::Integer {
            min: 0,
            max: 65_536,
        },
        "`length`: how many bytes stand before the number. Unset: as many as `framing.sync` has",
    ),
    OptionSpec::new(
        "framing.length.adjust",
        OptionKind::Integer {
            min: -65_536,
            max: 65_536,
        },
        "`length`: what to add to the number to get how many bytes follow it, checksum included",
    )
    .or("0"),
    OptionSpec::new(
        "framing.strip",
        OptionKind::Integer {
            min: 0,
            max: 65_536,
        },
        "How many bytes at the beginning of a message are not given to the format. Unset: with \
         `length` all up to the number, with `fixed` those of `framing.sync`, otherwise none",
    ),
    OptionSpec::new(
        "framing.idle",
        OptionKind::Duration,
        "A pause of so long ends a message with `idle` (there unset: 20 ms), and with all others \
         drops what has begun and is not complete",
    )
    .between(1, 60_000),
    OptionSpec::new(
        "checksum",
        OptionKind::Choice(&[
            "none",
            "xor8",
            "sum8",
            "sum16",
            "lrc",
            "crc8",
            "crc8_maxim",
            "crc16_modbus",
            "crc16_ccitt_false",
            "crc16_xmodem",
            "crc32",
        ]),
        "The checksum that every message has; one whose checksum is wrong is rejected as malformed",
    )
    .or("none"),
    OptionSpec::new(
        "checksum.position",
        OptionKind::Choice(&["end", "start", "after"]),
        "Whether it stands behind what it covers, before it, or behind `framing.delimiter`, which \
         it then covers too",
    )
    .or("end"),
    OptionSpec::new(
        "checksum.encoding",
        OptionKind::Choice(&["binary", "hex"]),
        "Whether it is bytes, or twice as many hexadecimal digits",
    )
    .or("binary"),
    OptionSpec::new(
        "checksum.order",
        OptionKind::Choice(&["big", "little"]),
        "The order of its bytes. Unset: `little` with crc16_modbus, otherwise `big`",
    ),
    OptionSpec::new(
        "checksum.from",
        OptionKind::Integer {
            min: 0,
            max: 65_536,
        },
        "How many bytes at the beginning of the message it does not cover",
    )
    .or("0"),
    OptionSpec::new(
        "checksum.trailer",
        OptionKind::Integer {
            min: 0,
            max: 65_536,
        },
        "How many bytes at the end of the message stand behind it, and are no payload",
    )
    .or("0"),
    OptionSpec::new(
        "checksum.separator",
        OptionKind::Text,
        "Bytes between the payload and the checksum, such as `*`; they are not covered",
    ),
];

/// What is of use with some framings only; elsewhere it would be written in vain.
const ONLY_WITH: [(&str, &[&str]); 11] = [
    (
        "framing.first",
        &[
            "line",
            "delimiter",
            "cobs",
            "slip",
            "idle",
            "length",
            "fixed",
        ],
    ),
    ("framing.delimiter", &["delimiter"]),
    ("framing.start", &["delimiter"]),
    ("framing.ending", &["line"]),
    ("framing.sync", &["length", "fixed"]),
    ("framing.size", &["fixed"]),
    ("framing.length.type", &["length"]),
    ("framing.length.order", &["length"]),
    ("framing.length.offset", &["length"]),
    ("framing.length.adjust", &["length"]),
    (
        "framing.strip",
        &[
            "line",
            "delimiter",
            "cobs",
            "slip",
            "idle",
            "length",
            "fixed",
        ],
    ),
];

/// The pause with `idle`, when none is set: 16 ms is what USB adapters may hold bytes back.
const IDLE: Duration = Duration::from_millis(20);
/// The size of `framing.max`, when none is set, in bytes.
const MAX: usize = 64 << 10;

/// See [`Framing::whole`].
pub(super) fn whole(options: &Options) -> Result<Framing, OptionFault> {
    Ok(Framing {
        kind: Kind::Whole,
        max: number(options, "framing.max", MAX),
        idle: None,
        keeps_first: None,
        checksum: checksum(options, false)?,
        strip: number(options, "framing.strip", 0),
        ending: b"",
    })
}

/// See [`Framing::from_options`].
pub(super) fn framing(options: &Options) -> Result<Framing, OptionFault> {
    let word = options.text("framing").unwrap_or("line");
    for (name, framings) in ONLY_WITH {
        let is_written = options
            .layer(name)
            .is_some_and(|layer| layer >= Layer::Stream);
        if is_written && !framings.contains(&word) {
            let problem = format!(
                "it means nothing with framing = '{word}', only with {}",
                framings.join(", ")
            );
            return Err(OptionFault::new(name, problem));
        }
    }
    let idle = options.integer("framing.idle").filter(|ms| *ms > 0);
    let idle = idle.map(|ms| Duration::from_millis(ms.unsigned_abs()));
    let checksum = checksum(options, word == "delimiter")?;
    if word == "nmea" && checksum.is_some() {
        let problem = "a sentence of NMEA has its own, which is always checked";
        return Err(OptionFault::new("checksum", problem));
    }
    let kind = kind(word, options)?;
    let strip = match &kind {
        Kind::Sized {
            size: Size::Field(field),
            ..
        } => field.end(),
        Kind::Sized { sync, .. } => sync.len(),
        Kind::Ended { .. } | Kind::Paused | Kind::Whole => 0,
    };
    Ok(Framing {
        idle: match kind {
            Kind::Paused => idle.or(Some(IDLE)),
            Kind::Ended { .. } | Kind::Sized { .. } | Kind::Whole => idle,
        },
        max: number(options, "framing.max", MAX).max(1),
        keeps_first: options.text("framing.first").map(|first| first == "keep"),
        checksum,
        strip: number(options, "framing.strip", strip),
        ending: match options.text("framing.ending") {
            Some("crlf") => b"\r\n",
            Some("cr") => b"\r",
            Some(_) | None => b"\n",
        },
        kind,
    })
}

fn kind(word: &str, options: &Options) -> Result<Kind, OptionFault> {
    let ended = |end: &[u8], coding| Kind::Ended {
        starts: Vec::new(),
        end: end.to_vec(),
        coding,
    };
    Ok(match word {
        "delimiter" => delimited(options)?,
        "length" => {
            let sync = bytes(options, "framing.sync")?.unwrap_or_default();
            let field = LengthField {
                offset: number(options, "framing.length.offset", sync.len()),
                width: match options.text("framing.length.type") {
                    Some("u8") => 1,
                    Some("u32") => 4,
                    Some(_) | None => 2,
                },
                is_little: options.text("framing.length.order") == Some("little"),
                adjust: options.integer("framing.length.adjust").unwrap_or(0),
            };
            if field.offset < sync.len() {
                let problem = "the number would lie in 'framing.sync'";
                return Err(OptionFault::new("framing.length.offset", problem));
            }
            Kind::Sized {
                sync,
                size: Size::Field(field),
            }
        }
        "fixed" => {
            let sync = bytes(options, "framing.sync")?.unwrap_or_default();
            let size = options.integer("framing.size");
            let size = size.ok_or_else(|| missing("framing.size", "fixed"))?;
            let size = usize::try_from(size).unwrap_or(1);
            if size <= sync.len() {
                let problem = "a message would be its 'framing.sync' and nothing else";
                return Err(OptionFault::new("framing.size", problem));
            }
            Kind::Sized {
                sync,
                size: Size::Fixed(size),
            }
        }
        "cobs" => ended(&[0], Coding::Cobs),
        "slip" => ended(&[super::stuffing::SLIP_END], Coding::Slip),
        "idle" => Kind::Paused,
        "nmea" => Kind::Ended {
            starts: vec![b"$".to_vec(), b"!".to_vec()],
            end: b"\n".to_vec(),
            coding: Coding::Nmea,
        },
        "line" => ended(b"\n", Coding::Line),
        other => {
            let problem = format!("`{other}` is not a framing");
            return Err(OptionFault::new("framing", problem));
        }
    })
}

fn delimited(options: &Options) -> Result<Kind, OptionFault> {
    let end = bytes(options, "framing.delimiter")?;
    let end = end.ok_or_else(|| missing("framing.delimiter", "delimiter"))?;
    let start = bytes(options, "framing.start")?;
    if start.as_ref() == Some(&end) {
        let problem = "it is the same as 'framing.delimiter': leave it out";
        return Err(OptionFault::new("framing.start", problem));
    }
    Ok(Kind::Ended {
        starts: start.into_iter().collect(),
        end,
        coding: Coding::Plain,
    })
}

fn checksum(options: &Options, has_mark: bool) -> Result<Option<Checksum>, OptionFault> {
    let word = options.text("checksum").unwrap_or("none");
    if word == "none" {
        return Ok(None);
    }
    let found = Algorithm::ALL.iter().find(|(known, _)| *known == word);
    let Some((_, algorithm)) = found else {
        let problem = format!("`{word}` is not a checksum");
        return Err(OptionFault::new("checksum", problem));
    };
    let position = match options.text("checksum.position") {
        Some("start") => Position::Start,
        Some("after") => Position::After,
        Some(_) | None => Position::End,
    };
    if position == Position::After && !has_mark {
        let problem = "only with framing = 'delimiter' something stands before it";
        return Err(OptionFault::new("checksum.position", problem));
    }
    let separator = bytes(options, "checksum.separator")?.unwrap_or_default();
    if position != Position::End && !separator.is_empty() {
        let problem = "only a checksum at the end has one";
        return Err(OptionFault::new("checksum.separator", problem));
    }
    Ok(Some(Checksum {
        algorithm: *algorithm,
        position,
        is_little: match options.text("checksum.order") {
            Some(order) => order == "little",
            None => *algorithm == Algorithm::Crc16Modbus,
        },
        is_hex: options.text("checksum.encoding") == Some("hex"),
        from: number(options, "checksum.from", 0),
        trailer: number(options, "checksum.trailer", 0),
        separator,
    }))
}

fn missing(option: &str, framing: &str) -> OptionFault {
    OptionFault::new(option, format!("it is needed with framing = '{framing}'"))
}

fn number(options: &Options, name: &str, default: usize) -> usize {
    let written = options
        .integer(name)
        .and_then(|number| usize::try_from(number).ok());
    written.unwrap_or(default)
}

fn bytes(options: &Options, name: &str) -> Result<Option<Vec<u8>>, OptionFault> {
    let parse = |text| bytes_of(text).map_err(|problem| OptionFault::new(name, problem));
    options.text(name).map(parse).transpose()
}

/// The bytes that a text with escapes stands for: `\r`, `\n`, `\t`, `\0`, `\\` and `\x` with two
/// hexadecimal digits.
///
/// # Errors
/// An escape that is none of these, in a sentence.
pub fn bytes_of(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.extend_from_slice(plain.as_bytes());
        let (byte, length) = match escape.as_bytes() {
            [b'r', ..] => (b'\r', 1),
            [b'n', ..] => (b'\n', 1),
            [b't', ..] => (b'\t', 1),
            [b'0', ..] => (0, 1),
            [b'\\', ..] => (b'\\', 1),
            [b'x', high, low, ..] => match hex_byte(&[*high, *low]) {
                Some(byte) => (byte, 3),
                None => return Err(unknown_escape(escape)),
            },
            _ => return Err(unknown_escape(escape)),
        };
        out.push(byte);
        rest = escape.get(length..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

fn unknown_escape(escape: &str) -> String {
    let shown: String = escape.chars().take(3).collect();
    format!("`\\{shown}` means nothing: write \\r, \\n, \\t, \\0, \\\\ or \\x and two digits")
}

/// Bytes the way [`bytes_of`] reads them.
#[must_use]
pub fn text_of(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(*byte)),
            other => out.push_str(&format!("\\x{other:02x}")),
        }
    }
    out
}
