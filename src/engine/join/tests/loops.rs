//! Joins of several sides: what has come out and not left is at any time what nested loops find in
//! the windows as they are then.

use proptest::prelude::*;

use super::model::{Span, steps};
use super::*;

/// What is joined.
#[derive(Clone, Debug)]
enum Shape {
    Stream(usize, Span),
    Table,
    /// Left, right; whether values must grow; whether the left side is preserved.
    Join(Box<Shape>, Box<Shape>, bool, bool),
}

type Cells = [Option<i64>; 2];

/// (value, key) of the rows of the table, which does not change.
const TABLE: [Cells; 4] = [
    [Some(1), Some(0)],
    [Some(2), Some(1)],
    [Some(0), Some(0)],
    [None, Some(1)],
];

impl Shape {
    fn is_table(&self) -> bool {
        matches!(self, Shape::Table)
    }

    fn side(&self) -> Side {
        let triggers = !self.is_table();
        let source = match self {
            Shape::Stream(number, span) => return stream(*number, span.plan(), true),
            Shape::Table => Source::Table {
                table: TableId(0),
                keep: vec![0, 2],
            },
            Shape::Join(..) => Source::Join(Box::new(self.join())),
        };
        Side { source, triggers }
    }

    /// The key of the first source on the left equals that of the last one on the right.
    fn join(&self) -> Join {
        let Shape::Join(left, right, grows, preserves) = self else {
            unreachable!("not a join");
        };
        let (left, right) = (left.side(), right.side());
        let width = left.width();
        let last_key = right.width() - 1;
        Join {
            kind: match preserves {
                true => JoinKind::Left,
                false => JoinKind::Inner,
            },
            keys: vec![(column(1), column(last_key))],
            residual: grows.then(|| compare(CompareOp::Less, column(0), column(width))),
            left,
            right,
        }
    }

    /// Nested loops over what the windows hold at the end of `events`.
    fn rows(&self, events: &[Event], now: i64) -> Vec<Vec<Option<i64>>> {
        match self {
            Shape::Stream(number, span) => {
                let of = events.iter().filter(|event| event.stream == *number);
                let of: Vec<&Event> = of.collect();
                let rows = span.holds(&of, now).iter();
                rows.map(|event| vec![event.row[1], event.row[0]]).collect()
            }
            Shape::Table => TABLE.iter().map(|row| row.to_vec()).collect(),
            Shape::Join(left, right, grows, preserves) => {
                let (left, right) = (left.rows(events, now), right.rows(events, now));
                let mut rows = Vec::new();
                for x in &left {
                    let matches = |y: &&Vec<Option<i64>>| {
                        let same = x[1].is_some() && x[1] == y[y.len() - 1];
                        same && (!grows || x[0].zip(y[0]).is_some_and(|(a, b)| a < b))
                    };
                    let before = rows.len();
                    rows.extend(right.iter().filter(matches).map(|y| [&x[..], y].concat()));
                    if *preserves && rows.len() == before {
                        rows.push([&x[..], &[None, None]].concat());
                    }
                }
                rows
            }
        }
    }
}

impl Span {
    /// What it holds of rows that have come.
    fn holds<'a>(self, rows: &'a [&'a Event], now: i64) -> &'a [&'a Event] {
        let last = |count: u64| {
            let count = usize::try_from(count).unwrap();
            &rows[rows.len().saturating_sub(count)..]
        };
        match self {
            Span::None | Span::Table => &[],
            Span::Length(count) => last(count),
            Span::Time(span) => {
                let old = rows.partition_point(|row| row.stamp.time.0 + span <= now);
                &rows[old..]
            }
            Span::LengthBatch(count) => {
                let count = usize::try_from(count).unwrap();
                let end = rows.len() - rows.len() % count;
                &rows[end.saturating_sub(count)..end]
            }
            Span::Tumbling(span) => {
                // The batch of the period before this one.
                let period = |row: &&Event| row.stamp.time.0.div_euclid(span);
                let wanted = now.div_euclid(span) - 1;
                let from = rows.partition_point(|row| period(row) < wanted);
                &rows[from..rows.partition_point(|row| period(row) <= wanted)]
            }
        }
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    let span = prop_oneof![
        (1..6u64).prop_map(Span::Length),
        (5..90i64).prop_map(Span::Time),
        (1..4u64).prop_map(Span::LengthBatch),
        (5..40i64).prop_map(Span::Tumbling),
    ];
    let leaf = prop_oneof![
        4 => (0..3usize, span).prop_map(|(stream, span)| Shape::Stream(stream, span)),
        1 => Just(Shape::Table),
    ];
    let tree = leaf.prop_recursive(3, 4, 2, |inner| {
        (
            inner.clone(),
            inner,
            prop::bool::weighted(0.3),
            any::<bool>(),
        )
            .prop_map(|(left, right, grows, preserves)| {
                // Somebody must come.
                let left = match left {
                    Shape::Table if right.is_table() => Shape::Stream(0, Span::Time(50)),
                    left => left,
                };
                let preserves = preserves && right.is_table();
                Shape::Join(Box::new(left), Box::new(right), grows, preserves)
            })
    });
    tree.prop_map(|tree| match tree {
        join @ Shape::Join(..) => join,
        leaf => {
            let stream = Shape::Stream(0, Span::Length(3));
            Shape::Join(Box::new(leaf), Box::new(stream), false, false)
        }
    })
}

/// The table, filled.
fn table() -> SharedTable {
    let table = SharedTable::new(&table_plan(&[2]));
    for row in TABLE {
        let [value, key] = row.map(|cell| cell.map_or(Value::Null, Value::Int));
        let row = [value, Value::text("passed over"), key];
        table.lock().insert(&row, Stamp::default()).unwrap();
    }
    table
}

fn values(row: &[Option<i64>]) -> Vec<Value> {
    let cells = row.iter().map(|cell| cell.map_or(Value::Null, Value::Int));
    cells.collect()
}

/// What is left of what came out for the inputs up to `seq`, in some order.
fn live(out: &[Out], seq: Seq) -> Vec<String> {
    let mut live: Vec<(Stamp, &Vec<Value>)> = Vec::new();
    for one in out {
        match one {
            Out::Enter(stamp, row) if stamp.seq <= seq => live.push((*stamp, row)),
            Out::Leave(stamp, at, row) if at.seq <= seq => {
                let mut places = live.iter();
                let place = places.position(|known| *known == (*stamp, row));
                live.swap_remove(place.expect("what leaves has come"));
            }
            Out::Enter(..) | Out::Leave(..) => {}
        }
    }
    let mut rows: Vec<String> = live.iter().map(|(_, row)| format!("{row:?}")).collect();
    rows.sort();
    rows
}

proptest! {
    #[test]
    fn what_is_live_is_what_loops_find(shape in shape(), steps in steps(3)) {
        let plan = JoinInput {
            join: shape.join(),
            filter: None,
        };
        let (tables, events) = ([table()], events(&steps));
        let out = feed(&plan, &tables, &events, &CUTS[0], true, |_| {});
        for (place, event) in events.iter().enumerate() {
            let rows = shape.rows(&events[..=place], event.stamp.time.0);
            let rows = rows.iter().map(|row| format!("{:?}", values(row)));
            let mut rows: Vec<String> = rows.collect();
            rows.sort();
            prop_assert_eq!(live(&out, event.stamp.seq), rows, "after {:?}", event);
        }
        for cut in CUTS {
            let again = feed(&plan, &tables, &events, cut, true, |_| {});
            prop_assert_eq!(&again, &out);
            let mut unseen = feed(&plan, &tables, &events, cut, false, |_| {});
            unseen.retain(|one| matches!(one, Out::Enter(..)));
            let entered = out.iter().filter(|one| matches!(one, Out::Enter(..)));
            prop_assert!(unseen.iter().eq(entered));
        }
    }
}
