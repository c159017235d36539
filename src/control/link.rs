//! The connection to the control broker: a client of its own, on a thread of its own.
//!
//! Losing it touches nothing but itself. What comes is put where it waits within bounds
//! ([`Hearing`]), what is to be said is taken from where it waits within bounds ([`Mailbox`]); here
//! is only who the far side is, and what both sides know of each other: a birth with the number of
//! the connection, and a will with the same number.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Scope;
use super::hearing::Hearing;
use super::mailbox::{Mailbox, Post};
use super::steward::{SharedJournal, lock};
use super::told::offline;
use super::topics::{About, Topics};
use crate::config::options::Options;
use crate::mqtt::{
    self, Announcement, Answer, Connection, Event, Filter, Handle, Message, Outgoing, Properties,
    Qos, Retained,
};

/// Publishes that await their acknowledgement. Below what the client itself allows a subscriber,
/// beyond which it would no longer acknowledge.
const IN_FLIGHT_MAX: usize = 8;
/// How long documents for groups are not asked for after those for the node, so that they come
/// later, where the broker does not show the node its own state.
const GROUPS_AFTER: Duration = Duration::from_secs(10);
/// And where it does: for brokers that are not strict about the order.
const GROUPS_AFTER_STATE: Duration = Duration::from_millis(500);
/// How long saying farewell may take.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);
/// How soon the state is published again when somebody has overwritten it.
const STATE_AGAIN: Duration = Duration::from_secs(1);
/// The highest number of a connection that is believed of somebody else.
const CONNECTION_MAX: u64 = 1 << 53;
/// How often the number is raised above one that somebody else has published.
const RAISES_MAX: u32 = 3;
/// For how long no documents are asked for when one was larger than anything that is read.
const TOO_LARGE_PAUSE: Duration = Duration::from_secs(300);

/// To whom and as whom the link speaks.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Made of [`Endpoint::options`]; without a will.
    pub(super) settings: mqtt::Settings,
    /// By which two of them are compared.
    pub(super) options: Options,
    pub(super) topics: Topics,
    /// Whose documents are taken; none: nothing is.
    pub(super) scopes: Option<Vec<Scope>>,
}

impl Endpoint {
    pub(super) fn is_same(&self, other: &Endpoint) -> bool {
        self.options == other.options
            && self.topics == other.topics
            && self.scopes == other.scopes
            && self.settings.packet_bytes_max == other.settings.packet_bytes_max
    }
}

/// What the link is made of.
pub(super) struct Link {
    pub(super) mailbox: Mailbox,
    pub(super) hearing: Hearing,
    pub(super) journal: SharedJournal,
    pub(super) endpoints: watch::Receiver<Option<Arc<Endpoint>>>,
    /// True when the node says farewell; closed when nobody is interested any more.
    pub(super) stop: watch::Receiver<bool>,
    /// Told when a message is larger than anything that is read, by its bytes.
    pub(super) too_large: crossbeam::channel::Sender<usize>,
    pub(super) raised: (u32, u64),
}

/// How a connection ended.
enum End {
    Stopped,
    /// There is another endpoint, or another number is wanted.
    Again,
    Failed(mqtt::Error),
}

/// What happened while a connection was waited for.
enum Step {
    Event(Result<Event, mqtt::Error>),
    Leave(End),
    Timer,
}

impl Link {
    /// Until it is told to stop.
    pub(super) async fn run(mut self) {
        let mut silence = None;
        while !*self.stop.borrow() {
            let endpoint = self.endpoints.borrow_and_update().clone();
            let Some(endpoint) = endpoint else {
                tokio::select! {
                    changed = self.endpoints.changed() => if changed.is_err() { return },
                    changed = self.stop.changed() => if changed.is_err() { return },
                }
                continue;
            };
            if !self.serve(&endpoint, &mut silence).await {
                return;
            }
        }
    }

    /// Connects to one endpoint again and again; false when the node is to stop.
    async fn serve(&mut self, endpoint: &Endpoint, silence: &mut Option<Silence>) -> bool {
        let mut rounds = endpoint.settings.rounds();
        loop {
            *silence = silence.filter(|silence| silence.until > Instant::now());
            let mut talk = Talk::new(self.number(), *silence);
            let end = self.connection(endpoint, rounds.at(), &mut talk).await;
            self.mailbox.disconnected(talk.open());
            self.hearing.ring();
            let error = match end {
                End::Stopped => return false,
                End::Again => return true,
                End::Failed(error) => error,
            };
            if let mqtt::Error::TooLarge(bytes) = &error {
                let _ = self.too_large.try_send(*bytes);
                self.hearing.ring();
                // Without documents it came again: then it is a request that somebody has retained.
                *silence = Some(Silence {
                    until: Instant::now() + TOO_LARGE_PAUSE,
                    is_complete: talk.silence.is_some(),
                });
            }
            self.mailbox.failed(error.to_string());
            let wait = rounds.failed(talk.since.map(|at| at.elapsed()));
            tracing::warn!("no connection to the control broker: {error}; again in {wait:.1?}");
            tokio::select! {
                () = sleep(wait) => {}
                changed = self.endpoints.changed() => return changed.is_ok(),
                _ = self.stop.changed() => return false,
            }
        }
    }

    /// The number of the next connection.
    fn number(&mut self) -> u64 {
        let journal = lock(&self.journal).clone();
        let next = journal.map(|journal| lock(&journal).next_connection(self.raised.1));
        match next {
            Some(Ok(number)) => {
                self.raised.1 = number;
                number
            }
            Some(Err(error)) => {
                // Better a number that may come again than none.
                tracing::warn!("the number of the connection cannot be remembered: {error}");
                self.raised.1 += 1;
                self.raised.1
            }
            None => self.raised.1,
        }
    }

    async fn connection(&mut self, endpoint: &Endpoint, broker: usize, talk: &mut Talk) -> End {
        let Some(at) = endpoint.settings.brokers.get(broker) else {
            return End::Stopped;
        };
        let mut settings = endpoint.settings.clone();
        settings.will = Some(Announcement {
            topic: endpoint.topics.state(),
            payload: offline(talk.number, "the connection was lost").to_string(),
            qos: Qos::AtLeastOnce,
            retain: true,
        });
        let (handle, mut connection) = match mqtt::connect(&settings, at) {
            Ok(made) => made,
            Err(error) => return End::Failed(error),
        };
        loop {
            match self.step(&mut connection, &handle, talk).await {
                Step::Event(Ok(event)) => {
                    if let Some(end) = self.event(event, endpoint, &handle, talk) {
                        return end;
                    }
                }
                Step::Event(Err(error)) => return End::Failed(error),
                Step::Timer => self.timer(endpoint, &handle, talk),
                Step::Leave(end) => {
                    if talk.since.is_some() {
                        self.leave(endpoint, &mut connection, &handle, talk).await;
                    }
                    return end;
                }
            }
            self.publish(&handle, talk);
        }
    }

    /// Waits for the next event of the connection, which is not given up before it is there, while
    /// what is to be said is.
    async fn step(
        &mut self,
        connection: &mut Connection,
        handle: &Handle,
        talk: &mut Talk,
    ) -> Step {
        let mut poll = pin!(connection.next());
        loop {
            let leaves = tokio::select! {
                biased;
                event = &mut poll => return Step::Event(event),
                _ = self.stop.changed() => Some(End::Stopped),
                changed = self.endpoints.changed() => Some(match changed {
                    Ok(()) => End::Again,
                    Err(_) => End::Stopped,
                }),
                () = self.mailbox.changed(), if talk.since.is_some() => None,
                () = sleep_until_some(talk.next_timer()) => return Step::Timer,
            };
            match leaves {
                Some(end) => return Step::Leave(end),
                None => self.publish(handle, talk),
            }
        }
    }

    fn event(
        &mut self,
        event: Event,
        endpoint: &Endpoint,
        handle: &Handle,
        talk: &mut Talk,
    ) -> Option<End> {
        match event {
            Event::Connected(_) => {
                talk.since = Some(Instant::now());
                tracing::info!(connection = talk.number, "connected to the control broker");
                self.hearing.connected();
                self.mailbox.connected(talk.number);
                if endpoint.scopes.is_some() {
                    talk.subscribe(&endpoint.own_filters(talk.silence), handle);
                    let later = Instant::now() + GROUPS_AFTER;
                    talk.groups_at = talk.silence.is_none().then_some(later);
                } else {
                    talk.subscribe(&[endpoint.topics.state()], handle);
                }
            }
            Event::Message(message) => {
                let raises = self.message(&message, endpoint, talk);
                if let Some(receipt) = message.receipt() {
                    // One that finds no room is of no matter: the session ends with the connection.
                    let _ = handle.acknowledge(receipt);
                }
                if raises {
                    return Some(End::Again);
                }
            }
            Event::Subscribed(answers) => {
                for refusal in answers.into_iter().flatten() {
                    tracing::warn!("the control broker refuses a subscription: {refusal}");
                }
            }
            Event::Published(packet) => talk.published(packet, &self.mailbox),
            Event::Acknowledged(packet, answer) => {
                talk.acknowledged(packet, answer, &self.mailbox);
                self.hearing.ring();
            }
            Event::Forgotten(_) | Event::Recorded(..) | Event::AckWritten | Event::Other => {}
        }
        None
    }

    /// True when another number of the connection is wanted.
    fn message(&mut self, message: &Message, endpoint: &Endpoint, talk: &mut Talk) -> bool {
        match endpoint.topics.about(message.topic()) {
            Some(About::State) => return self.state_of_others(message.payload(), talk),
            Some(About::Desired(scope)) if endpoint.takes(&scope) => {
                self.hearing.document(scope, message.payload());
            }
            Some(About::Request(verb)) if endpoint.scopes.is_some() => {
                self.hearing
                    .request(verb, message.payload(), message.retained());
            }
            Some(About::Desired(_) | About::Request(_)) | None => self.hearing.foreign(),
        }
        false
    }

    /// The node's state as it stands at the broker: a will of an earlier connection is void, and a
    /// higher number than ours makes ours void.
    fn state_of_others(&mut self, payload: &[u8], talk: &mut Talk) -> bool {
        let said: Option<Value> = serde_json::from_slice(payload).ok();
        let number = said.as_ref().and_then(|said| said.get("conn")?.as_u64());
        let state = said.as_ref().and_then(|said| said.get("state")?.as_str());
        match number {
            Some(number) if number > talk.number && number <= CONNECTION_MAX => {
                let (raises, above) = &mut self.raised;
                if *raises >= RAISES_MAX {
                    return false;
                }
                *raises += 1;
                *above = number;
                tracing::warn!(
                    "somebody has published the state of this node with a higher number: another \
                     node of this name, or one whose memory was lost; connecting again above it"
                );
                true
            }
            Some(number) if number == talk.number && state != Some("offline") => {
                // The broker has come to what was said behind the subscription: a document for the
                // node itself would have come before.
                let soon = Instant::now() + GROUPS_AFTER_STATE;
                talk.groups_at = talk.groups_at.map(|at| at.min(soon));
                false
            }
            // Ours from before, or nobody's.
            Some(_) | None => {
                talk.state_at.get_or_insert_with(|| {
                    talk.stated.map_or_else(Instant::now, |at| at + STATE_AGAIN)
                });
                false
            }
        }
    }

    fn timer(&mut self, endpoint: &Endpoint, handle: &Handle, talk: &mut Talk) {
        let now = Instant::now();
        if talk.groups_at.is_some_and(|at| at <= now) {
            talk.groups_at = None;
            let groups = endpoint.group_filters();
            if !groups.is_empty() {
                talk.subscribe(&groups, handle);
            }
        }
        if talk.silence.is_some_and(|silence| silence.until <= now) {
            talk.silence = None;
            talk.subscribe(&endpoint.own_filters(None), handle);
            talk.groups_at = Some(now + GROUPS_AFTER);
            talk.state_at = Some(now);
        }
        if talk.state_at.is_some_and(|at| at <= now) {
            talk.state_at = None;
            talk.stated = Some(now);
            self.mailbox.repeat_state();
        }
    }

    /// Hands to the client what waits, in order.
    fn publish(&self, handle: &Handle, talk: &mut Talk) {
        if talk.since.is_none() {
            return;
        }
        while talk.in_flight() < IN_FLIGHT_MAX {
            let Some(post) = self.mailbox.next() else {
                return;
            };
            let (topic, payload, retain, qos) = match &post {
                Post::Kept { topic, payload, .. } => (topic, payload, true, Qos::AtLeastOnce),
                Post::Once(once) => {
                    let qos = match once.is_fleeting {
                        true => Qos::AtMostOnce,
                        false => Qos::AtLeastOnce,
                    };
                    (&once.topic, &once.payload, false, qos)
                }
            };
            let taken = handle.publish(Outgoing {
                topic,
                payload,
                retain,
                qos,
                properties: Properties::default(),
            });
            if !taken {
                self.mailbox.give_back(post);
                return;
            }
            talk.queued.push_back(post);
        }
    }

    /// Says what is still to be said, and that the node is gone from here.
    async fn leave(
        &self,
        endpoint: &Endpoint,
        connection: &mut Connection,
        handle: &Handle,
        talk: &mut Talk,
    ) {
        let why = match *self.stop.borrow() {
            true => "it was stopped",
            false => "it has another control broker now",
        };
        let payload = offline(talk.number, why).to_string().into_bytes();
        let last = self.mailbox.leave(&endpoint.topics.state(), payload);
        let say = async {
            self.publish(handle, talk);
            while talk.in_flight() > 0 || !self.mailbox.is_quiet() {
                match connection.next().await {
                    Ok(Event::Published(packet)) => talk.published(packet, &self.mailbox),
                    Ok(Event::Acknowledged(packet, answer)) => {
                        talk.acknowledged(packet, answer, &self.mailbox);
                    }
                    Ok(_) => {}
                    Err(_) => return,
                }
                self.publish(handle, talk);
            }
        };
        let _ = timeout(FAREWELL_WITHIN, say).await;
        let is_said = self.mailbox.is_settled(&endpoint.topics.state(), last);
        self.mailbox.forget(&endpoint.topics.state());
        if is_said {
            mqtt::farewell(connection, handle).await;
        }
        // Else the broker is to see the connection break, and publishes the will.
    }
}

impl Endpoint {
    fn takes(&self, scope: &Scope) -> bool {
        let scopes = self.scopes.as_ref();
        scopes.is_some_and(|scopes| scopes.contains(scope))
    }

    fn own_filters(&self, silence: Option<Silence>) -> Vec<String> {
        let topics = &self.topics;
        let asks = silence.is_none_or(|silence| !silence.is_complete);
        let mut all = vec![topics.state()];
        all.extend(asks.then(|| topics.requests()));
        all.extend(silence.is_none().then(|| topics.desired(&topics.scope())));
        all
    }

    fn group_filters(&self) -> Vec<String> {
        let scopes = self.scopes.iter().flatten();
        let groups = scopes.filter(|scope| matches!(scope, Scope::Group(_)));
        groups.map(|scope| self.topics.desired(scope)).collect()
    }
}

/// For how long nothing is asked for that was too large to be read.
#[derive(Clone, Copy)]
struct Silence {
    until: Instant,
    /// Whether requests are not asked for either.
    is_complete: bool,
}

/// One connection.
struct Talk {
    /// Its number.
    number: u64,
    /// Whether documents are not asked for.
    silence: Option<Silence>,
    /// When the broker has accepted us.
    since: Option<Instant>,
    /// When documents for groups are asked for.
    groups_at: Option<Instant>,
    /// When the state is to be published again, and when it last was.
    state_at: Option<Instant>,
    stated: Option<Instant>,
    /// Handed to the client and not written yet, in order.
    queued: VecDeque<Post>,
    /// Written and not acknowledged.
    written: BTreeMap<u16, Post>,
}

impl Talk {
    fn new(number: u64, silence: Option<Silence>) -> Talk {
        Talk {
            number,
            silence,
            since: None,
            groups_at: None,
            state_at: None,
            stated: None,
            queued: VecDeque::new(),
            written: BTreeMap::new(),
        }
    }

    fn in_flight(&self) -> usize {
        self.queued.len() + self.written.len()
    }

    fn next_timer(&self) -> Option<Instant> {
        let silence = self.silence.map(|silence| silence.until);
        let all = [self.groups_at, self.state_at, silence];
        all.into_iter().flatten().min()
    }

    fn subscribe(&mut self, filters: &[String], handle: &Handle) {
        let no_column = |_: &str| Err(String::new());
        // Root, node and groups hold nothing that is special in a filter.
        let filters = filters.iter();
        let filters: Vec<Filter> = filters
            .filter_map(|filter| Filter::parse(filter, no_column).ok())
            .collect();
        if !handle.subscribe(&filters, Qos::AtLeastOnce, Retained::SentAndMarked) {
            // The first thing that is asked on a connection always finds room.
            tracing::warn!("a subscription at the control broker found no room");
        }
    }

    fn published(&mut self, packet: u16, mailbox: &Mailbox) {
        let Some(post) = self.queued.pop_front() else {
            return;
        };
        if packet == 0 {
            mailbox.settled(&post);
        } else {
            self.written.insert(packet, post);
        }
    }

    fn acknowledged(&mut self, packet: u16, answer: Answer, mailbox: &Mailbox) {
        let Some(post) = self.written.remove(&packet) else {
            return;
        };
        match answer {
            Answer::Accepted => mailbox.settled(&post),
            Answer::Refused(why) | Answer::Later(why) => {
                let topic = match &post {
                    Post::Kept { topic, .. } => topic,
                    Post::Once(once) => &once.topic,
                };
                tracing::warn!("the control broker does not take what is said to {topic}: {why}");
                mailbox.settled(&post);
            }
        }
    }

    /// What the broker has not confirmed, in order.
    fn open(&mut self) -> impl DoubleEndedIterator<Item = Post> {
        let written = std::mem::take(&mut self.written);
        let queued = std::mem::take(&mut self.queued);
        let all: Vec<Post> = written.into_values().chain(queued).collect();
        all.into_iter()
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
