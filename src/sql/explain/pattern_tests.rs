//! What patterns become: what is read of their rows, what a row is found by, what stands beside
//! what.

use super::{dot, explain};
use crate::diagnostic::Severity;
use crate::sql::{Application, SqlText, compile, compile_what_is_right};

const STREAMS: &str = "CREATE STREAM S (k STRING, x INT, f DOUBLE, j JSON);\n\
    CREATE STREAM R (k STRING, y BIGINT);\n\
    CREATE STREAM A (id STRING);\n\
    CREATE TABLE T (k STRING PRIMARY KEY, n BIGINT) WITH ('max_rows' = '9');\n\
    CREATE WINDOW W (k STRING, x INT) WINDOW('length', 5);\n";

/// Queries without their target, and the lines below the one of the pattern.
const TREES: &[(&str, &[&str])] = &[
    (
        "SELECT a.x, b.y FROM PATTERN (EVERY a=S[x > 1] -> b=R[y = a.x AND y > a.f \
         AND k LIKE 'c%'])",
        &[
            "match row [1.x INT, 1.f DOUBLE, 2.y BIGINT]",
            "every",
            "  1: S",
            "    checked on the row (x > 1)",
            "2: R",
            "  checked on the row k LIKE 'c%'",
            "  indexed by [y = CAST(1.x AS BIGINT) BIGINT]",
            "  checked with the match (CAST(y AS DOUBLE) > 1.f)",
        ],
    ),
    // The last row unless another is named; of one row alone every index is the same or NULL.
    (
        "SELECT e.x AS a, e[last].x AS b, e[0].x AS c, e[last-2].x AS d, a.x AS e, a[last].x AS f, \
         a[1].x AS g FROM PATTERN (a=S -> e=S+)",
        &[
            "match row [1.x INT, 2[last].x INT, 2[0].x INT, 2[last-2].x INT]",
            "1: S",
            "2: S {1,}",
        ],
    ),
    // In the condition of an element its name is the row, and with an index what it has taken.
    (
        "SELECT count(e) AS n FROM PATTERN (e=S[e.x > 5 AND x > e[last].x AND x > avg(x) \
         AND event_time(e) > event_time(e[0])]{2,5})",
        &[
            "match row [1[last].x INT, avg(1.x) DOUBLE, time(1[0]) TIMESTAMP, count(1) BIGINT]",
            "1: S {2,5}",
            "  checked on the row (x > 5)",
            "  checked with the match (((x > 1[last].x) AND (CAST(x AS DOUBLE) > avg(1.x))) AND \
             (event_timestamp() > time(1[0])))",
        ],
    ),
    // Aggregates over the rows of an element, with an expression or not; those over matches are
    // above the pattern.
    (
        "SELECT sum(e.x * 2) AS s, count(e.j) AS n, sum(e[last].x) AS m, max(count(e)) AS c \
         FROM PATTERN (EVERY (e=S{2} -> R))",
        &[
            "match row [sum((1.x * 2)) BIGINT, count(1.j) BIGINT, 1[last].x INT, count(1) BIGINT]",
            "every",
            "  1: S {2,2}",
            "  2: R",
        ],
    ),
    // What is not there yet, may still change or has been left out for NULL is no key of an index,
    // except the last.
    (
        "SELECT 1 AS one FROM PATTERN (a=S AND b=S[x = a.x] -> c=S+ -> (d=S OR e=S) -> \
         S[x = c.x AND f = d.f AND k = a.k])",
        &[
            "match row [1.x INT, 1.k STRING, 3[last].x INT, 4.f DOUBLE]",
            "all of",
            "  1: S",
            "  2: S",
            "    checked with the match (x = 1.x)",
            "3: S {1,}",
            "one of",
            "  4: S",
            "  5: S",
            "6: S",
            "  indexed by [f = 4.f DOUBLE, k = 1.k STRING]",
            "  checked with the match (x = 3[last].x)",
        ],
    ),
    // The key of PARTITION BY is equal by itself, but where an OR may have left NULL.
    (
        "SELECT a.x FROM PATTERN ((a=S OR b=S) -> c=S -> R[k = c.k AND k = a.k] -> \
         NOT A[id = c.k] FOR 5 SECONDS) PARTITION BY k",
        &[
            "by key [k STRING] of S, [k STRING] of R, A reaches every key",
            "match row [1.k STRING, 1.x INT, 3.k STRING]",
            "one of",
            "  1: S",
            "  2: S",
            "3: S",
            "4: R",
            "  indexed by [k = 1.k STRING]",
            "5: no A for 5 s",
            "  indexed by [id = 3.k STRING]",
        ],
    ),
    // NOT without FOR stands beside what comes behind it.
    (
        "SELECT 1 AS one FROM PATTERN (NOT A[id = 'a'] -> NOT A[id = 'b'] -> (S AND R) -> NOT A -> \
         EVERY (S -> R))",
        &[
            "match row []",
            "all of",
            "  1: no A until what stands beside it is done",
            "    checked on the row (id = 'a')",
            "  2: no A until what stands beside it is done",
            "    checked on the row (id = 'b')",
            "  3: S",
            "  4: R",
            "every",
            "  all of",
            "    5: no A until what stands beside it is done",
            "    one after another",
            "      6: S",
            "      7: R",
        ],
    ),
    // Groups without EVERY say nothing.
    (
        "SELECT 1 AS one FROM SEQUENCE ((S, (R, A)), EVERY R, S?)",
        &[
            "match row []",
            "1: S",
            "2: R",
            "3: A",
            "every",
            "  4: R",
            "5: S {0,1}",
        ],
    ),
    (
        "SELECT W.x FROM PATTERN (W -> R)",
        &[
            "match row [1.x INT]",
            "rows of W through window length 5 (sliding, current, keeps [k, x])",
            "1: W",
            "2: R",
        ],
    ),
];

/// Queries, and a part of what is said of them.
const SAID: &[(&str, &str)] = &[
    (
        "SELECT 1 AS one FROM PATTERN (S -> R WITHIN 1 MINUTE) AFTER MATCH SKIP PAST LAST ROW",
        "pattern within 1 min, skips past the last row of a match\n",
    ),
    (
        "SELECT 1 AS one FROM SEQUENCE (S, R) WITHIN 9 EVENTS AFTER MATCH SKIP TO NEXT ROW \
         WITH ('pattern.matches_max' = '5', 'pattern.matches_policy' = 'drop_newest')",
        "sequence within 9 events, skips to the row behind the first one of a match\n",
    ),
    (
        "SELECT 1 AS one FROM SEQUENCE (S, R) \
         WITH ('pattern.matches_max' = '5', 'pattern.matches_policy' = 'drop_newest')",
        "keeps at most 5 partial matches, each of 0 columns, then begins no other\n",
    ),
    (
        "SELECT a.x FROM PATTERN (a=S -> R)",
        "  where 1 is 'a'\n  keeps at most 100000 partial matches, each of 1 column, then drops \
         the oldest\n",
    ),
    (
        "SELECT a.x FROM PATTERN (a=S[k IN T] -> R) WHERE a.x > 3",
        "where (1.x > 3)\n",
    ),
    (
        "SELECT a.x FROM PATTERN (a=S[k IN T] -> R)",
        "finds rows of T by its key [k]",
    ),
    (
        "SELECT a.k, lag(a.x) AS before FROM PATTERN (a=S -> R) WHERE a.x > 1",
        "compute [lag(1.x; 1)]\n      where (1.x > 1)\n        pattern",
    ),
    // What keeps something behind the pattern has a partition of its own.
    (
        "SELECT count(*) AS n FROM PATTERN (EVERY a=S -> R) PARTITION BY k",
        "per key of partition 0",
    ),
    (
        "SELECT a.x FROM PATTERN (EVERY a=S -> R) PARTITION BY k WITH ('partition.idle' = '1 h')",
        "per key of partition 0",
    ),
    (
        "SELECT a.x FROM PATTERN (a=S -> R) PARTITION BY k",
        "warning: query 0 keeps a state for every key of PARTITION BY",
    ),
    (
        "SELECT * FROM PATTERN (NOT A FOR 5 SECONDS -> r=R+ -> S)",
        "select 2[last].k AS k STRING, 2[last].y AS y BIGINT, 3.k AS k_2 STRING",
    ),
];

/// Queries that are right and hardly meant: the warnings of `check`.
const WARNED: &[(&str, &[&str])] = &[
    ("SELECT 1 AS one FROM PATTERN (S -> R)", &[]),
    ("SELECT 1 AS one FROM PATTERN (S -> EVERY R+)", &[]),
    (
        "SELECT 1 AS one FROM PATTERN (EVERY S -> R WITHIN 5 SECONDS)",
        &[],
    ),
    (
        "SELECT 1 AS one FROM PATTERN (EVERY S -> R)",
        &["what this EVERY begins may wait for ever"],
    ),
    (
        "SELECT 1 AS one FROM PATTERN (EVERY (S -> R))",
        &["the matches of this EVERY do not overlap"],
    ),
    ("SELECT 1 AS one FROM SEQUENCE (EVERY (S -> R))", &[]),
    (
        "SELECT 1 AS one FROM PATTERN (S+ -> R)",
        &["this element may go on taking rows for ever"],
    ),
    (
        "SELECT 1 AS one FROM PATTERN (S+ -> R WITHIN 9 EVENTS)",
        &[],
    ),
];

fn text(query: &str) -> SqlText {
    SqlText {
        path: "test".to_owned(),
        text: format!("{STREAMS}INSERT INTO Out {query};"),
    }
}

fn compiled(query: &str) -> Application {
    compile(&[text(query)]).unwrap_or_else(|faults| panic!("{query}\n{faults:?}"))
}

fn explained(query: &str) -> String {
    let shown = explain(&compiled(query));
    shown[shown.find("query 0").unwrap()..].to_owned()
}

#[test]
fn patterns_become_trees() {
    for (query, expected) in TREES {
        let shown = explained(query);
        let mut lines = shown.lines();
        let kind = |line: &&str| {
            let line = line.trim_start();
            line.starts_with("pattern") || line.starts_with("sequence")
        };
        let first = lines.find(kind).unwrap();
        let depth = first.len() - first.trim_start().len() + 2;
        let below = lines.take_while(|line| line.len() - line.trim_start().len() >= depth);
        let below: Vec<&str> = below.map(|line| &line[depth..]).collect();
        assert_eq!(&below, expected, "{query}\n{shown}");
    }
}

#[test]
fn what_stands_around_a_pattern_is_shown() {
    for (query, said) in SAID {
        let shown = explained(query);
        assert!(shown.contains(said), "{query}: no {said:?} in\n{shown}");
    }
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    for (query, expected) in WARNED {
        let (_, found) = compile_what_is_right(&[text(query)]);
        assert!(found.iter().all(|one| one.severity == Severity::Warning));
        let found: Vec<&str> = found.iter().map(|one| one.message.as_str()).collect();
        let alike = |(said, found): (&&str, &&str)| found.starts_with(said);
        let all = expected.len() == found.len() && expected.iter().zip(&found).all(alike);
        assert!(all, "{query}: {found:?}");
    }
}

#[test]
fn a_fingerprint_knows_what_a_pattern_means_and_not_what_its_elements_are_called() {
    let of = |query: &str| {
        let plan = compiled(query);
        plan.queries[0].fingerprint(&plan)
    };
    let first = "SELECT a.x FROM PATTERN (EVERY a=S[x > 1] -> R[k = a.k]{2,3} WITHIN 5 SECONDS)";
    let same =
        "SELECT b.x FROM PATTERN (EVERY S[x > 1] AS b -> c=R[c.k = b.k]{2,3}) WITHIN 5 SECONDS";
    assert_eq!(of(first), of(same));
    let changes = [
        ("EVERY a=S", "a=S"),
        ("x > 1", "x > 2"),
        ("{2,3}", "{2,4}"),
        ("{2,3}", "{1,3}"),
        ("k = a.k", "k > a.k"),
        ("k = a.k", "k = a.j ->> 'k'"),
        ("5 SECONDS", "6 SECONDS"),
        ("5 SECONDS", "5 EVENTS"),
        (
            "EVERY a=S[x > 1] -> R[k = a.k]{2,3}",
            "EVERY (a=S[x > 1] AND R[k = a.k]{2,3})",
        ),
        ("PATTERN", "SEQUENCE"),
        ("a.x", "a.f"),
        ("R[", "NOT A[id = a.k] -> R["),
        ("R[", "NOT A[id = a.k] FOR 1 SECOND -> R["),
        ("SECONDS)", "SECONDS) AFTER MATCH SKIP PAST LAST ROW"),
        ("SECONDS)", "SECONDS) AFTER MATCH SKIP TO NEXT ROW"),
        ("SECONDS)", "SECONDS) PARTITION BY k"),
        ("SECONDS)", "SECONDS) WHERE a.x > 5"),
    ];
    // What is remembered stays when the limit is another.
    let limited = format!("{first} WITH ('pattern.matches_max' = '5')");
    assert_eq!(of(first), of(&limited));
    let mut known = vec![of(first)];
    for (from, to) in changes {
        let query = first.replacen(from, to, 1);
        let other = of(&query);
        assert!(!known.contains(&other), "{query}");
        known.push(other);
    }
}

#[test]
fn graphs_show_what_may_follow_what() {
    let query = "SELECT 1 AS one FROM PATTERN (EVERY (S[x > 1] -> R?) -> (S+ OR A) -> \
                 NOT A[id = 'a'] FOR 1 SECOND)";
    let shown = dot(&compiled(query));
    let edges: Vec<&str> = shown.lines().filter(|line| line.contains("->")).collect();
    let edges: Vec<&str> = edges.into_iter().map(str::trim).collect();
    let expected = [
        "q0_3 -> q0_3;",
        "q0_1 -> q0_2;",
        "q0_start -> q0_1;",
        "q0_1 -> q0_1 [label = \"every\"];",
        "q0_2 -> q0_1 [label = \"every\"];",
        "q0_3 -> q0_5 [style = dashed];",
        "q0_4 -> q0_5 [style = dashed];",
        "q0_1 -> q0_3;",
        "q0_1 -> q0_4;",
        "q0_2 -> q0_3;",
        "q0_2 -> q0_4;",
        "q0_5 -> q0_match [style = dashed];",
    ];
    assert_eq!(edges, expected, "{shown}");
    assert!(
        shown.contains("q0_1 [label = \"1: S\\lchecked on the row (x > 1)\"];"),
        "{shown}"
    );
    assert!(shown.contains("5: no A for 1 s\\lchecked on the row (id = 'a')\", style = dashed];"));
}
