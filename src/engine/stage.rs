//! What looks through a window: rows that stand for themselves, or groups.

use super::aggregate::Leaves;
use super::group::Groups;
use super::grouped::Grouped;
use super::node::Stores;
use super::output::Output;
use super::projected::Projected;
use super::state::{Load, Save, StateError};
use super::tail::Shows;
use crate::sql::plan::{Flow, Query};

/// What looks through the window.
pub(super) enum Stage {
    Projected(Box<Projected>),
    Grouped(Box<Grouped>),
}

impl Stage {
    /// For rows whose column `i` lies at `columns[i]`, and which leave as `leaves` says.
    pub(super) fn new(query: &Query, stores: &Stores, columns: &[usize], leaves: Leaves) -> Stage {
        let cx = stores.cx(columns);
        let Some(grouping) = &query.grouping else {
            let output = Output::new(query, cx);
            return Stage::Projected(Box::new(Projected::new(query, output)));
        };
        let batch = query.flow() == Flow::Batch;
        let together = batch || query.shows_snapshots();
        let groups = Groups::new(grouping, cx, leaves, together, query.emit);
        let output = Output::new(query, stores.cx(&[]));
        Stage::Grouped(Box::new(Grouped::new(groups, output, batch)))
    }

    /// The same without any row.
    pub(super) fn fresh(&self) -> Stage {
        match self {
            Stage::Projected(stage) => Stage::Projected(Box::new(stage.fresh())),
            Stage::Grouped(stage) => Stage::Grouped(Box::new(stage.fresh())),
        }
    }

    pub(super) fn output(&self) -> &Output {
        match self {
            Stage::Projected(stage) => &stage.output,
            Stage::Grouped(stage) => &stage.output,
        }
    }

    pub(super) fn shows(&mut self) -> &mut dyn Shows {
        match self {
            Stage::Projected(stage) => &mut **stage,
            Stage::Grouped(stage) => &mut **stage,
        }
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        match self {
            Stage::Projected(stage) => stage.save(save),
            Stage::Grouped(stage) => stage.save(save),
        }
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        match self {
            Stage::Projected(stage) => stage.load(load),
            Stage::Grouped(stage) => stage.load(load),
        }
    }
}
