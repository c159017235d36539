//! The rows of a sliding window: first in, first out, in blocks.
//!
//! A block is the unit of memory that is given back and of state that is written: in the state
//! it is a run of rows ([`Packed`]) under the block's number. Where in its block a row lies tells
//! nothing about it: it depends on how rows came.

use std::collections::VecDeque;
use std::ops::Range;

use super::super::packed::{Packed, Unpacked, unpack};
use super::super::state::{Load, Part, Save, StateError, Stretch};
use super::Picked;
use crate::event::{Row, Stamp, Timestamp, Value};

/// Rows per block: many enough that windows touch few blocks at a time.
const BLOCK_ROWS: usize = if cfg!(test) { 4 } else { 256 };

/// Rows of which only some columns are kept.
pub(super) struct Ring {
    keep: Vec<usize>,
    /// Values behind the kept columns that the window computes for itself.
    extra: usize,
    blocks: VecDeque<Block>,
    /// Rows of the first block that have been taken.
    taken: usize,
    /// The number of the first block.
    first_block: u64,
    saved: Stretch,
    rows: usize,
    /// The block that was emptied last, for reuse.
    spare: Option<Block>,
}

#[derive(Default)]
struct Block {
    values: Vec<Value>,
    stamps: Vec<Stamp>,
}

impl Ring {
    pub(super) fn new(keep: &[usize]) -> Ring {
        Ring::with_extra(keep, 0)
    }

    /// A ring whose rows have `extra` values more than those that it shows.
    pub(super) fn with_extra(keep: &[usize], extra: usize) -> Ring {
        Ring {
            keep: keep.to_vec(),
            extra,
            blocks: VecDeque::new(),
            taken: 0,
            first_block: 0,
            saved: Stretch::default(),
            rows: 0,
            spare: None,
        }
    }

    /// The same ring without any row.
    pub(super) fn fresh(&self) -> Ring {
        Ring::with_extra(&self.keep, self.extra)
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Keeps one row, with exactly as many extra values as there are.
    pub(super) fn push(&mut self, row: Row<'_>, extra: impl IntoIterator<Item = Value>) {
        self.make_room();
        let Some(Block { values, stamps }) = self.blocks.back_mut() else {
            return;
        };
        stamps.push(row.stamp);
        let kept = self.keep.iter();
        values.extend(kept.map(|column| row.values.get(*column).cloned().unwrap_or_default()));
        values.extend(extra);
        values.resize(stamps.len() * (self.keep.len() + self.extra), Value::Null);
        self.rows += 1;
    }

    /// Keeps the rows.
    pub(super) fn extend(&mut self, rows: Picked<'_>) {
        self.rows += rows.len();
        let mut rows = rows.iter().peekable();
        while rows.peek().is_some() {
            self.make_room();
            let Some(Block { values, stamps }) = self.blocks.back_mut() else {
                return;
            };
            for row in rows.by_ref().take(BLOCK_ROWS - stamps.len()) {
                stamps.push(row.stamp);
                for column in &self.keep {
                    match row.values.get(*column) {
                        Some(value) => value.copy_to(values),
                        None => values.push(Value::Null),
                    }
                }
            }
        }
    }

    /// The last block is one that takes another row.
    fn make_room(&mut self) {
        if self
            .blocks
            .back()
            .is_none_or(|block| block.stamps.len() == BLOCK_ROWS)
        {
            self.blocks.push_back(self.spare.take().unwrap_or_default());
        }
    }

    /// The row at `place`, counted from the oldest.
    #[inline]
    pub(super) fn row(&self, place: usize) -> Option<Row<'_>> {
        let place = self.taken + place;
        let block = self.blocks.get(place / BLOCK_ROWS)?;
        let (place, width) = (place % BLOCK_ROWS, self.keep.len() + self.extra);
        let start = place * width;
        Some(Row {
            stamp: *block.stamps.get(place)?,
            values: block.values.get(start..start + self.keep.len())?,
        })
    }

    /// What the window has computed for the row at `place`.
    pub(super) fn extra(&self, place: usize) -> Option<&[Value]> {
        let place = self.taken + place;
        let block = self.blocks.get(place / BLOCK_ROWS)?;
        let end = (place % BLOCK_ROWS + 1) * (self.keep.len() + self.extra);
        block.values.get(end - self.extra..end)
    }

    /// The time of the oldest row.
    #[inline]
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        Some(self.blocks.front()?.stamps.get(self.taken)?.time)
    }

    /// The time of the newest row.
    pub(super) fn newest(&self) -> Option<Timestamp> {
        Some(self.blocks.back()?.stamps.last()?.time)
    }

    /// Takes the oldest `count` rows out.
    pub(super) fn pop(&mut self, count: usize) {
        let mut count = count.min(self.rows);
        self.rows -= count;
        while count > 0 {
            let step = count.min(BLOCK_ROWS - self.taken);
            count -= step;
            self.taken += step;
            if self.taken == BLOCK_ROWS || self.rows == 0 && count == 0 {
                self.drop_first_block();
            }
        }
    }

    fn drop_first_block(&mut self) {
        if let Some(mut block) = self.blocks.pop_front() {
            block.values.clear();
            block.stamps.clear();
            self.spare = Some(block);
        }
        self.taken = 0;
        self.first_block += 1;
        if self.blocks.is_empty() {
            // Those that were never saved have used up no number.
            self.first_block = self.saved.end();
        }
    }

    /// The numbers of the blocks, and the first that another row may still come into.
    fn numbers(&self) -> (Range<u64>, u64) {
        let end = self.first_block + self.blocks.len() as u64;
        let last = self.blocks.back();
        let open = last.is_some_and(|block| block.stamps.len() < BLOCK_ROWS);
        (self.first_block..end, end - u64::from(open))
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        save.put(Part::Window, 0, &(self.first_block, self.taken))?;
        let (there, complete) = self.numbers();
        let (gone, new) = self.saved.take(save, there, complete);
        save.remove_all(Part::WindowRows, gone);
        let behind = new.start.saturating_sub(self.first_block);
        let behind = usize::try_from(behind).unwrap_or(usize::MAX);
        for (number, block) in new.zip(self.blocks.iter().skip(behind)) {
            let packed = Packed {
                stamps: &block.stamps,
                values: &block.values,
            };
            save.give(Part::WindowRows, number, &packed)?;
        }
        Ok(())
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        let Some((first_block, taken)) = load.one::<(u64, usize)>(Part::Window)? else {
            return Ok(());
        };
        self.first_block = first_block;
        self.taken = taken;
        self.rows = 0;
        self.blocks.clear();
        for block in load.numbered::<Unpacked>(Part::WindowRows) {
            let (number, block) = block?;
            let (there, complete) = self.numbers();
            if number != there.end || complete != there.end {
                return Err(StateError::Inconsistent("a window's rows have a gap"));
            }
            let (stamps, values) = unpack(block, self.keep.len() + self.extra)?;
            self.rows += stamps.len();
            self.blocks.push_back(Block { values, stamps });
        }
        if self.taken > self.rows {
            return Err(StateError::Inconsistent(
                "a window has given out rows it does not have",
            ));
        }
        self.rows -= self.taken;
        let (there, complete) = self.numbers();
        self.saved.load(there, complete);
        Ok(())
    }
}
