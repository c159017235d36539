//! Against the naive recomputation over all rows, with saves and restores in between.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::engine::state::{Saver, Saving, state_of};
use crate::event::{Batch, GrowingState, Seq, State, StateChanges};
use crate::sql::{SqlText, compile};

const SQL: &str = "CREATE STREAM S (k STRING, x INT, at BIGINT);\n\
    CREATE AGGREGATION A WITH ('purge.seconds' = '5 s', 'purge.minutes' = 'never') AS \
    SELECT k, sum(x) AS s, count(*) AS n, max(x) - min(x) AS r FROM S WHERE x <> 13 \
    GROUP BY k AGGREGATE BY at EVERY MINUTES, SECONDS, MONTHS;";

fn fresh(sql: &str) -> (Aggregation, Rollup) {
    let plan = plan(sql);
    let rollup = Rollup::new(&plan, &Stores::default());
    (plan, rollup)
}

fn plan(sql: &str) -> Aggregation {
    let text = SqlText {
        path: "test".to_owned(),
        text: sql.to_owned(),
    };
    let application = compile(&[text]).unwrap();
    application.aggregations.first().unwrap().clone()
}

/// A restart: what is saved, in an aggregation that was not there before.
fn again(rollup: &mut Rollup, plan: &Aggregation) -> Rollup {
    restored(&state_of(7, |save| rollup.save(save)), plan)
}

fn restored(state: &State, plan: &Aggregation) -> Rollup {
    let mut fresh = Rollup::new(plan, &Stores::default());
    if let Some(load) = Load::all_of(state).get(&7) {
        fresh.load(load).unwrap();
    }
    fresh
}

/// Brings what is saved up to date; gives how many pieces that takes.
fn save(rollup: &mut Rollup, saving: Saving, number: u64, saved: &mut GrowingState) -> usize {
    let mut changes = StateChanges::new();
    let mut saver = Saver::new(saving, number, &mut changes);
    rollup.save(&mut saver.of(7)).unwrap();
    saved.apply(&changes);
    if saving == Saving::Changed {
        assert_eq!(saved.state(), state_of(7, |save| rollup.save(save)));
    }
    changes.len()
}

/// What a duration gives, with all columns.
fn read(rollup: &Rollup, per: usize, key: &[(usize, &Value)]) -> Vec<Vec<Value>> {
    let keep: Vec<usize> = (0..=rollup.select.len()).collect();
    let wanted = Wanted {
        from: Timestamp(i64::MIN),
        until: Timestamp(i64::MAX),
        per,
        key,
        keep: &keep,
        now: Timestamp(0),
    };
    let mut values = Vec::new();
    let count = rollup.fetch(&wanted, &mut values);
    assert_eq!(values.len(), count * keep.len());
    values.chunks(keep.len()).map(<[Value]>::to_vec).collect()
}

fn push(rollup: &mut Rollup, clock: i64, values: &[Value]) {
    let mut batch = Batch::new(values.len());
    let stamp = Stamp {
        seq: Seq(1),
        time: Timestamp(clock),
    };
    batch.push(stamp, values.iter().cloned());
    rollup.push(batch.rows());
}

type Groups = Vec<(Value, Vec<i64>)>;

/// The rows that a duration should give, from the values in its buckets.
fn expected(buckets: &BTreeMap<i64, Groups>) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for (start, groups) in buckets {
        for (key, values) in groups {
            let sum = (!values.is_empty()).then(|| Value::Int(values.iter().sum()));
            let spread = values.iter().max().zip(values.iter().min());
            rows.push(vec![
                Value::Int(*start),
                key.clone(),
                sum.unwrap_or_default(),
                Value::Int(i64::try_from(values.len()).unwrap()),
                spread.map_or(Value::Null, |(high, low)| Value::Int(high - low)),
            ]);
        }
    }
    rows
}

fn row() -> impl Strategy<Value = (u8, i64, i64, bool)> {
    let jump = prop_oneof![8 => -3_000..4_000_i64, 1 => -100_000..100_000_i64];
    (0..4_u8, 10..16_i64, jump, prop::bool::weighted(0.1))
}

proptest! {
    #[test]
    fn buckets_are_what_their_rows_make_them(rows in prop::collection::vec(row(), 1..200)) {
        let (plan, mut rollup) = fresh(SQL);
        let lengths = [1_000, 60_000];
        let mut wanted = [BTreeMap::new(), BTreeMap::new()];
        let (mut clock, mut time) = (1_000_000_000_i64, 1_000_000_000_i64);
        let (mut newest, mut floor) = (i64::MIN, i64::MIN);
        let mut saved = GrowingState::default();
        for (number, (key, x, jump, restart)) in (1..).zip(rows) {
            time += jump;
            clock = clock.max(time - 2_000) + 10;
            let key = if key == 0 { Value::Null } else { Value::text(&key.to_string()) };
            push(&mut rollup, clock, &[key.clone(), Value::Int(x), Value::Int(time)]);
            if number % 5 == 0 {
                save(&mut rollup, Saving::Ahead { pieces_max: 3 }, 2 * number, &mut saved);
            }
            if number % 7 == 0 || restart {
                save(&mut rollup, Saving::Changed, 2 * number + 1, &mut saved);
            }
            if restart {
                rollup = restored(&saved.state(), &plan);
            }
            if x == 13 {
                continue;
            }
            for (length, buckets) in lengths.into_iter().zip(&mut wanted) {
                let start = time - time.rem_euclid(length);
                if length == 1_000 && !buckets.contains_key(&start) {
                    newest = newest.max(start);
                    floor = floor.max(newest.min(clock - clock.rem_euclid(length)) - 5_000);
                    *buckets = buckets.split_off(&floor);
                    if start < floor {
                        continue;
                    }
                }
                let groups: &mut Groups = buckets.entry(start).or_default();
                match groups.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, values)) => values.push(x),
                    None => groups.push((key.clone(), vec![x])),
                }
            }
        }
        for (per, buckets) in wanted.iter().enumerate() {
            prop_assert_eq!(read(&rollup, per, &[]), expected(buckets));
            for key in [Value::Null, Value::text("2"), Value::text("other")] {
                let mut rows = expected(buckets);
                rows.retain(|row| row[1] == key);
                prop_assert_eq!(read(&rollup, per, &[(1, &key)]), rows);
            }
        }
    }
}

#[test]
fn rows_are_bounded_and_the_oldest_of_the_shortest_duration_go() {
    let sql = "CREATE STREAM S (k INT, at BIGINT);\n\
        CREATE AGGREGATION A WITH ('max_rows' = '6') AS SELECT k, count(*) AS n FROM S \
        GROUP BY k AGGREGATE BY at EVERY SECONDS, HOURS;";
    let (plan, mut rollup) = fresh(sql);
    let starts = |rollup: &Rollup, per| -> Vec<i64> {
        let rows = read(rollup, per, &[]);
        rows.iter().map(|row| row[0].as_int().unwrap()).collect()
    };
    for second in 0..4 {
        push(
            &mut rollup,
            10_000,
            &[Value::Int(1), Value::Int(second * 1_000)],
        );
    }
    assert_eq!(starts(&rollup, 0), [0, 1_000, 2_000, 3_000]);
    // Two groups more in the newest second and in the hour: the oldest seconds go.
    push(&mut rollup, 10_000, &[Value::Int(2), Value::Int(3_500)]);
    assert_eq!(starts(&rollup, 0), [1_000, 2_000, 3_000, 3_000]);
    rollup = again(&mut rollup, &plan);
    // What has gone does not begin anew with the rows that come too late for it.
    push(&mut rollup, 10_000, &[Value::Int(1), Value::Int(500)]);
    assert_eq!(rollup.take_faults(), 1);
    assert_eq!(starts(&rollup, 0), [1_000, 2_000, 3_000, 3_000]);
    for group in 3..9 {
        push(&mut rollup, 10_000, &[Value::Int(group), Value::Int(3_600)]);
    }
    assert_eq!(starts(&rollup, 0), [3_000; 3]);
    assert_eq!(starts(&rollup, 1), [0; 3]);
    assert_eq!(rollup.take_faults(), 5);
    // What was there goes on.
    push(&mut rollup, 10_000, &[Value::Int(1), Value::Int(3_700)]);
    let first = &read(&rollup, 0, &[])[0];
    assert_eq!(first[..3], [3_000, 1, 2].map(Value::Int));
}

#[test]
fn a_row_without_a_time_is_in_no_bucket() {
    let sql = "CREATE STREAM S (at TIMESTAMP);\n\
        CREATE AGGREGATION A AS SELECT count(*) AS n FROM S AGGREGATE BY at EVERY DAYS, YEARS;";
    let (_, mut rollup) = fresh(sql);
    for time in [Value::Null, Value::Int(i64::MAX), Value::Int(i64::MIN)] {
        push(&mut rollup, 0, &[time]);
    }
    assert_eq!(rollup.take_faults(), 3);
    assert!(read(&rollup, 1, &[]).is_empty());
    push(&mut rollup, 0, &[Value::Int(-1)]);
    assert_eq!(read(&rollup, 0, &[]).len(), 1);
}

/// A bad clock must not cost what was collected.
#[test]
fn a_time_far_ahead_clears_nothing() {
    let sql = "CREATE STREAM S (at BIGINT);\n\
        CREATE AGGREGATION A AS SELECT count(*) AS n FROM S AGGREGATE BY at EVERY SECONDS;";
    let (_, mut rollup) = fresh(sql);
    let day = 86_400_000;
    push(&mut rollup, 10 * day, &[Value::Int(10 * day)]);
    push(&mut rollup, 10 * day, &[Value::Int(4_000 * day)]);
    push(&mut rollup, 10 * day + 1, &[Value::Int(10 * day - 5_000)]);
    assert_eq!(read(&rollup, 0, &[]).len(), 3);
    assert_eq!(rollup.take_faults(), 0);
    push(&mut rollup, 11 * day, &[Value::Int(11 * day)]);
    assert_eq!(read(&rollup, 0, &[]).len(), 2);
}

/// A read finds its group and bucket when the columns that are compared say which these are.
#[test]
fn keys_are_found_among_the_columns() {
    let sql = "CREATE STREAM S (a INT, b INT, x INT);\n\
        CREATE AGGREGATION A AS SELECT sum(x) AS s, b, a, a + 1 AS c FROM S GROUP BY a, b \
        AGGREGATE EVERY SECONDS;";
    let (_, mut rollup) = fresh(sql);
    for (clock, a, b) in [(0, 1, 1), (0, 1, 2), (1_000, 1, 2), (1_000, 2, 2)] {
        push(&mut rollup, clock, &[a, b, 5].map(Value::Int));
    }
    let (one, two, second) = (&Value::Int(1), &Value::Int(2), &Value::Int(1_000));
    assert_eq!(
        rollup.key(&[(2, two), (3, one)]),
        Some(vec![one.clone(), two.clone()])
    );
    // Not the whole key, and a column that is none: whoever reads must look at all.
    assert_eq!(rollup.key(&[(3, one)]), None);
    assert_eq!(rollup.key(&[(2, two), (4, two)]), None);
    let row = |values: [i64; 5]| values.map(Value::Int).to_vec();
    assert_eq!(
        read(&rollup, 0, &[(2, two), (3, one)]),
        [row([0, 5, 2, 1, 2]), row([1_000, 5, 2, 1, 2])]
    );
    assert_eq!(
        read(&rollup, 0, &[(0, second), (2, two), (3, one)]),
        [row([1_000, 5, 2, 1, 2])]
    );
    assert!(read(&rollup, 0, &[(2, one), (3, two)]).is_empty());
}

/// They come back whole.
#[test]
fn large_states_and_many_groups_are_saved() {
    let sql = "CREATE STREAM S (k INT, x INT);\n\
        CREATE AGGREGATION A AS SELECT k, median(x) AS m, count(DISTINCT x) AS d FROM S \
        GROUP BY k AGGREGATE EVERY SECONDS, MINUTES;";
    let (plan, mut rollup) = fresh(sql);
    for number in 0..4_000 {
        let group = if number % 2 == 0 { 0 } else { number % 200 };
        push(&mut rollup, number, &[group, number].map(Value::Int));
    }
    let before = [read(&rollup, 0, &[]), read(&rollup, 1, &[])];
    rollup = again(&mut again(&mut rollup, &plan), &plan);
    assert_eq!([read(&rollup, 0, &[]), read(&rollup, 1, &[])], before);
    assert_eq!(before[1].len(), 101);
    push(&mut rollup, 4_000, &[0, 4_000].map(Value::Int));
    assert_eq!(read(&rollup, 1, &[])[0][3], Value::Int(2_001));
}

#[test]
fn a_saving_gives_the_groups_that_have_changed() {
    let sql = "CREATE STREAM S (k INT, at BIGINT);\n\
        CREATE AGGREGATION A WITH ('purge.seconds' = '5 s') AS SELECT k, count(*) AS n FROM S \
        GROUP BY k AGGREGATE BY at EVERY SECONDS;";
    let (plan, mut rollup) = fresh(sql);
    let mut saved = GrowingState::default();
    for second in 0..3_000 {
        push(&mut rollup, 3_000, &[second / 3, second].map(Value::Int));
    }
    let all = save(&mut rollup, Saving::Changed, 1, &mut saved);
    assert_eq!(all, 1 + 1_002, "two groups lie in two buckets");
    push(&mut rollup, 3_000, &[7, 100].map(Value::Int));
    push(&mut rollup, 3_000, &[7, 100].map(Value::Int));
    push(&mut rollup, 3_000, &[1_000, 100].map(Value::Int));
    assert_eq!(save(&mut rollup, Saving::Changed, 2, &mut saved), 1 + 2);
    rollup = restored(&saved.state(), &plan);
    assert_eq!(save(&mut rollup, Saving::Changed, 1, &mut saved), 1);
    // Their time is over, and another bucket takes the numbers of the first.
    push(&mut rollup, 100_000, &[1, 100_000].map(Value::Int));
    save(&mut rollup, Saving::Changed, 2, &mut saved);
    assert_eq!(saved.pieces().len(), 2);
}

/// Whoever changes what is computed begins anew; whoever changes how much is kept does not.
#[test]
fn state_is_found_by_what_is_computed() {
    let print = |with: &str, select: &str, every: &str| {
        let sql = format!(
            "CREATE STREAM S (k INT, x INT);\n\
             CREATE AGGREGATION A {with} AS SELECT k, {select} AS s FROM S GROUP BY k \
             AGGREGATE EVERY {every};"
        );
        let text = SqlText {
            path: "test".to_owned(),
            text: sql,
        };
        let application = compile(&[text]).unwrap();
        application.aggregations[0].fingerprint(&application)
    };
    let plain = print("", "sum(x)", "SECONDS");
    let more = "WITH ('purge.seconds' = '1 h', 'max_rows' = '5')";
    assert_eq!(print(more, "sum(x)", "SECONDS"), plain);
    assert_ne!(print("", "avg(x)", "SECONDS"), plain);
    assert_ne!(print("", "sum(x) + 1", "SECONDS"), plain);
    assert_ne!(print("", "sum(x)", "SECONDS, MINUTES"), plain);
}
