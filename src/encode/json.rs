//! Rows as JSON objects, a field for each column.

use super::Message;
use crate::config::options::{OptionFault, OptionSpec, Options};
use crate::event::{Schema, render_json};

/// What can be set.
pub(super) const OPTIONS: &[OptionSpec] = &[];

/// A JSON encoder for one stream.
#[derive(Debug)]
pub struct Encoder;

impl Encoder {
    /// An encoder of rows.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub(super) fn new(_options: &Options, _schema: &Schema) -> Result<Encoder, OptionFault> {
        Ok(Encoder)
    }

    /// Appends one object.
    #[expect(clippy::unused_self, reason = "as all encoders")]
    pub(super) fn encode(&self, message: &Message<'_>, into: &mut Vec<u8>) {
        render_json(message.schema, message.row, into);
    }

    /// Appends an array of objects.
    pub(super) fn encode_all(&self, messages: &[Message<'_>], into: &mut Vec<u8>) {
        into.push(b'[');
        for (index, message) in messages.iter().enumerate() {
            if index > 0 {
                into.push(b',');
            }
            self.encode(message, into);
        }
        into.push(b']');
    }
}
