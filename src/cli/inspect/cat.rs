//! `inspect cat`: the content, a line for each thing.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::{Map, Value as Json, json};

use super::names::{Operators, Schemas};
use super::{Cat, Lines, Span, Trouble};
use crate::checkpoint;
use crate::cli::{Exit, Terminal, point};
use crate::event::{Seq, Timestamp, Value, render_json, to_base64};
use crate::outbox::{self, Entry};
use crate::pipeline::{Target, application_of, compiled};
use crate::store::Store;
use crate::store::look::Look;
use crate::wal::{self, Body, Found, Record};

pub(super) fn cat(what: &Cat, look: &Look, terminal: &mut Terminal<'_>) -> Result<Exit, Trouble> {
    match what {
        Cat::Log(span) => {
            let schemas = Schemas::read(&*look.store)?;
            let mut lines = Lines::terminal(terminal);
            span.visit(&*look.store, &mut |found| {
                show(&found, &schemas, span, &mut lines)
            })?;
            lines.close()?;
        }
        Cat::Outbox { sink } => show_outbox(sink, look, Lines::terminal(terminal))?,
        Cat::Checkpoint { number } => show_checkpoint(*number, look, terminal)?,
    }
    Ok(Exit::Success)
}

impl Span {
    /// Visits what lies in it, damage included.
    pub(super) fn visit(
        &self,
        store: &dyn Store,
        visit: &mut dyn FnMut(Found) -> ControlFlow<()>,
    ) -> Result<(), Trouble> {
        let from = match self.from {
            Some(Target::Seq(seq)) => seq,
            Some(Target::Time(_)) | None => Seq(1),
        };
        wal::look_at(store, from, &mut |found| {
            if self.is_behind(&found) {
                return ControlFlow::Break(());
            }
            match self.has(&found) {
                true => visit(found),
                false => ControlFlow::Continue(()),
            }
        })?;
        Ok(())
    }

    fn is_behind(&self, found: &Found) -> bool {
        match (self.to, found) {
            (Some(Target::Seq(seq)), Found::Record { record, .. }) => record.first > seq,
            (Some(Target::Time(time)), Found::Record { record, .. }) => record.time > time,
            (Some(Target::Seq(seq)), Found::Damaged { at, .. }) => *at > seq,
            _ => false,
        }
    }

    fn has(&self, found: &Found) -> bool {
        let (Found::Record { record, .. } | Found::Aside { record }) = found else {
            return true;
        };
        let begun = match self.from {
            Some(Target::Seq(seq)) => record.last() >= seq,
            Some(Target::Time(time)) => record.time >= time,
            None => true,
        };
        let stream = match &record.body {
            Body::Events { stream, .. } | Body::Rejected { stream, .. } => Some(stream),
            Body::Tick | Body::Config { .. } | Body::Clock(_) | Body::Restored { .. } => None,
        };
        begun && (self.stream.is_none() || self.stream.as_ref() == stream)
    }

    /// Whether a row of a record is in it; records are cut where numbers are given.
    pub(super) fn has_row(&self, seq: Seq) -> bool {
        let after = !matches!(self.from, Some(Target::Seq(from)) if seq < from);
        after && !matches!(self.to, Some(Target::Seq(to)) if seq > to)
    }
}

fn show(found: &Found, schemas: &Schemas, span: &Span, lines: &mut Lines<'_>) -> ControlFlow<()> {
    match found {
        Found::Record { record, .. } => show_record(record, false, schemas, span, lines),
        Found::Aside { record } => show_record(record, true, schemas, span, lines),
        Found::Skipped { first, next } => line(
            lines,
            json!({"kind": "skipped", "first": first.0, "next": next.0}),
        ),
        Found::Missing { first, next } => line(
            lines,
            json!({"kind": "missing", "first": first.0, "next": next.0}),
        ),
        Found::Damaged { at, why, .. } => {
            line(lines, json!({"seq": at.0, "kind": "damaged", "why": why}))
        }
        Found::AsideDamaged { at, why } => line(
            lines,
            json!({"seq": at.0, "kind": "damaged", "aside": true, "why": why}),
        ),
    }
}

fn show_record(
    record: &Record,
    aside: bool,
    schemas: &Schemas,
    span: &Span,
    lines: &mut Lines<'_>,
) -> ControlFlow<()> {
    if let Body::Events {
        stream,
        schema,
        rows,
        ..
    } = &record.body
    {
        let known = schemas.of(stream, *schema);
        let name = Json::from(stream.as_str());
        for (seq, row) in (record.first.0..).zip(rows.rows().iter()) {
            if !span.has_row(Seq(seq)) {
                continue;
            }
            let mut out = head(seq, record.time, "event", aside).into_bytes();
            out.extend_from_slice(format!(",\"stream\":{name},").as_bytes());
            match known {
                Some(schema) => {
                    out.extend_from_slice(b"\"event\":");
                    render_json(schema, row.values, &mut out);
                }
                // No application in the store has a stream with these columns.
                None => {
                    let values: Vec<Json> = row.values.iter().map(plain).collect();
                    let values = Json::from(values);
                    out.extend_from_slice(format!("\"values\":{values}").as_bytes());
                }
            }
            out.push(b'}');
            lines.line(&out)?;
        }
        return ControlFlow::Continue(());
    }
    let (kind, rest) = other(&record.body);
    let mut out = head(record.first.0, record.time, kind, aside);
    for (name, value) in rest {
        out.push_str(&format!(",{}:{value}", Json::from(name)));
    }
    out.push('}');
    lines.line(out.as_bytes())
}

fn head(seq: u64, time: Timestamp, kind: &str, aside: bool) -> String {
    let aside = if aside { ",\"aside\":true" } else { "" };
    let time = point::iso(time);
    format!("{{\"seq\":{seq},\"time\":\"{time}\",\"kind\":\"{kind}\"{aside}")
}

/// What a record that has no rows says.
fn other(body: &Body) -> (&'static str, Vec<(&'static str, Json)>) {
    match body {
        Body::Events { .. } => ("event", Vec::new()),
        Body::Tick => ("tick", Vec::new()),
        Body::Rejected {
            stream, rejected, ..
        } => {
            let bytes = match std::str::from_utf8(&rejected.bytes) {
                Ok(text) => ("text", Json::from(text)),
                Err(_) => ("base64", Json::from(to_base64(&rejected.bytes))),
            };
            let fields = vec![
                ("stream", Json::from(stream.as_str())),
                ("reason", Json::from(rejected.reason.as_str())),
                ("detail", Json::from(rejected.detail.as_str())),
                ("bytes_total", Json::from(rejected.bytes_total)),
                bytes,
            ];
            ("rejected", fields)
        }
        Body::Config { text, discards } => {
            let application: Json = serde_json::from_str(text).unwrap_or_default();
            let fields = vec![
                ("application", application),
                ("discards_state", Json::from(*discards)),
            ];
            ("config", fields)
        }
        Body::Clock(state) => {
            let fields = vec![
                ("boot", Json::from(state.boot.as_str())),
                ("trusted", Json::from(state.trusted)),
                ("wall", Json::from(point::iso(state.wall))),
            ];
            ("clock", fields)
        }
        Body::Restored { to } => ("restored", vec![("to", Json::from(to.0))]),
    }
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(is) => Json::from(*is),
        Value::Int(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Str(text) => Json::from(text.as_str()),
        Value::Bytes(bytes) => Json::from(to_base64(bytes)),
    }
}

fn line(lines: &mut Lines<'_>, json: Json) -> ControlFlow<()> {
    lines.line(json.to_string().as_bytes())
}

/// What waits for a sink.
pub(super) fn show_outbox(sink: &str, look: &Look, mut lines: Lines<'_>) -> Result<(), Trouble> {
    let names = outbox::names(&*look.store)?;
    if !names.contains(sink) {
        let known: Vec<String> = names.into_iter().collect();
        let known = match known.is_empty() {
            true => "nothing has".to_owned(),
            false => known.join(", "),
        };
        let told = format!("no sink '{sink}' has an outbox; these have: {known}");
        return Err(Trouble::Unknown(told));
    }
    outbox::waiting(&*look.store, sink, &mut |entry| lines.line(&output(&entry)))?;
    lines.close()
}

fn output(entry: &Entry) -> Vec<u8> {
    let time = point::iso(entry.time);
    let key = entry.key;
    let mut out = format!("{{\"key\":\"{key}\",\"time\":\"{time}\",\"event\":").into_bytes();
    render_json(&entry.schema, &entry.row, &mut out);
    out.push(b'}');
    out
}

fn show_checkpoint(number: u64, look: &Look, terminal: &mut Terminal<'_>) -> Result<(), Trouble> {
    let all = checkpoint::list(&*look.store)?;
    let Some(listed) = all.iter().find(|one| one.number == number) else {
        let known: Vec<String> = all.iter().map(|one| one.number.to_string()).collect();
        let told = format!(
            "there is no checkpoint {number}; there are: {}",
            known.join(", ")
        );
        return Err(Trouble::Unknown(told));
    };
    let restored = match checkpoint::load(&*look.store, listed, &mut |_| {})? {
        Ok(restored) => restored,
        Err(why) => {
            let told = format!("checkpoint {number} is damaged: {why}");
            return Err(Trouble::Unknown(told));
        }
    };
    let application = application_of(&restored);
    let files = compiled(&application)
        .map(|(_, texts)| texts)
        .unwrap_or_default();
    let files: Vec<String> = files.into_iter().map(|text| text.path).collect();
    let mut lines = Lines::terminal(terminal);
    let _ = line(
        &mut lines,
        json!({
            "checkpoint": number,
            "seq": restored.seq.0,
            "time": point::iso(restored.time),
            "runs": listed.runs().len(),
            "bytes_stored": listed.stored_bytes(),
            "pieces": restored.state.pieces().len(),
            "bytes": restored.state.bytes(),
            "application": files,
        }),
    );
    let names = Operators::of(&application);
    let mut operators: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for (place, piece) in restored.state.pieces() {
        let (pieces, bytes) = operators.entry(place.operator).or_default();
        *pieces += 1;
        *bytes += u64::try_from(piece.len()).unwrap_or(u64::MAX);
    }
    for (operator, (pieces, bytes)) in operators {
        let name = match operator {
            crate::event::Place::NO_OPERATOR => Some("what the pipeline remembers".to_owned()),
            operator => names.name(operator),
        };
        let mut object = Map::new();
        object.insert(
            "operator".to_owned(),
            Json::from(format!("{operator:016x}")),
        );
        if let Some(name) = name {
            object.insert("name".to_owned(), Json::from(name));
        }
        object.insert("pieces".to_owned(), Json::from(pieces));
        object.insert("bytes".to_owned(), Json::from(bytes));
        if line(&mut lines, Json::Object(object)).is_break() {
            break;
        }
    }
    lines.close()
}
