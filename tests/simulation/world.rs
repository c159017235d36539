//! A day in the life of a daemon: everything around it, and what outlives it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use eventflux::event::{Batch, ClockState, OutputKey, Rejected, Seq, Stamp, Timestamp, Value};
use eventflux::outbox::Entry;
use eventflux::pipeline::PipelineError;
use eventflux::sink::Delivery;
use eventflux::store::sim::{Fault, SimStore};
use eventflux::store::table;

use crate::applications::{Family, SOURCES, VARIANTS, Variant, families};
use crate::broker::{Broker, Client, Message};
use crate::daemon::{Daemon, Given, Released};
use crate::oracle::{Noted, Oracle};
use crate::plan::{Conditions, KEEP_ALL, Leap, Planned, Step};
use crate::random::Random;

/// Arrivals that may wait for the pipeline, as in the daemon.
const ARRIVALS_MAX: usize = 16;
/// How often everything may go round until all is delivered.
const ROUNDS_MAX: usize = 500;
/// How often the outboxes are read as a whole.
const LOOK_EVERY: u64 = 8;

/// Where the process dies, besides what the steps say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doom {
    /// Now and then in the middle of a recovery.
    Chance,
    /// At this operation of the store, counted from the beginning; and then once more, so many
    /// operations into the recovery.
    At {
        operation: u64,
        keep: u64,
        then: Option<u64>,
    },
}

/// What a day was good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) steps: u64,
    pub(crate) messages: u64,
    pub(crate) deliveries: u64,
    pub(crate) repeated: u64,
    pub(crate) recognised: u64,
    pub(crate) twice: u64,
    pub(crate) starts: u64,
    pub(crate) faults: u64,
    pub(crate) faults_in_recovery: u64,
    pub(crate) damages: u64,
    pub(crate) changes: u64,
    pub(crate) dropped: u64,
    pub(crate) operations: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.steps += other.steps;
        self.messages += other.messages;
        self.deliveries += other.deliveries;
        self.repeated += other.repeated;
        self.recognised += other.recognised;
        self.twice += other.twice;
        self.starts += other.starts;
        self.faults += other.faults;
        self.faults_in_recovery += other.faults_in_recovery;
        self.damages += other.damages;
        self.changes += other.changes;
        self.dropped += other.dropped;
        self.operations += other.operations;
    }
}

/// A sensor, its broker, and its client in the daemon.
pub(super) struct Source {
    pub(super) broker: Broker,
    pub(super) client: Client,
    /// Whether each message leaves something in the log.
    pub(super) published: Vec<bool>,
    /// Messages that the broker has lost, or that damage has taken.
    pub(super) excused: BTreeSet<u64>,
    /// Whether the broker has lost a session, so that its packet ids have begun anew.
    pub(super) has_begun_anew: bool,
}

/// What the far side of a sink knows.
#[derive(Default)]
pub(super) struct Far {
    /// Everything it was ever given.
    pub(super) told: BTreeMap<OutputKey, Entry>,
    /// What it was given since the daemon started, in order.
    pub(super) taken: Vec<OutputKey>,
    /// The last key that it has ever confirmed.
    pub(super) confirmed: OutputKey,
    /// Keys that the limit of the outbox has cost.
    pub(super) dropped: BTreeSet<OutputKey>,
    /// What the outbox had counted when this began.
    pub(super) dropped_before: u64,
}

/// Messages of one source on their way to the pipeline.
struct Arrival {
    source: usize,
    rows: Batch,
    rejected: Vec<Rejected>,
    messages: Vec<Noted>,
    through: u64,
}

/// The clocks, as `clock.rs` has them.
struct Clock {
    wall_ms: i64,
    boot_ms: i64,
    /// The log's clock, and the boot clock when it showed that.
    log: Timestamp,
    at_ms: i64,
}

impl Clock {
    fn pass(&mut self, ms: i64) {
        self.wall_ms += ms;
        self.boot_ms += ms;
    }

    fn now(&mut self) -> Timestamp {
        let passed_ms = self.boot_ms - self.at_ms;
        let paced = self.log.plus_ms(passed_ms);
        let wall = Timestamp(self.wall_ms.max(0));
        if wall >= paced {
            self.log = wall;
            self.at_ms = self.boot_ms;
        } else if passed_ms > 0 {
            self.log = paced;
            self.at_ms = self.boot_ms;
        }
        self.log
    }
}

/// Everything there is.
pub(crate) struct World {
    pub(super) family: &'static Family,
    pub(super) conditions: Conditions,
    pub(super) store: SimStore,
    pub(super) daemon: Daemon,
    pub(super) oracle: Oracle,
    pub(super) sources: Vec<Source>,
    pub(super) far: BTreeMap<String, Far>,
    arrivals: VecDeque<Arrival>,
    clock: Clock,
    /// What is new of the wall clock, for the next turn.
    clock_news: Option<ClockState>,
    /// The variant that runs, and the one that is to run from the next start on.
    pub(super) running: usize,
    pub(super) wanted: usize,
    /// What survives when the planned fault has come to pass.
    planned: Option<u64>,
    /// Where the only misfortune strikes, if there is only one.
    doom: Doom,
    /// What must survive everything but damage.
    pub(super) acknowledged: Seq,
    pub(super) is_damaged: bool,
    /// A start that had to mend damage was interrupted: it came back, but nobody knows what the
    /// first attempt has made of the damage.
    is_adrift: bool,
    pub(super) counts: Counts,
    /// Whether to tell what happens.
    is_told: bool,
}

impl World {
    /// Lives through a day; panics where something is not as promised.
    pub(crate) fn live(conditions: &Conditions, steps: &[Planned], is_told: bool) -> Counts {
        World::doomed(conditions, steps, Doom::Chance, is_told)
    }

    /// The same, with misfortunes at chosen places.
    pub(crate) fn doomed(
        conditions: &Conditions,
        steps: &[Planned],
        doom: Doom,
        is_told: bool,
    ) -> Counts {
        let mut world = World::new(conditions, doom, is_told);
        for (number, planned) in steps.iter().enumerate() {
            world.tell(|| format!("{number}: {:?}", planned.step));
            world.act(planned);
            if world.is_adrift {
                return world.counts;
            }
        }
        world.counts.operations = world.store.operations();
        world.rest();
        world.counts
    }

    fn new(conditions: &Conditions, doom: Doom, is_told: bool) -> World {
        let store = SimStore::new();
        let family = &families()[conditions.family];
        let wanted = conditions.variant;
        let variant = &family.variants[wanted];
        if let Doom::At { operation, .. } = doom {
            store.plan(operation, Fault::Crash);
        }
        let mut counts = Counts::default();
        let opened = Daemon::open(&store, variant, conditions.setting).or_else(|_| {
            store.crash(u64::MAX);
            counts.faults_in_recovery += 1;
            Daemon::open(&store, variant, conditions.setting)
        });
        let (daemon, found) = opened.unwrap();
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
        let source = |_| {
            let mut broker = Broker::new(conditions.ids, conditions.in_flight_max);
            Source {
                client: Client::new(&[], &mut broker, 0),
                broker,
                published: Vec::new(),
                excused: BTreeSet::new(),
                has_begun_anew: false,
            }
        };
        let mut world = World {
            family,
            conditions: conditions.clone(),
            store,
            daemon,
            oracle: Oracle::new(family),
            sources: SOURCES.iter().map(source).collect(),
            far: BTreeMap::new(),
            arrivals: VecDeque::new(),
            clock: Clock {
                wall_ms: conditions.wall_ms,
                boot_ms: 0,
                log: Timestamp::MIN,
                at_ms: 0,
            },
            clock_news: None,
            running: wanted,
            wanted,
            planned: None,
            doom,
            acknowledged: Seq(0),
            is_damaged: false,
            is_adrift: false,
            counts,
            is_told,
        };
        world.tell(|| format!("{} {conditions:?}", family.name));
        world.foresee();
        world.recovered(&found, None);
        world
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{}", what());
        }
    }

    pub(super) fn variant(&self) -> &'static Variant {
        &self.family.variants[self.running]
    }

    fn act(&mut self, planned: &Planned) {
        self.counts.steps += 1;
        let mut random = Random::seeded(planned.seed);
        let done = self.step(&planned.step, &mut random);
        if self.is_adrift {
            return;
        }
        if let Err(error) = done.and_then(|()| self.daemon.pump()) {
            self.fell(&error, &mut random);
        }
        self.check(self.counts.steps % LOOK_EVERY == 0);
    }

    fn step(&mut self, step: &Step, random: &mut Random) -> Result<(), PipelineError> {
        match *step {
            Step::Publish { source, messages } => self.publish(source, messages, random),
            Step::Receive { source, most } => self.receive(source, most, random),
            Step::Turn { after_ms, most } => {
                self.clock.pass(after_ms);
                if !self.daemon.is_blocked() {
                    self.turn(most)?;
                }
            }
            Step::Tick { after_ms } => {
                self.clock.pass(after_ms);
                self.tick()?;
            }
            Step::Leap(leap) => self.leap(leap, random),
            Step::BeginSync { at_once } => self.daemon.begin_sync(at_once)?,
            Step::EndSync => {
                let released = self.daemon.end_sync()?;
                self.release(released);
            }
            Step::Checkpoint => self.checkpoint()?,
            Step::SaveAhead { ends } => self.daemon.save_ahead(ends)?,
            Step::RunJob => self.daemon.run_job()?,
            Step::Trim => {
                self.daemon.trim()?;
            }
            Step::Take { sink, most } => self.take(sink, most),
            Step::Confirm { sink, back } => self.confirm(sink, back)?,
            Step::Reconnect { source, keep } => self.reconnect(source, keep, random),
            Step::Stop => self.stop(random)?,
            Step::Crash { keep } => self.die(keep, None, random),
            Step::Fault { after, fault, keep } => {
                self.store.plan(self.store.operations() + after, fault);
                self.planned = Some(keep);
            }
            Step::Damage { table, is_torn } => self.damage(table, is_torn, random),
            Step::Configure { variant } => self.wanted = variant,
        }
        Ok(())
    }

    fn leap(&mut self, leap: Leap, random: &mut Random) {
        match leap {
            Leap::By(ms) => self.clock.wall_ms += ms,
            Leap::To(ms) => self.clock.wall_ms = ms,
        }
        self.clock_news = (random.below(2) == 0).then(|| ClockState {
            boot: format!("boot {}", random.below(3)),
            trusted: random.below(2) == 0,
            wall: Timestamp(self.clock.wall_ms),
        });
    }

    fn publish(&mut self, source: usize, messages: u64, random: &mut Random) {
        if self.variant().sources[source].is_none() {
            return;
        }
        for _ in 0..messages {
            let number = u64::try_from(self.sources[source].published.len()).unwrap();
            let rows = match random.below(12) {
                0 if self.conditions.has_empty => 0,
                1 => 0,
                2 => 3,
                _ => 1,
            };
            let is_bad = rows == 0 && !(self.conditions.has_empty && random.below(2) == 0);
            let rows: Vec<_> = (0..rows).map(|_| self.row(source, random)).collect();
            self.sources[source]
                .published
                .push(is_bad || !rows.is_empty());
            self.counts.messages += 1;
            self.sources[source].broker.publish(Arc::new(Message {
                number,
                digest: number % self.conditions.sayings,
                rows,
                is_bad,
            }));
        }
    }

    fn row(&self, source: usize, random: &mut Random) -> Vec<Value> {
        let key = match random.below(40) {
            0 => Value::Null,
            _ => Value::text(["red", "green", "blue", "grey", "white"][random.index(5)]),
        };
        let number = i64::try_from(random.below(100)).unwrap();
        let value = match random.below(30) {
            0 => Value::Null,
            _ => Value::Int(number),
        };
        match SOURCES[source] {
            "R" => {
                let tenths = u32::try_from(random.below(1_000)).unwrap();
                vec![key, value, Value::Float(f64::from(tenths) / 10.0)]
            }
            "T" => {
                let spread = i64::try_from(random.below(900)).unwrap() - 700;
                let at = match random.below(40) {
                    0 => Value::Null,
                    1 => Value::Int(self.clock.wall_ms + 3_600_000),
                    _ => Value::Int(self.clock.wall_ms + spread),
                };
                vec![key, value, at]
            }
            _ => vec![key, Value::Int(number)],
        }
    }

    fn receive(&mut self, source: usize, most: usize, random: &mut Random) {
        let Source { broker, client, .. } = &mut self.sources[source];
        client.receive(broker, most);
        while !client.queue.is_empty() && self.arrivals.len() < ARRIVALS_MAX {
            let some = 1 + random.index(client.queue.len());
            self.arrivals.push_back(arrival(source, client, some));
            if random.below(2) == 0 {
                break;
            }
        }
    }

    fn turn(&mut self, most: usize) -> Result<(), PipelineError> {
        let mut inputs = Vec::new();
        let mut acks = Vec::new();
        for _ in 0..most {
            let Some(arrival) = self.arrivals.pop_front() else {
                break;
            };
            acks.push((arrival.source, arrival.through));
            let given = Given {
                stream: self.variant().sources[arrival.source].unwrap(),
                rows: arrival.rows,
                rejected: arrival.rejected,
                marks: arrival.messages.iter().map(|noted| noted.mark).collect(),
            };
            inputs.push((given, arrival.messages));
        }
        if inputs.is_empty() {
            return Ok(());
        }
        self.work(inputs, &acks)
    }

    fn tick(&mut self) -> Result<(), PipelineError> {
        if self.daemon.deadline() > Some(self.clock.now()) || self.daemon.deadline().is_none() {
            return Ok(());
        }
        self.work(Vec::new(), &[])
    }

    fn work(
        &mut self,
        inputs: Vec<(Given, Vec<Noted>)>,
        acks: &[(usize, u64)],
    ) -> Result<(), PipelineError> {
        let time = self.clock.now().max(self.daemon.last_time());
        let clock = self.clock_news.take();
        if let Some(state) = &clock {
            self.daemon.note_clock(state.clone());
        }
        let expected = self.oracle.turn(time, clock, &inputs);
        let inputs = inputs.into_iter().map(|(given, _)| given).collect();
        let (outputs, released) = self.daemon.turn(time, inputs, acks)?;
        self.tell(|| {
            let counts: Vec<usize> = outputs.iter().map(Vec::len).collect();
            format!(
                "   at {time}: through {}, outputs {counts:?}",
                self.daemon.last()
            )
        });
        assert_eq!(self.daemon.last(), self.oracle.last(), "the numbers given");
        assert_eq!(outputs, expected, "what comes out of a turn");
        self.release(released);
        Ok(())
    }

    fn release(&mut self, released: Vec<Released>) {
        for Released { source, through } in released {
            let Source { broker, client, .. } = &mut self.sources[source];
            client.release(through, broker);
        }
        self.note_durable();
    }

    fn note_durable(&mut self) {
        let durable = if self.conditions.setting.is_careless {
            self.daemon.last()
        } else {
            self.daemon.durable()
        };
        self.acknowledged = self.acknowledged.max(durable);
    }

    fn checkpoint(&mut self) -> Result<(), PipelineError> {
        if self.daemon.has_unsaved() {
            self.daemon.checkpoint()?;
        }
        Ok(())
    }

    fn take(&mut self, sink: usize, most: usize) {
        let sink = sink % self.variant().sinks.len();
        for _ in 0..most {
            let Some(delivery) = self.daemon.delivery(sink) else {
                return;
            };
            self.taken(sink, delivery);
        }
    }

    fn taken(&mut self, sink: usize, delivery: Delivery) {
        let name = &self.variant().sinks[sink];
        let entry = Entry {
            key: delivery.key,
            time: delivery.time,
            schema: delivery.schema,
            row: delivery.row,
        };
        assert!(
            entry.key.seq <= self.acknowledged,
            "{name} was given {} before its cause was durable",
            entry.key
        );
        let all = self.oracle.expected(name);
        let at = all.binary_search_by_key(&entry.key, |entry| entry.key);
        assert_eq!(at.ok().map(|at| &all[at]), Some(&entry), "given to {name}");
        let far = self.far.entry(name.clone()).or_default();
        let last = far.taken.last();
        assert!(last < Some(&entry.key), "keys at {name} ascend");
        far.taken.push(entry.key);
        self.counts.deliveries += 1;
        if let Some(known) = far.told.insert(entry.key, entry.clone()) {
            assert_eq!(known, entry, "one key, one output at {name}");
            self.counts.repeated += 1;
        }
    }

    fn confirm(&mut self, sink: usize, back: usize) -> Result<(), PipelineError> {
        let sink = sink % self.variant().sinks.len();
        // What is missing in front of the cursor can be told from what was delivered only now.
        self.check_sink(sink, false);
        let name = &self.variant().sinks[sink];
        let far = self.far.entry(name.clone()).or_default();
        let Some(key) = far.taken.iter().rev().nth(back).copied() else {
            return Ok(());
        };
        far.confirmed = far.confirmed.max(key);
        self.daemon.confirm(sink, key)
    }

    fn reconnect(&mut self, source: usize, keep: bool, random: &mut Random) {
        let arrived = random.index(8);
        let Source {
            broker,
            client,
            excused,
            has_begun_anew,
            ..
        } = &mut self.sources[source];
        *has_begun_anew |= !keep;
        let gone = client.reconnect(broker, keep, arrived);
        excused.extend(gone.iter().map(|message| message.number));
    }

    /// As `pipeline/run.rs` drains.
    fn stop(&mut self, random: &mut Random) -> Result<(), PipelineError> {
        while !self.arrivals.is_empty() {
            self.turn(usize::MAX)?;
        }
        let released = self.daemon.settle()?;
        self.release(released);
        self.daemon.pump()?;
        for sink in 0..self.variant().sinks.len() {
            self.take(sink, random.index(10));
            self.confirm(sink, random.index(3))?;
        }
        self.checkpoint()?;
        self.daemon.settle()?;
        self.note_durable();
        self.die(0, None, random);
        Ok(())
    }

    fn fell(&mut self, error: &PipelineError, random: &mut Random) {
        self.tell(|| format!("   it fell: {error}"));
        let keep = self.planned.take();
        let keep = keep.unwrap_or_else(|| panic!("nothing was planned: {error}"));
        self.counts.faults += 1;
        self.crash(keep);
        self.struck();
        self.start(None, random);
    }

    /// Lets a chosen misfortune strike where it is to.
    fn foresee(&mut self) {
        let Doom::At {
            operation, keep, ..
        } = self.doom
        else {
            return;
        };
        if self.store.operations() < operation {
            self.store.plan(operation, Fault::Crash);
            self.planned = Some(keep);
        }
    }

    /// The first of the chosen misfortunes has struck; the second may strike the recovery.
    fn struck(&mut self) {
        if let Doom::At { then, keep, .. } = self.doom {
            self.doom = Doom::At {
                operation: then.map_or(0, |after| self.store.operations() + after),
                keep,
                then: None,
            };
            self.foresee();
        }
    }

    fn crash(&mut self, keep: u64) {
        let unsynced = u64::try_from(self.store.unsynced()).unwrap();
        let is_all = keep == KEEP_ALL || self.conditions.setting.is_careless;
        self.store.crash(if is_all { unsynced } else { keep });
        self.planned = None;
    }

    /// The process ends, and another one begins.
    fn die(&mut self, keep: u64, damaged: Option<&str>, random: &mut Random) {
        self.crash(keep);
        self.start(damaged, random);
    }

    fn start(&mut self, damaged: Option<&str>, random: &mut Random) {
        let is_likely = random.below(if damaged.is_some() { 12 } else { 3 }) == 0;
        self.foresee();
        if is_likely && matches!(self.doom, Doom::Chance) {
            let after = 1 + random.below(8);
            self.store
                .plan(self.store.operations() + after, Fault::Crash);
            self.planned = Some(random.below(1 << 20));
        }
        self.counts.starts += 1;
        self.counts.changes += u64::from(self.running != self.wanted);
        self.running = self.wanted;
        self.arrivals.clear();
        let mut is_first = true;
        let found = loop {
            match Daemon::open(&self.store, self.variant(), self.conditions.setting) {
                Ok((daemon, found)) => {
                    self.daemon = daemon;
                    break found;
                }
                Err(error) => {
                    self.tell(|| format!("   it fell as it started: {error}"));
                    let keep = self.planned.take();
                    let keep = keep.unwrap_or_else(|| panic!("it does not start: {error}"));
                    self.counts.faults_in_recovery += 1;
                    self.crash(keep);
                    self.struck();
                    is_first = false;
                }
            }
        };
        self.tell(|| format!("   it is back at {}: {found:?}", self.daemon.last()));
        self.clock_news = None;
        self.clock.log = self.daemon.last_time();
        self.clock.at_ms = self.clock.boot_ms;
        self.far.values_mut().for_each(|far| far.taken.clear());
        for (source, name) in self.sources.iter_mut().zip(SOURCES) {
            self.counts.recognised += source.client.repeats;
            let tail = self.daemon.marks(name);
            source.client = Client::new(tail, &mut source.broker, random.index(8));
        }
        if damaged.is_some() && !is_first {
            self.is_adrift = true;
            return;
        }
        self.recovered(&found, damaged);
        self.check(true);
    }

    fn damage(&mut self, of: u8, is_torn: bool, random: &mut Random) {
        // What is damaged belongs to what runs: another variant might not see it.
        self.wanted = self.running;
        let sinks = &self.variant().sinks;
        let name = &sinks[random.index(sinks.len())];
        let mut prefix = vec![of];
        if [table::OUTBOX, table::OUTBOX_STATE].contains(&of) {
            prefix.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
            prefix.extend(name.as_bytes());
        }
        self.crash(random.below(1 << 20));
        let seed = random.below(u64::MAX);
        let key = if is_torn {
            self.store.tear(&prefix, seed)
        } else {
            self.store.flip_bit(&prefix, seed)
        };
        if key.is_none() {
            self.start(None, random);
            return;
        }
        self.counts.damages += 1;
        self.is_damaged = true;
        let whose = if prefix.len() > 1 { name } else { "" };
        self.start(Some(whose), random);
    }

    /// Evening: nothing befalls anybody any more, and everything is delivered and confirmed; by
    /// other variants, where sinks are meant that this one does not have.
    fn rest(&mut self) {
        self.tell(|| "evening".to_owned());
        let mut random = Random::seeded(1);
        let running = self.running;
        for variant in (0..VARIANTS).map(|after| (running + after) % VARIANTS) {
            let sinks = &self.family.variants[variant].sinks;
            if variant != running && !sinks.iter().any(|name| self.is_waiting(name)) {
                continue;
            }
            self.wanted = variant;
            self.crash(KEEP_ALL);
            self.start(None, &mut random);
            self.crash_is_off();
            let done = self.finish(&mut random);
            done.unwrap_or_else(|error| panic!("nothing was planned: {error}"));
            self.check(true);
        }
        self.check_end();
    }

    /// Whether there is something that the sink was never given.
    fn is_waiting(&self, name: &str) -> bool {
        let far = self.far.get(name);
        let is_told = |entry: &Entry| {
            far.is_some_and(|far| {
                far.told.contains_key(&entry.key) || far.dropped.contains(&entry.key)
            })
        };
        !self.oracle.expected(name).iter().all(is_told)
    }

    fn crash_is_off(&mut self) {
        self.store.plan(0, Fault::Crash);
        self.planned = None;
    }

    fn finish(&mut self, random: &mut Random) -> Result<(), PipelineError> {
        let sinks = self.variant().sinks.len();
        for _ in 0..ROUNDS_MAX {
            for source in 0..SOURCES.len() {
                if self.sources[source].client.deferring {
                    self.reconnect(source, true, random);
                }
                self.receive(source, usize::MAX, random);
            }
            self.turn(usize::MAX)?;
            let released = self.daemon.settle()?;
            self.release(released);
            self.daemon.pump()?;
            for sink in 0..sinks {
                self.take(sink, usize::MAX);
                self.confirm(sink, 0)?;
            }
            let is_held = (0..sinks).any(|sink| self.daemon.depth(sink).entries > 0);
            let mut sources = self.sources.iter();
            let is_done = sources.all(|one| one.broker.is_done() && one.client.queue.is_empty());
            if is_done && self.arrivals.is_empty() && !is_held {
                return Ok(());
            }
        }
        panic!("it never gets done");
    }
}

fn arrival(source: usize, client: &mut Client, some: usize) -> Arrival {
    let mut arrival = Arrival {
        source,
        rows: Batch::new(if SOURCES[source] == "Q" { 2 } else { 3 }),
        rejected: Vec::new(),
        messages: Vec::new(),
        through: 0,
    };
    for taken in client.queue.drain(..some) {
        for row in &taken.message.rows {
            arrival.rows.push(Stamp::default(), row.iter().cloned());
        }
        if taken.message.is_bad {
            arrival.rejected.push(Rejected {
                reason: "malformed".to_owned(),
                detail: "the end of the input".to_owned(),
                bytes: taken.message.number.to_string().into_bytes(),
                bytes_total: 1,
            });
        }
        arrival.messages.push(Noted {
            source,
            number: taken.message.number,
            mark: taken.mark,
        });
        arrival.through = taken.ordinal;
    }
    arrival
}
