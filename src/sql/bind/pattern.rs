//! FROM PATTERN and FROM SEQUENCE: elements are looked up and conditions bound; of all that is read
//! of their rows a match row is made.

mod check;
mod condition;
mod refer;
mod shape;

use std::cell::RefCell;

use super::super::ast::{self, IntoKind, What};
use super::super::plan::{
    Element, Expr, Input, PartitionKey, Pattern, PatternInput, Skip, StreamId, StreamInput, Takes,
};
use super::expr::{Failed, Progress, Scope};
use super::names::Named;
use super::query::{Clauses, Draft, clauses};
use super::source::{Origin, OriginKind};
use super::target::TableWrite;
use super::{Binder, Relation, Written};
use crate::diagnostic::Diagnostic;
pub(super) use check::PATTERN_PROPERTIES;
use condition::{Numbering, Split, Splitter};
use refer::Piece;
pub(super) use refer::{BEHIND, Seen, begins_with_index};
pub(super) use shape::elements;
use shape::{Leaf, Order, shape};

/// Where a pattern stands.
#[derive(Clone, Copy)]
struct Site<'w> {
    path: &'w str,
    written: &'w Written,
    pattern: &'w ast::Pattern,
}

/// The keys of streams that have the columns of PARTITION BY.
type KeysByStream = Vec<(StreamId, PartitionKey)>;

/// PARTITION BY, before it is known who keeps the keys apart.
enum Keys {
    /// There are none of its own; perhaps a partition around it has some.
    Around(Option<usize>),
    /// Those of each stream that has them.
    Own(KeysByStream),
}

/// What has been bound.
struct Bound {
    conditions: Vec<Option<Expr>>,
    clauses: Clauses,
    write: Option<TableWrite>,
}

impl Binder<'_> {
    /// A query that reads a pattern.
    pub(super) fn try_pattern(
        &mut self,
        path: &str,
        written: &Written,
        pattern: &ast::Pattern,
    ) -> Result<super::Query, Failed> {
        let site = Site {
            path,
            written,
            pattern,
        };
        let before = self.faults();
        let shape = shape(pattern, path, self.diagnostics);
        let origins = self.element_origins(site, &shape.leaves)?;
        let pieces = pieces(&shape.leaves, &origins);
        self.check_names(path, &shape.leaves, &pieces);
        self.check_pattern(site, &origins);
        let limits = self.match_limits(path, written);
        let keys = self.pattern_keys(site, &origins);
        let more = RefCell::new(Vec::new());
        let seen = Seen {
            pieces: &pieces,
            more: &more,
            own: None,
        };
        let bound = self.bind_pattern(site, &shape.leaves, seen);
        if self.faults() > before {
            return Err(Failed);
        }
        let Bound {
            conditions,
            clauses,
            write,
        } = bound?;
        let mut draft = self.draft(path, written, origins, (clauses, write), BEHIND)?;
        let (partition, keys) = self.keep_keys(site, &draft, keys?)?;
        let inputs = inputs(&mut draft.origins);
        let keys = of_inputs(&keys, &inputs);
        let of_element = |origin: &Origin| keys.get(place_among(&inputs, origin))?.as_deref();
        let splitter = Splitter {
            seen,
            order: &Order::new(&shape.parts, pieces.len()),
            keys: &draft.origins.iter().map(of_element).collect::<Vec<_>>(),
        };
        let mut splits = splitter.split_all(conditions);
        let numbering = Numbering::new(seen, &mut splits, &mut draft);
        let (matches_max, overflow) = limits?;
        let elements = elements_of(&pieces, &inputs, &draft.origins, splits);
        self.warn_of_pattern(site, &shape, &elements);
        let planned = Pattern {
            kind: pattern.kind,
            inputs,
            elements,
            parts: shape.parts,
            registers: numbering.registers,
            within: pattern.within.map(|(within, _)| within),
            skip: pattern.skip.map_or(Skip::Nothing, |(skip, _)| skip),
            keys,
            matches_max,
            overflow,
        };
        let input = Input::Pattern(Box::new(PatternInput {
            pattern: planned,
            filter: draft.clauses.filter.take(),
        }));
        self.finished(path, written, draft, input, partition)
    }

    /// What the elements are of, each as if it were a source.
    fn element_origins(
        &mut self,
        site: Site<'_>,
        leaves: &[Leaf<'_>],
    ) -> Result<Vec<Origin>, Failed> {
        let mut origins: Vec<Origin> = Vec::new();
        let mut failed = false;
        for leaf in leaves {
            let name = &leaf.element.stream;
            let source = ast::Source {
                what: What::Named(name.clone()),
                alias: leaf.element.alias.clone(),
                window: None,
                unidirectional: false,
            };
            let Ok(origin) = self.origin(site.path, site.written, &source, &origins) else {
                failed = true;
                continue;
            };
            let what = match origin.kind {
                OriginKind::Stream { .. } => None,
                OriginKind::Table(_) => Some("a table"),
                OriginKind::Aggregation(_) => Some("an aggregation"),
            };
            if let Some(what) = what {
                let message = format!("'{}' is {what}, a pattern reads streams", name.text);
                let hint = match origin.kind {
                    OriginKind::Table(_) => {
                        Some(format!("in a condition write column IN {}", name.text))
                    }
                    OriginKind::Stream { .. } | OriginKind::Aggregation(_) => None,
                };
                let fault = Diagnostic::error(site.path, name.place, message);
                self.diagnostics.push(fault.with_hint_if(hint));
                failed = true;
            }
            origins.push(origin);
        }
        if failed { Err(Failed) } else { Ok(origins) }
    }

    /// PARTITION BY. Its faults are reported whoever will keep the keys apart.
    fn pattern_keys(&mut self, site: Site<'_>, origins: &[Origin]) -> Result<Keys, Failed> {
        let by = &site.written.query.select.partition_by;
        if by.is_empty() || site.written.partition.is_some() {
            let around = self.partition_by(site.path, site.written, origins)?;
            return Ok(Keys::Around(around));
        }
        Ok(Keys::Own(self.keys_by(site.path, by, origins)?))
    }

    /// A query that keeps nothing but the pattern needs no partition: the pattern keeps the keys
    /// apart. Else there is a copy of it for each key.
    fn keep_keys(
        &mut self,
        site: Site<'_>,
        draft: &Draft,
        keys: Keys,
    ) -> Result<(Option<usize>, KeysByStream), Failed> {
        let mut keys = match keys {
            Keys::Around(partition) => return Ok((partition, Vec::new())),
            Keys::Own(keys) => keys,
        };
        let Written { query, target, .. } = site.written;
        let select = &query.select;
        let ordered = select.limit.is_some() || select.offset.is_some();
        let ordered = ordered || select.distinct || !select.order_by.is_empty();
        let table = matches!(self.relation(target), Some(Relation::Table(_)));
        let mut properties = query.properties.iter();
        let forgets = properties.any(|(name, _)| name.text.starts_with("partition."));
        if ordered || table || forgets || !draft.only_projects() {
            let partition = self.partition_by(site.path, site.written, &draft.origins)?;
            return Ok((partition, Vec::new()));
        }
        let before = self.faults();
        self.same_types(site.path, query.place, &mut keys);
        if self.faults() > before {
            return Err(Failed);
        }
        Ok((None, keys))
    }

    fn bind_pattern(
        &mut self,
        site: Site<'_>,
        leaves: &[Leaf<'_>],
        seen: Seen<'_>,
    ) -> Result<Bound, Failed> {
        let progress = Progress::default();
        let everyone = seen.pieces.iter();
        let taking = everyone.filter(|piece| matches!(piece.takes, Takes::Rows { .. }));
        let sources: Vec<Named<'_>> = taking.map(|piece| piece.named(None)).collect();
        let mut scope = Scope {
            path: site.path,
            sources: &sources,
            aliases: &[],
            aliases_first: false,
            aggregates: Err("in the condition of an element"),
            analytics: Err("in the condition of an element"),
            draws: Err("in the condition of an element"),
            elements: Some(seen),
            place: site.written.query.place,
            tables: &self.application.tables,
            progress: &progress,
            diagnostics: self.diagnostics,
        };
        let conditions = leaves.iter().enumerate();
        let conditions: Vec<Result<Option<Expr>, Failed>> = conditions
            .map(|(index, leaf)| condition(&mut scope, seen, index, leaf))
            .collect();
        scope.draws = Ok(());
        let query = &site.written.query;
        let (clauses, write) = match query.into.kind {
            IntoKind::Update(_) | IntoKind::Delete => {
                let write = super::target::change(&mut scope, query, site.written);
                (Ok(Clauses::default()), write.map(Some))
            }
            IntoKind::Insert(_) | IntoKind::Upsert(_) => {
                let clauses = clauses(&mut scope, &query.select);
                let write = super::target::upsert(&mut scope, query, site.written);
                (clauses, write)
            }
        };
        Ok(Bound {
            conditions: conditions.into_iter().collect::<Result<_, _>>()?,
            clauses: clauses?,
            write: write?,
        })
    }
}

/// The condition of an element: it sees its own row, and the elements before it that take rows.
fn condition(
    scope: &mut Scope<'_>,
    seen: Seen<'_>,
    index: usize,
    leaf: &Leaf<'_>,
) -> Result<Option<Expr>, Failed> {
    let Some(written) = &leaf.element.condition else {
        return Ok(None);
    };
    let own = seen.pieces.get(index).ok_or(Failed)?;
    let mut sources = vec![own.named(Some(true))];
    let before = seen.pieces.iter().take(index);
    let before = before.filter(|piece| matches!(piece.takes, Takes::Rows { .. }));
    sources.extend(before.map(|piece| piece.named(Some(false))));
    let mut scope = Scope {
        sources: &sources,
        aggregates: Err("in the condition of an element"),
        analytics: Err("in the condition of an element"),
        elements: Some(Seen {
            own: Some(index),
            ..seen
        }),
        ..scope.copy()
    };
    scope
        .condition(written, "the condition of an element")
        .map(Some)
}

fn pieces(leaves: &[Leaf<'_>], origins: &[Origin]) -> Vec<Piece> {
    let of = |(leaf, origin): (&Leaf<'_>, &Origin)| {
        let alike = origins.iter().filter(|other| other.name == origin.name);
        Piece {
            alias: origin.alias.clone(),
            stream: origin.name.clone(),
            unique: alike.count() == 1,
            schema: origin.schema.clone(),
            first: origin.first,
            takes: leaf.takes,
            collects: leaf.element.quantifier.is_some(),
        }
    };
    leaves.iter().zip(origins).map(of).collect()
}

/// The streams, each once.
fn inputs(origins: &mut [Origin]) -> Vec<StreamInput> {
    let mut inputs: Vec<StreamInput> = Vec::new();
    for origin in origins {
        let width = origin.schema.width();
        let OriginKind::Stream { id, window, named } = &mut origin.kind else {
            continue;
        };
        if inputs.iter().any(|known| known.stream == *id) {
            continue;
        }
        inputs.push(StreamInput {
            stream: *id,
            filter: None,
            window: window.take(),
            behind: None,
            keep: if *named {
                (0..width).collect()
            } else {
                Vec::new()
            },
        });
    }
    inputs
}

fn place_among(inputs: &[StreamInput], origin: &Origin) -> usize {
    let mut inputs = inputs.iter();
    let place = inputs.position(|input| Some(input.stream) == origin.stream());
    place.unwrap_or_default()
}

/// The keys of the rows of each input; nothing when there are no keys.
fn of_inputs(keys: &[(StreamId, PartitionKey)], inputs: &[StreamInput]) -> Vec<Option<Vec<Expr>>> {
    if keys.is_empty() {
        return Vec::new();
    }
    let of = |input: &StreamInput| {
        let mut keys = keys.iter();
        let (_, key) = keys.find(|(stream, _)| *stream == input.stream)?;
        match key {
            PartitionKey::Values(exprs) => Some(exprs.clone()),
            PartitionKey::Ranges(_) => None,
        }
    };
    inputs.iter().map(of).collect()
}

fn elements_of(
    pieces: &[Piece],
    inputs: &[StreamInput],
    origins: &[Origin],
    splits: Vec<Split>,
) -> Vec<Element> {
    let of = |((piece, origin), split): ((&Piece, &Origin), Split)| Element {
        name: piece.shown().to_owned(),
        input: place_among(inputs, origin),
        takes: piece.takes,
        filter: split.filter,
        keys: split.keys,
        rest: split.rest,
    };
    pieces.iter().zip(origins).zip(splits).map(of).collect()
}
