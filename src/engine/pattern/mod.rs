//! Patterns: rows that belong together, found as they come.

use super::analytic::Analytics;
use super::node::Stores;
use super::state::{Load, Save, StateError};
use super::window::Changes;
use crate::event::{Rows, Stamp, Timestamp};
use crate::sql::plan::{self, PatternInput};

/// What looks for the matches of one query.
pub(super) struct Matcher {
    analytics: Option<Box<Analytics>>,
}

impl Matcher {
    pub(super) fn new(
        plan: &PatternInput,
        analytics: &plan::Analytics,
        stores: &Stores,
    ) -> Matcher {
        let analytics = Analytics::new(analytics, plan.filter.as_ref(), stores);
        Matcher {
            analytics: analytics.map(Box::new),
        }
    }

    pub(super) fn fresh(&self) -> Matcher {
        Matcher {
            analytics: self.analytics.as_ref().map(|one| Box::new(one.fresh())),
        }
    }

    pub(super) fn push(&mut self, _input: usize, _rows: Rows<'_>, _to: &mut impl Changes) {}

    pub(super) fn fire(&mut self, _at: Stamp, _to: &mut impl Changes) {}

    pub(super) fn starts(&self) -> bool {
        false
    }

    pub(super) fn start(&mut self, _at: Stamp) {}

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        None
    }

    pub(super) fn earliest(&self, _time: Timestamp) -> Option<Timestamp> {
        None
    }

    pub(super) fn take_faults(&self) -> u64 {
        0
    }

    pub(super) fn save(&self, _save: &mut Save<'_>) -> Result<(), StateError> {
        Ok(())
    }

    pub(super) fn load(&mut self, _load: &Load<'_>) -> Result<(), StateError> {
        Ok(())
    }
}
