//! Rows on their way through a screen: which conditions they fulfil, as far as anybody asks, and
//! who must be given them.

use std::cell::Cell;

use super::{EVERYTHING, Filter, Screen};
use crate::event::Rows;

/// What is known of the rows at hand.
#[derive(Default)]
pub(super) struct Run {
    /// The rows in each bucket but the one that all are in, and the buckets that have any.
    rows_of: Vec<Vec<u32>>,
    filled: Vec<usize>,
    /// The rows that fulfil a condition, where it has been asked, and those that have been.
    passed: Vec<Option<Vec<u32>>>,
    asked: Vec<usize>,
    /// Lists that are used again.
    spare: Vec<Vec<u32>>,
    masks: Vec<u64>,
    /// The readers that want what some row fulfils, ascending, and how many have had their turn.
    called: Vec<usize>,
    calls: usize,
    /// How many of the readers that get all rows have had their turn.
    given: usize,
    /// What the rows fit of the reader whose turn it is.
    fits: Vec<(u32, u64)>,
}

impl Run {
    pub(super) fn new(filters: usize, buckets: usize) -> Run {
        Run {
            rows_of: vec![Vec::new(); buckets],
            passed: vec![None; filters],
            ..Run::default()
        }
    }

    fn clear(&mut self) {
        for bucket in self.filled.drain(..) {
            if let Some(rows) = self.rows_of.get_mut(bucket) {
                rows.clear();
            }
        }
        for filter in self.asked.drain(..) {
            if let Some(mut rows) = self.passed.get_mut(filter).and_then(Option::take) {
                rows.clear();
                self.spare.push(rows);
            }
        }
        self.called.clear();
        (self.calls, self.given) = (0, 0);
    }

    /// The rows that fulfil a condition, when it has been asked.
    fn passed(&self, filter: usize) -> &[u32] {
        let rows = self.passed.get(filter).and_then(Option::as_deref);
        rows.unwrap_or_default()
    }
}

impl Screen {
    /// Finds out who must be given the rows, as far as can be known before the first is.
    pub(super) fn begin(&mut self, rows: Rows<'_>) {
        debug_assert!(self.at.is_none(), "no stream feeds itself");
        self.run.clear();
        self.fill_buckets(rows);
        let filled = std::mem::take(&mut self.run.filled);
        for bucket in filled.iter().copied().chain([EVERYTHING]) {
            self.call_from(bucket, rows);
        }
        self.run.filled = filled;
        self.run.called.sort_unstable();
        self.run.called.dedup();
    }

    fn fill_buckets(&mut self, rows: Rows<'_>) {
        let Run {
            rows_of, filled, ..
        } = &mut self.run;
        for index in &self.indexes {
            for (number, row) in (0_u32..).zip(rows.iter()) {
                let value = row.values.get(index.column);
                let buckets = value.and_then(|value| index.buckets.get(value));
                for bucket in buckets.into_iter().flatten() {
                    if let Some(rows) = rows_of.get_mut(*bucket) {
                        if rows.is_empty() {
                            filled.push(*bucket);
                        }
                        rows.push(number);
                    }
                }
            }
        }
    }

    /// Asks the conditions of a bucket that anybody wants.
    fn call_from(&mut self, bucket: usize, rows: Rows<'_>) {
        let Screen {
            filters,
            buckets,
            run,
            faults,
            ..
        } = self;
        let wanted = buckets.get(bucket).map(|bucket| &bucket.wanted);
        for number in wanted.into_iter().flatten() {
            let Some(filter) = filters.get(*number) else {
                continue;
            };
            filter.ask(*number, rows, run, faults);
            if !run.passed(*number).is_empty() {
                run.called.extend(&filter.wanting);
            }
        }
    }

    /// The next reader whose turn it is.
    pub(super) fn next(&mut self) -> Option<usize> {
        let run = &mut self.run;
        let open = self.open.get(run.given).copied();
        let called = run.called.get(run.calls).copied();
        let from = self.at.map_or(0, |at| at + 1);
        let woken = self.woken.range(from..).next().copied();
        self.at = open.into_iter().chain(called).chain(woken).min();
        if self.at.is_none() {
            self.woken.clear();
            return None;
        }
        run.given += usize::from(open == self.at);
        run.calls += usize::from(called == self.at);
        self.at
    }

    /// What the rows fit of a reader, by itself.
    pub(super) fn fits(&mut self, reader: usize, rows: Rows<'_>) -> Option<&[(u32, u64)]> {
        let Screen {
            filters,
            readers,
            run,
            faults,
            ..
        } = self;
        let asks = readers.get(reader).and_then(Option::as_ref)?;
        run.fits.clear();
        let mut lists = 0;
        for ask in asks {
            let Some(filter) = filters.get(ask.filter) else {
                continue;
            };
            filter.ask(ask.filter, rows, run, faults);
            let passed = run.passed.get(ask.filter).and_then(Option::as_deref);
            let passed = passed.unwrap_or_default();
            lists += usize::from(!passed.is_empty());
            let fits = passed.iter().map(|row| (*row, ask.elements));
            run.fits.extend(fits);
        }
        if lists > 1 {
            run.fits.sort_unstable_by_key(|(row, _)| *row);
            run.fits.dedup_by(|(later, more), (first, elements)| {
                let same = later == first;
                *elements |= if same { *more } else { 0 };
                same
            });
        }
        Some(&run.fits)
    }
}

impl Filter {
    /// Finds the rows that fulfil it, unless they are known.
    fn ask(&self, number: usize, rows: Rows<'_>, run: &mut Run, faults: &Cell<u64>) {
        let Run {
            rows_of,
            passed,
            asked,
            spare,
            masks,
            ..
        } = run;
        let Some(passed @ None) = passed.get_mut(number) else {
            return;
        };
        let mut found;
        if self.bucket == EVERYTHING {
            masks.clear();
            masks.resize(rows.len(), 0);
            self.condition.mark(rows, 1, masks, faults);
            let passing = (0_u32..).zip(masks.iter()).filter(|(_, mask)| **mask != 0);
            found = spare.pop().unwrap_or_default();
            found.extend(passing.map(|(row, _)| row));
        } else {
            let Some(candidates) = rows_of.get(self.bucket).filter(|rows| !rows.is_empty()) else {
                return;
            };
            let passes = |row: &&u32| {
                let (row, _) = rows.split_at(**row as usize).1.split_at(1);
                let mut mask = [0];
                self.condition.mark(row, 1, &mut mask, faults);
                mask != [0]
            };
            found = spare.pop().unwrap_or_default();
            found.extend(candidates.iter().filter(passes));
        }
        *passed = Some(found);
        asked.push(number);
    }
}
