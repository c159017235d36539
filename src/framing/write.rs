//! Payloads become frames.

use super::checksum::{Position, hex_byte, hex_digits};
use super::stuffing::{SLIP_END, cobs_encode, slip_encode};
use super::{Algorithm, Coding, Framing, Kind, LengthField, Size};
use crate::config::options::OptionFault;
use crate::decode::{Reason, Reject};

impl Framing {
    /// Checks that frames can be made as they are read.
    ///
    /// # Errors
    /// Something in them is known to the far side only.
    pub fn must_be_writable(&self) -> Result<(), OptionFault> {
        let fault = |option: &str, problem: &str| Err(OptionFault::new(option, problem));
        if let Some(checksum) = &self.checksum {
            if checksum.trailer > 0 {
                let problem = "what stands behind the checksum is not known when it is written";
                return fault("checksum.trailer", problem);
            }
            if checksum.position == Position::Start && checksum.from > 0 {
                let problem = "what stands before the checksum is not known when it is written";
                return fault("checksum.from", problem);
            }
        }
        match &self.kind {
            Kind::Sized {
                sync,
                size: Size::Field(field),
            } if field.offset != sync.len() => {
                let problem = "what stands between 'framing.sync' and the number is not known when \
                               it is written";
                fault("framing.length.offset", problem)
            }
            Kind::Sized { .. }
                if self
                    .checksum
                    .as_ref()
                    .is_some_and(|sum| sum.position == Position::Start) =>
            {
                fault(
                    "checksum.position",
                    "with this framing it is only written at the end",
                )
            }
            Kind::Ended { .. } | Kind::Sized { .. } | Kind::Paused | Kind::Whole => Ok(()),
        }
    }

    /// Appends `payload` as one frame, with its checksum.
    ///
    /// # Errors
    /// It cannot be one: the frame would end within it, or it has too many bytes.
    pub fn frame(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Reject> {
        let malformed = |detail: &str| Err(Reject::new(Reason::Malformed, detail));
        if payload.len() > self.max {
            let detail = format!("{} bytes; framing.max is {}", payload.len(), self.max);
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        if payload.is_empty() {
            return Err(Reject::new(Reason::Empty, "there is nothing to write"));
        }
        match &self.kind {
            Kind::Ended {
                starts,
                end,
                coding,
            } => match coding {
                Coding::Plain | Coding::Line => {
                    let end = match coding {
                        Coding::Line => self.ending,
                        Coding::Plain | Coding::Cobs | Coding::Slip | Coding::Nmea => end,
                    };
                    let mut body = Vec::with_capacity(payload.len() + 8);
                    let after = self
                        .checksum
                        .as_ref()
                        .is_some_and(|sum| sum.position == Position::After);
                    let mark = if after { end } else { &[][..] };
                    self.sum_up(&[payload, mark].concat(), &mut body);
                    let inside = body.len()
                        - if after {
                            end.len() + self.bytes_of_sum()
                        } else {
                            0
                        };
                    let is_in =
                        |mark: &Vec<u8>| contains(body.get(..inside).unwrap_or_default(), mark);
                    if is_in(&end.to_vec()) || starts.iter().any(is_in) {
                        return malformed("what ends a frame stands within it");
                    }
                    out.extend(starts.iter().flatten());
                    out.extend(body);
                    if !after {
                        out.extend_from_slice(end);
                    }
                }
                Coding::Cobs | Coding::Slip => {
                    let mut body = Vec::with_capacity(payload.len() + 4);
                    self.sum_up(payload, &mut body);
                    match coding {
                        Coding::Cobs => {
                            cobs_encode(&body, out);
                            out.push(0);
                        }
                        Coding::Slip | Coding::Plain | Coding::Line | Coding::Nmea => {
                            // RFC 1055: an end before the frame flushes what noise has left.
                            out.push(SLIP_END);
                            slip_encode(&body, out);
                            out.push(SLIP_END);
                        }
                    }
                }
                Coding::Nmea => return write_sentence(payload, out),
            },
            Kind::Sized { sync, size } => return self.frame_sized(sync, *size, payload, out),
            Kind::Paused | Kind::Whole => self.sum_up(payload, out),
        }
        Ok(())
    }

    fn frame_sized(
        &self,
        sync: &[u8],
        size: Size,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        let mut frame = sync.to_vec();
        let behind = payload.len() + self.bytes_of_sum();
        match size {
            Size::Fixed(size) if sync.len() + behind != size => {
                let room = size.saturating_sub(sync.len() + self.bytes_of_sum());
                let detail = format!("{} bytes; a frame has {room}", payload.len());
                return Err(Reject::new(Reason::Malformed, detail));
            }
            Size::Fixed(_) => {}
            Size::Field(field) => frame.extend(field.digits(behind)?),
        }
        frame.extend_from_slice(payload);
        self.sum_up(&frame, out);
        Ok(())
    }

    fn bytes_of_sum(&self) -> usize {
        let sum = self.checksum.as_ref();
        sum.map_or(0, |sum| sum.length() + sum.separator.len())
    }

    /// Appends `covered` and its checksum.
    fn sum_up(&self, covered: &[u8], out: &mut Vec<u8>) {
        let Some(checksum) = &self.checksum else {
            out.extend_from_slice(covered);
            return;
        };
        match checksum.position {
            Position::Start => {
                checksum.write(covered, out);
                out.extend_from_slice(covered);
            }
            Position::End | Position::After => {
                out.extend_from_slice(covered);
                out.extend_from_slice(&checksum.separator);
                checksum.write(covered.get(checksum.from..).unwrap_or_default(), out);
            }
        }
    }
}

impl LengthField {
    /// The number for so many bytes behind it.
    fn digits(self, behind: usize) -> Result<Vec<u8>, Reject> {
        let value = i64::try_from(behind)
            .unwrap_or(i64::MAX)
            .saturating_sub(self.adjust);
        let bits = self.width * 8;
        let unsigned = u64::try_from(value).ok().filter(|value| value >> bits == 0);
        let Some(value) = unsigned else {
            let detail = format!("the length {value} does not fit into u{bits}");
            return Err(Reject::new(Reason::TooLarge, detail));
        };
        let mut digits: Vec<u8> = value
            .to_be_bytes()
            .iter()
            .skip(8 - self.width)
            .copied()
            .collect();
        if self.is_little {
            digits.reverse();
        }
        Ok(digits)
    }
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    !what.is_empty() && bytes.windows(what.len()).any(|window| window == what)
}

/// Checks a sentence `$…*hh` or `!…*hh` of NMEA 0183: the checksum is all between `$` and `*`,
/// exclusive or.
pub(super) fn check_sentence(sentence: &[u8]) -> Result<(), Reject> {
    let malformed = |detail: &str| Err(Reject::new(Reason::Malformed, detail));
    let Some((body, digits)) = sentence.split_last_chunk::<3>() else {
        return malformed("NMEA: too short for a checksum");
    };
    let [b'*', high, low] = digits else {
        return malformed("NMEA: the sentence has no checksum `*hh` at its end");
    };
    let Some(written) = hex_byte(&[*high, *low]) else {
        return malformed("NMEA: the checksum is not in hexadecimal digits");
    };
    let computed = Algorithm::Xor8.of(body.get(1..).unwrap_or_default());
    if computed != u32::from(written) {
        let detail = format!("NMEA: the checksum is {written:02X}, it would be {computed:02X}");
        return malformed(&detail);
    }
    Ok(())
}

/// Appends a sentence with its checksum. `$` and the checksum may be there already.
fn write_sentence(payload: &[u8], out: &mut Vec<u8>) -> Result<(), Reject> {
    let (start, body) = match payload {
        [first @ (b'$' | b'!'), body @ ..] => (*first, body),
        body => (b'$', body),
    };
    let body = match body {
        [body @ .., b'*', _, _] => body,
        body => body,
    };
    if body.iter().any(|byte| b"\r\n$!*".contains(byte)) || body.is_empty() {
        let detail = "NMEA: a sentence has neither `$`, `!`, `*` nor the end of a line inside";
        return Err(Reject::new(Reason::Malformed, detail));
    }
    let sum = u8::try_from(Algorithm::Xor8.of(body)).unwrap_or(0);
    out.push(start);
    out.extend_from_slice(body);
    out.push(b'*');
    out.extend(hex_digits(sum));
    out.extend_from_slice(b"\r\n");
    Ok(())
}
