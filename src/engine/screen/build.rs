//! A screen, made of what the patterns that read a stream ask.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BTreeSet;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::super::condition::Condition;
use super::super::node::{Node, Port, Stores};
use super::asks::{Asked, Equality, asked};
use super::run::Run;
use super::{Ask, Bucket, EVERYTHING, Filter, Index, Screen};
use crate::event::Value;
use crate::sql::Application;
use crate::sql::plan::Input;

/// A pattern that has a stream for itself asks its conditions itself.
const PATTERNS_MIN: usize = 2;

type Map<K, V> = HashMap<K, V, FixedState>;

/// The screen in front of these readers, if there are patterns among them to make one for.
pub(super) fn screen(
    plan: &Application,
    nodes: &[Node],
    ports: &[Port],
    stores: &Stores,
) -> Option<Screen> {
    let mut build = Build::default();
    let readers: Vec<Option<Vec<Ask>>> = ports
        .iter()
        .map(|port| Some(build.asks(elements(plan, nodes, *port)?)))
        .collect();
    if readers.iter().flatten().count() < PATTERNS_MIN {
        return None;
    }
    let open = readers.iter().enumerate();
    let open = open.filter_map(|(place, asks)| asks.is_none().then_some(place));
    let (filters, buckets, indexes) = build.compile(stores);
    Some(Screen {
        open: open.collect(),
        run: Run::new(filters.len(), buckets.len()),
        filters,
        buckets,
        indexes,
        readers,
        at: None,
        woken: BTreeSet::new(),
        faults: Cell::new(0),
    })
}

/// The elements of a pattern that read a stream, and what they ask, when the pattern can be
/// screened.
fn elements(plan: &Application, nodes: &[Node], port: Port) -> Option<Vec<(usize, Asked)>> {
    let node = nodes.get(port.node)?;
    let matcher = node.matcher()?;
    let Node::Query(query, _) = node else {
        return None;
    };
    let query = plan.queries.get(*query)?;
    let Input::Pattern(input) = &query.input else {
        return None;
    };
    // A snapshot that another query's row finds due is shown before that row, whatever it fits.
    if !matcher.can_be_screened(port.input) || query.shows_snapshots() {
        return None;
    }
    let pattern = &input.pattern;
    let asked = asked(pattern, matcher.begins_with());
    let numbered = pattern.elements.iter().zip(asked).enumerate();
    let these = numbered.filter(|(_, (element, _))| element.input == port.input);
    let these: Vec<(usize, Asked)> = these.map(|(number, (_, asked))| (number, asked)).collect();
    let steady = these.iter().all(|(_, asked)| asked.is_steady());
    steady.then_some(these)
}

/// The different things that are asked.
#[derive(Default)]
struct Build {
    asked: Vec<Asked>,
    /// Their places, by how they look in print: expressions have no hash.
    places: Map<String, Vec<usize>>,
}

impl Build {
    fn asks(&mut self, elements: Vec<(usize, Asked)>) -> Vec<Ask> {
        let mut asks: Vec<Ask> = Vec::new();
        for (element, asked) in elements {
            let filter = self.place(asked);
            let bit = 1 << element;
            match asks.iter_mut().find(|ask| ask.filter == filter) {
                Some(ask) => ask.elements |= bit,
                None => asks.push(Ask {
                    filter,
                    elements: bit,
                }),
            }
        }
        asks
    }

    fn place(&mut self, asked: Asked) -> usize {
        let alike = self.places.entry(format!("{asked:?}")).or_default();
        let same = |place: &&usize| self.asked.get(**place) == Some(&asked);
        if let Some(place) = alike.iter().find(same) {
            return *place;
        }
        alike.push(self.asked.len());
        self.asked.push(asked);
        self.asked.len() - 1
    }

    fn compile(self, stores: &Stores) -> (Vec<Filter>, Vec<Bucket>, Vec<Index>) {
        let shares = Shares::new(&self.asked);
        let mut buckets = vec![Bucket::default()];
        let mut numbers: Map<(usize, &[Value]), usize> = Map::default();
        let mut indexes: Vec<Index> = Vec::new();
        let mut filters = Vec::with_capacity(self.asked.len());
        for asked in &self.asked {
            let found_by = shares.best(asked);
            let bucket = found_by.map_or(EVERYTHING, |equality| {
                let key = (equality.column, equality.values.as_slice());
                *numbers.entry(key).or_insert_with(|| {
                    buckets.push(Bucket::default());
                    index(&mut indexes, equality, buckets.len() - 1);
                    buckets.len() - 1
                })
            });
            let said = found_by.and_then(|equality| equality.condition);
            let conditions = asked.conditions.iter().enumerate();
            let conditions = conditions.filter(|(place, _)| Some(*place) != said);
            let cx = stores.cx(&[]);
            filters.push(Filter {
                bucket,
                condition: Condition::all(conditions.map(|(_, expr)| expr), cx),
                wanting: BTreeSet::new(),
            });
        }
        (filters, buckets, indexes)
    }
}

/// Lets a bucket be found by the values of a column.
fn index(indexes: &mut Vec<Index>, equality: &Equality, bucket: usize) {
    let column = equality.column;
    let place = indexes.iter().position(|index| index.column == column);
    let place = place.unwrap_or_else(|| {
        indexes.push(Index {
            column,
            buckets: Map::default(),
        });
        indexes.len() - 1
    });
    let Some(index) = indexes.get_mut(place) else {
        return;
    };
    for value in &equality.values {
        let buckets = index.buckets.entry(value.clone()).or_default();
        if !buckets.contains(&bucket) {
            buckets.push(bucket);
        }
    }
}

/// How many conditions need the same values of a column, and how many any of it.
struct Shares<'a> {
    same: Map<(usize, &'a [Value]), usize>,
    column: Map<usize, usize>,
}

impl<'a> Shares<'a> {
    fn new(asked: &'a [Asked]) -> Shares<'a> {
        let mut shares = Shares {
            same: Map::default(),
            column: Map::default(),
        };
        for equality in asked.iter().flat_map(|asked| &asked.equalities) {
            let key = (equality.column, equality.values.as_slice());
            *shares.same.entry(key).or_default() += 1;
            *shares.column.entry(equality.column).or_default() += 1;
        }
        shares
    }

    /// By which of its equalities a condition is found: the one that it shares with the fewest, so
    /// that few are asked together, and by few columns.
    fn best<'b>(&self, asked: &'b Asked) -> Option<&'b Equality> {
        asked.equalities.iter().min_by_key(|equality| {
            let key = (equality.column, equality.values.as_slice());
            let same = self.same.get(&key).copied();
            let column = self.column.get(&equality.column).copied();
            (same, Reverse(column), equality.column)
        })
    }
}
