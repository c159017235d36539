//! Lines for people: `2026-11-21 02:00:00.123  Alerts  device=press-3  temp=81.2`, in UTC, the
//! fields aligned with those of the lines before.

use std::sync::{Mutex, PoisonError};

use super::Message;
use crate::event::{Timestamp, Type, Value, to_base64};

/// The widest that a field is padded to.
const WIDTH_MAX: usize = 32;

/// An encoder of such lines.
#[derive(Debug, Default)]
pub struct Encoder {
    /// The widths of the fields in the lines before, by place.
    widths: Mutex<Vec<usize>>,
}

impl Encoder {
    /// Appends a line without its end.
    pub(super) fn encode(&self, message: &Message<'_>, into: &mut Vec<u8>) {
        let mut line = format!("{}  {}", time(message.time), message.stream);
        let mut widths = self.widths.lock().unwrap_or_else(PoisonError::into_inner);
        widths.resize(message.schema.width(), 0);
        let fields = message.schema.fields().iter().zip(message.row);
        let mut gap = 0;
        for ((field, value), width) in fields.zip(widths.iter_mut()) {
            let text = format!("{}={}", field.name, readable(field.ty, value));
            line.extend(std::iter::repeat_n(' ', gap + 2));
            line.push_str(&text);
            let taken = text.chars().count();
            *width = (*width).max(taken.min(WIDTH_MAX));
            gap = width.saturating_sub(taken);
        }
        into.extend_from_slice(line.as_bytes());
    }
}

/// To the millisecond, in UTC.
fn time(time: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(time.0) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => time.to_string(),
    }
}

/// Text bare when it cannot be mistaken, otherwise quoted with escapes, so that a line stays one.
fn readable(ty: Type, value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bytes(bytes) => to_base64(bytes),
        Value::Str(text) if ty == Type::Json => text.to_string(),
        Value::Str(text) => {
            let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=';
            if !text.is_empty() && text.chars().all(is_plain) {
                text.to_string()
            } else {
                format!("{:?}", text.as_str())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;
    use crate::event::{Field, Schema};

    #[test]
    fn lines_are_aligned() {
        let field = |name: &str, ty| Field {
            name: name.to_owned(),
            ty,
        };
        let schema = Schema::new(vec![
            field("device", Type::String),
            field("temp", Type::Double),
        ]);
        let encoder = Encoder::default();
        let line_of = |device: &str, temp: f64| {
            let row = [Value::text(device), Value::Float(temp)];
            let mut line = Vec::new();
            message(|message| {
                let message = Message {
                    time: Timestamp(1_795_226_400_123),
                    schema: &schema,
                    row: &row,
                    ..*message
                };
                encoder.encode(&message, &mut line);
            });
            String::from_utf8(line).unwrap()
        };
        assert_eq!(
            line_of("press-10", 81.2),
            "2026-11-21 02:00:00.123  Alerts  device=press-10  temp=81.2"
        );
        assert_eq!(
            line_of("a b", 5.0),
            "2026-11-21 02:00:00.123  Alerts  device=\"a b\"     temp=5"
        );
    }
}
