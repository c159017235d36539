//! Any text: settings, or faults that can be drawn.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match eventflux::config::read(text, "fuzz.toml", Path::new("/nowhere"), &|_| None) {
        Ok(loaded) => drop(format!("{:?}", loaded.settings)),
        Err(failure) => drop(failure.to_string()),
    }
});
