//! The plan as text: for people, and for fingerprints.

mod window;

use std::fmt::Write as _;

use super::plan::{Aggregate, Expr, Grouping, Input, Query, Role, Stream};
use super::plan::{
    Application, ArithmeticOp, CompareOp, ExprKind, PartitionKey, SortKey, StreamId,
};
use crate::event::Value;
use window::show_window;

/// The whole plan as an indented tree with types.
#[must_use]
pub fn explain(application: &Application) -> String {
    let mut out = String::new();
    for stream in &application.streams {
        let role = match stream.role {
            Role::Internal => "internal".to_owned(),
            Role::Source => format!("from {}", stream.connector.as_deref().unwrap_or("?")),
            Role::Sink => format!("to {}", stream.connector.as_deref().unwrap_or("?")),
        };
        let _ = writeln!(out, "stream {} ({}) {role}", stream.name, stream.schema);
    }
    for (number, query) in application.queries.iter().enumerate() {
        let target = application.target_name(query);
        let place = query.place;
        let _ = writeln!(
            out,
            "query {number} → {target}   {}:{}",
            query.path, place.line
        );
        out.push_str(&tree(query, &application.streams));
    }
    out
}

/// The written form from which [`Query::fingerprint`] is made: the same tree without places.
pub(super) fn fingerprint_text(query: &Query, application: &Application) -> String {
    let streams = &application.streams;
    let schemas: Vec<String> = query
        .input
        .streams()
        .into_iter()
        .filter_map(|input| Some(streams.get(input.stream.0)?.schema.to_string()))
        .collect();
    let target = application.target_name(query);
    let schemas = schemas.join("\nover ");
    format!("into {target}\n{}over {schemas}", tree(query, streams))
}

/// How the rows of a stream find their keys in a partition.
pub(super) fn key(application: &Application, stream: StreamId, key: &PartitionKey) -> String {
    let Some(stream) = application.stream(stream) else {
        return String::new();
    };
    let columns: Vec<String> = stream
        .schema
        .fields()
        .iter()
        .map(|field| field.name.clone())
        .collect();
    let shown: Vec<String> = match key {
        PartitionKey::Values(exprs) => exprs.iter().map(|expr| show(expr, &columns)).collect(),
        PartitionKey::Ranges(ranges) => ranges
            .iter()
            .map(|(condition, label)| format!("{} AS '{label}'", show(condition, &columns)))
            .collect(),
    };
    format!("[{}] of {}", shown.join(", "), stream.name)
}

/// From the output down to the input, one operator a line.
fn tree(query: &Query, streams: &[Stream]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let Input::Stream(input) = &query.input else {
        return String::new();
    };
    let source = streams.get(input.stream.0);
    let columns: Vec<String> = source
        .map(|stream| {
            stream
                .schema
                .fields()
                .iter()
                .map(|field| field.name.clone())
                .collect()
        })
        .unwrap_or_default();
    let kept: Vec<String> = input
        .keep
        .iter()
        .filter_map(|index| columns.get(*index).cloned())
        .collect();
    let row = query
        .grouping
        .as_ref()
        .map_or_else(|| kept.clone(), |g| group_row(g, &kept));

    let select = query.names.iter().zip(&query.select);
    let select: Vec<String> = select
        .map(|(name, expr)| format!("{} AS {name} {}", show(expr, &row), expr.ty))
        .collect();
    lines.push(format!("select {}", select.join(", ")));
    if query.limit.is_some() || query.offset > 0 {
        let limit = query
            .limit
            .map_or("all".to_owned(), |limit| limit.to_string());
        lines.push(format!("limit {limit} offset {}", query.offset));
    }
    if !query.order_by.is_empty() {
        let keys: Vec<String> = query
            .order_by
            .iter()
            .map(|key| show_key(key, &row))
            .collect();
        lines.push(format!("order by {}", keys.join(", ")));
    }
    if let Some(having) = &query.having {
        lines.push(format!("having {}", show(having, &row)));
    }
    if let Some(grouping) = &query.grouping {
        lines.push(show_grouping(grouping, &kept));
    }
    if let Some(window) = &input.window {
        lines.push(show_window(window, query.emit, &kept));
    }
    if let Some(filter) = &input.filter {
        lines.push(format!("where {}", show(filter, &columns)));
    }
    lines.push(format!(
        "from {}",
        source.map_or("?", |stream| stream.name.as_str())
    ));

    let mut out = String::new();
    for (depth, line) in lines.iter().enumerate() {
        let _ = writeln!(out, "  {}{line}", "  ".repeat(depth));
    }
    out
}

fn show_key(key: &SortKey, row: &[String]) -> String {
    let direction = if key.descending { "desc" } else { "asc" };
    let nulls = if key.nulls_first { "first" } else { "last" };
    format!("{} {direction} nulls {nulls}", show(&key.expr, row))
}

fn show_grouping(grouping: &Grouping, kept: &[String]) -> String {
    let keys: Vec<String> = grouping.keys.iter().map(|key| show(key, kept)).collect();
    let aggregates: Vec<String> = grouping
        .aggregates
        .iter()
        .map(|aggregate| show_aggregate(aggregate, kept))
        .collect();
    format!(
        "aggregate [{}] by [{}]",
        aggregates.join(", "),
        keys.join(", ")
    )
}

/// What the columns of the group row are called.
fn group_row(grouping: &Grouping, kept: &[String]) -> Vec<String> {
    let keys = grouping.keys.iter().map(|key| show(key, kept));
    let aggregates = grouping
        .aggregates
        .iter()
        .map(|one| show_aggregate(one, kept));
    let carried = grouping
        .carried
        .iter()
        .map(|index| format!("last {}", kept.get(*index).map_or("?", String::as_str)));
    keys.chain(aggregates).chain(carried).collect()
}

fn show_aggregate(aggregate: &Aggregate, row: &[String]) -> String {
    let name = format!("{:?}", aggregate.function).to_lowercase();
    let distinct = if aggregate.distinct { "distinct " } else { "" };
    let arguments = match aggregate.arguments.as_slice() {
        [] => "*".to_owned(),
        arguments => join(arguments, row),
    };
    let parameter = match &aggregate.parameter {
        Some(Value::Str(text)) => format!(", {}", quoted(text)),
        Some(value) => format!(", {}", functions_text(value)),
        None => String::new(),
    };
    let filter = aggregate
        .filter
        .as_ref()
        .map(|filter| format!(" filter {}", show(filter, row)));
    let filter = filter.unwrap_or_default();
    format!("{name}({distinct}{arguments}{parameter}){filter}")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn show(expr: &Expr, row: &[String]) -> String {
    let sub = |expr: &Expr| show(expr, row);
    match &expr.kind {
        ExprKind::Column(index) => row
            .get(*index)
            .cloned()
            .unwrap_or_else(|| format!("#{index}")),
        ExprKind::Literal(Value::Str(text)) => quoted(text),
        ExprKind::Literal(value) => functions_text(value),
        ExprKind::Aggregate(index) => format!("aggregate {index}"),
        ExprKind::Negate(x) => format!("-{}", sub(x)),
        ExprKind::Not(x) => format!("NOT {}", sub(x)),
        ExprKind::Arithmetic(op, x, y) => {
            let op = match op {
                ArithmeticOp::Add => "+",
                ArithmeticOp::Subtract => "-",
                ArithmeticOp::Multiply => "*",
                ArithmeticOp::Divide => "/",
                ArithmeticOp::Remainder => "%",
            };
            format!("({} {op} {})", sub(x), sub(y))
        }
        ExprKind::Compare(op, x, y) => {
            let op = match op {
                CompareOp::Equal => "=",
                CompareOp::NotEqual => "<>",
                CompareOp::Less => "<",
                CompareOp::LessOrEqual => "<=",
                CompareOp::Greater => ">",
                CompareOp::GreaterOrEqual => ">=",
            };
            format!("({} {op} {})", sub(x), sub(y))
        }
        ExprKind::And(x, y) => format!("({} AND {})", sub(x), sub(y)),
        ExprKind::Or(x, y) => format!("({} OR {})", sub(x), sub(y)),
        ExprKind::IsNull(x) => format!("{} IS NULL", sub(x)),
        ExprKind::IsTruth(truth, x) => format!("{} IS {truth}", sub(x)),
        ExprKind::SameAs(x, y) => format!("({} IS NOT DISTINCT FROM {})", sub(x), sub(y)),
        ExprKind::InList(x, list) => format!("{} IN ({})", sub(x), join(list, row)),
        ExprKind::InTable(x, table) => format!("{} IN table {}", sub(x), table.0),
        ExprKind::Like {
            text,
            pattern,
            escape,
            ignore_case,
        } => {
            let word = if *ignore_case { "ILIKE" } else { "LIKE" };
            let escape = escape.map(|c| format!(" ESCAPE '{c}'")).unwrap_or_default();
            format!("{} {word} {}{escape}", sub(text), sub(pattern))
        }
        ExprKind::Case {
            branches,
            otherwise,
        } => {
            let mut out = "CASE".to_owned();
            for (condition, result) in branches {
                let _ = write!(out, " WHEN {} THEN {}", sub(condition), sub(result));
            }
            if let Some(otherwise) = otherwise {
                let _ = write!(out, " ELSE {}", sub(otherwise));
            }
            out + " END"
        }
        ExprKind::Cast(x) => format!("CAST({} AS {})", sub(x), expr.ty),
        ExprKind::Call(function, arguments) => {
            let name = function.names.first().copied().unwrap_or_default();
            format!("{name}({})", join(arguments, row))
        }
    }
}

fn join(exprs: &[Expr], row: &[String]) -> String {
    exprs
        .iter()
        .map(|expr| show(expr, row))
        .collect::<Vec<_>>()
        .join(", ")
}

fn functions_text(value: &Value) -> String {
    super::functions::to_text(value).map_or("NULL".to_owned(), |text| text.to_string())
}
