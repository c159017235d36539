//! The aggregate functions: names, types, documentation, examples. How each is kept up to date row
//! by row is in `engine/aggregate/`.

use super::plan::{Expr, ExprKind};
use crate::event::{Type, Value};

/// What is computed over the rows of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// How many rows, or how many values that are not NULL.
    Count,
    /// The sum; exact for integers, compensated for floats.
    Sum,
    /// The arithmetic mean.
    Avg,
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
    /// The value of the oldest row that is not NULL.
    First,
    /// The value of the newest row that is not NULL.
    Last,
    /// The smallest value there ever was, rows that have left the window included.
    MinForever,
    /// The largest value there ever was.
    MaxForever,
    /// The population standard deviation.
    StdDev,
    /// The sample standard deviation.
    StdDevSamp,
    /// The population variance.
    VarPop,
    /// The sample variance.
    VarSamp,
    /// Pearson's correlation of two columns.
    Corr,
    /// The slope of the line through the points of two columns.
    RegrSlope,
    /// Whether every value is true.
    BoolAnd,
    /// Whether any value is true.
    BoolOr,
    /// The different values, ascending.
    CollectSet,
    /// The values in the order of their rows.
    CollectList,
    /// The values in the order of their rows, as one text.
    StringAgg,
    /// The exact percentile, between two values where it falls between them.
    Percentile,
    /// The percentile in bounded memory.
    ApproxPercentile,
    /// The number of different values in bounded memory.
    ApproxCountDistinct,
    /// The most frequent value.
    Mode,
    /// The most frequent values.
    TopK,
}

/// What DISTINCT in front of the argument does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distinct {
    /// It may be written: equal values count once.
    Allowed,
    /// It may be written and changes nothing.
    Same,
    /// It would make no sense.
    Refused,
}

/// How an aggregate is declared.
#[derive(Debug)]
pub struct AggregateSpec {
    /// Every spelling; the first is the one shown.
    pub names: &'static [&'static str],
    /// Which function.
    pub function: AggregateFunction,
    /// What a call of it always has: the names stand for a form that is written out otherwise.
    pub preset: Preset,
    /// One line of documentation.
    pub doc: &'static str,
    /// What it gives over some rows; documentation and test.
    pub example: Example,
}

/// What a name stands for besides its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Nothing.
    Nothing,
    /// DISTINCT.
    Distinct,
    /// The parameter, a percentage.
    Percent(u8),
}

/// Rows, a call, and what it gives over these rows.
#[derive(Debug)]
pub struct Example {
    /// The columns as CREATE STREAM takes them.
    pub columns: &'static str,
    /// The rows, separated by `;`, as constants.
    pub rows: &'static str,
    /// The call.
    pub call: &'static str,
    /// Its result, as an expression.
    pub result: &'static str,
}

const fn spec(
    names: &'static [&'static str],
    function: AggregateFunction,
    doc: &'static str,
    [columns, rows, call, result]: [&'static str; 4],
) -> AggregateSpec {
    AggregateSpec {
        names,
        function,
        preset: Preset::Nothing,
        doc,
        example: Example {
            columns,
            rows,
            call,
            result,
        },
    }
}

const fn preset(preset: Preset, spec: AggregateSpec) -> AggregateSpec {
    AggregateSpec { preset, ..spec }
}

/// Every aggregate.
pub const AGGREGATES: &[AggregateSpec] = &[
    spec(
        &["count"],
        AggregateFunction::Count,
        "count(), count(*): rows; count(x): values that are not NULL",
        ["x INT", "1; NULL; 1", "count(x)", "2"],
    ),
    preset(
        Preset::Distinct,
        spec(
            &["count_distinct", "distinctCount"],
            AggregateFunction::Count,
            "count_distinct(x): different values, exact; the same as count(DISTINCT x)",
            ["x STRING", "'a'; 'b'; 'a'; NULL", "count_distinct(x)", "2"],
        ),
    ),
    spec(
        &["sum"],
        AggregateFunction::Sum,
        "sum(x): BIGINT of integers (exact; NULL when it does not fit), DOUBLE of floats \
         (compensated)",
        ["x INT", "1; 2; NULL; 4", "sum(x)", "7"],
    ),
    spec(
        &["avg", "mean"],
        AggregateFunction::Avg,
        "avg(x): arithmetic mean, DOUBLE",
        ["x INT", "1; 2; NULL; 6", "avg(x)", "3.0"],
    ),
    spec(
        &["min"],
        AggregateFunction::Min,
        "min(x): smallest",
        ["x DOUBLE", "2.5; 1.5; NULL", "min(x)", "1.5"],
    ),
    spec(
        &["max"],
        AggregateFunction::Max,
        "max(x): largest",
        ["x STRING", "'b'; 'c'; 'a'", "max(x)", "'c'"],
    ),
    spec(
        &["first"],
        AggregateFunction::First,
        "first(x): value of the oldest row, NULL skipped",
        ["x INT", "NULL; 7; 8", "first(x)", "7"],
    ),
    spec(
        &["last"],
        AggregateFunction::Last,
        "last(x): value of the newest row, NULL skipped",
        ["x INT", "7; 8; NULL", "last(x)", "8"],
    ),
    spec(
        &["minForever"],
        AggregateFunction::MinForever,
        "minForever(x): smallest since the start, whatever has left the window",
        ["x INT", "3; 1; 2", "minForever(x)", "1"],
    ),
    spec(
        &["maxForever"],
        AggregateFunction::MaxForever,
        "maxForever(x): largest since the start, whatever has left the window",
        ["x INT", "1; 3; 2", "maxForever(x)", "3"],
    ),
    spec(
        &["stddev", "stdDev", "stddev_pop"],
        AggregateFunction::StdDev,
        "stddev(x): population standard deviation, DOUBLE; its sums are exact, like those of the \
         next five",
        ["x INT", "10; 20; 30; 40", "stddev(x)", "11.180339887498949"],
    ),
    spec(
        &["stddev_samp"],
        AggregateFunction::StdDevSamp,
        "stddev_samp(x): sample standard deviation, DOUBLE; NULL over one value",
        ["x INT", "1; 3; NULL", "stddev_samp(x)", "sqrt(2)"],
    ),
    spec(
        &["var_samp", "variance"],
        AggregateFunction::VarSamp,
        "var_samp(x): sample variance, DOUBLE; NULL over one value",
        ["x INT", "1; 2; 3; 4; NULL", "var_samp(x)", "5 / 3"],
    ),
    spec(
        &["var_pop"],
        AggregateFunction::VarPop,
        "var_pop(x): population variance, DOUBLE",
        ["x INT", "1; 2; 3; 4", "var_pop(x)", "1.25"],
    ),
    spec(
        &["corr"],
        AggregateFunction::Corr,
        "corr(y, x): correlation (Pearson), DOUBLE; rows in which either is NULL are skipped; \
         NULL when either does not vary",
        [
            "y INT, x INT",
            "1, 2; 2, 4; 3, NULL; 3, 6",
            "corr(y, x)",
            "1.0",
        ],
    ),
    spec(
        &["regr_slope"],
        AggregateFunction::RegrSlope,
        "regr_slope(y, x): slope of the least-squares line of y over x, DOUBLE; rows in which \
         either is NULL are skipped; NULL when x does not vary",
        [
            "y INT, x INT",
            "1, 10; 2, 20; 4, 30",
            "regr_slope(y, x)",
            "0.15",
        ],
    ),
    spec(
        &["bool_and", "and", "every"],
        AggregateFunction::BoolAnd,
        "bool_and(x): whether all are true",
        ["x BOOLEAN", "TRUE; FALSE; NULL", "bool_and(x)", "FALSE"],
    ),
    spec(
        &["bool_or", "or", "any"],
        AggregateFunction::BoolOr,
        "bool_or(x): whether any is true",
        ["x BOOLEAN", "TRUE; FALSE; NULL", "bool_or(x)", "TRUE"],
    ),
    spec(
        &["collect_set", "unionSet"],
        AggregateFunction::CollectSet,
        "collect_set(x): JSON array of the different values, ascending; NULL beyond 1 MiB of text",
        [
            "x STRING",
            "'b'; 'a'; NULL; 'b'",
            "collect_set(x)",
            "JSON '[\"a\",\"b\"]'",
        ],
    ),
    spec(
        &["collect_list", "array_agg"],
        AggregateFunction::CollectList,
        "collect_list(x): JSON array of the values in the order of their rows, NULL skipped; NULL \
         beyond 1 MiB of text",
        [
            "x INT",
            "3; 1; NULL; 3",
            "collect_list(x)",
            "JSON '[3,1,3]'",
        ],
    ),
    spec(
        &["string_agg", "group_concat"],
        AggregateFunction::StringAgg,
        "string_agg(x, separator): the values as text in the order of their rows (of DISTINCT x: \
         ascending); NULL beyond 1 MiB",
        [
            "x STRING",
            "'b'; 'a'; NULL; 'b'",
            "string_agg(x, ', ')",
            "'b, a, b'",
        ],
    ),
    preset(
        Preset::Percent(50),
        spec(
            &["median"],
            AggregateFunction::Percentile,
            "median(x): the middle value, or the mean of the two in the middle; exact, DOUBLE",
            ["x INT", "5; 1; NULL; 2; 10", "median(x)", "3.5"],
        ),
    ),
    spec(
        &["percentile"],
        AggregateFunction::Percentile,
        "percentile(x, p): the value below which the part p (0 to 1) lies, interpolated; exact, \
         DOUBLE",
        ["x INT", "10; 20; 30; 40; 50", "percentile(x, 0.9)", "46.0"],
    ),
    spec(
        &["approx_percentile"],
        AggregateFunction::ApproxPercentile,
        "approx_percentile(x, p): percentile(x, p) in bounded memory. In batch windows and without \
         a window by a t-digest: exact up to 128 values, then within 1 % of the ranks in the \
         middle and less at the ends. In sliding windows, from which a digest cannot take a value \
         out again: exact up to 1,024 different values, then within 0.4 % of the value",
        [
            "x INT",
            "10; 20; 30; 40; 50",
            "approx_percentile(x, 0.9)",
            "46.0",
        ],
    ),
    spec(
        &["mode"],
        AggregateFunction::Mode,
        "mode(x): the most frequent value, of several the smallest",
        ["x STRING", "'b'; 'a'; 'b'; NULL; NULL", "mode(x)", "'b'"],
    ),
    spec(
        &["approx_count_distinct"],
        AggregateFunction::ApproxCountDistinct,
        "approx_count_distinct(x): different values in bounded memory (HyperLogLog, 4,096 \
         registers): exact up to 256, then with a standard error of 1.6 %",
        [
            "x STRING",
            "'a'; 'b'; 'a'; NULL",
            "approx_count_distinct(x)",
            "2",
        ],
    ),
    spec(
        &["top_k"],
        AggregateFunction::TopK,
        "top_k(x, k): JSON array of the k most frequent values and how often they are there, most \
         frequent first, of equally frequent ones the smallest; exact",
        [
            "x STRING",
            "'a'; 'b'; 'a'; 'c'",
            "top_k(x, 2)",
            "JSON '[{\"count\":2,\"value\":\"a\"},{\"count\":1,\"value\":\"b\"}]'",
        ],
    ),
];

/// The aggregate called `name`, whatever its case.
#[must_use]
pub fn aggregate_named(name: &str) -> Option<&'static AggregateSpec> {
    AGGREGATES.iter().find(|spec| {
        spec.names
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    })
}

/// The most that `top_k` gives.
const TOP_MAX: i64 = 1_000;

impl AggregateSpec {
    /// How many arguments a call has, the parameter included; count may have none.
    #[must_use]
    pub fn arguments(&self) -> usize {
        let parameter = self.takes_parameter() && self.preset == Preset::Nothing;
        self.function.columns() + usize::from(parameter)
    }

    /// Whether the last of them is a constant, not a column.
    #[must_use]
    pub fn takes_parameter(&self) -> bool {
        self.function.parameter().is_some() && self.preset == Preset::Nothing
    }

    /// The parameter that goes without saying.
    #[must_use]
    pub fn preset_parameter(&self) -> Option<Value> {
        match self.preset {
            Preset::Percent(percent) => Some(Value::Float(f64::from(percent) / 100.0)),
            Preset::Nothing | Preset::Distinct => None,
        }
    }
}

impl AggregateFunction {
    /// How many columns it reads.
    #[must_use]
    pub fn columns(self) -> usize {
        match self {
            AggregateFunction::Corr | AggregateFunction::RegrSlope => 2,
            _ => 1,
        }
    }

    /// What its constant is, if it has one.
    #[must_use]
    pub fn parameter(self) -> Option<&'static str> {
        match self {
            AggregateFunction::Percentile | AggregateFunction::ApproxPercentile => {
                Some("a constant from 0 to 1")
            }
            AggregateFunction::TopK => Some("a whole number from 1 to 1000"),
            AggregateFunction::StringAgg => Some("a constant STRING"),
            _ => None,
        }
    }

    /// The parameter that `expr` is, in the form in which it is kept.
    #[must_use]
    pub fn parameter_of(self, expr: &Expr) -> Option<Value> {
        let ExprKind::Literal(value) = &expr.kind else {
            return None;
        };
        match self {
            AggregateFunction::Percentile | AggregateFunction::ApproxPercentile => {
                let part = value.as_float()?;
                (0.0..=1.0).contains(&part).then_some(Value::Float(part))
            }
            AggregateFunction::TopK => {
                let count = value.as_int()?;
                (1..=TOP_MAX).contains(&count).then_some(Value::Int(count))
            }
            AggregateFunction::StringAgg => value.as_str().map(Value::text),
            _ => None,
        }
    }

    /// What DISTINCT does to it.
    #[must_use]
    pub fn distinct(self) -> Distinct {
        match self {
            AggregateFunction::Count
            | AggregateFunction::Sum
            | AggregateFunction::Avg
            | AggregateFunction::StdDev
            | AggregateFunction::StdDevSamp
            | AggregateFunction::VarPop
            | AggregateFunction::VarSamp
            | AggregateFunction::StringAgg
            | AggregateFunction::Percentile => Distinct::Allowed,
            AggregateFunction::Min
            | AggregateFunction::Max
            | AggregateFunction::MinForever
            | AggregateFunction::MaxForever
            | AggregateFunction::BoolAnd
            | AggregateFunction::BoolOr
            | AggregateFunction::CollectSet
            | AggregateFunction::ApproxCountDistinct => Distinct::Same,
            AggregateFunction::First
            | AggregateFunction::Last
            | AggregateFunction::Corr
            | AggregateFunction::RegrSlope
            | AggregateFunction::CollectList
            | AggregateFunction::ApproxPercentile
            | AggregateFunction::Mode
            | AggregateFunction::TopK => Distinct::Refused,
        }
    }

    /// The type of the result over columns of these types (none: over rows); an error says what
    /// is wanted instead.
    pub fn result_type(self, arguments: &[Type]) -> Result<Type, &'static str> {
        let (first, numbers) = match arguments {
            [] if self == AggregateFunction::Count => return Ok(Type::Long),
            [] => return Err("one argument"),
            [first, ..] => (*first, arguments.iter().all(|ty| ty.is_numeric())),
        };
        match self {
            AggregateFunction::Count | AggregateFunction::ApproxCountDistinct => Ok(Type::Long),
            AggregateFunction::Sum if numbers && first.is_integral() => Ok(Type::Long),
            AggregateFunction::Corr | AggregateFunction::RegrSlope if !numbers => {
                Err("two numbers")
            }
            AggregateFunction::Sum
            | AggregateFunction::Avg
            | AggregateFunction::StdDev
            | AggregateFunction::StdDevSamp
            | AggregateFunction::VarPop
            | AggregateFunction::VarSamp
            | AggregateFunction::Percentile
            | AggregateFunction::ApproxPercentile
            | AggregateFunction::Corr
            | AggregateFunction::RegrSlope => {
                if numbers {
                    Ok(Type::Double)
                } else {
                    Err("a number")
                }
            }
            AggregateFunction::Min
            | AggregateFunction::Max
            | AggregateFunction::First
            | AggregateFunction::Last
            | AggregateFunction::MinForever
            | AggregateFunction::MaxForever
            | AggregateFunction::Mode => Ok(first),
            AggregateFunction::BoolAnd | AggregateFunction::BoolOr => {
                if first == Type::Bool {
                    Ok(Type::Bool)
                } else {
                    Err("a BOOLEAN")
                }
            }
            AggregateFunction::StringAgg => Ok(Type::String),
            AggregateFunction::CollectSet
            | AggregateFunction::CollectList
            | AggregateFunction::TopK => Ok(Type::Json),
        }
    }
}
