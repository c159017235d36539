//! A line to the broker: what comes is heard, what is said is confirmed, and a line that breaks is
//! made anew.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Trouble;
use crate::cli::Exit;
use crate::mqtt::{
    self, Answer, Connection, Error, Event, Filter, Handle, Outgoing, Properties, Qos, Retained,
    Settings,
};

/// Events that wait to be looked at.
const EVENTS_MAX: usize = 64;
/// Messages that come while something is being published.
const WAITING_MAX: usize = 10_000;
/// How long the broker may take to confirm.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(30);
/// The pause before a line that broke is made anew.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);

/// A message that came.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// Whether the broker kept it, so that it may be old.
    pub(super) is_retained: bool,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    Message(Heard),
    /// The line broke, and stands again.
    Again,
    /// Nothing came in time.
    Late,
}

/// A line.
pub(super) struct Line {
    settings: Settings,
    filters: Vec<Filter>,
    live: Live,
    waiting: VecDeque<Heard>,
}

/// A connection, polled by a task of its own: to wait for it with a limit never loses a packet.
struct Live {
    handle: Handle,
    events: mpsc::Receiver<Result<Event, Error>>,
}

impl Line {
    /// Connects to the first broker that answers, and subscribes.
    pub(super) async fn open(settings: Settings, topics: &[String]) -> Result<Line, Trouble> {
        let filters = topics.iter().map(|topic| {
            let column = |name: &str| Err(format!("no column `{name}`"));
            let bad = |why| Trouble::new(Exit::Usage, format!("`{topic}`: {why}"));
            Filter::parse(topic, column).map_err(bad)
        });
        let filters: Vec<Filter> = filters.collect::<Result<_, _>>()?;
        let mut waiting = VecDeque::new();
        let live = connect(&settings, &filters, &mut waiting).await?;
        Ok(Line {
            settings,
            filters,
            live,
            waiting,
        })
    }

    /// What comes next, until then.
    pub(super) async fn next(&mut self, until: Instant) -> Next {
        if let Some(heard) = self.waiting.pop_front() {
            return Next::Message(heard);
        }
        loop {
            match timeout_at(until, self.live.events.recv()).await {
                Err(_) => return Next::Late,
                Ok(Some(Ok(event))) => {
                    if let Some(heard) = self.live.heard(event) {
                        return Next::Message(heard);
                    }
                }
                Ok(Some(Err(_)) | None) => match timeout_at(until, self.again()).await {
                    Ok(()) => return Next::Again,
                    Err(_) => return Next::Late,
                },
            }
        }
    }

    async fn again(&mut self) {
        loop {
            sleep(AGAIN_AFTER).await;
            if let Ok(live) = connect(&self.settings, &self.filters, &mut self.waiting).await {
                self.live = live;
                return;
            }
        }
    }

    /// Publishes with QoS 1, and returns when the broker has it.
    pub(super) async fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
    ) -> Result<(), Trouble> {
        let taken = self.live.handle.publish(Outgoing {
            topic,
            payload,
            retain,
            qos: Qos::AtLeastOnce,
            properties: Properties::default(),
        });
        let no_answer = |why: String| {
            let message = format!("the broker has not taken what was published: {why}");
            Trouble::new(Exit::NoAnswer, message)
        };
        if !taken {
            return Err(no_answer("the connection is gone".to_owned()));
        }
        let until = Instant::now() + CONFIRMED_WITHIN;
        loop {
            match timeout_at(until, self.live.events.recv()).await {
                Err(_) => return Err(no_answer("it does not answer".to_owned())),
                Ok(None) => return Err(no_answer("the connection is gone".to_owned())),
                Ok(Some(Err(error))) => return Err(no_answer(error.to_string())),
                Ok(Some(Ok(Event::Acknowledged(_, answer)))) => {
                    return match answer {
                        Answer::Accepted => Ok(()),
                        Answer::Refused(why) | Answer::Later(why) => Err(Trouble::new(
                            Exit::Refused,
                            format!("the broker refuses: {why}"),
                        )),
                    };
                }
                Ok(Some(Ok(event))) => {
                    keep(self.live.heard(event), &mut self.waiting);
                }
            }
        }
    }

    /// Says farewell.
    pub(super) async fn close(mut self) {
        if self.live.handle.disconnect() {
            let ended = async { while let Some(Ok(_)) = self.live.events.recv().await {} };
            let _ = timeout(FAREWELL_WITHIN, ended).await;
        }
    }
}

impl Live {
    fn heard(&self, event: Event) -> Option<Heard> {
        let Event::Message(message) = event else {
            return None;
        };
        if let Some(receipt) = message.receipt() {
            // One that finds no room is of no matter: the session ends with the connection.
            let _ = self.handle.acknowledge(receipt);
        }
        let topic = std::str::from_utf8(message.topic()).ok()?;
        Some(Heard {
            topic: topic.to_owned(),
            payload: message.payload().to_vec(),
            is_retained: message.retained(),
        })
    }
}

fn keep(heard: Option<Heard>, waiting: &mut VecDeque<Heard>) {
    if waiting.len() < WAITING_MAX {
        waiting.extend(heard);
    }
}

async fn connect(
    settings: &Settings,
    filters: &[Filter],
    waiting: &mut VecDeque<Heard>,
) -> Result<Live, Trouble> {
    let mut last = String::new();
    for broker in &settings.brokers {
        let (handle, connection) = match mqtt::connect(settings, broker) {
            Ok(made) => made,
            Err(error) => {
                last = format!("{broker}: {error}");
                continue;
            }
        };
        let (to, events) = mpsc::channel(EVENTS_MAX);
        tokio::spawn(poll(connection, to));
        let mut live = Live { handle, events };
        match subscribed(&mut live, filters, waiting).await {
            Ok(()) => return Ok(live),
            Err(why) => last = format!("{broker}: {why}"),
        }
    }
    Err(Trouble::new(Exit::NoAnswer, last))
}

async fn poll(mut connection: Connection, to: mpsc::Sender<Result<Event, Error>>) {
    loop {
        let event = connection.next().await;
        let is_over = event.is_err();
        if to.send(event).await.is_err() || is_over {
            return;
        }
    }
}

async fn subscribed(
    live: &mut Live,
    filters: &[Filter],
    waiting: &mut VecDeque<Heard>,
) -> Result<(), String> {
    let until = Instant::now() + CONFIRMED_WITHIN;
    loop {
        let event = match timeout_at(until, live.events.recv()).await {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Ok(None) => return Err("the connection is gone".to_owned()),
            Err(_) => return Err("it does not answer".to_owned()),
        };
        match event {
            Event::Connected(_) if filters.is_empty() => return Ok(()),
            Event::Connected(_) => {
                if !live
                    .handle
                    .subscribe(filters, Qos::AtLeastOnce, Retained::Sent)
                {
                    return Err("the connection is gone".to_owned());
                }
            }
            Event::Subscribed(answers) => {
                let mut refusals = filters.iter().zip(answers);
                let refused = refusals.find_map(|(filter, refusal)| Some((filter, refusal?)));
                return match refused {
                    None => Ok(()),
                    Some((filter, why)) => {
                        Err(format!("no right to read `{}`: {why}", filter.as_str()))
                    }
                };
            }
            event => keep(live.heard(event), waiting),
        }
    }
}
