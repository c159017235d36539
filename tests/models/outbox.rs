//! The outbox over a store that crashes, tears and flips bits, against a list.
//!
//! The list knows how the outputs are stored together, because it sees the batches: each value
//! put is a group. All the rest (what is dropped, what expires, what is left after which crash) it
//! works out by itself. Whatever happens: keys strictly ascend, no key comes twice, limits hold,
//! and what went in is what came out, was given up, is lost by damage, or waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use eventflux::event::{Field, OutputKey, Schema, Seq, Timestamp, Type, Value};
use eventflux::outbox::{Counts, Depth, Entry, Full, Limits, Outbox};
use eventflux::store::sim::SimStore;
use eventflux::store::{Store, WriteBatch, table};
use proptest::prelude::*;

use crate::drive::same_cases;

type Checked = Result<(), TestCaseError>;

#[derive(Clone, Debug)]
enum Action {
    /// A turn: the clock goes on, then outputs of these sizes are appended; the last `again` of
    /// those before come once more, as after a crash.
    Turn {
        after_ms: i64,
        sizes: Vec<usize>,
        again: usize,
    },
    /// The far side confirms up to this share of what waits.
    Confirm {
        share: usize,
    },
    /// The far side will never take the one at this place.
    Refuse {
        at: usize,
    },
    /// The clock goes on, and what is too old goes.
    Expire {
        after_ms: i64,
    },
    /// An operator gives up what waits, up to this part of it.
    Purge {
        share: usize,
    },
    Sync,
    /// Some of what is not synced is lost.
    Crash {
        keep: u64,
    },
    /// Started anew, with other limits.
    Reopen {
        bytes_max: u64,
    },
    Damage {
        seed: u64,
        tear: bool,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let size = prop_oneof![8 => 0usize..40, 2 => 200usize..900, 1 => 5_000usize..9_000];
    prop_oneof![
        8 => (0i64..40, prop::collection::vec(size, 1..25), 0usize..4)
            .prop_map(|(after_ms, sizes, again)| Action::Turn { after_ms, sizes, again }),
        5 => (0usize..=100).prop_map(|share| Action::Confirm { share }),
        1 => (0usize..40).prop_map(|at| Action::Refuse { at }),
        4 => (0i64..200).prop_map(|after_ms| Action::Expire { after_ms }),
        1 => (0usize..=100).prop_map(|share| Action::Purge { share }),
        3 => Just(Action::Sync),
        2 => any::<u64>().prop_map(|keep| Action::Crash { keep }),
        1 => (2_000u64..30_000).prop_map(|bytes_max| Action::Reopen { bytes_max }),
    ]
}

fn damage() -> impl Strategy<Value = Action> {
    (any::<u64>(), any::<bool>()).prop_map(|(seed, tear)| Action::Damage { seed, tear })
}

fn limits() -> impl Strategy<Value = Limits> {
    let full = prop_oneof![
        Just(Full::DropOldest),
        Just(Full::DropNewest),
        Just(Full::Block)
    ];
    let ttl = prop::option::of(1i64..400);
    (2_000u64..30_000, full, ttl, any::<bool>()).prop_map(
        |(bytes_max, full, ttl_ms, dead_letters)| Limits {
            bytes_max,
            full,
            ttl_ms,
            dead_letters,
        },
    )
}

/// Outputs that are stored together.
#[derive(Clone, Debug)]
struct Group {
    place: Vec<u8>,
    bytes: u64,
    time: Timestamp,
    /// All of them, confirmed or not.
    outputs: Vec<Entry>,
}

/// What ought to be, as of one write.
#[derive(Clone, Debug, Default)]
struct List {
    groups: Vec<Group>,
    cursor: OutputKey,
    last: OutputKey,
    /// Everything that was ever put in.
    put_in: u64,
    confirmed: u64,
    dropped: u64,
    expired: u64,
    refused: u64,
    purged: u64,
    /// Groups, and the outputs of them that were not confirmed.
    damaged: (u64, u64),
}

impl List {
    fn open(&self) -> Vec<Entry> {
        let outputs = self.groups.iter().flat_map(|group| &group.outputs);
        let open = outputs.filter(|output| output.key > self.cursor);
        open.cloned().collect()
    }

    fn open_of(&self, group: &Group) -> Vec<Entry> {
        let open = group.outputs.iter().filter(|one| one.key > self.cursor);
        open.cloned().collect()
    }

    fn bytes(&self) -> u64 {
        self.groups.iter().map(|group| group.bytes).sum()
    }

    /// Takes groups out at the front while they `go`; what was not confirmed of them.
    fn leave(&mut self, goes: impl Fn(&List, &Group) -> bool) -> Vec<Entry> {
        let mut left = Vec::new();
        while let Some(group) = self.groups.first().filter(|group| goes(self, group)) {
            left.extend(self.open_of(group));
            self.groups.remove(0);
        }
        left
    }

    fn counts(&self) -> Counts {
        Counts {
            confirmed: self.confirmed,
            dropped: self.dropped,
            expired: self.expired,
            refused: self.refused,
            damaged: self.damaged.0,
            purged: self.purged,
        }
    }
}

struct Run {
    store: SimStore,
    outbox: Outbox,
    limits: Limits,
    now: Timestamp,
    schema: Arc<Schema>,
    list: List,
    /// The list before each write that a crash may take, the oldest first.
    before: Vec<List>,
    next: u64,
    /// What sinks have been told, which no crash takes back.
    made: BTreeMap<OutputKey, Entry>,
}

fn count(of: &[Entry]) -> u64 {
    u64::try_from(of.len()).unwrap()
}

impl Run {
    fn new(limits: Limits) -> Run {
        let store = SimStore::new();
        let field = |name: &str, ty| Field {
            name: name.to_owned(),
            ty,
        };
        Run {
            outbox: opened(&store, limits),
            store,
            limits,
            now: Timestamp(0),
            schema: Arc::new(Schema::new(vec![
                field("n", Type::Long),
                field("text", Type::String),
            ])),
            list: List::default(),
            before: Vec::new(),
            next: 1,
            made: BTreeMap::new(),
        }
    }

    fn act(&mut self, action: &Action) -> Checked {
        match action {
            Action::Turn {
                after_ms,
                sizes,
                again,
            } => {
                self.now = self.now.plus_ms(*after_ms);
                self.turn(sizes, *again)?;
            }
            Action::Confirm { share } => {
                let open = self.list.open();
                if let Some(through) = open.get((open.len() * share / 100).saturating_sub(1)) {
                    self.confirm(through.key)?;
                }
            }
            Action::Refuse { at } => {
                if let Some(refused) = self.list.open().get(*at) {
                    self.refuse(refused)?;
                }
            }
            Action::Expire { after_ms } => {
                self.now = self.now.plus_ms(*after_ms);
                self.expire()?;
            }
            Action::Purge { share } => {
                let open = self.list.open();
                if let Some(through) = open.get((open.len() * share / 100).saturating_sub(1)) {
                    self.purge(through.key)?;
                }
            }
            Action::Sync => {
                self.store.sync().unwrap();
                self.before.clear();
            }
            Action::Crash { keep } => {
                let writes = self.store.unsynced();
                prop_assert_eq!(writes, self.before.len());
                self.store.crash(*keep);
                let kept = usize::try_from(keep % (u64::try_from(writes).unwrap() + 1)).unwrap();
                if let Some(list) = self.before.drain(..).nth(kept) {
                    self.list = list;
                }
                self.reopen()?;
            }
            Action::Reopen { bytes_max } => {
                self.limits.bytes_max = *bytes_max;
                self.reopen()?;
                // As the pipeline does, so that the limit holds from here on.
                self.expire()?;
            }
            Action::Damage { seed, tear } => self.damage(*seed, *tear)?,
        }
        self.check()
    }

    fn write(&mut self, batch: WriteBatch, list: List) {
        if !batch.is_empty() {
            self.store.write(batch).unwrap();
            self.before.push(std::mem::replace(&mut self.list, list));
        }
    }

    fn reopen(&mut self) -> Checked {
        self.outbox = opened(&self.store, self.limits);
        prop_assert_eq!(self.outbox.damage(), &[] as &[String]);
        // A start syncs what it has read.
        self.store.sync().unwrap();
        self.before.clear();
        Ok(())
    }

    fn turn(&mut self, sizes: &[usize], again: usize) -> Checked {
        let known = self.made.range(..=self.list.last).rev().take(again);
        let mut outputs: Vec<Entry> = known.map(|(_, entry)| entry.clone()).collect();
        outputs.reverse();
        let repeated = count(&outputs);
        for size in sizes {
            let key = OutputKey {
                seq: Seq(self.next),
                ordinal: 3,
                query: 1,
            };
            self.next += 1;
            let text = noise(self.next, *size);
            outputs.push(Entry {
                key,
                // What the row says its time is has nothing to do with its age.
                time: Timestamp(i64::try_from(1_000_000 - self.next).unwrap()),
                schema: Arc::clone(&self.schema),
                row: vec![Value::Int(self.now.0), Value::text(&text)],
            });
        }
        let new = &outputs[usize::try_from(repeated).unwrap()..];
        self.made
            .extend(new.iter().map(|entry| (entry.key, entry.clone())));
        let mut batch = WriteBatch::new();
        let appended = self.outbox.append(0, self.now, &outputs, &mut batch);
        let appended = appended.unwrap();
        prop_assert_eq!(appended.repeated, repeated);
        let mut list = self.list.clone();
        let mut gone = list.take(&batch, new, self.now, self.limits);
        // Old ones go before new ones that are too large, or the other way round.
        gone.sort_by_key(|entry| entry.key);
        prop_assert_eq!(appended.dropped, count(&gone));
        let mut given_up = appended.given_up;
        given_up.sort_by_key(|entry| entry.key);
        let expected = if self.limits.dead_letters {
            gone
        } else {
            vec![]
        };
        prop_assert_eq!(given_up, expected);
        prop_assert_eq!(
            appended.stored + list.put_in - self.list.put_in,
            appended.stored + count(new)
        );
        self.write(batch, list);
        let drops = self.limits.full != Full::Block;
        if drops {
            let bytes = self.outbox.depth(0).unwrap().bytes;
            let lowered = self.limits.full == Full::DropNewest && appended.stored == 0;
            prop_assert!(bytes <= self.limits.bytes_max || lowered);
        }
        Ok(())
    }

    fn confirm(&mut self, through: OutputKey) -> Checked {
        let mut batch = WriteBatch::new();
        self.outbox.confirm(0, through, &mut batch).unwrap();
        let mut list = self.list.clone();
        list.confirm(through);
        self.write(batch, list);
        Ok(())
    }

    fn refuse(&mut self, refused: &Entry) -> Checked {
        let mut batch = WriteBatch::new();
        let given = self.outbox.refuse(0, refused.key, &mut batch).unwrap();
        prop_assert_eq!(given.as_ref(), Some(refused));
        let mut list = self.list.clone();
        list.confirm(refused.key);
        list.confirmed -= 1;
        list.refused += 1;
        self.write(batch, list);
        let mut batch = WriteBatch::new();
        let again = self.outbox.refuse(0, refused.key, &mut batch).unwrap();
        prop_assert_eq!((again, batch.len()), (None, 0));
        Ok(())
    }

    /// All that is too old, or beyond a limit that was lowered.
    fn expire(&mut self) -> Checked {
        let due = self.outbox.next_expiry(0).is_some_and(|at| at <= self.now);
        let (limits, now) = (self.limits, self.now);
        let mut list = self.list.clone();
        let over = |group: &Group| {
            let ttl = limits.ttl_ms;
            ttl.is_some_and(|ttl| group.time.plus_ms(ttl) <= now)
        };
        let expired = list.leave(|_, group| over(group));
        let too_much = |list: &List| list.bytes() > limits.bytes_max;
        let drops = limits.full == Full::DropOldest;
        let dropped = list.leave(|list, _| drops && too_much(list));
        list.expired += count(&expired);
        list.dropped += count(&dropped);
        prop_assert_eq!(due, list.groups.len() < self.list.groups.len());
        let (mut old, mut large) = (Vec::new(), Vec::new());
        let (mut old_count, mut large_count) = (0, 0);
        loop {
            let mut batch = WriteBatch::new();
            let done = self.outbox.expire(0, now, &mut batch).unwrap();
            prop_assert_eq!(batch.is_empty(), done.expired + done.dropped == 0);
            old.extend(done.given_up);
            large.extend(done.given_up_for_limit);
            old_count += done.expired;
            large_count += done.dropped;
            // Each of them is a write; a crash between two is another test's.
            if !batch.is_empty() {
                self.store.write(batch).unwrap();
                self.store.sync().unwrap();
                self.before.clear();
            }
            if !done.more {
                break;
            }
        }
        prop_assert_eq!((old_count, large_count), (count(&expired), count(&dropped)));
        if limits.dead_letters {
            prop_assert_eq!((old, large), (expired, dropped));
        } else {
            prop_assert_eq!((old, large), (vec![], vec![]));
        }
        self.list = list;
        Ok(())
    }

    /// All groups that end at `through` or before it.
    fn purge(&mut self, through: OutputKey) -> Checked {
        let mut list = self.list.clone();
        let ends = |group: &Group| group.outputs.last().is_some_and(|one| one.key <= through);
        let gone = list.leave(|_, group| ends(group));
        list.purged += count(&gone);
        let (mut given_up, mut purged) = (Vec::new(), 0);
        loop {
            let mut batch = WriteBatch::new();
            let done = self.outbox.purge(0, through, &mut batch).unwrap();
            given_up.extend(done.given_up);
            purged += done.purged;
            // Each of them is a write; a crash between two is another test's.
            if !batch.is_empty() {
                self.store.write(batch).unwrap();
                self.store.sync().unwrap();
                self.before.clear();
            }
            if !done.more {
                break;
            }
        }
        prop_assert_eq!(purged, count(&gone));
        let kept = if self.limits.dead_letters {
            gone
        } else {
            vec![]
        };
        prop_assert_eq!(given_up, kept);
        self.list = list;
        Ok(())
    }

    /// One group is spoiled; reading skips it, and a start removes it.
    fn damage(&mut self, seed: u64, tear: bool) -> Checked {
        let spoil = if tear {
            SimStore::tear
        } else {
            SimStore::flip_bit
        };
        self.store.sync().unwrap();
        self.before.clear();
        let Some(place) = spoil(&self.store, &[table::OUTBOX], seed) else {
            return Ok(());
        };
        let at = self.list.groups.iter().position(|one| one.place == place);
        let lost = self.list.groups.remove(at.unwrap());
        let open = self.list.open_of(&lost);
        self.list.damaged.0 += 1;
        self.list.damaged.1 += count(&open);
        let all = self
            .outbox
            .read(0, OutputKey::default(), usize::MAX, usize::MAX);
        prop_assert_eq!(all.unwrap(), self.list.open());
        let depth = self.outbox.depth(0).unwrap();
        prop_assert_eq!(depth.entries, count(&self.list.open()), "noticed at once");
        if seed % 2 == 0 {
            self.outbox = opened(&self.store, self.limits);
            prop_assert_eq!(self.outbox.damage().len(), 1);
            self.store.sync().unwrap();
            // Of the last group only the first key is known still. The log gives no number twice.
            let last = self.outbox.last_key(0).unwrap();
            let known = self.list.groups.last().map(|group| &group.outputs);
            let known = known.and_then(|outputs| Some(outputs.last()?.key));
            prop_assert!(last >= lost.outputs[0].key.max(known.unwrap_or_default()));
            self.list.last = last;
            return Ok(());
        }
        // It may as well be passed by.
        let mut batch = WriteBatch::new();
        self.outbox.confirm(0, self.list.last, &mut batch).unwrap();
        self.store.write(batch).unwrap();
        self.store.sync().unwrap();
        let last = self.list.last;
        self.list.confirm(last);
        Ok(())
    }

    fn check(&mut self) -> Checked {
        let depth = self.outbox.depth(0).unwrap();
        let open = self.list.open();
        let expected = Depth {
            entries: count(&open),
            bytes: self.list.bytes(),
            oldest: self.list.groups.first().map(|group| group.time),
        };
        prop_assert_eq!(depth, expected);
        let counts = self.outbox.counts(0).unwrap();
        prop_assert_eq!(counts, self.list.counts());
        let out =
            counts.confirmed + counts.dropped + counts.expired + counts.refused + counts.purged;
        prop_assert_eq!(out + self.list.damaged.1 + depth.entries, self.list.put_in);
        prop_assert_eq!(self.outbox.cursor(0), Some(self.list.cursor));
        prop_assert_eq!(self.outbox.last_key(0), Some(self.list.last));
        prop_assert!(self.outbox.settled(0) >= self.outbox.cursor(0));
        let mut seen = BTreeSet::new();
        let mut after = OutputKey::default();
        loop {
            let some = self.outbox.read(0, after, 50, 20_000).unwrap();
            let Some(last) = some.last() else { break };
            prop_assert!(some.iter().all(|entry| entry.key > after));
            after = last.key;
            for entry in some {
                prop_assert_eq!(self.made.get(&entry.key), Some(&entry));
                prop_assert!(seen.insert(entry.key), "a key twice");
            }
        }
        let open: BTreeSet<OutputKey> = self.list.open().iter().map(|entry| entry.key).collect();
        prop_assert_eq!(seen, open);
        Ok(())
    }
}

impl List {
    /// New outputs, of which `batch` says how they are stored together; what was dropped.
    fn take(
        &mut self,
        batch: &WriteBatch,
        new: &[Entry],
        now: Timestamp,
        limits: Limits,
    ) -> Vec<Entry> {
        self.put_in += count(new);
        self.last = new.last().map_or(self.last, |last| last.key);
        let puts = batch
            .changes()
            .filter_map(|(key, value)| Some((key, value?)));
        let puts = puts.filter(|(key, _)| key[0] == table::OUTBOX);
        let mut gone = Vec::new();
        let mut rest = new;
        for (place, value) in puts {
            let first = Seq(u64::from_be_bytes(
                place[place.len() - 16..place.len() - 8].try_into().unwrap(),
            ));
            let last = u64::from_le_bytes(value[24..32].try_into().unwrap());
            // What was not put at all before this group was given up.
            let begin = rest.partition_point(|entry| entry.key.seq < first);
            gone.extend_from_slice(&rest[..begin]);
            let end = rest.partition_point(|entry| entry.key.seq.0 <= last);
            let group = Group {
                place: place.to_vec(),
                bytes: u64::try_from(place.len() + value.len()).unwrap(),
                time: now,
                outputs: rest[begin..end].to_vec(),
            };
            rest = &rest[end..];
            if limits.full == Full::DropOldest {
                let too_much =
                    |list: &List, _: &Group| list.bytes() + group.bytes > limits.bytes_max;
                gone.extend(self.leave(too_much));
            }
            self.groups.push(group);
        }
        gone.extend_from_slice(rest);
        self.dropped += count(&gone);
        gone
    }

    fn confirm(&mut self, through: OutputKey) {
        let open = self.open();
        let more = open.iter().filter(|entry| entry.key <= through).count();
        self.confirmed += u64::try_from(more).unwrap();
        self.cursor = self.cursor.max(through);
        let behind = |group: &Group| group.outputs.last().unwrap().key <= through;
        self.leave(|_, group| behind(group));
    }
}

fn opened(store: &SimStore, limits: Limits) -> Outbox {
    let sinks = [("Alerts".to_owned(), limits)];
    Outbox::open(Arc::new(store.clone()), &sinks).unwrap()
}

/// Text that does not become shorter by packing.
fn noise(seed: u64, size: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + u8::try_from(state % 90).unwrap())
    };
    (0..size).map(letter).collect()
}

proptest! {
    #![proptest_config(same_cases(150))]

    #[test]
    fn an_outbox_is_a_list(
        limits in limits(),
        actions in prop::collection::vec(action(), 1..40),
    ) {
        let mut run = Run::new(limits);
        for action in &actions {
            run.act(action)?;
        }
    }

    #[test]
    fn a_damaged_group_costs_no_other(
        limits in limits(),
        actions in prop::collection::vec(prop_oneof![4 => action(), 1 => damage()], 1..40),
    ) {
        let mut run = Run::new(limits);
        for action in &actions {
            run.act(action)?;
        }
    }
}
