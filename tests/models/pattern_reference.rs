//! Patterns and sequences as plainly as they can be written down from `docs/patterns.md`: a partial
//! match is a value, which says what is still to come and which rows it has taken. Each row and
//! each moment gives its successors. Numbers in comments are those of the rules.

use std::cmp::Ordering;

/// A piece of a pattern, and also what is left of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// So many rows are still needed, and so many may still come.
    Element {
        element: usize,
        min: usize,
        max: usize,
    },
    Absent {
        element: usize,
        for_ms: Option<i64>,
        due: Option<i64>,
        passed: bool,
    },
    Chain(Vec<Tree>),
    All(Vec<Tree>),
    Any(Vec<Tree>),
    /// An operand of `Any` that was spoiled.
    Ended(Box<Tree>),
}

/// What an element looks for.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    /// The place of the stream, from 0.
    pub(crate) stream: usize,
    pub(crate) quantified: bool,
    /// All of them must be true.
    pub(crate) condition: Vec<Term>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Term {
    /// A column compared with a constant.
    Constant(usize, Ordering, i64),
    /// A column compared with one of another element: of its first row or of its last one.
    Other(usize, Ordering, usize, Nth, usize),
    /// A column compared with that of the row which the element itself took before, unless that is
    /// NULL or there is none.
    Before(usize, Ordering),
    /// The number of rows of an element compared with a constant.
    Count(usize, Ordering, i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Nth {
    First,
    Last,
}

#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) sequence: bool,
    pub(crate) elements: Vec<Element>,
    /// Whether EVERY stands before it, and its steps.
    pub(crate) parts: Vec<(bool, Vec<Tree>)>,
    pub(crate) within_ms: Option<i64>,
    pub(crate) within_events: Option<usize>,
    pub(crate) skip: Skip,
    /// PARTITION BY the first column; the streams that have it.
    pub(crate) partition: Option<Vec<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Skip {
    Nothing,
    PastLastRow,
    ToNextRow,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) time: i64,
    /// None when only the clock moves.
    pub(crate) stream: Option<usize>,
    pub(crate) cells: [Option<i64>; 2],
}

/// The number of an element and of a row, in the order in which they were taken.
type Taken = Vec<(usize, usize)>;

/// A match that was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) time: i64,
    pub(crate) taken: Taken,
}

impl Told {
    /// The rows of an element.
    pub(crate) fn rows(&self, element: usize) -> Vec<usize> {
        rows_of(&self.taken, element)
    }
}

fn rows_of(taken: &Taken, element: usize) -> Vec<usize> {
    let of_it = taken.iter().filter(|(one, _)| *one == element);
    of_it.map(|(_, row)| *row).collect()
}

#[derive(Clone, Debug, PartialEq)]
struct Partial {
    /// The steps that are not behind it yet.
    left: Vec<Tree>,
    taken: Taken,
}

impl Partial {
    /// 5: each row once, as they were taken. One without a row comes last.
    fn age(&self) -> Vec<usize> {
        let mut rows: Vec<usize> = self.taken.iter().map(|(_, row)| *row).collect();
        rows.dedup();
        rows.resize(rows.len().max(1), usize::MAX);
        rows
    }

    fn first(&self) -> Option<usize> {
        self.taken.first().map(|(_, row)| *row)
    }
}

/// A row that is offered, and what is needed to see whether it fits.
#[derive(Clone, Copy)]
struct Offer<'a> {
    pattern: &'a Pattern,
    rows: &'a [Row],
    row: usize,
    /// The absences with which the pattern may start.
    starts: &'a [usize],
}

impl Offer<'_> {
    fn fits(&self, element: usize, taken: &Taken) -> bool {
        let wanted = &self.pattern.elements[element];
        let cells = &self.rows[self.row].cells;
        let holds = |a: Option<i64>, wanted: Ordering, b: Option<i64>| match (a, b) {
            (Some(a), Some(b)) => a.cmp(&b) == wanted,
            _ => false,
        };
        let term = |term: &Term| match *term {
            Term::Constant(cell, wanted, number) => holds(cells[cell], wanted, Some(number)),
            Term::Other(cell, wanted, other, nth, other_cell) => {
                let rows = rows_of(taken, other);
                let row = match nth {
                    Nth::First => rows.first(),
                    Nth::Last => rows.last(),
                };
                let other = row.and_then(|row| self.rows[*row].cells[other_cell]);
                holds(cells[cell], wanted, other)
            }
            Term::Before(cell, wanted) => {
                let before = rows_of(taken, element).last().copied();
                let before = before.and_then(|row| self.rows[row].cells[cell]);
                before.is_none() || holds(cells[cell], wanted, before)
            }
            Term::Count(other, wanted, number) => {
                let count = i64::try_from(rows_of(taken, other).len()).unwrap();
                holds(Some(count), wanted, Some(number))
            }
        };
        self.rows[self.row].stream == Some(wanted.stream) && wanted.condition.iter().all(term)
    }
}

/// So many steps are active: the first, and each behind one that is done.
fn active(steps: &[Tree]) -> usize {
    let done = steps.iter().take_while(|step| step.done()).count();
    steps.len().min(done + 1)
}

/// What stands behind the first step begins, or begins again, when that one is done.
fn begin_behind(mut steps: Vec<Tree>, now: i64) -> Vec<Tree> {
    let mut place = 1;
    while place < steps.len() && steps[place - 1].done() {
        steps[place] = steps[place].begin(now);
        place += 1;
    }
    steps
}

fn begin_all(steps: &[Tree], now: i64) -> Vec<Tree> {
    let mut steps = steps.to_vec();
    if let Some(first) = steps.first_mut() {
        *first = first.begin(now);
    }
    begin_behind(steps, now)
}

/// Offers a row to steps; none when it spoils them. Tells whether it was taken.
fn offer_steps(steps: &[Tree], offer: Offer<'_>, taken: &mut Taken) -> Option<(Vec<Tree>, bool)> {
    let mut steps = steps.to_vec();
    // 6: what follows comes first.
    for place in (0..active(&steps)).rev() {
        let (step, took) = steps[place].offer(offer, taken)?;
        let changed = step != steps[place];
        steps[place] = step;
        if took {
            let now = offer.rows[offer.row].time;
            return Some((begin_behind(steps.split_off(place), now), true));
        }
        if changed {
            break;
        }
    }
    Some((steps, false))
}

fn pass_steps(steps: &[Tree], now: i64, taken: &mut Taken) -> Vec<Tree> {
    let mut steps = steps.to_vec();
    for place in (0..active(&steps)).rev() {
        let before = steps[place].clone();
        steps[place] = steps[place].pass(now, taken);
        // What follows has begun.
        if steps[place] != before {
            return begin_behind(steps.split_off(place), now);
        }
    }
    steps
}

/// What is left of a chain. What is behind it is still known, for an OR that forgets it.
fn rest_of(steps: &[Tree], left: Vec<Tree>) -> Tree {
    let behind = steps[..steps.len() - left.len()].iter();
    let behind = behind
        .flat_map(Tree::elements)
        .map(|element| Tree::Element {
            element,
            min: 0,
            max: 0,
        });
    Tree::Chain(behind.chain(left).collect())
}

impl Tree {
    pub(crate) fn done(&self) -> bool {
        match self {
            Tree::Element { min, .. } => *min == 0,
            // 10: without a time it only looks on.
            Tree::Absent { for_ms, passed, .. } => *passed || for_ms.is_none(),
            Tree::Chain(steps) | Tree::All(steps) => steps.iter().all(Tree::done),
            Tree::Any(operands) => operands.iter().any(Tree::done),
            Tree::Ended(_) => false,
        }
    }

    /// It begins, or begins again: absences wait from now.
    fn begin(&self, now: i64) -> Tree {
        let all = |trees: &[Tree]| trees.iter().map(|tree| tree.begin(now)).collect();
        match self {
            Tree::Element { .. } => self.clone(),
            Tree::Absent {
                element, for_ms, ..
            } => Tree::Absent {
                element: *element,
                for_ms: *for_ms,
                due: for_ms.map(|for_ms| now + for_ms),
                passed: false,
            },
            Tree::Chain(steps) => Tree::Chain(begin_all(steps, now)),
            Tree::All(operands) => Tree::All(all(operands)),
            Tree::Any(operands) => Tree::Any(all(operands)),
            Tree::Ended(_) => self.clone(),
        }
    }

    fn offer(&self, offer: Offer<'_>, taken: &mut Taken) -> Option<(Tree, bool)> {
        match self {
            Tree::Element { element, min, max } => {
                let takes = *max > 0 && offer.fits(*element, taken);
                if !takes {
                    return Some((self.clone(), false));
                }
                taken.push((*element, offer.row));
                let left = Tree::Element {
                    element: *element,
                    min: min.saturating_sub(1),
                    max: max - 1,
                };
                Some((left, true))
            }
            Tree::Absent {
                element,
                for_ms,
                passed,
                ..
            } => {
                if *passed || !offer.fits(*element, taken) {
                    Some((self.clone(), false))
                } else if offer.starts.contains(element) && for_ms.is_some() {
                    // 9: at the start it waits again.
                    Some((self.begin(offer.rows[offer.row].time), false))
                } else {
                    None
                }
            }
            Tree::Chain(steps) => {
                let (left, took) = offer_steps(steps, offer, taken)?;
                Some((rest_of(steps, left), took))
            }
            Tree::All(operands) => offer_all(operands, offer, taken),
            Tree::Any(operands) => offer_any(operands, offer, taken),
            Tree::Ended(_) => Some((self.clone(), false)),
        }
    }

    /// The clock has got here.
    fn pass(&self, now: i64, taken: &mut Taken) -> Tree {
        match self {
            Tree::Element { .. } | Tree::Ended(_) => self.clone(),
            Tree::Absent {
                element,
                for_ms,
                due,
                passed,
            } => Tree::Absent {
                element: *element,
                for_ms: *for_ms,
                due: *due,
                passed: *passed || due.is_some_and(|due| due <= now),
            },
            Tree::Chain(steps) => rest_of(steps, pass_steps(steps, now, taken)),
            Tree::All(operands) => {
                let operands = operands.iter().map(|operand| operand.pass(now, taken));
                Tree::All(operands.collect())
            }
            Tree::Any(operands) => {
                let operands = operands.iter().map(|operand| operand.pass(now, taken));
                let operands: Vec<Tree> = operands.collect();
                let done = operands.iter().position(Tree::done);
                done.map_or(Tree::Any(operands.clone()), |done| {
                    choose(&operands, done, taken)
                })
            }
        }
    }

    /// When an absence is over.
    fn due(&self) -> Option<i64> {
        match self {
            Tree::Element { .. } | Tree::Ended(_) => None,
            Tree::Absent { due, passed, .. } => due.filter(|_| !passed),
            Tree::Chain(steps) => steps[..active(steps)].iter().filter_map(Tree::due).min(),
            Tree::All(operands) | Tree::Any(operands) => {
                operands.iter().filter_map(Tree::due).min()
            }
        }
    }

    /// The elements that look at the next row.
    fn waits(&self) -> Vec<usize> {
        match self {
            Tree::Element { element, max, .. } => {
                Some(*element).filter(|_| *max > 0).into_iter().collect()
            }
            Tree::Absent {
                element, passed, ..
            } => Some(*element).filter(|_| !passed).into_iter().collect(),
            Tree::Chain(steps) => waits(steps),
            Tree::All(operands) => {
                // 10: what only looks on does so until the others are done.
                let done = self.done();
                let looks = |one: &&Tree| !done || !matches!(one, Tree::Absent { .. });
                operands
                    .iter()
                    .filter(looks)
                    .flat_map(Tree::waits)
                    .collect()
            }
            Tree::Any(operands) => operands.iter().flat_map(Tree::waits).collect(),
            Tree::Ended(_) => Vec::new(),
        }
    }

    /// Whether some absence in it is over.
    fn passed(&self) -> bool {
        match self {
            Tree::Element { .. } => false,
            Tree::Absent { passed, .. } => *passed,
            Tree::Chain(trees) | Tree::All(trees) | Tree::Any(trees) => {
                trees.iter().any(Tree::passed)
            }
            Tree::Ended(tree) => tree.passed(),
        }
    }

    /// The elements with which it may begin.
    fn heads(&self) -> Vec<usize> {
        match self {
            Tree::Element { element, .. } | Tree::Absent { element, .. } => vec![*element],
            Tree::Chain(steps) => steps[0].heads(),
            Tree::All(trees) | Tree::Any(trees) => trees.iter().flat_map(Tree::heads).collect(),
            Tree::Ended(tree) => tree.heads(),
        }
    }

    /// All elements that it has.
    pub(crate) fn elements(&self) -> Vec<usize> {
        match self {
            Tree::Element { element, .. } | Tree::Absent { element, .. } => vec![*element],
            Tree::Chain(trees) | Tree::All(trees) | Tree::Any(trees) => {
                trees.iter().flat_map(Tree::elements).collect()
            }
            Tree::Ended(tree) => tree.elements(),
        }
    }
}

fn waits(steps: &[Tree]) -> Vec<usize> {
    let active = &steps[..active(steps)];
    active.iter().flat_map(Tree::waits).collect()
}

/// 8: a row may fill several operands. 10: an absence without a time is spoiled by what comes
/// before the others are done.
fn offer_all(operands: &[Tree], offer: Offer<'_>, taken: &mut Taken) -> Option<(Tree, bool)> {
    let (mut left, mut took, mut spoiled) = (Vec::new(), false, false);
    for operand in operands {
        match operand.offer(offer, taken) {
            Some((tree, took_it)) => {
                left.push(tree);
                took |= took_it;
            }
            None if matches!(operand, Tree::Absent { for_ms: None, .. }) => {
                left.push(operand.clone());
                spoiled = true;
            }
            None => return None,
        }
    }
    let all = Tree::All(left);
    (!spoiled || all.done()).then_some((all, took))
}

/// 8: the first written that a row completes counts. 9: an absence that is spoiled ends its operand
/// only.
fn offer_any(operands: &[Tree], offer: Offer<'_>, taken: &mut Taken) -> Option<(Tree, bool)> {
    let (mut left, mut took) = (Vec::new(), false);
    for operand in operands {
        if left.iter().any(Tree::done) {
            left.push(operand.clone());
            continue;
        }
        left.push(match operand.offer(offer, taken) {
            None => Tree::Ended(Box::new(operand.clone())),
            Some((tree, took_it)) => {
                took |= took_it;
                tree
            }
        });
    }
    if let Some(done) = left.iter().position(Tree::done) {
        return Some((choose(&left, done, taken), took));
    }
    let ended = left.iter().all(|tree| matches!(tree, Tree::Ended(_)));
    (!ended).then_some((Tree::Any(left), took))
}

/// 8: what the others have taken is forgotten.
fn choose(operands: &[Tree], chosen: usize, taken: &mut Taken) -> Tree {
    for (place, operand) in operands.iter().enumerate() {
        if place != chosen {
            let elements = operand.elements();
            taken.retain(|(element, _)| !elements.contains(element));
        }
    }
    operands[chosen].clone()
}

/// The partial matches of a key.
struct Key {
    key: Option<i64>,
    partials: Vec<Partial>,
    complete: Vec<Partial>,
    /// The rows that came, for WITHIN … EVENTS.
    seen: Vec<usize>,
    told: bool,
}

pub(crate) struct Run<'a> {
    pattern: &'a Pattern,
    rows: &'a [Row],
    steps: Vec<Tree>,
    starts: Vec<usize>,
    keys: Vec<Key>,
    told: Vec<Told>,
}

/// All matches, in their order.
pub(crate) fn matches(pattern: &Pattern, rows: &[Row]) -> Vec<Told> {
    let steps = pattern.parts.iter().flat_map(|(_, steps)| steps.clone());
    let steps: Vec<Tree> = steps.collect();
    let mut run = Run {
        pattern,
        rows,
        starts: steps[0].heads(),
        steps,
        keys: Vec::new(),
        told: Vec::new(),
    };
    if let (None, Some(first)) = (&pattern.partition, rows.first()) {
        run.open(None, first.time);
    }
    for (number, row) in rows.iter().enumerate() {
        run.advance(row.time);
        run.row(number);
    }
    run.told
}

impl Run<'_> {
    fn open(&mut self, key: Option<i64>, now: i64) {
        let partials = vec![self.start(now)];
        self.keys.push(Key {
            key,
            partials,
            complete: Vec::new(),
            seen: Vec::new(),
            told: false,
        });
    }

    fn start(&self, now: i64) -> Partial {
        self.again(0, &Vec::new(), now)
    }

    /// 4: a part begins, with the rows before it.
    fn again(&self, part: usize, taken: &Taken, now: i64) -> Partial {
        let before: Vec<usize> = self.steps[..self.part(part).start]
            .iter()
            .flat_map(Tree::elements)
            .collect();
        let mut taken = taken.clone();
        taken.retain(|(element, _)| before.contains(element));
        let left = begin_all(&self.steps[self.part(part).start..], now);
        Partial { left, taken }
    }

    /// The steps of a part.
    fn part(&self, part: usize) -> std::ops::Range<usize> {
        let before = self.pattern.parts[..part].iter();
        let start = before.map(|(_, steps)| steps.len()).sum();
        start..start + self.pattern.parts[part].1.len()
    }

    /// Whether a part is done; one that can be done without a row, only with a row or when it is
    /// behind.
    fn settled(&self, partial: &Partial, part: usize) -> bool {
        let at = self.steps.len() - partial.left.len();
        let steps = self.part(part);
        let left = (steps.start.max(at)..steps.end).map(|place| &partial.left[place - at]);
        let done = left.into_iter().all(Tree::done);
        let empty = self.steps[steps.clone()].iter().all(Tree::done);
        let from_it: Vec<usize> = self.steps[steps.start..]
            .iter()
            .flat_map(Tree::elements)
            .collect();
        let rows = partial.taken.iter().any(|(one, _)| from_it.contains(one));
        done && (!empty || rows || at >= steps.end)
    }

    /// Whether it has a row or its first step is behind it.
    fn begun(&self, partial: &Partial) -> bool {
        let first = &partial.left[0];
        let first_done = first.done() && !self.steps[0].done() || first.passed();
        !partial.taken.is_empty() || partial.left.len() < self.steps.len() || first_done
    }

    fn every(&self) -> bool {
        self.pattern.parts[0].0
    }

    /// What becomes of a partial match that has moved.
    fn moved(&self, old: &Partial, new: Partial, now: i64, key: &mut Key) {
        let parts = self.pattern.parts.iter().enumerate();
        let again = parts.filter(|(part, (every, _))| {
            let settled = self.settled(&new, *part) && !self.settled(old, *part);
            // 12: can begin at each row.
            let at_each_row = self.pattern.sequence && *part == 0;
            *every
                && if at_each_row {
                    !self.begun(old) && self.begun(&new)
                } else {
                    settled
                }
        });
        let again = again.map(|(part, _)| self.again(part, &new.taken, now));
        let again: Vec<Partial> = again.collect();
        // 12: one that an older one is complete by gives way.
        let young = self.pattern.sequence && !self.begun(old) && !key.complete.is_empty();
        if new.left.iter().all(Tree::done) {
            key.complete.extend((!young).then_some(new));
        } else {
            key.partials.push(new);
        }
        key.partials.extend(again);
    }

    /// 4, 12: what begins when a partial match has died.
    fn begins_again(&self, dead: &Partial) -> bool {
        if self.pattern.sequence {
            self.every() && !self.begun(dead)
        } else {
            self.every() && !self.settled(dead, 0)
        }
    }

    fn offer(&self, number: usize, key: &mut Key) {
        let now = self.rows[number].time;
        let mut died = false;
        for old in std::mem::take(&mut key.partials) {
            match self.offered(&old, number) {
                Some((new, true)) => self.moved(&old, new, now, key),
                Some((new, false)) if !self.pattern.sequence || !self.begun(&old) => {
                    key.partials.push(new);
                }
                _ => {
                    died = true;
                    if self.begins_again(&old) {
                        // The row that spoiled it may begin the next.
                        self.begin_with(number, key);
                    }
                }
            }
        }
        let over = key.partials.is_empty() && key.complete.is_empty() && !key.told;
        if died && over && self.pattern.sequence {
            self.begin_with(number, key);
        }
    }

    /// A row that may begin a match.
    fn begin_with(&self, number: usize, key: &mut Key) {
        let now = self.rows[number].time;
        let start = self.start(now);
        match self.offered(&start, number) {
            Some((new, true)) => self.moved(&start, new, now, key),
            Some((new, false)) => key.partials.push(new),
            None => key.partials.push(start),
        }
    }

    fn offered(&self, old: &Partial, row: usize) -> Option<(Partial, bool)> {
        let mut taken = old.taken.clone();
        let offer = Offer {
            pattern: self.pattern,
            rows: self.rows,
            row,
            starts: &self.starts,
        };
        let (left, took) = offer_steps(&old.left, offer, &mut taken)?;
        Some((Partial { left, taken }, took))
    }

    fn row(&mut self, number: usize) {
        let row = &self.rows[number];
        let named = |stream: &usize| self.pattern.elements.iter().any(|e| e.stream == *stream);
        let Some(stream) = row.stream.filter(named) else {
            return;
        };
        // 14.
        let has_key = self.pattern.partition.as_ref();
        let has_key = has_key.is_some_and(|streams| streams.contains(&stream));
        if has_key {
            let Some(value) = row.cells[0] else { return };
            if !self.keys.iter().any(|key| key.key == Some(value)) {
                self.open(Some(value), row.time);
            }
        }
        let mut keys = std::mem::take(&mut self.keys);
        for key in &mut keys {
            if has_key && key.key != row.cells[0] {
                continue;
            }
            key.seen.push(number);
            self.expire(key, row.time);
            self.offer(number, key);
        }
        self.tell(&mut keys, row.time);
        self.keys = keys;
    }

    /// 11: when a partial match is dead.
    fn dead_at(&self, partial: &Partial) -> Option<i64> {
        let first = self.rows[partial.first()?].time;
        Some(first + self.pattern.within_ms? + 1)
    }

    fn expire(&self, key: &mut Key, now: i64) {
        for partial in std::mem::take(&mut key.partials) {
            let late = self.dead_at(&partial).is_some_and(|dead| dead <= now);
            let place = partial
                .first()
                .and_then(|first| key.seen.iter().position(|row| *row == first));
            let events = place.map_or(0, |place| key.seen.len() - place);
            let many = self.pattern.within_events.is_some_and(|n| events > n);
            if !late && !many {
                key.partials.push(partial);
            } else if self.begins_again(&partial) {
                key.partials.push(self.start(now));
            }
        }
        if key.partials.is_empty() && self.pattern.sequence && !key.told {
            key.partials.push(self.start(now));
        }
    }

    /// Everything that is due until then, moment by moment.
    fn advance(&mut self, until: i64) {
        loop {
            let partials = self.keys.iter().flat_map(|key| &key.partials);
            let moments = partials.flat_map(|partial| {
                let steps = &partial.left[..active(&partial.left)];
                let due = steps.iter().filter_map(Tree::due).min();
                due.into_iter().chain(self.dead_at(partial))
            });
            let Some(now) = moments.min().filter(|now| *now <= until) else {
                return;
            };
            let mut keys = std::mem::take(&mut self.keys);
            for key in &mut keys {
                self.expire(key, now);
                for old in std::mem::take(&mut key.partials) {
                    let mut taken = old.taken.clone();
                    let left = pass_steps(&old.left, now, &mut taken);
                    let new = Partial { left, taken };
                    if new == old {
                        key.partials.push(old);
                    } else {
                        self.moved(&old, new, now, key);
                    }
                }
            }
            self.tell(&mut keys, now);
            self.keys = keys;
        }
    }

    /// 5, 13: tells what is complete, and ends what that ends.
    fn tell(&mut self, keys: &mut [Key], now: i64) {
        let mut told = Vec::new();
        for key in keys {
            let mut complete = std::mem::take(&mut key.complete);
            complete.sort_by_key(Partial::age);
            key.told |= !complete.is_empty();
            while !complete.is_empty() {
                let one = complete.remove(0);
                match self.pattern.skip {
                    Skip::Nothing => {}
                    Skip::PastLastRow => {
                        complete.clear();
                        key.partials.clear();
                        if self.every() {
                            key.partials.push(self.start(now));
                        }
                    }
                    Skip::ToNextRow => {
                        let other = |partial: &Partial| {
                            partial.first().is_none() || partial.first() != one.first()
                        };
                        complete.retain(other);
                        key.partials.retain(other);
                    }
                }
                told.push(one);
            }
            self.give_up(key);
        }
        told.sort_by_key(Partial::age);
        self.told.extend(told.into_iter().map(|one| Told {
            time: now,
            taken: one.taken,
        }));
    }

    /// 12: of those that wait for the same, the oldest stays.
    fn give_up(&self, key: &mut Key) {
        if !self.pattern.sequence {
            return;
        }
        let mut partials = std::mem::take(&mut key.partials);
        partials.sort_by_key(|partial| !self.begun(partial));
        for partial in partials {
            let same = |older: &Partial| {
                let (ours, theirs) = (waits(&partial.left), waits(&older.left));
                ours.iter().any(|one| theirs.contains(one))
                    && self.begun(older) == self.begun(&partial)
            };
            if !key.partials.iter().any(same) {
                key.partials.push(partial);
            }
        }
    }
}
