//! Columns that are computed from row to row, as text.

use super::super::plan::{Analytic, Application, Input, Query};
use super::pattern::register_columns;
use super::{Tree, columns_of, functions_text, join, join_columns, show};

/// The columns of the row that is computed with: those of the stream or the joined row, and behind
/// them what is computed.
pub(super) fn wide_row(query: &Query, application: &Application) -> Vec<String> {
    let mut row = match &query.input {
        Input::Stream(input) => match application.stream(input.stream) {
            Some(stream) => {
                let all: Vec<usize> = (0..stream.schema.width()).collect();
                columns_of(&stream.schema, &all)
            }
            None => Vec::new(),
        },
        Input::Join(input) => join_columns(&input.join, application),
        Input::Pattern(input) => register_columns(&input.pattern, application),
    };
    for analytic in query.analytics.iter() {
        let shown = show_analytic(analytic, &row);
        row.push(shown);
    }
    row
}

/// The lines for what is computed, with WHERE between them.
pub(super) fn show_analytics(
    query: &Query,
    filter: Option<String>,
    row: &[String],
    tree: &mut Tree,
) {
    let lines = [
        (&query.analytics.after, "compute"),
        (&query.analytics.before, "compute for all rows"),
    ];
    let mut filter = filter;
    for (calls, what) in lines {
        if !calls.is_empty() {
            let calls: Vec<String> = calls.iter().map(|one| show_analytic(one, row)).collect();
            tree.down(format!("{what} [{}]", calls.join(", ")));
        }
        if let Some(filter) = filter.take() {
            tree.down(format!("where {filter}"));
        }
    }
}

pub(super) fn show_analytic(analytic: &Analytic, row: &[String]) -> String {
    let name = analytic.function.name();
    let mut over = Vec::new();
    if !analytic.partition.is_empty() {
        over.push(format!("partition by {}", join(&analytic.partition, row)));
    }
    if let Some(when) = &analytic.when {
        over.push(format!("when {}", show(when, row)));
    }
    let parameter = analytic.parameter.as_ref();
    let parameter = parameter.map(|value| format!("; {}", functions_text(value)));
    let over = match over.as_slice() {
        [] => String::new(),
        over => format!(" over ({})", over.join(" ")),
    };
    let arguments = join(&analytic.arguments, row);
    format!("{name}({arguments}{}){over}", parameter.unwrap_or_default())
}
