//! The reference of functions, aggregates and windows, made from their declarations.

use std::fmt::Write as _;

use super::aggregates::AGGREGATES;
use super::analytics::ANALYTICS;
use super::functions;
use super::types::TYPE_NAMES;
use super::windows::WINDOWS;

/// Everything that is declared, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = "# Functions, aggregates, windows and types\n\n\
        Made from their declarations: `eventflux functions` prints the same. Names may be written \
        in any case. NULL in gives NULL out unless the line says otherwise; what cannot be \
        computed is NULL and counted.\n\n\
        ## Scalar functions\n\n| function | example | gives |\n| --- | --- | --- |\n"
        .to_owned();
    for function in functions::all() {
        let (example, result) = function.example;
        let _ = writeln!(
            out,
            "| {}{} | `{example}` | `{result}` |",
            cell(function.doc),
            others(function.names)
        );
    }
    out.push_str(
        "\n## Aggregates\n\nNULL is skipped; over no value `count` is 0 and the others NULL. \
        `FILTER (WHERE condition)` behind a call leaves out rows for which it is not true; \
        `DISTINCT` in front of the argument counts equal values once.\n\n\
        | aggregate | over | example | gives |\n| --- | --- | --- | --- |\n",
    );
    for aggregate in AGGREGATES {
        let example = &aggregate.example;
        let _ = writeln!(
            out,
            "| {}{} | {}: {} | `{}` | `{}` |",
            cell(aggregate.doc),
            others(aggregate.names),
            example.columns,
            example.rows,
            example.call,
            example.result
        );
    }
    analytics(&mut out);
    out.push_str("\n## Windows\n\n| window | what a query sees |\n| --- | --- |\n");
    for window in WINDOWS {
        let _ = writeln!(
            out,
            "| `{}`{} | {} |",
            window.call(),
            others(window.names),
            cell(window.doc)
        );
    }
    out.push_str("\n## Types\n\n| name | type |\n| --- | --- |\n");
    for (name, ty) in TYPE_NAMES {
        let _ = writeln!(out, "| `{name}` | {ty} |");
    }
    out
}

fn analytics(out: &mut String) {
    out.push_str(
        "\n## Analytic functions\n\nThey look back over the rows in the order in which these come, \
        before any window. `OVER (PARTITION BY k, …)` behind a call: each key by itself. \
        `OVER (WHEN condition)`: only rows for which it is true are remembered; on the others the \
        result is what is known of those before.\n\n\
        | function | over | example | gives |\n| --- | --- | --- | --- |\n",
    );
    for analytic in ANALYTICS {
        let example = &analytic.example;
        let _ = writeln!(
            out,
            "| {}{} | {}: {} | `{}` | `{}` |",
            cell(analytic.doc),
            others(analytic.names),
            example.columns,
            example.rows,
            example.call,
            example.results
        );
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn others(names: &[&str]) -> String {
    match names {
        [] | [_] => String::new(),
        [_, others @ ..] => format!(" (also `{}`)", others.join("`, `")),
    }
}
