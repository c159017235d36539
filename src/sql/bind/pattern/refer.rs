//! What expressions say of the elements of a pattern.
//!
//! While binding, the columns of all elements stand one after another, as those of a join's sources
//! do. Of an element that takes several rows such a column is that of the last one. Everything else
//! that can be asked about an element is listed, and is a column from [`MORE`] on.

use std::cell::RefCell;
use std::sync::Arc;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr as Written, Ident, Subscript, Value as WrittenValue,
    ValueWithSpan,
};

use super::super::super::aggregates::{AggregateFunction, AggregateSpec, Preset};
use super::super::super::parse::place_of;
use super::super::super::plan::{Expr, ExprKind, Fold, Register, Take, Takes};
use super::super::call::{self, Call};
use super::super::expr::{Bound, Failed, Scope, place, typed_null};
use super::super::names::Named;
use crate::diagnostic::Place;
use crate::event::{Schema, Type};

/// The first column that is one of [`Seen::more`].
pub(in super::super) const MORE: usize = 1 << 24;
/// The first column of what stands behind a match: a table that is written.
pub(in super::super) const BEHIND: usize = 1 << 28;
/// How far back in the rows of an element one can look.
const ROWS_BACK_MAX: u64 = 100;

/// An element, as expressions see it.
pub(in super::super) struct Piece {
    pub(super) alias: Option<String>,
    /// The stream, as written.
    pub(super) stream: String,
    /// Whether no other element is of this stream.
    pub(super) unique: bool,
    pub(super) schema: Arc<Schema>,
    /// The place of its first column among those of all elements.
    pub(super) first: usize,
    pub(super) takes: Takes,
    /// Whether it has a quantifier.
    pub(super) collects: bool,
}

/// What the elements are called in the place where an expression stands.
#[derive(Clone, Copy)]
pub(in super::super) struct Seen<'a> {
    pub(super) pieces: &'a [Piece],
    /// What is asked beyond columns.
    pub(super) more: &'a RefCell<Vec<Register>>,
    /// The element whose condition it is.
    pub(super) own: Option<usize>,
}

impl Piece {
    pub(super) fn shown(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.stream)
    }

    /// How it is found in an expression; `own`: in its own condition.
    pub(super) fn named(&self, own: Option<bool>) -> Named<'_> {
        let by_stream = self.unique || own == Some(true) && self.alias.is_none();
        Named {
            names: [
                self.alias.as_deref(),
                Some(self.stream.as_str()).filter(|_| by_stream),
            ],
            schema: &self.schema,
            first: self.first,
            what: "element",
            alone: own != Some(false),
        }
    }

    /// Whether it never takes more than one row.
    fn takes_one(&self) -> bool {
        matches!(self.takes, Takes::Rows { max: Some(1), .. })
    }

    fn columns(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.schema.width()
    }
}

/// Which of the rows that an element has taken.
#[derive(Clone, Copy)]
enum Which {
    Nth(u64),
    Last(u64),
}

/// What a column of an expression is while binding.
pub(super) enum What {
    /// A column of the row that has just come, in the condition of its element.
    Row(usize),
    /// What is kept of the rows of an element.
    Kept(Register),
    /// What is computed behind the match row, by its number.
    Behind(usize),
}

impl<'a> Seen<'a> {
    /// The columns of all elements.
    pub(in super::super) fn width(&self) -> usize {
        self.pieces.last().map_or(0, |last| last.columns().end)
    }

    fn index_of(&self, source: &Named<'_>) -> Option<usize> {
        let mut pieces = self.pieces.iter();
        pieces.position(|piece| piece.first == source.first)
    }

    fn piece(&self, index: usize) -> Option<&'a Piece> {
        self.pieces.get(index)
    }

    /// What a column stands for.
    pub(super) fn what(&self, column: usize) -> Option<What> {
        if let Some(number) = column.checked_sub(MORE) {
            return self.more.borrow().get(number).cloned().map(What::Kept);
        }
        let mut pieces = self.pieces.iter().enumerate();
        let Some((element, piece)) = pieces.find(|(_, one)| one.columns().contains(&column)) else {
            return Some(What::Behind(column.checked_sub(self.width())?));
        };
        let index = column - piece.first;
        if self.own == Some(element) {
            return Some(What::Row(index));
        }
        let ty = piece.schema.fields().get(index)?.ty;
        let take = match piece.takes_one() {
            true => Take::Nth(0, index),
            false => Take::Last(0, index),
        };
        Some(What::Kept(Register { element, take, ty }))
    }

    /// The element that owns a plain column.
    fn owner(&self, column: usize) -> Option<usize> {
        let mut pieces = self.pieces.iter();
        pieces.position(|piece| piece.columns().contains(&column))
    }

    /// Something kept, as an expression.
    fn keep(&self, register: Register) -> Expr {
        let ty = register.ty;
        let mut more = self.more.borrow_mut();
        let known = more.iter().position(|known| *known == register);
        let number = known.unwrap_or(more.len());
        if known.is_none() {
            more.push(register);
        }
        Expr {
            kind: ExprKind::Column(MORE + number),
            ty,
        }
    }

    /// Why an element of this name cannot be read here, and what to do.
    fn refusal(&self, name: &str) -> Option<(String, String)> {
        let mut aliased = self.pieces.iter();
        let aliased = aliased.find(|piece| piece.alias.as_deref() == Some(name));
        let mut others = self.pieces.iter().filter(|piece| piece.stream == name);
        let piece = aliased.or_else(|| others.next())?;
        if aliased.is_none() && others.next().is_some() {
            let message = format!("'{name}' is read by several elements");
            return Some((message, format!("give each an alias: e1={name}")));
        }
        if let Takes::None { .. } = piece.takes {
            let message = format!("'{name}' must not come, so there is no row of it to read");
            let hint = "read the elements that come";
            return Some((message, hint.to_owned()));
        }
        let message = format!("'{name}' stands behind this element and has no row yet");
        let hint = "a condition reads the elements before it; write it at the later one";
        Some((message, hint.to_owned()))
    }
}

impl<'s> Scope<'s> {
    /// Reports why a name that elements have cannot be read here; nothing when none has it.
    pub(in super::super) fn hidden_element<T>(
        &mut self,
        name: &Ident,
    ) -> Option<Result<T, Failed>> {
        let (message, hint) = self.elements?.refusal(&name.value)?;
        self.progress.unknown.set(true);
        Some(self.fail_with(place_of(name.span), message, Some(hint)))
    }

    /// Whether a name before `[…]` is that of an element.
    pub(in super::super) fn names_element(&self, name: &Ident) -> bool {
        let Some(seen) = self.elements else {
            return false;
        };
        let called = self.source_named(&name.value).is_some();
        let mut sources = self.sources.iter().filter(|source| source.alone);
        let column = sources.any(|source| source.schema.index_of(&name.value).is_some());
        called || !column && seen.refusal(&name.value).is_some()
    }

    /// The element of this name.
    fn element(&mut self, name: &Ident) -> Result<(Seen<'s>, usize, &'s Piece), Failed> {
        let source = self.source_named(&name.value);
        let seen = self.elements;
        let found = seen.zip(source).and_then(|(seen, source)| {
            let index = seen.index_of(source)?;
            Some((seen, index, seen.piece(index)?))
        });
        match found {
            Some(found) => Ok(found),
            None => self.unknown_source(name).and(Err(Failed)),
        }
    }

    /// `e[0].x`, `e[last].x`, and further steps into JSON, which are left to be taken.
    pub(in super::super) fn of_row<'w>(
        &mut self,
        name: &Ident,
        chain: &'w [AccessExpr],
    ) -> Result<(Expr, &'w [AccessExpr]), Failed> {
        let at = place_of(name.span);
        let (seen, index, piece) = self.element(name)?;
        let [
            AccessExpr::Subscript(Subscript::Index { index: which }),
            AccessExpr::Dot(Written::Identifier(column)),
            steps @ ..,
        ] = chain
        else {
            let message = format!("'{name}' is an element: a row of it has columns");
            let hint = format!("write {name}[0].column or {name}[last].column");
            return self.fail_with(at, message, Some(hint));
        };
        let which = self.which(piece, which)?;
        let Some(number) = piece.schema.index_of(&column.value) else {
            // Says which columns there are.
            return self.column(Some(name), column).and(Err(Failed));
        };
        let ty = piece.schema.fields().get(number).ok_or(Failed)?.ty;
        let Some(which) = which else {
            return Ok((typed_null(ty), steps));
        };
        // An aggregate over a plain column of one that collects would go over all of its rows.
        if !piece.collects && seen.own != Some(index) {
            let kind = ExprKind::Column(piece.first + number);
            return Ok((Expr { kind, ty }, steps));
        }
        let take = match which {
            Which::Nth(nth) => Take::Nth(nth, number),
            Which::Last(back) => Take::Last(back, number),
        };
        let element = index;
        Ok((seen.keep(Register { element, take, ty }), steps))
    }

    /// Which row an index means; none when there is never such a row.
    fn which(&mut self, piece: &Piece, index: &Written) -> Result<Option<Which>, Failed> {
        let at = place(index);
        if let Takes::None { .. } = piece.takes {
            let message = format!("'{}' must not come, so it has taken no row", piece.shown());
            return self.fail(at, message);
        }
        let number = |written: &Written| match written {
            Written::Value(ValueWithSpan {
                value: WrittenValue::Number(digits, false),
                ..
            }) => digits.parse::<u64>().ok(),
            _ => None,
        };
        let last = |written: &Written| match written {
            Written::Identifier(name) => name.value.eq_ignore_ascii_case("last"),
            _ => false,
        };
        let which = match index {
            index if last(index) => Some(Which::Last(0)),
            Written::BinaryOp {
                left,
                op: BinaryOperator::Minus,
                right,
            } if last(left) => number(right).map(Which::Last),
            index => number(index).map(Which::Nth),
        };
        let Some(which) = which else {
            let message = "a row of an element is [0], [1], … or [last], [last-1], …";
            return self.fail(at, message);
        };
        let far = match which {
            Which::Last(back) if back > ROWS_BACK_MAX => {
                let message = format!("one can look back on {ROWS_BACK_MAX} rows of an element");
                return self.fail(at, message);
            }
            Which::Nth(far) | Which::Last(far) => far,
        };
        let Takes::Rows { max, .. } = piece.takes else {
            return Ok(None);
        };
        let there = max.is_none_or(|max| far < max);
        Ok(there.then_some(match which {
            Which::Last(0) if max == Some(1) => Which::Nth(0),
            which => which,
        }))
    }

    /// `event_time(e)`, `event_time(e[0])`.
    pub(in super::super) fn element_time(&mut self, at: Place, arguments: &[&Written]) -> Bound {
        let (name, which) = match arguments {
            [Written::Identifier(name)] => (name, None),
            [Written::CompoundFieldAccess { root, access_chain }] => {
                match (&**root, access_chain.as_slice()) {
                    (
                        Written::Identifier(name),
                        [AccessExpr::Subscript(Subscript::Index { index })],
                    ) => (name, Some(index)),
                    _ => return self.fail(at, "event_time takes an element, or one of its rows"),
                }
            }
            _ => return self.fail(at, "event_time takes an element, or one of its rows"),
        };
        let (seen, index, piece) = self.element(name)?;
        let which = match which {
            None if seen.own == Some(index) => {
                return call::scalar(self, at, "event_timestamp", &[]);
            }
            None if piece.takes_one() => Some(Which::Nth(0)),
            None => Some(Which::Last(0)),
            Some(which) => self.which(piece, which)?,
        };
        let ty = Type::Timestamp;
        let take = match which {
            None => return Ok(typed_null(ty)),
            Some(Which::Nth(nth)) => Take::NthTime(nth),
            Some(Which::Last(back)) => Take::LastTime(back),
        };
        let element = index;
        Ok(seen.keep(Register { element, take, ty }))
    }

    /// `count(e)`; nothing when the call is of another form.
    pub(in super::super) fn count_of_element(
        &mut self,
        at: Place,
        spec: &AggregateSpec,
        call: &Call<'_>,
        filter: Option<&Written>,
    ) -> Option<Bound> {
        let [Written::Identifier(name)] = call.arguments.as_slice() else {
            return None;
        };
        let mut sources = self.sources.iter().filter(|source| source.alone);
        let column = sources.any(|source| source.schema.index_of(&name.value).is_some());
        let counts = spec.function == AggregateFunction::Count;
        if !self.names_element(name) || column && !counts {
            return None;
        }
        Some(self.count_of(at, spec, call, filter, name))
    }

    fn count_of(
        &mut self,
        at: Place,
        spec: &AggregateSpec,
        call: &Call<'_>,
        filter: Option<&Written>,
        name: &Ident,
    ) -> Bound {
        let (seen, element, piece) = self.element(name)?;
        let function = spec.names.first().copied().unwrap_or_default();
        if spec.function != AggregateFunction::Count {
            let message = format!("{function} takes a column, '{name}' is an element");
            let hint = format!("write {function}({name}.column)");
            return self.fail_with(at, message, Some(hint));
        }
        if !piece.collects {
            let message = format!("'{name}' takes one row, there is nothing to count");
            let hint = "count(*) counts matches".to_owned();
            return self.fail_with(at, message, Some(hint));
        }
        self.plain_fold(at, spec, call, filter, piece)?;
        let (take, ty) = (Take::Count, Type::Long);
        Ok(seen.keep(Register { element, take, ty }))
    }

    /// An aggregate over what an element has taken; nothing when it goes over matches.
    pub(in super::super) fn folded(
        &mut self,
        at: Place,
        spec: &AggregateSpec,
        call: &Call<'_>,
        arguments: &[Expr],
        filter: Option<&Written>,
    ) -> Option<Bound> {
        let seen = self.elements?;
        let mut read = Vec::new();
        for argument in arguments {
            argument.walk(&mut |expr| {
                if let ExprKind::Column(column) = expr.kind {
                    read.push(column);
                }
            });
        }
        let owners: Vec<Option<usize>> = read.iter().map(|column| seen.owner(*column)).collect();
        let collects = |owner: &Option<usize>| {
            let piece = owner.and_then(|owner| seen.piece(owner));
            piece.is_some_and(|piece| piece.collects)
        };
        let element = owners.iter().find(|owner| collects(owner)).copied()??;
        let piece = seen.piece(element)?;
        let alone = owners.iter().all(|owner| *owner == Some(element));
        Some(self.fold_of(at, spec, (call, arguments, filter), element, piece, alone))
    }

    fn fold_of(
        &mut self,
        at: Place,
        spec: &AggregateSpec,
        (call, arguments, filter): (&Call<'_>, &[Expr], Option<&Written>),
        element: usize,
        piece: &Piece,
        alone: bool,
    ) -> Bound {
        let name = spec.names.first().copied().unwrap_or_default();
        let seen = self.elements.ok_or(Failed)?;
        let fold = self.plain_fold(at, spec, call, filter, piece)?;
        let called = piece.shown();
        if !alone {
            let message = format!("{name} over the rows of '{called}' reads nothing else");
            let hint = format!("for its last row alone write {called}[last].column");
            return self.fail_with(at, message, Some(hint));
        }
        let [argument] = arguments else {
            return Err(Failed);
        };
        let ty = match spec.function.result_type(&[argument.ty]) {
            Ok(ty) => ty,
            Err(wanted) => {
                let message = format!("{name} takes {wanted}, found {}", argument.ty);
                return self.fail(at, message);
            }
        };
        let mut argument = argument.clone();
        argument.for_each_column(&mut |column| *column -= piece.first);
        let take = Take::Fold(fold, argument);
        Ok(seen.keep(Register { element, take, ty }))
    }

    /// What an aggregate is over the rows of an element.
    fn plain_fold(
        &mut self,
        at: Place,
        spec: &AggregateSpec,
        call: &Call<'_>,
        filter: Option<&Written>,
        piece: &Piece,
    ) -> Result<Fold, Failed> {
        let name = spec.names.first().copied().unwrap_or_default();
        let fold = match spec.function {
            AggregateFunction::Count => Some(Fold::Count),
            AggregateFunction::Sum => Some(Fold::Sum),
            AggregateFunction::Avg => Some(Fold::Avg),
            AggregateFunction::Min => Some(Fold::Min),
            AggregateFunction::Max => Some(Fold::Max),
            AggregateFunction::StdDev => Some(Fold::StdDev),
            AggregateFunction::First => Some(Fold::First),
            AggregateFunction::Last => Some(Fold::Last),
            _ => None,
        };
        let called = piece.shown();
        let Some(fold) = fold.filter(|_| spec.preset == Preset::Nothing) else {
            let message =
                format!("{name} over the rows of '{called}' is not supported by this version");
            let hint = "count, sum, avg, min, max, stddev, first and last are".to_owned();
            return self.fail_with(at, message, Some(hint));
        };
        let word = match (call.distinct, filter) {
            (true, _) => "DISTINCT",
            (false, Some(_)) => "FILTER",
            (false, None) => return Ok(fold),
        };
        let message =
            format!("{word} over the rows of '{called}' is not supported by this version");
        let hint = format!("write {name}(CASE WHEN … THEN {called}.column END)");
        let hint = filter.map(|_| hint);
        self.fail_with(at, message, hint)
    }
}

/// Whether an access begins with an index: `e[0]`.
pub(in super::super) fn begins_with_index(chain: &[AccessExpr]) -> bool {
    matches!(chain, [AccessExpr::Subscript(_), ..])
}
