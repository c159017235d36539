//! Checksums of frames: how they are computed, written and found.
//!
//! The cyclic ones are described by the parameters of the catalogue of Greg Cook
//! (<https://reveng.sourceforge.io/crc-catalogue/>), and tested by its check values.

use std::ops::Range;

use crate::decode::{Reason, Reject};

/// How a checksum is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// All bytes, exclusive or.
    Xor8,
    /// The sum of all bytes, modulo 2^8.
    Sum8,
    /// The sum of all bytes, modulo 2^16.
    Sum16,
    /// The two's complement of `Sum8`, as Modbus ASCII calls its longitudinal redundancy check.
    Lrc,
    /// CRC-8/SMBUS.
    Crc8,
    /// CRC-8/MAXIM-DOW.
    Crc8Maxim,
    /// CRC-16/MODBUS.
    Crc16Modbus,
    /// CRC-16/IBM-3740, mostly called CCITT-FALSE.
    Crc16CcittFalse,
    /// CRC-16/XMODEM.
    Crc16Xmodem,
    /// CRC-32/ISO-HDLC: of Ethernet and zip.
    Crc32,
}

/// A cyclic redundancy check in the terms of the catalogue; `init` and `out` are both `edge`.
struct Cyclic {
    bits: u32,
    polynomial: u32,
    edge: (u32, u32),
    is_reflected: bool,
}

impl Algorithm {
    /// Every one, with the word in the options.
    pub const ALL: [(&'static str, Algorithm); 10] = [
        ("xor8", Algorithm::Xor8),
        ("sum8", Algorithm::Sum8),
        ("sum16", Algorithm::Sum16),
        ("lrc", Algorithm::Lrc),
        ("crc8", Algorithm::Crc8),
        ("crc8_maxim", Algorithm::Crc8Maxim),
        ("crc16_modbus", Algorithm::Crc16Modbus),
        ("crc16_ccitt_false", Algorithm::Crc16CcittFalse),
        ("crc16_xmodem", Algorithm::Crc16Xmodem),
        ("crc32", Algorithm::Crc32),
    ];

    /// The word in the options.
    #[must_use]
    pub fn word(self) -> &'static str {
        let found = Algorithm::ALL.iter().find(|(_, known)| *known == self);
        found.map_or("", |(word, _)| word)
    }

    /// How many bytes it has.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Algorithm::Xor8
            | Algorithm::Sum8
            | Algorithm::Lrc
            | Algorithm::Crc8
            | Algorithm::Crc8Maxim => 1,
            Algorithm::Sum16
            | Algorithm::Crc16Modbus
            | Algorithm::Crc16CcittFalse
            | Algorithm::Crc16Xmodem => 2,
            Algorithm::Crc32 => 4,
        }
    }

    /// The checksum of `bytes`, in its low [`Algorithm::width`] bytes.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> u32 {
        let sum = || {
            bytes
                .iter()
                .fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)))
        };
        let cyclic = |bits, polynomial, edge, is_reflected| {
            let cyclic = Cyclic {
                bits,
                polynomial,
                edge,
                is_reflected,
            };
            cyclic.of(bytes)
        };
        match self {
            Algorithm::Xor8 => bytes.iter().fold(0, |sum, byte| sum ^ u32::from(*byte)),
            Algorithm::Sum8 => sum() & 0xff,
            Algorithm::Sum16 => sum() & 0xffff,
            Algorithm::Lrc => sum().wrapping_neg() & 0xff,
            Algorithm::Crc8 => cyclic(8, 0x07, (0, 0), false),
            Algorithm::Crc8Maxim => cyclic(8, 0x31, (0, 0), true),
            Algorithm::Crc16Modbus => cyclic(16, 0x8005, (0xffff, 0), true),
            Algorithm::Crc16CcittFalse => cyclic(16, 0x1021, (0xffff, 0), false),
            Algorithm::Crc16Xmodem => cyclic(16, 0x1021, (0, 0), false),
            Algorithm::Crc32 => cyclic(32, 0x04c1_1db7, (u32::MAX, u32::MAX), true),
        }
    }
}

impl Cyclic {
    /// Bit by bit: a line of 115 200 baud asks for 12 kB a second, and tables take memory.
    fn of(&self, bytes: &[u8]) -> u32 {
        let all = u32::MAX >> (32 - self.bits);
        let (initial, last) = self.edge;
        let mut register = initial;
        if self.is_reflected {
            let polynomial = self.polynomial.reverse_bits() >> (32 - self.bits);
            for byte in bytes {
                register ^= u32::from(*byte);
                for _ in 0..8 {
                    let carry = (register & 1).wrapping_neg();
                    register = (register >> 1) ^ (polynomial & carry);
                }
            }
        } else {
            for byte in bytes {
                register ^= u32::from(*byte) << (self.bits - 8);
                for _ in 0..8 {
                    let carry = ((register >> (self.bits - 1)) & 1).wrapping_neg();
                    register = ((register << 1) ^ (self.polynomial & carry)) & all;
                }
            }
        }
        register ^ last
    }
}

/// Where a checksum stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Behind what it covers.
    End,
    /// Before it.
    Start,
    /// Behind the mark that ends the frame, which it covers too.
    After,
}

/// A checksum of frames, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checksum {
    pub(super) algorithm: Algorithm,
    pub(super) position: Position,
    pub(super) is_little: bool,
    pub(super) is_hex: bool,
    /// So many bytes at the frame's beginning are not covered.
    pub(super) from: usize,
    /// So many bytes at its end are not either, and no payload.
    pub(super) trailer: usize,
    /// What stands between what is covered and the checksum.
    pub(super) separator: Vec<u8>,
}

impl Checksum {
    /// How many bytes it takes in a frame.
    pub(super) fn length(&self) -> usize {
        self.algorithm.width() * if self.is_hex { 2 } else { 1 }
    }

    /// Where a frame's payload lies, if the checksum is right. `mark` is the length of the mark at
    /// the end, for a checksum behind it.
    pub(super) fn verify(&self, frame: &[u8], mark: usize) -> Result<Range<usize>, Reject> {
        let length = self.length();
        let short = || {
            let detail = format!("{} bytes, too few for the checksum", frame.len());
            Reject::new(Reason::Malformed, detail)
        };
        let back = |from: usize, by: usize| from.checked_sub(by).ok_or_else(short);
        let end = back(frame.len(), self.trailer)?;
        let (covered, sum, payload) = match self.position {
            Position::End => {
                let sum = back(end, length)?;
                let covered = back(sum, self.separator.len())?;
                if frame.get(covered..sum) != Some(&self.separator) {
                    let detail = "the checksum's separator is missing";
                    return Err(Reject::new(Reason::Malformed, detail));
                }
                (self.from..covered, sum..end, 0..covered)
            }
            Position::Start => {
                let begin = self.from + length;
                (begin..end, self.from..begin, begin..end)
            }
            Position::After => {
                let sum = back(end, length)?;
                (self.from..sum, sum..end, 0..back(sum, mark)?)
            }
        };
        let covered = frame.get(covered).ok_or_else(short)?;
        let written = frame.get(sum).ok_or_else(short)?;
        let computed = self.algorithm.of(covered);
        match self.read(written) {
            Some(written) if written == computed => Ok(payload),
            Some(written) => {
                let (word, digits) = (self.algorithm.word(), self.algorithm.width() * 2);
                let detail = format!(
                    "checksum {word} is {written:0digits$x}, of these bytes it would be \
                     {computed:0digits$x}"
                );
                Err(Reject::new(Reason::Malformed, detail))
            }
            None => {
                let detail = "the checksum is not in hexadecimal digits";
                Err(Reject::new(Reason::Malformed, detail))
            }
        }
    }

    fn read(&self, written: &[u8]) -> Option<u32> {
        let mut bytes = [0; 4];
        let bytes = bytes.get_mut(..self.algorithm.width())?;
        if self.is_hex {
            for (byte, digits) in bytes.iter_mut().zip(written.chunks(2)) {
                *byte = hex_byte(digits)?;
            }
        } else {
            bytes.copy_from_slice(written.get(..bytes.len())?);
        }
        if self.is_little {
            bytes.reverse();
        }
        Some(
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
        )
    }

    /// Appends the checksum of `covered` as it stands in a frame, without the separator.
    pub(super) fn write(&self, covered: &[u8], out: &mut Vec<u8>) {
        let sum = self.algorithm.of(covered).to_be_bytes();
        let mut bytes: Vec<u8> = sum
            .iter()
            .skip(4 - self.algorithm.width())
            .copied()
            .collect();
        if self.is_little {
            bytes.reverse();
        }
        for byte in bytes {
            if self.is_hex {
                out.extend(hex_digits(byte));
            } else {
                out.push(byte);
            }
        }
    }
}

/// A byte of two hexadecimal digits, of either case.
pub(super) fn hex_byte(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit(*high)? << 4 | digit(*low)?)
}

/// Its two digits, in upper case as NMEA 0183 has them.
pub(super) fn hex_digits(byte: u8) -> [u8; 2] {
    let digit = |value: u8| match value {
        0..=9 => b'0' + value,
        _ => b'A' + (value - 10),
    };
    [digit(byte >> 4), digit(byte & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogues_check_values() {
        let table = [
            (Algorithm::Xor8, 0x31),
            (Algorithm::Sum8, 0xdd),
            (Algorithm::Sum16, 0x01dd),
            (Algorithm::Lrc, 0x23),
            (Algorithm::Crc8, 0xf4),
            (Algorithm::Crc8Maxim, 0xa1),
            (Algorithm::Crc16Modbus, 0x4b37),
            (Algorithm::Crc16CcittFalse, 0x29b1),
            (Algorithm::Crc16Xmodem, 0x31c3),
            (Algorithm::Crc32, 0xcbf4_3926),
        ];
        assert_eq!(table.len(), Algorithm::ALL.len());
        for (algorithm, check) in table {
            assert_eq!(algorithm.of(b"123456789"), check, "{}", algorithm.word());
        }
    }

    #[test]
    fn a_checksum_is_found_where_it_stands() {
        let plain = Checksum {
            algorithm: Algorithm::Crc16Modbus,
            position: Position::End,
            is_little: true,
            is_hex: false,
            from: 0,
            trailer: 0,
            separator: Vec::new(),
        };
        // A request of the Modbus application protocol's own documents.
        let request = [0x01, 0x03, 0x00, 0x00, 0x00, 0x0a, 0xc5, 0xcd];
        assert_eq!(plain.verify(&request, 0), Ok(0..6));
        assert!(plain.verify(&request[..7], 0).is_err());
        assert!(plain.verify(&request[..1], 0).is_err());
        let hex = Checksum {
            is_hex: true,
            is_little: false,
            algorithm: Algorithm::Xor8,
            from: 1,
            separator: b"*".to_vec(),
            ..plain.clone()
        };
        let sentence = b"$GPGLL,5300.97914,N,00259.98174,E,125926,A*28";
        assert_eq!(hex.verify(sentence, 0), Ok(0..42));
        let start = Checksum {
            position: Position::Start,
            algorithm: Algorithm::Sum8,
            from: 1,
            trailer: 1,
            is_little: false,
            ..plain.clone()
        };
        assert_eq!(start.verify(&[0xaa, 5, 2, 3, 0xab], 0), Ok(2..4));
        let after = Checksum {
            position: Position::After,
            algorithm: Algorithm::Xor8,
            is_little: false,
            ..plain
        };
        assert_eq!(after.verify(&[b'a', b'b', 3, b'a' ^ b'b' ^ 3], 1), Ok(0..2));
    }
}
