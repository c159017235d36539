//! Two streams joined, or one with itself, against nested loops over what each side holds.

use eventflux::event::Value;
use proptest::prelude::{TestCaseError, prop, proptest};

use crate::drive::{Given, Input, cases, expect, expect_unordered};
use crate::readings::{self, K, N, Reading, S, X};
use crate::tape::Tape;

const SPAN_MS: i64 = 100;

/// What a side holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Holds {
    Length(usize),
    Time,
    /// The batch that closed last.
    LengthBatch(usize),
    /// Nothing: it only looks for matches.
    Nothing,
}

impl Holds {
    fn any(tape: &mut Tape<'_>) -> Holds {
        match tape.below(6) {
            0 | 1 => Holds::Length(tape.below(4) + 1),
            2 | 3 => Holds::Time,
            4 => Holds::LengthBatch(tape.below(3) + 1),
            _ => Holds::Nothing,
        }
    }

    fn sql(self) -> String {
        match self {
            Holds::Length(rows) => format!(" WINDOW('length', {rows})"),
            Holds::Time => format!(" WINDOW('time', {SPAN_MS} MS)"),
            Holds::LengthBatch(rows) => format!(" WINDOW('lengthBatch', {rows})"),
            Holds::Nothing => String::new(),
        }
    }
}

#[derive(Clone, Debug)]
struct Side {
    stream: &'static str,
    holds: Holds,
    /// Whether its rows look for matches.
    triggers: bool,
    /// Whether its rows come out although there is no match.
    preserved: bool,
    rows: Vec<(usize, Reading)>,
    open: Vec<(usize, Reading)>,
}

/// A joined row that came or went.
struct Event {
    time: i64,
    enters: bool,
    pair: Pair,
}

/// By side, with the number of the input that it was.
type Pair = [Option<(usize, Reading)>; 2];

struct Join {
    sides: [Side; 2],
    on: On,
    alive: Vec<Pair>,
    events: Vec<Event>,
}

#[derive(Clone, Copy, Debug)]
enum On {
    Key,
    KeyAndLess,
    Less,
    Always,
}

impl On {
    fn sql(self) -> &'static str {
        match self {
            On::Key => "a.k = b.k",
            On::KeyAndLess => "a.k = b.k AND a.n < b.n",
            On::Less => "a.n < b.n",
            On::Always => "TRUE",
        }
    }

    fn holds(self, a: &Reading, b: &Reading) -> bool {
        let same = !a.cells[K].is_null() && a.cells[K] == b.cells[K];
        let less = match (a.cells[N].as_int(), b.cells[N].as_int()) {
            (Some(a), Some(b)) => a < b,
            _ => false,
        };
        match self {
            On::Key => same,
            On::KeyAndLess => same && less,
            On::Less => less,
            On::Always => true,
        }
    }
}

impl Join {
    fn run(&mut self, inputs: &[Input]) {
        for (input, number) in inputs.iter().zip(0..) {
            self.expire(input.time);
            // A row of both sides is in both windows before it looks for matches.
            let mut looking = Vec::new();
            for side in 0..2 {
                if let Some(cells) = input.row_of(self.sides[side].stream) {
                    let row = Reading {
                        time: input.time,
                        cells: cells.to_vec(),
                    };
                    let arrived = self.store(side, (number, row), input.time);
                    looking.extend(arrived.into_iter().map(|row| (side, row)));
                }
            }
            let mut met_itself = false;
            for (side, row) in looking {
                if self.sides[side].triggers {
                    met_itself |= self.look(side, &row, input.time, met_itself);
                }
            }
        }
    }

    fn expire(&mut self, now: i64) {
        loop {
            let due = (0..2).filter_map(|side| {
                let side_has = &self.sides[side];
                let oldest = side_has
                    .rows
                    .first()
                    .filter(|_| side_has.holds == Holds::Time)?;
                Some((oldest.1.time + SPAN_MS, side))
            });
            match due.min().filter(|(due, _)| *due <= now) {
                Some((due, side)) => self.leave(side, due),
                None => return,
            }
        }
    }

    /// The oldest row of a side leaves, and with it all that it is part of.
    fn leave(&mut self, side: usize, time: i64) {
        let (number, _) = self.sides[side].rows.remove(0);
        // What only looked for matches cannot leave.
        let stays = |pair: &Pair| {
            let halves = pair.iter().zip(&self.sides);
            let bare =
                |(half, side): (&Option<_>, &Side)| half.is_some() && side.holds == Holds::Nothing;
            halves.into_iter().any(bare)
        };
        let of_row = |pair: &Pair| pair[side].as_ref().is_some_and(|(one, _)| *one == number);
        let (gone, alive) = self
            .alive
            .drain(..)
            .partition(|pair| of_row(pair) && !stays(pair));
        self.alive = alive;
        let gone: Vec<Pair> = gone;
        self.events.extend(gone.into_iter().map(|pair| Event {
            time,
            enters: false,
            pair,
        }));
    }

    /// Puts a row into the window of its side, and gives what looks for matches now.
    fn store(&mut self, side: usize, row: (usize, Reading), time: i64) -> Vec<(usize, Reading)> {
        match self.sides[side].holds {
            Holds::Length(rows) => {
                while self.sides[side].rows.len() >= rows {
                    self.leave(side, time);
                }
                self.sides[side].rows.push(row.clone());
            }
            Holds::Time => self.sides[side].rows.push(row.clone()),
            Holds::LengthBatch(rows) => {
                self.sides[side].open.push(row);
                if self.sides[side].open.len() < rows {
                    return Vec::new();
                }
                while !self.sides[side].rows.is_empty() {
                    self.leave(side, time);
                }
                let batch = std::mem::take(&mut self.sides[side].open);
                self.sides[side].rows.clone_from(&batch);
                return batch;
            }
            Holds::Nothing => {}
        }
        vec![row]
    }

    /// Nested loops. A row that has met itself does not do so again; whether it has is told.
    fn look(&mut self, side: usize, row: &(usize, Reading), time: i64, met_itself: bool) -> bool {
        let (mut found, mut itself) = (0, false);
        for other in self.sides[1 - side].rows.clone() {
            let same = other.0 == row.0;
            let mut pair = [Some(row.clone()), Some(other)];
            if side == 1 {
                pair.swap(0, 1);
            }
            let [Some((_, a)), Some((_, b))] = &pair else {
                continue;
            };
            if self.on.holds(a, b) {
                found += 1;
                itself |= same;
                if !(same && met_itself) {
                    self.enter(pair, time);
                }
            }
        }
        if found == 0 && self.sides[side].preserved {
            let mut pair = [None, None];
            pair[side] = Some(row.clone());
            self.enter(pair, time);
        }
        itself
    }

    fn enter(&mut self, pair: Pair, time: i64) {
        self.alive.push(pair.clone());
        self.events.push(Event {
            time,
            enters: true,
            pair,
        });
    }
}

fn cell(pair: &Pair, side: usize, column: usize) -> Value {
    let row = pair[side].as_ref();
    row.map_or(Value::Null, |(_, row)| row.cells[column].clone())
}

/// A random join of two streams, or of one with itself; its FROM clause, and what stands at the
/// end of the statement.
fn any(tape: &mut Tape<'_>, itself: bool) -> (Join, [String; 2]) {
    let mut holds = [Holds::any(tape), Holds::any(tape)];
    if itself {
        holds = holds.map(|holds| match holds {
            Holds::Nothing => Holds::Time,
            Holds::LengthBatch(rows) => Holds::Length(rows),
            holds => holds,
        });
    }
    // Without any window both sides keep some rows.
    let bare = holds == [Holds::Nothing; 2];
    if bare {
        holds = [Holds::Length(3); 2];
    }
    let kind = tape.one_of(&[
        "JOIN",
        "INNER JOIN",
        "LEFT JOIN",
        "RIGHT OUTER JOIN",
        "FULL JOIN",
    ]);
    let only = tape.one_of(&[None, None, None, Some(0), Some(1)]);
    let on = tape.one_of(&[On::Key, On::KeyAndLess, On::Less, On::Always]);
    let preserved = |side: usize| match kind {
        "LEFT JOIN" => side == 0,
        "RIGHT OUTER JOIN" => side == 1,
        "FULL JOIN" => true,
        _ => false,
    };
    let sides = [0, 1].map(|side: usize| Side {
        stream: if itself { "A" } else { ["A", "B"][side] },
        holds: holds[side],
        triggers: only.is_none_or(|only| only == side),
        preserved: preserved(side),
        rows: Vec::new(),
        open: Vec::new(),
    });
    let end = if bare {
        " WITH ('join.rows_max' = '3')"
    } else {
        ""
    };
    let from = [0, 1].map(|side: usize| {
        let alone = if only == Some(side) {
            " UNIDIRECTIONAL"
        } else {
            ""
        };
        let Side { stream, holds, .. } = &sides[side];
        let window = if bare { String::new() } else { holds.sql() };
        format!("{stream}{window} AS {}{alone}", ["a", "b"][side])
    });
    let text = format!("{} {kind} {} ON {}", from[0], from[1], on.sql());
    let join = Join {
        sides,
        on,
        alive: Vec::new(),
        events: Vec::new(),
    };
    (join, [text, end.to_owned()])
}

fn streams() -> String {
    let columns = "(k STRING, n INT, x DOUBLE, b BOOLEAN, s STRING)";
    let stream = |name| format!("CREATE STREAM {name} {columns};\n");
    ["A", "B", "C"].map(stream).concat()
}

/// The joined rows themselves.
fn rows(tape: &mut Tape<'_>, count: usize, itself: bool) -> Result<(), TestCaseError> {
    let (mut join, [from, end]) = any(tape, itself);
    let emit = tape.one_of(&["", "", "ALL EVENTS ", "EXPIRED EVENTS "]);
    let (filter, number) = tape.one_of(&[("", None), (" WHERE a.n > 0", Some(0))]);
    let inputs = readings::inputs(tape, &["A", "B"], count, SPAN_MS);
    join.run(&inputs);
    let passes = |pair: &Pair| match number {
        None => true,
        Some(side) => cell(pair, side, N).as_int() > Some(0),
    };
    let told = join.events.iter().filter(|event| match emit {
        "" => event.enters,
        "EXPIRED EVENTS " => !event.enters,
        _ => true,
    });
    let expected: Vec<Given> = told
        .filter(|event| passes(&event.pair))
        .map(|event| Given {
            time: event.time,
            row: [(0, K), (0, N), (1, N), (1, S)]
                .map(|(side, column)| cell(&event.pair, side, column))
                .to_vec(),
        })
        .collect();
    let sql = format!(
        "{}INSERT {emit}INTO Out SELECT a.k, a.n, b.n AS m, b.s FROM {from}{filter}{end};",
        streams()
    );
    if itself || !emit.is_empty() {
        expect_unordered(&sql, &inputs, &expected)
    } else {
        expect(&sql, &inputs, &expected)
    }
}

/// Aggregates over all joined rows that are there.
fn aggregates(tape: &mut Tape<'_>, count: usize) -> Result<(), TestCaseError> {
    let (mut join, [from, end]) = any(tape, false);
    let inputs = readings::inputs(tape, &["A", "B"], count, SPAN_MS);
    let batches = join.sides.iter();
    let batches = batches.filter(|side| matches!(side.holds, Holds::LengthBatch(_)));
    // What comes when a batch closes is a batch itself.
    if batches.count() > 0 {
        return Ok(());
    }
    join.run(&inputs);
    let mut alive: Vec<&Pair> = Vec::new();
    let mut expected = Vec::new();
    let same = |a: &Pair, b: &Pair| {
        a.iter().zip(b).all(|(a, b)| {
            a.as_ref().map(|(number, _)| number) == b.as_ref().map(|(number, _)| number)
        })
    };
    for Event { time, enters, pair } in &join.events {
        if !enters {
            let place = alive.iter().position(|one| same(one, pair)).unwrap();
            alive.remove(place);
            continue;
        }
        alive.push(pair);
        let key = cell(pair, 1, K);
        let group = alive.iter().filter(|one| cell(one, 1, K) == key);
        let group: Vec<&&Pair> = group.collect();
        let ints: Vec<i64> = group
            .iter()
            .filter_map(|one| cell(one, 0, N).as_int())
            .collect();
        let floats = group.iter().filter_map(|one| cell(one, 1, X).as_float());
        let sum = (!ints.is_empty()).then(|| ints.iter().sum::<i64>());
        expected.push(Given {
            time: *time,
            row: vec![
                key,
                Value::Int(i64::try_from(group.len()).unwrap()),
                sum.map_or(Value::Null, Value::Int),
                floats.reduce(f64::max).map_or(Value::Null, Value::Float),
            ],
        });
    }
    let sql = format!(
        "{}INSERT INTO Out SELECT b.k, count(*) AS c, sum(a.n) AS s, max(b.x) AS m FROM {from} \
         GROUP BY b.k{end};",
        streams()
    );
    expect(&sql, &inputs, &expected)
}

/// Three sides, one behind the other: a row on any side meets all that the others hold.
fn chains(tape: &mut Tape<'_>, count: usize) -> Result<(), TestCaseError> {
    let streams = tape.one_of(&[["A", "B", "C"], ["A", "B", "A"]]);
    let holds = [0, 1, 2].map(|_| match Holds::any(tape) {
        Holds::Nothing | Holds::LengthBatch(_) => Holds::Time,
        holds => holds,
    });
    let [first, second] = [(); 2].map(|()| tape.one_of(&[On::Key, On::Less, On::KeyAndLess]));
    let inputs = readings::inputs(tape, &["A", "B", "C"], count, SPAN_MS);
    let mut rows: [Vec<Reading>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    let mut expected = Vec::new();
    for input in &inputs {
        for (rows, holds) in rows.iter_mut().zip(holds) {
            let stays = |row: &Reading| holds != Holds::Time || row.time + SPAN_MS > input.time;
            rows.retain(stays);
        }
        let mut arrived = [false; 3];
        for side in 0..3 {
            let Some(cells) = input.row_of(streams[side]) else {
                continue;
            };
            arrived[side] = true;
            rows[side].push(Reading {
                time: input.time,
                cells: cells.to_vec(),
            });
            if let Holds::Length(most) = holds[side] {
                let over = rows[side].len().saturating_sub(most);
                rows[side].drain(..over);
            }
        }
        let newest = |side: usize, place: usize| arrived[side] && place + 1 == rows[side].len();
        for (x, a) in rows[0].iter().enumerate() {
            for (y, b) in rows[1]
                .iter()
                .enumerate()
                .filter(|(_, b)| first.holds(a, b))
            {
                for (z, c) in rows[2]
                    .iter()
                    .enumerate()
                    .filter(|(_, c)| second.holds(b, c))
                {
                    if newest(0, x) || newest(1, y) || newest(2, z) {
                        let cells = [&a.cells[N], &b.cells[N], &c.cells[N], &c.cells[S]];
                        expected.push(Given {
                            time: input.time,
                            row: cells.map(Value::clone).to_vec(),
                        });
                    }
                }
            }
        }
    }
    let second = second.sql().replace("b.", "c.").replace("a.", "b.");
    let [a, b, c] = [0, 1, 2].map(|side: usize| format!("{}{}", streams[side], holds[side].sql()));
    let sql = format!(
        "{}INSERT INTO Out SELECT a.n, b.n AS m, c.n AS o, c.s FROM {a} AS a JOIN {b} AS b \
         ON {} JOIN {c} AS c ON {second};",
        self::streams(),
        first.sql()
    );
    expect_unordered(&sql, &inputs, &expected)
}

proptest! {
    #![proptest_config(cases(120))]

    #[test]
    fn joins_are_nested_loops(
        bytes in prop::collection::vec(proptest::arbitrary::any::<u8>(), 0..300),
        count in 0usize..20,
    ) {
        rows(&mut Tape::new(&bytes), count, false)?;
    }

    #[test]
    fn a_stream_joins_itself(
        bytes in prop::collection::vec(proptest::arbitrary::any::<u8>(), 0..300),
        count in 0usize..20,
    ) {
        rows(&mut Tape::new(&bytes), count, true)?;
    }

    #[test]
    fn joined_rows_are_counted_while_they_are_there(
        bytes in prop::collection::vec(proptest::arbitrary::any::<u8>(), 0..300),
        count in 0usize..20,
    ) {
        aggregates(&mut Tape::new(&bytes), count)?;
    }

    #[test]
    fn three_sides_are_three_loops(
        bytes in prop::collection::vec(proptest::arbitrary::any::<u8>(), 0..300),
        count in 0usize..16,
    ) {
        chains(&mut Tape::new(&bytes), count)?;
    }
}
