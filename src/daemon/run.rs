//! Opening, running, draining; and who may ask a running daemon for something.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, never};
use crossbeam::select;
use tokio::sync::{mpsc, watch};

use super::change::{InForce, Prepare, Refused, Reloaded};
use super::crew::{Crew, thread};
use super::status::{News, patiently, pulse};
use super::store::{disk, first_open, limits};
use super::{DaemonError, Failure, Prepared, Window, cannot_start, reports};
use crate::config::{OnFail, Settings};
use crate::event::{EVENTS_STREAM, Report};
use crate::observe::{Counted, PipelineMetrics};
use crate::pipeline::{self, Command, Disk, Handles, Opened, Outcome, PipelineError};
use crate::report::Reporter;
use crate::sink;
use crate::source;
use crate::supervisor::{Notice, Supervisor};

/// Arrivals that may wait for the pipeline, of all sources together.
const ARRIVALS_MAX: usize = 16;
/// Outputs that a sink may hold.
pub(super) const DELIVERIES_MAX: usize = 1024;
/// Confirmations that may wait for the pipeline. A sink that finds no room keeps its last one, and
/// that stands for those before it.
const CONFIRMED_MAX: usize = 1024;
/// The number of the source of reports.
pub(super) const EVENTS_SOURCE: usize = 0;

/// How a daemon is spoken to.
pub struct Orders {
    /// Speaks, or closes, when the daemon is to stop.
    pub stop: Receiver<()>,
    /// Asks for other configurations, see [`Door::new`].
    pub requests: Receiver<Request>,
    /// Told the settings that are in force.
    pub apply: Box<dyn FnMut(&Settings) + Send>,
    /// Told how it goes.
    pub supervisor: Supervisor,
    /// Shows what is in force.
    pub window: Window,
    /// Hears what sources, sinks and the pipeline report, from before the store is opened; what
    /// finds it full is gone.
    pub reports: Option<mpsc::Sender<Report>>,
}

impl Orders {
    /// Only that it is to stop.
    #[must_use]
    pub fn only_stop(stop: Receiver<()>) -> Orders {
        Orders {
            stop,
            requests: never(),
            apply: Box::new(|_| {}),
            supervisor: Supervisor::default(),
            window: Window::default(),
            reports: None,
        }
    }
}

impl std::fmt::Debug for Orders {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Orders")
    }
}

/// Through which a running daemon is asked for another configuration. Whatever asks, a signal or
/// somebody far away: there is one way to change it.
#[derive(Clone, Debug)]
pub struct Door(Sender<Request>);

/// Somebody wants another configuration.
pub struct Request {
    prepare: Prepare,
    answer: Option<Sender<Result<Reloaded, Refused>>>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Request")
    }
}

impl Door {
    /// A door, and what is asked through it.
    #[must_use]
    pub fn new() -> (Door, Receiver<Request>) {
        let (to, requests) = bounded(1);
        (Door(to), requests)
    }

    /// Has the daemon go over to what `prepare` gives, which runs on a thread of its own, and waits
    /// for what comes of it.
    ///
    /// # Errors
    /// Why the configuration in force stays so.
    pub fn reload(
        &self,
        prepare: impl FnOnce() -> Result<Prepared, Failure> + Send + 'static,
    ) -> Result<Reloaded, Refused> {
        let (answer, answered) = bounded(1);
        let request = Request {
            prepare: Box::new(prepare),
            answer: Some(answer),
        };
        self.0.send(request).map_err(|_| Refused::Stopping)?;
        answered.recv().map_err(|_| Refused::Stopping)?
    }

    /// The same without waiting; the log tells what comes of it. False when a request waits
    /// already: what is read is read later than now, so that it covers this one.
    pub fn knock(
        &self,
        prepare: impl FnOnce() -> Result<Prepared, Failure> + Send + 'static,
    ) -> bool {
        let request = Request {
            prepare: Box::new(prepare),
            answer: None,
        };
        self.0.try_send(request).is_ok()
    }
}

impl Prepared {
    /// Opens the store, recovers, and runs until it is told to stop; then drains.
    ///
    /// # Errors
    /// When the store cannot be opened or fails, when a stream has failed and that is to end the
    /// daemon, or when something does not stop in time.
    pub fn run(self, mut orders: Orders) -> Result<Outcome, DaemonError> {
        let began = Instant::now();
        let (reporter, reports) = Reporter::new();
        let reporter = reporter.heard_by(orders.reports.take());
        let metrics = Arc::new(PipelineMetrics::telling(reporter));
        let wanted = self.wanted();
        let mut disk = disk(&self.settings, wanted.clone(), &metrics);
        let opened = patiently(&orders.supervisor, || {
            first_open(&mut disk, &metrics, &orders.stop)
        })?;
        let mut running = Running::start(&self, disk, opened, (metrics, reports), orders)?;
        let mut first = InForce::new(self);
        match running.put(&mut first) {
            Ok(_) => {
                running.in_force = Some(first);
                running.show();
                running.tell_ready(None);
                tracing::info!("ready after {} ms", began.elapsed().as_millis());
            }
            // Whoever tells the daemon to stop before it has begun does not want to hear more.
            Err(Refused::Stopping) => {}
            // It waits for a configuration that can be, and for the service manager that is up.
            Err(refused) => {
                tracing::error!("nothing was started: {refused}");
                running.tell_ready(Some(refused.to_string()));
            }
        }
        running.orders.window.come_up();
        running.until()
    }
}

/// A daemon at work.
pub(super) struct Running {
    pub(super) orders: Orders,
    pub(super) crew: Crew,
    pub(super) commands: Sender<Command>,
    /// Kept until the stop, so that an application without sources or sinks runs too.
    pub(super) held: (Sender<source::Arrival>, Sender<sink::Confirmed>),
    /// What runs; none before anything does.
    pub(super) in_force: Option<InForce>,
    /// Why the configuration that was asked for last is not what runs.
    pub(super) refused: Option<String>,
    pub(super) ends: Ends,
    /// What is reported before anything runs waits until there are streams that could take it.
    reports: Option<mpsc::Receiver<Report>>,
    tell_stop: watch::Sender<bool>,
    deadline: Duration,
}

/// What ends every waiting.
pub(super) struct Ends {
    /// The pipeline's thread gives what came of it.
    ended: Receiver<Result<Outcome, PipelineError>>,
    result: Option<Result<Outcome, DaemonError>>,
    /// Whether the daemon is to stop.
    told: bool,
}

/// How waiting ended.
pub(super) enum Waited<T> {
    Got(T),
    /// Nobody will send anything any more.
    Closed,
    Late,
    /// The daemon is to stop, or the pipeline has ended.
    Ends,
}

impl Ends {
    /// Asks the pipeline for something; false when that, or the daemon, is about to end. It takes
    /// nothing while its store is away.
    pub(super) fn ask(
        &mut self,
        pipeline: &Sender<Command>,
        command: Command,
        stop: &Receiver<()>,
    ) -> bool {
        if self.told || self.result.is_some() {
            return false;
        }
        select! {
            send(pipeline, command) -> sent => sent.is_ok(),
            recv(stop) -> _ => {
                self.told = true;
                false
            }
            recv(self.ended) -> result => {
                self.result = Some(finished(result));
                false
            }
        }
    }

    pub(super) fn wait<T>(
        &mut self,
        on: &Receiver<T>,
        stop: &Receiver<()>,
        until: Option<Instant>,
    ) -> Waited<T> {
        if self.told || self.result.is_some() {
            return Waited::Ends;
        }
        let late = until.map_or_else(never, crossbeam::channel::at);
        select! {
            recv(on) -> got => got.map_or(Waited::Closed, Waited::Got),
            recv(stop) -> _ => {
                self.told = true;
                Waited::Ends
            }
            recv(self.ended) -> result => {
                self.result = Some(finished(result));
                Waited::Ends
            }
            recv(late) -> _ => Waited::Late,
        }
    }
}

impl Running {
    /// Spawns everything but sources and sinks.
    fn start(
        prepared: &Prepared,
        disk: Disk,
        opened: Opened,
        (metrics, reports): (Arc<PipelineMetrics>, mpsc::Receiver<Report>),
        orders: Orders,
    ) -> Result<Running, DaemonError> {
        let settings = &prepared.settings;
        let (arrivals, arrived) = bounded(ARRIVALS_MAX);
        let (confirmed, confirmations) = bounded(CONFIRMED_MAX);
        let (tell_stop, stopping) = watch::channel(false);
        let (drained, draining) = watch::channel(false);
        let (commands, todo) = bounded(1);
        let runtime = runtime()?;
        #[cfg(feature = "broker")]
        demo(settings, &runtime, &stopping)?;
        let counted = Counted {
            pipeline: Arc::clone(&metrics),
            ..Counted::default()
        };
        let crew = Crew::new(
            runtime.handle().clone(),
            counted,
            metrics.reporter.clone(),
            (stopping.clone(), draining.clone()),
            EVENTS_SOURCE + 1,
        );
        let handles = Handles {
            sources: std::collections::BTreeMap::new(),
            arrivals: arrived,
            feeds: Vec::new(),
            confirmed: confirmations,
            commands: todo,
            stopping: stopping.clone(),
            drained,
            pulse: pulse(&orders.supervisor),
            metrics,
        };
        let limits = limits(settings);
        let (end, ended) = bounded(1);
        thread("pipeline", &crew.working, move || {
            // The daemon may have given up waiting; then nobody listens.
            let _ = end.send(pipeline::run(disk, opened, handles, limits));
        })?;
        thread("io", &crew.working, move || {
            runtime.block_on(drained_of(stopping, draining))
        })?;
        Ok(Running {
            orders,
            crew,
            commands,
            held: (arrivals, confirmed),
            in_force: None,
            refused: None,
            ends: Ends {
                ended,
                result: None,
                told: false,
            },
            reports: Some(reports),
            tell_stop,
            deadline: Duration::from_millis(settings.shutdown.deadline_ms),
        })
    }

    /// Works until it is told to stop, or a stream fails that must not.
    fn until(mut self) -> Result<Outcome, DaemonError> {
        let mut told = String::new();
        let mut failed = None;
        let mut reading: Option<Reading> = None;
        let mut news = News::of(&self.orders.supervisor);
        while failed.is_none() && !self.ends.told && self.ends.result.is_none() {
            let (no_request, nothing_read) = (never(), never());
            let (requests, read) = match &reading {
                Some(reading) => (&no_request, &reading.read),
                None => (&self.orders.requests, &nothing_read),
            };
            select! {
                recv(self.ends.ended) -> result => self.ends.result = Some(finished(result)),
                recv(self.orders.stop) -> _ => self.ends.told = true,
                recv(self.crew.failed) -> name => failed = name.ok().filter(|_| self.exits()),
                recv(requests) -> request => match request {
                    Ok(request) => reading = Some(self.read(request)),
                    Err(_) => self.orders.requests = never(),
                },
                recv(read) -> read => {
                    let answer = reading.take().and_then(|reading| reading.answer);
                    let refused = self.reload(read.unwrap_or(Err(Refused::Unread)), answer);
                    self.tell_ready(refused);
                }
                recv(news.counts) -> _ => self.crew.counted.tell_news(&mut told),
                recv(news.status) -> _ => self.tell_status(&mut news),
            }
        }
        self.orders.window.end();
        if let Some(result) = self.ends.result {
            return result;
        }
        let outcome = self.stop()?;
        match failed {
            Some(name) => Err(DaemonError::StreamFailed { name }),
            None => Ok(outcome),
        }
    }

    /// Whether the daemon ends when a stream fails.
    fn exits(&self) -> bool {
        let in_force = self.in_force.as_ref();
        in_force.is_some_and(|one| one.settings.application.on_fail == OnFail::Exit)
    }

    /// Has a configuration read and checked.
    fn read(&self, request: Request) -> Reading {
        tracing::info!("reading the configuration anew");
        self.orders.supervisor.tell(Notice::Reloading);
        let Request { prepare, answer } = request;
        let (done, read) = bounded(1);
        let spawned = thread("prepare", &self.crew.working, move || {
            // The daemon may have ended meanwhile.
            let _ = done.send(prepare().map_err(Refused::Faulty));
        });
        if let Err(error) = spawned {
            // What would have told is gone, and that says it.
            tracing::error!("the configuration is not read: {error}");
        }
        Reading { read, answer }
    }

    /// Drains and ends.
    fn stop(self) -> Result<Outcome, DaemonError> {
        let Running {
            orders,
            crew,
            commands,
            held,
            ends,
            tell_stop,
            deadline,
            ..
        } = self;
        tracing::info!("stopping");
        let status = "Stopping: sinks deliver what they hold";
        orders.supervisor.tell(Notice::Stopping(status.to_owned()));
        if !orders.requests.is_empty() {
            tracing::warn!("the configuration is not reloaded: the daemon is stopping");
        }
        tell_stop.send_replace(true);
        drop((held, commands));
        let result = match ends.ended.recv_timeout(deadline) {
            Ok(result) => finished::<()>(Ok(result)),
            Err(_) => Err(DaemonError::Late {
                laggards: crew.laggards(),
                deadline,
            }),
        };
        crew.counted.tell();
        result
    }

    /// There are streams now: reports become rows, those that have waited for it first.
    pub(super) fn take_reports(&mut self) {
        if let Some(reports) = self.reports.take() {
            let arrivals = self.held.0.clone();
            let reports =
                reports::run(reports, EVENTS_SOURCE, arrivals, self.tell_stop.subscribe());
            let name = format!("stream {EVENTS_STREAM}");
            self.crew.start_other(name, reports);
        }
    }

    /// Everything in the daemon that follows the settings.
    pub(super) fn take_settings(&mut self, settings: &Settings) {
        self.deadline = Duration::from_millis(settings.shutdown.deadline_ms);
        // A third each for sources, sinks and the rest.
        self.crew.stop_within = self.deadline / 3;
        (self.orders.apply)(settings);
    }
}

/// A configuration that is being read, and who asked for it.
struct Reading {
    /// Closes without a word when whoever reads it comes to grief.
    read: Receiver<Result<Prepared, Refused>>,
    answer: Option<Sender<Result<Reloaded, Refused>>>,
}

fn runtime() -> Result<tokio::runtime::Runtime, DaemonError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| cannot_start("the runtime", &error))
}

/// The demonstration's broker and sensor, where they are wanted.
#[cfg(feature = "broker")]
fn demo(
    settings: &Settings,
    runtime: &tokio::runtime::Runtime,
    stop: &watch::Receiver<bool>,
) -> Result<(), DaemonError> {
    let Some(broker) = &settings.broker else {
        return Ok(());
    };
    let at = crate::demo::broker::start(broker.listen).map_err(|error| DaemonError::Start {
        what: "the embedded broker",
        why: error.to_string(),
    })?;
    tracing::info!("an MQTT broker listens on {at}");
    if let Some(simulator) = &settings.simulator {
        runtime.spawn(crate::demo::sensor::run(at, simulator.seed, stop.clone()));
    }
    Ok(())
}

/// Keeps the runtime going until the sources have been told to stop and the sinks too: it ends
/// with its last task, or when the process does.
async fn drained_of(mut stopped: watch::Receiver<bool>, mut draining: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
    let _ = draining.wait_for(|drained| *drained).await;
    // The sender of `draining` lives as long as the pipeline.
    while draining.changed().await.is_ok() {}
}

fn finished<E>(result: Result<Result<Outcome, PipelineError>, E>) -> Result<Outcome, DaemonError> {
    match result {
        Ok(result) => Ok(result?),
        Err(_) => Err(DaemonError::Start {
            what: "the pipeline",
            why: "its thread has ended; see the log".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Errand, answer};

    #[test]
    fn a_stop_is_heard_while_the_pipeline_takes_nothing() {
        let (commands, _todo) = bounded(1);
        let command = || {
            let (answer, _) = answer();
            Command::Errand(Errand::Checkpoint { answer })
        };
        let (end, ended) = bounded(1);
        let (tell, stop) = bounded(1);
        let mut ends = Ends {
            ended,
            result: None,
            told: false,
        };
        assert!(ends.ask(&commands, command(), &stop));
        // There is no room for another one.
        tell.send(()).unwrap();
        assert!(!ends.ask(&commands, command(), &stop));
        assert!(ends.told);
        drop(end);
    }
}
