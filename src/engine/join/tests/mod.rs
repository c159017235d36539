//! Joins against nested loops over windows that are searched from their start.

mod loops;
mod model;

use std::sync::Arc;

use super::super::node::Stores;
use super::super::state::{Load, state_of};
use super::super::table::SharedTable;
use super::super::window::Changes;
use super::Joiner;
use crate::event::{Batch, Field, Row, Schema, Seq, Stamp, Timestamp, Type, Value};
use crate::sql::plan::{
    self, Analytics, ArithmeticOp, CompareOp, Eviction, Expr, ExprKind, Join, JoinInput, JoinKind,
    Side, Source, StreamId, StreamInput, TableId, Window,
};

/// What comes out of a join.
#[derive(Clone, Debug, PartialEq)]
enum Out {
    Enter(Stamp, Vec<Value>),
    Leave(Stamp, Stamp, Vec<Value>),
}

#[derive(Default)]
struct Seen(Vec<Out>);

impl Changes for Seen {
    fn enter(&mut self, row: Row<'_>) {
        self.0.push(Out::Enter(row.stamp, row.values.to_vec()));
    }

    fn leave(&mut self, row: Row<'_>, at: Stamp) {
        let values = row.values.to_vec();
        self.0.push(Out::Leave(row.stamp, at, values));
    }

    fn close(&mut self, _: Stamp) {
        panic!("a join closes nothing");
    }
}

/// A row of a stream: a key, a value, and a column that no join reads.
#[derive(Clone, Debug)]
struct Event {
    stream: usize,
    stamp: Stamp,
    row: [Option<i64>; 2],
}

impl Event {
    fn values(&self) -> [Value; 3] {
        let [key, value] = self.row.map(|cell| cell.map_or(Value::Null, Value::Int));
        [value, Value::text("passed over"), key]
    }
}

/// Events of `streams` streams from (stream, later by, key, value).
fn events(steps: &[(usize, i64, Option<i64>, Option<i64>)]) -> Vec<Event> {
    let mut time = 1_000;
    let events = steps.iter().zip(1..);
    let events = events.map(|((stream, later, key, value), seq)| {
        time += later;
        Event {
            stream: *stream,
            stamp: Stamp {
                seq: Seq(seq),
                time: Timestamp(time),
            },
            row: [*key, *value],
        }
    });
    events.collect()
}

/// How events are cut into pushes, and after how many of these the join is saved and restored.
struct Cut {
    sizes: &'static [usize],
    restart: Option<usize>,
}

const CUTS: &[Cut] = &[
    Cut {
        sizes: &[1],
        restart: None,
    },
    Cut {
        sizes: &[100],
        restart: None,
    },
    Cut {
        sizes: &[3, 1, 7],
        restart: Some(1),
    },
    Cut {
        sizes: &[2],
        restart: Some(3),
    },
];

/// Feeds a join as the engine does. `seen`: whether rows that leave are wanted. `write` is called
/// with each event before it is pushed, to write it to a table.
fn feed(
    plan: &JoinInput,
    tables: &[SharedTable],
    events: &[Event],
    cut: &Cut,
    seen: bool,
    mut write: impl FnMut(&Event),
) -> Vec<Out> {
    let stores = Stores {
        tables: tables.into(),
        aggregations: Arc::new([]),
        draws: Arc::default(),
        shared: Arc::default(),
    };
    let start = || Joiner::new(plan, &Analytics::default(), &stores, seen, seen);
    let mut joiner = start();
    let mut out = Seen::default();
    let (mut rest, mut pushes) = (events, 0);
    let mut sizes = cut.sizes.iter().cycle();
    while let Some(first) = rest.first() {
        advance(&mut joiner, first.stamp, &mut out);
        let bound = joiner.earliest(first.stamp.time).into_iter();
        let bound = bound.chain(joiner.deadline()).min();
        let mut run = rest.iter().take(*sizes.next().unwrap());
        let mut batch = Batch::new(3);
        while let Some(event) = run.next().filter(|one| one.stream == first.stream) {
            if !batch.is_empty() && bound.is_some_and(|bound| event.stamp.time >= bound) {
                break;
            }
            write(event);
            batch.push(event.stamp, event.values());
        }
        let input = plan::Input::Join(Box::new(plan.clone()));
        for (number, input) in input.streams().into_iter().enumerate() {
            if input.stream == StreamId(first.stream) {
                joiner.push(number, batch.rows(), &mut out);
            }
        }
        rest = &rest[batch.len()..];
        pushes += 1;
        if cut.restart.is_some_and(|every| pushes % every == 0) {
            joiner = restarted(&mut joiner, start());
        }
    }
    let last = events.last().map_or(0, |event| event.stamp.time.0);
    let end = Stamp {
        seq: Seq(events.len() as u64 + 1),
        time: Timestamp(last + 1_000),
    };
    advance(&mut joiner, end, &mut out);
    out.0
}

fn advance(joiner: &mut Joiner, at: Stamp, out: &mut Seen) {
    while let Some(due) = joiner.deadline().filter(|due| *due <= at.time) {
        joiner.fire(Stamp { time: due, ..at }, out);
    }
}

fn restarted(joiner: &mut Joiner, mut fresh: Joiner) -> Joiner {
    let state = state_of(1, |save| joiner.save(save));
    let load = Load::all_of(&state).remove(&1).unwrap_or_default();
    fresh.load(&load).unwrap();
    // What was there once must not come back in an instance that starts anew.
    let mut again = fresh.fresh();
    std::mem::swap(&mut again, &mut fresh);
    fresh.load(&load).unwrap();
    fresh
}

fn column(index: usize) -> Expr {
    Expr {
        kind: ExprKind::Column(index),
        ty: Type::Long,
    }
}

fn compare(op: CompareOp, a: Expr, b: Expr) -> Expr {
    Expr {
        kind: ExprKind::Compare(op, Box::new(a), Box::new(b)),
        ty: Type::Bool,
    }
}

/// A side that reads a stream: its rows are (value, key).
fn stream(stream: usize, window: Option<Window>, triggers: bool) -> Side {
    Side {
        source: Source::Stream(StreamInput {
            stream: StreamId(stream),
            filter: None,
            window,
            behind: None,
            keep: vec![0, 2],
        }),
        triggers,
    }
}

fn inner(left: Side, right: Side) -> Join {
    Join {
        kind: JoinKind::Inner,
        left,
        right,
        keys: vec![(column(1), column(1))],
        residual: None,
    }
}

/// A table of rows (value, text, key) that is looked up by `index`.
fn table_plan(index: &[usize]) -> plan::Table {
    let field = |name: &str, ty| Field {
        name: name.to_owned(),
        ty,
    };
    plan::Table {
        name: "T".to_owned(),
        schema: Arc::new(Schema::new(vec![
            field("value", Type::Long),
            field("text", Type::String),
            field("key", Type::Long),
        ])),
        primary_key: Vec::new(),
        indexes: vec![index.to_vec()],
        rows_max: None,
        eviction: Eviction::Reject,
        ttl_ms: None,
        letters: None,
        path: String::new(),
        place: Default::default(),
    }
}
