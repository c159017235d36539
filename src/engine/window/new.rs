//! Windows made from their plans.

use super::super::aggregate::Leaves;
use super::super::expr::{Compiled, Cx, Operand, compile, predicate};
use super::batches::{LengthBatch, TimedBatch, Together};
use super::condition::Condition;
use super::delay::Delay;
use super::expression::{Expression, ExpressionBatch, State};
use super::external::{ExternalTime, ExternalTimeBatch};
use super::frequent::{Frequent, LossyFrequent};
use super::hop::Hop;
use super::keyed::Keyed;
use super::periods::Periods;
use super::ring::Ring;
use super::session::{OneSession, Sessions};
use super::sliding::{Length, Time};
use super::sort::Sort;
use super::unique::Unique;
use super::{AnyWindow, Kind, Window};
use crate::sql::plan::{self, Emit, Expr};

impl AnyWindow {
    /// No window.
    pub(in super::super) fn unbounded() -> AnyWindow {
        AnyWindow {
            kind: Kind::Unbounded,
        }
    }

    /// The window of a plan, for rows of which it keeps `keep`.
    pub(in super::super) fn new(
        plan: Option<&plan::Window>,
        emit: Emit,
        keep: &[usize],
        cx: Cx<'_>,
    ) -> AnyWindow {
        let seen = emit != Emit::Current;
        let timed = |periods: Periods| {
            let anchor = periods.anchor();
            Kind::TimedBatch(TimedBatch::new(periods, seen), anchor)
        };
        let kind = match plan {
            None => Kind::Unbounded,
            Some(plan) => match plan {
                plan::Window::Length { rows } => Kind::Length(Length::new(*rows, keep)),
                plan::Window::Time { span_ms } => Kind::Time(Time::new(*span_ms, None, seen, keep)),
                plan::Window::TimeLength { span_ms, rows } => {
                    Kind::Time(Time::new(*span_ms, Some(*rows), seen, keep))
                }
                plan::Window::LengthBatch { rows } => Kind::LengthBatch(LengthBatch::new(*rows)),
                plan::Window::TimeBatch { span_ms, start } => {
                    timed(Periods::spans(*span_ms, *start))
                }
                plan::Window::Tumbling {
                    span_ms,
                    offset_ms,
                    zone: None,
                } => timed(Periods::spans(*span_ms, Some(*offset_ms))),
                plan::Window::Tumbling {
                    span_ms,
                    offset_ms,
                    zone: Some(zone),
                } => timed(Periods::shown(*span_ms, *offset_ms, zone.clone())),
                plan::Window::Cron { cron, zone } => {
                    timed(Periods::points((**cron).clone(), zone.clone()))
                }
                plan => Kind::Other(Maker { seen, keep, cx }.make(plan)),
            },
        };
        AnyWindow { kind }
    }
}

/// What windows are made with.
struct Maker<'a> {
    seen: bool,
    keep: &'a [usize],
    cx: Cx<'a>,
}

impl Maker<'_> {
    fn make(&self, plan: &plan::Window) -> Box<dyn Window> {
        let Maker { seen, keep, .. } = *self;
        match plan {
            plan::Window::ExternalTime { time, span_ms } => {
                Box::new(ExternalTime::new(*span_ms, self.time(time), keep))
            }
            plan::Window::Delay { span_ms } => Box::new(Delay::new(*span_ms, Ring::new(keep))),
            plan::Window::Sort { rows, keys } => {
                let keys = keys.iter();
                let keys = keys.map(|key| (self.compile(&key.expr), key.descending));
                Box::new(Sort::new(*rows, keys.collect(), keep))
            }
            plan::Window::Unique { keys, first, bound } => {
                Box::new(Unique::new(self.keyed(keys, 0), *first, *bound))
            }
            plan::Window::Frequent { counters, keys } => {
                Box::new(Frequent::new(*counters, self.keyed(keys, 1)))
            }
            plan::Window::LossyFrequent {
                support,
                error,
                keys,
            } => Box::new(LossyFrequent::new(*support, *error, self.keyed(keys, 3))),
            plan::Window::Expression { condition } => {
                let cx = self.kept();
                let condition = Condition::new(condition, cx, Leaves::InOrder);
                Box::new(Expression::new(condition, Ring::new(keep)))
            }
            plan::Window::Hop { size_ms, hop_ms } => {
                Box::new(Hop::new(*size_ms, *hop_ms, seen, Ring::new(keep)))
            }
            plan::Window::ExternalTimeBatch {
                time,
                span_ms,
                start,
                timeout_ms,
            } => Box::new(ExternalTimeBatch::new(
                self.time(time),
                *span_ms,
                *start,
                *timeout_ms,
                seen,
            )),
            plan::Window::Session {
                gap_ms,
                key,
                latency_ms,
            } => self.session(*gap_ms, key.as_ref(), *latency_ms),
            plan::Window::ExpressionBatch { condition } => {
                Box::new(ExpressionBatch::new(self.growing(condition)))
            }
            plan::Window::State { begin, emit } => {
                let begin = predicate(begin, self.come());
                Box::new(State::new(begin, self.growing(emit)))
            }
            plan::Window::Batch => Box::new(Together::new()),
            plan::Window::Length { .. }
            | plan::Window::Time { .. }
            | plan::Window::TimeLength { .. }
            | plan::Window::LengthBatch { .. }
            | plan::Window::TimeBatch { .. }
            | plan::Window::Tumbling { .. }
            | plan::Window::Cron { .. } => unreachable!("made above"),
        }
    }

    fn session(&self, gap_ms: i64, key: Option<&Expr>, latency_ms: i64) -> Box<dyn Window> {
        if key.is_none() && latency_ms == 0 {
            return Box::new(OneSession::new(gap_ms));
        }
        let key = key.map(|key| self.compile(key));
        Box::new(Sessions::new(gap_ms, latency_ms, key, self.keep.to_vec()))
    }

    /// For rows as they come.
    fn come(&self) -> Cx<'_> {
        Cx {
            columns: self.keep,
            ..self.cx
        }
    }

    /// For rows as they are kept.
    fn kept(&self) -> Cx<'_> {
        Cx {
            columns: &[],
            ..self.cx
        }
    }

    fn compile(&self, expr: &Expr) -> Compiled {
        compile(expr, self.come())
    }

    fn time(&self, expr: &Expr) -> Operand<i64> {
        match self.compile(expr) {
            Compiled::Int(time) => time,
            // The binder lets only integers be times.
            _ => unreachable!("a time that is no integer"),
        }
    }

    fn keyed(&self, keys: &[Expr], notes: usize) -> Keyed {
        Keyed::new(keys, self.keep, notes, self.come())
    }

    /// Over rows as they come, which stay until all go.
    fn growing(&self, condition: &plan::Condition) -> Condition {
        Condition::new(condition, self.come(), Leaves::Never)
    }
}
