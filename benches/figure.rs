//! A figure: what is measured, what it should be, what it was; and how all of them are printed.

use std::io::Write as _;

use serde_json::{Value as Json, json};

/// A figure of the budgets.
pub(crate) struct Figure {
    /// Its letter.
    pub(crate) name: &'static str,
    /// What is measured.
    pub(crate) what: &'static str,
    /// What it should be, for people.
    pub(crate) budget: &'static str,
    /// Measures it; `None` while that part of the product does not exist.
    pub(crate) measure: Option<fn() -> Measured>,
}

/// What came out.
pub(crate) struct Measured {
    /// The number that the budget is about: a ratio or a count.
    pub(crate) value: f64,
    /// Whether it is within the budget.
    pub(crate) met: bool,
    /// Absolute figures, for information.
    pub(crate) details: Vec<(&'static str, f64)>,
}

/// Measures what is asked for (everything, when nothing is named) and prints a line each.
pub(crate) fn run(figures: &[&[Figure]], wanted: &[String]) -> Vec<Json> {
    let mut lines = Vec::new();
    println!(
        "{:<5} {:>9}  {:<7} {:<46} details",
        "name", "measured", "", "budget"
    );
    for figure in figures.iter().copied().flatten() {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == figure.name) {
            continue;
        }
        let measured = figure.measure.map(|measure| measure());
        print_line(figure, measured.as_ref());
        lines.push(to_json(figure, measured.as_ref()));
    }
    lines
}

fn print_line(figure: &Figure, measured: Option<&Measured>) {
    let Figure {
        name, what, budget, ..
    } = figure;
    let Some(measured) = measured else {
        println!("{name:<5} {:>9}  {:<7} {budget:<46} {what}", "-", "not yet");
        return;
    };
    let verdict = if measured.met { "met" } else { "MISSED" };
    let details: Vec<String> = measured
        .details
        .iter()
        .map(|(unit, number)| format!("{} {unit}", short(*number)))
        .collect();
    let value = short(measured.value);
    println!(
        "{name:<5} {value:>9}  {verdict:<7} {budget:<46} {}",
        details.join(", ")
    );
    let _ = std::io::stdout().flush();
}

fn short(number: f64) -> String {
    match number.abs() {
        size if size >= 1e6 => format!("{:.2} M", number / 1e6),
        size if size >= 100.0 => format!("{number:.0}"),
        size if size < 0.005 => format!("{number}"),
        _ => format!("{number:.2}"),
    }
}

fn to_json(figure: &Figure, measured: Option<&Measured>) -> Json {
    let mut line = json!({
        "name": figure.name,
        "what": figure.what,
        "budget": figure.budget,
        "status": "not yet",
    });
    if let (Some(measured), Some(line)) = (measured, line.as_object_mut()) {
        let details = measured.details.iter();
        let details = details.map(|(unit, number)| ((*unit).to_owned(), json!(number)));
        let status = if measured.met { "met" } else { "missed" };
        line.insert("status".to_owned(), json!(status));
        line.insert("value".to_owned(), json!(measured.value));
        line.insert("details".to_owned(), details.collect());
    }
    line
}
