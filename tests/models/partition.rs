//! A partition against an application of its own for each key, that gets the rows of this key and
//! nothing else.

use eventflux::event::Value;
use proptest::prelude::*;

use crate::drive::{Given, Input, cases, expect_unordered, run};
use crate::readings::{self, K, N};
use crate::tape::Tape;

const SPAN_MS: i64 = 100;

/// What a key may have. `#Middle` is an inner stream; an application for one key has it as an
/// ordinary one.
const QUERIES: [&str; 9] = [
    "INSERT INTO Out SELECT 1 AS q, k, sum(n) AS s, count(*) AS c FROM A WINDOW('length', 3);",
    "INSERT INTO Out SELECT 2 AS q, k, max(n) AS s, count(*) AS c FROM A;",
    "INSERT INTO #Middle SELECT k, n, s FROM A WHERE n > 0;
     INSERT INTO Out SELECT 3 AS q, k, sum(n) AS s, count(s) AS c
     FROM #Middle WINDOW('length', 2);",
    "INSERT INTO Out SELECT 4 AS q, s, sum(n) AS s2, count(*) AS c FROM A GROUP BY s;",
    "INSERT INTO Out SELECT 5 AS q, a.k, a.n, count(*) AS c
     FROM A WINDOW('length', 2) AS a JOIN B WINDOW('length', 2) AS b ON a.n < b.n;",
    "INSERT INTO Out SELECT 6 AS q, k, sum(n) AS s, count(*) AS c FROM B WINDOW('length', 2);",
    "INSERT ALL EVENTS INTO Out SELECT 7 AS q, k, sum(n) AS s, count(*) AS c
     FROM A WINDOW('time', 100 MS);",
    "INSERT INTO Out SELECT 8 AS q, s, sum(n) AS s2, count(*) AS c
     FROM A WINDOW('timeBatch', 100 MS) GROUP BY s;",
    "INSERT INTO Out SELECT 9 AS q, a.k, a.n, count(*) AS c
     FROM A WINDOW('time', 100 MS) AS a LEFT JOIN B WINDOW('time', 100 MS) AS b ON a.n < b.n;",
];

/// Those of which nothing is still to come when a key is silent.
const STILL: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Keys {
    /// Both streams have the key.
    Both,
    /// Rows of B reach every key that there is.
    OnlyA,
    /// Ranges, which overlap.
    Ranges,
}

impl Keys {
    /// With a key of B only where that is read.
    fn sql(self, reads_b: bool) -> String {
        let of_a = match self {
            Keys::Both | Keys::OnlyA => "k OF A",
            Keys::Ranges => "n < 3 AS 'low' OR n > 0 AS 'high' OF A",
        };
        let of_b = reads_b && self != Keys::OnlyA;
        format!("{of_a}{}", if of_b { ", k OF B" } else { "" })
    }

    /// The keys of a row; none when it reaches all.
    fn of(self, input: &Input) -> Option<Vec<Value>> {
        let (stream, row) = input.row.as_ref()?;
        let of_k = || (!row[K].is_null()).then(|| row[K].clone());
        match (self, *stream) {
            (Keys::OnlyA, "B") => None,
            (Keys::Ranges, "A") => {
                let ranges = [
                    (row[N].as_int().is_some_and(|n| n < 3), "low"),
                    (row[N].as_int() > Some(0), "high"),
                ];
                let inside = ranges.into_iter().filter(|(inside, _)| *inside);
                Some(inside.map(|(_, name)| Value::text(name)).collect())
            }
            _ => Some(of_k().into_iter().collect()),
        }
    }
}

/// What one key gets, from its first row on, in as many lives as it has.
struct Life {
    key: Value,
    last: i64,
    inputs: Vec<Input>,
}

fn lives(keys: Keys, idle_ms: Option<i64>, inputs: &[Input]) -> Vec<Life> {
    let mut over: Vec<Life> = Vec::new();
    let mut lives: Vec<Life> = Vec::new();
    for input in inputs {
        let ends = |life: &Life| idle_ms.is_some_and(|idle_ms| life.last + idle_ms <= input.time);
        while let Some(place) = lives.iter().position(ends) {
            over.push(lives.remove(place));
        }
        let of = keys.of(input);
        for key in of.iter().flatten() {
            if !lives.iter().any(|life| life.key == *key) {
                lives.push(Life {
                    key: key.clone(),
                    last: input.time,
                    inputs: Vec::new(),
                });
            }
        }
        for life in &mut lives {
            let speaks = of.as_ref().is_some_and(|keys| keys.contains(&life.key));
            if speaks {
                life.last = input.time;
            }
            // A row that reaches all is no sign of life of any.
            if input.row.is_some() && (speaks || of.is_none()) {
                life.inputs.push(input.clone());
            } else {
                life.inputs.push(Input::tick(input.time));
            }
        }
    }
    over.extend(lives);
    over
}

fn partitions(tape: &mut Tape<'_>, count: usize) -> Result<(), TestCaseError> {
    let idle_ms = tape.one_of(&[None, None, Some(120), Some(40)]);
    let known = if idle_ms.is_some() {
        STILL
    } else {
        QUERIES.len()
    };
    // The first reads A: only streams that are read make keys.
    let first = QUERIES[tape.one_of(&[0, 1, 2, 3, 4])];
    let more = (0..tape.below(3)).map(|_| tape.one_of(&QUERIES[..known]));
    let queries: Vec<&str> = std::iter::once(first).chain(more).collect();
    let queries = queries.join("\n");
    let reads_b = queries.contains(" B ");
    let keys = tape.one_of(&[Keys::Both, Keys::OnlyA, Keys::Ranges]);
    let keys = if keys == Keys::Both && !reads_b {
        Keys::OnlyA
    } else {
        keys
    };
    let read: &[&'static str] = if reads_b { &["A", "B"] } else { &["A"] };
    let inputs = readings::inputs(tape, read, count, SPAN_MS);
    let streams = "CREATE STREAM A (k STRING, n INT, x DOUBLE, b BOOLEAN, s STRING);\n\
                   CREATE STREAM B (k STRING, n INT, x DOUBLE, b BOOLEAN, s STRING);\n\
                   CREATE STREAM Out (q INT, k STRING, s INT, c INT);\n";
    let of_one = format!("{streams}{}", queries.replace('#', ""));
    let mut expected: Vec<Given> = Vec::new();
    for life in lives(keys, idle_ms, &inputs) {
        expected.extend(run(&of_one, &life.inputs)?);
    }
    let idle = idle_ms.map(|idle_ms| format!(", 'partition.idle' = '{idle_ms} ms'"));
    let sql = format!(
        "{streams}PARTITION WITH ({}{}) BEGIN\n{queries}\nEND;",
        keys.sql(reads_b),
        idle.unwrap_or_default()
    );
    expect_unordered(&sql, &inputs, &expected)
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn partitions_are_applications_of_one_key(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        count in 0usize..24,
    ) {
        partitions(&mut Tape::new(&bytes), count)?;
    }
}
