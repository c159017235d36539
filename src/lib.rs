//! EventFlux: streaming SQL over sensor events on a gateway, without losing one.
//!
//! The modules stand in the order in which data travels.

pub mod event;

pub mod config;
pub mod diagnostic;
pub mod pace;

pub mod mqtt;

pub mod source;

pub mod decode;

pub mod sink;

#[cfg(feature = "broker")]
pub mod demo;
