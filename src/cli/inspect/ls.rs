//! `inspect ls`: one screen about a store.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use super::Trouble;
use crate::checkpoint::{self, Form, Listed};
use crate::cli::{Exit, Terminal, point};
use crate::event::{Seq, Timestamp};
use crate::outbox;
use crate::store::Store;
use crate::store::format;
use crate::store::look::{self, How, Look, Ward, Which};
use crate::wal::{self, Body, Found};

/// What there is.
struct Summary {
    store: String,
    user: Option<u32>,
    how: String,
    id: Option<String>,
    format: Option<u32>,
    bytes: u64,
    log: Log,
    checkpoints: Vec<(Listed, Option<String>)>,
    outboxes: Vec<outbox::Look>,
    quarantine: Vec<Ward>,
}

/// What there is of the log.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) first: Option<(Seq, Timestamp)>,
    pub(super) last: Option<(Seq, Timestamp)>,
    pub(super) records: u64,
    pub(super) rows: u64,
    pub(super) rejected: u64,
    pub(super) bytes: u64,
    /// Where it is damaged, in order, and how.
    pub(super) damage: Vec<(Seq, String)>,
    /// Records that were set aside.
    pub(super) aside: u64,
    /// Records and rows behind the first damage that matters to a start.
    pub(super) beyond: (u64, u64),
}

impl Log {
    /// Reads all of it. What is damaged up to `covered` does not keep a start from anything.
    pub(super) fn read(store: &dyn Store, covered: Seq) -> Result<Log, Trouble> {
        let mut log = Log::default();
        let mut broken = false;
        wal::look_at(store, Seq(1), &mut |found| {
            match found {
                Found::Record { record, bytes } => {
                    let rows = match &record.body {
                        Body::Events { .. } => record.body.count(),
                        Body::Rejected { .. } => {
                            log.rejected += 1;
                            0
                        }
                        Body::Tick
                        | Body::Config { .. }
                        | Body::Clock(_)
                        | Body::Restored { .. } => 0,
                    };
                    log.first.get_or_insert((record.first, record.time));
                    log.last = Some((record.last(), record.time));
                    log.records += 1;
                    log.rows += rows;
                    log.bytes += bytes;
                    if broken {
                        log.beyond.0 += 1;
                        log.beyond.1 += rows;
                    }
                }
                Found::Damaged { at, why, bytes } => {
                    log.bytes += bytes;
                    broken |= at > covered;
                    log.damage.push((at, why));
                }
                Found::Missing { first, next } => {
                    broken |= next.0 > covered.0.saturating_add(1);
                    let why = format!("nothing is there up to {next}");
                    log.damage.push((first, why));
                }
                Found::Aside { .. } | Found::AsideDamaged { .. } => log.aside += 1,
                Found::Skipped { .. } => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(log)
    }
}

pub(super) fn ls(
    dir: &Path,
    which: Which,
    look: &Look,
    json: bool,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Trouble> {
    let store = &*look.store;
    let mut checkpoints = Vec::new();
    for listed in checkpoint::list(store)? {
        let damage = checkpoint::load(store, &listed, &mut |_| {})?.err();
        checkpoints.push((listed, damage));
    }
    let mut outboxes = Vec::new();
    for name in outbox::names(store)? {
        outboxes.push(outbox::look_at(store, &name)?);
    }
    let path = match which {
        Which::Current => dir.to_owned(),
        Which::Quarantined(number) => dir.join("quarantine").join(number.to_string()),
    };
    let summary = Summary {
        store: path.display().to_string(),
        user: look::user_of(dir).filter(|_| which == Which::Current),
        how: how(look),
        id: look.id.map(|id| format!("{id:016x}")),
        format: format::said(store)?,
        bytes: look.bytes,
        log: Log::read(store, Seq(0))?,
        checkpoints,
        outboxes,
        quarantine: match which {
            Which::Current => look::wards(dir)?,
            Which::Quarantined(_) => Vec::new(),
        },
    };
    match json {
        true => terminal.say(summary.to_json()),
        false => summary.show(terminal),
    }
    Ok(Exit::Success)
}

fn how(look: &Look) -> String {
    match &look.how {
        How::Opened if look.went_back => "yes, but it has lost something".to_owned(),
        How::Opened => "yes".to_owned(),
        How::WithoutSnapshot(why) => format!("yes, without sled's snapshot ({why})"),
        How::Salvaged {
            why,
            values,
            damaged,
            unplaced,
        } => format!(
            "no: {why}; {values} whole values found, {damaged} damaged, {unplaced} without a place"
        ),
    }
}

impl Summary {
    fn show(&self, terminal: &mut Terminal<'_>) {
        let unknown = || "not known".to_owned();
        terminal.say(format_args!("store        {}", self.store));
        if let Some(user) = self.user {
            terminal.say(format_args!("in use by    process {user}"));
        }
        terminal.say(format_args!("opens        {}", self.how));
        let id = self.id.clone().unwrap_or_else(unknown);
        terminal.say(format_args!("identity     {id}"));
        let format = self
            .format
            .map_or_else(unknown, |format| format.to_string());
        terminal.say(format_args!("format       {format}"));
        terminal.say(format_args!("on disk      {}", point::size(self.bytes)));
        self.show_log(terminal);
        self.show_checkpoints(terminal);
        self.show_outboxes(terminal);
        self.show_quarantine(terminal);
    }

    fn show_checkpoints(&self, terminal: &mut Terminal<'_>) {
        let count = self.checkpoints.len();
        terminal.say(format_args!("\ncheckpoints  {count}"));
        let rows = self.checkpoints.iter().map(|(listed, damage)| {
            let base = match &listed.form {
                Form::Runs { base, .. } => base.to_string(),
                Form::Old | Form::Damaged(_) => "-".to_owned(),
            };
            vec![
                listed.number.to_string(),
                listed.seq.to_string(),
                point::iso(listed.time),
                point::size(listed.stored_bytes()),
                listed.runs().len().to_string(),
                base,
                damage
                    .as_ref()
                    .map_or_else(|| "whole".to_owned(), |why| format!("damaged: {why}")),
            ]
        });
        let head = ["number", "after", "time", "size", "runs", "base", "state"];
        table(&head, rows.collect(), terminal);
    }

    fn show_outboxes(&self, terminal: &mut Terminal<'_>) {
        let count = self.outboxes.len();
        terminal.say(format_args!("\noutboxes     {count}"));
        let rows = self.outboxes.iter().map(|look| {
            let counts = look.counts;
            let mut row = vec![
                look.name.clone(),
                look.entries.to_string(),
                point::size(look.bytes),
                look.oldest.map_or_else(|| "-".to_owned(), point::iso),
            ];
            let damaged = counts.damaged.saturating_add(look.damaged_groups);
            let counts = [
                counts.confirmed,
                counts.dropped,
                counts.expired,
                counts.refused,
                counts.purged,
            ];
            row.extend(
                counts
                    .into_iter()
                    .chain([damaged])
                    .map(|count| count.to_string()),
            );
            row
        });
        let head = [
            "sink",
            "waiting",
            "size",
            "oldest",
            "confirmed",
            "dropped",
            "expired",
            "refused",
            "purged",
            "damaged",
        ];
        table(&head, rows.collect(), terminal);
    }

    fn show_quarantine(&self, terminal: &mut Terminal<'_>) {
        let count = self.quarantine.len();
        terminal.say(format_args!("\nquarantine   {count}"));
        let rows = self.quarantine.iter().map(|ward| {
            vec![
                ward.number.to_string(),
                point::iso(written(ward)),
                point::size(ward.bytes),
                ward.why.clone().unwrap_or_else(|| "not noted".to_owned()),
            ]
        });
        table(
            &["number", "written", "size", "why"],
            rows.collect(),
            terminal,
        );
    }

    fn show_log(&self, terminal: &mut Terminal<'_>) {
        let log = &self.log;
        let size = point::size(log.bytes);
        terminal.say(format_args!(
            "\nlog          {} records, {size}",
            log.records
        ));
        if let (Some(first), Some(last)) = (log.first, log.last) {
            for (name, (seq, time)) in [("from", first), ("to", last)] {
                terminal.say(format_args!("  {name:<10} {seq} ({})", point::iso(time)));
            }
            terminal.say(format_args!("  rows       {}", log.rows));
            terminal.say(format_args!("  rejected   {}", log.rejected));
        }
        for (at, why) in &log.damage {
            terminal.say(format_args!("  damaged    at {at}: {why}"));
        }
        if log.aside > 0 {
            terminal.say(format_args!("  set aside  {} records", log.aside));
        }
    }

    fn to_json(&self) -> Json {
        let place = |place: Option<(Seq, Timestamp)>| {
            place.map(|(seq, time)| json!({"seq": seq.0, "time": point::iso(time)}))
        };
        let log = &self.log;
        let checkpoints = self.checkpoints.iter().map(|(listed, damage)| {
            json!({
                "number": listed.number,
                "seq": listed.seq.0,
                "time": point::iso(listed.time),
                "bytes": listed.stored_bytes(),
                "runs": listed.runs().len(),
                "damage": damage,
            })
        });
        let outboxes = self.outboxes.iter().map(|look| {
            json!({
                "sink": look.name,
                "waiting": look.entries,
                "bytes": look.bytes,
                "oldest": look.oldest.map(point::iso),
                "confirmed": look.counts.confirmed,
                "dropped": look.counts.dropped,
                "expired": look.counts.expired,
                "refused": look.counts.refused,
                "purged": look.counts.purged,
                "damaged": look.counts.damaged.saturating_add(look.damaged_groups),
            })
        });
        let quarantine = self.quarantine.iter().map(|ward| {
            json!({
                "number": ward.number,
                "written": point::iso(written(ward)),
                "bytes": ward.bytes,
                "why": ward.why,
            })
        });
        let damage = log.damage.iter();
        let damage = damage.map(|(at, why)| json!({"seq": at.0, "why": why}));
        json!({
            "store": self.store,
            "in_use_by": self.user,
            "opens": self.how,
            "identity": self.id,
            "format": self.format,
            "bytes": self.bytes,
            "log": {
                "records": log.records,
                "bytes": log.bytes,
                "from": place(log.first),
                "to": place(log.last),
                "rows": log.rows,
                "rejected": log.rejected,
                "aside": log.aside,
                "damage": damage.collect::<Vec<_>>(),
            },
            "checkpoints": checkpoints.collect::<Vec<_>>(),
            "outboxes": outboxes.collect::<Vec<_>>(),
            "quarantine": quarantine.collect::<Vec<_>>(),
        })
    }
}

fn written(ward: &Ward) -> Timestamp {
    Timestamp(since_epoch_ms(ward.written))
}

fn since_epoch_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Columns as wide as what is in them; nothing for no rows.
fn table(head: &[&str], rows: Vec<Vec<String>>, terminal: &mut Terminal<'_>) {
    if rows.is_empty() {
        return;
    }
    let head = head.iter().map(|name| (*name).to_owned()).collect();
    let all: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &all {
        for (column, cell) in row.iter().enumerate() {
            let length = cell.chars().count();
            match widths.get_mut(column) {
                Some(width) => *width = length.max(*width),
                None => widths.push(length),
            }
        }
    }
    for row in &all {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        terminal.say(format_args!("  {}", line.trim_end()));
    }
}
