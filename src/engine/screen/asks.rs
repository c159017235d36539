//! What the elements of a pattern ask of a row by itself, and the columns that must be equal to
//! constants for it.

use crate::event::{Type, Value};
use crate::sql::plan::{CompareOp, Element, Expr, ExprKind, Pattern, Take};

/// What an element asks: all of these conditions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) conditions: Vec<Expr>,
    pub(super) equalities: Vec<Equality>,
}

/// A column of the row is one of these values, or the element cannot take it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Equality {
    pub(super) column: usize,
    pub(super) values: Vec<Value>,
    /// The condition that says just this. None: it follows from what another element asks.
    pub(super) condition: Option<usize>,
}

/// What each element asks. `start`: the elements with which a match can begin.
pub(super) fn asked(pattern: &Pattern, start: u64) -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::with_capacity(pattern.elements.len());
    for (number, element) in pattern.elements.iter().enumerate() {
        let mut conditions = Vec::new();
        if let Some(filter) = &element.filter {
            conjuncts(filter, &mut conditions);
        }
        let own = conditions.iter().enumerate();
        let own = own.filter_map(|(place, condition)| {
            let (column, values) = equality(condition)?;
            Some(Equality {
                column,
                values,
                condition: Some(place),
            })
        });
        let mut equalities: Vec<Equality> = own.collect();
        if start & (1 << number) == 0 {
            let implied = implied(pattern, element, &all);
            equalities.extend(implied);
        }
        all.push(Asked {
            conditions,
            equalities,
        });
    }
    all
}

impl Asked {
    /// Whether it gives the same for a row whoever asks, and as often as it is asked.
    pub(super) fn is_steady(&self) -> bool {
        let mut conditions = self.conditions.iter();
        conditions.all(|condition| condition.clone().is_steady())
    }
}

fn conjuncts(expr: &Expr, found: &mut Vec<Expr>) {
    if let ExprKind::And(x, y) = &expr.kind {
        conjuncts(x, found);
        conjuncts(y, found);
    } else {
        found.push(expr.clone());
    }
}

/// `column = constant`, `column IN (constants)`.
fn equality(condition: &Expr) -> Option<(usize, Vec<Value>)> {
    match &condition.kind {
        ExprKind::Compare(CompareOp::Equal, x, y) => {
            let (column, value) = match (column(x), column(y)) {
                (Some(column), None) => (column, constant(y)?),
                (None, Some(column)) => (column, constant(x)?),
                (Some(_), Some(_)) | (None, None) => return None,
            };
            (!value.is_null()).then(|| (column, vec![value]))
        }
        ExprKind::InList(x, list) => {
            let column = column(x)?;
            let values: Option<Vec<Value>> = list.iter().map(constant).collect();
            let mut values = values?;
            // One that is equal to NULL is none.
            values.retain(|value| !value.is_null());
            Some((column, values))
        }
        _ => None,
    }
}

/// An element that is found by what another one has taken asks what that one has asked: with
/// `a=S[id = 'x'] -> b=S[id = a.id]`, the row of b has the id 'x', too.
fn implied(pattern: &Pattern, element: &Element, before: &[Asked]) -> Vec<Equality> {
    let keys = element.keys.iter().filter_map(|(row, known)| {
        let (column, register) = (column(row)?, column(known)?);
        let register = pattern.registers.get(register)?;
        let (Take::Nth(_, taken) | Take::Last(_, taken)) = register.take else {
            return None;
        };
        let of = before.get(register.element)?;
        let mut equalities = of.equalities.iter();
        let same = equalities.find(|equality| equality.column == taken)?;
        Some(Equality {
            column,
            values: same.values.clone(),
            condition: None,
        })
    });
    keys.collect()
}

/// The column that this is, when its values are equal if and only if they lie alike in a row.
fn column(expr: &Expr) -> Option<usize> {
    match widened(expr) {
        Expr {
            kind: ExprKind::Column(column),
            ty: Type::String | Type::Int | Type::Long | Type::Timestamp | Type::Bool,
        } => Some(*column),
        _ => None,
    }
}

fn constant(expr: &Expr) -> Option<Value> {
    match &widened(expr).kind {
        ExprKind::Literal(value) => Some(value.clone()),
        _ => None,
    }
}

/// What has been widened to BIGINT lies in a row as before.
fn widened(expr: &Expr) -> &Expr {
    match &expr.kind {
        ExprKind::Cast(inner) if inner.ty == Type::Int && expr.ty == Type::Long => inner,
        _ => expr,
    }
}
