//! The match row: what elements write into it as they take rows.
//!
//! Behind the columns of the plan come hidden ones: how many rows an element has taken, what an
//! aggregate must know besides its result, until when an absence waits, when parts were done.

use super::super::aggregate::CompensatedSum;
use super::super::expr::{Compiled, Cx, Env, compile};
use super::automaton::{Elements, bit};
use crate::event::{Row, Timestamp, Value};
use crate::sql::plan::{Fold, Pattern, Register, Take, Takes};

/// How a match row is laid out and written.
pub(super) struct Registers {
    /// What a row is at first: NULLs, and counts of 0.
    initial: Vec<Value>,
    /// The element that each column belongs to; none for those of the whole match.
    owners: Vec<Option<usize>>,
    /// What each element writes.
    writes: Vec<Vec<Write>>,
    /// Where each element counts its rows, when it may take several.
    counts: Vec<Option<usize>>,
    /// Until when each absence waits.
    until: Vec<Option<usize>>,
}

/// One thing that an element writes at each row.
enum Write {
    /// The column of the row with this number.
    Nth {
        number: u64,
        column: usize,
        to: usize,
    },
    NthTime {
        number: u64,
        to: usize,
    },
    /// A column of the last row.
    Last {
        column: usize,
        to: usize,
    },
    LastTime {
        to: usize,
    },
    /// What was written there before.
    Shift {
        from: usize,
        to: usize,
    },
    Count {
        to: usize,
    },
    Fold {
        fold: Fold,
        argument: Compiled,
        to: usize,
        /// The first of the hidden columns.
        hidden: usize,
    },
}

impl Registers {
    pub(super) fn new(plan: &Pattern, cx: Cx<'_>) -> Registers {
        let elements = plan.elements.len();
        let mut registers = Registers {
            initial: plan.registers.iter().map(at_first).collect(),
            owners: plan.registers.iter().map(|one| Some(one.element)).collect(),
            writes: (0..elements).map(|_| Vec::new()).collect(),
            counts: vec![None; elements],
            until: vec![None; elements],
        };
        for (number, element) in plan.elements.iter().enumerate() {
            match element.takes {
                Takes::Rows {
                    min: 1,
                    max: Some(1),
                } => {}
                Takes::Rows { .. } => {
                    let to = registers.hidden(Some(number), Value::Int(0));
                    if let Some(count) = registers.counts.get_mut(number) {
                        *count = Some(to);
                    }
                }
                Takes::None { for_ms: Some(_) } => {
                    let to = registers.hidden(Some(number), Value::Null);
                    if let Some(until) = registers.until.get_mut(number) {
                        *until = Some(to);
                    }
                }
                Takes::None { for_ms: None } => {}
            }
        }
        for (to, register) in plan.registers.iter().enumerate() {
            registers.write(register, to, cx);
        }
        // What shifts reads what has not been overwritten yet.
        for writes in &mut registers.writes {
            writes.reverse();
        }
        registers
    }

    /// Another column behind the others.
    pub(super) fn hidden(&mut self, owner: Option<usize>, initial: Value) -> usize {
        self.initial.push(initial);
        self.owners.push(owner);
        self.initial.len() - 1
    }

    fn write(&mut self, register: &Register, to: usize, cx: Cx<'_>) {
        let element = register.element;
        let write = match &register.take {
            Take::Nth(number, column) => Write::Nth {
                number: *number,
                column: *column,
                to,
            },
            Take::NthTime(number) => Write::NthTime {
                number: *number,
                to,
            },
            Take::Count => Write::Count { to },
            Take::Last(back, column) => {
                let last = Write::Last {
                    column: *column,
                    to: self.shifts(element, *back, to),
                };
                self.add_first(element, *back, last);
                return;
            }
            Take::LastTime(back) => {
                let last = Write::LastTime {
                    to: self.shifts(element, *back, to),
                };
                self.add_first(element, *back, last);
                return;
            }
            Take::Fold(fold, argument) => {
                let hidden = self.initial.len();
                for _ in 0..hidden_columns(*fold) {
                    self.hidden(Some(element), Value::Null);
                }
                Write::Fold {
                    fold: *fold,
                    argument: compile(argument, cx),
                    to,
                    hidden,
                }
            }
        };
        self.add(element, write);
    }

    /// Columns through which values go until they are `back` rows old and come to `to`. Gives the
    /// first of them; the shifts are those that were added last.
    fn shifts(&mut self, element: usize, back: u64, to: usize) -> usize {
        let mut to = to;
        let mut shifts = Vec::new();
        for _ in 0..back {
            let from = self.hidden(Some(element), Value::Null);
            shifts.push(Write::Shift { from, to });
            to = from;
        }
        // They are done in reverse.
        for shift in shifts.into_iter().rev() {
            self.add(element, shift);
        }
        to
    }

    /// Adds what is to be done behind the shifts that were added just now.
    fn add_first(&mut self, element: usize, shifts: u64, write: Write) {
        let shifts = usize::try_from(shifts).unwrap_or(usize::MAX);
        if let Some(writes) = self.writes.get_mut(element) {
            let place = writes.len().saturating_sub(shifts);
            writes.insert(place, write);
        }
    }

    fn add(&mut self, element: usize, write: Write) {
        if let Some(writes) = self.writes.get_mut(element) {
            writes.push(write);
        }
    }

    /// Columns of a row, hidden ones included.
    pub(super) fn width(&self) -> usize {
        self.initial.len()
    }

    /// A row at first.
    pub(super) fn initial(&self) -> &[Value] {
        &self.initial
    }

    /// Until when an absence waits.
    pub(super) fn until(&self, element: usize, values: &[Value]) -> Option<Timestamp> {
        let column = self.until.get(element).copied().flatten()?;
        values.get(column)?.as_int().map(Timestamp)
    }

    pub(super) fn set_until(&self, element: usize, values: &mut [Value], until: Timestamp) {
        let column = self.until.get(element).copied().flatten();
        if let Some(value) = column.and_then(|column| values.get_mut(column)) {
            *value = Value::Int(until.0);
        }
    }

    /// Forgets what elements have written.
    pub(super) fn forget(&self, elements: Elements, values: &mut [Value]) {
        let columns = values.iter_mut().zip(&self.initial).zip(&self.owners);
        for ((value, initial), owner) in columns {
            if owner.is_some_and(|owner| elements & bit(owner) != 0) {
                value.clone_from(initial);
            }
        }
    }

    /// An element takes a row: gives how many it has taken now.
    #[inline]
    pub(super) fn take(
        &self,
        element: usize,
        row: Row<'_>,
        values: &mut [Value],
        env: &Env<'_>,
    ) -> u64 {
        let mut count = 1;
        if let Some(column) = self.counts.get(element).copied().flatten() {
            if let Some(value) = values.get_mut(column) {
                let next = value.as_int().unwrap_or(0).saturating_add(1);
                *value = Value::Int(next);
                count = u64::try_from(next).unwrap_or(1);
            }
        }
        for write in self.writes.get(element).into_iter().flatten() {
            write.apply(row, count, values, env);
        }
        count
    }
}

/// What a register is before its element has taken anything.
fn at_first(register: &Register) -> Value {
    match register.take {
        Take::Count | Take::Fold(Fold::Count, _) => Value::Int(0),
        Take::Nth(..) | Take::Last(..) | Take::NthTime(_) | Take::LastTime(_) | Take::Fold(..) => {
            Value::Null
        }
    }
}

/// A sum: the parts of a compensated one, or the two halves of an integer.
const SUM_COLUMNS: usize = 4;

/// What an aggregate must know besides its result.
fn hidden_columns(fold: Fold) -> usize {
    match fold {
        Fold::Count | Fold::Min | Fold::Max | Fold::First | Fold::Last => 0,
        Fold::Sum => SUM_COLUMNS,
        // And how many values.
        Fold::Avg => SUM_COLUMNS + 1,
        // How many values, their mean, the sum of the squares of what they are off.
        Fold::StdDev => 3,
    }
}

fn set(values: &mut [Value], to: usize, value: Value) {
    if let Some(place) = values.get_mut(to) {
        *place = value;
    }
}

fn copy(row: Row<'_>, column: usize, values: &mut [Value], to: usize) {
    if let (Some(value), Some(place)) = (row.values.get(column), values.get_mut(to)) {
        place.assign(value);
    }
}

impl Write {
    #[inline]
    fn apply(&self, row: Row<'_>, count: u64, values: &mut [Value], env: &Env<'_>) {
        match self {
            Write::Nth { number, column, to } => {
                if count == number + 1 {
                    copy(row, *column, values, *to);
                }
            }
            Write::NthTime { number, to } => {
                if count == number + 1 {
                    set(values, *to, Value::Int(row.stamp.time.0));
                }
            }
            Write::Last { column, to } => copy(row, *column, values, *to),
            Write::LastTime { to } => set(values, *to, Value::Int(row.stamp.time.0)),
            Write::Shift { from, to } => {
                let value = values.get(*from).cloned().unwrap_or_default();
                set(values, *to, value);
            }
            Write::Count { to } => {
                set(
                    values,
                    *to,
                    Value::Int(i64::try_from(count).unwrap_or(i64::MAX)),
                );
            }
            Write::Fold {
                fold,
                argument,
                to,
                hidden,
            } => fold_in(*fold, &argument.value(env), values, *to, *hidden),
        }
    }
}

/// One more value of an aggregate.
fn fold_in(fold: Fold, value: &Value, values: &mut [Value], to: usize, hidden: usize) {
    if value.is_null() {
        return;
    }
    let known = values.get(to).cloned().unwrap_or_default();
    let int = |values: &[Value], column: usize| {
        let value = values.get(column).and_then(Value::as_int);
        value.unwrap_or_default()
    };
    let better = |wanted| known.is_null() || value.order(&known) == wanted;
    let result = match fold {
        Fold::Count => Value::Int(int(values, to).saturating_add(1)),
        Fold::Min if better(std::cmp::Ordering::Less) => value.clone(),
        Fold::Max if better(std::cmp::Ordering::Greater) => value.clone(),
        Fold::First if known.is_null() => value.clone(),
        Fold::Last => value.clone(),
        Fold::Min | Fold::Max | Fold::First => return,
        Fold::Sum => add(value, values, hidden, None),
        Fold::Avg => {
            let count = int(values, hidden + SUM_COLUMNS).saturating_add(1);
            set(values, hidden + SUM_COLUMNS, Value::Int(count));
            add(value, values, hidden, Some(count))
        }
        Fold::StdDev => spread(value, values, hidden),
    };
    set(values, to, result);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a count of rows, and the mean is a DOUBLE"
)]
fn add(value: &Value, values: &mut [Value], hidden: usize, count: Option<i64>) -> Value {
    let half = |values: &[Value], column: usize| values.get(column).cloned().unwrap_or_default();
    let (first, second) = (half(values, hidden), half(values, hidden + 1));
    if let Value::Int(number) = value {
        let (high, low) = (first.as_int().unwrap_or(0), second.as_int().unwrap_or(0));
        let sum = (i128::from(high) << 64) | i128::from(u64::from_le_bytes(low.to_le_bytes()));
        let sum = sum + i128::from(*number);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the two halves of 128 bits"
        )]
        let (high, low) = ((sum >> 64) as i64, sum as i64);
        set(values, hidden, Value::Int(high));
        set(values, hidden + 1, Value::Int(low));
        return match count {
            None => i64::try_from(sum).map_or(Value::Null, Value::Int),
            Some(count) => Value::finite(sum as f64 / count as f64),
        };
    }
    let state = values.get(hidden..hidden + SUM_COLUMNS).unwrap_or_default();
    let mut sum = CompensatedSum::load(state).unwrap_or_default();
    sum.add(value.as_float().unwrap_or_default());
    for (column, part) in sum.save().into_iter().enumerate() {
        set(values, hidden + column, part);
    }
    Value::finite(match count {
        None => sum.total(),
        Some(count) => sum.mean(count as f64),
    })
}

/// The standard deviation, by B. P. Welford's method (1962).
fn spread(value: &Value, values: &mut [Value], hidden: usize) -> Value {
    let x = value.as_float().unwrap_or_default();
    let known = |column: usize| {
        let value = values.get(hidden + column).and_then(Value::as_float);
        value.unwrap_or_default()
    };
    let (count, mean, squares) = (known(0) + 1.0, known(1), known(2));
    let off = x - mean;
    let mean = mean + off / count;
    let squares = squares + off * (x - mean);
    for (column, value) in [count, mean, squares].into_iter().enumerate() {
        set(values, hidden + column, Value::finite(value));
    }
    Value::finite((squares / count).sqrt())
}
