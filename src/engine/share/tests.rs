//! Queries that share against the same queries each by itself: nobody can tell them apart, neither
//! by what comes out nor by the state.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::state::Part;
use super::super::{Engine, Outputs};
use crate::event::{Batch, Place, Seq, Stamp, State, Timestamp, Value};
use crate::sql::plan::StreamId;
use crate::sql::{Application, SqlText, compile};

const WINDOWS: &[&str] = &[
    "WINDOW('length', 3)",
    "WINDOW('time', 20 MS)",
    "WINDOW('lengthBatch', 4)",
    "WINDOW('tumbling', 15 MS)",
    "WINDOW('timeBatch', 15 MS)",
    "WINDOW('hop', 30 MS, 10 MS)",
    "WINDOW('session', 8 MS)",
    "WINDOW('sort', 3, x)",
    "WINDOW('unique', k)",
    "WINDOW('timeLength', 25 MS, 3)",
    "WINDOW('batch')",
    "WINDOW('delay', 5 MS)",
    "",
];

/// What looks through the window, and what comes behind it.
const SELECTS: &[(&str, &str)] = &[
    ("SELECT k, x, n", ""),
    ("SELECT DISTINCT k, x, n", ""),
    ("SELECT k, sum(x) AS x, max(n) AS n", "GROUP BY k"),
    (
        "SELECT k, avg(x) AS x, count(n) AS n",
        "GROUP BY k HAVING avg(x) > 10",
    ),
    (
        "SELECT k, min(x) AS x, n",
        "GROUP BY k, n OUTPUT LAST EVERY 12 MS",
    ),
    ("SELECT k, x + 1 AS x, n", "ORDER BY x DESC LIMIT 2"),
    ("SELECT k, x, n", "OUTPUT ALL EVERY 3 EVENTS"),
    (
        "SELECT k, sum(x) AS x, max(n) AS n",
        "GROUP BY k OUTPUT SNAPSHOT EVERY 10 MS",
    ),
    ("SELECT k, n, 1 / (n - 1) AS x", ""),
    ("SELECT k, lag(n) OVER (PARTITION BY k) AS n, x", ""),
    (
        "SELECT k, lag(n) OVER (PARTITION BY k) AS n, sum(x) AS x",
        "GROUP BY k",
    ),
];

const FILTERS: &[&str] = &["", "WHERE x > 12", "WHERE 7 % n < 2", "WHERE k IN Known"];
const EMITS: &[&str] = &["", "", "EXPIRED EVENTS", "ALL EVENTS"];
const SOURCES: &[&str] = &["S", "S", "S", "Inner", "Kept"];

#[derive(Clone, Debug)]
struct Written {
    window: usize,
    select: usize,
    filter: usize,
    emit: usize,
    source: usize,
    /// Into one stream together with others, into a table, or per key.
    place: u8,
}

impl Written {
    fn text(&self) -> String {
        let (select, rest) = SELECTS[self.select];
        let source = SOURCES[self.source];
        let window = match source {
            "Kept" => "",
            _ => WINDOWS[self.window],
        };
        let filter = FILTERS[self.filter];
        let query = |target| {
            let emit = EMITS[self.emit];
            format!(
                "INSERT {emit} INTO {target} {select} FROM {source} {window} {filter} {rest};\n"
            )
        };
        match self.place {
            0 => query("Out"),
            1 => query("Other"),
            2 => format!("INSERT INTO Known {select} FROM {source} {window} {filter} {rest};\n"),
            _ => format!(
                "PARTITION WITH (k OF {source}) BEGIN {}{} END;\n",
                query("Out"),
                query("Other")
            ),
        }
    }
}

fn written() -> impl Strategy<Value = Written> {
    // Few windows and filters, so that queries meet.
    let window = prop_oneof![3 => 0..2_usize, 1 => 0..WINDOWS.len()];
    let filter = prop_oneof![2 => Just(0_usize), 1 => 0..FILTERS.len()];
    let rest = (0..EMITS.len(), 0..SOURCES.len(), 0..6_u8);
    (window, 0..SELECTS.len(), filter, rest).prop_map(
        |(window, select, filter, (emit, source, place))| Written {
            window,
            select,
            filter,
            emit,
            source,
            place,
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    /// Rows, each so many milliseconds behind the one before.
    Push(Vec<(u8, u8, u8)>),
    Tick(u8),
    /// The engine ends and starts again; afterwards it has these queries.
    Restart(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let row = (0..9_u8, 0..4_u8, 0..40_u8);
    prop_oneof![
        6 => prop::collection::vec(row, 1..8).prop_map(Step::Push),
        2 => (0..40_u8).prop_map(Step::Tick),
        1 => any::<u8>().prop_map(Step::Restart),
    ]
}

const STREAMS: &str = "CREATE STREAM S (k STRING, x DOUBLE, n INT);\n\
    CREATE STREAM Inner (k STRING, x DOUBLE, n INT);\n\
    CREATE STREAM Out (k STRING, x DOUBLE, n BIGINT);\n\
    CREATE STREAM Other (k STRING, x DOUBLE, n BIGINT);\n\
    CREATE TABLE Known (k STRING PRIMARY KEY, x DOUBLE, n BIGINT);\n\
    CREATE WINDOW Kept (k STRING, x DOUBLE, n INT) WINDOW('time', 15 MS);\n\
    INSERT INTO Kept SELECT k, x, n FROM S;\n";

/// Between the others, so that what it gives comes between what they do.
const INNER: &str = "INSERT INTO Inner SELECT k, avg(x) AS x, max(n) AS n \
    FROM S WINDOW('tumbling', 5 MS) GROUP BY k;\n";

/// The queries of `mask` that the dialect has, with the one that makes inner rows among them.
fn plan(queries: &[Written], mask: u8) -> Application {
    let mut text = STREAMS.to_owned();
    for (number, query) in queries.iter().enumerate() {
        if number == 1 {
            text += INNER;
        }
        let with = format!("{text}{}", query.text());
        if mask & (1 << number) != 0 && compiled(&with).is_ok() {
            text = with;
        }
    }
    compiled(&text).unwrap()
}

fn compiled(text: &str) -> Result<Application, String> {
    let text = SqlText {
        path: "test".to_owned(),
        text: text.to_owned(),
    };
    compile(&[text]).map_err(|faults| format!("{faults:?}"))
}

type Given = (StreamId, u32, u32, Stamp, Vec<Value>);

#[derive(Default)]
struct Seen(Vec<Given>);

impl Outputs for Seen {
    fn take(&mut self, stream: StreamId, query: u32, rows: &Batch, ordinals: &[u32]) {
        for (row, ordinal) in rows.rows().iter().zip(ordinals) {
            let values = row.values.to_vec();
            self.0.push((stream, query, *ordinal, row.stamp, values));
        }
    }
}

fn engine(plan: &Arc<Application>, alone: bool) -> Engine {
    let shared = if alone {
        Vec::new()
    } else {
        plan.shared_feeds()
    };
    Engine::with(Arc::clone(plan), |_| true, shared)
}

/// Both engines, and what has come out of them.
struct Pair {
    together: Engine,
    alone: Engine,
    seen: [Seen; 2],
}

impl Pair {
    fn new(plan: Application) -> Pair {
        let plan = Arc::new(plan);
        Pair {
            together: engine(&plan, false),
            alone: engine(&plan, true),
            seen: Default::default(),
        }
    }

    fn each(&mut self, act: impl Fn(&mut Engine, &mut Seen)) {
        let [together, alone] = &mut self.seen;
        act(&mut self.together, together);
        act(&mut self.alone, alone);
    }

    fn check(&mut self) {
        let [together, alone] = &mut self.seen;
        assert_eq!(
            std::mem::take(&mut together.0),
            std::mem::take(&mut alone.0)
        );
        // Which of those that share it could not compute something is not known.
        let faults = |engine: &mut Engine| -> u64 {
            let all = engine.take_faults();
            all.iter().map(|faults| faults.count).sum()
        };
        assert_eq!(faults(&mut self.together), faults(&mut self.alone));
        assert_eq!(self.together.deadline(), self.alone.deadline());
        let [together, alone] =
            [&mut self.together, &mut self.alone].map(|one| one.state().unwrap());
        assert!(told(&together) == told(&alone));
    }

    fn restart(mut self, plan: Application) -> Pair {
        let state = self.together.state().unwrap();
        let clock = self.together.clock();
        let mut pair = Pair::new(plan);
        pair.together.restore(&state, clock);
        pair.alone.restore(&state, clock);
        pair
    }
}

/// The state without the rows of windows: how they lie in blocks depends on whether some left
/// before others came, which at one moment may happen in either order. What they are shows in
/// what comes out.
fn told(state: &State) -> Vec<(Place, &[u8])> {
    let rows = [Part::Window as u64, Part::WindowRows as u64];
    let pieces = state.pieces();
    pieces
        .filter(|(place, _)| !rows.contains(&(place.key >> 56)))
        .collect()
}

fn run(queries: &[Written], steps: &[Step]) {
    let mut pair = Pair::new(plan(queries, 0x0F));
    let (mut seq, mut time) = (0, 1_000);
    for step in steps {
        seq += 1;
        match step {
            Step::Push(rows) => {
                let mut batch = Batch::new(3);
                for (later, key, x) in rows {
                    time += i64::from(later.saturating_sub(3));
                    let stamp = Stamp {
                        seq: Seq(seq),
                        time: Timestamp(time),
                    };
                    seq += u64::from(*later % 2);
                    let key = ["a", "b", "c", "d"][usize::from(*key)];
                    let number = Value::Int(i64::from(*x % 4));
                    let row = [Value::text(key), Value::Float(f64::from(*x)), number];
                    batch.push(stamp, row);
                }
                let (stream, _) = pair.together.plan().stream_named("S").unwrap();
                pair.each(|engine, seen| engine.push(stream, batch.rows(), seen));
            }
            Step::Tick(later) => {
                time += i64::from(*later);
                pair.each(|engine, seen| engine.advance(Timestamp(time), Seq(seq), seen));
            }
            Step::Restart(mask) => pair = pair.restart(plan(queries, *mask)),
        }
        pair.check();
    }
}

proptest! {
    #[test]
    fn sharing_does_not_show(
        queries in prop::collection::vec(written(), 2..6),
        steps in prop::collection::vec(step(), 1..30),
    ) {
        run(&queries, &steps);
    }
}
