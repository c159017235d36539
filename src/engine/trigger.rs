//! Triggers: streams that the clock fills.

use serde::{Deserialize, Serialize};

use super::state::{Load, Part, Save, StateError};
use crate::event::{Batch, Stamp, Timestamp, Value};
use crate::sql::plan::{Trigger as Plan, TriggerAt};
use crate::sql::zone::Zone;

/// How often a trigger fires while its clock makes one jump. A machine that learns the time may
/// jump over fifty years, in which there are more seconds than anybody waits for.
const JUMP_FIRES_MAX: u32 = 10_000;

/// One trigger.
pub(super) struct Trigger {
    at: TriggerAt,
    state: State,
    /// Where the clock is on its way to, and how often it has fired since.
    jump: (Timestamp, u32),
    /// Jumps on which instants were passed over.
    cut: u64,
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
            jump: (Timestamp::MIN, 0),
            cut: 0,
            out: Batch::new(1),
        }
    }

    /// Whether it still waits for the clock to be known.
    pub(super) fn starts(&self) -> bool {
        !self.state.started
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

    /// The clock has reached the deadline, on its way to `until`.
    pub(super) fn fire(&mut self, at: Stamp, until: Timestamp) {
        if self.state.next.is_none_or(|next| next > at.time) {
            return;
        }
        self.give(at);
        if self.jump.0 != until {
            self.jump = (until, 0);
        }
        self.jump.1 += 1;
        self.state.next = self.behind(at.time);
        if self.jump.1 == JUMP_FIRES_MAX && self.state.next.is_some_and(|next| next <= until) {
            self.state.next = self.beyond(at.time, until);
            self.cut += 1;
        }
    }

    /// Jumps on which instants were passed over, since the last call.
    pub(super) fn take_cut(&mut self) -> u64 {
        std::mem::take(&mut self.cut)
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

    /// The first instant behind `until`, of those that follow `time`.
    fn beyond(&self, time: Timestamp, until: Timestamp) -> Option<Timestamp> {
        match &self.at {
            TriggerAt::Every(span_ms) => {
                let spans = until.0.saturating_sub(time.0) / span_ms.max(&1) + 1;
                Some(time.plus_ms(span_ms.saturating_mul(spans)))
            }
            TriggerAt::Start | TriggerAt::Cron(_) => self.behind(until),
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.state.next
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        save.put(Part::Window, 0, &self.state)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        if let Some(state) = load.one(Part::Window)? {
            self.state = state;
        }
        Ok(())
    }
}
