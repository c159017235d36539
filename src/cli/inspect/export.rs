//! `inspect export`: the content as a file that other commands read.

use std::ops::ControlFlow;
use std::path::Path;

use super::names::Schemas;
use super::{Export, Lines, Span, Trouble, cat};
use crate::cli::{Exit, Terminal};
use crate::event::{Seq, render_json, to_hex};
use crate::store::look::Look;
use crate::wal::{Body, Found, Record};

pub(super) fn export(
    what: &Export,
    look: &Look,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Trouble> {
    match what {
        Export::Log { span, out } => log(span, out, look, terminal)?,
        Export::Outbox { sink, out } => {
            cat::show_outbox(sink, look, Lines::file(out, terminal)?)?;
        }
        Export::Raw { out } => {
            let mut lines = Lines::file(out, terminal)?;
            look.store.range(&[], &[u8::MAX], &mut |key, value| {
                let (key, value) = (to_hex(key), to_hex(value));
                lines.line(format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}").as_bytes())
            })?;
            lines.close()?;
        }
    }
    Ok(Exit::Success)
}

/// What cannot be said in the form that `replay` reads.
#[derive(Default)]
struct LeftOut {
    rejected: u64,
    unknown: u64,
    config: u64,
    restored: u64,
    damaged: u64,
}

fn log(span: &Span, out: &Path, look: &Look, terminal: &mut Terminal<'_>) -> Result<(), Trouble> {
    let schemas = Schemas::read(&*look.store)?;
    let mut left_out = LeftOut::default();
    let mut lines = Lines::file(out, terminal)?;
    span.visit(&*look.store, &mut |found| match found {
        Found::Record { record, .. } | Found::Aside { record } => {
            write(&record, span, &schemas, &mut left_out, &mut lines)
        }
        Found::Damaged { .. } | Found::AsideDamaged { .. } | Found::Missing { .. } => {
            left_out.damaged += 1;
            ControlFlow::Continue(())
        }
        Found::Skipped { .. } => ControlFlow::Continue(()),
    })?;
    lines.close()?;
    let LeftOut {
        rejected,
        unknown,
        config,
        restored,
        damaged,
    } = left_out;
    let parts = [
        (rejected, "rejected inputs are left out: they are no rows"),
        (
            unknown,
            "rows are left out: no application in the store has their columns",
        ),
        (damaged, "places of the log are damaged or missing"),
        (
            restored,
            "times the state went back, which a replay does not do",
        ),
        (
            config.saturating_sub(1),
            "changes of the application, of which a replay knows the last or any other",
        ),
    ];
    for (count, what) in parts.into_iter().filter(|(count, _)| *count > 0) {
        terminal.complain(format_args!("{count} {what}"));
    }
    Ok(())
}

fn write(
    record: &Record,
    span: &Span,
    schemas: &Schemas,
    left_out: &mut LeftOut,
    lines: &mut Lines<'_>,
) -> ControlFlow<()> {
    let time = record.time;
    match &record.body {
        Body::Events {
            stream,
            schema,
            rows,
            ..
        } => {
            let name = serde_json::Value::from(stream.as_str());
            for (seq, row) in (record.first.0..).zip(rows.rows().iter()) {
                if !span.has_row(Seq(seq)) {
                    continue;
                }
                let Some(schema) = schemas.of(stream, *schema) else {
                    left_out.unknown += 1;
                    continue;
                };
                let mut line = format!("{{\"stream\":{name},\"ts\":{time},\"event\":").into_bytes();
                render_json(schema, row.values, &mut line);
                line.push(b'}');
                lines.line(&line)?;
            }
        }
        Body::Tick | Body::Clock(_) => {
            lines.line(format!("{{\"advance_to\":{time}}}").as_bytes())?;
        }
        Body::Rejected { .. } => left_out.rejected += 1,
        Body::Config { .. } => left_out.config += 1,
        Body::Restored { .. } => left_out.restored += 1,
    }
    ControlFlow::Continue(())
}
