//! The applications that are run: each keeps state of some kinds, and exists in three variants of
//! which each adds, changes and takes away queries and sinks of the others.
//!
//! Small, so that a day costs a few milliseconds. Three sources, by the place in [`SOURCES`]: `R`
//! are readings, `T` readings with a time of their own, `Q` asks and announces.

use std::sync::{Arc, OnceLock};

use eventflux::sql::plan::{Role, StreamId};
use eventflux::sql::{self, Application, SqlText};

/// The streams that are fed from outside; an application has some of them.
pub(crate) const SOURCES: [&str; 3] = ["R", "T", "Q"];
/// How many variants each application has.
pub(crate) const VARIANTS: usize = 3;

/// One application as it may be configured.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) application: Arc<Application>,
    pub(crate) texts: [SqlText; 1],
    /// The streams that go to sinks, by name.
    pub(crate) sinks: Vec<String>,
    /// The streams of [`SOURCES`] that it has.
    pub(crate) sources: [Option<StreamId>; SOURCES.len()],
}

/// An application and what it is allowed to meet.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    /// Whether the clock may leap over years: something that fires by itself would fire too often.
    pub(crate) leaps: bool,
    pub(crate) variants: [Variant; VARIANTS],
}

/// All of them, compiled once.
pub(crate) fn families() -> &'static [Family] {
    static FAMILIES: OnceLock<Vec<Family>> = OnceLock::new();
    FAMILIES.get_or_init(|| {
        let all = [
            ("windows", true, WINDOWS),
            ("joins", true, JOINS),
            ("patterns", true, PATTERNS),
            ("partitions", false, PARTITIONS),
            ("time", true, TIME),
        ];
        let mut families: Vec<Family> = all
            .into_iter()
            .map(|(name, leaps, parts)| family(name, leaps, &[parts]))
            .collect();
        let everything = [WINDOWS, JOINS, PATTERNS, PARTITIONS, TIME];
        families.push(family("everything", false, &everything));
        families
    })
}

fn family(name: &'static str, leaps: bool, parts: &[&[Part]]) -> Family {
    let variants = ['a', 'b', 'c'].map(|variant| {
        let mut text = String::new();
        for (when, statement) in parts.iter().copied().flatten() {
            if when.contains(variant) && !text.contains(statement) {
                text.push_str(statement);
                text.push_str(";\n");
            }
        }
        compiled(name, text)
    });
    Family {
        name,
        leaps,
        variants,
    }
}

fn compiled(name: &str, text: String) -> Variant {
    let texts = [SqlText {
        path: format!("{name}.sql"),
        text,
    }];
    let compiled = sql::compile(&texts);
    let application = compiled.unwrap_or_else(|faults| panic!("{name}: {faults:#?}"));
    let sinks = application.streams.iter();
    let sinks = sinks.filter(|stream| stream.role == Role::Sink);
    Variant {
        sinks: sinks.map(|stream| stream.name.clone()).collect(),
        sources: SOURCES.map(|name| application.stream_named(name).map(|(id, _)| id)),
        application: Arc::new(application),
        texts,
    }
}

/// The variants that have a statement, and the statement.
type Part = (&'static str, &'static str);

const READINGS: Part = ("abc", "CREATE STREAM R (k STRING, v BIGINT, f DOUBLE)");
const ASKS: Part = ("abc", "CREATE STREAM Q (k STRING, n BIGINT)");

const WINDOWS: &[Part] = &[
    READINGS,
    (
        "abc",
        "CREATE STREAM Sums (s BIGINT, n BIGINT) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "ac",
        "INSERT INTO Sums SELECT sum(v) AS s, count(*) AS n FROM R WINDOW('length', 5)",
    ),
    (
        "b",
        "INSERT INTO Sums SELECT sum(v) AS s, count(*) AS n FROM R WINDOW('length', 3)",
    ),
    (
        "abc",
        "CREATE STREAM Groups (k STRING, n BIGINT, a DOUBLE) \
         WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "INSERT INTO Groups SELECT k, count(*) AS n, avg(f) AS a FROM R \
         WINDOW('tumbling', 1 SECOND) GROUP BY k",
    ),
    (
        "ab",
        "CREATE STREAM Recent (k STRING, s BIGINT, lo BIGINT, hi BIGINT) \
         WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "INSERT INTO Recent SELECT k, sum(v) AS s, min(v) AS lo, max(v) AS hi FROM R \
         WINDOW('time', 700 MILLISECONDS) GROUP BY k",
    ),
    (
        "bc",
        "CREATE STREAM Visits (k STRING, n BIGINT, s BIGINT) \
         WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "INSERT INTO Visits SELECT k, count(*) AS n, sum(v) AS s FROM R \
         WINDOW('session', 500 MILLISECONDS, k) GROUP BY k",
    ),
    (
        "c",
        "CREATE STREAM Least (v BIGINT, f DOUBLE) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "c",
        "INSERT ALL EVENTS INTO Least SELECT v, f FROM R WINDOW('sort', 3, v)",
    ),
    (
        "a",
        "INSERT INTO Middle SELECT median(v) AS m, collect_set(k) AS ks FROM R \
         WINDOW('lengthBatch', 4)",
    ),
];

const JOINS: &[Part] = &[
    READINGS,
    ASKS,
    (
        "abc",
        "CREATE TABLE Known (k STRING PRIMARY KEY, n BIGINT, seen BIGINT) \
         WITH ('max_rows'='4', 'ttl'='20 s')",
    ),
    (
        "abc",
        "UPSERT INTO Known SELECT k, n, now() AS seen FROM Q WHERE n % 3 != 0 ON Known.k = Q.k",
    ),
    (
        "abc",
        "DELETE FROM Known USING Q AS g WHERE Known.k = g.k AND g.n % 5 = 0",
    ),
    (
        "abc",
        "CREATE STREAM Matched (k STRING, v BIGINT, n BIGINT) \
         WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "INSERT INTO Matched SELECT r.k, r.v, t.n FROM R AS r JOIN Known AS t ON r.k = t.k",
    ),
    (
        "abc",
        "CREATE STREAM Pairs (k STRING, v BIGINT, n BIGINT) \
         WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "ac",
        "INSERT INTO Pairs SELECT r.k, r.v, q.n FROM R WINDOW('time', 1 SECOND) AS r \
         LEFT JOIN Q WINDOW('length', 4) AS q ON r.k = q.k",
    ),
    (
        "b",
        "INSERT INTO Pairs SELECT r.k, r.v, q.n FROM R WINDOW('time', 2 SECONDS) AS r \
         JOIN Q WINDOW('length', 4) AS q ON r.k = q.k",
    ),
    (
        "bc",
        "CREATE STREAM Strange (k STRING, r DOUBLE) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "INSERT INTO Strange SELECT DISTINCT k, f AS r FROM R WHERE k NOT IN Known",
    ),
    (
        "c",
        "CREATE STREAM Draws (u STRING, r DOUBLE) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "c",
        "INSERT INTO Draws SELECT uuid() AS u, rand() AS r FROM Q",
    ),
];

const PATTERNS: &[Part] = &[
    READINGS,
    ASKS,
    (
        "abc",
        "CREATE STREAM Falls (k STRING, a BIGINT, b BIGINT) \
         WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "INSERT INTO Falls SELECT a.k, a.v, b.v FROM PATTERN (EVERY a=R[v > 60] -> \
         b=R[v < 40 AND k = a.k] WITHIN 2 SECONDS)",
    ),
    (
        "ab",
        "CREATE STREAM Silent (k STRING, v BIGINT) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "a",
        "INSERT INTO Silent SELECT a.k, a.v FROM PATTERN (EVERY a=R[v > 70] -> \
         NOT Q[k = a.k] FOR 1 SECOND WITHIN 3 SECONDS)",
    ),
    (
        "bc",
        "INSERT INTO Silent SELECT a.k, a.v FROM PATTERN (EVERY a=R[v > 70] -> \
         NOT Q[k = a.k] FOR 1500 MILLISECONDS WITHIN 3 SECONDS)",
    ),
    (
        "bc",
        "CREATE STREAM Rises (k STRING, n BIGINT, s BIGINT) \
         WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "INSERT INTO Rises SELECT e.k, count(e) AS n, sum(e.v) AS s FROM SEQUENCE \
         (EVERY e=R[v > 20]{2,4}, x=R[v <= 20] WITHIN 5 SECONDS) PARTITION BY k",
    ),
    (
        "c",
        "CREATE STREAM Both (a BIGINT, b BIGINT) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "c",
        "INSERT INTO Both SELECT a.v, b.n FROM PATTERN (EVERY (a=R[v > 50] AND b=Q[n > 50]) \
         WITHIN 10 EVENTS)",
    ),
];

const PARTITIONS: &[Part] = &[
    READINGS,
    ASKS,
    (
        "abc",
        "CREATE STREAM Peaks (k STRING, p DOUBLE) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "PARTITION WITH (k OF R, 'partition.idle' = '30 s') BEGIN \
         INSERT INTO #Smooth SELECT k, avg(f) AS f FROM R WINDOW('length', 3); \
         INSERT INTO Peaks SELECT k, max(f) AS p FROM #Smooth WINDOW('lengthBatch', 4); END",
    ),
    ("abc", "CREATE TRIGGER Beat AT EVERY 10 MINUTES"),
    ("abc", "CREATE TRIGGER Boot AT START"),
    (
        "ab",
        "CREATE STREAM Beats (at BIGINT) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "INSERT INTO Beats SELECT triggered_time AS at FROM Beat",
    ),
    (
        "b",
        "INSERT INTO Beats SELECT triggered_time AS at FROM Boot",
    ),
    (
        "abc",
        "CREATE STREAM Lasts (k STRING, v BIGINT) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "ac",
        "INSERT INTO Lasts SELECT k, sum(v) AS v FROM R GROUP BY k OUTPUT LAST EVERY 2 SECONDS",
    ),
    (
        "b",
        "INSERT INTO Lasts SELECT k, sum(v) AS v FROM R GROUP BY k OUTPUT FIRST EVERY 3 EVENTS",
    ),
    (
        "bc",
        "CREATE STREAM Shown (k STRING, n BIGINT) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "INSERT INTO Shown SELECT k, count(*) AS n FROM R WINDOW('time', 3 SECONDS) GROUP BY k \
         OUTPUT SNAPSHOT EVERY 1 SECOND",
    ),
    (
        "abc",
        "CREATE WINDOW Shelf (k STRING, n BIGINT) WINDOW('length', 6)",
    ),
    ("abc", "INSERT INTO Shelf SELECT k, n FROM Q"),
    (
        "abc",
        "CREATE STREAM Shelved (k STRING, n BIGINT) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "ac",
        "INSERT INTO Shelved SELECT k, sum(n) AS n FROM Shelf GROUP BY k",
    ),
];

const TIME: &[Part] = &[
    ASKS,
    (
        "abc",
        "CREATE STREAM T (k STRING, v BIGINT, at BIGINT) WITH ('timestamp.field'='at', \
         'timestamp.delay'='300 ms', 'timestamp.idle'='2 s', 'error.strategy'='dlq', \
         'error.dlq.stream'='Bad', 'timestamp.rows_max'='12')",
    ),
    (
        "abc",
        "CREATE STREAM Bad (originalEvent STRING, errorMessage STRING, errorType STRING, \
         timestamp BIGINT, attemptCount INT, streamName STRING) \
         WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "CREATE STREAM Ordered (k STRING, v BIGINT, d BIGINT) \
         WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "INSERT INTO Ordered SELECT k, v, delta(v) OVER (PARTITION BY k) AS d FROM T",
    ),
    (
        "ab",
        "CREATE STREAM Hops (k STRING, n BIGINT) WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "a",
        "INSERT INTO Hops SELECT k, count(*) AS n FROM T WINDOW('hop', 1 SECOND, 400 MILLISECONDS) \
         GROUP BY k",
    ),
    (
        "bc",
        "INSERT INTO Hops SELECT k, count(*) AS n FROM T WINDOW('tumbling', 1 SECOND) GROUP BY k",
    ),
    (
        "abc",
        "CREATE AGGREGATION PerKey WITH ('max_rows'='40') AS \
         SELECT k, sum(v) AS s, count(*) AS n, max(v) AS hi FROM T \
         GROUP BY k AGGREGATE BY at EVERY SECONDS, MINUTES",
    ),
    (
        "bc",
        "CREATE STREAM Answers (at BIGINT, k STRING, s BIGINT, n BIGINT) \
         WITH ('type'='sink', 'extension'='log')",
    ),
    (
        "abc",
        "INSERT INTO Answers SELECT AGG_TIMESTAMP AS at, p.k, p.s, p.n FROM Q AS q \
         JOIN PerKey AS p ON q.k = p.k WITHIN 0, 4000000000000 PER 'seconds'",
    ),
];
