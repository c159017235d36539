//! Two sides, step by step: every kind of join, with windows of both kinds or none.

use proptest::prelude::*;

use super::*;

/// A window that keeps a list.
#[derive(Clone, Copy, Debug)]
pub(super) enum Span {
    None,
    Length(u64),
    Time(i64),
    LengthBatch(u64),
    Tumbling(i64),
    /// Not a window: the table, to which the rows of the second stream are written.
    Table,
}

impl Span {
    pub(super) fn plan(self) -> Option<Window> {
        match self {
            Span::None | Span::Table => None,
            Span::Length(rows) => Some(Window::Length { rows }),
            Span::Time(span_ms) => Some(Window::Time { span_ms }),
            Span::LengthBatch(rows) => Some(Window::LengthBatch { rows }),
            Span::Tumbling(span_ms) => Some(Window::Tumbling {
                span_ms,
                offset_ms: 0,
                zone: None,
            }),
        }
    }
}

/// One join: which streams, through what, and what is asked.
#[derive(Clone, Debug)]
struct Case {
    kind: JoinKind,
    streams: [usize; 2],
    spans: [Span; 2],
    triggers: [bool; 2],
    keyed: bool,
    /// Whether the keys have to be computed.
    computed: bool,
    /// The left value must be less than the right one.
    less: bool,
    /// The left key must not be 2, where there is one; checked behind the join.
    filtered: bool,
    /// Whether something in the condition may change with time.
    moving: bool,
}

fn always_true() -> Expr {
    let now = crate::sql::functions::function_named("now");
    let now = Expr {
        kind: ExprKind::Call(now.unwrap(), Vec::new()),
        ty: Type::Timestamp,
    };
    let zero = Expr {
        kind: ExprKind::Literal(Value::Int(0)),
        ty: Type::Timestamp,
    };
    compare(CompareOp::Greater, now, zero)
}

fn literal(number: i64) -> Expr {
    Expr {
        kind: ExprKind::Literal(Value::Int(number)),
        ty: Type::Long,
    }
}

fn plus(a: Expr, b: Expr) -> Expr {
    Expr {
        kind: ExprKind::Arithmetic(ArithmeticOp::Add, Box::new(a), Box::new(b)),
        ty: Type::Long,
    }
}

fn and(a: Expr, b: Expr) -> Expr {
    Expr {
        kind: ExprKind::And(Box::new(a), Box::new(b)),
        ty: Type::Bool,
    }
}

impl Case {
    fn plan(&self) -> JoinInput {
        let side = |index: usize| match self.spans[index] {
            Span::Table => Side {
                source: Source::Table {
                    table: TableId(0),
                    keep: vec![0, 2],
                },
                triggers: false,
            },
            span => stream(self.streams[index], span.plan(), self.triggers[index]),
        };
        let mut residual = self
            .less
            .then(|| compare(CompareOp::Less, column(0), column(2)));
        if self.moving {
            residual = Some(residual.into_iter().fold(always_true(), and));
        }
        let differs = Expr {
            kind: ExprKind::Not(Box::new(Expr {
                kind: ExprKind::SameAs(Box::new(column(1)), Box::new(literal(2))),
                ty: Type::Bool,
            })),
            ty: Type::Bool,
        };
        let key = match self.computed {
            true => plus(column(1), literal(7)),
            false => column(1),
        };
        JoinInput {
            join: Join {
                kind: self.kind,
                keys: self
                    .keyed
                    .then_some((key.clone(), key))
                    .into_iter()
                    .collect(),
                residual,
                ..inner(side(0), side(1))
            },
            filter: self.filtered.then_some(differs),
        }
    }

    fn matches(&self, left: &Event, right: &Event) -> bool {
        let same = left.row[0].is_some() && left.row[0] == right.row[0];
        let values = left.row[1].zip(right.row[1]);
        (!self.keyed || same) && (!self.less || values.is_some_and(|(a, b)| a < b))
    }

    fn keeps(&self, side: usize) -> bool {
        match self.kind {
            JoinKind::Inner => false,
            JoinKind::Left => side == 0,
            JoinKind::Right => side == 1,
            JoinKind::Full => true,
        }
    }
}

/// A row that a side holds: which event, when it came to the join.
#[derive(Clone, Debug)]
struct Held {
    event: Event,
    stamp: Stamp,
}

struct Pair {
    /// The events by their sequence numbers.
    halves: [Option<u64>; 2],
    stamp: Stamp,
    row: Vec<Value>,
}

struct Model<'a> {
    case: &'a Case,
    held: [Vec<Held>; 2],
    open: [Vec<Event>; 2],
    ends: [Option<i64>; 2],
    pairs: Vec<Pair>,
    out: Vec<Out>,
}

impl Model<'_> {
    /// When something is due next.
    fn due(&self) -> Option<i64> {
        let due = [0, 1]
            .into_iter()
            .filter_map(|side| match self.case.spans[side] {
                Span::Time(span) => Some(self.held[side].first()?.stamp.time.0 + span),
                Span::Tumbling(_) => self.ends[side],
                Span::None | Span::Length(_) | Span::LengthBatch(_) | Span::Table => None,
            });
        due.min()
    }

    /// Everything that happens at one moment, with the row that comes then.
    fn moment(&mut self, at: Stamp, event: Option<&Event>) {
        let mut arrived: [Vec<Held>; 2] = Default::default();
        for side in [0, 1] {
            let event = event.filter(|event| event.stream == self.case.streams[side]);
            let held = |event: &Event, stamp| Held {
                event: event.clone(),
                stamp,
            };
            let mut left = 0;
            match self.case.spans[side] {
                Span::None => {}
                Span::Table => {
                    let gone = event.filter(|event| is_delete(event));
                    self.held[side]
                        .retain(|held| gone.is_none_or(|gone| held.event.row[0] != gone.row[0]));
                    let written = event.filter(|event| !is_delete(event));
                    arrived[side].extend(written.map(|event| held(event, at)));
                }
                Span::Length(rows) => {
                    let full = self.held[side].len() as u64 == rows;
                    left = usize::from(event.is_some() && full);
                }
                Span::Time(span) => {
                    let is_old = |one: &&Held| one.stamp.time.0 + span <= at.time.0;
                    left = self.held[side].iter().take_while(is_old).count();
                }
                Span::LengthBatch(rows) => {
                    self.open[side].extend(event.cloned());
                    if event.is_some() && self.open[side].len() as u64 == rows {
                        left = self.held[side].len();
                        let batch = self.open[side].drain(..);
                        arrived[side] = batch.map(|event| held(&event, at)).collect();
                    }
                }
                Span::Tumbling(span) => {
                    if let Some(end) = self.ends[side].filter(|end| *end <= at.time.0) {
                        left = self.held[side].len();
                        let batch = self.open[side].drain(..);
                        arrived[side] = batch.map(|event| held(&event, at)).collect();
                        // It leaves a period later, whatever comes.
                        self.ends[side] = Some(end + span).filter(|_| !arrived[side].is_empty());
                    }
                    if let Some(event) = event {
                        let now = event.stamp.time.0;
                        self.ends[side].get_or_insert(now - now % span + span);
                        self.open[side].push(event.clone());
                    }
                }
            }
            if let (Span::None | Span::Length(_) | Span::Time(_), Some(event)) =
                (self.case.spans[side], event)
            {
                arrived[side].push(held(event, at));
            }
            for _ in 0..left {
                self.leave(side, at);
            }
        }
        for side in [0, 1] {
            if !matches!(self.case.spans[side], Span::None) {
                self.held[side].extend(arrived[side].iter().cloned());
            }
        }
        for side in [0, 1] {
            for row in arrived[side].iter().filter(|_| self.case.triggers[side]) {
                self.trigger(side, row);
            }
        }
    }

    fn trigger(&mut self, side: usize, row: &Held) {
        let mut matched = false;
        for other in self.held[1 - side].clone() {
            let (left, right) = match side {
                0 => (&row.event, &other.event),
                _ => (&other.event, &row.event),
            };
            if !self.case.matches(left, right) {
                continue;
            }
            matched = true;
            let halves = [Some(left.stamp.seq.0), Some(right.stamp.seq.0)];
            if !self.pairs.iter().any(|pair| pair.halves == halves) {
                self.give(side, halves, [Some(left), Some(right)], row.stamp);
            }
        }
        if !matched && self.case.keeps(side) {
            let mut halves = [None; 2];
            let mut rows = [None; 2];
            halves[side] = Some(row.event.stamp.seq.0);
            rows[side] = Some(&row.event);
            self.give(side, halves, rows, row.stamp);
        }
    }

    fn give(
        &mut self,
        side: usize,
        halves: [Option<u64>; 2],
        rows: [Option<&Event>; 2],
        at: Stamp,
    ) {
        let cells = rows.iter().flat_map(|row| match row {
            Some(event) => {
                let [value, _, key] = event.values();
                [value, key]
            }
            None => [Value::Null, Value::Null],
        });
        let row: Vec<Value> = cells.collect();
        if self.case.filtered && row[1] == Value::Int(2) {
            return;
        }
        self.out.push(Out::Enter(at, row.clone()));
        if !matches!(self.case.spans[side], Span::None) {
            self.pairs.push(Pair {
                halves,
                stamp: at,
                row,
            });
        }
    }

    /// The oldest row of a side leaves.
    fn leave(&mut self, side: usize, at: Stamp) {
        let held = self.held[side].remove(0);
        let seq = Some(held.event.stamp.seq.0);
        let (leaving, pairs) = std::mem::take(&mut self.pairs)
            .into_iter()
            .partition(|pair| pair.halves[side] == seq);
        self.pairs = pairs;
        for pair in leaving {
            self.out.push(Out::Leave(pair.stamp, at, pair.row));
        }
    }

    fn run(case: &Case, events: &[Event]) -> Vec<Out> {
        let mut model = Model {
            case,
            held: Default::default(),
            open: Default::default(),
            ends: [None; 2],
            pairs: Vec::new(),
            out: Vec::new(),
        };
        let last = events.last().map_or(0, |event| event.stamp.time.0);
        let end = Stamp {
            seq: Seq(events.len() as u64 + 1),
            time: Timestamp(last + 1_000),
        };
        let stamps = events.iter().map(|event| (event.stamp, Some(event)));
        for (at, event) in stamps.chain([(end, None)]) {
            while let Some(due) = model.due().filter(|due| *due <= at.time.0) {
                let time = Timestamp(due);
                model.moment(Stamp { time, ..at }, None);
            }
            if event.is_some() {
                model.moment(at, event);
            }
        }
        model.out
    }
}

/// Of rows that leave together the order does not matter.
fn normal(out: &[Out]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut from = 0;
    for one in out {
        if let Out::Enter(..) = one {
            lines[from..].sort();
            lines.push(format!("{one:?}"));
            from = lines.len();
        } else {
            lines.push(format!("{one:?}"));
        }
    }
    lines[from..].sort();
    lines
}

/// What an event does to the table: it removes the rows with its key, or adds one.
fn is_delete(event: &Event) -> bool {
    event.row[1] == Some(0) && event.row[0].is_some()
}

fn write(table: &SharedTable, event: &Event) {
    let mut table = table.lock();
    if !is_delete(event) {
        return table.insert(&event.values(), event.stamp).unwrap();
    }
    let (seek, mut found) = (table.seek(&[2]), Vec::new());
    let [_, _, key] = event.values();
    table.find(&seek, |_| &key, &mut found);
    found.into_iter().for_each(|slot| table.remove(slot));
    table.tidy();
}

fn span() -> impl Strategy<Value = Span> {
    prop_oneof![
        1 => Just(Span::None),
        2 => (1..5u64).prop_map(Span::Length),
        3 => (5..60i64).prop_map(Span::Time),
        1 => (1..4u64).prop_map(Span::LengthBatch),
        2 => (5..40i64).prop_map(Span::Tumbling),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let kind = prop_oneof![
        Just(JoinKind::Inner),
        Just(JoinKind::Left),
        Just(JoinKind::Right),
        Just(JoinKind::Full)
    ];
    let triggers = prop_oneof![
        3 => Just([true, true]),
        1 => Just([true, false]),
        1 => Just([false, true]),
    ];
    // Both sides may read the same stream.
    let streams = prop_oneof![3 => Just([0, 1]), 1 => Just([0, 0])];
    let spans = [span(), span()];
    let flags = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
    );
    (kind, streams, spans, triggers, flags).prop_map(
        |(kind, streams, spans, triggers, (keyed, computed, less, filtered, moving))| Case {
            kind,
            streams,
            spans,
            triggers,
            keyed,
            computed,
            less,
            filtered,
            moving,
        },
    )
}

/// One side is the table, the other one any stream.
fn table_case() -> impl Strategy<Value = Case> {
    (case(), 0..2usize).prop_map(|(mut case, side)| {
        case.streams = [1 - side, side];
        case.spans[side] = Span::Table;
        case.triggers = [side == 1, side == 0];
        case
    })
}

pub(super) fn steps(
    streams: usize,
) -> impl Strategy<Value = Vec<(usize, i64, Option<i64>, Option<i64>)>> {
    let cell = || prop_oneof![9 => (0..3i64).prop_map(Some), 1 => Just(None)];
    let later = prop_oneof![2 => Just(0), 3 => 1..12i64, 1 => 30..90i64];
    prop::collection::vec((0..streams, later, cell(), cell()), 0..40)
}

/// The same whatever the cuts and restarts, and what comes in also when nobody sees what leaves.
fn check(case: &Case, steps: &[(usize, i64, Option<i64>, Option<i64>)]) {
    let (plan, events) = (case.plan(), events(steps));
    let expected = Model::run(case, &events);
    let run = |cut: &Cut, seen: bool| {
        let table = SharedTable::new(&table_plan(&[2]));
        let writes = case.spans.iter().any(|span| matches!(span, Span::Table));
        let tables = [table.clone()];
        feed(&plan, &tables, &events, cut, seen, |event| {
            if writes && event.stream == 1 {
                write(&table, event);
            }
        })
    };
    let known = run(&CUTS[0], true);
    assert_eq!(normal(&known), normal(&expected));
    let entered: Vec<&Out> = known
        .iter()
        .filter(|one| matches!(one, Out::Enter(..)))
        .collect();
    assert!(Joiner::can_leave(&plan) || entered.len() == known.len());
    for cut in CUTS {
        assert_eq!(run(cut, true), known);
        let unseen = run(cut, false);
        let unseen = unseen.iter().filter(|one| matches!(one, Out::Enter(..)));
        assert!(unseen.eq(entered.iter().copied()));
    }
}

proptest! {
    #[test]
    fn joins_do_what_nested_loops_do(case in case(), steps in steps(2)) {
        check(&case, &steps);
    }

    #[test]
    fn tables_are_asked_when_a_row_comes(case in table_case(), steps in steps(2)) {
        check(&case, &steps);
    }
}
