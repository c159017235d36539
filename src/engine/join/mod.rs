//! Joins: rows of several streams, matched with each other, with tables and with aggregations.
//!
//! A row first enters its own side's window and is then matched with what the other side holds,
//! oldest first. Rows that come at the same moment, since one stream is read twice or since
//! windows close together, all enter before the first of them is matched.

mod look_up;
mod port;
mod side;
#[cfg(test)]
mod tests;
mod tree;

use std::cell::Cell;
use std::sync::Arc;

use super::analytic::Analytics;
use super::expr::{Cx, compile, predicate};
use super::node::Stores;
use super::state::{Load, Save, StateError};
use super::window::Changes;
use crate::event::{Rows, Stamp, Timestamp, Value};
use crate::sql::plan::{self, Expr, Join, JoinInput, JoinKind, Side as SidePlan, Source};
use port::{Port, Step, Waiting};
use side::{Called, Held, HeldLookup, HeldRows, HeldTable, Side};
use tree::{Exit, Hand, Node, Place, Scratch, Tree};

/// Something besides tables that a join looks up. It never triggers.
pub(super) trait Lookup: Send + Sync {
    /// Appends the wanted columns of the wanted rows, row after row, in order. Gives how many rows
    /// there are.
    fn fetch(&self, wanted: &Wanted<'_>, to: &mut Vec<Value>) -> usize;
}

/// What a join wants to look up.
pub(super) struct Wanted<'a> {
    /// From this time on.
    pub(super) from: Timestamp,
    /// Before this time.
    pub(super) until: Timestamp,
    /// Which of the durations.
    pub(super) per: usize,
    /// Columns, counted among all, and their values. Rows with others may be left out or not.
    pub(super) key: &'a [(usize, &'a Value)],
    /// The columns to be given.
    pub(super) keep: &'a [usize],
    /// The engine's time.
    pub(super) now: Timestamp,
}

/// The joins of one query, with their state.
pub(super) struct Joiner {
    ports: Vec<Port>,
    tree: Tree,
    /// Ports in the order in which rows of one moment enter: first those whose matches stay inside,
    /// so that the others find them; then those that only hold; then from the last to the first, so
    /// that of two rows that come together the one further to the left finds the other.
    order: Vec<usize>,
    waiting: Vec<(usize, Waiting)>,
    /// What is computed from joined row to joined row. It then has the filter, too.
    analytics: Option<Box<Analytics>>,
}

/// The state of ports is numbered from this on, and that of the tree from the other.
const PORTS: u16 = 1;
const HELD: u16 = 0x8000;

/// Rows that are taken in one go.
const TAKE_ROWS_MAX: usize = 1024;

impl Joiner {
    /// `seen`: whether anybody looks at rows that leave. `asks`: whether an expression of whoever
    /// takes the joined rows may ask a table.
    pub(super) fn new(
        plan: &JoinInput,
        analytics: &plan::Analytics,
        stores: &Stores,
        seen: bool,
        asks: bool,
    ) -> Joiner {
        let cx = stores.cx(&[]);
        let mut build = Build {
            stores,
            cx,
            ports: Vec::new(),
            nodes: Vec::new(),
        };
        let join = &plan.join;
        build.join(join, seen, true, false);
        let fetched = [&join.left, &join.right].into_iter().any(is_fetched);
        let again = !fetched && is_steady(plan);
        let lasts = lasts(&join.left) || lasts(&join.right);
        let filter = plan.filter.as_ref();
        let analytics = Analytics::new(analytics, filter, stores);
        let filter = filter.filter(|_| analytics.is_none());
        let pairs =
            (seen && lasts && !again).then(|| HeldRows::new(join.width(), &[], Called::Twice));
        let mut joiner = Joiner {
            order: (0..build.ports.len()).collect(),
            ports: build.ports,
            tree: Tree {
                nodes: build.nodes,
                exit: Exit {
                    filter: filter.map(|filter| predicate(filter, cx)),
                    seen,
                    pairs,
                },
                asks,
                number: 0,
                faults: Cell::new(0),
            },
            waiting: Vec::new(),
            analytics: analytics.map(Box::new),
        };
        let Joiner {
            ports, order, tree, ..
        } = &mut joiner;
        order.sort_by_key(|number| {
            let port = ports.get(*number);
            let side = port.and_then(|port| tree.side(port.place));
            let triggers = side.is_some_and(|side| side.triggers);
            let reaches = port.is_some_and(|port| port.reaches);
            (reaches, triggers, std::cmp::Reverse(*number))
        });
        joiner
    }

    /// Whether joined rows can leave, in whatever order.
    pub(super) fn can_leave(plan: &JoinInput) -> bool {
        let Join {
            kind, left, right, ..
        } = &plan.join;
        let alone = |side: &SidePlan, preserved: bool| preserved && side.triggers && lasts(side);
        let (keeps_left, keeps_right) = preserved(*kind);
        lasts(left) && lasts(right) || alone(left, keeps_left) || alone(right, keeps_right)
    }

    /// The same for another instance of the query, with nothing in it.
    pub(super) fn fresh(&self) -> Joiner {
        let nodes = self.tree.nodes.iter().map(|node| Node {
            left: node.left.fresh(),
            right: node.right.fresh(),
            residual: node.residual.clone(),
            parent: node.parent,
            scratch: Scratch::default(),
        });
        Joiner {
            ports: self.ports.iter().map(Port::fresh).collect(),
            tree: Tree {
                nodes: nodes.collect(),
                exit: self.tree.exit.fresh(),
                asks: self.tree.asks,
                number: 0,
                faults: Cell::new(0),
            },
            order: self.order.clone(),
            waiting: Vec::new(),
            analytics: self.analytics.as_ref().map(|one| Box::new(one.fresh())),
        }
    }

    /// Takes rows of an input, all before the next deadline but the first. Rows of a stream that
    /// is read several times are taken for all its inputs at once, when they come for the first.
    pub(super) fn push(&mut self, input: usize, rows: Rows<'_>, to: &mut impl Changes) {
        let Some(mut analytics) = self.analytics.take() else {
            self.push_rows(input, rows, to);
            return;
        };
        self.push_rows(input, rows, &mut analytics.before(to));
        self.analytics = Some(analytics);
    }

    fn push_rows(&mut self, input: usize, rows: Rows<'_>, to: &mut impl Changes) {
        let Some(first) = rows.stamps().first().copied() else {
            return;
        };
        let Some(stream) = self.ports.get(input).map(Port::stream) else {
            return;
        };
        let mut readers = (0..).zip(&self.ports);
        let mut readers = readers.by_ref().filter(|(_, port)| port.stream() == stream);
        if readers.next().is_none_or(|(reader, _)| reader != input) {
            return;
        }
        let alone = readers.next().is_none();
        // Also when another query made the rows at the very moment at which a window falls due.
        while let Some(due) = self.deadline().filter(|due| *due <= first.time) {
            let seq = first.seq;
            self.fire_ports(Stamp { seq, time: due }, to);
            if self.deadline() == Some(due) {
                break;
            }
        }
        let mut rest = rows;
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(if alone { TAKE_ROWS_MAX } else { 1 });
            if alone {
                self.push_to(input, head, to);
            } else {
                for port in self.ports.iter_mut().filter(|port| port.stream() == stream) {
                    port.take(head, &self.tree.faults);
                }
                self.take_steps(false, to);
            }
            rest = tail;
        }
        self.tree.tidy();
    }

    fn push_to(&mut self, number: usize, rows: Rows<'_>, to: &mut impl Changes) {
        let Some(port) = self.ports.get_mut(number) else {
            return;
        };
        let node = self.tree.nodes.get(port.place.node);
        let other = node.map(|node| match port.place.hand {
            Hand::Left => &node.right.held,
            Hand::Right => &node.left.held,
        });
        if port.is_straight() && matches!(other, Some(Held::Table(_))) {
            port.pick(rows, &self.tree.faults);
            self.tree.look_up(port, rows, to);
            return;
        }
        port.take(rows, &self.tree.faults);
        self.take_steps(true, to);
    }

    /// The clock has reached a deadline.
    pub(super) fn fire(&mut self, at: Stamp, to: &mut impl Changes) {
        let Some(mut analytics) = self.analytics.take() else {
            self.fire_ports(at, to);
            return;
        };
        self.fire_ports(at, &mut analytics.before(to));
        self.analytics = Some(analytics);
    }

    fn fire_ports(&mut self, at: Stamp, to: &mut impl Changes) {
        for port in &mut self.ports {
            port.fire(at, &self.tree.faults);
        }
        self.take_steps(true, to);
        self.tree.tidy();
    }

    /// Takes in what the windows have done, round by round: rows leave, rows enter, those that
    /// have entered look for matches.
    fn take_steps(&mut self, each: bool, to: &mut impl Changes) {
        loop {
            let mut any = false;
            for port in &mut self.ports {
                let place = port.place;
                while let Some(step) = port.next_leave() {
                    any = true;
                    match step {
                        Step::Leave { id, at } => self.tree.leave_called(place, id, at, to),
                        Step::LeaveAll { at } => self.tree.leave_all(place, at, to),
                        Step::Enter { .. } => {}
                    }
                }
            }
            for reaches in [false, true] {
                self.enter(reaches);
                any |= !self.waiting.is_empty();
                let last = self.trigger(each, to);
                if let Some(at) = last.filter(|_| reaches) {
                    to.together(at);
                }
            }
            if !any {
                break;
            }
        }
        self.ports.iter_mut().for_each(Port::done);
    }

    /// Puts rows into their sides.
    fn enter(&mut self, reaches: bool) {
        self.waiting.clear();
        for number_of_port in &self.order {
            let Some(port) = self.ports.get_mut(*number_of_port) else {
                continue;
            };
            if port.reaches != reaches {
                continue;
            }
            while let Some(place) = port.next_enter() {
                let Some((row, id)) = port.row(place) else {
                    continue;
                };
                let number = self.tree.next_number();
                let slot = self.tree.insert(port.place, row, number, [Some(id), None]);
                let one = Waiting {
                    slot,
                    place,
                    number,
                };
                self.waiting.push((*number_of_port, one));
            }
        }
        if self.waiting.len() > 1 {
            self.waiting.sort_by_key(|(port, one)| (*port, one.number));
        }
    }

    /// Rows that have entered look for their matches. `each`: each of them is a row of its own,
    /// not one of a batch, or one that several sides read. Gives when the last one came.
    fn trigger(&mut self, each: bool, to: &mut impl Changes) -> Option<Stamp> {
        let mut last = None;
        for (port, one) in &self.waiting {
            let Some(port) = self.ports.get(*port) else {
                continue;
            };
            let side = self.tree.side(port.place);
            if let Some((row, _)) = port
                .row(one.place)
                .filter(|_| side.is_some_and(|s| s.triggers))
            {
                let batch = port.is_batch();
                self.tree.trigger(port.place, one.coming(row), to);
                last = Some(row.stamp);
                if each && !batch {
                    to.together(row.stamp);
                }
            }
        }
        last
    }

    /// When it must be fired next, as things are.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.ports.iter().filter_map(Port::deadline).min()
    }

    /// The earliest deadline that rows from `time` on could bring about.
    pub(super) fn earliest(&self, time: Timestamp) -> Option<Timestamp> {
        self.ports
            .iter()
            .filter_map(|port| port.earliest(time))
            .min()
    }

    /// Whether there is anything to remember between two rows.
    pub(super) fn has_state(&self) -> bool {
        self.analytics.is_some() || !self.ports.iter().all(Port::is_straight)
    }

    /// Expressions that could not be computed since the last call.
    pub(super) fn take_faults(&self) -> u64 {
        let computed = self.analytics.as_ref();
        self.tree.faults.take() + computed.map_or(0, |analytics| analytics.faults.take())
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        if !self.has_state() {
            return Ok(());
        }
        for (which, port) in (PORTS..).zip(&mut self.ports) {
            save.one_of(which, |save| port.save(save))?;
        }
        if let Some(analytics) = &mut self.analytics {
            analytics.save(save)?;
        }
        self.tree.save(HELD, save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        for (which, port) in (PORTS..).zip(&mut self.ports) {
            port.load(&load.one_of(which))?;
        }
        if let Some(analytics) = &mut self.analytics {
            analytics.load(load)?;
        }
        self.tree.load(HELD, load)
    }
}

/// What is put together on the way from a plan to a [`Joiner`].
struct Build<'a> {
    stores: &'a Stores,
    cx: Cx<'a>,
    ports: Vec<Port>,
    nodes: Vec<Node>,
}

/// What feeds a side.
#[derive(Clone, Copy)]
enum Feeder {
    Port(usize),
    Node(usize),
    Nobody,
}

impl Build<'_> {
    /// Adds a join; gives its number. `watched`: whether anybody needs to know when its rows
    /// leave. `reaches`: whether its rows look for matches all the way up. `inside`: whether its
    /// pairs are only looked up, so that every one of them is wanted, whichever row came last.
    fn join(&mut self, join: &Join, watched: bool, reaches: bool, inside: bool) -> usize {
        let (keeps_left, keeps_right) = preserved(join.kind);
        let how = |side: &SidePlan, other: &SidePlan, preserved: bool| {
            let looks_up = |side: &SidePlan| side.triggers || inside && !is_fetched(side);
            How {
                triggers: looks_up(side),
                held: lasts(side) && (looks_up(other) || watched),
                reaches,
                preserved,
            }
        };
        let left_how = how(&join.left, &join.right, keeps_left);
        let right_how = how(&join.right, &join.left, keeps_right);
        let left_keys: Vec<&Expr> = join.keys.iter().map(|(key, _)| key).collect();
        let right_keys: Vec<&Expr> = join.keys.iter().map(|(_, key)| key).collect();
        let (left, left_from) = self.side(&join.left, left_how, &left_keys);
        let (right, right_from) = self.side(&join.right, right_how, &right_keys);
        let node = self.nodes.len();
        let residual = join.residual.as_ref();
        self.nodes.push(Node {
            left,
            right,
            residual: residual.map(|expr| predicate(expr, self.cx)),
            parent: None,
            scratch: Scratch::default(),
        });
        for (from, hand) in [(left_from, Hand::Left), (right_from, Hand::Right)] {
            let place = Place { node, hand };
            match from {
                Feeder::Port(port) => {
                    if let Some(port) = self.ports.get_mut(port) {
                        port.place = place;
                    }
                }
                Feeder::Node(child) => {
                    if let Some(child) = self.nodes.get_mut(child) {
                        child.parent = Some(place);
                    }
                }
                Feeder::Nobody => {}
            }
        }
        node
    }

    fn side(&mut self, plan: &SidePlan, how: How, keys: &[&Expr]) -> (Side, Feeder) {
        let cx = self.cx;
        let compiled: Vec<_> = keys.iter().map(|key| compile(key, cx)).collect();
        let mut held = Held::Nothing;
        if how.held {
            let called = match &plan.source {
                Source::Stream(input) if port::leave_in_order(input) => Called::InOrder,
                Source::Stream(_) => Called::Once,
                Source::Join(_) | Source::Table { .. } | Source::Aggregation { .. } => {
                    Called::Twice
                }
            };
            held = Held::Rows(HeldRows::new(plan.width(), &compiled, called));
        }
        let reaches = how.reaches && plan.triggers;
        let feeder = match &plan.source {
            Source::Stream(input) => {
                // Its place is known when the join is.
                let place = Place {
                    node: usize::MAX,
                    hand: Hand::Left,
                };
                self.ports
                    .push(Port::new(input, place, how.held, reaches, keys, cx));
                Feeder::Port(self.ports.len() - 1)
            }
            Source::Join(join) => Feeder::Node(self.join(join, how.held, reaches, !plan.triggers)),
            Source::Table { table, keep } => {
                if let Some(table) = self.stores.tables.get(table.0) {
                    held = Held::Table(HeldTable::new(table.clone(), keep, keys, cx));
                }
                Feeder::Nobody
            }
            Source::Aggregation {
                aggregation,
                within,
                per,
                keep,
            } => {
                if let Some(lookup) = self.stores.aggregations.get(aggregation.0) {
                    let within = (&within.0, &within.1);
                    let lookup = Arc::clone(lookup);
                    held = Held::Lookup(HeldLookup::new(lookup, within, *per, keep, keys, cx));
                }
                Feeder::Nobody
            }
        };
        let side = Side {
            width: plan.width(),
            triggers: how.triggers,
            preserved: how.preserved,
            keys: compiled,
            held,
        };
        (side, feeder)
    }
}

/// How a side takes part in its join.
#[derive(Clone, Copy)]
struct How {
    triggers: bool,
    held: bool,
    reaches: bool,
    preserved: bool,
}

/// Whether the left and the right side are preserved.
fn preserved(kind: JoinKind) -> (bool, bool) {
    match kind {
        JoinKind::Inner => (false, false),
        JoinKind::Left => (true, false),
        JoinKind::Right => (false, true),
        JoinKind::Full => (true, true),
    }
}

/// Whether rows of a side stay for a while: not if one of its streams is only a trigger.
fn lasts(side: &SidePlan) -> bool {
    match &side.source {
        Source::Stream(input) => input.window.is_some(),
        Source::Table { .. } | Source::Aggregation { .. } => true,
        Source::Join(join) => lasts(&join.left) && lasts(&join.right),
    }
}

/// Whether the rows of a side are looked up elsewhere.
fn is_fetched(side: &SidePlan) -> bool {
    match side.source {
        Source::Table { .. } | Source::Aggregation { .. } => true,
        Source::Stream(_) | Source::Join(_) => false,
    }
}

/// Whether the outermost join and the filter behind it say the same of two rows at any time.
fn is_steady(plan: &JoinInput) -> bool {
    let keys = plan
        .join
        .keys
        .iter()
        .flat_map(|(left, right)| [left, right]);
    let mut exprs = keys.chain(&plan.join.residual).chain(&plan.filter);
    exprs.all(|expr| expr.clone().is_steady())
}
