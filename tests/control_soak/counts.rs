//! A running count that every configuration has, as it comes out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::{Client, Packet, Publish, Version};
use crate::mosquitto::wait_until;
use crate::wait::hang;

/// How soon the recorder sees that it is to end, or tries a broker again that is away.
const ATTENTION: Duration = Duration::from_millis(50);

#[derive(Default)]
struct State {
    /// By number: the count that came with it, and the id of that output.
    rows: BTreeMap<u64, (u64, String)>,
    faults: Vec<String>,
    stop: bool,
}

/// Collects what comes to `counts`.
pub(crate) struct Counts {
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

fn connect(port: u16) -> std::io::Result<Client> {
    let mut client = Client::connect(port, "counter", Version::V311, true, ATTENTION)?;
    client.subscribe("counts")?;
    Ok(client)
}

impl Counts {
    pub(crate) fn new(port: u16) -> Counts {
        // Before the first number, so that the broker keeps all of it.
        let mut client = None;
        wait_until("the counter is there", || {
            client = connect(port).ok();
            client.is_some()
        });
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || record(&shared, port, client));
        Counts {
            state,
            thread: Some(thread),
        }
    }

    /// Waits for all numbers below `published`: each has one count, which is that of all up to it.
    pub(crate) fn check(&self, published: u64) {
        wait_until("all counts come out", || {
            let state = self.state.lock().unwrap();
            u64::try_from(state.rows.len()).unwrap() >= published || !state.faults.is_empty()
        });
        let state = self.state.lock().unwrap();
        assert!(state.faults.is_empty(), "{:#?}", state.faults);
        let wrong: Vec<_> = state
            .rows
            .iter()
            .filter(|(n, (count, _))| **n + 1 != *count)
            .take(5)
            .collect();
        assert!(
            wrong.is_empty(),
            "the count has a gap or a reset: {wrong:?}"
        );
        assert_eq!(u64::try_from(state.rows.len()).unwrap(), published);
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.lock() {
            state.stop = true;
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn record(shared: &Mutex<State>, port: u16, mut connection: Option<Client>) {
    while !shared.lock().unwrap().stop {
        let Some(client) = &mut connection else {
            connection = connect(port).ok();
            if connection.is_none() {
                hang(ATTENTION);
            }
            continue;
        };
        match client.next() {
            Ok(Some(Packet::Publish(message))) => {
                note(&mut shared.lock().unwrap(), &message);
                if client.acknowledge(message.packet).is_err() {
                    connection = None;
                }
            }
            Ok(Some(_) | None) => {}
            Err(_) => connection = None,
        }
    }
}

fn note(state: &mut State, message: &Publish) {
    let row: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
    let (n, count) = (row["n"].as_u64().unwrap(), row["k"].as_u64().unwrap());
    let one = (count, row["_id"].as_str().unwrap().to_owned());
    match state.rows.get(&n) {
        Some(known) if *known != one => {
            let fault = format!("{n} came as {known:?} and as {one:?}");
            state.faults.push(fault);
        }
        Some(_) => {}
        None => drop(state.rows.insert(n, one)),
    }
}
