//! How a query finds rows of tables: by which index. It depends on what other queries need, so it
//! is for people alone.

use super::super::plan::{
    Application, Expr, ExprKind, Input, Join, Match, Query, Source, Table, TableId, Target, Write,
};
use super::columns_of;

/// A line for every table that a query looks into.
pub(super) fn lookups(query: &Query, application: &Application) -> Vec<String> {
    let mut found = Vec::new();
    for expr in query.exprs() {
        expr.walk(&mut |expr| {
            if let ExprKind::InTable(_, table, _) = expr.kind {
                if let Some(table) = application.tables.get(table.0) {
                    found.push(line(table, &table.primary_key));
                }
            }
        });
    }
    if let Input::Join(input) = &query.input {
        of_join(&input.join, application, &mut found);
    }
    if let Target::Table { table, write } = &query.target {
        let plain = |on: &Match| on.keys.iter().map(|(column, _)| *column).collect();
        let columns: Option<Vec<usize>> = match write {
            Write::Insert => None,
            Write::Upsert { on } if on.keys.is_empty() && on.residual.is_none() => application
                .tables
                .get(table.0)
                .map(|table| table.primary_key.clone()),
            Write::Upsert { on } | Write::Update { on, .. } | Write::Delete { on } => {
                Some(plain(on))
            }
        };
        let table = application.tables.get(table.0);
        if let (Some(table), Some(columns)) = (table, columns) {
            found.push(line(table, &columns));
        }
    }
    found.dedup();
    found
}

fn of_join(join: &Join, application: &Application, found: &mut Vec<String>) {
    let keys = |left: bool| join.keys.iter().map(move |(x, y)| if left { x } else { y });
    for (side, left) in [(&join.left, true), (&join.right, false)] {
        match &side.source {
            Source::Table { table, keep } => {
                found.extend(of_side(*table, keep, keys(left), application));
            }
            Source::Join(join) => of_join(join, application, found),
            Source::Stream(_) | Source::Aggregation { .. } => {}
        }
    }
}

fn of_side<'a>(
    table: TableId,
    keep: &[usize],
    keys: impl Iterator<Item = &'a Expr>,
    application: &Application,
) -> Option<String> {
    let plain = keys.filter_map(|key| match key.kind {
        ExprKind::Column(column) => keep.get(column).copied(),
        _ => None,
    });
    let columns: Vec<usize> = plain.collect();
    Some(line(application.tables.get(table.0)?, &columns))
}

/// By the primary key when all of it is known, else by the index that needs most of what is known.
fn line(table: &Table, columns: &[usize]) -> String {
    let covers = |of: &&Vec<usize>| of.iter().all(|column| columns.contains(column));
    let key = Some(&table.primary_key).filter(|key| !key.is_empty());
    let way = match key.filter(covers) {
        Some(key) => format!("by its key [{}]", columns_of(&table.schema, key).join(", ")),
        None => {
            let indexes = table.indexes.iter().rev().filter(covers);
            match indexes.max_by_key(|index| index.len()) {
                Some(index) => {
                    let index = columns_of(&table.schema, index);
                    format!("by its index [{}]", index.join(", "))
                }
                None => "row by row".to_owned(),
            }
        }
    };
    format!("finds rows of {} {way}", table.name)
}
