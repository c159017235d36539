//! What a pattern may do next: elements as bits, and how one thing that is done lets others begin.
//!
//! The pattern is a tree. A partial match knows which elements wait for a row ([`Control`]); when
//! one is done, this is told to what it stands in, up to a chain that has another step or to the
//! end.

use crate::sql::plan::{Pattern, PatternKind, PatternStep, Takes};

/// Elements, a bit for each.
pub(super) type Elements = u64;

/// The bit of an element or part.
#[inline]
pub(super) fn bit(number: usize) -> u64 {
    1 << number
}

/// The numbers of the bits that are set, ascending.
#[inline]
pub(super) fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let number = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(number)
    })
}

/// How far a partial match has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    /// The elements that take a row now, or whose rows must not come now.
    pub(super) active: Elements,
    /// Those that have taken a row.
    pub(super) taken: Elements,
    /// The operands of ANDs that are done.
    pub(super) done: u64,
    /// The parts that are done.
    pub(super) finished: u64,
    /// The parts with EVERY that have not begun again yet.
    pub(super) armed: u64,
}

/// What else follows from a change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effect {
    /// Absences that have begun to wait.
    pub(super) started: Elements,
    /// Elements whose rows are to be forgotten.
    pub(super) forgotten: Elements,
    /// Whether the match is complete.
    pub(super) matched: bool,
}

impl Effect {
    /// This, and then `other`.
    pub(super) fn add(&mut self, other: Effect) {
        self.started |= other.started;
        self.forgotten |= other.forgotten;
        self.matched |= other.matched;
    }
}

/// What becomes of a partial match of which an absence was spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoiled {
    /// Another operand of an OR may still be done.
    Lives,
    /// It waits again from now on: it is at the start.
    Waits,
    /// The part with this number begins again.
    Again(usize),
    /// It ends.
    Dies,
}

/// The tree, and what follows from it.
pub(super) struct Automaton {
    nodes: Vec<Node>,
    /// The node of each element.
    leaves: Vec<usize>,
    parts: Vec<Part>,
    elements: Vec<Fact>,
    pub(super) sequence: bool,
    /// How a partial match begins.
    pub(super) start: Control,
    /// Absences that wait from the start.
    pub(super) start_waits: Elements,
    /// Elements of which no row may come, and of these those that have no time.
    pub(super) absent: Elements,
    pub(super) untimed: Elements,
    /// Whether a match can begin with any row: the first part has EVERY and is done with its first
    /// row, or the pattern is a SEQUENCE.
    pub(super) always: bool,
    /// The parts that need no row.
    optional: u64,
}

struct Node {
    kind: Kind,
    /// What it stands in, and the how-manieth of it.
    parent: Option<(usize, usize)>,
    elements: Elements,
}

enum Kind {
    Leaf(usize),
    /// One after another; the part that it is, if it is one.
    Chain(Vec<usize>, Option<usize>),
    /// The operands, and the number of the first one's bit.
    All(Vec<usize>, usize),
    Any(Vec<usize>),
}

struct Part {
    every: bool,
    node: usize,
    elements: Elements,
    /// Its elements and those of later parts.
    from: Elements,
    /// The bits of operands in it and in later parts.
    operands: u64,
}

/// What is known of an element.
struct Fact {
    takes: Takes,
    /// Elements that stand before it in some chain: when it takes a row, they take no more.
    before: Elements,
}

impl Automaton {
    pub(super) fn new(plan: &Pattern) -> Automaton {
        let mut build = Build {
            nodes: Vec::new(),
            leaves: vec![0; plan.elements.len()],
            operands: 0,
        };
        let mut parts = Vec::new();
        let mut roots = Vec::new();
        for (number, part) in plan.parts.iter().enumerate() {
            let operands = build.operands;
            let node = build.chain(&part.steps, Some(number));
            roots.push(node);
            parts.push(Part {
                every: part.every,
                node,
                elements: build.elements(node),
                from: 0,
                operands: !0 << operands.min(63),
            });
        }
        let mut from = 0;
        for part in parts.iter_mut().rev() {
            from |= part.elements;
            part.from = from;
        }
        let root = build.add(Kind::Chain(roots, None));
        let facts = plan
            .elements
            .iter()
            .enumerate()
            .map(|(number, element)| Fact {
                takes: element.takes,
                before: build.before(number),
            });
        let elements: Vec<Fact> = facts.collect();
        let absent = |timed: Option<bool>| -> Elements {
            let these = elements
                .iter()
                .enumerate()
                .filter(|(_, fact)| match fact.takes {
                    Takes::Rows { .. } => false,
                    Takes::None { for_ms } => timed.is_none_or(|timed| timed == for_ms.is_some()),
                });
            these.map(|(number, _)| bit(number)).sum()
        };
        let mut automaton = Automaton {
            absent: absent(None),
            untimed: absent(Some(false)),
            nodes: build.nodes,
            leaves: build.leaves,
            parts,
            elements,
            sequence: plan.kind == PatternKind::Sequence,
            start: Control::default(),
            start_waits: 0,
            always: false,
            optional: 0,
        };
        automaton.find_start(root);
        automaton
    }

    fn find_start(&mut self, root: usize) {
        let mut start = Control::default();
        let mut effect = Effect::default();
        for (number, part) in self.parts.iter().enumerate() {
            start.armed |= if part.every { bit(number) } else { 0 };
        }
        let parts = self.parts.iter().enumerate();
        let optional = parts.filter(|(_, part)| self.needs_nothing(part.node));
        self.optional = optional.map(|(number, _)| bit(number)).sum();
        self.activate(root, &mut start, &mut effect);
        self.start_waits = effect.started;
        let first = self.parts.first();
        let completes = |element| {
            let mut control = start;
            self.take(element, 1, &mut control);
            self.absent & bit(element) == 0 && control.finished & 1 != 0
        };
        self.always = first.is_some_and(|part| part.every)
            && self.start_waits == 0
            && (self.sequence || bits(start.active).all(completes));
        if self.always {
            start.armed &= !1;
        }
        self.start = start;
    }

    /// The elements that stand before this one in some chain.
    #[inline]
    pub(super) fn before(&self, element: usize) -> Elements {
        self.elements.get(element).map_or(0, |fact| fact.before)
    }

    /// How long no row of this element may come.
    pub(super) fn waits_ms(&self, element: usize) -> Option<i64> {
        match self.elements.get(element)?.takes {
            Takes::None { for_ms } => for_ms,
            Takes::Rows { .. } => None,
        }
    }

    /// The parts with EVERY, from this one on.
    fn every_from(&self, part: usize) -> u64 {
        let parts = self.parts.iter().enumerate().skip(part);
        parts
            .filter(|(_, part)| part.every)
            .map(|(number, _)| bit(number))
            .sum()
    }

    /// Whether a part but the first has EVERY.
    pub(super) fn repeats_inside(&self) -> bool {
        self.every_from(1) != 0
    }

    /// Whether rows that were taken may be forgotten: by an OR of which one operand is done when
    /// another has taken some.
    pub(super) fn may_forget(&self) -> bool {
        let at_once = |operand: &usize| match self.nodes.get(*operand).map(|node| &node.kind) {
            Some(Kind::Chain(steps, _)) => {
                steps.len() == 1 && {
                    let element = steps.first().and_then(|step| self.nodes.get(*step));
                    match element.map(|node| &node.kind) {
                        Some(Kind::Leaf(element)) => {
                            let takes = self.elements.get(*element).map(|fact| fact.takes);
                            !matches!(takes, Some(Takes::Rows { min: 2.., .. }))
                        }
                        Some(Kind::Chain(..) | Kind::All(..) | Kind::Any(_)) | None => false,
                    }
                }
            }
            Some(Kind::Leaf(_) | Kind::All(..) | Kind::Any(_)) | None => false,
        };
        self.nodes.iter().any(|node| match &node.kind {
            Kind::Any(operands) => !operands.iter().all(at_once),
            Kind::Leaf(_) | Kind::Chain(..) | Kind::All(..) => false,
        })
    }

    /// The elements of a part.
    pub(super) fn elements_of(&self, part: usize) -> Elements {
        self.parts.get(part).map_or(0, |part| part.elements)
    }

    /// How many parts there are.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Whether the first part has EVERY.
    pub(super) fn repeats(&self) -> bool {
        self.parts.first().is_some_and(|part| part.every)
    }

    /// An element has taken its `count`th row.
    #[inline]
    pub(super) fn take(&self, element: usize, count: u64, control: &mut Control) -> Effect {
        let mut effect = Effect::default();
        let Some(fact) = self.elements.get(element) else {
            return effect;
        };
        control.active &= !fact.before;
        control.taken |= bit(element);
        let Takes::Rows { min, max } = fact.takes else {
            return effect;
        };
        if max.is_some_and(|max| count >= max) {
            control.active &= !bit(element);
        }
        if count == min {
            self.complete(self.leaf(element), control, &mut effect);
        } else {
            // What waits for an absence behind it waits from this row on.
            let waits = control.active & self.absent & !self.untimed;
            let behind = |waiting: &usize| self.before(*waiting) & bit(element) != 0;
            effect.started |= bits(waits).filter(behind).map(bit).sum::<u64>();
        }
        effect
    }

    /// No row of an element has come for its time.
    pub(super) fn passed(&self, element: usize, control: &mut Control) -> Effect {
        let mut effect = Effect::default();
        control.active &= !(bit(element) | self.before(element));
        self.complete(self.leaf(element), control, &mut effect);
        effect
    }

    /// A row of an absent element has come.
    pub(super) fn spoil(&self, element: usize, control: &mut Control) -> Spoiled {
        let timed = self.untimed & bit(element) == 0;
        if timed && self.before(element) == 0 {
            return Spoiled::Waits;
        }
        let mut at = self.leaf(element);
        while let Some(node) = self.nodes.get(at) {
            let Some((parent, _)) = node.parent else {
                return Spoiled::Dies;
            };
            let part = match &node.kind {
                Kind::Chain(_, part) => *part,
                Kind::Leaf(_) | Kind::All(..) | Kind::Any(_) => None,
            };
            if let Some(number) = part {
                let part = self.parts.get(number);
                let begun = part.is_some_and(|part| part.elements & control.taken != 0);
                let again = number > 0 && control.armed & bit(number) != 0 && begun;
                return if again {
                    Spoiled::Again(number)
                } else {
                    Spoiled::Dies
                };
            }
            if let Some(Node {
                kind: Kind::Any(_),
                elements,
                ..
            }) = self.nodes.get(parent)
            {
                control.active &= !node.elements;
                if control.active & elements != 0 {
                    return Spoiled::Lives;
                }
            }
            at = parent;
        }
        Spoiled::Dies
    }

    /// Whether a part is done that must begin again for what came before it.
    #[inline]
    pub(super) fn due(&self, control: &Control) -> u64 {
        let due = control.finished & control.armed;
        if due & self.optional == 0 {
            return due;
        }
        // What needs no row is done with the first row that comes all the same.
        let parts = bits(due & self.optional).filter(|part| {
            let part = self.parts.get(*part);
            part.is_none_or(|part| part.from & control.taken == 0)
        });
        due & !parts.map(bit).sum::<u64>()
    }

    /// How a part that begins again stands: as `control`, but without what has come since the
    /// part began.
    pub(super) fn again(&self, part: usize, control: &Control) -> (Control, Effect) {
        let mut control = *control;
        let mut effect = Effect::default();
        let Some(fact) = self.parts.get(part) else {
            return (control, effect);
        };
        control.active &= !fact.from;
        control.taken &= !fact.from;
        control.done &= !fact.operands;
        control.finished &= bit(part) - 1;
        control.armed |= self.every_from(part);
        self.activate(fact.node, &mut control, &mut effect);
        effect.forgotten |= fact.from;
        (control, effect)
    }

    fn leaf(&self, element: usize) -> usize {
        self.leaves.get(element).copied().unwrap_or_default()
    }

    fn activate(&self, node: usize, control: &mut Control, effect: &mut Effect) {
        match self.nodes.get(node).map(|node| &node.kind) {
            Some(Kind::Leaf(element)) => {
                control.active |= bit(*element);
                match self.elements.get(*element).map(|fact| fact.takes) {
                    Some(Takes::Rows { min: 0, .. } | Takes::None { for_ms: None }) => {
                        self.complete(node, control, effect);
                    }
                    Some(Takes::None { for_ms: Some(_) }) => effect.started |= bit(*element),
                    Some(Takes::Rows { .. }) | None => {}
                }
            }
            Some(Kind::Chain(steps, _)) => {
                if let Some(first) = steps.first() {
                    self.activate(*first, control, effect);
                }
            }
            Some(Kind::All(operands, _)) => {
                for operand in operands {
                    self.activate(*operand, control, effect);
                }
            }
            Some(Kind::Any(operands)) => {
                // One that needs no row is done at once, and with it all.
                let done = operands
                    .iter()
                    .find(|operand| self.needs_nothing(**operand));
                for operand in done.map_or(&**operands, std::slice::from_ref) {
                    self.activate(*operand, control, effect);
                }
            }
            None => {}
        }
    }

    /// Whether a node is done as soon as it begins.
    fn needs_nothing(&self, node: usize) -> bool {
        let all = |nodes: &[usize]| nodes.iter().all(|node| self.needs_nothing(*node));
        match self.nodes.get(node).map(|node| &node.kind) {
            Some(Kind::Leaf(element)) => {
                let takes = self.elements.get(*element).map(|fact| fact.takes);
                matches!(
                    takes,
                    Some(Takes::Rows { min: 0, .. } | Takes::None { for_ms: None })
                )
            }
            Some(Kind::Chain(steps, _)) => all(steps),
            Some(Kind::All(operands, _)) => all(operands),
            Some(Kind::Any(operands)) => operands.iter().any(|one| self.needs_nothing(*one)),
            None => true,
        }
    }

    /// A node is done; what stands behind it begins.
    fn complete(&self, node: usize, control: &mut Control, effect: &mut Effect) {
        let Some(done) = self.nodes.get(node) else {
            return;
        };
        if let Kind::Chain(_, Some(part)) = done.kind {
            control.finished |= bit(part);
        }
        let Some((parent, place)) = done.parent else {
            effect.matched = true;
            return;
        };
        let Some(around) = self.nodes.get(parent) else {
            return;
        };
        match &around.kind {
            Kind::Leaf(_) => {}
            Kind::Chain(steps, _) => match steps.get(place + 1) {
                Some(next) => self.activate(*next, control, effect),
                None => self.complete(parent, control, effect),
            },
            Kind::All(operands, first) => {
                control.done |= bit(first + place);
                let all = (0..operands.len()).all(|one| control.done & bit(first + one) != 0);
                if all {
                    control.active &= !(around.elements & self.untimed);
                    self.complete(parent, control, effect);
                }
            }
            Kind::Any(_) => {
                let others = around.elements & !done.elements;
                control.active &= !others;
                effect.started &= !others;
                effect.forgotten |= others & control.taken;
                control.taken &= !others;
                self.complete(parent, control, effect);
            }
        }
    }
}

/// The tree while it is built.
struct Build {
    nodes: Vec<Node>,
    leaves: Vec<usize>,
    /// How many operands of ANDs there are.
    operands: usize,
}

impl Build {
    fn chain(&mut self, steps: &[PatternStep], part: Option<usize>) -> usize {
        let steps = steps.iter().map(|step| self.step(step)).collect();
        self.add(Kind::Chain(steps, part))
    }

    fn step(&mut self, step: &PatternStep) -> usize {
        match step {
            PatternStep::Element(element) => {
                let node = self.add(Kind::Leaf(*element));
                if let Some(leaf) = self.leaves.get_mut(*element) {
                    *leaf = node;
                }
                node
            }
            PatternStep::All(chains) => {
                let first = self.operands;
                self.operands += chains.len();
                let operands = chains.iter().map(|chain| self.chain(chain, None)).collect();
                self.add(Kind::All(operands, first))
            }
            PatternStep::Any(chains) => {
                let operands = chains.iter().map(|chain| self.chain(chain, None)).collect();
                self.add(Kind::Any(operands))
            }
        }
    }

    fn add(&mut self, kind: Kind) -> usize {
        let number = self.nodes.len();
        let children: &[usize] = match &kind {
            Kind::Leaf(_) => &[],
            Kind::Chain(children, _) | Kind::All(children, _) | Kind::Any(children) => children,
        };
        let mut elements = match kind {
            Kind::Leaf(element) => bit(element),
            Kind::Chain(..) | Kind::All(..) | Kind::Any(_) => 0,
        };
        for (place, child) in children.iter().enumerate() {
            if let Some(child) = self.nodes.get_mut(*child) {
                child.parent = Some((number, place));
                elements |= child.elements;
            }
        }
        self.nodes.push(Node {
            kind,
            parent: None,
            elements,
        });
        number
    }

    fn elements(&self, node: usize) -> Elements {
        self.nodes.get(node).map_or(0, |node| node.elements)
    }

    fn before(&self, element: usize) -> Elements {
        let mut before = 0;
        let mut at = self.leaves.get(element).copied().unwrap_or_default();
        while let Some((parent, place)) = self.nodes.get(at).and_then(|node| node.parent) {
            if let Some(Kind::Chain(steps, _)) = self.nodes.get(parent).map(|node| &node.kind) {
                let earlier = steps.iter().take(place);
                before |= earlier
                    .map(|step| self.elements(*step))
                    .fold(0, |all, one| all | one);
            }
            at = parent;
        }
        before
    }
}
