//! The columns that anything reads: only these are kept of a row.

use super::super::plan::{Aggregate, Expr, Grouping};
use super::join::Tree;
use super::query::{Clauses, Draft};
use super::source::{Origin, OriginKind};

/// The columns of each source. What is computed stands behind those of the only one; behind those
/// of several, it is kept whoever reads it.
fn ranges(
    origins: &[Origin],
    computed: usize,
    joined: bool,
    keep: &mut Vec<usize>,
) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<_> = origins.iter().map(Origin::columns).collect();
    if joined {
        let width = ranges.last().map_or(0, |last| last.end);
        keep.extend((width..).take(computed));
    } else if let [only] = ranges.as_mut_slice() {
        only.end += computed;
    }
    ranges
}

/// What reads the row behind filter and window. `named`: the window is not the query's own.
fn readers<'a>(
    grouping: Option<&'a mut Grouping>,
    clauses: &'a mut Clauses,
    named: bool,
    exprs: &mut Vec<&'a mut Expr>,
    plain: &mut Vec<&'a mut usize>,
) {
    match grouping {
        Some(grouping) => {
            exprs.extend(&mut grouping.keys);
            let aggregates = grouping.aggregates.iter_mut();
            exprs.extend(aggregates.flat_map(Aggregate::exprs_mut));
            plain.extend(&mut grouping.carried);
        }
        None => {
            exprs.extend(&mut clauses.select);
            exprs.extend(&mut clauses.having);
            exprs.extend(clauses.order_by.iter_mut().map(|key| &mut key.expr));
        }
    }
    if named {
        // The filter of a named window sees the rows that it keeps.
        exprs.extend(&mut clauses.filter);
    }
}

/// The columns that are read behind the filters, and where each source's lie among them.
pub(super) struct Narrow {
    /// Ascending, over the columns of all sources.
    keep: Vec<usize>,
    /// The columns of each source.
    ranges: Vec<std::ops::Range<usize>>,
}

impl Narrow {
    /// Finds the columns, and renumbers what reads them.
    pub(super) fn new(draft: &mut Draft, tree: &mut Tree, filter: &mut [Expr]) -> Narrow {
        let joined = matches!(tree, Tree::Node(_));
        let Draft {
            grouping,
            clauses,
            analytics,
            origins,
            ..
        } = draft;
        let mut exprs: Vec<&mut Expr> = filter.iter_mut().collect();
        let mut plain: Vec<&mut usize> = Vec::new();
        tree.exprs_mut(&mut exprs);
        let computed = analytics.iter().count();
        if joined {
            exprs.extend(analytics.exprs_mut());
        }
        let named = origins
            .iter()
            .any(|origin| matches!(origin.kind, OriginKind::Stream { named: true, .. }));
        readers(grouping.as_mut(), clauses, named, &mut exprs, &mut plain);
        let mut keep = Vec::new();
        for expr in &mut exprs {
            expr.for_each_column(&mut |column| keep.push(*column));
        }
        keep.extend(plain.iter().map(|column| **column));
        window_columns(origins, |first, column| keep.push(first + *column));
        let ranges = ranges(origins, computed, joined, &mut keep);
        for range in ranges.iter().filter(|_| joined) {
            // A side has at least one column.
            if !keep.iter().any(|column| range.contains(column)) {
                keep.push(range.start);
            }
        }
        keep.sort_unstable();
        keep.dedup();
        let renumber = |column: &mut usize| {
            *column = keep.binary_search(column).unwrap_or_default();
        };
        for expr in exprs {
            expr.for_each_column(&mut { renumber });
        }
        plain.into_iter().for_each(renumber);
        window_columns(origins, |first, column| {
            let before = keep.partition_point(|column| *column < first);
            let place = keep.binary_search(&(first + *column));
            *column = place.unwrap_or_default().saturating_sub(before);
        });
        Narrow { keep, ranges }
    }

    /// The kept columns of a source, numbered as it numbers them.
    pub(super) fn keep(&self, source: usize) -> Vec<usize> {
        let range = self.ranges.get(source).cloned().unwrap_or_default();
        let own = self.keep.iter().filter(|column| range.contains(column));
        own.map(|column| column - range.start).collect()
    }

    /// Where the columns of a source begin among all that are kept.
    pub(super) fn offset(&self, source: usize) -> usize {
        let start = self.ranges.get(source).map_or(0, |range| range.start);
        self.keep.partition_point(|column| *column < start)
    }
}

/// Every column that a window reads: those are numbered within the window's own stream, whose
/// first column among all is given too.
fn window_columns(origins: &mut [Origin], mut visit: impl FnMut(usize, &mut usize)) {
    for origin in origins {
        let first = origin.first;
        if let Some(window) = origin.window_mut() {
            window.for_each_column(&mut |column| visit(first, column));
        }
    }
}
