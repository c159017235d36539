//! Codings that keep one byte value out of a frame, so that it can end frames.

use crate::decode::{Reason, Reject};

/// RFC 1055: ends a frame.
pub(super) const SLIP_END: u8 = 0xc0;
const SLIP_ESCAPE: u8 = 0xdb;
const SLIP_ESCAPED_END: u8 = 0xdc;
const SLIP_ESCAPED_ESCAPE: u8 = 0xdd;

/// Appends what a frame of RFC 1055 holds, its end mark already taken away.
///
/// # Errors
/// An escape is followed by something that RFC 1055 does not know.
pub(super) fn slip_decode(frame: &[u8], into: &mut Vec<u8>) -> Result<(), Reject> {
    let mut bytes = frame.iter().copied();
    while let Some(byte) = bytes.next() {
        let plain = match byte {
            SLIP_ESCAPE => match bytes.next() {
                Some(SLIP_ESCAPED_END) => SLIP_END,
                Some(SLIP_ESCAPED_ESCAPE) => SLIP_ESCAPE,
                Some(other) => {
                    let detail = format!("SLIP: the escape db is followed by {other:02x}");
                    return Err(Reject::new(Reason::Malformed, detail));
                }
                None => {
                    let detail = "SLIP: the frame ends within an escape";
                    return Err(Reject::new(Reason::Malformed, detail));
                }
            },
            plain => plain,
        };
        into.push(plain);
    }
    Ok(())
}

/// Appends `payload` as RFC 1055 has it, without its end mark.
pub(super) fn slip_encode(payload: &[u8], into: &mut Vec<u8>) {
    for byte in payload {
        match *byte {
            SLIP_END => into.extend([SLIP_ESCAPE, SLIP_ESCAPED_END]),
            SLIP_ESCAPE => into.extend([SLIP_ESCAPE, SLIP_ESCAPED_ESCAPE]),
            plain => into.push(plain),
        }
    }
}

/// The most bytes that a block of COBS stands for without a zero behind it.
const COBS_BLOCK_MAX: usize = 254;

/// Appends what a frame of COBS holds, its zero already taken away.
///
/// # Errors
/// A block is longer than the frame.
pub(super) fn cobs_decode(frame: &[u8], into: &mut Vec<u8>) -> Result<(), Reject> {
    let mut rest = frame;
    while let Some((code, after)) = rest.split_first() {
        let length = usize::from(*code).saturating_sub(1);
        let Some((block, behind)) = after.split_at_checked(length) else {
            let detail = format!(
                "COBS: a block of {length} bytes is announced, {} are there",
                after.len()
            );
            return Err(Reject::new(Reason::Malformed, detail));
        };
        into.extend_from_slice(block);
        rest = behind;
        if length < COBS_BLOCK_MAX && !rest.is_empty() {
            into.push(0);
        }
    }
    Ok(())
}

/// Appends `payload` as COBS has it, without the zero at the end.
pub(super) fn cobs_encode(payload: &[u8], into: &mut Vec<u8>) {
    let mut blocks = payload.split(|byte| *byte == 0).peekable();
    while let Some(block) = blocks.next() {
        let mut chunks = block.chunks(COBS_BLOCK_MAX).peekable();
        if chunks.peek().is_none() {
            into.push(1);
        }
        while let Some(chunk) = chunks.next() {
            into.push(u8::try_from(chunk.len() + 1).unwrap_or(u8::MAX));
            into.extend_from_slice(chunk);
            // A full block has no zero behind it: one more is needed, unless nothing follows.
            let is_full = chunk.len() == COBS_BLOCK_MAX;
            if is_full && chunks.peek().is_none() && blocks.peek().is_some() {
                into.push(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_papers() {
        // Cheshire and Baker, and the table that everybody quotes from it.
        let table: &[(&[u8], &[u8])] = &[
            (&[], &[1]),
            (&[0], &[1, 1]),
            (&[0, 0], &[1, 1, 1]),
            (&[0x11, 0x22, 0, 0x33], &[3, 0x11, 0x22, 2, 0x33]),
            (&[0x11, 0, 0, 0], &[2, 0x11, 1, 1, 1]),
        ];
        for (plain, stuffed) in table {
            let mut out = Vec::new();
            cobs_encode(plain, &mut out);
            assert_eq!(out, *stuffed);
            let mut back = Vec::new();
            cobs_decode(stuffed, &mut back).unwrap();
            assert_eq!(back, *plain);
        }
        let run: Vec<u8> = (1..=254).collect();
        let mut out = Vec::new();
        cobs_encode(&run, &mut out);
        assert_eq!((out[0], out.len()), (255, 255));
        assert!(cobs_decode(&[5, 1, 2], &mut Vec::new()).is_err());

        let mut out = Vec::new();
        slip_encode(&[1, 0xc0, 2, 0xdb, 0xdc], &mut out);
        assert_eq!(out, [1, 0xdb, 0xdc, 2, 0xdb, 0xdd, 0xdc]);
        assert!(slip_decode(&[0xdb, 1], &mut Vec::new()).is_err());
        assert!(slip_decode(&[1, 0xdb], &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_stuffed_comes_back(
            plain in proptest::collection::vec(
                prop_oneof![Just(0_u8), Just(0xc0), Just(0xdb), 1_u8..],
                0..600,
            ),
            run in 250_usize..260,
        ) {
            for payload in [plain.clone(), vec![7; run], [vec![7; run], plain].concat()] {
                let mut stuffed = Vec::new();
                cobs_encode(&payload, &mut stuffed);
                prop_assert!(!stuffed.contains(&0));
                prop_assert!(stuffed.len() <= payload.len() + payload.len() / 254 + 1);
                let mut back = Vec::new();
                cobs_decode(&stuffed, &mut back).unwrap();
                prop_assert_eq!(&back, &payload);

                stuffed.clear();
                slip_encode(&payload, &mut stuffed);
                prop_assert!(!stuffed.contains(&SLIP_END));
                back.clear();
                slip_decode(&stuffed, &mut back).unwrap();
                prop_assert_eq!(&back, &payload);
            }
        }
    }
}
