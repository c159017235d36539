//! Any payload: whole rows, or a reject that leaves nothing behind.
#![no_main]

use eventflux::config::options::Options;
use eventflux::decode::Decoder;
use eventflux::event::{Batch, Field, Schema, Type};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let types = [
        Type::Bool,
        Type::Int,
        Type::Long,
        Type::Float,
        Type::Double,
        Type::String,
        Type::Bytes,
        Type::Json,
    ];
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let fields = names.iter().zip(types).map(|(name, ty)| Field { name: (*name).to_owned(), ty });
    let schema = Schema::new(fields.collect());
    let mut decoder = Decoder::new("json", &Options::default(), &schema, &[]).unwrap();
    let mut rows = Batch::new(schema.width());
    if decoder.decode(payload, &mut rows).is_err() {
        assert!(rows.is_empty());
    }
    for row in rows.rows().iter() {
        assert!(schema.fields().iter().zip(row.values).all(|(field, value)| field.ty.admits(value)));
    }
});
