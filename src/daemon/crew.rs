//! Sources and sinks at work: each a task with a number and a way to be told to stop, so that one
//! can go while the others stay.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use tokio::sync::{mpsc, watch};

use super::DaemonError;
use super::prepare::{Connector, MadeOf};
use crate::config::options::OptionFault;
use crate::event::{DeliveryMark, OutputKey};
use crate::observe::{Counted, OutboxMetrics};
use crate::report::Reporter;
use crate::sink::{self, Sink};
use crate::source::{self, Source};

/// Who is still at work, by name.
pub(super) type Working = Arc<Mutex<BTreeSet<String>>>;

/// Streams that failed and are not heard of yet.
const FAILED_MAX: usize = 64;

/// A source or a sink at work, or one that has ended.
#[derive(Debug)]
pub(super) struct Worker {
    /// What the pipeline knows it by; never given twice.
    pub(super) number: usize,
    made_of: MadeOf,
    stop: watch::Sender<bool>,
    /// Closed when it has ended.
    ended: Receiver<Infallible>,
    task: tokio::task::AbortHandle,
}

impl Worker {
    /// Whether it works and is what `made_of` says, so that it need not give way.
    pub(super) fn may_stay(&self, made_of: &MadeOf) -> bool {
        !*self.stop.borrow() && self.is_at_work() && self.made_of == *made_of
    }

    pub(super) fn is_at_work(&self) -> bool {
        matches!(self.ended.try_recv(), Err(TryRecvError::Empty))
    }

    /// Tells it to end: a source hands over what it has, a sink delivers what it has in hand.
    pub(super) fn tell_to_end(&self) {
        self.stop.send_replace(true);
    }

    /// Closed when it has ended.
    pub(super) fn ended(&self) -> &Receiver<Infallible> {
        &self.ended
    }

    /// Ends it where it stands.
    pub(super) fn abort(&self) {
        self.task.abort();
    }
}

/// What every source and sink is given.
pub(super) struct Crew {
    io: tokio::runtime::Handle,
    pub(super) working: Working,
    pub(super) counted: Counted,
    /// Where sources and sinks tell what happens to them.
    pub(super) reporter: Reporter,
    /// How long one may take to end.
    pub(super) stop_within: Duration,
    stopping: watch::Receiver<bool>,
    draining: watch::Receiver<bool>,
    tell_failed: Sender<String>,
    /// Those that have ended without having been told to.
    pub(super) failed: Receiver<String>,
    pub(super) sources: BTreeMap<String, Worker>,
    pub(super) sinks: BTreeMap<String, Worker>,
    /// What sinks know of each other.
    siblings: sink::Siblings,
    next: usize,
}

impl Crew {
    /// Nobody yet; numbers are given from `next` on. `stopping` and `draining` turn true when all
    /// sources, and then all sinks, are to end.
    pub(super) fn new(
        io: tokio::runtime::Handle,
        counted: Counted,
        reporter: Reporter,
        (stopping, draining): (watch::Receiver<bool>, watch::Receiver<bool>),
        next: usize,
    ) -> Crew {
        let (tell_failed, failed) = bounded(FAILED_MAX);
        Crew {
            io,
            working: Working::default(),
            counted,
            reporter,
            stop_within: Duration::ZERO,
            stopping,
            draining,
            tell_failed,
            failed,
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            siblings: sink::Siblings::default(),
            next,
        }
    }

    /// A number that nobody has had.
    pub(super) fn number(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    /// Starts a source.
    ///
    /// # Errors
    /// It has run before, and what it was made of cannot be used any more.
    pub(super) fn start_source(
        &mut self,
        number: usize,
        source: &mut Connector<Source>,
        tail: Vec<DeliveryMark>,
        arrivals: Sender<source::Arrival>,
        released: source::Released,
    ) -> Result<(), OptionFault> {
        let ready = source.take()?;
        let name = &source.name;
        let metrics = known(&mut self.counted.sources, name);
        let (stop, stopped) = watch::channel(false);
        let task = ready.run(source::Context {
            name: name.clone(),
            source: number,
            arrivals,
            released,
            tail,
            stop: stopped,
            stop_within: self.stop_within,
            metrics,
            reporter: self.reporter.clone(),
        });
        let all = self.stopping.clone();
        let worker = self.start(
            (number, &source.made_of),
            format!("source {name}"),
            task,
            (stop, all),
        );
        self.sources.insert(name.clone(), worker);
        Ok(())
    }

    /// What a sink's outbox counts.
    pub(super) fn outbox_metrics(&mut self, name: &str) -> Arc<OutboxMetrics> {
        known(&mut self.counted.outboxes, name)
    }

    /// Starts a sink.
    ///
    /// # Errors
    /// It has run before, and what it was made of cannot be used any more.
    pub(super) fn start_sink(
        &mut self,
        number: usize,
        sink: &mut Connector<Sink>,
        deliveries: mpsc::Receiver<sink::Delivery>,
        settled: watch::Receiver<OutputKey>,
        confirmed: Sender<sink::Confirmed>,
    ) -> Result<(), OptionFault> {
        let ready = sink.take()?;
        let name = &sink.name;
        let metrics = known(&mut self.counted.sinks, name);
        let outbox = known(&mut self.counted.outboxes, name);
        // That it is right was found out when it was prepared.
        let policy = sink::Policy::new(&sink.options).unwrap_or_default();
        let siblings = &self.siblings;
        let member = siblings.join(policy.priority(), Arc::clone(&metrics), outbox);
        let (stop, stopped) = watch::channel(false);
        let task = ready.run(sink::Context {
            name: name.clone(),
            sink: number,
            deliveries: sink::Deliveries::new(deliveries, &policy, member),
            settled,
            confirmed,
            stop: stopped,
            stop_within: self.stop_within,
            metrics,
            reporter: self.reporter.clone(),
        });
        let all = self.draining.clone();
        let worker = self.start(
            (number, &sink.made_of),
            format!("sink {name}"),
            task,
            (stop, all),
        );
        self.sinks.insert(name.clone(), worker);
        Ok(())
    }

    /// Starts what is neither; it ends with the sources.
    pub(super) fn start_other(
        &self,
        name: String,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let at_work = AtWork::new(&self.working, name);
        self.io.spawn(async move {
            task.await;
            drop(at_work);
        });
    }

    /// One that ends before it is told to is spoken of. `all` turns true when it is to end with all
    /// the others.
    fn start(
        &self,
        (number, made_of): (usize, &MadeOf),
        name: String,
        task: impl Future<Output = ()> + Send + 'static,
        (stop, mut all): (watch::Sender<bool>, watch::Receiver<bool>),
    ) -> Worker {
        let (end, ended) = bounded(0);
        let at_work = AtWork::new(&self.working, name.clone());
        let told = Told {
            name,
            stop: stop.clone(),
            stopping: self.stopping.clone(),
            failed: self.tell_failed.clone(),
            has_returned: false,
            _end: end,
        };
        let stop_all = stop.clone();
        let task = self.io.spawn(async move {
            let mut told = told;
            let relay = async {
                let _ = all.wait_for(|stop| *stop).await;
                stop_all.send_replace(true);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = task => {}
                () = relay => {}
            }
            told.has_returned = true;
            drop(told);
            drop(at_work);
        });
        Worker {
            number,
            made_of: made_of.clone(),
            stop,
            ended,
            task: task.abort_handle(),
        }
    }

    /// Those who are still at work.
    pub(super) fn laggards(&self) -> String {
        let list = self.working.lock();
        let list = list.map(|list| list.iter().cloned().collect::<Vec<_>>());
        list.unwrap_or_default().join(", ")
    }
}

/// What is counted under a name, from before or from now on.
fn known<T: Default>(counted: &mut Vec<(String, Arc<T>)>, name: &str) -> Arc<T> {
    if let Some((_, metrics)) = counted.iter().find(|(known, _)| known == name) {
        return Arc::clone(metrics);
    }
    let metrics: Arc<T> = Arc::default();
    counted.push((name.to_owned(), Arc::clone(&metrics)));
    metrics
}

/// Says, when it is dropped, that a source or sink has ended that was not told to.
struct Told {
    name: String,
    stop: watch::Sender<bool>,
    /// The daemon is to stop: sinks end when there is nothing to come.
    stopping: watch::Receiver<bool>,
    failed: Sender<String>,
    has_returned: bool,
    _end: Sender<Infallible>,
}

impl Drop for Told {
    fn drop(&mut self) {
        if *self.stop.borrow() || *self.stopping.borrow() {
            return;
        }
        if self.has_returned {
            tracing::error!(
                "{} has failed and stands still until the configuration is reloaded or the daemon \
                 is started again",
                self.name
            );
        } else {
            tracing::error!(
                "{} has ended by itself, which is a bug; it begins again when the configuration is \
                 reloaded or the daemon is started again",
                self.name
            );
        }
        // When so many have failed that there is no room, the first of them say enough.
        let _ = self.failed.try_send(self.name.clone());
    }
}

/// Starts a thread that stands in the list.
pub(super) fn thread(
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
        .map_err(|error| super::cannot_start("a thread", &error))
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
