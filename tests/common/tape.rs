//! Choices read from a tape of bytes, so that proptest can shrink whatever is generated from it: a
//! shorter tape and smaller bytes make a simpler thing.

/// A tape and how far it has been read.
pub(crate) struct Tape<'a> {
    rest: &'a [u8],
}

impl<'a> Tape<'a> {
    /// A tape at its start.
    pub(crate) fn new(bytes: &'a [u8]) -> Tape<'a> {
        Tape { rest: bytes }
    }

    /// A number below `count`, which is at most 256; 0 when the tape is at its end. The simplest
    /// alternative should be 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        usize::from(*first) % count
    }

    /// One of several, the first of which is the simplest.
    pub(crate) fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    /// True in about one of `count` cases.
    pub(crate) fn rarely(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }
}
