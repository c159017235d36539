//! The configuration as written, checked into the configuration as used.

pub mod options;
