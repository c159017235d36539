//! What happens to the rows that have come out of a query on their way to its target: DISTINCT
//! over all of them, then OUTPUT.

mod period;
mod rate;

use super::distinct::Unique;
use super::gathered::Gathered;
use super::output::Output;
use super::state::{Load, Part, Save, StateError};
use crate::event::{Batch, Row, Stamp, Timestamp};
use crate::sql::plan::{Flow, Keep, Period, Query, Target};
use period::Periods;
use rate::Rate;

/// Which part of the tail a saved state belongs to, beside those of the query before it.
const SEEN: u16 = 0xFF00;
const RATE: u16 = 0xFF01;

/// The end of a query that does not give its rows as they arise.
pub(super) struct Tail {
    /// DISTINCT over rows that never leave: those that have been given.
    seen: Option<Unique>,
    limit: Limit,
    /// What has come out and not yet been taken.
    pub(super) out: Batch,
}

enum Limit {
    None,
    Rate(Rate),
    Snapshot(Snapshot),
}

/// OUTPUT SNAPSHOT.
struct Snapshot {
    periods: Periods,
    /// The rows to be shown where nothing before this knows them: of the last batch, or the last
    /// row. None: they are asked for when they are due.
    held: Option<Gathered>,
}

/// What a query shows when it is asked what its result is.
pub(super) trait Shows {
    /// Whether there is any row.
    fn has_rows(&self) -> bool;
    /// Puts the rows that make up the result at this moment into the output.
    fn show(&mut self, at: Stamp);
    /// Where rows come out.
    fn output(&mut self) -> &mut Output;
}

impl Tail {
    /// None: rows reach the target as they arise.
    pub(super) fn new(query: &Query) -> Option<Tail> {
        let flow = query.flow();
        let limit = match &query.rate {
            None => Limit::None,
            Some(plan) => match (plan.keep, plan.period) {
                (Keep::Snapshot, Period::Time(span_ms)) => Limit::Snapshot(Snapshot {
                    periods: Periods::new(span_ms),
                    held: held(query, flow),
                }),
                _ => Limit::Rate(Rate::new(query, plan)),
            },
        };
        let snapshot = matches!(limit, Limit::Snapshot(_));
        let seen = query.distinct && flow == Flow::Endless && !snapshot;
        if !seen && matches!(limit, Limit::None) {
            return None;
        }
        // What stands behind the output columns is for a table, or for the rate alone.
        let width = match query.target {
            Target::Stream(_) => query.names.len(),
            Target::Table { .. } => query.select.len(),
        };
        Some(Tail {
            seen: seen.then(|| Unique::new(query.names.len())),
            limit,
            out: Batch::new(width.max(1)),
        })
    }

    /// Whether it wants to know when the clock is first known.
    pub(super) fn starts(&self) -> bool {
        match &self.limit {
            Limit::None => false,
            Limit::Rate(rate) => rate.periods().is_some_and(Periods::waits),
            Limit::Snapshot(snapshot) => snapshot.periods.waits(),
        }
    }

    /// The clock is known for the first time: periods begin.
    pub(super) fn start(&mut self, at: Stamp) {
        match &mut self.limit {
            Limit::None => {}
            Limit::Rate(rate) => rate.start(at.time),
            Limit::Snapshot(snapshot) => snapshot.periods.start(at.time),
        }
    }

    /// When a snapshot is due before a row of this time, which another query has made at the very
    /// moment at which it falls due.
    pub(super) fn overdue(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.limit {
            Limit::Snapshot(snapshot) => snapshot.periods.end().filter(|end| *end <= time),
            Limit::None | Limit::Rate(_) => None,
        }
    }

    /// Rows have come to the query, the first of them at `at`: takes what has come out.
    pub(super) fn take(&mut self, query: &mut dyn Shows, at: Stamp) {
        self.take_at(query, at, Periods::open);
    }

    /// Takes what has come out. If there is something to be shown now, `open` says until when.
    fn take_at(
        &mut self,
        query: &mut dyn Shows,
        at: Stamp,
        open: impl Fn(&mut Periods, Timestamp),
    ) {
        let output = query.output();
        if let Some(seen) = &mut self.seen {
            seen.filter(&mut output.out);
        }
        match &mut self.limit {
            Limit::None => append(&mut output.out, &mut self.out),
            Limit::Rate(rate) => rate.take(&mut output.out, &mut self.out),
            Limit::Snapshot(snapshot) => {
                let shows = match &mut snapshot.held {
                    None => query.has_rows(),
                    Some(held) => {
                        hold(output, held);
                        !held.rows().is_empty()
                    }
                };
                if shows {
                    open(&mut snapshot.periods, at.time);
                }
            }
        }
    }

    /// The clock has reached `at`, and the query has done what was due then.
    pub(super) fn fire(&mut self, query: &mut dyn Shows, at: Stamp) {
        self.take_at(query, at, Periods::open_or_end);
        match &mut self.limit {
            Limit::None => {}
            Limit::Rate(rate) => rate.fire(at, &mut self.out),
            Limit::Snapshot(snapshot) => {
                if !snapshot.periods.is_over(at.time) {
                    return;
                }
                snapshot.periods.close();
                let rows = match &mut snapshot.held {
                    None => {
                        query.show(at);
                        let output = query.output();
                        append(&mut output.out, &mut self.out);
                        query.has_rows()
                    }
                    Some(held) => {
                        for row in held.rows().rows().iter() {
                            self.out.push(at, row.values.iter().cloned());
                        }
                        !held.rows().is_empty()
                    }
                };
                if rows {
                    snapshot.periods.open(at.time);
                }
            }
        }
    }

    /// Whether it gives again what it has given, as long as nothing changes.
    pub(super) fn repeats(&self) -> bool {
        matches!(self.limit, Limit::Snapshot(_))
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        match &self.limit {
            Limit::None => None,
            Limit::Rate(rate) => rate.periods()?.end(),
            Limit::Snapshot(snapshot) => snapshot.periods.end(),
        }
    }

    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        match &self.limit {
            Limit::None => None,
            Limit::Rate(rate) => Some(rate.periods()?.earliest(time)),
            Limit::Snapshot(snapshot) => Some(snapshot.periods.earliest(time)),
        }
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        if let Some(seen) = &mut self.seen {
            save.one_of(SEEN, |save| seen.save(save))?;
        }
        save.one_of(RATE, |save| match &mut self.limit {
            Limit::None => Ok(()),
            Limit::Rate(rate) => rate.save(save),
            Limit::Snapshot(snapshot) => {
                save.put(Part::Holder, 0, &snapshot.periods)?;
                match &mut snapshot.held {
                    Some(held) => held.save(save),
                    None => Ok(()),
                }
            }
        })
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        if let Some(seen) = &mut self.seen {
            seen.load(&load.one_of(SEEN))?;
        }
        let load = &load.one_of(RATE);
        match &mut self.limit {
            Limit::None => Ok(()),
            Limit::Rate(rate) => rate.load(load),
            Limit::Snapshot(snapshot) => {
                if let Some(periods) = load.one::<Periods>(Part::Holder)? {
                    snapshot.periods.take_state(&periods);
                }
                match &mut snapshot.held {
                    Some(held) => held.load(load),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Batches show what closed last, and what never leaves its last row.
fn held(query: &Query, flow: Flow) -> Option<Gathered> {
    let last = match flow {
        Flow::Batch => true,
        Flow::Endless => query.grouping.is_none(),
        Flow::Sliding => false,
    };
    last.then(|| Gathered::new(query.select.len(), Part::Pending))
}

/// Takes the batch that has closed, or the last row that has come out, in place of what is held.
fn hold(output: &mut Output, held: &mut Gathered) {
    if std::mem::take(&mut output.closed) {
        std::mem::swap(held.renew(), &mut output.out);
    } else if let Some(row) = output.out.len().checked_sub(1) {
        let held = held.renew();
        held.clear();
        if let Some(row) = output.out.row(row) {
            held.push(row.stamp, row.values.iter().cloned());
        }
    }
    output.out.clear();
}

/// Rows go on, without the columns that only this part has read.
fn append(rows: &mut Batch, to: &mut Batch) {
    if rows.width() == to.width() {
        to.append(rows);
        return;
    }
    for row in rows.rows().iter() {
        give(row, row.stamp, to);
    }
    rows.clear();
}

fn give(row: Row<'_>, at: Stamp, to: &mut Batch) {
    let width = to.width();
    to.push(at, row.values.iter().take(width).cloned());
}
