//! What the log keeps about an input besides its rows.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// What identifies one message to its broker, kept in the log so that a redelivery is recognised
/// after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DeliveryMark {
    /// The broker's packet identifier.
    pub packet: u16,
    /// A digest of topic and payload.
    pub digest: u64,
}

/// Input that could not be made into a row; it is kept in the log all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// A short, stable word that is counted: `malformed`, `wrong_type`, `missing_field`,
    /// `out_of_range`, `invalid_utf8`, `too_large`, `empty`.
    pub reason: String,
    /// The sentence for the log.
    pub detail: String,
    /// The bytes, up to the source's limit.
    #[serde(with = "serde_bytes_vec")]
    pub bytes: Vec<u8>,
    /// How many bytes there were.
    pub bytes_total: u64,
}

mod serde_bytes_vec {
    //! Bytes as a CBOR byte string and not as an array of numbers.

    use serde::{Deserializer, Serializer, de::Visitor};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Vec<u8>;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a byte string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        from.deserialize_bytes(Bytes)
    }
}

/// What is known of the wall clock at some place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// The boot of the machine, as the kernel names it; empty when it does not.
    pub boot: String,
    /// Whether the log's clock can be taken for the true time, to within minutes: then what lies
    /// far ahead of it is wrong.
    pub trusted: bool,
    /// What the wall clock said.
    pub wall: Timestamp,
}
