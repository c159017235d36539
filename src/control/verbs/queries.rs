//! `query.list` and `query.explain`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::args::{Args, fault};
use crate::control::{Code, Fault};
use crate::daemon::View;
use crate::diagnostic::did_you_mean;
use crate::sql::plan::{Query, Store};
use crate::sql::{Application, explain};

/// The longest text that is given, in bytes; what is beyond is left out, and that is said.
const TEXT_BYTES_MAX: usize = 128 << 10;

/// The queries, in their order.
pub(super) fn list(view: &View) -> Value {
    let application = &*view.application;
    let queries = application
        .queries
        .iter()
        .enumerate()
        .map(|(number, query)| {
            let keeps = explain::kept(query, application);
            json!({
                "query": number,
                "target": application.target_name(query),
                "inputs": inputs(query, application),
                "state": !keeps.is_empty(),
                "keeps": keeps,
                "partition": query.partition,
                "fingerprint": format!("{:016x}", query.fingerprint(application)),
                "path": query.path,
                "line": query.place.line,
            })
        });
    json!({ "queries": queries.collect::<Vec<_>>() })
}

/// What it reads, each once.
fn inputs<'a>(query: &Query, application: &'a Application) -> BTreeSet<&'a str> {
    let streams = query.input.streams().into_iter();
    let streams = streams.filter_map(|input| application.stream(input.stream));
    let stores = query.stores().into_iter().filter_map(|(store, _)| {
        let name = match store {
            Store::Table(id) => application.tables.get(id.0).map(|one| &one.name),
            Store::Aggregation(id) => application.aggregations.get(id.0).map(|one| &one.name),
        };
        name.map(String::as_str)
    });
    streams
        .map(|stream| stream.name.as_str())
        .chain(stores)
        .collect()
}

/// What the SQL has become: all of it, or one query by its number, or all that feed a target.
pub(super) fn explain(view: &View, args: &Args<'_>) -> Result<Value, Fault> {
    let application = &*view.application;
    let text = match args.get("query") {
        None => explain::explain(application),
        Some(Value::String(target)) => of_target(target, application)?,
        Some(wanted) => {
            let number = wanted.as_u64().and_then(|n| usize::try_from(n).ok());
            let number = number.ok_or_else(|| {
                fault("'query' must be the number of a query or the name of what it feeds")
            })?;
            let text = explain::explain_query(application, number);
            text.ok_or_else(|| {
                let count = application.queries.len();
                let message =
                    format!("there is no query {number}; they count from 0, and there are {count}");
                Fault::new(Code::NotFound, message)
            })?
        }
    };
    let bytes = text.len();
    let end = (0..=TEXT_BYTES_MAX.min(bytes)).rev();
    let shown = end.into_iter().find_map(|end| text.get(..end));
    Ok(json!({ "text": shown, "bytes": bytes, "truncated": bytes > TEXT_BYTES_MAX }))
}

fn of_target(target: &str, application: &Application) -> Result<String, Fault> {
    let queries = application.queries.iter().enumerate();
    let feeding = queries.filter(|(_, query)| application.target_name(query) == target);
    let texts = feeding.filter_map(|(number, _)| explain::explain_query(application, number));
    let text: String = texts.collect();
    if !text.is_empty() {
        return Ok(text);
    }
    let known = application.queries.iter();
    let hint = did_you_mean(target, known.map(|query| application.target_name(query)));
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    let message = format!("no query feeds '{target}'{hint}");
    Err(Fault::new(Code::NotFound, message))
}
