//! Aggregations as text.

use super::super::plan::{Aggregation, Application, Emit};
use super::{Tree, kept_columns, show, show_aggregate, show_input};
use crate::event::format_duration_ms;

/// The written form from which [`Aggregation::fingerprint`] is made.
pub(in super::super) fn aggregation_text(
    aggregation: &Aggregation,
    application: &Application,
) -> String {
    let stream = application.stream(aggregation.input.stream);
    let schema = stream.map_or(String::new(), |stream| stream.schema.to_string());
    let tree = aggregation_tree(aggregation, application, false);
    format!("aggregation {}\n{tree}over {schema}", aggregation.name)
}

/// From what it gives down to what it reads. `bounds`: also what may change while its state stays.
pub(super) fn aggregation_tree(
    aggregation: &Aggregation,
    application: &Application,
    bounds: bool,
) -> String {
    let kept = kept_columns(&aggregation.input, application);
    let keys = aggregation.keys.iter();
    let keys: Vec<String> = keys.map(|key| show(key, &kept)).collect();
    let aggregates = aggregation.aggregates.iter();
    let aggregates: Vec<String> = aggregates.map(|one| show_aggregate(one, &kept)).collect();
    let row = [keys.clone(), aggregates.clone()].concat();
    // The first column is the start of the bucket.
    let fields = aggregation.schema.fields().iter().skip(1);
    let select: Vec<String> = fields
        .zip(&aggregation.select)
        .map(|(field, expr)| format!("{} AS {} {}", show(expr, &row), field.name, expr.ty))
        .collect();
    let durations = aggregation.durations.iter().map(|one| {
        let name = one.bucket.name();
        match one.keep_ms {
            _ if !bounds => name.to_owned(),
            Some(keep_ms) => format!("{name} for {}", format_duration_ms(keep_ms)),
            None => format!("{name} for ever"),
        }
    });
    let mut durations = durations.collect::<Vec<_>>().join(", ");
    if bounds {
        durations += &format!(", at most {} rows", aggregation.rows_max);
    }
    let by = aggregation.by.as_ref();
    let by = by.map_or("the row's time".to_owned(), |by| show(by, &kept));

    let mut tree = Tree::default();
    tree.down(format!("select {}", select.join(", ")));
    tree.down(format!("buckets of {durations}"));
    let (aggregates, keys) = (aggregates.join(", "), keys.join(", "));
    tree.down(format!("aggregate [{aggregates}] by [{keys}] at {by}"));
    show_input(&aggregation.input, Emit::Current, application, &mut tree);
    tree.written()
}
