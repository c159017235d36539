//! Many patterns over one stream: each row condition is asked once, and only those patterns are
//! given a row that can do something with it.
//!
//! A screen stands in front of the readers of a stream. It knows the conditions that the elements
//! of all patterns have, each once. Those that need a column to be equal to a constant lie in
//! *buckets*, which are found by the row's value; all others lie in the bucket that every row is
//! in. Each pattern tells which of its elements can take a row as things are: those with which a
//! match can begin, and those that partial matches wait for. A condition that nobody wants is not
//! asked; one that some row fulfils calls those that want it, in the order of definition.
//!
//! What a row costs so grows with the patterns that react to it, not with those that there are.
//!
//! Patterns that look at every row (sequences, WITHIN n EVENTS), that stand in a partition or
//! behind a named window, or whose conditions look into tables, are given all rows as any other
//! reader is.

mod asks;
mod build;
mod run;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::condition::Conditions;
use super::node::{Node, Port, Stores};
use crate::event::{Rows, Value};
use crate::sql::Application;
use crate::sql::plan::StreamId;
use run::Run;

/// The bucket that every row is in.
const EVERYTHING: usize = 0;

/// The screens of an engine.
#[derive(Default)]
pub(super) struct Screens {
    by_stream: Vec<Option<Box<Screen>>>,
    nodes: Vec<Screened>,
}

/// A node, as far as screens stand in front of it.
#[derive(Clone, Default)]
struct Screened {
    /// The streams, and its place among the readers of each.
    places: Vec<(StreamId, usize)>,
    /// The elements that can take a row, as it was last told.
    reacts: u64,
}

/// What stands in front of the readers of one stream.
struct Screen {
    filters: Vec<Filter>,
    buckets: Vec<Bucket>,
    indexes: Vec<Index>,
    /// What each reader asks; none where it is given all rows.
    readers: Vec<Option<Vec<Ask>>>,
    /// The readers that are given all rows.
    open: Vec<usize>,
    /// The reader that is being given the rows at hand.
    at: Option<usize>,
    /// Those behind it that have come to want something meanwhile.
    woken: BTreeSet<usize>,
    run: Run,
    faults: Cell<u64>,
}

/// The condition of some elements.
struct Filter {
    bucket: usize,
    /// What a row in the bucket must fulfil.
    condition: Conditions,
    /// The readers that can do something with a row that fulfils it.
    wanting: BTreeSet<usize>,
}

/// Conditions that need a column to have one of the same values.
#[derive(Default)]
struct Bucket {
    /// Those that anybody wants.
    wanted: BTreeSet<usize>,
}

/// The buckets by the value of a column.
struct Index {
    column: usize,
    buckets: HashMap<Value, Vec<usize>, FixedState>,
}

/// What a reader asks: a condition that some of its elements have.
struct Ask {
    filter: usize,
    elements: u64,
}

impl Screens {
    /// In front of every stream that several patterns read.
    pub(super) fn new(
        plan: &Application,
        nodes: &[Node],
        readers: &[Vec<Port>],
        stores: &Stores,
    ) -> Screens {
        let mut screens = Screens {
            by_stream: Vec::with_capacity(readers.len()),
            nodes: vec![Screened::default(); nodes.len()],
        };
        for (stream, ports) in readers.iter().enumerate() {
            let screen = build::screen(plan, nodes, ports, stores);
            let places = screen.iter().flat_map(Screen::screened);
            for place in places {
                let node = ports.get(place).map(|port| port.node);
                if let Some(node) = node.and_then(|node| screens.nodes.get_mut(node)) {
                    node.places.push((StreamId(stream), place));
                }
            }
            screens.by_stream.push(screen.map(Box::new));
        }
        for (number, node) in nodes.iter().enumerate() {
            screens.worked(number, node);
        }
        screens
    }

    fn screen(&mut self, stream: StreamId) -> Option<&mut Screen> {
        self.by_stream.get_mut(stream.0)?.as_deref_mut()
    }

    /// Looks at rows of a stream that are to be given to its readers. Whether there is a screen;
    /// then [`Screens::next`] says to which.
    pub(super) fn begin(&mut self, stream: StreamId, rows: Rows<'_>) -> bool {
        match self.screen(stream) {
            None => false,
            Some(screen) => {
                screen.begin(rows);
                true
            }
        }
    }

    /// The place of the next reader that must be given the rows.
    pub(super) fn next(&mut self, stream: StreamId) -> Option<usize> {
        self.screen(stream)?.next()
    }

    /// What the rows fit of a pattern, by itself: numbers of rows, ascending, each with elements.
    /// None: nobody has asked this reader.
    pub(super) fn fits(
        &mut self,
        stream: StreamId,
        reader: usize,
        rows: Rows<'_>,
    ) -> Option<&[(u32, u64)]> {
        self.screen(stream)?.fits(reader, rows)
    }

    /// A node has worked: it may react to other rows than before.
    pub(super) fn worked(&mut self, number: usize, node: &Node) {
        let Some(known) = self.nodes.get_mut(number) else {
            return;
        };
        if known.places.is_empty() {
            return;
        }
        let reacts = node.matcher().map_or(0, |matcher| matcher.reacts());
        let before = std::mem::replace(&mut known.reacts, reacts);
        if before == reacts {
            return;
        }
        for (stream, place) in &known.places {
            let screen = self.by_stream.get_mut(stream.0);
            if let Some(screen) = screen.and_then(Option::as_deref_mut) {
                screen.changed(*place, before, reacts);
            }
        }
    }

    /// Conditions that could not be computed since the last call, by stream.
    pub(super) fn take_faults(&self) -> impl Iterator<Item = (StreamId, u64)> {
        let screens = self.by_stream.iter().enumerate();
        screens.filter_map(|(stream, screen)| {
            let count = screen.as_ref()?.faults.take();
            (count > 0).then_some((StreamId(stream), count))
        })
    }
}

impl Screen {
    /// The places of the readers that do not get all rows.
    fn screened(&self) -> impl Iterator<Item = usize> + '_ {
        let readers = self.readers.iter().enumerate();
        readers.filter_map(|(place, asks)| asks.as_ref().map(|_| place))
    }

    /// Other elements of a pattern can take a row than before.
    fn changed(&mut self, reader: usize, before: u64, now: u64) {
        let asks = self.readers.get(reader).and_then(Option::as_ref);
        let mut more = false;
        for Ask { filter, elements } in asks.into_iter().flatten() {
            let (wanted, wants) = (before & elements != 0, now & elements != 0);
            if wanted == wants {
                continue;
            }
            let number = *filter;
            let Some(filter) = self.filters.get_mut(number) else {
                continue;
            };
            let Some(bucket) = self.buckets.get_mut(filter.bucket) else {
                continue;
            };
            if wants {
                more = true;
                filter.wanting.insert(reader);
                bucket.wanted.insert(number);
            } else {
                filter.wanting.remove(&reader);
                if filter.wanting.is_empty() {
                    bucket.wanted.remove(&number);
                }
            }
        }
        if more && self.at.is_some_and(|at| at < reader) {
            self.woken.insert(reader);
        }
    }
}
