//! Random expressions, each in two spellings: ours and SQLite's. Where the two languages differ,
//! the difference is mapped or avoided here, and said.
//!
//! A number knows how large it can get. Whatever could leave the range of its type is not
//! generated: we give NULL on overflow, SQLite goes on with floating point. Integers stay below
//! 2^53, so that it does not matter where they become floats.

use crate::tape::Tape;

/// The types that are generated. SQLite has no BOOLEAN: it computes with 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Long,
    Double,
    Bool,
    Text,
}

impl Kind {
    pub(crate) fn is_number(self) -> bool {
        matches!(self, Kind::Int | Kind::Long | Kind::Double)
    }

    /// Our name of the type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Int => "INT",
            Kind::Long => "BIGINT",
            Kind::Double => "DOUBLE",
            Kind::Bool => "BOOLEAN",
            Kind::Text => "STRING",
        }
    }

    fn most(self) -> f64 {
        match self {
            Kind::Int => 2_147_483_647.0,
            Kind::Long => 9_007_199_254_740_992.0,
            Kind::Double => 1e100,
            Kind::Bool | Kind::Text => f64::MAX,
        }
    }
}

/// How tightly the outermost operator of an expression binds, the same in both languages. What is
/// not among these is put into parentheses: there the languages differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Binds {
    Or,
    And,
    Not,
    Sum,
    Product,
    Whole,
}

/// An expression in both spellings.
#[derive(Clone, Debug)]
pub(crate) struct Expression {
    pub(crate) ours: String,
    pub(crate) theirs: String,
    pub(crate) kind: Kind,
    /// Its absolute value is at most this, if it is a number.
    pub(crate) most: f64,
    /// The number of binary digits behind the point; `None` when that is not known.
    pub(crate) fraction: Option<u32>,
    /// Whether it reads a column. Constants are no keys.
    pub(crate) reads: bool,
    binds: Binds,
}

/// What an expression may read: columns, or keys and aggregates.
pub(crate) type Leaves = Vec<Expression>;

/// A column whose values are at most `most`, with so many binary digits behind the point.
pub(crate) fn column(name: &str, kind: Kind, most: f64, fraction: u32) -> Expression {
    Expression {
        ours: name.to_owned(),
        theirs: name.to_owned(),
        kind,
        most,
        fraction: Some(fraction),
        reads: true,
        binds: Binds::Whole,
    }
}

impl Expression {
    /// The same text in both languages, made from the operands in order.
    fn of(
        kind: Kind,
        binds: Binds,
        operands: &[&Expression],
        text: impl Fn(&[&str]) -> String,
    ) -> Expression {
        let ours: Vec<&str> = operands.iter().map(|one| one.ours.as_str()).collect();
        let theirs: Vec<&str> = operands.iter().map(|one| one.theirs.as_str()).collect();
        let mut fractions = operands.iter().map(|one| one.fraction);
        Expression {
            ours: text(&ours),
            theirs: text(&theirs),
            kind,
            most: operands.iter().map(|one| one.most).fold(0.0, f64::max),
            fraction: fractions.try_fold(0, |most, one| Some(most.max(one?))),
            reads: operands.iter().any(|one| one.reads),
            binds,
        }
    }

    fn call(kind: Kind, operands: &[&Expression], text: impl Fn(&[&str]) -> String) -> Expression {
        Expression::of(kind, Binds::Whole, operands, text)
    }

    /// As an operand of something that binds like `binds`.
    fn within(&self, binds: Binds) -> Expression {
        if self.binds >= binds {
            return self.clone();
        }
        let mut whole = self.clone();
        whole.ours = format!("({})", self.ours);
        whole.theirs = format!("({})", self.theirs);
        whole.binds = Binds::Whole;
        whole
    }

    /// As an operand of something that the languages may bind differently.
    pub(crate) fn whole(&self) -> Expression {
        self.within(Binds::Whole)
    }

    /// Whether the sum of a few of them is exact, in whatever order and way it is computed: there
    /// are few binary digits before and behind the point.
    pub(crate) fn sums_exactly(&self) -> bool {
        let scale = |digits: u32| f64::from(digits).exp2();
        self.fraction
            .is_some_and(|digits| self.most.max(1.0) * scale(digits) < scale(46))
    }
}

/// An expression of type `kind`, at most `depth` operators deep.
pub(crate) fn expression(
    tape: &mut Tape<'_>,
    leaves: &Leaves,
    kind: Kind,
    depth: usize,
) -> Expression {
    if depth == 0 || tape.below(5) == 0 {
        return leaf(tape, leaves, kind);
    }
    let made = match kind {
        Kind::Int | Kind::Long | Kind::Double => number(tape, leaves, kind, depth - 1),
        Kind::Bool => boolean(tape, leaves, depth - 1),
        Kind::Text => text(tape, leaves, depth - 1),
    };
    if made.most <= kind.most() {
        made
    } else {
        leaf(tape, leaves, kind)
    }
}

fn leaf(tape: &mut Tape<'_>, leaves: &Leaves, kind: Kind) -> Expression {
    let fitting: Vec<&Expression> = leaves.iter().filter(|one| one.kind == kind).collect();
    match tape.below(16) {
        0..12 if !fitting.is_empty() => (*tape.one_of(&fitting)).clone(),
        15 => null(kind),
        _ => literal(tape, kind),
    }
}

/// NULL of a type. SQLite's NULL has none, and no name for most of ours.
fn null(kind: Kind) -> Expression {
    Expression {
        ours: format!("CAST(NULL AS {})", kind.name()),
        theirs: "NULL".to_owned(),
        kind,
        most: 0.0,
        fraction: Some(0),
        reads: false,
        binds: Binds::Whole,
    }
}

/// Texts without letters that have another case only outside of ASCII: SQLite changes no others,
/// neither in upper() nor in LIKE.
pub(crate) const TEXTS: [&str; 12] = [
    "", "a", "ab", "B", "aB", "温", "a温b", " a ", "%", "_", "a_b", "ba%",
];

const PATTERNS: [&str; 10] = ["%", "a%", "%b", "_", "a_", "%a%", "", "_温%", "A%B", "!%%"];

fn literal(tape: &mut Tape<'_>, kind: Kind) -> Expression {
    let number = tape.below(6);
    let text = match kind {
        Kind::Int => number.to_string(),
        Kind::Long => format!("CAST({number} AS BIGINT)"),
        Kind::Double => format!("{number}.{}", tape.one_of(&[0, 25, 5])),
        Kind::Bool => tape.one_of(&["TRUE", "FALSE"]).to_owned(),
        Kind::Text => format!("'{}'", tape.one_of(&TEXTS)),
    };
    Expression {
        ours: text.clone(),
        theirs: text,
        kind,
        most: 7.0,
        fraction: Some(2),
        reads: false,
        binds: Binds::Whole,
    }
}

/// Any type of number that widens to `kind` by itself.
fn narrower(tape: &mut Tape<'_>, kind: Kind) -> Kind {
    match kind {
        Kind::Double => tape.one_of(&[Kind::Double, Kind::Int, Kind::Long]),
        Kind::Long => tape.one_of(&[Kind::Long, Kind::Int]),
        Kind::Int | Kind::Bool | Kind::Text => kind,
    }
}

fn number(tape: &mut Tape<'_>, leaves: &Leaves, kind: Kind, depth: usize) -> Expression {
    let one = |tape: &mut Tape<'_>| expression(tape, leaves, kind, depth);
    match tape.below(9) {
        0..3 => arithmetic(tape, leaves, kind, depth),
        3 => {
            let x = one(tape).whole();
            if tape.below(2) == 0 {
                Expression::of(kind, Binds::Product, &[&x], |x| format!("-{}", x[0])).whole()
            } else {
                Expression::call(kind, &[&x], |x| format!("abs({})", x[0]))
            }
        }
        4 if kind == Kind::Double => quotient(tape, leaves, depth),
        4 => remainder(tape, leaves, kind, depth),
        5 if kind == Kind::Double => {
            let from = tape.one_of(&[Kind::Int, Kind::Long]);
            let x = expression(tape, leaves, from, depth);
            let mut cast = Expression::call(kind, &[&x], |x| format!("CAST({} AS", x[0]));
            cast.ours.push_str(" DOUBLE)");
            cast.theirs.push_str(" REAL)");
            cast
        }
        5 => {
            let from = tape.one_of(&[Kind::Double, Kind::Int, Kind::Long, Kind::Bool]);
            let x = expression(tape, leaves, from, depth);
            let name = kind.name();
            let mut cast = Expression::call(kind, &[&x], |x| format!("CAST({} AS {name})", x[0]));
            // SQLite clamps what does not fit, we give NULL: `most` is then too much for `kind`.
            cast.most = if from == Kind::Bool { 1.0 } else { x.most };
            cast.fraction = Some(0);
            cast
        }
        6 if kind == Kind::Double => {
            let x = expression(tape, leaves, kind, depth);
            // Far behind the point they find different digits.
            let exact = x.sums_exactly();
            let function = if exact { "round" } else { "abs" };
            Expression::call(kind, &[&x], |x| format!("{function}({})", x[0]))
        }
        6 if kind == Kind::Int && tape.rarely(3) => {
            let x = expression(tape, leaves, Kind::Double, depth);
            let mut sign = Expression::call(kind, &[&x], |x| format!("sign({})", x[0]));
            (sign.most, sign.fraction) = (1.0, Some(0));
            sign
        }
        6 if kind == Kind::Int => {
            let s = expression(tape, leaves, Kind::Text, depth);
            let mut of_text = if tape.below(2) == 0 {
                Expression::call(kind, &[&s], |s| format!("length({})", s[0]))
            } else {
                let part = expression(tape, leaves, Kind::Text, 0);
                Expression::call(kind, &[&s, &part], |s| format!("instr({}, {})", s[0], s[1]))
            };
            of_text.most = 10_000.0;
            of_text.fraction = Some(0);
            of_text
        }
        _ => alternatives(tape, leaves, kind, depth),
    }
}

fn arithmetic(tape: &mut Tape<'_>, leaves: &Leaves, kind: Kind, depth: usize) -> Expression {
    let other = narrower(tape, kind);
    let mut operands = [
        expression(tape, leaves, kind, depth),
        expression(tape, leaves, other, depth),
    ];
    if tape.below(2) == 1 {
        operands.reverse();
    }
    let [x, y] = operands;
    let operator = tape.one_of(&["+", "-", "*"]);
    let binds = if operator == "*" {
        Binds::Product
    } else {
        Binds::Sum
    };
    // Operators of one rank go from left to right.
    let (x, y) = match binds {
        Binds::Product => (x.within(Binds::Product), y.whole()),
        _ => (x.within(Binds::Sum), y.within(Binds::Product)),
    };
    let mut result = Expression::of(kind, binds, &[&x, &y], |xy| {
        format!("{} {operator} {}", xy[0], xy[1])
    });
    if binds == Binds::Product {
        result.most = x.most * y.most;
        result.fraction = x.fraction.zip(y.fraction).map(|(x, y)| x + y);
    } else {
        result.most = x.most + y.most;
    }
    result
}

/// `/` of integers cuts the fraction off in SQLite, ours is always DOUBLE.
fn quotient(tape: &mut Tape<'_>, leaves: &Leaves, depth: usize) -> Expression {
    let kinds = [Kind::Int, Kind::Long, Kind::Double];
    let (of_x, of_y) = (tape.one_of(&kinds), tape.one_of(&kinds));
    let x = expression(tape, leaves, of_x, depth);
    let y = expression(tape, leaves, of_y, depth).whole();
    let left = x.within(Binds::Product);
    let mut result = Expression::of(Kind::Double, Binds::Product, &[&left, &y], |xy| {
        format!("{} / {}", xy[0], xy[1])
    });
    result.theirs = format!("CAST({} AS REAL) / {}", x.theirs, y.theirs);
    // A divisor may be as small as 2^-60: what follows must not become infinite.
    result.most = 1e30 * x.most.max(1.0);
    result.fraction = None;
    result
}

/// `%` of floats turns them into integers first in SQLite; of integers it is the same.
fn remainder(tape: &mut Tape<'_>, leaves: &Leaves, kind: Kind, depth: usize) -> Expression {
    let other = narrower(tape, kind);
    let x = expression(tape, leaves, kind, depth).within(Binds::Product);
    let y = expression(tape, leaves, other, depth).whole();
    if tape.below(2) == 0 {
        return Expression::of(kind, Binds::Product, &[&x, &y], |xy| {
            format!("{} % {}", xy[0], xy[1])
        });
    }
    // Their `/` of integers is our div().
    let mut result = Expression::call(kind, &[&x.whole(), &y], |xy| {
        format!("({} / {})", xy[0], xy[1])
    });
    result.ours = format!("div({}, {})", x.ours, y.ours);
    result
}

/// Forms that are alike for all types. One of the alternatives may have to be widened.
fn alternatives(tape: &mut Tape<'_>, leaves: &Leaves, kind: Kind, depth: usize) -> Expression {
    let other = narrower(tape, kind);
    let mut operands = [
        expression(tape, leaves, kind, depth),
        expression(tape, leaves, other, depth),
    ];
    if tape.below(2) == 1 {
        operands.reverse();
    }
    let [x, y] = &operands;
    let of_two = |function: &str| {
        Expression::call(kind, &[x, y], |x| format!("{function}({}, {})", x[0], x[1]))
    };
    // Conditions have no part in how large the result can get.
    let chosen = |conditions: [&Expression; 2], text: &dyn Fn([&str; 4]) -> String| {
        let [first, second] = conditions;
        let mut result = Expression::call(kind, &[x, y], |_| String::new());
        result.ours = text([&first.ours, &second.ours, &x.ours, &y.ours]);
        result.theirs = text([&first.theirs, &second.theirs, &x.theirs, &y.theirs]);
        result.reads |= first.reads || second.reads;
        result
    };
    match tape.below(7) {
        0 => of_two("coalesce"),
        1 => of_two("nullif"),
        2 => of_two("ifnull"),
        3 => {
            // Beside a value we pass over NULL, SQLite does not.
            let (function, theirs) = tape.one_of(&[("greatest", "max"), ("least", "min")]);
            let mut result = of_two(function);
            let (x, y) = (&x.theirs, &y.theirs);
            result.theirs = format!("coalesce({theirs}({x}, {y}), {x}, {y})");
            result
        }
        4 => {
            let condition = expression(tape, leaves, Kind::Bool, depth);
            let mut result = chosen([&condition, &condition], &|[condition, _, x, y]| {
                format!("if({condition}, {x}, {y})")
            });
            // SQLite calls it iif.
            result.theirs = format!("iif({}, {}, {})", condition.theirs, x.theirs, y.theirs);
            result
        }
        5 => {
            let first = expression(tape, leaves, Kind::Bool, depth);
            let second = expression(tape, leaves, Kind::Bool, depth);
            let otherwise = tape.below(2) == 0;
            chosen([&first, &second], &|[first, second, x, y]| {
                let end = if otherwise {
                    format!(" ELSE {y}")
                } else {
                    String::new()
                };
                format!("CASE WHEN {first} THEN {x} WHEN {second} THEN {y}{end} END")
            })
        }
        _ => {
            let [subject, value] = comparable(tape, leaves, depth);
            chosen([&subject, &value], &|[subject, value, x, y]| {
                format!("CASE {subject} WHEN NULL THEN {x} WHEN {value} THEN {x} ELSE {y} END")
            })
        }
    }
}

/// Two operands that can be compared. Text and number cannot, in ours; SQLite has an order even
/// for those.
fn comparable(tape: &mut Tape<'_>, leaves: &Leaves, depth: usize) -> [Expression; 2] {
    let kind = tape.one_of(&[Kind::Int, Kind::Long, Kind::Double, Kind::Text, Kind::Bool]);
    let other = if kind.is_number() {
        tape.one_of(&[Kind::Int, Kind::Long, Kind::Double])
    } else {
        kind
    };
    let x = expression(tape, leaves, kind, depth).within(Binds::Sum);
    let y = expression(tape, leaves, other, depth).within(Binds::Sum);
    [x, y]
}

fn boolean(tape: &mut Tape<'_>, leaves: &Leaves, depth: usize) -> Expression {
    let kind = Kind::Bool;
    let one = |tape: &mut Tape<'_>| expression(tape, leaves, kind, depth);
    match tape.below(13) {
        0..4 => {
            let [x, y] = comparable(tape, leaves, depth);
            let operator = tape.one_of(&["=", "<", ">", "<=", ">=", "<>"]);
            Expression::call(kind, &[&x, &y], |x| {
                format!("({} {operator} {})", x[0], x[1])
            })
        }
        4 => {
            let (x, y) = (one(tape).within(Binds::And), one(tape).within(Binds::Not));
            Expression::of(kind, Binds::And, &[&x, &y], |x| {
                format!("{} AND {}", x[0], x[1])
            })
        }
        5 => {
            let (x, y) = (one(tape).within(Binds::Or), one(tape).within(Binds::And));
            Expression::of(kind, Binds::Or, &[&x, &y], |x| {
                format!("{} OR {}", x[0], x[1])
            })
        }
        6 => {
            let x = one(tape).within(Binds::Not);
            Expression::of(kind, Binds::Not, &[&x], |x| format!("NOT {}", x[0]))
        }
        7 => tested(tape, leaves, depth),
        8 => between(tape, leaves, depth),
        9 => in_list(tape, leaves, depth),
        10 => like(tape, leaves, depth),
        11 => part(tape, leaves, depth),
        _ => alternatives(tape, leaves, kind, depth),
    }
}

/// `IS …`.
fn tested(tape: &mut Tape<'_>, leaves: &Leaves, depth: usize) -> Expression {
    let kind = Kind::Bool;
    let not = tape.one_of(&["", "NOT "]);
    match tape.below(4) {
        0 => {
            let any = tape.one_of(&[Kind::Int, Kind::Double, Kind::Text, Kind::Bool]);
            let x = expression(tape, leaves, any, depth).whole();
            Expression::call(kind, &[&x], |x| format!("({} IS {not}NULL)", x[0]))
        }
        1 => {
            let x = expression(tape, leaves, kind, depth).whole();
            let truth = tape.one_of(&["TRUE", "FALSE"]);
            Expression::call(kind, &[&x], |x| format!("({} IS {not}{truth})", x[0]))
        }
        2 => {
            let x = expression(tape, leaves, kind, depth).whole();
            // SQLite does not know IS UNKNOWN.
            let mut result = Expression::call(kind, &[&x], |x| format!("({} IS {not}NULL)", x[0]));
            result.ours = format!("({} IS {not}UNKNOWN)", x.ours);
            result
        }
        _ => {
            let [x, y] = comparable(tape, leaves, depth);
            let (x, y) = (x.whole(), y.whole());
            Expression::call(kind, &[&x, &y], |x| {
                format!("({} IS {not}DISTINCT FROM {})", x[0], x[1])
            })
        }
    }
}

fn between(tape: &mut Tape<'_>, leaves: &Leaves, depth: usize) -> Expression {
    let [x, low] = comparable(tape, leaves, depth);
    let high = expression(tape, leaves, low.kind, depth).within(Binds::Sum);
    let not = tape.one_of(&["", "NOT "]);
    Expression::call(Kind::Bool, &[&x, &low, &high], |x| {
        format!("({} {not}BETWEEN {} AND {})", x[0], x[1], x[2])
    })
}

fn in_list(tape: &mut Tape<'_>, leaves: &Leaves, depth: usize) -> Expression {
    let [x, first] = comparable(tape, leaves, depth);
    let kind = first.kind;
    let mut operands = vec![x.whole(), first];
    for _ in 0..tape.below(4) {
        operands.push(if tape.rarely(5) {
            // An untyped NULL takes the type of the others.
            let mut null = null(kind);
            null.ours = "NULL".to_owned();
            null
        } else {
            expression(tape, leaves, kind, depth.min(1))
        });
    }
    let not = tape.one_of(&["", "NOT "]);
    let operands: Vec<&Expression> = operands.iter().collect();
    Expression::call(Kind::Bool, &operands, |x| {
        format!("({} {not}IN ({}))", x[0], x[1..].join(", "))
    })
}

/// SQLite's LIKE heeds the case after `PRAGMA case_sensitive_like`; ILIKE it does not know.
fn like(tape: &mut Tape<'_>, leaves: &Leaves, depth: usize) -> Expression {
    let x = expression(tape, leaves, Kind::Text, depth).whole();
    let pattern = if tape.rarely(3) {
        expression(tape, leaves, Kind::Text, depth).whole()
    } else {
        let mut pattern = literal(tape, Kind::Text);
        pattern.ours = format!("'{}'", tape.one_of(&PATTERNS));
        pattern.theirs.clone_from(&pattern.ours);
        pattern
    };
    let not = tape.one_of(&["", "NOT "]);
    // No text ends with the escape character, about which the languages differ.
    let escape = tape.one_of(&["", " ESCAPE '!'"]);
    let mut result = Expression::call(Kind::Bool, &[&x, &pattern], |x| {
        format!("({} {not}LIKE {}{escape})", x[0], x[1])
    });
    if tape.rarely(3) {
        let (text, pattern) = (&x, &pattern);
        result.ours = format!("({} {not}ILIKE {}{escape})", text.ours, pattern.ours);
        result.theirs = format!(
            "(lower({}) {not}LIKE lower({}){escape})",
            text.theirs, pattern.theirs
        );
    }
    result
}

/// Functions that SQLite does not have, but can say.
fn part(tape: &mut Tape<'_>, leaves: &Leaves, depth: usize) -> Expression {
    let s = expression(tape, leaves, Kind::Text, depth);
    let part = expression(tape, leaves, Kind::Text, 0);
    let [(s, t), (part, p)] = [&s, &part].map(|one| (one, &one.theirs));
    let (function, theirs) = match tape.below(3) {
        0 => ("contains", format!("(instr({t}, {p}) > 0)")),
        1 => (
            "starts_with",
            format!("(substr({t}, 1, length({p})) = {p})"),
        ),
        // From place 0 on the whole text is meant.
        _ => (
            "ends_with",
            format!("({p} = '' AND {t} IS NOT NULL OR substr({t}, -length({p})) = {p})"),
        ),
    };
    let mut result = Expression::call(Kind::Bool, &[s, part], |x| {
        format!("{function}({}, {})", x[0], x[1])
    });
    result.theirs = theirs;
    result
}

fn text(tape: &mut Tape<'_>, leaves: &Leaves, depth: usize) -> Expression {
    let kind = Kind::Text;
    let one = |tape: &mut Tape<'_>| expression(tape, leaves, kind, depth);
    match tape.below(8) {
        0 => {
            let (x, y) = (one(tape).whole(), one(tape).whole());
            Expression::call(kind, &[&x, &y], |x| format!("({} || {})", x[0], x[1]))
        }
        1 => {
            let x = one(tape);
            let function = tape.one_of(&["upper", "lower", "trim", "ltrim", "rtrim"]);
            Expression::call(kind, &[&x], |x| format!("{function}({})", x[0]))
        }
        2 => {
            // A start below 1 counts from the end in SQLite, as does a negative length.
            let (x, start, length) = (one(tape), tape.below(4) + 1, tape.below(4));
            let mut part = Expression::call(kind, &[&x], |x| {
                format!("substring({}, {start}, {length})", x[0])
            });
            match tape.below(4) {
                0 => {
                    part.ours = format!("left({}, {length})", x.ours);
                    part.theirs = format!("substr({}, 1, {length})", x.theirs);
                }
                1 => {
                    part.ours = format!("right({}, {start})", x.ours);
                    part.theirs = format!("substr({}, -{start})", x.theirs);
                }
                _ => {}
            }
            part
        }
        3 => {
            // SQLite does not look at the third when the second is empty, not even for NULL.
            let (x, from, to) = (one(tape), one(tape), literal(tape, kind));
            Expression::call(kind, &[&x, &from, &to], |x| {
                format!("replace({}, {}, {})", x[0], x[1], x[2])
            })
        }
        4 => {
            let from = tape.one_of(&[Kind::Int, Kind::Long]);
            let x = expression(tape, leaves, from, depth);
            // BOOLEAN and DOUBLE as text differ: `true` and 1, `1e21` and `1.0e+21`.
            let mut cast = Expression::call(kind, &[&x], |x| format!("CAST({} AS", x[0]));
            cast.ours.push_str(" STRING)");
            cast.theirs.push_str(" TEXT)");
            cast
        }
        _ => alternatives(tape, leaves, kind, depth),
    }
}
