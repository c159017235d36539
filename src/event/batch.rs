//! Rows, many at a time, without an allocation per row.

use super::{Seq, Timestamp, Value};

/// What the log knows about a row besides its columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The input that this row is, or that caused it.
    pub seq: Seq,
    /// The row's time on the log's clock.
    pub time: Timestamp,
}

/// A row inside a batch.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// When and why.
    pub stamp: Stamp,
    /// One value per column.
    pub values: &'a [Value],
}

/// Rows of one schema, row after row in one vector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    width: usize,
    values: Vec<Value>,
    stamps: Vec<Stamp>,
}

impl Batch {
    /// An empty batch of rows with `width` columns; `width` is at least 1.
    #[must_use]
    pub fn new(width: usize) -> Batch {
        assert!(width > 0, "a row has at least one column");
        Batch {
            width,
            values: Vec::new(),
            stamps: Vec::new(),
        }
    }

    /// Columns per row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stamps.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stamps.is_empty()
    }

    /// Appends a row. What `values` yields beyond the width is left out, what is missing is NULL.
    pub fn push(&mut self, stamp: Stamp, values: impl IntoIterator<Item = Value>) {
        self.values.extend(values.into_iter().take(self.width));
        self.stamps.push(stamp);
        self.values
            .resize(self.stamps.len() * self.width, Value::Null);
    }

    /// Appends the row that `fill` pushes: exactly as many values as there are columns.
    #[inline]
    pub fn push_with(&mut self, stamp: Stamp, fill: impl FnOnce(&mut Vec<Value>)) {
        fill(&mut self.values);
        self.stamps.push(stamp);
        assert_eq!(
            self.values.len(),
            self.stamps.len() * self.width,
            "one value per column"
        );
    }

    /// Appends a row of NULLs for the caller to fill.
    pub fn push_null(&mut self) -> &mut [Value] {
        let start = self.values.len();
        self.stamps.push(Stamp::default());
        self.values.resize(start + self.width, Value::Null);
        self.values.get_mut(start..).unwrap_or_default()
    }

    /// Appends rows of NULLs with these stamps, and gives their values for the caller to fill.
    pub fn extend_null(&mut self, stamps: impl Iterator<Item = Stamp>) -> &mut [Value] {
        let start = self.values.len();
        self.stamps.extend(stamps);
        self.values
            .resize(self.stamps.len() * self.width, Value::Null);
        self.values.get_mut(start..).unwrap_or_default()
    }

    /// Appends rows of which the stamps and, row after row, the values are given.
    pub fn extend(&mut self, stamps: &[Stamp], values: Vec<Value>) {
        assert_eq!(
            values.len(),
            stamps.len() * self.width,
            "one value per column"
        );
        self.stamps.extend_from_slice(stamps);
        if self.values.is_empty() {
            self.values = values;
        } else {
            self.values.extend(values);
        }
    }

    /// Takes the last row away.
    pub fn pop(&mut self) {
        if self.stamps.pop().is_some() {
            self.values.truncate(self.stamps.len() * self.width);
        }
    }

    /// Has `column` hold `value` in every row from number `first` on.
    pub fn fill(&mut self, first: usize, column: usize, value: &Value) {
        let width = self.width;
        let rows = self.values.chunks_exact_mut(width.max(1)).skip(first);
        for cell in rows.filter_map(|row| row.get_mut(column)) {
            cell.clone_from(value);
        }
    }

    /// Appends all rows of `other`, which has the same width.
    pub fn append(&mut self, other: &mut Batch) {
        assert_eq!(self.width, other.width, "rows of one schema");
        self.values.append(&mut other.values);
        self.stamps.append(&mut other.stamps);
    }

    /// Appends all rows of `other`, which has the same width, with another stamp.
    pub fn append_stamped(&mut self, other: &mut Batch, stamp: Stamp) {
        assert_eq!(self.width, other.width, "rows of one schema");
        self.values.append(&mut other.values);
        self.stamps.resize(self.stamps.len() + other.len(), stamp);
        other.stamps.clear();
    }

    /// Removes all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.stamps.clear();
    }

    /// Gives the rows consecutive sequence numbers from `first`, and all of them `time`.
    pub fn stamp_all(&mut self, first: Seq, time: Timestamp) {
        for (stamp, offset) in self.stamps.iter_mut().zip(0u64..) {
            *stamp = Stamp {
                seq: first.plus(offset),
                time,
            };
        }
    }

    /// The row at `index`.
    #[must_use]
    pub fn row(&self, index: usize) -> Option<Row<'_>> {
        let stamp = *self.stamps.get(index)?;
        let start = index * self.width;
        Some(Row {
            stamp,
            values: self.values.get(start..start + self.width)?,
        })
    }

    /// All rows in order.
    #[must_use]
    pub fn rows(&self) -> Rows<'_> {
        Rows {
            width: self.width,
            values: &self.values,
            stamps: &self.stamps,
        }
    }

    /// An estimate of the bytes that the rows occupy.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.values.iter().map(Value::memory_bytes).sum::<usize>()
            + self.stamps.len() * size_of::<Stamp>()
    }
}

/// Consecutive rows of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    width: usize,
    values: &'a [Value],
    stamps: &'a [Stamp],
}

impl<'a> Rows<'a> {
    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stamps.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stamps.is_empty()
    }

    /// When and why, row by row.
    #[must_use]
    pub fn stamps(&self) -> &'a [Stamp] {
        self.stamps
    }

    /// The values of all rows, row after row.
    #[must_use]
    pub fn values(&self) -> &'a [Value] {
        self.values
    }

    /// The same rows with other stamps, one for each.
    #[must_use]
    pub fn with_stamps(self, stamps: &'a [Stamp]) -> Rows<'a> {
        assert_eq!(self.stamps.len(), stamps.len(), "a stamp for each row");
        Rows { stamps, ..self }
    }

    /// The row at `index`.
    #[must_use]
    #[inline]
    pub fn row(self, index: usize) -> Option<Row<'a>> {
        let stamp = *self.stamps.get(index)?;
        let start = index * self.width;
        Some(Row {
            stamp,
            values: self.values.get(start..start + self.width)?,
        })
    }

    /// The first `count` rows, and the rest.
    #[must_use]
    pub fn split_at(self, count: usize) -> (Rows<'a>, Rows<'a>) {
        let count = count.min(self.stamps.len());
        let (head, tail) = self.stamps.split_at(count);
        let (head_values, tail_values) = self.values.split_at(count * self.width);
        (
            Rows {
                width: self.width,
                values: head_values,
                stamps: head,
            },
            Rows {
                width: self.width,
                values: tail_values,
                stamps: tail,
            },
        )
    }

    /// The values of one column, row by row; nothing when there is no such column.
    #[inline]
    pub fn column(self, column: usize) -> impl Iterator<Item = &'a Value> {
        let from = if column < self.width {
            column
        } else {
            self.values.len()
        };
        let values = self.values.get(from..).unwrap_or_default();
        values.iter().step_by(self.width)
    }

    /// The rows one by one.
    #[inline]
    pub fn iter(self) -> impl ExactSizeIterator<Item = Row<'a>> {
        self.stamps
            .iter()
            .zip(self.values.chunks_exact(self.width))
            .map(|(stamp, values)| Row {
                stamp: *stamp,
                values,
            })
    }
}
