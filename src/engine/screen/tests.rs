//! Patterns behind a screen against the same patterns that are given every row, and against those
//! behind a screen that come to see each row by itself: nobody can tell them apart by what comes
//! out.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::{Engine, Outputs};
use super::Screens;
use crate::event::{Batch, Seq, Stamp, Timestamp, Value};
use crate::sql::plan::StreamId;
use crate::sql::{Application, SqlText, compile};

const STREAMS: &str = "CREATE STREAM S (k STRING, x DOUBLE, n INT, b BOOLEAN);\n\
    CREATE STREAM T (k STRING, x DOUBLE, n INT, b BOOLEAN);\n\
    CREATE STREAM Inner (k STRING, x DOUBLE, n INT, b BOOLEAN);\n\
    CREATE STREAM Out (n BIGINT);\n\
    CREATE STREAM Other (n BIGINT);\n\
    CREATE TABLE Known (n BIGINT PRIMARY KEY);\n\
    CREATE WINDOW Kept (k STRING, x DOUBLE, n INT, b BOOLEAN) WINDOW('length', 2);\n\
    INSERT INTO Kept SELECT k, x, n, b FROM S;\n";

/// Between the patterns, so that what it gives comes between what they do.
const INNER: &str = "INSERT INTO Inner SELECT k, x + 1 AS x, n, b FROM S WHERE n > 0;\n\
    INSERT INTO Out SELECT n FROM S WHERE x > 30;\n";

/// Conditions that look at a row alone, for the places `?`.
const CONDITIONS: &[&str] = &[
    "k = 'a'",
    "k = 'a' AND x > 20",
    "x > 20 AND k = 'a'",
    "k = 'b' AND n = 1",
    "'b' = k AND 7 / n > 2",
    "k IN ('a', 'c', NULL)",
    "n = 2 AND x < 25",
    "n IN (1, 2)",
    "b = true AND k = 'c'",
    "k = 'd' AND k = 'a'",
    "k = NULL",
    "x > 25",
    "x < 30",
    "1 / n > 0.4 OR b",
    "b IS NULL",
    "n IN Known",
    "true",
];

/// Conditions that look at another element, too, for the places `!`.
const LINKS: &[&str] = &[
    "true",
    "true",
    "k = a.k",
    "k = a.k AND x > a.x",
    "n = a.n AND k = 'b'",
    "x > a.x",
    "n = a.n + 1",
    "k = a.k AND n = a.n",
];

/// What is looked for, and what is told of it.
const SHAPES: &[(&str, &str)] = &[
    ("EVERY a=@[?] -> b=@[? AND !]", "a.n + b.n"),
    ("EVERY a=@[?] -> b=@[!]", "a.n + b.n"),
    ("EVERY a=@[?] -> b=@[!] -> c=@[? AND k = b.k]", "b.n + c.n"),
    ("a=@[?] -> b=@[? AND !]", "a.n"),
    ("EVERY (a=@[?] -> b=@[? AND !])", "a.n"),
    ("a=@[?]", "a.n"),
    ("EVERY a=@[?]{2,3} -> b=@[?]", "count(a)"),
    ("EVERY a=@[?] -> c=@[?]* -> b=@[!]", "count(c)"),
    ("EVERY a=@[?] -> EVERY b=@[? AND !] -> c=@[?]", "b.n + c.n"),
    ("EVERY a=@[?] -> (b=@[? AND !] AND c=@[?])", "b.n + c.n"),
    ("EVERY a=@[?] -> (b=@[? AND !] OR c=@[!])", "a.n"),
    ("(a=@[?] AND c=@[?]) -> b=@[!]", "a.n + c.n"),
    ("EVERY a=@[?] -> NOT @[? AND !] FOR 6 MS", "a.n"),
    ("EVERY a=@[?] -> NOT @[? AND !] -> b=@[!]", "a.n + b.n"),
    ("NOT @[?] FOR 6 MS -> a=@[?]", "a.n"),
    ("EVERY (NOT @[?] FOR 6 MS -> a=@[?])", "a.n"),
    ("NOT @[?] -> a=@[?]", "a.n"),
    ("EVERY a=@[?] -> b=@[? AND !] WITHIN 5 EVENTS", "a.n"),
];

const BOUNDS: &[&str] = &["", "WITHIN 9 MS", "WITHIN 9 MS", "WITHIN 30 MS"];
const BEHIND: &[&str] = &[
    "",
    "",
    "",
    "PARTITION BY k",
    "GROUP BY a.k",
    "OUTPUT ALL EVERY 3 EVENTS",
    "OUTPUT LAST EVERY 7 MS",
    "OUTPUT SNAPSHOT EVERY 5 MS",
    "WITH ('pattern.matches_max' = '2')",
    "WITH ('pattern.matches_max' = '2', 'pattern.matches_policy' = 'drop_newest')",
];

#[derive(Clone, Debug)]
struct Written {
    shape: usize,
    /// For the places, one after another.
    parts: Vec<u8>,
    bound: usize,
    behind: usize,
    skip: u8,
    target: u8,
}

impl Written {
    fn text(&self) -> String {
        let (shape, select) = SHAPES[self.shape];
        let mut parts = self.parts.iter().copied().cycle();
        let mut part = |of: usize| usize::from(parts.next().unwrap()) % of;
        let mut pattern = String::new();
        for letter in shape.chars() {
            match letter {
                '@' => pattern += ["S", "S", "S", "S", "T", "Inner", "Kept"][part(7)],
                '?' => pattern += CONDITIONS[part(CONDITIONS.len())],
                '!' => pattern += LINKS[part(LINKS.len())],
                _ => pattern.push(letter),
            }
        }
        let skip = match self.skip {
            0 => "AFTER MATCH SKIP PAST LAST ROW",
            1 => "AFTER MATCH SKIP TO NEXT ROW",
            _ => "",
        };
        let kind = if self.skip == 2 {
            "SEQUENCE"
        } else {
            "PATTERN"
        };
        let target = ["Out", "Out", "Other", "Known"][usize::from(self.target)];
        let (bound, behind) = (BOUNDS[self.bound], BEHIND[self.behind]);
        format!(
            "INSERT INTO {target} SELECT {select} AS n FROM {kind} ({pattern} {bound}) \
             {skip} {behind};\n"
        )
    }
}

fn written() -> impl Strategy<Value = Written> {
    let parts = prop::collection::vec(any::<u8>(), 8..9);
    let rest = (0..BEHIND.len(), 0..12_u8, 0..4_u8);
    (0..SHAPES.len(), parts, 0..BOUNDS.len(), rest).prop_map(
        |(shape, parts, bound, (behind, skip, target))| Written {
            shape,
            parts,
            bound,
            behind,
            skip,
            target,
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    /// Rows of a stream, each so many milliseconds behind the one before.
    Push(bool, Vec<[u8; 5]>),
    Tick(u8),
    /// The engine ends and starts again; afterwards it has these queries.
    Restart(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let row = (0..6_u8, 0..6_u8, 0..40_u8, 0..4_u8, 0..3_u8);
    let row = row.prop_map(|(later, key, x, n, b)| [later, key, x, n, b]);
    prop_oneof![
        8 => (prop::bool::weighted(0.2), prop::collection::vec(row, 1..12))
            .prop_map(|(other, rows)| Step::Push(other, rows)),
        2 => (0..20_u8).prop_map(Step::Tick),
        1 => any::<u8>().prop_map(Step::Restart),
    ]
}

/// The queries of `mask` that the dialect has, with those that make inner rows among them.
fn plan(queries: &[Written], mask: u8) -> Application {
    let mut text = STREAMS.to_owned();
    for (number, query) in queries.iter().enumerate() {
        if number == 2 {
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

fn engine(plan: &Arc<Application>, watch: bool) -> Engine {
    Engine::new(Arc::clone(plan), |_| watch)
}

fn unscreened(mut engine: Engine) -> Engine {
    engine.screens = Screens::default();
    engine
}

/// The engines, and what has come out of them.
struct Three {
    screened: Engine,
    alone: Engine,
    /// Screened, and given row by row.
    cut: Engine,
    watch: bool,
    seen: [Seen; 3],
}

impl Three {
    fn new(plan: Application, watch: bool) -> Three {
        let plan = Arc::new(plan);
        Three {
            screened: engine(&plan, watch),
            alone: unscreened(engine(&plan, watch)),
            cut: engine(&plan, watch),
            watch,
            seen: Default::default(),
        }
    }

    fn push(&mut self, stream: StreamId, batch: &Batch) {
        let [screened, alone, cut] = &mut self.seen;
        self.screened.push(stream, batch.rows(), screened);
        self.alone.push(stream, batch.rows(), alone);
        let mut rest = batch.rows();
        while !rest.is_empty() {
            let (row, tail) = rest.split_at(1);
            self.cut.push(stream, row, cut);
            rest = tail;
        }
    }

    fn advance(&mut self, time: Timestamp, seq: Seq) {
        let [screened, alone, cut] = &mut self.seen;
        self.screened.advance(time, seq, screened);
        self.alone.advance(time, seq, alone);
        self.cut.advance(time, seq, cut);
    }

    fn check(&mut self) {
        let [mut screened, alone, mut cut] = std::mem::take(&mut self.seen).map(|seen| seen.0);
        assert_eq!(screened, alone);
        // Streams have an order, but not among each other.
        let by_stream = |(stream, _, ordinal, stamp, _): &Given| (*stream, stamp.seq, *ordinal);
        screened.sort_by_key(by_stream);
        cut.sort_by_key(by_stream);
        assert_eq!(screened, cut);
        let dropped = [&mut self.screened, &mut self.alone, &mut self.cut]
            .map(|engine| engine.take_counts().matches_dropped);
        assert_eq!(dropped, [dropped[0]; 3]);
    }

    /// When the clock has come to rest, all know alike when something is due next. Before that a
    /// match can have ended whose rows are past by the time that it is found out.
    fn check_deadlines(&self) {
        assert_eq!(self.screened.deadline(), self.alone.deadline());
        assert_eq!(self.screened.deadline(), self.cut.deadline());
    }

    fn restart(mut self, plan: Application) -> Three {
        let state = self.screened.state().unwrap();
        let clock = self.screened.clock();
        let mut three = Three::new(plan, self.watch);
        three.screened.restore(&state, clock);
        three.alone.restore(&state, clock);
        three.cut.restore(&state, clock);
        three
    }
}

fn run(queries: &[Written], steps: &[Step], watch: bool) {
    let mut three = Three::new(plan(queries, 0x7F), watch);
    let (mut seq, mut time) = (0, 1_000);
    for step in steps {
        seq += 1;
        match step {
            Step::Push(other, rows) => {
                let mut batch = Batch::new(4);
                for [later, key, x, n, b] in rows {
                    time += i64::from(later.saturating_sub(2));
                    let stamp = Stamp {
                        seq: Seq(seq),
                        time: Timestamp(time),
                    };
                    seq += u64::from(*later % 2);
                    batch.push(stamp, row(*key, *x, *n, *b));
                }
                let stream = if *other { "T" } else { "S" };
                let (stream, _) = three.screened.plan().stream_named(stream).unwrap();
                three.push(stream, &batch);
            }
            Step::Tick(later) => {
                time += i64::from(*later);
                three.advance(Timestamp(time), Seq(seq));
                three.check_deadlines();
            }
            Step::Restart(mask) => three = three.restart(plan(queries, *mask)),
        }
        three.check();
    }
}

fn row(key: u8, x: u8, n: u8, b: u8) -> [Value; 4] {
    let key = match key {
        5 => Value::Null,
        key => Value::text(["a", "b", "c", "d", "e"][usize::from(key)]),
    };
    let b = match b {
        2 => Value::Null,
        b => Value::Bool(b == 1),
    };
    let n = Value::Int(i64::from(n));
    [key, Value::Float(f64::from(x)), n, b]
}

proptest! {
    #[test]
    fn screening_does_not_show(
        queries in prop::collection::vec(written(), 2..7),
        steps in prop::collection::vec(step(), 1..30),
        watch in any::<bool>(),
    ) {
        run(&queries, &steps, watch);
    }
}

/// Every shape is a query, and every condition can stand in it.
#[test]
fn what_is_tried_is_in_the_dialect() {
    let mut written = Written {
        shape: 0,
        parts: vec![0; 8],
        bound: 0,
        behind: 0,
        skip: 9,
        target: 0,
    };
    let try_all = |written: &Written| {
        let text = format!("{STREAMS}{INNER}{}", written.text());
        assert_eq!(compiled(&text).map(|_| ()), Ok(()), "{}", written.text());
    };
    for shape in 0..SHAPES.len() {
        try_all(&Written {
            shape,
            ..written.clone()
        });
    }
    for part in 0..CONDITIONS.len() {
        written.parts = vec![u8::try_from(part).unwrap()];
        try_all(&written);
    }
    for behind in 0..BEHIND.len() {
        written.behind = behind;
        try_all(&written);
    }
}

const SENSORS: i64 = 50;

/// Patterns of as many sensors, whose next rows are found in different ways.
fn sensors() -> Engine {
    let pattern = |number: i64| {
        let next = ["n = a.n", "n = a.n AND x > a.x", "n IN (-1, ?)", "x > 90"];
        let next = next[usize::try_from(number % 4).unwrap()].replace('?', &number.to_string());
        format!(
            "INSERT INTO Out SELECT b.n AS n FROM PATTERN (EVERY a=S[n = {number} AND x > 40] \
             -> b=S[x < 95 AND {next}] WITHIN 10 SECONDS);\n"
        )
    };
    let patterns: String = (0..SENSORS).map(pattern).collect();
    let plain = "INSERT INTO Other SELECT n FROM S;\n";
    engine(
        &Arc::new(compiled(&format!("{STREAMS}{plain}{patterns}")).unwrap()),
        false,
    )
}

/// The readers of S that are given a row of these values, as things are. The first two are not
/// patterns.
fn called(engine: &mut Engine, n: i64, x: f64) -> Vec<usize> {
    let mut batch = Batch::new(4);
    let values = [Value::Null, Value::Float(x), Value::Int(n), Value::Null];
    batch.push(Stamp::default(), values);
    let (stream, _) = engine.plan().stream_named("S").unwrap();
    assert!(engine.screens.begin(stream, batch.rows()), "it is screened");
    std::iter::from_fn(|| engine.screens.next(stream)).collect()
}

#[test]
fn only_those_that_react_are_called() {
    let mut engine = sensors();
    assert_eq!(called(&mut engine, 7, 41.0), [0, 1, 9]);
    assert_eq!(called(&mut engine, 7, 40.0), [0, 1]);
    assert_eq!(called(&mut engine, -1, 41.0), [0, 1]);
    let mut batch = Batch::new(4);
    for number in 0..SENSORS {
        let n = Value::Int(number);
        batch.push(
            Stamp::default(),
            [Value::Null, Value::Float(96.0), n, Value::Null],
        );
    }
    let (stream, _) = engine.plan().stream_named("S").unwrap();
    engine.push(stream, batch.rows(), &mut Seen::default());
    // By what the first row has asked, with no condition of its own on the column.
    assert_eq!(called(&mut engine, 4, 20.0), [0, 1, 6]);
    assert_eq!(called(&mut engine, 5, 20.0), [0, 1, 7]);
    // By one of several values.
    let every_fourth: Vec<usize> = [0, 1].into_iter().chain((4..52).step_by(4)).collect();
    assert_eq!(called(&mut engine, -1, 20.0), every_fourth);
    // Any of a condition that has no equality wakes those alone that wait for it.
    let every_fourth: Vec<usize> = [0, 1].into_iter().chain((5..52).step_by(4)).collect();
    assert_eq!(called(&mut engine, 99, 91.0), every_fourth);
    engine.advance(Timestamp(20_000), Seq(1), &mut Seen::default());
    assert_eq!(called(&mut engine, 5, 20.0), [0, 1]);
    assert_eq!(called(&mut engine, 99, 91.0), [0, 1]);
}

#[test]
fn what_several_ask_is_asked_once() {
    let pattern = |number: u32| {
        format!(
            "INSERT INTO Out SELECT b.n AS n FROM PATTERN (EVERY a=S[x > 40 AND b] \
             -> b=S[k = 'a' AND n = {number}]);\n"
        )
    };
    let patterns: String = (0..9).map(pattern).collect();
    let plan = compiled(&format!("{STREAMS}{patterns}")).unwrap();
    let engine = engine(&Arc::new(plan), false);
    let screen = engine.screens.by_stream[0].as_deref().unwrap();
    assert_eq!(screen.filters.len(), 10);
    // All have one key, each has another number.
    let columns: Vec<usize> = screen.indexes.iter().map(|index| index.column).collect();
    assert_eq!(columns, [2]);
}

/// How far rows may go together does not depend on who is asked about it.
#[test]
fn patterns_bound_a_run_together() {
    for within in ["WITHIN 10 SECONDS", "", "WITHIN 4 EVENTS"] {
        let text = format!(
            "{STREAMS}INSERT INTO Out SELECT a.n FROM PATTERN (EVERY a=S -> b=S {within});\n\
             INSERT INTO Out SELECT a.n FROM PATTERN (EVERY a=S -> NOT S[x > 1] FOR 30 SECONDS);\n\
             INSERT INTO Out SELECT a.n FROM PATTERN (EVERY a=S -> NOT T FOR 1 SECOND)\n\
             OUTPUT ALL EVERY 500 MS;\n"
        );
        let engine = engine(&Arc::new(compiled(&text).unwrap()), false);
        let (stream, _) = engine.plan().stream_named("S").unwrap();
        for time in [0, 1_700].map(Timestamp) {
            let nodes = engine.nodes.iter();
            let earliest = nodes.filter_map(|node| node.earliest(time)).min();
            assert!(earliest.is_some(), "there is one");
            assert_eq!(engine.bound(0, stream, time), earliest);
        }
    }
}
