//! Bytes from outside become rows: what every source hands to the pipeline, and what it gets back.
//!
//! A source runs on the tokio side, decodes what it receives (so that the other core does that
//! work) and offers [`Arrival`]s to the pipeline through a bounded channel. It acknowledges its
//! far side only up to what [`Released`] says, which is what the log has made durable.

use crate::event::{Batch, DeliveryMark, Rejected};

/// Some messages of one source, decoded, in the order in which they were received.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// Which source, by its place among the daemon's sources.
    pub source: usize,
    /// The rows, not yet stamped.
    pub rows: Batch,
    /// What could not be decoded.
    pub rejected: Vec<Rejected>,
    /// One mark per message that the far side may deliver again.
    pub marks: Vec<DeliveryMark>,
    /// The ordinal of the last message in this arrival: counted from 1 since the source started,
    /// and what [`Released`] later speaks about.
    pub through: u64,
}

/// How far the pipeline has made a source's messages durable: the highest `through`.
///
/// The pipeline holds the sender; a source awaits changes and acknowledges in receive order.
pub type Released = tokio::sync::watch::Receiver<u64>;
