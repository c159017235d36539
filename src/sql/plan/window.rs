//! Windows: which of the latest rows a query sees at once.

use super::super::cron::Cron;
use super::super::zone::Zone;
use super::{Aggregate, Expr, SortKey};

/// A window. Its expressions are over the columns that the query keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum Window {
    /// The last `rows` rows.
    Length {
        /// At least 1.
        rows: u64,
    },
    /// The rows of the last `span_ms`; a row leaves when the clock reaches its time + `span_ms`.
    Time {
        /// At least 1.
        span_ms: i64,
    },
    /// The last `rows` rows, as long as they are of the last `span_ms`.
    TimeLength {
        /// At least 1.
        span_ms: i64,
        /// At least 1.
        rows: u64,
    },
    /// The rows of the last `span_ms` by a time of their own, which alone moves the window.
    ExternalTime {
        /// Milliseconds.
        time: Box<Expr>,
        /// At least 1.
        span_ms: i64,
    },
    /// Rows come in `span_ms` later, and stay.
    Delay {
        /// At least 1.
        span_ms: i64,
    },
    /// The `rows` rows that come first in an order.
    Sort {
        /// At least 1.
        rows: u64,
        /// At least one.
        keys: Vec<SortKey>,
    },
    /// One row for each key.
    Unique {
        /// What is different between rows of the window. At least one.
        keys: Vec<Expr>,
        /// Whether it is the first row of a key, and later ones are passed over; else the latest.
        first: bool,
        /// What else makes rows leave.
        bound: UniqueBound,
    },
    /// The latest row of each of the keys that come most often (Misra and Gries).
    Frequent {
        /// How many keys. At least 1.
        counters: u64,
        /// The key.
        keys: Vec<Expr>,
    },
    /// The latest row of each key that makes up at least `support` of all rows (Manku and
    /// Motwani).
    LossyFrequent {
        /// Above `error`, at most 1.
        support: f64,
        /// Above 0.
        error: f64,
        /// The key.
        keys: Vec<Expr>,
    },
    /// The latest rows for which a condition holds.
    Expression {
        /// Over the rows of the window, the new one included.
        condition: Box<Condition>,
    },
    /// Every `rows` rows.
    LengthBatch {
        /// At least 1.
        rows: u64,
    },
    /// Every `span_ms` from the first row's time, or from `start`.
    TimeBatch {
        /// At least 1.
        span_ms: i64,
        /// A time at which a batch begins.
        start: Option<i64>,
    },
    /// Every `span_ms`, aligned to the epoch plus `offset_ms`.
    Tumbling {
        /// At least 1. With a zone, whole days.
        span_ms: i64,
        /// From 0 to below `span_ms`.
        offset_ms: i64,
        /// Whose clocks are aligned; none: those of universal time.
        zone: Option<Zone>,
    },
    /// The rows of the last `size_ms`, every `hop_ms`, aligned to the epoch.
    Hop {
        /// At least 1.
        size_ms: i64,
        /// At least 1.
        hop_ms: i64,
    },
    /// Every `span_ms` by a time of the rows, from the first row's or from `start`.
    ExternalTimeBatch {
        /// Milliseconds.
        time: Box<Expr>,
        /// At least 1.
        span_ms: i64,
        /// A time at which a batch begins.
        start: Option<i64>,
        /// The batch also closes when no row has come for so long.
        timeout_ms: Option<i64>,
    },
    /// Rows between which there is no silence of `gap_ms`, for each key.
    Session {
        /// At least 1.
        gap_ms: i64,
        /// The key; none: all rows together.
        key: Option<Expr>,
        /// How much later than its end a session closes.
        latency_ms: i64,
    },
    /// From one point in time to the next.
    Cron {
        /// The points in time.
        cron: Box<Cron>,
        /// Whose clocks show them.
        zone: Zone,
    },
    /// Rows for which a condition holds; the first for which it does not begins the next batch.
    ExpressionBatch {
        /// Over the rows of the batch, the new one included.
        condition: Box<Condition>,
    },
    /// From a row for which `begin` holds to one at which `emit` holds; rows between are in no
    /// batch.
    State {
        /// Over the row.
        begin: Expr,
        /// Over the rows of the batch, the new one included.
        emit: Box<Condition>,
    },
    /// The rows that one input caused and that arrive together.
    Batch,
}

/// What makes rows leave a window that has one row per key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueBound {
    /// Nothing else.
    None,
    /// There are so many keys; the row that has been there longest leaves.
    Rows(u64),
    /// A row leaves so many milliseconds after its time.
    Span(i64),
}

/// A condition over the rows of a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What is computed over the rows. Over the row.
    pub aggregates: Vec<Aggregate>,
    /// Columns of the oldest row that are read.
    pub first: Vec<usize>,
    /// Columns of the newest row that are read.
    pub last: Vec<usize>,
    /// Over the results of the aggregates, then the columns of `first`, then those of `last`.
    pub holds: Expr,
}

impl Condition {
    fn for_each_column(&mut self, visit: &mut dyn FnMut(&mut usize)) {
        let Condition {
            aggregates,
            first,
            last,
            holds: _,
        } = self;
        for expr in aggregates.iter_mut().flat_map(Aggregate::exprs_mut) {
            expr.for_each_column(visit);
        }
        first.iter_mut().chain(last).for_each(visit);
    }

    fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let aggregates = self.aggregates.iter().flat_map(Aggregate::exprs);
        aggregates.chain([&self.holds])
    }
}

impl Window {
    /// Whether it gives nothing until it closes, and then all at once.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        match self {
            Window::Length { .. }
            | Window::Time { .. }
            | Window::TimeLength { .. }
            | Window::ExternalTime { .. }
            | Window::Delay { .. }
            | Window::Sort { .. }
            | Window::Unique { .. }
            | Window::Frequent { .. }
            | Window::LossyFrequent { .. }
            | Window::Expression { .. } => false,
            Window::LengthBatch { .. }
            | Window::TimeBatch { .. }
            | Window::Tumbling { .. }
            | Window::Hop { .. }
            | Window::ExternalTimeBatch { .. }
            | Window::Session { .. }
            | Window::Cron { .. }
            | Window::ExpressionBatch { .. }
            | Window::State { .. }
            | Window::Batch => true,
        }
    }

    /// Whether a row that has come in ever leaves.
    #[must_use]
    pub fn rows_leave(&self) -> bool {
        !matches!(
            self,
            Window::Delay { .. }
                | Window::Unique {
                    first: true,
                    bound: UniqueBound::None,
                    ..
                }
        )
    }

    /// Whether it has a row for every key there ever was.
    #[must_use]
    pub fn keeps_every_key(&self) -> bool {
        let unbounded = UniqueBound::None;
        matches!(self, Window::Unique { bound, .. } if *bound == unbounded)
    }

    /// Every expression.
    #[must_use]
    pub fn exprs(&self) -> Vec<&Expr> {
        match self {
            Window::Length { .. }
            | Window::Time { .. }
            | Window::TimeLength { .. }
            | Window::Delay { .. }
            | Window::LengthBatch { .. }
            | Window::TimeBatch { .. }
            | Window::Tumbling { .. }
            | Window::Hop { .. }
            | Window::Cron { .. }
            | Window::Batch => Vec::new(),
            Window::ExternalTime { time, .. } | Window::ExternalTimeBatch { time, .. } => {
                vec![time]
            }
            Window::Sort { keys, .. } => keys.iter().map(|key| &key.expr).collect(),
            Window::Unique { keys, .. }
            | Window::Frequent { keys, .. }
            | Window::LossyFrequent { keys, .. } => keys.iter().collect(),
            Window::Session { key, .. } => key.iter().collect(),
            Window::Expression { condition } | Window::ExpressionBatch { condition } => {
                condition.exprs().collect()
            }
            Window::State { begin, emit } => std::iter::once(begin).chain(emit.exprs()).collect(),
        }
    }

    /// Calls `visit` with the number of every column of a row that is read.
    pub fn for_each_column(&mut self, visit: &mut dyn FnMut(&mut usize)) {
        match self {
            Window::Length { .. }
            | Window::Time { .. }
            | Window::TimeLength { .. }
            | Window::Delay { .. }
            | Window::LengthBatch { .. }
            | Window::TimeBatch { .. }
            | Window::Tumbling { .. }
            | Window::Hop { .. }
            | Window::Cron { .. }
            | Window::Batch => {}
            Window::ExternalTime { time, .. } | Window::ExternalTimeBatch { time, .. } => {
                time.for_each_column(visit);
            }
            Window::Sort { keys, .. } => {
                for key in keys {
                    key.expr.for_each_column(visit);
                }
            }
            Window::Unique { keys, .. }
            | Window::Frequent { keys, .. }
            | Window::LossyFrequent { keys, .. } => {
                for key in keys {
                    key.for_each_column(visit);
                }
            }
            Window::Session { key, .. } => {
                if let Some(key) = key {
                    key.for_each_column(visit);
                }
            }
            Window::Expression { condition } | Window::ExpressionBatch { condition } => {
                condition.for_each_column(visit);
            }
            Window::State { begin, emit } => {
                begin.for_each_column(visit);
                emit.for_each_column(visit);
            }
        }
    }
}
