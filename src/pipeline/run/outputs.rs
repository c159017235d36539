//! Outputs in the loop: what sinks are given, what they say, and what is given up.

use std::time::Instant;

use super::super::letters::GivenUp;
use super::super::turn::PipelineError;
use super::{Pipeline, add};
use crate::event::Timestamp;
use crate::outbox::Waiting;

impl Pipeline<'_> {
    /// Gives sinks what is durable, but for what is to be given up first.
    pub(super) fn pump(&mut self) -> Result<(), PipelineError> {
        let now = self.log_now();
        let ends = self.lasting.draining.is_some();
        for (sink, feed) in self.lasting.handles.feeds.iter_mut().enumerate() {
            let outbox = self.core.outbox_mut();
            if ends || outbox.next_expiry(sink).is_none_or(|expiry| expiry > now) {
                feed.pump(outbox, self.lasting.durable)?;
            }
        }
        Ok(())
    }

    /// When the next output is to be given up.
    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        // What is under way may still arrive before the end; the rest is for the next start.
        if self.lasting.draining.is_some() {
            return None;
        }
        let sinks = 0..self.lasting.handles.feeds.len();
        let expiries = sinks.filter_map(|sink| self.core.outbox().next_expiry(sink));
        expiries.min()
    }

    /// Gives up some of what has waited too long, for each sink.
    pub(super) fn expire(&mut self) -> Result<(), PipelineError> {
        let now = self.log_now();
        if self.next_expiry().is_none_or(|expiry| expiry > now) {
            return Ok(());
        }
        if self.confirmed_since.is_some() {
            // What has arrived by now is not given up.
            self.write_confirmed()?;
        }
        let time = self.now();
        for sink in 0..self.lasting.handles.feeds.len() {
            let expiry = self.core.outbox().next_expiry(sink);
            if expiry.is_some_and(|expiry| expiry <= time) {
                let turn = self.core.expire(sink, time)?;
                self.write(turn)?;
            }
        }
        Ok(())
    }

    /// Outputs are written, and these were given up.
    pub(super) fn given_up(&mut self, outputs: Vec<Vec<Waiting>>, given_up: Vec<GivenUp>) {
        let outbox = self.core.outbox();
        let feeds = self.lasting.handles.feeds.iter_mut();
        for ((sink, feed), outputs) in feeds.enumerate().zip(outputs) {
            if given_up.iter().any(|one| one.sink == sink) {
                feed.reread(outbox);
            } else {
                feed.add(outputs);
            }
            feed.count(outbox, &given_up);
            let own = given_up.iter().find(|one| one.sink == sink);
            if let (Some(own), Some(stream)) = (own, self.core.sinks().get(sink)) {
                feed.tell(own, &stream.name, outbox);
            }
        }
        for one in given_up {
            self.lasting.words.gave_up(one);
        }
    }

    /// Reports what was given up, when that is due.
    pub(super) fn report_losses(&mut self, now: Instant) {
        let lasting = &mut *self.lasting;
        let feeds = lasting.handles.feeds.iter_mut();
        for (feed, stream) in feeds.zip(self.core.sinks()) {
            let outbox = self.core.outbox();
            let news = feed.losses(&stream.name, outbox, now, &mut lasting.loss_reports);
            for report in news {
                lasting.handles.metrics.reporter.tell(report);
            }
        }
    }

    /// When that is due next.
    pub(super) fn loss_at(&self, now: Instant) -> Option<Instant> {
        let (outbox, reports) = (self.core.outbox(), self.lasting.loss_reports);
        let feeds = self.lasting.handles.feeds.iter();
        feeds
            .filter_map(|feed| feed.loss_at(outbox, now, reports))
            .min()
    }

    /// Writes what sinks have said.
    pub(super) fn write_confirmed(&mut self) -> Result<(), PipelineError> {
        self.confirmed_since = None;
        let time = self.log_now();
        let words = self.lasting.words.take_unwritten();
        let turn = self.core.settle(time, &words)?;
        if !turn.given_up.is_empty() {
            return self.write(turn);
        }
        let bytes = turn.outbox.bytes();
        self.core.write(turn)?;
        self.room.wrote(bytes);
        let metrics = &self.lasting.handles.metrics;
        add(&metrics.cursor_bytes, bytes);
        for feed in &self.lasting.handles.feeds {
            feed.count(self.core.outbox(), &[]);
        }
        Ok(())
    }
}
