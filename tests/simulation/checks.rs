//! What must hold: after every step, after every start, and in the evening.

use std::collections::{BTreeMap, BTreeSet};

use eventflux::event::{DeliveryMark, OutputKey, Seq};
use eventflux::outbox::{Entry, Full};
use eventflux::pipeline::Recovered;
use eventflux::wal::{Body, Record};

use crate::applications::SOURCES;
use crate::broker::Ids;
use crate::daemon;
use crate::oracle::{Expected, Logged, Past};
use crate::world::{Far, World};

/// Checkpoints that may be there besides those to be kept: one that shares nothing with the newest,
/// and one that is being folded.
const CHECKPOINTS_BESIDE: usize = 2;

/// What a warning says when something is lost. Without damage nothing ever is.
const LOSSES: [&str; 5] = [
    "damaged",
    "cannot be",
    "left out",
    "set aside",
    "starts empty: ",
];

impl World {
    /// A process has begun: what it found must be what was there. `damaged` says that the disk
    /// was not what it had been, and at which sink, if it was one's.
    pub(super) fn recovered(&mut self, found: &Recovered, damaged: Option<&str>) {
        match damaged {
            Some(whose) => self.recovered_from_damage(found, whose),
            None => self.recovered_whole(found),
        }
        let last = self.daemon.last();
        // From here on it counts as durable.
        self.acknowledged = last;
    }

    fn recovered_whole(&mut self, found: &Recovered) {
        for warning in &found.warnings {
            let is_loss = LOSSES.iter().any(|loss| warning.contains(loss));
            assert!(
                !is_loss || self.is_damaged,
                "nothing was damaged: {warning}"
            );
        }
        let begin = daemon::log_begin(&self.store).unwrap_or(Seq(1));
        // Damage before the checkpoint stays where it is; what was acknowledged has been looked at.
        let from = if self.is_damaged {
            begin.max(self.acknowledged.plus(1))
        } else {
            begin
        };
        let mut gone = Vec::new();
        for record in daemon::log(&self.store, from) {
            let record = stripped(record);
            let first = record.first;
            let records = self.oracle.records();
            let known = records.binary_search_by_key(&first, |logged| logged.record.first);
            if known.is_ok_and(|at| records[at].record == record) {
                continue;
            }
            // What a crash took may have had the same number.
            gone.extend(self.oracle.cut(Seq(first.0 - 1)));
            self.oracle.configured(record);
        }
        gone.extend(self.oracle.cut(self.daemon.last()));
        if let Some(first) = gone.first() {
            let first = first.record.first;
            assert!(
                first > self.acknowledged,
                "{first} is gone, and everything up to {} was acknowledged",
                self.acknowledged
            );
        }
        assert_eq!(self.daemon.last(), self.oracle.last(), "the end of the log");
        self.check_marks();
    }

    /// What the sources could be sent again is known.
    fn check_marks(&self) {
        if self.is_damaged || self.conditions.has_empty {
            return;
        }
        let mut marks: [Vec<DeliveryMark>; SOURCES.len()] = Default::default();
        for noted in self.oracle.records().iter().flat_map(|one| &one.messages) {
            marks[noted.source].push(noted.mark);
        }
        for (marks, name) in marks.iter().zip(SOURCES) {
            assert_eq!(self.daemon.marks(name), marks, "the marks of {name}");
        }
    }

    /// Some is lost, and said to be. But nothing is half there, nothing is invented, and what goes
    /// on goes on from what is there.
    fn recovered_from_damage(&mut self, found: &Recovered, whose: &str) {
        let read = daemon::log(&self.store, found.checkpoint.plus(1));
        let (kept, lost) = self.sorted(read, found.checkpoint);
        let begin = kept.first().map_or(Seq(1), |logged| logged.record.first);
        // Without a checkpoint the state is that of the log that is left.
        let is_state_lost = found.checkpoint == Seq(0)
            && self.oracle.records().first().map(|one| one.record.first) < Some(begin);
        let is_acknowledged = |one: &&Logged| one.record.first <= self.acknowledged;
        if is_state_lost || lost.iter().any(|one| is_acknowledged(&one)) {
            assert!(!found.warnings.is_empty(), "a loss is told");
        }
        let begins_with = if is_state_lost {
            self.running
        } else {
            self.oracle.begins_with()
        };
        let new = self.oracle.expected_of(&kept, begins_with, false);
        let all = self.oracle.expected_of(&kept, begins_with, true);
        let lost_seqs: Vec<(Seq, Seq)> = lost
            .iter()
            .map(|one| (one.record.first, one.record.last()))
            .collect();
        let is_lost = |key: OutputKey| {
            is_state_lost
                || lost_seqs
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&key.seq))
        };
        let past = self.past([&new, &all], whose, &is_lost, found.checkpoint);
        for noted in lost.iter().flat_map(|one| &one.messages) {
            let excused = &mut self.sources[noted.source].excused;
            excused.insert(noted.number);
        }
        let last = self.daemon.last();
        self.oracle.damaged(kept, begins_with, last, past);
    }

    /// The records that are there still, what a checkpoint covers included, and those that are not.
    fn sorted(&self, read: Vec<Record>, checkpoint: Seq) -> (Vec<Logged>, Vec<Logged>) {
        let records = self.oracle.records();
        let mut kept: Vec<Logged> = Vec::new();
        if checkpoint > Seq(0) {
            let covered = records.partition_point(|one| one.record.last() <= checkpoint);
            kept.extend_from_slice(&records[..covered]);
        }
        for record in read {
            let record = stripped(record);
            let known = records.binary_search_by_key(&record.first, |one| one.record.first);
            match known.ok().map(|at| &records[at]) {
                Some(known) if known.record == record => kept.push(known.clone()),
                Some(_) | None => kept.push(self.oracle.configuration(record)),
            }
        }
        // Another record may have taken the number of one that is lost.
        let there: BTreeMap<Seq, &Record> = kept
            .iter()
            .map(|one| (one.record.first, &one.record))
            .collect();
        let is_there = |one: &&Logged| there.get(&one.record.first) == Some(&&one.record);
        let lost = records.iter().filter(|one| !is_there(one));
        let lost = lost.cloned().collect();
        (kept, lost)
    }

    /// What each sink has been given until now, or holds.
    fn past(
        &mut self,
        [new, all]: [&Expected; 2],
        whose: &str,
        is_lost: &dyn Fn(OutputKey) -> bool,
        checkpoint: Seq,
    ) -> Past {
        // What the checkpoint covers is not run again, even where the outbox does not know it.
        let covered = OutputKey {
            seq: checkpoint,
            ordinal: u32::MAX,
            query: u32::MAX,
        };
        let mut past = Past::new();
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for variant in &self.family.variants {
            names.extend(variant.sinks.iter().map(String::as_str));
        }
        for name in names {
            let old = self.oracle.expected(name).to_vec();
            let sink = self.variant().sinks.iter().position(|one| one == name);
            let Some(sink) = sink else {
                let last = old.last().map(|entry| entry.key).unwrap_or_default();
                past.insert(name.to_owned(), (old, last));
                continue;
            };
            let held = self.daemon.held(sink);
            let cursor = self.daemon.cursor(sink);
            let new = new.get(name).map_or(&[][..], Vec::as_slice);
            for entry in &held {
                // An older checkpoint may bring back what earlier damage has taken.
                let is_known = known(&old, entry)
                    || known(new, entry)
                    || all.get(name).is_some_and(|all| known(all, entry));
                assert!(is_known, "{name} holds an invention: {entry:?}");
            }
            if self.conditions.setting.limits.full == Full::Block && whose != name {
                let there: BTreeSet<OutputKey> = held.iter().map(|entry| entry.key).collect();
                let old_last = old.last().map(|entry| entry.key);
                for entry in old.iter().chain(new).filter(|entry| entry.key > cursor) {
                    let is_old = Some(entry.key) <= old_last;
                    let is_there = there.contains(&entry.key) || (is_old && is_lost(entry.key));
                    assert!(is_there, "{name} has lost {}", entry.key);
                }
            }
            let far = self.far.entry(name.to_owned()).or_default();
            let is_told = |entry: &&Entry| entry.key <= cursor && far.told.contains_key(&entry.key);
            let mut all: Vec<Entry> = old.iter().filter(is_told).cloned().collect();
            all.extend(held);
            far.dropped.clear();
            far.dropped_before = self.daemon.counts(sink).dropped;
            past.insert(
                name.to_owned(),
                (all, covered.max(self.daemon.last_key(sink))),
            );
        }
        past
    }

    /// After every step; `is_thorough` reads everything that waits.
    pub(super) fn check(&mut self, is_thorough: bool) {
        assert_eq!(self.daemon.last(), self.oracle.last(), "the end of the log");
        for sink in 0..self.variant().sinks.len() {
            self.check_sink(sink, is_thorough);
        }
        if is_thorough && !self.is_damaged {
            let checkpoints = daemon::checkpoints(&self.store);
            let most = self.conditions.setting.checkpoints_kept + CHECKPOINTS_BESIDE;
            let count = checkpoints.len();
            assert!(count <= most, "{count} checkpoints are kept");
            self.check_trimmed(&checkpoints);
        }
    }

    pub(super) fn check_sink(&mut self, sink: usize, is_thorough: bool) {
        let name = &self.variant().sinks[sink];
        let expected = self.oracle.expected(name);
        let cursor = self.daemon.cursor(sink);
        let far = self.far.entry(name.clone()).or_default();
        assert!(cursor <= far.confirmed, "the cursor of {name} leads");
        let last = expected.last().map(|entry| entry.key).unwrap_or_default();
        let last_key = self.daemon.last_key(sink);
        assert!(
            last_key == last || (self.is_damaged && last < last_key),
            "the last key of {name} is {last_key}, not {last}"
        );
        let open = &expected[expected.partition_point(|entry| entry.key <= cursor)..];
        let depth = self.daemon.depth(sink);
        let counts = self.daemon.counts(sink);
        if !self.is_damaged {
            let all = counts.confirmed + counts.dropped + depth.entries;
            let put_in = u64::try_from(expected.len()).unwrap();
            assert_eq!(all, put_in, "what has become of the outputs into {name}");
        }
        let limits = self.conditions.setting.limits;
        if limits.full == Full::Block || limits.bytes_max == u64::MAX {
            // In = out + held.
            let waiting = u64::try_from(open.len()).unwrap();
            assert_eq!(depth.entries, waiting, "how much waits for {name}");
            if is_thorough {
                assert_eq!(self.daemon.held(sink), open, "what waits for {name}");
            }
            return;
        }
        let held = self.daemon.held(sink);
        let count = u64::try_from(held.len()).unwrap();
        assert_eq!(depth.entries, count, "how much waits for {name}");
        assert!(held.iter().all(|entry| known(open, entry)), "{name}");
        assert!(
            depth.bytes <= limits.bytes_max,
            "{} bytes wait for {name}",
            depth.bytes
        );
        // In = out + dropped + held.
        far.dropped.retain(|key| *key <= cursor);
        let missing = open.iter().filter(|entry| !known(&held, entry));
        far.dropped.extend(missing.map(|entry| entry.key));
        let dropped = counts.dropped - far.dropped_before;
        let missing = u64::try_from(far.dropped.len()).unwrap();
        assert_eq!(dropped, missing, "how much {name} has dropped");
    }

    /// The log is cut only where no checkpoint needs it.
    fn check_trimmed(&self, checkpoints: &[Seq]) {
        let Some(begin) = daemon::log_begin(&self.store) else {
            return;
        };
        let needed = checkpoints.iter().min();
        let needed = needed.map_or(Seq(1), |oldest| oldest.plus(1));
        let records = self.oracle.records().iter();
        let gone = records.take_while(|one| one.record.first < begin);
        let is_needed = gone.last().filter(|one| one.record.last() >= needed);
        assert!(
            is_needed.is_none(),
            "the log begins at {begin}, {needed} is needed"
        );
    }

    /// In the evening, when everything should be where it belongs.
    pub(super) fn check_end(&mut self) {
        let mut times: [BTreeMap<u64, u64>; SOURCES.len()] = Default::default();
        for noted in self.oracle.records().iter().flat_map(|one| &one.messages) {
            *times[noted.source].entry(noted.number).or_default() += 1;
        }
        // A broker that counts packets on lets each message that comes again be told.
        let is_recognisable = matches!(self.conditions.ids, Ids::Counting { last: u16::MAX })
            && self.conditions.sayings == u64::MAX
            && !self.conditions.has_empty
            && !self.is_damaged;
        for ((source, times), name) in self.sources.iter().zip(&times).zip(SOURCES) {
            for (number, leaves_something) in (0..).zip(&source.published) {
                let count = times.get(&number).copied().unwrap_or_default();
                let is_there = count > 0 || source.excused.contains(&number);
                assert!(is_there || !leaves_something, "{name} has lost {number}");
                self.counts.twice += u64::from(count > 1);
                let is_once = count < 2 || !is_recognisable || source.has_begun_anew;
                assert!(is_once, "{name} {number} is there {count} times");
            }
        }
        for (name, far) in &self.far {
            let Far { told, dropped, .. } = far;
            for entry in self.oracle.expected(name) {
                let is_told = told.get(&entry.key) == Some(entry);
                let is_told = is_told || dropped.contains(&entry.key);
                assert!(is_told, "{name} was never given {}", entry.key);
            }
            self.counts.dropped += u64::try_from(dropped.len()).unwrap();
        }
    }
}

fn known(all: &[Entry], entry: &Entry) -> bool {
    let at = all.binary_search_by_key(&entry.key, |one| one.key);
    at.is_ok_and(|at| all[at] == *entry)
}

/// The record without what it says about the messages' origin.
fn stripped(mut record: Record) -> Record {
    match &mut record.body {
        Body::Events { origin, .. } | Body::Rejected { origin, .. } => *origin = None,
        Body::Tick | Body::Config { .. } | Body::Clock(_) | Body::Restored { .. } => {}
    }
    record
}
