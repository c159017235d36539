//! A text as a layout, and bytes in it: the text is refused with a reason, or the bytes become
//! whole rows or a reject that leaves nothing behind.
#![no_main]

use eventflux::config::options::{Layer, OptionValue, Options};
use eventflux::decode::Decoder;
use eventflux::event::{Batch, Field, Schema, Type};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (layout, payload) = input;
    let types = [Type::Bool, Type::Int, Type::Long, Type::Double, Type::String, Type::Bytes];
    let fields = ["a", "b", "c", "d", "e", "f"].iter().zip(types);
    let fields = fields.map(|(name, ty)| Field { name: (*name).to_owned(), ty });
    let schema = Schema::new(fields.collect());
    // Columns that the text does not name are the connector's.
    let columns = schema.fields().iter().enumerate();
    let taken = columns.filter(|(_, field)| !layout.contains(&field.name));
    let taken: Vec<usize> = taken.map(|(index, _)| index).collect();
    let mut options = Options::default();
    options.set("binary.layout", OptionValue::Text(layout.to_owned()), Layer::Sql);
    let Ok(mut decoder) = Decoder::new("binary", &options, &schema, &taken) else { return };
    let mut rows = Batch::new(schema.width());
    if decoder.decode(payload, &mut rows).is_err() {
        assert!(rows.is_empty());
    }
    for row in rows.rows().iter() {
        assert!(schema.fields().iter().zip(row.values).all(|(field, value)| field.ty.admits(value)));
    }
});
