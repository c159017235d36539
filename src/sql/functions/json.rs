//! Functions over JSON. JSON `null`, and what is not there, is NULL.

use std::borrow::Cow;

use super::{Argument, Function, Nulls, PLAIN, Parameter, Prepared, Returns, Signature, in_json};
use crate::event::json::{self, Step};
use crate::event::{Type, Value};

const AT_PATH: Signature = Signature {
    parameters: &[Parameter::Json, Parameter::Text],
    optional: 0,
    repeats: 0,
    result: Returns::Fixed(Type::Json),
};

const STEPS: Signature = Signature {
    parameters: &[Parameter::Json, Parameter::Step],
    repeats: 1,
    ..AT_PATH
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        names: &["json_get"],
        signature: STEPS,
        eval: |_, arguments| Some(found(get(arguments)?)),
        doc: "json_get(j, step, …): the member of this name or the element of this number, from \
              0; also `j -> step`, `j['a']`, `j[0]`",
        example: (
            "json_get('{\"a\": [5, 6]}', 'a', 1) = CAST('6' AS JSON)",
            "true",
        ),
        ..PLAIN
    },
    Function {
        names: &["json_get_text"],
        signature: Signature {
            result: Returns::Fixed(Type::String),
            ..STEPS
        },
        eval: |_, arguments| {
            let text = get(arguments)?.map(json::text_of);
            Some(text.map_or(Value::Null, Value::Str))
        },
        doc: "json_get_text(j, step, …): the same as text, a string without its quotes; also \
              `j ->> step`",
        example: ("json_get_text('{\"a\": \"x\"}', 'a')", "'x'"),
        ..PLAIN
    },
    Function {
        names: &["json_value"],
        signature: Signature {
            result: Returns::Fixed(Type::String),
            ..AT_PATH
        },
        prepare: Some(|arguments| {
            at_path(arguments, |json| match json {
                Some(json) if !json.starts_with(['{', '[']) => Value::Str(json::text_of(json)),
                Some(_) | None => Value::Null,
            })
        }),
        doc: "json_value(j, path): the string, number or truth value at a path, as text; NULL \
              for an object or an array",
        example: ("json_value('{\"v\": {\"t\": 21.5}}', '$.v.t')", "'21.5'"),
        ..PLAIN
    },
    Function {
        names: &["json_query"],
        signature: AT_PATH,
        prepare: Some(|arguments| at_path(arguments, found)),
        doc: "json_query(j, path): what is at a path such as $.a.b[0]['a name']",
        example: (
            "CAST(json_query('{\"v\": [1, 2]}', '$.v') AS STRING)",
            "'[1,2]'",
        ),
        ..PLAIN
    },
    Function {
        names: &["json_length"],
        signature: Signature {
            optional: 1,
            result: Returns::Fixed(Type::Int),
            ..AT_PATH
        },
        prepare: Some(|arguments| {
            at_path(arguments, |json| {
                let length = json.map(json::length).map(i64::try_from);
                length.map_or(Value::Null, |length| length.map_or(Value::Null, Value::Int))
            })
        }),
        doc: "json_length(j [, path]): how many elements or members; 1 for anything else",
        example: ("json_length('[1, 2, 3]')", "3"),
        ..PLAIN
    },
    Function {
        names: &["json_object"],
        signature: Signature {
            parameters: &[Parameter::Text, Parameter::Any],
            optional: 2,
            repeats: 2,
            result: Returns::Fixed(Type::Json),
        },
        nulls: Nulls::Handled,
        prepare: Some(|arguments| {
            let types = types(arguments);
            Ok(Box::new(move |_, values| {
                let pairs = values.chunks_exact(2).zip(types.chunks_exact(2));
                let members = pairs.map(|pair| match pair {
                    ([name, value], [_, ty]) => Some((name.as_str()?, in_json(value, *ty)?)),
                    _ => None,
                });
                let members: Vec<_> = members.collect::<Option<_>>()?;
                Some(Value::Str(json::object(members.into_iter())))
            }))
        }),
        doc: "json_object(name, value, …): an object; a NULL value is null",
        example: (
            "CAST(json_object('t', 21.5, 'ok', TRUE) AS STRING)",
            "'{\"ok\":true,\"t\":21.5}'",
        ),
        ..PLAIN
    },
    Function {
        names: &["json_array"],
        signature: Signature {
            parameters: &[Parameter::Any],
            optional: 1,
            repeats: 1,
            result: Returns::Fixed(Type::Json),
        },
        nulls: Nulls::Handled,
        prepare: Some(|arguments| {
            let types = types(arguments);
            Ok(Box::new(move |_, values| {
                let items = values.iter().zip(&types);
                let items = items.map(|(value, ty)| in_json(value, *ty));
                let items: Vec<_> = items.collect::<Option<_>>()?;
                Some(Value::from(format!("[{}]", items.join(","))))
            }))
        }),
        doc: "json_array(value, …): an array; NULL is null",
        example: (
            "CAST(json_array(1, 'a', NULL) AS STRING)",
            "'[1,\"a\",null]'",
        ),
        ..PLAIN
    },
];

fn types(arguments: &[Argument<'_>]) -> Vec<Type> {
    arguments.iter().map(|argument| argument.ty).collect()
}

fn found(json: Option<&str>) -> Value {
    json.map_or(Value::Null, Value::text)
}

/// Step by step; the outer `None` is what no value has.
fn get(arguments: &[Value]) -> Option<Option<&str>> {
    let (json, steps) = arguments.split_first()?;
    let mut here = Some(json.as_str()?);
    for step in steps {
        here = here.and_then(|json| match step {
            Value::Int(index) => json::element(json, *index),
            step => json::member(json, step.as_str()?),
        });
    }
    Some(here.filter(|json| *json != "null"))
}

/// A path that is constant is read once.
fn at_path(arguments: &[Argument<'_>], of: fn(Option<&str>) -> Value) -> Result<Prepared, String> {
    let constant = match arguments.get(1) {
        None => Some(Vec::new()),
        Some(argument) => {
            let path = argument.constant.and_then(Value::as_str);
            path.map(json::parse_path).transpose()?
        }
    };
    Ok(Box::new(move |_, values| {
        let steps: Cow<'_, [Step]> = match &constant {
            Some(steps) => Cow::Borrowed(steps),
            None => Cow::Owned(json::parse_path(values.get(1)?.as_str()?).ok()?),
        };
        Some(of(json::find(values.first()?.as_str()?, &steps)))
    }))
}
