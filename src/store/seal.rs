//! The envelope of every value: version, checksum, a fixed head, a payload that may be compressed.
//!
//! ```text
//!  0      1      2       3     4         8            8+h             12+h
//!  +------+------+-------+-----+---------+------------+---------------+---------------------+
//!  | ver  | kind | flags | 0   | crc32c  | head       | payload bytes | payload             |
//!  | = 1  |      | 1=zst |     | LE u32  | h bytes    | LE u32, plain | plain or zstd frame |
//!  +------+------+-------+-----+---------+------------+---------------+---------------------+
//!                 2=tail: its length, LE u32, and the tail as it is, stand before the payload
//! ```
//!
//! The checksum (CRC-32C, Castagnoli) covers everything except itself. `h` is fixed per kind and
//! known to the reader. A payload is at most [`PAYLOAD_BYTES_MAX`] long when unpacked, and the
//! reader enforces that before it unpacks anything.

use std::borrow::Cow;

const VERSION: u8 = 1;
const FLAG_ZSTD: u8 = 1;
const FLAG_TAIL: u8 = 2;
const PREFIX: usize = 8;
const LENGTH: usize = 4;
/// Below this a zstd frame's own head eats what it saves.
const COMPRESS_BYTES_MIN: usize = 192;
const LEVEL: i32 = 1;
const KEPT_BYTES_MAX: usize = 128 << 10;

/// The longest payload, unpacked: 64 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// Why a sealed value cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Shorter than its fixed part.
    #[error("cut off")]
    Short,
    /// Written by a version of the format that this program does not know.
    #[error("format version {0} is not known")]
    Version(u8),
    /// A flag is set that this program does not know.
    #[error("flags {0:#04x} are not known")]
    Flags(u8),
    /// A bit differs.
    #[error("the checksum differs")]
    Checksum,
    /// The payload says it is longer than any payload may be.
    #[error("a payload of {0} bytes is too long")]
    TooLong(usize),
    /// The payload cannot be unpacked to the length that was noted.
    #[error("the payload cannot be unpacked")]
    Payload,
    /// The payload is whole but does not have the form of its kind.
    #[error("the content does not have the form of its kind")]
    Content,
    /// It lies under another key than it was written for.
    #[error("it lies under a key that is not its own")]
    Misplaced,
}

/// A payload that is too long to be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes are more than the {PAYLOAD_BYTES_MAX} that one value may hold")]
pub struct TooLong {
    /// The length of the payload.
    pub bytes: usize,
}

/// Makes sealed values; keeps the compressor's memory between them.
#[derive(Default)]
pub struct Sealer {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    packed: Vec<u8>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// The value for `kind`, `head` and `payload`; the payload is packed when that makes it
    /// smaller by an eighth.
    pub fn seal(&mut self, kind: u8, head: &[u8], payload: &[u8]) -> Result<Vec<u8>, TooLong> {
        self.seal_with(kind, head, payload, &[])
    }

    /// The same with a `tail`, which is never packed: for bytes of which that is known to be in
    /// vain.
    pub fn seal_with(
        &mut self,
        kind: u8,
        head: &[u8],
        payload: &[u8],
        tail: &[u8],
    ) -> Result<Vec<u8>, TooLong> {
        let bytes = payload.len().saturating_add(tail.len());
        let lengths = u32::try_from(payload.len())
            .ok()
            .zip(tail.len().try_into().ok());
        let lengths: Option<(u32, u32)> = lengths.filter(|_| bytes <= PAYLOAD_BYTES_MAX);
        let Some((length, tail_length)) = lengths else {
            return Err(TooLong { bytes });
        };
        let packed = self.pack(payload);
        let (flags, body) = match packed {
            Some(packed) => (FLAG_ZSTD, packed),
            None => (0, payload),
        };
        let flags = flags | if tail.is_empty() { 0 } else { FLAG_TAIL };
        let fixed = PREFIX + head.len() + 2 * LENGTH;
        let mut out = Vec::with_capacity(fixed + tail.len() + body.len());
        out.extend_from_slice(&[VERSION, kind, flags, 0, 0, 0, 0, 0]);
        out.extend_from_slice(head);
        out.extend_from_slice(&length.to_le_bytes());
        if !tail.is_empty() {
            out.extend_from_slice(&tail_length.to_le_bytes());
            out.extend_from_slice(tail);
        }
        out.extend_from_slice(body);
        // What one large value took is not kept for the many small ones.
        if self.packed.capacity() > KEPT_BYTES_MAX {
            self.packed = Vec::new();
        }
        let sum = checksum(&out).unwrap_or_default();
        if let Some(field) = out.get_mut(4..PREFIX) {
            field.copy_from_slice(&sum.to_le_bytes());
        }
        Ok(out)
    }

    fn pack(&mut self, payload: &[u8]) -> Option<&[u8]> {
        if payload.len() < COMPRESS_BYTES_MIN {
            return None;
        }
        if self.compressor.is_none() {
            self.compressor = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        let bound = zstd::zstd_safe::compress_bound(payload.len());
        self.packed.clear();
        self.packed.reserve(bound);
        let compressor = self.compressor.as_mut()?;
        compressor
            .compress_to_buffer(payload, &mut self.packed)
            .ok()?;
        (self.packed.len() < payload.len() - payload.len() / 8).then_some(self.packed.as_slice())
    }
}

/// Reads sealed values; keeps the decompressor's memory between them.
#[derive(Default)]
pub struct Unsealer {
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

impl std::fmt::Debug for Unsealer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Unsealer").finish_non_exhaustive()
    }
}

/// A sealed value whose checksum holds; its payload is still as it was stored.
#[derive(Clone, Copy, Debug)]
pub struct Sealed<'a> {
    /// What it is.
    pub kind: u8,
    /// The fixed head.
    pub head: &'a [u8],
    /// What was never packed; empty when there is none.
    pub tail: &'a [u8],
    packed: bool,
    payload_bytes: usize,
    body: &'a [u8],
}

impl Sealed<'_> {
    /// How long the payload says it is when unpacked.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }
}

/// Whether `value` is sealed and no bit of it differs, whatever its kind.
#[must_use]
pub fn is_whole(value: &[u8]) -> bool {
    let sum = value.get(4..).and_then(<[u8]>::first_chunk::<4>);
    sum.is_some_and(|sum| checksum(value) == Some(u32::from_le_bytes(*sum)))
}

/// Whether `value` is whole, and sealed in a manner that this program does not know: by a newer
/// one.
#[must_use]
pub fn is_foreign(value: &[u8]) -> bool {
    let known = matches!(value, [VERSION, _, flags, ..] if *flags & !(FLAG_ZSTD | FLAG_TAIL) == 0);
    !known && is_whole(value)
}

/// Checks `value`, whose head is `head_bytes` long. Does not unpack the payload.
pub fn check(value: &[u8], head_bytes: usize) -> Result<Sealed<'_>, Damage> {
    let [version, kind, flags, _, sum @ ..] = value.first_chunk::<PREFIX>().ok_or(Damage::Short)?;
    let sum = u32::from_le_bytes(*sum);
    // The checksum comes before the version: a flipped version byte is damage, not the future.
    if checksum(value) != Some(sum) {
        return Err(Damage::Checksum);
    }
    if *version != VERSION {
        return Err(Damage::Version(*version));
    }
    if *flags & !(FLAG_ZSTD | FLAG_TAIL) != 0 {
        return Err(Damage::Flags(*flags));
    }
    let rest = value.get(PREFIX..).ok_or(Damage::Short)?;
    let (head, rest) = rest.split_at_checked(head_bytes).ok_or(Damage::Short)?;
    let (payload_bytes, rest) = length_of(rest)?;
    let (tail, body) = if *flags & FLAG_TAIL == 0 {
        (&[][..], rest)
    } else {
        let (tail_bytes, rest) = length_of(rest)?;
        rest.split_at_checked(tail_bytes).ok_or(Damage::Short)?
    };
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(Damage::TooLong(payload_bytes));
    }
    Ok(Sealed {
        kind: *kind,
        head,
        tail,
        packed: *flags & FLAG_ZSTD != 0,
        payload_bytes,
        body,
    })
}

fn length_of(bytes: &[u8]) -> Result<(usize, &[u8]), Damage> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or(Damage::Short)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Damage::Payload)?;
    Ok((length, rest))
}

impl Unsealer {
    /// The payload of `sealed`, unpacked.
    pub fn payload<'a>(&mut self, sealed: Sealed<'a>) -> Result<Cow<'a, [u8]>, Damage> {
        if !sealed.packed {
            return if sealed.body.len() == sealed.payload_bytes {
                Ok(Cow::Borrowed(sealed.body))
            } else {
                Err(Damage::Payload)
            };
        }
        if self.decompressor.is_none() {
            self.decompressor = zstd::bulk::Decompressor::new().ok();
        }
        let decompressor = self.decompressor.as_mut().ok_or(Damage::Payload)?;
        let plain = decompressor
            .decompress(sealed.body, sealed.payload_bytes)
            .map_err(|_| Damage::Payload)?;
        if plain.len() == sealed.payload_bytes {
            Ok(Cow::Owned(plain))
        } else {
            Err(Damage::Payload)
        }
    }
}

fn checksum(value: &[u8]) -> Option<u32> {
    let sum = crc32c::crc32c(value.get(..4)?);
    Some(crc32c::crc32c_append(sum, value.get(PREFIX..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_comes_back_and_every_flipped_bit_is_noticed() {
        for payload in [
            vec![],
            vec![7; 10],
            vec![7; 5000],
            (0..=255).collect::<Vec<u8>>(),
        ] {
            let mut sealer = Sealer::default();
            let tail = &payload[..payload.len().min(7)];
            let plain = sealer.seal(3, b"head", &payload).unwrap();
            assert_eq!(check(&plain, 4).unwrap().tail, b"");
            let value = sealer.seal_with(3, b"head", &payload, tail).unwrap();
            let sealed = check(&value, 4).unwrap();
            assert_eq!((sealed.kind, sealed.head), (3, &b"head"[..]));
            assert_eq!(sealed.tail, tail);
            assert_eq!(Unsealer::default().payload(sealed).unwrap(), payload);
            for bit in 0..value.len() * 8 {
                let mut bad = value.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(check(&bad, 4).is_err() && !is_whole(&bad), "bit {bit}");
            }
            for length in 0..value.len() {
                assert!(check(&value[..length], 4).is_err(), "cut at {length}");
            }
        }
    }

    #[test]
    fn a_frame_that_unpacks_to_more_than_it_says_is_refused() {
        let mut value = Sealer::default().seal(1, b"", &vec![0; 100_000]).unwrap();
        value[8..12].copy_from_slice(&100u32.to_le_bytes());
        let sum = checksum(&value).unwrap();
        value[4..8].copy_from_slice(&sum.to_le_bytes());
        let sealed = check(&value, 0).unwrap();
        assert_eq!(Unsealer::default().payload(sealed), Err(Damage::Payload));
    }
}
