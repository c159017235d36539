//! Statements as they were written: names and expressions not yet looked up.
//!
//! Expressions and select items are those of `sqlparser`; everything around them is ours.

use sqlparser::ast::{Expr, SelectItem};

use super::plan::{Bucket, Emit, JoinKind, Keep, PatternKind, Skip, TriggerAt, Within};
use crate::diagnostic::Place;
use crate::event::Type;

/// A name and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// `'name' = 'value'`.
pub(crate) type Properties = Vec<(Name, Name)>;

/// One statement.
#[derive(Clone, Debug)]
pub(crate) enum Statement {
    CreateStream(CreateStream),
    CreateTable(CreateTable),
    CreateWindow(CreateWindow),
    CreateTrigger(CreateTrigger),
    CreateAggregation(Box<CreateAggregation>),
    Query(Box<Query>),
    Partition(Partition),
    /// One that is not understood and would have defined this.
    Lost(String),
}

/// `CREATE STREAM name (columns) WITH (properties)`.
#[derive(Clone, Debug)]
pub(crate) struct CreateStream {
    pub(crate) name: Name,
    pub(crate) columns: Vec<(Name, Type)>,
    pub(crate) properties: Properties,
}

/// `CREATE TABLE name (columns, PRIMARY KEY (…)) WITH (properties)`.
#[derive(Clone, Debug)]
pub(crate) struct CreateTable {
    pub(crate) name: Name,
    pub(crate) columns: Vec<(Name, Type)>,
    pub(crate) primary_key: Vec<Name>,
    pub(crate) properties: Properties,
}

/// `CREATE WINDOW name (columns) WINDOW(…)`.
#[derive(Clone, Debug)]
pub(crate) struct CreateWindow {
    pub(crate) name: Name,
    pub(crate) columns: Vec<(Name, Type)>,
    pub(crate) window: WindowCall,
}

/// `CREATE TRIGGER name AT …`.
#[derive(Clone, Debug)]
pub(crate) struct CreateTrigger {
    pub(crate) name: Name,
    pub(crate) at: TriggerAt,
}

/// `CREATE AGGREGATION name AS SELECT … AGGREGATE BY … EVERY …`.
#[derive(Clone, Debug)]
pub(crate) struct CreateAggregation {
    pub(crate) name: Name,
    pub(crate) properties: Properties,
    pub(crate) select: Select,
    pub(crate) by: Option<Expr>,
    pub(crate) every: Vec<(Bucket, Place)>,
}

/// `PARTITION WITH (…) BEGIN … END`.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    pub(crate) keys: Vec<PartitionKey>,
    pub(crate) properties: Properties,
    pub(crate) queries: Vec<Query>,
    pub(crate) place: Place,
}

/// `expr OF stream`, or `condition AS 'label' OR … OF stream`.
#[derive(Clone, Debug)]
pub(crate) struct PartitionKey {
    pub(crate) stream: Name,
    pub(crate) key: KeyForm,
}

/// The forms of a partition's key.
#[derive(Clone, Debug)]
pub(crate) enum KeyForm {
    Value(Box<Expr>),
    Ranges(Vec<(Expr, Name)>),
}

/// A statement that moves rows, whichever way round it was written.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) into: Into,
    pub(crate) with: Vec<(Name, Select)>,
    pub(crate) select: Select,
    pub(crate) properties: Properties,
    /// Where the statement begins.
    pub(crate) place: Place,
}

/// What happens to the rows.
#[derive(Clone, Debug)]
pub(crate) struct Into {
    pub(crate) target: Name,
    pub(crate) kind: IntoKind,
}

/// The ways to give rows to a stream or table.
#[derive(Clone, Debug)]
pub(crate) enum IntoKind {
    Insert(Emit),
    Upsert(Option<Box<Expr>>),
    /// WHERE is that of the select.
    Update(Vec<(Name, Expr)>),
    /// WHERE is that of the select.
    Delete,
}

/// `SELECT … FROM …` with its clauses.
#[derive(Clone, Debug)]
pub(crate) struct Select {
    pub(crate) distinct: bool,
    pub(crate) items: Vec<SelectItem>,
    pub(crate) from: From,
    pub(crate) filter: Option<Expr>,
    pub(crate) partition_by: Vec<Expr>,
    pub(crate) group_by: Vec<Expr>,
    pub(crate) having: Option<Expr>,
    pub(crate) order_by: Vec<OrderBy>,
    pub(crate) limit: Option<u64>,
    pub(crate) offset: Option<u64>,
    pub(crate) output: Option<Output>,
    /// Where it begins.
    pub(crate) place: Place,
}

impl Select {
    /// A select that is still without items and clauses.
    pub(crate) fn new(from: From, place: Place) -> Select {
        Select {
            distinct: false,
            items: Vec::new(),
            from,
            filter: None,
            partition_by: Vec::new(),
            group_by: Vec::new(),
            having: None,
            order_by: Vec::new(),
            limit: None,
            offset: None,
            output: None,
            place,
        }
    }
}

/// `OUTPUT …`.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) keep: Keep,
    pub(crate) every: Every,
    pub(crate) place: Place,
}

/// How long an output period is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Every {
    Events(u64),
    SpanMs(i64),
}

/// What stands behind FROM.
#[derive(Clone, Debug)]
pub(crate) enum From {
    One(Source),
    Join(Box<Join>),
    Pattern(Box<Pattern>),
}

impl From {
    /// Every source of a join, in the order in which they were written; a pattern has elements
    /// instead.
    pub(crate) fn sources(&self) -> Vec<&Source> {
        match self {
            From::One(source) => vec![source],
            From::Pattern(_) => Vec::new(),
            From::Join(join) => {
                let mut all = join.left.sources();
                all.push(&join.right);
                all
            }
        }
    }
}

/// `… JOIN source ON …`.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) left: From,
    pub(crate) kind: JoinKind,
    pub(crate) right: Source,
    pub(crate) on: Option<Expr>,
    /// `WITHIN start, end`.
    pub(crate) within: Option<(Expr, Expr)>,
    /// `PER 'duration'`.
    pub(crate) per: Option<Name>,
    /// Where JOIN stands.
    pub(crate) place: Place,
}

/// `PATTERN (…)` or `SEQUENCE (…)`.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) kind: PatternKind,
    pub(crate) root: PatternNode,
    pub(crate) within: Option<(Within, Place)>,
    pub(crate) skip: Option<(Skip, Place)>,
    /// ORDER BY of MATCH_RECOGNIZE: must be the time of the stream.
    pub(crate) order_by: Option<Expr>,
    /// Where it begins.
    pub(crate) place: Place,
}

/// A piece of a pattern and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct PatternNode {
    pub(crate) what: PatternWhat,
    pub(crate) place: Place,
}

/// The pieces of a pattern.
#[derive(Clone, Debug)]
pub(crate) enum PatternWhat {
    /// Rows of a stream.
    Element(PatternElement),
    /// `NOT element [FOR span]`; the span in milliseconds. The element has no quantifier.
    Absent(PatternElement, Option<i64>),
    /// `a -> b -> c`; at least two.
    Chain(Vec<PatternNode>),
    /// `a AND b AND c`; at least two.
    All(Vec<PatternNode>),
    /// `a OR b OR c`; at least two.
    Any(Vec<PatternNode>),
    /// `EVERY x`.
    Every(Box<PatternNode>),
}

/// `alias=stream[condition]{quantifier}`.
#[derive(Clone, Debug)]
pub(crate) struct PatternElement {
    pub(crate) stream: Name,
    pub(crate) alias: Option<Name>,
    pub(crate) condition: Option<Expr>,
    pub(crate) quantifier: Option<Quantifier>,
}

/// `{min,max}`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantifier {
    pub(crate) min: u64,
    pub(crate) max: Option<u64>,
    pub(crate) place: Place,
}

/// `stream [WINDOW(…)] [AS alias] [UNIDIRECTIONAL]`.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) what: What,
    pub(crate) alias: Option<Name>,
    pub(crate) window: Option<WindowCall>,
    pub(crate) unidirectional: bool,
}

/// What is read.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A stream, table, window or aggregation.
    Named(Name),
    /// `(SELECT …)`.
    Subquery(Box<Select>),
}

/// `WINDOW('kind', arguments…)`.
#[derive(Clone, Debug)]
pub(crate) struct WindowCall {
    pub(crate) kind: Name,
    pub(crate) arguments: Vec<WindowArgument>,
}

/// An argument of a window: a span of time, or an expression.
#[derive(Clone, Debug)]
pub(crate) struct WindowArgument {
    pub(crate) value: WindowValue,
    pub(crate) place: Place,
}

/// The forms of a window's argument.
#[derive(Clone, Debug)]
pub(crate) enum WindowValue {
    /// A span with a unit, in milliseconds.
    Span(i64),
    /// A bare whole number: rows, or milliseconds where a span is expected.
    Number(i64),
    /// Anything else.
    Expr(Box<Expr>),
}

/// One key of ORDER BY.
#[derive(Clone, Debug)]
pub(crate) struct OrderBy {
    pub(crate) expr: Expr,
    pub(crate) descending: bool,
    pub(crate) nulls_first: Option<bool>,
}
