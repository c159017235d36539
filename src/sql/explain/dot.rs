//! Patterns as graphs, in the language of Graphviz.

use std::fmt::Write as _;

use super::super::plan::{Application, Input, Pattern, PatternStep, Takes};
use super::pattern::{show_conditions, show_takes};

/// The patterns of an application: elements, and what may follow what. Elements that must not come
/// are dashed.
#[must_use]
pub fn dot(application: &Application) -> String {
    let mut out = "digraph patterns {\n  rankdir = LR;\n  node [shape = box];\n".to_owned();
    for (number, query) in application.queries.iter().enumerate() {
        let Input::Pattern(input) = &query.input else {
            continue;
        };
        let target = application.target_name(query);
        let (path, line) = (&query.path, query.place.line);
        let title = quoted(&format!("query {number} → {target}   {path}:{line}"));
        let _ = writeln!(out, "  subgraph cluster_{number} {{");
        let _ = writeln!(out, "    label = {title};");
        let mut graph = Graph {
            pattern: &input.pattern,
            query: number,
            out: String::new(),
        };
        graph.draw(application);
        out.push_str(&graph.out);
        out.push_str("  }\n");
    }
    out.push_str("}\n");
    out
}

/// Where a piece of a pattern begins and ends.
#[derive(Default)]
struct Ends {
    first: Vec<Node>,
    last: Vec<Node>,
    /// Whether it can be left out.
    optional: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    Start,
    Element(usize),
    Match,
}

struct Graph<'a> {
    pattern: &'a Pattern,
    query: usize,
    out: String,
}

impl Graph<'_> {
    fn draw(&mut self, application: &Application) {
        let query = self.query;
        let _ = writeln!(self.out, "    q{query}_start [shape = point];");
        let end = "shape = doublecircle, label = \"\"";
        let _ = writeln!(self.out, "    q{query}_match [{end}];");
        for (number, element) in self.pattern.elements.iter().enumerate() {
            let mut label = show_takes(number, element, self.pattern, application);
            for condition in show_conditions(element, self.pattern, application) {
                let _ = write!(label, "\n{condition}");
            }
            let style = match element.takes {
                Takes::Rows { .. } => "",
                Takes::None { .. } => ", style = dashed",
            };
            let (name, label) = (self.name(Node::Element(number)), quoted(&label));
            let _ = writeln!(self.out, "    {name} [label = {label}{style}];");
            if let Takes::Rows { max, .. } = element.takes {
                if max != Some(1) {
                    self.edge(Node::Element(number), Node::Element(number), "");
                }
            }
        }
        let mut before = vec![Node::Start];
        for part in &self.pattern.parts {
            let ends = self.chain(&part.steps);
            self.join(&before, &ends.first, "");
            if part.every {
                self.join(&ends.last, &ends.first, "every");
            }
            before = match ends.optional {
                true => [before, ends.last].concat(),
                false => ends.last,
            };
        }
        self.join(&before, &[Node::Match], "");
    }

    fn chain(&mut self, steps: &[PatternStep]) -> Ends {
        let mut whole = Ends {
            optional: true,
            ..Ends::default()
        };
        for step in steps {
            let ends = self.step(step);
            self.join(&whole.last, &ends.first, "");
            if whole.optional {
                whole.first.extend(&ends.first);
            }
            whole.optional &= ends.optional;
            if !ends.optional {
                whole.last.clear();
            }
            whole.last.extend(ends.last);
        }
        whole
    }

    fn step(&mut self, step: &PatternStep) -> Ends {
        let (chains, all) = match step {
            PatternStep::Element(number) => {
                let element = self.pattern.elements.get(*number);
                let takes = element.map(|element| element.takes);
                return Ends {
                    first: vec![Node::Element(*number)],
                    last: vec![Node::Element(*number)],
                    optional: matches!(takes, Some(Takes::Rows { min: 0, .. })),
                };
            }
            PatternStep::All(chains) => (chains, true),
            PatternStep::Any(chains) => (chains, false),
        };
        let mut whole = Ends {
            optional: all,
            ..Ends::default()
        };
        for chain in chains {
            let ends = self.chain(chain);
            whole.first.extend(ends.first);
            whole.last.extend(ends.last);
            whole.optional = match all {
                true => whole.optional && ends.optional,
                false => whole.optional || ends.optional,
            };
        }
        whole
    }

    fn join(&mut self, from: &[Node], to: &[Node], label: &str) {
        for from in from {
            for to in to {
                self.edge(*from, *to, label);
            }
        }
    }

    fn edge(&mut self, from: Node, to: Node, label: &str) {
        let dashed = [from, to].iter().any(|node| match node {
            Node::Element(number) => {
                let element = self.pattern.elements.get(*number);
                element.is_some_and(|element| matches!(element.takes, Takes::None { .. }))
            }
            Node::Start | Node::Match => false,
        });
        let mut said = Vec::new();
        if !label.is_empty() {
            said.push(format!("label = {}", quoted(label)));
        }
        if dashed {
            said.push("style = dashed".to_owned());
        }
        let said = match said.as_slice() {
            [] => String::new(),
            said => format!(" [{}]", said.join(", ")),
        };
        let (from, to) = (self.name(from), self.name(to));
        let _ = writeln!(self.out, "    {from} -> {to}{said};");
    }

    fn name(&self, node: Node) -> String {
        let query = self.query;
        match node {
            Node::Start => format!("q{query}_start"),
            Node::Element(number) => format!("q{query}_{}", number + 1),
            Node::Match => format!("q{query}_match"),
        }
    }
}

fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('\n', "\\l"))
}
