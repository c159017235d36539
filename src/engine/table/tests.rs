//! Tables against a list that is searched from its start.

use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::expr::Cx;
use super::super::state::{Load, state_of};
use super::{SharedTable, TableWrite};
use crate::event::{Batch, Field, Schema, Seq, Stamp, Timestamp, Type, Value};
use crate::sql::plan::{self, ArithmeticOp, CompareOp, Eviction, Expr, ExprKind, Match, Write};

fn column(index: usize) -> Expr {
    Expr {
        kind: ExprKind::Column(index),
        ty: Type::Long,
    }
}

fn less(a: Expr, b: Expr) -> Expr {
    Expr {
        kind: ExprKind::Compare(CompareOp::Less, Box::new(a), Box::new(b)),
        ty: Type::Bool,
    }
}

fn plus(a: Expr, b: Expr) -> Expr {
    Expr {
        kind: ExprKind::Arithmetic(ArithmeticOp::Add, Box::new(a), Box::new(b)),
        ty: Type::Long,
    }
}

fn plan(primary_key: &[usize], indexes: &[&[usize]]) -> plan::Table {
    let field = |name: &str| Field {
        name: name.to_owned(),
        ty: Type::Long,
    };
    plan::Table {
        name: "T".to_owned(),
        schema: Arc::new(Schema::new(vec![field("a"), field("b"), field("c")])),
        primary_key: primary_key.to_vec(),
        indexes: indexes.iter().map(|columns| columns.to_vec()).collect(),
        rows_max: None,
        eviction: Eviction::Reject,
        ttl_ms: None,
        letters: None,
        path: String::new(),
        place: Default::default(),
    }
}

type Row = [Option<i64>; 3];
type Finds = fn(&[Option<i64>; 4], &Row) -> bool;

/// One way of writing, as the plan says it and as the reference does it. The query's row is
/// (x, y, z, w), of which w is for the expressions only; the table's is (a, b, c).
struct Way {
    write: Write,
    /// Which rows the keys find; none: there are no keys.
    keys: Option<Finds>,
    residual: Finds,
    set: fn(&[Option<i64>; 4], &Row) -> Row,
}

fn is_equal(a: Option<i64>, b: Option<i64>) -> bool {
    a.is_some() && a == b
}

fn whole(query: &[Option<i64>; 4], _: &Row) -> Row {
    [query[0], query[1], query[2]]
}

fn on(keys: &[(usize, usize)], residual: Option<Expr>) -> Match {
    let keys = keys.iter();
    Match {
        keys: keys.map(|(of, from)| (*of, column(*from))).collect(),
        residual,
    }
}

fn always(_: &[Option<i64>; 4], _: &Row) -> bool {
    true
}

fn ways() -> Vec<Way> {
    let mut ways = insertions();
    ways.extend(changes());
    ways
}

/// Insertions and upserts.
fn insertions() -> Vec<Way> {
    let on = |keys: &[(usize, usize)], residual: Option<Expr>| Match {
        keys: keys.iter().map(|(of, from)| (*of, column(*from))).collect(),
        residual,
    };
    vec![
        Way {
            write: Write::Insert,
            keys: None,
            residual: |_, _| false,
            set: whole,
        },
        Way {
            write: Write::Upsert {
                on: on(&[(0, 0)], None),
            },
            keys: Some(|query, row| is_equal(query[0], row[0])),
            residual: always,
            set: whole,
        },
        Way {
            write: Write::Upsert {
                on: Match::default(),
            },
            keys: None,
            residual: always,
            set: whole,
        },
        Way {
            write: Write::Upsert {
                on: on(&[(1, 1), (0, 3)], None),
            },
            keys: Some(|query, row| is_equal(query[1], row[1]) && is_equal(query[3], row[0])),
            residual: always,
            set: whole,
        },
    ]
}

/// Updates and deletions.
fn changes() -> Vec<Way> {
    vec![
        // Swaps two columns, so that one of them must be read before it is set.
        Way {
            write: Write::Update {
                on: on(&[(1, 3)], Some(less(column(0), column(6)))),
                set: vec![(1, column(6)), (2, plus(column(5), column(0)))],
            },
            keys: Some(|query, row| is_equal(query[3], row[1])),
            residual: |query, row| query[0].is_some() && row[2].is_some() && query[0] < row[2],
            set: |query, row| [row[0], row[2], row[1].zip(query[0]).map(|(a, b)| a + b)],
        },
        Way {
            write: Write::Update {
                on: on(&[], Some(less(column(4), column(3)))),
                set: vec![(0, column(1))],
            },
            keys: None,
            residual: |query, row| query[3].is_some() && row[0].is_some() && row[0] < query[3],
            set: |query, row| [query[1], row[1], row[2]],
        },
        Way {
            write: Write::Delete {
                on: on(&[(2, 0), (2, 3)], None),
            },
            keys: Some(|query, row| is_equal(query[0], row[2]) && is_equal(query[3], row[2])),
            residual: always,
            set: whole,
        },
        Way {
            write: Write::Delete {
                on: on(&[(0, 0), (1, 1)], Some(less(column(2), column(6)))),
            },
            keys: Some(|query, row| is_equal(query[0], row[0]) && is_equal(query[1], row[1])),
            residual: |query, row| query[2].is_some() && row[2].is_some() && query[2] < row[2],
            set: whole,
        },
    ]
}

/// The reference: rows in the order in which they came.
struct Model {
    plan: plan::Table,
    rows: Vec<ModelRow>,
    clock: u64,
    refused: u64,
}

#[derive(Clone)]
struct ModelRow {
    row: Row,
    used: u64,
    changed_at: i64,
}

impl Model {
    fn key(&self, row: &Row) -> Option<Vec<Option<i64>>> {
        let columns = &self.plan.primary_key;
        (!columns.is_empty()).then(|| columns.iter().map(|column| row[*column]).collect())
    }

    fn is_free(&self, row: &Row, but: Option<usize>) -> bool {
        let Some(key) = self.key(row) else {
            return true;
        };
        let mut others = (0..)
            .zip(&self.rows)
            .filter(|(place, _)| Some(*place) != but);
        !key.contains(&None) && others.all(|(_, other)| self.key(&other.row) != Some(key.clone()))
    }

    fn purge(&mut self, now: i64) {
        let ttl = self.plan.ttl_ms.unwrap_or(i64::MAX);
        self.rows
            .retain(|row| row.changed_at.saturating_add(ttl) > now);
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn insert(&mut self, row: Row, now: i64) {
        if !self.is_free(&row, None) {
            self.refused += 1;
            return;
        }
        if self.plan.rows_max == Some(self.rows.len() as u64) {
            match self.plan.eviction {
                Eviction::Reject => {
                    self.refused += 1;
                    return;
                }
                Eviction::Fifo => drop(self.rows.remove(0)),
                Eviction::Lru => {
                    let places = 0..self.rows.len();
                    let place = places.min_by_key(|place| self.rows[*place].used).unwrap();
                    self.rows.remove(place);
                }
            }
        }
        let used = self.tick();
        self.rows.push(ModelRow {
            row,
            used,
            changed_at: now,
        });
    }

    fn apply(&mut self, way: &Way, query: &[Option<i64>; 4], now: i64) {
        self.purge(now);
        let mut met = Vec::new();
        for place in 0..self.rows.len() {
            let row = self.rows[place].row;
            // UPSERT without ON goes by the primary key.
            let by_key = match &way.write {
                Write::Upsert { on } if on.keys.is_empty() => !self.plan.primary_key.is_empty(),
                _ => false,
            };
            if by_key || way.keys.is_some() {
                let mut key = self.plan.primary_key.iter();
                let found = match way.keys {
                    Some(keys) => keys(query, &row),
                    None => key.all(|column| is_equal(query[*column], row[*column])),
                };
                if !found {
                    continue;
                }
                self.rows[place].used = self.tick();
            }
            if (way.residual)(query, &row) {
                met.push((place, (way.set)(query, &row)));
            }
        }
        match way.write {
            Write::Delete { .. } => {
                for (place, _) in met.into_iter().rev() {
                    self.rows.remove(place);
                }
            }
            Write::Insert | Write::Upsert { .. } if met.is_empty() => {
                self.insert(whole(query, &[None; 3]), now);
            }
            Write::Insert | Write::Upsert { .. } | Write::Update { .. } => {
                for (place, row) in met {
                    if self.is_free(&row, Some(place)) {
                        let used = self.tick();
                        self.rows[place] = ModelRow {
                            row,
                            used,
                            changed_at: now,
                        };
                    } else {
                        self.refused += 1;
                    }
                }
            }
        }
    }
}

fn values(row: &[Option<i64>]) -> Vec<Value> {
    let cells = row.iter().map(|cell| cell.map_or(Value::Null, Value::Int));
    cells.collect()
}

#[derive(Clone, Debug)]
struct Step {
    way: usize,
    query: [Option<i64>; 4],
    later_ms: i64,
    restart: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let cell = || prop_oneof![8 => (0..4i64).prop_map(Some), 1 => Just(None)];
    let query = [cell(), cell(), cell(), cell()];
    (0..11usize, query, 0..30i64, prop::bool::weighted(0.1)).prop_map(
        |(way, query, later_ms, restart)| Step {
            way: way.saturating_sub(3),
            query,
            later_ms,
            restart,
        },
    )
}

fn start(plan: &plan::Table, ways: &[Way]) -> (SharedTable, Vec<TableWrite>) {
    let table = SharedTable::new(plan);
    let writes = ways.iter();
    let writes = writes.map(|way| TableWrite::new(&way.write, table.clone(), Cx::PLAIN));
    (table.clone(), writes.collect())
}

fn run(plan: plan::Table, steps: &[Step]) {
    let ways = ways();
    let (mut table, mut writes) = start(&plan, &ways);
    let mut model = Model {
        plan,
        rows: Vec::new(),
        clock: 0,
        refused: 0,
    };
    let (mut now, faults) = (1_000, Cell::new(0));
    for (step, seq) in steps.iter().zip(1..) {
        now += step.later_ms;
        let stamp = Stamp {
            seq: Seq(seq),
            time: Timestamp(now),
        };
        let mut batch = Batch::new(4);
        batch.push(stamp, values(&step.query));
        writes[step.way].apply(batch.rows(), &faults);
        model.apply(&ways[step.way], &step.query, now);
        if step.restart {
            let state = state_of(1, |save| table.lock().save(save));
            (table, writes) = start(&model.plan, &ways);
            if let Some(load) = Load::all_of(&state).get(&1) {
                table.lock().load(load).unwrap();
            }
        }
        let locked = table.lock();
        let mut found = Vec::new();
        locked.scan(&mut found);
        let rows: Vec<Vec<Value>> = found
            .iter()
            .map(|slot| locked.row(*slot).to_vec())
            .collect();
        let known: Vec<Vec<Value>> = model.rows.iter().map(|row| values(&row.row)).collect();
        assert_eq!(rows, known, "after {step:?}");
        assert_eq!(faults.get(), model.refused, "refused after {step:?}");
    }
}

fn limits() -> impl Strategy<Value = (Option<u64>, Eviction, Option<i64>)> {
    let eviction = prop_oneof![
        Just(Eviction::Lru),
        Just(Eviction::Fifo),
        Just(Eviction::Reject)
    ];
    let rows_max = prop::option::of(1..5u64);
    (rows_max, eviction, prop::option::of(20..90i64))
}

proptest! {
    #[test]
    fn tables_do_what_a_list_does(
        key in prop_oneof![Just(&[][..]), Just(&[0][..]), Just(&[1, 0][..])],
        limits in limits(),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let (rows_max, eviction, ttl_ms) = limits;
        let plan = plan::Table { rows_max, eviction, ttl_ms, ..plan(key, &[&[2]]) };
        run(plan, &steps);
    }
}

#[test]
fn keys_find_the_index_that_has_most_of_them() {
    let table = SharedTable::new(&plan(&[1, 0], &[&[2], &[0]]));
    let mut table = table.lock();
    let seek = |table: &mut super::Table, columns: &[usize]| {
        let seek = table.seek(columns);
        (seek.index, seek.by, seek.rest)
    };
    assert_eq!(seek(&mut table, &[0, 2, 1]), (0, vec![2, 0], vec![(2, 1)]));
    assert_eq!(seek(&mut table, &[2, 0]), (1, vec![0], vec![(0, 1)]));
    assert_eq!(seek(&mut table, &[0, 0]), (2, vec![0], vec![(0, 1)]));
    assert_eq!(seek(&mut table, &[1]), (3, vec![0], vec![]), "made for it");
    assert_eq!(seek(&mut table, &[1]), (3, vec![0], vec![]), "once");
}

#[test]
fn in_asks_the_key_or_the_first_column() {
    let stamp = Stamp {
        seq: Seq(1),
        time: Timestamp(5),
    };
    for (key, asked) in [(&[][..], 10), (&[1][..], 20), (&[1, 2][..], 10)] {
        let table = SharedTable::new(&plan::Table {
            ttl_ms: Some(100),
            ..plan(key, &[])
        });
        let mut table = table.lock();
        let seek = table.member_seek();
        table
            .insert(&values(&[Some(10), Some(20), Some(30)]), stamp)
            .unwrap();
        let now = |ms| Timestamp(ms);
        assert!(table.contains(&seek, &Value::Int(asked), now(104)));
        assert!(!table.contains(&seek, &Value::Int(30 - asked), now(104)));
        assert!(!table.contains(&seek, &Value::Null, now(104)));
        assert!(
            !table.contains(&seek, &Value::Int(asked), now(105)),
            "its time is over"
        );
    }
}
