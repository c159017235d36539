//! Periods of one length, one after another from the moment at which the query began.

use serde::{Deserialize, Serialize};

use crate::event::Timestamp;

/// When a period ends. Periods in which nothing happens cost nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Periods {
    span_ms: i64,
    /// When the first one began.
    anchor: Option<i64>,
    /// When the one ends in which something is to be given.
    end: Option<Timestamp>,
}

impl Periods {
    pub(super) fn new(span_ms: i64) -> Periods {
        Periods {
            span_ms,
            anchor: None,
            end: None,
        }
    }

    /// The first period begins, if it has not.
    /// Whether it is not known yet where periods begin.
    pub(super) fn waits(&self) -> bool {
        self.anchor.is_none()
    }

    pub(super) fn start(&mut self, time: Timestamp) {
        self.anchor.get_or_insert(time.0);
    }

    /// There is something to be given at the end of the period that `time` lies in, or there was
    /// already.
    pub(super) fn open(&mut self, time: Timestamp) {
        self.start(time);
        if self.end.is_none() {
            self.end = Some(self.end_of(time));
        }
    }

    /// Like [`Periods::open`], for what the clock has brought about: at a border it belongs to the
    /// period that ends there.
    pub(super) fn open_or_end(&mut self, time: Timestamp) {
        self.start(time);
        if self.end.is_none() {
            let before = Timestamp(time.0.saturating_sub(1));
            self.end = Some(self.end_of(before));
        }
    }

    /// It has been given.
    pub(super) fn close(&mut self) {
        self.end = None;
    }

    /// Whether the end has come at which something is to be given.
    pub(super) fn is_over(&self, time: Timestamp) -> bool {
        self.end.is_some_and(|end| end <= time)
    }

    pub(super) fn end(&self) -> Option<Timestamp> {
        self.end
    }

    /// The earliest end that rows from `time` on could bring about.
    pub(super) fn earliest(&self, time: Timestamp) -> Timestamp {
        self.end.unwrap_or_else(|| self.end_of(time))
    }

    /// The end of the period that `time` lies in: behind `time`, at most a span.
    fn end_of(&self, time: Timestamp) -> Timestamp {
        let anchor = self.anchor.unwrap_or(time.0);
        // In 128 bits, since a time far in the past minus an anchor far in the future overflows.
        let since = i128::from(time.0) - i128::from(anchor);
        let rest = i128::from(self.span_ms) - since.rem_euclid(i128::from(self.span_ms.max(1)));
        time.plus_ms(i64::try_from(rest).unwrap_or(i64::MAX))
    }

    /// Goes on where another left off.
    pub(super) fn take_state(&mut self, state: &Periods) {
        self.anchor = state.anchor;
        self.end = state.end;
    }
}
