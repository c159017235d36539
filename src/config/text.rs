//! A text with its name, and how byte offsets in it become lines and columns.

use std::ops::Range;

use crate::diagnostic::{Diagnostic, Place};

/// A text that a person wrote, borrowed, with the offsets at which its lines begin.
pub(super) struct NamedText<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> NamedText<'a> {
    pub(super) fn new(path: &'a str, text: &'a str) -> NamedText<'a> {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        NamedText {
            path,
            text,
            line_starts: std::iter::once(0).chain(after_breaks).collect(),
        }
    }

    /// The place of a span of bytes; one that crosses lines is cut at the end of its first.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let start = span.start.min(self.text.len());
        let line = self.line_starts.partition_point(|begin| *begin <= start);
        let begin = self.line_starts.get(line.wrapping_sub(1)).copied();
        let before = self.text.get(begin.unwrap_or(0)..start).unwrap_or("");
        let meant = self.text.get(start..span.end).unwrap_or("");
        let meant = meant.lines().next().unwrap_or("");
        Place {
            line: count(line),
            column: count(before.chars().count() + 1),
            length: count(meant.chars().count()),
        }
    }

    /// The place of `part` inside a span when it stands there letter by letter, else of the span.
    pub(super) fn place_within(&self, span: Range<usize>, part: &str) -> Place {
        let written = self.text.get(span.clone()).unwrap_or("");
        match written.find(part) {
            Some(at) => {
                let start = span.start + at;
                self.place(start..start + part.len())
            }
            None => self.place(span),
        }
    }

    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.path, self.place(span), message)
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = NamedText::new("x", "a = 1\nü = \"β\"\n");
        let place = |span| {
            let place = text.place(span);
            (place.line, place.column, place.length)
        };
        assert_eq!(place(0..1), (1, 1, 1));
        assert_eq!(place(6..8), (2, 1, 1));
        assert_eq!(place(11..15), (2, 5, 3));
        assert_eq!(place(900..901), (3, 1, 0));
    }
}
