//! A stream with a connector, as far as the connector needs to know it.

use super::options::{OptionFault, Options};
use crate::event::{Schema, Type};

/// A stream that is read from outside or written to it.
#[derive(Clone, Copy, Debug)]
pub struct Definition<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// The connector, such as `mqtt`.
    pub extension: &'a str,
    /// The format, such as `json`.
    pub format: &'a str,
    /// What is set, for the connector, the format, and sources or sinks in general.
    pub options: &'a Options,
    /// Its columns.
    pub schema: &'a Schema,
    /// What names a session of it, unique among those of all gateways and streams.
    pub client_id: &'a str,
}

impl Definition<'_> {
    /// The column that `option` names, if it is set: one of a type in `types`, to be filled by the
    /// connector.
    ///
    /// # Errors
    /// There is no such column, or it is of another type.
    pub fn column(&self, option: &str, types: &[Type]) -> Result<Option<usize>, OptionFault> {
        let Some(name) = self.options.text(option) else {
            return Ok(None);
        };
        let fault = |problem| Err(OptionFault::new(option, problem));
        let Some(index) = self.schema.index_of(name) else {
            return fault(format!("the stream has no column `{name}`"));
        };
        match self.schema.fields().get(index) {
            Some(field) if types.contains(&field.ty) => Ok(Some(index)),
            Some(_) | None => {
                let types: Vec<String> = types.iter().map(Type::to_string).collect();
                fault(format!("column `{name}` is not a {}", types.join(" or ")))
            }
        }
    }
}

/// A client id that is the same after every start and different for every stream of every
/// gateway: brokers throw the older of two clients with one id out.
#[must_use]
pub fn default_client_id(gateway: &str, application: &str, stream: &str) -> String {
    let mut id = String::from("eventflux");
    for part in [gateway, application, stream] {
        id.push('-');
        id.extend(part.chars().map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' => c,
            _ => '_',
        }));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_plain() {
        assert_eq!(
            default_client_id("pi 4", "line/1", "Readings"),
            "eventflux-pi_4-line_1-Readings"
        );
    }
}
