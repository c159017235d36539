//! Functions over numbers.

use super::{Function, Nulls, PLAIN, Parameter, Returns, Signature};
use crate::event::{Type, Value};

const fn takes(parameters: &'static [Parameter], result: Returns) -> Signature {
    Signature {
        parameters,
        optional: 0,
        repeats: 0,
        result,
    }
}

const DOUBLE: Signature = takes(&[Parameter::Double], Returns::Fixed(Type::Double));
const DOUBLE_2: Signature = takes(
    &[Parameter::Double, Parameter::Double],
    Returns::Fixed(Type::Double),
);
const SAME_MANY: Signature = Signature {
    parameters: &[Parameter::Same, Parameter::Same],
    optional: 0,
    repeats: 1,
    result: Returns::Same,
};

/// A function of one DOUBLE.
macro_rules! of_double {
    ($names:expr, $eval:expr, $doc:expr, $example:expr) => {
        Function {
            names: $names,
            signature: DOUBLE,
            eval: |_, arguments| float(($eval)(number(arguments, 0)?)),
            doc: $doc,
            example: $example,
            ..PLAIN
        }
    };
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        names: &["abs"],
        signature: takes(&[Parameter::Number], Returns::First),
        eval: |_, arguments| match arguments.first()? {
            Value::Int(x) => x.checked_abs().map(Value::Int),
            x => float(x.as_float()?.abs()),
        },
        doc: "abs(x): the value without its sign",
        example: ("abs(-3)", "3"),
        ..PLAIN
    },
    of_double!(
        &["ceil", "ceiling"],
        f64::ceil,
        "ceil(x): up to a whole number",
        ("ceil(1.2)", "2.0")
    ),
    of_double!(
        &["floor"],
        f64::floor,
        "floor(x): down to a whole number",
        ("floor(-1.2)", "-2.0")
    ),
    Function {
        names: &["round"],
        signature: Signature {
            parameters: &[Parameter::Double, Parameter::Integer],
            optional: 1,
            repeats: 0,
            result: Returns::Fixed(Type::Double),
        },
        eval: |_, arguments| {
            let digits = arguments.get(1).map_or(Some(0), Value::as_int)?;
            round_to(number(arguments, 0)?, digits)
        },
        doc: "round(x [, digits]): to the nearest, halves away from zero",
        example: ("round(2.345, 1)", "2.3"),
        ..PLAIN
    },
    of_double!(
        &["trunc"],
        f64::trunc,
        "trunc(x): towards zero",
        ("trunc(-1.7)", "-1.0")
    ),
    Function {
        names: &["sign"],
        signature: takes(&[Parameter::Double], Returns::Fixed(Type::Int)),
        eval: |_, arguments| {
            let x = number(arguments, 0)?;
            Some(Value::Int(i64::from(x > 0.0) - i64::from(x < 0.0)))
        },
        doc: "sign(x): -1, 0 or 1",
        example: ("sign(-2.5)", "-1"),
        ..PLAIN
    },
    of_double!(
        &["sqrt"],
        f64::sqrt,
        "sqrt(x): NULL below zero",
        ("sqrt(16)", "4.0")
    ),
    of_double!(
        &["cbrt"],
        f64::cbrt,
        "cbrt(x): cube root",
        ("cbrt(27)", "3.0")
    ),
    of_double!(
        &["exp"],
        f64::exp,
        "exp(x): e to the power of x",
        ("exp(0)", "1.0")
    ),
    of_double!(
        &["ln"],
        f64::ln,
        "ln(x): natural logarithm, NULL unless x > 0",
        ("ln(1)", "0.0")
    ),
    Function {
        names: &["log"],
        signature: Signature {
            optional: 1,
            ..DOUBLE_2
        },
        eval: |_, arguments| match arguments.get(1) {
            Some(base) => float(number(arguments, 0)?.log(base.as_float()?)),
            None => float(number(arguments, 0)?.ln()),
        },
        doc: "log(x [, base]): logarithm, natural without a base",
        example: ("log(8, 2)", "3.0"),
        ..PLAIN
    },
    of_double!(
        &["log10"],
        f64::log10,
        "log10(x): to base 10",
        ("log10(1000)", "3.0")
    ),
    of_double!(
        &["log2"],
        f64::log2,
        "log2(x): to base 2",
        ("log2(8)", "3.0")
    ),
    Function {
        names: &["power", "pow"],
        signature: DOUBLE_2,
        eval: |_, arguments| float(number(arguments, 0)?.powf(number(arguments, 1)?)),
        doc: "power(x, y): x to the power of y",
        example: ("power(2, 10)", "1024.0"),
        ..PLAIN
    },
    Function {
        names: &["mod"],
        signature: takes(&[Parameter::Same, Parameter::Same], Returns::Same),
        eval: |_, arguments| match (arguments.first()?, arguments.get(1)?) {
            (Value::Int(_), Value::Int(-1)) => Some(Value::Int(0)),
            (Value::Int(x), Value::Int(y)) => x.checked_rem(*y).map(Value::Int),
            (x, y) => float(x.as_float()? % y.as_float()?),
        },
        doc: "mod(x, y): remainder with the sign of x, NULL when y is 0",
        example: ("mod(7, 3)", "1"),
        ..PLAIN
    },
    Function {
        names: &["div"],
        signature: takes(
            &[Parameter::Integer, Parameter::Integer],
            Returns::Fixed(Type::Long),
        ),
        eval: |_, arguments| {
            let divisor = arguments.get(1)?.as_int()?;
            arguments
                .first()?
                .as_int()?
                .checked_div(divisor)
                .map(Value::Int)
        },
        doc: "div(a, b): integer division towards zero, NULL when b is 0",
        example: ("div(7, 2)", "3"),
        ..PLAIN
    },
    Function {
        names: &["pi"],
        signature: takes(&[], Returns::Fixed(Type::Double)),
        eval: |_, _| Some(Value::Float(std::f64::consts::PI)),
        doc: "pi()",
        example: ("pi()", "3.141592653589793"),
        ..PLAIN
    },
    of_double!(
        &["sin"],
        f64::sin,
        "sin(x): x in radians",
        ("sin(0)", "0.0")
    ),
    of_double!(
        &["cos"],
        f64::cos,
        "cos(x): x in radians",
        ("cos(0)", "1.0")
    ),
    of_double!(
        &["tan"],
        f64::tan,
        "tan(x): x in radians",
        ("tan(0)", "0.0")
    ),
    of_double!(
        &["asin"],
        f64::asin,
        "asin(x): NULL outside -1 … 1",
        ("asin(0)", "0.0")
    ),
    of_double!(
        &["acos"],
        f64::acos,
        "acos(x): NULL outside -1 … 1",
        ("acos(1)", "0.0")
    ),
    of_double!(
        &["atan"],
        f64::atan,
        "atan(x): in radians",
        ("atan(0)", "0.0")
    ),
    Function {
        names: &["atan2"],
        signature: DOUBLE_2,
        eval: |_, arguments| float(number(arguments, 0)?.atan2(number(arguments, 1)?)),
        doc: "atan2(y, x): the angle of the point (x, y)",
        example: ("atan2(0, 1)", "0.0"),
        ..PLAIN
    },
    of_double!(
        &["sinh"],
        f64::sinh,
        "sinh(x): hyperbolic sine",
        ("sinh(0)", "0.0")
    ),
    of_double!(
        &["cosh"],
        f64::cosh,
        "cosh(x): hyperbolic cosine",
        ("cosh(0)", "1.0")
    ),
    of_double!(
        &["tanh"],
        f64::tanh,
        "tanh(x): hyperbolic tangent",
        ("tanh(0)", "0.0")
    ),
    of_double!(
        &["radians"],
        f64::to_radians,
        "radians(degrees): to radians",
        ("radians(0)", "0.0")
    ),
    of_double!(
        &["degrees"],
        f64::to_degrees,
        "degrees(radians): to degrees",
        ("degrees(pi())", "180.0")
    ),
    Function {
        names: &["greatest", "maximum"],
        signature: SAME_MANY,
        nulls: Nulls::Handled,
        eval: |_, arguments| Some(extreme(arguments, std::cmp::Ordering::Greater)),
        doc: "greatest(x, y, …): the largest, NULL skipped",
        example: ("greatest(3, 9, 4)", "9"),
        ..PLAIN
    },
    Function {
        names: &["least", "minimum"],
        signature: SAME_MANY,
        nulls: Nulls::Handled,
        eval: |_, arguments| Some(extreme(arguments, std::cmp::Ordering::Less)),
        doc: "least(x, y, …): the smallest, NULL skipped",
        example: ("least(3, 9, 4)", "3"),
        ..PLAIN
    },
];

const BITS_2: Signature = takes(
    &[Parameter::Integer, Parameter::Integer],
    Returns::Fixed(Type::Long),
);

/// A function of two integers.
macro_rules! of_integers {
    ($names:expr, $eval:expr, $doc:expr, $example:expr) => {
        Function {
            names: $names,
            signature: BITS_2,
            eval: |_, arguments| {
                let y = arguments.get(1)?.as_int()?;
                ($eval)(arguments.first()?.as_int()?, y).map(Value::Int)
            },
            doc: $doc,
            example: $example,
            ..PLAIN
        }
    };
}

/// Functions over the bits of integers, 64 of them.
pub(super) const BITS: &[Function] = &[
    of_integers!(
        &["bitand"],
        |x: i64, y: i64| Some(x & y),
        "bitand(x, y): bits that are set in both",
        ("bitand(12, 10)", "8")
    ),
    of_integers!(
        &["bitor"],
        |x: i64, y: i64| Some(x | y),
        "bitor(x, y): bits that are set in one or both",
        ("bitor(12, 10)", "14")
    ),
    of_integers!(
        &["bitxor"],
        |x: i64, y: i64| Some(x ^ y),
        "bitxor(x, y): bits that are set in one of them",
        ("bitxor(12, 10)", "6")
    ),
    Function {
        names: &["bitnot"],
        signature: takes(&[Parameter::Integer], Returns::Fixed(Type::Long)),
        eval: |_, arguments| Some(Value::Int(!arguments.first()?.as_int()?)),
        doc: "bitnot(x): every bit the other way round",
        example: ("bitnot(0)", "-1"),
        ..PLAIN
    },
    of_integers!(
        &["shift_left"],
        |x: i64, n: i64| Some(x.wrapping_shl(shift(n)?)),
        "shift_left(x, n): bits moved up, n from 0 to 63",
        ("shift_left(3, 4)", "48")
    ),
    of_integers!(
        &["shift_right"],
        |x: i64, n: i64| Some(x.wrapping_shr(shift(n)?)),
        "shift_right(x, n): bits moved down, the sign is kept",
        ("shift_right(48, 4)", "3")
    ),
];

fn shift(places: i64) -> Option<u32> {
    u32::try_from(places).ok().filter(|places| *places < 64)
}

fn number(arguments: &[Value], index: usize) -> Option<f64> {
    arguments.get(index)?.as_float()
}

/// A finite result, or a failure.
fn float(result: f64) -> Option<Value> {
    result.is_finite().then_some(Value::Float(result))
}

fn round_to(x: f64, digits: i64) -> Option<Value> {
    let digits = i32::try_from(digits.clamp(-308, 308)).ok()?;
    let scale = 10f64.powi(digits);
    let scaled = x * scale;
    // Beyond the digits that a double has, there is nothing to round.
    if !scaled.is_finite() || scaled.abs() >= 9_007_199_254_740_992.0 {
        return float(x);
    }
    float(scaled.round() / scale)
}

fn extreme(arguments: &[Value], wanted: std::cmp::Ordering) -> Value {
    let mut best = Value::Null;
    for value in arguments.iter().filter(|value| !value.is_null()) {
        if best.is_null() || value.order(&best) == wanted {
            best = value.clone();
        }
    }
    best
}
