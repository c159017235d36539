//! Conditions on rows, many at a time.
//!
//! What compares a column with a constant is an interval, asked in a loop without a call, for all
//! conditions that read the column at once. Most conditions are nothing else, or begin so.

use std::cell::Cell;

use ecow::EcoString;

use super::expr::{Cx, Env, Operand, predicate};
use crate::event::{Rows, Value};
use crate::sql::plan::{CompareOp, Expr, ExprKind};

/// Several conditions on the rows of one stream, each with a bit of its own.
#[derive(Default)]
pub(super) struct Conditions {
    /// All bits but those of conditions that no row fulfils.
    bits: u64,
    columns: Vec<Column>,
    /// Columns that must be equal to a text.
    texts: Vec<(usize, EcoString, u64)>,
    /// What costs more.
    rest: Vec<(Operand<bool>, u64)>,
}

/// The intervals in which the numbers of a column must lie.
struct Column {
    column: usize,
    /// Of floats; else of integers.
    floats: bool,
    within: Vec<Interval>,
}

/// From `low` on so many numbers further, by their ranks: one comparison tells whether a number
/// lies in it, and no branch, since which rows pass is nothing that a processor could guess.
#[derive(Clone, Copy)]
struct Interval {
    low: i64,
    span: u64,
    bit: u64,
}

impl Interval {
    /// None when it is empty.
    fn new(low: i64, high: i64, bit: u64) -> Option<Interval> {
        (low <= high).then(|| Interval {
            low,
            span: high.abs_diff(low),
            bit,
        })
    }

    fn high(self) -> i64 {
        self.low.wrapping_add_unsigned(self.span)
    }

    /// Its bit when a number does not lie in it, else nothing.
    #[inline]
    fn fails(self, rank: i64) -> u64 {
        let further = unsigned(rank.wrapping_sub(self.low));
        u64::from(further > self.span).wrapping_neg() & self.bit
    }
}

/// The place of a finite float among all: the rank of a larger one is larger.
#[inline]
fn rank(x: f64) -> i64 {
    // Adding zero makes both zeros one.
    let bits = i64::from_le_bytes((x + 0.0).to_le_bytes());
    bits ^ i64::from_le_bytes((unsigned(bits >> 63) >> 1).to_le_bytes())
}

/// The same bits.
#[inline]
fn unsigned(number: i64) -> u64 {
    u64::from_le_bytes(number.to_le_bytes())
}

impl Conditions {
    /// The conditions of `bits`: of one bit, all expressions that come with it.
    pub(super) fn new<'e>(
        bits: u64,
        conditions: impl IntoIterator<Item = (u64, &'e Expr)>,
        cx: Cx<'_>,
    ) -> Conditions {
        let mut all = Conditions {
            bits,
            ..Conditions::default()
        };
        for (bit, expr) in conditions {
            all.add(expr, bit, cx);
        }
        all
    }

    fn add(&mut self, expr: &Expr, bit: u64, cx: Cx<'_>) {
        if let ExprKind::And(left, right) = &expr.kind {
            self.add(left, bit, cx);
            self.add(right, bit, cx);
            return;
        }
        match compared(expr) {
            Some((column, op, Value::Float(constant))) if op != CompareOp::NotEqual => {
                self.narrow(cx.place(column), true, ranks(op, rank(*constant)), bit);
            }
            Some((column, op, Value::Int(constant))) if op != CompareOp::NotEqual => {
                self.narrow(cx.place(column), false, ranks(op, *constant), bit);
            }
            Some((column, CompareOp::Equal, Value::Str(text))) => {
                self.texts.push((cx.place(column), text.clone(), bit));
            }
            Some(_) | None => self.rest.push((predicate(expr, cx), bit)),
        }
    }

    /// A column must lie in an interval, too.
    fn narrow(&mut self, column: usize, floats: bool, (low, high): (i64, i64), bit: u64) {
        let place = self.columns.iter().position(|known| known.column == column);
        let place = place.unwrap_or_else(|| {
            self.columns.push(Column {
                column,
                floats,
                within: Vec::new(),
            });
            self.columns.len() - 1
        });
        let Some(known) = self.columns.get_mut(place) else {
            return;
        };
        let before = known.within.iter().position(|one| one.bit == bit);
        let before = before.map(|place| known.within.remove(place));
        let (low, high) =
            before.map_or((low, high), |one| (low.max(one.low), high.min(one.high())));
        match Interval::new(low, high, bit) {
            Some(interval) => known.within.push(interval),
            None => self.bits &= !bit,
        }
    }

    /// Gives each row the bits of the conditions that it fulfils.
    pub(super) fn mark(&self, rows: Rows<'_>, masks: &mut Vec<u64>, faults: &Cell<u64>) {
        masks.clear();
        masks.resize(rows.len(), self.bits);
        for column in &self.columns {
            if column.floats {
                column.mark(rows, masks, |value| match value {
                    Value::Float(number) => Some(rank(*number)),
                    _ => None,
                });
            } else {
                column.mark(rows, masks, |value| match value {
                    Value::Int(number) => Some(*number),
                    _ => None,
                });
            }
        }
        for (column, text, bit) in &self.texts {
            for (value, mask) in rows.column(*column).zip(masks.iter_mut()) {
                let same = matches!(value, Value::Str(value) if value == text);
                *mask &= if same { !0 } else { !bit };
            }
        }
        for (condition, bit) in &self.rest {
            for (row, mask) in rows.iter().zip(masks.iter_mut()) {
                if *mask & bit != 0 {
                    let env = Env::new(row.values, row.stamp, row.stamp, faults);
                    *mask &= if condition.get(&env) == Some(true) {
                        !0
                    } else {
                        !bit
                    };
                }
            }
        }
    }
}

impl Column {
    #[inline]
    fn mark(&self, rows: Rows<'_>, masks: &mut [u64], rank: impl Fn(&Value) -> Option<i64>) {
        let marked = rows.column(self.column).zip(masks);
        match self.within.as_slice() {
            [one] => marked.for_each(|(value, mask)| {
                *mask &= !rank(value).map_or(one.bit, |rank| one.fails(rank));
            }),
            [one, two] => marked.for_each(|(value, mask)| {
                let both = one.bit | two.bit;
                *mask &= !rank(value).map_or(both, |rank| one.fails(rank) | two.fails(rank));
            }),
            many => marked.for_each(|(value, mask)| {
                let rank = rank(value);
                for one in many {
                    *mask &= !rank.map_or(one.bit, |rank| one.fails(rank));
                }
            }),
        }
    }
}

/// The column and the constant that an expression compares, when it does nothing else.
fn compared(expr: &Expr) -> Option<(usize, CompareOp, &Value)> {
    let ExprKind::Compare(op, left, right) = &expr.kind else {
        return None;
    };
    match (&left.kind, &right.kind) {
        (ExprKind::Column(column), ExprKind::Literal(value)) => Some((*column, *op, value)),
        (ExprKind::Literal(value), ExprKind::Column(column)) => Some((*column, turned(*op), value)),
        _ => None,
    }
}

/// The same with its sides exchanged.
fn turned(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Less => CompareOp::Greater,
        CompareOp::LessOrEqual => CompareOp::GreaterOrEqual,
        CompareOp::Greater => CompareOp::Less,
        CompareOp::GreaterOrEqual => CompareOp::LessOrEqual,
        CompareOp::Equal | CompareOp::NotEqual => op,
    }
}

/// The first and the last rank for which a comparison holds; none when the first is larger.
fn ranks(op: CompareOp, constant: i64) -> (i64, i64) {
    const NONE: (i64, i64) = (1, 0);
    match op {
        CompareOp::Less => constant
            .checked_sub(1)
            .map_or(NONE, |high| (i64::MIN, high)),
        CompareOp::LessOrEqual => (i64::MIN, constant),
        CompareOp::Greater => constant.checked_add(1).map_or(NONE, |low| (low, i64::MAX)),
        CompareOp::GreaterOrEqual => (constant, i64::MAX),
        CompareOp::Equal | CompareOp::NotEqual => (constant, constant),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each comparison by its interval is what it is by itself, at the ends of both kinds too.
    #[test]
    fn intervals_are_comparisons() {
        type Holds<T> = fn(T, T) -> bool;
        let ops: [(CompareOp, Holds<f64>, Holds<i64>); 5] = [
            (CompareOp::Less, |x, y| x < y, |x, y| x < y),
            (CompareOp::LessOrEqual, |x, y| x <= y, |x, y| x <= y),
            (CompareOp::Greater, |x, y| x > y, |x, y| x > y),
            (CompareOp::GreaterOrEqual, |x, y| x >= y, |x, y| x >= y),
            (CompareOp::Equal, |x, y| x == y, |x, y| x == y),
        ];
        let tiny = f64::from_bits(1);
        let numbers = [
            f64::MIN,
            -40.0,
            -tiny,
            -0.0,
            0.0,
            tiny,
            0.1,
            40.0,
            40.000_000_000_000_01,
            f64::MAX,
        ];
        let wholes = [i64::MIN, -1, 0, 1, 7, i64::MAX - 1, i64::MAX];
        let lies = |x: i64, (low, high): (i64, i64)| {
            Interval::new(low, high, 1).is_some_and(|interval| interval.fails(x) == 0)
        };
        for (op, of_floats, of_ints) in ops {
            for (x, y) in numbers.iter().flat_map(|x| numbers.map(|y| (*x, y))) {
                let found = lies(rank(x), ranks(op, rank(y)));
                assert_eq!(found, of_floats(x, y), "{x} {op:?} {y}");
            }
            for (x, y) in wholes.iter().flat_map(|x| wholes.map(|y| (*x, y))) {
                assert_eq!(lies(x, ranks(op, y)), of_ints(x, y), "{x} {op:?} {y}");
            }
        }
    }
}
