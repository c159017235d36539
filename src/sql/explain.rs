//! The plan as text: for people, and for fingerprints.

mod aggregation;
mod analytic;
mod dot;
mod lookup;
mod memory;
mod pattern;
#[cfg(test)]
mod pattern_tests;
#[cfg(test)]
mod tests;
mod warnings;
mod window;

use std::collections::BTreeSet;
use std::fmt::Write as _;

pub(super) use aggregation::aggregation_text;
use analytic::{show_analytics, wide_row};
pub use dot::dot;
pub use memory::kept;
pub use warnings::warnings;

use super::functions::{Function, Reads};
use super::plan::{
    Aggregate, Application, ArithmeticOp, CompareOp, Domains, Emit, Expr, ExprKind, Grouping,
    Input, Join, Match, PartitionKey, Period, Query, Rate, Role, Side, SortKey, Source, Store,
    StreamId, StreamInput, Table, TableId, Target, Write,
};
use crate::event::{Schema, Type, Value, format_duration_ms, to_base64};
use aggregation::aggregation_tree;
use pattern::show_pattern;
use window::show_window;

/// The whole plan as an indented tree with types, and what it may grow to.
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
        if let Some(time) = stream.time() {
            let _ = writeln!(out, "  {time}");
        }
        if let Some(letters) = stream.dead_letters {
            let to = stream_name(application, letters.stream);
            let rejected = if letters.rejected {
                ", undecodable input too"
            } else {
                ""
            };
            let _ = writeln!(out, "  dead letters to {to}{rejected}");
        }
    }
    out.push_str(&show_domains(application));
    for table in &application.tables {
        let _ = writeln!(out, "{}", show_table(table, application));
    }
    for trigger in &application.triggers {
        let name = stream_name(application, trigger.stream);
        let _ = writeln!(out, "trigger {name} at {:?}", trigger.at);
    }
    for one in &application.aggregations {
        let (schema, line) = (&one.schema, one.place.line);
        let _ = writeln!(
            out,
            "aggregation {} ({schema})   {}:{line}",
            one.name, one.path
        );
        out.push_str(&aggregation_tree(one, application, true));
    }
    for (number, partition) in application.partitions.iter().enumerate() {
        let keys = partition.keys.iter();
        let keys: Vec<String> = keys.map(|(id, one)| key(application, *id, one)).collect();
        let idle = partition
            .idle_ms
            .map_or("never".to_owned(), format_duration_ms);
        let keys = keys.join(", ");
        let _ = writeln!(
            out,
            "partition {number} by {keys}, forgets idle keys after {idle}"
        );
    }
    let shared = application.shared_feeds();
    for number in 0..application.queries.len() {
        out.push_str(&show_query(number, &shared, application));
    }
    for warning in warnings(application) {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

/// The same of one query; none when there is none with this number.
#[must_use]
pub fn explain_query(application: &Application, number: usize) -> Option<String> {
    application.queries.get(number)?;
    Some(show_query(number, &application.shared_feeds(), application))
}

/// A query's tree, and what else there is to know of it.
fn show_query(number: usize, shared: &[Option<usize>], application: &Application) -> String {
    let Some(query) = application.queries.get(number) else {
        return String::new();
    };
    let target = application.target_name(query);
    let inside = query
        .partition
        .map(|partition| format!(" per key of partition {partition}"))
        .unwrap_or_default();
    let (path, line) = (&query.path, query.place.line);
    let mut out = format!("query {number} → {target}{inside}   {path}:{line}\n");
    out.push_str(&tree(query, application));
    let first = shared.get(number).copied().flatten();
    let shares = first.map(|first| show_sharing(first, number, shared, query));
    let keeps = kept(query, application).into_iter();
    let keeps = keeps.map(|kept| format!("keeps {kept}"));
    let lookups = lookup::lookups(query, application);
    let names = pattern::names(query, application).into_iter();
    for note in names.chain(shares).chain(lookups).chain(keeps) {
        let _ = writeln!(out, "  {note}");
    }
    out
}

/// With which queries one shares what feeds it.
fn show_sharing(first: usize, number: usize, shared: &[Option<usize>], query: &Query) -> String {
    let others = shared.iter().enumerate();
    let others = others.filter(|(other, of)| **of == Some(first) && *other != number);
    let others: Vec<String> = others.map(|(other, _)| other.to_string()).collect();
    let queries = if others.len() == 1 {
        "query"
    } else {
        "queries"
    };
    let windowed = query
        .input
        .streams()
        .iter()
        .any(|input| input.window.is_some());
    let what = if windowed { "window" } else { "filter" };
    format!("shares the {what} with {queries} {}", others.join(", "))
}

/// The streams that follow a clock of their own.
fn show_domains(application: &Application) -> String {
    let domains = Domains::new(application);
    let mut out = String::new();
    for domain in 1..domains.count() {
        let names = |all: &mut dyn Iterator<Item = StreamId>| -> String {
            let names: Vec<&str> = all.map(|id| stream_name(application, id)).collect();
            names.join(", ")
        };
        let all = (0..application.streams.len()).map(StreamId);
        let all = names(&mut all.filter(|id| domains.of(*id) == domain));
        let timed = names(&mut domains.timed(domain).iter().copied());
        let _ = writeln!(out, "clock {domain} for {all} by the time of {timed}");
    }
    out
}

fn show_table(table: &Table, application: &Application) -> String {
    let columns = |columns: &[usize]| {
        let fields = table.schema.fields();
        let names = columns.iter().filter_map(|column| fields.get(*column));
        let names: Vec<&str> = names.map(|field| field.name.as_str()).collect();
        names.join(", ")
    };
    let mut out = format!("table {} ({})", table.name, table.schema);
    if !table.primary_key.is_empty() {
        let _ = write!(out, " key [{}]", columns(&table.primary_key));
    }
    for index in &table.indexes {
        let _ = write!(out, " index [{}]", columns(index));
    }
    if let Some(rows_max) = table.rows_max {
        let eviction = format!("{:?}", table.eviction).to_lowercase();
        let _ = write!(out, " at most {rows_max} rows, then {eviction}");
    }
    if let Some(ttl_ms) = table.ttl_ms {
        let _ = write!(out, " each for {}", format_duration_ms(ttl_ms));
    }
    if let Some(letters) = table.letters {
        let _ = write!(out, " refused to {}", stream_name(application, letters));
    }
    out
}

/// The written form from which [`Query::fingerprint`] is made: the same tree without places, and
/// the columns of all that is read.
pub(super) fn fingerprint_text(query: &Query, application: &Application) -> String {
    let target = application.target_name(query);
    let mut text = format!("into {target}\n{}", tree(query, application));
    for input in query.input.streams() {
        if let Some(stream) = application.stream(input.stream) {
            let _ = writeln!(text, "over {}", stream.schema);
        }
    }
    let stores: BTreeSet<Store> = query.stores().into_iter().map(|(store, _)| store).collect();
    for store in stores {
        let schema = match store {
            Store::Table(id) => application.tables.get(id.0).map(|one| &one.schema),
            Store::Aggregation(id) => application.aggregations.get(id.0).map(|one| &one.schema),
        };
        if let Some(schema) = schema {
            let _ = writeln!(text, "over {schema}");
        }
    }
    text
}

fn stream_name(application: &Application, stream: StreamId) -> &str {
    application
        .stream(stream)
        .map_or("?", |stream| stream.name.as_str())
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
        PartitionKey::Values(exprs) => exprs
            .iter()
            .map(|expr| format!("{} {}", show(expr, &columns), expr.ty))
            .collect(),
        PartitionKey::Ranges(ranges) => ranges
            .iter()
            .map(|(condition, label)| format!("{} AS '{label}'", show(condition, &columns)))
            .collect(),
    };
    format!("[{}] of {}", shown.join(", "), stream.name)
}

/// Lines of a tree, each with its depth.
#[derive(Default)]
struct Tree {
    lines: Vec<(usize, String)>,
    depth: usize,
}

impl Tree {
    /// A line with nothing below it.
    fn line(&mut self, line: String) {
        self.lines.push((self.depth, line));
    }

    /// A line, and everything behind it below it.
    fn down(&mut self, line: String) {
        self.line(line);
        self.depth += 1;
    }

    fn written(&self) -> String {
        let mut out = String::new();
        for (depth, line) in &self.lines {
            let _ = writeln!(out, "  {}{line}", "  ".repeat(*depth));
        }
        out
    }
}

/// From the output down to the input, one operator a line.
fn tree(query: &Query, application: &Application) -> String {
    let mut tree = Tree::default();
    let kept = input_columns(query, application);
    let row = query
        .grouping
        .as_ref()
        .map_or_else(|| kept.clone(), |g| group_row(g, &kept));
    if let Target::Table { table, write } = &query.target {
        tree.down(show_write(write, *table, query, &row, application));
    }
    if let Some(rate) = query.rate {
        tree.down(show_rate(rate));
    }
    let names = query.names.iter().map(Some).chain(std::iter::repeat(None));
    let select = query.select.iter().zip(names).map(|(expr, name)| {
        let name = name.map_or("(hidden)", String::as_str);
        format!("{} AS {name} {}", show(expr, &row), expr.ty)
    });
    let select: Vec<String> = select.collect();
    let distinct = if query.distinct { " distinct" } else { "" };
    tree.down(format!("select{distinct} {}", select.join(", ")));
    if query.limit.is_some() || query.offset > 0 {
        let limit = query
            .limit
            .map_or("all".to_owned(), |limit| limit.to_string());
        tree.down(format!("limit {limit} offset {}", query.offset));
    }
    if !query.order_by.is_empty() {
        let keys: Vec<String> = query
            .order_by
            .iter()
            .map(|key| show_key(key, &row))
            .collect();
        tree.down(format!("order by {}", keys.join(", ")));
    }
    if let Some(having) = &query.having {
        tree.down(format!("having {}", show(having, &row)));
    }
    if let Some(grouping) = &query.grouping {
        tree.down(show_grouping(grouping, &kept));
    }
    match &query.input {
        Input::Stream(input) => {
            show_window_of(input, query.emit, &kept, &mut tree);
            let wide = wide_row(query, application);
            show_analytics(query, show_filter(input, &wide), &wide, &mut tree);
            show_from(input, application, &mut tree);
        }
        Input::Join(input) => {
            let filter = input.filter.as_ref().map(|filter| show(filter, &kept));
            show_analytics(query, filter, &kept, &mut tree);
            show_join(&input.join, query.emit, application, &mut tree);
        }
        Input::Pattern(input) => {
            let filter = input.filter.as_ref().map(|filter| show(filter, &kept));
            show_analytics(query, filter, &kept, &mut tree);
            show_pattern(&input.pattern, application, &mut tree);
        }
    }
    tree.written()
}

/// The columns of the row that a query's expressions see.
fn input_columns(query: &Query, application: &Application) -> Vec<String> {
    let row = wide_row(query, application);
    match &query.input {
        Input::Stream(input) => {
            let kept = input.keep.iter();
            kept.filter_map(|column| row.get(*column).cloned())
                .collect()
        }
        Input::Join(_) | Input::Pattern(_) => row,
    }
}

fn kept_columns(input: &StreamInput, application: &Application) -> Vec<String> {
    let stream = application.stream(input.stream);
    stream.map_or_else(Vec::new, |stream| columns_of(&stream.schema, &input.keep))
}

fn columns_of(schema: &Schema, keep: &[usize]) -> Vec<String> {
    let fields = schema.fields();
    let kept = keep.iter().filter_map(|column| fields.get(*column));
    kept.map(|field| field.name.clone()).collect()
}

fn side_columns(side: &Side, application: &Application) -> Vec<String> {
    let (name, columns) = match &side.source {
        Source::Stream(input) => (
            stream_name(application, input.stream),
            kept_columns(input, application),
        ),
        Source::Table { table, keep } => match application.tables.get(table.0) {
            Some(table) => (table.name.as_str(), columns_of(&table.schema, keep)),
            None => ("?", Vec::new()),
        },
        Source::Aggregation {
            aggregation, keep, ..
        } => match application.aggregations.get(aggregation.0) {
            Some(one) => (one.name.as_str(), columns_of(&one.schema, keep)),
            None => ("?", Vec::new()),
        },
        Source::Join(join) => return join_columns(join, application),
    };
    let qualified = columns.into_iter().map(|column| format!("{name}.{column}"));
    qualified.collect()
}

fn join_columns(join: &Join, application: &Application) -> Vec<String> {
    let mut columns = side_columns(&join.left, application);
    columns.extend(side_columns(&join.right, application));
    columns
}

/// The window of an input, which keeps `kept`, and what decides behind it.
fn show_window_of(input: &StreamInput, emit: Emit, kept: &[String], tree: &mut Tree) {
    if let Some(behind) = &input.behind {
        tree.down(format!("where {} (behind the window)", show(behind, kept)));
    }
    if let Some(window) = &input.window {
        tree.down(show_window(window, emit, kept));
    }
}

/// One side of a join.
fn show_input(input: &StreamInput, emit: Emit, application: &Application, tree: &mut Tree) {
    let kept = kept_columns(input, application);
    show_window_of(input, emit, &kept, tree);
    let stream = application.stream(input.stream);
    let columns = stream.map_or_else(Vec::new, |stream| {
        let all: Vec<usize> = (0..stream.schema.width()).collect();
        columns_of(&stream.schema, &all)
    });
    if let Some(filter) = show_filter(input, &columns) {
        tree.down(format!("where {filter}"));
    }
    show_from(input, application, tree);
}

/// What decides over a row as it comes.
fn show_filter(input: &StreamInput, row: &[String]) -> Option<String> {
    let place = match input.window {
        Some(_) => " (before the window)",
        None => "",
    };
    let filter = input.filter.as_ref();
    filter.map(|filter| format!("{}{place}", show(filter, row)))
}

/// The stream, and what is kept of its rows.
fn show_from(input: &StreamInput, application: &Application, tree: &mut Tree) {
    let stream = application.stream(input.stream);
    let all = stream.map_or(0, |stream| stream.schema.width());
    let (name, kept) = (
        stream_name(application, input.stream),
        kept_columns(input, application),
    );
    let count = kept.len();
    let kept = kept.join(", ");
    tree.down(format!("from {name} [{kept}], {count} of {all} columns"));
}

fn show_join(join: &Join, emit: Emit, application: &Application, tree: &mut Tree) {
    let left = side_columns(&join.left, application);
    let right = side_columns(&join.right, application);
    let keys: Vec<String> = join
        .keys
        .iter()
        .map(|(x, y)| format!("{} = {} {}", show(x, &left), show(y, &right), x.ty))
        .collect();
    let kind = format!("{:?}", join.kind).to_lowercase();
    let mut line = format!("{kind} join by hash [{}]", keys.join(", "));
    if let Some(residual) = &join.residual {
        let row = join_columns(join, application);
        let _ = write!(line, " where {}", show(residual, &row));
    }
    tree.down(line);
    let depth = tree.depth;
    let sides = [(&join.left, &right), (&join.right, &left)];
    for (side, other) in sides {
        tree.depth = depth;
        let part = if side.triggers {
            "triggers"
        } else {
            "is looked up"
        };
        match &side.source {
            Source::Stream(input) => {
                let keeps = if input.window.is_some() {
                    ""
                } else {
                    ", keeps nothing"
                };
                tree.down(format!("side {part}{keeps}"));
                show_input(input, emit, application, tree);
            }
            Source::Table { table, .. } => {
                let table = application.tables.get(table.0);
                let name = table.map_or("?", |table| table.name.as_str());
                tree.down(format!("side {part}: table {name}"));
            }
            Source::Aggregation {
                aggregation,
                within,
                per,
                ..
            } => {
                let one = application.aggregations.get(aggregation.0);
                let name = one.map_or("?", |one| one.name.as_str());
                let per = one.and_then(|one| one.durations.get(*per));
                let per = per.map_or("?", |duration| duration.bucket.name());
                let (start, end) = (show(&within.0, other), show(&within.1, other));
                tree.down(format!(
                    "side {part}: aggregation {name} within {start}, {end} per {per}"
                ));
            }
            Source::Join(join) => {
                tree.down(format!("side {part}"));
                show_join(join, emit, application, tree);
            }
        }
    }
}

fn show_write(
    write: &Write,
    table: TableId,
    query: &Query,
    row: &[String],
    application: &Application,
) -> String {
    let Some(table) = application.tables.get(table.0) else {
        return String::new();
    };
    let fields = table.schema.fields();
    let column = |index: &usize| fields.get(*index).map_or("?", |field| field.name.as_str());
    let mut both: Vec<String> = query.select.iter().map(|expr| show(expr, row)).collect();
    both.extend(
        fields
            .iter()
            .map(|field| format!("{}.{}", table.name, field.name)),
    );
    let on = |on: &Match| {
        let keys = on.keys.iter();
        let keys: Vec<String> = keys
            .map(|(index, expr)| format!("{} = {}", column(index), show(expr, &both)))
            .collect();
        let rest = on.residual.as_ref();
        let rest = rest.map(|expr| format!(" where {}", show(expr, &both)));
        format!("by hash [{}]{}", keys.join(", "), rest.unwrap_or_default())
    };
    match write {
        Write::Insert => "insert".to_owned(),
        Write::Upsert { on: found } => format!("upsert {}", on(found)),
        Write::Delete { on: found } => format!("delete {}", on(found)),
        Write::Update { on: found, set } => {
            let set = set.iter();
            let set: Vec<String> = set
                .map(|(index, expr)| format!("{} = {}", column(index), show(expr, &both)))
                .collect();
            format!("update set {} {}", set.join(", "), on(found))
        }
    }
}

fn show_rate(rate: Rate) -> String {
    let keep = format!("{:?}", rate.keep).to_lowercase();
    match rate.period {
        Period::Events(count) => format!("output {keep} every {count} events"),
        Period::Time(span_ms) => format!("output {keep} every {}", format_duration_ms(span_ms)),
    }
}

fn show_key(key: &SortKey, row: &[String]) -> String {
    let direction = if key.descending { "desc" } else { "asc" };
    let nulls = if key.nulls_first { "first" } else { "last" };
    format!("{} {direction} nulls {nulls}", show(&key.expr, row))
}

fn show_grouping(grouping: &Grouping, kept: &[String]) -> String {
    let keys = grouping.keys.iter();
    let keys: Vec<String> = keys
        .map(|key| format!("{} {}", show(key, kept), key.ty))
        .collect();
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

/// As different as their types make literals.
fn show_literal(value: &Value, ty: Type) -> String {
    match value {
        Value::Str(text) if ty == Type::Json => format!("JSON {}", quoted(text)),
        Value::Str(text) => quoted(text),
        Value::Bytes(bytes) => format!("BYTES {}", quoted(&to_base64(bytes))),
        Value::Int(time) if ty == Type::Timestamp => format!("TIMESTAMP {time}"),
        value => functions_text(value),
    }
}

fn show(expr: &Expr, row: &[String]) -> String {
    let sub = |expr: &Expr| show(expr, row);
    match &expr.kind {
        ExprKind::Column(index) => row
            .get(*index)
            .cloned()
            .unwrap_or_else(|| format!("#{index}")),
        ExprKind::Literal(value) => show_literal(value, expr.ty),
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
        ExprKind::Between(x, low, high) => {
            format!("({} BETWEEN {} AND {})", sub(x), sub(low), sub(high))
        }
        ExprKind::InTable(x, _, name) => format!("{} IN {name}", sub(x)),
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
        } => show_case(None, branches, otherwise.as_deref(), row),
        ExprKind::Switch {
            operand,
            branches,
            otherwise,
        } => show_case(Some(operand), branches, otherwise.as_deref(), row),
        ExprKind::Cast(x) => format!("CAST({} AS {})", sub(x), expr.ty),
        ExprKind::Call(function, arguments) => show_call(function, arguments, row),
    }
}

fn show_call(function: &Function, arguments: &[Expr], row: &[String]) -> String {
    let name = function.names.first().copied().unwrap_or_default();
    let arguments = match (function.reads, arguments) {
        // Where it is written tells two calls apart, and makes no other query.
        (Reads::Position, [shown @ .., _]) => shown,
        (_, all) => all,
    };
    format!("{name}({})", join(arguments, row))
}

fn show_case(
    operand: Option<&Expr>,
    branches: &[(Expr, Expr)],
    otherwise: Option<&Expr>,
    row: &[String],
) -> String {
    let mut out = "CASE".to_owned();
    if let Some(operand) = operand {
        let _ = write!(out, " {}", show(operand, row));
    }
    for (condition, result) in branches {
        let (condition, result) = (show(condition, row), show(result, row));
        let _ = write!(out, " WHEN {condition} THEN {result}");
    }
    if let Some(otherwise) = otherwise {
        let _ = write!(out, " ELSE {}", show(otherwise, row));
    }
    out + " END"
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
