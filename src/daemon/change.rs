//! Another configuration under a running daemon: what is the same stays and notices nothing, what
//! is not gives way, and the state of what did not change is kept.
//!
//! 1. The new one is read and checked completely, on a thread of its own. Nothing of it is started.
//! 2. What cannot change while the daemon runs is refused, and so is a loss of state that
//!    `application.state_policy` forbids.
//! 3. Sources and sinks that do not stay end in order: a source hands over what it has, a sink
//!    delivers what it has in hand.
//! 4. The pipeline works off what has arrived and goes over to the new application
//!    ([`pipeline::Command::Change`]).
//! 5. What is new begins; a sink begins with what waits in its outbox.
//!
//! Should the pipeline refuse in step 4, what has ended begins again as it was. The daemon itself
//! starts this way, too: from nothing to its first configuration.
//!
//! [`pipeline::Command::Change`]: crate::pipeline::Command::Change

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use tokio::sync::{mpsc, watch};

use super::crew::Worker;
use super::prepare::{Connector, MadeOf};
use super::run::{DELIVERIES_MAX, EVENTS_SOURCE, Running, Waited};
use super::store::{disk, limits};
use super::{Failure, Prepared};
use crate::config::{self, Settings, StatePolicy, Veil};
use crate::diagnostic::{Diagnostic, Severity};
use crate::event::{
    DeliveryMark, EVENTS_COLUMNS, EVENTS_STREAM, OutputKey, Report, ReportKind, Seq,
};
use crate::pipeline::{Change, Changed, Command, NewSink, SinkToBe, SourceToBe, Unchanged, Wanted};
use crate::sink::{Delivery, Sink};
use crate::source::Source;
use crate::sql::Application;
use crate::sql::plan::{Role, StreamId};

/// How much longer than it may take one that ends is waited for.
const END_SLACK: Duration = Duration::from_secs(1);

/// Reads and checks a configuration.
pub(super) type Prepare = Box<dyn FnOnce() -> Result<Prepared, Failure> + Send>;

/// Why the configuration in force stays so.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Something is wrong with the new one.
    #[error("{}", first_of(.0))]
    Faulty(Failure),
    /// It differs in something that cannot change while the daemon runs.
    #[error("'{key}' cannot change while the daemon runs: change it back, or restart the daemon")]
    Fixed {
        /// The key.
        key: &'static str,
    },
    /// It has no stream at all, and there are some: more likely a file that is being written.
    #[error(
        "there is no stream in its SQL any more, so that all state would go: if that is meant, \
         restart the daemon"
    )]
    Empty,
    /// It could not be read to its end.
    #[error("reading it has ended by itself, which is a bug: the log says more")]
    Unread,
    /// The pipeline does not go over to it.
    #[error(transparent)]
    Pipeline(#[from] crate::pipeline::PipelineError),
    /// The daemon is about to end.
    #[error("the daemon is stopping")]
    Stopping,
}

/// Another configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The last input that was worked under the one before.
    pub at: Seq,
    /// Whether the SQL is another one.
    pub is_other: bool,
    /// What became of the sources.
    pub sources: Parts,
    /// What became of the sinks.
    pub sinks: Parts,
    /// What somebody should know: what starts empty, outputs that nothing delivers any more. A
    /// sentence each.
    pub warnings: Vec<String>,
}

/// What became of sources or sinks, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Not touched.
    pub kept: Vec<String>,
    /// Other than before, or had failed.
    pub restarted: Vec<String>,
    /// New.
    pub added: Vec<String>,
    /// Gone.
    pub removed: Vec<String>,
}

/// A configuration as it runs.
pub(super) struct InForce {
    pub(super) settings: Settings,
    wanted: Wanted,
    pub(super) sources: Vec<Connector<Source>>,
    pub(super) sinks: Vec<Connector<Sink>>,
    /// What of it nobody is to see.
    pub(super) veil: Arc<Veil>,
}

impl InForce {
    pub(super) fn new(prepared: Prepared) -> InForce {
        InForce {
            wanted: prepared.wanted(),
            settings: prepared.settings,
            sources: prepared.sources,
            sinks: prepared.sinks,
            veil: Arc::new(prepared.veil),
        }
    }

    pub(super) fn application(&self) -> Arc<Application> {
        Arc::clone(&self.wanted.application)
    }
}

/// What belongs to sources and sinks that are to begin, by number.
#[derive(Default)]
struct Beginning {
    sources: BTreeMap<usize, watch::Receiver<u64>>,
    sinks: BTreeMap<usize, (mpsc::Receiver<Delivery>, watch::Receiver<OutputKey>)>,
    /// The number of each, by name.
    source_numbers: BTreeMap<String, usize>,
    sink_numbers: BTreeMap<String, usize>,
}

impl Running {
    /// Goes over to what was read, tells what came of it, and gives back why it was refused.
    pub(super) fn reload(
        &mut self,
        read: Result<Prepared, Refused>,
        answer: Option<Sender<Result<Reloaded, Refused>>>,
    ) -> Option<String> {
        if let Err(Refused::Faulty(failure)) = &read {
            tell_all(&failure.diagnostics, &failure.texts);
        }
        let result = read.and_then(|prepared| self.change(prepared));
        match &result {
            Ok(reloaded) => self.tell_changed(reloaded),
            Err(refused) => {
                tracing::error!("the new configuration is refused, the old one goes on: {refused}");
                self.crew.reporter.tell(Report {
                    kind: ReportKind::ConfigRefused,
                    stream: String::new(),
                    reason: refused.to_string(),
                    duration_ms: None,
                    details: None,
                });
            }
        }
        let refused = result.as_ref().err().map(Refused::to_string);
        if let Some(answer) = answer {
            // Who asked may be gone.
            let _ = answer.send(result);
        }
        refused
    }

    fn change(&mut self, prepared: Prepared) -> Result<Reloaded, Refused> {
        tell_all(&prepared.warnings, &prepared.shown);
        let returns = prepared.returns;
        let mut next = InForce::new(prepared);
        if let Some(before) = &self.in_force {
            let streams = |one: &InForce| one.wanted.application.streams.len();
            if streams(&next) == 0 && streams(before) > 0 && !returns {
                return Err(Refused::Empty);
            }
            settle_fixed(&before.settings, &mut next.settings)?;
        }
        self.check_state(&next)?;
        let sources = parts(&self.crew.sources, &made_of(&next.sources));
        let sinks = parts(&self.crew.sinks, &made_of(&next.sinks));
        self.end_others(&next)?;
        let Changed {
            at,
            is_other,
            warnings,
            ..
        } = match self.put(&mut next) {
            Ok(changed) => changed,
            Err(refused) => {
                self.go_back(&refused);
                return Err(refused);
            }
        };
        self.in_force = Some(next);
        self.show();
        Ok(Reloaded {
            at,
            is_other,
            sources,
            sinks,
            warnings,
        })
    }

    /// What has ended for the sake of a change that did not come about begins again as it was.
    fn go_back(&mut self, refused: &Refused) {
        if matches!(refused, Refused::Stopping) {
            return;
        }
        let Some(mut before) = self.in_force.take() else {
            return;
        };
        tracing::warn!("going back to the configuration before");
        match self.put(&mut before) {
            Ok(_) | Err(Refused::Stopping) => {}
            Err(error) => tracing::error!(
                "sources and sinks that were to change stand still until the next reload: {error}"
            ),
        }
        // Also when they stand still: what may change next is measured by it.
        self.in_force = Some(before);
        self.show();
    }

    fn ask(&mut self, command: Command) -> Result<(), Refused> {
        let asked = self.ends.ask(&self.commands, command, &self.orders.stop);
        asked.then_some(()).ok_or(Refused::Stopping)
    }

    /// Refuses an application that must not give up state and would, while nothing has ended yet.
    fn check_state(&mut self, next: &InForce) -> Result<(), Refused> {
        if next.settings.application.state_policy != StatePolicy::KeepOrFail {
            return Ok(());
        }
        let (answer, answered) = bounded(1);
        self.ask(Command::WouldKeep(next.wanted.clone(), answer))?;
        match self.ends.wait(&answered, &self.orders.stop, None) {
            Waited::Got(kept) => Ok(kept?),
            Waited::Closed | Waited::Late | Waited::Ends => Err(Refused::Stopping),
        }
    }

    /// Has all those end that do not stay.
    fn end_others(&mut self, next: &InForce) -> Result<(), Refused> {
        let leaving = leaving(&self.crew.sources, &made_of(&next.sources))
            .chain(leaving(&self.crew.sinks, &made_of(&next.sinks)));
        let leaving: Vec<(&String, &Worker)> = leaving.collect();
        leaving.iter().for_each(|(_, worker)| worker.tell_to_end());
        let until = Instant::now() + self.crew.stop_within + END_SLACK;
        for (name, worker) in leaving {
            let mut wait = |until| {
                self.ends
                    .wait(worker.ended(), &self.orders.stop, Some(until))
            };
            match wait(until) {
                Waited::Closed => continue,
                Waited::Ends => return Err(Refused::Stopping),
                Waited::Got(never) => match never {},
                Waited::Late => worker.abort(),
            }
            match wait(Instant::now() + END_SLACK) {
                Waited::Closed => tracing::warn!("'{name}' did not end in time and was cut off"),
                Waited::Ends => return Err(Refused::Stopping),
                Waited::Got(never) => match never {},
                Waited::Late => tracing::error!("'{name}' does not end; what it does is ignored"),
            }
        }
        Ok(())
    }

    /// Has the pipeline go over to a configuration, and starts what is not there yet. Those that
    /// are there and do not stay have ended.
    pub(super) fn put(&mut self, next: &mut InForce) -> Result<Changed, Refused> {
        let (answer, answered) = bounded(1);
        let mut beginning = Beginning::default();
        let sources = self.sources_to_be(next, &mut beginning);
        let sinks = self.sinks_to_be(next, &mut beginning);
        let change = Change {
            limits: limits(&next.settings),
            disk: disk(
                &next.settings,
                next.wanted.clone(),
                &self.crew.counted.pipeline,
            ),
            wanted: next.wanted.clone(),
            sources,
            sinks,
            answer,
        };
        self.ask(Command::Change(Box::new(change)))?;
        let mut changed = match self.ends.wait(&answered, &self.orders.stop, None) {
            Waited::Got(Ok(changed)) => changed,
            Waited::Got(Err(Unchanged::Refused(error))) => return Err(error.into()),
            Waited::Got(Err(Unchanged::Stopping))
            | Waited::Closed
            | Waited::Late
            | Waited::Ends => return Err(Refused::Stopping),
        };
        for warning in &changed.warnings {
            tracing::warn!("{warning}");
        }
        self.take_settings(&next.settings);
        self.take_reports();
        self.begin(next, &mut beginning, &mut changed.marks);
        Ok(changed)
    }

    fn sources_to_be(
        &mut self,
        next: &InForce,
        beginning: &mut Beginning,
    ) -> BTreeMap<usize, SourceToBe> {
        let mut all = BTreeMap::new();
        for source in &next.sources {
            let (stream, known) = (source.stream, self.crew.sources.get(&source.name));
            let known = known.filter(|worker| worker.may_stay(&source.made_of));
            let (number, released) = match known.map(|worker| worker.number) {
                Some(number) => (number, None),
                None => {
                    let number = self.crew.number();
                    let (released, release) = watch::channel(0);
                    beginning.sources.insert(number, release);
                    let numbers = &mut beginning.source_numbers;
                    numbers.insert(source.name.clone(), number);
                    (number, Some(released))
                }
            };
            all.insert(number, SourceToBe { stream, released });
        }
        if let Some(stream) = events_stream(&next.wanted.application) {
            // Reports are not acknowledged, so that nobody listens.
            let released = Some(watch::channel(0).0);
            all.insert(EVENTS_SOURCE, SourceToBe { stream, released });
        }
        all
    }

    fn sinks_to_be(&mut self, next: &InForce, beginning: &mut Beginning) -> Vec<SinkToBe> {
        let mut all = Vec::new();
        for sink in &next.sinks {
            let known = self.crew.sinks.get(&sink.name);
            let known = known.filter(|worker| worker.may_stay(&sink.made_of));
            if let Some(number) = known.map(|worker| worker.number) {
                all.push(SinkToBe { number, new: None });
                continue;
            }
            let number = self.crew.number();
            let (to, deliveries) = mpsc::channel(DELIVERIES_MAX);
            let (settled, is_settled) = watch::channel(OutputKey::default());
            beginning.sinks.insert(number, (deliveries, is_settled));
            let numbers = &mut beginning.sink_numbers;
            numbers.insert(sink.name.clone(), number);
            let new = Some(NewSink {
                to,
                holds_bytes_max: config::outbox_memory_max(&sink.options),
                settled,
                metrics: self.crew.outbox_metrics(&sink.name),
            });
            all.push(SinkToBe { number, new });
        }
        all
    }

    /// Starts what begins, and forgets who has ended.
    fn begin(
        &mut self,
        next: &mut InForce,
        beginning: &mut Beginning,
        marks: &mut BTreeMap<usize, Vec<DeliveryMark>>,
    ) {
        let crew = &mut self.crew;
        let (sources, sinks) = (made_of(&next.sources), made_of(&next.sinks));
        crew.sources
            .retain(|name, worker| stays(name, worker, &sources));
        crew.sinks
            .retain(|name, worker| stays(name, worker, &sinks));
        let failed = |what: &str, name: &str, error: &dyn std::fmt::Display| {
            tracing::error!("{what} {name} cannot begin again: {error}");
        };
        for sink in &mut next.sinks {
            let number = beginning.sink_numbers.get(&sink.name).copied();
            let given = number.and_then(|number| Some((number, beginning.sinks.remove(&number)?)));
            if let Some((number, (deliveries, settled))) = given {
                let confirmed = self.held.1.clone();
                let started = crew.start_sink(number, sink, deliveries, settled, confirmed);
                started.unwrap_or_else(|error| failed("sink", &sink.name, &error));
            }
        }
        for source in &mut next.sources {
            let number = beginning.source_numbers.get(&source.name).copied();
            let given =
                number.and_then(|number| Some((number, beginning.sources.remove(&number)?)));
            if let Some((number, released)) = given {
                let tail = marks.remove(&number).unwrap_or_default();
                let arrivals = self.held.0.clone();
                let started = crew.start_source(number, source, tail, arrivals, released);
                started.unwrap_or_else(|error| failed("source", &source.name, &error));
            }
        }
    }

    fn tell_changed(&self, reloaded: &Reloaded) {
        let Reloaded {
            at,
            is_other,
            sources,
            sinks,
            warnings,
        } = reloaded;
        let sql = if *is_other { "another" } else { "the same" };
        let text = format!(
            "the configuration has changed after {at}: {sql} SQL; sources {sources}; sinks {sinks}"
        );
        tracing::info!("{text}");
        let parts = |parts: &Parts| {
            serde_json::json!({
                "kept": parts.kept,
                "restarted": parts.restarted,
                "added": parts.added,
                "removed": parts.removed,
            })
        };
        let details = serde_json::json!({
            "seq": at.0,
            "sources": parts(sources),
            "sinks": parts(sinks),
            "warnings": warnings,
        });
        self.crew.reporter.tell(Report {
            kind: ReportKind::ConfigChanged,
            stream: String::new(),
            reason: text,
            duration_ms: None,
            details: Some(details.to_string()),
        });
    }
}

impl std::fmt::Display for Parts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            ("kept", &self.kept),
            ("restarted", &self.restarted),
            ("added", &self.added),
            ("removed", &self.removed),
        ];
        let some = parts.iter().filter(|(_, names)| !names.is_empty());
        let some = some.map(|(what, names)| format!("{what} {}", names.join(", ")));
        let some: Vec<String> = some.collect();
        match some.is_empty() {
            true => out.write_str("none"),
            false => out.write_str(&some.join(", ")),
        }
    }
}

/// What connectors are made of, by name.
fn made_of<T>(connectors: &[Connector<T>]) -> BTreeMap<&str, &MadeOf> {
    let pairs = connectors.iter();
    pairs.map(|one| (one.name.as_str(), &one.made_of)).collect()
}

fn stays(name: &str, worker: &Worker, next: &BTreeMap<&str, &MadeOf>) -> bool {
    next.get(name)
        .is_some_and(|made_of| worker.may_stay(made_of))
}

/// Those that do not stay.
fn leaving<'a>(
    workers: &'a BTreeMap<String, Worker>,
    next: &BTreeMap<&str, &MadeOf>,
) -> std::vec::IntoIter<(&'a String, &'a Worker)> {
    let all = workers.iter();
    let leaving = all.filter(|(name, worker)| !stays(name, worker, next));
    leaving.collect::<Vec<_>>().into_iter()
}

/// What is to become of whom.
fn parts(workers: &BTreeMap<String, Worker>, next: &BTreeMap<&str, &MadeOf>) -> Parts {
    let mut parts = Parts::default();
    for (name, made_of) in next {
        let list = match workers.get(*name) {
            Some(worker) if worker.may_stay(made_of) => &mut parts.kept,
            Some(_) => &mut parts.restarted,
            None => &mut parts.added,
        };
        list.push((*name).to_owned());
    }
    let gone = workers
        .keys()
        .filter(|name| !next.contains_key(name.as_str()));
    parts.removed.extend(gone.cloned());
    parts
}

/// Refuses what cannot change while the daemon runs.
pub(super) fn fixed(before: &Settings, next: &Settings) -> Result<(), Refused> {
    match next.store.path == before.store.path {
        true => Ok(()),
        false => Err(Refused::Fixed { key: "store.path" }),
    }
}

/// Refuses what cannot change while the daemon runs; what may wait for the next start is warned of,
/// and stays as it is.
fn settle_fixed(before: &Settings, next: &mut Settings) -> Result<(), Refused> {
    fixed(before, next)?;
    let waits = |key: &str| {
        tracing::warn!("'{key}' stays as it is until the daemon is started again");
    };
    if next.store.cache_bytes != before.store.cache_bytes {
        waits("store.cache_bytes");
        next.store.cache_bytes = before.store.cache_bytes;
    }
    if next.broker != before.broker {
        waits("broker.listen");
        next.broker = before.broker;
    }
    if next.simulator != before.simulator {
        waits("simulator.seed");
        next.simulator = before.simulator;
    }
    Ok(())
}

/// The stream of reports, when the application reads the built-in one.
fn events_stream(application: &Application) -> Option<StreamId> {
    let (id, stream) = application.stream_named(EVENTS_STREAM)?;
    let fields = stream.schema.fields().iter();
    let columns = fields.map(|field| (field.name.as_str(), field.ty));
    (stream.role == Role::Internal && columns.eq(EVENTS_COLUMNS)).then_some(id)
}

/// Every finding, as `check` would show it.
fn tell_all(findings: &[Diagnostic], texts: &BTreeMap<String, String>) {
    for finding in findings {
        let text = texts.get(&finding.path).map_or("", String::as_str);
        let shown = finding.render(text);
        match finding.severity {
            Severity::Error => tracing::error!("{}", shown.trim_end()),
            Severity::Warning => tracing::warn!("{}", shown.trim_end()),
        }
    }
}

/// The first sentence of what is wrong.
fn first_of(failure: &Failure) -> String {
    let errors = failure.diagnostics.iter();
    let mut errors = errors.filter(|fault| fault.severity == Severity::Error);
    let Some(Diagnostic {
        path,
        place,
        message,
        ..
    }) = errors.next()
    else {
        return "it is faulty".to_owned();
    };
    let place = place.map_or(String::new(), |place| {
        format!("{}:{}:", place.line, place.column)
    });
    match errors.count() {
        0 => format!("{path}:{place} {message}"),
        more => format!("{path}:{place} {message}; and {more} more"),
    }
}
