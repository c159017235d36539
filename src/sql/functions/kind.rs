//! Functions about types.

use super::{Argument, Function, Nulls, PLAIN, Parameter, Prepared, Returns, Signature, cast};
use crate::event::{Type, Value};
use crate::sql::types::{castable, type_list, type_named};

/// Whether a value has a type: known beforehand, but for what lies in JSON.
macro_rules! instance_of {
    ($name:expr, $ty:expr, $doc:expr, $example:expr) => {
        Function {
            names: &[$name],
            signature: Signature {
                parameters: &[Parameter::Any],
                optional: 0,
                repeats: 0,
                result: Returns::Fixed(Type::Bool),
            },
            nulls: Nulls::Handled,
            prepare: Some(|arguments| Ok(instance_of(arguments, $ty))),
            doc: $doc,
            example: $example,
            ..PLAIN
        }
    };
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        names: &["convert"],
        signature: Signature {
            parameters: &[Parameter::Any, Parameter::Text],
            optional: 0,
            repeats: 0,
            result: Returns::Named,
        },
        prepare: Some(convert),
        doc: "convert(x, type): CAST(x AS type), the type given by its name",
        example: ("convert('12', 'int')", "12"),
        ..PLAIN
    },
    instance_of!(
        "instanceOfString",
        Type::String,
        "instanceOfString(x): whether x is a STRING, or a string in JSON; false for NULL",
        ("instanceOfString('a')", "true")
    ),
    instance_of!(
        "instanceOfInteger",
        Type::Int,
        "instanceOfInteger(x): whether x is an INT",
        ("instanceOfInteger(5000000000)", "false")
    ),
    instance_of!(
        "instanceOfLong",
        Type::Long,
        "instanceOfLong(x): whether x is a BIGINT",
        ("instanceOfLong(5000000000)", "true")
    ),
    instance_of!(
        "instanceOfFloat",
        Type::Float,
        "instanceOfFloat(x): whether x is a FLOAT",
        ("instanceOfFloat(CAST(1.5 AS FLOAT))", "true")
    ),
    instance_of!(
        "instanceOfDouble",
        Type::Double,
        "instanceOfDouble(x): whether x is a DOUBLE",
        ("instanceOfDouble(1.5)", "true")
    ),
    instance_of!(
        "instanceOfBoolean",
        Type::Bool,
        "instanceOfBoolean(x): whether x is a BOOLEAN",
        ("instanceOfBoolean(1 < 2)", "true")
    ),
];

fn instance_of(arguments: &[Argument<'_>], wanted: Type) -> Prepared {
    let ty = arguments.first().map(|argument| argument.ty);
    Box::new(move |_, values| {
        let value = values.first()?;
        let found = match value {
            Value::Null => return Some(Value::Bool(false)),
            Value::Str(json) if ty == Some(Type::Json) => type_in_json(json),
            _ => ty,
        };
        Some(Value::Bool(found == Some(wanted)))
    })
}

/// The type of a literal written like this.
fn type_in_json(json: &str) -> Option<Type> {
    match json.as_bytes().first()? {
        b'"' => Some(Type::String),
        b't' | b'f' => Some(Type::Bool),
        b'{' | b'[' => None,
        _ if json.parse::<i32>().is_ok() => Some(Type::Int),
        _ if json.parse::<i64>().is_ok() => Some(Type::Long),
        _ => Some(Type::Double),
    }
}

fn convert(arguments: &[Argument<'_>]) -> Result<Prepared, String> {
    let [x, name] = arguments else {
        return Err("takes a value and the name of a type".to_owned());
    };
    let name = name.constant.and_then(Value::as_str);
    let to = name.and_then(type_named).ok_or_else(|| {
        let found = name.unwrap_or("no constant");
        format!("'{found}' is not a type; known are {}", type_list())
    })?;
    let from = x.ty;
    if !castable(from, to) && x.constant != Some(&Value::Null) {
        return Err(format!("cannot convert {from} to {to}"));
    }
    Ok(Box::new(move |_, values| cast(values.first()?, from, to)))
}
