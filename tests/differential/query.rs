//! Random queries over a few random rows, in our SQL and in SQLite's.

use crate::expression::{Expression, Kind, Leaves, TEXTS, column, expression};
use crate::tape::Tape;
use eventflux::event::Value;

/// The columns of the stream, and of the table in SQLite. Those there have no type, so that SQLite
/// stores and compares what it is given and converts nothing.
pub(crate) const COLUMNS: [(&str, Kind); 8] = [
    ("k", Kind::Int),
    ("i", Kind::Int),
    ("b", Kind::Long),
    ("d", Kind::Double),
    ("p", Kind::Bool),
    ("q", Kind::Bool),
    ("s", Kind::Text),
    ("t", Kind::Text),
];

/// A query in both spellings, over these rows.
#[derive(Clone, Debug)]
pub(crate) struct Contest {
    pub(crate) ours: String,
    pub(crate) theirs: String,
    pub(crate) rows: Vec<Vec<Value>>,
}

/// The stream of [`COLUMNS`].
pub(crate) fn definition() -> String {
    let columns = COLUMNS.map(|(name, kind)| format!("{name} {}", kind.name()));
    format!("CREATE STREAM S ({});\n", columns.join(", "))
}

fn columns() -> Leaves {
    // Halves and quarters: two binary digits behind the point.
    let leaf = |(name, kind)| column(name, kind, 9.0, if kind == Kind::Double { 2 } else { 0 });
    COLUMNS.map(leaf).to_vec()
}

fn rows(tape: &mut Tape<'_>, count: usize) -> Vec<Vec<Value>> {
    (0..count)
        .map(|_| COLUMNS.map(|(name, kind)| value(tape, name, kind)).to_vec())
        .collect()
}

fn value(tape: &mut Tape<'_>, name: &str, kind: Kind) -> Value {
    if tape.rarely(6) {
        return Value::Null;
    }
    let below = if name == "k" { 3 } else { 19 };
    let number = i32::try_from(tape.below(below)).unwrap();
    let number = if name == "k" || number < 10 {
        number
    } else {
        9 - number
    };
    match kind {
        Kind::Int | Kind::Long => Value::Int(i64::from(number)),
        Kind::Double => Value::Float(f64::from(number) * tape.one_of(&[1.0, 0.5, 0.25])),
        Kind::Bool => Value::Bool(number % 2 == 1),
        Kind::Text => Value::text(tape.one_of(&TEXTS)),
    }
}

const KINDS: [Kind; 5] = [Kind::Int, Kind::Bool, Kind::Double, Kind::Long, Kind::Text];

fn any(tape: &mut Tape<'_>, leaves: &Leaves, depth: usize) -> Expression {
    let kind = tape.one_of(&KINDS);
    expression(tape, leaves, kind, depth)
}

/// `SELECT … FROM S WHERE …`: a row for each row.
pub(crate) fn plain(tape: &mut Tape<'_>, count: usize) -> Contest {
    let leaves = columns();
    let select: Vec<Expression> = (0..4).map(|_| any(tape, &leaves, 4)).collect();
    let filter = clause(tape, "WHERE", &leaves, 3);
    let text = |select: String, filter: &str| format!("SELECT {select} FROM S{filter}");
    Contest {
        ours: text(items(&select, |one| &one.ours), &filter.0),
        theirs: text(items(&select, |one| &one.theirs), &filter.1) + " ORDER BY seq",
        rows: rows(tape, count),
    }
}

/// A condition behind a word, or nothing, in both spellings.
fn clause(tape: &mut Tape<'_>, word: &str, leaves: &Leaves, depth: usize) -> (String, String) {
    if tape.below(2) == 0 {
        return (String::new(), String::new());
    }
    let condition = expression(tape, leaves, Kind::Bool, depth);
    (
        format!(" {word} {}", condition.ours),
        format!(" {word} {}", condition.theirs),
    )
}

fn items(items: &[Expression], text: impl Fn(&Expression) -> &String) -> String {
    let items = items.iter().zip(0..);
    let items: Vec<String> = items
        .map(|(one, place)| format!("{} AS c{place}", text(one)))
        .collect();
    items.join(", ")
}

/// A batch of all rows, with ORDER BY and LIMIT, in groups or not.
pub(crate) fn batch(tape: &mut Tape<'_>, count: usize) -> Contest {
    let leaves = columns();
    let keys: Vec<Expression> = (0..tape.below(3)).map(|_| key(tape, &leaves)).collect();
    let aggregates: Vec<Expression> = (0..tape.below(4)).map(|_| aggregate(tape)).collect();
    let grouped = !keys.is_empty() || !aggregates.is_empty();
    // Of the rows of a group SQLite gives any, we the last: only what is the same in all of them
    // and aggregates are read.
    let groups: Leaves = keys
        .iter()
        .chain(&aggregates)
        .map(Expression::whole)
        .collect();
    let seen = if grouped { &groups } else { &leaves };
    let mut select: Vec<Expression> = (0..3).map(|_| any(tape, seen, 2)).collect();
    // An aggregate that only HAVING names makes a group as well, here as there.
    select.extend(groups.iter().cloned());
    let (filter, window) = if tape.below(2) == 0 {
        let window = format!("'lengthBatch', {count}");
        ((String::new(), String::new()), window)
    } else {
        // WHERE stands before the window, which therefore cannot count to `count`.
        let window = "'timeBatch', 1 HOUR".to_owned();
        (clause(tape, "WHERE", &leaves, 2), window)
    };
    let items = [
        items(&select, |one| &one.ours),
        items(&select, |one| &one.theirs),
    ];
    let (mut ours, mut theirs) = (
        format!("SELECT {} FROM S WINDOW({window}){}", items[0], filter.0),
        format!("SELECT {} FROM S{}", items[1], filter.1),
    );
    if grouped {
        let having = groups_and_having(tape, &keys, seen);
        ours += &having.0;
        theirs += &having.1;
    }
    // Ties stay in the order of arrival; groups come in the order of their first rows.
    let arrival = if grouped { "min(seq)" } else { "seq" };
    let (order, limit) = (order(tape, &select), limit(tape));
    ours += &(order.0 + &limit.0);
    theirs += &format!(" ORDER BY {}{arrival}{}", order.1, limit.1);
    Contest {
        ours,
        theirs,
        rows: rows(tape, count),
    }
}

fn groups_and_having(tape: &mut Tape<'_>, keys: &[Expression], seen: &Leaves) -> (String, String) {
    let (mut ours, mut theirs) = (String::new(), String::new());
    if !keys.is_empty() {
        let list = |keys: Vec<String>| format!(" GROUP BY {}", keys.join(", "));
        ours = list(keys.iter().map(|key| key.ours.clone()).collect());
        // SQLite takes a key that it can compute beforehand for the number of a column.
        let hidden = keys
            .iter()
            .map(|key| format!("ifnull({}, NULL)", key.theirs));
        theirs = list(hidden.collect());
    }
    // Without any row we give none, SQLite a row of nothing.
    theirs += " HAVING count(*) > 0";
    if tape.below(2) == 1 {
        let condition = expression(tape, seen, Kind::Bool, 2);
        ours += &format!(" HAVING {}", condition.ours);
        theirs += &format!(" AND ({})", condition.theirs);
    }
    (ours, theirs)
}

fn key(tape: &mut Tape<'_>, leaves: &Leaves) -> Expression {
    if tape.below(2) == 0 {
        return leaves[tape.one_of(&[0, 4, 6, 1, 3])].clone();
    }
    let key = any(tape, leaves, 2);
    if key.reads { key } else { leaves[0].clone() }
}

fn aggregate(tape: &mut Tape<'_>) -> Expression {
    let leaves = columns();
    let mut made = match tape.below(8) {
        0 => column("count(*)", Kind::Long, 64.0, 0),
        1 => {
            let argument = any(tape, &leaves, 2);
            let distinct = tape.one_of(&["", "DISTINCT "]);
            let mut count = over("count", Kind::Long, distinct, &argument);
            (count.most, count.fraction) = (64.0, Some(0));
            count
        }
        2 | 3 => sum(tape, &leaves),
        4 => {
            let argument = expression(tape, &leaves, Kind::Bool, 2);
            // SQLite has no truth values: false is 0, and true is 1.
            let (function, theirs) = tape.one_of(&[("bool_and", "min"), ("bool_or", "max")]);
            let mut made = over(function, Kind::Bool, "", &argument);
            made.theirs = format!("{theirs}({})", argument.theirs);
            made
        }
        5 => {
            let argument = expression(tape, &leaves, Kind::Text, 2);
            let mut joined = over("string_agg", Kind::Text, "", &argument);
            joined.ours = format!("string_agg({}, '-')", argument.ours);
            // SQLite promises no order unless it is asked for.
            joined.theirs = format!("group_concat({}, '-' ORDER BY seq)", argument.theirs);
            joined
        }
        _ => {
            let function = tape.one_of(&["min", "max"]);
            let argument = any(tape, &leaves, 2);
            over(function, argument.kind, "", &argument)
        }
    };
    if tape.below(4) < 3 {
        return made;
    }
    let condition = expression(tape, &leaves, Kind::Bool, 2);
    made.ours += &format!(" FILTER (WHERE {})", condition.ours);
    made.theirs += &format!(" FILTER (WHERE {})", condition.theirs);
    made
}

/// An aggregate over an argument, as large as that can get.
fn over(function: &str, kind: Kind, distinct: &str, argument: &Expression) -> Expression {
    let mut made = column("", kind, argument.most, 0);
    made.ours = format!("{function}({distinct}{})", argument.ours);
    made.theirs = format!("{function}({distinct}{})", argument.theirs);
    made.fraction = argument.fraction;
    made
}

/// Sums are compared to the last digit: only those that are exact whatever is added first.
fn sum(tape: &mut Tape<'_>, leaves: &Leaves) -> Expression {
    let kind = tape.one_of(&[Kind::Int, Kind::Long, Kind::Double]);
    let mut argument = expression(tape, leaves, kind, 2);
    if !argument.sums_exactly() {
        argument = leaves[3].clone();
    }
    let distinct = tape.one_of(&["", "", "DISTINCT "]);
    let mut made = if tape.below(2) == 0 {
        let kind = if argument.kind == Kind::Double {
            Kind::Double
        } else {
            Kind::Long
        };
        over("sum", kind, distinct, &argument)
    } else {
        let mut mean = over("avg", Kind::Double, distinct, &argument);
        mean.fraction = None;
        mean
    };
    made.most *= 64.0;
    made
}

/// Keys of ORDER BY, each followed by a comma in SQLite's spelling. NULL is the largest of all
/// here, the smallest there, unless it is said.
fn order(tape: &mut Tape<'_>, select: &[Expression]) -> (String, String) {
    let mut ours = Vec::new();
    let mut theirs = String::new();
    for _ in 0..tape.below(3) {
        let place = tape.below(select.len());
        if !select[place].reads {
            continue;
        }
        let direction = tape.one_of(&["", " DESC", " ASC"]);
        let nulls = tape.one_of(&["", " NULLS FIRST", " NULLS LAST"]);
        let said = match (nulls, direction) {
            ("", " DESC") => " NULLS FIRST",
            ("", _) => " NULLS LAST",
            (said, _) => said,
        };
        ours.push(format!("c{place}{direction}{nulls}"));
        theirs += &format!("c{place}{direction}{said}, ");
    }
    let ours = if ours.is_empty() {
        String::new()
    } else {
        format!(" ORDER BY {}", ours.join(", "))
    };
    (ours, theirs)
}

fn limit(tape: &mut Tape<'_>) -> (String, String) {
    let limit = tape.one_of(&[None, None, Some(2), Some(5), Some(1), Some(0)]);
    let offset = tape.one_of(&[None, None, Some(1), Some(3)]);
    let ours = [
        limit.map(|limit| format!(" LIMIT {limit}")),
        offset.map(|offset| format!(" OFFSET {offset}")),
    ];
    // SQLite has no OFFSET without a LIMIT.
    let theirs = format!(
        " LIMIT {} OFFSET {}",
        limit.unwrap_or(-1),
        offset.unwrap_or(0)
    );
    (ours.into_iter().flatten().collect(), theirs)
}
