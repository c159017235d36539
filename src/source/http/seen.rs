//! Which requests have been received already, by their `Idempotency-Key`.

use std::collections::{HashMap, VecDeque};

use crate::event::DeliveryMark;
use crate::source::redelivery::{TAIL_MARKS_MAX, digest};

/// What was received with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    /// Under which ordinal; 0 when a former process did.
    pub(super) ordinal: u64,
    /// Why it was not taken, if it was not, as far as this process knows.
    pub(super) why: Option<String>,
}

/// The last keys, at most [`TAIL_MARKS_MAX`]: as many as the log knows after a restart.
#[derive(Debug)]
pub(super) struct Seen {
    by_key: HashMap<u64, Receipt>,
    order: VecDeque<u64>,
}

impl Seen {
    /// Begins with those in the log, oldest first.
    pub(super) fn new(tail: impl IntoIterator<Item = DeliveryMark>) -> Seen {
        let mut seen = Seen {
            by_key: HashMap::new(),
            order: VecDeque::new(),
        };
        for mark in tail {
            let receipt = Receipt {
                ordinal: 0,
                why: None,
            };
            seen.remember(mark, receipt);
        }
        seen
    }

    /// What the log is to keep of a key: one of another path is another one.
    pub(super) fn mark(path: &str, key: &[u8]) -> DeliveryMark {
        DeliveryMark {
            packet: 0,
            digest: digest(path.as_bytes(), key),
        }
    }

    pub(super) fn receipt(&self, mark: DeliveryMark) -> Option<&Receipt> {
        self.by_key.get(&mark.digest)
    }

    pub(super) fn remember(&mut self, mark: DeliveryMark, receipt: Receipt) {
        if self.by_key.insert(mark.digest, receipt).is_some() {
            return;
        }
        self.order.push_back(mark.digest);
        if self.order.len() > TAIL_MARKS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.by_key.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let key = |number: usize| Seen::mark("/", number.to_string().as_bytes());
        let mut seen = Seen::new([key(0)]);
        assert_eq!(seen.receipt(key(0)).unwrap().ordinal, 0);
        assert_ne!(Seen::mark("/a", b"1"), Seen::mark("/b", b"1"));
        for number in 1..=TAIL_MARKS_MAX {
            let ordinal = u64::try_from(number).unwrap();
            seen.remember(key(number), Receipt { ordinal, why: None });
        }
        assert_eq!(seen.receipt(key(0)), None);
        assert_eq!(seen.receipt(key(1)).unwrap().ordinal, 1);
        assert_eq!(seen.by_key.len(), TAIL_MARKS_MAX);
    }
}
