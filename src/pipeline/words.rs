//! What has become of outputs, for as long as it may be lost with the store.
//!
//! A sink is not given again what it was given, and not what was given up. So when a store that was
//! opened anew has lost the one or the other, it is done once more, in the same order and before
//! anything else: a later confirmation would otherwise pass for one of what was refused or given
//! up, and that would go without its dead letter.
//!
//! What was only confirmed is kept as one key for each sink, for ever; of the rest, what no sync
//! has covered: outputs that sinks had in hand, and those of a few groups.

use std::collections::VecDeque;

use super::letters::{GivenUp, Word};
use crate::event::OutputKey;
use crate::outbox::Reason;
use crate::sink::Confirmed;

/// The module's head says what it is.
#[derive(Debug)]
pub(super) struct Words {
    /// The last key that each sink has confirmed, or refused.
    confirmed: Vec<OutputKey>,
    /// Refusals, and what was given up, in order.
    open: VecDeque<Open>,
    /// How many syncs were begun.
    syncs: u64,
}

#[derive(Debug)]
struct Open {
    word: Word,
    /// How many syncs had been begun when it was written; a later one covers it.
    written: Option<u64>,
}

impl Words {
    pub(super) fn new(sinks: usize) -> Words {
        Words {
            confirmed: vec![OutputKey::default(); sinks],
            open: VecDeque::new(),
            syncs: 0,
        }
    }

    /// A sink has said something.
    pub(super) fn said(&mut self, one: Confirmed) {
        if let Some(known) = self.confirmed.get_mut(one.sink) {
            *known = one.key.max(*known);
        }
        if one.refused.is_some() {
            self.open.push_back(Open {
                word: Word::Said(one),
                written: None,
            });
        }
    }

    /// Outputs were given up, and that is written.
    pub(super) fn gave_up(&mut self, given_up: GivenUp) {
        // Refusals are known from the sink, and new ones that were not taken were never given.
        let is_refusal = matches!(given_up.reason, Reason::Refused { .. });
        if !is_refusal && given_up.through > given_up.after {
            self.open.push_back(Open {
                word: Word::GivenUp(given_up),
                written: Some(self.syncs),
            });
        }
    }

    /// What is to be written of it; it counts as written from now on.
    pub(super) fn take_unwritten(&mut self) -> Vec<Word> {
        let syncs = self.syncs;
        let unwritten = self.open.iter_mut().filter(|one| one.written.is_none());
        let unwritten = unwritten.map(|one| {
            one.written = Some(syncs);
            one.word.clone()
        });
        let unwritten: Vec<Word> = unwritten.collect();
        unwritten.into_iter().chain(self.confirmations()).collect()
    }

    /// All that may be lost.
    pub(super) fn all(&self) -> Vec<Word> {
        let open = self.open.iter().map(|one| one.word.clone());
        open.chain(self.confirmations()).collect()
    }

    /// A sync is begun, when the one before has ended.
    pub(super) fn sync_begins(&mut self) {
        self.syncs += 1;
    }

    /// The sync that was begun last has ended well.
    pub(super) fn synced(&mut self) {
        let syncs = self.syncs;
        self.open
            .retain(|one| one.written.is_none_or(|written| written >= syncs));
    }

    /// Whatever is written counts as durable.
    pub(super) fn written_is_durable(&mut self) {
        self.open.retain(|one| one.written.is_none());
    }

    /// All of it is durable.
    pub(super) fn all_durable(&mut self) {
        self.open.clear();
    }

    fn confirmations(&self) -> impl Iterator<Item = Word> + '_ {
        let confirmed = self.confirmed.iter().enumerate();
        confirmed.map(|(sink, key)| {
            Word::Said(Confirmed {
                sink,
                key: *key,
                refused: None,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Seq;
    use crate::sink::Refused;

    fn key(number: u64) -> OutputKey {
        OutputKey {
            seq: Seq(number),
            ..OutputKey::default()
        }
    }

    fn said(number: u64, refused: bool) -> Confirmed {
        Confirmed {
            sink: 0,
            key: key(number),
            refused: refused.then(|| Refused {
                why: "status 400".to_owned(),
                attempts: 1,
            }),
        }
    }

    fn given_up(after: u64, through: u64, reason: Reason) -> GivenUp {
        GivenUp {
            sink: 0,
            after: key(after),
            through: key(through),
            reason,
            letters: 0,
        }
    }

    #[test]
    fn what_a_sync_does_not_cover_is_kept_in_order() {
        let mut words = Words::new(1);
        words.said(said(3, true));
        words.said(said(4, false));
        let refused = |number| Word::Said(said(number, true));
        let confirmed = |number| Word::Said(said(number, false));
        assert_eq!(words.take_unwritten(), [refused(3), confirmed(4)]);
        assert_eq!(words.take_unwritten(), [confirmed(4)]);
        words.sync_begins();
        // Written while the sync is under way, which need not cover it.
        let expired = given_up(4, 9, Reason::Expired);
        words.gave_up(expired.clone());
        words.gave_up(given_up(9, 9, Reason::Full));
        words.said(said(11, true));
        let all = [
            refused(3),
            Word::GivenUp(expired.clone()),
            refused(11),
            confirmed(11),
        ];
        assert_eq!(words.all(), all);
        words.synced();
        assert_eq!(words.all(), all[1..]);
        words.sync_begins();
        words.synced();
        assert_eq!(words.all(), [refused(11), confirmed(11)]);
        assert_eq!(words.take_unwritten(), [refused(11), confirmed(11)]);
        words.sync_begins();
        words.synced();
        assert_eq!(words.all(), [confirmed(11)]);
    }
}
