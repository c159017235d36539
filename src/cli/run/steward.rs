//! What is to run, and who minds it while it does: control, or, in a build without it, the local
//! files alone.

use std::path::PathBuf;
use std::time::Instant;

use crossbeam::channel::Sender;

use super::super::{Exit, Terminal, prepare};
#[cfg(feature = "control")]
use crate::control;
use crate::daemon::{Door, Orders, Prepared};
use crate::logging::LogControl;

/// Reports that wait to be told from afar.
#[cfg(feature = "control")]
const REPORTS_MAX: usize = 256;

/// Where the configuration is read.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) files: Vec<PathBuf>,
    pub(super) store: Option<PathBuf>,
}

/// What is to run; nothing has begun.
pub(super) struct Begun {
    prepared: Prepared,
    #[cfg(feature = "control")]
    control: control::Control,
    #[cfg(not(feature = "control"))]
    site: Site,
}

/// Who minds the configuration.
#[cfg(feature = "control")]
pub(super) struct Steward(control::Running);

/// Who minds the configuration.
#[cfg(not(feature = "control"))]
pub(super) struct Steward(Site, Door);

impl Site {
    /// The configuration of the local files.
    fn prepare(&self, terminal: &mut Terminal<'_>) -> Result<Prepared, Exit> {
        let mut prepared = prepare(&self.files, terminal)?;
        if let Some(store) = &self.store {
            prepared.settings.store.path.clone_from(store);
        }
        Ok(prepared)
    }
}

#[cfg(feature = "control")]
impl Site {
    /// Decides what is to run: the local files, or a document over them. When the local files are
    /// faulty, what ran before goes on.
    pub(super) fn begin(self, terminal: &mut Terminal<'_>) -> Result<Begun, Exit> {
        let (files, store) = (self.files.clone(), self.store.clone());
        let local = control::Local::new(files, store, super::super::environment);
        let begun = match self.prepare(terminal) {
            Ok(prepared) => control::open(local, prepared).map_err(|error| {
                terminal.complain(format_args!("eventflux: {error}"));
                Exit::Store
            })?,
            Err(exit) => {
                let rescued = control::rescue(local).ok_or(exit)?;
                terminal.complain("the configuration that ran before goes on");
                rescued
            }
        };
        let (prepared, control) = begun;
        Ok(Begun { prepared, control })
    }
}

#[cfg(feature = "control")]
impl Begun {
    /// Starts whoever minds it.
    pub(super) fn start(
        self,
        (door, restart): (Door, Sender<()>),
        log: LogControl,
        orders: &mut Orders,
    ) -> Result<(Prepared, Steward), String> {
        let (to, reports) = tokio::sync::mpsc::channel(REPORTS_MAX);
        orders.reports = Some(to);
        let node = control::Node {
            door,
            window: orders.window.clone(),
            reports,
            log,
            restart,
        };
        let running = self.control.start(&self.prepared, node);
        let running = running.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok((self.prepared, Steward(running)))
    }
}

#[cfg(feature = "control")]
impl Steward {
    /// Has the local files read anew.
    pub(super) fn reload(&self) {
        self.0.reload();
    }

    /// Says farewell, when the daemon has ended: in order, as it was told to at that time, or not.
    pub(super) fn stop(self, ordered: Option<Instant>) {
        self.0.stop(ordered);
    }
}

#[cfg(not(feature = "control"))]
impl Site {
    /// What is to run: what the local files say.
    pub(super) fn begin(self, terminal: &mut Terminal<'_>) -> Result<Begun, Exit> {
        let prepared = self.prepare(terminal)?;
        Ok(Begun {
            prepared,
            site: self,
        })
    }
}

#[cfg(not(feature = "control"))]
impl Begun {
    /// Nobody asks for a restart.
    pub(super) fn start(
        self,
        (door, _): (Door, Sender<()>),
        _: LogControl,
        _: &mut Orders,
    ) -> Result<(Prepared, Steward), String> {
        Ok((self.prepared, Steward(self.site, door)))
    }
}

#[cfg(not(feature = "control"))]
impl Steward {
    /// Has the local files read anew.
    pub(super) fn reload(&self) {
        let Site { files, store } = self.0.clone();
        self.1.knock(move || {
            let mut prepared = crate::daemon::prepare_all(&files, &super::super::environment)?;
            if let Some(store) = store {
                prepared.settings.store.path = store;
            }
            Ok(prepared)
        });
    }

    pub(super) fn stop(self, _: Option<Instant>) {}
}
