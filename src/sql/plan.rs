//! The typed plan: what the engine runs. Every name has become a number, every type is known,
//! and nothing in it can be wrong any more.
//!
//! A plan has no spans and no names but those of streams, columns and functions, so that two
//! texts that mean the same have the same plan and the same [`Query::fingerprint`].

mod analytic;
mod domains;
mod pattern;
mod relation;
mod sharing;
mod time;
mod window;

use std::sync::Arc;

pub use analytic::{Analytic, Analytics};
pub use domains::{Domains, LOG};
pub use pattern::{
    ELEMENTS_MAX, Element, Fold, Overflow, Pattern, PatternInput, PatternKind, PatternPart,
    PatternStep, Register, Skip, Take, Takes, Within,
};

pub use relation::{
    Access, Aggregation, AggregationId, Bucket, Duration, Eviction, Join, JoinKind, Match,
    Partition, PartitionKey, Side, Source, Store, Table, TableId, Target, Trigger, TriggerAt,
    Write,
};
pub use time::{DEAD_LETTER_COLUMNS, DeadLetters, EventTime, Full, Future, Late};

pub use window::{Condition, UniqueBound, Window};

use super::aggregates::AggregateFunction;
use super::functions::{Function, Reads};
use crate::diagnostic::Place;
use crate::event::{Schema, Type, Value};

/// A checked application: all that it defines, each in the order of definition.
#[derive(Clone, Debug, Default)]
pub struct Application {
    /// Streams by [`StreamId`].
    pub streams: Vec<Stream>,
    /// Tables by [`TableId`].
    pub tables: Vec<Table>,
    /// Triggers.
    pub triggers: Vec<Trigger>,
    /// Aggregations by [`AggregationId`].
    pub aggregations: Vec<Aggregation>,
    /// Partitions by number.
    pub partitions: Vec<Partition>,
    /// Queries by their place, which is also their number in an output's key.
    pub queries: Vec<Query>,
}

impl Application {
    /// The stream called `name`.
    #[must_use]
    pub fn stream_named(&self, name: &str) -> Option<(StreamId, &Stream)> {
        (0..)
            .map(StreamId)
            .zip(&self.streams)
            .find(|(_, stream)| stream.name == name)
    }

    /// The stream with this number.
    #[must_use]
    pub fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(id.0)
    }
}

impl Application {
    /// What the target of a query is called.
    #[must_use]
    pub fn target_name(&self, query: &Query) -> &str {
        let name = match query.target {
            Target::Stream(stream) => self.stream(stream).map(|stream| &stream.name),
            Target::Table { table, .. } => self.tables.get(table.0).map(|table| &table.name),
        };
        name.map_or("?", String::as_str)
    }
}

/// The place of a stream in [`Application::streams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub usize);

/// A stream of rows.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Its columns.
    pub schema: Arc<Schema>,
    /// Whether rows come from outside, go there, or neither.
    pub role: Role,
    /// `'extension'`: the connector; present for sources and sinks.
    pub connector: Option<String>,
    /// `'format'`.
    pub format: Option<String>,
    /// Everything else of `WITH (…)`, as written.
    pub properties: Vec<Property>,
    /// The time of its rows, when they carry one; else it is that of their arrival.
    pub event_time: Option<EventTime>,
    /// Where input goes that cannot be used.
    pub dead_letters: Option<DeadLetters>,
    /// The options from which the two above were made, wherever they were set: names and values.
    pub settings: Vec<(String, String)>,
    /// The file that defines it.
    pub path: String,
    /// Where in it.
    pub place: Place,
}

/// `'type'` of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Inside only.
    Internal,
    /// Rows come from a connector.
    Source,
    /// Rows go to a connector.
    Sink,
}

/// One `'name' = 'value'` of a WITH clause.
#[derive(Clone, Debug)]
pub struct Property {
    /// The name as written.
    pub name: String,
    /// The value as written, variables not yet expanded.
    pub value: String,
    /// Where the name stands.
    pub place: Place,
    /// Where the value stands.
    pub value_place: Place,
}

/// A standing query.
#[derive(Clone, Debug)]
pub struct Query {
    /// Where the rows come from.
    pub input: Input,
    /// Columns behind those of the input, computed from row to row.
    pub analytics: Analytics,
    /// Groups and aggregates, when there are any.
    pub grouping: Option<Grouping>,
    /// Keeps the output rows for which it is true. Over the same row as `select`.
    pub having: Option<Expr>,
    /// The output row. Over the input row, or over the group row when there is a grouping.
    pub select: Vec<Expr>,
    /// The order within one output batch. Over the same row as `select`.
    pub order_by: Vec<SortKey>,
    /// How many rows of an output batch pass.
    pub limit: Option<u64>,
    /// How many rows of an output batch are passed over first.
    pub offset: u64,
    /// SELECT DISTINCT.
    pub distinct: bool,
    /// Which rows of a window pass.
    pub emit: Emit,
    /// OUTPUT. FIRST and LAST are per group when there is a grouping with keys: the keys are then
    /// the expressions of `select` behind those that have names.
    pub rate: Option<Rate>,
    /// What gets the rows.
    pub target: Target,
    /// The name of each output column. `select` may have more expressions than there are names:
    /// those behind are read by what comes after the query and do not reach the target.
    pub names: Vec<String>,
    /// The partition that it belongs to, by number.
    pub partition: Option<usize>,
    /// The file that defines it.
    pub path: String,
    /// Where in it.
    pub place: Place,
}

impl Query {
    /// Whether rows that have come in leave again.
    #[must_use]
    pub fn flow(&self) -> Flow {
        let forgets = match &self.input {
            Input::Stream(input) => match &input.window {
                None => false,
                Some(window) if window.is_batch() => return Flow::Batch,
                Some(window) => window.rows_leave(),
            },
            Input::Join(input) if self.emit == Emit::Current && input.join.comes_in_batches() => {
                return Flow::Batch;
            }
            Input::Join(input) => input.join.forgets(),
            Input::Pattern(_) => false,
        };
        if forgets {
            Flow::Sliding
        } else {
            Flow::Endless
        }
    }

    /// Whether ORDER BY, LIMIT or OFFSET concern the joined rows or matches that one row brings
    /// about.
    #[must_use]
    pub fn orders_matches(&self) -> bool {
        let counts = self.limit.is_some() || self.offset > 0;
        let several = matches!(self.input, Input::Join(_) | Input::Pattern(_));
        let several = several && !self.shows_snapshots();
        several && self.flow() != Flow::Batch && (counts || !self.order_by.is_empty())
    }

    /// Whether it gives what its result is from time to time.
    #[must_use]
    pub fn shows_snapshots(&self) -> bool {
        self.rate.is_some_and(|rate| rate.keep == Keep::Snapshot)
    }

    /// The stream that gets the rows, when it is one.
    #[must_use]
    pub fn target_stream(&self) -> Option<StreamId> {
        match self.target {
            Target::Stream(stream) => Some(stream),
            Target::Table { .. } => None,
        }
    }

    /// The table that it writes.
    #[must_use]
    pub fn target_table(&self) -> Option<TableId> {
        match self.target {
            Target::Stream(_) => None,
            Target::Table { table, .. } => Some(table),
        }
    }

    /// Every expression of it.
    #[must_use]
    pub fn exprs(&self) -> Vec<&Expr> {
        let mut found: Vec<&Expr> = Vec::new();
        for input in self.input.streams() {
            found.extend(input.filter.iter().chain(&input.behind));
            found.extend(input.window.iter().flat_map(Window::exprs));
        }
        if let Input::Join(input) = &self.input {
            input.join.exprs(&mut found);
            found.extend(&input.filter);
        }
        if let Input::Pattern(input) = &self.input {
            found.extend(input.pattern.exprs());
            found.extend(&input.filter);
        }
        found.extend(self.analytics.exprs());
        if let Some(grouping) = &self.grouping {
            found.extend(&grouping.keys);
            found.extend(grouping.aggregates.iter().flat_map(Aggregate::exprs));
        }
        found.extend(self.select.iter().chain(&self.having));
        found.extend(self.order_by.iter().map(|key| &key.expr));
        if let Target::Table { write, .. } = &self.target {
            write.exprs(&mut found);
        }
        found
    }

    /// Whether an expression of it asks a table (`x IN table`).
    #[must_use]
    pub fn asks_tables(&self) -> bool {
        let mut asks = false;
        for expr in self.exprs() {
            expr.walk(&mut |expr| asks |= matches!(expr.kind, ExprKind::InTable(..)));
        }
        asks
    }

    /// The tables and aggregations that it reads or writes, each as often as it does so.
    #[must_use]
    pub fn stores(&self) -> Vec<(Store, Access)> {
        let mut found = Vec::new();
        for expr in self.exprs() {
            expr.walk(&mut |expr| {
                if let ExprKind::InTable(_, table, _) = expr.kind {
                    found.push((Store::Table(table), Access::Reads));
                }
            });
        }
        if let Input::Join(input) = &self.input {
            input.join.stores(&mut found);
        }
        if let Target::Table { table, .. } = self.target {
            found.push((Store::Table(table), Access::Writes));
        }
        found
    }

    /// A number that is the same for queries that mean the same, in every process and version, so
    /// that state finds its query again (CRC-32C over the plan's written form, twice).
    #[must_use]
    pub fn fingerprint(&self, application: &Application) -> u64 {
        let domains = Domains::new(application);
        let mut text = super::explain::fingerprint_text(self, application);
        text.push_str(&domains.written(domains.of_query(self), application));
        fingerprint(&text)
    }
}

/// A number for a text: CRC-32C over it, twice.
fn fingerprint(text: &str) -> u64 {
    let low = crc32c::crc32c(text.as_bytes());
    let high = crc32c::crc32c_append(low ^ 0x9E37_79B9, text.as_bytes());
    (u64::from(high) << 32) | u64::from(low)
}

impl StreamInput {
    /// Whether rows that have come in leave again.
    #[must_use]
    pub fn forgets(&self) -> bool {
        self.window.as_ref().is_some_and(Window::rows_leave)
    }
}

/// What becomes of the rows that a query reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// They come and never leave.
    Endless,
    /// They come and leave one by one.
    Sliding,
    /// They are seen when a batch of them is complete.
    Batch,
}

/// When output rows reach the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Which of a period's rows.
    pub keep: Keep,
    /// How long a period is.
    pub period: Period,
}

/// Which rows of an output period pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All, at its end.
    All,
    /// The first one (of each group), at once.
    First,
    /// The last one (of each group), at its end.
    Last,
    /// At its end, the rows that make up the result then.
    Snapshot,
}

/// The length of an output period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// So many output rows.
    Events(u64),
    /// So many milliseconds.
    Time(i64),
}

/// Which rows of a window reach the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Rows as they arrive.
    Current,
    /// Rows as they leave the window.
    Expired,
    /// Both.
    All,
}

/// What a query reads.
#[derive(Clone, Debug)]
pub enum Input {
    /// One stream.
    Stream(StreamInput),
    /// Two sides or more.
    Join(Box<JoinInput>),
    /// Rows that belong together.
    Pattern(Box<PatternInput>),
}

impl Input {
    /// Columns of the row that is kept of it.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Input::Stream(input) => input.keep.len(),
            Input::Join(input) => input.join.width(),
            Input::Pattern(input) => input.pattern.registers.len(),
        }
    }

    /// Every stream that is read, each as often as it is, but once by a pattern; in the order in
    /// which they were written.
    #[must_use]
    pub fn streams(&self) -> Vec<&StreamInput> {
        fn of<'a>(side: &'a Side, found: &mut Vec<&'a StreamInput>) {
            match &side.source {
                Source::Stream(input) => found.push(input),
                Source::Table { .. } | Source::Aggregation { .. } => {}
                Source::Join(join) => of_join(join, found),
            }
        }
        fn of_join<'a>(join: &'a Join, found: &mut Vec<&'a StreamInput>) {
            of(&join.left, found);
            of(&join.right, found);
        }
        let mut found = Vec::new();
        match self {
            Input::Stream(input) => found.push(input),
            Input::Join(input) => of_join(&input.join, &mut found),
            Input::Pattern(input) => found.extend(&input.pattern.inputs),
        }
        found
    }
}

/// A join and what is left of it.
#[derive(Clone, Debug)]
pub struct JoinInput {
    /// The sides.
    pub join: Join,
    /// WHERE, over the joined row, as far as it is not checked earlier.
    pub filter: Option<Expr>,
}

/// One stream, filtered, through a window.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamInput {
    /// Which stream.
    pub stream: StreamId,
    /// Keeps the rows for which it is true; over the stream's row, before the window.
    pub filter: Option<Expr>,
    /// The window, if any.
    pub window: Option<Window>,
    /// Keeps the rows that have come through the window for which it is true; over the kept
    /// columns. For named windows, whose content does not depend on who reads it.
    pub behind: Option<Expr>,
    /// The stream's columns that anything behind the filter reads, ascending. Expressions behind
    /// the filter see a row of just these.
    pub keep: Vec<usize>,
}

/// GROUP BY and the aggregates over each group.
///
/// Behind a grouping, expressions see the *group row*: first the keys, then the results of the
/// aggregates, then the columns of `carried` from the row that came last.
#[derive(Clone, Debug)]
pub struct Grouping {
    /// What is equal within a group; over the input row. None: all rows are one group.
    pub keys: Vec<Expr>,
    /// What is computed per group.
    pub aggregates: Vec<Aggregate>,
    /// Columns of the input row that are neither keys nor aggregated but read all the same.
    pub carried: Vec<usize>,
}

/// One aggregate call.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Which function.
    pub function: AggregateFunction,
    /// Over what; none for `count(*)`. Over the input row.
    pub arguments: Vec<Expr>,
    /// The constant that some functions take: a part, a number, a separator.
    pub parameter: Option<Value>,
    /// Equal values count once.
    pub distinct: bool,
    /// FILTER: rows for which it is not true do not count. Over the input row.
    pub filter: Option<Expr>,
    /// The type of the result.
    pub ty: Type,
}

impl Aggregate {
    /// Every expression over the input row.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.arguments.iter().chain(&self.filter)
    }

    /// Every expression over the input row.
    pub fn exprs_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        self.arguments.iter_mut().chain(&mut self.filter)
    }

    /// Whether it keeps every different value, so that without a window it grows for ever.
    #[must_use]
    pub fn grows(&self) -> bool {
        use AggregateFunction as F;
        self.distinct && self.function != F::StringAgg
            || matches!(self.function, F::Percentile | F::Mode | F::TopK)
    }
}

/// One key of ORDER BY.
#[derive(Clone, Debug, PartialEq)]
pub struct SortKey {
    /// Over the same row as `select`.
    pub expr: Expr,
    /// Largest first.
    pub descending: bool,
    /// Where NULL goes.
    pub nulls_first: bool,
}

/// An expression with its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What to compute.
    pub kind: ExprKind,
    /// What comes out, if it is not NULL.
    pub ty: Type,
}

/// The forms of an expression. Operands of arithmetic and comparison have been widened to the
/// same type.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// A column of the row, by its place.
    Column(usize),
    /// A constant.
    Literal(Value),
    /// The result of the grouping's aggregate with this number; only while binding, then it
    /// becomes a column of the group row.
    Aggregate(usize),
    /// `-x`.
    Negate(Box<Expr>),
    /// `NOT x`.
    Not(Box<Expr>),
    /// `+ - * / %` in the type of the expression.
    Arithmetic(ArithmeticOp, Box<Expr>, Box<Expr>),
    /// `= <> < <= > >=` between two values of one type.
    Compare(CompareOp, Box<Expr>, Box<Expr>),
    /// `x AND y`.
    And(Box<Expr>, Box<Expr>),
    /// `x OR y`.
    Or(Box<Expr>, Box<Expr>),
    /// `x IS NULL`.
    IsNull(Box<Expr>),
    /// `x IS TRUE` / `x IS FALSE`.
    IsTruth(bool, Box<Expr>),
    /// `x IS NOT DISTINCT FROM y`: equal, or both NULL.
    SameAs(Box<Expr>, Box<Expr>),
    /// `x IN (y, …)`, all of one type.
    InList(Box<Expr>, Vec<Expr>),
    /// `x IN table`: whether the table, of that name, has a row whose key is `x`.
    InTable(Box<Expr>, TableId, Arc<str>),
    /// `x BETWEEN low AND high`, all of one type.
    Between(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `x LIKE pattern`.
    Like {
        /// The text.
        text: Box<Expr>,
        /// The pattern: `%` any characters, `_` one.
        pattern: Box<Expr>,
        /// What takes the next character literally.
        escape: Option<char>,
        /// ILIKE.
        ignore_case: bool,
    },
    /// The first branch whose condition is true; else the last; else NULL.
    Case {
        /// Conditions and results.
        branches: Vec<(Expr, Expr)>,
        /// ELSE.
        otherwise: Option<Box<Expr>>,
    },
    /// `CASE x WHEN y THEN …`: the first branch whose value equals the operand; else the last; else
    /// NULL. Operand and values are of one type.
    Switch {
        /// What is compared.
        operand: Box<Expr>,
        /// Values and results.
        branches: Vec<(Expr, Expr)>,
        /// ELSE.
        otherwise: Option<Box<Expr>>,
    },
    /// To the expression's type: an explicit CAST, or a widening.
    Cast(Box<Expr>),
    /// A scalar function.
    Call(&'static Function, Vec<Expr>),
}

/// Arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArithmeticOp {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`, always DOUBLE
    Divide,
    /// `%`, with the sign of the dividend
    Remainder,
}

/// Comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Expr {
    /// The constant NULL; it takes whatever type is needed.
    #[must_use]
    pub fn null() -> Expr {
        Expr {
            kind: ExprKind::Literal(Value::Null),
            ty: Type::Bool,
        }
    }

    /// Whether this is the constant NULL.
    #[must_use]
    pub fn is_null_literal(&self) -> bool {
        matches!(self.kind, ExprKind::Literal(Value::Null))
    }

    /// Every direct operand, for walks over a tree.
    pub fn operands_mut(&mut self) -> Vec<&mut Expr> {
        match &mut self.kind {
            ExprKind::Column(_) | ExprKind::Literal(_) | ExprKind::Aggregate(_) => Vec::new(),
            ExprKind::Negate(x)
            | ExprKind::Not(x)
            | ExprKind::IsNull(x)
            | ExprKind::IsTruth(_, x)
            | ExprKind::InTable(x, ..)
            | ExprKind::Cast(x) => vec![x],
            ExprKind::Arithmetic(_, x, y)
            | ExprKind::Compare(_, x, y)
            | ExprKind::And(x, y)
            | ExprKind::Or(x, y)
            | ExprKind::SameAs(x, y) => vec![x, y],
            ExprKind::InList(x, list) => std::iter::once(&mut **x).chain(list).collect(),
            ExprKind::Between(x, low, high) => vec![x, low, high],
            ExprKind::Like { text, pattern, .. } => vec![text, pattern],
            ExprKind::Switch {
                operand,
                branches,
                otherwise,
            } => std::iter::once(&mut **operand)
                .chain(branches.iter_mut().flat_map(|(value, then)| [value, then]))
                .chain(otherwise.as_deref_mut())
                .collect(),
            ExprKind::Case {
                branches,
                otherwise,
            } => branches
                .iter_mut()
                .flat_map(|(condition, result)| [condition, result])
                .chain(otherwise.as_deref_mut())
                .collect(),
            ExprKind::Call(_, arguments) => arguments.iter_mut().collect(),
        }
    }

    /// Every direct operand.
    #[must_use]
    pub fn operands(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Column(_) | ExprKind::Literal(_) | ExprKind::Aggregate(_) => Vec::new(),
            ExprKind::Negate(x)
            | ExprKind::Not(x)
            | ExprKind::IsNull(x)
            | ExprKind::IsTruth(_, x)
            | ExprKind::InTable(x, ..)
            | ExprKind::Cast(x) => vec![x],
            ExprKind::Arithmetic(_, x, y)
            | ExprKind::Compare(_, x, y)
            | ExprKind::And(x, y)
            | ExprKind::Or(x, y)
            | ExprKind::SameAs(x, y) => vec![x, y],
            ExprKind::InList(x, list) => std::iter::once(&**x).chain(list).collect(),
            ExprKind::Between(x, low, high) => vec![x, low, high],
            ExprKind::Switch {
                operand,
                branches,
                otherwise,
            } => std::iter::once(&**operand)
                .chain(branches.iter().flat_map(|(value, result)| [value, result]))
                .chain(otherwise.as_deref())
                .collect(),
            ExprKind::Like { text, pattern, .. } => vec![text, pattern],
            ExprKind::Case {
                branches,
                otherwise,
            } => branches
                .iter()
                .flat_map(|(condition, result)| [condition, result])
                .chain(otherwise.as_deref())
                .collect(),
            ExprKind::Call(_, arguments) => arguments.iter().collect(),
        }
    }

    /// Calls `visit` with it and everything in it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Expr)) {
        visit(self);
        for operand in self.operands() {
            operand.walk(visit);
        }
    }

    /// Whether it gives the same for the same row at any time, as often as it is asked.
    pub fn is_steady(&mut self) -> bool {
        let moving = match &self.kind {
            ExprKind::Call(function, _) => function.reads != Reads::Arguments,
            ExprKind::InTable(..) => true,
            _ => false,
        };
        !moving && self.operands_mut().into_iter().all(Expr::is_steady)
    }

    /// Calls `visit` with the number of every column read.
    pub fn for_each_column(&mut self, visit: &mut dyn FnMut(&mut usize)) {
        if let ExprKind::Column(index) = &mut self.kind {
            visit(index);
        }
        for operand in self.operands_mut() {
            operand.for_each_column(visit);
        }
    }
}
