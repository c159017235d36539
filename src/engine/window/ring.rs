//! The rows of a sliding window: first in, first out, in blocks.
//!
//! A block is the unit of memory that is given back and of state that is written.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::super::state::{Load, Part, Save, StateError};
use super::Picked;
use crate::event::{Row, Seq, Stamp, Timestamp, Value};

/// Rows per block.
const BLOCK_ROWS: usize = 256;

/// Rows of which only some columns are kept.
pub(super) struct Ring {
    keep: Vec<usize>,
    /// Values behind the kept columns that the window computes for itself.
    extra: usize,
    blocks: VecDeque<Block>,
    /// Rows of the first block that have been taken.
    taken: usize,
    /// The number of the first block, counted since the start.
    first_block: u64,
    rows: usize,
    /// The block that was emptied last, for reuse.
    spare: Option<Block>,
}

#[derive(Default)]
struct Block {
    values: Vec<Value>,
    stamps: Vec<Stamp>,
}

/// A block on disk: sequence numbers, times, values row after row.
#[derive(Serialize, Deserialize)]
struct BlockState {
    seqs: Vec<u64>,
    times: Vec<i64>,
    values: Vec<Value>,
}

/// What the ring knows besides its blocks.
#[derive(Serialize, Deserialize)]
struct RingState {
    first_block: u64,
    taken: usize,
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
    }

    pub(super) fn save(&mut self, save: &mut Save<'_, '_>) -> Result<(), StateError> {
        let state = RingState {
            first_block: self.first_block,
            taken: self.taken,
        };
        save.put(Part::Window, 0, &state)?;
        save.renew(Part::WindowRows);
        for (number, block) in (self.first_block..).zip(&self.blocks) {
            let state = BlockState {
                seqs: block.stamps.iter().map(|stamp| stamp.seq.0).collect(),
                times: block.stamps.iter().map(|stamp| stamp.time.0).collect(),
                values: block.values.clone(),
            };
            save.put(Part::WindowRows, number, &state)?;
        }
        Ok(())
    }

    pub(super) fn load(&mut self, load: &Load<'_>) -> Result<(), StateError> {
        let Some(state) = load.one::<RingState>(Part::Window)? else {
            return Ok(());
        };
        self.first_block = state.first_block;
        self.taken = state.taken;
        self.rows = 0;
        self.blocks.clear();
        for block in load.all::<BlockState>(Part::WindowRows)? {
            let rows = block.seqs.len();
            if block.times.len() != rows
                || block.values.len() != rows * (self.keep.len() + self.extra)
            {
                return Err(StateError::Inconsistent(
                    "a window's block has rows of another width",
                ));
            }
            let stamps = block.seqs.into_iter().zip(block.times);
            let stamps = stamps.map(|(seq, time)| Stamp {
                seq: Seq(seq),
                time: Timestamp(time),
            });
            self.rows += rows;
            self.blocks.push_back(Block {
                values: block.values,
                stamps: stamps.collect(),
            });
        }
        if self.taken > self.rows {
            return Err(StateError::Inconsistent(
                "a window has given out rows it does not have",
            ));
        }
        self.rows -= self.taken;
        Ok(())
    }
}
