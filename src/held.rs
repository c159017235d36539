//! Bytes in memory that go from hand to hand, counted until the last hand lets go of them.
//!
//! A channel bounds how many things are under way, not how large they are. Whoever makes them
//! weighs each, gives it a [`Held`] along, and makes no more while [`Holdings`] says that too much
//! is out; whoever drops the thing gives the bytes back without knowing of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is out in all: one count that every clone shares.
#[derive(Clone, Debug, Default)]
pub struct Holdings(Arc<AtomicUsize>);

impl Holdings {
    /// The bytes that are out.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether so many more would go beyond `bytes_max`. Nothing is too large when nothing is out:
    /// what is larger than the bound alone goes through alone.
    #[must_use]
    pub fn is_full(&self, bytes: usize, bytes_max: usize) -> bool {
        match self.bytes() {
            0 => false,
            held => held.saturating_add(bytes) > bytes_max,
        }
    }

    /// Counts so many bytes until the result is dropped.
    #[must_use]
    pub fn hold(&self, bytes: usize) -> Held {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Held {
            of: Some(self.clone()),
            bytes,
        }
    }
}

/// Bytes that count as long as this lives. The default counts nowhere.
#[derive(Debug, Default)]
pub struct Held {
    of: Option<Holdings>,
    bytes: usize,
}

impl Clone for Held {
    /// A copy takes memory too.
    fn clone(&self) -> Held {
        let again = |of: &Holdings| of.hold(self.bytes);
        self.of.as_ref().map(again).unwrap_or_default()
    }
}

impl PartialEq for Held {
    /// What a thing weighs is no part of what it says.
    fn eq(&self, _: &Held) -> bool {
        true
    }
}

impl Eq for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(Holdings(bytes)) = &self.of {
            bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_until_the_last_copy_is_gone() {
        let holdings = Holdings::default();
        assert!(!holdings.is_full(1_000, 100));
        let first = holdings.hold(60);
        let copy = first.clone();
        assert_eq!(holdings.bytes(), 120);
        assert!(holdings.is_full(1, 120));
        assert!(!holdings.is_full(1, 121));
        drop(first);
        assert_eq!(holdings.bytes(), 60);
        drop(copy);
        assert_eq!(holdings.bytes(), 0);
        assert_eq!(Held::default(), holdings.hold(1));
        assert_eq!(holdings.bytes(), 0);
    }
}
