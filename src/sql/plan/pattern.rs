//! Patterns and sequences: rows of several streams that belong together.
//!
//! A pattern is a chain of parts. Its *match row* has a column for everything that anybody reads of
//! the rows it has taken: [`Register`]s, which elements write as they take rows. So a partial match
//! has a fixed size, however many rows its elements have taken.

use super::{Expr, StreamInput};
use crate::event::Type;

/// A pattern that feeds a query: one row for each match.
#[derive(Clone, Debug)]
pub struct PatternInput {
    /// What is looked for.
    pub pattern: Pattern,
    /// WHERE, over the match row.
    pub filter: Option<Expr>,
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// Whether other rows may come between.
    pub kind: PatternKind,
    /// The streams that it reads, each once, in the order in which they were written. `keep` is
    /// empty and unused.
    pub inputs: Vec<StreamInput>,
    /// Whatever takes rows or must not come, in the order in which it was written: at most
    /// [`ELEMENTS_MAX`].
    pub elements: Vec<Element>,
    /// One after another.
    pub parts: Vec<PatternPart>,
    /// The columns of the match row.
    pub registers: Vec<Register>,
    /// The bound of a match.
    pub within: Option<Within>,
    /// What a match ends besides itself.
    pub skip: Skip,
    /// PARTITION BY: for each input, the key of its rows, over the stream's row; none where the
    /// stream does not have the columns, so that its rows reach every key. Empty: there are no
    /// keys. Only for queries that keep nothing behind the pattern; others stand in a partition.
    pub keys: Vec<Option<Vec<Expr>>>,
    /// How many partial matches there may be.
    pub matches_max: u64,
    /// Which one is dropped when there are too many.
    pub overflow: Overflow,
}

/// How many elements a pattern may have.
pub const ELEMENTS_MAX: usize = 64;

/// The two kinds of patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternKind {
    /// Rows that do not fit are ignored.
    Pattern,
    /// Each row of the streams read must be the next one expected.
    Sequence,
}

/// A piece of the chain.
#[derive(Clone, Debug)]
pub struct PatternPart {
    /// Whether it begins again when it is done.
    pub every: bool,
    /// One after another; never empty.
    pub steps: Vec<PatternStep>,
}

/// What must be done before the next step begins.
#[derive(Clone, Debug)]
pub enum PatternStep {
    /// An element, by its number.
    Element(usize),
    /// AND: all of these chains, in any order. At least two. An element that is absent without a
    /// time stands only here, beside another chain that is not one.
    All(Vec<Vec<PatternStep>>),
    /// OR: one of these chains. At least two.
    Any(Vec<Vec<PatternStep>>),
}

/// What takes rows, or must not come.
#[derive(Clone, Debug)]
pub struct Element {
    /// What it is called; for people, not part of the fingerprint.
    pub name: String,
    /// The stream, by its place in [`Pattern::inputs`].
    pub input: usize,
    /// How many rows it takes, or that none may come.
    pub takes: Takes,
    /// What a row must fulfil whatever has come before; over the stream's row.
    pub filter: Option<Expr>,
    /// An expression over the stream's row, and one over the match row that it must be equal to:
    /// those whose registers cannot change any more while the element waits.
    pub keys: Vec<(Expr, Expr)>,
    /// Whatever else a row must fulfil. Over the match row and, behind its columns, those of the
    /// stream's row.
    pub rest: Option<Expr>,
}

/// How many rows an element takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// From so many to so many. `min <= max`, `max >= 1`.
    Rows {
        /// From this number on what follows may begin.
        min: u64,
        /// No more than this.
        max: Option<u64>,
    },
    /// None may come, for this time or until what stands beside it is done.
    None {
        /// FOR, in milliseconds.
        for_ms: Option<i64>,
    },
}

/// A column of the match row.
#[derive(Clone, Debug, PartialEq)]
pub struct Register {
    /// The element whose rows it is made of.
    pub element: usize,
    /// What of them.
    pub take: Take,
    /// Its type.
    pub ty: Type,
}

/// What is kept of the rows that an element takes. NULL before the first (counts: 0).
#[derive(Clone, Debug, PartialEq)]
pub enum Take {
    /// A column of the row with this number, from 0.
    Nth(u64, usize),
    /// A column of the row so many before the last one.
    Last(u64, usize),
    /// The time of the row with this number.
    NthTime(u64),
    /// The time of the row so many before the last one.
    LastTime(u64),
    /// How many rows.
    Count,
    /// What is computed over all of them: an expression over the stream's row.
    Fold(Fold, Expr),
}

/// An aggregate over the rows of an element. All skip NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// How many are not NULL.
    Count,
    /// The sum: exact for whole numbers, compensated for others. NULL when it does not fit.
    Sum,
    /// The mean, DOUBLE.
    Avg,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// As the aggregate of this name.
    StdDev,
    /// The first that is not NULL.
    First,
    /// The last that is not NULL.
    Last,
}

/// The bound of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Milliseconds from the first row to the last.
    Time(i64),
    /// Rows of the streams read, from the first to the last, both counted.
    Events(u64),
}

/// Which partial match is dropped when there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The one that began first.
    DropOldest,
    /// The one that would begin now.
    DropNewest,
}

/// What a match ends besides itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Nothing.
    Nothing,
    /// Every partial match of its key.
    PastLastRow,
    /// The partial matches with the same first row.
    ToNextRow,
}

impl Pattern {
    /// Every expression of it.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let elements = self.elements.iter().flat_map(|element| {
            let keys = element.keys.iter().flat_map(|(row, known)| [row, known]);
            element.filter.iter().chain(keys).chain(&element.rest)
        });
        let folds = self.registers.iter().filter_map(|one| match &one.take {
            Take::Fold(_, expr) => Some(expr),
            Take::Nth(..) | Take::Last(..) | Take::NthTime(_) | Take::LastTime(_) | Take::Count => {
                None
            }
        });
        let keys = self.keys.iter().flatten().flatten();
        elements.chain(folds).chain(keys)
    }
}
