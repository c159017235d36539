//! Payloads that were compressed on their way: unpacked in memory, never beyond a limit.

use std::io::Read;

use super::{Reason, Reject};
use crate::config::options::{OptionKind, OptionSpec, Options};

/// How payloads are compressed; for every format.
pub const COMPRESSION: OptionSpec = OptionSpec::new(
    "payload.compression",
    OptionKind::Choice(&["none", "gzip", "zstd", "deflate", "auto"]),
    "How payloads are compressed. `deflate` is that of HTTP (zlib); `auto` tells gzip, zstd and \
     plain payloads apart by their first bytes",
)
.or("none");

/// How large a payload may become.
pub const DECODED_BYTES_MAX: OptionSpec = OptionSpec::new(
    "payload.decoded_bytes_max",
    OptionKind::Bytes,
    "A payload that is larger when unpacked is rejected as too_large",
)
.or("8 MiB");

const DECODED_BYTES_MAX_DEFAULT: u64 = 8 << 20;
/// Memory beyond this is given back after each message.
const KEPT_BYTES_MAX: usize = 256 << 10;
/// What zstd may keep of what it has unpacked, as a power of two: at least that of its highest
/// plain level (8 MiB), and no more than 128 MiB whatever may be unpacked.
const WINDOW_LOG_MIN: u32 = 23;
const WINDOW_LOG_MAX: u32 = 27;

#[derive(Clone, Copy, Debug)]
enum Compression {
    Gzip,
    Zstd,
    Deflate,
}

impl Compression {
    /// What a payload begins with says what it is.
    fn of(payload: &[u8]) -> Option<Compression> {
        match payload {
            [0x1f, 0x8b, 0x08, ..] => Some(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Compression::Zstd),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            Compression::Deflate => "deflate",
        }
    }
}

/// Unpacks payloads.
#[derive(Debug)]
pub(super) struct Unpacker {
    /// `None`: as each payload says.
    compression: Option<Compression>,
    bytes_max: u64,
    unpacked: Vec<u8>,
}

impl Unpacker {
    /// `None` when nothing is to be unpacked.
    pub(super) fn new(options: &Options) -> Option<Unpacker> {
        let compression = match options.text(COMPRESSION.name)? {
            "gzip" => Some(Compression::Gzip),
            "zstd" => Some(Compression::Zstd),
            "deflate" => Some(Compression::Deflate),
            "auto" => None,
            _ => return None,
        };
        let bytes_max = options.integer(DECODED_BYTES_MAX.name);
        Some(Unpacker {
            compression,
            bytes_max: bytes_max.map_or(DECODED_BYTES_MAX_DEFAULT, i64::unsigned_abs),
            unpacked: Vec::new(),
        })
    }

    /// The payload as it was before it was compressed.
    pub(super) fn unpack<'a>(&'a mut self, payload: &'a [u8]) -> Result<&'a [u8], Reject> {
        if payload.is_empty() {
            return Ok(payload);
        }
        let Some(compression) = self.compression.or_else(|| Compression::of(payload)) else {
            return Ok(payload);
        };
        self.unpacked.clear();
        self.unpacked.shrink_to(KEPT_BYTES_MAX);
        let limit = self.bytes_max.saturating_add(1);
        let into = &mut self.unpacked;
        let read = match compression {
            Compression::Gzip => flate2::bufread::MultiGzDecoder::new(payload)
                .take(limit)
                .read_to_end(into),
            Compression::Deflate => flate2::bufread::ZlibDecoder::new(payload)
                .take(limit)
                .read_to_end(into),
            Compression::Zstd => zstd_decoder(payload, self.bytes_max)
                .and_then(|decoder| decoder.take(limit).read_to_end(into)),
        };
        if let Err(error) = read {
            let detail = format!("not {}: {error}", compression.name());
            return Err(Reject::new(Reason::Malformed, detail));
        }
        if u64::try_from(self.unpacked.len()).unwrap_or(u64::MAX) > self.bytes_max {
            let (name, max) = (DECODED_BYTES_MAX.name, self.bytes_max);
            let detail = format!("more bytes when unpacked than {name}, which is {max}");
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        Ok(&self.unpacked)
    }
}

/// A decoder whose memory is bounded too, not only what it gives.
fn zstd_decoder(
    payload: &[u8],
    bytes_max: u64,
) -> std::io::Result<zstd::stream::read::Decoder<'_, &[u8]>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(payload)?;
    let window_log = u64::BITS - bytes_max.leading_zeros();
    decoder.window_log_max(window_log.clamp(WINDOW_LOG_MIN, WINDOW_LOG_MAX))?;
    Ok(decoder)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::options::{Layer, OptionValue};

    fn unpacker(compression: &str, bytes_max: i64) -> Unpacker {
        let mut options = Options::default();
        let text = OptionValue::Text(compression.to_owned());
        options.set(COMPRESSION.name, text, Layer::Sql);
        let bytes = OptionValue::Integer(bytes_max);
        options.set(DECODED_BYTES_MAX.name, bytes, Layer::Sql);
        Unpacker::new(&options).unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 3).unwrap()
    }

    #[test]
    fn payloads_come_back() {
        let plain = b"{\"a\":1}".repeat(100);
        let twice = [gzip(&plain), gzip(&plain)].concat();
        let table = [
            ("gzip", gzip(&plain), plain.clone()),
            ("gzip", twice, plain.repeat(2)),
            ("zstd", zstd(&plain), plain.clone()),
            ("deflate", zlib(&plain), plain.clone()),
            ("auto", gzip(&plain), plain.clone()),
            ("auto", zstd(&plain), plain.clone()),
            ("auto", plain.clone(), plain.clone()),
            ("auto", Vec::new(), Vec::new()),
        ];
        for (compression, packed, expected) in table {
            let mut unpacker = unpacker(compression, 10_000);
            assert_eq!(unpacker.unpack(&packed).unwrap(), expected, "{compression}");
        }
        assert!(Unpacker::new(&Options::default()).is_none());
    }

    #[test]
    fn nothing_grows_beyond_the_limit() {
        let zeros = vec![0; 50_000_000];
        for (compression, packed) in [
            ("gzip", gzip(&zeros)),
            ("zstd", zstd(&zeros)),
            ("deflate", zlib(&zeros)),
        ] {
            assert!(packed.len() < 100_000);
            let mut unpacker = unpacker(compression, 1_000);
            let reject = unpacker.unpack(&packed).unwrap_err();
            assert_eq!(reject.reason, Reason::TooLarge, "{compression}: {reject}");
            assert!(unpacker.unpacked.capacity() < 100_000);
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_malformed() {
        let plain = b"{\"a\":1}".repeat(100);
        for (compression, packed) in [
            ("gzip", gzip(&plain)),
            ("zstd", zstd(&plain)),
            ("deflate", zlib(&plain)),
        ] {
            let mut unpacker = unpacker(compression, 10_000);
            let mut bad = vec![b"{}".to_vec()];
            bad.extend((1..packed.len()).map(|length| packed[..length].to_vec()));
            for payload in bad {
                let reject = unpacker.unpack(&payload).unwrap_err();
                assert_eq!(reject.reason, Reason::Malformed, "{compression}: {reject}");
            }
        }
    }
}
