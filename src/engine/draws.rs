//! What makes one evaluation different from every other: where it stands in the log.
//!
//! A call of `uuid` or `rand` is known by its site (where it was written), the input that is being
//! worked on, and how often it has been evaluated for that input. A site sees inputs in their
//! order, so a count begins anew with each of them and nothing has to be saved. All keys of a
//! partition share the counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::Seq;

/// The sites of an engine.
#[derive(Debug, Default)]
pub(super) struct Draws {
    /// Of the log, so that two logs do not draw the same.
    identity: AtomicU64,
    sites: Mutex<BTreeMap<i64, Arc<Site>>>,
}

/// One site. An engine runs on one thread; the lock is never waited for.
#[derive(Debug)]
pub(super) struct Site {
    number: i64,
    count: Mutex<(Seq, u64)>,
}

impl Draws {
    pub(super) fn identify(&self, identity: u64) {
        self.identity.store(identity, Ordering::Relaxed);
    }

    pub(super) fn identity(&self) -> i64 {
        i64::from_le_bytes(self.identity.load(Ordering::Relaxed).to_le_bytes())
    }

    /// The site with this number, however often it is compiled.
    pub(super) fn site(&self, number: i64) -> Arc<Site> {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let site = sites.entry(number).or_insert_with(|| {
            let count = Mutex::new((Seq(0), 0));
            Arc::new(Site { number, count })
        });
        Arc::clone(site)
    }
}

impl Site {
    pub(super) fn number(&self) -> i64 {
        self.number
    }

    /// How many evaluations there were before this one while `seq` was worked on.
    pub(super) fn next(&self, seq: Seq) -> u64 {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if count.0 != seq {
            *count = (seq, 0);
        }
        count.1 += 1;
        count.1 - 1
    }
}
