//! DISTINCT and OUTPUT: what they cannot be used with.

use super::super::plan::{Aggregate, Emit, Expr, ExprKind, Flow, Input, Keep, Query};
use super::expr::Failed;
use super::{Binder, Written};
use crate::diagnostic::{Diagnostic, Place};

/// Something that is refused, and what to write instead.
struct Refusal {
    place: Place,
    message: &'static str,
    hint: &'static str,
}

impl Binder<'_> {
    /// Refuses what has no sound meaning.
    pub(super) fn check_output(
        &mut self,
        path: &str,
        written: &Written,
        query: &Query,
    ) -> Result<(), Failed> {
        let select = &written.query.select;
        let output = select.output.as_ref().map(|output| output.place);
        let found = [
            output.and_then(|place| snapshot(place, query)),
            distinct(select.place, query),
            matches(select.place, query),
            leaving(select.place, query),
        ];
        let mut refused = Ok(());
        for refusal in found.into_iter().flatten() {
            let fault = Diagnostic::error(path, refusal.place, refusal.message);
            self.diagnostics.push(fault.with_hint(refusal.hint));
            refused = Err(Failed);
        }
        refused
    }
}

fn snapshot(place: Place, query: &Query) -> Option<Refusal> {
    let snapshot = query.rate.is_some_and(|rate| rate.keep == Keep::Snapshot);
    (snapshot && query.emit != Emit::Current).then_some(Refusal {
        place,
        message: "SNAPSHOT shows the rows that are there, EXPIRED EVENTS and ALL EVENTS those \
                  that have left",
        hint: "leave out one of them",
    })
}

fn distinct(place: Place, query: &Query) -> Option<Refusal> {
    if !query.distinct {
        return None;
    }
    let refuse = |message, hint| {
        Some(Refusal {
            place,
            message,
            hint,
        })
    };
    let sorted = query.order_by.iter();
    let mut hidden = sorted.filter(|key| !query.select.contains(&key.expr));
    if hidden.next().is_some() {
        return refuse(
            "with DISTINCT, ORDER BY takes what is selected: rows that are alike may differ in \
             the rest",
            "select it too, or leave it out",
        );
    }
    let grouped = query.grouping.is_some();
    match (query.flow(), query.shows_snapshots()) {
        (Flow::Sliding, false) if grouped => refuse(
            "DISTINCT over groups in a sliding window: a group's row changes with every row",
            "use a batch window, or OUTPUT SNAPSHOT",
        ),
        (Flow::Endless, true) if !grouped => refuse(
            "DISTINCT and SNAPSHOT without a window: the snapshot is the last row",
            "leave DISTINCT out, or give the stream a window",
        ),
        (Flow::Sliding, false) if asks_tables(query) => refuse(
            "DISTINCT over a sliding window cannot look into a table: what it finds may change \
             while the row is there",
            "do that in a query of its own",
        ),
        (Flow::Endless | Flow::Sliding | Flow::Batch, _) => None,
    }
}

/// ORDER BY, LIMIT and OFFSET concern what one row finds in a join.
fn matches(place: Place, query: &Query) -> Option<Refusal> {
    let hint = "do that in a query of its own, which reads this one";
    let message = match (query.orders_matches(), query.distinct, query.emit) {
        (true, true, _) => "DISTINCT with ORDER BY, LIMIT or OFFSET over a join or a pattern",
        (true, false, Emit::Expired | Emit::All) => {
            "ORDER BY, LIMIT and OFFSET concern the rows that come, not those that leave"
        }
        (true, false, Emit::Current) | (false, ..) => return None,
    };
    Some(Refusal {
        place,
        message,
        hint,
    })
}

fn asks_tables(query: &Query) -> bool {
    query.select.iter().chain(&query.having).any(asks_table)
}

fn asks_table(expr: &Expr) -> bool {
    let mut asks = false;
    expr.walk(&mut |expr| asks |= matches!(expr.kind, ExprKind::InTable(..)));
    asks
}

/// What leaves must be what came: its group and its values are computed again.
fn leaving(place: Place, query: &Query) -> Option<Refusal> {
    if query.flow() != Flow::Sliding {
        return None;
    }
    let hint = "do that in a query of its own, which this one reads";
    let grouping = query.grouping.iter();
    let mut grouping = grouping.flat_map(|grouping| {
        let aggregates = grouping.aggregates.iter().flat_map(Aggregate::exprs);
        grouping.keys.iter().chain(aggregates)
    });
    if grouping.any(asks_table) {
        let message = "groups and aggregates over a sliding window cannot look into a table: \
                       what it finds may change while the row is there";
        return Some(Refusal {
            place,
            message,
            hint,
        });
    }
    let looks = query.grouping.is_some() || query.distinct || query.shows_snapshots();
    let filter = match &query.input {
        Input::Stream(input) => input.behind.as_ref(),
        Input::Join(_) | Input::Pattern(_) => None,
    };
    let sees_leaving = looks || query.emit != Emit::Current;
    let message = "WHERE on a named window cannot look into a table: what it finds may change \
                   while the row is there";
    let asks = sees_leaving && filter.is_some_and(asks_table);
    asks.then_some(Refusal {
        place,
        message,
        hint,
    })
}
