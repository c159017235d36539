//! Rows against a list that is searched from its start.

use proptest::prelude::*;

use super::super::state::{Load, Part, Saver, Saving, state_of};
use super::{IndexedRows, Slot};
use crate::event::{GrowingState, Seq, Stamp, StateChanges, Timestamp, Value};

#[derive(Clone, Debug)]
enum Step {
    Insert(u8, u8),
    Remove(usize),
    Change(usize, u8, u8),
    Touch(usize),
    Tidy,
    Clear,
    /// So many pieces ahead of time.
    Ahead(usize),
    Save,
    /// Saves what has changed, and goes on with nothing but what was saved.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let cell = || 0..5u8;
    prop_oneof![
        6 => (cell(), cell()).prop_map(|(a, b)| Step::Insert(a, b)),
        3 => any::<usize>().prop_map(Step::Remove),
        3 => (any::<usize>(), cell(), cell()).prop_map(|(row, a, b)| Step::Change(row, a, b)),
        1 => any::<usize>().prop_map(Step::Touch),
        2 => Just(Step::Tidy),
        1 => prop::bool::weighted(0.2)
            .prop_map(|clear| if clear { Step::Clear } else { Step::Save }),
        1 => (0..80usize).prop_map(Step::Ahead),
        1 => Just(Step::Save),
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

/// What is saved of rows, and how often that was done.
#[derive(Default)]
struct Saved {
    state: GrowingState,
    savings: u64,
}

impl Saved {
    /// Gives how many pieces were put or removed.
    fn save(&mut self, rows: &mut IndexedRows, saving: Saving) -> usize {
        self.savings += 1;
        let mut given = Vec::new();
        // Two that share rows are given the same.
        for operator in [7, 8] {
            let mut changes = StateChanges::new();
            let mut saver = Saver::new(saving, self.savings, &mut changes);
            let mut save = saver.of(operator);
            save.one_of(3, |save| rows.save(save)).unwrap();
            self.state.apply(&changes);
            given.push(changes.len());
        }
        assert_eq!(given[0], given[1]);
        given[0]
    }

    fn check(&self, rows: &mut IndexedRows) {
        let state = self.state.state();
        for operator in [7, 8] {
            let whole = state_of(operator, |save| save.one_of(3, |save| rows.save(save)));
            let own = state
                .pieces()
                .filter(|(place, _)| place.operator == operator);
            assert!(
                own.eq(whole.pieces()),
                "saved in steps, the rows are others"
            );
        }
    }

    fn restored(&self) -> IndexedRows {
        let state = self.state.state();
        let load = Load::all_of(&state).remove(&7).unwrap_or_default();
        let mut again = fresh();
        again.load(&load.one_of(2)).unwrap();
        assert_eq!(again.len(), 0, "the state of another one");
        again.load(&load.one_of(3)).unwrap();
        again
    }
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
    let mut saved = Saved::default();
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
            Step::Clear => {
                rows.clear();
                known.clear();
            }
            Step::Ahead(pieces_max) => {
                let pieces_max = *pieces_max;
                saved.save(&mut rows, Saving::Ahead { pieces_max });
            }
            Step::Save => {
                saved.save(&mut rows, Saving::Changed);
                saved.check(&mut rows);
            }
            Step::Restart => {
                saved.save(&mut rows, Saving::Changed);
                rows = saved.restored();
                saved.check(&mut rows);
            }
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

#[test]
fn a_saving_gives_what_has_changed() {
    let mut rows = fresh();
    let mut saved = Saved::default();
    let cells = |number: u64| [Value::Int(i64::try_from(number).unwrap()), Value::Null];
    let slots: Vec<Slot> = (0..1000)
        .map(|number| rows.insert(number, stamp(number), cells(number)))
        .collect();
    assert_eq!(saved.save(&mut rows, Saving::Changed), 1000);
    assert_eq!(saved.save(&mut rows, Saving::Changed), 0);
    rows.set(slots[500], 2, Value::Bool(true));
    rows.touch(1, slots[7], 1000);
    rows.remove(slots[0]);
    // One that came and went.
    let short = rows.insert(1001, stamp(1001), cells(1));
    rows.remove(short);
    assert!(saved.save(&mut rows, Saving::Changed) <= 4);
    saved.check(&mut rows);
    rows.clear();
    rows.insert(1002, stamp(1002), cells(3));
    assert_eq!(
        saved.save(&mut rows, Saving::Changed),
        1,
        "the others go at once"
    );
    saved.check(&mut rows);
}

#[test]
fn rows_that_lie_far_apart_are_moved_together_by_a_restore() {
    let mut rows = fresh();
    let mut saved = Saved::default();
    let cells = |number: u64| [Value::Int(i64::try_from(number).unwrap()), Value::Null];
    let slots: Vec<Slot> = (0..100)
        .map(|number| rows.insert(number, stamp(number), cells(number)))
        .collect();
    for slot in slots.iter().take(98) {
        rows.remove(*slot);
    }
    saved.save(&mut rows, Saving::Changed);
    let mut again = saved.restored();
    assert!(again.stamps.len() == 2 && again.free.is_empty());
    assert_eq!(read(&again, again.iter()), read(&rows, rows.iter()));
    saved.save(&mut again, Saving::Changed);
    saved.check(&mut again);
}

#[test]
fn pieces_that_are_no_rows_are_refused() {
    let row = |values: &[u64]| {
        let state = state_of(7, |save| save.give(Part::Rows, 0, &values));
        let mut rows = fresh();
        let load = Load::all_of(&state).remove(&7).unwrap();
        rows.load(&load).map(|()| rows.len())
    };
    assert_eq!(row(&[1, 2, 3, 4, 5, 6, 7]).unwrap(), 1);
    assert!(row(&[1, 2, 3, 4, 5, 6]).is_err());
    assert!(row(&[1, 2, 3, 4, 5, 6, 7, 8]).is_err());
    let twice = state_of(7, |save| {
        save.give(Part::Rows, 0, &[1, 2, 3, 4, 5, 6, 7])?;
        save.give(Part::Rows, 1, &[1, 2, 3, 5, 5, 6, 7])
    });
    let load = Load::all_of(&twice).remove(&7).unwrap();
    assert!(fresh().load(&load).is_err());
}
