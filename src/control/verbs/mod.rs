//! What may be asked of a running node, one request at a time, each answered within bounds.
//!
//! [`Verb`] knows all of the contract. A [`Desk`] answers those about what runs; those about the
//! node and its configuration are for whoever has the journal. Nothing here decides whether the
//! mode or a signature lets a request: [`Verb::changes`] and [`Verb::needs_signature`] say what it
//! takes.

mod args;
mod diagnostics;
mod errands;
mod log;
mod outbox;
mod queries;
pub mod shown;
mod taps;
mod trial;
mod verb;

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

pub use self::taps::Tap;
pub use self::verb::{DeskVerb, NodeVerb, Verb};
pub use crate::pipeline::TAPS_MAX;

use self::args::Args;
use self::trial::Trials;
use super::{Code, Fault};
use crate::daemon::{View, Window};
use crate::logging::LogControl;

/// Answers requests about what runs.
#[derive(Debug)]
pub struct Desk {
    window: Window,
    log: LogControl,
    began: Instant,
    trials: Trials,
}

impl Desk {
    /// Answers about what `window` shows.
    #[must_use]
    pub fn new(window: Window, log: LogControl) -> Desk {
        Desk {
            window,
            log,
            began: Instant::now(),
            trials: Trials::default(),
        }
    }

    /// Answers a request. It may take its time, though not more than the bounds in this module.
    ///
    /// # Errors
    /// Why it is not done.
    pub fn answer(&self, verb: DeskVerb, args: &Value) -> Result<Value, Fault> {
        let args = Args::of(args)?;
        match verb {
            DeskVerb::Ping => Ok(self.ping(&args)),
            DeskVerb::QueryList => Ok(queries::list(&*self.view()?)),
            DeskVerb::QueryExplain => queries::explain(&*self.view()?, &args),
            DeskVerb::CheckpointNow => errands::checkpoint(&*self.view()?),
            DeskVerb::OutboxStatus => Ok(outbox::status(&*self.view()?)),
            DeskVerb::OutboxPause => outbox::pause(&*self.view()?, &args, true),
            DeskVerb::OutboxResume => outbox::pause(&*self.view()?, &args, false),
            DeskVerb::OutboxPurge => outbox::purge(&*self.view()?, &args),
            DeskVerb::LogLevel => log::level(&self.log, &args),
            DeskVerb::QueryTest => self.trials.run(self.window.view().as_deref(), &args),
            DeskVerb::Diagnostics => Ok(self.diagnostics()),
        }
    }

    /// Begins to look at the rows of a stream. Several may be looked at at a time, up to
    /// [`TAPS_MAX`]; each is waited for on a thread of its own, with [`Tap::wait`].
    ///
    /// # Errors
    /// Why it is not done.
    pub fn tap(&self, args: &Value) -> Result<Tap, Fault> {
        Tap::begin(&*self.view()?, &Args::of(args)?)
    }

    fn ping(&self, args: &Args<'_>) -> Value {
        json!({
            "echo": args.get("echo"),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.began.elapsed().as_secs(),
        })
    }

    fn diagnostics(&self) -> Value {
        let mut all = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "arch": std::env::consts::ARCH,
            "os": std::env::consts::OS,
            "uptime_s": self.began.elapsed().as_secs(),
            "process": diagnostics::process(),
            "log": log::shown(&self.log),
        });
        if let (Some(all), Some(view)) = (all.as_object_mut(), self.window.view()) {
            all.extend(diagnostics::running(&view));
        }
        all
    }

    fn view(&self) -> Result<Arc<View>, Fault> {
        let view = self.window.view();
        view.ok_or_else(|| Fault::new(Code::Busy, "nothing runs yet"))
    }
}
