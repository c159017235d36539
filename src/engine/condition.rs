//! Conditions on rows, many at a time.
//!
//! What compares a column with a constant is asked in a loop without a call; most conditions are
//! nothing else, or begin so.

use std::cell::Cell;

use ecow::EcoString;

use super::expr::{Cx, Env, Operand, predicate};
use crate::event::{Rows, Value};
use crate::sql::plan::{CompareOp, Expr, ExprKind};

/// A condition, compiled.
pub(super) struct Condition {
    /// All of these must hold,
    tests: Vec<Test>,
    /// and all of these, which cost more.
    rest: Vec<Operand<bool>>,
}

/// A column compared with a constant.
enum Test {
    Float(usize, CompareOp, f64),
    Int(usize, CompareOp, i64),
    /// Equal to a text.
    Text(usize, EcoString),
}

impl Condition {
    pub(super) fn new(expr: &Expr, cx: Cx<'_>) -> Condition {
        Condition::all([expr], cx)
    }

    /// All of these.
    pub(super) fn all<'e>(exprs: impl IntoIterator<Item = &'e Expr>, cx: Cx<'_>) -> Condition {
        let mut condition = Condition {
            tests: Vec::new(),
            rest: Vec::new(),
        };
        for expr in exprs {
            condition.add(expr, cx);
        }
        condition
    }

    fn add(&mut self, expr: &Expr, cx: Cx<'_>) {
        if let ExprKind::And(left, right) = &expr.kind {
            self.add(left, cx);
            self.add(right, cx);
            return;
        }
        match test(expr, cx) {
            Some(test) => self.tests.push(test),
            None => self.rest.push(predicate(expr, cx)),
        }
    }

    /// Sets `bit` in the masks of the rows for which it is true.
    pub(super) fn mark(&self, rows: Rows<'_>, bit: u64, masks: &mut [u64], faults: &Cell<u64>) {
        let mut first = true;
        for test in &self.tests {
            test.mark(rows, bit, masks, first);
            first = false;
        }
        if first {
            masks.iter_mut().for_each(|mask| *mask |= bit);
        }
        if self.rest.is_empty() {
            return;
        }
        for (row, mask) in rows.iter().zip(masks) {
            if *mask & bit != 0 {
                let env = Env::new(row.values, row.stamp, row.stamp, faults);
                if self.rest.iter().any(|rest| rest.get(&env) != Some(true)) {
                    *mask &= !bit;
                }
            }
        }
    }
}

/// The comparison that an expression is, when it is one of those.
fn test(expr: &Expr, cx: Cx<'_>) -> Option<Test> {
    let ExprKind::Compare(op, left, right) = &expr.kind else {
        return None;
    };
    let (op, column, constant) = match (&left.kind, &right.kind) {
        (ExprKind::Column(column), ExprKind::Literal(value)) => (*op, *column, value),
        (ExprKind::Literal(value), ExprKind::Column(column)) => (turned(*op), *column, value),
        _ => return None,
    };
    let column = cx.place(column);
    match (constant, op) {
        (Value::Float(constant), op) => Some(Test::Float(column, op, *constant)),
        (Value::Int(constant), op) => Some(Test::Int(column, op, *constant)),
        (Value::Str(text), CompareOp::Equal) => Some(Test::Text(column, text.clone())),
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

impl Test {
    /// Sets or, when it is not the first test, keeps the bit of rows that pass.
    fn mark(&self, rows: Rows<'_>, bit: u64, masks: &mut [u64], first: bool) {
        let set = Marks { bit, masks, first };
        match self {
            Test::Float(column, op, constant) => {
                let read = |value: &Value| match value {
                    Value::Float(number) => Some(*number),
                    _ => None,
                };
                set.compare(rows, *column, *op, *constant, read);
            }
            Test::Int(column, op, constant) => {
                let read = |value: &Value| match value {
                    Value::Int(number) => Some(*number),
                    _ => None,
                };
                set.compare(rows, *column, *op, *constant, read);
            }
            Test::Text(column, constant) => set.each(rows, *column, |value| match value {
                Value::Str(text) => text.as_bytes() == constant.as_bytes(),
                _ => false,
            }),
        }
    }
}

/// Where it is noted which rows pass.
struct Marks<'a> {
    bit: u64,
    masks: &'a mut [u64],
    first: bool,
}

impl Marks<'_> {
    #[inline]
    fn compare<T: PartialOrd + Copy>(
        self,
        rows: Rows<'_>,
        column: usize,
        op: CompareOp,
        constant: T,
        read: impl Fn(&Value) -> Option<T>,
    ) {
        match op {
            CompareOp::Equal => self.each(rows, column, |x| read(x).is_some_and(|x| x == constant)),
            CompareOp::NotEqual => {
                self.each(rows, column, |x| read(x).is_some_and(|x| x != constant));
            }
            CompareOp::Less => self.each(rows, column, |x| read(x).is_some_and(|x| x < constant)),
            CompareOp::LessOrEqual => {
                self.each(rows, column, |x| read(x).is_some_and(|x| x <= constant));
            }
            CompareOp::Greater => {
                self.each(rows, column, |x| read(x).is_some_and(|x| x > constant));
            }
            CompareOp::GreaterOrEqual => {
                self.each(rows, column, |x| read(x).is_some_and(|x| x >= constant));
            }
        }
    }

    #[inline]
    fn each(self, rows: Rows<'_>, column: usize, holds: impl Fn(&Value) -> bool) {
        let Marks { bit, masks, first } = self;
        for (row, mask) in rows.iter().zip(masks) {
            let passes = row.values.get(column).is_some_and(&holds);
            if first {
                *mask |= if passes { bit } else { 0 };
            } else if !passes {
                *mask &= !bit;
            }
        }
    }
}
