//! Until when absences wait: for each element a queue, since all of its waits are equally long.

use std::collections::VecDeque;

use super::automaton::{Automaton, bit};
use super::partials::{Partials, Slot};
use super::registers::Registers;
use crate::event::Timestamp;

/// A queue that is shorter than this is not worth sifting.
const SIFT_MIN: usize = 64;

/// The waits of all partial matches.
pub(super) struct Timers {
    /// By element.
    queues: Vec<Queue>,
}

#[derive(Default)]
struct Queue {
    /// The earliest first. A wait that has ended otherwise stays until it is found out.
    waits: VecDeque<Wait>,
    /// How many partial matches wait.
    live: usize,
}

#[derive(Clone, Copy)]
struct Wait {
    until: Timestamp,
    slot: Slot,
    generation: u32,
}

/// What tells whether a wait still counts.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) partials: &'a Partials,
    pub(super) registers: &'a Registers,
}

impl Known<'_> {
    fn counts(self, element: usize, wait: &Wait) -> bool {
        let partial = self.partials.at(wait.slot);
        let values = self.partials.values(wait.slot);
        partial.live
            && partial.generation == wait.generation
            && partial.control.active & bit(element) != 0
            && self.registers.until(element, values) == Some(wait.until)
    }
}

impl Timers {
    pub(super) fn new(elements: usize) -> Timers {
        Timers {
            queues: (0..elements).map(|_| Queue::default()).collect(),
        }
    }

    /// A partial match waits from now on.
    pub(super) fn add(&mut self, element: usize, slot: Slot, generation: u32, until: Timestamp) {
        if let Some(queue) = self.queues.get_mut(element) {
            queue.waits.push_back(Wait {
                until,
                slot,
                generation,
            });
        }
    }

    /// So many more partial matches wait.
    pub(super) fn count(&mut self, element: usize, more: bool) {
        if let Some(queue) = self.queues.get_mut(element) {
            queue.live = if more {
                queue.live + 1
            } else {
                queue.live.saturating_sub(1)
            };
        }
    }

    /// Drops waits that do not count any more: those in front, and all when they are the most.
    pub(super) fn tidy(&mut self, known: Known<'_>) {
        for (element, queue) in self.queues.iter_mut().enumerate() {
            while queue
                .waits
                .front()
                .is_some_and(|wait| !known.counts(element, wait))
            {
                queue.waits.pop_front();
            }
            if queue.waits.len() > SIFT_MIN.max(2 * queue.live) {
                queue.waits.retain(|wait| known.counts(element, wait));
            }
        }
    }

    /// When the first wait ends.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let fronts = self.queues.iter().filter_map(|queue| queue.waits.front());
        fronts.map(|wait| wait.until).min()
    }

    /// Takes out the waits that have ended: the partial matches and elements.
    pub(super) fn due(&mut self, now: Timestamp, known: Known<'_>, found: &mut Vec<(Slot, usize)>) {
        for (element, queue) in self.queues.iter_mut().enumerate() {
            while let Some(wait) = queue.waits.front().copied() {
                if wait.until > now {
                    break;
                }
                queue.waits.pop_front();
                if known.counts(element, &wait) {
                    found.push((wait.slot, element));
                }
            }
        }
    }

    /// Puts the queues in order, when waits were not added in it.
    pub(super) fn sort(&mut self) {
        for queue in &mut self.queues {
            queue.waits.make_contiguous().sort_by_key(|wait| wait.until);
        }
    }

    /// The shortest wait of an automaton.
    pub(super) fn shortest_ms(automaton: &Automaton, elements: usize) -> Option<i64> {
        (0..elements)
            .filter_map(|element| automaton.waits_ms(element))
            .min()
    }
}
