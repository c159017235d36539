//! What patterns become.

use std::fmt::Write as _;

use super::super::ast::{From, Pattern, PatternNode, PatternWhat, Select, Source, Statement, What};
use super::super::plan::{PatternKind, Skip};

/// The pattern with every choice that the parser made in parentheses.
fn shown(node: &PatternNode) -> String {
    let between = |nodes: &[PatternNode], joint: &str| {
        let nodes: Vec<String> = nodes.iter().map(shown).collect();
        format!("({})", nodes.join(joint))
    };
    match &node.what {
        PatternWhat::Element(element) | PatternWhat::Absent(element, _) => {
            let mut text = String::new();
            if let PatternWhat::Absent(_, for_ms) = &node.what {
                text += "NOT ";
                if let Some(for_ms) = for_ms {
                    text += &format!("{for_ms} ");
                }
            }
            if let Some(alias) = &element.alias {
                text += &format!("{}=", alias.text);
            }
            text += &element.stream.text;
            if let Some(condition) = &element.condition {
                write!(text, "[{condition}]").unwrap();
            }
            if let Some(quantifier) = &element.quantifier {
                let max = quantifier.max.map_or(String::new(), |max| max.to_string());
                write!(text, "{{{},{max}}}", quantifier.min).unwrap();
            }
            text
        }
        PatternWhat::Chain(nodes) => between(nodes, " -> "),
        PatternWhat::All(nodes) => between(nodes, " AND "),
        PatternWhat::Any(nodes) => between(nodes, " OR "),
        PatternWhat::Every(node) => format!("EVERY {}", shown(node)),
    }
}

fn select(from: &str) -> Result<Select, String> {
    let text = format!("INSERT INTO O SELECT x FROM {from}");
    let (mut statements, faults) = super::parse("t", &text);
    if let Some(fault) = faults.first() {
        return Err(format!("{} {:?}", fault.message, fault.hint));
    }
    match statements.pop() {
        Some(Statement::Query(query)) => Ok(query.select),
        _ => Err("no query".to_owned()),
    }
}

fn pattern(from: &str) -> Result<Pattern, String> {
    match select(from)?.from {
        From::Pattern(pattern) => Ok(*pattern),
        From::One(_) | From::Join(_) => Err("no pattern".to_owned()),
    }
}

/// Patterns, and what they become.
const PATTERNS: &[(&str, &str)] = &[
    ("PATTERN (A)", "A"),
    ("PATTERN (e1=A[x > 5] -> e2=B)", "(e1=A[x > 5] -> e2=B)"),
    ("SEQUENCE (A, B -> C)", "(A -> B -> C)"),
    // The alias, the condition and the quantifier stand as one likes.
    (
        "PATTERN (A[x] AS e{2} -> A AS f[x]+ -> g=A*[x] -> h=A?)",
        "(e=A[x]{2,2} -> f=A[x]{1,} -> g=A[x]{0,} -> h=A{0,1})",
    ),
    // No space is needed before an arrow.
    (
        "PATTERN (e=A+->b=B*->C?->D{2}->#i{,3}->\"not\"{3,})",
        "(e=A{1,} -> b=B{0,} -> C{0,1} -> D{2,2} -> #i{0,3} -> not{3,})",
    ),
    // AND and OR before arrows; groups of the same kind need no parentheses.
    (
        "PATTERN (A -> B AND C AND D -> (E OR F) AND G)",
        "(A -> (B AND C AND D) -> ((E OR F) AND G))",
    ),
    (
        "PATTERN (((A -> B)) -> (C AND (D AND E)) -> (F OR (G -> H)))",
        "(A -> B -> (C AND D AND E) -> (F OR (G -> H)))",
    ),
    ("PATTERN ((A -> B))", "(A -> B)"),
    ("PATTERN ((A))", "A"),
    (
        "PATTERN (EVERY A -> EVERY (B -> C) -> EVERY (EVERY D))",
        "(EVERY A -> EVERY (B -> C) -> EVERY EVERY D)",
    ),
    (
        "PATTERN (NOT A FOR 1 MINUTE 30 SECONDS -> NOT B[x] AND C)",
        "(NOT 90000 A -> (NOT B[x] AND C))",
    ),
    (
        "PATTERN (EVERY (NOT e=A[e.x > 1] FOR 5))",
        "EVERY NOT 5 e=A[e.x > 1]",
    ),
    (
        "PATTERN (a=A -> b=A[a[0].x > b[last-1].x OR count(a) > 2 AND sum(a.x) IN (1, 2)])",
        "(a=A -> b=A[a[0].x > b[last - 1].x OR count(a) > 2 AND sum(a.x) IN (1, 2)])",
    ),
];

#[test]
fn patterns_become_trees() {
    for (text, expected) in PATTERNS {
        let pattern = pattern(text).unwrap();
        assert_eq!(shown(&pattern.root), *expected, "{text}");
        let sequence = text.starts_with("SEQUENCE");
        assert_eq!(pattern.kind == PatternKind::Sequence, sequence);
    }
}

/// What stands behind a pattern, and what becomes of it.
const BEHIND: &[(&str, &str)] = &[
    ("PATTERN (A)", "None None"),
    ("PATTERN (A WITHIN 5 SECONDS)", "Some(Time(5000)) None"),
    ("PATTERN (A) WITHIN 3 EVENTS", "Some(Events(3)) None"),
    (
        "PATTERN (A WITHIN 1 EVENT) AFTER MATCH SKIP PAST LAST ROW",
        "Some(Events(1)) Some(PastLastRow)",
    ),
    (
        "PATTERN (A) AFTER MATCH SKIP TO NEXT ROW WITHIN 5",
        "Some(Time(5)) Some(ToNextRow)",
    ),
];

#[test]
fn bounds_stand_inside_or_behind() {
    for (text, expected) in BEHIND {
        let pattern = pattern(&format!("{text} WHERE a.x > 1 PARTITION BY k")).unwrap();
        let (within, skip) = (pattern.within, pattern.skip);
        let found = format!("{:?} {:?}", within.map(|one| one.0), skip.map(|one| one.0));
        assert_eq!(found, *expected, "{text}");
    }
}

#[test]
fn a_stream_may_be_called_pattern() {
    for from in [
        "PATTERN",
        "SEQUENCE AS s",
        "PATTERN JOIN S ON TRUE",
        "\"PATTERN\"",
    ] {
        let select = select(from).unwrap();
        assert!(!matches!(select.from, From::Pattern(_)), "{from}");
    }
}

#[test]
fn a_query_may_begin_with_its_pattern() {
    for text in [
        "FROM PATTERN (a=A -> b=B) WITHIN 5 WHERE a.x > 1 SELECT b.x PARTITION BY k INSERT INTO O",
        "FROM PATTERN (a=A -> b=B) WITHIN 5 WHERE a.x > 1 PARTITION BY k SELECT b.x INSERT INTO O",
    ] {
        let (statements, faults) = super::parse("t", text);
        assert!(faults.is_empty(), "{faults:?}");
        let Some(Statement::Query(query)) = statements.first() else {
            panic!("{statements:?}");
        };
        assert!(matches!(query.select.from, From::Pattern(_)));
        assert!(query.select.filter.is_some());
        assert_eq!(query.select.partition_by.len(), 1);
    }
}

#[test]
fn a_long_pattern_is_no_long_chain_of_operators() {
    let mut elements = Vec::new();
    for number in 0..64 {
        elements.push(format!("e{number}=S[a[1].x > 5]{{2}}"));
    }
    let text = format!("PATTERN ({})", elements.join(" -> "));
    assert!(pattern(&text).is_ok());
}

/// MATCH_RECOGNIZE without `S MATCH_RECOGNIZE`, and what it is read as.
const RECOGNIZED: &[(&str, &str)] = &[
    (
        "MEASURES A.x AS a PATTERN (A B+ C) DEFINE B AS x > A.x, C AS C.x < B.x",
        "A.x AS a FROM (EVERY A=S -> B=S[x > A.x]{1,} -> C=S[C.x < B.x]) PastLastRow",
    ),
    (
        "PARTITION BY k ORDER BY t MEASURES k AS key, B.k AS b ONE ROW PER MATCH \
         AFTER MATCH SKIP TO NEXT ROW PATTERN (A? B) WITHIN 5 SECONDS",
        "\"B\".\"k\" AS k, \"B\".\"k\" AS key, B.k AS b FROM (EVERY A=S{0,1} -> B=S) ToNextRow",
    ),
    (
        "PARTITION BY k PATTERN (A | B C)",
        "coalesce(\"A\".\"k\", \"B\".\"k\", \"C\".\"k\") AS k FROM EVERY (A=S OR (B=S -> C=S)) \
         PastLastRow",
    ),
    (
        "MEASURES 1 AS one AFTER MATCH SKIP TO NEXT ROW PATTERN ((A | B){-} C)",
        "an exclusion {- … -} is not supported",
    ),
    (
        "MEASURES 1 AS one AFTER MATCH SKIP TO NEXT ROW PATTERN ((A | B) (C (D)))",
        "1 AS one FROM (EVERY (A=S OR B=S) -> C=S -> D=S) ToNextRow",
    ),
    // The whole match is known when its measures are told.
    (
        "MEASURES FIRST(A.x) AS a, FIRST(B.x) AS b, LAST(B.x) AS c, FINAL LAST(B.x, 2) - \
         first(B.x, 1) AS d, count(B.*) + count(B.x) + count(B) AS n, FINAL sum(B.x * 2) AS s, \
         CAST(LAST(A.x, 0) AS INT) AS i PATTERN (A B{2,3}?)",
        "A.x AS a, B[0].x AS b, B.x AS c, B[last - 2].x - B[1].x AS d, count(B) + count(B.x) + \
         count(B) AS n, sum(B.x * 2) AS s, CAST(A.x AS INT) AS i \
         FROM (EVERY A=S -> B=S{2,3}) PastLastRow",
    ),
    // In its own condition the row that has just come counts as taken.
    (
        "MEASURES 1 AS x PATTERN (A+ B*) DEFINE A AS LAST(A.x) > LAST(A.x, 1) AND \
         RUNNING LAST(A.x, 3) > FIRST(A.x) AND (A.y OR y), B AS B.x > FIRST(A.x) + LAST(A.x, 1) \
         AND x > avg(A.x)",
        "1 AS x FROM (EVERY A=S[A.x > A[last].x AND A[last - 2].x > coalesce(A[0].x, A.x) AND \
         (A.y OR y)]{1,} -> B=S[B.x > A[0].x + A[last - 1].x AND x > avg(A.x)]{0,}) PastLastRow",
    ),
];

#[test]
fn match_recognize_becomes_a_sequence() {
    for (text, expected) in RECOGNIZED {
        let from = format!("S MATCH_RECOGNIZE ({text}) AS m WHERE m.x > 5");
        let found = match select(&from) {
            Ok(select) => recognized(&select),
            Err(fault) => fault,
        };
        assert!(found.starts_with(expected), "{text}\n{found}");
    }
}

fn recognized(select: &Select) -> String {
    let From::One(Source {
        what: What::Subquery(inner),
        alias: Some(alias),
        ..
    }) = &select.from
    else {
        panic!("{select:?}");
    };
    assert_eq!(alias.text, "m");
    let From::Pattern(pattern) = &inner.from else {
        panic!("{inner:?}");
    };
    assert_eq!(pattern.kind, PatternKind::Sequence);
    let items: Vec<String> = inner.items.iter().map(ToString::to_string).collect();
    let skip: Option<Skip> = pattern.skip.map(|skip| skip.0);
    let skip = skip.map_or(String::new(), |skip| format!("{skip:?}"));
    format!("{} FROM {} {skip}", items.join(", "), shown(&pattern.root))
}

/// Each level is a chain of 200 operators around the one within, and the tree is as deep as all.
#[test]
fn chains_within_chains_count_together() {
    let chain = " + 1".repeat(200);
    let levels: [&dyn Fn(&str) -> String; 3] = [
        &|within| format!("coalesce({within}{chain}, 0)"),
        &|within| format!("CASE WHEN {within}{chain} > 0 THEN 1 ELSE 2 END"),
        &|within| format!("e[{within}{chain}].x"),
    ];
    for level in levels {
        let parsed = |expr: &str| {
            let text = format!("INSERT INTO O SELECT {expr} AS a FROM S");
            super::parse("t", &text)
                .1
                .first()
                .map(|fault| fault.message.clone())
        };
        let once = level("x");
        assert_eq!(parsed(&once), None);
        let beside = format!("{once} + 0, {once}, {once}");
        assert_eq!(parsed(&beside), None);
        let fault = parsed(&level(&once));
        assert_eq!(fault.as_deref(), Some("more than 256 operators in a row"));
    }
}

/// Whatever binds what stands before it makes the tree deeper, a sign or a word. On a stack as
/// small as those of threads, what is not refused must fit.
#[test]
fn no_chain_of_words_overflows_a_stack() {
    let chains = [
        "x LIKE 'a'",
        "x ILIKE 'a'",
        "x NOT LIKE 'a'",
        "x RLIKE 'a'",
        "x REGEXP 'a'",
        "x SIMILAR TO 'a'",
        "x IN (1)",
        "x XOR y",
        "x DIV 1",
        "x OVERLAPS y",
        "x MEMBER OF (y)",
        "x OPERATOR(+) 1",
        "x AT TIME ZONE 'UTC'",
        "x COLLATE c",
        "x ISNULL",
        "x NOTNULL",
        "(x).a",
        "x[1]",
        "(x)['a']",
    ];
    let mut texts: Vec<String> = Vec::new();
    for chain in chains {
        let (first, link) = chain.split_at(chain.find([' ', '.', '[']).unwrap());
        let expr = format!("{first}{}", link.repeat(2_000));
        texts.push(format!("INSERT INTO O SELECT n FROM S WHERE {expr}"));
    }
    for (first, link) in [
        ("S", " JOIN S ON true"),
        ("S", " LEFT JOIN S ON (true)"),
        ("S", " CROSS JOIN S"),
        ("S WHERE n IN (SELECT n FROM S", " UNION SELECT n FROM S"),
        ("S WHERE n IN (SELECT 1", " UNION SELECT 1,1"),
        ("S WHERE EXISTS (SELECT n FROM S", " EXCEPT SELECT n FROM S"),
    ] {
        let from = format!("{first}{}", link.repeat(2_000));
        let end = ")".repeat(first.matches('(').count());
        texts.push(format!("INSERT INTO O SELECT n FROM {from}{end}"));
    }
    for text in texts {
        assert!(text.len() <= super::SQL_TEXT_BYTES_MAX);
        let (_, faults) = super::parse("t", &text);
        let shown = &text[..100];
        assert!(!faults.is_empty(), "{shown}");
    }
}
