//! Partitions: queries of which each key has its own, with everything they remember.
//!
//! A key's queries share their compiled code with those of all other keys. A key that was silent
//! for the partition's idle time is forgotten, unless something of it is still to come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::expr::{Compiled, Env, Operand, compile, predicate};
use super::node::Stores;
use super::query::Running;
use super::share::Rooms;
use super::state::{Load, Part, Save, StateError};
use crate::event::{Batch, Rows, Stamp, Timestamp, Value};
use crate::sql::Application;
use crate::sql::plan::{PartitionKey, StreamId};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// A partition with all its keys.
pub(super) struct Partition {
    /// The queries as they are for a new key, with their numbers in the plan.
    fresh: Vec<(usize, Running)>,
    /// For each query, the first that it can share its feed with.
    shared: Vec<Option<usize>>,
    wiring: Wiring,
    keys: BTreeMap<StreamId, Keys>,
    by_key: HashMap<Vec<Value>, u64, FixedState>,
    /// By number, in the order in which the keys came.
    instances: BTreeMap<u64, Instance>,
    next_number: u64,
    work: Work,
    /// Keys that are forgotten and of which something was saved.
    forgotten: Vec<u64>,
    idle_ms: Option<i64>,
    /// What falls due: a key, and one of its queries or the key itself.
    deadlines: BTreeSet<(Timestamp, u64, Due)>,
    out: VecDeque<(usize, Batch)>,
    faults: u64,
    dropped: u64,
    own_faults: std::cell::Cell<u64>,
}

/// What falls due for a key: its queries first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// One of its queries, by its place.
    Query(usize),
    /// Whether it is idle.
    Key,
}

/// Who reads what.
struct Wiring {
    /// The queries (by their place in the partition) and inputs that read a stream.
    readers: BTreeMap<StreamId, Vec<(usize, usize)>>,
    /// Streams that each key has for itself.
    inner: BTreeSet<StreamId>,
    /// The target of each query, when it is a stream.
    targets: Vec<Option<StreamId>>,
}

enum Keys {
    Values(Vec<Compiled>),
    Ranges(Vec<(Operand<bool>, Value)>),
}

/// What one key has.
struct Instance {
    key: Vec<Value>,
    last: Timestamp,
    queries: Vec<Running>,
    deadline_of: Vec<Option<Timestamp>>,
    /// When it is looked at next whether it is idle.
    idle_at: Option<Timestamp>,
    /// Whether it has worked since it was saved, and since something of it was saved ahead.
    worked: bool,
    waits: bool,
    /// Whether anything of it was saved.
    saved: bool,
}

/// Keys that have worked since they were saved, and those of which some can be saved ahead.
#[derive(Default)]
struct Work {
    worked: BTreeSet<u64>,
    waits: BTreeSet<u64>,
}

impl Work {
    /// A key works.
    #[inline]
    fn note(&mut self, number: u64, instance: &mut Instance) {
        if !instance.worked || !instance.waits {
            (instance.worked, instance.waits) = (true, true);
            self.worked.insert(number);
            self.waits.insert(number);
        }
    }

    /// A key is as it was saved, or gone.
    fn forget(&mut self, number: u64) {
        self.worked.remove(&number);
        self.waits.remove(&number);
    }
}

impl Instance {
    /// Queries with one feed look through one window, as far as they have had the same rows.
    fn share(&mut self, shared: &[Option<usize>]) {
        if shared.iter().all(Option::is_none) {
            return;
        }
        let mut rooms = Rooms::default();
        let queries = std::mem::take(&mut self.queries).into_iter().zip(shared);
        let queries = queries.map(|(query, first)| match first {
            Some(first) => query.shared(*first, &mut rooms),
            None => query,
        });
        self.queries = queries.collect();
    }
}

impl Partition {
    pub(super) fn new(plan: &Application, number: usize, stores: &Stores) -> Partition {
        let mut wiring = Wiring {
            readers: BTreeMap::new(),
            inner: BTreeSet::new(),
            targets: Vec::new(),
        };
        let mut partition = Partition {
            fresh: Vec::new(),
            shared: Vec::new(),
            keys: BTreeMap::new(),
            by_key: HashMap::with_hasher(FixedState::default()),
            instances: BTreeMap::new(),
            next_number: 0,
            work: Work::default(),
            forgotten: Vec::new(),
            idle_ms: None,
            deadlines: BTreeSet::new(),
            out: VecDeque::new(),
            faults: 0,
            dropped: 0,
            own_faults: std::cell::Cell::new(0),
            wiring: Wiring {
                readers: BTreeMap::new(),
                inner: BTreeSet::new(),
                targets: Vec::new(),
            },
        };
        let Some(written) = plan.partitions.get(number) else {
            return partition;
        };
        for number in &written.queries {
            let Some(query) = plan.queries.get(*number) else {
                continue;
            };
            let place = partition.fresh.len();
            for (input, stream) in query.input.streams().into_iter().enumerate() {
                let readers = wiring.readers.entry(stream.stream).or_default();
                readers.push((place, input));
            }
            wiring.targets.push(query.target_stream());
            partition.fresh.push((*number, Running::new(query, stores)));
            partition.shared.push(stores.shared_feed(*number));
        }
        wiring.inner.extend(&written.inner);
        partition.wiring = wiring;
        partition.idle_ms = written.idle_ms;
        let keys = written.keys.iter();
        partition.keys = keys
            .map(|(stream, key)| (*stream, Keys::new(key, stores)))
            .collect();
        partition
    }

    /// The streams that it takes rows of.
    pub(super) fn reads(&self) -> Vec<StreamId> {
        let streams = self.wiring.readers.keys();
        let outer = streams.filter(|stream| !self.wiring.inner.contains(stream));
        outer.copied().collect()
    }

    /// Whether a query of the plan is one of its own.
    pub(super) fn has(&self, query: usize) -> bool {
        self.fresh.iter().any(|(number, _)| *number == query)
    }

    pub(super) fn push(&mut self, stream: StreamId, rows: Rows<'_>) {
        let Some(keys) = self.keys.get(&stream) else {
            self.push_to_all(stream, rows);
            return;
        };
        let mut found: Vec<Vec<Value>> = Vec::new();
        let mut rest = rows;
        // Rows of one key that follow each other go together.
        let mut run: Vec<Value> = Vec::new();
        let mut length = 0;
        let mut runs: Vec<(usize, Vec<Vec<Value>>)> = Vec::new();
        for row in rows.iter() {
            let env = Env::new(row.values, row.stamp, row.stamp, &self.own_faults);
            found.clear();
            keys.of(&env, &mut found);
            if let ([only], true) = (found.as_slice(), length > 0) {
                if *only == run {
                    length += 1;
                    continue;
                }
            }
            if length > 0 {
                runs.push((length, vec![std::mem::take(&mut run)]));
                length = 0;
            }
            if let [only] = found.as_mut_slice() {
                run = std::mem::take(only);
                length = 1;
            } else {
                runs.push((1, std::mem::take(&mut found)));
            }
        }
        if length > 0 {
            runs.push((length, vec![run]));
        }
        for (length, keys) in runs {
            let (head, tail) = rest.split_at(length);
            for key in keys {
                let number = self.instance(key, head);
                self.push_to(number, stream, head);
            }
            rest = tail;
        }
    }

    fn push_to_all(&mut self, stream: StreamId, rows: Rows<'_>) {
        let mut rest = rows;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(1);
            let numbers: Vec<u64> = self.instances.keys().copied().collect();
            for number in numbers {
                self.push_to(number, stream, head);
            }
            rest = tail;
        }
    }

    /// The number of a key, which is new perhaps.
    fn instance(&mut self, key: Vec<Value>, rows: Rows<'_>) -> u64 {
        let first = rows.stamps().first().copied().unwrap_or_default();
        let last = rows.stamps().last().map_or(first.time, |last| last.time);
        let number = match self.by_key.get(&key) {
            Some(number) => *number,
            None => {
                let number = self.next_number;
                self.next_number += 1;
                self.add(number, key, first);
                number
            }
        };
        if let Some(instance) = self.instances.get_mut(&number) {
            instance.last = instance.last.max(last);
            self.work.note(number, instance);
        }
        number
    }

    fn add(&mut self, number: u64, key: Vec<Value>, at: Stamp) {
        self.add_alone(number, key, at);
        if let Some(instance) = self.instances.get_mut(&number) {
            instance.share(&self.shared);
        }
    }

    /// A new key, of which every query has a feed of its own.
    fn add_alone(&mut self, number: u64, key: Vec<Value>, at: Stamp) {
        self.by_key.insert(key.clone(), number);
        let mut instance = Instance {
            key,
            last: at.time,
            queries: self.fresh.iter().map(|(_, query)| query.fresh()).collect(),
            deadline_of: vec![None; self.fresh.len()],
            idle_at: None,
            worked: false,
            waits: false,
            saved: false,
        };
        for query in &mut instance.queries {
            query.start(at);
        }
        if let Some(idle_ms) = self.idle_ms {
            let due = at.time.plus_ms(idle_ms);
            instance.idle_at = Some(due);
            self.deadlines.insert((due, number, Due::Key));
        }
        self.work.note(number, &mut instance);
        self.instances.insert(number, instance);
    }

    fn push_to(&mut self, number: u64, stream: StreamId, rows: Rows<'_>) {
        let readers = self.wiring.readers.get(&stream).map_or(0, Vec::len);
        for index in 0..readers {
            let list = self.wiring.readers.get(&stream);
            let Some((query, input)) = list.and_then(|list| list.get(index)).copied() else {
                continue;
            };
            let instance = self.instances.get_mut(&number);
            if let Some(running) = instance.and_then(|one| one.queries.get_mut(query)) {
                running.push(input, rows);
            }
            self.settle(number, query);
        }
    }

    /// After a query of a key has worked: notes its deadline, and sends what came out on its way.
    fn settle(&mut self, number: u64, query: usize) {
        let Some(instance) = self.instances.get_mut(&number) else {
            return;
        };
        self.work.note(number, instance);
        let Some(running) = instance.queries.get_mut(query) else {
            return;
        };
        self.faults += running.take_faults();
        self.dropped += running.take_dropped();
        let deadline = running.deadline();
        let noted = instance.deadline_of.get_mut(query);
        if let Some(noted) = noted.filter(|noted| **noted != deadline) {
            if let Some(old) = noted.take() {
                self.deadlines.remove(&(old, number, Due::Query(query)));
            }
            let due = deadline.map(|due| (due, number, Due::Query(query)));
            self.deadlines.extend(due);
            *noted = deadline;
        }
        let out = running.output();
        if out.is_empty() {
            return;
        }
        let width = out.width();
        let mut out = std::mem::replace(out, Batch::new(width));
        let target = self.wiring.targets.get(query).copied().flatten();
        match target.filter(|target| self.wiring.inner.contains(target)) {
            Some(inner) => self.push_to(number, inner, out.rows()),
            None => {
                let outer = self.fresh.get(query).map(|(outer, _)| *outer);
                match (self.out.back_mut(), outer) {
                    (Some((last, rows)), Some(outer)) if *last == outer => rows.append(&mut out),
                    (_, Some(outer)) => self.out.push_back((outer, out)),
                    (_, None) => {}
                }
            }
        }
    }

    pub(super) fn fire(&mut self, at: Stamp) {
        while let Some((due, number, query)) = self.deadlines.first().copied() {
            if due > at.time {
                return;
            }
            match query {
                Due::Query(query) => {
                    let instance = self.instances.get_mut(&number);
                    if let Some(running) = instance.and_then(|one| one.queries.get_mut(query)) {
                        running.fire(at);
                    }
                    self.settle(number, query);
                }
                Due::Key => {
                    self.deadlines.pop_first();
                    self.look_after(number, due);
                }
            }
        }
    }

    /// Forgets a key that is idle; else says when to look again.
    fn look_after(&mut self, number: u64, now: Timestamp) {
        let (Some(instance), Some(idle_ms)) = (self.instances.get_mut(&number), self.idle_ms)
        else {
            return;
        };
        let pending = instance.queries.iter().filter_map(Running::awaited).max();
        let due = instance.last.plus_ms(idle_ms).max(pending.unwrap_or(now));
        if due > now {
            instance.idle_at = Some(due);
            self.deadlines.insert((due, number, Due::Key));
            return;
        }
        if let Some(instance) = self.instances.remove(&number) {
            self.by_key.remove(&instance.key);
            self.work.forget(number);
            if instance.saved {
                self.forgotten.push(number);
            }
            for (query, due) in instance.deadline_of.into_iter().enumerate() {
                let due = due.map(|due| (due, number, Due::Query(query)));
                due.map(|due| self.deadlines.remove(&due));
            }
        }
        if self.by_key.len() < self.by_key.capacity() / 8 {
            self.by_key.shrink_to_fit();
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(due, ..)| *due)
    }

    /// A row can be the first of its key, or the one a key has waited for: rows of one moment go
    /// together, no more.
    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        let timed = self.idle_ms.is_some()
            || self
                .fresh
                .iter()
                .any(|(_, query)| query.earliest(time).is_some());
        timed.then(|| time.plus_ms(1))
    }

    pub(super) fn take(&mut self) -> Option<(usize, Batch)> {
        self.out.pop_front()
    }

    pub(super) fn take_faults(&mut self) -> u64 {
        std::mem::take(&mut self.faults) + self.own_faults.take()
    }

    /// Partial matches that were dropped since the last call, since there were too many.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        save.put(Part::Window, 0, &self.next_number)?;
        let operator = save.operator();
        if save.is_changes() {
            for number in std::mem::take(&mut self.forgotten) {
                save.remove(Part::Groups, number);
                for query in 0..self.fresh.len() {
                    save.forget(own_operator(operator, number, query));
                }
            }
            self.work.waits.clear();
            for number in std::mem::take(&mut self.work.worked) {
                self.save_key(number, save)?;
                if let Some(instance) = self.instances.get_mut(&number) {
                    (instance.worked, instance.waits) = (false, false);
                }
            }
            return Ok(());
        }
        if save.is_whole() {
            let numbers: Vec<u64> = self.instances.keys().copied().collect();
            let mut numbers = numbers.into_iter();
            return numbers.try_for_each(|number| self.save_key(number, save));
        }
        while let Some(number) = self.work.waits.first().copied() {
            // As a whole: some of its queries may share what they give.
            self.save_key(number, save)?;
            if !save.has_room() {
                break;
            }
            self.work.waits.remove(&number);
            if let Some(instance) = self.instances.get_mut(&number) {
                instance.waits = false;
            }
        }
        Ok(())
    }

    fn save_key(&mut self, number: u64, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let Some(instance) = self.instances.get_mut(&number) else {
            return Ok(());
        };
        let last = instance.last.0;
        save.put(Part::Groups, number, &(&instance.key, last))?;
        let operator = save.operator();
        for (query, running) in instance.queries.iter_mut().enumerate() {
            running.save(&mut save.other(own_operator(operator, number, query)))?;
        }
        instance.saved |= !save.is_whole();
        Ok(())
    }
}

impl Partition {
    /// Takes a state back, `own` and, out of `all`, which has the pieces of every operator, those
    /// of the keys.
    pub(super) fn load(
        &mut self,
        operator: u64,
        own: &Load<'_>,
        all: &BTreeMap<u64, Load<'_>>,
        claimed: &mut Vec<u64>,
    ) -> Result<(), StateError> {
        self.next_number = own.one(Part::Window)?.unwrap_or(0);
        for state in own.numbered::<(Vec<Value>, i64)>(Part::Groups) {
            let (number, (key, last)) = state?;
            let at = Stamp {
                time: Timestamp(last),
                ..Stamp::default()
            };
            self.add_alone(number, key, at);
            let Some(instance) = self.instances.get_mut(&number) else {
                continue;
            };
            for (query, running) in instance.queries.iter_mut().enumerate() {
                let operator = own_operator(operator, number, query);
                if let Some(load) = all.get(&operator) {
                    claimed.push(operator);
                    running.load(load)?;
                }
            }
            instance.share(&self.shared);
            (instance.worked, instance.waits, instance.saved) = (false, false, true);
            self.work.forget(number);
            for (query, running) in instance.queries.iter().enumerate() {
                let due = running.deadline();
                if let Some(noted) = instance.deadline_of.get_mut(query) {
                    *noted = due;
                }
                let due = due.map(|due| (due, number, Due::Query(query)));
                self.deadlines.extend(due);
            }
        }
        Ok(())
    }
}

/// The operator under which the state of a key's query is kept: the partition's number, mixed
/// with those of the key and the query (the finalizer of SplitMix64).
fn own_operator(partition: u64, key: u64, query: usize) -> u64 {
    let mut mixed = partition
        .wrapping_add(key.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add((query as u64).wrapping_mul(0xD1B5_4A32_D192_ED03));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl Keys {
    fn new(plan: &PartitionKey, stores: &Stores) -> Keys {
        match plan {
            PartitionKey::Values(exprs) => Keys::Values(
                exprs
                    .iter()
                    .map(|expr| compile(expr, stores.cx(&[])))
                    .collect(),
            ),
            PartitionKey::Ranges(ranges) => {
                let range = |(condition, label): &(_, String)| {
                    (predicate(condition, stores.cx(&[])), Value::text(label))
                };
                Keys::Ranges(ranges.iter().map(range).collect())
            }
        }
    }

    /// The keys of a row: none when a value is NULL or no range holds.
    fn of(&self, env: &Env<'_>, found: &mut Vec<Vec<Value>>) {
        match self {
            Keys::Values(exprs) => {
                let key: Vec<Value> = exprs.iter().map(|expr| expr.value(env)).collect();
                if !key.iter().any(Value::is_null) {
                    found.push(key);
                }
            }
            Keys::Ranges(ranges) => {
                for (condition, label) in ranges {
                    if condition.get(env) == Some(true) {
                        found.push(vec![label.clone()]);
                    }
                }
            }
        }
    }
}
