//! The `eventflux` program.

fn main() {}
