//! The accounts of one sink, and how its groups leave.
//!
//! Groups leave at the front only. So whatever takes one out walks from the front as far as its
//! reason reaches, and looks at one group more, which is the front from then on: that is how the
//! age of the oldest is always known, and damage is found before it is in anybody's way.

use std::ops::ControlFlow;

use super::entry::{self, Columns, Group, State};
use super::{Counts, DAMAGE_NAMED_MAX, Entry, Full, Limits, OutboxError, memory_of};
use crate::event::{OutputKey, Timestamp};
use crate::store::seal::{Damage, Unsealer};
use crate::store::{Store, Visit, WriteBatch};

/// 2020-01-01: a clock that says less has not been set since the machine was switched on.
const CLOCK_SET: Timestamp = Timestamp(1_577_836_800_000);

/// What is known of one sink.
#[derive(Debug)]
pub(super) struct Sink {
    pub(super) limits: Limits,
    /// What keys of groups begin with, and the key of the state.
    pub(super) prefix: Vec<u8>,
    pub(super) state_key: Vec<u8>,
    pub(super) state: State,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// When the group at the front was appended.
    pub(super) oldest: Option<Timestamp>,
    /// The last key that left for whatever reason since the open.
    pub(super) gone: OutputKey,
    /// The columns of the group that was written or read last.
    pub(super) columns: Option<Columns>,
    /// Every group before this key is gone, or its removal is in a batch that is not written yet.
    begin: Vec<u8>,
    /// The keys of the group that the cursor stands in.
    front: Option<Front>,
    /// The log's clock, as far as it is known here, and when it was first known to be set.
    now: Timestamp,
    set_at: Option<Timestamp>,
    /// How many groups were found damaged while reading and still are where they are; they are
    /// counted for good when they leave. The last of them.
    noticed: u64,
    noticed_at: Vec<u8>,
}

#[derive(Debug)]
struct Front {
    place: Vec<u8>,
    keys: Vec<OutputKey>,
    confirmed: usize,
}

/// How far groups may leave at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Whether their outputs are wanted.
    pub(super) keep: bool,
    /// So many groups at most.
    pub(super) groups: usize,
    /// None any more when their outputs take so much memory.
    pub(super) bytes: usize,
}

impl Bounds {
    pub(super) const NONE: Bounds = Bounds {
        keep: false,
        groups: usize::MAX,
        bytes: usize::MAX,
    };
}

/// What was found when the groups were counted.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Where the groups lie that are damaged, and why they are.
    pub(super) damaged: Vec<(Vec<u8>, Damage)>,
    /// Where to go on, when there may be more.
    pub(super) next: Option<Vec<u8>>,
}

/// What has left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Where the groups lay.
    pub(super) places: Vec<Vec<u8>>,
    /// How many of their outputs were not confirmed.
    pub(super) outputs: u64,
    /// These, where they are wanted.
    pub(super) entries: Vec<Entry>,
    /// How many outputs of the group that is the front now have been confirmed by this.
    pub(super) confirmed: u64,
    /// Whether more would have left without the bounds.
    pub(super) more: bool,
    kept_bytes: usize,
    damaged: bool,
    /// Whether a group is left.
    stopped: bool,
}

impl Sink {
    /// What is known of the sink called `name`, and whether that is damaged; nothing is counted.
    pub(super) fn load(
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
            oldest: None,
            gone: OutputKey::default(),
            columns: None,
            front: None,
            now: Timestamp::MIN,
            set_at: None,
            noticed: 0,
            noticed_at: Vec::new(),
        };
        Ok((sink, damage))
    }

    /// Adds up what is stored from `from` on, but for what is damaged. With much of that it ends
    /// early.
    pub(super) fn count(&mut self, from: &[u8], store: &dyn Store) -> Result<Counted, OutboxError> {
        let mut found = Counted::default();
        self.state.last = self.state.last.max(self.state.cursor);
        let end = self.end();
        store.range(from, &end, &mut |key, value| {
            match Group::look(value).and_then(|group| group.under(&self.prefix, key)) {
                Ok(group) => {
                    self.entries += u64::from(group.count);
                    self.bytes += bytes_of(key) + bytes_of(value);
                    self.state.last = self.state.last.max(group.last);
                }
                Err(damage) => {
                    // Its keys are gone, but were given: they must not be given again.
                    let first = entry::key_of(&self.prefix, key).unwrap_or_default();
                    self.state.last = self.state.last.max(first);
                    found.damaged.push((key.to_vec(), damage));
                    if found.damaged.len() >= DAMAGE_NAMED_MAX {
                        found.next = Some(after(key));
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Takes up where the cursor stood, after [`Sink::count`].
    pub(super) fn leave_confirmed(
        &mut self,
        store: &dyn Store,
        unsealer: &mut Unsealer,
        batch: &mut WriteBatch,
    ) -> Result<(), OutboxError> {
        let cursor = self.state.cursor;
        let behind = |_: &Sink, group: &Group<'_>| group.last <= cursor;
        self.leave(store, unsealer, batch, Bounds::NONE, behind)?;
        Ok(())
    }

    pub(super) fn counts(&self) -> Counts {
        let counts = self.state.counts;
        Counts {
            damaged: counts.damaged + self.noticed,
            ..counts
        }
    }

    /// The key after all groups of this sink.
    pub(super) fn end(&self) -> Vec<u8> {
        end_of(&self.prefix)
    }

    /// Where to read what comes after `key`: the place of the group that it lies in.
    pub(super) fn holder(&self, key: OutputKey, store: &dyn Store) -> Result<Vec<u8>, OutboxError> {
        let bound = after(&entry::place(&self.prefix, key));
        let holder = store.last(&self.begin, &bound)?;
        Ok(holder.map_or_else(|| self.begin.clone(), |(place, _)| place))
    }

    /// The output with this key, when it waits.
    pub(super) fn find(
        &mut self,
        key: OutputKey,
        store: &dyn Store,
        unsealer: &mut Unsealer,
    ) -> Result<Option<Entry>, OutboxError> {
        let bound = after(&entry::place(&self.prefix, key));
        let holder = store.last(&self.begin, &bound)?;
        let entries = holder
            .filter(|_| key > self.state.cursor)
            .and_then(|(place, value)| {
                let group = Group::look(&value).ok()?.under(&self.prefix, &place).ok()?;
                group.entries(unsealer, &mut self.columns).ok()
            });
        let mut entries = entries.unwrap_or_default().into_iter();
        Ok(entries.find(|entry| entry.key == key))
    }

    /// Takes note of the log's clock.
    pub(super) fn notice(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        if self.now >= CLOCK_SET {
            self.set_at.get_or_insert(self.now);
        }
    }

    /// When the time to live of what was appended at `time` is over. The age of what was appended
    /// before the clock was set is not known: it counts from when the clock was.
    fn expiry(&self, time: Timestamp) -> Option<Timestamp> {
        let since = match self.set_at {
            Some(set_at) if time < CLOCK_SET => set_at,
            Some(_) | None => time,
        };
        Some(since.plus_ms(self.limits.ttl_ms?))
    }

    /// Whether what was appended at `time` has outlived its time.
    pub(super) fn is_over(&self, time: Timestamp) -> bool {
        self.expiry(time).is_some_and(|expiry| expiry <= self.now)
    }

    pub(super) fn next_expiry(&self) -> Option<Timestamp> {
        let oldest = self.oldest?;
        if self.limits.full == Full::DropOldest && self.bytes > self.limits.bytes_max {
            return Some(oldest);
        }
        self.expiry(oldest)
    }

    /// Groups at these places were found damaged while reading. The accounts are made anew without
    /// them; they are removed and counted for good when they are at the front.
    pub(super) fn notice_damage(
        &mut self,
        damaged: Vec<Vec<u8>>,
        store: &dyn Store,
    ) -> Result<(), OutboxError> {
        let before = self.noticed;
        for place in damaged {
            if place > self.noticed_at {
                self.noticed += 1;
                self.noticed_at = place;
            }
        }
        if self.noticed > before {
            self.recount(store, &WriteBatch::new())?;
        }
        Ok(())
    }

    /// What it holds in memory, in bytes.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        let front = self.front.as_ref();
        let front = front.map_or(0, |front| {
            front.place.capacity() + front.keys.capacity() * size_of::<OutputKey>()
        });
        let keys = [&self.prefix, &self.state_key, &self.begin, &self.noticed_at];
        let columns = self.columns.as_ref().map_or(0, Columns::memory_bytes);
        let keys = keys.iter().map(|key| key.capacity());
        size_of::<Sink>() + front + columns + keys.sum::<usize>()
    }

    /// Takes groups out at the front for as long as they `go`, and damaged ones with them; their
    /// removal goes into `batch`, which may hold groups that are not written yet.
    pub(super) fn leave(
        &mut self,
        store: &dyn Store,
        unsealer: &mut Unsealer,
        batch: &mut WriteBatch,
        bounds: Bounds,
        goes: impl Fn(&Sink, &Group<'_>) -> bool,
    ) -> Result<Left, OutboxError> {
        let mut left = Left::default();
        self.walk(store, batch, |sink, place, value| {
            let group = Group::look(value).and_then(|group| group.under(&sink.prefix, place));
            let group = match group {
                Ok(group) if !goes(sink, &group) => {
                    left.confirmed = sink.confirm_within(place, group, unsealer);
                    sink.oldest = Some(group.time);
                    left.stopped = true;
                    return ControlFlow::Break(());
                }
                Ok(group) => Ok(group),
                Err(damage) => Err(damage),
            };
            if left.places.len() >= bounds.groups || left.kept_bytes >= bounds.bytes {
                sink.oldest = group.map_or(sink.oldest, |group| Some(group.time));
                (left.more, left.stopped) = (true, true);
                return ControlFlow::Break(());
            }
            let kept = match group {
                Ok(group) if bounds.keep => group.entries(unsealer, &mut sink.columns),
                Ok(_) => Ok(Vec::new()),
                Err(damage) => Err(damage),
            };
            match (group, kept) {
                (Ok(group), Ok(kept)) => {
                    let cursor = sink.state.cursor;
                    for entry in kept.into_iter().filter(|entry| entry.key > cursor) {
                        left.kept_bytes += memory_of(&entry);
                        left.entries.push(entry);
                    }
                    left.outputs += sink.leave_behind(place, value, &group);
                }
                (Err(_), _) | (_, Err(_)) => {
                    sink.lose(place, value);
                    left.damaged = true;
                }
            }
            left.places.push(place.to_vec());
            ControlFlow::Continue(())
        })?;
        for place in &left.places {
            batch.delete(place.as_slice());
        }
        if !left.stopped {
            // Nothing is left, whatever damage has done to the accounts.
            (self.entries, self.bytes, self.oldest) = (0, 0, None);
            self.front = None;
        } else if left.damaged {
            self.recount(store, batch)?;
        }
        Ok(left)
    }

    /// Visits the groups from the front on: those in the store, then those in `batch`.
    fn walk(
        &mut self,
        store: &dyn Store,
        batch: &WriteBatch,
        mut visit: impl FnMut(&mut Sink, &[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), OutboxError> {
        let (begin, end) = (self.begin.clone(), self.end());
        let mut flow = ControlFlow::Continue(());
        let stored: Visit<'_> = &mut |place, value| {
            flow = visit(self, place, value);
            flow
        };
        store.range(&begin, &end, stored)?;
        for (place, value) in batch.changes() {
            if flow.is_break() {
                break;
            }
            if let Some(value) = value.filter(|_| begin.as_slice() <= place && place < &*end) {
                flow = visit(self, place, value);
            }
        }
        Ok(())
    }

    /// Adds up anew what waits, without what is damaged.
    fn recount(&mut self, store: &dyn Store, batch: &WriteBatch) -> Result<(), OutboxError> {
        let (mut entries, mut bytes) = (0, 0);
        self.walk(store, batch, |sink, place, value| {
            bytes += bytes_of(place) + bytes_of(value);
            let group = Group::look(value).and_then(|group| group.under(&sink.prefix, place));
            if let Ok(group) = group {
                entries += sink.open_in(place, &group);
            }
            ControlFlow::Continue(())
        })?;
        self.entries = entries;
        self.bytes = bytes;
        Ok(())
    }

    /// How many outputs of the group at `place` are not confirmed.
    fn open_in(&self, place: &[u8], group: &Group<'_>) -> u64 {
        let front = self.front.as_ref().filter(|front| front.place == place);
        let confirmed = front.map_or(0, |front| front.confirmed);
        u64::from(group.count).saturating_sub(u64::try_from(confirmed).unwrap_or(u64::MAX))
    }

    /// The group at `place` is gone; how many of its outputs were not confirmed.
    fn leave_behind(&mut self, place: &[u8], value: &[u8], group: &Group<'_>) -> u64 {
        let open = self.open_in(place, group);
        self.front.take_if(|front| front.place == place);
        self.bytes = self.bytes.saturating_sub(bytes_of(place) + bytes_of(value));
        self.entries = self.entries.saturating_sub(open);
        self.gone = self.gone.max(group.last);
        self.begin = after(place);
        open
    }

    /// The same of a group that cannot be read.
    fn lose(&mut self, place: &[u8], value: &[u8]) {
        self.front.take_if(|front| front.place == place);
        self.bytes = self.bytes.saturating_sub(bytes_of(place) + bytes_of(value));
        let first = entry::key_of(&self.prefix, place).unwrap_or_default();
        self.gone = self.gone.max(first);
        self.begin = after(place);
        self.state.counts.damaged += 1;
        if place <= &*self.noticed_at {
            self.noticed = self.noticed.saturating_sub(1);
        }
    }

    /// Counts how far into this group, the front, the cursor has come; how many outputs further.
    fn confirm_within(&mut self, place: &[u8], group: Group<'_>, unsealer: &mut Unsealer) -> u64 {
        let cursor = self.state.cursor;
        if group.first > cursor {
            return 0;
        }
        let known = self.front.take().filter(|front| front.place == place);
        let front = known.or_else(|| {
            // A payload that cannot be read is noticed and counted where it is wanted: in `read`.
            Some(Front {
                place: place.to_vec(),
                keys: group.keys(unsealer).ok()?,
                confirmed: 0,
            })
        });
        let Some(mut front) = front else { return 0 };
        let confirmed = front.keys.partition_point(|key| *key <= cursor);
        let more = confirmed.saturating_sub(front.confirmed);
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        self.entries = self.entries.saturating_sub(more);
        front.confirmed = confirmed;
        self.front = Some(front);
        more
    }
}

/// The key after all keys of groups that begin with `prefix`.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    // One byte longer than any key, and not smaller.
    [prefix, &[u8::MAX; 17]].concat()
}

/// The least key behind `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

pub(super) fn bytes_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
