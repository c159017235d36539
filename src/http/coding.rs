//! Bodies that are packed: what `Content-Encoding` names.

use std::io::{Read, Write};

/// The largest window of a zstd frame that is unpacked, as a power of two: what the format tells
/// decoders to support, 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

/// Why a body could not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unpack {
    /// More than the limit comes out of it.
    TooLarge,
    /// It is not what it says.
    Broken(String),
}

impl Coding {
    /// What a `Content-Encoding` says; `Ok(None)` when the body is as it is.
    ///
    /// # Errors
    /// The word, when nobody here knows it.
    pub fn named(name: Option<&str>) -> Result<Option<Coding>, &str> {
        match name.map(str::trim) {
            None | Some("") => Ok(None),
            Some(word) if word.eq_ignore_ascii_case("identity") => Ok(None),
            Some(word) if word.eq_ignore_ascii_case("gzip") => Ok(Some(Coding::Gzip)),
            Some(word) if word.eq_ignore_ascii_case("x-gzip") => Ok(Some(Coding::Gzip)),
            Some(word) if word.eq_ignore_ascii_case("zstd") => Ok(Some(Coding::Zstd)),
            Some(word) => Err(word),
        }
    }

    /// The word in `Content-Encoding`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
        }
    }

    /// Packs `bytes`.
    ///
    /// # Errors
    /// When the coder fails, which memory that runs out can make it do.
    pub fn pack(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Coding::Gzip => {
                let level = flate2::Compression::default();
                let mut packer = flate2::write::GzEncoder::new(Vec::new(), level);
                packer.write_all(bytes)?;
                packer.finish()
            }
            Coding::Zstd => zstd::bulk::compress(bytes, 3),
        }
    }

    /// Unpacks `bytes`, to `bytes_max` at most.
    ///
    /// # Errors
    /// Why not.
    pub fn unpack(self, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, Unpack> {
        match self {
            Coding::Gzip => read(flate2::read::MultiGzDecoder::new(bytes), bytes_max),
            Coding::Zstd => {
                let broken = |error: std::io::Error| Unpack::Broken(error.to_string());
                let mut reader = zstd::stream::read::Decoder::new(bytes).map_err(broken)?;
                let window = reader.window_log_max(ZSTD_WINDOW_LOG_MAX);
                window.map_err(broken)?;
                read(reader, bytes_max)
            }
        }
    }
}

fn read(from: impl Read, bytes_max: usize) -> Result<Vec<u8>, Unpack> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let all = from.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    all.map_err(|error| Unpack::Broken(error.to_string()))?;
    match bytes.len() > bytes_max {
        true => Err(Unpack::TooLarge),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again_up_to_the_limit() {
        let bytes = vec![b'7'; 100_000];
        for coding in [Coding::Gzip, Coding::Zstd] {
            let packed = coding.pack(&bytes).unwrap();
            assert!(packed.len() < 1_000, "{coding:?}: {}", packed.len());
            assert_eq!(coding.unpack(&packed, 100_000).as_ref(), Ok(&bytes));
            assert_eq!(coding.unpack(&packed, 99_999), Err(Unpack::TooLarge));
            let half = &packed[..packed.len() / 2];
            assert!(matches!(
                coding.unpack(half, 100_000),
                Err(Unpack::Broken(_))
            ));
            assert!(matches!(
                coding.unpack(b"{}", 100_000),
                Err(Unpack::Broken(_))
            ));
            assert_eq!(Coding::named(Some(coding.name())), Ok(Some(coding)));
        }
        assert_eq!(Coding::named(Some(" Identity ")), Ok(None));
        assert_eq!(Coding::named(Some("br")), Err("br"));
    }
}
