//! Patterns as text. Elements are numbered from 1 in the order in which they were written: what
//! they are called means nothing.

use super::super::plan::{
    Application, Element, Emit, Fold, Input, Overflow, Pattern, PatternKind, PatternStep, Query,
    Register, Skip, StreamInput, Take, Takes, Within,
};
use super::window::show_window;
use super::{Tree, columns_of, show, stream_name};
use crate::event::format_duration_ms as span;

/// The columns of the match row.
pub(super) fn register_columns(pattern: &Pattern, application: &Application) -> Vec<String> {
    let registers = pattern.registers.iter();
    registers
        .map(|register| show_register(register, pattern, application))
        .collect()
}

fn show_register(register: &Register, pattern: &Pattern, application: &Application) -> String {
    let number = register.element + 1;
    let columns = pattern.elements.get(register.element);
    let single =
        columns.is_some_and(|element| matches!(element.takes, Takes::Rows { max: Some(1), .. }));
    let columns = columns.map_or_else(Vec::new, |element| {
        columns_of_input(pattern.inputs.get(element.input), application)
    });
    let name = |column: &usize| columns.get(*column).map_or("?", String::as_str);
    let nth = |nth: &u64| match nth {
        0 if single => number.to_string(),
        nth => format!("{number}[{nth}]"),
    };
    let last = |back: &u64| match back {
        0 => format!("{number}[last]"),
        back => format!("{number}[last-{back}]"),
    };
    match &register.take {
        Take::Nth(row, column) => format!("{}.{}", nth(row), name(column)),
        Take::Last(back, column) => format!("{}.{}", last(back), name(column)),
        Take::NthTime(row) => format!("time({})", nth(row)),
        Take::LastTime(back) => format!("time({})", last(back)),
        Take::Count => format!("count({number})"),
        Take::Fold(fold, expr) => {
            let columns = columns.iter().map(|column| format!("{number}.{column}"));
            let columns: Vec<String> = columns.collect();
            format!("{}({})", fold_name(*fold), show(expr, &columns))
        }
    }
}

fn fold_name(fold: Fold) -> &'static str {
    match fold {
        Fold::Count => "count",
        Fold::Sum => "sum",
        Fold::Avg => "avg",
        Fold::Min => "min",
        Fold::Max => "max",
        Fold::StdDev => "stddev",
        Fold::First => "first",
        Fold::Last => "last",
    }
}

fn columns_of_input(input: Option<&StreamInput>, application: &Application) -> Vec<String> {
    let stream = input.and_then(|input| application.stream(input.stream));
    stream.map_or_else(Vec::new, |stream| {
        let all: Vec<usize> = (0..stream.schema.width()).collect();
        columns_of(&stream.schema, &all)
    })
}

/// The line for a pattern, and below it what it is made of.
pub(super) fn show_pattern(pattern: &Pattern, application: &Application, tree: &mut Tree) {
    tree.down(show_bounds(pattern));
    let shower = Shower {
        pattern,
        application,
        columns: register_columns(pattern, application),
    };
    if let Some(keys) = shower.keys() {
        tree.line(keys);
    }
    let registers = shower.columns.iter().zip(&pattern.registers);
    let registers: Vec<String> = registers
        .map(|(shown, register)| format!("{shown} {}", register.ty))
        .collect();
    tree.line(format!("match row [{}]", registers.join(", ")));
    for input in &pattern.inputs {
        if let Some(window) = &input.window {
            let columns = columns_of_input(Some(input), application);
            let window = show_window(window, Emit::Current, &columns);
            let name = stream_name(application, input.stream);
            tree.line(format!("rows of {name} through {window}"));
        }
    }
    for part in &pattern.parts {
        let depth = tree.depth;
        if part.every {
            tree.down("every".to_owned());
        }
        shower.chain(&part.steps, tree);
        tree.depth = depth;
    }
}

/// The kind of a pattern and what bounds it.
fn show_bounds(pattern: &Pattern) -> String {
    let kind = match pattern.kind {
        PatternKind::Pattern => "pattern",
        PatternKind::Sequence => "sequence",
    };
    let within = match pattern.within {
        Some(Within::Time(span_ms)) => format!(" within {}", span(span_ms)),
        Some(Within::Events(count)) => format!(" within {count} events"),
        None => String::new(),
    };
    let skip = match pattern.skip {
        Skip::Nothing => "",
        Skip::PastLastRow => ", skips past the last row of a match",
        Skip::ToNextRow => ", skips to the row behind the first one of a match",
    };
    format!("{kind}{within}{skip}")
}

/// How many partial matches there may be. Not part of the tree, and so of the fingerprint: they
/// stay when the limit is another.
pub(super) fn show_limit(pattern: &Pattern) -> String {
    let overflow = match pattern.overflow {
        Overflow::DropOldest => "drops the oldest",
        Overflow::DropNewest => "begins no other",
    };
    let (most, width) = (pattern.matches_max, pattern.registers.len());
    let plural = if width == 1 { "" } else { "s" };
    format!("at most {most} partial matches, each of {width} column{plural}, then {overflow}")
}

struct Shower<'a> {
    pattern: &'a Pattern,
    application: &'a Application,
    /// What the columns of the match row are called.
    columns: Vec<String>,
}

impl Shower<'_> {
    /// How the rows of each stream find their key.
    fn keys(&self) -> Option<String> {
        let inputs = self.pattern.inputs.iter().zip(&self.pattern.keys);
        let shown: Vec<String> = inputs
            .map(|(input, keys)| {
                let name = stream_name(self.application, input.stream);
                let Some(keys) = keys else {
                    return format!("{name} reaches every key");
                };
                let columns = columns_of_input(Some(input), self.application);
                let keys = keys.iter();
                let keys: Vec<String> = keys
                    .map(|key| format!("{} {}", show(key, &columns), key.ty))
                    .collect();
                format!("[{}] of {name}", keys.join(", "))
            })
            .collect();
        (!shown.is_empty()).then(|| format!("by key {}", shown.join(", ")))
    }

    fn chain(&self, steps: &[PatternStep], tree: &mut Tree) {
        for step in steps {
            let depth = tree.depth;
            match step {
                PatternStep::Element(number) => self.element(*number, tree),
                PatternStep::All(chains) => self.operands("all of", chains, tree),
                PatternStep::Any(chains) => self.operands("one of", chains, tree),
            }
            tree.depth = depth;
        }
    }

    fn operands(&self, what: &str, chains: &[Vec<PatternStep>], tree: &mut Tree) {
        tree.down(what.to_owned());
        for chain in chains {
            let depth = tree.depth;
            if chain.len() > 1 {
                tree.down("one after another".to_owned());
            }
            self.chain(chain, tree);
            tree.depth = depth;
        }
    }

    fn element(&self, number: usize, tree: &mut Tree) {
        let Some(element) = self.pattern.elements.get(number) else {
            return;
        };
        tree.down(show_takes(number, element, self.pattern, self.application));
        for condition in self.conditions(element) {
            tree.line(condition);
        }
    }

    /// What a row must fulfil, a line each.
    fn conditions(&self, element: &Element) -> Vec<String> {
        let input = self.pattern.inputs.get(element.input);
        let row = columns_of_input(input, self.application);
        let mut found = Vec::new();
        if let Some(filter) = &element.filter {
            found.push(format!("checked on the row {}", show(filter, &row)));
        }
        if !element.keys.is_empty() {
            let keys = element.keys.iter();
            let keys: Vec<String> = keys
                .map(|(own, known)| {
                    let (shown, known) = (show(own, &row), show(known, &self.columns));
                    format!("{shown} = {known} {}", own.ty)
                })
                .collect();
            found.push(format!("indexed by [{}]", keys.join(", ")));
        }
        if let Some(rest) = &element.rest {
            let mut both = self.columns.clone();
            both.extend(row);
            found.push(format!("checked with the match {}", show(rest, &both)));
        }
        found
    }
}

/// The number of an element, its stream and how many rows it takes.
pub(super) fn show_takes(
    number: usize,
    element: &Element,
    pattern: &Pattern,
    application: &Application,
) -> String {
    let input = pattern.inputs.get(element.input);
    let name = input.map_or("?", |input| stream_name(application, input.stream));
    let number = number + 1;
    match element.takes {
        Takes::Rows {
            min: 1,
            max: Some(1),
        } => format!("{number}: {name}"),
        Takes::Rows {
            min,
            max: Some(max),
        } => format!("{number}: {name} {{{min},{max}}}"),
        Takes::Rows { min, max: None } => format!("{number}: {name} {{{min},}}"),
        Takes::None {
            for_ms: Some(for_ms),
        } => format!("{number}: no {name} for {}", span(for_ms)),
        Takes::None { for_ms: None } => {
            format!("{number}: no {name} until what stands beside it is done")
        }
    }
}

/// The conditions of an element, a line each.
pub(super) fn show_conditions(
    element: &Element,
    pattern: &Pattern,
    application: &Application,
) -> Vec<String> {
    let shower = Shower {
        pattern,
        application,
        columns: register_columns(pattern, application),
    };
    shower.conditions(element)
}

/// What the numbers are called, where they have names of their own.
pub(super) fn names(query: &Query, application: &Application) -> Option<String> {
    let Input::Pattern(input) = &query.input else {
        return None;
    };
    let pattern = &input.pattern;
    let elements = pattern.elements.iter().enumerate();
    let named: Vec<String> = elements
        .filter(|(_, element)| {
            let input = pattern.inputs.get(element.input);
            input.is_some_and(|input| stream_name(application, input.stream) != element.name)
        })
        .map(|(number, element)| format!("{} is '{}'", number + 1, element.name))
        .collect();
    (!named.is_empty()).then(|| format!("where {}", named.join(", ")))
}
