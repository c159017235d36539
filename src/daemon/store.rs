//! The store under the daemon, and the settings as the pipeline and the store want them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::{Connector, DaemonError, Prepared};
use crate::config::{self, Settings};
use crate::event::{Report, ReportKind, Seq};
use crate::observe::{PipelineMetrics, Trouble};
use crate::outbox::{Full, Limits as OutboxLimits};
use crate::pace::Backoff;
use crate::pipeline::{
    Core, Disk, Durability, Limits, Opened, PipelineError, Recovered, RestoreError, RoomLimits,
    StatePolicy, Target, Wanted, WentBack,
};
use crate::report::Reporter;
use crate::sink::Sink;
use crate::sql::Application;
use crate::store::sled::{StoreEvent, StoreOptions};
use crate::store::{self, Store, StoreError};

/// How long sinks may deliver what they hold after the sources have stopped.
const SINKS_WITHIN_MAX: Duration = Duration::from_secs(1);
/// Waits before a store on a full disk is opened again.
const OPEN_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

impl Prepared {
    /// How the store is opened.
    #[must_use]
    pub fn store_options(&self) -> StoreOptions {
        store_options(&self.settings)
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
        Core::restore(&self.wanted().open_in(store, identity), to)
    }

    /// The application as the pipeline wants it.
    pub(super) fn wanted(&self) -> Wanted {
        let limits = |sink| outbox_limits(&self.settings, &self.application, sink);
        let outboxes = self
            .sinks
            .iter()
            .map(|sink| (sink.name.clone(), limits(sink)));
        Wanted {
            application: Arc::clone(&self.application),
            texts: self.sql.clone(),
            outboxes: outboxes.collect(),
            checkpoints_kept: usize::try_from(self.settings.checkpoint.keep).unwrap_or(2),
            state_policy: state_policy(&self.settings),
        }
    }
}

fn store_options(settings: &Settings) -> StoreOptions {
    StoreOptions {
        cache_bytes: settings.store.cache_bytes,
        ..StoreOptions::default()
    }
}

/// What opens the store, now and whenever it has failed.
pub(super) fn disk(settings: &Settings, wanted: Wanted, metrics: &PipelineMetrics) -> Disk {
    let path = settings.store.path.clone();
    let store = StoreToOpen {
        path: path.clone(),
        options: store_options(settings),
        wanted,
        reporter: metrics.reporter.clone(),
    };
    Disk {
        open: Box::new(move || store.open()),
        bytes_free: Box::new(move || bytes_free(&path)),
    }
}

/// The bytes that the file system with this path has left for us; `None` when it does not say.
#[must_use]
pub fn bytes_free(path: &Path) -> Option<u64> {
    let disk = nix::sys::statvfs::statvfs(path).ok()?;
    // Their width depends on the machine.
    #[allow(clippy::useless_conversion, reason = "it is one on some machines")]
    let (blocks, size) = (
        u64::from(disk.blocks_available()),
        u64::from(disk.fragment_size()),
    );
    Some(blocks.saturating_mul(size))
}

/// Opens the store for the first time. A full disk is waited for, as it would be later; anything
/// else is for a person to solve, or for whoever starts the daemon again.
pub(super) fn first_open(
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

fn opening(error: PipelineError) -> DaemonError {
    match error {
        PipelineError::Store(error) => DaemonError::Store(error),
        error => DaemonError::Pipeline(error),
    }
}

fn state_policy(settings: &Settings) -> StatePolicy {
    match settings.application.state_policy {
        config::StatePolicy::KeepCompatible => StatePolicy::KeepCompatible,
        config::StatePolicy::KeepOrFail => StatePolicy::KeepOrFail,
        config::StatePolicy::Discard => StatePolicy::Discard,
    }
}

/// Everything that opening the store takes.
struct StoreToOpen {
    path: PathBuf,
    options: StoreOptions,
    wanted: Wanted,
    reporter: Reporter,
}

impl StoreToOpen {
    fn open(&self) -> Result<Opened, PipelineError> {
        let opened = store::sled::open(&self.path, &self.options)?;
        opened
            .events
            .iter()
            .for_each(|event| tell(event, &self.reporter));
        let (core, found) = Core::open(&self.wanted.open_in(opened.store, opened.id))?;
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

fn tell(event: &StoreEvent, reporter: &Reporter) {
    match event {
        StoreEvent::SnapshotSetAside { why } => {
            tracing::warn!("the store's snapshot was set aside, nothing is lost: {why}");
        }
        StoreEvent::Quarantined { to, why } => {
            tracing::error!(
                "the store was damaged ({why}); it is kept in `{}`, a fresh one is begun",
                to.display()
            );
            let details = serde_json::json!({ "path": to.display().to_string() });
            reporter.tell(Report {
                reason: why.clone(),
                details: Some(details.to_string()),
                ..Report::new(ReportKind::StoreQuarantined, "")
            });
        }
        StoreEvent::RestartAdvised => {
            tracing::warn!("a thread hangs in the damaged store; restart soon to free its memory");
        }
        StoreEvent::IdentityRenewed => {
            let why = "its files are damaged, and an unknown part of what they held is gone";
            tracing::error!("the store has lost something: {why}; ids of outputs begin anew");
            reporter.tell(Report {
                reason: why.to_owned(),
                ..Report::new(ReportKind::StoreLost, "")
            });
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

/// The bounds of the loop.
pub(super) fn limits(settings: &Settings) -> Limits {
    Limits {
        turn_rows_max: settings.turn.rows_max,
        turn_bytes_max: settings.turn.bytes_max,
        unsynced_bytes_max: settings.store.unsynced_bytes_max,
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
