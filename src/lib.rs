//! EventFlux: streaming SQL over sensor events on a gateway, without losing one.
//!
//! The modules stand in the order in which data travels.

pub mod event;

pub mod source;

pub mod wal;

pub mod checkpoint;

pub mod outbox;

pub mod sink;

pub mod store;

pub mod config;
pub mod diagnostic;
