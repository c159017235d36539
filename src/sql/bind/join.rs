//! JOIN: the tree of sides, what is looked up and what is checked, and filters that can be moved
//! towards their source.

use sqlparser::ast::Expr as WrittenExpr;

use super::super::ast;
use super::super::parse::bucket_named;
use super::super::plan::{
    Bucket, CompareOp, Expr, ExprKind, Join, JoinInput, JoinKind, Side, Source, StreamInput,
    TableId, Window,
};
use super::expr::{Failed, Scope};
use super::narrow::Narrow;
use super::source::{Origin, OriginKind};
use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::event::{Type, Value};

/// The sides of a join; expressions are over the columns of all sources.
pub(super) enum Tree {
    Leaf(usize),
    Node(Box<Node>),
}

/// A join of what was written before with one more source.
pub(super) struct Node {
    kind: JoinKind,
    left: Tree,
    right: usize,
    on: Vec<Expr>,
    /// WITHIN, and the place of PER among the aggregation's durations.
    buckets: Option<(Expr, Expr, usize)>,
}

impl Tree {
    fn inner_only(&self) -> bool {
        match self {
            Tree::Leaf(_) => true,
            Tree::Node(node) => node.kind == JoinKind::Inner && node.left.inner_only(),
        }
    }

    /// Every expression of it.
    pub(super) fn exprs_mut<'a>(&'a mut self, found: &mut Vec<&'a mut Expr>) {
        if let Tree::Node(node) = self {
            let Node {
                left, on, buckets, ..
            } = &mut **node;
            left.exprs_mut(found);
            found.extend(on);
            if let Some((start, end, _)) = buckets {
                found.extend([start, end]);
            }
        }
    }

    fn each_node(&mut self, visit: &mut dyn FnMut(&mut Node)) {
        if let Tree::Node(node) = self {
            node.left.each_node(visit);
            visit(node);
        }
    }
}

/// Binds the tree of a FROM clause; `scope` sees all sources.
pub(super) fn tree(
    scope: &mut Scope<'_>,
    from: &ast::From,
    origins: &[Origin],
    durations: &dyn Fn(usize) -> Vec<Bucket>,
) -> Result<Tree, Failed> {
    let ast::From::Join(join) = from else {
        return Ok(Tree::Leaf(0));
    };
    let left = tree(scope, &join.left, origins, durations)?;
    let right = join.left.sources().len();
    let all = scope.sources;
    scope.sources = all.get(..=right).unwrap_or(all);
    let bound = node(scope, join, left, right, origins, durations);
    scope.sources = all;
    Ok(Tree::Node(Box::new(bound?)))
}

fn node(
    scope: &mut Scope<'_>,
    join: &ast::Join,
    left: Tree,
    right: usize,
    origins: &[Origin],
    durations: &dyn Fn(usize) -> Vec<Bucket>,
) -> Result<Node, Failed> {
    check_outer(scope, join, right, origins);
    let mut on = Vec::new();
    if let Some(condition) = &join.on {
        conjuncts(scope.condition(condition, "ON")?, &mut on);
        // ON TRUE is a cross join.
        on.retain(|expr| expr.kind != ExprKind::Literal(Value::Bool(true)));
    }
    let aggregation = |index: &usize| {
        let origin = origins.get(*index);
        origin.is_some_and(|origin| matches!(origin.kind, OriginKind::Aggregation(_)))
    };
    let sides = match &left {
        Tree::Leaf(index) => vec![right, *index],
        Tree::Node(_) => vec![right],
    };
    let bucketed: Vec<usize> = sides.into_iter().filter(aggregation).collect();
    let buckets = match (bucketed.as_slice(), &join.within, &join.per) {
        ([], None, None) => None,
        ([], ..) => {
            return scope.fail(join.place, "WITHIN … PER is for the join of an aggregation");
        }
        ([index], Some((start, end)), Some(per)) => {
            let all = scope.sources;
            // The bounds are read from the other side.
            scope.sources = if *index == right {
                all.get(..right).unwrap_or(all)
            } else {
                all.get(right..).unwrap_or(all)
            };
            let bounds = (bound_of_time(scope, start), bound_of_time(scope, end));
            scope.sources = all;
            let known = durations(*index);
            let per_place = match bucket_named(per.text.trim()) {
                Some(bucket) => known.iter().position(|one| *one == bucket),
                None => {
                    let names = super::super::parse::BUCKETS.iter();
                    let names = names.filter_map(|(_, names)| names.first().copied());
                    let hint = did_you_mean(&per.text, names);
                    let message = format!("unknown duration '{}'", per.text);
                    return scope.fail_with(per.place, message, hint);
                }
            };
            let Some(per_place) = per_place else {
                let message = format!("the aggregation has no buckets of '{}'", per.text);
                return scope.fail(per.place, message);
            };
            Some((bounds.0?, bounds.1?, per_place))
        }
        _ => {
            let message = "an aggregation is read WITHIN start, end PER 'duration'";
            return scope.fail(join.place, message);
        }
    };
    Ok(Node {
        kind: join.kind,
        left,
        right,
        on,
        buckets,
    })
}

/// A point in time: milliseconds, a TIMESTAMP, or a text that is one.
fn bound_of_time(scope: &mut Scope<'_>, written: &WrittenExpr) -> Result<Expr, Failed> {
    let expr = scope.bind(written)?;
    if expr.ty.is_integral() || expr.ty == Type::String {
        let ty = Type::Timestamp;
        let same = expr.ty == ty;
        return Ok(if same {
            expr
        } else {
            super::expr::widen(expr, ty)
        });
    }
    let message = format!("WITHIN takes times, this is {}", expr.ty);
    scope.fail(super::expr::place(written), message)
}

/// Splits `a AND b AND …`.
pub(super) fn conjuncts(expr: Expr, found: &mut Vec<Expr>) {
    match expr.kind {
        ExprKind::And(x, y) => {
            conjuncts(*x, found);
            conjuncts(*y, found);
        }
        kind => found.push(Expr { kind, ty: expr.ty }),
    }
}

/// Puts conditions together again.
pub(super) fn all_of(conditions: Vec<Expr>) -> Option<Expr> {
    conditions.into_iter().reduce(|x, y| Expr {
        kind: ExprKind::And(x.into(), y.into()),
        ty: Type::Bool,
    })
}

/// The least and the greatest column that an expression reads.
pub(super) fn span(expr: &mut Expr) -> Option<(usize, usize)> {
    let mut span: Option<(usize, usize)> = None;
    expr.for_each_column(&mut |column| {
        let (low, high) = span.unwrap_or((*column, *column));
        span = Some((low.min(*column), high.max(*column)));
    });
    span
}

/// Moves conditions that read one stream to that stream, as far as the result stays the same:
/// where no outer join needs the row, and no window counts the rows it drops. `movable`: whether
/// those of `filter` may be moved.
pub(super) fn push_down(
    tree: &mut Tree,
    filter: &mut Vec<Expr>,
    origins: &[Origin],
    movable: bool,
) -> Vec<Vec<Expr>> {
    let mut pushed: Vec<Vec<Expr>> = origins.iter().map(|_| Vec::new()).collect();
    if !tree.inner_only() {
        return pushed;
    }
    let streams = origins.iter().filter(|one| one.stream().is_some()).count();
    let takes = |origin: &Origin| match &origin.kind {
        OriginKind::Stream { window, named, .. } => {
            let safe = matches!(window, None | Some(Window::Time { .. }));
            // Without any window the sides keep a number of rows.
            safe && !named && (streams == 1 || window.is_some())
        }
        OriginKind::Table(_) | OriginKind::Aggregation(_) => false,
    };
    let mut take = |conditions: &mut Vec<Expr>| {
        let mut rest = Vec::new();
        for mut condition in conditions.drain(..) {
            let place = span(&mut condition).and_then(|(low, high)| {
                origins.iter().position(|origin| {
                    origin.columns().contains(&low) && origin.columns().contains(&high)
                })
            });
            let place = place.filter(|place| origins.get(*place).is_some_and(takes));
            let list = place.and_then(|place| pushed.get_mut(place));
            match list {
                Some(list) if condition.is_steady() => {
                    let first = place
                        .and_then(|place| origins.get(place))
                        .map_or(0, |o| o.first);
                    condition.for_each_column(&mut |column| *column -= first);
                    list.push(condition);
                }
                _ => rest.push(condition),
            }
        }
        *conditions = rest;
    };
    if movable {
        take(filter);
    }
    tree.each_node(&mut |node| take(&mut node.on));
    pushed
}

/// Whether a source triggers.
fn triggers(origins: &[Origin], index: usize) -> bool {
    let alone = origins.iter().any(|origin| origin.unidirectional);
    origins.get(index).is_some_and(|origin| {
        let stream = matches!(origin.kind, OriginKind::Stream { named: false, .. });
        stream && (!alone || origin.unidirectional)
    })
}

/// Only a row that looks for matches can stay alone: where the side that an outer join preserves
/// never does, the join is less than it says.
fn check_outer(scope: &mut Scope<'_>, join: &ast::Join, right: usize, origins: &[Origin]) {
    let left = (0..right).any(|index| triggers(origins, index));
    let right = triggers(origins, right);
    let (said, meant, side) = match (join.kind, left, right) {
        (JoinKind::Inner, ..)
        | (JoinKind::Left, true, _)
        | (JoinKind::Right, _, true)
        | (JoinKind::Full, true, true) => return,
        (JoinKind::Left, false, _) => ("LEFT JOIN", "JOIN", "left"),
        (JoinKind::Right, _, false) => ("RIGHT JOIN", "JOIN", "right"),
        (JoinKind::Full, true, false) => ("FULL JOIN", "LEFT JOIN", "right"),
        (JoinKind::Full, false, _) => ("FULL JOIN", "RIGHT JOIN", "left"),
    };
    let message = format!("this {said} is a {meant}: its {side} side never triggers");
    let warning = Diagnostic::warning(scope.path, join.place, message);
    scope.diagnostics.push(warning);
}

/// What is needed to turn a tree into a plan: what each source became.
pub(super) struct Sides<'a> {
    pub(super) origins: &'a [Origin],
    /// The stream inputs, by source.
    pub(super) inputs: Vec<Option<StreamInput>>,
    pub(super) narrow: &'a Narrow,
}

impl Sides<'_> {
    fn triggers(&self, index: usize) -> bool {
        triggers(self.origins, index)
    }

    /// Whether any source triggers.
    pub(super) fn any_triggers(&self) -> bool {
        (0..self.origins.len()).any(|index| self.triggers(index))
    }

    pub(super) fn input(&mut self, tree: Tree, filter: Vec<Expr>) -> Option<JoinInput> {
        let Tree::Node(node) = tree else { return None };
        Some(JoinInput {
            join: self.join(*node)?,
            filter: all_of(filter),
        })
    }

    fn join(&mut self, node: Node) -> Option<Join> {
        let Node {
            kind,
            left,
            right,
            on,
            buckets,
        } = node;
        let offset = self.narrow.offset(right);
        let is_table = |index: usize| {
            let origin = self.origins.get(index);
            origin.is_some_and(|origin| {
                matches!(
                    origin.kind,
                    OriginKind::Table(_) | OriginKind::Aggregation(_)
                )
            })
        };
        let tables = [
            matches!(left, Tree::Leaf(index) if is_table(index)),
            is_table(right),
        ];
        let mut keys = Vec::new();
        let mut residual = Vec::new();
        for condition in on {
            match equality(condition, offset, tables) {
                Ok((x, mut y)) => {
                    y.for_each_column(&mut |column| *column -= offset);
                    keys.push((unwiden(x), unwiden(y)));
                }
                Err(other) => residual.push(other),
            }
        }
        Some(Join {
            kind,
            left: self.left(left, &buckets)?,
            right: self.leaf(right, &buckets)?,
            keys,
            residual: all_of(residual),
        })
    }

    fn left(&mut self, tree: Tree, buckets: &Option<(Expr, Expr, usize)>) -> Option<Side> {
        match tree {
            Tree::Leaf(index) => self.leaf(index, buckets),
            Tree::Node(node) => {
                let right = node.right;
                let triggers = (0..=right).any(|index| self.triggers(index));
                Some(Side {
                    source: Source::Join(Box::new(self.join(*node)?)),
                    triggers,
                })
            }
        }
    }

    fn leaf(&mut self, index: usize, buckets: &Option<(Expr, Expr, usize)>) -> Option<Side> {
        let triggers = self.triggers(index);
        let keep = self.narrow.keep(index);
        let source = match self.origins.get(index)?.kind {
            OriginKind::Stream { .. } => Source::Stream(self.inputs.get_mut(index)?.take()?),
            OriginKind::Table(table) => Source::Table { table, keep },
            OriginKind::Aggregation(aggregation) => {
                let (mut start, mut end, per) = buckets.clone()?;
                if index == 0 {
                    // The other side is the second source.
                    let offset = self.narrow.offset(1);
                    for bound in [&mut start, &mut end] {
                        bound.for_each_column(&mut |column| *column -= offset);
                    }
                }
                Source::Aggregation {
                    aggregation,
                    within: Box::new((start, end)),
                    per,
                    keep,
                }
            }
        };
        Some(Side { source, triggers })
    }
}

/// The columns by which each table of a join is looked up.
pub(super) fn looked_up(join: &Join, found: &mut Vec<(TableId, Vec<usize>)>) {
    let columns = |keep: &[usize], keys: Vec<&Expr>| -> Vec<usize> {
        let plain = keys.into_iter().filter_map(|key| match key.kind {
            ExprKind::Column(column) => keep.get(column).copied(),
            _ => None,
        });
        plain.collect()
    };
    if let Source::Table { table, keep } = &join.left.source {
        let keys = join.keys.iter().map(|(key, _)| key).collect();
        found.push((*table, columns(keep, keys)));
    }
    if let Source::Table { table, keep } = &join.right.source {
        let keys = join.keys.iter().map(|(_, key)| key).collect();
        found.push((*table, columns(keep, keys)));
    }
    for side in [&join.left, &join.right] {
        if let Source::Join(join) = &side.source {
            looked_up(join, found);
        }
    }
}

/// `x = y` with one side before `border` and the other behind it, in this order. A constant may
/// be looked up in a table; `tables` says which of the sides are.
fn equality(condition: Expr, border: usize, tables: [bool; 2]) -> Result<(Expr, Expr), Expr> {
    let ExprKind::Compare(CompareOp::Equal, mut x, mut y) = condition.kind else {
        return Err(condition);
    };
    let side = |expr: &mut Expr| match span(expr) {
        None => Some(None),
        Some((_, high)) if high < border => Some(Some(Hand::Left)),
        Some((low, _)) if low >= border => Some(Some(Hand::Right)),
        Some(_) => None,
    };
    let [left_table, right_table] = tables;
    match (side(&mut x), side(&mut y)) {
        (Some(Some(Hand::Left)), Some(Some(Hand::Right))) => Ok((*x, *y)),
        (Some(Some(Hand::Right)), Some(Some(Hand::Left))) => Ok((*y, *x)),
        (Some(Some(Hand::Left)), Some(None)) if left_table => Ok((*x, *y)),
        (Some(None), Some(Some(Hand::Left))) if left_table => Ok((*y, *x)),
        (Some(None), Some(Some(Hand::Right))) if right_table => Ok((*x, *y)),
        (Some(Some(Hand::Right)), Some(None)) if right_table => Ok((*y, *x)),
        _ => Err(Expr {
            kind: ExprKind::Compare(CompareOp::Equal, x, y),
            ty: condition.ty,
        }),
    }
}

/// The sides of a join.
#[derive(Clone, Copy)]
enum Hand {
    Left,
    Right,
}

/// An integer without the casts that widen it: it lies in a row as before, so that a plain column
/// is found by its index.
pub(super) fn unwiden(expr: Expr) -> Expr {
    match expr.kind {
        ExprKind::Cast(inner)
            if inner.ty.is_integral()
                && expr.ty.is_integral()
                && (inner.ty == Type::Int || expr.ty != Type::Int) =>
        {
            unwiden(*inner)
        }
        kind => Expr { kind, ty: expr.ty },
    }
}
