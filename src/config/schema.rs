//! What a configuration may hold as JSON Schema (draft 2020-12), made from the declarations.
//!
//! Editors complete and check with it while somebody writes. It says of one table what can be said
//! without the SQL: every option of every connector is allowed for every stream, and none is
//! required, as it may stand in SQL. `check` knows the rest.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::keys::{SECTIONS, of_section};
use super::options::{OptionKind, OptionSpec};
use super::sql_texts;
use super::value::{self, WrittenValue};

/// The schema of the TOML, with these options for streams, and those of the connection for
/// `[control]`.
#[must_use]
pub fn schema(tables: &[&[OptionSpec]], control: &[OptionSpec]) -> Value {
    let mut by_name: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for spec in tables.iter().copied().flatten() {
        let known = by_name.entry(spec.name).or_default();
        let schema = option(spec);
        if !known.contains(&schema) {
            known.push(schema);
        }
    }
    let names: Vec<&str> = by_name.keys().copied().collect();
    let leaves = names.iter().map(|name| (*name, *name));
    let options = node(&leaves.collect::<Vec<_>>());
    for spec in control {
        by_name
            .entry(spec.name)
            .or_insert_with(|| vec![option(spec)]);
    }
    let leaves = control.iter().map(|spec| (spec.name, spec.name));
    let of_control = node(&leaves.collect::<Vec<_>>());
    let mut properties = Map::new();
    for (section, doc) in SECTIONS {
        let mut table = match *section {
            "application" => options.clone(),
            "control" => of_control.clone(),
            _ => node(&[]),
        };
        for (name, key) in of_section(section) {
            put(&mut table, "properties", name, key_schema(key));
        }
        set(&mut table, "description", (*doc).into());
        properties.insert((*section).to_owned(), table);
    }
    properties.insert(
        "streams".to_owned(),
        json!({
            "type": "object",
            "description": "Options of streams, by the stream's name.",
            "additionalProperties": {"$ref": "#/$defs/stream"},
        }),
    );
    let mut definitions = Map::new();
    definitions.insert("stream".to_owned(), options);
    for (name, schemas) in by_name {
        definitions.insert(name.to_owned(), one_of_several(schemas));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "EventFlux configuration",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": definitions,
    })
}

/// The table in which options have these names: what is left of the name, and the name.
///
/// A dotted name is a table in a table, or one name in quotes, or something between.
fn node(options: &[(&str, &str)]) -> Value {
    let mut table = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let mut below: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for (rest, name) in options {
        let leaf = json!({"$ref": format!("#/$defs/{name}")});
        if *rest == "*" {
            set(&mut table, "additionalProperties", leaf.clone());
        } else if let Some(family) = rest.strip_suffix(".*") {
            let pattern = format!("^{}\\..", family.replace('.', "\\."));
            put(&mut table, "patternProperties", &pattern, leaf.clone());
        } else {
            put(&mut table, "properties", rest, leaf.clone());
        }
        for (at, _) in rest.match_indices('.') {
            let (head, tail) = (rest.get(..at), rest.get(at + 1..));
            if let (Some(head), Some(tail)) = (head, tail) {
                below.entry(head).or_default().push((tail, name));
            }
        }
    }
    for (head, options) in below {
        let mut inner = node(&options);
        // A name can be an option's and begin others': then it is one or the other here.
        if let Some(leaf) = property(&table, head) {
            inner = json!({"anyOf": [leaf, inner]});
        }
        put(&mut table, "properties", head, inner);
    }
    table
}

fn property(table: &Value, name: &str) -> Option<Value> {
    Some(table.get("properties")?.get(name)?.clone())
}

fn put(table: &mut Value, field: &str, name: &str, schema: Value) {
    if let Some(object) = table.as_object_mut() {
        let inner = object.entry(field).or_insert_with(|| json!({}));
        set(inner, name, schema);
    }
}

fn set(table: &mut Value, name: &str, value: Value) {
    if let Some(object) = table.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

/// Connectors may mean different things by one name.
fn one_of_several(mut schemas: Vec<Value>) -> Value {
    match schemas.len() {
        1 => schemas.remove(0),
        _ => json!({"anyOf": schemas}),
    }
}

fn key_schema(key: &OptionSpec) -> Value {
    if key.name != sql_texts::KEY {
        return option(key);
    }
    json!({
        "description": key.doc,
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    })
}

/// What one option may hold.
fn option(spec: &OptionSpec) -> Value {
    let mut schema = form(spec);
    let needed = if spec.required { " (required)" } else { "" };
    set(
        &mut schema,
        "description",
        format!("{}{needed}", spec.doc).into(),
    );
    if let Some(default) = spec.default {
        let written = WrittenValue::Text(default.to_owned());
        let default = match (spec.kind, default.parse::<i64>(), default.parse::<bool>()) {
            (OptionKind::Integer { .. }, Ok(number), _) => number.into(),
            (OptionKind::Flag, _, Ok(flag)) => flag.into(),
            _ => Value::from(default),
        };
        debug_assert!(value::check(spec, &written).is_ok(), "{}", spec.name);
        set(&mut schema, "default", default);
    }
    if spec.secret {
        set(&mut schema, "writeOnly", true.into());
    }
    schema
}

/// A reference, which nobody can check before it is known what it stands for.
const REFERENCE: &str = "\\$\\{";

fn form(spec: &OptionSpec) -> Value {
    let or_text = |schema: Value, text: &str| {
        let text = json!({"type": "string", "pattern": format!("{text}|{REFERENCE}")});
        json!({"anyOf": [schema, text]})
    };
    let number = |kind: &str, (min, max): (i64, i64)| {
        let mut schema = json!({"type": kind});
        for (name, bound, open) in [("minimum", min, i64::MIN), ("maximum", max, i64::MAX)] {
            if bound != open {
                set(&mut schema, name, bound.into());
            }
        }
        schema
    };
    let bounds = spec.range.unwrap_or((0, i64::MAX));
    match spec.kind {
        OptionKind::Text => json!({"type": "string", "minLength": 1}),
        OptionKind::Integer { min, max } => {
            or_text(number("integer", (min, max)), "^\\s*[-+]?[0-9]+\\s*$")
        }
        OptionKind::Number { min, max } => {
            or_text(number("number", (min, max)), "^\\s*[-+]?[0-9.eE+-]+\\s*$")
        }
        OptionKind::Duration => or_text(number("integer", bounds), "^\\s*[0-9]+\\s*([A-Za-z]|$)"),
        OptionKind::Bytes => or_text(
            number("integer", bounds),
            "^\\s*[0-9]+\\s*[A-Za-z]{0,3}\\s*$",
        ),
        OptionKind::Flag => or_text(json!({"type": "boolean"}), "^\\s*(true|false)\\s*$"),
        OptionKind::Choice(words) => json!({
            "anyOf": [{"enum": words}, {"type": "string", "pattern": REFERENCE}],
        }),
        OptionKind::List => {
            let text = json!({"type": "string", "minLength": 1});
            json!({"anyOf": [text, {"type": "array", "items": text, "minItems": 1}]})
        }
    }
}
