//! Beginning and ending: what runs is decided before anything is opened, the rest runs beside the
//! daemon and goes last.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use tokio::sync::{mpsc, watch};

use super::boot::{Booted, News, boot, rescue as rescued};
use super::desk::{Answers, Desk};
use super::events;
use super::hearing::{Asked, Hearing};
use super::journal::{Journal, JournalError};
use super::link::{Endpoint, Link};
use super::local::Local;
use super::mailbox::{Mailbox, Once};
use super::steward::{Ears, Manner, Order, SharedJournal, Steward, Wires, lock, topics_of};
use super::verbs;
use crate::clock;
use crate::config::ControlMode;
use crate::daemon::{Door, Prepared, Window};
use crate::event::Report;
use crate::logging::LogControl;

/// Orders that wait for whoever minds the configuration.
const ORDERS_MAX: usize = 4;
/// How long what is to be written at the end is waited for at least, and the farewell.
const WRITTEN_WITHIN: Duration = Duration::from_millis(1_500);
const FAREWELL_WITHIN: Duration = Duration::from_millis(2_500);

/// What runs is decided, and nothing has begun.
#[derive(Debug)]
pub struct Control {
    local: Local,
    journal: Option<Journal>,
    /// What deciding it has changed.
    news: Vec<News>,
    /// Whether the local files are faulty.
    is_rescued: bool,
}

/// A daemon, as control needs to know it.
pub struct Node {
    /// Through which another configuration goes.
    pub door: Door,
    /// Through which it is seen.
    pub window: Window,
    /// What it reports.
    pub reports: mpsc::Receiver<Report>,
    /// Its log.
    pub log: LogControl,
    /// Told when it is to begin anew.
    pub restart: Sender<()>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Node")
    }
}

/// Control at work.
#[derive(Debug)]
pub struct Running {
    orders: Sender<Order>,
    /// Whether the local files are to be read anew, and are not being read yet.
    reloads: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    link: Option<JoinHandle<()>>,
    manner: Arc<Mutex<Manner>>,
}

/// Decides what is to run: `prepared`, which is what the local files say, or a document that was
/// accepted before.
///
/// # Errors
/// Another daemon uses its memory.
pub fn open(local: Local, prepared: Prepared) -> Result<(Prepared, Control), JournalError> {
    if prepared.settings.control.mode == ControlMode::Off {
        // From here on what ran with control is not what ran last.
        Journal::forget_local(&prepared.settings.store.path);
        let control = Control {
            local,
            journal: None,
            news: Vec::new(),
            is_rescued: false,
        };
        return Ok((prepared, control));
    }
    let booted = boot(&local, prepared)?;
    Ok(Control::of(local, booted, false))
}

/// As [`open`], when the local files are faulty: what ran before goes on; none when nothing did.
#[must_use]
pub fn rescue(local: Local) -> Option<(Prepared, Control)> {
    let booted = rescued(&local)?;
    Some(Control::of(local, booted, true))
}

impl Control {
    fn of(local: Local, booted: Booted, is_rescued: bool) -> (Prepared, Control) {
        let Booted {
            prepared,
            journal,
            news,
        } = booted;
        let control = Control {
            local,
            journal: Some(journal),
            news,
            is_rescued,
        };
        (prepared, control)
    }

    /// Begins: the link, the desk, and what minds the configuration, a thread each. `prepared` is
    /// what runs.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(self, prepared: &Prepared, node: Node) -> std::io::Result<Running> {
        let (hearing, bell, asked) = Hearing::new();
        let (orders, ordered) = bounded(ORDERS_MAX);
        let (endpoints, endpoint) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let (tell_too_large, too_large) = bounded(1);
        let mailbox = Mailbox::default();
        let journal = self.journal.map(|journal| Arc::new(Mutex::new(journal)));
        let journal: SharedJournal = Arc::new(Mutex::new(journal));
        let manner = Arc::new(Mutex::new(Manner {
            settings: prepared.settings.clone(),
            topics: topics_of(&prepared.settings.control),
        }));
        let link = Link {
            mailbox: mailbox.clone(),
            hearing: hearing.clone(),
            journal: Arc::clone(&journal),
            endpoints: endpoint,
            stop: stopped,
            too_large: tell_too_large,
            raised: (0, 0),
        };
        let link = spawn_link(link, node.reports, (mailbox.clone(), Arc::clone(&manner)))?;
        let desk = Desk {
            local: self.local.clone(),
            verbs: verbs::Desk::new(node.window.clone(), node.log),
            window: node.window.clone(),
            mailbox: mailbox.clone(),
            manner: Arc::clone(&manner),
            journal: Arc::clone(&journal),
            orders: orders.clone(),
            restart: node.restart,
            answers: Arc::new(Mutex::new(Answers::default())),
        };
        spawn_desk(desk, asked)?;
        let wires = Wires {
            door: node.door,
            window: node.window,
            mailbox,
            hearing,
            endpoints,
            journal,
            manner: Arc::clone(&manner),
        };
        let reloads: Arc<AtomicBool> = Arc::default();
        let began = (prepared, self.news);
        let mut steward = Steward::new(self.local, wires, began, Arc::clone(&reloads));
        steward.is_local_faulty = self.is_rescued;
        let ears = Ears {
            orders: ordered,
            bell,
            too_large,
        };
        named("control").spawn(move || steward.run(ears))?;
        Ok(Running {
            orders,
            reloads,
            stop,
            link: Some(link),
            manner,
        })
    }
}

impl Running {
    /// Has the local files read anew. What is read is read later than now, so that one that waits
    /// already covers this one.
    pub fn reload(&self) {
        if !self.reloads.swap(true, Ordering::SeqCst) {
            // Where there is no room, what is ahead of it is followed by a look at the flag.
            let _ = self.orders.try_send(Order::Reload);
        }
    }

    /// Says farewell, when the daemon has ended: in order, as it was told to at that time, or not.
    pub fn stop(mut self, ordered: Option<Instant>) {
        self.stop.send_replace(true);
        let mut written_until = Instant::now() + WRITTEN_WITHIN;
        if let Some(told) = ordered {
            // A slow disk may take all the time that a stop may.
            let deadline = lock(&self.manner).settings.shutdown.deadline_ms;
            written_until = written_until.max(told + Duration::from_millis(deadline));
        }
        let (done, is_done) = bounded(1);
        let order = Order::End(ordered.is_some(), done);
        let sent = self.orders.send_deadline(order, written_until).is_ok();
        if !sent || is_done.recv_deadline(written_until).is_err() {
            tracing::warn!(
                "the journal is not closed in time: a document on its way is taken back"
            );
        }
        let until = Instant::now() + FAREWELL_WITHIN;
        let Some(link) = self.link.take() else { return };
        while !link.is_finished() && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// The endpoint of `[control]`; none when its connection was judged to be unusable.
impl Endpoint {
    pub(super) fn new(
        options: &crate::config::options::Options,
        topics: super::topics::Topics,
        scopes: Option<Vec<super::Scope>>,
        bytes_max: usize,
    ) -> Option<Endpoint> {
        let client_id = format!("eventflux-control-{}", topics.node());
        let mut settings = crate::mqtt::Settings::from_options(options, &client_id).ok()?;
        settings.resume = false;
        settings.subscribes = true;
        settings.packet_bytes_max = packet_bytes_max(bytes_max);
        Some(Endpoint {
            settings,
            options: options.clone(),
            topics,
            scopes,
        })
    }
}

/// The largest packet that is read: a document that is too large is to be refused by name, up to a
/// size at which it is more of an attack than a document.
fn packet_bytes_max(content_bytes_max: usize) -> u32 {
    const REQUEST_BYTES: usize = 512 << 10;
    let bytes = content_bytes_max.saturating_mul(8).max(REQUEST_BYTES);
    u32::try_from(bytes).unwrap_or(u32::MAX).min(128 << 20)
}

fn spawn_link(
    link: Link,
    reports: mpsc::Receiver<Report>,
    (mailbox, manner): (Mailbox, Arc<Mutex<Manner>>),
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    named("control-link").spawn(move || {
        runtime.block_on(async move {
            tokio::select! {
                () = link.run() => {}
                () = relay(reports, mailbox, manner) => {}
            }
        });
    })
}

/// What the daemon reports, as events.
async fn relay(mut reports: mpsc::Receiver<Report>, mailbox: Mailbox, manner: Arc<Mutex<Manner>>) {
    while let Some(report) = reports.recv().await {
        let (topic, is_off) = {
            let manner = lock(&manner);
            let is_off = manner.settings.control.mode == ControlMode::Off;
            (manner.topics.own("event"), is_off)
        };
        if !is_off {
            let payload = events::event(&report, clock::wall())
                .to_string()
                .into_bytes();
            mailbox.send(Once {
                topic,
                payload,
                is_fleeting: false,
            });
        }
    }
    // The link says farewell when the daemon has ended.
    std::future::pending().await
}

fn spawn_desk(desk: Desk, asked: Receiver<Asked>) -> std::io::Result<()> {
    named("control-desk")
        .spawn(move || desk.run(&asked))
        .map(drop)
}

fn named(name: &str) -> std::thread::Builder {
    std::thread::Builder::new().name(name.to_owned())
}
