//! A pattern, compiled: what all keys and instances of a query share.

use super::super::condition::Conditions;
use super::super::expr::{Compiled, Cx, Env, Operand, compile, predicate};
use super::super::node::Stores;
use super::automaton::{Automaton, Control, bit, bits};
use super::registers::Registers;
use super::waiting::Place;
use crate::event::{Row, Value};
use crate::sql::plan::{
    Element, Expr, ExprKind, Overflow, Pattern, PatternStep, Skip, Takes, Within,
};

/// The compiled pattern.
pub(super) struct Code {
    pub(super) automaton: Automaton,
    pub(super) registers: Registers,
    /// How many columns of a match row others see.
    pub(super) visible: usize,
    pub(super) elements: Vec<ElementCode>,
    /// Where those wait that wait for an element.
    pub(super) places: Vec<Place>,
    /// What the elements that read an input ask of its rows by themselves.
    pub(super) filters: Vec<Conditions>,
    /// The key of an input's rows.
    pub(super) keys: Vec<Option<Vec<Compiled>>>,
    pub(super) scoping: Scoping,
    /// Where a partial match keeps its own key, when it is found by it.
    pub(super) own_key: Vec<usize>,
    /// Where it is noted which row of each element was the first, when rows may be forgotten: its
    /// moment, its time and its number among those of the scope.
    pub(super) firsts: Option<usize>,
    /// Where it is noted when parts were done.
    pub(super) trail: std::ops::Range<usize>,
    pub(super) within: Option<Within>,
    pub(super) skip: Skip,
    pub(super) overflow: Overflow,
    pub(super) matches_max: u64,
    /// Whether what has not begun waits already: for an absence.
    pub(super) tokens: bool,
    /// For a pattern of the plain kind, how far a partial match has come when an element has taken
    /// its row, by element.
    pub(super) plain: Option<Vec<Control>>,
    /// Whether any absence has a time.
    pub(super) timed: bool,
    /// Whether each scope keeps its partial matches in a list.
    pub(super) lists: bool,
    /// Whether a row matters that fits no element.
    pub(super) every_row: bool,
    /// Whether a key is kept from its first row on.
    pub(super) keeps_keys: bool,
}

/// Whether keys have a scope of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scoping {
    /// There are no keys.
    One,
    /// A pattern that can always begin needs none: its partial matches are found by their keys.
    Indexed,
    /// Each has one.
    Keyed,
}

/// What an element asks of rows.
pub(super) struct ElementCode {
    /// The key under which a row finds those that wait.
    pub(super) key: Vec<Compiled>,
    /// Columns of the match row that are computed when the wait begins.
    pub(super) known: Vec<(usize, Compiled)>,
    pub(super) rest: Option<Rest>,
}

/// A condition over what has been matched and a row.
pub(super) struct Rest {
    condition: Operand<bool>,
    /// The columns of the match row that it reads, and then those of the row.
    matched: Vec<usize>,
    row: Vec<usize>,
}

impl Rest {
    fn new(expr: &Expr, registers: usize, cx: Cx<'_>) -> Rest {
        let mut reads = Vec::new();
        expr.walk(&mut |expr| {
            if let ExprKind::Column(column) = expr.kind {
                reads.push(column);
            }
        });
        reads.sort_unstable();
        reads.dedup();
        let mut places = vec![0; reads.last().map_or(0, |last| last + 1)];
        for (place, column) in reads.iter().enumerate() {
            if let Some(of) = places.get_mut(*column) {
                *of = place;
            }
        }
        let (matched, row): (Vec<usize>, Vec<usize>) =
            reads.into_iter().partition(|column| *column < registers);
        let cx = Cx {
            columns: &places,
            ..cx
        };
        Rest {
            condition: predicate(expr, cx),
            matched,
            row: row.into_iter().map(|column| column - registers).collect(),
        }
    }

    /// Whether it is true. `scratch` is used for the columns that are read.
    #[inline]
    pub(super) fn holds(
        &self,
        matched: &[Value],
        row: Row<'_>,
        scratch: &mut Vec<Value>,
        faults: &std::cell::Cell<u64>,
    ) -> bool {
        scratch.clear();
        for column in &self.matched {
            match matched.get(*column) {
                Some(value) => value.copy_to(scratch),
                None => scratch.push(Value::Null),
            }
        }
        for column in &self.row {
            match row.values.get(*column) {
                Some(value) => value.copy_to(scratch),
                None => scratch.push(Value::Null),
            }
        }
        let env = Env::new(scratch, row.stamp, row.stamp, faults);
        self.condition.get(&env) == Some(true)
    }
}

/// What is noted of the first row of an element.
pub(super) const FIRST_COLUMNS: usize = 3;

impl Code {
    pub(super) fn new(plan: &Pattern, stores: &Stores) -> Code {
        let cx = stores.cx(&[]);
        let automaton = Automaton::new(plan);
        let mut registers = Registers::new(plan, cx);
        let parts = if automaton.repeats_inside() {
            automaton.parts()
        } else {
            0
        };
        let trail = registers.width()..registers.width() + parts;
        for _ in trail.clone() {
            registers.hidden(None, Value::Null);
        }
        let firsts = automaton.may_forget().then(|| registers.width());
        for element in (0..plan.elements.len()).filter(|_| firsts.is_some()) {
            for _ in 0..FIRST_COLUMNS {
                registers.hidden(Some(element), Value::Null);
            }
        }
        let scoping = scoping(plan, &automaton);
        let width = match scoping {
            Scoping::Indexed => plan.keys.iter().flatten().map(Vec::len).max(),
            Scoping::One | Scoping::Keyed => None,
        };
        let own_key = (0..width.unwrap_or(0)).map(|_| registers.hidden(None, Value::Null));
        let own_key: Vec<usize> = own_key.collect();
        let mut about = About {
            plan,
            scoping,
            own_key: &own_key,
            registers: &mut registers,
            cx,
        };
        let elements = (0..).zip(&plan.elements);
        let (elements, places): (Vec<_>, Vec<_>) = elements
            .map(|(number, element)| about.element(number, element))
            .unzip();
        let tokens = automaton.start_waits != 0;
        let keyed = scoping == Scoping::Keyed;
        let counts = matches!(plan.within, Some(Within::Events(_)));
        let keeps_keys = keyed && (tokens || begins_without_key(plan, &automaton));
        Code {
            filters: (0..plan.inputs.len())
                .map(|input| filters(plan, input, cx))
                .collect(),
            keys: compiled_keys(plan, cx),
            visible: plan.registers.len(),
            within: plan.within,
            skip: plan.skip,
            overflow: plan.overflow,
            matches_max: plan.matches_max,
            lists: automaton.sequence || counts || plan.skip != Skip::Nothing,
            every_row: automaton.sequence || counts || keeps_keys,
            keeps_keys,
            tokens,
            timed: automaton.absent & !automaton.untimed != 0,
            scoping,
            own_key,
            plain: plain(plan, &automaton, scoping),
            firsts,
            trail,
            elements,
            places,
            automaton,
            registers,
        }
    }
}

/// What is needed to compile elements.
struct About<'a> {
    plan: &'a Pattern,
    scoping: Scoping,
    own_key: &'a [usize],
    registers: &'a mut Registers,
    cx: Cx<'a>,
}

impl About<'_> {
    /// What an element asks of rows, and where those wait that wait for it.
    fn element(&mut self, number: usize, element: &Element) -> (ElementCode, Place) {
        let cx = self.cx;
        let by_key = self.plan.keys.get(element.input).and_then(Option::as_ref);
        let mut place = Place {
            columns: Vec::new(),
            scoped: self.scoping == Scoping::Keyed && by_key.is_some(),
        };
        let mut key = Vec::new();
        if let (Scoping::Indexed, Some(exprs)) = (self.scoping, by_key) {
            place.columns.extend(self.own_key);
            key.extend(exprs.iter().map(|expr| compile(expr, cx)));
        }
        let known = known(number, element, &mut place, self.registers, cx);
        key.extend(element.keys.iter().map(|(row, _)| compile(row, cx)));
        let rest = element.rest.as_ref();
        let registers = self.plan.registers.len();
        let code = ElementCode {
            key,
            known,
            rest: rest.map(|rest| Rest::new(rest, registers, cx)),
        };
        (code, place)
    }
}

/// The conditions of the elements that read an input.
fn filters(plan: &Pattern, input: usize, cx: Cx<'_>) -> Conditions {
    let elements = plan.elements.iter().enumerate();
    let these = elements.filter(|(_, element)| element.input == input);
    let bits = these.clone().map(|(number, _)| bit(number)).sum();
    let asked = these.filter_map(|(number, element)| Some((bit(number), element.filter.as_ref()?)));
    Conditions::new(bits, asked, cx)
}

fn compiled_keys(plan: &Pattern, cx: Cx<'_>) -> Vec<Option<Vec<Compiled>>> {
    let compiled = |exprs: &Vec<Expr>| exprs.iter().map(|expr| compile(expr, cx)).collect();
    let keys = plan.keys.iter();
    keys.map(|key| key.as_ref().map(compiled)).collect()
}

/// Where the known sides of an element's equalities lie: in the columns that they are, or in
/// hidden ones that are computed.
fn known(
    number: usize,
    element: &Element,
    place: &mut Place,
    registers: &mut Registers,
    cx: Cx<'_>,
) -> Vec<(usize, Compiled)> {
    let mut computed = Vec::new();
    for (_, known) in &element.keys {
        let known = compile(known, cx);
        place.columns.push(match known.column() {
            Some(column) => column,
            None => {
                let column = registers.hidden(Some(number), Value::Null);
                computed.push((column, known));
                column
            }
        });
    }
    computed
}

/// Whether rows that reach every key can begin a match, or keep one from beginning.
fn begins_without_key(plan: &Pattern, automaton: &Automaton) -> bool {
    bits(automaton.start.active).any(|element| {
        let input = plan.elements.get(element).map(|element| element.input);
        let key = input.and_then(|input| plan.keys.get(input));
        key.is_none_or(Option::is_none)
    })
}

fn scoping(plan: &Pattern, automaton: &Automaton) -> Scoping {
    if plan.keys.iter().all(Option::is_none) {
        return Scoping::One;
    }
    let counts = matches!(plan.within, Some(Within::Events(_)));
    let plain = automaton.always && !automaton.sequence && !counts && plan.skip == Skip::Nothing;
    if plain && !begins_without_key(plan, automaton) {
        Scoping::Indexed
    } else {
        Scoping::Keyed
    }
}

/// What nearly all patterns are: one row after another, each of one element, begun again by each
/// row that fits the first.
fn plain(plan: &Pattern, automaton: &Automaton, scoping: Scoping) -> Option<Vec<Control>> {
    let single = |element: &Element| {
        let once = Takes::Rows {
            min: 1,
            max: Some(1),
        };
        element.takes == once
    };
    let steps = plan.parts.iter().flat_map(|part| &part.steps);
    let chained = steps.zip(0..).all(|(step, number)| match step {
        PatternStep::Element(element) => *element == number,
        PatternStep::All(_) | PatternStep::Any(_) => false,
    });
    let once = automaton.always && !automaton.repeats_inside() && !automaton.sequence;
    let counts = matches!(plan.within, Some(Within::Events(_)));
    let free = plan.skip == Skip::Nothing && !counts && scoping != Scoping::Keyed;
    if !(chained && once && free && plan.elements.iter().all(single)) {
        return None;
    }
    let mut control = automaton.start;
    let stands = (0..plan.elements.len()).map(|element| {
        automaton.take(element, 1, &mut control);
        control
    });
    Some(stands.collect())
}

/// Takers out of `mask` that stand before another one of it give way.
#[inline]
pub(super) fn foremost(automaton: &Automaton, mask: u64) -> u64 {
    if mask & mask.wrapping_sub(1) == 0 {
        return mask;
    }
    let earlier = bits(mask).fold(0, |all, element| all | automaton.before(element));
    mask & !earlier
}
