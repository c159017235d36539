//! What cannot be said of a pattern, and what should be thought over.

use sqlparser::ast::{Expr as WrittenExpr, FunctionArguments};

use super::super::super::ast::IntoKind;
use super::super::super::plan::{Element, Emit, Overflow, PatternKind, PatternStep, Takes};
use super::super::expr::{Failed, place};
use super::super::source::Origin;
use super::super::{Binder, Written};
use super::Site;
use super::refer::Piece;
use super::shape::{Leaf, Shape};
use crate::diagnostic::{Diagnostic, Place};

const MATCHES: &str = "pattern.matches_max";
const POLICY: &str = "pattern.matches_policy";
/// The properties of a query that reads a pattern.
pub(in super::super) const PATTERN_PROPERTIES: [&str; 2] = [MATCHES, POLICY];
/// How many partial matches there may be when nobody says.
const MATCHES_MAX: u64 = 100_000;

impl Binder<'_> {
    /// Two elements cannot have one name.
    pub(super) fn check_names(&mut self, path: &str, leaves: &[Leaf<'_>], pieces: &[Piece]) {
        let called = |piece: &Piece| (piece.alias.is_some() || piece.unique).then_some(());
        for (index, (piece, leaf)) in pieces.iter().zip(leaves).enumerate() {
            let mut before = pieces.iter().take(index);
            let same = |other: &Piece| called(other).is_some() && other.shown() == piece.shown();
            if called(piece).is_none() || !before.any(same) {
                continue;
            }
            let place = leaf.element.alias.as_ref().unwrap_or(&leaf.element.stream);
            let message = format!("two elements are called '{}'", piece.shown());
            let fault = Diagnostic::error(path, place.place, message);
            let hint = "give each a name of its own: e1=S";
            self.diagnostics.push(fault.with_hint(hint));
        }
    }

    /// What stands around the elements.
    pub(super) fn check_pattern(&mut self, site: Site<'_>, origins: &[Origin]) {
        if let IntoKind::Insert(Emit::Expired | Emit::All) = site.written.query.into.kind {
            let message = "EXPIRED EVENTS and ALL EVENTS need a window: a match never leaves";
            let place = site.written.query.place;
            let fault = Diagnostic::error(site.path, place, message);
            self.diagnostics.push(fault);
        }
        if let Some(order_by) = &site.pattern.order_by {
            self.check_order(site.path, order_by, origins);
        }
    }

    /// Rows come in the order of their time, and a pattern can find them in no other.
    fn check_order(&mut self, path: &str, order_by: &WrittenExpr, origins: &[Origin]) {
        let is_time = match order_by {
            WrittenExpr::Function(function) => {
                let name = function.name.to_string();
                let bare = match &function.args {
                    FunctionArguments::None => true,
                    FunctionArguments::List(list) => list.args.is_empty(),
                    FunctionArguments::Subquery(_) => false,
                };
                name.eq_ignore_ascii_case("event_timestamp") && bare
            }
            WrittenExpr::Identifier(name) => origins.iter().all(|origin| {
                let stream = origin.stream().and_then(|id| self.application.stream(id));
                let properties = stream.iter().flat_map(|stream| &stream.properties);
                let mut fields = properties.filter(|one| one.name == "timestamp.field");
                fields.any(|field| field.value == name.value)
            }),
            _ => false,
        };
        if is_time {
            return;
        }
        let message = format!("rows are taken in the order of their time, which is not {order_by}");
        let hint = "write ORDER BY event_timestamp(), or the column that the stream names as its \
                    'timestamp.field'";
        let fault = Diagnostic::error(path, place(order_by), message);
        self.diagnostics.push(fault.with_hint(hint));
    }

    /// `'pattern.matches_max'` and `'pattern.matches_policy'`; other properties are checked.
    pub(super) fn match_limits(
        &mut self,
        path: &str,
        written: &Written,
    ) -> Result<(u64, Overflow), Failed> {
        let (mut matches_max, mut overflow) = (None, None);
        let partitioned = !written.query.select.partition_by.is_empty();
        for (name, value) in &written.query.properties {
            let twice = match name.text.as_str() {
                MATCHES => match value.text.trim().parse() {
                    Ok(count) if count > 0 => matches_max.replace(count).is_some(),
                    _ => {
                        let message =
                            format!("'{MATCHES}' takes a number of partial matches, at least 1");
                        return self.refuse(path, value.place, message);
                    }
                },
                POLICY => {
                    let policy = match value.text.trim() {
                        "drop_oldest" => Overflow::DropOldest,
                        "drop_newest" => Overflow::DropNewest,
                        _ => {
                            let message = format!("'{POLICY}' is 'drop_oldest' or 'drop_newest'");
                            return self.refuse(path, value.place, message);
                        }
                    };
                    overflow.replace(policy).is_some()
                }
                "join.rows_max" => {
                    let message = "'join.rows_max' is for a join of streams without a window";
                    return self.refuse(path, name.place, message);
                }
                // Is checked where it is used.
                other if other.starts_with("partition.") && partitioned => false,
                "partition.idle" => {
                    let message = "'partition.idle' is for a query with PARTITION BY, or for the \
                                   head of a PARTITION";
                    return self.refuse(path, name.place, message);
                }
                _ => return self.unknown_property(path, name),
            };
            if twice {
                let message = format!("'{}' is set twice", name.text);
                return self.refuse(path, name.place, message);
            }
        }
        let overflow = overflow.unwrap_or(Overflow::DropOldest);
        Ok((matches_max.unwrap_or(MATCHES_MAX), overflow))
    }

    /// What is right and yet hardly meant.
    pub(super) fn warn_of_pattern(
        &mut self,
        site: Site<'_>,
        shape: &Shape<'_>,
        elements: &[Element],
    ) {
        let mut warn = |place: Place, message: &str, hint: &str| {
            let warning = Diagnostic::warning(site.path, place, message);
            self.diagnostics.push(warning.with_hint(hint));
        };
        let parts = shape.parts.iter().zip(&shape.every);
        let last = shape.parts.len().saturating_sub(1);
        for (number, (part, every)) in parts.enumerate() {
            let Some(place) = *every else {
                continue;
            };
            let group = number == 0 && part.steps.len() > 1;
            if group && site.pattern.kind == PatternKind::Pattern {
                let message = "the matches of this EVERY do not overlap: the next begins when one \
                               is done";
                let hint = "for one that begins with every row write EVERY before the first \
                            element alone";
                warn(place, message, hint);
            }
            if number < last && site.pattern.within.is_none() {
                let message = "what this EVERY begins may wait for ever: the pattern has no WITHIN";
                warn(place, message, "write WITHIN and a time at its end");
            }
        }
        if site.pattern.within.is_some() {
            return;
        }
        let end = shape.parts.last().and_then(|part| part.steps.last());
        for (number, (element, leaf)) in elements.iter().zip(&shape.leaves).enumerate() {
            let endless = matches!(element.takes, Takes::Rows { max: None, .. });
            let ends = matches!(end, Some(PatternStep::Element(index)) if *index == number);
            if let (true, Some(quantifier)) = (endless && !ends, leaf.element.quantifier) {
                let message = "this element may go on taking rows for ever: the pattern has no \
                               WITHIN";
                let hint = "write WITHIN and a time at its end, or a maximum";
                warn(quantifier.place, message, hint);
            }
        }
    }
}
