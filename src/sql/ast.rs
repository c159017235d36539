//! Statements as they were written: names and expressions not yet looked up.
//!
//! Expressions and select items are those of `sqlparser`; everything around them is ours.

use sqlparser::ast::{Expr, SelectItem};

use super::plan::Emit;
use crate::diagnostic::Place;
use crate::event::Type;

/// A name and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) place: Place,
}

/// One statement.
#[derive(Clone, Debug)]
pub(crate) enum Statement {
    CreateStream(CreateStream),
    Query(Box<Query>),
}

/// `CREATE STREAM name (columns) WITH (properties)`.
#[derive(Clone, Debug)]
pub(crate) struct CreateStream {
    pub(crate) name: Name,
    pub(crate) columns: Vec<(Name, Type)>,
    pub(crate) properties: Vec<(Name, Name)>,
}

/// `INSERT … INTO target SELECT … FROM …`, whichever way round it was written.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) emit: Emit,
    pub(crate) target: Name,
    pub(crate) select: Vec<SelectItem>,
    pub(crate) from: From,
    pub(crate) filter: Option<Expr>,
    pub(crate) group_by: Vec<Expr>,
    pub(crate) having: Option<Expr>,
    pub(crate) order_by: Vec<OrderBy>,
    pub(crate) limit: Option<u64>,
    pub(crate) offset: Option<u64>,
    /// Where the statement begins.
    pub(crate) place: Place,
}

/// `stream [WINDOW(…)] [AS alias]`.
#[derive(Clone, Debug)]
pub(crate) struct From {
    pub(crate) stream: Name,
    pub(crate) alias: Option<Name>,
    pub(crate) window: Option<WindowCall>,
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
    /// Anything else, as it was written.
    Other(String),
}

/// One key of ORDER BY.
#[derive(Clone, Debug)]
pub(crate) struct OrderBy {
    pub(crate) expr: Expr,
    pub(crate) descending: bool,
    pub(crate) nulls_first: Option<bool>,
}
