//! What a sample of a line's bytes looks like.
//!
//! Every framing that can be known without being told more is tried, with every checksum, by the
//! very code that will read the port. What most of the bytes fit into is the answer; what fits by
//! chance (any bytes are a frame of COBS now and then) must fit more often than what does not.

use std::time::{Duration, Instant};

use crate::config::options::{Layer, OptionValue, Options};
use crate::framing::{Algorithm, Framing, Piece, Start};

/// Bytes, and how long after the first ones they came.
pub(super) type Sample = Vec<(Duration, Vec<u8>)>;

/// The pause that is tried for messages that are told apart by pauses, in milliseconds.
const IDLE_MS: i64 = 20;
/// So much of the bytes must fit.
const SHARE_MIN: f64 = 0.8;
/// So many messages are kept to look into.
const KEPT_MAX: usize = 100;

/// A way to read a line, and how well it fits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    /// The options that differ from their defaults.
    pub(super) options: Vec<(&'static str, String)>,
    /// The share of the bytes that fit, weighted by how much that proves: up to 1.
    pub(super) score: f64,
    /// Whole messages, and bytes that are none.
    pub(super) frames: usize,
    pub(super) faults: usize,
    /// The first messages.
    pub(super) kept: Vec<Vec<u8>>,
}

/// The best way to read the sample, if one fits.
pub(super) fn judge(sample: &Sample) -> Option<Verdict> {
    let verdicts = candidates()
        .into_iter()
        .filter_map(|options| try_out(sample, options));
    // Of equals the first: what says the least.
    verdicts.fold(None, |best: Option<Verdict>, next| match best {
        Some(best) if best.score >= next.score => Some(best),
        Some(_) | None => Some(next),
    })
}

type Choice = Vec<(&'static str, String)>;

fn candidates() -> Vec<Choice> {
    let one = |name: &'static str, value: &str| (name, value.to_owned());
    let mut all = vec![vec![one("framing", "nmea")]];
    let text = [
        vec![one("framing", "line")],
        vec![one("framing", "delimiter"), one("framing.delimiter", "\\r")],
    ];
    let binary = ["cobs", "slip", "idle"].map(|name| {
        let mut choice = vec![one("framing", name)];
        if name == "idle" {
            choice.push(("framing.idle", format!("{IDLE_MS} ms")));
        }
        choice
    });
    all.extend(text.iter().chain(&binary).cloned());
    for (word, algorithm) in Algorithm::ALL {
        let orders: &[Option<&str>] = match algorithm.width() {
            1 => &[None],
            _ => &[Some("little"), Some("big")],
        };
        for order in orders {
            let sum = |choice: &Choice| {
                let mut choice = choice.clone();
                choice.push(one("checksum", word));
                choice.extend(order.map(|order| one("checksum.order", order)));
                choice
            };
            for choice in &text {
                for separator in ["*", ""] {
                    let mut choice = sum(choice);
                    choice.push(one("checksum.encoding", "hex"));
                    if !separator.is_empty() {
                        choice.push(one("checksum.separator", separator));
                    }
                    all.push(choice);
                }
            }
            all.extend(binary.iter().map(sum));
        }
    }
    all
}

fn try_out(sample: &Sample, options: Choice) -> Option<Verdict> {
    let framing = Framing::from_options(&as_options(&options)).ok()?;
    let begin = Instant::now();
    let mut deframer = framing.deframer(Start::Midway, begin);
    let mut verdict = Verdict {
        options,
        score: 0.0,
        frames: 0,
        faults: 0,
        kept: Vec::new(),
    };
    let (mut good, mut bad, mut printable) = (0_usize, 0_usize, 0_usize);
    let end = sample.last().map(|(at, _)| *at + Duration::from_secs(1));
    let pushes = sample.iter().map(|(at, bytes)| (*at, bytes.as_slice()));
    // The last push, of nothing, is the pause behind the sample.
    for (at, bytes) in pushes.chain(end.map(|end| (end, &[][..]))) {
        deframer.push(bytes, begin + at);
        while let Some(piece) = deframer.next_piece() {
            match piece {
                Piece::Frame(payload) => {
                    verdict.frames += 1;
                    good += payload.len();
                    printable += payload.iter().filter(|byte| is_printable(**byte)).count();
                    if verdict.kept.len() < KEPT_MAX {
                        verdict.kept.push(payload.to_vec());
                    }
                }
                Piece::Fault { bytes, .. } => {
                    verdict.faults += 1;
                    bad += bytes.len();
                }
            }
        }
    }
    let share = ratio(good, good + bad);
    let proof = proof(&verdict, ratio(printable, good))?;
    verdict.score = share * proof;
    (share >= SHARE_MIN).then_some(verdict)
}

/// How much it proves that the messages fit; `None` when it proves nothing.
fn proof(verdict: &Verdict, printable: f64) -> Option<f64> {
    let option = |name: &str| {
        let mut options = verdict.options.iter();
        options
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    };
    let framing = option("framing").unwrap_or_default();
    let sum = option("checksum");
    let width = Algorithm::ALL.iter().find(|(word, _)| Some(*word) == sum);
    let width = width.map_or(0, |(_, algorithm)| algorithm.width());
    match (framing, width) {
        ("nmea", _) => (verdict.frames >= 2).then_some(1.0),
        // A checksum of one byte is right by chance once in 256 times.
        (_, 1) => (verdict.frames >= 4).then_some(0.97),
        (_, 2..) => (verdict.frames >= 2).then_some(0.98),
        ("line", _) => (verdict.frames >= 2 && printable >= 0.95).then_some(0.9 * printable),
        ("delimiter", _) => (verdict.frames >= 2 && printable >= 0.95).then_some(0.8 * printable),
        ("cobs" | "slip", _) => {
            let is_long = verdict.kept.iter().any(|frame| frame.len() >= 4);
            (verdict.frames >= 4 && is_long).then_some(0.6)
        }
        // Pauses are there on every line.
        _ => None,
    }
}

fn as_options(choice: &Choice) -> Options {
    let mut options = Options::default();
    for (name, value) in choice {
        let value = match *name {
            "framing.idle" => OptionValue::Integer(IDLE_MS),
            _ => OptionValue::Text(value.clone()),
        };
        options.set(name, value, Layer::Sql);
    }
    options
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t') || byte >= 0xc2
}

/// `0` of nothing.
fn ratio(part: usize, whole: usize) -> f64 {
    let number = |count: usize| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
    if whole == 0 {
        0.0
    } else {
        number(part) / number(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of a framing, a tenth of a second apart, the line opened within the first.
    fn said(choice: &[(&'static str, &str)], payloads: &[&str]) -> Sample {
        let choice: Choice = choice
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        let framing = Framing::from_options(&as_options(&choice)).unwrap();
        let mut at = Duration::ZERO;
        let mut sample = Vec::new();
        for payload in payloads {
            let mut frame = Vec::new();
            framing.frame(payload.as_bytes(), &mut frame).unwrap();
            if sample.is_empty() {
                frame.drain(..2);
            }
            at += Duration::from_millis(100);
            let later = frame.split_off(frame.len() / 2);
            sample.push((at, frame));
            sample.push((at + Duration::from_millis(1), later));
        }
        sample
    }

    #[test]
    fn lines_are_recognised() {
        let texts = [
            "{\"t\":21.5}",
            "{\"t\":21.25}",
            "{\"t\":22}",
            "{\"t\":1}",
            "{\"t\":7}",
            "{\"t\":9}",
        ];
        let table: &[&[(&'static str, &str)]] = &[
            &[("framing", "line")],
            &[("framing", "delimiter"), ("framing.delimiter", "\\r")],
            &[("framing", "nmea")],
            &[("framing", "slip")],
            &[("framing", "cobs")],
            &[
                ("framing", "cobs"),
                ("checksum", "crc16_xmodem"),
                ("checksum.order", "big"),
            ],
            &[
                ("framing", "slip"),
                ("checksum", "crc32"),
                ("checksum.order", "little"),
            ],
            &[
                ("framing", "idle"),
                ("framing.idle", "20 ms"),
                ("checksum", "crc16_modbus"),
                ("checksum.order", "little"),
            ],
            &[
                ("framing", "line"),
                ("checksum", "xor8"),
                ("checksum.encoding", "hex"),
                ("checksum.separator", "*"),
            ],
        ];
        for choice in table {
            let sample = said(choice, &texts);
            let verdict = judge(&sample).unwrap_or_else(|| panic!("{choice:?}"));
            let found: Vec<(&str, &str)> = verdict
                .options
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            assert_eq!(&found, choice);
            assert!(verdict.frames >= 4 && verdict.score > 0.5, "{verdict:?}");
        }
    }

    #[test]
    fn noise_is_nothing() {
        let mut random = 1_u32;
        let mut byte = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random.to_be_bytes()[0]
        };
        let sample = (1..=40_u64).map(|n| {
            let bytes = (0..50).map(|_| byte()).collect();
            (Duration::from_millis(n * 10), bytes)
        });
        assert_eq!(judge(&sample.collect()), None);
        assert_eq!(judge(&Vec::new()), None);
    }
}
