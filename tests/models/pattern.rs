//! Random patterns over small streams, against the reference that is written down from the rules.

use std::cmp::Ordering;
use std::fmt::Write as _;

use eventflux::event::Value;
use proptest::prelude::{TestCaseError, prop, proptest};

use crate::drive::{Given, Input, expect, expect_unordered, same_cases};
use crate::pattern_reference::{Element, Nth, Pattern, Row, Skip, Term, Tree, matches};
use crate::tape::Tape;

const STREAMS: [&str; 3] = ["A", "B", "C"];
const MANY: usize = usize::MAX;

/// What is being written.
struct Writer<'a, 'b> {
    tape: &'a mut Tape<'b>,
    elements: Vec<Element>,
    /// How many elements there may be.
    room: usize,
}

impl Writer<'_, '_> {
    /// One or more steps. `before` are the elements that stand before them.
    fn chain(&mut self, steps: usize, before: &[usize], depth: usize) -> Vec<Tree> {
        let mut before = before.to_vec();
        let mut chain: Vec<Tree> = Vec::new();
        for _ in 0..steps {
            if self.room == 0 && !chain.is_empty() {
                break;
            }
            let nullable = !chain.is_empty() && chain.iter().all(Tree::done);
            let step = if nullable {
                self.element(&before, 0)
            } else {
                self.step(&before, depth)
            };
            before.extend(takers_of(&step));
            chain.push(step);
        }
        chain
    }

    fn step(&mut self, before: &[usize], depth: usize) -> Tree {
        let choices = if depth > 0 || self.room < 2 { 8 } else { 12 };
        match self.tape.below(choices) {
            0..=5 => self.element(before, 0),
            6 => self.absent(before, true),
            7 if self.room < 2 => self.element(before, 1),
            7 => {
                let absent = self.absent(before, false);
                Tree::All(vec![absent, self.element(before, 1)])
            }
            8 | 9 => {
                let operands = self.operands(before, depth, 0);
                // Parentheses inside an AND that hold another one do not matter.
                let mut operands: Vec<Tree> = operands
                    .into_iter()
                    .flat_map(|operand| match operand {
                        Tree::All(operands) => operands,
                        other => vec![other],
                    })
                    .collect();
                if self.tape.rarely(4) && self.room > 0 {
                    operands.push(self.absent(before, false));
                }
                Tree::All(operands)
            }
            _ => Tree::Any(self.operands(before, depth, 1)),
        }
    }

    fn operands(&mut self, before: &[usize], depth: usize, least: usize) -> Vec<Tree> {
        let count = self.tape.one_of(&[2, 2, 3]);
        let operand = |_| {
            let more = self.tape.rarely(4) && self.room > 1;
            let mut steps = self.chain(1 + usize::from(more), before, depth + 1);
            for step in &mut steps {
                if let Tree::Element { min, .. } = step {
                    *min = least.max(*min);
                }
            }
            match steps.len() {
                1 => steps.remove(0),
                _ => Tree::Chain(steps),
            }
        };
        (0..count).map(operand).collect()
    }

    fn absent(&mut self, before: &[usize], timed: bool) -> Tree {
        let for_ms = timed.then(|| self.tape.one_of(&[20, 50]));
        let element = self.looks(before, false);
        Tree::Absent {
            element,
            for_ms,
            due: None,
            passed: false,
        }
    }

    fn element(&mut self, before: &[usize], least: usize) -> Tree {
        let many = [
            (1, MANY),
            (2, 2),
            (1, 3),
            (0, 1),
            (2, MANY),
            (0, MANY),
            (2, 3),
            (0, 2),
        ];
        let single = self.tape.below(3) < 2;
        let (min, max) = if single {
            (1, 1)
        } else {
            self.tape.one_of(&many)
        };
        let element = self.looks(before, !single);
        let min = min.max(least);
        Tree::Element { element, min, max }
    }

    /// A new element.
    fn looks(&mut self, before: &[usize], quantified: bool) -> usize {
        self.room = self.room.saturating_sub(1);
        let stream = self.tape.one_of(&[0, 1, 0, 1, 2]);
        let terms = self.tape.one_of(&[0, 1, 0, 0, 1, 2]);
        let element = self.elements.len();
        let condition = (0..terms).map(|_| self.term(before, quantified));
        let condition = condition.collect();
        self.elements.push(Element {
            stream,
            quantified,
            condition,
        });
        element
    }

    fn term(&mut self, before: &[usize], quantified: bool) -> Term {
        let order = [Ordering::Greater, Ordering::Less, Ordering::Equal];
        let order = self.tape.one_of(&order);
        let cell = usize::from(!self.tape.rarely(4));
        // Most rows fit.
        let constant = match order {
            Ordering::Greater => self.tape.one_of(&[0, 1, 0]),
            Ordering::Less => self.tape.one_of(&[4, 3, 2]),
            Ordering::Equal => self.tape.one_of(&[1, 0, 2]),
        };
        let cell = if order == Ordering::Equal { cell } else { 1 };
        let constant = Term::Constant(cell, order, constant);
        let kind = self.tape.below(4);
        if kind == 3 && quantified {
            return Term::Before(cell, order);
        }
        if before.is_empty() || kind < 2 {
            return constant;
        }
        let other = self.tape.one_of(before);
        let several = self.elements[other].quantified;
        match self.tape.below(4) {
            1 if several => {
                let count = i64::try_from(self.tape.below(3)).unwrap();
                Term::Count(other, order, count)
            }
            2 if several => Term::Other(cell, order, other, Nth::First, cell),
            _ => Term::Other(cell, order, other, Nth::Last, cell),
        }
    }
}

fn pattern(tape: &mut Tape<'_>) -> Pattern {
    let sequence = tape.rarely(3);
    let steps = tape.one_of(&[2, 3, 1, 4, 3, 2]);
    let mut writer = Writer {
        tape,
        elements: Vec::new(),
        room: 6,
    };
    let chain = writer.chain(steps, &[], 0);
    let mut elements = writer.elements;
    let mut parts: Vec<(bool, Vec<Tree>)> = Vec::new();
    for step in chain {
        let every = parts.last().is_some_and(|(every, _)| *every);
        match tape.below(3) {
            // As the step before.
            0 if !parts.is_empty() && (every || tape.below(2) == 0) => {
                parts.last_mut().unwrap().1.push(step);
            }
            0 | 1 => parts.push((tape.below(5) > 0, vec![step])),
            _ => parts.push((false, vec![step])),
        }
    }
    parts[0].0 |= tape.below(3) > 0;
    // Neither a pattern nor what is repeated may be done without a row.
    for (every, steps) in &mut parts {
        if *every && steps.iter().all(Tree::done) {
            *every = false;
        }
    }
    if parts.iter().flat_map(|(_, steps)| steps).all(Tree::done) {
        parts.truncate(1);
        elements.truncate(1);
        parts[0].1 = vec![Tree::Element {
            element: 0,
            min: 1,
            max: 1,
        }];
    }
    let within_ms = tape.one_of(&[None, None, Some(40), Some(100)]);
    let within_events = tape.one_of(&[None, None, Some(3), Some(5)]);
    let skip = [
        Skip::Nothing,
        Skip::Nothing,
        Skip::PastLastRow,
        Skip::ToNextRow,
    ];
    let all = [None, None, Some(vec![0, 1, 2]), Some(vec![0, 1])];
    let mut pattern = Pattern {
        sequence,
        elements,
        parts,
        within_ms,
        within_events: within_events.filter(|_| within_ms.is_none()),
        skip: tape.one_of(&skip),
        partition: tape.one_of(&all),
    };
    settle(&mut pattern);
    // Somebody must have the key.
    if !pattern.elements.iter().any(|one| one.stream < 2) {
        pattern.partition = None;
    }
    pattern
}

/// Whether an absence with a time is among the trees.
fn waits(trees: &[Tree]) -> bool {
    trees.iter().any(|tree| match tree {
        Tree::Absent { for_ms, .. } => for_ms.is_some(),
        Tree::Element { .. } | Tree::Ended(_) => false,
        Tree::Chain(trees) | Tree::All(trees) | Tree::Any(trees) => waits(trees),
    })
}

/// Whether an OR is among them.
fn has_or(trees: &[Tree]) -> bool {
    trees.iter().any(|tree| match tree {
        Tree::Any(_) => true,
        Tree::Element { .. } | Tree::Absent { .. } | Tree::Ended(_) => false,
        Tree::Chain(trees) | Tree::All(trees) => has_or(trees),
    })
}

/// Whether any absence is among them.
fn has_absence(trees: &[Tree]) -> bool {
    let all = trees.iter().flat_map(Tree::elements).count();
    all > trees.iter().flat_map(takers_of).count()
}

/// Makes another pattern of one for which the rules leave something open.
fn settle(pattern: &mut Pattern) {
    let moments = waits(&pattern.parts[0].1);
    for (number, (every, steps)) in pattern.parts.iter_mut().enumerate() {
        // Whether a later part begins again when an absence in it is spoiled.
        let alone = matches!(steps.as_slice(), [Tree::Absent { .. }]);
        *every &= number == 0 || alone || !has_absence(steps);
        // When a SEQUENCE that waits for an absence and more begins again, and who is younger where
        // one of its parts does.
        *every &= !pattern.sequence || alone || !waits(steps);
        *every &= !(pattern.sequence && moments) || number == 0;
    }
    // What a row does to a SEQUENCE that ends an operand of an OR.
    let either = |(_, steps): &(bool, Vec<Tree>)| has_or(steps) && has_absence(steps);
    pattern.sequence &= !pattern.parts.iter().any(either);
    let first = &pattern.parts[0].1[..1];
    let plain = matches!(first, [Tree::Element { min: 1.., .. }]);
    // What SKIP does to those that have no row yet.
    if !plain {
        pattern.skip = Skip::Nothing;
    }
}

/// Whether the order of matches is known by their rows: not of those that begin at a moment, whose
/// first row may be one that another has, too, nor when one row begins them for several keys.
fn ordered(pattern: &Pattern) -> bool {
    let keyed = pattern.partition.as_ref();
    !waits(&pattern.parts[0].1) && keyed.is_none_or(|streams| streams.len() == STREAMS.len())
}

/// The pattern as SQL.
struct Text<'a> {
    pattern: &'a Pattern,
    /// Ways to write the same.
    style: usize,
}

impl Text<'_> {
    fn has_key(&self, stream: usize) -> bool {
        let partition = self.pattern.partition.as_ref();
        partition.is_none_or(|streams| streams.contains(&stream))
    }

    fn column(&self, stream: usize, cell: usize) -> &'static str {
        match cell {
            0 if self.has_key(stream) => "k",
            0 => "x",
            _ => "v",
        }
    }

    fn condition(&self, element: usize) -> String {
        let own = &self.pattern.elements[element];
        let sign = |order: &Ordering| match order {
            Ordering::Less => "<",
            Ordering::Equal => "=",
            Ordering::Greater => ">",
        };
        let term = |term: &Term| match term {
            Term::Constant(cell, order, number) => {
                let column = self.column(own.stream, *cell);
                format!("{column} {} {number}", sign(order))
            }
            Term::Other(cell, order, other, nth, other_cell) => {
                let before = &self.pattern.elements[*other];
                let nth = match nth {
                    _ if !before.quantified => "",
                    Nth::First => "[0]",
                    Nth::Last if self.style % 2 == 0 => "[last]",
                    Nth::Last => "",
                };
                let column = self.column(own.stream, *cell);
                let other_column = self.column(before.stream, *other_cell);
                format!("{column} {} e{other}{nth}.{other_column}", sign(order))
            }
            Term::Before(cell, order) => {
                let column = self.column(own.stream, *cell);
                let before = format!("e{element}[last].{column}");
                format!("({before} IS NULL OR {column} {} {before})", sign(order))
            }
            Term::Count(other, order, number) => {
                format!("count(e{other}) {} {number}", sign(order))
            }
        };
        let terms: Vec<String> = own.condition.iter().map(term).collect();
        if terms.is_empty() {
            String::new()
        } else {
            format!("[{}]", terms.join(" AND "))
        }
    }

    /// An element, which takes so many rows.
    fn element(&self, element: usize, quantifier: &str) -> String {
        let stream = STREAMS[self.pattern.elements[element].stream];
        let condition = self.condition(element);
        match (self.style + element) % 4 {
            0 if quantifier.is_empty() => format!("{stream}{condition} AS e{element}"),
            1 => format!("e{element}={stream}{quantifier}{condition}"),
            _ => format!("e{element}={stream}{condition}{quantifier}"),
        }
    }

    fn absent(&self, element: usize) -> String {
        let stream = STREAMS[self.pattern.elements[element].stream];
        format!("NOT {stream}{}", self.condition(element))
    }

    fn tree(&self, tree: &Tree) -> String {
        let all = |trees: &[Tree], between: &str| {
            let trees: Vec<String> = trees.iter().map(|tree| self.tree(tree)).collect();
            format!("({})", trees.join(between))
        };
        match tree {
            Tree::Element { element, min, max } => {
                let quantified = self.pattern.elements[*element].quantified;
                let quantifier = match (*min, *max) {
                    (1, 1) if !quantified => String::new(),
                    (0, 1) if self.style % 3 == 0 => "?".to_owned(),
                    (0, MANY) if self.style % 3 == 0 => "*".to_owned(),
                    (1, MANY) if self.style % 3 == 0 => "+".to_owned(),
                    (min, MANY) => format!("{{{min},}}"),
                    (0, max) if self.style % 3 == 1 => format!("{{,{max}}}"),
                    (min, max) if min == max => format!("{{{min}}}"),
                    (min, max) => format!("{{{min},{max}}}"),
                };
                self.element(*element, &quantifier)
            }
            Tree::Absent {
                element,
                for_ms: Some(for_ms),
                ..
            } => format!("{} FOR {for_ms} MS", self.absent(*element)),
            Tree::Absent { element, .. } => self.absent(*element),
            Tree::Chain(steps) => all(steps, " -> "),
            Tree::All(operands) => all(operands, " AND "),
            Tree::Any(operands) => all(operands, " OR "),
            Tree::Ended(tree) => self.tree(tree),
        }
    }

    /// A step of the chain: `NOT A AND B` may also be written as `NOT A -> B`.
    fn step(&self, step: &Tree) -> String {
        if let Tree::All(operands) = step {
            if let [Tree::Absent { for_ms: None, .. }, Tree::Element { .. }] = operands.as_slice() {
                if self.style % 2 == 0 {
                    let operands: Vec<String> = operands.iter().map(|one| self.tree(one)).collect();
                    return operands.join(" -> ");
                }
            }
        }
        self.tree(step)
    }

    fn part(&self, (every, steps): &(bool, Vec<Tree>)) -> String {
        let texts: Vec<String> = steps.iter().map(|step| self.step(step)).collect();
        let arrow = if self.pattern.sequence && self.style % 5 > 2 {
            ", "
        } else {
            " -> "
        };
        let text = texts.join(arrow);
        match (every, steps.as_slice()) {
            (false, _) => text,
            (true, [Tree::Element { .. }]) if self.style % 2 == 0 => format!("EVERY {text}"),
            (true, _) => format!("EVERY ({text})"),
        }
    }

    fn sql(&self) -> String {
        let pattern = self.pattern;
        let mut sql = String::new();
        for (stream, name) in STREAMS.iter().enumerate() {
            let key = self.column(stream, 0);
            writeln!(sql, "CREATE STREAM {name} ({key} INT, v INT, id INT);").unwrap();
        }
        let within = match (pattern.within_ms, pattern.within_events) {
            (Some(ms), _) => format!(" WITHIN {ms} MS"),
            (None, Some(events)) => format!(" WITHIN {events} EVENTS"),
            (None, None) => String::new(),
        };
        let kind = if pattern.sequence {
            "SEQUENCE"
        } else {
            "PATTERN"
        };
        let parts: Vec<String> = pattern.parts.iter().map(|part| self.part(part)).collect();
        let inside = if self.style % 2 == 0 { &within } else { "" };
        let behind = if self.style % 2 == 0 { "" } else { &within };
        let skip = match pattern.skip {
            Skip::Nothing => "",
            Skip::PastLastRow => "\n  AFTER MATCH SKIP PAST LAST ROW",
            Skip::ToNextRow => "\n  AFTER MATCH SKIP TO NEXT ROW",
        };
        let partition = match pattern.partition {
            Some(_) => "\n  PARTITION BY k",
            None => "",
        };
        let parts = parts.join(" -> ");
        write!(
            sql,
            "INSERT INTO Out SELECT {}\n  FROM {kind} ({parts}{inside}){behind}{skip}{partition};",
            self.columns()
        )
        .unwrap();
        sql
    }

    /// What is shown of the elements that take rows.
    fn columns(&self) -> String {
        let mut columns = vec!["0 AS m".to_owned()];
        for element in takers(self.pattern) {
            let e = format!("e{element}");
            let shown: &[&str] = if self.pattern.elements[element].quantified {
                &[
                    "count(e)",
                    "e[0].id",
                    "e[last].id",
                    "e[last-1].v",
                    "sum(e.v)",
                    "min(e.v)",
                    "max(e.id)",
                ]
            } else {
                &["e.id", "e.v"]
            };
            for (number, one) in shown.iter().enumerate() {
                let one = one.replace("e.", &format!("{e}."));
                let one = one
                    .replace("e[", &format!("{e}["))
                    .replace("(e)", &format!("({e})"));
                columns.push(format!("{one} AS {e}_{number}"));
            }
        }
        columns.join(", ")
    }
}

/// The elements that take rows, in their order.
fn takers(pattern: &Pattern) -> Vec<usize> {
    let steps = pattern.parts.iter().flat_map(|(_, steps)| steps);
    steps.flat_map(takers_of).collect()
}

fn takers_of(tree: &Tree) -> Vec<usize> {
    match tree {
        Tree::Element { element, .. } => vec![*element],
        Tree::Absent { .. } | Tree::Ended(_) => Vec::new(),
        Tree::Chain(trees) | Tree::All(trees) | Tree::Any(trees) => {
            trees.iter().flat_map(takers_of).collect()
        }
    }
}

/// What a match shows.
fn shown(pattern: &Pattern, rows: &[Row], of: impl Fn(usize) -> Vec<usize>) -> Vec<Value> {
    let value = |number: Option<i64>| number.map_or(Value::Null, Value::Int);
    let id = |row: Option<&usize>| value(row.map(|row| i64::try_from(*row).unwrap()));
    let mut shown = vec![Value::Int(0)];
    for element in takers(pattern) {
        let taken = of(element);
        let values = taken.iter().filter_map(|row| rows[*row].cells[1]);
        let v = |row: Option<&usize>| value(row.and_then(|row| rows[*row].cells[1]));
        if pattern.elements[element].quantified {
            let before = taken
                .len()
                .checked_sub(2)
                .and_then(|place| taken.get(place));
            shown.extend([
                value(i64::try_from(taken.len()).ok()),
                id(taken.first()),
                id(taken.last()),
                v(before),
                value(values.clone().reduce(|a, b| a + b)),
                value(values.min()),
                id(taken.last()),
            ]);
        } else {
            shown.extend([id(taken.first()), v(taken.first())]);
        }
    }
    shown
}

fn rows(tape: &mut Tape<'_>, count: usize) -> Vec<Row> {
    let mut time = 1_000;
    let mut rows = Vec::new();
    for _ in 0..count {
        time += tape.one_of(&[1, 10, 0, 20, 1, 10, 19, 50, 1, 10, 0, 400]);
        let stream = tape.one_of(&[0, 1, 0, 1, 2]);
        let mut cell = |many: usize, nulls: usize| {
            let number = i64::try_from(tape.below(many)).unwrap();
            (!tape.rarely(nulls)).then_some(number)
        };
        let cells = [cell(2, 10), cell(5, 10)];
        let stream = (!tape.rarely(8)).then_some(stream);
        rows.push(Row {
            time,
            stream,
            cells,
        });
    }
    rows.push(Row {
        time: time + 130,
        stream: None,
        cells: [None; 2],
    });
    rows
}

fn inputs(rows: &[Row]) -> Vec<Input> {
    let value = |number: Option<i64>| number.map_or(Value::Null, Value::Int);
    let inputs = rows.iter().zip(0..).map(|(row, id)| Input {
        time: row.time,
        row: row.stream.map(|stream| {
            let [k, v] = row.cells.map(value);
            (STREAMS[stream], vec![k, v, Value::Int(id)])
        }),
    });
    inputs.collect()
}

fn patterns(bytes: &[u8], row_bytes: &[u8], count: usize) -> Result<(), TestCaseError> {
    let mut tape = Tape::new(bytes);
    let pattern = pattern(&mut tape);
    let style = tape.below(30);
    let rows = rows(&mut Tape::new(row_bytes), count);
    let expected = matches(&pattern, &rows).into_iter().map(|told| Given {
        time: told.time,
        row: shown(&pattern, &rows, |element| told.rows(element)),
    });
    let expected: Vec<Given> = expected.collect();
    let text = Text {
        pattern: &pattern,
        style,
    };
    let told = if ordered(&pattern) {
        expect(&text.sql(), &inputs(&rows), &expected)
    } else {
        expect_unordered(&text.sql(), &inputs(&rows), &expected)
    };
    // A refusal does not say of what.
    told.map_err(|fault| TestCaseError::fail(format!("{}\n{fault}", text.sql())))
}

proptest! {
    #![proptest_config(same_cases(1_000))]

    #[test]
    fn patterns_follow_the_rules(
        bytes in prop::collection::vec(proptest::prelude::any::<u8>(), 20..100),
        row_bytes in prop::collection::vec(proptest::prelude::any::<u8>(), 30..170),
        count in 4usize..30,
    ) {
        patterns(&bytes, &row_bytes, count)?;
    }
}
