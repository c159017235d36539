//! Functions that deal with NULL, and the conditional ones.

use super::{Function, Nulls, PLAIN, Parameter, Returns, Signature};
use crate::event::Value;

const TWO: Signature = Signature {
    parameters: &[Parameter::Same, Parameter::Same],
    optional: 0,
    repeats: 0,
    result: Returns::Same,
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        names: &["coalesce"],
        signature: Signature {
            parameters: &[Parameter::Same],
            repeats: 1,
            ..TWO
        },
        nulls: Nulls::Handled,
        eval: |_, arguments| {
            Some(
                arguments
                    .iter()
                    .find(|value| !value.is_null())
                    .cloned()
                    .unwrap_or_default(),
            )
        },
        doc: "coalesce(x, y, …): the first that is not NULL",
        example: ("coalesce(NULL, 2, 3)", "2"),
        ..PLAIN
    },
    Function {
        names: &["ifnull", "nvl"],
        signature: TWO,
        nulls: Nulls::Handled,
        eval: |_, arguments| {
            let first = arguments.first()?;
            Some(if first.is_null() {
                arguments.get(1)?.clone()
            } else {
                first.clone()
            })
        },
        doc: "ifnull(x, y): x, or y when x is NULL",
        example: ("ifnull(NULL, 5)", "5"),
        ..PLAIN
    },
    Function {
        names: &["nullif"],
        signature: TWO,
        nulls: Nulls::Handled,
        eval: |_, arguments| {
            let (x, y) = (arguments.first()?, arguments.get(1)?);
            let equal = !x.is_null() && !y.is_null() && x.order(y).is_eq();
            Some(if equal { Value::Null } else { x.clone() })
        },
        doc: "nullif(x, y): NULL when x = y, else x",
        example: ("nullif(3, 3)", "NULL"),
        ..PLAIN
    },
    Function {
        names: &["if", "ifThenElse"],
        signature: Signature {
            parameters: &[Parameter::Bool, Parameter::Same, Parameter::Same],
            ..TWO
        },
        nulls: Nulls::Handled,
        eval: |_, arguments| {
            let index = if arguments.first()?.as_bool() == Some(true) {
                1
            } else {
                2
            };
            arguments.get(index).cloned()
        },
        doc: "if(condition, x, y): x when the condition is true, else y",
        example: ("if(1 < 2, 'yes', 'no')", "'yes'"),
        ..PLAIN
    },
];
