//! The arguments of a request, taken strictly: what is missing, of another form or beyond its
//! bounds is refused with the argument's name. What is not known is ignored, so that the contract
//! can grow.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::control::{Code, Fault};

/// The arguments of a request.
pub(super) struct Args<'a>(Option<&'a serde_json::Map<String, Value>>);

impl<'a> Args<'a> {
    /// Those in `value`; `null` is as good as none.
    pub(super) fn of(value: &'a Value) -> Result<Args<'a>, Fault> {
        match value {
            Value::Null => Ok(Args(None)),
            Value::Object(object) => Ok(Args(Some(object))),
            _ => Err(fault("'args' is not an object")),
        }
    }

    /// What was given by this name; `null` is as good as nothing.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        let object = self.0?;
        object.get(name).filter(|value| !value.is_null())
    }

    /// A text, if there is one.
    pub(super) fn text_if(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        let text = |value: &'a Value| value.as_str().ok_or_else(|| form(name, "a text"));
        self.get(name).map(text).transpose()
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, Fault> {
        self.text_if(name)?.ok_or_else(|| missing(name))
    }

    /// A whole number within bounds, if there is one.
    pub(super) fn number_if(
        &self,
        name: &str,
        bounds: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Fault> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_u64().filter(|number| bounds.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(form(
                name,
                &format!("a whole number from {} to {}", bounds.start(), bounds.end()),
            )),
        }
    }

    /// A list.
    pub(super) fn list(&self, name: &str) -> Result<&'a [Value], Fault> {
        let value = self.get(name).ok_or_else(|| missing(name))?;
        let list = value.as_array().ok_or_else(|| form(name, "a list"))?;
        Ok(list)
    }
}

/// A refusal of the arguments.
pub(super) fn fault(message: impl Into<String>) -> Fault {
    Fault::new(Code::Args, message)
}

fn missing(name: &str) -> Fault {
    fault(format!("'{name}' is missing"))
}

fn form(name: &str, what: &str) -> Fault {
    fault(format!("'{name}' must be {what}"))
}
