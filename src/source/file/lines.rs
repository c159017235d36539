//! Bytes of a growing file become whole lines, each with the place behind it. Pure.
//!
//! What it promises: a line is given once its end is there, not before; one that is longer than
//! allowed takes no more memory than that, and is given as far as it was kept. Carriage returns
//! before the end of a line are left out, and so are lines without anything else.

use super::marks::{CHECKED_BYTES, OFFSET_MAX, check};

/// The end of a line that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LineEnd {
    /// How many bytes the line has, its end not counted.
    pub(super) bytes_total: u64,
    /// The offset behind its end.
    pub(super) offset: u64,
    /// The check there.
    pub(super) check: u32,
}

/// Where in a file we are.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    line_bytes_max: usize,
    /// Behind the last whole line.
    offset: u64,
    /// What there is of the next line, no more of it than allowed.
    partial: Vec<u8>,
    /// How much there is of it.
    partial_bytes: u64,
    /// Lines to leave out.
    skip: u64,
    /// The last bytes read.
    before: Vec<u8>,
    /// The check over them as they were at `offset`.
    check: u32,
}

impl Lines {
    /// Begins at a file's beginning, and leaves out `skip` lines.
    pub(super) fn new(line_bytes_max: usize, skip: u64) -> Lines {
        Lines {
            skip,
            ..Lines::behind(line_bytes_max, 0, &[])
        }
    }

    /// Begins behind `before`, the last bytes before `offset`.
    pub(super) fn behind(line_bytes_max: usize, offset: u64, before: &[u8]) -> Lines {
        let mut lines = Lines {
            line_bytes_max,
            offset,
            partial: Vec::new(),
            partial_bytes: 0,
            skip: 0,
            before: Vec::with_capacity(CHECKED_BYTES),
            check: check(before),
        };
        lines.goes_by(before);
        lines
    }

    /// What is to be read next.
    pub(super) fn read_at(&self) -> u64 {
        self.offset + self.partial_bytes
    }

    /// What lies before that, as far as it is checked.
    pub(super) fn before(&self) -> &[u8] {
        &self.before
    }

    /// Behind the last whole line, and the check there; the beginning, until all lines are passed
    /// that are to be left out.
    pub(super) fn reached(&self) -> (u64, u32) {
        match self.skip {
            0 => (self.offset, self.check),
            _ => (0, check(&[])),
        }
    }

    /// How many bytes wait for the end of their line.
    pub(super) fn partial_bytes(&self) -> u64 {
        self.partial_bytes
    }

    /// Takes what was read next: up to `lines_max` lines of it go to `give`. Says how many lines
    /// there were, and how many bytes are taken; the others are to be read again.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        lines_max: usize,
        mut give: impl FnMut(&[u8], LineEnd),
    ) -> (usize, usize) {
        let (mut count, mut rest) = (0, bytes);
        while count < lines_max {
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.append(rest);
                rest = &[];
                break;
            };
            let (line, after) = rest.split_at(end);
            self.append(line);
            rest = after.get(1..).unwrap_or_default();
            self.goes_by(b"\n");
            count += usize::from(self.end_line(1, &mut give));
        }
        (count, bytes.len() - rest.len())
    }

    /// The file will not grow: what there is of its last line is a line.
    pub(super) fn end(&mut self, mut give: impl FnMut(&[u8], LineEnd)) -> bool {
        self.partial_bytes > 0 && self.end_line(0, &mut give)
    }

    fn end_line(&mut self, end_bytes: u64, give: &mut impl FnMut(&[u8], LineEnd)) -> bool {
        let bytes_total = std::mem::take(&mut self.partial_bytes);
        self.offset = (self.offset + bytes_total + end_bytes).min(OFFSET_MAX);
        let line = self.partial.strip_suffix(b"\r").unwrap_or(&self.partial);
        let is_line = !line.is_empty() && self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        self.check = check(&self.before);
        if is_line {
            let end = LineEnd {
                bytes_total,
                offset: self.offset,
                check: self.check,
            };
            give(line, end);
        }
        self.partial.clear();
        is_line
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = self.line_bytes_max.saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.partial_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.goes_by(bytes);
    }

    fn goes_by(&mut self, bytes: &[u8]) {
        let last = bytes.len().saturating_sub(CHECKED_BYTES);
        let last = bytes.get(last..).unwrap_or_default();
        let surplus = (self.before.len() + last.len()).saturating_sub(CHECKED_BYTES);
        self.before.drain(..surplus);
        self.before.extend_from_slice(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"head\none\r\n\n\r\ntwo and more\nthree";

    /// Reads `TEXT` in pieces of `step` bytes, at most `lines_max` lines at a time.
    fn read(step: usize, lines_max: usize) -> (Lines, Vec<(String, LineEnd)>) {
        let mut lines = Lines::new(5, 1);
        let mut found = Vec::new();
        loop {
            let from = usize::try_from(lines.read_at()).unwrap();
            let piece = &TEXT[from..TEXT.len().min(from + step)];
            if piece.is_empty() {
                return (lines, found);
            }
            let known = found.len();
            let (count, taken) = lines.read(piece, lines_max, |line, end| {
                found.push((String::from_utf8(line.to_vec()).unwrap(), end));
            });
            assert_eq!(count, found.len() - known);
            assert_eq!(usize::try_from(lines.read_at()).unwrap(), from + taken);
        }
    }

    #[test]
    fn whole_lines_come_out_however_they_go_in() {
        for (step, lines_max) in [(1, 1), (3, 9), (7, 1), (100, 1), (100, 9)] {
            let (mut lines, mut found) = read(step, lines_max);
            assert_eq!(lines.partial_bytes(), 5, "the last one waits");
            assert!(lines.end(|line, end| {
                found.push((String::from_utf8(line.to_vec()).unwrap(), end));
            }));
            let expected = [("one", 4, 10_usize), ("two a", 12, 26), ("three", 5, 31)];
            assert_eq!(found.len(), expected.len());
            for ((text, end), (line, bytes_total, offset)) in found.iter().zip(expected) {
                assert_eq!((text.as_str(), end.bytes_total), (line, bytes_total));
                assert_eq!(end.offset, u64::try_from(offset).unwrap());
                assert_eq!(end.check, check(&TEXT[..offset]), "in steps of {step}");
            }
        }
    }

    #[test]
    fn only_the_last_bytes_are_checked() {
        let long = vec![b'x'; 1_000];
        let mut lines = Lines::new(10, 0);
        let mut ends = Vec::new();
        lines.read(&long, 9, |_, _| unreachable!());
        lines.read(b"\n", 9, |line, end| ends.push((line.len(), end)));
        let (kept, end) = ends[0];
        assert_eq!((kept, end.bytes_total, end.offset), (10, 1_000, 1_001));
        let mut before = vec![b'x'; CHECKED_BYTES - 1];
        before.push(b'\n');
        assert_eq!(end.check, check(&before));
        assert_eq!(lines.before(), before);
    }
}
