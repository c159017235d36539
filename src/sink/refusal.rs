//! What a sink does with an output that its far side says it will never take: gives it up, asks
//! again some times, or ends, as `error.strategy` says.

use std::time::{Duration, Instant};

use super::{Context, Refused, count};
use crate::config::options::{OptionFault, Options};
use crate::config::{OnRefusal, Then};
use crate::event::{Report, ReportKind};
use crate::pace::{Backoff, Sparse};

const LINE_SPAN: Duration = Duration::from_secs(10);

/// What is to be done with a refused output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is refused: the sink confirms it as such and goes on.
    GiveUp(Refused),
    /// It is to be sent again after this pause.
    Again(Duration),
    /// The sink is to end and to confirm nothing more. That is told already.
    Fail,
}

/// How often a far side was asked to take an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// In all.
    pub(super) attempts: u32,
    /// How often it has refused, this time included. The other attempts have failed for reasons
    /// that pass: they are none of `error.retry.attempts_max`.
    pub(super) refusals: u32,
}

/// Judges refusals, one output at a time.
#[derive(Debug)]
pub(super) struct Refusals {
    policy: OnRefusal,
    pace: Option<Backoff>,
    line: Sparse,
}

impl Refusals {
    /// As the options of a sink say.
    ///
    /// # Errors
    /// An option that has no effect, or lacks another.
    pub(super) fn new(options: &Options) -> Result<Refusals, OptionFault> {
        let policy = OnRefusal::of_sink(options)?;
        let pace = policy.retries.as_ref();
        Ok(Refusals {
            pace: pace.map(|retries| Backoff::new(retries.wait_min, retries.wait_max)),
            line: Sparse::new(LINE_SPAN),
            policy,
        })
    }

    /// The far side has refused an output and says `why`, as told by `asked`.
    pub(super) fn judge(&mut self, context: &Context, why: &str, asked: Asked) -> Judgement {
        let Asked { attempts, refusals } = asked;
        let stream = context.name.as_str();
        let more = self
            .policy
            .retries
            .filter(|all| refusals < all.attempts_max);
        if let (Some(_), Some(pace)) = (more, &mut self.pace) {
            count(&context.metrics.retries);
            let wait = pace.wait();
            if let Some(count) = self.line.occurred(Instant::now()) {
                tracing::warn!(stream, count, "refused: {why}; asks again in {wait:.1?}");
            }
            return Judgement::Again(wait);
        }
        if let Some(pace) = &mut self.pace {
            pace.reset();
        }
        match self.policy.then {
            Then::GiveUp => {
                count(&context.metrics.refused);
                if let Some(count) = self.line.occurred(Instant::now()) {
                    tracing::error!(stream, count, attempts, "given up: refused with {why}");
                }
                Judgement::GiveUp(Refused::new(why, attempts))
            }
            Then::Fail => {
                tracing::error!(
                    stream,
                    "the sink ends, as its error.strategy says: an output was refused with {why}; \
                     everything stays in its outbox"
                );
                context.reporter.tell(Report {
                    kind: ReportKind::SinkFailed,
                    stream: context.name.clone(),
                    reason: why.to_owned(),
                    duration_ms: None,
                    details: None,
                });
                Judgement::Fail
            }
        }
    }

    /// An output was taken: the next refusal is a first one.
    pub(super) fn reset(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.reset();
        }
    }
}
