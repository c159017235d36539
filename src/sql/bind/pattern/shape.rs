//! What a pattern is made of: from pieces in pieces to a chain of parts.

use super::super::super::ast::{Pattern, PatternElement, PatternNode, PatternWhat};
use super::super::super::plan::{ELEMENTS_MAX, PatternPart, PatternStep, Takes};
use crate::diagnostic::{Diagnostic, Place};

/// The elements of a pattern and how they follow each other.
pub(super) struct Shape<'w> {
    /// In the order in which they were written.
    pub(super) leaves: Vec<Leaf<'w>>,
    pub(super) parts: Vec<PatternPart>,
    /// Where the EVERY of each part stands.
    pub(super) every: Vec<Option<Place>>,
}

/// An element.
pub(super) struct Leaf<'w> {
    pub(super) element: &'w PatternElement,
    pub(super) takes: Takes,
}

/// A step that may still have to be joined with the one behind it.
enum Step {
    Plain(PatternStep),
    /// NOT without FOR.
    Open(usize, Place),
    Every(Vec<PatternStep>, Place),
}

/// The elements below a node, in the order in which they were written.
pub(in super::super) fn elements<'w>(node: &'w PatternNode, found: &mut Vec<&'w PatternElement>) {
    match &node.what {
        PatternWhat::Element(element) | PatternWhat::Absent(element, _) => found.push(element),
        PatternWhat::Chain(nodes) | PatternWhat::All(nodes) | PatternWhat::Any(nodes) => {
            for node in nodes {
                elements(node, found);
            }
        }
        PatternWhat::Every(node) => elements(node, found),
    }
}

/// The shape of a pattern. Faults are reported; with one among them it must not be used.
pub(super) fn shape<'w>(
    pattern: &'w Pattern,
    path: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Shape<'w> {
    let before = diagnostics.len();
    let mut shaper = Shaper {
        leaves: Vec::new(),
        path,
        diagnostics,
    };
    let steps = shaper.chain(&pattern.root, None);
    let steps = shaper.merged(steps);
    let (mut parts, mut every): (Vec<PatternPart>, Vec<Option<Place>>) = Default::default();
    for step in steps {
        match (step, parts.last_mut()) {
            (Step::Every(steps, place), _) => {
                parts.push(PatternPart { every: true, steps });
                every.push(Some(place));
            }
            (Step::Plain(step), Some(part)) if !part.every => part.steps.push(step),
            (Step::Plain(step), _) => {
                parts.push(PatternPart {
                    every: false,
                    steps: vec![step],
                });
                every.push(None);
            }
            (Step::Open(..), _) => {}
        }
    }
    let right = shaper.diagnostics.len() == before;
    if right && parts.iter().all(|part| shaper.all_optional(&part.steps)) {
        let message = "this pattern is fulfilled before any row has come: all of it is optional";
        let hint = "give one element a minimum of 1";
        let fault = Diagnostic::error(path, pattern.place, message);
        shaper.diagnostics.push(fault.with_hint(hint));
    }
    Shape {
        leaves: shaper.leaves,
        parts,
        every,
    }
}

struct Shaper<'w, 'd> {
    leaves: Vec<Leaf<'w>>,
    path: &'d str,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl<'w> Shaper<'w, '_> {
    fn fault(&mut self, place: Place, message: impl Into<String>, hint: &str) {
        let fault = Diagnostic::error(self.path, place, message);
        self.diagnostics.push(fault.with_hint(hint));
    }

    fn leaf(&mut self, element: &'w PatternElement, takes: Takes) -> usize {
        if self.leaves.len() == ELEMENTS_MAX {
            let message = format!("more than {ELEMENTS_MAX} elements in one pattern");
            let hint = "let a query find a part of it, and read what that gives";
            self.fault(element.stream.place, message, hint);
        }
        self.leaves.push(Leaf { element, takes });
        self.leaves.len() - 1
    }

    /// The steps of a node; `inside`: what it stands in that has no EVERY in it.
    fn chain(&mut self, node: &'w PatternNode, inside: Option<&'static str>) -> Vec<Step> {
        match &node.what {
            PatternWhat::Element(element) => {
                let (min, max) = match element.quantifier {
                    Some(quantifier) => (quantifier.min, quantifier.max),
                    None => (1, Some(1)),
                };
                let index = self.leaf(element, Takes::Rows { min, max });
                vec![Step::Plain(PatternStep::Element(index))]
            }
            PatternWhat::Absent(element, for_ms) => {
                let index = self.leaf(element, Takes::None { for_ms: *for_ms });
                match for_ms {
                    Some(_) => vec![Step::Plain(PatternStep::Element(index))],
                    None => vec![Step::Open(index, node.place)],
                }
            }
            PatternWhat::Chain(nodes) => {
                let mut steps = Vec::new();
                for node in nodes {
                    steps.extend(self.chain(node, inside));
                }
                steps
            }
            PatternWhat::All(nodes) => vec![self.all(node, nodes)],
            PatternWhat::Any(nodes) => {
                let mut operands = Vec::new();
                for node in nodes {
                    let steps = self.chain(node, Some("OR"));
                    operands.push(self.closed(steps));
                }
                vec![Step::Plain(PatternStep::Any(operands))]
            }
            PatternWhat::Every(inner) => {
                if let Some(inside) = inside {
                    let message = format!("EVERY inside {inside}");
                    let hint = match inside {
                        "EVERY" => "leave out one of them",
                        _ => "write EVERY before the group as a whole",
                    };
                    self.fault(node.place, message, hint);
                }
                let steps = self.chain(inner, Some("EVERY"));
                vec![Step::Every(self.closed(steps), node.place)]
            }
        }
    }

    fn all(&mut self, node: &PatternNode, nodes: &'w [PatternNode]) -> Step {
        let mut operands = Vec::new();
        let mut beside = false;
        for node in nodes {
            let steps = self.chain(node, Some("AND"));
            operands.push(match steps.as_slice() {
                [Step::Open(index, _)] => vec![PatternStep::Element(*index)],
                _ => {
                    beside = true;
                    self.closed(steps)
                }
            });
        }
        if !beside {
            let message = "nothing stands beside what must not come, so nobody says until when";
            self.fault(
                node.place,
                message,
                "write FOR and a time, or AND something that comes",
            );
        }
        Step::Plain(PatternStep::All(operands))
    }

    /// Joins what must not come with the step behind it.
    fn merged(&mut self, steps: Vec<Step>) -> Vec<Step> {
        let mut merged = Vec::new();
        let mut open: Vec<(usize, Place)> = Vec::new();
        for step in steps {
            match step {
                Step::Open(index, place) => open.push((index, place)),
                step if open.is_empty() => merged.push(step),
                Step::Plain(step) => {
                    merged.push(Step::Plain(beside(&mut open, vec![step])));
                }
                Step::Every(steps, place) => {
                    merged.push(Step::Every(vec![beside(&mut open, steps)], place));
                }
            }
        }
        for (_, place) in open {
            let message = "NOT needs FOR and a time, or something behind it";
            let hint = "write NOT A FOR 30 SECONDS, NOT A -> B or NOT A AND B";
            self.fault(place, message, hint);
        }
        merged
    }

    /// The steps of a group, in which there is no EVERY.
    fn closed(&mut self, steps: Vec<Step>) -> Vec<PatternStep> {
        let mut closed = Vec::new();
        for step in self.merged(steps) {
            match step {
                Step::Plain(step) => closed.push(step),
                Step::Every(steps, _) => closed.extend(steps),
                Step::Open(..) => {}
            }
        }
        closed
    }

    /// Whether a chain can be done without a row and without waiting.
    fn all_optional(&self, chain: &[PatternStep]) -> bool {
        chain.iter().all(|step| match step {
            PatternStep::Element(index) => match self.leaves.get(*index).map(|leaf| leaf.takes) {
                Some(Takes::Rows { min, .. }) => min == 0,
                Some(Takes::None { for_ms }) => for_ms.is_none(),
                None => false,
            },
            PatternStep::All(chains) => chains.iter().all(|chain| self.all_optional(chain)),
            PatternStep::Any(chains) => chains.iter().any(|chain| self.all_optional(chain)),
        })
    }
}

/// What must not come until a chain is done, and the chain.
fn beside(open: &mut Vec<(usize, Place)>, chain: Vec<PatternStep>) -> PatternStep {
    let absent = open.drain(..);
    let absent = absent.map(|(index, _)| vec![PatternStep::Element(index)]);
    let mut operands: Vec<Vec<PatternStep>> = absent.collect();
    match <[PatternStep; 1]>::try_from(chain) {
        Ok([PatternStep::All(more)]) => operands.extend(more),
        Ok(chain) => operands.push(chain.into()),
        Err(chain) => operands.push(chain),
    }
    PatternStep::All(operands)
}

/// Which elements are over and done with when another begins to wait. Sets of elements are bits.
pub(super) struct Order {
    /// Done, or left out by an OR.
    pub(super) before: Vec<u64>,
    /// Done for sure.
    pub(super) surely: Vec<u64>,
}

/// Two sets of elements, as in [`Order`].
#[derive(Clone, Copy, Default)]
struct Sets {
    all: u64,
    sure: u64,
}

impl Order {
    pub(super) fn new(parts: &[PatternPart], elements: usize) -> Order {
        let mut order = Order {
            before: vec![0; elements],
            surely: vec![0; elements],
        };
        let mut known = Sets::default();
        for part in parts {
            known = order.chain(&part.steps, known);
        }
        order
    }

    /// Goes through a chain, before which some elements are done; those that are done behind it.
    fn chain(&mut self, steps: &[PatternStep], mut known: Sets) -> Sets {
        for step in steps {
            known = match step {
                PatternStep::Element(index) => {
                    if let Some(before) = self.before.get_mut(*index) {
                        *before = known.all;
                    }
                    if let Some(surely) = self.surely.get_mut(*index) {
                        *surely = known.sure;
                    }
                    let own = bit(*index);
                    Sets {
                        all: known.all | own,
                        sure: known.sure | own,
                    }
                }
                PatternStep::All(chains) => {
                    let done = chains.iter().map(|chain| self.chain(chain, known));
                    done.fold(known, |one, other| Sets {
                        all: one.all | other.all,
                        sure: one.sure | other.sure,
                    })
                }
                PatternStep::Any(chains) => {
                    let done = chains.iter().map(|chain| self.chain(chain, known));
                    done.fold(known, |one, other| Sets {
                        all: one.all | other.all,
                        sure: one.sure,
                    })
                }
            };
        }
        known
    }
}

/// The set of this element alone.
pub(super) fn bit(element: usize) -> u64 {
    u32::try_from(element).map_or(0, |element| 1_u64.checked_shl(element).unwrap_or(0))
}
