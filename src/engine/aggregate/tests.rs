//! Every aggregate against a plain computation over the rows that are there: rows come, leave in
//! order or as they like, and the state goes through a checkpoint on the way.

use std::cell::Cell;

use proptest::prelude::*;

use super::super::expr::{Cx, Env};
use super::{Aggregate, Leaves, new};
use crate::event::{Seq, Stamp, Timestamp, Type, Value};
use crate::sql::aggregates::AggregateFunction as F;
use crate::sql::plan::{Aggregate as Plan, Expr, ExprKind};

/// A row: x, y, whether it passes FILTER.
#[derive(Clone, Debug)]
struct Row {
    seq: u64,
    group: usize,
    values: [Value; 3],
}

/// What happens before the next row comes.
#[derive(Clone, Copy, Debug)]
enum Step {
    Nothing,
    /// The row with this number, modulo their number, leaves.
    Leave(usize),
    /// Everything goes through a checkpoint.
    Restart,
}

#[derive(Clone, Debug)]
struct Call {
    function: F,
    ty: Type,
    parameter: Option<Value>,
    distinct: bool,
    filter: bool,
}

impl Call {
    fn plan(&self) -> Plan {
        let column = |index: usize, ty: Type| Expr {
            kind: ExprKind::Column(index),
            ty,
        };
        Plan {
            function: self.function,
            arguments: (0..self.function.columns())
                .map(|index| column(index, self.ty))
                .collect(),
            parameter: self.parameter.clone(),
            distinct: self.distinct,
            filter: self.filter.then(|| column(2, Type::Bool)),
            ty: self.ty,
        }
    }
}

const GROUPS: usize = 2;

struct Driven {
    aggregate: Box<dyn Aggregate>,
    faults: Cell<u64>,
}

impl Driven {
    fn new(call: &Call, leaves: Leaves) -> Driven {
        let mut driven = Driven {
            aggregate: new(&call.plan(), Cx::PLAIN, leaves),
            faults: Cell::new(0),
        };
        (0..GROUPS).for_each(|group| driven.aggregate.open(group));
        driven
    }

    fn change(&mut self, row: &Row, comes: bool) {
        let stamp = Stamp {
            seq: Seq(row.seq),
            time: Timestamp(1_000),
        };
        let env = Env::new(&row.values, stamp, stamp, &self.faults);
        if comes {
            self.aggregate.add(row.group, &env);
        } else {
            self.aggregate.remove(row.group, &env);
        }
    }

    fn restart(&mut self) {
        let mut fresh = self.aggregate.fresh();
        for group in 0..GROUPS {
            fresh.open(group);
            let state: Vec<Value> = self.aggregate.save(group).collect();
            fresh.load(group, &state).unwrap();
        }
        self.aggregate = fresh;
    }
}

fn floats(values: &[Value]) -> Vec<f64> {
    values.iter().filter_map(Value::as_float).collect()
}

fn variance(values: &[f64], less: f64) -> Value {
    let count = values.len() as f64;
    if count <= less {
        return Value::Null;
    }
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|x| (x - mean) * (x - mean)).sum();
    Value::Float(squares / (count - less))
}

fn root(value: Value) -> Value {
    value
        .as_float()
        .map_or(Value::Null, |x| Value::Float(x.sqrt()))
}

fn percentile(values: &[f64], part: f64) -> Value {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.is_empty() {
        return Value::Null;
    }
    let place = part * (sorted.len() - 1) as f64;
    let low = (0..sorted.len())
        .rfind(|rank| *rank as f64 <= place)
        .unwrap();
    let (low, high) = (sorted[low], sorted[(low + 1).min(sorted.len() - 1)]);
    Value::Float(low + (high - low) * place.fract())
}

/// Values with their counts, most frequent first.
fn frequencies(values: &[Value]) -> Vec<(Value, usize)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(Value::order);
    sorted.dedup();
    let count = |value: &Value| values.iter().filter(|other| *other == value).count();
    let mut counts: Vec<_> = sorted.iter().map(|x| (x.clone(), count(x))).collect();
    counts.sort_by_key(|(_, count)| usize::MAX - count);
    counts
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Str(text) => text.as_str().into(),
        Value::Bool(truth) => (*truth).into(),
        Value::Bytes(_) | Value::Null => serde_json::Value::Null,
    }
}

fn canonical(text: &str) -> Value {
    Value::Str(crate::event::json::canonical(text).unwrap().unwrap())
}

fn line(rows: &[[Value; 3]], correlation: bool) -> Value {
    let pairs: Vec<(f64, f64)> = rows
        .iter()
        .filter_map(|row| Some((row[0].as_float()?, row[1].as_float()?)))
        .collect();
    let count = pairs.len() as f64;
    let (ys, xs): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (y_mean, x_mean) = (
        ys.iter().sum::<f64>() / count,
        xs.iter().sum::<f64>() / count,
    );
    let both: f64 = pairs.iter().map(|(y, x)| (y - y_mean) * (x - x_mean)).sum();
    let xx: f64 = xs.iter().map(|x| (x - x_mean).powi(2)).sum();
    let yy: f64 = ys.iter().map(|y| (y - y_mean).powi(2)).sum();
    let same = |all: &[f64]| all.windows(2).all(|two| two[0] == two[1]);
    if same(&xs) || correlation && same(&ys) {
        Value::Null
    } else if correlation {
        Value::Float(both / (xx * yy).sqrt())
    } else {
        Value::Float(both / xx)
    }
}

/// The result over `rows` by the function's definition.
fn naive(call: &Call, rows: &[[Value; 3]]) -> Value {
    let values = rows.iter().map(|row| row[0].clone());
    let mut values: Vec<Value> = values.filter(|value| !value.is_null()).collect();
    let mut sorted = values.clone();
    sorted.sort_by(Value::order);
    let mut different = sorted.clone();
    different.dedup();
    if call.distinct {
        values.clone_from(&different);
    }
    let part = call.parameter.as_ref().and_then(Value::as_float);
    let none = values.is_empty();
    let count = |number: usize| Value::Int(number as i64);
    let text = |value: &Value| match value {
        Value::Str(text) => text.to_string(),
        value => json(value).to_string(),
    };
    match call.function {
        F::Count => count(values.len()),
        F::ApproxCountDistinct => count(different.len()),
        F::Corr => line(rows, true),
        F::RegrSlope => line(rows, false),
        _ if none => Value::Null,
        F::Sum if call.ty == Type::Long => {
            let sum = values.iter().filter_map(Value::as_int).map(i128::from);
            i64::try_from(sum.sum::<i128>()).map_or(Value::Null, Value::Int)
        }
        F::Sum => Value::Float(floats(&values).iter().sum()),
        F::Avg => Value::Float(floats(&values).iter().sum::<f64>() / values.len() as f64),
        F::Min => sorted[0].clone(),
        F::Max => sorted[sorted.len() - 1].clone(),
        F::First => values[0].clone(),
        F::Last => values[values.len() - 1].clone(),
        F::StdDev => root(variance(&floats(&values), 0.0)),
        F::StdDevSamp => root(variance(&floats(&values), 1.0)),
        F::VarPop => variance(&floats(&values), 0.0),
        F::VarSamp => variance(&floats(&values), 1.0),
        F::BoolAnd => Value::Bool(values.iter().all(|x| x.as_bool() == Some(true))),
        F::BoolOr => Value::Bool(values.iter().any(|x| x.as_bool() == Some(true))),
        F::CollectSet => {
            canonical(&serde_json::Value::from_iter(different.iter().map(json)).to_string())
        }
        F::CollectList => {
            canonical(&serde_json::Value::from_iter(values.iter().map(json)).to_string())
        }
        F::StringAgg => Value::from(values.iter().map(text).collect::<Vec<_>>().join("; ")),
        F::Percentile | F::ApproxPercentile => percentile(&floats(&values), part.unwrap()),
        F::Mode => frequencies(&values)[0].0.clone(),
        F::TopK => {
            let all = frequencies(&values).into_iter().take(3);
            let all = all
                .map(|(value, count)| format!("{{\"count\":{count},\"value\":{}}}", json(&value)));
            canonical(&format!("[{}]", all.collect::<Vec<_>>().join(",")))
        }
        F::MinForever | F::MaxForever => unreachable!("not over rows that are there"),
    }
}

/// Results are equal, floats up to rounding that is small against `scale`.
fn alike(found: &Value, expected: &Value, scale: f64) -> bool {
    match (found, expected) {
        (Value::Float(a), Value::Float(b)) => (a - b).abs() <= 1e-9 * scale.max(b.abs()),
        (a, b) => a == b,
    }
}

fn call() -> impl Strategy<Value = Call> {
    let number = prop_oneof![Just(Type::Long), Just(Type::Double)];
    let anything = prop_oneof![
        Just(Type::Long),
        Just(Type::Double),
        Just(Type::String),
        Just(Type::Bool)
    ];
    let part = prop_oneof![Just(0.0), Just(0.5), Just(0.9), Just(1.0), 0.0..1.0];
    let functions = prop::sample::select(vec![
        F::Count,
        F::Sum,
        F::Avg,
        F::Min,
        F::Max,
        F::First,
        F::Last,
        F::StdDev,
        F::StdDevSamp,
        F::VarPop,
        F::VarSamp,
        F::Corr,
        F::RegrSlope,
        F::BoolAnd,
        F::BoolOr,
        F::CollectSet,
        F::CollectList,
        F::StringAgg,
        F::Percentile,
        F::ApproxPercentile,
        F::ApproxCountDistinct,
        F::Mode,
        F::TopK,
    ]);
    (functions, number, anything, part, any::<[bool; 2]>()).prop_map(
        |(function, number, anything, part, [distinct, filter])| Call {
            function,
            ty: match function {
                F::BoolAnd | F::BoolOr => Type::Bool,
                _ if function.result_type(&[Type::String, Type::String]).is_ok() => anything,
                _ => number,
            },
            parameter: match function {
                F::Percentile | F::ApproxPercentile => Some(Value::Float(part)),
                F::TopK => Some(Value::Int(3)),
                F::StringAgg => Some(Value::text("; ")),
                _ => None,
            },
            distinct: distinct && function.distinct() == crate::sql::aggregates::Distinct::Allowed,
            filter,
        },
    )
}

fn value(ty: Type) -> BoxedStrategy<Value> {
    let some = match ty {
        Type::Long => prop_oneof![
            8 => (-4_i64..4).prop_map(Value::Int),
            1 => prop::sample::select(vec![i64::MIN, i64::MAX]).prop_map(Value::Int),
        ]
        .boxed(),
        Type::Double => prop_oneof![
            (-4_i32..4).prop_map(|x| Value::Float(f64::from(x) / 2.0)),
            (-1e6..1e6).prop_map(Value::Float),
        ]
        .boxed(),
        Type::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        _ => prop::sample::select(vec![
            "",
            "a",
            "b\"\n\u{1}",
            "a text too long to lie inline é",
        ])
        .prop_map(Value::text)
        .boxed(),
    };
    prop_oneof![4 => some, 1 => Just(Value::Null)].boxed()
}

fn row(ty: Type) -> impl Strategy<Value = Row> {
    let pass = prop_oneof![
        3 => Just(Value::Bool(true)),
        1 => Just(Value::Bool(false)),
        1 => Just(Value::Null)
    ];
    (value(ty), value(ty), pass, 0..GROUPS, 0_u64..2).prop_map(|(x, y, pass, group, seq)| Row {
        seq,
        group,
        values: [x, y, pass],
    })
}

fn script() -> impl Strategy<Value = (Call, Vec<(Step, Row)>)> {
    call().prop_flat_map(|call| {
        let step = prop_oneof![
            6 => Just(Step::Nothing),
            5 => any::<usize>().prop_map(Step::Leave),
            1 => Just(Step::Restart)
        ];
        let rows = prop::collection::vec((step, row(call.ty)), 1..60);
        (Just(call), rows)
    })
}

/// Runs a script; after each step both groups must be what their rows say.
fn check(call: &Call, leaves: Leaves, script: &[(Step, Row)]) -> Result<(), TestCaseError> {
    let mut driven = Driven::new(call, leaves);
    let mut rows: Vec<Row> = Vec::new();
    let mut seq = 0;
    for (step, row) in script {
        match step {
            Step::Leave(number) if !rows.is_empty() && leaves != Leaves::Never => {
                let number = if leaves == Leaves::AnyOrder {
                    number % rows.len()
                } else {
                    0
                };
                let left = rows.remove(number);
                // Of rows that cannot be told apart the oldest is taken to have left.
                let same = |row: &Row| {
                    row.seq == left.seq && row.group == left.group && row.values == left.values
                };
                if let Some(older) = rows.iter().take(number).position(same) {
                    rows.insert(number, left.clone());
                    rows.remove(older);
                }
                driven.change(&left, false);
            }
            Step::Restart => driven.restart(),
            Step::Leave(_) | Step::Nothing => {}
        }
        // Several rows may come with one input.
        seq += row.seq;
        let row = Row { seq, ..row.clone() };
        driven.change(&row, true);
        rows.push(row);
        for group in 0..GROUPS {
            let passes = |row: &&Row| {
                let passes = row.values[2] == Value::Bool(true);
                row.group == group && (passes || !call.filter)
            };
            let there: Vec<[Value; 3]> = rows
                .iter()
                .filter(passes)
                .map(|row| row.values.clone())
                .collect();
            let (found, expected) = (driven.aggregate.result(group), naive(call, &there));
            let values = there.iter().flatten().filter_map(Value::as_float);
            let largest = values.fold(0.0, |most: f64, x| most.max(x.abs()));
            let scale = match call.function {
                F::VarPop | F::VarSamp => largest * largest,
                F::Corr | F::RegrSlope => 1.0,
                _ => largest * 100.0,
            };
            // The plain computation itself is rounded, by far more than what is tested.
            let hopeless = matches!(call.function, F::Corr | F::RegrSlope) && largest > 1e9;
            prop_assert!(
                hopeless || alike(&found, &expected, scale),
                "{call:?} {leaves:?}: {found:?} is not {expected:?} of {there:?}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn rows_that_stay((call, script) in script()) {
        check(&call, Leaves::Never, &script)?;
    }

    #[test]
    fn rows_that_leave_in_order((call, script) in script()) {
        check(&call, Leaves::InOrder, &script)?;
    }

    #[test]
    fn rows_that_leave_in_any_order((call, script) in script()) {
        check(&call, Leaves::AnyOrder, &script)?;
    }
}

/// A window of so many rows that nothing is kept as it is, and the state goes into many chunks.
#[test]
fn many_values_are_near_and_survive_a_restart() {
    let call = |function, part: f64| Call {
        function,
        ty: Type::Double,
        parameter: Some(Value::Float(part)),
        distinct: false,
        filter: false,
    };
    let row = |number: u64| Row {
        seq: number,
        group: 0,
        values: [
            Value::Float((number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / 1e3 + 1.0),
            Value::Null,
            Value::Null,
        ],
    };
    const WINDOW: u64 = 5_000;
    for leaves in [Leaves::InOrder, Leaves::AnyOrder, Leaves::Never] {
        let mut exact = Driven::new(&call(F::Percentile, 0.95), leaves);
        let mut near = Driven::new(&call(F::ApproxPercentile, 0.95), leaves);
        let mut different = Driven::new(&call(F::ApproxCountDistinct, 0.0), leaves);
        for number in 0..3 * WINDOW {
            for driven in [&mut exact, &mut near, &mut different] {
                driven.change(&row(number), true);
                if number >= WINDOW && leaves != Leaves::Never {
                    driven.change(&row(number - WINDOW), false);
                }
                if number % 4_000 == 3_999 {
                    driven.restart();
                }
            }
        }
        let result = |driven: &Driven| driven.aggregate.result(0).as_float().unwrap();
        let (exact, near) = (result(&exact), result(&near));
        assert!((near / exact - 1.0).abs() < 0.01, "{near} for {exact}");
        let count = if leaves == Leaves::Never {
            3 * WINDOW
        } else {
            WINDOW
        };
        let error = result(&different) / count as f64 - 1.0;
        assert!(error.abs() < 0.05, "{error}");
    }
}

#[test]
fn a_text_that_grows_for_ever_is_let_go() {
    let call = Call {
        function: F::CollectList,
        ty: Type::String,
        parameter: None,
        distinct: false,
        filter: false,
    };
    let mut driven = Driven::new(&call, Leaves::Never);
    let text = "x".repeat(1_000);
    for seq in 0..2_500 {
        let values = [Value::text(&text), Value::Null, Value::Null];
        driven.change(
            &Row {
                seq,
                group: 0,
                values,
            },
            true,
        );
    }
    driven.restart();
    assert_eq!(driven.aggregate.result(0), Value::Null);
    assert_eq!(driven.aggregate.save(0).count(), 2);
}

#[test]
fn for_ever_outlives_rows_and_restarts() {
    for (function, expected) in [(F::MinForever, -3), (F::MaxForever, 9)] {
        let call = Call {
            function,
            ty: Type::Long,
            parameter: None,
            distinct: false,
            filter: true,
        };
        let mut driven = Driven::new(&call, Leaves::AnyOrder);
        assert!(driven.aggregate.forever());
        for (x, pass) in [
            (4, true),
            (-3, true),
            (9, true),
            (100, false),
            (-100, false),
        ] {
            let values = [Value::Int(x), Value::Null, Value::Bool(pass)];
            let row = Row {
                seq: 1,
                group: 0,
                values,
            };
            driven.change(&row, true);
            driven.change(&row, false);
            driven.restart();
        }
        assert_eq!(driven.aggregate.result(0), Value::Int(expected));
    }
}

/// Rows that came with one input, and whose values are equal, are told apart by their other
/// columns.
#[test]
fn the_row_that_leaves_is_the_one_that_is_meant() {
    let call = Call {
        function: F::CollectList,
        ty: Type::Long,
        parameter: None,
        distinct: false,
        filter: false,
    };
    let mut driven = Driven::new(&call, Leaves::AnyOrder);
    let row = |x, y| Row {
        seq: 1,
        group: 0,
        values: [Value::Int(x), Value::Int(y), Value::Null],
    };
    for row in [row(1, 1), row(2, 2), row(1, 3)] {
        driven.change(&row, true);
    }
    driven.change(&row(1, 3), false);
    assert_eq!(driven.aggregate.result(0), Value::text("[1,2]"));
}
