//! What sinks give up, and the dead letters that become of it.
//!
//! A dead letter is a row of the log: it is logged in the very write that removes from the outbox
//! what it is about, behind the records of its turn. So a crash keeps both or neither, and what has
//! lost both gives up the same once more, with a letter of its own. Whatever comes of letters goes
//! into that write too; it may cost others something, until nobody gives anything up: no stream
//! leads back into its own dead letters.
//!
//! Leaves to others: that [`Core::expire`] is called in time, and what is to be done when a store
//! that was opened anew has lost what was given up, see [`super::words`].

use super::turn::{Core, PipelineError, TurnDone, pieces};
use crate::event::{Batch, OutputKey, Rejected, Stamp, Timestamp};
use crate::outbox::{Entry, Expired, Purged, Reason, Waiting, dead_letter};
use crate::sink::{Confirmed, Refused};
use crate::sql::plan::{DEAD_LETTER_COLUMNS, StreamId};
use crate::store::WriteBatch;
use crate::wal::Body;

/// Outputs that a sink has given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Which sink, by its place among the outboxes.
    pub sink: usize,
    /// Up to here nothing waited before,
    pub after: OutputKey,
    /// and up to here nothing does now; the same when they were new ones that were not taken.
    pub through: OutputKey,
    /// Why.
    pub reason: Reason,
    /// How many went on as dead letters.
    pub letters: u64,
}

/// What has become of outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// A sink's word.
    Said(Confirmed),
    /// They were given up, and that may be lost.
    GivenUp(GivenUp),
}

/// What is to become dead letters.
struct Lost {
    sink: usize,
    entries: Vec<Entry>,
    reason: Reason,
}

impl Core {
    /// Puts the outputs of a turn at `now` into their outboxes, and works the dead letters that
    /// this costs.
    pub(super) fn put_out(
        &mut self,
        now: Timestamp,
        outputs: Vec<Vec<Entry>>,
        done: &mut TurnDone,
    ) -> Result<(), PipelineError> {
        let lost = self.append(now, outputs, done);
        self.work_letters(now, lost, done)
    }

    /// The same of a record that is run again. The letters are logged only: running the log will
    /// come to them.
    pub(super) fn put_out_again(
        &mut self,
        time: Timestamp,
        outputs: Vec<Vec<Entry>>,
    ) -> Result<(), PipelineError> {
        let mut done = TurnDone::default();
        let lost = self.append(time, outputs, &mut done);
        if let Some(error) = done.failed {
            return Err(error.into());
        }
        let now = self.wal.last_time();
        for lost in lost {
            self.log_letters(now, lost, &mut done.outbox)?;
        }
        Ok(self.put(done.outbox)?)
    }

    /// Gives up some of what has waited too long for a sink at `now`, and of what is beyond a
    /// limit that was lowered, when [`crate::outbox::Outbox::next_expiry`] says so. There may be
    /// more. `now` is not before [`Core::last_time`]; nothing has happened on disk until the result
    /// is written.
    ///
    /// # Errors
    /// When the outbox or the log fails.
    pub fn expire(&mut self, sink: usize, now: Timestamp) -> Result<TurnDone, PipelineError> {
        let mut done = self.nothing();
        let after = self.outbox.settled(sink).unwrap_or_default();
        let Expired {
            expired,
            dropped,
            given_up,
            given_up_for_limit,
            more: _,
        } = self.outbox.expire(sink, now, &mut done.outbox)?;
        let through = self.outbox.settled(sink).unwrap_or_default();
        let end = match given_up.last() {
            _ if dropped == 0 => through,
            Some(last) => last.key,
            None => after,
        };
        let both = [
            (expired, given_up, Reason::Expired, (after, end)),
            (dropped, given_up_for_limit, Reason::Full, (end, through)),
        ];
        let mut lost = Vec::new();
        for (count, entries, reason, between) in both {
            if count > 0 {
                lost.push(self.gave_up(sink, entries, reason, between, &mut done));
            }
        }
        self.work_letters(now, lost, &mut done)?;
        Ok(done)
    }

    /// Gives up some of what waits for a sink up to `through`, because an operator wants it. There
    /// may be more. `now` is not before [`Core::last_time`]; nothing has happened on disk until the
    /// result is written.
    ///
    /// # Errors
    /// When the outbox or the log fails.
    pub(super) fn purge(
        &mut self,
        sink: usize,
        through: OutputKey,
        now: Timestamp,
    ) -> Result<(TurnDone, Purged), PipelineError> {
        let mut done = self.nothing();
        let after = self.outbox.settled(sink).unwrap_or_default();
        let mut purged = self.outbox.purge(sink, through, &mut done.outbox)?;
        let given_up = std::mem::take(&mut purged.given_up);
        if purged.purged > 0 {
            let between = (after, self.outbox.settled(sink).unwrap_or_default());
            let lost = self.gave_up(sink, given_up, Reason::Purged, between, &mut done);
            self.work_letters(now, vec![lost], &mut done)?;
        }
        Ok((done, purged))
    }

    /// Takes over what has become of outputs, in the order in which it was said. A refusal of what
    /// does not wait any more is of no account. Nothing has happened on disk until the result is
    /// written.
    ///
    /// # Errors
    /// When the outbox or the log fails.
    pub fn settle(&mut self, now: Timestamp, words: &[Word]) -> Result<TurnDone, PipelineError> {
        let mut done = self.nothing();
        let mut lost = Vec::new();
        for word in words {
            match word {
                Word::Said(Confirmed { sink, key, refused }) => match refused {
                    None => self.outbox.confirm(*sink, *key, &mut done.outbox)?,
                    Some(refused) => lost.extend(self.refuse(*sink, *key, refused, &mut done)?),
                },
                Word::GivenUp(given_up) => {
                    let GivenUp {
                        sink,
                        after,
                        through,
                        reason,
                        letters: _,
                    } = given_up;
                    let outbox = &mut self.outbox;
                    outbox.confirm(*sink, *after, &mut done.outbox)?;
                    let entries =
                        outbox.give_up_again(*sink, *through, reason, &mut done.outbox)?;
                    let between = (*after, *through);
                    lost.push(self.gave_up(*sink, entries, reason.clone(), between, &mut done));
                }
            }
        }
        self.work_letters(now, lost, &mut done)?;
        Ok(done)
    }

    fn refuse(
        &mut self,
        sink: usize,
        key: OutputKey,
        refused: &Refused,
        done: &mut TurnDone,
    ) -> Result<Option<Lost>, PipelineError> {
        let after = self.outbox.settled(sink).unwrap_or_default();
        let Some(entry) = self.outbox.refuse(sink, key, &mut done.outbox)? else {
            return Ok(None);
        };
        let Refused { why, attempts } = refused.clone();
        let reason = Reason::Refused { why, attempts };
        Ok(Some(self.gave_up(
            sink,
            vec![entry],
            reason,
            (after, key),
            done,
        )))
    }

    /// Puts outputs into their outboxes; what that costs.
    fn append(
        &mut self,
        now: Timestamp,
        outputs: Vec<Vec<Entry>>,
        done: &mut TurnDone,
    ) -> Vec<Lost> {
        done.outputs.resize(outputs.len(), Vec::new());
        let mut lost = Vec::new();
        for (sink, entries) in outputs.into_iter().enumerate() {
            if entries.is_empty() || done.failed.is_some() {
                continue;
            }
            let after = self.outbox.settled(sink).unwrap_or_default();
            match self.outbox.append(sink, now, &entries, &mut done.outbox) {
                Ok(appended) if appended.dropped > 0 => {
                    let through = self.outbox.settled(sink).unwrap_or_default();
                    let between = (after, through);
                    lost.push(self.gave_up(sink, appended.given_up, Reason::Full, between, done));
                }
                Ok(_) => {}
                Err(error) => done.failed = Some(error),
            }
            if let Some(all) = done.outputs.get_mut(sink) {
                let made = now;
                all.extend(entries.into_iter().map(|entry| Waiting { entry, made }));
            }
        }
        lost
    }

    /// Takes note that outputs are given up.
    fn gave_up(
        &self,
        sink: usize,
        entries: Vec<Entry>,
        reason: Reason,
        (after, through): (OutputKey, OutputKey),
        done: &mut TurnDone,
    ) -> Lost {
        // Without a stream for them, they are counted only.
        let goes_on = self.letters_of(sink).is_some();
        let entries = if goes_on { entries } else { Vec::new() };
        done.given_up.push(GivenUp {
            sink,
            after,
            through,
            reason: reason.clone(),
            letters: u64::try_from(entries.len()).unwrap_or(u64::MAX),
        });
        Lost {
            sink,
            entries,
            reason,
        }
    }

    /// Logs dead letters, runs them through the engine and puts into outboxes what comes out, until
    /// nothing is lost by it.
    fn work_letters(
        &mut self,
        now: Timestamp,
        mut lost: Vec<Lost>,
        done: &mut TurnDone,
    ) -> Result<(), PipelineError> {
        while !lost.is_empty() && done.failed.is_none() {
            let mut gather = self.gather();
            for lost in lost {
                let stream = self.letters_of(lost.sink);
                let logged = self.log_letters(now, lost, &mut done.outbox)?;
                let Some(stream) = stream else { continue };
                for rows in &logged.rows {
                    self.engine.push(stream, rows.rows(), &mut gather);
                }
                for (rejected, seq) in &logged.rejected {
                    self.engine.reject(stream, rejected, now, *seq, &mut gather);
                }
            }
            lost = self.append(now, gather.by_sink, done);
        }
        done.last = self.last();
        Ok(())
    }

    /// Logs what sinks have given up as rows of their streams for that.
    fn log_letters(
        &mut self,
        now: Timestamp,
        lost: Lost,
        batch: &mut WriteBatch,
    ) -> Result<Logged, PipelineError> {
        let mut logged = Logged::default();
        let Lost {
            sink,
            entries,
            reason,
        } = lost;
        let plan = std::sync::Arc::clone(self.engine.plan());
        let stream = self.letters_of(sink).and_then(|id| plan.stream(id));
        let (Some(stream), Some(from)) = (stream, self.sinks.get(sink)) else {
            return Ok(logged);
        };
        let mut rows = Batch::new(DEAD_LETTER_COLUMNS.len());
        for entry in &entries {
            rows.push(
                Stamp::default(),
                dead_letter(&from.name, entry, &reason, now),
            );
        }
        let (pieces, too_large) = pieces(rows);
        for mut rows in pieces {
            rows.stamp_all(self.wal.next(), now);
            let body = Body::Events {
                stream: stream.name.clone(),
                schema: stream.schema.fingerprint(),
                rows,
                origin: None,
            };
            self.wal.append(now, &body, batch)?;
            if let Body::Events { rows, .. } = body {
                logged.rows.push(rows);
            }
        }
        for rejected in too_large {
            let body = Body::Rejected {
                stream: stream.name.clone(),
                rejected: rejected.clone(),
                origin: None,
            };
            let seq = self.wal.append(now, &body, batch)?;
            logged.rejected.push((rejected, seq));
        }
        Ok(logged)
    }

    /// The stream that takes what the sink gives up.
    fn letters_of(&self, sink: usize) -> Option<StreamId> {
        let stream = self.engine.plan().stream(self.sinks.get(sink)?.stream)?;
        Some(stream.dead_letters?.stream)
    }

    /// A turn in which nothing has happened.
    fn nothing(&self) -> TurnDone {
        TurnDone {
            last: self.last(),
            outputs: vec![Vec::new(); self.sinks.len()],
            ..TurnDone::default()
        }
    }
}

/// Records of dead letters.
#[derive(Default)]
struct Logged {
    rows: Vec<Batch>,
    /// Letters that are too large for a record.
    rejected: Vec<(Rejected, crate::event::Seq)>,
}
