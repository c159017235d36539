//! Any packed body: no more than the limit comes out of it, or a reason why nothing does.
#![no_main]

use eventflux::http::client::Target;
use eventflux::http::coding::Coding;
use libfuzzer_sys::fuzz_target;

const BYTES_MAX: usize = 4_096;

fuzz_target!(|bytes: &[u8]| {
    for coding in [Coding::Gzip, Coding::Zstd] {
        if let Ok(unpacked) = coding.unpack(bytes, BYTES_MAX) {
            assert!(unpacked.len() <= BYTES_MAX);
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Target::parse(text);
    }
});
