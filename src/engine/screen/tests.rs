//! Patterns behind a screen against the same patterns that are given every row: nobody can tell
//! them apart by what comes out.

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

/// Both engines, and what has come out of them.
struct Pair {
    screened: Engine,
    alone: Engine,
    watch: bool,
    seen: [Seen; 2],
}

impl Pair {
    fn new(plan: Application, watch: bool) -> Pair {
        let plan = Arc::new(plan);
        Pair {
            screened: engine(&plan, watch),
            alone: unscreened(engine(&plan, watch)),
            watch,
            seen: Default::default(),
        }
    }

    fn each(&mut self, act: impl Fn(&mut Engine, &mut Seen)) {
        let [screened, alone] = &mut self.seen;
        act(&mut self.screened, screened);
        act(&mut self.alone, alone);
    }

    fn check(&mut self) {
        let [screened, alone] = &mut self.seen;
        assert_eq!(
            std::mem::take(&mut screened.0),
            std::mem::take(&mut alone.0)
        );
        assert_eq!(self.screened.deadline(), self.alone.deadline());
        let dropped = [&mut self.screened, &mut self.alone]
            .map(|engine| engine.take_counts().matches_dropped);
        assert_eq!(dropped[0], dropped[1]);
    }

    fn restart(self, plan: Application) -> Pair {
        let state = self.screened.save().unwrap();
        let clock = self.screened.clock();
        let mut pair = Pair::new(plan, self.watch);
        pair.screened.restore(&state, clock);
        pair.alone.restore(&state, clock);
        pair
    }
}

fn run(queries: &[Written], steps: &[Step], watch: bool) {
    let mut pair = Pair::new(plan(queries, 0x7F), watch);
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
                let (stream, _) = pair.screened.plan().stream_named(stream).unwrap();
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
