//! What the rows of a query do to a table.

use std::cell::Cell;

use super::super::expr::{Compiled, Cx, Env, Operand, compile, predicate};
use super::super::group::NULL;
use super::super::rows::Slot;
use super::{Refused, Seek, SharedTable, Table};
use crate::event::{Row, Rows, Stamp, Value};
use crate::sql::plan::{Expr, ExprKind, Match, Write};

/// A query's way of writing to a table.
///
/// Rows are taken one after another: each sees what those before it have done. What a row finds is
/// settled before anything changes, and every expression is evaluated over the table's row as it
/// was.
pub(in super::super) struct TableWrite {
    table: SharedTable,
    action: Action,
    /// The query's row and behind it the table's.
    both: Vec<Value>,
    key: Vec<Value>,
    found: Vec<Slot>,
    changed: Vec<Value>,
}

#[derive(Clone)]
enum Action {
    Insert,
    Upsert(Meets),
    Update(Meets, Vec<(usize, Compiled)>),
    Delete(Meets),
}

/// Which rows of the table a row meets.
#[derive(Clone)]
struct Meets {
    keys: Vec<Compiled>,
    /// How rows are found by the keys; none: there are none, and every row is looked at.
    seek: Option<Seek>,
    residual: Option<Operand<bool>>,
}

impl Meets {
    fn new(plan: &Match, table: &mut Table, cx: Cx<'_>) -> Meets {
        let columns: Vec<usize> = plan.keys.iter().map(|(column, _)| *column).collect();
        Meets {
            keys: plan.keys.iter().map(|(_, key)| compile(key, cx)).collect(),
            seek: (!columns.is_empty()).then(|| table.seek(&columns)),
            residual: plan.residual.as_ref().map(|expr| predicate(expr, cx)),
        }
    }
}

impl TableWrite {
    /// The same for another query with the same plan.
    pub(in super::super) fn fresh(&self) -> TableWrite {
        TableWrite {
            table: self.table.clone(),
            action: self.action.clone(),
            both: Vec::new(),
            key: Vec::new(),
            found: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// The expressions of `write` are compiled as `cx` says.
    pub(in super::super) fn new(write: &Write, table: SharedTable, cx: Cx<'_>) -> TableWrite {
        let mut locked = table.lock();
        let action = match write {
            Write::Insert => Action::Insert,
            Write::Upsert { on } if on.keys.is_empty() && on.residual.is_none() => {
                let by_key = Match {
                    keys: by_primary_key(&locked),
                    residual: None,
                };
                Action::Upsert(Meets::new(&by_key, &mut locked, cx))
            }
            Write::Upsert { on } => Action::Upsert(Meets::new(on, &mut locked, cx)),
            Write::Update { on, set } => {
                let set = set
                    .iter()
                    .map(|(column, expr)| (*column, compile(expr, cx)));
                Action::Update(Meets::new(on, &mut locked, cx), set.collect())
            }
            Write::Delete { on } => Action::Delete(Meets::new(on, &mut locked, cx)),
        };
        drop(locked);
        TableWrite {
            table,
            action,
            both: Vec::new(),
            key: Vec::new(),
            found: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// Takes rows of the query. What the table refuses is counted with what cannot be computed.
    pub(in super::super) fn apply(&mut self, rows: Rows<'_>, faults: &Cell<u64>) {
        if matches!(self.action, Action::Insert) {
            let mut table = self.table.lock();
            for row in rows.iter() {
                table.purge(row.stamp.time);
                insert(&mut table, row, faults);
            }
        } else {
            let action = std::mem::replace(&mut self.action, Action::Insert);
            for row in rows.iter() {
                self.apply_one(&action, row, faults);
            }
            self.action = action;
        }
        self.table.lock().tidy();
    }

    fn apply_one(&mut self, action: &Action, row: Row<'_>, faults: &Cell<u64>) {
        match action {
            // Is done for all rows at once.
            Action::Insert => {}
            Action::Upsert(on) => {
                self.find(on, row, faults);
                let mut table = self.table.lock();
                if self.found.is_empty() {
                    insert(&mut table, row, faults);
                }
                for slot in &self.found {
                    change(&mut table, *slot, row.values, row.stamp, faults);
                }
            }
            Action::Update(on, set) => {
                self.find(on, row, faults);
                self.update(set, row, faults);
            }
            Action::Delete(on) => {
                self.find(on, row, faults);
                let mut table = self.table.lock();
                self.found.iter().for_each(|slot| table.remove(*slot));
            }
        }
    }

    /// Sets columns of the rows that were found. The values of all are computed before any is
    /// changed.
    fn update(&mut self, set: &[(usize, Compiled)], row: Row<'_>, faults: &Cell<u64>) {
        self.changed.clear();
        for slot in &self.found {
            put_together(&mut self.both, row, &self.table, *slot);
            let env = Env::new(&self.both, row.stamp, row.stamp, faults);
            let start = self.changed.len();
            self.changed
                .extend(self.both.iter().skip(row.values.len()).cloned());
            for (column, expr) in set {
                if let Some(place) = self.changed.get_mut(start + column) {
                    *place = expr.value(&env);
                }
            }
        }
        let mut table = self.table.lock();
        let width = table.width();
        for (slot, changed) in self.found.iter().zip(self.changed.chunks_exact(width)) {
            change(&mut table, *slot, changed, row.stamp, faults);
        }
    }

    /// Which rows of the table `row` meets, oldest first.
    fn find(&mut self, on: &Meets, row: Row<'_>, faults: &Cell<u64>) {
        let env = Env::new(row.values, row.stamp, row.stamp, faults);
        self.key.clear();
        self.key.extend(on.keys.iter().map(|key| key.value(&env)));
        self.found.clear();
        let mut table = self.table.lock();
        table.purge(row.stamp.time);
        match &on.seek {
            Some(seek) => {
                let key = |place| self.key.get(place).unwrap_or(&NULL);
                table.find(seek, key, &mut self.found);
            }
            None => table.scan(&mut self.found),
        }
        drop(table);
        let Some(residual) = &on.residual else {
            return;
        };
        let TableWrite { both, table, .. } = self;
        self.found.retain(|slot| {
            put_together(both, row, table, *slot);
            let env = Env::new(both, row.stamp, row.stamp, faults);
            residual.get(&env) == Some(true)
        });
    }
}

/// What UPSERT without ON means: the columns of the primary key equal those of the query's row.
fn by_primary_key(table: &Table) -> Vec<(usize, Expr)> {
    let fields = table.schema.fields();
    let columns = table.key_columns().iter();
    let columns = columns.filter_map(|column| Some((*column, fields.get(*column)?.ty)));
    let same = |(column, ty)| {
        let kind = ExprKind::Column(column);
        (column, Expr { kind, ty })
    };
    columns.map(same).collect()
}

/// Makes `both` of a row and one of the table. The table is free again behind it, for the
/// expressions that follow.
fn put_together(both: &mut Vec<Value>, row: Row<'_>, table: &SharedTable, slot: Slot) {
    both.clear();
    both.extend_from_slice(row.values);
    both.extend_from_slice(table.lock().row(slot));
}

fn insert(table: &mut Table, row: Row<'_>, faults: &Cell<u64>) {
    if let Err(why) = table.insert(row.values, row.stamp) {
        refused(table, row.values, row.stamp, why, faults);
    }
}

fn change(table: &mut Table, slot: Slot, row: &[Value], stamp: Stamp, faults: &Cell<u64>) {
    if let Err(why) = table.change(slot, row, stamp) {
        refused(table, row, stamp, why, faults);
    }
}

fn refused(table: &mut Table, row: &[Value], stamp: Stamp, why: Refused, faults: &Cell<u64>) {
    faults.set(faults.get() + 1);
    table.note_refused(row, stamp, why);
}
