//! EventFlux: streaming SQL over sensor events on a gateway, without losing one.
//!
//! The modules stand in the order in which data travels.

pub mod event;

pub mod diagnostic;

pub mod config;

pub mod pace;

pub mod held;

pub mod report;

pub mod tls;

#[cfg(feature = "http")]
pub mod http;

#[cfg(feature = "mqtt")]
pub mod mqtt;

#[cfg(feature = "serial")]
pub mod serial;

pub mod source;

pub mod framing;

pub mod decode;

pub mod wal;

pub mod sql;

pub mod engine;

pub mod checkpoint;

pub mod outbox;

pub mod encode;

pub mod sink;

#[cfg(feature = "broker")]
pub mod demo;

pub mod store;

pub mod allocator;

pub mod clock;

pub mod logging;

pub mod observe;

pub mod pipeline;

pub mod scenario;

pub mod supervisor;

pub mod daemon;

#[cfg(feature = "control")]
pub mod control;

pub mod cli;
