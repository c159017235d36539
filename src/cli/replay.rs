//! `replay`: recorded events through the SQL, on virtual time, without a store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Exit, Terminal, prepare};
use crate::config::options::Options;
use crate::decode::Decoder;
use crate::engine::{Engine, Outputs};
use crate::event::{Batch, Seq, Timestamp};
use crate::sink::render_json;
use crate::sql::Application;
use crate::sql::plan::{Role, StreamId};

/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// One line of input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    stream: Option<String>,
    ts: Option<i64>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    advance_to: Option<i64>,
}

pub(super) fn replay(
    files: &[PathBuf],
    input: &Path,
    output: &[String],
    terminal: &mut Terminal<'_>,
) -> Exit {
    let prepared = match prepare(files, terminal) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    let application = prepared.application;
    let watched = match watched(&application, output) {
        Ok(watched) => watched,
        Err(unknown) => {
            terminal.complain(format_args!("there is no stream '{unknown}'"));
            return Exit::Usage;
        }
    };
    let mut reader: Box<dyn BufRead> = if input == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        match File::open(input) {
            Ok(file) => Box::new(BufReader::new(file)),
            Err(error) => {
                terminal.complain(format_args!("cannot read `{}`: {error}", input.display()));
                return Exit::Usage;
            }
        }
    };
    let mut replay = Replay {
        engine: Engine::new(Arc::clone(&application), |stream| watched.contains(&stream)),
        decoders: BTreeMap::new(),
        next: Seq(1),
        application,
    };
    let mut buffer = Vec::new();
    for number in 1_u64.. {
        buffer.clear();
        match reader
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut buffer)
        {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                terminal.complain(format_args!("cannot read `{}`: {error}", input.display()));
                return Exit::Failed;
            }
        }
        if buffer.trim_ascii().is_empty() {
            continue;
        }
        if let Err(fault) = replay.line(&buffer, &watched, terminal) {
            terminal.complain(format_args!("{}:{number}: {fault}", input.display()));
            return Exit::Failed;
        }
    }
    Exit::Success
}

/// Which streams are shown: those asked for, or every sink, or, without one, every target.
fn watched(application: &Application, output: &[String]) -> Result<Vec<StreamId>, String> {
    if !output.is_empty() {
        let find = |name: &String| {
            application
                .stream_named(name)
                .map(|(id, _)| id)
                .ok_or_else(|| name.clone())
        };
        return output.iter().map(find).collect();
    }
    let streams = (0..).map(StreamId).zip(&application.streams);
    let sinks: Vec<StreamId> = streams
        .filter(|(_, stream)| stream.role == Role::Sink)
        .map(|(id, _)| id)
        .collect();
    if sinks.is_empty() {
        return Ok(application
            .queries
            .iter()
            .filter_map(|query| query.target_stream())
            .collect());
    }
    Ok(sinks)
}

struct Replay {
    application: Arc<Application>,
    engine: Engine,
    decoders: BTreeMap<String, Decoder>,
    next: Seq,
}

impl Replay {
    fn line(
        &mut self,
        line: &[u8],
        watched: &[StreamId],
        terminal: &mut Terminal<'_>,
    ) -> Result<(), String> {
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let application = Arc::clone(&self.application);
        let mut show = Show {
            application: &application,
            watched,
            terminal,
        };
        if let Some(time) = line.advance_to {
            if line.stream.is_some() || line.event.is_some() || line.ts.is_some() {
                return Err("a line is an event or advances the clock, not both".to_owned());
            }
            self.engine.advance(Timestamp(time), self.next, &mut show);
            self.next = self.next.plus(1);
            return Ok(());
        }
        let (Some(name), Some(time), Some(event)) = (line.stream, line.ts, line.event) else {
            return Err("an event has 'stream', 'ts' and 'event'".to_owned());
        };
        let Some((id, stream)) = application.stream_named(&name) else {
            let known = application
                .streams
                .iter()
                .map(|stream| stream.name.as_str());
            let hint = crate::diagnostic::did_you_mean(&name, known);
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            return Err(format!("there is no stream '{name}'{hint}"));
        };
        let decoder = match self.decoders.entry(name) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let decoder = Decoder::new("json", &Options::default(), &stream.schema, &[]);
                entry.insert(decoder.map_err(|fault| fault.to_string())?)
            }
        };
        let mut rows = Batch::new(stream.schema.width());
        decoder
            .decode(event.get().as_bytes(), &mut rows)
            .map_err(|reject| reject.to_string())?;
        rows.stamp_all(self.next, Timestamp(time).max(self.engine.clock()));
        self.next = self.next.plus(u64::try_from(rows.len()).unwrap_or(1));
        self.engine.push(id, rows.rows(), &mut show);
        Ok(())
    }
}

/// Writes outputs as they come.
struct Show<'a, 'b> {
    application: &'a Application,
    watched: &'a [StreamId],
    terminal: &'a mut Terminal<'b>,
}

impl Outputs for Show<'_, '_> {
    fn take(&mut self, stream: StreamId, _query: u32, rows: &Batch, _ordinals: &[u32]) {
        let Some(definition) = self.application.stream(stream) else {
            return;
        };
        if !self.watched.contains(&stream) {
            return;
        }
        let name = serde_json::to_string(&definition.name).unwrap_or_default();
        for row in rows.rows().iter() {
            let mut event = Vec::new();
            render_json(&definition.schema, row.values, &mut event);
            let event = String::from_utf8_lossy(&event);
            let time = row.stamp.time;
            self.terminal.say(format_args!(
                "{{\"stream\":{name},\"ts\":{time},\"event\":{event}}}"
            ));
        }
    }
}
