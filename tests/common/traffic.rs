//! Numbers that are published at one broker, and what comes of them at another.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::{Client, Packet, Publish, Version};
use crate::mosquitto::DEADLINE;

/// Messages that the publisher sends before it reads the answers.
pub(crate) const BURST: u16 = 32;
/// How far the publisher may be ahead of what has come out, as a part of all.
const LEAD: u64 = 16;
/// How soon the subscriber sees that it is to end, or tries a broker again that is away.
const ATTENTION: Duration = Duration::from_millis(50);

/// One message at the uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) number: u64,
    pub(crate) id: String,
    /// Its column `c`, where it has one: which configuration made it.
    pub(crate) made_by: Option<u64>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Numbers that the upstream broker has acknowledged: all below.
    pub(crate) published: u64,
    /// How many different numbers have come out.
    pub(crate) distinct: u64,
    /// Everything that has come out, in order.
    pub(crate) delivered: Vec<Delivered>,
    times: BTreeMap<u64, u64>,
    /// Lets the publisher go on although nothing comes out.
    more: u64,
    pause: bool,
    idle: bool,
    stop: bool,
}

/// What the threads share; whoever waits here is woken by every change.
#[derive(Clone, Default)]
struct Shared(Arc<(Mutex<State>, Condvar)>);

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// Waits until `is_so`; false when that has not come about within [`DEADLINE`].
    fn wait(&self, mut is_so: impl FnMut(&State) -> bool) -> bool {
        let state = self.0.0.lock().unwrap();
        let waited = self
            .0
            .1
            .wait_timeout_while(state, DEADLINE, |state| !is_so(state));
        !waited.unwrap().1.timed_out()
    }

    fn is_stopped(&self) -> bool {
        self.0.0.lock().unwrap().stop
    }
}

/// A publisher and a subscriber at work.
pub(crate) struct Traffic {
    shared: Shared,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Publishes the numbers below `count` to `in/n` at the broker on port `from`, and collects
    /// what comes to `out` at the one on port `to`.
    pub(crate) fn start(version: Version, from: u16, to: u16, count: u64) -> Traffic {
        Traffic::start_within(version, from, to, count, count / LEAD)
    }

    /// The same, with at most `lead` numbers more published than have come out.
    pub(crate) fn start_within(
        version: Version,
        from: u16,
        to: u16,
        count: u64,
        lead: u64,
    ) -> Traffic {
        let shared = Shared::default();
        // Before anything is published, so that the broker keeps it from the beginning.
        let mut client = Client::connect(to, "recorder", version, true, ATTENTION).unwrap();
        client.subscribe("out").unwrap();
        let (publisher, subscriber) = (shared.clone(), shared.clone());
        let threads = vec![
            std::thread::spawn(move || publish(&publisher, version, from, count, lead)),
            std::thread::spawn(move || record(&subscriber, version, to, client)),
        ];
        Traffic { shared, threads }
    }

    /// Waits until `is_so`, or fails.
    pub(crate) fn wait(&self, what: &str, is_so: impl FnMut(&State) -> bool) {
        let came = self.shared.wait(is_so);
        let (published, distinct) = self.progress();
        assert!(
            came,
            "in vain: {what}; {published} published, {distinct} came out"
        );
    }

    /// How many numbers have been published, and how many have come out.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let state = self.shared.0.0.lock().unwrap();
        (state.published, state.distinct)
    }

    /// Lets `count` more be published than what comes out allows.
    pub(crate) fn allow(&self, count: u64) {
        self.shared.change(|state| state.more += count);
    }

    /// Holds the publisher when everything that it has sent is acknowledged.
    pub(crate) fn pause(&self) {
        self.shared.change(|state| state.pause = true);
        self.wait("the publisher pauses", |state| state.idle);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.shared.change(|state| state.pause = false);
    }

    /// Everything that has come out.
    pub(crate) fn finish(mut self) -> Vec<Delivered> {
        self.shared.change(|state| state.stop = true);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        std::mem::take(&mut self.shared.0.0.lock().unwrap().delivered)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.change(|state| state.stop = true);
    }
}

fn publish(shared: &Shared, version: Version, port: u16, count: u64, lead: u64) {
    let mut next = 0;
    let mut connection = None;
    while next < count && !shared.is_stopped() {
        if shared.0.0.lock().unwrap().pause {
            if let Some(client) = connection.take() {
                Client::disconnect(client).unwrap();
            }
            shared.change(|state| state.idle = true);
            shared.wait(|state| !state.pause || state.stop);
            shared.change(|state| state.idle = false);
        }
        let may = |state: &State| next < state.distinct + lead + state.more;
        shared.wait(|state| may(state) || state.pause || state.stop);
        // Nor a burst more once it is to end, or is to pause.
        let is_held = |state: &State| state.pause || state.stop || !may(state);
        if is_held(&shared.0.0.lock().unwrap()) {
            continue;
        }
        let connect = || Client::connect(port, "publisher", version, false, DEADLINE).unwrap();
        let client = connection.get_or_insert_with(connect);
        next += burst(client, next, count);
        shared.change(|state| state.published = next);
    }
    // Everything is published, so it can be held at any time.
    shared.change(|state| state.idle = true);
}

/// Publishes some numbers and waits for their acknowledgements.
fn burst(client: &mut Client, next: u64, count: u64) -> u64 {
    let some = u64::from(BURST).min(count - next);
    for (id, number) in (1..).zip(next..next + some) {
        let payload = format!("{{\"n\":{number}}}");
        client.publish("in/n", id, payload.as_bytes()).unwrap();
    }
    let mut acknowledged = 0;
    while acknowledged < some {
        match client.next().unwrap().expect("an acknowledgement in time") {
            Packet::PubAck(_) => acknowledged += 1,
            other => panic!("{other:?}"),
        }
    }
    some
}

fn record(shared: &Shared, version: Version, port: u16, client: Client) {
    let mut connection = Some(client);
    while !shared.is_stopped() {
        let Some(client) = &mut connection else {
            connection = reconnect(version, port);
            continue;
        };
        match client.next() {
            Ok(Some(Packet::Publish(message))) => {
                let packet = message.packet;
                note(shared, message);
                if client.acknowledge(packet).is_err() {
                    connection = None;
                }
            }
            Ok(Some(_) | None) => {}
            Err(_) => connection = None,
        }
    }
}

fn reconnect(version: Version, port: u16) -> Option<Client> {
    let begin = Instant::now();
    let client = Client::connect(port, "recorder", version, true, ATTENTION);
    let client = client.and_then(|mut client| {
        client.subscribe("out")?;
        Ok(client)
    });
    if client.is_err() {
        std::thread::sleep(ATTENTION.saturating_sub(begin.elapsed()));
    }
    client.ok()
}

fn note(shared: &Shared, message: Publish) {
    let row: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    let number = row["n"].as_u64().unwrap();
    let made_by = row["c"].as_u64();
    let property = message
        .properties
        .into_iter()
        .find(|(name, _)| name == "id");
    let id = match (row["_id"].as_str(), property) {
        (Some(id), None) => id.to_owned(),
        (None, Some((_, id))) => id,
        other => panic!("where is the id? {other:?}"),
    };
    shared.change(|state| {
        let times = state.times.entry(number).or_default();
        *times += 1;
        state.distinct += u64::from(*times == 1);
        state.delivered.push(Delivered {
            number,
            id,
            made_by,
        });
    });
}

/// Every number has come; one that came again has the same id, which no other has; new ones
/// ascend. How many came again.
pub(crate) fn check(delivered: &[Delivered], messages: u64) -> usize {
    let mut ids: BTreeMap<u64, (&str, Option<u64>)> = BTreeMap::new();
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    let mut repeats = 0;
    for one in delivered {
        let Delivered {
            number,
            id,
            made_by,
        } = one;
        match ids.get(number) {
            Some(known) => {
                assert_eq!(*known, (&**id, *made_by), "number {number} came again");
                repeats += 1;
            }
            None => {
                let last = ids.last_key_value().map(|(last, _)| *last);
                assert!(
                    last < Some(*number),
                    "{number} is new, and came after {last:?}"
                );
                ids.insert(*number, (id, *made_by));
                let other = numbers.insert(id, *number);
                assert_eq!(other, None, "{id} is also that of {number}");
            }
        }
    }
    let missing: Vec<u64> = (0..messages).filter(|n| !ids.contains_key(n)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert_eq!(ids.len(), usize::try_from(messages).unwrap());
    repeats
}
