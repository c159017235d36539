//! What is to be published: the latest of each retained topic, and what is said once.
//!
//! Whoever has something to say puts it here and goes on; the link takes it when there is a
//! connection. What is retained is said again on every connection, as a broker may have lost it.
//! What is said once waits in a bounded queue, of which the oldest gives way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::told::StateBody;

/// Messages that wait for a connection and are said once.
const ONCE_MAX: usize = 256;
/// Their bytes.
const ONCE_BYTES_MAX: usize = 4 << 20;

/// Shared by those who speak and the link.
#[derive(Clone, Debug, Default)]
pub(super) struct Mailbox(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    kept: BTreeMap<String, Kept>,
    once: VecDeque<Once>,
    once_bytes: usize,
    dropped: u64,
    /// Which is the topic of the node's state, and what it says.
    birth: Option<(String, StateBody)>,
    /// The number of the connection, while there is one.
    connection: Option<u64>,
    /// The first connection that is one to whom it is spoken now.
    first: u64,
    /// Whether the connection is about to end.
    is_leaving: bool,
    /// Why there is no connection to whom it is spoken now.
    trouble: Option<String>,
}

#[derive(Debug, Default)]
struct Kept {
    payload: Vec<u8>,
    /// Grows with every change.
    version: u64,
    /// What was handed to this connection.
    sent: u64,
    /// What the broker has on this or an earlier connection, and the last that said so.
    acked: u64,
    acked_on: u64,
    /// Whether it goes when the broker knows that it is empty.
    goes: bool,
}

/// A message that is said once.
#[derive(Clone, Debug)]
pub(super) struct Once {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// Whether it is of no use later.
    pub(super) is_fleeting: bool,
}

/// What is to be published next.
#[derive(Clone, Debug)]
pub(super) enum Post {
    /// Retained: its topic and its version.
    Kept {
        topic: String,
        payload: Vec<u8>,
        version: u64,
    },
    Once(Once),
}

impl Mailbox {
    /// A retained message; none other of its topic is published any more. Its version.
    pub(super) fn keep(&self, topic: &str, payload: Vec<u8>) -> u64 {
        let mut state = self.lock();
        let version = state.keep(topic, payload, false);
        drop(state);
        self.0.changed.notify_one();
        version
    }

    /// What the node's topic holds when this connection ends, whatever else is said of its state
    /// meanwhile: that is for the next one.
    pub(super) fn leave(&self, topic: &str, payload: Vec<u8>) -> u64 {
        self.lock().is_leaving = true;
        self.keep(topic, payload)
    }

    /// A topic that is to hold nothing any more.
    pub(super) fn clear(&self, topic: &str) {
        let mut state = self.lock();
        state.keep(topic, Vec::new(), true);
        drop(state);
        self.0.changed.notify_one();
    }

    /// Something that is said once.
    pub(super) fn send(&self, once: Once) {
        let mut state = self.lock();
        if once.is_fleeting && state.connection.is_none() {
            return;
        }
        state.once_bytes += once.payload.len();
        state.once.push_back(once);
        state.bound();
        drop(state);
        self.0.changed.notify_one();
    }

    /// How the node is; published with the number of the connection.
    pub(super) fn set_state(&self, topic: &str, body: StateBody) {
        let mut state = self.lock();
        let birth = Some((topic.to_owned(), body));
        if state.birth == birth {
            return;
        }
        state.birth = birth;
        state.compose();
        drop(state);
        self.0.changed.notify_one();
    }

    /// The same again: something else stands there.
    pub(super) fn repeat_state(&self) {
        self.lock().compose();
        self.0.changed.notify_one();
    }

    /// Whether the broker that is spoken to now has this version of a retained message, or a later
    /// one.
    pub(super) fn is_known(&self, topic: &str, version: u64) -> bool {
        let state = self.lock();
        let kept = state.kept.get(topic);
        kept.is_some_and(|kept| kept.acked >= version && kept.acked_on >= state.first)
    }

    /// The same of whom it was spoken to before, who may just be left.
    pub(super) fn is_settled(&self, topic: &str, version: u64) -> bool {
        let state = self.lock();
        let kept = state.kept.get(topic);
        kept.is_some_and(|kept| kept.acked >= version)
    }

    /// From the next connection on it is another broker.
    pub(super) fn moves(&self) {
        let mut state = self.lock();
        state.trouble = None;
        if let Some(connection) = state.connection {
            state.first = connection + 1;
        }
    }

    /// There is no connection, and why.
    pub(super) fn failed(&self, why: String) {
        self.lock().trouble = Some(why);
    }

    /// Why there is none; nothing when there is one, or none has been tried.
    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// The number of the connection, while there is one.
    pub(super) fn connection(&self) -> Option<u64> {
        self.lock().connection
    }

    /// Messages that found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Forgets what is retained: the topics are others.
    pub(super) fn forget_all(&self) {
        let mut state = self.lock();
        state.kept.clear();
        state.birth = None;
    }

    /// Forgets what one topic holds; the broker keeps it.
    pub(super) fn forget(&self, topic: &str) {
        self.lock().kept.remove(topic);
    }

    /// A connection is there.
    pub(super) fn connected(&self, number: u64) {
        let mut state = self.lock();
        state.connection = Some(number);
        state.is_leaving = false;
        state.trouble = None;
        state.kept.values_mut().for_each(|kept| kept.sent = 0);
        state.compose();
        drop(state);
        self.0.changed.notify_one();
    }

    /// It is gone; what it has not confirmed is to be said again.
    pub(super) fn disconnected(&self, open: impl DoubleEndedIterator<Item = Post>) {
        let mut state = self.lock();
        state.connection = None;
        for post in open.rev() {
            match post {
                Post::Once(once) if !once.is_fleeting => {
                    state.once_bytes += once.payload.len();
                    state.once.push_front(once);
                }
                Post::Once(_) | Post::Kept { .. } => {}
            }
        }
        state.bound();
    }

    /// What is to be published next, the state before all else.
    pub(super) fn next(&self) -> Option<Post> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let first = state.birth.as_ref().map(|(topic, _)| topic.clone());
        let birth = first.filter(|topic| state.kept.get(topic).is_some_and(Kept::waits));
        let waiting = || {
            let mut all = state.kept.iter();
            let found = all.find(|(_, kept)| kept.waits());
            found.map(|(topic, _)| topic.clone())
        };
        if let Some(topic) = birth.or_else(waiting) {
            let kept = state.kept.get_mut(&topic)?;
            kept.sent = kept.version;
            return Some(Post::Kept {
                payload: kept.payload.clone(),
                version: kept.version,
                topic,
            });
        }
        let once = state.once.pop_front()?;
        state.once_bytes -= once.payload.len();
        Some(Post::Once(once))
    }

    /// It was not taken, or the broker does not take it now.
    pub(super) fn give_back(&self, post: Post) {
        let mut state = self.lock();
        match post {
            Post::Kept { topic, .. } => {
                if let Some(kept) = state.kept.get_mut(&topic) {
                    kept.sent = 0;
                }
            }
            Post::Once(once) => {
                state.once_bytes += once.payload.len();
                state.once.push_front(once);
            }
        }
    }

    /// The broker has it, or will never take it.
    pub(super) fn settled(&self, post: &Post) {
        let Post::Kept { topic, version, .. } = post else {
            return;
        };
        let mut state = self.lock();
        let connection = state.connection.unwrap_or(0);
        let Some(kept) = state.kept.get_mut(topic) else {
            return;
        };
        kept.acked = kept.acked.max(*version);
        kept.acked_on = connection;
        if kept.goes && kept.acked == kept.version {
            state.kept.remove(topic);
        }
    }

    /// Whether nothing waits to be published, and nothing retained to be confirmed.
    pub(super) fn is_quiet(&self) -> bool {
        let state = self.lock();
        let is_settled = |kept: &Kept| kept.acked == kept.version;
        state.once.is_empty() && state.kept.values().all(is_settled)
    }

    /// Waits until there may be something new.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn waits(&self) -> bool {
        self.sent < self.version
    }
}

impl State {
    fn keep(&mut self, topic: &str, payload: Vec<u8>, goes: bool) -> u64 {
        let kept = self.kept.entry(topic.to_owned()).or_default();
        kept.version += 1;
        kept.payload = payload;
        kept.goes = goes;
        kept.version
    }

    /// The state with the number of this connection.
    fn compose(&mut self) {
        let (Some(connection), Some((topic, body))) = (self.connection, self.birth.clone()) else {
            return;
        };
        if self.is_leaving {
            return;
        }
        self.keep(
            &topic,
            body.json(connection).to_string().into_bytes(),
            false,
        );
    }

    fn bound(&mut self) {
        while self.once.len() > ONCE_MAX || self.once_bytes > ONCE_BYTES_MAX {
            let Some(oldest) = self.once.pop_front() else {
                return;
            };
            self.once_bytes -= oldest.payload.len();
            self.dropped += 1;
        }
    }
}
