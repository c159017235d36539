//! What the loop may be asked for besides another configuration.
//!
//! Whoever asks waits for so long as it likes. What has not been begun by then is not begun any
//! more: a request that was given up must not come about later by itself.

use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::tap::Tap;
use crate::event::Seq;

/// Something to be done.
#[derive(Debug)]
pub enum Errand {
    /// A checkpoint of everything so far, durable. Answered with the last input that it covers.
    Checkpoint {
        /// Who asks.
        answer: Answer<Seq>,
    },
    /// A sink is given nothing new for now, or what waits again.
    Pause {
        /// The sink.
        sink: String,
        /// Whether it is to be given nothing.
        paused: bool,
        /// Who asks.
        answer: Answer<()>,
    },
    /// What waits for a sink by now is given up, durably. Answered with how much it was.
    Purge {
        /// The sink.
        sink: String,
        /// Who asks.
        answer: Answer<u64>,
    },
    /// The rows of a stream are shown as they pass.
    Tap {
        /// Where they go.
        tap: Tap,
        /// Who asks.
        answer: Answer<()>,
    },
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    /// There is no such sink.
    #[error("there is no such sink any more")]
    NoSink,
    /// There is no such stream.
    #[error("there is no such stream")]
    NoStream,
    /// Too much of the kind is under way.
    #[error("too much of it is under way already; try again later")]
    TooMany,
    /// The daemon is about to end.
    #[error("the daemon is stopping")]
    Stopping,
    /// It was tried.
    #[error("{why}")]
    Failed {
        /// What has failed.
        why: String,
    },
}

/// Who waits for an answer.
#[derive(Debug)]
pub struct Answer<T> {
    to: Sender<Result<T, Undone>>,
    asks: Weak<()>,
}

/// What an answer comes through.
#[derive(Debug)]
pub struct Answered<T> {
    from: Receiver<Result<T, Undone>>,
    _asks: Arc<()>,
}

/// An answer, and where it is waited for.
#[must_use]
pub fn answer<T>() -> (Answer<T>, Answered<T>) {
    let (to, from) = bounded(1);
    let asks = Arc::new(());
    let answer = Answer {
        to,
        asks: Arc::downgrade(&asks),
    };
    (answer, Answered { from, _asks: asks })
}

impl<T> Answer<T> {
    /// Whether somebody still waits.
    pub(super) fn is_wanted(&self) -> bool {
        self.asks.strong_count() > 0
    }

    /// Answers.
    pub(super) fn give(self, result: Result<T, Undone>) {
        // Who asked may be gone.
        let _ = self.to.send(result);
    }
}

impl<T> Answered<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// When there is none by then, or there will be none.
    pub fn wait_until(&self, until: Instant) -> Result<Result<T, Undone>, RecvTimeoutError> {
        self.from.recv_deadline(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_any_more_for_what_was_given_up() {
        let (answer, answered) = answer::<u64>();
        assert!(answer.is_wanted());
        let now = Instant::now();
        assert_eq!(answered.wait_until(now), Err(RecvTimeoutError::Timeout));
        drop(answered);
        assert!(!answer.is_wanted());
        answer.give(Ok(1));
    }

    #[test]
    fn an_answer_that_is_lost_is_noticed_at_once() {
        let (answer, answered) = answer::<u64>();
        drop(answer);
        let later = Instant::now() + std::time::Duration::from_secs(3600);
        assert_eq!(
            answered.wait_until(later),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}
