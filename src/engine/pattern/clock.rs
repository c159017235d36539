//! What time does: waits end, matches outlive WITHIN, and what there is too much of goes.

use super::automaton::bit;
use super::code::{Code, Scoping};
use super::partials::{NONE, Order, Slot};
use super::state::State;
use super::timers::Known;
use crate::event::{Stamp, Timestamp};
use crate::sql::plan::Within;

impl State {
    /// The clock is known: absences at the start begin to wait.
    pub(super) fn start(&mut self, code: &Code, at: Stamp) {
        self.started = true;
        if code.tokens && code.scoping == Scoping::One {
            self.rearm(code, 0, at.time);
        }
    }

    /// In a SEQUENCE, a younger one that waits for what an older one waits for gives way.
    pub(super) fn give_way(&mut self, code: &Code, scope: Slot, time: Timestamp) {
        let mut occupied = 0;
        let mut slot = self.scopes.at(scope).list.oldest;
        while slot != NONE {
            let next = self.partials.newer(Order::Scope, slot);
            let partial = self.partials.at(slot);
            if partial.begun {
                let active = partial.control.active;
                if active & occupied == 0 {
                    occupied |= active;
                } else {
                    self.die(code, slot, time);
                }
            }
            slot = next;
        }
    }

    /// A row counts for WITHIN n EVENTS.
    pub(super) fn count_event(&mut self, code: &Code, scope: Slot, time: Timestamp) {
        let Some(Within::Events(events)) = code.within else {
            return;
        };
        let now = self.scopes.count_event(scope);
        let mut slot = self.scopes.at(scope).list.oldest;
        while slot != NONE {
            let next = self.partials.newer(Order::Scope, slot);
            let partial = self.partials.at(slot);
            let has_row = partial.first != Timestamp::MAX;
            if has_row && now - partial.first_event >= events {
                self.die(code, slot, time);
            } else if has_row {
                break;
            }
            slot = next;
        }
    }

    /// The clock has come to `now`: partial matches that cannot complete any more end.
    pub(super) fn expire(&mut self, code: &Code, now: Timestamp) {
        let Some(Within::Time(span_ms)) = code.within else {
            return;
        };
        while self.partials.aged.oldest != NONE {
            let oldest = self.partials.aged.oldest;
            if self.partials.at(oldest).first.plus_ms(span_ms) >= now {
                break;
            }
            let ended = self.partials.at(oldest).first.plus_ms(span_ms).plus_ms(1);
            self.die(code, oldest, ended.min(now));
        }
    }

    /// The clock has come to `at`, and no further than the first deadline.
    pub(super) fn fire(&mut self, code: &Code, at: Stamp) {
        self.expire(code, at.time);
        self.moment += 1;
        let mut due = std::mem::take(&mut self.scratch.due);
        due.clear();
        let known = Known {
            partials: &self.partials,
            registers: &code.registers,
        };
        self.timers.due(at.time, known, &mut due);
        due.sort_by(|(a, x), (b, y)| self.partials.order(*a, *b).then(x.cmp(y)));
        let due_with: Vec<u32> = due
            .iter()
            .map(|(slot, _)| self.partials.at(*slot).generation)
            .collect();
        for ((slot, element), generation) in due.iter().copied().zip(due_with) {
            let partial = self.partials.at(slot);
            let same = partial.live && partial.generation == generation;
            if same && partial.control.active & bit(element) != 0 {
                let mut control = partial.control;
                let effect = code.automaton.passed(element, &mut control);
                let (scope, begun) = (partial.scope, partial.begun);
                if !begun {
                    self.partials.begin(slot, None);
                }
                self.settle(code, slot, control, effect, at);
                if code.automaton.sequence {
                    self.give_way(code, scope, at.time);
                }
            }
        }
        self.scratch.due = due;
        self.trim(code, at.time);
        self.let_go(code);
        self.found.end(at);
    }

    /// Drops the oldest when there are too many.
    pub(super) fn trim(&mut self, code: &Code, time: Timestamp) {
        while self.partials.begun > code.matches_max {
            let Some(oldest) = self.partials.oldest() else {
                return;
            };
            self.dropped += 1;
            self.die(code, oldest, time);
        }
    }

    /// Forgets keys that stand as if they had never come.
    pub(super) fn let_go(&mut self, code: &Code) {
        self.scratch.fresh.clear();
        if code.timed {
            let known = Known {
                partials: &self.partials,
                registers: &code.registers,
            };
            self.timers.tidy(known);
        }
        while let Some(slot) = self.scratch.idle.pop() {
            let scope = self.scopes.at(slot);
            if scope.live && scope.partials == 0 && scope.armed && !code.keeps_keys {
                self.scopes.close(slot);
            }
        }
    }

    /// When something happens, if no row comes.
    pub(super) fn deadline(&self, code: &Code) -> Option<Timestamp> {
        let ends = match code.within {
            Some(Within::Time(span_ms)) => {
                // Nobody can tell when one ends, unless a wait begins with that: then all may end
                // with the youngest.
                let aged = self.partials.aged;
                let next = if code.tokens {
                    aged.oldest
                } else {
                    aged.newest
                };
                let next = (next != NONE).then(|| self.partials.at(next).first);
                next.map(|first| first.plus_ms(span_ms).plus_ms(1))
            }
            Some(Within::Events(_)) | None => None,
        };
        self.timers.next().into_iter().chain(ends).min()
    }
}
