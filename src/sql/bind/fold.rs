//! Constant folding: what is computed from literals alone becomes a literal.
//!
//! What is NULL or cannot be computed stays as it is, so that its type is kept and its failure is
//! counted for each row. The operands of what is given have been folded already.

use super::super::functions::{Argument, Function, LikePattern, Moment, Nulls, Reads, cast};
use super::super::plan::{ArithmeticOp, CompareOp, Expr, ExprKind};
use crate::event::{Type, Value};

/// The longest literal that is made.
const LITERAL_BYTES_MAX: usize = 1024;

/// The same expression, as a literal when it can be one.
pub(super) fn fold(expr: Expr) -> Expr {
    let expr = match expr.kind {
        ExprKind::And(x, y) => return join(true, *x, *y),
        ExprKind::Or(x, y) => return join(false, *x, *y),
        kind => Expr { kind, ty: expr.ty },
    };
    let value = value_of(&expr.kind, expr.ty).filter(|value| {
        let short = value.memory_bytes() <= LITERAL_BYTES_MAX;
        short && !value.is_null() && expr.ty.admits(value)
    });
    match value {
        Some(value) => Expr {
            kind: ExprKind::Literal(value),
            ty: expr.ty,
        },
        None => expr,
    }
}

/// Whether a condition is one: not what every row fulfils.
pub(super) fn decides(condition: &Expr) -> bool {
    truth(condition) != Some(true)
}

/// AND and OR: an operand that decides nothing goes, one that decides all stays alone.
fn join(is_and: bool, x: Expr, y: Expr) -> Expr {
    match (truth(&x), truth(&y)) {
        (Some(x), _) if x == is_and => y,
        (Some(_), _) => x,
        (_, Some(y)) if y == is_and => x,
        // `x AND FALSE` computes x, which may fail and be counted.
        _ => Expr {
            kind: match is_and {
                true => ExprKind::And(x.into(), y.into()),
                false => ExprKind::Or(x.into(), y.into()),
            },
            ty: Type::Bool,
        },
    }
}

fn literal(expr: &Expr) -> Option<&Value> {
    match &expr.kind {
        ExprKind::Literal(value) => Some(value),
        _ => None,
    }
}

/// A literal other than NULL.
fn known(expr: &Expr) -> Option<&Value> {
    literal(expr).filter(|value| !value.is_null())
}

fn truth(expr: &Expr) -> Option<bool> {
    known(expr)?.as_bool()
}

fn value_of(kind: &ExprKind, ty: Type) -> Option<Value> {
    match kind {
        ExprKind::Negate(x) => match known(x)? {
            Value::Int(number) => number.checked_neg().map(Value::Int),
            number => Some(Value::finite(-number.as_float()?)),
        },
        ExprKind::Not(x) => Some(Value::Bool(!truth(x)?)),
        ExprKind::Arithmetic(op, x, y) => arithmetic(*op, known(x)?, known(y)?),
        ExprKind::Compare(op, x, y) => {
            let order = known(x)?.order(known(y)?);
            Some(Value::Bool(match op {
                CompareOp::Equal => order.is_eq(),
                CompareOp::NotEqual => order.is_ne(),
                CompareOp::Less => order.is_lt(),
                CompareOp::LessOrEqual => order.is_le(),
                CompareOp::Greater => order.is_gt(),
                CompareOp::GreaterOrEqual => order.is_ge(),
            }))
        }
        ExprKind::Between(x, low, high) => {
            let (x, low, high) = (known(x)?, known(low)?, known(high)?);
            Some(Value::Bool(x.order(low).is_ge() && x.order(high).is_le()))
        }
        ExprKind::IsNull(x) => Some(Value::Bool(literal(x)?.is_null())),
        ExprKind::IsTruth(wanted, x) => Some(Value::Bool(literal(x)?.as_bool() == Some(*wanted))),
        ExprKind::SameAs(x, y) => Some(Value::Bool(literal(x)? == literal(y)?)),
        ExprKind::InList(x, list) => {
            let x = known(x)?;
            let list: Vec<&Value> = list.iter().map(known).collect::<Option<_>>()?;
            Some(Value::Bool(list.contains(&x)))
        }
        ExprKind::Like {
            text,
            pattern,
            escape,
            ignore_case,
        } => {
            let pattern = LikePattern::new(known(pattern)?.as_str()?, *escape, *ignore_case);
            Some(Value::Bool(pattern.matches(known(text)?.as_str()?)))
        }
        ExprKind::Cast(x) => cast(known(x)?, x.ty, ty),
        ExprKind::Call(function, arguments) => call(function, arguments),
        ExprKind::Column(_)
        | ExprKind::Literal(_)
        | ExprKind::Aggregate(_)
        | ExprKind::And(..)
        | ExprKind::Or(..)
        | ExprKind::InTable(..)
        | ExprKind::Case { .. }
        | ExprKind::Switch { .. } => None,
    }
}

fn arithmetic(op: ArithmeticOp, x: &Value, y: &Value) -> Option<Value> {
    if let (Value::Int(x), Value::Int(y)) = (x, y) {
        let result = match op {
            ArithmeticOp::Add => x.checked_add(*y),
            ArithmeticOp::Subtract => x.checked_sub(*y),
            ArithmeticOp::Multiply => x.checked_mul(*y),
            ArithmeticOp::Divide => x.checked_div(*y),
            ArithmeticOp::Remainder if *y == -1 => Some(0),
            ArithmeticOp::Remainder => x.checked_rem(*y),
        };
        return result.map(Value::Int);
    }
    let (x, y) = (x.as_float()?, y.as_float()?);
    Some(Value::finite(match op {
        ArithmeticOp::Add => x + y,
        ArithmeticOp::Subtract => x - y,
        ArithmeticOp::Multiply => x * y,
        ArithmeticOp::Divide => x / y,
        ArithmeticOp::Remainder => x % y,
    }))
}

fn call(function: &Function, arguments: &[Expr]) -> Option<Value> {
    if function.reads != Reads::Arguments {
        return None;
    }
    let values = arguments.iter().map(|argument| literal(argument).cloned());
    let values: Vec<Value> = values.collect::<Option<_>>()?;
    if function.nulls == Nulls::Propagate && values.iter().any(Value::is_null) {
        return None;
    }
    let moment = Moment::default();
    match function.prepare {
        None => (function.eval)(&moment, &values),
        Some(prepare) => {
            let given: Vec<Argument<'_>> = arguments.iter().map(Argument::of).collect();
            prepare(&given).ok()?(&moment, &values)
        }
    }
}
