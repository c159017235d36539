//! Rows against a list that is searched from its start.

use proptest::prelude::*;

use super::super::state::{Load, state_of};
use super::{IndexedRows, Slot};
use crate::event::{Seq, Stamp, Timestamp, Value};

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u8),
    Remove(usize),
    Change(usize, u8, u8),
    Touch(usize),
    Tidy,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let cell = || 0..5u8;
    prop_oneof![
        6 => (cell(), cell()).prop_map(|(a, b)| Step::Insert(a, b)),
        3 => any::<usize>().prop_map(Step::Remove),
        3 => (any::<usize>(), cell(), cell()).prop_map(|(row, a, b)| Step::Change(row, a, b)),
        1 => any::<usize>().prop_map(Step::Touch),
        1 => Just(Step::Tidy),
        1 => Just(Step::Restart),
    ]
}

/// The fifth value is NULL, so that keys lack parts.
fn cell(number: u8) -> Value {
    match number {
        4 => Value::Null,
        2 => Value::text("a text that is too long to lie inline"),
        number => Value::Int(i64::from(number)),
    }
}

fn stamp(number: u64) -> Stamp {
    Stamp {
        seq: Seq(number),
        time: Timestamp(i64::try_from(number).unwrap() * 10),
    }
}

struct Known {
    number: u64,
    stamp: Stamp,
    touched: u64,
    row: Vec<Value>,
}

fn read(
    rows: &IndexedRows,
    slots: impl IntoIterator<Item = Slot>,
) -> Vec<(u64, Stamp, Vec<Value>)> {
    let slots = slots.into_iter();
    slots
        .map(|slot| (rows.number(slot), rows.stamp(slot), rows.row(slot).to_vec()))
        .collect()
}

fn fresh() -> IndexedRows {
    IndexedRows::new(3, vec![vec![0], vec![1, 0]], 1)
}

fn restarted(rows: &mut IndexedRows) -> IndexedRows {
    let state = state_of(7, |save| save.one_of(3, |save| rows.save(save)));
    let load = Load::all_of(&state).remove(&7).unwrap_or_default();
    let mut again = fresh();
    again.load(&load.one_of(2)).unwrap();
    assert_eq!(again.len(), 0, "the state of another one");
    again.load(&load.one_of(3)).unwrap();
    again
}

fn check(rows: &IndexedRows, known: &[Known]) {
    let expect = |keep: &dyn Fn(&[Value]) -> bool| -> Vec<_> {
        let kept = known.iter().filter(|one| keep(&one.row));
        kept.map(|one| (one.number, one.stamp, one.row.clone()))
            .collect()
    };
    assert_eq!(rows.len(), known.len());
    assert_eq!(read(rows, rows.iter()), expect(&|_| true));
    let touched = known.iter().min_by_key(|one| one.touched);
    let first = rows.first(1).map(|slot| rows.number(slot));
    assert_eq!(first, touched.map(|one| one.number));
    for (a, b) in (0..5).flat_map(|a| (0..5).map(move |b| (cell(a), cell(b)))) {
        let mut found = Vec::new();
        rows.find(0, [&a], &mut found);
        assert_eq!(rows.any(0, [&a]).is_some(), !found.is_empty());
        let same = expect(&|row| !a.is_null() && row[0] == a);
        assert_eq!(read(rows, found.drain(..)), same);
        rows.find(1, [&b, &a], &mut found);
        let same = expect(&|row| !a.is_null() && !b.is_null() && row[0] == a && row[1] == b);
        assert_eq!(read(rows, found), same);
    }
}

fn run(steps: &[Step]) {
    let mut rows = fresh();
    let mut known: Vec<Known> = Vec::new();
    for (step, number) in steps.iter().zip(1..) {
        let pick = |place: usize, known: &[Known]| (!known.is_empty()).then(|| place % known.len());
        let slot_of = |rows: &IndexedRows, number: u64| {
            rows.iter()
                .find(|slot| rows.number(*slot) == number)
                .unwrap()
        };
        match step {
            Step::Insert(a, b) => {
                rows.insert(number, stamp(number), [cell(*a), cell(*b)]);
                known.push(Known {
                    number,
                    stamp: stamp(number),
                    touched: number,
                    row: vec![cell(*a), cell(*b), Value::Null],
                });
            }
            Step::Remove(place) => {
                if let Some(place) = pick(*place, &known) {
                    rows.remove(slot_of(&rows, known.remove(place).number));
                }
            }
            Step::Change(place, a, b) => {
                if let Some(place) = pick(*place, &known) {
                    let one = &mut known[place];
                    one.row = vec![cell(*a), cell(*b), Value::Bool(true)];
                    one.stamp = stamp(number);
                    rows.change(slot_of(&rows, one.number), one.stamp, &one.row);
                }
            }
            Step::Touch(place) => {
                if let Some(place) = pick(*place, &known) {
                    known[place].touched = number;
                    rows.touch(1, slot_of(&rows, known[place].number), number);
                }
            }
            Step::Tidy => rows.tidy(),
            Step::Restart => rows = restarted(&mut rows),
        }
        check(&rows, &known);
    }
}

proptest! {
    #[test]
    fn rows_are_found_as_in_a_list(steps in prop::collection::vec(step(), 0..60)) {
        run(&steps);
    }
}

#[test]
fn a_slab_that_has_become_empty_is_given_back() {
    let mut rows = fresh();
    let mut slots = Vec::new();
    for number in 0..10_000 {
        let key = Value::Int(i64::try_from(number % 3).unwrap());
        slots.push(rows.insert(number, stamp(number), [key, Value::Null, Value::Null]));
    }
    for slot in slots.iter().rev().skip(3) {
        rows.remove(*slot);
    }
    let before = read(&rows, rows.iter());
    rows.tidy();
    assert_eq!(read(&rows, rows.iter()), before);
    assert!(rows.values.capacity() < 100 && rows.free.is_empty());
    let mut found = Vec::new();
    rows.find(0, [&Value::Int(2)], &mut found);
    assert_eq!(read(&rows, found).len(), 1);
}

#[test]
fn an_index_that_comes_later_knows_the_rows_there_are() {
    let mut rows = fresh();
    for number in 1..=4 {
        let cells = [Value::Null, Value::Null, Value::Bool(number % 2 == 0)];
        rows.insert(number, stamp(number), cells);
    }
    let index = rows.add_index(&[2]);
    let mut found = Vec::new();
    rows.find(index, [&Value::Bool(true)], &mut found);
    let found: Vec<u64> = found.into_iter().map(|slot| rows.number(slot)).collect();
    assert_eq!(found, [2, 4]);
}
