//! Recorded events through an application, on virtual time, without a store.
//!
//! A line is an event, `{"stream":"Readings","ts":1000,"event":{"n":1}}`, or moves the clock,
//! `{"advance_to":2000}`; times are milliseconds. What comes out depends on the lines alone.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::options::Options;
use crate::decode::Decoder;
use crate::engine::{Engine, Outputs};
use crate::event::{Batch, Rows, Seq, Timestamp};
use crate::sink::render_json;
use crate::sql::Application;
use crate::sql::plan::{Role, StreamId};

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

/// Which streams are shown: those asked for, or every sink, or, without one, every target.
///
/// # Errors
/// The first name that no stream has.
pub fn watched(application: &Application, output: &[String]) -> Result<Vec<StreamId>, String> {
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

/// A row that has come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// The row's time.
    pub time: Timestamp,
    /// Its columns, as JSON.
    pub event: String,
}

/// Takes what comes out of a replay.
pub trait Audience {
    /// A row of a stream that is shown.
    fn see(&mut self, row: Shown<'_>);

    /// Rows go through some stream, shown or not, for an audience that asks for it with
    /// [`Replay::step_by_step`].
    fn step(&mut self) {}
}

/// An application at work on virtual time.
pub struct Replay {
    application: Arc<Application>,
    watched: Vec<StreamId>,
    engine: Engine,
    decoders: BTreeMap<String, Decoder>,
    next: Seq,
}

impl Replay {
    /// Begins with nothing; what comes out of `watched` is shown.
    #[must_use]
    pub fn new(application: Arc<Application>, watched: Vec<StreamId>) -> Replay {
        let engine = Engine::new(Arc::clone(&application), |stream| watched.contains(&stream));
        Replay {
            engine,
            watched,
            decoders: BTreeMap::new(),
            next: Seq(1),
            application,
        }
    }

    /// The same, and it calls [`Audience::step`].
    #[must_use]
    pub fn step_by_step(mut self) -> Replay {
        self.engine.tap(|_| true);
        self
    }

    /// Works a line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn line(&mut self, line: &[u8], audience: &mut dyn Audience) -> Result<(), String> {
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let application = Arc::clone(&self.application);
        let watched = std::mem::take(&mut self.watched);
        let mut show = Show {
            application: &application,
            watched: &watched,
            audience,
        };
        let done = self.work(&line, &mut show);
        self.watched = watched;
        done
    }

    fn work(&mut self, line: &Line<'_>, show: &mut Show<'_>) -> Result<(), String> {
        if let Some(time) = line.advance_to {
            if line.stream.is_some() || line.event.is_some() || line.ts.is_some() {
                return Err("a line is an event or advances the clock, not both".to_owned());
            }
            self.engine.advance(Timestamp(time), self.next, show);
            self.next = self.next.plus(1);
            return Ok(());
        }
        let (Some(name), Some(time), Some(event)) = (&line.stream, line.ts, line.event) else {
            return Err("an event has 'stream', 'ts' and 'event'".to_owned());
        };
        let application = show.application;
        let Some((id, stream)) = application.stream_named(name) else {
            let known = application.streams.iter();
            let known = known.map(|stream| stream.name.as_str());
            let hint = crate::diagnostic::did_you_mean(name, known);
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            return Err(format!("there is no stream '{name}'{hint}"));
        };
        let decoder = match self.decoders.entry(name.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
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
        self.engine.push(id, rows.rows(), show);
        Ok(())
    }
}

/// Shows outputs as they come.
struct Show<'a> {
    application: &'a Application,
    watched: &'a [StreamId],
    audience: &'a mut dyn Audience,
}

impl Outputs for Show<'_> {
    fn take(&mut self, stream: StreamId, _query: u32, rows: &Batch, _ordinals: &[u32]) {
        let Some(definition) = self.application.stream(stream) else {
            return;
        };
        if !self.watched.contains(&stream) {
            return;
        }
        for row in rows.rows().iter() {
            let mut event = Vec::new();
            render_json(&definition.schema, row.values, &mut event);
            self.audience.see(Shown {
                stream: &definition.name,
                time: row.stamp.time,
                event: String::from_utf8_lossy(&event).into_owned(),
            });
        }
    }

    fn pass(&mut self, _stream: StreamId, _rows: Rows<'_>) {
        self.audience.step();
    }
}
