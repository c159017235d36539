//! Patterns that the bytes choose, most of them right: each parses, binds and can be explained, or
//! its faults can be drawn.
#![no_main]

use eventflux::sql::{self, SqlText};
use libfuzzer_sys::fuzz_target;

const STREAMS: &str = "CREATE STREAM A (k STRING, x INT, y DOUBLE);\n\
    CREATE STREAM B (k STRING, x INT, y DOUBLE);\n\
    CREATE STREAM C (x INT, j JSON);\n";

/// Levels of groups and of operators in a condition.
const DEPTH_MAX: usize = 4;

fuzz_target!(|bytes: &[u8]| {
    let text = Writer { bytes, depth: 0, elements: 0 }.application();
    let texts = [SqlText { path: "fuzz".to_owned(), text: text.clone() }];
    match sql::compile(&texts) {
        Ok(plan) => drop(sql::explain::explain(&plan)),
        Err(faults) => {
            assert!(!faults.is_empty());
            faults.iter().for_each(|fault| drop(fault.render(&text)));
        }
    }
});

/// Writes what the bytes say; when they are used up, what is shortest.
struct Writer<'a> {
    bytes: &'a [u8],
    depth: usize,
    /// How many elements there are; element 3 is called `e3`.
    elements: usize,
}

impl Writer<'_> {
    fn byte(&mut self) -> usize {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                usize::from(*first)
            }
            None => 0,
        }
    }

    /// One of these; the first is the plainest.
    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.byte() % of.len()]
    }

    fn application(mut self) -> String {
        if self.byte() % 4 == 3 {
            return format!("{STREAMS}{};", self.match_recognize());
        }
        let kind = self.one(&["PATTERN", "SEQUENCE"]);
        let arrow = if kind == "SEQUENCE" { self.one(&[" -> ", ", "]) } else { "->" };
        let chain = self.chain(arrow);
        let bound = self.one(&[" WITHIN 5 SECONDS", " WITHIN 3 EVENTS"]);
        let [inside, behind] = match self.byte() % 16 {
            0..=4 => ["", ""],
            5..=9 => [bound, ""],
            10..=14 => ["", bound],
            _ => [bound, bound],
        };
        let skips = ["", " AFTER MATCH SKIP PAST LAST ROW", " AFTER MATCH SKIP TO NEXT ROW"];
        let skip = self.one(&skips);
        let filter = match self.byte() % 4 {
            1 => format!(" WHERE {}", self.truth()),
            _ => String::new(),
        };
        let item = self.value();
        let clauses =
            ["", " PARTITION BY k", " GROUP BY e0.k", " LIMIT 3", " OUTPUT ALL EVERY 5 EVENTS"];
        let clause = self.one(&clauses);
        let from = format!("{kind} ({chain}{inside}){behind}{skip}{filter}");
        if self.byte() % 2 == 1 {
            return format!("{STREAMS}FROM {from} SELECT {item} AS a{clause} INSERT INTO Out;");
        }
        let query = format!("INSERT INTO Out SELECT {item} AS a FROM {from}{clause};");
        match self.byte() % 4 {
            1 => format!("{STREAMS}PARTITION WITH (k OF A, k OF B) BEGIN {query} END;"),
            _ => format!("{STREAMS}{query}"),
        }
    }

    fn chain(&mut self, arrow: &str) -> String {
        let mut text = self.logical(arrow);
        while self.byte() % 3 == 1 && self.elements < 70 {
            text = format!("{text}{arrow}{}", self.logical(arrow));
        }
        text
    }

    fn logical(&mut self, arrow: &str) -> String {
        let joint = self.one(&[" AND ", " OR "]);
        let mut text = self.unit(arrow);
        while self.byte() % 4 == 1 {
            text = format!("{text}{joint}{}", self.unit(arrow));
        }
        text
    }

    fn unit(&mut self, arrow: &str) -> String {
        let choice = self.byte() % 8;
        let every = if choice >= 4 { "EVERY " } else { "" };
        match choice % 4 {
            1 if self.depth < DEPTH_MAX => {
                self.depth += 1;
                let chain = self.chain(arrow);
                self.depth -= 1;
                format!("{every}({chain})")
            }
            2 => {
                let span = self.one(&["", " FOR 5 SECONDS", " FOR 1"]);
                let stream = self.one(&["A", "B", "A", "C"]);
                let condition = self.condition();
                let brackets = if every.is_empty() { ["", ""] } else { ["(", ")"] };
                let [open, close] = brackets;
                format!("{every}{open}NOT {stream}{condition}{span}{close}")
            }
            _ => format!("{every}{}", self.element()),
        }
    }

    fn element(&mut self) -> String {
        let stream = self.one(&["A", "B", "A", "C"]);
        let quantifier = self.quantifier();
        let name = format!("e{}", self.elements);
        self.elements += 1;
        let condition = self.condition();
        match self.byte() % 4 {
            1 => format!("{stream}{condition} AS {name}{quantifier}"),
            2 => format!("{name}={stream}{quantifier}{condition}"),
            3 => format!("{stream}{condition}{quantifier}"),
            _ => format!("{name}={stream}{condition}{quantifier}"),
        }
    }

    fn quantifier(&mut self) -> &'static str {
        match self.byte() % 32 {
            31 => self.one(&["{3,2}", "{0}", "{,}"]),
            16..=30 => self.one(&["+", "*", "?", "{2}", "{1,3}", "{2,}", "{,2}"]),
            _ => "",
        }
    }

    fn condition(&mut self) -> String {
        match self.byte() % 2 {
            1 => format!("[{}]", self.truth()),
            _ => String::new(),
        }
    }

    /// Whether something is now and then not as it should be.
    fn fault(&mut self) -> bool {
        self.byte() % 32 == 31
    }

    fn truth(&mut self) -> String {
        if self.depth >= DEPTH_MAX || self.fault() {
            return self.one(&["TRUE", "x", "NULL", "5"]).to_owned();
        }
        self.depth += 1;
        let text = match self.byte() % 6 {
            1 => format!("{} = {}", self.value(), self.value()),
            2 => format!("({} AND {})", self.truth(), self.truth()),
            3 => format!("({} OR NOT {})", self.truth(), self.truth()),
            4 => format!("{} IS NULL", self.reference()),
            5 => format!("{} IN ({}, 3)", self.reference(), self.value()),
            _ => format!("{} > {}", self.value(), self.value()),
        };
        self.depth -= 1;
        text
    }

    fn value(&mut self) -> String {
        if self.depth >= DEPTH_MAX {
            return "1".to_owned();
        }
        self.depth += 1;
        let text = match self.byte() % 8 {
            1 => format!("{} + {}", self.value(), self.value()),
            2 => format!("count({})", self.name()),
            3 => {
                let call = self.one(&["sum", "first", "last", "stddev", "median", "abs"]);
                format!("{call}({}.{})", self.name(), self.column())
            }
            4 => format!("event_time({})", self.name()),
            _ => self.reference(),
        };
        self.depth -= 1;
        text
    }

    fn column(&mut self) -> &'static str {
        if self.fault() {
            return self.one(&["k", "j", "nosuch", "*"]);
        }
        self.one(&["x", "y"])
    }

    fn reference(&mut self) -> String {
        let column = self.column();
        if self.byte() % 4 == 1 {
            return column.to_owned();
        }
        let name = self.name();
        let rows = match self.fault() {
            true => self.one(&["[-1]", "[x]", "[0][1]", "[99999999999]"]),
            false => self.one(&["", "[0]", "[1]", "[last]", "[last-1]", "[last - 2]"]),
        };
        format!("{name}{rows}.{column}")
    }

    /// An element that there is already, mostly.
    fn name(&mut self) -> String {
        match self.byte() % 32 {
            31 => self.one(&["A", "B", "C", "e99"]).to_owned(),
            choice => format!("e{}", choice % self.elements.max(1)),
        }
    }

    fn match_recognize(&mut self) -> String {
        let mut variables = String::new();
        let mut defined = Vec::new();
        loop {
            let joint = if variables.is_empty() { "" } else { self.one(&[" ", " | "]) };
            let name = format!("e{}", self.elements);
            self.elements += 1;
            variables = format!("{variables}{joint}{name}{}", self.quantifier());
            if self.byte() % 2 == 1 {
                defined.push(format!("{name} AS {}", self.navigation("> 1")));
            }
            if self.byte() % 3 != 1 || self.elements > 70 {
                break;
            }
        }
        let keys = self.one(&["", "PARTITION BY k "]);
        let skip = self.one(&["", "AFTER MATCH SKIP TO NEXT ROW "]);
        let within = self.one(&["", " WITHIN 5 SECONDS"]);
        let measure = self.navigation("+ 1");
        let define = if defined.is_empty() { "" } else { " DEFINE " };
        format!(
            "INSERT INTO Out SELECT * FROM A MATCH_RECOGNIZE ({keys}MEASURES {measure} AS m \
             {skip}PATTERN ({variables}){within}{define}{}) AS r",
            defined.join(", ")
        )
    }

    /// An expression of MATCH_RECOGNIZE, with `end` behind it.
    fn navigation(&mut self, end: &str) -> String {
        let name = self.name();
        let value = match self.byte() % 6 {
            1 => format!("coalesce(FIRST({name}.x), 2)"),
            2 => format!("LAST({name}.x, {}) + FIRST({name}.y)", self.byte()),
            3 if self.fault() => self.one(&["FINAL LAST(x)", "PREV(x)", "count(*)"]).to_owned(),
            3 => {
                let times = if end.starts_with('>') { "RUNNING" } else { "FINAL" };
                format!("{times} LAST({name}.x) + {name}.y")
            }
            4 => format!("count({name}.*) + sum({name}.x * 2) + {}", self.value()),
            _ => self.value(),
        };
        format!("{value} {end}")
    }
}
