//! The analytic functions: names, types, documentation, examples. They look back over the rows in
//! the order in which these come; what each remembers is in `engine/analytic/`.

use super::aggregates::AggregateFunction;
use crate::event::Type;

/// What is known of the rows before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnalyticFunction {
    /// The value of an earlier row.
    Lag,
    /// The last value that is not NULL.
    Latest,
    /// Whether any value differs from that of the row before.
    HadChanged,
    /// The value, if it differs from that of the row before.
    Changed,
    /// The difference to the value before.
    Delta,
    /// The difference to the value before, per second.
    Rate,
    /// The exponentially weighted moving average.
    Ewma,
    /// How many rows there were.
    RowNumber,
    /// An aggregate over all rows so far, between two conditions.
    Accumulated(AggregateFunction),
}

/// How an analytic function is declared.
#[derive(Debug)]
pub struct AnalyticSpec {
    /// Every spelling; the first is the one shown.
    pub names: &'static [&'static str],
    /// Which function.
    pub function: AnalyticFunction,
    /// The fewest arguments that it takes, and the most.
    pub arguments: (usize, usize),
    /// One line of documentation.
    pub doc: &'static str,
    /// What it gives over some rows; documentation and test.
    pub example: AnalyticExample,
}

/// Rows, a call, and what it gives for each of them.
#[derive(Debug)]
pub struct AnalyticExample {
    /// The columns as CREATE STREAM takes them.
    pub columns: &'static str,
    /// The rows, separated by `;`, as constants; a second apart.
    pub rows: &'static str,
    /// The call.
    pub call: &'static str,
    /// Its results, separated by `;`, as constants.
    pub results: &'static str,
}

const fn spec(
    names: &'static [&'static str],
    function: AnalyticFunction,
    arguments: (usize, usize),
    doc: &'static str,
    [columns, rows, call, results]: [&'static str; 4],
) -> AnalyticSpec {
    AnalyticSpec {
        names,
        function,
        arguments,
        doc,
        example: AnalyticExample {
            columns,
            rows,
            call,
            results,
        },
    }
}

const MANY: usize = usize::MAX;

/// Every analytic function.
pub const ANALYTICS: &[AnalyticSpec] = &[
    spec(
        &["lag"],
        AnalyticFunction::Lag,
        (1, 3),
        "lag(x [, n [, default]]): x of the n-th row before (n is 1, at most 10,000), else default",
        ["x INT", "5; NULL; 7; 8", "lag(x, 2, 0)", "0; 0; 5; NULL"],
    ),
    spec(
        &["latest"],
        AnalyticFunction::Latest,
        (1, 2),
        "latest(x [, default]): the last x that is not NULL, this row's included",
        ["x INT", "NULL; 5; NULL; 7", "latest(x, 0)", "0; 5; 5; 7"],
    ),
    spec(
        &["had_changed"],
        AnalyticFunction::HadChanged,
        (1, MANY),
        "had_changed(x, …): whether any x differs from that of the row before; NULL is a value, \
         and what stands before the first row",
        [
            "x INT",
            "5; 5; NULL; 5",
            "had_changed(x)",
            "TRUE; FALSE; TRUE; TRUE",
        ],
    ),
    spec(
        &["changed", "changed_col"],
        AnalyticFunction::Changed,
        (1, 1),
        "changed(x): x if it differs from that of the row before, else NULL",
        ["x INT", "5; 5; 7; 7", "changed(x)", "5; NULL; 7; NULL"],
    ),
    spec(
        &["delta"],
        AnalyticFunction::Delta,
        (1, 1),
        "delta(x): x minus the last x that was not NULL; BIGINT of integers and times, else DOUBLE",
        ["x INT", "5; 7; NULL; 4", "delta(x)", "NULL; 2; NULL; -3"],
    ),
    spec(
        &["rate"],
        AnalyticFunction::Rate,
        (1, 1),
        "rate(x): delta(x) per second of the rows' time, DOUBLE; NULL when no time has passed",
        ["x INT", "5; 7; NULL; 4", "rate(x)", "NULL; 2.0; NULL; -1.5"],
    ),
    spec(
        &["ewma"],
        AnalyticFunction::Ewma,
        (2, 2),
        "ewma(x, alpha): moving average with the weight alpha (above 0, at most 1) for the newest \
         x, DOUBLE; NULL is skipped",
        [
            "x INT",
            "4; 8; NULL; 2",
            "ewma(x, 0.5)",
            "4.0; 6.0; 6.0; 4.0",
        ],
    ),
    spec(
        &["row_number"],
        AnalyticFunction::RowNumber,
        (0, 0),
        "row_number(): 1 for the first row, and so on",
        ["x INT", "5; NULL; 7", "row_number()", "1; 2; 3"],
    ),
    spec(
        &["acc_sum"],
        AnalyticFunction::Accumulated(AggregateFunction::Sum),
        (1, 3),
        "acc_sum(x [, start [, reset]]): sum(x) from the first row for which start is true (or \
         the first of all); a row for which reset is true empties it, then waits for start again",
        [
            "x INT, run BOOLEAN, idle BOOLEAN",
            "1, FALSE, FALSE; 2, TRUE, FALSE; 3, FALSE, FALSE; 4, FALSE, TRUE",
            "acc_sum(x, run, idle)",
            "NULL; 2; 5; NULL",
        ],
    ),
    spec(
        &["acc_count"],
        AnalyticFunction::Accumulated(AggregateFunction::Count),
        (1, 3),
        "acc_count(x [, start [, reset]]): the same with count(x)",
        ["x INT", "5; NULL; 7", "acc_count(x)", "1; 1; 2"],
    ),
    spec(
        &["acc_min"],
        AnalyticFunction::Accumulated(AggregateFunction::Min),
        (1, 3),
        "acc_min(x [, start [, reset]]): the same with min(x)",
        ["x INT", "5; 3; 7", "acc_min(x)", "5; 3; 3"],
    ),
    spec(
        &["acc_max"],
        AnalyticFunction::Accumulated(AggregateFunction::Max),
        (1, 3),
        "acc_max(x [, start [, reset]]): the same with max(x)",
        ["x INT", "5; 3; 7", "acc_max(x)", "5; 5; 7"],
    ),
    spec(
        &["acc_avg"],
        AnalyticFunction::Accumulated(AggregateFunction::Avg),
        (1, 3),
        "acc_avg(x [, start [, reset]]): the same with avg(x)",
        [
            "x INT, again BOOLEAN",
            "2, FALSE; 4, FALSE; 8, TRUE; 6, FALSE",
            "acc_avg(x, TRUE, again)",
            "2.0; 3.0; 8.0; 7.0",
        ],
    ),
];

/// The analytic function called `name`, whatever its case.
#[must_use]
pub fn analytic_named(name: &str) -> Option<&'static AnalyticSpec> {
    ANALYTICS.iter().find(|spec| {
        let mut names = spec.names.iter();
        names.any(|known| known.eq_ignore_ascii_case(name))
    })
}

impl AnalyticFunction {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        let spec = ANALYTICS.iter().find(|spec| spec.function == self);
        let name = spec.and_then(|spec| spec.names.first());
        name.copied().unwrap_or_default()
    }

    /// The type of the result over a first argument of type `ty`; an error says what is wanted
    /// instead.
    pub(crate) fn result_type(self, ty: Option<Type>) -> Result<Type, &'static str> {
        let ty = match (self, ty) {
            (AnalyticFunction::RowNumber, _) => return Ok(Type::Long),
            (_, Some(ty)) => ty,
            (_, None) => return Err("an argument"),
        };
        match self {
            AnalyticFunction::Lag | AnalyticFunction::Latest | AnalyticFunction::Changed => Ok(ty),
            AnalyticFunction::HadChanged => Ok(Type::Bool),
            AnalyticFunction::Delta if ty.is_integral() => Ok(Type::Long),
            AnalyticFunction::Delta | AnalyticFunction::Rate | AnalyticFunction::Ewma
                if ty.is_numeric() =>
            {
                Ok(Type::Double)
            }
            AnalyticFunction::Delta | AnalyticFunction::Rate | AnalyticFunction::Ewma => {
                Err("a number")
            }
            AnalyticFunction::Accumulated(function) => function.result_type(&[ty]),
            AnalyticFunction::RowNumber => Ok(Type::Long),
        }
    }
}
