//! The reference of patterns gives what the timelines of `docs/patterns.md` and known cases say.

use std::cmp::Ordering::{Equal, Greater, Less};

use crate::pattern_reference::{Element, Nth, Pattern, Row, Skip, Term, Tree, matches};

const MANY: usize = usize::MAX;

fn el(stream: usize) -> Element {
    el_if(stream, &[])
}

fn el_if(stream: usize, condition: &[Term]) -> Element {
    Element {
        stream,
        quantified: false,
        condition: condition.to_vec(),
    }
}

fn more(number: i64) -> Term {
    Term::Constant(1, Greater, number)
}

fn more_than(element: usize) -> Term {
    Term::Other(1, Greater, element, Nth::Last, 1)
}

fn one(element: usize) -> Tree {
    many(element, 1, 1)
}

fn many(element: usize, min: usize, max: usize) -> Tree {
    Tree::Element { element, min, max }
}

fn not(element: usize, for_ms: i64) -> Tree {
    absent(element, Some(for_ms))
}

fn absent(element: usize, for_ms: Option<i64>) -> Tree {
    Tree::Absent {
        element,
        for_ms,
        due: None,
        passed: false,
    }
}

type Parts = Vec<(bool, Vec<Tree>)>;

fn pattern(elements: &[Element], parts: Parts) -> Pattern {
    Pattern {
        sequence: false,
        elements: elements.to_vec(),
        parts,
        within_ms: None,
        within_events: None,
        skip: Skip::Nothing,
        partition: None,
    }
}

fn sequence(elements: &[Element], parts: Parts) -> Pattern {
    Pattern {
        sequence: true,
        ..pattern(elements, parts)
    }
}

fn every(steps: Vec<Tree>) -> (bool, Vec<Tree>) {
    (true, steps)
}

fn then(steps: Vec<Tree>) -> (bool, Vec<Tree>) {
    (false, steps)
}

/// `name=value/key@time`, all but the name may be left out; `tick@time`. The first letter of the
/// name is the stream. Matches as in the documentation.
fn check(pattern: &Pattern, line: &str, expected: &str) {
    let (mut rows, mut names, mut time) = (Vec::new(), Vec::new(), 0);
    for word in line.split_whitespace() {
        let (word, at) = word.split_once('@').unwrap_or((word, ""));
        let (word, key) = word.split_once('/').unwrap_or((word, ""));
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        time = at.parse().unwrap_or(time + 10);
        let stream = usize::from(name.as_bytes()[0] - b'a');
        rows.push(Row {
            time,
            stream: (name != "tick").then_some(stream),
            cells: [key.parse().ok(), value.parse().ok()],
        });
        names.push(name);
    }
    let told = matches(pattern, &rows).into_iter().map(|told| {
        let element = |element: usize| {
            let rows = told.rows(element);
            let rows: Vec<&str> = rows.into_iter().map(|row| names[row]).collect();
            rows.join(" ")
        };
        let elements: Vec<String> = (0..pattern.elements.len()).map(element).collect();
        let time = format!("@{}", told.time);
        let time = if expected.contains('@') { &time } else { "" };
        format!("({}){time}", elements.join(","))
    });
    let told: Vec<String> = told.collect();
    assert_eq!(told.join(" "), expected, "{line}\n{pattern:#?}");
}

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const D: usize = 3;

fn ab(every_a: bool) -> Pattern {
    pattern(
        &[el(A), el(B)],
        vec![(every_a, vec![one(0)]), then(vec![one(1)])],
    )
}

#[test]
fn rules_1_to_5() {
    check(&ab(false), "a1 x b1", "(a1,b1)");
    check(&ab(false), "a1 a2 b1 a3 b2", "(a1,b1)");
    let same = pattern(&[el(A), el(A)], vec![then(vec![one(0), one(1)])]);
    check(&same, "a1 a2", "(a1,a2)");
    check(&ab(true), "a1 a2 b1", "(a1,b1) (a2,b1)");
    let group = pattern(&[el(A), el(B)], vec![every(vec![one(0), one(1)])]);
    check(&group, "a1 a2 b1 a3 b2", "(a1,b1) (a3,b2)");
    let group = pattern(&[el(A), el(A)], vec![every(vec![one(0), one(1)])]);
    check(&group, "a1 a2 a3 a4", "(a1,a2) (a3,a4)");
    let later = pattern(
        &[el(A), el(B)],
        vec![then(vec![one(0)]), every(vec![one(1)])],
    );
    check(&later, "a1 b1 b2", "(a1,b1) (a1,b2)");
    let middle = pattern(
        &[el(A), el(B), el(C)],
        vec![then(vec![one(0)]), every(vec![one(1)]), then(vec![one(2)])],
    );
    check(&middle, "a1 b1 b2 c1", "(a1,b1,c1) (a1,b2,c1)");
}

#[test]
fn rules_6_and_7() {
    let plus = |every, min, max| {
        pattern(
            &[el(A), el(B)],
            vec![(every, vec![many(0, min, max)]), then(vec![one(1)])],
        )
    };
    check(&plus(false, 2, MANY), "a1 a2 a3 b1", "(a1 a2 a3,b1)");
    check(&plus(true, 2, 2), "a1 a2 a3 a4 b1", "(a1 a2,b1) (a3 a4,b1)");
    check(
        &plus(true, 2, MANY),
        "a1 a2 a3 a4 b1",
        "(a1 a2 a3 a4,b1) (a3 a4,b1)",
    );
    let last = |min, max| pattern(&[el(A), el(B)], vec![then(vec![one(0), many(1, min, max)])]);
    check(&last(2, 5), "a1 b1 b2 b3", "(a1,b1 b2)");
    check(&last(0, MANY), "a1 b1", "(a1,)");
    let both = pattern(
        &[el(A), el_if(A, &[more(5)])],
        vec![then(vec![many(0, 1, MANY), one(1)])],
    );
    check(&both, "a1=1 a2=2 a3=6", "(a1 a2,a3)");
}

#[test]
fn rule_8() {
    let and = Tree::All(vec![one(0), one(1)]);
    let both = pattern(&[el(A), el(A)], vec![then(vec![and.clone()])]);
    check(&both, "a1", "(a1,a1)");
    let alone = pattern(&[el(A), el(B)], vec![every(vec![and])]);
    check(&alone, "b1 a1 a2 b2", "(a1,b1) (a2,b2)");
    let or = Tree::Any(vec![Tree::Chain(vec![one(0), one(1)]), one(2)]);
    let or = pattern(&[el(A), el(B), el(C)], vec![then(vec![or])]);
    check(&or, "a1 c1", "(,,c1)");
    check(&or, "a1 b1 c1", "(a1,b1,)");
    let first = Tree::Any(vec![one(0), one(1)]);
    let first = pattern(&[el(A), el(A)], vec![then(vec![first])]);
    check(&first, "a1", "(a1,)");
}

#[test]
fn rules_9_and_10() {
    let end = pattern(&[el(B), el(A)], vec![then(vec![one(0), not(1, 100)])]);
    check(&end, "b1@10 tick@500", "(b1,)@110");
    check(&end, "b1@10 a1@109 tick@500", "");
    check(&end, "b1@10 a1@110 tick@500", "(b1,)@110");
    let start = pattern(&[el(A), el(B)], vec![then(vec![not(0, 100), one(1)])]);
    check(&start, "tick@0 b1@99 b2@100", "(,b2)");
    check(&start, "tick@0 a1@50 b1@149 b2@150", "(,b2)");
    let quiet = pattern(&[el(A)], vec![every(vec![not(0, 100)])]);
    check(
        &quiet,
        "tick@0 a1@250 tick@500",
        "()@100 ()@200 ()@350 ()@450",
    );
    let until = pattern(
        &[el(A), el(B)],
        vec![then(vec![one(0)]), every(vec![not(1, 100)])],
    );
    check(&until, "a1@0 b1@250 tick@900", "(a1,)@100 (a1,)@200");
    let and = |every| {
        let and = Tree::All(vec![not(0, 100), one(1)]);
        pattern(&[el(A), el(B)], vec![(every, vec![and])])
    };
    check(&and(false), "tick@0 b1@10 tick@200", "(,b1)@100");
    check(&and(false), "tick@0 a1@110 b1@120 tick@200", "(,b1)@120");
    check(
        &and(true),
        "tick@0 b1@10 a1@20 b2@130 b3@240",
        "(,b1)@120 (,b2)@220",
    );
    let grows = pattern(
        &[el(A), el(B)],
        vec![then(vec![many(0, 1, MANY), not(1, 100)])],
    );
    check(&grows, "a1@0 a2@50 tick@900", "(a1 a2,)@150");
    let without = |every| {
        let and = Tree::All(vec![absent(0, None), one(1)]);
        pattern(&[el(A), el(B)], vec![(every, vec![and])])
    };
    check(&without(false), "a1 b1", "");
    check(&without(true), "a1 b1", "(,b1)");
}

#[test]
fn rule_11() {
    let mut within = ab(true);
    within.within_ms = Some(100);
    check(&within, "a1@0 a2@50 b1@101", "(a2,b1)");
    check(&within, "a1@0 a2@50 b1@100", "(a1,b1) (a2,b1)");
    let mut within = ab(true);
    within.within_events = Some(3);
    check(&within, "a1 a2 a3 b1", "(a2,b1) (a3,b1)");
    let mut group = pattern(&[el(A), el(B)], vec![every(vec![one(0), one(1)])]);
    group.within_ms = Some(100);
    check(&group, "a1@0 a2@101 b1@110", "(a2,b1)");
}

#[test]
fn rule_12() {
    let ab = |every| {
        sequence(
            &[el(A), el(B)],
            vec![(every, vec![one(0)]), then(vec![one(1)])],
        )
    };
    check(&ab(false), "a1 x b1", "(a1,b1)");
    check(&ab(false), "a1 a2 b1 a3 b2", "(a2,b1)");
    check(&ab(true), "a1 a2 b1 a3 b2", "(a2,b1) (a3,b2)");
    let plus = sequence(
        &[el(A), el(B)],
        vec![every(vec![many(0, 1, MANY)]), then(vec![one(1)])],
    );
    check(&plus, "a1 a2 b1", "(a1 a2,b1)");
    let mut within = ab(false);
    within.within_ms = Some(100);
    check(&within, "a1@0 b1@101 a2@110 b2@120", "(a2,b2)");
    let last = sequence(
        &[el(A), el(B), el(C)],
        vec![then(vec![one(0), not(1, 100), one(2)])],
    );
    check(&last, "a1@0 c1@50 a2@60 c2@160", "(a2,,c2)");
}

#[test]
fn rules_13_and_14() {
    let mut past = ab(true);
    past.skip = Skip::PastLastRow;
    check(&past, "a1 a2 b1 b2 a3 b3", "(a1,b1) (a3,b3)");
    let mut next = pattern(
        &[el(A), el(B)],
        vec![every(vec![one(0)]), every(vec![one(1)])],
    );
    next.skip = Skip::ToNextRow;
    check(&next, "a1 a2 b1 b2", "(a1,b1) (a2,b1)");
    let mut keys = ab(false);
    keys.partition = Some(vec![A]);
    check(&keys, "b1 a1/1 a2/2 a3 b2 b3", "(a1,b2) (a2,b2)");
}

fn absence(parts: Parts) -> Pattern {
    let elements = [
        el_if(A, &[more(10)]),
        el_if(B, &[more(20)]),
        el_if(C, &[more(30)]),
    ];
    pattern(&elements, parts)
}

#[test]
fn shared_absences() {
    let end = pattern(
        &[el_if(A, &[more(20)]), el_if(B, &[more_than(0)])],
        vec![then(vec![one(0), not(1, 1000)])],
    );
    check(&end, "tick@0 a1=55@7 tick@1207", "(a1,)");
    check(&end, "tick@0 a1=55@7 b1=50@107 tick@1307", "(a1,)");
    let start = pattern(
        &[el_if(A, &[more(20)]), el_if(B, &[more(30)])],
        vec![then(vec![not(0, 1000), one(1)])],
    );
    check(&start, "tick@0 a1=55@7 b1=58@107 tick@607", "");
    let middle = absence(vec![then(vec![one(0), not(1, 1000), one(2)])]);
    check(&middle, "tick@0 a1=15@7 c1=55@1107", "(a1,,c1)");
    let count = absence(vec![then(vec![not(0, 1000), many(1, 2, 5)])]);
    check(
        &count,
        "tick@0 b1=35@1107 b2=45@1207 tick@1707",
        "(,b1 b2,)",
    );
    let later = absence(vec![then(vec![not(0, 1000)]), every(vec![one(1)])]);
    check(&later, "tick@0 b1=55@1107 b2=55@1207", "(,b1,) (,b2,)");
    let later = absence(vec![then(vec![one(0), not(1, 1000)]), every(vec![one(2)])]);
    check(
        &later,
        "tick@0 a1=55@7 c1=55@1107 c2=55@1207",
        "(a1,,c1) (a1,,c2)",
    );
    let same = pattern(
        &[
            el_if(A, &[more(20)]),
            el_if(A, &[Term::Other(0, Equal, 0, Nth::Last, 0), more_than(0)]),
        ],
        vec![every(vec![one(0)]), then(vec![not(1, 1000)])],
    );
    let line = "tick@0 a1=556/1@7 a2=556/2@107 a3=557/1@807 a4=556/2@1207";
    check(&same, line, "(a2,)@1107");
    let fires = pattern(
        &[el(A), el_if(B, &[more_than(0)])],
        vec![then(vec![one(0)]), every(vec![not(1, 1000)])],
    );
    check(
        &fires,
        "tick@0 a1=55@7 b1=58@2107 tick@3207",
        "(a1,)@1007 (a1,)@2007",
    );
}

#[test]
fn shared_absences_with_others() {
    let fires = pattern(
        &[el(A), el(B), el(C), el(D)],
        vec![
            then(vec![one(0), one(1)]),
            every(vec![not(2, 1000)]),
            then(vec![one(3)]),
        ],
    );
    check(&fires, "tick@0 a1@7 b1@107 c1@1207 d1@2307", "(a1,b1,,d1)");
    let and = || Tree::All(vec![absent(1, None), one(2)]);
    let repeats = absence(vec![then(vec![one(0)]), every(vec![and()])]);
    check(&repeats, "a1=15@7 c1=35@107 c2=45@207", "(a1,,c1) (a1,,c2)");
    let timed = |first, second| Tree::All(vec![not(first, 1000), one(second)]);
    let at_start = absence(vec![every(vec![timed(0, 1)]), then(vec![one(2)])]);
    check(
        &at_start,
        "tick@0 a1=15@7 b1=25@1107 c1=35@1207",
        "(,b1,c1)",
    );
    let too_soon = absence(vec![then(vec![one(0), timed(1, 2)])]);
    check(&too_soon, "tick@0 a1=15@7 c1=35@107 tick@207", "");
    let spoiled = absence(vec![then(vec![timed(0, 1), one(2)])]);
    check(
        &spoiled,
        "tick@0 a1=15@507 b1=25@1107 c1=35@1207 tick@1307",
        "",
    );
    let or = Tree::Any(vec![not(1, 1000), one(2)]);
    let either = absence(vec![then(vec![one(0), or])]);
    check(&either, "tick@0 a1=15@7 c1=35@107", "(a1,,c1)");
    let mut within = absence(vec![then(vec![one(0), and()])]);
    within.within_ms = Some(1000);
    check(&within, "a1=15@7 c1=35@1107", "");
    let both = Tree::All(vec![not(1, 1000), not(2, 1000)]);
    let mut both = absence(vec![then(vec![one(0), both])]);
    both.within_ms = Some(2000);
    check(&both, "tick@0 a1=15@7 tick@1107", "(a1,,)@1007");
    let alone = absence(vec![then(vec![Tree::All(vec![absent(0, None), one(1)])])]);
    check(&alone, "b1=25@7 tick@107", "(,b1,)");
}

#[test]
fn shared_counts_and_every() {
    let steps = [
        el_if(A, &[Term::Constant(0, Greater, 100), more(499)]),
        el_if(A, &[Term::Constant(1, Less, 401)]),
        el_if(A, &[Term::Constant(0, Less, 71)]),
    ];
    let falls = |every, min, max| {
        let parts = vec![(every, vec![one(0)]), then(vec![many(1, min, max), one(2)])];
        pattern(&steps, parts)
    };
    let line = "a1=756/105 a2=398/91 a3=350/81 a4=210/61 a5=500/101 a6=412/90 a7=400/100 a8=336/85 \
                a9=235/55 a10=517/180 a11=340/61 a12=246/45 a13=1816/40 a14=537/200";
    let found = "(a1,a2 a3,a4) (a5,a7 a8,a9) (a10,a11 a12,a13)";
    check(&falls(true, 2, MANY), line, found);
    check(
        &falls(false, 0, 5),
        "a1=756/105 a2=210/61 a3=210/61",
        "(a1,,a2)",
    );
    let named = |number| el_if(A, &[Term::Constant(1, Equal, number)]);
    let two = |first, second| Pattern {
        within_ms: Some(3000),
        ..pattern(
            &[named(1), named(2)],
            vec![(first, vec![many(0, 2, 2)]), (second, vec![many(1, 2, 2)])],
        )
    };
    let line = "a1=1@1000 a2=1 b3=2 a3=2 a4=2 a5=2 a6=1 a7=1 a8=2 a9=2 a10=1 a11=1@5009 a12=2 \
                a13=2 a14=1 a15=1 a16=2 a17=2";
    let found = "(a1 a2,a3 a4) (a6 a7,a8 a9) (a11 a14,a16 a17)";
    check(&two(true, false), line, found);
    let line = "a1=1@1000 a2=1 a3=2 a4=2 a5=2 a6=2 a7=1 a8=2 a9=2@5007 a10=1 a11=1 a12=2 a13=2";
    check(&two(false, true), line, "(a1 a2,a3 a4) (a1 a2,a5 a6)");
    let logins = pattern(&[el(A), el(B)], vec![every(vec![many(0, 3, MANY), one(1)])]);
    let line = "a1 a2 a3 a4 b1 b2 a5 a6 a7 b3 a8 a9 b4 a10 a11 b5";
    check(
        &logins,
        line,
        "(a1 a2 a3 a4,b1) (a5 a6 a7,b3) (a8 a9 a10 a11,b5)",
    );
    let same = |stream| el_if(stream, &[Term::Other(1, Equal, 0, Nth::Last, 1)]);
    let three = pattern(
        &[el(A), same(B), same(D)],
        vec![every(vec![one(0)]), then(vec![one(1), one(2)])],
    );
    check(
        &three,
        "a1=7 a2=8 b3=8 b4=7 d5=7 d6=8",
        "(a1,b4,d5) (a2,b3,d6)",
    );
    let mut pair = pattern(
        &[el(A), el(A), el_if(B, &[more_than(0)])],
        vec![every(vec![one(0), one(1)]), then(vec![one(2)])],
    );
    pair.within_ms = Some(2000);
    let line = "a1=556@1000 a2=540@1600 a3=536@2200 a4=530@3100 b1=577@3700";
    check(&pair, line, "(a3,a4,b1)");
}

#[test]
fn shared_logic() {
    let late = |sql| {
        let either = [el_if(A, &[more(20)]), el_if(B, &[more_than(0)]), el(B)];
        let or = Tree::Any(vec![one(1), one(2)]);
        pattern(
            &either,
            vec![then(vec![one(0), if sql { or } else { one(1) }])],
        )
    };
    check(&late(true), "a1=55 b1=59", "(a1,b1,)");
    check(&late(true), "a1=55 b1=10", "(a1,,b1)");
    check(&late(false), "a1=55 b1=10", "");
    let and = [el_if(A, &[more(20)]), el_if(B, &[more(30)]), el(B)];
    let parts = |tree| vec![then(vec![tree, one(2)])];
    let all = Tree::All(vec![one(0), one(1)]);
    check(
        &pattern(&and, parts(all.clone())),
        "a1=55 b1=72 b2=4",
        "(a1,b1,b2)",
    );
    let any = Tree::Any(vec![one(0), one(1)]);
    check(&pattern(&and, parts(any)), "b1=72 b2=4", "(,b1,b2)");
    let twice = pattern(
        &[el(A), el(B), el(C)],
        vec![
            every(vec![one(0)]),
            then(vec![Tree::All(vec![one(1), one(2)])]),
        ],
    );
    check(&twice, "a1 a2 b1 c1", "(a1,b1,c1) (a2,b1,c1)");
    let first = pattern(
        &[el(A), el(B), el(C)],
        vec![every(vec![all]), then(vec![one(2)])],
    );
    check(&first, "a1 b1 a2 b2 c1", "(a1,b1,c1) (a2,b2,c1)");
}

#[test]
fn shared_sequences() {
    let optional = sequence(
        &[el_if(B, &[more(20)]), el_if(A, &[more_than(0)])],
        vec![every(vec![many(0, 0, 1)]), then(vec![one(1)])],
    );
    check(&optional, "a1=596 b1=556 b2=557 a2=576", "(b2,a2)");
    let any = Tree::Any(vec![one(1), one(2)]);
    let named = el_if(B, &[Term::Constant(0, Equal, 1)]);
    let or = sequence(
        &[el(B), el_if(B, &[more_than(0)]), named],
        vec![every(vec![one(0)]), then(vec![any])],
    );
    check(&or, "b1=596 b2=556 b3=550/1 b4=576", "(b2,,b3) (b3,b4,)");
    let plus = sequence(
        &[
            el_if(B, &[more(20)]),
            el_if(A, &[Term::Other(1, Greater, 0, Nth::First, 1)]),
        ],
        vec![every(vec![many(0, 1, MANY)]), then(vec![one(1)])],
    );
    check(&plus, "a1=59 b1=55 a2=57", "(b1,a2)");
    let optional = sequence(
        &[
            el_if(A, &[Term::Constant(0, Greater, 100), more(49)]),
            el_if(A, &[Term::Constant(1, Less, 41)]),
            el_if(A, &[Term::Constant(0, Less, 71)]),
        ],
        vec![every(vec![one(0)]), then(vec![many(1, 0, MANY), one(2)])],
    );
    check(&optional, "a1=75/105 a2=21/81 a3=176/65", "(a1,a2,a3)");
    let mut keys = sequence(
        &[el_if(A, &[more(20)]), el_if(B, &[more_than(0)])],
        vec![every(vec![one(0)]), then(vec![many(1, 0, MANY)])],
    );
    keys.partition = Some(vec![A, B]);
    let line = "a1=55/1 a2=55/1 a3=55/2 a4=55/2 tick";
    check(&keys, line, "(a1,) (a2,) (a3,) (a4,)");
}

#[test]
fn shared_sequences_with_absences() {
    let elements = [
        el_if(A, &[more(10)]),
        el_if(B, &[more(20)]),
        el_if(C, &[more(30)]),
    ];
    let of = |parts| sequence(&elements, parts);
    let end = of(vec![every(vec![one(0)]), then(vec![not(1, 1000)])]);
    check(&end, "tick@0 a1=55@7 a2=55@107 tick@1207", "(a2,,)@1107");
    let middle = of(vec![every(vec![one(0)]), then(vec![not(1, 1000), one(2)])]);
    check(&middle, "tick@0 a1=55@7 a2=55@107 c1=55@1207", "(a2,,c1)");
    let start = of(vec![every(vec![not(0, 1000)]), then(vec![one(1)])]);
    let line = "tick@0 a1=25@7 a2=25@507 a3=25@1007 b1=58@1507 tick@1607";
    check(&start, line, "");
    let start = of(vec![every(vec![not(0, 1000)]), then(vec![one(1), one(2)])]);
    check(&start, "tick@0 b1=28@2107 c1=55@2207", "(,b1,c1)");
    let none = Tree::All(vec![absent(0, None), one(1)]);
    let none = of(vec![every(vec![none]), then(vec![one(2)])]);
    check(&none, "a1=15@7 b1=25@107 b2=28@207 c1=35@307", "(,b2,c1)");
    let and = Tree::All(vec![not(1, 1000), one(2)]);
    let and = of(vec![then(vec![one(0), and])]);
    check(&and, "tick@0 a1=15@7 c1=35@1107", "(a1,,c1)");
    let or = Tree::Any(vec![not(1, 1000), one(2)]);
    let or = of(vec![then(vec![one(0), or])]);
    check(&or, "tick@0 a1=15@7 b1=25@107 c1=35@207 tick@707", "");
    let either = Tree::Any(vec![not(0, 1000), not(1, 1000)]);
    let either = of(vec![every(vec![either]), then(vec![one(2)])]);
    check(&either, "tick@0 c1=35@1207 c2=55@2407", "(,,c1) (,,c2)");
    let both = Tree::All(vec![one(0), not(1, 1000)]);
    let both = of(vec![every(vec![both]), then(vec![one(2)])]);
    let line = "tick@0 a1=25@1107 c1=35@1207 a2=45@2307 c2=55@2407";
    check(&both, line, "(a1,,c1) (a2,,c2)");
}
