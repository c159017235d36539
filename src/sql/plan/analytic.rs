//! Columns that are computed from row to row.

use super::super::analytics::AnalyticFunction;
use super::Expr;
use crate::event::{Type, Value};

/// What is computed over the rows in the order in which they come, before any window; for a join,
/// over the joined rows. Each result is a column behind those of the row: first those of `before`,
/// then those of `after`. A call may read the results of the calls that stand before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Analytics {
    /// Over all rows; WHERE reads them.
    pub before: Vec<Analytic>,
    /// Over the rows that pass WHERE.
    pub after: Vec<Analytic>,
}

impl Analytics {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// All, in the order of their columns.
    pub fn iter(&self) -> impl Iterator<Item = &Analytic> {
        self.before.iter().chain(&self.after)
    }

    /// Every expression of them.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.iter().flat_map(Analytic::exprs)
    }

    /// Every expression of them.
    pub fn exprs_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        let all = self.before.iter_mut().chain(&mut self.after);
        all.flat_map(Analytic::exprs_mut)
    }
}

/// One call of an analytic function.
#[derive(Clone, Debug, PartialEq)]
pub struct Analytic {
    /// Which function.
    pub function: AnalyticFunction,
    /// Over what; without the constant that some functions take.
    pub arguments: Vec<Expr>,
    /// The constant: the rows that `lag` looks back, the weight of `ewma`.
    pub parameter: Option<Value>,
    /// PARTITION BY: rows with equal values look back on each other alone.
    pub partition: Vec<Expr>,
    /// WHEN: only rows for which it is true are remembered.
    pub when: Option<Expr>,
    /// The type of the result.
    pub ty: Type,
}

impl Analytic {
    /// Every expression of it.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let arguments = self.arguments.iter().chain(&self.partition);
        arguments.chain(&self.when)
    }

    /// Every expression of it.
    pub fn exprs_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        let arguments = self.arguments.iter_mut().chain(&mut self.partition);
        arguments.chain(&mut self.when)
    }
}
