//! Triggers: streams that the clock fills.

use serde::{Deserialize, Serialize};

use super::state::{Load, Part, Save, StateError};
use crate::event::{Batch, Stamp, Timestamp, Value};
use crate::sql::plan::{Trigger as Plan, TriggerAt};
use crate::sql::zone::Zone;

/// One trigger.
pub(super) struct Trigger {
    at: TriggerAt,
    state: State,
    pub(super) out: Batch,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct State {
    started: bool,
    next: Option<Timestamp>,
}

impl Trigger {
    pub(super) fn new(plan: &Plan) -> Trigger {
        Trigger {
            at: plan.at.clone(),
            state: State::default(),
            out: Batch::new(1),
        }
    }

    /// The clock is known for the first time.
    pub(super) fn start(&mut self, at: Stamp) {
        if self.state.started {
            return;
        }
        self.state.started = true;
        if self.at == TriggerAt::Start {
            self.give(at);
        } else {
            self.state.next = self.behind(at.time);
        }
    }

    /// The clock has reached the deadline.
    pub(super) fn fire(&mut self, at: Stamp) {
        if self.state.next.is_some_and(|next| next <= at.time) {
            self.give(at);
            self.state.next = self.behind(at.time);
        }
    }

    fn give(&mut self, at: Stamp) {
        self.out.push(at, [Value::Int(at.time.0)]);
    }

    /// The next instant behind `time`.
    fn behind(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.at {
            TriggerAt::Start => None,
            TriggerAt::Every(span_ms) => Some(time.plus_ms(*span_ms)),
            TriggerAt::Cron(cron) => cron.next_after(time, &Zone::UTC),
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.state.next
    }

    pub(super) fn save(&self, save: &mut Save<'_>) -> Result<(), StateError> {
        save.put(Part::Window, 0, &self.state)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        if let Some(state) = load.one(Part::Window)? {
            self.state = state;
        }
        Ok(())
    }
}
