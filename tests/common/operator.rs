//! Somebody at the control broker who sees everything that is published there.

#![allow(dead_code, reason = "each test program uses its part")]

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{Client, Packet, Version};
use crate::mosquitto::{DEADLINE, Mosquitto, wait_until};

/// The account that may do everything; only tests have it.
pub(crate) const ADMIN: (&str, &str) = ("admin", "of-tests");
/// How soon the observer sees that it is to end.
const ATTENTION: Duration = Duration::from_millis(50);

/// Something that was published.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    /// Its JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or_default()
    }
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    stop: bool,
}

#[derive(Clone, Default)]
struct Shared(Arc<(Mutex<State>, Condvar)>);

/// Sees everything from its first moment on.
pub(crate) struct Observer {
    shared: Shared,
    thread: Option<JoinHandle<()>>,
}

/// How much had been seen at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(usize);

impl Observer {
    pub(crate) fn new(port: u16) -> Observer {
        let shared = Shared::default();
        let client = subscribed(port);
        let seen = shared.clone();
        let thread = std::thread::spawn(move || observe(&seen, port, client));
        Observer {
            shared,
            thread: Some(thread),
        }
    }

    /// Before the first message.
    pub(crate) fn beginning(&self) -> Moment {
        Moment(0)
    }

    pub(crate) fn now(&self) -> Moment {
        Moment(self.shared.0.0.lock().unwrap().messages.len())
    }

    /// Everything from a moment on.
    pub(crate) fn since(&self, moment: Moment) -> Vec<Message> {
        self.shared.0.0.lock().unwrap().messages[moment.0..].to_vec()
    }

    /// The first message from a moment on that `is_it`, waited for.
    pub(crate) fn wait(
        &self,
        what: &str,
        from: Moment,
        mut is_it: impl FnMut(&Message) -> bool,
    ) -> Message {
        self.find(from, DEADLINE, &mut is_it).unwrap_or_else(|| {
            let all = self.since(from);
            let texts: Vec<String> = all
                .iter()
                .map(|one| format!("{} {}", one.topic, String::from_utf8_lossy(&one.payload)))
                .collect();
            let last = texts.len().saturating_sub(20);
            panic!(
                "in vain: {what}; the last of {}:\n{}",
                all.len(),
                texts[last..].join("\n")
            )
        })
    }

    /// The same, and nothing when it does not come in time.
    pub(crate) fn find(
        &self,
        from: Moment,
        within: Duration,
        is_it: &mut dyn FnMut(&Message) -> bool,
    ) -> Option<Message> {
        let end = Instant::now() + within;
        let mut next = from.0;
        let mut state = self.shared.0.0.lock().unwrap();
        loop {
            while let Some(message) = state.messages.get(next) {
                next += 1;
                if is_it(message) {
                    return Some(message.clone());
                }
            }
            let left = end.checked_duration_since(Instant::now())?;
            state = self.shared.0.1.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.0.0.lock() {
            state.stop = true;
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn subscribed(port: u16) -> Client {
    let mut client = None;
    wait_until("the observer is there", || {
        client = try_subscribed(port).ok();
        client.is_some()
    });
    client.unwrap()
}

fn try_subscribed(port: u16) -> std::io::Result<Client> {
    let (id, version) = ("observer", Version::V311);
    let mut client = Client::connect_as(Some(ADMIN), port, id, version, true, ATTENTION)?;
    client.subscribe("#")?;
    Ok(client)
}

/// A broker that restarts keeps the session, so that nothing is missed.
fn observe(shared: &Shared, port: u16, client: Client) {
    let mut connection = Some(client);
    loop {
        if shared.0.0.lock().unwrap().stop {
            return;
        }
        let Some(client) = &mut connection else {
            connection = try_subscribed(port).ok();
            if connection.is_none() {
                crate::wait::hang(ATTENTION);
            }
            continue;
        };
        match client.next() {
            Ok(Some(Packet::Publish(message))) => {
                if message.packet > 0 && client.acknowledge(message.packet).is_err() {
                    connection = None;
                }
                // After a restart of the broker what it keeps comes once more.
                if message.retained {
                    continue;
                }
                let mut state = shared.0.0.lock().unwrap();
                state.messages.push(Message {
                    topic: message.topic,
                    payload: message.payload,
                });
                drop(state);
                shared.0.1.notify_all();
            }
            Ok(Some(_) | None) => {}
            Err(_) => connection = None,
        }
    }
}

/// What the broker keeps below `filter` now.
pub(crate) fn kept(broker: &Mosquitto, filter: &str) -> Vec<Message> {
    let (id, version) = ("looker", Version::V311);
    let client = Client::connect_as(Some(ADMIN), broker.port, id, version, false, DEADLINE);
    let mut client = client.unwrap();
    client.subscribe(filter).unwrap();
    // A message of our own comes behind all that is kept, as one connection keeps its order.
    let end = "end-of-what-is-kept";
    client.subscribe(end).unwrap();
    client.publish(end, 1, b"").unwrap();
    let mut found = Vec::new();
    loop {
        match client.next().unwrap().expect("the broker answers") {
            Packet::Publish(message) if message.topic == end => return found,
            Packet::Publish(message) => {
                // Without it the broker sends no more than it may have under way.
                client.acknowledge(message.packet).unwrap();
                if message.retained {
                    found.push(Message {
                        topic: message.topic,
                        payload: message.payload,
                    });
                }
            }
            _ => {}
        }
    }
}
