//! The engine, and the outbox, against models of a few lines that look at everything again and
//! again.
//!
//! An engine is run straight, with all rows at once, and with restarts from what was saved, in
//! steps, behind each input; all must give what the model says.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail where it stands"
)]

mod aggregates;
mod dead_letters;
mod drive;
mod incremental;
mod incremental_rows;
mod join;
mod one_stream;
mod outbox;
mod output;
mod partition;
mod pattern;
mod pattern_reference;
mod pattern_timelines;
mod readings;
mod table;
#[path = "../common/tape.rs"]
mod tape;
mod windows;
