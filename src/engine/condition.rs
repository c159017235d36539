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
    /// All bits.
    bits: u64,
    floats: Vec<Column<f64>>,
    ints: Vec<Column<i64>>,
    /// Columns that must be equal to a text.
    texts: Vec<(usize, EcoString, u64)>,
    /// What costs more.
    rest: Vec<(Operand<bool>, u64)>,
}

/// The intervals in which a column must lie.
struct Column<T> {
    column: usize,
    within: Vec<Interval<T>>,
}

/// From `low` to `high`, both included.
#[derive(Clone, Copy)]
struct Interval<T> {
    low: T,
    high: T,
    bit: u64,
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
                let (low, high) = floats(op, *constant);
                narrow(
                    &mut self.floats,
                    cx.place(column),
                    Interval { low, high, bit },
                );
            }
            Some((column, op, Value::Int(constant))) if op != CompareOp::NotEqual => {
                let (low, high) = ints(op, *constant);
                narrow(
                    &mut self.ints,
                    cx.place(column),
                    Interval { low, high, bit },
                );
            }
            Some((column, CompareOp::Equal, Value::Str(text))) => {
                self.texts.push((cx.place(column), text.clone(), bit));
            }
            Some(_) | None => self.rest.push((predicate(expr, cx), bit)),
        }
    }

    /// Gives each row the bits of the conditions that it fulfils.
    pub(super) fn mark(&self, rows: Rows<'_>, masks: &mut Vec<u64>, faults: &Cell<u64>) {
        masks.clear();
        masks.resize(rows.len(), self.bits);
        for column in &self.floats {
            column.mark(rows, masks, |value| match value {
                Value::Float(number) => Some(*number),
                _ => None,
            });
        }
        for column in &self.ints {
            column.mark(rows, masks, |value| match value {
                Value::Int(number) => Some(*number),
                _ => None,
            });
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

impl<T: PartialOrd + Copy> Column<T> {
    #[inline]
    fn mark(&self, rows: Rows<'_>, masks: &mut [u64], read: impl Fn(&Value) -> Option<T>) {
        // Without a branch: which rows pass is nothing that a processor could guess.
        let fails = |x: T, one: &Interval<T>| {
            let passes = u64::from(x >= one.low) & u64::from(x <= one.high);
            passes.wrapping_sub(1) & one.bit
        };
        let marked = rows.column(self.column).zip(masks);
        match self.within.as_slice() {
            [one] => marked.for_each(|(value, mask)| {
                *mask &= !read(value).map_or(one.bit, |x| fails(x, one));
            }),
            [one, two] => marked.for_each(|(value, mask)| {
                let both = one.bit | two.bit;
                *mask &= !read(value).map_or(both, |x| fails(x, one) | fails(x, two));
            }),
            many => marked.for_each(|(value, mask)| {
                let x = read(value);
                for one in many {
                    *mask &= !x.map_or(one.bit, |x| fails(x, one));
                }
            }),
        }
    }
}

/// A column must lie in an interval, too.
fn narrow<T: PartialOrd + Copy>(columns: &mut Vec<Column<T>>, column: usize, by: Interval<T>) {
    let place = columns.iter().position(|known| known.column == column);
    let Some(known) = place.and_then(|place| columns.get_mut(place)) else {
        let within = vec![by];
        columns.push(Column { column, within });
        return;
    };
    match known.within.iter_mut().find(|one| one.bit == by.bit) {
        None => known.within.push(by),
        Some(one) => {
            one.low = if by.low > one.low { by.low } else { one.low };
            one.high = if by.high < one.high {
                by.high
            } else {
                one.high
            };
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

/// The floats for which a comparison holds.
fn floats(op: CompareOp, constant: f64) -> (f64, f64) {
    match op {
        CompareOp::Less => (f64::NEG_INFINITY, -above(-constant)),
        CompareOp::LessOrEqual => (f64::NEG_INFINITY, constant),
        CompareOp::Greater => (above(constant), f64::INFINITY),
        CompareOp::GreaterOrEqual => (constant, f64::INFINITY),
        CompareOp::Equal | CompareOp::NotEqual => (constant, constant),
    }
}

/// The least float above a finite one.
fn above(x: f64) -> f64 {
    if x == 0.0 {
        f64::from_bits(1)
    } else if x > 0.0 {
        f64::from_bits(x.to_bits() + 1)
    } else {
        f64::from_bits(x.to_bits() - 1)
    }
}

/// The integers for which a comparison holds.
fn ints(op: CompareOp, constant: i64) -> (i64, i64) {
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
        for (op, of_floats, of_ints) in ops {
            for constant in numbers {
                let (low, high) = floats(op, constant);
                for x in numbers {
                    assert_eq!(
                        low <= x && x <= high,
                        of_floats(x, constant),
                        "{x} {op:?} {constant}"
                    );
                }
            }
            for constant in wholes {
                let (low, high) = ints(op, constant);
                for x in wholes {
                    assert_eq!(
                        low <= x && x <= high,
                        of_ints(x, constant),
                        "{x} {op:?} {constant}"
                    );
                }
            }
        }
    }
}
