//! Rows that enter and leave groups, and the rows that come out: the far end of a window.

use super::aggregate::Column;
use super::group::{Groups, NO_SLOT, NULL};
use super::output::Output;
use super::state::{Load, Save, StateError};
use super::tail::Shows;
use super::window::{Changes, Picked, Slide};
use crate::event::{Row, Stamp, Value};
use crate::sql::plan::Emit;

/// Groups and what becomes of their rows: the far end of a window.
pub(super) struct Grouped {
    pub(super) groups: Groups,
    pub(super) output: Output,
    straight: Option<Straight>,
    /// Whether a batch is complete when what belongs together has come.
    comes_in_batches: bool,
}

/// Where the columns of the group row lie in the output, when every aggregate lies there once and
/// all else just repeats a key or a carried column: then results are written where they are read.
struct Straight {
    /// The output column of each aggregate.
    aggregates: Vec<usize>,
    /// The other output columns, each with the column of the group row that it repeats.
    others: Vec<(usize, usize)>,
}

impl Straight {
    fn new(groups: &Groups, output: &Output) -> Option<Straight> {
        let columns = output.straight()?;
        let first = groups.keys.len();
        let behind = first + groups.aggregates.len();
        let place = |aggregate| {
            let mut places =
                (0..columns.len()).filter(|place| columns.get(*place) == Some(&aggregate));
            places.next().filter(|_| places.next().is_none())
        };
        let others = columns.iter().copied().enumerate();
        Some(Straight {
            aggregates: (first..behind).map(place).collect::<Option<_>>()?,
            others: others
                .filter(|(_, column)| !(first..behind).contains(column))
                .collect(),
        })
    }
}

impl Grouped {
    pub(super) fn new(groups: Groups, output: Output, comes_in_batches: bool) -> Grouped {
        Grouped {
            comes_in_batches,
            straight: Straight::new(&groups, &output),
            groups,
            output,
        }
    }

    /// The same without any row.
    pub(super) fn fresh(&self) -> Grouped {
        let (groups, output) = (self.groups.fresh(), self.output.fresh());
        Grouped::new(groups, output, self.comes_in_batches)
    }

    /// Like the rest of [`Changes::slide`], straight into the output.
    fn slide_straight(
        groups: &mut Groups,
        output: &mut Output,
        straight: &Straight,
        slide: Slide<'_>,
        slots: &[usize],
    ) {
        let width = output.out.width();
        let stamps = slide.entering().map(|(row, _)| row.stamp);
        let values = output.out.extend_null(stamps);
        for (aggregate, column) in groups.aggregates.iter_mut().zip(&straight.aggregates) {
            let results = Column::new(values, width, *column);
            aggregate.slide(slots, slide, &output.faults, results);
        }
        for (place, column) in &straight.others {
            let places = Column::new(values, width, *place);
            for ((number, (row, left)), place) in slide.entering().enumerate().zip(places) {
                let slot = slots.get(number + left).copied().unwrap_or(NO_SLOT);
                if let Some(value) = groups.repeated(slot, Some(row.values), *column) {
                    place.clone_from(value);
                }
            }
        }
    }

    /// Results first, rows then.
    fn slide_by_rows(&mut self, slide: Slide<'_>, slots: &[usize]) {
        let Grouped { groups, output, .. } = self;
        let mut results = std::mem::take(&mut groups.results);
        results.resize_with(groups.aggregates.len(), Vec::new);
        for (aggregate, results) in groups.aggregates.iter_mut().zip(&mut results) {
            results.clear();
            results.resize(slide.len(), Value::Null);
            aggregate.slide(slots, slide, &output.faults, Column::new(results, 1, 0));
        }
        self.give_all(slide, slots, &results);
        self.groups.results = results;
    }

    /// The group's row as it is now comes out.
    #[inline]
    fn give(&mut self, slot: usize, row: Row<'_>, at: Stamp) {
        let Grouped { groups, output, .. } = self;
        let mut group_row = std::mem::take(&mut groups.group_row);
        let result = |aggregate, to: &mut Vec<Value>| groups.result(slot, aggregate, to);
        let cell = |column, to: &mut Vec<Value>| {
            groups.cell(slot, Some(row.values), column, result, to);
        };
        output.single_of(&mut group_row, groups.width(), cell, row.stamp, at);
        groups.group_row = group_row;
    }

    /// A row leaves its group; its row as it is then comes out when `at` says when.
    #[inline]
    fn take_out(&mut self, row: Row<'_>, at: Option<Stamp>) {
        let Grouped { groups, output, .. } = self;
        // As it was when it came: what is taken out is what was put in.
        let env = output.env(row.values, row.stamp, row.stamp);
        let Some(slot) = groups.find(&env) else {
            return;
        };
        groups.note(slot);
        for aggregate in &mut groups.aggregates {
            aggregate.remove(slot, &env);
        }
        let rows = groups.slot_rows.get_mut(slot).map_or(0, |rows| {
            *rows = rows.saturating_sub(1);
            *rows
        });
        if let Some(at) = at {
            self.give(slot, row, at);
        }
        if rows == 0 {
            self.groups.give_back(slot);
            self.groups.tidy_order();
        }
    }

    /// The group rows of all that have come in, with the results as they were then.
    fn give_all(&mut self, slide: Slide<'_>, slots: &[usize], results: &[Vec<Value>]) {
        let Grouped { groups, output, .. } = self;
        let mut group_row = std::mem::take(&mut groups.group_row);
        for (number, (row, left)) in slide.entering().enumerate() {
            let slot = slots.get(number + left).copied().unwrap_or(NO_SLOT);
            let result = |aggregate, to: &mut Vec<Value>| {
                let results: Option<&Vec<Value>> = results.get(aggregate);
                let result = results.and_then(|results| results.get(number));
                result.unwrap_or(&NULL).copy_to(to);
            };
            let cell = |column, to: &mut Vec<Value>| {
                groups.cell(slot, Some(row.values), column, result, to);
            };
            output.single_of(&mut group_row, groups.width(), cell, row.stamp, row.stamp);
        }
        groups.group_row = group_row;
    }
}

impl Grouped {
    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        self.groups.save(save)?;
        self.output.save(save)
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        self.groups.load(load)?;
        self.output.load(load)
    }

    /// The rows of all groups come out, in the order of their first row.
    fn give_groups(&mut self, at: Stamp) {
        let Grouped { groups, output, .. } = self;
        let mut group_row = std::mem::take(&mut groups.group_row);
        for slot in groups.order.iter().copied() {
            let result = |aggregate, to: &mut Vec<Value>| groups.result(slot, aggregate, to);
            let cell = |column, to: &mut Vec<Value>| groups.cell(slot, None, column, result, to);
            output.gather_of(&mut group_row, groups.width(), cell, at);
        }
        groups.group_row = group_row;
        output.close(at);
    }
}

impl Shows for Grouped {
    fn has_rows(&self) -> bool {
        self.groups.slot_rows.iter().any(|rows| *rows > 0)
    }

    fn show(&mut self, at: Stamp) {
        self.groups.order_those_with_rows();
        self.give_groups(at);
    }

    fn output(&mut self) -> &mut Output {
        &mut self.output
    }
}

impl Changes for Grouped {
    #[inline]
    fn enter(&mut self, row: Row<'_>) {
        let Grouped { groups, output, .. } = self;
        let env = output.env(row.values, row.stamp, row.stamp);
        let slot = groups.find_or_insert(&env);
        for aggregate in &mut groups.aggregates {
            aggregate.add(slot, &env);
        }
        groups.count(slot, row.values);
        if !groups.batch && groups.emit != Emit::Expired {
            self.give(slot, row, row.stamp);
        }
    }

    /// In a batch nobody looks before it closes: the groups of all rows first, then one aggregate
    /// after the other.
    fn enter_all(&mut self, rows: Picked<'_>) {
        if !self.groups.batch {
            rows.iter().for_each(|row| self.enter(row));
            return;
        }
        let Grouped { groups, output, .. } = self;
        let mut slots = std::mem::take(&mut groups.slots);
        slots.clear();
        slots.extend(rows.iter().map(|row| {
            let slot = groups.find_or_insert(&output.env(row.values, row.stamp, row.stamp));
            groups.count(slot, row.values);
            slot
        }));
        for aggregate in &mut groups.aggregates {
            aggregate.add_all(&slots, rows, &output.faults);
        }
        groups.slots = slots;
    }

    #[inline]
    fn leave(&mut self, row: Row<'_>, at: Stamp) {
        self.take_out(row, (self.groups.emit != Emit::Current).then_some(at));
    }

    fn replaced(&mut self, row: Row<'_>, _at: Stamp) {
        self.take_out(row, None);
    }

    /// When only rows that come are told of: their groups first, then one aggregate after the
    /// other. A group that has lost its last row stays until the end; its aggregates are then as
    /// good as fresh, should it get another.
    fn slide(&mut self, slide: Slide<'_>) {
        // In a batch, or between snapshots, nobody looks at each row.
        if self.groups.emit != Emit::Current || self.groups.batch {
            slide.one_by_one(self);
            return;
        }
        let Grouped {
            groups,
            output,
            straight,
            ..
        } = self;
        groups.find_all(slide, output);
        let slots = std::mem::take(&mut groups.slots);
        match straight {
            Some(straight) => Self::slide_straight(groups, output, straight, slide, &slots),
            None => self.slide_by_rows(slide, &slots),
        }
        let slots_left = if self.groups.keys.is_empty() {
            &[]
        } else {
            slots.as_slice()
        };
        for slot in slots_left {
            if self.groups.slot_rows.get(*slot) == Some(&0) {
                self.groups.give_back(*slot);
            }
        }
        self.groups.slots = slots;
    }

    fn together(&mut self, at: Stamp) {
        if self.comes_in_batches {
            self.close(at);
        } else if self.output.gathers {
            self.output.close(at);
        }
    }

    fn close(&mut self, at: Stamp) {
        self.give_groups(at);
        let groups = &mut self.groups;
        if groups.forever {
            for slot in std::mem::take(&mut groups.order) {
                groups.note(slot);
                if let Some(rows) = groups.slot_rows.get_mut(slot) {
                    *rows = 0;
                }
                for aggregate in groups.aggregates.iter_mut().filter(|one| !one.forever()) {
                    aggregate.open(slot);
                }
            }
        } else {
            groups.forget_all();
        }
    }
}
