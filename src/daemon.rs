//! From a checked configuration to a running daemon and back: Prepared → Running → Drained. The
//! only place that spawns.
//!
//! [`prepare`] does everything that can fail because of what somebody wrote, and touches nothing:
//! no store, no connection. [`Prepared::run`] opens, runs and drains.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use crossbeam::select;
use tokio::sync::{mpsc, watch};

use crate::config::options::{OptionSpec, Options};
use crate::config::{self, Environment, Expander, Settings, StreamDefinition};
use crate::decode;
use crate::diagnostic::{Diagnostic, Severity};
use crate::mqtt::default_client_id;
use crate::observe::PipelineMetrics;
use crate::outbox::{Full, Limits as OutboxLimits};
use crate::pipeline::{
    self, Core, Durability, Feed, Handles, Limits, Open, Outcome, PipelineError, SourceHandle,
};
use crate::sink::{self, Sink};
use crate::source::{self, Source};
use crate::sql::plan::{Role, Stream, StreamId};
use crate::sql::{self, Application, SqlText};
use crate::store::sled::{StoreEvent, StoreOptions};
use crate::store::{self, StoreError};

/// Arrivals that may wait for the pipeline, of all sources together.
const ARRIVALS_MAX: usize = 16;
/// Outputs that a sink may hold.
const DELIVERIES_MAX: usize = 1024;

/// What is wrong with a configuration, and the texts it is about.
pub type Failure = config::Failure;

/// A source or a sink that is ready to run.
#[derive(Debug)]
pub struct Connector<T> {
    /// Which stream.
    pub stream: StreamId,
    /// The stream's name.
    pub name: String,
    /// What is set for it.
    pub options: Options,
    ready: T,
}

/// A configuration in which nothing is wrong, nothing started yet.
#[derive(Debug)]
pub struct Prepared {
    /// The settings.
    pub settings: Settings,
    /// The compiled SQL.
    pub application: Arc<Application>,
    /// What somebody should know all the same.
    pub warnings: Vec<Diagnostic>,
    /// The texts that warnings are about, by path.
    pub texts: std::collections::BTreeMap<String, String>,
    /// Sources.
    pub sources: Vec<Connector<Source>>,
    /// Sinks.
    pub sinks: Vec<Connector<Sink>>,
    sql: Vec<SqlText>,
}

/// Reads and checks a `.toml` or a `.sql` file, completely.
///
/// # Errors
/// All that is wrong with it and with what it names.
pub fn prepare(path: &Path, environment: Environment<'_>) -> Result<Prepared, Failure> {
    let config::Loaded {
        settings,
        warnings,
        texts,
    } = config::load(path, environment)?;
    let sql: Vec<SqlText> = settings
        .application
        .sql
        .iter()
        .map(|text| SqlText {
            path: text.path.clone(),
            text: text.text.clone(),
        })
        .collect();
    let mut faults = Vec::new();
    let application = sql::compile(&sql).unwrap_or_else(|found| {
        faults = found;
        Application::default()
    });
    let expander = Expander::new(environment, &settings.secrets.path);
    let mut binder = Binder {
        settings: &settings,
        expander,
        faults,
        used: Vec::new(),
    };
    let (mut sources, mut sinks) = (Vec::new(), Vec::new());
    for (id, stream) in (0..).map(StreamId).zip(&application.streams) {
        match stream.role {
            Role::Internal => binder.internal(stream),
            Role::Source => sources.extend(binder.source(id, stream)),
            Role::Sink => sinks.extend(binder.sink(id, stream)),
        }
    }
    if binder.faults.is_empty() {
        binder.unused(&application);
    }
    let faults = binder.faults;
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return Err(Failure {
            diagnostics: faults,
            texts,
        });
    }
    let application = Arc::new(application);
    Ok(Prepared {
        application,
        warnings,
        texts,
        sources,
        sinks,
        sql,
        settings,
    })
}

/// Gives streams their options and connectors.
struct Binder<'a> {
    settings: &'a Settings,
    expander: Expander<'a>,
    faults: Vec<Diagnostic>,
    used: Vec<&'static [OptionSpec]>,
}

impl Binder<'_> {
    /// The options of a stream; faults are noted.
    fn options(&mut self, stream: &Stream, specs: &[&'static [OptionSpec]]) -> Option<Options> {
        self.used.extend(specs);
        let properties = properties(stream);
        let resolved = config::resolve(
            definition(stream, &properties, specs),
            self.settings,
            &self.expander,
        );
        resolved.map_err(|faults| self.faults.extend(faults)).ok()
    }

    fn internal(&mut self, stream: &Stream) {
        self.options(stream, &[]);
    }

    fn known(
        &mut self,
        stream: &Stream,
        what: &str,
        name: &str,
        all: &[(&'static str, &'static [OptionSpec])],
    ) -> Option<&'static [OptionSpec]> {
        let found = all
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, specs)| *specs);
        if found.is_none() {
            let names: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
            let message = format!("stream '{}' has an unknown {what} '{name}'", stream.name);
            let hint = crate::diagnostic::did_you_mean(name, names.iter().copied())
                .unwrap_or_else(|| format!("known are {}", names.join(", ")));
            self.faults
                .push(Diagnostic::error(&stream.path, stream.place, message).with_hint(hint));
        }
        found
    }

    fn source(&mut self, id: StreamId, stream: &Stream) -> Option<Connector<Source>> {
        let extension = stream.connector.as_deref().unwrap_or_default();
        let format = stream.format.as_deref().unwrap_or("json");
        let specs = self.known(stream, "source 'extension'", extension, source::EXTENSIONS);
        let formats = self.known(stream, "'format'", format, decode::FORMATS);
        let specs = [specs?, formats?];
        let options = self.options(stream, &specs)?;
        let client = self.client_id(stream);
        match Source::new(extension, format, &options, &stream.schema, &client) {
            Ok(ready) => Some(Connector {
                stream: id,
                name: stream.name.clone(),
                options,
                ready,
            }),
            Err(fault) => self.unusable(stream, &specs, &options, &fault),
        }
    }

    fn sink(&mut self, id: StreamId, stream: &Stream) -> Option<Connector<Sink>> {
        let extension = stream.connector.as_deref().unwrap_or_default();
        let specs = self.known(stream, "sink 'extension'", extension, sink::EXTENSIONS);
        let format = stream.format.as_deref().unwrap_or("json");
        self.known(stream, "'format'", format, &[("json", &[])])?;
        let specs = [specs?];
        let options = self.options(stream, &specs)?;
        let client = self.client_id(stream);
        match Sink::new(extension, &options, &stream.schema, &client) {
            Ok(ready) => Some(Connector {
                stream: id,
                name: stream.name.clone(),
                options,
                ready,
            }),
            Err(fault) => self.unusable(stream, &specs, &options, &fault),
        }
    }

    fn client_id(&self, stream: &Stream) -> String {
        let gateway = nix::unistd::gethostname().unwrap_or_default();
        default_client_id(
            &gateway.to_string_lossy(),
            &self.settings.application.name,
            &stream.name,
        )
    }

    fn unusable<T>(
        &mut self,
        stream: &Stream,
        specs: &[&'static [OptionSpec]],
        options: &Options,
        fault: &config::options::OptionFault,
    ) -> Option<T> {
        let properties = properties(stream);
        let definition = definition(stream, &properties, specs);
        self.faults.push(config::unusable(
            definition,
            options,
            &fault.option,
            &fault.problem,
        ));
        None
    }

    fn unused(&mut self, application: &Application) {
        let names: Vec<&str> = application
            .streams
            .iter()
            .map(|stream| stream.name.as_str())
            .collect();
        let connectors = source::EXTENSIONS.iter().chain(sink::EXTENSIONS);
        let known: Vec<&[OptionSpec]> = connectors
            .chain(decode::FORMATS)
            .map(|(_, specs)| *specs)
            .collect();
        self.faults
            .extend(config::check_unused(self.settings, &names, &known));
    }
}

fn properties(stream: &Stream) -> Vec<config::Property> {
    let property = |property: &sql::plan::Property| config::Property {
        name: property.name.clone(),
        value: property.value.clone(),
        place: property.place,
        value_place: property.value_place,
    };
    stream.properties.iter().map(property).collect()
}

fn definition<'a>(
    stream: &'a Stream,
    properties: &'a [config::Property],
    specs: &'a [&'a [OptionSpec]],
) -> StreamDefinition<'a> {
    StreamDefinition {
        name: &stream.name,
        path: &stream.path,
        place: stream.place,
        properties,
        specs,
    }
}

/// Why the daemon ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log, the outbox or a checkpoint failed.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A thread or the runtime could not be started.
    #[error("cannot start {what}: {why}")]
    Start {
        /// What could not be started.
        what: &'static str,
        /// What the operating system says.
        why: String,
    },
    /// Something did not stop in time.
    #[error("{laggards} did not stop within {} ms", deadline.as_millis())]
    Late {
        /// Who.
        laggards: String,
        /// How long they had.
        deadline: Duration,
    },
}

/// Who is still at work, by name.
type Working = Arc<std::sync::Mutex<std::collections::BTreeSet<String>>>;

impl Prepared {
    /// Opens the store, recovers, and runs until `stop` speaks (or closes); then drains.
    ///
    /// # Errors
    /// When the store cannot be opened or fails, or when something does not stop in time.
    pub fn run(self, stop: &Receiver<()>) -> Result<Outcome, DaemonError> {
        let began = Instant::now();
        let deadline = Duration::from_millis(self.settings.shutdown.deadline_ms);
        let options = StoreOptions {
            cache_bytes: self.settings.store.cache_bytes,
            ..StoreOptions::default()
        };
        let opened = store::sled::open(&self.settings.store.path, &options)?;
        opened.events.iter().for_each(tell);
        let limits = outbox_limits(&self.settings);
        let outboxes: Vec<(String, OutboxLimits)> = self
            .sinks
            .iter()
            .map(|sink| (sink.name.clone(), limits))
            .collect();
        let (core, found) = Core::open(&Open {
            store: opened.store,
            application: Arc::clone(&self.application),
            texts: &self.sql,
            sinks: &outboxes,
        })?;
        for warning in &found.warnings {
            tracing::warn!("{warning}");
        }
        let last = core.last();
        tracing::info!(
            "recovered to {last} from the checkpoint at {} and {} records of the log",
            found.checkpoint,
            found.records
        );
        let running = self.start(core, opened.id, deadline)?;
        tracing::info!("ready after {} ms", began.elapsed().as_millis());
        running.until(stop, deadline)
    }

    /// Spawns everything.
    fn start(self, core: Core, id: u64, deadline: Duration) -> Result<Running, DaemonError> {
        let (arrivals, arrived) = bounded(ARRIVALS_MAX);
        let room = (DELIVERIES_MAX + 1) * self.sinks.len().max(1);
        let (confirmed, confirmations) = bounded(room);
        let (stop, stopped) = watch::channel(false);
        let (drained, draining) = watch::channel(false);
        let working = Working::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| start("the runtime", &error))?;
        #[cfg(feature = "broker")]
        demo(&self.settings, &runtime, &stopped)?;
        // A third each for sources, sinks and the rest.
        let stop_within = deadline / 3;
        let mut handles = Handles {
            sources: Vec::new(),
            arrivals: arrived,
            feeds: Vec::new(),
            confirmed: confirmations,
            drained,
            metrics: Arc::new(PipelineMetrics::default()),
        };
        for (number, source) in self.sources.into_iter().enumerate() {
            let (released, release) = watch::channel(0);
            let context = source::Context {
                name: source.name.clone(),
                source: number,
                arrivals: arrivals.clone(),
                released: release,
                tail: core.marks(&source.name).to_vec(),
                stop: stopped.clone(),
                stop_within,
                metrics: Arc::default(),
            };
            handles.sources.push(SourceHandle {
                stream: source.stream,
                released,
            });
            let task = source.ready.run(context);
            spawn(&runtime, &working, format!("source {}", source.name), task);
        }
        for (number, sink) in self.sinks.into_iter().enumerate() {
            let (deliver, deliveries) = mpsc::channel(DELIVERIES_MAX);
            handles
                .feeds
                .push(Feed::new(number, deliver, core.outbox(), id));
            let schema = self
                .application
                .stream(sink.stream)
                .map(|s| Arc::clone(&s.schema));
            let Some(schema) = schema else { continue };
            let context = sink::Context {
                name: sink.name.clone(),
                sink: number,
                schema,
                deliveries,
                confirmed: confirmed.clone(),
                stop: draining.clone(),
                stop_within,
                metrics: Arc::default(),
            };
            let task = sink.ready.run(context);
            spawn(&runtime, &working, format!("sink {}", sink.name), task);
        }
        let metrics = Arc::clone(&handles.metrics);
        let (end, ended) = bounded(1);
        let limits = limits(&self.settings);
        thread("pipeline", &working, move || {
            // The daemon may have given up waiting; then nobody listens.
            let _ = end.send(pipeline::run(core, handles, limits));
        })?;
        thread("io", &working, move || {
            runtime.block_on(drained_of(stopped, draining))
        })?;
        Ok(Running {
            stop,
            ended,
            working,
            metrics,
            held: (arrivals, confirmed),
        })
    }
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

fn start(what: &'static str, error: &std::io::Error) -> DaemonError {
    DaemonError::Start {
        what,
        why: error.to_string(),
    }
}

fn spawn(
    runtime: &tokio::runtime::Runtime,
    working: &Working,
    name: String,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let at_work = AtWork::new(working, name);
    runtime.spawn(async move {
        task.await;
        drop(at_work);
    });
}

fn thread(
    name: &'static str,
    working: &Working,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), DaemonError> {
    let at_work = AtWork::new(working, name.to_owned());
    let named = std::thread::Builder::new().name(name.to_owned());
    let spawned = named.spawn(move || {
        work();
        drop(at_work);
    });
    spawned.map(drop).map_err(|error| start("a thread", &error))
}

/// Stands in the list of who is at work for as long as it lives.
struct AtWork {
    working: Working,
    name: String,
}

impl AtWork {
    fn new(working: &Working, name: String) -> AtWork {
        if let Ok(mut list) = working.lock() {
            list.insert(name.clone());
        }
        AtWork {
            working: Arc::clone(working),
            name,
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if let Ok(mut list) = self.working.lock() {
            list.remove(&self.name);
        }
    }
}

/// A daemon at work.
struct Running {
    stop: watch::Sender<bool>,
    ended: Receiver<Result<Outcome, PipelineError>>,
    working: Working,
    metrics: Arc<PipelineMetrics>,
    /// Kept until the stop, so that an application without sources or sinks runs too.
    held: (Sender<source::Arrival>, Sender<sink::Confirmed>),
}

impl Running {
    fn until(self, stop: &Receiver<()>, deadline: Duration) -> Result<Outcome, DaemonError> {
        let Running {
            stop: tell_sources,
            ended,
            working,
            metrics,
            held,
        } = self;
        select! {
            recv(ended) -> result => return finished(result),
            recv(stop) -> _ => {}
        }
        tracing::info!("stopping");
        tell_sources.send_replace(true);
        drop(held);
        let result = match ended.recv_timeout(deadline) {
            Ok(result) => finished::<()>(Ok(result)),
            Err(_) => {
                let laggards = working
                    .lock()
                    .map(|list| list.iter().cloned().collect::<Vec<_>>());
                let laggards = laggards.unwrap_or_default().join(", ");
                Err(DaemonError::Late { laggards, deadline })
            }
        };
        let counted: Vec<String> = metrics
            .all()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        tracing::info!("stopped; {}", counted.join(", "));
        result
    }
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

fn tell(event: &StoreEvent) {
    match event {
        StoreEvent::SnapshotSetAside { why } => {
            tracing::warn!("the store's snapshot was set aside, nothing is lost: {why}");
        }
        StoreEvent::Quarantined { to, why } => tracing::error!(
            "the store was damaged ({why}); it is kept in `{}`, a fresh one is begun",
            to.display()
        ),
        StoreEvent::RestartAdvised => {
            tracing::warn!("a thread hangs in the damaged store; restart soon to free its memory");
        }
        StoreEvent::IdentityRenewed => {
            tracing::warn!("the store's identity was damaged; ids of outputs begin anew");
        }
    }
}

fn outbox_limits(settings: &Settings) -> OutboxLimits {
    let full = match settings.outbox.full {
        config::OutboxFull::DropOldest => Full::DropOldest,
        config::OutboxFull::DropNewest => Full::DropNewest,
        config::OutboxFull::Block => Full::Block,
    };
    OutboxLimits {
        bytes_max: settings.outbox.bytes_max,
        full,
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        turn_rows_max: settings.turn.rows_max,
        turn_bytes_max: settings.turn.bytes_max,
        durability: match settings.store.durability {
            config::Durability::Always => Durability::Always,
            config::Durability::Interval { ms } => Durability::Interval(Duration::from_millis(ms)),
            config::Durability::None => Durability::None,
        },
        checkpoint_interval: Duration::from_millis(settings.checkpoint.interval_ms),
    }
}
