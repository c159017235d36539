//! The hash by which documents are known.

use sha2::{Digest as _, Sha256};

use crate::event::to_hex;

/// SHA-256 (FIPS 180-4) in lower-case hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}
