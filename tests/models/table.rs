//! A table that is written, changed and asked in every way, against a list of rows.

use eventflux::event::Value;
use proptest::prelude::*;

use crate::drive::{Given, Input, cases, expect_unordered};
use crate::tape::Tape;

/// Each does one thing with the rows that bear its name. They stand in this order, and a row is
/// done with in all of them before the next one comes.
const QUERIES: &str = "
    CREATE STREAM Op (op STRING, id STRING, v INT);
    INSERT INTO T SELECT id, v FROM Op WHERE op = 'add';
    UPSERT INTO T SELECT id, v FROM Op WHERE op = 'put' ON T.id = Op.id;
    UPDATE T SET v = T.v + Op.v FROM Op WHERE T.id = Op.id AND Op.op = 'plus';
    UPDATE T SET v = Op.v FROM Op WHERE T.v < Op.v AND Op.op = 'raise';
    UPDATE T SET id = 'z' FROM Op WHERE T.v = Op.v AND Op.op = 'rename';
    DELETE FROM T USING Op WHERE T.v = Op.v AND Op.op = 'remove';
    INSERT INTO Out SELECT Op.op, T.id, T.v FROM Op JOIN T ON T.id = Op.id WHERE Op.op = 'ask';
    INSERT INTO Out SELECT Op.op, T.id, T.v FROM Op JOIN T ON T.v = Op.v WHERE Op.op = 'value';
    INSERT INTO Out SELECT Op.op, T.id, T.v FROM Op JOIN T ON T.v < Op.v WHERE Op.op = 'below';
    INSERT INTO Out SELECT op, id, CASE WHEN id IN T THEN 1 WHEN id NOT IN T THEN 0 END AS v
      FROM Op WHERE op = 'in';
";

/// WHERE stands behind an outer join: rows of any name may use what they find. So it is asked only
/// where use does not matter.
const OUTER: &str = "
    INSERT INTO Out SELECT Op.op, T.id, T.v FROM T RIGHT JOIN Op ON T.id = Op.id
      WHERE Op.op = 'outer';
";

const OPERATIONS: [&str; 11] = [
    "below", "add", "put", "in", "ask", "plus", "raise", "rename", "remove", "outer", "value",
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Eviction {
    Lru,
    Fifo,
    Reject,
}

#[derive(Clone, Debug)]
struct Row {
    id: Value,
    v: Value,
    changed: i64,
    used: u64,
}

/// The table as a list, oldest first.
struct Table {
    key: bool,
    rows_max: Option<usize>,
    eviction: Eviction,
    ttl_ms: Option<i64>,
    rows: Vec<Row>,
    uses: u64,
}

impl Table {
    fn any(tape: &mut Tape<'_>) -> Table {
        Table {
            key: tape.below(3) < 2,
            rows_max: tape.one_of(&[None, Some(2), Some(3)]),
            eviction: tape.one_of(&[Eviction::Lru, Eviction::Fifo, Eviction::Reject]),
            ttl_ms: tape.one_of(&[None, None, Some(20)]),
            rows: Vec::new(),
            uses: 0,
        }
    }

    fn sql(&self, tape: &mut Tape<'_>) -> String {
        let key = if self.key { " PRIMARY KEY" } else { "" };
        let mut options = Vec::new();
        if let Some(rows) = self.rows_max {
            let eviction = format!("{:?}", self.eviction).to_lowercase();
            options.push(format!("'max_rows' = '{rows}', 'eviction' = '{eviction}'"));
        }
        options.extend(self.ttl_ms.map(|ttl_ms| format!("'ttl' = '{ttl_ms} ms'")));
        if tape.below(2) == 1 {
            options.push("'index' = 'v'".to_owned());
        }
        let options = match options.as_slice() {
            [] => String::new(),
            some => format!(" WITH ({})", some.join(", ")),
        };
        let outer = if self.counts_use() { "" } else { OUTER };
        format!("CREATE TABLE T (id STRING{key}, v INT){options};{QUERIES}{outer}")
    }

    fn counts_use(&self) -> bool {
        self.rows_max.is_some() && self.eviction == Eviction::Lru
    }

    fn purge(&mut self, now: i64) {
        if let Some(ttl_ms) = self.ttl_ms {
            self.rows.retain(|row| row.changed + ttl_ms > now);
        }
    }

    fn is_taken(&self, id: &Value, but: Option<usize>) -> bool {
        let mut others = self.rows.iter().enumerate();
        id.is_null() || others.any(|(place, row)| row.id == *id && Some(place) != but)
    }

    fn insert(&mut self, id: &Value, v: &Value, now: i64) {
        if self.key && self.is_taken(id, None) {
            return;
        }
        if Some(self.rows.len()) == self.rows_max {
            let places = 0..self.rows.len();
            let last = match self.eviction {
                Eviction::Reject => return,
                Eviction::Fifo => Some(0),
                Eviction::Lru => places.min_by_key(|place| self.rows[*place].used),
            };
            self.rows.remove(last.unwrap());
        }
        self.uses += 1;
        self.rows.push(Row {
            id: id.clone(),
            v: v.clone(),
            changed: now,
            used: self.uses,
        });
    }

    fn change(&mut self, place: usize, id: &Value, v: &Value, now: i64) {
        if self.key && self.is_taken(id, Some(place)) {
            return;
        }
        self.touch(place);
        let row = &mut self.rows[place];
        (row.id, row.v, row.changed) = (id.clone(), v.clone(), now);
    }

    fn touch(&mut self, place: usize) {
        self.uses += 1;
        self.rows[place].used = self.uses;
    }

    /// The places of rows whose id or v is the wanted one, and which are used by that.
    fn find(&mut self, of: impl Fn(&Row) -> &Value, wanted: &Value) -> Vec<usize> {
        let places = 0..self.rows.len();
        let found = |place: &usize| !wanted.is_null() && of(&self.rows[*place]) == wanted;
        let found: Vec<usize> = places.filter(found).collect();
        found.iter().for_each(|place| self.touch(*place));
        found
    }

    /// A look at all rows is no use of any.
    fn below(&self, v: &Value) -> Vec<usize> {
        let places = 0..self.rows.len();
        let below = |place: &usize| match (self.rows[*place].v.as_int(), v.as_int()) {
            (Some(x), Some(y)) => x < y,
            _ => false,
        };
        places.filter(below).collect()
    }

    /// What comes out.
    fn apply(&mut self, op: &str, id: &Value, v: &Value, now: i64) -> Vec<(Value, Value)> {
        self.purge(now);
        let by_id = |row: &Row| row.id.clone();
        match op {
            "add" => self.insert(id, v, now),
            "put" => {
                let found = self.find(|row| &row.id, id);
                if found.is_empty() {
                    self.insert(id, v, now);
                }
                for place in found {
                    self.change(place, id, v, now);
                }
            }
            "plus" => {
                for place in self.find(|row| &row.id, id) {
                    let sum = match (self.rows[place].v.as_int(), v.as_int()) {
                        (Some(x), Some(y)) => Value::Int(x + y),
                        _ => Value::Null,
                    };
                    self.change(place, id, &sum, now);
                }
            }
            "raise" => {
                for place in self.below(v) {
                    let id = by_id(&self.rows[place]);
                    self.change(place, &id, v, now);
                }
            }
            "rename" => {
                for place in self.find(|row| &row.v, v) {
                    self.change(place, &Value::text("z"), v, now);
                }
            }
            "remove" => {
                let found = self.find(|row| &row.v, v);
                found
                    .iter()
                    .rev()
                    .for_each(|place| drop(self.rows.remove(*place)));
            }
            _ => return self.ask(op, id, v),
        }
        Vec::new()
    }

    fn ask(&mut self, op: &str, id: &Value, v: &Value) -> Vec<(Value, Value)> {
        if op == "outer" && self.counts_use() {
            return Vec::new();
        }
        let found = match op {
            "ask" | "outer" | "in" => self.find(|row| &row.id, id),
            "value" => self.find(|row| &row.v, v),
            _ => self.below(v),
        };
        if op == "in" {
            let there = Value::Int(i64::from(!found.is_empty()));
            return vec![(id.clone(), if id.is_null() { Value::Null } else { there })];
        }
        if op == "outer" && found.is_empty() {
            return vec![(Value::Null, Value::Null)];
        }
        let rows = found.iter().map(|place| &self.rows[*place]);
        rows.map(|row| (row.id.clone(), row.v.clone())).collect()
    }
}

fn tables(tape: &mut Tape<'_>, count: usize) -> Result<(), TestCaseError> {
    let mut table = Table::any(tape);
    let sql = table.sql(tape);
    let (mut inputs, mut expected) = (Vec::new(), Vec::new());
    let mut time = 1_000;
    for _ in 0..count {
        // Each at a time of its own, so that the order of operations shows.
        time += tape.one_of(&[1, 2, 5, 20]);
        let op = tape.one_of(&OPERATIONS);
        let id = tape.one_of(&["a", "b", "c", "d", "z", ""]);
        let id = if id.is_empty() {
            Value::Null
        } else {
            Value::text(id)
        };
        let v = tape.one_of(&[Some(1), Some(2), Some(3), Some(5), None]);
        let v = v.map_or(Value::Null, Value::Int);
        let given = table.apply(op, &id, &v, time);
        expected.extend(given.into_iter().map(|(id, v)| Given {
            time,
            row: vec![Value::text(op), id, v],
        }));
        inputs.push(Input {
            time,
            row: Some(("Op", vec![Value::text(op), id, v])),
        });
    }
    expect_unordered(&sql, &inputs, &expected)
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn tables_are_lists_of_rows(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        count in 0usize..40,
    ) {
        tables(&mut Tape::new(&bytes), count)?;
    }
}
