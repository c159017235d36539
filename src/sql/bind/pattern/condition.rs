//! What a row must fulfil to be taken, split by what must be known of it, and the numbers of what
//! is kept of the rows that have been taken.

use super::super::super::plan::{Aggregate, CompareOp, Expr, ExprKind, Register, Takes};
use super::super::join::{all_of, conjuncts, unwiden};
use super::super::query::Draft;
use super::refer::{Seen, What};
use super::shape::{Order, bit};
use crate::event::Value;

/// The condition of an element. Columns of its own row are already numbered as the stream does.
#[derive(Default)]
pub(super) struct Split {
    /// What needs nothing but the row.
    pub(super) filter: Option<Expr>,
    /// What must be equal: of the row, and of what is kept.
    pub(super) keys: Vec<(Expr, Expr)>,
    /// All else, as it was bound.
    pub(super) rest: Option<Expr>,
}

/// What there is to know of an element in order to split its condition.
pub(super) struct Splitter<'a> {
    pub(super) seen: Seen<'a>,
    pub(super) order: &'a Order,
    /// The keys by which PARTITION BY keeps the rows of each element apart, within the pattern.
    pub(super) keys: &'a [Option<&'a [Expr]>],
}

impl Splitter<'_> {
    pub(super) fn split_all(&self, conditions: Vec<Option<Expr>>) -> Vec<Split> {
        let conditions = conditions.into_iter().enumerate();
        conditions
            .map(|(element, condition)| self.split(element, condition))
            .collect()
    }

    fn split(&self, element: usize, condition: Option<Expr>) -> Split {
        let mut all = Vec::new();
        if let Some(condition) = condition {
            conjuncts(condition, &mut all);
        }
        all.retain(|one| one.kind != ExprKind::Literal(Value::Bool(true)));
        let (mut filter, mut rest) = (Vec::new(), Vec::new());
        let mut split = Split::default();
        let seen = Seen {
            own: Some(element),
            ..self.seen
        };
        for condition in all {
            if !reads(seen, &condition).kept {
                filter.push(own_row(seen, condition));
                continue;
            }
            match self.key(element, seen, condition) {
                Ok((row, known)) if self.always_equal(element, &row, &known) => {}
                Ok(key) => split.keys.push(key),
                Err(condition) => rest.push(condition),
            }
        }
        split.filter = all_of(filter);
        split.rest = all_of(rest);
        split
    }

    /// `expression over the row = expression over what does not change any more`.
    fn key(&self, element: usize, seen: Seen<'_>, condition: Expr) -> Result<(Expr, Expr), Expr> {
        let ExprKind::Compare(CompareOp::Equal, mut x, mut y) = condition.kind else {
            return Err(condition);
        };
        let (of_x, of_y) = (reads(seen, &x), reads(seen, &y));
        let steady = x.is_steady() && y.is_steady();
        let pair = match (of_x, of_y) {
            _ if !steady => None,
            (Reads::ROW, Reads::KEPT) if self.is_settled(element, &y) => Some((&x, &y)),
            (Reads::KEPT, Reads::ROW) if self.is_settled(element, &x) => Some((&y, &x)),
            _ => None,
        };
        match pair {
            Some((row, known)) => Ok((own_row(seen, (**row).clone()), (**known).clone())),
            None => Err(Expr {
                kind: ExprKind::Compare(CompareOp::Equal, x, y),
                ty: condition.ty,
            }),
        }
    }

    /// Whether what is read cannot change any more while the element waits.
    fn is_settled(&self, element: usize, known: &Expr) -> bool {
        let before = self.order.before.get(element).copied().unwrap_or(0);
        self.owners(known).is_some_and(|owners| {
            let settled = |owner: &usize| before & bit(*owner) != 0 && self.takes_just_one(*owner);
            owners.iter().all(settled)
        })
    }

    fn takes_just_one(&self, element: usize) -> bool {
        let piece = self.seen.pieces.get(element);
        let one = Takes::Rows {
            min: 1,
            max: Some(1),
        };
        piece.is_some_and(|piece| piece.takes == one)
    }

    /// The elements of which an expression reads what they have taken.
    fn owners(&self, known: &Expr) -> Option<Vec<usize>> {
        let mut owners = Some(Vec::new());
        known.walk(&mut |expr| {
            if let ExprKind::Column(column) = expr.kind {
                let owner = match self.seen.what(column) {
                    Some(What::Kept(register)) => Some(register.element),
                    Some(What::Row(_) | What::Behind(_)) | None => None,
                };
                match (&mut owners, owner) {
                    (Some(list), Some(owner)) => list.push(owner),
                    (list, _) => *list = None,
                }
            }
        });
        owners
    }

    /// Whether both sides are the same part of the key of PARTITION BY: rows of one partial match
    /// have one key.
    fn always_equal(&self, element: usize, row: &Expr, known: &Expr) -> bool {
        let Some(owners) = self.owners(known) else {
            return false;
        };
        let [owner, more @ ..] = owners.as_slice() else {
            return false;
        };
        let surely = self.order.surely.get(element).copied().unwrap_or(0);
        if more.iter().any(|other| other != owner) || surely & bit(*owner) == 0 {
            return false;
        }
        let key = |element: usize| self.keys.get(element).copied().flatten();
        let (Some(own), Some(other)) = (key(element), key(*owner)) else {
            return false;
        };
        let first = self.seen.pieces.get(*owner).map_or(0, |piece| piece.first);
        let mut known = known.clone();
        let mut plain = true;
        known.for_each_column(&mut |column| match column.checked_sub(first) {
            Some(index) => *column = index,
            None => plain = false,
        });
        let (row, known) = (unwiden(row.clone()), unwiden(known));
        plain
            && own
                .iter()
                .zip(other)
                .any(|(own, other)| unwiden(own.clone()) == row && unwiden(other.clone()) == known)
    }
}

/// What an expression reads.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Reads {
    row: bool,
    kept: bool,
}

impl Reads {
    const ROW: Reads = Reads {
        row: true,
        kept: false,
    };
    const KEPT: Reads = Reads {
        row: false,
        kept: true,
    };
}

fn reads(seen: Seen<'_>, expr: &Expr) -> Reads {
    let mut reads = Reads {
        row: false,
        kept: false,
    };
    expr.walk(&mut |expr| {
        if let ExprKind::Column(column) = expr.kind {
            match seen.what(column) {
                Some(What::Row(_)) => reads.row = true,
                Some(What::Kept(_) | What::Behind(_)) | None => reads.kept = true,
            }
        }
    });
    reads
}

/// An expression over nothing but the row that has just come, numbered as its stream does.
fn own_row(seen: Seen<'_>, mut expr: Expr) -> Expr {
    expr.for_each_column(&mut |column| {
        if let Some(What::Row(index)) = seen.what(*column) {
            *column = index;
        }
    });
    expr
}

/// The columns of the match row: those that anything reads, by element.
pub(super) struct Numbering<'a> {
    seen: Seen<'a>,
    pub(super) registers: Vec<Register>,
}

impl<'a> Numbering<'a> {
    /// Finds the columns, and renumbers what reads them.
    pub(super) fn new(seen: Seen<'a>, splits: &mut [Split], draft: &mut Draft) -> Numbering<'a> {
        let mut numbering = Numbering {
            seen,
            registers: Vec::new(),
        };
        numbering.each(splits, draft, &mut |numbering, own, column| {
            if let Some(What::Kept(register)) = numbering.what(own, *column) {
                if !numbering.registers.contains(&register) {
                    numbering.registers.push(register);
                }
            }
        });
        numbering.registers.sort_by_key(|register| register.element);
        numbering.each(splits, draft, &mut |numbering, own, column| {
            let width = numbering.registers.len();
            *column = match numbering.what(own, *column) {
                Some(What::Kept(register)) => {
                    let mut known = numbering.registers.iter();
                    known.position(|known| *known == register).unwrap_or(width)
                }
                Some(What::Row(index) | What::Behind(index)) => width + index,
                None => width,
            };
        });
        numbering
    }

    fn what(&self, own: Option<usize>, column: usize) -> Option<What> {
        Seen { own, ..self.seen }.what(column)
    }

    /// Visits every column that is read of what is kept, or beside it.
    fn each(
        &mut self,
        splits: &mut [Split],
        draft: &mut Draft,
        visit: &mut dyn FnMut(&mut Self, Option<usize>, &mut usize),
    ) {
        for (element, split) in splits.iter_mut().enumerate() {
            for (_, known) in &mut split.keys {
                known.for_each_column(&mut |column| visit(self, Some(element), column));
            }
            if let Some(rest) = &mut split.rest {
                rest.for_each_column(&mut |column| visit(self, Some(element), column));
            }
        }
        let clauses = &mut draft.clauses;
        let mut exprs: Vec<&mut Expr> = clauses.filter.iter_mut().collect();
        exprs.extend(draft.analytics.exprs_mut());
        match &mut draft.grouping {
            Some(grouping) => {
                exprs.extend(&mut grouping.keys);
                let aggregates = grouping.aggregates.iter_mut();
                exprs.extend(aggregates.flat_map(Aggregate::exprs_mut));
                for column in &mut grouping.carried {
                    visit(self, None, column);
                }
            }
            None => {
                exprs.extend(&mut clauses.select);
                exprs.extend(&mut clauses.having);
                exprs.extend(clauses.order_by.iter_mut().map(|key| &mut key.expr));
            }
        }
        for expr in exprs {
            expr.for_each_column(&mut |column| visit(self, None, column));
        }
    }
}
