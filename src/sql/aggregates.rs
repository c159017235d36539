//! The aggregate functions: names, types, documentation. How each is kept up to date row by row
//! is in `engine/aggregate/`.

use crate::event::Type;

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
    /// The population standard deviation.
    StdDev,
    /// The value of the oldest row that is not NULL.
    First,
    /// The value of the newest row that is not NULL.
    Last,
    /// The smallest value there ever was, rows that have left the window included.
    MinForever,
    /// The largest value there ever was.
    MaxForever,
    /// Whether every value is true.
    BoolAnd,
    /// Whether any value is true.
    BoolOr,
}

/// How an aggregate is declared.
#[derive(Debug)]
pub struct AggregateSpec {
    /// Every spelling; the first is the one shown.
    pub names: &'static [&'static str],
    /// Which function.
    pub function: AggregateFunction,
    /// One line of documentation.
    pub doc: &'static str,
}

/// Every aggregate.
pub const AGGREGATES: &[AggregateSpec] = &[
    AggregateSpec {
        names: &["count"],
        function: AggregateFunction::Count,
        doc: "count(), count(*): rows; count(x): values that are not NULL",
    },
    AggregateSpec {
        names: &["sum"],
        function: AggregateFunction::Sum,
        doc: "sum(x): BIGINT of integers (exact), DOUBLE of floats (compensated)",
    },
    AggregateSpec {
        names: &["avg", "mean"],
        function: AggregateFunction::Avg,
        doc: "avg(x): arithmetic mean, DOUBLE",
    },
    AggregateSpec {
        names: &["min"],
        function: AggregateFunction::Min,
        doc: "min(x): smallest",
    },
    AggregateSpec {
        names: &["max"],
        function: AggregateFunction::Max,
        doc: "max(x): largest",
    },
    AggregateSpec {
        names: &["stddev", "stdDev", "stddev_pop"],
        function: AggregateFunction::StdDev,
        doc: "stddev(x): population standard deviation, DOUBLE",
    },
    AggregateSpec {
        names: &["first"],
        function: AggregateFunction::First,
        doc: "first(x): value of the oldest row, NULL skipped",
    },
    AggregateSpec {
        names: &["last"],
        function: AggregateFunction::Last,
        doc: "last(x): value of the newest row, NULL skipped",
    },
    AggregateSpec {
        names: &["minForever"],
        function: AggregateFunction::MinForever,
        doc: "minForever(x): smallest since the start, whatever has left the window",
    },
    AggregateSpec {
        names: &["maxForever"],
        function: AggregateFunction::MaxForever,
        doc: "maxForever(x): largest since the start, whatever has left the window",
    },
    AggregateSpec {
        names: &["bool_and", "and", "every"],
        function: AggregateFunction::BoolAnd,
        doc: "bool_and(x): whether all are true",
    },
    AggregateSpec {
        names: &["bool_or", "or", "any"],
        function: AggregateFunction::BoolOr,
        doc: "bool_or(x): whether any is true",
    },
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

impl AggregateFunction {
    /// The type of the result over values of type `argument` (`None`: over rows); an error says
    /// what is wanted instead.
    pub fn result_type(self, argument: Option<Type>) -> Result<Type, &'static str> {
        let Some(ty) = argument else {
            return match self {
                AggregateFunction::Count => Ok(Type::Long),
                _ => Err("one argument"),
            };
        };
        match self {
            AggregateFunction::Count => Ok(Type::Long),
            AggregateFunction::Sum => match ty {
                Type::Int | Type::Long => Ok(Type::Long),
                Type::Float | Type::Double => Ok(Type::Double),
                Type::Bool | Type::String | Type::Timestamp | Type::Bytes | Type::Json => {
                    Err("a number")
                }
            },
            AggregateFunction::Avg | AggregateFunction::StdDev => {
                if ty.is_numeric() {
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
            | AggregateFunction::MaxForever => Ok(ty),
            AggregateFunction::BoolAnd | AggregateFunction::BoolOr => {
                if ty == Type::Bool {
                    Ok(Type::Bool)
                } else {
                    Err("a BOOLEAN")
                }
            }
        }
    }
}
