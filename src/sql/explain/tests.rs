//! What explain says of single queries.

use super::explain;
use crate::sql::{SqlText, compile};

const STREAMS: &str = "CREATE STREAM S (k STRING, x DOUBLE, n INT);\n\
    CREATE STREAM R (k STRING, y DOUBLE);\n\
    CREATE TABLE T (k STRING PRIMARY KEY, g INT, y DOUBLE) WITH ('max_rows' = '9');\n";

/// Queries, what is said of them, and what is not.
const SAID: &[(&str, &[&str], &[&str])] = &[
    (
        "SELECT k FROM S WHERE 1 = 1",
        &["from S [k], 1 of 3 columns"],
        &["where", "keeps"],
    ),
    (
        "SELECT k FROM S WHERE x > 2 * 3 AND NOT FALSE",
        &["where (x > 6.0)\n"],
        &["FALSE", "TRUE", "AND"],
    ),
    ("SELECT k FROM S WHERE x > 1 AND 1 = 2", &["AND false"], &[]),
    (
        "SELECT k, count(*) FILTER (WHERE 1 = 1) AS c FROM S GROUP BY k HAVING TRUE",
        &[
            "by [k STRING]",
            "keeps a group for each [k], for ever",
            "warning: query 0",
        ],
        &["having", "filter"],
    ),
    (
        "SELECT sum(x) AS s FROM S WINDOW('time', 5 SECONDS) WHERE n > 0",
        &[
            "where (n > 0) (before the window)",
            "keeps the rows of the last 5 s, [x] of each",
        ],
        &[],
    ),
    (
        "SELECT k, x FROM S WINDOW('lengthBatch', 9) ORDER BY x",
        &["keeps the output rows of the open batch, at most 9 rows"],
        &["one group"],
    ),
    (
        "SELECT k, count(*) AS c FROM S WINDOW('tumbling', 1 MINUTE) GROUP BY k",
        &["keeps a group for each [k] of the open batch"],
        &["keeps the"],
    ),
    (
        "SELECT DISTINCT k FROM S OUTPUT LAST EVERY 5 EVENTS",
        &[
            "keeps every different output row, for ever",
            "keeps the last output row\n",
        ],
        &[],
    ),
    (
        "SELECT S.k, T.y FROM S JOIN T ON S.n = T.g",
        &[
            "by hash [S.n = T.g INT]",
            "finds rows of T by its index [g]",
        ],
        &[],
    ),
    (
        "SELECT S.k, T.y FROM S JOIN T ON S.x > T.y",
        &["finds rows of T row by row"],
        &[],
    ),
    (
        "SELECT S.k FROM S WINDOW('time', 1 SECOND) JOIN R WINDOW('length', 5) ON S.k = R.k \
         WHERE S.x > 1 AND R.y > 1",
        &[
            "where (x > 1.0) (before the window)",
            "where (R.y > 1.0)\n",
            "keeps the rows of the last 1 s of S, [k] of each, by key",
            "keeps the last 5 rows of R, [k, y] of each, by key",
        ],
        &[],
    ),
];

fn explained(queries: &str) -> String {
    let text = SqlText {
        path: "test".to_owned(),
        text: format!("{STREAMS}{queries}"),
    };
    let plan = compile(&[text]).unwrap_or_else(|faults| panic!("{queries}\n{faults:?}"));
    let shown = explain(&plan);
    shown[shown.find("query 0").unwrap()..].to_owned()
}

#[test]
fn filters_columns_keys_and_memory_are_shown() {
    for (select, said, unsaid) in SAID {
        let shown = explained(&format!("INSERT INTO Out {select};"));
        for part in *said {
            assert!(shown.contains(part), "{select}: no {part:?} in\n{shown}");
        }
        for part in *unsaid {
            assert!(!shown.contains(part), "{select}: {part:?} in\n{shown}");
        }
    }
}

#[test]
fn equal_prefixes_are_shared() {
    let query = |target: &str, select: &str| format!("INSERT {target} SELECT {select};\n");
    let window = "FROM S WINDOW('length', 10)";
    let pairs = [
        (
            format!("avg(x) AS a {window}"),
            format!("max(x) AS a {window}"),
            true,
        ),
        (
            format!("avg(x) AS a {window}"),
            format!("max(n) AS a {window}"),
            false,
        ),
        (
            format!("avg(x) AS a {window} WHERE n > 1 + 1"),
            format!("max(x) AS a {window} WHERE n > 2"),
            true,
        ),
        (
            format!("avg(x) AS a {window} WHERE n > 1"),
            format!("max(x) AS a {window} WHERE n > 2"),
            false,
        ),
        (
            "avg(x) AS a FROM S WINDOW('lengthBatch', 10)".to_owned(),
            "max(n) AS a FROM S WINDOW('lengthBatch', 10)".to_owned(),
            true,
        ),
        (
            "x AS a FROM S".to_owned(),
            "x AS a FROM S".to_owned(),
            false,
        ),
        (
            format!("x AS a {window} WHERE k IN T"),
            format!("x AS a {window} WHERE k IN T"),
            false,
        ),
        (
            "x AS a FROM S WHERE rand() > 0.5".to_owned(),
            "x AS a FROM S WHERE rand() > 0.5".to_owned(),
            false,
        ),
    ];
    for (one, other, share) in pairs {
        let shown = explained(&(query("INTO A", &one) + &query("INTO B", &other)));
        assert_eq!(shown.contains("shares"), share, "{shown}");
    }
    let all = query("INTO A", &format!("x {window}"));
    let expired = query("EXPIRED EVENTS INTO B", &format!("x {window}"));
    assert!(!explained(&(all + &expired)).contains("shares"));
}
