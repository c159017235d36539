//! Outputs wait here, per sink, until the far side has confirmed them.
//!
//! Promises:
//! * Each key is kept once: what is not greater than the last key appended is a repetition (a
//!   replay after a crash) and left out. That key survives the confirmation of everything.
//! * The cursor never leads: it is a key that the far side has confirmed. After a crash it may
//!   lag, and what it lags behind is delivered again under the same keys.
//! * An output keeps the columns it was made with, whatever the sink's columns are by the time it
//!   is read.
//! * What waits for a sink that is not there any more is left as it is, and named.
//! * Memory does not grow with the backlog; the disk it takes is limited, by a counted policy.
//!
//! Leaves to others: writing the batches and syncing them (the pipeline), delivering (`sink`), and
//! delivering only outputs whose input is synced: the number of one that a crash loses is given
//! again, to another input.
//! After a write that failed the accounts here are ahead of the store: open both anew.
//!
//! [`entry`] draws the bytes.

mod entry;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use self::entry::{Columns, Group, State};
use crate::event::{OutputKey, Schema, Timestamp, Value, cbor};
use crate::store::seal::{Damage, Sealer, TooLong, Unsealer};
use crate::store::{Store, StoreError, WriteBatch, table};

/// At most so many outputs share one stored value.
pub const GROUP_ENTRIES_MAX: usize = 256;
/// A group is closed when its rows take so much memory.
pub const GROUP_BYTES_MAX: usize = 32 << 10;

/// One output.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its identity, and the order of delivery.
    pub key: OutputKey,
    /// When it arose, on the log's clock.
    pub time: Timestamp,
    /// The columns that the sink's stream had then.
    pub schema: Arc<Schema>,
    /// One value per column.
    pub row: Vec<Value>,
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

/// The limit of one sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The bytes that a sink's stored outputs may take. The outputs of one turn may go beyond.
    pub bytes_max: u64,
    /// What happens then.
    pub full: Full,
}

/// How much waits for a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Outputs that are not confirmed.
    pub entries: u64,
    /// The bytes they take, with those of confirmed ones in the same group.
    pub bytes: u64,
    /// The time of the oldest output of the oldest group.
    pub oldest: Option<Timestamp>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Stored.
    pub stored: u64,
    /// Left out as repetitions.
    pub repeated: u64,
    /// Given up because of the limit, old ones or new ones.
    pub dropped: u64,
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

#[derive(Debug)]
struct Sink {
    limits: Limits,
    /// What keys of groups begin with, and the key of the state.
    prefix: Vec<u8>,
    state_key: Vec<u8>,
    state: State,
    entries: u64,
    bytes: u64,
    /// Every group before this key is gone, or its removal is in a batch that is not written yet.
    begin: Vec<u8>,
    /// The keys of the group that the cursor stands in.
    front: Option<Front>,
    /// The last group that was found damaged while reading: counted once.
    damaged_at: Vec<u8>,
    /// The columns of the group that was written or read last.
    columns: Option<Columns>,
}

#[derive(Debug)]
struct Front {
    place: Vec<u8>,
    keys: Vec<OutputKey>,
    confirmed: usize,
}

impl Outbox {
    /// Opens the outboxes of `sinks`, each with its limit; a sink is known by its place in
    /// `sinks` from then on. Damaged groups are removed, counted, and named by
    /// [`Outbox::damage`].
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

    /// How many of the sink's outputs the limit has cost since its outbox exists.
    #[must_use]
    pub fn dropped(&self, sink: usize) -> u64 {
        self.sinks.get(sink).map_or(0, |sink| sink.state.dropped)
    }

    /// How many of the sink's stored groups were found damaged since its outbox exists.
    #[must_use]
    pub fn damaged(&self, sink: usize) -> u64 {
        self.sinks.get(sink).map_or(0, |sink| sink.state.damaged)
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
        let mut oldest = None;
        self.store
            .range(&sink.begin, &sink.end(), &mut |_, value| {
                oldest = Group::look(value).ok().map(|group| group.time);
                ControlFlow::Break(())
            })?;
        Ok(Depth {
            entries: sink.entries,
            bytes: sink.bytes,
            oldest,
        })
    }

    /// Puts `outputs`, in ascending order of their keys, into `batch`, which the caller writes.
    pub fn append(
        &mut self,
        sink: usize,
        outputs: &[Entry],
        batch: &mut WriteBatch,
    ) -> Result<Appended, OutboxError> {
        let target = self
            .sinks
            .get_mut(sink)
            .ok_or(OutboxError::NoSink { sink })?;
        let mut done = Appended::default();
        let mut group: Vec<&Entry> = Vec::new();
        let mut group_bytes = 0;
        let mut last = target.state.last;
        let mut groups = Vec::new();
        for entry in outputs {
            if entry.key <= last {
                done.repeated += 1;
                continue;
            }
            last = entry.key;
            if group
                .first()
                .is_some_and(|first| first.schema != entry.schema)
            {
                groups.push(std::mem::take(&mut group));
                group_bytes = 0;
            }
            group_bytes += entry.row.iter().map(Value::memory_bytes).sum::<usize>();
            group.push(entry);
            if group.len() >= GROUP_ENTRIES_MAX || group_bytes >= GROUP_BYTES_MAX {
                groups.push(std::mem::take(&mut group));
                group_bytes = 0;
            }
        }
        if !group.is_empty() {
            groups.push(group);
        }
        for group in groups {
            self.append_group(sink, &group, batch, &mut done)?;
        }
        if done.dropped > 0 {
            self.put_state(sink, batch)?;
        }
        Ok(done)
    }

    fn append_group(
        &mut self,
        sink: usize,
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
        let value = entry::seal_group(&mut self.sealer, &mut target.columns, group)?;
        let place = entry::place(&target.prefix, first.key);
        let bytes = bytes_of(&place) + bytes_of(&value);
        let count = u64::try_from(group.len()).unwrap_or(u64::MAX);
        target.state.last = last.key;
        if target.bytes.saturating_add(bytes) > target.limits.bytes_max {
            match target.limits.full {
                Full::DropOldest => {
                    let free = target.limits.bytes_max.saturating_sub(bytes);
                    done.dropped += target.drop_down_to(free, &*self.store, batch)?;
                }
                Full::DropNewest => {
                    target.state.dropped += count;
                    done.dropped += count;
                    return Ok(());
                }
                Full::Block => {}
            }
        }
        target.bytes += bytes;
        target.entries += count;
        done.stored += count;
        batch.put(place, value);
        Ok(())
    }

    /// The outputs after `after` and after the cursor, in order: at most `rows_max`, and no more
    /// once their rows take `bytes_max`, but at least one when there is any.
    pub fn read(
        &mut self,
        sink: usize,
        after: OutputKey,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, OutboxError> {
        let target = self
            .sinks
            .get_mut(sink)
            .ok_or(OutboxError::NoSink { sink })?;
        let after = after.max(target.state.cursor);
        // The group that `after` lies in begins at or before it.
        let mut bound = entry::place(&target.prefix, after);
        bound.push(0);
        let holder = self.store.last(&target.begin, &bound)?;
        let start = holder.map_or_else(|| target.begin.clone(), |(key, _)| key);
        let end = target.end();
        let (unsealer, columns) = (&mut self.unsealer, &mut target.columns);
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut damaged: Option<Vec<u8>> = None;
        self.store.range(&start, &end, &mut |key, value| {
            let group = match Group::look(value) {
                Ok(group) if group.last <= after => return ControlFlow::Continue(()),
                Ok(group) => group.entries(unsealer, columns),
                Err(damage) => Err(damage),
            };
            let Ok(group) = group else {
                damaged = Some(key.to_vec());
                return ControlFlow::Continue(());
            };
            for entry in group.into_iter().filter(|entry| entry.key > after) {
                if entries.len() >= rows_max || (bytes >= bytes_max && !entries.is_empty()) {
                    return ControlFlow::Break(());
                }
                bytes += entry.row.iter().map(Value::memory_bytes).sum::<usize>();
                entries.push(entry);
            }
            ControlFlow::Continue(())
        })?;
        if let Some(place) = damaged.filter(|place| *place > target.damaged_at) {
            target.state.damaged += 1;
            target.damaged_at = place;
        }
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
        let target = self
            .sinks
            .get_mut(sink)
            .ok_or(OutboxError::NoSink { sink })?;
        let through = through.min(target.state.last);
        if through <= target.state.cursor {
            return Ok(());
        }
        target.state.cursor = through;
        let removed = target.remove_through(through, &*self.store, &mut self.unsealer)?;
        if through == target.state.last {
            // Nothing is left, whatever damage has done to the accounts.
            (target.entries, target.bytes) = (0, 0);
        }
        removed.into_iter().for_each(|place| batch.delete(place));
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
            sink.state.damaged += 1;
            self.report(name, "what is known about it", damage);
        }
        let bad = sink.count(&*self.store)?;
        if !bad.is_empty() {
            let mut batch = WriteBatch::new();
            for (place, damage) in bad {
                sink.state.damaged += 1;
                self.report(name, "a group of outputs", damage);
                batch.delete(place);
            }
            batch.put(
                sink.state_key.as_slice(),
                sink.state.seal(&mut self.sealer)?,
            );
            self.store.write(batch)?;
        }
        // The cursor may stand inside of the first group.
        let behind = sink.remove_through(sink.state.cursor, &*self.store, &mut self.unsealer)?;
        if !behind.is_empty() {
            let mut batch = WriteBatch::new();
            behind.into_iter().for_each(|place| batch.delete(place));
            self.store.write(batch)?;
        }
        Ok(sink)
    }

    /// Looks for what no sink of `known` will ever read, and changes nothing there.
    fn find_strays(&mut self, known: &[(String, Limits)]) -> Result<(), OutboxError> {
        let mut names = BTreeSet::new();
        for table in [table::OUTBOX, table::OUTBOX_STATE] {
            let mut from = vec![table];
            loop {
                let mut found = None;
                self.store.range(&from, &[table + 1], &mut |key, _| {
                    found = Some(key.to_vec());
                    ControlFlow::Break(())
                })?;
                let Some(key) = found else { break };
                from = match entry::name_of(&key) {
                    Some((name, prefix)) => {
                        names.insert(name.to_owned());
                        end_of(prefix)
                    }
                    None => [key.as_slice(), &[0]].concat(),
                };
            }
        }
        names.retain(|name| known.iter().all(|(known, _)| known != name));
        for name in names {
            let limits = Limits {
                bytes_max: u64::MAX,
                full: Full::Block,
            };
            let (mut sink, _) = Sink::load(&name, limits, &*self.store)?;
            sink.count(&*self.store)?;
            sink.remove_through(sink.state.cursor, &*self.store, &mut self.unsealer)?;
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

impl Sink {
    /// What is known of the sink called `name`, and whether that is damaged; nothing is counted.
    fn load(
        name: &str,
        limits: Limits,
        store: &dyn Store,
    ) -> Result<(Sink, Option<Damage>), OutboxError> {
        let (prefix, state_key) = entry::prefixes(name)?;
        let stored = store.get(&state_key)?;
        let (state, damage) = match stored.map(|value| State::read(&value)) {
            None => (State::default(), None),
            Some(Ok(state)) => (state, None),
            Some(Err(damage)) => (State::default(), Some(damage)),
        };
        let sink = Sink {
            limits,
            begin: prefix.clone(),
            prefix,
            state_key,
            state,
            entries: 0,
            bytes: 0,
            front: None,
            damaged_at: Vec::new(),
            columns: None,
        };
        Ok((sink, damage))
    }

    /// The key after all groups of this sink.
    fn end(&self) -> Vec<u8> {
        end_of(&self.prefix)
    }

    /// Adds up what is stored; the groups that are damaged, and why.
    fn count(&mut self, store: &dyn Store) -> Result<Vec<(Vec<u8>, Damage)>, OutboxError> {
        let mut bad = Vec::new();
        let (mut entries, mut bytes, mut last) = (0, 0, self.state.last.max(self.state.cursor));
        store.range(&self.begin, &self.end(), &mut |key, value| {
            match Group::look(value).and_then(|group| group.under(&self.prefix, key)) {
                Ok(group) => {
                    entries += u64::from(group.count);
                    bytes += bytes_of(key) + bytes_of(value);
                    last = last.max(group.last);
                }
                Err(damage) => {
                    // Its keys are gone, but were given: they must not be given again.
                    last = last.max(entry::key_of(&self.prefix, key).unwrap_or_default());
                    bad.push((key.to_vec(), damage));
                }
            }
            ControlFlow::Continue(())
        })?;
        self.entries = entries;
        self.bytes = bytes;
        self.state.last = last;
        Ok(bad)
    }

    /// Takes the groups up to `through` out of the accounts and says where they lie.
    fn remove_through(
        &mut self,
        through: OutputKey,
        store: &dyn Store,
        unsealer: &mut Unsealer,
    ) -> Result<Vec<Vec<u8>>, OutboxError> {
        let mut removed = Vec::new();
        let mut bound = entry::place(&self.prefix, through);
        bound.push(0);
        store.range(&self.begin.clone(), &bound, &mut |key, value| {
            match Group::look(value) {
                Ok(group) if group.last > through => {
                    self.confirm_within(key, group, through, unsealer);
                    return ControlFlow::Break(());
                }
                Ok(group) => self.leave_behind(key, value, group.count),
                Err(_) => self.leave_behind(key, value, 0),
            };
            removed.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(removed)
    }

    /// Gives up the oldest groups until at most `bytes` are left; says how many outputs went.
    fn drop_down_to(
        &mut self,
        bytes: u64,
        store: &dyn Store,
        batch: &mut WriteBatch,
    ) -> Result<u64, OutboxError> {
        let mut dropped = 0;
        let end = self.end();
        store.range(&self.begin.clone(), &end, &mut |key, value| {
            if self.bytes <= bytes {
                return ControlFlow::Break(());
            }
            let count = Group::look(value).map_or(0, |group| group.count);
            dropped += self.leave_behind(key, value, count);
            batch.delete(key);
            ControlFlow::Continue(())
        })?;
        self.state.dropped += dropped;
        Ok(dropped)
    }

    /// The group at `place` is gone; how many of its outputs were not confirmed.
    fn leave_behind(&mut self, place: &[u8], value: &[u8], count: u32) -> u64 {
        let front = self.front.take_if(|front| front.place == place);
        let confirmed = front.map_or(0, |front| front.confirmed);
        let open = u64::from(count).saturating_sub(u64::try_from(confirmed).unwrap_or(u64::MAX));
        self.bytes = self.bytes.saturating_sub(bytes_of(place) + bytes_of(value));
        self.entries = self.entries.saturating_sub(open);
        self.begin = place.to_vec();
        self.begin.push(0);
        open
    }

    /// The cursor stands inside of this group: counts how far.
    fn confirm_within(
        &mut self,
        place: &[u8],
        group: Group<'_>,
        through: OutputKey,
        unsealer: &mut Unsealer,
    ) {
        let known = self.front.take().filter(|front| front.place == place);
        let front = known.or_else(|| {
            // A payload that cannot be read is noticed and counted where it is wanted: in `read`.
            Some(Front {
                place: place.to_vec(),
                keys: group.keys(unsealer).ok()?,
                confirmed: 0,
            })
        });
        if let Some(mut front) = front {
            let confirmed = front.keys.partition_point(|key| *key <= through);
            let more = confirmed.saturating_sub(front.confirmed);
            let more = u64::try_from(more).unwrap_or(u64::MAX);
            self.entries = self.entries.saturating_sub(more);
            front.confirmed = confirmed;
            self.front = Some(front);
        }
    }
}

/// The key after all keys of groups that begin with `prefix`.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    // One byte longer than any key, and not smaller.
    [prefix, &[u8::MAX; 17]].concat()
}

fn bytes_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
