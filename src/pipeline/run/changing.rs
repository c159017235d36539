//! Another configuration in the loop.
//!
//! Everything that has arrived before is worked under the old one and made durable, so that nothing
//! of it can come to be worked under the new one. Then, with nothing under way, the new application
//! is put in force ([`super::super::change`]), and with it the new set of sources and sinks. Those
//! that stay keep their numbers; numbers of the others mean nothing any more.
//!
//! A change that is refused leaves everything as it was. When the store fails before the change was
//! begun, it is tried again when that is open; from then on, the store is opened under the new
//! application, and the change is answered when it is durable.
//!
//! Leaves to others: that sources and sinks which do not stay have ended before, and what a source
//! has not handed over by then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::{RecvTimeoutError, Sender};
use tokio::sync::{mpsc, watch};

use super::super::change::Wanted;
use super::super::disk::{Disk, Room};
use super::super::errand::Errand;
use super::super::feed::Feed;
use super::super::lasting::{Limits, SourceHandle};
use super::super::recover::Recovered;
use super::super::turn::PipelineError;
use super::super::words::Words;
use super::Pipeline;
use super::saving::REPORT_NOTICED;
use crate::event::{DeliveryMark, OutputKey, Seq};
use crate::observe::OutboxMetrics;
use crate::sink::Delivery;
use crate::sql::plan::StreamId;
use crate::store::StoreError;

/// What the pipeline may be asked to do.
#[derive(Debug)]
pub enum Command {
    /// To say whether it would refuse another application for the sake of its state.
    WouldKeep(Wanted, Sender<Result<(), PipelineError>>),
    /// To go over to another configuration.
    Change(Box<Change>),
    /// Something else.
    Errand(Errand),
}

/// Another configuration.
#[derive(Debug)]
pub struct Change {
    /// The application.
    pub wanted: Wanted,
    /// The bounds of the loop.
    pub limits: Limits,
    /// How the store is opened from then on.
    pub disk: Disk,
    /// All sources that there are to be, by number.
    pub sources: BTreeMap<usize, SourceToBe>,
    /// All sinks that there are to be, in the order of the outboxes.
    pub sinks: Vec<SinkToBe>,
    /// Told when it is in force and durable, or is not going to be.
    pub answer: Sender<Result<Changed, Unchanged>>,
}

/// A source of another configuration.
#[derive(Debug)]
pub struct SourceToBe {
    /// The stream it feeds.
    pub stream: StreamId,
    /// Told how far its messages are durable; none: it is there already and stays.
    pub released: Option<watch::Sender<u64>>,
}

/// A sink of another configuration.
#[derive(Debug)]
pub struct SinkToBe {
    /// What it calls itself.
    pub number: usize,
    /// Where its outputs go; none: it is there already and stays.
    pub new: Option<NewSink>,
}

/// A sink that begins.
#[derive(Debug)]
pub struct NewSink {
    /// Takes its outputs.
    pub to: mpsc::Sender<Delivery>,
    /// The bytes of outputs that it may hold.
    pub holds_bytes_max: usize,
    /// Told up to where nothing waits any more.
    pub settled: watch::Sender<OutputKey>,
    /// What becomes of its outputs.
    pub metrics: Arc<OutboxMetrics>,
}

/// A configuration is in force.
#[derive(Debug)]
pub struct Changed {
    /// The last input that was worked under the old one.
    pub at: Seq,
    /// Whether the application is another one.
    pub is_other: bool,
    /// The last marks of each source that begins, oldest first.
    pub marks: BTreeMap<usize, Vec<DeliveryMark>>,
    /// What somebody should know: what starts empty, outputs that nothing will deliver. A sentence
    /// each.
    pub warnings: Vec<String>,
}

/// Why a configuration is not put in force. The old one goes on.
#[derive(Debug, thiserror::Error)]
pub enum Unchanged {
    /// It cannot be.
    #[error(transparent)]
    Refused(#[from] PipelineError),
    /// The daemon is about to end.
    #[error("the daemon is stopping")]
    Stopping,
}

/// A change that has happened and is not known to be durable.
#[derive(Debug)]
pub(in super::super) struct Happened {
    changed: Changed,
    answer: Sender<Result<Changed, Unchanged>>,
}

impl Pipeline<'_> {
    /// Does what it is asked.
    pub(super) fn asked(&mut self, command: Command) -> Result<(), PipelineError> {
        match command {
            Command::WouldKeep(wanted, answer) => {
                let open = wanted.open_in(self.core.store(), self.lasting.identity);
                // Who asked may be gone.
                let _ = answer.send(self.core.would_keep(&open));
                Ok(())
            }
            Command::Change(change) => {
                self.lasting.change = Some(change);
                self.change()
            }
            Command::Errand(errand) => {
                self.take_errand(errand);
                Ok(())
            }
        }
    }

    /// Tells that a change is durable, which it is by now.
    pub(super) fn answer(&mut self) {
        if let Some(Happened { changed, answer }) = self.lasting.happened.take() {
            let _ = answer.send(Ok(changed));
        }
    }

    /// Goes over to another configuration, if one waits.
    pub(super) fn change(&mut self) -> Result<(), PipelineError> {
        let Some(change) = &self.lasting.change else {
            return Ok(());
        };
        if self.lasting.draining.is_some() || self.lasting.is_stopping() {
            let _ = change.answer.send(Err(Unchanged::Stopping));
            self.lasting.change = None;
            return Ok(());
        }
        self.come_to_rest()?;
        let Some(change) = self.lasting.change.take() else {
            return Ok(());
        };
        let mut found = Recovered::default();
        let open = change
            .wanted
            .open_in(self.core.store(), self.lasting.identity);
        let next = match self.core.next(&open, false, &mut found) {
            Ok(next) => next,
            Err(error) if error.store().is_some() => {
                self.lasting.change = Some(change);
                return Err(error);
            }
            Err(error) => {
                let _ = change.answer.send(Err(error.into()));
                return Ok(());
            }
        };
        found.warnings.extend(next.stranded());
        let at = self.core.last();
        let is_other = next.is_other();
        let taken_over = self.core.take_over(next);
        self.take_handles(*change, at, is_other, found);
        taken_over?;
        self.written = self.core.last();
        self.lasting.given = self.lasting.given.max(self.written);
        self.settle()?;
        self.answer();
        if is_other {
            self.checkpoint();
        }
        Ok(())
    }

    /// Works what has arrived, writes what sinks have said, ends the checkpoint that was begun, and
    /// makes all of it durable.
    fn come_to_rest(&mut self) -> Result<(), PipelineError> {
        for _ in 0..self.lasting.handles.arrivals.len() {
            let Ok(arrival) = self.lasting.handles.arrivals.try_recv() else {
                break;
            };
            self.arrived(arrival)?;
        }
        while let Ok(one) = self.lasting.handles.confirmed.try_recv() {
            self.lasting.said(one);
        }
        self.write_confirmed()?;
        while !self.saving.is_idle() {
            self.save_on()?;
            let wait = self.saving.wait().unwrap_or(REPORT_NOTICED);
            match self.saver.reports.recv_timeout(wait) {
                Ok(done) => self.reported(done)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let why = "the thread that writes checkpoints has ended".to_owned();
                    return Err(StoreError::Poisoned { why }.into());
                }
            }
        }
        let metrics = &self.lasting.handles.metrics;
        self.lasting.faults.tell(self.core.take_faults(), metrics);
        metrics.count_engine(self.core.take_counts());
        self.settle()
    }

    /// Goes over to the sources and sinks of a change.
    fn take_handles(&mut self, change: Change, at: Seq, is_other: bool, found: Recovered) {
        let Change {
            wanted: _,
            limits,
            disk,
            sources,
            sinks,
            answer,
        } = change;
        let marks = self.take_sources(sources);
        self.take_sinks(sinks);
        self.take_limits(limits);
        self.tap_again();
        let lasting = &mut *self.lasting;
        lasting.disk = Some(disk);
        if is_other {
            // A new engine does not know what the clock is worth.
            lasting.clock.forget_news();
        }
        lasting.happened = Some(Happened {
            changed: Changed {
                at,
                is_other,
                marks,
                warnings: found.warnings,
            },
            answer,
        });
    }

    /// The marks of those that begin.
    fn take_sources(
        &mut self,
        sources: BTreeMap<usize, SourceToBe>,
    ) -> BTreeMap<usize, Vec<DeliveryMark>> {
        let mut marks = BTreeMap::new();
        let mut before = std::mem::take(&mut self.lasting.handles.sources);
        for (number, SourceToBe { stream, released }) in sources {
            let handle = match released {
                Some(released) => {
                    marks.insert(number, self.core.tail(stream));
                    Some(SourceHandle { stream, released })
                }
                None => before
                    .remove(&number)
                    .map(|handle| SourceHandle { stream, ..handle }),
            };
            let sources = &mut self.lasting.handles.sources;
            sources.extend(handle.map(|handle| (number, handle)));
        }
        marks
    }

    fn take_sinks(&mut self, sinks: Vec<SinkToBe>) {
        let outbox = self.core.outbox();
        let identity = self.lasting.identity;
        let mut before = std::mem::take(&mut self.lasting.handles.feeds);
        for (place, SinkToBe { number, new }) in sinks.into_iter().enumerate() {
            let known = before.iter().position(|feed| feed.number() == number);
            let begin = |to| Feed::new(place, to, outbox, identity).of_number(number);
            let feed = match (new, known) {
                (Some(new), _) => begin(new.to)
                    .holding(new.holds_bytes_max)
                    .telling(new.settled, new.metrics),
                (None, Some(known)) => {
                    let mut feed = before.swap_remove(known);
                    feed.take_place(place, outbox);
                    feed
                }
                // Nobody takes what is for a sink that was never there; it waits.
                (None, None) => begin(mpsc::channel(1).0),
            };
            feed.count(outbox, &[]);
            self.lasting.handles.feeds.push(feed);
        }
        // All that was said before is durable.
        self.lasting.words = Words::new(self.lasting.handles.feeds.len());
        self.pause_again();
    }

    fn take_limits(&mut self, limits: Limits) {
        self.lasting.limits = limits;
        self.lasting.clock.set_jump_ms_max(limits.jump_ms_max);
        self.room = Room::new(limits.room);
        let interval = limits.checkpoint_interval;
        self.checkpoint_at = interval.map(|interval| Instant::now() + interval);
    }
}
