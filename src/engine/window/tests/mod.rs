//! Windows against models that look at all rows there ever were.

mod batches;
mod sliding;

use proptest::prelude::*;

use super::super::expr::Cx;
use super::super::state::{Load, Saver, Saving, state_of};
use super::{AnyWindow, Changes, Picked};
use crate::event::{Batch, GrowingState, Row, Seq, Stamp, StateChanges, Timestamp, Type, Value};
use crate::sql::plan::{Emit, Expr, ExprKind, Window};

/// A row: key, own time, value; and when it comes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Event {
    seq: u64,
    time: i64,
    key: Option<i64>,
    own: Option<i64>,
    value: Option<i64>,
}

impl Event {
    fn stamp(self) -> Stamp {
        Stamp {
            seq: Seq(self.seq),
            time: Timestamp(self.time),
        }
    }

    fn values(self) -> [Value; 4] {
        let number = i64::try_from(self.seq).unwrap();
        [Some(number), self.key, self.own, self.value]
            .map(|cell| cell.map_or(Value::Null, Value::Int))
    }
}

/// The columns that windows read; that before them is the row's number.
const KEY: usize = 1;
const OWN: usize = 2;
const VALUE: usize = 3;

fn column(index: usize) -> Expr {
    Expr {
        kind: ExprKind::Column(index),
        ty: Type::Long,
    }
}

/// What a window does, rows by their number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Enter(u64),
    Leave(u64, Stamp),
    Replaced(u64),
    Close(Stamp),
}

#[derive(Default)]
struct Log(Vec<Step>);

fn number(row: Row<'_>) -> u64 {
    let number = row.values.first().and_then(Value::as_int).unwrap();
    u64::try_from(number).unwrap()
}

impl Changes for Log {
    fn enter(&mut self, row: Row<'_>) {
        assert_eq!(row.values.len(), 4, "the kept columns");
        self.0.push(Step::Enter(number(row)));
    }

    fn leave(&mut self, row: Row<'_>, at: Stamp) {
        self.0.push(Step::Leave(number(row), at));
    }

    fn replaced(&mut self, row: Row<'_>, _at: Stamp) {
        self.0.push(Step::Replaced(number(row)));
    }

    fn close(&mut self, at: Stamp) {
        self.0.push(Step::Close(at));
    }
}

/// Events, some at the same time.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let cell = |most: i64| prop::option::weighted(0.9, 0..most);
    let step = (0..7_i64, cell(4), cell(9), cell(7));
    prop::collection::vec(step, 0..60).prop_map(|steps| {
        let mut time = 1_000;
        let events = steps.into_iter().zip(1..);
        let events = events.map(|((later, key, own, value), seq)| {
            // Now and then nothing comes for a while.
            time += if later == 6 { 40 } else { later };
            let own = own.map(|own| time - 1_000 + own * 2);
            Event {
                seq,
                time,
                key,
                own,
                value,
            }
        });
        events.collect()
    })
}

fn made(plan: &Window, emit: Emit) -> AnyWindow {
    AnyWindow::new(Some(plan), emit, &[0, 1, 2, 3], Cx::PLAIN)
}

/// What was saved of a window, in steps.
#[derive(Default)]
struct Steps {
    grown: GrowingState,
    savings: u64,
}

impl Steps {
    fn save(&mut self, window: &mut AnyWindow, saving: Saving) {
        let mut changes = StateChanges::new();
        self.savings += 1;
        let mut saver = Saver::new(saving, self.savings, &mut changes);
        window.save(&mut saver.of(1)).unwrap();
        self.grown.apply(&changes);
    }

    /// The window as an engine has it that knows only what was saved.
    fn restarted(&mut self, window: &mut AnyWindow) -> AnyWindow {
        if self.savings % 3 == 0 {
            self.save(window, Saving::Ahead { pieces_max: 64 });
        }
        self.save(window, Saving::Changed);
        let state = state_of(1, |save| window.save(save));
        assert_eq!(self.grown.state(), state, "what was saved in steps");
        let load = Load::all_of(&state).remove(&1).unwrap_or_default();
        let mut window = window.fresh();
        window.load(&load).unwrap();
        window
    }
}

/// Everything falls due until `at`.
fn fire(window: &mut AnyWindow, at: Stamp, log: &mut Log) {
    let mut before = None;
    while let Some(due) = window.deadline().filter(|due| *due <= at.time) {
        assert!(before < Some(due), "time goes on");
        before = Some(due);
        window.fire(Stamp { time: due, ..at }, log);
    }
}

/// Runs all events as the engine would, at most `size` rows in one go, with a restart after every
/// so many pushes if it is wanted, and `after` being called after each push.
fn run(
    (plan, emit): (&Window, Emit),
    events: &[Event],
    size: usize,
    restart: Option<usize>,
    mut after: impl FnMut(&[Event], &Log),
) -> Vec<Step> {
    let (mut window, mut log, mut saved) = (made(plan, emit), Log::default(), Steps::default());
    let mut pushes = 0;
    let mut done = 0;
    while let Some(first) = events.get(done) {
        fire(&mut window, first.stamp(), &mut log);
        let bounds = [window.earliest(Timestamp(first.time)), window.deadline()];
        let bound = bounds.into_iter().flatten().min();
        let together = events.iter().skip(done).take(size);
        let together = together.take_while(|event| bound.is_none_or(|bound| event.time < bound.0));
        let count = together.count().max(1);
        let mut batch = Batch::new(4);
        for event in &events[done..done + count] {
            batch.push(event.stamp(), event.values());
        }
        let places: Vec<usize> = (0..count).collect();
        window.push(Picked::new(batch.rows(), &places), &mut log);
        window.pushed(&mut log);
        pushes += 1;
        if restart.is_some_and(|every| pushes % every == 0) {
            window = saved.restarted(&mut window);
        }
        done += count;
        after(&events[..done], &log);
    }
    fire(&mut window, end(events), &mut log);
    log.0
}

/// Long after the last event.
fn end(events: &[Event]) -> Stamp {
    let last = events.last().map_or(0, |event| event.time);
    Stamp {
        seq: Seq(events.len() as u64 + 1),
        time: Timestamp(last + 500),
    }
}

/// However rows are cut, and however often the window is restarted, it does the same.
fn all_the_same(plan: &Window, emit: Emit, events: &[Event]) -> Vec<Step> {
    let plan = (plan, emit);
    let steps = run(plan, events, 1, None, |_, _| {});
    for (size, restart) in [(usize::MAX, None), (3, Some(1)), (1, Some(1)), (1, Some(4))] {
        let other = run(plan, events, size, restart, |_, _| {});
        assert_eq!(steps, other, "{plan:?} in {size}, restarts: {restart:?}");
    }
    steps
}
