//! Outputs wait here, per sink, until the far side has confirmed them.
//!
//! Promises:
//! * Each key is kept once: what is not greater than the last key appended is a repetition (a
//!   replay after a crash) and left out. That key survives the confirmation of everything.
//! * The cursor never leads: it is a key that the far side has confirmed, or refused for good.
//!   After a crash it may lag, and what it lags behind is delivered again under the same keys.
//! * An output keeps the columns it was made with, whatever the sink's columns are by the time it
//!   is read.
//! * Nothing leaves without being counted by reason, see [`Counts`]; what is stored says how much
//!   there is, so that the accounts are the same after every open.
//! * The disk it takes is limited, and so is the time that an output waits. Memory does not grow
//!   with the backlog: what is in memory per sink is its accounts, one group's keys and one
//!   group's columns.
//! * What waits for a sink that is not there any more is left as it is, and named.
//!
//! Outputs leave from the front, a stored group at a time, whatever the reason:
//!
//! ```text
//!         confirmed or given up             waiting
//!         (the groups are gone)   front                            last
//!   ..... ......... ......... [###.....] [........] [........] [........]
//!                                ^ cursor                      ^ appended at `now`
//! ```
//!
//! So there is one line on disk, the cursor, which the far side alone moves, and only the front
//! group is divided by it. What is too old needs no mark: a group holds the outputs of one turn,
//! which have one age, and groups are appended at a clock that never goes back. An output's age
//! is counted from there, by the log's clock, and not from the time of its row, which may be that
//! of the data.
//!
//! Until a batch is written, all that happens to a sink goes into that batch. What is given up may
//! go on as a dead letter: it is handed back, and whoever logs it puts the record into the very
//! batch that was given here. Then a crash keeps both or neither: none is lost and none comes
//! twice.
//!
//! Leaves to others: writing the batches and syncing them (the pipeline), delivering (`sink`), and
//! delivering only outputs whose input is synced: the number of one that a crash loses is given
//! again, to another input.
//! After a write that failed the accounts here are ahead of the store: open both anew.
//!
//! [`entry`] draws the bytes.

mod account;
mod entry;
mod letter;
mod look;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use self::letter::{Reason, dead_letter};
pub use self::look::{Look, look_at, names, waiting};

use self::account::{Bounds, Left, Sink, bytes_of};
use self::entry::Group;
use crate::event::{OutputKey, Schema, Timestamp, Value, cbor};
use crate::store::seal::{Damage, Sealer, TooLong, Unsealer};
use crate::store::{Store, StoreError, WriteBatch};

/// At most so many outputs share one stored value.
pub const GROUP_ENTRIES_MAX: usize = 256;
/// The rows of a group take so much memory at most, but for one that is larger alone.
pub const GROUP_BYTES_MAX: usize = 32 << 10;
/// One call of [`Outbox::expire`] gives up so many groups at most,
pub const EXPIRE_GROUPS_MAX: usize = 16;
/// and no further one once the outputs that it hands back take so much memory.
pub const EXPIRE_BYTES_MAX: usize = 1 << 20;
/// So many damaged groups are named at open; the rest is counted.
const DAMAGE_NAMED_MAX: usize = 16;

/// One output.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its identity, and the order of delivery.
    pub key: OutputKey,
    /// The time of its row: when it arose, on the clock of its stream.
    pub time: Timestamp,
    /// The columns that the sink's stream had then.
    pub schema: Arc<Schema>,
    /// One value per column.
    pub row: Vec<Value>,
}

/// An output that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// It itself.
    pub entry: Entry,
    /// When it was put into the outbox, on the log's clock.
    pub made: Timestamp,
}

/// What to do when a sink's outputs take more than their limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Give up the oldest ones, a stored group at a time.
    DropOldest,
    /// Do not take the new ones.
    DropNewest,
    /// Take them all the same; the caller asks [`Outbox::is_full`] before it takes more input.
    Block,
}

/// The limits of one sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The bytes that a sink's stored outputs may take. With [`Full::Block`] the outputs of one
    /// turn may go beyond.
    pub bytes_max: u64,
    /// What happens then. An output that is larger alone is given up, unless it is to block.
    pub full: Full,
    /// An output that has waited so long, in milliseconds of the log's clock, is given up.
    pub ttl_ms: Option<i64>,
    /// Whether what is given up is handed back, to go on as dead letters.
    pub dead_letters: bool,
}

impl Limits {
    /// No limits.
    pub const NONE: Limits = Limits {
        bytes_max: u64::MAX,
        full: Full::Block,
        ttl_ms: None,
        dead_letters: false,
    };
}

/// How much waits for a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Outputs that are not confirmed.
    pub entries: u64,
    /// The bytes they take, with those of confirmed ones in the same group.
    pub bytes: u64,
    /// When the oldest group was appended, on the log's clock.
    pub oldest: Option<Timestamp>,
}

/// What has become of a sink's outputs since its outbox exists. With [`Depth::entries`] this is
/// all that was ever put in, but for what was in groups that were found damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Outputs that the far side has confirmed.
    pub confirmed: u64,
    /// Outputs that the limit in bytes has cost.
    pub dropped: u64,
    /// Outputs whose time to live was over.
    pub expired: u64,
    /// Outputs that the far side will never take.
    pub refused: u64,
    /// Outputs that an operator has given up.
    pub purged: u64,
    /// Stored groups that were found damaged. How many outputs they held cannot be told.
    pub damaged: u64,
}

/// A sink that has an outbox and is not defined any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Its name.
    pub name: String,
    /// How many of its outputs are not confirmed.
    pub entries: u64,
}

/// What came of outputs that were appended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Appended {
    /// Stored.
    pub stored: u64,
    /// Left out as repetitions.
    pub repeated: u64,
    /// Given up because of the limit in bytes, old ones or new ones.
    pub dropped: u64,
    /// These, in their order, for a sink with dead letters: old ones take no more bytes than the
    /// new ones that came for them, or as much as a limit was lowered.
    pub given_up: Vec<Entry>,
}

/// What was given up because it has waited too long.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expired {
    /// How many outputs had outlived their time.
    pub expired: u64,
    /// How many went because the limit in bytes was lowered; none of them is in `expired`.
    pub dropped: u64,
    /// What was expired, in order, for a sink with dead letters,
    pub given_up: Vec<Entry>,
    /// and what was dropped.
    pub given_up_for_limit: Vec<Entry>,
    /// Whether there is more to give up now.
    pub more: bool,
}

/// What was given up because an operator wanted it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Purged {
    /// How many outputs.
    pub purged: u64,
    /// These, in their order, for a sink with dead letters.
    pub given_up: Vec<Entry>,
    /// Whether there is more to give up.
    pub more: bool,
}

/// Why the outbox does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sink's name is longer than 65,535 bytes.
    #[error("the name of a sink is {bytes} bytes long; 65535 are allowed")]
    Name {
        /// How long it is.
        bytes: usize,
    },
    /// There is no sink with this number.
    #[error("there is no sink number {sink}")]
    NoSink {
        /// The number.
        sink: usize,
    },
    /// One output is too large.
    #[error("cannot store an output: {0}")]
    TooLong(#[from] TooLong),
    /// An output cannot be encoded.
    #[error("cannot store an output: {0}")]
    Encode(#[from] cbor::CborError),
}

/// The outboxes of all sinks.
pub struct Outbox {
    store: Arc<dyn Store>,
    sinks: Vec<Sink>,
    sealer: Sealer,
    unsealer: Unsealer,
    found: Vec<String>,
    strays: Vec<Stray>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Outbox")
            .field("sinks", &self.sinks)
            .finish_non_exhaustive()
    }
}

impl Outbox {
    /// Opens the outboxes of `sinks`, each with its limits; a sink is known by its place in
    /// `sinks` from then on. Reads what is stored once, to check and count it, and unpacks one
    /// group at most for each sink. Damaged groups are removed, counted, and named by
    /// [`Outbox::damage`]. A limit that was lowered takes effect with the next
    /// [`Outbox::append`], or before it with [`Outbox::expire`].
    pub fn open(store: Arc<dyn Store>, sinks: &[(String, Limits)]) -> Result<Outbox, OutboxError> {
        let mut outbox = Outbox {
            store,
            sinks: Vec::new(),
            sealer: Sealer::default(),
            unsealer: Unsealer::default(),
            found: Vec::new(),
            strays: Vec::new(),
        };
        for (name, limits) in sinks {
            let sink = outbox.open_sink(name, *limits)?;
            outbox.sinks.push(sink);
        }
        outbox.find_strays(sinks)?;
        Ok(outbox)
    }

    /// The sinks that have an outbox and were not among those to be opened.
    #[must_use]
    pub fn strays(&self) -> &[Stray] {
        &self.strays
    }

    /// What was found damaged at open: a sentence each.
    #[must_use]
    pub fn damage(&self) -> &[String] {
        &self.found
    }

    /// The limits that the sink was opened with.
    #[must_use]
    pub fn limits(&self, sink: usize) -> Option<Limits> {
        self.sinks.get(sink).map(|sink| sink.limits)
    }

    /// The last key ever appended for the sink, whether stored, dropped or confirmed since.
    #[must_use]
    pub fn last_key(&self, sink: usize) -> Option<OutputKey> {
        self.sinks.get(sink).map(|sink| sink.state.last)
    }

    /// The last key that the sink has confirmed.
    #[must_use]
    pub fn cursor(&self, sink: usize) -> Option<OutputKey> {
        self.sinks.get(sink).map(|sink| sink.state.cursor)
    }

    /// Nothing up to this key waits any more: it is confirmed or given up. What a sink has been
    /// given of it and has not delivered yet, it need not deliver.
    #[must_use]
    pub fn settled(&self, sink: usize) -> Option<OutputKey> {
        let sink = self.sinks.get(sink)?;
        Some(sink.state.cursor.max(sink.gone))
    }

    /// What has become of the sink's outputs.
    #[must_use]
    pub fn counts(&self, sink: usize) -> Option<Counts> {
        self.sinks.get(sink).map(Sink::counts)
    }

    /// Whether a sink whose policy is [`Full::Block`] has reached its limit.
    #[must_use]
    pub fn is_full(&self, sink: usize) -> bool {
        self.sinks.get(sink).is_some_and(|sink| {
            sink.limits.full == Full::Block && sink.bytes >= sink.limits.bytes_max
        })
    }

    /// How much waits for the sink.
    pub fn depth(&self, sink: usize) -> Result<Depth, OutboxError> {
        let sink = self.sinks.get(sink).ok_or(OutboxError::NoSink { sink })?;
        Ok(Depth {
            entries: sink.entries,
            bytes: sink.bytes,
            oldest: sink.oldest,
        })
    }

    /// When there is something for [`Outbox::expire`] to do, on the log's clock.
    #[must_use]
    pub fn next_expiry(&self, sink: usize) -> Option<Timestamp> {
        self.sinks.get(sink)?.next_expiry()
    }

    /// Puts `outputs` of one turn, in ascending order of their keys, into `batch`, which the
    /// caller writes. `now` is the log's clock in that turn.
    pub fn append(
        &mut self,
        sink: usize,
        now: Timestamp,
        outputs: &[Entry],
        batch: &mut WriteBatch,
    ) -> Result<Appended, OutboxError> {
        let target = self
            .sinks
            .get_mut(sink)
            .ok_or(OutboxError::NoSink { sink })?;
        target.notice(now);
        let before = target.state.counts;
        let (groups, repeated) = groups(outputs, target.state.last);
        let mut done = Appended {
            repeated,
            ..Appended::default()
        };
        for group in groups {
            self.append_group(sink, now, &group, batch, &mut done)?;
        }
        self.put_state_if_changed(sink, before, batch)?;
        Ok(done)
    }

    fn append_group(
        &mut self,
        sink: usize,
        now: Timestamp,
        group: &[&Entry],
        batch: &mut WriteBatch,
        done: &mut Appended,
    ) -> Result<(), OutboxError> {
        let target = self
            .sinks
            .get_mut(sink)
            .ok_or(OutboxError::NoSink { sink })?;
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(());
        };
        let value = entry::seal_group(&mut self.sealer, &mut target.columns, now, group)?;
        let place = entry::place(&target.prefix, first.key);
        let bytes = bytes_of(&place) + bytes_of(&value);
        let count = u64::try_from(group.len()).unwrap_or(u64::MAX);
        target.state.last = last.key;
        let Limits {
            bytes_max, full, ..
        } = target.limits;
        if target.bytes.saturating_add(bytes) > bytes_max && full != Full::Block {
            if full == Full::DropNewest || bytes > bytes_max {
                target.state.counts.dropped += count;
                done.dropped += count;
                if target.limits.dead_letters {
                    done.given_up.extend(group.iter().map(|one| (*one).clone()));
                }
                return Ok(());
            }
            let bounds = Bounds {
                keep: target.limits.dead_letters,
                ..Bounds::NONE
            };
            let too_much = |sink: &Sink, _: &Group<'_>| sink.bytes > bytes_max - bytes;
            let (store, unsealer) = (&*self.store, &mut self.unsealer);
            let left = target.leave(store, unsealer, batch, bounds, too_much)?;
            target.state.counts.dropped += left.outputs;
            done.dropped += left.outputs;
            done.given_up.extend(left.entries);
        }
        target.bytes += bytes;
        target.entries += count;
        target.oldest.get_or_insert(now);
        done.stored += count;
        batch.put(place, value);
        Ok(())
    }

    /// Gives up what has waited too long at `now`, on the log's clock, and what is beyond a limit
    /// that was lowered: some of it, so that a turn need not wait for it. Puts the removal into
    /// `batch`. Call it when [`Outbox::next_expiry`] says so, and again while there is more.
    pub fn expire(
        &mut self,
        sink: usize,
        now: Timestamp,
        batch: &mut WriteBatch,
    ) -> Result<Expired, OutboxError> {
        let target = self
            .sinks
            .get_mut(sink)
            .ok_or(OutboxError::NoSink { sink })?;
        target.notice(now);
        let (store, unsealer) = (&*self.store, &mut self.unsealer);
        let mut bounds = Bounds {
            keep: target.limits.dead_letters,
            groups: EXPIRE_GROUPS_MAX,
            bytes: EXPIRE_BYTES_MAX,
        };
        let mut done = Expired::default();
        let before = target.state.counts;
        let mut left = Left::default();
        if target.next_expiry().is_some_and(|due| due <= now) {
            let too_old = |sink: &Sink, group: &Group<'_>| sink.is_over(group.time);
            left = target.leave(store, unsealer, batch, bounds, too_old)?;
            target.state.counts.expired += left.outputs;
            done.expired = left.outputs;
        }
        let Limits {
            bytes_max, full, ..
        } = target.limits;
        bounds.groups -= left.places.len().min(bounds.groups);
        (done.given_up, done.more) = (left.entries, left.more);
        if full == Full::DropOldest && target.bytes > bytes_max && !done.more {
            let too_much = |sink: &Sink, _: &Group<'_>| sink.bytes > bytes_max;
            let left = target.leave(store, unsealer, batch, bounds, too_much)?;
            target.state.counts.dropped += left.outputs;
            done.dropped = left.outputs;
            (done.given_up_for_limit, done.more) = (left.entries, left.more);
        }
        self.put_state_if_changed(sink, before, batch)?;
        Ok(done)
    }

    /// Gives up some of what waits up to `through` because an operator wants it. Puts the removal
    /// into `batch`. Call it again while there is more.
    pub fn purge(
        &mut self,
        sink: usize,
        through: OutputKey,
        batch: &mut WriteBatch,
    ) -> Result<Purged, OutboxError> {
        let target = self
            .sinks
            .get_mut(sink)
            .ok_or(OutboxError::NoSink { sink })?;
        let before = target.state.counts;
        let bounds = Bounds {
            keep: target.limits.dead_letters,
            groups: EXPIRE_GROUPS_MAX,
            bytes: EXPIRE_BYTES_MAX,
        };
        let wanted = |_: &Sink, group: &Group<'_>| group.last <= through;
        let left = target.leave(&*self.store, &mut self.unsealer, batch, bounds, wanted)?;
        target.state.counts.purged += left.outputs;
        self.put_state_if_changed(sink, before, batch)?;
        Ok(Purged {
            purged: left.outputs,
            given_up: left.entries,
            more: left.more,
        })
    }

    /// The outputs after `after` and after the cursor, in order: at most `rows_max`, and no more
    /// once their rows take `bytes_max`, but at least one when there is any. What is too old is
    /// among them until [`Outbox::expire`] has taken it out: one that were left out here would
    /// count as confirmed with those behind it, and be lost.
    pub fn read(
        &mut self,
        sink: usize,
        after: OutputKey,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, OutboxError> {
        let waiting = self.read_waiting(sink, after, rows_max, bytes_max)?;
        Ok(waiting.into_iter().map(|waiting| waiting.entry).collect())
    }

    /// Like [`Outbox::read`], with the times since when they wait.
    pub fn read_waiting(
        &mut self,
        sink: usize,
        after: OutputKey,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Waiting>, OutboxError> {
        let target = self
            .sinks
            .get_mut(sink)
            .ok_or(OutboxError::NoSink { sink })?;
        let after = after.max(target.state.cursor);
        let start = target.holder(after, &*self.store)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let mut damaged: Vec<Vec<u8>> = Vec::new();
        let end = target.end();
        let unsealer = &mut self.unsealer;
        self.store.range(&start, &end, &mut |key, value| {
            let group = match Group::look(value).and_then(|group| group.under(&target.prefix, key))
            {
                Ok(group) if group.last <= after => return ControlFlow::Continue(()),
                Ok(group) => {
                    let entries = group.entries(unsealer, &mut target.columns);
                    entries.map(|entries| (group.time, entries))
                }
                Err(damage) => Err(damage),
            };
            let Ok((made, group)) = group else {
                damaged.push(key.to_vec());
                return match damaged.len() < DAMAGE_NAMED_MAX {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                };
            };
            for entry in group.into_iter().filter(|entry| entry.key > after) {
                if entries.len() >= rows_max || (bytes >= bytes_max && !entries.is_empty()) {
                    return ControlFlow::Break(());
                }
                bytes += memory_of(&entry);
                entries.push(Waiting { entry, made });
            }
            ControlFlow::Continue(())
        })?;
        target.notice_damage(damaged, &*self.store)?;
        Ok(entries)
    }

    /// Moves the cursor up to `through` and puts that, and the removal of the groups that lie
    /// wholly behind it, into `batch`. A key before the cursor changes nothing; one beyond the
    /// last appended counts as the last.
    pub fn confirm(
        &mut self,
        sink: usize,
        through: OutputKey,
        batch: &mut WriteBatch,
    ) -> Result<(), OutboxError> {
        if self.advance(sink, through, batch)? {
            self.put_state(sink, batch)?;
        }
        Ok(())
    }

    /// The far side will never take the output `key`, and has taken all before it. The cursor
    /// moves behind it. Gives the output, when it still waited.
    pub fn refuse(
        &mut self,
        sink: usize,
        key: OutputKey,
        batch: &mut WriteBatch,
    ) -> Result<Option<Entry>, OutboxError> {
        let target = self
            .sinks
            .get_mut(sink)
            .ok_or(OutboxError::NoSink { sink })?;
        let refused = target.find(key, &*self.store, &mut self.unsealer)?;
        if self.advance(sink, key, batch)? {
            if let Some(target) = self.sinks.get_mut(sink).filter(|_| refused.is_some()) {
                let counts = &mut target.state.counts;
                counts.confirmed = counts.confirmed.saturating_sub(1);
                counts.refused += 1;
            }
            self.put_state(sink, batch)?;
        }
        Ok(refused)
    }

    /// Gives up once more what was given up, when a store that failed has lost that: all groups
    /// that end at `through` or before it. What of it had been confirmed before is to be confirmed
    /// first.
    pub fn give_up_again(
        &mut self,
        sink: usize,
        through: OutputKey,
        reason: &Reason,
        batch: &mut WriteBatch,
    ) -> Result<Vec<Entry>, OutboxError> {
        let target = self
            .sinks
            .get_mut(sink)
            .ok_or(OutboxError::NoSink { sink })?;
        let before = target.state.counts;
        let bounds = Bounds {
            keep: target.limits.dead_letters,
            ..Bounds::NONE
        };
        let behind = |_: &Sink, group: &Group<'_>| group.last <= through;
        let left = target.leave(&*self.store, &mut self.unsealer, batch, bounds, behind)?;
        let counts = &mut target.state.counts;
        match reason {
            Reason::Full => counts.dropped += left.outputs,
            Reason::Expired => counts.expired += left.outputs,
            Reason::Refused { .. } => counts.refused += left.outputs,
            Reason::Purged => counts.purged += left.outputs,
        }
        self.put_state_if_changed(sink, before, batch)?;
        Ok(left.entries)
    }

    /// Whether the cursor has moved.
    fn advance(
        &mut self,
        sink: usize,
        through: OutputKey,
        batch: &mut WriteBatch,
    ) -> Result<bool, OutboxError> {
        let target = self
            .sinks
            .get_mut(sink)
            .ok_or(OutboxError::NoSink { sink })?;
        let through = through.min(target.state.last);
        if through <= target.state.cursor {
            return Ok(false);
        }
        target.state.cursor = through;
        let behind = |_: &Sink, group: &Group<'_>| group.last <= through;
        let (store, unsealer) = (&*self.store, &mut self.unsealer);
        let left = target.leave(store, unsealer, batch, Bounds::NONE, behind)?;
        target.state.counts.confirmed += left.outputs + left.confirmed;
        Ok(true)
    }

    fn put_state_if_changed(
        &mut self,
        sink: usize,
        before: Counts,
        batch: &mut WriteBatch,
    ) -> Result<(), OutboxError> {
        let target = self.sinks.get(sink).ok_or(OutboxError::NoSink { sink })?;
        if target.state.counts == before {
            return Ok(());
        }
        self.put_state(sink, batch)
    }

    fn put_state(&mut self, sink: usize, batch: &mut WriteBatch) -> Result<(), OutboxError> {
        let target = self.sinks.get(sink).ok_or(OutboxError::NoSink { sink })?;
        let value = target.state.seal(&mut self.sealer)?;
        batch.put(target.state_key.as_slice(), value);
        Ok(())
    }

    fn open_sink(&mut self, name: &str, limits: Limits) -> Result<Sink, OutboxError> {
        let (mut sink, damage) = Sink::load(name, limits, &*self.store)?;
        if let Some(damage) = damage {
            sink.state.counts.damaged += 1;
            self.report(name, "what is known about it", damage);
        }
        let (mut named, mut from) = (0, Some(sink.prefix.clone()));
        while let Some(begin) = from {
            let found = sink.count(&begin, &*self.store)?;
            from = found.next;
            if found.damaged.is_empty() {
                continue;
            }
            let mut batch = WriteBatch::new();
            for (place, damage) in found.damaged {
                sink.state.counts.damaged += 1;
                named += 1;
                if named <= DAMAGE_NAMED_MAX {
                    self.report(name, "a group of outputs", damage);
                }
                batch.delete(place);
            }
            let state = sink.state.seal(&mut self.sealer)?;
            batch.put(sink.state_key.as_slice(), state);
            self.store.write(batch)?;
        }
        if named > DAMAGE_NAMED_MAX {
            let more = named - DAMAGE_NAMED_MAX;
            self.found.push(format!(
                "outbox of sink `{name}`: {more} more groups of outputs are damaged"
            ));
        }
        let mut batch = WriteBatch::new();
        sink.leave_confirmed(&*self.store, &mut self.unsealer, &mut batch)?;
        if !batch.is_empty() {
            self.store.write(batch)?;
        }
        Ok(sink)
    }

    /// Looks for what no sink of `known` will ever read, and changes nothing there.
    fn find_strays(&mut self, known: &[(String, Limits)]) -> Result<(), OutboxError> {
        let mut names = names(&*self.store)?;
        names.retain(|name| known.iter().all(|(known, _)| known != name));
        for name in names {
            let (mut sink, _) = Sink::load(&name, Limits::NONE, &*self.store)?;
            let mut from = Some(sink.prefix.clone());
            while let Some(begin) = from {
                from = sink.count(&begin, &*self.store)?.next;
            }
            let mut unwritten = WriteBatch::new();
            sink.leave_confirmed(&*self.store, &mut self.unsealer, &mut unwritten)?;
            let entries = sink.entries;
            self.strays.push(Stray { name, entries });
        }
        Ok(())
    }

    fn report(&mut self, name: &str, what: &str, damage: Damage) {
        self.found.push(format!(
            "outbox of sink `{name}`: {what} is damaged: {damage}"
        ));
    }
}

/// Outputs as they are stored together, without those up to `last`; and how many these are.
fn groups(outputs: &[Entry], mut last: OutputKey) -> (Vec<Vec<&Entry>>, u64) {
    let (mut groups, mut repeated) = (Vec::new(), 0);
    let mut group: Vec<&Entry> = Vec::new();
    let mut bytes = 0;
    for entry in outputs {
        if entry.key <= last {
            repeated += 1;
            continue;
        }
        last = entry.key;
        let more = memory_of(entry);
        let fits = group.len() < GROUP_ENTRIES_MAX && bytes + more <= GROUP_BYTES_MAX;
        if group
            .first()
            .is_some_and(|first| !fits || first.schema != entry.schema)
        {
            groups.push(std::mem::take(&mut group));
            bytes = 0;
        }
        bytes += more;
        group.push(entry);
    }
    if !group.is_empty() {
        groups.push(group);
    }
    (groups, repeated)
}

/// The memory that the row of an output takes, in bytes.
fn memory_of(entry: &Entry) -> usize {
    entry.row.iter().map(Value::memory_bytes).sum()
}

#[cfg(test)]
mod tests;
