//! Rows leave: what the pipeline hands to a sink, and what a sink gives back.
//!
//! A sink gets its outputs in order through a bounded channel, delivers them in order, and
//! confirms a key only when the far side has confirmed it. It may confirm late, never early. What
//! a sink holds in memory when the process dies is in the outbox still.

use crate::event::{OutputKey, Timestamp, Value};

/// One output on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its identity, and the order of delivery.
    pub key: OutputKey,
    /// The identity for the far side: the same for every attempt, different for every output of
    /// every store. `<store id in hex>-<seq>-<query>-<ordinal>`.
    pub id: String,
    /// When it arose, on the log's clock.
    pub time: Timestamp,
    /// One value per column of the sink's stream.
    pub row: Vec<Value>,
}

/// A sink's word that everything up to and including `key` has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// Which sink, by its place among the daemon's sinks.
    pub sink: usize,
    /// The last key that the far side has confirmed.
    pub key: OutputKey,
}
