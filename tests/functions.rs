//! The example of every function, as its documentation shows it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use eventflux::engine::{Engine, Outputs};
use eventflux::event::{Batch, Seq, Stamp, Timestamp, Value};
use eventflux::sql::aggregates::{AGGREGATES, Example};
use eventflux::sql::analytics::{ANALYTICS, AnalyticExample};
use eventflux::sql::plan::StreamId;
use eventflux::sql::{self, SqlText, functions};
use sqlparser::dialect::GenericDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

struct Rows(Vec<Vec<Value>>);

impl Outputs for Rows {
    fn take(&mut self, _stream: StreamId, _query: u32, rows: &Batch, _ordinals: &[u32]) {
        self.0
            .extend(rows.rows().iter().map(|row| row.values.to_vec()));
    }
}

/// The value of an expression without columns.
fn evaluate(expression: &str) -> Value {
    try_evaluate(expression).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The value of an expression over the column `a`, which is 1.
fn try_evaluate(expression: &str) -> Result<Value, String> {
    let columns = "a INT";
    let select = format!("SELECT {expression} AS x FROM S");
    let mut values = try_run(columns, &[vec![Value::Int(1)]], &select)?;
    assert_eq!(values.len(), 1, "{expression}");
    Ok(values.remove(0))
}

/// The first column of what a query gives over rows of a stream S.
fn run(columns: &str, input: &[Vec<Value>], select: &str) -> Vec<Value> {
    try_run(columns, input, select).unwrap_or_else(|faults| panic!("{faults}"))
}

fn try_run(columns: &str, input: &[Vec<Value>], select: &str) -> Result<Vec<Value>, String> {
    let text = format!("CREATE STREAM S ({columns}); INSERT INTO Out {select};");
    let texts = [SqlText {
        path: "example".to_owned(),
        text: text.clone(),
    }];
    let plan = sql::compile(&texts).map_err(|faults| {
        let faults = faults.iter().map(|fault| fault.render(&text));
        faults.collect::<String>()
    })?;
    let plan = Arc::new(plan);
    let (stream, _) = plan.stream_named("S").unwrap();
    let mut engine = Engine::new(Arc::clone(&plan), |_| true);
    let mut batch = Batch::new(columns.split(',').count());
    for (seq, row) in (1..).zip(input) {
        let stamp = Stamp {
            seq: Seq(seq),
            time: Timestamp(1000 * i64::try_from(seq).unwrap()),
        };
        batch.push(stamp, row.iter().cloned());
    }
    let mut rows = Rows(Vec::new());
    engine.push(stream, batch.rows(), &mut rows);
    Ok(rows.0.into_iter().map(|mut row| row.remove(0)).collect())
}

/// The expression with all its literals hidden in what only a row decides.
fn unfolded(expression: &str) -> String {
    let tokens = Tokenizer::new(&GenericDialect {}, expression).tokenize();
    let hide = |token: Token| match token {
        Token::Number(..) | Token::SingleQuotedString(_) => format!("if(a = 1, {token}, NULL)"),
        token => token.to_string(),
    };
    tokens.unwrap().into_iter().map(hide).collect()
}

#[test]
fn constants_are_folded_to_what_rows_would_give() {
    let examples = functions::all().map(|function| function.example.0);
    let more = [
        "1 + 2 * 3 - 4 / 2",
        "7 % -3",
        "-9 % 4.5",
        "9223372036854775807 - 1",
        "2147483647 + 1",
        "1.5 - -2",
        "1e308 * 10",
        "'a' < 'b'",
        "2 BETWEEN 1 AND 2.5",
        "3 NOT BETWEEN 1 AND 2.5",
        "2 IN (1, 2)",
        "'press-1' LIKE 'press-_'",
        "'PRESS' ILIKE '%ss'",
        "CAST('12.9' AS INT)",
        "CAST(300.5 AS BIGINT)",
        "CAST('2026-07-17' AS TIMESTAMP)",
        "CASE 2 WHEN 1 THEN 'a' WHEN 2 THEN 'b' END",
        "2 > 1 AND 'a' <> 'b'",
        "1 > 2 OR 3 <> 3",
        "NOT 1 = 2",
        "1 IS NULL",
        "1 IS DISTINCT FROM 2",
        "'a' || 1 || 2.0",
    ];
    let mut compared = 0;
    for expression in examples.chain(more) {
        // Some arguments must be constant, and some literals have a type before them.
        if let Ok(value) = try_evaluate(&unfolded(expression)) {
            assert_eq!(value, evaluate(expression), "{expression}");
            compared += 1;
        }
    }
    assert!(compared >= 110, "{compared} expressions");
}

#[test]
fn every_parameter_has_a_name() {
    for function in functions::all() {
        let (list, _) = function.doc.split_once(')').expect(function.doc);
        let (name, list) = list.split_once('(').expect(function.doc);
        assert!(function.names.contains(&name), "{}", function.doc);
        let names = list
            .split(',')
            .filter(|name| !name.trim().is_empty())
            .count();
        let parameters = function.signature.parameters.len();
        let repeated = usize::from(list.contains('…'));
        assert!(
            names == parameters + repeated || name == "extract" || list.contains("y, …"),
            "{}",
            function.doc
        );
    }
}

#[test]
fn every_example_gives_what_it_says() {
    let mut count = 0;
    for function in functions::all() {
        let (example, result) = function.example;
        let (found, said) = (evaluate(example), evaluate(result));
        assert_eq!(found, said, "{example} = {result}");
        count += 1;
    }
    assert!(count >= 20, "{count} functions");
}

/// Without a window, in a batch, in a sliding window through which other rows have gone before,
/// and behind a FILTER.
#[test]
fn every_aggregate_gives_what_its_example_says() {
    for aggregate in AGGREGATES {
        let Example {
            columns,
            rows,
            call,
            result,
        } = &aggregate.example;
        let rows: Vec<Vec<Value>> = rows
            .split(';')
            .map(|row| row.split(',').map(evaluate).collect())
            .collect();
        let count = rows.len();
        let expected = evaluate(result);
        let near = |found: Option<&Value>| match (found, &expected) {
            (Some(Value::Float(found)), Value::Float(said)) => (found - said).abs() < 1e-12,
            (found, said) => found == Some(said),
        };
        for (window, before) in [
            (String::new(), 0),
            (format!("WINDOW('lengthBatch', {count})"), count),
            (format!("WINDOW('length', {count})"), count),
        ] {
            let before = if call.contains("Forever") { 0 } else { before };
            let input: Vec<Vec<Value>> =
                rows.iter().cycle().take(before + count).cloned().collect();
            for filter in ["", " FILTER (WHERE 1 = 1)"] {
                let select = format!("SELECT {call}{filter} AS r FROM S {window}");
                let found = run(columns, &input, &select);
                assert!(near(found.last()), "{select}: {found:?}, not {expected:?}");
            }
            let select = format!("SELECT {call} FILTER (WHERE 1 = 2) AS r FROM S {window}");
            let nothing = run(columns, &input, &select);
            let counts = call.contains("count");
            let empty = if counts { Value::Int(0) } else { Value::Null };
            assert_eq!(nothing.last(), Some(&empty), "{select}");
        }
    }
}

#[test]
fn every_analytic_function_gives_what_its_example_says() {
    for analytic in ANALYTICS {
        let AnalyticExample {
            columns,
            rows,
            call,
            results,
        } = &analytic.example;
        let rows: Vec<Vec<Value>> = rows
            .split(';')
            .map(|row| row.split(',').map(evaluate).collect())
            .collect();
        let expected: Vec<Value> = results.split(';').map(evaluate).collect();
        for over in ["", " OVER (PARTITION BY x IS NULL AND 1 = 2 WHEN 1 = 1)"] {
            let select = format!("SELECT {call}{over} AS r FROM S");
            assert_eq!(run(columns, &rows, &select), expected, "{select}");
        }
    }
}

#[test]
fn null_in_gives_null_out_unless_a_function_handles_it() {
    for expression in [
        "abs(NULL)",
        "round(NULL, 1)",
        "upper(NULL)",
        "concat('a', NULL)",
        "substring('abc', NULL)",
        "sqrt(-1)",
        "ln(0)",
        "power(10, 400)",
        "repeat('0123456789', 1000000)",
        "greatest(NULL, NULL)",
    ] {
        assert_eq!(evaluate(expression), Value::Null, "{expression}");
    }
    for (expression, expected) in [
        ("coalesce(NULL, 'x')", Value::text("x")),
        ("greatest(NULL, 3)", Value::Int(3)),
        ("ifnull(2, 5)", Value::Int(2)),
        ("nullif(2, 3)", Value::Int(2)),
        ("if(NULL, 1, 2)", Value::Int(2)),
        ("substring('sensor', -1, 4)", Value::text("se")),
        ("left('grün', 3)", Value::text("grü")),
        ("round(-2.5)", Value::Float(-3.0)),
        ("round(1e300, 5)", Value::Float(1e300)),
        ("1 + 2 * 3 - 4 / 2", Value::Float(5.0)),
        ("7 % -3", Value::Int(1)),
        ("'a' || 1 || TRUE", Value::text("a1true")),
        ("POSITION('s' IN 'sensor')", Value::Int(1)),
        ("CAST('1e3' AS BIGINT)", Value::Int(1000)),
        ("-9223372036854775808", Value::Int(i64::MIN)),
        (
            "CAST('9007199254740993.0' AS BIGINT)",
            Value::Int(9_007_199_254_740_993),
        ),
    ] {
        assert_eq!(evaluate(expression), expected, "{expression}");
    }
}

#[test]
fn the_documentation_is_what_the_registry_says() {
    let made = sql::reference();
    if std::env::var_os("EVENTFLUX_BLESS").is_some() {
        std::fs::write("docs/functions.md", &made).unwrap();
    }
    let written = std::fs::read_to_string("docs/functions.md").unwrap();
    assert!(
        written == made,
        "run: EVENTFLUX_BLESS=1 cargo test --test functions"
    );
}
