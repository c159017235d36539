//! What windows hold, found out by looking at all rows again and again.

use crate::drive::Input;
use crate::readings::{Reading, rows_of};
use crate::tape::Tape;

/// A window that moves with every row.
#[derive(Clone, Debug)]
pub(crate) enum Sliding {
    Length(usize),
    Time(i64),
}

impl Sliding {
    /// One that rows which come about `span_ms` apart move through.
    pub(crate) fn any(tape: &mut Tape<'_>, span_ms: i64) -> Sliding {
        match tape.below(2) {
            0 => Sliding::Length(tape.below(6) + 1),
            _ => Sliding::Time(span_ms),
        }
    }

    pub(crate) fn sql(&self) -> String {
        match self {
            Sliding::Length(rows) => format!("WINDOW('length', {rows})"),
            Sliding::Time(span_ms) => format!("WINDOW('time', {span_ms} MS)"),
        }
    }

    /// Everything that happens to it, in order.
    pub(crate) fn steps(&self, inputs: &[Input], stream: &str) -> Vec<Step> {
        let mut window = Content::default();
        for input in inputs {
            if let Sliding::Time(span_ms) = self {
                window.leave_by_time(*span_ms, input.time);
            }
            let Some(cells) = input.row_of(stream) else {
                continue;
            };
            if let Sliding::Length(rows) = self {
                while window.rows.len() >= *rows {
                    window.leave(0, input.time);
                }
            }
            window.enter(Reading {
                time: input.time,
                cells: cells.to_vec(),
            });
        }
        window.steps
    }
}

/// A row that came into a window or left it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) enters: bool,
    pub(crate) row: Reading,
    /// When.
    pub(crate) at: i64,
    /// The window's rows afterwards, oldest first.
    pub(crate) rows: Vec<Reading>,
}

#[derive(Default)]
struct Content {
    rows: Vec<Reading>,
    steps: Vec<Step>,
}

impl Content {
    fn enter(&mut self, row: Reading) {
        let at = row.time;
        self.rows.push(row.clone());
        self.note(true, row, at);
    }

    fn leave(&mut self, place: usize, at: i64) {
        let row = self.rows.remove(place);
        self.note(false, row, at);
    }

    fn note(&mut self, enters: bool, row: Reading, at: i64) {
        let rows = self.rows.clone();
        let step = Step {
            enters,
            row,
            at,
            rows,
        };
        self.steps.push(step);
    }

    /// Rows leave when the clock reaches their time and the span behind it, however far it jumps.
    fn leave_by_time(&mut self, span_ms: i64, now: i64) {
        while let Some(due) = self.rows.first().map(|row| row.time + span_ms) {
            if due > now {
                break;
            }
            self.leave(0, due);
        }
    }
}

/// A window that gives nothing until it closes.
#[derive(Clone, Debug)]
pub(crate) enum Batch {
    Length(usize),
    Time { span_ms: i64, start: Option<i64> },
    Tumbling { span_ms: i64, offset_ms: i64 },
}

impl Batch {
    pub(crate) fn any(tape: &mut Tape<'_>, span_ms: i64) -> Batch {
        match tape.below(4) {
            0 => Batch::Length(tape.below(6) + 1),
            1 => Batch::Time {
                span_ms,
                start: None,
            },
            2 => Batch::Time {
                span_ms,
                start: Some(tape.one_of(&[0, 50, 1_033, 7_000])),
            },
            _ => Batch::Tumbling {
                span_ms,
                offset_ms: tape.one_of(&[0, 1, 99]),
            },
        }
    }

    pub(crate) fn sql(&self) -> String {
        match self {
            Batch::Length(rows) => format!("WINDOW('lengthBatch', {rows})"),
            Batch::Time {
                span_ms,
                start: None,
            } => format!("WINDOW('timeBatch', {span_ms} MS)"),
            Batch::Time {
                span_ms,
                start: Some(start),
            } => format!("WINDOW('timeBatch', {span_ms} MS, {start})"),
            Batch::Tumbling { span_ms, offset_ms } => {
                format!("WINDOW('tumbling', {span_ms} MS, {offset_ms} MS)")
            }
        }
    }

    /// The batches, each with the time at which it closes. The clock reaches the end of all.
    pub(crate) fn batches(&self, inputs: &[Input], stream: &str) -> Vec<(i64, Vec<Reading>)> {
        let rows = rows_of(inputs, stream);
        let (span_ms, anchor) = match self {
            Batch::Length(count) => {
                let batches = rows.chunks_exact(*count);
                let batches = batches.map(|batch| (batch[*count - 1].time, batch.to_vec()));
                return batches.collect();
            }
            Batch::Time { span_ms, start } => {
                let first = rows.first().map_or(0, |row| row.time);
                (*span_ms, start.unwrap_or(first))
            }
            Batch::Tumbling { span_ms, offset_ms } => (*span_ms, *offset_ms),
        };
        let mut batches: Vec<(i64, Vec<Reading>)> = Vec::new();
        for row in rows {
            let end = row.time - (row.time - anchor).rem_euclid(span_ms) + span_ms;
            match batches.last_mut().filter(|(last, _)| *last == end) {
                Some((_, batch)) => batch.push(row),
                None => batches.push((end, vec![row])),
            }
        }
        batches
    }
}
