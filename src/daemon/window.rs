//! What others may see of a running daemon, and through what they may ask it for something that
//! is not another configuration.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::channel::{Receiver, Sender, TryRecvError};

use super::run::Running;
use crate::config::options::Options;
use crate::config::{Settings, Veil};
use crate::observe::Counted;
use crate::pipeline::Command;
use crate::sql::Application;

/// Through which a running daemon is seen. Shows nothing before anything runs.
#[derive(Clone, Debug, Default)]
pub struct Window(Arc<Shown>);

#[derive(Debug, Default)]
struct Shown {
    view: Mutex<Option<Arc<View>>>,
    /// Whether the first configuration was put in force or refused.
    is_up: AtomicBool,
    /// Whether the daemon is about to end.
    is_ending: AtomicBool,
}

/// The configuration in force and what is at work for it. Counters go on by themselves; the rest is
/// as of the moment of looking.
#[derive(Clone, Debug)]
pub struct View {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The compiled SQL.
    pub application: Arc<Application>,
    /// Everything that is counted.
    pub counted: Counted,
    /// Sources, by name.
    pub sources: BTreeMap<String, Station>,
    /// Sinks, by name.
    pub sinks: BTreeMap<String, Station>,
    /// What the pipeline is asked.
    pub commands: Sender<Command>,
    /// What of the configuration nobody is to see.
    pub veil: Arc<Veil>,
}

/// A source or a sink.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its connector, such as `mqtt`.
    pub extension: String,
    /// What is set for it; knows what is a secret.
    pub options: Options,
    /// Closed when it has ended.
    ended: Option<Receiver<Infallible>>,
}

impl Station {
    /// Whether it runs: one that has failed does not.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        let ended = self.ended.as_ref();
        ended.is_some_and(|ended| ended.try_recv() == Err(TryRecvError::Empty))
    }
}

impl View {
    /// Bytes that are free where the store lies.
    #[must_use]
    pub fn bytes_free(&self) -> Option<u64> {
        super::store::bytes_free(&self.settings.store.path)
    }

    /// Whether a source has its far side now.
    #[must_use]
    pub fn is_source_open(&self, name: &str) -> bool {
        let at_work = self.sources.get(name).is_some_and(Station::is_at_work);
        let mut all = self.counted.sources.iter();
        let metrics = all.find(|(known, _)| known == name);
        at_work && metrics.is_some_and(|(_, one)| one.connected.load(Ordering::Relaxed))
    }

    /// Whether a sink has its far side now; none: it has not tried yet.
    #[must_use]
    pub fn is_sink_open(&self, name: &str) -> Option<bool> {
        let mut all = self.counted.sinks.iter();
        let (_, metrics) = all.find(|(known, _)| known == name)?;
        let counted = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let has_tried = counted(&metrics.connects) + counted(&metrics.disconnects) > 0;
        has_tried.then(|| metrics.connected.load(Ordering::Relaxed))
    }
}

impl Window {
    /// What there is to see now; nothing before the first configuration is in force.
    #[must_use]
    pub fn view(&self) -> Option<Arc<View>> {
        self.lock().clone()
    }

    /// Whether the store is open and the first configuration was put in force, or refused: then
    /// nothing runs, and another one is waited for.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.is_up.load(Ordering::SeqCst)
    }

    pub(super) fn come_up(&self) {
        self.0.is_up.store(true, Ordering::SeqCst);
    }

    /// Whether the daemon is about to end: what ends from then on does so for no fault of its own.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.0.is_ending.load(Ordering::SeqCst)
    }

    pub(super) fn end(&self) {
        self.0.is_ending.store(true, Ordering::SeqCst);
    }

    fn show(&self, view: View) {
        *self.lock() = Some(Arc::new(view));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<View>>> {
        self.0.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Lets others see what is in force now.
    pub(super) fn show(&self) {
        let Some(in_force) = &self.in_force else {
            return;
        };
        let crew = &self.crew;
        let sources = in_force.sources.iter().map(|source| {
            let worker = crew.sources.get(&source.name);
            let ended = worker.map(|worker| worker.ended().clone());
            let (extension, options) = (source.extension().to_owned(), source.options.clone());
            (
                source.name.clone(),
                Station {
                    extension,
                    options,
                    ended,
                },
            )
        });
        let sinks = in_force.sinks.iter().map(|sink| {
            let worker = crew.sinks.get(&sink.name);
            let ended = worker.map(|worker| worker.ended().clone());
            let (extension, options) = (sink.extension().to_owned(), sink.options.clone());
            (
                sink.name.clone(),
                Station {
                    extension,
                    options,
                    ended,
                },
            )
        });
        self.orders.window.show(View {
            settings: Arc::new(in_force.settings.clone()),
            application: in_force.application(),
            counted: crew.counted.clone(),
            sources: sources.collect(),
            sinks: sinks.collect(),
            commands: self.commands.clone(),
            veil: Arc::clone(&in_force.veil),
        });
    }
}
