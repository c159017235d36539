//! Any template and any values: a template that is taken makes JSON, of every value, on one line.
#![no_main]

use eventflux::config::options::{Layer, OptionValue, Options};
use eventflux::encode::{Encoder, Message};
use eventflux::event::{Field, Schema, Timestamp, Type, Value, json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, f64, &str)| {
    let (template, text, number, document) = input;
    let field = |name: &str, ty| Field { name: name.to_owned(), ty };
    let schema = Schema::new(vec![
        field("s", Type::String),
        field("d", Type::Double),
        field("j", Type::Json),
    ]);
    let mut options = Options::default();
    options.set("json.template", OptionValue::Text(template.to_owned()), Layer::Default);
    let Ok(encoder) = Encoder::new("json", &options, &schema) else { return };
    let document = json::canonical(document).ok().flatten();
    let row = [
        Value::text(text),
        Value::finite(number),
        document.map_or(Value::Null, |text| Value::text(&text)),
    ];
    let message = Message {
        stream: "S",
        id: "1",
        time: Timestamp(1),
        made: Timestamp(2),
        age_ms: 3,
        historical: false,
        schema: &schema,
        row: &row,
    };
    let mut out = Vec::new();
    encoder.encode(&message, &mut out);
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&out).is_ok());
    assert!(!out.contains(&b'\n'));
});
