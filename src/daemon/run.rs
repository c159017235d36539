//! Opening, running, draining.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use crossbeam::select;
use tokio::sync::{mpsc, watch};

use super::{Connector, DaemonError, Prepared, reports};
use crate::config::{self, Settings};
use crate::event::{DeliveryMark, EVENTS_COLUMNS, EVENTS_STREAM, OutputKey, Seq};
use crate::observe::{Counted, OutboxMetrics, PipelineMetrics, Trouble};
use crate::outbox::{Full, Limits as OutboxLimits};
use crate::pace::Backoff;
use crate::pipeline::{
    self, Core, Disk, Durability, Feed, Handles, Limits, Open, Opened, Outcome, PipelineError,
    Recovered, RestoreError, RoomLimits, SourceHandle, StatePolicy, Target, WentBack,
};
use crate::report::Reporter;
use crate::sink::{self, Sink};
use crate::source::{self, Source};
use crate::sql::plan::{Role, StreamId};
use crate::sql::{Application, SqlText};
use crate::store::sled::{StoreEvent, StoreOptions};
use crate::store::{self, Store, StoreError};

/// Arrivals that may wait for the pipeline, of all sources together.
const ARRIVALS_MAX: usize = 16;
/// How long sinks may deliver what they hold after the sources have stopped.
const SINKS_WITHIN_MAX: Duration = Duration::from_secs(1);
/// Waits before a store on a full disk is opened again.
const OPEN_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How often the log says what was counted, if anything was.
const STATUS_EVERY: Duration = Duration::from_secs(600);
/// Outputs that a sink may hold.
const DELIVERIES_MAX: usize = 1024;

/// Who is still at work, by name.
type Working = Arc<Mutex<BTreeSet<String>>>;

impl Prepared {
    /// Opens the store, recovers, and runs until `stop` speaks (or closes); then drains.
    ///
    /// # Errors
    /// When the store cannot be opened or fails, or when something does not stop in time.
    pub fn run(self, stop: &Receiver<()>) -> Result<Outcome, DaemonError> {
        let began = Instant::now();
        let deadline = Duration::from_millis(self.settings.shutdown.deadline_ms);
        let metrics: Arc<PipelineMetrics> = Arc::default();
        let mut disk = self.disk();
        let opened = first_open(&mut disk, &metrics, stop)?;
        let running = self.start(disk, opened, metrics, deadline)?;
        tracing::info!("ready after {} ms", began.elapsed().as_millis());
        running.until(stop, deadline)
    }

    /// How the store is opened.
    #[must_use]
    pub fn store_options(&self) -> StoreOptions {
        StoreOptions {
            cache_bytes: self.settings.store.cache_bytes,
            ..StoreOptions::default()
        }
    }

    /// Brings the state in a store back to what it was, see [`Core::restore`].
    ///
    /// # Errors
    /// When it cannot be made any more, or the store fails.
    pub fn restore(
        &self,
        store: Arc<dyn Store>,
        identity: u64,
        to: Target,
    ) -> Result<WentBack, RestoreError> {
        let what = self.to_open();
        Core::restore(&what.open_in(store, identity), to)
    }

    fn to_open(&self) -> StoreToOpen {
        let limits = |sink| outbox_limits(&self.settings, &self.application, sink);
        let outboxes = self
            .sinks
            .iter()
            .map(|sink| (sink.name.clone(), limits(sink)));
        StoreToOpen {
            path: self.settings.store.path.clone(),
            options: self.store_options(),
            application: Arc::clone(&self.application),
            texts: self.sql.clone(),
            outboxes: outboxes.collect(),
            checkpoints_kept: usize::try_from(self.settings.checkpoint.keep).unwrap_or(2),
            state_policy: state_policy(&self.settings),
        }
    }

    /// What opens the store, now and whenever it has failed.
    fn disk(&self) -> Disk {
        let path = self.settings.store.path.clone();
        let store = self.to_open();
        Disk {
            open: Box::new(move || store.open()),
            bytes_free: Box::new(move || {
                let disk = nix::sys::statvfs::statvfs(&path).ok()?;
                // Their width depends on the machine.
                #[allow(clippy::useless_conversion, reason = "it is one on some machines")]
                let (blocks, size) = (
                    u64::from(disk.blocks_available()),
                    u64::from(disk.fragment_size()),
                );
                Some(blocks.saturating_mul(size))
            }),
        }
    }

    /// Spawns everything.
    fn start(
        self,
        disk: Disk,
        opened: Opened,
        metrics: Arc<PipelineMetrics>,
        deadline: Duration,
    ) -> Result<Running, DaemonError> {
        let (arrivals, arrived) = bounded(ARRIVALS_MAX);
        let room = (DELIVERIES_MAX + 1) * self.sinks.len().max(1);
        let (confirmed, confirmations) = bounded(room);
        let (stop, stopped) = watch::channel(false);
        let (drained, draining) = watch::channel(false);
        let runtime = runtime()?;
        #[cfg(feature = "broker")]
        demo(&self.settings, &runtime, &stopped)?;
        let limits = limits(&self.settings);
        let (reporter, reports) = Reporter::new();
        let mut start = Start {
            reporter,
            siblings: sink::Siblings::default(),
            runtime: &runtime,
            working: Working::default(),
            // A third each for sources, sinks and the rest.
            stop_within: deadline / 3,
            stopping: stopped.clone(),
            counted: Counted {
                pipeline: Arc::clone(&metrics),
                ..Counted::default()
            },
        };
        let sources = self
            .sources
            .into_iter()
            .enumerate()
            .map(|(number, source)| {
                let tail = opened.core.marks(&source.name).to_vec();
                start.source(number, source, tail, arrivals.clone(), stopped.clone())
            });
        let mut sources: Vec<SourceHandle> = sources.collect();
        if let Some(stream) = events_stream(&self.application) {
            let reports = reports::run(reports, sources.len(), arrivals.clone(), stopped.clone());
            sources.push(start.listen(stream, reports));
        }
        let sinks = self.sinks.into_iter().enumerate().map(|(number, sink)| {
            start.sink(number, sink, &opened, confirmed.clone(), draining.clone())
        });
        let feeds = sinks.collect();
        let Start {
            working, counted, ..
        } = start;
        let handles = Handles {
            sources,
            arrivals: arrived,
            feeds,
            confirmed: confirmations,
            stopping: stopped.clone(),
            drained,
            metrics,
        };
        let (end, ended) = bounded(1);
        thread("pipeline", &working, move || {
            // The daemon may have given up waiting; then nobody listens.
            let _ = end.send(pipeline::run(disk, opened, handles, limits));
        })?;
        thread("io", &working, move || {
            runtime.block_on(drained_of(stopped, draining))
        })?;
        Ok(Running {
            stop,
            ended,
            working,
            counted,
            held: (arrivals, confirmed),
        })
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, DaemonError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| cannot_start("the runtime", &error))
}

/// Opens the store for the first time. A full disk is waited for, as it would be later; anything
/// else is for a person to solve, or for whoever starts the daemon again.
fn first_open(
    disk: &mut Disk,
    metrics: &PipelineMetrics,
    stop: &Receiver<()>,
) -> Result<Opened, DaemonError> {
    let mut pace = Backoff::new(OPEN_AGAIN.0, OPEN_AGAIN.1);
    loop {
        let error = match (disk.open)() {
            Ok(opened) => {
                metrics.health.recover();
                return Ok(opened);
            }
            Err(error) => error,
        };
        let Some(StoreError::Full { .. }) = error.store() else {
            return Err(opening(error));
        };
        metrics.store_failures.fetch_add(1, Ordering::Relaxed);
        let why = error.to_string();
        metrics.health.degrade(Trouble::DiskFull, &why);
        // Who stops, or is gone, is not kept waiting.
        if stop.recv_timeout(pace.wait()) != Err(RecvTimeoutError::Timeout) {
            return Err(opening(error));
        }
    }
}

fn state_policy(settings: &Settings) -> StatePolicy {
    match settings.application.state_policy {
        config::StatePolicy::KeepCompatible => StatePolicy::KeepCompatible,
        config::StatePolicy::KeepOrFail => StatePolicy::KeepOrFail,
        config::StatePolicy::Discard => StatePolicy::Discard,
    }
}

fn opening(error: PipelineError) -> DaemonError {
    match error {
        PipelineError::Store(error) => DaemonError::Store(error),
        error => DaemonError::Pipeline(error),
    }
}

/// Everything that opening the store takes.
struct StoreToOpen {
    path: PathBuf,
    options: StoreOptions,
    application: Arc<Application>,
    texts: Vec<SqlText>,
    outboxes: Vec<(String, OutboxLimits)>,
    checkpoints_kept: usize,
    state_policy: StatePolicy,
}

impl StoreToOpen {
    fn open_in(&self, store: Arc<dyn Store>, identity: u64) -> Open<'_> {
        Open {
            store,
            identity,
            application: Arc::clone(&self.application),
            texts: &self.texts,
            sinks: &self.outboxes,
            checkpoints_kept: self.checkpoints_kept,
            state_policy: self.state_policy,
        }
    }

    fn open(&self) -> Result<Opened, PipelineError> {
        let opened = store::sled::open(&self.path, &self.options)?;
        opened.events.iter().for_each(tell);
        let (core, found) = Core::open(&self.open_in(opened.store, opened.id))?;
        let Recovered {
            checkpoint,
            records,
            warnings,
        } = found;
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        if (checkpoint, records) == (Seq(0), 0) {
            tracing::info!("began a fresh store in `{}`", self.path.display());
        } else {
            tracing::info!(
                "went on at {}: the checkpoint at {checkpoint} and {records} records of the log",
                core.last()
            );
        }
        Ok(Opened {
            core,
            identity: opened.id,
            checkpoint,
        })
    }
}

/// What is needed to start sources and sinks.
struct Start<'a> {
    runtime: &'a tokio::runtime::Runtime,
    working: Working,
    stop_within: Duration,
    stopping: watch::Receiver<bool>,
    counted: Counted,
    /// Where sources and sinks tell what happens to them.
    reporter: Reporter,
    /// What sinks know of each other.
    siblings: sink::Siblings,
}

impl Start<'_> {
    fn source(
        &mut self,
        number: usize,
        source: Connector<Source>,
        tail: Vec<DeliveryMark>,
        arrivals: Sender<source::Arrival>,
        stop: watch::Receiver<bool>,
    ) -> SourceHandle {
        let (released, release) = watch::channel(0);
        let metrics: Arc<source::Metrics> = Arc::default();
        self.counted
            .sources
            .push((source.name.clone(), Arc::clone(&metrics)));
        let task = source.ready.run(source::Context {
            name: source.name.clone(),
            source: number,
            arrivals,
            released: release,
            tail,
            stop,
            stop_within: self.stop_within,
            metrics,
            reporter: self.reporter.clone(),
        });
        self.spawn(format!("source {}", source.name), task);
        SourceHandle {
            stream: source.stream,
            released,
        }
    }

    fn sink(
        &mut self,
        number: usize,
        sink: Connector<Sink>,
        opened: &Opened,
        confirmed: Sender<sink::Confirmed>,
        stop: watch::Receiver<bool>,
    ) -> Feed {
        let (deliver, deliveries) = mpsc::channel(DELIVERIES_MAX);
        let (settled, is_settled) = watch::channel(OutputKey::default());
        let metrics: Arc<sink::Metrics> = Arc::default();
        let outbox: Arc<OutboxMetrics> = Arc::default();
        // That they are right was found out when it was prepared.
        let policy = sink::Policy::new(&sink.options).unwrap_or_default();
        let member =
            self.siblings
                .join(policy.priority(), Arc::clone(&metrics), Arc::clone(&outbox));
        let (name, counted) = (sink.name, &mut self.counted);
        counted.sinks.push((name.clone(), Arc::clone(&metrics)));
        counted.outboxes.push((name.clone(), Arc::clone(&outbox)));
        let task = sink.ready.run(sink::Context {
            name: name.clone(),
            sink: number,
            deliveries: sink::Deliveries::new(deliveries, &policy, member),
            settled: is_settled,
            confirmed,
            stop,
            stop_within: self.stop_within,
            metrics,
            reporter: self.reporter.clone(),
        });
        self.spawn(format!("sink {name}"), task);
        let feed = Feed::new(number, deliver, opened.core.outbox(), opened.identity);
        feed.telling(settled, outbox)
    }

    /// What is reported goes into the log.
    fn listen(
        &self,
        stream: StreamId,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> SourceHandle {
        self.spawn(format!("stream {EVENTS_STREAM}"), task);
        let (released, _) = watch::channel(0);
        SourceHandle { stream, released }
    }

    /// A task that ends before it is told to (by a panic, most likely) is spoken of.
    fn spawn(&self, name: String, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        let at_work = AtWork::new(&self.working, name.clone());
        self.runtime.spawn(async move {
            let told = Told { name, stopping };
            task.await;
            drop(told);
            drop(at_work);
        });
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

/// The stream of reports, when the application reads the built-in one.
fn events_stream(application: &Application) -> Option<StreamId> {
    let (id, stream) = application.stream_named(EVENTS_STREAM)?;
    let fields = stream.schema.fields().iter();
    let columns = fields.map(|field| (field.name.as_str(), field.ty));
    (stream.role == Role::Internal && columns.eq(EVENTS_COLUMNS)).then_some(id)
}

fn cannot_start(what: &'static str, error: &std::io::Error) -> DaemonError {
    DaemonError::Start {
        what,
        why: error.to_string(),
    }
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
    spawned
        .map(drop)
        .map_err(|error| cannot_start("a thread", &error))
}

/// Complains when it is dropped before a stop.
struct Told {
    name: String,
    stopping: watch::Receiver<bool>,
}

impl Drop for Told {
    fn drop(&mut self) {
        if !*self.stopping.borrow() {
            tracing::error!("{} has ended by itself; restart the daemon", self.name);
        }
    }
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
    counted: Counted,
    /// Kept until the stop, so that an application without sources or sinks runs too.
    held: (Sender<source::Arrival>, Sender<sink::Confirmed>),
}

impl Running {
    fn until(self, stop: &Receiver<()>, deadline: Duration) -> Result<Outcome, DaemonError> {
        let Running {
            stop: tell_sources,
            ended,
            working,
            counted,
            held,
        } = self;
        let mut told = String::new();
        loop {
            select! {
                recv(ended) -> result => return finished(result),
                recv(stop) -> _ => break,
                default(STATUS_EVERY) => counted.tell_news(&mut told),
            }
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
        counted.tell();
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

fn outbox_limits(
    settings: &Settings,
    application: &Application,
    sink: &Connector<Sink>,
) -> OutboxLimits {
    let general = settings.outbox;
    // That the sink's own are right was found out when it was prepared.
    let own = general.of_sink(&sink.options).unwrap_or(general);
    let full = match own.full {
        config::OutboxFull::DropOldest => Full::DropOldest,
        config::OutboxFull::DropNewest => Full::DropNewest,
        config::OutboxFull::Block => Full::Block,
    };
    let stream = application.stream(sink.stream);
    OutboxLimits {
        bytes_max: own.bytes_max,
        full,
        ttl_ms: own.ttl_ms,
        dead_letters: stream.is_some_and(|stream| stream.dead_letters.is_some()),
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
        checkpoint_interval: settings.checkpoint.interval_ms.map(Duration::from_millis),
        checkpoint_log_bytes_max: settings
            .checkpoint
            .log_bytes_max
            .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        room: RoomLimits {
            bytes_max: settings.store.bytes_max,
            free_bytes_min: settings.store.free_bytes_min,
        },
        jump_ms_max: settings.clock.jump_ms_max,
        // Long enough for a link that works; without one there is nothing to wait for.
        sinks_within: Duration::from_millis(settings.shutdown.deadline_ms / 3)
            .min(SINKS_WITHIN_MAX),
    }
}
