//! What a query does with a row of its output: HAVING, SELECT, order and limit of a batch.

use std::cell::Cell;
use std::cmp::Ordering;

use super::distinct::Unique;
use super::expr::{Compiled, Cx, Env, Operand, compile, predicate};
use super::gathered::Gathered;
use super::state::{Load, Part, Save, StateError};
use crate::event::{Batch, Stamp, Value};
use crate::sql::plan::{Emit, Expr, ExprKind, Flow, Input, Query, SortKey};

/// The tail of a query, over input rows or group rows.
pub(super) struct Output {
    having: Option<Operand<bool>>,
    select: Vec<Compiled>,
    order_by: Vec<(Compiled, SortOrder)>,
    limit: usize,
    offset: usize,
    /// Rows of the batch that is still open: output columns, then sort keys.
    pending: Gathered,
    /// DISTINCT within a batch.
    unique: Option<Unique>,
    /// Whether a batch that closes takes the place of what has come out before it, and whether
    /// one has.
    latest_only: bool,
    pub(super) closed: bool,
    /// Which rows of a batch come out: those of the one that closes, those of the one before, or
    /// both.
    emit: Emit,
    /// The output rows of the batch that closed last, when they will be given again.
    before: Gathered,
    /// What has come out and not yet been taken.
    pub(super) out: Batch,
    /// The order of a batch's rows while it is sorted.
    order: Vec<usize>,
    /// Where the output columns and sort keys lie in the row, when they all just repeat a column
    /// of it and HAVING keeps every row.
    plain: Option<Vec<usize>>,
    /// How a row is made of cells, when some output columns are computed.
    cells: Option<Cells>,
    /// Whether the joined rows that one row has brought about are put in order and counted.
    pub(super) gathers: bool,
    pub(super) faults: Cell<u64>,
}

/// The output columns over a row of which only those columns are there that are computed with.
#[derive(Clone)]
struct Cells {
    /// These columns.
    reads: Vec<usize>,
    having: Option<Operand<bool>>,
    select: Vec<OfCells>,
}

#[derive(Clone)]
enum OfCells {
    /// A column of the whole row.
    Repeated(usize),
    /// An expression over the columns that are there.
    Computed(Compiled),
}

impl Cells {
    fn new(query: &Query, cx: Cx<'_>) -> Cells {
        let repeated = |expr: &Expr| match expr.kind {
            ExprKind::Column(column) => Some(column),
            _ => None,
        };
        let mut reads = Vec::new();
        let computed = query.select.iter().filter(|expr| repeated(expr).is_none());
        for expr in computed.chain(&query.having) {
            expr.walk(&mut |expr| reads.extend(repeated(expr)));
        }
        reads.sort_unstable();
        reads.dedup();
        let columns = reads.last().map_or(0, |last| last + 1);
        let place = |column| reads.binary_search(&column).unwrap_or(0);
        let places: Vec<usize> = (0..columns).map(place).collect();
        let there = Cx {
            columns: &places,
            ..cx
        };
        let select = query.select.iter().map(|expr| match repeated(expr) {
            Some(column) => OfCells::Repeated(column),
            None => OfCells::Computed(compile(expr, there)),
        });
        Cells {
            having: query.having.as_ref().map(|having| predicate(having, there)),
            select: select.collect(),
            reads,
        }
    }
}

#[derive(Clone, Copy)]
struct SortOrder {
    descending: bool,
    nulls_first: bool,
}

impl Output {
    /// For rows as `cx` says.
    pub(super) fn new(query: &Query, cx: Cx<'_>) -> Output {
        let key = |key: &SortKey| {
            let order = SortOrder {
                descending: key.descending,
                nulls_first: key.nulls_first,
            };
            (compile(&key.expr, cx), order)
        };
        let limit = query
            .limit
            .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let mut output = Output {
            having: query.having.as_ref().map(|having| predicate(having, cx)),
            select: query.select.iter().map(|expr| compile(expr, cx)).collect(),
            order_by: query.order_by.iter().map(key).collect(),
            limit,
            offset: usize::try_from(query.offset).unwrap_or(usize::MAX),
            pending: Gathered::new(query.select.len() + query.order_by.len(), Part::Pending),
            unique: None,
            latest_only: false,
            closed: false,
            emit: query.emit,
            before: Gathered::new(query.select.len(), Part::Before),
            out: Batch::new(query.select.len()),
            order: Vec::new(),
            plain: None,
            cells: None,
            gathers: query.orders_matches(),
            faults: Cell::new(0),
        };
        // Rows that come out together.
        let (batch, snapshots) = (query.flow() == Flow::Batch, query.shows_snapshots());
        if query.distinct && (batch || snapshots) {
            output.unique = Some(Unique::new(query.names.len()));
        }
        output.latest_only = batch && snapshots;
        if output.having.is_none() {
            output.plain = output.exprs().map(Compiled::column).collect();
        }
        let of_cells =
            query.grouping.is_some() || matches!(query.input, Input::Join(_) | Input::Pattern(_));
        if of_cells && output.plain.is_none() {
            output.cells = Some(Cells::new(query, cx));
        }
        output
    }

    /// The same without any row.
    pub(super) fn fresh(&self) -> Output {
        Output {
            having: self.having.clone(),
            select: self.select.clone(),
            order_by: self.order_by.clone(),
            limit: self.limit,
            offset: self.offset,
            pending: self.pending.fresh(),
            unique: self.unique.as_ref().map(Unique::fresh),
            latest_only: self.latest_only,
            closed: false,
            emit: self.emit,
            before: self.before.fresh(),
            out: Batch::new(self.out.width()),
            order: Vec::new(),
            plain: self.plain.clone(),
            cells: self.cells.clone(),
            gathers: self.gathers,
            faults: Cell::new(0),
        }
    }

    fn exprs(&self) -> impl Iterator<Item = &Compiled> {
        let keys = self.order_by.iter().map(|(key, _)| key);
        self.select.iter().chain(keys)
    }

    /// The column of the row that each output column repeats, when each row given becomes one.
    pub(super) fn straight(&self) -> Option<&[usize]> {
        let plain = self.plain.as_ref()?;
        let every = self.offset == 0 && self.limit > 0;
        plain.get(..self.out.width()).filter(|_| every)
    }

    /// Like [`Output::single`], for a row of `width` columns of which `cell` appends each. The row
    /// is made, in `row`, only when it is needed.
    #[inline]
    pub(super) fn single_of(
        &mut self,
        row: &mut Vec<Value>,
        width: usize,
        cell: impl Fn(usize, &mut Vec<Value>),
        stamp: Stamp,
        at: Stamp,
    ) {
        if self.gathers {
            self.gather_of(row, width, cell, at);
            return;
        }
        if self.offset > 0 || self.limit == 0 {
            return;
        }
        let Some(plain) = &self.plain else {
            self.compute_of(row, width, cell, stamp, at);
            return;
        };
        let columns = plain.iter().take(self.out.width());
        self.out.push_with(at, |values| {
            columns.for_each(|column| cell(*column, values))
        });
    }

    /// Of the row only those columns are made, in `row`, that expressions read; the others go
    /// straight to where they are repeated.
    #[inline]
    fn compute_of(
        &mut self,
        row: &mut Vec<Value>,
        width: usize,
        cell: impl Fn(usize, &mut Vec<Value>),
        stamp: Stamp,
        at: Stamp,
    ) {
        let Some(Cells {
            reads,
            having,
            select,
        }) = &self.cells
        else {
            row.clear();
            (0..width).for_each(|column| cell(column, row));
            self.single(row, stamp, at);
            return;
        };
        row.clear();
        reads.iter().for_each(|column| cell(*column, row));
        let env = Env::new(row, stamp, at, &self.faults);
        if having
            .as_ref()
            .is_some_and(|having| having.get(&env) != Some(true))
        {
            return;
        }
        self.out.push_with(at, |values| {
            for column in select {
                match column {
                    OfCells::Repeated(column) => cell(*column, values),
                    OfCells::Computed(expr) => expr.push_to(&env, values),
                }
            }
        });
    }

    /// Like [`Output::gather`], for a row of `width` columns of which `cell` appends each.
    #[inline]
    pub(super) fn gather_of(
        &mut self,
        row: &mut Vec<Value>,
        width: usize,
        cell: impl Fn(usize, &mut Vec<Value>),
        at: Stamp,
    ) {
        let Some(plain) = &self.plain else {
            row.clear();
            (0..width).for_each(|column| cell(column, row));
            self.gather(row, at, at);
            return;
        };
        self.pending.gather().push_with(at, |values| {
            plain.iter().for_each(|column| cell(*column, values))
        });
        self.keep_unique();
    }

    /// Takes the last row of the batch away when there is one like it.
    fn keep_unique(&mut self) {
        let Some(unique) = &mut self.unique else {
            return;
        };
        let rows = self.pending.rows();
        let last = rows.len().checked_sub(1);
        let row = last.and_then(|last| rows.row(last));
        if row.is_some_and(|row| !unique.is_new(row)) {
            self.pending.gather().pop();
        }
    }

    /// Computes the output columns of a row, as [`Output::single`] would give them; whether it
    /// would give any.
    pub(super) fn compute(&self, row: &[Value], stamp: Stamp, to: &mut Vec<Value>) -> bool {
        let env = Env::new(row, stamp, stamp, &self.faults);
        let having = self.having.as_ref();
        let passes = having.is_none_or(|having| having.get(&env) == Some(true));
        if !passes || self.offset > 0 || self.limit == 0 {
            return false;
        }
        to.clear();
        self.select.iter().for_each(|expr| expr.push_to(&env, to));
        true
    }

    /// How an expression sees `row`.
    #[inline]
    pub(super) fn env<'a>(&'a self, row: &'a [Value], stamp: Stamp, now: Stamp) -> Env<'a> {
        Env::new(row, stamp, now, &self.faults)
    }

    /// Expressions that could not be computed since the last call.
    pub(super) fn take_faults(&self) -> u64 {
        self.faults.take()
    }

    /// A row that is an output batch by itself.
    #[inline]
    pub(super) fn single(&mut self, row: &[Value], stamp: Stamp, at: Stamp) {
        if self.offset > 0 || self.limit == 0 {
            return;
        }
        let env = Env::new(row, stamp, at, &self.faults);
        if self
            .having
            .as_ref()
            .is_some_and(|having| having.get(&env) != Some(true))
        {
            return;
        }
        let select = &self.select;
        self.out.push_with(at, |values| {
            select.iter().for_each(|expr| expr.push_to(&env, values));
        });
    }

    /// A row of the batch that is open.
    pub(super) fn gather(&mut self, row: &[Value], stamp: Stamp, at: Stamp) {
        let env = Env::new(row, stamp, at, &self.faults);
        if self
            .having
            .as_ref()
            .is_some_and(|having| having.get(&env) != Some(true))
        {
            return;
        }
        let exprs = self
            .select
            .iter()
            .chain(self.order_by.iter().map(|(key, _)| key));
        self.pending.gather().push_with(stamp, |values| {
            exprs.for_each(|expr| expr.push_to(&env, values));
        });
        self.keep_unique();
    }

    /// The batch is complete: its rows come out, in order, all with the stamp `at`. Where expired
    /// rows are asked for, it is now that those of the batch before expire.
    pub(super) fn close(&mut self, at: Stamp) {
        if self.latest_only {
            self.out.clear();
            self.closed = true;
        }
        if self.emit == Emit::Current {
            self.give_pending(at);
            return;
        }
        let none = Batch::new(self.out.width());
        let out = std::mem::replace(&mut self.out, none);
        self.give_pending(at);
        let now = std::mem::replace(&mut self.out, out);
        let before = self.before.renew();
        self.out.append_stamped(before, at);
        if self.emit == Emit::All {
            self.out.append(&mut now.clone());
        }
        *before = now;
    }

    fn give_pending(&mut self, at: Stamp) {
        if let Some(unique) = &mut self.unique {
            unique.clear();
        }
        let all = self.offset == 0 && self.limit >= self.pending.rows().len();
        if all && self.order_by.is_empty() {
            self.out.append_stamped(self.pending.renew(), at);
            return;
        }
        let width = self.out.width();
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(0..self.pending.rows().len());
        if !self.order_by.is_empty() {
            // Ties stay in the order of arrival.
            order.sort_unstable_by(|a, b| self.compare(*a, *b).then(a.cmp(b)));
        }
        for index in order.iter().copied().skip(self.offset).take(self.limit) {
            if let Some(row) = self.pending.rows().row(index) {
                self.out.push(at, row.values.iter().take(width).cloned());
            }
        }
        self.order = order;
        self.pending.renew().clear();
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let keys = |index| {
            let values = self
                .pending
                .rows()
                .row(index)
                .map_or(&[][..], |row| row.values);
            values.get(self.out.width()..).unwrap_or_default()
        };
        for ((x, y), (_, order)) in keys(a).iter().zip(keys(b)).zip(&self.order_by) {
            let ordering = match (x.is_null(), y.is_null()) {
                (true, true) => Ordering::Equal,
                (true, false) if order.nulls_first => Ordering::Less,
                (true, false) => Ordering::Greater,
                (false, true) if order.nulls_first => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) if order.descending => y.order(x),
                (false, false) => x.order(y),
            };
            if ordering != Ordering::Equal {
                return ordering;
            }
        }
        Ordering::Equal
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.pending.save(save)?;
        self.before.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.pending.load(load)?;
        self.before.load(load)?;
        if let Some(unique) = &mut self.unique {
            unique.clear();
            for row in self.pending.rows().rows().iter() {
                unique.is_new(row);
            }
        }
        Ok(())
    }
}
