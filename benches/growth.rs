//! What the cost of an event must not grow with: each figure is the cost with much of something
//! over the cost with little of it.

use std::time::Duration;

use crate::engine::{Ours, round};
use crate::events::STREAM;
use crate::figure::{Figure, Measured};

const EVENTS: usize = 1_000_000;
const ROUNDS: usize = 5;

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "GG",
        what: "100,000 groups over 100",
        budget: "<= 6 x, which is the cache",
        measure: Some(many_groups),
    },
    Figure {
        name: "GL",
        what: "the last 500,000 rows over the last 10",
        budget: "<= 2 x",
        measure: Some(long_window),
    },
    Figure {
        name: "GX",
        what: "100,000 rows at a batch's end over 100",
        budget: "<= 3 x, which is the cache",
        measure: Some(many_at_once),
    },
    Figure {
        name: "GQ",
        what: "1,000 queries on another stream over none",
        budget: "<= 1.2 x",
        measure: Some(other_queries),
    },
];

fn many_groups() -> Measured {
    let sql = "INSERT INTO Out SELECT sensor_id, avg(temperature) AS a, count(*) AS n FROM S \
               GROUP BY sensor_id;";
    compare((sql, 100), (sql, 100_000), 6.0)
}

fn long_window() -> Measured {
    let sql = |rows: u32| {
        format!(
            "INSERT INTO Out SELECT avg(temperature) AS a, max(temperature) AS m \
             FROM S WINDOW('length', {rows});"
        )
    };
    compare((&sql(10), 100), (&sql(500_000), 100), 2.0)
}

fn many_at_once() -> Measured {
    let sql = |span_ms: u32| {
        format!(
            "INSERT INTO Out SELECT sensor_id, temperature FROM S \
             WINDOW('timeBatch', {span_ms} MS);"
        )
    };
    compare((&sql(100), 100), (&sql(100_000), 100), 3.0)
}

fn other_queries() -> Measured {
    let sql = "INSERT INTO Out SELECT sensor_id, avg(temperature) AS a FROM S \
               WINDOW('time', 1 SECOND) GROUP BY sensor_id;";
    // As short as they can be: a file of SQL has at most 64 KiB.
    let others: String = (0..1_000)
        .map(|number| {
            format!("FROM R WINDOW('time', {number} MS) SELECT x INSERT INTO T{number};\n")
                .replace("'time', 0 MS", "'time', 1 MS")
        })
        .collect();
    let others = format!("CREATE STREAM R (x DOUBLE);\n{others}");
    compare((sql, 100), (&format!("{sql}\n{others}"), 100), 1.2)
}

/// A query and how many sensors its events come from, with little and with much of something.
fn compare(little: (&str, usize), much: (&str, usize), growth_max: f64) -> Measured {
    let time = |(sql, sensors): (&str, usize)| {
        round(&mut Ours::new(&format!("{STREAM}{sql}")), EVENTS, sensors).time
    };
    let (best_little, best_much) = best_of(ROUNDS, || time(little), || time(much));
    let per_event = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(1_000_000);
    let growth = best_much.as_secs_f64() / best_little.as_secs_f64();
    Measured {
        value: growth,
        met: growth <= growth_max,
        details: vec![
            ("ns/event with much", per_event(best_much)),
            ("ns with little", per_event(best_little)),
        ],
    }
}

/// The best times of two that take turns.
pub(crate) fn best_of(
    rounds: usize,
    little: impl Fn() -> Duration,
    much: impl Fn() -> Duration,
) -> (Duration, Duration) {
    let (mut best_little, mut best_much) = (Duration::MAX, Duration::MAX);
    for _ in 0..rounds {
        best_little = best_little.min(little());
        best_much = best_much.min(much());
    }
    (best_little, best_much)
}
