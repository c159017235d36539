//! Where a stream comes into a join: its filter and its window.

use std::cell::Cell;

use super::super::expr::{Compiled, Cx, Env, Operand, compile, predicate};
use super::super::gathered::Gathered;
use super::super::state::{Load, Part, Save, StateError};
use super::super::window::{AnyWindow, Changes, Picked};
use super::tree::{Coming, Place};
use crate::event::{Batch, Row, Rows, Stamp, Timestamp, Value};
use crate::sql::plan::{Emit, Expr, StreamId, StreamInput, Window};

/// One stream of a join.
pub(super) struct Port {
    plan: StreamInput,
    /// The side to which its rows come.
    pub(super) place: Place,
    /// Whether its rows look for matches all the way up.
    pub(super) reaches: bool,
    filter: Option<Operand<bool>>,
    behind: Option<Operand<bool>>,
    /// The keys of its side, over the stream's whole row.
    pub(super) keys: Vec<Compiled>,
    /// Where these lie in it, when all of them are columns.
    pub(super) key_columns: Option<Vec<usize>>,
    window: AnyWindow,
    form: Form,
    /// The number by which its window knows the row that came last.
    id: u64,
    /// Rows on their way into the window: the kept columns and behind them the row's number.
    incoming: Batch,
    /// Their numbers alone.
    numbers: Batch,
    /// Rows that have come out of the window, by their place in `steps`.
    pub(super) arrived: Batch,
    /// The rows of the batch that is open.
    open: Gathered,
    /// What the window has done and the join has not yet taken in.
    steps: Vec<Step>,
    taken: usize,
    /// The rows that have passed the filter.
    pub(super) picked: Vec<usize>,
}

/// Whether the rows of a stream leave its window in the order in which they came, or all together.
pub(super) fn leave_in_order(input: &StreamInput) -> bool {
    match &input.window {
        Some(Window::Length { .. } | Window::Time { .. } | Window::TimeLength { .. }) => true,
        Some(window) => window.is_batch(),
        None => false,
    }
}

/// What a window does to a side.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The row with this number leaves.
    Leave { id: u64, at: Stamp },
    /// Every row leaves.
    LeaveAll { at: Stamp },
    /// A row comes: its place among those that have arrived.
    Enter { place: usize },
}

/// How rows go through the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// There is none, or nobody sees what it holds.
    Straight,
    /// It does not look into rows and lets them in at once: it keeps their numbers only.
    Numbers,
    /// It keeps the rows.
    Rows,
    /// It gives rows when a batch closes, until then they are kept here.
    Batches,
}

impl Port {
    /// `held`: whether the side holds the rows.
    pub(super) fn new(
        plan: &StreamInput,
        place: Place,
        held: bool,
        reaches: bool,
        keys: &[&Expr],
        cx: Cx<'_>,
    ) -> Port {
        let form = match &plan.window {
            None => Form::Straight,
            Some(Window::Length { .. } | Window::Time { .. } | Window::TimeLength { .. }) => {
                if held { Form::Numbers } else { Form::Straight }
            }
            Some(window) if window.is_batch() => Form::Batches,
            Some(_) => Form::Rows,
        };
        let whole = Cx {
            columns: &plan.keep,
            ..cx
        };
        let predicate = |expr: &Option<Expr>| expr.as_ref().map(|expr| predicate(expr, cx));
        let width = plan.keep.len() + 1;
        let keys: Vec<Compiled> = keys.iter().map(|key| compile(key, whole)).collect();
        Port {
            place,
            reaches,
            filter: predicate(&plan.filter),
            behind: predicate(&plan.behind),
            key_columns: keys.iter().map(Compiled::column).collect(),
            keys,
            window: window(plan, form, cx),
            form,
            id: 0,
            incoming: Batch::new(width),
            numbers: Batch::new(1),
            arrived: Batch::new(width),
            open: Gathered::new(width, Part::Pending),
            steps: Vec::new(),
            taken: 0,
            picked: Vec::new(),
            plan: plan.clone(),
        }
    }

    /// The same, with nothing in it.
    pub(super) fn fresh(&self) -> Port {
        let width = self.incoming.width();
        Port {
            plan: self.plan.clone(),
            place: self.place,
            reaches: self.reaches,
            filter: self.filter.clone(),
            behind: self.behind.clone(),
            keys: self.keys.clone(),
            key_columns: self.key_columns.clone(),
            window: self.window.fresh(),
            form: self.form,
            id: 0,
            incoming: Batch::new(width),
            numbers: Batch::new(1),
            arrived: Batch::new(width),
            open: self.open.fresh(),
            steps: Vec::new(),
            taken: 0,
            picked: Vec::new(),
        }
    }

    pub(super) fn stream(&self) -> StreamId {
        self.plan.stream
    }

    /// The stream's columns that the join reads.
    pub(super) fn keep(&self) -> &[usize] {
        &self.plan.keep
    }

    /// Whether rows come to the join as they come in.
    pub(super) fn is_straight(&self) -> bool {
        self.form == Form::Straight && self.behind.is_none()
    }

    /// Whether its rows come when a batch closes.
    pub(super) fn is_batch(&self) -> bool {
        self.form == Form::Batches
    }

    /// Notes in `picked` the rows that pass the filter, which sees the whole row.
    pub(super) fn pick(&mut self, rows: Rows<'_>, faults: &Cell<u64>) {
        let Port { picked, filter, .. } = self;
        picked.clear();
        let Some(filter) = filter else {
            picked.extend(0..rows.len());
            return;
        };
        let passing = (0..).zip(rows.iter()).filter(|(_, row)| {
            filter.get(&Env::new(row.values, row.stamp, row.stamp, faults)) == Some(true)
        });
        picked.extend(passing.map(|(place, _)| place));
    }

    /// Takes rows through the filter and the window. What comes of it is in the steps.
    pub(super) fn take(&mut self, rows: Rows<'_>, faults: &Cell<u64>) {
        self.pick(rows, faults);
        self.incoming.clear();
        for row in self.picked.iter().filter_map(|place| rows.row(*place)) {
            self.id += 1;
            let id = i64::try_from(self.id).unwrap_or(i64::MAX);
            let kept = self.plan.keep.iter();
            self.incoming.push_with(row.stamp, |to| {
                for value in kept.map(|column| row.values.get(*column)) {
                    match value {
                        Some(value) => value.copy_to(to),
                        None => to.push(Value::Null),
                    }
                }
                to.push(Value::Int(id));
            });
        }
        self.picked.clear();
        self.picked.extend(0..self.incoming.len());
        let rows = match self.form {
            Form::Straight | Form::Rows | Form::Batches => self.incoming.rows(),
            Form::Numbers => {
                self.numbers.clear();
                for row in self.incoming.rows().iter() {
                    self.numbers.push(row.stamp, row.values.last().cloned());
                }
                self.numbers.rows()
            }
        };
        let mut recorder = Recorder {
            form: self.form,
            behind: self.behind.as_ref(),
            incoming: &self.incoming,
            before: self.id - self.incoming.len() as u64,
            arrived: &mut self.arrived,
            open: &mut self.open,
            steps: &mut self.steps,
            faults,
        };
        self.window
            .push(Picked::new(rows, &self.picked), &mut recorder);
        self.window.pushed(&mut recorder);
        faults.set(faults.get() + self.window.take_faults());
    }

    /// The clock has reached the deadline of some window.
    pub(super) fn fire(&mut self, at: Stamp, faults: &Cell<u64>) {
        self.incoming.clear();
        let mut recorder = Recorder {
            form: self.form,
            behind: self.behind.as_ref(),
            incoming: &self.incoming,
            before: self.id,
            arrived: &mut self.arrived,
            open: &mut self.open,
            steps: &mut self.steps,
            faults,
        };
        self.window.fire(at, &mut recorder);
    }

    /// The next step, when it makes rows leave.
    pub(super) fn next_leave(&mut self) -> Option<Step> {
        let step = *self.steps.get(self.taken)?;
        match step {
            Step::Leave { .. } | Step::LeaveAll { .. } => {
                self.taken += 1;
                Some(step)
            }
            Step::Enter { .. } => None,
        }
    }

    /// The next step's row, when it lets one in: its place among those that have arrived.
    pub(super) fn next_enter(&mut self) -> Option<usize> {
        match self.steps.get(self.taken)? {
            Step::Enter { place } => {
                self.taken += 1;
                Some(*place)
            }
            Step::Leave { .. } | Step::LeaveAll { .. } => None,
        }
    }

    /// A row that has arrived, and its number.
    pub(super) fn row(&self, place: usize) -> Option<(Row<'_>, u64)> {
        let row = self.arrived.row(place)?;
        let (id, values) = row.values.split_last()?;
        let stamp = row.stamp;
        Some((Row { stamp, values }, number(id)?))
    }

    /// The join has taken in all steps.
    pub(super) fn done(&mut self) {
        self.steps.clear();
        self.arrived.clear();
        self.taken = 0;
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.window.deadline()
    }

    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        self.window.earliest(time)
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        if self.form == Form::Straight {
            return Ok(());
        }
        save.put(Part::Holder, 0, &self.id)?;
        self.open.save(save)?;
        self.window.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        if self.form == Form::Straight {
            return Ok(());
        }
        self.id = load.one(Part::Holder)?.unwrap_or(0);
        self.open.load(load)?;
        self.window.load(load)
    }
}

/// The window through which rows go in a form, with the row's number behind its columns.
fn window(plan: &StreamInput, form: Form, cx: Cx<'_>) -> AnyWindow {
    let all: Vec<usize> = (0..=plan.keep.len()).collect();
    let keep = match form {
        Form::Straight => return AnyWindow::unbounded(),
        Form::Numbers => all.get(..1),
        Form::Rows | Form::Batches => all.get(..),
    };
    // Whoever leaves is seen, by the other side.
    let keep = keep.unwrap_or_default();
    AnyWindow::new(plan.window.as_ref(), Emit::All, keep, cx)
}

fn number(id: &Value) -> Option<u64> {
    u64::try_from(id.as_int()?).ok()
}

/// Writes down what a window does.
struct Recorder<'a> {
    form: Form,
    behind: Option<&'a Operand<bool>>,
    incoming: &'a Batch,
    /// The number before that of the first row that is coming in.
    before: u64,
    arrived: &'a mut Batch,
    open: &'a mut Gathered,
    steps: &'a mut Vec<Step>,
    faults: &'a Cell<u64>,
}

impl Changes for Recorder<'_> {
    fn enter(&mut self, row: Row<'_>) {
        let values = match self.form {
            Form::Straight | Form::Rows | Form::Batches => row.values,
            Form::Numbers => {
                let id = row.values.first().and_then(number).unwrap_or(0);
                let place = usize::try_from(id.saturating_sub(self.before + 1));
                let row = place.ok().and_then(|place| self.incoming.row(place));
                row.map_or(&[][..], |row| row.values)
            }
        };
        let kept = values.split_last().map_or(&[][..], |(_, kept)| kept);
        let env = Env::new(kept, row.stamp, row.stamp, self.faults);
        if self
            .behind
            .is_some_and(|behind| behind.get(&env) != Some(true))
        {
            return;
        }
        if self.form == Form::Batches {
            self.open.gather().push(row.stamp, values.iter().cloned());
            return;
        }
        self.steps.push(Step::Enter {
            place: self.arrived.len(),
        });
        self.arrived.push(row.stamp, values.iter().cloned());
    }

    fn leave(&mut self, row: Row<'_>, at: Stamp) {
        // The rows of a batch leave together, when the next one closes.
        if self.form != Form::Batches {
            let id = row.values.last().and_then(number);
            self.steps.extend(id.map(|id| Step::Leave { id, at }));
        }
    }

    fn close(&mut self, at: Stamp) {
        self.steps.push(Step::LeaveAll { at });
        for row in self.open.rows().rows().iter() {
            self.steps.push(Step::Enter {
                place: self.arrived.len(),
            });
            self.arrived.push(at, row.values.iter().cloned());
        }
        self.open.renew().clear();
    }
}

/// A row that waits for its turn to look for matches.
pub(super) struct Waiting {
    pub(super) slot: Option<super::super::rows::Slot>,
    pub(super) place: usize,
    pub(super) number: u64,
}

impl Waiting {
    pub(super) fn coming<'a>(&self, row: Row<'a>) -> Coming<'a> {
        Coming {
            slot: self.slot,
            values: row.values,
            number: self.number,
            stamp: row.stamp,
        }
    }
}
