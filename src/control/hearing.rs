//! What has come in and waits to be looked at. All of it is bounded: of documents the latest of
//! each scope, of requests so many; what is beyond is counted and gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::Scope;
use super::request::{self, REQUEST_BYTES_MAX, Refused};

/// Requests that wait for their turn.
const REQUESTS_MAX: usize = 32;

/// A request as it came.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) verb: String,
    /// What it says; of one that is too large only whom to tell.
    pub(super) payload: Result<Vec<u8>, Refused>,
    pub(super) at: std::time::Instant,
}

/// Where the link puts what comes.
#[derive(Clone, Debug)]
pub(super) struct Hearing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    documents: Mutex<BTreeMap<Scope, Vec<u8>>>,
    /// Of whom this connection has brought a document.
    present: Mutex<BTreeSet<Scope>>,
    /// Rung when there is a document, or the connection has come or gone.
    bell: Sender<()>,
    requests: Sender<Asked>,
    counts: Counts,
}

/// What was not looked at.
#[derive(Debug, Default)]
struct Counts {
    retained: AtomicU64,
    beyond: AtomicU64,
    too_large: AtomicU64,
    foreign: AtomicU64,
}

impl Hearing {
    /// A hearing, its bell, and the requests that come.
    pub(super) fn new() -> (Hearing, Receiver<()>, Receiver<Asked>) {
        let (bell, rings) = bounded(1);
        let (requests, asked) = bounded(REQUESTS_MAX);
        let inner = Inner {
            documents: Mutex::default(),
            present: Mutex::default(),
            bell,
            requests,
            counts: Counts::default(),
        };
        (Hearing(Arc::new(inner)), rings, asked)
    }

    /// A document has come; one of the same scope that nobody has looked at is void.
    pub(super) fn document(&self, scope: Scope, payload: &[u8]) {
        let mut present = lock(&self.0.present);
        match payload.is_empty() {
            true => present.remove(&scope),
            false => present.insert(scope.clone()),
        };
        drop(present);
        lock(&self.0.documents).insert(scope, payload.to_vec());
        self.ring();
    }

    /// The next document, the node's own first.
    pub(super) fn next_document(&self) -> Option<(Scope, Vec<u8>)> {
        lock(&self.0.documents).pop_first()
    }

    /// A document is to be looked at later, unless another one of its scope has come.
    pub(super) fn put_back(&self, scope: Scope, payload: Vec<u8>) {
        lock(&self.0.documents).entry(scope).or_insert(payload);
    }

    /// Whether there is a document of this scope at the broker.
    pub(super) fn has(&self, scope: &Scope) -> bool {
        lock(&self.0.present).contains(scope)
    }

    /// A request has come.
    pub(super) fn request(&self, verb: String, payload: &[u8], is_retained: bool) {
        let counts = &self.0.counts;
        if is_retained {
            // A command that was left behind is not meant for now.
            counts.retained.fetch_add(1, Ordering::Relaxed);
            tracing::warn!("a retained request for {verb} is ignored");
            return;
        }
        let payload = match payload.len() > REQUEST_BYTES_MAX {
            true => {
                counts.too_large.fetch_add(1, Ordering::Relaxed);
                Err(request::too_large(payload))
            }
            false => Ok(payload.to_vec()),
        };
        let asked = Asked {
            verb,
            payload,
            at: std::time::Instant::now(),
        };
        if self.0.requests.try_send(asked).is_err() {
            let beyond = counts.beyond.fetch_add(1, Ordering::Relaxed) + 1;
            if beyond.is_power_of_two() {
                tracing::warn!(
                    beyond,
                    "more requests come than are answered: some are dropped"
                );
            }
        }
    }

    /// Something has come from a topic that is none of ours.
    pub(super) fn foreign(&self) {
        self.0.counts.foreign.fetch_add(1, Ordering::Relaxed);
    }

    /// A new connection: what it brings is what there is. What waits from before comes again when
    /// it was not withdrawn meanwhile, and in its order.
    pub(super) fn connected(&self) {
        self.forget_documents();
        lock(&self.0.present).clear();
        self.ring();
    }

    /// Documents that wait are not wanted any more.
    pub(super) fn forget_documents(&self) {
        lock(&self.0.documents).clear();
    }

    pub(super) fn ring(&self) {
        // A bell that has been rung and not heard says enough.
        let _ = self.0.bell.try_send(());
    }

    /// What was not looked at, by reason.
    pub(super) fn counts(&self) -> [(&'static str, u64); 4] {
        let counts = &self.0.counts;
        [
            ("requests_retained", &counts.retained),
            ("requests_beyond", &counts.beyond),
            ("requests_too_large", &counts.too_large),
            ("messages_foreign", &counts.foreign),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_document_does_not_come_before_the_nodes_own_on_another_connection() {
        let (hearing, _bell, _asked) = Hearing::new();
        let own = Scope::Node("pump-7".to_owned());
        hearing.connected();
        // It waits, as another one is being tried out, and the connection is made anew.
        hearing.document(Scope::Group("pumps".to_owned()), b"of the group");
        hearing.connected();
        assert_eq!(hearing.next_document(), None);
        hearing.document(own.clone(), b"its own");
        assert_eq!(hearing.next_document(), Some((own, b"its own".to_vec())));
    }
}
